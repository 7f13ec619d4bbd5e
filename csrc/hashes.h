/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sets of 64-bit hashes in static memory, emptied in the time it took to fill
 * them. One that is full says so: its number is then a lower bound.
 */
#ifndef CLEANRACE_HASHES_H
#define CLEANRACE_HASHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hashes {
	uint64_t *slots;	/* 0: empty */
	size_t slots_max;	/* a power of two */
	size_t slots_used;	/* of them, a power of two; 0 before the first use */
	size_t count;
	bool full;
};

void hashes_empty(struct hashes *set);
/* True: it was not there. */
bool hashes_add(struct hashes *set, uint64_t hash);
/* Copies at most max of them; returns how many there are. */
size_t hashes_copy(const struct hashes *set, uint64_t *out, size_t max);

#endif
