/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Events whose order the oracle judges although no memory of the kernel's
 * orders them: that a registration has returned, and what a page contains from
 * now on. Each is an access of the current step to a word of its own, so that
 * two runs are equivalent only if the oracle cannot tell them apart.
 */
#ifndef KERNEL_JUDGED_H
#define KERNEL_JUDGED_H

#include "kshim.h"

/*
 * Whether a registration's end still depends on that super block, which has no
 * pool. Asked while s_umount is held, like all who change the pool id do: what
 * is settled then stays so.
 */
bool judged_is_open(const int *pool);
/* The step makes such a super block one that has to have a pool, or lets it die. */
void judged_super(bool open);
/* Until the hook that is about to be called returns, inits are a third party's: a remount's. */
void judged_remount(bool begins);
/* The step calls an init callback. */
void judged_init(void);
/* The step changes (or asks) the content of that place of a file. */
void judged_content(int location, enum event_kind kind);

/* Steps of their own: the end of a registration, a read's begin, zeros from `first` on. */
void judged_registered(int backend, int result);
void judged_read_begins(int location);
void judged_zero(int location, unsigned int first);

#endif
