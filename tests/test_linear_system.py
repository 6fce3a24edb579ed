"""The system's actions on several blocks of units, and how its slopes are kept, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import linear_system
from kdlib.limit import inverse_on_range
from kdlib.linear_system import LinearSystem, over_units
from tests.dense import ACTIVATIONS

M, N, D, LAM = 192, 1500, 3, 0.5  # more features than one block takes


def problem(activation, m=M, n=N, d=D):
    rng = np.random.default_rng(m)
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], size=m), activation)
    return kd.TransferProblem(student, rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(m, n)), lam=LAM)


@pytest.fixture(params=[True, False], ids=["kept", "streamed"])
def keeps(request, monkeypatch):
    """Whether slopes are kept, as those of a problem of this size are, or computed anew in each product."""
    if not request.param:
        monkeypatch.setattr(linear_system, "_KEPT_BYTES", 0)
    return request.param


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
def test_actions_on_several_blocks_agree_with_plain_products(activation, keeps):
    given, rng = problem(activation), np.random.default_rng(1)
    system = LinearSystem.of(given)
    assert (system.kept_slopes is not None) == keeps
    assert system._in_blocks(given.student.weights).shape[1] > 1
    x, w, b = (np.asarray(part) for part in (given.x, given.student.weights, given.student.output_weights))
    slopes = ACTIVATIONS[activation][1](w @ x.T)
    v, rows, outputs = rng.normal(size=(M, D)), rng.normal(size=(M, N)), rng.normal(size=N)

    def adjoint(rows, outputs):
        return (slopes * (np.sqrt(LAM) * rows + b[:, None] * outputs)) @ x

    change = slopes * (v @ x.T)
    image = np.sqrt(LAM) * change, b @ change
    close = {"rtol": 1e-11, "atol": 1e-10}
    np.testing.assert_allclose(system.slopes, slopes, **close)
    np.testing.assert_allclose(system.adjoint((rows, outputs)), adjoint(rows, outputs), **close)
    np.testing.assert_allclose(system.output_adjoint(outputs), adjoint(0 * rows, outputs), **close)
    np.testing.assert_allclose(system.output_adjoint(1j * outputs), 1j * adjoint(0 * rows, outputs), **close)
    np.testing.assert_allclose(system.product(v), adjoint(*image), **close)
    moved, length, own, pulled = system.advance(jnp.asarray(v), (jnp.asarray(rows), jnp.asarray(outputs)), 0.3)
    left = image[0] - 0.3 * rows, image[1] - 0.3 * outputs
    np.testing.assert_allclose(moved[0], left[0], **close)
    np.testing.assert_allclose(moved[1], left[1], **close)
    np.testing.assert_allclose(length, np.sqrt(np.sum(left[0] ** 2) + np.sum(left[1] ** 2)), **close)
    np.testing.assert_allclose(own, image[1], **close)
    np.testing.assert_allclose(pulled, adjoint(*left), **close)


@pytest.mark.parametrize(("activation", "bytes_each"), [("relu", 1), ("tanh", 8)])
def test_only_the_slopes_are_kept_beside_the_problem(activation, bytes_each, keeps):
    given = problem(activation)
    known = {id(array) for array in jax.tree.leaves(given)}
    kept = [array for array in jax.tree.leaves(LinearSystem.of(given)) if id(array) not in known]
    assert sum(array.nbytes for array in kept) == (bytes_each * M * N if keeps else 0) + 8 * N


def test_a_problem_too_large_for_its_slopes_has_the_same_answers(monkeypatch):
    """At all times, and with its teacher given as a network: what is kept is an array of the features' size less."""
    small = problem("tanh", 6, 5, 4)
    times, at = np.array([0.0, 0.1, 3.0, 1e3, np.inf]), np.random.default_rng(2).normal(size=(3, 4))
    teacher = small.student.with_weights(small.student.weights + 0.3)
    kept = kd.TransferProblem(small.student, small.x, small.y, teacher.features(small.x), lam=LAM)
    expected = kd.kernel_flow(kept, times, at=at)
    monkeypatch.setattr(linear_system, "_KEPT_BYTES", 239)  # of 240
    streamed = kd.TransferProblem(small.student, small.x, small.y, teacher, lam=LAM)
    assert LinearSystem.of(streamed).kept_slopes is None
    path = kd.kernel_flow(streamed, times, at=at)
    assert path.converged
    for name in ("outputs", "energies", "movement"):
        np.testing.assert_allclose(getattr(path, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(path.network.weights, expected.network.weights, rtol=1e-9)


@pytest.mark.parametrize("route", [kd.kernel_flow, kd.laplace_flow])
def test_derivatives_pass_a_pattern_of_bytes(route):
    """In λ, where the slopes are those of a ReLU."""
    given = problem("relu", 6, 5, 4)

    def fit(lam):
        each = kd.TransferProblem(given.student, given.x, given.y, given.phi, lam=lam)
        return jnp.sum(route(each, jnp.array([0.5, 3.0])).outputs ** 2)

    step = 1e-5
    difference = (fit(LAM + step) - fit(LAM - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(fit)(LAM), difference, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 31, 32, 33, 37, 40, 96, 150])
def test_units_are_mapped_in_batches_of_equal_size(m):
    """A smaller last batch would be a second program, and could run beside the others."""
    traced = []

    def double(unit):
        traced.append(unit)
        return 2 * unit[0] + unit[1]

    first, second = jnp.arange(3.0 * m).reshape(m, 3), jnp.arange(1.0 * m)[:, None]
    mapped = jax.jit(lambda *units: over_units(double, units))(first, second)
    np.testing.assert_array_equal(mapped, 2 * first + jnp.broadcast_to(second, (m, 3)))
    assert len({id(unit[0]) for unit in traced}) == len(traced) == 1


def bent(given, lam, step):
    """What the limit is when the inputs move by ``step`` along a fixed direction."""
    x = given.x + step * jax.random.normal(jax.random.key(5), given.x.shape)
    limit = kd.fixed_point(kd.TransferProblem(given.student, x, given.y, given.phi, lam=lam))
    return limit.outputs, limit.features, limit.unlearnable, limit.displacement


@pytest.mark.parametrize(
    ("activation", "m", "n", "d", "lam"),
    [
        ("tanh", 1, 3, 3, LAM), ("tanh", 6, 7, 3, LAM), ("tanh", 6, 7, 3, 0.0),
        ("tanh", 1, 7, 3, LAM), ("tanh", 1, 7, 3, 0.0),  # no unit sees all directions
        ("relu", 6, 5, 3, LAM), ("relu", 32, 5, 3, LAM), ("relu", 3, 4, 6, 0.0),
    ],
)  # fmt: skip
def test_the_limit_has_its_derivatives_in_the_inputs(activation, m, n, d, lam):
    """At constant rank: also where units of a ReLU have lost rank, and where eigenvalues of P̄ are equal."""
    given, step = problem(activation, m, n, d), 1e-6
    ranks = np.linalg.matrix_rank(given.student.derivative(given.x)[:, :, None] * given.x[None])
    assert (np.min(ranks) < min(n, d)) == (activation == "relu")
    slopes = jax.jvp(lambda step: bent(given, lam, step), (0.0,), (1.0,))[1]
    for slope, after, before in zip(slopes, bent(given, lam, step), bent(given, lam, -step), strict=True):
        np.testing.assert_allclose(slope, (after - before) / (2 * step), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, LAM])
def test_an_inverse_on_the_range_has_its_derivative(shift):
    """Of a matrix of rank two, its range moving."""
    columns, moved = jax.random.normal(jax.random.key(7), (2, 5, 2))

    def inverse(step):
        factor = columns + step * moved
        return inverse_on_range(factor @ factor.T, jnp.asarray(shift) + step, jnp.asarray(0.0))

    step = 1e-6
    slope = jax.jvp(inverse, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(slope, (inverse(step) - inverse(-step)) / (2 * step), rtol=1e-6, atol=1e-7)


def test_the_limit_differentiates_twice_where_singular_values_meet():
    """The unit's matrix is the identity: all its singular values are one, and so are the eigenvalues of P̄."""
    student = kd.TwoLayerNetwork(jnp.zeros((1, 3)), jnp.ones(1))
    given = kd.TransferProblem(student, jnp.eye(3), jnp.arange(3.0), jnp.ones((1, 3)), lam=LAM)

    def fit(step):
        return jnp.sum(bent(given, LAM, step)[3] ** 2)

    step, slope = 1e-4, jax.grad(fit)
    np.testing.assert_allclose(slope(0.0), (fit(step) - fit(-step)) / (2 * step), rtol=1e-6)
    twice = jax.jacfwd(jax.jacfwd(fit))(0.0)
    np.testing.assert_allclose(twice, (slope(step) - slope(-step)) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("m", [32, 33, 37, 70])
def test_the_limit_of_several_batches_has_its_derivatives(m):
    """In the inputs, where a batch filled up with units of zeros would have none."""
    given, step = problem("tanh", m, 7, 3), 1e-5

    def fit(step):
        return jnp.sum(bent(given, LAM, step)[0] ** 2)

    np.testing.assert_allclose(jax.grad(fit)(0.0), (fit(step) - fit(-step)) / (2 * step), rtol=1e-5)
    by_units = jnp.linalg.svd(given.student.derivative(given.x)[:, :, None] * given.x[None], full_matrices=False)[0]
    projectors = jnp.einsum("kir,kjr->kij", by_units, by_units)
    learnt = jnp.einsum("kij,kj->ki", projectors, given.feature_gap)
    np.testing.assert_allclose(kd.fixed_point(given).unlearnable, given.feature_gap - learnt, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1e3])
def test_what_is_kept_of_the_start_is_the_problem_s_own(size):
    given = problem("tanh", 6, 5, 4)
    given = kd.TransferProblem(given.student, given.x, size * given.y, given.phi, lam=LAM)
    system = LinearSystem.of(given)
    np.testing.assert_allclose(system.scale, given.scale, rtol=1e-13)
    np.testing.assert_allclose(system.output_gap, given.output_gap, rtol=1e-13)
    np.testing.assert_allclose(system.start, given.student(given.x), rtol=1e-13)
