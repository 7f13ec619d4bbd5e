/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Takes back what those who look on at an execution remember of its last steps,
 * so that the next one, which begins with the same steps, need not show them
 * again: they run unobserved, and only from the branch on does anybody look.
 *
 * A log of old values. Whoever looks on saves each of its words here before it
 * changes, except words that mean nothing until they are written again. What
 * is not saved survives: what all executions together have met.
 */
#ifndef ENGINE_TRAIL_H
#define ENGINE_TRAIL_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TRAIL_WORDS	(1 << 18)

struct trail_word {
	void *at;
	uint64_t was;
};

struct trail {
	bool on;
	bool torn;		/* something is missing in it: nothing can be taken back */
	uint32_t kept;		/* the next execution's steps that need not be shown again */
	uint32_t used;
	struct trail_word words[TRAIL_WORDS];
};

extern struct trail trail;

/*
 * A run begins, of an exploration or not. True: it takes up what the last one
 * left of the log. Else the log is empty, and of no use if this is none.
 */
bool trail_begin(bool explores);
/* Takes back what was changed since `used` was that; then so many steps are kept. */
void trail_back(uint32_t used, uint32_t kept);

/*
 * About to change; `bytes` is a constant, and a multiple of 8: with words of one
 * size there is nothing to decide when they are put back.
 */
#define trail_save(at, bytes)						\
	do {								\
		static_assert((bytes) % 8 == 0, "whole words");		\
		trail_save_words(at, bytes);				\
	} while (0)

static inline __attribute__((always_inline)) void trail_save_words(void *at, size_t bytes)
{
	struct trail_word *word = &trail.words[trail.used];
	size_t i;

	if (!trail.on)
		return;
	if (trail.used + bytes / sizeof(word->was) > TRAIL_WORDS) {
		trail.torn = true;
		return;
	}
	trail.used += (uint32_t)(bytes / sizeof(word->was));
	for (i = 0; i < bytes; i += sizeof(word->was), word++) {
		word->at = (char *)at + i;
		memcpy(&word->was, (char *)at + i, sizeof(word->was));
	}
}

#endif
