// SPDX-License-Identifier: GPL-2.0-only
/*
 * Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi and
 * Nagarakatte 2010).
 *
 * Threads get distinct ranks at random, and of the enabled ones the first in
 * rank runs. At depth - 1 steps, drawn alike from all that a run has, whoever
 * is about to go on falls behind all others. A bug of depth d is one that d
 * ordered pairs of steps bring about, whatever else happens; with n threads and
 * k steps a run of that depth meets it with probability 1/(n * k^(d - 1)) or
 * more. `pct` draws the depth once per run.
 */
#include "profile.h"
#include "random.h"

#define PCT_DEPTH_MAX	3

/* The greater one runs. Those below PCT_DEPTH_MAX belong to changes, in their order. */
static unsigned int pct_ranks[CR_THREADS_MAX];
/* The steps before which the running thread falls back; 0, which is none, if unused. */
static uint32_t pct_changes[PCT_DEPTH_MAX - 1];

static void pct_draw(uint64_t *now, unsigned int depth)
{
	unsigned int i, other;

	for (i = 0; i < profile.threads; i++) {
		other = random_below(now, i + 1);
		pct_ranks[i] = pct_ranks[other];
		pct_ranks[other] = PCT_DEPTH_MAX + i;
	}
	for (i = 0; i < PCT_DEPTH_MAX - 1; i++)
		pct_changes[i] = i + 1 < depth ? 1 + random_below(now, profile.steps) : 0;
}

static void pct_begin_at(unsigned int depth, uint64_t seed, uint64_t schedule)
{
	uint64_t now = random_state(seed, schedule);

	pct_draw(&now, depth);
}

static void pct_begin(uint64_t seed, uint64_t schedule)
{
	uint64_t now = random_state(seed, schedule);
	unsigned int depth = 1 + random_below(&now, PCT_DEPTH_MAX);

	pct_draw(&now, depth);
}

static void pct_begin_1(uint64_t seed, uint64_t schedule)
{
	pct_begin_at(1, seed, schedule);
}

static void pct_begin_2(uint64_t seed, uint64_t schedule)
{
	pct_begin_at(2, seed, schedule);
}

static void pct_begin_3(uint64_t seed, uint64_t schedule)
{
	pct_begin_at(3, seed, schedule);
}

static unsigned int pct_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	unsigned int i, first = (unsigned int)__builtin_ctz(enabled);

	for (i = 0; i < PCT_DEPTH_MAX - 1; i++)
		if (step == pct_changes[i] && current != POLICY_NOBODY)
			pct_ranks[current] = i;
	for (enabled &= enabled - 1; enabled; enabled &= enabled - 1) {
		i = (unsigned int)__builtin_ctz(enabled);
		if (pct_ranks[i] > pct_ranks[first])
			first = i;
	}
	return first;
}

#define PCT_POLICY(suffix, text)		\
const struct policy policy_pct##suffix = {	\
	.name = text,				\
	.every = true,				\
	.profiled = true,			\
	.begin = pct_begin##suffix,		\
	.choose = pct_choose,			\
}

PCT_POLICY(, "pct");
PCT_POLICY(_1, "pct-1");
PCT_POLICY(_2, "pct-2");
PCT_POLICY(_3, "pct-3");
