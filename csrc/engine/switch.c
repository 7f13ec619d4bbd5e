// SPDX-License-Identifier: GPL-2.0-only
/*
 * The context switch where it is not inline: assembly for aarch64, ucontext
 * elsewhere. It stands in a file of its own, so that no compiler believes it
 * to be a leaf and keeps file statics in registers across it.
 */
#include "switch.h"

#include <stdint.h>
#include <string.h>

#if defined(SWITCH_X86_64)

void switch_prepare(struct switch_context *context, void *stack, size_t bytes,
		    void (*entry)(void))
{
	uintptr_t *top = (uintptr_t *)((uintptr_t)stack + bytes);

	/* At entry() the stack pointer is 8 past a multiple of 16. */
	top[-1] = 0;
	top[-2] = (uintptr_t)entry;
	context->sp = top - 2;
}

#elif defined(SWITCH_AARCH64)

/* x19 to x30 and d8 to d15 are preserved by a callee: 20 words. */
__asm__(
"	.text\n"
"	.globl	switch_to\n"
"	.hidden	switch_to\n"
"	.type	switch_to, %function\n"
"switch_to:\n"
"	sub	sp, sp, #160\n"
"	stp	x19, x20, [sp, #0]\n"
"	stp	x21, x22, [sp, #16]\n"
"	stp	x23, x24, [sp, #32]\n"
"	stp	x25, x26, [sp, #48]\n"
"	stp	x27, x28, [sp, #64]\n"
"	stp	x29, x30, [sp, #80]\n"
"	stp	d8, d9, [sp, #96]\n"
"	stp	d10, d11, [sp, #112]\n"
"	stp	d12, d13, [sp, #128]\n"
"	stp	d14, d15, [sp, #144]\n"
"	mov	x9, sp\n"
"	str	x9, [x0]\n"
"	ldr	x9, [x1]\n"
"	mov	sp, x9\n"
"	ldp	x19, x20, [sp, #0]\n"
"	ldp	x21, x22, [sp, #16]\n"
"	ldp	x23, x24, [sp, #32]\n"
"	ldp	x25, x26, [sp, #48]\n"
"	ldp	x27, x28, [sp, #64]\n"
"	ldp	x29, x30, [sp, #80]\n"
"	ldp	d8, d9, [sp, #96]\n"
"	ldp	d10, d11, [sp, #112]\n"
"	ldp	d12, d13, [sp, #128]\n"
"	ldp	d14, d15, [sp, #144]\n"
"	add	sp, sp, #160\n"
"	ret\n"
"	.size	switch_to, .-switch_to\n"
);

void switch_prepare(struct switch_context *context, void *stack, size_t bytes,
		    void (*entry)(void))
{
	uintptr_t *sp = (uintptr_t *)((uintptr_t)stack + bytes) - 20;

	memset(sp, 0, 20 * sizeof(*sp));
	sp[11] = (uintptr_t)entry;	/* x30, the link register */
	context->sp = sp;
}

#else

void switch_to(struct switch_context *from, struct switch_context *to)
{
	swapcontext(&from->context, &to->context);
}

void switch_prepare(struct switch_context *context, void *stack, size_t bytes,
		    void (*entry)(void))
{
	getcontext(&context->context);
	context->context.uc_stack.ss_sp = stack;
	context->context.uc_stack.ss_size = bytes;
	context->context.uc_link = NULL;
	makecontext(&context->context, entry, 0);
}

#endif
