# SPDX-License-Identifier: GPL-2.0-only
"""Targets are found in the cache folder, and what is wrong with one is said in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Scenario, Target, TargetError, run, target, targets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = tmp_path / "cleanrace" / "targets"
    made.mkdir(parents=True)
    return made


def test_targets_are_listed_by_name_and_found_by_it(
    folder: Path, linux: dict[str, Any], target_510: Target
) -> None:
    for name in ("other", "linux-5.10"):
        (folder / f"{name}.json").write_text(json.dumps(linux | {"name": name}))
    assert [found.name for found in targets()] == ["linux-5.10", "other"]
    found = target("linux-5.10")
    assert found.info == linux
    assert (found.version, found.sha256) == (linux["version"], linux["sha256"])
    assert found.build_id == linux["build_id"]
    assert run(found, Scenario()) == run(target_510, Scenario())
    assert linux["version"] in repr(found)


def test_before_any_build_there_is_no_target(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert targets() == []
    with pytest.raises(TargetError, match=r"run 'python build\.py --target linux-5\.10'"):
        target("linux-5.10")


def test_the_cache_folder_is_in_the_home_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linux: dict[str, Any]
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "cleanrace" / "targets"
    folder.mkdir(parents=True)
    (folder / "linux-5.10.json").write_text(json.dumps(linux))
    assert target("linux-5.10").build_id == linux["build_id"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "the target's record has no name, version, sha256, build_id, module"),
        ('{"name": 1}', "the target's record has no name"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_damaged_record_is_one_line(folder: Path, record: str, message: str) -> None:
    (folder / "bad.json").write_bytes(record.encode("latin-1"))
    with pytest.raises(TargetError, match=r"python build\.py") as caught:
        target("bad")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../targets/x", "", "x/y", "no such"])
def test_an_unknown_name_is_one_line(folder: Path, name: str) -> None:
    assert folder.is_dir()
    with pytest.raises(TargetError, match="was not built") as caught:
        target(name)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_loaded_is_one_line(tmp_path: Path, linux: dict[str, Any]) -> None:
    for content in (None, b"", b"no shared object"):
        path = tmp_path / f"{content!r}" / Path(linux["module"]).name
        path.parent.mkdir()
        if content is not None:
            path.write_bytes(content)
        broken = Target(linux | {"module": str(path)})
        with pytest.raises(TargetError, match="cannot be loaded") as caught:
            run(broken, Scenario())
        assert "\n" not in str(caught.value)
        assert "--force" in str(caught.value)


def test_tables_have_a_sentence_for_every_name(target_510: Target) -> None:
    for table in ("planted", "marks"):
        assert all(sentence for sentence, _ in target_510.table(table).values())
    with pytest.raises(ValueError, match="table='op': expected one of ops"):
        target_510.table("op")
