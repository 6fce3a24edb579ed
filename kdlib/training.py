"""The real network in motion: its gradient flow, and gradient descent.

Book: chapter *Gradient flow*.
"""

import warnings
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.network import features_and_slopes
from kdlib.problem import TransferProblem
from kdlib.trajectory import Trajectory, check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, known_now, real_array, time_array

_MOST_STEPS = 100_000


def _moved(problem, weights):
    """The student with these weights, whatever they are: a run that overflows still returns."""
    return eqx.tree_at(lambda net: net.weights, problem.student, weights)


def _at_hand(problem):
    """The problem with its teacher's features as an array: every step needs them."""
    return problem if problem.teacher is None else eqx.tree_at(lambda given: given.teacher, problem, problem.phi)


def _velocity(problem, weights):
    """L_k r_k, minus the gradient of E, shape (m, d)."""
    net = _moved(problem, weights)
    features, slopes = features_and_slopes(net, problem.x)
    b = net.output_weights
    residuals = b[:, None] * (problem.y - b @ features)[None, :]
    if problem.teacher is not None:
        residuals = residuals + problem.lam * (problem.phi - features)
    return (slopes * residuals) @ problem.x


def _observe(problem, at, weights):
    """Outputs, energy and movement of a network with these weights."""
    net = _moved(problem, weights)
    movement = jnp.sqrt(jnp.sum((weights - problem.student.weights) ** 2) / problem.student.width)
    return net(at), problem.energy(net), movement


def gradient_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the gradient flow of the network itself, kernels moving with it.

    .. math:: \dot w_k = L_k(w)\, r_k, \qquad r_k = b_k (y - f) + \lambda (\varphi_k - f_k).

    Integrated by diffrax's eighth-order Dormand-Prince method with adaptive steps.

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
        ``error`` is the difference to a second run at a tolerance one hundred times looser, relative to
        max(‖y‖, ‖f(0)‖); the true error is usually of that size or below.

    Raises
    ------
    ValueError
        For NaN, negative or infinite times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When the integrator gives up.

    Notes
    -----
    With a ReLU the velocity jumps where a unit switches on or off; the integrator then takes short steps there. On
    networks of a few units, up to t = 3, outputs are accurate to 1e-8 in 64-bit, 1e-4 in 32-bit, relative to max(‖y‖,
    ‖f(0)‖); elsewhere ``error`` tells.

    References
    ----------
    Kidger, *On Neural Differential Equations*, 2022 (diffrax).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> [f"{value:.4f}" for value in kd.gradient_flow(problem, [0.0, 1.0, 50.0]).outputs[:, 0]]
    ['0.0000', '0.4669', '0.6667']
    """
    at = check_problem_and_inputs(problem, at)
    times = time_array(times, allow_inf=False)
    problem, order = _at_hand(problem), jnp.argsort(times)
    fine, coarse = (_integrate(problem, times[order], at, tolerance) for tolerance in tolerances(times.dtype))
    observed, weights, succeeded = fine
    (outputs, energies, movement), error = _as_asked(problem, order, observed, coarse[0])
    if is_concrete(succeeded) and not succeeded:
        warnings.warn(
            f"gradient_flow: the integrator gave up within {_MOST_STEPS} steps; ask for earlier times", stacklevel=2
        )
    return Trajectory(
        times=times,
        outputs=outputs,
        energies=energies,
        movement=movement,
        error=error,
        converged=succeeded,
        _end=_moved(problem, weights),
    )


def tolerances(dtype):
    """For the answer, and for the coarser one beside it; in an array, since a number would be compiled in."""
    return jnp.sqrt(jnp.finfo(dtype).eps) * jnp.asarray([0.1, 10.0], dtype)


@eqx.filter_jit
def _as_asked(problem, order, fine, coarse):
    """Observations in the order of the times asked for, and how far the outputs are from the coarse ones."""
    scale = jnp.where(problem.scale > 0, problem.scale, 1.0)
    error = jnp.max(jnp.linalg.norm(fine[0] - coarse[0], axis=1)) / scale
    back = jnp.argsort(order)
    return [values[back] for values in fine], error


@eqx.filter_jit
def _integrate(problem, times, at, tolerance):
    """Observations at sorted times, the last weights, and whether all went well."""
    import diffrax  # imported here: it alone would double the time of `import kdlib`

    # long inputs multiply what is wrong in the weights
    longest = jnp.sqrt(jnp.max(jnp.sum(jax.lax.stop_gradient(problem.x) ** 2, axis=1)))
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, weights, problem: _velocity(problem, weights)),
        diffrax.Dopri8(),
        t0=jnp.zeros((), times.dtype),
        t1=times[-1],
        dt0=None,
        y0=problem.student.weights,
        args=problem,
        saveat=diffrax.SaveAt(
            subs=[
                diffrax.SubSaveAt(ts=times, fn=lambda t, weights, problem: _observe(problem, at, weights)),
                diffrax.SubSaveAt(t1=True),
            ]
        ),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance / jnp.maximum(1.0, longest)),
        max_steps=_MOST_STEPS,
        throw=False,
    )
    observed, weights = cast(tuple[Any, Any], solution.ys)
    return observed, weights[-1], solution.result == diffrax.RESULTS.successful


def gradient_descent(
    problem: TransferProblem, step_size: float | jax.Array, steps: ArrayLike, *, at: ArrayLike | None = None
) -> Trajectory:
    r"""Run gradient descent on the objective, the iteration that is used in practice.

    .. math:: w_k \leftarrow w_k + \eta\, L_k(w)\, r_k .

    Parameters
    ----------
    problem : TransferProblem
    step_size : float
        η > 0, the gradient-flow time of one step.
    steps : int or array of int, shape (T,)
        The step numbers to record, in any order; one number N records 0, 1, ..., N.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        ``times`` are step numbers times η. ``converged`` is False when the iteration has overflowed; ``error``
        is that of rounding alone.

    Raises
    ------
    ValueError
        Unless step_size > 0 and steps are whole numbers that are at least 0, and not traced.

    Warns
    -----
    UserWarning
        When the iteration overflows: the step is too long.

    Notes
    -----
    Under ``jit``, ``grad`` and ``vmap`` the weights of all steps are kept: N·m·d numbers for N steps. Fifty stable
    steps are accurate to 1e-13 in 64-bit, 1e-4 in 32-bit, relative to max(‖y‖, ‖f(0)‖).

    References
    ----------
    Statements ``time-unit``, ``descent-follows-flow`` and ``stable-step`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> path = kd.gradient_descent(problem, 0.1, [0, 1, 2])
    >>> print(path.times, [f"{value:.4f}" for value in path.outputs[:, 0]])
    [0.  0.1 0.2] ['0.0000', '0.0997', '0.1821']
    """
    at = check_problem_and_inputs(problem, at)
    step_size = real_array("step_size", step_size, ())
    if is_concrete(step_size) and not float(step_size) > 0:
        raise ValueError(f"step_size: expected a number greater than 0; got {float(step_size)}")
    known_now("steps", steps, "since the program is as long as they say")
    try:
        steps = np.asarray(steps)
    except ValueError as error:
        raise ValueError("steps: expected a whole number, or an array of them; got rows of unequal length") from error
    if steps.dtype.kind not in "iu" or steps.ndim > 1 or steps.size == 0 or (steps < 0).any():
        raise ValueError(f"steps: expected a whole number, or an array of them, that is at least 0; got {steps!r}")
    if steps.ndim == 0:
        steps = np.arange(int(steps) + 1)
    problem = _at_hand(problem)
    distinct, back = np.unique(steps, return_inverse=True)
    if is_concrete(*jax.tree.leaves((problem, step_size, at))):
        strides = jnp.asarray(np.diff(distinct, prepend=0))
        outputs, energies, movement, weights = _descend(problem, step_size, strides, at)
    else:
        outputs, energies, movement, weights = _descend_traced(problem, step_size, distinct, at)
    finite = jnp.isfinite(weights).all() & jnp.isfinite(outputs).all()
    if is_concrete(finite) and not finite:
        warnings.warn("gradient_descent: the iteration overflowed; take a shorter step_size", stacklevel=2)
    return Trajectory(
        times=jnp.asarray(steps) * step_size,
        outputs=outputs[back],
        energies=energies[back],
        movement=movement[back],
        error=int(distinct[-1]) * jnp.finfo(weights.dtype).eps * jnp.ones(()),
        converged=finite,
        _end=_moved(problem, weights),
    )


@eqx.filter_jit
def _descend(problem, step_size, strides, at):
    """Observations after each stride, and the last weights."""

    def stride(weights, count):
        weights = jax.lax.fori_loop(0, count, lambda _, w: w + step_size * _velocity(problem, w), weights)
        return weights, _observe(problem, at, weights)

    weights, observed = jax.lax.scan(stride, problem.student.weights, strides)
    return *observed, weights


def _descend_traced(problem, step_size, steps, at):
    """The same with the number of steps known to the compiler, for reverse mode; every g-th step is kept."""
    g = max(1, int(np.gcd.reduce(steps)))

    def stride(weights, _):
        new, _ = jax.lax.scan(lambda w, _: (w + step_size * _velocity(problem, w), None), weights, length=g)
        return new, new

    start = problem.student.weights
    _, path = jax.lax.scan(stride, start, length=int(steps[-1]) // g)
    recorded = jnp.concatenate([start[None], path])[steps // g]
    return *jax.lax.map(lambda weights: _observe(problem, at, weights), recorded), recorded[-1]
