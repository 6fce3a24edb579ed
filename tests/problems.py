"""Random transfer problems for the tests, few shapes and all the corners: see `random_problem`."""

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
