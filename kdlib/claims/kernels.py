"""Checkers of the chapter *Kernels*: what a kernel of finite width is, and where it goes as m grows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

from kdlib.claims import Check
from kdlib.claims.gradient_flow import _ACTIVATIONS
from kdlib.kernels import limit_kernel, tangent_kernel, unit_kernels

# B_1 = sup |sigma'|
SLOPE = {"tanh": 1.0, "relu": 1.0, "erf": 2 / np.sqrt(np.pi), "softplus": 1.0}


def unit_kernel_form(network, x):
    r"""H_k = S_k XXᵀ S_k: positive semidefinite, rank ≤ min(d, active samples), zero rows where the unit is off.

    Definite exactly where all samples are on and linearly independent: λ_min(H_k) lies between the bounds that
    λ_min(XXᵀ) and the slopes give.

    Two routes: the formula (`unit_kernels`) and the Jacobian of the features by automatic differentiation.
    Book: *Kernels*, "The kernel of one unit".
    """
    label, tolerance = "unit-kernel-form", 1e-10
    kernels = np.asarray(unit_kernels(network, x))
    jacobian = np.asarray(jax.jacfwd(lambda weights: network.with_weights(weights).features(x))(network.weights))
    own = np.einsum("kikd->kid", jacobian)
    scale = max(float(np.max(np.abs(own))) ** 2 * network.dim, np.finfo(float).tiny)
    squares = np.asarray(network.derivative(x)) ** 2
    on = squares > 0
    rank = np.minimum(on.sum(axis=1), network.dim)
    eigenvalues = np.linalg.eigvalsh(kernels)[:, ::-1]
    beyond_rank = np.where(np.arange(x.shape[0]) >= rank[:, None], eigenvalues, 0.0)
    gram = np.asarray(x) @ np.asarray(x).T
    independence = max(np.linalg.eigvalsh(gram)[0], 0.0)
    lower, smallest = squares.min(axis=1) * independence, eigenvalues[:, -1]
    upper = np.minimum(squares.max(axis=1) * independence, np.min(squares * np.diag(gram), axis=1))
    return Check.worst(
        Check.compare(label, kernels, np.einsum("kid,kjd->kij", own, own), tolerance, scale, part="autodiff"),
        Check.at_most(label, -eigenvalues, 0.0, tolerance, scale, part="semidefinite"),
        Check.at_most(label, beyond_rank, 0.0, tolerance, scale, part="rank"),
        Check.at_most(label, lower, smallest, tolerance, scale, part="definite"),
        Check.at_most(label, smallest, upper, tolerance, scale, part="singular"),
        Check.compare(label, np.where(on[:, :, None], 0.0, kernels), 0 * kernels, tolerance, scale, part="off"),
    )


def tangent_kernel_rank(network, x):
    r"""H̄ = JJᵀ = XXᵀ ∘ G has rank ≤ min(n, md), λ_min(H̄) ≥ λ_min(G) min‖x_i‖², and is blind to duplicates.

    So is every H_k; for an even σ′ both are blind to antipodes as well.

    Two routes: `tangent_kernel` and the Jacobian of the outputs by automatic differentiation.
    Book: *Kernels*, "The kernel of the network".
    """
    label, tolerance = "tangent-kernel-rank", 1e-10
    kernel = np.asarray(tangent_kernel(network, x))
    jacobian, units, b, slopes, mirrored = (np.asarray(part) for part in _at_weights(network, x))
    x, jacobian = np.asarray(x), jacobian.reshape(x.shape[0], -1)
    scaled = b[:, None] * slopes
    slopes_gram = scaled.T @ scaled
    norms = np.sum(x**2, axis=1)
    scale = max(np.max(norms) * np.max(np.diag(slopes_gram)), np.finfo(float).tiny)
    eigenvalues = np.linalg.eigvalsh(kernel)
    lower = max(np.linalg.eigvalsh(slopes_gram)[0], 0.0) * np.min(norms)
    beyond_rank = eigenvalues[::-1][network.width * network.dim :]
    same = np.all(x[:, None, :] == x[None, :, :], axis=2)
    opposite = np.array_equal(slopes, mirrored) & np.all(x[:, None, :] == -x[None, :, :], axis=2)
    # H̄ and, weighted as in it, every H_k
    rows = np.concatenate([kernel[None], b[:, None, None] ** 2 * units])
    twins = np.where(same[:, :, None], rows[:, :, None, :] - rows[:, None, :, :], 0.0)
    antipodes = np.where(opposite[:, :, None], rows[:, :, None, :] + rows[:, None, :, :], 0.0)
    return Check.worst(
        Check.compare(label, kernel, jacobian @ jacobian.T, tolerance, scale, part="autodiff"),
        Check.at_most(label, lower - eigenvalues, 0.0, tolerance, scale, part="lower bound"),
        Check.at_most(label, np.append(beyond_rank, 0.0), 0.0, tolerance, scale, part="rank"),
        Check.compare(label, twins, 0 * twins, tolerance, scale, part="duplicates"),
        Check.compare(label, antipodes, 0 * antipodes, tolerance, scale, part="antipodes"),
    )


@jax.jit
def _at_weights(network, x):
    """The Jacobian of the outputs by automatic differentiation, H_k, b, and the slopes at x and at -x."""
    jacobian = jax.jacrev(lambda weights: network.with_weights(weights)(x))(network.weights)
    slopes = network.derivative(x), network.derivative(-x)
    return jacobian, unit_kernels(network, x), network.output_weights, *slopes


_tangent_kernels = jax.jit(jax.vmap(tangent_kernel, (0, None)))


def kernel_concentration(networks, x):
    r"""Mean of ‖H̄ − K‖_F² over independent networks is at most B₁⁴ ‖XXᵀ‖_F² / m, for signs ±1 and iid N(0, I) weights.

    The average of the c networks' kernels is the kernel of one network of width cm: it obeys the theorem's bound with
    δ = 1/4 at that width, which a bias would break.

    Two routes: random networks of one width (a sequence of them) and `limit_kernel`.
    Book: *Kernels*, "Infinite width".
    """
    first = networks[0]
    limit = np.asarray(limit_kernel(x, activation=first.activation))
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *networks)
    kernels, x = np.asarray(_tangent_kernels(stacked, x)), np.asarray(x)
    mean_square = np.mean(np.sum((kernels - limit) ** 2, axis=(1, 2)))
    bound = SLOPE[first.activation] ** 4 * np.sum((x @ x.T) ** 2) / first.width
    pooled = len(networks) * np.sum((np.mean(kernels, axis=0) - limit) ** 2)
    return Check.worst(
        Check.at_most("kernel-concentration", mean_square / bound, 1.0, 1e-6, part="mean square"),
        Check.at_most("kernel-concentration", pooled / bound, 4.0, 1e-6, part="no bias"),
    )


def relu_limit_kernel(x, *, covariance=None):
    r"""E[1(w·x > 0) 1(w·x′ > 0)] x·x′ = x·x′ (π − θ)/(2π), with θ the angle between x and x′.

    Two routes: `limit_kernel` and SciPy's adaptive quadrature of the orthant probability of (w·x, w·x′), for
    weights from N(0, covariance); the statement is about covariance I, the default.
    Book: *Kernels*, "The ReLU".
    """
    x = np.asarray(x)
    second_moments = _second_moments(x, covariance)
    expected = np.zeros_like(second_moments)
    for i, j in zip(*np.triu_indices(len(x)), strict=True):
        if i == j or second_moments[i, i] * second_moments[j, j] == 0:
            probability = 0.5
        else:
            correlation = second_moments[i, j] / np.sqrt(second_moments[i, i] * second_moments[j, j])
            probability = _orthant_probability(np.clip(correlation, -1.0, 1.0))
        expected[i, j] = expected[j, i] = probability * (x[i] @ x[j])
    computed = limit_kernel(jnp.asarray(x), activation="relu")
    return Check.compare("relu-limit-kernel", computed, expected, 1e-7, scale=np.max(x**2) * x.shape[1])


def erf_limit_kernel(x, *, covariance=None):
    r"""E[erf′(w·x) erf′(w·x′)] x·x′ = (4/π) x·x′ / √((1 + 2‖x‖²)(1 + 2‖x′‖²) − 4(x·x′)²).

    Two routes: `limit_kernel` and the trapezoidal rule on the plane of (w·x, w·x′), for weights from
    N(0, covariance); the statement is about covariance I, the default.
    Book: *Kernels*, "The error function".
    """
    computed = limit_kernel(jnp.asarray(x), activation="erf")
    expected = _limit_kernel_by_trapezium(np.asarray(x), "erf", covariance)
    return Check.compare("erf-limit-kernel", computed, expected, 1e-8)


def mehler_expansion(x, *, activation, terms, covariance=None):
    r"""E[σ′(u)σ′(u′)] = Σ_j c_j(‖x‖) c_j(‖x′‖) ρ^j, and N terms miss it by at most \|ρ\|^N τ_N(‖x‖) τ_N(‖x′‖).

    Three routes: `limit_kernel`, the sum of N = ``terms`` terms with its bound, and the trapezoidal rule on the
    plane of (w·x, w·x′), for weights from N(0, covariance); the statement is about covariance I, the default.
    Book: *Kernels*, "Any other activation".
    """
    label, tolerance = "mehler-expansion", 1e-8
    x = np.asarray(x)
    gram, norms = x @ x.T, np.linalg.norm(x, axis=1)
    truth = _limit_kernel_by_trapezium(x, activation, covariance)
    scale = np.max(np.abs(truth))
    coefficients, squares = _hermite_coefficients(activation, norms, terms)
    tails = np.sqrt(np.maximum(squares - np.sum(coefficients**2, axis=1), 0.0))
    lengths = np.outer(norms, norms)
    correlation = np.clip(np.divide(gram, lengths, out=np.zeros_like(gram), where=lengths > 0), -1.0, 1.0)
    powers = correlation[:, :, None] ** np.arange(terms)
    series = gram * np.sum(coefficients[:, None] * coefficients * powers, axis=2)
    bound = np.abs(gram * correlation**terms) * np.outer(tails, tails)
    computed = limit_kernel(jnp.asarray(x), activation=activation)
    return Check.worst(
        Check.compare(label, computed, truth, tolerance, part="library"),
        Check.at_most(label, np.abs(truth - series), bound, tolerance, scale, part="truncation"),
    )


def limit_kernel_positive(x, *, activation, terms=400):
    r"""For unit rows, λ_min(K) ≥ Σ_j c_j² (1 − (n−1) ρ⋆^(j+1))₊ with ρ⋆ = max_{i≠j} \|x_i·x_j\|.

    Two routes: the eigenvalues of `limit_kernel` and the Hermite coefficients of σ′, cut after ``terms``.
    Book: *Kernels*, "Far beyond n = d".
    """
    x = np.asarray(x)
    n = len(x)
    closest = np.max(np.abs(x @ x.T)[~np.eye(n, dtype=bool)], initial=0.0)
    coefficients = _hermite_coefficients(activation, np.ones(1), terms)[0][0]
    parts = np.maximum(1 - (n - 1) * closest ** (1 + np.arange(terms)), 0.0)
    smallest = np.linalg.eigvalsh(np.asarray(limit_kernel(jnp.asarray(x), activation=activation)))[0]
    return Check.at_most("limit-kernel-positive", coefficients**2 @ parts, smallest, 1e-9, scale=1.0)


def _second_moments(x, covariance):
    return x @ x.T if covariance is None else x @ np.asarray(covariance) @ x.T


def _orthant_probability(correlation):
    """P(u > 0, u′ > 0) for standard normal variables of the given correlation, by conditioning on u."""
    if abs(correlation) > 1 - 1e-15:
        return 0.5 if correlation > 0 else 0.0
    slope = correlation / np.sqrt((1 - correlation) * (1 + correlation))
    # the integrand turns from 1/2 to its final value within 1/|slope| of 0: tell the quadrature where
    turn = min(8.0, 8.0 / max(abs(slope), 1e-12))
    pieces = [(0.0, turn), (turn, 12.0)]
    return sum(quad(lambda z: _density(z) * ndtr(slope * z), *piece, epsabs=1e-13)[0] for piece in pieces)


def _density(z):
    """The standard normal density."""
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _limit_kernel_by_trapezium(x, activation, covariance, reach=9.0, step=0.1):
    """E[σ′(w·x)σ′(w·x′)] x·x′ over a uniform grid of the plane: exponentially accurate for analytic σ′."""
    slope = _ACTIVATIONS[activation].slope
    nodes = np.arange(-reach, reach + step, step)
    weights = _density(nodes) * step
    second_moments = _second_moments(x, covariance)
    expected = np.zeros_like(second_moments)
    for i in range(len(x)):
        radius, moments = np.sqrt(second_moments[i, i]), second_moments[i, i:]
        along = moments / radius if radius > 0 else np.zeros_like(moments)
        across = np.sqrt(np.maximum(np.diag(second_moments)[i:] - along**2, 0.0))
        second = along[:, None, None] * nodes[:, None] + across[:, None, None] * nodes
        expected[i, i:] = expected[i:, i] = (slope(second) @ weights) @ (weights * slope(radius * nodes))
    return expected * (x @ x.T)


def _hermite_coefficients(activation, radii, terms):
    """c_j = E[σ′(rz) he_j(z)], j < terms, and E[σ′(rz)²] for all radii r: exact for the ReLU, else by quadrature."""
    if activation == "relu":
        return np.tile(_relu_coefficients(terms), (len(radii), 1)), np.full(len(radii), 0.5)
    nodes, weights, polynomials = _hermite_rule(terms)
    values = _ACTIVATIONS[activation].slope(np.outer(radii, nodes))
    return (weights * values) @ polynomials.T, values**2 @ weights


@functools.cache
def _relu_coefficients(terms):
    # (He_{j-1} φ)′ = −He_j φ, so c_j = he_{j-1}(0) φ(0) / √j
    at_zero = _hermite(np.zeros(1), terms)[:, 0]
    return np.append(0.5, at_zero[:-1] * _density(0.0) / np.sqrt(np.arange(1, terms)))[:terms]


@functools.cache
def _hermite_rule(terms):
    """Nodes z and weights of the trapezoidal rule for N(0, 1), and he_j(z) for j < terms."""
    nodes = np.arange(-14.0, 14.0, 0.01)
    return nodes, _density(nodes) * 0.01, _hermite(nodes, terms)


def _hermite(z, terms):
    """The orthonormal polynomials he_0, …, he_{terms−1} at z, by their three-term recurrence."""
    rows = [np.ones_like(z), z]
    for j in range(1, terms):
        rows.append((z * rows[j] - np.sqrt(j) * rows[j - 1]) / np.sqrt(j + 1))
    return np.stack(rows[:terms])
