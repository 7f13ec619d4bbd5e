/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file systems of a scenario, as the VFS calls them: mounting, unmounting
 * and remounting a device, and getting hold of a mounted one.
 */
#ifndef KERNEL_FILESYSTEM_H
#define KERNEL_FILESYSTEM_H

#include "kshim.h"

/* Which hook of cleancache is being called; the value of EVENT_HOOK. */
enum hook {
	HOOK_GET,
	HOOK_PUT,
	HOOK_INVALIDATE_PAGE,
	HOOK_INVALIDATE_INODE,
	HOOK_INVALIDATE_FS,
};

int filesystem_mount(unsigned int number, bool fails);
int filesystem_unmount(unsigned int number);
int filesystem_remount(unsigned int number);
/* The super block of a mounted file system with an active reference, or NULL. */
struct super_block *filesystem_open(unsigned int number);

/* ->kill_sb, which super.c calls. */
void filesystem_kill_sb(struct super_block *sb);

/* At set-up: the instances of all types are touched under that lock only. */
void filesystem_guard(const struct lock *lock);

#endif
