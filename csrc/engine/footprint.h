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
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern uint32_t footprint_words;

/* A word of both sets: the places that were read, and those that were written. */
struct footprint_word {
	uint64_t places[2];
};

struct footprint {
	struct footprint_word words[FOOTPRINT_WORDS];
};

static inline void footprint_add(struct footprint *footprint, unsigned int place, bool writes)
{
	footprint->words[place / 64].places[writes] |= (uint64_t)1 << place % 64;
}

static inline bool footprint_has(const struct footprint *footprint, unsigned int place,
				 bool writes)
{
	const struct footprint_word *word = &footprint->words[place / 64];
	uint64_t set = word->places[true];

	if (!writes)
		set |= word->places[false];
	return set >> place % 64 & 1;
}

/* A footprint in 64 places: if two of these do not conflict, nor do what they are of. */
struct footprint_sum {
	uint64_t all;
	uint64_t writes;
};

static inline struct footprint_sum footprint_sum(const struct footprint *footprint)
{
	const struct footprint_word *word = footprint->words;
	struct footprint_sum sum = { word->places[false] | word->places[true], word->places[true] };
	unsigned int i;

	for (i = 1; i < footprint_words; i++) {
		word++;
		sum.all |= word->places[false] | word->places[true];
		sum.writes |= word->places[true];
	}
	return sum;
}

static inline bool footprint_sums_conflict(struct footprint_sum a, struct footprint_sum b)
{
	return (a.writes & b.all) | (a.all & b.writes);
}

static inline void footprint_unite(struct footprint *into, const struct footprint *from)
{
	unsigned int i = 0;

	do {
		into->words[i].places[false] |= from->words[i].places[false];
		into->words[i].places[true] |= from->words[i].places[true];
	} while (++i < footprint_words);
}

static inline uint64_t footprint_common(const struct footprint_word *a,
					const struct footprint_word *b)
{
	return (a->places[true] & (b->places[true] | b->places[false])) |
	       (a->places[false] & b->places[true]);
}

/* Most scenarios have no more places than one word has bits. */
static inline bool footprint_conflict(const struct footprint *a, const struct footprint *b)
{
	unsigned int i = 0;

	do {
		if (footprint_common(&a->words[i], &b->words[i]))
			return true;
	} while (++i < footprint_words);
	return false;
}

#pragma GCC visibility pop
#endif
