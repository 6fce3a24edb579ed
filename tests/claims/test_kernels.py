"""The statements of the chapter *Kernels* over random problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import kernels as checkers
from tests.extremes import corner_of, extreme

ACTIVATIONS = ("tanh", "relu", "erf", "softplus")
SMOOTH = ("tanh", "erf", "softplus")
# (m, n, d): n < d, n > d, n > md, and the smallest
SHAPES = ((3, 4, 6), (4, 6, 2), (2, 7, 3), (1, 1, 1))
STRETCHED = np.diag([4.0, 1.0, 1.0])


def inputs(seed, n, d, longest=1.5):
    """Rows of random length up to ``longest``; in some problems the last one repeats the first, or its opposite."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x *= rng.uniform(0, longest, size=(n, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    if n > 1 and seed % 3:
        x[-1] = x[0] * (3 - 2 * (seed % 3))
    return jnp.asarray(x)


def in_corner(network, x, seed):
    """A network and its inputs in the corner of their seed."""
    problem = extreme(kd.TransferProblem(network, x, jnp.zeros(len(x)), None, lam=0.0), seed)
    return problem.student, problem.x


def inputs_in_corner(x, seed):
    """Inputs in the corner of their seed, for the weights of every network at once."""
    return in_corner(kd.TwoLayerNetwork(jnp.ones((1, x.shape[1])), jnp.ones(1)), x, seed)[1]


def smooth_inputs(x, seed):
    """The same, but never long: a slope as narrow as 1e-6 asks quadrature and Hermite series for too much."""
    return x if corner_of(seed) == "long inputs" else inputs_in_corner(x, seed)


def directions(seed, n, d):
    x = np.random.default_rng(seed).normal(size=(n, d))
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def network(seed, width, dim):
    net = kd.TwoLayerNetwork.init(jax.random.key(seed), width, dim, activation=ACTIVATIONS[seed % 4])
    # output weights of any size, some of them zero
    signs = np.random.default_rng(seed).normal(size=width) * (np.arange(width) % 3 != 2)
    return kd.TwoLayerNetwork(net.weights, signs, net.activation)


def networks(count, width, dim, activation):
    keys = jax.random.split(jax.random.key(count + width), count)
    return [kd.TwoLayerNetwork.init(key, width, dim, activation=activation) for key in keys]


@pytest.mark.claim("unit-kernel-form")
def test_unit_kernel_form(cases, ledger):
    for seed in cases:
        m, n, d = SHAPES[seed % len(SHAPES)]
        ledger(claims.unit_kernel_form(*in_corner(network(seed // 2, m, d), inputs(seed, n, d), seed)))


@pytest.mark.claim("tangent-kernel-rank")
def test_tangent_kernel_rank(cases, ledger):
    for seed in cases:
        m, n, d = SHAPES[seed % len(SHAPES)]
        ledger(claims.tangent_kernel_rank(*in_corner(network(seed // 2, m, d), inputs(seed, n, d), seed)))


def test_duplicates_and_antipodes_are_invisible_at_any_width():
    x = directions(0, 5, 3).at[1].set(directions(0, 5, 3)[0])
    for activation in ACTIVATIONS:
        net = networks(1, 512, 3, activation)[0]
        assert np.linalg.eigvalsh(kd.tangent_kernel(net, x))[0] < 1e-10
        smallest = np.linalg.eigvalsh(kd.tangent_kernel(net, x.at[1].multiply(-1)))[0]
        # an odd activation has an even slope and cannot tell x from -x
        assert (smallest < 1e-10) == (activation in ("tanh", "erf"))


@pytest.mark.claim("kernel-concentration")
def test_kernel_concentration(cases, ledger):
    x = [directions(seed, 5, 3) for seed in range(4)]
    for seed in cases:
        activation = ACTIVATIONS[seed % 4]
        moved = inputs_in_corner if activation in ("relu", "erf") else smooth_inputs
        own = moved((0.5 + seed % 3 / 2) * x[seed // 4 % 4], seed)
        keys = jax.random.split(jax.random.key(seed), 8)
        nets = [kd.TwoLayerNetwork.init(key, 64, own.shape[1], activation=activation) for key in keys]
        ledger(claims.kernel_concentration(nets, own))


@pytest.mark.counterexample("kernel-concentration")
def test_units_that_share_their_weights_do_not_concentrate():
    tied = [net.with_weights(jnp.tile(net.weights[:1], (16384, 1))) for net in networks(16, 16384, 3, "relu")]
    assert claims.kernel_concentration(tied, directions(1, 5, 3)).margin <= 0.01


@pytest.mark.counterexample("kernel-concentration")
def test_weights_of_another_law_concentrate_elsewhere():
    wide = [net.with_weights(3 * net.weights) for net in networks(4, 16384, 3, "tanh")]
    assert claims.kernel_concentration(wide, directions(1, 5, 3)).margin <= 0.01


def test_variance_and_slope_of_the_concentration():
    x = directions(2, 4, 3)
    limit = np.asarray(kd.limit_kernel(x, activation="relu"))
    gram = np.asarray(x @ x.T)
    on = np.divide(limit, gram)
    exact = np.sum(gram**2 * on * (1 - on))  # m times the mean square: the product of two slopes is 0 or 1
    measured = {}
    for width in (16, 256, 4096):
        kernels = np.stack([kd.tangent_kernel(net, x) for net in networks(400, width, 3, "relu")])
        measured[width] = np.mean(np.sum((kernels - limit) ** 2, axis=(1, 2)))
        assert width * measured[width] == pytest.approx(exact, rel=0.15)
    slope = np.polyfit(np.log(list(measured)), np.log(list(measured.values())) / 2, 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.03)


@pytest.mark.claim("relu-limit-kernel")
def test_relu_limit_kernel(cases, ledger):
    for seed in cases:
        ledger(claims.relu_limit_kernel(inputs_in_corner(inputs(seed, 5, 3, longest=10.0), seed)))


@pytest.mark.claim("erf-limit-kernel")
def test_erf_limit_kernel(cases, ledger):
    for seed in cases:
        ledger(claims.erf_limit_kernel(smooth_inputs(inputs(seed, 4, 3), seed)))


@pytest.mark.claim("mehler-expansion")
def test_mehler_expansion(cases, ledger):
    for seed in cases:
        x = smooth_inputs(inputs(seed, 4, 3), seed)
        ledger(claims.mehler_expansion(x, activation=SMOOTH[seed % 3], terms=1 + seed % 25))


@pytest.mark.counterexample("relu-limit-kernel")
@pytest.mark.counterexample("erf-limit-kernel")
@pytest.mark.counterexample("mehler-expansion")
def test_other_gaussian_weights_have_another_limit():
    x = directions(3, 4, 3)
    assert claims.relu_limit_kernel(x, covariance=STRETCHED).margin <= 0.01
    assert claims.erf_limit_kernel(x, covariance=STRETCHED).margin <= 0.01
    assert claims.mehler_expansion(x, activation="tanh", terms=20, covariance=STRETCHED).margin <= 0.01


def test_the_truncation_bound_is_tight():
    # parallel inputs of one length: the remainder is the tail itself
    x = jnp.asarray([[1.0, 0.0], [1.0, 0.0]])
    for terms in (1, 2, 4):
        coefficients = np.polynomial.hermite_e.hermegauss(120)
        z, weight = coefficients[0], coefficients[1] / np.sqrt(2 * np.pi)
        slope = 1 - np.tanh(z) ** 2
        basis = [np.ones_like(z), z, (z**2 - 1) / np.sqrt(2), (z**3 - 3 * z) / np.sqrt(6)][:terms]
        partial = sum((weight @ (slope * row)) ** 2 for row in basis)
        truth = kd.limit_kernel(x, activation="tanh")[0, 1]
        assert truth - partial == pytest.approx(weight @ slope**2 - partial, rel=1e-9)
        assert truth - partial > 1e-4


@pytest.mark.claim("limit-kernel-positive")
def test_limit_kernel_positive(cases, ledger):
    for seed in cases:
        n, d = ((8, 2), (10, 3), (12, 8))[seed % 3]
        x = inputs_in_corner(directions(seed, n, d), seed)
        x /= jnp.linalg.norm(x, axis=1, keepdims=True)
        ledger(claims.limit_kernel_positive(x, activation=ACTIVATIONS[seed % 4]))


@pytest.mark.counterexample("limit-kernel-positive")
def test_short_inputs_have_a_smaller_limit_kernel():
    assert claims.limit_kernel_positive(0.1 * directions(4, 10, 8), activation="tanh").margin <= 0.01


def test_the_lower_bound_is_tight_for_orthogonal_inputs():
    x = jnp.eye(4)
    smallest = np.linalg.eigvalsh(kd.limit_kernel(x, activation="softplus"))[0]
    z, weight = np.polynomial.hermite_e.hermegauss(80)
    assert smallest == pytest.approx(weight @ (1 / (1 + np.exp(-z))) ** 2 / np.sqrt(2 * np.pi), rel=1e-9)


def test_unit_kernel_form_notices_a_missing_slope(monkeypatch):
    # S_k XXᵀ in the place of S_k XXᵀ S_k
    monkeypatch.setattr(checkers, "unit_kernels", lambda net, x: net.derivative(x)[:, :, None] * (x @ x.T)[None])
    assert claims.unit_kernel_form(network(0, 3, 6), inputs(0, 4, 6)).margin <= 0.01


def test_tangent_kernel_rank_notices_missing_output_weights(monkeypatch):
    # the mean of the unit kernels, as if every output weight were 1/√m
    monkeypatch.setattr(checkers, "tangent_kernel", lambda net, x: jnp.mean(kd.unit_kernels(net, x), axis=0))
    assert claims.tangent_kernel_rank(network(0, 3, 6), inputs(0, 4, 6)).margin <= 0.01
