// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fiber engine: all threads of a scenario on one OS thread, every choice
 * from the policy, so that a run is a pure function of scenario and tape.
 *
 * A thread is alive until its body returns, and enabled while alive unless it
 * waits for something that is not ready. The policy is asked only when more
 * than one thread is enabled, unless it wants to see every point. A run that is
 * stopped leaves its fibers where they are; the next run prepares their stacks
 * anew.
 */
#include "core.h"

#include "memory.h"

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

/* Ends the run, wherever its threads are. */
static _Noreturn void fiber_leave(void)
{
	struct switch_context nowhere;

	fiber_asan_leave(engine.current, NULL);
	switch_to(&nowhere, &fiber_main);
	__builtin_unreachable();
}

/* Writes the choice to the tape of a run that is recorded. */
static void fiber_record(unsigned int enabled, unsigned int from, unsigned int to)
{
	if (!engine.recording || !(enabled & (enabled - 1)))
		return;
	if (!tape_write(policy_answer(enabled, from, to)))
		engine_stop(VERDICT_OVERFLOW);
}

static unsigned int fiber_ask(unsigned int enabled, unsigned int from)
{
	if (!engine.policy->every) {
		if (!(enabled & (enabled - 1)))
			return (unsigned int)__builtin_ctz(enabled);
		if (enabled >> from & 1 && engine.steps < policy_rest)
			return from;
	}
	engine.choices++;
	return engine.policy->choose(enabled, from, engine.steps);
}

static void fiber_switch(unsigned int from, unsigned int to)
{
	engine.current = (uint8_t)to;
	fiber_asan_leave(from, engine_stacks[to]);
	switch_to(&fiber_table[from].context, &fiber_table[to].context);
	fiber_asan_enter(from);
}

/* One decision point of the running thread, which may be alone, waiting or at its end. */
static void fiber_decide(void)
{
	unsigned int enabled = fiber_waiting ? fiber_enabled() : fiber_alive;
	unsigned int from = engine.current;
	unsigned int to;

	if (engine.steps > engine.steps_max)
		engine_stop(VERDICT_STEP_LIMIT);
	engine.enabled = enabled;
	if (!enabled)
		engine_stop(VERDICT_DEADLOCK);
	to = fiber_ask(enabled, from);
	if (to == POLICY_NOBODY)
		fiber_leave();
	engine_attend();
	fiber_record(enabled, from, to);
	if (to != from)
		fiber_switch(from, to);
}

void fiber_attend(uint32_t offset, bool writes)
{
	policy_pending[engine.current] = (struct policy_pending){ offset, writes, POLICY_GOES_ON };
	fiber_decide();
}

void fiber_pass(void)
{
	unsigned int enabled = fiber_waiting ? fiber_enabled() : fiber_alive;

	fiber_record(enabled, engine.current, engine.current);
}

void fiber_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object,
		enum policy_wait wait)
{
	struct fiber *self = &fiber_table[engine.current];
	unsigned int bit = 1u << engine.current;

	if (++engine.steps < engine.attention && ready(object)) {
		take(object);
		return;
	}
	self->ready = ready;
	self->object = object;
	fiber_waiting |= bit;
	policy_pending[engine.current] = (struct policy_pending){
		(uint32_t)memory_offset(object), true, wait
	};
	fiber_decide();
	fiber_waiting &= ~bit;
	take(object);
}

_Noreturn void fiber_stop(enum verdict verdict)
{
	if (engine_is_over(verdict))
		fiber_leave();
	fiber_alive &= ~(1u << engine.current);
	if (!fiber_alive)
		fiber_leave();
	/* An oops kills its thread; the others go on, whatever it held. */
	engine.steps++;
	fiber_decide();
	__builtin_unreachable();
}

unsigned int fiber_left(void)
{
	return fiber_alive & ~fiber_enabled();
}

static void fiber_entry(void)
{
	unsigned int self = engine.current;

	fiber_asan_enter(self);
	fiber_body(self);
	fiber_alive &= ~(1u << self);
	if (fiber_alive) {
		engine.steps++;
		fiber_decide();
	}
	fiber_leave();
}

/* Who starts is a choice as well, at a point where nobody runs. */
static unsigned int fiber_first(void)
{
	unsigned int first = fiber_ask(fiber_alive, POLICY_NOBODY);

	engine_attend();
	fiber_record(fiber_alive, POLICY_NOBODY, first);
	return first;
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
	engine.current = (uint8_t)fiber_first();
	fiber_asan_leave(FIBER_ASAN_MAIN, engine_stacks[engine.current]);
	switch_to(&fiber_main, &fiber_table[engine.current].context);
	fiber_asan_enter(FIBER_ASAN_MAIN);
	fiber_asan_end();
}
