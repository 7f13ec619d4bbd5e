// SPDX-License-Identifier: GPL-2.0-only
/*
 * Super blocks: a model of Linux 5.10's fs/super.c.
 *
 * Kept from the kernel: who holds which lock at each step, the order of the
 * steps, the two counts (s_count keeps the memory, s_active the file system),
 * the tail insertion, and the reference that iterate_supers drops one visit
 * late so that its place in the list stays valid. Premises a, b and d of the
 * proof rest on this file; planted bugs break each of them.
 *
 * Left out: shrinkers, security modules, user namespaces and freezing. None of
 * them changes a pool id, and none takes part in mounting and registering.
 * SB_ACTIVE decides only whether an unused inode is cached; here it always is.
 */
#include "super.h"

#include <limits.h>

#include "filesystem.h"
#include "inode.h"
#include "judged.h"
#include "planted_cmpxchg.h"
#include "trace.h"

#include <linux/cleancache.h>

/* A thread can hold an unused super block, and references on dying ones live long. */
#define SUPER_MAX	(4 * CR_THREADS_MAX)

static struct lock sb_lock;
static struct lock super_mutex;		/* only of the planted bug register-mutex */
static struct super_block *super_first;
static struct super_block *super_last;
static struct super_block super_table[SUPER_MAX];
static uint8_t super_next[CR_THREADS_MAX];	/* see memory_alloc() */

void super_mutex_touch(void)
{
	lock_acquire(&super_mutex, LOCK_WRITE);
	lock_release(&super_mutex, LOCK_WRITE);
}

int super_number(const struct super_block *sb)
{
	return (int)(sb - super_table);
}

kshim_step
unsigned int super_type_number(const struct file_system_type *type)
{
	return type->number;
}

void super_setup(void)
{
	unsigned int i;

	memory_table(super_table, sizeof(super_table[0]), SUPER_MAX);
	memory_guard(&super_first, sizeof(super_first), &sb_lock, true);
	memory_guard(&super_last, sizeof(super_last), &sb_lock, true);
	for (i = 0; i < SUPER_MAX; i++) {
		struct super_block *sb = &super_table[i];

		memory_guard(&sb->s_next, sizeof(sb->s_next), &sb_lock, true);
		memory_guard(&sb->s_previous, sizeof(sb->s_previous), &sb_lock, true);
		memory_guard(&sb->s_count, sizeof(sb->s_count), &sb_lock, true);
		memory_guard(&sb->s_hashed, sizeof(sb->s_hashed), &sb_lock, true);
		inode_guard(sb);
	}
	filesystem_guard(&sb_lock);
}

/*
 * A new super block with s_umount already held for writing. Nobody else can
 * see it before it is published, so no order of these stores can matter and
 * none of them is a decision point.
 */
kshim_step
static struct super_block *super_alloc(struct file_system_type *type)
{
	struct super_block *fresh;

	fresh = memory_alloc(super_table, sizeof(super_table[0]), SUPER_MAX, super_next);
	lock_init_held(&fresh->s_umount);
	fresh->s_count = 1;
	fresh->s_active = 1;
	fresh->s_type = type;
	if (!planted(PLANTED_POOLID_UNSET))
		fresh->cleancache_poolid = CLEANCACHE_NO_POOL;
	return fresh;
}

/* Appends to super_blocks and to the type's instances; sb_lock is held. */
static void super_publish(struct super_block *sb, struct file_system_type *type)
{
	unsigned int number = super_type_number(type);
	const struct scenario_fs *fs = &scenario.fs[number];

	sb->s_previous = super_last;
	if (super_last)
		super_last->s_next = sb;
	else
		super_first = sb;
	super_last = sb;
	type->instance = sb;
	sb->s_hashed = 1;
	trace_append(EVENT_SB_NEW, super_number(sb),
		     number | fs->kind << 8 | fs->uuid << 16);
}

/* Drops a passive reference; sb_lock is held. */
static void super_put_locked(struct super_block *sb)
{
	if (--sb->s_count)
		return;
	if (sb->s_previous)
		sb->s_previous->s_next = sb->s_next;
	else
		super_first = sb->s_next;
	if (sb->s_next)
		sb->s_next->s_previous = sb->s_previous;
	else
		super_last = sb->s_previous;
	trace_append(EVENT_SB_FREE, super_number(sb), 0);
	memory_free(sb, sizeof(*sb));
}

static void super_put(struct super_block *sb)
{
	if (planted(PLANTED_PUT_UNLOCKED)) {
		super_put_locked(sb);
		return;
	}
	spin_lock(&sb_lock);
	super_put_locked(sb);
	spin_unlock(&sb_lock);
}

/*
 * Turns a super block found under sb_lock, which is released, into an active
 * one with s_umount held for writing. False: it is dying, or never came up.
 */
static bool super_grab(struct super_block *sb)
{
	bool alive;

	sb->s_count++;
	spin_unlock(&sb_lock);
	lock_acquire(&sb->s_umount, LOCK_WRITE);
	alive = (sb->s_flags & SB_BORN) && atomic_add_if_not(&sb->s_active, 1, 0);
	if (!alive)
		lock_release(&sb->s_umount, LOCK_WRITE);
	super_put(sb);
	return alive;
}

struct super_block *sget(struct file_system_type *type)
{
	struct super_block *fresh = NULL;
	struct super_block *old;

	for (;;) {
		spin_lock(&sb_lock);
		old = type->instance;
		if (old) {
			if (!super_grab(old))
				continue;
			if (fresh)
				memory_free(fresh, sizeof(*fresh));
			return old;
		}
		if (fresh)
			break;
		spin_unlock(&sb_lock);
		fresh = super_alloc(type);
	}
	super_publish(fresh, type);
	spin_unlock(&sb_lock);
	return fresh;
}

void deactivate_locked_super(struct super_block *sb)
{
	if (atomic_add_if_not(&sb->s_active, -1, INT_MIN) != 1) {
		lock_release(&sb->s_umount, LOCK_WRITE);
		return;
	}
	judged_super(judged_is_open(&sb->cleancache_poolid));
	trace_append(EVENT_SB_KILL, super_number(sb), 0);
	mark(MARK_SHUTDOWN);
	if (!planted(PLANTED_NO_INVALIDATE_FS)) {
		trace_append(EVENT_HOOK, super_number(sb), HOOK_INVALIDATE_FS);
		cleancache_invalidate_fs(sb);
		trace_append(EVENT_HOOK_DONE, super_number(sb), 0);
	}
	filesystem_kill_sb(sb);
	super_put(sb);
}

void deactivate_super(struct super_block *sb)
{
	if (atomic_add_if_not(&sb->s_active, -1, 1) != 1)
		return;
	lock_acquire(&sb->s_umount, LOCK_WRITE);
	deactivate_locked_super(sb);
}

void generic_shutdown_super(struct super_block *sb)
{
	if (sb->s_root) {
		sb->s_root = NULL;
		inode_sync_all(sb);
		inode_evict_all(sb);
	}
	spin_lock(&sb_lock);
	sb->s_hashed = 0;
	sb->s_type->instance = NULL;
	spin_unlock(&sb_lock);
	lock_release(&sb->s_umount, LOCK_WRITE);
}

kshim_step
int super_peek_pool(const struct super_block *sb)
{
	return sb->cleancache_poolid;
}

/* Only for the mark: registration will have to wait for this super block. */
kshim_step
static void super_note_busy(const struct super_block *sb)
{
	if (sb->s_umount.state)
		mark(MARK_WAITED);
}

static void super_visit(struct super_block *sb,
			void (*visit)(struct super_block *, void *), void *argument)
{
	int before = super_peek_pool(sb);

	trace_append(EVENT_VISIT, super_number(sb), 0);
	visit(sb, argument);
	if (before < 0 && super_peek_pool(sb) >= 0)
		mark(MARK_GAVE);
	trace_append(EVENT_VISIT_DONE, super_number(sb), 0);
}

/* Its mount has finished and its shutdown has not begun; s_umount is held. */
static bool super_is_up(const struct super_block *sb)
{
	return sb->s_root && sb->s_flags & SB_BORN;
}

/* One super block of the walk, with a passive reference and no lock held. */
static void super_visit_waiting(struct super_block *sb,
				void (*visit)(struct super_block *, void *), void *argument)
{
	if (planted(PLANTED_PREMISE_B)) {
		super_visit(sb, visit, argument);
		return;
	}
	super_note_busy(sb);
	lock_acquire(&sb->s_umount, LOCK_READ);
	if (super_is_up(sb)) {
		mark(MARK_MET);
		super_visit(sb, visit, argument);
	}
	lock_release(&sb->s_umount, LOCK_READ);
}

/*
 * The planted bugs that take s_umount the wrong way: under sb_lock, which may
 * sleep, and without waiting, which need not end.
 */
static void super_visit_wrongly(struct super_block *sb,
				void (*visit)(struct super_block *, void *), void *argument)
{
	lock_acquire(&sb->s_umount, LOCK_READ);
	if (super_is_up(sb))
		super_visit(sb, visit, argument);
	lock_release(&sb->s_umount, LOCK_READ);
}

static bool super_is_born(struct super_block *sb)
{
	bool born;

	if (!lock_try(&sb->s_umount, LOCK_READ))
		return false;
	born = sb->s_flags & SB_BORN;
	lock_release(&sb->s_umount, LOCK_READ);
	return born;
}

static bool super_skips(struct super_block *sb)
{
	if (!sb->s_hashed) {
		mark(MARK_SKIPPED);
		return true;
	}
	return planted(PLANTED_PREMISE_A) && lock_busy(&sb->s_umount);
}

void iterate_supers(void (*visit)(struct super_block *, void *), void *argument)
{
	struct super_block *previous = NULL;
	struct super_block *sb;

	if (planted(PLANTED_REGISTER_MUTEX))
		lock_acquire(&super_mutex, LOCK_WRITE);
	spin_lock(&sb_lock);
	for (sb = super_first; sb; sb = sb->s_next) {
		if (super_skips(sb))
			continue;
		if (planted(PLANTED_UMOUNT_IN_SB_LOCK)) {
			super_visit_wrongly(sb, visit, argument);
			continue;
		}
		sb->s_count++;
		if (planted(PLANTED_EARLY_PUT))
			super_put_locked(sb);
		spin_unlock(&sb_lock);
		while (planted(PLANTED_NO_PROGRESS) && !super_is_born(sb))
			;
		super_visit_waiting(sb, visit, argument);
		spin_lock(&sb_lock);
		if (planted(PLANTED_EARLY_PUT))
			continue;
		if (previous)
			super_put_locked(previous);
		previous = sb;
	}
	if (previous)
		super_put_locked(previous);
	spin_unlock(&sb_lock);
	if (planted(PLANTED_REGISTER_MUTEX))
		lock_release(&super_mutex, LOCK_WRITE);
	planted_cmpxchg_settle();
}
