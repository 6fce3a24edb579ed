"""The API pages show every public name, and every public name has a docstring to show."""

import importlib
import inspect
import re
from operator import attrgetter
from pathlib import Path

import pytest

import kdlib as kd
from kdlib import answers

ROOT = Path(__file__).resolve().parents[1]
PAGE = "".join((ROOT / f"book/{page}.md").read_text(encoding="utf-8") for page in ("api", "api-modules", "api-claims"))
CHAPTERS = sorted(path.stem for path in (ROOT / "kdlib/claims").glob("[!_]*.py"))
ANSWERS = [name for name, member in vars(answers).items() if getattr(member, "__module__", "") == "kdlib.answers"]
PUBLIC = [
    *kd.__all__,
    *(f"kdlib.bounds.{name}" for name in kd.bounds.__all__),
    *(f"kdlib.answers.{name}" for name in ANSWERS if not name.startswith("_")),
]


@pytest.mark.parametrize("name", PUBLIC)
def test_name_is_on_the_page_and_documented(name):
    assert re.search(rf"^\.\. auto(class|function):: {re.escape(name)}$", PAGE, re.MULTILINE)
    assert inspect.getdoc(attrgetter(name.removeprefix("kdlib."))(kd))


EDGE = ("datasets", "explorer", "figures", "image_files", "views", "widgets")


@pytest.mark.parametrize("module", [*EDGE, *(f"claims.{chapter}" for chapter in CHAPTERS)])
def test_module_is_on_the_page_and_documented(module):
    assert f".. automodule:: kdlib.{module}\n" in PAGE
    members = vars(importlib.import_module(f"kdlib.{module}"))
    assert set(members.get("__all__", ())) <= {name for name, member in members.items() if member.__doc__}
    for name, member in members.items():
        if callable(member) and not name.startswith("_") and getattr(member, "__module__", "") == f"kdlib.{module}":
            assert member.__doc__, name


def test_page_shows_nothing_that_is_not_there():
    for name in re.findall(r"^\.\. auto(?:class|function):: (\S+)$", PAGE, re.MULTILINE):
        member = kd
        for part in name.removeprefix("kdlib.").split("."):
            member = getattr(member, part)
    for module in re.findall(r"^\.\. automodule:: (\S+)$", PAGE, re.MULTILINE):
        importlib.import_module(module)
