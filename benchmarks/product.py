"""One product M·v against a large square matrix product, and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import record
from benchmarks.problems import WORDS, problem, product
from benchmarks.timing import compete, difference, quartiles, ratio
from kdlib.linear_system import LinearSystem


def run(say, m=8192, n=1000, d=64, wide=784, square=None, rounds=15) -> dict:
    square = square or (2048 if jax.default_backend() == "cpu" else 8192)
    tanh, relu = (LinearSystem.of(problem(m, n, d, activation=name)) for name in ("tanh", "relu"))
    high = LinearSystem.of(problem(m, n, wide))
    v, v_high = (jax.random.normal(jax.random.key(1), (m, size)) for size in (d, wide))
    a = jax.random.normal(jax.random.key(2), (square, square))
    matmul = jax.jit(jnp.matmul)
    in_numpy = {"tanh": numpy_product(tanh), "relu": numpy_product(relu)}
    expected = {name: run(np.asarray(v)) for name, run in in_numpy.items()} | {
        "high": numpy_product(high)(np.asarray(v_high)),
        "square": np.asarray(a) @ np.asarray(a),
    }
    contestants = {
        "kdlib, tanh": (lambda: product(tanh, v), "tanh"),
        "NumPy, tanh": (lambda: in_numpy["tanh"](np.asarray(v)), "tanh"),
        "kdlib, ReLU": (lambda: product(relu, v), "relu"),
        "NumPy, ReLU": (lambda: in_numpy["relu"](np.asarray(v)), "relu"),
        f"kdlib, tanh, d = {wide}": (lambda: product(high, v_high), "high"),
        f"square product of {square}, JAX": (lambda: matmul(a, a), "square"),
    }
    answers = {name: contestant for name, (contestant, _) in contestants.items()}
    reference = iter(expected[name] for _, name in contestants.values())
    rows = compete(
        answers, error=lambda answer: difference(answer, next(reference)), asked=1e-12, rounds=rounds, say=say
    )
    ours, numpy, fast, _, long, large = rows
    flops = [4 * m * n * d] * 4 + [4 * m * n * wide, 2 * square**3]
    rates = {row["name"]: count / np.asarray(row["times"]) for row, count in zip(rows, flops)}
    for row, count in zip(rows, flops):
        row["gflops"] = count / row["seconds"][1] / 1e9

    def over_square(row):
        return quartiles(rates[row["name"]] / rates[large["name"]])

    what = "rate of M·v over the rate of a square matrix product"
    targets = [
        record.target(what, over_square(ours), at_least=0.6),
        record.target(f"{what}, d = {wide}", over_square(long), at_least=0.6),
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
