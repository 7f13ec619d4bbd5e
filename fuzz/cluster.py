# SPDX-License-Identifier: GPL-2.0-only
"""The option --cluster: units of an executor on the machines of a Ray cluster.

    --cluster local            a Ray of our own on this machine, which ends with the verb
    --cluster HOST:PORT        an existing one, as `ray start` said; this machine is part of it

Each worker is an actor that loads the target once. On every machine of the cluster there must be
the same checkout, installed, and a build with the same id: units carry no code and no paths, and
an actor that finds something else ends the verb. A call of an actor costs a millisecond of
the head's time, and half of the scenarios of `prove` take five, so a unit of `prove` is up to
BATCH of the small ones. Our own Ray has no dashboard, sends no usage statistics, listens on
loopback only and lets in only who knows a secret, which it does not outlive.

Whoever reaches the ports of an existing cluster can run code on it: that is for its owner to guard.
"""

import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cleanrace import Target
from fuzz import campaign, units
from fuzz.command import Failure

if TYPE_CHECKING:
    from fuzz.executor import Said, Unit

LOCAL = "local"
LOOPBACK = (LOCAL, "127.0.0.1", "localhost")
BATCH = 128  # scenarios of `prove`, half a second of the smallest
CONNECT_SECONDS = 3.0  # until nobody answers at an address
MANY = 1024  # workers at most, where the cluster says how many it has room for
STORE_BYTES = 80 << 20  # Ray wants so much at least for answers that are not small
SOCKET_FOLDER_MAX = 30  # characters of a folder, so that Ray's sockets in it can have names
SECRET = secrets.token_hex(32)  # of our own; Ray reads it once per process
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # an empty frame of type 4, with which both begin
INSTALL = "pip install -e '.[cluster]'"

ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Run on a Ray cluster: its HOST:PORT, or 'local' for one of our own.",
    ),
]


def check(address: str | None) -> None:
    """Failure if there can be no such cluster; before anything else takes time."""
    if address is None:
        return
    host, _, port = address.rpartition(":")
    if address != LOCAL:
        fits = re.fullmatch(r"[A-Za-z0-9._-]+", host) and re.fullmatch(r"\d{1,5}", port)
        if not fits or not 0 < int(port) < 1 << 16:
            raise Failure(f"--cluster {address[:60]}: expected local or HOST:PORT")
    if importlib.util.find_spec("ray") is None:
        raise Failure(f"--cluster {address}: Ray is not installed, run {INSTALL}")
    if address != LOCAL:
        try:
            said = hello(host, int(port))
        except OSError as error:
            why = error.strerror or str(error)
            raise Failure(f"--cluster {address}: nobody answers there: {why}") from None
        if said[3:4] != SETTINGS[3:4]:
            raise Failure(f"--cluster {address}: what answers there is no Ray")


def hello(host: str, port: int) -> bytes:
    """What a server says first to one who speaks HTTP/2; Ray would try for minutes."""
    with socket.create_connection((host, port), CONNECT_SECONDS) as connection:
        connection.sendall(PREFACE + SETTINGS)
        return connection.recv(len(SETTINGS))


def jobs(asked: int | None, address: str | None) -> int:
    """How many workers: as many as asked for, else all cores, of the cluster if there is one."""
    return asked or (campaign.cores() if address in (None, LOCAL) else MANY)


def carrier(ray: Any) -> Any:
    """The class of the actors. It is sent as code, so what it needs it imports over there."""

    class Carrier:
        def load(self, spec: dict[str, str]) -> dict[str, Any]:
            """Who this is, and in `lacks` why it cannot carry out units of that target."""
            import os
            import socket
            import sys
            from pathlib import Path

            said = {"pid": os.getpid(), "host": socket.gethostname(), "lacks": "", "code": {}}
            try:
                import cleanrace

                sys.path.insert(0, str(Path(cleanrace.__file__).resolve().parents[2]))
                from fuzz import units
            except ImportError as error:
                return said | {"lacks": f"no such checkout of cleanrace ({error})"}
            try:
                self.life = units.Life(units.find(spec))
            except (LookupError, cleanrace.TargetError) as error:
                said["lacks"] = str(error)
            return said | {"code": units.code()}

        def do(self, kind: str, arguments: dict[str, Any]) -> tuple[str, Any]:
            from fuzz import store

            try:
                return "answer", self.life.do(kind, arguments)
            except store.Broken as error:
                return "broken", str(error)

    return ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Carrier)


@dataclass(eq=False)
class Actor:
    """One worker. refs: what it is to answer, the next one first; the very first is load()'s."""

    handle: Any
    refs: deque[Any] = field(default_factory=deque)
    pid: int = 0
    host: str = ""


class Ray:
    """Actors of a Ray cluster as the workers of an executor."""

    batch = BATCH

    def __init__(self, target: Target, count: int, address: str) -> None:
        check(address)
        self.address = address
        self.spec = units.spec(target)
        self.actors: list[Actor] = []
        self.folder: Path | None = None
        self.ray: Any = None
        try:
            self._connect(count)
            self.carrier = carrier(self.ray)
        except BaseException:
            self.stop()
            raise

    def _connect(self, count: int) -> None:
        """Start Ray, or connect to it."""
        # Read by Ray when it is imported: no statistics; nothing of its own on our terminal, where
        # it would tell of each worker that dies.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"
        how: dict[str, Any] = {"address": self.address}
        if self.address.partition(":")[0] in LOOPBACK:
            # Ray's own name for "loopback only"; it is not about other systems alone.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if self.address == LOCAL:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = SECRET
            self.folder = _folder()
            how |= {
                "num_cpus": count,
                "num_gpus": 0,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "_temp_dir": str(self.folder),
            }
        before = signal.getsignal(signal.SIGTERM)
        import ray

        self.ray = ray
        try:
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **how)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Failure(f"--cluster {self.address}: {why}") from None
        finally:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own there
        self.count = min(count, int(ray.cluster_resources().get("CPU", 0)))
        if not self.count:
            raise Failure(f"--cluster {self.address}: it has no CPUs")

    def start(self) -> Hashable:
        """Start an actor; it runs as soon as the cluster has a core for it."""
        actor = Actor(self.carrier.remote())
        actor.refs.append(actor.handle.load.remote(self.spec))
        self.actors.append(actor)
        return actor

    def give(self, worker: Hashable, unit: "Unit") -> None:
        """A call of the actor, which does one after the other."""
        assert isinstance(worker, Actor)
        worker.refs.append(worker.handle.do.remote(unit.kind, unit.arguments))

    def listen(self, seconds: float) -> "list[Said]":
        """Whatever actors have answered, each in the order of its calls."""
        refs = [ref for actor in self.actors for ref in actor.refs]
        if not refs:
            return []
        ready, _ = self.ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self.ray.wait(refs, num_returns=len(refs), timeout=0)
        there = set(ready)
        said: list[Said] = []
        for actor in list(self.actors):
            while actor.refs and actor.refs[0] in there:
                said.append(self._answer(actor))
        return said

    def _answer(self, actor: Actor) -> "Said":
        from fuzz.executor import Said

        try:
            answer = self.ray.get(actor.refs.popleft())
        except self.ray.exceptions.RayError as error:
            actor.refs.clear()
            self.actors.remove(actor)
            self.ray.kill(actor.handle)
            return Said(actor, "gone", _obituary(actor, error))
        if actor.pid:
            what, value = answer
            return Said(actor, what, value)
        actor.pid, actor.host = answer["pid"], answer["host"]
        other = units.other_file(answer["code"])
        if answer["lacks"] or other:
            lacks = answer["lacks"] or f"another {other}"
            raise Failure(
                f"--cluster {self.address}: {actor.host} has {lacks}; it needs the same"
                f" checkout and 'python build.py --target {self.spec['name']}'"
            )
        return Said(actor, "ready")

    def stop(self) -> None:
        """End the actors, and our own Ray with its folder; what they were at is not answered."""
        for actor in self.actors:
            self.ray.kill(actor.handle)
        self.actors.clear()
        if self.ray is not None:
            self.ray.shutdown()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _folder() -> Path:
    """A new folder for Ray's sockets and logs."""
    parent = tempfile.gettempdir()
    if len(parent) > SOCKET_FOLDER_MAX:
        raise Failure(f"--cluster {LOCAL}: TMPDIR is too long for the names of Ray's sockets")
    return Path(tempfile.mkdtemp(prefix="cr-", dir=parent))


def _obituary(actor: Actor, error: Exception) -> str:
    """Why it counts as gone, in one line."""
    where = f" (process {actor.pid} of {actor.host})" if actor.pid else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    exits = [line for line in lines if "exit type" in line]
    why = (exits or lines[-1:] or [type(error).__name__])[0]
    return f"a Ray worker{where} died: {why[:200]}"
