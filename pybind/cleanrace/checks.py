# SPDX-License-Identifier: GPL-2.0-only
"""Checks of arguments: each a ValueError that names the argument, its value and what to do."""

from collections.abc import Iterable


def shown(value: object) -> str:
    """A value as error messages show it: quoted, on one line, at most 40 characters."""
    text = repr(value[:60] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def number(what: str, value: object, low: int, high: int) -> None:
    """`value` is an int (no bool) from `low` to `high`."""
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    if not ok:
        raise ValueError(f"{what}={shown(value)}: expected a number from {low} to {high}")


def choice(what: str, value: object, choices: Iterable[str]) -> None:
    """`value` is one of the words `choices`."""
    known = tuple(choices)
    if value not in known:
        raise ValueError(f"{what}={shown(value)}: expected one of {', '.join(known)}")


def instance(what: str, value: object, kind: type) -> None:
    """`value` is a `kind`."""
    ok = isinstance(value, kind)
    if not ok:
        raise ValueError(f"{what}={shown(value)}: expected a {kind.__name__}")


def items(what: str, value: object, container: type, kind: type) -> None:
    """`value` is a `container` (tuple, frozenset) of `kind` only."""
    ok = isinstance(value, tuple | frozenset) and isinstance(value, container)
    if isinstance(value, tuple | frozenset):
        ok = ok and all(type(item) is kind or isinstance(item, kind) for item in value)
    if not ok:
        raise ValueError(
            f"{what}={shown(value)}: expected a {container.__name__} of {kind.__name__}"
        )


def line(what: str, value: object, *, leading: bool = False) -> None:
    """`value` is one printable line without anything that a parser would strip."""
    ok = isinstance(value, str) and value.isprintable() and 0 < len(value) <= 1000
    if isinstance(value, str):
        ok = ok and value == (value.rstrip() if leading else value.strip())
    if not ok:
        raise ValueError(
            f"{what}={shown(value)}: expected one line of 1 to 1000 printable characters without"
            " spaces around it"
        )


def word(what: str, value: object) -> None:
    """`value` is one printable word."""
    ok = isinstance(value, str) and value.isprintable() and value.split() == [value]
    if not ok or ";" in str(value) or len(str(value)) > 1000:
        raise ValueError(f"{what}={shown(value)}: expected one word without spaces or ';'")
