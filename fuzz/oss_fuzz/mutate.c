// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mutator that a preloaded libFuzzer calls.
 *
 * Such a libFuzzer looks for LLVMFuzzerCustomMutator once, when the process
 * starts; a library that Python loads later is too late. So this one is
 * preloaded behind it, and asks whoever fuzz/preloaded.py has put into
 * cleanrace_mutate. It needs nothing of Python's: shells and loaders are
 * started with it, too.
 */
#include <stddef.h>
#include <stdint.h>

#define VISIBLE	__attribute__((visibility("default")))

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max) __attribute__((weak));
VISIBLE size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max,
				       unsigned int seed);

VISIBLE size_t (*cleanrace_mutate)(uint8_t *, size_t, size_t, unsigned int);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned int seed)
{
	if (cleanrace_mutate)
		return cleanrace_mutate(data, size, size_max, seed);
	return LLVMFuzzerMutate ? LLVMFuzzerMutate(data, size, size_max) : size;
}
