#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Prepare what OSS-Fuzz's build packs, in a folder; build.sh calls this.

    python3 fuzz/oss_fuzz/pack.py --kernel DIR --into DIR

packed/ is for inside of the executable: the target's module, the record of its build, and the
library of mutate.c. Beside it: seed corpus, dictionary and options, as OSS-Fuzz names them. The
kernel's two files must be those of build.py's KNOWN. CC, CFLAGS, LDFLAGS and SANITIZER are
OSS-Fuzz's. The sanitizer is for the engine's side: the kernel's is compiled in its one way, here
too. Nothing is linked to a sanitizer's runtime: the process that loads the module has it.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import build  # noqa: E402
from cleanrace import words  # noqa: E402
from fuzz import corpus, preloaded  # noqa: E402

NAME = "fuzz_cleancache"
VERSION = "5.10"  # the kernel's, whose files KNOWN has
SANITIZERS = {
    "address": "-fsanitize=address -fno-sanitize-recover=all",
    "undefined": "-fsanitize=undefined -fno-sanitize-recover=all",
    "coverage": "",
    "introspector": "",
    "none": "",
}
OPTIONS = "[libfuzzer]\nmax_len = 1024\ntimeout = 25\n"
THREADS, PLACES = 3, 2  # in the dictionary; mutations make others of them


def checked(kernel: Path) -> build.Source:
    """The kernel's files, if they are those that are known."""
    known = build.KNOWN[build.DEFAULT][2]
    for file in (build.UNIT, build.HEADER):
        found = build.sha256(kernel / file)
        if found != known[file]:
            raise build.BuildError(f"{kernel / file} has sha256 {found}, expected {known[file]}")
    return build.Source(name=build.DEFAULT, version=VERSION, kind="tree", folder=kernel)


def module(source: build.Source, sanitizer: str, into: Path) -> None:
    """Build the target's module and its info.json."""
    plan = build.make_plan(source)
    engine = replace(plan, cflags=(*plan.cflags, *shlex.split(SANITIZERS[sanitizer])))
    file = "_cleanrace.so"
    with tempfile.TemporaryDirectory() as work:
        binding = Path(work, build.BINDING)
        build.write_binding(binding)
        ours = [*plan.engine[:2], plan.engine[-2]]  # which has all the others in it
        objects = []
        for number, (how, files) in enumerate(
            ((plan, [*plan.instrumented]), (engine, [*ours, binding]))
        ):
            folder = Path(work, str(number))
            folder.mkdir()
            objects += build.compile_all(how, files, folder, lambda *_: None)
        build.link(plan, into / file, "-shared", *objects)
    info = {
        "name": source.name,
        "version": source.version,
        "kind": source.kind,
        "sha256": build.sha256(source.folder / source.unit),
        "build_id": plan.folder.name,
        "compiler": plan.version,
        "sanitizer": sanitizer,
        "module": file,
    }
    (into / "info.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def seeds(into: Path) -> None:
    """The corpus as inputs, in a zip file that is the same each time."""
    with zipfile.ZipFile(into / f"{NAME}_seed_corpus.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for number, data in enumerate(dict.fromkeys(corpus.seeds())):
            packed.writestr(zipfile.ZipInfo(f"{number:03}"), data)


def dictionary() -> str:
    """The two bytes of each operation, by some threads on some file systems."""
    lines = [
        f'{name.replace("-", "_")}_{place}_by_{thread}="\\x{code:02x}\\x{thread | place << 3:02x}"'
        for code, name in enumerate(words.OPERATIONS)
        for place in range(PLACES)
        for thread in range(THREADS)
    ]
    return "\n".join(["# Operations of the scenario format, each by a thread.", *lines, ""])


def pack(kernel: Path, into: Path, sanitizer: str) -> None:
    """Everything into an empty or new folder; BuildError if something is not as it should be."""
    if sanitizer not in SANITIZERS:
        raise build.BuildError(f"SANITIZER={sanitizer}: expected one of {', '.join(SANITIZERS)}")
    build.check_machine()
    with build.explained():
        packed = into / "packed"
        packed.mkdir(parents=True, exist_ok=True)
        module(checked(kernel), sanitizer, packed)
        preloaded.compiled(packed)
        seeds(into)
        (into / f"{NAME}.dict").write_text(dictionary(), encoding="ascii")
        (into / f"{NAME}.options").write_text(OPTIONS, encoding="ascii")


def main() -> int:
    """The command line; 2 is a BuildError."""
    parser = argparse.ArgumentParser(prog="pack.py", description="Prepare an OSS-Fuzz build.")
    parser.add_argument("--kernel", type=Path, required=True, metavar="DIR")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    chosen = parser.parse_args()
    try:
        pack(chosen.kernel.resolve(), chosen.into, os.environ.get("SANITIZER") or "none")
    except build.BuildError as error:
        print(f"pack.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
