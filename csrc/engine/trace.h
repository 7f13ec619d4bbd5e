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

void trace_reset(void);
void trace_append(enum event_kind kind, int object, int64_t value);
void trace_access(enum event_kind kind, int object, int64_t value,
		  uint32_t pc, unsigned int enabled);
const struct cr_event *trace_events(size_t *length);

#endif
