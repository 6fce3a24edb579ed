"""What the rendered pages hold, read as files: definitions behind links, pictures, run times, explorers."""

import base64
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup

from tools import ledger, notebooks

CHAPTERS = [chapter for chapter, _ in ledger.by_chapter()]
ARTICLE = ".bd-article"
KINDS = {  # what a link can show, by the element that it leads to
    "statement": "div.proof",
    "exercise": "div.exercise, div.exercise > span",
    "equation": "div.math",
    "figure": "figure",
    "term": "dt[id^='term-']",
    "symbol": "span[id^='symbol-']",
    "work": "div.citation",
    "function": "dl.py > dt.sig",
}
# Places that show nothing: headings, the cell of a check and the outcome of its sweep.
PLAIN = "section, section > span, [id^='check-'], [id^='swept-']"


@pytest.fixture(scope="module")
def pages(book):
    return {
        path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in sorted((book / "book").glob("*.html"))
    }


def definitions(book):
    """All that links can show, by page and identifier."""
    found = {}
    for path in (book / "book").glob("*.definitions.js"):
        page, entries = re.fullmatch(r'defineLinks\("(.+?)",(.*)\)\n', path.read_text(encoding="utf-8")).groups()
        found[page] = json.loads(entries)
    return found


def test_every_link_shows_what_it_leads_to(book, pages):
    entries, seen, missing = definitions(book), set(), []
    places = {name: {element["id"]: element for element in page.select("[id]")} for name, page in pages.items()}
    for name, page in pages.items():
        for link in page.select(f"{ARTICLE} a.reference.internal[href*='#']"):
            there, _, place = unquote(link["href"]).partition("#")
            target = places[there or name].get(place) if place else page.body  # "#" alone: the page itself
            kind = next((kind for kind, form in KINDS.items() if target and target.css.match(form)), None)
            seen.add(kind)
            if not (entries[there or name].get(place) if kind else target is page.body or target.css.match(PLAIN)):
                missing.append((name, link["href"]))
    assert missing == []
    assert seen == {*KINDS, None}


def pictures(book, page):
    """Each picture of a page with its SVG text, whether it is a file or stands in the page."""
    for image in page.select(f"{ARTICLE} img"):
        head, _, data = image["src"].partition("data:image/svg+xml;base64,")
        path = Path(book, "book", head)
        yield image, base64.b64decode(data).decode() if data else path.suffix == ".svg" and path.read_text()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_picture_follows_the_theme_and_is_described(book, pages, chapter):
    found = list(pictures(book, pages[f"{chapter}.html"]))
    assert found
    for image, svg in found:
        assert svg and "@media (prefers-color-scheme: dark)" in svg, image["src"][:80]
        assert image.get("alt", "").rstrip().endswith("."), image["src"][:80]  # where it has none, Sphinx puts its path


def test_a_title_s_link_begins_with_its_first_letter(pages):
    """Where it began with a space, the space was underlined."""
    links = [link.get_text() for page in pages.values() for link in page.select(".admonition-title a.internal")]
    assert len(links) > 50 and [text for text in links if text != text.strip()] == []


@pytest.mark.parametrize("page", [path.stem for path in notebooks.chapters()])
def test_the_status_page_gives_the_run_time_of_every_chapter(pages, page):
    rows = pages["status.html"].select(".run-times tbody tr")
    (cells,) = ([cell.get_text() for cell in row.select("td")] for row in rows if row.a.get_text() == f"book/{page}")
    assert float(cells[3]) > 0


def test_without_scripts_every_explorer_is_a_picture_and_its_sentence(pages):
    """No control stands there that would do nothing; with scripts its sliders have names (test_explorer.py)."""
    for name, page in pages.items():
        source = Path(notebooks.ROOT, "book", name).with_suffix(".md").read_text(encoding="utf-8")
        explorers = page.select(f"{ARTICLE} .kd-explorer")
        assert len(explorers) == len(re.findall(r"^.*kd\.widgets\.\w+_explorer\(", source, re.M)), name
        for explorer in explorers:
            assert explorer.select("input, select, button") == []
            assert explorer.select_one("figure > img")["alt"].strip()
            assert explorer.select_one("figure > figcaption").get_text().endswith(".")
