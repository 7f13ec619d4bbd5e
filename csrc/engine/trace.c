// SPDX-License-Identifier: GPL-2.0-only
/*
 * Storage of the trace: one static array. A full one ends the run with the
 * verdict "overflow", which is a limit of ours and never the target's fault.
 * Under real threads a slot is claimed by one atomic addition, and the order
 * of the slots is the order of the events.
 */
#include "trace.h"

#include "core.h"
#include "engine.h"

static struct cr_event trace_table[CR_TRACE_MAX];
static size_t trace_used;

void trace_reset(void)
{
	trace_used = 0;
}

static struct cr_event *trace_claim(void)
{
	size_t at;

	if (engine.kind == CR_ENGINE_THREAD)
		at = __atomic_fetch_add(&trace_used, 1, __ATOMIC_SEQ_CST);
	else
		at = trace_used++;
	if (at >= CR_TRACE_MAX)
		engine_stop(VERDICT_OVERFLOW);
	return &trace_table[at];
}

void trace_append(enum event_kind kind, int object, int64_t value)
{
	struct cr_event *event = trace_claim();

	event->step = engine.steps;
	event->pc = 0;
	event->thread = (uint8_t)engine_self();
	event->kind = (uint8_t)kind;
	event->enabled = 0;
	event->object = object;
	event->value = value;
}

void trace_access(enum event_kind kind, int object, int64_t value,
		  uint32_t pc, unsigned int enabled)
{
	struct cr_event *event = trace_claim();

	event->step = engine.steps;
	event->pc = pc;
	event->thread = (uint8_t)engine_self();
	event->kind = (uint8_t)kind;
	event->enabled = (uint16_t)enabled;
	event->object = object;
	event->value = value;
}

const struct cr_event *trace_events(size_t *length)
{
	*length = trace_used < CR_TRACE_MAX ? trace_used : CR_TRACE_MAX;
	return trace_table;
}
