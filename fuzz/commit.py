# SPDX-License-Identifier: GPL-2.0-only
"""The verb `commit`: the findings on the shelf that git does not have yet, and nothing else.

The commit is made by `git commit --only`, after `git add --intent-to-add` for files that git does
not know: git builds it from HEAD and these paths in an index of its own, and changes no other
entry of the user's, staged or not. Hooks, signing and filters are git's. A temporary index of
ours would need two steps, the branch and then the real index; whoever dies between them leaves a
finding that the user's next commit deletes. Here that is git's own step, done or not done.

Killing us does not kill git: each runs in a session of its own, and reads and writes files
instead of pipes, so that nothing ends with us. What a kill can leave is an intent to add, which
commits nothing and which the next `commit` uses.

Nothing is committed where the user is in the middle of something: a merge, a rebase, a bisect.
Nothing is ever pushed.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fuzz import shelf, store
from fuzz.command import Failure, app, console
from fuzz.report import say

# What git leaves in its folder while the user is in the middle of something, and how to end it.
UNFINISHED = {
    "rebase-merge": ("rebase", "git rebase --continue or --abort"),
    "rebase-apply": ("rebase", "git rebase (or git am) --continue or --abort"),
    "MERGE_HEAD": ("merge", "git merge --continue or --abort"),
    "CHERRY_PICK_HEAD": ("cherry-pick", "git cherry-pick --continue or --abort"),
    "REVERT_HEAD": ("revert", "git revert --continue or --abort"),
    "sequencer": ("cherry-pick or revert", "git cherry-pick (or git revert) --continue or --abort"),
    "BISECT_LOG": ("bisect", "git bisect reset"),
    "SQUASH_MSG": ("squashed merge", "git commit"),
    "MERGE_MSG": ("merge, cherry-pick or revert", "git commit"),
}
# They choose another repository or other rules for paths. What `git -c` set is the user's will.
LOCAL_KEPT = {"GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT"}
DROPPED = {
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_QUARANTINE_PATH",
}
MESSAGE_WIDTH = 72
SAID_MAX = 400  # characters of what git or a hook said


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a commit did. names: the findings in it. commit: its id, None if none was made.

    skipped: one line for each folder that is no whole finding. message: of the commit.
    """

    names: tuple[str, ...] = ()
    commit: str | None = None
    skipped: tuple[str, ...] = ()
    message: str = ""


class Git:
    """Git in one folder, without the variables that a hook's git would pass on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if shutil.which("git") is None:
            raise Failure("git is not installed: install it, findings are committed with it")
        self.environment = dict(os.environ)
        local = set(self.ask("rev-parse", "--local-env-vars").split())
        for name in (local | DROPPED) - LOCAL_KEPT:
            self.environment.pop(name, None)

    def run(
        self, *arguments: str, given: bytes = b"", paths: Sequence[str] = ()
    ) -> tuple[int, bytes, str]:
        """Status, output, and what it said, as one line. paths: as for --pathspec-from-file.

        An interrupt of ours waits for it to end.
        """
        with (
            tempfile.TemporaryFile() as stdin,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as errors,
            tempfile.TemporaryFile() as listed,
        ):
            stdin.write(given)
            stdin.seek(0)
            listed.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
            listed.flush()
            command = ["git", "--no-optional-locks", *arguments]
            descriptors: tuple[int, ...] = ()
            if paths:
                descriptors = (listed.fileno(),)
                file = f"--pathspec-from-file=/dev/fd/{listed.fileno()}"
                command += [file, "--pathspec-file-nul"]
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=stdin,
                stdout=out,
                stderr=errors,
                pass_fds=descriptors,
                start_new_session=True,
            )
            try:
                status = process.wait()
            except KeyboardInterrupt:
                process.wait()
                raise
            out.seek(0)
            errors.seek(0)
            return status, out.read(), _one_line(errors.read())

    def ask(self, *arguments: str, given: bytes = b"", paths: Sequence[str] = ()) -> str:
        """The output, without the line's end; Failure with git's own words."""
        status, output, said = self.run(*arguments, given=given, paths=paths)
        if status:
            said = said or _one_line(output) or f"git {arguments[0]} failed, status {status}"
            raise Failure(f"{store.shown(self.folder)}: {said}")
        return os.fsdecode(output).removesuffix("\n")

    def holds(self, *arguments: str) -> bool:
        """Whether git answers with success."""
        return self.run(*arguments)[0] == 0


def _one_line(said: bytes) -> str:
    """What git or a hook said, its end if it is long."""
    line = _printable(said.decode("utf-8", "replace")).removeprefix("fatal: ")
    return line if len(line) <= SAID_MAX else f"... {line[-SAID_MAX:]}"


def _printable(text: str) -> str:
    """One line, without what could move a cursor or end a message."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())


def commit(findings: Path = shelf.FOLDER, *, dry_run: bool = False) -> Done:
    """Commit the findings in `findings` that differ from the last commit, if there are any.

    Failure if git or the state of the repository forbids it; then nothing has changed. With
    `dry_run` all is asked and nothing is done.
    """
    if findings.is_symlink():
        raise Failure(f"{findings}: it is a link, name the folder itself")
    if not findings.is_dir():
        return Done()
    git = Git(findings.resolve())
    _check_repository(git)
    entries, skipped = shelf.entries(findings)
    changed = _changed(git, entries)
    if not changed:
        return Done(skipped=tuple(skipped))
    paths = [f"{entry.name}/{file}" for entry in changed for file in shelf.FILES]
    _check_ignored(git, paths)
    prefix = git.ask("rev-parse", "--show-prefix")
    message = message_of(changed, folder=prefix)
    names = tuple(entry.name for entry in changed)
    made = None if dry_run else _made(git, paths, message)
    return Done(names=names, commit=made, skipped=tuple(skipped), message=message)


def _check_repository(git: Git) -> None:
    """Failure unless the user could commit here now."""
    top = git.ask("rev-parse", "--show-toplevel")
    folder = Path(git.ask("rev-parse", "--absolute-git-dir"))
    where = store.shown(Path(top))
    for name, (what, ends) in UNFINISHED.items():
        if os.path.lexists(folder / name):
            raise Failure(f"{where}: an unfinished {what}: end it first ({ends})")
    if not git.holds("symbolic-ref", "--quiet", "HEAD"):
        raise Failure(f"{where}: HEAD is detached: switch to a branch first (git switch)")
    if not git.holds("rev-parse", "--quiet", "--verify", "HEAD^{commit}"):
        raise Failure(f"{where}: the branch has no commit yet: make its first one yourself")
    if git.ask("-C", top, "ls-files", "--unmerged"):
        raise Failure(f"{where}: there are unresolved conflicts: resolve them first (git status)")
    lock = folder / "index.lock"
    if os.path.lexists(lock):
        raise Failure(
            f"{lock}: the index is locked: another git is at work, try again; if none is, one was"
            " killed, and the file can be removed"
        )
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        # What git would make up from the names of the user and the machine does not count.
        if not git.holds("-c", "user.useConfigOnly=true", "var", who):
            raise Failure(
                f"{where}: git does not know who you are: set it with git config user.name NAME"
                " and git config user.email ADDRESS"
            )


def _changed(git: Git, entries: Sequence[shelf.Entry]) -> list[shelf.Entry]:
    """The findings whose files are not in the last commit as they are in the folder."""
    listed = git.ask("ls-tree", "-r", "-z", "HEAD")
    committed = {}
    for line in filter(None, listed.split("\0")):
        about, _, path = line.partition("\t")
        committed[path] = about.split(" ")[2]
    paths = [f"{entry.name}/{file}" for entry in entries for file in shelf.FILES]
    now = dict(zip(paths, git.ask("hash-object", "--", *paths).split(), strict=True))
    different = {path.partition("/")[0] for path in paths if now[path] != committed.get(path)}
    return [entry for entry in entries if entry.name in different]


def _check_ignored(git: Git, paths: Iterable[str]) -> None:
    given = b"".join(os.fsencode(path) + b"\0" for path in paths)
    status, output, said = git.run("check-ignore", "-v", "-z", "--stdin", given=given)
    if status == 0:
        source, line, pattern, path = os.fsdecode(output).split("\0")[:4]
        raise Failure(
            f"{store.shown(git.folder / path)}: it is ignored by {source}:{line} ({pattern}), so"
            " git would not commit it"
        )
    if status != 1:
        raise Failure(f"{store.shown(git.folder)}: {said}")


def _made(git: Git, paths: Sequence[str], message: str) -> str:
    """Make the commit; if git or a hook refuses, the index is as it was."""
    indexed = set(git.ask("ls-files", "-z").split("\0"))
    new = [path for path in paths if path not in indexed]
    try:
        if new:
            git.ask("add", "--intent-to-add", paths=new)
        git.ask(
            # The message is in no other encoding, whatever the user's editor writes.
            *("-c", "i18n.commitEncoding=UTF-8"),
            *("commit", "--quiet", "--only", "--cleanup=whitespace", "--file=-"),
            given=message.encode(),
            paths=paths,
        )
    except BaseException:
        if new and not _all_committed(git, new):
            git.run("reset", "--quiet", "HEAD", paths=new)
        raise
    return git.ask("rev-parse", "HEAD")


def _all_committed(git: Git, paths: Iterable[str]) -> bool:
    """Whether the branch has them, as after an interrupt that came when git was done."""
    return set(paths) <= set(git.ask("ls-tree", "-r", "-z", "--name-only", "HEAD").split("\0"))


def message_of(entries: Sequence[shelf.Entry], *, folder: str) -> str:
    """The commit's message; `folder` is the shelf's path in the repository, with a slash."""
    subject = f"corpus: {entries[0].name}"
    if len(entries) > 1:
        subject = f"corpus: {len(entries)} findings"
    return "\n\n".join([subject, *(_paragraph(entry, folder) for entry in entries)]) + "\n"


def _paragraph(entry: shelf.Entry, folder: str) -> str:
    scenario = entry.case.scenario.to_text().splitlines()
    lines = _wrapped(entry.case.title) + _wrapped(entry.meta.signature)
    if entry.meta.planted:
        lines += _wrapped(f"with the planted bug {', '.join(entry.meta.planted)}")
    lines += [f"  {line}" for line in scenario if line.startswith("thread ")]
    lines.append(f"  python fuzz/run.py replay {shlex.quote(_printable(folder) + entry.name)}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        _printable(text), MESSAGE_WIDTH, break_long_words=False, break_on_hyphens=False
    )


@app.command("commit")
def commit_command(
    *,
    findings: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The shelf; default corpus/findings/ in the checkout.",
            show_default=False,
        ),
    ] = shelf.FOLDER,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask everything, commit nothing.")
    ] = False,
) -> None:
    """Commit the new findings on the shelf, and nothing else; never push."""
    if findings != shelf.FOLDER and not findings.is_dir():
        raise Failure(f"--findings {findings}: there is no such folder")
    out = console()
    done = commit(findings, dry_run=dry_run)
    for line in done.skipped:
        say(out, f"not committed: {line}")
    if not done.names:
        say(out, "nothing to commit: the last commit has every finding")
    elif done.commit is None:
        say(out, f"would commit {', '.join(done.names)}, with this message:")
        out.print(Text(done.message.rstrip("\n")), soft_wrap=True)
    else:
        say(out, f"committed {', '.join(done.names)} as {done.commit[:12]}")
