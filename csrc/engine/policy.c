// SPDX-License-Identifier: GPL-2.0-only
/* The table of policies; its order is that of CR_POLICY_* in api.h. */
#include "policy.h"

static const struct policy *const policy_table[] = {
	&policy_tape,
	&policy_random,
	&policy_uniform,
};

const struct policy *policy_get(unsigned int number)
{
	if (number >= sizeof(policy_table) / sizeof(policy_table[0]))
		return NULL;
	return policy_table[number];
}
