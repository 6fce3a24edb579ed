"""What `make pdf` lacks, it names, and stops. The PDF itself is no part of the tests: it needs TeX."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_reading import CHAPTER, build
from tools import pdf

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
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PATH": str(tmp_path)}  # where there is nothing
    run = subprocess.run([sys.executable, "-m", "tools.pdf"], cwd=root, env=environment, capture_output=True, text=True)
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
    out, _ = build(tmp_path, "latex", ("sphinx_exercise", "tools.pdf"), chapter=text)
    source = next(out.glob("*.tex")).read_text()
    chapters, solutions = source.split(r"\appendix\setcounter{secnumdepth}{2}\chapter{Solutions}")
    assert "After the exercise." in chapters and "The number" not in chapters
    assert r"The number \sphinxstyleemphasis{two}." in solutions
    assert chapters.index("Sums commute") < chapters.index("Proof. By") < chapters.index("After the exercise.")
    # the columns of a long table share the width of the page, so that lines may break
    assert r"\begin{longtable}{\X{50}{100}\X{50}{100}}" in chapters and "row 30" in chapters
