"""The statements of the chapter *How wide is wide enough?*, most of them with networks that are really trained."""

import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.bounds import lazy
from kdlib.claims.kernels import SLOPE
from kdlib.claims.lazy_training import CURVATURE
from tests.extremes import corner_of, extreme

SMOOTH = ("tanh", "erf", "softplus")
SHAPES = ((8, 4, 3), (1, 1, 1), (16, 3, 4))  # (m, n, d): n > d, one unit, n < d; one activation each
TIMES = (0.01, 0.3, 3.0, 30.0)
# where the bounds lie below the rounding of the features
UNSEEN = ("short inputs", "strong transfer")


def draw(seed, *, shape=None, activation=None, lam=None, without=()):
    """A random problem, some in a corner: any λ, near and far teachers, repeated samples, silent units."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)] if shape is None else shape
    signs = rng.choice([-1.0, 1.0], m)
    if m > 1 and seed % 9 == 0:
        signs[: m // 2] = 0.0
    activation = SMOOTH[seed % 3] if activation is None else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, activation)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if n > 1 and seed % 5 == 0:
        x[-1] = rng.choice([-1.0, 1.0]) * x[0]
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5, 0.0])
    if lam is None:
        lam = 0.0 if seed % 4 == 0 else 10.0 ** rng.uniform(-3, 1)
    return extreme(kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam), seed, without=without)


def moment(seed, *, without=()):
    """A time; in units of the rates where these are of 1e12, since no explicit integrator follows them for long."""
    fast = corner_of(seed) in {"strong transfer", "long inputs"}.difference(without)
    return TIMES[seed % 4] * (1e-12 if fast else 1.0)


def forcing(seed):
    """Jacobians, pulls, pushes and strides on 6 intervals, and a start; some Jacobians singular, sizes over decades."""
    rng = np.random.default_rng(seed)
    jacobians = rng.normal(size=(6, 5, 4)) * 10.0 ** rng.uniform(-2, 1.5)
    if seed % 3 == 0:
        jacobians[:, :, -1] = 0.0
    jacobians = jacobians[:1].repeat(6, axis=0) if seed % 2 else jacobians
    pulls, pushes = rng.normal(size=(6, 4)), rng.normal(size=(6, 5)) * 10.0 ** rng.uniform(-3, 0)
    start = rng.normal(size=5) * 10.0 ** rng.uniform(-3, 0)
    return jacobians, pulls, pushes, 10.0 ** rng.uniform(-3, 1, size=6), start


def all_together(width):
    """Every unit starts at the same point, where slope and curvature are largest, and goes the same way."""
    student = kd.TwoLayerNetwork(np.zeros((width, 1)), np.ones(width), lambda z: 1 - jnp.exp(-z))
    return kd.TransferProblem(student, [[1.0]], [1.0], None, lam=0.0)


def far(width, *, lam=10.0):
    """Tanh units, each with a teacher at a distance of its own, O(1)."""
    rng = np.random.default_rng(0)
    student = kd.TwoLayerNetwork(rng.normal(size=(width, 3)), np.tile([1.0, -1.0], width // 2))
    x = np.eye(3)
    return kd.TransferProblem(student, x, np.ones(3), np.tanh(rng.normal(size=(width, 3))), lam=lam)


@pytest.mark.claim("contraction")
def test_contraction(cases, ledger):
    for seed in cases:
        ledger(claims.contraction(*forcing(seed)))


@pytest.mark.counterexample("contraction")
def test_contraction_needs_a_kernel_without_negative_eigenvalues():
    jacobians, pulls, pushes, _, start = forcing(1)
    kernels = -jacobians @ jacobians.transpose(0, 2, 1)
    assert claims.contraction(jacobians, pulls, pushes, np.full(6, 0.2), start, kernels=kernels).margin <= 0.01


@pytest.mark.counterexample("contraction")
def test_contraction_needs_the_pull_to_go_through_the_same_jacobian():
    jacobians, pulls, pushes, strides, start = forcing(1)
    assert claims.contraction(jacobians, pulls, pushes, strides, start, kernels=np.zeros((6, 5, 5))).margin <= 0.01


def test_contraction_is_attained_in_either_part():
    ones, zeros = np.ones((1, 1, 1)), np.zeros((1, 1))
    # nothing contracts a push that A does not see
    assert claims.contraction(0 * ones, zeros, ones[0], np.ones(1), np.ones(1)).holds
    # a pull that grows like exp(t) as its mode decays like exp(-t): Cauchy-Schwarz is an equality, but for 1 - exp(-2t)
    nodes = np.linspace(0.0, 6.0, 2001)
    pulls, strides = np.exp((nodes[1:] + nodes[:-1]) / 2)[:, None], np.diff(nodes)
    jacobians, pushes = np.ones((2000, 1, 1)), np.zeros((2000, 1))
    assert claims.contraction(jacobians, pulls, pushes, strides, np.zeros(1)).holds
    end = np.sum(np.exp(nodes[1:] - 6.0) * pulls[:, 0] * strides)
    assert end / np.sqrt(np.sum(pulls**2 * strides[:, None]) / 2) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.claim("gap-equation")
def test_gap_equation(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed), np.random.default_rng([seed, 1])
        moves = rng.normal(size=(2, *problem.student.weights.shape)) * 10.0 ** rng.uniform(-2, 0.5)
        network = problem.student.with_weights(problem.student.weights + moves[0])
        ledger(claims.gap_equation(problem, network, moves[1]))


@pytest.mark.counterexample("gap-equation")
def test_gap_equation_needs_the_kernels_of_the_start():
    problem = draw(1)
    other = problem.student.with_weights(problem.student.weights + 0.5)
    assert claims.gap_equation(problem, other, np.ones(other.weights.shape), frozen=other).margin <= 0.01


@pytest.mark.claim("weight-movement", trains=True)
def test_weight_movement(cases, ledger):
    for seed in cases:
        ledger(claims.weight_movement(draw(seed), moment(seed)))


@pytest.mark.counterexample("weight-movement")
def test_weight_movement_needs_a_bound_of_the_slope(monkeypatch):
    monkeypatch.setitem(SLOPE, "tanh", 0.1)
    assert claims.weight_movement(draw(1, activation="tanh", lam=1.0), 0.01).margin <= 0.01


@pytest.mark.claim("kernel-drift", trains=True)
def test_kernel_drift(cases, ledger):
    for seed in cases:
        ledger(claims.kernel_drift(draw(seed), moment(seed)))


@pytest.mark.counterexample("kernel-drift")
def test_kernel_drift_needs_a_slope_without_jumps():
    # the ReLU's curvature is 0 wherever it has one
    assert claims.kernel_drift(draw(2, shape=(16, 4, 3), activation="relu", lam=0.0), 1.0).margin <= 0.01


@pytest.mark.claim("finite-width-gap", trains=True)
def test_finite_width_gap(cases, ledger):
    for seed in cases:
        ledger(claims.finite_width_gap(draw(seed, without=UNSEEN), moment(seed, without=UNSEEN)))


@pytest.mark.counterexample("finite-width-gap")
def test_finite_width_gap_needs_a_slope_without_jumps():
    assert claims.finite_width_gap(draw(2, shape=(16, 4, 3), activation="relu", lam=0.0), 1.0).margin <= 0.01


@pytest.mark.counterexample("finite-width-gap")
def test_finite_width_gap_needs_the_whole_curvature(monkeypatch):
    monkeypatch.setitem(CURVATURE, "softplus", 1e-6)
    assert claims.finite_width_gap(draw(2, shape=(16, 4, 3), activation="softplus", lam=1.0), 1.0).margin <= 0.01


@pytest.mark.claim("finite-width-rate", trains=True)
def test_finite_width_rate(cases, ledger):
    for seed in cases:
        ledger(claims.finite_width_rate(draw(seed, without=UNSEEN), moment(seed, without=UNSEEN)))


@pytest.mark.counterexample("finite-width-rate")
def test_finite_width_rate_needs_a_near_teacher():
    problem = far(128)
    assert claims.finite_width_rate(problem, 0.01).holds  # with its own, large kappa
    assert claims.finite_width_rate(problem, 0.01, kappa=0.1).margin <= 0.01


@pytest.mark.counterexample("finite-width-rate")
def test_finite_width_rate_needs_a_start_near_its_labels():
    student = kd.TwoLayerNetwork(np.zeros((128, 3)), np.ones(128), "softplus")
    problem = kd.TransferProblem(student, np.eye(3), np.zeros(3), None, lam=0.0)
    assert claims.finite_width_rate(problem, 1.0).holds
    assert claims.finite_width_rate(problem, 1.0, misfit=1.0).margin <= 0.01


@pytest.mark.claim("finite-width-gap-posterior", trains=True)
def test_finite_width_gap_posterior(cases, ledger):
    for seed in cases:
        ledger(claims.finite_width_gap_posterior(draw(seed, without=UNSEEN), [moment(seed, without=UNSEEN)]))


@pytest.mark.counterexample("finite-width-gap-posterior")
def test_finite_width_gap_posterior_needs_a_slope_without_jumps(monkeypatch):
    monkeypatch.setitem(lazy._SUPREMA, "relu", (1.0, 0.0))
    problem = draw(2, shape=(16, 4, 3), activation="relu", lam=0.0)
    assert claims.finite_width_gap_posterior(problem, [1.0]).margin <= 0.01
