"""Every statement of the book is asserted, tested and verified, and the ledger notices when one is not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdlib.claims import Check
from tools import ledger as books

ROOT = Path(__file__).resolve().parents[1]


def test_statements_cells_checkers_and_tests_correspond():
    assert books.problems(ROOT) == []


def test_committed_rows_are_not_stale(request):
    if request.config.getoption("--sweep"):
        pytest.skip("the sweep writes the rows, and checks them at its end")
    assert books.stale(ROOT) == []


def test_committed_rows_are_of_a_whole_sweep_and_their_margins_hold():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "claims").glob("test_*.py"))
    trains = dict(re.findall(r'mark\.claim\("([^"]+)"(, trains=True)?\)', tests))
    for label, row in books.rows(ROOT).items():
        assert row["cases"] == (300 if trains[label] else 10_000), label
        # none: an error of 0 in all cases, as an inequality has whose slack was never used up
        assert row["worst_margin"] is None or row["worst_margin"] >= 1, label


CHAPTER = """# Sums

```{prf:theorem} Sum rule
:label: sum-rule

For real $a$ and $b$, $a + b = b + a$.
```

:::{note}
Not a statement.
:::

````{prf:lemma} Nested
:label: double-half

```{math}
2 \\cdot \\tfrac12 = 1
```
````

```{code-cell} ipython3
---
tags: [hide-input, claim-sum-rule]
---
kd.claims.sum_rule(1.0, 2.0).require()
```

```{code-cell} ipython3
:tags: [claim-double-half]
assert kd.claims.double_half(2.0).holds
```
"""

CHECKERS = """from kdlib.claims import Check

EPS = 1e-12

def sum_rule(a, b):
    # the order must not matter
    return Check.compare("sum-rule", a + b, _swapped(a, b), EPS)

def _swapped(a, b):
    return b + a

def _reads_the_library():
    from kdlib import core

def double_half(a):
    return Check("double-half", abs(a * 0.5 * 2 - a), EPS)
"""

TESTS = """import jax
import numpy as np
import pytest
from sums import double_half, sum_rule

@pytest.mark.claim("sum-rule")
def test_sum_rule(cases, ledger):
    for seed in cases:
        a, b = np.random.default_rng(seed).normal(size=2)
        ledger(sum_rule(a, b))

@pytest.mark.claim("double-half", trains=True)
def test_double_half(cases, ledger):
    for seed in cases:
        ledger(double_half(1.0 + seed))

@pytest.mark.counterexample("double-half")
def test_double_half_needs_a_finite_number():
    assert double_half(float("inf")).margin <= 0.01
"""


def complaints(tree):
    return books.problems(tree) + books.stale(tree)


@pytest.fixture
def tree(tmp_path):
    """A book of one chapter with two statements, complete but for the rows."""
    for folder in ("book", "tools", "kdlib/claims", "tests/claims"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "tools" / "ledger.py", tmp_path / "tools")
    (tmp_path / "kdlib" / "core.py").write_text("from kdlib.deeper import two\n")
    (tmp_path / "kdlib" / "deeper.py").write_text("two = 2\n")
    (tmp_path / "kdlib" / "other.py").write_text("three = 3\n")
    (tmp_path / "book" / "sums.md").write_text(CHAPTER)
    (tmp_path / "kdlib" / "claims" / "sums.py").write_text(CHECKERS)
    (tmp_path / "tests" / "claims" / "test_sums.py").write_text(TESTS)
    return tmp_path


@pytest.fixture
def verified(tree):
    books.write({label: fact | {"cases": 1, "worst_margin": 2.0} for label, fact in books.facts(tree).items()}, tree)
    assert complaints(tree) == []
    return tree


def edit(tree, path, old, new):
    text = (tree / path).read_text()
    assert text.count(old) >= 1, old
    (tree / path).write_text(text.replace(old, new))


CHAPTER_FILE, CHECKER_FILE, TEST_FILE = "book/sums.md", "kdlib/claims/sums.py", "tests/claims/test_sums.py"


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (CHAPTER_FILE, "tags: [hide-input, claim-sum-rule]", "tags: [hide-input]", "sum-rule: no cell"),
        (CHAPTER_FILE, "claim-sum-rule", "claim-sun-rule", "sun-rule: a cell without a statement"),
        (CHAPTER_FILE, "[claim-double-half]", "[claim-double-half, claim-sum-rule]", "sum-rule: 2 cells, expected one"),
        (CHAPTER_FILE, "claims.sum_rule(", "claims.some_rule(", "its cell does not call claims.sum_rule"),
        (CHAPTER_FILE, ".require()", "", "sum-rule: its cell asserts nothing"),
        (CHAPTER_FILE, "tags: [hide", "alt: a: b\ntags: [hide", "the options of a directive are not YAML"),
        (CHAPTER_FILE, ":label: double-half\n", "", "a lemma needs a label in kebab case, got ''"),
        (CHAPTER_FILE, ":label: double-half", ":label: sum-rule", "sum-rule: 2 statements, expected one"),
        (CHECKER_FILE, "def sum_rule", "def sum_rul", "sum-rule: no checker"),
        (CHECKER_FILE, "def _swapped", "def swapped", "swapped: a checker without a statement"),
        (TEST_FILE, '@pytest.mark.claim("sum-rule")\n', "", "sum-rule: no test"),
        (TEST_FILE, 'claim("sum-rule")', 'claim("sun-rule")', "sun-rule: a test without a statement"),
        (TEST_FILE, 'counterexample("double', 'counterexample("half', "is a counterexample to no statement"),
        (TEST_FILE, "ledger(sum_rule(a, b))", "ledger(a + b)", "does not call the checker sum_rule"),
        (TEST_FILE, "ledger(sum_rule(a, b))", "sum_rule(a, b)", None),
    ],
)
def test_a_missing_piece_is_found(verified, path, old, new, expected):
    edit(verified, path, old, new)
    if expected is None:
        edit(verified, path, "cases, ledger", "cases")
        expected = "reports nothing to the ledger"
    assert any(expected in problem for problem in books.problems(verified)), books.problems(verified)


@pytest.mark.parametrize(
    ("path", "new_path", "expected"),
    [
        (CHECKER_FILE, "kdlib/claims/other.py", "sum-rule: its checker belongs into kdlib/claims/sums.py"),
        (TEST_FILE, "tests/claims/test_other.py", "belongs into tests/claims/test_sums.py"),
    ],
)
def test_a_misplaced_piece_is_found(verified, path, new_path, expected):
    (verified / path).rename(verified / new_path)
    assert any(expected in problem for problem in books.problems(verified))


@pytest.mark.parametrize(
    ("path", "old", "new", "changed"),
    [
        (CHAPTER_FILE, "For real $a$", "For complex $a$", "statement"),
        (CHAPTER_FILE, "Sum rule", "Commutativity", "title, statement"),
        (CHECKER_FILE, "a + b, _swapped", "b + a, _swapped", "code"),
        (CHECKER_FILE, "return b + a", "return a + b", "code"),
        (CHECKER_FILE, "EPS = 1e-12", "EPS = 1e-1", "code"),
        (TEST_FILE, "normal(size=2)", "uniform(size=2)", "code"),
    ],
)
def test_a_stale_row_is_found(verified, path, old, new, changed):
    edit(verified, path, old, new)
    assert books.problems(verified) == []
    expected = f"sum-rule: its row in book/claims.json is stale ({changed} changed)"
    assert any(expected in problem for problem in books.stale(verified)), books.stale(verified)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (CHAPTER_FILE, "For real $a$ and $b$, ", "For real $a$\nand  $b$, "),
        (CHAPTER_FILE, "# Sums", "# On sums"),
        (CHECKER_FILE, "# the order must not matter", '"""The order must not matter."""'),
        (CHECKER_FILE, "return b + a", "return (  # in the other order\n        b + a\n    )"),
        (CHECKER_FILE, "def sum_rule(a, b):", "def sum_rule(a: float, b: float) -> Check:"),
    ],
)
def test_layout_and_comments_leave_the_rows_valid(verified, path, old, new):
    edit(verified, path, old, new)
    assert complaints(verified) == []


def test_a_checker_changes_with_what_it_borrows(tree):
    (tree / "kdlib" / "claims" / "tolerances.py").write_text("EPS = 1e-12\n")
    edit(tree, CHECKER_FILE, "EPS = 1e-12", "from kdlib.claims.tolerances import EPS")
    before = books.facts(tree)["sum-rule"]["code"]
    (tree / "kdlib" / "claims" / "tolerances.py").write_text("EPS = 1e-2\n")
    assert books.facts(tree)["sum-rule"]["code"] != before


@pytest.mark.parametrize(
    ("path", "old", "new", "counts"),
    [
        ("kdlib/deeper.py", "two = 2", "two = 3", True),
        ("kdlib/deeper.py", "two = 2", '"""Said anew."""\ntwo = 2  # why', False),
        ("kdlib/other.py", "3", "4", False),
    ],
)
def test_the_library_of_a_checker_is_what_it_imports(tree, path, old, new, counts):
    before = books.library("sums", tree)
    edit(tree, path, old, new)
    assert (books.library("sums", tree) != before) == counts


def test_a_row_too_few_or_too_many_is_found(verified):
    table = books.rows(verified)
    table["old-rule"] = table.pop("sum-rule")
    books.write(table, verified)
    assert [problem.split(";")[0] for problem in books.stale(verified)] == [
        "sum-rule: no row in book/claims.json",
        "old-rule: a row in book/claims.json without a statement",
    ]


def test_the_table_follows_the_book(verified):
    chapter = CHAPTER.replace("sum-rule", "difference-rule").replace("double-half", "half-double")
    (verified / "book" / "addition.md").write_text(chapter)
    (verified / "_toc.yml").write_text("root: book/sums\nparts: [{chapters: [{file: book/addition}]}]\n")
    rows = books.rows(verified)
    margins = {"cases": 7, "chapter": "addition", "worst_margin": 123456.0}
    rows["difference-rule"] = rows["sum-rule"] | margins | {"title": "What $|x|$ is"}
    rows["double-half"]["worst_margin"] = None
    books.write(rows, verified)
    assert books.table(verified).splitlines()[2:] == [
        "| {prf:ref}`sum-rule` | Sum rule | {doc}`sums` | [1]{#swept-sum-rule} | 2 | `test_sums.py` |",
        "| {prf:ref}`double-half` | Nested | {doc}`sums` | [1]{#swept-double-half} | no error | `test_sums.py` |",
        (
            r"| {prf:ref}`difference-rule` | What $\|x\|$ is | {doc}`addition` | [7]{#swept-difference-rule} "
            r"| $1.2 \cdot 10^{5}$ | `test_sums.py` |"
        ),
    ]


def run(tree, *options):
    environment = os.environ | {"PYTHONPATH": str(tree / "kdlib" / "claims"), "PYTEST_ADDOPTS": ""}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
        "-o",
        "pythonpath=.",
        *options,
    ]
    done = subprocess.run(
        [*command, str(tree / "tests")], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_sweep_writes_rows_and_goes_on_where_it_was(tree):
    code, output = run(tree, "--sweep", "-k", "sum_rule")
    assert code == 1 and "double-half: no row" in output, output
    assert list(books.rows(tree)) == ["sum-rule"]

    # a worker reports to the one process that writes
    code, output = run(tree, "--sweep", "-n", "1")
    assert code == 0 and "2 passed, 1 skipped" in output, output
    table = books.rows(tree)
    assert {label: row["cases"] for label, row in table.items()} == {"sum-rule": 10000, "double-half": 300}
    # both hold exactly, and json has no infinity
    assert table["sum-rule"]["worst_margin"] is None
    assert complaints(tree) == []

    edit(tree, "kdlib/deeper.py", "2", "3")
    assert complaints(tree) == []
    code, output = run(tree, "--sweep", "-k", "double_half")
    assert code == 0 and "2 passed" in output, output


def test_a_longer_sweep_goes_on_with_the_next_seeds(tree):
    cases, known = {"sum-rule": 100, "double-half": 4}, {"library": books.library("sums", tree), "worst_margin": 5.0}
    books.write({label: fact | known | {"cases": cases[label]} for label, fact in books.facts(tree).items()}, tree)
    # one claim is short of 50 seeds, and the worst margin of the earlier ones stays; a trained one has all of its 4
    code, output = run(tree, "--sweep", "--cases", "150")
    assert code == 0 and "2 passed, 1 skipped" in output, output
    found = {label: (row["cases"], row["worst_margin"]) for label, row in books.rows(tree).items()}
    assert found == {"sum-rule": (150, 5.0), "double-half": (4, 5.0)}


def test_the_sweep_takes_back_what_no_longer_holds(verified):
    edit(verified, CHECKER_FILE, "return b + a", "return b - a")
    code, output = run(verified, "--sweep")
    assert code == 1 and "case 0: sum-rule: FAILS" in output, output
    assert list(books.rows(verified)) == ["double-half"]


def test_a_short_run_leaves_the_rows_alone(verified):
    before = (verified / "book" / "claims.json").read_text()
    code, output = run(verified)
    assert code == 0, output
    assert (verified / "book" / "claims.json").read_text() == before


def test_a_claim_that_reports_too_few_cases_fails(verified):
    edit(verified, TEST_FILE, "for seed in cases:\n        a, b", "for seed in cases[:1]:\n        a, b")
    code, output = run(verified, "--sweep")
    assert code == 1 and "1 cases reported, 10000 asked for" in output, output
    assert "sum-rule" not in books.rows(verified)


def test_the_rows_are_sorted_text(verified):
    text = (verified / "book" / "claims.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_a_check_measures_the_relative_discrepancy():
    check = Check.compare("some-label", np.array([1.0, 2.002]), np.array([1.0, 2.0]), 1e-2)
    assert check.error == pytest.approx(1e-3) and check.margin == pytest.approx(10) and check.holds
    assert not Check.compare("some-label", np.array([1.0]), np.array([2.0]), 1e-2).holds
    assert Check.compare("some-label", np.array([1.0]), np.array([2.0]), 1e-2, scale=1000.0).holds


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_agrees_with_nothing(bad):
    for computed, reference in [(bad, 1.0), (1.0, bad), (bad, bad)]:
        check = Check.compare("some-label", [computed, 0.0], [reference, 0.0], 1e300)
        assert not check.holds and check.margin == 0
    assert not Check("some-label", bad if bad > 0 else np.nan, 1.0).holds


def test_against_zero_only_zero_agrees():
    assert Check.compare("some-label", np.zeros(2), np.zeros(2), 1e-9).margin == np.inf
    assert not Check.compare("some-label", np.full(2, 1e-300), np.zeros(2), 1e9).holds


def test_an_inequality_counts_the_excess_only():
    assert Check.at_most("some-label", [0.0, 2.0], [5.0, 2.0], 1e-9).error == 0
    assert Check.at_most("some-label", [0.0, 2.5], 2.0, 1e-9).error == pytest.approx(0.25)
    assert not Check.at_most("some-label", [0.0, np.nan], 2.0, 1e-9).holds


def test_the_worst_part_speaks_for_the_statement():
    parts = [Check("some-label", 1e-3, 1e-2, "left"), Check("some-label", 1e-9, 1e-10, "right")]
    assert Check.worst(*parts).part == "right"
    with pytest.raises(AssertionError, match=r"some-label \(right\): FAILS, error 1e-09, tolerance 1e-10, margin 0.1"):
        Check.worst(*parts).require()
    assert parts[0].require() is parts[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Check("x", 0.1, 0.0), "tolerance must be a positive finite number, got 0.0"),
        (lambda: Check("x", -0.1, 1.0), "error must not be negative, got -0.1"),
        (lambda: Check.compare("x", np.zeros(2), np.zeros(3), 1.0), r"one shape, got \(2,\) and \(3,\)"),
        (lambda: Check.compare("x", np.zeros(0), np.zeros(0), 1.0), r"at least one number, got shape \(0,\)"),
        (lambda: Check.worst(), "checks must hold at least one Check, got none"),
    ],
)
def test_a_malformed_check_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
