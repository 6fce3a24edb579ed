"""The relative errors of rates, risks, posteriors, filters, teachers and tickets, each function named after kdlib's.

``test_stated_accuracy.py`` holds them against what the docstrings state.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np

import kdlib as kd
from tests.cases import apart, floats
from tests.dense import Dense
from tests.precise import DIGITS, Precise, applied
from tests.problems import as_transfer_problem, random_problem


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


def risk_at(case, time):
    """Errors of bias and variance, relative to the outputs' size and the noise's variance."""
    exact, outputs = case.precise.answer(time), case.precise.outputs(case.precise.displacement(time, case.labels))
    risk = kd.noise_risk(case.problem, case.truth, case.dtype(0.5), time=time)
    yield apart(risk.bias, outputs - case.truth, case.size)
    with mp.workdps(DIGITS):
        variance = [float(mp.norm(exact[i, :]) ** 2) / 4 for i in range(case.precise.n)]
    yield apart(risk.variance, np.array(variance), 0.25)


def noise_risk(case):
    for time in ([0.0, 1 / case.rate] if case.lam == 0 else []) + ([np.inf] if case.decided else []):
        yield from risk_at(case, time)


def noise_risk_stopped(case):
    if case.lam > 0:
        yield from risk_at(case, 1 / case.rate)


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
            goals = {
                "teacher": exact.y - kept**3 * error,
                "labels": exact.carried + (mp.eye(exact.n) - kept) ** 3 * error,
            }
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
                    narrow = Precise(
                        *(part[kept] for part in case.arrays[:2]),
                        *case.arrays[2:5],
                        case.arrays[5][kept],
                        case.arrays[6],
                    )
                    root = mp.sqrt(mp.mpf(j) / m) * c
                    projected = root**2 * narrow.mean_projector
                    told = root * narrow.carried
                    kernel = mp.inverse(exact.lam * mp.eye(exact.n) + projected)
                    end = exact.y - exact.lam * kernel * (exact.y - told)
                yield (
                    abs(float(loss) - np.linalg.norm(full - floats(end).ravel()) / case.scale) * case.scale / case.size
                )


def minimiser(risk, found, size, accuracy):
    """How far the lowest point of a risk next to ``found`` is, relative to it, where the risk's accuracy shows it."""
    with mp.workdps(DIGITS):
        middle, depth = mp.log(mp.mpf(float(found))), accuracy * size
        around = [risk(mp.exp(middle + step)) - risk(mp.exp(middle)) for step in (-1, 1)]
        if min(around) < depth:
            return
        slope = functools.partial(mp.diff, lambda z: risk(mp.exp(z)))
        low, high = mp.findroot(slope, (middle - 0.1, middle + 0.1), solver="ridder", tol=1e-30), middle
        yield abs(float(low - high))


def strength_risk(case):
    """The risk of the limit on the training data as a function of λ, for noise 1/2."""
    exact = case.precise
    with mp.workdps(DIGITS):
        values, vectors = mp.eigsy(exact.mean_projector)
        values = [value if value > mp.mpf(10) ** -40 else mp.mpf(0) for value in values]
        errors = vectors.T * (case.labels - exact.carried)

    def risk(lam):
        parts = zip(errors, values)
        return mp.fsum((e**2 * lam**2 + (p / 2) ** 2) / (lam + p) ** 2 if p > 0 else e**2 for e, p in parts) / exact.n

    return risk


def optimal_strength(case):
    found, risk = kd.optimal_strength(case.problem, case.truth, case.dtype(0.5)), strength_risk(case)
    with mp.workdps(DIGITS):
        lam = mp.mpf(float(found.lam)) if np.isfinite(found.lam) else mp.mpf(10) ** 30
        yield abs(float(found.risk) - float(risk(lam))) / max(float(found.carried), 0.25)


def optimal_strength_lam(case):
    found = kd.optimal_strength(case.problem, case.truth, case.dtype(0.5))
    if 0 < found.lam < np.inf:
        size = max(float(found.carried), 0.25)
        yield from minimiser(strength_risk(case), found.lam, size, 1e2 * np.finfo(case.dtype).eps)


def time_risk(case):
    """The risk of a student without a teacher as a function of time, for noise 1/2."""
    precise, _, (values, vectors) = case.alone
    with mp.workdps(DIGITS):
        errors = vectors.T * (case.labels - precise.start)

    def risk(t):
        left = [mp.exp(-value * t) if value > 0 else mp.mpf(1) for value in values]
        return mp.fsum(e**2 * q**2 + (1 - q) ** 2 / 4 for e, q in zip(errors, left)) / precise.n

    return risk


def best_stopping_time(case):
    found, risk = kd.best_stopping_time(case.alone[1], case.truth, case.dtype(0.5)), time_risk(case)
    with mp.workdps(DIGITS):
        yield abs(float(found.risk) - float(risk(mp.mpf(float(found.time))))) / max(float(risk(0)), 0.25)


def best_stopping_time_time(case):
    found, risk = kd.best_stopping_time(case.alone[1], case.truth, case.dtype(0.5)), time_risk(case)
    if 0 < found.time < np.inf:
        yield from minimiser(risk, found.time, max(float(risk(0)), 0.25), 1e2 * np.finfo(case.dtype).eps)


def alignment(case):
    values, vectors = case.alone[2]
    found = kd.alignment(case.problem.student, case.arrays[3], case.truth)
    exact = np.array([float(value) for value in values])[::-1]
    if exact[0] > 0:
        yield np.max(np.abs(np.asarray(found.rates, float) - exact)) / exact[0]
        with mp.workdps(DIGITS):
            parts = vectors.T * case.labels
            squares = np.array([float(part**2) for part in parts])[::-1]
        cumulative = np.cumsum(squares) / np.sum(squares)
        gaps = np.append(-np.diff(exact), exact[0]) / exact[0]
        yield np.max(np.abs(np.asarray(found.cumulative, float) - cumulative) * gaps)


def displacement_norm(case):
    """Of the bound, relative to what weights would need for changes as large as outputs and features."""
    exact = case.precise
    if case.decided:
        rates = [rate for k in range(len(exact.b)) for rate in exact.unit_rates(k)]
        needed = case.size / float(mp.sqrt(min(rates))) if rates else None
        with mp.workdps(DIGITS):
            if case.lam > 0:
                inverses = [applied(*mp.eigsy(exact.unit_kernel(k)), lambda h: 1 / h) for k in range(len(exact.b))]
                led = mp.fsum((gap.T * inverse * gap)[0] for gap, inverse in zip(exact.gaps, inverses))
                pull = mp.lu_solve(exact.lam * mp.eye(exact.n) + exact.mean_projector, exact.y - exact.carried)
                radius = mp.sqrt(led) + mp.sqrt((pull.T * exact.over_units(lambda h: 1 / h) * pull)[0])
            else:
                left, (values, vectors) = exact.y - exact.start, case.alone[2]
                radius = mp.sqrt((left.T * applied(values, vectors, lambda h: 1 / h) * left)[0])
        yield apart(kd.bounds.displacement_norm(case.problem).value, float(radius), needed if case.lam > 0 else None)


def noise_variance(case):
    """Of the bound itself."""
    if case.lam > 0:
        lam, a, (n, d) = case.precise.lam, mp.fsum(b**2 for b in case.precise.b), case.arrays[3].shape
        least = min(lam, a)
        exact = min((a / (a + lam)) ** 2, a * min(1, mp.mpf(d) / n) * least / (least + lam) ** 2) / 4
        yield apart(kd.bounds.noise_variance(case.problem, case.dtype(0.5)).value, float(exact))


def rademacher_complexity(case):
    """Of the bound itself."""
    with mp.workdps(DIGITS):
        trace = mp.fsum(case.precise.tangent[i, i] for i in range(case.precise.n))
        exact = float(2 * mp.sqrt(trace) / case.precise.n)
    bound = kd.bounds.rademacher_complexity(case.problem.student, case.arrays[3], case.dtype(2))
    yield apart(bound.value, exact)


def filtered(found, exact):
    """The largest error of a share, relative to it."""
    exact = np.array([float(share) for share in exact])
    yield np.max(np.abs(np.asarray(found, float) - exact) / np.where(exact > 0, exact, 1.0))


def kernel_rates(case):
    """Eigenvalues of H̄ as they are given to a filter, and in many digits."""
    given = np.maximum([float(value) for value in case.alone[2][0]], 0).astype(case.dtype)
    return given, [mp.mpf(float(rate)) for rate in given]


def early_stopping_filter(case):
    (given, exact), time = kernel_rates(case), case.dtype(1 / case.rate)
    learnt = [-mp.expm1(-rate * mp.mpf(float(time))) for rate in exact]
    yield from filtered(kd.early_stopping_filter(given, time), learnt)


def ridge_filter(case):
    (given, exact), gamma = kernel_rates(case), case.dtype(case.rate / 10)
    learnt = [rate / (rate + mp.mpf(float(gamma))) for rate in exact]
    yield from filtered(kd.ridge_filter(given, gamma), learnt)


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
    _, _, _, x, y, embedding, _ = case.arrays
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


def random_fourier_features(dtype):
    """Against the cosines of what is drawn, relative to the size of their arguments."""
    for seed in range(24):
        rng, key = np.random.default_rng(seed), jax.random.key(seed)
        x, bandwidth = (
            (10.0 ** rng.uniform(-6, 6) * rng.normal(size=(4, 3))).astype(dtype),
            dtype(10.0 ** (seed % 5 - 2)),
        )
        first, second = jax.random.split(key)
        directions = np.asarray(jax.random.normal(first, (5, 3), x.dtype), float)
        phases = np.asarray(jax.random.uniform(second, (5,), x.dtype, 0.0, 2 * jnp.pi), float)
        arguments = directions @ x.T.astype(float) / float(bandwidth) + phases[:, None]
        found = np.asarray(kd.random_fourier_features(key, x, 5, bandwidth=bandwidth), float)
        size = 1 + np.linalg.norm(directions, axis=1)[:, None] * np.linalg.norm(x.astype(float), axis=1) / bandwidth
        yield np.max(np.abs(found - np.sqrt(2) * np.cos(arguments)) / size)


def inverse_variance_strength(dtype):
    for seed in range(24):
        rng = np.random.default_rng(seed)
        noise, error, a = (dtype(10.0 ** rng.uniform(-6, 6)) for _ in range(3))
        rho = dtype(float(seed % 3) / 4 * min(noise, error) ** 2)
        with mp.workdps(DIGITS):
            s, e, size, r = (mp.mpf(float(part)) for part in (noise, error, a, rho))
            exact = size * (s**2 - r) / (e**2 - r)
            found = float(kd.inverse_variance_strength(noise, error, correlation=rho, a=a))
            yield float(abs(found - exact) / exact)


def lanczos(of):
    """Rates of a student with more units than dense factors serve, relative to √(μ λ_max)."""

    def errors(dtype):
        weights, signs, activation, x, y, phi, _ = random_problem((30, 20, 25), "tanh", 0)
        weights, signs, x, y, phi = (part.astype(dtype) for part in (weights, signs, x, y, phi))
        for lam in (1e-3, 0.5, 1e3):
            parts = weights, signs, activation, x, y, phi, dtype(lam)
            wide = [part.astype(float) if isinstance(part, np.ndarray) else part for part in parts[:-1]]
            exact = np.sort(np.linalg.svd(Dense(*wide, float(dtype(lam))).a, compute_uv=False)[:600]) ** 2
            found = np.asarray(of(as_transfer_problem(*parts), 6), float)
            yield np.max(np.abs(found - exact[:6]) / np.sqrt(exact[:6] * exact[-1]))

    return errors
