// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which dependent steps of an execution could also have come the other way
 * round, and what to explore so that they do.
 *
 * A step happens after every earlier step that it is dependent on; the closure
 * of that is kept as vector clocks. Two steps of different threads race if they
 * are dependent and no third one stands between them in that order. To reverse
 * a race of i and k, something must be explored from the node before i that
 * begins the schedule "what comes after i but does not happen after it, then
 * k's thread". Any thread whose first step there has no predecessor in it will
 * do (an initial). One that is explored, or wanted, or sleeps there, is enough.
 *
 * Waiting. A step that begins with taking a lock cannot come before the release
 * that let it in, but it could have come before the acquire: the last step at
 * which the word was still free. Whatever else took or gave the lock in between
 * is left out of the schedule, so that the wait ends at once.
 *
 * What k's thread would do in the other order is known only once it was done:
 * a compare-and-exchange that failed may succeed then, a lookup may find
 * nothing. As long as it is not, its footprint in this execution is assumed;
 * if the assumption turns out wrong, explore_turn() wants the other initials.
 *
 * Interchangeable threads take turns (turns.h). A step that had to wait for its
 * twin's happens after that, whether or not they are dependent.
 */
#include "order.h"

#include <string.h>

#include "explore.h"
#include "memory.h"
#include "places.h"
#include "random.h"
#include "turns.h"

struct order_later {
	unsigned int thread;
	unsigned int at;		/* its depth, or that of the end for one that still waits */
	const struct footprint *did;
	uint16_t before[CR_THREADS_MAX];	/* the clock of what comes before it anyway */
	enum policy_wait wait;
	unsigned int waitable;
};

/* Depths of each thread's steps so far, and how many there are. */
static uint16_t order_steps[CR_THREADS_MAX][EXPLORE_DEPTH_MAX];
static unsigned int order_counts[CR_THREADS_MAX];

static const struct explore_node *order_node(unsigned int depth)
{
	return &explore_tree.nodes[depth];
}

/* Which of its thread's steps it is, from 1. */
static unsigned int order_index(unsigned int depth)
{
	return order_node(depth)->clock[order_node(depth)->thread];
}

static bool order_after(unsigned int depth, unsigned int head)
{
	return order_node(depth)->clock[order_node(head)->thread] >= order_index(head);
}

/* Whether the step touches the word that `later` waits for, in a way that matters to it. */
static bool order_touches(unsigned int depth, const struct order_later *later)
{
	uintptr_t offset = (uintptr_t)explore_tree.waitable_offset[later->waitable] * MEMORY_GRAIN;
	unsigned int place;

	if (later->wait == POLICY_GOES_ON)
		return false;
	place = places_number(offset);
	/* Readers of a word do not mind each other. */
	return footprint_has(&order_node(depth)->did, place,
			     !footprint_has(later->did, place, true));
}

/* The schedule that reverses a race: what is known of it. */
struct order_schedule {
	unsigned int initials;
	unsigned int threads;			/* that have a step in it */
	bool clear;				/* k's step is independent of all of it */
	int word;				/* what `later` waits for, at the end of it */
	struct footprint did;			/* all of it together */
	unsigned int first[CR_THREADS_MAX];	/* index of each thread's first step */
};

static void order_append(struct order_schedule *schedule, unsigned int depth,
			 const struct footprint *last)
{
	const struct explore_node *node = order_node(depth);
	unsigned int set = schedule->threads, bit = 1u << node->thread;
	bool initial = true;

	if (footprint_conflict(&node->did, last))
		schedule->clear = false;
	footprint_unite(&schedule->did, &node->did);
	if (set & bit)
		return;
	for (; set; set &= set - 1) {
		unsigned int u = (unsigned int)__builtin_ctz(set);

		if (node->clock[u] >= schedule->first[u])
			initial = false;
	}
	schedule->first[node->thread] = order_index(depth);
	schedule->threads |= bit;
	if (initial)
		schedule->initials |= bit;
}

static bool order_ready(int word, const struct order_later *later)
{
	return later->wait == POLICY_GOES_ON || word == 0 ||
	       (later->wait == POLICY_WAITS_SHARED && word > 0);
}

/*
 * What comes between `head` and `later` without happening after `head`, nor
 * (with `alone`) after anything else that touches what `later` waits for. What
 * several steps of it do to that word are readers' counts, which add up: a
 * writer's step would happen after `head`.
 */
static void order_schedule(unsigned int head, const struct order_later *later, bool alone,
			   const struct footprint *last, struct order_schedule *schedule)
{
	static unsigned int heads[EXPLORE_DEPTH_MAX];
	unsigned int used = 0, depth, h;

	memset(schedule, 0, sizeof(*schedule));
	schedule->clear = true;
	schedule->word = order_node(head)->words[later->waitable];
	heads[used++] = head;
	for (depth = head + 1; depth < later->at; depth++) {
		for (h = 0; h < used && !order_after(depth, heads[h]); h++)
			;
		if (h < used)
			continue;
		if (alone && order_touches(depth, later)) {
			heads[used++] = depth;
			continue;
		}
		schedule->word += order_node(depth + 1)->words[later->waitable] -
				  order_node(depth)->words[later->waitable];
		order_append(schedule, depth, last);
	}
}

/* What a thread does from that node, if it was explored, else NULL. */
static const struct footprint *order_known(const struct explore_node *node, unsigned int thread)
{
	if (node->done >> thread & 1)
		return &node->child[thread];
	if (node->sleep >> thread & 1)
		return &order_node(node->sleep_from[thread])->child[thread];
	return NULL;
}

/* What `later` is taken to do before `depth`: what it did there, or did later. */
static const struct footprint *order_last(unsigned int depth, const struct order_later *later)
{
	const struct footprint *known = order_known(order_node(depth), later->thread);

	return known ? known : later->did;
}

static void order_assume(struct explore_node *node, unsigned int thread,
			 const struct order_schedule *schedule)
{
	unsigned int bit = 1u << thread;
	unsigned int others = schedule->initials & ~bit;

	if (!schedule->threads)
		return;
	if (!(node->assumed & bit))
		memset(&node->assume[thread], 0, sizeof(node->assume[thread]));
	node->assumed |= (uint8_t)bit;
	footprint_unite(&node->assume[thread], &schedule->did);
	node->alternative[thread] |= (uint8_t)(others ? others : node->enabled);
}

/*
 * The step before which `later` should come, given that it is dependent on
 * `head`, and the schedule that leads there. It is `head` itself, unless that
 * let `later` go on. Then it is the last step before which the wait would have
 * ended: one of that thread, together with what others did to the word and does
 * not happen after it; or one before which the word was free as it was.
 * False: the thread of `later` was not there yet.
 */
static bool order_turn(unsigned int *head, const struct order_later *later,
		       struct order_schedule *schedule)
{
	unsigned int t = order_node(*head)->thread, i;

	for (i = *head + 1; i--;) {
		const struct explore_node *node = order_node(i);

		if (i != *head && !order_touches(i, later))
			continue;
		if (node->thread == later->thread || order_index(i) <= later->before[node->thread])
			return false;
		*head = i;
		if (node->thread == t) {
			order_schedule(i, later, false, order_last(i, later), schedule);
			if (order_ready(schedule->word, later))
				return true;
		}
		if (order_ready(node->words[later->waitable], later)) {
			order_schedule(i, later, true, order_last(i, later), schedule);
			return true;
		}
	}
	return false;
}

/* Makes sure that something is explored from before `head` in which `later` comes first. */
static void order_reverse(unsigned int head, const struct order_later *later)
{
	struct explore_node *node;
	const struct footprint *known;
	struct order_schedule schedule;
	unsigned int bit = 1u << later->thread, covered;

	if (!order_turn(&head, later, &schedule))
		return;
	node = &explore_tree.nodes[head];
	known = order_known(node, later->thread);
	if (!(schedule.threads & bit) && schedule.clear)
		schedule.initials |= bit;
	schedule.initials &= node->enabled;
	if (!schedule.initials)
		schedule.initials = node->enabled;
	covered = schedule.initials & (unsigned int)(node->wanted | node->sleep | node->done);
	if (covered & ~bit || (covered && (known || schedule.threads & bit)))
		return;
	if (schedule.initials & bit) {
		node->wanted |= (uint8_t)bit;
		if (!(schedule.threads & bit))
			order_assume(node, later->thread, &schedule);
	} else {
		node->wanted |= (uint8_t)(schedule.initials & -schedule.initials);
	}
}

/*
 * The other threads that have a step which `later` is dependent on and not after
 * yet, as a set, and the depth of the last one each.
 */
static unsigned int order_find(const struct order_later *later, unsigned int found[CR_THREADS_MAX])
{
	unsigned int set = 0, t, n;

	for (t = 0; t < CR_THREADS_MAX; t++) {
		if (t == later->thread)
			continue;
		for (n = order_counts[t]; n > later->before[t]; n--) {
			unsigned int depth = order_steps[t][n - 1];

			if (!footprint_conflict(&order_node(depth)->did, later->did))
				continue;
			found[t] = depth;
			set |= 1u << t;
			break;
		}
	}
	return set;
}

/* Reverses every race of `later`: none of the steps found stands between. */
static void order_races(const struct order_later *later, unsigned int set,
			const unsigned int found[CR_THREADS_MAX])
{
	unsigned int left, others;

	for (left = set; left; left &= left - 1) {
		unsigned int t = (unsigned int)__builtin_ctz(left);
		bool between = false;

		for (others = set & ~(1u << t); others; others &= others - 1)
			between |= order_after(found[__builtin_ctz(others)], found[t]);
		if (!between)
			order_reverse(found[t], later);
	}
}

/* All clocks together are the happens-before order, whichever step comes first. */
static uint64_t order_hash(const struct explore_node *node)
{
	uint64_t halves[2];

	memcpy(halves, node->clock, sizeof(halves));
	return random_spread(halves[0] ^ random_spread(halves[1] + node->thread + 1));
}

static void order_join(uint16_t into[CR_THREADS_MAX], const uint16_t clock[CR_THREADS_MAX])
{
	unsigned int t;

	for (t = 0; t < CR_THREADS_MAX; t++)
		if (into[t] < clock[t])
			into[t] = clock[t];
}

/*
 * What comes before the thread's next step whatever else happens: its step before
 * it, and the one that it has to let go first. False: that did not come.
 */
static bool order_before(unsigned int thread, uint16_t before[CR_THREADS_MAX])
{
	unsigned int count = order_counts[thread], twin = turns_before(thread, count + 1), turn;

	if (count)
		memcpy(before, order_node(order_steps[thread][count - 1])->clock,
		       sizeof(order_node(0)->clock));
	else
		memset(before, 0, sizeof(order_node(0)->clock));
	if (twin == POLICY_NOBODY)
		return true;
	turn = explore_tree.turn[thread];
	if (order_counts[twin] < turn)
		return false;
	order_join(before, order_node(order_steps[twin][turn - 1])->clock);
	return true;
}

static void order_step(unsigned int depth)
{
	struct explore_node *node = &explore_tree.nodes[depth];
	unsigned int q = node->thread, set, left;
	struct order_later later = {
		.thread = q,
		.at = depth,
		.did = &node->did,
		.wait = node->wait,
		.waitable = node->waitable,
	};
	unsigned int found[CR_THREADS_MAX];

	order_before(q, later.before);
	set = order_find(&later, found);
	memcpy(node->clock, later.before, sizeof(node->clock));
	for (left = set; left; left &= left - 1)
		order_join(node->clock, order_node(found[__builtin_ctz(left)])->clock);
	node->clock[q] = (uint16_t)(order_counts[q] + 1);
	node->order = (depth ? order_node(depth - 1)->order : 0) + order_hash(node);
	order_races(&later, set, found);
	order_steps[q][order_counts[q]++] = (uint16_t)depth;
}

/* A thread that waits at the end would have gone on, had something else come later. */
static void order_waiting(unsigned int thread)
{
	struct footprint did = { .reads = { 0 } };
	struct order_later later = {
		.thread = thread,
		.at = explore_tree.depth,
		.did = &did,
		.wait = explore_tree.waits[thread],
		.waitable = explore_tree.waits_for[thread],
	};
	uintptr_t offset = (uintptr_t)explore_tree.waitable_offset[later.waitable] * MEMORY_GRAIN;
	unsigned int found[CR_THREADS_MAX];

	if (later.wait == POLICY_GOES_ON || !order_before(thread, later.before))
		return;
	footprint_add(&did, places_number(offset), later.wait == POLICY_WAITS);
	order_races(&later, order_find(&later, found), found);
}

void order_execution(void)
{
	unsigned int depth, left;

	memset(order_counts, 0, sizeof(order_counts));
	for (depth = 0; depth < explore_tree.fresh; depth++) {
		unsigned int t = order_node(depth)->thread;

		order_steps[t][order_counts[t]++] = (uint16_t)depth;
	}
	for (; depth < explore_tree.depth; depth++)
		order_step(depth);
	for (left = explore_tree.left_waiting; left; left &= left - 1)
		order_waiting((unsigned int)__builtin_ctz(left));
}
