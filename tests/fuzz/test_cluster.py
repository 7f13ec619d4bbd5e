# SPDX-License-Identifier: GPL-2.0-only
"""The option --cluster: the same answers from Ray, and one line where there can be none."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import build
import cleanrace
from cleanrace import Case, Target
from fuzz import cluster, shelf, store, units
from fuzz import prove as prover
from fuzz import run as command_line

ROOT = Path(__file__).resolve().parents[2]
TINY = "1/2/1/0"
UNMOUNT = (
    "cleanrace 1\nfs a local\nfs b local\nthread register 0\nthread mount a\nthread mount b\n"
    "thread unmount a\n"
)
#: A Ray of our own that stays until its input ends, for others to connect to.
HEAD = """
import sys
sys.path.insert(0, {root!r})
import build
from cleanrace import Target
from fuzz import cluster
ray = cluster.Ray(Target(build.ensure(target="reference")), 2, cluster.LOCAL)
print(ray.ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.stop()
"""
#: The verbs.
VERBS = """
import sys
sys.path.insert(0, {root!r})
from fuzz import run
sys.exit(run.main(sys.argv[1:]))
"""
#: The verbs with the first Ray worker killed (SIGKILL) as soon as it has answered once.
KILLS = """
import os, signal, sys
sys.path.insert(0, {root!r})
from fuzz import cluster, run
answer, killed = cluster.Ray._answer, []
def kills(self, actor):
    said = answer(self, actor)
    if said.what == "answer" and not killed:
        killed.append(actor.pid)
        os.kill(actor.pid, signal.SIGKILL)
    return said
cluster.Ray._answer = kills
status = run.main(sys.argv[1:])
print("killed", len(killed))
sys.exit(status)
"""


class Ended(NamedTuple):
    status: int
    out: str
    err: str


def program(text: str, *arguments: str, **environment: str) -> Ended:
    """A Python program in a process of its own, since Ray can be set up once per process."""
    done = subprocess.run(
        [sys.executable, "-c", text.format(root=str(ROOT)), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        timeout=300,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def prove(folder: Path, *arguments: str) -> list[str]:
    name = f"{len(list(folder.iterdir()))}.json"
    return [
        "prove",
        "--bound",
        TINY,
        "--jobs",
        "2",
        "--certificate",
        str(folder / name),
        "--findings",
        str(folder / "found"),
        *arguments,
    ]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a Ray of ours has its sockets; the names of tmp_path are too long for those."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def left_behind(place: Path) -> list[str]:
    """Files there, and processes that were told of it."""
    found = [path.name for path in place.iterdir()]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{place}/".encode() in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


@pytest.mark.long
def test_neither_ray_nor_a_killed_worker_shows_in_the_certificate(
    real: Target, tmp_path: Path, place: Path
):
    assert command_line.main(prove(tmp_path)) == 1
    here = (tmp_path / "0.json").read_bytes()
    status, out, err = program(KILLS, *prove(tmp_path, "--cluster", "local"))
    assert (status, err) == (1, "")
    assert out.endswith("killed 1\n")
    assert "raylet" not in out
    (written,) = tmp_path.glob("[1-9].json")
    assert written.read_bytes() == here
    assert left_behind(place) == []
    assert json.loads(here)["target"]["build_id"] == real.build_id


@pytest.mark.long
def test_an_exploration_on_ray_finds_what_one_here_does(real: Target, tmp_path: Path, place: Path):
    assert real.name == "linux-5.10"
    path = tmp_path / "case.litmus"
    path.write_text(UNMOUNT)
    found = []
    for more in ([], ["--cluster", "local"]):
        out = tmp_path / "out.json"
        arguments = ["explore", str(path), "--jobs", "2", "--json", str(out), *more]
        status, _, err = program(KILLS, *arguments)
        assert (status, err) == (0, "")
        found.append(json.loads(out.read_text()))
    assert left_behind(place) == []
    for name in ("done", "executions", "classes", "states", "steps", "marks", "races"):
        assert found[0][name] == found[1][name], name


class Head(NamedTuple):
    """A cluster whose cache folder is another one, and what one needs to be let in."""

    address: str
    cache: Path
    environment: dict[str, str]


@pytest.fixture
def head(tmp_path: Path, reference: dict[str, Any], place: Path) -> Iterator[Head]:
    """Ray with a cache folder of its own, in which only the reference is built."""
    cache = tmp_path / "cache"
    (cache / "cleanrace/targets").mkdir(parents=True)
    built = f"builds/{reference['build_id']}"
    shutil.copytree(build.cache_folder() / built, cache / "cleanrace" / built)
    token = "0123456789abcdef" * 4
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HEAD.format(root=str(ROOT)).replace(
                "from fuzz import cluster", f"from fuzz import cluster; cluster.SECRET = {token!r}"
            ),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Head(process.stdout.readline().strip(), cache / "cleanrace", environment)
    finally:
        process.stdin.close()
        process.stdout.read()
        process.stdout.close()
        process.wait()
    assert left_behind(place) == []


@pytest.mark.long
def test_a_cluster_needs_the_very_same_build(real: Target, tmp_path: Path, head: Head):
    asked = prove(tmp_path, "--cluster", head.address)
    host = socket.gethostname()
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    port = head.address.rpartition(":")[2]
    assert {
        line.split()[3].rpartition(":")[0]
        for line in listening.splitlines()
        if line.split()[3].endswith(f":{port}")
    } <= {"127.0.0.1", "[::ffff:127.0.0.1]"}

    status, out, err = program(KILLS, *asked, **head.environment)
    lacks = f"--cluster {head.address}: {host} has no build of linux-5.10; it needs the same"
    said = f"run.py: {lacks} checkout and 'python build.py --target linux-5.10'\n"
    assert (status, err) == (2, said)

    (head.cache / "targets/linux-5.10.json").write_text(
        json.dumps(real.info | {"build_id": "0123456789abcdef"})
    )
    status, out, err = program(KILLS, *asked, **head.environment)
    assert status == 2
    assert f"{host} has build 0123456789abcdef of linux-5.10, not {real.build_id}; it" in err
    assert err.count("\n") == 1

    (head.cache / "targets/linux-5.10.json").write_text(json.dumps(real.info))
    status, out, err = program(KILLS, *asked, **head.environment)
    assert (status, err) == (1, "")
    assert out.endswith("killed 1\n")
    assert command_line.main(prove(tmp_path)) == 1
    first, second = sorted(tmp_path.glob("*.json"))
    assert first.read_bytes() == second.read_bytes()


def test_another_version_of_our_files_is_noticed():
    code = units.code()
    assert {"fuzz/units.py", "fuzz/exploring.py", "pybind/cleanrace/explorer.py"} <= set(code)
    assert units.other_file(code) is None
    assert units.other_file(code | {"fuzz/units.py": "0"}) == "fuzz/units.py"
    assert units.other_file(code | {"fuzz/no_such.py": "0"}) == "fuzz/no_such.py"


def test_another_build_is_noticed(control: Target):
    spec = units.spec(control)
    assert units.find(spec).build_id == control.build_id
    with pytest.raises(LookupError, match=f"build {control.build_id} of reference, not 0"):
        units.find(spec | {"build_id": "0"})
    with pytest.raises(LookupError, match=r"no build of linux-1\.0"):
        units.find(spec | {"build_id": "0", "name": "linux-1.0"})


@pytest.mark.parametrize(
    "verb", [["prove"], ["sanitize"], ["explore", "CASE"], ["minimise", "CASE"]]
)
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "--cluster nonsense: expected local or HOST:PORT"),
        ("host:99999", "--cluster host:99999: expected local or HOST:PORT"),
        ("ray://host:1", "--cluster ray://host:1: expected local or HOST:PORT"),
        ("", "--cluster : expected local or HOST:PORT"),
        ("127.0.0.1:CLOSED", "nobody answers there: Connection refused"),
        ("no-such-host.invalid:6379", "nobody answers there"),
    ],
)
def test_a_wrong_address_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str], address: str, said: str
):
    path = tmp_path / "case.litmus"
    path.write_text(UNMOUNT.replace("cleanrace 1\n", "cleanrace 1\nexpect init-missing\n"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = str(server.getsockname()[1])
    arguments = [str(path) if word == "CASE" else word for word in verb]
    address = address.replace("CLOSED", closed)
    assert command_line.main([*arguments, "--cluster", address]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_what_is_no_ray_is_one_line(capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(len(cluster.PREFACE + cluster.SETTINGS), socket.MSG_WAITALL)
                connection.sendall(b"HTTP/1.1 400 Bad Request")

        thread = threading.Thread(target=answer)
        thread.start()
        assert command_line.main(["prove", "--cluster", address]) == 2
        thread.join()
    said = f"run.py: --cluster {address}: what answers there is no Ray\n"
    assert capsys.readouterr().err == said


def test_without_ray_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda _name: None)
    assert command_line.main(["prove", "--cluster", "local"]) == 2
    said = "run.py: --cluster local: Ray is not installed, run pip install -e '.[cluster]'\n"
    assert capsys.readouterr().err == said


@pytest.mark.long
def test_an_interrupt_ends_our_own_ray(
    launch: Callable[..., Any], real: Target, tmp_path: Path, place: Path
):
    """And what was proved until then is there to go on from."""
    bound = "2/3/1/0"
    journal = prover.Proving(real, prover.Options(bound=bound), lambda _: None).path
    journal.unlink(missing_ok=True)
    process = launch(
        "run.py",
        "prove",
        "--bound",
        bound,
        "--jobs",
        "2",
        "--cluster",
        "local",
        "--findings",
        tmp_path,
    )
    while not journal.exists() or not journal.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    assert left_behind(place)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode in (1, 130)  # 1 if it had met a violation
    assert err == ("run.py: interrupted\n" if process.returncode == 130 else "")
    assert "not finished; to go on" in out
    assert left_behind(place) == []
    assert journal.read_text().endswith("\n")


def pending(target: Target, root: Path) -> None:
    """Two findings where campaigns leave what is to be minimised."""
    scenario = Case.from_text(UNMOUNT).scenario
    for bug, verdict in (("b", "init-missing"), ("d", "init-missing")):
        met = cleanrace.search(
            target,
            scenario,
            schedules=20_000,
            planted=(bug,),
            detect=True,
            judged=(verdict,),
            stop_on=(verdict,),
        )
        finding = store.examine(
            target, scenario, verdict, schedule=met.first[verdict], planted=(bug,)
        )
        folder = store.folder_of(root / shelf.PENDING, target, finding.planted)
        assert store.keep(folder / store.file_name(finding), store.to_case(target, finding))


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def minimised(tmp_path: Path, real: Target, name: str, *arguments: str) -> dict[str, bytes]:
    """What is on a shelf after `minimise` by such workers."""
    root = tmp_path / name
    pending(real, root)
    ended = program(VERBS, "minimise", "--findings", str(root), *arguments)
    assert (ended.status, ended.err) == (0, "")
    assert "2 of 2 findings minimised" in ended.out
    return files(root)


@pytest.mark.long
def test_processes_minimise_as_this_one_does(real: Target, tmp_path: Path):
    here = minimised(tmp_path, real, "here")
    assert len([name for name in here if name.endswith("scenario.litmus")]) == 2
    assert minimised(tmp_path, real, "processes", "--jobs", "2") == here


@pytest.mark.long
def test_ray_minimises_as_this_process_does(real: Target, tmp_path: Path, place: Path):
    here = minimised(tmp_path, real, "here")
    assert minimised(tmp_path, real, "ray", "--jobs", "2", "--cluster", "local") == here
    assert left_behind(place) == []
