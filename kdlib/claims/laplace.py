"""Checkers of the chapter *Characteristic values and fading memory*.

The references are dense NumPy: every H_k and M written out, inverted and decomposed whole, and integrals over time or
over the law of the weights by Gauss rules.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.claims import Check
from kdlib.claims.linear_system import _Dense
from kdlib.laplace import characteristic_matrix, output_transform, resolvent
from kdlib.memory import memory_kernel
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.trajectory import kernel_flow

_matrices = jax.jit(jax.vmap(characteristic_matrix, (None, 0)))
_resolvent, _transform, _memory = jax.jit(resolvent), jax.jit(output_transform), jax.jit(memory_kernel)

_PLACES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(16))


def _graded(start, panels):
    """Gauss nodes and weights on (0, start), on panels that halve towards 0."""
    ends = np.append(0.0, start * 2.0 ** -np.arange(panels)[::-1])
    lengths = np.diff(ends)
    nodes = ends[:-1, None] + lengths[:, None] * (0.5 + _PLACES)
    return nodes.ravel(), (lengths[:, None] * _WEIGHTS).ravel()


_ONE_END, _HALF = _graded(1.0, 44), _graded(0.5, 90)
# on (0, 1) with panels that halve towards both ends: nodes, how far each is from 1, weights
_BOTH_ENDS = tuple(map(np.concatenate, ((_HALF[0], 1 - _HALF[0]), (1 - _HALF[0], _HALF[0]), _HALF[1:] * 2)))


def _kernels(dense):
    """H_k, shape (m, n, n)."""
    return np.swapaxes(dense.blocks, 1, 2) @ dense.blocks


def _unit_rates(dense):
    """The eigenvalues of λ blkdiag(L_k L_kᵀ), ascending."""
    return np.sort(dense.lam * np.linalg.eigvalsh(dense.blocks @ np.swapaxes(dense.blocks, 1, 2)).ravel())


def _system_matrix(dense):
    """M."""
    return dense.A.T @ dense.A


def _modes(dense):
    """Eigenvalues of M, and its modes as rows.

    By the singular values of A: M itself would lose what is small beside its largest eigenvalue.
    """
    _, sigma, modes = np.linalg.svd(dense.A)
    return np.pad(sigma**2, (0, len(modes) - len(sigma))), modes


def _determinant(p, factors):
    """det(pI + QᵀQ) as sign and logarithm, for one Q or several, whose columns are counted; by singular values."""
    sigma = np.linalg.svd(factors, compute_uv=False)
    values = np.concatenate([p + sigma**2, np.full((*sigma.shape[:-1], factors.shape[-1] - sigma.shape[-1]), p)], -1)
    return np.prod(values / np.abs(values)), np.sum(np.log(np.abs(values)))


def _dense_matrix(dense, s):
    """T(s) by inverting every sI + λH_k whole, and these inverses."""
    kernels, n = _kernels(dense), dense.y.size
    inverses = np.linalg.inv(s * np.eye(n) + dense.lam * kernels)
    return np.eye(n) + np.einsum("k,kij,kjl->il", dense.b**2, kernels, inverses), inverses


def _frozen(dense):
    """f(t) - f(∞) of the frozen system, from the singular values of A."""
    end = dense.singular_flow([np.inf])[0]
    return lambda times: (dense.singular_flow(times) - end) @ dense.J.T


def laplace_image(problem, s, distance=None):
    """û(s) = T(s)⁻¹ Σ b_k (sI + λH_k)⁻¹ δ_k(0), and s ê(s) → y - f(∞) (chapter *Characteristic values*).

    The formula by dense inverses and `output_transform`, against a Gauss rule for ∫ e^{-st} u(t) dt over the flow from
    the singular values of A; at s = 0, T(0) against the projectors of the least-squares theory.

    Parameters
    ----------
    problem : TransferProblem
    s : complex, with a positive real part not smaller than its imaginary part
    distance : callable, optional
        Maps times (T,) to f(t) - f(∞), shape (T, n): another path than that of frozen kernels.
    """
    dense = _Dense.of(problem)
    label, tolerance = "laplace-image", 1e-8
    end = dense.singular_flow([np.inf])[0]
    offsets = -(dense.L.T @ end).reshape(dense.start.shape)
    matrix, inverses = _dense_matrix(dense, s)
    formula = np.linalg.solve(matrix, np.einsum("k,kij,kj->i", dense.b, inverses, offsets))
    times = 45 / s.real * _ONE_END[0]
    weights = 45 / s.real * _ONE_END[1] * np.exp(-s * times)
    integral = weights @ (_frozen(dense) if distance is None else distance)(times)
    limit = dense.b @ dense.start + dense.J @ end
    transform = np.asarray(_transform(problem, s)) - limit / s
    scale = max(dense.scale, np.linalg.norm(offsets))
    checks = [
        Check.compare(label, s * formula, s * integral, tolerance, scale, "formula, integral"),
        Check.compare(label, s * transform, s * integral, tolerance, scale, "output_transform, integral"),
    ]
    if dense.lam > 0 and distance is None:
        left, sigma, _ = np.linalg.svd(np.swapaxes(dense.blocks, 1, 2), full_matrices=False)
        left = left * (sigma > 1e-13 * sigma[:, :1])[:, None, :]
        projectors = left @ np.swapaxes(left, 1, 2)
        at_zero = np.eye(limit.size) + np.einsum("k,kij->ij", dense.b**2, projectors) / dense.lam
        carried = np.einsum("k,kij,kj->i", dense.b, projectors, dense.gap)
        library = np.asarray(_matrices(problem, jnp.zeros(1)))[0]
        error = np.linalg.solve(library, dense.residual - carried)
        checks.append(Check.compare(label, library, at_zero, tolerance, part="T(0)"))
        if dense.lam > 1e-8:  # beside an entry of 1/λ, 64 bits hold too little of the 1 on the diagonal
            checks.append(Check.compare(label, error, dense.y - limit, tolerance, dense.scale, "limit"))
    return Check.worst(*checks)


def resolvent_form(problem, s, vector):
    """(sI + M)⁻¹ by Woodbury over the units, and its action on c (chapter *Characteristic values*).

    `resolvent` against the modes of the dense M, relative to the norms of c and ``vector`` over the distance of s from
    the spectrum.
    """
    dense = _Dense.of(problem)
    values, modes = _modes(dense)
    size = np.min(np.abs(s + values))
    label, tolerance, checks = "resolvent-form", 1e-8, []
    for given, right, part in ((None, dense.A.T @ dense.g, "c"), (vector, np.ravel(vector), "vector")):
        computed = np.asarray(_resolvent(problem, s, given)).ravel()
        solved, scale = modes.T @ ((modes @ right) / (s + values)), np.linalg.norm(right) / size
        checks.append(Check.compare(label, computed, solved, tolerance, scale, part))
    return Check.worst(*checks)


def characteristic_determinants(problem, p):
    """det(pI + DC) and det(pI + M) are products over units times det T(p) (chapter *Characteristic values*).

    Determinants on both sides from dense singular values, T(p) from the library; as factors, so that the scale is 1.
    DC has the eigenvalues of C^½ D C^½.
    """
    dense = _Dense.of(problem)
    a, identity = np.sum(dense.b**2), np.eye(dense.start.size)
    along = np.kron(np.outer(dense.b, dense.b) / max(a, 1e-300), np.eye(dense.y.size))
    root = np.sqrt(dense.lam) * identity + (np.sqrt(dense.lam + a) - np.sqrt(dense.lam)) * along
    reduced = np.linalg.slogdet(np.asarray(_matrices(problem, jnp.asarray([p])))[0])
    own = np.sqrt(dense.lam) * dense.blocks
    label, tolerance, checks = "characteristic-determinants", 1e-8, []
    for whole, units, part in ((dense.L @ root, own, "features"), (dense.A, np.swapaxes(own, 1, 2), "weights")):
        sign, size = _determinant(p, whole)
        unit_signs, unit_sizes = _determinant(p, units)
        ratio = unit_signs * reduced.sign / sign * np.exp(unit_sizes + reduced.logabsdet - size)
        checks.append(Check.compare(label, ratio, 1.0 + 0j, tolerance, 1.0, part))
    return Check.worst(*checks)


def characteristic_values(problem, points=12):
    """Where T(p) loses rank, and how many of its eigenvalues are negative (chapter *Characteristic values*).

    T from the library on the real axis, at ``points`` places between the dense spectra of M and of its diagonal
    blocks: the number of its negative eigenvalues against the two counts; its order from place to place; and at the
    eigenvalue of M farthest from the blocks', if there is one apart, the number of its zeros against the multiplicity.
    """
    dense = _Dense.of(problem)
    rates, poles = np.linalg.eigvalsh(_system_matrix(dense)), _unit_rates(dense)
    largest, label = rates[-1], "characteristic-values"
    if largest == 0:  # no unit sees anything
        nothing = np.asarray(_matrices(problem, -jnp.ones(1)))[0]
        return Check.compare(label, nothing, np.eye(dense.y.size), 1e-8, part="no kernel")
    marks = np.sort(np.concatenate([rates, poles, [2 * largest]]))
    gaps = np.diff(marks) / largest
    chosen = np.sort(np.argsort(gaps)[-points:])
    chosen = np.resize(chosen[(gaps[chosen] > 1e-6) & (marks[chosen + 1] > 1e-6 * largest)], points)
    x = np.sort((marks[chosen] + marks[chosen + 1]) / 2)
    apart = np.min(np.abs(rates[:, None] - np.append(poles[poles > 1e-12 * largest], 0.0)[None, :]), axis=1)
    rate = rates[np.argmax(apart)]
    *matrices, singular = np.asarray(_matrices(problem, jnp.asarray(-np.append(x, rate))))
    negative = np.sum(np.linalg.eigvalsh(matrices) < 0, axis=1)
    counted = np.sum(rates[None, :] > x[:, None], axis=1) - np.sum(poles[None, :] > x[:, None], axis=1)
    checks = [Check.compare(label, negative, counted, 0.5, 1.0, "negative eigenvalues")]
    between = np.sum(poles[None, :] > x[:, None], axis=1)
    for i in np.flatnonzero(between[1:] == between[:-1]):
        drop = np.linalg.eigvalsh(matrices[i] - matrices[i + 1])
        checks.append(Check.at_most(label, drop, 0.0, 1e-8, np.abs(matrices[i]).max(), "order"))
    if np.max(apart) < 1e-6 * largest:  # every eigenvalue is a pole
        return Check.worst(*checks)
    values, vectors = np.linalg.eigh(singular)
    kernels = _kernels(dense)
    inverses = np.linalg.inv(dense.lam * kernels - rate * np.eye(dense.y.size))
    slopes = np.einsum("k,kij,kjl,kln->in", dense.b**2, inverses, kernels, inverses)
    # one Newton step: how far the zero of each eigenvalue of T is
    zeros = np.sum(np.abs(values) < 1e-8 * largest * np.einsum("ie,ij,je->e", vectors, slopes, vectors))
    same = np.sum(np.abs(rates - rate) < 1e-8 * largest)
    checks.append(Check.compare(label, zeros, same, 0.5, 1.0, "multiplicity"))
    return Check.worst(*checks)


def invisible_modes(problem, s, equal=(), silent=()):
    """I - T(s)⁻¹ holds the modes that the outputs see, and no others (chapter *Characteristic values*).

    T from the library against a dense sum over the modes of M; then the invisible modes of units that share a kernel,
    or that have no output weight, written down and put into M and J. With all units equal, T itself.

    Parameters
    ----------
    problem : TransferProblem
    s : complex
    equal, silent : tuple of int
        Units said to have one kernel, and output weights other than 0; units said to have output weight 0.
    """
    dense = _Dense.of(problem)
    M, J = _system_matrix(dense), dense.J
    values, modes = np.linalg.eigh(M)
    seen = J @ modes
    matrix, identity = np.asarray(_matrices(problem, jnp.asarray([s])))[0], np.eye(dense.y.size)
    label, tolerance = "invisible-modes", 1e-8
    visible = identity - np.linalg.inv(matrix)
    checks = [Check.compare(label, visible, (seen / (s + values)) @ seen.T, tolerance, 1.0, "sum over modes")]
    units = [(k, None) for k in silent] + [(equal[0], k) for k in equal[1:]]
    size = max(np.linalg.norm(M, 2), 1e-300)
    for first, second in units:
        left, sigma, _ = np.linalg.svd(dense.blocks[first], full_matrices=False)
        count = np.sum(sigma > 1e-10 * sigma[0]) if sigma[0] > 0 else 0
        z = np.zeros((dense.b.size, dense.blocks.shape[1], count))
        z[first] = left[:, :count]
        if second is not None:
            z[second] = -dense.b[first] / dense.b[second] * z[first]
        z = z.reshape(M.shape[0], count) / np.linalg.norm(z, axis=(0, 1))
        if count:
            moved = M @ z - dense.lam * z * sigma[:count] ** 2
            checks.append(Check.compare(label, moved, np.zeros_like(moved), tolerance, size, "rates λh"))
            checks.append(Check.compare(label, J @ z, np.zeros_like(J @ z), tolerance, np.sqrt(size), "unseen"))
    if len(equal) == dense.b.size:
        rows, sigma, _ = np.linalg.svd(dense.blocks[equal[0]].T, full_matrices=False)
        a, values = np.sum(dense.b**2), sigma**2
        one = rows * (a * values / (s + (a + dense.lam) * values)) @ rows.T
        checks.append(Check.compare(label, visible, one, tolerance, 1.0, "all kernels equal"))
    return Check.worst(*checks)


def fading_memory(problem, times, path=None):
    """The outputs' Volterra equation, and what its kernel forgets (chapter *Characteristic values*).

    Outputs from the singular values of A, put into the equation with dense kernels and a Gauss rule. Then
    `memory_kernel` against dense kernels, its order in time and its size against a/(eλt), and its integral over all
    times against P̄/λ.

    Parameters
    ----------
    problem : TransferProblem
    times : increasing sequence of positive numbers
    path : callable, optional
        Maps times (T,) to f(t), shape (T, n): another path than that of frozen kernels.
    """
    dense = _Dense.of(problem)
    label, tolerance, lam = "fading-memory", 1e-8, dense.lam
    times, weights = np.asarray(times, float), dense.b**2
    if path is None:
        path = lambda moments: dense.b @ dense.start + dense.singular_flow(moments) @ dense.J.T  # noqa: E731
    left, sigma, _ = np.linalg.svd(np.swapaxes(dense.blocks, 1, 2), full_matrices=False)
    sigma = np.where(sigma > 1e-13 * sigma[:, :1], sigma, 0.0)  # at rate zero nothing fades, in no time
    values = sigma**2
    places, rest, lengths = _BOTH_ENDS
    moments = times[:, None] * places
    errors = dense.y - path(np.append(times, moments))
    now, past = errors[: times.size], errors[times.size :].reshape(*moments.shape, -1)
    expected = []
    for t, error in zip(times, past, strict=True):
        fading = values[:, :, None] * np.exp(-lam * t * values[:, :, None] * rest)
        seen = np.swapaxes(left, 1, 2) @ error.T * fading @ (t * lengths)
        closed = -np.expm1(-lam * values * t) * np.einsum("kir,ki->kr", left, dense.gap)
        told = dense.b[:, None] * closed + weights[:, None] * seen
        expected.append(dense.residual - np.einsum("kir,kr->i", left, told))
    checks = [Check.compare(label, now, np.stack(expected), tolerance, dense.feature_scale, "equation")]
    slowest = np.min(values[sigma > 1e-13 * sigma.max()], initial=np.inf)
    if lam == 0 or not np.isfinite(slowest):
        return Check.worst(*checks)
    rule, shares = _ONE_END
    horizon = 45 / (lam * slowest)
    kernels = np.asarray(_memory(problem, np.append(times, horizon * rule)))
    fading = values * np.exp(-lam * values * times[:, None, None])
    whole = np.einsum("k,kir,tkr,kjr->tij", weights, left, fading, left)
    scale = max(np.max(weights @ values), 1e-300)
    drops = np.linalg.eigvalsh(np.diff(kernels[: times.size], axis=0))
    largest = np.linalg.eigvalsh(kernels[: times.size])[:, -1]
    kept = left * (sigma > 0)[:, None, :]
    mean = np.einsum("k,kir,kjr->ij", weights, kept, kept)
    total = lam * horizon * np.einsum("q,qij->ij", shares, kernels[times.size :])
    checks += [
        Check.compare(label, kernels[: times.size], whole, tolerance, scale, "kernel"),
        Check.at_most(label, drops, 0.0, tolerance, scale, "decreasing"),
        Check.at_most(label, largest, np.sum(weights) / (np.e * lam * times), tolerance, part="size"),
        Check.compare(label, total, mean, tolerance, max(np.sum(weights), 1e-300), "integral"),
    ]
    return Check.worst(*checks)


@functools.cache
def _nodes(dim):
    """Gauss-Hermite nodes and weights for w ~ N(0, I), in one or two dimensions."""
    z, weights = np.polynomial.hermite_e.hermegauss(40 if dim == 1 else 10)
    weights = weights / weights.sum()
    if dim == 1:
        return z[:, None], weights
    return np.stack(np.meshgrid(z, z), -1).reshape(-1, 2), np.outer(weights, weights).ravel()


def _memory_of(blocks, weights, lam, times):
    """Σ weights H e^{-λHt} over units with the L of ``blocks``, shape (..., T, n, n); one student, or several."""
    left, sigma, _ = np.linalg.svd(np.swapaxes(blocks, -1, -2), full_matrices=False)
    values, left = (sigma**2)[..., None, :, :], np.swapaxes(left, -1, -2)
    fading = weights[..., None, :, None] * values * np.exp(-lam * values * times[:, None, None])
    projectors = left[..., :, None] * left[..., None, :]
    *students, m, rank, n, _ = projectors.shape
    kernels = fading.reshape(*students, -1, m * rank) @ projectors.reshape(*students, m * rank, n * n)
    return kernels.reshape(*students, -1, n, n)


def _blocks(weights, x):
    """L_k of tanh units, shape (..., m, d, n)."""
    return x.T / np.cosh(weights @ x.T)[..., None, :] ** 2


def infinite_width_memory(x, y, dual, lam, times, pairs, seed, signs=None):
    """K(t) of wide antisymmetric tanh students tends to its mean at rate m^(-1/2), and so do the outputs.

    The mean over w is a Gauss-Hermite rule in one or two dimensions. Sixteen students, by dense kernels, against
    the bound on the mean distance of K; one of them, by `memory_kernel` and `kernel_flow`, against the bound that its
    own distance of K gives for its outputs (chapter *Characteristic values*).

    Parameters
    ----------
    x, y, dual : arrays of shapes (n, d), (n,), (n,); d is 1 or 2
    lam : float
    times : increasing array that starts at 0
    pairs : int
        Half the number of units.
    seed : int
    signs : callable, optional
        Maps weights (pairs, d) to the a_k of one half; all are 1 by default.
    """
    rng = np.random.default_rng(seed)
    signs = (lambda w: np.ones(len(w))) if signs is None else signs
    (n, d), label = x.shape, "infinite-width-memory"
    points, shares = _nodes(d)
    limit = _memory_of(_blocks(points, x), shares, lam, times)
    students = rng.normal(size=(16, pairs, d))
    squares = np.stack([signs(w) ** 2 for w in students])
    kernels = _memory_of(_blocks(students, x), squares / pairs, lam, times)
    distances = np.linalg.norm(kernels - limit, axis=(2, 3)).max(axis=1)
    size, largest = np.max(squares), np.linalg.norm(x, 2) ** 2
    horizon, rank = times[-1], min(n, d)
    bound = size * largest * np.sqrt(rank) * (1 + lam * largest * horizon) / np.sqrt(pairs)
    checks = [Check.at_most(label, np.mean(distances), bound, 1e-8, part="kernel")]

    w, b = np.tile(students[0], (2, 1)), np.append(signs(students[0]), -signs(students[0]))
    student = TwoLayerNetwork(w, b, "tanh")
    blocks = _blocks(w, x)
    lead = student.output_weights[:, None] * np.einsum("kdi,kdj,j->ki", blocks, blocks, dual)
    problem = TransferProblem(student, x, y, student.features(x) + lead, lam=lam)
    outputs = np.asarray(kernel_flow(problem, times).outputs)
    gap = np.linalg.norm(np.asarray(_memory(problem, times)) - limit, 2, axis=(1, 2))
    root, units = np.sqrt(shares), _blocks(points, x)
    led = root[:, None] * np.einsum("kdi,kdj,j->ki", units, units, dual)
    wide = _Dense(units, root, y, np.zeros_like(led), led, lam)
    end = wide.singular_flow(times) @ wide.J.T
    error = np.maximum.accumulate(np.linalg.norm(y - end, axis=1))
    allowed = 2 * np.linalg.norm(dual) + times * error
    allowed = (1 + size * largest * times) * allowed * np.maximum.accumulate(gap)
    apart = np.linalg.norm(outputs - end, axis=1)
    checks.append(Check.at_most(label, apart, allowed, 1e-6, np.linalg.norm(y) + np.linalg.norm(dual), "outputs"))
    return Check.worst(*checks)
