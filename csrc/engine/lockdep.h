/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rules of locks, judged without waiting for what breaking them leads to:
 * no lock is taken by a thread that holds it, nobody sleeps under a spinlock,
 * locks are taken in one order, and a lock goes where it came from.
 *
 * A lock is an instance: the word at an offset, during one life of the object
 * that it is part of. At most LOCKDEP_LOCKS of them are known per run; more are
 * not judged, and count as held by everybody, so that none is accused wrongly.
 * Only for runs that detect, which are the fiber engine's.
 */
#ifndef ENGINE_LOCKDEP_H
#define ENGINE_LOCKDEP_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "core.h"
#include "lock.h"
#include "memory.h"
#include "watch.h"

#define LOCKDEP_LOCKS	64

/* Locks are bits of these sets, by the order in which the run met them. */
struct lockdep {
	uint64_t held[CR_THREADS_MAX];
	uint64_t shared[CR_THREADS_MAX];	/* those of them that are held for reading */
	uint64_t spinning;			/* spinlocks */
	uint16_t offset[LOCKDEP_LOCKS];		/* in units of a place */
	uint64_t used;
	/*
	 * Per thread a guard (memory.h) whose lock it was seen to hold for writing since
	 * what it holds has changed, or 0: not looked up again, in runs that are not
	 * taken back.
	 */
	uint8_t guard[CR_THREADS_MAX];
};

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct lockdep lockdep;

/* How a lock came to be held. */
enum lockdep_way {
	LOCKDEP_WAITED,
	LOCKDEP_TRIED,		/* could not have blocked, so that no order is broken */
	LOCKDEP_BORN,		/* nobody else could see it */
};

void lockdep_reset(void);
/* The running thread is about to wait for it. */
void lockdep_wants(uintptr_t offset, enum lock_mode mode);
void lockdep_takes(uintptr_t offset, enum lock_mode mode, enum lockdep_way way);
void lockdep_leaves(uintptr_t offset);
/* The running thread may be put to sleep here. */
void lockdep_sleeps(void);
/* The running thread's operation is over. */
void lockdep_ends(void);
/* An object that holds locks was freed. */
void lockdep_forget(unsigned int object);

#define LOCKDEP_UNKNOWN	LOCKDEP_LOCKS

/* Per place the number of the lock whose word it is, if it was met in this run and life. */
struct lockdep_number {
	uint64_t stamp;
	uint64_t number;
};

extern struct lockdep_number lockdep_numbers[MEMORY_MAX / MEMORY_GRAIN];

/* A lock that the run meets now. */
unsigned int lockdep_meet(uintptr_t offset);

static inline unsigned int lockdep_find(uintptr_t offset)
{
	const struct lockdep_number *entry = &lockdep_numbers[offset / MEMORY_GRAIN];

	if (__builtin_expect(entry->stamp == watch_stamp(offset), 1))
		return (unsigned int)entry->number;
	return lockdep_meet(offset);
}

/* Whether the running thread holds it: not only for reading, if it writes. */
static inline bool lockdep_holds(uintptr_t offset, bool writes)
{
	unsigned int number = lockdep_find(offset);
	uint64_t held = lockdep.held[engine.current];

	if (__builtin_expect(number == LOCKDEP_UNKNOWN, 0))
		return true;
	if (writes)
		held &= ~lockdep.shared[engine.current];
	return held >> number & 1;
}

#pragma GCC visibility pop
#endif
