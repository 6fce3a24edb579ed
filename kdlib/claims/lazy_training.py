"""Checkers of the chapter *Lazy training*: how far a wide student moves, and when that is far."""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.claims import Check
from kdlib.claims.kernels import SLOPE
from kdlib.kernels import tangent_kernel, unit_kernels
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow

# B_2 = sup |sigma''|; for the ReLU that of its smooth pieces, which is all that it has
CURVATURE = {
    "tanh": 4 / (3 * np.sqrt(3)),
    "erf": np.sqrt(8 / np.pi) * np.exp(-0.5),
    "softplus": 0.25,
    "relu": 0.0,
}


def residual_growth(problem, time):
    r"""Along the gradient flow, ‖φ_k − f_k(t)‖ ≤ ‖φ_k − f_k(0)‖ + \|b_k\| B₁² ‖X‖² √(2E(0)) t for every unit.

    Two routes: training of the network to time t, and the right side at the start.
    Book: *Lazy training*, "Step one: no unit is pushed hard".
    """
    size = _Sizes(problem)
    network = gradient_flow(problem, [time]).network
    residual = np.linalg.norm(np.asarray(problem.phi) - np.asarray(network.features(problem.x)), axis=1)
    _, gap, energy, b = (np.asarray(part) for part in _at_start(problem))
    push = size.slope**2 * size.spectral**2 * np.sqrt(2 * energy) * time
    bound = np.linalg.norm(gap, axis=1) + np.abs(b) * push
    return Check.at_most("residual-growth", residual, bound, 1e-6)


def lazy_training(problem, time, *, misfit=None, kappa=None):
    r"""√m times weight movement, kernel drift and gap of the outputs to the linear system, each below its constant.

    The constants come from A, B₁, B₂, ‖X‖, max‖x_i‖, λ, t and from the two promises ‖y − f(0)‖ ≤ ``misfit`` and
    max_k ‖φ_k − f_k(0)‖ ≤ ``kappa``/√m; a promise that is not given is read off the problem.
    Two routes: training of the network beside `kernel_flow`, and the constants.
    Book: *Lazy training*, "The theorem".
    """
    label, tolerance = "lazy-training", 1e-6
    size = _Sizes(problem, misfit, kappa)
    movement, unit_drift, drift, gap = _measured(problem, time)
    movement_bound, drift_bound, gap_bound = size.bounds(time)
    return Check.worst(
        Check.at_most(label, movement, movement_bound, tolerance, part="weights"),
        Check.at_most(label, unit_drift, drift_bound, tolerance, part="unit kernels"),
        Check.at_most(label, drift, size.sign**2 * drift_bound, tolerance, part="tangent kernel"),
        Check.at_most(label, gap, gap_bound, tolerance, part="outputs"),
    )


def lazy_training_rate(narrow, wide, time):
    r"""From the narrow problem to the wide one no measured quantity falls slower than m^(−1/2), within a factor of 4.

    The error is the largest growth of √m·(movement, unit kernels' drift, tangent kernel's drift, output gap); a single
    draw of the weights moves it by a factor of 2 or 3, so the widths should differ by more than a factor of 16.
    Two routes: training of either network, and the power of m; `kernel_flow` is the linear system.
    Book: *Lazy training*, "The theorem".
    """
    growth = [
        np.sqrt(wide.student.width / narrow.student.width) * after / before
        for before, after in zip(_measured(narrow, time), _measured(wide, time), strict=True)
    ]
    return Check("lazy-training-rate", max(growth), 4.0)


def near_teacher(problem, time, *, misfit=None):
    r"""A teacher trained without transfer from the student's start has ‖φ_k − f_k(0)‖ ≤ A B₁² ‖X‖² ‖y − f(0)‖ t / √m.

    ``misfit`` is a promised bound of ‖y − f(0)‖; without it, it is read off the problem.
    Two routes: training of the teacher to time t on the problem's labels, and sizes at the start.
    Book: *Lazy training*, "When the hypotheses hold".
    """
    size = _Sizes(problem, misfit)
    student, x = problem.student, problem.x
    alone = TransferProblem(student, x, problem.y, student.features(x), lam=0.0)
    lead = gradient_flow(alone, [time]).network.features(x) - student.features(x)
    bound = size.sign * (size.slope * size.spectral) ** 2 * size.misfit * time / np.sqrt(size.width)
    return Check.at_most("near-teacher", jnp.linalg.norm(lead, axis=1), bound, 1e-6)


def far_teacher(problem, time, *, pull=None):
    r"""‖w_k(t) − w_k(0)‖ ≥ c_k t − K(t) t²/2 with c_k = λ‖L_k(φ_k − f_k(0))‖ − \|b_k\| B₁ ‖X‖ ‖y − f(0)‖, every unit.

    ``pull`` is a promised lower bound of every ‖L_k(φ_k − f_k(0))‖; without it, each is read off the problem.
    Two routes: training of the network, and sizes at the start.
    Book: *Lazy training*, "A far teacher".
    """
    size, student = _Sizes(problem), problem.student
    if pull is None:
        pull = jnp.linalg.norm((student.derivative(problem.x) * problem.feature_gap) @ problem.x, axis=1)
    labels = jnp.abs(student.output_weights) * size.slope * size.spectral * size.misfit
    lower = (problem.lam * pull - labels) * time - size.acceleration(time) * time**2 / 2
    moved = gradient_flow(problem, [time]).network.weights - student.weights
    return Check.at_most("far-teacher", lower, jnp.linalg.norm(moved, axis=1), 1e-6)


def relu_kernel_jump(network, moved, x):
    r"""A ReLU unit's kernel stays as it is, or jumps by at least the ‖x_i‖² of a sample that it switches.

    Also ‖H̄(w′) − H̄(w)‖ ≤ A² ‖X‖² times the fraction of units that switch any sample.
    Two routes: `unit_kernels` and `tangent_kernel` at both weights, and the signs of w_k·x_i.
    Book: *Lazy training*, "The ReLU".
    """
    label, tolerance = "relu-kernel-jump", 1e-10
    x = jnp.asarray(x)
    units, kernel = _changes(network, moved, x)
    x, jumps = np.asarray(x), _spectral_norms(units)
    switched = (np.asarray(network.weights) @ x.T > 0) != (np.asarray(moved.weights) @ x.T > 0)
    squares = np.sum(x**2, axis=1)
    least = np.max(np.where(switched, squares, 0.0), axis=1)
    scale = np.linalg.norm(x, 2) ** 2
    idle = np.where(switched.any(axis=1), 0.0, jumps)
    drift, sign = np.linalg.norm(kernel, 2), np.max(np.asarray(network.signs) ** 2)
    fraction = np.mean(switched.any(axis=1))
    return Check.worst(
        Check.at_most(label, least, jumps, tolerance, scale, part="jump"),
        Check.at_most(label, idle, 0.0, tolerance, scale, part="no jump"),
        Check.at_most(label, drift, sign * scale * fraction, tolerance, scale, part="average"),
    )


class _Sizes:
    """The numbers that the chapter's bounds are made of, by the names of its notation."""

    def __init__(self, problem, misfit=None, kappa=None):
        student, x = problem.student, np.asarray(problem.x)
        self.width, self.lam = student.width, float(problem.lam)
        self.slope, self.curvature = SLOPE[student.activation], CURVATURE[student.activation]
        self.sign = np.max(np.abs(np.asarray(student.signs)))
        self.spectral, self.longest = np.linalg.norm(x, 2), np.max(np.linalg.norm(x, axis=1))
        output_gap, feature_gap, *_ = (np.asarray(part) for part in _at_start(problem))
        self.misfit = np.linalg.norm(output_gap) if misfit is None else misfit
        lead = np.max(np.linalg.norm(feature_gap, axis=1))
        self.kappa = lead * np.sqrt(self.width) if kappa is None else kappa
        # sqrt(2 E(0)) is at most this
        self.energy = np.sqrt(self.misfit**2 + self.lam * self.kappa**2)

    def residual(self, t):
        """R(t): every ‖r_k‖ is at most R(t)/√m up to time t."""
        spread = self.sign * self.slope**2 * self.spectral**2 * self.energy * t
        return self.sign * self.energy + self.lam * (self.kappa + spread)

    def bounds(self, t):
        """Upper bounds of weight movement, of a unit kernel's drift, and of the gap of the outputs, at time t."""
        steepness = self.slope * self.spectral
        # D(t) = alpha t + gamma t², the integral of steepness R
        alpha = steepness * self.residual(0.0)
        gamma = steepness**3 * self.lam * self.sign * self.energy / 2
        moved = alpha * t + gamma * t**2
        integral = alpha**2 * t**3 / 3 + alpha * gamma * t**4 / 2 + gamma**2 * t**5 / 5
        bend = self.curvature * self.longest * self.spectral
        gap = self.sign * bend * (moved**2 + (self.lam + self.sign**2) * steepness**2 * integral / 2)
        return np.array([moved, 2 * steepness * bend * moved, gap]) / np.sqrt(self.width)

    def acceleration(self, t):
        """K(t): no weight vector's acceleration exceeds it up to time t."""
        steepness, residual = self.slope * self.spectral, self.residual(t) / np.sqrt(self.width)
        turn = steepness * self.curvature * self.longest * self.spectral * residual**2
        return turn + (self.sign**2 + self.lam) * steepness**3 * residual


def _measured(problem, time):
    """Largest weight movement, largest drift of a unit kernel, drift of H̄, gap of the outputs, at one time."""
    x, student = problem.x, problem.student
    trained = gradient_flow(problem, [time])
    movement = np.max(np.linalg.norm(np.asarray(trained.network.weights) - np.asarray(student.weights), axis=1))
    units, kernel = _changes(student, trained.network, x)
    gap = np.linalg.norm(np.asarray(trained.outputs) - np.asarray(kernel_flow(problem, [time]).outputs))
    return movement, np.max(_spectral_norms(units)), np.linalg.norm(kernel, 2), gap


@jax.jit
def _at_start(problem):
    """What labels and teacher are ahead by, the energy, and b."""
    student = problem.student
    return problem.output_gap, problem.feature_gap, problem.energy(student), student.output_weights


@jax.jit
def _changes(before, after, x):
    """How all H_k, and H̄, differ between two networks."""
    return unit_kernels(after, x) - unit_kernels(before, x), tangent_kernel(after, x) - tangent_kernel(before, x)


def _spectral_norms(matrices):
    return np.max(np.abs(np.linalg.eigvalsh(np.asarray(matrices))), axis=-1)
