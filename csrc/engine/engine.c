// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one funnel: every access, wait and step passes here, whichever engine
 * runs. It asks the engine for a decision, then observes what happens.
 *
 * An access is a decision point when it touches the kernel's data section.
 * Stacks are private to their threads (nothing in kernel/ shares an object on
 * its stack), and everything else is frozen while a run is active: the code,
 * constant tables, the scenario. Reading those needs no point, because all
 * orders give the same value; writing them is a verdict.
 */
#include "engine.h"

#include "core.h"
#include "interleaving.h"
#include "memory.h"

struct engine_state engine;

char engine_stacks[2 * CR_THREADS_MAX][ENGINE_STACK_BYTES]
	__attribute__((aligned(4096)));

/* The step that engine_step_begin() opened; at most one is open at a time. */
static const void *engine_step_address;
static const void *engine_step_pc;

static inline bool engine_writes(enum event_kind kind)
{
	const unsigned int reads = 1u << EVENT_READ | 1u << EVENT_READ_MARKED |
		1u << EVENT_ATOMIC_READ | 1u << EVENT_LOCK_SHARED |
		1u << EVENT_UNLOCK_SHARED;

	return !(reads >> kind & 1);
}

static inline void engine_point(void)
{
	if (engine.kind == CR_ENGINE_FIBER)
		fiber_point();
	else
		thread_point();
}

static void engine_foreign(const void *address, enum event_kind kind)
{
	uintptr_t in_stacks = (uintptr_t)address - (uintptr_t)engine_stacks;

	if (in_stacks < sizeof(engine_stacks) || !engine_writes(kind))
		return;
	engine_stop(VERDICT_FROZEN_WRITE);
}

static void engine_check(uintptr_t offset)
{
	if (memory_freed[offset / MEMORY_UNIT])
		engine_stop(VERDICT_USE_AFTER_FREE);
}

/* What only a replay or a fuzzer wants to know. */
static __attribute__((noinline)) void engine_observe_closely(uintptr_t offset,
		unsigned int bytes, enum event_kind kind, uint32_t pc)
{
	if (engine.count_pairs && engine.kind == CR_ENGINE_FIBER)
		interleaving_pair(engine.current, offset, pc);
	if (engine.trace_full)
		trace_access(kind, (int)offset, bytes, pc, engine.enabled);
}

static inline void engine_observe(uintptr_t offset, unsigned int bytes,
				  enum event_kind kind, const void *pc)
{
	if (engine.kind == CR_ENGINE_FIBER)
		interleaving_access(engine.current, offset, engine_writes(kind));
	if (__builtin_expect(engine.observes, 0))
		engine_observe_closely(offset, bytes, kind, memory_pc(pc));
}

void engine_access(const void *address, unsigned int bytes,
		   enum event_kind kind, const void *pc)
{
	uintptr_t offset = memory_offset(address);

	if (!engine.active)
		return;
	if (offset >= memory_bytes()) {
		engine_foreign(address, kind);
		return;
	}
	engine_point();
	engine_observe(offset, bytes, kind, pc);
	engine_check(offset);
}

void engine_wait(bool (*ready)(const void *object), void (*take)(void *object),
		 void *object, enum event_kind kind, const void *pc)
{
	uintptr_t offset = memory_offset(object);

	if (!engine.active) {
		take(object);
		return;
	}
	if (engine.kind == CR_ENGINE_THREAD) {
		thread_wait(ready, take, object);
	} else {
		fiber_wait(ready, take, object);
	}
	engine_observe(offset, 0, kind, pc);
	engine_check(offset);
}

void engine_step_begin(const void *address, const void *pc)
{
	if (!engine.active)
		return;
	engine_point();
	engine_check(memory_offset(address));
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	engine_step_address = address;
	engine_step_pc = pc;
}

void engine_step_also(const void *address, enum event_kind kind)
{
	if (!engine.active)
		return;
	engine_check(memory_offset(address));
	engine_observe(memory_offset(address), 0, kind, engine_step_pc);
}

void engine_step_end(enum event_kind kind)
{
	if (!engine.active)
		return;
	engine_observe(memory_offset(engine_step_address), 0, kind, engine_step_pc);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
}

_Noreturn void engine_stop(enum verdict verdict)
{
	uint32_t none = VERDICT_OK;

	__atomic_compare_exchange_n(&engine.verdict, &none, verdict, false,
				    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (engine.kind == CR_ENGINE_FIBER)
		fiber_stop();
	else
		thread_stop();
}

unsigned int engine_self(void)
{
	return engine.kind == CR_ENGINE_FIBER ? engine.current : thread_self();
}

void engine_run(unsigned int threads, void (*body)(unsigned int thread))
{
	engine.steps = 0;
	engine.verdict = VERDICT_OK;
	engine.marks = 0;
	engine.enabled = 0;
	engine.observes = engine.trace_full || engine.count_pairs;
	if (!threads)
		return;
	engine.active = true;
	if (engine.kind == CR_ENGINE_FIBER)
		fiber_run(threads, body);
	else
		thread_run(threads, body);
	engine.active = false;
}
