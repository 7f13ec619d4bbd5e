// SPDX-License-Identifier: GPL-2.0-only
/*
 * The functions that gcc's and clang's -fsanitize=thread call before each
 * memory access. We link these instead of the runtime library's; each of them
 * ends in engine_access().
 *
 * Struct copies larger than 16 bytes arrive as ranges. Functions for entry
 * and exit, and for atomic builtins, are never called: the first are switched
 * off by a flag, the second are not used in kernel/ (engine/atomic.c has
 * the atomics, so that each is one step).
 *
 * In the flavour "tsan" an access is passed on to the real ThreadSanitizer,
 * with the place where the kernel makes it. A marked access, for which gcc's
 * runtime library has no functions, is told as one of a function below that
 * the kernel called: a report shows that function, which tells it from a plain
 * one.
 */
#include "tsan.h"

#include "engine.h"
#include "lean.h"
#include "memory.h"

#ifdef CR_TSAN

void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_read_range_pc(void *address, unsigned long bytes, void *pc);
void __tsan_write_range_pc(void *address, unsigned long bytes, void *pc);

/*
 * clang's library does not see to it itself that it is first, and constructors
 * of other libraries call what it intercepts.
 */
static void (*const tsan_first)(void)
	__attribute__((section(".preinit_array"), used)) = __tsan_init;

#define TSAN_TELL(does, size)						\
	__tsan_##does##size##_pc(address, ENGINE_PC())
#define TSAN_TELL_RANGE(does, bytes)					\
	__tsan_##does##_range_pc(address, bytes, ENGINE_PC())
#define TSAN_TELL_MARKED(does, size, function)				\
	do {								\
		__tsan_func_entry(ENGINE_PC());				\
		__tsan_##does##size##_pc(address, (char *)(function) + 1); \
		__tsan_func_exit();					\
	} while (0)
#define TSAN_REAL(size)							\
	void __tsan_read##size##_pc(void *address, void *pc);		\
	void __tsan_write##size##_pc(void *address, void *pc);

TSAN_REAL(1)
TSAN_REAL(2)
TSAN_REAL(4)
TSAN_REAL(8)
TSAN_REAL(16)

/*
 * A pair is reported once, and at every address. Functions like memcpy() are
 * called by the engine and by backends only, whose accesses are none of the
 * kernel's. Names are found later, in the program's DWARF.
 */
const char *__tsan_default_options(void) __attribute__((visibility("default")));
const char *__tsan_default_options(void)
{
	return "exitcode=0:symbolize=0:history_size=7:suppress_equal_addresses=0:"
	       "ignore_interceptors_accesses=1:report_thread_leaks=0:atexit_sleep_ms=0";
}

/* Beside the word of a lock, which its writers release: what its readers release. */
static const void *tsan_readers(const char *word)
{
	return word + 1;
}

/* An atomic operation accesses what its address is aligned to, as race.c has it. */
static void tsan_atomic(void *address, bool writes, const void *pc)
{
	__tsan_func_entry((void *)(uintptr_t)pc);
	if (writes)
		__tsan_write4_pc(address, (char *)tsan_atomic + 1);
	else
		__tsan_read4_pc(address, (char *)tsan_atomic + 1);
	__tsan_func_exit();
}

void tsan_order(uintptr_t offset, enum event_kind kind, const void *pc)
{
	char *word = __start_cr_kdata + offset;

	if (kind == EVENT_LOCK || kind == EVENT_LOCK_SHARED || kind == EVENT_ATOMIC)
		tsan_acquire(word);
	if (kind == EVENT_LOCK)
		tsan_acquire(tsan_readers(word));
	if (kind == EVENT_ATOMIC || kind == EVENT_ATOMIC_READ)
		tsan_atomic(word, kind == EVENT_ATOMIC, pc);
	if (kind == EVENT_UNLOCK || kind == EVENT_ATOMIC)
		tsan_release(word);
	if (kind == EVENT_UNLOCK_SHARED)
		tsan_release(tsan_readers(word));
}

/* An object's life has a place of its own, which its first word does not use. */
void tsan_life(uintptr_t offset, bool freed)
{
	const char *life = __start_cr_kdata + offset + 2;

	if (freed)
		tsan_release(life);
	else
		tsan_acquire(life);
}

void tsan_acquired(uintptr_t offset)
{
	tsan_acquire(__start_cr_kdata + offset);
}

#else

#define TSAN_TELL(does, size)				((void)0)
#define TSAN_TELL_RANGE(does, bytes)			((void)0)
#define TSAN_TELL_MARKED(does, size, function)		((void)0)

void __tsan_init(void);
void __tsan_init(void)
{
}

#endif

#define TSAN_ACCESS(kind, size)						\
	do {								\
		if ((size) > 8 ||					\
		    (!engine_lean(address, trace_kind_writes(kind), ENGINE_PC()) && \
		     ((kind) > EVENT_WRITE ||				\
		      !engine_lean_step(address, size, (kind) == EVENT_WRITE, ENGINE_PC())))) \
			engine_access(address, size, kind, ENGINE_PC());	\
	} while (0)

#define TSAN_PLAIN(function, does, kind, size)				\
	void function##size(void *address);				\
	void function##size(void *address)				\
	{								\
		TSAN_ACCESS(kind, size);				\
		TSAN_TELL(does, size);					\
	}

#define TSAN_UNALIGNED(function, does, kind, size)			\
	void function##size(void *address);				\
	void function##size(void *address)				\
	{								\
		engine_access(address, size, kind, ENGINE_PC());	\
		TSAN_TELL_RANGE(does, size);				\
	}

#define TSAN_MARKED(function, does, kind, size)				\
	void function##size(void *address);				\
	void function##size(void *address)				\
	{								\
		TSAN_ACCESS(kind, size);				\
		TSAN_TELL_MARKED(does, size, function##size);		\
	}

#define TSAN_HOOKS(size)						\
	TSAN_PLAIN(__tsan_read, read, EVENT_READ, size)			\
	TSAN_PLAIN(__tsan_write, write, EVENT_WRITE, size)		\
	TSAN_UNALIGNED(__tsan_unaligned_read, read, EVENT_READ, size)	\
	TSAN_UNALIGNED(__tsan_unaligned_write, write, EVENT_WRITE, size)	\
	TSAN_MARKED(__tsan_volatile_read, read, EVENT_READ_MARKED, size) \
	TSAN_MARKED(__tsan_volatile_write, write, EVENT_WRITE_MARKED, size)

TSAN_HOOKS(1)
TSAN_HOOKS(2)
TSAN_HOOKS(4)
TSAN_HOOKS(8)
TSAN_HOOKS(16)

void __tsan_read_range(void *address, long bytes);
void __tsan_read_range(void *address, long bytes)
{
	engine_access(address, (unsigned int)bytes, EVENT_READ, ENGINE_PC());
	TSAN_TELL_RANGE(read, (unsigned long)bytes);
}

void __tsan_write_range(void *address, long bytes);
void __tsan_write_range(void *address, long bytes)
{
	engine_access(address, (unsigned int)bytes, EVENT_WRITE, ENGINE_PC());
	TSAN_TELL_RANGE(write, (unsigned long)bytes);
}
