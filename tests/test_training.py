"""The network's own flow against SciPy, and gradient descent against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import kdlib as kd
from tests.problems import SHAPES, as_transfer_problem, random_problem


def velocity(weights, signs, x, y, phi, lam):
    """Minus the gradient of E for tanh, in NumPy."""
    features, b = np.tanh(weights @ x.T), signs / np.sqrt(len(signs))
    residuals = np.outer(b, y - b @ features) + lam * (phi - features)
    return ((1 - features**2) * residuals) @ x


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradient_flow_agrees_with_scipy(shape):
    times = np.array([4.0, 0.0, 0.3])
    for seed in range(5):
        weights, signs, activation, x, y, phi, lam = random_problem(shape, "tanh", seed)
        problem = as_transfer_problem(weights, signs, activation, x, y, phi, lam)
        path = kd.gradient_flow(problem, times)
        reference = solve_ivp(
            lambda t, w, data: velocity(w.reshape(data[0].shape), *data[1:]).ravel(),
            (0, 4.0),
            weights.ravel(),
            args=((weights, signs, x, y, phi, lam),),
            method="DOP853",
            t_eval=np.sort(times),
            rtol=1e-11,
            atol=1e-12,
        )
        for t, outputs, movement in zip(times, path.outputs, path.movement):
            end = reference.y[:, np.searchsorted(reference.t, t)].reshape(weights.shape)
            expected = signs / np.sqrt(shape[0]) @ np.tanh(end @ x.T)
            assert np.linalg.norm(outputs - expected) <= 1e-7 * problem.scale
            assert movement == pytest.approx(np.sqrt(np.sum((end - weights) ** 2) / shape[0]), abs=1e-7)
        np.testing.assert_allclose(path.network.weights, reference.y[:, -1].reshape(weights.shape), atol=1e-6)
        assert path.converged and path.error < 1e-5


def test_gradient_flow_at_other_inputs_is_that_of_the_network_scipy_trains():
    weights, signs, activation, x, y, phi, lam = random_problem(SHAPES[1], "tanh", 3)
    problem, at = as_transfer_problem(weights, signs, activation, x, y, phi, lam), np.eye(4)[:3] - x[:3]
    path = kd.gradient_flow(problem, [3.0, 0.0], at=at)
    reference = solve_ivp(
        lambda t, w: velocity(w.reshape(weights.shape), signs, x, y, phi, lam).ravel(),
        (0, 3.0),
        weights.ravel(),
        method="DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    for outputs, end in zip(path.outputs, (reference.y[:, -1].reshape(weights.shape), weights)):
        np.testing.assert_allclose(outputs, signs / np.sqrt(6) @ np.tanh(end @ at.T), atol=1e-7 * problem.scale)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_inputs_of_another_scale_are_only_another_unit_of_time(size):
    weights, signs, activation, x, y, phi, _ = random_problem(SHAPES[0], "tanh", 3)
    times = np.array([4.0, 0.0, 0.3])
    path = kd.gradient_flow(as_transfer_problem(weights, signs, activation, x, y, phi, 0.5), times)
    scaled = as_transfer_problem(weights / size, signs, activation, size * x, y, phi, 0.5)
    other = kd.gradient_flow(scaled, times / size**2)
    np.testing.assert_allclose(other.outputs, path.outputs, atol=1e-7 * np.linalg.norm(y))
    np.testing.assert_allclose(size * other.network.weights, path.network.weights, atol=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.7])
def test_gradient_descent_is_the_iteration_it_says(lam):
    weights, signs, activation, x, y, phi, _ = random_problem(SHAPES[1], "tanh", 0)
    problem = as_transfer_problem(weights, signs, activation, x, y, phi, lam)
    path = kd.gradient_descent(problem, 0.1, [30, 0, 7], at=x[:2])
    w, recorded = weights.copy(), {0: weights}
    for step in range(1, 31):
        w = w + 0.1 * velocity(w, signs, x, y, phi, lam)
        recorded[step] = w
    for step, outputs in zip([30, 0, 7], path.outputs):
        expected = signs / np.sqrt(len(signs)) @ np.tanh(recorded[step] @ x[:2].T)
        np.testing.assert_allclose(outputs, expected, atol=1e-12)
    np.testing.assert_allclose(path.times, [3.0, 0.0, 0.7])
    np.testing.assert_allclose(path.network.weights, recorded[30], atol=1e-12)


def test_one_number_of_steps_records_them_all():
    problem = as_transfer_problem(*random_problem(SHAPES[0], "tanh", 2))
    every, some = kd.gradient_descent(problem, 0.05, 4), kd.gradient_descent(problem, 0.05, [2, 4])
    assert every.outputs.shape == (5, SHAPES[0][1])
    np.testing.assert_allclose(every.outputs[jnp.array([2, 4])], some.outputs, atol=1e-14)


def test_a_step_too_long_is_told():
    student = kd.TwoLayerNetwork(np.ones((4, 3)), np.ones(4), "softplus")
    problem = kd.TransferProblem(student, np.eye(3), np.full(3, -5.0), None, lam=0.0)
    assert kd.gradient_descent(problem, 0.1, 10).converged
    with pytest.warns(UserWarning, match="gradient_descent: the iteration overflowed; take a shorter step_size"):
        assert not kd.gradient_descent(problem, 1e308, 10).converged


def test_an_integration_that_gives_up_is_told(monkeypatch):
    import kdlib.training as training

    monkeypatch.setattr(training, "_MOST_STEPS", 3)
    problem = as_transfer_problem(*random_problem(SHAPES[2], "tanh", 4))
    with pytest.warns(UserWarning, match="gradient_flow: the integrator gave up within 3 steps"):
        assert not kd.gradient_flow(problem, [1e3]).converged


def test_the_second_problem_of_a_shape_compiles_nothing(caplog):
    problems = [as_transfer_problem(*random_problem(SHAPES[0], "tanh", seed)) for seed in (1, 7, 13)]

    def work(problem):
        kd.kernel_flow(problem, [0.5, 1.0])
        kd.gradient_flow(problem, [0.5, 1.0])
        kd.gradient_descent(problem, 0.1, 3)
        kd.fixed_point(problem)

    work(problems[0])
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        work(problems[1])
    compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
    assert not compiled, compiled
