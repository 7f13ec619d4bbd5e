/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The short way through the funnel. Most accesses of a search are no decision, and
 * nobody looks at them: they are done in the hook, without a frame. Everything else is
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

/* False: nothing was done. */
static inline __attribute__((always_inline)) bool engine_lean(const void *address, bool writes,
							      const void *pc)
{
	uintptr_t offset = memory_offset(address);

	if (offset >= engine.lean_bytes || engine.steps + 1 >= engine.attention ||
	    memory_state[offset / MEMORY_UNIT])
		return false;
	engine.steps++;
	if (engine.leans)	/* instrumented code is the kernel's: memory_pc() need not ask */
		interleaving_access(engine.current, offset, writes,
				    (uint32_t)((uintptr_t)pc - (uintptr_t)__start_cr_ktext) - 1);
	return true;
}

#endif
