/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Inodes and their disk: looking one up by number, letting go of it, and what
 * unmounting does with all of them.
 */
#ifndef KERNEL_INODE_H
#define KERNEL_INODE_H

#include "kshim.h"

/* The device's blocks and inode table, as the file system left them. */
struct disk_file {
	u32 exists;
	u32 generation;
	u64 size;		/* in pages */
	u32 blocks[CR_PAGES];	/* content; 0: a hole */
};

/* The inode of that number with a reference, or NULL; may create it. */
struct inode *inode_get(struct super_block *sb, unsigned int number, bool create);
/* Drops the reference; the last one of an unlinked inode evicts it. */
void inode_put(struct inode *inode);
void inode_sync_all(struct super_block *sb);
void inode_evict_all(struct super_block *sb);

struct disk_file *inode_disk(const struct inode *inode);
/* File system << 8 | inode << 4 | page, as in the trace. */
int inode_location(const struct inode *inode, pgoff_t index);

/* At set-up: what s_inode_lock protects. */
void inode_guard(const struct super_block *sb);

#endif
