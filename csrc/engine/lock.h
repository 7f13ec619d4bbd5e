/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one kind of lock behind mutexes, spinlocks, rwsems and page locks.
 *
 * Contract: mutual exclusion of writers against everyone, readers together;
 * a lock may go to any waiter, in any order. That covers everything the
 * kernel's rwsem allows (queueing, stealing, spinning past a waiter): it
 * never promises an order either, and not being scheduled looks like waiting.
 * A writer's lock is released by the thread that took it; readers are counted.
 * Not covered: a reader that blocks behind a waiting writer although the lock
 * is read-held, which can only add a deadlock by recursive or crossed reads.
 */
#ifndef ENGINE_LOCK_H
#define ENGINE_LOCK_H

#include <stdbool.h>

struct lock {
	int state;	/* 0 free, n > 0 readers, -1 - t the writer t */
};

enum lock_mode {
	LOCK_WRITE,	/* of a mutex, an rwsem, a page */
	LOCK_READ,	/* of an rwsem */
	LOCK_SPIN,	/* of a spinlock, whose holder must not sleep */
};

void lock_acquire(struct lock *lock, enum lock_mode mode);
bool lock_try(struct lock *lock, enum lock_mode mode);
void lock_release(struct lock *lock, enum lock_mode mode);
/* A lock that nobody else can see yet, held for writing: no decision point. */
void lock_init_held(struct lock *lock);
/* The caller may be put to sleep here, which is wrong under a spinlock. */
void lock_may_sleep(void);
/* The caller's operation is over: whatever it took it has given back. */
void lock_expect_none(void);
/* A look without a decision point, for assertions: a read of the current step. */
bool lock_busy(const struct lock *lock);

#endif
