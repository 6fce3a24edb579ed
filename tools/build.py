"""Build the book: `python -m tools.build`, which is what `make book` calls.

Jupyter Book does the work; this module adds what its command line does not do. Chapters run side by side, and their
outputs are kept under a key that also covers kdlib and the pinned packages, which jupyter-cache alone does not see;
the pages of the ledger and of the benchmarks run every time.
Pages are rendered beside the old ones and swapped in only when nothing failed: after an error the old pages stay.
A second call on an unchanged tree is recognised by the hash of everything that the book is made of.
"""

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tools import downloads, ledger, trim

ROOT = Path(__file__).resolve().parent.parent
PAGES = Path("_build/html")
STAMP = ".inputs"  # inside the pages, so that it is swapped in with them
PARALLEL = 2
REPOSITORY = 'sys.path.insert(0, "..")'  # in a page that shows the ledger, or the record of the benchmarks
HALF_FORMULA = re.compile(r'\$<span class="math')
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(Exception):
    """The book was not built; the message says why, and the old pages are still in place."""


def build(root: Path = ROOT) -> Path:
    """Build the book of the tree `root` and return its first page.

    Raises
    ------
    BuildError
        A statement lacks its cell or its test, a cell failed, or Sphinx gave a warning.
    """
    pages = root / PAGES
    inputs = digest(book_files(root))
    if _read(pages / STAMP) == inputs:
        print("The book is up to date.")
        return pages / "index.html"

    started = time.perf_counter()
    if unproved := ledger.problems(root):
        raise BuildError("statements, cells and tests do not match:\n  " + "\n  ".join(unproved))
    cache = outputs(root)
    execute(root, cache)
    fresh = pages.with_name("html.new")
    shutil.rmtree(fresh, ignore_errors=True)
    render(root, cache, fresh)
    (fresh / STAMP).write_text(inputs)
    swap_in(fresh, pages)
    for stale in cache.parent.iterdir():
        if stale != cache:
            shutil.rmtree(stale)
    print(f"Built in {time.perf_counter() - started:.0f} s.")
    return pages / "index.html"


# What the book is made of ---------------------------------------------------------------------------------------------


def book_files(root: Path) -> list[Path]:
    """Every file that can change a page or the verdict on it."""
    return [
        *(root / name for name in ("_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml")),
        *(root / name for name in ("README.md", "LICENSE", "CHANGELOG.md")),
        *_files(root / "benchmarks"),
        *_files(root / "book"),
        *_files(root / "kdlib"),
        *_files(root / "tests"),
        *_files(root / "tools"),
    ]


def execution_files(root: Path) -> list[Path]:
    """Every file, besides the cells themselves, that can change what a cell prints: kdlib, packages, data."""
    book = [path for path in _files(root / "book") if "_static" not in path.parts]
    data = [path for path in book if path.suffix not in (".md", ".bib") and path.name != "claims.json"]
    return [root / "requirements.txt", *_files(root / "kdlib"), *data]


def outputs(root: Path) -> Path:
    """The folder with the outputs of all chapters of this tree."""
    return root / "_build/executed" / digest(execution_files(root))[:16]


def digest(files: Iterable[Path]) -> str:
    """Hash of names, contents and the Python version; a missing file counts as such."""
    total = hashlib.sha256(sys.version.encode())
    for path in files:
        content = path.read_bytes() if path.is_file() else b"missing"
        total.update(f"{path}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _generated(path.relative_to(folder)))


def _generated(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _read(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


# Execution ------------------------------------------------------------------------------------------------------------


def execute(root: Path, cache_path: Path) -> None:
    """Run every chapter whose cells are not in the cache, several at a time, each in a kernel of its own."""
    import yaml
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from jupyter_cache.executors.utils import single_nb_execution
    from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig
    from sphinx_external_toc.parsing import parse_toc_yaml
    from traitlets.config import Config

    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the numbers of the book do not depend on an accelerator
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # with kernels side by side, more would be 5 times slower
    os.environ["IPYTHONDIR"] = str(root / "_build/ipython")  # nor on the reader's own start-up files
    config = yaml.safe_load((root / "_config.yml").read_text())
    markdown = MdParserConfig(enable_extensions=config["parse"]["myst_enable_extensions"])
    cache = get_cache(cache_path)

    waiting = {}
    for page in sorted(parse_toc_yaml(root / "_toc.yml")):
        path = root / f"{page}.md"
        text = path.read_text(encoding="utf-8")
        if is_myst_markdown_notebook(text):
            notebook = read_myst_markdown_notebook(text, markdown, add_source_map=True, path=path)
            try:
                cache.match_cache_notebook(notebook)
            except KeyError:
                waiting[path] = notebook
            if REPOSITORY in text:  # what it shows lies outside of what the cache knows, and it is quick
                waiting[path] = notebook
    if not waiting:
        return

    def run(path: Path):
        _say(f"  running {path.stem}")
        return single_nb_execution(
            waiting[path],
            cwd=str(path.parent),
            timeout=config["execute"]["timeout"],
            allow_errors=False,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # a kernel warns without
        )

    _say(f"Executing {len(waiting)} chapters, {PARALLEL} at a time:")
    failures = []
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = {pool.submit(run, path): path for path in waiting}
        for future in as_completed(futures):
            path = futures[future]
            error = future.exception() or future.result().err
            if error is not None:
                _say(f"  failed  {path.stem}")
                failures.append(f"{path.relative_to(root)}: {ANSI.sub('', str(error))}")
                continue
            result = future.result()
            _say(f"  done    {path.stem} ({result.time:.1f} s)")
            bundle = CacheBundleIn(result.nb, str(path), data={"execution_seconds": result.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    if failures:
        raise BuildError("a cell failed:\n" + "\n".join(failures))


def _say(line: str) -> None:
    print(line + "\n", end="", flush=True)  # one write, so that lines of two threads do not mix


# Rendering ------------------------------------------------------------------------------------------------------------


def render(root: Path, cache: Path, target: Path) -> None:
    """Render every page into `target` with warnings as errors; nothing is executed here."""
    from jupyter_book.sphinx import build_sphinx
    from sphinx_external_toc.parsing import parse_toc_yaml

    doctrees = target.with_name("doctrees")
    shutil.rmtree(doctrees, ignore_errors=True)
    _say("Rendering.")
    status = build_sphinx(
        root,
        target,
        noconfig=True,
        path_config=root / "_config.yml",
        confoverrides={"nb_execution_cache_path": str(cache), "latex_individualpages": False},
        doctreedir=doctrees,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if status != 0:
        raise BuildError("Sphinx reported the warnings or errors above")
    for page in target.glob("book/*.html"):
        if HALF_FORMULA.search(page.read_text()):
            raise BuildError(f"{page.stem}: a $$ was read as $ and $; put an empty line before the displayed formula")
    trim.trim(target)
    downloads.write_wheel(root, target / downloads.FOLDER)
    for page in target.glob("book/bibliography*.html"):  # docutils gives each entry an ARIA role that was withdrawn
        page.write_text(re.sub(r' role="(list|doc-biblioentry|doc-backlink)"', "", page.read_text()))
    first_page = parse_toc_yaml(root / "_toc.yml").root.docname + ".html"
    (target / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>The book</title>'
        f'<meta http-equiv="refresh" content="0; url={first_page}"><a href="{first_page}">The book</a></html>\n'
    )


def swap_in(fresh: Path, pages: Path) -> None:
    """Put the fresh pages in the place of the old ones; what stands there is always one whole book."""
    old = pages.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if pages.exists():
        pages.rename(old)
    fresh.rename(pages)
    shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    try:
        first_page = build()
    except BuildError as error:
        print(f"\nThe book was not built: {error}", file=sys.stderr)
        if (ROOT / PAGES).exists():
            print("The pages of the last good build are still in place.", file=sys.stderr)
        return 1
    print(f"Open {first_page.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
