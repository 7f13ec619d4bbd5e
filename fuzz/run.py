#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Race a target and say what was found; without a verb, a whole campaign.

    python fuzz/run.py [--time SECONDS] [--target NAME | --kernel PATH] ...
    python fuzz/run.py explore FILE | prove | replay FILE | premises | targets

Exit status: 0 nothing new, 1 new findings (replay: the finding shows), 2 usage or build error,
3 the harness itself failed. An error of the user's is one line and never a traceback.
"""

import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() there is nothing to end well

try:
    import typer

    import build
    import cleanrace

except ModuleNotFoundError as error:
    print(
        f"the Python package {error.name} is not installed for {sys.executable}: run"
        " 'pip install -e .' in the checkout",
        file=sys.stderr,
    )
    sys.exit(2)

from fuzz import (  # noqa: E402, F401 - some only bring verbs of their own
    bench,
    bisecting,
    bugs,
    campaign,
    certificate,
    cluster,
    commit,
    corpus_verbs,
    covering,
    doctor,
    drawing,
    explore,
    explored,
    export,
    findability,
    junit,
    places,
    premises,
    prove,
    races,
    replaying,
    report,
    sanitize,
    sarif,
    scenarios,
    serve,
    shelf,
    shelving,
    store,
    tsan,
)
from fuzz.command import (  # noqa: E402
    PLAIN_SECONDS,
    Failure,
    KernelOption,
    TargetOption,
    app,
    collect,
    console,
    ensure,
    given,
    leave,
    number,
    planted_bugs,
    stages,
    status,
)

INTERRUPTED = 130  # exit status; typer has it for Ctrl-C as well

# The base of all usage errors; typer carries it under no public name of its own.
UsageFailure: Any = typer.BadParameter.__mro__[2]


@app.callback(invoke_without_command=True)
def main_command(
    context: typer.Context,
    *,
    time: Annotated[
        float,
        typer.Option(
            **number("--time", float, 1, 10**6), help="Seconds for everything after the build."
        ),
    ] = 60.0,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Processes; default all cores."),
    ] = None,
    target: TargetOption = None,
    kernel: KernelOption = None,
    seed: Annotated[
        int, typer.Option(**number("--seed", int, 0, 2**63), help="Of everything drawn.")
    ] = 1,
    engine: Annotated[
        str, typer.Option(help="fiber (every choice ours) or thread (real threads).")
    ] = "fiber",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write everything as JSON, too.")
    ] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML, for CI.")
    ] = None,
    sarif_file: Annotated[
        Path | None,
        typer.Option("--sarif", metavar="FILE", help="Write SARIF, for code scanning."),
    ] = None,
    findings: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The shelf where new findings are kept; default corpus/findings/.",
            show_default=False,
        ),
    ] = shelf.FOLDER,
    planted: Annotated[
        list[str] | None,
        typer.Option(metavar="BUG", help="Switch on a planted bug: see what findings look like."),
    ] = None,
    commit_them: Annotated[
        bool, typer.Option("--commit", help="Commit new findings, as the verb commit does.")
    ] = False,
) -> None:
    """Race a target: a planted bug, the corpus, random search, Atheris, Hypothesis."""
    if context.invoked_subcommand is not None:
        for option in given(context).values():
            raise Failure(
                f"{option}: before a verb it means nothing, give {context.invoked_subcommand}"
                " its options behind it"
            )
        return
    if engine not in ("fiber", "thread"):
        raise Failure(f"--engine {engine}: expected fiber or thread")
    bugs_there = planted_bugs(planted)
    written = {"--json": json, "--junit": junit_file, "--sarif": sarif_file}
    for option, file in written.items():
        if file is not None:
            places.check_file(option, file)
    places.check_apart(written)
    places.check_folder("--findings", findings)
    if commit_them:
        findings.mkdir(exist_ok=True)
        commit.commit(findings, dry_run=True)  # what forbids it is said before anything runs
    out = console()
    loaded = ensure(out, target, kernel)
    options = campaign.Options(
        seconds=time,
        jobs=jobs or campaign.cores(),
        seed=seed,
        engine=engine,
        planted=bugs_there,
        findings=findings,
    )
    with status(out) as show:
        done = campaign.Campaign(loaded, options, show=show).run()
    report.print_report(out, done)
    write_reports(done, written)
    if commit_them:
        committed = commit.commit(findings)
        what = f"{committed.commit[:12]}, {', '.join(committed.names)}" if committed.commit else ""
        report.say(out, f"committed: {what or 'nothing, there is no new finding'}")
    raise typer.Exit(done.status)


def write_reports(done: campaign.Report, files: Mapping[str, Path | None]) -> None:
    """The campaign's result in every form that was asked for."""
    if (file := files["--json"]) is not None:
        report.write_json(file, done, command=sys.argv[1:])
    if (file := files["--junit"]) is not None:
        junit.write_junit(file, done)
    if (file := files["--sarif"]) is not None:
        sarif.write_sarif(file, done)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file, or a finding.")],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Fold nothing.")] = False,
) -> None:
    """Replay a scenario file: its tape, or a search where it has none; show the race."""
    file = scenario_file(file)
    case = cleanrace.Case.read(file)
    out = console()
    loaded = ensure(out, target, kernel)
    raise typer.Exit(replaying.replay(out, loaded, file, case, everything=everything))


def scenario_file(path: Path) -> Path:
    """The scenario file that a user named, by itself or by a finding's folder."""
    if path.is_dir():
        path /= shelf.SCENARIO
    if not path.is_file():
        what = "it is no file" if path.exists() else "there is no such scenario file"
        raise Failure(f"{path}: {what}, corpus/litmus/ has some")
    return path


@app.command("explore")
def explore_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario file.")],
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    policy: Annotated[
        str, typer.Option(help="dpor (one execution per class) or dfs (every interleaving).")
    ] = "dpor",
    bound: Annotated[
        int | None,
        typer.Option(**number("--bound", int, 0, 1000), help="Preemptions at most, with dfs."),
    ] = None,
    points: Annotated[
        str, typer.Option(help="sync (synchronisation and what races) or all (every access).")
    ] = "sync",
    jobs: Annotated[int, typer.Option(**number("--jobs", int, 1, 64), help="Workers.")] = 1,
    on: cluster.ClusterOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupt stopped it.")
    ] = False,
    symmetry: Annotated[
        bool | None,
        typer.Option(
            help="With dpor: of executions that differ only in which of several threads alike is"
            " which, explore one (the default), or each."
        ),
    ] = None,
    time: Annotated[
        float | None, typer.Option(**number("--time", float, 0.1, 10**6), help="Seconds at most.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
    findings: Annotated[
        Path, typer.Option(metavar="DIR", help="Where tapes are kept.", show_default=False)
    ] = store.FINDINGS,
) -> None:
    """Exhaust one scenario: every interleaving, or the simplest that violates a property."""
    for option, value, known in (
        ("--policy", policy, ("dpor", "dfs")),
        ("--points", points, ("sync", "all")),
    ):
        if value not in known:
            raise Failure(f"{option} {value}: expected {' or '.join(known)}")
    if bound is not None and policy != "dfs":
        raise Failure(f"--bound {bound}: only --policy dfs has a bound, give both")
    if symmetry is not None and policy != "dpor":
        option = "--symmetry" if symmetry else "--no-symmetry"
        raise Failure(f"{option}: --policy dfs runs every interleaving, only dpor has symmetry")
    file = scenario_file(file)
    case = cleanrace.Case.read(file)
    if json is not None:
        places.check_file("--json", json)
    places.check_folder("--findings", findings)
    cluster.check(on)
    out = console()
    loaded = ensure(out, target, kernel)
    options = explore.Options(
        policy=policy,
        bound=bound,
        points=points,
        jobs=jobs,
        seconds=time,
        resume=resume,
        findings=findings,
        cluster=on,
        symmetry=symmetry is not False,
    )
    with explore.shown(out, PLAIN_SECONDS) as show:
        outcome = explore.Exploring(loaded, case, options, show).run()
    status = explored.report(
        out, loaded, outcome, path=file, case=case, options=options, json_file=json
    )
    raise typer.Exit(status)


@app.command("prove")
def prove_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    bound: Annotated[
        str,
        typer.Option(
            metavar="BOUND",
            help="default, small, apart, larger, or registrations/mounts/unmounts/page operations.",
        ),
    ] = "default",
    every: Annotated[
        bool, typer.Option("--every", help="Also the scenarios that others cover.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Workers; default all cores."),
    ] = None,
    on: cluster.ClusterOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last run of this bound stopped.")
    ] = False,
    time: Annotated[
        float | None, typer.Option(**number("--time", float, 0.1, 10**6), help="Seconds at most.")
    ] = None,
    certificate_file: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="Where the certificate goes."),
    ] = None,
    findings: Annotated[
        Path, typer.Option(metavar="DIR", help="Where tapes are kept.", show_default=False)
    ] = store.FINDINGS,
) -> None:
    """Exhaust every scenario within a bound, and write a certificate."""
    scenarios.parse(bound)
    cluster.check(on)
    if certificate_file is not None:
        places.check_file("--certificate", certificate_file)
    places.check_folder("--findings", findings)
    out = console()
    loaded = ensure(out, target, kernel)
    options = prove.Options(
        bound=bound,
        every=every,
        jobs=cluster.jobs(jobs, on),
        seconds=time,
        resume=resume,
        cluster=on,
    )
    with explore.shown(out, PLAIN_SECONDS) as show:
        proving = prove.Proving(loaded, options, show)
        proof = proving.run()
    files = certificate.keep(proof, findings)
    certificate.print_proof(out, proof, files)
    if proof.done:
        path = certificate_file or proving.path.with_suffix(".json")
        explore.write_promoted(loaded, [pc for one in proof.results for pc in one["promoted"]])
        store.write(path, certificate.text(certificate.certificate(proof, files)))
        report.say(out, f"certificate: {store.shown(path)}")
    else:
        more = shlex.join(["python", "fuzz/run.py", *(a for a in sys.argv[1:] if a != "--resume")])
        report.say(out, f"not finished; to go on: {more} --resume")
    raise typer.Exit(proof.status)


@app.command("premises")
def premises_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """Break the proof's four premises one at a time, then search with all intact."""
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    with stages(out) as show:
        searches, cut = collect(premises.run(loaded, show=show))
    code = replaying.premises(out, loaded, searches, json=json)
    if cut:
        leave(out, f"{len(searches)} of {premises.SEARCHES} searches")
    raise typer.Exit(code)


@app.command("bench")
def bench_command(
    context: typer.Context,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    time: Annotated[
        float, typer.Option(**number("--time", float, 1, 10**6), help="Seconds of measuring.")
    ] = bench.SECONDS,
    bugs_only: Annotated[
        bool, typer.Option("--bugs", help="Instead: how soon each policy finds each known bug.")
    ] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Instead: policies, points and mixes compared.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(**number("--seeds", int, 1, 10**4), help="Searches per policy and bug."),
    ] = None,
    cap: Annotated[
        int | None,
        typer.Option(**number("--cap", int, 1, 10**9), help="Schedules of such a search, at most."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """Measure how fast schedules are, beside the bare limit and the thread engine."""
    if bugs_only and ablation:
        raise Failure("--bugs and --ablation exclude each other: give one of them")
    if seeds is not None and not (bugs_only or ablation):
        raise Failure(f"--seeds {seeds}: only --bugs and --ablation search from seeds")
    if cap is not None and not (bugs_only or ablation):
        raise Failure(f"--cap {cap}: only --bugs and --ablation search for something")
    if "time" in given(context) and (bugs_only or ablation):
        raise Failure(f"--time {time:g}: --bugs and --ablation end by --seeds and --cap")
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    if bugs_only or ablation:
        wanted = bugs.Wanted(seeds=seeds, cap=cap, ablation=ablation)
        with stages(out) as show:
            rows, cut = collect(bugs.measure(loaded, wanted, show=show))
        bugs.print_bugs(out, loaded, rows, wanted, json, command=sys.argv[1:])
        if cut:
            leave(out, f"{len(rows)} of {len(bugs.chosen(loaded, wanted))} bugs")
        return
    with stages(out) as show:
        (*_, done), cut = collect(bench.run(loaded, seconds=time, show=show))
    bench.print_bench(out, done)
    if json is not None:
        bench.write_json(json, done, command=sys.argv[1:])
    if cut:
        leave(out, f"{done.rounds} of {bench.ROUNDS} rounds")


@app.command("races")
def races_command(
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    time: Annotated[
        float, typer.Option(**number("--time", float, 1, 10**6), help="Seconds of searching.")
    ] = races.SECONDS,
    tsan_seconds: Annotated[
        float | None,
        typer.Option(
            "--tsan",
            **number("--tsan", float, 1, 10**6),
            help="Seconds of the real ThreadSanitizer, too.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
) -> None:
    """List the data races of a target, each with a tape that has both sides next to each other."""
    if json is not None:
        places.check_file("--json", json)
    out = console()
    loaded = ensure(out, target, kernel)
    with stages(out) as show:
        try:
            stand = races.run(loaded, seconds=time, tsan_seconds=tsan_seconds, show=show)
            (*_, found), cut = collect(stand)
        except tsan.TsanError as error:
            raise Failure(f"--tsan: {error}") from None
    races.print_races(out, found)
    if json is not None:
        races.write_json(json, found, command=sys.argv[1:])
    if cut:
        leave(out, "the search, and what is said of each race")


@app.command("targets")
def targets_command() -> None:
    """List the targets that are built, and those that can be."""
    out = console()
    built = {found.name: found for found in cleanrace.targets()}
    for name in sorted({build.DEFAULT, build.REFERENCE} | set(built)):
        if name in built:
            found = built[name]
            text = f"{name}: version {found.version}, sha256 {found.sha256[:12]}, build"
            report.say(out, f"{text} {found.build_id}")
        else:
            report.say(out, f"{name}: not built, run 'python build.py --target {name}'")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    if sys.stdout is None:  # whoever started this closed it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - to the end
    try:
        result = app(args=arguments, prog_name="run.py", standalone_mode=False)
        status = result if isinstance(result, int) else 0
        if status == INTERRUPTED:
            failed("interrupted", status)
    except typer.Exit as error:
        status = int(error.exit_code)
    except UsageFailure as error:
        status = failed(f"{error.format_message()} (see --help)", 2)
    except (typer.Abort, KeyboardInterrupt):
        status = failed("interrupted", INTERRUPTED)
    except store.Broken as error:
        status = failed(str(error), 3)
    except (
        Failure,
        places.Unwritable,
        scenarios.BadBound,
        build.BuildError,
        cleanrace.TargetError,
        cleanrace.ScenarioError,
    ) as error:
        status = failed(str(error), 2)
    except OSError as error:
        name = error.filename or "input or output"
        status = failed(f"{name}: {error.strerror or error}", 2)
    return status


def failed(line: str, status: int) -> int:
    """One line on standard error."""
    print("run.py: " + " ".join(line.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
