/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counters for a fuzzer: edges of the kernel side (gcc's trace-pc) and pairs
 * of access sites that met at one place in different threads. Both are 8-bit
 * arrays that libFuzzer can be given, and counts of what was ever reached.
 */
#ifndef ENGINE_COVERAGE_H
#define ENGINE_COVERAGE_H

#include <stdbool.h>
#include <stdint.h>

/* Edges are counted only while this is set. */
#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern bool coverage_edges_on;

void coverage_pair(uint32_t first_pc, uint32_t second_pc);

#pragma GCC visibility pop
#endif
