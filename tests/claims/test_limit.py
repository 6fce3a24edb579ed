"""The statements of the chapter *What the student learns* over random problems."""

import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import limit as checkers
from tests.extremes import SINGLES, SINGULAR, STRENGTHS, clock, corner_of, extreme

SQUARE = ((1, 1, 1), (6, 3, 5), (8, 4, 4))
ANY = ((1, 1, 1), (6, 3, 5), (5, 9, 3))


def draw(seed, shapes, *, lam=None, activation=None, without=()):
    """A random problem with unit rows, a near or far teacher, and signs of several sizes; some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    activation = ("tanh", "relu")[seed // 3 % 2] if activation is None else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, activation)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = 10.0 ** rng.uniform(-3, 2) if lam is None else lam
    return extreme(kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam), seed, without=without)


def reachable(seed, *, activation="tanh", size=0.6):
    """A problem on orthonormal samples whose interpolated features lie well inside the range of tanh."""
    rng = np.random.default_rng(seed)
    m, n, d = {"one unit": (1, 3, 5), "one sample": (4, 1, 5)}.get(corner_of(seed), (4, 3, 5))
    student = kd.TwoLayerNetwork(0.3 * rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], m), activation)
    x = np.linalg.qr(rng.normal(size=(d, n)))[0].T
    phi = size * rng.uniform(-1, 1, size=(m, n))
    y = student.output_weights @ phi + 0.2 * rng.normal(size=n)
    problem = kd.TransferProblem(student, x, y, phi, lam=rng.uniform(0.5, 2.0))
    # without a teacher there is no such limit, and a weak one pulls for longer than a network can be followed
    return extreme(problem, seed, without=("no transfer", "weak transfer", *SINGULAR, *SINGLES))


@pytest.mark.claim("interpolation")
def test_interpolation(cases, ledger):
    for seed in cases:
        ledger(claims.interpolation(draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))))


@pytest.mark.counterexample("interpolation")
def test_interpolation_needs_positive_kernels():
    assert claims.interpolation(draw(2, ANY, activation="relu")).margin <= 0.01


@pytest.mark.counterexample("interpolation")
def test_interpolation_needs_a_teacher():
    assert claims.interpolation(draw(1, SQUARE, activation="tanh", lam=0.0)).margin <= 0.01


@pytest.mark.claim("stationary-interpolation", trains=True)
def test_stationary_interpolation(cases, ledger):
    for seed in cases:
        problem = reachable(seed)
        ledger(claims.stationary_interpolation(problem, 200 * clock(problem)))


@pytest.mark.counterexample("stationary-interpolation")
def test_stationary_interpolation_needs_positive_kernels():
    problem = reachable(0)
    dead = problem.student.with_weights(-jnp.abs(problem.student.weights) - 1.0)
    relu = kd.TwoLayerNetwork(dead.weights, dead.signs, "relu")
    problem = kd.TransferProblem(relu, np.abs(problem.x), problem.y, problem.phi, lam=problem.lam)
    assert claims.stationary_interpolation(problem, 200.0).margin <= 0.01


@pytest.mark.claim("projected-interpolation")
def test_projected_interpolation(cases, ledger):
    for seed in cases:
        ledger(claims.projected_interpolation(draw(seed, ANY, without=("no transfer",))))


@pytest.mark.counterexample("projected-interpolation")
def test_projected_interpolation_needs_frozen_kernels():
    problem = draw(2, ANY, activation="tanh", lam=0.5)
    end = kd.gradient_flow(problem, jnp.asarray([300.0])).network
    assert claims.projected_interpolation(problem, end).margin <= 0.01


@pytest.mark.claim("relative-capacity")
def test_relative_capacity(cases, ledger):
    for seed in cases:
        ledger(claims.relative_capacity(draw(seed, ANY, without=("no transfer",))))


@pytest.mark.claim("strong-transfer")
def test_strong_transfer(cases, ledger):
    for seed in cases:
        ledger(claims.strong_transfer(draw(seed, ANY, without=("no transfer",))))


def slopes_of(seed):
    """ReLU in one dimension, any otherwise: tanh' at three points of a line has a rank that rounding hides at λ = 0."""
    return "relu" if corner_of(seed) == "one dimension" else None


@pytest.mark.claim("no-transfer")
def test_no_transfer(cases, ledger):
    for seed in cases:
        ledger(claims.no_transfer(draw(seed, ANY, lam=0.0, activation=slopes_of(seed), without=STRENGTHS)))


@pytest.mark.counterexample("no-transfer")
def test_no_transfer_needs_lambda_zero():
    assert claims.no_transfer(draw(1, ANY, activation="tanh", lam=1e-6)).margin <= 0.01


@pytest.mark.claim("vanishing-transfer")
def test_vanishing_transfer(cases, ledger):
    for seed in cases:
        # the bounds grow with λ: of a strong transfer they say nothing; where nothing moves, no transfer vanishes
        lam, without = 10.0 ** -(3 + seed % 6), ("no transfer", "strong transfer", "dead units")
        ledger(claims.vanishing_transfer(draw(seed, ANY, lam=lam, activation=slopes_of(seed), without=without)))


@pytest.mark.counterexample("vanishing-transfer")
def test_vanishing_transfer_needs_a_positive_lambda():
    assert claims.vanishing_transfer(draw(1, ANY, activation="tanh", lam=0.0)).margin <= 0.01


def where_the_network_ends(problem):
    """What `_least_squares_end` returns, with the trained network's features: its kernels are not frozen."""
    end = kd.gradient_flow(problem, jnp.asarray([30.0])).network
    return np.asarray(end.features(problem.x)), None


@pytest.mark.counterexample("relative-capacity")
def test_relative_capacity_needs_frozen_kernels(monkeypatch):
    monkeypatch.setattr(checkers, "_least_squares_end", where_the_network_ends)
    assert claims.relative_capacity(draw(2, ANY, activation="tanh", lam=0.5)).margin <= 0.01


@pytest.mark.counterexample("strong-transfer")
def test_strong_transfer_needs_frozen_kernels(monkeypatch):
    monkeypatch.setattr(checkers, "_least_squares_end", where_the_network_ends)
    assert claims.strong_transfer(draw(2, ANY, activation="tanh", lam=30.0)).margin <= 0.01
