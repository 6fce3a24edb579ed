"""Checkers of the chapter *Who learns fast*: modes, alignment, spectral filters, when to stop.

`kdlib` follows the flow by Krylov runs and judges noise by its own filters. The references decompose the whole
stacked system, exponentiate or solve dense matrices, or run gradient descent step by step, in NumPy and SciPy.
"""

import numpy as np
import scipy.linalg
from scipy.optimize import root_scalar

from kdlib.claims import Check
from kdlib.claims.limit import _capacity, _gradients, _spectrum
from kdlib.claims.linear_system import _Dense
from kdlib.filters import best_stopping_time, ridge_filter, spectral_fit
from kdlib.limit import fixed_point
from kdlib.problem import TransferProblem
from kdlib.risk import noise_risk
from kdlib.trajectory import kernel_flow

_SMALLEST = 1e-13  # eigenvalues below this fraction of the largest count as zero


def _constants():
    """κ = max (1 - e⁻ᶻ)(1 + z)/z, where eᶻ = 1 + z + z², and χ = max of the two Bayes risks' ratio."""
    z = root_scalar(lambda z: np.exp(z) - 1 - z - z**2, bracket=(1.0, 3.0)).root
    grid = np.linspace(2.0, 5.0, 30001)
    ratio = (grid * np.exp(-2 * grid) + np.expm1(-grid) ** 2) * (1 + grid) / grid
    return (1 + z) ** 2 / (1 + z + z**2), np.max(ratio) * (1 + 1e-9)


_KAPPA, _CHI = _constants()


def _modes_of(dense):
    """Rates ν_j > 0, descending, the p_j as columns, and the components p_j·g."""
    left, sigma, _ = np.linalg.svd(dense.A, full_matrices=False)
    kept = sigma**2 > _SMALLEST * np.max(sigma, initial=0.0) ** 2
    return sigma[kept] ** 2, left[:, kept], left[:, kept].T @ dense.g


def _tangent_modes(dense):
    """Eigenvalues of H̄ and eigenvectors, by singular values of J: in H̄ the largest one's rounding hides the others."""
    left, sigma, _ = np.linalg.svd(dense.J)
    kept = np.where(sigma > 1e-14 * sigma[0], sigma, 0.0)
    return np.pad(kept**2, (0, len(left) - len(kept))), left


def mode_decay(problem, times, flow=kernel_flow):
    """Each component of labels and PI decays at its own rate, and the energy with it (chapter *Spectra*).

    The residual g - A v(t) of ``flow`` at the latest time and its energies, against e^{-νt} in the eigenbasis of the
    dense AAᵀ. At λ = 0 also y - f(t) at all times in the eigenbasis of H̄. Another flow is a broken hypothesis.
    """
    dense, label, tolerance = _Dense.of(problem), "mode-decay", 1e-7
    times = np.asarray(times, float)
    path = flow(problem, times)
    rates, modes, parts = _modes_of(dense)
    for_ever = np.sum((dense.g - modes @ parts) ** 2) / 2
    energies = for_ever + np.exp(-2 * np.outer(times, rates)) @ parts**2 / 2
    last = np.argmax(times)
    moved = np.asarray(path.network.weights - problem.student.weights).ravel()
    left = modes.T @ (dense.g - dense.A @ moved)
    scale = max(dense.scale, np.linalg.norm(dense.g))
    checks = [Check.compare(label, path.energies, energies, tolerance, scale**2, "energy")]
    if rates.size:
        decayed = np.exp(-rates * times[last]) * parts
        checks.append(Check.compare(label, left, decayed, tolerance, scale, "labels and PI"))
    if dense.lam == 0:
        rates, modes = _tangent_modes(dense)
        left = (dense.y - np.asarray(path.outputs)) @ modes
        expected = np.exp(-np.outer(times, rates)) * (modes.T @ dense.residual)
        checks.append(Check.compare(label, left, expected, tolerance, scale, "labels"))
    return Check.worst(*checks)


def alignment_time(problem, accuracy, flow=kernel_flow):
    """Shares of labels and PI in the fast modes bound the time to fit, from both sides (chapter *Spectra*).

    The excess energy of ``flow`` at the two times that the dense spectrum predicts: at the earlier one at least
    the square of ``accuracy`` of it is left, at the later one at most. Another flow is a broken hypothesis.
    """
    dense, label, tolerance = _Dense.of(problem), "alignment-time", 1e-7
    rates, modes, parts = _modes_of(dense)
    excess = np.sum(parts**2) / 2
    shares = parts**2 / np.sum(parts**2)
    fast, slow = np.cumsum(shares), np.append(np.cumsum(shares[:0:-1])[::-1], 0.0)
    goal = accuracy**2
    enough = goal > slow
    # the modes that are too slow to matter: the accuracy allows to leave them out
    latest = np.min(np.log(fast[enough] / (goal - slow[enough])) / (2 * rates[enough]))
    waiting = np.flatnonzero(slow[:-1] > goal)
    earliest = max([-np.log(accuracy) / (rates @ shares), *(np.log(slow[waiting] / goal) / (2 * rates[waiting + 1]))])
    times = np.array([earliest, max(latest, 0.0)])
    path = flow(problem, times)
    left = np.asarray(path.energies) - np.sum((dense.g - modes @ parts) ** 2) / 2
    decays = np.exp(-2 * np.outer(times, rates))
    upper = np.min(fast * decays + slow, axis=1)
    lower = np.maximum(np.exp(-2 * times * (rates @ shares)), np.max(slow[:-1] * decays[:, 1:], axis=1, initial=0.0))
    scale = max(dense.scale, np.linalg.norm(dense.g)) ** 2
    return Check.worst(
        Check.at_most(label, goal * excess, left[0], tolerance, scale, "not earlier"),
        Check.at_most(label, left[1], goal * excess, tolerance, scale, "not later"),
        Check.at_most(label, left, upper * excess, tolerance, scale, "energy from above"),
        Check.at_most(label, lower * excess, left, tolerance, scale, "energy from below"),
    )


def early_stopping_is_a_filter(problem, time, step, steps, penalty, at):
    """Stopped flow, stopped descent and penalised weights differ in their filters only (chapter *Spectra*).

    The formula in the eigenbasis of the dense H̄, at the inputs ``at``, against `kernel_flow`, against descent on the
    linearised network step by step with η = ``step``/λ_max, and against dense ridge regression over the weights and
    `spectral_fit`. A problem with λ > 0 is a broken hypothesis.
    """
    dense, label, tolerance = _Dense.of(problem), "early-stopping-is-a-filter", 1e-7
    J, residual, (readout, start) = dense.J, dense.residual, _gradients(problem.student, at)
    rates, modes = np.linalg.eigh(J @ J.T)
    kept = rates > _SMALLEST * rates[-1]
    rates, modes = rates[kept], modes[:, kept]

    def filtered(shares):
        return start + readout @ J.T @ (modes @ (shares / rates * (modes.T @ residual)))

    eta = step / rates[-1]
    v = np.zeros(J.shape[1])
    for _ in range(steps):
        v += eta * J.T @ (residual - J @ v)
    stacked, target = np.concatenate([J, np.sqrt(penalty) * np.eye(v.size)]), np.append(residual, np.zeros(v.size))
    ridge = start + readout @ np.linalg.lstsq(stacked, target)[0]
    flow, descended = kernel_flow(problem, [time], at=at).outputs[0], start + readout @ v
    by_library = spectral_fit(problem, lambda rates: ridge_filter(rates, penalty), at=at)
    scale = max(dense.scale, np.max(np.abs(ridge)))
    return Check.worst(
        Check.compare(label, flow, filtered(-np.expm1(-rates * time)), tolerance, scale, "stopped flow"),
        Check.compare(label, descended, filtered(1 - (1 - eta * rates) ** steps), tolerance, scale, "descent"),
        Check.compare(label, ridge, filtered(rates / (rates + penalty)), tolerance, scale, "penalised weights"),
        Check.compare(label, by_library, ridge, tolerance, scale, "spectral_fit"),
    )


def early_stopped_teacher(problem, time, teacher=None):
    """The student of an early-stopped teacher learns what the teacher left, by one factor (chapter *Spectra*).

    The teacher is `kernel_flow` without transfer, stopped at ``time``; its student's end by `fixed_point`, against
    y - λ(λI + P̄)⁻¹ e^{-H̄t}(y - f(0)) by the dense modes of H̄ and dense projectors.

    Parameters
    ----------
    problem : TransferProblem
        Its features φ are not used.
    time : float
    teacher : TwoLayerNetwork, optional
        Another teacher, in place of the one in the kernel regime: a broken hypothesis.
    """
    dense, _, mean, _ = _capacity(problem)
    student, x, y = problem.student, problem.x, problem.y
    if teacher is None:
        alone = TransferProblem(student, x, y, None, lam=0.0)
        moved = np.asarray(kernel_flow(alone, [time]).network.weights - student.weights)
        phi = dense.start + np.einsum("kdn,kd->kn", dense.blocks, moved)
    else:
        phi = np.asarray(teacher.features(x))
    end = fixed_point(TransferProblem(student, x, y, phi, lam=problem.lam))
    rates, modes = _tangent_modes(dense)
    left = modes @ (np.exp(-time * rates) * (modes.T @ dense.residual))
    values, vectors = _spectrum(mean)
    expected = dense.y - vectors @ (dense.lam / (dense.lam + values) * (vectors.T @ left))
    return Check.compare("early-stopped-teacher", end.outputs, expected, 1e-7, dense.scale)


def filter_comparison(problem, truth, noise, time, penalty=None):
    """Stopping at t is nearly the penalty 1/t: fits closer, risks at most κ², on average χ times (chapter *Spectra*).

    `kernel_flow` and `noise_risk` stopped at ``time``, against ridge regression with the dense modes. The Bayes risks
    of both and of other filters are for weights drawn with variance t·s². Another ``penalty`` is a broken hypothesis.
    """
    dense, label, tolerance = _Dense.of(problem), "filter-comparison", 1e-7
    n, (rates, modes) = dense.y.size, _tangent_modes(dense)
    gamma = 1 / time if penalty is None else penalty
    penalised, stopped = rates / (rates + gamma), -np.expm1(-time * rates)
    ridge = modes * penalised @ modes.T
    kept = gamma / (rates + gamma) * (modes.T @ dense.residual)
    lead = np.asarray(truth) - dense.b @ dense.start
    risk = (np.sum((lead - ridge @ lead) ** 2) + noise**2 * np.sum(ridge**2)) / n
    outputs = np.asarray(kernel_flow(problem, [time]).outputs[0])
    change, way = np.linalg.norm(outputs - dense.b @ dense.start), np.linalg.norm(ridge @ dense.residual)

    def average(fit):
        return noise**2 * np.sum(time * rates * (1 - fit) ** 2 + fit**2) / n

    others = [share * penalised for share in (0.0, 0.9, 1.1)] + [penalised**2, penalised * stopped]
    reached = noise_risk(problem, truth, noise, time=time).total
    scale, size = dense.scale, np.sum(lead**2) / n + noise**2
    return Check.worst(
        Check.at_most(label, np.linalg.norm(dense.y - outputs), np.linalg.norm(kept), tolerance, scale, "fits closer"),
        Check.at_most(label, change, _KAPPA * way, tolerance, scale, "moves farther"),
        Check.at_most(label, way, change, tolerance, scale, "never less far"),
        Check.at_most(label, reached, _KAPPA**2 * risk, tolerance, size, "risk"),
        Check.at_most(label, average(stopped), _CHI * average(penalised), tolerance, noise**2, "Bayes risk"),
        Check.at_most(label, average(penalised), average(stopped), tolerance, noise**2, "not worse than stopping"),
        Check.at_most(label, average(penalised), min(map(average, others)), tolerance, noise**2, "ridge is best"),
    )


def when_to_stop(problem, truth, noise, covariance=None):
    """The best stopping time lies between those of the modes, and always before the end (chapter *Spectra*).

    `best_stopping_time` against the risk by SciPy's exponential: its value, that no other time is better, and the
    times of the modes from the dense kernel. A noise that is not white (``covariance``) is a broken hypothesis.
    """
    dense, label = _Dense.of(problem), "when-to-stop"
    kernel, n = dense.J @ dense.J.T, dense.y.size
    spread = noise**2 * np.eye(n) if covariance is None else covariance
    lead = np.asarray(truth) - dense.b @ dense.start
    rates, modes = np.linalg.eigh(kernel)
    moving = rates > _SMALLEST * rates[-1]
    rates, squares = rates[moving], (modes[:, moving].T @ lead) ** 2
    own = np.log1p(squares / noise**2) / rates

    def risk(times):
        left = scipy.linalg.expm(-np.multiply.outer(times, kernel))
        learnt = np.eye(n) - left
        return (np.sum((left @ lead) ** 2, axis=-1) + np.trace(learnt @ spread @ learnt, axis1=-2, axis2=-1)) / n

    best = best_stopping_time(problem, truth, noise)
    others = np.concatenate([[0.0], own, np.geomspace(0.1, 10, 5) * float(best.time)])
    at_others, size = risk(others), np.sum(lead**2) / n + noise**2
    away = modes @ np.where(moving, 0.0, modes.T @ lead)
    for_ever = (np.sum(away**2) + np.trace(modes[:, moving].T @ spread @ modes[:, moving])) / n
    span = np.max(own)
    return Check.worst(
        Check.compare(label, best.risk, risk(float(best.time)), 1e-8, size, "risk"),
        Check.compare(label, best.trained, for_ever, 1e-8, size, "risk for ever"),
        Check.at_most(label, best.risk, np.min(at_others), 1e-8, size, "no better time"),
        Check.at_most(label, np.min(own), best.time, 1e-5, span, "not before the first"),
        Check.at_most(label, best.time, span, 1e-5, span, "not after the last"),
        Check.at_most(label, best.risk, for_ever, 1e-8, size, "before the end"),
    )
