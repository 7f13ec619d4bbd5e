// SPDX-License-Identifier: GPL-2.0-only
/* The table of policies; its order is that of CR_POLICY_* in api.h. */
#include "policy.h"

uint32_t policy_rest;
struct policy_pending policy_pending[CR_THREADS_MAX];

static const struct policy *const policy_table[] = {
	&policy_tape,
	&policy_random,
	&policy_uniform,
	&policy_pct,
	&policy_pct_1,
	&policy_pct_2,
	&policy_pct_3,
	&policy_surw,
};

const struct policy *policy_get(unsigned int number)
{
	if (number >= sizeof(policy_table) / sizeof(policy_table[0]))
		return NULL;
	return policy_table[number];
}
