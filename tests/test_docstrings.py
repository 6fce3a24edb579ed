"""Public docstrings say what goes in, what comes out and where it is from, and their examples run."""

import doctest
import importlib
import inspect
import re

import pytest

import kdlib as kd
from tools import ledger

PUBLIC = {f"kd.{name}": getattr(kd, name) for name in kd.__all__} | {
    f"kd.bounds.{name}": getattr(kd.bounds, name) for name in kd.bounds.__all__
}
EDGE = [importlib.import_module(f"kdlib.{name}") for name in ("datasets", "image_files")]
PUBLIC |= {
    f"kd.{module.__name__.split('.')[-1]}.{name}": member
    for module in EDGE
    for name, member in vars(module).items()
    if inspect.isfunction(member) and member.__module__ == module.__name__ and not name.startswith("_")
}


LABELS = {statement.label for statement in ledger.statements()}
# An example of the mechanism serves all explorers, each of which computes a whole table; the checkers of statements are
# called by chapters and tests.
WITH_EXAMPLE = PUBLIC | {
    f"kd.{module}.{name}": member
    for module in ("claims", "datasets", "explorer", "figures", "views")
    for name, member in vars(importlib.import_module(f"kdlib.{module}")).items()
    if callable(member) and getattr(member, "__module__", "") == f"kdlib.{module}" and not name.startswith("_")
    if module != "explorer" or name == "Explorer"
}


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_examples_run(name):
    member = WITH_EXAMPLE[name]
    tests = [test for test in doctest.DocTestFinder(recurse=False).find(member, name) if test.examples]
    assert tests, f"{name} has no example"
    for test in tests:
        results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
        assert results.attempted and not results.failed, f"{name}: {results}"


@pytest.mark.parametrize("name", [name for name, member in PUBLIC.items() if inspect.isfunction(member)])
def test_a_function_says_what_it_takes_returns_and_raises_and_where_it_is_from(name):
    text = inspect.getdoc(PUBLIC[name])
    sections = re.findall(r"^(\w+)\n-+$", text, re.MULTILINE)
    assert {"Parameters", "Returns", "Raises"} <= set(sections) or not inspect.signature(PUBLIC[name]).parameters, (
        sections
    )
    assert "References" in sections or name.startswith("kd.datasets."), sections
    references = re.search(r"References\n-+\n(.*?)(\n\w+\n-+\n|\Z)", text, re.DOTALL)
    named = re.findall(r"``([a-z0-9-]+)``", references[1]) if references else []
    assert set(named) <= LABELS, named
    described = re.search(r"Parameters\n-+\n(.*?)(\n\w+\n-+\n|\Z)", text, re.DOTALL)
    for parameter in inspect.signature(PUBLIC[name]).parameters:
        assert re.search(rf"^(.*, )?{parameter}(, .*)? : ", described[1], re.MULTILINE) or re.search(
            rf"^{parameter}$", described[1], re.MULTILINE
        ), f"{name}: {parameter} is not described"


def signatures():
    """Public functions, and the methods and properties of public classes that are written here."""
    for name, member in PUBLIC.items():
        if inspect.isfunction(member):
            yield name, member
        for inner, method in vars(member).items() if inspect.isclass(member) else ():
            function = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
            here = inspect.isfunction(function) and inspect.getsourcefile(function) == inspect.getsourcefile(member)
            if here and (inner in ("__init__", "__call__") or not inner.startswith("_")):
                yield f"{name}.{inner}", function


SIGNATURES = dict(signatures())


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_and_results_have_types(name):
    signature = inspect.signature(SIGNATURES[name])
    bare = [
        key
        for key, part in signature.parameters.items()
        if key not in ("self", "cls") and part.annotation is part.empty
    ]
    assert not bare
    assert name.endswith(".__init__") or signature.return_annotation is not signature.empty
