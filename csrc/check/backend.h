/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The recording backends: correct implementations of the cleancache contract
 * that tell the trace about every callback. Which one is registered is the
 * code under test's business.
 */
#ifndef CHECK_BACKEND_H
#define CHECK_BACKEND_H

struct cleancache_ops;

/* Forgets all pools and pages. */
void backend_reset(void);
/* The callbacks of backend number 0 to CR_BACKENDS_MAX - 1. */
struct cleancache_ops *backend_ops(unsigned int number);

#endif
