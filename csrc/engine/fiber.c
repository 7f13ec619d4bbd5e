// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fiber engine: all threads of a scenario on one OS thread, every choice
 * from the policy, so that a run is a pure function of scenario and tape.
 *
 * A thread is alive until its body returns, and enabled while alive unless it
 * waits for something that is not ready. The policy is asked only when more
 * than one thread is enabled, unless it wants to see every point. A run that is
 * stopped leaves its fibers where they are; the next run prepares their stacks
 * anew, unless it goes on from one of the last one's points.
 *
 * A thread that may not go on hands over to the next one. Only where a policy
 * walks are the choices made on the stack that fiber_run() was called from:
 * between two steps all fibers are at rest then, so that one step can be taken
 * back as any other.
 */
#include "core.h"

#include "fiber_asan.h"
#include "memory.h"
#include "trail.h"

struct engine_thread engine_threads[CR_THREADS_MAX];
static struct switch_context fiber_main;
static void (*fiber_body)(unsigned int thread);
static bool fiber_left_for_good;

/* Sets of threads. */
static struct fiber_sets {
	unsigned int alive;
	unsigned int waiting;
} fiber_sets;

static unsigned int fiber_enabled(void)
{
	unsigned int enabled = fiber_sets.alive;
	unsigned int waiting = fiber_sets.waiting;

	while (waiting) {
		unsigned int i = (unsigned int)__builtin_ctz(waiting);

		waiting &= waiting - 1;
		if (!engine_threads[i].ready(engine_threads[i].object))
			enabled &= ~(1u << i);
	}
	return enabled;
}

/* Ends the run, wherever its threads are: nothing on this stack matters any more. */
static _Noreturn void fiber_leave(void)
{
	struct switch_context nowhere;

	fiber_left_for_good = true;
	fiber_asan_leave(engine.current, NULL);
	switch_to(&nowhere, &fiber_main);
	__builtin_unreachable();
}

/* Writes the choice to the tape of a run that is recorded; false: that is full. */
static bool fiber_write(unsigned int enabled, unsigned int from, unsigned int to)
{
	return !engine.recording || !(enabled & (enabled - 1)) ||
	       tape_write(policy_answer(enabled, from, to));
}

static void fiber_record(unsigned int enabled, unsigned int from, unsigned int to)
{
	if (!fiber_write(enabled, from, to))
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

/* Until when points are passed over: a thread that is left alone is asked nothing more. */
static void fiber_look_away(void)
{
	if (engine.attends || fiber_sets.alive & (fiber_sets.alive - 1))
		engine_attend();
	else
		engine.attention = engine.steps_max + 1;
}

static inline __attribute__((always_inline)) void fiber_switch(unsigned int from, unsigned int to)
{
	engine.current = (uint8_t)to;
	fiber_asan_leave(from, engine_stacks[to]);
	switch_to(&engine_threads[from].context, &engine_threads[to].context);
	fiber_asan_enter(from);
}

/* To where the next step is chosen, until that is the running thread's. */
static inline __attribute__((always_inline)) void fiber_rest(void)
{
	unsigned int self = engine.current;

	fiber_asan_leave(self, NULL);
	switch_to(&engine_threads[self].context, &fiber_main);
	fiber_asan_enter(self);
}

/* One decision point of the running thread, which may be alone, waiting or at its end. */
static void fiber_decide(void)
{
	unsigned int enabled, from = engine.current, to;

	if (engine.policy->walks) {
		fiber_rest();
		return;
	}
	enabled = fiber_sets.waiting ? fiber_enabled() : fiber_sets.alive;
	if (engine.steps > engine.steps_max)
		engine_stop(VERDICT_STEP_LIMIT);
	engine.enabled = enabled;
	if (!enabled)
		engine_stop(VERDICT_DEADLOCK);
	to = fiber_ask(enabled, from);
	fiber_look_away();
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
	unsigned int enabled = fiber_sets.waiting ? fiber_enabled() : fiber_sets.alive;

	fiber_record(enabled, engine.current, engine.current);
}

void fiber_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object,
		enum policy_wait wait)
{
	struct engine_thread *self = &engine_threads[engine.current];
	unsigned int bit = 1u << engine.current;

	if (++engine.steps < engine.attention && ready(object)) {
		take(object);
		return;
	}
	self->ready = ready;
	self->object = object;
	fiber_sets.waiting |= bit;
	policy_pending[engine.current] = (struct policy_pending){
		(uint32_t)memory_offset(object), true, wait
	};
	fiber_decide();
	fiber_sets.waiting &= ~bit;
	trail_save_range(object, sizeof(int));
	take(object);
}

_Noreturn void fiber_stop(enum verdict verdict)
{
	if (engine_is_over(verdict))
		fiber_leave();
	fiber_sets.alive &= ~(1u << engine.current);
	if (!fiber_sets.alive)
		fiber_leave();
	/* An oops kills its thread; the others go on, whatever it held. */
	engine.steps++;
	fiber_decide();
	__builtin_unreachable();
}

unsigned int fiber_left(void)
{
	return fiber_sets.alive & ~fiber_enabled();
}

static void fiber_entry(void)
{
	unsigned int self = engine.current;

	fiber_asan_enter(self);
	fiber_body(self);
	fiber_sets.alive &= ~(1u << self);
	if (fiber_sets.alive) {
		engine.steps++;
		fiber_decide();
	}
	fiber_leave();
}

static inline __attribute__((always_inline)) void fiber_go_on(unsigned int thread)
{
	engine.current = (uint8_t)thread;
	fiber_asan_leave(FIBER_ASAN_MAIN, engine_stacks[thread]);
	switch_to(&fiber_main, &engine_threads[thread].context);
	fiber_asan_enter(FIBER_ASAN_MAIN);
}

/*
 * What a step changes of the thread that takes it. Without its stack,
 * or with what AddressSanitizer knows of it, nothing can be taken back.
 */
static void fiber_save(unsigned int thread)
{
#if FIBER_ASAN || !defined(SWITCH_STACK)
	(void)thread;
	trail.torn = true;
#else
	char *stack = engine_threads[thread].context.sp;

	trail_save(&fiber_sets, sizeof(fiber_sets));
	trail_save(&policy_pending[thread], sizeof(policy_pending[0]));
	trail_save_stack(thread, stack, (size_t)(engine_stacks[thread + 1] - stack));
#endif
}

/* The choice of the next step, or POLICY_NOBODY if there is none. */
static unsigned int fiber_next(unsigned int from)
{
	unsigned int to;

	engine.enabled = fiber_enabled();
	if (engine.steps > engine.steps_max || !engine.enabled) {
		engine_note(engine.enabled ? VERDICT_STEP_LIMIT : VERDICT_DEADLOCK);
		return POLICY_NOBODY;
	}
	engine.choices++;
	to = engine.policy->choose(engine.enabled, from, engine.steps);
	if (to != POLICY_NOBODY && !fiber_write(engine.enabled, from, to)) {
		engine_note(VERDICT_OVERFLOW);
		return POLICY_NOBODY;
	}
	return to;
}

static void fiber_walk(unsigned int from)
{
	unsigned int to;

	while (!fiber_left_for_good && (to = fiber_next(from)) != POLICY_NOBODY) {
		fiber_save(to);
		fiber_go_on(to);
		from = to;
	}
}

static void fiber_prepare(unsigned int threads)
{
	unsigned int i;

	fiber_sets.alive = (1u << threads) - 1;
	fiber_sets.waiting = 0;
	for (i = 0; i < threads; i++)
		switch_prepare(&engine_threads[i].context, engine_stacks[i],
			       ENGINE_STACK_BYTES, fiber_entry);
}

/* Who starts is a choice as well, at a point where nobody runs. */
static void fiber_start(void)
{
	unsigned int first = fiber_ask(fiber_sets.alive, POLICY_NOBODY);

	engine.enabled = fiber_sets.alive;
	fiber_look_away();
	if (!fiber_write(fiber_sets.alive, POLICY_NOBODY, first))
		engine_note(VERDICT_OVERFLOW);
	else
		fiber_go_on(first);
}

void fiber_run(unsigned int threads, void (*body)(unsigned int thread))
{
	fiber_asan_reset();
	fiber_body = body;
	fiber_left_for_good = false;
	if (!trail.kept)
		fiber_prepare(threads);
	if (engine.policy->walks)
		fiber_walk(trail.kept ? trail.current : POLICY_NOBODY);
	else
		fiber_start();
	fiber_asan_end();
}
