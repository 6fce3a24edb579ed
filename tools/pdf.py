"""The book as a PDF, its checksum beside it: `python -m tools.pdf`, from `make pdf`.

Outputs come from the cache of `make book`; XeLaTeX sets the pages. Explorers are their printed pictures, and solutions
move to an appendix. Needs a TeX installation, which is why it is no part of the tests.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx_exercise.nodes import is_solution_node
from sphinx_proof.nodes import proof_node

from tools import archive, build

# What XeLaTeX needs, and the Debian package that has it: programs, TeX files, fonts.
NEEDED = {
    "xelatex": "texlive-xetex",
    "latexmk": "latexmk",
    "kpsewhich": "texlive-binaries",
    "fc-list": "fontconfig",
    "titlesec.sty": "texlive-latex-extra",
    "changepage.sty": "texlive-latex-extra",
    "newunicodechar.sty": "texlive-latex-extra",
    "makeindex": "texlive-binaries",
    "pgfplots.sty": "texlive-pictures",
    "mathrsfs.sty": "texlive-latex-base",
    "unicode-math.sty": "texlive-xetex",
    "pzdr.tfm": "texlive-fonts-recommended",
    "FreeSerif.otf": "fonts-freefont-otf",
    "DejaVuSansMono.ttf": "fonts-dejavu-core",
}

# Both fonts have the Greek letters and the signs of the book, in text and in what cells print.
FONTS = r"""
\setmainfont{FreeSerif}[Extension=.otf, UprightFont=*, ItalicFont=*Italic, BoldFont=*Bold, BoldItalicFont=*BoldItalic]
\setsansfont{FreeSans}[Extension=.otf, UprightFont=*, ItalicFont=*Oblique, BoldFont=*Bold, BoldItalicFont=*BoldOblique]
\setmonofont{DejaVuSansMono}[Scale=0.8, Extension=.ttf, UprightFont=*, BoldFont=*-Bold, ItalicFont=*-Oblique,
  BoldItalicFont=*-BoldOblique]
"""
PREAMBLE = r"""
\usepackage{newunicodechar}
\newunicodechar{⪰}{\ensuremath{\succeq}}
\AtBeginDocument{\date{}}
"""
ELEMENTS = {"papersize": "a4paper", "fontpkg": FONTS, "preamble": PREAMBLE}

LIMIT_WITHOUT_BRACES = re.compile(r"([_^])\\(max|min)(?![A-Za-z])")  # MathJax takes p_\max, TeX does not


# In Sphinx ------------------------------------------------------------------------------------------------------------


def setup(app):
    app.connect(
        "builder-inited", number_statements_as_in_the_pages, priority=900
    )  # after the extension that changes it
    app.connect("env-check-consistency", number_figures_as_in_the_pages)
    app.connect("doctree-resolved", make_a_book, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def number_statements_as_in_the_pages(app):
    """Sphinx numbers statements and exercises by chapter: one level, parts have none."""
    if app.builder.format == "latex":
        app.config["numfig_secnum_depth"] = 1


def number_figures_as_in_the_pages(app, env):
    """TeX numbers figures and formulas by chapter: the second level, below the parts."""
    if app.builder.format == "latex":
        app.config["numfig_secnum_depth"] = 2


def make_a_book(app, doctree, docname):
    """Number the chapters that have a number, open the proofs, fit long tables, move the solutions to an appendix."""
    if app.builder.format != "latex":
        return
    for file in doctree.findall(addnodes.start_of_file):
        depth = 2 if app.env.toc_secnumbers.get(file["docname"]) else -2
        file.insert(0, nodes.raw("", rf"\setcounter{{secnumdepth}}{{{depth}}}", format="latex"))
    for proof in list(doctree.findall(proof_node)):
        proof.replace_self(nodes.container("", *proof.children))
    for table in doctree.findall(nodes.table):
        if len(list(table.findall(nodes.row))) > 30:  # a long table: its columns share the width of the page
            table["classes"].append("colwidths-given")
    solutions = list(doctree.findall(is_solution_node))
    for solution in solutions:
        solution.parent.remove(solution)
    if solutions:
        title = r"\appendix\setcounter{secnumdepth}{2}\chapter{Solutions}"
        doctree += [nodes.raw("", title, format="latex"), *solutions]


# From the book to LaTeX -----------------------------------------------------------------------------------------------


def write_source(root: Path, cache: Path, folder: Path) -> Path:
    """Write the LaTeX source of the book of `root`, with the outputs in `cache`, into `folder`."""
    from jupyter_book.sphinx import build_sphinx

    shutil.rmtree(folder, ignore_errors=True)
    overrides = {
        "nb_execution_cache_path": str(cache),
        "latex_individualpages": False,
        "latex_elements": dict(ELEMENTS),
        "latex_use_xindy": False,  # makeindex comes with TeX
    }
    status = build_sphinx(
        root,
        folder,
        builder="latex",
        noconfig=True,
        path_config=root / "_config.yml",
        confoverrides=overrides,
        doctreedir=folder.with_name("latex-doctrees"),
        quiet=True,
    )
    if status != 0:
        raise build.BuildError("Sphinx reported the errors above")
    (source,) = folder.glob("*.tex")
    source.write_text(LIMIT_WITHOUT_BRACES.sub(r"\1{\\\2}", source.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "bbm.sty").write_text(r"\ProvidesPackage{bbm}")  # the class asks for it, and the book does not use it
    return source


# With TeX -------------------------------------------------------------------------------------------------------------


def missing() -> dict[str, str]:
    """What this machine lacks, with the Debian package of each."""
    return {name: package for name, package in NEEDED.items() if not _found(name)}


def _found(name: str) -> bool:
    if "." not in name:
        return shutil.which(name) is not None
    lister = ["fc-list"] if name.endswith((".otf", ".ttf")) else ["kpsewhich", name]
    return bool(shutil.which(lister[0])) and f"/{name}" in subprocess.run(lister, capture_output=True, text=True).stdout


def typeset(source: Path) -> Path:
    """Run XeLaTeX on the source, and return the PDF beside it."""
    command = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-halt-on-error", "-silent", source.name]
    dateless = os.environ | {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
    done = subprocess.run(command, cwd=source.parent, env=dateless, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise build.BuildError(f"XeLaTeX stopped; {source.with_suffix('.log')} says where:\n{done.stdout[-2000:]}")
    return source.with_suffix(".pdf")


def main() -> int:
    if lacking := missing():
        print(f"The PDF needs what this machine lacks: {', '.join(lacking)}.", file=sys.stderr)
        print(f"On Debian: apt-get install {' '.join(sorted(set(lacking.values())))}", file=sys.stderr)
        return 1
    try:
        build.build()
        pdf = typeset(write_source(build.ROOT, build.outputs(build.ROOT), build.ROOT / "_build/latex"))
    except build.BuildError as error:
        print(f"\nThe PDF was not made: {error}", file=sys.stderr)
        return 1
    target = build.ROOT / f"_build/{archive.book_name()}.pdf"
    shutil.copy(pdf, target)
    print(f"Wrote {target} and {archive.write_checksum(target).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
