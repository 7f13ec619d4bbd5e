# SPDX-License-Identifier: GPL-2.0-only
"""The text form of cases: one grammar for hand-written scenarios and findings.

A line is a key and its words; the first one is ``cleanrace 1``; lines that start with ``#`` and
empty lines say nothing; corpus/README.md shows the grammar. Parsing meets files that anybody
may have written: whatever they hold, the answer is a Case or one ScenarioError with line and
column, in time linear in TEXT_MAX. Writing has one order and one form for everything, so that
a file written here and read back is written again byte for byte.
"""

import re
from collections.abc import Callable
from itertools import groupby
from typing import Final, NamedTuple, TypeVar

from cleanrace import words
from cleanrace.case import EDGES, NUMBER_MAX, NUMBERED, SEED_MAX, WITHIN, Case, Switch
from cleanrace.checks import shown
from cleanrace.scenario import FileSystem, Operation, Scenario

LINE_MAX: Final = 128 * 1024
LETTERS: Final = "abcdef"

_WORD: Final = re.compile(r";|[^ \t;]+")
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_SWITCH: Final = re.compile(r"([0-9]+|start)->([0-9]+)")


class ScenarioError(ValueError):
    """A scenario text that cannot be: `line` and `column` count from 1, str() is one line."""

    def __init__(self, message: str, line: int = 1, column: int = 1, source: str = "") -> None:
        super().__init__(message, line, column, source)
        self.message = message
        self.line = line
        self.column = column
        self.source = source

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: {self.message}"
        return f"{self.source}: {place}" if self.source else place


class _Word(NamedTuple):
    text: str
    line: int
    column: int

    def error(self, message: str) -> ScenarioError:
        return ScenarioError(message, self.line, self.column)


class _Line(NamedTuple):
    """A line that says something: its key, the other words, and all of it."""

    key: _Word
    rest: list[_Word]
    text: str


def parse_bytes(data: bytes, *, source: str = "") -> Case:
    """The case that a file with these bytes holds."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        # The limit can cut a character in two; then the length is what is wrong.
        if len(data) > words.TEXT_MAX and error.end >= words.TEXT_MAX:
            raise ScenarioError(_TOO_LONG, line, column, source) from None
        message = f"byte {data[error.start]:#04x} is not UTF-8, save the file as UTF-8"
        raise ScenarioError(message, line, column, source) from None
    return parse(text, source=source)


def parse(text: str, *, source: str = "") -> Case:
    """The case that `text` says; ScenarioError says where it is wrong and what was expected."""
    try:
        return _Parser().parse(text)
    except ScenarioError as error:
        raise ScenarioError(error.message, error.line, error.column, source) from None


_TOO_LONG: Final = f"the file is too long, expected at most {words.TEXT_MAX} bytes"


class _Parser:
    """Collects the lines of one text; the operations are read last, when all else is known."""

    def __init__(self) -> None:
        self.seen: dict[str, _Word] = {}
        self.comments: list[str] = []
        self.scenario: dict[str, object] = {}
        self.values: dict[str, object] = {}
        self.file_systems: list[FileSystem] = []
        self.threads: list[_Line] = []
        self.found: dict[str, str] = {}
        self.switches: list[Switch] = []
        self.versioned = False

    def parse(self, text: str) -> Case:
        if len(text) > words.TEXT_MAX:
            last = text.count("\n", 0, words.TEXT_MAX) + 1
            column = words.TEXT_MAX - text.rfind("\n", 0, words.TEXT_MAX)
            raise ScenarioError(_TOO_LONG, last, column)
        number = 0
        for number, line in enumerate(text.split("\n"), 1):
            self.line(number, line.removesuffix("\r"))
        end = _Word("", number, 1)
        if not self.versioned:
            raise end.error("the file is empty, expected a first line 'cleanrace 1'")
        scenario = self.finish(end)
        values = self.values | {
            "found": self.found,
            "switches": tuple(self.switches),
            "comments": tuple(self.comments),
        }
        return _built(end, lambda: Case(scenario=scenario, **values))  # type: ignore[arg-type]

    def line(self, number: int, text: str) -> None:
        """One line of the file, whatever it holds."""
        if len(text) > LINE_MAX:
            message = f"the line is too long, expected at most {LINE_MAX} characters"
            raise ScenarioError(message, number, LINE_MAX + 1)
        if not text.isprintable():
            self.check_printable(number, text)
        stripped = text.strip(" \t")
        if stripped.startswith("#"):
            self.comments.append(self.comment(number, text))
        elif stripped:
            found = [_Word(m[0], number, m.start() + 1) for m in _WORD.finditer(text)]
            line = _Line(found[0], found[1:], text)
            if self.versioned:
                self.keyed_line(line)
            else:
                self.version(line)

    def keyed_line(self, line: _Line) -> None:
        key = line.key
        handler = _HANDLERS.get(key.text)
        if handler is None:
            raise key.error(
                f"unknown line {shown(key.text)}, expected one of {', '.join(_HANDLERS)}"
            )
        if key.text not in _REPEATED:
            first = self.seen.setdefault(key.text, key)
            if first is not key:
                raise key.error(f"a second {key.text} line, the first is line {first.line}")
        for word in line.rest:
            if word.text.startswith("#") and key.text not in _FREE:
                raise word.error("a comment must stand on a line of its own")
        if not line.rest and key.text != "micro":
            raise _after(key).error(f"expected something after {key.text}")
        handler(self, line)

    def check_printable(self, number: int, line: str) -> None:
        for column, character in enumerate(line, 1):
            if character != "\t" and not character.isprintable():
                raise ScenarioError(
                    f"character U+{ord(character):04X} is not text, remove it", number, column
                )

    def comment(self, number: int, line: str) -> str:
        start = line.index("#") + 1
        comment = line[start:].rstrip(" \t").replace("\t", "    ")
        comment = comment.removeprefix(" ")
        if len(comment) > 1000:
            raise ScenarioError("a comment line longer than 1000 characters", number, start)
        return comment

    def version(self, line: _Line) -> None:
        key = line.key
        if key.text != "cleanrace":
            raise key.error(
                f"expected 'cleanrace {words.FORMAT_VERSION}' first, this is no scenario file"
            )
        word = _only(key, line.rest, "the format's version")
        version = _number(word, 0, NUMBER_MAX, "the format's version")
        if version > words.FORMAT_VERSION:
            raise word.error(
                f"a newer version of cleanrace wrote this: format {version}, expected"
                f" {words.FORMAT_VERSION}; install the newest cleanrace"
            )
        if version != words.FORMAT_VERSION:
            raise word.error(f"format {version} never was, expected {words.FORMAT_VERSION}")
        self.versioned = True

    # One method per key.

    def title(self, line: _Line) -> None:
        self.values["title"] = self.rest_of_line(line.rest[0], line.text, "a title")

    def rest_of_line(self, first: _Word, line: str, what: str) -> str:
        value = line[first.column - 1 :].rstrip(" \t").replace("\t", " ")
        if len(value) > 1000:
            raise first.error(f"{what} longer than 1000 characters")
        return value

    def target(self, line: _Line) -> None:
        self.values["target"] = _choice(_only(line.key, line.rest, "a target"), words.TARGETS)

    def broken(self, line: _Line) -> None:
        names: set[str] = set()
        for word in line.rest:
            if _choice(word, words.PLANTED) in names:
                raise word.error(f"{word.text} stands there twice")
            names.add(word.text)
        self.values["broken"] = frozenset(names)

    def expect(self, line: _Line) -> None:
        self.values["expect"] = _choice(
            _only(line.key, line.rest, "a verdict"), tuple(words.VERDICTS)
        )

    def within(self, line: _Line) -> None:
        word = _only(line.key, line.rest, "a number of schedules")
        self.values["within"] = _number(word, 1, NUMBER_MAX, "a number of schedules")

    def steps_max(self, line: _Line) -> None:
        word = _only(line.key, line.rest, "a number of steps")
        self.values["steps_max"] = _number(word, 1, words.STEPS_MAX, "a number of steps")

    def ids(self, line: _Line) -> None:
        self.scenario["ids"] = _choice(_only(line.key, line.rest, "an order of ids"), words.IDS)

    def capacity(self, line: _Line) -> None:
        word = _only(line.key, line.rest, "a number of pages")
        self.scenario["capacity"] = _number(word, 0, words.CAPACITY_MAX, "a number of pages")

    def init_fails(self, line: _Line) -> None:
        numbers: set[int] = set()
        for word in line.rest:
            number = _number(word, 0, words.INIT_FAILS - 1, "the number of an init call")
            if number in numbers:
                raise word.error(f"{number} stands there twice")
            numbers.add(number)
        self.scenario["init_fails"] = frozenset(numbers)

    def micro(self, line: _Line) -> None:
        _none(line.rest)

    def fs(self, line: _Line) -> None:
        count = len(self.file_systems)
        if count == len(LETTERS):
            raise line.key.error(f"too many file systems, expected at most {len(LETTERS)}")
        name = line.rest.pop(0)
        if name.text != LETTERS[count]:
            raise name.error(
                f"expected file system {LETTERS[count]!r} here, they are named in order, not"
                f" {shown(name.text)}"
            )
        if not line.rest:
            raise _after(name).error(f"expected a kind: {', '.join(words.KINDS)}")
        kind = _choice(line.rest.pop(0), words.KINDS)
        uuid = 0
        if line.rest and line.rest[0].text == "uuid":
            word = line.rest.pop(0)
            if kind != "shared":
                raise word.error(f"only a shared file system has a uuid, not a {kind} one")
            if not line.rest:
                raise _after(word).error("expected a number after uuid")
            uuid = _number(line.rest.pop(0), 0, words.UUIDS - 1, "a uuid")
        handles = bool(line.rest) and line.rest[0].text == "handles"
        _none(line.rest[handles:])
        self.file_systems.append(FileSystem(kind, handles, uuid))

    def thread(self, line: _Line) -> None:
        if len(self.threads) == words.THREADS_MAX:
            raise line.key.error(f"too many threads, expected at most {words.THREADS_MAX}")
        self.threads.append(line)

    def tape(self, line: _Line) -> None:
        tape = bytearray()
        for word in line.rest:
            choice, star, times = word.text.partition("*")
            value = _number(word._replace(text=choice), 0, 255, "a choice N or N*times")
            count = 1
            if star:
                at = word._replace(text=times, column=word.column + len(choice) + 1)
                count = _number(at, 1, words.TAPE_MAX, "how many times")
            if len(tape) + count > words.TAPE_MAX:
                raise word.error(f"the tape is too long, expected at most {words.TAPE_MAX} choices")
            tape += bytes((value,)) * count
        self.values["tape"] = bytes(tape)

    def found_(self, line: _Line) -> None:
        name = _choice(line.rest[0], words.FOUND)
        if name in self.found:
            raise line.rest[0].error(f"a second line 'found {name}'")
        if len(line.rest) < 2:
            raise _after(line.rest[0]).error(f"expected a value after {name}")
        if name in NUMBERED:
            _number(line.rest[1], 0, SEED_MAX, "a whole number")
            if len(line.rest) > 2:
                raise line.rest[1].error(f"expected one whole number after {name}")
        self.found[name] = self.rest_of_line(line.rest[1], line.text, "a value")

    def switch(self, line: _Line) -> None:
        match = _SWITCH.fullmatch(line.rest[0].text)
        words_after = len(line.rest) - 1
        edge = words_after == 1 and line.rest[1].text == "end"
        starts = match is not None and match[1] == "start"
        if not match or words_after != (0 if starts else 1 if edge else 5):
            raise line.key.error(
                "expected switch start-><to>, <from>-><to> end, or"
                " <from>-><to> <operation> <function> <kind> <object> <count>"
            )
        first, second = match.groups()
        to = self.thread_number(line.rest[0], second)
        thread = to if starts else self.thread_number(line.rest[0], first)
        if starts or edge:
            built = _built(line.key, lambda: Switch.edge("start" if starts else "end", thread, to))
        else:
            operation = _number(line.rest[1], 1, words.OPERATIONS_MAX, "an operation's number")
            count = _number(line.rest[5], 1, NUMBER_MAX, "a count")
            function, kind, name = (word.text for word in line.rest[2:5])
            if kind in EDGES:
                raise line.rest[3].error(f"{kind} is not what a running thread does")
            built = _built(
                line.key, lambda: Switch(thread, to, operation, function, kind, name, count)
            )
        self.switches.append(built)

    def thread_number(self, word: _Word, digits: str) -> int:
        return _number(word._replace(text=digits), 0, words.THREADS_MAX - 1, "a thread")

    # Everything that needs more than one line.

    def finish(self, end: _Word) -> Scenario:
        micro = "micro" in self.seen
        for name in ("ids", "capacity", "init-fails"):
            if micro and name in self.seen:
                raise self.seen[name].error(f"a micro scenario has no {name}")
        if micro and self.file_systems:
            raise self.seen["micro"].error("a micro scenario has no file systems, expected no fs")
        if not micro and not self.file_systems:
            raise end.error("expected a file system, such as 'fs a local', somewhere above")
        values = self.scenario | {"file_systems": tuple(self.file_systems), "micro": micro}
        empty = _built(end, lambda: Scenario(**values))  # type: ignore[arg-type]
        total = 0
        threads = []
        for line in self.threads:
            thread = self.operations(empty, line)
            total += len(thread)
            if total > words.OPERATIONS_MAX:
                raise line.key.error(
                    f"the scenario has too many operations, expected {words.OPERATIONS_MAX} at most"
                )
            threads.append(thread)
        values["threads"] = tuple(threads)
        return _built(end, lambda: Scenario(**values))  # type: ignore[arg-type]

    def operations(self, empty: Scenario, line: _Line) -> tuple[Operation, ...]:
        operations = []
        previous = line.key
        for semicolon, group in groupby(line.rest, lambda word: word.text == ";"):
            listed = list(group)
            if semicolon:
                if previous is line.key or len(listed) > 1:
                    at = listed[0] if previous is line.key else listed[1]
                    raise at.error("expected an operation, not ';'")
            else:
                operations.append(_operation(empty, listed))
                if len(operations) > words.OPERATIONS_MAX:
                    raise listed[0].error(
                        f"too many operations, expected at most {words.OPERATIONS_MAX}"
                    )
            previous = listed[-1]
        if previous.text == ";":
            raise _after(previous).error("expected an operation after ';'")
        return tuple(operations)


_Built = TypeVar("_Built")
_Handler = Callable[[_Parser, _Line], None]

_HANDLERS: Final[dict[str, _Handler]] = {
    "title": _Parser.title,
    "target": _Parser.target,
    "broken": _Parser.broken,
    "expect": _Parser.expect,
    "within": _Parser.within,
    "steps-max": _Parser.steps_max,
    "ids": _Parser.ids,
    "capacity": _Parser.capacity,
    "init-fails": _Parser.init_fails,
    "micro": _Parser.micro,
    "fs": _Parser.fs,
    "thread": _Parser.thread,
    "tape": _Parser.tape,
    "found": _Parser.found_,
    "switch": _Parser.switch,
}
_REPEATED: Final = frozenset(("fs", "thread", "found", "switch"))
_FREE: Final = frozenset(("title", "found"))


def _operation(empty: Scenario, listed: list[_Word]) -> Operation:
    name, rest = listed[0], listed[1:]
    table = words.MICRO if empty.micro else words.OPERATIONS
    letters = table.get(name.text)
    if letters is None:
        raise name.error(
            f"unknown operation {shown(name.text)}, expected one of {', '.join(table)}"
        )
    if len(rest) < len(letters):
        what = words.OPERANDS[letters[len(rest)]][0]
        raise _after(listed[-1]).error(f"{name.text}: expected its {what} here")
    if len(rest) > len(letters):
        raise rest[len(letters)].error(f"{name.text}: expected ';' or the end of the line here")
    operands = tuple(map(_operand, letters, rest, [len(empty.file_systems)] * len(rest)))
    operation = Operation(name.text, operands)
    problem = empty.problem(operation)
    if problem:
        raise name.error(problem)
    return operation


def _operand(letter: str, word: _Word, file_systems: int) -> int:
    what, count = words.OPERANDS[letter]
    if letter != "s":
        return _number(word, 0, count - 1, f"a number of its {what}")
    return LETTERS.index(_choice(word, tuple(LETTERS[:file_systems])))


def _built(word: _Word, build: Callable[[], _Built]) -> _Built:
    """What `build` gives; its ValueError gets the place of `word`."""
    try:
        return build()
    except ValueError as error:
        raise word.error(str(error)) from None


def _after(word: _Word) -> _Word:
    """The place just behind a word."""
    return word._replace(column=word.column + len(word.text))


def _none(rest: list[_Word]) -> None:
    if rest:
        raise rest[0].error(f"expected the end of the line, not {shown(rest[0].text)}")


def _only(key: _Word, rest: list[_Word], what: str) -> _Word:
    if not rest:
        raise _after(key).error(f"expected {what}")
    _none(rest[1:])
    return rest[0]


def _choice(word: _Word, choices: tuple[str, ...]) -> str:
    if word.text not in choices:
        raise word.error(f"expected one of {', '.join(choices)}, not {shown(word.text)}")
    return word.text


def _number(word: _Word, low: int, high: int, what: str) -> int:
    value = int(word.text) if _NUMBER.fullmatch(word.text) else -1
    if not low <= value <= high:
        raise word.error(f"expected {what} from {low} to {high}, not {shown(word.text)}")
    return value


def scenario_text(scenario: Scenario) -> str:
    """The scenario alone as a scenario file."""
    return _joined([_VERSION_LINE, *_scenario_lines(scenario)])


def case_text(case: Case) -> str:
    """The whole case as a scenario file, comments first."""
    lines = [f"# {comment}".rstrip() for comment in case.comments]
    lines.append(_VERSION_LINE)
    if case.title:
        lines.append(f"title {case.title}")
    if case.target != "any":
        lines.append(f"target {case.target}")
    if case.broken:
        lines.append("broken " + " ".join(n for n in words.PLANTED if n in case.broken))
    lines.append(f"expect {case.expect}")
    if case.within != WITHIN:
        lines.append(f"within {case.within}")
    if case.steps_max:
        lines.append(f"steps-max {case.steps_max}")
    lines += _scenario_lines(case.scenario)
    if case.tape:
        lines.append("tape " + " ".join(_tape_words(case.tape)))
    lines += [f"found {key} {case.found[key]}" for key in words.FOUND if key in case.found]
    lines += [f"switch {switch}" for switch in case.switches]
    return _joined(lines)


_VERSION_LINE: Final = f"cleanrace {words.FORMAT_VERSION}"


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _scenario_lines(scenario: Scenario) -> list[str]:
    lines = ["micro"] if scenario.micro else []
    if scenario.ids != words.IDS[0]:
        lines.append(f"ids {scenario.ids}")
    if scenario.capacity is not None:
        lines.append(f"capacity {scenario.capacity}")
    if scenario.init_fails:
        lines.append("init-fails " + " ".join(map(str, sorted(scenario.init_fails))))
    for letter, fs in zip(LETTERS, scenario.file_systems, strict=False):
        uuid = f" uuid {fs.uuid}" if fs.kind == "shared" else ""
        lines.append(f"fs {letter} {fs.kind}{uuid}{' handles' if fs.handles else ''}")
    lines += ["thread " + "; ".join(map(_operation_text, t)) for t in scenario.threads]
    return lines


def _operation_text(operation: Operation) -> str:
    operands = (
        LETTERS[value] if letter == "s" else str(value)
        for letter, value in zip(operation.letters, operation.operands, strict=True)
    )
    return " ".join((operation.name, *operands))


def _tape_words(tape: bytes) -> list[str]:
    runs = ((value, len(list(group))) for value, group in groupby(tape))
    return [f"{value}*{count}" if count > 1 else str(value) for value, count in runs]
