// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inodes: a model of fs/inode.c and of a file system's inode table.
 *
 * Kept from the kernel: a lookup waits for an inode that is being evicted; an
 * unlinked inode lives until its last reference goes, and only then is its
 * number free again; eviction truncates the page cache and calls
 * cleancache_invalidate_inode, always. Every file exists at the start, with
 * both pages written.
 *
 * Simplified: an inode is embedded in its super block and set up under
 * s_inode_lock, where the kernel allocates it and keeps lookups waiting with
 * I_NEW. Nobody else can see it before, either way.
 */
#include "inode.h"

#include "content.h"
#include "pagecache.h"
#include "super.h"

#define DISK_FILE(fs, inode)						\
	{ .exists = 1, .generation = 1, .size = CR_PAGES,		\
	  .blocks = { CONTENT_FIRST(fs, inode, 0), CONTENT_FIRST(fs, inode, 1) } }
#define DISK(fs)	{ DISK_FILE(fs, 0), DISK_FILE(fs, 1) }

static struct disk_file inode_disks[CR_FS_MAX][CR_INODES] = {
	DISK(0), DISK(1), DISK(2), DISK(3), DISK(4), DISK(5),
};

kshim_step
struct disk_file *inode_disk(const struct inode *inode)
{
	return &inode_disks[inode->i_sb->s_type->number][inode->i_ino - 1];
}

kshim_step
int inode_location(const struct inode *inode, pgoff_t index)
{
	return (int)(inode->i_sb->s_type->number << 8 | (inode->i_ino - 1) << 4 | index);
}

void inode_guard(const struct super_block *sb)
{
	unsigned int i;

	for (i = 0; i < CR_INODES; i++) {
		const struct inode *inode = &sb->s_inodes[i];
		const struct lock *pages = &inode->i_data.i_pages;

		memory_guard(&inode->i_count, sizeof(inode->i_count), &sb->s_inode_lock, false);
		memory_guard(&inode->i_present, sizeof(inode->i_present), &sb->s_inode_lock, false);
		memory_guard(&inode->i_unlinked, sizeof(inode->i_unlinked), &sb->s_inode_lock,
			     false);
		memory_guard(inode->i_data.slots, sizeof(inode->i_data.slots), pages, false);
	}
}

/* Reads the inode from disk; s_inode_lock is held. */
static void inode_instantiate(struct inode *inode, struct super_block *sb,
			      const struct disk_file *disk, unsigned int number)
{
	inode->i_ino = number + 1;
	inode->i_sb = sb;
	inode->i_size = disk->size;
	inode->i_generation = disk->generation;
	inode->i_unlinked = 0;
	inode->i_data.host = inode;
	inode->i_present = 1;
}

struct inode *inode_get(struct super_block *sb, unsigned int number, bool create)
{
	struct disk_file *disk = &inode_disks[super_type_number(sb->s_type)][number];
	struct inode *inode = &sb->s_inodes[number];

	spin_lock(&sb->s_inode_lock);
	while (READ_ONCE(inode->i_freeing)) {
		spin_unlock(&sb->s_inode_lock);
		atomic_wait_zero(&inode->i_freeing);
		spin_lock(&sb->s_inode_lock);
	}
	if (!inode->i_present && (disk->exists || create)) {
		disk->exists = 1;
		inode_instantiate(inode, sb, disk, number);
	}
	if (!inode->i_present || inode->i_unlinked)
		inode = NULL;
	else
		inode->i_count++;
	spin_unlock(&sb->s_inode_lock);
	return inode;
}

static void inode_erase(struct inode *inode)
{
	struct disk_file *disk = inode_disk(inode);
	unsigned int page;

	for (page = 0; page < CR_PAGES; page++)
		disk->blocks[page] = 0;
	disk->size = 0;
	disk->generation++;
	disk->exists = 0;
}

/* i_freeing is set and the caller alone can reach the inode. */
static void inode_evict(struct inode *inode, bool erase)
{
	if (erase)
		pagecache_note_zero(inode, 0);
	pagecache_truncate(inode, 0);
	if (erase)
		inode_erase(inode);
	spin_lock(&inode->i_sb->s_inode_lock);
	inode->i_present = 0;
	spin_unlock(&inode->i_sb->s_inode_lock);
	atomic_add_if_not(&inode->i_freeing, -1, 0);
}

void inode_put(struct inode *inode)
{
	struct super_block *sb = inode->i_sb;
	bool evict;

	spin_lock(&sb->s_inode_lock);
	evict = --inode->i_count == 0 && inode->i_unlinked;
	if (evict)
		WRITE_ONCE(inode->i_freeing, 1);
	spin_unlock(&sb->s_inode_lock);
	if (evict)
		inode_evict(inode, true);
}

static bool inode_is_present(struct inode *inode, struct super_block *sb)
{
	bool present;

	spin_lock(&sb->s_inode_lock);
	present = inode->i_present;
	spin_unlock(&sb->s_inode_lock);
	return present;
}

void inode_sync_all(struct super_block *sb)
{
	unsigned int count = CR_INODES + planted(PLANTED_SYNC_BEYOND);
	unsigned int i, page;

	for (i = 0; i < count; i++) {
		if (!inode_is_present(&sb->s_inodes[i], sb))
			continue;
		for (page = 0; page < CR_PAGES; page++)
			pagecache_writeback(&sb->s_inodes[i], page);
	}
}

void inode_evict_all(struct super_block *sb)
{
	unsigned int i;

	for (i = 0; i < CR_INODES; i++) {
		struct inode *inode = &sb->s_inodes[i];

		spin_lock(&sb->s_inode_lock);
		WRITE_ONCE(inode->i_freeing, inode->i_present);
		spin_unlock(&sb->s_inode_lock);
		if (READ_ONCE(inode->i_freeing))
			inode_evict(inode, false);
	}
}
