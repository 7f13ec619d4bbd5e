/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Hand-over between stacks of one OS thread: 3 to 10 ns in assembly, against
 * some 240 ns for swapcontext(), which makes system calls. Only what the ABI
 * says a callee preserves is saved; signal masks and floating-point modes are
 * the same in all fibers and stay as they are.
 */
#ifndef ENGINE_SWITCH_H
#define ENGINE_SWITCH_H

#include <stddef.h>

#if defined(__x86_64__) || defined(__aarch64__)

struct switch_context {
	void *sp;
};

#else
#include <ucontext.h>

struct switch_context {
	ucontext_t context;
};

#endif

/* Prepares a context that starts entry() on the given stack. */
void switch_prepare(struct switch_context *context, void *stack, size_t bytes,
		    void (*entry)(void));

/* Saves the running context in `from` and goes on with `to`. */
void switch_to(struct switch_context *from, struct switch_context *to);

#endif
