r"""The spectrum of the linear system: slow modes, the largest rate, counts, without forming M.

On its range M is a diagonal matrix plus one of rank at most n. With L_kᵀ = U_k Σ_k W_kᵀ and v_k = W_k z_k,

    M = D + GᵀG,   D = λ blkdiag(Σ_k²),   G = [b_1 U_1 Σ_1 ... b_m U_m Σ_m], of Σ_k rank H_k columns.

Book: chapter *How fast*.
"""

import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.kernels import rank_tolerance, tangent_kernel
from kdlib.limit import fixed_point
from kdlib.linear_system import LinearSystem, ShiftedInverse
from kdlib.problem import TransferProblem
from kdlib.validation import non_negative

# Up to this rank of M the singular values of [√D; G] are cheaper than a Krylov space.
_DENSE_RANK = 400


class SlowModes(eqx.Module):
    """The slowest modes of the kernel flow, f(t) = f_∞ + Σ_j exp(-μ_j t) A_j + faster ones.

    Attributes
    ----------
    rates : array, shape (k,)
        μ_j, the slowest non-zero eigenvalues of M, ascending, multiple ones repeated.
    amplitudes : array, shape (k, n)
        A_j = -⟨z_j, v_∞⟩ J z_j, the mode's contribution to the outputs at time 0.
    visible : array, shape (k,)
        Whether J z_j ≠ 0, so that an output can see the mode at all.
    residuals : array, shape (k,)
        ‖M z_j - μ_j z_j‖.
    modes : array, shape (k, m, d)
        z_j, orthonormal. Among equal rates the basis is arbitrary.
    """

    rates: jax.Array
    amplitudes: jax.Array
    visible: jax.Array
    residuals: jax.Array
    modes: jax.Array


class LargestRate(NamedTuple):
    """λ_max(M), with the residual ‖M z - λ_max z‖ of its unit eigenvector: an eigenvalue of M lies that near."""

    value: jax.Array
    error: jax.Array


def decay_rates(problem, k):
    r"""Return the k slowest non-zero rates of the kernel flow.

    The rates are the eigenvalues of :math:`M = \lambda\operatorname{blkdiag}(L_kL_k^\top) + J^\top J`, and the
    negatives of the characteristic values. A mode of rate μ decays like :math:`e^{-\mu t}`.

    Parameters
    ----------
    problem : TransferProblem
    k : int
        How many, at least 1 and at most rank(M), which is Σ_k rank H_k for λ > 0 and rank H̄ for λ = 0.

    Returns
    -------
    array, shape (k,)
        Ascending, in units of 1/time. A multiple eigenvalue is repeated.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, or k is not an integer from 1 to rank(M).

    Warns
    -----
    UserWarning
        When Lanczos does not find all k; those missing are NaN.

    Notes
    -----
    Lanczos on the pseudo-inverse of M, by the structure of :class:`~kdlib.linear_system.ShiftedInverse`; Sylvester's
    inertia then counts whether one was passed over, as a single starting vector sees of a multiple eigenvalue one copy
    only. Small problems, and λ = 0, go through dense factors. One factorization costs O(m·n²·min(n, d)) flops, a step
    O(m·d·(n + min(n, d))); memory O(m(n + d) + m·d·min(n, d)) and 2k + 32 vectors of size m·d. The residual
    ‖Mz - μz‖ of each mode is a few roundings of λ_max(M): :func:`slow_modes` returns it. Needs concrete arrays, not
    traced ones.

    References
    ----------
    Ericsson and Ruhe, *The Spectral Transformation Lanczos Method*, Math. Comp. 35, 1980.

    Examples
    --------
    Equal kernels: one visible rate (a + λ)h, and m - 1 invisible ones λh.

    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.decay_rates(problem, 3).round(6))
    [0.5 0.5 1.5]
    """
    return jnp.asarray(_slowest(_checked(problem), k)[0], problem.x.dtype)


def slow_modes(problem, k):
    r"""Return the k slowest modes of the kernel flow, with what the outputs see of them.

    .. math:: f(t) = f_\infty + \sum_j e^{-\mu_j t} A_j, \qquad A_j = -\langle z_j, v_\infty\rangle\, J z_j,
              \qquad M z_j = \mu_j z_j .

    Parameters
    ----------
    problem : TransferProblem
    k : int
        How many, at least 1 and at most rank(M).

    Returns
    -------
    SlowModes

    Raises
    ------
    ValueError
        As :func:`decay_rates`.

    Warns
    -----
    UserWarning
        As :func:`decay_rates`.

    Notes
    -----
    A mode counts as visible where ‖Jz‖² is above rounding relative to its largest possible value, λ_max(H̄).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.slow_modes(problem, 3).visible)
    [False False  True]
    """
    rates, modes = _slowest(_checked(problem), k)
    modes = jnp.asarray(modes, problem.x.dtype)
    system = LinearSystem.of(problem)
    seen = jax.vmap(system.outputs)(modes)
    share = jnp.einsum("kmd,md->k", modes, fixed_point(problem).displacement)
    largest = jnp.max(jnp.linalg.eigvalsh(tangent_kernel(problem.student, problem.x)))
    rounding = rank_tolerance(modes.dtype, *problem.x.shape) * jnp.sqrt(largest)
    return SlowModes(
        rates=jnp.asarray(rates, modes.dtype),
        amplitudes=-share[:, None] * seen,
        visible=jnp.linalg.norm(seen, axis=1) > rounding,
        residuals=_residuals(system, modes, jnp.asarray(rates, modes.dtype)),
        modes=modes,
    )


def largest_rate(problem):
    r"""Return λ_max(M), the fastest rate of the kernel flow: gradient descent is stable below the step 2/λ_max(M).

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    LargestRate
        ``value`` and ``error``, in units of 1/time.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    Notes
    -----
    By Lanczos, O(m·n·d) flops a step; dense factors on small problems.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.largest_rate(problem).value.round(6))
    1.5
    """
    system, shape = LinearSystem.of(_checked(problem)), problem.student.weights.shape
    if problem.lam == 0:
        rates, vectors = _plain_spectrum(problem)
        mode = _pulled_back(system, rates[-1:], vectors[:, -1:])
    elif shape[0] * min(problem.x.shape) <= _DENSE_RANK:
        mode = _dense_modes(_pseudo_inverse(system))[1][:1]
    else:
        mode = _krylov(lambda v: _product(system, v), shape, 1, problem.x.dtype)
    if len(mode) == 0:  # every slope is zero
        return LargestRate(*jnp.zeros((2,), problem.x.dtype))
    mode = jnp.asarray(mode, problem.x.dtype)
    value = sum(jnp.sum(part**2) for part in system.forward(mode[0]))
    return LargestRate(value, _residuals(system, mode, value[None])[0])


def count_above(problem, x):
    r"""Return the number of eigenvalues of M above x, by Sylvester's inertia.

    .. math:: \#\{\operatorname{eig}(M) > x\} = \#\{\operatorname{eig}(\lambda H_k) > x\} + \#\{\operatorname{eig} T(-x) < 0\} .

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
        If ``problem`` is not a TransferProblem, or x is negative or not finite.

    Notes
    -----
    O(m·n²·min(n, d)) flops, whatever the count. An eigenvalue within rounding of x may be counted or not.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> [kd.count_above(problem, x) for x in (0.1, 1.0, 2.0)]
    [3, 1, 0]
    """
    system, x = LinearSystem.of(_checked(problem)), float(non_negative("x", x))
    if problem.lam == 0:
        values = _plain_spectrum(problem)[0]
        return int(np.sum(values > x))
    return _count(_pseudo_inverse(system), x)


def characteristic_values(problem):
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
        If ``problem`` is not a TransferProblem.

    Warns
    -----
    UserWarning
        When the values found do not add up to the trace of -M.

    Notes
    -----
    Relative accuracy about 1e-10. About ten eigenvalue problems of size n for each value: for ranks up to a thousand
    or so. The number of values is that of Sylvester's inertia counts beside each pole.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.characteristic_values(problem).round(6))
    [-0.5 -0.5 -1.5]
    """
    system = LinearSystem.of(_checked(problem))
    if problem.lam == 0:
        return -jnp.asarray(_plain_spectrum(problem)[0], problem.x.dtype)
    poles, columns = _reduced(_pseudo_inverse(system))
    values = _roots(poles, columns) if len(poles) else poles
    trace = np.sum(poles) + np.sum(columns**2)
    if not np.isclose(np.sum(values), trace, rtol=1e-8):
        warnings.warn(
            f"characteristic_values: the values found add up to {-np.sum(values):.9g}, not to {-trace:.9g}",
            stacklevel=2,
        )
    return -jnp.asarray(values, problem.x.dtype)


def _checked(problem):
    if not isinstance(problem, TransferProblem):
        raise ValueError(f"problem: expected a TransferProblem; got {type(problem).__name__}")
    return problem


@eqx.filter_jit
def _pseudo_inverse(system):
    """M⁺ for λ > 0: on its range M needs no shift, as D alone is positive there."""
    return ShiftedInverse.of(system, jnp.zeros((), system.x.dtype))


@eqx.filter_jit
def _solve(operator, v):
    return operator(v)


@eqx.filter_jit
def _product(system, v):
    return system.adjoint(system.forward(v))


@eqx.filter_jit
def _residuals(system, modes, rates):
    products = jax.lax.map(lambda v: system.adjoint(system.forward(v)), modes)
    return jnp.linalg.norm((products - rates[:, None, None] * modes).reshape(len(rates), -1), axis=1)


@eqx.filter_jit
def _schur_complement(operator, x):
    """T(-x) = I + G (D - xI)⁻¹ Gᵀ, gathered unit by unit."""
    system = operator.system

    def gather(total, unit):
        slopes, weight, right, inverse = unit
        columns = weight * slopes[:, None] * (system.x @ right.T)
        kept = inverse > 0
        return total + (columns * jnp.where(kept, 1 / (1 / jnp.where(kept, inverse, 1.0) - x), 0.0)) @ columns.T, None

    start = jnp.eye(system.x.shape[0], dtype=system.x.dtype)
    units = system.slopes, system.output_weights, operator.right, operator.inverse
    return jax.lax.scan(gather, start, units)[0]


def _poles(operator):
    """The positive entries of D, (rank,)."""
    inverse = np.asarray(operator.inverse)
    return 1 / inverse[inverse > 0]


def _count(operator, x):
    """Number of eigenvalues above x for λ > 0. Both Schur complements of [D - x, Gᵀ; G, -I] have its inertia."""
    poles = _poles(operator)
    step = 4 * np.finfo(poles.dtype).eps
    while np.any(np.abs(poles - x) <= step * x):
        x *= 1 + 4 * step
    negative = np.sum(np.linalg.eigvalsh(np.asarray(_schur_complement(operator, jnp.asarray(x, poles.dtype)))) < 0)
    return int(np.sum(poles > x) + negative)


def _reduced(operator):
    """D and G of M = D + GᵀG on its range, as arrays (rank,) and (n, rank): for small problems."""
    system, inverse = operator.system, np.asarray(operator.inverse)
    columns = np.asarray(system.x) @ np.swapaxes(np.asarray(operator.right), 1, 2)  # (m, n, r)
    columns = (np.asarray(system.slopes) * np.asarray(system.output_weights)[:, None])[:, :, None] * columns
    return 1 / inverse[inverse > 0], np.swapaxes(columns, 1, 2)[inverse > 0].T


def _plain_spectrum(problem):
    """Non-zero eigenvalues of H̄, ascending, and eigenvectors: at λ = 0 they are the rates."""
    values, vectors = np.linalg.eigh(np.asarray(tangent_kernel(problem.student, problem.x)))
    kept = values > float(rank_tolerance(problem.x.dtype, len(values))) * values[-1]
    return values[kept], vectors[:, kept]


def _slowest(problem, k):
    """The k slowest rates, ascending, and their unit modes, (k, m, d)."""
    if isinstance(k, bool) or not hasattr(k, "__index__") or k.__index__() < 1:
        raise ValueError(f"k: expected a positive integer; got {k!r}")
    k, system = k.__index__(), LinearSystem.of(problem)
    if problem.lam == 0:
        rates, vectors = _plain_spectrum(problem)
        _enough(k, len(rates))
        return rates[:k], _pulled_back(system, rates[:k], vectors[:, :k])
    operator = _pseudo_inverse(system)
    poles = _poles(operator)
    _enough(k, len(poles))
    if len(poles) <= _DENSE_RANK or 3 * k > len(poles):
        rates, modes = _dense_modes(operator)
        return rates[::-1][:k], modes[::-1][:k]
    rates, modes = _slowest_krylov(operator, len(poles), k)
    residuals = _residuals(system, jnp.asarray(modes), jnp.asarray(rates, modes.dtype))
    largest = np.max(poles) * float(1 + problem.student.a / problem.lam)  # at least λ_max(M)
    if np.any(residuals > np.sqrt(np.finfo(modes.dtype).eps) * largest):
        warnings.warn(f"spectrum: residuals of slow modes up to {np.max(residuals):.1e}", stacklevel=3)
    return rates, modes


def _enough(k, rank):
    if k > rank:
        raise ValueError(f"k: expected at most {rank}, the number of non-zero rates of this problem; got {k}")


def _pulled_back(system, rates, vectors):
    """Modes Jᵀu/√μ of JᵀJ for eigenvectors u of H̄, (k, m, d)."""
    modes = [system.output_weights[:, None] * ((system.slopes * vector) @ system.x) for vector in vectors.T]
    return np.asarray(modes).reshape(-1, *system.slopes.shape[:1], system.x.shape[1]) / np.sqrt(rates[:, None, None])


def _dense_modes(operator):
    """All rates, descending, and modes, from the singular values of [√D; G].

    Small rates keep twice the digits that eigenvalues of M itself would leave.
    """
    poles, columns = _reduced(operator)
    _, sigma, right = np.linalg.svd(np.concatenate([np.diag(np.sqrt(poles)), columns]), full_matrices=False)
    inverse = np.asarray(operator.inverse)
    coordinates = np.zeros((len(poles), *inverse.shape), inverse.dtype)
    coordinates[:, inverse > 0] = right
    return sigma**2, np.einsum("kmr,mrd->kmd", coordinates, np.asarray(operator.right))


def _slowest_krylov(operator, rank, k):
    """Lanczos on M⁺, and again in the complement of what was found until the inertia count agrees."""
    system = operator.system
    shape, dtype = operator.right.shape[::2], np.dtype(system.x.dtype)
    found, rates = np.zeros((0, *shape), dtype), np.zeros(0)
    missing = k
    while missing > 0:
        new = _krylov(lambda v: _solve(operator, v), shape, missing, dtype, without=found.reshape(len(found), -1))
        features, outputs = jax.lax.map(system.forward, jnp.asarray(new))
        quotients = np.sum(np.asarray(features) ** 2, axis=(1, 2)) + np.sum(np.asarray(outputs) ** 2, axis=1)
        found, rates = np.concatenate([found, new]), np.concatenate([rates, quotients])
        order = np.argsort(rates)
        found, rates = found[order], rates[order]
        if len(rates) < k or np.isnan(rates).any():
            break
        # rates equal to the last one within this gap are as good as it is
        x = rates[k - 1] * (1 - 1e-8)
        missing = min(k, rank - _count(operator, x) - int(np.sum(rates < x)))
    return rates[:k], found[:k]


def _krylov(operator, shape, k, dtype, *, without=None):
    """Unit eigenvectors (k, *shape) of a symmetric operator's k largest eigenvalues, orthogonal to ``without``."""
    # imported on first use: it takes as long as half of kdlib
    from scipy.sparse.linalg import ArpackNoConvergence
    from scipy.sparse.linalg import LinearOperator as Operator
    from scipy.sparse.linalg import eigsh

    size = shape[0] * shape[1]
    without = np.zeros((0, size), dtype) if without is None else without

    def apart(v):
        return v - without.T @ (without @ v)

    def product(v):
        return apart(np.asarray(operator(jnp.asarray(apart(v.ravel()).reshape(shape), dtype))).ravel())

    # the operator takes the random start into its range
    start = product(np.random.default_rng(0).normal(size=size).astype(dtype))
    try:
        found = eigsh(Operator((size, size), product, dtype=dtype), k, which="LA", v0=start, ncv=2 * k + 32)[1]
    except ArpackNoConvergence as stopped:
        found = np.concatenate([stopped.eigenvectors, np.full((size, k - stopped.eigenvectors.shape[1]), np.nan)], 1)
        warnings.warn(f"spectrum: Lanczos found {stopped.eigenvectors.shape[1]} of {k} eigenvalues", stacklevel=5)
    return found.T.reshape(-1, *shape)


def _roots(poles, columns):
    """All eigenvalues of diag(poles) + GᵀG, ascending, from the sign changes of the eigenvalues of T(-x)."""
    from scipy.optimize import brentq

    def eigenvalues(x):
        return np.linalg.eigvalsh(np.eye(len(columns)) + (columns / (poles - x)) @ columns.T)

    # poles closer than this are one: what lies between them is found to this relative accuracy
    beside = 1e-11
    poles = np.asarray(poles, float)
    ordered = np.sort(poles)
    first = ordered[np.append(True, np.diff(ordered) > 4 * beside * ordered[:-1])]
    last = ordered[np.append(np.diff(ordered) > 4 * beside * ordered[:-1], True)]
    left, right = first * (1 - beside), last * (1 + beside)
    top = (ordered[-1] + np.sum(columns**2)) * (1 + beside) + np.finfo(float).tiny
    roots, negative_before = [], 0
    for start, end, low, high in zip(left, np.append(left[1:], top), first, right, strict=True):
        negative, at_end = (int(np.sum(eigenvalues(x) < 0)) for x in (high, end))
        # the inertia counts on both sides of the poles: what is between stays at them
        inside = int(np.sum((poles >= start) & (poles <= high)))
        roots += [low] * (inside + negative_before - negative)
        for index in range(at_end, negative):
            roots.append(brentq(lambda x, i=index: eigenvalues(x)[i], high, end, xtol=1e-300, rtol=1e-13))
        negative_before = at_end
    return np.sort(roots)
