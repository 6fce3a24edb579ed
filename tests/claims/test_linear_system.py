"""The statements of the chapter *The linear system* over random problems."""

import equinox as eqx
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import linear_system as checkers
from kdlib.claims.linear_system import _bidiagonal_run, _Dense, _krylov_coefficients
from kdlib.krylov import continue_bidiagonalization
from tests.extremes import SINGLES, corner_of, extreme

SHAPES = ((1, 1, 1), (6, 3, 5), (5, 8, 3), (8, 4, 2))
ACTIVATIONS = ("tanh", "relu")
LAMBDAS = (0.0, 1e-3, 0.5, 30.0)
TIMES = (0.0, 1e-12, 1e-6, 0.1, 1.0, 30.0, 1e3, 1e12)


def draw(seed, *, shape=None, lam=None, without=()):
    """A random problem in a few shapes: every activation, every strength, teachers near and far; some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)] if shape is None else shape
    # the corners with shapes of their own would be compiled for every activation
    activation = "tanh" if corner_of(seed) in SINGLES else ACTIVATIONS[seed // 4 % 2]
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], m), activation)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = LAMBDAS[seed // 8 % 4] if lam is None else lam
    return extreme(kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam), seed, without=without)


def moving_kernels(problem, times):
    """The real network, whose kernels are not frozen."""
    return kd.gradient_flow(problem, times)


@pytest.mark.claim("two-coordinates")
def test_two_coordinates(cases, ledger):
    for seed in cases:
        # rounding carries the weights along ker J, which no output sees, until the teacher's pull holds them; where
        # inputs are long, so much later than their rates, along what no unit sees, too
        problem = draw(seed, without=("long inputs",))
        # weights are seen at the latest time: every other problem is seen before it has come to rest
        late = problem.lam > 1e-6 and seed % 2
        ledger(claims.two_coordinates(problem, TIMES if late else TIMES[:-1]))


@pytest.mark.counterexample("two-coordinates")
def test_two_coordinates_needs_frozen_kernels():
    assert claims.two_coordinates(draw(1, lam=0.5), TIMES[:5], flow=moving_kernels).margin <= 0.01


@pytest.mark.claim("real-spectrum")
def test_real_spectrum(cases, ledger):
    for seed in cases:
        ledger(claims.real_spectrum(draw(seed)))


@pytest.mark.counterexample("real-spectrum")
def test_real_spectrum_needs_the_same_weights_forward_and_backward():
    problem = draw(1, lam=0.5)
    backward = np.asarray(problem.student.output_weights) * np.resize([1.0, -1.0], problem.student.width)
    assert claims.real_spectrum(problem, backward).margin <= 0.01


@pytest.mark.claim("least-squares-flow")
def test_least_squares_flow(cases, ledger):
    for seed in cases:
        # the way in modes of J of the size of λ = 1e-12 is rounding over λ
        problem = draw(seed, without=("weak transfer",))
        # so much later than the rates of long inputs, the rank decides; rounding hides it
        late = TIMES[:-1] if corner_of(seed) == "long inputs" else TIMES
        ledger(claims.least_squares_flow(problem, (*late, np.inf)))


@pytest.mark.counterexample("least-squares-flow")
def test_least_squares_flow_needs_frozen_kernels():
    assert claims.least_squares_flow(draw(1, lam=0.5), TIMES[:5], flow=moving_kernels).margin <= 0.01


def with_a_run(seed):
    """A problem for a Krylov run, which none has whose slopes are all zero, and the steps for which it lasts."""
    problem = draw(seed, shape=(12, 8, 6), lam=LAMBDAS[1 + seed // 8 % 3], without=("dead units",))
    return problem, 1 if corner_of(seed) in SINGLES else 6


@pytest.mark.claim("golub-kahan-flow")
def test_golub_kahan_flow(cases, ledger):
    for seed in cases:
        ledger(claims.golub_kahan_flow(*with_a_run(seed), TIMES))


@pytest.mark.claim("krylov-error")
def test_krylov_error(cases, ledger):
    for seed in cases:
        problem, most = with_a_run(seed)
        ledger(claims.krylov_error(problem, min(most, (2, 5)[seed % 2]), TIMES))


@pytest.mark.claim("slow-modes")
def test_slow_modes(cases, ledger):
    for seed in cases:
        problem = draw(seed)
        # a shift is a rate, in the units of a squared input: far below all rates (γI + M)⁻¹ is a small difference
        unit = np.max(np.sum(np.square(problem.x), axis=1))
        ledger(claims.slow_modes(problem, 10.0 ** (seed % 5 - 3) * unit, TIMES))


def test_krylov_error_is_tight_at_early_times():
    """The integral bound is the error itself to leading order in t."""
    problem = draw(4, shape=(12, 8, 6), lam=0.5)
    dense = _Dense.of(problem)
    time = 1e-3
    bidiagonal, beta, next_alpha, _ = _bidiagonal_run(problem, 1)
    y = _krylov_coefficients(bidiagonal, beta, [time])[0]
    c = dense.A.T @ dense.g
    error = np.linalg.norm(y * c / np.linalg.norm(c) - dense.singular_flow([time])[0])
    bound = next_alpha * bidiagonal[1, 0] * time * y[0] / 2  # ∫η = tη/2 where η grows in proportion to t
    assert 0.99 < error / bound < 1.01


def one_wrong_coefficient(system, state, coefficients, readout):
    """The library's recurrence with its first β too large by a thousandth."""
    state, alphas, betas, outputs = continue_bidiagonalization(system, state, coefficients, readout)
    return state, alphas, betas.at[0].multiply(1.001), outputs


def test_golub_kahan_flow_notices_a_wrong_recurrence(monkeypatch):
    monkeypatch.setattr(checkers, "_steps", one_wrong_coefficient)
    assert claims.golub_kahan_flow(draw(4, shape=(12, 8, 6), lam=0.5), 6, TIMES).margin <= 0.01


@pytest.mark.counterexample("krylov-error")
def test_krylov_error_needs_frozen_kernels(monkeypatch):
    problem = draw(1, shape=(12, 8, 6), lam=0.5)
    moved = kd.gradient_flow(problem, [1.0]).network.weights - problem.student.weights
    monkeypatch.setattr(_Dense, "singular_flow", lambda dense, times: np.asarray(moved).reshape(1, -1))
    assert claims.krylov_error(problem, 5, (1.0,)).margin <= 0.01


def test_krylov_error_notices_a_wrong_recurrence(monkeypatch):
    monkeypatch.setattr(checkers, "_steps", one_wrong_coefficient)
    assert claims.krylov_error(draw(4, shape=(12, 8, 6), lam=0.5), 5, (0.1,)).margin <= 0.01


@pytest.mark.counterexample("slow-modes")
def test_slow_modes_need_frozen_kernels(monkeypatch):
    problem = draw(1, lam=0.5)
    moved = kd.gradient_flow(problem, [100.0]).network.weights - problem.student.weights
    point = eqx.tree_at(lambda point: point.displacement, kd.fixed_point(problem), moved)
    monkeypatch.setattr(checkers, "fixed_point", lambda problem: point)
    assert claims.slow_modes(problem, 1.0, TIMES).margin <= 0.01


@pytest.mark.counterexample("slow-modes")
def test_slow_modes_need_a_positive_shift():
    # G is negative definite, so that T lies below I
    assert claims.slow_modes(draw(1, lam=0.5), -100.0, TIMES).margin <= 0.01
