# SPDX-License-Identifier: GPL-2.0-only
"""Any byte string is a scenario with a tape: no crash, no hang, no memory error."""

import subprocess

import pytest

import build

pytestmark = pytest.mark.long  # a build with sanitizers per target


@pytest.mark.parametrize(("target", "seed"), [("reference", 1), ("linux-5.10", 2)])
def test_random_bytes_run_clean_under_the_sanitizers(target: str, seed: int) -> None:
    program = build.program(target, flavour="asan")
    done = subprocess.run([program, "--random", "100000", str(seed)], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.split()
    assert told[:2] == ["inputs", "100000"]
    assert int(told[4]) > 90_000  # with operations


def test_the_sanitizers_are_in_that_program() -> None:
    program = build.program("reference", flavour="asan")
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    assert "__asan_init" in symbols
    assert "__ubsan_handle" in symbols
    # The file under test is the same as everywhere: instrumented by us, and by nobody else.
    assert "__tsan_read8" in symbols


def test_wrong_usage_is_one_line_and_status_2() -> None:
    program = build.program("reference", flavour="asan")
    for arguments in ([], ["--random", "1"], ["--nonsense"], ["no-such-file"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
