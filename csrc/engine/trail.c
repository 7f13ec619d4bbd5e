// SPDX-License-Identifier: GPL-2.0-only
/* The log is two arrays; an execution with more than that is followed by one from the start. */
#include "trail.h"

#include "core.h"

/* In front of each stack. */
struct trail_block {
	struct engine_thread thread;
	unsigned int number;
	char *at;
	size_t bytes;
} __attribute__((may_alias));

struct trail trail;

bool trail_begin(bool on)
{
	trail.on = on;
	trail.end = on ? trail.words + TRAIL_WORDS - TRAIL_SPARE : NULL;
	if (on && trail.kept)
		return true;
	trail.kept = 0;
	trail.torn = !on;
	trail.next = (struct trail_mark){ trail.words, trail.blocks };
	return false;
}

void trail_save_many(void *at, size_t count)
{
	char *word = at;

	for (; count; count--, word += sizeof(uint64_t))
		trail_save_words(word, 1);
}

/* Of such a block, so that the next one is aligned. */
static inline size_t trail_room(size_t bytes)
{
	const size_t unit = _Alignof(struct trail_block);

	return sizeof(struct trail_block) + (bytes + unit - 1) / unit * unit;
}

void trail_save_stack(unsigned int number, void *at, size_t bytes)
{
	struct trail_block *block = (void *)trail.next.block;
	size_t room = trail_room(bytes);

	if (room > (size_t)(trail.blocks + TRAIL_BYTES - trail.next.block)) {
		trail.torn = true;
		return;
	}
	block->thread = engine_threads[number];
	block->number = number;
	block->at = at;
	block->bytes = bytes;
	memcpy(block + 1, at, bytes);
	trail.next.block += room;
}

/* The oldest block of each stack. */
static void trail_back_stacks(const char *from)
{
	const char *end = trail.next.block;
	const struct trail_block *block;
	unsigned int back = 0;

	for (; from < end; from += trail_room(block->bytes)) {
		block = (const void *)from;
		if (back >> block->number & 1)
			continue;
		back |= 1u << block->number;
		engine_threads[block->number] = block->thread;
		memcpy(block->at, block + 1, block->bytes);
	}
}

void trail_back(struct trail_mark to, uint32_t kept, unsigned int current)
{
	const struct trail_word *word = trail.next.word;

	trail.kept = trail.torn ? 0 : kept;
	trail.current = current;
	if (!trail.kept)
		return;
#pragma GCC unroll 4
	while (word-- > to.word)
		memcpy(word->at, &word->was, sizeof(word->was));
	trail_back_stacks(to.block);
	trail.next = to;
}
