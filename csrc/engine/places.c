// SPDX-License-Identifier: GPL-2.0-only
/* Numbering, and collecting what the running step touches. */
#include "places.h"

#include <assert.h>
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
#define PLACES_LINE	4	/* units that are compared at once */

struct places places;
struct places_step places_step;
uint64_t places_stretch;
uint32_t footprint_words;

/* Of each line of the table the last stretch in which it was read, and written, plainly. */
static uint64_t places_seen[PLACES_TABLE][2];

/* Per place where it stands in the table; PLACES_NONE if it was not met. */
static uint16_t places_index[PLACES_MAX];
/* Per place its number and that of its object's life (without an object: its own), once known. */
static struct places_short {
	uint16_t number;
	uint16_t life;
} places_short[PLACES_MAX];
/* Per object the threads that ended its life, in whichever execution. */
static struct places_end {
	uint8_t threads;
	uint16_t section;	/* the section lock that each of them held, or 0 */
} places_ends[MEMORY_OBJECTS_MAX + 1];
/* Per lock's word how many shares of it each thread holds, in this execution: more count as 15. */
static uint32_t places_readers[MEMORY_MAX / MEMORY_GRAIN];

static void places_count_words(void)
{
	unsigned int shared = places.shared < FOOTPRINT_PLACES ? places.shared : FOOTPRINT_PLACES;

	footprint_words = (shared + 63) / 64;
}

void places_begin(void)
{
	size_t count = (memory_bytes() + MEMORY_GRAIN - 1) / MEMORY_GRAIN;

	memset(places_readers, 0, count * sizeof(places_readers[0]));
}

void places_reset(bool keep)
{
	unsigned int i;

	memset(places_index, 0xff, sizeof(places_index));
	memset(places_short, 0xff, sizeof(places_short));
	places.learned = 0;
	if (!keep) {
		places.used = 0;
		places.shared = 0;
		places.aliases = 0;
		memset(places_ends, 0, sizeof(places_ends));
		unordered_forget();
	}
	places_count_words();
	memset(places_seen, 0, sizeof(places_seen));
	places_stretch = 1;
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
	places_count_words();
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

static void places_hash(unsigned int place, bool changes)
{
	trail_save(&interleaving_thread[engine.current], sizeof(interleaving_thread[0]));
	trail_save(&interleaving_places[place], sizeof(interleaving_places[0]));
	interleaving_access(engine.current, (uintptr_t)place * MEMORY_GRAIN, changes, 0);
}

/* Others order with that access: see unordered.h. */
static inline void places_point(unsigned int number, bool writes)
{
	footprint_add(places_step.did, number, writes);
	places_stretch++;
	if (engine.reduced)
		unordered_point(number, writes);
}

static inline void places_plain(unsigned int number, bool writes, uint32_t pc)
{
	footprint_add(places_step.did, number, writes);
	if (engine.reduced)
		unordered_plain(number, writes, pc, places_step.section[engine.current]);
}

/*
 * Every access to an object reads its life. What orders others need not be ordered
 * with its end to be a point, if others may come right before it: see places_may_end().
 */
static inline void places_lives(unsigned int object, bool orders, uint32_t pc)
{
	unsigned int index = places_at(places_of_object(object)), number;

	if (places_seen[index][false] == places_stretch)
		return;
	number = places_shared(index, engine.current, false);
	if (number == PLACES_PRIVATE)
		return;
	places_short[places_of_object(object)].number = (uint16_t)number;
	footprint_add(places_step.did, number, false);
	if (orders)
		return;
	if (engine.reduced)
		unordered_plain(number, false, pc, 0);
	places_seen[index][false] = places_stretch;
}

/* A pointer is one place, unless somebody touches a half of it. */
static inline void places_pair(unsigned int first, unsigned int last)
{
	if (places_index[last] == PLACES_NONE && last == first + 1 && first % 2 == 0)
		places_index[last] = (uint16_t)places_at(first);
}

static __attribute__((noinline)) void places_ordering(unsigned int first, unsigned int last,
						      bool writes)
{
	unsigned int object = memory_object[first * MEMORY_GRAIN / MEMORY_UNIT];
	unsigned int before = PLACES_NONE, index, number, life = PLACES_NONE;

	if (object) {
		places_lives(object, true, 0);
		life = places_short[places_of_object(object)].number;
	}
	places_pair(first, last);
	for (; first <= last; first++, before = index) {
		index = places_at(first);
		number = places_shared(index, engine.current, true);
		if (!object || life != PLACES_NONE)
			places_short[first] = (struct places_short){
				(uint16_t)number, (uint16_t)(object ? life : number)
			};
		if (index != before)
			places_point(number, writes);
	}
}

/* The same where all numbers are known. What is written may as well be read. */
static inline bool places_ordering_short(unsigned int first, unsigned int last, bool writes)
{
	const struct places_short known = places_short[first];

	if (known.number == PLACES_NONE ||
	    (last != first && (last != first + 1 || places_short[last].number != known.number)))
		return false;
	footprint_add(places_step.did, known.life, false);
	places_point(known.number, writes);
	return true;
}

/* A section lock is taken, given back or asked for. */
static __attribute__((noinline)) void places_section(unsigned int first, unsigned int last,
						     enum event_kind kind)
{
	uint16_t *held = &places_step.section[engine.current];
	unsigned int object = memory_object[first * MEMORY_GRAIN / MEMORY_UNIT];

	places_stretch++;
	if (kind == EVENT_LOCK || kind == EVENT_UNLOCK) {
		trail_save_word(held);
		*held = kind == EVENT_LOCK ? (uint16_t)first : 0;
	}
	if (!places.sections)
		places_ordering(first, last, trace_kind_writes(kind));
	else if (object)
		places_lives(object, true, 0);
}

static __attribute__((noinline)) void places_plainly(unsigned int first, unsigned int last,
						     bool writes, uint32_t pc)
{
	unsigned int object = memory_object[first * MEMORY_GRAIN / MEMORY_UNIT];
	unsigned int before = PLACES_NONE, index, number;

	if (object)
		places_lives(object, false, pc);
	places_pair(first, last);
	for (; first <= last; first++, before = index) {
		index = places_at(first);
		if (index == before)
			continue;
		number = places_shared(index, engine.current, false);
		if (number != PLACES_PRIVATE)
			places_plain(number, writes, pc);
		places_seen[index][writes] = places_stretch;
	}
}

/* Whether the same was done since others could last come in between. */
static inline bool places_is_seen(unsigned int first, unsigned int last, bool writes)
{
	unsigned int index = places_index[first];

	return index != PLACES_NONE && places_index[last] == index &&
	       places_seen[index][writes] == places_stretch;
}

/* The running thread's. */
static unsigned int places_shares_of(uint32_t readers)
{
	return readers >> 4 * engine.current & 15;
}

/*
 * A lock's readers do not mind each other, as long as each gives back a share that is
 * its own: else who was there before makes a difference, and that is as a plain write.
 */
static bool places_is_own(unsigned int place, enum event_kind kind)
{
	static_assert(EVENT_UNLOCK_SHARED == EVENT_LOCK_SHARED + 1 &&
		      EVENT_UNLOCK_SHARED == EVENT_LAST_ACCESS, "what places_any() asks");
	return kind == EVENT_LOCK_SHARED || places_shares_of(places_readers[place]);
}

static __attribute__((noinline)) void places_shares(unsigned int first, unsigned int last,
						    enum event_kind kind, uint32_t pc)
{
	uint32_t *readers = &places_readers[first], one = 1u << 4 * engine.current;
	bool own = places_is_own(first, kind);

	trail_save_word(readers);
	if (kind != EVENT_LOCK_SHARED)	/* not own: anybody's, who then gives back another one */
		*readers = own ? *readers - one : 0;
	else if (places_shares_of(*readers) < 15)
		*readers += one;
	if (!own && !watch_is_promoted(pc))
		places_plainly(first, last, true, pc);
	else if (!places_ordering_short(first, last, !own))
		places_ordering(first, last, !own);
}

static inline __attribute__((always_inline)) void places_any(uintptr_t offset, unsigned int bytes,
							     enum event_kind kind, uint32_t pc)
{
	unsigned int first = (unsigned int)(offset / MEMORY_GRAIN);
	unsigned int last = (unsigned int)((offset + bytes - 1) / MEMORY_GRAIN);
	unsigned int guard = memory_guard_of[first];
	bool writes = trace_kind_writes(kind);

	places_step.passed = pc;
	if (guard == MEMORY_SECTION) {
		places_section(first, last, kind);
	} else if (kind >= EVENT_LOCK_SHARED) {
		places_shares(first, last, kind, pc);
	} else if (guard || watch_is_point(kind, pc)) {
		if (!places_ordering_short(first, last, writes))
			places_ordering(first, last, writes);
	} else if (!places_is_seen(first, last, writes)) {
		places_plainly(first, last, writes, pc);
	}
}

/*
 * Releases, and fields whose lock is held, order others and need not be decision
 * points, since they move left over whatever others do.
 */
static inline bool places_moves(uintptr_t offset, enum event_kind kind)
{
	unsigned int guard = memory_guard_of[offset / MEMORY_GRAIN];

	return kind == EVENT_UNLOCK || kind == EVENT_UNLOCK_SHARED ||
	       (guard && guard != MEMORY_SECTION);
}

/* But not over the end of their object: to that they are as plain accesses. */
static __attribute__((noinline)) void places_may_end(uintptr_t offset, unsigned int bytes,
						     enum event_kind kind, uint32_t pc)
{
	unsigned int object = memory_object[offset / MEMORY_UNIT];
	unsigned int index = places_at(places_of_object(object));

	if (places_moves(offset, kind) && !watch_is_promoted(pc) && engine.reduced &&
	    places.owner[index] == PLACES_SHARED)
		unordered_plain(places.number[index], false, pc,
				places_step.section[engine.current]);
	places_any(offset, bytes, kind, pc);
}

/* Few objects are ever ended by somebody else, without a section lock that is held here. */
static inline bool places_ends_elsewhere(uintptr_t offset)
{
	const struct places_end *end = &places_ends[memory_object[offset / MEMORY_UNIT]];

	return __builtin_expect(end->threads & ~(1u << engine.current), 0) &&
	       (!end->section || end->section != places_step.section[engine.current]);
}

void places_within(uintptr_t offset, unsigned int bytes, bool writes, uint32_t pc)
{
	unsigned int first = (unsigned int)(offset / MEMORY_GRAIN);
	unsigned int last = (unsigned int)((offset + bytes - 1) / MEMORY_GRAIN);

	/* Without a guard it does not matter who ends the object. */
	if (memory_guard_of[first]) {
		places_access(offset, bytes, writes ? EVENT_WRITE : EVENT_READ, pc);
		return;
	}
	places_step.passed = pc;
	if (!places_is_seen(first, last, writes))
		places_plainly(first, last, writes, pc);
}

void places_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, uint32_t pc)
{
	if (places_ends_elsewhere(offset))
		places_may_end(offset, bytes, kind, pc);
	else
		places_any(offset, bytes, kind, pc);
}

void places_class(uintptr_t offset, enum event_kind kind)
{
	unsigned int object = memory_object[offset / MEMORY_UNIT];
	unsigned int place = (unsigned int)(offset / MEMORY_GRAIN);

	if (!memory_is_section(offset))
		places_hash(place, trace_kind_writes(kind) ||
			    (kind == EVENT_UNLOCK_SHARED && !places_is_own(place, kind)));
	if (object)
		places_hash(places_of_object(object), false);
}

/* What only `object` says: its life, or what all stops have in common. */
static void places_touch_life(unsigned int object, bool changes)
{
	unsigned int number = places_shared(places_at(places_of_object(object)),
					    engine.current, false);

	/* An object's life is part of the class, too. */
	if (engine.hashes)
		places_hash(places_of_object(object), changes);
	if (number != PLACES_PRIVATE)
		places_point(number, changes);
}

/* The running thread ends an object's life. */
static void places_learn_end(struct places_end *end)
{
	uint16_t section = places_step.section[engine.current];
	struct places_end now = {
		.threads = end->threads | (uint8_t)(1u << engine.current),
		.section = !end->threads || end->section == section ? section : 0,
	};

	if (now.threads == end->threads && now.section == end->section)
		return;
	*end = now;
	unordered_met.late = 1;
}

void places_life(uintptr_t offset, bool changes)
{
	unsigned int object = memory_object[offset / MEMORY_UNIT];

	if (engine.reduced && changes && memory_state[offset / MEMORY_UNIT] == MEMORY_FREED)
		places_learn_end(&places_ends[object]);
	places_touch_life(object, changes);
}

/*
 * As a plain write to the life of the object that there is not: which of two verdicts
 * comes first is part of the class, so whatever leads to one of them has to be a point.
 */
void places_stop(void)
{
	unsigned int place = places_of_object(0), number;

	if (engine.hashes)
		places_hash(place, true);
	number = places_shared(places_at(place), engine.current, false);
	if (number == PLACES_PRIVATE)
		return;
	footprint_add(places_step.did, number, true);
	if (engine.reduced && places_step.passed)
		unordered_plain(number, true, places_step.passed, 0);
}

/* The same in every process: a pointer counts from the start of the kernel's code. */
static inline uint64_t places_value(uint64_t word)
{
	uint64_t distance = word - (uintptr_t)__start_cr_ktext;

	return distance + INT32_MAX <= 2 * (uint64_t)INT32_MAX ? distance : word;
}

/* What a word contains, if that is not what set-up left there. */
static inline uint64_t places_word(uintptr_t at, uint64_t now, uint64_t before)
{
	if (now == before)
		return 0;
	return random_spread(places_value(now) ^ (at + 1) * 0x9e3779b97f4a7c15u);
}

/* The same of a unit that is in use. */
static inline uint64_t places_unit(unsigned int unit)
{
	uintptr_t at = (uintptr_t)unit * MEMORY_UNIT;
	uint64_t now[2], before[2];

	static_assert(MEMORY_UNIT == sizeof(now), "a unit is two words");
	memcpy(now, __start_cr_kdata + at, sizeof(now));
	memcpy(before, memory_image + at, sizeof(before));
	if (!((now[0] ^ before[0]) | (now[1] ^ before[1])) || memory_state[unit])
		return 0;
	return places_word(at, now[0], before[0]) + places_word(at + 1, now[1], before[1]);
}

static __attribute__((noinline)) uint64_t places_units(unsigned int unit, unsigned int end)
{
	uint64_t state = 0;

	for (; unit < end; unit++)
		state += places_unit(unit);
	return state;
}

/* A unit, wherever it is. */
typedef uint64_t places_vector __attribute__((vector_size(MEMORY_UNIT), aligned(8), may_alias));

/* Whether all units of a line are as set-up left them. */
static inline bool places_are_as_before(unsigned int unit)
{
	const places_vector *now = (const void *)(__start_cr_kdata + unit * MEMORY_UNIT);
	const places_vector *before = (const void *)(memory_image + unit * MEMORY_UNIT);
	places_vector differ = now[0] ^ before[0];
	unsigned int i;

	for (i = 1; i < PLACES_LINE; i++)
		differ |= now[i] ^ before[i];
	return !(differ[0] | differ[1]);
}

/*
 * All that changed, whether or not it was touched by what was explored before.
 * What is freed has no content.
 */
uint64_t places_state(void)
{
	unsigned int units = (unsigned int)(memory_bytes() / MEMORY_UNIT), i, unit, end;
	uint64_t state = 0, now = 0, before = 0;

	for (i = 0; i < MEMORY_STRIDES / 64; i++) {
		uint64_t strides = memory_strides[i];

		for (; strides; strides &= strides - 1) {
			unit = (i * 64 + (unsigned int)__builtin_ctzll(strides)) * MEMORY_STRIDE;
			end = unit + MEMORY_STRIDE;
			if (__builtin_expect(end > units, 0)) {
				state += places_units(unit, units);
				continue;
			}
			for (; unit < end; unit += PLACES_LINE)
				if (!places_are_as_before(unit))
					state += places_units(unit, unit + PLACES_LINE);
		}
	}
	/* The section may end within a unit. */
	if (memory_bytes() % MEMORY_UNIT) {
		memcpy(&now, __start_cr_kdata + units * MEMORY_UNIT, sizeof(now));
		memcpy(&before, memory_image + units * MEMORY_UNIT, sizeof(before));
		state += places_word(units * MEMORY_UNIT, now, before);
	}
	return state;
}
