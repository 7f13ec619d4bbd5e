# SPDX-License-Identifier: GPL-2.0-only
"""The unit of `sanitize` (see fuzz/units.py): one start of a flavour's program, and what it said.

It carries bytes and numbers only. The program is that of the worker's own build, and is made there
if it is missing. What it plays comes through its standard input, so that nothing is left of a
worker that is killed; the program ends with its worker.
"""

import os
import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import build
from cleanrace import Scenario, Target
from fuzz import tsan

if TYPE_CHECKING:
    from fuzz.units import Life

INPUT = "/dev/stdin"  # the file that a program is told to read
STUCK_SECONDS = 300.0  # no process takes that long
# A report must not look like a violation, whose status is 1.
OPTIONS = {
    "ASAN_OPTIONS": "exitcode=99:detect_stack_use_after_return=1",
    "LSAN_OPTIONS": "exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


class Lacking(Exception):
    """Why a flavour cannot be played on this machine: one line for its user."""


def program(target: Target, flavour: str) -> Path:
    """The flavour's program of this very build, made of the local sources if it is not there."""
    there = target.module.with_name(f"replay-{flavour}")
    if there.exists():
        return there
    try:
        made = build.program(target.name, flavour=flavour)
    except build.BuildError as error:
        raise Lacking(f"{socket.gethostname()} cannot make {there.name}: {error}") from None
    if made != there:
        raise Lacking(
            f"{socket.gethostname()} has no {there.name} of build {target.build_id}: run"
            f" 'python fuzz/run.py sanitize --target {target.name}' there, with the same checkout"
            " and compiler (CC)"
        )
    return there


def sanitize(life: "Life", arguments: dict[str, Any]) -> dict[str, Any]:
    """What the program said; nothing if all is well, and in `lacks` why it cannot be played."""
    flavour, data = arguments["flavour"], bytes.fromhex(arguments["data"])
    try:
        path = program(life.target, flavour)
        if flavour == "tsan":
            return _threads(life, path, data, arguments)
        return _fibers(path, data, arguments)
    except Lacking as error:
        return {"lacks": str(error)}


def _fibers(path: Path, data: bytes, arguments: dict[str, Any]) -> dict[str, Any]:
    """A summary and the text of a report, unless it ended with what arguments["ends"] says."""
    ends = arguments["ends"]
    command = [*tsan.tied(), str(path), *arguments["command"]]
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            check=False,
            timeout=STUCK_SECONDS,
            env=os.environ | OPTIONS,
        )
    except subprocess.TimeoutExpired:
        return {"summary": "it hangs", "text": ""}
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    last = (out.splitlines() or [""])[-1]
    clean = done.returncode in (0, 1) and not err
    if clean and last and last.endswith(ends):
        return {}
    summary = summary_of(err) or f"status {done.returncode}, it ended with {last!r}"
    if clean:
        summary = f"another trace: {last!r} does not end with {ends!r}"
    return {"summary": summary, "text": err or out}


def _threads(life: "Life", path: Path, data: bytes, arguments: dict[str, Any]) -> dict[str, Any]:
    """What ThreadSanitizer said, and where this program has the kernel's text."""
    if "code" not in life.kept:
        life.kept["code"] = tsan.code_of(path, life.target)
    code = life.kept["code"]
    how = {"rounds": arguments["rounds"], "seed": arguments["seed"]}
    try:
        text = tsan.play(path, Scenario.from_bytes(data), **how)
    except tsan.TsanError as error:
        text = str(error)
        if "FATAL" in text:
            raise Lacking(text) from None
    return {"text": text, "start": code.start, "bytes": code.bytes}


def summary_of(text: str) -> str:
    """The line of a sanitizer's report that says it all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for wanted in (r"runtime error:", r"^SUMMARY:", r"ERROR:"):
        for line in lines:
            if re.search(wanted, line):
                return line
    return lines[0] if lines else ""
