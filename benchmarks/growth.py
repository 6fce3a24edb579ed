"""How the time of one product grows with m and with n, and the limit and the slowest rates on a large problem."""

import math
import subprocess

import numpy as np

import kdlib as kd
from benchmarks import record
from benchmarks.problems import WORDS, problem, product
from benchmarks.timing import alone, answer_of, quartiles, seconds
from kdlib.linear_system import LinearSystem

TIMES = np.geomspace(0.1, 1000, 40)
LIMIT = 600.0  # seconds
RATES = 10
# a rate errs by the square of what its mode does
ASKED = {"fixed_point": 1e-10, "decay_rates": 1e-7}
ADVISED, PATIENCE = "OPENBLAS_NUM_THREADS=1", 120.0  # see `large_row`; seconds for a run without it
# Each prints its seconds, and its error: how far the limit is from stationary, how far modes are from being modes.
PROGRAMS = {
    "fixed_point": """
taken, limit = seconds(lambda: kd.fixed_point(given))
print(taken, float(limit.residual) if np.isfinite(limit.displacement).all() else np.inf)
""",
    # the modes are what `decay_rates` has found them with, and does not return
    "decay_rates": """
slowest = spectrum._slowest
spectrum._slowest = lambda *asked, **more: found.append(slowest(*asked, **more)) or found[-1]
found = []
taken, rates = seconds(lambda: kd.decay_rates(given, {rates}))
_, modes = found[-1]
system, largest = LinearSystem.of(given), float(kd.largest_rate(given).value)
errors = [np.linalg.norm(product(system, z) - rate * z) / np.linalg.norm(z) for rate, z in zip(rates, modes)]
print(taken, max(errors) / largest if np.isfinite(rates).all() else np.inf)
""",
}
START = """
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import kdlib as kd
from benchmarks.problems import problem, product
from benchmarks.timing import seconds
from kdlib import spectrum
from kdlib.linear_system import LinearSystem

given = problem({m}, {n}, 64)
"""


def run(say, widths=(300, 1000, 3000, 10_000, 30_000), samples=(100, 300, 1000, 3000, 10_000), large=(10_000, 1000)):
    rows, targets = [], []
    for letter, sizes in (("m", [(m, 1000) for m in widths]), ("n", [(1000, n) for n in samples])):
        part = [product_row(m, n, say) for m, n in sizes]
        logs = np.log([size[letter == "n"] for size in sizes])
        exponents = [np.polyfit(logs, np.log(times), 1)[0] for times in zip(*(row["times"] for row in part))]
        targets.append(record.target(f"exponent of a product's time in {letter}", quartiles(exponents), at_most=1.05))
        rows += part
    m, n = large
    rows.append(
        large_row("fixed_point", m // 10, n, say, setting="threads of BLAS as they come", most_seconds=PATIENCE)
    )
    for name in PROGRAMS:
        rows += (part := large_rows(name, *large, say))
        row = part[-1]
        taken = row["seconds"][1] if row["accurate"] else math.inf
        targets.append(record.target(row["name"], taken, at_most=120, unit="s", how=row["how"]))
    return record.result("Growth", f"d = 64, λ = 0.5, tanh; {WORDS}", rows, targets)


def large_rows(name, m, n, say):
    """One call on a tenth of the units, and on all of them; what would take over `LIMIT` is extrapolated."""
    few = large_row(name, m // 10, n, say)
    expected = 10 * few["seconds"][1]
    if expected <= LIMIT:
        return [few, large_row(name, m, n, say)]
    many = few | {"name": few["name"].replace(f"m={m // 10}", f"m={m}"), "seconds": [expected] * 3}
    many["how"] = f"extrapolated from m={m // 10}, linear in m"
    say(f"  {many['name']}: {record.describe(many)}")
    return [few, many]


def large_row(name, m, n, say, *, setting=ADVISED, most_seconds=None):
    """One call in a process of its own, by default with one thread of BLAS for each factorization, as kdlib advises.

    Units are factored side by side: the threads of one factorization get in the way of the others.
    """
    row = {"name": f"{name}, m={m}, n={n}, {setting}"}
    program = START.format(m=m, n=n) + PROGRAMS[name].format(rates=RATES)
    environment = dict([ADVISED.split("=")]) if setting == ADVISED else {}
    try:
        taken, error = map(float, answer_of(alone(program, most_seconds, **environment)).split())
        row |= {"how": "measured", "seconds": [taken] * 3, "error": error, "accurate": error <= ASKED[name]}
    except subprocess.TimeoutExpired:
        row |= {"how": "stopped", "seconds": [most_seconds] * 3}
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
