/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The oracle: judges a trace, and nothing but the trace.
 *
 * One function per property; each reports the event that violates it and the
 * earlier event that it conflicts with. It never looks at the code under test,
 * so it judges any engine's trace alike.
 */
#ifndef CHECK_ORACLE_H
#define CHECK_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace.h"
#include "verdict.h"

struct oracle_judgement {
	uint32_t verdicts;	/* bit set of all violations */
	uint32_t first;		/* the first one met, or VERDICT_OK */
	uint32_t violation;	/* its event's place in the trace */
	uint32_t cause;		/* the event it conflicts with */
};

/*
 * `complete`: every thread ended, so that what never happened never will;
 * `judged`: the verdicts that count.
 */
void oracle_check(const struct cr_event *trace, size_t length, bool complete,
		  uint32_t judged, struct oracle_judgement *judgement);

#endif
