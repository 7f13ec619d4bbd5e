// SPDX-License-Identifier: GPL-2.0-only
/*
 * The policy `tape`, and the tape itself.
 *
 * Any byte string is a tape: an answer counts modulo the number of enabled
 * threads, and past the end every answer is 0. The tape written is canonical,
 * and replaying it gives the run that wrote it.
 */
#include "policy.h"

#include <string.h>

static uint8_t tape_in[CR_TAPE_MAX];
static size_t tape_in_length;
static size_t tape_in_at;
uint8_t tape_out[CR_TAPE_MAX];
size_t tape_out_length;

void tape_load(const uint8_t *answers, size_t length)
{
	tape_in_length = length < CR_TAPE_MAX ? length : CR_TAPE_MAX;
	if (tape_in_length)
		memcpy(tape_in, answers, tape_in_length);
	tape_rewind();
}

void tape_rewind(void)
{
	tape_in_at = 0;
	tape_out_length = 0;
}

const uint8_t *tape_written(size_t *length)
{
	*length = tape_out_length;
	return tape_out;
}

static void tape_begin(uint64_t seed, uint64_t schedule)
{
	(void)seed;
	(void)schedule;
	policy_rest = 0;
}

static unsigned int tape_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	unsigned int answer = 0;

	(void)step;
	if (tape_in_at < tape_in_length)
		answer = tape_in[tape_in_at++] % policy_count(enabled);
	return policy_thread(enabled, current, answer);
}

const struct policy policy_tape = {
	.name = "tape",
	.begin = tape_begin,
	.choose = tape_choose,
};
