/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Finds plain accesses that the points of a reduced run do not order, so that
 * they have to be points themselves.
 *
 * Points order like volatile variables: of two that conflict the earlier one
 * comes before the later one, as do the words of locks, and fields that a
 * spinlock guards. A plain access that conflicts with an access of another
 * thread, and is ordered with it by nothing of that, was made part of a step
 * without right. Places are numbered as in places.h.
 */
#ifndef ENGINE_UNORDERED_H
#define ENGINE_UNORDERED_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"

#define UNORDERED_MAX	32

/* A lane per thread; what is not there is 0. */
struct unordered_clock {
	int16_t of __attribute__((vector_size(2 * CR_THREADS_MAX)));
};

/* The plain accesses that were found in this run, as offsets into the kernel's text. */
struct unordered_met {
	uint64_t count;
	uint64_t late;		/* 1: a place was first touched plainly, maybe after points */
	uint32_t pc[UNORDERED_MAX];
};
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct unordered_met unordered_met;

void unordered_reset(void);
/* No place was ever touched. */
void unordered_forget(void);
/* An access that orders: a point, a release, a guarded field. */
void unordered_point(unsigned int place, bool writes);
/*
 * One that does not; `section`: the section lock that is held, or 0. Two accesses in
 * sections of one lock do not come together, whichever of them order.
 */
void unordered_plain(unsigned int place, bool writes, uint32_t pc, unsigned int section);

#pragma GCC visibility pop
#endif
