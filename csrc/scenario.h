/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The scenario of the current run, decoded: which file systems and backends
 * exist and what each thread does, in order. Frozen while a run is active.
 */
#ifndef CLEANRACE_SCENARIO_H
#define CLEANRACE_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

enum fs_kind { FS_LOCAL, FS_SHARED, FS_NONE };

#define SCENARIO_UNLIMITED	0xff

struct scenario_fs {
	uint8_t kind;		/* enum fs_kind */
	uint8_t handles;	/* keys are exported file handles */
	uint8_t uuid;		/* of a shared one */
};

struct scenario_op {
	uint8_t code;		/* position in ops.def's table */
	uint8_t thread;
	uint8_t target;		/* file system, backend or micro object */
	uint8_t inode;
	uint8_t page;
};

struct scenario {
	uint8_t micro;		/* operations are those of MICRO() */
	uint8_t ids_growing;
	uint8_t capacity;	/* pages, or SCENARIO_UNLIMITED */
	uint8_t init_fails;	/* bit i: the i-th init callback fails */
	uint8_t file_systems;
	uint8_t threads;
	uint8_t ops_count;
	struct scenario_fs fs[CR_FS_MAX];
	/* Thread t's operations are ops[first[t]] to ops[first[t + 1] - 1]. */
	uint8_t first[CR_THREADS_MAX + 1];
	struct scenario_op ops[CR_OPS_MAX];
};

/*
 * FROZEN is const on the kernel side: nobody may write there, and the compiler
 * then leaves the reads uninstrumented, which need no decision point.
 */
#ifndef FROZEN
#define FROZEN
#endif

extern FROZEN struct scenario scenario;

/* Decodes any byte string; returns how many bytes it took. */
size_t scenario_decode(const uint8_t *bytes, size_t length);

/* Writes the canonical bytes of the current scenario; returns their number. */
size_t scenario_encode(uint8_t *bytes);

#endif
