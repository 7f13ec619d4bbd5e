// SPDX-License-Identifier: GPL-2.0-only
/*
 * The one funnel: every access, wait and step passes here, whichever engine
 * runs. It asks the engine for a decision, then observes what happens.
 *
 * An access is a decision point when it touches the kernel's data section.
 * Stacks are private to their threads (nothing in kernel/ shares an object on
 * its stack), and everything else is frozen while a run is active: the code,
 * constant tables, the scenario. Reading those needs no point, because all
 * orders give the same value; writing them is a verdict. So is NULL, for whoever
 * reads, writes, waits or begins a step there: no point comes before it either,
 * since where a thread's pointer leads depends on nothing that others do now.
 *
 * A reduced run has a point only where threads synchronise (waits, atomic and
 * marked accesses, steps) and at the accesses that were promoted because they
 * were seen to race. An access between two points is part of the step that the
 * first one began; ARCHITECTURE.md says why that loses nothing.
 */
#include "engine.h"

#include <string.h>

#include "core.h"
#include "interleaving.h"
#include "memory.h"
#include "places.h"
#include "trail.h"
#include "tsan.h"
#include "watch.h"

struct engine_state engine;

char engine_stacks[2 * CR_THREADS_MAX][ENGINE_STACK_BYTES]
	__attribute__((aligned(4096)));

/*
 * The step that engine_step_begin() opened; at most one is open at a time. It
 * changes the aligned word at its address, and what engine_step_also() names.
 */
static const void *engine_step_address;
static const void *engine_step_pc;

static inline void engine_point(uintptr_t offset, bool writes)
{
	if (engine.kind == CR_ENGINE_THREAD)
		thread_point();
	else if (++engine.steps >= engine.attention)
		fiber_attend((uint32_t)offset, writes);
}

/* A place without a point in a reduced run. */
static inline void engine_pass(void)
{
	if (engine.recording)
		fiber_pass();
}

static void engine_foreign(const void *address, enum event_kind kind)
{
	uintptr_t in_stacks = (uintptr_t)address - (uintptr_t)engine_stacks;

	if (in_stacks < sizeof(engine_stacks))
		return;
	engine_reach(address);
	if (trace_kind_writes(kind))
		engine_stop(VERDICT_FROZEN_WRITE);
}

static inline void engine_check(uintptr_t offset)
{
	if (__builtin_expect(memory_state[offset / MEMORY_UNIT], 0))
		engine_stop(memory_state[offset / MEMORY_UNIT] == MEMORY_FREED ?
			    VERDICT_USE_AFTER_FREE : VERDICT_OUT_OF_BOUNDS);
}

/* The rest of an access to more than one word. */
static __attribute__((noinline)) void engine_classify_rest(uintptr_t offset, unsigned int bytes,
							    enum event_kind kind)
{
	uintptr_t at;

	for (at = offset + 8; at < offset + bytes; at += 8)
		interleaving_access(engine.current, at, trace_kind_writes(kind), 0);
}

static inline void engine_classify(uintptr_t offset, unsigned int bytes, enum event_kind kind,
				   const void *pc)
{
	if (memory_is_section(offset)) {
		interleaving_section(engine.current, offset);
		return;
	}
	if (trace_kind_writes(kind))
		interleaving_write(engine.current, offset, memory_pc(pc));
	else
		interleaving_read(engine.current, offset, memory_pc(pc));
	if (__builtin_expect(bytes > 8, 0))
		engine_classify_rest(offset, bytes, kind);
}

/* The step's part in the happens-before class, and whatever else looks on; false: nobody does. */
static inline bool engine_observe(uintptr_t offset, unsigned int bytes,
				  enum event_kind kind, const void *pc)
{
	if (engine.leans) {
		engine_classify(offset, bytes, kind, pc);
		tsan_order(offset, kind, pc);
		return true;
	}
	if (engine.only_explores) {
		places_access(offset, bytes, kind, memory_pc(pc));
		return true;
	}
	if (engine.kind == CR_ENGINE_FIBER) {
		if (engine.classes)
			engine_classify(offset, bytes, kind, pc);
	} else if (engine.kind == CR_ENGINE_BARE) {
		return false;
	}
	if (__builtin_expect(engine.observes, 0))
		watch_access(offset, bytes, kind, pc);
	tsan_order(offset, kind, pc);
	return true;
}

/* The access comes next, and may have to be taken back. */
static inline void engine_changes(uintptr_t offset, unsigned int bytes, enum event_kind kind)
{
	if (trail.on && trace_kind_writes(kind))
		trail_save_data(offset, bytes);
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
	if (!engine.reduced || watch_is_point(kind, memory_pc(pc)))
		engine_point(offset, trace_kind_writes(kind));
	else
		engine_pass();
	if (engine_observe(offset, bytes, kind, pc))
		engine_check(offset);
	engine_changes(offset, bytes, kind);
}

/* What a wait is for, by what it does when it ends. */
static enum policy_wait engine_wait_of(enum event_kind kind)
{
	if (kind == EVENT_LOCK_SHARED)
		return POLICY_WAITS_SHARED;
	if (kind == EVENT_ATOMIC_READ)
		return POLICY_WAITS_ZERO;
	return kind == EVENT_LOCK ? POLICY_WAITS : POLICY_GOES_ON;
}

void engine_wait(bool (*ready)(const void *object), void (*take)(void *object),
		 void *object, enum event_kind kind, const void *pc)
{
	uintptr_t offset = memory_offset(object);

	if (!engine.active) {
		take(object);
		return;
	}
	engine_reach(object);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_wait(ready, take, object);
	else
		fiber_wait(ready, take, object, engine_wait_of(kind));
	if (engine_observe(offset, sizeof(int), kind, pc))
		engine_check(offset);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
}

static void engine_step_open(const void *address, const void *pc)
{
	uintptr_t offset = memory_offset(address);

	/* A step on freed memory does nothing else than look at it. */
	if (__builtin_expect(memory_state[offset / MEMORY_UNIT], 0))
		engine_observe(offset, sizeof(int), EVENT_READ_MARKED, pc);
	engine_check(offset);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	engine_step_address = address;
	engine_step_pc = pc;
	if (trail.on)
		trail_save_data(offset, sizeof(int));
}

void engine_step_begin(const void *address, const void *pc)
{
	if (!engine.active)
		return;
	engine_reach(address);
	engine_point(memory_offset(address), true);
	engine_step_open(address, pc);
}

void engine_step_left(const void *address, const void *pc)
{
	uintptr_t offset = memory_offset(address);

	if (!engine.active)
		return;
	engine_reach(address);
	if (!engine.reduced || watch_tried[offset / MEMORY_GRAIN] ||
	    watch_is_promoted(memory_pc(pc)) ||
	    (engine.releases && !memory_is_section(offset)))
		engine_point(offset, true);
	else
		engine_pass();
	engine_step_open(address, pc);
}

void engine_step_also(const void *address, enum event_kind kind, const void *pc)
{
	if (!engine.active)
		return;
	engine_reach(address);
	engine_check(memory_offset(address));
	engine_observe(memory_offset(address), sizeof(int), kind, pc);
	engine_changes(memory_offset(address), sizeof(int), kind);
}

void engine_step_end(enum event_kind kind)
{
	if (!engine.active)
		return;
	engine_observe(memory_offset(engine_step_address), sizeof(int), kind, engine_step_pc);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
}

void engine_note(enum verdict verdict)
{
	uint32_t none = VERDICT_OK;

	trail_save_range(&engine.verdict, sizeof(engine.verdict) + sizeof(engine.events));
	if (__atomic_compare_exchange_n(&engine.verdict, &none, verdict, false,
					__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		engine.events = (uint32_t)trace_length();
}

_Noreturn void engine_stop(enum verdict verdict)
{
	engine_note(verdict);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_stop();
	if (!engine_is_over(verdict))
		watch_stop();
	fiber_stop(verdict);
}

unsigned int engine_self(void)
{
	return engine.kind == CR_ENGINE_THREAD ? thread_self() : engine.current;
}

void engine_run(unsigned int threads, void (*body)(unsigned int thread))
{
	if (!trail.kept)
		memset(&engine.steps, 0, ENGINE_NOW_BYTES);
	engine.steps = trail.kept;
	engine.observes = engine.trace_full || engine.count_pairs || engine.explores ||
			  engine.detects;
	engine.only_explores = engine.explores && !engine.trace_full && !engine.count_pairs &&
			       !engine.detects && !engine.hashes;
	engine.attends = engine.trace_full || engine.recording || engine.policy->every ||
			 engine.policy->walks;
	if (!threads)
		return;
	engine.leans = engine.kind == CR_ENGINE_FIBER && engine.classes && !engine.observes &&
		       !engine.policy->walks;
	if (!engine.reduced && (engine.leans || engine.kind == CR_ENGINE_BARE))
		engine.lean_bytes = (uint32_t)memory_bytes();
	if (engine.reduced && engine.only_explores && !engine.recording)
		engine.step_bytes = (uint32_t)memory_bytes();
	engine.active = true;
	if (engine.kind == CR_ENGINE_THREAD)
		thread_run(threads, body);
	else
		fiber_run(threads, body);
	engine.active = false;
	engine.leans = false;
	engine.lean_bytes = 0;
	engine.step_bytes = 0;
}
