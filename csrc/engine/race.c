// SPDX-License-Identifier: GPL-2.0-only
/*
 * Vector clocks. The run's releases are counted, and an access has the count at
 * its time. A thread's clock has per thread the count of its last release that
 * this one has seen: an access with a later count does not happen before it.
 * Places and words carry a stamp of the run and of the object's life, so that
 * nothing is cleared between runs and a new object begins without a past.
 *
 * A place remembers per thread the last plain and the last marked read and
 * write: if an earlier one of a class is in no order with somebody later, then
 * neither is the last one.
 *
 * Every access of every run comes here. So what is rare has functions of its own,
 * called last if at all, which leaves the others without a frame; and what saves
 * old values is compiled apart from what need not (`logged` is trail.on).
 */
#include "race.h"

#include <assert.h>
#include <string.h>

#include "core.h"
#include "interleaving.h"
#include "known.h"
#include "lockdep.h"
#include "memory.h"
#include "trail.h"
#include "watch.h"

#define RACE_PLACES	(MEMORY_MAX / MEMORY_GRAIN)
#define RACE_WORDS	(RACE_PLACES + MEMORY_OBJECTS_MAX + 1)

/*
 * Classes of accesses: 1 writes, 2 is plain. Per place there is a record for each
 * thread and class, by this number; sets of them have a bit for each.
 */
#define RACE_CLASSES		4
#define RACE_AT(class, thread)	((class) * CR_THREADS_MAX + (thread))
#define RACE_RECORDS		RACE_AT(RACE_CLASSES, 0)
#define RACE_CLASS(class)	((uint32_t)0xff << RACE_AT(class, 0))
#define RACE_THREAD(thread)	((uint32_t)0x01010101 << (thread))

/* What a record conflicts with: those of the other threads that write, or are plain, or both. */
#define RACE_RIVALS(class, thread)					\
	((RACE_CLASS(3) | ((class) & 1 ? RACE_CLASS(2) : 0) |		\
	  ((class) & 2 ? RACE_CLASS(1) : 0) |				\
	  ((class) == 3 ? RACE_CLASS(0) : 0)) & ~RACE_THREAD(thread))
#define RACE_RIVALS_4(class, thread)					\
	RACE_RIVALS(class, thread), RACE_RIVALS(class, (thread) + 1),	\
	RACE_RIVALS(class, (thread) + 2), RACE_RIVALS(class, (thread) + 3)
static const uint32_t race_rivals[RACE_RECORDS] = {
	RACE_RIVALS_4(0, 0), RACE_RIVALS_4(0, 4), RACE_RIVALS_4(1, 0), RACE_RIVALS_4(1, 4),
	RACE_RIVALS_4(2, 0), RACE_RIVALS_4(2, 4), RACE_RIVALS_4(3, 0), RACE_RIVALS_4(3, 4),
};

struct race_record {
	const void *pc;		/* told as an offset, which few records ever are */
	uint64_t held;		/* see lockdep.h */
	int32_t count;		/* of releases before it */
	uint32_t event;		/* what comes next in the trace, behind it if that is full */
	uint32_t kind;
};

struct race_place {
	uint64_t stamp;		/* if it is another one, no record is in use */
	uint32_t used;
};

/* Signed, since that is what vectors of a machine compare at once. */
struct race_clock {
	int32_t of[CR_THREADS_MAX];
} __attribute__((aligned(16)));

/* What a word or an object's life has released; nothing, if the stamp is another one. */
struct race_word {
	uint64_t stamp;
	struct race_clock writes;
	struct race_clock reads;	/* since then, or of a lock's readers */
};

struct race_met race_met;

/* One object, so that its parts have one address in a register. */
static struct {
	struct race_clock threads[CR_THREADS_MAX];
	uint64_t count;		/* of releases of all threads, and 1 */
	struct race_word words[RACE_WORDS];
	struct race_place places[RACE_PLACES];
	struct race_record records[RACE_PLACES][RACE_RECORDS];
} race_now;

/* Races of the process, for api.h: found by a hash of the pair. */
#define RACE_BUCKETS	1024
static struct cr_race race_table[CR_RACES_MAX];
static size_t race_used;
static uint16_t race_buckets[RACE_BUCKETS];	/* index + 1 */

struct race_told race_told;

void race_reset(bool again)
{
	unsigned int i;

	if (again) {
		for (i = 0; i < race_told.used; i++)
			race_table[race_told.lines[i]].count++;
		return;
	}
	race_told.used = 0;
	memset(race_now.threads, 0, sizeof(race_now.threads));
	race_now.count = 1;
	race_met.judged = false;
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
	uint32_t pc[2];
};

static uint64_t race_hash(const struct race_pair *pair)
{
	uint64_t pcs = (uint64_t)pair->pc[0] << 32 | pair->pc[1];
	uint64_t kinds = (uint64_t)pair->side[0]->kind << 28 | (uint64_t)pair->side[1]->kind << 60;

	return (pcs ^ kinds) * 0x9e3779b97f4a7c15u;
}

static bool race_is(const struct cr_race *race, const struct race_pair *pair)
{
	return race->pc[0] == pair->pc[0] && race->kind[0] == pair->side[0]->kind &&
	       race->pc[1] == pair->pc[1] && race->kind[1] == pair->side[1]->kind;
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
	if (race_told.used == RACE_TOLD_MAX) {
		trail.torn = true;
	} else {
		trail_save(&race_told.used, sizeof(race_told.used));
		race_told.lines[race_told.used++] = (uint16_t)(race - race_table);
	}
	if (race->count++)
		return;
	for (i = 0; i < 2; i++) {
		race->pc[i] = pair->pc[i];
		race->kind[i] = (uint8_t)pair->side[i]->kind;
		race_held(pair->side[i]->held, race->held[i]);
	}
	race->object = (uint32_t)offset;
	race->documented = memory_is_racy(offset);
	race->schedule = engine.schedule;
}

static __attribute__((noinline)) void race_found(uintptr_t offset, const struct race_record *before,
		       const struct race_record *now)
{
	uint32_t early = memory_pc(before->pc), late = memory_pc(now->pc);
	bool swap = early > late || (early == late && before->kind > now->kind);
	struct race_pair pair = {
		{ swap ? now : before, swap ? before : now },
		{ swap ? late : early, swap ? early : late },
	};

	race_tell(&pair, offset);
	if (race_met.judged || memory_is_racy(offset))
		return;
	trail_save(&race_met, sizeof(race_met));
	race_met.judged = true;
	race_met.violation = now->event - engine.trace_full;
	race_met.cause = before->event - engine.trace_full;
}

/* ---- accesses ---------------------------------------------------------- */

/* Of those rivals the first one that the running thread has not seen a release of since. */
static inline uint32_t race_unordered(const struct race_record *records, uint32_t rivals)
{
	const struct race_clock *clock = &race_now.threads[engine.current];

	for (; rivals; rivals &= rivals - 1) {
		unsigned int rival = (unsigned int)__builtin_ctz(rivals);

		if (records[rival].count > clock->of[rival % CR_THREADS_MAX])
			break;
	}
	return rivals;
}

static __attribute__((noinline)) void race_met_by(uintptr_t offset, unsigned int at,
						  uint32_t rivals)
{
	const struct race_record *records = race_now.records[offset / MEMORY_GRAIN];

	for (; rivals; rivals = race_unordered(records, rivals & (rivals - 1)))
		race_found(offset, &records[__builtin_ctz(rivals)], &records[at]);
}

/* The new record `at` with those of others that it conflicts with: most are in order. */
static __attribute__((noinline)) void race_check(uintptr_t offset, unsigned int at,
						 uint32_t rivals)
{
	rivals = race_unordered(race_now.records[offset / MEMORY_GRAIN], rivals);
	if (rivals)
		race_met_by(offset, at, rivals);
}

/* The running thread's record of an access of that kind, which is not a lock's. */
static inline unsigned int race_at(enum event_kind kind)
{
	unsigned int class = kind ^ 2u;

	static_assert(EVENT_READ == 0 && EVENT_WRITE == 1 && EVENT_READ_MARKED == 2 &&
		      EVENT_WRITE_MARKED == 3, "the first kinds are the classes, plain ones first");
	if (kind >= EVENT_ATOMIC)
		class = kind == EVENT_ATOMIC;
	return RACE_AT(class, engine.current);
}

/* Calls nothing but at its end, so that nothing has to be kept over a call. */
static inline __attribute__((always_inline)) void race_place(uintptr_t offset, enum event_kind kind,
							     const void *pc, bool logged)
{
	struct race_place *place = &race_now.places[offset / MEMORY_GRAIN];
	unsigned int at = race_at(kind);
	struct race_record *record = &race_now.records[offset / MEMORY_GRAIN][at];
	uint64_t stamp = watch_stamp(offset);
	uint32_t used = place->used;

	if (logged) {
		/* Even if not in use: it may be in an earlier life, which may be taken back to. */
		trail_save(record, sizeof(*record));
		trail_save(place, sizeof(*place));
	}
	if (place->stamp != stamp)
		used = 0;
	/* Here both ways meet: else the rest would be compiled twice, for want of registers. */
	__asm__("" : "+r"(used));
	place->stamp = stamp;
	place->used = used | (uint32_t)1 << at;
	record->pc = pc;
	record->held = lockdep.held[engine.current];
	record->count = (int32_t)race_now.count;
	record->event = (uint32_t)trace_used;
	record->kind = kind;
	used &= race_rivals[at];
	if (used)
		race_check(offset, at, used);
}

/* ---- order ------------------------------------------------------------- */

static inline __attribute__((always_inline)) void race_join(struct race_clock *restrict into,
							    const struct race_clock *restrict from,
							    bool logged)
{
	unsigned int i;

	if (logged)
		trail_save(into, sizeof(*into));
	for (i = 0; i < CR_THREADS_MAX; i++)
		into->of[i] = into->of[i] > from->of[i] ? into->of[i] : from->of[i];
}

/*
 * The thread sees the word as it is now: with `reads` it comes after readers, too.
 * What was not released in this run and life is nothing to see.
 */
static inline __attribute__((always_inline)) void race_see(const struct race_word *word,
							   uint64_t stamp, bool reads, bool logged)
{
	struct race_clock *clock = &race_now.threads[engine.current];

	if (word->stamp != stamp)
		return;
	race_join(clock, &word->writes, logged);
	if (reads)
		race_join(clock, &word->reads, logged);
}

/* What the thread did so far happens before whoever sees the word as it is now. */
static inline __attribute__((always_inline)) void race_release(struct race_word *word,
							       uint64_t stamp, bool reads,
							       bool logged)
{
	unsigned int thread = engine.current;
	struct race_clock *clock = &race_now.threads[thread];

	/* Nobody reads a thread's own count but here, so it need not be taken back. */
	clock->of[thread] = (int32_t)race_now.count;
	if (word->stamp == stamp) {
		race_join(reads ? &word->reads : &word->writes, clock, logged);
	} else {
		if (logged)
			trail_save(word, sizeof(*word));
		*word = (struct race_word){ .stamp = stamp };
		*(reads ? &word->reads : &word->writes) = *clock;
	}
	if (logged)
		trail_save(&race_now.count, sizeof(race_now.count));
	race_now.count++;
}

static inline __attribute__((always_inline)) void race_lock(uintptr_t offset, enum event_kind kind,
							    bool logged)
{
	struct race_word *word = &race_now.words[offset / MEMORY_GRAIN];
	uint64_t stamp = watch_stamp(offset);

	if (kind == EVENT_LOCK || kind == EVENT_LOCK_SHARED)
		race_see(word, stamp, kind == EVENT_LOCK, logged);
	else
		race_release(word, stamp, kind == EVENT_UNLOCK_SHARED, logged);
}

static inline __attribute__((always_inline)) void race_range(uintptr_t offset, unsigned int bytes,
							     enum event_kind kind, const void *pc,
							     bool logged)
{
	struct race_word *word = &race_now.words[offset / MEMORY_GRAIN];
	uintptr_t at;

	if (kind == EVENT_ATOMIC)
		race_see(word, watch_stamp(offset), false, logged);
	for (at = offset; at < offset + bytes; at += 8)
		race_place(at, kind, pc, logged);
	if (kind == EVENT_ATOMIC)
		race_release(word, watch_stamp(offset), false, logged);
}

static __attribute__((noinline)) void race_lock_only(uintptr_t offset, enum event_kind kind)
{
	race_lock(offset, kind, false);
}

/* The same as race_access(), where the run may be taken back. */
static __attribute__((noinline)) void race_logged(uintptr_t offset, unsigned int bytes,
						  enum event_kind kind, const void *pc)
{
	if (kind > EVENT_ATOMIC_READ)
		race_lock(offset, kind, true);
	else
		race_range(offset, bytes, kind, pc, true);
}

static __attribute__((noinline)) void race_long(uintptr_t offset, unsigned int bytes,
						enum event_kind kind, const void *pc)
{
	race_range(offset, bytes, kind, pc, false);
}

void race_access(uintptr_t offset, unsigned int bytes, enum event_kind kind, const void *pc)
{
	if (trail.on)
		race_logged(offset, bytes, kind, pc);
	else if (kind > EVENT_ATOMIC_READ)
		race_lock_only(offset, kind);
	else if (kind >= EVENT_ATOMIC || bytes - 1 >= 8)
		race_long(offset, bytes, kind, pc);
	else
		race_place(offset, kind, pc, false);
}

void race_acquire(uintptr_t offset)
{
	race_see(&race_now.words[offset / MEMORY_GRAIN], watch_stamp(offset), false, trail.on);
}

void race_life(uintptr_t offset)
{
	struct race_word *life = &race_now.words[RACE_PLACES + memory_object[offset / MEMORY_UNIT]];

	if (memory_state[offset / MEMORY_UNIT] == MEMORY_FREED)
		race_release(life, interleaving_stamp, false, trail.on);
	else
		race_see(life, interleaving_stamp, false, trail.on);
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
	known_forget();
	trail.kept = 0;
}
