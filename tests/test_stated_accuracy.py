"""The relative error that each function states in its docstring, against 50 digits and dense references.

``kernel_flow`` and ``fixed_point`` have theirs in ``test_accuracy.py``; the problems are those of that file.
"""

import functools
import itertools
import warnings

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import scipy.integrate

import kdlib as kd
from tests.dense import Dense
from tests.precise import DIGITS, Precise, applied
from tests.problems import as_transfer_problem
from tests.test_accuracy import DECIDABLE, KINDS, TIMES, extreme_problem

SHAPES = {(1, 1, 1): "tanh", (2, 3, 2): "relu", (3, 2, 3): "tanh"}
LAMBDAS = [0.0, 1e-12, 0.5, 1e12]


class Case:
    """A problem of kdlib beside the same in 50 digits."""

    def __init__(self, shape, kind, lam, dtype):
        self.dtype, self.kind, self.lam = dtype, kind, lam
        seed = KINDS.index(kind), LAMBDAS.index(lam)
        self.arrays = extreme_problem(shape, SHAPES[shape], lam, kind, dtype, *seed)
        self.precise, self.problem = Precise(*self.arrays), as_transfer_problem(*self.arrays)
        self.scale = float(self.precise.scale)
        self.size = max(self.scale, float(mp.norm(self.precise.features)), float(np.linalg.norm(self.arrays[5])))
        self.decided = lam > 0 or self.precise.rate_spread >= DECIDABLE[dtype]
        self.spread = max(
            [1.0, *(float(mp.sqrt(max(h) / min(h))) for h in map(self.precise.unit_rates, range(shape[0])) if h)]
        )
        self.rate = float(max(self.precise.rates)) or 1.0
        self.truth = np.cos(np.arange(shape[1])).astype(dtype)

    @functools.cached_property
    def alone(self):
        """The same without transfer, and its kernel's eigenvalues and eigenvectors."""
        arrays = (*self.arrays[:-1], self.dtype(0))
        return Precise(*arrays), as_transfer_problem(*arrays), mp.eigsy(self.precise.tangent)

    def times(self, *more):
        """Short, middle and late, relative to the fastest rate, and 0."""
        return np.array([0.0, *(t / self.rate for t in (1e-6, 1.0, 1e3)), *more]).astype(self.dtype)


@functools.cache
def case(*key):
    with jax.enable_x64(key[-1] is np.float64):
        return Case(*key)


def floats(matrix):
    """A matrix of many digits as an array, a column as a vector."""
    array = np.array([[float(mp.re(value)) if not isinstance(value, mp.mpc) else complex(value) for value in row] for row in matrix.tolist()])
    return array[:, 0] if array.shape[1] == 1 else array


def apart(found, exact, size=None):
    """The distance, relative to the exact value or to a size."""
    found = np.asarray(found, complex if np.iscomplexobj(np.asarray(found)) else float)
    assert np.all(np.isfinite(found))
    size = np.linalg.norm(exact) if size is None else size
    distance = np.linalg.norm(found - exact)
    return distance / size if size > 0 else (0.0 if distance == 0 else np.inf)


def along(flow, precise, problem, times, scale, clock=1.0):
    """The outputs of a flow at all times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a flow does not converge it says so, and promises nothing
        path = flow(problem, times)
    if not path.converged:
        return
    for t, outputs in zip(times, path.outputs):
        yield apart(outputs, precise.outputs(precise.displacement(clock * float(t))), scale)


def flow(of, *more):
    def errors(case):
        end = [np.inf] if case.decided and np.inf in more else []
        yield from along(of, case.precise, case.problem, case.times(*end), case.scale)

    return errors


def soft(case):
    """The problem without transfer that has the soft labels, in 50 digits, and its scale."""
    with mp.workdps(DIGITS):
        precise, lam = case.precise, case.precise.lam
        teacher = sum((b * (gap + features) for b, gap, features in zip(precise.b, precise.gaps, rows(precise))), mp.zeros(precise.n, 1))
        labels = (precise.y + lam * teacher) / (1 + lam)
    exact = Precise(*case.arrays[:4], list(labels), case.arrays[5], 0.0)
    return exact, labels, max(case.scale, float(exact.scale), float(mp.norm(teacher)))


def rows(precise):
    """f_k(0) unit by unit, as columns."""
    return [precise.features[k, :].T for k in range(precise.features.rows)]


def soft_label_problem(case):
    _, labels, scale = soft(case)
    yield apart(kd.soft_label_problem(case.problem).y, floats(labels), scale)


def output_flow(case):
    exact, _, scale = soft(case)
    times = (case.times() / (1 + case.lam)).astype(case.dtype)
    yield from along(kd.output_flow, exact, case.problem, times, scale, 1 + float(case.precise.lam))


def output_fixed_point(case):
    exact, _, scale = soft(case)
    if exact.rate_spread >= DECIDABLE[case.dtype]:
        yield apart(kd.output_fixed_point(case.problem).outputs, exact.outputs(exact.displacement(np.inf)), scale)


def points(case):
    """Places of the Laplace plane, relative to the fastest rate."""
    at = [0.7 * case.rate, 1e-3 * case.rate, (-0.3 + 0.2j) * case.rate]
    return [np.asarray(s, np.result_type(case.dtype, type(s)) if isinstance(s, float) else np.result_type(case.dtype, np.complex64))[()] for s in at]


def precisely(s):
    return mp.mpc(complex(s)) if np.iscomplexobj(s) else mp.mpf(float(s))


def characteristic_matrix(case):
    for s in points(case):
        with mp.workdps(DIGITS):
            at = precisely(s)
            exact = mp.eye(case.precise.n) + case.precise.over_units(lambda h, at=at: h / (at + case.precise.lam * h))
        yield apart(kd.characteristic_matrix(case.problem, s), floats(exact))


def solved(case, s):
    """(sI + M)⁻¹ c."""
    with mp.workdps(DIGITS):
        at = precisely(s)
        return applied(case.precise.rates, case.precise.modes, lambda rate: 1 / (at + rate)) * case.precise.force


def resolvent(case):
    for s in points(case):
        exact = floats(solved(case, s))
        # φ - f(0) comes with the rounding of its parts
        gap = float(mp.sqrt(mp.fsum(mp.norm(part) ** 2 for part in case.precise.gaps)))
        yield apart(np.ravel(kd.resolvent(case.problem, s)), exact, np.linalg.norm(exact) * max(1.0, case.size / gap))
        with mp.workdps(DIGITS):
            vector = np.cos(np.arange(len(case.precise.force))).astype(case.dtype)
            inverse = applied(case.precise.rates, case.precise.modes, lambda rate: 1 / (precisely(s) + rate) - 1 / precisely(s))
            moved = inverse * mp.matrix([mp.mpf(float(part)) for part in vector])
            exact = floats(moved + mp.matrix([mp.mpf(float(part)) / precisely(s) for part in vector]))
        found = kd.resolvent(case.problem, s, vector.reshape(case.arrays[0].shape))
        yield apart(np.ravel(found), exact, np.linalg.norm(vector) / abs(s))


def output_transform(case):
    for s in points(case):
        with mp.workdps(DIGITS):
            exact = case.precise.start + case.precise.outputs_map * solved(case, s)
        yield apart(kd.output_transform(case.problem, s) * s, floats(exact), case.scale)


def memory_kernel(case):
    size, lam = float(mp.norm(case.precise.tangent)), case.precise.lam
    times = case.times(np.inf)
    for t, found in zip(times, kd.memory_kernel(case.problem, times)):
        def forgotten(h, t=t):
            return h if lam == 0 else (0 if np.isinf(t) else h * mp.exp(-lam * h * mp.mpf(float(t))))

        yield apart(found, floats(case.precise.over_units(forgotten)), size)


def tangent_kernel(case):
    exact = floats(case.precise.tangent)
    yield apart(kd.tangent_kernel(case.problem.student, case.arrays[3]), exact)


def unit_kernels(case):
    for k, found in enumerate(kd.unit_kernels(case.problem.student, case.arrays[3])):
        yield apart(found, floats(case.precise.unit_kernel(k)))


def rates(case):
    """The positive eigenvalues of M, ascending, as floats."""
    largest = max(case.precise.rates)
    return np.sort([float(rate) for rate in case.precise.rates if largest > 0 and rate > mp.mpf(10) ** -40 * largest])


def spectrum(of):
    def errors(case):
        exact = rates(case)
        if case.decided and exact.size:
            found = np.asarray(of(case.problem, exact.size), float)
            assert found.shape == exact.shape
            yield np.max(np.abs(found - exact) / (np.sqrt(exact * exact[-1]) if case.lam > 0 else exact[-1]))

    return errors


def largest_rate(case):
    value = float(kd.largest_rate(case.problem).value)
    yield abs(value - float(max(case.precise.rates))) / case.rate


def count_above(case):
    exact = rates(case)
    for low, high in itertools.pairwise(exact):
        if case.decided and high > 1.01 * low:
            x = case.dtype(np.sqrt(low) * np.sqrt(high))
            yield float(kd.count_above(case.problem, x) != np.sum(exact > x))


def noise_risk(case):
    times = [np.inf] if case.decided else []
    if case.lam == 0:
        times += [0.0, 1 / case.rate]
    for t in times:
        exact = case.precise.answer(t)
        outputs = case.precise.outputs(case.precise.displacement(t, [mp.mpf(float(label)) for label in case.truth]))
        risk = kd.noise_risk(case.problem, case.truth, case.dtype(0.5), time=t)
        yield apart(risk.bias, outputs - case.truth, case.size)
        with mp.workdps(DIGITS):
            variance = [float(mp.norm(exact[i, :]) ** 2) / 4 for i in range(case.precise.n)]
        yield apart(risk.variance, np.array(variance), 0.25)


def noise_risk_stopped(case):
    if case.lam > 0:
        t = 1 / case.rate
        exact = case.precise.answer(t)
        outputs = case.precise.outputs(case.precise.displacement(t, [mp.mpf(float(label)) for label in case.truth]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            risk = kd.noise_risk(case.problem, case.truth, case.dtype(0.5), time=t)
        yield apart(risk.bias, outputs - case.truth, case.size)
        with mp.workdps(DIGITS):
            variance = [float(mp.norm(exact[i, :]) ** 2) / 4 for i in range(case.precise.n)]
        yield apart(risk.variance, np.array(variance), 0.25)


def gaussian_posterior(case):
    if case.lam > 0:
        exact = case.precise
        found = kd.gaussian_posterior(case.problem, noise=case.dtype(0.5))
        with mp.workdps(DIGITS):
            prior = np.array([float(exact.mean_projector[i, i] / exact.lam) / 4 for i in range(exact.n)])
            answer = exact.answer(np.inf)
            variance = np.array([float(answer[i, i]) / 4 for i in range(exact.n)])
        yield apart(found.mean, exact.outputs(exact.displacement(np.inf)), case.size)
        yield apart(found.prior_mean, floats(exact.carried), case.size)
        yield apart(found.prior_variance, prior)
        yield apart(found.variance, variance, np.linalg.norm(prior))


def leave_one_out(case):
    if case.lam > 0:
        exact = case.precise
        found = kd.leave_one_out(case.problem, np.array([case.lam], case.dtype))[0]
        with mp.workdps(DIGITS):
            for i, label in enumerate(found):
                own = exact.outputs_map[i, :]
                values, vectors = mp.eigsy(exact.matrix - own.T * own)
                force = exact.force - own.T * (exact.y[i] - exact.start[i])
                rest = applied(values, vectors, lambda value: 1 / value) * force
                yield abs(float(label) - float(exact.start[i] + (own * rest)[0])) / case.size


def self_distillation(case):
    if case.lam > 0:
        exact = case.precise
        with mp.workdps(DIGITS):
            kept = exact.lam * mp.inverse(exact.lam * mp.eye(exact.n) + exact.mean_projector)
            error = exact.y - exact.carried
            goals = {"teacher": exact.y - kept**3 * error, "labels": exact.carried + (mp.eye(exact.n) - kept) ** 3 * error}
        for replace, goal in goals.items():
            yield apart(kd.self_distillation(case.problem, 3, replace=replace).outputs[-1], floats(goal), case.size)


def ticket_losses(case):
    if case.lam > 0:
        exact, m = case.precise, len(case.arrays[1])
        full = exact.outputs(exact.displacement(np.inf))
        for output in ("keep", "rescale"):
            losses = kd.ticket_losses(case.problem, np.arange(m), output=output)
            for j, loss in enumerate(losses, 1):
                c = mp.sqrt(mp.mpf(m) / j) if output == "rescale" else mp.mpf(1)
                kept = list(range(j))
                with mp.workdps(DIGITS):
                    narrow = Precise(*(part[kept] for part in case.arrays[:2]), *case.arrays[2:5], case.arrays[5][kept], case.arrays[6])
                    root = mp.sqrt(mp.mpf(j) / m) * c
                    projected = root**2 * narrow.mean_projector
                    told = root * narrow.carried
                    kernel = mp.inverse(exact.lam * mp.eye(exact.n) + projected)
                    end = exact.y - exact.lam * kernel * (exact.y - told)
                yield abs(float(loss) - np.linalg.norm(full - floats(end).ravel()) / case.scale) * case.scale / case.size


def stationary(risk, found):
    """How far the minimiser next to ``found`` is, relative to it."""
    with mp.workdps(DIGITS):
        middle = mp.log(found)
        slope = lambda z: mp.diff(lambda z: risk(mp.exp(z)), z)  # noqa: E731
        for width in 10.0 ** np.arange(-14, 0):
            below, above = slope(middle - mp.mpf(width)), slope(middle + mp.mpf(width))
            if below <= 0 <= above:
                return width
    return 1.0


def optimal_strength(case):
    exact, noise = case.precise, mp.mpf(0.5)
    found = kd.optimal_strength(case.problem, case.truth, case.dtype(0.5))
    with mp.workdps(DIGITS):
        values, vectors = mp.eigsy(exact.mean_projector)
        values = [value if value > mp.mpf(10) ** -40 else mp.mpf(0) for value in values]
        errors = vectors.T * (mp.matrix([mp.mpf(float(label)) for label in case.truth]) - exact.carried)

        def risk(lam):
            each = [(e**2 * lam**2 + noise**2 * p**2) / (lam + p) ** 2 if p > 0 else e**2 for e, p in zip(errors, values)]
            return mp.fsum(each) / len(each)

        lam = mp.mpf(float(found.lam)) if np.isfinite(found.lam) else mp.mpf(10) ** 30
        yield abs(float(found.risk) - float(risk(lam))) / max(float(found.carried), 0.25)
    if 0 < found.lam < np.inf:
        yield 1j * stationary(risk, lam)


def best_stopping_time(case):
    precise, problem, (values, vectors) = case.alone
    noise = mp.mpf(0.5)
    found = kd.best_stopping_time(problem, case.truth, case.dtype(0.5))
    with mp.workdps(DIGITS):
        errors = vectors.T * (mp.matrix([mp.mpf(float(label)) for label in case.truth]) - precise.start)

        def risk(t):
            left = [mp.exp(-value * t) if value > 0 else mp.mpf(1) for value in values]
            return mp.fsum(e**2 * q**2 + noise**2 * (1 - q) ** 2 for e, q in zip(errors, left)) / len(left)

        time = mp.mpf(float(found.time))
        yield abs(float(found.risk) - float(risk(time))) / max(float(risk(0)), 0.25)
    if 0 < found.time < np.inf:
        yield 1j * stationary(risk, time)


def alignment(case):
    values, vectors = case.alone[2]
    found = kd.alignment(case.problem.student, case.arrays[3], case.truth)
    exact = np.array([float(value) for value in values])[::-1]
    if exact[0] > 0:
        yield np.max(np.abs(np.asarray(found.rates, float) - exact)) / exact[0]
        with mp.workdps(DIGITS):
            parts = vectors.T * mp.matrix([mp.mpf(float(label)) for label in case.truth])
            squares = np.array([float(part**2) for part in parts])[::-1]
        cumulative = np.cumsum(squares) / np.sum(squares)
        gaps = np.append(-np.diff(exact), exact[0]) / exact[0]
        yield np.max(np.abs(np.asarray(found.cumulative, float) - cumulative) * gaps)


def filters(case):
    exact = np.array([float(value) for value in case.alone[2][0]])
    given = np.maximum(exact, 0).astype(case.dtype)
    t = case.dtype(1 / case.rate)
    learnt = np.array([float(-mp.expm1(-mp.mpf(float(rate)) * mp.mpf(float(t)))) for rate in given])
    yield np.max(np.abs(np.asarray(kd.early_stopping_filter(given, t), float) - learnt) / np.where(learnt > 0, learnt, 1))
    gamma = case.dtype(case.rate / 10)
    learnt = np.array([float(mp.mpf(float(rate)) / (mp.mpf(float(rate)) + mp.mpf(float(gamma)))) for rate in given])
    yield np.max(np.abs(np.asarray(kd.ridge_filter(given, gamma), float) - learnt) / np.where(learnt > 0, learnt, 1))


def spectral_fit(case):
    precise, problem, (values, vectors) = case.alone
    gamma = case.dtype(case.rate / 10)
    with mp.workdps(DIGITS):
        strength = mp.mpf(float(gamma))
        change = applied(values, vectors, lambda rate: rate / (rate + strength)) * (precise.y - precise.start)
        exact = floats(precise.start + change)
    yield apart(kd.spectral_fit(problem, lambda rates: kd.ridge_filter(rates, gamma)), exact, case.scale)


def trained_teacher(case):
    precise, _, _ = case.alone
    weights, signs, activation, x, y, _, _ = case.arrays
    student = kd.TwoLayerNetwork(weights, signs, activation)
    for t in (0.0, 1 / case.rate):
        teacher = kd.trained_teacher(student, x, y, case.dtype(t))
        v = floats(precise.displacement(case.dtype(t))).reshape(weights.shape)
        yield apart(teacher.weights, weights + v)


def kernel_machine_teacher(case):
    weights, signs, activation, x, y, embedding, _ = case.arrays
    precise = case.precise
    size = np.linalg.norm(embedding.astype(float) * floats(mp.matrix(precise.b)).reshape(-1, 1), 2) ** 2
    ridge = case.dtype(size / 10)
    machine = kd.kernel_machine_teacher(case.problem.student, x, y, embedding, ridge=ridge)
    with mp.workdps(DIGITS):
        z = mp.matrix(embedding.tolist())
        weighted = mp.matrix([[precise.b[k] * z[k, i] for i in range(z.cols)] for k in range(z.rows)])
        kernel = weighted.T * weighted
        steps = weighted * mp.lu_solve(kernel + mp.mpf(float(ridge)) * mp.eye(z.cols), precise.y - precise.start)
        exact = precise.features + mp.matrix([[steps[k] * z[k, i] for i in range(z.cols)] for k in range(z.rows)])
    yield apart(np.ravel(machine.phi), np.ravel(np.array(exact.tolist(), float)), case.size)


MEASURES = {
    "tangent_kernel": tangent_kernel, "unit_kernels": unit_kernels,
    "laplace_flow": flow(kd.laplace_flow, np.inf), "memory_flow": flow(kd.memory_flow),
    "soft_label_problem": soft_label_problem, "output_flow": output_flow, "output_fixed_point": output_fixed_point,
    "characteristic_matrix": characteristic_matrix, "resolvent": resolvent, "output_transform": output_transform,
    "memory_kernel": memory_kernel,
    "decay_rates": spectrum(kd.decay_rates), "slow_modes": spectrum(lambda p, k: kd.slow_modes(p, k).rates),
    "characteristic_values": spectrum(lambda p, k: -kd.characteristic_values(p)),
    "largest_rate": largest_rate, "count_above": count_above,
    "noise_risk": noise_risk, "noise_risk, stopped": noise_risk_stopped, "gaussian_posterior": gaussian_posterior,
    "leave_one_out": leave_one_out, "self_distillation": self_distillation, "ticket_losses": ticket_losses,
    "optimal_strength": optimal_strength, "best_stopping_time": best_stopping_time,
    "alignment": alignment, "filters": filters, "spectral_fit": spectral_fit, "trained_teacher": trained_teacher,
    "kernel_machine_teacher": kernel_machine_teacher,
}
