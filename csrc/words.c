// SPDX-License-Identifier: GPL-2.0-only
/* The .def tables as text, for everyone outside C. */
#include "api.h"

struct word {
	const char *field[3];
};

static const struct word words_ops[] = {
#define OP(name, text, operands)	{ { text, operands, "" } },
#define MICRO(name, text, operands)
#include "ops.def"
#undef OP
#undef MICRO
};

static const struct word words_micro[] = {
#define OP(name, text, operands)
#define MICRO(name, text, operands)	{ { text, operands, "" } },
#include "ops.def"
#undef OP
#undef MICRO
};

static const struct word words_verdicts[] = {
#define VERDICT(name, text, group, sentence)	{ { text, group, sentence } },
#include "check/verdicts.def"
#undef VERDICT
};

static const struct word words_events[] = {
#define EVENT(name, text, object, value)	{ { text, object, value } },
#include "events.def"
#undef EVENT
};

static const struct word words_planted[] = {
#define PLANTED(name, text, sentence)	{ { text, sentence, "" } },
#include "kernel/planted.def"
#undef PLANTED
};

static const struct word words_marks[] = {
#define MARK(name, text, sentence)	{ { text, sentence, "" } },
#include "kernel/marks.def"
#undef MARK
};

#define WORDS(table)	{ table, sizeof(table) / sizeof((table)[0]) }

static const struct {
	const struct word *words;
	int count;
} words_tables[] = {
	[CR_TABLE_OPS] = WORDS(words_ops),
	[CR_TABLE_MICRO] = WORDS(words_micro),
	[CR_TABLE_VERDICTS] = WORDS(words_verdicts),
	[CR_TABLE_EVENTS] = WORDS(words_events),
	[CR_TABLE_PLANTED] = WORDS(words_planted),
	[CR_TABLE_MARKS] = WORDS(words_marks),
};

const char *cr_word(int table, int index, int field)
{
	if (table < 0 || table > CR_TABLE_MARKS || field < 0 || field > 2)
		return NULL;
	if (index < 0 || index >= words_tables[table].count)
		return NULL;
	return words_tables[table].words[index].field[field];
}
