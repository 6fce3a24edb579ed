"""Every page, over http and from a file: nothing from outside, no complaint, all maths set, nothing past the window's
edge, and little to load.
"""

import gzip
import itertools
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from sphinx_external_toc.parsing import parse_toc_yaml

PAGES = [*sorted(parse_toc_yaml(Path(__file__).parents[2] / "_toc.yml")), "search"]
TEXT, EXPLORER = 650_000, 950_000  # bytes of a page with all that it loads, each file gzipped
THEMES = ("light", "dark")
WIDTHS = (320, 1280)
WCAG = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "resultTypes": ["violations", "incomplete"],
}

MATHS = """async () => {
  await window.MathJax?.startup?.promise;
  const formulas = [...document.querySelectorAll(".math")];
  const parts = [...document.querySelectorAll("mjx-container *")];
  const red = parts.filter((e) => getComputedStyle(e).color === "rgb(255, 0, 0)");
  return {
    unset: formulas.filter((f) => !f.querySelector("mjx-container")).map((f) => f.textContent.slice(0, 80)),
    wrong: [...document.querySelectorAll("mjx-merror"), ...red].map((e) => e.closest("mjx-container").textContent),
  };
}"""

# What is cut off makes no page scroll sideways: this asks where boxes end, those in what scrolls by itself apart.
BEYOND = """() => {
  const scrolls = (e) => e !== document.body
    && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  return [...document.querySelectorAll("body *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return (box.left < -1 || box.right > innerWidth + 1) && box.width
      && e.checkVisibility({visibilityProperty: true}) && !scrolls(e.parentElement);
  }).slice(0, 5).map((e) => e.outerHTML.slice(0, 120));
}"""


LIVE = """() => document.querySelectorAll(".kd-explorer-live").length
  === document.querySelectorAll(".kd-explorer").length"""


def check_fits(tab):
    beyond = tab.evaluate(BEYOND)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), beyond
    assert beyond == []


def read(tab):
    maths = tab.evaluate(MATHS)
    tab.wait_for_function(LIVE)
    assert tab.outside == []
    assert tab.complaints == []
    assert maths == {"unset": [], "wrong": []}
    check_fits(tab)


def weigh(tab, folder):
    """Only a page from a server: from a disk the browser does not note what it loads."""
    tab.wait_for_load_state("networkidle")  # fonts come when a formula asks for them
    loaded = tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(loaded) < 250  # the browser notes no more
    icons = tab.eval_on_selector_all("link[rel~=icon]", "links => links.map(link => link.href)")  # not always noted
    paths = {urlsplit(url).path for url in [tab.url, *loaded, *icons] if url.startswith("http")}
    most = EXPLORER if tab.locator(".kd-explorer").count() else TEXT
    weights = {path: len(gzip.compress((folder / unquote(path).lstrip("/")).read_bytes())) for path in paths}
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    assert sum(weights.values()) <= most, heaviest


# Each page once: on a phone, from a server; a few from a file, too. The long run takes all themes, widths and origins.
FROM_A_FILE = ("book/index", "book/transfer", "book/api", "search")
SAMPLE = {(page, 320, "light", "http") for page in PAGES} | {(page, 320, "light", "file") for page in FROM_A_FILE}
WAYS = [
    way if way in SAMPLE else pytest.param(*way, marks=pytest.mark.verify)
    for way in itertools.product(PAGES, WIDTHS, THEMES, ("http", "file"))
]


@pytest.mark.parametrize(("page", "width", "theme", "origin"), WAYS)
def test_a_page_reads_without_a_network(visit, book, page, width, theme, origin):
    with visit(page, origin=origin, width=width, theme=theme) as tab:
        read(tab)
        if origin == "http":
            weigh(tab, book)


@pytest.mark.timed
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_there_within_a_second(visit, page):
    """The load event, from a server on this machine that has been asked before."""
    times = []
    with visit(page) as tab:
        for _ in range(5):
            tab.reload()
            times.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert median(times) < 1000, times


def excused(rule, node):
    """Two kinds of text whose colours axe does not judge; both have those of the text beside them."""
    if rule["id"] != "color-contrast":
        return False
    label = node["html"].startswith('<text class="kd-')  # in a drawing, where anything drawn may be its cover
    sign = any((check["data"] or {}).get("messageKey") == "nonBmp" for check in node["any"])  # a minus by itself
    return label or sign


def violations(tab, part=None):
    """What fails the criteria in `part` of the page, or all of it, and what axe could not judge."""
    tab.evaluate("async () => await window.MathJax?.startup?.promise")
    tab.wait_for_function(LIVE)
    # Else axe cannot judge the colours of what a sidebar has scrolled out of sight,
    tab.set_viewport_size({"width": tab.viewport_size["width"], "height": 2000})
    # nor those of a page with an explorer: it knows of no clipping, and takes what is clipped there for its cover.
    tab.add_style_tag(content=".kd-view :is(rect[fill=transparent], g[clip-path]) { display: none }")
    found = Axe().run(tab, context=part, options=WCAG).response
    rules = [(rule["id"], node["html"]) for rule in found["violations"] for node in rule["nodes"]]
    rules += [
        (rule["id"], node["html"]) for rule in found["incomplete"] for node in rule["nodes"] if not excused(rule, node)
    ]
    return [f"{rule}: {html[:150]}" for rule, html in rules]


def in_both_themes(tab):
    """Each theme in turn, for a page that was visited with `reduced_motion`: no colour between two themes."""
    for theme in THEMES:
        tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
        tab.wait_for_selector(f"html[data-theme={theme}]", state="attached")
        yield theme


@pytest.mark.parametrize("page", ["book/transfer", pytest.param("book/limit", marks=pytest.mark.verify)])
def test_a_sample_meets_wcag_22_aa(visit, page):
    with visit(page) as tab:
        assert violations(tab) == []


OPEN = """() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const button of document.querySelectorAll("button.toggle-button[aria-expanded=false]")) button.click();
}"""


@pytest.mark.verify
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_all_of_it_open_meets_wcag_22_aa(visit, page, width):
    """With all answers, solutions, proofs and cells in sight."""
    with visit(page, width=width, reduced_motion="reduce") as tab:
        tab.evaluate(OPEN)
        assert tab.locator("details:not([open]), .toggle-hidden").count() == 0
        for theme in in_both_themes(tab):
            assert violations(tab) == [], theme
            check_fits(tab)


MOVING = """() => [...document.querySelectorAll("*")].filter((e) => {
  const style = getComputedStyle(e);
  return style.transitionDuration.split(", ").some((time) => time !== "0s") || style.animationName !== "none"
    || style.scrollBehavior === "smooth";
}).map((e) => e.outerHTML.slice(0, 120))"""


def test_nothing_moves_for_those_who_ask_for_rest(visit):
    with visit("book/limit") as tab:
        tab.wait_for_function(LIVE)
        assert tab.evaluate(MOVING) != []  # the theme's buttons fade
        tab.emulate_media(reduced_motion="reduce")
        assert tab.evaluate(MOVING) == []
