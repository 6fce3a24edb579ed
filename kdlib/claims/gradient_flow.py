"""Checkers of the chapter *Gradient flow*: the gradient, the dynamics, the energy, and descent beside the flow."""
# pyright: reportMissingTypeArgument=false

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from equinox import filter_jit
from scipy.integrate import solve_ivp
from scipy.special import erf, expit

from kdlib.claims import Check
from kdlib.kernels import tangent_kernel, unit_kernels
from kdlib.training import gradient_descent, gradient_flow


class _Activation(NamedTuple):
    """σ, σ' and σ'' in NumPy, with the suprema of |σ'| and |σ''|: independent of the library's own."""

    value: Callable
    slope: Callable
    bend: Callable
    steepest: float
    sharpest: float


_ACTIVATIONS = {
    "tanh": _Activation(
        np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2), 1, 4 / 27**0.5
    ),
    "erf": _Activation(
        erf,
        lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2)),
        lambda z: -4 / np.sqrt(np.pi) * z * np.exp(-(z**2)),
        2 / np.sqrt(np.pi),
        4 / np.sqrt(2 * np.pi * np.e),
    ),
    "softplus": _Activation(lambda z: np.logaddexp(0, z), expit, lambda z: expit(z) * expit(-z), 1, 1 / 4),
    # 0 almost everywhere: what a reader puts in who overlooks the kink
    "relu": _Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, lambda z: 0 * z, 1, 0),
}


def energy_gradient(problem):
    r"""The gradient of the energy in the weights of unit k is :math:`-L_k r_k`.

    :math:`L_k = X^\top \mathrm{diag}\,\sigma'(Xw_k)` and
    :math:`r_k = b_k(y - f) + \lambda(\varphi_k - f_k)`, at the problem's student.  The other route: automatic
    differentiation of the energy.

    Book: chapter *Gradient flow*, `energy-gradient`.

    Parameters
    ----------
    problem : TransferProblem
        No preactivation of its student may be a point at which σ has no derivative.
    """
    x, slopes = np.asarray(problem.x), np.asarray(problem.student.derivative(problem.x))
    residuals = _residuals(problem)
    formula = np.stack([-(x.T @ np.diag(slope)) @ residual for slope, residual in zip(slopes, residuals, strict=True)])
    scale = np.linalg.norm(x) * np.max(np.abs(residuals)) * max(np.max(np.abs(slopes)), 1.0)
    return Check.compare("energy-gradient", formula, _gradient(problem, problem.student.weights), 1e-10, scale)


def feature_dynamics(problem):
    r"""Along the flow each unit's features move by its own kernel, and the output by their weighted sum.

    :math:`\dot f_k = H_k r_k` and :math:`\dot f = \bar H (y - f) + \lambda\sum_k b_k H_k(\varphi_k - f_k)`, at the
    problem's student.  The other route: the directional derivative of the features along minus the gradient, both by
    automatic differentiation.

    Book: chapter *Gradient flow*, `feature-dynamics`.

    Parameters
    ----------
    problem : TransferProblem
        No preactivation of its student may be a point at which σ has no derivative.
    """
    student, b = problem.student, np.asarray(problem.student.output_weights)
    speeds = np.asarray(_speed_of_features(problem, student.weights))
    kernels, residuals = np.asarray(unit_kernels(student, problem.x)), _residuals(problem)
    teacher_pull = float(problem.lam) * np.asarray(problem.feature_gap)
    output_speed = np.asarray(tangent_kernel(student, problem.x)) @ np.asarray(problem.output_gap)
    output_speed = output_speed + np.einsum("k,kij,kj->i", b, kernels, teacher_pull)
    scale = np.max(np.sum(np.asarray(problem.x) ** 2, axis=1)) * np.max(np.sum(np.abs(residuals), axis=1))
    return Check.worst(
        Check.compare(
            "feature-dynamics", np.einsum("kij,kj->ki", kernels, residuals), speeds, 1e-10, scale, part="features"
        ),
        Check.compare("feature-dynamics", output_speed, b @ speeds, 1e-10, scale * np.sum(np.abs(b)), part="output"),
    )


def energy_identity(problem, horizon):
    r"""The energy lost along the flow is the integral of the dissipation.

    :math:`E(0) - E(T) = \int_0^T \sum_k r_k^\top H_k r_k \,dt`.  The left side from `gradient_flow`; the right side
    integrated beside the weights by SciPy, from a NumPy implementation of the kernels.

    Book: chapter *Gradient flow*, `energy-identity`.

    Parameters
    ----------
    problem : TransferProblem
    horizon : float
        T, in gradient-flow time.
    """
    start, end = np.asarray(gradient_flow(problem, np.array([0.0, horizon])).energies)
    _, dissipated = _scipy_flow(problem, horizon)
    return Check.compare("energy-identity", start - end, dissipated, 1e-6, start)


def flow_exists(problem, horizon, nudge):
    r"""The flow exists for all times, moves at most like the root of the time, and depends continuously on its start.

    :math:`\lVert w(T) - w(0)\rVert^2 \le T\,(E(0) - E(T))`; and a tiny `nudge` of the start moves the end by little.
    The second flow, from the nudged start, is integrated by SciPy: a different method as well.

    Book: chapter *Gradient flow*, `flow-exists`.

    Parameters
    ----------
    problem : TransferProblem
    horizon : float
        T, in gradient-flow time.
    nudge : array, shape (m, d)
        The displacement of the start, of at most 1e-7 of its size.
    """
    flow = gradient_flow(problem, np.array([0.0, horizon]))
    weights, first = np.asarray(flow.network.weights), np.asarray(problem.student.weights)
    energies = np.asarray(flow.energies)
    nudged, _ = _scipy_flow(problem, horizon, first + np.asarray(nudge))
    reach = np.sqrt(horizon * max(energies[0] - energies[1], 0.0))
    # 1, unless the weights are of quite another size
    largest = np.max(np.abs(first))
    scale = np.clip(1.0, 1e-3 * largest, largest) + np.sqrt(horizon * energies[0])
    return Check.worst(
        Check.at_most("flow-exists", np.linalg.norm(weights - first), reach, 1e-6, scale, part="reach"),
        Check.compare("flow-exists", nudged, weights, 1e-4, scale, part="continuity"),
    )


def time_unit(problem, factor, horizon):
    r"""The flow of cE at time t is the flow of E at time ct.

    With c = 2 this is the paper's objective, which is written without the halves.  The flow of cE by SciPy, that of E
    by `gradient_flow`.

    Book: chapter *Gradient flow*, `time-unit`.

    Parameters
    ----------
    problem : TransferProblem
    factor : float
        c > 0.
    horizon : float
        t, in the time of the flow of cE.
    """
    scaled, _ = _scipy_flow(problem, horizon, factor=factor)
    ours = np.asarray(gradient_flow(problem, np.array([0.0, factor * horizon])).network.weights)
    scale = np.max(np.abs(problem.student.weights)) + min(1.0, np.max(np.abs(ours)))
    return Check.compare("time-unit", scaled, ours, 1e-6, scale)


def hessian_bounds(problem, direction):
    r"""The second derivative of the energy in closed form, and between :math:`-\mu` and :math:`L`.

    :math:`\nabla^2 E[V, V] = \lVert\sum_k b_k L_k^\top V_k\rVert^2 + \lambda\sum_k\lVert L_k^\top V_k\rVert^2
    - \sum_{k,i} r_{k,i}\,\sigma''(w_k\cdot x_i)(V_k\cdot x_i)^2`, at the problem's student, with
    :math:`\mu = s_2\,\rho\,\lVert X\rVert^2`, :math:`L = (a + \lambda)s_1^2\lVert X\rVert^2 + \mu` and
    :math:`\rho = \max_{k,i}|r_{k,i}|`.  The other route: the Hessian by automatic differentiation.

    Book: chapter *Gradient flow*, `hessian-bounds`.

    Parameters
    ----------
    problem : TransferProblem
        Of few weights: its Hessian is formed.
    direction : array, shape (m, d)
        V.
    """
    sigma, residuals = _ACTIVATIONS[problem.student.activation], _residuals(problem)
    x, b, weights = (
        np.asarray(problem.x),
        np.asarray(problem.student.output_weights),
        np.asarray(problem.student.weights),
    )
    along = np.asarray(direction) @ x.T
    moved = sigma.slope(weights @ x.T) * along
    form = np.sum((b @ moved) ** 2) + float(problem.lam) * np.sum(moved**2)
    form -= np.sum(residuals * sigma.bend(weights @ x.T) * along**2)
    mu, top = _curvature(problem, np.max(np.abs(residuals)))
    hessian = np.asarray(_hessian(problem, problem.student.weights)).reshape(weights.size, weights.size)
    curvatures, flat = np.linalg.eigvalsh(hessian), np.asarray(direction).ravel()
    return Check.worst(
        Check.compare("hessian-bounds", form, flat @ hessian @ flat, 1e-10, top * (flat @ flat), part="form"),
        Check.at_most("hessian-bounds", -curvatures[0], mu, 1e-10, top, part="from below"),
        Check.at_most("hessian-bounds", curvatures[-1], top, 1e-10, top, part="from above"),
    )


def descent_follows_flow(problem, horizon, step_sizes):
    r"""Gradient descent stays within a constant times its step of the flow.

    :math:`\lVert w_j - w(j\eta)\rVert \le \frac\eta2\,L\,G\,\frac{e^{\mu T} - 1}{\mu}` at :math:`j\eta = T`, with every
    constant computed before the first step.  The gap is measured between `gradient_descent` and a SciPy solution.

    Book: chapter *Gradient flow*, `descent-follows-flow`.

    Parameters
    ----------
    problem : TransferProblem
    horizon : float
        T, in gradient-flow time.
    step_sizes : sequence of float
        Values of η that divide T and are small enough for the theorem: ηL ≤ 2, and a bound of at most δ = 1/max‖x_i‖.
    """
    flow, _ = _scipy_flow(problem, horizon)
    gaps, bounds = [], []
    for step_size in step_sizes:
        descent = gradient_descent(problem, step_size, np.array([round(horizon / step_size)]))
        gaps.append(np.linalg.norm(np.asarray(descent.network.weights) - flow))
        bounds.append(_descent_bound(problem, horizon, step_size))
    ratios = np.array(gaps) / np.array(bounds)
    return Check.at_most("descent-follows-flow", ratios, 1.0, 1e-2)


def stable_step(problem, step_size, steps):
    r"""For σ(z) = z, gradient descent contracts to a minimiser when η < 2/((a + λ)‖X‖²).

    :math:`\lVert w_j - w_\infty\rVert \le q^j \lVert w_0 - w_\infty\rVert` with
    :math:`q = \max|1 - \eta\nu| < 1` over the non-zero eigenvalues ν of
    :math:`M = (\lambda I + bb^\top)\otimes X^\top X`.  The other route: the minimiser nearest to the start, by a
    singular value decomposition.

    Book: chapter *Gradient flow*, `stable-step`.

    Parameters
    ----------
    problem : TransferProblem
        Its student's activation is the identity.
    step_size : float
        η.
    steps : int
        j.
    """
    x, b, lam = np.asarray(problem.x), np.asarray(problem.student.output_weights), float(problem.lam)
    first = np.asarray(problem.student.weights)
    # E = ½‖A w − t‖² with the blocks b ⊗ X (labels) and √λ I ⊗ X (teacher) in A
    design = np.vstack([np.kron(b[None, :], x), np.sqrt(lam) * np.kron(np.eye(len(b)), x)])
    teacher = np.zeros((len(b), len(x))) if problem.phi is None else np.asarray(problem.phi)
    targets = np.concatenate([np.asarray(problem.y), np.sqrt(lam) * teacher.ravel()])
    limit = first.ravel() + np.linalg.lstsq(design, targets - design @ first.ravel(), rcond=1e-12)[0]
    squares = np.linalg.eigvalsh(x.T @ x)
    rates = np.outer(lam + np.append(np.zeros(len(b) - 1), b @ b), squares[squares > 1e-10 * squares[-1]]).ravel()
    rates = rates[rates > 0]
    q = np.max(np.abs(1 - step_size * rates))
    descent = gradient_descent(problem, step_size, np.array([steps]))
    gap = np.linalg.norm(np.asarray(descent.network.weights).ravel() - limit)
    start = np.linalg.norm(first.ravel() - limit)
    return Check.at_most("stable-step", gap, min(q, 1.0) ** steps * start, 1e-9, start + np.linalg.norm(limit))


def _residuals(problem, weights=None):
    """r_k = b_k (y − f) + λ (φ_k − f_k), shape (m, n)."""
    student = problem.student if weights is None else problem.student.with_weights(weights)
    b, features = np.asarray(student.output_weights), np.asarray(student.features(problem.x))
    teacher = features if problem.phi is None else np.asarray(problem.phi)
    return np.outer(b, np.asarray(problem.y) - b @ features) + float(problem.lam) * (teacher - features)


def _energy_of(problem):
    return lambda weights: problem.energy(problem.student.with_weights(weights))


@filter_jit
def _gradient(problem, weights):
    return jax.grad(_energy_of(problem))(weights)


@filter_jit
def _hessian(problem, weights):
    return jax.hessian(_energy_of(problem))(weights)


@filter_jit
def _speed_of_features(problem, weights):
    velocity = -jax.grad(_energy_of(problem))(weights)
    return jax.jvp(lambda w: problem.student.with_weights(w).features(problem.x), (weights,), (velocity,))[1]


def _scipy_flow(problem, horizon, start=None, factor=1.0):
    """Weights at the horizon of the flow of factor·E, and the integral of its dissipation."""
    sigma = _ACTIVATIONS[problem.student.activation]
    x, y, b = np.asarray(problem.x), np.asarray(problem.y), np.asarray(problem.student.output_weights)
    lam, phi = float(problem.lam), None if problem.phi is None else np.asarray(problem.phi)
    start = np.asarray(problem.student.weights) if start is None else start
    gram, shape = x @ x.T, start.shape

    def velocity(_, state):
        weights = state[:-1].reshape(shape)
        preactivations = weights @ x.T
        features, slopes = sigma.value(preactivations), sigma.slope(preactivations)
        residuals = b[:, None] * (y - b @ features)
        if phi is not None:
            residuals += lam * (phi - features)
        pull = slopes * residuals
        dissipation = np.vdot(pull @ gram, pull)
        return factor * np.concatenate([(pull @ x).ravel(), [factor * dissipation]])

    # relative to the weights, unless these are all zero
    first, atol = np.append(start.ravel(), 0.0), 1e-12 * (min(1.0, np.max(np.abs(start))) or 1.0)
    end = solve_ivp(velocity, (0.0, horizon), first, method="DOP853", rtol=1e-10, atol=atol)
    return end.y[:-1, -1].reshape(shape), end.y[-1, -1]


def _curvature(problem, residual):
    """μ and L of `hessian-bounds`, for residuals of at most `residual` in every entry."""
    sigma = _ACTIVATIONS[problem.student.activation]
    squared = np.linalg.norm(np.asarray(problem.x), 2) ** 2
    mu = sigma.sharpest * residual * squared
    return mu, (float(problem.student.a) + float(problem.lam)) * sigma.steepest**2 * squared + mu


def _descent_bound(problem, horizon, step_size):
    """The right-hand side of `descent-follows-flow`, with δ = 1/max‖x_i‖."""
    slope = _ACTIVATIONS[problem.student.activation].steepest
    lam, a, start = float(problem.lam), float(problem.student.a), float(problem.energy(problem.student))
    largest = np.max(np.abs(np.asarray(problem.student.output_weights)))
    x = np.asarray(problem.x)
    residual = np.sqrt((largest**2 + lam) * 2 * start) + slope * (largest * np.sqrt(a) + lam)
    mu, top = _curvature(problem, residual)
    steepest = slope * np.linalg.norm(x, 2) * np.sqrt(2 * (a + lam) * start)
    growth = np.expm1(mu * horizon) / mu if mu > 0 else horizon
    return step_size / 2 * top * steepest * growth
