// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fiber engine: all threads of a scenario on one OS thread, every choice
 * from the policy, so that a run is a pure function of scenario and tape.
 *
 * A thread is alive until its body returns, and enabled while alive unless it
 * waits for something that is not ready. The policy is asked only when more
 * than one thread is enabled. A run that is stopped leaves its fibers where
 * they are; the next run prepares their stacks anew.
 */
#include "core.h"

#include "switch.h"

#include "fiber_asan.h"

struct fiber {
	struct switch_context context;
	bool (*ready)(const void *object);	/* NULL: does not wait */
	const void *object;
};

static struct fiber fiber_table[CR_THREADS_MAX];
static struct switch_context fiber_main;
static void (*fiber_body)(unsigned int thread);
static unsigned int fiber_alive;
static unsigned int fiber_waiting;

static unsigned int fiber_enabled(void)
{
	unsigned int enabled = fiber_alive;
	unsigned int waiting = fiber_waiting;

	while (waiting) {
		unsigned int i = (unsigned int)__builtin_ctz(waiting);

		waiting &= waiting - 1;
		if (!fiber_table[i].ready(fiber_table[i].object))
			enabled &= ~(1u << i);
	}
	return enabled;
}

static const uint8_t fiber_bits[16] = { 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4 };

/* Without a special instruction gcc calls a function for __builtin_popcount. */
static inline unsigned int fiber_count(unsigned int set)
{
	return (unsigned int)fiber_bits[set & 15] + fiber_bits[set >> 4];
}

/* The answer-th enabled thread, counted cyclically from `current`. */
static unsigned int fiber_at(unsigned int enabled, unsigned int current, unsigned int answer)
{
	unsigned int ring = (enabled >> current | enabled << (CR_THREADS_MAX - current)) &
			    ((1u << CR_THREADS_MAX) - 1);

	for (; answer; answer--)
		ring &= ring - 1;
	return (current + (unsigned int)__builtin_ctz(ring)) % CR_THREADS_MAX;
}

/* Lets the policy choose among `enabled`, which is not just the running thread. */
static __attribute__((noinline)) void fiber_go_on(unsigned int enabled, bool forced)
{
	unsigned int from = engine.current;
	unsigned int answer = 0;
	unsigned int to;

	if (!enabled)
		engine_stop(VERDICT_DEADLOCK);
	if (enabled & (enabled - 1)) {
		answer = engine.policy->choose(fiber_count(enabled), forced);
		if (!tape_write(answer))
			engine_stop(VERDICT_OVERFLOW);
	}
	if (!answer && enabled >> from & 1)
		return;
	to = fiber_at(enabled, from, answer);
	if (to == from)
		return;
	engine.current = (uint8_t)to;
	fiber_asan_leave(engine_stacks[to]);
	switch_to(&fiber_table[from].context, &fiber_table[to].context);
	fiber_asan_enter();
}

/* One decision point of the running thread, which may be alone, waiting or at its end. */
static inline void fiber_decide(void)
{
	unsigned int enabled = fiber_waiting ? fiber_enabled() : fiber_alive;

	if (++engine.steps > engine.steps_max)
		engine_stop(VERDICT_STEP_LIMIT);
	engine.enabled = enabled;
	if (enabled != 1u << engine.current)
		fiber_go_on(enabled, !(enabled >> engine.current & 1));
}

void fiber_point(void)
{
	fiber_decide();
}

void fiber_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object)
{
	struct fiber *self = &fiber_table[engine.current];
	unsigned int bit = 1u << engine.current;

	self->ready = ready;
	self->object = object;
	fiber_waiting |= bit;
	fiber_decide();
	fiber_waiting &= ~bit;
	take(object);
}

_Noreturn void fiber_stop(void)
{
	struct switch_context nowhere;

	fiber_asan_leave(NULL);
	switch_to(&nowhere, &fiber_main);
	__builtin_unreachable();
}

static void fiber_entry(void)
{
	unsigned int self = engine.current;

	fiber_asan_enter();
	fiber_body(self);
	fiber_alive &= ~(1u << self);
	if (fiber_alive)
		fiber_decide();
	fiber_stop();
}

/* Which thread starts is a choice, and a forced one: none is running yet. */
static unsigned int fiber_first(unsigned int threads)
{
	unsigned int answer;

	if (threads == 1)
		return 0;
	answer = engine.policy->choose(threads, true);
	(void)tape_write(answer);	/* the first entry, which always fits */
	return answer;
}

void fiber_run(unsigned int threads, void (*body)(unsigned int thread))
{
	unsigned int i;

	fiber_asan_reset();
	fiber_body = body;
	fiber_alive = (1u << threads) - 1;
	fiber_waiting = 0;
	for (i = 0; i < threads; i++)
		switch_prepare(&fiber_table[i].context, engine_stacks[i],
			       ENGINE_STACK_BYTES, fiber_entry);
	engine.enabled = fiber_alive;
	engine.current = (uint8_t)fiber_first(threads);
	fiber_asan_leave(engine_stacks[engine.current]);
	switch_to(&fiber_main, &fiber_table[engine.current].context);
	fiber_asan_enter();
}
