// SPDX-License-Identifier: GPL-2.0-only
/* Counting, by a policy that is asked at every point. */
#include "profile.h"

#include <string.h>

struct profile profile;

/* The places that are not all zeros; the table is too large to clear it each time. */
static uint16_t profile_touched[MEMORY_MAX / MEMORY_GRAIN];
static unsigned int profile_touched_count;

void profile_begin(unsigned int threads)
{
	while (profile_touched_count)
		memset(&profile.places[profile_touched[--profile_touched_count]], 0,
		       sizeof(profile.places[0]));
	profile.threads = threads;
	profile.steps = 0;
	profile.shared = 0;
}

static unsigned int profile_threads_of(const struct profile_place *place)
{
	unsigned int i, threads = 0;

	for (i = 0; i < CR_THREADS_MAX; i++)
		threads += place->counts[i] > 0;
	return threads;
}

void profile_end(void)
{
	unsigned int i;

	for (i = 0; i < profile_touched_count; i++) {
		const struct profile_place *place = &profile.places[profile_touched[i]];

		if (place->written && profile_threads_of(place) > 1)
			profile.shared_places[profile.shared++] = profile_touched[i];
	}
}

static void profile_count(unsigned int thread)
{
	unsigned int number = policy_pending[thread].offset / MEMORY_GRAIN;
	struct profile_place *place = &profile.places[number];

	if (!profile_threads_of(place))
		profile_touched[profile_touched_count++] = (uint16_t)number;
	place->written |= policy_pending[thread].writes;
	place->counts[thread]++;
}

static void profile_policy_begin(uint64_t seed, uint64_t schedule)
{
	policy_random.begin(seed, schedule);
	policy_nobody_pends();
}

static unsigned int profile_policy_choose(unsigned int enabled, unsigned int current,
					  uint32_t step)
{
	if (step > profile.steps)
		profile.steps = step;
	if (current != POLICY_NOBODY && policy_pends(current))
		profile_count(current);
	/* `random` itself is not asked at every point: this is what the engine asks it. */
	if (!(enabled & (enabled - 1)))
		current = (unsigned int)__builtin_ctz(enabled);
	else if (!(enabled >> current & 1) || step >= policy_rest)
		current = policy_random.choose(enabled, current, step);
	policy_goes_on(current);
	return current;
}

const struct policy profile_policy = {
	.name = "profile",
	.every = true,
	.begin = profile_policy_begin,
	.choose = profile_policy_choose,
};
