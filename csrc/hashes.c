// SPDX-License-Identifier: GPL-2.0-only
/* Open addressing over the first slots_used slots, which double when they are half full. */
#include "hashes.h"

#include <string.h>

#define HASHES_FIRST	256

void hashes_empty(struct hashes *set)
{
	memset(set->slots, 0, set->slots_used * sizeof(set->slots[0]));
	set->slots_used = HASHES_FIRST;
	set->count = 0;
	set->full = false;
}

static uint64_t *hashes_slot(const struct hashes *set, uint64_t hash)
{
	size_t at = hash & (set->slots_used - 1);

	while (set->slots[at] && set->slots[at] != hash)
		at = (at + 1) & (set->slots_used - 1);
	return &set->slots[at];
}

/*
 * Doubles the slots in place: what is in the lower half goes to its new slot,
 * after a chain that wraps around has been taken out.
 */
static void hashes_grow(struct hashes *set)
{
	size_t old = set->slots_used, i;

	set->slots_used *= 2;
	/* From an empty slot on, so that no chain is cut; there is one, at half load. */
	for (i = 0; set->slots[i]; i++)
		;
	old += i;
	for (; i < old; i++) {
		size_t at = i & (set->slots_used / 2 - 1);
		uint64_t hash = set->slots[at];

		if (!hash)
			continue;
		set->slots[at] = 0;
		*hashes_slot(set, hash) = hash;
	}
}

bool hashes_add(struct hashes *set, uint64_t hash)
{
	uint64_t *slot;

	/* 0 is the mark of an empty slot. */
	hash += !hash;
	slot = hashes_slot(set, hash);
	if (*slot)
		return false;
	if (set->count >= set->slots_used / 2) {
		if (set->slots_used == set->slots_max) {
			set->full = true;
			return false;
		}
		hashes_grow(set);
		slot = hashes_slot(set, hash);
	}
	*slot = hash;
	set->count++;
	return true;
}

size_t hashes_copy(const struct hashes *set, uint64_t *out, size_t max)
{
	size_t i, copied = 0;

	for (i = 0; i < set->slots_used && copied < max; i++)
		if (set->slots[i])
			out[copied++] = set->slots[i];
	return set->count;
}
