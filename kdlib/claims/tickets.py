"""Checkers of the chapter *How much of the teacher is needed?*: narrow students and repeated distillation.

`kdlib` goes through projectors and systems of size n. The references are least squares over all weights of each
student, wide or narrow, by NumPy.
"""

import dataclasses
import functools
import itertools

import jax
import numpy as np

from kdlib import distillation, tickets
from kdlib.claims import Check
from kdlib.claims.limit import _projectors, _shortest_fit, _spectrum
from kdlib.claims.linear_system import _Dense
from kdlib.limit import fixed_point

_SMALLEST = 1e-10  # singular values below this fraction of the largest count as zero


def _end(dense):
    """Features (m, n) at the least-norm minimiser of E over all weights at once."""
    root = np.sqrt(dense.lam)
    v = _shortest_fit(root * dense.L.T, root * dense.gap.ravel(), dense.J, dense.residual)
    return dense.start + (dense.L.T @ v).reshape(dense.start.shape)


def _narrow(dense, units, factor=1.0):
    """The student of the units alone, its output weights times the factor."""
    units = np.asarray(units)
    parts = {name: getattr(dense, name)[units] for name in ("blocks", "start", "gap")}
    return dataclasses.replace(dense, b=factor * dense.b[units], **parts)


def _outputs(dense):
    return dense.b @ _end(dense)


def _tickets_of(dense, size, factor=1.0):
    """Every choice of ``size`` units, and the outputs at which its student ends."""
    choices = list(itertools.combinations(range(dense.b.size), size))
    return choices, np.array([_outputs(_narrow(dense, units, factor)) for units in choices])


@jax.jit
def _contributions(problem):
    """b_k f_{k,∞} of the wide student, by the library."""
    return problem.student.output_weights[:, None] * fixed_point(problem).features


@functools.partial(jax.jit, static_argnames="output")
def _ticket(problem, units, output):
    """Where the ticket ends, and its loss, by the library."""
    small = fixed_point(tickets.ticket(problem, units, output=output))
    return small.outputs, tickets.ticket_losses(problem, units, output=output)[-1]


def _scale(dense):
    return max(dense.scale, np.linalg.norm(dense.b @ (dense.start + dense.gap)))


def ticket_limit(problem, units, *, output="keep"):
    """A ticket misses the wide student's end by what the dropped units contribute there, damped (chapter *Tickets*).

    λ(λI + P̄_S)⁻¹ Σ_{k∉S} b_k f_k,∞ with the wide student's features from `fixed_point`, and its two bounds, against
    least squares over the weights of the wide and of the narrow student; `ticket` and `ticket_losses` likewise.

    Parameters
    ----------
    problem : TransferProblem
    units : sequence of int
        The ticket.
    output : {"keep", "rescale"}
        "rescale" is a broken hypothesis.
    """
    dense, units = _Dense.of(problem), np.asarray(units)
    small, loss = _ticket(problem, units, output)
    narrow = _narrow(dense, units, np.sqrt(dense.b.size / units.size) if output == "rescale" else 1.0)
    contributions, full, end = np.asarray(_contributions(problem)), _outputs(dense), _outputs(narrow)
    dropped = contributions.sum(axis=0) - contributions[units].sum(axis=0)
    mean = np.einsum("k,kij->ij", dense.b[units] ** 2, _projectors(dense)[units])
    values, vectors = _spectrum(mean)
    missing = vectors @ (dense.lam / (dense.lam + values) * (vectors.T @ dropped))
    a, size = np.sum(dense.b[units] ** 2), np.linalg.norm(dropped)
    label, tolerance, scale = "ticket-limit", 1e-7, _scale(dense)
    lost = np.linalg.norm(full - end)
    return Check.worst(
        Check.compare(label, missing, full - end, tolerance, scale, "outputs"),
        Check.at_most(label, lost, size, tolerance, scale, "never more than what was dropped"),
        Check.at_most(label, dense.lam / (a + dense.lam) * size, lost, tolerance, scale, "never less"),
        Check.compare(label, small, end, tolerance, scale, "ticket"),
        Check.compare(label, loss * dense.scale, lost, tolerance, scale, "ticket_losses"),
    )


def random_ticket(problem, size):
    """The mean square of what a random ticket loses, with every H_k ≻ 0 and equal abs(b_k) (chapter *Tickets*).

    The formula, with the wide student's features from `fixed_point`, against least squares over the weights of every
    ticket of ``size`` units.
    """
    dense = _Dense.of(problem)
    m, contributions = dense.b.size, np.asarray(_contributions(problem))
    q, a = m - size, np.sum(dense.b**2) * size / m
    single, total = np.sum(contributions**2), np.sum(contributions.sum(axis=0) ** 2)
    mean = (dense.lam / (dense.lam + a)) ** 2 * q / (m * (m - 1)) * (size * single + (q - 1) * total)
    lost = np.sum((_outputs(dense)[None] - _tickets_of(dense, size)[1]) ** 2, axis=1)
    return Check.compare("random-ticket", mean, lost.mean(), 1e-7, _scale(dense) ** 2)


def units_needed(problem, *, output="keep"):
    """No ticket of m' units loses less than the m' strongest contributions allow (chapter *Tickets*).

    The bound, with the wide student's features from `fixed_point`, against the best of all tickets of each size, each
    by least squares over its weights. ``output="rescale"`` is a broken hypothesis.
    """
    dense, contributions = _Dense.of(problem), np.asarray(_contributions(problem))
    m, full = dense.b.size, _outputs(dense)
    size = np.linalg.norm(full)
    direction = full / size if size > 0 else full
    along = np.sort(contributions @ direction)[::-1].cumsum()
    weight = np.sort(dense.b**2)[::-1].cumsum()
    least = dense.lam / (dense.lam + weight) * (size - along)
    factors = np.sqrt(m / np.arange(1, m + 1)) if output == "rescale" else np.ones(m)
    best = [
        np.linalg.norm(full[None] - _tickets_of(dense, count, factors[count - 1])[1], axis=1).min()
        for count in range(1, m + 1)
    ]
    return Check.at_most("units-needed", least, np.array(best), 1e-7, _scale(dense))


def _shrinkage(problem):
    """The dense problem, its eigenbasis, λ/(λ + π_i), π_i, and y - τ."""
    dense = _Dense.of(problem)
    projectors = _projectors(dense)
    values, vectors = np.linalg.eigh(np.einsum("k,kij->ij", dense.b**2, projectors))
    values = np.where(values > 1e-10 * np.sum(dense.b**2), values, 0.0)
    error = dense.residual - dense.b @ np.einsum("kij,kj->ki", projectors, dense.gap)
    return dense, vectors, dense.lam / (dense.lam + values), values, error


def self_distillation(problem, rounds, *, restart=True):
    """Each round of self-distillation shrinks the training error again (chapter *Tickets*).

    [λ(λI + P̄)⁻¹]^r (y - τ) and `kdlib.self_distillation`, against least squares over the weights, round after round.

    Parameters
    ----------
    problem : TransferProblem
    rounds : int
    restart : bool
        Whether each student starts where the first one did; otherwise its output weights are halved in every round, a
        broken hypothesis.
    """
    dense, vectors, shrink, _, error = _shrinkage(problem)
    library = distillation.self_distillation(problem, rounds)
    scale, label, tolerance = max(_scale(dense), np.linalg.norm(error)), "self-distillation", 1e-7
    checks, student, features = [], dense, dense.start
    for r in range(1, rounds + 1):
        features = _end(student)
        stated = dense.y - vectors @ (shrink**r * (vectors.T @ error))
        checks.append(Check.compare(label, stated, student.b @ features, tolerance, scale, f"round {r}"))
        checks.append(Check.compare(label, library.outputs[r - 1], stated, tolerance, scale, f"library, round {r}"))
        student = dataclasses.replace(student, gap=features - dense.start, b=student.b * (1.0 if restart else 0.5))
    size = np.maximum(np.linalg.norm(features), scale)
    checks.append(Check.compare(label, library.features, features, tolerance, size, "features of the last round"))
    return Check.worst(*checks)


def distillation_limit(problem, rounds, *, replace="teacher"):
    """Rounds at any λ run to the best fit nearest to the first teacher (chapter *Tickets*).

    `kdlib.self_distillation` after ``rounds`` rounds against a two-stage least-squares fit, first of the labels,
    then, among all weights that fit them best, of the teacher's features; the distances must stay below ρ^r ‖y - τ‖
    and √a ρ^r ‖y - τ‖/π with ρ = λ/(λ + π). ``replace="labels"`` is a broken hypothesis.
    """
    dense, _, shrink, values, error = _shrinkage(problem)
    L, J = dense.L, dense.J
    fit = np.linalg.lstsq(J, dense.residual, rcond=_SMALLEST)[0]
    _, sigma, right = np.linalg.svd(J)
    free = right[np.sum(sigma > _SMALLEST * sigma[0]) :].T
    moved = np.linalg.svd(L.T @ free, full_matrices=False)
    kept = moved[1] > _SMALLEST * np.linalg.norm(L, 2)
    remaining = dense.gap.ravel() - L.T @ fit
    v = fit + free @ (moved[2][kept].T @ (moved[0][:, kept].T @ remaining / moved[1][kept]))
    features = dense.start + (L.T @ v).reshape(dense.start.shape)

    library = distillation.self_distillation(problem, rounds, replace=replace)
    seen = values > 0
    slowest, size = np.max(shrink[seen], initial=0.0) ** rounds, np.linalg.norm(error)
    smallest = np.min(values[seen], initial=np.inf)
    label, tolerance, scale = "distillation-limit", 1e-7, max(_scale(dense), size)
    output_gap = np.linalg.norm(np.asarray(library.outputs)[-1] - dense.b @ features)
    feature_gap = np.linalg.norm(np.asarray(library.features) - features)
    bound = np.sqrt(np.sum(dense.b**2)) / smallest * slowest * size
    return Check.worst(
        Check.at_most(label, output_gap, slowest * size, tolerance, scale, "outputs"),
        Check.at_most(label, feature_gap, bound, tolerance, max(scale, float(np.linalg.norm(features))), "features"),
    )


def label_distillation(problem, rounds, *, teacher_too=False):
    """Where the student's outputs replace the labels, rounds run to the carried teacher (chapter *Tickets*).

    [P̄(λI + P̄)⁻¹]^r (y - τ) and `kdlib.self_distillation`, against least squares over the weights, round after round.
    ``teacher_too``, where its features also replace the teacher, is a broken hypothesis.
    """
    dense, vectors, _, values, error = _shrinkage(problem)
    library = distillation.self_distillation(problem, rounds, replace="labels")
    carried = dense.y - error
    kept = values / (dense.lam + values)
    scale, label, tolerance = max(_scale(dense), np.linalg.norm(error)), "label-distillation", 1e-7
    checks, student, features = [], dense, dense.start
    for r in range(1, rounds + 1):
        features = _end(student)
        stated = carried + vectors @ (kept**r * (vectors.T @ error))
        checks.append(Check.compare(label, stated, dense.b @ features, tolerance, scale, f"round {r}"))
        checks.append(Check.compare(label, library.outputs[r - 1], stated, tolerance, scale, f"library, round {r}"))
        gap = features - dense.start if teacher_too else dense.gap
        student = dataclasses.replace(student, y=dense.b @ features, gap=gap)
    size = np.maximum(np.linalg.norm(features), scale)
    checks.append(Check.compare(label, library.features, features, tolerance, size, "features of the last round"))
    return Check.worst(*checks)
