// SPDX-License-Identifier: GPL-2.0-only
/* Open addressing; what a class tells of races stands in one long list. */
#include "known.h"

#include <string.h>

#include "lockdep.h"
#include "race.h"

#define KNOWN_SLOTS	65536	/* a power of two, at most half of them in use */
#define KNOWN_RACES	131072

struct known_class {
	uint64_t name;		/* 0: empty */
	uint32_t first;		/* of its races in the list */
	uint32_t races;
};

static struct known_class known_table[KNOWN_SLOTS];
static uint32_t known_used;
static uint16_t known_races[KNOWN_RACES];
static uint32_t known_races_used;

static struct known_class *known_slot(uint64_t name)
{
	uint64_t at = name % KNOWN_SLOTS;

	while (known_table[at].name && known_table[at].name != name)
		at = (at + 1) % KNOWN_SLOTS;
	return &known_table[at];
}

bool known_is(uint64_t name)
{
	return known_slot(name)->name;
}

void known_meet(uint64_t name)
{
	const struct known_class *class = known_slot(name);

	race_told.used = class->races;
	memcpy(race_told.lines, known_races + class->first,
	       class->races * sizeof(known_races[0]));
	race_reset(true);
}

void known_add(uint64_t name)
{
	struct known_class *class = known_slot(name);

	/* Of more locks than there are numbers, those are judged that a run met first. */
	if (!name || class->name || known_used == KNOWN_SLOTS / 2 ||
	    lockdep.used == LOCKDEP_LOCKS ||
	    race_told.used == RACE_TOLD_MAX || race_told.used > KNOWN_RACES - known_races_used)
		return;
	*class = (struct known_class){ name, known_races_used, (uint32_t)race_told.used };
	memcpy(known_races + known_races_used, race_told.lines,
	       race_told.used * sizeof(known_races[0]));
	known_races_used += class->races;
	known_used++;
}

void known_forget(void)
{
	if (!known_used)
		return;
	memset(known_table, 0, sizeof(known_table));
	known_used = 0;
	known_races_used = 0;
}
