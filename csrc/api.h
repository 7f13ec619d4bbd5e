/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only header Python sees; cffi reads its declarations from here.
 *
 * Everything below works on one static run, so a process runs one schedule at
 * a time. Functions return 0, or a negative number for an argument that is
 * out of range; they never print, allocate or exit.
 */
#ifndef CLEANRACE_API_H
#define CLEANRACE_API_H

#include <stddef.h>
#include <stdint.h>

#define CR_FORMAT_VERSION	1
#define CR_THREADS_MAX		8
#define CR_OPS_MAX		64
#define CR_FS_MAX		6
#define CR_BACKENDS_MAX		4
#define CR_INODES		2
#define CR_PAGES		2
#define CR_OBJECTS		4
#define CR_POOLS_MAX		640
#define CR_SCENARIO_BYTES_MAX	138
#define CR_TAPE_MAX		32768
#define CR_STEPS_MAX		30000
#define CR_TRACE_MAX		65536
#define CR_VERDICTS_MAX		32
#define CR_MARKS_MAX		32
#define CR_REGISTERS		4096
#define CR_EDGES_MAX		4096
#define CR_PAIRS_MAX		16384
#define CR_RACES_MAX		256
#define CR_RACE_LOCKS		4
#define CR_RACE_NO_LOCK		65535

#define CR_POLICY_TAPE		0
#define CR_POLICY_RANDOM	1
#define CR_POLICY_UNIFORM	2
#define CR_POLICY_PCT		3
#define CR_POLICY_PCT_1		4
#define CR_POLICY_PCT_2		5
#define CR_POLICY_PCT_3		6
#define CR_POLICY_SURW		7

/* Decision points: at every access, or at synchronisation and promoted accesses only. */
#define CR_POINTS_ALL		0
#define CR_POINTS_SYNC		1

#define CR_ENGINE_FIBER		0
#define CR_ENGINE_THREAD	1
/* Fibers with nothing that looks on or judges: what a schedule costs at least. */
#define CR_ENGINE_BARE		2

/* One execution per happens-before class, or every interleaving. */
#define CR_EXPLORE_DPOR	0
#define CR_EXPLORE_DFS		1
#define CR_UNBOUNDED		4294967295

#define CR_TABLE_OPS		0
#define CR_TABLE_MICRO		1
#define CR_TABLE_VERDICTS	2
#define CR_TABLE_EVENTS		3
#define CR_TABLE_PLANTED	4
#define CR_TABLE_MARKS		5

/* What a run is asked for besides its scenario and tape. */
struct cr_config {
	uint32_t engine;	/* CR_ENGINE_* */
	uint32_t policy;	/* CR_POLICY_*; a thread engine ignores it */
	uint32_t planted;	/* bit set over planted.def */
	uint32_t judged;	/* bit set over verdicts.def */
	uint32_t steps_max;	/* decision points, at most CR_STEPS_MAX; 0: 20,000 */
	uint32_t trace_full;	/* 1: the trace also has every access */
	uint32_t points;	/* CR_POINTS_* */
	uint32_t detect;	/* 1: lock rules, guarded fields and data races are judged */
	uint64_t seed;		/* of the policies that draw */
	uint64_t schedule;	/* number of the run under that seed */
};

/* One line of a trace. */
struct cr_event {
	uint32_t step;		/* decision points passed before it */
	uint32_t pc;		/* offset into the kernel's text, 0: none */
	uint8_t thread;
	uint8_t kind;		/* events.def */
	uint16_t enabled;	/* full traces: bit set of the threads enabled at that step */
	int32_t object;
	int64_t value;
};

struct cr_result {
	uint32_t verdict;	/* the first violation, or 0 */
	uint32_t verdicts;	/* bit set of all */
	uint32_t violation;	/* trace index of the first violation */
	uint32_t cause;		/* trace index of the event it conflicts with */
	uint32_t marks;		/* bit set over marks.def */
	uint32_t steps;
	uint32_t trace_length;
	uint32_t tape_length;	/* choices made, trailing zeros included */
	uint64_t interleaving;	/* hash of the happens-before class */
	uint64_t digest;	/* hash of the trace */
	const struct cr_event *trace;	/* valid until the next run */
	const uint8_t *tape;		/* valid until the next run */
};

/* What a batch of schedules met. */
struct cr_summary {
	uint64_t schedules;
	uint64_t steps;
	uint64_t choices;
	uint64_t known;		/* runs that detectors did not look at, having seen the same */
	uint64_t steps_profiled;	/* of one run, as a policy with a profile takes it */
	uint64_t nanoseconds;
	uint64_t violations[CR_VERDICTS_MAX];	/* runs with that verdict */
	uint64_t first[CR_VERDICTS_MAX];	/* schedule number of the first */
	uint64_t marks[CR_MARKS_MAX];		/* runs with that mark */
	uint8_t registers[CR_REGISTERS];	/* HyperLogLog, merged by max */
};

/* Run one schedule. */
int cr_run(const struct cr_config *config,
	   const uint8_t *scenario, size_t scenario_bytes,
	   const uint8_t *tape, size_t tape_length,
	   struct cr_result *result);

/*
 * The same schedule with real threads: threads[n] is the one that ran from
 * decision n on, as the steps of a full trace say. The thread engine hands over
 * like that and runs freely past the end; it has no detectors.
 */
int cr_run_forced(const struct cr_config *config,
		  const uint8_t *scenario, size_t scenario_bytes,
		  const uint8_t *threads, size_t decisions,
		  struct cr_result *result);

/*
 * Run schedules config->schedule, +1, ... until count are done, nanoseconds_max
 * have passed (0: no limit), or one of the verdicts in stop_on was met.
 * Registers, counts and firsts are added to what summary already holds.
 */
int cr_search(const struct cr_config *config,
	      const uint8_t *scenario, size_t scenario_bytes,
	      uint64_t count, uint64_t nanoseconds_max, uint32_t stop_on,
	      struct cr_summary *summary);

/* How the executions of one scenario are enumerated. */
struct cr_explore {
	uint32_t algorithm;	/* CR_EXPLORE_* */
	uint32_t sections;	/* 1: sections of guarded spinlocks commute, see memory_guard() */
	uint32_t bound;		/* preemptions at most, of CR_EXPLORE_DFS; or CR_UNBOUNDED */
	/* This process takes part `part` of `parts`: of the subtrees below depth `split`. */
	uint32_t part;
	uint32_t parts;		/* 0 is 1 */
	uint32_t split;
	uint32_t stop_on;	/* verdicts after which it pauses */
	/*
	 * Which thread goes on where it makes no difference to what is found: 0, the
	 * last one, which is the fastest; another number is the seed of another order.
	 */
	uint32_t order;
	/*
	 * Of each thread 1 + the thread before it of those that it can change places
	 * with, or 0. They then come in that order: see turns.h. Not with a bound.
	 */
	uint8_t twin[CR_THREADS_MAX];
};

/* What was explored so far. */
struct cr_explored {
	uint32_t done;		/* 1: every execution of this part was explored */
	uint32_t restarts;	/* accesses were promoted, so that it began anew */
	uint32_t promoted;	/* accesses that are decision points because they race */
	uint32_t depth_max;	/* steps of the longest execution */
	uint32_t preemptions_max;
	uint32_t approximate;	/* 1: a table was too small, so that counts are lower bounds */
	uint64_t executions;	/* complete ones */
	uint64_t blocked;	/* given up: all that could go on was explored elsewhere */
	uint64_t cut;		/* given up: beyond the bound, or another part's */
	uint64_t classes;	/* distinct happens-before classes of the complete ones */
	uint64_t states;	/* distinct final states */
	uint64_t steps;
	uint64_t nanoseconds;
	uint64_t violations[CR_VERDICTS_MAX];	/* executions with that verdict */
	uint64_t marks[CR_MARKS_MAX];		/* executions with that mark */
};

/* Begins the exploration of a scenario; the process has one. config's policy does not count. */
int cr_explore_begin(const struct cr_config *config,
		     const uint8_t *scenario, size_t scenario_bytes,
		     const struct cr_explore *how);
/* Goes on with it, until it is done or a limit is met (0: none), and says where it is. */
int cr_explore_go_on(uint64_t executions_max, uint64_t nanoseconds_max,
		     struct cr_explored *explored);
/*
 * The tape, at every access, of the execution with the fewest preemptions that
 * has that verdict; of verdict 0, of the last one that stop_on stopped at. NULL
 * if none was met. preemptions may be NULL.
 */
const uint8_t *cr_explore_tape(uint32_t verdict, size_t *length, uint32_t *preemptions);
/* The hashes of the distinct final states, at most max; returns their number. */
size_t cr_explore_states(uint64_t *states, size_t max);
/*
 * The exploration as bytes, valid in every process with this build; returns
 * their number, and writes nothing if there is not enough room.
 */
size_t cr_explore_save(uint8_t *bytes, size_t room);
/* Takes one up again after cr_explore_begin() with the same arguments; -1: it does not fit. */
int cr_explore_load(const uint8_t *bytes, size_t length);

/*
 * From now on exactly these accesses are promoted to decision points of reduced
 * runs, and what turns out to race: offsets into the kernel's text. Which locks
 * were tried is forgotten.
 */
void cr_promote(const uint32_t *offsets, size_t count);
size_t cr_promoted(uint32_t *offsets, size_t max);

/* Two accesses that raced, in some run of this process that detected. */
struct cr_race {
	uint32_t pc[2];		/* offsets into the kernel's text, the smaller one first */
	uint8_t kind[2];	/* events.def */
	uint8_t documented;	/* 1: the kernel says that it is harmless */
	uint32_t object;	/* offset into the kernel's data */
	uint32_t held[2][CR_RACE_LOCKS];	/* locks by offset, then CR_RACE_NO_LOCK */
	uint64_t schedule;	/* of the first run */
	uint64_t count;
};

/* Copies the first `max` of them, each pair once, and returns how many there are. */
size_t cr_races(struct cr_race *out, size_t max);
void cr_races_forget(void);

/*
 * One fuzzer input: a scenario followed by its tape. Returns the bit set of
 * verdicts, and counts edges and interleavings for the fuzzer.
 */
uint32_t cr_fuzz_one(const struct cr_config *config,
		     const uint8_t *input, size_t input_bytes);

/* Copies the HyperLogLog registers of the inputs of this process so far. */
void cr_fuzz_registers(uint8_t *registers);

/* The canonical bytes of a scenario, their number returned; out has CR_SCENARIO_BYTES_MAX. */
size_t cr_canonical(const uint8_t *scenario, size_t scenario_bytes, uint8_t *out);

/* How many of the input's first bytes the decoder takes as the scenario. */
size_t cr_scenario_bytes(const uint8_t *input, size_t input_bytes);

/*
 * Line `index` of a .def table, field 0 its name, 1 and 2 what follows; NULL
 * past the end. The tables are the only place where these words stand.
 */
const char *cr_word(int table, int index, int field);

/*
 * Register the edge and pair counters with libFuzzer through the two functions
 * of its interface: __sanitizer_cov_8bit_counters_init and
 * __sanitizer_cov_pcs_init.
 */
void cr_fuzz_attach(void *counters_init, void *pcs_init);

/* Distinct kernel edges and interleaving pairs reached in this process so far. */
uint32_t cr_edges_seen(void);
uint32_t cr_pairs_seen(void);

/* Edges reached as offsets into the kernel's text; at most max, their number returned. */
uint32_t cr_edges(uint32_t *offsets, uint32_t max);

/* The four counters of the target after the last run, by debugfs name; returns 0 if absent. */
int cr_counter(const char *name, uint64_t *value);

#endif
