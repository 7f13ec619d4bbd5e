/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel as mm/cleancache.c and the code that plays its callers see it.
 *
 * Sorted by how far to trust it: DUPLICATED means what it means in the
 * kernel; CUSTOM has the kernel's name and contract, changed so that we can
 * watch it; STUBBED does nothing, with the reason why that is sound. Every
 * header under include/linux/ forwards here.
 */
#ifndef KERNEL_KSHIM_H
#define KERNEL_KSHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is frozen while a run is active is constant on this side. */
#define FROZEN const

#include "atomic.h"
#include "engine.h"
#include "lock.h"
#include "memory.h"
#include "planted.h"
#include "scenario.h"

/* ---- DUPLICATED ---------------------------------------------------- */

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint32_t __u32;
typedef uint64_t u64;
typedef unsigned long pgoff_t;
typedef unsigned long ino_t;
typedef unsigned short umode_t;
typedef struct { u8 b[16]; } uuid_t;

#define PAGE_SIZE	4096UL
#define EBUSY		16
#define ENOENT		2
#define EIO		5
#define ENXIO		6
#define EINVAL		22
#define FILEID_ROOT	0
#define FILEID_INVALID	0xff
#define FILEID_INO32_GEN	1
#define S_IRUGO		0444

#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)	(*(volatile __typeof__(x) *)&(x) = (value))

/* Super block flags; the others of the kernel's mean nothing here. */
#define SB_BORN		(1u << 29)

/* Page flags, changed by atomic bit operations only. */
#define PAGE_UPTODATE	1UL
#define PAGE_DIRTY	2UL
#define PAGE_MAPPED	4UL	/* mapped to disk: was read from a mapped block */

/* ---- CUSTOM -------------------------------------------------------- */

/*
 * Structures have the fields that cleancache.c names, with the kernel's types,
 * and those that the models need. Sizes are multiples of MEMORY_UNIT, so that
 * freed ones can be told from living ones.
 */
#define KSHIM_RED_ZONE	\
	char red_zone[MEMORY_RED_ZONE] __attribute__((aligned(MEMORY_UNIT)))

struct page;
struct inode;
struct super_block;
struct file_system_type;

struct address_space {
	struct inode *host;
	struct lock i_pages;		/* a spinlock, interrupts off */
	struct page *slots[CR_PAGES];
};

struct inode {
	ino_t i_ino;
	struct super_block *i_sb;
	u64 i_size;			/* in pages */
	u32 i_generation;
	int i_count;			/* under s_inode_lock */
	int i_present;			/* in core; under s_inode_lock */
	int i_unlinked;			/* under s_inode_lock */
	int i_freeing;			/* being evicted: lookups wait */
	struct lock i_rwsem;
	struct address_space i_data;
};

struct export_operations {
	int (*encode_fh)(struct inode *inode, __u32 *fh, int *words, struct inode *parent);
};

struct super_block {
	struct super_block *s_next;	/* super_blocks, under sb_lock */
	struct super_block *s_previous;
	int cleancache_poolid;
	int s_count;			/* under sb_lock */
	int s_active;			/* atomic */
	u32 s_flags;
	int s_hashed;			/* in its type's list; under sb_lock */
	struct lock s_umount;		/* rwsem */
	const void *s_root;
	struct file_system_type *s_type;
	const struct export_operations *s_export_op;
#ifdef CR_UUID_IS_BYTES
	u8 s_uuid[16];
#else
	uuid_t s_uuid;
#endif
	struct lock s_inode_lock;	/* a spinlock */
	struct inode s_inodes[CR_INODES];
	KSHIM_RED_ZONE;
} __attribute__((aligned(MEMORY_UNIT)));

struct page {
	unsigned long flags;
	struct address_space *mapping;
	pgoff_t index;
	struct lock lock;
	int refcount;
	int writeback;
	u32 content;			/* stands for 4096 bytes */
	KSHIM_RED_ZONE;
} __attribute__((aligned(MEMORY_UNIT)));

/* The page lock is asked as an assertion does: without a decision point. */
#define PageLocked(page)	lock_busy(&(page)->lock)

/* A failed assertion ends the run with a verdict instead of halting. */
#define VM_BUG_ON(condition)						\
	do {								\
		if (condition)						\
			engine_stop(VERDICT_ASSERTION);			\
	} while (0)
#define VM_BUG_ON_PAGE(condition, page)	do { (void)(page); VM_BUG_ON(condition); } while (0)

/*
 * Compare-and-exchange is one uninstrumented step, fully ordered where it
 * succeeds; two planted bugs replace it.
 */
uint64_t planted_cmpxchg(void *address, uint64_t old, uint64_t new);

static inline __attribute__((always_inline))
uint64_t kshim_cmpxchg(void *address, uint64_t old, uint64_t new, unsigned int bytes)
{
	if (planted(PLANTED_PREMISE_D) || planted(PLANTED_WEAK_CMPXCHG))
		return planted_cmpxchg(address, old, new);
	return atomic_compare_exchange(address, old, new, bytes);
}

#define cmpxchg(address, old, new)					\
	((__typeof__(*(address)))kshim_cmpxchg((address),		\
		(uint64_t)(old), (uint64_t)(new), sizeof(*(address))))

static inline void spin_lock(struct lock *lock)
{
	lock_acquire(lock, LOCK_SPIN);
}

static inline void spin_unlock(struct lock *lock)
{
	lock_release(lock, LOCK_SPIN);
}

/*
 * A function that is the inside of an engine step: not instrumented, so that
 * no other thread comes in between.
 */
#define kshim_step	__attribute__((no_sanitize_thread, noinline))

void iterate_supers(void (*visit)(struct super_block *, void *), void *argument);

/*
 * The initcall is kept by name instead of being put into a section: set-up
 * calls it once, before the first run, as the kernel does at boot.
 */
#define module_init(function)						\
	int (*const kshim_initcall)(void) = function;
extern int (*const kshim_initcall)(void);

/* debugfs files are remembered by name, so that tests can read the counters. */
struct dentry;
struct dentry *debugfs_create_dir(const char *name, struct dentry *parent);
void debugfs_create_u64(const char *name, umode_t mode, struct dentry *parent, u64 *value);

/* ---- STUBBED ------------------------------------------------------- */

/*
 * Placement hints for the linker. They move a variable or function to another
 * section; which one changes no value and no order.
 */
#define __read_mostly
#define __init

/* Makes a symbol visible to modules. All code is linked together here. */
#define EXPORT_SYMBOL(name)	extern int kshim_exported
#define EXPORT_SYMBOL_GPL(name)	extern int kshim_exported

/* Branch hints. */
#define likely(x)	(x)
#define unlikely(x)	(x)

#endif
