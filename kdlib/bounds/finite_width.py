r"""How far a network of finite width is from its own kernel flow.

The difference of the two, u = (√λ(f_k - f̂_k), f - f̂), obeys u' = -AAᵀu + Ae + q with A the Jacobian of either flow.
AAᵀ ⪰ 0 contracts: ‖u(t)‖ ≤ (½∫‖e‖²)^(1/2) + ∫‖q‖, where e and q are drifts of Jacobians times residuals and velocities.

Book: chapter *How wide is wide enough?*
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound, followed
from kdlib.bounds.lazy import check_times
from kdlib.bounds.rates import flow_error
from kdlib.kernels import tangent_kernel
from kdlib.linear_system import LinearSystem
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow
from kdlib.validation import ArrayLike, known_now

_NODES, _ROUNDS = 32, 50


def finite_width_gap(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound the distance of a network's outputs from those of its kernel flow, from the start alone.

    With R(t) = max_k R_k(t), b = max|b_k|, Δ = E(0) - E*, β = sup|σ'| ‖X‖ and γ = sup|σ''| max‖x_i‖ ‖X‖,

    .. math::
        \lVert f(t) - \hat f(t) \rVert &\le \gamma \Bigl[ \tfrac12 R(t) \sqrt\Delta\, t + \tfrac12 b \Delta t
            + \tfrac23 \sqrt\lambda\, \beta R(t) \sqrt\Delta\, t^{3/2} \Bigr], \\
        \lVert f(t) - \hat f(t) \rVert &\le \beta^2 \gamma\, t^2 \Bigl[ \lambda \sum_k R_k(t)^4
            + \Bigl( \sum_k |b_k| R_k(t)^2 \Bigr)^2 \Bigr]^{1/2}, \\
        R_k(t) &= |b_k| \sqrt{2E(0)} + \lambda \lVert \varphi_k - f_k(0) \rVert + |b_k| \beta \sqrt{\lambda E(0) t} .

    The bound is the smaller of the two: the second is for short times.

    Parameters
    ----------
    problem : TransferProblem
        With a smooth activation.
    times : array, shape (T,)
        Finite gradient-flow times in any order.

    Returns
    -------
    Bound
        Shape (T,), in label units. The trivial bound is 2√(2Δ): neither flow has more energy than the start.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for the ReLU, and a callable whose slope jumps or is not finite where
        the weights can get; for NaN, negative or infinite times.

    Notes
    -----
    Every constant is computed, and the bound holds at every width. It falls like m^(-1/2) where E(0) stays bounded and
    the teacher is within O(m^(-1/2)) of every unit; otherwise it is true and uninformative. It also bounds
    (λ Σ‖f_k - f̂_k‖²)^(1/2). Attained as t → 0 by a unit that starts where slope and curvature are largest.

    References
    ----------
    Statements ``gap-equation``, ``contraction`` and ``finite-width-gap`` of the book. Lee et al., *Wide Neural Networks
    of Any Depth Evolve as Linear Models Under Gradient Descent*, NeurIPS 2019 (the rate without a teacher).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.ones((400, 1)), jnp.tile(jnp.array([1.0, -1.0]), 200), "softplus")
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), None, lam=0.0)
    >>> bound = kd.bounds.finite_width_gap(problem, [0.5, 2.0])
    >>> print(bool(bound.holds), [round(float(value), 4) for value in bound.value])
    True [0.0031, 0.0151]
    """
    times, constants = check_times(problem, times)
    value = _a_priori(constants, times)
    return _bound("gap to the kernel flow", problem, times, value, constants, (constants.trust,))


def finite_width_gap_posterior(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound the distance of a network's outputs from those of its kernel flow, once the latter is known.

    No network is trained for the bound. On the intervals between times 0 = t_0 < t_1 < ... the kernel flow has
    ‖v̂_k‖ ≤ N_kj, ‖r̂_k‖ ≤ R̂_kj, ‖dv̂_k/dt‖ ≤ Ŝ_kj and a path of length at most δ̂_j. With Z_j ≥ ‖v - v̂‖ up to t_{j+1},

    .. math::
        \lVert f(t_J) - \hat f(t_J) \rVert &\le \frac{\varepsilon_J}{\sqrt2} + \theta_J, \\
        \varepsilon_J^2 &= \gamma^2 \sum_{j<J} (t_{j+1} - t_j) \Bigl[ \bigl( \textstyle\sum_k N_{kj}^2 \hat R_{kj}^2
            \bigr)^{1/2} + Z_j \max_k \hat R_{kj} \Bigr]^2, \\
        \theta_J &= \gamma \sum_{j<J} (t_{j+1} - t_j) \Bigl\{ \sqrt\lambda \Bigl[ \bigl( \textstyle\sum_k N_{kj}^2
            \hat S_{kj}^2 \bigr)^{1/2} + Z_j \max_k \hat S_{kj} \Bigr]
            + \textstyle\sum_k |b_k| N_{kj} \hat S_{kj} \Bigr\} + \gamma b \sum_{j<J} Z_j \hat\delta_j .

    Z starts at √(Δt) + ‖v̂‖, and √t (2ε + √2 θ) replaces it as long as that is smaller.

    Parameters
    ----------
    problem : TransferProblem
        With a smooth activation.
    times : array, shape (T,)
        Finite gradient-flow times in any order.

    Returns
    -------
    Bound
        Shape (T,), in label units; never above that of :func:`finite_width_gap`.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for the ReLU, and a callable whose slope jumps or is not finite where
        the weights can get; for NaN, negative or infinite times; for traced arrays.

    Notes
    -----
    Within a factor 1.03 at short times, where all units start at one point with nearly the largest slope and curvature,
    with output weights of one sign, one sample and no teacher.
    The sums bound their integrals from above, whatever the t_j. Nothing but the accuracy of
    :func:`~kdlib.kernel_flow` is left out. Where √(Δt) ≥ ‖v‖ is better than N and Z, it takes their place. Costs one
    Krylov run for each of 32 times and of those asked for.

    References
    ----------
    Statements ``gap-equation``, ``contraction`` and ``finite-width-gap-posterior`` of the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.ones((400, 1)), jnp.tile(jnp.array([1.0, -1.0]), 200), "softplus")
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), None, lam=0.0)
    >>> bound = kd.bounds.finite_width_gap_posterior(problem, [20.0])
    >>> print(bool(bound.holds), bool(bound.value < kd.bounds.finite_width_gap(problem, [20.0]).value))
    True True
    """
    for name, value in (("problem", problem), ("times", times)):
        known_now(name, value, "since they decide where the kernel flow is looked at")
    times, constants = check_times(problem, times)
    nodes = _nodes(constants, times)
    path = _KernelPath.of(problem, nodes)
    gaps = _a_posteriori(constants, nodes, path)
    value = jnp.minimum(jnp.asarray(gaps)[np.searchsorted(nodes, np.asarray(times))], _a_priori(constants, times))
    assumptions = constants.trust, Assumption("kernel flow converged on the way", path.converged)
    return _bound("gap to the kernel flow, a posteriori", problem, times, value, constants, assumptions)


def _bound(name, problem, times, value, constants, assumptions):
    network, kernel = gradient_flow(problem, times), kernel_flow(problem, times)
    measured = jnp.linalg.norm(network.outputs - kernel.outputs, axis=1)
    error = (network.error + flow_error(kernel)) * problem.scale
    error = error + jnp.sum(constants.weights) * constants.beta * constants.error
    trivial = jnp.full_like(value, 2.0) * jnp.sqrt(2 * constants.budget)
    assumptions = *assumptions, followed("gradient flow", network), followed("kernel flow", kernel)
    return Bound(name, value, measured, assumptions, trivial=trivial, error=error)


def _a_priori(constants, times):
    """The smaller of the bounds for long and for short times, shape (T,)."""
    beta, gamma, lam, budget = constants.beta, constants.gamma, constants.lam, constants.budget
    residuals, b = constants.residuals(times), jnp.max(constants.weights)
    largest = jnp.max(residuals, axis=1) * jnp.sqrt(budget)
    long = largest * times / 2 + b * budget * times / 2 + 2 / 3 * jnp.sqrt(lam) * beta * largest * times**1.5
    short = jnp.sqrt(lam * jnp.sum(residuals**4, axis=1) + (residuals**2 @ constants.weights) ** 2)
    return gamma * jnp.minimum(long, (beta * times) ** 2 * short)


def _nodes(constants, times):
    """Times from the fastest time scale to the latest of ``times``, 0 and these included."""
    latest = float(jnp.max(times))
    fastest = float((jnp.sum(constants.weights**2) + constants.lam) * constants.beta**2)
    first = min(0.05 / fastest, latest) if fastest > 0 else latest
    spread = np.geomspace(first, latest, _NODES) if latest > 0 else np.zeros(1)
    return np.unique(np.concatenate([[0.0], spread, np.asarray(times)]))


class _KernelPath(NamedTuple):
    """What a posteriori bounds know of the kernel flow on each of the J intervals between J + 1 times."""

    moved: np.ndarray  # at least ‖v̂‖ on the interval, (J,)
    lengths: np.ndarray  # δ̂_j ≥ ∫‖dv̂/dt‖ over it, (J,)
    units: np.ndarray  # N_kj ≥ ‖v̂_k‖ on it, (J, m)
    residuals: np.ndarray  # R̂_kj ≥ ‖r̂_k‖ on it, (J, m)
    speeds: np.ndarray  # Ŝ_kj ≥ ‖dv̂_k/dt‖ on it, (J, m)
    converged: bool

    @classmethod
    def of(cls, problem, nodes):
        system, b = LinearSystem.of(problem), np.abs(np.asarray(problem.student.output_weights))
        weights, converged = [], True
        for time in nodes:  # of each path no more is kept: it holds a system
            path = kernel_flow(problem, [time])
            weights.append(path.network.weights)
            converged = converged and bool(path.converged)
        weights = jnp.stack(weights)
        moved, residuals, speeds = (np.asarray(part) for part in _observe(system, problem.student, weights))
        strides, total = np.diff(nodes), np.linalg.norm(speeds, axis=1)
        # the speed is a root of a sum of squared exponentials: convex, so that chords lie above it
        lengths = strides * (total[1:] + total[:-1]) / 2
        # dr̂_k/dt = -λH_k r̂_k - b_k df̂/dt: ‖r̂_k‖ grows by at most |b_k| times the way of the outputs; ‖dv̂_k/dt‖ likewise
        steepest = np.sqrt(np.linalg.norm(np.asarray(tangent_kernel(problem.student, problem.x)), 2))
        growth = np.outer(steepest * lengths, b)
        slopes = np.max(np.abs(np.asarray(system.slopes)), axis=1) * np.linalg.norm(np.asarray(problem.x), 2)
        residuals, speeds = residuals[:-1] + growth, speeds[:-1] + growth * slopes[None, :]
        units = np.minimum(moved[:-1], moved[1:]) + strides[:, None] * speeds
        return cls(np.linalg.norm(moved[1:], axis=1), lengths, units, residuals, speeds, converged)


@eqx.filter_jit
def _observe(system, student, weights):
    """‖v̂_k‖, ‖r̂_k‖ and ‖dv̂_k/dt‖, shape (T, m), at the given weights, shape (T, m, d)."""

    def one(w):
        v = w - student.weights
        left = system.output_gap - system.outputs(v)
        own = system.lam * (system.feature_gap - system.features(v)) + system.output_weights[:, None] * left[None, :]
        return tuple(jnp.linalg.norm(rows, axis=1) for rows in (v, own, (system.slopes * own) @ system.x))

    return jax.lax.map(one, weights)


def _a_posteriori(constants, nodes, path):
    """U at every node, shape (J + 1,)."""
    gamma, lam, budget = (float(c) for c in (constants.gamma, constants.lam, constants.budget))
    b, strides, ends = np.asarray(constants.weights), np.diff(nodes), nodes[1:]
    budgeted = np.sqrt(budget * ends)  # at least ‖v‖ on the interval
    apart = budgeted + path.moved  # at least ‖z‖
    largest, fastest = np.max(path.residuals, axis=1), np.max(path.speeds, axis=1)
    own = [np.linalg.norm(path.units * rows, axis=1) for rows in (path.residuals, path.speeds)]
    shared = (path.units * path.speeds) @ b

    def sums(apart):
        # each is a norm of ‖v_k‖ times something of unit k: by the energy, or by ‖v_k‖ ≤ ‖v̂_k‖ + ‖z_k‖
        pulled = np.minimum(budgeted * largest, own[0] + apart * largest)
        carried = np.minimum(budgeted * fastest, own[1] + apart * fastest)
        summed = np.minimum(budgeted * np.max(b) * path.lengths, strides * shared + apart * np.max(b) * path.lengths)
        epsilon = gamma * np.sqrt(np.cumsum(strides * pulled**2))
        return epsilon, gamma * np.cumsum(np.sqrt(lam) * strides * carried + summed)

    for _ in range(_ROUNDS):
        epsilon, theta = sums(apart)
        closer = np.minimum(apart, np.sqrt(ends) * (2 * epsilon + np.sqrt(2) * theta))
        if np.all(closer >= 0.999 * apart):
            break
        apart = closer
    epsilon, theta = sums(apart)
    return np.concatenate([[0.0], epsilon / np.sqrt(2) + theta])
