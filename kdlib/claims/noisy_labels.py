"""Checkers of the chapter *The student that beats its teacher*: label noise, transfer as a prior, the best strength.

The library reaches bias and variance through projectors. The references here run the student instead: least squares
over all md weights, once for every label vector of a finite set whose mean and covariance are exactly those of the
statement. So every expectation is a finite average and no checker draws a sample.
"""

import itertools
from dataclasses import replace

import numpy as np
import scipy.linalg

from kdlib.bounds.noise import noise_variance
from kdlib.claims import Check
from kdlib.claims.limit import _capacity, _gradients
from kdlib.claims.linear_system import _Dense
from kdlib.limit import fixed_point
from kdlib.posterior import gaussian_posterior
from kdlib.risk import inverse_variance_strength, noise_risk
from kdlib.risk import optimal_strength as numerical_optimum

_SMALLEST = 1e-10  # singular values below this fraction of the largest count as zero
_TOLERANCE = 1e-7


def _stated_covariance(problem, dense, noise, at):
    """The closed form of the outputs' posterior covariance at other inputs, unit by unit through G_k = L_k⁺ L_k*."""
    slopes, b2, n = np.asarray(problem.student.derivative(at)), dense.b**2, dense.y.size
    inverse = np.linalg.pinv(dense.blocks, rcond=_SMALLEST)
    moved = inverse @ (np.asarray(at).T[None, :, :] * slopes[:, None, :])
    mean, cross = np.einsum("k,kij->ij", b2, inverse @ dense.blocks), np.einsum("k,kij->ij", b2, moved)
    total = np.einsum("k,kij,kil->jl", b2, moved, moved)
    return noise**2 / dense.lam * (total - cross.T @ np.linalg.solve(dense.lam * np.eye(n) + mean, cross))


def _white_noise(n, noise):
    """2n vectors of equal weight with mean 0 and covariance noise² I exactly: ± the columns of a scaled basis."""
    basis = np.linalg.qr(np.cos(np.arange(1.0, n + 1)[:, None] * np.arange(n)[None, :]) + 2 * np.eye(n))[0]
    return noise * np.sqrt(n) * np.concatenate([basis, -basis])


def _ends(dense, labels, gaps=None, at=None):
    """Outputs at the least-squares end, a row for each row of ``labels``; ``gaps`` (R, m, n) where teachers differ."""
    gaps = np.broadcast_to(dense.gap, (len(labels), *dense.gap.shape)) if gaps is None else gaps
    targets = [np.sqrt(dense.lam) * gaps.reshape(len(labels), -1), labels - dense.b @ dense.start]
    v = np.linalg.lstsq(dense.A, np.concatenate(targets, axis=1).T, rcond=_SMALLEST)[0]
    J, start = (dense.J, dense.b @ dense.start) if at is None else at
    return start + (J @ v).T


def _weights_at(M, J, time):
    """What turns y - f(0) into the weights' displacement at a finite time, (md, n), where no teacher pulls."""
    augmented = np.block([[-M, J.T], [np.zeros((len(J), len(M) + len(J)))]])
    return scipy.linalg.expm(time * augmented)[: len(M), len(M) :]


def _risk(outputs, truth):
    """Mean over the label vectors and the inputs of the squared error."""
    return np.mean((outputs - truth) ** 2)


def _teacher_error(dense, truth):
    return np.mean((dense.b @ (dense.start + dense.gap) - truth) ** 2)


def _scale(*risks):
    return max(*(abs(float(risk)) for risk in risks), 1e-300)


def transfer_as_prior(problem, displacements, metric=None):
    """The objective is ridge regression centred on the teacher's weights, up to a constant (chapter *Noisy labels*).

    E from labels, teacher and features at the given weights, against the ridge form with teacher weights by least
    squares; and the minimiser of the ridge form against `fixed_point`.

    Parameters
    ----------
    problem : TransferProblem
    displacements : array, shape (R, m, d)
        Points v at which the energy is evaluated.
    metric : array, shape (md, md), optional
        A precision in the place of blkdiag(L_k L_kᵀ): a broken hypothesis.
    """
    dense, label = _Dense.of(problem), "transfer-as-prior"
    L, J, lam = np.asarray(dense.L), dense.J, dense.lam
    prior = np.linalg.lstsq(L.T, dense.gap.ravel(), rcond=_SMALLEST)[0]
    unlearnable = dense.gap.ravel() - L.T @ prior
    precision = L @ L.T if metric is None else metric
    v = np.asarray(displacements).reshape(len(displacements), -1)
    features = dense.start + (v @ L).reshape(len(v), *dense.start.shape)
    energies = np.sum((dense.y - dense.b @ features) ** 2, axis=1) / 2
    energies += lam / 2 * np.sum((dense.start + dense.gap - features) ** 2, axis=(1, 2))
    away = v - prior
    ridge = np.sum((dense.residual - v @ J.T) ** 2, axis=1) / 2 + lam / 2 * np.sum((away @ precision) * away, axis=1)
    ridge += lam / 2 * np.sum(unlearnable**2)
    root = L.T if metric is None else _square_root(metric)
    rows = np.concatenate([J, np.sqrt(lam) * root])
    best = np.linalg.lstsq(rows, np.append(dense.residual, np.sqrt(lam) * root @ prior), rcond=_SMALLEST)[0]
    reached = np.asarray(fixed_point(problem).displacement).ravel()
    return Check.worst(
        Check.compare(label, ridge, energies, 1e-9, part="energy"),
        Check.compare(label, J @ best, J @ reached, _TOLERANCE, dense.feature_scale, "outputs"),
        Check.compare(label, L.T @ best, L.T @ reached, _TOLERANCE, dense.feature_scale, "features"),
    )


def _square_root(matrix):
    """R with RᵀR a matrix ⪰ 0."""
    values, vectors = np.linalg.eigh(matrix)
    return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


def _prior_variance(root, J):
    """The largest variance of J v for v of the covariance rootᵀroot; not below rounding where no such v is seen."""
    most = np.linalg.norm(root, 2) ** 2 * np.max(np.sum(J**2, axis=1))
    return max(np.max(np.sum((root @ J.T) ** 2, axis=0)), 1e-9 * most)


def posterior_mean(problem, noise, at, prior=1.0):
    """The student's limit is a Gaussian posterior's mean; the variance has a closed form (chapter *Noisy labels*).

    Textbook conditioning of jointly Gaussian labels and outputs, with the prior's covariance over all md weights
    written out, against the closed forms, `gaussian_posterior` and the weights of `fixed_point`.
    ``prior`` multiplies the prior's covariance; other than 1 it breaks a hypothesis.
    """
    (dense, _, seen, _), label = _capacity(problem), "posterior-mean"
    inverse = np.linalg.pinv(np.asarray(dense.L), rcond=_SMALLEST)
    weights = inverse.T @ dense.gap.ravel()
    spread = np.sqrt(prior * noise**2 / dense.lam) * inverse  # its square is the prior covariance of v
    J, start = _gradients(problem.student, at)
    root, root_at = spread @ dense.J.T, spread @ J.T
    weighing = np.linalg.solve(root.T @ root + noise**2 * np.eye(dense.y.size), root.T @ root_at).T
    mean = start + J @ weights + weighing @ (dense.residual - dense.J @ weights)
    covariance = root_at.T @ root_at - weighing @ (root.T @ root_at)
    stated, variance = _stated_covariance(problem, dense, noise, at), np.diag(covariance)
    posterior = gaussian_posterior(problem, noise=noise, at=at)
    ended = start + J @ np.asarray(fixed_point(problem).displacement).ravel()
    on_data = gaussian_posterior(problem, noise=noise).variance
    gram = root.T @ root
    own = gram - gram @ np.linalg.solve(gram + noise**2 * np.eye(dense.y.size), gram)
    stated_own = noise**2 * np.linalg.solve(dense.lam * np.eye(dense.y.size) + seen, seen)
    reach = max(1.0, np.sqrt(dense.lam) / noise * np.max(np.linalg.norm(root_at, axis=0)))
    scale, size = reach * dense.feature_scale, _prior_variance(spread, J)
    return Check.worst(
        Check.compare(label, posterior.mean, mean, _TOLERANCE, scale, "mean"),
        Check.compare(label, ended, mean, _TOLERANCE, scale, "where it ends"),
        Check.compare(label, posterior.variance, variance, _TOLERANCE, size, "variance"),
        Check.compare(label, stated, covariance, _TOLERANCE, size, "covariance"),
        Check.compare(label, on_data, np.diag(own), _TOLERANCE, np.max(np.diag(gram)), "variance on the data"),
        Check.compare(label, stated_own, own, _TOLERANCE, np.max(np.diag(gram)), "covariance on the data"),
    )


def calibrated_student(problem, noise, at, used=None):
    """Under its own prior the student's expected squared error is the posterior variance (chapter *Noisy labels*).

    The student runs on label vectors made from finitely many true weights and finitely many noises with the exact
    second moments of prior and noise; its mean squared error against `gaussian_posterior`.
    A student that runs at another strength ``used`` breaks a hypothesis.
    """
    dense, _, mean, _ = _capacity(problem)
    inverse = np.linalg.pinv(np.asarray(dense.L), rcond=_SMALLEST)
    weights = inverse.T @ dense.gap.ravel()
    J, start = _gradients(problem.student, at)
    # ± the columns of the root of the covariance: a truth drawn from the prior, then one noise; they are uncorrelated
    moves = noise / np.sqrt(dense.lam) * inverse
    truths = np.concatenate([weights + moves, np.broadcast_to(weights, (dense.y.size, weights.size))])
    errors = np.concatenate([np.zeros((len(moves), dense.y.size)), noise * np.eye(dense.y.size)])
    labels = dense.b @ dense.start + truths @ dense.J.T + errors
    student = dense if used is None else replace(dense, lam=used)
    missed = _ends(student, labels, at=(J, start)) - (start + truths @ J.T)
    variance = gaussian_posterior(problem, noise=noise, at=at).variance
    size = _prior_variance(moves, J)
    label, own = "calibrated-student", _ends(student, labels) - (dense.b @ dense.start + truths @ dense.J.T)
    n, square = dense.y.size, noise**2
    least, carried = np.sum(own**2) / n, np.sum((moves @ dense.J.T) ** 2) / n
    stated = square / n * np.trace(np.linalg.solve(dense.lam * np.eye(n) + mean, mean))
    return Check.worst(
        Check.compare(label, np.sum(missed**2, axis=0), variance, _TOLERANCE, size),
        Check.compare(label, least, stated, _TOLERANCE, _scale(carried), "on the data"),
        Check.compare(
            label, square / (dense.lam * n) * np.trace(mean), carried, _TOLERANCE, _scale(carried), "teacher"
        ),
        Check.at_most(label, least, min(square, carried), _TOLERANCE, _scale(carried), "below both"),
    )


def risk_of_the_limit(problem, truth, noise):
    """With every H_k ≻ 0 the student's risk is (a²s² + λ²e²)/(a + λ)² (chapter *Noisy labels*).

    The formula against the mean squared error of students run on labels with the exact moments, and `noise_risk`.
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "risk-of-the-limit"
    a, lam, error = np.sum(dense.b**2), dense.lam, _teacher_error(dense, truth)
    stated = (a**2 * noise**2 + lam**2 * error) / (a + lam) ** 2
    run = _risk(_ends(dense, truth + _white_noise(truth.size, noise)), truth)
    lone = noise * np.sqrt(truth.size) * np.eye(truth.size)[:1]  # all of the noise on the first label
    uneven = _risk(_ends(dense, truth + np.concatenate([lone, -lone])), truth)
    scale = _scale(noise**2, error)
    return Check.worst(
        Check.compare(label, run, stated, _TOLERANCE, scale, "students"),
        Check.compare(label, uneven, stated, _TOLERANCE, scale, "students, uneven noise"),
        Check.compare(label, noise_risk(problem, truth, noise).total, stated, _TOLERANCE, scale, "noise_risk"),
    )


def optimal_strength(problem, truth, noise):
    """λ* = a s²/e², with the risk s²e²/(s² + e²), below labels and teacher alike (chapter *Noisy labels*).

    Students run at λ* and at strengths around it: their risk exceeds the stated minimum by (w - w*)²(s² + e²), where
    w = a/(a + λ). The strength that `kdlib.optimal_strength` finds numerically, against λ*.
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "optimal-strength"
    a, error = np.sum(dense.b**2), _teacher_error(dense, truth)
    best, least = a * noise**2 / error, noise**2 * error / (noise**2 + error)
    labels = truth + _white_noise(truth.size, noise)
    strengths = best * np.array([0.2, 0.8, 1.0, 1.25, 5.0])
    runs = [_risk(_ends(replace(dense, lam=lam), labels), truth) for lam in strengths]
    excess = (a / (a + strengths) - a / (a + best)) ** 2 * (noise**2 + error)
    found = numerical_optimum(problem, truth, noise)
    weights = a / (a + np.array([found.lam, inverse_variance_strength(noise, np.sqrt(error), a=a)]))
    return Check.worst(
        Check.compare(label, runs, least + excess, _TOLERANCE, _scale(noise**2, error), "students"),
        Check.compare(label, weights, np.full(2, a / (a + best)), 1e-6, 1.0, "strength"),
        Check.compare(label, found.risk, least, _TOLERANCE, least, "risk"),
        Check.at_most(label, least, min(noise**2, error), _TOLERANCE, part="below both"),
    )


def beats_both(problem, truth, noise):
    """The strengths at which the student beats its teacher, and at which its labels (chapter *Noisy labels*).

    Students run at the threshold, where the risks must agree, and at half and at twice its strength, one on each side.
    Where there is no threshold they run at λ from a/1000 to 1000a.
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "beats-both"
    a, error, square = np.sum(dense.b**2), _teacher_error(dense, truth), noise**2
    labels, scale = truth + _white_noise(truth.size, noise), _scale(square, error)

    def run(lam):
        return _risk(_ends(replace(dense, lam=lam), labels), truth)

    teacher = a * (square - error) / (2 * error) if square > error else None
    own = 2 * a * square / (error - square) if error > square else None
    checks = []
    for part, threshold, rival, better in (("teacher", teacher, error, 2.0), ("labels", own, square, 0.5)):
        winning = [threshold * better] if threshold else [a / 1000, a, 1000 * a]
        checks += [Check.at_most(label, run(lam), rival, _TOLERANCE, scale, part) for lam in winning]
        if threshold:
            checks.append(Check.compare(label, run(threshold), rival, _TOLERANCE, scale, f"{part}, at the threshold"))
            checks.append(Check.at_most(label, rival, run(threshold / better), _TOLERANCE, scale, f"{part}, beyond"))
    return Check.worst(*checks)


def correlated_errors(problem, truth, errors, teacher_errors):
    """The risk, the best strength and whom the student can beat, when label and teacher err together (*Noisy labels*).

    Students with as many label vectors and teachers as there are rows, all of the same probability.
    ``errors`` and ``teacher_errors`` are of shape (R, n).
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "correlated-errors"
    a, lam = np.sum(dense.b**2), dense.lam
    square, error, rho = np.mean(errors**2), np.mean(teacher_errors**2), np.mean(errors * teacher_errors)
    spread, scale = square + error - 2 * rho, _scale(square, error)
    change = truth + teacher_errors - dense.b @ (dense.start + dense.gap)
    gaps = dense.gap + dense.b[None, :, None] / a * change[:, None, :]

    def run(strength):
        return _risk(_ends(replace(dense, lam=strength), truth + errors, gaps), truth)

    stated = (a**2 * square + lam**2 * error + 2 * a * lam * rho) / (a + lam) ** 2
    checks = [Check.compare(label, run(lam), stated, _TOLERANCE, scale, "risk")]
    best = float(inverse_variance_strength(np.sqrt(square), np.sqrt(error), correlation=rho, a=a))
    around = [a / 30, a, 30 * a]
    if 0 < best < np.inf:
        least = (square * error - rho**2) / spread
        checks.append(Check.compare(label, run(best), least, _TOLERANCE, scale, "least risk"))
        checks.append(Check.at_most(label, least, min(square, error), _TOLERANCE, scale, "below both"))
        checks += [Check.at_most(label, least, run(strength), _TOLERANCE, scale, "elsewhere") for strength in around]
    else:
        rival = square if best == 0 else error
        checks += [Check.at_most(label, rival, run(strength), _TOLERANCE, scale, "no gain") for strength in around]
    return Check.worst(*checks)


def flipped_labels(problem, truth, chance):
    """Label flips are errors with s² = 4p and a correlation of 2p times the mean of 1 - truth·φ̄ (*Noisy labels*).

    The student runs on all 2ⁿ patterns of flips, each with its probability.
    A truth other than ±1 breaks a hypothesis.
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "flipped-labels"
    a, lam, teacher = np.sum(dense.b**2), dense.lam, dense.b @ (dense.start + dense.gap)
    flips = np.array(list(itertools.product([0, 1], repeat=truth.size)))
    weights = np.prod(np.where(flips, chance, 1 - chance), axis=1)
    outputs = _ends(dense, truth * (1 - 2 * flips))
    run = weights @ np.mean((outputs - truth) ** 2, axis=1)
    square, error, rho = 4 * chance, np.mean((teacher - truth) ** 2), 2 * chance * np.mean(1 - truth * teacher)
    stated = (a**2 * square + lam**2 * error + 2 * a * lam * rho) / (a + lam) ** 2
    return Check.compare(label, run, stated, _TOLERANCE, _scale(square, error))


def same_labels(problem, truth, noise, time):
    """A teacher trained on the student's own noisy labels: its error and its correlation (chapter *Noisy labels*).

    For every label vector of a set with the exact moments, the teacher's weights at ``time`` by the dense matrix
    exponential from the student's start, then its student; against tr F and tr F² with F = I - exp(-H̄ time).
    """
    dense, truth, label = _Dense.of(problem), np.asarray(truth), "same-labels"
    (n,), J, start = truth.shape, dense.J, dense.b @ dense.start
    a, lam = np.sum(dense.b**2), dense.lam
    weights = _weights_at(J.T @ J, J, time)
    labels = truth + _white_noise(n, noise)
    gaps = ((labels - start) @ (np.asarray(dense.L).T @ weights).T).reshape(2 * n, *dense.start.shape)
    teachers = start + np.einsum("k,rkn->rn", dense.b, gaps)
    values, vectors = np.linalg.eigh(np.einsum("k,kdi,kdj->ij", dense.b**2, dense.blocks, dense.blocks))
    learnt = -np.expm1(-np.clip(values, 0, None) * time)
    square, start_error = noise**2, vectors.T @ (truth - start)
    error = np.mean(((1 - learnt) * start_error) ** 2) + square * np.mean(learnt**2)
    rho = square * np.mean(learnt)
    stated = (a**2 * square + lam**2 * error + 2 * a * lam * rho) / (a + lam) ** 2
    scale = _scale(square, error)
    return Check.worst(
        Check.compare(label, _risk(teachers, truth), error, _TOLERANCE, scale, "teacher's error"),
        Check.compare(label, np.mean((labels - truth) * (teachers - truth)), rho, _TOLERANCE, scale, "correlation"),
        Check.compare(label, _risk(_ends(dense, labels, gaps), truth), stated, _TOLERANCE, scale, "risk"),
    )


def risk_with_projectors(problem, truth, noise, at, truth_at):
    """The student's risk for any kernels, on the data and elsewhere, and where its best λ lies (*Noisy labels*).

    The sum over the modes of P̄ and `noise_risk` against students run on labels with the exact moments; at the ends of
    the interval of λ that the modes ask for, the students' risk must not improve by leaving it.
    """
    dense, _, mean, left = _capacity(problem)
    truth, truth_at, label = np.asarray(truth), np.asarray(truth_at), "risk-with-projectors"
    labels = truth + _white_noise(truth.size, noise)
    values, vectors = np.linalg.eigh(mean)
    values = np.where(values > _SMALLEST, values, 0.0)
    off = vectors.T @ (dense.y - left - truth)
    lam, square = dense.lam, noise**2
    stated = np.mean((lam**2 * off**2 + square * values**2) / (lam + values) ** 2)
    elsewhere = _ends(dense, labels, at=_gradients(problem.student, at))
    there = noise_risk(problem, truth, noise, at=at, truth_at=truth_at)
    scale, size = _scale(square, np.mean(off**2)), _scale(square, np.max((elsewhere - truth_at) ** 2))
    checks = [
        Check.compare(label, _risk(_ends(dense, labels), truth), stated, _TOLERANCE, scale, "students"),
        Check.compare(label, noise_risk(problem, truth, noise).total, stated, _TOLERANCE, scale, "noise_risk"),
        Check.compare(label, np.mean(elsewhere, axis=0) - truth_at, there.bias, _TOLERANCE, np.sqrt(size), "bias"),
        Check.compare(label, np.var(elsewhere, axis=0), there.variance, _TOLERANCE, size, "variance"),
    ]
    wished = square * values[values > 0] / off[values > 0] ** 2
    for end, beyond in ((np.min(wished, initial=np.inf), 0.5), (np.max(wished, initial=0.0), 2.0)):
        if 1e-6 < end < 1e6:  # further out the risk is flat to rounding
            inside, outside = (_risk(_ends(replace(dense, lam=lam), labels), truth) for lam in (end, end * beyond))
            checks.append(Check.at_most(label, inside, outside, _TOLERANCE, scale, "best strength"))
    return Check.worst(*checks)


def noise_budget(problem, noise):
    """With few dimensions for its samples a student takes up a bounded share of the noise (*Noisy labels*).

    The variance of students run on pure noise with the exact moments, against the bound `kdlib.bounds.noise_variance`.
    """
    dense = _Dense.of(problem)
    kept = np.mean(np.var(_ends(dense, _white_noise(dense.y.size, noise)), axis=0))
    return Check.at_most("noise-budget", kept, noise_variance(problem, noise).value, _TOLERANCE, noise**2)
