"""Where the kernel flow ends: the student between its labels and its teacher.

Book: chapter *Limit*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.kernels import rank_tolerance, tangent_kernel
from kdlib.linear_system import LinearSystem, sum_of_outer, unit_factors
from kdlib.problem import TransferProblem
from kdlib.validation import is_concrete


class FixedPoint(eqx.Module):
    """The limit t → ∞ of the frozen-kernel system.

    Attributes
    ----------
    outputs : array, shape (n,)
        f_∞ on the training data.
    features : array, shape (m, n)
        f_k,∞ on the training data.
    unlearnable : array, shape (m, n)
        (I - P_k)(φ_k - f_k(0)): what the student's units never learn of their teacher.
    displacement : array, shape (m, d)
        v_∞ = w(∞) - w(0).
    residual : array, scalar
        ‖c - M v_∞‖ relative to ‖c‖: how stationary the point is, whatever the rank decisions.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> limit = kd.fixed_point(problem)
    >>> limit.features.round(6).tolist(), limit.displacement.round(6).tolist()
    ([[0.666667, 0.666667]], [[0.666667, 0.666667]])
    >>> float(abs(limit.unlearnable).max().round(6))  # n = d: the unit can follow its teacher everywhere
    0.0
    """

    outputs: jax.Array
    features: jax.Array
    unlearnable: jax.Array
    displacement: jax.Array
    residual: jax.Array


def fixed_point(problem: TransferProblem) -> FixedPoint:
    r"""Return the limit of the frozen-kernel system, for any kernels, λ = 0 included.

    With :math:`P_k` the orthogonal projector on range(H_k), :math:`\bar P = \sum_k b_k^2 P_k` and λ > 0,

    .. math::
        y - f_\infty &= \lambda (\lambda I + \bar P)^{-1}
            \bigl[ y - f(0) - \textstyle\sum_k b_k P_k (\varphi_k - f_k(0)) \bigr], \\
        f_{k,\infty} &= f_k(0) + P_k \bigl[ \varphi_k - f_k(0) + \tfrac{b_k}{\lambda} (y - f_\infty) \bigr].

    At λ = 0 the limit is the plain kernel fit,
    :math:`f_{k,\infty} = f_k(0) + b_k H_k \bar H^+ (y - f(0))`.

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    FixedPoint

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    Notes
    -----
    Outputs are accurate to 1e-8 of max(‖y‖, ‖f(0)‖) in 64-bit, 1e-3 in 32-bit. So are the features, relative to the
    features' own size, unless units have ranges that all but coincide: rounding then meets 1/λ.
    A singular value of :math:`L_k` counts as zero below ``10 max(n, d) eps`` of the largest. A problem with values
    near that line is judged by ``residual``. Units are taken in blocks: memory stays O(m(n + d) + n²).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.fixed_point(problem).outputs.round(6).tolist()  # (y + λφ̄)/(1 + λ)
    [0.666667, 0.666667]
    """
    if not isinstance(problem, TransferProblem):
        raise ValueError(f"problem: expected a TransferProblem; got {type(problem).__name__}")
    system = LinearSystem.of(problem)
    if is_concrete(problem.lam):
        displacement, unlearnable = (_transfer if float(problem.lam) > 0 else _plain)(problem, system)
    else:
        displacement, unlearnable = jax.lax.cond(problem.lam > 0, _transfer, _plain, problem, system)
    return _fixed_point(problem, system, displacement, unlearnable)


@eqx.filter_jit
def _fixed_point(problem, system, displacement, unlearnable):
    change, target = system.features(displacement), system.target
    left_over = target[0] - jnp.sqrt(problem.lam) * change, target[1] - system.outputs(displacement)
    force, size = system.adjoint(left_over), jnp.linalg.norm(system.adjoint(target))
    features = problem.student.features(problem.x) + change
    return FixedPoint(
        outputs=problem.student.output_weights @ features,
        features=features,
        unlearnable=unlearnable,
        displacement=displacement,
        residual=jnp.linalg.norm(force) / jnp.where(size > 0, size, 1.0),
    )


@eqx.filter_jit
def _transfer(problem, system):
    """Displacement and unlearnable part for λ > 0."""
    x, b, gaps = system.x, system.output_weights, system.feature_gap

    def gather(total, batch):
        slopes, weights, gaps = batch
        left, _, _ = unit_factors(x, slopes)
        learnt = _projected(left, gaps)
        mean, carried = total
        mean = mean + sum_of_outer(left, jnp.broadcast_to(weights[:, None] ** 2, left.shape[::2]))
        return (mean, carried + weights @ learnt), gaps - learnt

    n = x.shape[0]
    start = jnp.zeros((n, n), x.dtype), jnp.zeros(n, x.dtype)
    (mean, carried), unlearnable = system.scan_units(gather, start, (system.slopes, b, gaps))
    # In P̄'s eigenbasis λ can be tiny: what no unit can see stays in the outputs' error and never meets 1/λ.
    values, vectors = jnp.linalg.eigh(mean)
    seen = values > rank_tolerance(values.dtype, n) * jnp.sum(b**2)
    inverse = jnp.where(seen, 1 / jnp.where(seen, problem.lam + values, 1.0), 0.0)
    pull = vectors @ (inverse * (vectors.T @ (system.output_gap - carried)))

    def displaced(_, batch):
        slopes, weights, gaps = batch
        left, sigma, right = unit_factors(x, slopes)
        inverse_sigma = jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, sigma, 1.0), 0.0)
        inside = jnp.einsum("knr,kn->kr", left, gaps + jnp.outer(weights, pull))
        return (), jnp.einsum("krd,kr->kd", right, inverse_sigma * inside)

    return system.scan_units(displaced, (), (system.slopes, b, gaps))[1], unlearnable


def _projected(left, gaps):
    """P_k gap_k = U Uᵀ gap_k for a batch of units."""
    return jnp.einsum("knr,kr->kn", left, jnp.einsum("knr,kn->kr", left, gaps))


@eqx.filter_jit
def _plain(problem, system):
    """Displacement and unlearnable part at λ = 0."""
    x, n = system.x, system.x.shape[0]
    values, vectors = jnp.linalg.eigh(tangent_kernel(problem.student, x))
    seen = values > rank_tolerance(values.dtype, n) * jnp.max(values)
    inverse = jnp.where(seen, 1 / jnp.where(seen, values, 1.0), 0.0)

    def pulled(gap):
        return system.output_adjoint(vectors @ (inverse * (vectors.T @ gap)))

    displacement = pulled(system.output_gap)
    # Small eigenvalues have large relative errors; a second go at what the first one left squares them.
    displacement = displacement + pulled(system.output_gap - system.outputs(displacement))

    def unlearnable(_, batch):
        slopes, gaps = batch
        return (), gaps - _projected(unit_factors(x, slopes)[0], gaps)

    return displacement, system.scan_units(unlearnable, (), (system.slopes, system.feature_gap))[1]
