r"""The student as a system with memory: an equation for its outputs alone.

The features can be eliminated. With e = y - f the outputs obey the Volterra equation

    e(t) = y - φ̄ + Σ b_k e^{-λH_k t}(φ_k - f_k(0)) - ∫₀ᵗ K(t - τ) e(τ) dτ,   K(t) = Σ b_k² H_k e^{-λH_k t}.

At λ = 0 the kernel K is H̄ for ever: all that was learnt is remembered. λ > 0 forgets.

Book: chapter *Characteristic values and fading memory*.
"""

import functools
import math
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import roots_jacobi

from kdlib.contour import seen_directions
from kdlib.linear_system import LinearSystem, Readout, unit_factors
from kdlib.problem import TransferProblem
from kdlib.trajectory import Trajectory, check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, time_array

# A panel's solution is a polynomial through so many Radau points; its memory is integrated by a Gauss rule.
_STAGES, _GAUSS_NODES = 16, 32
# The lengths of panels double, so that these span 19 decades of time.
_PANELS = 64


def memory_kernel(problem: TransferProblem, times: ArrayLike) -> jax.Array:
    r"""Return what the student's outputs remember of an error made a time t ago.

    .. math:: K(t) = \sum_k b_k^2\, H_k\, e^{-\lambda H_k t}, \qquad K(0) = \bar H .

    Parameters
    ----------
    problem : TransferProblem
    times : array, shape (T,)
        Gradient-flow times in any order; 0 and ``inf`` are allowed.

    Returns
    -------
    array, shape (T, n, n)
        Symmetric positive semidefinite matrices, decreasing in t. At λ = 0 all are the tangent kernel.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for NaN or negative times.

    Notes
    -----
    Units come one after the other: m·n²·(T + d) flops, memory T·n². Accurate to 1e-11 in 64-bit, 1e-5 in 32-bit,
    relative to the norm of the tangent kernel.

    References
    ----------
    Statement ``fading-memory`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.memory_kernel(problem, [0.0, 2.0])[:, 0, 0].round(4).tolist()  # exp(-t/2)
    [1.0, 0.3679]
    """
    check_problem_and_inputs(problem, None)
    return _memory_kernel(LinearSystem.of(problem), time_array(times, allow_inf=True))


@eqx.filter_jit
def _memory_kernel(system, times):
    def gather(total, unit):
        slopes, weight = unit
        left, sigma, _ = unit_factors(system.x, slopes)
        rates = system.lam * sigma**2

        def at_time(t):
            # λσ² = 0 forgets nothing, not even at t = inf
            return (left * (sigma**2 * jnp.exp(-jnp.where(rates > 0, rates * t, 0.0)))[None, :]) @ left.T

        return total + weight**2 * jax.vmap(at_time)(times), None

    n = system.x.shape[0]
    start = jnp.zeros((times.shape[0], n, n), system.x.dtype)
    return jax.lax.scan(gather, start, (system.slopes, system.output_weights))[0]


def memory_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the student in the kernel regime by solving the Volterra equation of its outputs.

    .. math::
        y - f(t) = y - \bar\varphi + \sum_k b_k e^{-\lambda H_k t} (\varphi_k - f_k(0))
                   - \int_0^t K(t - \tau)\, (y - f(\tau))\, d\tau .

    Collocation at 16 Radau points on panels whose lengths double. The exponentials of the memory are integrated
    exactly against the collocation polynomial, so fast forgetting costs nothing; fast learning meets an implicit
    rule. A route to the same flow as :func:`kernel_flow` and :func:`laplace_flow` that knows neither M nor a
    transform.

    Parameters
    ----------
    problem : TransferProblem
    times : array, shape (T,)
        Finite gradient-flow times in any order; 0 is allowed.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        ``error`` is the size of the last coefficients of the error's Chebyshev series, the worst over panels, plus
        the rounding of as many panels; ``converged`` says that it is at most ``1e5 eps``, 2e-11 in 64-bit.

    Raises
    ------
    ValueError
        For NaN, negative or infinite times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When ``converged`` is false.

    Notes
    -----
    64 panels, or more where the fastest rate asks for them, which values under ``jit`` and ``vmap`` cannot. Each solves
    16n equations and costs m·n²·min(n, d)·16² flops: a reference for small problems. Where ``converged``, outputs are
    accurate to 1e-12 in 64-bit, 1e-5 in 32-bit, relative to max(‖y‖, ‖f(0)‖); those at ``at`` as
    :attr:`TransferProblem.scale` says.

    References
    ----------
    Brunner, *Collocation Methods for Volterra Integral and Related Functional Differential Equations*, Cambridge
    University Press, 2004.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.array([[0.0, 0.0]]), jnp.array([1.0]))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.memory_flow(problem, [0.0, 1.0]).outputs[:, 0].round(6).tolist()  # (1 - exp(-1.5 t)) / 1.5
    [0.0, 0.517913]
    """
    at = check_problem_and_inputs(problem, at)
    times = time_array(times, allow_inf=True)
    if is_concrete(times) and np.isinf(np.asarray(times)).any():
        raise ValueError(
            "times: expected finite times, since the equation is solved panel by panel; got inf. "
            "The limit of the frozen-kernel system is fixed_point(problem)"
        )
    system, readout = LinearSystem.of(problem), Readout.of(problem.student, at)
    horizon = jnp.max(times)
    panels = _PANELS
    if is_concrete(horizon, *jax.tree.leaves(system)):
        units = jnp.sum((system.slopes**2) * jnp.sum(system.x**2, axis=1)[None, :], axis=1)
        rate = float(system.lam * jnp.max(units) + system.output_weights**2 @ units)
        needed = 1 + math.ceil(math.log2(max(rate * float(horizon), 1.0)))
        panels = _PANELS * -(-needed // _PANELS)
    dtype = system.x.dtype
    ends, states, solutions, error = _solve(system, jnp.where(horizon > 0, horizon, 1.0), panels)
    changes, energies, lengths, end = _read(system, readout, times, ends, states, solutions)
    eps = float(jnp.finfo(dtype).eps)
    error, goal = error / jnp.where(problem.scale > 0, problem.scale, 1.0) + panels * eps, 1e5 * eps
    if is_concrete(error) and not error <= goal:
        warnings.warn(f"memory_flow: the Chebyshev series of a panel ends at {float(error):.1e}", stacklevel=2)
    return Trajectory(
        times=times,
        outputs=problem.student(at)[None, :] + changes,
        energies=energies,
        movement=lengths / np.sqrt(problem.student.width),
        error=error,
        converged=error <= goal,
        _end=problem.student.with_weights(problem.student.weights + end),
    )


@functools.cache
def _rule():
    """Radau points on (0, 1], Chebyshev coefficients of the polynomials that are 1 at one of them, a Gauss rule."""
    inner, _ = roots_jacobi(_STAGES - 1, 1, 0)
    points = (1 + np.append(inner, 1.0)) / 2
    coefficients = np.linalg.inv(np.polynomial.chebyshev.chebvander(2 * points - 1, _STAGES - 1))
    places, weights = np.polynomial.legendre.leggauss(_GAUSS_NODES)
    return points, coefficients, (1 + places) / 2, weights / 2


def _chebyshev(x):
    """T_0(x), ..., T_{p-1}(x) for |x| ≤ 1, shape (p, *x.shape)."""
    values = [jnp.ones_like(x), x]
    for _ in range(_STAGES - 2):
        values.append(2 * x * values[-1] - values[-2])
    return jnp.stack(values)


def _moments(rate, theta):
    """∫₀^θ e^{-rate (θ - x)} ℓ_j(x) dx for the p cardinal polynomials ℓ_j of a panel; scalars rate and θ.

    Where the exponential has died the integral ends: 32 Gauss nodes then serve every rate.
    """
    dtype = theta.dtype
    _, coefficients, places, weights = (jnp.asarray(part, dtype) for part in _rule())
    reach = jnp.minimum(theta, -jnp.log(jnp.finfo(dtype).eps) / jnp.where(rate > 0, rate, 1e-30))
    back = reach * places
    series = _chebyshev(2 * (theta - back) - 1) @ (reach * weights * jnp.exp(-rate * back))
    return series @ coefficients


def _forgotten(rate, theta):
    """What the gap to the teacher has closed by itself: 1 - e^{-rate θ}."""
    return -jnp.expm1(-rate * theta)


@eqx.filter_jit
def _solve(system, horizon, panels):
    """Ends of the panels, v at their starts, the outputs' error at their points, and an error estimate."""
    dtype, n, lam = system.x.dtype, system.x.shape[0], system.lam
    points = jnp.asarray(_rule()[0], dtype)
    ends = horizon * 2.0 ** jnp.arange(1 - panels, 1, dtype=dtype)
    basis = seen_directions(system)
    system = system.after(basis)
    every_rate = jax.vmap(jax.vmap(_moments, (None, 0)), (0, None))
    units = system.slopes, system.output_weights, system.feature_gap

    def panel(v, step):
        def gather(carry, unit):
            (slopes, weight, gap), v = unit
            left, sigma, _ = unit_factors(system.x, slopes)
            rates = lam * sigma**2 * step
            gap = gap - slopes * (system.x @ v)
            closed = jax.vmap(lambda theta: left @ (_forgotten(rates, theta) * (left.T @ gap)))(points)
            memory = step * sigma[:, None, None] ** 2 * every_rate(rates, points)
            matrix, forcing = carry
            # Σ_i memory_ijl u_i u_iᵀ for every pair of points (j, l)
            pairs = left[:, None, :] * left[None, :, :]
            blocks = memory.reshape(sigma.shape[0], -1).T @ pairs.reshape(n * n, -1).T
            return (matrix + weight**2 * blocks, forcing - weight * closed), None

        error = system.output_gap - system.outputs(v)
        start = jnp.zeros((_STAGES**2, n * n), dtype), jnp.tile(error, (_STAGES, 1))
        (matrix, forcing), _ = jax.lax.scan(gather, start, (units, v))
        matrix = basis.T[None] @ matrix.reshape(_STAGES**2, n, n) @ basis[None]
        matrix = matrix.reshape(_STAGES, _STAGES, n, n).transpose(0, 2, 1, 3).reshape(_STAGES * n, _STAGES * n)
        # on what no unit sees the error is constant and moves nothing
        solution = jnp.linalg.solve(jnp.eye(_STAGES * n, dtype=dtype) + matrix, (forcing @ basis).ravel())
        solution = solution.reshape(_STAGES, n) @ basis.T
        solved = system.after(solution)

        def advance(unit):
            unit, v = unit
            return v + _moved(solved, unit, v, step, jnp.ones((), dtype), solution)

        return jax.lax.map(advance, (units, v)), (v, solution)

    at_start = jnp.zeros(system.problem.student.weights.shape, dtype)
    _, (states, solutions) = jax.lax.scan(panel, at_start, jnp.diff(ends, prepend=jnp.zeros(1, dtype)))
    last = jnp.asarray(_rule()[1][-2:], dtype)
    return ends, states, solutions, jnp.max(jnp.linalg.norm(last[None] @ solutions, axis=2))


@eqx.filter_jit
def _read(system, readout, times, ends, states, solutions):
    """Output changes, energies and lengths at the times, and v at the latest."""
    dtype, n, lam = system.x.dtype, system.x.shape[0], system.lam
    starts = jnp.concatenate([jnp.zeros(1, dtype), ends[:-1]])
    where = jnp.minimum(jnp.searchsorted(ends, times), ends.shape[0] - 1)
    steps = (ends - starts)[where]
    # the first panels of a short horizon are shorter than any number
    thetas = jnp.where(steps > 0, (times - starts[where]) / jnp.where(steps > 0, steps, 1.0), 0.0)
    latest = jnp.argmax(times)
    system = system.after(solutions)

    def gather(carry, unit):
        unit, slopes_there, states = unit
        v = states[where]
        v = v + jax.vmap(lambda v, *rest: _moved(system, unit, v, *rest))(v, steps, thetas, solutions[where])
        slopes, weight, gap = unit
        change = slopes[None] * (v @ system.x.T)
        outputs, there, squares, lengths = carry
        outputs, there = outputs + weight * change, there + weight * slopes_there[None] * (v @ readout.x.T)
        squares = squares + jnp.sum((gap[None] - change) ** 2, axis=1)
        return (outputs, there, squares, lengths + jnp.sum(v**2, axis=1)), v[latest]

    units = system.slopes, system.output_weights, system.feature_gap
    zeros = functools.partial(jnp.zeros, dtype=dtype)
    shape = times.shape[0]
    start = zeros((shape, n)), zeros((shape, readout.x.shape[0])), zeros(shape), zeros(shape)
    (outputs, there, squares, lengths), end = jax.lax.scan(
        gather, start, (units, readout.slopes, states.transpose(1, 0, 2))
    )
    energies = (jnp.sum((system.output_gap[None] - outputs) ** 2, axis=1) + lam * squares) / 2
    return there, energies, jnp.sqrt(lengths), end


def _moved(system, unit, v, step, theta, solution):
    """How far one unit's weights move from v in a part θ of a panel, given the outputs' error at its points."""
    slopes, weight, gap = unit
    left, sigma, right = unit_factors(system.x, slopes)
    rates = system.lam * sigma**2 * step
    gap = gap - slopes * (system.x @ v)
    inverse = jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, sigma, 1.0), 0.0)
    pulled = jax.vmap(_moments, (0, None))(rates, theta) @ solution
    drive = weight * step * sigma * jnp.sum(pulled * left.T, axis=1)
    return (drive + inverse * _forgotten(rates, theta) * (left.T @ gap)) @ right
