// SPDX-License-Identifier: GPL-2.0-only
/*
 * Locks as a word and a wait. Not instrumented: taking and releasing are one
 * step each.
 */
#include "lock.h"

#include "core.h"
#include "lockdep.h"
#include "memory.h"
#include "watch.h"

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

static bool lock_is_watched(void)
{
	return engine.active && engine.detects;
}

void lock_acquire(struct lock *lock, enum lock_mode mode)
{
	if (lock_is_watched()) {
		engine_reach(lock);
		lockdep_wants(memory_offset(lock), mode);
	}
	if (mode == LOCK_READ)
		engine_wait(lock_ready_shared, lock_take_shared, lock,
			    EVENT_LOCK_SHARED, ENGINE_PC());
	else
		engine_wait(lock_ready, lock_take, lock, EVENT_LOCK, ENGINE_PC());
	if (lock_is_watched())
		lockdep_takes(memory_offset(lock), mode, LOCKDEP_WAITED);
}

bool lock_try(struct lock *lock, enum lock_mode mode)
{
	bool shared = mode == LOCK_READ;
	bool taken;

	engine_reach(lock);
	watch_try(memory_offset(lock));
	engine_step_begin(lock, ENGINE_PC());
	taken = shared ? lock_ready_shared(lock) : lock_ready(lock);
	if (taken)
		shared ? lock_take_shared(lock) : lock_take(lock);
	/* Failing because of readers depends on who of them came before. */
	if (!taken)
		engine_step_end(lock->state > 0 ? EVENT_WRITE_MARKED : EVENT_ATOMIC_READ);
	else
		engine_step_end(shared ? EVENT_LOCK_SHARED : EVENT_LOCK);
	if (taken && lock_is_watched())
		lockdep_takes(memory_offset(lock), mode, LOCKDEP_TRIED);
	return taken;
}

void lock_release(struct lock *lock, enum lock_mode mode)
{
	bool shared = mode == LOCK_READ;

	engine_step_left(lock, ENGINE_PC());
	if (shared ? lock->state <= 0 : lock->state != lock_mine()) {
		/* What was wrong depends on everyone who touched the lock before. */
		if (!memory_is_section(memory_offset(lock)))
			watch_try(memory_offset(lock));
		engine_step_also(lock, EVENT_WRITE_MARKED, ENGINE_PC());
		engine_stop(VERDICT_LOCK_MISUSE);
	}
	if (lock_is_watched())
		lockdep_leaves(memory_offset(lock));
	lock->state = shared ? lock->state - 1 : 0;
	engine_step_end(shared ? EVENT_UNLOCK_SHARED : EVENT_UNLOCK);
}

void lock_init_held(struct lock *lock)
{
	lock->state = lock_mine();
	if (lock_is_watched())
		lockdep_takes(memory_offset(lock), LOCK_WRITE, LOCKDEP_BORN);
}

void lock_may_sleep(void)
{
	if (lock_is_watched())
		lockdep_sleeps();
}

void lock_expect_none(void)
{
	if (lock_is_watched())
		lockdep_ends();
}

bool lock_busy(const struct lock *lock)
{
	engine_reach(lock);
	watch_try(memory_offset(lock));
	/* Readers, who do not mind each other, make a difference here. */
	engine_step_also(lock, EVENT_WRITE_MARKED, ENGINE_PC());
	return __atomic_load_n(&lock->state, __ATOMIC_RELAXED) != 0;
}
