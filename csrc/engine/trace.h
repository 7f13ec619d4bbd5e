/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The trace: what happened in a run, append-only.
 *
 * The side that acts appends, the oracle reads. Objects are small numbers or
 * offsets, never addresses, so that equal runs have equal traces in every
 * process. Accesses are kept only when a full trace was asked for.
 */
#ifndef ENGINE_TRACE_H
#define ENGINE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

enum event_kind {
#define EVENT(name, text, object, value)	EVENT_##name,
#include "events.def"
#undef EVENT
	EVENT_COUNT
};

#define EVENT_LAST_ACCESS	EVENT_UNLOCK_SHARED

/* The value of a callback's event, and its parts. */
#define EVENT_VALUE(backend, inode, page, low) \
	((int64_t)((uint64_t)(backend) << 56 | (uint64_t)(inode) << 48 | \
		   (uint64_t)(page) << 40 | (uint32_t)(low)))
#define EVENT_BACKEND(value)	((unsigned int)((uint64_t)(value) >> 56 & 0xff))
#define EVENT_LOW(value)	((uint32_t)(value))

/* Whether an access of that kind conflicts with reads. */
static inline bool trace_kind_writes(enum event_kind kind)
{
	const unsigned int reads = 1u << EVENT_READ | 1u << EVENT_READ_MARKED |
		1u << EVENT_ATOMIC_READ | 1u << EVENT_LOCK_SHARED |
		1u << EVENT_UNLOCK_SHARED;

	return !(reads >> kind & 1);
}

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
/*
 * Events so far, and those of real threads that came too late: see trace_length(). Who
 * takes an execution back sets it, too.
 */
extern size_t trace_used;

void trace_reset(void);
size_t trace_length(void);
void trace_append(enum event_kind kind, int object, int64_t value);
void trace_access(enum event_kind kind, int object, int64_t value,
		  uint32_t pc, unsigned int enabled);
/* What real threads appended becomes part of the trace, when none of them runs. */
void trace_merge(void);
const struct cr_event *trace_events(size_t *length);

#pragma GCC visibility pop
#endif
