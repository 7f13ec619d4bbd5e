/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What run.c and the engines share: the state of the one run that this
 * process is in, and the functions each engine supplies.
 *
 * Invariants: `active` is true only while threads of a scenario run;
 * `verdict` is written once, by whoever stops the run first.
 */
#ifndef ENGINE_CORE_H
#define ENGINE_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "policy.h"

struct engine_state {
	bool active;
	bool trace_full;
	bool observes;			/* trace_full or count_pairs */
	bool count_pairs;		/* interleaving counters for a fuzzer */
	uint8_t kind;			/* CR_ENGINE_* */
	uint8_t current;		/* fiber engine: the running thread */
	uint32_t steps;
	uint32_t steps_max;
	uint32_t verdict;		/* why the run was stopped, or VERDICT_OK */
	uint32_t marks;
	unsigned int enabled;		/* at the last decision point */
	uint64_t seed;			/* of the thread engine's noise */
	uint64_t schedule;
	const struct policy *policy;
};

extern struct engine_state engine;

/* Runs body(0) .. body(threads - 1) as threads until all end or one stops. */
void engine_run(unsigned int threads, void (*body)(unsigned int thread));

/* The number of the thread that asks. */
unsigned int engine_self(void);

/* The two engines; engine.c chooses by engine.kind. */
void fiber_run(unsigned int threads, void (*body)(unsigned int thread));
void fiber_point(void);
void fiber_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object);
_Noreturn void fiber_stop(void);

void thread_run(unsigned int threads, void (*body)(unsigned int thread));
void thread_point(void);
void thread_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object);
_Noreturn void thread_stop(void);
unsigned int thread_self(void);
void thread_exclude(bool begin);

/* Stacks: the fibers' first, then the pthreads', which live on between runs. */
#define ENGINE_STACK_BYTES	65536
extern char engine_stacks[2 * CR_THREADS_MAX][ENGINE_STACK_BYTES];

#endif
