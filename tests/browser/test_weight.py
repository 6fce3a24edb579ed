"""What a page costs: all that it loads, each file gzipped, and the time until it is there."""

import gzip
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urlsplit

import pytest
from sphinx_external_toc.parsing import parse_toc_yaml

PAGES = sorted(parse_toc_yaml(Path(__file__).parents[2] / "_toc.yml"))
TEXT, EXPLORER = 650_000, 950_000  # bytes


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(visit, book, page):
    with visit(page) as tab:
        tab.evaluate("async () => await window.MathJax?.startup?.promise")
        tab.wait_for_load_state("networkidle")  # fonts come when a formula asks for them
        loaded = tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        assert len(loaded) < 250  # the browser notes no more
        icons = tab.eval_on_selector_all("link[rel~=icon]", "links => links.map(link => link.href)")  # not always noted
        paths = {urlsplit(url).path for url in [tab.url, *loaded, *icons] if url.startswith("http")}
        most = EXPLORER if tab.locator(".kd-explorer").count() else TEXT
    weights = {path: len(gzip.compress((book / unquote(path).lstrip("/")).read_bytes())) for path in paths}
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    assert sum(weights.values()) <= most, heaviest


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
