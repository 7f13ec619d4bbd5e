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

/* With -DCR_UCONTEXT=1 all machines do as those without assembly, so that this can be tested. */
#if defined(__x86_64__) && !defined(CR_UCONTEXT)
#define SWITCH_X86_64	1
#elif defined(__aarch64__) && !defined(CR_UCONTEXT)
#define SWITCH_AARCH64	1
#endif

#if defined(SWITCH_X86_64) || defined(SWITCH_AARCH64)

/* A context that does not run is its stack, from here upwards, and nothing else. */
#define SWITCH_STACK	1

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

/*
 * Saves the running context in `from` and goes on with `to`. Only for functions
 * that call others, which keep nothing below their stack pointer.
 */
#if defined(SWITCH_X86_64)

/*
 * Inline, since a return to where nobody called from is never predicted: a jump
 * is. A suspended stack holds, from its pointer upwards, where to go on and rbp;
 * all else the compiler has saved.
 */
static inline __attribute__((always_inline)) void switch_to(struct switch_context *from,
							    struct switch_context *to)
{
	__asm__ volatile("pushq	%%rbp\n\t"
			 "leaq	1f(%%rip), %%rax\n\t"
			 "pushq	%%rax\n\t"
			 "movq	%%rsp, (%0)\n\t"
			 "movq	(%1), %%rsp\n\t"
			 "popq	%%rax\n\t"
			 "jmpq	*%%rax\n"
			 "1:\t"
			 "popq	%%rbp"
			 : "+D" (from), "+S" (to)
			 :
			 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13",
			   "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
			   "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			   "xmm15", "cc", "memory");
}

#else

void switch_to(struct switch_context *from, struct switch_context *to);

#endif

#endif
