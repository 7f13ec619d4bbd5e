# SPDX-License-Identifier: GPL-2.0-only
"""The verb `serve`: fuzz without end over a corpus folder, with a dashboard on loopback."""

import os
import secrets
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fuzz import campaign, places, serve_folder, shelf
from fuzz import commit as git
from fuzz.command import (
    Failure,
    KernelOption,
    TargetOption,
    app,
    console,
    ensure,
    given,
    number,
    planted_bugs,
)
from fuzz.report import say
from fuzz.serve_supervisor import Options, Supervisor

PORT = 8710
NEEDED = ("jinja2", "prometheus_client", "starlette", "uvicorn")


@app.command("serve")
def serve_command(
    context: typer.Context,
    target: TargetOption = None,
    kernel: KernelOption = None,
    *,
    corpus: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The folder it works in; default findings/service/ in the checkout.",
            show_default=False,
        ),
    ] = serve_folder.FOLDER,
    findings: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The shelf where new findings are kept; default corpus/findings/.",
            show_default=False,
        ),
    ] = shelf.FOLDER,
    jobs: Annotated[
        int | None,
        typer.Option(**number("--jobs", int, 1, 1024), help="Searches at once; default all cores."),
    ] = None,
    port: Annotated[
        int,
        typer.Option(**number("--port", int, 0, 65535), help="Of the dashboard; 0 takes any."),
    ] = PORT,
    planted: Annotated[
        list[str] | None,
        typer.Option(metavar="BUG", help="Switch on a planted bug: see what findings look like."),
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Commit each new finding; never push.")
    ] = False,
    time: Annotated[
        float | None,
        typer.Option(**number("--time", float, 1, 10**9), help="End after this; default never."),
    ] = None,
    seed: Annotated[
        int, typer.Option(**number("--seed", int, 0, 2**63), help="Of everything drawn.")
    ] = 1,
    shift: Annotated[
        float,
        typer.Option(**number("--shift", float, 1, 86400), help="Life of one search process."),
    ] = 60.0,
    memory: Annotated[
        int, typer.Option(**number("--memory", int, 64, 10**6), help="MiB of one process at most.")
    ] = 1024,
    exchange: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Share inputs and findings with other hosts there."),
    ] = None,
    textfile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the metrics there, for Prometheus, too."),
    ] = None,
    no_dashboard: Annotated[
        bool, typer.Option("--no-dashboard", help="Only search: no page, no metrics.")
    ] = False,
    dashboard_only: Annotated[
        bool, typer.Option("--dashboard-only", help="Show what is there, and search nothing.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the dashboard as one HTML file, and end."),
    ] = None,
) -> None:
    """Fuzz until told to stop; the dashboard says how it goes.

    Ends with 0 when told to (SIGTERM, Ctrl-C) or when --time is over; findings are on the shelf.
    """
    check(planted, dashboard=not no_dashboard)
    if sum((no_dashboard, dashboard_only, export is not None)) > 1:
        raise Failure("--no-dashboard, --dashboard-only and --export exclude each other")
    check_used(given(context))
    out = console()
    if dashboard_only or export is not None:
        show_only(out, corpus, findings, port=port, export=export)
        return
    check_folder("--findings", findings)
    check_folder("--corpus", made(corpus))
    if commit:
        check_repository(findings)
    if exchange is not None:
        check_exchange(exchange, corpus, findings)
    if textfile is not None:
        places.check_file("--textfile", textfile)
    if no_dashboard and textfile is not None:
        raise Failure("--textfile: the metrics are the dashboard's: leave --no-dashboard out")
    if not no_dashboard:
        check_port(port)
    loaded = ensure(out, target, kernel)
    token = secrets.token_urlsafe(16)
    options = Options(
        corpus=corpus,
        findings=findings,
        jobs=jobs or campaign.cores(),
        seed=seed,
        planted=planted_bugs(planted),
        commit=commit,
        seconds=time,
        shift=shift,
        memory=memory << 20,
        port=None if no_dashboard else port,
        token=token,
        textfile=textfile,
        exchange=exchange,
    )
    supervisor = Supervisor(loaded, options, show=lambda line: say(out, line))
    say(out, f"serving {loaded.name} {loaded.version} in {corpus}, {options.jobs} searches")
    if not no_dashboard:
        say(out, f"token for actions: {token}")
    try:
        supervisor.run()
    except serve_folder.Busy as error:
        raise Failure(str(error)) from None
    say(out, "stopped")


def check_used(options: dict[str, str]) -> None:
    """Failure for an option that would do nothing beside the others."""
    if "no_dashboard" in options and "port" in options:
        raise Failure("--port: it is the dashboard's: leave --no-dashboard or it out")
    only = "dashboard_only" if "dashboard_only" in options else "export"
    if only not in options:
        return
    used = {"corpus", "findings", only} | ({"port"} if only == "dashboard_only" else set())
    for name, option in options.items():
        if name not in used:
            raise Failure(
                f"{option}: with {options[only]} nothing is searched: leave one of them out"
            )


def check(planted: list[str] | None, *, dashboard: bool) -> None:
    """Failure for a planted bug that is none, or if packages are missing."""
    planted_bugs(planted)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing and dashboard:
        raise Failure(
            f"the dashboard needs {', '.join(missing)}: run pip install -e '.[service]' in the"
            " checkout, or give --no-dashboard"
        )


def made(folder: Path) -> Path:
    """The folder, made if it is the default one of the checkout."""
    if folder == serve_folder.FOLDER:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_folder(option: str, folder: Path) -> None:
    """Unwritable unless it can be written in; a full disk is no reason not to begin again."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        places.check_folder(option, folder)


def check_exchange(exchange: Path, corpus: Path, findings: Path) -> None:
    """Failure unless it is a folder to write in, apart from the corpus folder and the shelf."""
    if not exchange.is_dir():
        raise Failure(f"--exchange {exchange}: there is no such folder, create it first")
    check_folder("--exchange", exchange)
    shared = exchange.resolve()
    for option, folder in (("--corpus", corpus), ("--findings", findings)):
        own = folder.resolve()
        if own == shared or own in shared.parents or shared in own.parents:
            raise Failure(f"--exchange {exchange}: it and {option} {folder} must be apart")


def check_repository(findings: Path) -> None:
    """Failure unless the shelf is, or will be, in a git repository."""
    folder = findings.resolve()
    while not folder.is_dir():
        folder = folder.parent
    try:
        git.Git(folder).ask("rev-parse", "--show-toplevel")
    except Failure as error:
        raise Failure(f"--commit: {error}") from None


def check_port(port: int) -> None:
    """Failure if another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failure(f"--port {port}: {error.strerror}: name another one") from None


def show_only(
    out: Console, corpus: Path, findings: Path, *, port: int, export: Path | None
) -> None:
    """The dashboard of a folder, whether or not a service works there."""
    from fuzz import serve_web

    if not corpus.is_dir():
        raise Failure(f"--corpus {corpus}: there is no such folder, nothing was served there")
    if export is not None:
        places.check_file("--export", export)
        serve_web.export(export, corpus=corpus, findings=findings)
        say(out, f"written: {export}")
        return
    check_port(port)
    serve_web.alone(corpus=corpus, findings=findings, port=port, show=lambda line: say(out, line))
