/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which orders between threads are the kernel's, for the real ThreadSanitizer.
 *
 * In the flavour "tsan" (CR_TSAN) the plain build's instrumented objects run on
 * the thread engine with the real ThreadSanitizer behind our hooks. It does not
 * see the engine, which is neither instrumented nor uses anything that is
 * intercepted; so it is told the orders of race.h, and that a
 * round begins after and ends before everything else. What an atomic operation
 * accesses is told as a marked access. In every other flavour nothing here costs
 * anything.
 */
#ifndef ENGINE_TSAN_H
#define ENGINE_TSAN_H

#include <stdbool.h>
#include <stdint.h>

#include "trace.h"

#ifdef CR_TSAN

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* Whoever released before is before whoever acquires. */
static inline void tsan_acquire(const void *address)
{
	__tsan_acquire((void *)(uintptr_t)address);
}

static inline void tsan_release(const void *address)
{
	__tsan_release((void *)(uintptr_t)address);
}

/* The current step did that to the word, called from `pc`. */
void tsan_order(uintptr_t offset, enum event_kind kind, const void *pc);
/* An object was freed, or allocated. */
void tsan_life(uintptr_t offset, bool freed);
/* A wait for the word to change is over. */
void tsan_acquired(uintptr_t offset);

#else

static inline void tsan_acquire(const void *address)
{
	(void)address;
}

static inline void tsan_release(const void *address)
{
	(void)address;
}

static inline void tsan_order(uintptr_t offset, enum event_kind kind, const void *pc)
{
	(void)offset;
	(void)kind;
	(void)pc;
}

static inline void tsan_life(uintptr_t offset, bool freed)
{
	(void)offset;
	(void)freed;
}

static inline void tsan_acquired(uintptr_t offset)
{
	(void)offset;
}

#endif

#endif
