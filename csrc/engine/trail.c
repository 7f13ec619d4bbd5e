// SPDX-License-Identifier: GPL-2.0-only
/* The log is two arrays; an execution with more than that is followed by one from the start. */
#include "trail.h"

/* In front of each block. */
struct trail_block {
	unsigned int number;	/* of the stack */
	char *at;
	size_t bytes;
};

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

void trail_save_stack(unsigned int number, void *at, size_t bytes)
{
	struct trail_block block = { number, at, bytes };
	char *to = trail.next.block;

	if (bytes + sizeof(block) > (size_t)(trail.blocks + TRAIL_BYTES - to)) {
		trail.torn = true;
		return;
	}
	memcpy(to, &block, sizeof(block));
	memcpy(to + sizeof(block), at, bytes);
	trail.next.block = to + sizeof(block) + bytes;
}

/* The oldest block of each stack. */
static void trail_back_stacks(const char *from)
{
	const char *end = trail.next.block;
	struct trail_block block;
	unsigned int back = 0;

	for (; from < end; from += sizeof(block) + block.bytes) {
		memcpy(&block, from, sizeof(block));
		if (!(back >> block.number & 1))
			memcpy(block.at, from + sizeof(block), block.bytes);
		back |= 1u << block.number;
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
