/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the code under test and its stubs see of an engine.
 *
 * Each function is one decision point: another thread may be chosen before
 * the operation takes place, never after it. `pc` is the caller's return
 * address and only names the step. Outside a run (set-up) all of them pass
 * straight through.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "step.h"
#include "trace.h"
#include "verdict.h"

#define ENGINE_PC()	__builtin_extract_return_addr(__builtin_return_address(0))

/* A memory access of `bytes` bytes, about to happen; the caller performs it. */
void engine_access(const void *address, unsigned int bytes,
		   enum event_kind kind, const void *pc);

/*
 * The one blocking primitive: waits until ready(object), then take(object) in
 * the same step. ready() must be pure, since an engine asks it at will.
 */
void engine_wait(bool (*ready)(const void *object), void (*take)(void *object),
		 void *object, enum event_kind kind, const void *pc);

/* The number of the thread that asks. */
unsigned int engine_self(void);

/* Ends the run with a verdict; the calling thread does not come back. */
_Noreturn void engine_stop(enum verdict verdict);

/* The first page, where nothing is: NULL, and the fields of what somebody takes for being there. */
#define ENGINE_NULL_BYTES	4096

/*
 * Before anybody looks at what is there: NULL ends the run. Not asked of
 * instrumented accesses within the kernel's data, which are not there.
 */
static inline void engine_reach(const void *address)
{
	if (__builtin_expect((uintptr_t)address < ENGINE_NULL_BYTES, 0))
		engine_stop(VERDICT_NULL_DEREFERENCE);
}

#endif
