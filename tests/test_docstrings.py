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
EDGE = [importlib.import_module(f"kdlib.{name}") for name in ("answers", "datasets", "figures", "image_files", "views")]
PUBLIC |= {
    f"kd.{module.__name__.split('.')[-1]}.{name}": member
    for module in EDGE
    for name, member in vars(module).items()
    if inspect.isroutine(member) or inspect.isclass(member)
    if member.__module__ == module.__name__ and not name.startswith("_")
}
# what draws does not check what it is given
DRAWS = ("kd.answers.", "kd.figures.", "kd.views.")


LABELS = {statement.label for statement in ledger.statements()}
# An example of the mechanism serves all explorers, each of which computes a whole table; the checkers of statements are
# called by chapters and tests.
WITH_EXAMPLE = PUBLIC | {
    f"kd.{module}.{name}": member
    for module in ("claims", "explorer")
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


def sections(member):
    """The sections of a docstring, by their titles."""
    _, *parts = re.split(r"^(\w+)\n-+$", inspect.getdoc(member) or "", flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", [name for name, member in PUBLIC.items() if inspect.isfunction(member)])
def test_a_function_says_where_it_is_from(name):
    found = sections(PUBLIC[name])
    assert "References" in found or name.startswith(("kd.datasets.", *DRAWS)), list(found)
    named = re.findall(r"``([a-z0-9-]+)``", found.get("References", ""))
    assert set(named) <= LABELS, named


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


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", [name for name, function in SIGNATURES.items() if arguments(function)])
def test_a_call_says_what_it_takes_returns_and_raises(name):
    makes = name.endswith(".__init__")  # the class says it
    found = sections(PUBLIC[name.removesuffix(".__init__")] if makes else SIGNATURES[name])
    checks = not name.startswith((*DRAWS, "kd.bounds.Bound."))
    needed = {"Parameters"} | (set() if makes else {"Returns"}) | ({"Raises"} if checks else set())
    assert needed <= set(found), list(found)
    for argument in arguments(SIGNATURES[name]):
        described = rf"^((.*, )?\*?{argument}(, .*)? : |{argument}$)"
        assert re.search(described, found["Parameters"], re.MULTILINE), f"{argument} is not described"


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
