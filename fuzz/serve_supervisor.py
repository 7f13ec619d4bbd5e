# SPDX-License-Identifier: GPL-2.0-only
"""The supervisor of `serve`: keeps workers running over a shared corpus for weeks.

It starts, hears and restarts processes (fuzz/serve_workers.py), counts what they did, gives out
time by budget (fuzz/serve_state.py), passes findings on to the minimiser (fuzz/serve_findings.py)
and writes log, statistics and state. It runs no native code itself, and everything that it knows
and needs again is in files, so that it may be killed at any time. What cannot be written, since
the disk is full, it says, keeps and tries again.
"""

import importlib.util
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cleanrace import Scenario, Summary, Target
from fuzz import premises, serve_db, serve_folder, serve_state, serve_told, shelf, store
from fuzz.command import Failure
from fuzz.pool import Member, Pool
from fuzz.serve_books import BROKEN, Books
from fuzz.serve_findings import Pipeline
from fuzz.serve_folder import Layout
from fuzz.serve_posts import Post, guilty
from fuzz.serve_reserve import Reserve
from fuzz.serve_state import FINDING_NEWS, State

PROGRAM = Path(__file__).resolve().parent / "serve_workers.py"
SEARCHES = ("surw", "pct", "random", "atheris", "hypothesis", "explore")
LISTEN_SECONDS = 0.2
SNAPSHOT_SECONDS = 2.0
SAMPLE_SECONDS = 5.0
STATE_SECONDS = 5.0  # whose counts a kill loses at most
LOGGED_SECONDS = 60.0  # between two samples in the log, which a database can be rebuilt from
SILENCE = 30.0  # seconds without a word after which a worker hangs
SILENCE_MINIMISE = 60.0
COMMIT_AGAIN_SECONDS = 60.0
MINIMISER_IDLE_SECONDS = 30.0  # then it ends, and what it remembered with it
DRAIN_SECONDS = 60.0  # for what waits at the end of --time
SUSPECTS_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. seconds: None for ever. port: None for no dashboard."""

    corpus: Path = serve_folder.FOLDER
    findings: Path = shelf.FOLDER
    jobs: int = 1
    seed: int = 1
    planted: tuple[str, ...] = ()
    commit: bool = False
    seconds: float | None = None
    shift: float = 60.0
    memory: int = 1 << 30
    port: int | None = 0
    token: str = ""
    textfile: Path | None = None
    exchange: Path | None = None


class Supervisor:
    """One service."""

    def __init__(self, target: Target, options: Options, *, show: Callable[[str], None]) -> None:
        self.target, self.options, self.show = target, options, show
        self.layout = Layout(options.corpus)
        self.books = Books(self.layout, show)
        self.reserve = Reserve(self.layout.reserve)
        self.pipeline = Pipeline(target, options.planted, options.findings, self.reserve)
        self.searches = [
            name
            for name in SEARCHES
            if name != "atheris" or importlib.util.find_spec("atheris") is not None
        ]
        self.absent = [name for name in SEARCHES if name not in self.searches]
        self.searching = [
            Post(f"search-{number}", SILENCE, nice=10) for number in range(options.jobs)
        ]
        self.posts = {post.name: post for post in self.searching}
        self.keeper = self.post("keeper", SILENCE, nice=5)
        self.minimiser = self.post("minimise", SILENCE_MINIMISE, stay=True)
        self.committer = self.post("commit", 600.0)
        self.exchange = self.post("exchange", SILENCE, nice=10)
        self.exchanged: dict[str, int] = {}
        self.canary: dict[str, Any] | None = None
        self.web = self.post("web", SILENCE, stay=True)
        self.state: State
        self.pool = Pool(self.heard, program=PROGRAM)
        self.begin = time.monotonic()
        self.stopping = 0
        self.draining = False
        self.port = options.port
        self.edges: set[int] = set()
        self.suspects: dict[str, int] = {}
        self.recent: deque[tuple[float, int, float]] = deque(maxlen=200)
        self.commit_at: float | None = None  # when findings are to be committed
        self.commit_failed = ""
        self.due = dict.fromkeys(("snapshot", "sample", "state", "logged"), 0.0)
        self.minimiser_idle = self.begin

    def post(self, name: str, silence: float, *, nice: int = 0, stay: bool = False) -> Post:
        """One more post."""
        self.posts[name] = Post(name, silence, nice=nice, stay=stay)
        return self.posts[name]

    # The whole run.

    def run(self) -> None:
        """Serve until told to stop, or until the time is over."""
        with self.serving():
            end = None if self.options.seconds is None else self.begin + self.options.seconds
            while not self.stopping and (end is None or time.monotonic() < end):
                self.turn()
            if not self.stopping:
                self.drain()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The folder is ours and all that is needed is open; afterwards nobody is left over."""
        with self.layout.locked():
            before = {
                number: signal.signal(number, self.told_to_stop)
                for number in (signal.SIGTERM, signal.SIGINT)
            }
            try:
                self.open()
                with self.pool:
                    yield
                    self.stopping = max(self.stopping, 1)
                    for post in self.posts.values():
                        if post.stay and post.member is not None:
                            post.member.stopped = True
                            post.member.close()  # who waits for a task would not hear a signal
                    self.pool.stop()
                self.close()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    def told_to_stop(self, _number: int, _frame: object) -> None:
        """The signal handler; whoever insists need not wait."""
        self.stopping += 1
        if self.stopping > 2:
            raise KeyboardInterrupt

    def open(self) -> None:
        """Take up what an earlier service left, and see that the search is not blind."""
        self.layout.make()
        for old in self.layout.running.iterdir():
            serve_folder.Running(old)  # empty, and the room that it has stays its own
        try:
            state = serve_state.load(self.layout.state)
        except serve_state.Unreadable as error:
            aside = self.layout.state.with_suffix(".unreadable")
            self.layout.state.replace(aside)
            self.books.event("state_lost", why=str(error), aside=aside.name)
            state = None
        if state is None:
            state = State(
                target=self.target.name,
                planted=list(self.options.planted),
                build_id=self.target.build_id,
            )
        if (state.target, sorted(state.planted)) != (
            self.target.name,
            sorted(self.options.planted),
        ):
            what = "+".join((state.target, *state.planted))
            raise Failure(f"--corpus {self.layout.root}: it is about {what}: name another folder")
        self.state = state
        if state.rebuilt(self.target.build_id):
            self.books.event("build_changed", build=self.target.build_id)
        self.edges |= set(state.edges)
        state.starts += 1
        self.save()
        self.books.attempt("reserve", self.reserve.take)
        self.books.open()
        self.books.event(
            "service_started", pid=os.getpid(), starts=state.starts, target=self.target.name
        )
        for line in self.pipeline.take_up():
            self.books.event("worker_trouble", worker="shelf", what=line)
        for one in self.pipeline.waiting.values():
            self.books.event("finding_met", signature=one.finding.signature, method=one.method)
        hit = premises.canary(self.target)
        if not hit.found:
            raise store.Broken(
                f"the planted bug {hit.premise} was not found in {hit.schedules:,} schedules: the"
                " search is blind, so nothing else was run; report it"
            )
        self.canary = {"premise": hit.premise, "schedules": hit.schedules}

    def turn(self) -> None:
        """Hear, look after everybody, and write."""
        self.pool.listen(LISTEN_SECONDS)
        self.look_after()
        self.staff()
        self.feed()
        self.write()

    def drain(self) -> None:
        """At the end of --time: no more searches, but what waits is minimised and committed."""
        self.draining = True
        if self.commit_at is not None:
            self.commit_at = time.monotonic()  # the last chance
        self.pool.stop([post.member for post in self.searching if post.member])
        end = time.monotonic() + DRAIN_SECONDS
        while not self.stopping and time.monotonic() < end:
            if not self.pipeline.waiting and not self.pipeline.doing and self.commit_at is None:
                break
            self.turn()

    def close(self) -> None:
        """Last words; findings that are in no file are told to the user."""
        self.books.attempt("findings", self.pipeline.save)
        for one in self.pipeline.unsaved:
            if one.reserved:
                continue
            self.show(f"this finding is in no file: {one.finding.signature}")
            self.show(store.to_case(self.target, one.finding).to_text())
        self.books.event("service_stopped", seconds=round(time.monotonic() - self.begin, 1))
        self.snapshot(running=False)
        self.textfile(running=False)
        self.save()
        self.books.close()

    # Processes.

    def staff(self) -> None:
        """Fill the posts that should be filled, and empty those that should not."""
        if self.state.paused:
            self.pool.stop([post.member for post in self.searching if post.member])
        clock = time.monotonic()
        for post in self.searching:
            if not self.state.paused and not self.draining and self.free(post, clock):
                self.start_search(post)
        if self.free(self.keeper, clock):
            self.start(self.keeper, "keeper", {})
        if self.options.exchange is not None and self.free(self.exchange, clock):
            folder = str(self.options.exchange.resolve())
            more = {"exchange": folder, "known": sorted(self.pipeline.known)}
            self.start(self.exchange, "exchange", more)
        if self.options.port is not None and self.free(self.web, clock):
            self.start(self.web, "web", self.web_job())
        if not self.pipeline.idle and self.free(self.minimiser, clock):
            self.start(self.minimiser, "minimise", {"known": sorted(self.pipeline.known)})
        due = self.commit_at is not None and clock >= self.commit_at
        if due and self.free(self.committer, clock):
            self.start(self.committer, "commit", {})

    @staticmethod
    def free(post: Post, clock: float) -> bool:
        """Whether somebody may take the post now."""
        return post.member is None and clock >= post.not_before

    def start(self, post: Post, method: str, more: dict[str, Any]) -> None:
        """Start a process; where none can be started, that is trouble, and tried again."""
        job = {
            "parent": os.getpid(),
            "nice": post.nice,
            "post": post.name,
            "target": self.target.info,
            "planted": self.options.planted,
            "engine": "fiber",
            "corpus": str(self.layout.root.resolve()),
            "findings": str(self.options.findings.resolve()),
            "seed": 0,
            "index": 0,
            "deadline": 1e18,
        }
        try:
            post.begin(self.pool.start(method, job | more, stay=post.stay), method)
        except OSError as error:
            self.books.trouble(f"start {post.name}", str(error), full=False)
            post.not_before = time.monotonic() + 5.0

    def start_search(self, post: Post) -> None:
        """A shift of the method that is owed most."""
        method = self.state.next_method(self.searches, self.options.shift)
        name = f"{self.options.seed}/{self.state.starts}/{self.state.shifts}/{post.name}"
        more = {
            "method": method,
            # Another one for each shift of each start, so that nobody repeats what was done.
            "seed": int.from_bytes(blake2b(name.encode(), digest_size=6).digest()),
            "deadline": time.monotonic() + self.options.shift,
            "known": sorted(self.pipeline.known),
        }
        if method == "explore":
            more["exhausted"] = self.state.exhausted
        self.start(post, method, more)

    def web_job(self) -> dict[str, Any]:
        """What the dashboard needs to know."""
        return {"port": self.port, "token": self.options.token}

    def look_after(self) -> None:
        """End who hangs or grew."""
        for post in self.posts.values():
            if post.late():
                post.kill("hung")
            elif post.memory > self.options.memory:
                post.kill("grew")

    def holder(self, member: Member) -> Post | None:
        """The post that a process holds."""
        return next((post for post in self.posts.values() if post.member is member), None)

    def heard(self, member: Member, message: dict[str, Any]) -> None:
        """One message of a process."""
        post = self.holder(member)
        if post is None:
            return
        post.heard = time.monotonic()
        if message.get("ended"):
            self.ended(post, member)
        for key, handler in (
            ("stats", self.counted),
            ("finding", self.met),
            ("kept", self.kept),
            ("unminimised", self.unminimised),
            ("checked", self.checked),
            ("coverage", self.covered),
            ("exhausted", self.exhausted),
            ("exchanged", self.traded),
            ("trouble", self.complained),
            ("broken", self.failed),
            ("committed", self.committed),
            ("uncommitted", self.uncommitted),
            ("listening", self.listening),
            ("action", self.asked),
        ):
            if key in message:
                handler(post, message)

    def ended(self, post: Post, member: Member) -> None:
        """A process is gone: its shift counts, and if it died that is looked into."""
        self.pool.members.remove(member)  # it would be listed for ever
        died = not member.done and not member.stopped
        if post in self.searching:
            self.state.ended(
                post.method,
                member.stats,
                news=post.news,
                findings=post.findings,
                signatures=post.signatures,
            )
        if died:
            self.died(post, member)
        elif post is self.minimiser and not member.stopped:
            self.pipeline.doing = None
        post.end(died=died)

    def died(self, post: Post, member: Member) -> None:
        """Record what it was running; set that aside if it is to blame."""
        status = member.process.returncode
        why = member.obituary()
        guilt = guilty(post, status)
        event = {"hung": "worker_hung", "grew": "worker_grew"}.get(post.killed, "worker_died")
        data = serve_folder.ran(self.layout.running / post.name)
        name = serve_folder.digest(data) if data else ""
        self.books.event(event, worker=post.name, method=post.method, why=why, input=name)
        if post in self.searching:
            self.state.method(post.method).deaths += 1
        if post is self.minimiser:
            self.pipeline.died(why, guilty=guilt)
        if not data:
            return
        # Somebody may have killed it for no fault of the input: then only twice is suspicious.
        self.suspects[name] = self.suspects.get(name, 0) + 1
        if guilt or self.suspects[name] > 1:
            about = {
                "why": why,
                "method": post.method,
                "event": event,
                "at": member.at,
                "scenario": Scenario.from_bytes(data).to_text(),
            }
            self.books.attempt(
                "quarantine", lambda: serve_folder.quarantine(self.layout, data, about)
            )
            self.books.event("input_quarantined", input=name, method=post.method)
        while len(self.suspects) > SUSPECTS_MAX:
            del self.suspects[next(iter(self.suspects))]

    # What processes say.

    def counted(self, post: Post, message: dict[str, Any]) -> None:
        """Counts so far; an edge that nobody had reached is news."""
        new = set(message["stats"]["edges"]) - self.edges
        if new and post in self.searching:
            self.edges |= new
            post.news += len(new)
            self.state.new_at = time.time()

    def covered(self, _post: Post, message: dict[str, Any]) -> None:
        """What the corpus reaches, and whose inputs brought that."""
        self.state.coverage = message["coverage"]
        for name, count in message["gained"].items():
            if name in self.searches:
                self.state.method(name).recent_news += count
                self.state.method(name).news += count
                self.state.new_at = time.time()

    def met(self, post: Post, message: dict[str, Any]) -> None:
        """A finding, new or not."""
        finding = store.Finding.from_json(message["finding"])
        post.signatures.add(finding.signature)
        new = self.pipeline.met(
            finding,
            method=post.method,
            schedules=self.total().schedules + 1,
            saved=message["saved"],
            reserved=message["reserved"],
        )
        if new:
            post.news += FINDING_NEWS
            post.findings += 1
            self.state.new_at = time.time()
            self.books.event("finding_met", signature=finding.signature, method=post.method)

    def feed(self) -> None:
        """Give the minimiser its next task; one that had none for a while may go."""
        member = self.minimiser.member
        if member is None:
            return
        if self.pipeline.leisurely and not member.stopped:
            self.pipeline.put_off()
            member.stopped = True
            member.process.kill()
        if member.stopped:
            return
        if self.pipeline.doing is None:
            task = self.pipeline.next()
            if task is not None:
                member.send(task)
        clock = time.monotonic()
        if self.pipeline.doing is not None:
            self.minimiser_idle = clock
        else:
            self.minimiser.heard = clock  # who has nothing to do may be silent
            if clock - self.minimiser_idle > MINIMISER_IDLE_SECONDS:
                member.close()

    def kept(self, _post: Post, message: dict[str, Any]) -> None:
        """A finding is on the shelf."""
        kept = message["kept"]
        for line in kept["aside"]:
            self.books.event("worker_trouble", worker="shelf", what=line)
        waited = self.pipeline.kept(kept)
        seconds = None if waited is None else round(time.time() - waited.met, 1)
        self.books.event(
            "finding_kept",
            name=kept["name"],
            signature=kept["signature"],
            of=kept["of"],
            new=kept["new"],
            seconds=seconds,
            finished=kept["finished"],
        )
        if kept["new"]:
            self.show(f"new finding: {store.shown(self.options.findings / kept['name'])}")
        if self.options.commit:
            self.commit_at = time.monotonic()

    def unminimised(self, _post: Post, message: dict[str, Any]) -> None:
        """It stays as it was met."""
        family, why = message["unminimised"], message["why"]
        self.pipeline.failed(family, why)
        self.books.event("finding_not_minimised", signature=family, why=why)

    def checked(self, _post: Post, message: dict[str, Any]) -> None:
        """A finding of the shelf was run again."""
        self.pipeline.doing = None
        name = message["checked"]
        told = {"shows": message["shows"], "how": message["how"], "at": time.time()}
        self.state.checks[name] = told
        self.books.event("finding_checked", name=name, shows=told["shows"], how=told["how"])

    def exhausted(self, _post: Post, message: dict[str, Any]) -> None:
        """A scenario is explored, and need not be tried again."""
        self.state.exhausted.append(message["exhausted"])
        del self.state.exhausted[: -serve_state.EXHAUSTED_MAX]

    def traded(self, _post: Post, message: dict[str, Any]) -> None:
        """What went to other hosts and came from them, since that process began."""
        self.exchanged = message["exchanged"]

    def complained(self, post: Post, message: dict[str, Any]) -> None:
        """It could not do something."""
        line = message["trouble"]
        self.books.trouble(f"{post.name}: {line}", line, full=message["full"])

    def failed(self, post: Post, message: dict[str, Any]) -> None:
        """The harness itself failed, and not the target: told, and the others go on."""
        self.books.trouble(f"{BROKEN}{post.method}", message["broken"], full=False)

    def committed(self, _post: Post, message: dict[str, Any]) -> None:
        """Git has them."""
        self.commit_at, self.commit_failed = None, ""
        if message["committed"]:
            self.books.event("committed", names=message["committed"], commit=message["commit"])

    def uncommitted(self, _post: Post, message: dict[str, Any]) -> None:
        """Git refused; it is asked again."""
        if message["uncommitted"] != self.commit_failed:
            self.books.event("commit_failed", why=message["uncommitted"])
        self.commit_failed = message["uncommitted"]
        self.commit_at = None if self.draining else time.monotonic() + COMMIT_AGAIN_SECONDS

    def listening(self, _post: Post, message: dict[str, Any]) -> None:
        """The dashboard is there."""
        if self.port != message["listening"] or self.web.deaths == 0:
            self.show(f"dashboard: http://127.0.0.1:{message['listening']}/")
        self.port = message["listening"]

    def asked(self, _post: Post, message: dict[str, Any]) -> None:
        """What a user of the dashboard wants; the token was checked there."""
        action = message["action"]
        if action == "pause" and not self.state.paused:
            self.state.paused = True
            self.books.event("paused")
        elif action == "resume" and self.state.paused:
            self.state.paused = False
            self.books.event("resumed")
        elif action in ("recheck", "minimise"):
            self.pipeline.ask(message["name"], again=action == "minimise")
        self.due["snapshot"] = self.due["state"] = 0.0

    # What is written.

    def so_far(self) -> State:
        """The state as if all shifts ended now, as far as it counts what was done."""
        state = self.state.copied()
        for post in self.searching:
            if post.member is not None and post.member.stats:
                state.counted(post.method, post.member.stats)
        return state

    def total(self) -> Summary:
        """Everything that was run, by those who still run as well."""
        return self.so_far().summary

    def write(self) -> None:
        """What is due."""
        clock = time.monotonic()
        if self.is_due("snapshot", SNAPSHOT_SECONDS, clock):
            for post in self.posts.values():
                post.measure()
            if self.pipeline.unsaved or self.pipeline.reserve_used:
                self.books.attempt("findings", self.pipeline.save)
            if "reserve" in self.books.troubles:
                self.books.attempt("reserve", self.reserve.take)
            self.books.retry()
            self.snapshot(running=True)
        if self.is_due("state", STATE_SECONDS, clock):
            self.save()
            self.textfile()

    def is_due(self, what: str, seconds: float, clock: float) -> bool:
        """Whether it is time for something, which is asked again after so many seconds."""
        if clock < self.due[what]:
            return False
        self.due[what] = clock + seconds
        return True

    def save(self) -> None:
        """Write the state."""
        self.books.attempt("state", lambda: self.so_far().save(self.layout.state))

    def snapshot(self, *, running: bool) -> None:
        """Write what is so now, and from time to time a row of the charts."""
        total = self.total()
        clock = time.monotonic()
        self.recent.append((clock, total.schedules, total.interleavings))
        told = serve_told.told(self, total, running=running)
        counts = {name: told["totals"][name] for name in serve_db.COLUMNS}
        if self.is_due("logged", LOGGED_SECONDS, clock) or not running:
            self.books.event("sample", **counts)
        sample = counts if self.is_due("sample", SAMPLE_SECONDS, clock) else None
        self.books.snapshot(told, sample)

    def textfile(self, *, running: bool = True) -> None:
        """The metrics as a file, for a collector that reads such."""
        if self.options.textfile is None:
            return
        from fuzz import serve_metrics

        file = self.options.textfile
        told = serve_told.told(self, self.total(), running=running)
        self.books.attempt("textfile", lambda: serve_metrics.write(file, told))
