// SPDX-License-Identifier: GPL-2.0-only
/*
 * Vector clocks that count each thread's ordering accesses. An ordering access
 * number n is known to whoever has n in the thread's lane; a plain one that
 * comes after n of them is known only with n + 1. A place remembers the last
 * access of each sort, which is enough: if an earlier one is unordered with
 * somebody later, so is the last one, or it was found before.
 */
#include "unordered.h"

#include <string.h>

#include "core.h"
#include "footprint.h"
#include "places.h"
#include "trail.h"

/* A plain access. */
struct unordered_plain {
	uint16_t section;	/* the section lock that was held */
	uint32_t pc;
};

/*
 * What a place's last accesses know, of reads and of writes. A place that nobody
 * ever touched plainly needs only the first: of its points none can be in no order
 * with a plain access.
 */
struct unordered_place {
	struct unordered_clock known[2]		/* after the last ordering accesses */
		__attribute__((aligned(64)));
	struct unordered_clock point_at[2];	/* by the last ones: of each in its thread's lane */
	uint16_t point_sections[2][CR_THREADS_MAX];	/* the section lock that was held then */
	struct unordered_clock plain_at[2];	/* the same of plain accesses */
	struct unordered_plain plains[2][CR_THREADS_MAX];	/* where that is not 0 */
};

struct unordered_met unordered_met;

static struct unordered_place unordered_places[FOOTPRINT_PLACES];
static bool unordered_is_plain[FOOTPRINT_PLACES];

void unordered_reset(void)
{
	unsigned int used = places.shared < FOOTPRINT_PLACES ? places.shared : FOOTPRINT_PLACES, t;

	for (t = 0; t < CR_THREADS_MAX; t++)
		memset(&engine_threads[t].known, 0, sizeof(engine_threads[t].known));
	memset(unordered_places, 0, used * sizeof(unordered_places[0]));
	unordered_met.count = 0;
	unordered_met.late = 0;
}

void unordered_forget(void)
{
	memset(unordered_places, 0, sizeof(unordered_places));
	memset(unordered_is_plain, 0, sizeof(unordered_is_plain));
	memset(&unordered_met, 0, sizeof(unordered_met));
}

static inline void unordered_join(struct unordered_clock *into, const struct unordered_clock *from)
{
	unsigned int i;

	for (i = 0; i < CR_THREADS_MAX; i++)
		into->of[i] = into->of[i] > from->of[i] ? into->of[i] : from->of[i];
}

/*
 * All ones in a thread's lane. Lanes are set by whole vectors: a vector that is
 * loaded soon after one lane of it was stored waits for the store.
 */
static const int16_t unordered_ones[CR_THREADS_MAX][CR_THREADS_MAX] = {
	{ [0] = -1 }, { [1] = -1 }, { [2] = -1 }, { [3] = -1 },
	{ [4] = -1 }, { [5] = -1 }, { [6] = -1 }, { [7] = -1 },
};

static inline struct unordered_clock unordered_lane(unsigned int thread)
{
	struct unordered_clock lane;

	memcpy(&lane, unordered_ones[thread], sizeof(lane));
	return lane;
}

static inline void unordered_set(struct unordered_clock *at, const struct unordered_clock *from,
				 unsigned int thread)
{
	__typeof__(at->of) lane = unordered_lane(thread).of;

	trail_save_word((char *)at + thread * sizeof(at->of[0]));
	at->of = (at->of & ~lane) | (from->of & lane);
}

static void unordered_found(uint32_t pc)
{
	unsigned int i;

	for (i = 0; i < unordered_met.count; i++)
		if (unordered_met.pc[i] == pc)
			return;
	if (i == UNORDERED_MAX)
		return;
	trail_save(&unordered_met.count, sizeof(unordered_met.count));
	unordered_met.pc[unordered_met.count++] = pc;
}

static inline bool unordered_any(const struct unordered_clock *clock)
{
	uint64_t halves[2];

	memcpy(halves, &clock->of, sizeof(halves));
	return halves[0] | halves[1];
}

/* The lanes of `at` that `known` does not reach, the running thread's own apart. */
static unsigned int unordered_lanes(const struct unordered_clock *at,
				    const struct unordered_clock *known)
{
	unsigned int lanes = 0, i;

	for (i = 0; i < CR_THREADS_MAX; i++)
		lanes |= (unsigned int)(at->of[i] > known->of[i]) << i;
	return lanes & ~(1u << engine.current);
}

/* Plain accesses of other threads that this one conflicts with, unordered: true if any. */
static bool unordered_unlike(const struct unordered_place *place, bool wrote,
			     const struct unordered_clock *known, unsigned int section)
{
	unsigned int lanes = unordered_lanes(&place->plain_at[wrote], known);
	bool found = false;

	for (; lanes; lanes &= lanes - 1) {
		const struct unordered_plain *plain = &place->plains[wrote][__builtin_ctz(lanes)];

		if (section && plain->section == section)
			continue;
		unordered_found(plain->pc);
		found = true;
	}
	return found;
}

/* The same of ordering accesses. */
static bool unordered_unlike_points(const struct unordered_place *place, bool wrote,
				    const struct unordered_clock *known, unsigned int section)
{
	unsigned int lanes = unordered_lanes(&place->point_at[wrote], known);

	for (; lanes; lanes &= lanes - 1)
		if (!section || place->point_sections[wrote][__builtin_ctz(lanes)] != section)
			return true;
	return false;
}

/* An ordering access to a place that is touched plainly, too. */
static __attribute__((noinline)) void unordered_point_too(struct unordered_place *place,
							  bool writes)
{
	const struct unordered_clock *self = &engine_threads[engine.current].known;
	uint16_t *section = &place->point_sections[writes][engine.current];
	unsigned int now = places_step.section[engine.current];

	unordered_unlike(place, true, self, now);
	if (writes)
		unordered_unlike(place, false, self, now);
	unordered_set(&place->point_at[writes], self, engine.current);
	trail_save_word(section);
	*section = (uint16_t)now;
}

/*
 * Reads come after writes, writes after both. What readers knew is known after the
 * next write, too, so it can stay where it is.
 */
void unordered_point(unsigned int number, bool writes)
{
	struct unordered_place *place = &unordered_places[number];
	struct unordered_clock *self = &engine_threads[engine.current].known;
	struct unordered_clock *known = &place->known[writes];
	struct unordered_clock now = *self;

	unordered_join(&now, &place->known[true]);
	unordered_join(&now, &place->known[!writes]);
	now.of -= unordered_lane(engine.current).of;
	*self = now;
	trail_save(known, sizeof(*known));
	unordered_join(known, &now);
	if (__builtin_expect(unordered_is_plain[number], 0))
		unordered_point_too(place, writes);
}

/* What the plain access that just was is unordered with. */
static __attribute__((noinline)) void unordered_plain_met(const struct unordered_place *place,
							  bool writes, uint32_t pc,
							  unsigned int section)
{
	const struct unordered_clock *self = &engine_threads[engine.current].known;
	bool found = unordered_unlike_points(place, true, self, section) ||
		     (writes && unordered_unlike_points(place, false, self, section));

	found |= unordered_unlike(place, true, self, section);
	if (writes)
		found |= unordered_unlike(place, false, self, section);
	if (found)
		unordered_found(pc);
}

void unordered_plain(unsigned int number, bool writes, uint32_t pc, unsigned int section)
{
	struct unordered_place *place = &unordered_places[number];
	const struct unordered_clock *self = &engine_threads[engine.current].known;
	const struct unordered_clock lane = unordered_lane(engine.current);
	struct unordered_plain *plain = &place->plains[writes][engine.current];
	struct unordered_clock next = { self->of - lane.of };
	struct unordered_clock beyond;	/* of others, unknown here */

	if (__builtin_expect(!unordered_is_plain[number], 0)) {
		unordered_is_plain[number] = true;
		unordered_met.late = 1;
	}
	beyond.of = (place->point_at[true].of > self->of) | (place->plain_at[true].of > self->of) |
		    (place->point_at[!writes].of > self->of) |
		    (place->plain_at[!writes].of > self->of);
	beyond.of &= ~lane.of;
	trail_save(plain, sizeof(*plain));
	*plain = (struct unordered_plain){ .section = (uint16_t)section, .pc = pc };
	unordered_set(&place->plain_at[writes], &next, engine.current);
	if (__builtin_expect(unordered_any(&beyond), 0))
		unordered_plain_met(place, writes, pc, section);
}
