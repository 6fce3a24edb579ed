"""The chapters become notebooks and come back unchanged. That they run is what `make book` shows: it runs all cells."""

import jupytext
import nbformat
import pytest

from tools import notebooks

CHAPTERS = notebooks.chapters()


def content(notebook):
    return [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_and_notebook_are_the_same(chapter):
    notebook = notebooks.notebook(chapter)
    nbformat.validate(notebook)
    assert sum(cell.cell_type == "code" for cell in notebook.cells) == chapter.read_text().count("\n```{code-cell}")
    assert all("{code-cell}" not in cell.source for cell in notebook.cells)

    back = jupytext.reads(jupytext.writes(notebook, fmt="md:myst"), fmt="md:myst")
    assert content(back) == content(notebook)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_cells_are_short(chapter):
    for cell in notebooks.notebook(chapter).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 12, cell.source


def test_every_page_with_code_becomes_a_notebook():
    with_code = {path.stem for path in (notebooks.ROOT / "book").glob("*.md") if "{code-cell}" in path.read_text()}
    assert {path.stem for path in CHAPTERS} == with_code != set()
