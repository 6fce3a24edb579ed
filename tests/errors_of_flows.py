"""The relative errors of kernels, flows and the Laplace domain, each function named after kdlib's.

``test_stated_accuracy.py`` holds them against what the docstrings state.
"""

import itertools
import warnings

import jax
import mpmath as mp
import numpy as np
import scipy.integrate

import kdlib as kd
from tests.cases import KINDS, LAMBDAS, SPREAD, apart, floats, precisely
from tests.dense import Dense
from tests.precise import DIGITS, Precise, applied
from tests.problems import random_problem
from tests.test_accuracy import DECIDABLE, extreme_problem


def along(flow, case, precise, times, scale, clock=1.0):
    """The outputs of a flow at all times, on the data and at other inputs."""
    path = flow(case.problem, times)
    assert path.converged
    ends = [precise.displacement(clock * float(t)) for t in times]
    for v, outputs in zip(ends, path.outputs):
        yield apart(outputs, precise.outputs(v), scale)
    if case.spread <= SPREAD[case.dtype]:
        yield from elsewhere(flow, case, precise, times, scale, ends)


def elsewhere(flow, case, precise, times, scale, ends):
    """The outputs at inputs drawn as the data are, relative to their own size where that is larger."""
    (m, d), n, seed = case.arrays[0].shape, len(case.arrays[3]), (KINDS.index(case.kind), LAMBDAS.index(case.lam), 1)
    at = extreme_problem((m, n, d), case.arrays[2], case.lam, case.kind, case.dtype, *seed)[3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = flow(case.problem, times, at=at)
    # outputs far above the scale, by which convergence is judged
    assert path.converged or case.kind == "mixed"
    start = precise.readout(at)[0]
    for v, outputs in zip(ends, path.outputs if path.converged else ()):
        exact = precise.outputs(v, at)
        yield apart(outputs, exact, max(scale, float(mp.norm(start)), np.linalg.norm(exact)))


def flow(of):
    return lambda case: along(of, case, case.precise, case.times(), case.scale)


def soft(case):
    """The problem without transfer that has the soft labels, in 50 digits, and its scale."""
    with mp.workdps(DIGITS):
        precise, lam = case.precise, case.precise.lam
        teacher = sum(
            (b * (gap + features) for b, gap, features in zip(precise.b, precise.gaps, rows(precise))),
            mp.zeros(precise.n, 1),
        )
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
    yield from along(kd.output_flow, case, exact, times, scale, 1 + float(case.precise.lam))


def output_fixed_point(case):
    exact, _, scale = soft(case)
    if exact.rate_spread >= DECIDABLE[case.dtype]:
        yield apart(kd.output_fixed_point(case.problem).outputs, exact.outputs(exact.displacement(np.inf)), scale)


def tangent_kernel(case):
    exact = floats(case.precise.tangent)
    yield apart(kd.tangent_kernel(case.problem.student, case.arrays[3]), exact)


def unit_kernels(case):
    for k, found in enumerate(kd.unit_kernels(case.problem.student, case.arrays[3])):
        yield apart(found, floats(case.precise.unit_kernel(k)))


def memory_kernel(case):
    size, lam = float(mp.norm(case.precise.tangent)), case.precise.lam
    times = case.times(np.inf)
    for t, found in zip(times, kd.memory_kernel(case.problem, times)):

        def forgotten(h, t=t):
            return h if lam == 0 else (0 if np.isinf(t) else h * mp.exp(-lam * h * mp.mpf(float(t))))

        yield apart(found, floats(case.precise.over_units(forgotten)), size)


def points(case):
    """Places of the Laplace plane, relative to the fastest rate, as NumPy numbers of the precision."""
    real, complex_ = case.dtype, np.result_type(case.dtype, np.complex64).type
    return [real(0.7 * case.rate), real(1e-3 * case.rate), complex_((-0.3 + 0.2j) * case.rate)]


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
    vector = np.cos(np.arange(len(case.precise.force))).astype(case.dtype)
    # φ - f(0) comes with the rounding of its parts
    gap = float(mp.sqrt(mp.fsum(mp.norm(part) ** 2 for part in case.precise.gaps)))
    for s in points(case):
        exact = floats(solved(case, s))
        yield apart(np.ravel(kd.resolvent(case.problem, s)), exact, np.linalg.norm(exact) * max(1.0, case.size / gap))
        with mp.workdps(DIGITS):
            given = mp.matrix([mp.mpf(float(part)) for part in vector])
            exact = case.precise.modes.T * given
            for i, rate in enumerate(case.precise.rates):
                exact[i] /= precisely(s) + rate
            exact = floats(case.precise.modes * exact)
        found = np.ravel(kd.resolvent(case.problem, s, vector.reshape(case.arrays[0].shape)))
        yield apart(found, exact, np.linalg.norm(vector) / abs(s))


def output_transform(case):
    for s in points(case):
        with mp.workdps(DIGITS):
            exact = case.precise.start + case.precise.outputs_map * solved(case, s)
        yield apart(kd.output_transform(case.problem, s) * s, floats(exact), case.scale)


def limit_kernel(dtype):
    for _, x, error in _limit_errors(dtype):
        yield np.max(error[: len(x) - 1, : len(x) - 1])


def limit_kernel_of_parallels(dtype):
    for activation, x, error in _limit_errors(dtype):
        # erf sees the angle of long rows, of which rounding leaves nothing
        radii = np.linalg.norm(x.astype(float), axis=1) if activation == "erf" else np.zeros(len(x))
        yield np.max(error[-1] / (1 + radii[-1] * radii))


def _limit_errors(dtype):
    """Inputs, the last all but parallel to the first, and errors relative to the root of the diagonal's products."""
    for seed, activation in itertools.product(range(12), ("relu", "erf", "tanh")):
        rng = np.random.default_rng(seed)
        if activation == "tanh" and seed >= 4:
            continue  # the reference takes its time
        x = rng.normal(size=(5, 3)) * (0.5 if activation == "tanh" else 10.0 ** rng.uniform(-6, 6, size=(5, 1)))
        x[1], x[2] = x[0], -2 * x[0]
        x[4] = x[0] * (1 + np.sqrt(np.finfo(dtype).eps) * rng.normal(size=3))
        x = x.astype(dtype)
        found, exact = np.asarray(kd.limit_kernel(x, activation=activation), float), _limit(x.astype(float), activation)
        size = np.sqrt(np.diag(exact))
        yield activation, x, np.abs(found - exact) / np.outer(size, size)


def _limit(x, activation):
    """E[σ'(w·x) σ'(w·x')] x·x': closed forms in many digits, and for tanh the trapezoidal rule in the plane."""
    n = len(x)
    if activation == "tanh":
        z = np.linspace(-8.5, 8.5, 501)
        first, second = np.meshgrid(z, z, indexing="ij")
        density = np.exp(-(first**2 + second**2) / 2) * (z[1] - z[0]) ** 2 / (2 * np.pi)
        kernel = np.zeros((n, n))
        for i, j in itertools.product(range(n), repeat=2):
            r, q = np.linalg.norm(x[i]), np.linalg.norm(x[j])
            cosine = np.clip(x[i] @ x[j] / (r * q), -1, 1)
            there = q * (cosine * first + np.sqrt(1 - cosine**2) * second)
            kernel[i, j] = x[i] @ x[j] * np.sum(density / np.cosh(r * first) ** 2 / np.cosh(there) ** 2)
        return kernel
    with mp.workdps(DIGITS):
        rows = mp.matrix(x.tolist())
        gram, kernel = rows * rows.T, np.zeros((n, n))
        for i, j in itertools.product(range(n), repeat=2):
            r, q, g = gram[i, i], gram[j, j], gram[i, j]
            if activation == "erf":
                kernel[i, j] = 4 / mp.pi * g / mp.sqrt((1 + 2 * r) * (1 + 2 * q) - 4 * g**2)
            else:
                angle = mp.acos(max(mp.mpf(-1), min(mp.mpf(1), g / mp.sqrt(r * q))))
                kernel[i, j] = g * (mp.pi - angle) / (2 * mp.pi)
    return kernel


def small_problems(dtype):
    """Two dozen networks to train, as arrays."""
    for seed in range(24):
        weights, signs, activation, x, y, phi, _ = random_problem((4, 3, 2), "tanh", seed)
        lam = [0.0, 1e-12, 0.5, 5.0][seed % 4]
        yield tuple(part.astype(dtype) for part in (weights, signs, x, y, phi)), activation, dtype(lam)


def velocity(weights, b, x, y, phi, lam):
    features = np.tanh(weights @ x.T)
    residuals = b[:, None] * (y - b @ features) + lam * (phi - features)
    return ((1 - features**2) * residuals) @ x


def trained(dtype, follow, exactly):
    """Errors of the outputs of a trained network, relative to max(‖y‖, ‖f(0)‖)."""
    for parts, activation, lam in small_problems(dtype):
        weights, signs, x, y, phi = parts
        problem = kd.TransferProblem(kd.TwoLayerNetwork(weights, signs, activation), x, y, phi, lam=lam)
        weights, signs, x, y, phi = (part.astype(float) for part in parts)
        b = signs / 2
        end = exactly(weights, b, x, y, phi, float(lam))
        yield apart(follow(problem), b @ np.tanh(end @ x.T), float(problem.scale))


def integrated(weights, *others):
    """The weights at time 3."""
    flow = scipy.integrate.solve_ivp(
        lambda _, w: velocity(w.reshape(weights.shape), *others).ravel(), (0, 3), weights.ravel(),
        method="DOP853", rtol=1e-12, atol=1e-13,
    )  # fmt: skip
    return flow.y[:, -1].reshape(weights.shape)


def gradient_flow(dtype):
    yield from trained(dtype, lambda problem: kd.gradient_flow(problem, np.array([3.0], dtype)).outputs[0], integrated)


def output_gradient_flow(dtype):
    def softly(weights, b, x, y, phi, lam):
        return integrated(weights, np.sqrt(1 + lam) * b, x, (y + lam * b @ phi) / np.sqrt(1 + lam), phi, 0.0)

    flow = kd.output_gradient_flow
    yield from trained(dtype, lambda problem: flow(problem, np.array([3.0], dtype)).outputs[0], softly)


def gradient_descent(dtype):
    def descend(weights, *others):
        for _ in range(50):
            weights = weights + float(dtype(0.1)) * velocity(weights, *others)
        return weights

    yield from trained(dtype, lambda problem: kd.gradient_descent(problem, dtype(0.1), [50]).outputs[0], descend)


def infinite_width_flow(dtype):
    """Against the student of the units that are drawn."""
    for seed in range(6):
        _, _, _, x, y, phi, _ = random_problem((4, 3, 2), "tanh", seed)
        x, y, dual, lam = x.astype(dtype), y.astype(dtype), phi[0].astype(dtype), dtype([0.0, 0.5, 5.0][seed % 3])
        key, times = jax.random.key(seed), np.array([0.3, 3.0, 1e3], dtype)
        drawn = np.asarray(kd.TwoLayerNetwork.init(key, 16, 2).weights, float)
        slopes, b = 1 / np.cosh(drawn @ x.T.astype(float)) ** 2, np.full(16, 0.25)
        lead = b[:, None] * slopes * ((slopes * dual) @ (x.astype(float) @ x.T.astype(float)))
        start = b @ np.tanh(drawn @ x.T)
        dense = Dense(drawn, np.ones(16), "tanh", x.astype(float), y + start, np.tanh(drawn @ x.T) + lead, float(lam))
        flow = kd.infinite_width_flow(x, y, dual, times, lam=lam, key=key, samples=16)
        for t, outputs in zip(times, flow.outputs):
            yield apart(outputs, dense.outputs(dense.displacement(float(t))) - start, dense.scale)
