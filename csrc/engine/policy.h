/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A policy writes the tape: at each decision point with more than one enabled
 * thread it answers i, the i-th enabled thread counting from the running one
 * upwards, cyclically. 0 goes on with the running thread, or takes the next
 * one if the running thread cannot go on.
 *
 * A new policy is one file and one row in policy.c.
 */
#ifndef ENGINE_POLICY_H
#define ENGINE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

struct policy {
	const char *name;
	void (*begin)(uint64_t seed, uint64_t schedule);
	/* `enabled` >= 2; forced: the running thread cannot go on. */
	unsigned int (*choose)(unsigned int enabled, bool forced);
};

/* The policy of that number (CR_POLICY_*), or NULL. */
const struct policy *policy_get(unsigned int number);

extern const struct policy policy_tape;
extern const struct policy policy_random;
extern const struct policy policy_uniform;

/* What the policy `tape` answers with, and the tape that the run wrote. */
void tape_load(const uint8_t *answers, size_t length);
/* Forgets what was written, and reads the loaded tape from its start. */
void tape_rewind(void);
extern uint8_t tape_out[CR_TAPE_MAX];
extern size_t tape_out_length;

/* False: the tape is full. */
static inline bool tape_write(unsigned int answer)
{
	if (tape_out_length == CR_TAPE_MAX)
		return false;
	tape_out[tape_out_length++] = (uint8_t)answer;
	return true;
}

const uint8_t *tape_written(size_t *length);

#endif
