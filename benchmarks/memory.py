"""The most memory that a whole process holds while it follows a trajectory."""

import subprocess
import sys

from benchmarks import record
from benchmarks.problems import WORDS

FLOW = """
import resource, time
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import kdlib as kd
from benchmarks.problems import problem

given = problem({m}, {n}, {d}, features=False)
start = time.perf_counter()
path = kd.kernel_flow(given, np.geomspace(0.1, 1000, 40))
assert path.converged and np.isfinite(path.outputs).all()
taken = time.perf_counter() - start
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * {unit} / 1e9, taken)
"""


def run(say, sizes=((100, 100, 64, 1.2), (20_000, 1000, 64, 1.2), (200_000, 1000, 64, 4.0))) -> dict:
    rows, targets = [], []
    for m, n, d, asked in sizes:
        name = f"kernel_flow, m={m}, n={n}, d={d}"
        row, held = measure(FLOW.format(m=m, n=n, d=d, unit=1 if sys.platform == "darwin" else 1024), name)
        say(f"  {name}: {record.describe(row)}")
        rows.append(row | {"m": m, "n": n, "d": d})
        targets += [record.target(f"{name}: resident", held, at_most=asked, unit="GB")] if held else []
    return record.result("Memory", f"the most that was resident, problem and start included; {WORDS}", rows, targets)


def measure(program: str, name: str):
    """Run a program that prints its GB and seconds in a process of its own; a row, and the GB, None if it failed."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=record.ROOT)
    if done.returncode != 0:
        reason = "out of memory" if done.returncode < 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"name": name, "how": f"failed: {reason[:200]}"}, None
    held, seconds = map(float, done.stdout.split())
    return {"name": name, "how": "measured", "seconds": [seconds] * 3, "gb": held}, held
