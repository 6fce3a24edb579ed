"""Kernels against autodiff, quadrature in the plane, and networks of growing width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.dense import Dense
from tests.problems import SHAPES, random_problem

ACTIVATIONS = ["tanh", "relu", "erf", "softplus"]


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_agree_with_dense_matrices(shape, activation, sweep):
    for seed in range(200 if sweep else 20):
        arrays = random_problem(shape, activation, seed)
        weights, signs, _, x, *_ = arrays
        dense, net = Dense(*arrays), kd.TwoLayerNetwork(weights, signs, activation)
        expected = np.einsum("kid,kjd->kij", dense.jacobians, dense.jacobians)
        np.testing.assert_allclose(kd.unit_kernels(net, x), expected, atol=1e-12)
        np.testing.assert_allclose(kd.tangent_kernel(net, x), dense.outputs_map @ dense.outputs_map.T, atol=1e-12)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, jnp.sin])
def test_tangent_kernel_is_the_jacobian_times_itself(activation):
    keys = jax.random.split(jax.random.key(0), 3)
    net = kd.TwoLayerNetwork.init(keys[0], 9, 4, activation=activation)
    x, x2 = jax.random.normal(keys[1], (5, 4)), jax.random.normal(keys[2], (3, 4))
    jacobian = jax.jacobian(lambda weights, x: net.with_weights(weights)(x))
    rows, rows2 = (jacobian(net.weights, inputs).reshape(len(inputs), -1) for inputs in (x, x2))
    np.testing.assert_allclose(kd.tangent_kernel(net, x, x2), rows @ rows2.T, atol=1e-13)
    np.testing.assert_allclose(kd.tangent_kernel(net, x), rows @ rows.T, atol=1e-13)


def oracle(activation, r, r2, rho):
    """E[sigma'(u) sigma'(u')] by the Gauss-Legendre rule with 400² nodes on a square of ten deviations."""
    slope = {
        "tanh": lambda z: 1 / np.cosh(z) ** 2,
        "erf": lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2)),
        "softplus": lambda z: 1 / (1 + np.exp(-z)),
    }[activation]
    z, weights = np.polynomial.legendre.leggauss(400)
    z, weights = 10 * z, 10 * weights
    weights = weights * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    inner = slope(r2 * (rho * z[:, None] + np.sqrt(1 - rho**2) * z[None, :])) @ weights
    return weights @ (slope(r * z) * inner)


@pytest.mark.parametrize("activation", ["tanh", "erf", "softplus"])
@pytest.mark.parametrize(("r", "r2", "rho"), [(1.0, 1.0, 0.6), (0.3, 2.0, -0.9)])
def test_limit_kernel_against_quadrature(activation, r, r2, rho):
    x = np.array([[r, 0.0]])
    x2 = r2 * np.array([[rho, np.sqrt(1 - rho**2)]])
    expected = oracle(activation, r, r2, rho) * r * r2 * rho
    assert kd.limit_kernel(x, x2, activation=activation)[0, 0] == pytest.approx(expected, rel=1e-10)


def test_limit_kernel_of_the_relu_at_known_angles():
    angles = np.array([0.0, np.pi / 3, np.pi / 2, 2 * np.pi / 3, np.pi])
    x = np.array([[2.0, 0.0]])
    x2 = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    expected = 6 * np.cos(angles) * (np.pi - angles) / (2 * np.pi)
    np.testing.assert_allclose(kd.limit_kernel(x, x2, activation="relu")[0], expected, atol=1e-14)


@pytest.mark.parametrize("dim", [64, 784, 3000])
def test_limit_kernel_of_the_relu_at_equal_inputs_of_many_coordinates(dim):
    x = np.random.default_rng(0).normal(size=(600, dim))
    twice = kd.limit_kernel(np.concatenate([x, x]), activation="relu")  # more than one block
    for part in (twice, twice[:600, 600:]):
        np.testing.assert_allclose(np.diag(part)[:600], np.sum(x**2, axis=1) / 2, rtol=1e-13)
    np.testing.assert_allclose(twice, twice.T, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "erf", "tanh"])
def test_blocks_do_not_show(activation):
    x = np.random.default_rng(0).normal(size=(513, 3)) / 2
    net = kd.TwoLayerNetwork.init(jax.random.key(0), 5, 3, activation=activation)
    whole, limit = kd.tangent_kernel(net, x), kd.limit_kernel(x, activation=activation)
    for rows in ([0, 170, 171, 512], [255, 256, 342]):
        np.testing.assert_allclose(kd.tangent_kernel(net, x[rows], x), whole[np.array(rows)], atol=1e-13)
        np.testing.assert_allclose(
            kd.limit_kernel(x[rows], x, activation=activation), limit[np.array(rows)], atol=1e-12
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_erf_kernel_of_parallel_rows_keeps_its_digits_for_long_inputs(dtype):
    for length in (1e-6, 1.0, 1e2, 1e6, 1e8):
        direction = np.array([3.0, -1.0, 2.0]) / np.sqrt(14)
        sizes = np.array([length, -2 * length, 0.5 * length])
        x = (sizes[:, None] * direction).astype(dtype)
        squares, gram = sizes**2, np.outer(sizes, sizes)
        exact = 4 / np.pi * gram / np.sqrt(1 + 2 * squares[:, None] + 2 * squares[None, :])
        np.testing.assert_allclose(kd.limit_kernel(x, activation="erf"), exact, rtol=10 * np.finfo(dtype).eps)


def test_erf_kernel_has_its_second_derivatives_where_rows_are_parallel():
    x = jnp.array([0.3, -0.8, 0.5])

    def formula(x, z):
        """Williams, 1997."""
        return 4 / jnp.pi * (x @ z) / jnp.sqrt((1 + 2 * x @ x) * (1 + 2 * z @ z) - 4 * (x @ z) ** 2)

    def kernel(x, z):
        return kd.limit_kernel(x[None], z[None], activation="erf")[0, 0]

    for z in (x, -2 * x):
        mixed, expected = (jax.jacfwd(jax.grad(of), argnums=1)(x, z) for of in (kernel, formula))
        np.testing.assert_allclose(mixed, expected, rtol=1e-10, atol=1e-12)


def test_closed_form_of_erf_equals_its_hermite_series():
    x = np.random.default_rng(0).normal(size=(12, 5))
    series = kd.limit_kernel(x, activation=lambda z: jax.scipy.special.erf(z))
    np.testing.assert_allclose(series, kd.limit_kernel(x, activation="erf"), atol=1e-11)


def test_long_inputs_get_a_warning_with_an_honest_error():
    x = 40.0 * np.eye(2)[:1]
    with pytest.warns(UserWarning, match="has not converged after 4096 terms; estimated relative error"):
        series = kd.limit_kernel(x, activation=lambda z: jax.scipy.special.erf(z))
    exact = kd.limit_kernel(x, activation="erf")[0, 0]
    assert abs(series[0, 0] - exact) > 1e-6 * exact


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_wide_networks_approach_the_limit_kernel(activation):
    x = np.random.default_rng(1).normal(size=(6, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    limit = kd.limit_kernel(x, activation=activation)
    gaps = [
        np.mean(
            [
                np.linalg.norm(
                    kd.tangent_kernel(kd.TwoLayerNetwork.init(key, width, 3, activation=activation), x) - limit
                )
                for key in jax.random.split(jax.random.key(width), 30)
            ]
        )
        for width in (100, 10_000)
    ]
    slope = np.log(gaps[1] / gaps[0]) / np.log(100)
    assert -0.6 < slope < -0.4


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_limit_kernel_passes_through_jit_and_grad(activation):
    x = np.random.default_rng(2).normal(size=(4, 3))
    expected = kd.limit_kernel(x, activation=activation)
    np.testing.assert_allclose(jax.jit(lambda x: kd.limit_kernel(x, activation=activation))(x), expected, atol=1e-10)

    def entry(x):
        return kd.limit_kernel(x, activation=activation)[0, 1]

    step = 1e-6 * np.eye(4, 3)
    numeric = (entry(x + step) - entry(x - step)) / 2
    assert jnp.sum(jax.grad(entry)(x) * step) == pytest.approx(float(numeric), rel=1e-5)
