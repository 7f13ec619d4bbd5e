// SPDX-License-Identifier: GPL-2.0-only
/*
 * A greedy order, once from each thread; the best is kept. A step can come as
 * soon as all that happens before it has come. To leave a thread whose next step
 * waits is taken for no preemption: what the class has to come before it is
 * what it waits for, mostly.
 */
#include "simpler.h"

#include <string.h>

#include "explore.h"

struct simpler_order {
	uint8_t threads[EXPLORE_DEPTH_MAX];
	unsigned int steps;
	unsigned int preemptions;
};

static struct simpler_order simpler_best, simpler_tried;
/* Where the n-th step of each thread is in the execution. */
static uint16_t simpler_steps[CR_THREADS_MAX][EXPLORE_DEPTH_MAX];
static unsigned int simpler_counts[CR_THREADS_MAX];

static unsigned int simpler_preemptions;
static bool simpler_failed;

static bool simpler_can(unsigned int thread, const unsigned int done[CR_THREADS_MAX])
{
	const struct explore_node *node;
	unsigned int t;

	if (done[thread] == simpler_counts[thread])
		return false;
	node = &explore_tree.nodes[simpler_steps[thread][done[thread]]];
	for (t = 0; t < CR_THREADS_MAX; t++)
		if (t != thread && node->clock[t] > done[t])
			return false;
	return true;
}

/* The running thread if it can, else the next one that can. */
static unsigned int simpler_next(unsigned int thread, const unsigned int done[CR_THREADS_MAX])
{
	while (!simpler_can(thread, done))
		thread = (thread + 1) % CR_THREADS_MAX;
	return thread;
}

static void simpler_try(unsigned int first)
{
	unsigned int done[CR_THREADS_MAX] = { 0 }, thread = first, next;

	simpler_tried.preemptions = 0;
	for (simpler_tried.steps = 0; simpler_tried.steps < explore_tree.depth;) {
		next = simpler_next(thread, done);
		if (next != thread && done[thread] && done[thread] < simpler_counts[thread] &&
		    explore_tree.nodes[simpler_steps[thread][done[thread]]].wait == POLICY_GOES_ON)
			simpler_tried.preemptions++;
		thread = next;
		done[thread]++;
		simpler_tried.threads[simpler_tried.steps++] = (uint8_t)thread;
	}
}

unsigned int simpler_find(void)
{
	unsigned int depth, first;

	memset(simpler_counts, 0, sizeof(simpler_counts));
	for (depth = 0; depth < explore_tree.depth; depth++) {
		unsigned int t = explore_tree.nodes[depth].thread;

		simpler_steps[t][simpler_counts[t]++] = (uint16_t)depth;
	}
	simpler_best.preemptions = EXPLORE_DEPTH_MAX;
	for (first = 0; first < CR_THREADS_MAX && simpler_best.preemptions; first++) {
		if (!simpler_counts[first])
			continue;
		simpler_try(first);
		if (simpler_tried.preemptions < simpler_best.preemptions)
			simpler_best = simpler_tried;
	}
	return simpler_best.preemptions;
}

static void simpler_begin(uint64_t seed, uint64_t schedule)
{
	(void)seed;
	(void)schedule;
	simpler_preemptions = 0;
	simpler_failed = false;
}

static unsigned int simpler_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	unsigned int thread = step < simpler_best.steps ? simpler_best.threads[step] : 0;

	if (!(enabled >> thread & 1)) {
		simpler_failed = true;
		thread = (unsigned int)__builtin_ctz(enabled);
	}
	if (current != POLICY_NOBODY && thread != current && enabled >> current & 1)
		simpler_preemptions++;
	return thread;
}

const struct policy policy_simpler = {
	.name = "simpler",
	.every = true,
	.begin = simpler_begin,
	.choose = simpler_choose,
};

bool simpler_ran(unsigned int *preemptions)
{
	*preemptions = simpler_preemptions;
	return !simpler_failed;
}
