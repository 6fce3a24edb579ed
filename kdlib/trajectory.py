"""What every route returns, and the route of the kernel regime: all times from one Krylov run.

Book: chapter *Linear system*.
"""

import functools
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.contour import at_limit, invert
from kdlib.krylov import (
    CHUNK,
    GROWTH,
    bidiagonal_steps,
    differences,
    early_values,
    late_values,
    run_until_settled,
    start_bidiagonalization,
    start_tridiagonalization,
    tridiagonal_steps,
)
from kdlib.limit import limit_of
from kdlib.linear_system import LinearSystem, Readout, ShiftedInverse, after
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem, check_problem
from kdlib.validation import ArrayLike, is_concrete, real_array, time_array

_MOST_EARLY_STEPS, _MOST_LATE_STEPS, _TRACED_STEPS = 256, 256, 128


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

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> path = kd.kernel_flow(problem, [1.0, 0.0])
    >>> path.times.tolist(), path.energies.round(6).tolist(), bool(path.converged)
    ([1.0, 0.0], [0.366525, 1.0], True)
    >>> path.network.weights.round(6).tolist()
    [[0.517913, 0.517913]]
    """

    times: jax.Array
    outputs: jax.Array
    energies: jax.Array
    movement: jax.Array
    error: jax.Array
    converged: jax.Array
    _end: "TwoLayerNetwork | KrylovEnd"

    @property
    def network(self) -> TwoLayerNetwork:
        """The network at the latest time; after `kernel_flow`, a second pass of its recurrence regenerates it."""
        return self._end if isinstance(self._end, TwoLayerNetwork) else self._end.network()


class KrylovEnd(eqx.Module):
    """The latest weights of a Krylov run, by the coefficients of the basis that was not kept."""

    student: TwoLayerNetwork
    origin: jax.Array
    operator: LinearSystem | ShiftedInverse
    readout: Callable[[jax.Array], jax.Array] | None
    coefficients: np.ndarray  # their number depends on the problem: on a device they would cost a program each time

    def network(self):
        if isinstance(self.operator, LinearSystem):
            steps, (state, _) = bidiagonal_steps, start_bidiagonalization(self.operator)
        else:
            steps, (state, _) = tridiagonal_steps, start_tridiagonalization(self.origin)
        # The same compiled chunks as in the first pass: it repeats bit for bit, lost orthogonality included.
        for chunk in self.coefficients.reshape(-1, CHUNK):
            chunk = jnp.asarray(chunk, self.origin.dtype)
            state, *_ = steps((self.operator, chunk, self.readout), state)
        return self.student.with_weights(self.student.weights + self.origin + state.sum)


def check_problem_and_inputs(problem, at):
    """Return the inputs at which outputs are wanted, or raise `ValueError`."""
    check_problem(problem)
    return problem.x if at is None else real_array("at", at, (("rows", None), ("d", problem.student.dim)))


def kernel_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the student in the kernel regime: its features' kernels stay as they are at the start.

    .. math:: \dot v = c - M v, \quad v(0) = 0, \quad f(t) = f(0) + J v(t), \quad v(t) = t\,\varphi_1(-tM)\,c .

    One Golub-Kahan run serves all times that do not wait for very slow modes; for those that do, Lanczos on
    (γI + M)⁻¹ started at v(∞) follows. M is never formed, and no basis is kept. At t = ∞ the answer is that of
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
        Outputs to 1e-8 of max(‖y‖, ‖f(0)‖) in 64-bit, 1e-3 in 32-bit, where ``converged``; at ``inf`` as
        :func:`fixed_point`; those at ``at`` as :attr:`TransferProblem.scale` says.

    Raises
    ------
    ValueError
        For NaN or negative times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When the Krylov runs end before their accuracy is reached.

    Notes
    -----
    A step costs 4·m·n·d flops, in blocks of units. Slopes of more than 1 GB on a device, 8 GB on a GPU, are not kept
    but computed anew in each step, at 8·m·n·d flops. Arrays that are sharded over units (``jax.sharding``), by several
    devices or processes, stay where they are: devices exchange their sums of outputs. A pole γ costs a factorization
    of O(m·n²·min(n, d)) flops, and serves a few decades of time. Under ``jit``, ``grad`` and ``vmap`` there is one
    Golub-Kahan run with the number of steps fixed beforehand; ``error`` then says what was reached. Derivatives of
    outputs, energies, movement and weights in λ, labels, features of the teacher and times go through the Laplace
    transform, see :func:`laplace_flow`.

    References
    ----------
    Golub and Kahan, *Calculating the Singular Values and Pseudo-Inverse of a Matrix*, 1965. Paige and Saunders,
    *LSQR*, 1982. Hochbruck and Lubich, *On Krylov Subspace Approximations to the Matrix Exponential Operator*, 1997.
    van den Eshof and Hochbruck, *Preconditioning Lanczos Approximations to the Matrix Exponential*, 2006.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> kd.kernel_flow(problem, [0.0, 1.0, jnp.inf]).outputs[:, 0].round(6).tolist()  # (1 - exp(-1.5 t)) / 1.5
    [0.0, 0.517913, 0.666667]
    """
    inputs = check_problem_and_inputs(problem, at)
    times = time_array(times, allow_inf=True)
    system = LinearSystem.of(problem)
    # on the training data the recurrence has the outputs anyway
    readout = None if at is None else Readout.of(problem.student, inputs)
    follow = _follow if is_concrete(*jax.tree.leaves((problem, times, inputs))) else _follow_traced
    (changes, energies, lengths), error, goal, end = follow(problem, times, system, readout)
    dtype = system.x.dtype
    start = system.start if at is None else problem.student(inputs)
    return Trajectory(
        times=times,
        outputs=start[None, :] + jnp.asarray(changes, dtype),
        energies=jnp.asarray(energies, dtype),
        movement=jnp.asarray(lengths, dtype) / np.sqrt(problem.student.width),
        error=jnp.asarray(error, dtype),
        converged=jnp.asarray(error <= goal),
        _end=end,
    )


def _goal(dtype):
    return max(1e-10, 1e3 * float(jnp.finfo(dtype).eps))


def _follow(problem, times, system, readout):
    """Golub-Kahan for all times; the limit for inf; then Lanczos, pole after pole, for times not yet settled."""
    clock, goal = np.asarray(times, np.float64), _goal(system.x.dtype)
    forever, latest = np.isinf(clock), int(np.argmax(clock))
    start, beta = start_bidiagonalization(system)
    scales = float(system.scale), float(beta) ** 2 / 2
    finite = np.where(forever, 0.0, clock)

    eps = float(jnp.finfo(start.right.dtype).eps)

    def early(*run):
        return early_values(*run, beta=float(beta), eps=eps, times=finite)

    values, coefficients, errors, taken = run_until_settled(
        bidiagonal_steps, system, start, readout, early, scales=scales, goal=goal, most_steps=_MOST_EARLY_STEPS
    )
    nowhere = jnp.zeros_like(problem.student.weights)
    end = KrylovEnd(problem.student, nowhere, system, readout, coefficients[latest])
    waiting = errors > goal
    if not (forever | waiting).any():
        return values, errors.max(), goal, end
    limit, readout = limit_of(system), system.outputs if readout is None else readout
    end_values = [np.asarray(value) for value in at_limit(problem, limit, readout)]
    _put(values, forever, end_values)
    if forever.any():
        end = problem.student.with_weights(problem.student.weights + limit.displacement)
    while waiting.any():
        gamma = 10 / clock[waiting].min()
        operator = _shifted_inverse(system, jnp.asarray(gamma, start.right.dtype))
        start, length = start_tridiagonalization(limit.displacement)
        late = functools.partial(
            late_values, beta=float(length), gamma=gamma, times=clock[waiting], at_limit=end_values
        )
        new, coefficients, new_errors, more = run_until_settled(
            tridiagonal_steps, operator, start, readout, late, scales=scales, goal=goal, most_steps=_MOST_LATE_STEPS
        )
        taken += more
        better = new_errors < errors[waiting]
        if not better.any():
            break
        improved = np.flatnonzero(waiting)[better]
        _put(values, improved, [value[better] for value in new])
        errors[improved] = new_errors[better]
        if latest in improved:
            row = coefficients[np.searchsorted(np.flatnonzero(waiting), latest)]
            end = KrylovEnd(problem.student, limit.displacement, operator, readout, row)
        waiting = errors > goal
    if waiting.any():
        warnings.warn(
            f"kernel_flow: after {taken} Krylov steps the outputs at time {clock[waiting].min():.3g} still change by "
            f"{errors.max():.1e} of max(‖y‖, ‖f(0)‖)",
            stacklevel=3,
        )
    return values, errors.max(), goal, end


def _follow_traced(problem, times, system, readout):
    """Golub-Kahan with the number of steps fixed beforehand, for ``jit``, ``grad`` and ``vmap``."""
    values, displacement, error = _fixed_steps(problem, times, system, readout)
    return values, error, _goal(system.x.dtype), problem.student.with_weights(problem.student.weights + displacement)


@eqx.filter_custom_jvp
def _fixed_steps(problem, times, system, readout):
    """Values, the latest displacement, and the error estimate."""
    start, beta = start_bidiagonalization(system)
    unknowns = min(start.right.size, (problem.student.width + 1) * system.output_gap.size)
    # more steps than unknowns: without orthogonalisation the slow modes come late
    steps = CHUNK * -(-min(4 * unknowns, _TRACED_STEPS) // CHUNK)
    _, *run = bidiagonal_steps((system, jnp.zeros(steps, start.right.dtype), readout), start)
    fewer = max(1, int(steps / GROWTH))
    early = functools.partial(early_values, beta=beta, eps=jnp.finfo(start.right.dtype).eps, times=times, xp=jnp)
    values, coefficients, hidden = early(*run)
    others, *_ = early(*(after(hidden, part[:fewer]) for part in run))
    changed = differences(values, others, (system.scale, beta**2 / 2), jnp)
    again, _ = start_bidiagonalization(system)  # the memory of the first is used up
    end, *_ = bidiagonal_steps((system, coefficients[jnp.argmax(times)], readout), again)
    return values, end.sum, jnp.max(jnp.maximum(changed, hidden))


@_fixed_steps.def_jvp
def _fixed_steps_jvp(primals, tangents):
    # A recurrence that has lost orthogonality, or broken down, has no useful derivative; the flow itself has one.
    values, displacement, error = _fixed_steps(*primals)
    problem, times, system, readout = primals
    _, (moved, moved_end) = eqx.filter_jvp(_smooth, (problem, times, system.after(error), readout), tangents)
    return (values, displacement, error), (moved, moved_end, jnp.zeros_like(error))


def _smooth(problem, times, system, readout):
    """The same values and displacement through the Laplace transform: a sum of resolvents, smooth in everything."""
    readout = Readout(system.x, system.slopes, system.output_weights) if readout is None else readout
    values, _, displacement = invert(system, readout, times)
    return values, displacement


def _put(values, rows, new):
    for value, part in zip(values, new, strict=True):
        value[rows] = part


@eqx.filter_jit
def _shifted_inverse(system, gamma):
    return ShiftedInverse.of(system, gamma)
