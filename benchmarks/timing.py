"""How contestants are timed: one process, in turns, after their answers have been checked.

A contestant is a function without arguments that returns its answer as NumPy or JAX arrays.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.record import ROOT

PATIENCE = 20.0  # seconds; what takes longer is timed once
PAUSE = 0.1  # seconds before each turn: threads of the one before spin for a while


def seconds(contestant: Callable):
    """Run it once: its time, and its answer when all of it is there."""
    start = time.perf_counter()
    answer = jax.block_until_ready(contestant())
    return time.perf_counter() - start, answer


def alone(program: str, most_seconds: float | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run a program in a process of its own: no program compiled on an earlier day, no setting of BLAS but those given.

    Raises
    ------
    subprocess.TimeoutExpired
        After ``most_seconds``.
    """
    dropped = ("JAX_COMPILATION_CACHE_DIR", "OPENBLAS_NUM_THREADS")
    kept = {key: value for key, value in os.environ.items() if key not in dropped} | environment
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=kept, timeout=most_seconds
    )


def answer_of(done: subprocess.CompletedProcess) -> str:
    """What it printed.

    Raises
    ------
    RuntimeError
        With the last lines of its errors, if it failed.
    """
    if done.returncode != 0:
        raise RuntimeError(f"a process ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def quartiles(values) -> list[float]:
    """First quartile, median, third quartile."""
    return [float(value) for value in np.quantile(np.asarray(values, float), [0.25, 0.5, 0.75])]


def difference(answer, reference) -> float:
    """‖answer - reference‖ relative to ‖reference‖."""
    answer, reference = np.asarray(answer), np.asarray(reference)
    return float(np.linalg.norm(answer - reference) / np.linalg.norm(reference))


def compete(contestants: dict[str, Callable], *, error: Callable, asked: float, rounds: int, say=print) -> list[dict]:
    """Check and time contestants in interleaved rounds.

    Parameters
    ----------
    contestants : dict of callables
    error : callable
        Maps an answer to its error; None where there is nothing to check it against.
    asked : float
        The error above which a time does not count.
    rounds : int
        How many times each runs after the first, which compiles and is checked; above `PATIENCE` the first is enough.
    say : callable
        Told of each contestant as its first run ends.

    Returns
    -------
    list of dict
        A row for each contestant: ``name``, ``error`` and ``accurate`` where it was checked, ``how``, ``times`` (round
        by round) and ``seconds`` (their quartiles).
    """
    rows, taken = [], {}
    for name, contestant in contestants.items():
        first, answer = seconds(contestant)
        row = {"name": name, "how": "measured", "times": [first]}
        said = f"  {name}: first run {first:.3g} s"
        if (missed := error(answer)) is not None:
            row |= {"error": missed, "accurate": missed <= asked}
            said += f", error {missed:.1e}" + ("" if missed <= asked else ", too large")
        rows.append(row)
        say(said)
        if first <= PATIENCE:
            taken[name] = []
    for _ in range(rounds):
        for name, times in taken.items():
            time.sleep(PAUSE)
            times.append(seconds(contestants[name])[0])
    for row in rows:
        row["times"] = taken.get(row["name"]) or row["times"]
        row["seconds"] = quartiles(row["times"])
    return rows


def ratio(row: dict, other: dict) -> list[float]:
    """Quartiles of how many times longer ``row`` took than ``other``, round by round."""
    times, others = row["times"], other["times"]
    if len(times) != len(others):  # one of the two was timed once
        return quartiles(np.divide.outer(times, others))
    return quartiles(np.divide(times, others))


def best(rows: list[dict]) -> dict:
    """The fastest of those that are accurate enough.

    Raises
    ------
    ValueError
        If none is.
    """
    accurate = [row for row in rows if row["accurate"]]
    if not accurate:
        raise ValueError(f"no contestant reaches the accuracy asked for: {[row['name'] for row in rows]}")
    return min(accurate, key=lambda row: row["seconds"][1])
