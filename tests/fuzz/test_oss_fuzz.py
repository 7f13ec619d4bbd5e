# SPDX-License-Identifier: GPL-2.0-only
"""The contract of OSS-Fuzz and ClusterFuzzLite, without their image.

The image's programs have stand-ins in oss_fuzz_image/. What was built is moved, and all that it
was built of is deleted, before it is looked at.
"""

import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from test_ci_outputs import schema

import build
import cleanrace
from cleanrace import Case, Scenario, Target, words
from fuzz import corpus, harness, premises

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
IMAGE = Path(__file__).resolve().parent / "oss_fuzz_image"
SUBMITTED, LITE = ROOT / "fuzz" / "oss_fuzz", ROOT / ".clusterfuzzlite"
ENTRY = SUBMITTED / "fuzz_cleancache.py"
NAME = ENTRY.stem
COPIED = (
    ".clusterfuzzlite", "LICENSE", "README.md", "build.py", "corpus", "csrc", "fuzz", "pybind",
    "pyproject.toml",
)  # fmt: skip
ROOM = 300  # MB that a build takes
CRASHED = 77
# As the image sets them for its clang, and for gcc what that knows of it.
CLANG = (
    "-O1 -fno-omit-frame-pointer -gline-tables-only -Wno-error=incompatible-pointer-types"
    " -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -fsanitize=address"
    " -fsanitize-address-use-after-scope -fsanitize=fuzzer-no-link -fno-sanitize=function,leak,vptr"
)
GCC = "-O1 -fno-omit-frame-pointer -fsanitize=undefined -fno-sanitize=vptr"
FEW = ("-seed=1337", "-runs=4")
Run = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Built:
    """What a build left: the folder that $OUT was, and the module that is in the package."""

    out: Path
    module: Path

    def start(
        self, folder: Path, *arguments: object, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Start the fuzzer with an environment that has nothing, in a folder for its files."""
        temporary = folder / "temporary"
        temporary.mkdir(exist_ok=True)
        environment = {
            "PATH": os.defpath,
            "HOME": str(folder / "no-home"),
            "TMPDIR": str(temporary),
            "ASAN_OPTIONS": "abort_on_error=0",
            **variables,
        }
        return subprocess.run(
            [self.out / NAME, "--", *map(str, arguments)],
            cwd=folder, env=environment, text=True, check=False, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def made(root: Path, kernel: Path, script: Path, **variables: str) -> None:
    """Build as the image does in a folder, then move the result and delete the rest."""
    source, out, work = (root / name for name in ("src", "out", "work"))
    for folder in (source / "cleanrace", out, work):
        folder.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / "cleanrace" / name)
    for file in (build.UNIT, build.HEADER):
        (source / "linux" / file).parent.mkdir(parents=True)
        shutil.copy(kernel / file, source / "linux" / file)
    environment = {
        "PATH": f"{IMAGE}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(root / "home"),
        "PYTHONPATH": str(work / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "1",  # of a file that is soon deleted
        "SRC": str(source),
        "OUT": str(out),
        "WORK": str(work),
        "FUZZING_ENGINE": "libfuzzer",
        "FUZZING_LANGUAGE": "python",
        "ARCHITECTURE": "x86_64",
        **variables,
    }
    done = subprocess.run(
        ["bash", "-eux", source / "cleanrace" / script.relative_to(ROOT)],
        cwd=source / "cleanrace", env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    shutil.move(work / "cleanrace" / "packed" / "_cleanrace.so", root)
    out.rename(Path(tempfile.mkdtemp(dir=root)) / "moved")
    shutil.rmtree(source)
    shutil.rmtree(work)


def built(factory: pytest.TempPathFactory, kernel: Path, script: Path, **variables: str) -> Built:
    """A build that all processes of this session share; whoever asks first makes it."""
    base = factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    final = base / f"oss-fuzz-{variables['SANITIZER']}" / "built"
    with build.making(final, ROOM) as new:
        if not final.exists():
            made(new, kernel, script, **variables)
    return Built(next(final.glob("*/moved")), final / "_cleanrace.so")


@pytest.fixture(scope="session")
def kernel(linux: dict[str, Any]) -> Path:
    """The folder of the kernel's files."""
    return Path(linux["source"]).parents[1]


@pytest.fixture(scope="session")
def address(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As ClusterFuzzLite builds it with AddressSanitizer."""
    return built(
        tmp_path_factory, kernel, LITE / "build.sh", CC="clang", CXX="clang++", CFLAGS=CLANG,
        CXXFLAGS=CLANG, SANITIZER="address",
    )  # fmt: skip


@pytest.fixture(scope="session")
def undefined(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As OSS-Fuzz builds it with UndefinedBehaviorSanitizer, but with gcc."""
    return built(
        tmp_path_factory, kernel, SUBMITTED / "build.sh", CC="gcc", CXX="g++", CFLAGS=GCC,
        CXXFLAGS=GCC, SANITIZER="undefined",
    )  # fmt: skip


@pytest.fixture(scope="session")
def coverage(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """As OSS-Fuzz builds it to measure coverage: flags of its own, no library to preload."""
    flags = "-O1 -fprofile-instr-generate -fcoverage-mapping -pthread"
    return built(
        tmp_path_factory, kernel, SUBMITTED / "build.sh", CC="clang", CXX="clang++", CFLAGS=flags,
        CXXFLAGS=flags, SANITIZER="coverage",
    )  # fmt: skip


@pytest.fixture(scope="session")
def crashing(control: Target) -> bytes:
    """An input that shows a planted bug, and is two bytes too long."""
    search = {"planted": ("c",), "judged": ("init-missing",)}
    found = cleanrace.search(
        control, premises.MAIN, schedules=20_000, stop_on=("init-missing",), **search
    )
    number = found.first["init-missing"]
    shown = cleanrace.run(control, premises.MAIN, policy="random", schedule=number, **search)
    data = premises.MAIN.to_bytes() + shown.tape
    one = control.fuzzer(**search).one
    while one(data[:-1]):
        data = data[:-1]
    return data + bytes(2)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Sizes and times of a folder's files."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def counters(said: str) -> int:
    """How many counters libFuzzer was given."""
    met = re.search(r"INFO: Loaded \d+ modules +\((\d+) (?:inline 8-bit counters|guards)\)", said)
    assert met, said
    return int(met[1])


def disassembled(module: Path, section: str) -> str:
    """The code of one section."""
    listed = build.run("objdump", "-d", "--no-show-raw-insn", "-j", section, module)
    assert listed.returncode == 0, listed.stderr
    return listed.stdout


def test_a_build_has_what_is_looked_for(address: Built):
    assert {path.name for path in address.out.iterdir()} == {
        NAME, f"{NAME}.pkg", f"{NAME}_seed_corpus.zip", f"{NAME}.dict", f"{NAME}.options",
        "sanitizer_with_fuzzer.so",
    }  # fmt: skip
    assert "LLVMFuzzerTestOneInput" in (address.out / NAME).read_text()
    head = (address.out / f"{NAME}.pkg").read_bytes()[:20]
    assert head[:5] == b"\x7fELF\x02"
    assert int.from_bytes(head[18:20], "little") == 62, "x86-64"


def test_the_seed_corpus_is_the_corpus(address: Built):
    with zipfile.ZipFile(address.out / f"{NAME}_seed_corpus.zip") as packed:
        found = {packed.read(name) for name in packed.namelist()}
    assert found == set(corpus.seeds())


def test_the_dictionary_has_every_operation(address: Built):
    lines = (address.out / f"{NAME}.dict").read_text().splitlines()
    entries = [re.fullmatch(r'(\w+)="((?:\\x[0-9a-f]{2}){2})"', line) for line in lines[1:]]
    assert all(entries)
    decoded = set()
    for entry in entries:
        both = bytes.fromhex(entry[2].replace("\\x", ""))
        head = Scenario.from_text("cleanrace 1\nfs a local\nfs b local\nthread mount a\n")
        data = head.to_bytes()[: words.HEADER_BYTES] + both
        decoded.add(Scenario.from_bytes(data).threads[0][0].name)
    assert decoded == set(words.OPERATIONS)


def test_the_options_are_for_libfuzzer(address: Built):
    read = configparser.ConfigParser()
    read.read(address.out / f"{NAME}.options")
    assert read.sections() == ["libfuzzer"]
    assert dict(read["libfuzzer"]) == {"max_len": "1024", "timeout": "25"}


@pytest.mark.parametrize("build_of", ["address", "undefined"])
def test_a_moved_build_runs_and_counts(
    build_of: str, request: pytest.FixtureRequest, tmp_path: Path
):
    here: Built = request.getfixturevalue(build_of)
    before = files(here.out)
    done = here.start(tmp_path, *FEW)
    assert done.returncode == 0, done.stdout
    assert "Done 4 runs" in done.stdout
    assert counters(done.stdout) >= 100
    assert int(re.findall(r" cov: (\d+) ", done.stdout)[-1]) >= 50
    assert files(here.out) == before, "only the temporary folder can be written to"
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert list((tmp_path / "temporary").iterdir()) == [], "nothing unpacked is left"


@pytest.mark.parametrize("build_of", ["address", "undefined"])
def test_a_moved_build_is_guided_by_our_mutator_and_finds_nothing_new(
    build_of: str, request: pytest.FixtureRequest, tmp_path: Path
):
    here: Built = request.getfixturevalue(build_of)
    seeds = tmp_path / "seeds"
    shutil.unpack_archive(here.out / f"{NAME}_seed_corpus.zip", seeds)
    done = here.start(
        tmp_path, f"-dict={here.out / NAME}.dict", "-max_len=1024", "-timeout=25",
        "-rss_limit_mb=2560", "-seed=1", "-runs=300", seeds,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "cleanrace: fuzzing linux-5.10 5.10, build" in done.stdout
    assert re.search(r"NEW .*MS: \d+ Custom-", done.stdout), "our mutator was never called"
    assert "finding" in done.stdout.splitlines()[-1]
    assert "new finding:" not in done.stdout


@pytest.mark.parametrize("build_of", ["address", "undefined"])
def test_a_moved_build_finds_a_planted_bug(
    build_of: str, request: pytest.FixtureRequest, tmp_path: Path, real: Target
):
    here: Built = request.getfixturevalue(build_of)
    done = here.start(
        tmp_path, "-seed=1", "-runs=100000", f"-artifact_prefix={tmp_path}/", CLEANRACE_PLANTED="c"
    )
    assert done.returncode == CRASHED, done.stdout
    assert "=== Uncaught Python exception: ===" in done.stdout
    text = re.search(r"its scenario file is\n(.*?)\n\n", done.stdout, re.DOTALL)
    assert text
    case = Case.from_text(text[1] + "\n")
    assert case.broken == {"c"}
    assert case.expect in words.VERDICTS
    # The file travels to another compiler's build by its switches.
    tape = cleanrace.follow(
        real, case.scenario, case.switches, planted=("c",), judged=(case.expect,)
    )
    again = cleanrace.run(real, case.scenario, tape, planted=("c",), judged=(case.expect,))
    assert case.expect in again.verdicts
    crash = next(tmp_path.glob("crash-*"))
    assert here.start(tmp_path, crash, CLEANRACE_PLANTED="c").returncode == CRASHED
    assert here.start(tmp_path, crash).returncode == 0


def test_processes_that_a_moved_build_starts_run_the_target(address: Built, tmp_path: Path):
    given, kept = tmp_path / "given", tmp_path / "kept"
    kept.mkdir()
    shutil.unpack_archive(address.out / f"{NAME}_seed_corpus.zip", given)
    done = address.start(tmp_path, "-merge=1", kept, given)
    assert done.returncode == 0, done.stdout
    assert 20 < len(list(kept.iterdir())) <= len(list(given.iterdir()))
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("build_of", "hook"), [("address", "__asan_"), ("undefined", "__ubsan_handle_")]
)
def test_the_sanitizer_is_on_the_engine_and_never_on_the_kernels_side(
    build_of: str, hook: str, request: pytest.FixtureRequest
):
    module = request.getfixturevalue(build_of).module
    assert hook in disassembled(module, ".text")
    ours = disassembled(module, "cr_ktext")
    assert "cleancache_register_ops" in ours
    assert hook not in ours
    assert "__sanitizer_cov_trace_pc" in ours
    needed = build.run("readelf", "-d", module).stdout
    assert not re.search(r"NEEDED.*(?:asan|ubsan)", needed)


def test_a_build_for_coverage_runs_with_its_stub(coverage: Built, tmp_path: Path):
    done = coverage.start(tmp_path, *FEW)
    assert done.returncode == 0, done.stdout
    assert "Done 4 runs" in done.stdout
    # libFuzzer exits under Python's feet; whoever wants coverage lets Atheris end the process.
    ended = coverage.start(tmp_path, "-seed=1337", "-atheris_runs=4")
    assert ended.returncode == 0, ended.stdout
    assert "coverage is written here" in ended.stdout
    assert counters(done.stdout) >= 100
    assert not (coverage.out / "sanitizer_with_fuzzer.so").exists()
    for word in ("__asan_", "__ubsan_", "__llvm_prof"):
        assert word not in disassembled(coverage.module, ".text"), word
    assert "__sanitizer_cov_trace_pc" in disassembled(coverage.module, "cr_ktext")


def test_a_stub_may_stand_before_the_harness(tmp_path: Path):
    """Which a __future__ import forbids."""
    copy = Path(shutil.copy(ENTRY, tmp_path))
    (tmp_path / "python3").write_text("#!/bin/sh\n")
    (tmp_path / "python3").chmod(0o755)
    done = subprocess.run(
        [IMAGE / "compile_python_fuzzer", copy],
        env={"PATH": f"{tmp_path}:{os.defpath}", "SANITIZER": "coverage", "OUT": str(tmp_path),
             "WORK": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = copy.read_text()
    assert text.startswith("import atexit\n")
    assert text.endswith(ENTRY.read_text())
    ran = subprocess.run([sys.executable, copy], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "nothing was packed" in ran.stderr
    assert ran.stdout == "coverage is written here\n"


@pytest.mark.parametrize("folder", [SUBMITTED, LITE])
def test_the_project_file_says_what_is_asked(folder: Path):
    said = yaml.safe_load((folder / "project.yaml").read_text())
    assert said.pop("homepage", said["main_repo"]) == said["main_repo"]
    assert said.pop("main_repo").startswith("https://")
    assert re.fullmatch(r"[\w.-]+@[\w.-]+", said.pop("primary_contact"))
    assert said == {
        "language": "python",
        "fuzzing_engines": ["libfuzzer"],
        "sanitizers": ["address", "undefined"],
    }


@pytest.mark.parametrize("folder", [SUBMITTED, LITE])
def test_the_image_gets_the_kernel_and_the_script(folder: Path):
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert "FROM gcr.io/oss-fuzz-base/base-builder-python" in lines
    assert 'RUN bash "$SRC/cleanrace/fuzz/oss_fuzz/kernel.sh" "$SRC/linux"' in lines
    assert any(re.fullmatch(r"COPY (\.clusterfuzzlite/)?build\.sh \$SRC/", line) for line in lines)
    assert os.access(folder / "build.sh", os.X_OK)


@pytest.mark.parametrize("damaged", [None, build.UNIT, build.HEADER])
def test_only_the_known_kernel_files_are_taken(damaged: str | None, kernel: Path, tmp_path: Path):
    host, into = tmp_path / "host", tmp_path / "linux"
    for file in (build.UNIT, build.HEADER):
        (host / file).parent.mkdir(parents=True)
        (host / file).write_bytes((kernel / file).read_bytes() + b"\n" * (file == damaged))
    done = subprocess.run(
        ["bash", SUBMITTED / "kernel.sh", into],
        env={"PATH": f"{IMAGE}:{os.defpath}", "HOST_FOLDER": str(host)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if damaged:
        assert done.returncode != 0
        assert f"{into / damaged}: FAILED" in done.stdout
    else:
        assert done.returncode == 0, done.stderr
        known = build.KNOWN[build.DEFAULT][2]
        for file in (build.UNIT, build.HEADER):
            assert build.sha256(into / file) == known[file]


def test_packing_refuses_other_kernel_files(kernel: Path, tmp_path: Path):
    for file in (build.UNIT, build.HEADER):
        (tmp_path / file).parent.mkdir(parents=True)
        shutil.copy(kernel / file, tmp_path / file)
    (tmp_path / build.UNIT).write_text("int cleancache_register_ops;\n")
    done = subprocess.run(
        [sys.executable, SUBMITTED / "pack.py", "--kernel", tmp_path, "--into", tmp_path / "into"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"pack\.py: \S+ has sha256 \w{64}, expected 5599\w{60}\n", done.stderr)


@pytest.mark.parametrize("name", ["pr", "batch", "cron", "build"])
def test_the_workflows_are_clusterfuzzlites(name: str):
    text = (ROOT / ".github" / "workflows" / f"cflite_{name}.yml").read_text()
    # To YAML 1.1 the key `on` is a truth value.
    workflow = {"on" if key is True else key: value for key, value in yaml.safe_load(text).items()}
    vendored = "check_jsonschema/builtin_schemas/vendor/github-workflows.json"
    jsonschema.validate(workflow, schema("check-jsonschema", vendored))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    action = "google/clusterfuzzlite/actions/"
    lite = [step for step in steps if step.get("uses", "").startswith(action)]
    assert lite
    for step in lite:
        assert step["with"]["language"] == "python"
        assert step["uses"].removeprefix(action) in ("build_fuzzers@v1", "run_fuzzers@v1")
    modes = {step["with"]["mode"] for step in lite if "run_fuzzers" in step["uses"]}
    assert modes == {
        "pr": {"code-change"}, "batch": {"batch"}, "cron": {"prune", "coverage"}, "build": set(),
    }[name]  # fmt: skip
    upload = {step["with"].get("upload-build") for step in lite}
    assert (upload == {True}) == (name == "build")


# From a checkout.


def test_fork_mode_runs_the_target(run: Run, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir()
    done = run(
        "harness.py", "--target", "reference", "--findings", str(tmp_path / "findings"),
        "-fork=2", "-runs=1", "-seed=1", str(kept), cwd=tmp_path, env={"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    grown = re.findall(r"^#\d+: cov: (\d+) .*oom/timeout/crash: 0/0/0", done.stderr, re.MULTILINE)
    assert grown, done.stderr
    assert len(list(kept.iterdir())) > 20


def test_a_crash_is_minimised_on_the_target(run: Run, tmp_path: Path, crashing: bytes):
    crash = tmp_path / "crash"
    crash.write_bytes(crashing)
    done = run(
        "harness.py", "--target", "reference", "--planted", "c", "--crash", "--findings",
        str(tmp_path / "findings"), "-minimize_crash=1", "-runs=20", "-seed=1", str(crash),
        cwd=tmp_path, env={"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert "failed to minimize beyond" in done.stderr, done.stderr
    smallest = min(tmp_path.glob("minimized-from-*"), key=lambda path: path.stat().st_size)
    assert smallest.stat().st_size < len(crashing)
    again = run(
        "harness.py", "--target", "reference", "--planted", "c", "--crash", "--findings",
        str(tmp_path / "findings"), str(smallest), cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == CRASHED
    assert "init-missing" in again.stderr


@pytest.mark.parametrize("library", ["asan_with_fuzzer.so", "ubsan_with_fuzzer.so"])
def test_the_preloaded_libraries_work_from_a_checkout(run: Run, tmp_path: Path, library: str):
    packages = harness.atheris_folder().parent
    done = run(
        "harness.py", "--target", "reference", "--findings", str(tmp_path / "findings"), "--",
        "-seed=1", "-runs=1500", cwd=tmp_path,
        env={"LD_PRELOAD": str(packages / library)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert counters(done.stderr) >= 100
    assert "Using preloaded libfuzzer" in done.stderr
    assert re.search(r"NEW .*MS: \d+ Custom-", done.stderr), "our mutator was never called"
    assert "Done 1500 runs" in done.stderr
