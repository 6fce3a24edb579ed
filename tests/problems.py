"""Random transfer problems for the tests, few shapes and all the corners: see `random_problem`."""

import functools

import equinox as eqx
import numpy as np

import kdlib as kd
from tests.dense import ACTIVATIONS

# (m, n, d): n < d, n > d, n = d, one unit, one sample, one dimension
SHAPES = [(7, 5, 8), (6, 12, 4), (5, 6, 6), (1, 6, 3), (8, 1, 5), (6, 5, 1)]
LAMBDAS = [0.0, 1e-3, 0.1, 0.5, 2.0, 1e3]
CORNERS = ["plain", "zero output weights", "repeated samples", "antipodal samples", "no start error"]


def random_problem(shape, activation, seed):
    """Return plain arrays ``weights, signs, activation, x, y, phi, lam`` for `TransferProblem` and `Dense` alike."""
    rng = np.random.default_rng([*shape, len(activation), seed])
    m, n, d = shape
    weights, signs = rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], size=m)
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    phi = np.tanh(weights @ x.T) + rng.normal(size=(m, n)) / np.sqrt(m)
    corner = CORNERS[seed % len(CORNERS)]
    if corner == "zero output weights":
        signs[: (m + 1) // 2] = 0.0
    if corner == "repeated samples":
        x[-1] = x[0]
    if corner == "antipodal samples":
        x[-1] = -x[0]
    if corner == "no start error":
        y = signs / np.sqrt(m) @ ACTIVATIONS[activation][0](weights @ x.T)
    return weights, signs, activation, x, y, phi, LAMBDAS[seed % len(LAMBDAS)]


def as_transfer_problem(weights, signs, activation, x, y, phi, lam):
    return kd.TransferProblem(kd.TwoLayerNetwork(weights, signs, activation), x, y, phi, lam=lam)


FEW_SHAPES = ((1, 6, 3), (8, 1, 5), (6, 5, 1), (5, 6, 6), (7, 5, 8))


@functools.cache
def any_problem(
    seed, shapes=FEW_SHAPES, *, activation=None, sizes=(-6, -3, 3, 6), zero=False, alike=False, repeated=True
):
    """Return a random transfer problem with an output that can move, from the corners of what the library takes.

    λ from 1e-12 to 1e12, both often, and sometimes 0 if ``zero``; inputs of length 1, or 10 to one of the ``sizes``;
    ``repeated`` and antipodal samples; silent units; teachers near, far and at the start itself. Units ``alike`` have
    one kernel.
    """
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    activation = ("tanh", "relu")[seed % len(shapes) % 2] if activation is None else activation
    weights, x, signs = rng.normal(size=(m, d)), rng.normal(size=(n, d)), rng.choice([-1.0, 1.0], m)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    corner = rng.choice(["plain", "silent units", "repeated samples", "antipodal samples"])
    if corner == "silent units":
        signs[m - m // 2 :] = 0.0
    if n > 1 and repeated and corner.endswith("samples"):
        x[-1] = x[0] if corner.startswith("repeated") else -x[0]
    weights[0] *= np.sign(weights[0] @ x[0])  # a ReLU is on there
    if alike:
        weights = weights[:1] * (rng.choice([-1.0, 1.0], (m, 1)) if activation == "tanh" else np.ones((m, 1)))
    size = 10.0 ** rng.choice([0, 0, *sizes])
    weights, x = weights / max(size, 1.0), x * size  # a tanh at 1e6 has no slope
    student = kd.TwoLayerNetwork(weights, signs, activation)
    phi = np.asarray(student.features(x)) + rng.choice([1.0, m**-0.5, 0.0]) * rng.normal(size=(m, n))
    ends = [1e-12, 1e12, *([0.0, 0.0] if zero else [])]
    lam = rng.choice([*ends, 10.0 ** rng.uniform(-12, 12), *10.0 ** rng.uniform(-3, 3, 2)])
    return kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam)


def measured_on(bound, other):
    """The bound beside what was measured elsewhere."""
    return eqx.tree_at(lambda bound: bound.measured, bound, other.measured)
