# SPDX-License-Identifier: GPL-2.0-only
"""One run as one HTML file: the violated property, the picture, the steps, the way to replay it.

Nothing is fetched and nothing runs: no script, no address, and a policy in the page that allows
styles only. All text from elsewhere is escaped. With `sources` the lines of the local sources
stand beside the steps; such a page is for its reader, and says that it is not for a repository.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from cleanrace import Case, Result, Target
from fuzz import picture
from fuzz.looks import printable
from fuzz.picture import role_words
from fuzz.sourcelines import Sources
from fuzz.steps import Step, every, steps

__all__ = ["html", "steps"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
EVERY_MAX = 1500  # steps in the list of all of them
NOT_FOR_GIT = (
    "The lines of code come from the kernel sources on this machine. This page is for reading:"
    " keep it out of repositories, or write it without them."
)

# Colours as the picture has them.
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#16181d;--soft:#565d69;--edge:#d5d9e0;
--panel:#f4f5f7;--where:#0b5a94;--wrong:#b03c00;--turn:#93487a;--wrong-box:#fdeee4;--cause-box:#fdf6e0}
@media (prefers-color-scheme:dark){:root{--paper:#16181d;--ink:#eceef2;--soft:#a3abb8;
--edge:#3a404b;--panel:#1d2027;--where:#8cc8f2;--wrong:#ff8a47;--turn:#e097c2;--wrong-box:#3a2213;
--cause-box:#33290f}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1440px;padding:20px 16px 48px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,'DejaVu Sans',Arial,sans-serif;overflow-wrap:anywhere}
h1{margin:0;color:var(--wrong);font-size:26px;line-height:1.25}
h1.ok{color:var(--ink)}
h2{margin:32px 0 8px;font-size:18px}
p{margin:6px 0}
.lead{font-size:18px}
.soft,footer{color:var(--soft)}
code,pre,.where{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;
font-size:13px}
pre{margin:0;padding:12px;background:var(--panel);border-radius:6px;overflow-x:auto}
pre.prose{white-space:pre-wrap}
.picture{overflow-x:auto;border:1px solid var(--edge);border-radius:6px}
.picture svg{display:block;margin:0 auto}
:focus-visible{outline:3px solid var(--where);outline-offset:2px}
table{width:100%;border-collapse:collapse}
th,td{padding:5px 10px 5px 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--edge)}
th{color:var(--soft);font-weight:600;font-size:13px}
td.number,th.number{padding-left:8px;text-align:right;font-variant-numeric:tabular-nums}
td.where{color:var(--where)}
th,td.number,td.nowrap{white-space:nowrap}
td.where{min-width:18.5em}
td.source{min-width:16em}
.wide{overflow-x:auto}
tr.other td{border-top:2px solid var(--soft)}
tr.violation td{background:var(--wrong-box)}
tr.cause td{background:var(--cause-box)}
.role{display:block;color:var(--wrong);font-weight:600}
.then{display:block;color:var(--turn);font-style:italic}
summary{cursor:pointer;margin:12px 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dt{color:var(--soft)}
dd{margin:0}
footer{margin-top:40px;padding-top:12px;border-top:1px solid var(--edge);font-size:13px}
@media (max-width:760px){
dl{display:block}
dd{margin-bottom:6px}
table,tbody,tr,td{display:block}
thead{display:none}
tr{padding:8px;border-bottom:1px solid var(--edge)}
tr.violation{background:var(--wrong-box)}
tr.cause{background:var(--cause-box)}
td,td.number,td.nowrap{padding:0;border:0;text-align:left;white-space:normal}
td.number,td.nowrap{display:inline-block;margin-right:10px}
td.where,td.source{min-width:0}
tr.other{border-top:2px solid var(--soft)}
tr.other td{border:0}
td[data-label]:not(:empty)::before{content:attr(data-label) " ";color:var(--soft);
font:13px system-ui,'DejaVu Sans',Arial,sans-serif}
}
""".strip()


def html(
    result: Result,
    case: Case,
    target: Target,
    *,
    meta: Mapping[str, str] | None = None,
    commands: Sequence[str] = (),
    sources: bool = False,
    explanation: str = "",
) -> str:
    """The page of a run with a full trace of `case`.

    meta: facts for the list at the end, by name. commands: what replays it. sources: put the
    lines of the local sources beside the steps, which no committed page may have.
    explanation: what people wrote about it.
    """
    words = picture.verdict_words(result, target)
    name = ", ".join(verdict for verdict, _ in words)
    known = Sources(target) if sources else None
    if known is not None and not known.kernel:
        known = None
    told = steps(result, case.scenario, target)
    parts = [
        f"<h1{'' if result.verdicts else ' class=ok'}>{_text(name)}</h1>",
        *(f'<p class="lead">{_text(_sentence(sentence))}</p>' for _, sentence in words),
    ]
    title = picture.new_words(case.title, words)
    if title:
        parts.append(f'<p class="soft">{_text(title)}</p>')
    parts += [
        "<h2>Picture</h2>",
        '<div class="picture" tabindex="0" role="region" aria-label="Picture">',
        picture.svg(result, case.scenario, target, title=case.title, heading=False).strip(),
        "</div>",
        "<h2>Steps</h2>",
        _table(told, result, known),
        _all(result, case, target, known, shown=len(told)),
    ]
    if explanation:
        parts += ["<h2>Explanation</h2>", f'<pre class="prose">{_text(explanation)}</pre>']
    if commands:
        parts += ["<h2>Replay</h2>", f"<pre>{_text(chr(10).join(commands))}</pre>"]
    parts += ["<h2>Scenario</h2>", f"<pre>{_text(case.to_text().rstrip())}</pre>"]
    facts = _facts(result, target) | dict(meta or {})
    parts += [
        "<h2>Facts</h2>",
        "<dl>",
        *(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in facts.items()),
        "</dl>",
        f"<footer>{_foot(known)}</footer>",
    ]
    return _document(": ".join(filter(None, (name, title))), parts)


def _document(title: str, parts: Iterable[str]) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{_text(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            "<main>",
            *parts,
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _facts(result: Result, target: Target) -> dict[str, str]:
    """What every page can say about the run and its target."""
    return {
        "target": f"{target.name} {target.version}",
        "sha256": target.sha256,
        "compiler": str(target.info.get("compiler", "")),
        "build": target.build_id,
        "decision points": f"{result.steps:,}",
        "digest of the trace": f"{result.digest:016x}",
    }


def _foot(known: Sources | None) -> str:
    rests = (
        "The kernel file is unmodified; its callers are models, and memory is sequentially"
        " consistent."
    )
    return f"<p>{rests}</p>" + (f"<p>{NOT_FOR_GIT}</p>" if known is not None else "")


def _table(told: Sequence[Step], result: Result, known: Sources | None) -> str:
    """The steps as a table; on a narrow screen, a block each."""
    heads = ["#", "thread", "operation", "where", "what happens", "locks held after it"]
    if known is not None:
        heads.insert(4, "source line")
    klass = ' class="number"'
    head = "".join(f"<th{klass if text == '#' else ''}>{text}</th>" for text in heads)
    rows = []
    thread = told[0].thread if told else 0
    for step in told:
        classes = [step.role] * bool(step.role) + ["other"] * (step.thread != thread)
        thread = step.thread
        rows.append(
            f"<tr{_class(classes)}>"
            f'<td class="number">{step.number}</td>'
            f'<td class="nowrap" data-label="thread">{step.thread}</td>'
            f'<td class="nowrap">{_text(step.operation)}</td>'
            f'<td class="where">{_text(step.where)}</td>'
            f"{_source(step, known)}"
            f"<td>{_role(step, result)}{_name(step.text)}{_then(step)}</td>"
            f'<td class="held" data-label="holds">{_name(", ".join(step.held))}</td></tr>'
        )
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _all(result: Result, case: Case, target: Target, known: Sources | None, *, shown: int) -> str:
    """Every step of the run, folded away."""
    whole = every(result, case.scenario, target)
    if len(whole) <= shown:
        return ""
    more = f", of {len(whole):,}" if len(whole) > EVERY_MAX else ""
    some = whole[:EVERY_MAX]
    return (
        f"<details><summary>Every step ({len(some):,}{more}), nothing left out</summary>\n"
        f"{_table(some, result, known)}\n</details>"
    )


def _source(step: Step, known: Sources | None) -> str:
    if known is None:
        return ""
    file, line = known.line(step.where)
    return f'<td class="source" title="{_text(file)}"><code>{_text(line)}</code></td>'


def _role(step: Step, result: Result) -> str:
    return f'<span class="role">{_text(role_words(step, result))}</span>' if step.role else ""


def _then(step: Step) -> str:
    return f'<span class="then">{_name(step.then)}</span>' if step.then else ""


def _class(names: Sequence[str]) -> str:
    return f' class="{" ".join(names)}"' if names else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _text(text: str) -> str:
    """Text as HTML: escaped, and without what no document may hold."""
    return escape(printable(text))


def _name(text: str) -> str:
    """Text with names in it, which may break before a dot or after an underscore."""
    return re.sub(r"(\w)(?=\.\w)|(\w_)(?=[a-z])", r"\g<0><wbr>", _text(text))
