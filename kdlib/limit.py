"""Where the kernel flow ends: the student between its labels and its teacher.

Book: chapter *Limit*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.kernels import range_eigh, tangent_kernel
from kdlib.linear_system import LinearSystem, range_and_inverse, sum_of_outer
from kdlib.problem import TransferProblem, check_problem
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
    Outputs are accurate to 1e-8 of max(‖y‖, ‖f(0)‖) in 64-bit, 1e-3 in 32-bit, while the singular values of each
    :math:`L_k` that do not count as zero spread over at most 1e6 (32-bit: 1e2); rounding grows with their spread. So
    are the features, relative to the features' own size, unless units have ranges that all but coincide: rounding then
    meets 1/λ. A singular value of :math:`L_k` counts as zero below ``10 max(n, d) eps`` of the largest. A problem with
    values near that line is judged by ``residual``. Derivatives are those at constant rank. Units are taken in blocks:
    memory stays O(m(n + d) + n²).

    References
    ----------
    Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv 2003.13438 (the interpolation of labels and
    teacher). Statements ``interpolation``, ``projected-interpolation`` and ``no-transfer`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.fixed_point(problem).outputs.round(6).tolist()  # (y + λφ̄)/(1 + λ)
    [0.666667, 0.666667]
    """
    return limit_of(LinearSystem.of(check_problem(problem)))


def limit_of(system: LinearSystem) -> FixedPoint:
    """The limit of a frozen-kernel system."""
    if is_concrete(system.lam):
        displacement = _transfer if float(system.lam) > 0 else _plain
    else:
        displacement = _either
    return _described(system, *displacement(system))


@eqx.filter_jit
def _described(system, displacement, unlearnable):
    problem = system.problem
    change, target = system.features(displacement), system.target
    left_over = target[0] - jnp.sqrt(system.lam) * change, target[1] - system.outputs(displacement)
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
def _transfer(system):
    """Displacement and unlearnable part for λ > 0."""
    mean, bracket, unlearnable = carried_error(system)
    # In P̄'s eigenbasis λ can be tiny: what no unit can see stays in the outputs' error and never meets 1/λ.
    inverse = inverse_on_range(mean, system.lam, jnp.sum(system.output_weights**2))
    return _learnt(system, inverse @ bracket), unlearnable


@eqx.filter_jit
def _plain(system):
    """The same at λ = 0."""
    zero = jnp.zeros((), system.x.dtype)
    inverse = inverse_on_range(_kernel(system), zero, zero)
    *_, unlearnable = carried_error(system.after(inverse))
    return _fitted(system, inverse), unlearnable


@eqx.filter_jit
def _either(system):
    """The same where λ is traced: both ways share the units' factors, also with many λ mapped over."""
    mean, bracket, unlearnable = carried_error(system)
    learning = inverse_on_range(mean, system.lam, jnp.sum(system.output_weights**2))
    zero = jnp.zeros((), system.x.dtype)
    fitting = inverse_on_range(_kernel(system.after(learning)), zero, zero)
    learnt, fitted = _learnt(system.after(fitting), learning @ bracket), _fitted(system, fitting)
    return jnp.where(system.lam > 0, learnt, fitted), unlearnable


def _learnt(system, pull):
    """L_k⁺ᵀ (φ_k - f_k(0) + b_k pull), unit by unit."""
    system = system.after(pull)

    def displaced(_, batch):
        slopes, weights, gaps = batch
        _, inverse = range_and_inverse(system.x, slopes)
        return (), jnp.einsum("kdn,kn->kd", inverse, gaps + jnp.outer(weights, pull))

    units = system.slopes, system.output_weights, system.feature_gap
    return system.scan_units(displaced, (), units)[1]


def _kernel(system):
    return tangent_kernel(system.problem.student, system.x)


def _fitted(system, inverse):
    """Jᵀ H̄⁺ (y - f(0)), for the inverse of H̄ on its range."""

    def pulled(gap):
        return system.output_adjoint(inverse @ gap)

    displacement = pulled(system.output_gap)
    # Small eigenvalues have large relative errors; a second go at what the first one left squares them.
    return displacement + pulled(system.output_gap - system.outputs(displacement))


def carried_error(system):
    """P̄, the error y - f(0) - Σ b_k P_k (φ_k - f_k(0)) of the carried teacher, and (I - P_k)(φ_k - f_k(0))."""

    def gather(total, batch):
        slopes, weights, gaps = batch
        left, _ = range_and_inverse(system.x, slopes)
        learnt = _projected(left, gaps)
        mean, bracket = total
        mean = mean + sum_of_outer(left, jnp.broadcast_to(weights[:, None] ** 2, left.shape[::2]))
        return (mean, bracket - weights @ learnt), gaps - learnt

    n = system.x.shape[0]
    start = jnp.zeros((n, n), system.x.dtype), jnp.zeros(n, system.x.dtype)
    units = system.slopes, system.output_weights, system.feature_gap
    (mean, bracket), unlearnable = system.scan_units(gather, start, units)
    return mean, system.output_gap + bracket, unlearnable


def _projected(left, gaps):
    """P_k gap_k = U Uᵀ gap_k for a batch of units."""
    return jnp.einsum("knr,kr->kn", left, jnp.einsum("knr,kn->kr", left, gaps))


def inverse_on_range(matrix, shift, size):
    """(shift I + K)⁻¹ on the range of K ⪰ 0, zero beyond it."""
    return _inverses_on_range(matrix, shift[None], size)[0]


@jax.custom_jvp
def _inverses_on_range(matrix, shifts, size):
    """The same for several shifts, from one factorization."""
    values, vectors = range_eigh(matrix, size)
    seen = jnp.where(values > 0, values, 1.0)
    inverses = [jnp.where(values > 0, 1 / (shift + seen), 0.0) for shift in shifts]
    return jnp.stack([(vectors * inverse[None, :]) @ vectors.T for inverse in inverses])


@_inverses_on_range.defjvp
def _inverses_on_range_jvp(primals, tangents):
    # At constant rank, where eigenvalues meet too: with G the inverse on the range and Q the projector beyond it,
    # dG = GK⁺ dK Q + Q dK K⁺G - G (dK + dshift I) G.
    (matrix, shifts, size), (change, shift_changes, _) = primals, tangents
    *inverses, plain = _inverses_on_range(matrix, jnp.append(shifts, 0.0), size)

    def moved(inverse, shift_change):
        across = inverse @ plain @ change
        across = across - (across @ matrix) @ plain
        return across + across.T - inverse @ change @ inverse - shift_change * (inverse @ inverse)

    return jnp.stack(inverses), jnp.stack([moved(*pair) for pair in zip(inverses, shift_changes)])
