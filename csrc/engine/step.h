/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A step of several instructions that happens at once, with one decision point
 * before it. At most one is open at a time.
 */
#ifndef ENGINE_STEP_H
#define ENGINE_STEP_H

#include "trace.h"

void engine_step_begin(const void *address, const void *pc);
/*
 * The same for a release. It moves left over whatever others do before it, so a
 * reduced run needs no point there, unless it is of a lock that is tried.
 */
void engine_step_left(const void *address, const void *pc);
/* What happens now touches this as well: it must be alive, and counts as an access. */
void engine_step_also(const void *address, enum event_kind kind, const void *pc);
/* Ends the step, and says what it turned out to do to its address. */
void engine_step_end(enum event_kind kind);

#endif
