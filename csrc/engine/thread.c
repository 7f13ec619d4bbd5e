// SPDX-License-Identifier: GPL-2.0-only
/*
 * The thread engine: each thread of a scenario is a pthread, the machine
 * chooses, and seeded noise at the decision points widens what it meets. What
 * it finds is a hint until the fiber engine reproduces it with a tape.
 *
 * The pthreads live as long as the process and play one round per run. Locks
 * and steps are serialised by one mutex, plain accesses are as parallel as
 * the machine makes them. Threads leave a stopped round by longjmp, at
 * their next decision point or out of their wait.
 */
#include "core.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>

#include "random.h"

struct thread {
	pthread_t handle;
	jmp_buf leave;
	uint64_t random;
	bool (*ready)(const void *object);	/* NULL: does not wait */
	const void *object;
};

static struct thread thread_table[CR_THREADS_MAX];
static pthread_mutex_t thread_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t thread_changed = PTHREAD_COND_INITIALIZER;
static pthread_cond_t thread_round_begins = PTHREAD_COND_INITIALIZER;
static pthread_cond_t thread_round_ends = PTHREAD_COND_INITIALIZER;
static void (*thread_body)(unsigned int thread);
static unsigned int thread_started;	/* pthreads that exist */
static unsigned int thread_round;
static unsigned int thread_count;	/* threads of this round */
static unsigned int thread_alive;	/* whose body has not ended */
static unsigned int thread_ready;	/* at the starting line */
static bool thread_stopping;

static __thread unsigned int thread_number;
static __thread bool thread_excludes;

unsigned int thread_self(void)
{
	return thread_number;
}

static _Noreturn void thread_leave(void)
{
	if (thread_excludes) {
		thread_excludes = false;
		pthread_mutex_unlock(&thread_mutex);
	}
	longjmp(thread_table[thread_number].leave, 1);
}

static bool thread_is_stopping(void)
{
	return __atomic_load_n(&thread_stopping, __ATOMIC_RELAXED);
}

void thread_point(void)
{
	uint64_t *random = &thread_table[thread_number].random;
	uint32_t draw = random_draw(random);
	volatile unsigned int spin;

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

/* Under the mutex: everyone alive waits, and for nothing that is ready. */
static bool thread_deadlocked(void)
{
	unsigned int i, waiting = 0;

	for (i = 0; i < thread_count; i++) {
		if (!thread_table[i].ready)
			continue;
		if (thread_table[i].ready(thread_table[i].object))
			return false;
		waiting++;
	}
	return waiting && waiting == thread_alive;
}

static void thread_stop_if_deadlocked(void)
{
	if (thread_stopping || !thread_deadlocked())
		return;
	engine.verdict = VERDICT_DEADLOCK;
	__atomic_store_n(&thread_stopping, true, __ATOMIC_RELAXED);
	pthread_cond_broadcast(&thread_changed);
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
		if (!thread_stopping)
			pthread_cond_wait(&thread_changed, &thread_mutex);
		self->ready = NULL;
		if (thread_stopping)
			thread_leave();
	}
	take(object);
	thread_exclude(false);
}

void thread_exclude(bool begin)
{
	if (begin) {
		pthread_mutex_lock(&thread_mutex);
		thread_excludes = true;
		return;
	}
	thread_excludes = false;
	pthread_cond_broadcast(&thread_changed);
	pthread_mutex_unlock(&thread_mutex);
}

_Noreturn void thread_stop(void)
{
	__atomic_store_n(&thread_stopping, true, __ATOMIC_RELAXED);
	if (!thread_excludes)
		thread_exclude(true);
	pthread_cond_broadcast(&thread_changed);
	thread_leave();
}

static void thread_play(unsigned int number)
{
	__atomic_add_fetch(&thread_ready, 1, __ATOMIC_SEQ_CST);
	/* A spinning barrier: after a sleeping one the threads start too far apart. */
	while (__atomic_load_n(&thread_ready, __ATOMIC_SEQ_CST) < thread_count)
		sched_yield();
	if (!setjmp(thread_table[number].leave))
		thread_body(number);
}

static void *thread_main(void *argument)
{
	unsigned int number = (unsigned int)(uintptr_t)argument;
	unsigned int seen = 0;

	thread_number = number;
	for (;;) {
		pthread_mutex_lock(&thread_mutex);
		while (thread_round == seen || number >= thread_count) {
			seen = thread_round;
			pthread_cond_wait(&thread_round_begins, &thread_mutex);
		}
		seen = thread_round;
		pthread_mutex_unlock(&thread_mutex);
		thread_play(number);
		pthread_mutex_lock(&thread_mutex);
		thread_table[number].ready = NULL;
		thread_alive--;
		thread_stop_if_deadlocked();
		if (!thread_alive)
			pthread_cond_signal(&thread_round_ends);
		pthread_mutex_unlock(&thread_mutex);
	}
	return NULL;
}

static void thread_start(unsigned int threads)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	while (thread_started < threads) {
		uintptr_t number = thread_started;

		pthread_attr_setstack(&attributes, engine_stacks[CR_THREADS_MAX + number],
				      ENGINE_STACK_BYTES);
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

	thread_start(threads);
	if (thread_started < threads) {
		engine.verdict = VERDICT_OVERFLOW;
		return;
	}
	pthread_mutex_lock(&thread_mutex);
	thread_body = body;
	thread_count = threads;
	thread_alive = threads;
	thread_ready = 0;
	thread_stopping = false;
	for (i = 0; i < threads; i++) {
		thread_table[i].random = random_state(engine.seed + i, engine.schedule);
		thread_table[i].ready = NULL;
	}
	thread_round++;
	pthread_cond_broadcast(&thread_round_begins);
	while (thread_alive)
		pthread_cond_wait(&thread_round_ends, &thread_mutex);
	pthread_mutex_unlock(&thread_mutex);
}
