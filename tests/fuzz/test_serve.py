# SPDX-License-Identifier: GPL-2.0-only
"""The service finds, keeps and commits, and survives what happens to it and its workers."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import log, served, until

from cleanrace import Scenario, Summary, Target
from fuzz import (
    keeping,
    serve_db,
    serve_findings,
    serve_folder,
    serve_state,
    serve_supervisor,
    serve_told,
    shelf,
    store,
    worker,
)
from fuzz import run as command_line
from fuzz.serve_folder import Layout
from fuzz.serve_state import State

pytestmark = pytest.mark.long

METHODS = serve_supervisor.SEARCHES


def state() -> State:
    return State(target="linux-5.10", planted=[], build_id="x")


def stats(edges: list[int], seconds: float = 10.0) -> dict[str, Any]:
    summary = worker.summary_to_json(Summary(schedules=100, seconds=seconds))
    return {"summary": summary, "inputs": 1, "seconds": seconds, "edges": edges}


def finding(target: Target) -> store.Finding:
    """A finding of the shelf, as a worker meets it."""
    entry = shelf.entries()[0][0]
    result = keeping.replayed(target, entry.case)
    return store.examine(target, entry.case.scenario, entry.case.expect, tape=result.tape)


# Budgets and estimates.


def test_time_moves_to_methods_that_find_something_and_leaves_the_others_a_floor():
    one = state()
    assert one.shares(METHODS) == pytest.approx(dict.fromkeys(METHODS, 1 / len(METHODS)))
    one.ended("pct", stats([1]), news=30.0, findings=3, signatures=[])
    one.ended("surw", stats([1]), news=10.0, findings=1, signatures=[])
    shares = one.shares(METHODS)
    floor = serve_state.FLOOR / len(METHODS)
    assert shares["pct"] == pytest.approx(floor + 0.75 * (1 - serve_state.FLOOR))
    assert shares["surw"] == pytest.approx(floor + 0.25 * (1 - serve_state.FLOOR))
    assert shares["explore"] == pytest.approx(floor)
    assert sum(shares.values()) == pytest.approx(1)


def test_old_news_fade():
    one = state()
    one.ended("pct", stats([]), news=30.0, findings=3, signatures=[])
    one.ended("surw", stats([]), news=1.0, findings=0, signatures=[])
    for _ in range(40):
        one.ended("pct", stats([]), news=0.0, findings=0, signatures=[])
    floor = serve_state.FLOOR / len(METHODS)
    assert one.shares(METHODS)["pct"] == pytest.approx(floor, abs=0.001)


def test_shifts_are_given_in_proportion_to_the_shares():
    one = state()
    one.ended("pct", stats([]), news=10.0, findings=1, signatures=[])
    given = [one.next_method(METHODS, 60.0) for _ in range(600)]
    for name, share in one.shares(METHODS).items():
        assert given.count(name) == pytest.approx(600 * share, abs=2), name


def test_the_estimates_are_those_of_good_turing_and_chao():
    found = serve_state.unseen([1, 1, 1, 2, 5], 10)
    assert (found.seen, found.once, found.twice, found.shifts) == (5, 3, 1, 10)
    assert found.expected == pytest.approx(3 / 10)
    assert found.unseen == pytest.approx(0.9 * 3 * 2 / (2 * 2))
    assert serve_state.unseen([], 0).expected is None
    assert serve_state.unseen([4, 7], 9).unseen == 0


# What is remembered.


def test_the_state_survives_as_it_was_and_another_build_begins_its_edges_anew(tmp_path: Path):
    one = state()
    one.ended("pct", stats([3, 4]), news=1.0, findings=1, signatures=["a b"])
    one.save(tmp_path / "state.json")
    again = serve_state.load(tmp_path / "state.json")
    assert again is not None
    assert again.to_json() == one.to_json()
    assert again.edges == {3: 1, 4: 1}
    assert not again.rebuilt("x")
    assert again.rebuilt("y")
    assert (again.edges, again.signatures) == ({}, {"a b": 1})


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 9}', '{"format": 1, "x": 1}'])
def test_a_state_that_cannot_be_read_is_one_line(text: str, tmp_path: Path):
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(serve_state.Unreadable, match=r"^[^\n]*state\.json[^\n]*$"):
        serve_state.load(file)


def test_lines_that_found_no_room_wait_and_are_written_whole(tmp_path: Path):
    one = serve_db.Log(Path("/dev/full"))  # where every write fails for want of room
    one.write("paused")
    one.write("finding_met", signature="a b")
    assert not one.flush()
    one.path = tmp_path / "log.jsonl"
    assert one.flush()
    told = list(serve_db.events(one.path))
    assert [line["event"] for line in told] == ["paused", "finding_met"]
    assert one.path.read_bytes().count(b"\n") == 2


def test_a_log_turns_over_and_is_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serve_db, "LOG_BYTES", 300)
    one = serve_db.Log(tmp_path / "log.jsonl")
    for number in range(40):
        one.write("committed", names=[str(number)], commit=None)
    numbers = [int(told["names"][0]) for told in serve_db.events(one.path)]
    assert numbers == list(range(numbers[0], 40))
    assert len(list(tmp_path.iterdir())) == 1 + serve_db.LOGS_KEPT


def test_the_database_can_be_made_again_from_the_log(tmp_path: Path):
    one = serve_db.Log(tmp_path / "log.jsonl")
    counts = dict.fromkeys(serve_db.COLUMNS, 7)
    one.write("sample", **counts)
    one.write("finding_met", signature="a b")
    with one.path.open("ab") as file:
        file.write(b'{"event": "sam')  # where a kill cut it off
    path = tmp_path / "statistics.sqlite"
    path.write_bytes(b"this is no database, but long enough to be read as one " * 20)
    database, rebuilt = serve_db.open_or_rebuild(path, one.path)
    assert rebuilt
    reader = serve_db.Reader(path)
    assert [told["event"] for told in reader.events()] == ["finding_met"]
    assert [row["schedules"] for row in reader.samples()] == [7]
    database.close()
    database, rebuilt = serve_db.open_or_rebuild(path, one.path)
    assert not rebuilt
    database.close()


def test_old_samples_are_thinned_and_events_are_bounded(tmp_path: Path):
    database = serve_db.Database(tmp_path / "statistics.sqlite")
    counts = dict.fromkeys(serve_db.COLUMNS, 1.0)
    for at in range(0, 3000, 100):
        database.sample(float(at), counts)
    database.sample(serve_db.DAY + 3000.0, counts)
    for number in range(serve_db.EVENTS_KEPT + 20):
        database.event({"at": str(number), "event": "paused"})
    reader = serve_db.Reader(database.path)
    kept = [row["at"] for row in reader.samples()]
    assert kept == [0.0, 600.0, 1200.0, 1800.0, 2400.0, serve_db.DAY + 3000.0]
    assert len(reader.events(most=10_000)) == serve_db.EVENTS_KEPT
    database.close()


# Folder and inputs.


def test_one_service_per_folder(tmp_path: Path):
    layout = Layout(tmp_path)
    with layout.locked():
        assert serve_folder.busy(tmp_path)
        told = f"process {os.getpid()} works in it already"
        with pytest.raises(serve_folder.Busy, match=told), layout.locked():
            raise AssertionError
    assert not serve_folder.busy(tmp_path)


def test_inputs_that_add_something_are_kept_and_no_others(real: Target, tmp_path: Path):
    folder = tmp_path / "inputs"
    inputs = serve_folder.Inputs(folder, real.fuzzer(), method="pct")
    data = Scenario.from_text(
        "cleanrace 1\nfs a local\nthread register 0\nthread mount a; write a 0 0; unmount a\n"
    ).to_bytes()
    # What other tests of this process reached is not new any more, so it need not add.
    new = data + bytes(range(1, 60))
    kept = inputs.offer(new)
    assert [path.name for path in sorted(folder.glob("*"))] == (
        [f"pct-{serve_folder.digest(new)}"] if kept else []
    )
    assert not inputs.offer(new)
    assert not inputs.offer(bytes(serve_folder.INPUT_MAX + 1))


def test_what_kills_left_half_written_is_removed(real: Target, tmp_path: Path):
    layout = Layout(tmp_path / "corpus")
    layout.make()
    (layout.inputs / ".pct-x.7.tmp").write_bytes(b"hal")
    (layout.inputs / "pct-x").write_bytes(b"whole")
    layout.make()
    assert [path.name for path in layout.inputs.iterdir()] == ["pct-x"]
    one = pipeline(real, tmp_path)
    one.folder.mkdir(parents=True)
    for name, age in (("old", 7200), ("new", 0)):
        left = one.folder / f".{name}{store.SUFFIX}.x.tmp"
        left.write_text("hal")
        os.utime(left, (left.stat().st_mtime - age,) * 2)
    one.take_up()
    assert [path.name for path in one.folder.iterdir()] == [f".new{store.SUFFIX}.x.tmp"]


def test_links_and_pipes_are_no_inputs(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(bytes(serve_folder.INPUT_MAX + 1))
    for name in ("link", "pipe", "long", "missing"):
        assert serve_folder.read_input(tmp_path / name) is None, name
    assert serve_folder.read_input(tmp_path / "secret") == b"x"


def test_what_ran_is_known_after_the_process_is_gone(tmp_path: Path):
    path = tmp_path / "running"
    one = serve_folder.Running(path)
    one.write(b"first, and longer")
    one.write(b"second")
    assert serve_folder.ran(path) == b"second"
    one.write(b"")
    assert serve_folder.ran(path) == b""
    nowhere = serve_folder.Running(tmp_path / "missing" / "running")
    nowhere.write(b"goes on")
    assert nowhere.map is None


# Findings on their way.


def pipeline(target: Target, root: Path) -> serve_findings.Pipeline:
    made = serve_findings.Pipeline(target, ("b",), root)
    made.known.clear()
    return made


def test_a_finding_without_room_stays_in_memory_and_is_written_later(
    real: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = pipeline(real, tmp_path)
    met = finding(real)
    assert one.met(met, method="pct", schedules=3, saved=False)
    assert not one.met(met, method="surw", schedules=9, saved=False)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(store, "keep", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="No space"):
            one.save()
    assert [waiting.finding for waiting in one.unsaved] == [met]
    one.save()
    assert not one.unsaved
    assert one.path(met).exists()
    later = pipeline(real, tmp_path)
    later.take_up()
    assert (met.signature in later.waiting) is (met.signature not in later.known)


def test_who_kills_the_minimiser_again_and_again_is_given_up(real: Target, tmp_path: Path):
    one = pipeline(real, tmp_path)
    met = finding(real)
    one.met(met, method="pct", schedules=3, saved=False)
    for _ in range(serve_findings.DEATHS_MAX):
        assert one.next() is not None
        one.died("it died", guilty=False)  # somebody killed it: that is nobody's fault
    for _ in range(serve_findings.DEATHS_MAX):
        assert one.next() is not None
        one.died("it died", guilty=True)
    assert one.next() is None
    assert one.stuck == {met.signature: "it died"}


# The service with real workers.


def test_a_finding_is_met_minimised_drawn_stored_and_committed(real: Target, tmp_path: Path):
    repository = tmp_path / "repository"
    repository.mkdir()
    for command in (
        ("init", "--quiet"), ("config", "user.name", "a"), ("config", "user.email", "a@localhost"),
        ("commit", "--quiet", "--allow-empty", "--message", "begin"),
    ):  # fmt: skip
        subprocess.run(["git", *command], cwd=repository, check=True)
    root = repository / "findings"
    with served(real, tmp_path, findings=root, commit=True) as service:
        kept = until(service, lambda: log(service, "finding_kept"))[0]
        committed = until(service, lambda: log(service, "committed"))[0]
        assert kept["new"]
        assert kept["name"] in committed["names"]
        entry = shelf.read(root / kept["name"])
        assert (entry.meta.status, entry.meta.planted) == ("open", ("b",))
        assert entry.meta.schedules
        assert (service.layout.pages / f"{kept['name']}.html").exists()
        # Written from time to time, and a finding may come before its worker has told its totals.
        shown = serve_db.Reader(service.layout.database)
        until(service, lambda: shown.now()["totals"]["schedules"])
        met = [one["signature"] for one in log(service, "finding_met")]
        assert len(met) == len(set(met))
        assert kept["of"] in met
    names = subprocess.run(
        ["git", "log", "--format=", "--name-only"],
        cwd=repository, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert f"findings/{kept['name']}/{shelf.SCENARIO}" in names.splitlines()
    assert not list((root / shelf.PENDING).rglob(f"{store.file_name(finding(real))}"))


def test_every_method_runs_and_the_corpus_grows(control: Target, tmp_path: Path):
    with served(control, tmp_path, planted=(), shift=1.0, jobs=2) as service:
        until(service, lambda: all(service.state.method(name).shifts for name in METHODS))
        assert all(service.state.method(name).schedules > 0 for name in METHODS)
        until(service, lambda: service.state.coverage["pairs"] > 50)
        assert 50 < len(service.edges) <= control.info["edges"]
        assert service.state.coverage["inputs"] <= len(list(service.layout.inputs.iterdir()))
        assert log(service, "finding_met", "worker_died", "worker_trouble") == []
        assert {row["deaths"] for row in map(vars, service.state.methods.values())} == {0}


def running(service: serve_supervisor.Supervisor) -> bytes:
    """What the first search runs."""
    post = service.searching[0]
    if post.member is None or not post.member.stats:
        return b""
    return serve_folder.ran(service.layout.running / post.name)


def test_a_crashed_worker_is_replaced_and_its_input_set_aside(control: Target, tmp_path: Path):
    with served(control, tmp_path, planted=(), shift=60.0) as service:
        until(service, lambda: running(service))
        first = service.searching[0].member
        assert first is not None
        os.kill(first.process.pid, signal.SIGSEGV)
        died = until(service, lambda: log(service, "worker_died"))[0]
        assert died["worker"] == "search-0"
        assert "SIGSEGV" in died["why"]
        set_aside = until(service, lambda: log(service, "input_quarantined"))[0]
        file = service.layout.quarantine / set_aside["input"]
        assert serve_folder.digest(file.read_bytes()) == set_aside["input"] == died["input"]
        about = json.loads(file.with_suffix(".json").read_text())
        assert about["event"] == "worker_died"
        assert not list(service.layout.inputs.glob(f"*{set_aside['input']}"))
        until(service, lambda: running(service))
        second = service.searching[0].member
        assert second is not None
        assert second.process.pid != first.process.pid


@pytest.mark.parametrize("method", METHODS)
def test_what_a_crashed_worker_ran_is_recorded_as_a_scenario(
    method: str, control: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serve_supervisor, "SEARCHES", (method,))
    with served(control, tmp_path, planted=(), shift=60.0) as service:
        until(service, lambda: running(service))
        member = service.searching[0].member
        assert member is not None
        os.kill(member.process.pid, signal.SIGSEGV)
        set_aside = until(service, lambda: log(service, "input_quarantined"))[0]
        assert set_aside["method"] == method
        file = service.layout.quarantine / set_aside["input"]
        about = json.loads(file.with_suffix(".json").read_text())
        assert about["scenario"] == Scenario.from_bytes(file.read_bytes()).to_text()
        assert about["scenario"].startswith("cleanrace 1\n")


def test_who_was_killed_by_somebody_is_only_suspected(control: Target, tmp_path: Path):
    with served(control, tmp_path, planted=(), shift=60.0) as service:
        until(service, lambda: running(service))
        member = service.searching[0].member
        assert member is not None
        os.kill(member.process.pid, signal.SIGKILL)
        died = until(service, lambda: log(service, "worker_died"))[0]
        assert "SIGKILL" in died["why"]
        assert service.suspects == {died["input"]: 1}
        assert not log(service, "input_quarantined")


def test_a_worker_that_hangs_is_ended(
    control: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(serve_supervisor, "SILENCE", 4.0)
    with served(control, tmp_path, planted=(), shift=60.0) as service:
        until(service, lambda: running(service))
        member = service.searching[0].member
        assert member is not None
        os.kill(member.process.pid, signal.SIGSTOP)
        hung = until(service, lambda: log(service, "worker_hung"))[0]
        assert hung["worker"] == "search-0"
        until(service, lambda: running(service))


def test_a_worker_that_grows_is_ended_and_started_less_and_less_often(
    control: Target, tmp_path: Path
):
    with served(control, tmp_path, planted=(), shift=60.0, memory=1 << 20) as service:
        until(service, lambda: len(log(service, "worker_grew")) > 3)
        until(service, lambda: service.searching[0].deaths > 1)
        reader = serve_db.Reader(service.layout.database)
        until(service, lambda: "times in a row" in " ".join(reader.now().get("health", [])))


def test_a_kill_loses_no_counts_of_a_shift_that_has_not_ended(control: Target, tmp_path: Path):
    with served(control, tmp_path, planted=(), shift=60.0) as service:
        until(service, lambda: running(service))
        service.save()  # as it does every few seconds
        kept = serve_state.load(service.layout.state)
        assert kept is not None
        assert kept.shifts == service.state.shifts == 0
        post = service.searching[0]
        assert kept.methods[post.method].schedules == kept.summary.schedules > 0
        assert service.state.method(post.method).schedules == 0  # counted once it has ended
        told = serve_told.told(service, service.total(), running=True)
        assert sum(row["schedules"] for row in told["methods"]) == told["totals"]["schedules"]


def test_pausing_stops_the_searches_and_is_remembered(control: Target, tmp_path: Path):
    with served(control, tmp_path, planted=()) as service:
        until(service, lambda: running(service))
        service.asked(service.web, {"action": "pause"})
        service.turn()
        assert service.searching[0].member is None
    with served(control, tmp_path, planted=()) as service:
        service.turn()
        assert service.state.paused
        assert service.searching[0].member is None
        service.asked(service.web, {"action": "resume"})
        until(service, lambda: running(service))
        assert (service.state.starts, service.state.paused) == (2, False)


def test_what_is_pending_is_taken_up_by_the_next_start(real: Target, tmp_path: Path):
    with served(real, tmp_path) as service:
        until(service, lambda: log(service, "finding_met"))
        met = {one["signature"] for one in log(service, "finding_met")}
        service.pipeline.waiting.clear()  # as if it had been killed
    with served(real, tmp_path) as service:
        service.state.paused = True
        until(service, lambda: met <= service.pipeline.known.keys())
        kept = {one["of"] for one in log(service, "finding_kept")}
        assert met <= kept
        assert shelf.entries(tmp_path / "findings")[1] == []


# The command line.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-dashboard", "--port", "99"], "--port: it is the dashboard's"),
        (["--dashboard-only", "--planted", "c"], "--planted: with --dashboard-only nothing is"),
        (["--dashboard-only", "--time", "9"], "--time: with --dashboard-only nothing is searched"),
        (["--export", "x.html", "--port", "99"], "--port: with --export nothing is searched"),
        (["--export", "x.html", "--no-dashboard"], "exclude each other"),
        (["--target", ""], "--target: the name is empty"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], said: str
):
    folders = ["--corpus", str(tmp_path), "--findings", str(tmp_path / "findings")]
    assert command_line.main(["serve", *folders, *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], control: Target, tmp_path: Path
):
    def lines(*arguments: str) -> list[str]:
        assert command_line.main(["serve", *arguments]) == 2
        return capsys.readouterr().err.splitlines()

    assert control.name == "reference"
    common = ("--target", "reference", "--no-dashboard", "--time", "1")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    assert lines(*common, "--corpus", str(corpus), "--planted", "nothing")[0].startswith(
        "run.py: --planted nothing: expected one of a,"
    )
    with (corpus / "lock").open("a") as file:
        file.write("process 7")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        told = "process 7 works in it already: stop that one, or name another folder"
        assert lines(*common, "--corpus", str(corpus)) == [
            f"run.py: --corpus {corpus}: {told}"
        ]
    told = lines(*common, "--corpus", str(corpus), "--findings", str(tmp_path), "--commit")
    assert len(told) == 1
    assert told[0].startswith("run.py: --commit: ")
    state().save(corpus / "state.json")
    assert lines(*common, "--corpus", str(corpus)) == [
        f"run.py: --corpus {corpus}: it is about linux-5.10: name another folder"
    ]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        told = lines("--corpus", str(tmp_path / "x"), "--port", port)
        assert told == [f"run.py: --port {port}: Address already in use: name another one"]
    assert lines("--export", "x.html", "--corpus", "/missing/folder") == [
        "run.py: --corpus /missing/folder: there is no such folder, nothing was served there"
    ]


def test_sigterm_ends_all_processes_and_the_status_is_0(launch: Callable[..., Any], tmp_path: Path):
    mark = f"cleanrace-test-{tmp_path.name}-{os.getpid()}"
    process = launch(
        "run.py", "serve", "--target", "reference", "--corpus", str(tmp_path / "corpus"),
        "--findings", str(tmp_path / "findings"), "--port", "0", env={"MARK": mark},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith("dashboard: "):
            break
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "stopped"
    left = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and mark.encode() in _environment(entry)
    ]
    assert left == []
    told = [one["event"] for one in serve_db.events(Layout(tmp_path / "corpus").log)]
    assert told[0] == "service_started"
    assert "service_stopped" in told[-2:]
    assert serve_state.load(Layout(tmp_path / "corpus").state) is not None


def _environment(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
