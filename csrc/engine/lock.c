// SPDX-License-Identifier: GPL-2.0-only
/*
 * Locks as a word and a wait. Not instrumented: taking and releasing are one
 * step each.
 */
#include "lock.h"

#include "core.h"

/* The state of a lock that the running thread holds for writing. */
static int lock_mine(void)
{
	return -1 - (int)engine_self();
}

static bool lock_ready(const void *object)
{
	return ((const struct lock *)object)->state == 0;
}

static bool lock_ready_shared(const void *object)
{
	return ((const struct lock *)object)->state >= 0;
}

static void lock_take(void *object)
{
	((struct lock *)object)->state = lock_mine();
}

static void lock_take_shared(void *object)
{
	((struct lock *)object)->state++;
}

void lock_acquire(struct lock *lock, bool shared)
{
	if (shared)
		engine_wait(lock_ready_shared, lock_take_shared, lock,
			    EVENT_LOCK_SHARED, ENGINE_PC());
	else
		engine_wait(lock_ready, lock_take, lock, EVENT_LOCK, ENGINE_PC());
}

bool lock_try(struct lock *lock, bool shared)
{
	bool taken;

	engine_step_begin(lock, ENGINE_PC());
	taken = shared ? lock_ready_shared(lock) : lock_ready(lock);
	if (taken)
		shared ? lock_take_shared(lock) : lock_take(lock);
	if (!taken)
		engine_step_end(EVENT_ATOMIC_READ);
	else
		engine_step_end(shared ? EVENT_LOCK_SHARED : EVENT_LOCK);
	return taken;
}

void lock_release(struct lock *lock, bool shared)
{
	engine_step_begin(lock, ENGINE_PC());
	if (shared ? lock->state <= 0 : lock->state != lock_mine())
		engine_stop(VERDICT_LOCK_MISUSE);
	lock->state = shared ? lock->state - 1 : 0;
	engine_step_end(shared ? EVENT_UNLOCK_SHARED : EVENT_UNLOCK);
}

void lock_init_held(struct lock *lock)
{
	lock->state = lock_mine();
}

bool lock_busy(const struct lock *lock)
{
	return __atomic_load_n(&lock->state, __ATOMIC_RELAXED) != 0;
}
