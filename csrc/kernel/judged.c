// SPDX-License-Identifier: GPL-2.0-only
/* The words behind judged.h; their values mean nothing. */
#include "judged.h"

#include "trace.h"

static int judged_word;
static int judged_remounts[CR_THREADS_MAX];
static int judged_places[CR_FS_MAX][CR_INODES][CR_PAGES];

kshim_step
static int *judged_place(int location)
{
	return &judged_places[location >> 8][location >> 4 & 1][location & 1];
}

kshim_step
bool judged_is_open(const int *pool)
{
	engine_step_also(pool, EVENT_READ_MARKED, ENGINE_PC());
	return *pool < 0;
}

kshim_step
void judged_super(bool open)
{
	if (open)
		engine_step_also(&judged_word, EVENT_READ_MARKED, ENGINE_PC());
}

kshim_step
void judged_remount(bool begins)
{
	engine_step_also(&judged_remounts[engine_self()], EVENT_WRITE, ENGINE_PC());
	judged_remounts[engine_self()] = begins;
}

/* A mount's init comes before the mount counts, a registration's before its own end. */
kshim_step
void judged_init(void)
{
	if (judged_remounts[engine_self()])
		engine_step_also(&judged_word, EVENT_READ_MARKED, ENGINE_PC());
}

kshim_step
void judged_content(int location, enum event_kind kind)
{
	engine_step_also(judged_place(location), kind, ENGINE_PC());
}

/* Only the winner's return promises anything. */
kshim_step
void judged_registered(int backend, int result)
{
	engine_step_begin(&judged_word, ENGINE_PC());
	trace_append(EVENT_REGISTERED, backend, result);
	engine_step_end(result ? EVENT_READ_MARKED : EVENT_WRITE_MARKED);
}

kshim_step
void judged_read_begins(int location)
{
	engine_step_begin(judged_place(location), ENGINE_PC());
	trace_append(EVENT_READ_BEGIN, location, 0);
	engine_step_end(EVENT_READ_MARKED);
}

kshim_step
void judged_zero(int location, unsigned int first)
{
	unsigned int page;

	engine_step_begin(judged_place(location | (int)first), ENGINE_PC());
	for (page = first; page < CR_PAGES; page++) {
		judged_content(location | (int)page, EVENT_WRITE_MARKED);
		trace_append(EVENT_ZERO, location | (int)page, 0);
	}
	engine_step_end(EVENT_WRITE_MARKED);
}
