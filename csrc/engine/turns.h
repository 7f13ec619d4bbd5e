/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Symmetry inside of a scenario. Threads that do the same on objects of the same
 * kind are interchangeable: to rename them in an execution gives another one,
 * with the same verdicts under other names. So of each set of them only the
 * executions are explored in which a certain step of theirs, its turn, comes in
 * the order of their numbers.
 *
 * That loses nothing, whichever step it is, as long as it is the same one of
 * each. Take any execution and rename the threads in the order in which
 * they take that step; those that never do are last. The result is an execution
 * that is explored. It is as if the step waited for the twin's, so a step of a
 * thread that is held happens after the one it waits for, and an execution in
 * which nobody but threads that are held could go on is given up: it is the
 * beginning of others.
 *
 * A step is counted by decision points, so twins must have the same ones: where
 * any lock was tried, every release is a point (exploring.c).
 *
 * The step is chosen so that much is gained: the first one that conflicts with
 * the same step of the twin. Where that is so in every execution, of two twins
 * half of the classes are explored, and of three a sixth.
 */
#ifndef ENGINE_TURNS_H
#define ENGINE_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#include "explore.h"

/* Whether the arguments name each twin after the one before it. */
bool turns_fit(const struct cr_explore *how, unsigned int threads);
/* Whether turns have to be chosen first, from a complete execution. */
bool turns_wanted(void);
/* Chooses them from the execution that just ended; false: there are none. */
bool turns_choose(void);
/* Those of a set of threads that have to let their twin go first at that node. */
unsigned int turns_held(const struct explore_node *node, unsigned int threads);

/* The thread whose turn has to come before that step, the thread's n-th from 1, or NOBODY. */
static inline unsigned int turns_before(unsigned int thread, unsigned int n)
{
	if (!explore_tree.turn[thread] || explore_tree.turn[thread] != n ||
	    !explore_tree.how.twin[thread])
		return POLICY_NOBODY;
	return explore_tree.how.twin[thread] - 1u;
}

#endif
