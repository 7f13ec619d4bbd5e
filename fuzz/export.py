# SPDX-License-Identifier: GPL-2.0-only
"""`export`: a finding as one C file that reproduces it without Python.

The file has the scenario and the tape as data and calls cr_run() of csrc/api.h. It is built by
one command against the objects that the target's build keeps. Verdict and planted bugs stand in
it by name, so that it also builds against another target, where it may say that nothing shows.
"""

import re
import shlex
import textwrap
from pathlib import Path
from typing import Annotated

import typer

import build
import cleanrace
from cleanrace import Case, Target
from fuzz import bisecting, keeping, places, store
from fuzz.command import Failure, KernelOption, TargetOption, app, console, ensure
from fuzz.report import say

WIDTH = 90  # of a line of the comment
BYTES = 12  # a line of data
# What a program of one's own is linked without: the plain program's main, and Python's binding.
NOT_LINKED = ("main", Path(build.BINDING).stem)

PROGRAM = """\
// SPDX-License-Identifier: GPL-2.0-only
/*
{comment}
 */
#include <stdio.h>
#include <string.h>

#include "api.h"

#define VERDICT		"{verdict}"
#define STEPS_MAX	{steps_max}
#define DIGEST		0x{digest:016x}ull	/* of the trace, in the build named above */

/* The scenario in its byte form. */
static const uint8_t scenario[] = {{
{scenario}
}};

/* What goes on at each decision: the n-th enabled thread from the running one upwards. */
static const uint8_t tape[] = {{
{tape}
}};

/* Planted bugs that are switched on. */
static const char *const planted[] = {{ {planted}NULL }};

/* The bit of that name in a table of the target, or 0. */
static uint32_t bit(int table, const char *name)
{{
	const char *word;
	int i;

	for (i = 0; (word = cr_word(table, i, 0)); i++)
		if (!strcmp(word, name))
			return (uint32_t)1 << i;
	return 0;
}}

int main(void)
{{
	struct cr_config config = {{
		.judged = bit(CR_TABLE_VERDICTS, VERDICT),
		.steps_max = STEPS_MAX,
		.trace_full = 1,
		.detect = 1,
	}};
	struct cr_result result;
	size_t length;
	int i;

	for (i = 0; planted[i]; i++)
		config.planted |= bit(CR_TABLE_PLANTED, planted[i]);
	length = sizeof(scenario);
	if (!config.judged || cr_run(&config, scenario, length, tape, sizeof(tape), &result)) {{
		fputs("this target cannot run it: build it against the one it names\\n", stderr);
		return 2;
	}}
	printf("verdict %s, ", cr_word(CR_TABLE_VERDICTS, (int)result.verdict, 0));
	printf("trace of %u events, digest %016llx ", result.trace_length,
		(unsigned long long)result.digest);
	puts(result.digest == DIGEST ? "as expected" : "and not the expected one: another build");
	if (!(result.verdicts & config.judged)) {{
		puts(VERDICT " does not show");
		return 1;
	}}
	puts(VERDICT " shows");
	return 0;
}}
"""


def program(target: Target, case: Case, tape: bytes) -> str:
    """The C file of a schedule that shows the case's verdict on this target."""
    result = cleanrace.run(target, case.scenario, tape, **keeping.options(case))
    assert case.expect in result.verdicts, "only what shows is exported"
    planted = "".join(f'"{name}", ' for name in keeping.options(case)["planted"])
    return PROGRAM.format(
        comment=_comment(target, case, result),
        verdict=case.expect,
        steps_max=case.steps_max,
        digest=result.digest,
        scenario=_data(case.scenario.to_bytes()),
        # C has no empty arrays; an answer 0 is the same as none.
        tape=_data(result.tape or b"\0"),
        planted=planted,
    )


def _comment(target: Target, case: Case, result: cleanrace.Result) -> str:
    """What it is about, as lines of a C comment."""
    sentence = target.table("verdicts")[case.expect][1]
    lines = textwrap.wrap(f"Reproduces {case.expect}: {sentence}.", WIDTH)
    if case.title:
        lines += ["", *textwrap.wrap(case.title, WIDTH)]
    scenario = Case(scenario=case.scenario, broken=case.broken).to_text().splitlines()[1:]
    lines += ["", "The scenario:", "", *(f"\t{line}" for line in scenario if line[:6] != "expect")]
    if case.switches:
        lines += ["", "The schedule:", ""]
        for switch in case.switches:
            text = keeping.switch_text(switch, case)
            lines += [f"\t{line}" for line in textwrap.wrap(text, WIDTH - 8)]
    lines += ["", *textwrap.wrap(
        f"The tape is of target {target.name} {target.version}, build {target.build_id}, sha256 of"
        f" cleancache.c {target.sha256}, {target.info['compiler']}; the trace has"
        f" {len(result.trace)} events. `python fuzz/run.py export` printed the command that"
        " builds this file. Exit status: 0 the verdict shows, 1 it does not, 2 it cannot be run.",
        WIDTH,
        break_on_hyphens=False,
    )]  # fmt: skip
    return "\n".join(f" * {_harmless(line)}".replace("* \t", "*\t").rstrip() for line in lines)


def _harmless(line: str) -> str:
    """Text that neither ends the comment nor begins another."""
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)", " ", line)


def _data(data: bytes) -> str:
    """Bytes as lines of a C initialiser."""
    lines = (data[at : at + BYTES] for at in range(0, len(data), BYTES))
    return "\n".join("\t" + " ".join(f"{byte}," for byte in line) for line in lines)


def command(target: Target, file: Path) -> str:
    """The shell command that builds an exported file against the built target."""
    folder = Path(target.info["program"]).parent / "objects"
    objects = sorted(path.name for path in folder.glob("*.o"))
    linked = [name for name in objects if name[3:-2] not in NOT_LINKED]
    if not linked or len(objects) != len(linked) + len(NOT_LINKED):
        raise Failure(
            f"the objects of {target.name} in {folder} are not complete: run 'python build.py"
            f" --target {target.name} --force'"
        )
    # Objects are numbered, and the two that are left out come last.
    tens, ones = divmod(len(linked), 10)
    globs = [f"[0-{tens - 1}]?-*.o"] * (tens > 0) + [f"{tens}[0-{ones - 1}]-*.o"] * (ones > 1)
    globs += [f"{tens}0-*.o"] * (ones == 1)
    shown = str(file) if not str(file).startswith("-") else f"./{file}"
    words = (
        *build.compiler_command(),
        f"-I{build.ROOT / 'csrc'}",
        "-pthread",
        "-o",
        shown.removesuffix(".c"),
        shown,
    )
    # Shells expand the patterns, and nothing else of the folder's name.
    return " ".join([shlex.join(words), *(f"{shlex.quote(str(folder))}/{glob}" for glob in globs)])


@app.command("export")
def export_command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A scenario file or a finding's folder.")
    ],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.c", help="Default: its name, in this folder."),
    ] = None,
) -> None:
    """Write a finding as one C file, and print the command that builds it."""
    case = bisecting.read_case(path)
    file = output or Path(f"{path.resolve().name.removesuffix(store.SUFFIX)}.c")
    if file.suffix != ".c":
        raise Failure(f"-o {file}: give it a name that ends in .c")
    places.check_file("-o", file)
    out = console()
    loaded = ensure(out, target, kernel)
    outcome = bisecting.shows(loaded, case)
    if not outcome.shows:
        said = f"{case.expect} {bisecting.DOES_NOT} on {loaded.name} {loaded.version}"
        say(out, f"nothing was written: {said} ({outcome.how})")
        raise typer.Exit(1)
    text = program(loaded, case, outcome.tape)
    built = command(loaded, file)
    store.write(file, text)
    say(out, f"{store.shown(file)}: {case.expect} on {loaded.name} {loaded.version}; to build it:")
    print(built)
