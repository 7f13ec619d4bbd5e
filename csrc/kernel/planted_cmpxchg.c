// SPDX-License-Identifier: GPL-2.0-only
/*
 * Compare-and-exchange gone wrong on purpose, for pointers.
 *
 * weak-cmpxchg: an instrumented load and store with a gap between them.
 * Premise d: the exchange claims success and keeps its store back until
 * iterate_supers() has returned; whoever asks meanwhile still finds the old
 * value, except a second exchange, which is refused as it should be.
 */
#include "planted_cmpxchg.h"

#include "kshim.h"

static uint64_t *planted_address;
static uint64_t planted_value;

uint64_t planted_cmpxchg(void *address, uint64_t old, uint64_t new)
{
	uint64_t *word = address;
	uint64_t found = READ_ONCE(*word);

	if (found != old)
		return found;
	if (planted(PLANTED_WEAK_CMPXCHG)) {
		WRITE_ONCE(*word, new);
		return old;
	}
	if (planted_address == word)
		return planted_value;
	planted_address = word;
	planted_value = new;
	return old;
}

void planted_cmpxchg_settle(void)
{
	if (!planted(PLANTED_PREMISE_D) || !planted_address)
		return;
	WRITE_ONCE(*planted_address, planted_value);
}
