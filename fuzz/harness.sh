#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# What libFuzzer starts again for -fork, -merge, -minimize_crash and -jobs (see harness.py).
exec "${CLEANRACE_PYTHON:-python3}" "$(dirname "$0")/harness.py" "$@"
