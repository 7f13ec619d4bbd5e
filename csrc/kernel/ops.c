// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations of ops.def as functions: what a user or the kernel itself
 * does to a file system, from entering to leaving the kernel. A result is 0 or
 * what the operation returns; negative numbers are kernel errors.
 */
#include "ops.h"

#include "backend.h"
#include "content.h"
#include "filesystem.h"
#include "inode.h"
#include "judged.h"
#include "kshim.h"
#include "micro.h"
#include "pagecache.h"
#include "super.h"
#include "trace.h"

#include <linux/cleancache.h>

enum op_code {
#define OP(name, text, operands)	OP_##name,
#define MICRO(name, text, operands)
#include "ops.def"
#undef OP
#undef MICRO
};

/* An open file: an active reference on the file system and one on the inode. */
struct open_file {
	struct super_block *sb;
	struct inode *inode;
};

static bool op_open(struct open_file *file, const struct scenario_op *op, bool create)
{
	file->sb = filesystem_open(op->target);
	if (!file->sb)
		return false;
	file->inode = inode_get(file->sb, op->inode, create);
	if (!file->inode)
		deactivate_super(file->sb);
	return file->inode;
}

static void op_close(struct open_file *file)
{
	inode_put(file->inode);
	deactivate_super(file->sb);
}

static int64_t op_register(const struct scenario_op *op)
{
	int result;

	trace_append(EVENT_REGISTER, op->target, 0);
	result = cleancache_register_ops(backend_ops(op->target));
	judged_registered(op->target, result);
	if (result == -EBUSY)
		mark(MARK_EBUSY);
	return result;
}

static int64_t op_read(const struct scenario_op *op)
{
	struct open_file file;
	int64_t content;

	if (!op_open(&file, op, false))
		return -ENOENT;
	judged_read_begins(inode_location(file.inode, op->page));
	content = pagecache_read(file.inode, op->page);
	op_close(&file);
	return content;
}

static int64_t op_write(const struct scenario_op *op)
{
	struct open_file file;
	int location;

	if (!op_open(&file, op, true))
		return -ENOENT;
	location = inode_location(file.inode, op->page);
	lock_acquire(&file.inode->i_rwsem, LOCK_WRITE);
	pagecache_write(file.inode, op->page,
			CONTENT_OF_OP(location, op - scenario.ops));
	lock_release(&file.inode->i_rwsem, LOCK_WRITE);
	op_close(&file);
	return 0;
}

static int64_t op_writeback(const struct scenario_op *op)
{
	struct open_file file;

	if (!op_open(&file, op, false))
		return -ENOENT;
	pagecache_writeback(file.inode, op->page);
	op_close(&file);
	return 0;
}

/* Shrinks the file to `page` pages: size first, then cache, then blocks. */
static int64_t op_truncate(const struct scenario_op *op)
{
	struct open_file file;
	struct disk_file *disk;
	pgoff_t page;

	if (!op_open(&file, op, false))
		return -ENOENT;
	lock_acquire(&file.inode->i_rwsem, LOCK_WRITE);
	if (op->page < file.inode->i_size) {
		disk = inode_disk(file.inode);
		disk->size = op->page;
		WRITE_ONCE(file.inode->i_size, op->page);
		pagecache_note_zero(file.inode, op->page);
		pagecache_truncate(file.inode, op->page);
		for (page = op->page; page < CR_PAGES; page++)
			disk->blocks[page] = 0;
	}
	lock_release(&file.inode->i_rwsem, LOCK_WRITE);
	op_close(&file);
	return 0;
}

static int64_t op_delete(const struct scenario_op *op)
{
	struct open_file file;

	if (!op_open(&file, op, false))
		return -ENOENT;
	spin_lock(&file.sb->s_inode_lock);
	file.inode->i_unlinked = 1;
	spin_unlock(&file.sb->s_inode_lock);
	op_close(&file);
	return 0;
}

static int64_t op_perform(const struct scenario_op *op)
{
	switch ((enum op_code)op->code) {
	case OP_REGISTER:
		return op_register(op);
	case OP_MOUNT:
		return filesystem_mount(op->target, false);
	case OP_MOUNT_FAIL:
		return filesystem_mount(op->target, true);
	case OP_UNMOUNT:
		return filesystem_unmount(op->target);
	case OP_REMOUNT:
		return filesystem_remount(op->target);
	case OP_READ:
		return op_read(op);
	case OP_WRITE:
		return op_write(op);
	case OP_WRITEBACK:
		return op_writeback(op);
	case OP_RECLAIM:
		return pagecache_reclaim(op->target, op->inode, op->page);
	case OP_TRUNCATE:
		return op_truncate(op);
	case OP_DELETE:
		return op_delete(op);
	}
	return -EINVAL;
}

void ops_thread(unsigned int thread)
{
	unsigned int i;

	for (i = scenario.first[thread]; i < scenario.first[thread + 1]; i++) {
		const struct scenario_op *op = &scenario.ops[i];
		int64_t result;

		trace_append(EVENT_OP_BEGIN, (int)i, 0);
		result = scenario.micro ? micro_perform(op) : op_perform(op);
		/* A micro-operation is part of a section, not a whole one. */
		if (!scenario.micro)
			lock_expect_none();
		trace_append(EVENT_OP_END, (int)i, result);
	}
}

void ops_setup(void)
{
	super_setup();
	pagecache_setup();
	micro_setup();
	kshim_initcall();
}
