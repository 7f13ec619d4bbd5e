// SPDX-License-Identifier: GPL-2.0-only
/*
 * Storage of the trace: static arrays. A full one ends the run with the
 * verdict "overflow", which is a limit of ours and never the target's fault.
 *
 * Real threads write to a part each, so that none waits for another one's
 * memory; an event's place in the trace is drawn from one relaxed counter, and
 * trace_merge() puts it there when the round is over.
 */
#include "trace.h"

#include "core.h"
#include "engine.h"

struct trace_part {
	uint32_t used;
	uint32_t places[CR_TRACE_MAX];
	struct cr_event events[CR_TRACE_MAX];
};

static struct cr_event trace_table[CR_TRACE_MAX];
static struct trace_part trace_parts[CR_THREADS_MAX];
size_t trace_used;

void trace_reset(void)
{
	trace_used = 0;
}

static struct cr_event *trace_claim_part(unsigned int thread)
{
	struct trace_part *part = &trace_parts[thread];
	size_t at = __atomic_fetch_add(&trace_used, 1, __ATOMIC_RELAXED);

	if (at >= CR_TRACE_MAX)
		engine_stop(VERDICT_OVERFLOW);
	part->places[part->used] = (uint32_t)at;
	return &part->events[part->used++];
}

static inline struct cr_event *trace_claim(unsigned int thread)
{
	if (engine.kind == CR_ENGINE_THREAD)
		return trace_claim_part(thread);
	if (trace_used >= CR_TRACE_MAX)
		engine_stop(VERDICT_OVERFLOW);
	return &trace_table[trace_used++];
}

void trace_merge(void)
{
	unsigned int thread;
	uint32_t i;

	for (thread = 0; thread < CR_THREADS_MAX; thread++) {
		struct trace_part *part = &trace_parts[thread];

		for (i = 0; i < part->used; i++)
			trace_table[part->places[i]] = part->events[i];
		part->used = 0;
	}
}

static inline void trace_write(enum event_kind kind, int object, int64_t value, uint32_t pc,
			       unsigned int enabled)
{
	unsigned int thread = engine.kind == CR_ENGINE_THREAD ? thread_self() : engine.current;

	*trace_claim(thread) = (struct cr_event){
		.step = engine.steps, .thread = (uint8_t)thread, .kind = (uint8_t)kind,
		.enabled = (uint16_t)enabled, .object = object, .pc = pc, .value = value,
	};
}

static __attribute__((noinline)) void trace_append_any(enum event_kind kind, int object,
						       int64_t value)
{
	/* A full trace tells every decision: a thread's first event has no access. */
	if (engine.kind != CR_ENGINE_BARE)
		trace_write(kind, object, value, 0, engine.trace_full ? engine.enabled : 0);
}

/* Without a frame for what most runs of a search or an exploration need. */
void trace_append(enum event_kind kind, int object, int64_t value)
{
	if (!(engine.leans | engine.only_explores) || trace_used >= CR_TRACE_MAX) {
		trace_append_any(kind, object, value);
		return;
	}
	trace_table[trace_used++] = (struct cr_event){
		.step = engine.steps, .thread = engine.current, .kind = (uint8_t)kind,
		.object = object, .value = value,
	};
}

void trace_access(enum event_kind kind, int object, int64_t value,
		  uint32_t pc, unsigned int enabled)
{
	trace_write(kind, object, value, pc, enabled);
}

size_t trace_length(void)
{
	size_t used = __atomic_load_n(&trace_used, __ATOMIC_RELAXED);

	return used < CR_TRACE_MAX ? used : CR_TRACE_MAX;
}

const struct cr_event *trace_events(size_t *length)
{
	*length = trace_length();
	return trace_table;
}
