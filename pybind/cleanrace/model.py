# SPDX-License-Identifier: GPL-2.0-only
"""A sequential model: what a scenario must do when its operations run one after the other.

It says what Linux 5.10's cleancache.c does together with the file systems and the page cache of
csrc/kernel and the backends of csrc/check/backend.c, in plain dicts, without threads, locks or
references. ``run(target, scenario)`` with the empty tape runs the threads in order, each to its
end, and must give the same calls, results and counters as ``simulate(scenario)``.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from cleanrace import checks, words
from cleanrace.scenario import FileSystem, Operation, Scenario

NO_POOL: Final = -1
NO_BACKEND: Final = -2
NO_BACKEND_SHARED: Final = -3

ENOENT: Final = -2
EIO: Final = -5
EBUSY: Final = -16
EINVAL: Final = -22
END_OF_FILE: Final = -1

_STRIDE: Final = words.THREADS_MAX  # every eighth id of a pool belongs to a thread


class ModelCall(NamedTuple):
    """One callback; the fields are those of Result.calls without step and thread."""

    kind: str
    pool: int
    backend: int
    inode: int
    page: int
    content: int


@dataclass
class _Pool:
    users: int
    shared: bool
    uuid: int


@dataclass
class _Backend:
    """Pools by id, and pages by pool, key and index.

    fresh: how many ids each thread was given of its own; back: ids given back, the last one last.
    """

    pools: dict[int, _Pool] = field(default_factory=dict)
    fresh: dict[int, int] = field(default_factory=dict)
    back: list[int] = field(default_factory=list)
    pages: dict[tuple[int, tuple[int, ...], int], int] = field(default_factory=dict)


@dataclass
class _Page:
    content: int
    dirty: bool
    mapped: bool  # was read from a block of the disk


@dataclass
class _File:
    """What the disk has; blocks that are 0 are holes."""

    size: int
    blocks: list[int]
    exists: bool = True
    generation: int = 1


@dataclass
class _Super:
    """A mounted file system: its pool id and its page cache, by inode and index."""

    number: int
    pool: int = NO_POOL
    mounts: int = 0
    cache: dict[tuple[int, int], _Page] = field(default_factory=dict)


def location(file_system: int, inode: int, page: int) -> int:
    """How a trace names a page of a file."""
    return file_system << 8 | inode << 4 | page


def content(place: int, writer: int) -> int:
    """What operation number `writer` - 2 writes to a location; writer 1 is the first content."""
    return place << 16 | writer


class Model:
    """The state of everything; perform() does one operation.

    calls: the callbacks so far. returns: the operations' results. counters: the four of debugfs.
    """

    def __init__(self, scenario: Scenario) -> None:
        """The state before any operation; the scenario's threads are not looked at."""
        checks.instance("scenario", scenario, Scenario)
        if scenario.micro:
            raise ValueError("scenario.micro=True: micro scenarios are not modelled")
        self.scenario = scenario
        self.calls: list[ModelCall] = []
        self.returns: list[int] = []
        self.counters = dict.fromkeys(("succ_gets", "failed_gets", "puts", "invalidates"), 0)
        self._backends = [_Backend() for _ in range(words.BACKENDS_MAX)]
        self._winner: int | None = None
        self._inits = 0
        self._thread = 0  # who performs the operation
        self._supers: list[_Super] = []  # in the order of mounting, as iterate_supers walks
        self._disks = {
            (fs, inode): _File(words.PAGES, [content(location(fs, inode, p), 1) for p in (0, 1)])
            for fs in range(len(scenario.file_systems))
            for inode in range(words.INODES)
        }

    def perform(self, operation: Operation, *, thread: int = 0) -> int:
        """Do one operation and return its result, as op-end has it."""
        problem = self.scenario.problem(operation)
        if problem:
            raise ValueError(problem)
        checks.number("thread", thread, 0, words.THREADS_MAX - 1)
        self._thread = thread
        method = getattr(self, "_" + operation.name.replace("-", "_"))
        result = int(method(*operation.operands))
        self.returns.append(result)
        return result

    # Registration and mounting.

    def _register(self, backend: int) -> int:
        if self._winner is not None:
            return EBUSY
        self._winner = backend
        for sb in self._supers:
            if sb.pool == NO_BACKEND:
                self._init(sb, shared=False)
            elif sb.pool == NO_BACKEND_SHARED:
                self._init(sb, shared=True)
        return 0

    def _mount(self, number: int) -> int:
        return self._mount_or_fail(number, fails=False)

    def _mount_fail(self, number: int) -> int:
        return self._mount_or_fail(number, fails=True)

    def _mount_or_fail(self, number: int, *, fails: bool) -> int:
        sb = self._super(number)
        if sb is None:
            sb = _Super(number)
            self._supers.append(sb)
            kind = self._type(sb).kind
            if kind != "none":
                self._init(sb, shared=kind == "shared")
        if fails:
            if not sb.mounts:
                self._kill(sb)
            return EIO
        sb.mounts += 1
        return 0

    def _unmount(self, number: int) -> int:
        sb = self._super(number)
        if sb is None:
            return EINVAL
        sb.mounts -= 1
        if not sb.mounts:
            self._kill(sb)
        return 0

    def _remount(self, number: int) -> int:
        sb = self._super(number)
        if sb is None:
            return EINVAL
        if self._type(sb).kind == "local":
            self._init(sb, shared=False)
        return 0

    def _kill(self, sb: _Super) -> None:
        if sb.pool >= 0:
            self._call("invalidate-fs", sb.pool)
            backend = self._backend()
            pool = backend.pools[sb.pool]
            pool.users -= 1
            if not pool.users:
                backend.pages = {k: v for k, v in backend.pages.items() if k[0] != sb.pool}
                backend.back.append(sb.pool)
        sb.pool = NO_POOL
        for inode, index in list(sb.cache):
            self._clean(sb, inode, index)
        self._supers.remove(sb)

    # Files.

    def _read(self, number: int, inode: int, index: int) -> int:
        sb = self._super(number)
        file = self._disks[number, inode]
        if sb is None or not file.exists:
            return ENOENT
        if index >= file.size:
            return END_OF_FILE
        if (inode, index) not in sb.cache:
            block = file.blocks[index]
            found = self._get(sb, inode, index) if block else 0
            sb.cache[inode, index] = _Page(found or block, dirty=False, mapped=block != 0)
        return sb.cache[inode, index].content

    def _write(self, number: int, inode: int, index: int) -> int:
        sb = self._super(number)
        file = self._disks[number, inode]
        if sb is None:
            return ENOENT
        file.exists = True
        file.size = max(file.size, index + 1)
        page = sb.cache.setdefault((inode, index), _Page(0, dirty=True, mapped=False))
        page.content = content(location(number, inode, index), len(self.returns) + 2)
        page.dirty = True
        return 0

    def _writeback(self, number: int, inode: int, index: int) -> int:
        sb = self._super(number)
        if sb is None or not self._disks[number, inode].exists:
            return ENOENT
        self._clean(sb, inode, index)
        return 0

    def _clean(self, sb: _Super, inode: int, index: int) -> None:
        page = sb.cache.get((inode, index))
        if page is not None and page.dirty:
            page.dirty = False
            self._disks[sb.number, inode].blocks[index] = page.content

    def _reclaim(self, number: int, inode: int, index: int) -> int:
        sb = self._super(number)
        page = sb.cache.get((inode, index)) if sb is not None else None
        if sb is None or page is None or page.dirty:
            return 0
        self._leave(sb, inode, index)
        return 1

    def _truncate(self, number: int, inode: int, index: int) -> int:
        sb = self._super(number)
        file = self._disks[number, inode]
        if sb is None or not file.exists:
            return ENOENT
        if index < file.size:
            file.size = index
            self._shrink(sb, inode, index)
        return 0

    def _delete(self, number: int, inode: int) -> int:
        sb = self._super(number)
        file = self._disks[number, inode]
        if sb is None or not file.exists:
            return ENOENT
        self._shrink(sb, inode, 0)
        file.exists = False
        file.generation += 1
        file.size = 0
        return 0

    def _shrink(self, sb: _Super, inode: int, first: int) -> None:
        """Remove the pages from `first` on from the cache, from cleancache and from the disk."""
        for index in range(first, words.PAGES):
            page = sb.cache.get((inode, index))
            if page is not None:
                page.dirty = page.mapped = False
                self._leave(sb, inode, index)
        self._invalidate_inode(sb, inode)
        for index in range(first, words.PAGES):
            self._disks[sb.number, inode].blocks[index] = 0

    def _leave(self, sb: _Super, inode: int, index: int) -> None:
        page = sb.cache.pop((inode, index))
        if page.mapped:
            self._put(sb, inode, index, page.content)
        else:
            self._invalidate_page(sb, inode, index)

    # The hooks of cleancache, and behind them the backend's callbacks.

    def _init(self, sb: _Super, *, shared: bool) -> None:
        if self._winner is None:
            sb.pool = NO_BACKEND_SHARED if shared else NO_BACKEND
            return
        uuid = self._type(sb).uuid if shared else 0
        fails = self._inits in self.scenario.init_fails
        self._inits += 1
        sb.pool = NO_POOL if fails else self._hand_out(uuid, shared=shared)
        self._call("init-shared" if shared else "init", sb.pool, content=uuid)

    def _hand_out(self, uuid: int, *, shared: bool) -> int:
        pools = self._backend().pools
        if shared:
            for number, pool in sorted(pools.items()):
                if pool.users and pool.shared and pool.uuid == uuid:
                    pool.users += 1
                    return number
        number = self._free_id()
        pools[number] = _Pool(1, shared, uuid)
        return number

    def _free_id(self) -> int:
        """The id that was given back last, or the next one that belongs to the thread."""
        backend = self._backend()
        if backend.back and self.scenario.ids == "reused":
            return backend.back.pop()
        fresh = backend.fresh.get(self._thread, 0)
        backend.fresh[self._thread] = fresh + 1
        return fresh * _STRIDE + self._thread

    def _get(self, sb: _Super, inode: int, index: int) -> int:
        """The content that the backend has, 0 for none."""
        if sb.pool < 0:
            return 0
        backend = self._backend()
        handle = (sb.pool, self._key(sb, inode), index)
        found = backend.pages.get(handle, 0)
        self._call("get", sb.pool, inode, index, found)
        if found and not backend.pools[sb.pool].shared:
            del backend.pages[handle]
        self.counters["succ_gets" if found else "failed_gets"] += 1
        return found

    def _put(self, sb: _Super, inode: int, index: int, value: int) -> None:
        if sb.pool < 0:
            return
        pages = self._backend().pages
        handle = (sb.pool, self._key(sb, inode), index)
        self._call("put", sb.pool, inode, index, value)
        capacity = self.scenario.capacity
        if handle in pages or capacity is None or len(pages) < capacity:
            pages[handle] = value
        self.counters["puts"] += 1

    def _invalidate_page(self, sb: _Super, inode: int, index: int) -> None:
        if sb.pool < 0:
            return
        self._call("invalidate-page", sb.pool, inode, index)
        self._backend().pages.pop((sb.pool, self._key(sb, inode), index), None)
        self.counters["invalidates"] += 1

    def _invalidate_inode(self, sb: _Super, inode: int) -> None:
        if sb.pool < 0:
            return
        self._call("invalidate-inode", sb.pool, inode)
        for index in range(words.PAGES):
            self._backend().pages.pop((sb.pool, self._key(sb, inode), index), None)

    def _call(self, kind: str, pool: int, inode: int = 0, page: int = 0, content: int = 0) -> None:
        assert self._winner is not None
        self.calls.append(ModelCall(kind, pool, self._winner, inode, page, content))

    # Looking things up.

    def _super(self, number: int) -> _Super | None:
        return next((sb for sb in self._supers if sb.number == number), None)

    def _type(self, sb: _Super) -> FileSystem:
        return self.scenario.file_systems[sb.number]

    def _backend(self) -> _Backend:
        assert self._winner is not None
        return self._backends[self._winner]

    def _key(self, sb: _Super, inode: int) -> tuple[int, ...]:
        if self._type(sb).handles:
            return (inode, self._disks[sb.number, inode].generation)
        return (inode,)


def simulate(scenario: Scenario) -> Model:
    """The model after all operations of `scenario`, thread after thread."""
    model = Model(scenario)
    for number, thread in enumerate(scenario.threads):
        for operation in thread:
            model.perform(operation, thread=number)
    return model
