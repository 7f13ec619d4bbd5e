// SPDX-License-Identifier: GPL-2.0-only
/*
 * Backends that store one number per page.
 *
 * Contract (Documentation/vm/cleancache.rst): ephemeral, a miss is always
 * legal; a handle is pool id, key and index; a successful get takes the page
 * out of a private pool and leaves it in a shared one; a put replaces what the
 * handle had, and where there is no room the old data goes as well; equal
 * uuids share a pool, which lives until its last user gives it back; a pool id
 * that was given back may be handed out again.
 *
 * Each callback is one step with a decision point before it, as if the backend
 * took one lock of its own: finer interleavings inside a backend are the
 * backend's correctness, not cleancache's. Only put_page and invalidate_page
 * must not sleep, since they run with interrupts off. A callback that names a pool which
 * does not exist changes nothing; the oracle judges it.
 */
#include "backend.h"

#include <string.h>

#include "judged.h"
#include "kshim.h"
#include "trace.h"
#include "trail.h"

#include <linux/cleancache.h>

/* A thread has no more init callbacks than that: one an operation, and those of a registration. */
#define BACKEND_PART	(CR_POOLS_MAX / CR_THREADS_MAX)
#define BACKEND_PAGES	64
#define BACKEND_UUIDS	4
#define BACKEND_WORDS	64

struct backend_pool {
	u8 users;		/* 0: not handed out */
	u8 shared;
	u8 uuid;
};

struct backend_page {
	int pool;
	struct cleancache_filekey key;
	pgoff_t index;
	u32 content;
};

struct backend {
	struct backend_pool pools[CR_POOLS_MAX];
	unsigned int pools_used;	/* no id from here on has been handed out */
	u8 fresh[CR_THREADS_MAX];	/* new ids of each thread */
	u32 back[CR_POOLS_MAX];	/* ids given back, the last one on top */
	unsigned int back_used;
	struct backend_page pages[BACKEND_PAGES];
	unsigned int pages_used;
};

static struct backend backend_table[CR_BACKENDS_MAX];
/* Init callbacks in this run: a whole word, since those are what is saved. */
static uint64_t backend_inits;

/*
 * Words in the kernel's data that name what a callback touches, so that two
 * callbacks commute exactly if the backend could not tell their order.
 */
static struct {
	int callback[CR_BACKENDS_MAX];	/* names the step; conflicts with nothing */
	int ids;			/* which ids were given back */
	int store;			/* room for pages, if it is limited */
	int uuid[BACKEND_UUIDS];	/* shared pools */
	int pool[BACKEND_WORDS];	/* who has it; several pools may have one word */
	int page[BACKEND_WORDS];
} backend_words __attribute__((section("cr_kdata"))) = { .ids = 0 };

void backend_reset(void)
{
	unsigned int i;

	for (i = 0; i < CR_BACKENDS_MAX; i++) {
		struct backend *backend = &backend_table[i];

		memset(backend->pools, 0, backend->pools_used * sizeof(backend->pools[0]));
		memset(backend->fresh, 0, sizeof(backend->fresh));
		backend->pools_used = 0;
		backend->back_used = 0;
		backend->pages_used = 0;
	}
	backend_inits = 0;
}

/* What is about to change may have to be taken back. */
#define backend_changes(what)	trail_save_range(what, sizeof(*(what)))

static void backend_event(enum event_kind kind, unsigned int number, int pool,
			  const struct cleancache_filekey *key, pgoff_t index, u32 low)
{
	unsigned int inode = key ? key->u.fh[0] - 1 : 0;

	trace_append(kind, pool, EVENT_VALUE(number, inode & 0xff, index & 0xff, low));
}

static struct backend_pool *backend_pool(unsigned int number, int pool)
{
	struct backend *backend = &backend_table[number];

	if (pool < 0 || (unsigned int)pool >= backend->pools_used ||
	    !backend->pools[pool].users)
		return NULL;
	return &backend->pools[pool];
}

static int backend_shared_pool(const struct backend *backend, unsigned int uuid)
{
	unsigned int i;

	for (i = 0; i < backend->pools_used; i++)
		if (backend->pools[i].users && backend->pools[i].shared &&
		    backend->pools[i].uuid == uuid)
			return (int)i;
	return -1;
}

static void backend_touch(const int *word, bool changes)
{
	engine_step_also(word, changes ? EVENT_WRITE_MARKED : EVENT_READ_MARKED, ENGINE_PC());
}

static void backend_touch_pool(int pool, bool changes)
{
	backend_touch(&backend_words.pool[(unsigned int)pool % BACKEND_WORDS], changes);
}

/* The page of that handle, and the room that all pages share where it is limited. */
static void backend_touch_page(int pool, const struct cleancache_filekey *key, pgoff_t index)
{
	unsigned int word = (unsigned int)pool << 2 | (key->u.fh[0] & 1) << 1 | (index & 1);

	backend_touch(&backend_words.page[word % BACKEND_WORDS], true);
	if (scenario.capacity != SCENARIO_UNLIMITED)
		backend_touch(&backend_words.store, true);
}

/*
 * An id that was given back, the last one first, or else a new one: every
 * eighth belongs to the calling thread. Any id is legal; with ids of their own,
 * two super blocks that get new ones get the same in either order.
 */
static int backend_free_id(struct backend *backend)
{
	unsigned int self = engine_self();

	if (!scenario.ids_growing) {
		backend_touch(&backend_words.ids, backend->back_used);
		backend_changes(&backend->back_used);
		if (backend->back_used)
			return backend->back[--backend->back_used];
	}
	if (backend->fresh[self] == BACKEND_PART)
		engine_stop(VERDICT_OVERFLOW);
	backend_changes(&backend->fresh);
	return (int)(backend->fresh[self]++ * CR_THREADS_MAX + self);
}

static int backend_hand_out(unsigned int number, bool shared, unsigned int uuid)
{
	struct backend *backend = &backend_table[number];
	uint64_t call;
	int id = -1;

	backend_changes(&backend_inits);
	call = backend_inits++;
	judged_init();
	if (scenario.init_fails)
		backend_touch(&backend_words.ids, true);
	if (call < 8 && scenario.init_fails >> call & 1)
		return -1;
	if (shared) {
		backend_touch(&backend_words.uuid[uuid % BACKEND_UUIDS], true);
		id = backend_shared_pool(backend, uuid);
	}
	if (id < 0)
		id = backend_free_id(backend);
	backend_changes(&backend->pools_used);
	backend_changes(&backend->pools[id]);
	if ((unsigned int)id >= backend->pools_used)
		backend->pools_used = (unsigned int)id + 1;
	backend_touch_pool(id, true);
	backend->pools[id].users++;
	backend->pools[id].shared = shared;
	backend->pools[id].uuid = (u8)uuid;
	return id;
}

/* The page of that handle, or NULL. */
static struct backend_page *backend_find(struct backend *backend, int pool,
					 const struct cleancache_filekey *key, pgoff_t index)
{
	unsigned int i;

	for (i = 0; i < backend->pages_used; i++) {
		struct backend_page *page = &backend->pages[i];

		if (page->pool == pool && page->index == index &&
		    !memcmp(&page->key, key, sizeof(*key)))
			return page;
	}
	return NULL;
}

static void backend_drop(struct backend *backend, struct backend_page *page)
{
	backend_changes(page);
	backend_changes(&backend->pages_used);
	*page = backend->pages[--backend->pages_used];
}

static int backend_init(unsigned int number, const void *pc)
{
	int id;

	lock_may_sleep();
	engine_step_begin(&backend_words.callback[number], pc);
	id = backend_hand_out(number, false, 0);
	backend_event(EVENT_CB_INIT, number, id, NULL, 0, 0);
	engine_step_end(EVENT_READ_MARKED);
	return id;
}

static int backend_init_shared(unsigned int number, const u8 *uuid, const void *pc)
{
	int id;

	lock_may_sleep();
	engine_step_begin(&backend_words.callback[number], pc);
	id = backend_hand_out(number, true, uuid[0]);
	backend_event(EVENT_CB_INIT_SHARED, number, id, NULL, 0, uuid[0]);
	engine_step_end(EVENT_READ_MARKED);
	return id;
}

static int backend_get(unsigned int number, int pool, const struct cleancache_filekey *key,
		       pgoff_t index, struct page *page, const void *pc)
{
	struct backend *backend = &backend_table[number];
	struct backend_page *found = NULL;
	const struct backend_pool *owner;

	lock_may_sleep();
	engine_step_begin(&backend_words.callback[number], pc);
	backend_touch_pool(pool, false);
	backend_touch_page(pool, key, index);
	owner = backend_pool(number, pool);
	if (owner)
		found = backend_find(backend, pool, key, index);
	backend_event(EVENT_CB_GET, number, pool, key, index, found ? found->content : 0);
	mark(found ? MARK_HIT : MARK_MISS);
	if (found) {
		engine_step_also(&page->content, EVENT_WRITE_MARKED, ENGINE_PC());
		page->content = found->content;
		if (!owner->shared)
			backend_drop(backend, found);
	}
	engine_step_end(EVENT_READ_MARKED);
	return found ? 0 : -1;
}

static void backend_put(unsigned int number, int pool, const struct cleancache_filekey *key,
			pgoff_t index, const struct page *page, const void *pc)
{
	struct backend *backend = &backend_table[number];
	struct backend_page *slot;
	unsigned int room = scenario.capacity < BACKEND_PAGES ? scenario.capacity : BACKEND_PAGES;

	engine_step_begin(&backend_words.callback[number], pc);
	backend_touch_pool(pool, false);
	backend_touch_page(pool, key, index);
	engine_step_also(&page->content, EVENT_READ_MARKED, ENGINE_PC());
	backend_event(EVENT_CB_PUT, number, pool, key, index, page->content);
	mark(MARK_PUT);
	if (backend_pool(number, pool)) {
		slot = backend_find(backend, pool, key, index);
		if (!slot && backend->pages_used < room) {
			backend_changes(&backend->pages_used);
			slot = &backend->pages[backend->pages_used++];
			backend_changes(slot);
			slot->pool = pool;
			slot->key = *key;
			slot->index = index;
		}
		if (slot) {
			backend_changes(&slot->content);
			slot->content = page->content;
		}
	}
	engine_step_end(EVENT_READ_MARKED);
}

static void backend_invalidate_page(unsigned int number, int pool,
				    const struct cleancache_filekey *key, pgoff_t index,
				    const void *pc)
{
	struct backend_page *found;

	engine_step_begin(&backend_words.callback[number], pc);
	backend_touch_pool(pool, false);
	backend_touch_page(pool, key, index);
	backend_event(EVENT_CB_INVALIDATE_PAGE, number, pool, key, index, 0);
	found = backend_find(&backend_table[number], pool, key, index);
	if (found)
		backend_drop(&backend_table[number], found);
	engine_step_end(EVENT_READ_MARKED);
}

static void backend_invalidate_inode(unsigned int number, int pool,
				     const struct cleancache_filekey *key, const void *pc)
{
	struct backend *backend = &backend_table[number];
	unsigned int i;

	lock_may_sleep();
	engine_step_begin(&backend_words.callback[number], pc);
	backend_touch_pool(pool, false);
	for (i = 0; i < CR_PAGES; i++)
		backend_touch_page(pool, key, i);
	backend_event(EVENT_CB_INVALIDATE_INODE, number, pool, key, 0, 0);
	for (i = backend->pages_used; i--;)
		if (backend->pages[i].pool == pool &&
		    !memcmp(&backend->pages[i].key, key, sizeof(*key)))
			backend_drop(backend, &backend->pages[i]);
	engine_step_end(EVENT_READ_MARKED);
}

/* The pool's last user is gone: so are its pages, and the id is free. */
static void backend_surrender(struct backend *backend, int pool)
{
	unsigned int i;

	if (scenario.capacity != SCENARIO_UNLIMITED)
		backend_touch(&backend_words.store, true);
	for (i = backend->pages_used; i--;)
		if (backend->pages[i].pool == pool)
			backend_drop(backend, &backend->pages[i]);
	if (scenario.ids_growing)
		return;
	backend_touch(&backend_words.ids, true);
	backend_changes(&backend->back_used);
	backend_changes(&backend->back[backend->back_used]);
	backend->back[backend->back_used++] = (u32)pool;
}

static void backend_invalidate_fs(unsigned int number, int pool, const void *pc)
{
	struct backend *backend = &backend_table[number];
	struct backend_pool *given_back;

	lock_may_sleep();
	engine_step_begin(&backend_words.callback[number], pc);
	backend_touch_pool(pool, true);
	backend_event(EVENT_CB_INVALIDATE_FS, number, pool, NULL, 0, 0);
	given_back = backend_pool(number, pool);
	if (given_back && given_back->shared)
		backend_touch(&backend_words.uuid[given_back->uuid % BACKEND_UUIDS], true);
	if (given_back) {
		backend_changes(given_back);
		if (!--given_back->users)
			backend_surrender(backend, pool);
	}
	engine_step_end(EVENT_READ_MARKED);
}

/*
 * cleancache's callbacks do not say which backend they are for: a set each.
 * The uuid arrives as char * up to 4.12 and as uuid_t * since; both point to
 * 16 bytes, and the cast at the table makes one function fit both.
 */
#define BACKEND(n)							\
	static int backend_init_##n(size_t bytes)			\
	{								\
		(void)bytes;						\
		return backend_init(n, ENGINE_PC());			\
	}								\
	static int backend_init_shared_##n(const void *uuid, size_t bytes) \
	{								\
		(void)bytes;						\
		return backend_init_shared(n, uuid, ENGINE_PC());	\
	}								\
	static int backend_get_##n(int pool, struct cleancache_filekey key, \
				   pgoff_t index, struct page *page)	\
	{								\
		return backend_get(n, pool, &key, index, page, ENGINE_PC()); \
	}								\
	static void backend_put_##n(int pool, struct cleancache_filekey key, \
				    pgoff_t index, struct page *page)	\
	{								\
		backend_put(n, pool, &key, index, page, ENGINE_PC());	\
	}								\
	static void backend_invalidate_page_##n(int pool,		\
			struct cleancache_filekey key, pgoff_t index)	\
	{								\
		backend_invalidate_page(n, pool, &key, index, ENGINE_PC()); \
	}								\
	static void backend_invalidate_inode_##n(int pool,		\
			struct cleancache_filekey key)			\
	{								\
		backend_invalidate_inode(n, pool, &key, ENGINE_PC());	\
	}								\
	static void backend_invalidate_fs_##n(int pool)			\
	{								\
		backend_invalidate_fs(n, pool, ENGINE_PC());		\
	}

#define BACKEND_OPS(n) {						\
	.init_fs = backend_init_##n,					\
	.init_shared_fs = (__typeof__(((struct cleancache_ops *)0)->init_shared_fs)) \
			  (void (*)(void))backend_init_shared_##n,	\
	.get_page = backend_get_##n,					\
	.put_page = backend_put_##n,					\
	.invalidate_page = backend_invalidate_page_##n,			\
	.invalidate_inode = backend_invalidate_inode_##n,		\
	.invalidate_fs = backend_invalidate_fs_##n,			\
}

BACKEND(0)
BACKEND(1)
BACKEND(2)
BACKEND(3)

static struct cleancache_ops backend_ops_table[CR_BACKENDS_MAX] = {
	BACKEND_OPS(0), BACKEND_OPS(1), BACKEND_OPS(2), BACKEND_OPS(3),
};

struct cleancache_ops *backend_ops(unsigned int number)
{
	return &backend_ops_table[number];
}
