# SPDX-License-Identifier: GPL-2.0-only
"""Hosts give each other inputs and findings as files, and believe nothing that they read."""

import errno
import io
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Target
from fuzz import corpus_verbs, serve_exchange, serve_folder, shelf, store
from fuzz import run as command_line
from fuzz.serve_exchange import FINDINGS, INPUTS, Exchange, Trader
from fuzz.serve_folder import Layout
from fuzz.serve_state import State
from fuzz.serve_workers import ServiceWorker

A, B = "a" * 16, "b" * 16
STORY = "pool-dead-reclaim+unmount"
PLANTED = ("b", "remount-twice")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Exchange, Exchange]:
    """Two hosts at one folder."""
    made = Exchange(tmp_path, A), Exchange(tmp_path, B)
    for one in made:
        one.begin()
    return made


def test_what_one_host_gives_every_other_one_takes_once(two: tuple[Exchange, Exchange]):
    one, other = two
    assert one.give(INPUTS, b"first")
    assert not one.give(INPUTS, b"first")
    assert one.give(INPUTS, b"second")
    assert sorted(other.take(INPUTS)) == [b"first", b"second"]
    assert list(other.take(INPUTS)) == list(one.take(INPUTS)) == []
    assert not other.give(INPUTS, b"first")  # somebody gave it
    later = Exchange(one.root, B)  # the other one, started again
    later.begin()
    assert sorted(later.take(INPUTS)) == [b"first", b"second"]
    assert [path.parts[-3] for path in one.root.rglob("*") if path.is_file()] == [A, A]


def test_what_was_not_handled_is_taken_again(two: tuple[Exchange, Exchange]):
    one, other = two
    one.give(INPUTS, b"first")
    for _ in range(2):
        assert next(other.take(INPUTS)) == b"first"  # and whoever asked failed at it
    assert list(other.take(INPUTS)) == [b"first"]
    assert list(other.take(INPUTS)) == []


def test_half_a_file_is_ignored_until_it_is_whole(two: tuple[Exchange, Exchange]):
    one, other = two
    one.give(INPUTS, b"a file of some length")
    file = next((one.own / INPUTS).iterdir())
    for part in (b"", b"a file of", b"a file of some lengtx"):
        file.write_bytes(part)
        assert list(other.take(INPUTS)) == []
    file.write_bytes(b"a file of some length")
    assert list(other.take(INPUTS)) == [b"a file of some length"]


def test_only_plain_small_files_of_hosts_are_read(two: tuple[Exchange, Exchange], tmp_path: Path):
    one, other = two
    one.give(INPUTS, b"good")
    secret = b"a secret"
    outside = tmp_path / "outside" / INPUTS
    outside.mkdir(parents=True)
    (outside / serve_folder.digest(secret)).write_bytes(secret)
    (one.own / INPUTS / serve_folder.digest(secret)).symlink_to(
        outside / serve_folder.digest(secret)
    )
    (tmp_path / ("c" * 16)).symlink_to(outside.parent)  # a host's folder that is a link
    os.mkfifo(one.own / INPUTS / ("0" * 40))
    (one.own / INPUTS / "not-a-digest").write_bytes(secret)
    long = bytes(serve_folder.INPUT_MAX + 1)
    (one.own / INPUTS / serve_folder.digest(long)).write_bytes(long)
    (tmp_path / ("d" * 16)).write_text("no folder")
    assert list(other.take(INPUTS)) == [b"good"]


def test_a_host_that_cannot_be_read_keeps_nobody_else_from_giving(
    two: tuple[Exchange, Exchange], tmp_path: Path
):
    one, other = two
    one.give(INPUTS, b"good")
    hidden = tmp_path / ("0" * 16)
    hidden.mkdir()
    (hidden / INPUTS).symlink_to(INPUTS)  # to itself
    assert list(other.take(INPUTS)) == [b"good"]
    assert other.hidden is not None
    assert other.hidden.errno == errno.ELOOP


def test_what_a_kill_or_a_crash_left_is_mended(two: tuple[Exchange, Exchange]):
    one, _ = two
    one.give(INPUTS, b"whole")
    one.give(INPUTS, b"empty after the machine went down")
    folder = one.own / INPUTS
    (folder / serve_folder.digest(b"empty after the machine went down")).write_bytes(b"")
    (folder / ".x.1.tmp").write_bytes(b"hal")
    later = Exchange(one.root, A)
    later.begin()
    assert not list(folder.glob(".*"))
    assert not later.give(INPUTS, b"whole")
    assert later.give(INPUTS, b"empty after the machine went down")
    assert min(Exchange(one.root, B).take(INPUTS)) == b"empty after the machine went down"


def test_of_many_findings_each_is_taken_a_few_in_a_turn(
    two: tuple[Exchange, Exchange], monkeypatch: pytest.MonkeyPatch
):
    one, other = two
    monkeypatch.setattr(serve_exchange, "FINDINGS_MAX", 3)
    for number in range(8):
        one.give(FINDINGS, b"finding %d" % number, store.SUFFIX)
    names = sorted(path.name for path in (one.own / FINDINGS).iterdir())
    whole = (one.own / FINDINGS / names[0]).read_bytes()
    for name in names[:3]:  # which are no reason never to come to the others
        (one.own / FINDINGS / name).write_bytes(b"half")
    turns = [len(list(other.take(FINDINGS))) for _ in range(3)]
    assert turns == [0, 3, 2]
    (one.own / FINDINGS / names[0]).write_bytes(whole)
    assert list(other.take(FINDINGS)) == [whole]
    for name in names[1:3]:
        (one.own / FINDINGS / name).unlink()
    assert list(other.take(FINDINGS)) == []
    assert list(other.take(FINDINGS)) == []
    more = (b"more %d" % number for number in range(1000))
    last = next(data for data in more if serve_folder.digest(data) > names[-1])
    one.give(FINDINGS, last, store.SUFFIX)
    assert list(other.take(FINDINGS)) == [last]  # what was read takes no turn


@pytest.mark.parametrize("where", ["host", INPUTS, FINDINGS])
def test_nothing_is_removed_or_written_through_a_link(where: str, tmp_path: Path):
    root, outside = tmp_path / "shared", tmp_path / "outside"
    (root / A).mkdir(parents=True)
    for kind in (INPUTS, FINDINGS):
        (outside / kind).mkdir(parents=True)
    link, goal = (root / A, outside) if where == "host" else (root / A / where, outside / where)
    mine = [folder / ".mine.1.tmp" for folder in (outside / INPUTS, outside / FINDINGS)]
    for file in mine:
        file.write_text("mine")
    early = Exchange(root, A)
    early.begin()
    shutil.rmtree(link)
    link.symlink_to(goal)
    kinds = (INPUTS, FINDINGS) if where == "host" else (where,)
    for refused in (
        Exchange(root, A).begin,
        early.check,
        *(lambda kind=kind: early.give(kind, b"data") for kind in kinds),
    ):
        with pytest.raises(OSError, match="it should be a folder, and no link") as told:
            refused()
        assert told.value.filename == str(link)
    assert sorted(path for path in outside.rglob("*") if path.is_file()) == sorted(mine)


def test_below_a_bare_mount_point_nothing_is_made(tmp_path: Path):
    layout, root, disk = Layout(tmp_path / "corpus"), tmp_path / "mount", tmp_path / "disk"
    layout.make()
    root.mkdir()
    one = serve_exchange.begun(layout, root)
    one.give(INPUTS, b"first")
    root.rename(disk)
    for made in (False, True):
        if made:
            root.mkdir()  # the mount point without its disk
        for refused in (
            one.check,
            lambda: one.give(INPUTS, b"second"),
            lambda: serve_exchange.begun(layout, root),  # the process died, another one came
        ):
            with pytest.raises(FileNotFoundError):
                refused()
        assert root.exists() is made
        assert not made or not list(root.iterdir())
    root.rmdir()
    disk.rename(root)
    assert one.give(INPUTS, b"second")
    assert not serve_exchange.begun(layout, root).give(INPUTS, b"first")
    shutil.rmtree(one.own)
    serve_folder.Running(layout.running / serve_exchange.BEGUN)  # as the start of a service does
    assert serve_exchange.begun(layout, root).give(INPUTS, b"first")


def test_a_copy_of_a_corpus_folder_has_the_same_name_and_exchanges_all_the_same(tmp_path: Path):
    for name in ("corpus", "copy"):
        (tmp_path / name).mkdir()
    layout = Layout(tmp_path / "corpus")
    host = serve_exchange.host_of(layout)
    assert serve_exchange.host_of(layout) == host
    shutil.copy(tmp_path / "corpus" / "host", tmp_path / "copy" / "host")
    copy = serve_exchange.host_of(Layout(tmp_path / "copy"))
    assert copy == host
    (tmp_path / "x").mkdir()
    one, other = Exchange(tmp_path / "x", host), Exchange(tmp_path / "x", copy)
    one.begin()
    one.give(INPUTS, b"news")
    assert list(other.take(INPUTS)) == [b"news"]


def test_an_input_without_room_waits_for_it(
    control: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    inputs = serve_folder.Inputs(tmp_path / "inputs", control.fuzzer(), method="exchange")
    monkeypatch.setattr(inputs, "run", lambda _: 1)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(serve_folder, "put", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="No space"):
            inputs.offer(bytes(20))
    assert not inputs.folder.exists()
    inputs.flush()
    assert [path.read_bytes() for path in inputs.folder.iterdir()] == [bytes(20)]
    assert not inputs.unwritten


# What others found is run before it counts.


@pytest.fixture
def trader(real: Target, tmp_path: Path) -> Iterator[Trader]:
    """One host's process, with what it says in `work.out`."""
    before = signal.getsignal(signal.SIGTERM)
    layout = Layout(tmp_path / "corpus")
    layout.make()
    job = {
        "corpus": str(layout.root), "post": "exchange", "planted": [], "seed": 1,
        "findings": str(tmp_path / "findings"), "deadline": 1e18,
    }  # fmt: skip
    work = ServiceWorker(job=job, out=io.StringIO(), target=real)
    exchange = Exchange(tmp_path / "shared", A)
    exchange.root.mkdir()
    exchange.begin()
    yield Trader(work, exchange)
    signal.signal(signal.SIGTERM, before)


def said(trader: Trader) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trader.work.out.getvalue().splitlines()]


def story() -> Case:
    return shelf.read(shelf.FOLDER / STORY).case


def test_another_hosts_finding_is_run_and_then_is_pending(trader: Trader):
    trader.take_finding(story().to_text().encode())
    found = [one["finding"] for one in said(trader) if "finding" in one]
    assert [one["method"] for one in found] == ["exchange"]
    assert found[0]["signature"].startswith("pool-dead ")
    assert [path.name for path in trader.work.pending.iterdir()] == [
        store.file_name(store.Finding.from_json(found[0]))
    ]
    assert trader.counts.findings_taken == 1


def test_a_finding_that_does_not_show_is_none_whatever_it_says(trader: Trader):
    case = story()
    harmless = replace(case, scenario=Case.from_text("cleanrace 1\nfs a local\n").scenario)
    for wrong in (
        replace(harmless, switches=(), tape=b"", within=1),
        replace(case, broken=frozenset({"b"})),  # about a bug that is not planted here
        replace(case, expect="ok"),
        replace(case, target="reference"),
    ):
        trader.take_finding(wrong.to_text().encode())
    trader.take_finding(b"\xff\0 no scenario")
    trader.take_finding(case.to_text().encode()[:-400])
    assert [one for one in said(trader) if "finding" in one] == []
    assert not trader.work.pending.exists()


def test_a_finding_that_is_too_long_is_told_and_not_run(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
):
    case = story()
    ran: list[Case] = []
    monkeypatch.setattr(serve_exchange.keeping, "raw", lambda _, case, **__: ran.append(case))
    most = serve_exchange.SWITCHES_MAX
    room = serve_folder.INPUT_MAX - len(case.scenario.to_bytes())
    fits = replace(case, switches=case.switches[:1] * most, tape=b"\1" * room)
    trader.take_finding(fits.to_text().encode())
    assert ran == [fits]
    for wrong in (
        replace(fits, switches=case.switches[:1] * (most + 1)),
        replace(fits, tape=b"\1" * (room + 1)),
    ):
        trader.take_finding(wrong.to_text().encode())
    told = [one["trouble"] for one in said(trader) if "trouble" in one]
    assert told == [serve_exchange.TOO_LONG] * 2
    assert ran == [fits]


def test_what_killed_a_process_is_not_run_again(trader: Trader):
    case = story()
    data = (case.scenario.to_bytes() + case.tape)[: serve_folder.INPUT_MAX]
    serve_folder.quarantine(trader.work.layout, data, {"why": "it died"})
    trader.take_finding(case.to_text().encode())
    trader.take_input(data)
    assert said(trader) == []
    assert trader.counts == serve_exchange.Counts()


def test_what_is_on_the_shelf_and_in_the_corpus_is_given_once(trader: Trader):
    shutil.copytree(shelf.FOLDER / STORY, Path(trader.work.job["findings"]) / STORY)
    inputs = trader.work.layout.inputs
    good = story().scenario.to_bytes()
    (inputs / f"pct-{serve_folder.digest(good)}").write_bytes(good)
    (inputs / f"seed-{serve_folder.digest(b'x')}").write_bytes(b"x")
    (inputs / serve_folder.digest(b"whole")).write_bytes(b"who")  # libFuzzer is at it
    for _ in range(2):
        trader.turn()
    own = trader.exchange.own
    assert [path.read_bytes() for path in (own / INPUTS).iterdir()] == [good]
    assert [path.read_text() for path in (own / FINDINGS).iterdir()] == [story().to_text()]
    assert (trader.counts.given, trader.counts.findings_given) == (1, 1)


# Two services.


@pytest.mark.long
def test_what_one_service_finds_reaches_another_one(
    real: Target, launch: Callable[..., Any], run: Callable[..., Any], tmp_path: Path
):
    """The second one searches nothing itself: its searches are paused."""
    shared = tmp_path / "shared"
    shared.mkdir()
    quiet = Layout(tmp_path / "quiet" / "corpus")
    quiet.root.mkdir(parents=True)
    paused = State(target=real.name, planted=list(PLANTED), build_id=real.build_id, paused=True)
    paused.save(quiet.state)
    processes = []
    for name in ("busy", "quiet"):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        given = ("--corpus", root / "corpus", "--findings", root / "findings", "--exchange", shared)
        more = ("--no-dashboard", "--jobs", "1", "--time", "80")
        bugs = (f"--planted={bug}" for bug in PLANTED)
        words = map(str, (*given, *more, *bugs))
        processes.append(launch("run.py", "serve", *words, columns=1000))
    try:
        new = next(line for line in processes[1].stdout if line.startswith("new finding: "))
    finally:
        for process in processes:
            process.terminate()
        errors = [process.communicate(timeout=300)[1] for process in processes]
    assert errors == ["", ""]
    entry = shelf.read(Path(new.removeprefix("new finding: ").strip()))
    assert entry.folder.parent == tmp_path / "quiet" / "findings"
    assert entry.meta.found_by.startswith("exchange")
    hosts = {
        (tmp_path / name / "corpus" / "host").read_text().strip() for name in ("busy", "quiet")
    }
    assert {path.name for path in shared.iterdir()} <= hosts
    taken = {path.name.partition("-")[2] for path in quiet.inputs.glob("exchange-*")}
    busy = shared / (tmp_path / "busy" / "corpus" / "host").read_text().strip()
    assert taken
    assert taken <= {path.name for path in (busy / INPUTS).iterdir()}
    # And by hand.
    for source in (shared, busy):
        assert len(corpus_verbs.inputs_of(source)) >= len(taken)
    done = run("run.py", "corpus", "merge", str(tmp_path / "merged"), str(busy))
    assert done.returncode == 0, done.stderr
    merged = {path.name for path in (tmp_path / "merged" / "inputs").iterdir()}
    assert merged
    assert {name.partition("-")[2] for name in merged} <= {
        path.name for path in (busy / INPUTS).iterdir()
    }


def test_the_exchange_folder_is_there_and_apart(
    control: Target, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert control.name == "reference"
    corpus = tmp_path / "corpus"
    (corpus / "x").mkdir(parents=True)
    shelved = tmp_path / "findings" / "y"
    shelved.mkdir(parents=True)
    for folder, told in (
        (tmp_path / "missing", "there is no such folder, create it first"),
        (corpus, f"it and --corpus {corpus} must be apart"),
        (corpus / "x", f"it and --corpus {corpus} must be apart"),
        (tmp_path, f"it and --corpus {corpus} must be apart"),
        (shelved, f"it and --findings {shelved.parent} must be apart"),
    ):
        status = command_line.main([
            "serve", "--target", "reference", "--no-dashboard", "--time", "1",
            "--corpus", str(corpus), "--findings", str(shelved.parent), "--exchange", str(folder),
        ])  # fmt: skip
        said = capsys.readouterr().err
        assert (status, said) == (2, f"run.py: --exchange {folder}: {told}\n")
