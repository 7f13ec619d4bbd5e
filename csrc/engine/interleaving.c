// SPDX-License-Identifier: GPL-2.0-only
/* Reset, pairs and the name of the class; the hot part stands in the header. */
#include "interleaving.h"

#include "api.h"
#include "coverage.h"
#include "memory.h"

struct interleaving_last {
	uint32_t stamp;
	uint32_t pc;
	unsigned int thread;
};

struct interleaving_place interleaving_places[INTERLEAVING_PLACES];
static struct interleaving_last interleaving_lasts[MEMORY_MAX / MEMORY_GRAIN];
uint64_t interleaving_thread[CR_THREADS_MAX];
uint64_t interleaving_sections;
uint64_t interleaving_stamp;
static unsigned int interleaving_threads;

void interleaving_reset(unsigned int threads)
{
	unsigned int i;

	interleaving_stamp++;
	interleaving_sections = 0;
	interleaving_threads = threads;
	for (i = 0; i < threads; i++)
		interleaving_thread[i] = i + 1;
}

void interleaving_pair(unsigned int thread, uintptr_t offset, uint32_t pc)
{
	struct interleaving_last *last = &interleaving_lasts[offset / MEMORY_GRAIN];

	if (last->stamp == (uint32_t)interleaving_stamp && last->thread != thread)
		coverage_pair(last->pc, pc);
	last->stamp = (uint32_t)interleaving_stamp;
	last->thread = thread;
	last->pc = pc;
}

__attribute__((noinline)) void interleaving_read(unsigned int thread, uintptr_t offset,
						 uint64_t pc)
{
	interleaving_access(thread, offset, false, pc);
}

__attribute__((noinline)) void interleaving_write(unsigned int thread, uintptr_t offset,
						  uint64_t pc)
{
	interleaving_access(thread, offset, true, pc);
}

uint64_t interleaving_class(void)
{
	uint64_t class = interleaving_threads;
	unsigned int i;

	for (i = 0; i < interleaving_threads; i++)
		class = interleaving_mix(class + i, interleaving_thread[i]);
	return interleaving_mix(class, class >> 32);
}

uint64_t interleaving_order(void)
{
	return interleaving_mix(interleaving_class(), interleaving_sections);
}
