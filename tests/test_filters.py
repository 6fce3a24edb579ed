"""Alignment, spectral filters and the best stopping time against dense references."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import kdlib as kd
from tests.dense import Dense
from tests.problems import CORNERS, SHAPES, as_transfer_problem, random_problem

STUDENT = kd.TwoLayerNetwork.init(jax.random.key(0), 5, 3)
X = np.random.default_rng(0).normal(size=(4, 3))


def label_problem(shape, activation, seed):
    arrays = random_problem(shape, activation, seed)
    return as_transfer_problem(*arrays[:-1], 0.0), Dense(*arrays[:-1], 0.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("corner", range(len(CORNERS)), ids=CORNERS)
def test_alignment_is_that_of_the_dense_kernel(shape, corner):
    problem, dense = label_problem(shape, "tanh", corner)
    kernel = dense.outputs_map @ dense.outputs_map.T
    for vector in (problem.y, problem.phi):
        found = kd.alignment(problem.student, problem.x, vector)
        rows = np.atleast_2d(vector)
        assert (np.diff(found.rates) <= 0).all() and (np.asarray(found.rates) >= 0).all()
        modes = np.asarray(found.modes)
        np.testing.assert_allclose(modes * np.asarray(found.rates) @ modes.T, kernel, atol=1e-12)
        np.testing.assert_allclose(found.cumulative[-1], 1.0, rtol=1e-12)
        mean = np.einsum("ri,ij,rj->", rows, kernel, rows) / np.sum(rows**2)
        np.testing.assert_allclose(found.mean_rate, mean, rtol=1e-10, atol=1e-14)


def test_modes_that_cannot_move_have_rate_zero():
    x = np.concatenate([X, X[:1]])
    found = kd.alignment(STUDENT, x, np.eye(5)[0] - np.eye(5)[4])
    assert found.rates[-1] == 0
    np.testing.assert_allclose(found.shares[-1], 1.0, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("corner", range(len(CORNERS)), ids=CORNERS)
def test_spectral_fits_are_the_flow_and_the_penalised_fit(shape, activation, corner):
    problem, dense = label_problem(shape, activation, corner)
    at = np.random.default_rng(1).normal(size=(3, shape[2]))
    for time in (0.0, 0.3, 30.0):
        fit = kd.spectral_fit(problem, functools.partial(kd.early_stopping_filter, time=time), at=at)
        flow = kd.kernel_flow(problem, [time], at=at).outputs[0]
        np.testing.assert_allclose(fit, flow, atol=1e-8 * float(problem.scale))
    J, gamma = dense.outputs_map, 0.7
    v = np.linalg.solve(J.T @ J + gamma * np.eye(J.shape[1]), J.T @ (dense.y - dense.start))
    fit = kd.spectral_fit(problem, lambda rates: kd.ridge_filter(rates, gamma))
    np.testing.assert_allclose(fit, dense.outputs(v), atol=1e-10 * float(problem.scale))


def test_filters_at_their_ends():
    rates = np.array([2.0, 1e-9, 0.0])
    np.testing.assert_array_equal(kd.early_stopping_filter(rates, np.inf), [1, 1, 0])
    np.testing.assert_array_equal(kd.early_stopping_filter(rates, 0.0), [0, 0, 0])
    np.testing.assert_array_equal(kd.ridge_filter(rates, 0.0), [1, 1, 0])
    np.testing.assert_allclose(kd.early_stopping_filter(rates, 1.0)[1], 1e-9, rtol=1e-8)


def risk_at(problem, truth, noise, time):
    """Mean of bias² + variance of the stopped student, with the matrix exponential."""
    left = expm(-time * np.asarray(kd.tangent_kernel(problem.student, problem.x)))
    bias = left @ (truth - np.asarray(problem.student(problem.x)))
    return (bias @ bias + noise**2 * np.sum((np.eye(len(left)) - left) ** 2)) / len(left)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", [1e-3, 0.3, 10.0])
@pytest.mark.parametrize("corner", range(len(CORNERS)), ids=CORNERS)
def test_no_other_time_is_better(shape, noise, corner):
    problem, _ = label_problem(shape, "tanh", corner)
    truth = np.asarray(problem.y)
    best = kd.best_stopping_time(problem, truth, noise)
    found = [
        risk_at(problem, truth, noise, float(best.time)),
        kd.noise_risk(problem, truth, noise, time=float(best.time)).total,
    ]
    tiny = 1e-14 * (float(problem.scale) ** 2 + noise**2)
    np.testing.assert_allclose(found, float(best.risk), rtol=1e-9, atol=tiny)
    np.testing.assert_allclose(best.trained, kd.noise_risk(problem, truth, noise).total, rtol=1e-9)
    for time in (0.0, *np.geomspace(1e-4, 1e3, 15)):
        assert best.risk <= risk_at(problem, truth, noise, time) * (1 + 1e-9) + tiny
    assert best.risk <= best.trained
    times = best.mode_times[~np.isnan(best.mode_times)]
    if times.size:
        assert np.min(times) * (1 - 1e-6) <= best.time <= np.max(times) * (1 + 1e-6)


def test_best_stopping_times_at_the_ends():
    problem = kd.TransferProblem(STUDENT, X, np.zeros(4), None, lam=0)
    start = STUDENT(X)
    assert kd.best_stopping_time(problem, start, 0.5).time == 0
    exact = kd.best_stopping_time(problem, start + 1.0, 0.0)
    assert exact.time == np.inf and exact.risk == exact.trained
    dead = kd.TransferProblem(kd.TwoLayerNetwork(STUDENT.weights, np.zeros(5)), X, np.zeros(4), None, lam=0)
    still = kd.best_stopping_time(dead, np.ones(4), 0.5)
    assert still.time == 0 and still.risk == still.trained == 1 and np.isnan(still.mode_times).all()


def test_filters_and_alignment_pass_through_transformations():
    rates = jnp.asarray([2.0, 0.5, 0.0])
    slope = jax.jit(jax.grad(lambda t: kd.early_stopping_filter(rates, t).sum()))(1.0)
    np.testing.assert_allclose(slope, np.sum(rates * np.exp(-rates)), rtol=1e-12)
    slopes = jax.grad(lambda r: kd.ridge_filter(r, 0.5).sum())(rates)
    np.testing.assert_allclose(slopes, [0.5 / 2.5**2, 0.5, 0.0], rtol=1e-12)  # a mode at 0 stays out
    shares = jax.jit(lambda x: kd.alignment(STUDENT, x, jnp.ones(4)).shares)(jnp.asarray(X))
    np.testing.assert_allclose(shares, kd.alignment(STUDENT, X, np.ones(4)).shares, atol=1e-12)


PROBLEM = kd.TransferProblem(STUDENT, X, np.zeros(4), None, lam=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.alignment(STUDENT, X, np.ones(3)), r"vector: expected .*\(n=4,\).*got shape \(3,\)"),
        (lambda: kd.alignment(STUDENT, X, np.ones((2, 3))), r"vector: expected .*\(rows, n=4\).*got shape \(2, 3\)"),
        (lambda: kd.alignment(STUDENT, X, np.zeros(4)), "vector: expected a vector other than zero"),
        (lambda: kd.alignment(3, X, np.ones(4)), "net: expected a TwoLayerNetwork"),
        (lambda: kd.early_stopping_filter([-1.0], 1.0), "rates: expected rates that are at least 0; got -1.0"),
        (lambda: kd.early_stopping_filter([1.0], -1.0), "time: expected a time that is at least 0"),
        (lambda: kd.early_stopping_filter([1.0], np.nan), "time: expected a time that is at least 0"),
        (lambda: kd.ridge_filter([1.0], -1.0), "gamma: expected a number that is at least 0"),
        (lambda: kd.spectral_fit(PROBLEM, lambda rates: rates[:2]), r"filter: expected .*\(n=4,\).*got shape \(2,\)"),
        (lambda: kd.spectral_fit(1, lambda rates: rates), "problem: expected a TransferProblem"),
        (lambda: kd.best_stopping_time(PROBLEM, np.ones(3), 1.0), r"truth: expected .*got shape \(3,\)"),
        (lambda: kd.best_stopping_time(PROBLEM, np.ones(4), -1.0), "noise: expected a number that is at least 0"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
