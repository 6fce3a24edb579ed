"""Checkers of the chapter *What the student learns*: where the kernel flow ends.

`kdlib` reaches the limit through projectors and a system of size n. The references here do not: they are least
squares over all md weights at once, by NumPy, or the training of a real network.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.linalg

from kdlib.claims import Check
from kdlib.claims.linear_system import _Dense
from kdlib.kernels import unit_kernels
from kdlib.limit import fixed_point
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow

_SMALLEST = 1e-10  # singular values below this fraction of the largest count as zero
_ROUNDING = 1e-13  # the same, where every digit counts


def _with_strength(problem, lam):
    return TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)


def _least_squares_end(problem):
    """Features (m, n) and displacement (md,) at the least-norm minimiser of E over all weights at once."""
    dense = _Dense.of(problem)
    root = np.sqrt(dense.lam)
    v = _shortest_fit(root * dense.L.T, root * dense.gap.ravel(), dense.J, dense.residual)
    return dense.start + (dense.L.T @ v).reshape(dense.start.shape), v


def _shortest_fit(rows, targets, J, residual):
    """The shortest minimiser of ‖rows v - targets‖² + ‖J v - residual‖², where the rows may weigh much less than J.

    J is restricted to its range: beyond it stands rounding, which is no small force over a small λ.
    """
    left, sigma, right = np.linalg.svd(J, full_matrices=False)
    kept = sigma > _ROUNDING * np.max(sigma, initial=0.0)
    A = np.concatenate([sigma[kept, None] * right[kept], rows])
    g = np.concatenate([left[:, kept].T @ residual, targets])
    # rows of very different weight: QR with pivoting keeps the digits of the light ones, if the heavy ones come first
    heavy_first = np.argsort(-np.linalg.norm(A, axis=1))
    weight = np.linalg.norm(rows) / max(np.linalg.norm(A), 1e-300)
    smallest = _SMALLEST * weight if weight > 0 else _SMALLEST
    solution: Any = scipy.linalg.lstsq(A[heavy_first], g[heavy_first], smallest, lapack_driver="gelsy")
    return solution[0]


def _gradients(net, x):
    """∇f₀ at every input, shape (n, md), and f₀."""
    x, b = np.asarray(x), np.asarray(net.output_weights)
    weighted = (b[:, None] * np.asarray(net.derivative(x))).T
    return (weighted[:, :, None] * x[:, None, :]).reshape(len(x), -1), b @ np.asarray(net.features(x))


def _projectors(dense):
    """P_k from the singular vectors of each L_k, shape (m, n, n)."""
    _, sigma, right = np.linalg.svd(dense.blocks, full_matrices=False)
    right = right * (sigma > _SMALLEST * sigma[:, :1])[:, :, None]
    return np.swapaxes(right, 1, 2) @ right


def _capacity(problem):
    """The dense problem, P_k, P̄, and the carried teacher's error y - τ."""
    dense = _Dense.of(problem)
    projectors = _projectors(dense)
    carried = np.einsum("kij,kj->ki", projectors, dense.gap)
    return dense, projectors, np.einsum("k,kij->ij", dense.b**2, projectors), dense.residual - dense.b @ carried


def _spectrum(mean):
    """Eigenvalues and eigenvectors of P̄; what rounding makes of zeros is zero, for λ may be smaller."""
    values, vectors = np.linalg.eigh(mean)
    return np.where(values > _SMALLEST * values[-1], values, 0.0), vectors


def _ends(label, problem, outputs, features, tolerance=1e-7):
    """Stated outputs and features, against least squares over all weights and against `fixed_point`."""
    dense = _Dense.of(problem)
    end_features, _ = _least_squares_end(problem)
    point = fixed_point(problem)
    scale = max(dense.feature_scale, np.linalg.norm(end_features))  # a fit of nearly dependent samples moves far
    return Check.worst(
        Check.compare(label, outputs, dense.b @ end_features, tolerance, dense.scale, "outputs, least squares"),
        Check.compare(label, features, end_features, tolerance, scale, "features, least squares"),
        Check.compare(label, outputs, point.outputs, tolerance, dense.scale, "outputs, fixed_point"),
        Check.compare(label, features, point.features, tolerance, scale, "features, fixed_point"),
    )


def _interpolation(dense, problem):
    """f_∞ = (a y + λ φ̄)/(a + λ) and its features, straight from labels and teacher."""
    a, phi = np.sum(dense.b**2), dense.start + dense.gap
    teacher = dense.b @ phi
    outputs = (a * dense.y + dense.lam * teacher) / (a + dense.lam)
    return outputs, phi + np.outer(dense.b, dense.y - teacher) / (a + dense.lam)


def interpolation(problem):
    """With every H_k ≻ 0 and λ > 0 the student ends on the line from labels to teacher (chapter *Limit*).

    The formula, which knows labels and teacher only, against least squares over the weights and `fixed_point`.
    """
    dense = _Dense.of(problem)
    return _ends("interpolation", problem, *_interpolation(dense, problem))


def stationary_interpolation(problem, time):
    """A trained network with every H_k(w) ≻ 0 comes to rest at the same interpolation (chapter *Limit*).

    The formula against the real network after gradient-flow time ``time``: outputs, features and E_∞. The decay of the
    energy is judged at ``time``/200, with the least kernel eigenvalue h seen at the start and there.
    """
    dense = _Dense.of(problem)
    outputs, features = _interpolation(dense, problem)
    trajectory, under_way = (gradient_flow(problem, jnp.asarray([moment])) for moment in (time, time / 200))
    label, tolerance = "stationary-interpolation", 1e-4
    reached = trajectory.network.features(problem.x)
    a, teacher = np.sum(dense.b**2), dense.b @ (dense.start + dense.gap)
    least = dense.lam * np.sum((dense.y - teacher) ** 2) / (2 * (a + dense.lam))
    start = float(problem.energy(problem.student))
    kernels = [unit_kernels(net, problem.x) for net in (problem.student, under_way.network)]
    h = max(np.min(np.linalg.eigvalsh(np.stack(kernels))), 0.0)
    left, allowed = float(under_way.energies[0]) - least, np.exp(-2 * dense.lam * h * time / 200) * (start - least)
    return Check.worst(
        Check.compare(label, trajectory.outputs[0], outputs, tolerance, dense.scale, "outputs"),
        Check.compare(label, reached, features, tolerance, dense.feature_scale, "features"),
        Check.compare(label, trajectory.energies[0], least, tolerance, start, "energy"),
        Check.at_most(label, left, allowed, tolerance, start, "rate"),
    )


def projected_interpolation(problem, end=None):
    """The limit for any kernels, through the projectors P_k and P̄, λ > 0 (chapter *Limit*).

    The formula with dense projectors, against least squares over the weights and `fixed_point`.

    Parameters
    ----------
    problem : TransferProblem
    end : TwoLayerNetwork, optional
        A network at rest to stand in for the kernel flow's limit: a broken hypothesis.
    """
    dense, projectors, mean, error = _capacity(problem)
    values, vectors = _spectrum(mean)
    components = vectors.T @ error
    left = vectors @ (dense.lam / (dense.lam + values) * components)
    # what no unit with an output sees is annihilated by each b_k P_k, exactly: it must not meet 1/λ before
    seen = np.where(values > 0, components / (dense.lam + values), 0.0)
    pull = dense.gap + np.outer(dense.b, vectors @ seen)
    outputs, features = dense.y - left, dense.start + np.einsum("kij,kj->ki", projectors, pull)
    label = "projected-interpolation"
    if end is not None:
        return Check.compare(label, end(problem.x), outputs, 1e-7, dense.scale, "outputs, network")
    return _ends(label, problem, outputs, features)


def relative_capacity(problem):
    """Training error = shrunk (teacher's error + what the student cannot carry) (chapter *Limit*).

    In the eigenbasis of P̄ each component shrinks by λ/(λ + π_i); the components of the error at the least-squares
    end, against the teacher's error plus the unlearnable features, and the two-sided bound on its length.
    """
    dense, _, mean, _ = _capacity(problem)
    features, _ = _least_squares_end(problem)
    error = dense.y - dense.b @ features
    unlearnable = np.asarray(fixed_point(problem).unlearnable)
    carried_error = dense.y - dense.b @ (dense.start + dense.gap) + dense.b @ unlearnable
    values, vectors = _spectrum(mean)
    shrunk = dense.lam / (dense.lam + values) * (vectors.T @ carried_error)
    a, size = np.sum(dense.b**2), np.linalg.norm(carried_error)
    label, tolerance = "relative-capacity", 1e-7
    length = np.linalg.norm(error)
    return Check.worst(
        Check.compare(label, vectors.T @ error, shrunk, tolerance, dense.scale, "components"),
        Check.at_most(label, length, size, tolerance, dense.scale, "never larger"),
        Check.at_most(label, dense.lam / (a + dense.lam) * size, length, tolerance, dense.scale, "never smaller"),
    )


def strong_transfer(problem):
    """As λ grows the student tends to the teacher as far as it can carry it, at rate 1/λ (chapter *Limit*).

    Distance of outputs and features at the least-squares end from the carried teacher, against a‖y - τ‖/(a + λ) and
    √a‖y - τ‖/λ.
    """
    dense, projectors, _, error = _capacity(problem)
    features, _ = _least_squares_end(problem)
    carried = dense.start + np.einsum("kij,kj->ki", projectors, dense.gap)
    a, size = np.sum(dense.b**2), np.linalg.norm(error)
    label, tolerance = "strong-transfer", 1e-7
    output_gap, feature_gap = np.linalg.norm(dense.b @ (features - carried)), np.linalg.norm(features - carried)
    return Check.worst(
        Check.at_most(label, output_gap, a / (a + dense.lam) * size, tolerance, dense.scale, "outputs"),
        Check.at_most(label, feature_gap, np.sqrt(a) / dense.lam * size, tolerance, dense.feature_scale, "features"),
    )


def no_transfer(problem):
    """At λ = 0 the limit is the plain kernel fit f_k(0) + b_k H_k H̄⁺ (y - f(0)) (chapter *Limit*).

    The formula with H̄⁺ from the singular values of J, against least squares over the weights and `fixed_point`. A
    problem with λ > 0 is a broken hypothesis.
    """
    dense = _Dense.of(problem)
    left, sigma, _ = np.linalg.svd(dense.J, full_matrices=False)
    seen = sigma > _SMALLEST * sigma[0]
    multipliers = left[:, seen] @ (left[:, seen].T @ dense.residual / sigma[seen] ** 2)
    features = dense.start + dense.b[:, None] * np.einsum("kdi,kd->ki", dense.blocks, dense.blocks @ multipliers)
    return _ends("no-transfer", problem, dense.b @ features, features)


def vanishing_transfer(problem):
    """As λ → 0⁺ the training outputs tend to those of λ = 0, the features do not (chapter *Limit*).

    `fixed_point` at the problem's small λ, against a two-stage least-squares fit: first the labels, then, among all
    weights that fit them best, the teacher's features. The distance must stay below λ‖y - τ‖/π and √a λ‖y - τ‖/π².
    A problem with λ = 0 is a broken hypothesis.
    """
    dense, _, mean, error = _capacity(problem)
    J, L = dense.J, dense.L
    fit = np.linalg.lstsq(J, dense.residual, rcond=_SMALLEST)[0]
    _, sigma, right = np.linalg.svd(J)
    free = right[np.sum(sigma > _SMALLEST * sigma[0]) :].T
    remaining = dense.gap.ravel() - L.T @ fit
    # what is left free may not move any feature at all: its rank is measured against L, not against itself
    left, moved, right = np.linalg.svd(L.T @ free, full_matrices=False)
    kept = moved > _SMALLEST * np.linalg.norm(L, 2)
    v = fit + free @ (right[kept].T @ (left[:, kept].T @ remaining / moved[kept]))
    features = dense.start + (L.T @ v).reshape(dense.start.shape)

    point = fixed_point(problem)
    values = np.linalg.eigvalsh(mean)
    smallest = np.min(values[values > _SMALLEST * values[-1]], initial=np.inf)
    a, size = np.sum(dense.b**2), np.linalg.norm(error)
    output_gap = np.linalg.norm(np.asarray(point.outputs) - dense.b @ features)
    feature_gap = np.linalg.norm(np.asarray(point.features) - features)
    plain = np.linalg.norm(np.asarray(fixed_point(_with_strength(problem, 0.0)).outputs) - dense.b @ features)
    label, tolerance = "vanishing-transfer", 1e-7
    output_bound, feature_bound = dense.lam / smallest * size, np.sqrt(a) * dense.lam / smallest**2 * size
    return Check.worst(
        Check.at_most(label, output_gap, output_bound, tolerance, dense.scale, "outputs"),
        Check.at_most(label, feature_gap, feature_bound, tolerance, dense.feature_scale, "features"),
        Check.at_most(label, plain, 0.0, tolerance, dense.scale, "outputs at zero"),
    )
