/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The short ways through the funnel. Most accesses of a search are no decision, and
 * nobody looks at them: they are done in the hook, without a frame. So are those of an
 * exploration that are part of a step and not its begin. Everything else is
 * engine_access()'s, which would do the same.
 *
 * Plain and marked accesses only, of up to 8 bytes. None of them is to the word
 * of a lock, since lock.c is not instrumented.
 */
#ifndef ENGINE_LEAN_H
#define ENGINE_LEAN_H

#include "core.h"
#include "interleaving.h"
#include "memory.h"
#include "places.h"
#include "trail.h"
#include "watch.h"

/* False: nothing was done. */
static inline __attribute__((always_inline)) bool engine_lean(const void *address, bool writes,
							      const void *pc)
{
	uintptr_t offset = memory_offset(address);

	if (offset >= engine.lean_bytes || engine.steps + 1 >= engine.attention ||
	    memory_state[offset / MEMORY_UNIT])
		return false;
	engine.steps++;
	if (engine.leans && writes)
		interleaving_write(engine.current, offset, memory_kernel_pc(pc));
	else if (engine.leans)
		interleaving_read(engine.current, offset, memory_kernel_pc(pc));
	return true;
}

/* The same of a plain access within a step, at which an exploration and nobody else looks. */
static inline __attribute__((always_inline)) bool engine_lean_step(const void *address,
								   unsigned int bytes,
								   bool writes, const void *pc)
{
	uintptr_t offset = memory_offset(address);
	uint32_t at = memory_kernel_pc(pc);

	if (offset >= engine.step_bytes || memory_state[offset / MEMORY_UNIT] ||
	    watch_is_promoted(at))
		return false;
	if (writes)
		trail_save_data(offset, bytes);
	places_within(offset, bytes, writes, at);
	return true;
}

#endif
