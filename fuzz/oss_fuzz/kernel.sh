#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Downloads the two files of Linux 5.10 that are fuzzed from the kernel's own git host into a
# folder, and ends with an error unless they are exactly what build.py knows (KNOWN).
set -eu

tree=https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/plain
into=$1

while read -r sum file; do
	mkdir -p "$(dirname "$into/$file")"
	curl --fail --silent --show-error --location --retry 3 \
		--output "$into/$file" "$tree/$file?h=v5.10"
	echo "$sum  $into/$file" | sha256sum --check --strict -
done <<'END'
55993e1a17fe82611e0764febb77935f0e5a34c91875a06c0491ee3cacd2ebd4 mm/cleancache.c
75bcff622d59c56100972b195e74d1bd42ca50a6aa902355629bd3c56f69c0e8 include/linux/cleancache.h
END
