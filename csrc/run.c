// SPDX-License-Identifier: GPL-2.0-only
/*
 * One run, from bytes to verdict, and batches of them: the only file that
 * knows everyone.
 *
 *	decode the scenario -> reset the kernel's data, backends, trace and
 *	tape -> let the engine run the threads -> let the oracle judge the trace
 *
 * An exploration's run may go on from a step of the last one (trail.h). Else
 * nothing survives from one run to the next but counters of coverage and the
 * clock-free statistics of a batch.
 */
#include <assert.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "backend.h"
#include "core.h"
#include "coverage.h"
#include "interleaving.h"
#include "known.h"
#include "memory.h"
#include "ops.h"
#include "oracle.h"
#include "planted.h"
#include "policy.h"
#include "profile.h"
#include "race.h"
#include "random.h"
#include "run.h"
#include "scenario.h"
#include "trace.h"
#include "trail.h"
#include "watch.h"

#define RUN_STEPS_DEFAULT	20000
#define RUN_EDGES_EVERY	64	/* schedules of a batch between two that count edges */
#define RUN_CLOCK_EVERY	64	/* schedules between two looks at the clock */

uint32_t planted_set;

static bool run_is_set_up;
static uint8_t run_fuzz_registers[CR_REGISTERS];

void mark(enum mark mark)
{
	if (engine.kind == CR_ENGINE_THREAD) {
		__atomic_fetch_or(&engine.marks, 1u << mark, __ATOMIC_RELAXED);
	} else if (!(engine.marks >> mark & 1)) {
		trail_save_range(&engine.marks, sizeof(engine.marks));
		engine.marks |= 1u << mark;
	}
}

static void run_set_up(void)
{
	if (run_is_set_up)
		return;
	static_assert(VERDICT_COUNT <= CR_VERDICTS_MAX, "a bit set has 32 bits");
	static_assert((int)MARK_COUNT <= CR_MARKS_MAX, "a bit set has 32 bits");
	static_assert(CR_STEPS_MAX < CR_TAPE_MAX, "the steps end before the tape does");
	ops_setup();
	memory_snapshot();
	run_is_set_up = true;
}

int run_configure(const struct cr_config *config)
{
	const struct policy *policy = policy_get(config->policy);

	if (!policy || config->engine > CR_ENGINE_BARE ||
	    config->planted >> PLANTED_COUNT || config->points > CR_POINTS_SYNC ||
	    config->steps_max > CR_STEPS_MAX)
		return -1;
	run_set_up();
	engine.kind = (uint8_t)config->engine;
	engine.policy = policy;
	engine.steps_max = config->steps_max ? config->steps_max : RUN_STEPS_DEFAULT;
	engine.trace_full = config->trace_full;
	engine.reduced = config->points == CR_POINTS_SYNC;
	/* Which locks are tried is known only afterwards: what ran before must not matter. */
	engine.releases = engine.reduced;
	/* Detectors see one access after the other. */
	engine.detects = config->detect && engine.kind == CR_ENGINE_FIBER;
	engine.explores = false;
	engine.classes = true;
	engine.hashes = false;
	engine.survives = false;
	engine.recording = true;
	engine.count_pairs = false;
	coverage_edges_on = engine.kind != CR_ENGINE_BARE;
	engine.seed = config->seed;
	planted_set = config->planted;
	return 0;
}

/* What the engine stopped for is the last that happened. */
static void run_judge_stop(size_t length, uint32_t judged, struct oracle_judgement *judgement)
{
	if (engine.verdict == VERDICT_OK || !(judged >> engine.verdict & 1))
		return;
	judgement->verdicts |= 1u << engine.verdict;
	if (judgement->first != VERDICT_OK)
		return;
	judgement->first = engine.verdict;
	judgement->violation = judgement->cause = length ? (uint32_t)length - 1 : 0;
}

/* A data race is not the end of a run, so it may come before or after what else went wrong. */
static void run_judge_race(const struct race_met *met, size_t length, uint32_t judged,
			   struct oracle_judgement *judgement)
{
	if (!met->judged || !(judged >> VERDICT_DATA_RACE & 1))
		return;
	judgement->verdicts |= 1u << VERDICT_DATA_RACE;
	if (judgement->first != VERDICT_OK && judgement->violation < met->violation)
		return;
	judgement->first = VERDICT_DATA_RACE;
	judgement->violation = met->violation < length ? met->violation : (uint32_t)length - 1;
	judgement->cause = met->cause < length ? met->cause : (uint32_t)length - 1;
}

/* Runs the decoded scenario once, as configured, with the loaded tape. */
void run_once(uint64_t schedule, uint32_t judged, struct oracle_judgement *judgement)
{
	const struct cr_event *trace;
	bool again = trail_begin(engine.policy->walks);
	size_t length;

	if (!again) {
		memory_reset();
		backend_reset();
		trace_reset();
		interleaving_reset(scenario.threads);
	}
	watch_reset(again);
	engine.schedule = schedule;
	engine.judged = judged;
	engine.policy->begin(engine.seed, schedule);
	engine_run(scenario.threads, ops_thread);
	*judgement = (struct oracle_judgement){ .first = VERDICT_OK };
	if (engine.kind == CR_ENGINE_BARE)
		return;
	trace = trace_events(&length);
	/* What follows the first stop in a run that survives it is not judged. */
	if (engine.verdict != VERDICT_OK && engine.events < length)
		length = engine.events;
	oracle_check(trace, length, engine.verdict == VERDICT_OK, judged, judgement);
	run_judge_stop(length, judged, judgement);
	run_judge_race(&race_met, length, judged, judgement);
}

/*
 * A policy that needs it learns what the scenario does; nothing else is left of
 * these runs. Returns how many steps that is, or 0.
 */
static uint32_t run_profile(void)
{
	struct oracle_judgement judgement;
	struct engine_state asked = engine;
	uint64_t i;

	if (!engine.policy->profiled || engine.kind == CR_ENGINE_THREAD)
		return 0;
	engine.policy = &profile_policy;
	engine.seed = 0;
	engine.trace_full = false;
	engine.recording = false;
	engine.count_pairs = false;
	engine.detects = false;
	coverage_edges_on = false;
	profile_begin(scenario.threads);
	for (i = 0; i < PROFILE_RUNS; i++)
		run_once(i, 0, &judgement);
	profile_end();
	engine = asked;
	coverage_edges_on = engine.kind != CR_ENGINE_BARE;
	return profile.steps;
}

static uint64_t run_digest(const struct cr_event *trace, size_t length)
{
	uint64_t digest = length;
	size_t i;

	for (i = 0; i < length; i++) {
		const struct cr_event *e = &trace[i];

		digest = random_spread(digest ^ ((uint64_t)e->step << 32 | e->pc));
		digest = random_spread(digest ^ ((uint64_t)e->thread << 56 |
						 (uint64_t)e->kind << 48 |
						 (uint64_t)e->enabled << 32 |
						 (uint32_t)e->object));
		digest = random_spread(digest ^ (uint64_t)e->value);
	}
	return digest;
}

int cr_run(const struct cr_config *config,
	   const uint8_t *bytes, size_t scenario_bytes,
	   const uint8_t *tape, size_t tape_length,
	   struct cr_result *result)
{
	struct oracle_judgement judgement;
	size_t length;

	if (tape_length > CR_TAPE_MAX || run_configure(config))
		return -1;
	scenario_decode(bytes, scenario_bytes);
	run_profile();
	tape_load(tape, tape_length);
	run_once(config->schedule, config->judged, &judgement);
	memset(result, 0, sizeof(*result));
	result->verdict = judgement.first;
	result->verdicts = judgement.verdicts;
	result->violation = judgement.violation;
	result->cause = judgement.cause;
	result->marks = engine.marks;
	result->steps = engine.steps;
	result->trace = trace_events(&length);
	result->trace_length = (uint32_t)length;
	result->tape = tape_written(&length);
	result->tape_length = (uint32_t)length;
	result->interleaving = interleaving_class();
	result->digest = run_digest(result->trace, result->trace_length);
	return 0;
}

int cr_run_forced(const struct cr_config *config,
		  const uint8_t *bytes, size_t scenario_bytes,
		  const uint8_t *threads, size_t decisions,
		  struct cr_result *result)
{
	int answer;

	if (config->engine != CR_ENGINE_THREAD || decisions > CR_STEPS_MAX)
		return -1;
	thread_force(threads, decisions);
	answer = cr_run(config, bytes, scenario_bytes, NULL, 0, result);
	thread_force(NULL, 0);
	return answer;
}

/* HyperLogLog (Flajolet et al. 2007): 12 bits choose a register. */
static void run_count_interleaving(uint64_t hash, uint8_t *registers)
{
	uint64_t rest = hash << 12 | 1u << 11;
	uint8_t rank = (uint8_t)(__builtin_clzll(rest) + 1);
	unsigned int at = (unsigned int)(hash >> 52);

	if (registers[at] < rank)
		registers[at] = rank;
}

static void run_count(uint64_t schedule, uint32_t verdicts, struct cr_summary *summary)
{
	uint32_t set;

	for (set = verdicts; set; set &= set - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(set);

		if (!summary->violations[i]++)
			summary->first[i] = schedule;
	}
	for (set = engine.marks; set; set &= set - 1)
		summary->marks[__builtin_ctz(set)]++;
	summary->schedules++;
	summary->steps += engine.steps;
}

static uint64_t run_hash_bytes(const uint8_t *bytes, size_t length)
{
	uint64_t hash = length;
	size_t i;

	for (i = 0; i < length; i++)
		hash = random_spread(hash ^ bytes[i]);
	return hash;
}

/*
 * Runs of a search with detectors: see known.h. Without them a run that is not known
 * is made twice, so it is tried only while three of four are known. The share of
 * those, of 65536, is that of the last 64 runs or so.
 */
#define RUN_KNOWN_ALL	65536
#define RUN_KNOWN_WORTH	(RUN_KNOWN_ALL / 4 * 3)
#define RUN_KNOWN_LAST	64
static uint32_t run_known_share;

static bool run_has_race(uint32_t judged)
{
	return race_met.judged && judged >> VERDICT_DATA_RACE & 1;
}

/* True: the detectors had no need to look at it. */
static bool run_detected(uint64_t schedule, uint32_t judged, uint64_t salt,
			 struct oracle_judgement *judgement)
{
	bool without = run_known_share >= RUN_KNOWN_WORTH, whole, known;
	uint64_t name;

	engine.detects = !without;
	run_once(schedule, judged, judgement);
	name = random_spread(interleaving_order() ^ salt);
	whole = engine.verdict == VERDICT_OK && !engine.reuses;
	known = whole && known_is(name);
	run_known_share -= run_known_share / RUN_KNOWN_LAST;
	if (known)
		run_known_share += RUN_KNOWN_ALL / RUN_KNOWN_LAST;
	if (without && known)
		known_meet(name);
	if (without && !known) {
		engine.detects = true;
		tape_rewind();
		run_once(schedule, judged, judgement);
	}
	if (whole && !known && engine.verdict == VERDICT_OK && !run_has_race(judged))
		known_add(name);
	engine.detects = true;
	return without && known;
}

/* Tells the interleavings of different scenarios apart. */
static uint64_t run_salt(void)
{
	uint8_t canonical[CR_SCENARIO_BYTES_MAX];

	return run_hash_bytes(canonical, scenario_encode(canonical));
}

uint64_t run_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int cr_search(const struct cr_config *config,
	      const uint8_t *bytes, size_t scenario_bytes,
	      uint64_t count, uint64_t nanoseconds_max, uint32_t stop_on,
	      struct cr_summary *summary)
{
	uint64_t begin = run_clock(), now = begin, salt, rules, i;
	struct oracle_judgement judgement;

	if (run_configure(config))
		return -1;
	scenario_decode(bytes, scenario_bytes);
	summary->steps_profiled = run_profile();
	salt = run_salt();
	rules = random_spread(salt ^ ((uint64_t)config->planted << 32 | config->judged));
	tape_load(NULL, 0);
	/* A schedule that is wanted later is run again, by its number. */
	engine.recording = config->policy == CR_POLICY_TAPE;
	for (i = 0; i < count; i++) {
		tape_rewind();
		coverage_edges_on = config->engine != CR_ENGINE_BARE &&
				    (i < RUN_EDGES_EVERY || i % RUN_EDGES_EVERY == 0);
		if (engine.detects)
			summary->known += run_detected(config->schedule + i, config->judged, rules,
						       &judgement);
		else
			run_once(config->schedule + i, config->judged, &judgement);
		run_count(config->schedule + i, judgement.verdicts, summary);
		summary->choices += engine.choices;
		if (config->engine == CR_ENGINE_FIBER)
			run_count_interleaving(random_spread(interleaving_class() ^ salt),
					       summary->registers);
		if (judgement.verdicts & stop_on)
			break;
		if (nanoseconds_max && i % RUN_CLOCK_EVERY == 0) {
			now = run_clock();
			if (now - begin >= nanoseconds_max)
				break;
		}
	}
	summary->nanoseconds += run_clock() - begin;
	return 0;
}

uint32_t cr_fuzz_one(const struct cr_config *config,
		     const uint8_t *input, size_t input_bytes)
{
	struct oracle_judgement judgement;
	size_t taken;

	if (run_configure(config))
		return 0;
	engine.count_pairs = true;
	taken = scenario_decode(input, input_bytes);
	run_profile();
	tape_load(input + taken, input_bytes - taken);
	run_once(config->schedule, config->judged, &judgement);
	run_count_interleaving(random_spread(interleaving_class() ^ run_salt()),
			       run_fuzz_registers);
	return judgement.verdicts;
}

void cr_fuzz_registers(uint8_t *registers)
{
	memcpy(registers, run_fuzz_registers, sizeof(run_fuzz_registers));
}

size_t cr_canonical(const uint8_t *bytes, size_t scenario_bytes, uint8_t *out)
{
	scenario_decode(bytes, scenario_bytes);
	return scenario_encode(out);
}

size_t cr_scenario_bytes(const uint8_t *input, size_t input_bytes)
{
	return scenario_decode(input, input_bytes);
}
