/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Atomic operations of the kernel, each one step with one decision point.
 *
 * They are functions, and not instrumented: an instrumented macro would let
 * other threads in between its own temporaries.
 */
#ifndef ENGINE_ATOMIC_H
#define ENGINE_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/* Stores `new` if *address == old; returns what was there. 1, 2, 4 or 8 bytes. */
uint64_t atomic_compare_exchange(void *address, uint64_t old, uint64_t new, unsigned int bytes);

/* Adds unless *address == unless; returns the old value. */
int atomic_add_if_not(int *address, int add, int unless);

/* (*address & and) | or; returns the old value. */
unsigned long atomic_and_or(unsigned long *address, unsigned long and, unsigned long or);

/* A load after which everything before the last atomic operation there has happened. */
unsigned long atomic_load_acquire(const unsigned long *address);

/* Waits until *address == 0, without changing it. */
void atomic_wait_zero(int *address);

#endif
