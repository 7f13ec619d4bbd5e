// SPDX-License-Identifier: GPL-2.0-only
/* Which step of interchangeable threads has its turn, and who is held until then. */
#include "turns.h"

#include <string.h>

static const uint8_t turns_nobody[CR_THREADS_MAX];

bool turns_fit(const struct cr_explore *how, unsigned int threads)
{
	unsigned int t;

	for (t = 0; t < CR_THREADS_MAX; t++)
		if (how->twin[t] > t || (how->twin[t] && t >= threads))
			return false;
	return how->bound == CR_UNBOUNDED || !memcmp(how->twin, turns_nobody, sizeof(how->twin));
}

bool turns_wanted(void)
{
	return !explore_tree.turns_known &&
	       memcmp(explore_tree.how.twin, turns_nobody, sizeof(turns_nobody));
}

/* The first of the threads that can change places with that one. */
static unsigned int turns_eldest(unsigned int thread)
{
	while (explore_tree.how.twin[thread])
		thread = explore_tree.how.twin[thread] - 1u;
	return thread;
}

/* What the thread's n-th step did, or NULL. */
static const struct footprint *turns_did(unsigned int thread, unsigned int n)
{
	unsigned int depth;

	for (depth = 0; depth < explore_tree.depth; depth++) {
		const struct explore_node *node = &explore_tree.nodes[depth];

		if (node->thread == thread && node->taken[thread] + 1u == n)
			return &node->did;
	}
	return NULL;
}

/* Whether the n-th steps of all twins of that family are dependent, each on its twin's. */
static bool turns_conflict(unsigned int eldest, unsigned int n, bool *longer)
{
	unsigned int t;

	for (t = 0; t < CR_THREADS_MAX; t++) {
		const struct footprint *did, *twin;

		if (!explore_tree.how.twin[t] || turns_eldest(t) != eldest)
			continue;
		did = turns_did(t, n);
		twin = turns_did(explore_tree.how.twin[t] - 1u, n);
		if (!did || !twin) {
			*longer = false;
			return false;
		}
		if (!footprint_conflict(did, twin))
			return false;
	}
	return true;
}

bool turns_choose(void)
{
	unsigned int t, n;
	bool any = false;

	explore_tree.turns_known = 1;
	explore_tree.turns = 0;
	memset(explore_tree.turn, 0, sizeof(explore_tree.turn));
	for (t = 0; t < CR_THREADS_MAX; t++) {
		unsigned int eldest = turns_eldest(t);
		bool longer = true;

		if (!explore_tree.how.twin[t])
			continue;
		for (n = 1; longer && !explore_tree.turn[t]; n++)
			if (turns_conflict(eldest, n, &longer))
				explore_tree.turn[t] = (uint16_t)n;
		any |= explore_tree.turn[t] != 0;
	}
	explore_tree.turns = any;
	return any;
}

unsigned int turns_held(const struct explore_node *node, unsigned int threads)
{
	unsigned int held = 0;

	for (; threads; threads &= threads - 1) {
		unsigned int t = (unsigned int)__builtin_ctz(threads);
		unsigned int twin = turns_before(t, node->taken[t] + 1u);

		if (twin != POLICY_NOBODY && node->taken[twin] < explore_tree.turn[t])
			held |= 1u << t;
	}
	return held;
}
