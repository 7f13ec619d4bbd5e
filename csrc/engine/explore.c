// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks the tree of schedules depth first.
 *
 * A step is what one thread does from one decision point to the next. An
 * execution goes on from the node where it branches off, takes a wanted thread
 * there, and goes on as it likes: the steps before that node stand as the last
 * execution left them (trail.h). Afterwards order.c adds to `wanted` of the
 * nodes above it the threads whose turn there would reverse two dependent steps
 * (source sets: Abdulla, Aronis, Jonsson and Sagonas 2014). A thread whose
 * subtree is done sleeps in the later subtrees of that node until a step is
 * dependent on its own: what it could do before that was explored already. An
 * execution in which only sleeping threads could go on is given up.
 *
 * Every interleaving (CR_EXPLORE_DFS) is the same walk in which all enabled
 * threads are wanted and nobody sleeps. Above the depth `split` all enabled
 * threads are wanted as well; so the subtrees there are known beforehand, and
 * can be divided among processes.
 */
#include "explore.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "core.h"
#include "memory.h"
#include "order.h"
#include "places.h"
#include "random.h"
#include "trace.h"
#include "trail.h"
#include "turns.h"
#include "unordered.h"

struct explore_tree explore_tree;

/* Where each step begins in the log and in the trace. */
static struct explore_log {
	struct trail_mark mark;
	size_t events;
} explore_logs[EXPLORE_DEPTH_MAX];

void explore_begin(const struct cr_explore *how)
{
	memset(&explore_tree, 0, offsetof(struct explore_tree, nodes));
	explore_tree.how = *how;
	trail.kept = 0;
	places.sections = how->sections != 0;
	places_reset(false);
}

/* Where the low half of an int stands in it. */
#define EXPLORE_LOW_HALF (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? sizeof(int) / 2 : 0)

/*
 * What the words that threads wait for contain: locks and counts, which are small.
 * A lock that was freed while it was held keeps those who wait for it waiting.
 * A block of them is looked at as a whole: what is not in use repeats the last one.
 */
static inline void explore_look(struct explore_node *node)
{
	const uint16_t *at = explore_tree.waitable_offset, *end = at + explore_tree.waitables;
	struct explore_words *words = node->words;
	unsigned int i;

	for (; at < end; at += EXPLORE_LANES, words++)
#pragma GCC unroll 8
		for (i = 0; i < EXPLORE_LANES; i++)
			memcpy(&words->before[i],
			       __start_cr_kdata + (size_t)at[i] * MEMORY_GRAIN + EXPLORE_LOW_HALF,
			       sizeof(words->before[i]));
}

/* What memory that is free at the start contains is left over from another execution. */
static void explore_clear_words(void)
{
	unsigned int i;

	for (i = 0; i < explore_tree.waitables; i++) {
		size_t offset = (size_t)explore_tree.waitable_offset[i] * MEMORY_GRAIN;

		if (memory_state[offset / MEMORY_UNIT] != MEMORY_USABLE)
			memset(__start_cr_kdata + offset, 0, sizeof(int));
	}
}

/* The number of the word at that offset; new ones make what is known of older steps incomplete. */
static unsigned int explore_waitable(uint32_t offset)
{
	uint16_t place = (uint16_t)(offset / MEMORY_GRAIN);
	unsigned int i, rest;

	for (i = 0; i < explore_tree.waitables; i++)
		if (explore_tree.waitable_offset[i] == place)
			return i;
	if (i == EXPLORE_WAITABLES_MAX) {
		places.aliases = 1;
		engine_note(VERDICT_OVERFLOW);
		return 0;
	}
	explore_tree.waitables++;
	for (rest = i; rest < EXPLORE_WAITABLES_MAX; rest++)
		explore_tree.waitable_offset[rest] = place;
	explore_tree.learned = 1;
	return i;
}

/* How the thread's next step begins: with a wait for which word, if any. */
static enum policy_wait explore_wait(unsigned int thread, unsigned int *waitable)
{
	const struct policy_pending *pending = &policy_pending[thread];

	*waitable = 0;
	if (pending->wait == POLICY_GOES_ON ||
	    (places.sections && memory_is_section(pending->offset)))
		return POLICY_GOES_ON;
	*waitable = explore_waitable(pending->offset);
	return pending->wait;
}

/* Steps that are repeated leave their footprints here, since they are known. */
static struct footprint explore_nothing;

/* The step at the deepest node is over: who sleeps at the next one? */
static inline void explore_finish(void)
{
	unsigned int depth, sleeping;
	struct explore_node *node, *next;

	if (places_step.did == &explore_nothing)
		return;
	places_step.did = &explore_nothing;
	depth = explore_tree.depth - 1;
	node = &explore_tree.nodes[depth];
	next = node + 1;
	node->sum = footprint_sum(&node->did);
	if (depth + 1 == EXPLORE_DEPTH_MAX)
		return;
	sleeping = (node->sleep | node->done) & ~(1u << node->thread);
	next->sleep = 0;
	node->woken = 0;
	for (; sleeping; sleeping &= sleeping - 1) {
		unsigned int q = (unsigned int)__builtin_ctz(sleeping);
		unsigned int from = node->done >> q & 1 ? depth : node->sleep_from[q];

		if (footprint_conflict(&explore_tree.nodes[from].child[q], &node->did)) {
			node->woken |= (uint8_t)(node->sleep & 1u << q);
			continue;
		}
		next->sleep |= (uint8_t)(1u << q);
		next->sleep_from[q] = (uint16_t)from;
	}
}

/* Threads that a switch may go to without more preemptions than are allowed. */
static unsigned int explore_allowed(const struct explore_node *node)
{
	if (node->preemptions < explore_tree.how.bound || !(node->enabled >> node->before & 1))
		return node->enabled;
	return 1u << node->before;
}

static bool explore_is_mine(void)
{
	uint64_t path = 0;
	unsigned int i;

	if (explore_tree.how.parts < 2 || explore_tree.depth != explore_tree.how.split ||
	    turns_wanted())
		return true;
	for (i = 0; i < explore_tree.depth; i++)
		path = random_spread(path + explore_tree.nodes[i].thread + 1);
	return path % explore_tree.how.parts == explore_tree.how.part;
}

/*
 * Which of them goes on where none was explored: what is found does not depend on it,
 * but with one order everywhere fewer executions are given up.
 */
static unsigned int explore_pick(unsigned int candidates)
{
	uint64_t left;

	if (!explore_tree.how.order)
		return 31 - (unsigned int)__builtin_clz(candidates);
	left = random_spread(random_spread(explore_tree.how.order) + explore_tree.depth) %
	       policy_count(candidates);
	for (; left; left--)
		candidates &= candidates - 1;
	return (unsigned int)__builtin_ctz(candidates);
}

/* A node that is met for the first time: which thread goes on, or nobody. */
static unsigned int explore_fresh(struct explore_node *node)
{
	unsigned int candidates;

	node->done = 0;
	node->assumed = 0;
	memset(node->alternative, 0, sizeof(node->alternative));
	if (explore_tree.how.algorithm == CR_EXPLORE_DFS)
		node->sleep = 0;
	candidates = explore_allowed(node) & ~(unsigned int)node->sleep;
	if (!explore_is_mine())
		explore_tree.ended = EXPLORE_CUT;
	else if (!candidates)
		explore_tree.ended = EXPLORE_BLOCKED;
	if (explore_tree.ended == EXPLORE_CUT || explore_tree.ended == EXPLORE_BLOCKED)
		return POLICY_NOBODY;
	node->thread = (uint8_t)explore_pick(candidates);
	if (explore_tree.how.algorithm == CR_EXPLORE_DFS ||
	    (explore_tree.how.parts > 1 && explore_tree.depth < explore_tree.how.split))
		node->wanted = (uint8_t)candidates;
	else
		node->wanted = (uint8_t)(1u << node->thread);
	return node->thread;
}

static void explore_start(uint64_t seed, uint64_t schedule)
{
	(void)seed;
	(void)schedule;
	if (!trail.kept) {
		explore_clear_words();
		memset(policy_pending, 0, sizeof(policy_pending));
		memset(&places_step, 0, sizeof(places_step));
		places_step.did = &explore_nothing;
	}
	explore_tree.depth = trail.kept;
	explore_tree.ended = EXPLORE_COMPLETE;
	explore_tree.learned = 0;
	explore_tree.nodes[0].sleep = 0;
	explore_tree.nodes[0].preemptions = 0;
	memset(explore_tree.nodes[0].taken, 0, sizeof(explore_tree.nodes[0].taken));
}

static bool explore_preempts(const struct explore_node *node)
{
	return node->thread != node->before && (node->enabled | node->held) >> node->before & 1;
}

/* Arrives at the next node: what is enabled there, and how it was come to. */
static struct explore_node *explore_arrive(unsigned int enabled, unsigned int current)
{
	struct explore_node *node = &explore_tree.nodes[explore_tree.depth];
	const struct explore_node *above = node - 1;

	if (explore_tree.depth < explore_tree.fixed)
		assert((node->enabled | node->held) == (int)enabled && node->before == current);
	node->before = (uint8_t)current;
	if (explore_tree.depth) {
		node->preemptions = (uint8_t)(above->preemptions + explore_preempts(above));
		memcpy(node->taken, above->taken, sizeof(node->taken));
		node->taken[above->thread]++;
	}
	node->held = explore_tree.turns ? (uint8_t)turns_held(node, enabled) : 0;
	node->enabled = (uint8_t)(enabled & ~(unsigned int)node->held);
	return node;
}

/* In a section, which is a step only if the thread leaves it before anybody else goes on. */
static bool explore_is_inside(unsigned int thread)
{
	return places.sections && places_step.section[thread];
}

/* Sections are not one step each in this scenario. */
static void explore_is_no_step(void)
{
	explore_tree.how.sections = 0;
	explore_tree.ended = EXPLORE_ANEW;
}

static unsigned int explore_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	struct explore_node *node;
	unsigned int waitable;

	assert(explore_tree.depth == step);
	explore_finish();
	explore_logs[step] = (struct explore_log){ trail.next, trace_used };
	if (current != POLICY_NOBODY && explore_is_inside(current)) {
		explore_is_no_step();
		return POLICY_NOBODY;
	}
	if (explore_tree.depth >= EXPLORE_DEPTH_MAX - 1) {
		engine_note(VERDICT_STEP_LIMIT);
		return POLICY_NOBODY;
	}
	node = explore_arrive(enabled, current);
	if (explore_tree.depth >= explore_tree.fixed && explore_fresh(node) == POLICY_NOBODY)
		return POLICY_NOBODY;
	if (explore_tree.depth >= explore_tree.fresh || explore_tree.looks) {
		node->wait = (uint8_t)explore_wait(node->thread, &waitable);
		node->waitable = (uint8_t)waitable;
		explore_look(node);
	}
	if (explore_tree.depth >= explore_tree.fresh) {
		memset(&node->did, 0, sizeof(node->did));
		places_step.did = &node->did;
	}
	explore_tree.depth++;
	places_step.passed = 0;
	places_stretch++;
	return node->thread;
}

const struct policy policy_explore = {
	.name = "explore",
	.walks = true,
	.begin = explore_start,
	.choose = explore_choose,
};

enum explore_end explore_end(void)
{
	unsigned int left = fiber_left(), waitable, t;

	explore_tree.left_waiting = 0;
	if (!explore_tree.depth)
		return explore_tree.ended;
	/* Who ended inside of a section keeps everybody else from it. */
	for (t = 0; t < CR_THREADS_MAX; t++)
		if (explore_is_inside(t))
			explore_is_no_step();
	explore_finish();
	explore_look(&explore_tree.nodes[explore_tree.depth]);
	if (explore_tree.ended == EXPLORE_COMPLETE || explore_tree.ended == EXPLORE_BLOCKED)
		explore_tree.left_waiting = (uint8_t)left;
	for (left = explore_tree.left_waiting; left; left &= left - 1) {
		unsigned int q = (unsigned int)__builtin_ctz(left);

		explore_tree.waits[q] = (uint8_t)explore_wait(q, &waitable);
		explore_tree.waits_for[q] = (uint8_t)waitable;
	}
	if (places.learned)
		explore_tree.ended = EXPLORE_ANEW;
	/* Whose part of the tree that execution was did not count, so it is run again. */
	if (explore_tree.ended == EXPLORE_COMPLETE && turns_wanted() &&
	    (turns_choose() || explore_tree.how.parts > 1))
		explore_tree.ended = EXPLORE_TURNS;
	if ((explore_tree.learned || unordered_met.late) && explore_tree.ended != EXPLORE_ANEW &&
	    explore_tree.ended != EXPLORE_TURNS)
		explore_tree.ended = EXPLORE_REPEAT;
	explore_tree.looks = explore_tree.ended == EXPLORE_REPEAT;
	if (explore_tree.ended <= EXPLORE_CUT && explore_tree.how.algorithm != CR_EXPLORE_DFS)
		order_execution();
	return explore_tree.ended;
}

void explore_repeat(void (*run)(void))
{
	uint32_t fixed = explore_tree.fixed, fresh = explore_tree.fresh;

	explore_tree.fixed = explore_tree.depth;
	explore_tree.fresh = explore_tree.depth;
	trail.kept = 0;
	run();
	explore_tree.fixed = fixed;
	explore_tree.fresh = fresh;
}

uint64_t explore_class(void)
{
	return explore_tree.depth ? explore_tree.nodes[explore_tree.depth - 1].order : 0;
}

unsigned int explore_preemptions(void)
{
	const struct explore_node *last;

	if (!explore_tree.depth)
		return 0;
	last = &explore_tree.nodes[explore_tree.depth - 1];
	return last->preemptions + explore_preempts(last);
}

/* The subtree of the node's thread is done; whether another one is wanted. */
static bool explore_turn(struct explore_node *node)
{
	unsigned int thread = node->thread, left;

	node->child[thread] = node->did;
	node->done |= (uint8_t)(1u << thread);
	if (node->assumed >> thread & 1 &&
	    footprint_conflict(&node->did, &node->assume[thread]))
		node->wanted |= node->alternative[thread];
	left = node->wanted & ~(unsigned int)(node->done | node->sleep);
	if (left)
		node->thread = (uint8_t)__builtin_ctz(left);
	return left;
}

bool explore_next(void)
{
	unsigned int depth = explore_tree.depth;

	trail.kept = 0;
	if (explore_tree.ended == EXPLORE_REPEAT)
		return true;
	if (explore_tree.ended == EXPLORE_ANEW || explore_tree.ended == EXPLORE_TURNS) {
		places.sections = explore_tree.how.sections != 0;
		places_reset(true);
		explore_tree.fixed = explore_tree.fresh = 0;
		return true;
	}
	while (depth--) {
		if (!explore_turn(&explore_tree.nodes[depth]))
			continue;
		explore_tree.fixed = depth + 1;
		explore_tree.fresh = depth;
		trail_back(explore_logs[depth].mark, depth, explore_tree.nodes[depth].before);
		trace_used = explore_logs[depth].events;
		return true;
	}
	return false;
}
