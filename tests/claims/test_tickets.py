"""The statements of the chapter *How much of the teacher is needed?* over random problems."""

import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from tests.extremes import SINGULAR, extreme

SQUARE = ((2, 1, 1), (6, 3, 5), (5, 4, 4))
ANY = ((2, 1, 1), (6, 3, 5), (5, 7, 3))


def draw(seed, shapes, *, lam=None, activation=None, equal=False, without=()):
    """A random problem: near or far teacher, λ over many decades, repeated and antipodal samples, several signs."""
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    signs = rng.choice([-1.0, 1.0], m) * (1.0 if equal else rng.choice([1.0, 0.5], m))
    activation = ("tanh", "relu")[seed // 3 % 2] if activation is None else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, activation)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if shapes is ANY and n > 1 and seed % 5 == 0:
        x[-1] = x[0] * rng.choice([-1.0, 1.0])
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = 10.0 ** rng.uniform(-3, 3) if lam is None else lam
    problem = kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam)
    return extreme(problem, seed, without=("no transfer", *without))


def some_units(problem, seed):
    m = problem.student.width
    return np.random.default_rng(seed).permutation(m)[: m // 2]


@pytest.mark.claim("ticket-limit")
def test_ticket_limit(cases, ledger):
    for seed in cases:
        problem = draw(seed, ANY, without=("one unit",))
        ledger(claims.ticket_limit(problem, some_units(problem, seed)))


@pytest.mark.counterexample("ticket-limit")
def test_ticket_limit_needs_kept_output_weights():
    problem = draw(1, ANY, lam=1.0)
    assert claims.ticket_limit(problem, some_units(problem, 1), output="rescale").margin <= 0.01


@pytest.mark.claim("random-ticket")
def test_random_ticket(cases, ledger):
    for seed in cases:
        problem = draw(seed, SQUARE, activation="tanh", equal=True, without=("one unit", *SINGULAR))
        ledger(claims.random_ticket(problem, 1 + seed // 3 % (problem.student.width - 1)))


@pytest.mark.counterexample("random-ticket")
def test_random_ticket_needs_positive_kernels():
    assert claims.random_ticket(draw(2, ANY, activation="relu", lam=1.0, equal=True), 2).margin <= 0.01


@pytest.mark.counterexample("random-ticket")
def test_random_ticket_needs_equal_output_weights():
    assert claims.random_ticket(draw(1, SQUARE, activation="tanh", lam=0.1), 3).margin <= 0.01


@pytest.mark.claim("units-needed")
def test_units_needed(cases, ledger):
    for seed in cases:
        ledger(claims.units_needed(draw(seed, ((2, 1, 1), (4, 3, 5), (4, 5, 3)))))


@pytest.mark.counterexample("units-needed")
def test_units_needed_needs_kept_output_weights():
    # four units of one kind: two of them, rescaled, are as good as all
    student = kd.TwoLayerNetwork(np.ones((4, 1)), np.ones(4))
    phi = np.full((4, 1), 0.5)
    problem = kd.TransferProblem(student, np.ones((1, 1)), np.ones(1), phi, lam=1.0)
    assert claims.units_needed(problem, output="rescale").margin <= 0.01


@pytest.mark.claim("self-distillation")
def test_self_distillation(cases, ledger):
    for seed in cases:
        ledger(claims.self_distillation(draw(seed, ANY), 3))


@pytest.mark.counterexample("self-distillation")
def test_self_distillation_needs_the_same_student_in_every_round():
    assert claims.self_distillation(draw(1, ANY, lam=1.0), 3, restart=False).margin <= 0.01


@pytest.mark.claim("distillation-limit")
def test_distillation_limit(cases, ledger):
    for seed in cases:
        ledger(claims.distillation_limit(draw(seed, ANY), (4, 40)[seed % 2]))


@pytest.mark.counterexample("distillation-limit")
def test_distillation_limit_needs_the_labels_in_every_round():
    assert claims.distillation_limit(draw(1, ANY, lam=1.0), 40, replace="labels").margin <= 0.01


@pytest.mark.claim("label-distillation")
def test_label_distillation(cases, ledger):
    for seed in cases:
        ledger(claims.label_distillation(draw(seed, ANY), 3))


@pytest.mark.counterexample("label-distillation")
def test_label_distillation_needs_the_first_teacher():
    assert claims.label_distillation(draw(1, ANY, lam=1.0), 3, teacher_too=True).margin <= 0.01
