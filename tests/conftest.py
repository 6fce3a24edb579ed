"""Settings and fixtures of all tests, and the sweep that writes the claims ledger.

`pytest` checks each claim on a few random problems; `pytest --sweep` (`make verify`) on many, and
writes each outcome to ``book/claims.json`` as it comes.  A sweep that was stopped goes on where it
was: a claim whose statement, test, checker and library are those of its row goes on with the seeds
after those of the row.  Delete the file to sweep all of them anew.
"""

import functools
import itertools
from pathlib import Path

import jax
import pytest

from tools import ledger as _ledger

ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each compiled program holds some memory maps. A process may have 65,530 of them and crashes with one more.
MOST_MAPS = 30_000
finished = itertools.count(1)

# Random problems for a claim; in the long run fewer where networks are trained.
SHORT, LONG = 200, (10_000, 300)


def pytest_addoption(parser):
    parser.addoption("--sweep", action="store_true", help="the long run: many cases, all pages, book/claims.json")
    parser.addoption("--cases", type=int, default=LONG[0], help="cases of an algebraic claim in a sweep (%(default)s)")


def pytest_configure(config):
    for line in (
        "claim(label, trains=False): the test of a statement; trains=True: fewer problems in a sweep",
        "counterexample(label): shows that a hypothesis of the statement is necessary",
        "verify: runs in the long sweep only",
        "timed: measures times; runs in the long sweep only, with no other test beside it",
    ):
        config.addinivalue_line("markers", line)
    if config.getoption("--sweep") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Sweep(), "claims-sweep")


def pytest_collection_modifyitems(config, items):
    sweep = config.getoption("--sweep")
    done = swept() if sweep else {}
    for item in items:
        claim = item.get_closest_marker("claim")
        if not sweep and any(item.get_closest_marker(mark) for mark in ("verify", "timed")):
            item.add_marker(pytest.mark.skip(reason="long: runs with --sweep"))
        elif claim:
            item.seeds = range(done.get(claim.args[0], 0), case_count(config, claim.kwargs.get("trains", False)))
            if not item.seeds:
                item.add_marker(pytest.mark.skip(reason="swept already, and nothing has changed since"))


def current():
    """What each row must say, the library that its checker rests on included."""
    facts = _ledger.facts(ROOT)
    library = functools.cache(lambda module: _ledger.library(module, ROOT))
    return {label: {**fact, "library": library(fact["chapter"].replace("-", "_"))} for label, fact in facts.items()}


def swept():
    """How many cases of each claim have been swept since its statement or code last changed."""
    facts, rows = current(), _ledger.rows(ROOT)
    return {
        label: rows[label]["cases"] for label in facts if label in rows and rows[label].items() >= facts[label].items()
    }


def case_count(config, trains):
    """Cases of one claim: in a sweep, trained networks take the share that they have in the long one."""
    if not config.getoption("--sweep"):
        return SHORT
    cases = config.getoption("--cases")
    return max(1, cases * LONG[1] // LONG[0]) if trains else cases


def forget_programs():
    """Drop the compiled programs where they hold many memory maps (Linux tells how many)."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def few_maps():
    yield
    if next(finished) % 10 == 0:  # to count the maps takes as long as a short test
        forget_programs()


@pytest.fixture
def sweep(request):
    """Whether this is the long run."""
    return request.config.getoption("--sweep")


@pytest.fixture
def cases(request):
    """Seeds of the random problems of one test."""
    return list(getattr(request.node, "seeds", range(SHORT)))


@pytest.fixture
def ledger(request, cases):
    """``ledger(check)`` records one case of a claim and fails the test where it does not hold."""
    claim = request.node.get_closest_marker("claim")
    assert claim, "only a test marked `claim` reports to the ledger"
    assert not hasattr(request.node, "callspec"), "one claim, one test: loop over the cases instead of parametrizing"
    record = {"label": claim.args[0], "first": cases[0], "cases": 0, "worst_margin": float("inf")}
    request.node.user_properties.append(("claim", record))

    def report(check):
        assert check.label == claim.args[0], f"the check is of {check.label}, the test of {claim.args[0]}"
        record["cases"] += 1
        record["worst_margin"] = min(record["worst_margin"], check.margin)
        if record["cases"] % 100 == 0:
            forget_programs()
        assert check.holds, f"case {record['first'] + record['cases'] - 1}: {check}"

    yield report
    assert record["cases"] >= len(cases), f"{record['cases']} cases reported, {len(cases)} asked for"


class Sweep:
    """Turns the outcomes of the claims into the rows of ``book/claims.json``, one by one."""

    def __init__(self):
        self.passed = set()
        self.facts = current()

    def pytest_runtest_logreport(self, report):
        record = dict(report.user_properties).get("claim")
        if not record:
            return
        label = record["label"]
        if report.when == "call" and report.passed:
            self.passed.add(label)
        if report.failed:
            self.passed.discard(label)
        if report.failed or report.when == "teardown":
            rows = {name: row for name, row in _ledger.rows(ROOT).items() if name in self.facts}
            before = rows.pop(label, {})
            if label in self.passed and label in self.facts:
                # json knows no infinity: null stands for an error of 0 in all cases
                margin = record["worst_margin"]
                if record["first"] > 0 and before["worst_margin"] is not None:
                    margin = min(margin, before["worst_margin"])
                margin = None if margin == float("inf") else float(f"{margin:.3g}")
                rows[label] = self.facts[label] | {"cases": record["first"] + record["cases"], "worst_margin": margin}
            _ledger.write(rows, ROOT)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session, exitstatus):
        self.problems = _ledger.problems(ROOT) + _ledger.stale(ROOT)
        if self.problems and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("claims ledger")
        rows = _ledger.rows(ROOT)
        for label, row in rows.items():
            terminalreporter.line(f"{label}: seeds 0..{row['cases'] - 1}, worst margin {row['worst_margin']}")
        for problem in self.problems:
            terminalreporter.line(problem, red=True)
