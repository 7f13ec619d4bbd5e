/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a step read and wrote, as two sets of numbered places. Two steps are
 * dependent exactly if their footprints conflict.
 */
#ifndef ENGINE_FOOTPRINT_H
#define ENGINE_FOOTPRINT_H

#include <stdbool.h>
#include <stdint.h>

#define FOOTPRINT_PLACES	256
#define FOOTPRINT_WORDS		(FOOTPRINT_PLACES / 64)

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

static inline void footprint_unite(struct footprint *into, const struct footprint *from)
{
	unsigned int i;

	for (i = 0; i < FOOTPRINT_WORDS; i++) {
		into->reads[i] |= from->reads[i];
		into->writes[i] |= from->writes[i];
	}
}

static inline bool footprint_conflict(const struct footprint *a, const struct footprint *b)
{
	uint64_t both = 0;
	unsigned int i;

	for (i = 0; i < FOOTPRINT_WORDS; i++)
		both |= (a->writes[i] & (b->writes[i] | b->reads[i])) |
			(a->reads[i] & b->writes[i]);
	return both;
}

#endif
