# SPDX-License-Identifier: GPL-2.0-only
"""How pictures look: colours of both themes, the marks of steps, numbers and text for SVG.

Colours are told apart by people who see few of them (Okabe and Ito), and what a colour says a
shape, a hatching or a dash says, too.
"""

import re
from xml.sax.saxutils import escape, quoteattr

TEXT_SIZE = 12
INDENT = 4.5  # width of a blank that a line begins with

# class: (property, light, dark). Text has a contrast of 4.5 at least, lines of 3.
COLOURS = {
    "paper": ("fill", "#ffffff", "#16181d"),
    "lane": ("fill", "#f4f5f7", "#1d2027"),
    "ink": ("fill", "#16181d", "#eceef2"),
    "soft": ("fill", "#565d69", "#a3abb8"),
    "where": ("fill", "#0b5a94", "#8cc8f2"),
    "line": ("stroke", "#8a919d", "#727a87"),
    "mark": ("stroke", "#16181d", "#eceef2"),
    "full": ("fill", "#16181d", "#eceef2"),
    "hollow": ("fill", "#ffffff", "#16181d"),
    "lock": ("fill", "#0072b2", "#3f9fda"),
    "lock-edge": ("stroke", "#0072b2", "#3f9fda"),
    "turn": ("stroke", "#93487a", "#e097c2"),
    "turn-fill": ("fill", "#93487a", "#e097c2"),
    "wrong": ("stroke", "#b03c00", "#ff8a47"),
    "wrong-fill": ("fill", "#b03c00", "#ff8a47"),
    "wrong-box": ("fill", "#fdeee4", "#3a2213"),
    "cause-box": ("fill", "#fdf6e0", "#33290f"),
    "pair": ("stroke", "#00704f", "#35c497"),
    "pair-fill": ("fill", "#00704f", "#35c497"),
    "tag": ("fill", "#ffffff", "#16181d"),
}
FONT = "system-ui,'DejaVu Sans',Arial,sans-serif"
MONO = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"


def printable(text: str) -> str:
    """`text` without what XML cannot hold."""
    return re.sub("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def element(name: str, classes: str = "", inner: str = "", **attributes: object) -> str:
    """One element; `_` in an attribute's name is a dash, `inner` is markup already."""
    listed = {"class": classes} if classes else {}
    listed |= {
        key.replace("_", "-"): short(value) if isinstance(value, (int, float)) else str(value)
        for key, value in attributes.items()
        if value is not None
    }
    text = "".join(f" {key}={quoteattr(value)}" for key, value in listed.items())
    return f"<{name}{text}>{inner}</{name}>" if inner else f"<{name}{text}/>"


def text_element(
    x: float,
    y: float,
    text: str,
    classes: str,
    *,
    size: int = TEXT_SIZE,
    bold: bool = False,
    italic: bool = False,
    anchor: str | None = None,
) -> str:
    """A line of text; blanks at its begin move it."""
    return element(
        "text",
        classes,
        escape(printable(text).strip()),
        x=x + (len(text) - len(text.lstrip())) * INDENT,
        y=y,
        font_size=size if size != TEXT_SIZE else None,
        font_weight=600 if bold else None,
        font_style="italic" if italic else None,
        text_anchor=anchor,
    )


def mark(kind: str, x: float, y: float) -> str:
    """The mark of a kind of step."""
    hollow = ("read", "read-marked", "atomic-read", "unlock", "unlock-shared")
    classes = "hollow mark" if kind in hollow else "full mark"
    if kind in ("read", "write"):
        return element("circle", classes, cx=x, cy=y, r=4.5)
    if kind.endswith("-marked") or kind.startswith("atomic"):
        return element("path", classes, d=f"M{short(x)} {short(y - 6)}l6 6-6 6-6-6z")
    if kind in ("lock", "lock-shared", "unlock", "unlock-shared"):
        return element("rect", classes, x=x - 4.5, y=y - 4.5, width=9, height=9)
    if kind == "stuck":
        cross = f"M{short(x - 5)} {short(y - 5)}l10 10m0-10l-10 10"
        return element("path", "wrong", d=cross, stroke_width=3)
    return element("path", classes, d=f"M{short(x - 4)} {short(y - 5)}l9 5-9 5z")


def style() -> str:
    """A picture's style sheet: both themes, and nothing outside of a picture."""

    def rules(which: int) -> str:
        return "".join(
            f".cleanrace .{name}{{{values[0]}:{values[which]}}}" for name, values in COLOURS.items()
        )

    return (
        f".cleanrace{{font:{TEXT_SIZE}px {FONT}}}.cleanrace .mono{{font-family:{MONO}}}"
        f".cleanrace .none{{fill:none}}.cleanrace .mark{{stroke-width:1.6}}"
        f"{rules(1)}@media (prefers-color-scheme:dark){{{rules(2)}}}"
    )


def short(value: float) -> str:
    """A number as short as it gets."""
    return f"{value:.1f}".removesuffix(".0")
