# SPDX-License-Identifier: GPL-2.0-only
"""Every fault that the doctor knows, injected: it is named, with what mends it.

Faults are real where a process can have them for itself: disks are small tmpfs in a namespace,
cores are taken away by the scheduler, checkouts are copied and edited, compilers leave PATH. Only
clocks and groups of processes are played, since they are the whole machine's.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import build
from cleanrace import FileSystem, Operation, Scenario
from fuzz import corpus, doctor, doctor_machine, doctor_place, harness, premises

pytestmark = pytest.mark.long

Inject = Callable[[str], None]
ROWS = {check.name: check for check in doctor.CHECKS}


# Prints what one check says in a process of its own, after some lines.
CHILD = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
from fuzz import doctor
exec(sys.argv[4])
place = doctor.Place(target=sys.argv[2], corpus=Path(sys.argv[3]))
checks = [check for check in doctor.CHECKS if check.name == sys.argv[1]]
print(json.dumps(asdict(doctor.examine(place, checks=checks)[sys.argv[1]])))
"""
APART = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]
MOUNT = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "{}", "cleanrace-test", sys.argv[3]], check=True)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, which the test may edit."""
    tree = tmp_path / "checkout"
    tree.mkdir()
    shutil.copy(build.ROOT / "build.py", tree)
    for folder in ("csrc", "fuzz", "pybind"):
        away = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(build.ROOT / folder, tree / folder, ignore=away)
    return tree


def ask(
    name: str,
    place: doctor.Place,
    *,
    root: Path = build.ROOT,
    before: Sequence[str] = (),
    first: str = "",
    **variables: str,
) -> doctor.Said:
    """What a check says as a process: of another checkout, by another command, after some code."""
    paths = os.pathsep.join((str(root), str(root / "pybind")))
    arguments = [name, place.target, str(place.corpus), first]
    done = subprocess.run(
        [*before, sys.executable, "-c", CHILD, *arguments], cwd=root, capture_output=True,
        text=True, check=False, env=os.environ | {"PYTHONPATH": paths} | variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return doctor.Said(**json.loads(done.stdout.splitlines()[-1]))


def is_said(said: doctor.Said, state: str, *words: str, mend: str) -> None:
    """The state, the words, and the command that mends it."""
    assert said.state == state, said
    for word in words:
        assert word in said.text
    assert mend in said.mend


@pytest.fixture
def place(linux: dict[str, Any], tmp_path: Path) -> doctor.Place:
    """The machine as it is."""
    return doctor.Place(target=linux["name"], corpus=tmp_path / "corpus")


@pytest.fixture
def own(linux: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cache of this test's own with the sources and a record, which the test may spoil."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache = build.cache_folder()
    shutil.copytree(Path(linux["source"]).parents[1], cache / "sources" / linux["name"])
    folder = cache / "builds" / linux["build_id"]
    folder.mkdir(parents=True)
    info = dict(linux)
    for key in ("module", "program"):
        shutil.copy(linux[key], folder)
        info[key] = str(folder / Path(linux[key]).name)
    record(info)
    return info


@pytest.fixture
def inject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inject:
    """Call it with Python code that each process runs first from now on."""

    def start_with(code: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return start_with


def record(info: dict[str, Any]) -> None:
    """Make this the newest build of its target."""
    path = build.cache_folder() / "targets" / f"{info['name']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(info))


def look(name: str, place: doctor.Place) -> doctor.Said:
    """What one check says."""
    return doctor.examine(place, checks=[ROWS[name]])[name]


def fails(name: str, place: doctor.Place, *words: str, mend: str) -> None:
    is_said(look(name, place), doctor.FAIL, *words, mend=mend)


def warns(name: str, place: doctor.Place, *words: str, mend: str) -> None:
    is_said(look(name, place), doctor.WARN, *words, mend=mend)


def test_a_sound_machine_passes_each_check(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("run.py", "doctor", "--corpus", str(tmp_path / "none"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line[5:18].strip() for line in lines if not line.startswith(" ")][:-1] == list(ROWS)
    assert max(len(line) for line in lines if "to mend it: " not in line) <= 80
    assert lines[-1].startswith(f"{len(ROWS)} checks in ")
    assert lines[-1].endswith(", 0 FAIL")
    assert not (tmp_path / "none").exists()


def test_a_failed_check_is_status_1_and_says_what_mends_it(
    run: Callable[..., Any], own: dict[str, Any], tmp_path: Path
) -> None:
    (build.cache_folder() / "sources" / own["name"] / build.UNIT).write_text("int other;\n")
    done = run("run.py", "doctor", "--corpus", str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert "FAIL sources       mm/cleancache.c of linux-5.10" in done.stdout
    assert "     to mend it: python build.py --fetch --force\n" in done.stdout
    assert done.stdout.count("not tried, since sources failed") == 8
    assert done.stdout.endswith(", 1 FAIL\n")
    assert done.stderr == ""


def test_a_wrong_target_is_status_2(run: Callable[..., Any]) -> None:
    for name in ("no-such", "../linux-5.10"):
        done = run("run.py", "doctor", "--target", name)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"run.py: --target {name}: there is no such target")
        assert done.stderr.count("\n") == 1


def test_a_package_that_cannot_be_imported(place: doctor.Place, inject: Inject) -> None:
    inject("import sys; sys.modules['hypothesis'] = None; sys.modules['atheris'] = None\n")
    fails("packages", place, "cannot be imported: hypothesis (", ", atheris (", mend="pip install")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with a shell script: it is the first gcc in PATH."""

    def put(script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "gcc").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "gcc").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CC", raising=False)

    return put


def test_a_compiler_that_fails(place: doctor.Place, fake: Callable[[str], None]) -> None:
    fake("echo 'gcc: fatal error: no cc1' >&2; exit 1")
    fails("compiler", place, "gcc cannot build", "no cc1", mend="apt-get install gcc")


def test_a_compiler_that_is_missing(
    place: doctor.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    said = ask("compiler", place, PATH=str(tmp_path))
    is_said(said, doctor.FAIL, "gcc", "objcopy", "not found in PATH", mend="apt-get install gcc")
    monkeypatch.setenv("CC", "no-such-compiler")
    fails("compiler", place, "no-such-compiler was not found", mend="apt-get install gcc")


def test_a_compiler_without_hooks(place: doctor.Place, fake: Callable[[str], None]) -> None:
    """Its builds would have no decision points, and every search would find nothing."""
    real = shutil.which("gcc")
    fake(f'for a; do shift; case "$a" in -fsanitize*) ;; *) set -- "$@" "$a";; esac; done\n'
         f'exec {real} "$@"')  # fmt: skip
    fails("compiler", place, "leaves out calls of __tsan_read4", "trace_pc", mend="gcc")


def test_a_stale_build(place: doctor.Place, own: dict[str, Any]) -> None:
    record(own | {"build_id": "0123456789abcdef"})
    fails("build", place, "stale", "0123456789abcdef", own["build_id"],
          mend="python build.py --target linux-5.10")  # fmt: skip


def test_a_checkout_that_was_edited_since_it_was_built(
    place: doctor.Place, checkout: Path, linux: dict[str, Any]
) -> None:
    assert ask("build", place, root=checkout).state == doctor.OK, "a copy is no fault"
    file = checkout / "csrc/run.c"
    os.utime(file)
    assert ask("build", place, root=checkout).state == doctor.OK, "nor is a new date"
    file.write_text(file.read_text() + "\n")
    said = ask("build", place, root=checkout)
    is_said(said, doctor.FAIL, "stale", linux["build_id"], mend="python build.py --target linux")


def test_other_flags_than_the_build_had(
    place: doctor.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEANRACE_LEVEL", "2")
    fails("build", place, "stale", mend="python build.py")


def test_no_build(place: doctor.Place, own: dict[str, Any]) -> None:
    (build.cache_folder() / "targets" / f"{own['name']}.json").unlink()
    fails("build", place, "linux-5.10 is not built", mend="python build.py")


def test_a_damaged_record(place: doctor.Place, own: dict[str, Any]) -> None:
    (build.cache_folder() / "targets" / f"{own['name']}.json").write_text("{")
    fails("build", place, "is damaged", mend="python build.py --force")


def test_a_cache_that_was_copied(
    place: doctor.Place, own: dict[str, Any], linux: dict[str, Any]
) -> None:
    """Its records still name the other folder, whose builds may go."""
    record(own | {"module": linux["module"]})
    fails("build", place, "copied or moved", mend="--force")
    Path(own["module"]).unlink()
    record(own)
    fails("build", doctor.Place(), "is not there", mend="--force")


def test_sources_that_are_missing_or_tampered_with(
    place: doctor.Place, own: dict[str, Any]
) -> None:
    assert look("sources", place).state == doctor.OK
    header = place.sources / build.HEADER
    header.write_text(header.read_text() + "\n")
    fails("sources", place, build.HEADER, build.KNOWN[own["name"]][2][build.HEADER],
          mend="python build.py --fetch --force")  # fmt: skip
    shutil.rmtree(place.sources)
    fails("sources", place, "is not there", mend="python build.py --fetch")


def test_a_module_without_debugging_information(
    place: doctor.Place, own: dict[str, Any]
) -> None:
    subprocess.run(["objcopy", "--strip-debug", own["module"]], check=True)
    fails("names", place, "have none", mend="python build.py --target linux-5.10 --force")


def test_no_addr2line(place: doctor.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    fails("names", place, "addr2line not found", mend="apt-get install binutils")


def test_another_trace_in_the_plain_program(
    place: doctor.Place, own: dict[str, Any]
) -> None:
    program = Path(own["program"])
    program.unlink()  # what runs may not be written to
    program.write_text("#!/bin/sh\necho verdict ok\necho steps 81 digest 0123456789abcdef\n")
    program.chmod(0o755)
    fails("determinism", place, "0123456789abcdef", mend="--force")


def test_another_trace_the_second_time(
    place: doctor.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tapes = iter((b"", b"\1"))
    real = doctor.cleanrace.run
    monkeypatch.setattr(
        doctor.cleanrace, "run", lambda target, scenario, _: real(target, scenario, next(tapes))
    )
    fails("determinism", place, "the same tape gave the digests", mend="--force")


def test_a_blind_search(place: doctor.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread alone cannot break a premise."""
    alone = Scenario(file_systems=(FileSystem(),), threads=((Operation("mount", (0,)),),))
    monkeypatch.setattr(premises, "MAIN", alone)
    monkeypatch.setattr(premises.canary, "__kwdefaults__", {"premise": "c", "seconds": 0.05})
    fails("planted bug", place, "premise c is broken and was not found", mend="--force")


def test_a_planted_bug_that_the_build_does_not_have(
    place: doctor.Place, checkout: Path, tmp_path: Path
) -> None:
    """So that there is nothing to find, and the search of a sound build looks the same."""
    file, switch = checkout / "csrc/kernel/planted.h", "return planted_set >> bug & 1;"
    text = file.read_text()
    assert text.count(switch) == 1
    file.write_text(text.replace(switch, f"return bug != PLANTED_PREMISE_C && {switch[7:]}"))
    place.target = build.REFERENCE
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    made = subprocess.run([sys.executable, checkout / "build.py", "--target", build.REFERENCE],
                          capture_output=True, text=True, check=False, env=os.environ | cache)
    assert made.returncode == 0, made.stderr
    assert ask("build", place, root=checkout, **cache).state == doctor.OK
    said = ask("planted bug", place, root=checkout, **cache)
    is_said(said, doctor.FAIL, "premise c is broken and was not found",
            mend="python build.py --target reference --force")  # fmt: skip


def test_no_counters(place: doctor.Place, inject: Inject) -> None:
    inject("from cleanrace.fuzzer import Fuzzer; Fuzzer.attach = lambda *_: None\n")
    fails("counters", place, "was given no counters", mend="atheris")


def test_counters_that_do_not_grow(place: doctor.Place, inject: Inject) -> None:
    inject("from cleanrace.fuzzer import Fuzzer; Fuzzer.one = lambda *_: 0\n")
    fails("counters", place, "20480 counters", "it does not grow", mend="--force")


def test_a_mutator_that_is_never_called(place: doctor.Place, inject: Inject) -> None:
    """Its library was not there when libFuzzer looked for one; Atheris says nothing."""
    inject("import ctypes\n"
           "real = ctypes.CDLL\n"
           "def load(name, *rest, **options):\n"
           "    return None if 'mutator' in str(name) else real(name, *rest, **options)\n"
           "ctypes.CDLL = load\n")  # fmt: skip
    fails("mutator", place, "never called ours", mend="unset LD_PRELOAD")


def test_a_harness_that_dies(place: doctor.Place, inject: Inject) -> None:
    inject("import atheris\n"
           "def dies(*_, **__): raise SystemExit('the end')\n"
           "atheris.Setup = dies\n")  # fmt: skip
    fails("counters", place, "harness.py ended with 1: the end", mend="pip install")


def test_a_machine_that_atheris_is_not_for(
    place: doctor.Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_place.platform, "machine", lambda: "aarch64")
    monkeypatch.setitem(sys.modules, "atheris", None)
    for name in ("counters", "mutator", "fork, merge"):
        said = look(name, place)
        assert (said.state, said.text.split(";")[0]) == (
            doctor.WARN, "not tried: there is no Atheris for this machine")


def test_a_wrapper_that_is_not_executable(place: doctor.Place, checkout: Path) -> None:
    assert ask("fork, merge", place, root=checkout).state == doctor.OK
    wrapper = checkout / "fuzz/harness.sh"
    wrapper.chmod(0o644)
    said = ask("fork, merge", place, root=checkout)
    is_said(said, doctor.FAIL, "harness.sh is not executable", mend=f"chmod +x {wrapper}")


def test_a_process_that_libfuzzer_cannot_start(place: doctor.Place, inject: Inject) -> None:
    """A program that does nothing as argv[0]: libFuzzer takes that for inputs worth nothing."""
    inject("import atheris\n"
           "real = atheris.Setup\n"
           "atheris.Setup = lambda argv, one, **rest: real(['true', *argv[1:]], one, **rest)\n")
    fails("fork, merge", place, "-merge", mend="checkout fuzz/harness.sh")


def test_asan_runtimes_that_are_preloaded(place: doctor.Place) -> None:
    gccs = build.run("gcc", "-print-file-name=libasan.so").stdout.strip()
    fuzzers = str(harness.atheris_folder().parent / "asan_with_fuzzer.so")
    options = {"ASAN_OPTIONS": "detect_leaks=0"}  # Python's, at its end
    assert ask("ASan runtimes", place, LD_PRELOAD=fuzzers, **options).state == doctor.OK
    said = ask("ASan runtimes", place, LD_PRELOAD=gccs, **options)
    is_said(said, doctor.WARN, "libasan.so is preloaded", mend="unset LD_PRELOAD")


def test_two_asan_runtimes_preloaded(place: doctor.Place) -> None:
    """Two that exist end every process with a line of their own, so one of these does not."""
    gccs = build.run("gcc", "-print-file-name=libasan.so").stdout.strip()
    said = ask("ASan runtimes", place, LD_PRELOAD=f"{gccs}:/no/asan_with_fuzzer.so",
               ASAN_OPTIONS="detect_leaks=0")  # fmt: skip
    is_said(said, doctor.FAIL, "2 are preloaded", "libasan.so", mend="unset LD_PRELOAD")
    both = f"{gccs}:{harness.atheris_folder().parent / 'asan_with_fuzzer.so'}"
    done = subprocess.run([sys.executable, "-c", "pass"], capture_output=True, text=True,
                          check=False, env=os.environ | {"LD_PRELOAD": both})  # fmt: skip
    assert done.returncode != 0
    assert "incompatible ASan runtimes" in done.stderr


def test_an_asan_runtime_in_the_module(
    place: doctor.Place, own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.c").write_text("")
    module = Path(own["module"])
    subprocess.run(["gcc", "-shared", "-fsanitize=address", "-o", module, tmp_path / "a.c"],
                   check=True)  # fmt: skip
    monkeypatch.setenv("LD_PRELOAD", "libasan.so.8")
    fails("ASan runtimes", place, "the module is linked to libasan.so",
          "libasan.so.8 is preloaded as well", mend="unset LDFLAGS")  # fmt: skip


def test_clocks_that_are_wrong(place: doctor.Place) -> None:
    """Played, but for the file of tomorrow: a clock is the whole machine's."""
    usual = doctor_machine.clock(place)
    assert usual.state == doctor.OK
    for clocks, word in (
        ({"steady": lambda: 5.0}, "stands still"),
        ({"wall": count(2e9, 3600).__next__}, "the date went on by 3600"),
        ({"wall": lambda: 1e9}, "before the newest file"),
        ({"wall": lambda: 9e9}, "it is 2255"),
    ):
        said = doctor_machine.clock(place, **clocks)  # type: ignore[arg-type]
        assert said.state == doctor.FAIL
        assert word in said.text
        assert said.mend


def test_a_date_before_the_newest_file(place: doctor.Place, checkout: Path) -> None:
    """As after a boot without a battery: make would build nothing, and logs lie."""
    place.repository = checkout
    assert look("clock", place).state == doctor.OK
    tomorrow = time.time() + 86_400
    os.utime(checkout / "csrc/run.c", (tomorrow, tomorrow))
    fails("clock", place, "before the newest file of this checkout", mend="timedatectl")


@pytest.mark.parametrize(("options", "state", "words", "mend"), [
    ("size=4g", doctor.OK, "corpus 4.0 GB", ""),
    ("size=500m", doctor.WARN, "corpus 500 MB", "du -xsh"),
    ("size=5m", doctor.FAIL, "is full: 5 MB", "du -xsh"),
    ("size=4g,nr_inodes=2", doctor.FAIL, "and 1 files are free", "du -xsh"),
    ("size=4g,ro", doctor.FAIL, "Read-only file system", "mount -o remount,rw"),
])  # fmt: skip
def test_a_disk_that_has_no_room(
    options: str, state: str, words: str, mend: str, place: doctor.Place
) -> None:
    place.corpus.mkdir()
    said = ask("disk", place, before=APART, first=MOUNT.format(options))
    is_said(said, state, words, mend=mend)


def test_a_disk_of_the_cache_that_was_filled(place: doctor.Place) -> None:
    place.corpus.mkdir()
    fill = MOUNT.format("size=70m") + (
        "with open(Path(sys.argv[3], 'big'), 'wb') as file:\n"
        "    while file.write(bytes(1 << 20)) and os.statvfs(sys.argv[3]).f_bavail > 2560: pass\n"
    )
    said = ask("disk", place, before=APART, first=fill, XDG_CACHE_HOME=str(place.corpus))
    is_said(said, doctor.FAIL, "is full: ", mend="or set XDG_CACHE_HOME to another disk")


def test_a_folder_that_cannot_be_written(place: doctor.Place, tmp_path: Path) -> None:
    place.corpus = tmp_path / "file" / "corpus"
    (tmp_path / "file").write_text("")
    fails("disk", place, "corpus", "is not a folder", mend=f"mv {tmp_path / 'file'} ")


@pytest.mark.parametrize(("file", "content"), [
    ("cpu.max", {"cpu.max": "50000 100000"}),
    ("cpu,cpuacct", {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}),
])  # fmt: skip
def test_a_control_group_that_leaves_half_a_core(
    file: str, content: dict[str, str], tmp_path: Path
) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert doctor_machine._limit(tmp_path) == 0.5, file
    group = tmp_path / "quiet"
    group.mkdir()
    (group / "cpu.max").write_text("max 100000\n")
    assert doctor_machine._limit(group) is None


def test_a_group_that_has_less_than_its_cores(place: doctor.Place, tmp_path: Path) -> None:
    """Played: groups of processes are the system's."""
    place.groups = tmp_path
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    warns("cores", place, "has the time of 0.5", mend="--jobs 1")


def test_a_process_that_is_kept_off_cores(place: doctor.Place) -> None:
    usable, there = sorted(os.sched_getaffinity(0)), os.cpu_count() or 1
    said = ask("cores", place, first=f"os.sched_setaffinity(0, {{{usable[0]}}})")
    assert said.text.startswith(f"1 of {there}"), said
    if there > 1:
        is_said(said, doctor.WARN, "kept off the others", mend=f"taskset -pc 0-{there - 1}")


def test_git_that_knows_nobody(
    place: doctor.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "EMAIL",
                 "GIT_COMMITTER_EMAIL"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    place.repository = tmp_path
    warns("git", place, "not a git repository", mend="git")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    warns("git", place, "git does not know you", mend="git config user.name")
    monkeypatch.setenv("PATH", "")
    fails("git", place, "git is not installed", mend="apt-get install git")


def test_a_corpus_that_is_empty_or_unreadable(
    place: doctor.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus.paths, "__defaults__", ((tmp_path,),))
    fails("corpus", place, "has no case", mend="checkout corpus")
    (tmp_path / "wrong.litmus").write_text("nonsense\n")
    fails("corpus", place, "cannot be read", "wrong.litmus", mend="checkout corpus")


def test_each_check_that_fails_names_what_mends_it() -> None:
    """Whatever is raised in it."""

    def breaks(_: doctor.Place) -> doctor.Said:
        raise OSError(28, "No space left on device")

    for check in doctor.CHECKS:
        row = doctor.Check(name=check.name, looks=breaks, mend=check.mend)
        said = doctor.examine(doctor.Place(), checks=[row])[check.name]
        assert said.state == doctor.FAIL
        assert "No space left" in said.text
        assert said.mend
