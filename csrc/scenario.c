// SPDX-License-Identifier: GPL-2.0-only
/*
 * The total decoder: every byte string is a scenario.
 *
 * Format, version 2; what is past the end of the input reads as 0:
 *   0     bit 0 ids growing, bits 1-3 capacity code (0 unlimited, c: c - 1
 *         pages), bit 4 micro-operations
 *   1     bit i: the i-th init callback fails
 *   2     number of file systems - 1, modulo 6
 *   3-8   a file system each: bits 0-1 kind modulo 3, bit 2 handles,
 *         bits 3-4 uuid of a shared one
 *   9     number of operations, modulo 65
 *   10-   two bytes each: opcode modulo the table's size; then bits 0-2
 *         thread, bits 3-5 file system, backend or object (modulo
 *         their number), bit 6 inode, bit 7 page
 * Canonical bytes have 0 in every bit that means nothing, and operations
 * grouped by thread. Threads without operations do not exist.
 *
 * Page operations on a file system whose uuid another one shares are left out:
 * two nodes of one cluster volume need a cluster lock manager to keep their
 * page caches coherent, and there is none here.
 */
#include "scenario.h"

#include <string.h>

#define SCENARIO_HEADER	10
#define SCENARIO_COUNT_AT	9

struct scenario scenario;

static const char *const scenario_ops[] = {
#define OP(name, text, operands)	operands,
#define MICRO(name, text, operands)
#include "ops.def"
#undef OP
#undef MICRO
};

static const char *const scenario_micro_ops[] = {
#define OP(name, text, operands)
#define MICRO(name, text, operands)	operands,
#include "ops.def"
#undef OP
#undef MICRO
};

#define SCENARIO_COUNT(table)	(sizeof(table) / sizeof((table)[0]))

static bool scenario_has(const char *operands, char letter)
{
	return strchr(operands, letter) != NULL;
}

static bool scenario_is_twin(unsigned int number)
{
	unsigned int i;

	if (scenario.fs[number].kind != FS_SHARED)
		return false;
	for (i = 0; i < scenario.file_systems; i++)
		if (i != number && scenario.fs[i].kind == FS_SHARED &&
		    scenario.fs[i].uuid == scenario.fs[number].uuid)
			return true;
	return false;
}

static void scenario_decode_header(const uint8_t header[SCENARIO_HEADER])
{
	unsigned int code = header[0] >> 1 & 7;
	unsigned int i;

	memset(&scenario, 0, sizeof(scenario));
	scenario.capacity = SCENARIO_UNLIMITED;
	scenario.micro = header[0] >> 4 & 1;
	if (scenario.micro)
		return;
	scenario.ids_growing = header[0] & 1;
	if (code)
		scenario.capacity = (uint8_t)(code - 1);
	scenario.init_fails = header[1];
	scenario.file_systems = 1 + header[2] % CR_FS_MAX;
	for (i = 0; i < scenario.file_systems; i++) {
		struct scenario_fs *fs = &scenario.fs[i];

		fs->kind = (header[3 + i] & 3) % 3;
		fs->handles = header[3 + i] >> 2 & 1;
		fs->uuid = fs->kind == FS_SHARED ? header[3 + i] >> 3 & 3 : 0;
	}
}

/* Fills in one operation; false if it is one that is left out. */
static bool scenario_decode_op(uint8_t code, uint8_t operand, struct scenario_op *op)
{
	const char *operands;

	if (scenario.micro) {
		op->code = (uint8_t)(code % SCENARIO_COUNT(scenario_micro_ops));
		operands = scenario_micro_ops[op->code];
	} else {
		op->code = (uint8_t)(code % SCENARIO_COUNT(scenario_ops));
		operands = scenario_ops[op->code];
	}
	op->thread = operand & 7;
	op->target = operand >> 3 & 7;
	op->inode = scenario_has(operands, 'i') ? operand >> 6 & 1 : 0;
	op->page = scenario_has(operands, 'p') ? operand >> 7 & 1 : 0;
	/* There are as many backends as objects. */
	op->target %= scenario_has(operands, 's') ? scenario.file_systems : CR_BACKENDS_MAX;
	return !(scenario_has(operands, 'i') && scenario_is_twin(op->target));
}

/* Groups operations by thread and renumbers the threads that have any. */
static void scenario_group(const struct scenario_op *ops, unsigned int count)
{
	unsigned int thread, i;

	for (thread = 0; thread < CR_THREADS_MAX; thread++) {
		unsigned int before = scenario.ops_count;

		for (i = 0; i < count; i++) {
			if (ops[i].thread != thread)
				continue;
			scenario.ops[scenario.ops_count] = ops[i];
			scenario.ops[scenario.ops_count++].thread = scenario.threads;
		}
		if (scenario.ops_count > before)
			scenario.first[++scenario.threads] = scenario.ops_count;
	}
}

size_t scenario_decode(const uint8_t *bytes, size_t length)
{
	uint8_t padded[CR_SCENARIO_BYTES_MAX] = { 0 };
	struct scenario_op ops[CR_OPS_MAX];
	unsigned int i, wanted, count = 0;
	size_t taken;

	if (length)
		memcpy(padded, bytes, length < sizeof(padded) ? length : sizeof(padded));
	scenario_decode_header(padded);
	wanted = padded[SCENARIO_COUNT_AT] % (CR_OPS_MAX + 1);
	for (i = 0; i < wanted; i++)
		if (scenario_decode_op(padded[SCENARIO_HEADER + 2 * i],
				       padded[SCENARIO_HEADER + 2 * i + 1], &ops[count]))
			count++;
	scenario_group(ops, count);
	taken = SCENARIO_HEADER + 2 * wanted;
	return taken < length ? taken : length;
}

size_t scenario_encode(uint8_t *bytes)
{
	unsigned int i;

	memset(bytes, 0, SCENARIO_HEADER);
	bytes[0] = (uint8_t)(scenario.ids_growing | scenario.micro << 4);
	if (scenario.capacity != SCENARIO_UNLIMITED)
		bytes[0] |= (uint8_t)((scenario.capacity + 1) << 1);
	bytes[1] = scenario.init_fails;
	bytes[2] = scenario.micro ? 0 : scenario.file_systems - 1;
	for (i = 0; i < scenario.file_systems; i++) {
		const struct scenario_fs *fs = &scenario.fs[i];

		bytes[3 + i] = (uint8_t)(fs->kind | fs->handles << 2 | fs->uuid << 3);
	}
	bytes[SCENARIO_COUNT_AT] = scenario.ops_count;
	for (i = 0; i < scenario.ops_count; i++) {
		const struct scenario_op *op = &scenario.ops[i];

		bytes[SCENARIO_HEADER + 2 * i] = op->code;
		bytes[SCENARIO_HEADER + 2 * i + 1] =
			(uint8_t)(op->thread | op->target << 3 | op->inode << 6 | op->page << 7);
	}
	return SCENARIO_HEADER + 2 * (size_t)scenario.ops_count;
}
