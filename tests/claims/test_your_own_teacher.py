"""The statement of the chapter *Your own teacher* over random problems."""

import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from tests.extremes import extreme

SHAPES = ((1, 1, 1), (6, 3, 5), (5, 5, 3))


def draw(seed, *, lam=None):
    """A random problem, some in a corner: near or far teacher, λ over many decades, repeated samples, ReLUs off."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)]
    student = kd.TwoLayerNetwork(
        rng.normal(size=(m, d)), rng.choice([-1.0, 1.0, 0.5], m), ("tanh", "relu")[seed // 3 % 2]
    )
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if n > 1 and seed % 5 == 0:
        x[-1] = x[0] * rng.choice([-1.0, 1.0])
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = 10.0 ** rng.uniform(-3, 3) if lam is None else lam
    problem = kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam)
    return extreme(problem, seed, without=("no transfer",))


@pytest.mark.claim("leave-one-out")
def test_leave_one_out(cases, ledger):
    for seed in cases:
        ledger(claims.leave_one_out(draw(seed)))


@pytest.mark.counterexample("leave-one-out")
def test_leave_one_out_keeps_the_teachers_features():
    assert claims.leave_one_out(draw(1, lam=1.0), teacher_too=True).margin <= 0.01
