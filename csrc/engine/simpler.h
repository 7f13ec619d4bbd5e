/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The execution that just ended in another order of its happens-before class,
 * with few preemptions: whoever runs goes on as long as the class lets it. What
 * was explored of a class is any of its executions, and this one is shown.
 */
#ifndef ENGINE_SIMPLER_H
#define ENGINE_SIMPLER_H

#include <stdbool.h>

#include "policy.h"

/* Finds it, and returns about how many preemptions it has. */
unsigned int simpler_find(void);
/* Runs it. */
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern const struct policy policy_simpler;
/* After that: the preemptions it had. False: it could not be run as it was found. */
bool simpler_ran(unsigned int *preemptions);

#pragma GCC visibility pop
#endif
