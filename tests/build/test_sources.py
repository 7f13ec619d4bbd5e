# SPDX-License-Identifier: GPL-2.0-only
"""Where kernel sources come from, and what happens where they cannot be had.

The package of these tests is a tiny one, made here with dpkg-deb; apt-get is played by a script.
The real download is what the fixture `linux` does with an empty cache.
"""

import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

import build

FILES = {name: f"/* {name} */\n".encode() for name in build.KNOWN[build.DEFAULT][2]}
DIGESTS = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
Cli = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]
Interrupted = Callable[..., None]
PathWithout = Callable[..., Path]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A .deb with a tar.xz with FILES, as Debian's linux-source packages have it."""
    inside = tmp_path / "package/usr/src"
    (tmp_path / "package/DEBIAN").mkdir(parents=True)
    inside.mkdir(parents=True)
    (tmp_path / "package/DEBIAN/control").write_text(
        "Package: linux-source-5.10\nVersion: 5.10.0-1\nArchitecture: all\n"
        "Maintainer: nobody\nDescription: for a test\n")
    with tarfile.open(inside / "linux-source-5.10.tar.xz", "w:xz") as archive:
        for name, content in {"README": b"", **FILES, "zzz": b"last"}.items():
            member = tarfile.TarInfo(f"linux-source-5.10/{name}")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    file = tmp_path / "linux-source-5.10_5.10.0-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", tmp_path / "package", file], check=True, capture_output=True)
    return file


@pytest.fixture
def apt(tmp_path: Path, path_without: Callable[..., Path]) -> Callable[[str], Path]:
    """Put a script in the place of apt-get; returns the file it may log to."""

    def play(script: str) -> Path:
        file = path_without("apt-get") / "apt-get"
        log = tmp_path / "apt.log"
        file.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{script}\n')
        file.chmod(0o755)
        return log

    return play


OFFLINE = """case "$*" in
    *indextargets*) echo first second first;;
    *) echo "E: Temporary failure resolving" >&2; exit 100;;
esac"""


def second_mirror_has(package: Path) -> str:
    """Let the first mirror lack the suite, and the second have the package."""
    return f"""case "$*" in
    *indextargets*) echo first; echo second; echo first;;
    *update*) grep -q second sources.list || {{ echo "E: 404 Not Found" >&2; exit 100; }};;
    *download*) echo dlstatus:1:50.5:half; cp {package} .;;
esac"""


def test_download_takes_the_first_mirror_that_has_the_suite(
    cache: Path, package: Path, apt: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = apt(second_mirror_has(package))
    monkeypatch.setitem(build.KNOWN, "linux-5.10", ("bullseye", "linux-source-5.10", DIGESTS))
    seen: list[tuple[str, int, int]] = []
    source = build.fetch("linux-5.10", lambda *step: seen.append(step))
    assert (source.version, source.kind) == ("5.10.0-1", "debian")
    assert {name: (source.folder / name).read_bytes() for name in FILES} == FILES
    assert source.folder == cache / "sources/linux-5.10"
    assert ("download", 50, 100) in seen
    assert {stage for stage, done, total in seen if done == total} == {"download", "extract"}
    assert log.read_text().count(" update") == 2  # the mirror named twice is asked once
    assert [path.name for path in (cache / "sources").iterdir() if path.is_dir()] == ["linux-5.10"]


def test_download_stays_out_of_the_machines_own_apt(
    cache: Path, apt: Callable[[str], Path],
) -> None:
    log = apt(OFFLINE)
    with pytest.raises(build.NoSource):
        build.fetch("linux-5.10", lambda *_: None)
    for line in log.read_text().splitlines():
        if "update" in line:
            for option in ("State::Lists=", "Cache=", "Etc::SourceList="):
                assert f"-oDir::{option}{cache}" in line
            assert "Dir::Etc::SourceParts=/dev/null" in line
    assert "update" in log.read_text()


def test_a_package_with_other_content_is_refused_and_not_kept(
    cache: Path, package: Path, apt: Callable[[str], Path], refused: Refused,
) -> None:
    apt(second_mirror_has(package))
    for arguments in ([], ["--target", "linux-5.10"], ["--fetch"]):
        said = refused(*arguments)
        assert f"{build.UNIT} of linux-5.10" in said
        assert DIGESTS[build.UNIT] in said
        assert build.KNOWN["linux-5.10"][2][build.UNIT] in said
        assert not list(cache.glob("sources/linux*"))


def test_a_broken_package_is_refused(cache: Path, tmp_path: Path) -> None:
    for content in (b"", b"!<arch>\nnonsense"):
        (tmp_path / "broken.deb").write_bytes(content)
        with pytest.raises(build.BuildError, match=r"broken\.deb cannot be unpacked"):
            build.extract(tmp_path / "broken.deb", list(FILES), tmp_path, lambda *_: None)
    assert not cache.exists()


def test_a_package_without_a_file_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(build.BuildError, match=r"mm/other\.c not found"):
        build.extract(package, [*FILES, "mm/other.c"], tmp_path, lambda *_: None)


@pytest.mark.usefixtures("seeded", "no_apt")
def test_cached_sources_need_no_apt(cli: Cli, seeded: Path) -> None:
    result = cli("--fetch")
    assert result.returncode == 0, result.stderr
    assert [Path(line).relative_to(seeded / "sources/linux-5.10").as_posix()
            for line in result.stdout.splitlines()] == [
                "fs/super.c", "include/linux/cleancache.h", "mm/cleancache.c"]


def test_a_changed_cached_file_is_noticed(seeded: Path, refused: Refused) -> None:
    unit = seeded / "sources/linux-5.10/mm/cleancache.c"
    unit.write_text(unit.read_text() + "\n")
    said = refused()
    assert hashlib.sha256(unit.read_bytes()).hexdigest() in said
    assert "--fetch --force" in said
    unit.unlink()
    assert "sha256 of nothing" in refused()


@pytest.mark.long
@pytest.mark.usefixtures("no_apt")
def test_without_apt_the_reference_stands_in_loudly(cache: Path, cli: Cli) -> None:
    result = cli()
    assert result.returncode == 0, result.stderr
    assert "NOT LINUX" in result.stderr
    assert "apt-get" in result.stderr
    assert result.stdout.startswith("reference unknown")
    assert "NOT LINUX" in (cache / "targets/reference.json").read_text()
    # Asked for by name it is nobody's stand-in.
    assert "NOT LINUX" not in cli("--target", "reference").stderr
    assert "NOT LINUX" not in (cache / "targets/reference.json").read_text()


@pytest.mark.usefixtures("no_apt")
def test_without_apt_an_explicit_target_is_refused(cache: Path, refused: Refused) -> None:
    said = refused("--target", "linux-5.10")
    assert "apt-get" in said
    assert "--kernel" in said
    assert not list(cache.glob("targets/[!.]*"))


def test_without_network_the_mirrors_answer_is_told(
    cache: Path, apt: Callable[[str], Path], refused: Refused,
) -> None:
    apt(OFFLINE)
    said = refused("--target", "linux-5.10")
    assert "2 mirrors (E: Temporary failure resolving)" in said
    assert not list(cache.glob("sources/linux*"))


def test_without_network_only_the_default_target_gets_a_stand_in(
    cache: Path, apt: Callable[[str], Path],
) -> None:
    apt(OFFLINE)
    source = build.find(None, None, lambda *_: None)
    assert source.kind == "reference"
    assert source.notice is not None
    assert "Temporary failure resolving" in source.notice
    with pytest.raises(build.NoSource):
        build.find("linux-5.10", None, lambda *_: None)
    assert not list(cache.glob("builds/[!.]*"))


@pytest.mark.parametrize("step", ["update", "download"])
def test_a_full_disk_is_not_a_network_fault(
    step: str, cache: Path, apt: Callable[[str], Path], refused: Refused,
) -> None:
    """And the reference does not stand in, whatever the next mirror answers."""
    apt(f"""case "$*" in
    *indextargets*) echo first second;;
    *{step}*) grep -q first sources.list || {{ echo "E: 404 Not Found" >&2; exit 100; }}
        echo "E: The list is not signed" >&2
        echo "E: Error writing to file - write (28: No space left on device)" >&2; exit 100;;
esac""")
    for arguments in ([], ["--target", "linux-5.10"], ["--fetch"]):
        said = refused(*arguments)
        assert f"the disk of the cache folder {cache} is full" in said
        assert "No space left on device" in said
        assert "network" not in said
    assert not list(cache.glob("targets/*"))


@pytest.mark.parametrize("step", ["update", "download"])
def test_ctrl_c_while_apt_runs_is_one_line_and_leaves_nothing(
    step: str, cache: Path, tmp_path: Path, apt: Callable[[str], Path], interrupted: Interrupted,
) -> None:
    apt(f"""case "$*" in
    *indextargets*) echo first;;
    *{step}*) touch {tmp_path}/reached; exec sleep 30;;
esac""")
    interrupted((tmp_path / "reached").exists, "--fetch")
    assert not list(cache.glob("sources/[!.]*"))
    assert not list(cache.glob("sources/.new-*"))


def test_without_apt_nobody_is_told_to_use_it(cache: Path, path_without: PathWithout) -> None:
    path_without("apt-get")
    with pytest.raises(build.NoSource, match="apt-get, which was not found in PATH") as caught:
        build.fetch("linux-5.10", lambda *_: None)
    assert "apt-get install" not in str(caught.value)
    assert "keyring" not in str(caught.value)
    assert not list(cache.glob("sources/linux*"))


def test_missing_keyring_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEYRING", Path("/nowhere/keyring.gpg"))
    with pytest.raises(build.NoSource, match=r"/nowhere/keyring\.gpg.*debian-archive-keyring"):
        build.fetch("linux-5.10", lambda *_: None)
    assert not list(cache.glob("sources/linux*"))


def test_this_python_can_read_xz() -> None:
    assert subprocess.run([sys.executable, "-c", "import lzma"], check=False).returncode == 0
