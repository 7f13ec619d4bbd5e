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

void lock_acquire(struct lock *lock, bool shared);
bool lock_try(struct lock *lock, bool shared);
void lock_release(struct lock *lock, bool shared);
/* A lock that nobody else can see yet, held for writing: no decision point. */
void lock_init_held(struct lock *lock);
/* A look without a decision point, for assertions and marks. */
bool lock_busy(const struct lock *lock);

#endif
