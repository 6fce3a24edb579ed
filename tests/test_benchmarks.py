"""The harness of the benchmarks, on tiny work: what it times, checks, records and compares, not how fast kdlib is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import kernels, page, product, record, timing, training, trajectory
from benchmarks.problems import problem
from kdlib.linear_system import LinearSystem

ROOT = Path(__file__).resolve().parent.parent


def quiet(line):
    pass


def test_contestants_take_turns_and_ratios_come_from_rounds():
    turns = []

    def contestant(name, pause):
        def run():
            turns.append(name)
            time.sleep(pause)
            return np.ones(1)

        return run

    both = {"fast": contestant("fast", 0.002), "slow": contestant("slow", 0.02)}
    fast, slow = timing.compete(both, error=lambda answer: 0.0, asked=1e-6, rounds=3, say=quiet)
    assert turns == ["fast", "slow"] * 4
    assert len(fast["times"]) == len(slow["times"]) == 3
    low, median, high = timing.ratio(slow, fast)
    assert 1 < low <= median <= high
    assert timing.best([slow, fast]) is fast


def test_a_contestant_that_misses_the_accuracy_is_flagged_and_does_not_count():
    answers = {"wrong": lambda: np.array([1.1]), "right": lambda: np.array([1.0])}
    said = []
    rows = timing.compete(
        answers, error=lambda answer: timing.difference(answer, [1.0]), asked=1e-6, rounds=1, say=said.append
    )
    wrong, right = rows
    assert not wrong["accurate"] and right["accurate"]
    assert "too large" in said[0] and "too large" not in said[1]
    assert "misses the accuracy" in record.describe(wrong)
    assert timing.best(rows) is right
    with pytest.raises(ValueError, match="no contestant reaches the accuracy"):
        timing.best([wrong])


def run_of(*targets):
    return record.empty() | {"results": {"product": record.result("Product", "a problem", [], list(targets))}}


def test_comparison_finds_a_planted_regression():
    speed = record.target("times faster", [9.0, 10.0, 11.0], at_least=3)
    memory = record.target("GB", 1.0, at_most=1.2)
    programs = record.target("programs", 0, at_most=0)
    accepted = run_of(speed, memory, programs)
    assert record.regressions(accepted, accepted) == []
    a_little_worse = run_of(speed | {"measured": [7.0, 8.0, 9.0]}, memory | {"measured": [1.2] * 3}, programs)
    assert record.regressions(a_little_worse, accepted) == []
    slower = run_of(speed | {"measured": [6.0, 7.0, 8.0]}, memory, programs)
    assert record.regressions(slower, accepted) == ["product: times faster: 7, was 10"]
    larger = run_of(speed, memory | {"measured": [1.5] * 3}, programs | {"measured": [1.0] * 3})
    assert record.regressions(larger, accepted) == ["product: GB: 1.5, was 1", "product: programs: 1, was 0"]
    assert record.regressions(run_of(speed, memory), accepted) == ["product: programs: no longer measured"]
    assert record.regressions(accepted, record.empty()) == []


def test_seconds_are_compared_on_the_same_machine_only():
    accepted = run_of(record.target("first call", 1.0, at_most=3, unit="s"), record.target("faster", 9.0, at_least=3))
    slower = run_of(record.target("first call", 2.0, at_most=3, unit="s"), record.target("faster", 3.0, at_least=3))
    assert len(record.regressions(slower, accepted)) == 2
    elsewhere = slower | {"machine": slower["machine"] | {"cores": 1000}}
    assert record.regressions(elsewhere, accepted) == ["product: faster: 3, was 9"]


@pytest.fixture
def paths(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "LATEST", tmp_path / "_build/bench.json")
    monkeypatch.setattr(record, "ACCEPTED", tmp_path / "accepted.json")
    return tmp_path


def test_a_run_is_recorded_compared_and_accepted(paths, monkeypatch, capsys):
    monkeypatch.setattr(command, "NAMES", ("product",))
    measured = [10.0]

    def run(say):
        return record.result("Product", "a problem", [], [record.target("faster", measured[0], at_least=3)])

    monkeypatch.setattr(product, "run", run)
    assert command.main([]) == 0
    assert "no accepted record" in capsys.readouterr().out
    assert command.main(["--accept"]) == 0
    assert record.read(record.ACCEPTED) == record.read(record.LATEST)
    measured[0] = 7.0
    assert command.main(["product"]) == 1
    assert "product: faster: 7, was 10" in capsys.readouterr().out
    measured[0] = 12.0
    assert command.main([]) == 0
    assert not list(paths.rglob("*.new"))


def test_what_was_measured_is_not_lost_when_a_later_benchmark_fails(paths, monkeypatch, capsys):
    def fails(say):
        raise RuntimeError("no memory")

    monkeypatch.setattr(product, "run", lambda say: record.result("Product", "a problem", [], []))
    monkeypatch.setattr(training, "run", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        command.main(["product", "training"])
    assert list(record.read(record.LATEST)["results"]) == ["product"]
    assert command.main(["--accept"]) == 1
    assert "have not run yet on this machine: trajectory, memory" in capsys.readouterr().err


def test_an_unknown_name_is_a_clear_error():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected names out of trajectory, product" in done.stderr and "got speed" in done.stderr


@pytest.mark.parametrize("method", trajectory.TOLERANCES)
def test_alternatives_follow_the_same_flow(method, monkeypatch):
    flow = trajectory.Flow(LinearSystem.of(problem(20, 6, 3)))
    times = np.geomspace(0.1, 20, 8)
    reference, uncertain = trajectory.lanczos(flow, times, steps=50)
    assert uncertain < 1e-9
    assert timing.difference(flow.follow(method, times, 1e-9), reference) < 1e-6
    assert flow.products > 8

    monkeypatch.setattr(trajectory, "LIMIT", 0.0)
    monkeypatch.setattr(trajectory, "TIMES", times)
    tolerance = trajectory.TOLERANCES[method] and 1e-9
    row = trajectory.follow(flow, method, tolerance, lambda changes: 0.0, "", quiet)
    assert row["how"].startswith("at least: " if tolerance is None else "extrapolated from ")
    assert row["how"] in record.describe(row)


def test_products_and_kernels_agree_with_numpy():
    result = product.run(quiet, m=30, n=8, d=4, wide=6, square=16, rounds=1)
    assert all(row["accurate"] for row in result["rows"])
    assert [target["measured"][1] > 0 for target in result["targets"]] == [True] * 4
    rows, targets = kernels.rows_of(20, 4, 1, "not run: no network", quiet)
    assert all(row["accurate"] for row in rows[::2]) and targets == []
    assert [record.describe(row) for row in rows[1::2]] == ["not run: no network"] * 3


@pytest.mark.parametrize(
    ("path", "names"),
    [(record.ACCEPTED, command.NAMES), (record.ACCEPTED_ON_ACCELERATOR, command.ON_ACCELERATOR)],
    ids=["cpu", "accelerator"],
)
def test_the_accepted_record_is_valid_and_names_no_place(path, names):
    text = path.read_text(encoding="utf-8")
    accepted = json.loads(text)
    assert set(accepted["results"]) == set(names) and ("accelerator" in accepted["machine"]) == (
        path != record.ACCEPTED
    )
    for result in accepted["results"].values():
        assert result["title"] and result["problem"] and result["rows"] and result["targets"]
        for target in result["targets"]:
            low, median, high = target["measured"]
            assert low <= median <= high and ("at_least" in target) != ("at_most" in target)
    assert "/home" not in text and "/work" not in text and "/tmp" not in text


def test_the_page_shows_the_accepted_record():
    accepted = record.read(record.ACCEPTED)
    shown = page.targets(accepted)
    assert all(f"| {target['what']} |" in shown for r in accepted["results"].values() for target in r["targets"])
    known = page.constants(accepted)
    assert all(value > 0 for value in known.values())
    assert [page.duration(seconds) for seconds in (0.4049, 1.71, 424, 7300)] == ["400 ms", "1.7 s", "7.1 min", "2 h"]
    assert all(
        f"{row['gb']:.3g} GB" in page.contestants(accepted, "memory") for row in accepted["results"]["memory"]["rows"]
    )
    assert page.sizes(accepted).count("GB") == 10
    assert accepted["machine"]["processor"] in page.machine(accepted)
    assert [page.duration(seconds) for seconds in (0.002, 3.0, 90.0, 7200.0)] == ["2 ms", "3 s", "1.5 min", "2 h"]
