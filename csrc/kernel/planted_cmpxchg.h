/* SPDX-License-Identifier: GPL-2.0-only */
/* The two planted bugs of compare-and-exchange; see planted.def. */
#ifndef KERNEL_PLANTED_CMPXCHG_H
#define KERNEL_PLANTED_CMPXCHG_H

/* Premise d broken: the store that was held back takes effect now. */
void planted_cmpxchg_settle(void);

#endif
