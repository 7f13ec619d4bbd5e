/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Names the happens-before class of a run, and counts which pairs of accesses
 * met, for a fuzzer.
 *
 * Two runs of one scenario are in the same class (Mazurkiewicz 1977) when they
 * order every two conflicting accesses alike: same place, different threads,
 * at least one write. Each access gets a hash of what precedes it in its own
 * thread and of the accesses it conflicts with; readers of one value are
 * summed, so their order does not count. The class is the hash of every
 * thread's last access. An instruction is part of its access, so that runs of one
 * class did the same even where a thread learned something by other means.
 */
#ifndef ENGINE_INTERLEAVING_H
#define ENGINE_INTERLEAVING_H

#include <stdbool.h>
#include <stdint.h>

#include "api.h"
#include "memory.h"

/*
 * Per place (4 bytes of the kernel's data, named by an access's first byte)
 * the last write and the sum of the reads since. A place belongs to the run
 * whose stamp it carries, so that nothing is cleared between runs.
 */
#define INTERLEAVING_PLACES	(MEMORY_MAX / MEMORY_GRAIN + MEMORY_OBJECTS_MAX + 1)

struct interleaving_place {
	uint64_t last_write;
	uint64_t reads;
	uint64_t stamp;
} __attribute__((aligned(32)));

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern struct interleaving_place interleaving_places[INTERLEAVING_PLACES];
extern uint64_t interleaving_thread[CR_THREADS_MAX];
extern uint64_t interleaving_sections;	/* the order in which guarded spinlocks were taken */
extern uint64_t interleaving_stamp;

/* Not symmetric: often a thread's last access is the last write of the place. */
static inline uint64_t interleaving_mix(uint64_t a, uint64_t b)
{
	a = (a ^ (b << 23 | b >> 41)) * 0x9e3779b97f4a7c15u;
	return a ^ a >> 29;
}

/* Where the place stands in this run. */
static inline struct interleaving_place *interleaving_at(uintptr_t offset)
{
	struct interleaving_place *place = &interleaving_places[offset / MEMORY_GRAIN];

	if (__builtin_expect(place->stamp != interleaving_stamp, 0)) {
		place->stamp = interleaving_stamp;
		place->last_write = offset + 1;
		place->reads = 0;
	}
	return place;
}

/* By the instruction at `pc`, which is told as an offset, or 0. */
static inline void interleaving_access(unsigned int thread, uintptr_t offset, bool writes,
				       uint64_t pc)
{
	struct interleaving_place *place = interleaving_at(offset);
	uint64_t node = interleaving_thread[thread] ^ pc;

	/* Without readers since the last write, `reads` is 0 and changes nothing. */
	if (writes) {
		node = interleaving_mix(node, place->last_write + place->reads);
		place->last_write = node;
		place->reads = 0;
	} else {
		node = interleaving_mix(node, place->last_write ^ 1u << 31);
		place->reads += node;
	}
	interleaving_thread[thread] = node;
}

/* A step on the lock of sections that commute: no part of the class. */
static inline void interleaving_section(unsigned int thread, uintptr_t offset)
{
	interleaving_sections = (interleaving_sections ^ (offset << 3 | thread)) *
				0x9e3779b97f4a7c15u;
}

void interleaving_reset(unsigned int threads);
/* The same as interleaving_access(), for hooks, which need no frame of their own then. */
void interleaving_read(unsigned int thread, uintptr_t offset, uint64_t pc);
void interleaving_write(unsigned int thread, uintptr_t offset, uint64_t pc);
/* Counts the pair of this access and the last one there, if of another thread. */
void interleaving_pair(unsigned int thread, uintptr_t offset, uint32_t pc);
uint64_t interleaving_class(void);
/* Names the class in which sections do not commute: what a detector says depends on that. */
uint64_t interleaving_order(void);

#pragma GCC visibility pop
#endif
