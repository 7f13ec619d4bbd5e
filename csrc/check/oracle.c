// SPDX-License-Identifier: GPL-2.0-only
/*
 * The oracle reads a trace once, from front to back, and keeps a little state
 * about super blocks, pools, registrations and places of files.
 *
 * A callback of a backend is on behalf of the super block whose hook, init
 * call or visit its thread is inside of. A super block is its number from
 * sb-new to sb-free; a later one may have the same number.
 */
#include "oracle.h"

#include <string.h>

#define ORACLE_SUPERS	32
#define ORACLE_PLACES	128	/* of files: 3 bits of file system, 2 of inode, 2 of page */
#define ORACLE_WRITERS	(CR_OPS_MAX + 2)
#define ORACLE_NOBODY	0xff
#define ORACLE_EBUSY	16

enum oracle_kind { ORACLE_LOCAL, ORACLE_SHARED, ORACLE_NONE };

struct oracle_super {
	uint8_t kind;
	uint8_t uuid;
	uint8_t mounted;
	uint8_t killed;
	uint8_t inits;
	uint32_t init_event;	/* the first init callback */
	uint32_t last_init_event;
};

struct oracle_pool {
	uint8_t known;		/* was handed out at some time */
	uint8_t users;		/* is handed out to so many */
	uint8_t held[ORACLE_SUPERS];	/* how often each super block was given it */
	uint32_t given_event;
	uint32_t back_event;
};

struct oracle_place {
	uint32_t content;
	uint16_t rank;		/* changes of this place so far */
	uint32_t event;		/* the last change */
};

struct oracle_read {
	uint8_t open;
	uint8_t zero_allowed;
	uint16_t rank;		/* of the place when the read began */
	int32_t location;
};

struct oracle_state {
	const struct cr_event *trace;
	uint32_t at;		/* the event being read */
	uint32_t judged;
	struct oracle_judgement *judgement;
	bool places;		/* of files are known: most runs have none */
	uint8_t context[CR_THREADS_MAX];	/* the thread's super block */
	uint8_t registered;	/* calls that returned */
	uint8_t winners;
	uint8_t winner;
	uint8_t backend;	/* the one that callbacks reached */
	uint32_t winner_event;
	uint32_t backend_event;
	struct oracle_read reads[CR_THREADS_MAX];
};

static struct oracle_state oracle;
static struct oracle_super oracle_supers[ORACLE_SUPERS];
static uint32_t oracle_supers_used;
static struct oracle_pool oracle_pools[CR_BACKENDS_MAX][CR_POOLS_MAX];
static uint32_t oracle_pools_used[CR_BACKENDS_MAX];
static struct oracle_place oracle_places[ORACLE_PLACES];
static uint16_t oracle_ranks[ORACLE_WRITERS];	/* of what each operation wrote */

static void oracle_violates_at(enum verdict verdict, uint32_t violation, uint32_t cause)
{
	struct oracle_judgement *judgement = oracle.judgement;

	if (!(oracle.judged >> verdict & 1))
		return;
	if (judgement->first == VERDICT_OK) {
		judgement->first = verdict;
		judgement->violation = violation;
		judgement->cause = cause;
	}
	judgement->verdicts |= 1u << verdict;
}

static void oracle_violates(enum verdict verdict, uint32_t cause)
{
	oracle_violates_at(verdict, oracle.at, cause);
}

/* ---- the proof: every active super block, exactly once ---------------- */

static void oracle_init_missing(const struct oracle_super *super, uint32_t cause)
{
	if (super->mounted && !super->killed && super->kind != ORACLE_NONE && !super->inits)
		oracle_violates(VERDICT_INIT_MISSING, cause);
}

static void oracle_init_twice(struct oracle_super *super)
{
	if (super->inits++)
		oracle_violates(VERDICT_INIT_TWICE, super->init_event);
	else
		super->init_event = oracle.at;
	super->last_init_event = oracle.at;
}

static void oracle_init_wrong(const struct oracle_super *super, const struct cr_event *event)
{
	bool shared = event->kind == EVENT_CB_INIT_SHARED;

	if (super->kind == ORACLE_NONE || shared != (super->kind == ORACLE_SHARED) ||
	    (shared && EVENT_LOW(event->value) != super->uuid))
		oracle_violates(VERDICT_INIT_WRONG, oracle.at);
}

static void oracle_register_result(const struct cr_event *event)
{
	oracle.registered++;
	if (event->value == 0) {
		if (oracle.winners++) {
			oracle_violates(VERDICT_REGISTER_RESULT, oracle.winner_event);
			return;
		}
		oracle.winner = (uint8_t)event->object;
		oracle.winner_event = oracle.at;
		if (oracle.backend != ORACLE_NOBODY && oracle.backend != oracle.winner)
			oracle_violates(VERDICT_OPS_CHANGED, oracle.backend_event);
	} else if (event->value != -ORACLE_EBUSY) {
		oracle_violates(VERDICT_REGISTER_RESULT, oracle.at);
	}
}

static void oracle_ops_changed(unsigned int backend)
{
	if (oracle.backend == ORACLE_NOBODY) {
		oracle.backend = (uint8_t)backend;
		oracle.backend_event = oracle.at;
	}
	if (backend != oracle.backend)
		oracle_violates(VERDICT_OPS_CHANGED, oracle.backend_event);
	else if (oracle.winners && backend != oracle.winner)
		oracle_violates(VERDICT_OPS_CHANGED, oracle.winner_event);
}

/* ---- life of a pool ---------------------------------------------------- */

static void oracle_pool_handed_out(unsigned int super, const struct cr_event *event)
{
	unsigned int backend = EVENT_BACKEND(event->value);
	struct oracle_pool *pool;

	if (event->object < 0 || event->object >= CR_POOLS_MAX)
		return;
	pool = &oracle_pools[backend][event->object];
	if ((uint32_t)event->object >= oracle_pools_used[backend])
		oracle_pools_used[backend] = (uint32_t)event->object + 1;
	if (!pool->users)
		memset(pool->held, 0, sizeof(pool->held));
	pool->known = 1;
	pool->users++;
	pool->held[super]++;
	pool->given_event = oracle.at;
}

/* A callback names a pool: it must be handed out, and to this super block. */
static void oracle_pool_named(unsigned int super, const struct cr_event *event)
{
	unsigned int backend = EVENT_BACKEND(event->value);
	const struct oracle_pool *pool;

	if (event->object < 0 || event->object >= CR_POOLS_MAX) {
		oracle_violates(VERDICT_POOL_UNKNOWN, oracle.at);
		return;
	}
	pool = &oracle_pools[backend][event->object];
	if (!pool->known)
		oracle_violates(VERDICT_POOL_UNKNOWN, oracle.at);
	else if (!pool->users)
		oracle_violates(VERDICT_POOL_DEAD, pool->back_event);
	else if (!pool->held[super])
		oracle_violates(VERDICT_POOL_FOREIGN, pool->given_event);
}

static void oracle_pool_given_back(unsigned int super, const struct cr_event *event)
{
	unsigned int backend = EVENT_BACKEND(event->value);
	struct oracle_pool *pool;

	if (event->object < 0 || event->object >= CR_POOLS_MAX)
		return;
	pool = &oracle_pools[backend][event->object];
	if (!pool->users)
		return;
	pool->users--;
	if (pool->held[super])
		pool->held[super]--;
	pool->back_event = oracle.at;
}

/*
 * The super block is gone. If it was initialised again, its pool was lost there
 * and then, when a second one took its place.
 */
static void oracle_pool_leak(unsigned int super)
{
	const struct oracle_super *dead = &oracle_supers[super];
	uint32_t violation = dead->inits > 1 ? dead->last_init_event : oracle.at;
	unsigned int backend, i;

	for (backend = 0; backend < CR_BACKENDS_MAX; backend++) {
		for (i = 0; i < oracle_pools_used[backend]; i++) {
			struct oracle_pool *pool = &oracle_pools[backend][i];

			if (!pool->users || !pool->held[super])
				continue;
			oracle_violates_at(VERDICT_POOL_LEAK, violation, pool->given_event);
			/* The number may go to another super block now. */
			pool->held[super] = 0;
		}
	}
}

/* ---- data -------------------------------------------------------------- */

static void oracle_begin_places(void)
{
	unsigned int i;

	memset(oracle_places, 0, sizeof(oracle_places));
	memset(oracle_ranks, 0, sizeof(oracle_ranks));
	for (i = 0; i < ORACLE_PLACES; i++)
		oracle_places[i].content = 1;
	oracle.places = true;
}

static struct oracle_place *oracle_place(int location)
{
	unsigned int fs = (unsigned int)location >> 8 & 7;
	unsigned int inode = (unsigned int)location >> 4 & 3;

	if (!oracle.places)
		oracle_begin_places();
	return &oracle_places[fs << 4 | inode << 2 | (location & 3)];
}

static void oracle_changed(int location, uint32_t content)
{
	struct oracle_place *place = oracle_place(location);
	unsigned int i;

	place->content = content;
	place->rank++;
	place->event = oracle.at;
	if (content) {
		oracle_ranks[(content & 0xffff) % ORACLE_WRITERS] = place->rank;
		return;
	}
	for (i = 0; i < CR_THREADS_MAX; i++)
		if (oracle.reads[i].open && oracle.reads[i].location == location)
			oracle.reads[i].zero_allowed = 1;
}

static void oracle_read_begins(const struct cr_event *event)
{
	const struct oracle_place *place = oracle_place(event->object);
	struct oracle_read *read = &oracle.reads[event->thread];

	read->open = 1;
	read->location = event->object;
	read->rank = place->rank;
	read->zero_allowed = !place->content;
}

/* The last put of that content, or the last change of the place. */
static uint32_t oracle_data_cause(uint32_t content, const struct oracle_place *place)
{
	uint32_t i;

	for (i = oracle.at; i--;)
		if (oracle.trace[i].kind == EVENT_CB_PUT &&
		    EVENT_LOW(oracle.trace[i].value) == content)
			return i;
	return place->event;
}

/*
 * What a read returned must have been the content at some time between the
 * read's begin and its end; the end of the file is always a legal answer while
 * sizes change, and sizes are not judged.
 */
static void oracle_read_ends(const struct cr_event *event)
{
	const struct oracle_place *place = oracle_place(event->object);
	struct oracle_read *read = &oracle.reads[event->thread];
	uint32_t content = (uint32_t)event->value;

	read->open = 0;
	if (event->value < 0)
		return;
	if (!content) {
		if (!read->zero_allowed)
			oracle_violates(VERDICT_DATA_STALE, place->event);
		return;
	}
	if ((int)(content >> 16) != event->object)
		oracle_violates(VERDICT_DATA_FOREIGN, oracle_data_cause(content, place));
	else if (oracle_ranks[(content & 0xffff) % ORACLE_WRITERS] < read->rank)
		oracle_violates(VERDICT_DATA_STALE, oracle_data_cause(content, place));
}

/* ---- the walk over the trace ------------------------------------------- */

static void oracle_reset(void)
{
	unsigned int i;

	memset(&oracle, 0, sizeof(oracle));
	memset(oracle.context, ORACLE_NOBODY, sizeof(oracle.context));
	oracle.winner = ORACLE_NOBODY;
	oracle.backend = ORACLE_NOBODY;
	memset(oracle_supers, 0, oracle_supers_used * sizeof(oracle_supers[0]));
	oracle_supers_used = 0;
	for (i = 0; i < CR_BACKENDS_MAX; i++) {
		if (!oracle_pools_used[i])
			continue;
		memset(oracle_pools[i], 0, oracle_pools_used[i] * sizeof(oracle_pools[i][0]));
		oracle_pools_used[i] = 0;
	}
}

static void oracle_super_new(const struct cr_event *event)
{
	struct oracle_super *super = &oracle_supers[event->object];

	if ((uint32_t)event->object >= oracle_supers_used)
		oracle_supers_used = (uint32_t)event->object + 1;
	memset(super, 0, sizeof(*super));
	super->kind = (uint8_t)(event->value >> 8);
	super->uuid = (uint8_t)(event->value >> 16);
}

static void oracle_callback(const struct cr_event *event)
{
	unsigned int super = oracle.context[event->thread];

	oracle_ops_changed(EVENT_BACKEND(event->value));
	if (super == ORACLE_NOBODY)
		return;
	if (event->kind == EVENT_CB_INIT || event->kind == EVENT_CB_INIT_SHARED) {
		oracle_init_wrong(&oracle_supers[super], event);
		oracle_init_twice(&oracle_supers[super]);
		oracle_pool_handed_out(super, event);
		return;
	}
	oracle_pool_named(super, event);
	if (event->kind == EVENT_CB_INVALIDATE_FS)
		oracle_pool_given_back(super, event);
}

static void oracle_registered(const struct cr_event *event)
{
	unsigned int i;

	oracle_register_result(event);
	if (event->value)
		return;
	for (i = 0; i < oracle_supers_used; i++)
		oracle_init_missing(&oracle_supers[i], oracle.at);
}

static void oracle_event(const struct cr_event *event)
{
	switch ((enum event_kind)event->kind) {
	case EVENT_SB_NEW:
		oracle_super_new(event);
		break;
	case EVENT_SB_MOUNTED:
		oracle_supers[event->object].mounted = 1;
		if (oracle.winners)
			oracle_init_missing(&oracle_supers[event->object], oracle.winner_event);
		break;
	case EVENT_SB_KILL:
		oracle_supers[event->object].killed = 1;
		break;
	case EVENT_SB_FREE:
		oracle_pool_leak((unsigned int)event->object);
		break;
	case EVENT_INIT_CALL:
	case EVENT_VISIT:
	case EVENT_HOOK:
		oracle.context[event->thread] = (uint8_t)event->object;
		break;
	case EVENT_INIT_DONE:
	case EVENT_VISIT_DONE:
	case EVENT_HOOK_DONE:
		oracle.context[event->thread] = ORACLE_NOBODY;
		break;
	case EVENT_REGISTERED:
		oracle_registered(event);
		break;
	case EVENT_CB_INIT:
	case EVENT_CB_INIT_SHARED:
	case EVENT_CB_GET:
	case EVENT_CB_PUT:
	case EVENT_CB_INVALIDATE_PAGE:
	case EVENT_CB_INVALIDATE_INODE:
	case EVENT_CB_INVALIDATE_FS:
		oracle_callback(event);
		break;
	case EVENT_SET:
	case EVENT_ZERO:
		oracle_changed(event->object, (uint32_t)event->value);
		break;
	case EVENT_READ_BEGIN:
		oracle_read_begins(event);
		break;
	case EVENT_READ_END:
		oracle_read_ends(event);
		break;
	default:
		break;
	}
}

void oracle_check(const struct cr_event *trace, size_t length, bool complete,
		  uint32_t judged, struct oracle_judgement *judgement)
{
	uint32_t i;

	memset(judgement, 0, sizeof(*judgement));
	oracle_reset();
	oracle.judgement = judgement;
	oracle.judged = judged;
	oracle.trace = trace;
	for (i = 0; i < length; i++) {
		oracle.at = i;
		oracle_event(&trace[i]);
	}
	if (complete && oracle.registered && !oracle.winners && length) {
		oracle.at = (uint32_t)length - 1;
		oracle_violates(VERDICT_REGISTER_RESULT, oracle.at);
	}
}
