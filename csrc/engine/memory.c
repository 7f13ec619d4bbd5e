// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshot and reset of the kernel's data section, and a kmalloc over static
 * tables: freed objects are marked, and touching one ends the run.
 */
#include "memory.h"

#include <assert.h>
#include <string.h>

#include "core.h"
#include "interleaving.h"
#include "trail.h"
#include "watch.h"

#define MEMORY_RANGES_MAX	64

uint8_t memory_state[MEMORY_MAX / MEMORY_UNIT];
uint64_t memory_strides[MEMORY_STRIDES / 64];
uint8_t memory_object[MEMORY_MAX / MEMORY_UNIT];
uint8_t memory_guard_of[MEMORY_MAX / MEMORY_GRAIN];
uint16_t memory_guards[MEMORY_GUARDS_MAX + 1];
uint8_t memory_racy[MEMORY_MAX / MEMORY_GRAIN / 8];

struct memory_range {
	uint32_t offset;
	uint32_t bytes;
};

char memory_image[MEMORY_MAX];
static uint8_t memory_state_image[MEMORY_MAX / MEMORY_UNIT];
/* What a reset copies: memory that is free at the start is zeroed when it is allocated. */
static struct memory_range memory_ranges[MEMORY_RANGES_MAX];
static unsigned int memory_ranges_used;
static unsigned int memory_guards_used;
static unsigned int memory_objects_used;
/* Per object the stamp of the run that allocated it last. */
static uint64_t memory_allocated[MEMORY_OBJECTS_MAX + 1];

void memory_table(const void *table, size_t bytes, unsigned int count)
{
	unsigned int i;

	memory_mark(table, bytes * count, MEMORY_FREED);
	for (i = 0; i < count; i++) {
		uintptr_t offset = memory_offset((const char *)table + i * bytes);

		assert(memory_objects_used < MEMORY_OBJECTS_MAX);
		memset(memory_object + offset / MEMORY_UNIT, (int)++memory_objects_used,
		       bytes / MEMORY_UNIT);
	}
}

/* Units from the first to before `end` become usable. */
static void memory_note_strides(uintptr_t first, uintptr_t end)
{
	uintptr_t stride;

	for (stride = first / MEMORY_STRIDE; stride * MEMORY_STRIDE < end; stride++)
		memory_strides[stride / 64] |= (uint64_t)1 << stride % 64;
}

static void memory_find_ranges(void)
{
	uint32_t offset, end = (uint32_t)memory_bytes();
	struct memory_range *range = NULL;

	memory_ranges_used = 0;
	for (offset = 0; offset < end; offset += MEMORY_UNIT) {
		if (memory_state[offset / MEMORY_UNIT] != MEMORY_USABLE) {
			range = NULL;
			continue;
		}
		if (!range) {
			assert(memory_ranges_used < MEMORY_RANGES_MAX);
			range = &memory_ranges[memory_ranges_used++];
			range->offset = offset;
			range->bytes = 0;
		}
		memory_note_strides(offset / MEMORY_UNIT, offset / MEMORY_UNIT + 1);
		range->bytes += offset + MEMORY_UNIT <= end ? MEMORY_UNIT : end - offset;
	}
}

void memory_snapshot(void)
{
	assert(memory_bytes() <= MEMORY_MAX);
	assert((uintptr_t)__start_cr_kdata % MEMORY_UNIT == 0);
	memcpy(memory_image, __start_cr_kdata, memory_bytes());
	memcpy(memory_state_image, memory_state, sizeof(memory_state));
	memory_find_ranges();
}

void memory_reset(void)
{
	unsigned int i;

	for (i = 0; i < memory_ranges_used; i++)
		memcpy(__start_cr_kdata + memory_ranges[i].offset,
		       memory_image + memory_ranges[i].offset, memory_ranges[i].bytes);
	memcpy(memory_state, memory_state_image,
	       (memory_bytes() + MEMORY_UNIT - 1) / MEMORY_UNIT);
}

void memory_mark(const void *address, size_t bytes, enum memory_state state)
{
	uintptr_t offset = memory_offset(address);

	assert(offset % MEMORY_UNIT == 0 && bytes % MEMORY_UNIT == 0);
	assert(offset + bytes <= memory_bytes());
	if (engine.active)
		trail_save_range(memory_state + offset / MEMORY_UNIT, bytes / MEMORY_UNIT);
	memset(memory_state + offset / MEMORY_UNIT, state, bytes / MEMORY_UNIT);
	if (state == MEMORY_USABLE)
		memory_note_strides(offset / MEMORY_UNIT, (offset + bytes) / MEMORY_UNIT);
}

bool memory_is_usable(const void *object)
{
	watch_life(memory_offset(object), false);
	return memory_state[memory_offset(object) / MEMORY_UNIT] == MEMORY_USABLE;
}

static void memory_note_allocated(const void *object)
{
	uint64_t *run = &memory_allocated[memory_object[memory_offset(object) / MEMORY_UNIT]];

	if (*run == interleaving_stamp)
		engine.reuses = true;
	*run = interleaving_stamp;
}

void *memory_alloc(void *table, size_t bytes, unsigned int count, uint8_t *next)
{
	unsigned int part = count / CR_THREADS_MAX, self = engine_self(), i;
	char *object = NULL;

	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	for (i = 0; i < count; i++) {
		/* The thread's own part round and round, then everybody's. */
		unsigned int at = i < part ? self * part + (next[self] + i) % part : i - part;

		object = (char *)table + at * bytes;
		if (!memory_is_usable(object))
			break;
	}
	if (i == count)
		engine_stop(VERDICT_OVERFLOW);
	trail_save_range(next, CR_THREADS_MAX);
	trail_save_range(object, bytes - MEMORY_RED_ZONE);
	next[self] = (uint8_t)((next[self] + i + 1) % part);
	memset(object, 0, bytes - MEMORY_RED_ZONE);
	memory_mark(object, bytes - MEMORY_RED_ZONE, MEMORY_USABLE);
	memory_mark(object + bytes - MEMORY_RED_ZONE, MEMORY_RED_ZONE, MEMORY_BEYOND);
	memory_note_allocated(object);
	watch_life(memory_offset(object), true);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
	return object;
}

void memory_free(void *object, size_t bytes)
{
	/* An allocation must not see half of the marks. */
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	memory_mark(object, bytes, MEMORY_FREED);
	watch_life(memory_offset(object), true);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
}

static unsigned int memory_guard_number(uint16_t lock)
{
	unsigned int i;

	for (i = 1; i <= memory_guards_used; i++)
		if (memory_guards[i] == lock)
			return i;
	assert(memory_guards_used < MEMORY_GUARDS_MAX);
	memory_guards[++memory_guards_used] = lock;
	return memory_guards_used;
}

void memory_guard(const void *address, size_t bytes, const void *lock, bool section)
{
	uint16_t lock_at = (uint16_t)memory_offset(lock);

	memset(memory_guard_of + memory_offset(address) / MEMORY_GRAIN,
	       (int)memory_guard_number(lock_at), bytes / MEMORY_GRAIN);
	if (section)
		memory_guard_of[lock_at / MEMORY_GRAIN] = MEMORY_SECTION;
}

void memory_document(const void *address, size_t bytes)
{
	uintptr_t place = memory_offset(address) / MEMORY_GRAIN;
	uintptr_t end = place + bytes / MEMORY_GRAIN;

	for (; place < end; place++)
		memory_racy[place / 8] |= (uint8_t)(1u << place % 8);
}
