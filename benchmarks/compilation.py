"""What a first call costs, and that a second problem of the same shapes compiles nothing; in a process of its own."""

import json
import os
import subprocess
import sys

from benchmarks import record
from benchmarks.problems import WORDS

PROGRAM = """
import json, time
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
import kdlib as kd
from benchmarks.problems import problem

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: compiled.append(seconds) if event.endswith("backend_compile_duration") else None
)
first, second = problem({m}, {n}, {d}), problem({m}, {n}, {d}, lam=0.7)
jax.block_until_ready((jax.tree.leaves(first), jax.tree.leaves(second)))
calls = {{
    "kernel_flow": lambda p: kd.kernel_flow(p, np.geomspace(0.1, 1000, 40)).outputs,
    "fixed_point": lambda p: kd.fixed_point(p).outputs,
    "tangent_kernel": lambda p: kd.tangent_kernel(p.student, p.x),
    "limit_kernel": lambda p: kd.limit_kernel(p.x, activation="tanh"),
    "gradient_descent": lambda p: kd.gradient_descent(p, 0.1, 10).outputs,
    "gradient_flow": lambda p: kd.gradient_flow(p, [1.0]).outputs,
    "decay_rates": lambda p: kd.decay_rates(p, 3),
}}
found = {{}}
for name, call in calls.items():
    rows = []
    for given in (first, second):
        compiled.clear()
        start = time.perf_counter()
        jax.block_until_ready(call(given))
        rows.append((time.perf_counter() - start, len(compiled), sum(compiled)))
    found[name] = rows
print(json.dumps(found))
"""


def run(say, size=(500, 100, 64)) -> dict:
    m, n, d = size
    without_cache = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(m=m, n=n, d=d)],
        stdout=subprocess.PIPE, text=True, check=True, cwd=record.ROOT, env=without_cache,
    )  # fmt: skip
    rows, targets = [], []
    for name, ((first, programs, compiling), (second, again, _)) in json.loads(done.stdout).items():
        rows.append({"name": f"{name}, first call", "how": "measured", "seconds": [first] * 3, "programs": programs,
                     "compiling": compiling})  # fmt: skip
        rows.append({"name": f"{name}, second problem", "how": "measured", "seconds": [second] * 3, "programs": again})
        say(f"  {name}: {first:.3g} s with {programs} programs compiled, then {second:.3g} s with {again}")
        targets.append(record.target(f"{name}: first call", first, at_most=3, unit="s"))
        targets.append(record.target(f"{name}: programs compiled for a second problem", again, at_most=0))
    words = f"m = {m}, n = {n}, d = {d}, nothing compiled before, no cache of programs; {WORDS}"
    return record.result("Compilation", words, rows, targets)
