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
#include "trail.h"

/* A lane per thread; what is not there is 0. */
struct unordered_clock {
	int16_t of __attribute__((vector_size(2 * CR_THREADS_MAX)));
};

struct unordered_points {
	struct unordered_clock writes;		/* what ordering writes know */
	struct unordered_clock reads;		/* what ordering reads since then know */
	struct unordered_clock write_at;	/* the last ordering write, in its thread's lane */
	struct unordered_clock read_at;		/* ordering reads */
};

/* Plain reads, or plain writes; where none is known, section and pc mean nothing. */
struct unordered_plains {
	struct unordered_clock at;
	uint16_t section[CR_THREADS_MAX];
	uint32_t pc[CR_THREADS_MAX];
};

struct unordered_place {
	struct unordered_points points;
	struct unordered_plains plains[2];	/* reads, writes */
	uint64_t stamp;
};

struct unordered_met unordered_met;

static struct unordered_place unordered_places[FOOTPRINT_PLACES];
static struct unordered_clock unordered_threads[CR_THREADS_MAX];
static uint64_t unordered_stamp;

void unordered_reset(void)
{
	memset(unordered_threads, 0, sizeof(unordered_threads));
	unordered_stamp++;
	unordered_met.count = 0;
}

static inline void unordered_join(struct unordered_clock *into, const struct unordered_clock *from)
{
	__typeof__(into->of) more = from->of > into->of;

	into->of = (from->of & more) | (into->of & ~more);
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

static struct unordered_place *unordered_place(unsigned int number)
{
	struct unordered_place *place = &unordered_places[number];

	if (place->stamp != unordered_stamp) {
		trail_save(&place->stamp, sizeof(place->stamp));
		memset(&place->points, 0, sizeof(place->points));
		memset(&place->plains[0].at, 0, sizeof(place->plains[0].at));
		memset(&place->plains[1].at, 0, sizeof(place->plains[1].at));
		place->stamp = unordered_stamp;
	}
	return place;
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
	const struct unordered_plains *plains = &place->plains[wrote];
	unsigned int lanes = unordered_lanes(&plains->at, known);
	bool found = false;

	for (; lanes; lanes &= lanes - 1) {
		unsigned int t = (unsigned int)__builtin_ctz(lanes);

		if (section && plains->section[t] == section)
			continue;
		unordered_found(plains->pc[t]);
		found = true;
	}
	return found;
}

void unordered_point(unsigned int number, bool writes)
{
	struct unordered_place *place = unordered_place(number);
	struct unordered_points *points = &place->points;
	struct unordered_clock *self = &unordered_threads[engine.current];

	trail_save(self, sizeof(*self));
	trail_save(points, sizeof(*points));
	unordered_join(self, &points->writes);
	if (writes)
		unordered_join(self, &points->reads);
	unordered_unlike(place, true, self, 0);
	if (writes)
		unordered_unlike(place, false, self, 0);
	self->of -= unordered_lane(engine.current).of;
	if (writes) {
		points->writes = *self;
		memset(&points->reads, 0, sizeof(points->reads));
		unordered_set(&points->write_at, self, engine.current);
	} else {
		unordered_join(&points->reads, self);
		unordered_set(&points->read_at, self, engine.current);
	}
}

void unordered_plain(unsigned int number, bool writes, uint32_t pc, unsigned int section)
{
	struct unordered_place *place = unordered_place(number);
	const struct unordered_clock *self = &unordered_threads[engine.current];
	struct unordered_plains *plains = &place->plains[writes];
	struct unordered_clock next = *self;
	bool found = unordered_lanes(&place->points.write_at, self) ||
		     (writes && unordered_lanes(&place->points.read_at, self));

	found |= unordered_unlike(place, true, self, section);
	if (writes)
		found |= unordered_unlike(place, false, self, section);
	if (found)
		unordered_found(pc);
	next.of -= unordered_lane(engine.current).of;
	trail_save(plains, sizeof(*plains));
	unordered_set(&plains->at, &next, engine.current);
	plains->section[engine.current] = (uint16_t)section;
	plains->pc[engine.current] = pc;
}
