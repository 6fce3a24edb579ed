"""The corners of what a statement is about: every seventh random problem of a claim's test stands in one of them."""

import numpy as np

import kdlib as kd

# Eleven, so that each corner meets every shape and activation that a test goes through in turns of 2, 3 or 4.
STRENGTHS = {"no transfer": 0.0, "weak transfer": 1e-12, "strong transfer": 1e12}
SCALES = {"short inputs": 1e-6, "long inputs": 1e6}
TWINS = {"repeated sample": 1.0, "opposite sample": -1.0}
# (m, n, d) at most: n < d, m > d, and n > md, the same for all tests, since every shape is compiled
SINGLES = {"one unit": (1, 2, 3), "one sample": (3, 1, 2), "one dimension": (2, 3, 1)}
CORNERS = (*STRENGTHS, *SCALES, *TWINS, "dead units", *SINGLES)

# what makes a kernel H_k singular; so does a dimension less than the samples
SINGULAR = (*TWINS, "dead units", "one dimension")

# for the statements that have times; the limit is not a time of every route
FAR_TIMES = (1e-12, 1e12)


def corner_of(seed):
    """The corner for a seed, each in its turn; None for six seeds of seven."""
    return CORNERS[seed // 7 % len(CORNERS)] if seed % 7 == 6 else None


def clock(problem):
    """A unit of time for a problem that trains: as short as inputs are long, and as the teacher pulls hard."""
    return 1 / (np.max(np.sum(np.square(problem.x), axis=1)) * max(1.0, float(problem.lam) / 100))


def extreme(problem, seed, *, without=()):
    """The problem in the corner of its seed; as it is where the seed has none, or one that the statement is without.

    The teacher keeps its lead over the student.  Inputs are scaled with the weights against them, so that no unit
    saturates; where the units are dead, every slope is zero, whatever the activation.
    """
    corner = corner_of(seed)
    if corner is None or corner in without:
        return problem
    weights, signs, x, y, lead = (
        np.array(part)
        for part in (problem.student.weights, problem.student.signs, problem.x, problem.y, problem.feature_gap)
    )
    if corner in SCALES:
        x, weights = SCALES[corner] * x, weights / SCALES[corner]
    if corner in TWINS and len(x) > 1:
        x[-1] = TWINS[corner] * x[0]
    if corner == "dead units":
        x, weights = np.abs(x), -1e7 * np.abs(weights)
    if corner in SINGLES:
        m, n, d = SINGLES[corner]
        weights, signs, x, y, lead = weights[:m, :d], signs[:m], x[:n, :d], y[:n], lead[:m, :n]
    student = kd.TwoLayerNetwork(weights, signs, problem.student.activation)
    phi = np.asarray(student.features(x)) + lead
    return kd.TransferProblem(student, x, y, phi, lam=STRENGTHS.get(corner, problem.lam))
