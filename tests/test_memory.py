"""The Volterra route against dense algebra, and the infinitely wide student against a Gauss rule over its units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import kdlib as kd
from tests.dense import Dense
from tests.problems import SHAPES, as_transfer_problem, random_problem

TIMES = np.array([0.0, 1e-12, 1e-6, 1e-2, 0.1, 1.0, 10.0, 1e3, 1e6, 1e9, 1e12])


@pytest.mark.parametrize("lam", [0.0, 1e-12, 0.3, 1e12])
@pytest.mark.parametrize("shape", (SHAPES[0], SHAPES[1]))
def test_volterra_route_reaches_twelve_digits_at_all_times(shape, lam):
    for seed, activation in ((1, "tanh"), (4, "relu")):
        *parts, _ = random_problem(shape, activation, seed)
        dense, problem = Dense(*parts, lam), as_transfer_problem(*parts, lam)
        path = kd.memory_flow(problem, TIMES)
        moved = [dense.displacement(t) for t in TIMES]
        assert np.abs(path.outputs - np.stack([dense.outputs(v) for v in moved])).max() <= 1e-12 * dense.scale
        assert path.converged
        energies = np.array([dense.energy(v) for v in moved])
        np.testing.assert_allclose(path.energies, energies, atol=1e-12 * max(energies[0], dense.scale**2), rtol=1e-11)
        lengths = np.array([np.linalg.norm(v) for v in moved]) / np.sqrt(shape[0])
        np.testing.assert_allclose(path.movement, lengths, rtol=1e-4, atol=1e-10)


def test_volterra_route_agrees_with_the_krylov_route_at_other_inputs():
    problem = as_transfer_problem(*random_problem(SHAPES[1], "tanh", 3))
    at = np.random.default_rng(0).normal(size=(3, problem.student.dim))
    for times in ([0.5, 0.0, 20.0], [0.0, 0.0, 0.0]):
        memory, krylov = kd.memory_flow(problem, times, at=at), kd.kernel_flow(problem, times, at=at)
        np.testing.assert_allclose(memory.outputs, krylov.outputs, atol=1e-9)
        np.testing.assert_allclose(memory.network.weights, krylov.network.weights, atol=1e-8)
    compiled = jax.jit(kd.memory_flow)(problem, jnp.array([0.5, 20.0]))
    np.testing.assert_allclose(compiled.outputs, kd.memory_flow(problem, [0.5, 20.0]).outputs, atol=1e-11)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_kernel_against_matrix_exponentials(lam):
    for shape, activation in ((SHAPES[0], "tanh"), (SHAPES[1], "relu")):
        *parts, _ = random_problem(shape, activation, 1)
        dense, problem = Dense(*parts, lam), as_transfer_problem(*parts, lam)
        kernels = dense.jacobians @ np.swapaxes(dense.jacobians, 1, 2)
        memory = kd.memory_kernel(problem, [2.0, 0.0, np.inf])
        dense_sum = sum(b**2 * h @ scipy.linalg.expm(-2.0 * lam * h) for b, h in zip(dense.b, kernels))
        np.testing.assert_allclose(memory[0], dense_sum, atol=1e-12)
        np.testing.assert_allclose(memory[1], kd.tangent_kernel(problem.student, problem.x), atol=1e-12)
        np.testing.assert_allclose(memory[2], memory[1] if lam == 0 else 0 * memory[1], atol=1e-12)


def gauss_student(x, y, dual, lam):
    """The infinitely wide student in one dimension: units at Gauss-Hermite nodes, their weights as b_k²."""
    z, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    student = kd.TwoLayerNetwork(z[:, None], np.sqrt(60 * weights))
    slopes = np.asarray(student.derivative(x))
    lead = np.asarray(student.output_weights)[:, None] * slopes * ((slopes * dual) @ x @ x.T)
    return kd.TransferProblem(student, x, y + student(x), student.features(x) + lead, lam=lam)


def test_infinite_width_is_within_its_standard_error():
    x, y, dual = np.array([[0.5], [1.0], [-1.5]]), np.array([1.0, -1.0, 0.5]), np.array([0.3, -0.2, 0.1])
    times, at = [0.0, 0.3, 3.0, np.inf], np.array([[0.8]])
    wide = gauss_student(x, y, dual, 0.5)
    for inputs in (None, at):
        points = x if inputs is None else inputs
        exact = kd.kernel_flow(wide, times, at=inputs).outputs - wide.student(points)[None, :]
        drawn = kd.infinite_width_flow(x, y, dual, times, lam=0.5, key=jax.random.key(0), at=inputs)
        assert np.all(np.abs(drawn.outputs - exact) <= 4 * drawn.standard_error + 1e-12)
        assert np.all(drawn.standard_error <= 0.02) and np.all(drawn.standard_error[0] <= 1e-12)


def test_standard_error_falls_with_the_root_of_the_samples():
    x, y = kd.datasets.circle(4).x, kd.datasets.circle(4).y
    flows = [
        kd.infinite_width_flow(x, y, np.zeros(4), [1.0], lam=0.3, key=jax.random.key(1), samples=m) for m in (64, 4096)
    ]
    few, many = (np.mean(flow.standard_error) for flow in flows)
    assert 4 < few / many < 16  # 8 on average


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: kd.memory_kernel("problem", [1.0]), "problem: expected a TransferProblem"),
        (lambda p: kd.memory_kernel(p, [np.nan]), "times: expected numbers; got NaN"),
        (lambda p: kd.memory_flow(p, [1.0, np.inf]), "times: expected finite times"),
        (lambda p: kd.memory_flow(p, [1.0], at=np.ones((2, 99))), "at: expected"),
        (lambda p: wide(samples=12), "samples: expected a multiple of 8"),
        (lambda p: wide(samples=8), "samples: expected a multiple of 8"),
        (lambda p: wide(lam=-1.0), "lam: expected a number that is at least 0"),
        (lambda p: wide(key=3), "key: expected a key"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(as_transfer_problem(*random_problem(SHAPES[0], "tanh", 3)))


def wide(**changes):
    options = {"lam": 0.5, "key": jax.random.key(0), **changes}
    return kd.infinite_width_flow(np.eye(2), np.ones(2), np.zeros(2), [1.0], **options)
