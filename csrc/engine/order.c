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
 * that let it in, but it could have come before the acquire. So together with the
 * step that it is to come before, the acquires of all that is held without that
 * one are left out of the schedule, and what happens after them. The most that can
 * stay is looked for, wherever its steps stand in this execution: readers commute,
 * so that it depends on no order among them which acquire is turned around.
 *
 * What k's thread would do in the other order is known only once it was done:
 * a compare-and-exchange that failed may succeed then, a lookup may find
 * nothing. As long as it is not, its footprint in this execution is assumed;
 * if the assumption turns out wrong, explore_turn() wants the other initials.
 * And what two steps have in common in one order they need not have in another,
 * when a third one has come before: see order_woken().
 *
 * Interchangeable threads take turns (turns.h). A step that had to wait for its
 * twin's happens after that, whether or not they are dependent.
 */
#include "order.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "explore.h"
#include "memory.h"
#include "places.h"
#include "random.h"
#include "trail.h"
#include "turns.h"

struct order_later {
	unsigned int thread;
	unsigned int at;		/* its depth, or that of the end for one that still waits */
	const struct footprint *did;
	struct footprint_sum sum;	/* of that */
	uint16_t before[CR_THREADS_MAX];	/* the clock of what comes before it anyway */
	enum policy_wait wait;
	unsigned int waitable;
};

/* Each thread's steps so far: at which depth, and what they did in short; how many there are. */
static uint16_t order_steps[CR_THREADS_MAX][EXPLORE_DEPTH_MAX];
static struct footprint_sum order_sums[CR_THREADS_MAX][EXPLORE_DEPTH_MAX];
static uint16_t order_counts[CR_THREADS_MAX];
/* And the node of its last one, or one where nothing came before. */
static const struct explore_node *order_last[CR_THREADS_MAX];
static const struct explore_node order_nowhere;
static unsigned int order_threads;		/* no other one has any */
/* Each thread's steps that woke somebody: see order_woken(). */
static struct order_wake {
	uint16_t depth;
	uint16_t index;
	unsigned int woken;
} order_wakes[CR_THREADS_MAX][EXPLORE_DEPTH_MAX];
static unsigned int order_wakes_used[CR_THREADS_MAX];
static uint16_t order_woke[CR_THREADS_MAX];	/* the last one's index */

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

/* The schedule that reverses a race: what is known of it. */
struct order_schedule {
	unsigned int initials;
	unsigned int threads;			/* that have a step in it */
	bool clear;				/* k's step is independent of all of it */
	struct footprint did;			/* all of it together */
	unsigned int first[CR_THREADS_MAX];	/* index of each thread's first step */
};

static void order_append(struct order_schedule *schedule, const struct explore_node *node,
			 const struct footprint *last)
{
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
	schedule->first[node->thread] = node->clock[node->thread];
	schedule->threads |= bit;
	if (initial)
		schedule->initials |= bit;
}

/*
 * Of the steps before `later` those that stay when it is moved: of each thread
 * so many. What happens after a step that does not stay, does not either.
 */
struct order_cut {
	unsigned int stay[CR_THREADS_MAX];
};

static void order_leave_out(struct order_cut *cut, unsigned int depth)
{
	unsigned int t;

	for (t = 0; t < order_threads; t++)
		while (cut->stay[t] && order_after(order_steps[t][cut->stay[t] - 1], depth))
			cut->stay[t]--;
}

/* The word that `later` waits for is one of these. */
static const struct explore_words *order_words(unsigned int depth, const struct order_later *later)
{
	return &order_node(depth)->words[later->waitable / EXPLORE_LANES];
}

/* What that many steps of the thread did to that word. */
static int order_change(unsigned int thread, unsigned int count, const struct order_later *later)
{
	if (!count)
		return 0;
	return order_words(order_steps[thread][count - 1], later)->changes[later->waitable %
									   EXPLORE_LANES];
}

/*
 * Of the thread's first steps how many there are up to the last one that touches the
 * word, and so that it matters: readers of a word do not mind each other.
 */
static inline unsigned int order_touched(unsigned int thread, unsigned int count,
					 unsigned int place, bool writes)
{
	while (count && !footprint_has(&order_node(order_steps[thread][count - 1])->did, place,
				       writes))
		count--;
	return count;
}

/*
 * The last step that stays and is to blame for the word not being free: the last
 * one that touches it, of a thread that holds it. (Of a word that is waited for to
 * be 0: of any thread.) DEPTH_MAX: there is none, or it comes before `later` anyway.
 */
static unsigned int order_holder(const struct order_cut *cut, const struct order_later *later)
{
	uintptr_t offset = (uintptr_t)explore_tree.waitable_offset[later->waitable] * MEMORY_GRAIN;
	unsigned int place = places_number(offset), last = EXPLORE_DEPTH_MAX, t, n;
	bool writes = !footprint_has(later->did, place, true);

	for (t = 0; t < order_threads; t++) {
		n = order_touched(t, cut->stay[t], place, writes);
		if (!n || (last != EXPLORE_DEPTH_MAX && order_steps[t][n - 1] < last))
			continue;
		if (later->wait == POLICY_WAITS_ZERO || order_change(t, n, later))
			last = order_steps[t][n - 1];
	}
	if (last != EXPLORE_DEPTH_MAX &&
	    order_index(last) <= later->before[order_node(last)->thread])
		return EXPLORE_DEPTH_MAX;
	return last;
}

/* Whether the wait of `later` is over after the steps that stay. */
static bool order_ready(const struct order_cut *cut, const struct order_later *later)
{
	int word = order_words(0, later)->before[later->waitable % EXPLORE_LANES];
	unsigned int t;

	for (t = 0; t < order_threads; t++)
		word += order_change(t, cut->stay[t], later);
	return word == 0 || (later->wait == POLICY_WAITS_SHARED && word > 0);
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
static const struct footprint *order_taken(unsigned int depth, const struct order_later *later)
{
	const struct footprint *known = order_known(order_node(depth), later->thread);

	return known ? known : later->did;
}

/* What stays between `head`, the first step that does not, and `later`. */
static void order_schedule(unsigned int head, const struct order_later *later,
			   const struct order_cut *cut, struct order_schedule *schedule)
{
	const struct footprint *last = order_taken(head, later);
	const struct explore_node *node = order_node(head), *end = order_node(later->at);
	unsigned int thread = node->thread, index = order_index(head);

	memset(schedule, 0, sizeof(*schedule));
	schedule->clear = true;
	for (node++; node < end; node++)
		if (cut ? node->clock[node->thread] <= cut->stay[node->thread] :
			  node->clock[thread] < index)
			order_append(schedule, node, last);
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
 * `head`, and what stays then. Most that is possible stays without `head` such
 * that the wait ends: as long as somebody holds the word, what it was taken with
 * goes, too. False: it is held by what comes before `later` anyway.
 */
static bool order_turn(unsigned int *head, const struct order_later *later, struct order_cut *cut)
{
	unsigned int depth = *head, t;

	for (t = 0; t < order_threads; t++)
		cut->stay[t] = order_counts[t];
	order_leave_out(cut, depth);
	while (!order_ready(cut, later)) {
		depth = order_holder(cut, later);
		if (depth == EXPLORE_DEPTH_MAX)
			return false;
		order_leave_out(cut, depth);
		if (depth < *head)
			*head = depth;
	}
	return true;
}

/* All that could be wanted from there is, and what the thread does there is known. */
static bool order_is_covered(const struct explore_node *node, unsigned int thread)
{
	return !(node->enabled & ~(node->wanted | node->sleep | node->done)) &&
	       (node->done | node->sleep) >> thread & 1;
}

/* Makes sure that something is explored from before `head` in which `later` comes first. */
static void order_reverse(unsigned int head, const struct order_later *later)
{
	bool waits = later->wait != POLICY_GOES_ON;
	unsigned int bit = 1u << later->thread, covered;
	struct order_schedule schedule;
	const struct footprint *known;
	struct explore_node *node;
	struct order_cut cut;

	if (!waits && order_is_covered(order_node(head), later->thread))
		return;
	if (waits && !order_turn(&head, later, &cut))
		return;
	node = &explore_tree.nodes[head];
	order_schedule(head, later, waits ? &cut : NULL, &schedule);
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

/* Whether `later` is dependent on that step: asked where their sums conflict. */
static __attribute__((noinline)) bool order_depends(const struct order_later *later,
						    unsigned int depth)
{
	return footprint_conflict(&order_node(depth)->did, later->did);
}

/*
 * The other threads that have a step which `later` is dependent on and not after
 * yet, as a set, and the depth of the last one each.
 */
static inline unsigned int order_find(const struct order_later *later,
				      unsigned int found[CR_THREADS_MAX])
{
	const struct footprint_sum did = later->sum;
	unsigned int left = ((1u << order_threads) - 1) & ~(1u << later->thread), set = 0;

	for (; left; left &= left - 1) {
		unsigned int t = (unsigned int)__builtin_ctz(left);
		unsigned int known = later->before[t], n = order_counts[t];

		while (n != known) {
			if (__builtin_expect(!footprint_sums_conflict(order_sums[t][--n], did), 1))
				continue;
			if (!order_depends(later, order_steps[t][n]))
				continue;
			found[t] = order_steps[t][n];
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

/*
 * A clock as one: if it was loaded soon after a lane of it was stored, it would wait
 * for the store.
 */
typedef int16_t order_lanes __attribute__((vector_size(2 * CR_THREADS_MAX)));

static void order_join(uint16_t into[CR_THREADS_MAX], const uint16_t clock[CR_THREADS_MAX])
{
	order_lanes a, b, more;

	memcpy(&a, into, sizeof(a));
	memcpy(&b, clock, sizeof(b));
	more = a > b;
	a = (a & more) | (b & ~more);
	memcpy(into, &a, sizeof(a));
}

/* One step more of that thread. */
static void order_count(uint16_t clock[CR_THREADS_MAX], unsigned int thread)
{
	static const int16_t one[CR_THREADS_MAX][CR_THREADS_MAX] = {
		{ [0] = 1 }, { [1] = 1 }, { [2] = 1 }, { [3] = 1 },
		{ [4] = 1 }, { [5] = 1 }, { [6] = 1 }, { [7] = 1 },
	};
	order_lanes lanes, lane;

	memcpy(&lanes, clock, sizeof(lanes));
	memcpy(&lane, one[thread], sizeof(lane));
	lanes += lane;
	memcpy(clock, &lanes, sizeof(lanes));
}

/*
 * What comes before the thread's next step whatever else happens: its step before
 * it, and the one that it has to let go first. False: that did not come.
 */
static inline bool order_before(unsigned int thread, uint16_t before[CR_THREADS_MAX])
{
	unsigned int count = order_counts[thread], twin = turns_before(thread, count + 1), turn;

	memcpy(before, order_last[thread]->clock, sizeof(order_node(0)->clock));
	if (twin == POLICY_NOBODY)
		return true;
	turn = explore_tree.turn[thread];
	if (order_counts[twin] < turn)
		return false;
	order_join(before, order_node(order_steps[twin][turn - 1])->clock);
	return true;
}

/* What the step did to the words that are waited for, and its thread's steps before it. */
static inline void order_add_changes(struct explore_node *node)
{
	const struct explore_words *words = order_last[node->thread]->words;
	unsigned int blocks = (explore_tree.waitables + EXPLORE_LANES - 1u) / EXPLORE_LANES, i;
	order_lanes sum, before, after;

	static_assert(EXPLORE_LANES == CR_THREADS_MAX, "lanes are those of a clock");
	for (i = 0; i < blocks; i++) {
		memcpy(&sum, words[i].changes, sizeof(sum));
		memcpy(&before, node->words[i].before, sizeof(before));
		memcpy(&after, node[1].words[i].before, sizeof(after));
		sum += after - before;
		memcpy(node->words[i].changes, &sum, sizeof(sum));
	}
}

static inline void order_keep(unsigned int depth)
{
	struct explore_node *node = &explore_tree.nodes[depth];
	unsigned int t = node->thread, n = order_counts[t]++;

	if (node->woken) {
		order_woke[t] = node->clock[t];
		order_wakes[t][order_wakes_used[t]++] = (struct order_wake){
			(uint16_t)depth, node->clock[t], node->woken
		};
	}
	order_add_changes(node);
	order_sums[t][n] = node->sum;
	order_steps[t][n] = (uint16_t)depth;
	order_last[t] = node;
}

/* The threads that can begin, from before `head`, what comes before that step, and it. */
static unsigned int order_initials(unsigned int head, unsigned int depth)
{
	const uint16_t *taken = order_node(head)->taken, *clock = order_node(depth)->clock;
	unsigned int initials = 0, t, u;

	for (t = 0; t < order_threads; t++) {
		const struct explore_node *first;

		if (clock[t] <= taken[t])
			continue;
		first = order_node(order_steps[t][taken[t]]);
		for (u = 0; u < order_threads && (u == t || first->clock[u] <= taken[u]); u++)
			;
		if (u == order_threads)
			initials |= 1u << t;
	}
	return initials;
}

/* What comes before that step, and it, have to come before the thread's. */
static void order_sleeper(unsigned int head, unsigned int thread, unsigned int depth)
{
	struct explore_node *wake = &explore_tree.nodes[head];
	const struct explore_node *node = order_node(depth);
	unsigned int initials;

	if (node->clock[thread] > wake->taken[thread] ||
	    !footprint_conflict(order_known(wake, thread), &node->did))
		return;
	initials = order_initials(head, depth) & wake->enabled;
	if (!initials)
		initials = wake->enabled;
	if (!(initials & (wake->wanted | wake->sleep | wake->done)))
		wake->wanted |= (uint8_t)(initials & -initials);
}

/*
 * A thread that slept was woken by a step on which what it was to do there is
 * dependent. That the two can come the other way round, everything else as it
 * was, the place where it was explored has seen to. But that is so only of what
 * it was to do there. If the step here comes first, and is dependent on that,
 * the thread does something else, and it may still come before the step that
 * woke it. What it does after that step is of no help, since it need not be
 * dependent on either.
 */
static __attribute__((noinline)) void order_woken(unsigned int depth)
{
	const struct explore_node *node = order_node(depth);
	unsigned int left, t;

	for (t = 0; t < order_threads; t++) {
		const struct order_wake *wake = order_wakes[t] + order_wakes_used[t];

		while (wake != order_wakes[t] && (--wake)->index > node->clock[t]) {
			for (left = wake->woken & ~(1u << node->thread); left; left &= left - 1)
				order_sleeper(wake->depth, (unsigned int)__builtin_ctz(left),
					      depth);
		}
	}
}

/* Whether there are steps that woke somebody, and that it does not happen after. */
static inline bool order_is_woken(const struct explore_node *node)
{
	order_lanes clock, woke;
	uint64_t halves[2];

	memcpy(&clock, node->clock, sizeof(clock));
	memcpy(&woke, order_woke, sizeof(woke));
	woke = woke > clock;
	memcpy(halves, &woke, sizeof(halves));
	return halves[0] | halves[1];
}

static void order_step(unsigned int depth)
{
	struct explore_node *node = &explore_tree.nodes[depth];
	unsigned int q = node->thread, set, left;
	struct order_later later = {
		.thread = q,
		.at = depth,
		.did = &node->did,
		.sum = node->sum,
		.wait = node->wait,
		.waitable = node->waitable,
	};
	unsigned int found[CR_THREADS_MAX];

	order_before(q, later.before);
	set = order_find(&later, found);
	memcpy(node->clock, later.before, sizeof(node->clock));
	for (left = set; left; left &= left - 1)
		order_join(node->clock, order_node(found[__builtin_ctz(left)])->clock);
	order_count(node->clock, q);
	node->order = (depth ? order_node(depth - 1)->order : 0) + order_hash(node);
	if (set)
		order_races(&later, set, found);
	order_keep(depth);
	if (order_is_woken(node))
		order_woken(depth);
}

/* A thread that waits at the end would have gone on, had something else come later. */
static void order_waiting(unsigned int thread)
{
	struct footprint did = { 0 };
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
	later.sum = footprint_sum(&did);
	order_races(&later, order_find(&later, found), found);
}

/* What is known of so many of the thread's steps stands, and nothing of others. */
static void order_take_up(unsigned int t, unsigned int count)
{
	unsigned int n = order_wakes_used[t];

	order_counts[t] = (uint16_t)count;
	order_last[t] = count ? order_node(order_steps[t][count - 1]) : &order_nowhere;
	while (n && order_wakes[t][n - 1].index > count)
		n--;
	order_wakes_used[t] = n;
	order_woke[t] = n ? order_wakes[t][n - 1].index : 0;
}

void order_execution(void)
{
	unsigned int everybody = (unsigned int)(order_node(0)->enabled | order_node(0)->held);
	unsigned int depth, left, t;

	order_threads = CR_THREADS_MAX;
	while (order_threads && !(everybody >> (order_threads - 1)))
		order_threads--;
	/* Where the execution took up an earlier one, that one's steps stand. */
	for (t = 0; t < CR_THREADS_MAX; t++)
		order_take_up(t, trail.kept ? order_node(explore_tree.fresh)->taken[t] : 0);
	for (depth = trail.kept; depth < explore_tree.fresh; depth++)
		order_keep(depth);
	for (depth = explore_tree.fresh; depth < explore_tree.depth; depth++)
		order_step(depth);
	for (left = explore_tree.left_waiting; left; left &= left - 1)
		order_waiting((unsigned int)__builtin_ctz(left));
}
