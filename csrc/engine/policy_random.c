// SPDX-License-Identifier: GPL-2.0-only
/*
 * The policies that draw every answer.
 *
 * `random` stays on the running thread and switches with probability 2^-k,
 * where k is drawn from 1 to 6 once per run: few switches reach what needs a
 * thread to get far while another one stands still, many reach what needs a
 * tight interleaving. How many steps it stays is drawn at once, from the
 * geometric distribution. `uniform` draws every answer alike and is a baseline
 * only: over some hundred points it almost never lets a thread get far.
 */
#include "policy.h"
#include "random.h"

#define RANDOM_KINDS	6
#define RANDOM_LEVELS	256
#define RANDOM_STAY_MAX	64

static uint64_t random_now;
static unsigned int random_kind;

/* Per k the stay that belongs to a draw; RANDOM_STAY_MAX + 1 means: longer, draw again. */
static uint8_t random_stays[RANDOM_KINDS][RANDOM_LEVELS];

static void random_tabulate(void)
{
	unsigned int kind, level, stay;

	for (kind = 0; kind < RANDOM_KINDS; kind++) {
		double longer = 1, p = 1.0 / (2u << kind);

		stay = 0;
		for (level = 0; level < RANDOM_LEVELS; level++) {
			/* The smallest stay that at most this share of all runs exceeds. */
			while (stay <= RANDOM_STAY_MAX &&
			       1 - longer < (level + 0.5) / RANDOM_LEVELS) {
				longer *= 1 - p;
				stay++;
			}
			random_stays[kind][level] = (uint8_t)stay;
		}
	}
}

static uint32_t random_stay(void)
{
	uint32_t total = 0, stay;

	/* What is left of a geometric stay is geometric again. */
	do {
		stay = random_stays[random_kind][random_draw(&random_now) >> 24];
		total += stay > RANDOM_STAY_MAX ? RANDOM_STAY_MAX : stay;
	} while (stay > RANDOM_STAY_MAX);
	return total;
}

static void random_begin(uint64_t seed, uint64_t schedule)
{
	if (!random_stays[0][0])
		random_tabulate();
	random_now = random_state(seed, schedule);
	random_kind = random_below(&random_now, RANDOM_KINDS);
	policy_rest = random_stay();
}

static unsigned int random_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	unsigned int others = enabled & ~(1u << current);

	if (others == enabled)
		return policy_thread(enabled, current,
				     random_below(&random_now, policy_count(enabled)));
	policy_rest = step + random_stay();
	return policy_thread(others, current, random_below(&random_now, policy_count(others)));
}

static void uniform_begin(uint64_t seed, uint64_t schedule)
{
	random_now = random_state(seed, schedule);
	policy_rest = 0;
}

static unsigned int uniform_choose(unsigned int enabled, unsigned int current, uint32_t step)
{
	(void)step;
	return policy_thread(enabled, current,
			     random_below(&random_now, policy_count(enabled)));
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
