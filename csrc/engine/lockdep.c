// SPDX-License-Identifier: GPL-2.0-only
/*
 * Held locks as sets of bits, and the order of locks as its transitive
 * closure: whoever takes L while holding H says "H before L", and it is wrong
 * if a chain of such sayings already leads from L to H. That is the kernel's
 * rule for rwsems, too: a reader may have to wait behind a writer who waits.
 *
 * The edge is made when the lock was got, not when it was asked for: where the
 * run really deadlocks, that is the verdict.
 */
#include "lockdep.h"

#include <string.h>

#include "core.h"
#include "memory.h"
#include "trail.h"
#include "watch.h"

struct lockdep lockdep;

struct lockdep_number lockdep_numbers[MEMORY_MAX / MEMORY_GRAIN];
static uint64_t lockdep_after[LOCKDEP_LOCKS];	/* directly taken while this one was held */
static uint64_t lockdep_reach[LOCKDEP_LOCKS];	/* its closure */

static uint64_t lockdep_bit(unsigned int number)
{
	return (uint64_t)1 << number;
}

void lockdep_reset(void)
{
	memset(lockdep.held, 0, sizeof(lockdep.held));
	memset(lockdep.shared, 0, sizeof(lockdep.shared));
	memset(lockdep.guard, 0, sizeof(lockdep.guard));
	lockdep.spinning = 0;
	memset(lockdep_after, 0, lockdep.used * sizeof(lockdep_after[0]));
	memset(lockdep_reach, 0, lockdep.used * sizeof(lockdep_reach[0]));
	lockdep.used = 0;
}

unsigned int lockdep_meet(uintptr_t offset)
{
	struct lockdep_number *entry = &lockdep_numbers[offset / MEMORY_GRAIN];

	if (lockdep.used == LOCKDEP_LOCKS)
		return LOCKDEP_UNKNOWN;
	trail_save(entry, sizeof(*entry));
	trail_save(&lockdep.used, sizeof(lockdep.used));
	entry->stamp = watch_stamp(offset);
	entry->number = lockdep.used++;
	lockdep.offset[entry->number] = (uint16_t)(offset / MEMORY_GRAIN);
	return (unsigned int)entry->number;
}

void lockdep_sleeps(void)
{
	if (lockdep.held[engine.current] & lockdep.spinning)
		engine_broken(VERDICT_SLEEP_IN_ATOMIC);
}

void lockdep_wants(uintptr_t offset, enum lock_mode mode)
{
	unsigned int number = lockdep_find(offset);

	if (number == LOCKDEP_UNKNOWN)
		return;
	if (lockdep.held[engine.current] & lockdep_bit(number))
		engine_broken(VERDICT_RECURSIVE_LOCK);
	if (mode != LOCK_SPIN)
		lockdep_sleeps();
}

/* False: it closes a cycle. */
static bool lockdep_order(unsigned int before, unsigned int after)
{
	uint64_t more = lockdep_reach[after] | lockdep_bit(after);
	unsigned int i;

	if (lockdep_after[before] & lockdep_bit(after))
		return true;
	if (lockdep_reach[after] & lockdep_bit(before))
		return false;
	trail_save(&lockdep_after[before], sizeof(lockdep_after[before]));
	lockdep_after[before] |= lockdep_bit(after);
	for (i = 0; i < lockdep.used; i++) {
		if (i != before && !(lockdep_reach[i] & lockdep_bit(before)))
			continue;
		trail_save(&lockdep_reach[i], sizeof(lockdep_reach[i]));
		lockdep_reach[i] |= more;
	}
	return true;
}

/* What that thread holds is about to change. */
static inline void lockdep_changes(unsigned int thread)
{
	lockdep.guard[thread] = 0;
	if (!trail.on)
		return;
	trail_save(&lockdep.held[thread], sizeof(lockdep.held[thread]));
	trail_save(&lockdep.shared[thread], sizeof(lockdep.shared[thread]));
}

/* Taken while those are held. */
static __attribute__((noinline)) void lockdep_adds(uint64_t held, unsigned int number,
						   enum lockdep_way way)
{
	if (held & lockdep_bit(number))
		engine_broken(VERDICT_RECURSIVE_LOCK);
	if (way != LOCKDEP_WAITED)
		return;
	for (; held; held &= held - 1)
		if (!lockdep_order((unsigned int)__builtin_ctzll(held), number))
			engine_broken(VERDICT_LOCK_ORDER);
}

static __attribute__((noinline)) void lockdep_spins(uint64_t bit)
{
	trail_save(&lockdep.spinning, sizeof(lockdep.spinning));
	lockdep.spinning |= bit;
}

void lockdep_takes(uintptr_t offset, enum lock_mode mode, enum lockdep_way way)
{
	uint64_t *held = &lockdep.held[engine.current];
	unsigned int number = lockdep_find(offset);
	uint64_t bit;

	if (number == LOCKDEP_UNKNOWN)
		return;
	bit = lockdep_bit(number);
	if (*held)
		lockdep_adds(*held, number, way);
	lockdep_changes(engine.current);
	*held |= bit;
	if (mode == LOCK_READ)
		lockdep.shared[engine.current] |= bit;
	if (mode == LOCK_SPIN && !(lockdep.spinning & bit))
		lockdep_spins(bit);
}

void lockdep_leaves(uintptr_t offset)
{
	unsigned int number = lockdep_find(offset);

	if (number == LOCKDEP_UNKNOWN)
		return;
	if (!(lockdep.held[engine.current] & lockdep_bit(number)))
		engine_broken(VERDICT_LOCK_MISUSE);
	lockdep_changes(engine.current);
	lockdep.held[engine.current] &= ~lockdep_bit(number);
	lockdep.shared[engine.current] &= ~lockdep_bit(number);
}

void lockdep_ends(void)
{
	if (lockdep.held[engine.current])
		engine_broken(VERDICT_LOCK_MISUSE);
}

void lockdep_forget(unsigned int object)
{
	unsigned int i, thread;

	for (i = 0; i < lockdep.used; i++) {
		if (memory_object[lockdep.offset[i] * MEMORY_GRAIN / MEMORY_UNIT] != object)
			continue;
		for (thread = 0; thread < CR_THREADS_MAX; thread++) {
			lockdep_changes(thread);
			lockdep.held[thread] &= ~lockdep_bit(i);
			lockdep.shared[thread] &= ~lockdep_bit(i);
		}
	}
}
