"""What `make pdf` lacks, it names, and stops. The PDF itself is no part of the tests: it needs TeX."""

import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import test_reading
from tests.test_reading import CHAPTER
from tools import build, downloads, notebooks, pdf

ROOT = Path(__file__).resolve().parents[1]
APPENDIX = r"\appendix\setcounter{secnumdepth}{2}\chapter{Solutions}"
EXERCISES = """
```{exercise}
:label: alone

What is $1 + 1$?
```

```{solution} alone
The number *two*.
```

After the exercise.
"""
LONG_TABLE = "| Name | Meaning |\n|---|---|\n" + "".join(f"| row {i} | one |\n" for i in range(31))


def test_what_is_missing_is_named(tmp_path):
    environment = os.environ | {"PATH": str(tmp_path)}  # where there is nothing
    run = subprocess.run([sys.executable, "-m", "tools.pdf"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 1
    assert all(name in run.stderr for name in pdf.NEEDED)
    assert all(package in run.stderr for package in pdf.NEEDED.values())
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_tex_takes_limits_in_braces():
    assert pdf.LIMIT_WITHOUT_BRACES.sub(r"\1{\\\2}", r"p_\max, a^\min_k, \max_k") == r"p_{\max}, a^{\min}_k, \max_k"


@pytest.mark.filterwarnings("ignore")  # of Sphinx and its extensions
def test_solutions_move_to_an_appendix(tmp_path):
    text = CHAPTER + EXERCISES + LONG_TABLE
    out, _ = test_reading.build(tmp_path, "latex", ("sphinx_exercise", "tools.pdf"), chapter=text)
    source = next(out.glob("*.tex")).read_text()
    chapters, solutions = source.split(APPENDIX)
    assert "After the exercise." in chapters and "The number" not in chapters
    assert r"The number \sphinxstyleemphasis{two}." in solutions
    assert chapters.index("Sums commute") < chapters.index("Proof. By") < chapters.index("After the exercise.")
    # the columns of a long table share the width of the page, so that lines may break
    assert r"\begin{longtable}{\X{50}{100}\X{50}{100}}" in chapters and "row 30" in chapters


def explorer_pictures(notebook):
    """The PNG of each explorer that the notebook's cells put out."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "kd-explorer" in output.get("data", {}).get("text/html", ""):
                yield base64.b64decode(output.data["image/png"])


@pytest.mark.verify
@pytest.mark.filterwarnings("ignore")
def test_the_whole_book_keeps_its_explorers_and_its_solutions(tmp_path):
    """Up to where TeX begins, with the outputs of `make book`, which goes before: nothing is executed here."""
    outputs, chapters = build.outputs(ROOT), notebooks.chapters()
    executed = [downloads.executed(chapter, outputs) for chapter in chapters]
    source = pdf.write_source(ROOT, outputs, tmp_path / "latex")
    printed, solutions = source.read_text(encoding="utf-8").split(APPENDIX)

    texts = [chapter.read_text(encoding="utf-8") for chapter in chapters]
    with_explorer = [text for text in texts if re.search(r"^(explorer = )?kd\.widgets\.\w+_explorer\(\)$", text, re.M)]
    pictures = [picture for notebook in executed for picture in explorer_pictures(notebook)]
    assert len(pictures) == len(with_explorer) > 0
    included = re.findall(r"\\sphinxincludegraphics(?:\[[^]]*\])?\{\{([^}]+)\}(\.\w+)\}", printed)
    files = [(source.parent / "".join(name)).read_bytes() for name in included]
    assert sorted(file for file in files if file in pictures) == sorted(pictures)

    labels = [label for text in texts for label in re.findall(r"^`{3,}\{solution(?:-start)?\} (\S+)$", text, re.M)]
    assert len(labels) > 0
    assert solutions.count("Solution to") == len(labels)


LATEXMK = """#!/bin/sh
for source; do :; done
echo "dated $SOURCE_DATE_EPOCH"
test -s "$source" && cp "$source" "${source%.tex}.pdf"
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A LaTeX file that `make pdf` takes for the book's, on a machine whose TeX copies it."""
    source, latexmk = tmp_path / "_build/latex/book.tex", tmp_path / "bin/latexmk"
    for file in (source, latexmk):
        file.parent.mkdir(parents=True)
    latexmk.write_text(LATEXMK)
    latexmk.chmod(0o755)
    monkeypatch.setenv("PATH", str(latexmk.parent), prepend=os.pathsep)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "build", lambda: None)
    monkeypatch.setattr(pdf, "missing", dict)
    monkeypatch.setattr(pdf, "write_source", lambda root, outputs, folder: folder / "book.tex")
    return source


def test_the_pdf_has_its_checksum_beside_it(source, tmp_path, capsys):
    source.write_text("a book")
    assert pdf.main() == 0
    (made,) = tmp_path.glob("_build/*.pdf")
    assert made.read_text() == "a book"
    digest, name = made.with_name(f"{made.name}.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(b"a book").hexdigest(), made.name)
    assert capsys.readouterr().out == f"Wrote {made} and {made.name}.sha256\n"


def test_where_tex_stops_there_is_no_pdf(source, tmp_path, capsys):
    source.write_text("")
    assert pdf.main() == 1
    assert list(tmp_path.glob("_build/*.pdf*")) == []
    message = f"The PDF was not made: XeLaTeX stopped; {source.with_suffix('.log')} says where:\ndated 0\n"
    assert message in capsys.readouterr().err
