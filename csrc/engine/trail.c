// SPDX-License-Identifier: GPL-2.0-only
/* The log is one array; an execution with more than that is followed by one from the start. */
#include "trail.h"

struct trail trail;

bool trail_begin(bool explores)
{
	trail.on = explores;
	if (explores && trail.kept)
		return true;
	trail.kept = 0;
	trail.torn = false;
	trail.used = 0;
	return false;
}

void trail_back(uint32_t used, uint32_t kept)
{
	uint32_t at = trail.used;

	trail.kept = trail.torn ? 0 : kept;
	if (!trail.kept)
		return;
	while (at-- > used)
		memcpy(trail.words[at].at, &trail.words[at].was, sizeof(trail.words[at].was));
	trail.used = used;
}
