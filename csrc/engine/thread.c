// SPDX-License-Identifier: GPL-2.0-only
/*
 * The thread engine: each thread of a scenario is a pthread, the machine
 * chooses, and seeded noise at the decision points widens what it meets. What
 * it finds is a hint until the fiber engine reproduces it with a tape.
 *
 * The pthreads live as long as the process and play one round per run. Locks
 * and steps are serialised by one lock, plain accesses are as parallel as
 * the machine makes them. Threads leave a stopped round by longjmp, at
 * their next decision point or out of their wait.
 *
 * That lock and all waiting are made of atomic words and futexes: a sanitizer
 * that saw a mutex here would take every two steps for ordered, and with them
 * what two threads do under different locks of the kernel. The orders that
 * are the kernel's are told in tsan.h.
 */
#include "core.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "random.h"
#include "tsan.h"

#define THREAD_FUTEX_WAIT	128	/* FUTEX_WAIT_PRIVATE */
#define THREAD_FUTEX_WAKE	129	/* FUTEX_WAKE_PRIVATE */
#define THREAD_YIELDS		30	/* before a thread sleeps */

struct thread {
	pthread_t handle;
	jmp_buf leave;
	uint64_t random;
	bool (*ready)(const void *object);	/* NULL: does not wait */
	const void *object;
};

/* A number of rounds and how many threads play it: one word, so that they fit. */
#define THREAD_ROUND	16
#define THREAD_COUNT(round)	((round) % THREAD_ROUND)

static struct thread thread_table[CR_THREADS_MAX];
static void (*thread_body)(unsigned int thread);
static unsigned int thread_started;	/* pthreads that exist */
static unsigned int thread_count;	/* threads of this round */
static uint32_t thread_round;
static uint32_t thread_alive;		/* whose body has not ended */
static uint32_t thread_ready;		/* at the starting line */
static uint32_t thread_locked;		/* 2: somebody sleeps until it is 0 */
static uint32_t thread_changes;		/* of what threads may wait for; under the lock */
static unsigned int thread_sleepers;	/* who wait for a change; under the lock */
static bool thread_stopping;
static uint8_t thread_turns[CR_STEPS_MAX];	/* who runs from each decision on, if forced */
static uint32_t thread_turns_used;
static uint32_t thread_step;		/* the decision that was made last */

static __thread unsigned int thread_number;
static __thread bool thread_excludes;

unsigned int thread_self(void)
{
	return thread_number;
}

/* ---- waiting --------------------------------------------------------- */

static uint32_t thread_load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void thread_wake(const uint32_t *word, int threads)
{
	syscall(SYS_futex, word, THREAD_FUTEX_WAKE, threads, NULL, NULL, 0);
}

/* Until the word is something else; returns for no reason as well. */
static void thread_sleep(const uint32_t *word, uint32_t value)
{
	unsigned int i;

	for (i = 0; i < THREAD_YIELDS; i++) {
		if (thread_load(word) != value)
			return;
		sched_yield();
	}
	syscall(SYS_futex, word, THREAD_FUTEX_WAIT, value, NULL, NULL, 0);
}

static void thread_lock(void)
{
	uint32_t unlocked = 0;

	if (__atomic_compare_exchange_n(&thread_locked, &unlocked, 1, false,
					__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&thread_locked, 2, __ATOMIC_ACQUIRE))
		thread_sleep(&thread_locked, 2);
}

static void thread_unlock(void)
{
	if (__atomic_exchange_n(&thread_locked, 0, __ATOMIC_RELEASE) == 2)
		thread_wake(&thread_locked, 1);
}

/* Under the lock: somebody may be ready now. */
static void thread_change(void)
{
	__atomic_store_n(&thread_changes, thread_changes + 1, __ATOMIC_RELEASE);
	if (thread_sleepers)
		thread_wake(&thread_changes, CR_THREADS_MAX);
}

/* Under the lock, which others have meanwhile. */
static void thread_await_change(void)
{
	uint32_t changes = thread_changes;

	thread_sleepers++;
	thread_unlock();
	thread_sleep(&thread_changes, changes);
	thread_lock();
	thread_sleepers--;
}

/* ---- a thread in its round --------------------------------------------- */

static _Noreturn void thread_leave(void)
{
	if (thread_excludes) {
		thread_excludes = false;
		thread_unlock();
	}
	longjmp(thread_table[thread_number].leave, 1);
}

static bool thread_is_stopping(void)
{
	return __atomic_load_n(&thread_stopping, __ATOMIC_RELAXED);
}

/*
 * A forced round hands over like the fiber engine does in a given run: decision
 * number n is made when the running thread comes to its next point, has to wait
 * or has ended, and says who runs from there on. Past the last one all run.
 */
void thread_force(const uint8_t *threads, size_t count)
{
	thread_turns_used = (uint32_t)(count < CR_STEPS_MAX ? count : CR_STEPS_MAX);
	if (thread_turns_used)
		memcpy(thread_turns, threads, thread_turns_used);
}

static void thread_decision(void)
{
	if (!thread_turns_used)
		return;
	__atomic_add_fetch(&thread_step, 1, __ATOMIC_RELEASE);
	thread_wake(&thread_step, CR_THREADS_MAX);
}

static void thread_await_turn(void)
{
	uint32_t step;

	while ((step = thread_load(&thread_step)) < thread_turns_used &&
	       thread_turns[step] != thread_number && !thread_is_stopping())
		thread_sleep(&thread_step, step);
}

void thread_point(void)
{
	uint64_t *random = &thread_table[thread_number].random;
	uint32_t draw = random_draw(random);
	volatile unsigned int spin;

	thread_decision();
	thread_await_turn();
	/*
	 * To nobody, so it orders nothing. ThreadSanitizer skips an access of a thread that
	 * released nothing since an earlier one there, and would not report its line.
	 */
	tsan_release(random);
	if (thread_is_stopping())
		thread_leave();
	if (__atomic_add_fetch(&engine.steps, 1, __ATOMIC_RELAXED) > engine.steps_max)
		engine_stop(VERDICT_STEP_LIMIT);
	if (draw % 8 == 0)
		sched_yield();
	else if (draw % 8 == 1)
		for (spin = draw >> 24; spin; spin--)
			;
}

/*
 * Under the lock: everyone alive waits, and for nothing that is ready. Plain
 * stores wake nobody, so whoever waits for one is woken here.
 */
static bool thread_deadlocked(void)
{
	unsigned int i, waiting = 0;

	for (i = 0; i < thread_count; i++) {
		if (!thread_table[i].ready)
			continue;
		if (thread_table[i].ready(thread_table[i].object)) {
			thread_change();
			return false;
		}
		waiting++;
	}
	return waiting && waiting == thread_load(&thread_alive);
}

static void thread_stop_if_deadlocked(void)
{
	if (thread_is_stopping() || !thread_deadlocked())
		return;
	engine.verdict = VERDICT_DEADLOCK;
	engine.events = (uint32_t)trace_length();
	__atomic_store_n(&thread_stopping, true, __ATOMIC_RELAXED);
	thread_decision();
	thread_change();
}

void thread_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object)
{
	struct thread *self = &thread_table[thread_number];

	thread_point();
	thread_exclude(true);
	while (!ready(object)) {
		self->ready = ready;
		self->object = object;
		thread_stop_if_deadlocked();
		if (!thread_is_stopping())
			thread_await_change();
		self->ready = NULL;
		if (thread_is_stopping())
			thread_leave();
	}
	take(object);
}

void thread_exclude(bool begin)
{
	if (begin) {
		thread_lock();
		thread_excludes = true;
		return;
	}
	thread_excludes = false;
	thread_change();
	thread_unlock();
}

_Noreturn void thread_stop(void)
{
	__atomic_store_n(&thread_stopping, true, __ATOMIC_RELAXED);
	thread_decision();
	if (!thread_excludes)
		thread_exclude(true);
	thread_change();
	thread_leave();
}

/* ---- rounds ------------------------------------------------------------ */

static void thread_play(unsigned int number, unsigned int threads)
{
	__atomic_add_fetch(&thread_ready, 1, __ATOMIC_SEQ_CST);
	/* A spinning barrier: after a sleeping one the threads start too far apart. */
	while (thread_load(&thread_ready) < threads)
		sched_yield();
	if (setjmp(thread_table[number].leave))
		return;
	thread_await_turn();
	/* A round that was stopped before its turn came has no more events. */
	if (thread_is_stopping())
		return;
	thread_body(number);
	thread_decision();
}

static void thread_finish(unsigned int number)
{
	bool last;

	thread_lock();
	thread_table[number].ready = NULL;
	tsan_release(&thread_alive);
	last = !__atomic_sub_fetch(&thread_alive, 1, __ATOMIC_RELEASE);
	if (!last)
		thread_stop_if_deadlocked();
	thread_unlock();
	if (last)
		thread_wake(&thread_alive, 1);
}

static void *thread_main(void *argument)
{
	unsigned int number = (unsigned int)(uintptr_t)argument;
	uint32_t seen = 0, round;

	thread_number = number;
	for (;;) {
		while ((round = thread_load(&thread_round)) == seen)
			thread_sleep(&thread_round, seen);
		seen = round;
		if (number >= THREAD_COUNT(round))
			continue;
		tsan_acquire(&thread_round);
		thread_play(number, THREAD_COUNT(round));
		thread_finish(number);
	}
	return NULL;
}

static void thread_start(unsigned int threads)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	while (thread_started < threads) {
		uintptr_t number = thread_started;

		/* On any other stack, what a thread has there would pass for frozen memory. */
		if (pthread_attr_setstack(&attributes, engine_stacks[CR_THREADS_MAX + number],
					  ENGINE_STACK_BYTES))
			break;
		if (pthread_create(&thread_table[number].handle, &attributes,
				   thread_main, (void *)number))
			break;
		thread_started++;
	}
	pthread_attr_destroy(&attributes);
}

void thread_run(unsigned int threads, void (*body)(unsigned int thread))
{
	unsigned int i;
	uint32_t alive;

	static_assert(CR_THREADS_MAX < THREAD_ROUND, "a round's word has the count of its threads");
	thread_start(threads);
	if (thread_started < threads) {
		engine.verdict = VERDICT_OVERFLOW;
		engine.events = 0;
		return;
	}
	thread_body = body;
	thread_count = threads;
	thread_alive = threads;
	thread_ready = 0;
	thread_stopping = false;
	thread_step = 0;
	for (i = 0; i < threads; i++) {
		thread_table[i].random = random_state(engine.seed + i, engine.schedule);
		thread_table[i].ready = NULL;
	}
	tsan_release(&thread_round);
	__atomic_store_n(&thread_round,
			 (thread_round / THREAD_ROUND + 1) * THREAD_ROUND + threads,
			 __ATOMIC_SEQ_CST);
	thread_wake(&thread_round, CR_THREADS_MAX);
	while ((alive = thread_load(&thread_alive)))
		thread_sleep(&thread_alive, alive);
	tsan_acquire(&thread_alive);
	trace_merge();
}
