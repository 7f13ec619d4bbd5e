/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface of cleancache as the reference implements it: the names,
 * types and constants that file systems and backends rely on, and one more
 * state of a pool id. The hooks are plain functions here.
 */
#ifndef REFERENCE_LINUX_CLEANCACHE_H
#define REFERENCE_LINUX_CLEANCACHE_H

#include <linux/fs.h>

enum {
	CLEANCACHE_NO_POOL = -1,
	CLEANCACHE_NO_BACKEND = -2,
	CLEANCACHE_NO_BACKEND_SHARED = -3,
	CLEANCACHE_REFUSED = -4,	/* the backend gave no pool; do not ask again */
};

#define CLEANCACHE_KEY_MAX	6

struct cleancache_filekey {
	union {
		ino_t ino;
		__u32 fh[CLEANCACHE_KEY_MAX];
		u32 key[CLEANCACHE_KEY_MAX];
	} u;
};

struct cleancache_ops {
	int (*init_fs)(size_t page_bytes);
	int (*init_shared_fs)(uuid_t *uuid, size_t page_bytes);
	int (*get_page)(int pool, struct cleancache_filekey key, pgoff_t index,
			struct page *page);
	void (*put_page)(int pool, struct cleancache_filekey key, pgoff_t index,
			 struct page *page);
	void (*invalidate_page)(int pool, struct cleancache_filekey key, pgoff_t index);
	void (*invalidate_inode)(int pool, struct cleancache_filekey key);
	void (*invalidate_fs)(int pool);
};

int cleancache_register_ops(const struct cleancache_ops *ops);
void cleancache_init_fs(struct super_block *sb);
void cleancache_init_shared_fs(struct super_block *sb);
int cleancache_get_page(struct page *page);
void cleancache_put_page(struct page *page);
void cleancache_invalidate_page(struct address_space *mapping, struct page *page);
void cleancache_invalidate_inode(struct address_space *mapping);
void cleancache_invalidate_fs(struct super_block *sb);

#endif
