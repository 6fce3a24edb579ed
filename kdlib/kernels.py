"""Kernels: of one unit, of the whole network, and of the infinitely wide one.

Book: chapter *Kernels*.
"""

import functools
import math
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.network import Activation, TwoLayerNetwork, activation_pair
from kdlib.validation import ArrayLike, is_concrete, real_array

_FIRST_TERMS, _MOST_TERMS, _TRACED_TERMS = 64, 4096, 1024
_NODES, _FARTHEST_NODE = 4097, 13.0
_BLOCK = 250  # rows of a block of a kernel: what is done to each entry is done while the block is in the cache
_ARCSIN_TERMS = 24


def rank_tolerance(dtype, *sizes):
    """The one tolerance of all rank decisions: a singular value or eigenvalue below it times the largest is 0."""
    return 10 * max(sizes) * jnp.finfo(dtype).eps


def range_eigh(matrix, size: jax.Array | float = 0.0):
    """Eigenvalues of a matrix ⪰ 0, ascending, and eigenvectors.

    Values that rounding hides, relative to the largest or to ``size``, are zero.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    seen = values > rank_tolerance(values.dtype, values.size) * jnp.maximum(values[-1], size)
    return jnp.where(seen, values, 0.0), vectors


def _check_network(net):
    if not isinstance(net, TwoLayerNetwork):
        raise ValueError(f"net: expected a TwoLayerNetwork; got {type(net).__name__}")
    return net


def unit_kernels(net: TwoLayerNetwork, x: ArrayLike) -> jax.Array:
    r"""Return every unit's own kernel.

    .. math:: H_k = L_k^\top L_k = S_k X X^\top S_k, \qquad S_k = \operatorname{diag} \sigma'(X w_k) .

    This array has m·n² entries. Nothing else in kdlib builds it.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : array, shape (n, d)

    Returns
    -------
    array, shape (m, n, n)
        Symmetric positive semidefinite matrices of rank at most min(n, d).

    Raises
    ------
    ValueError
        For inputs of a wrong shape or with values that are not finite.

    Notes
    -----
    Each is accurate to 1e-11 in 64-bit, 1e-5 in 32-bit, relative to its norm; see :func:`tangent_kernel`.

    References
    ----------
    Jacot, Gabriel, Hongler, *Neural Tangent Kernel*, NeurIPS 2018. Statement ``unit-kernel-form`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork([[0.0, 0.0], [0.0, 0.0]], [1.0, -1.0])
    >>> kd.unit_kernels(net, jnp.eye(2)).tolist()  # slope 1 everywhere: each is the Gram matrix
    [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
    """
    slopes = _check_network(net).derivative(x)
    gram = jnp.asarray(x) @ jnp.asarray(x).T
    return slopes[:, :, None] * gram[None] * slopes[:, None, :]


def tangent_kernel(net: TwoLayerNetwork, x: ArrayLike, x2: ArrayLike | None = None) -> jax.Array:
    r"""Return the neural tangent kernel of a network's first layer.

    .. math:: \bar H(x, x') = \sum_k b_k^2\, \sigma'(w_k \cdot x)\, \sigma'(w_k \cdot x')\; x \cdot x' .

    Parameters
    ----------
    net : TwoLayerNetwork
    x : array, shape (n, d)
    x2 : array, shape (n2, d), optional
        The second set of inputs; x itself by default.

    Returns
    -------
    array, shape (n, n2)

    Raises
    ------
    ValueError
        If ``net`` is not a network; for inputs of a wrong shape or with values that are not finite.

    Notes
    -----
    Accurate to 1e-11 in 64-bit, 1e-5 in 32-bit, relative to its norm. The worst are units that are saturated on all
    samples: their slopes multiply the rounding of :math:`w_k \cdot x` by its size.

    References
    ----------
    Jacot, Gabriel, Hongler, *Neural Tangent Kernel*, NeurIPS 2018.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork([[0.0, 0.0], [0.0, 0.0]], [1.0, -1.0])
    >>> print(kd.tangent_kernel(net, jnp.eye(2), jnp.array([[1.0, 2.0]])))
    [[1.]
     [2.]]
    """
    x = real_array("x", x, (("n", None), ("d", _check_network(net).dim)))
    return _tangent_kernel(net, x, None if x2 is None else real_array("x2", x2, (("n2", None), ("d", net.dim))))


@eqx.filter_jit
def _tangent_kernel(net, x, x2):
    def rows(x):
        return x, (net.output_weights[:, None] * net.derivative(x)).T

    def block(first, second):
        (x, slopes), (x2, slopes2) = first, second
        return (slopes @ slopes2.T) * (x @ x2.T)

    return _in_blocks(block, rows(x), None if x2 is None else rows(x2))


def _in_blocks(block, rows, rows2=None):
    """The matrix of all pairs of rows, block by block; of the rows with themselves, only the half above the diagonal.

    ``block`` maps two tuples of arrays, with as many rows as the block is high and wide, to the block.
    """
    n, n2 = (len(part[0]) for part in (rows, rows if rows2 is None else rows2))
    parts, parts2 = -(-n // _BLOCK), -(-n2 // _BLOCK)
    height, width = -(-n // parts), -(-n2 // parts2)
    at, at2 = np.triu_indices(parts) if rows2 is None else np.indices((parts, parts2)).reshape(2, -1)
    # the last block ends with the last row, and so may lie over the one before
    corners = jnp.asarray(np.stack([np.minimum(at * height, n - height), np.minimum(at2 * width, n2 - width)], 1))

    def fill(matrix, corner):
        row, column = corner
        first = tuple(jax.lax.dynamic_slice_in_dim(part, row, height) for part in rows)
        second = tuple(jax.lax.dynamic_slice_in_dim(part, column, width) for part in (rows if rows2 is None else rows2))
        values = block(first, second)
        matrix = jax.lax.dynamic_update_slice(matrix, values, (row, column))
        if rows2 is None:
            matrix = jax.lax.dynamic_update_slice(matrix, values.T, (column, row))
        return matrix, None

    empty = jnp.zeros((n, n2), jnp.result_type(*rows, *(rows2 or ())))
    return jax.lax.scan(fill, empty, corners)[0]


def limit_kernel(x: ArrayLike, x2: ArrayLike | None = None, *, activation: Activation) -> jax.Array:
    r"""Return the tangent kernel of the infinitely wide first layer with a = 1.

    .. math:: \bar H_\infty(x, x') = \mathbb E_{w \sim N(0, I)}[\sigma'(w \cdot x)\, \sigma'(w \cdot x')]\; x \cdot x' .

    ReLU and erf have closed forms. Any other smooth activation goes through the Hermite series of its
    derivative, with coefficients :math:`c_j(r) = \mathbb E_z[\sigma'(r z) h_j(z)]` by one-dimensional quadrature
    (:math:`h_j` the normalised Hermite polynomials):

    .. math:: \mathbb E[\sigma'(w \cdot x) \sigma'(w \cdot x')]
              = \sum_j c_j(\lVert x \rVert)\, c_j(\lVert x' \rVert)\, \cos^j \angle(x, x') .

    Parameters
    ----------
    x : array, shape (n, d)
    x2 : array, shape (n2, d), optional
        The second set of inputs; x itself by default.
    activation : {"tanh", "relu", "erf", "softplus"} or callable

    Returns
    -------
    array, shape (n, n2)

    Raises
    ------
    ValueError
        For inputs of a wrong shape or with values that are not finite, or an unknown activation.

    Warns
    -----
    UserWarning
        When the Hermite series has not converged (long inputs, a rough derivative); the message gives the
        estimated error.

    Notes
    -----
    Where there is no warning, accurate to 1e-12 in 64-bit, 1e-3 in 32-bit, relative to :math:`\sqrt{\bar H(x, x) \bar
    H(x', x')}`, and to 1e-7 in 64-bit, 1e-3 in 32-bit for rows that are all but parallel: an angle below the root of
    rounding counts as 0. With erf that is times :math:`1 + \lVert x \rVert \lVert x' \rVert`.

    References
    ----------
    Cho and Saul, *Kernel Methods for Deep Learning*, NeurIPS 2009 (ReLU). Williams, *Computing with Infinite
    Networks*, NeurIPS 1997 (erf). Daniely, Frostig, Singer, *Toward Deeper Understanding of Neural Networks*,
    NeurIPS 2016 (Hermite series).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> kd.limit_kernel(jnp.array([[1.0], [2.0]]), activation="relu").tolist()  # half of the units are on
    [[0.5, 1.0], [1.0, 2.0]]
    """
    activation_pair(activation)
    x = real_array("x", x, (("n", None), ("d", None)))
    x2 = None if x2 is None else real_array("x2", x2, (("n2", None), ("d", x.shape[1])))
    if activation == "erf":
        return _limit_kernel(_erf_block, (x,), None if x2 is None else (x2,))
    if activation == "relu":
        return _limit_kernel(_relu_block, (x,), None if x2 is None else (x2,))
    return _limit_kernel(_hermite_block, *_with_coefficients(activation_pair(activation)[1], x, x2))


@functools.partial(jax.jit, static_argnums=0)
def _limit_kernel(block, rows, rows2):
    def with_radii(rows):
        return rows[0], jnp.linalg.norm(rows[0], axis=1), *rows[1:]

    return _in_blocks(block, with_radii(rows), None if rows2 is None else with_radii(rows2))


def _erf_block(first, second):
    (x, radii), (x2, radii2) = first, second
    gram = x @ x2.T
    cosines, lengths = _cosines(gram, radii, radii2, x.shape[1]), jnp.outer(radii, radii2)
    # (rr')² - (x·x')², all but cancelled for long parallel rows: digits from the cosine, derivatives from the formula
    across = lengths**2 - gram**2
    across = across + jax.lax.stop_gradient(lengths**2 * (1 - cosines) * (1 + cosines) - across)
    determinant = 1 + 2 * (radii[:, None] ** 2 + radii2[None, :] ** 2) + 4 * across
    return 4 / jnp.pi * gram / jnp.sqrt(determinant)


def _relu_block(first, second):
    """The gram matrix times the share 1/2 - angle/2π of the units that are on at both inputs."""
    (x, radii), (x2, radii2) = first, second
    gram = x @ x2.T
    cosines = _cosines(gram, radii, radii2, x.shape[1])
    inside = jnp.abs(cosines) < 1
    # the sine of π/2 - angle, or where the angle is close to 0 or π, of half the angle to there
    steep = jnp.abs(cosines) > 0.5
    sine = jnp.where(steep, jnp.sqrt((1 - jnp.where(inside, jnp.abs(cosines), 0.0)) / 2), cosines)
    turn = jnp.where(inside, _arcsin(sine), 0.0) / jnp.pi
    return gram * jnp.where(steep, jnp.where(cosines > 0, 0.5 - turn, turn), 0.25 + turn / 2)


def _arcsin(sine):
    """Of |sine| ≤ 1/2, by the power series: many times faster here than what JAX has."""
    square = sine**2
    total = jnp.zeros_like(sine)
    for j in reversed(range(_ARCSIN_TERMS)):
        total = total * square + math.comb(2 * j, j) / 4**j / (2 * j + 1)
    return sine * total


def _hermite_block(first, second):
    """The gram matrix times sum_j c_j(r) c_j(r') cos^j, by Horner's rule."""
    (x, radii, coefficients), (x2, radii2, coefficients2) = first, second
    gram = x @ x2.T
    cosines = _cosines(gram, radii, radii2, x.shape[1])

    def horner(total, pair):
        c, c2 = pair
        return total * cosines + c[:, None] * c2[None, :], None

    total, _ = jax.lax.scan(horner, jnp.zeros_like(cosines), (coefficients.T, coefficients2.T), reverse=True)
    return gram * total


def _cosines(gram, radii, radii2, dim):
    """Cosines of the angles between rows; parallel rows get exactly ±1, a zero row gets 0."""
    lengths = jnp.outer(radii, radii2)
    cosines = jnp.where(lengths > 0, gram / jnp.where(lengths > 0, lengths, 1.0), 0.0)
    # arccos turns a rounding error of eps next to ±1 into an angle of sqrt(eps); those of a sum grow like sqrt(dim).
    nearly_parallel = jnp.abs(cosines) > 1 - (4 + dim**0.5) * jnp.finfo(cosines.dtype).eps
    return jnp.where(nearly_parallel, jnp.sign(cosines), cosines)


def _with_coefficients(derivative, x, x2):
    """The inputs with their Hermite coefficients, as many as it takes."""
    radii = jnp.linalg.norm(x, axis=1)
    radii2 = radii if x2 is None else jnp.linalg.norm(x2, axis=1)

    def rows(first, second):
        return (x, first.T), None if x2 is None else (x2, second.T)

    if not is_concrete(radii, radii2):
        return rows(*(_hermite_coefficients(derivative, r, _TRACED_TERMS)[0] for r in (radii, radii2)))
    goal, terms = 1e3 * jnp.finfo(x.dtype).eps, _FIRST_TERMS
    while True:
        first, tail, unresolved = _hermite_coefficients(derivative, radii, terms)
        second, tail2, unresolved2 = (
            (first, tail, unresolved) if x2 is None else _hermite_coefficients(derivative, radii2, terms)
        )
        # Cauchy-Schwarz for what the series leaves out, and the quadrature's own error
        error = float(np.sqrt(np.max(tail) * np.max(tail2)) + max(np.max(unresolved), np.max(unresolved2)))
        if error <= goal:
            break
        if terms == _MOST_TERMS:
            warnings.warn(
                f"limit_kernel: the Hermite series of the activation's derivative has not converged after "
                f"{terms} terms; estimated relative error {error:.1e}. Scale the inputs down.",
                stacklevel=3,
            )
            break
        terms *= 4
    return rows(first, second)


def _hermite_coefficients(derivative, radii, terms):
    """Coefficients c_j(r), shape (terms, n); the share of E[sigma'(rz)^2] beyond them; the quadrature's error."""
    z, density, basis = _hermite_functions(terms)
    slopes = derivative(jnp.asarray(z, radii.dtype)[:, None] * radii[None, :])
    return _expanded(slopes, density, basis)


@jax.jit
def _expanded(slopes, density, basis):
    values = jnp.sqrt(density.astype(slopes.dtype))[:, None] * slopes
    coefficients = basis.astype(slopes.dtype) @ values
    energy = jnp.sum(values**2, axis=0)
    safe = jnp.where(energy > 0, energy, 1.0)
    tail = jnp.maximum(energy - jnp.sum(coefficients**2, axis=0), 0.0) / safe
    # The rule of twice the spacing errs by the square root of this rule's error: both fall like exp(-const/spacing).
    unresolved = ((energy - 2 * jnp.sum(values[::2] ** 2, axis=0)) / safe) ** 2
    return coefficients, tail, unresolved


@functools.cache
def _hermite_functions(terms):
    """Nodes z, their weights under N(0, 1), and he_j(z) times the root of the weights, j < terms.

    The rule is the trapezoidal one. On the line it converges geometrically for every integrand analytic in a strip,
    and unlike Gauss-Hermite's its nodes stay where the density is, however many coefficients are asked for.
    """
    z = np.linspace(-_FARTHEST_NODE, _FARTHEST_NODE, _NODES)
    density = np.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)
    # Hermite functions, the polynomials times the root of the weight, stay bounded where the polynomials overflow.
    basis = np.zeros((terms, _NODES))
    basis[0] = np.sqrt(density)
    basis[1] = z * basis[0]
    for j in range(1, terms - 1):
        basis[j + 1] = (z * basis[j] - np.sqrt(j) * basis[j - 1]) / np.sqrt(j + 1)
    return z, density, basis
