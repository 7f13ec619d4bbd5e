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

/* A lane per thread; what is not there is 0. */
struct unordered_clock {
	int16_t of __attribute__((vector_size(2 * CR_THREADS_MAX)));
};

/* A plain access. */
struct unordered_plain {
	uint16_t section;	/* the section lock that was held */
	uint32_t pc;
};

/*
 * What a place's last accesses know, each in its thread's lane but for the first
 * two. A place that nobody ever touched plainly needs only those: of its points
 * none can be in no order with a plain access.
 */
struct unordered_place {
	struct unordered_clock writes;		/* ordering writes */
	struct unordered_clock reads;		/* ordering reads since then */
	struct unordered_clock write_at;	/* the last ordering write */
	struct unordered_clock read_at;
	struct unordered_clock plain_at[2];	/* plain reads, plain writes */
	struct unordered_plain plains[2][CR_THREADS_MAX];	/* where that is not 0 */
};

struct unordered_met unordered_met;

static struct unordered_place unordered_places[FOOTPRINT_PLACES];
static bool unordered_is_plain[FOOTPRINT_PLACES];
static struct unordered_clock unordered_threads[CR_THREADS_MAX];

void unordered_reset(void)
{
	unsigned int used = places.shared < FOOTPRINT_PLACES ? places.shared : FOOTPRINT_PLACES;

	memset(unordered_threads, 0, sizeof(unordered_threads));
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

void unordered_step(unsigned int thread)
{
	trail_save(&unordered_threads[thread], sizeof(unordered_threads[0]));
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

/* The lanes of `at` that `known` does not reach, the running thread's own apart. */
static inline unsigned int unordered_lanes(const struct unordered_clock *at,
					   const struct unordered_clock *known)
{
	__typeof__(at->of) more = at->of > known->of;
	uint64_t halves[2];
	unsigned int lanes = 0, i;

	memcpy(halves, &more, sizeof(halves));
	if (__builtin_expect(!(halves[0] | halves[1]), 1))
		return 0;
	for (i = 0; i < CR_THREADS_MAX; i++)
		lanes |= (unsigned int)(more[i] != 0) << i;
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

/* Where an ordering access was: of a place that is touched plainly, too. */
static __attribute__((noinline)) void unordered_point_at(struct unordered_place *place, bool writes,
							 const struct unordered_clock *self)
{
	struct unordered_clock *at = writes ? &place->write_at : &place->read_at;

	trail_save(at, sizeof(*at));
	unordered_set(at, self, engine.current);
}

static inline bool unordered_any(const struct unordered_clock *clock)
{
	uint64_t halves[2];

	memcpy(halves, &clock->of, sizeof(halves));
	return halves[0] | halves[1];
}

void unordered_point(unsigned int number, bool writes)
{
	struct unordered_place *place = &unordered_places[number];
	struct unordered_clock *self = &unordered_threads[engine.current];
	struct unordered_clock now = *self;

	unordered_join(&now, &place->writes);
	if (writes && unordered_any(&place->reads)) {
		unordered_join(&now, &place->reads);
		trail_save(&place->reads, sizeof(place->reads));
		memset(&place->reads, 0, sizeof(place->reads));
	}
	if (__builtin_expect(unordered_is_plain[number], 0)) {
		unordered_unlike(place, true, &now, 0);
		if (writes)
			unordered_unlike(place, false, &now, 0);
	}
	now.of -= unordered_lane(engine.current).of;
	*self = now;
	if (writes) {
		trail_save(&place->writes, sizeof(place->writes));
		place->writes = now;
	} else {
		trail_save(&place->reads, sizeof(place->reads));
		unordered_join(&place->reads, &now);
	}
	if (__builtin_expect(unordered_is_plain[number], 0))
		unordered_point_at(place, writes, self);
}

void unordered_plain(unsigned int number, bool writes, uint32_t pc, unsigned int section)
{
	struct unordered_place *place = &unordered_places[number];
	const struct unordered_clock *self = &unordered_threads[engine.current];
	struct unordered_plain *plain = &place->plains[writes][engine.current];
	struct unordered_clock next = *self;
	bool found = unordered_lanes(&place->write_at, self) ||
		     (writes && unordered_lanes(&place->read_at, self));

	if (!unordered_is_plain[number]) {
		unordered_is_plain[number] = true;
		unordered_met.late = 1;
	}
	found |= unordered_unlike(place, true, self, section);
	if (writes)
		found |= unordered_unlike(place, false, self, section);
	if (found)
		unordered_found(pc);
	next.of -= unordered_lane(engine.current).of;
	trail_save(&place->plain_at[writes], sizeof(next));
	trail_save(plain, sizeof(*plain));
	unordered_set(&place->plain_at[writes], &next, engine.current);
	*plain = (struct unordered_plain){ .section = (uint16_t)section, .pc = pc };
}
