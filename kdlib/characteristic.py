r"""Counts of rates, and all of them, from the n×n matrix T(p) = I + Σ_k b_k² H_k (pI + λH_k)⁻¹.

On its range M is a diagonal matrix plus one of rank at most n. With L_kᵀ = U_k Σ_k W_kᵀ and v_k = W_k z_k,

    M = D + GᵀG,   D = λ blkdiag(Σ_k²),   G = [b_1 U_1 Σ_1 ... b_m U_m Σ_m],   T(-x) = I + G (D - xI)⁻¹ Gᵀ.

Book: chapter *How fast*.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.kernels import rank_tolerance, tangent_kernel
from kdlib.linear_system import LinearSystem, ShiftedInverse, sum_of_outer
from kdlib.problem import TransferProblem, check_problem
from kdlib.validation import ArrayLike, known_now, non_negative

# Entries of G, (n, rank), that are held at once where T(p) is gathered over units.
_ENTRIES_AT_ONCE = 2**22


def count_above(problem: TransferProblem, x: ArrayLike) -> int:
    r"""Return the number of eigenvalues of M above x, by Sylvester's inertia.

    .. math:: \#\{\operatorname{eig} M > x\} = \sum_k \#\{\lambda\operatorname{eig} H_k > x\}
              + \#\{\operatorname{eig} T(-x) < 0\} .

    Parameters
    ----------
    problem : TransferProblem
    x : float
        At least 0, in units of 1/time.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, or x is negative or not finite; for traced arrays.

    Notes
    -----
    O(m·n²·min(n, d)) flops, whatever the count. An eigenvalue within rounding of x may be counted or not.

    References
    ----------
    Haynsworth, *Determination of the Inertia of a Partitioned Hermitian Matrix*, Linear Algebra Appl., 1968 (inertia).
    Statements ``characteristic-values`` and ``interlacing`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> [kd.count_above(problem, x) for x in (0.1, 1.0, 2.0)]
    [3, 1, 0]
    """
    known_now("x", x, "since they decide how many rates are above")
    system, x = LinearSystem.of(known(problem)), float(non_negative("x", x))
    if problem.lam == 0:
        values = plain_spectrum(problem)[0]
        return int(np.sum(values > x))
    return count(pseudo_inverse(system), x)


def characteristic_values(problem: TransferProblem) -> jax.Array:
    r"""Return all characteristic values: the p < 0 at which det T(p) vanishes, and those -λ·eig(H_k) that survive.

    They are the negatives of the non-zero eigenvalues of M. Between two poles -λ·eig(H_k) every eigenvalue of T(p) is
    monotone, and each of its sign changes is bracketed and found.

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    array, shape (rank(M),)
        Descending: the slowest rate's, :math:`p_\max`, first. Multiple values are repeated.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for traced arrays.

    Warns
    -----
    UserWarning
        When the values found do not add up to the trace of -M.

    Notes
    -----
    A value -μ is accurate to 1e-9 in 64-bit, 1e-5 in 32-bit, relative to :math:`\sqrt{\mu\,\lambda_{\max}(M)}` (at λ =
    0 to λ_max): what is closer to a pole than 1e-10 is taken to be at it. A unit's singular values that spread beyond
    what :func:`fixed_point` says may count as zero. About ten eigenvalue problems of size n for each value: for ranks
    up to a thousand or so. The number of values is that of Sylvester's inertia counts beside each pole. Each T(p) is
    gathered over blocks of units, and bordered by the poles within a thousandth of p, ν in number: memory
    O(m·d·min(n, d) + (n + ν)²).

    References
    ----------
    Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv 2003.13438 (the setting). Statement
    ``characteristic-values`` of the book. Haynsworth, *Determination of the Inertia of a Partitioned Hermitian Matrix*,
    Linear Algebra Appl., 1968 (inertia).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.characteristic_values(problem).round(6))
    [-0.5 -0.5 -1.5]
    """
    system = LinearSystem.of(known(problem))
    if problem.lam == 0:
        return -jnp.asarray(plain_spectrum(problem)[0], problem.x.dtype)
    operator = pseudo_inverse(system)
    poles, blocks = poles_of(operator).astype(float), _blocks(operator)
    size = sum(np.sum(columns**2) for _, columns in blocks())
    values, trace = _roots(poles, blocks, size) if len(poles) else poles, np.sum(poles) + size
    if not np.isclose(np.sum(values), trace, rtol=1e-8):
        warnings.warn(
            f"characteristic_values: the values found add up to {-np.sum(values):.9g}, not to {-trace:.9g}",
            stacklevel=2,
        )
    return -jnp.asarray(values, problem.x.dtype)


def known(problem):
    """The problem, checked, of values that are known: traced ones say nothing about ranks."""
    known_now("problem", check_problem(problem), "since they decide how many rates there are")
    return problem


@eqx.filter_jit
def pseudo_inverse(system):
    """M⁺ for λ > 0: on its range M needs no shift, as D alone is positive there."""
    return ShiftedInverse.of(system, jnp.zeros((), system.x.dtype))


@eqx.filter_jit
def schur_complement(operator, x):
    """T(-x) = I + G (D - xI)⁻¹ Gᵀ, gathered over units."""
    system = operator.system

    def gather(total, batch):
        slopes, weights, right, inverse = batch
        columns = slopes[:, :, None] * (system.x @ jnp.swapaxes(right, 1, 2))
        kept = inverse > 0
        factors = jnp.where(kept, 1 / (1 / jnp.where(kept, inverse, 1.0) - x), 0.0)
        return total + sum_of_outer(columns, weights[:, None] ** 2 * factors), ()

    start = jnp.eye(system.x.shape[0], dtype=system.x.dtype)
    units = system.slopes, system.output_weights, operator.right, operator.inverse
    total, _ = system.scan_units(gather, jnp.zeros_like(start), units)
    return start + total


def poles_of(operator):
    """The positive entries of D, (rank,)."""
    inverse = np.asarray(operator.inverse)
    return 1 / inverse[inverse > 0]


def count(operator, x):
    """Number of eigenvalues above x for λ > 0. Both Schur complements of [D - x, Gᵀ; G, -I] have its inertia."""
    poles = poles_of(operator)
    step = 4 * np.finfo(poles.dtype).eps
    while np.any(np.abs(poles - x) <= step * x):
        x *= 1 + 4 * step
    negative = np.sum(np.linalg.eigvalsh(np.asarray(schur_complement(operator, jnp.asarray(x, poles.dtype)))) < 0)
    return int(np.sum(poles > x) + negative)


def reduced(operator, units=slice(None)):
    """D and G of M = D + GᵀG on its range, as arrays (rank,) and (n, rank): of some units, or of a small problem."""
    system, inverse = operator.system, np.asarray(operator.inverse)[units]
    slopes = system.slopes if system.kept_slopes is None else system.kept_slopes
    scales = np.asarray(slopes)[units] * np.asarray(system.output_weights)[units, None]
    columns = np.asarray(system.x) @ np.swapaxes(np.asarray(operator.right)[units], 1, 2)  # (units, n, r)
    columns = scales[:, :, None] * columns
    return 1 / inverse[inverse > 0], np.swapaxes(columns, 1, 2)[inverse > 0].T


def _blocks(operator):
    """What goes through the columns of G unit by unit, some units at a time, each with the place of its poles.

    In 64 bits whatever they are kept in: brackets around the roots are narrower than 32 bits can tell.
    """
    operator = jax.device_get(operator)
    units, rank = operator.inverse.shape
    size = max(1, _ENTRIES_AT_ONCE // (len(operator.system.x) * rank))

    def blocks():
        end = 0
        for first in range(0, units, size):
            poles, columns = reduced(operator, slice(first, first + size))
            start, end = end, end + len(poles)
            yield slice(start, end), columns.astype(float)

    if size < units:
        return blocks
    whole = list(blocks())
    return lambda: whole


def plain_spectrum(problem):
    """Non-zero eigenvalues of H̄, ascending, and eigenvectors: at λ = 0 they are the rates."""
    values, vectors = np.linalg.eigh(np.asarray(tangent_kernel(problem.student, problem.x)))
    kept = values > float(rank_tolerance(problem.x.dtype, len(values))) * values[-1]
    return values[kept], vectors[:, kept]


def _roots(poles, blocks, size):
    """All eigenvalues of diag(poles) + GᵀG, ascending, from the sign changes of the eigenvalues of T(-x)."""
    from scipy.optimize import brentq

    # what is closer to a pole than this is taken to be at it
    beside = 1e-10
    ordered = np.sort(poles)
    apart = np.diff(ordered) > 4 * beside * ordered[:-1]
    first, last = ordered[np.append(True, apart)], ordered[np.append(apart, True)]
    group = np.searchsorted(first, poles, side="right") - 1
    n = len(next(iter(blocks()))[1])
    top = (ordered[-1] + size) * (1 + beside) + np.finfo(float).tiny
    roots = []
    starts, highs = first * (1 - beside), last * (1 + beside)
    for number, (pole, start, high, end) in enumerate(zip(first, starts, highs, [*starts[1:], top], strict=True)):
        before, behind, further = (_below(poles, blocks, x) for x in (start, high, end))
        roots += [pole] * (behind - before)
        # at the ends of the interval are poles, and T is all rounding there
        ends = (group == number) | (group == number + 1)

        def eigenvalue(x, root, high=high, end=end, ends=ends):
            if x in (high, end):  # the counts know the sign there
                return 1.0 if x == high else -1.0
            return np.linalg.eigvalsh(_bordered(poles, blocks, x, ends))[root - np.sum(poles[~ends] < x)]

        for root in range(behind + n, further + n):
            roots.append(brentq(eigenvalue, high, end, args=(root,), xtol=1e-300, rtol=np.float64(1e-13)))
    return np.sort(roots)


def _below(poles, blocks, x):
    """Number of eigenvalues below x, right beside a pole too."""
    near = np.abs(poles - x) <= 1e-3 * x
    matrix = _bordered(poles, blocks, x, near)
    n = len(matrix) - np.sum(near)
    return int(np.sum(poles[~near] < x) + np.sum(np.linalg.eigvalsh(matrix) < 0) - n)


def _bordered(poles, blocks, x, kept):
    """[D - x, Gᵀ; G, -I] with the poles eliminated that are not ``kept``: its inertia, for those too near to divide by.

    Rows and columns are scaled alike, which keeps the inertia; ±1 on the diagonal keeps what does not couple off
    rounding.
    """
    rest, near = np.zeros(()), []
    for place, columns in blocks():
        far = columns[:, ~kept[place]]
        rest = rest + (far / (poles[place][~kept[place]] - x)) @ far.T
        near.append(columns[:, kept[place]])
    rest = np.eye(len(rest)) + rest
    size = 1 / np.sqrt(np.abs(rest).max(axis=1))
    coupling = np.concatenate(near, axis=1) * size[:, None] / np.sqrt(np.abs(poles[kept] - x))
    signs = np.diag(np.sign(poles[kept] - x))
    return np.block([[signs, coupling.T], [coupling, -(size[:, None] * rest * size)]])
