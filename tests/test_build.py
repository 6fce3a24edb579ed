"""`make book` never looks green when it is not, keeps the last good pages, and does no work twice.

A book of one chapter in a folder of its own, rendered with the configuration of the real one.
"""

import gc
import shutil
from pathlib import Path

import pytest

from tools import build

ROOT = Path(__file__).resolve().parents[1]

HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CHAPTER = (
    HEADER
    + """# A chapter

Prose, and $\\lambda > 0$ too.

```{prf:theorem} Sums commute
:label: sum-rule

For real $a$ and $b$, $a + b = b + a$.
```

```{code-cell} ipython3
---
tags: [claim-sum-rule]
---
import claims
claims.sum_rule(1, 2).require()
print("the sum is", 1 + 2)
```
"""
)
CHECKER = """
def sum_rule(a, b):
    return Check(abs(a + b - (b + a)))

class Check:
    def __init__(self, error):
        self.error = error
    def require(self):
        assert self.error == 0
"""
TEST = """
import pytest

@pytest.mark.claim("sum-rule")
def test_sum_rule(ledger):
    ledger(sum_rule(1, 2))
"""

pytestmark = pytest.mark.filterwarnings("ignore")  # Sphinx and its extensions are not ours to keep quiet


@pytest.fixture(autouse=True)
def nothing_is_left_over():
    """The event loops of the chapters' kernels are collected here, and not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book that was built once."""
    root = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "requirements.txt", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    files = {
        "_toc.yml": "format: jb-book\nroot: book/chapter\n",
        "book/chapter.md": CHAPTER,
        "book/claims.py": CHECKER,
        "book/references.bib": "",
        "kdlib/claims/chapter.py": "def sum_rule(a, b):\n    return a + b\n",
        "tests/claims/test_chapter.py": TEST,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copytree(ROOT / "book/_static", root / "book/_static")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JAX_PLATFORMS"):  # the build sets them for its kernels
            patch.setenv(name, str(root))
        patch.setattr(build, "execute", counted(build.execute))
        build.build(root)
        yield root


def counted(execute):
    """The build's execution, which also counts the chapters that it runs, from what the cache gains."""

    def wrapped(root, cache):
        before = len(list(cache.glob("executed/*")))
        execute(root, cache)
        wrapped.ran = len(list(cache.glob("executed/*"))) - before

    return wrapped


@pytest.fixture
def book(built):
    """The built book, to be broken: its sources are put back afterwards, its pages must be unharmed."""
    sources = {path: path.read_bytes() for path in build.book_files(built) if path.is_file()}
    pages = snapshot(built)
    yield built
    for path, content in sources.items():
        path.write_bytes(content)
    assert snapshot(built) == pages


def snapshot(root):
    return {path: path.read_bytes() for path in (root / build.PAGES).rglob("*.html")}


def edit(root, name, old, new):
    path = root / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_pages_show_what_was_computed(built):
    page = (built / build.PAGES / "book/chapter.html").read_text()
    assert "the sum is 3" in page
    assert 'url=book/chapter.html"' in (built / build.PAGES / "index.html").read_text()


def test_pages_ask_for_nothing_outside(built):
    for page, text in snapshot(built).items():
        for attribute in ("src=", "href="):
            assert f'{attribute}"http' not in text.decode(), page


def test_unchanged_tree_is_recognised(book, capsys):
    build.build(book)
    assert capsys.readouterr().out == "The book is up to date.\n"


def test_failing_cell_is_refused(book, capsys):
    edit(book, "book/chapter.md", 'print("the sum', 'assert 1 + 1 == 3, "no such sum"\nprint("the sum')
    with pytest.raises(build.BuildError, match=r"book/chapter.md(.|\n)*no such sum"):
        build.build(book)
    with pytest.raises(build.BuildError, match="no such sum"):
        build.build(book)  # a failure is not forgotten


def test_statement_without_test_is_refused(book):
    edit(book, "tests/claims/test_chapter.py", '@pytest.mark.claim("sum-rule")\n', "")
    with pytest.raises(build.BuildError, match="sum-rule: no test"):
        build.build(book)


def test_statement_without_label_is_refused(book):
    edit(book, "book/chapter.md", ":label: sum-rule\n", "")
    with pytest.raises(build.BuildError, match="needs a label"):
        build.build(book)


@pytest.mark.parametrize("fault", ["{doc}`nowhere`", "{prf:ref}`nothing`", "{cite}`nobody2000`", "![](none.png)"])
def test_warning_is_refused(book, fault):
    edit(book, "book/chapter.md", "Prose,", f"Prose, {fault},")
    with pytest.raises(build.BuildError, match="Sphinx"):
        build.build(book)


def test_half_read_formula_is_refused(book):
    edit(book, "book/chapter.md", "Prose,", "1. A list,\n   $$\n   a = b.\n   $$\n\nProse,")
    with pytest.raises(build.BuildError, match="empty line"):
        build.build(book)


def test_output_on_stderr_is_refused(book):
    edit(book, "book/chapter.md", 'print("the sum', 'import sys; print("trouble", file=sys.stderr)\nprint("the sum')
    with pytest.raises(build.BuildError, match="Sphinx"):
        build.build(book)


def test_prose_executes_nothing_and_kdlib_everything(built):
    edit(built, "book/chapter.md", "Prose,", "Better prose,")
    build.build(built)
    assert build.execute.ran == 0
    assert "Better prose" in (built / build.PAGES / "book/chapter.html").read_text()

    (built / "kdlib/explorer.js").write_text("// the cells may depend on this\n")
    build.build(built)
    assert build.execute.ran == 1
