/* SPDX-License-Identifier: GPL-2.0-only */
/* Micro-operations on four plain objects, to test the engine by itself. */
#ifndef KERNEL_MICRO_H
#define KERNEL_MICRO_H

#include "kshim.h"

/* At set-up: what the spinlocks guard, and where the objects end. */
void micro_setup(void);

int64_t micro_perform(const struct scenario_op *op);

#endif
