r"""The student in the Laplace domain: an n×n matrix that holds every rate that outputs see, and the flow back from it.

With e = y - f the transform of the linear system v' = c - M v is, unit by unit,

    ê(s) = T(s)⁻¹ (1/s) [y - f(0) - Σ b_k λH_k (sI + λH_k)⁻¹ (φ_k - f_k(0))],   T(s) = I + Σ b_k² H_k (sI + λH_k)⁻¹,
    v̂_k(s) = L_k (sI + λH_k)⁻¹ (λ(φ_k - f_k(0))/s + b_k ê(s)).

Book: chapter *Characteristic values and fading memory*.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.contour import invert, output_pull, response, seen_directions, unit_force
from kdlib.linear_system import LinearSystem, Readout, over_units, truncated_svd, unit_factors
from kdlib.problem import TransferProblem, check_problem
from kdlib.trajectory import Trajectory, check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, real_array, time_array


def characteristic_matrix(problem: TransferProblem, s: complex | jax.Array) -> jax.Array:
    r"""Return the matrix whose loss of rank marks the rates of the student.

    .. math:: T(s) = I + \sum_k b_k^2\, H_k\, (sI + \lambda H_k)^{-1} .

    Parameters
    ----------
    problem : TransferProblem
    s : real or complex number
        A point of the Laplace plane, in units of 1/time. Use ``jax.vmap`` for many.

    Returns
    -------
    array, shape (n, n)
        Symmetric; real for real s. For λ > 0 the value at s = 0 is the limit :math:`I + \bar P/\lambda`; the factor
        :math:`H_k(sI + \lambda H_k)^{-1}` has no pole there.

    Raises
    ------
    ValueError
        If s is not a finite number; at a pole, :math:`s = -\lambda h` with h > 0 an eigenvalue of an :math:`H_k` with
        :math:`b_k \ne 0`; for s = 0 at λ = 0.

    Notes
    -----
    Units come one after the other, each by the singular values of :math:`L_k`: m·n·min(n, d)·(n + d) flops, memory n².
    Singular values count as zero below ``10 max(n, d) eps`` of a unit's largest. Derivatives in s, λ, the weights and
    the inputs are exact, coinciding singular values included. Away from poles, accurate to 1e-11 in 64-bit, 1e-5 in
    32-bit, relative to its norm.

    References
    ----------
    Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv 2003.13438 (the setting). Statements
    ``laplace-image`` and ``characteristic-determinants`` of the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.characteristic_matrix(problem, 1.0).round(4).tolist()  # 1 + 1/(1 + 0.5)
    [[1.6667, 0.0], [0.0, 1.6667]]
    >>> float(jnp.linalg.det(kd.characteristic_matrix(problem, -1.5)))  # the rate (a + λ)h
    0.0
    """
    s = _laplace_point(problem, s)
    system = LinearSystem.of(problem)
    _refuse_poles(system, s, system.output_weights != 0)
    return _characteristic_matrix(system, s)


def resolvent(problem: TransferProblem, s: complex | jax.Array, vector: ArrayLike | None = None) -> jax.Array:
    r"""Apply the resolvent of the linear system to its force, or to another vector.

    With :math:`B = sI + \lambda \operatorname{blkdiag}(L_k L_k^\top)`, inverted unit by unit,

    .. math:: (sI + M)^{-1} = B^{-1} - B^{-1} J^\top T(s)^{-1} J B^{-1} .

    Parameters
    ----------
    problem : TransferProblem
    s : real or complex number
        A point of the Laplace plane, in units of 1/time.
    vector : array, shape (m, d), optional
        Real; the force c by default.

    Returns
    -------
    array, shape (m, d)
        For λ > 0 the value at s = 0 is that of the pseudo-inverse, :math:`M^+` applied: of c, the limit
        :math:`v_\infty`.

    Raises
    ------
    ValueError
        If s is not a finite number; where s or its Woodbury form has a pole, :math:`s = -\lambda h` with h > 0 an
        eigenvalue of an :math:`H_k`, or s = -μ with μ an eigenvalue of M; for s = 0 at λ = 0; for a vector of a wrong
        shape.

    Notes
    -----
    A unit costs its singular value decomposition and n²·min(n, d) flops; memory O(m·d + n²). The force never meets the
    cancellation of the two terms above: see this module's first lines. Away from poles, accurate to 1e-11 in 64-bit,
    1e-4 in 32-bit, relative to its norm, or for a vector to ‖vector‖/abs(s), for units' singular values within the
    spread of :func:`fixed_point`; the force comes with the rounding of φ - f(0).

    References
    ----------
    Statement ``resolvent-form`` of the book; Woodbury's identity over the block structure.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.resolvent(problem, 1.0).round(4).tolist()  # M = 1.5 I and c = (1, 1)
    [[0.4, 0.4]]
    """
    s = _laplace_point(problem, s)
    system = LinearSystem.of(problem)
    _refuse_poles(system, s, jnp.ones_like(system.output_weights, bool))
    _refuse_rates(system, s)
    if vector is None:
        return _solve_force(system, s)
    vector = real_array("vector", vector, (("m", problem.student.width), ("d", problem.student.dim)))
    return _woodbury(system, s, vector)


def output_transform(problem: TransferProblem, s: complex | jax.Array, *, at: ArrayLike | None = None) -> jax.Array:
    r"""Return the Laplace transform of the student's outputs in the kernel regime.

    .. math:: \hat f(s) = \int_0^\infty e^{-st} f(t)\, dt = \frac1s \bigl[ f(0) + J (sI + M)^{-1} c \bigr] .

    Parameters
    ----------
    problem : TransferProblem
    s : real or complex number, not 0
        In units of 1/time. The integral converges for Re s > 0; elsewhere this is its analytic continuation.
    at : array, shape (rows, d), optional
        Other inputs, such as test points.

    Returns
    -------
    array, shape (n,) or (rows,)

    Raises
    ------
    ValueError
        As :func:`resolvent`; for s = 0; for inputs of a wrong shape.

    Notes
    -----
    Away from poles, s times the transform is accurate to 1e-12 in 64-bit, 1e-5 in 32-bit, relative to max(‖y‖, ‖f(0)‖).

    References
    ----------
    Statement ``laplace-image`` of the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.output_transform(problem, 1.0).round(4).tolist()  # f = (1 - exp(-1.5 t)) / 1.5
    [0.4, 0.4]
    """
    at = check_problem_and_inputs(problem, at)
    s = _laplace_point(problem, s)
    if is_concrete(s) and complex(s) == 0:
        raise ValueError("s: expected a number other than 0, where the transform has a pole of residue f(∞); got 0")
    change = Readout.of(problem.student, at)(resolvent(problem, s))
    return (problem.student(at) + change) / s


def laplace_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the student in the kernel regime by inverting its Laplace transform.

    .. math:: v(t) = \frac1{2\pi i} \int_\Gamma e^{zt}\, (zI + M)^{-1} c\, \frac{dz}z ,

    by the midpoint rule on Weideman's modified Talbot contour, one contour for each time. An independent route to
    :func:`kernel_flow`.

    Parameters
    ----------
    problem : TransferProblem
    times : array, shape (T,)
        Gradient-flow times in any order; 0 and ``inf`` are allowed. At ``inf`` the answer is that of
        :func:`fixed_point`.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        ``error`` is what four more nodes change in the outputs, on the data and at ``at``; ``converged`` says that
        this is at most ``1e4 eps`` of max(‖y‖, ‖f(0)‖), 2e-12 in 64-bit.

    Raises
    ------
    ValueError
        For NaN or negative times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When ``converged`` is false.

    Notes
    -----
    24 nodes in 64-bit, half of them by symmetry, and 28 for the estimate: the rule's error falls like exp(-1.36 N), the
    rounding that it amplifies grows like exp(0.17 N). A time costs 26 matrices T(s), m·n²·min(n, d) flops each, and
    their solutions, n³; the singular value decompositions of the units are shared by as many times as fit into 64 MB.
    The route never sees M's spectrum, and short and late times cost the same. Where ``converged``, outputs at finite
    times are accurate to 1e-12 in 64-bit, 1e-4 in 32-bit, relative to max(‖y‖, ‖f(0)‖); those at ``at`` as
    :attr:`TransferProblem.scale` says.

    References
    ----------
    Weideman, *Optimizing Talbot's Contours for the Inversion of the Laplace Transform*, SIAM J. Numer. Anal., 2006.
    Trefethen, Weideman, Schmelzer, *Talbot Quadratures and Rational Approximations*, BIT, 2006.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> path = kd.laplace_flow(problem, [0.0, 1.0, jnp.inf])  # f = (1 - exp(-1.5 t)) / 1.5
    >>> path.outputs[:, 0].round(6).tolist()
    [0.0, 0.517913, 0.666667]
    """
    at = check_problem_and_inputs(problem, at)
    times = time_array(times, allow_inf=True)
    system, readout = LinearSystem.of(problem), Readout.of(problem.student, at)
    (changes, energies, lengths), errors, end = invert(system, readout, times)
    dtype = system.x.dtype
    error = jnp.max(errors) / jnp.where(problem.scale > 0, problem.scale, 1.0)
    goal = 1e4 * float(jnp.finfo(dtype).eps)
    if is_concrete(error) and not error <= goal:
        warnings.warn(
            f"laplace_flow: at time {float(times[jnp.argmax(errors)]):.3g} four more nodes change the outputs by "
            f"{float(error):.1e} of max(‖y‖, ‖f(0)‖)",
            stacklevel=2,
        )
    return Trajectory(
        times=times,
        outputs=problem.student(at)[None, :] + changes,
        energies=energies,
        movement=lengths / np.sqrt(problem.student.width),
        error=error,
        converged=error <= goal,
        _end=problem.student.with_weights(problem.student.weights + end),
    )


def _laplace_point(problem, s):
    """``s`` as a real or complex scalar, or a `ValueError`."""
    check_problem(problem)
    s = s if isinstance(s, jax.Array) else np.asarray(s)
    if s.dtype.kind == "c":
        for part in (jnp.real(s), jnp.imag(s)):
            real_array("s", part, ())
        return jnp.asarray(s)
    return real_array("s", s, ())


def _refuse_poles(system, s, units):
    """Raise `ValueError` where a concrete s is, to rounding, a pole -λh of the ``units`` chosen."""
    if not is_concrete(s, *jax.tree.leaves(system)):
        return
    if s == 0 and system.lam == 0:
        raise ValueError("s: expected a number other than 0, since lam is 0 and T(s) = I + H̄/s; got 0")
    if _on_negative_axis(s) and _clearance(system, s, units) <= 8 * jnp.finfo(system.x.dtype).eps:
        raise ValueError(f"s: expected a number that is no pole -λh, h an eigenvalue of a unit's kernel; got {s}")


def _refuse_rates(system, s):
    """Raise `ValueError` where a concrete s is, to rounding, -μ with μ an eigenvalue of M: T(s) is singular."""
    if not is_concrete(s, *jax.tree.leaves(system)) or not _on_negative_axis(s):
        return
    values = np.linalg.svd(_characteristic_matrix(system, s), compute_uv=False)
    if values[-1] <= 8 * values.size * np.finfo(values.dtype).eps * values[0]:
        raise ValueError(f"s: expected a number that is no characteristic value, where T(s) is singular; got {s}")


def _on_negative_axis(s):
    return complex(s).imag == 0 and complex(s).real < 0


@eqx.filter_jit
def _clearance(system, s, units):
    """The least |s + λh|/|s| over the kept eigenvalues h > 0 of the chosen units' kernels."""

    def gather(least, unit):
        slopes, chosen = unit
        _, sigma, _ = unit_factors(system.x, slopes)
        distance = jnp.abs(s + system.lam * sigma**2) / jnp.abs(s)
        return jnp.minimum(least, jnp.min(jnp.where(chosen & (sigma > 0), distance, jnp.inf))), None

    return jax.lax.scan(gather, jnp.asarray(jnp.inf, system.x.dtype), (system.slopes, units))[0]


@eqx.filter_jit
def _characteristic_matrix(system, s):
    def gather(total, unit):
        slopes, weight = unit
        return total + weight**2 * _damped_kernel(slopes[:, None] * system.x, s, system.lam), None

    n, dtype = system.x.shape[0], jnp.result_type(s, system.x)
    total, _ = jax.lax.scan(gather, jnp.zeros((n, n), dtype), (system.slopes, system.output_weights))
    return jnp.eye(n, dtype=dtype) + total


@jax.custom_jvp
def _damped_kernel(jacobian, s, lam):
    """H (sI + λH)⁻¹ of one unit, H = jacobian·jacobianᵀ."""
    left, sigma, _ = truncated_svd(jacobian)
    return (left * (sigma**2 * response(sigma, s, lam))[None, :]) @ left.T


@_damped_kernel.defjvp
def _damped_kernel_jvp(primals, tangents):
    # The derivative of a singular vector blows up where two singular values meet; that of the product does not:
    # with A = jacobian, G = Aᵀ(sI + λH)⁻¹ and Z = s(sI + λH)⁻¹ it is Z dA G + (Z dA G)ᵀ.
    jacobian, s, lam = primals
    change, s_change, lam_change = tangents
    left, sigma, right = truncated_svd(jacobian)
    damped = (left * (sigma**2 * response(sigma, s, lam))[None, :]) @ left.T
    backward = right.T @ ((sigma * response(sigma, s, lam))[:, None] * left.T)
    part = (change - lam * (damped @ change)) @ backward
    moved = part + part.T - s_change * (backward.T @ backward) - lam_change * (damped @ damped)
    return damped, moved.astype(damped.dtype)


@eqx.filter_jit
def _solve_force(system, s):
    """(sI + M)⁻¹ c."""
    s = s[None]
    pull = output_pull(system, seen_directions(system), s)
    pulled = system.after(pull)

    def solve(unit):
        coefficients, _, _, right = unit_force(pulled, s, pull, unit)
        return coefficients[0] @ right

    units = system.slopes, system.output_weights, system.feature_gap
    return over_units(solve, units)


@eqx.filter_jit
def _woodbury(system, s, vector):
    """(sI + M)⁻¹ of a vector; at s = 0, M⁺ of it."""
    away = jnp.where(s == 0, 0.0, 1 / jnp.where(s == 0, 1.0, s))

    def blocks(system, vector):
        def inverse(unit):
            slopes, part = unit
            _, sigma, right = unit_factors(system.x, slopes)
            inside = right @ part
            # a unit that moves in every direction leaves nothing: no rounding of that, over a small s
            beyond = jnp.where((sigma.size == part.size) & jnp.all(sigma > 0), 0.0, away)
            change = jnp.where(sigma > 0, response(sigma, s, system.lam) - beyond, 0.0) * inside
            return beyond * part + change @ right

        return over_units(inverse, (system.slopes, vector))

    first = blocks(system, vector)
    matrix = _characteristic_matrix(system.after(first), s)
    pull = jnp.linalg.solve(matrix, system.outputs(first))
    return first - blocks(system.after(pull), system.output_adjoint(pull))
