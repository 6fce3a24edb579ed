"""One product M·v against a large square matrix product, and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.problems import WORDS, problem, product
from benchmarks.timing import compete, difference, quartiles, ratio
from kdlib.linear_system import LinearSystem


def run(say, m=8192, n=1000, d=64, square=2048, rounds=15) -> dict:
    tanh, relu = (LinearSystem.of(problem(m, n, d, activation=name)) for name in ("tanh", "relu"))
    v = jax.random.normal(jax.random.key(1), (m, d))
    a = jax.random.normal(jax.random.key(2), (square, square))
    matmul = jax.jit(jnp.matmul)
    in_numpy = {"tanh": numpy_product(tanh), "relu": numpy_product(relu)}
    expected = {name: run(np.asarray(v)) for name, run in in_numpy.items()} | {"square": np.asarray(a) @ np.asarray(a)}
    rows = []
    contestants = {
        "kdlib, tanh": (lambda: product(tanh, v), "tanh"),
        "NumPy, tanh": (lambda: in_numpy["tanh"](np.asarray(v)), "tanh"),
        "kdlib, ReLU": (lambda: product(relu, v), "relu"),
        "NumPy, ReLU": (lambda: in_numpy["relu"](np.asarray(v)), "relu"),
        f"square product of {square}, JAX": (lambda: matmul(a, a), "square"),
    }
    answers = {name: contestant for name, (contestant, _) in contestants.items()}
    reference = iter(expected[name] for _, name in contestants.values())
    rows = compete(
        answers, error=lambda answer: difference(answer, next(reference)), asked=1e-12, rounds=rounds, say=say
    )
    ours, numpy, fast, _, large = rows
    flops = {"large": 2 * square**3, "ours": 4 * m * n * d}
    rates = [flops["ours"] / t / (flops["large"] / s) for t, s in zip(ours["times"], large["times"])]
    for row in rows:
        row["gflops"] = (flops["large"] if row is large else flops["ours"]) / row["seconds"][1] / 1e9
    targets = [
        record.target("rate of M·v over the rate of a square matrix product", quartiles(rates), at_least=0.6),
        record.target("times faster than NumPy", ratio(numpy, ours), at_least=3),
        record.target("ReLU: times faster than tanh", ratio(ours, fast), at_least=1),
    ]
    return record.result("One product M·v", f"m = {m}, n = {n}, d = {d}, λ = 0.5; {WORDS}", rows, targets)


def numpy_product(system):
    """M v in NumPy, with everything that does not depend on v at hand."""
    slopes, x, b, lam = (np.asarray(part) for part in (system.slopes, system.x, system.output_weights, system.lam))

    def apply(v):
        features = slopes * (v @ x.T)
        return (slopes * (lam * features + b[:, None] * (b @ features))) @ x

    return apply
