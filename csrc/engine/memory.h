/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's data: one linker section that holds every writable variable of
 * the real file and of kernel/, and nothing else.
 *
 * Invariants: memory_snapshot() was called once before the first run; an
 * offset is relative to the section's start and so the same in every process
 * with the same build; freed memory is marked in units of 16 bytes.
 */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_MAX	16384
#define MEMORY_UNIT	16

extern char __start_cr_kdata[], __stop_cr_kdata[];
extern char __start_cr_ktext[], __stop_cr_ktext[];

/* One byte per unit: 1 if freed. */
extern uint8_t memory_freed[MEMORY_MAX / MEMORY_UNIT];

static inline uintptr_t memory_offset(const void *address)
{
	return (uintptr_t)address - (uintptr_t)__start_cr_kdata;
}

static inline uintptr_t memory_bytes(void)
{
	return (uintptr_t)(__stop_cr_kdata - __start_cr_kdata);
}

/* A return address as an offset of the call before it; 0 for a foreign one. */
static inline uint32_t memory_pc(const void *pc)
{
	uintptr_t offset = (uintptr_t)pc - (uintptr_t)__start_cr_ktext;

	if (offset >= (uintptr_t)(__stop_cr_ktext - __start_cr_ktext))
		return 0;
	return (uint32_t)offset - 1;
}

void memory_snapshot(void);
void memory_reset(void);
/*
 * kmalloc and kfree over a table of `count` objects of `bytes` bytes: the first
 * freed object from *next on, cyclically, zeroed, in one step that is no
 * decision point. Going round keeps freed memory unused for long, so that a
 * stale pointer is noticed. `next` must be in the kernel's data, to be reset.
 */
void *memory_alloc(void *table, size_t bytes, unsigned int count, unsigned int *next);
void memory_free(void *object, size_t bytes);

/* Marks [address, address + bytes), both multiples of the unit. */
void memory_mark(const void *address, size_t bytes, bool freed);

#endif
