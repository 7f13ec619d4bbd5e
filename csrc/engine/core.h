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
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "policy.h"
#include "switch.h"
#include "unordered.h"

struct engine_state {
	bool active;
	/* How the run was asked for. */
	uint8_t kind;			/* CR_ENGINE_* */
	bool reduced;			/* points only at synchronisation and promoted accesses */
	bool releases;			/* and at every release, tried lock or not */
	bool recording;			/* the tape is written, for a run at every access */
	bool survives;			/* a stop ends its thread only: see engine_is_over() */
	bool trace_full;
	bool count_pairs;		/* interleaving counters for a fuzzer */
	bool explores;			/* footprints of the steps */
	bool classes;			/* the hash of the happens-before class */
	bool hashes;			/* the same, of an exploration */
	bool detects;			/* races and lock rules */
	uint32_t judged;		/* verdicts: a rule that is not among them stops nobody */
	uint32_t steps_max;
	uint32_t lean_bytes;		/* of the data whose accesses engine_lean() may do, or 0 */
	uint32_t step_bytes;		/* the same of engine_lean_step() */
	uint64_t seed;			/* of the thread engine's noise */
	uint64_t schedule;
	const struct policy *policy;
	/* Derived when the run begins. */
	bool observes;			/* anything that looks at single accesses */
	bool only_explores;		/* nothing but an exploration does */
	bool attends;			/* every point is a decision, whatever policy_rest says */
	bool leans;			/* the fiber engine, and nobody looks at single accesses */
	/* While it runs: ENGINE_NOW_BYTES. */
	uint32_t steps;
	uint32_t attention;		/* the first step that is not passed over */
	uint32_t choices;		/* times the policy was asked */
	uint32_t verdict;		/* why the run was stopped, or VERDICT_OK; and */
	uint32_t events;		/* length of the trace when it was stopped */
	uint32_t marks;
	unsigned int enabled;		/* at the last decision */
	uint8_t current;		/* fiber engine: the running thread */
	bool reuses;			/* memory was allocated for the second time */
};

#define ENGINE_NOW_BYTES	(sizeof(struct engine_state) - offsetof(struct engine_state, steps))

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct engine_state engine;

/*
 * What is known of a thread of the fiber engine. It changes only while that thread goes
 * on, and so it is taken back with the thread's stack: see trail.h.
 */
struct engine_thread {
	struct unordered_clock known;		/* see unordered.c */
	struct switch_context context;
	bool (*ready)(const void *object);	/* NULL: it never waited */
	const void *object;
} __attribute__((aligned(64)));
extern struct engine_thread engine_threads[CR_THREADS_MAX];

/* Runs body(0) .. body(threads - 1) as threads until all end or one stops. */
void engine_run(unsigned int threads, void (*body)(unsigned int thread));

/* Until when points are passed over, after the policy was asked. */
static inline void engine_attend(void)
{
	if (engine.attends)
		engine.attention = 0;
	else if (policy_rest <= engine.steps_max)
		engine.attention = policy_rest;
	else
		engine.attention = engine.steps_max + 1;
}

/* Whether the verdict ends the whole run, not only the thread that met it. */
static inline bool engine_is_over(enum verdict verdict)
{
	return !engine.survives || verdict == VERDICT_DEADLOCK ||
	       verdict == VERDICT_STEP_LIMIT || verdict == VERDICT_OVERFLOW;
}

/* Why the run ends, if nothing else was before; for who leaves by himself. */
void engine_note(enum verdict verdict);

/* A rule of a detector is broken, without which the run would go on. */
static inline void engine_broken(enum verdict rule)
{
	if (engine.judged >> rule & 1)
		engine_stop(rule);
}

/* The two engines; engine.c chooses by engine.kind. */
void fiber_run(unsigned int threads, void (*body)(unsigned int thread));
/* A point that is not passed over: the running thread is about to touch `offset`. */
void fiber_attend(uint32_t offset, bool writes);
/* No point in this run, but one in a run at every access: the tape has it. */
void fiber_pass(void);
void fiber_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object,
		enum policy_wait wait);
/* After a run: the threads that wait for what is not there. */
unsigned int fiber_left(void);
_Noreturn void fiber_stop(enum verdict verdict);

void thread_run(unsigned int threads, void (*body)(unsigned int thread));
/* Rounds from now on: which thread runs from each decision on; 0: as the machine likes. */
void thread_force(const uint8_t *threads, size_t count);
void thread_point(void);
/* Leaves the others excluded, so that what looks on sees the wait's end at once. */
void thread_wait(bool (*ready)(const void *object), void (*take)(void *object), void *object);
_Noreturn void thread_stop(void);
unsigned int thread_self(void);
void thread_exclude(bool begin);

/* Stacks: the fibers' first, then the pthreads', which live on between runs. */
#ifdef CR_TSAN	/* which keeps its own things there */
#define ENGINE_STACK_BYTES	(4 << 20)
#elif defined(__x86_64__)
#define ENGINE_STACK_BYTES	65536
#else	/* pthreads take no less than 128 KB on some machines, aarch64 for one */
#define ENGINE_STACK_BYTES	262144
#endif
extern char engine_stacks[2 * CR_THREADS_MAX][ENGINE_STACK_BYTES];

#pragma GCC visibility pop
#endif
