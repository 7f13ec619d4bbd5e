// SPDX-License-Identifier: GPL-2.0-only
/*
 * The micro-operations. An object has a lock, a marked word, a spinlock with a
 * word that it guards, and a plain word in memory of its own, which is
 * allocated at the start.
 *
 * A store writes the number of its operation plus one, and a load returns what
 * it read, so that results tell interleavings apart. `cmpxchg` replaces a
 * marked word that is 0. `free` frees the plain word's memory, `alloc` gives
 * it back zeroed; both count as writes to it. `wait-zero` waits until the
 * marked word is 0, and `load-beyond` reads behind the plain word's memory.
 * `lose` makes the thread's own pointer to an object NULL: whatever it does with
 * that object from then on goes there.
 */
#include "micro.h"

struct micro_object {
	struct lock lock;
	int marked;
	struct lock spin;
	int guarded;
};

struct micro_block {
	int plain;
	KSHIM_RED_ZONE;
} __attribute__((aligned(MEMORY_UNIT)));

#define MICRO_USABLE	(sizeof(struct micro_block) - MEMORY_RED_ZONE)

static struct micro_object micro_objects[CR_OBJECTS];
static struct micro_block micro_blocks[CR_OBJECTS];
static uint8_t micro_lost[CR_THREADS_MAX][CR_OBJECTS];	/* a thread's row is its own */

enum micro_code {
#define OP(name, text, operands)
#define MICRO(name, text, operands)	MICRO_##name,
#include "ops.def"
#undef OP
#undef MICRO
};

static bool micro_always(const void *object)
{
	(void)object;
	return true;
}

kshim_step
static void micro_allocate(void *object)
{
	struct micro_block *block = object;

	memory_mark(block, MICRO_USABLE, MEMORY_USABLE);
	block->plain = 0;
}

kshim_step
static void micro_free(struct micro_block *block)
{
	engine_step_begin(block, ENGINE_PC());
	memory_mark(block, MICRO_USABLE, MEMORY_FREED);
	engine_step_end(EVENT_ATOMIC);
}

/* Where a thread looks for an object: no point, since what it asks is its own. */
kshim_step
static void *micro_pointer(const struct scenario_op *op, void *object)
{
	return micro_lost[op->thread][op->target] ? NULL : object;
}

void micro_setup(void)
{
	unsigned int i;

	for (i = 0; i < CR_OBJECTS; i++) {
		struct micro_object *object = &micro_objects[i];

		memory_guard(&object->guarded, sizeof(object->guarded), &object->spin, true);
		memory_mark(micro_blocks[i].red_zone, MEMORY_RED_ZONE, MEMORY_BEYOND);
	}
}

int64_t micro_perform(const struct scenario_op *op)
{
	struct micro_object *object = micro_pointer(op, &micro_objects[op->target]);
	struct micro_block *block = micro_pointer(op, &micro_blocks[op->target]);
	int number = (int)(op - scenario.ops) + 1;

	switch ((enum micro_code)op->code) {
	case MICRO_LOCK:
		lock_acquire(&object->lock, LOCK_WRITE);
		return 0;
	case MICRO_UNLOCK:
		lock_release(&object->lock, LOCK_WRITE);
		return 0;
	case MICRO_LOAD:
		return block->plain;
	case MICRO_STORE:
		block->plain = number;
		return 0;
	case MICRO_LOAD_MARKED:
		return READ_ONCE(object->marked);
	case MICRO_STORE_MARKED:
		WRITE_ONCE(object->marked, number);
		return 0;
	case MICRO_CMPXCHG:
		return cmpxchg(&object->marked, 0, number);
	case MICRO_ALLOC:
		engine_wait(micro_always, micro_allocate, block, EVENT_ATOMIC, ENGINE_PC());
		return 0;
	case MICRO_FREE:
		micro_free(block);
		return 0;
	case MICRO_LOCK_SHARED:
		lock_acquire(&object->lock, LOCK_READ);
		return 0;
	case MICRO_UNLOCK_SHARED:
		lock_release(&object->lock, LOCK_READ);
		return 0;
	case MICRO_TRY_LOCK:
		return lock_try(&object->lock, LOCK_WRITE);
	case MICRO_SPIN:
		spin_lock(&object->spin);
		return 0;
	case MICRO_UNSPIN:
		spin_unlock(&object->spin);
		return 0;
	case MICRO_LOAD_GUARDED:
		return object->guarded;
	case MICRO_STORE_GUARDED:
		object->guarded = number;
		return 0;
	case MICRO_WAIT_ZERO:
		atomic_wait_zero(&object->marked);
		return 0;
	case MICRO_CLEAR_MARKED:
		WRITE_ONCE(object->marked, 0);
		return 0;
	case MICRO_LOAD_BEYOND:
		return block->red_zone[0];
	case MICRO_LOSE:
		WRITE_ONCE(micro_lost[op->thread][op->target], 1);
		return 0;
	}
	return -EINVAL;
}
