/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's data: one linker section that holds every writable variable of
 * the real file and of kernel/, and nothing else.
 *
 * Invariants: memory_snapshot() was called once before the first run; an
 * offset is relative to the section's start and so the same in every process
 * with the same build; the state of memory is known in units of 16 bytes.
 */
#ifndef ENGINE_MEMORY_H
#define ENGINE_MEMORY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MEMORY_MAX	32768
#define MEMORY_UNIT	16
#define MEMORY_GRAIN	4	/* bytes of a place: what two accesses meet in */
#define MEMORY_GUARDS_MAX	254

/* What the kernel may do with a unit. */
enum memory_state {
	MEMORY_USABLE,
	MEMORY_FREED,
	MEMORY_BEYOND,		/* behind an allocated object */
};

#pragma GCC visibility push(hidden)	/* no detour over a table of addresses */
extern char __start_cr_kdata[], __stop_cr_kdata[];
extern char __start_cr_ktext[], __stop_cr_ktext[];

/* The data as set-up left it: what a reset goes back to. */
extern char memory_image[MEMORY_MAX];
extern uint8_t memory_state[MEMORY_MAX / MEMORY_UNIT];

/* Strides of so many units, as a bit each: those with a unit that was ever usable. */
#define MEMORY_STRIDE	8
#define MEMORY_STRIDES	(MEMORY_MAX / MEMORY_UNIT / MEMORY_STRIDE)
extern uint64_t memory_strides[MEMORY_STRIDES / 64];

/* Whether the whole stride that begins with that unit is in that state. */
static inline bool memory_stride_is(unsigned int unit, enum memory_state state)
{
	uint64_t states;

	static_assert(sizeof(states) == MEMORY_STRIDE, "a byte per unit");
	memcpy(&states, memory_state + unit, sizeof(states));
	return states == state * (~(uint64_t)0 / UINT8_MAX);
}

/*
 * Per place the lock that protects it: 0 none, MEMORY_SECTION the word of a
 * lock all of whose protected places are guarded, else the number of a guard.
 */
#define MEMORY_SECTION	255
extern uint8_t memory_guard_of[MEMORY_MAX / MEMORY_GRAIN];
/* Per guard the offset of its lock. */
extern uint16_t memory_guards[MEMORY_GUARDS_MAX + 1];

static inline uintptr_t memory_offset(const void *address)
{
	return (uintptr_t)address - (uintptr_t)__start_cr_kdata;
}

static inline uintptr_t memory_bytes(void)
{
	return (uintptr_t)(__stop_cr_kdata - __start_cr_kdata);
}

/* The same as memory_pc() where only instrumented code calls, which is the kernel's. */
static inline uint32_t memory_kernel_pc(const void *pc)
{
	return (uint32_t)((uintptr_t)pc - (uintptr_t)__start_cr_ktext) - 1;
}

/* A return address as an offset of the call before it; 0 for a foreign one. */
static inline uint32_t memory_pc(const void *pc)
{
	uintptr_t offset = (uintptr_t)pc - (uintptr_t)__start_cr_ktext;

	if (offset >= (uintptr_t)(__stop_cr_ktext - __start_cr_ktext))
		return 0;
	return (uint32_t)offset - 1;
}

/*
 * Per unit the number of the object that may be allocated there, or 0. What
 * begins and ends an object's life conflicts with every access to it.
 */
#define MEMORY_OBJECTS_MAX	255
extern uint8_t memory_object[MEMORY_MAX / MEMORY_UNIT];

/* Places whose races the kernel documents as harmless, a bit each. */
extern uint8_t memory_racy[MEMORY_MAX / MEMORY_GRAIN / 8];

static inline bool memory_is_racy(uintptr_t offset)
{
	return memory_racy[offset / MEMORY_GRAIN / 8] >> offset / MEMORY_GRAIN % 8 & 1;
}

static inline bool memory_is_section(uintptr_t offset)
{
	return memory_guard_of[offset / MEMORY_GRAIN] == MEMORY_SECTION;
}

/*
 * The last bytes of an object that is allocated: nobody may touch them, so that
 * whoever goes behind the object's end is noticed. Room for the fields of one
 * more element of an array that ends there.
 */
#define MEMORY_RED_ZONE	48

/* At set-up: `count` objects of `bytes` bytes, all free, for memory_alloc(). */
void memory_table(const void *table, size_t bytes, unsigned int count);
void memory_snapshot(void);
void memory_reset(void);
/*
 * kmalloc and kfree over a table of `count` objects of `bytes` bytes: a freed
 * object of the calling thread's part of the table, zeroed, in one step that is
 * no decision point. With a part each, allocations of two threads do not touch
 * each other, in whichever order they come. `next` has an entry per thread in
 * the kernel's data; going round keeps freed memory unused for long, so that a
 * stale pointer is noticed.
 */
bool memory_is_usable(const void *object);
void *memory_alloc(void *table, size_t bytes, unsigned int count, uint8_t *next);
void memory_free(void *object, size_t bytes);

/* Marks [address, address + bytes), both multiples of the unit. */
void memory_mark(const void *address, size_t bytes, enum memory_state state);

/*
 * At set-up: [address, address + bytes) is touched only by whoever holds the
 * lock, a spinlock. With `section` all that is touched under that lock is
 * guarded by it, and its word orders nothing that the places do not.
 */
void memory_guard(const void *address, size_t bytes, const void *lock, bool section);
/* At set-up: races on [address, address + bytes) are known and wanted. */
void memory_document(const void *address, size_t bytes);

#pragma GCC visibility pop
#endif
