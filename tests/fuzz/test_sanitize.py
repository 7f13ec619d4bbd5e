# SPDX-License-Identifier: GPL-2.0-only
"""Corpus and random scenarios under the sanitizers: clean, and real reports are told.

With gcc and with clang. Builds of the compiler that is not the usual one have a folder of their own
in the cache, so that the records of the others stay.
"""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import build
import cleanrace
from cleanrace import Scenario, Target
from fuzz import command, corpus, executor, sanitize, sanitizing, tsan
from fuzz.executor import Executor

pytestmark = pytest.mark.long

COMPILERS = ("gcc", "clang")
MEMORY_MOST = 100  # MB; without stacks that are thrown away it is 11

# Faults of our own C, one for each kind of memory and of arithmetic, on a fiber's stack.
FAULTS = r"""
#include <limits.h>
#include <stdlib.h>
#include <string.h>
static char global[4];
static char *volatile kept;
static __attribute__((noinline)) void leave(void) { char here[4]; kept = here; *kept = 1; }
static __attribute__((noinline)) void put(char *volatile where, long at) { where[at] = 1; }
static void faulty(void)
{
	const char *fault = getenv("FAULT");
	volatile int most = INT_MAX;
	char stack[4] = "";

	if (!fault)
		return;
	if (!strcmp(fault, "global"))
		put(global, 4);
	if (!strcmp(fault, "stack"))
		put(stack, 4);
	if (!strcmp(fault, "heap"))
		put(malloc(4), 4);
	if (!strcmp(fault, "return")) {
		leave();
		*kept = 1;
	}
	if (!strcmp(fault, "add"))
		most = most + 1;
	if (!strcmp(fault, "shift"))
		most = 1 << (most & 63);
}
static void fiber_entry(void)
"""
SAID = {
    "global": "AddressSanitizer: global-buffer-overflow",
    "stack": "AddressSanitizer: stack-buffer-overflow",
    "heap": "AddressSanitizer: heap-buffer-overflow",
    "return": "AddressSanitizer: stack-use-after-return",
    "add": "runtime error: signed integer overflow",
    "shift": "runtime error: shift exponent 63",
}
BUILD = """
import json, sys, build
flavour = sys.argv[1]
program = build.program("reference", flavour=flavour)
print(json.dumps([build.ensure(target="reference"), str(program)]))
"""
# The same in a checkout whose fiber.c alone is another one, from a build without that. Only what
# differs is compiled: its plain build, of which a flavour takes the kernel's side, is the other's.
GIVEN = """
import json, shutil, sys, build
from pathlib import Path
info = json.loads(sys.argv[2])
given, folder = Path(info["module"]).parent, build.make_plan(build.OURS).folder
if not folder.exists():
    shutil.copytree(given, folder, ignore=shutil.ignore_patterns("replay-*", sys.argv[1]))
    text = json.dumps(info | {"build_id": folder.name}).replace(str(given), str(folder))
    (folder / "info.json").write_text(text)
compile_all = build.compile_all
def compile_one(plan, files, work, *rest):
    made = compile_all(plan, [file for file in files if file.stem == "fiber"], work, *rest)
    objects = [given / work.name / f"{at:02}-{file.stem}.o" for at, file in enumerate(files)]
    return [made[0] if obj.stem.endswith("-fiber") else obj for obj in objects]
build.compile_all = compile_one
""" + BUILD
# Prints how much memory a command had at most, in kB; a child of pytest's begins with pytest's.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


# The verbs with a corpus of a few cases and this one.
SMALL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fuzz import corpus, run
paths = [*corpus.paths()[::30], Path(sys.argv[2])]
corpus.paths = lambda: paths
sys.exit(run.main(sys.argv[3:]))
"""
# Ends badly if what it reads, or its seed, is odd.
ODD = r"""
	FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
	int sum = argc == 4 ? atoi(argv[3]) : 0, byte;
	char *room = malloc(4);

	while (file && (byte = getc(file)) != EOF)
		sum += byte;
	room[sum % 2 * 4] = 1;
	free(room);
	puts("digest 1");
	return 0;
"""


def environment(root: Path, compiler: str) -> dict[str, str]:
    """What makes a checkout build with a compiler, in the usual cache if that has its builds."""
    usual = root == build.ROOT and build.compiler_command() == (compiler,)
    cache = build.cache_folder() / "tests" / compiler
    return {"CC": compiler} | ({} if usual else {"XDG_CACHE_HOME": str(cache)})


def built(
    root: Path, compiler: str, flavour: str, given: dict[str, Any] | None = None
) -> tuple[dict[str, Any], Path]:
    """A flavour of the reference that a checkout's build.py makes: the target's info, the file."""
    more = [BUILD, flavour] if given is None else [GIVEN, flavour, json.dumps(given)]
    done = subprocess.run(
        [sys.executable, "-c", *more], cwd=root, capture_output=True, text=True,
        check=False, env=os.environ | environment(root, compiler),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    info, program = json.loads(done.stdout)
    assert compiler in info["compiler"]
    return info, Path(program)


@pytest.fixture(scope="module", params=COMPILERS)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """The reference of a checkout whose engine has FAULTS."""
    tree = tmp_path_factory.mktemp("tree")
    shutil.copy(build.ROOT / "build.py", tree)
    shutil.copytree(build.ROOT / "csrc", tree / "csrc")
    file = tree / "csrc/engine/fiber.c"
    text = file.read_text()
    for place, what in (
        ("\nstatic void fiber_entry(void)\n", FAULTS),
        ("\tfiber_body(self);\n", "\tfaulty();\n\tfiber_body(self);\n"),
    ):
        assert text.count(place) == 1
        text = text.replace(place, what)
    file.write_text(text)
    sound, _ = built(build.ROOT, request.param, "asan")
    return Target(built(tree, request.param, "asan", given=sound)[0])


@pytest.fixture(autouse=True)
def _kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reports keep goes with the test."""
    monkeypatch.setattr(sanitize, "folder", lambda: tmp_path / "kept")


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Call it with the body of main() and a sanitizer: a program with a fault of its own."""

    def make(body: str, sanitizer: str) -> Path:
        source, program = tmp_path / "replay.c", tmp_path / "replay-faulty"
        source.write_text(f"#include <stdio.h>\n#include <stdlib.h>\n"
                          f"int main(int argc, char **argv)\n{{\n{body}\n}}\n")  # fmt: skip
        flags = ["-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        subprocess.run(["gcc", *flags, source, "-o", program], check=True)
        return program

    return make


def here(target: Target) -> Executor:
    """This process as the only worker."""
    return Executor(executor.Here(target, print))


def stand_in(target: Target, folder: Path, **programs: Path) -> Target:
    """The target as if these were the programs of its flavours."""
    folder.mkdir()
    module = folder / target.module.name
    shutil.copy(target.module, module)
    for flavour, program in programs.items():
        shutil.copy(program, folder / f"replay-{flavour}")
    return Target(target.info | {"module": str(module)})


@pytest.mark.parametrize("compiler", COMPILERS)
def test_all_that_is_replayed_is_clean(compiler: str, run: Callable[..., Any]) -> None:
    for flavour in sanitize.FLAVOURS:
        built(build.ROOT, compiler, flavour)
    done = run(
        "run.py", "sanitize", "--target", "reference", "--random", "1000", "--seed", "2",
        env=environment(build.ROOT, compiler),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = [line for line in lines if line and line[0] in ("asan", "tsan") and len(line) == 5]
    assert [row[:2] for row in rows] == [["asan", "corpus"], ["asan", "random"],
                                         ["tsan", "corpus"], ["tsan", "random"]]  # fmt: skip
    assert [row[2] for row in rows][1::2] == ["1,000", "2"]
    assert all(int(row[2]) > 40 for row in rows[::2])
    assert {row[4] for row in rows} == {"0"}
    assert "UndefinedBehaviorSanitizer in one program" in done.stdout
    said = " ".join(done.stdout.split())
    met = re.search(r"it met (\d+) races .* and (\d+) of marked accesses", said)
    assert met
    assert int(met[1]) + int(met[2]) > 0, "the control's marked accesses race, too"


@pytest.mark.parametrize("fault", SAID)
def test_a_fault_of_our_own_c_is_a_report(
    fault: str, faulty: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sanitize.Input(name="a case", data=RACE.to_bytes())
    assert sanitize.asan_corpus(here(faulty), faulty, [one]) == []
    monkeypatch.setenv("FAULT", fault)
    reports = sanitize.asan_corpus(here(faulty), faulty, [one])
    assert [SAID[fault] in report.summary for report in reports] == [True], reports
    assert "fiber.c" in reports[0].text


def test_a_fault_in_a_worker_is_a_report(faulty: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    one = sanitize.Input(name="a case", data=RACE.to_bytes())
    for fault, count in (None, 0), ("heap", 5):
        if fault:
            monkeypatch.setenv("FAULT", fault)
        with executor.opened(faulty, jobs=2) as workers:
            reports = sanitize.asan_corpus(workers, faulty, [one, one])
            reports += sanitize.asan_random(workers, faulty, 3, 1)
        assert len(reports) == count
        assert all(SAID["heap"] in report.summary for report in reports)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_threadsanitizer_sees_a_plain_race_and_no_other(compiler: str) -> None:
    target = Target(built(build.ROOT, compiler, "tsan")[0])
    for threads, met in (("store 0", "load 0"), True), (("load 0", "load 0"), False):
        scenario = Scenario.from_text(
            "\n".join(("cleanrace 1", "micro", *(f"thread {one}" for one in threads)))
        )
        known, reports = sanitize.tsan_scenarios(here(target), target, [scenario], 1)
        assert reports == []
        kinds = [sorted(side.kind for side in pair) for pair in known]
        assert kinds == ([["read", "write"]] if met else [])


@pytest.mark.parametrize("compiler", COMPILERS)
def test_abandoned_fibers_leave_no_frames_behind(compiler: str) -> None:
    """Where returns are checked, by default since clang 15, frames are not on the stack."""
    _, program = built(build.ROOT, compiler, "asan")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, program, "--random", "1000", "1"],
        capture_output=True, text=True, check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_stack_use_after_return=1"},
    )  # fmt: skip
    said, peak = done.stdout.splitlines()
    assert said.startswith("inputs 1000 ")
    assert int(peak) >> 10 < MEMORY_MOST


def test_a_compiler_without_a_library_is_status_2_after_the_rest(
    run: Callable[..., Any], control: Target, tmp_path: Path
) -> None:
    """The usual compiler by the usual name, so that all that was built with it is there."""
    usual = build.compiler_command()[0]
    compiler = tmp_path / "bin" / Path(usual).name
    compiler.parent.mkdir()
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in *" -c "*) ;; *" -fsanitize=thread "*) '
        "echo 'error: cannot find libtsan' >&2; exit 1;; esac\n"
        f'exec {shutil.which(usual)} "$@"\n'
    )
    compiler.chmod(0o755)
    place = own_cache(control, tmp_path / "cache", asan=sanitizing.program(control, "asan"))
    path = f"{compiler.parent}{os.pathsep}{os.environ['PATH']}"
    done = run(
        "run.py", "sanitize", "--target", "reference", "--random", "10",
        env={"XDG_CACHE_HOME": str(place), "PATH": path},
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.findall(r"^(?:asan|tsan) .*(?:corpus|random)", done.stdout, re.MULTILINE) == [
        "asan     corpus",
        "asan     random",
    ]
    assert re.fullmatch(
        rf"run\.py: tsan cannot be played: .*{compiler.name} .* cannot link it "
        r"\(error: cannot find libtsan\): install its library, or set another CC\n", done.stderr,
    )  # fmt: skip


def test_a_corpus_without_any_race_is_a_report(tmp_path: Path) -> None:
    row = sanitize.Row(flavour="tsan", what="corpus", inputs=54)
    assert "blind: 54 scenarios" in sanitize.blind(tmp_path, row)[0].summary
    side = tsan.Side("mount:1", "write")
    row.known = {(side, side)}
    assert sanitize.blind(tmp_path, row) == []


def test_each_case_with_a_verdict_is_replayed_by_a_schedule_that_shows_it(real: Target) -> None:
    """So that the sanitizers see what goes wrong, and not only what goes well."""
    cases = {path.parent.name if path.stem == "scenario" else path.stem: cleanrace.Case.read(path)
             for path in corpus.paths()}  # fmt: skip
    listed = list(sanitize.inputs(real))
    assert len({one.name for one in listed}) == len(listed)
    violating = [one for one in listed if cases[one.name].expect != "ok"]
    assert len(violating) > 40
    missed = []
    for one in violating:
        case = cases[one.name]
        size = len(case.scenario.to_bytes())
        result = cleanrace.run(
            real, case.scenario, one.data[size:], steps_max=case.steps_max, judged=case.judged,
            planted=real.named("planted", one.planted),
        )  # fmt: skip
        if case.expect not in result.verdicts:
            missed.append(one.name)
    assert missed == []


def test_an_error_of_memory_is_a_report(
    compiled: Callable[..., Path], control: Target, tmp_path: Path
) -> None:
    program = compiled("char *p = malloc(4); free(p); return p[argc];", "address")
    target = stand_in(control, tmp_path / "build", asan=program)
    one = sanitize.Input(name="a case", data=b"abc", ends="digest 1")
    reports = sanitize.asan_corpus(here(target), target, [one])
    assert len(reports) == 1
    assert reports[0].summary.startswith("SUMMARY: AddressSanitizer: heap-use-after-free")
    assert "replay.c:5" in reports[0].text
    file = Path(reports[0].again.split()[1])
    assert file.read_bytes() == b"abc"
    assert file.parent == tmp_path / "kept"
    assert Path(f"{file}.txt").read_text() == reports[0].text
    assert len(sanitize.asan_random(here(target), target, 9, 1)) == sanitize.BATCHES


def test_undefined_behaviour_is_a_report(
    compiled: Callable[..., Path], control: Target, tmp_path: Path
) -> None:
    program = compiled("printf(\"%d\\n\", 1 << (argc + 30)); puts(\"digest 1\"); return 0;",
                       "undefined")  # fmt: skip
    target = stand_in(control, tmp_path / "build", asan=program)
    one = sanitize.Input(name="a case", data=b"abc", ends="digest 1")
    reports = sanitize.asan_corpus(here(target), target, [one])
    assert [
        "runtime error: shift exponent" in report.summary
        or "runtime error: left shift" in report.summary
        for report in reports
    ] == [True]


def test_a_trace_that_differs_is_a_report(real: Target, tmp_path: Path) -> None:
    scenario = Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\n")
    target = stand_in(real, tmp_path / "build", asan=Path(real.info["program"]))
    right = f"digest {cleanrace.run(real, scenario).digest:016x}"
    for ends, count in ((right, 0), ("digest 0123456789abcdef", 1)):
        one = sanitize.Input(name="a case", data=scenario.to_bytes(), ends=ends)
        reports = sanitize.asan_corpus(here(target), target, [one])
        assert len(reports) == count
    assert reports[0].summary.startswith("another trace: ")


def test_a_program_that_dies_is_a_report(control: Target, tmp_path: Path) -> None:
    program = tmp_path / "replay-dying"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    target = stand_in(control, tmp_path / "build", asan=program)
    one = sanitize.Input(name="a case", data=b"abc")
    reports = sanitize.asan_corpus(here(target), target, [one])
    assert [report.summary for report in reports] == ["status -11, it ended with ''"]


RACE = Scenario.from_text(
    "cleanrace 1\nfs a local\nthread register 0; read a 0 0; unmount a\n"
    "thread mount a; write a 0 0; reclaim a 0 0; read a 0 0; unmount a\n"
    "thread mount a; read a 0 0; writeback a 0 0; remount a; truncate a 0 0\n"
)


def test_races_of_the_kernel_are_known_only_where_our_detector_lists_them(
    real: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, reports = sanitize.tsan_scenarios(here(real), real, [RACE], 1)
    assert reports == []
    plain = {pair for pair in known if not tsan.is_marked(pair)}
    assert plain
    monkeypatch.setattr(tsan, "detect", lambda *_, **__: set())
    known, reports = sanitize.tsan_scenarios(here(real), real, [RACE, RACE], 1)
    assert all(map(tsan.is_marked, known))
    assert reports
    assert len({report.summary for report in reports}) == len(reports)
    assert all("our detector does not list" in report.summary for report in reports)


def test_what_is_no_race_of_the_kernel_is_a_report(real: Target) -> None:
    code = tsan.code_of(build.program(real.name, flavour="tsan"), real)
    outside = code.start + code.bytes + 0x10
    frame = f"    #0 <null> <null> (replay-tsan+{outside:#x})\n\n"
    lost = "    [failed to restore the stack]\n\n"
    race = ("WARNING: ThreadSanitizer: data race (pid=1)\n"
            f"  Write of size 4 at 0x1 by thread T2:\n{frame}"
            "  Previous read of size 4 at 0x1 by thread T1:\n{}"
            "SUMMARY: ThreadSanitizer: data race in engine\n")  # fmt: skip
    assert sanitize.races(race.replace("{}", lost), code) == (set(), [])
    assert sanitize.races(race.replace("{}", frame), code) == (
        set(),
        ["SUMMARY: ThreadSanitizer: data race in engine"],
    )
    assert sanitize.races("WARNING: ThreadSanitizer: heap-use-after-free (pid=1)\n", code)[1]
    assert sanitize.races("Segmentation fault\n", code) == (set(), ["Segmentation fault"])
    died = "replay-tsan ended with status 66: ThreadSanitizer:DEADLYSIGNAL"
    assert sanitize.races(died, code) == (set(), [died])
    assert sanitize.races("", code) == (set(), [])


def test_a_machine_without_threadsanitizer_is_status_2_and_no_report(
    real: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "replay-tsan"
    program.write_text('#!/bin/sh\necho "$SAID" >&2\nexit 66\n')
    program.chmod(0o755)
    target = stand_in(real, tmp_path / "build", tsan=program)
    monkeypatch.setattr(tsan, "code_of", lambda *_: tsan.Code(0, 0, target))
    monkeypatch.setenv("SAID", "FATAL: ThreadSanitizer: unexpected memory mapping")
    with pytest.raises(command.Failure, match="unexpected memory mapping"):
        sanitize.tsan_scenarios(here(target), target, [RACE], 1)
    monkeypatch.setenv("SAID", "died")
    _, reports = sanitize.tsan_scenarios(here(target), target, [RACE], 1)
    program = target.module.with_name("replay-tsan")
    assert [report.summary for report in reports] == [f"{program} ended with status 66: died"]


def test_wrong_numbers_are_status_2(run: Callable[..., Any]) -> None:
    done = run("run.py", "sanitize", "--random", "many")
    assert done.returncode == 2
    assert done.stderr.startswith("run.py: --random many: expected a whole number")


def test_a_report_is_told_once_and_with_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reports = [sanitize.Report(name=name, summary="SUMMARY: bad", text="", again=f"play {name}")
               for name in ("one", "two", "three")]  # fmt: skip
    rows = [sanitize.Row(flavour="asan", what="corpus", reports=reports),
            sanitize.Row(flavour="tsan", what="corpus")]  # fmt: skip
    sanitize.print_rows(command.console(), rows)
    said = capsys.readouterr().out
    assert "asan, one: SUMMARY: bad (and 2 more such)\n  play one\n" in said
    assert "two" not in said
    assert "tsan plays" in said


def own_cache(target: Target, folder: Path, **programs: Path) -> Path:
    """A cache folder with a build of the target, whose flavours have these programs."""
    build_folder = folder / "cleanrace/builds" / target.build_id
    shutil.copytree(target.module.parent, build_folder, ignore=shutil.ignore_patterns("replay-*"))
    info = (build_folder / "info.json").read_text()
    info = info.replace(str(target.module.parent), str(build_folder))
    (build_folder / "info.json").write_text(info)
    (folder / "cleanrace/targets").mkdir()
    (folder / "cleanrace/targets" / f"{target.name}.json").write_text(info)
    shutil.copy(target.info["program"], json.loads(info)["program"])
    for flavour, program in programs.items():
        shutil.copy(program, build_folder / f"replay-{flavour}")
    return folder


def small(place: Path, *arguments: str) -> str:
    """What `sanitize` says with that cache and SMALL; it must have reports."""
    case = place / "race.litmus"
    case.write_text(RACE.to_text())
    asked = ["sanitize", "--target", "reference", "--random", "9", *arguments]
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(build.ROOT), str(case), *asked],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XDG_CACHE_HOME": str(place)},
    )
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout[done.stdout.index("flavour  what") :]


@pytest.mark.parametrize("how", [["--jobs", "2"], ["--cluster", "local"]], ids=["jobs", "ray"])
def test_who_replays_does_not_show_in_what_is_said(
    how: list[str],
    compiled: Callable[..., Path],
    control: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = {"asan": compiled(ODD, "address"), "tsan": sanitizing.program(control, "tsan")}
    place = own_cache(control, tmp_path / "cache", **programs)
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:  # short, for Ray's sockets
        monkeypatch.setenv("TMPDIR", name)
        said = [small(place, "--jobs", "1"), small(place, *how)]
        assert list(Path(name).iterdir()) == []
    # Real time and real threads are not the same twice.
    told = [re.sub(r" +\d+\.\d(?= )|it met .*?marked", "", one, flags=re.DOTALL) for one in said]
    assert told[0] == told[1]
    rows = [line.split() for line in told[0].splitlines() if re.match(r"[at]san  ", line)]
    assert rows[0][2] == rows[0][3] != "0"
    assert rows[1] == ["asan", "random", "9", "4"]
    assert [row[3] for row in rows[2:]] == ["0", "0"]
    assert "SUMMARY: AddressSanitizer: heap-buffer-overflow" in " ".join(told[0].split())


def test_a_program_ends_with_its_worker(control: Target, tmp_path: Path) -> None:
    program, pipe = tmp_path / "program", tmp_path / "pipe"
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\nexec 3>{pipe}; echo begun >&3; exec sleep 100\n")
    program.chmod(0o755)
    target = stand_in(control, tmp_path / "build", asan=program)
    with executor.opened(target, jobs=1) as workers:
        arguments = {"flavour": "asan", "command": [], "data": "", "ends": ""}
        workers.submit(executor.Unit(kind="sanitize", arguments=arguments))
        while not any(workers.given.values()):
            workers.results(1.0)
        with pipe.open() as end:
            assert end.readline() == "begun\n"
            workers.stop()
            assert select.select([end], [], [], 30)[0]
            assert end.read() == ""


def test_a_worker_makes_the_program_that_its_build_lacks(
    control: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = own_cache(control, tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    info = json.loads((place / f"cleanrace/targets/{control.name}.json").read_text())
    target = Target(info)
    program = target.module.with_name("replay-tsan")  # which is made sooner than replay-asan
    assert not program.exists()
    assert sanitize.tsan_scenarios(here(target), target, [RACE], 1)[1] == []
    assert program.exists()


def test_a_worker_with_other_files_says_what_to_run(control: Target, tmp_path: Path) -> None:
    target = stand_in(control, tmp_path / "build")
    one = sanitize.Input(name="a case", data=RACE.to_bytes())
    asked = r"has no replay-asan of build \w+: run 'python fuzz/run.py sanitize --target reference'"
    with pytest.raises(command.Failure, match=asked):
        sanitize.asan_corpus(here(target), target, [one])
