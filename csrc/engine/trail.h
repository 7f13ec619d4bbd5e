/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Takes an execution back to one of its decision points, so that the next one
 * goes on from there instead of doing all its steps again.
 *
 * A log of old values. Whatever changes in a run is saved here before it does:
 * the kernel's data, by the instrumentation and by the steps that do without;
 * the stack of a thread that is about to go on, and what the engine knows of it;
 * backends, and what those who look on remember. (The trace only grows, and whoever takes
 * a run back shortens it.) Words that
 * mean nothing until they are written again need not be saved. What is not
 * saved survives: what all executions together have met.
 *
 * The log is as long as the changes of one execution, and is read backwards, so
 * a word may stand in it many times.
 */
#ifndef ENGINE_TRAIL_H
#define ENGINE_TRAIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "memory.h"

#define TRAIL_WORDS	(1 << 18)
#define TRAIL_BYTES	(1 << 20)
#define TRAIL_SPARE	64	/* words at the end of the room, so that few are saved unasked */

struct trail_word {
	void *at;
	uint64_t was;
};

/* A place in the log: where the next word goes, and the next block. */
struct trail_mark {
	struct trail_word *word;
	char *block;
};

struct trail {
	struct trail_mark next;
	struct trail_word *end;	/* where no word may begin: NULL if the run is not logged */
	bool on;
	bool torn;		/* something is missing in it: nothing can be taken back */
	uint32_t kept;		/* the next execution's steps that need not be done again */
	uint32_t current;	/* and who took the last of them */
	struct trail_word words[TRAIL_WORDS];
	/* Blocks, each behind what is known of it: stacks overlap nothing else. */
	char blocks[TRAIL_BYTES] __attribute__((aligned(64)));
};

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct trail trail;

/*
 * A run begins, and can be taken back or not. True: it goes on from where the
 * last one was taken back to. Else the log is empty, and of no use if it cannot.
 */
bool trail_begin(bool on);
/* Takes back what was changed since `to` was next: so many steps are kept, the last is whose. */
void trail_back(struct trail_mark to, uint32_t kept, unsigned int current);
/*
 * The stack of that number, from `at` upwards, and what the engine knows of its thread. It
 * overlaps nothing that is saved as words, and the oldest block of each stack is all that it
 * takes to put it back.
 */
void trail_save_stack(unsigned int number, void *at, size_t bytes);
/* Any number of words. */
void trail_save_many(void *at, size_t count);

static inline __attribute__((always_inline)) void trail_save_words(void *at, size_t count)
{
	struct trail_word *word = trail.next.word;
	size_t i;

	if (word >= trail.end) {
		trail.torn = true;
		return;
	}
	trail.next.word = word + count;
	for (i = 0; i < count; i++, word++) {
		word->at = (char *)at + i * sizeof(word->was);
		memcpy(&word->was, word->at, sizeof(word->was));
	}
}

/*
 * About to change; `bytes` is a constant, and a multiple of 8: with words of one
 * size there is nothing to decide when they are put back.
 */
#define trail_save(at, bytes)						\
	do {								\
		static_assert((bytes) % 8 == 0, "whole words");		\
		static_assert((bytes) / 8 <= TRAIL_SPARE, "few words");	\
		trail_save_words(at, (bytes) / 8);			\
	} while (0)

/* The same of a field within an aligned word. */
static inline void trail_save_word(void *at)
{
	trail_save_words((void *)((uintptr_t)at & ~(uintptr_t)7), 1);
}

/*
 * The same of any size and anywhere: of the aligned words that it touches, so that
 * nothing that survives may share one of them.
 */
static inline void trail_save_range(void *at, size_t bytes)
{
	uintptr_t first = (uintptr_t)at & ~(uintptr_t)7;
	size_t words = ((uintptr_t)at + bytes + 7 - first) / 8;

	if (__builtin_expect(words == 1 || !trail.on, 1))
		trail_save_words((void *)first, 1);
	else
		trail_save_many((void *)first, words);
}

/* The same of the kernel's data, from an offset. */
static inline void trail_save_data(uintptr_t offset, size_t bytes)
{
	trail_save_range(__start_cr_kdata + offset, bytes);
}

#pragma GCC visibility pop
#endif
