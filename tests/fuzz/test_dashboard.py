# SPDX-License-Identifier: GPL-2.0-only
"""The dashboard: read by anybody on this machine, acting only for who has the token."""

import hashlib
import http.client
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from browsing import THEMES, asked_for, chromium, looks
from prometheus_client.parser import text_string_to_metric_families
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serving import log, served, until

from cleanrace import Target
from fuzz import (
    serve_charts,
    serve_db,
    serve_folder,
    serve_metrics,
    serve_pages,
    serve_supervisor,
    shelf,
)
from fuzz.serve_folder import Layout
from fuzz.serve_pages import Shown
from fuzz.serve_supervisor import Supervisor

pytestmark = pytest.mark.long

TOKEN = "a token"  # noqa: S105 - of the tests' own service
WIDTHS = (400, 1300)
STORY = "pool-dead-reclaim+unmount"


@dataclass
class Site:
    """A service whose searches are paused, with its dashboard."""

    service: Supervisor
    root: Path

    @property
    def port(self) -> int:
        assert self.service.port
        return self.service.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        host: str | None = None,
        headers: dict[str, str] | None = None,
        fields: dict[str, str] | None = None,
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of what it answers to exactly this path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        body = None if fields is None else urlencode(fields)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{self.port}")
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Type", "application/x-www-form-urlencoded")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(None if body is None else body.encode())
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data, {name.lower(): value for name, value in answer.getheaders()}

    def act(self, **more: Any) -> int:
        """The status of pausing, as a browser would ask for it from our own page."""
        given = {"headers": {"Origin": self.url}, "fields": {"token": TOKEN, "action": "pause"}}
        return self.ask("/actions", method="POST", **(given | more))[0]


@pytest.fixture(scope="module")
def site(real: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service that found something, has findings of the checkout, and rests."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(shelf.FOLDER / STORY, root / "findings" / STORY)
    with pytest.MonkeyPatch.context() as patch, served(real, root, port=0, shift=2.0) as service:
        patch.setattr(serve_supervisor, "SAMPLE_SECONDS", 0.5)
        until(service, lambda: service.port)
        until(service, lambda: log(service, "finding_kept"))
        until(service, lambda: len(serve_db.Reader(service.layout.database).samples()) > 2)
        service.asked(service.web, {"action": "pause"})
        until(service, lambda: service.pipeline.idle)
        reader = serve_db.Reader(service.layout.database)
        until(service, lambda: reader.now()["paused"] and not reader.now()["waiting"])
        yield Site(service, root)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, which these tests need, with a profile of its own."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def fits(browser: webdriver.Chrome) -> bool:
    """Whether the page does not scroll sideways."""
    root = "document.documentElement"
    wide, room = browser.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    return bool(wide <= room)


def comes(browser: webdriver.Chrome, tag: str, text: str) -> None:
    """Wait until the page that a click led to says this."""
    WebDriverWait(browser, 60, ignored_exceptions=[WebDriverException]).until(
        lambda shown: text in shown.find_element(By.CSS_SELECTOR, tag).text
    )


def opens(browser: webdriver.Chrome, url: str, heading: str) -> None:
    """Load the page until its heading says this: a service that is not let run is silent."""

    def loaded(shown: webdriver.Chrome) -> bool:
        shown.get(url)
        return heading in shown.find_element(By.TAG_NAME, "h1").text

    WebDriverWait(browser, 60, ignored_exceptions=[WebDriverException]).until(loaded)


# As a user clicks through it.


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_a_user_clicks_through_it(theme: str, width: int, browser: webdriver.Chrome, site: Site):
    looks(browser, width=width, theme=theme)
    browser.get(f"{site.url}/?refresh=0")
    browser.get_log("browser")
    asked_for(browser)
    opens(browser, f"{site.url}/?refresh=0", "paused")
    assert fits(browser)
    body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert body == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 29)"}[theme]
    drawn = browser.find_elements(By.CSS_SELECTOR, "figure svg[role=img]")
    assert [one.get_attribute("aria-label").partition(":")[0] for one in drawn] == [
        "Schedules per second", "Distinct interleavings", "Native coverage",
        "Interleaving coverage", "Inputs in the corpus", "Memory of all processes",
    ]  # fmt: skip
    browser.find_element(By.LINK_TEXT, STORY).click()
    comes(browser, "h1", STORY)
    picture = browser.find_element(By.CSS_SELECTOR, "img.whole")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 300
    assert fits(browser)
    browser.find_element(By.LINK_TEXT, "Proof").click()
    comes(browser, "h1", "The proof")
    assert "holds" in browser.find_element(By.TAG_NAME, "main").text
    assert fits(browser)
    browser.find_element(By.LINK_TEXT, "Overview").click()
    comes(browser, "h1", "linux-5.10")
    assert browser.current_url == f"{site.url}/"
    new = log(site.service, "finding_kept")[0]["name"]
    browser.find_element(By.LINK_TEXT, new).click()
    comes(browser, "h1", new)
    browser.find_element(By.LINK_TEXT, "Every step of the run").click()
    comes(browser, "h2", "Picture")
    assert browser.find_elements(By.CSS_SELECTOR, "svg.cleanrace")
    assert browser.get_log("browser") == []
    addresses = [one for one in asked_for(browser) if not one.startswith("data:")]
    assert addresses
    assert all(one.startswith(f"{site.url}/") for one in addresses)


def test_a_user_with_the_token_resumes_and_pauses(browser: webdriver.Chrome, site: Site):
    looks(browser, width=1300, theme="light")
    browser.get(site.url)
    browser.find_element(By.LINK_TEXT, "Pause or resume the searches").click()
    comes(browser, "form", "Resume")
    browser.find_element(By.NAME, "token").send_keys("another token")
    browser.find_element(By.XPATH, "//button[text()='Resume']").click()
    comes(browser, "h1", "That is not the token")
    assert site.service.state.paused
    reader = serve_db.Reader(site.service.layout.database)
    for button, told, paused in (
        ("Resume", "Searching goes on.", False),
        ("Pause", "Searching pauses now.", True),
    ):
        browser.get(f"{site.url}/?refresh=0")
        browser.find_element(By.NAME, "token").send_keys(TOKEN)
        browser.find_element(By.XPATH, f"//button[text()='{button}']").click()
        comes(browser, "[role=status]", told)
        until(site.service, lambda paused=paused: site.service.state.paused is paused)
        until(site.service, lambda paused=paused: reader.now()["paused"] is paused)


def test_a_user_runs_a_finding_again(browser: webdriver.Chrome, site: Site):
    looks(browser, width=1300, theme="light")
    browser.get(f"{site.url}/findings/{STORY}")
    browser.find_element(By.NAME, "token").send_keys(TOKEN)
    browser.find_element(By.XPATH, "//button[text()='Run again']").click()
    comes(browser, "[role=status]", "The finding is run again")
    reader = serve_db.Reader(site.service.layout.database)
    until(site.service, lambda: STORY in reader.now()["checks"])
    browser.get(f"{site.url}/findings/{STORY}")
    assert "it shows, by its switches" in browser.find_element(By.TAG_NAME, "main").text


def test_a_user_minimises_a_finding_again(site: Site):
    fields = {"token": TOKEN, "action": "minimise", "name": STORY}
    assert site.act(fields=fields) == 303
    until(
        site.service,
        lambda: STORY in [one["name"] for one in log(site.service, "finding_kept")],
    )
    kept = [one for one in log(site.service, "finding_kept") if one["name"] == STORY]
    assert [one["new"] for one in kept] == [False]


def test_a_page_of_another_origin_cannot_act(browser: webdriver.Chrome, site: Site, tmp_path: Path):
    """Even with the token, which it does not have."""
    assert site.service.state.paused
    page = tmp_path / "evil.html"
    page.write_text(
        f'<form method="post" action="{site.url}/actions"><input name="token" value="{TOKEN}">'
        '<button name="action" value="resume">win a prize</button></form>'
    )
    browser.get(page.as_uri())
    browser.find_element(By.TAG_NAME, "button").click()
    comes(browser, "pre", "another origin cannot act")
    site.service.turn()
    assert site.service.state.paused


def test_a_new_finding_is_met_then_kept_and_then_on_the_page(site: Site):
    kept = log(site.service, "finding_kept")[0]
    order = [
        one["event"]
        for one in log(site.service, "finding_met", "finding_kept")
        if kept["of"] in (one.get("signature"), one.get("of"))
    ]
    assert order == ["finding_met", "finding_kept"]
    status, body, _ = site.ask("/")
    address = f"/findings/{quote(kept['name'])}"
    assert (status, f'href="{address}"' in body.decode()) == (200, True)
    status, body, headers = site.ask(f"{address}/picture.svg")
    assert (status, headers["content-type"], b"</svg>" in body) == (200, "image/svg+xml", True)
    assert site.ask(f"{address}/run")[0] == 200


# What is refused.


@pytest.mark.parametrize(
    "host",
    ["example.org", "example.org:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil:{port}"],
)
def test_another_host_is_refused(host: str, site: Site):
    for path in ("/", "/metrics", f"/findings/{STORY}", "/missing"):
        status, body, _ = site.ask(path, host=host.format(port=site.port))
        assert (status, b"cleanrace" in body) == (421, False)
    assert site.act(host=host.format(port=site.port)) == 421
    assert site.ask("/", host=f"localhost:{site.port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:{port}"},
    ],
)
def test_another_origin_is_refused(headers: dict[str, str], site: Site):
    given = {name: value.format(port=site.port) for name, value in headers.items()}
    assert site.act(headers=given) == 403


def test_actions_need_the_token_and_a_known_name(site: Site):
    assert site.act(fields={"action": "pause"}) == 403
    assert site.act(fields={"action": "pause", "token": ""}) == 403
    assert site.act(fields={"action": "pause", "token": TOKEN[:-1]}) == 403
    assert site.act(fields={"action": "explode", "token": TOKEN}) == 400
    for name in ("", "missing", "../findings", f"../findings/{STORY}", "."):
        fields = {"action": "recheck", "token": TOKEN, "name": name}
        assert site.act(fields=fields) == 404, name
    assert site.act(fields={"action": "pause", "token": TOKEN, "x": "y" * 5000}) == 413
    assert site.ask("/actions")[0] == 405
    assert site.act() == 303


def test_no_path_leads_out_of_the_findings(site: Site):
    secret = site.root / "secret"
    secret.mkdir(exist_ok=True)
    for name in shelf.FILES:
        (secret / name).write_text("a secret")
    elsewhere = site.root / "elsewhere"  # a finding like any other, but for where it is
    shutil.copytree(shelf.FOLDER / STORY, elsewhere)
    (site.root / "findings" / "linked").symlink_to(secret)
    (site.root / "findings" / "also-linked").symlink_to(elsewhere)
    names = (
        "linked", "also-linked", "elsewhere", "..%2felsewhere",
        "..", "%2e%2e", "../secret", "..%2fsecret", "%2e%2e%2fsecret", "..%5csecret",
        f"{STORY}%2f..%2f..%2fsecret", f"{STORY}/../../secret", "%00", "%ff", "/etc",
        "..%2fcorpus", ".pending", "linked.unreadable",
    )  # fmt: skip
    for name in names:
        for rest in ("", "/picture.svg", "/run", "/finding.json"):
            status, body, _ = site.ask(f"/findings/{name}{rest}")
            assert status == 404, (name, rest)
            assert b"a secret" not in body
    for path in ("/corpus/state.json", "/../secret", "//etc/passwd", "/static/../../secret"):
        assert site.ask(path)[0] == 404, path
    for name in ("linked", "also-linked"):
        (site.root / "findings" / name).unlink()


@pytest.mark.parametrize("name", ["a" * 2000, "a" * 60_000, "%2e%2e%2f" * 500])
def test_long_paths_are_refused(name: str, site: Site):
    status, body, _ = site.ask(f"/findings/{name}")
    assert status in (400, 404)
    assert b"Traceback" not in body
    assert site.ask("/")[0] == 200


def test_links_inside_of_the_folders_are_not_followed(site: Site):
    secret = site.root / "secret.svg"
    secret.write_text("<svg>a secret</svg>")
    for name in (shelf.PICTURE, shelf.EXPLANATION, shelf.META, shelf.SCENARIO):
        copy = site.root / "findings" / "copy"
        shutil.copytree(site.root / "findings" / STORY, copy)
        assert site.ask("/findings/copy")[0] == 200
        (copy / name).unlink()
        (copy / name).symlink_to(secret)
        for path in ("/findings/copy", "/findings/copy/picture.svg"):
            status, body, _ = site.ask(path)
            assert (status, b"a secret" in body) == (404, False), (name, path)
        assert b"a secret" not in site.ask("/")[1]
        shutil.rmtree(copy)
    layout = site.service.layout
    (layout.pages / f"{STORY}.html").unlink(missing_ok=True)
    (layout.pages / f"{STORY}.html").symlink_to(secret)
    status, body, _ = site.ask(f"/findings/{STORY}/run")
    assert (status, b"a secret" in body) == (404, False)
    (layout.pages / f"{STORY}.html").unlink()
    (layout.quarantine / "x.json").symlink_to(secret)
    assert b"a secret" not in site.ask("/")[1]
    (layout.quarantine / "x.json").unlink()


def test_reading_changes_nothing(site: Site):
    def seen() -> dict[str, str]:
        # What SQLite keeps beside a database that is open belongs to it.
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in site.root.rglob("*")
            if path.is_file() and not path.name.endswith(("-shm", "-wal"))
        }

    before = seen()
    for path in ("/", "/?refresh=0&done=pause", f"/findings/{STORY}", "/proof", "/metrics"):
        assert site.ask(path)[0] == 200, path
        assert site.ask(path, method="HEAD")[0] in (200, 405)
    assert seen() == before


def test_answers_have_the_headers_that_keep_others_out(site: Site):
    for path in ("/", f"/findings/{STORY}/picture.svg", "/missing", "/metrics"):
        _, _, headers = site.ask(path)
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "script-src" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


# What it says.


def test_metrics_can_be_read_by_prometheus(site: Site):
    status, body, headers = site.ask("/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if not sample.labels
    }
    told = serve_db.Reader(site.service.layout.database).now()
    assert found["cleanrace_schedules_total"] == told["totals"]["schedules"] > 0
    assert found["cleanrace_edges"] == told["totals"]["edges"]
    assert (found["cleanrace_up"], found["cleanrace_paused"]) == (1, 1)
    assert b'cleanrace_method_share{method="surw"}' in body


def test_a_full_disk_is_told_even_if_no_snapshot_could_say_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    shown = Shown(site.service.layout, site.root / "findings")
    assert not any("disk is full" in line for line in shown.told()["health"])
    monkeypatch.setattr(serve_folder, "ROOM_BYTES", 1 << 60)  # more than any disk has
    assert "the disk is full" in serve_pages.export(shown)
    assert b"cleanrace_disk_full 1.0" in serve_metrics.text(shown.told())


def test_the_textfile_says_the_same(site: Site, tmp_path: Path):
    told = serve_db.Reader(site.service.layout.database).now()
    serve_metrics.write(tmp_path / "metrics.prom", told)
    assert (tmp_path / "metrics.prom").read_bytes() == serve_metrics.text(told)
    assert b"cleanrace_up 0.0" in serve_metrics.text({})


def test_the_exported_page_opens_from_disk_and_asks_nobody(
    run: Callable[..., Any], browser: webdriver.Chrome, site: Site, tmp_path: Path
):
    file = tmp_path / "export.html"
    done = run(
        "run.py", "serve", "--export", str(file), "--corpus", str(site.root / "corpus"),
        "--findings", str(site.root / "findings"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    browser.get("about:blank")
    browser.get_log("browser")
    for width in WIDTHS:
        looks(browser, width=width, theme="light")
        asked_for(browser)
        browser.get(file.as_uri())
        asked = [one for one in asked_for(browser) if not one.startswith("data:")]
        assert set(asked) == {file.as_uri()}
        assert fits(browser)
        assert browser.get_log("browser") == []
    main = browser.find_element(By.TAG_NAME, "main").text
    assert "needs the token" not in main
    assert TOKEN not in file.read_text()
    browser.find_element(By.LINK_TEXT, STORY).click()
    assert browser.current_url == f"{file.as_uri()}#finding-{STORY}"
    for image in browser.find_elements(By.TAG_NAME, "img"):
        assert browser.execute_script("return arguments[0].naturalWidth", image) > 100


def test_it_shows_what_is_there_when_nothing_runs(
    launch: Callable[..., Any], browser: webdriver.Chrome, site: Site, tmp_path: Path
):
    database = tmp_path / "corpus" / "statistics.sqlite"
    database.parent.mkdir()
    told = serve_db.Reader(site.service.layout.database).now()
    written = serve_db.Database(database)
    written.now(told | {"at": told["at"] - 3600})
    written.close()
    process = launch(
        "run.py", "serve", "--dashboard-only", "--port", "0", "--corpus", str(database.parent),
        "--findings", str(site.root / "findings"),
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        while not line.startswith("dashboard: "):
            line = process.stdout.readline()
            assert line
        looks(browser, width=1300, theme="light")
        browser.get(line.removeprefix("dashboard: ").strip())
        assert "it was killed or hangs" in browser.find_element(By.TAG_NAME, "h1").text
        text = browser.find_element(By.TAG_NAME, "main").text
        assert f"{told['totals']['schedules']:,}" in text
        assert STORY in text
        assert not browser.find_elements(By.TAG_NAME, "form")
    finally:
        process.terminate()
        process.communicate(timeout=300)


def test_words_of_others_are_text(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    folder = tmp_path / "findings" / STORY
    shutil.copytree(shelf.FOLDER / STORY, folder)
    (folder / shelf.EXPLANATION).write_text(evil)
    layout = Layout(tmp_path / "corpus")
    layout.make()
    (layout.quarantine / "x.json").write_text(json.dumps({"why": evil}))
    database = serve_db.Database(layout.database)
    database.event({"at": "2026", "event": evil, "told": evil})
    database.close()
    page = serve_pages.export(Shown(layout, tmp_path / "findings"))
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 2


def test_certificates_that_cannot_be_read_are_left_out(tmp_path: Path):
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"properties": 3}'), ("d", "")):
        (tmp_path / f"{name}.json").write_text(text)
    os.mkfifo(tmp_path / "e.json")
    shown = Shown(Layout(tmp_path), tmp_path, certificates=tmp_path)
    assert shown.proofs() == []
    assert [one["file"] for one in Shown(Layout(tmp_path), tmp_path).proofs()] == [
        path.name for path in sorted(serve_pages.CERTIFICATES.glob("*.json"))
    ]


def test_an_empty_folder_has_pages_too(tmp_path: Path):
    page = serve_pages.export(Shown(Layout(tmp_path), tmp_path / "findings"))
    assert "nothing was served in this folder yet" in page


def test_charts_need_two_points_and_have_no_script():
    assert serve_charts.line([], name="x") == serve_charts.line([(1.0, 2.0)], name="x") == ""
    drawn = serve_charts.line([(0.0, 5.0), (60.0, 5.0), (7200.0, 9e6)], name='a "b" <c>')
    assert "<script" not in drawn
    assert "<!--" not in drawn
    assert """aria-label='a "b" &lt;c&gt;: 9 M at last'""" in drawn
    assert "00:00<" in drawn
    assert "02:00<" in drawn


def test_a_line_is_cut_where_nothing_ran():
    points = [(float(at), 1.0) for at in (*range(0, 100, 5), *range(4000, 4100, 5))]
    assert [len(piece) for piece in serve_charts.pieces(points)] == [20, 20]
    assert [len(piece) for piece in serve_charts.pieces(points[:20])] == [20]
    thinned = [(float(at), 1.0) for at in range(0, 90_000, 600)]
    assert len(serve_charts.pieces(thinned)) == 1
    samples = [dict.fromkeys(serve_db.COLUMNS, at) | {"at": at} for at, _ in points]
    rates = serve_pages.charts(samples, {})[0]["svg"]
    assert rates.count("fill-opacity") == 2


def test_events_are_told_in_words():
    told = {
        "at": "2026-01-01T00:00:01.000+00:00", "event": "finding_kept", "name": "a-b", "of": "x y",
        "signature": "x y | z", "new": True, "finished": False, "seconds": 2.5,
    }  # fmt: skip
    assert serve_pages.event(told)["text"] == "a-b; new; not finished; after 2.5 s"
    told = {"at": "", "event": "committed", "names": ["a", "b"], "commit": None}
    assert serve_pages.event(told)["text"] == "a, b"
