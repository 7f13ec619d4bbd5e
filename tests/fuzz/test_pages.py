# SPDX-License-Identifier: GPL-2.0-only
"""Pages and pictures in a real browser: they can be read, at any width, by day and by night."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import THEMES, asked_for, chromium, looks
from pictured import Drawn, crowd, litmus
from selenium import webdriver

from cleanrace import Target
from fuzz import page, picture

WIDTHS = (400, 1400)
SHOWN = ("pool-dead", "premise-c", "data-race", "deadlock", "data-foreign")

# Each text of a picture as [text, left, top, right, bottom], as the browser laid it out.
TEXTS = """
return [...document.querySelectorAll('svg.cleanrace text')].map(t => {
    const b = t.getBBox();
    return [t.textContent, b.x, b.y, b.x + b.width, b.y + b.height];
});
"""
LANES = """
return [...document.querySelectorAll('svg.cleanrace rect.lane')].map(r => {
    const b = r.getBBox();
    return [b.x, b.x + b.width];
});
"""
# The least contrast of a text with what is painted below it, as WCAG counts.
CONTRAST = """
const bare = c => c.match(/[0-9.]+/g).slice(0, 3).map(Number);
const light = c => bare(c).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const svg = document.querySelector('svg.cleanrace');
const backs = [...svg.querySelectorAll('rect.paper, rect.lane, rect.wrong-box, rect.cause-box')];
const inside = (b, x, y) => x >= b.x && x <= b.x + b.width && y >= b.y && y <= b.y + b.height;
return Math.min(...[...svg.querySelectorAll('text')].map(t => {
    const b = t.getBBox();
    const back = backs.filter(r => inside(r.getBBox(), b.x + 1, b.y + b.height / 2)).at(-1);
    return ratio(light(getComputedStyle(t).fill), light(getComputedStyle(back).fill));
}));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Debian's chromium, which these tests need, with a profile of its own."""
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def load(
    browser: webdriver.Chrome, file: Path, *, width: int = 1400, theme: str = "light"
) -> list[str]:
    """Open a file; the addresses that were asked for."""
    looks(browser, width=width, theme=theme)
    browser.get_log("performance")
    browser.get(file.as_uri())
    return asked_for(browser)


@pytest.fixture(scope="module")
def written(real: Target, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Writes the page, or with svg=True the picture, of a run."""
    folder = tmp_path_factory.mktemp("pages")

    def write(shown: Drawn, name: str, *, svg: bool = False) -> Path:
        result, case = shown
        file = folder / f"{name}.{'svg' if svg else 'html'}"
        text = (
            picture.svg(result, case.scenario, real, title=case.title)
            if svg
            else page.html(result, case, real, sources=True, commands=["x" * 300])
        )
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_never_scrolls_sideways(
    width: int, name: str, browser: webdriver.Chrome, written: Any, real: Target
):
    load(browser, written(litmus(name, real), name), width=width)
    browser.execute_script("document.querySelector('details')?.setAttribute('open', '')")
    root = "document.documentElement"
    wide, room = browser.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    assert wide <= room <= width
    inner = browser.execute_script(
        "const box = document.querySelector('.picture');"
        "return [box.scrollWidth, box.clientWidth, box.querySelector('svg').clientWidth]"
    )
    assert inner[0] >= inner[2]
    if width == WIDTHS[0]:
        assert inner[0] > inner[1]  # the picture scrolls in its box instead


def test_a_page_asks_the_network_for_nothing_and_breaks_no_policy(
    browser: webdriver.Chrome, written: Any, real: Target
):
    file = written(litmus("pool-dead", real), "alone")
    browser.get_log("browser")
    assert load(browser, file) == [file.as_uri()]
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("svg", [False, True], ids=["page", "picture"])
def test_texts_have_contrast_by_day_and_by_night(
    svg: bool,  # noqa: FBT001 - a parameter
    theme: str,
    browser: webdriver.Chrome,
    written: Any,
    real: Target,
):
    load(browser, written(litmus("pool-dead", real), "contrast", svg=svg), theme=theme)
    assert browser.execute_script(CONTRAST) >= 4.5
    paper = browser.execute_script(
        "return getComputedStyle(document.querySelector('rect.paper')).fill"
    )
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 29)"}[theme]
    if not svg:
        body = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert body == paper


def checked(browser: webdriver.Chrome) -> None:
    """No text lies on another one or leaves its lane or the picture."""
    texts = sorted(browser.execute_script(TEXTS), key=lambda text: text[2])
    assert len(texts) > 5
    lanes = browser.execute_script(LANES)
    width = browser.execute_script(
        "return document.querySelector('svg.cleanrace').viewBox.baseVal.width"
    )
    for number, (text, left, top, right, bottom) in enumerate(texts):
        assert right <= width, text
        for other, other_left, other_top, other_right, _ in texts[number + 1 :]:
            if other_top >= bottom - 2:  # lines may touch
                break
            assert right <= other_left or other_right <= left, (text, other, top, other_top)
    first_lane = lanes[0][0]
    head = min(text[2] for text in texts if text[0].startswith("thread "))
    foot = min(text[2] for text in texts if text[0] == "marked or atomic read")
    for text, left, top, right, _ in texts:
        if head < top < foot - 40 and left > first_lane:
            assert any(a <= left and right <= b + 1 for a, b in lanes), text


@pytest.mark.parametrize("name", SHOWN)
def test_no_text_lies_on_another(name: str, browser: webdriver.Chrome, written: Any, real: Target):
    load(browser, written(litmus(name, real), name, svg=True))
    checked(browser)


@pytest.mark.parametrize("threads", range(1, 9))
def test_no_text_lies_on_another_however_many_threads(
    threads: int, browser: webdriver.Chrome, written: Any, real: Target
):
    load(browser, written(crowd(threads, real), f"crowd-{threads}", svg=True))
    checked(browser)
