# SPDX-License-Identifier: GPL-2.0-only
"""The dashboard: a web server on loopback that reads, and passes actions on to the service.

Reading changes nothing. It answers only requests whose Host is the loopback address that it
listens at, so that no name of somebody else's leads here; it takes an action only with the token
that was printed when the service started, and never from a page of another origin. Names in
addresses are looked up among the findings on the shelf, and never become a path.
"""

import asyncio
import json
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fuzz import serve_metrics, serve_pages, store
from fuzz.serve_folder import Layout
from fuzz.serve_pages import ACTIONS, Shown

ADDRESS = "127.0.0.1"
BODY_MAX = 4096
REFRESH_SECONDS = 10
ALIVE_SECONDS = 2.0
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
HEADERS = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    # Not no-referrer, which would make the origin of our own forms unknown.
    b"referrer-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
Act = Callable[[str, str], None]  # an action and the finding that it is about


class Guard:
    """Refuses requests with another Host, and actions of another origin's page."""

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        if port == 80:
            self.hosts |= {ADDRESS, "localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name, value) for name, value in HEADERS.items() if name not in given
                ]
            await send(message)

        refusal = self.refusal(scope)
        app = self.app if refusal is None else refusal
        await app(scope, receive, guarded)

    def refusal(self, scope: Scope) -> Response | None:
        """Why a request is refused, None if it is not."""
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value.decode("latin-1"))
        host = headers.get(b"host", [])
        if len(host) != 1 or host[0].lower() not in self.hosts:
            return PlainTextResponse("this server answers to its own address only\n", 421)
        if scope["method"] in ("GET", "HEAD"):
            return None
        origins = headers.get(b"origin", [])
        foreign = any(
            origin.lower() not in {f"http://{name}" for name in self.hosts} for origin in origins
        )
        site = headers.get(b"sec-fetch-site", [])
        if foreign or any(one not in ("same-origin", "none") for one in site):
            return PlainTextResponse("a page of another origin cannot act here\n", 403)
        return None


class Pages:
    """The routes."""

    def __init__(self, shown: Shown, *, token: str, act: Act | None) -> None:
        self.shown, self.token, self.act = shown, token, act
        self.templates = serve_pages.environment()

    def page(self, name: str, values: dict[str, Any], *, status: int = 200) -> HTMLResponse:
        """A page from its template."""
        return HTMLResponse(self.templates.get_template(name).render(values), status)

    def entry(self, request: Request) -> Any:
        """The finding that an address names; 404 if there is none."""
        found = self.shown.entry(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such finding")
        return found

    def overview(self, request: Request) -> Response:
        """The first page."""
        refresh = 0 if request.query_params.get("refresh") == "0" else REFRESH_SECONDS
        more = {"here": "overview", "refresh": refresh, "done": told(request)}
        return self.page("overview.html", self.shown.overview() | more)

    def finding(self, request: Request) -> Response:
        """One finding."""
        more = {"here": "", "done": told(request)}
        return self.page("finding.html", self.shown.finding(self.entry(request)) | more)

    def picture(self, request: Request) -> Response:
        """The picture of a finding."""
        return Response(
            self.entry(request).picture,
            media_type="image/svg+xml",
            headers={"content-security-policy": PICTURE_POLICY},
        )

    def run(self, request: Request) -> Response:
        """Every step of a finding's run."""
        text = self.shown.run_page(self.entry(request))
        if text is None:
            raise HTTPException(404, "The page of this run was not drawn")
        return HTMLResponse(text)

    def proof(self, _request: Request) -> Response:
        """Premises and certificates."""
        return self.page("proof.html", self.shown.proof() | {"here": "proof"})

    def metrics(self, _request: Request) -> Response:
        """For Prometheus."""
        return Response(
            serve_metrics.text(self.shown.told()),
            media_type="text/plain; version=0.0.4; charset=utf-8",
        )

    async def actions(self, request: Request) -> Response:
        """What a user wants the service to do."""
        given = await form(request)
        if not secrets.compare_digest(given.get("token", "").encode(), self.token.encode()):
            raise HTTPException(403, "That is not the token which was printed at the start")
        if self.act is None:
            raise HTTPException(409, "No service runs here that could do it")
        action, name = given.get("action", ""), given.get("name", "")
        if action not in ACTIONS:
            raise HTTPException(400, "There is no such action")
        where = "/"
        if action in ("recheck", "minimise"):
            if self.shown.entry(name) is None:
                raise HTTPException(404, "There is no such finding")
            where = f"/findings/{quote(name, safe='')}"
        self.act(action, name)
        return RedirectResponse(f"{where}?done={action}", 303)

    def failed(self, _request: Request, error: Exception) -> Response:
        """A page that says what is wrong."""
        assert isinstance(error, HTTPException)
        return self.page(
            "missing.html", {"what": error.detail, "here": ""}, status=error.status_code
        )


async def form(request: Request) -> dict[str, str]:
    """The fields of a posted form, which is small."""
    data = b""
    try:
        async for part in request.stream():
            data += part
            if len(data) > BODY_MAX:
                raise HTTPException(413, "That is too much")
        fields = parse_qs(data.decode("utf-8"), max_num_fields=10)
    except (ValueError, ClientDisconnect):
        raise HTTPException(400, "That is no form") from None
    return {name: values[-1] for name, values in fields.items()}


def told(request: Request) -> str:
    """What the last action did, in words of ours."""
    return ACTIONS.get(request.query_params.get("done", ""), "")


def application(
    shown: Shown,
    *,
    port: int,
    token: str = "",
    act: Act | None = None,
    alive: Callable[[], None] | None = None,
) -> ASGIApp:
    """The whole dashboard as an ASGI application."""
    pages = Pages(shown, token=token or secrets.token_urlsafe(16), act=act)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(beat(alive)) if alive is not None else None
        yield
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):  # which we asked for
                await task

    app = Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/proof", pages.proof),
            Route("/metrics", pages.metrics),
            Route("/findings/{name}", pages.finding),
            Route("/findings/{name}/picture.svg", pages.picture),
            Route("/findings/{name}/run", pages.run),
            Route("/actions", pages.actions, methods=["POST"]),
        ],
        exception_handlers={HTTPException: pages.failed},
        lifespan=lifespan,
    )
    return Guard(app, port=port)


async def beat(alive: Callable[[], None]) -> None:
    """Say every now and then that the server is there."""
    while True:
        alive()
        await asyncio.sleep(ALIVE_SECONDS)


def bound(port: int) -> socket.socket:
    """A socket of the loopback address. OSError if another program has the port."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((ADDRESS, port))
    return made


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until told to stop."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        lifespan="on",
        ws="none",
    )
    with suppress(KeyboardInterrupt):  # how uvicorn tells that Ctrl-C ended it
        uvicorn.Server(config).run(sockets=[listening])


def child(job: dict[str, Any], out: Any) -> int:
    """The dashboard as a process of the service; it speaks as all of them do."""

    def say(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shown = Shown(Layout(Path(job["corpus"])), Path(job["findings"]), actions=True)
    listening = bound(job["port"])
    port = listening.getsockname()[1]
    say(listening=port)
    app = application(
        shown,
        port=port,
        token=job["token"],
        act=lambda action, name: say(action=action, name=name),
        alive=lambda: say(alive=True),
    )
    run(app, listening)
    say(done=True)
    return 0


def alone(*, corpus: Path, findings: Path, port: int, show: Callable[[str], None]) -> None:
    """The dashboard without a service of its own: nothing can be asked for there."""
    listening = bound(port)
    port = listening.getsockname()[1]
    show(f"dashboard: http://{ADDRESS}:{port}/")
    run(application(Shown(Layout(corpus), findings), port=port), listening)


def export(path: Path, *, corpus: Path, findings: Path) -> None:
    """Write everything as one HTML file."""
    store.write(path, serve_pages.export(Shown(Layout(corpus), findings)))
