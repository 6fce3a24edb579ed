"""The most memory that a whole process holds while it follows a trajectory."""

import math
import resource
import sys
from pathlib import Path

from benchmarks import record
from benchmarks.problems import WORDS
from benchmarks.timing import alone

FLOW = """
import time
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import kdlib as kd
from benchmarks.memory import most_resident
from benchmarks.problems import problem

given = problem({m}, {n}, {d}, features=False)
start = time.perf_counter()
path = kd.kernel_flow(given, np.geomspace(0.1, 1000, 40))
assert path.converged and np.isfinite(path.outputs).all()
taken = time.perf_counter() - start
print(most_resident(), taken)
"""

# (m, n, d) and the GB asked for; by the others the page *Performance* tells arrays of size mn from those of size md.
# Where d is not far below n, slow modes are waited for: that would be the memory of factorizations.
SIZES = ((100, 100, 64, None), (60_000, 300, 64, None), (20_000, 1000, 64, 1.2), (200_000, 1000, 64, 4.0))


def run(say, sizes=SIZES) -> dict:
    rows, targets = [], []
    for m, n, d, asked in sizes:
        name = f"kernel_flow, m={m}, n={n}, d={d}"
        row = measure(FLOW.format(m=m, n=n, d=d), name)
        say(f"  {name}: {record.describe(row)}")
        rows.append(row | {"m": m, "n": n, "d": d})
        if asked is not None:  # a run that failed has missed it
            held = row.get("gb", math.inf)
            targets.append(record.target(f"{name}: resident", held, at_most=asked, unit="GB"))
    return record.result("Memory", f"the most that was resident, problem and start included; {WORDS}", rows, targets)


def most_resident() -> float:
    """The most memory that this process has held so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says on Linux counts the process that this one was started from
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(fields["VmHWM"].split()[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(program: str, name: str):
    """Run a program that prints its GB and seconds in a process of its own; a row, without either if it failed."""
    done = alone(program)
    if done.returncode != 0:
        reason = "out of memory" if done.returncode < 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"name": name, "how": f"failed: {reason[:200]}"}
    held, seconds = map(float, done.stdout.split())
    return {"name": name, "how": "measured", "seconds": [seconds] * 3, "gb": held}
