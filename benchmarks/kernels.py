"""Kernels against neural-tangents, which needs an older JAX and so an environment and a process of its own.

The two processes take turns: one measures while the other waits for its line.
"""

import shutil
import subprocess
import sys
import time

import jax
import numpy as np

import kdlib as kd
from benchmarks import record
from benchmarks.timing import PAUSE, difference, quartiles, ratio, seconds

PINS = ("jax==0.4.35", "jaxlib==0.4.35", "neural-tangents==0.6.5", "tf2jax==0.3.6", "numpy==1.26.4", "scipy==1.13.1")
PLACE = record.ROOT / "_build" / "neural-tangents"
# What is compared, and the ways in which neural-tangents computes it: what they add to the name, and their number below
KINDS = {
    "tangent_kernel, tanh, m=256": {", contraction of Jacobians": 0, ", structured derivatives": 1},
    "limit_kernel, ReLU": {"": 2},
    "limit_kernel, erf": {"": 3},
}
ASKED, MOST_SECONDS = 1e-10, 20.0

# Reads arrays; for each line with the number of a way computes it and answers with its seconds; an empty line ends.
# Structured derivatives ask JAX for names that 0.4.35 keeps elsewhere.
THEIRS = """
import sys, time
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import neural_tangents as nt
from jax._src import config
from jax._src.interpreters import ad
from neural_tangents import stax
from neural_tangents._src import empirical

config.jax_enable_checks, empirical.ad = False, ad

folder = sys.argv[1]
given = np.load(folder + "/given.npz")
x, weights, b = (jnp.asarray(given[name]) for name in ("x", "weights", "b"))
d = x.shape[1]

def limit(layer):
    # the first layer's kernel: the whole one without what the last layer adds
    hidden = stax.Dense(1, W_std=np.sqrt(d), b_std=None)
    *_, kernel = stax.serial(hidden, layer, stax.Dense(1, W_std=1.0, b_std=None))
    def first_layer(x):
        both = kernel(x, None, ("nngp", "ntk"))
        return both.ntk - both.nngp
    return jax.jit(first_layer)

def tangent(implementation):
    return jax.jit(nt.empirical_ntk_fn(
        lambda weights, x: (jnp.tanh(x @ weights.T) @ b)[:, None], trace_axes=(-1,), vmap_axes=0,
        implementation=implementation))

contraction = tangent(nt.NtkImplementation.JACOBIAN_CONTRACTION)
structured = tangent(nt.NtkImplementation.STRUCTURED_DERIVATIVES)
relu, erf = limit(stax.Relu()), limit(stax.Erf())
ways = [lambda: contraction(x, None, weights), lambda: structured(x, None, weights), lambda: relu(x), lambda: erf(x)]
print("ready", flush=True)
for line in sys.stdin:
    if not line.strip():
        break
    way = int(line)
    start = time.perf_counter()
    values = ways[way]().block_until_ready()
    taken = time.perf_counter() - start
    np.save(f"{folder}/{way}.npy", np.asarray(values))
    print(taken, flush=True)
"""


def run(say, n=2000, dims=(64, 784), rounds=7) -> dict:
    words = f"n = {n} unit-norm Gaussian inputs, 64-bit, values equal to 1e-10; neural-tangents 0.6.5 on JAX 0.4.35"
    missing = install(say)
    rows, targets = [], []
    for d in dims:
        part, asked = rows_of(n, d, rounds, missing, say)
        rows, targets = rows + part, targets + asked
    return record.result("Kernels", words, rows, targets)


def install(say) -> str | None:
    """Make the environment once; what went wrong, if anything."""
    if (PLACE / ".ready").exists():
        return None
    say("  installing neural-tangents in an environment of its own")
    shutil.rmtree(PLACE, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(PLACE)],
        [str(PLACE / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return "not run: neural-tangents could not be installed"
    (PLACE / ".ready").touch()
    return None


def rows_of(n, d, rounds, missing, say):
    x = jax.random.normal(jax.random.key(0), (n, d))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    net = kd.TwoLayerNetwork.init(jax.random.key(1), 256, d)
    ours = [
        lambda: kd.tangent_kernel(net, x),
        lambda: kd.limit_kernel(x, activation="relu"),
        lambda: kd.limit_kernel(x, activation="erf"),
    ]
    references = in_numpy(np.asarray(x), np.asarray(net.weights), np.asarray(net.output_weights))
    rows, targets = [], []
    theirs = None if missing else NeuralTangents(x, net)
    for (name, ways), function, reference in zip(KINDS.items(), ours, references):
        _, values = seconds(function)
        exact = reference()
        mine = {"name": f"kdlib {name}, d={d}", "how": "measured", "times": []}
        check(mine, values, exact)
        others = [
            {"name": f"neural-tangents {name}{way}, d={d}", "how": missing or "measured", "times": []} for way in ways
        ]
        quick = []
        if theirs is not None:
            for other, way in zip(others, ways.values()):
                quick.append(theirs.seconds(way) <= MOST_SECONDS)  # the first, which compiles
                check(other, theirs.values(way), exact)
        for turn in range(rounds):
            time.sleep(PAUSE)
            mine["times"].append(seconds(function)[0])
            for other, way, again in zip(others, ways.values(), quick):
                if again or turn == 0:
                    time.sleep(PAUSE)
                    other["times"].append(theirs.seconds(way))
        for row in (mine, *others):
            if row["times"]:
                row["seconds"] = quartiles(row["times"])
            say(f"  {row['name']}: {record.describe(row)}")
        rows += [mine, *others]
        if theirs is not None and mine["accurate"]:
            rival = min(others, key=lambda row: row["seconds"][1])
            what = f"{name}, d={d}: times faster than neural-tangents"
            targets.append(record.target(what, ratio(rival, mine), at_least=2))
    if theirs is not None:
        theirs.close()
    return rows, targets


def check(row, values, exact):
    row["error"] = difference(values, exact)
    row["accurate"] = row["error"] <= ASKED


def in_numpy(x, weights, b):
    """The same kernels by their formulas. Next to 1 a cosine does not tell the angle: on the diagonal it is 0."""
    gram = x @ x.T
    squares = np.diag(gram)

    def tangent():
        slopes = b[:, None] * (1 - np.tanh(weights @ x.T) ** 2)
        return (slopes.T @ slopes) * gram

    def relu():
        angles = np.arccos(np.clip(gram / np.sqrt(np.outer(squares, squares)), -1, 1))
        np.fill_diagonal(angles, 0.0)
        return gram * (np.pi - angles) / (2 * np.pi)

    def erf():
        return 4 / np.pi * gram / np.sqrt(np.outer(1 + 2 * squares, 1 + 2 * squares) - 4 * gram**2)

    return tangent, relu, erf


class NeuralTangents:
    """The other process."""

    def __init__(self, x, net):
        np.savez(PLACE / "given.npz", x=x, weights=net.weights, b=net.output_weights)
        self.process = subprocess.Popen(
            [str(PLACE / "bin/python"), "-c", THEIRS, str(PLACE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
        )  # fmt: skip
        self._answer()

    def _answer(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError("neural-tangents stopped without an answer")
        return line

    def seconds(self, way: int) -> float:
        self.process.stdin.write(f"{way}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def values(self, way: int):
        return np.load(PLACE / f"{way}.npy")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
