/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The happens-before order of an execution's steps, and from it the threads
 * that have to be explored from which nodes.
 */
#ifndef ENGINE_ORDER_H
#define ENGINE_ORDER_H

/* Looks at the new steps of the execution that just ended. */
void order_execution(void);

#endif
