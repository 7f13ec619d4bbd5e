// SPDX-License-Identifier: GPL-2.0-only
/*
 * Edge and pair counters, and their registration with libFuzzer.
 *
 * gcc calls __sanitizer_cov_trace_pc at every edge. Ours is hidden, so that
 * it does not interpose libFuzzer's, which aborts. An edge gets the next free
 * counter when it is first reached: dense arrays are what libFuzzer scans
 * after every input. libFuzzer wants a table of program counters of exactly
 * the counters' number; we have no use for its symbolisation, so that table
 * names each counter by itself.
 */
#include "coverage.h"

#include <string.h>

#include "api.h"
#include "memory.h"

#define COVERAGE_TEXT_MAX	131072

struct coverage_pc {
	uintptr_t pc;
	uintptr_t flags;
};

static uint8_t coverage_edges[CR_EDGES_MAX];
static uint8_t coverage_pairs[CR_PAIRS_MAX];
static uint8_t coverage_pair_seen[CR_PAIRS_MAX];
static struct coverage_pc coverage_edge_pcs[CR_EDGES_MAX];
static struct coverage_pc coverage_pair_pcs[CR_PAIRS_MAX];
static uint16_t coverage_edge_of[COVERAGE_TEXT_MAX];	/* number + 1 */
static uint32_t coverage_edge_offset[CR_EDGES_MAX];
static uint32_t coverage_edge_count;
static uint32_t coverage_pair_count;

bool coverage_edges_on;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	uintptr_t offset;
	uint16_t number;

	if (!coverage_edges_on)
		return;
	offset = (uintptr_t)__builtin_return_address(0) - (uintptr_t)__start_cr_ktext;
	if (offset >= COVERAGE_TEXT_MAX)
		return;
	number = coverage_edge_of[offset];
	if (!number) {
		if (coverage_edge_count == CR_EDGES_MAX)
			return;
		coverage_edge_offset[coverage_edge_count] = (uint32_t)offset - 1;
		number = (uint16_t)++coverage_edge_count;
		coverage_edge_of[offset] = number;
	}
	coverage_edges[number - 1]++;
}

void coverage_pair(uint32_t first_pc, uint32_t second_pc)
{
	uint32_t slot = (first_pc * 0x9e3779b1u ^ second_pc * 0x85ebca6bu) >> 7;

	slot %= CR_PAIRS_MAX;
	coverage_pairs[slot]++;
	if (!coverage_pair_seen[slot]) {
		coverage_pair_seen[slot] = 1;
		coverage_pair_count++;
	}
}

void cr_fuzz_attach(void *counters_init, void *pcs_init)
{
	void (*counters)(uint8_t *, uint8_t *);
	void (*pcs)(const uintptr_t *, const uintptr_t *);
	unsigned int i;

	memcpy(&counters, &counters_init, sizeof(counters));
	memcpy(&pcs, &pcs_init, sizeof(pcs));
	for (i = 0; i < CR_EDGES_MAX; i++)
		coverage_edge_pcs[i].pc = (uintptr_t)&coverage_edges[i];
	for (i = 0; i < CR_PAIRS_MAX; i++)
		coverage_pair_pcs[i].pc = (uintptr_t)&coverage_pairs[i];
	counters(coverage_edges, coverage_edges + CR_EDGES_MAX);
	pcs((const uintptr_t *)coverage_edge_pcs,
	    (const uintptr_t *)(coverage_edge_pcs + CR_EDGES_MAX));
	counters(coverage_pairs, coverage_pairs + CR_PAIRS_MAX);
	pcs((const uintptr_t *)coverage_pair_pcs,
	    (const uintptr_t *)(coverage_pair_pcs + CR_PAIRS_MAX));
}

uint32_t cr_edges_seen(void)
{
	return coverage_edge_count;
}

uint32_t cr_pairs_seen(void)
{
	return coverage_pair_count;
}

uint32_t cr_edges(uint32_t *offsets, uint32_t max)
{
	uint32_t i;

	for (i = 0; i < coverage_edge_count && i < max; i++)
		offsets[i] = coverage_edge_offset[i];
	return i;
}
