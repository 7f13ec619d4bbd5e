// SPDX-License-Identifier: GPL-2.0-only
/*
 * Selectively uniform random walk (Zhao, Wolff, Mathur and Roychoudhury 2025).
 *
 * A run cares for one shared place, drawn alike from those of the profile. Who
 * makes the next access to it is drawn beforehand, with a probability
 * proportional to how many accesses each thread still has: then all orders of
 * these accesses are equally likely, however many steps lie between them. The
 * other threads are held back just before theirs. Where this leaves a choice,
 * the running thread goes on and gives way with probability 2^-k; k, from 3 to
 * 8, is drawn once per run. It is rarer than in `random`, because what is held
 * back gives way as well.
 *
 * The counts are estimates, and whoever is to come next may wait for a lock of
 * a thread that is held back. So where all who can go on are held back, one of
 * them is drawn instead, and a living thread always counts for something.
 */
#include "profile.h"
#include "random.h"

#define SURW_KIND_MIN	3
#define SURW_KINDS	6

static uint64_t surw_now;
static unsigned int surw_kind;
static uint32_t surw_place;			/* POLICY_NOWHERE: nothing is shared */
/* Accesses that are left, in units of 1 / PROFILE_RUNS; never 0. */
static uint32_t surw_left[CR_THREADS_MAX];
static unsigned int surw_alive;
static unsigned int surw_next;			/* who makes the next access */

/* One of a set of threads, by the accesses that they have left. */
static unsigned int surw_draw(unsigned int threads)
{
	uint32_t total = 0, drawn;
	unsigned int set, thread;

	for (set = threads; set; set &= set - 1)
		total += surw_left[__builtin_ctz(set)];
	drawn = random_below(&surw_now, total);
	for (set = threads; set; set &= set - 1) {
		thread = (unsigned int)__builtin_ctz(set);
		if (drawn < surw_left[thread])
			return thread;
		drawn -= surw_left[thread];
	}
	return POLICY_NOBODY;
}

static void surw_begin(uint64_t seed, uint64_t schedule)
{
	unsigned int i;

	policy_nobody_pends();
	surw_now = random_state(seed, schedule);
	surw_kind = SURW_KIND_MIN + random_below(&surw_now, SURW_KINDS);
	surw_place = POLICY_NOWHERE;
	if (profile.shared)
		surw_place = profile.shared_places[random_below(&surw_now, profile.shared)];
	surw_alive = (1u << profile.threads) - 1;
	for (i = 0; i < profile.threads; i++) {
		surw_left[i] = profile.shared ? profile.places[surw_place].counts[i] : 0;
		surw_left[i] += !surw_left[i];
	}
	surw_next = surw_draw(surw_alive);
}

static bool surw_cares(unsigned int thread)
{
	return policy_pends(thread) && policy_pending[thread].offset / MEMORY_GRAIN == surw_place;
}

/* What the running thread's end changes. */
static void surw_bury(unsigned int thread)
{
	surw_alive &= ~(1u << thread);
	if (surw_next == thread)
		surw_next = surw_draw(surw_alive);
}

/* Those of the enabled threads that are not held back, which somebody always is. */
static unsigned int surw_free(unsigned int enabled)
{
	unsigned int set, thread, held = 0;

	for (set = enabled; set; set &= set - 1) {
		thread = (unsigned int)__builtin_ctz(set);
		if (thread != surw_next && surw_cares(thread))
			held |= 1u << thread;
	}
	if (held != enabled)
		return enabled & ~held;
	surw_next = surw_draw(held);
	return 1u << surw_next;
}

/* The running thread, or another one with probability 2^-k if there is a choice. */
static unsigned int surw_walk(unsigned int free, unsigned int current)
{
	unsigned int others = free & ~(1u << current);

	if (others != free && (!others || random_draw(&surw_now) >> (32 - surw_kind)))
		return current;
	return policy_thread(others, current, random_below(&surw_now, policy_count(others)));
}

static unsigned int surw_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	unsigned int thread;

	(void)step;
	if (current != POLICY_NOBODY && !policy_pends(current))
		surw_bury(current);
	thread = surw_walk(surw_free(enabled), current);
	if (surw_cares(thread)) {
		if (surw_left[thread] > PROFILE_RUNS)
			surw_left[thread] -= PROFILE_RUNS;
		else
			surw_left[thread] = 1;
		surw_next = surw_draw(surw_alive);
	}
	policy_goes_on(thread);
	return thread;
}

const struct policy policy_surw = {
	.name = "surw",
	.every = true,
	.profiled = true,
	.begin = surw_begin,
	.choose = surw_choose,
};
