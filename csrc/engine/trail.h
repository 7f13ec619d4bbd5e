/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Takes back what those who look on at an execution remember of its last steps,
 * so that the next one, which begins with the same steps, need not show them
 * again: they run unobserved, and only from the branch on does anybody look.
 *
 * A log of old values. Whoever looks on saves each of its words here before it
 * changes, except words that mean nothing until they are written again. What
 * is not saved survives: what all executions together have met.
 */
#ifndef ENGINE_TRAIL_H
#define ENGINE_TRAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define TRAIL_BYTES	(1 << 22)

struct trail {
	bool on;
	bool torn;		/* something is missing in it: nothing can be taken back */
	uint32_t kept;		/* the next execution's steps that need not be shown again */
	uint32_t used;
	unsigned char bytes[TRAIL_BYTES];
};

extern struct trail trail;

/* Stands behind what was saved, since the log is read from its end. */
struct trail_entry {
	void *at;
	size_t bytes;
};

/*
 * A run begins, of an exploration or not. True: it takes up what the last one
 * left of the log. Else the log is empty, and of no use if this is none.
 */
bool trail_begin(bool explores);
/* Takes back what was changed since `used` was that; then so many steps are kept. */
void trail_back(uint32_t used, uint32_t kept);

/* About to change; `bytes` is a constant. */
static inline __attribute__((always_inline)) void trail_save(void *at, size_t bytes)
{
	struct trail_entry entry = { at, bytes };

	if (!trail.on)
		return;
	if (trail.used + bytes + sizeof(entry) > TRAIL_BYTES) {
		trail.torn = true;
		return;
	}
	memcpy(trail.bytes + trail.used, at, bytes);
	memcpy(trail.bytes + trail.used + bytes, &entry, sizeof(entry));
	trail.used += (uint32_t)(bytes + sizeof(entry));
}

#endif
