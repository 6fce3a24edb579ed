"""The harness of the benchmarks, on tiny work: what it times, checks, records and compares, not how fast kdlib is."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import compilation, growth, kernels, memory, page, product, record, timing, training, trajectory
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
    assert record.regressions(larger, accepted) == [
        "product: GB: 1.5, was 1, no longer reached",
        "product: programs: 1, was 0, no longer reached",
    ]
    assert record.regressions(run_of(speed, memory), accepted) == ["product: programs: no longer measured"]
    assert record.regressions(accepted, record.empty()) == []


def test_a_target_that_was_reached_and_is_missed_is_a_regression_however_close():
    speed, memory = record.target("faster", 3.1, at_least=3), record.target("GB", 1.1, at_most=1.2)
    accepted = run_of(speed, memory)
    missed = run_of(speed | {"measured": [2.9] * 3}, memory | {"measured": [1.25] * 3})
    assert record.regressions(missed, accepted) == [
        "product: faster: 2.9, was 3.1, no longer reached",
        "product: GB: 1.25, was 1.1, no longer reached",
    ]
    assert record.regressions(accepted, missed) == record.regressions(missed, missed) == []


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


def test_the_commit_is_recorded_and_code_that_no_commit_holds_is_not_accepted(paths, monkeypatch, capsys):
    def git(*arguments):
        person = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *person, *arguments], cwd=paths, check=True, capture_output=True)

    assert record.state()["commit"] is None
    (paths / "kdlib").mkdir()
    (paths / "kdlib" / "code.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "code")
    assert len(record.state()["commit"]) >= 7 and "changed" not in record.state()["commit"]
    monkeypatch.setattr(command, "NAMES", ("product",))
    monkeypatch.setattr(product, "run", lambda say: record.result("Product", "a problem", [], []))
    command.main([])
    assert command.main(["--accept"]) == 0
    accepted = record.read(record.ACCEPTED)
    assert accepted["results"]["product"] == record.read(record.LATEST)["results"]["product"]
    assert record.state().items() <= accepted["results"]["product"].items()

    (paths / "kdlib" / "new.py").write_text("2")
    assert record.state()["commit"].endswith(", changed")
    command.main([])
    capsys.readouterr()
    assert command.main(["--accept"]) == 1
    assert "measured code that no commit holds: product" in capsys.readouterr().err
    assert record.read(record.ACCEPTED) == accepted


def test_what_was_measured_while_the_code_changed_is_not_accepted(paths, monkeypatch, capsys):
    commits = iter(["abc1234", "abc1234", "def5678"])
    monkeypatch.setattr(record, "state", lambda: {"date": "2026-01-01", "commit": next(commits)})
    monkeypatch.setattr(command, "NAMES", ("product", "kernels"))
    for module in (product, kernels):
        monkeypatch.setattr(module, "run", lambda say: record.result("A title", "a problem", [], []))
    command.main([])
    capsys.readouterr()
    assert command.main(["--accept"]) == 1
    assert capsys.readouterr().err.endswith("measured code that no commit holds: kernels\n")


def test_the_page_says_when_results_come_from_different_commits():
    parts = [record.result(title, "a problem", [], []) | {"date": "2026-01-01"} for title in ("One", "Two", "Three")]
    run = {"results": dict(zip("abc", [part | {"commit": "abc1234"} for part in parts]))}
    assert page.states(run) == "on 2026-01-01, commit abc1234"
    run["results"]["c"]["commit"] = "def5678"
    assert page.states(run) == "on 2026-01-01, commit abc1234 (*One*, *Two*); on 2026-01-01, commit def5678 (*Three*)"


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
    said = record.describe(row)
    if tolerance is None:
        assert said.startswith("> 0 s, stopped after ") and not row["accurate"]
    else:
        assert said.endswith(row["how"]) and row["how"].startswith("extrapolated from ") and row["accurate"]


def test_a_diffrax_run_is_timed_without_what_it_compiles(monkeypatch):
    asked = []

    class Flow:
        def follow(self, method, times, tolerance):
            asked.append((method, len(times), times[-1]))

    times = np.array([1.0, 2.0])
    for method in ("Tsit5", "RK45"):
        trajectory.timed(Flow(), method, times, 1e-8)
    assert asked == [("Tsit5", 2, 2e-6), ("Tsit5", 2, 2.0), ("RK45", 2, 2.0)]


def test_products_and_kernels_agree_with_numpy():
    result = product.run(quiet, m=30, n=8, d=4, wide=6, square=16, rounds=1)
    assert all(row["accurate"] for row in result["rows"])
    assert [target["measured"][1] > 0 for target in result["targets"]] == [True] * 4
    rows, targets = kernels.rows_of(20, 4, 1, "not run: no network", quiet)
    ours, theirs = ([row for row in rows if row["name"].startswith(who)] for who in ("kdlib", "neural-tangents"))
    assert len(ours) == 3 and all(row["accurate"] for row in ours) and targets == []
    assert [record.describe(row) for row in theirs] == ["not run: no network"] * 4


def test_training_checks_its_answers():
    result = training.run(quiet, size=(20, 6, 3), many=(8, 5, 3), count=3, rounds=1)
    checked = [row for row in result["rows"] if "error" in row]
    assert len(checked) == 6 and all(row["accurate"] for row in checked)
    assert [row["velocities"] > 20 for row in result["rows"] if "velocities" in row] == [True]
    assert [target["what"] for target in result["targets"][2:]] == ["3 values of λ over one", "3 seeds over one"]


def test_a_vectorised_call_that_differs_from_single_ones_is_flagged():
    values = np.arange(1.0, 4.0)
    right, wrong = (lambda v: v + 1.0), jax.custom_batching.custom_vmap(lambda v: v + 1.0)
    wrong.def_vmap(lambda size, batched, v: (v + 1.0 + 1e-6 * (v == 3), True))
    assert training.vectorised("values", right, values, "here", 1, quiet)[1]["accurate"]
    assert not training.vectorised("values", wrong, values, "here", 1, quiet)[1]["accurate"]


def test_compilation_is_measured_in_a_process_that_has_compiled_nothing(monkeypatch):
    monkeypatch.setattr(compilation, "CALLS", {"tangent_kernel": compilation.CALLS["tangent_kernel"]})
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "nowhere")
    result = compilation.run(quiet, size=(5, 4, 3))
    first, second = result["rows"]
    assert first["programs"] >= 1 and first["compiling"] > 0 and second["programs"] == 0
    assert "JAX_COMPILATION_CACHE_DIR" not in timing.alone("import os; print(*os.environ)").stdout.split()


@pytest.mark.parametrize("name", growth.PROGRAMS)
def test_large_problems_are_checked_and_what_is_extrapolated_says_so(name, monkeypatch):
    monkeypatch.setattr(growth, "LIMIT", 0.0)
    few, many = growth.large_rows(name, 30, 6, quiet)
    assert few["accurate"] and "m=3, n=6, OPENBLAS_NUM_THREADS=1" in few["name"]
    assert many["seconds"][1] == pytest.approx(10 * few["seconds"][1]) and "m=30, n=6" in many["name"]
    assert record.describe(many).endswith("extrapolated from m=3, linear in m")
    monkeypatch.setattr(growth, "alone", lambda program, most, **_: subprocess.run(["sleep", "9"], timeout=most))
    stopped = growth.large_row(name, 3, 6, quiet, setting="", most_seconds=0.1)
    assert record.describe(stopped) == "> 0.1 s, stopped"


def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    held = np.ones(2**26)
    done = timing.alone("from benchmarks.memory import most_resident; print(most_resident())")
    assert 0.01 < float(timing.answer_of(done)) < held.nbytes / 1e9 < memory.most_resident()


def test_a_run_that_failed_is_a_missed_target(monkeypatch):
    monkeypatch.setattr(memory, "FLOW", "raise MemoryError('too large')")
    result = memory.run(quiet, sizes=((5, 4, 3, None), (6, 4, 3, 1.2)))
    assert [record.describe(row) for row in result["rows"]] == ["failed: MemoryError: too large"] * 2
    (target,) = result["targets"]
    assert not record.reached(target) and record.measured(target) == "failed"
    new, before = ({"machine": {}, "results": {"memory": part}} for part in (result, result | {"targets": [target]}))
    before["results"]["memory"] = result | {"targets": [target | {"measured": [1.0] * 3}]}
    assert record.regressions(new, before) == [f"memory: {target['what']}: inf, was 1, no longer reached"]
    assert "failed" in page.targets(new) and "failed" in page.contestants(new, "memory")
    assert page.constants(new) is None and "too few" in page.fits(new)


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
    assert [page.duration(seconds) for seconds in (0.4049, 1.71, 424, 7300)] == ["400 ms", "1.7 s", "7.1 min", "2 h"]
    rows = [row for row in accepted["results"]["memory"]["rows"] if "gb" in row]
    assert all(f"{row['gb']:.3g} GB" in page.contestants(accepted, "memory") for row in rows)
    assert accepted["machine"]["processor"] in page.machine(accepted)
    assert page.gains(accepted).count("kdlib") == 2
    assert all(np.ravel(value).min() > 0 for value in page.constants(accepted).values())
    assert page.sizes(page.constants(accepted)).count("GB") == 10
    assert [page.duration(seconds) for seconds in (0.002, 3.0, 90.0, 7200.0)] == ["2 ms", "3 s", "1.5 min", "2 h"]


def planted(base, samples, without, inputs, rates):
    """A record whose runs of *Memory* follow the page's model exactly."""
    sizes = (100, 100, 64), (60_000, 300, 64), (20_000, 1000, 64), (200_000, 1000, 64)
    rows = []
    for m, n, d in sizes:
        each, rate = (samples, rates[0]) if page.keeps_slopes(m, n) else (without, rates[1])
        row = {"name": "a run", "how": "measured", "seconds": [rate * m * n * d] * 3, "m": m, "n": n, "d": d}
        rows.append(row | {"gb": base + each * m * n + inputs * m * d})
    return {"machine": {"cores": 2}, "results": {"memory": record.result("Memory", "a problem", rows, [])}}


def test_the_page_finds_what_each_array_costs_and_what_fits():
    run = planted(0.3, 40e-9, 24e-9, 56e-9, (1e-8, 3e-8))
    known = page.constants(run)
    assert known["base"] == pytest.approx(0.3) and known["inputs"] == pytest.approx(56e-9)
    assert known["samples"] == pytest.approx((40e-9, 24e-9)) and known["rates"] == pytest.approx((1e-8, 3e-8))
    rows = {tuple(map(str.strip, line.split("|")[1:3])): line for line in page.sizes(known).splitlines()[2:]}
    assert len(rows) == 10
    # 3 GB: slopes are kept up to m = 134000; 6 GB: with them 5.7e9 / 43.6e3 = 131000; 12 GB: 11.7e9 / 27.6e3 = 424000
    assert "| 62000 | 40 s |" in rows["4 GB", "1000"] and "| 130000 | 1.4 min |" in rows["8 GB", "1000"]
    assert "| 420000 | 13 min |" in rows["16 GB", "1000"]
    assert page.fits(run).count("md bytes") == 2


def test_the_page_names_what_is_slower_on_the_accelerator():
    def run(seconds):
        rows = [{"name": f"{name}, second problem", "seconds": [taken] * 3} for name, taken in seconds.items()]
        return {"results": {"compilation": {"rows": rows}}}

    here = run({"fixed_point": 1.0, "tangent_kernel": 1.0})
    said = page.slower_there(here, run({"fixed_point": 2.0, "tangent_kernel": 0.5}))
    assert "`fixed_point` (2 s, on the CPU 1 s)" in said and "tangent_kernel" not in said
    assert page.slower_there(here, here) == ""
