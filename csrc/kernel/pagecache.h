/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The page cache, as read, write, writeback, reclaim and truncation use it.
 * The callers of the cleancache hooks, and the locks they hold, are here.
 */
#ifndef KERNEL_PAGECACHE_H
#define KERNEL_PAGECACHE_H

#include "kshim.h"

/* The content at that index, or -1 at the end of the file. */
int64_t pagecache_read(struct inode *inode, pgoff_t index);
/* The caller holds i_rwsem for writing. */
void pagecache_write(struct inode *inode, pgoff_t index, u32 content);
void pagecache_writeback(struct inode *inode, pgoff_t index);
/* Takes a page off the LRU list, if it is there; 1 if it was reclaimed. */
int pagecache_reclaim(unsigned int fs, unsigned int inode, pgoff_t index);

/* Removes every page from `first` on, and invalidates the inode. */
void pagecache_truncate(struct inode *inode, pgoff_t first);
/* Marks all page frames as freed memory, once, before the first snapshot. */
void pagecache_setup(void);
/* Tells the trace that the content from `first` on is zero from now on. */
void pagecache_note_zero(struct inode *inode, pgoff_t first);

#endif
