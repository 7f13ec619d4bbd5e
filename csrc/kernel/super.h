/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface of fs/super.c that file systems and the VFS use, and nothing
 * else, so that the real file can take super.c's place. iterate_supers()
 * stands in kshim.h.
 */
#ifndef KERNEL_SUPER_H
#define KERNEL_SUPER_H

#include "kshim.h"

/*
 * A file system type of the kernel, one per file system of the scenario. Each
 * has one device, so every mount of it asks for the same super block.
 */
struct file_system_type {
	unsigned int number;		/* in the scenario; never changes */
	struct super_block *instance;	/* fs_supers, under sb_lock */
};

/* What never changes is read without a decision point. */
unsigned int super_type_number(const struct file_system_type *type);

/* The super block of that type, found or new, with s_umount held for writing. */
struct super_block *sget(struct file_system_type *type);
void deactivate_super(struct super_block *sb);
/* The caller holds s_umount for writing; it is released. */
void deactivate_locked_super(struct super_block *sb);
/* The part of ->kill_sb that all file systems share. */
void generic_shutdown_super(struct super_block *sb);

/* Marks the whole table as freed memory, once, before the first snapshot. */
void super_setup(void);

/* The pool id without a decision point, for marks. */
int super_peek_pool(const struct super_block *sb);

/* The planted bug register-mutex: a mount waits for registrations. */
void super_mutex_touch(void);

/* What a super block is called in the trace. */
int super_number(const struct super_block *sb);

#endif
