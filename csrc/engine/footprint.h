/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a step read and wrote, as two sets of numbered places. Two steps are
 * dependent exactly if their footprints conflict.
 */
#ifndef ENGINE_FOOTPRINT_H
#define ENGINE_FOOTPRINT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FOOTPRINT_PLACES	256
#define FOOTPRINT_WORDS		(FOOTPRINT_PLACES / 64)

/* So many words are in use: numbers are given one after the other. */
extern uint32_t footprint_words;

struct footprint {
	uint64_t reads[FOOTPRINT_WORDS];
	uint64_t writes[FOOTPRINT_WORDS];
};

static inline void footprint_add(struct footprint *footprint, unsigned int place, bool writes)
{
	uint64_t *set = writes ? footprint->writes : footprint->reads;

	set[place / 64] |= (uint64_t)1 << place % 64;
}

static inline bool footprint_has(const struct footprint *footprint, unsigned int place,
				 bool writes)
{
	uint64_t set = footprint->writes[place / 64];

	if (!writes)
		set |= footprint->reads[place / 64];
	return set >> place % 64 & 1;
}

/* A footprint in 64 places: if two of these do not conflict, nor do what they are of. */
struct footprint_sum {
	uint64_t all;
	uint64_t writes;
};

static inline struct footprint_sum footprint_sum(const struct footprint *footprint)
{
	struct footprint_sum sum = { 0, 0 };
	unsigned int i;

	for (i = 0; i < footprint_words; i++) {
		sum.all |= footprint->reads[i] | footprint->writes[i];
		sum.writes |= footprint->writes[i];
	}
	return sum;
}

static inline bool footprint_sums_conflict(struct footprint_sum a, struct footprint_sum b)
{
	return (a.writes & b.all) | (a.all & b.writes);
}

static inline void footprint_unite(struct footprint *into, const struct footprint *from)
{
	unsigned int i;

	for (i = 0; i < footprint_words; i++) {
		into->reads[i] |= from->reads[i];
		into->writes[i] |= from->writes[i];
	}
}

static inline bool footprint_conflict(const struct footprint *a, const struct footprint *b)
{
	uint64_t both = 0;
	unsigned int i;

	for (i = 0; i < footprint_words; i++)
		both |= (a->writes[i] & (b->writes[i] | b->reads[i])) |
			(a->reads[i] & b->writes[i]);
	return both;
}

#endif
