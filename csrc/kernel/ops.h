/* SPDX-License-Identifier: GPL-2.0-only */
/* Performing the operations of a scenario, one thread's after another. */
#ifndef KERNEL_OPS_H
#define KERNEL_OPS_H

/* Performs all operations of that thread of the current scenario. */
void ops_thread(unsigned int thread);
/* Runs the initcall and marks free memory, once, before the first snapshot. */
void ops_setup(void);

#endif
