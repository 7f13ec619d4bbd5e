/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The places that the steps of an exploration touch, and the footprint of the
 * step that is running. Places that more than one thread touches, in whichever
 * execution, are numbered; all others can conflict with nothing. When a place
 * turns out to be shared, footprints so far are incomplete: `learned` is set,
 * and the exploration has to begin anew.
 *
 * A place is 4 bytes of the kernel's data, or the life of an object: every
 * access to an object reads its life, allocating and freeing write it. The
 * word of a section lock is none, as long as sections are one step each.
 */
#ifndef ENGINE_PLACES_H
#define ENGINE_PLACES_H

#include "footprint.h"
#include "trace.h"

/* What all executions of one exploration share; plain data, to be saved. */
#define PLACES_TABLE	1024
#define PLACES_SHARED	0xff
#define PLACES_NEW	0xfe
#define PLACES_PRIVATE	FOOTPRINT_PLACES

struct places {
	uint8_t sections;	/* section locks are no places */
	uint8_t aliases;	/* there were too many places, so some share a number */
	uint8_t learned;
	uint16_t used;
	uint16_t shared;
	uint16_t offset[PLACES_TABLE];		/* in units of a place */
	uint8_t owner[PLACES_TABLE];		/* the one thread, or PLACES_SHARED */
	uint16_t number[PLACES_TABLE];		/* in footprints, of a shared one */
};
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct places places;

/* Forgets all places, or (with `keep`) takes over those that `places` has. */
void places_reset(bool keep);
/* A run that somebody explores begins at its start. */
void places_begin(void);
/* The number of a place that threads wait for, and so share. */
unsigned int places_number(uintptr_t offset);
/* An access of the running step, and the begin or end of an object's life. */
void places_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, uint32_t pc);
void places_life(uintptr_t offset, bool changes);
/* A plain access that no step begins with, and that was not promoted. */
void places_within(uintptr_t offset, unsigned int bytes, bool writes, uint32_t pc);
/* The access's part in the hash of the class, which an exploration keeps by itself. */
void places_class(uintptr_t offset, enum event_kind kind);
/* The running step ends its thread with a verdict: the first one to do so is the run's. */
void places_stop(void);
/* A hash of what the numbered places contain now. */
uint64_t places_state(void);

/*
 * The step that is running. Between two accesses of it that others order with
 * nothing of other threads can come, so of a place's plain reads, and of its
 * plain writes, one is enough.
 */
struct places_step {
	struct footprint *did;
	uint32_t passed;			/* its last access so far, or 0 */
	uint16_t section[CR_THREADS_MAX];	/* the section lock each thread holds, or 0 */
};
extern struct places_step places_step;
/* The stretch of the step up to the next such access has a number of its own. */
extern uint64_t places_stretch;

#pragma GCC visibility pop
#endif
