"""Checkers of the chapter *Transfer*: the objective, what minimises it, and what its strength trades."""

import jax
import numpy as np

from kdlib.claims import Check

TOLERANCE = 1e-9


@jax.jit
def _features(student, candidates, x):
    """The features of every network of a set, compiled: building the networks one by one takes longer."""
    return jax.vmap(lambda weights: student.with_weights(weights).features(x))(candidates)


def cheapest_features(problem, outputs):
    r"""The features of given outputs g that lie nearest to the teacher's.

    Among all :math:`f_k` with :math:`\sum_k b_k f_k = g`, the sum :math:`\sum_k \lVert\varphi_k - f_k\rVert^2`
    is least, with the value :math:`\lVert g - \bar\varphi\rVert^2 / a`, at
    :math:`f_k = \varphi_k + b_k (g - \bar\varphi)/a` alone.  The other route: the least-norm solution of the
    constraint by a singular value decomposition.

    Book: chapter *Transfer*, `cheapest-features`.

    Parameters
    ----------
    problem : TransferProblem
    outputs : array, shape (n,)
        g.
    """
    b, phi, a, lead = _arrays(problem, outputs)
    with np.errstate(divide="ignore", invalid="ignore"):
        features = phi + np.outer(b, lead) / a
        price = lead @ lead / a
    nearest = phi + np.linalg.lstsq(b[None, :], lead[None, :])[0]
    scale = np.max(np.abs(phi)) + np.max(np.abs(outputs))
    return Check.worst(
        Check.compare("cheapest-features", features, nearest, TOLERANCE, scale, part="features"),
        Check.compare("cheapest-features", b @ features, outputs, TOLERANCE, scale, part="outputs"),
        Check.compare("cheapest-features", price, np.sum((nearest - phi) ** 2), TOLERANCE, scale**2, part="price"),
    )


def unconstrained_fit(problem, near):
    r"""The least energy over all features, and the only features that attain it.

    :math:`f_k^\star = \varphi_k + b_k (y - \bar\varphi)/(a + \lambda)` and
    :math:`E^\star = \lambda \lVert y - \bar\varphi\rVert^2 / 2(a + \lambda)` for λ > 0.  The other route: the
    minimiser of the energy nearest to an arbitrary starting point, by a singular value decomposition.

    Book: chapter *Transfer*, `unconstrained-fit`.

    Parameters
    ----------
    problem : TransferProblem
    near : array, shape (m, n)
        Features from which the second route starts.
    """
    b, phi, a, lead = _arrays(problem, problem.y)
    lam, near = float(problem.lam), np.asarray(near)
    features = phi + np.outer(b, lead) / (a + lam)
    floor = lam * (lead @ lead) / (2 * (a + lam))
    # E is ½‖A F − t‖² with the rows bᵀ (labels) and √λ I (teacher) in A
    rows = np.vstack([b[None, :], np.sqrt(lam) * np.eye(len(b))])
    targets = np.vstack([np.asarray(problem.y)[None, :], np.sqrt(lam) * phi])
    # numpy's default cut-off is relative to the largest singular value, which √λ may be
    nearest = near + np.linalg.lstsq(rows, targets - rows @ near, rcond=1e-14)[0]
    least = np.sum((rows @ nearest - targets) ** 2) / 2
    scale = np.max(np.abs(phi)) + np.max(np.abs(near)) + np.max(np.abs(problem.y))
    return Check.worst(
        Check.compare("unconstrained-fit", features, nearest, TOLERANCE, scale, part="features"),
        Check.compare("unconstrained-fit", floor, least, TOLERANCE, np.sum(targets**2) + scale**2, part="energy"),
    )


def energy_floor(problem, network):
    r"""A network's energy is the floor plus two squares.

    :math:`E(w) = E^\star + \frac12\lVert f - f^\star\rVert^2 + \frac\lambda2\sum_k\lVert f_k - f_k^\star\rVert^2`
    at every w, so that no network lies below :math:`E^\star`.  The other route: the library's energy.

    Book: chapter *Transfer*, `energy-floor`.

    Parameters
    ----------
    problem : TransferProblem
    network : TwoLayerNetwork
        Any network of the student's shape and output weights.
    """
    b, phi, a, lead = _arrays(problem, problem.y)
    lam = float(problem.lam)
    floor = lam * (lead @ lead) / (2 * (a + lam))
    offset = np.asarray(network.features(problem.x)) - (phi + np.outer(b, lead) / (a + lam))
    excess = np.sum((b @ offset) ** 2) / 2 + lam * np.sum(offset**2) / 2
    return Check.compare("energy-floor", floor + excess, problem.energy(network), TOLERANCE)


def trade_off_line(problem, features):
    r"""Label misfit and teacher misfit obey a budget line, and the minimisers spend exactly the budget.

    :math:`\lVert y - f\rVert + \sqrt a\,(\sum_k\lVert\varphi_k - f_k\rVert^2)^{1/2} \ge \lVert y - \bar\varphi\rVert`
    for all features; at the minimiser for the strength λ the two terms are the fractions :math:`\lambda/(a+\lambda)`
    and :math:`a/(a+\lambda)` of the right-hand side.  The other route: the minimiser from its stationarity.

    Book: chapter *Transfer*, `trade-off-line`.

    Parameters
    ----------
    problem : TransferProblem
    features : array, shape (m, n)
        Any features, for the inequality.
    """
    b, phi, a, lead = _arrays(problem, problem.y)
    lam, y = float(problem.lam), np.asarray(problem.y)
    budget = np.linalg.norm(lead)

    def spent(f):
        return np.linalg.norm(y - b @ f), np.sqrt(a) * np.linalg.norm(phi - f)

    # λ(φ_k − f_k) + b_k(y − f) = 0 for the distance from the teacher and (y − f)/λ: regular for any λ, small or large
    stationary = np.block([[np.array([[lam]]), b[None, :]], [-b[:, None], np.eye(len(b))]])
    best = phi + np.linalg.solve(stationary, np.vstack([lead[None, :], 0 * phi]))[1:]
    shares = np.array([lam, a]) * budget / (a + lam)
    scale = np.linalg.norm(y) + np.linalg.norm(phi)
    return Check.worst(
        Check.at_most("trade-off-line", budget, sum(spent(np.asarray(features))), TOLERANCE, scale, part="budget"),
        Check.compare("trade-off-line", np.array(spent(best)), shares, TOLERANCE, scale, part="shares"),
    )


def regularised_is_constrained(problem, candidates, strengths, choose=np.argmin):
    r"""Each minimiser of E is the best fit to the labels under a cap on its distance from the teacher.

    Over any set of networks, the minimiser for a larger λ fits the labels no better and the teacher no worse, and no
    network of the set that lies as near to the teacher fits the labels better.  The other route: comparison with
    every network of the set, in which λ does not occur.

    Book: chapter *Transfer*, `regularised-is-constrained`.

    Parameters
    ----------
    problem : TransferProblem
        Its λ is not used.
    candidates : array, shape (c, m, d)
        The weights of the networks in the set.
    strengths : sequence of float
        Values of λ > 0.
    choose : callable
        How the index of a minimiser is picked from the energies of all candidates.
    """
    features = np.asarray(_features(problem.student, candidates, problem.x))
    b = np.asarray(problem.student.output_weights)
    label_misfit = np.sum((np.asarray(problem.y) - np.einsum("k,ckn->cn", b, features)) ** 2, axis=1)
    teacher_misfit = np.sum((np.asarray(problem.phi) - features) ** 2, axis=(1, 2))
    strengths = np.sort(np.asarray(strengths, dtype=float))
    chosen = [int(choose(label_misfit / 2 + lam * teacher_misfit / 2)) for lam in strengths]
    fits, distances = label_misfit[chosen], teacher_misfit[chosen]
    best = np.array([np.min(label_misfit[teacher_misfit <= distance]) for distance in distances])
    return Check.worst(
        Check.at_most("regularised-is-constrained", fits[:-1], fits[1:], TOLERANCE, part="labels"),
        Check.at_most("regularised-is-constrained", distances[1:], distances[:-1], TOLERANCE, part="teacher"),
        Check.at_most("regularised-is-constrained", fits, best, TOLERANCE, np.max(label_misfit), part="cap"),
    )


def _arrays(problem, target):
    """b, φ, a and the lead of a target over the teacher's output, as NumPy arrays."""
    b, phi = np.asarray(problem.student.output_weights), np.asarray(problem.phi)
    return b, phi, float(b @ b), np.asarray(target) - b @ phi
