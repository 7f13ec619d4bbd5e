// SPDX-License-Identifier: GPL-2.0-only
/*
 * Vector clocks. A thread's clock counts its releases; an access is named by its
 * thread's count at that time, and happens before whoever has seen that count
 * released. Everything carries a stamp of the run and of the object's life, so
 * that nothing is cleared between runs and a new object begins without a past.
 *
 * A place remembers per thread the last plain and the last marked read and
 * write: if an earlier one of a class is in no order with somebody later, then
 * neither is the last one.
 */
#include "race.h"

#include <stddef.h>
#include <string.h>

#include "core.h"
#include "interleaving.h"
#include "lockdep.h"
#include "memory.h"
#include "trail.h"
#include "watch.h"

#define RACE_PLACES	(MEMORY_MAX / MEMORY_GRAIN)
#define RACE_WORDS	(RACE_PLACES + MEMORY_OBJECTS_MAX + 1)

/* Classes of accesses, as bits of a number. */
enum {
	RACE_WRITES = 1,
	RACE_PLAIN = 2,
	RACE_CLASSES = 4,
};

/* A class's bits in the set of a place, one per thread. */
#define RACE_MASK(class)	((uint32_t)0xff << (class) * CR_THREADS_MAX)

struct race_record {
	uint32_t count;		/* of its thread's clock */
	uint32_t pc;
	uint32_t event;		/* its place in the trace */
	uint8_t kind;
	uint64_t held;		/* see lockdep.h */
};

struct race_place {
	uint64_t stamp;
	uint32_t used;		/* bit class * CR_THREADS_MAX + thread */
	struct race_record records[RACE_CLASSES][CR_THREADS_MAX];
};

struct race_clock {
	uint32_t of[CR_THREADS_MAX];
};

/* What a word or an object's life has released. */
struct race_word {
	uint64_t stamp;
	struct race_clock writes;
	struct race_clock reads;	/* since then, or of a lock's readers */
};

struct race_met race_met;

static struct race_clock race_threads[CR_THREADS_MAX];
static struct race_place race_places[RACE_PLACES];
static struct race_word race_words[RACE_WORDS];

/* Races of the process, for api.h: found by a hash of the pair. */
#define RACE_BUCKETS	1024
static struct cr_race race_table[CR_RACES_MAX];
static size_t race_used;
static uint16_t race_buckets[RACE_BUCKETS];	/* index + 1 */

/* Lines of that table that this run has counted in. */
#define RACE_TOLD_MAX	256
static uint16_t race_told[RACE_TOLD_MAX];
static uint64_t race_told_used;

void race_reset(bool again)
{
	unsigned int i;

	if (again) {
		for (i = 0; i < race_told_used; i++)
			race_table[race_told[i]].count++;
		return;
	}
	race_told_used = 0;
	memset(race_threads, 0, sizeof(race_threads));
	for (i = 0; i < CR_THREADS_MAX; i++)
		race_threads[i].of[i] = 1;
	race_met.judged = false;
}

static inline void race_join(struct race_clock *into, const struct race_clock *from)
{
	unsigned int i;

	trail_save(into, sizeof(*into));
	for (i = 0; i < CR_THREADS_MAX; i++)
		into->of[i] = into->of[i] > from->of[i] ? into->of[i] : from->of[i];
}

static struct race_word *race_word_at(unsigned int at, uint64_t stamp)
{
	struct race_word *word = &race_words[at];

	if (word->stamp != stamp) {
		trail_save(word, sizeof(*word));
		memset(word, 0, sizeof(*word));
		word->stamp = stamp;
	}
	return word;
}

static struct race_word *race_word(uintptr_t offset)
{
	return race_word_at((unsigned int)(offset / MEMORY_GRAIN), watch_stamp(offset));
}

/* ---- what was found ---------------------------------------------------- */

static void race_held(uint64_t held, uint32_t *offsets)
{
	unsigned int i;

	for (i = 0; i < CR_RACE_LOCKS; i++) {
		offsets[i] = held ? (uint32_t)lockdep.offset[__builtin_ctzll(held)] * MEMORY_GRAIN :
				    CR_RACE_NO_LOCK;
		held &= held - 1;
	}
}

struct race_pair {
	const struct race_record *side[2];	/* [0] comes first in the code */
};

static uint64_t race_hash(const struct race_pair *pair)
{
	uint64_t pcs = (uint64_t)pair->side[0]->pc << 32 | pair->side[1]->pc;
	uint64_t kinds = (uint64_t)pair->side[0]->kind << 28 | (uint64_t)pair->side[1]->kind << 60;

	return (pcs ^ kinds) * 0x9e3779b97f4a7c15u;
}

static bool race_is(const struct cr_race *race, const struct race_pair *pair)
{
	return race->pc[0] == pair->side[0]->pc && race->kind[0] == pair->side[0]->kind &&
	       race->pc[1] == pair->side[1]->pc && race->kind[1] == pair->side[1]->kind;
}

/* The pair's line of the table, NULL if that is full. */
static struct cr_race *race_entry(const struct race_pair *pair)
{
	unsigned int at = (unsigned int)(race_hash(pair) >> 32) % RACE_BUCKETS;

	for (; race_buckets[at]; at = (at + 1) % RACE_BUCKETS)
		if (race_is(&race_table[race_buckets[at] - 1], pair))
			return &race_table[race_buckets[at] - 1];
	if (race_used == CR_RACES_MAX)
		return NULL;
	race_buckets[at] = (uint16_t)++race_used;
	return &race_table[race_used - 1];
}

static void race_tell(const struct race_pair *pair, uintptr_t offset)
{
	struct cr_race *race = race_entry(pair);
	unsigned int i;

	if (!race)
		return;
	if (race_told_used == RACE_TOLD_MAX) {
		trail.torn = true;
	} else {
		trail_save(&race_told_used, sizeof(race_told_used));
		race_told[race_told_used++] = (uint16_t)(race - race_table);
	}
	if (race->count++)
		return;
	for (i = 0; i < 2; i++) {
		race->pc[i] = pair->side[i]->pc;
		race->kind[i] = pair->side[i]->kind;
		race_held(pair->side[i]->held, race->held[i]);
	}
	race->object = (uint32_t)offset;
	race->documented = memory_is_racy(offset);
	race->schedule = engine.schedule;
}

static void race_found(uintptr_t offset, const struct race_record *before,
		       const struct race_record *now)
{
	bool swap = before->pc > now->pc || (before->pc == now->pc && before->kind > now->kind);
	struct race_pair pair = { { swap ? now : before, swap ? before : now } };

	race_tell(&pair, offset);
	if (race_met.judged || memory_is_racy(offset))
		return;
	trail_save(&race_met, sizeof(race_met));
	race_met.judged = true;
	race_met.violation = now->event;
	race_met.cause = before->event;
}

/* ---- accesses ---------------------------------------------------------- */

static void race_check(const struct race_place *place, uintptr_t offset, unsigned int class,
		       const struct race_record *now)
{
	const struct race_clock *clock = &race_threads[engine.current];
	uint32_t rivals = RACE_MASK(RACE_WRITES | RACE_PLAIN);

	if (class & RACE_PLAIN)
		rivals |= RACE_MASK(RACE_WRITES);
	if (class & RACE_WRITES)
		rivals |= RACE_MASK(RACE_PLAIN);
	if (class == (RACE_WRITES | RACE_PLAIN))
		rivals |= RACE_MASK(0);
	rivals &= place->used & ~(0x01010101u << engine.current);
	for (; rivals; rivals &= rivals - 1) {
		unsigned int at = (unsigned int)__builtin_ctz(rivals);
		unsigned int thread = at % CR_THREADS_MAX;
		const struct race_record *before = &place->records[at / CR_THREADS_MAX][thread];

		if (before->count > clock->of[thread])
			race_found(offset, before, now);
	}
}

static void race_place(uintptr_t offset, enum event_kind kind, uint32_t pc)
{
	struct race_place *place = &race_places[offset / MEMORY_GRAIN];
	bool plain = kind == EVENT_READ || kind == EVENT_WRITE;
	unsigned int class = (plain ? RACE_PLAIN : 0) | (trace_kind_writes(kind) ? RACE_WRITES : 0);
	uint32_t bit = (uint32_t)1 << (class * CR_THREADS_MAX + engine.current);
	uint64_t stamp = watch_stamp(offset);
	struct race_record *record = &place->records[class][engine.current];
	struct race_record now = {
		.count = race_threads[engine.current].of[engine.current],
		.pc = pc, .kind = (uint8_t)kind, .held = lockdep.held[engine.current],
		/* A full trace has it already, else it is what comes next there. */
		.event = (uint32_t)trace_length() - engine.trace_full,
	};

	/* Of an earlier life, too, which may be taken back to. */
	if (place->used & bit)
		trail_save(record, sizeof(*record));
	trail_save(place, offsetof(struct race_place, records));
	if (place->stamp != stamp) {
		place->stamp = stamp;
		place->used = 0;
	}
	if (place->used)
		race_check(place, offset, class, &now);
	place->used |= bit;
	*record = now;
}

/* What the thread did so far happens before whoever sees the word as it is now. */
static void race_release(struct race_clock *word)
{
	struct race_clock *clock = &race_threads[engine.current];

	race_join(word, clock);
	trail_save(&clock->of[engine.current & ~1u], 2 * sizeof(clock->of[0]));
	clock->of[engine.current]++;
}

static void race_order(uintptr_t offset, enum event_kind kind, uint32_t pc)
{
	struct race_clock *clock = &race_threads[engine.current];
	struct race_word *word = race_word(offset);

	switch (kind) {
	case EVENT_LOCK:
		race_join(clock, &word->reads);
		race_join(clock, &word->writes);
		return;
	case EVENT_LOCK_SHARED:
		race_join(clock, &word->writes);
		return;
	case EVENT_UNLOCK:
		race_release(&word->writes);
		return;
	case EVENT_UNLOCK_SHARED:
		race_release(&word->reads);
		return;
	default:
		race_join(clock, &word->writes);
		race_place(offset, kind, pc);
		race_release(&word->writes);
	}
}

void race_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, uint32_t pc)
{
	uintptr_t end = offset + bytes;

	if (kind >= EVENT_ATOMIC && kind != EVENT_ATOMIC_READ) {
		race_order(offset, kind, pc);
		return;
	}
	for (; offset < end; offset += 8)
		race_place(offset, kind, pc);
}

void race_acquire(uintptr_t offset)
{
	race_join(&race_threads[engine.current], &race_word(offset)->writes);
}

void race_life(uintptr_t offset)
{
	unsigned int object = memory_object[offset / MEMORY_UNIT];
	struct race_word *life = race_word_at(RACE_PLACES + object, interleaving_stamp);

	if (memory_state[offset / MEMORY_UNIT] == MEMORY_FREED)
		race_release(&life->writes);
	else
		race_join(&race_threads[engine.current], &life->writes);
}

/* ---- api.h ------------------------------------------------------------- */

size_t cr_races(struct cr_race *out, size_t max)
{
	size_t count = race_used < max ? race_used : max;

	memcpy(out, race_table, count * sizeof(out[0]));
	return race_used;
}

void cr_races_forget(void)
{
	memset(race_table, 0, sizeof(race_table));
	memset(race_buckets, 0, sizeof(race_buckets));
	race_used = 0;
	trail.kept = 0;
}
