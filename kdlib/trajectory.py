"""What every route returns, and the route of the kernel regime: all times from one Krylov run.

Book: chapter *Linear system*.
"""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.limit import fixed_point
from kdlib.linear_system import (
    Bidiagonalization,
    LinearSystem,
    Readout,
    continue_bidiagonalization,
    start_bidiagonalization,
)
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.validation import is_concrete, real_array, time_array

_CHUNK = 16
_MOST_STEPS = 2048
# A run is checked each time it has grown by this factor; error is what the last growth changed.
_GROWTH = 1.25


class Trajectory(eqx.Module):
    """A student's path, the same type from every route.

    Attributes
    ----------
    times : array, shape (T,)
        Gradient-flow times, in the order asked for.
    outputs : array, shape (T, n)
        Outputs on the training data, or on the rows of ``at`` where that was given.
    energies : array, shape (T,)
        The objective E on the training data, in squared label units.
    movement : array, shape (T,)
        Root mean square over units of the distance ‖w_k(t) - w_k(0)‖.
    error : array, scalar
        Estimated error of the outputs, relative to max(‖y‖, ‖f(0)‖).
    converged : array, scalar
        Whether the route reached its stated accuracy.
    network : TwoLayerNetwork
        The network at the latest time.
    """

    times: jax.Array
    outputs: jax.Array
    energies: jax.Array
    movement: jax.Array
    error: jax.Array
    converged: jax.Array
    _end: "TwoLayerNetwork | KrylovEnd"

    @property
    def network(self):
        """The network at the latest time; after `kernel_flow` a second pass of its recurrence regenerates the weights."""
        return self._end if isinstance(self._end, TwoLayerNetwork) else self._end.network()


class KrylovEnd(eqx.Module):
    """The latest weights of a Krylov run, by the coefficients of the basis that was not kept."""

    student: TwoLayerNetwork
    system: LinearSystem
    start: Bidiagonalization
    readout: Readout
    coefficients: jax.Array

    def network(self):
        state = self.start
        # The same compiled chunks as in the first pass: the recurrence repeats bit for bit, lost orthogonality included.
        for chunk in self.coefficients.reshape(-1, _CHUNK):
            state, *_ = _steps(self.system, state, chunk, self.readout)
        return self.student.with_weights(self.student.weights + state.sum)


def check_problem_and_inputs(problem, at):
    """Return the inputs at which outputs are wanted, or raise `ValueError`."""
    if not isinstance(problem, TransferProblem):
        raise ValueError(f"problem: expected a TransferProblem; got {type(problem).__name__}")
    return problem.x if at is None else real_array("at", at, (("rows", None), ("d", problem.student.dim)))


def kernel_flow(problem, times, *, at=None):
    r"""Follow the student in the kernel regime: its features' kernels stay as they are at the start.

    .. math:: \dot v = c - M v, \quad v(0) = 0, \quad f(t) = f(0) + J v(t), \quad v(t) = t\,\varphi_1(-tM)\,c .

    One Golub-Kahan run serves all times. M is never formed, and no basis is kept. At t = ∞ the answer is that of
    :func:`fixed_point`.

    Parameters
    ----------
    problem : TransferProblem
    times : array, shape (T,)
        Gradient-flow times in any order; 0 and ``inf`` are allowed.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        Outputs to 1e-8 of max(‖y‖, ‖f(0)‖) in 64-bit, 1e-3 in 32-bit, where ``converged``.

    Raises
    ------
    ValueError
        For NaN or negative times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When the Krylov run ends before its accuracy is reached.

    Notes
    -----
    A step costs 4·m·n·d flops. Times that follow very slow modes need more steps. Under ``jit`` and ``vmap`` the
    number of steps is fixed beforehand; ``error`` then says what was reached.

    References
    ----------
    Golub and Kahan, *Calculating the Singular Values and Pseudo-Inverse of a Matrix*, 1965. Paige and Saunders,
    *LSQR*, 1982. Hochbruck and Lubich, *On Krylov Subspace Approximations to the Matrix Exponential Operator*, 1997.
    """
    at = check_problem_and_inputs(problem, at)
    times = time_array(times, allow_inf=True)
    system, readout = LinearSystem.of(problem), Readout.of(problem.student, at)
    start, beta = start_bidiagonalization(system)
    run = _run_adaptive if is_concrete(*jax.tree.leaves((problem, times, at))) else _run_traced
    values, coefficients, error, converged = run(system, start, beta, readout, times, problem.scale)
    changes, energies, movement = values
    latest = jnp.argmax(times)
    end = KrylovEnd(problem.student, system, start, readout, coefficients[latest])
    if is_concrete(times) and np.isinf(np.asarray(times)).any():
        limit = fixed_point(problem)
        network = problem.student.with_weights(problem.student.weights + limit.displacement)
        at_limit = readout(limit.displacement), _energy(problem, limit), jnp.sum(limit.displacement**2)
        forever = jnp.isinf(times)
        changes = jnp.where(forever[:, None], at_limit[0], changes)
        energies = jnp.where(forever, at_limit[1], energies)
        movement = jnp.where(forever, jnp.sqrt(at_limit[2]), movement)
        end = network
    return Trajectory(
        times=times,
        outputs=problem.student(at)[None, :] + changes,
        energies=energies,
        movement=movement / np.sqrt(problem.student.width),
        error=error,
        converged=converged,
        _end=end,
    )


def _energy(problem, limit):
    transfer = 0.0 if problem.phi is None else problem.lam * jnp.sum((problem.phi - limit.features) ** 2)
    return (jnp.sum((problem.y - limit.outputs) ** 2) + transfer) / 2


@eqx.filter_jit
def _steps(system, state, coefficients, readout):
    return continue_bidiagonalization(system, state, coefficients, readout)


def _evaluate(alphas, betas, beta, rows, times, xp):
    """Output changes, energies, lengths of v, and coefficients y(t), from the bidiagonal B.

    With B = U Σ Vᵀ and p = β₁ Uᵀe₁: y(t) = V (1 - exp(-tΣ²)) Σ⁻¹ p and ½‖β₁e₁ - B y‖² = E(t).
    """
    steps = alphas.shape[0]
    matrix = xp.eye(steps + 1, steps) * alphas[None, :] + xp.eye(steps + 1, steps, k=-1) * betas[None, :]
    left, sigma, right = xp.linalg.svd(matrix, full_matrices=False)
    start = beta * left[0]
    positive = sigma > 0
    rates = xp.where(positive, sigma, 1.0) ** 2
    exponent = xp.where(positive[None, :], times[:, None] * rates[None, :], 0.0)
    grown = -xp.expm1(-exponent)
    y = (grown * xp.where(positive, start / xp.where(positive, sigma, 1.0), 0.0)[None, :]) @ right
    left_over = xp.maximum(beta**2 - xp.sum(start**2), 0.0)
    energies = (left_over + xp.sum((xp.exp(-exponent) * start[None, :]) ** 2, axis=1)) / 2
    return (y @ rows, energies, xp.sqrt(xp.sum(y**2, axis=1))), y


def _difference(values, others, scale, beta, xp):
    """The largest relative difference of two evaluations: outputs, energies and movement, each on its own scale."""

    def relative(difference, size):
        return xp.max(difference) / xp.where(size > 0, size, 1.0)

    return xp.maximum(
        relative(xp.linalg.norm(values[0] - others[0], axis=1), scale),
        xp.maximum(
            relative(xp.abs(values[1] - others[1]), beta**2 / 2),
            relative(xp.abs(values[2] - others[2]), xp.max(values[2])),
        ),
    )


def _run_adaptive(system, start, beta, readout, times, scale):
    """Extend the recurrence chunk by chunk until growing it by a quarter changes nothing."""
    eps = float(jnp.finfo(start.right.dtype).eps)
    goal = max(1e-10, 1e3 * eps)
    host_times, host_beta, host_scale = (np.asarray(value, np.float64) for value in (times, beta, scale))
    host_times = np.where(np.isinf(host_times), 0.0, host_times)
    state, parts = start, []
    previous, steps, next_check, error = None, 0, _CHUNK, np.inf
    no_coefficients = jnp.zeros(_CHUNK, start.right.dtype)
    while True:
        state, *part = _steps(system, state, no_coefficients, readout)
        parts.append([np.asarray(piece, np.float64) for piece in part])
        steps += _CHUNK
        complete = parts[-1][0][-1] == 0 or parts[-1][1][-1] == 0
        if not complete and steps < next_check:
            continue
        alphas, betas, rows = (np.concatenate(pieces) for pieces in zip(*parts))
        values, coefficients = _evaluate(alphas, betas, host_beta, rows, host_times, np)
        if complete:
            error = steps * eps
        elif previous is not None:
            error = max(float(_difference(values, previous, host_scale, host_beta, np)), eps)
        if complete or error <= goal or steps >= _MOST_STEPS:
            break
        previous, next_check = values, max(steps + _CHUNK, int(_GROWTH * steps))
    converged = error <= goal or complete
    if not converged:
        warnings.warn(
            f"kernel_flow: after {steps} Krylov steps the outputs still change by {error:.1e} of max(‖y‖, ‖f(0)‖); "
            "ask for earlier times, or for inf",
            stacklevel=3,
        )
    as_arrays = jax.tree.map(lambda value: jnp.asarray(value, start.right.dtype), (values, coefficients, error))
    return *as_arrays, jnp.asarray(converged)


def _run_traced(system, start, beta, readout, times, scale):
    """The same with the number of steps fixed beforehand, for ``jit`` and ``vmap``."""
    unknowns = min(start.right.size, system.slopes.size + system.output_gap.size)
    chunks = -(-min(unknowns, 8 * _CHUNK) // _CHUNK)
    coefficients = jnp.zeros(chunks * _CHUNK, start.right.dtype)
    _, alphas, betas, rows = _steps(system, start, coefficients, readout)
    fewer = max(1, int(alphas.shape[0] / _GROWTH))
    values, coefficients = _evaluate(alphas, betas, beta, rows, times, jnp)
    others, _ = _evaluate(alphas[:fewer], betas[:fewer], beta, rows[:fewer], times, jnp)
    error = _difference(values, others, scale, beta, jnp)
    return values, coefficients, error, error <= jnp.maximum(1e-10, 1e3 * jnp.finfo(error.dtype).eps)
