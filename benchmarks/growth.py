"""How the time of one product grows with m and with n, and the limit and the slowest rates on a large problem."""

import os
import subprocess
import sys

import numpy as np

import kdlib as kd
from benchmarks import record
from benchmarks.problems import WORDS, problem, product
from benchmarks.timing import quartiles, seconds
from kdlib.linear_system import LinearSystem

TIMES = np.geomspace(0.1, 1000, 40)
LIMIT = 600.0  # seconds
LARGE = {"fixed_point": "kd.fixed_point(given)", "decay_rates": "kd.decay_rates(given, 10)"}
PROGRAM = """
import jax
jax.config.update("jax_enable_x64", True)
import kdlib as kd
from benchmarks.problems import problem
from benchmarks.timing import seconds

given = problem({m}, {n}, 64)
print(seconds(lambda: jax.tree.leaves({call}))[0])
"""


def run(say, widths=(300, 1000, 3000, 10_000, 30_000), samples=(100, 300, 1000, 3000, 10_000), large=(10_000, 1000)):
    rows, targets = [], []
    for letter, sizes in (("m", [(m, 1000) for m in widths]), ("n", [(1000, n) for n in samples])):
        part = [product_row(m, n, say) for m, n in sizes]
        logs = np.log([size[letter == "n"] for size in sizes])
        exponents = [np.polyfit(logs, np.log(times), 1)[0] for times in zip(*(row["times"] for row in part))]
        targets.append(record.target(f"exponent of a product's time in {letter}", quartiles(exponents), at_most=1.05))
        rows += part
    for name, call in LARGE.items():
        rows.append(row := large_row(name, call, *large, say))
        targets.append(record.target(row["name"], row["seconds"][1], at_most=120, unit="s"))
    return record.result("Growth", f"d = 64, λ = 0.5, tanh; {WORDS}", rows, targets)


def large_row(name, call, m, n, say):
    """One call, on a tenth of the units first: what would take over `LIMIT` is extrapolated, linear in m.

    In a process of its own, with one thread of BLAS for each factorization: units are factored side by side.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}

    def taken(m):
        program = [sys.executable, "-c", PROGRAM.format(call=call, m=m, n=n)]
        done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True, cwd=record.ROOT, env=environment)
        return float(done.stdout)

    once, how = 10 * taken(m // 10), "extrapolated in m"
    if once <= LIMIT:
        once, how = taken(m), "measured"
    row = {"name": f"{name}, m={m}, n={n}", "how": how, "seconds": [once] * 3}
    say(f"  {row['name']}: {record.describe(row)}")
    return row


def product_row(m, n, say):
    """The time of one product, and how many a trajectory at 40 times up to 1000 takes."""
    given = problem(m, n, 64)
    system, v = LinearSystem.of(given), given.student.weights
    seconds(lambda: product(system, v))
    repeats = max(1, int(1e8 / (m * n)))
    times = [seconds(lambda: [product(system, v) for _ in range(repeats)])[0] / repeats for _ in range(7)]
    row = {"name": f"product, m={m}, n={n}", "how": "measured", "times": times, "seconds": quartiles(times)}
    row |= {"m": m, "n": n, "d": 64}
    row["products"] = products_of_trajectory(given)
    say(f"  {row['name']}: {record.describe(row)}")
    return row


def products_of_trajectory(given):
    """Products of A and of Aᵀ in the first pass of `kernel_flow`, in pairs."""
    end = kd.kernel_flow(given, TIMES)._end
    return int(end.coefficients.size)
