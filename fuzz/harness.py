#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The Atheris harness: one native call per input, guided by native counters.

    python fuzz/harness.py [--target NAME] [--planted BUG]... [--findings DIR] [--no-seeds]
                           [--crash] [libFuzzer options] [corpus folder]...

An input is a scenario followed by its tape. The counters of kernel edges and of interleaving
pairs live in the target's module; their addresses go to libFuzzer, whose functions are taken
from Atheris's own library, so nothing is preloaded and no Python is instrumented. Where a
libFuzzer was preloaded, as OSS-Fuzz does it, that one gets them (preloaded.py).

By default a violation is saved as a finding and fuzzing goes on; with --crash it is raised, so
that libFuzzer keeps the input, minimises it (-minimize_crash) and ends. The first inputs are the
scenarios of corpus/litmus, unless --no-seeds. oss_fuzz/fuzz_cleancache.py is this for OSS-Fuzz.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cleanrace  # noqa: E402
from cleanrace import Scenario, Target, schedule, words  # noqa: E402
from fuzz import (  # noqa: E402
    corpus,
    generate,
    keeping,
    mutator,
    places,
    preloaded,
    shelf,
    store,
)
from fuzz.worker import Own, remounts  # noqa: E402

# libFuzzer starts argv[0] again for -fork, -merge, -minimize_crash and -jobs.
WRAPPER = ROOT / "fuzz" / "harness.sh"
OPTIONS_VARIABLE = "CLEANRACE_HARNESS"
PYTHON_VARIABLE = "CLEANRACE_PYTHON"
# Given to libFuzzer unless the user says otherwise. One call of our mutator is enough: it makes
# several changes by itself, and calling Python costs more than running the input.
DEFAULTS = {"-max_len": "1024", "-mutate_depth": "1"}


class Violation(Exception):
    """Raised with --crash, so that libFuzzer treats the input as a crash."""


class Harness:
    """One target under libFuzzer.

    found is called with each finding of a new signature and says whether it is news; tick after
    every input; ended when libFuzzer ends the process by exit(). Broken findings (determinism)
    and harness limits are the caller's to report.
    """

    def __init__(
        self,
        target: Target,
        *,
        planted: Sequence[str] = (),
        seeds: Sequence[bytes] = (),
        crash: bool = False,
        found: Callable[[store.Finding], bool],
        tick: Callable[[], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self.target = target
        self.crash = crash
        self.found = found
        self.tick = tick
        self.ended = ended
        self.fuzzer = target.fuzzer(planted=tuple(planted))
        self.examiner = store.Examiner(target, planted=tuple(planted))
        self.seeds = list(seeds)
        self.own = Own()
        self.inputs = 0
        self.kept: object = None  # what C points at as long as libFuzzer runs

    def one(self, data: bytes) -> None:
        """Run one input; what libFuzzer calls."""
        self.inputs += 1
        bits = self.fuzzer.one(data)
        if bits:
            self.violated(data, self.target.named("verdicts", bits))
        elif not (data and data[0] & generate.MICRO_BIT):
            # Whether it remounts is not asked: that costs as much as the run.
            self.own.add(1, {}, remounts=True)
        if self.tick is not None:
            self.tick()

    def violated(self, data: bytes, verdicts: frozenset[str]) -> None:
        """Make findings of an input that violated something."""
        if data and data[0] & generate.MICRO_BIT:
            return  # such a scenario misuses the engine on purpose
        violations = dict.fromkeys(verdicts - {"ok"}, 1)
        self.own.add(1, violations, remounts=remounts(Scenario.from_bytes(data)))
        for verdict in sorted(verdicts - store.LIMITS - {"ok"}):
            if not self.examiner.due(verdict):
                continue
            tape = bytes(mutator.split(data)[2])
            scenario = Scenario.from_bytes(data)
            finding = self.examiner.fresh(scenario, verdict, tape=tape, method="atheris")
            if finding is None:
                continue
            if self.found(finding) and self.crash:
                raise Violation(finding.signature)

    def run(self, arguments: Sequence[str]) -> None:
        """Hand over to libFuzzer, with these options of its own; it ends the process."""
        outside = preloaded.present()
        if outside and not preloaded.mutates():
            raise store.Broken("this libFuzzer was preloaded without our mutator: use harness.py")
        core = ctypes.CDLL(None) if outside else libfuzzer()
        self.fuzzer.attach(
            address(core, "__sanitizer_cov_8bit_counters_init"),
            address(core, "__sanitizer_cov_pcs_init"),
        )
        import atheris

        def own(data: bytes, size_max: int) -> bytes:
            return bytes(atheris.Mutate(data, size_max))  # another function once Fuzz() has begun

        mutate = mutator.Mutator(own=own, seeds=self.seeds).mutate
        argv = [executable(), *arguments]
        given = {argument.partition("=")[0] for argument in arguments}
        argv += [f"{name}={value}" for name, value in DEFAULTS.items() if name not in given]
        if outside:
            self.kept = preloaded.use(mutate)
            atheris.Setup(argv, self.one, internal_libfuzzer=False)
        else:
            atheris.Setup(argv, self.one, custom_mutator=mutate, internal_libfuzzer=True)
        with at_exit(self.ended or (lambda: None)):
            atheris.Fuzz()


@contextmanager
def at_exit(ended: Callable[[], None]) -> Iterator[None]:
    """Call `ended` once: by the C library if the block ends the process, else after the block.

    libFuzzer calls exit() under Python's feet, so that Python's own atexit never runs.
    """
    libc = ctypes.CDLL(None)
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: ended())
    own = ctypes.byref(ctypes.c_int())  # names our entry, so that it can be taken out again
    libc["__cxa_atexit"](call, None, own)
    try:
        yield
    finally:
        libc["__cxa_finalize"](own)


def atheris_folder() -> Path:
    """Where Atheris is installed, found without importing it."""
    spec = importlib.util.find_spec("atheris")
    if spec is None or spec.origin is None:
        raise store.Broken("Atheris is not installed here: run pip install -e . in the checkout")
    return Path(spec.origin).parent


def libfuzzer() -> ctypes.CDLL:
    """Atheris's own libFuzzer, ready for a mutator in Python."""
    folder = atheris_folder()
    # The mutator's library must be visible to libFuzzer's before that is loaded.
    ctypes.CDLL(str(library(folder, "custom_mutator")), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(library(folder, "core_with_libfuzzer")), mode=os.RTLD_LOCAL)


def library(folder: Path, name: str) -> Path:
    """One of Atheris's native libraries."""
    found = sorted(folder.glob(f"{name}*.so"))
    if not found:
        raise store.Broken(f"Atheris in {folder} has no {name}*.so: install another version")
    return found[0]


def address(loaded: ctypes.CDLL, name: str) -> int:
    """The address of a function of a loaded library."""
    try:
        function = getattr(loaded, name)
    except AttributeError:
        raise store.Broken(f"Atheris's libFuzzer has no {name}: install another version") from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def executable() -> str:
    """What libFuzzer may start again: the wrapper where it can be executed."""
    if os.access(WRAPPER, os.X_OK):
        os.environ[PYTHON_VARIABLE] = sys.executable
        return str(WRAPPER)
    return sys.argv[0]


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End the process with status 2."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what is left for libFuzzer.

    A process that libFuzzer starts has only libFuzzer's on its command line, and gets ours from
    the environment.
    """
    parser = OneLineParser(
        prog="harness.py",
        description="Fuzz a target with Atheris; -runs=N and all else go to libFuzzer.",
        allow_abbrev=False,
        add_help=False,  # its -h would take libFuzzer's -help=1 and -handle_int=0, too
    )
    parser.add_argument("--help", action="help", help="say this and exit; -help=1 is libFuzzer's")
    parser.add_argument("--target", help="a target's name, default linux-5.10")
    parser.add_argument("--planted", action="append", default=[], metavar="BUG")
    parser.add_argument("--findings", type=Path, default=shelf.FOLDER, metavar="DIR")
    parser.add_argument("--crash", action="store_true", help="end at the first new finding")
    parser.add_argument("--no-seeds", action="store_true", help="start from nothing")
    # What starts fuzzers writes -- before their arguments; to libFuzzer that says nothing.
    own, rest = parser.parse_known_args([word for word in arguments if word != "--"])
    inherited = os.environ.get(OPTIONS_VARIABLE)
    if inherited is not None:
        own = argparse.Namespace(**json.loads(inherited))
        own.findings = Path(own.findings)
        return own, rest
    for argument in rest:
        if argument.startswith("--"):
            parser.error(f"no such option: {argument}; libFuzzer's begin with a single dash")
        if not argument.startswith("-") and not Path(argument).exists():
            parser.error(f"{argument}: there is no such corpus folder or input, create it first")
    for bug in own.planted:
        if bug not in words.PLANTED:
            parser.error(f"--planted {bug}: expected one of {', '.join(words.PLANTED)}")
    return own, rest


def say(line: str) -> None:
    """One line among libFuzzer's, which are on stderr too."""
    print(f"cleanrace: {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 2 is a usage or build error, 3 a harness that failed."""
    own, rest = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        places.check_folder("--findings", own.findings)
    except places.Unwritable as error:
        print(f"harness.py: {error}", file=sys.stderr)
        return 2
    os.environ[OPTIONS_VARIABLE] = json.dumps(vars(own), default=str)
    if preloaded.present():
        os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=0")  # compilers and Python leak
    import build

    try:
        info = build.ensure(target=own.target)
        target = Target(info)
    except (build.BuildError, cleanrace.TargetError) as error:
        say(str(error))
        return 2
    if info["notice"]:
        say(f"NOTICE: {info['notice']}")
    try:
        if preloaded.present() and not preloaded.mutates():
            preloaded.restart(preloaded.compiled(build.cache_folder() / "preloaded"))
        return fuzz(
            target,
            rest,
            planted=own.planted,
            findings=own.findings,
            seeds=not own.no_seeds,
            crash=own.crash,
        )
    except (store.Broken, build.BuildError) as error:
        say(str(error))
        return 3


def fuzz(
    target: Target,
    arguments: Sequence[str],
    *,
    planted: Sequence[str] = (),
    findings: Path | None = None,
    seeds: bool = True,
    crash: bool = False,
) -> int:
    """Fuzz a target with libFuzzer's `arguments`; libFuzzer mostly ends the process.

    findings: the folder that keeps what is new; without one it is said on the standard error.
    """
    known, unreadable = keeping.known(target, planted=tuple(planted))
    for line in unreadable:
        say(f"WARNING: {line}")
    counts = {"new": 0, "known": 0}

    def lasting(finding: store.Finding) -> str:
        how = schedule.How(planted=finding.planted, judged=(finding.verdict,))
        switches = schedule.switches(target, finding.scenario, finding.tape, how)
        return store.to_case(target, finding, switches=switches).to_text()

    def total() -> str:
        return f"{counts['new']} new, {counts['known']} known findings"

    def found(finding: store.Finding) -> bool:
        if finding.signature in known:
            counts["known"] += 1
            say(f"known finding met: {finding.signature}; so far {total()}")
            return False
        counts["new"] += 1
        if findings is None:
            say(f"new finding: {finding.signature}; its scenario file is\n{lasting(finding)}")
            return True
        case = store.to_case(target, finding)
        folder = store.folder_of(findings / shelf.PENDING, target, tuple(planted))
        path = folder / store.file_name(finding)
        try:
            store.keep(path, case)
            say(f"new finding: {finding.signature}, saved as {store.shown(path)}; so far {total()}")
        except OSError as error:
            say(f"new finding: {finding.signature}, not written: {path}: {error.strerror}")
            print(case.to_text(), flush=True)
        return True

    harness = Harness(
        target,
        planted=planted,
        seeds=corpus.seeds() if seeds else [],
        crash=crash,
        found=found,
        ended=lambda: say(total()),
    )
    say(f"fuzzing {target.name} {target.version}, build {target.build_id}")
    harness.run(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
