// SPDX-License-Identifier: GPL-2.0-only
/*
 * The policies that draw every answer.
 *
 * `random` stays on the running thread and switches with probability 2^-k,
 * where k is drawn from 1 to 6 once per run: few switches reach what needs a
 * thread to get far while another one stands still, many reach what needs a
 * tight interleaving. `uniform` draws every answer alike and is a baseline
 * only: over some hundred points it almost never lets a thread get far.
 */
#include "policy.h"
#include "random.h"

static uint64_t random_now;
static uint32_t random_threshold;	/* of a 32-bit draw: switch below it */

static void random_begin(uint64_t seed, uint64_t schedule)
{
	random_now = random_state(seed, schedule);
	random_threshold = 1u << (31 - random_below(&random_now, 6));
}

static unsigned int random_choose(unsigned int enabled, bool forced)
{
	if (forced)
		return random_below(&random_now, enabled);
	if (random_draw(&random_now) >= random_threshold)
		return 0;
	return 1 + random_below(&random_now, enabled - 1);
}

static void uniform_begin(uint64_t seed, uint64_t schedule)
{
	random_now = random_state(seed, schedule);
}

static unsigned int uniform_choose(unsigned int enabled, bool forced)
{
	(void)forced;
	return random_below(&random_now, enabled);
}

const struct policy policy_random = {
	.name = "random",
	.begin = random_begin,
	.choose = random_choose,
};

const struct policy policy_uniform = {
	.name = "uniform",
	.begin = uniform_begin,
	.choose = uniform_choose,
};
