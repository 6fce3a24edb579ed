"""Checkers of the chapter *Does it help on new images?*: complexity, distance, and the error on new inputs.

The references are dense: gradients formed whole, all signs enumerated, least squares over all weights, and all samples
that a small population can give, each with its exact probability.
"""

import functools
import itertools
import math

import numpy as np
from scipy.special import gammaln

from kdlib.bounds import displacement_norm as _displacement_norm
from kdlib.bounds import generalization_gap as _generalization_gap
from kdlib.bounds import rademacher_average as _rademacher_average
from kdlib.bounds import rademacher_complexity as _rademacher_complexity
from kdlib.claims import Check
from kdlib.claims.limit import _SMALLEST, _capacity, _gradients, _least_squares_end
from kdlib.claims.linear_system import _Dense
from kdlib.kernels import tangent_kernel
from kdlib.limit import fixed_point
from kdlib.problem import TransferProblem

_MOST_SAMPLES = 6000


@functools.lru_cache(maxsize=16)
def _all_signs(n):
    return np.array(list(itertools.product([1.0, -1.0], repeat=n)))


def _average_supremum(net, x, radius, signs):
    """(1/n) E sup over the ball, from gradients and signs."""
    gradients, start = _gradients(net, x)
    signs = _all_signs(len(x)) if signs is None else np.asarray(signs)
    # signs average to exactly 0, so that the start leaves no rounding beside a small kernel
    return (np.mean(signs, axis=0) @ start + radius * np.mean(np.linalg.norm(signs @ gradients, axis=1))) / len(x)


def rademacher_complexity(net, x, radius, signs=None):
    """All students within a radius of a start have Rademacher complexity at most B √(tr H̄)/n (this chapter).

    The supremum from the gradients for every sign vector, start included, against the library's average through the
    kernel, and against the trace.

    Parameters
    ----------
    net : TwoLayerNetwork
    x : array, shape (n, d)
    radius : float
    signs : array, shape (count, n), optional
        Sign vectors to average over in the place of all of them: a broken hypothesis.
    """
    average = _average_supremum(net, x, radius, signs)
    bound, through_kernel = _rademacher_complexity(net, x, radius), _rademacher_average(net, x, radius)
    label, tolerance, scale = "rademacher-complexity", 1e-7, max(float(bound.value), 1e-300)
    return Check.worst(
        Check.compare(label, through_kernel.value, average, tolerance, scale, "average"),
        Check.at_most(label, average, bound.value, tolerance, scale, "trace"),
    )


def rademacher_from_below(net, x, radius, signs=None):
    """The trace bound is never more than √2 away, and less with small off-diagonal entries (this chapter).

    The library's bound times the stated factors, against the average over all signs from the gradients. ``signs`` as
    in `rademacher_complexity`.
    """
    average = _average_supremum(net, x, radius, signs)
    bound = float(_rademacher_complexity(net, x, radius).value)
    kernel = np.asarray(tangent_kernel(net, x))
    trace = np.trace(kernel)
    spread = 2 * (np.sum(kernel**2) - np.sum(np.diag(kernel) ** 2)) / trace**2 if trace > 0 else 0.0
    factors = np.array([1 / np.sqrt(2), 1 / np.sqrt(1 + spread)])
    return Check.at_most(
        "rademacher-from-below", factors * bound, np.full(2, average), 1e-7, max(bound, 1e-300), "factors"
    )


@functools.lru_cache(maxsize=16)
def _samples(size, n):
    """How often each row of a population of ``size`` equally likely rows is drawn in n draws, and the probabilities.

    All of them where they are few; 300 random ones otherwise.
    """
    if math.comb(n + size - 1, size - 1) > _MOST_SAMPLES:
        return np.random.default_rng(0).multinomial(n, np.full(size, 1 / size), 300), np.full(300, 1 / 300)
    bars = np.array(list(itertools.combinations(range(n + size - 1), size - 1)), int).reshape(-1, size - 1)
    ends = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), n + size - 1)])
    counts = np.diff(ends, axis=1) - 1
    logs = gammaln(n + 1) - gammaln(counts + 1).sum(axis=1) - n * np.log(size)
    return counts, np.exp(logs)


def _ramp(scores, margin):
    return np.clip(1 - scores / margin, 0, 1)


def _moves(gradients, directions, lengths):
    """What weights v along combinations of gradients, of given lengths, do to the outputs; shape (count, N)."""
    weights = directions @ gradients
    sizes = np.linalg.norm(weights, axis=1)
    return (lengths / np.where(sizes > 0, sizes, 1.0))[:, None] * (weights @ gradients.T)


def expected_deviation(net, x, y, n, radius, margin=1.0, copies=1):
    """On average no student in the ball looks much better on the sample than it is (this chapter).

    The population is the rows of x and y, equally likely. All samples are enumerated; on each the largest gap between
    expected and sample loss over many students of the ball, against twice the exact Rademacher complexity.

    Parameters
    ----------
    net : TwoLayerNetwork
    x, y : arrays, shapes (N, d) and (N,)
    n : int
        The size of the sample.
    radius, margin : float
    copies : int
        How often each draw is repeated: more than 1 is a broken hypothesis.
    """
    gradients, start = _gradients(net, x)
    kernel, size = np.asarray(tangent_kernel(net, x)), len(y)
    counts, probabilities = _samples(size, n // copies)
    shares = counts / counts.sum(axis=1, keepdims=True)
    # where the ramp is linear, the direction that gains most; and students at random
    random = np.random.default_rng(0).normal(size=(32, size))
    directions = np.vstack([(shares - 1 / size) * y, random])
    outputs = np.vstack([start, start + _moves(gradients, directions, np.full(len(directions), radius))])
    losses = _ramp(y * outputs, margin)
    deviation = probabilities @ np.max(losses.mean(axis=1) - shares @ losses.T, axis=1)

    signs = _all_signs(n)
    complexities = []
    for count in copies * counts:
        sums = signs @ (np.repeat(np.arange(size), count)[:, None] == np.arange(size))
        complexities.append(np.mean(np.sqrt(np.maximum(np.sum((sums @ kernel) * sums, axis=1), 0))))
    allowed = 2 * radius / (margin * n) * (probabilities @ np.array(complexities))
    return Check.at_most("expected-deviation", deviation, allowed, 1e-9, max(allowed, 1e-300))


def _bound_on_error(loss, counts, diagonal, lengths, delta, margin):
    """The stated right-hand side, with everything that depends on the sample in the arguments."""
    n, radius = counts.sum(axis=-1), np.maximum(1.0, np.ceil(lengths))
    complexity = 2 * radius * np.sqrt(counts @ diagonal)[..., None] / (margin * n[..., None])
    return loss + complexity + np.sqrt(2 * np.log(radius * (radius + 1) / delta) / n[..., None])


def generalization_bound(net, teacher, lam, x, y, sample, delta, *, margin=1.0, copies=1, start=None):
    """With probability 1 - δ the bound on the test error holds for all students at once (this chapter).

    The population is the rows of x and y, equally likely. The probability that any of many students breaks the bound,
    over all samples of this size, against δ. And on the sample given, the library's bound and test error for the
    taught student against least squares and the population itself, and the bound against the error.

    Parameters
    ----------
    net, teacher : TwoLayerNetwork
        The student's start, and the network whose features it gets.
    lam : float
    x, y : arrays, shapes (N, d) and (N,)
    sample : array of int, shape (n,)
        The rows drawn.
    delta, margin : float
    copies : int
        How often each draw is repeated: more than 1 is a broken hypothesis.
    start : callable, optional
        Makes the student's start from the sample's inputs and labels: a broken hypothesis.
    """
    x, y, size, n = np.asarray(x), np.asarray(y), len(y), len(sample)
    label, tolerance = "generalization-bound", 1e-7
    gradients, at_start = _gradients(net, x)
    counts, probabilities = _samples(size, n // copies)
    generator = np.random.default_rng(0)
    lengths = np.append(0.0, generator.uniform(0, 4, 48))
    directions = generator.normal(size=(lengths.size, size))
    outputs = at_start + _moves(gradients, directions, lengths)
    losses, errors = _ramp(y * outputs, margin), np.mean(y * outputs <= 0, axis=1)
    diagonal = np.sum(gradients**2, axis=1)
    bounds = _bound_on_error(counts @ losses.T * copies / n, copies * counts, diagonal, lengths, delta, margin)
    broken = probabilities @ np.any(errors > bounds, axis=1)

    begin = net if start is None else start(x[sample], y[sample])
    problem = TransferProblem(begin, x[sample], y[sample], teacher.features(x[sample]), lam=lam)
    bound = _generalization_gap(problem, x, y, delta=delta, margin=margin)
    dense = _Dense.of(problem)
    v = np.linalg.lstsq(dense.A, dense.g, rcond=_SMALLEST)[0]
    loss = np.mean(_ramp(y[sample] * (dense.b @ dense.start + dense.J @ v), margin))
    trace, ones = np.array([np.sum(dense.J**2) / n]), np.array([n])
    expected = _bound_on_error(loss, ones, trace, np.linalg.norm(v)[None], delta, margin)  # pyright: ignore[reportIndexIssue]
    if start is not None:
        gradients, at_start = _gradients(begin, x)
    scores = y * (at_start + gradients @ v)
    # an output at the border of the two labels may fall on either side
    clear = np.abs(scores) > 1e-6 * max(1.0, dense.scale)
    error = np.mean(scores <= 0) if clear.all() else float(bound.measured)
    return Check.worst(
        Check.at_most(label, broken, delta, tolerance, delta, "probability"),
        Check.compare(label, bound.value, expected[0], tolerance, 1.0, "value"),
        Check.compare(label, bound.measured, error, tolerance, 1.0, "test error"),
        Check.at_most(label, bound.measured, bound.value, tolerance, 1.0, "this sample"),
    )


def _carrying_weights(dense, gaps):
    """(L_kᵀ)⁺ applied to one vector for each unit, stacked to shape (md,)."""
    return np.ravel(np.linalg.pinv(np.swapaxes(dense.blocks, 1, 2), rcond=_SMALLEST) @ gaps[:, :, None])


def _smallest_singular_value(dense):
    values = np.linalg.svd(dense.blocks, compute_uv=False)
    return np.min(values, where=values > _SMALLEST * values[:, :1], initial=np.inf)


def displacement_norm(problem):
    """The weights' way from their limit features, and its distance from the teacher's way, λ > 0 (this chapter).

    The library's features and bound, against least squares over all weights. λ = 0 is a broken hypothesis.
    """
    dense = _Dense.of(problem)
    features, v = _least_squares_end(problem)
    point, bound = fixed_point(problem), _displacement_norm(problem)
    length = np.linalg.norm(v)
    from_features = np.linalg.norm(_carrying_weights(dense, np.asarray(point.features) - dense.start))
    carried = _carrying_weights(dense, dense.gap)
    apart, lead = np.linalg.norm(v - carried), np.linalg.norm(carried)
    left = np.linalg.norm(dense.y - dense.b @ features)
    smallest = _smallest_singular_value(dense)
    most = np.sqrt(np.sum(dense.b**2)) * left / (dense.lam * smallest) if dense.lam > 0 else np.inf
    scale = max(length, lead, dense.feature_scale / smallest if np.isfinite(smallest) else 0.0, 1e-300)
    label, tolerance = "displacement-norm", 1e-7
    return Check.worst(
        Check.compare(label, from_features, length, tolerance, scale, "from features"),
        Check.compare(label, bound.measured, length, tolerance, scale, "length"),
        Check.compare(label, bound.value, lead + apart, tolerance, scale, "distance from the teacher"),
        Check.at_most(label, bound.measured, bound.value, tolerance, scale, "triangle"),
        Check.at_most(label, apart, most, tolerance, scale, "never further"),
    )


def norm_without_teacher(problem):
    """At λ = 0 the squared length of the way is (y - f(0))ᵀ H̄⁺ (y - f(0)) (this chapter).

    The quadratic form with NumPy's pseudo-inverse and the library's, against the shortest least-squares weights. λ > 0
    is a broken hypothesis.
    """
    dense = _Dense.of(problem)
    v = np.linalg.lstsq(dense.A, dense.g, rcond=_SMALLEST)[0]
    values = np.linalg.svd(dense.J, compute_uv=False)
    smallest = np.min(values, where=values > _SMALLEST * values[0], initial=np.inf)
    # an eigenvalue of H̄ is known to eps times the largest, so that its inverse is known this well
    kept = np.linalg.eigh(np.asarray(tangent_kernel(problem.student, problem.x)))
    seen = kept[0] > 1e-13 * kept[0][-1]
    form = np.sqrt(np.sum((kept[1].T @ dense.residual)[seen] ** 2 / kept[0][seen]))
    bound = _displacement_norm(problem)
    scale = max(np.linalg.norm(v), dense.scale / smallest if np.isfinite(smallest) else 0.0, 1e-300)
    label, tolerance = "norm-without-teacher", 1e-6
    return Check.worst(
        Check.compare(label, form, np.linalg.norm(v), tolerance, scale, "quadratic form"),
        Check.compare(label, bound.value, np.linalg.norm(v), tolerance, scale, "value"),
        Check.compare(label, bound.measured, np.linalg.norm(v), tolerance, scale, "length"),
    )


def norm_jump(problem):
    """As λ → 0⁺ the squared length jumps up by the squared distance of the two limits (this chapter).

    The library at the problem's small λ and at 0, against the weights of two least-squares fits: the shortest that
    fits the labels, and the one that, among those that fit them best, has the features nearest to the teacher's. λ = 0
    is a broken hypothesis.
    """
    dense, _, mean, error = _capacity(problem)
    short = np.linalg.lstsq(dense.J, dense.residual, rcond=_SMALLEST)[0]
    _, sigma, right = np.linalg.svd(dense.J)
    free = right[np.sum(sigma > _SMALLEST * sigma[0]) :].T
    # no weight that leaves all features as they are: it would only make the way longer
    left, moved, right = np.linalg.svd(dense.L.T @ free, full_matrices=False)
    kept = moved > _SMALLEST * np.linalg.norm(dense.L, 2)
    remaining = dense.gap.ravel() - dense.L.T @ short
    near = short + free @ (right[kept].T @ (left[:, kept].T @ remaining / moved[kept]))

    taught = np.asarray(fixed_point(problem).displacement).ravel()
    alone = TransferProblem(problem.student, problem.x, problem.y, None, lam=0.0)
    plain = np.asarray(fixed_point(alone).displacement).ravel()
    values = np.linalg.eigvalsh(mean)
    pi = np.min(values, where=values > _SMALLEST * max(values[-1], 1e-300), initial=np.inf)
    smallest = _smallest_singular_value(dense)
    allowed = np.sqrt(np.sum(dense.b**2)) * dense.lam * np.linalg.norm(error) / (smallest * pi**2)
    scale = max(np.linalg.norm(near), dense.feature_scale / smallest if np.isfinite(smallest) else 0.0, 1e-300)
    label, tolerance = "norm-jump", 1e-6
    squares = np.sum(plain**2) + np.sum((near - plain) ** 2)
    return Check.worst(
        Check.at_most(label, np.linalg.norm(taught - near), allowed, tolerance, scale, "limit"),
        Check.compare(label, np.sum(near**2), squares, tolerance, scale**2, "Pythagoras"),
        Check.compare(label, np.linalg.norm(plain), np.linalg.norm(short), tolerance, scale, "without"),
    )


def same_sample(problem, labels=None):
    """A kernel-regime teacher from the same start and sample teaches nothing, whatever λ > 0 (this chapter).

    The teacher is the shortest least-squares fit, with the features that it has in the kernel regime; the student's
    weights from `fixed_point`, against the teacher's.

    Parameters
    ----------
    problem : TransferProblem
        Its own teacher is not used.
    labels : array, shape (n,), optional
        What the teacher has been trained on instead of the problem's labels: a broken hypothesis.
    """
    dense = _Dense.of(problem)
    residual = dense.residual if labels is None else np.asarray(labels) - dense.b @ dense.start
    v = np.linalg.lstsq(dense.J, residual, rcond=_SMALLEST)[0]
    phi = dense.start + (dense.L.T @ v).reshape(dense.start.shape)
    taught = fixed_point(TransferProblem(problem.student, problem.x, problem.y, phi, lam=problem.lam))
    smallest = _smallest_singular_value(dense)
    scale = max(np.linalg.norm(v), dense.feature_scale / smallest if np.isfinite(smallest) else 0.0, 1e-300)
    return Check.compare("same-sample", np.asarray(taught.displacement).ravel(), v, 1e-7, scale, "weights")
