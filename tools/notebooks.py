"""Write every chapter as a Jupyter notebook to `_build/notebooks`: `python -m tools.notebooks`, from `make notebooks`.

The chapters are the source; the notebooks are made from them and not kept under version control. Each runs on its own
wherever kdlib is installed.
"""

import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent


def chapters(root: Path = ROOT) -> list[Path]:
    """The chapters that hold code, in the order of their names."""
    return [page for page in sorted((root / "book").glob("*.md")) if is_chapter(page)]


def is_chapter(page: Path) -> bool:
    """Whether the page holds code."""
    return page.read_text(encoding="utf-8").startswith("---\njupytext:")


def notebook(chapter: Path) -> nbformat.NotebookNode:
    """The chapter as a notebook, without outputs."""
    return jupytext.read(chapter, fmt="md:myst")


def main() -> int:
    target = ROOT / "_build/notebooks"
    target.mkdir(parents=True, exist_ok=True)
    for chapter in chapters():
        nbformat.write(notebook(chapter), target / f"{chapter.stem}.ipynb")
    print(f"Wrote {len(chapters())} notebooks to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
