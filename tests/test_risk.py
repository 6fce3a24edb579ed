"""The exact risk under label noise: against students run on noisy labels, at every time and strength."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.dense import ACTIVATIONS, Dense
from tests.problems import SHAPES, as_transfer_problem, random_problem


def dense_moments(arrays, truth, noise, time, at):
    """Mean and variance of the outputs at ``at``, one dense run for the truth and one for every single label."""
    weights, signs, activation, x, _, phi, lam = arrays
    sigma, slope = ACTIVATIONS[activation]
    slopes, b = slope(weights @ at.T), signs / np.sqrt(len(signs))
    readout = np.hstack([w * s[:, None] * at for w, s in zip(b, slopes)])

    def outputs(y):
        return readout @ Dense(weights, signs, activation, x, y, phi, lam).displacement(time)

    mean = outputs(truth)
    columns = np.stack([outputs(truth + unit) - mean for unit in np.eye(len(truth))])
    return b @ sigma(weights @ at.T) + mean, noise**2 * np.sum(columns**2, axis=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("time", [0.0, 2.0, np.inf])
def test_risk_is_that_of_students_run_on_noisy_labels(shape, time):
    for seed, lam in enumerate([0.0, 0.1, 5.0]):
        arrays = (*random_problem(shape, "tanh", seed)[:-1], lam)
        rng = np.random.default_rng(seed)
        at, truth, truth_at = rng.normal(size=(4, shape[2])), rng.normal(size=shape[1]), rng.normal(size=4)
        mean, variance = dense_moments(arrays, truth, 0.4, time, at)
        risk = kd.noise_risk(as_transfer_problem(*arrays), truth, 0.4, time=time, at=at, truth_at=truth_at)
        scale = 1 + np.max(np.abs(mean)) + np.sqrt(np.max(variance))
        np.testing.assert_allclose(risk.bias, mean - truth_at, atol=1e-7 * scale)
        np.testing.assert_allclose(risk.variance, variance, atol=1e-7 * scale**2)
        np.testing.assert_allclose(risk.total, np.mean(risk.bias**2 + risk.variance))


def test_a_thousand_noisy_students():
    """Monte Carlo, once: the average over drawn noise agrees with the formula to its own standard error."""
    problem = as_transfer_problem(*random_problem((6, 12, 4), "relu", 0)[:-1], 0.5)
    truth = jnp.sin(jnp.arange(12.0))

    @jax.jit
    def squared_errors(keys, lam):
        def squared_error(key):
            y = truth + 0.6 * jax.random.normal(key, (12,))
            student = kd.TransferProblem(problem.student, problem.x, y, problem.phi, lam=lam)
            return jnp.mean((kd.fixed_point(student).outputs - truth) ** 2)

        return jax.lax.map(squared_error, keys)

    losses = squared_errors(jax.random.split(jax.random.key(0), 1000), problem.lam)
    theory = kd.noise_risk(problem, truth, 0.6).total
    assert abs(jnp.mean(losses) - theory) < 4 * jnp.std(losses) / np.sqrt(1000)


def test_best_strength_is_the_lowest_point_of_the_risk():
    for seed in range(6):
        problem = as_transfer_problem(*random_problem((6, 12, 4), "tanh", seed)[:-1], 1.0)
        rng = np.random.default_rng(seed)
        truth, at, truth_at = rng.normal(size=12), rng.normal(size=(3, 4)), rng.normal(size=3)
        for where in ({}, {"at": at, "truth_at": truth_at}):
            best = kd.optimal_strength(problem, truth, 0.5, **where)

            def risk(lam, where=where, truth=truth, problem=problem):
                other = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
                return kd.noise_risk(other, truth, 0.5, **where).total

            around = [risk(lam) for lam in np.geomspace(1e-4, 1e6, 30)]
            assert best.risk <= min(around) + 1e-9
            assert best.risk <= best.carried * (1 + 1e-12)
            if 0 < best.lam < np.inf:
                np.testing.assert_allclose(risk(best.lam), best.risk, rtol=1e-9)


def test_ends_of_the_strength():
    """A perfect teacher is best followed alone; noise-free labels are best followed alone."""
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 6, 5)
    x = jnp.eye(5)[:3]
    problem = kd.TransferProblem(student, x, jnp.zeros(3), student.features(x), lam=1.0)
    perfect = kd.optimal_strength(problem, student(x), 1.0)
    assert perfect.lam == jnp.inf and perfect.risk < 1e-20
    clean = kd.optimal_strength(problem, student(x) + 1.0, 0.0)
    assert clean.lam == 0 and clean.risk < 1e-20


def test_inverse_variance_strength():
    np.testing.assert_allclose(kd.inverse_variance_strength(1.0, 0.5, a=3.0), 12.0)
    np.testing.assert_allclose(kd.inverse_variance_strength(1.0, 0.5, correlation=0.1), 0.9 / 0.15)
    assert kd.inverse_variance_strength(1.0, 0.5, correlation=0.3) == jnp.inf
    assert kd.inverse_variance_strength(0.5, 1.0, correlation=0.3) == 0
    assert kd.inverse_variance_strength(1.0, 0.0) == jnp.inf and kd.inverse_variance_strength(0.0, 1.0) == 0
    slope = jax.grad(kd.inverse_variance_strength)(1.0, 0.5)
    np.testing.assert_allclose(slope, 8.0)
    with pytest.raises(ValueError, match=r"correlation: expected at most noise·error = 0\.5 in size; got 0\.6"):
        kd.inverse_variance_strength(1.0, 0.5, correlation=0.6)


def test_risk_differentiates_in_the_strength():
    problem = as_transfer_problem(*random_problem((6, 12, 4), "tanh", 0)[:-1], 0.7)
    truth = jnp.ones(12)

    def total(lam):
        other = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return kd.noise_risk(other, truth, 0.5).total

    np.testing.assert_allclose(jax.grad(total)(0.7), (total(0.7 + 1e-5) - total(0.7 - 1e-5)) / 2e-5, rtol=1e-6)


def test_risk_differentiates_where_labels_and_start_are_zero():
    """Of a given truth it does not depend on the labels: neither the answer nor a size in between."""
    student = kd.TwoLayerNetwork(np.zeros((3, 2)), np.ones(3))

    def total(y):
        problem = kd.TransferProblem(student, np.eye(2), y, np.full((3, 2), 0.3), lam=0.5)
        return kd.noise_risk(problem, np.ones(2), 0.3, time=1.0).total

    np.testing.assert_array_equal(jax.grad(total)(jnp.zeros(2)), np.zeros(2))


def test_bad_input():
    problem = as_transfer_problem(*random_problem((6, 12, 4), "tanh", 0)[:-1], 0.7)
    truth, at = np.ones(12), np.ones((2, 4))
    for call in (kd.noise_risk, kd.optimal_strength):
        with pytest.raises(ValueError, match="problem: expected a TransferProblem"):
            call(None, truth, 1.0)
        with pytest.raises(ValueError, match="truth: expected a real array of shape \\(n=12,\\)"):
            call(problem, truth[:5], 1.0)
        with pytest.raises(ValueError, match="noise: expected a number that is at least 0"):
            call(problem, truth, -1.0)
        with pytest.raises(ValueError, match="truth_at: expected truth_at together with at"):
            call(problem, truth, 1.0, at=at)
        with pytest.raises(ValueError, match="at: expected at together with truth_at"):
            call(problem, truth, 1.0, truth_at=np.ones(2))
        with pytest.raises(ValueError, match="truth_at: expected a real array of shape \\(rows=2,\\)"):
            call(problem, truth, 1.0, at=at, truth_at=np.ones(3))
    for time in (-1.0, np.nan):
        with pytest.raises(ValueError, match="time: expected a time that is at least 0"):
            kd.noise_risk(problem, truth, 1.0, time=time)
