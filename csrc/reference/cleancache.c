// SPDX-License-Identifier: GPL-2.0-only
/*
 * A correct cleancache: the control against false alarms, and the stand-in
 * where no kernel source can be had. It is ours and was never part of Linux.
 *
 * What it does beyond the file it stands in for, so that every property holds
 * under every schedule that the callers' locks allow:
 *
 * - A hook names a pool only between reference_enter() and reference_leave(),
 *   and giving a pool back first stops new hooks by changing the pool id, then
 *   waits until the hooks that are inside have left. Reclaim holds neither
 *   s_umount nor a reference on the file system, so nothing else would keep an
 *   unmount from surrendering the pool under its feet.
 * - A super block that was asked once is never asked again: a remount finds a
 *   pool, or CLEANCACHE_REFUSED, and does nothing.
 *
 * The wait may sleep. It is entered from deactivate_locked_super() only, which
 * may; the hooks that it waits for never take s_umount, so it ends.
 */
#include <linux/module.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/debugfs.h>
#include <linux/cleancache.h>

static const struct cleancache_ops *reference_ops;

/* Guards the change of a pool id against hooks that are about to use it. */
static struct lock reference_lock;
static int reference_inside;		/* hooks between enter and leave */

static u64 reference_succ_gets;
static u64 reference_failed_gets;
static u64 reference_puts;
static u64 reference_invalidates;

/* What a hook may use until reference_leave(). */
struct reference_use {
	const struct cleancache_ops *ops;
	int pool;
	struct cleancache_filekey key;
};

/* Pins the super block's pool, if it has one. */
static bool reference_pin(struct super_block *sb, int *pool)
{
	spin_lock(&reference_lock);
	*pool = READ_ONCE(sb->cleancache_poolid);
	if (*pool >= 0)
		atomic_add_if_not(&reference_inside, 1, -1);
	spin_unlock(&reference_lock);
	return *pool >= 0;
}

static void reference_leave(void)
{
	atomic_add_if_not(&reference_inside, -1, 0);
}

/* Counters are for information only; marked, since hooks count in parallel. */
static void reference_count(u64 *counter)
{
	WRITE_ONCE(*counter, READ_ONCE(*counter) + 1);
}

static void reference_set_pool(struct super_block *sb, int pool)
{
	spin_lock(&reference_lock);
	WRITE_ONCE(sb->cleancache_poolid, pool < 0 ? CLEANCACHE_REFUSED : pool);
	spin_unlock(&reference_lock);
}

static bool reference_wants_pool(struct super_block *sb)
{
	int pool = READ_ONCE(sb->cleancache_poolid);

	return pool < 0 && pool != CLEANCACHE_REFUSED;
}

void cleancache_init_fs(struct super_block *sb)
{
	const struct cleancache_ops *ops = READ_ONCE(reference_ops);

	if (!reference_wants_pool(sb))
		return;
	if (ops)
		reference_set_pool(sb, ops->init_fs(PAGE_SIZE));
	else
		WRITE_ONCE(sb->cleancache_poolid, CLEANCACHE_NO_BACKEND);
}

void cleancache_init_shared_fs(struct super_block *sb)
{
	const struct cleancache_ops *ops = READ_ONCE(reference_ops);

	if (!reference_wants_pool(sb))
		return;
	if (ops)
		reference_set_pool(sb, ops->init_shared_fs(&sb->s_uuid, PAGE_SIZE));
	else
		WRITE_ONCE(sb->cleancache_poolid, CLEANCACHE_NO_BACKEND_SHARED);
}

/* s_umount is held, so the mount that left the mark has ended. */
static void reference_catch_up(struct super_block *sb, void *unused)
{
	int pool = READ_ONCE(sb->cleancache_poolid);

	(void)unused;
	if (pool == CLEANCACHE_NO_BACKEND)
		cleancache_init_fs(sb);
	else if (pool == CLEANCACHE_NO_BACKEND_SHARED)
		cleancache_init_shared_fs(sb);
}

int cleancache_register_ops(const struct cleancache_ops *ops)
{
	if (cmpxchg(&reference_ops, NULL, ops) != NULL)
		return -EBUSY;
	iterate_supers(reference_catch_up, NULL);
	return 0;
}

void cleancache_invalidate_fs(struct super_block *sb)
{
	const struct cleancache_ops *ops = READ_ONCE(reference_ops);
	int pool;

	spin_lock(&reference_lock);
	pool = READ_ONCE(sb->cleancache_poolid);
	WRITE_ONCE(sb->cleancache_poolid, CLEANCACHE_NO_POOL);
	spin_unlock(&reference_lock);
	if (!ops || pool < 0)
		return;
	atomic_wait_zero(&reference_inside);
	ops->invalidate_fs(pool);
}

/*
 * The file's key: its handle where the file system exports handles, else its
 * inode number. False: the handle does not fit.
 */
static bool reference_key(struct inode *inode, struct cleancache_filekey *key)
{
	const struct export_operations *export = inode->i_sb->s_export_op;
	int words = CLEANCACHE_KEY_MAX;
	int type, i;

	for (i = 0; i < CLEANCACHE_KEY_MAX; i++)
		key->u.key[i] = 0;
	key->u.ino = inode->i_ino;
	if (!export || !export->encode_fh)
		return true;
	type = export->encode_fh(inode, key->u.fh, &words, NULL);
	return type > FILEID_ROOT && type != FILEID_INVALID && words <= CLEANCACHE_KEY_MAX;
}

/* Begins what a hook does for a file; true: reference_leave() must follow. */
static bool reference_enter(struct inode *inode, struct reference_use *use)
{
	use->ops = READ_ONCE(reference_ops);
	if (!use->ops || !reference_pin(inode->i_sb, &use->pool))
		return false;
	if (reference_key(inode, &use->key))
		return true;
	reference_leave();
	return false;
}

int cleancache_get_page(struct page *page)
{
	struct reference_use use;
	int result;

	VM_BUG_ON(!PageLocked(page));
	if (!reference_enter(page->mapping->host, &use))
		return -1;
	result = use.ops->get_page(use.pool, use.key, page->index, page);
	reference_count(result ? &reference_failed_gets : &reference_succ_gets);
	reference_leave();
	return result;
}

void cleancache_put_page(struct page *page)
{
	struct reference_use use;

	VM_BUG_ON(!PageLocked(page));
	if (!reference_enter(page->mapping->host, &use))
		return;
	use.ops->put_page(use.pool, use.key, page->index, page);
	reference_count(&reference_puts);
	reference_leave();
}

void cleancache_invalidate_page(struct address_space *mapping, struct page *page)
{
	struct reference_use use;

	VM_BUG_ON(!PageLocked(page));
	if (!reference_enter(mapping->host, &use))
		return;
	use.ops->invalidate_page(use.pool, use.key, page->index);
	reference_count(&reference_invalidates);
	reference_leave();
}

void cleancache_invalidate_inode(struct address_space *mapping)
{
	struct reference_use use;

	if (!reference_enter(mapping->host, &use))
		return;
	use.ops->invalidate_inode(use.pool, use.key);
	reference_leave();
}

static const struct {
	const char *name;
	u64 *counter;
} reference_files[] = {
	{ "invalidates", &reference_invalidates },
	{ "puts", &reference_puts },
	{ "failed_gets", &reference_failed_gets },
	{ "succ_gets", &reference_succ_gets },
};

static int __init reference_init(void)
{
	struct dentry *folder = debugfs_create_dir("cleancache", NULL);
	size_t i;

	for (i = 0; i < sizeof(reference_files) / sizeof(reference_files[0]); i++)
		debugfs_create_u64(reference_files[i].name, S_IRUGO, folder,
				   reference_files[i].counter);
	return 0;
}
module_init(reference_init)
