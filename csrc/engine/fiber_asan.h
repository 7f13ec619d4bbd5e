/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tells AddressSanitizer which stack the process is on, in the flavour `asan`
 * and in what OSS-Fuzz builds; in every other build the functions are empty.
 *
 * Contract: fiber_asan_leave(self, stack) right before a switch to a fiber's
 * stack, or with NULL to the one that called fiber_run(); fiber_asan_enter(self)
 * first thing after every switch, on the new stack. Self is a fiber's number,
 * or FIBER_ASAN_MAIN. fiber_asan_end() when all is back where fiber_run() was
 * called.
 */
#ifndef ENGINE_FIBER_ASAN_H
#define ENGINE_FIBER_ASAN_H

#include <stddef.h>

#include "core.h"

#define FIBER_ASAN_MAIN	CR_THREADS_MAX

/* gcc says it by a macro, clang by a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN	1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN	1
#endif
#endif

#if defined(FIBER_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

static const void *fiber_asan_main;
static size_t fiber_asan_main_bytes;
/* Where frames really are while returns are checked (detect_stack_use_after_return). */
static void *fiber_asan_frames[CR_THREADS_MAX + 1];

static inline void fiber_asan_reset(void)
{
	/* An abandoned fiber leaves its frames' red zones behind. */
	__asan_unpoison_memory_region(engine_stacks, sizeof(engine_stacks) / 2);
	fiber_asan_main = NULL;
}

static inline void fiber_asan_leave(unsigned int self, const void *stack)
{
	if (stack)
		__sanitizer_start_switch_fiber(&fiber_asan_frames[self], stack, ENGINE_STACK_BYTES);
	else
		__sanitizer_start_switch_fiber(&fiber_asan_frames[self], fiber_asan_main,
					       fiber_asan_main_bytes);
}

static inline void fiber_asan_enter(unsigned int self)
{
	const void *from;
	size_t bytes;

	__sanitizer_finish_switch_fiber(fiber_asan_frames[self], &from, &bytes);
	fiber_asan_frames[self] = NULL;
	/* The first switch of a run comes from the stack to return to. */
	if (!fiber_asan_main) {
		fiber_asan_main = from;
		fiber_asan_main_bytes = bytes;
	}
}

/* No fiber comes back; who leaves a stack for good frees the frames that go with it. */
__attribute__((noinline, no_sanitize_address)) static void fiber_asan_end(void)
{
	unsigned int i;

	for (i = 0; i < CR_THREADS_MAX; i++) {
		if (!fiber_asan_frames[i])
			continue;
		fiber_asan_leave(FIBER_ASAN_MAIN, NULL);
		fiber_asan_enter(i);
		__sanitizer_start_switch_fiber(NULL, fiber_asan_main, fiber_asan_main_bytes);
		fiber_asan_enter(FIBER_ASAN_MAIN);
	}
}

#else

#define FIBER_ASAN	0

static inline void fiber_asan_reset(void)
{
}

static inline void fiber_asan_leave(unsigned int self, const void *stack)
{
	(void)self;
	(void)stack;
}

static inline void fiber_asan_enter(unsigned int self)
{
	(void)self;
}

static inline void fiber_asan_end(void)
{
}

#endif

#endif
