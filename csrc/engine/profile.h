/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a scenario does, as far as that can be known before a schedule is run:
 * counted in a few runs whose seed is fixed, so that it is a pure function of
 * scenario and configuration. Only an estimate: another schedule may take other
 * branches.
 *
 * run.c runs the scenario under profile_policy between profile_begin() and
 * profile_end(), before the first run of a policy that is `profiled`.
 */
#ifndef ENGINE_PROFILE_H
#define ENGINE_PROFILE_H

#include <stdint.h>

#include "memory.h"
#include "policy.h"

#define PROFILE_RUNS	8

/* How often each thread was about to touch a place, in all runs together. */
struct profile_place {
	bool written;
	uint32_t counts[CR_THREADS_MAX];
};

struct profile {
	unsigned int threads;
	uint32_t steps;			/* decision points of the longest run */
	/* The places that two threads touch and somebody writes: offset / MEMORY_GRAIN. */
	unsigned int shared;
	uint16_t shared_places[MEMORY_MAX / MEMORY_GRAIN];
	struct profile_place places[MEMORY_MAX / MEMORY_GRAIN];
};
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct profile profile;

/* Decides as `random` does, and counts. */
extern const struct policy profile_policy;

void profile_begin(unsigned int threads);
void profile_end(void);

#pragma GCC visibility pop
#endif
