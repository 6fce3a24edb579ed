"""What a first call costs, and that a second problem of the same shapes compiles nothing.

Each function has a process of its own: in one process the second would find compiled what it shares with the first.
"""

import json

from benchmarks import record
from benchmarks.problems import WORDS
from benchmarks.timing import alone, answer_of

CALLS = {
    "kernel_flow": "kd.kernel_flow(p, np.geomspace(0.1, 1000, 40)).outputs",
    "fixed_point": "kd.fixed_point(p).outputs",
    "tangent_kernel": "kd.tangent_kernel(p.student, p.x)",
    "limit_kernel": 'kd.limit_kernel(p.x, activation="tanh")',
    "gradient_descent": "kd.gradient_descent(p, 0.1, 10).outputs",
    "gradient_flow": "kd.gradient_flow(p, [1.0]).outputs",
    "decay_rates": "kd.decay_rates(p, 3)",
}
PROGRAM = """
import json, time
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import kdlib as kd
from benchmarks.problems import problem

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(seconds) if event.endswith("backend_compile_duration") else None
)
first, second = problem({m}, {n}, {d}), problem({m}, {n}, {d}, lam=0.7, seed=1)
jax.block_until_ready((jax.tree.leaves(first), jax.tree.leaves(second)))
rows = []
for p in (first, second):
    compiled.clear()
    start = time.perf_counter()
    jax.block_until_ready({call})
    rows.append((time.perf_counter() - start, len(compiled), sum(compiled)))
print(json.dumps(rows))
"""


def run(say, size=(500, 100, 64)) -> dict:
    m, n, d = size
    rows, targets = [], []
    for name, call in CALLS.items():
        done = alone(PROGRAM.format(m=m, n=n, d=d, call=call))
        (first, programs, compiling), (second, again, _) = json.loads(answer_of(done))
        rows.append({"name": f"{name}, first call", "how": "measured", "seconds": [first] * 3, "programs": programs,
                     "compiling": compiling})  # fmt: skip
        rows.append({"name": f"{name}, second problem", "how": "measured", "seconds": [second] * 3, "programs": again})
        say(f"  {name}: {first:.3g} s with {programs} programs compiled, then {second:.3g} s with {again}")
        targets.append(record.target(f"{name}: first call", first, at_most=3, unit="s"))
        targets.append(record.target(f"{name}: programs compiled for a second problem", again, at_most=0))
    words = (
        f"m = {m}, n = {n}, d = {d}, nothing compiled before but the problem's own arrays, no cache of programs; the "
        f"second problem has other data and another λ; {WORDS}"
    )
    return record.result("Compilation", words, rows, targets)
