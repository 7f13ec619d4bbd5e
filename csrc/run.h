/* SPDX-License-Identifier: GPL-2.0-only */
/* What run.c lends to exploring.c: one run of the decoded scenario, as configured. */
#ifndef CLEANRACE_RUN_H
#define CLEANRACE_RUN_H

#include "api.h"
#include "oracle.h"

/* -1: an argument is out of range. */
int run_configure(const struct cr_config *config);
/* Runs the decoded scenario once with the loaded tape, and judges it. */
void run_once(uint64_t schedule, uint32_t judged, struct oracle_judgement *judgement);
/* Nanoseconds of a clock that only goes forward. */
uint64_t run_clock(void);

#endif
