/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Planted bugs and marks as enums; planted.def and marks.def explain each.
 * The set of planted bugs is frozen while a run is active.
 */
#ifndef KERNEL_PLANTED_H
#define KERNEL_PLANTED_H

#include <stdbool.h>
#include <stdint.h>

enum planted {
#define PLANTED(name, text, sentence)	PLANTED_##name,
#include "planted.def"
#undef PLANTED
	PLANTED_COUNT
};

enum mark {
#define MARK(name, text, sentence)	MARK_##name,
#include "marks.def"
#undef MARK
	MARK_COUNT
};

/* See scenario.h. */
#ifndef FROZEN
#define FROZEN
#endif

extern FROZEN uint32_t planted_set;

static inline bool planted(enum planted bug)
{
	return planted_set >> bug & 1;
}

/* Notes that something happened; never seen by the code under test. */
void mark(enum mark mark);

#endif
