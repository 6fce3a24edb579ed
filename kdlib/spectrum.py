"""The spectrum of the linear system: its slowest modes and its largest rate, without forming M.

Book: chapter *How fast*.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.characteristic import count, known, plain_spectrum, poles_of, pseudo_inverse, reduced
from kdlib.kernels import tangent_kernel
from kdlib.krylov import largest_mode
from kdlib.limit import fixed_point
from kdlib.linear_system import LinearSystem
from kdlib.problem import TransferProblem
from kdlib.validation import positive_integer

# Up to this rank of M the singular values of [√D; G] are cheaper than a Krylov space.
_DENSE_RANK = 400
# Where Lanczos on M stops in any case: rates that all but coincide take long to tell apart.
_MOST_STEPS = 2**13


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

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.zeros((3, 1)), lam=0.5)
    >>> modes = kd.slow_modes(problem, 3)
    >>> print(modes.rates.round(4), modes.visible)
    [0.5 0.5 1.5] [False False  True]
    """

    rates: jax.Array
    amplitudes: jax.Array
    visible: jax.Array
    residuals: jax.Array
    modes: jax.Array


class LargestRate(eqx.Module):
    """The largest rate of the kernel flow, and how well it is known.

    Attributes
    ----------
    value : array, scalar
        λ_max(M), in units of 1/time.
    error : array, scalar
        The residual ‖M z - λ_max z‖ of its unit eigenvector z: an eigenvalue of M lies that near.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.zeros((3, 1)), lam=0.5)
    >>> rate = kd.largest_rate(problem)
    >>> print(rate.value.round(4), bool(rate.error < 1e-6))
    1.5 True
    """

    value: jax.Array
    error: jax.Array


def decay_rates(problem: TransferProblem, k: int) -> jax.Array:
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
        If ``problem`` is not a TransferProblem, or k is not an integer from 1 to rank(M); for traced arrays.

    Warns
    -----
    UserWarning
        When Lanczos does not find all k (they are NaN then), or fewer than the inertia counts; when the residual of a
        mode is above :math:`\sqrt{\mathrm{eps}}\,(\lambda + a) \max_k \lVert H_k \rVert`, which is at least
        :math:`\sqrt{\mathrm{eps}}\,\lambda_{\max}(M)`.

    Notes
    -----
    Lanczos on the pseudo-inverse of M, by the structure of ``kdlib.linear_system.ShiftedInverse``; Sylvester's inertia
    then counts whether one was passed over, as a single starting vector sees of a multiple eigenvalue one copy only.
    Small problems, and λ = 0, go through dense factors. One factorization costs O(m·n²·min(n, d)) flops, a step
    O(m·d·(n + min(n, d))); memory O(m(n + d) + m·d·min(n, d)) and 2k + 32 vectors of size m·d. Lanczos stops at
    :math:`\sqrt{\mathrm{eps}}`, as a rate errs by the square of its vector's error: :func:`slow_modes` goes on. A rate
    μ is accurate to 1e-11 in 64-bit, 1e-5 in 32-bit, relative to :math:`\sqrt{\mu\,\lambda_{\max}(M)}`, and at λ = 0
    relative to λ_max: slow rates have fewer digits. A unit's singular values that spread beyond what
    :func:`fixed_point` says may count as zero.

    References
    ----------
    Nour-Omid, Parlett, Ericsson, Jensen, *How to Implement the Spectral Transformation*, Math. Comp. 48, 1987.

    Examples
    --------
    Equal kernels: one visible rate (a + λ)h, and m - 1 invisible ones λh.

    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.decay_rates(problem, 3).round(6))
    [0.5 0.5 1.5]
    """
    rates, _ = _slowest(known(problem), k, tol=float(jnp.finfo(problem.x.dtype).eps) ** 0.5)
    return jnp.asarray(rates, problem.x.dtype)


def slow_modes(problem: TransferProblem, k: int) -> SlowModes:
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
    The residual ‖Mz - μz‖ of a mode is mostly a few roundings of λ_max(M), and thousands of them where strong transfer
    crowds the rates. A mode counts as visible where ‖Jz‖ is above 2e-12 (in 32-bit 6e-6) of its largest possible value,
    √λ_max(H̄). Rates are accurate to 1e-11 in 64-bit, 1e-5 in 32-bit, as in :func:`decay_rates`, within the same spread.

    References
    ----------
    Nour-Omid, Parlett, Ericsson, Jensen, *How to Implement the Spectral Transformation*, 1987 (Lanczos on a shifted
    inverse). Statements ``invisible-modes`` and ``small-transfer-amplitude`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.slow_modes(problem, 3).visible)
    [False False  True]
    """
    rates, modes = _slowest(known(problem), k)
    dtype, limit = problem.x.dtype, fixed_point(problem).displacement
    return _described(LinearSystem.of(problem), jnp.asarray(rates, dtype), jnp.asarray(modes, dtype), limit)


def largest_rate(problem: TransferProblem) -> LargestRate:
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
        If ``problem`` is not a TransferProblem; for traced arrays.

    Warns
    -----
    UserWarning
        When Lanczos does not converge: both are NaN then.

    Notes
    -----
    By Lanczos, O(m·n·d) flops a step; no basis is kept, and arrays that are sharded over units stay where they are.
    Relative error 1e-11 in 64-bit, 1e-5 in 32-bit.

    References
    ----------
    Statement ``iterations`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.largest_rate(problem).value.round(6))
    1.5
    """
    system = LinearSystem.of(known(problem))
    mode = largest_mode(system.product, _random_beside(problem.student.weights), most_steps=_MOST_STEPS)
    if mode is None:
        warnings.warn(f"largest_rate: Lanczos did not converge in {_MOST_STEPS} steps", stacklevel=2)
        return LargestRate(*jnp.full((2,), jnp.nan, problem.x.dtype))
    values = _quotients(system, mode[None])
    return LargestRate(values[0], _residuals(system, mode[None], values)[0])


@eqx.filter_jit
def _random_beside(weights):
    """Normal numbers on the devices where the weights are."""
    return jax.random.normal(jax.random.key(0), weights.shape, weights.dtype) + 0.0 * weights


@eqx.filter_jit
def _solve(operator, v):
    return operator(v)


@eqx.filter_jit
def _quotients(system, modes):
    """‖A z‖² of each, one after the other."""
    return jax.lax.map(lambda mode: system.image_length(mode) ** 2, modes)


@eqx.filter_jit
def _described(system, rates, modes, limit):
    """The modes with what the outputs see of them."""
    seen = jax.lax.map(system.outputs, modes)
    share = jnp.einsum("kmd,md->k", modes, limit)
    kernel = tangent_kernel(system.problem.student, system.x)
    largest = jnp.sqrt(jnp.max(jnp.linalg.eigvalsh(kernel)))
    visible = jnp.linalg.norm(seen, axis=1) > jnp.finfo(modes.dtype).eps ** 0.75 * largest
    return SlowModes(rates, -share[:, None] * seen, visible, _residuals(system, modes, rates), modes)


@eqx.filter_jit
def _residuals(system, modes, rates):
    products = jax.lax.map(system.product, modes)
    return jnp.linalg.norm((products - rates[:, None, None] * modes).reshape(len(rates), -1), axis=1)


def _slowest(problem, k, *, tol=0.0):
    """The k slowest rates, ascending, and their unit modes, (k, m, d). Warns at the line that called the caller."""
    k, system = positive_integer("k", k), LinearSystem.of(problem)
    if problem.lam == 0:
        rates, vectors = plain_spectrum(problem)
        _enough(k, len(rates))
        return rates[:k], _pulled_back(system, rates[:k], vectors[:, :k])
    operator = pseudo_inverse(system)
    poles = poles_of(operator)
    _enough(k, len(poles))
    if len(poles) <= _DENSE_RANK or 3 * k > len(poles):
        rates, modes = _dense_modes(operator)
        return rates[::-1][:k], modes[::-1][:k]
    rates, modes, failure = _slowest_krylov(operator, len(poles), k, tol)
    if failure:
        warnings.warn(f"spectrum: {failure}", stacklevel=3)
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
    b, slopes, x = (np.asarray(part) for part in (system.output_weights, system.slopes, system.x))
    return np.einsum("m,mn,nk,nd->kmd", b, slopes, vectors / np.sqrt(rates), x, optimize=True)


def _dense_modes(operator):
    """All rates, descending, and modes, from the singular values of [√D; G].

    Small rates keep twice the digits that eigenvalues of M itself would leave.
    """
    poles, columns = reduced(operator)
    _, sigma, right = np.linalg.svd(np.concatenate([np.diag(np.sqrt(poles)), columns]), full_matrices=False)
    inverse = np.asarray(operator.inverse)
    coordinates = np.zeros((len(poles), *inverse.shape), inverse.dtype)
    coordinates[:, inverse > 0] = right
    return sigma**2, np.einsum("kmr,mrd->kmd", coordinates, np.asarray(operator.right))


def _slowest_krylov(operator, rank, k, tol):
    """Lanczos on M⁺, and again in the complement of what was found until the inertia count agrees.

    The k rates, their modes, and what failed, as a sentence, or "".
    """
    system = operator.system
    shape, dtype = operator.right.shape[::2], np.dtype(system.x.dtype)
    found, rates = np.zeros((0, *shape), dtype), np.zeros(0)
    missing, gap = k, np.sqrt(np.finfo(dtype).eps)
    while missing > 0:
        without = found.reshape(len(found), shape[0] * shape[1])
        new = _krylov(lambda v: _solve(operator, v), shape, missing, dtype, tol=tol, without=without)
        quotients = np.asarray(_quotients(system, jnp.asarray(new)))
        if np.isnan(quotients).any():
            failure = f"Lanczos found {np.sum(~np.isnan(quotients))} of {missing} eigenvalues"
            return np.full(k, np.nan), np.full((k, *shape), np.nan), failure
        if len(rates) and np.min(quotients) >= rates[k - 1]:
            return rates[:k], found[:k], f"{missing} rates below {rates[k - 1]:.3g} are counted but not found"
        found, rates = np.concatenate([found, new]), np.concatenate([rates, quotients])
        order = np.argsort(rates)
        found, rates = found[order], rates[order]
        # rates equal to the last one within this gap are as good as it is
        x = rates[k - 1] * (1 - gap)
        missing = min(k, rank - count(operator, x) - int(np.sum(rates < x)))
    return rates[:k], found[:k], ""


def _krylov(operator, shape, k, dtype, *, tol=0.0, without=None):
    """Unit eigenvectors (k, *shape) of a symmetric operator's k largest eigenvalues, orthogonal to ``without``.

    Residuals are at most ``tol`` of the eigenvalue, 0 for what rounding allows. Those that are not found are NaN.
    """
    import scipy.sparse.linalg as sparse  # on first use: it takes as long as half of kdlib

    size = shape[0] * shape[1]
    without = np.zeros((0, size), dtype) if without is None else without

    def apart(v):
        return v - without.T @ (without @ v)

    def product(v):
        return apart(np.asarray(operator(jnp.asarray(apart(v.ravel()).reshape(shape), dtype))).ravel())

    matrix = sparse.LinearOperator(shape=(size, size), matvec=product, dtype=dtype)  # pyright: ignore[reportCallIssue]
    # the operator takes the random start into its range
    start = product(np.random.default_rng(0).normal(size=size).astype(dtype))
    try:
        # its stub takes the default 0 for an int
        found = sparse.eigsh(matrix, k, which="LA", v0=start, ncv=2 * k + 32, tol=tol)[1]  # pyright: ignore[reportArgumentType]
    except sparse.ArpackNoConvergence as stopped:
        found = np.concatenate([stopped.eigenvectors, np.full((size, k - stopped.eigenvectors.shape[1]), np.nan)], 1)
    return found.T.reshape(-1, *shape)
