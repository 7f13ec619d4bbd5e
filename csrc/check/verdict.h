/* SPDX-License-Identifier: GPL-2.0-only */
/* The closed list of verdicts as an enum; verdicts.def explains each. */
#ifndef CHECK_VERDICT_H
#define CHECK_VERDICT_H

enum verdict {
#define VERDICT(name, text, group, sentence)	VERDICT_##name,
#include "verdicts.def"
#undef VERDICT
	VERDICT_COUNT
};

#endif
