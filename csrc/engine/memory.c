// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshot and reset of the kernel's data section, and a kmalloc over static
 * tables: freed objects are marked, and touching one ends the run.
 */
#include "memory.h"

#include <assert.h>
#include <string.h>

#include "core.h"

uint8_t memory_freed[MEMORY_MAX / MEMORY_UNIT];

static char memory_image[MEMORY_MAX];
static uint8_t memory_freed_image[MEMORY_MAX / MEMORY_UNIT];

void memory_snapshot(void)
{
	assert(memory_bytes() <= MEMORY_MAX);
	assert((uintptr_t)__start_cr_kdata % MEMORY_UNIT == 0);
	memcpy(memory_image, __start_cr_kdata, memory_bytes());
	memcpy(memory_freed_image, memory_freed, sizeof(memory_freed));
}

void memory_reset(void)
{
	memcpy(__start_cr_kdata, memory_image, memory_bytes());
	memcpy(memory_freed, memory_freed_image,
	       (memory_bytes() + MEMORY_UNIT - 1) / MEMORY_UNIT);
}

void memory_mark(const void *address, size_t bytes, bool freed)
{
	uintptr_t offset = memory_offset(address);

	assert(offset % MEMORY_UNIT == 0 && bytes % MEMORY_UNIT == 0);
	assert(offset + bytes <= memory_bytes());
	memset(memory_freed + offset / MEMORY_UNIT, freed, bytes / MEMORY_UNIT);
}

void *memory_alloc(void *table, size_t bytes, unsigned int count, unsigned int *next)
{
	char *object = NULL;
	unsigned int i;

	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	for (i = 0; i < count; i++) {
		object = (char *)table + (*next + i) % count * bytes;
		if (memory_freed[memory_offset(object) / MEMORY_UNIT])
			break;
	}
	if (i == count)
		engine_stop(VERDICT_OVERFLOW);
	*next = (*next + i + 1) % count;
	memset(object, 0, bytes);
	memory_mark(object, bytes, false);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
	return object;
}

void memory_free(void *object, size_t bytes)
{
	/* An allocation must not see half of the marks. */
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(true);
	memory_mark(object, bytes, true);
	if (engine.kind == CR_ENGINE_THREAD)
		thread_exclude(false);
}
