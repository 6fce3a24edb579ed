"""The claims ledger: which statement of the book is asserted where, tested where, and how well it held.

Everything here reads text and syntax trees only; no chapter is executed and no test imported.  The
build asks `problems`; the tests, the sweep and the page "Claims" ask `stale` too.

A statement is a ``prf:theorem``, ``prf:lemma``, ``prf:proposition`` or ``prf:corollary`` of a chapter
``book/<chapter>.md``.  With the label ``some-label`` it needs, exactly once each,

* a code cell of the same chapter that is tagged ``claim-some-label`` and calls the checker,
* the checker ``some_label`` in ``kdlib/claims/<chapter>.py``,
* a test marked ``pytest.mark.claim("some-label")`` in ``tests/claims/test_<chapter>.py`` that calls it too,
* a row of ``book/claims.json`` written by the sweep (``make verify``) for this very text and code.
"""

import ast
import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("theorem", "lemma", "proposition", "corollary")
_OPENING = re.compile(r"^\s*(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<argument>.*?)\s*$")


@dataclass(frozen=True)
class Statement:
    label: str
    kind: str
    title: str
    chapter: str
    line: int
    digest: str

    @property
    def checker(self):
        return self.label.replace("-", "_")

    @property
    def module(self):
        return self.chapter.replace("-", "_")


@dataclass(frozen=True)
class Cell:
    label: str
    chapter: str
    line: int
    code: str


@dataclass(frozen=True)
class Test:
    label: str
    file: str
    name: str
    mark: str
    names: frozenset[str]
    digest: str

    @property
    def id(self):
        return f"{self.file}::{self.name}"


@dataclass(frozen=True)
class Checker:
    name: str
    file: str
    digest: str


def statements(root=ROOT):
    """All statements of the chapters, in the order of files and lines."""
    found = []
    for path in _chapters(root):
        for line, name, argument, body in _directives(path.read_text(encoding="utf-8")):
            kind = name.removeprefix("prf:")
            if name != f"prf:{kind}" or kind not in KINDS:
                continue
            options, text = _options(body, f"book/{path.name}:{line}")
            digest = _digest(kind, argument, " ".join(text.split()))
            found.append(Statement(str(options.get("label", "")), kind, argument, path.stem, line, digest))
    return found


def cells(root=ROOT):
    """All code cells that are tagged ``claim-...``."""
    found = []
    for path in _chapters(root):
        for line, name, _, body in _directives(path.read_text(encoding="utf-8")):
            if name != "code-cell":
                continue
            options, code = _options(body, f"book/{path.name}:{line}")
            tags = options.get("tags") or []
            for tag in [tags] if isinstance(tags, str) else tags:
                if tag.startswith("claim-"):
                    found.append(Cell(tag.removeprefix("claim-"), path.stem, line, code))
    return found


def checkers(root=ROOT):
    """All public functions of the modules in ``kdlib/claims/``."""
    found = []
    for path in sorted((root / "kdlib" / "claims").glob("[!_]*.py")):
        scope = _scope(path)
        for name, node in _definitions(path).items():
            if isinstance(node, ast.FunctionDef) and not name.startswith("_"):
                found.append(Checker(name, path.stem, _code_digest(name, scope)))
    return found


def tests(root=ROOT):
    """All tests in ``tests/claims/`` that carry the mark ``claim`` or ``counterexample``."""
    found = []
    for path in sorted((root / "tests" / "claims").glob("test_*.py")):
        definitions = _definitions(path)
        for name, node in definitions.items():
            for mark, label in _marks(node):
                file = path.relative_to(root).as_posix()
                digest = _code_digest(name, definitions)
                found.append(Test(label, file, name, mark, _names(node), digest))
    return found


def rows(root=ROOT):
    """The committed rows of ``book/claims.json``, by label."""
    path = root / "book" / "claims.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(table, root=ROOT):
    """Write the rows, sorted by label, in one step: a stopped sweep leaves a whole file."""
    path = root / "book" / "claims.json"
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(table, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)


def facts(root=ROOT):
    """What the row of each complete statement must say: all of it but the outcome of the sweep."""
    by_name = {checker.name: checker for checker in checkers(root)}
    by_label = {test.label: test for test in tests(root) if test.mark == "claim"}
    table = {}
    for statement in statements(root):
        test, checker = by_label.get(statement.label), by_name.get(statement.checker)
        if test and checker:
            table[statement.label] = {
                "kind": statement.kind,
                "title": statement.title,
                "chapter": statement.chapter,
                "test": test.id,
                "statement": statement.digest,
                "code": _digest(test.digest, checker.digest),
            }
    return table


def table(root=ROOT):
    """The committed rows as a MyST table, in the order of the book."""
    order = {(statement.chapter, statement.label): statement.line for statement in statements(root)}
    chapters = _reading_order(root)
    entries = sorted(
        rows(root).items(),
        key=lambda entry: (chapters.index(entry[1]["chapter"]), order[entry[1]["chapter"], entry[0]]),
    )
    lines = ["| Statement | Title | Chapter | Cases | Worst margin | Test |", "|---|---|---|--:|--:|---|"]
    for label, row in entries:
        title, file = row["title"].replace("|", "\\|"), Path(row["test"].split("::")[0]).name
        lines.append(
            f"| {{prf:ref}}`{label}` | {title} | {{doc}}`{row['chapter']}` | [{row['cases']}]{{#swept-{label}}} "
            f"| {_readable(row['worst_margin'])} | `{file}` |"
        )
    return "\n".join(lines)


def by_chapter(root=ROOT):
    """(chapter, its statements), in the order of the book; chapters without any are left out."""
    found = statements(root)
    groups = [(chapter, [one for one in found if one.chapter == chapter]) for chapter in _reading_order(root)]
    return [(chapter, group) for chapter, group in groups if group]


def library(module, root=ROOT):
    """Digest of the library code that a module of checkers rests on: all that it imports, and what that imports.

    Comments and docstrings do not count, nor does a module that no check of these reaches.
    """
    reached, waiting = set(), [root / "kdlib" / "claims" / f"{module}.py"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imports(path, root)
    files = sorted(path.relative_to(root).as_posix() for path in reached)
    return _digest(*(name + _canonical(ast.parse((root / name).read_text(encoding="utf-8"))) for name in files))


def _imports(path, root):
    """The files of kdlib that a module of it names in its imports, wherever these stand."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in names:
        place = root.joinpath(*name.split("."))
        if name == "kdlib" or name.startswith("kdlib."):
            yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists())


def problems(root=ROOT):
    """Where statements, cells, checkers and tests do not answer to each other one to one, as sentences."""
    try:
        all_statements, all_cells = statements(root), cells(root)
    except ValueError as error:
        return [str(error)]
    all_checkers, all_tests = checkers(root), tests(root)
    found = []
    for statement in all_statements:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", statement.label):
            found.append(
                f"book/{statement.chapter}.md:{statement.line}: a {statement.kind} needs a label in kebab case, "
                f"got {statement.label!r}"
            )
    known = {statement.label: statement for statement in all_statements}
    claims = [test for test in all_tests if test.mark == "claim"]
    kinds = {
        "statements": [statement.label for statement in all_statements],
        "cells": [cell.label for cell in all_cells],
        "checkers": [checker.name.replace("_", "-") for checker in all_checkers],
        "tests": [test.label for test in claims],
    }
    for kind, labels in kinds.items():
        counts = Counter(labels)
        found += [f"{label}: {count} {kind}, expected one" for label, count in counts.items() if count > 1]
        found += [f"{label}: no {kind[:-1]}" for label in known if label and label not in counts]
        found += [f"{label}: a {kind[:-1]} without a statement" for label in counts if label not in known]
    for cell in all_cells:
        statement = known.get(cell.label)
        if statement and cell.chapter != statement.chapter:
            found.append(f"{cell.label}: stated in {statement.chapter}, but its cell is in {cell.chapter}")
        if statement and not re.search(rf"\bclaims\.{statement.checker}\b", cell.code):
            found.append(f"{cell.label}: its cell does not call claims.{statement.checker}")
        if ".require()" not in cell.code and not re.search(r"\bassert\b", cell.code):
            found.append(f"{cell.label}: its cell asserts nothing")
    for checker in all_checkers:
        statement = known.get(checker.name.replace("_", "-"))
        if statement and checker.file != statement.module:
            found.append(f"{statement.label}: its checker belongs into kdlib/claims/{statement.module}.py")
    for test in all_tests:
        statement = known.get(test.label)
        if not statement:
            if test.mark == "counterexample":
                found.append(f"{test.label}: {test.id} is a counterexample to no statement")
            continue
        if test.file != f"tests/claims/test_{statement.module}.py":
            found.append(f"{test.label}: {test.id} belongs into tests/claims/test_{statement.module}.py")
        if statement.checker not in test.names:
            found.append(f"{test.label}: {test.id} does not call the checker {statement.checker}")
        if test.mark == "claim" and "ledger" not in test.names:
            found.append(f"{test.label}: {test.id} reports nothing to the ledger")
    return found


def stale(root=ROOT):
    """Where ``book/claims.json`` does not say what the sweep found on this very text and code."""
    committed, current = rows(root), facts(root)
    advice = "run `make verify`"
    found = [f"{label}: no row in book/claims.json; {advice}" for label in current if label not in committed]
    for label, row in committed.items():
        if label not in current:
            found.append(f"{label}: a row in book/claims.json without a statement; {advice}")
            continue
        changed = [name for name, value in current[label].items() if row.get(name) != value]
        if changed:
            found.append(f"{label}: its row in book/claims.json is stale ({', '.join(changed)} changed); {advice}")
    return found


def _readable(margin):
    if margin is None:
        return "no error"
    power = math.floor(math.log10(margin))
    return f"{margin:.3g}" if power < 3 else rf"${margin / 10**power:.1f} \cdot 10^{{{power}}}$"


def _reading_order(root):
    """Names of the chapters as ``_toc.yml`` has them."""

    def files(node):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key in ("root", "file") else files(value)
        elif isinstance(node, list):
            for value in node:
                yield from files(value)

    return [Path(name).stem for name in files(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))]


def _chapters(root):
    return sorted((root / "book").glob("*.md"))


def _directives(text):
    """(line, name, argument, body lines) of each directive, nested ones too."""
    lines = text.split("\n")
    for start, line in enumerate(lines):
        opening = _OPENING.match(line)
        if not opening:
            continue
        fence = opening["fence"]
        closing = re.compile(rf"^\s*{re.escape(fence[0])}{{{len(fence)},}}\s*$")
        end = next((i for i in range(start + 1, len(lines)) if closing.match(lines[i])), len(lines))
        yield start + 1, opening["name"], opening["argument"], lines[start + 1 : end]


def _options(body, where):
    """The options of a directive, in either of MyST's two forms, and the text after them."""
    try:
        return _split(body)
    except yaml.YAMLError as error:
        reason = getattr(error, "problem", None) or error
        raise ValueError(f"{where}: the options of a directive are not YAML ({reason})") from error


def _split(body):
    if body and body[0].strip() == "---":
        end = next((i for i in range(1, len(body)) if body[i].strip() == "---"), len(body))
        return yaml.safe_load("\n".join(body[1:end])) or {}, "\n".join(body[end + 1 :])
    options = {}
    for count, line in enumerate(body):
        option = re.match(r"^\s*:([\w-]+):[ \t]*(.*?)\s*$", line)
        if not option:
            return options, "\n".join(body[count:])
        options[option[1]] = yaml.safe_load(option[2])
    return options, ""


def _definitions(path):
    """Top-level functions, classes and assignments of a module, by name."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in _names(target):
                    found[name] = node
    return found


def _scope(path):
    """The definitions of a module of checkers, and those of the modules beside it from which it imports."""
    scope = _definitions(path)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if module.startswith("kdlib.claims."):
            beside = path.with_name(module.split(".")[-1] + ".py")
            scope = _scope(beside) | scope if beside.exists() else scope
    return scope


def _names(node):
    """Every variable, attribute and argument that the code mentions."""
    names = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            names.add(child.id)
        elif isinstance(child, ast.Attribute):
            names.add(child.attr)
        elif isinstance(child, ast.arg):
            names.add(child.arg)
    return frozenset(names)


def _code_digest(name, definitions):
    """Digest of a function and of all that it uses of these definitions."""
    reached, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        if current in definitions and current not in reached:
            reached.add(current)
            waiting += sorted(_names(definitions[current]))
    return _digest(*(_canonical(definitions[name]) for name in sorted(reached)))


def _canonical(part):
    """What a piece of syntax does, the same on every Python: no comments, layout, docstrings or types of arguments."""
    if isinstance(part, list):
        return "[" + ",".join(_canonical(item) for item in part) + "]"
    if not isinstance(part, ast.AST):
        return repr(part)
    silent = ("ctx", "kind", "type_comment", "returns", *(("annotation",) if isinstance(part, ast.arg) else ()))
    fields = {name: value for name, value in ast.iter_fields(part) if name not in silent}
    if isinstance(part, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(part) is not None:
        fields["body"] = part.body[1:]
    texts = {name: _canonical(value) for name, value in fields.items() if value not in (None, [])}
    return f"{type(part).__name__}({','.join(f'{name}={text}' for name, text in texts.items())})"


def _marks(node):
    for decorator in getattr(node, "decorator_list", []):
        if isinstance(decorator, ast.Call) and decorator.args and isinstance(decorator.args[0], ast.Constant):
            mark = getattr(decorator.func, "attr", "")
            if mark in ("claim", "counterexample"):
                yield mark, str(decorator.args[0].value)


def _digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
