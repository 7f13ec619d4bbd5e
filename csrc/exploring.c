// SPDX-License-Identifier: GPL-2.0-only
/*
 * Explorations, as api.h offers them: executions one after another, what they
 * met, and the simplest tape for every verdict.
 */
#include <stddef.h>
#include <string.h>

#include "api.h"
#include "core.h"
#include "coverage.h"
#include "explore.h"
#include "hashes.h"
#include "interleaving.h"
#include "places.h"
#include "random.h"
#include "run.h"
#include "scenario.h"
#include "simpler.h"
#include "trace.h"
#include "trail.h"
#include "turns.h"
#include "unordered.h"
#include "watch.h"

#define EXPLORING_CLASSES_MAX	((size_t)1 << 22)
#define EXPLORING_STATES_MAX	((size_t)1 << 20)
#define EXPLORING_CLOCK_EVERY	64
#define EXPLORING_SAMPLES	8	/* and twice as many for each thread */
#define EXPLORING_SIMPLER_MAX	4096	/* executions with a verdict: more are not simplified */

struct exploring_tape {
	uint32_t length;
	uint32_t preemptions;
	uint8_t met;
	uint8_t answers[CR_TAPE_MAX];
};

static uint64_t exploring_class_slots[EXPLORING_CLASSES_MAX];
static uint64_t exploring_state_slots[EXPLORING_STATES_MAX];
static struct hashes exploring_classes = {
	.slots = exploring_class_slots, .slots_max = EXPLORING_CLASSES_MAX,
};
static struct hashes exploring_states = {
	.slots = exploring_state_slots, .slots_max = EXPLORING_STATES_MAX,
};
static struct cr_config exploring_config;
/* Runs of another scenario may come in between. */
static uint8_t exploring_scenario[CR_SCENARIO_BYTES_MAX];
static size_t exploring_scenario_bytes;
static struct cr_explored exploring_met;
static struct exploring_tape exploring_tapes[CR_VERDICTS_MAX];
static uint32_t exploring_stop_on;
static bool exploring_begun;

static void exploring_forget(void)
{
	uint32_t restarts = exploring_met.restarts;
	unsigned int i;

	memset(&exploring_met, 0, sizeof(exploring_met));
	exploring_met.restarts = restarts;
	for (i = 0; i < CR_VERDICTS_MAX; i++)
		exploring_tapes[i].met = 0;
	hashes_empty(&exploring_classes);
	hashes_empty(&exploring_states);
}

static int exploring_configure(void)
{
	struct cr_config config = exploring_config;

	config.policy = CR_POLICY_TAPE;
	if (!config.steps_max || config.steps_max > EXPLORE_DEPTH_MAX - 2)
		config.steps_max = EXPLORE_DEPTH_MAX - 2;
	if (run_configure(&config))
		return -1;
	engine.policy = &policy_explore;
	engine.explores = true;
	engine.survives = true;
	engine.recording = false;
	engine.trace_full = false;
	engine.classes = false;
	engine.releases = false;
	coverage_edges_on = false;
	return 0;
}

/*
 * Plain accesses that no point orders were one step each with what surrounds
 * them: from now on they are points. True: there is a new one.
 */
static bool exploring_promotes(void)
{
	bool promotes = watch_tried_more;
	unsigned int i;

	watch_tried_more = false;
	for (i = 0; engine.reduced && i < unordered_met.count; i++)
		promotes |= watch_promote(unordered_met.pc[i]);
	return promotes;
}

/*
 * Which locks were tried is known by their addresses, and one twin's may have
 * been while the other's was not; then every release is a point, for both.
 */
static void exploring_watch_releases(void)
{
	unsigned int t;

	engine.releases = false;
	for (t = 0; t < scenario.threads; t++)
		engine.releases |= explore_tree.how.twin[t] != 0;
	engine.releases = engine.releases && memchr(watch_tried, 1, sizeof(watch_tried));
}

/*
 * Random schedules show most of what is shared and most of what races, so that
 * the exploration does not have to begin anew when it meets that late.
 */
static void exploring_sample(void)
{
	struct oracle_judgement judgement;
	static struct footprint unused;
	uint64_t i;

	engine.policy = policy_get(CR_POLICY_RANDOM);
	for (i = 0; i < (uint64_t)EXPLORING_SAMPLES << scenario.threads; i++) {
		memset(&places_step, 0, sizeof(places_step));
		places_step.did = &unused;
		run_once(i, 0, &judgement);
		exploring_promotes();
	}
	engine.policy = &policy_explore;
	places.learned = 0;
}

int cr_explore_begin(const struct cr_config *config,
		     const uint8_t *bytes, size_t scenario_bytes,
		     const struct cr_explore *how)
{
	exploring_begun = false;
	exploring_config = *config;
	if (config->engine != CR_ENGINE_FIBER || how->algorithm > CR_EXPLORE_DFS ||
	    (how->parts && how->part >= how->parts) || how->split >= EXPLORE_DEPTH_MAX ||
	    (how->bound != CR_UNBOUNDED && how->algorithm != CR_EXPLORE_DFS) ||
	    exploring_configure())
		return -1;
	scenario_decode(bytes, scenario_bytes);
	exploring_scenario_bytes = scenario_encode(exploring_scenario);
	if (!turns_fit(how, scenario.threads))
		return -1;
	explore_begin(how);
	exploring_met.restarts = 0;
	exploring_stop_on = how->stop_on;
	exploring_sample();
	exploring_forget();
	exploring_begun = true;
	return 0;
}

/* What each operation returned, and what memory contains. */
static uint64_t exploring_state(void)
{
	const struct cr_event *trace;
	uint64_t state = places_state();
	size_t length, i;

	trace = trace_events(&length);
	for (i = 0; i < length; i++)
		if (trace[i].kind == EVENT_OP_END)
			state += random_spread((uint64_t)trace[i].object << 48 ^
					       random_spread((uint64_t)trace[i].value));
	return random_spread(state ^ engine.verdict);
}

/* The verdicts of the run that was recorded last. */
static uint32_t exploring_recorded;

static void exploring_record(void)
{
	struct oracle_judgement judgement;

	tape_rewind();
	engine.recording = true;
	run_once(0, exploring_config.judged, &judgement);
	engine.recording = false;
	exploring_recorded = judgement.verdicts;
}

/* Records a simpler execution of the class; false: there is none with these verdicts. */
static bool exploring_record_simpler(uint32_t verdicts, unsigned int *preemptions)
{
	unsigned int simpler;

	engine.policy = &policy_simpler;
	exploring_record();
	engine.policy = &policy_explore;
	if (!simpler_ran(&simpler) || simpler >= *preemptions || exploring_recorded != verdicts)
		return false;
	*preemptions = simpler;
	return true;
}

/*
 * How many preemptions show these verdicts, if that may be fewer than before. The
 * search for them takes longer than an execution, so it ends some time.
 */
static unsigned int exploring_preemptions(uint32_t verdicts)
{
	unsigned int preemptions = explore_preemptions(), simpler;
	bool looks = false;

	for (; verdicts; verdicts &= verdicts - 1)
		looks |= exploring_met.violations[__builtin_ctz(verdicts)] <= EXPLORING_SIMPLER_MAX;
	if (explore_tree.how.algorithm == CR_EXPLORE_DFS || !looks)
		return preemptions;
	simpler = simpler_find();
	return simpler < preemptions ? simpler : preemptions;
}

/*
 * An execution of that class once more, with its tape: kept if it is the simplest
 * with that verdict, and as the last one that stopped the exploration.
 */
static void exploring_keep(uint32_t verdicts)
{
	unsigned int preemptions = verdicts ? exploring_preemptions(verdicts) : 0;
	bool simpler = preemptions < explore_preemptions();
	uint32_t set, wanted = 0;
	const uint8_t *tape;
	size_t length;

	for (set = verdicts; set; set &= set - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(set);

		if (!exploring_tapes[i].met || exploring_tapes[i].preemptions > preemptions)
			wanted |= 1u << i;
	}
	if (verdicts & exploring_stop_on)
		wanted |= 1u << VERDICT_OK;
	if (!wanted)
		return;
	preemptions = explore_preemptions();
	if (!simpler || !exploring_record_simpler(verdicts, &preemptions))
		explore_repeat(exploring_record);
	tape = tape_written(&length);
	for (set = wanted; set; set &= set - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(set);
		struct exploring_tape *kept = &exploring_tapes[i];

		if (i != VERDICT_OK && kept->met && kept->preemptions <= preemptions)
			continue;
		kept->met = 1;
		kept->preemptions = preemptions;
		kept->length = (uint32_t)length;
		memcpy(kept->answers, tape, length);
	}
}

static void exploring_count(const struct oracle_judgement *judgement)
{
	struct cr_explored *met = &exploring_met;
	uint32_t set, preemptions = explore_preemptions();

	met->executions++;
	if (met->preemptions_max < preemptions)
		met->preemptions_max = preemptions;
	for (set = judgement->verdicts; set; set &= set - 1)
		met->violations[__builtin_ctz(set)]++;
	for (set = engine.marks; set; set &= set - 1)
		met->marks[__builtin_ctz(set)]++;
	hashes_add(&exploring_classes,
		   engine.hashes ? interleaving_class() : explore_class());
	hashes_add(&exploring_states, exploring_state());
}

/* One execution; returns its verdicts. */
static uint32_t exploring_execute(void)
{
	struct cr_explored *met = &exploring_met;
	struct oracle_judgement judgement;
	uint32_t depth;

	/* With sections of one step, the tree knows the classes by itself. */
	engine.hashes = explore_tree.how.algorithm == CR_EXPLORE_DFS ||
			!explore_tree.how.sections;
	run_once(0, exploring_config.judged, &judgement);
	depth = explore_tree.depth;
	met->steps += depth;
	if (met->depth_max < depth)
		met->depth_max = depth;
	if (exploring_promotes()) {
		explore_tree.ended = EXPLORE_ANEW;
		explore_tree.turns_known = 0;	/* which step is the n-th has changed */
		explore_tree.turns = 0;
		memset(explore_tree.turn, 0, sizeof(explore_tree.turn));
		exploring_watch_releases();
	}
	switch (explore_end()) {
	case EXPLORE_COMPLETE:
		exploring_count(&judgement);
		exploring_keep(judgement.verdicts);
		break;
	case EXPLORE_BLOCKED:
		met->blocked++;
		return 0;
	case EXPLORE_CUT:
		met->cut++;
		return 0;
	case EXPLORE_REPEAT:
	case EXPLORE_TURNS:
		return 0;
	case EXPLORE_ANEW:
		met->restarts++;
		exploring_forget();
		return 0;
	}
	return judgement.verdicts;
}

int cr_explore_go_on(uint64_t executions_max, uint64_t nanoseconds_max,
		     struct cr_explored *explored)
{
	uint64_t begin = run_clock(), i;
	uint32_t verdicts;

	if (!exploring_begun || exploring_configure())
		return -1;
	scenario_decode(exploring_scenario, exploring_scenario_bytes);
	exploring_watch_releases();
	for (i = 1; !exploring_met.done; i++) {
		verdicts = exploring_execute();
		exploring_met.done = !explore_next();
		if (i == executions_max || verdicts & exploring_stop_on)
			break;
		if (nanoseconds_max && i % EXPLORING_CLOCK_EVERY == 0 &&
		    run_clock() - begin >= nanoseconds_max)
			break;
	}
	exploring_met.nanoseconds += run_clock() - begin;
	exploring_met.classes = exploring_classes.count;
	exploring_met.states = exploring_states.count;
	exploring_met.promoted = (uint32_t)cr_promoted(NULL, 0);
	exploring_met.approximate = places.aliases || exploring_classes.full ||
				    exploring_states.full;
	*explored = exploring_met;
	return 0;
}

const uint8_t *cr_explore_tape(uint32_t verdict, size_t *length, uint32_t *preemptions)
{
	const struct exploring_tape *kept = &exploring_tapes[verdict % CR_VERDICTS_MAX];

	if (!kept->met)
		return NULL;
	*length = kept->length;
	if (preemptions)
		*preemptions = kept->preemptions;
	return kept->answers;
}

size_t cr_explore_states(uint64_t *states, size_t max)
{
	return hashes_copy(&exploring_states, states, max);
}

void cr_promote(const uint32_t *offsets, size_t count)
{
	size_t i;

	memset(watch_promoted, 0, sizeof(watch_promoted));
	memset(watch_tried, 0, sizeof(watch_tried));
	for (i = 0; i < count; i++)
		watch_promote(offsets[i]);
}

size_t cr_promoted(uint32_t *offsets, size_t max)
{
	size_t count = 0;
	uint32_t pc;

	for (pc = 0; pc < WATCH_TEXT_MAX; pc++) {
		if (!watch_promoted[pc / 8]) {
			pc |= 7;
			continue;
		}
		if (!watch_is_point(EVENT_READ, pc))
			continue;
		if (count < max)
			offsets[count] = pc;
		count++;
	}
	return count;
}

/*
 * An exploration as bytes: what stands still between two executions, one piece
 * after another. The same walk over the pieces counts, writes and reads.
 */
struct exploring_bytes {
	uint8_t *out;		/* NULL: not written */
	const uint8_t *in;	/* NULL: not read */
	size_t room;
	size_t at;
	bool fits;
};

static void exploring_piece(struct exploring_bytes *bytes, void *piece, size_t length)
{
	if (bytes->at + length > bytes->room)
		bytes->fits = false;
	if (bytes->fits && bytes->out)
		memcpy(bytes->out + bytes->at, piece, length);
	if (bytes->fits && bytes->in)
		memcpy(piece, bytes->in + bytes->at, length);
	bytes->at += length;
}

static void exploring_set(struct exploring_bytes *bytes, struct hashes *set)
{
	uint64_t count = set->count, i, hash = 0;

	exploring_piece(bytes, &count, sizeof(count));
	if (bytes->in) {
		hashes_empty(set);
		for (i = 0; i < count && bytes->fits; i++) {
			exploring_piece(bytes, &hash, sizeof(hash));
			hashes_add(set, hash);
		}
		return;
	}
	for (i = 0; i < set->slots_used; i++)
		if (set->slots[i])
			exploring_piece(bytes, &set->slots[i], sizeof(set->slots[i]));
}

/* Of what depends on the arguments, what cannot differ between two processes that fit. */
static uint64_t exploring_identity(void)
{
	size_t i;
	uint64_t identity = sizeof(struct explore_tree) + sizeof(struct places) +
			    ((uint64_t)exploring_config.planted << 32 | exploring_config.points);

	for (i = 0; i < exploring_scenario_bytes; i++)
		identity = random_spread(identity ^ exploring_scenario[i]);
	return random_spread(identity ^ exploring_config.judged);
}

static void exploring_pieces(struct exploring_bytes *bytes)
{
	unsigned int i;

	exploring_piece(bytes, &explore_tree, offsetof(struct explore_tree, nodes));
	if (bytes->fits && explore_tree.fixed <= EXPLORE_DEPTH_MAX)
		exploring_piece(bytes, explore_tree.nodes,
				explore_tree.fixed * sizeof(explore_tree.nodes[0]));
	else
		bytes->fits = false;
	exploring_piece(bytes, &places, sizeof(places));
	exploring_piece(bytes, &exploring_met, sizeof(exploring_met));
	exploring_piece(bytes, watch_promoted, sizeof(watch_promoted));
	exploring_piece(bytes, watch_tried, sizeof(watch_tried));
	exploring_set(bytes, &exploring_classes);
	exploring_set(bytes, &exploring_states);
	for (i = 0; i < CR_VERDICTS_MAX; i++) {
		struct exploring_tape *kept = &exploring_tapes[i];

		exploring_piece(bytes, kept, offsetof(struct exploring_tape, answers));
		if (kept->met && kept->length <= CR_TAPE_MAX)
			exploring_piece(bytes, kept->answers, kept->length);
	}
}

size_t cr_explore_save(uint8_t *out, size_t room)
{
	struct exploring_bytes bytes = { .room = SIZE_MAX, .fits = true };
	uint64_t identity = exploring_identity();
	size_t needed;

	exploring_piece(&bytes, &identity, sizeof(identity));
	exploring_pieces(&bytes);
	needed = bytes.at;
	if (needed <= room) {
		bytes = (struct exploring_bytes){ .out = out, .room = room, .fits = true };
		exploring_piece(&bytes, &identity, sizeof(identity));
		exploring_pieces(&bytes);
	}
	return needed;
}

int cr_explore_load(const uint8_t *in, size_t length)
{
	struct exploring_bytes bytes = { .in = in, .room = length, .fits = true };
	struct cr_explore how = explore_tree.how;
	uint64_t identity = 0;

	if (!exploring_begun)
		return -1;
	exploring_piece(&bytes, &identity, sizeof(identity));
	if (!bytes.fits || identity != exploring_identity())
		return -1;
	/* Places are numbered otherwise from here on. */
	unordered_reset();
	exploring_pieces(&bytes);
	places_reset(true);
	trail.kept = 0;
	how.sections = explore_tree.how.sections;
	exploring_begun = bytes.fits && bytes.at == length &&
			  !memcmp(&how, &explore_tree.how, sizeof(how));
	return exploring_begun ? 0 : -1;
}
