/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A policy decides which thread goes on at a decision point, and its decisions
 * are the tape: answer i is the i-th enabled thread counting from the running
 * one upwards, cyclically. 0 goes on with the running thread, or takes the next
 * one if the running thread cannot go on.
 *
 * A policy that wants nothing for a while says so in policy_rest: at steps
 * below it a running thread that can go on does so unasked. That is what makes
 * a decision point cost two instructions.
 *
 * A new policy is one file and one row in policy.c.
 */
#ifndef ENGINE_POLICY_H
#define ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

#define POLICY_NOBODY	CR_THREADS_MAX	/* no thread is running: the first choice */

struct policy {
	const char *name;
	/* At each point, even where one thread alone is enabled, and blind to policy_rest. */
	bool every;
	/* Every point is one, and between two of them all threads are at rest: see trail.h. */
	bool walks;
	/* It reads the profile of the scenario: see profile.h. */
	bool profiled;
	void (*begin)(uint64_t seed, uint64_t schedule);
	/*
	 * One of the bit set `enabled`; `current` is not in it if it cannot go on. One
	 * that walks may answer POLICY_NOBODY, which ends the run.
	 */
	unsigned int (*choose)(unsigned int enabled, unsigned int current, uint32_t step);
};

/* The first step at which the policy wants to be asked; it sets this at will. */
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern uint32_t policy_rest;

/*
 * What each thread is about to do: the offset of its next access, and whether
 * it may write. Kept only at points at which the policy is asked.
 */
enum policy_wait { POLICY_GOES_ON, POLICY_WAITS, POLICY_WAITS_SHARED, POLICY_WAITS_ZERO };

struct policy_pending {
	uint32_t offset;
	bool writes;
	uint8_t wait;		/* enum policy_wait: for the word there */
};
extern struct policy_pending policy_pending[CR_THREADS_MAX];

/*
 * For policies that are asked at every point and read policy_pending. Between
 * the two calls below a thread has nothing pending: nor has one that has not
 * started, or that has ended.
 */
#define POLICY_NOWHERE	0xffffffffu

static inline bool policy_pends(unsigned int thread)
{
	return policy_pending[thread].offset != POLICY_NOWHERE;
}

/* In begin(). */
static inline void policy_nobody_pends(void)
{
	unsigned int i;

	for (i = 0; i < CR_THREADS_MAX; i++)
		policy_pending[i].offset = POLICY_NOWHERE;
}

/* In choose(), of the thread chosen: what was pending happens now. */
static inline void policy_goes_on(unsigned int thread)
{
	policy_pending[thread].offset = POLICY_NOWHERE;
}

/* The policy of that number (CR_POLICY_*), or NULL. */
const struct policy *policy_get(unsigned int number);

extern const struct policy policy_tape;
extern const struct policy policy_random;
extern const struct policy policy_uniform;
extern const struct policy policy_pct;
extern const struct policy policy_pct_1;
extern const struct policy policy_pct_2;
extern const struct policy policy_pct_3;
extern const struct policy policy_surw;

/* What the policy `tape` answers with, and the tape that the run wrote. */
void tape_load(const uint8_t *answers, size_t length);
/* Forgets what was written, and reads the loaded tape from its start. */
void tape_rewind(void);
extern uint8_t tape_out[CR_TAPE_MAX];
extern size_t tape_out_length;

/* False: the tape is full. */
static inline bool tape_write(unsigned int answer)
{
	if (tape_out_length == CR_TAPE_MAX)
		return false;
	tape_out[tape_out_length++] = (uint8_t)answer;
	return true;
}

const uint8_t *tape_written(size_t *length);

/* Without a special instruction gcc calls a function for __builtin_popcount. */
static inline unsigned int policy_count(unsigned int set)
{
	static const uint8_t bits[16] = { 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4 };

	return (unsigned int)bits[set & 15] + bits[set >> 4 & 15];
}

/* `enabled` turned so that the running thread is bit 0. */
static inline unsigned int policy_ring(unsigned int enabled, unsigned int current)
{
	return (enabled >> current | enabled << (CR_THREADS_MAX - current)) &
	       ((1u << CR_THREADS_MAX) - 1);
}

/* The thread that an answer means. */
static inline unsigned int policy_thread(unsigned int enabled, unsigned int current,
					 unsigned int answer)
{
	unsigned int ring = policy_ring(enabled, current);

	for (; answer; answer--)
		ring &= ring - 1;
	return (current + (unsigned int)__builtin_ctz(ring)) % CR_THREADS_MAX;
}

/* The answer that means a thread. */
static inline unsigned int policy_answer(unsigned int enabled, unsigned int current,
					 unsigned int thread)
{
	unsigned int distance = (thread - current) % CR_THREADS_MAX;

	return policy_count(policy_ring(enabled, current) & ((1u << distance) - 1));
}

#pragma GCC visibility pop
#endif
