// SPDX-License-Identifier: GPL-2.0-only
/* Numbering, and collecting what the running step touches. */
#include "places.h"

#include <string.h>

#include "core.h"
#include "interleaving.h"
#include "memory.h"
#include "random.h"
#include "trail.h"
#include "unordered.h"
#include "watch.h"

#define PLACES_MAX	(MEMORY_MAX / MEMORY_GRAIN + MEMORY_OBJECTS_MAX + 1)
#define PLACES_NONE	0xffff

struct places places;
struct places_step places_step;

/* Per place where it stands in the table; PLACES_NONE if it was not met. */
static uint16_t places_index[PLACES_MAX];

void places_reset(bool keep)
{
	unsigned int i;

	memset(places_index, 0xff, sizeof(places_index));
	places.learned = 0;
	if (!keep) {
		places.used = 0;
		places.shared = 0;
		places.aliases = 0;
	}
	for (i = 0; i < places.used; i++)
		places_index[places.offset[i]] = (uint16_t)i;
}

static unsigned int places_at(unsigned int place)
{
	unsigned int index = places_index[place];

	if (__builtin_expect(index != PLACES_NONE, 1))
		return index;
	if (places.used == PLACES_TABLE) {
		/* Two places in one only make more steps dependent. */
		places.aliases = 1;
		index = place % PLACES_TABLE;
	} else {
		index = places.used++;
		places.offset[index] = (uint16_t)place;
		places.owner[index] = PLACES_NEW;
	}
	places_index[place] = (uint16_t)index;
	return index;
}

static __attribute__((noinline)) void places_share(unsigned int index)
{
	places.learned |= places.owner[index] != PLACES_NEW;
	places.owner[index] = PLACES_SHARED;
	places.number[index] = places.shared++ % FOOTPRINT_PLACES;
	if (places.shared > FOOTPRINT_PLACES)
		places.aliases = 1;
}

/*
 * The number in footprints, or PLACES_PRIVATE. What is touched by anything but a
 * plain access is there to be shared, and does not wait for a second thread.
 */
static inline unsigned int places_shared(unsigned int index, unsigned int thread, bool orders)
{
	if (places.owner[index] == PLACES_SHARED)
		return places.number[index];
	if (!orders && places.owner[index] == PLACES_NEW)
		places.owner[index] = (uint8_t)thread;
	if (!orders && places.owner[index] == thread)
		return PLACES_PRIVATE;
	places_share(index);
	return places.number[index];
}

unsigned int places_number(uintptr_t offset)
{
	return places_shared(places_at((unsigned int)(offset / MEMORY_GRAIN)), 0, true);
}

static unsigned int places_of_object(unsigned int object)
{
	return MEMORY_MAX / MEMORY_GRAIN + object;
}

/* Of an exploration, the hash of the happens-before class is kept here. */
static void places_class(unsigned int place, bool changes)
{
	if (!engine.hashes)
		return;
	trail_save(&interleaving_thread[engine.current], sizeof(interleaving_thread[0]));
	trail_save(&interleaving_places[place], sizeof(interleaving_places[0]));
	interleaving_access(engine.current, (uintptr_t)place * MEMORY_GRAIN, changes);
}

/* The word of a section lock is no place. */
static bool places_section(uintptr_t offset, enum event_kind kind)
{
	uint16_t *held = &places_step.section[engine.current];

	if (!memory_is_section(offset))
		return false;
	trail_save(places_step.section, sizeof(places_step.section));
	if (kind == EVENT_LOCK)
		*held = (uint16_t)(offset / MEMORY_GRAIN);
	else if (kind == EVENT_UNLOCK)
		*held = 0;
	return places.sections;
}

/* Whether others order with that access: see unordered.h. */
static bool places_orders(uintptr_t offset, enum event_kind kind, uint32_t pc)
{
	unsigned int guard = memory_guard_of[offset / MEMORY_GRAIN];

	return watch_is_point(kind, pc) || (guard && guard != MEMORY_SECTION);
}

static void places_touch(unsigned int number, bool writes, bool orders, uint32_t pc)
{
	if (places_step.collects)
		footprint_add(&places_step.did, number, writes);
	if (!engine.reduced)
		return;
	if (orders)
		unordered_point(number, writes);
	else
		unordered_plain(number, writes, pc, places_step.section[engine.current]);
}

/*
 * Every access to an object reads its life. Points need not be ordered with its
 * end to be points.
 */
static void places_lives(unsigned int object, bool orders, uint32_t pc)
{
	unsigned int number = places_shared(places_at(places_of_object(object)),
					    engine.current, false);

	places_class(places_of_object(object), false);
	if (number == PLACES_PRIVATE)
		return;
	if (places_step.collects)
		footprint_add(&places_step.did, number, false);
	if (engine.reduced && !orders)
		unordered_plain(number, false, pc, 0);
}

void places_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, uint32_t pc)
{
	unsigned int object = memory_object[offset / MEMORY_UNIT];
	unsigned int first = (unsigned int)(offset / MEMORY_GRAIN);
	unsigned int last = (unsigned int)((offset + bytes - 1) / MEMORY_GRAIN);
	unsigned int index = PLACES_NONE, before, number;
	bool orders;

	if (!memory_is_section(offset))
		places_class(first, trace_kind_writes(kind));
	if (places_section(offset, kind))
		return;
	orders = places_orders(offset, kind, pc);
	if (object)
		places_lives(object, orders, pc);
	/* A pointer is one place, unless somebody touches a half of it. */
	if (bytes == 8 && offset % 8 == 0 && places_index[last] == PLACES_NONE)
		places_index[last] = (uint16_t)places_at(first);
	for (; first <= last; first++) {
		before = index;
		index = places_at(first);
		number = places_shared(index, engine.current, orders);
		if (index != before && number != PLACES_PRIVATE)
			places_touch(number, trace_kind_writes(kind), orders, pc);
	}
}

/* What only `object` says: its life, or what all stops have in common. */
static void places_touch_life(unsigned int object, bool changes)
{
	unsigned int number = places_shared(places_at(places_of_object(object)),
					    engine.current, false);

	/* An object's life is part of the class, too. */
	places_class(places_of_object(object), changes);
	if (number != PLACES_PRIVATE)
		places_touch(number, changes, true, 0);
}

void places_life(uintptr_t offset, bool changes)
{
	places_touch_life(memory_object[offset / MEMORY_UNIT], changes);
}

/* As the life of the object that there is not. */
void places_stop(void)
{
	places_touch_life(0, true);
}

/* The same in every process: a pointer counts from the start of the kernel's code. */
static uint64_t places_value(const char *memory)
{
	uint64_t word, distance;

	memcpy(&word, memory, sizeof(word));
	distance = word - (uintptr_t)__start_cr_ktext;
	return distance + INT32_MAX <= 2 * (uint64_t)INT32_MAX ? distance : word;
}

/*
 * All that changed, whether or not it was touched by what was explored before.
 * What is freed has no content.
 */
uint64_t places_state(void)
{
	uintptr_t units = memory_bytes() / MEMORY_UNIT, unit, word;
	const uint64_t freed = MEMORY_FREED * (~(uint64_t)0 / UINT8_MAX);
	uint64_t state = 0, several;

	for (unit = 0; unit < units; unit++) {
		const char *now = __start_cr_kdata + unit * MEMORY_UNIT;

		/* Strides: most objects are free, and most others are as they were. */
		memcpy(&several, memory_state + unit, sizeof(several));
		if (several == freed ||
		    (!several && !memcmp(now, memory_image + unit * MEMORY_UNIT,
					 sizeof(several) * MEMORY_UNIT))) {
			unit += sizeof(several) - 1;
			continue;
		}
		if (memory_state[unit] ||
		    !memcmp(now, memory_image + unit * MEMORY_UNIT, MEMORY_UNIT))
			continue;
		for (word = 0; word < MEMORY_UNIT; word += sizeof(uint64_t))
			state += random_spread((uint64_t)(unit * MEMORY_UNIT + word) << 32 ^
					       random_spread(places_value(now + word)));
	}
	return state;
}
