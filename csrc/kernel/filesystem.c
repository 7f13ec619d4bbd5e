// SPDX-License-Identifier: GPL-2.0-only
/*
 * Three kinds of file system, and the table of mounts.
 *
 * local: like ext4, initialises cleancache at the end of fill_super and once
 * more when it is remounted from read-only to read-write. shared: like ocfs2,
 * initialises it early in fill_super, by uuid. none: never does. All of them
 * hold s_umount for writing then (premise c).
 *
 * The table of mounts stands for the namespace and its mounts: adding,
 * detaching and opening are one step each, since the kernel does them under
 * namespace_sem and mount_lock, and nothing of cleancache runs under those.
 * Unmounting detaches (as umount -l does): an operation that is still running
 * keeps the file system active, and whoever ends last shuts it down.
 */
#include "filesystem.h"

#include "inode.h"
#include "judged.h"
#include "super.h"
#include "trace.h"

#include <linux/cleancache.h>

struct mount_entry {
	struct super_block *sb;
	int mounts;
};

#define TYPE(n)	{ .number = n }
static struct file_system_type filesystem_types[CR_FS_MAX] = {
	TYPE(0), TYPE(1), TYPE(2), TYPE(3), TYPE(4), TYPE(5),
};
static struct mount_entry filesystem_mounts[CR_FS_MAX];

void filesystem_guard(const struct lock *lock)
{
	unsigned int i;

	for (i = 0; i < CR_FS_MAX; i++)
		memory_guard(&filesystem_types[i].instance,
			     sizeof(filesystem_types[i].instance), lock, true);
}

static const char filesystem_root;

/* A handle as most file systems encode it: inode number and generation. */
static int filesystem_encode_fh(struct inode *inode, __u32 *fh, int *words,
				struct inode *parent)
{
	(void)parent;
	if (*words < 2) {
		*words = 2;
		return FILEID_INVALID;
	}
	fh[0] = (__u32)inode->i_ino;
	fh[1] = inode->i_generation;
	*words = 2;
	return FILEID_INO32_GEN;
}

static const struct export_operations filesystem_export_handles = {
	.encode_fh = filesystem_encode_fh,
};
static const struct export_operations filesystem_export_plain = {
	.encode_fh = NULL,
};

static void filesystem_init_cleancache(struct super_block *sb, unsigned int number,
				       bool remount)
{
	unsigned int kind = scenario.fs[number].kind;
	bool shared = kind == FS_SHARED && !planted(PLANTED_WRONG_INIT);

	if (kind == FS_NONE)
		return;
	if (planted(PLANTED_REGISTER_MUTEX) && !remount)
		super_mutex_touch();
	trace_append(EVENT_INIT_CALL, super_number(sb), shared | remount << 1);
	if (remount)
		judged_remount(true);
	if (shared)
		cleancache_init_shared_fs(sb);
	else
		cleancache_init_fs(sb);
	if (super_peek_pool(sb) >= 0)
		mark(MARK_MOUNT_GAVE);
	if (remount)
		judged_remount(false);
	trace_append(EVENT_INIT_DONE, super_number(sb), 0);
}

static void filesystem_set_uuid(struct super_block *sb, unsigned int uuid)
{
	/* Bytes 1 to 15 stay 0: one byte tells four uuids apart. */
#ifdef CR_UUID_IS_BYTES
	sb->s_uuid[0] = (u8)uuid;
#else
	sb->s_uuid.b[0] = (u8)uuid;
#endif
}

/* The planted bug write-frozen: writes where nobody may. */
static __attribute__((noinline)) void filesystem_spoil(const u8 *frozen)
{
	*(u8 *)(uintptr_t)frozen = 0;
}

/*
 * ->fill_super; the caller holds s_umount for writing. A mount that fails only
 * after SB_BORN looks the same from outside, since s_umount is held until then.
 */
static int filesystem_fill_super(struct super_block *sb, unsigned int number, bool fails)
{
	const struct scenario_fs *fs = &scenario.fs[number];

	if (planted(PLANTED_WRITE_FROZEN))
		filesystem_spoil(&fs->handles);
	if (fs->kind == FS_LOCAL)
		sb->s_export_op = fs->handles ? &filesystem_export_handles :
						&filesystem_export_plain;
	else if (fs->handles)
		sb->s_export_op = &filesystem_export_handles;
	if (fs->kind == FS_SHARED) {
		filesystem_set_uuid(sb, fs->uuid);
		if (!planted(PLANTED_PREMISE_C))
			filesystem_init_cleancache(sb, number, false);
		if (fails)
			return -EIO;
	}
	sb->s_root = &filesystem_root;
	if (fs->kind == FS_LOCAL && !planted(PLANTED_PREMISE_C))
		filesystem_init_cleancache(sb, number, false);
	return fails ? -EIO : 0;
}

kshim_step
static void filesystem_attach(struct super_block *sb, unsigned int number, bool open)
{
	struct mount_entry *entry = &filesystem_mounts[number];

	engine_step_begin(entry, ENGINE_PC());
	engine_step_also(&entry->mounts, EVENT_WRITE_MARKED, ENGINE_PC());
	entry->sb = sb;
	entry->mounts++;
	judged_super(open);
	trace_append(EVENT_SB_MOUNTED, super_number(sb), 0);
	engine_step_end(EVENT_ATOMIC);
}

/* Takes one mount out of the table; its active reference is the caller's now. */
kshim_step
static struct super_block *filesystem_detach(unsigned int number)
{
	struct mount_entry *entry = &filesystem_mounts[number];
	struct super_block *sb = NULL;

	engine_step_begin(entry, ENGINE_PC());
	if (entry->mounts) {
		engine_step_also(&entry->mounts, EVENT_WRITE_MARKED, ENGINE_PC());
		entry->mounts--;
		sb = entry->sb;
	}
	engine_step_end(sb ? EVENT_ATOMIC : EVENT_ATOMIC_READ);
	return sb;
}

kshim_step
struct super_block *filesystem_open(unsigned int number)
{
	struct mount_entry *entry = &filesystem_mounts[number];
	struct super_block *sb = NULL;

	engine_step_begin(entry, ENGINE_PC());
	if (entry->mounts) {
		sb = entry->sb;
		engine_step_also(&sb->s_active, EVENT_ATOMIC, ENGINE_PC());
		sb->s_active++;
	}
	engine_step_end(sb ? EVENT_ATOMIC : EVENT_ATOMIC_READ);
	return sb;
}

int filesystem_mount(unsigned int number, bool fails)
{
	struct super_block *sb = sget(&filesystem_types[number]);
	bool existing = sb->s_root;
	bool open;
	int error;

	if (existing) {
		/* A block device's holder is dropped here, without s_umount. */
		lock_release(&sb->s_umount, LOCK_WRITE);
		lock_acquire(&sb->s_umount, LOCK_WRITE);
		mark(MARK_SHARED_MOUNT);
		error = fails ? -EIO : 0;
	} else {
		error = filesystem_fill_super(sb, number, fails);
	}
	if (error) {
		deactivate_locked_super(sb);
		return error;
	}
	if (!planted(PLANTED_FLAGS_UNLOCKED))
		sb->s_flags |= SB_BORN;
	open = judged_is_open(&sb->cleancache_poolid);
	lock_release(&sb->s_umount, LOCK_WRITE);
	if (planted(PLANTED_FLAGS_UNLOCKED))
		sb->s_flags |= SB_BORN;
	if (planted(PLANTED_PREMISE_C) && !existing)
		filesystem_init_cleancache(sb, number, false);
	filesystem_attach(sb, number, open);
	return 0;
}

int filesystem_unmount(unsigned int number)
{
	struct super_block *sb = filesystem_detach(number);

	if (!sb)
		return -EINVAL;
	deactivate_super(sb);
	return 0;
}

/*
 * To read-only and back to read-write. Only the way back does something that
 * cleancache sees: ext4 repeats its set-up then, and with it the init call.
 *
 * Too weak in one respect: the kernel refuses to go read-only while anybody
 * writes, and here writers go on. So a data verdict that needs a remount and
 * a writer at the same time would be ours, not the kernel's.
 */
int filesystem_remount(unsigned int number)
{
	struct super_block *sb = filesystem_open(number);

	if (!sb)
		return -EINVAL;
	lock_acquire(&sb->s_umount, LOCK_WRITE);
	if (planted(PLANTED_REMOUNT_TWICE))
		lock_acquire(&sb->s_umount, LOCK_WRITE);
	if (sb->s_root && scenario.fs[number].kind == FS_LOCAL)
		filesystem_init_cleancache(sb, number, true);
	else if (planted(PLANTED_REMOUNT_KEEPS))
		return 0;
	lock_release(&sb->s_umount, LOCK_WRITE);
	deactivate_super(sb);
	return 0;
}

void filesystem_kill_sb(struct super_block *sb)
{
	generic_shutdown_super(sb);
}
