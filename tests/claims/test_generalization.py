"""The statements of the chapter *Does it help on new images?* over random problems and small populations."""

import jax
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import generalization as checkers
from tests.extremes import STRENGTHS, extreme

SHAPES = ((1, 1, 1), (6, 3, 5), (5, 7, 3), (4, 2, 2))


def draw(seed, *, lam=None, without=()):
    """A random problem: repeated and antipodal samples, dead output weights among them; some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    if seed % 9 == 3 and m > 1:
        signs[0] = 0.0
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, ("tanh", "relu")[seed // 4 % 2])
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if seed % 5 == 1 and n > 1:
        x[-1] = x[0] * (-1) ** (seed // 5)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = 10.0 ** rng.uniform(-3, 2) if lam is None else lam
    return extreme(kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam), seed, without=without)


def population(seed, size=3, dim=3):
    """A start, a teacher and a few equally likely rows with labels, some of them contradictory."""
    rng = np.random.default_rng(seed)
    student = kd.TwoLayerNetwork(rng.normal(size=(4, dim)), rng.choice([-1.0, 1.0], 4), ("tanh", "relu")[seed % 2])
    teacher = student.with_weights(student.weights + rng.normal(size=(4, dim)) * rng.choice([0.1, 1.0]))
    x = rng.normal(size=(size, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True) * rng.choice([1.0, 2.0])
    y = rng.choice([-1.0, 1.0], size)
    if seed % 3 == 0:
        x[1], y[1] = x[0], -y[0]
    return student, teacher, x, y, rng


@pytest.mark.claim("rademacher-complexity")
def test_rademacher_complexity(cases, ledger):
    for seed in cases:
        problem = draw(seed)
        ledger(claims.rademacher_complexity(problem.student, problem.x, 10.0 ** (seed % 5 - 2)))


@pytest.mark.counterexample("rademacher-complexity")
def test_rademacher_complexity_needs_random_signs():
    net, x = draw(1).student, np.tile(np.eye(5)[:1], (3, 1))
    assert claims.rademacher_complexity(net, x, 1.0, signs=np.ones((1, 3))).margin <= 0.01


@pytest.mark.claim("rademacher-from-below")
def test_rademacher_from_below(cases, ledger):
    for seed in cases:
        problem = draw(seed)
        ledger(claims.rademacher_from_below(problem.student, problem.x, 10.0 ** (seed % 5 - 2)))


@pytest.mark.counterexample("rademacher-from-below")
def test_rademacher_from_below_needs_independent_signs():
    net, x = draw(3).student, np.tile(np.eye(2)[:1], (2, 1))
    assert claims.rademacher_from_below(net, x, 1.0, signs=[[1.0, -1.0], [-1.0, 1.0]]).margin <= 0.01


@pytest.mark.claim("expected-deviation")
def test_expected_deviation(cases, ledger):
    for seed in cases:
        student, _, x, y, rng = population(seed)
        radius, margin = 10.0 ** rng.uniform(-2, 1), 10.0 ** rng.uniform(-1, 1)
        ledger(claims.expected_deviation(student, x, y, (1, 2, 4)[seed % 3], radius, margin))


@pytest.mark.counterexample("expected-deviation")
def test_expected_deviation_needs_independent_draws():
    silent = kd.TwoLayerNetwork(np.zeros((2, 3)), np.array([1.0, -1.0]))
    assert claims.expected_deviation(silent, np.eye(3), np.ones(3), 12, 1.0, 0.8, copies=12).margin <= 0.01


@pytest.mark.claim("generalization-bound")
def test_generalization_bound(cases, ledger):
    for seed in cases:
        student, teacher, x, y, rng = population(seed)
        lam, delta, margin = 10.0 ** rng.uniform(-3, 3), 10.0 ** rng.uniform(-3, -0.05), 10.0 ** rng.uniform(-1, 0.3)
        sample = rng.integers(0, 3, 30)
        ledger(claims.generalization_bound(student, teacher, lam, x, y, sample, delta, margin=margin))


@pytest.mark.counterexample("generalization-bound")
def test_generalization_bound_needs_independent_draws():
    student, teacher, x, y, _ = population(1)
    check = claims.generalization_bound(student, teacher, 1.0, x, y, np.zeros(400, int), 0.1, copies=400)
    assert check.margin <= 0.01 and check.part == "probability"


@pytest.mark.counterexample("generalization-bound")
def test_generalization_bound_needs_a_start_that_has_not_seen_the_sample():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(200, 60)), 2, axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y, sample = np.tile([1.0, -1.0], 200), 2 * rng.permutation(200)[:60] + rng.integers(0, 2, 60)
    blank = kd.TwoLayerNetwork.init(jax.random.key(0), 12, 60)

    def memorise(inputs, labels):
        # each row gets its label: the same weights for all units, along the shortest that fit
        fit = np.linalg.lstsq(inputs, 4.0 * labels, rcond=None)[0]
        return kd.TwoLayerNetwork(np.tile(fit, (12, 1)), np.full(12, 12**-0.5), "tanh")

    start = memorise(x[sample], y[sample])
    check = claims.generalization_bound(blank, start, 1e3, x, y, sample, 0.5, margin=0.9, start=memorise)
    assert check.margin <= 0.01 and check.part == "this sample"


@pytest.mark.claim("displacement-norm")
def test_displacement_norm(cases, ledger):
    for seed in cases:
        # with λ = 1e-12 the way in modes of H̄ of that size is rounding over λ
        ledger(claims.displacement_norm(draw(seed, without=("no transfer", "weak transfer"))))


@pytest.mark.counterexample("displacement-norm")
def test_displacement_norm_needs_a_positive_lambda():
    assert claims.displacement_norm(draw(1, lam=0.0)).margin <= 0.01


def where_the_network_ends(problem):
    """What `_least_squares_end` returns, for the trained network: its kernels are not frozen."""
    end = kd.gradient_flow(problem, [30.0]).network
    v = np.asarray(end.weights - problem.student.weights).ravel()
    return np.asarray(end.features(problem.x)), v


@pytest.mark.counterexample("displacement-norm")
def test_displacement_norm_needs_frozen_kernels(monkeypatch):
    monkeypatch.setattr(checkers, "_least_squares_end", where_the_network_ends)
    assert claims.displacement_norm(draw(1, lam=0.5)).margin <= 0.01


@pytest.mark.claim("norm-without-teacher")
def test_norm_without_teacher(cases, ledger):
    for seed in cases:
        ledger(claims.norm_without_teacher(draw(seed, lam=0.0, without=STRENGTHS)))


@pytest.mark.counterexample("norm-without-teacher")
def test_norm_without_teacher_needs_lambda_zero():
    assert claims.norm_without_teacher(draw(1, lam=1e-6)).margin <= 0.01


@pytest.mark.claim("norm-jump")
def test_norm_jump(cases, ledger):
    for seed in cases:
        ledger(claims.norm_jump(draw(seed, lam=10.0 ** -(3 + seed % 6), without=("no transfer",))))


@pytest.mark.counterexample("norm-jump")
def test_norm_jump_needs_a_positive_lambda():
    assert claims.norm_jump(draw(1, lam=0.0)).margin <= 0.01


@pytest.mark.claim("same-sample")
def test_same_sample(cases, ledger):
    for seed in cases:
        ledger(claims.same_sample(draw(seed, without=("no transfer",))))


@pytest.mark.counterexample("same-sample")
def test_same_sample_needs_the_same_labels():
    problem = draw(1)
    assert claims.same_sample(problem, labels=-np.asarray(problem.y)).margin <= 0.01
