/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who looks at single accesses: the full trace, a fuzzer's pairs, the explorer's
 * footprints and the detectors. One call, made only while any of them is on; where
 * it is the explorer alone, engine.c calls places.c itself.
 * Also the set of promoted accesses, at which a reduced run has a point.
 */
#ifndef ENGINE_WATCH_H
#define ENGINE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "interleaving.h"
#include "memory.h"
#include "trace.h"

#define WATCH_TEXT_MAX	131072	/* bytes of the kernel's code */

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern uint8_t watch_promoted[WATCH_TEXT_MAX / 8];

/* An access that happens now, at an offset into the kernel's data and code. */
void watch_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, const void *pc);

/*
 * Part of the step that happens now: the object at that offset begins or ends
 * its life, or is only asked whether it lives.
 */
void watch_life(uintptr_t offset, bool changes);

/* A verdict ends the running thread only, and with it the running step. */
void watch_stop(void);

/* How often each object began or ended its life while somebody looked on. */
extern uint64_t watch_lives[MEMORY_OBJECTS_MAX + 1];

/* The run's part in stamps. */
extern uint64_t watch_run;

/* Names the run and the life of whatever is at that offset. */
static inline uint64_t watch_stamp(uintptr_t offset)
{
	return watch_run | watch_lives[memory_object[offset / MEMORY_UNIT]];
}

/* A run begins: see race_reset(). */
void watch_reset(bool again);

/* A wait for the word at that offset to be 0 is over. */
void watch_acquired(uintptr_t offset);

static inline bool watch_is_promoted(uint32_t pc)
{
	return watch_promoted[pc / 8 % sizeof(watch_promoted)] >> pc % 8 & 1;
}

/* Whether an access by that instruction is a point of a reduced run. */
static inline bool watch_is_point(enum event_kind kind, uint32_t pc)
{
	return (kind != EVENT_READ && kind != EVENT_WRITE) || watch_is_promoted(pc);
}

/* True: it was not promoted before. */
bool watch_promote(uint32_t pc);

/*
 * Locks that somebody tried, asked whether they are held, or gave back without
 * holding them. For those a release does not move left over what others do: it is
 * a point as well.
 */
extern uint8_t watch_tried[MEMORY_MAX / MEMORY_GRAIN];
extern bool watch_tried_more;	/* since this was last set to false */

static inline void watch_try(uintptr_t offset)
{
	if (watch_tried[offset / MEMORY_GRAIN])
		return;
	watch_tried[offset / MEMORY_GRAIN] = 1;
	watch_tried_more = true;
}

#pragma GCC visibility pop
#endif
