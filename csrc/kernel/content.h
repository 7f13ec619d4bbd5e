/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a page contains: one number that says which place of which file it was
 * written to, and by which operation. 0 is a page of zeros.
 *
 * Bits 16-31 are the location (file system << 8 | inode << 4 | page), bits
 * 0-15 the writer: 1 is what is on the disk at the start, n + 2 operation n.
 */
#ifndef KERNEL_CONTENT_H
#define KERNEL_CONTENT_H

#define CONTENT(location, writer)	((u32)(location) << 16 | (u32)(writer))
#define CONTENT_FIRST(fs, inode, page)	CONTENT((fs) << 8 | (inode) << 4 | (page), 1)
#define CONTENT_OF_OP(location, op)	CONTENT(location, (op) + 2)

#endif
