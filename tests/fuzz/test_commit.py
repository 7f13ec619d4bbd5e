# SPDX-License-Identifier: GPL-2.0-only
"""`commit` makes a commit of findings and changes nothing else, wherever it is killed."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cleanrace import Case, Scenario
from fuzz import commit, shelf
from fuzz.command import Failure

ROOT = Path(__file__).resolve().parents[2]
GIT = shutil.which("git")
NAME, OTHER = "pool-dead-reclaim+unmount", "init-twice-remount"
SHELF = "some where/corpus é/findings"
SCENARIO = """cleanrace 1
fs a local
thread register 0; mount a; read a 0 0; reclaim a 0 0
thread unmount a
"""
CONFIG = """[user]
name = Some One
email = some.one@example.org
[init]
defaultBranch = main
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but our own; GIT_ variables of whoever runs the tests are not passed on."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("EMAIL", raising=False)
    config = tmp_path / "config"
    config.write_text(CONFIG)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("HOME", str(tmp_path))


def git(folder: Path, *arguments: str) -> str:
    """What git says; no test of ours passes because a git failed."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.removesuffix("\n")


def put(root: Path, name: str = NAME, *, verdict: str = "pool-dead", text: str = "1. x\n") -> Path:
    """A finding on the shelf."""
    case = Case(
        scenario=Scenario.from_text(SCENARIO),
        title=f"{verdict}: what happened",
        target="linux",
        expect=verdict,
        tape=b"\0\1",
    )
    meta = shelf.Meta(
        signature=f"{verdict} put+invalidate-fs",
        status="open",
        target="linux-5.10",
        planted=(),
        sha256="5" * 64,
        compiler="gcc",
        found_by="random",
        date="2026-01-02",
        schedules=535,
        preemptions=1,
        fewest=True,
    )
    folder = root / name
    folder.mkdir(parents=True)
    texts = {
        shelf.SCENARIO: case.to_text(),
        shelf.META: json.dumps({"format": shelf.FORMAT} | asdict(meta)),
        shelf.EXPLANATION: text,
    }
    for file in shelf.FILES:
        (folder / file).write_text(texts.get(file, "<svg/>\n"))
    assert shelf.read(folder).name == name
    return folder


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit and a user in the middle of work; see `state`."""
    top = tmp_path / "ré po"
    top.mkdir()
    git(top, "init", "--quiet")
    for name in ("kept", "deleted", "renamed", "partly", "changed", "removed"):
        (top / name).write_text("".join(f"{name} {number}\n" for number in range(20)))
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "first")
    git(top, "rm", "--quiet", "deleted")
    git(top, "mv", "renamed", "moved")
    (top / "partly").write_text("staged\n")
    (top / "sub").mkdir()
    (top / "sub" / "added").write_text("added\n")
    git(top, "add", "partly", "sub/added")
    (top / "partly").write_text("staged, and not staged\n")
    (top / "intended").write_text("intended\n")
    git(top, "add", "--intent-to-add", "intended")
    (top / "changed").write_text("changed\n")
    (top / "removed").unlink()
    (top / "untracked").write_text("untracked\n")
    (top / SHELF).mkdir(parents=True)
    return top


def state(top: Path) -> tuple[Any, ...]:
    """All that is the user's: index entries, what git says of them, and every file."""
    here = f":(exclude){SHELF}"
    files = {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not {".git", "findings"} & set(path.parts)
    }
    return (
        git(top, "ls-files", "--stage", "-t", "--", ".", here),
        git(top, "diff", "--cached", "--", ".", here),
        git(top, "diff", "--", ".", here),
        git(top, "status", "--porcelain=v2", "--untracked-files=all", "--", ".", here),
        files,
    )


def committed(top: Path) -> list[str]:
    """The files that the last commit changed."""
    listed = git(top, "show", "--name-only", "--format=", "-z", "--no-renames", "HEAD")
    return sorted(filter(None, listed.split("\0")))


def files_of(*names: str) -> list[str]:
    """The files of findings, in the repository."""
    return sorted(f"{SHELF}/{name}/{file}" for name in names for file in shelf.FILES)


def test_only_findings_are_committed_and_the_users_work_stays(repo: Path) -> None:
    put(repo / SHELF)
    before = state(repo)
    done = commit.commit(repo / SHELF)
    assert done.names == (NAME,)
    assert done.commit == git(repo, "rev-parse", "HEAD")
    assert committed(repo) == files_of(NAME)
    assert git(repo, "rev-list", "--count", "HEAD") == "2"
    assert state(repo) == before
    for word in ("partly", "moved", "sub/added", "intended", "untracked", "changed"):
        assert word in before[3]
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_the_message_says_what_was_found_and_how_to_replay_it(repo: Path) -> None:
    put(repo / SHELF)
    commit.commit(repo / SHELF)
    assert git(repo, "log", "-1", "--format=%B").rstrip("\n") == (
        f"corpus: {NAME}\n"
        "\n"
        "pool-dead: what happened\n"
        "pool-dead put+invalidate-fs\n"
        "  thread register 0; mount a; read a 0 0; reclaim a 0 0\n"
        "  thread unmount a\n"
        f"  python fuzz/run.py replay '{SHELF}/{NAME}'"
    )
    assert git(repo, "log", "-1", "--format=%an <%ae>") == "Some One <some.one@example.org>"


def test_several_findings_are_one_commit(repo: Path) -> None:
    put(repo / SHELF)
    put(repo / SHELF, OTHER, verdict="init-twice")
    done = commit.commit(repo / SHELF)
    assert done.names == (OTHER, NAME)
    assert git(repo, "log", "-1", "--format=%s") == "corpus: 2 findings"
    assert committed(repo) == files_of(NAME, OTHER)


def test_a_changed_finding_is_committed_and_an_unchanged_one_is_not(repo: Path) -> None:
    folder = put(repo / SHELF)
    put(repo / SHELF, OTHER, verdict="init-twice")
    commit.commit(repo / SHELF)
    assert commit.commit(repo / SHELF) == commit.Done()
    (folder / shelf.EXPLANATION).write_text("2. y\n")
    assert commit.commit(repo / SHELF).names == (NAME,)
    assert committed(repo) == [f"{SHELF}/{NAME}/{shelf.EXPLANATION}"]


def test_a_finding_that_the_user_staged_is_committed_as_it_is_now(repo: Path) -> None:
    folder = put(repo / SHELF)
    git(repo, "add", SHELF)
    (folder / shelf.EXPLANATION).write_text("2. y\n")
    before = state(repo)
    assert commit.commit(repo / SHELF).names == (NAME,)
    assert git(repo, "show", f"HEAD:{SHELF}/{NAME}/{shelf.EXPLANATION}") == "2. y"
    assert git(repo, "status", "--porcelain", "--", SHELF) == ""
    assert state(repo) == before


def test_a_dry_run_commits_nothing(repo: Path) -> None:
    put(repo / SHELF)
    before = (state(repo), (repo / ".git" / "index").read_bytes())
    done = commit.commit(repo / SHELF, dry_run=True)
    assert (done.names, done.commit) == ((NAME,), None)
    assert done.message.startswith(f"corpus: {NAME}\n")
    assert (state(repo), (repo / ".git" / "index").read_bytes()) == before
    assert git(repo, "rev-list", "--count", "HEAD") == "1"


def test_what_is_no_whole_finding_is_named_and_not_committed(repo: Path, tmp_path: Path) -> None:
    root = repo / SHELF
    elsewhere = put(tmp_path / "elsewhere", "data-stale-read", verdict="data-stale")
    for name in ("no-meta", "no-json", "linked-file"):
        shutil.copytree(elsewhere, root / name)
    (root / "no-meta" / shelf.META).unlink()
    (root / "no-json" / shelf.META).write_text('{"format": 1,')
    (root / "linked-file" / shelf.EXPLANATION).unlink()
    (root / "linked-file" / shelf.EXPLANATION).symlink_to(elsewhere / shelf.EXPLANATION)
    (root / "linked").symlink_to(elsewhere)
    put(root)
    done = commit.commit(root)
    assert done.names == (NAME,)
    assert committed(repo) == files_of(NAME)
    assert len(done.skipped) == 4
    for name in ("no-meta/finding.json", "no-json/finding.json: line 1", "linked-file", "linked:"):
        assert [line for line in done.skipped if name in line and "\n" not in line], name


def test_foreign_files_in_a_finding_are_not_committed(repo: Path) -> None:
    folder = put(repo / SHELF)
    (folder / "notes").write_text("mine\n")
    (folder / "more").mkdir()
    (folder / "more" / shelf.META).write_text("{}\n")
    commit.commit(repo / SHELF)
    assert committed(repo) == files_of(NAME)
    assert (folder / "notes").read_text() == "mine\n"


def test_names_with_stars_are_no_patterns(repo: Path) -> None:
    root = repo / "a*" / "findings"
    put(root)
    put(repo / "ab" / "findings")
    before = git(repo, "status", "--porcelain", "--", "ab")
    commit.commit(root)
    assert committed(repo) == sorted(f"a*/findings/{NAME}/{file}" for file in shelf.FILES)
    assert git(repo, "status", "--porcelain", "--", "ab") == before


def test_a_hooks_variables_do_not_lead_elsewhere(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign may be started by a hook of another repository."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    put(repo / SHELF)
    before = state(repo)
    index = other / ".git" / "index"
    with monkeypatch.context() as hook:
        hook.setenv("GIT_DIR", str(other / ".git"))
        hook.setenv("GIT_WORK_TREE", str(other))
        hook.setenv("GIT_INDEX_FILE", str(index))
        hook.setenv("GIT_PREFIX", "sub/")
        hook.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
        hook.setenv("GIT_GLOB_PATHSPECS", "1")
        hook.chdir(tmp_path)
        assert commit.commit(repo / SHELF).names == (NAME,)
    assert state(repo) == before
    assert not index.exists()
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_a_worktree_commits_to_its_own_branch(repo: Path, tmp_path: Path) -> None:
    before = state(repo)
    tree = tmp_path / "tree"
    git(repo, "worktree", "add", "--quiet", "-b", "side", str(tree))
    put(tree / "findings")
    commit.commit(tree / "findings")
    assert git(repo, "rev-list", "--count", "main..side") == "1"
    assert git(repo, "rev-list", "--count", "side..main") == "0"
    assert git(tree, "status", "--porcelain") == ""
    assert state(repo) == before


def test_a_path_from_another_folder_will_do(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(repo / SHELF)
    monkeypatch.chdir(repo / "sub")
    assert commit.commit(Path("..") / SHELF).names == (NAME,)
    assert committed(repo) == files_of(NAME)


# What it refuses: a line, and nothing has changed.


def conflict(top: Path, *command: str) -> None:
    """A command that ends in the middle."""
    git(top, "reset", "--hard", "--quiet")
    git(top, "switch", "--quiet", "-c", "side")
    for text in ("one\n", "two\n"):
        (top / "kept").write_text(text)
        git(top, "commit", "--quiet", "-am", f"side {text}")
    git(top, "switch", "--quiet", "main")
    (top / "kept").write_text("here\n")
    git(top, "commit", "--quiet", "-am", "here")
    subprocess.run(["git", *command], cwd=top, check=False, capture_output=True)


def detached(top: Path) -> None:
    git(top, "checkout", "--quiet", "--detach")


def unborn(top: Path) -> None:
    git(top, "checkout", "--quiet", "--orphan", "young")


def locked(top: Path) -> None:
    (top / ".git" / "index.lock").touch()


def ignored(top: Path) -> None:
    (top / ".git" / "info" / "exclude").write_text("corpus*/\n")


def bisecting(top: Path) -> None:
    git(top, "reset", "--hard", "--quiet")
    git(top, "bisect", "start")


def unresolved(top: Path) -> None:
    conflict(top, "checkout", "--quiet", "main")
    (top / "kept").write_text("stashed\n")
    git(top, "stash", "--quiet")
    (top / "kept").write_text("again\n")
    git(top, "commit", "--quiet", "-am", "again")
    subprocess.run(["git", "stash", "pop"], cwd=top, check=False, capture_output=True)


def nameless(_top: Path) -> None:
    Path(os.environ["GIT_CONFIG_GLOBAL"]).write_text("[user]\nname = Some One\n")


REFUSED: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "detached": (detached, "HEAD is detached"),
    "unborn": (unborn, "no commit yet"),
    "merge": (lambda top: conflict(top, "merge", "side"), "unfinished merge"),
    "squash": (lambda top: conflict(top, "merge", "--squash", "side"), "unfinished squashed"),
    "rebase": (lambda top: conflict(top, "rebase", "side"), "unfinished rebase"),
    "cherry-pick": (lambda top: conflict(top, "cherry-pick", "side"), "unfinished cherry-pick"),
    "revert": (lambda top: conflict(top, "revert", "--no-edit", "HEAD", "side"), "unfinished rev"),
    "bisect": (bisecting, "unfinished bisect"),
    "unresolved": (unresolved, "unresolved conflicts"),
    "locked": (locked, "index is locked"),
    "ignored": (ignored, "it is ignored by"),
    "nameless": (nameless, "git config user.name"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_refuses_in_one_line_and_changes_nothing(repo: Path, what: str) -> None:
    put(repo / SHELF)
    prepare, line = REFUSED[what]
    prepare(repo)
    index = (repo / ".git" / "index").read_bytes()
    head = git(repo, "rev-list", "--all")
    with pytest.raises(Failure, match=line) as refused:
        commit.commit(repo / SHELF)
    assert "\n" not in str(refused.value)
    assert (repo / ".git" / "index").read_bytes() == index
    assert git(repo, "rev-list", "--all") == head
    assert shelf.entries(repo / SHELF)[0]


def test_where_no_git_repository_is_git_says_so(tmp_path: Path) -> None:
    put(tmp_path / "findings")
    with pytest.raises(Failure, match="not a git repository"):
        commit.commit(tmp_path / "findings")


def test_without_git_it_says_so(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo / "sub"))
    with pytest.raises(Failure, match="git is not installed"):
        commit.commit(repo / SHELF)


def test_a_link_to_the_shelf_is_not_followed(repo: Path) -> None:
    put(repo / SHELF)
    (repo / "link").symlink_to(repo / SHELF)
    with pytest.raises(Failure, match="it is a link"):
        commit.commit(repo / "link")


def hook(top: Path, name: str, *lines: str) -> None:
    """A hook of the user's."""
    path = top / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)


def test_a_hook_that_refuses_leaves_everything_as_it_was(repo: Path) -> None:
    folder = put(repo / SHELF)
    before = (state(repo), git(repo, "ls-files", "--stage"))
    hook(repo, "pre-commit", "echo first line >&2", "echo not today >&2", "exit 1")
    with pytest.raises(Failure, match="first line not today") as refused:
        commit.commit(repo / SHELF)
    assert "\n" not in str(refused.value)
    assert (state(repo), git(repo, "ls-files", "--stage")) == before
    assert shelf.read(folder).name == NAME
    hook(repo, "pre-commit", "exit 0")
    assert commit.commit(repo / SHELF).names == (NAME,)
    assert state(repo) == before[0]


def test_hooks_see_the_commit_and_change_its_message(repo: Path) -> None:
    put(repo / SHELF)
    seen = repo / ".git" / "seen"
    hook(repo, "pre-commit", f"git -c core.quotePath=false diff --cached --name-only > '{seen}'")
    hook(repo, "commit-msg", 'echo "Signed-off-by: S" >> "$1"')
    commit.commit(repo / SHELF)
    assert sorted(seen.read_text().splitlines()) == files_of(NAME)
    assert git(repo, "log", "-1", "--format=%B").endswith("Signed-off-by: S\n")


def test_it_signs_where_the_user_signs(repo: Path) -> None:
    put(repo / SHELF)
    signer = repo / ".git" / "signer"
    signer.write_text("#!/bin/sh\ncat > /dev/null\necho '[GNUPG:] SIG_CREATED ' >&2\necho signed\n")
    git(repo, "config", "commit.gpgSign", "true")
    git(repo, "config", "gpg.program", str(signer))
    with pytest.raises(Failure, match="sign"):
        commit.commit(repo / SHELF)
    assert git(repo, "ls-files", "--", SHELF) == ""
    signer.chmod(0o755)
    commit.commit(repo / SHELF)
    assert "gpgsig signed" in git(repo, "cat-file", "commit", "HEAD")


# Killed with -9, at every moment that can be told from another.

# Each line on its standard input is a shelf; a child of its own commits it, and dies of the git
# that it starts. The environment has the number of that one.
NURSERY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fuzz import commit
print("ready", flush=True)
for line in sys.stdin:
    folder, _, moment = line.rstrip("\\n").partition("\\t")
    child = os.fork()
    if not child:
        os.environ["MOMENT"] = moment
        commit.commit(Path(folder))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
# Stands for git. What it works on is locked, so that the test can wait for those who live on.
KILLER = """#!/bin/sh
exec 9>>"$LOCK"
flock -s 9
echo >> "$COUNT"
if [ "$(wc -l < "$COUNT")" = "$MOMENT" ]; then kill -9 $PPID; fi
exec "$REAL" "$@"
"""


class Nursery:
    """Commits in processes that can be killed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.lock, self.count = place / "lock", place / "count"
        killer = place / "bin" / "git"
        killer.parent.mkdir()
        killer.write_text(KILLER)
        killer.chmod(0o755)
        added = {"REAL": str(GIT), "LOCK": str(self.lock), "COUNT": str(self.count)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | added | {"PATH": f"{killer.parent}:{os.environ['PATH']}"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def commit(self, folder: Path, moment: str) -> int:
        """How a commit ended that dies at this moment; its git has ended, too."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.count.write_text("")
        self.process.stdin.write(f"{folder}\t{moment}\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        with self.lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
        return status

    def end(self) -> None:
        """All of them have ended."""
        self.process.communicate(timeout=300)


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """A nursery."""
    place = tmp_path / "nursery"
    place.mkdir()
    made = Nursery(place)
    yield made
    made.end()


def test_killed_at_any_moment_nothing_is_lost_and_a_second_commit_finishes(
    repo: Path, tmp_path: Path, nursery: Nursery
) -> None:
    """Before each git that it starts: between two of them it only reads."""
    put(repo / SHELF)
    before = state(repo)
    kept = {path: path.read_bytes() for path in (repo / SHELF).rglob("*.*")}
    killed = 0
    while True:
        top = tmp_path / "copies" / str(killed) / repo.name
        shutil.copytree(repo, top, symlinks=True)
        status = nursery.commit(top / SHELF, str(killed + 1))
        assert not (top / ".git" / "index.lock").exists()
        for path, data in kept.items():
            assert (top / path.relative_to(repo)).read_bytes() == data
        if status == 0:
            break
        assert status == signal.SIGKILL
        killed += 1
        wanted = {"1": (NAME,), "2": ()}[git(top, "rev-list", "--count", "HEAD")]
        assert commit.commit(top / SHELF).names == wanted
        assert committed(top) == files_of(NAME)
        assert git(top, "status", "--porcelain", "--", SHELF) == ""
        assert state(top) == before
    assert killed > 10


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("name", ["pre-commit", "commit-msg", "reference-transaction"])
def test_killed_while_git_is_at_work_git_finishes(
    repo: Path, nursery: Nursery, name: str, by: signal.Signals
) -> None:
    put(repo / SHELF)
    before = state(repo)
    # The hook's session began with the git that we started, whose parent dies.
    hook(
        repo,
        name,
        "set -- $(cat /proc/$$/stat)",
        "set -- $(cat /proc/$6/stat)",
        f"kill -{int(by)} $4 2> /dev/null",
        "echo a line for whoever still listens",
        "exit 0",
    )
    assert nursery.commit(repo / SHELF, "") == by
    (repo / ".git" / "hooks" / name).unlink()
    assert committed(repo) == files_of(NAME)
    assert state(repo) == before
    assert git(repo, "status", "--porcelain", "--", SHELF) == ""
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert commit.commit(repo / SHELF).names == ()


# The verb.


def test_the_verb_commits_and_says_what(repo: Path, run: Callable[..., Any]) -> None:
    put(repo / SHELF)
    tried = run("run.py", "commit", "--dry-run", "--findings", str(repo / SHELF))
    assert (tried.returncode, tried.stderr) == (0, "")
    assert f"would commit {NAME}" in tried.stdout
    assert "python fuzz/run.py replay" in tried.stdout
    done = run("run.py", "commit", "--findings", str(repo / SHELF))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"committed {NAME} as {git(repo, 'rev-parse', 'HEAD')[:12]}\n"
    again = run("run.py", "commit", "--findings", str(repo / SHELF))
    assert again.stdout == "nothing to commit: the last commit has every finding\n"


@pytest.mark.parametrize("where", ["missing", "."])
def test_the_verb_refuses_in_one_line(tmp_path: Path, run: Callable[..., Any], where: str) -> None:
    done = run("run.py", "commit", "--findings", str(tmp_path / where))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("run.py: ")
    assert done.stderr.count("\n") == 1
