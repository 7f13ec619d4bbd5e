// SPDX-License-Identifier: GPL-2.0-only
/* Hands an access to everyone who looks on. */
#include "watch.h"

#include "core.h"
#include "interleaving.h"
#include "lockdep.h"
#include "places.h"
#include "race.h"
#include "trail.h"
#include "unordered.h"
#include "tsan.h"

uint8_t watch_tried[MEMORY_MAX / MEMORY_GRAIN];
bool watch_tried_more;
uint8_t watch_promoted[WATCH_TEXT_MAX / 8];
uint64_t watch_lives[MEMORY_OBJECTS_MAX + 1];
uint64_t watch_run;
static bool watch_others;	/* not only the detectors look on */

bool watch_promote(uint32_t pc)
{
	uint8_t *byte = &watch_promoted[pc / 8 % sizeof(watch_promoted)];
	uint8_t bit = (uint8_t)(1u << pc % 8);

	if (*byte & bit)
		return false;
	*byte |= bit;
	return true;
}

void watch_reset(bool again)
{
	watch_run = interleaving_stamp << 32;
	watch_others = engine.count_pairs || engine.hashes || engine.explores ||
		       engine.trace_full;
	if (engine.detects)
		race_reset(again);
	if (again)
		return;
	if (engine.detects)
		lockdep_reset();
	race_met.judged = false;
	if (engine.explores)
		places_begin();
	if (engine.explores && engine.reduced)
		unordered_reset();
}

void watch_life(uintptr_t offset, bool changes)
{
	uint64_t *lives;

	if (changes)
		tsan_life(offset, memory_state[offset / MEMORY_UNIT] == MEMORY_FREED);
	if (!engine.observes)
		return;
	if (engine.explores)
		places_life(offset, changes);
	if (!changes || engine.kind != CR_ENGINE_FIBER)
		return;
	lives = &watch_lives[memory_object[offset / MEMORY_UNIT]];
	trail_save(lives, sizeof(*lives));
	(*lives)++;
	if (!engine.detects)
		return;
	race_life(offset);
	lockdep_forget(memory_object[offset / MEMORY_UNIT]);
}

void watch_stop(void)
{
	if (engine.observes && engine.explores)
		places_stop();
}

void watch_acquired(uintptr_t offset)
{
	tsan_acquired(offset);
	if (engine.detects)
		race_acquire(offset);
}

/* What only its lock's holder may touch; freed memory has a verdict of its own. */
static void watch_guarded(uintptr_t offset, enum event_kind kind)
{
	unsigned int guard = memory_guard_of[offset / MEMORY_GRAIN];

	if (!guard || guard == MEMORY_SECTION)
		return;
	if (lockdep_holds(memory_guards[guard], true))
		lockdep.guard[engine.current] = (uint8_t)guard;
	else if (trace_kind_writes(kind) || !lockdep_holds(memory_guards[guard], false))
		engine_broken(VERDICT_UNGUARDED);
}

static __attribute__((noinline)) void watch_detect(uintptr_t offset, unsigned int bytes,
						   enum event_kind kind, const void *pc)
{
	/* An atomic step that frees its own word has been checked when it began. */
	if (memory_state[offset / MEMORY_UNIT] != MEMORY_USABLE && kind != EVENT_ATOMIC)
		return;
	watch_guarded(offset, kind);
	race_access(offset, bytes, kind, pc);
}

/*
 * Whether a race is all that the detectors can have against that: then it goes
 * to race.c at once, and no other detector is asked.
 */
static inline bool watch_is_allowed(uintptr_t offset)
{
	unsigned int guard = memory_guard_of[offset / MEMORY_GRAIN];

	return memory_state[offset / MEMORY_UNIT] == MEMORY_USABLE &&
	       (!guard || guard == lockdep.guard[engine.current] || guard == MEMORY_SECTION);
}

static __attribute__((noinline)) void watch_all(uintptr_t offset, unsigned int bytes,
						enum event_kind kind, const void *pc)
{
	if (engine.count_pairs && engine.kind == CR_ENGINE_FIBER)
		interleaving_pair(engine.current, offset, memory_pc(pc));
	if (engine.hashes)
		places_class(offset, kind);
	if (engine.explores)
		places_access(offset, bytes, kind, memory_pc(pc));
	if (engine.trace_full)
		trace_access(kind, (int)offset, bytes, memory_pc(pc), engine.enabled);
	/* Last, since it may end the run. */
	if (engine.detects)
		watch_detect(offset, bytes, kind, pc);
}

void watch_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, const void *pc)
{
	if (watch_others)
		watch_all(offset, bytes, kind, pc);
	else if (watch_is_allowed(offset))
		race_access(offset, bytes, kind, pc);
	else
		watch_detect(offset, bytes, kind, pc);
}
