// SPDX-License-Identifier: GPL-2.0-only
/* The log is two arrays; an execution with more than that is followed by one from the start. */
#include "trail.h"

/* Behind each block. */
struct trail_block {
	char *at;
	size_t bytes;
};

struct trail trail;

bool trail_begin(bool on)
{
	trail.on = on;
	trail.end = on ? trail.words + TRAIL_WORDS : trail.words;
	if (on && trail.kept)
		return true;
	trail.kept = 0;
	trail.torn = !on;
	trail.next = (struct trail_mark){ trail.words, trail.blocks };
	return false;
}

void trail_save_block(void *at, size_t bytes)
{
	struct trail_block block = { at, bytes };
	char *to = trail.next.block;

	if (bytes + sizeof(block) > (size_t)(trail.blocks + TRAIL_BYTES - to)) {
		trail.torn = true;
		return;
	}
	memcpy(to, at, bytes);
	memcpy(to + bytes, &block, sizeof(block));
	trail.next.block = to + bytes + sizeof(block);
}

static void trail_back_blocks(char *to)
{
	struct trail_block block;

	while (trail.next.block > to) {
		trail.next.block -= sizeof(block);
		memcpy(&block, trail.next.block, sizeof(block));
		trail.next.block -= block.bytes;
		memcpy(block.at, trail.next.block, block.bytes);
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
	trail.next.word = to.word;
	trail_back_blocks(to.block);
}
