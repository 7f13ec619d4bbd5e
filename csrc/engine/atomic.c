// SPDX-License-Identifier: GPL-2.0-only
/*
 * Atomic operations as engine steps. A compare-and-exchange that fails is a
 * read to everyone else: it changes nothing and orders nothing (LKMM).
 */
#include "atomic.h"

#include <assert.h>
#include <string.h>

#include "engine.h"
#include "lock.h"
#include "memory.h"
#include "tsan.h"
#include "watch.h"

/* Of words of any size. Elsewhere reclaim would always fail, for one, and no verdict says so. */
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "the first bytes of a word are its lowest: machines with the other order cannot run it");

uint64_t atomic_compare_exchange(void *address, uint64_t old, uint64_t new, unsigned int bytes)
{
	uint64_t found = 0;

	engine_step_begin(address, ENGINE_PC());
	memcpy(&found, address, bytes);
	if (found == old)
		memcpy(address, &new, bytes);
	engine_step_end(found == old ? EVENT_ATOMIC : EVENT_ATOMIC_READ);
	return found;
}

int atomic_add_if_not(int *address, int add, int unless)
{
	int found;

	engine_step_begin(address, ENGINE_PC());
	found = *address;
	if (found != unless)
		*address = found + add;
	engine_step_end(found != unless ? EVENT_ATOMIC : EVENT_ATOMIC_READ);
	return found;
}

unsigned long atomic_and_or(unsigned long *address, unsigned long and, unsigned long or)
{
	unsigned long found;

	engine_step_begin(address, ENGINE_PC());
	found = *address;
	*address = (found & and) | or;
	engine_step_end(EVENT_ATOMIC);
	return found;
}

unsigned long atomic_load_acquire(const unsigned long *address)
{
	unsigned long found;

	engine_step_begin(address, ENGINE_PC());
	found = *address;
	/* The hooks tell ThreadSanitizer of other marked reads. */
	tsan_order(memory_offset(address), EVENT_ATOMIC_READ, ENGINE_PC());
	engine_step_end(EVENT_READ_MARKED);
	watch_acquired(memory_offset(address));
	return found;
}

static bool atomic_is_zero(const void *object)
{
	return *(const int *)object == 0;
}

static void atomic_leave_alone(void *object)
{
	(void)object;
}

/*
 * Ordered after the operation that left the 0: the kernel's waits end by being
 * woken, or by looking again under the lock or behind the barrier that the
 * waker passed first.
 */
void atomic_wait_zero(int *address)
{
	engine_reach(address);
	lock_may_sleep();
	engine_wait(atomic_is_zero, atomic_leave_alone, address,
		    EVENT_ATOMIC_READ, ENGINE_PC());
	watch_acquired(memory_offset(address));
}
