"""The Laplace domain against dense algebra: T(s), the resolvent, the transform, and the way back to time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.dense import Dense
from tests.problems import SHAPES, as_transfer_problem, random_problem

TIMES = np.array([0.0, 1e-12, 1e-6, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e6, 1e9, 1e12, np.inf])
SOME = (SHAPES[0], SHAPES[1])
POINTS = (0.7, 1e-3, 2.0 + 3.0j, -0.4 + 0.01j)


@pytest.mark.parametrize("lam", [0.0, 1e-12, 0.3, 1e12])
@pytest.mark.parametrize("shape", SOME)
def test_inversion_reaches_twelve_digits_at_all_times(shape, lam):
    for seed, activation in ((1, "relu"), (3, "tanh"), (4, "relu")):
        *parts, _ = random_problem(shape, activation, seed)
        dense, problem = Dense(*parts, lam), as_transfer_problem(*parts, lam)
        path = kd.laplace_flow(problem, TIMES)
        finite = np.where(np.isinf(TIMES), 1e30, TIMES)
        moved = [dense.displacement(t) for t in finite]
        reference = np.stack([dense.outputs(v) for v in moved])
        assert np.abs(path.outputs - reference).max() <= 1e-12 * dense.scale
        assert path.converged and path.error <= 2e-12
        energies = np.array([dense.energy(v) for v in moved])
        np.testing.assert_allclose(path.energies, energies, atol=1e-12 * max(energies[0], dense.scale**2), rtol=1e-11)
        lengths = np.array([np.linalg.norm(v) for v in moved]) / np.sqrt(shape[0])
        # 1e-4 is what the reference itself reaches at λ = 1e-12 and t = inf
        np.testing.assert_allclose(path.movement, lengths, rtol=1e-4, atol=1e-10)


def test_trajectory_agrees_with_the_krylov_route_at_other_inputs():
    problem = as_transfer_problem(*random_problem(SHAPES[1], "tanh", 3))
    at = np.random.default_rng(0).normal(size=(3, problem.student.dim))
    for times in ([0.5, 20.0, 0.0], [0.5, 0.0, np.inf], [0.0, 0.0, 0.0], [0.0, 0.5]):
        laplace, krylov = kd.laplace_flow(problem, times, at=at), kd.kernel_flow(problem, times, at=at)
        np.testing.assert_allclose(laplace.outputs, krylov.outputs, atol=1e-9)
        np.testing.assert_allclose(laplace.network.weights, krylov.network.weights, atol=1e-7)
        np.testing.assert_allclose(laplace.movement, krylov.movement, atol=1e-9)


def test_many_times_go_through_in_batches(monkeypatch):
    monkeypatch.setattr("kdlib.contour._NUMBERS_AT_ONCE", 3 * 26 * 25)
    problem = as_transfer_problem(*random_problem((7, 5, 3), "tanh", 3))
    times = np.geomspace(0.1, 100, 8)[::-1]
    batched, krylov = kd.laplace_flow(problem, times), kd.kernel_flow(problem, times)
    np.testing.assert_allclose(batched.outputs, krylov.outputs, atol=1e-9)
    np.testing.assert_allclose(batched.network.weights, krylov.network.weights, atol=1e-8)


@pytest.mark.parametrize("lam", [0.0, 0.3])
@pytest.mark.parametrize("shape", SOME)
def test_matrix_resolvent_and_transform(shape, lam):
    for seed, activation in ((1, "tanh"), (4, "relu")):
        *parts, _ = random_problem(shape, activation, seed)
        dense, problem = Dense(*parts, lam), as_transfer_problem(*parts, lam)
        n, m = dense.y.size, shape[0]
        kernels = dense.jacobians @ np.swapaxes(dense.jacobians, 1, 2)
        force, size = dense.a.T @ dense.g, dense.a.shape[1]
        vector = np.random.default_rng(seed).normal(size=(m, shape[2]))
        for s in POINTS:
            terms = [b**2 * h @ np.linalg.inv(s * np.eye(n) + lam * h) for b, h in zip(dense.b, kernels)]
            matrix = kd.characteristic_matrix(problem, s)
            np.testing.assert_allclose(matrix, np.eye(n) + sum(terms), rtol=1e-9, atol=1e-9)
            assert np.iscomplexobj(matrix) == isinstance(s, complex)
            whole = s * np.eye(size) + dense.a.T @ dense.a
            solved = np.linalg.solve(whole, force)
            np.testing.assert_allclose(np.ravel(kd.resolvent(problem, s)), solved, rtol=1e-8, atol=1e-8)
            other = np.ravel(kd.resolvent(problem, s, vector))
            np.testing.assert_allclose(other, np.linalg.solve(whole, vector.ravel()), rtol=1e-8, atol=1e-7)
            transform = (dense.start + dense.outputs_map @ solved) / s
            np.testing.assert_allclose(kd.output_transform(problem, s), transform, rtol=1e-8, atol=1e-8)


def test_at_zero_stands_the_limit():
    problem = as_transfer_problem(*random_problem(SHAPES[1], "relu", 3))
    assert problem.lam > 0
    np.testing.assert_allclose(kd.resolvent(problem, 0.0), kd.fixed_point(problem).displacement, atol=1e-10)
    dense = Dense(*random_problem(SHAPES[1], "relu", 3))
    vector = np.random.default_rng(0).normal(size=problem.student.weights.shape)
    pseudo = np.linalg.pinv(dense.a.T @ dense.a, rcond=1e-12) @ vector.ravel()
    np.testing.assert_allclose(np.ravel(kd.resolvent(problem, 0.0, vector)), pseudo, atol=1e-8)


def test_the_resolvent_keeps_its_digits_beside_rates_far_from_s():
    """Units that move in every direction, s a millionth of a millionth of their rates: nothing is of size 1/s."""
    x = 1e6 * np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    student = kd.TwoLayerNetwork(np.full((2, 2), 1e-6), np.ones(2))
    problem = kd.TransferProblem(student, x, np.ones(3), student.features(x), lam=0.5)
    vector, s = np.array([[1.0, -2.0], [0.5, 3.0]]), 1e-3 * (1 + 1j)
    dense = Dense(np.asarray(student.weights), np.ones(2), "tanh", x, np.ones(3), np.asarray(problem.phi), 0.5)
    solved = np.linalg.solve(s * np.eye(4) + dense.a.T @ dense.a, vector.ravel())
    np.testing.assert_allclose(np.ravel(kd.resolvent(problem, s, vector)), solved, rtol=1e-8)


def test_derivatives_are_those_of_the_matrix_where_singular_values_coincide():
    # a dead unit and a circle of samples: singular values that coincide, and some that are 0
    data = kd.datasets.circle(6)
    net = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 2)

    def total(weights, s, lam):
        problem = kd.TransferProblem(net.with_weights(weights), data.x, data.y, jnp.zeros((4, 6)), lam=lam)
        return jnp.sum(jnp.sin(kd.characteristic_matrix(problem, s) * jnp.arange(36.0).reshape(6, 6)))

    start = net.weights.at[0].set(0.0)
    arguments = start, 0.3, 0.5
    gradients = jax.grad(total, (0, 1, 2))(*arguments)
    step = 1e-6
    for i, point in ((0, np.eye(8)[3].reshape(4, 2)), (0, np.eye(8)[0].reshape(4, 2)), (1, 1.0), (2, 1.0)):
        above, below = (
            total(*[value + sign * step * point if j == i else value for j, value in enumerate(arguments)])
            for sign in (1, -1)
        )
        np.testing.assert_allclose(np.sum(gradients[i] * point), (above - below) / (2 * step), rtol=1e-5, atol=1e-6)


def test_many_points_by_vmap_and_jit():
    problem = as_transfer_problem(*random_problem(SHAPES[0], "tanh", 3))
    points = jnp.array([0.5, 1.0 + 1.0j])
    for function in (kd.characteristic_matrix, kd.resolvent, kd.output_transform):
        many = jax.jit(jax.vmap(function, (None, 0)))(problem, points)
        np.testing.assert_allclose(many[1], function(problem, points[1]), rtol=1e-12, atol=1e-12)
    path = jax.jit(kd.laplace_flow)(problem, jnp.array([0.0, 1.0, jnp.inf]))
    np.testing.assert_allclose(path.outputs, kd.laplace_flow(problem, [0.0, 1.0, np.inf]).outputs, atol=1e-12)


def hump(lam=0.5):
    """One unit with the kernel I on two samples."""
    net = kd.TwoLayerNetwork(np.zeros((1, 2)), np.ones(1))
    return kd.TransferProblem(net, np.eye(2), np.ones(2), np.zeros((1, 2)), lam=lam)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kd.characteristic_matrix("problem", 1.0), "problem: expected a TransferProblem"),
        (lambda: kd.characteristic_matrix(hump(), "one"), "s: expected a real number"),
        (lambda: kd.characteristic_matrix(hump(), [1.0, 2.0]), "s: expected a real number; got shape"),
        (lambda: kd.characteristic_matrix(hump(), complex(0, np.inf)), "s: expected finite values"),
        (lambda: kd.characteristic_matrix(hump(), -0.5), "no pole -λh"),
        (lambda: kd.characteristic_matrix(hump(0.0), 0.0), "other than 0, since lam is 0"),
        (lambda: kd.resolvent(hump(), -0.5), "no pole -λh"),
        (lambda: kd.resolvent(hump(), -1.5), "no characteristic value"),
        (lambda: kd.resolvent(hump(0.0), 0.0), "other than 0, since lam is 0"),
        (lambda: kd.resolvent(hump(), 1.0, np.ones(2)), "vector: expected a real array of shape"),
        (lambda: kd.output_transform(hump(), 0.0), "residue f"),
        (lambda: kd.output_transform(hump(), 1.0, at=np.ones((2, 3))), "at: expected"),
        (lambda: kd.laplace_flow(hump(), [-1.0]), "times: expected times that are at least 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_failure_is_told(monkeypatch):
    monkeypatch.setattr("kdlib.contour._SHIFT", -1.0)  # a contour whose rounding errors explode
    jax.clear_caches()
    with pytest.warns(UserWarning, match="four more nodes"):
        assert not kd.laplace_flow(hump(0.25), [1.0]).converged
    jax.clear_caches()


def test_thirty_two_bits():
    with jax.enable_x64(False):
        path = kd.laplace_flow(hump(), [0.0, 1.0, np.inf])
    assert path.outputs.dtype == jnp.float32 and path.converged
    np.testing.assert_allclose(path.outputs[1], (1 - np.exp(-1.5)) / 1.5, rtol=1e-4)
