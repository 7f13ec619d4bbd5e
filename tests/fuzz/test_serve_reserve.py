# SPDX-License-Identifier: GPL-2.0-only
"""A finding that is met while the disk is full is on the disk all the same."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cleanrace import Scenario, Target
from fuzz import serve_findings, store
from fuzz.serve_reserve import Reserve

FINDING = store.Finding(
    scenario=Scenario.from_text("cleanrace 1\nfs a local\nthread mount a\n"),
    tape=b"\1\0",
    verdict="pool-leak",
    signature="pool-leak a+b",
    digest="12",
)


def named(number: int) -> store.Finding:
    return replace(FINDING, signature=f"pool-leak {number}")


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    made = Reserve(tmp_path / "reserve")
    made.take()
    return made


def test_what_is_put_there_is_there_once_and_the_file_keeps_its_size(reserve: Reserve):
    size = reserve.path.stat().st_size
    for number in (1, 2, 1, 3, 2):
        reserve.put(named(number))
    assert reserve.findings() == [named(1), named(2), named(3)]
    reserve.take()  # as the next start does
    assert reserve.findings() == [named(1), named(2), named(3)]
    assert reserve.path.stat().st_size == size
    assert reserve.path.stat().st_blocks * 512 >= size


def test_findings_leave_it_when_all_of_them_are_saved_elsewhere(reserve: Reserve):
    for number in range(3):
        reserve.put(named(number))
    saved: list[store.Finding] = []

    def save(finding: store.Finding) -> None:
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "full")
        saved.append(finding)

    with pytest.raises(OSError, match="full"):
        reserve.move(save)
    assert len(reserve.findings()) == 3

    def gone(_: store.Finding) -> None:
        raise FileNotFoundError(errno.ENOENT, "the shelf is gone")

    with pytest.raises(FileNotFoundError, match="gone"):  # which is not that there is no reserve
        reserve.move(gone)
    saved.clear()
    reserve.move(saved.append)
    assert saved == [named(0), named(1), named(2)]
    assert reserve.findings() == []
    reserve.put(named(7))  # what stood behind it does not come back
    assert reserve.findings() == [named(7)]


def test_a_record_that_was_cut_off_is_none_and_is_overwritten(reserve: Reserve):
    reserve.put(named(1))
    with reserve.path.open("r+b") as file:
        data = file.read()
        end = len(data.rstrip(b"\0"))
        for cut in range(1, end, 37):
            file.seek(0)
            file.write(data[: end - cut] + bytes(cut))
            file.flush()
            assert reserve.findings() == []
    reserve.put(named(2))
    assert reserve.findings() == [named(2)]


def test_a_reserve_that_is_full_says_so_and_one_that_is_missing_too(reserve: Reserve):
    big = replace(FINDING, tape=bytes(100_000))
    for number in range(5):  # of 200,000 bytes each, as hexadecimal digits
        reserve.put(replace(big, signature=f"pool-leak {number}"))
    with pytest.raises(OSError, match="No space left"):
        reserve.put(replace(big, signature="pool-leak 5"))
    assert len(reserve.findings()) == 5
    nowhere = Reserve(reserve.path.with_name("missing"))
    with pytest.raises(FileNotFoundError):
        nowhere.put(FINDING)
    assert nowhere.findings() == []
    nowhere.move(lambda _: pytest.fail("there is none"))


def test_a_service_takes_up_what_is_in_it(real: Target, tmp_path: Path, reserve: Reserve):
    reserve.put(FINDING)
    one = serve_findings.Pipeline(real, (), tmp_path / "findings", reserve)
    one.take_up()
    assert [waiting.finding for waiting in one.unsaved] == [FINDING]
    one.save()
    assert not one.unsaved
    assert one.path(FINDING).exists()
    assert reserve.findings() == []


def foreign(monkeypatch: pytest.MonkeyPatch, reserve: Reserve, content: object) -> None:
    """Put a record with this content there, as another version might."""
    with monkeypatch.context() as patch:
        patch.setattr(store.Finding, "to_json", lambda _: content)
        reserve.put(named(99))


def test_a_record_of_another_version_is_skipped_told_and_kept(
    real: Target, tmp_path: Path, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
):
    reserve.put(named(1))
    good = FINDING.to_json()
    others = ({}, [1], "text", None, good | {"more": 1}, good | {"tape": "no digits"})
    for content in others:
        foreign(monkeypatch, reserve, content)
    reserve.put(named(2))
    reserve.put(named(2))
    assert reserve.findings() == [named(1), named(2)]
    service = serve_findings.Pipeline(real, (), tmp_path / "findings", reserve)
    lines = [line for line in service.take_up() if str(reserve.path) in line]
    assert len(lines) == 1
    assert f"no findings here: {len(others)} (KeyError: 'scenario')" in lines[0]
    assert [one.finding for one in service.unsaved] == [named(1), named(2)]
    service.save()
    assert reserve.findings() == []
    assert reserve.unreadable() == lines
    reserve.put(named(3))
    assert reserve.findings() == [named(3)]


def test_a_finding_in_no_file_is_not_let_go_when_it_cannot_be_minimised(
    real: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = serve_findings.Pipeline(real, (), tmp_path / "findings")
    one.met(FINDING, method="pct", schedules=1, saved=False)
    assert one.next() is not None
    one.failed(FINDING.signature, "it does not show")
    assert one.stuck == {FINDING.signature: "it does not show"}
    assert [waiting.finding for waiting in one.unsaved] == [FINDING]
    assert one.next() is None  # nothing has changed, so that it would only fail again
    assert one.idle
    assert not one.met(FINDING, method="surw", schedules=2, saved=False)
    one.met(named(5), method="pct", schedules=3, saved=False)
    task = one.next()
    assert task is not None
    assert task["finding"] == named(5).to_json()  # which it does not hold up
    one.doing = None
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        patch.setattr(store, "keep", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(OSError, match="No space"):
            one.save()
    one.save()
    assert one.path(FINDING).exists()
    task = one.next()
    assert task is not None
    assert task["finding"] == FINDING.to_json()
    one.failed(FINDING.signature, "it still does not show")
    assert one.stuck == {FINDING.signature: "it still does not show"}
    assert list(one.waiting) == [named(5).signature]
    assert one.path(FINDING).exists()


@pytest.mark.long
def test_findings_of_a_full_disk_survive_that_everybody_is_killed(real: Target, tmp_path: Path):
    """On a real disk without room: a tmpfs in a mount namespace of its own."""
    assert real.name == "linux-5.10"
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    program = Path(__file__).with_name("full_disk.py")
    done = subprocess.run(
        [*apart, sys.executable, str(program), str(tmp_path)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    full, still_full, room = map(json.loads, done.stdout.splitlines())
    assert len(full["known"]) >= 2
    assert full["pending"] == still_full["pending"] == []
    assert still_full["known"] == full["known"]
    assert set(full["known"]) <= set(room["known"])
    assert room["pending"]
