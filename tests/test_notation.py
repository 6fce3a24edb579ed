"""The table of the page "Notation" leads from every statement to its code in one step, and to every function."""

import inspect
import re
from operator import attrgetter
from pathlib import Path

import pytest

import kdlib as kd
from tools import ledger

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| ([^|]*?) ?\| \{prf:ref\}`([^`]+)` \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
LINK = re.compile(r"\{py:(func|class)\}`~kdlib\.([\w.]+)`")
ROWS = ROW.findall((ROOT / "book" / "notation.md").read_text(encoding="utf-8"))
FUNCTIONS = {name for name in kd.__all__ if inspect.isfunction(getattr(kd, name))} | {
    f"bounds.{name}" for name in kd.bounds.__all__ if inspect.isfunction(getattr(kd.bounds, name))
}


def test_every_statement_has_one_row():
    assert sorted(label for _, label, _, _ in ROWS) == sorted(each.label for each in ledger.statements(ROOT))
    topics = {int(number) for topic, *_ in ROWS for number in re.findall(r"^T(\d+) ", topic)}
    assert topics == set(range(1, 23))


@pytest.mark.parametrize("statement", ledger.statements(ROOT), ids=lambda statement: statement.label)
def test_a_row_leads_to_what_computes_and_to_what_checks(statement):
    (code, check) = next((code, check) for _, label, code, check in ROWS if label == statement.label)
    links = LINK.findall(code)
    assert links and code == ", ".join(f"{{py:{role}}}`~kdlib.{name}`" for role, name in links)
    for role, name in links:
        assert (inspect.isclass if role == "class" else inspect.isfunction)(attrgetter(name)(kd)), name
    assert LINK.findall(check) == [("func", f"claims.{statement.module}.{statement.checker}")]


def test_every_function_is_in_some_row():
    assert FUNCTIONS - {name for _, _, code, _ in ROWS for _, name in LINK.findall(code)} == set()
