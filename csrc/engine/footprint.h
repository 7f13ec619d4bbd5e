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
#define FOOTPRINT_LANES		2	/* words that are compared at once */

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
	uint64_t both __attribute__((vector_size(8 * FOOTPRINT_LANES))) = { 0 };
	__typeof__(both) a_reads, a_writes, b_reads, b_writes;
	unsigned int i;

	for (i = 0; i < FOOTPRINT_WORDS; i += FOOTPRINT_LANES) {
		memcpy(&a_reads, &a->reads[i], sizeof(both));
		memcpy(&a_writes, &a->writes[i], sizeof(both));
		memcpy(&b_reads, &b->reads[i], sizeof(both));
		memcpy(&b_writes, &b->writes[i], sizeof(both));
		both |= (a_writes & (b_writes | b_reads)) | (a_reads & b_writes);
	}
	return both[0] | both[1];
}

#endif
