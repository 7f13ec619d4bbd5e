// SPDX-License-Identifier: GPL-2.0-only
/*
 * The functions that gcc's and clang's -fsanitize=thread call before each
 * memory access. We link these instead of the runtime library; each of them
 * ends in engine_access().
 *
 * Struct copies larger than 16 bytes arrive as ranges. Functions for entry
 * and exit, and for atomic builtins, are never called: the first are switched
 * off by a flag, the second are not used in kernel/ (engine/atomic.c has
 * the atomics, so that each is one step).
 */
#include "engine.h"

#define TSAN_HOOKS(size)						\
	void __tsan_read##size(void *address);				\
	void __tsan_read##size(void *address)				\
	{								\
		engine_access(address, size, EVENT_READ, ENGINE_PC());	\
	}								\
	void __tsan_write##size(void *address);				\
	void __tsan_write##size(void *address)				\
	{								\
		engine_access(address, size, EVENT_WRITE, ENGINE_PC());	\
	}								\
	void __tsan_unaligned_read##size(void *address);		\
	void __tsan_unaligned_read##size(void *address)			\
	{								\
		engine_access(address, size, EVENT_READ, ENGINE_PC());	\
	}								\
	void __tsan_unaligned_write##size(void *address);		\
	void __tsan_unaligned_write##size(void *address)		\
	{								\
		engine_access(address, size, EVENT_WRITE, ENGINE_PC());	\
	}								\
	void __tsan_volatile_read##size(void *address);			\
	void __tsan_volatile_read##size(void *address)			\
	{								\
		engine_access(address, size, EVENT_READ_MARKED, ENGINE_PC()); \
	}								\
	void __tsan_volatile_write##size(void *address);		\
	void __tsan_volatile_write##size(void *address)			\
	{								\
		engine_access(address, size, EVENT_WRITE_MARKED, ENGINE_PC()); \
	}

TSAN_HOOKS(1)
TSAN_HOOKS(2)
TSAN_HOOKS(4)
TSAN_HOOKS(8)
TSAN_HOOKS(16)

void __tsan_read_range(void *address, long bytes);
void __tsan_read_range(void *address, long bytes)
{
	engine_access(address, (unsigned int)bytes, EVENT_READ, ENGINE_PC());
}

void __tsan_write_range(void *address, long bytes);
void __tsan_write_range(void *address, long bytes)
{
	engine_access(address, (unsigned int)bytes, EVENT_WRITE, ENGINE_PC());
}

void __tsan_init(void);
void __tsan_init(void)
{
}
