"""Checkers of the chapter *Experiments*: teachers made of kernels, alignment, and what a teacher's flaws can do.

The library draws embeddings, makes teachers and follows students by Krylov runs. The references integrate over the
random features by the trapezoidal rule, solve least squares over all coefficients, and exponentiate dense matrices.
"""

import dataclasses

import jax
import numpy as np

from kdlib import teachers
from kdlib.claims import Check
from kdlib.claims.linear_system import _at_start, _Dense
from kdlib.filters import alignment
from kdlib.problem import TransferProblem
from kdlib.trajectory import kernel_flow

_DRAWS = 1024
_GRID = np.linspace(-9.0, 9.0, 49)
_WEIGHTS = np.exp(-(_GRID**2) / 2) * (_GRID[1] - _GRID[0]) / np.sqrt(2 * np.pi)
_PHASES = 2 * np.pi * np.arange(5) / 5  # exact for the mean of a trigonometric polynomial of degree 4


def random_fourier_features(student, x, y, seed, bandwidth, ridge, phases=_PHASES):
    """Random cosines average to a Gaussian kernel, with a known variance, and so does their machine (*Experiments*).

    Mean and variance of a product for the first and last input by the trapezoidal rule over directions and phases,
    against their formulas; the sample mean and variance of the library's draws within seven standard errors; the
    machine of the library beside ridge regression with the Gaussian kernel. Other ``phases`` are a broken hypothesis.
    """
    label, x, n = "random-fourier-features", np.asarray(x), len(x)
    key, b = jax.random.key(seed), np.asarray(student.output_weights)
    gauss = np.exp(-np.sum((x[:, None] - x[None]) ** 2, axis=2) / (2 * bandwidth**2))
    spread = 1 - gauss**2 + gauss**4 / 2
    mean, square = _integrals(x[0] / bandwidth, x[-1] / bandwidth, phases)
    z = np.asarray(_draw(key, x, _DRAWS, bandwidth=bandwidth))
    products = z[:, :, None] * z[:, None, :]
    centred = (products - gauss) ** 2
    off = np.abs(np.mean(products, axis=0) - gauss) / np.sqrt(spread / _DRAWS)
    noise = np.std(centred, axis=0) / np.sqrt(_DRAWS)
    off_spread = np.abs(np.mean(centred, axis=0) - spread) / noise

    z = np.asarray(_draw(key, x, student.width, bandwidth=bandwidth))
    machine = _machine(student, x, y, z, ridge=ridge)
    kernel, a = (z * b[:, None] ** 2).T @ z, np.sum(b**2)
    residual = np.asarray(y) - b @ np.asarray(student.features(x))
    ideal = a * gauss @ np.linalg.solve(a * gauss + ridge * np.eye(n), residual)
    apart = np.linalg.norm(np.asarray(machine(z)) - ideal)
    allowed = np.linalg.norm(kernel - a * gauss, 2) * np.linalg.norm(residual) / ridge
    return Check.worst(
        Check.compare(label, mean, gauss[0, -1], 1e-9, 1.0, "mean"),
        Check.compare(label, square - mean**2, spread[0, -1], 1e-9, 1.0, "variance"),
        Check.at_most(label, off, 7.0, 1e-9, 7.0, "drawn mean"),
        Check.at_most(label, off_spread, 7.0, 1e-9, 7.0, "drawn variance"),
        Check.at_most(label, apart, allowed, 1e-9, np.linalg.norm(residual), "machine"),
    )


def kernel_machine_teacher(student, x, y, embedding, ridge, embedding_at, phi=None):
    """The machine as PI: least of its kind, its output is ridge regression, and it is near (chapter *Experiments*).

    The library's PI against least squares over all coefficients c_k of PI f_k(0) + c_k z_k; its output, and the
    machine at other inputs, against ridge regression with the dense kernel; every unit's distance from the start,
    against the bound. Another ``phi``, such as the raw embedding, is a broken hypothesis.
    """
    label, tolerance = "kernel-machine-teacher", 1e-7
    b, start, z, at = (
        np.asarray(part) for part in (student.output_weights, student.features(x), embedding, embedding_at)
    )
    residual, n = np.asarray(y) - b @ start, len(y)
    machine = _machine(student, x, y, z, ridge=ridge)
    phi = np.asarray(machine.phi if phi is None else phi)
    stacked = np.vstack([(b[:, None] * z).T, np.sqrt(ridge) * np.eye(len(b))])
    steps = np.linalg.lstsq(stacked, np.append(residual, np.zeros(len(b))), rcond=None)[0]
    kernel = (b[:, None] ** 2 * z).T @ z
    dual = np.linalg.solve(kernel + ridge * np.eye(n), residual)
    elsewhere = dual @ ((b[:, None] ** 2 * z).T @ at)
    least = max(np.linalg.eigvalsh(kernel)[0], 0.0)
    reach = np.abs(b) * np.sum(z**2, axis=1) * np.linalg.norm(residual) / (ridge + least)
    scale = max(np.linalg.norm(y), np.linalg.norm(b @ start))
    return Check.worst(
        Check.compare(label, phi - start, steps[:, None] * z, tolerance, scale, "least PI"),
        Check.compare(label, b @ phi - b @ start, kernel @ dual, tolerance, scale, "output"),
        Check.compare(label, machine(at), elsewhere, tolerance, scale, "other inputs"),
        Check.at_most(label, np.linalg.norm(phi - start, axis=1), reach, tolerance, scale, "near"),
    )


def alignment_of_pi(student, x, y, early, late, train=None):
    """A teacher's output is better aligned with the kernel than its labels, the earlier the better (*Experiments*).

    Leads in output of teachers stopped at two times, from the weights of the library's, against the dense flow;
    their shares in the fastest modes of the dense kernel, one above the other, above those of the labels; the library's
    mean rates of all three. A network that ``train`` makes outside of the kernel regime is a broken hypothesis.
    """
    label, tolerance = "alignment-of-pi", 1e-6
    dense = _Dense.of(TransferProblem(student, x, y, None, lam=0.0))
    moved = [(train or _trained)(student, x, y, time).weights - student.weights for time in (early, late)]
    leads = [dense.J @ np.asarray(way).ravel() for way in moved]
    kernel = dense.J @ dense.J.T
    _, modes = np.linalg.eigh(kernel)
    vectors = [*leads, dense.residual]
    expected = [_lead(dense, time) for time in (early, late)]
    shares = [np.cumsum((vector @ modes)[::-1] ** 2) / np.sum(vector**2) for vector in vectors]
    dense_rates = [vector @ kernel @ vector / np.sum(vector**2) for vector in (*expected, dense.residual)]
    rates = np.array([float(_mean_rate(student, x, vector)) for vector in vectors])
    size = np.linalg.norm(kernel, 2)
    return Check.worst(
        *(
            Check.compare(label, lead, right, tolerance, np.linalg.norm(right), "leads")
            for lead, right in zip(leads, expected, strict=True)
        ),
        Check.at_most(label, shares[1], shares[0], tolerance, 1.0, "earlier is better aligned"),
        Check.at_most(label, shares[2], shares[1], tolerance, 1.0, "than the labels"),
        Check.compare(label, rates, dense_rates, tolerance, size, "mean rates"),
        Check.at_most(label, rates[1:], rates[:-1], tolerance, size, "faster"),
    )


def superposition_of_teachers(problems, share, time, at, flow=kernel_flow, rest=None):
    """The student of mixed teachers is the mix of their students; a flaw comes through damped (*Experiments*).

    Two problems with one start, one x and one λ. The mix of their flows, ``share`` of the first and the ``rest`` of the
    second, at x and at the inputs ``at``, against the singular values of the mixed problem's dense system; the distance
    of the two students on x, against the bound. Another flow, or a rest other than 1 - share, is a broken hypothesis.
    """
    label, tolerance, student = "superposition-of-teachers", 1e-7, problems[0].student
    shares = share, 1 - share if rest is None else rest
    first, second = dense = [_Dense.of(problem) for problem in problems]
    points = np.concatenate([np.asarray(problems[0].x), at])
    paths = [np.asarray(flow(problem, [time], at=points).outputs[0]) for problem in problems]
    mixed = dataclasses.replace(
        first, y=shares[0] * first.y + shares[1] * second.y, gap=shares[0] * first.gap + shares[1] * second.gap
    )
    features, slopes, b = (np.asarray(part) for part in _at_start(student, points))
    moved = mixed.singular_flow([time]).reshape(len(b), -1)
    outputs = b @ (features + slopes * (moved @ points.T))
    a, lam, n = np.sum(first.b**2), first.lam, first.y.size
    damped = min(np.sqrt(lam) / 2, np.sqrt(a * lam / (a + lam))) * np.linalg.norm(first.gap - second.gap)
    apart, scale = np.linalg.norm((paths[0] - paths[1])[:n]), max(one.scale for one in dense)
    return Check.worst(
        Check.compare(label, shares[0] * paths[0] + shares[1] * paths[1], outputs, tolerance, scale, "mix"),
        Check.at_most(label, apart, damped + np.linalg.norm(first.y - second.y), tolerance, scale, "flaw"),
    )


def _lead(dense, time):
    """(I - e^{-tH̄}) (y - f(0)), by singular values of J; for ever the part in the range of H̄."""
    left, sigma, _ = np.linalg.svd(dense.J, full_matrices=False)
    rates = np.where(sigma > 1e-13 * sigma[0], sigma, 0.0) ** 2
    # no rate of a problem in 64 bits outlasts 1e200, and 0 times it is 0
    return left @ (-np.expm1(-min(time, 1e200) * rates) * (left.T @ dense.residual))


def _integrals(u, v, phases):
    """Mean of z(x)z(x') and of its square, over directions in the plane of x and x', and over phases."""
    along = u @ v / np.linalg.norm(u)
    across = np.sqrt(max(v @ v - along**2, 0.0))
    first, second = np.meshgrid(_GRID, _GRID, indexing="ij")
    angles = np.linalg.norm(u) * first, along * first + across * second
    products = 2 * np.cos(angles[0][..., None] + phases) * np.cos(angles[1][..., None] + phases)
    weights = np.multiply.outer(_WEIGHTS, _WEIGHTS)
    return (np.sum(weights * np.mean(products**power, axis=2)) for power in (1, 2))


_draw = jax.jit(teachers.random_fourier_features, static_argnames="count")
_machine = jax.jit(teachers.kernel_machine_teacher)
_trained = jax.jit(teachers.trained_teacher)
_mean_rate = jax.jit(lambda net, x, vector: alignment(net, x, vector).mean_rate)
