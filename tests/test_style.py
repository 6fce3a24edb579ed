"""Style and types are those that `make lint` asks for, and no type of the public surface is unknown."""

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("kdlib", "kdlib.bounds", "kdlib.datasets", "kdlib.figures", "kdlib.image_files", "kdlib.views")
# Where there is no node, pyright would fetch one.
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="pyright runs on node, which is not here")


def run(*command):
    """Run a tool of this environment in the repository."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_ruff_has_nothing_to_say(command):
    done = run("ruff", *command, ".")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_node
@pytest.mark.verify
def test_pyright_has_nothing_to_say():
    done = run("pyright", "--pythonpath", sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr


def public():
    """Every public function and class of these modules, as it is imported and where it is defined."""
    for name in MODULES:
        module = importlib.import_module(name)
        for member, value in inspect.getmembers(module):
            here = member in getattr(module, "__all__", ()) or getattr(value, "__module__", "") == name
            if here and (inspect.isfunction(value) or inspect.isclass(value)) and not member.startswith("_"):
                yield from (f"{name}.{member}", f"{value.__module__}.{member}")


@needs_node
@pytest.mark.verify
def test_no_type_of_the_public_surface_is_unknown():
    done = run("pyright", "--verifytypes", "kdlib", "--ignoreexternal", "--outputjson")
    symbols = {symbol["name"]: symbol for symbol in json.loads(done.stdout)["typeCompleteness"]["symbols"]}
    names = set(public())
    assert names - set(symbols) == set()
    unknown = {
        name: [diagnostic["message"] for diagnostic in symbol["diagnostics"]]
        for name, symbol in symbols.items()
        if not symbol["isTypeKnown"] and any(name == each or name.startswith(f"{each}.") for each in names)
    }
    assert not unknown
