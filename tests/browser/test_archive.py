"""The book in one file: unpacked anywhere, it opens from the disk, all of it works, and it asks for nothing."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from sphinx_external_toc.parsing import parse_toc_yaml

from tools import archive

PAGES = [*sorted(parse_toc_yaml(Path(__file__).parents[2] / "_toc.yml")), "search"]


@pytest.fixture(scope="module")
def packed(book, tmp_path_factory):
    return archive.pack(book, tmp_path_factory.mktemp("packed") / f"{archive.book_name()}.zip")


@pytest.fixture(scope="module")
def origins(packed, tmp_path_factory):
    """The pages of the file, where nothing else lies."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(packed) as file:
        file.extractall(folder)
    (pages,) = folder.iterdir()
    assert pages.name == packed.stem
    return {"file": pages.as_uri()}


def check(tab):
    tab.evaluate("async () => await window.MathJax?.startup?.promise")
    assert tab.outside == []
    assert tab.complaints == []


def test_it_opens_on_the_first_page(visit):
    with visit("index", origin="file") as tab:
        tab.wait_for_url("**/book/index.html")
        check(tab)
        explorer = tab.locator(".kd-explorer").first
        before = explorer.inner_text()
        tab.get_by_role("slider").first.press("End")
        tab.wait_for_function("([one, before]) => one.innerText !== before", arg=[explorer.element_handle(), before])


def test_its_search_finds_a_statement_by_its_name(visit):
    with visit("search", origin="file") as tab:
        tab.goto(f"{tab.url}?q=relative+capacity")
        tab.locator("#search-results a", has_text="What the student learns").first.wait_for()
        check(tab)


def test_it_holds_every_file_of_the_book(book, packed):
    files = {path.relative_to(book).as_posix(): path for path in book.rglob("*") if path.is_file()}
    with zipfile.ZipFile(packed) as file:
        entries = {name.removeprefix(f"{packed.stem}/"): file.read(name) for name in file.namelist()}
    assert entries.keys() == {name for name in files if not files[name].name.startswith(".")}
    assert [name for name in entries if entries[name] != files[name].read_bytes()] == []


@pytest.mark.verify
@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_it_is_whole(visit, page):
    with visit(page, origin="file") as tab:
        check(tab)


def test_the_same_pages_give_the_same_file(book, packed, tmp_path):
    again = archive.pack(book, tmp_path / packed.name)
    assert again.read_bytes() == packed.read_bytes()
    digest, name = archive.write_checksum(again).read_text().split()
    assert (digest, name) == (hashlib.sha256(packed.read_bytes()).hexdigest(), packed.name)
