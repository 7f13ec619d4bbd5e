/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs that the detectors need not look at, since they have looked at the same one.
 *
 * What a detector says of a run depends on what each thread did, in its own order,
 * and on the order of the steps that conflict: it is the same for all runs of one
 * happens-before class. A random search meets few classes, and those again and
 * again. So a run without detectors, which is the same run in half of the time,
 * names its class (interleaving_order() of interleaving.h: locks whose sections
 * commute count here, since they order what stands around them). Of a class that
 * a detector had nothing against, only the races that are no verdict, documented or
 * not asked for, are counted once more. Every other run is done again, with
 * detectors.
 *
 * A run that a verdict ended is never known, nor one in which memory was allocated
 * for the second time: only there may an access be meant for another object than
 * in a run of the same class. Nor is a class with more locks than lockdep.c has numbers for.
 *
 * Invariant: forgotten together with the races, whose numbers it keeps. A table
 * that is full takes no more classes, which costs time and nothing else.
 */
#ifndef ENGINE_KNOWN_H
#define ENGINE_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
/* Whether the detectors have seen the class of that name. */
bool known_is(uint64_t name);
/* A run of a class that is known was not shown to them: its races count all the same. */
void known_meet(uint64_t name);
/* The run that just ended was shown to them, and is of that class; nothing was wrong. */
void known_add(uint64_t name);
void known_forget(void);

#pragma GCC visibility pop

#endif
