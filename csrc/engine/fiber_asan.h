/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tells AddressSanitizer which stack the process is on, in the flavour `asan`;
 * in every other build the three functions are empty.
 *
 * Contract: fiber_asan_leave(stack) right before a switch to a fiber's stack,
 * or with NULL to the one that called fiber_run(); fiber_asan_enter() first
 * thing after every switch, on the new stack.
 */
#ifndef ENGINE_FIBER_ASAN_H
#define ENGINE_FIBER_ASAN_H

#include <stddef.h>

#include "core.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static const void *fiber_asan_main;
static size_t fiber_asan_main_bytes;

static inline void fiber_asan_reset(void)
{
	/* An abandoned fiber leaves its frames' red zones behind. */
	__asan_unpoison_memory_region(engine_stacks, sizeof(engine_stacks) / 2);
	fiber_asan_main = NULL;
}

static inline void fiber_asan_leave(const void *stack)
{
	void *fake;

	if (stack)
		__sanitizer_start_switch_fiber(&fake, stack, ENGINE_STACK_BYTES);
	else
		__sanitizer_start_switch_fiber(&fake, fiber_asan_main, fiber_asan_main_bytes);
}

static inline void fiber_asan_enter(void)
{
	const void *from;
	size_t bytes;

	__sanitizer_finish_switch_fiber(NULL, &from, &bytes);
	/* The first switch of a run comes from the stack to return to. */
	if (!fiber_asan_main) {
		fiber_asan_main = from;
		fiber_asan_main_bytes = bytes;
	}
}

#else

static inline void fiber_asan_reset(void)
{
}

static inline void fiber_asan_leave(const void *stack)
{
	(void)stack;
}

static inline void fiber_asan_enter(void)
{
}

#endif

#endif
