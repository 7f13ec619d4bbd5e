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

/* Most are a few words, for which a call of memcpy() would take longer than the copy. */
static inline void trail_restore(const struct trail_entry *entry, const unsigned char *from)
{
#define TRAIL_SIZE(bytes)	case bytes: memcpy(entry->at, from, bytes); break
	switch (entry->bytes) {
	TRAIL_SIZE(4);
	TRAIL_SIZE(8);
	TRAIL_SIZE(12);
	TRAIL_SIZE(16);
	TRAIL_SIZE(24);
	TRAIL_SIZE(32);
	TRAIL_SIZE(64);
	default:
		memcpy(entry->at, from, entry->bytes);
	}
#undef TRAIL_SIZE
}

void trail_back(uint32_t used, uint32_t kept)
{
	struct trail_entry entry;
	uint32_t at = trail.used;

	trail.kept = trail.torn ? 0 : kept;
	if (!trail.kept)
		return;
	while (at > used) {
		at -= (uint32_t)sizeof(entry);
		memcpy(&entry, trail.bytes + at, sizeof(entry));
		at -= (uint32_t)entry.bytes;
		trail_restore(&entry, trail.bytes + at);
	}
	trail.used = used;
}
