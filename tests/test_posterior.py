"""The Gaussian posterior against dense conditioning over all md weights at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.dense import ACTIVATIONS, Dense
from tests.problems import SHAPES, as_transfer_problem, random_problem

STRENGTHS = [1e-3, 0.5, 20.0]


def dense_posterior(arrays, noise, at):
    """Prior and posterior moments of the outputs at ``at``: precision form, restricted to the range of the kernels."""
    weights, _, activation, _, y, phi, lam = arrays
    dense = Dense(*arrays)
    slopes = ACTIVATIONS[activation][1](weights @ at.T)
    readout = np.hstack([b * s[:, None] * at for b, s in zip(dense.b, slopes)])
    _, sigma, right = np.linalg.svd(dense.blocks, full_matrices=False)
    basis = right[sigma > 1e-12 * sigma.max(initial=0)].T
    inside = dense.blocks @ basis
    prior = np.linalg.lstsq(inside, (phi - dense.features).ravel(), rcond=None)[0]
    precision = lam * inside.T @ inside / noise**2
    data = dense.outputs_map @ basis
    posterior = precision + data.T @ data / noise**2
    mean = np.linalg.solve(posterior, precision @ prior + data.T @ (y - dense.start) / noise**2)
    rows, start = readout @ basis, dense.b @ ACTIVATIONS[activation][0](weights @ at.T)
    variances = [np.sum(rows.T * np.linalg.solve(matrix, rows.T), axis=0) for matrix in (precision, posterior)]
    return start + rows @ prior, variances[0], start + rows @ mean, variances[1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
def test_posterior_is_that_of_dense_conditioning(shape, activation):
    for seed, lam in enumerate(STRENGTHS):
        arrays = (*random_problem(shape, activation, seed)[:-1], lam)
        at = np.random.default_rng(seed).normal(size=(4, shape[2]))
        expected = dense_posterior(arrays, 0.3, at)
        got = kd.gaussian_posterior(as_transfer_problem(*arrays), noise=0.3, at=at)
        scale, spread = 1 + np.max(np.abs(expected[0])), np.max(expected[1])
        np.testing.assert_allclose(got.prior_mean, expected[0], atol=1e-8 * scale)
        np.testing.assert_allclose(got.prior_variance, expected[1], atol=1e-8 * spread)
        np.testing.assert_allclose(got.mean, expected[2], atol=1e-7 * scale)
        np.testing.assert_allclose(got.variance, expected[3], atol=1e-8 * spread)
        np.testing.assert_allclose(got.std, np.sqrt(got.variance))


def test_mean_is_where_the_kernel_flow_ends():
    for seed in range(3):
        problem = as_transfer_problem(*random_problem((6, 12, 4), "relu", seed)[:-1], 0.7)
        at = np.random.default_rng(seed).normal(size=(5, 4))
        for inputs in (None, at):
            end = kd.kernel_flow(problem, [np.inf], at=inputs).outputs[0]
            np.testing.assert_allclose(kd.gaussian_posterior(problem, noise=1.0, at=inputs).mean, end, atol=1e-8)


def test_inputs_that_no_unit_sees_keep_the_start():
    """Orthogonal to all samples, no label and no teacher says anything: no move, and no variance either."""
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 5, 3)
    x, at = jnp.eye(3)[:2], jnp.eye(3)[2:]
    problem = kd.TransferProblem(student, x, jnp.ones(2), student.features(x) + 0.3, lam=1.0)
    posterior = kd.gaussian_posterior(problem, noise=1.0, at=at)
    np.testing.assert_allclose(posterior.mean, student(at), atol=1e-14)
    assert posterior.variance[0] < 1e-14


def test_what_is_projected_is_reported():
    arrays = random_problem((6, 12, 4), "tanh", 0)
    problem = as_transfer_problem(*arrays[:-1], 1.0)
    lost = jnp.linalg.norm(kd.fixed_point(problem).unlearnable) / jnp.linalg.norm(problem.feature_gap)
    posterior = kd.gaussian_posterior(problem, noise=1.0)
    np.testing.assert_allclose(posterior.unlearnable, lost, rtol=1e-10)
    assert posterior.unlearnable > 0.1


def test_strength_is_differentiable_and_traceable():
    problem = as_transfer_problem(*random_problem((6, 12, 4), "tanh", 0)[:-1], 0.7)

    def first(lam):
        moved = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return kd.gaussian_posterior(moved, noise=0.5).variance[0]

    slope = jax.grad(first)(0.7)
    np.testing.assert_allclose(slope, (first(0.7 + 1e-5) - first(0.7 - 1e-5)) / 2e-5, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(first)(0.7), first(0.7), rtol=1e-10)
    np.testing.assert_allclose(jax.vmap(first)(jnp.array([0.3, 0.7]))[1], first(0.7), rtol=1e-10)


def test_bad_input():
    arrays = random_problem((6, 12, 4), "tanh", 0)
    problem = as_transfer_problem(*arrays[:-1], 1.0)
    with pytest.raises(ValueError, match="problem: expected a TransferProblem"):
        kd.gaussian_posterior(None, noise=1.0)
    with pytest.raises(ValueError, match="problem: expected a strength lam > 0"):
        kd.gaussian_posterior(as_transfer_problem(*arrays[:-1], 0.0), noise=1.0)
    with pytest.raises(ValueError, match="noise: expected a number that is at least 0"):
        kd.gaussian_posterior(problem, noise=-1.0)
    with pytest.raises(ValueError, match="at: expected a real array"):
        kd.gaussian_posterior(problem, noise=1.0, at=np.ones((2, 3)))
