// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache: a model of mm/filemap.c, mm/truncate.c, mm/vmscan.c and of
 * a file system's readpage and writepage, in Linux 5.10.
 *
 * Invariants: a page in a mapping's slot has one reference for being there;
 * it enters locked and not uptodate; it leaves under its lock and i_pages,
 * and the put or invalidate hook runs before the slot is emptied; whoever
 * locks a page after waiting checks its mapping again. Reclaim takes neither
 * s_umount nor any reference on the file system.
 *
 * Simplified: a page holds one number; a disk access is done at once by its
 * caller, with the page locked (read) or marked as under writeback (write), as
 * long as the kernel keeps it so; a lookup takes its reference under i_pages,
 * where the kernel does so under RCU and checks again, with the same outcome;
 * `mapping` is a marked store, since page_isolate() finds pages by it where the
 * kernel has a list.
 *
 * Left out: truncation of part of a page (invalidate_page while the page stays),
 * inodes reclaimed from their LRU list, and invalidate_inode_pages2. Each is one
 * more caller of a hook that has others here, under the same locks or more.
 */
#include "pagecache.h"

#include "filesystem.h"
#include "inode.h"
#include "judged.h"
#include "super.h"
#include "trace.h"

#include <linux/cleancache.h>

/* Every page of every file, and two more in the hands of each thread. */
#define PAGE_FRAMES	(CR_FS_MAX * CR_INODES * CR_PAGES + 3 * CR_THREADS_MAX)
#define PAGE_CACHED	1	/* the page cache's reference */

static struct page page_table[PAGE_FRAMES];
static uint8_t page_next[CR_THREADS_MAX];	/* see memory_alloc() */
static int page_lru;		/* names the LRU list's lock in the trace */

void pagecache_setup(void)
{
	memory_table(page_table, sizeof(page_table[0]), PAGE_FRAMES);
}

static void page_put(struct page *page)
{
	if (atomic_add_if_not(&page->refcount, -1, 0) == 1)
		memory_free(page, sizeof(*page));
}

static void page_flags(struct page *page, unsigned long clear, unsigned long set)
{
	atomic_and_or(&page->flags, ~clear, set);
}

/* Whoever finds the flag set finds what was filled in before, too: a barrier on each side. */
static bool page_is_uptodate(const struct page *page)
{
	return atomic_load_acquire(&page->flags) & PAGE_UPTODATE;
}

/* Between these two, callbacks are on behalf of the mapping's super block. */
kshim_step
static void hook_begin(const struct inode *inode, enum hook hook)
{
	trace_append(EVENT_HOOK, super_number(inode->i_sb), hook);
}

kshim_step
static void hook_end(const struct inode *inode, int result)
{
	trace_append(EVENT_HOOK_DONE, super_number(inode->i_sb), result);
}

/* The page at that index with a reference, or NULL. */
static struct page *page_find(struct inode *inode, pgoff_t index)
{
	struct page *page;

	spin_lock(&inode->i_data.i_pages);
	page = inode->i_data.slots[index];
	if (page)
		atomic_add_if_not(&page->refcount, 1, 0);
	spin_unlock(&inode->i_data.i_pages);
	return page;
}

/* Locks a page that was found; false if it has left the mapping meanwhile. */
static bool page_lock_mapped(struct page *page, struct inode *inode)
{
	lock_acquire(&page->lock, LOCK_WRITE);
	if (page->mapping == &inode->i_data)
		return true;
	lock_release(&page->lock, LOCK_WRITE);
	page_put(page);
	return false;
}

/* A locked page that nobody else can see yet, hence without decision points. */
kshim_step
static struct page *page_alloc(pgoff_t index)
{
	struct page *page = memory_alloc(page_table, sizeof(*page), PAGE_FRAMES, page_next);

	lock_init_held(&page->lock);
	page->index = index;
	page->refcount = PAGE_CACHED + 1;
	return page;
}

/* A new page at that index, locked and referenced; NULL if one is there. */
static struct page *page_add(struct inode *inode, pgoff_t index)
{
	struct page *page = page_alloc(index);
	bool added;

	spin_lock(&inode->i_data.i_pages);
	added = !inode->i_data.slots[index];
	if (added) {
		WRITE_ONCE(page->mapping, &inode->i_data);
		inode->i_data.slots[index] = page;
	}
	spin_unlock(&inode->i_data.i_pages);
	if (added)
		return page;
	memory_free(page, sizeof(*page));
	return NULL;
}

/* The page at that index, locked and referenced, uptodate or not. */
static struct page *page_grab(struct inode *inode, pgoff_t index)
{
	struct page *page;

	for (;;) {
		page = page_find(inode, index);
		if (page && page_lock_mapped(page, inode))
			return page;
		if (page)
			continue;
		page = page_add(inode, index);
		if (page)
			return page;
	}
}

/* ->readpage: the page is locked and not uptodate. */
static void page_fill(struct inode *inode, struct page *page, pgoff_t index)
{
	struct disk_file *disk = inode_disk(inode);
	int miss;

	if (index >= READ_ONCE(inode->i_size) || !disk->blocks[index]) {
		/* A hole or beyond the end: zeros, and not mapped to disk. */
		page_flags(page, 0, PAGE_UPTODATE);
		return;
	}
	page_flags(page, 0, PAGE_MAPPED);
	hook_begin(inode, HOOK_GET);
	miss = cleancache_get_page(page);
	hook_end(inode, miss);
	if (miss)
		page->content = disk->blocks[index];
	page_flags(page, 0, PAGE_UPTODATE);
}

/* A store of the content and the trace's word of it are one step. */
kshim_step
static void page_set_content(struct page *page, int location, u32 content)
{
	engine_step_begin(&page->content, ENGINE_PC());
	page->content = content;
	judged_content(location, EVENT_WRITE_MARKED);
	trace_append(EVENT_SET, location, content);
	engine_step_end(EVENT_WRITE_MARKED);
}

/* So are a load and its; -1 if the page turned out to be behind the end. */
kshim_step
static int64_t page_get_content(struct page *page, int location, bool inside)
{
	int64_t content;

	engine_step_begin(&page->content, ENGINE_PC());
	content = inside ? (int64_t)page->content : -1;
	judged_content(location, EVENT_READ_MARKED);
	trace_append(EVENT_READ_END, location, content);
	engine_step_end(EVENT_READ_MARKED);
	return content;
}

int64_t pagecache_read(struct inode *inode, pgoff_t index)
{
	struct page *page;
	int64_t content;

	if (index >= READ_ONCE(inode->i_size)) {
		judged_content(inode_location(inode, index), EVENT_READ_MARKED);
		trace_append(EVENT_READ_END, inode_location(inode, index), -1);
		return -1;
	}
	page = page_find(inode, index);
	if (!page || !page_is_uptodate(page)) {
		if (page)
			page_put(page);
		page = page_grab(inode, index);
		if (!page_is_uptodate(page))
			page_fill(inode, page, index);
		lock_release(&page->lock, LOCK_WRITE);
	}
	/* The size counts again once the page is known to be uptodate. */
	content = page_get_content(page, inode_location(inode, index),
				   index < READ_ONCE(inode->i_size));
	page_put(page);
	return content;
}

void pagecache_write(struct inode *inode, pgoff_t index, u32 content)
{
	struct page *page = page_grab(inode, index);

	atomic_wait_zero(&page->writeback);
	page_set_content(page, inode_location(inode, index), content);
	page_flags(page, 0, PAGE_UPTODATE | PAGE_DIRTY);
	if (index >= inode->i_size) {
		WRITE_ONCE(inode->i_size, index + 1);
		inode_disk(inode)->size = index + 1;
	}
	lock_release(&page->lock, LOCK_WRITE);
	page_put(page);
}

void pagecache_writeback(struct inode *inode, pgoff_t index)
{
	struct page *page = page_find(inode, index);
	u32 content;

	if (!page || !page_lock_mapped(page, inode))
		return;
	atomic_wait_zero(&page->writeback);
	if (!(READ_ONCE(page->flags) & PAGE_DIRTY)) {
		lock_release(&page->lock, LOCK_WRITE);
		page_put(page);
		return;
	}
	page_flags(page, PAGE_DIRTY, 0);
	atomic_add_if_not(&page->writeback, 1, 1);
	content = page->content;
	lock_release(&page->lock, LOCK_WRITE);
	inode_disk(inode)->blocks[index] = content;
	atomic_add_if_not(&page->writeback, -1, 0);
	page_put(page);
}

/*
 * Tells cleancache that the page is about to leave its mapping. The page lock
 * and i_pages are held: put if the page is what the disk has, else invalidate.
 */
static void page_tell_cleancache(struct inode *inode, struct page *page)
{
	unsigned long flags = READ_ONCE(page->flags);

	if ((flags & PAGE_UPTODATE) && (flags & PAGE_MAPPED)) {
		hook_begin(inode, HOOK_PUT);
		cleancache_put_page(page);
		hook_end(inode, 0);
	} else if (!planted(PLANTED_NO_INVALIDATE)) {
		hook_begin(inode, HOOK_INVALIDATE_PAGE);
		cleancache_invalidate_page(&inode->i_data, page);
		hook_end(inode, 0);
	}
}

static void page_leave(struct inode *inode, struct page *page)
{
	page_tell_cleancache(inode, page);
	inode->i_data.slots[page->index] = NULL;
	WRITE_ONCE(page->mapping, NULL);
}

/* Takes the page of that place off the LRU list, with a reference. */
kshim_step
static struct page *page_isolate(unsigned int fs, unsigned int number, pgoff_t index)
{
	struct page *found = NULL;
	unsigned int i;

	engine_step_begin(&page_lru, ENGINE_PC());
	for (i = 0; i < PAGE_FRAMES && !found; i++) {
		struct page *page = &page_table[i];
		const struct inode *inode;

		if (!memory_is_usable(page))
			continue;
		engine_step_also(&page->mapping, EVENT_READ_MARKED, ENGINE_PC());
		if (!page->mapping)
			continue;
		inode = page->mapping->host;
		if (page->index != index || inode->i_ino != number + 1 ||
		    inode->i_sb->s_type->number != fs)
			continue;
		engine_step_also(&page->refcount, EVENT_READ_MARKED, ENGINE_PC());
		if (page->refcount)
			found = page;
	}
	if (found) {
		engine_step_also(&found->refcount, EVENT_ATOMIC, ENGINE_PC());
		found->refcount++;
	}
	engine_step_end(EVENT_ATOMIC);
	return found;
}

/* The page is locked: whether it could be taken out of its mapping. */
static bool page_reclaim_locked(struct page *page)
{
	struct address_space *mapping = page->mapping;
	bool taken;

	if ((!mapping && !planted(PLANTED_RECLAIM_UNMAPPED)) || READ_ONCE(page->writeback))
		return false;
	spin_lock(&mapping->i_pages);
	/* Only the page cache and we may have references: freeze them. */
	taken = atomic_compare_exchange(&page->refcount, PAGE_CACHED + 1, 0,
					sizeof(page->refcount)) == PAGE_CACHED + 1;
	if (taken && (READ_ONCE(page->flags) & PAGE_DIRTY)) {
		atomic_add_if_not(&page->refcount, PAGE_CACHED + 1, -1);
		taken = false;
	}
	if (taken) {
		if (planted(PLANTED_NO_PAGE_LOCK))
			lock_release(&page->lock, LOCK_WRITE);
		page_leave(mapping->host, page);
		if (planted(PLANTED_NO_PAGE_LOCK))
			lock_acquire(&page->lock, LOCK_WRITE);
	}
	spin_unlock(&mapping->i_pages);
	return taken;
}

int pagecache_reclaim(unsigned int fs, unsigned int inode, pgoff_t index)
{
	struct page *page = page_isolate(fs, inode, index);
	bool taken;

	if (!page)
		return 0;
	if (!lock_try(&page->lock, LOCK_WRITE)) {
		page_put(page);
		return 0;
	}
	taken = page_reclaim_locked(page);
	lock_release(&page->lock, LOCK_WRITE);
	if (taken)
		memory_free(page, sizeof(*page));
	else
		page_put(page);
	return taken;
}

void pagecache_note_zero(struct inode *inode, pgoff_t first)
{
	if (first < CR_PAGES)
		judged_zero(inode_location(inode, 0), (unsigned int)first);
}

static void page_truncate(struct inode *inode, pgoff_t index)
{
	struct page *page;

	while ((page = page_find(inode, index))) {
		if (!page_lock_mapped(page, inode))
			continue;
		atomic_wait_zero(&page->writeback);
		page_flags(page, PAGE_DIRTY | PAGE_MAPPED, 0);
		spin_lock(&inode->i_data.i_pages);
		page_leave(inode, page);
		spin_unlock(&inode->i_data.i_pages);
		lock_release(&page->lock, LOCK_WRITE);
		page_put(page);
		page_put(page);
	}
}

void pagecache_truncate(struct inode *inode, pgoff_t first)
{
	pgoff_t index;

	for (index = first; index < CR_PAGES; index++)
		page_truncate(inode, index);
	if (planted(PLANTED_NO_INVALIDATE))
		return;
	hook_begin(inode, HOOK_INVALIDATE_INODE);
	cleancache_invalidate_inode(&inode->i_data);
	hook_end(inode, 0);
}
