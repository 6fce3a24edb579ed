"""The student and its teacher: a two-layer network whose first layer is trained.

Book: chapter *Transfer* (setting) and the notation table.
"""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.validation import ArrayLike, positive_integer, random_key, real_array

# a name, or an elementwise function
Activation = str | Callable[[jax.Array], jax.Array]

_TWO_OVER_SQRT_PI = 1.1283791670955126

# Each name maps to (sigma, sigma'), both elementwise. The ReLU's slope at its kink is 0 by convention.
# 1 - tanh² as a product: far out, where the difference would round to 0, it keeps all its digits.
ACTIVATIONS = {
    "tanh": (jnp.tanh, lambda z: 4.0 * jax.nn.sigmoid(2.0 * z) * jax.nn.sigmoid(-2.0 * z)),
    "relu": (lambda z: jnp.maximum(z, 0.0), lambda z: (z > 0).astype(z.dtype)),
    "erf": (jax.lax.erf, lambda z: _TWO_OVER_SQRT_PI * jnp.exp(-(z**2))),
    "softplus": (jax.nn.softplus, jax.nn.sigmoid),
}
_SLOPES_FROM_VALUES = {"tanh": lambda value: (1.0 - value) * (1.0 + value)}


def activation_pair(activation):
    """Return ``(sigma, sigma')`` for a name or an elementwise callable, or raise `ValueError`."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if callable(activation):
        _check_elementwise(activation)
        return activation, lambda z: jax.jvp(activation, (z,), (jnp.ones_like(z),))[1]
    names = ", ".join(repr(name) for name in ACTIVATIONS)
    raise ValueError(f"activation: expected one of {names}, or an elementwise callable; got {activation!r}")


@functools.lru_cache(maxsize=64)
def _check_elementwise(activation):
    """Raise `ValueError` unless the callable maps real arrays to real arrays of the same shape."""
    example = jax.ShapeDtypeStruct((2, 3), float)
    try:
        image = jax.eval_shape(activation, example)
        came = f"{image.dtype.name} values of shape {image.shape}"
    except Exception as error:
        raise ValueError(f"activation: expected an elementwise callable; it fails on an array: {error}") from error
    if image.shape != example.shape or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"activation: expected an elementwise callable; it maps shape {example.shape} to {came}")


class TwoLayerNetwork(eqx.Module):
    r"""A two-layer network with trained hidden weights and fixed output weights.

    .. math:: f(x) = \sum_{k=1}^m b_k\, \sigma(w_k \cdot x), \qquad b_k = a_k / \sqrt m .

    Parameters
    ----------
    weights : array, shape (m, d)
        Row k is :math:`w_k`, the trained weights of hidden unit k.
    signs : array, shape (m,)
        The fixed :math:`a_k`, usually ±1; other values, 0 included, are allowed.
    activation : {"tanh", "relu", "erf", "softplus"} or callable
        :math:`\sigma`. A callable acts elementwise and is differentiated by JAX.

    Raises
    ------
    ValueError
        For a wrong shape, a value that is not finite, complex numbers, or an unknown activation.

    Notes
    -----
    The network is a JAX pytree. The ReLU's derivative at 0 is taken to be 0.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0], "relu")
    >>> net.features(jnp.array([[3.0, 1.0]])).tolist()
    [[3.0], [2.0]]
    >>> print(f"{net(jnp.array([[3.0, 1.0]]))[0]:.4f}")  # (3 - 2)/√2
    0.7071
    >>> kd.TwoLayerNetwork.init(jax.random.key(0), 100, 8).weights.shape
    (100, 8)
    """

    weights: jax.Array
    signs: jax.Array
    activation: Activation = eqx.field(static=True)

    def __init__(self, weights: ArrayLike, signs: ArrayLike, activation: Activation = "tanh"):
        activation_pair(activation)
        self.weights = real_array("weights", weights, (("m", None), ("d", None)))
        self.signs = real_array("signs", signs, (("m", self.weights.shape[0]),))
        self.activation = activation

    @classmethod
    def init(cls, key: jax.Array, width: int, dim: int, *, activation: Activation = "tanh") -> "TwoLayerNetwork":
        """Draw a network: weights from N(0, I), signs uniform on ±1, independently.

        Parameters
        ----------
        key : jax.random.key
        width : int
            The number m of hidden units.
        dim : int
            The input dimension d.
        activation : str or callable

        Returns
        -------
        TwoLayerNetwork

        Raises
        ------
        ValueError
            Unless key is a random key, width and dim are positive integers, and the activation is known.
        """
        width, dim = positive_integer("width", width), positive_integer("dim", dim)
        activation_pair(activation)
        weight_key, sign_key = jax.random.split(random_key(key))
        weights = jax.random.normal(weight_key, (width, dim))
        return cls(weights, jax.random.rademacher(sign_key, (width,), dtype=weights.dtype), activation)

    def with_weights(self, weights: ArrayLike) -> "TwoLayerNetwork":
        """Return the network with other trained weights, and everything else the same.

        Parameters
        ----------
        weights : array, shape (m, d)

        Returns
        -------
        TwoLayerNetwork

        Raises
        ------
        ValueError
            For weights of a wrong shape or with values that are not finite.
        """
        return TwoLayerNetwork(
            real_array("weights", weights, (("m", self.width), ("d", self.dim))), self.signs, self.activation
        )

    @property
    def width(self) -> int:
        """The number m of hidden units."""
        return self.weights.shape[0]

    @property
    def dim(self) -> int:
        """The input dimension d."""
        return self.weights.shape[1]

    @property
    def output_weights(self) -> jax.Array:
        r"""The fixed output weights :math:`b_k = a_k/\sqrt m`, shape (m,)."""
        return self.signs / math.sqrt(self.width)

    @property
    def a(self) -> jax.Array:
        r"""The number :math:`a = \sum_k b_k^2`, equal to 1 when every sign is ±1."""
        return jnp.sum(self.output_weights**2)

    def features(self, x: ArrayLike) -> jax.Array:
        r"""Return the hidden features :math:`f_k(x_i) = \sigma(w_k \cdot x_i)`.

        Parameters
        ----------
        x : array, shape (n, d)
            Inputs, one row a sample.

        Returns
        -------
        array, shape (m, n)
            Row k is :math:`f_k`.

        Raises
        ------
        ValueError
            For inputs of a wrong shape or with values that are not finite.
        """
        return _units(self.activation, 0, self.weights, _inputs(x, self.dim))

    def derivative(self, x: ArrayLike) -> jax.Array:
        r"""Return the slopes :math:`\sigma'(w_k \cdot x_i)`.

        Parameters
        ----------
        x : array, shape (n, d)
            Inputs, one row a sample.

        Returns
        -------
        array, shape (m, n)
            Row k is the diagonal of :math:`S_k`.

        Raises
        ------
        ValueError
            For inputs of a wrong shape or with values that are not finite.
        """
        return _units(self.activation, 1, self.weights, _inputs(x, self.dim))

    def __call__(self, x: ArrayLike) -> jax.Array:
        r"""Return the outputs :math:`f(x_i) = \sum_k b_k f_k(x_i)`.

        Parameters
        ----------
        x : array, shape (n, d)
            Inputs, one row a sample.

        Returns
        -------
        array, shape (n,)
            In label units.

        Raises
        ------
        ValueError
            For inputs of a wrong shape or with values that are not finite.
        """
        return self.output_weights @ self.features(x)


def features_and_slopes(net, x):
    """σ and σ' at w_k·x_i, shapes (m, n), for training: a slope that comes from the value is as accurate as that."""
    features, from_value = net.features(x), _SLOPES_FROM_VALUES.get(net.activation)
    return features, net.derivative(x) if from_value is None else from_value(features)


def _inputs(x, dim):
    return real_array("x", x, (("n", None), ("d", dim)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _units(activation, order, weights, x):
    r"""The activation's derivative of order 0 or 1 at :math:`w_k \cdot x_i`, shape (m, n)."""
    return activation_pair(activation)[order](weights @ x.T)
