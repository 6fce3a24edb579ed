"""The statements of the chapter *The student that beats its teacher* over random problems."""

import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import noisy_labels as checkers
from tests.extremes import SCALES, SINGULAR, corner_of, extreme

SQUARE = ((1, 1, 1), (6, 3, 5), (5, 4, 6))  # (m, n, d) with n ≤ d: every H_k invertible with tanh
ANY = ((1, 1, 1), (6, 3, 5), (5, 9, 3))


def draw(seed, shapes, *, lam=None, activation=None, without=()):
    """A random problem, a truth on its samples, a noise, and three other inputs with their truth; some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    activation = ("tanh", "relu")[seed // 3 % 2] if activation is None else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, activation)
    x, at = rng.normal(size=(n, d)), rng.normal(size=(3, d))
    x, at = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, at))
    if shapes is ANY and n > 1 and seed % 5 == 0:
        x[-1] = rng.choice([-1.0, 1.0]) * x[0]
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = 10.0 ** rng.uniform(-3, 2) if lam is None else lam
    problem = kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam)
    truth = rng.choice([-1.0, 1.0], n) if seed % 2 else rng.normal(size=n)
    problem = extreme(problem, seed, without=without)
    n, d = problem.x.shape
    at = SCALES.get(corner_of(seed), 1.0) * at[:, :d]
    at = np.abs(at) if corner_of(seed) == "dead units" else at
    return problem, truth[:n], 10.0 ** rng.uniform(-1.5, 1), at, rng.normal(size=3)


def errors(seed, n):
    """Five label errors and five teacher errors, from independent to nearly the same."""
    rng = np.random.default_rng([seed, n])
    labels, own = rng.normal(size=(2, 5, n)) * 10.0 ** rng.uniform(-1, 1, size=(2, 1, 1))
    return labels, own + rng.choice([0.0, 0.3, 1.0, 3.0, -0.5]) * labels


@pytest.mark.claim("transfer-as-prior")
def test_transfer_as_prior(cases, ledger):
    for seed in cases:
        # what λ = 1e-12 leaves of modes of its own size is rounding over λ, here and below
        problem, *_ = draw(seed, ANY, without=("weak transfer",))
        v = np.random.default_rng(seed).normal(size=(4, *problem.student.weights.shape))
        ledger(claims.transfer_as_prior(problem, v))


@pytest.mark.counterexample("transfer-as-prior")
def test_transfer_as_prior_needs_the_metric_of_the_data():
    problem, *_ = draw(1, ANY, activation="tanh", lam=1.0)
    v = np.ones((1, *problem.student.weights.shape))
    assert claims.transfer_as_prior(problem, v, metric=np.eye(problem.student.weights.size)).margin <= 0.01


@pytest.mark.claim("posterior-mean")
def test_posterior_mean(cases, ledger):
    for seed in cases:
        problem, _, noise, at, _ = draw(seed, ANY, without=("no transfer", "weak transfer"))
        ledger(claims.posterior_mean(problem, noise, at))


@pytest.mark.counterexample("posterior-mean")
def test_posterior_mean_needs_the_ratio_of_the_precisions():
    problem, _, noise, at, _ = draw(1, ANY, activation="tanh", lam=1.0)
    assert claims.posterior_mean(problem, noise, at, prior=2.0).margin <= 0.01


@pytest.mark.claim("calibrated-student")
def test_calibrated_student(cases, ledger):
    for seed in cases:
        # a prior of a millionth would stand beside the rounding of the weights around which it lies
        problem, _, noise, at, _ = draw(seed, ANY, without=("no transfer", "strong transfer"))
        ledger(claims.calibrated_student(problem, noise, at))


@pytest.mark.counterexample("calibrated-student")
def test_calibrated_student_needs_the_strength_of_the_prior():
    problem, _, noise, at, _ = draw(1, ANY, activation="tanh", lam=1.0)
    assert claims.calibrated_student(problem, noise, at, used=2.0).margin <= 0.01


@pytest.mark.claim("risk-of-the-limit")
def test_risk_of_the_limit(cases, ledger):
    for seed in cases:
        ledger(claims.risk_of_the_limit(*draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))[:3]))


@pytest.mark.counterexample("risk-of-the-limit")
def test_risk_of_the_limit_needs_invertible_kernels():
    assert claims.risk_of_the_limit(*draw(2, ANY, activation="relu", lam=1.0)[:3]).margin <= 0.01


@pytest.mark.counterexample("risk-of-the-limit")
def test_risk_of_the_limit_needs_a_noise_of_mean_zero(monkeypatch):
    monkeypatch.setattr(checkers, "_white_noise", lambda n, noise: np.full((2, n), noise))
    assert claims.risk_of_the_limit(*draw(1, SQUARE, activation="tanh", lam=1.0)[:3]).margin <= 0.01


@pytest.mark.claim("optimal-strength")
def test_optimal_strength(cases, ledger):
    for seed in cases:
        ledger(claims.optimal_strength(*draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))[:3]))


@pytest.mark.counterexample("optimal-strength")
def test_optimal_strength_needs_invertible_kernels():
    assert claims.optimal_strength(*draw(2, ANY, activation="relu")[:3]).margin <= 0.01


@pytest.mark.claim("beats-both")
def test_beats_both(cases, ledger):
    for seed in cases:
        ledger(claims.beats_both(*draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))[:3]))


@pytest.mark.counterexample("beats-both")
def test_beats_both_needs_invertible_kernels():
    problem, truth, noise, *_ = draw(2, ANY, activation="relu")
    assert claims.beats_both(problem, truth, noise).margin <= 0.01


@pytest.mark.claim("correlated-errors")
def test_correlated_errors(cases, ledger):
    for seed in cases:
        problem, truth, *_ = draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))
        ledger(claims.correlated_errors(problem, truth, *errors(seed, truth.size)))


@pytest.mark.counterexample("correlated-errors")
def test_correlated_errors_needs_invertible_kernels():
    problem, truth, *_ = draw(2, ANY, activation="relu", lam=1.0)
    assert claims.correlated_errors(problem, truth, *errors(2, truth.size)).margin <= 0.01


@pytest.mark.claim("flipped-labels")
def test_flipped_labels(cases, ledger):
    for seed in cases:
        problem, truth, *_ = draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))
        chance = np.random.default_rng(seed).uniform(0, 1)
        ledger(claims.flipped_labels(problem, np.where(truth > 0, 1.0, -1.0), chance))


@pytest.mark.counterexample("flipped-labels")
def test_flipped_labels_needs_labels_of_size_one():
    problem, *_ = draw(1, SQUARE, activation="tanh", lam=1.0)
    assert claims.flipped_labels(problem, np.array([2.0, -1.0, 0.5]), 0.2).margin <= 0.01


@pytest.mark.claim("same-labels")
def test_same_labels(cases, ledger):
    for seed in cases:
        problem, truth, noise, *_ = draw(seed, SQUARE, activation="tanh", without=("no transfer", *SINGULAR))
        ledger(claims.same_labels(problem, truth, noise, 10.0 ** np.random.default_rng(seed).uniform(-1, 2)))


@pytest.mark.counterexample("same-labels")
def test_same_labels_needs_invertible_kernels():
    problem, truth, noise, *_ = draw(2, ANY, activation="relu", lam=1.0)
    assert claims.same_labels(problem, truth, noise, 10.0).margin <= 0.01


@pytest.mark.claim("risk-with-projectors")
def test_risk_with_projectors(cases, ledger):
    for seed in cases:
        ledger(claims.risk_with_projectors(*draw(seed, ANY, without=("no transfer", "weak transfer"))))


@pytest.mark.counterexample("risk-with-projectors")
def test_risk_with_projectors_needs_a_white_noise(monkeypatch):
    monkeypatch.setattr(checkers, "_white_noise", lambda n, noise: noise * np.ones((2, n)) * [[1.0], [-1.0]])
    assert claims.risk_with_projectors(*draw(2, ANY, activation="relu", lam=1.0)).margin <= 0.01


@pytest.mark.claim("noise-budget")
def test_noise_budget(cases, ledger):
    for seed in cases:
        problem, _, noise, *_ = draw(seed, ANY, without=("no transfer",))
        ledger(claims.noise_budget(problem, noise))


def test_noise_budget_is_attained():
    """Where all units see the same range the bound is an equality, for n ≤ d and for n > d with λ ≥ a."""
    for shape, lam in (((4, 3, 5), 0.1), ((4, 3, 5), 7.0), ((4, 9, 3), 1.5)):
        problem, *_ = draw(0, (shape,), activation="tanh", lam=lam)
        weights = jnp.broadcast_to(problem.student.weights[0], problem.student.weights.shape)
        same = kd.TransferProblem(
            problem.student.with_weights(weights), problem.x, problem.y, problem.phi, lam=lam * problem.student.a
        )
        bound = kd.bounds.noise_variance(same, 0.7)
        np.testing.assert_allclose(bound.measured, bound.value, rtol=1e-9)


@pytest.mark.counterexample("noise-budget")
def test_noise_budget_needs_a_teacher(monkeypatch):
    """Without a teacher the student takes up all the noise that it can see."""
    run = checkers._ends
    weak = draw(1, SQUARE, activation="tanh", lam=1e-9)[0]
    monkeypatch.setattr(checkers, "_ends", lambda dense, *rest: run(checkers._Dense.of(weak), *rest))
    problem, _, noise, *_ = draw(1, SQUARE, activation="tanh", lam=5.0)
    assert claims.noise_budget(problem, noise).margin <= 0.01
