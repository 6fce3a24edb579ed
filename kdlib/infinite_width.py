"""The student of infinitely many units: its outputs depend on their distribution alone.

Book: chapter *Characteristic values and fading memory*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.linear_system import after
from kdlib.network import Activation, TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.trajectory import kernel_flow
from kdlib.validation import ArrayLike, is_concrete, non_negative, real_array, time_array

# Groups of units whose solutions differ by the draw alone: how much is the standard error.
_GROUPS = 8


class InfiniteWidthFlow(eqx.Module):
    """The outputs of an infinitely wide student.

    Attributes
    ----------
    times : array, shape (T,)
        Gradient-flow times, in the order asked for.
    outputs : array, shape (T, n)
        Outputs on the training data, or on the rows of ``at`` where that was given.
    standard_error : array, shape (T, n)
        One standard error of these outputs from the random draw of units. Its derivatives count as 0.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> flow = kd.infinite_width_flow(jnp.eye(2), jnp.ones(2), jnp.zeros(2), [0.0, 1.0], lam=0.0,
    ...                               key=jax.random.key(0), samples=64)
    >>> flow.outputs.shape, bool((flow.standard_error[1] < 0.1).all())
    ((2, 2), True)
    """

    times: jax.Array
    outputs: jax.Array
    standard_error: jax.Array


def infinite_width_flow(
    x: ArrayLike,
    y: ArrayLike,
    dual: ArrayLike,
    times: ArrayLike,
    *,
    lam: float | jax.Array,
    key: jax.Array,
    activation: Activation = "tanh",
    samples: int = 4096,
    at: ArrayLike | None = None,
) -> InfiniteWidthFlow:
    r"""Follow an infinitely wide student that starts at f(0) = 0 and has a teacher trained from its own start.

    Only the memory kernel of the student is left of its units. The teacher's lead is
    :math:`\varphi_k - f_k(0) = b_k H_k \alpha`, so

    .. math::
        y - f(t) = y - (K(0) - K(t))\,\alpha - \int_0^t K(t - \tau)\,(y - f(\tau))\,d\tau,
        \qquad K(t) = \mathbb E_{w \sim N(0, I)} \bigl[ H_w\, e^{-\lambda H_w t} \bigr] .

    The expectation is a Monte-Carlo mean. With units drawn from it the equation is that of a student with as many
    units, and :func:`kernel_flow` solves it.

    Parameters
    ----------
    x : array, shape (n, d)
        Inputs, one row a sample.
    y : array, shape (n,)
        Labels.
    dual : array, shape (n,)
        :math:`\alpha`, the teacher's dual coefficients: its outputs are K(0)α. A teacher trained in the kernel regime,
        without a teacher of its own, has :math:`\alpha = \int_0^{t'} (y' - f(\tau))\,d\tau` for labels y' and time t'.
    times : array, shape (T,)
        Gradient-flow times in any order; 0 and ``inf`` are allowed.
    lam : float
        The strength λ ≥ 0 of the transfer.
    key : jax.random.key
        For the draw of the units.
    activation : {"tanh", "relu", "erf", "softplus"} or callable
    samples : int
        Units drawn, a multiple of 8, at least 16.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    InfiniteWidthFlow

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, λ < 0, a wrong key, or a wrong number of samples.

    Notes
    -----
    The standard error is that of eight groups of units, each with its own solution. It falls like ``samples**-0.5``;
    the bias, from the equation being nonlinear in K, like ``1/samples``. For a finite student of random signs a_k with
    mean square 1, independent of its weights, K(t) has the same limit. Outputs are those of the drawn student to 1e-8
    in 64-bit, 1e-3 in 32-bit, as in :func:`kernel_flow`.

    References
    ----------
    Statement ``infinite-width-memory`` of the book. Jacot, Gabriel, Hongler, *Neural Tangent Kernel*, NeurIPS 2018 (the
    limit without a teacher).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> flow = kd.infinite_width_flow(jnp.eye(2), jnp.ones(2), jnp.zeros(2), [0.0, jnp.inf], lam=0.0,
    ...                               key=jax.random.key(0), samples=64)
    >>> flow.outputs.round(6).tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    x = real_array("x", x, (("n", None), ("d", None)))
    y = real_array("y", y, (("n", x.shape[0]),))
    dual = real_array("dual", dual, (("n", x.shape[0]),))
    times, lam = time_array(times, allow_inf=True), non_negative("lam", lam)
    if isinstance(samples, bool) or not hasattr(samples, "__index__") or samples < 2 * _GROUPS or samples % _GROUPS:
        raise ValueError(f"samples: expected a multiple of {_GROUPS}, at least {2 * _GROUPS}; got {samples!r}")
    points = x if at is None else real_array("at", at, (("rows", None), ("d", x.shape[1])))
    weights = TwoLayerNetwork.init(key, samples, x.shape[1], activation=activation).weights

    def follow(weights):
        student = TwoLayerNetwork(weights, jnp.ones(weights.shape[0], weights.dtype), activation)
        slopes = student.derivative(x)
        lead = student.output_weights[:, None] * slopes * ((slopes * dual[None, :]) @ x @ x.T)
        problem = TransferProblem(student, x, y + student(x), student.features(x) + lead, lam=lam)
        return kernel_flow(problem, times, at=points).outputs - student(points)[None, :]

    parts = weights.reshape(_GROUPS, -1, x.shape[1])
    if is_concrete(x, y, dual, times, lam, points, weights):
        groups = jnp.stack([follow(part) for part in parts])
    else:
        groups = jax.lax.map(follow, parts)
    outputs = follow(after(groups, weights))
    error = jax.lax.stop_gradient(jnp.std(groups, axis=0, ddof=1) / np.sqrt(_GROUPS))
    return InfiniteWidthFlow(times, outputs, error)
