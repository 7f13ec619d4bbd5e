/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Data races in the sense of the kernel's memory model, by happens-before: two
 * accesses of different threads race if they conflict, one of them is plain, and
 * neither happens before the other.
 *
 * What makes one happen before the other: a lock's release is before its later
 * acquisitions, except a reader's before a reader's; an atomic operation that
 * succeeds orders both ways with others on its word; freeing an object is before
 * allocating it again. Marked accesses order nothing, and two of them do not race.
 *
 * A place is 4 bytes, and an access of up to 8 is named by its first place. Only
 * for the fiber engine.
 */
#ifndef ENGINE_RACE_H
#define ENGINE_RACE_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "trace.h"

/* The first race of the run that is not documented, as places in the trace. */
struct race_met {
	uint64_t judged;	/* there is one */
	uint32_t violation;
	uint32_t cause;
};

/* Lines of the process's table of races that the run has counted in; full, there may be more. */
#define RACE_TOLD_MAX	256
struct race_told {
	uint64_t used;
	uint16_t lines[RACE_TOLD_MAX];
};

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct race_met race_met;
extern struct race_told race_told;

/*
 * A run begins: anew, or from where the trail has taken back what this file knows
 * of it. Then what race_told has counts again.
 */
void race_reset(bool again);
/* The running thread's access, in the order in which they happen. */
void race_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, const void *pc);
/* A wait for that word to be 0 is over: whoever made it so happened before. */
void race_acquire(uintptr_t offset);
/* The object at that offset has begun or ended its life. */
void race_life(uintptr_t offset);

#pragma GCC visibility pop
#endif
