/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Exhaustive search over the schedules of one scenario: a policy that walks
 * the tree of all choices, and prunes it to one execution per happens-before
 * class. explore.c walks, order.c decides what has to be walked.
 *
 * One execution is a run with policy_explore, then explore_end(). The next one
 * is set up by explore_next(), until that says that none is left.
 */
#ifndef ENGINE_EXPLORE_H
#define ENGINE_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "footprint.h"
#include "policy.h"

#define EXPLORE_DEPTH_MAX	1024
#define EXPLORE_WAITABLES_MAX	64

/* How an execution ended. */
enum explore_end {
	EXPLORE_COMPLETE,
	EXPLORE_BLOCKED,	/* everything that could go on was explored elsewhere */
	EXPLORE_CUT,		/* another part's */
	EXPLORE_REPEAT,		/* a new word is waited for: the same once more, watching it */
	EXPLORE_ANEW,		/* what a step is has changed: begin anew */
	EXPLORE_TURNS,		/* whose turn comes first was not decided: now it is */
};

/* Some of the words that threads wait for. */
#define EXPLORE_LANES	8

struct explore_words {
	int16_t before[EXPLORE_LANES];	/* what they contain before the step */
	int16_t changes[EXPLORE_LANES];	/* by the thread's steps, up to this one */
};

/*
 * A node of the tree, and the step that the current execution takes there. Sets
 * of threads are bit sets. Nodes above `fresh` keep what they have from one
 * execution to the next; a step of them was seen before.
 *
 * Three lines of a cache have all that most steps need, and two of them what order.c
 * asks, as long as a footprint needs one word, and waitables one block.
 */
struct explore_node {
	uint16_t clock[CR_THREADS_MAX]	/* of each thread, steps it happens after, or is */
		__attribute__((aligned(64)));
	struct footprint_sum sum;	/* of what the step did */
	uint64_t order;			/* hash of the clocks of all steps up to this one */
	uint8_t thread;
	uint8_t wait;			/* enum policy_wait: how the step begins */
	uint8_t waitable;		/* and for which one */
	uint8_t enabled;		/* without those that are held */
	uint8_t sleep;			/* explored before, and nothing since then minds */
	uint8_t woken;			/* of those whom the step minds */
	uint8_t done;			/* explored from here */
	uint8_t wanted;			/* to be explored from here */
	struct footprint did;		/* by the step */
	uint16_t sleep_from[CR_THREADS_MAX];	/* the node where it was explored */
	uint16_t taken[CR_THREADS_MAX];	/* steps of each thread before it */
	uint8_t before;			/* who ran before it, POLICY_NOBODY at the root */
	uint8_t preemptions;		/* before it */
	uint8_t held;			/* could go on, and it is not their turn: see turns.h */
	uint8_t assumed;		/* see order.c */
	uint8_t alternative[CR_THREADS_MAX];
	struct explore_words words[EXPLORE_WAITABLES_MAX / EXPLORE_LANES];
	struct footprint child[CR_THREADS_MAX];	/* what each thread in `done` did */
	struct footprint assume[CR_THREADS_MAX];
};

/* Plain data: what is saved is this up to the last node that is in use. */
struct explore_tree {
	uint32_t depth;			/* steps of the current execution */
	uint32_t fixed;			/* steps that are set beforehand: down to the branch */
	uint32_t fresh;			/* the first step that was not seen before: the branch */
	uint8_t waitables;
	uint8_t ended;			/* enum explore_end */
	uint8_t learned;		/* a new waitable was met */
	uint8_t looks;			/* it is watched in steps that were seen before, too */
	uint8_t turns_known;
	uint8_t turns;			/* there are any */
	uint8_t left_waiting;		/* threads that wait at the end of the execution */
	uint8_t waits[CR_THREADS_MAX];	/* enum policy_wait of those */
	uint8_t waits_for[CR_THREADS_MAX];
	uint16_t waitable_offset[EXPLORE_WAITABLES_MAX];	/* in units of a place */
	uint16_t turn[CR_THREADS_MAX];	/* see turns.h */
	struct cr_explore how;
	struct explore_node nodes[EXPLORE_DEPTH_MAX];
};

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct explore_tree explore_tree;
extern const struct policy policy_explore;

void explore_begin(const struct cr_explore *how);
enum explore_end explore_end(void);
bool explore_next(void);
/* Runs the execution that just ended once more, step for step. */
void explore_repeat(void (*run)(void));
/* Names its happens-before class, where order.c looked at it. */
uint64_t explore_class(void);
/* Switches of that execution from a thread that could have gone on. */
unsigned int explore_preemptions(void);

#pragma GCC visibility pop
#endif
