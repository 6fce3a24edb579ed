"""Output-level transfer against dense references of its own objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import kdlib as kd
from tests.dense import Dense
from tests.problems import CORNERS, LAMBDAS, SHAPES, as_transfer_problem, random_problem

TIMES = np.array([3.0, 0.0, 0.2, np.inf])


def stacked(dense, lam):
    """½‖y - f‖² + (λ/2)‖φ̄ - f‖² as one least-squares problem ½‖g - A v‖² over the weights."""
    J, teacher = dense.outputs_map, dense.b @ dense.phi
    root = np.sqrt(lam)
    return np.vstack([J, root * J]), np.concatenate([dense.y - dense.start, root * (teacher - dense.start)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("corner", range(len(CORNERS)), ids=CORNERS)
def test_flow_is_that_of_the_stacked_least_squares_problem(shape, activation, corner):
    for lam in LAMBDAS:
        *arrays, _ = random_problem(shape, activation, corner)
        problem, dense = as_transfer_problem(*arrays, lam), Dense(*arrays, lam)
        A, g = stacked(dense, lam)
        left, sigma, right = np.linalg.svd(A, full_matrices=False)
        kept = sigma > 1e-7 * sigma.max()
        filters = np.zeros((TIMES.size, sigma.size))
        filters[:, kept] = -np.expm1(-np.outer(TIMES, sigma[kept] ** 2)) / sigma[kept]
        path = filters * (left.T @ g) @ right
        flow = kd.output_flow(problem, TIMES)
        scale = float(jnp.maximum(problem.scale, kd.soft_label_problem(problem).scale))
        np.testing.assert_allclose(flow.outputs, dense.start + path @ dense.outputs_map.T, atol=1e-7 * scale)
        energies = np.sum((g - path @ A.T) ** 2, axis=1) / 2
        np.testing.assert_allclose(flow.energies, energies, atol=1e-7 * (1 + energies.max()))
        np.testing.assert_array_equal(flow.times, TIMES)
        end = kd.output_fixed_point(problem)
        np.testing.assert_allclose(end.outputs, flow.outputs[-1], atol=1e-7 * scale)
        assert flow.converged and flow.error < 1e-8 * max(1, scale / float(problem.scale))


def descent_problem(lam):
    *arrays, _ = random_problem((6, 5, 4), "tanh", 0)
    return as_transfer_problem(*arrays, lam)


def test_network_flow_is_the_small_step_limit_of_descent_on_the_objective():
    problem, eta, steps = descent_problem(2.0), 1e-3, 500
    teacher = problem.student.output_weights @ problem.phi

    def objective(weights):
        f = problem.student.with_weights(weights)(problem.x)
        return jnp.sum((problem.y - f) ** 2) / 2 + problem.lam * jnp.sum((teacher - f) ** 2) / 2

    def descend(eta, steps):
        step = lambda _, weights: weights - eta * jax.grad(objective)(weights)  # noqa: E731
        return jax.lax.fori_loop(0, steps, step, problem.student.weights)

    coarse, fine = descend(eta, steps), descend(eta / 2, 2 * steps)
    extrapolated = problem.student.with_weights(2 * fine - coarse)
    flow = kd.output_gradient_flow(problem, [eta * steps])
    np.testing.assert_allclose(flow.outputs[0], extrapolated(problem.x), atol=1e-5)
    np.testing.assert_allclose(flow.energies[0], objective(flow.network.weights), rtol=1e-9)
    np.testing.assert_array_equal(flow.times, [eta * steps])


def test_flow_at_other_inputs_is_what_the_dense_weights_say_there():
    for seed, lam in enumerate((0.0, 2.0, 1e3)):
        weights, signs, activation, x, y, phi, _ = random_problem((6, 5, 4), "tanh", seed)
        problem, dense = (make(weights, signs, activation, x, y, phi, lam) for make in (as_transfer_problem, Dense))
        at = np.eye(4)[:3] - x[:3]
        A, g = stacked(dense, lam)
        left, sigma, right = np.linalg.svd(A, full_matrices=False)
        kept = sigma > 1e-7 * sigma.max()
        slopes = 1 / np.cosh(weights @ at.T) ** 2
        start = dense.b @ np.tanh(weights @ at.T)
        for t, outputs in zip(TIMES, kd.output_flow(problem, TIMES, at=at).outputs):
            v = right[kept].T @ (-np.expm1(-t * sigma[kept] ** 2) / sigma[kept] * (left.T @ g)[kept])
            expected = start + dense.b @ (slopes * (v.reshape(weights.shape) @ at.T))
            np.testing.assert_allclose(outputs, expected, atol=1e-8 * (1 + np.max(np.abs(expected))))


def test_network_flow_at_other_inputs_is_that_of_the_network_scipy_trains():
    problem, at = descent_problem(2.0), np.eye(4)[:3]
    student = problem.student
    weights, b, x, y = (np.asarray(part) for part in (student.weights, student.output_weights, problem.x, problem.y))
    teacher, lam = b @ np.asarray(problem.phi), 2.0

    def velocity(_, w):
        features = np.tanh(w.reshape(weights.shape) @ x.T)
        pull = y - b @ features + lam * (teacher - b @ features)
        return (((1 - features**2) * np.outer(b, pull)) @ x).ravel()

    end = solve_ivp(velocity, (0, 1.5), weights.ravel(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    path = kd.output_gradient_flow(problem, [1.5, 0.0], at=at)
    for outputs, there in zip(path.outputs, (end.reshape(weights.shape), weights)):
        np.testing.assert_allclose(outputs, b @ np.tanh(there @ at.T), atol=1e-7 * problem.scale)


def test_without_a_teacher_it_is_the_plain_flow():
    problem = descent_problem(2.0)
    alone = kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0)
    for ours, plain in (
        (kd.output_flow, kd.kernel_flow),
        (kd.output_gradient_flow, kd.gradient_flow),
    ):
        left, right = ours(alone, [0.5, 2.0]), plain(alone, [0.5, 2.0])
        np.testing.assert_array_equal(left.outputs, right.outputs)
        np.testing.assert_array_equal(left.energies, right.energies)
        np.testing.assert_allclose(left.error, right.error, rtol=1e-12)


def test_the_flow_compiles():
    problem = descent_problem(1.0)
    compiled = jax.jit(lambda problem: kd.output_flow(problem, [0.7]).outputs)(problem)
    np.testing.assert_allclose(compiled, kd.output_flow(problem, [0.7]).outputs, atol=1e-9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.output_flow(1, [1.0]), "problem: expected a TransferProblem"),
        (lambda: kd.output_fixed_point(1), "problem: expected a TransferProblem"),
        (lambda: kd.output_flow(descent_problem(1.0), [-1.0]), "times: expected times that are at least 0; got -1.0"),
        (lambda: kd.output_gradient_flow(descent_problem(1.0), [np.inf]), "times: expected finite times"),
        (lambda: kd.output_flow(descent_problem(1.0), [1.0], at=np.ones((2, 3))), "at: expected"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
