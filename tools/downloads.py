"""What a reader can take away from the pages: a Sphinx extension, named in `_config.yml`.

Every page links to its source, and every chapter to its notebook. The notebook is the chapter with the outputs of the
build's own run, taken from its cache: nothing runs twice. The role ``{wheel}`` links to the package itself.
"""

import html
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache

from tools import notebooks

FOLDER = "downloads"  # in the rendered pages
IN_THE_REPOSITORY = {"claims", "performance"}  # ledger and benchmarks lie in the repository: elsewhere they cannot run


def setup(app):
    app.add_role("wheel", wheel_link)
    app.connect("html-page-context", add_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# Notebooks ------------------------------------------------------------------------------------------------------------


def add_links(app, pagename, templatename, context, doctree):
    """Write the notebook of a page, and a line with links below the page's title."""
    if doctree is None:  # the search page and its like have no source
        return
    page = Path(app.env.doc2path(pagename))
    files = {}
    if page.stem not in IN_THE_REPOSITORY and notebooks.is_chapter(page):
        target = Path(app.outdir, FOLDER, f"{page.stem}.ipynb")
        target.parent.mkdir(exist_ok=True)
        nbformat.write(executed(page, Path(app.config.nb_execution_cache_path)), target)
        files["Notebook"] = f"{FOLDER}/{target.name}"
    files["Source"] = f"_sources/{context['sourcename']}"
    links = [f'<a download href="{html.escape(context["pathto"](file, 1))}">{name}</a>' for name, file in files.items()]
    line = f'</h1>\n<p class="page-files">{" · ".join(links)}</p>'
    context["body"] = context["body"].replace("</h1>", line, 1)


def executed(chapter: Path, cache: Path) -> nbformat.NotebookNode:
    """The chapter as a notebook, with the outputs of its last run.

    Raises
    ------
    KeyError
        The cache has no run of these cells.
    """
    notebook = notebooks.notebook(chapter)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{chapter.stem}-{number}"  # else random: one run gives one file
    return get_cache(cache).merge_match_into_notebook(notebook)[1]


# The package ----------------------------------------------------------------------------------------------------------


def wheel_name(root: Path) -> str:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    return f"kdlib-{version}-py3-none-any.whl"


def write_wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of kdlib. The same files give the same bytes, for hatchling gives them all one date.

    Raises
    ------
    RuntimeError
        The package cannot be built; the message is hatchling's.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"the wheel of kdlib was not built: {done.stderr.strip()}")
    return folder / wheel_name(root)


def wheel_link(name, rawtext, text, lineno, inliner, options=None, content=None):
    """``{wheel}`the package` ``: a link to the wheel, where the page is one that can hold it."""
    env = inliner.document.settings.env
    if env.app.builder.format != "html":
        return [nodes.inline(rawtext, text)], []
    up = "../" * env.docname.count("/")
    return [nodes.reference(rawtext, text, refuri=f"{up}{FOLDER}/{wheel_name(Path(env.srcdir))}")], []
