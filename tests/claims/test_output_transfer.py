"""The statements of the chapter *Soft labels instead of features* over random problems."""

import dataclasses

import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import output_transfer as checkers
from tests.extremes import FAR_TIMES, SINGULAR, clock, corner_of, extreme

SQUARE = ((1, 1, 1), (6, 3, 5), (8, 4, 4))
ANY = ((1, 1, 1), (6, 3, 5), (5, 8, 3))


def draw(seed, shapes, *, lam=None, activation=None, unit=False, carried=False, without=()):
    """A random problem with unit rows; for n > d some have two equal or opposite rows.

    With ``unit`` all signs are ±1; a ``carried`` teacher lies within the reach of the student's frozen kernels.
    """
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    signs = rng.choice([-1.0, 1.0], m) * (1.0 if unit else rng.choice([1.0, 0.5], m))
    activation = ("tanh", "relu")[seed // 3 % 2] if activation is None else activation
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if n > d and seed // 6 % 3:
        x[-1] = x[0] * (-1) ** (seed // 6)
    weights = rng.normal(size=(m, d))
    weights[0] *= np.sign(weights[0] @ x[0])  # one unit at least is on, at a sample at least
    student = kd.TwoLayerNetwork(weights, signs, activation)
    lead = rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    if carried:
        lead = np.asarray(student.derivative(x)) * (rng.normal(size=(m, d)) @ x.T)
    lam = 10.0 ** rng.uniform(-4, 3) if lam is None else lam
    problem = kd.TransferProblem(student, x, rng.normal(size=n), np.asarray(student.features(x)) + lead, lam=lam)
    problem = extreme(problem, seed, without=without)
    if carried and corner_of(seed):
        student, x = problem.student, np.asarray(problem.x)
        lead = np.asarray(student.derivative(x)) * (rng.normal(size=student.weights.shape) @ x.T / np.max(np.abs(x)))
        problem = kd.TransferProblem(student, x, problem.y, student.features(x) + lead, lam=problem.lam)
    return problem


def rng_of(seed):
    return np.random.default_rng([seed, 1])


@pytest.mark.claim("output-transfer-is-relabelling", trains=True)
def test_output_transfer_is_relabelling(cases, ledger):
    for seed in cases:
        problem = draw(seed, ANY, activation="tanh", lam=10.0 ** rng_of(seed).uniform(-3, 1))
        # (1 + λ)t as short as for the other λ: steps that are too long multiply rounding
        horizon = rng_of(seed).uniform(0.1, 3.0) * min(clock(problem), 11 / (1 + float(problem.lam)))
        ledger(claims.output_transfer_is_relabelling(problem, horizon, 20))


@pytest.mark.counterexample("output-transfer-is-relabelling")
def test_relabelling_needs_the_faster_clock(monkeypatch):
    def slow(problem, times):
        return kd.gradient_flow(kd.soft_label_problem(problem), times)

    monkeypatch.setattr(checkers, "output_gradient_flow", slow)
    assert claims.output_transfer_is_relabelling(draw(1, ANY, activation="tanh", lam=1.0), 1.0, 20).margin <= 0.01


@pytest.mark.counterexample("output-transfer-is-relabelling")
def test_relabelling_is_not_transfer_of_features(monkeypatch):
    monkeypatch.setattr(checkers, "output_gradient_flow", kd.gradient_flow)
    assert claims.output_transfer_is_relabelling(draw(1, ANY, activation="tanh", lam=1.0), 1.0, 20).margin <= 0.01


@pytest.mark.claim("output-transfer-limit")
def test_output_transfer_limit(cases, ledger):
    for seed in cases:
        problem = draw(seed, ANY, lam=0.0 if seed % 10 == 9 else None)
        # so much later than rates of 1e12 the flow says itself that it has not converged
        far = FAR_TIMES[:1] if corner_of(seed) in ("strong transfer", "long inputs") else FAR_TIMES
        times = np.append(10.0 ** rng_of(seed).uniform(-3, 2, size=2) / (1 + problem.lam), far)
        ledger(claims.output_transfer_limit(problem, times))


@pytest.mark.counterexample("output-transfer-limit")
def test_output_transfer_limit_needs_frozen_kernels(monkeypatch):
    monkeypatch.setattr(checkers, "output_flow", kd.output_gradient_flow)
    assert claims.output_transfer_limit(draw(1, ANY, lam=1.0, activation="tanh"), [1.0]).margin <= 0.01


@pytest.mark.claim("output-transfer-iterations")
def test_output_transfer_iterations(cases, ledger):
    for seed in cases:
        step, steps = rng_of(seed).uniform(0.05, 1.95), int(rng_of(seed).integers(1, 60))
        problem = draw(seed, ANY, without=("dead units",))
        student, lead = problem.student, problem.feature_gap
        if not np.any(kd.tangent_kernel(student, problem.x)):  # the only units are off
            student = kd.TwoLayerNetwork(-student.weights, student.signs, student.activation)
            phi = student.features(problem.x) + lead
            problem = kd.TransferProblem(student, problem.x, problem.y, phi, lam=problem.lam)
        ledger(claims.output_transfer_iterations(problem, step, steps))


@pytest.mark.counterexample("output-transfer-iterations")
def test_feature_level_transfer_has_other_factors():
    assert claims.output_transfer_iterations(draw(1, ANY, lam=1.0), 1.0, 5, features=True).margin <= 0.01


def test_the_contraction_is_attained_by_the_slowest_mode():
    problem = draw(1, ANY, lam=2.0, activation="tanh")
    rates, modes = np.linalg.eigh(kd.tangent_kernel(problem.student, problem.x))
    start = np.asarray(problem.student(problem.x))
    aligned = kd.TransferProblem(
        problem.student, problem.x, start + modes[:, 0], problem.student.features(problem.x), lam=2.0
    )
    soft = kd.soft_label_problem(aligned)
    # n steps of descent in the kernel regime, by the kernel alone
    left = np.linalg.matrix_power(np.eye(rates.size) - modes * rates @ modes.T / rates[-1], 7) @ (soft.y - start)
    np.testing.assert_allclose(np.linalg.norm(left), (1 - rates[0] / rates[-1]) ** 7 / 3, rtol=1e-9)


@pytest.mark.claim("same-outputs-other-features")
def test_same_outputs_other_features(cases, ledger):
    for seed in cases:
        ledger(
            claims.same_outputs_other_features(
                draw(seed, SQUARE, activation="tanh", unit=True, without=("no transfer", *SINGULAR))
            )
        )


@pytest.mark.counterexample("same-outputs-other-features")
def test_same_outputs_need_positive_unit_kernels():
    assert claims.same_outputs_other_features(draw(2, ((6, 12, 4),), activation="tanh", unit=True)).margin <= 0.01


@pytest.mark.counterexample("same-outputs-other-features")
def test_same_outputs_need_unit_signs():
    problem = draw(1, SQUARE, activation="tanh", lam=1.0)
    quiet = dataclasses.replace(problem.student, signs=0.5 * problem.student.signs)
    problem = kd.TransferProblem(quiet, problem.x, problem.y, problem.phi, lam=1.0)
    assert claims.same_outputs_other_features(problem).margin <= 0.01


@pytest.mark.claim("feature-versus-output")
def test_feature_versus_output(cases, ledger):
    for seed in cases:
        ledger(claims.feature_versus_output(draw(seed, ANY, unit=True, carried=True, without=("no transfer",))))


@pytest.mark.counterexample("feature-versus-output")
def test_feature_versus_output_needs_a_teacher_that_can_be_carried():
    assert claims.feature_versus_output(draw(2, ANY, activation="tanh", unit=True, lam=1.0)).margin <= 0.01
