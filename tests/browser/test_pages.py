"""Every page, over http and from a file: nothing from outside, no complaint, all maths set, no sideways scroll."""

import itertools
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from sphinx_external_toc.parsing import parse_toc_yaml

PAGES = [*sorted(parse_toc_yaml(Path(__file__).parents[2] / "_toc.yml")), "search"]
THEMES = ("light", "dark")
WIDTHS = (320, 1280)
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}

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

WIDER = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 120))"""


LIVE = """() => document.querySelectorAll(".kd-explorer-live").length
  === document.querySelectorAll(".kd-explorer").length"""


def read(tab):
    maths = tab.evaluate(MATHS)
    tab.wait_for_function(LIVE)
    assert tab.outside == []
    assert tab.complaints == []
    assert maths == {"unset": [], "wrong": []}
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab.evaluate(WIDER)


# Each page once: on a phone, by turns from a server and from a file. The long run takes all themes and widths.
SAMPLE = {(page, 320, "light", ("http", "file")[i % 2]) for i, page in enumerate(PAGES)}
WAYS = [
    way if way in SAMPLE else pytest.param(*way, marks=pytest.mark.verify)
    for way in itertools.product(PAGES, WIDTHS, THEMES, ("http", "file"))
]


@pytest.mark.parametrize(("page", "width", "theme", "origin"), WAYS)
def test_a_page_reads_without_a_network(visit, page, width, theme, origin):
    with visit(page, origin=origin, width=width, theme=theme) as tab:
        read(tab)


def violations(tab):
    tab.evaluate("async () => await window.MathJax?.startup?.promise")
    tab.wait_for_function(LIVE)
    found = Axe().run(tab, options=WCAG).response["violations"]
    return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("page", ["book/limit", "book/transfer"])
def test_a_sample_meets_wcag_22_aa(visit, page):
    with visit(page) as tab:
        assert violations(tab) == []


@pytest.mark.verify
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_meets_wcag_22_aa(visit, page, width):
    with visit(page, width=width, reduced_motion="reduce") as tab:  # no colour between two themes
        for theme in THEMES:
            tab.emulate_media(color_scheme=theme, reduced_motion="reduce")
            tab.wait_for_selector(f"html[data-theme={theme}]", state="attached")
            assert violations(tab) == [], theme


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
