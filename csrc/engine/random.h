/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The generator behind the policies that draw: splitmix64 to spread a seed,
 * xorshift64* per draw (Vigna 2016). One state per run, so that a run is
 * repeated by its seed and number alone.
 */
#ifndef ENGINE_RANDOM_H
#define ENGINE_RANDOM_H

#include <stdint.h>

static inline uint64_t random_spread(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* A state for run number `schedule` of `seed`; never 0, which would stay 0. */
static inline uint64_t random_state(uint64_t seed, uint64_t schedule)
{
	return random_spread(random_spread(seed) + schedule) | 1;
}

static inline uint32_t random_draw(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)(*state * 0x2545f4914f6cdd1du >> 32);
}

/* Uniform in 0 .. n - 1; a bias of n / 2^32 does not matter where it is used. */
static inline uint32_t random_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((uint64_t)random_draw(state) * n >> 32);
}

#endif
