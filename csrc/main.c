// SPDX-License-Identifier: GPL-2.0-only
/*
 * The same objects as a plain program, for gdb, valgrind and the sanitizers:
 *
 *	replay FILE [PLANTED]	replays a binary file: a scenario, then its
 *				tape; PLANTED is the bit set of planted bugs
 *	replay --threads N FILE [PLANTED [SEED]]
 *				N rounds of its scenario on the thread engine,
 *				whose noise the seed decides
 *	replay --random N SEED	N random byte strings through decoder and engine
 *
 * A replay prints one line per event of the full trace, then the verdict.
 * Exit status: 0 no violation, 1 a violation, 2 wrong usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "random.h"

#define MAIN_INPUT_MAX	(CR_SCENARIO_BYTES_MAX + CR_TAPE_MAX)
#define MAIN_RANDOM_MAX	256	/* bytes of a random input */

static uint8_t main_input[MAIN_INPUT_MAX];

static int main_usage(void)
{
	fputs("usage: replay FILE [PLANTED] | replay --threads N FILE [PLANTED [SEED]] | "
	      "replay --random N SEED\n", stderr);
	return 2;
}

/* Reads the file into main_input; returns its length, or 0 with a message. */
static size_t main_read(const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t length;

	if (!file) {
		fprintf(stderr, "replay: cannot open %s: give a scenario in its byte form\n", path);
		return 0;
	}
	length = fread(main_input, 1, sizeof(main_input), file);
	fclose(file);
	if (!length)
		fprintf(stderr, "replay: %s is empty or unreadable\n", path);
	return length;
}

static void main_print(const struct cr_result *result)
{
	uint32_t i;

	for (i = 0; i < result->trace_length; i++) {
		const struct cr_event *e = &result->trace[i];

		printf("%u %u %s %d %lld pc=%u enabled=%u\n", e->step, e->thread,
		       cr_word(CR_TABLE_EVENTS, e->kind, 0), e->object,
		       (long long)e->value, e->pc, e->enabled);
	}
	printf("verdict %s\n", cr_word(CR_TABLE_VERDICTS, (int)result->verdict, 0));
	printf("steps %u digest %016llx\n", result->steps, (unsigned long long)result->digest);
}

/* All but the group "race", as in Python: the real file has races by design. */
static uint32_t main_judged(void)
{
	uint32_t judged = 0;
	int i;

	for (i = 0; cr_word(CR_TABLE_VERDICTS, i, 0); i++)
		if (strcmp(cr_word(CR_TABLE_VERDICTS, i, 1), "race"))
			judged |= 1u << i;
	return judged;
}

static int main_replay(const char *path, uint32_t planted)
{
	struct cr_config config = {
		.judged = main_judged(), .trace_full = 1, .detect = 1, .planted = planted,
	};
	struct cr_result result;
	size_t length = main_read(path);
	size_t taken;

	if (!length)
		return 2;
	taken = cr_scenario_bytes(main_input, length);
	if (cr_run(&config, main_input, taken, main_input + taken, length - taken, &result)) {
		fprintf(stderr, "replay: %s: the tape or the set of planted bugs is out of range\n",
			path);
		return 2;
	}
	main_print(&result);
	return result.verdict ? 1 : 0;
}

static int main_threads(uint64_t rounds, const char *path, uint32_t planted, uint64_t seed)
{
	struct cr_config config = {
		.judged = ~0u, .engine = CR_ENGINE_THREAD, .planted = planted, .seed = seed,
	};
	static struct cr_summary summary;
	size_t length = main_read(path);
	int i, status = 0;

	if (!length)
		return 2;
	if (cr_search(&config, main_input, length, rounds, 0, 0, &summary))
		return 2;
	printf("rounds %llu\n", (unsigned long long)summary.schedules);
	for (i = 1; i < CR_VERDICTS_MAX; i++) {
		if (!summary.violations[i])
			continue;
		status = 1;
		printf("%s %llu\n", cr_word(CR_TABLE_VERDICTS, i, 0),
		       (unsigned long long)summary.violations[i]);
	}
	return status;
}

static int main_random(uint64_t count, uint64_t seed)
{
	struct cr_config config = { .judged = ~0u };
	uint64_t random = random_state(seed, 0), threads = 0, violations = 0, i;
	uint8_t canonical[CR_SCENARIO_BYTES_MAX], again[CR_SCENARIO_BYTES_MAX];

	for (i = 0; i < count; i++) {
		size_t length = random_below(&random, MAIN_RANDOM_MAX), k, n;

		for (k = 0; k < length; k++)
			main_input[k] = (uint8_t)random_draw(&random);
		if (cr_fuzz_one(&config, main_input, length))
			violations++;
		n = cr_canonical(main_input, length, canonical);
		threads += n > 10;
		if (cr_canonical(canonical, n, again) != n || memcmp(canonical, again, n)) {
			fprintf(stderr, "replay: input %llu is not canonical after one pass\n",
				(unsigned long long)i);
			return 1;
		}
	}
	printf("inputs %llu with operations %llu violations %llu\n", (unsigned long long)count,
	       (unsigned long long)threads, (unsigned long long)violations);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--random"))
		return main_random(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	if (argc >= 4 && argc <= 6 && !strcmp(argv[1], "--threads"))
		return main_threads(strtoull(argv[2], NULL, 10), argv[3],
				    argc >= 5 ? (uint32_t)strtoul(argv[4], NULL, 0) : 0,
				    argc == 6 ? strtoull(argv[5], NULL, 10) : 0);
	if ((argc == 2 || argc == 3) && argv[1][0] != '-')
		return main_replay(argv[1], argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 0) : 0);
	return main_usage();
}
