"""Checkers of the chapter *How wide is wide enough?*: how far a network is from its kernel flow, with every constant.

The kernel flow comes from the dense matrix M and its eigenvectors, the network from training, the constants from NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.finite_width import finite_width_gap_posterior as _posterior_bound
from kdlib.claims import Check
from kdlib.claims.kernels import SLOPE
from kdlib.claims.lazy_training import CURVATURE
from kdlib.claims.linear_system import _Dense
from kdlib.kernels import unit_kernels
from kdlib.training import gradient_flow


def contraction(jacobians, pulls, pushes, strides, start, *, kernels=None):
    r"""u' = −AAᵀu + Ae + q implies ‖u(t)‖ ≤ ‖u(0)‖ + (½∫‖e‖²)^{1/2} + ∫‖q‖.

    A, e and q are constant on each of K intervals. Two routes: the solution by eigenvectors, interval after interval,
    and the two integrals.
    Book: *How wide is wide enough?*, "What contracts".

    Parameters
    ----------
    jacobians, pulls, pushes, strides, start : arrays, shapes (K, p, q), (K, q), (K, p), (K,) and (p,)
        A, e, q, the lengths of the intervals, and u(0).
    kernels : array, shape (K, p, p), optional
        Symmetric matrices to stand in for AAᵀ: a broken hypothesis.
    """
    u, sizes = start, []
    for j, (jacobian, pull, push, stride) in enumerate(zip(jacobians, pulls, pushes, strides, strict=True)):
        values, vectors = np.linalg.eigh(jacobian @ jacobian.T if kernels is None else kernels[j])
        still = np.abs(values) * stride < 1e-12
        safe = np.where(still, 1.0, values)
        grown = np.where(still, stride, -np.expm1(-stride * values) / safe)
        u = vectors @ (np.exp(-stride * values) * (vectors.T @ u) + grown * (vectors.T @ (jacobian @ pull + push)))
        sizes.append(np.linalg.norm(u))
    through = np.sqrt(np.cumsum(strides * np.sum(pulls**2, axis=1)) / 2)
    bound = np.linalg.norm(start) + through + np.cumsum(strides * np.linalg.norm(pushes, axis=1))
    return Check.at_most("contraction", np.array(sizes), bound, 1e-10)


def gap_equation(problem, network, moved, *, frozen=None):
    r"""The gap u between network and kernel flow obeys u' = −AAᵀu + Ae + q, with A of the start and with A of now.

    Two routes: the change of both flows' features by automatic differentiation along the gradient of E, and the right
    sides from the dense Jacobians.
    Book: *How wide is wide enough?*, "An equation for the gap".

    Parameters
    ----------
    problem : TransferProblem
    network : TwoLayerNetwork
        Where the network is now, any weights.
    moved : array, shape (m, d)
        Where the kernel flow is now: v̂, any.
    frozen : TwoLayerNetwork, optional
        A network whose kernels the kernel flow uses instead of those of the start: a broken hypothesis.
    """
    lam, b = float(problem.lam), np.asarray(problem.student.output_weights)
    start, there, _ = _state(problem, problem.student)
    now, here, change = _state(problem, network)
    used = start if frozen is None else _state(problem, frozen)[0]
    phi = np.zeros((b.size, problem.y.size)) if problem.phi is None else np.asarray(problem.phi)
    target, v = np.concatenate([np.sqrt(lam) * phi.ravel(), np.asarray(problem.y)]), np.asarray(moved).ravel()
    h, h_hat = target - here, target - there - used @ v
    velocity, v_velocity = now.T @ h, used.T @ h_hat
    change = change - used @ v_velocity
    u, drift = h_hat - h, now - start
    at_start = -start @ (start.T @ u) + start @ (drift.T @ h) + drift @ velocity
    at_now = -now @ (now.T @ u) + now @ (drift.T @ h_hat) + drift @ v_velocity
    scale = max(np.linalg.norm(now @ velocity), np.linalg.norm(used @ v_velocity))
    return Check.worst(
        Check.compare("gap-equation", change, at_start, 1e-9, scale, "Jacobian of the start"),
        Check.compare("gap-equation", change, at_now, 1e-9, scale, "Jacobian of now"),
    )


def weight_movement(problem, time):
    r"""‖v‖ ≤ √(Δt) over all units; ‖r_k‖ ≤ R_k(t) and ‖v_k‖ ≤ D_k(t) for each of them.

    Two routes: training of the network to time t, and constants of the start.
    Book: *How wide is wide enough?*, "What the energy buys".
    """
    size, label, tolerance = _Sizes(problem), "weight-movement", 1e-6
    network = gradient_flow(problem, [time]).network
    moved = np.linalg.norm(np.asarray(network.weights - problem.student.weights), axis=1)
    dense, features = _Dense.of(problem), np.asarray(network.features(problem.x))
    residuals = np.outer(dense.b, dense.y - dense.b @ features) + size.lam * (dense.start + dense.gap - features)
    residuals = np.linalg.norm(residuals, axis=1)
    return Check.worst(
        Check.at_most(label, np.linalg.norm(moved), np.sqrt(size.budget * time), tolerance, part="all units"),
        Check.at_most(label, residuals, size.residuals(time), tolerance, part="residuals"),
        Check.at_most(label, moved, size.movements(time), tolerance, part="each unit"),
    )


def kernel_drift(problem, time):
    r"""‖H_k(t) − H_k(0)‖ ≤ 2βγD_k(t), and ‖H̄(t) − H̄(0)‖ ≤ 2βγ min{(Σb_k⁴)^{1/2}√(Δt), Σb_k²D_k(t)}.

    Two routes: `unit_kernels` of the trained network, and constants of the start.
    Book: *How wide is wide enough?*, "What the energy buys".
    """
    size, label, tolerance = _Sizes(problem), "kernel-drift", 1e-6
    network, x = gradient_flow(problem, [time]).network, problem.x
    drifts = np.asarray(unit_kernels(network, x) - unit_kernels(problem.student, x))
    alone = 2 * size.beta * size.gamma * size.movements(time)
    together = 2 * size.beta * size.gamma * np.sqrt(np.sum(size.b**4) * size.budget * time)
    drift = np.linalg.norm(np.einsum("k,kij->ij", size.b**2, drifts), 2)
    return Check.worst(
        Check.at_most(label, np.linalg.norm(drifts, 2, axis=(1, 2)), alone, tolerance, part="unit kernels"),
        Check.at_most(label, drift, together, tolerance, part="tangent kernel, by the energy"),
        Check.at_most(label, drift, size.b**2 @ alone, tolerance, part="tangent kernel, unit by unit"),
    )


def finite_width_gap(problem, time):
    r"""‖f − f̂‖ and (λΣ‖f_k − f̂_k‖²)^{1/2} stay below a bound made of the start alone.

    Two routes: training beside the dense kernel flow, and constants of the start.
    Book: *How wide is wide enough?*, "The bound before training".
    """
    size, label = _Sizes(problem), "finite-width-gap"
    gap, values = _gap(problem, time), {"long times": size.long(time), "short times": size.short(time)}
    return Check.worst(*(Check.at_most(label, gap, value, 1e-6, part=part) for part, value in values.items()))


def finite_width_rate(problem, time, *, misfit=None, kappa=None):
    r"""‖f − f̂‖ ≤ C(t)/√m with C from A, ‖y − f(0)‖ ≤ ``misfit`` and max_k‖φ_k − f_k(0)‖ ≤ ``kappa``/√m.

    A promise that is not given is read off the problem. Two routes: training beside the dense kernel flow, and C.
    Book: *How wide is wide enough?*, "The bound before training".
    """
    size, m = _Sizes(problem), problem.student.width
    misfit = float(jnp.linalg.norm(problem.output_gap)) if misfit is None else misfit
    kappa = np.sqrt(m) * float(jnp.max(jnp.linalg.norm(problem.feature_gap, axis=1))) if kappa is None else kappa
    start, largest = np.sqrt(misfit**2 + size.lam * kappa**2), np.max(size.b) * np.sqrt(m)
    rho = largest * start + size.lam * kappa + largest * size.beta * start * np.sqrt(size.lam * time / 2)
    parts = rho * time / np.sqrt(8) + largest * start * time / 4
    parts += np.sqrt(2 * size.lam) / 3 * size.beta * rho * time**1.5
    bound = size.gamma * start * parts / np.sqrt(m)
    return Check.at_most("finite-width-rate", _gap(problem, time), bound, 1e-6)


def finite_width_gap_posterior(problem, times):
    r"""‖f − f̂‖, (λΣ‖f_k − f̂_k‖²)^{1/2} and ‖v − v̂‖ stay below bounds made of the kernel flow alone.

    Routes: training; the bounds by the dense kernel flow, with a few nodes up to each time; and the bound of
    `kd.bounds.finite_width_gap_posterior`.
    Book: *How wide is wide enough?*, "The bound after the kernel flow".
    """
    label, library = "finite-width-gap-posterior", np.asarray(_posterior_bound(problem, times).value)
    checks = []
    for time, value in zip(times, library, strict=True):
        nodes = np.concatenate([[0.0], np.geomspace(time / 100, time, 12)])
        (gap_bound, way_bound), v_hat = _dense_posterior(problem, nodes)
        network = gradient_flow(problem, [time]).network
        gap, v = _apart(problem, network, time), np.asarray(network.weights - problem.student.weights).ravel()
        checks += [
            Check.at_most(label, gap, value, 1e-6, part="library"),
            Check.at_most(label, gap, gap_bound, 1e-6, part="outputs and features"),
            Check.at_most(label, np.linalg.norm(v - v_hat), way_bound, 1e-6, part="weights"),
        ]
    return Check.worst(*checks)


class _Sizes:
    """The constants of the chapter's bounds, by the names of its notation."""

    def __init__(self, problem):
        dense, activation, x = _Dense.of(problem), problem.student.activation, np.asarray(problem.x)
        self.lam, self.b = dense.lam, np.abs(dense.b)
        self.beta = SLOPE[activation] * np.linalg.norm(x, 2)
        self.gamma = CURVATURE[activation] * np.max(np.linalg.norm(x, axis=1)) * np.linalg.norm(x, 2)
        self.lead = np.linalg.norm(dense.gap, axis=1)
        self.energy = (np.sum(dense.residual**2) + dense.lam * np.sum(dense.gap**2)) / 2
        error, a = dense.y - dense.b @ (dense.start + dense.gap), np.sum(dense.b**2)
        self.budget = self.energy - (dense.lam * np.sum(error**2) / (2 * (a + dense.lam)) if dense.lam > 0 else 0.0)

    def residuals(self, t):
        """R_k(t)."""
        return self.b * np.sqrt(2 * self.energy) * (1 + self.beta * np.sqrt(self.lam * t / 2)) + self.lam * self.lead

    def movements(self, t):
        """D_k(t) = β∫R_k."""
        start = self.b * np.sqrt(2 * self.energy) + self.lam * self.lead
        return self.beta * t * (start + 2 / 3 * self.b * self.beta * np.sqrt(self.lam * self.energy * t))

    def long(self, t):
        largest = np.max(self.residuals(t)) * np.sqrt(self.budget)
        slow = 2 / 3 * np.sqrt(self.lam) * self.beta * largest * t**1.5
        return self.gamma * (largest * t / 2 + np.max(self.b) * self.budget * t / 2 + slow)

    def short(self, t):
        squares, features = self.residuals(t) ** 2, np.sqrt(self.lam)
        together = np.hypot(features * np.linalg.norm(squares), self.b @ squares)
        return self.gamma * (self.beta * t) ** 2 * together


def _kernel_flow(dense, times):
    """v̂ at all times, shape (T, md), from the eigenvectors of M."""
    matrix = dense.A
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    values = np.maximum(values, 0.0)[None, :]
    clock = np.asarray(times)[:, None]
    grown = np.where(values * clock > 1e-12, -np.expm1(-clock * values) / np.where(values > 0, values, 1.0), clock)
    return (grown * (vectors.T @ (matrix.T @ dense.g))) @ vectors.T


def _dense_posterior(problem, nodes):
    """The theorem's bounds of ‖u‖ and of ‖v − v̂‖ at the last node, three rounds, and v̂ there."""
    size, dense = _Sizes(problem), _Dense.of(problem)
    v, strides, ends = _kernel_flow(dense, nodes), np.diff(nodes), nodes[1:]
    units = v.reshape(len(nodes), *dense.blocks.shape[:2])
    change = np.einsum("kdi,tkd->tki", dense.blocks, units)
    own = dense.lam * (dense.gap - change)
    own = own + dense.b[:, None] * (dense.residual - np.einsum("k,tki->ti", dense.b, change))[:, None, :]
    velocities = np.einsum("kdi,tki->tkd", dense.blocks, own)
    way, residuals, speeds = (np.linalg.norm(rows, axis=2) for rows in (units, own, velocities))
    total = np.linalg.norm(speeds, axis=1)
    paths = strides * (total[1:] + total[:-1]) / 2
    growth = np.outer(paths * np.linalg.norm(dense.J, 2), size.b)
    steepest = np.linalg.norm(dense.blocks, 2, axis=(1, 2))
    residuals, speeds = residuals[:-1] + growth, speeds[:-1] + growth * steepest
    reached = np.minimum(way[1:], way[:-1]) + strides[:, None] * speeds
    apart = np.sqrt(size.budget * ends) + np.linalg.norm(v[1:], axis=1)

    def bounds(apart):
        norms = [np.linalg.norm(reached * rows, axis=1) + apart * np.max(rows, axis=1) for rows in (residuals, speeds)]
        epsilon = size.gamma * np.sqrt(np.cumsum(strides * norms[0] ** 2))
        pushes = np.sqrt(dense.lam) * norms[1] + (reached * speeds) @ size.b
        theta = size.gamma * np.cumsum(strides * pushes + np.max(size.b) * apart * paths)
        return epsilon / np.sqrt(2) + theta, np.sqrt(ends) * (2 * epsilon + np.sqrt(2) * theta)

    for _ in range(2):
        apart = np.minimum(apart, bounds(apart)[1])
    gaps, ways = bounds(apart)
    return (gaps[-1], ways[-1]), v[-1]


def _gap(problem, time):
    """‖f − f̂‖ and (λΣ‖f_k − f̂_k‖²)^{1/2}: the trained network and the dense kernel flow."""
    return _apart(problem, gradient_flow(problem, [time]).network, time)


def _apart(problem, network, time):
    """The same two norms, for a network that has been trained up to this time."""
    dense = _Dense.of(problem)
    (v,) = _kernel_flow(dense, [time])
    change = np.einsum("kdi,kd->ki", dense.blocks, v.reshape(dense.blocks.shape[:2]))
    apart = np.asarray(network.features(problem.x)) - dense.start - change
    return np.array([np.linalg.norm(dense.b @ apart), np.sqrt(dense.lam) * np.linalg.norm(apart)])


def _state(problem, network):
    """At a network: A(w), shape (mn + n, md), (√λf_k, f), and its change along minus the gradient of E."""
    x, (slopes, stacked, change) = np.asarray(problem.x), map(np.asarray, _features(problem, network))
    (m, n), d = slopes.shape, x.shape[1]
    own, b = slopes[:, :, None] * x[None], np.asarray(network.output_weights)
    blocks = np.zeros((m, n, m, d))
    blocks[np.arange(m), :, np.arange(m)] = np.sqrt(float(problem.lam)) * own
    outputs = (b[:, None, None] * own).transpose(1, 0, 2)
    return np.concatenate([blocks.reshape(m * n, m * d), outputs.reshape(n, m * d)]), stacked, change


@jax.jit
def _features(problem, network):
    def stacked(weights):
        features = network.with_weights(weights).features(problem.x)
        return jnp.concatenate([jnp.sqrt(problem.lam) * features.ravel(), network.output_weights @ features])

    velocity = -jax.grad(lambda weights: problem.energy(network.with_weights(weights)))(network.weights)
    return network.derivative(problem.x), *jax.jvp(stacked, (network.weights,), (velocity,))
