"""Checkers of the chapter *How fast*: rates, time scales, times and steps of the kernel flow.

The references are dense: singular values of A and of every L_k, formed whole, and gradient descent step by step.
"""

import numpy as np

from kdlib.bounds.rates import energy_decay as energy_bound
from kdlib.bounds.rates import slow_amplitude_bound, start_of_energy
from kdlib.characteristic import count_above
from kdlib.claims import Check
from kdlib.claims.limit import _least_squares_end
from kdlib.claims.linear_system import _Dense
from kdlib.problem import TransferProblem
from kdlib.spectrum import decay_rates, largest_rate
from kdlib.spectrum import slow_modes as library_modes
from kdlib.trajectory import kernel_flow

_SMALLEST = 1e-12  # singular values below this fraction of the largest count as zero


class _Spectra:
    """Dense spectra of a problem: s² of all units, rates and modes of M, eigenvalues of H̄; all ascending."""

    def __init__(self, problem):
        self.problem, self.dense = problem, _Dense.of(problem)
        sigma = np.linalg.svd(self.dense.blocks, compute_uv=False)
        self.units = np.sort(sigma[sigma > _SMALLEST * sigma[:, :1]] ** 2)
        self.A, self.J = self.dense.A, self.dense.J
        self.left, sigma, right = np.linalg.svd(self.A, full_matrices=False)
        kept = slice(len(self.units)) if self.dense.lam > 0 else sigma > _SMALLEST * sigma[0]
        self.rates, self.modes = sigma[kept][::-1] ** 2, right[kept][::-1]
        sigma = np.linalg.svd(self.J, compute_uv=False)
        self.outputs = np.sort(sigma[sigma > _SMALLEST * sigma[0]] ** 2)

    @property
    def blocks(self):
        """λs², the rates that the units have alone."""
        return self.dense.lam * self.units

    @property
    def limit(self):
        """v_∞, by least squares over all weights."""
        return _least_squares_end(self.problem)[1]

    def other_feedback(self, backward):
        """Rates with other weights on the way back: non-zero eigenvalues of L(λI + b'bᵀ)Lᵀ, by real part."""
        values = np.linalg.eigvals(self.dense.L @ self.dense.C(backward) @ self.dense.L.T).real
        return np.sort(values[np.abs(values) > 1e-9 * np.abs(values).max()])


def rate_from_below(problem, backward=None):
    """The slowest non-zero rate is at least λ times the least non-zero eigenvalue of the H_k (chapter *How fast*).

    Singular values of the L_k one by one, against those of the whole A; and `decay_rates` against the latter.

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    backward : array, shape (m,), optional
        Weights that carry the error back to the units in the place of b: a broken hypothesis.
    """
    spectra = _Spectra(problem)
    label, tolerance, least = "rate-from-below", 1e-7, spectra.blocks[0]
    if backward is not None:
        return Check.at_most(label, least, spectra.other_feedback(backward)[0], tolerance, least, "feedback")
    return Check.worst(
        Check.at_most(label, least, spectra.rates[0], tolerance, least, "bound"),
        Check.compare(label, decay_rates(problem, 1)[0], spectra.rates[0], tolerance, part="decay_rates"),
    )


def interlacing(problem, backward=None):
    """At most rank H̄ rates of the units cross a threshold, upwards (chapter *How fast*).

    Sorted singular values of A between those of the L_k; and Sylvester's inertia by `count_above` against counting.

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    backward : array, shape (m,), optional
        Weights that carry the error back to the units in the place of b: a broken hypothesis.
    """
    spectra = _Spectra(problem)
    label, tolerance, blocks = "interlacing", 1e-7, spectra.blocks
    rates = spectra.rates if backward is None else spectra.other_feedback(backward)
    if not rates.size:  # no unit moves, and nothing crosses
        return Check.compare(label, [count_above(problem, 1.0)], [0], 0.01, 1.0, "inertia")
    ahead, size = len(spectra.outputs), min(len(rates), len(blocks))
    checks = [Check.at_most(label, blocks[:size] / rates[:size], 1.0, tolerance, 1.0, "from below")]
    if len(blocks) > ahead:
        above = rates[: len(blocks) - ahead] / blocks[ahead:]
        checks.append(Check.at_most(label, above, 1.0, tolerance, 1.0, "from above"))
    # thresholds in the middle of the widest gaps, where no rounding decides
    edges = np.sqrt(np.append(rates[:1] / 4, rates) * np.append(rates, 4 * rates[-1:])) if rates[0] > 0 else rates
    widest = np.argsort(np.append(rates, 4 * rates[-1]) / np.append(rates[0] / 4, rates))[-2:]
    counts = [count_above(problem, abs(edge)) for edge in edges[widest]]
    counted = [int(np.sum(rates > abs(edge))) for edge in edges[widest]]
    checks.append(Check.compare(label, counts, counted, 0.01, 1.0, "inertia"))
    return Check.worst(*checks)


def energy_decay(problem, times):
    """With every H_k ⪰ hI the energy decays at 2λh at least, and it bounds outputs and features (chapter *How fast*).

    The dense flow's energies, outputs and features, against the bounds; the library's bound against the formula.

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0; n > d, or a ReLU unit that is off somewhere, is a broken hypothesis.
    times : sequence of finite numbers
    """
    spectra = _Spectra(problem)
    dense, times = spectra.dense, np.asarray(times, float)
    v, end = dense.singular_flow(times), spectra.limit
    energies = 0.5 * np.sum((dense.g - v @ spectra.A.T) ** 2, axis=1)
    a, start = np.sum(dense.b**2), 0.5 * np.sum(dense.g**2)
    least = dense.lam * np.sum((dense.y - dense.b @ (dense.start + dense.gap)) ** 2) / (2 * (a + dense.lam))
    allowed = np.exp(-2 * spectra.blocks[0] * times) * (start - least)
    features, outputs = (np.sum(((v - end) @ matrix) ** 2, axis=1) for matrix in (dense.L, spectra.J.T))
    label, tolerance = "energy-decay", 1e-8
    return Check.worst(
        Check.at_most(label, energies - least, allowed, tolerance, start, "energy"),
        Check.at_most(label, outputs, 2 * a / (a + dense.lam) * (energies - least), tolerance, start, "outputs"),
        Check.at_most(label, dense.lam * features, 2 * (energies - least), tolerance, start, "features"),
        Check.compare(label, energy_bound(problem, times).value, least + allowed, tolerance, start, "library"),
    )


def equal_kernels(problem, times):
    """With one kernel H for all units, outputs decay at (a + λ)eig(H), and so by steps (chapter *How fast*).

    `kernel_flow` and `decay_rates`, against the exponential of H and the Kronecker spectrum; and gradient descent, step
    by step over all weights, at half the edge of stability, against powers of I - H/λ_max(H).

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0 and some b_k ≠ 0. Units of different kernels are a broken hypothesis.
    times : sequence of numbers, inf allowed
    """
    dense, times = _Dense.of(problem), np.asarray(times, float)
    a, label, tolerance = np.sum(dense.b**2), "equal-kernels", 1e-7
    # by singular values: those of H itself would be off by the rounding of its largest one
    _, sigma, rows = np.linalg.svd(dense.blocks[0])
    sigma = np.where(sigma > _SMALLEST * sigma[0], sigma, 0.0)
    vectors, values = rows[::-1].T, np.append(sigma**2, np.zeros(len(rows) - len(sigma)))[::-1]
    # the limit by the interpolation along the range of H, nothing beyond it
    seen = vectors[:, values > 0]
    towards = (a * dense.residual + dense.lam * dense.b @ dense.gap) / (a + dense.lam)
    outputs = dense.b @ dense.start
    end = outputs + seen @ (seen.T @ towards)
    share = vectors.T @ (outputs - end)
    # no rate of a problem in 64 bits outlasts 1e200, and 0 times it is 0
    flow = end + np.exp(-(a + dense.lam) * np.outer(np.minimum(times, 1e200), values)) * share @ vectors.T

    A, g = dense.A, dense.g
    edge = np.linalg.norm(A, 2) ** 2
    v, path = np.zeros(A.shape[1]), []
    for _ in range(6):
        path.append(outputs + dense.J @ v)
        v = v + A.T @ (g - A @ v) / edge
    powers = (1 - values / values[-1]) ** np.arange(6)[:, None]
    positive = values[values > 0]
    rates = np.sort(np.concatenate([(a + dense.lam) * positive, *[dense.lam * positive] * (dense.b.size - 1)]))
    return Check.worst(
        Check.compare(label, kernel_flow(problem, times).outputs, flow, tolerance, dense.scale, "outputs"),
        Check.compare(label, path, end + powers * share @ vectors.T, tolerance, dense.scale, "steps"),
        Check.compare(label, decay_rates(problem, len(rates)) / rates, np.ones_like(rates), tolerance, part="rates"),
    )


def rate_crossover(problem):
    """The slowest rate beats that of λ = 0 for λ ≥ κ/h, and loses to it for λ < κ/s² (chapter *How fast*).

    Here λ is taken from the problem's own kernels, on both sides of both thresholds; the slowest rate by `decay_rates`,
    against the least eigenvalue κ of a dense H̄.
    """
    spectra = _Spectra(problem)
    kappa, ahead = spectra.outputs[0], len(spectra.outputs)
    label, tolerance, checks = "rate-crossover", 1e-7, []

    def slowest(lam):
        changed = TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return float(decay_rates(changed, 1)[0])

    checks.append(Check.at_most(label, kappa, slowest(kappa / spectra.units[0]), tolerance, kappa, "faster"))
    if len(spectra.units) > ahead:
        lam = 0.9 * kappa / spectra.units[ahead]
        checks.append(Check.at_most(label, slowest(lam), 0.9 * kappa, tolerance, kappa, "slower"))
    return Check.worst(*checks)


def two_time_scales(problem):
    """Slow rates are λν within the factor 1 - λβ/κ, fast ones eig(H̄) within λβ (chapter *How fast*).

    `decay_rates` of the problem, against singular values of J and of the L_k on ker J.
    """
    spectra = _Spectra(problem)
    dense, label, tolerance = spectra.dense, "two-time-scales", 1e-6
    rates = np.asarray(decay_rates(problem, len(spectra.units)))
    fast, beta, kappa = spectra.outputs, spectra.units[-1], spectra.outputs[0]
    slow = len(rates) - len(fast)
    free = np.linalg.svd(spectra.J)[2][len(fast) :].T
    # ker J holds ker L too, where nothing moves: the largest values are those within range(M)
    nu = np.sort(np.linalg.svd(dense.L.T @ free, compute_uv=False) ** 2)[::-1][:slow][::-1]
    ratio, most = dense.lam * beta / kappa, fast + dense.lam * beta
    scale = max(fast[-1], 1e-4 * dense.lam * beta)  # a sum with λβ is rounded to 1e-10 of it at best
    checks = [
        Check.at_most(label, fast - rates[slow:], 0.0, tolerance, fast[-1], "fast, from below"),
        Check.at_most(label, rates[slow:] - most, 0.0, tolerance, scale, "fast, from above"),
    ]
    if slow:
        share = rates[:slow] / (dense.lam * nu)
        checks.append(Check.at_most(label, share, 1.0, tolerance, 1.0, "slow, from above"))
        checks.append(Check.at_most(label, 1 - ratio - share, 0.0, tolerance, 1.0, "slow, from below"))
    return Check.worst(*checks)


def small_transfer_amplitude(problem, times, extra=0):
    """The slow modes contribute at most λβ‖v_∞‖/√κ to the outputs, and v_∞ stays bounded (chapter *How fast*).

    Dense modes and the least-squares limit, against the bounds; and the library's amplitudes against the dense ones.

    Parameters
    ----------
    problem : TransferProblem
        With λβ < κ.
    times : sequence of finite numbers
    extra : int
        How many fast modes to count as slow: a broken hypothesis.
    """
    spectra = _Spectra(problem)
    dense, label, tolerance = spectra.dense, "small-transfer-amplitude", 1e-7
    slow = len(spectra.units) - len(spectra.outputs) + extra
    kappa, beta, end = spectra.outputs[0], spectra.units[-1], spectra.limit
    size, a = np.linalg.norm(end), np.sum(dense.b**2)
    _, sigma, right = np.linalg.svd(dense.blocks, full_matrices=False)
    right = right * (sigma > _SMALLEST * sigma[:, :1])[:, :, None]
    carried = np.einsum("krn,krj,kj->kn", right, right, dense.gap)
    mean = np.linalg.eigvalsh(np.einsum("k,krn,krj->nj", dense.b**2, right, right))
    least = mean[mean > 1e-10 * mean[-1]][0]
    error = np.linalg.norm(dense.residual - dense.b @ carried)
    longest = (np.linalg.norm(carried) + np.sqrt(a) * error / least) / np.sqrt(spectra.units[0])
    checks = [Check.at_most(label, size, longest, tolerance, longest, "length of v_∞")]
    if slow:
        modes, rates = spectra.modes[:slow], spectra.rates[:slow]
        amplitudes = -(modes @ end)[:, None] * (modes @ spectra.J.T)
        parts = np.exp(-np.outer(times, rates)) @ amplitudes
        bound = dense.lam * beta / np.sqrt(kappa) * size
        library = np.exp(-np.outer(times, rates)) @ np.asarray(library_modes(problem, slow).amplitudes)
        checks.append(Check.at_most(label, np.linalg.norm(parts, axis=1), bound, tolerance, bound, "amplitude"))
        checks.append(Check.compare(label, library, parts, 100 * tolerance, dense.feature_scale, "library"))
    return Check.worst(*checks)


def time_to_reach(problem, accuracy, shrink=1.0):
    """A tolerance coarser than the slow amplitude is met on the time scale of H̄, any other at λs² (chapter *How fast*).

    The dense flow at both times, against the tolerance; the library's ε₀ and S against dense ones.

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    accuracy : float
        δ relative to max(‖y‖, ‖f(0)‖).
    shrink : float
        What the times are multiplied by: below 1, a broken hypothesis.
    """
    spectra = _Spectra(problem)
    dense, end = spectra.dense, spectra.limit
    kappa, beta = spectra.outputs[0], spectra.units[-1]
    tolerance, start = accuracy * dense.scale, np.linalg.norm(spectra.A @ end)
    amplitude = dense.lam * beta / np.sqrt(kappa) * np.linalg.norm(end)
    times = [max(np.log(start / tolerance) / spectra.blocks[0], 0.0)]
    if tolerance > amplitude:
        times.append(max(np.log(start / (tolerance - amplitude)) / kappa, 0.0))
    reached = np.linalg.norm((dense.singular_flow(shrink * np.array(times)) - end) @ spectra.J.T, axis=1)
    label = "time-to-reach"
    return Check.worst(
        Check.at_most(label, reached, tolerance, 1e-6, tolerance, "outputs"),
        Check.compare(label, start_of_energy(problem), start, 1e-6, part="energy at the start"),
        Check.compare(label, slow_amplitude_bound(problem), amplitude, 1e-6, part="slow amplitude"),
    )


def iterations(problem, stretch=1.0):
    """Gradient descent contracts by q at each step, and λ_max(M) grows with λ (chapter *How fast*).

    Descent step by step over all weights, against the powers of q for both step sizes; the library's λ_max against the
    dense one and its two-sided bound.

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    stretch : float
        What the steps are multiplied by, q unchanged: a broken hypothesis.
    """
    spectra = _Spectra(problem)
    dense, end, A = spectra.dense, spectra.limit, spectra.A
    low, high = spectra.rates[0], spectra.rates[-1]
    a, beta, tangent = np.sum(dense.b**2), spectra.units[-1], spectra.outputs[-1]
    start = np.linalg.norm(A @ end)
    label, tolerance, checks = "iterations", 1e-8, []
    for step, q in ((1 / high, 1 - low / high), (2 / (high + low), (high - low) / (high + low))):
        v, energies, outputs = np.zeros_like(end), [], []
        for _ in range(12):
            v = v + stretch * step * (A.T @ (dense.g - A @ v))
            energies.append(np.linalg.norm(A @ (v - end)))
            outputs.append(np.linalg.norm(spectra.J @ (v - end)))
        allowed = q ** np.arange(1, 13) * start
        checks.append(Check.at_most(label, energies, allowed, tolerance, start, "energy"))
        checks.append(Check.at_most(label, outputs, energies, tolerance, start, "outputs"))
    most = tangent + dense.lam * beta
    checks += [
        Check.compare(label, largest_rate(problem).value, high, tolerance, part="largest rate"),
        Check.at_most(label, high, most, tolerance, high, "largest rate from above"),
        Check.at_most(label, most, (a + dense.lam) * beta, tolerance, high, "from above, without H̄"),
        Check.at_most(label, max(tangent, dense.lam * beta), high, tolerance, high, "largest rate from below"),
    ]
    return Check.worst(*checks)
