"""Checkers of the chapter *Soft labels*: transfer by the teacher's outputs, and what it leaves open.

`kdlib` changes labels and times. The references never do: they integrate, descend or solve the objective
½‖y - f‖² + (λ/2)‖φ̄ - f‖² itself, with NumPy and SciPy.
"""

import numpy as np
from equinox import filter_jit
from scipy.integrate import solve_ivp

from kdlib.claims import Check
from kdlib.claims.limit import _capacity, _least_squares_end
from kdlib.claims.linear_system import _Dense
from kdlib.limit import fixed_point
from kdlib.output_transfer import output_fixed_point, output_flow, output_gradient_flow, soft_label_problem
from kdlib.training import gradient_descent

_SMALLEST = 3e-7  # singular values below this fraction of the largest count as zero, eigenvalues below its square

# compiled, since thousands of small problems call them
_end_told_features, _end_told_outputs = filter_jit(fixed_point), filter_jit(output_fixed_point)


def _teacher(dense):
    return dense.b @ (dense.start + dense.gap)


def _stacked(dense):
    """A and g with E_out = ½‖g - A v‖² for the frozen-kernel student: labels on top, the teacher's outputs below."""
    root = np.sqrt(dense.lam)
    lead = _teacher(dense) - dense.b @ dense.start
    return np.concatenate([dense.J, root * dense.J]), np.concatenate([dense.residual, root * lead])


def _least_squares(dense):
    """The shortest minimiser of E_out over all weights, (md,), and its features, (m, n)."""
    A, g = _stacked(dense)
    v = np.linalg.lstsq(A, g, rcond=_SMALLEST)[0]
    return v, dense.start + (dense.L.T @ v).reshape(dense.start.shape)


def output_transfer_is_relabelling(problem, horizon, steps):
    """Output-level transfer is training on soft labels with a faster clock, for any network (chapter *Soft labels*).

    `output_gradient_flow` at the horizon, against SciPy's integration of the flow of E_out: outputs, weights, energy.
    Gradient descent on E_out in ``steps`` steps, written out in NumPy, against `gradient_descent` on the soft labels
    with steps 1 + λ times as long.
    """
    student, lam = problem.student, float(problem.lam)
    x, y, b = np.asarray(problem.x), np.asarray(problem.y), np.asarray(student.output_weights)
    first, teacher = np.asarray(student.weights), b @ np.asarray(problem.phi)

    def velocity(weights):
        hidden = np.tanh(weights @ x.T)
        f = b @ hidden
        pull = (y - f) + lam * (teacher - f)
        return (b[:, None] * (1 - hidden**2) * pull) @ x

    def energy(weights):
        f = b @ np.tanh(weights @ x.T)
        return (np.sum((y - f) ** 2) + lam * np.sum((teacher - f) ** 2)) / 2

    def flow(_, state):
        return velocity(state.reshape(first.shape)).ravel()

    path = solve_ivp(flow, (0.0, horizon), first.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    end = path.y[:, -1].reshape(first.shape)
    descended, eta = first, horizon / steps
    for _ in range(steps):
        descended = descended + eta * velocity(descended)
    ours = output_gradient_flow(problem, [horizon])
    relabelled = gradient_descent(soft_label_problem(problem), (1 + lam) * eta, np.array([steps]))
    label, tolerance, size = "output-transfer-is-relabelling", 1e-5, np.max(np.abs(first))
    scale = max(np.linalg.norm(y), np.linalg.norm(teacher))
    return Check.worst(
        Check.compare(label, ours.outputs[0], b @ np.tanh(end @ x.T), tolerance, scale, "outputs"),
        Check.compare(label, ours.network.weights, end, tolerance, size, "weights"),
        Check.compare(label, ours.energies[0], energy(end), tolerance, energy(first), "energy"),
        Check.compare(label, relabelled.network.weights, descended, 1e-9, size, "descent"),
    )


def output_transfer_limit(problem, times):
    """The limit of output-level transfer, and its rates: 1 + λ times those of H̄ (chapter *Soft labels*).

    `output_fixed_point` and `output_flow`, against least squares and the singular values of the stacked system of
    E_out; the stated formulas with NumPy's decomposition of H̄, against both.
    """
    dense, label, tolerance = _Dense.of(problem), "output-transfer-limit", 1e-7
    A, g = _stacked(dense)
    _, features = _least_squares(dense)
    f0, teacher = dense.b @ dense.start, _teacher(dense)
    rates, modes = np.linalg.eigh(dense.J @ dense.J.T)
    seen = rates > _SMALLEST**2 * rates[-1]
    soft = (dense.y + dense.lam * teacher) / (1 + dense.lam)
    parts = np.where(seen, modes.T @ (soft - f0), 0.0)
    multipliers = modes @ np.divide(parts, rates, out=np.zeros_like(parts), where=seen)
    moved = dense.blocks @ multipliers
    stated = dense.start + dense.b[:, None] * (np.swapaxes(dense.blocks, 1, 2) @ moved[:, :, None])[:, :, 0]
    left, sigma, right = np.linalg.svd(A, full_matrices=False)
    measured = np.zeros(2 * rates.size)
    measured[: sigma.size] = sigma**2
    expected = (1 + dense.lam) * np.append(rates[::-1], np.zeros(rates.size))
    kept = sigma > _SMALLEST * np.max(sigma)
    left, sigma, right = left[:, kept], sigma[kept], right[kept]
    path = (-np.expm1(-np.outer(times, sigma**2)) / sigma * (left.T @ g)) @ right
    decayed = -np.expm1(-(1 + dense.lam) * np.outer(times, np.where(seen, rates, 0.0)))
    by_modes = f0 + (decayed * parts) @ modes.T
    flow, end = output_flow(problem, times), _end_told_outputs(problem)
    scale = max(dense.scale, np.linalg.norm(teacher))
    size = max(scale, np.linalg.norm(dense.start), np.max(np.abs(features)))
    return Check.worst(
        Check.compare(label, f0 + modes @ parts, dense.b @ features, tolerance, scale, "limit"),
        Check.compare(label, stated, features, tolerance, size, "features"),
        Check.compare(label, end.outputs, dense.b @ features, tolerance, scale, "limit, library"),
        Check.compare(label, end.features, features, tolerance, size, "features, library"),
        Check.compare(label, measured, expected, tolerance, measured[0], "rates"),
        Check.compare(label, by_modes, f0 + path @ dense.J.T, tolerance, scale, "modes"),
        Check.compare(label, flow.outputs, f0 + path @ dense.J.T, tolerance, scale, "flow, library"),
    )


def output_transfer_iterations(problem, step, steps, features=False):
    """At a step in proportion to the longest stable one, λ saves no iteration (chapter *Soft labels*).

    Descent on E_out in the kernel regime, step by step over the stacked system with η = ``step``/λ_max of its own
    matrix: the factor by which each component of f - f_∞ shrinks, and the slowest of them, against H̄ alone.
    Feature-level transfer (``features``) is a broken hypothesis.
    """
    dense, label = _Dense.of(problem), "output-transfer-iterations"
    A, g = (dense.A, dense.g) if features else _stacked(dense)
    rates, modes = np.linalg.eigh(dense.J @ dense.J.T)
    seen = rates > _SMALLEST**2 * rates[-1]
    rates, modes = rates[seen], modes[:, seen]
    eta, v = step / np.linalg.norm(A, 2) ** 2, np.zeros(A.shape[1])
    end = np.linalg.lstsq(A, g, rcond=_SMALLEST)[0]
    for _ in range(steps):
        v = v + eta * A.T @ (g - A @ v)
    before, after = modes.T @ (dense.J @ -end), modes.T @ (dense.J @ (v - end))
    expected = (1 - step * rates / rates[-1]) ** steps * before
    q = max(abs(1 - step), 1 - step * rates[0] / rates[-1])
    # the target's size: the limit may be where the start is
    size = np.linalg.norm(before) + dense.scale
    return Check.worst(
        Check.compare(label, after, expected, 1e-7, size, "components"),
        Check.at_most(label, np.linalg.norm(after), q**steps * np.linalg.norm(before), 1e-7, size, "contraction"),
    )


def same_outputs_other_features(problem):
    """Where all H_k ≻ 0 the two transfers agree on the data, not in the features (chapter *Soft labels*).

    Feature-level and output-level ends by `fixed_point` and `output_fixed_point` and by least squares over the
    weights: equal outputs; the stated difference of the features; ‖v_feature‖² = ‖v_output‖² + ‖difference‖².
    """
    dense, label, tolerance = _Dense.of(problem), "same-outputs-other-features", 1e-7
    taught, far = _least_squares_end(problem)
    near, told = _least_squares(dense)
    f0, teacher = dense.b @ dense.start, _teacher(dense)
    # H_k H̄⁻¹ by solving, no eigenvalues involved
    tangent = dense.J @ dense.J.T
    kernels = np.swapaxes(dense.blocks, 1, 2) @ dense.blocks
    explained = np.linalg.solve(tangent, np.stack([teacher - f0, dense.y - teacher], axis=1))
    lead = dense.gap - dense.b[:, None] * (kernels @ explained[:, 0])
    rest = dense.b[:, None] * ((dense.y - teacher) - kernels @ explained[:, 1]) / (1 + dense.lam)
    scale = max(dense.feature_scale, np.linalg.norm(teacher))
    lengths = np.sum(near**2) + np.sum((far - near) ** 2)
    ends = _end_told_features(problem), _end_told_outputs(problem)
    found = np.asarray(ends[0].features) - np.asarray(ends[1].features)
    return Check.worst(
        Check.compare(label, dense.b @ taught, dense.b @ told, tolerance, scale, "outputs"),
        Check.compare(label, ends[0].outputs, ends[1].outputs, tolerance, scale, "outputs, library"),
        Check.compare(label, taught - told, lead + rest, tolerance, scale, "features"),
        Check.compare(label, found, lead + rest, tolerance, scale, "features, library"),
        Check.compare(label, np.sum(far**2), lengths, tolerance, np.sum(far**2), "lengths"),
    )


def feature_versus_output(problem):
    """Told features, a student stays closer to a teacher that it can carry than told outputs (chapter *Soft labels*).

    Ends by least squares over the weights. For one λ and a = 1: the stated ways from the teacher, through P̄ and its
    range; nearer to the teacher, farther from the labels. A teacher that cannot be carried is a broken hypothesis.
    """
    dense, _, mean, _ = _capacity(problem)
    taught, _ = _least_squares_end(problem)
    _, told = _least_squares(dense)
    teacher, label, tolerance = _teacher(dense), "feature-versus-output", 1e-7
    apart = dense.y - teacher
    values, vectors = np.linalg.eigh(mean)
    shares = np.where(values > _SMALLEST**2 * values[-1], values, 0.0)
    parts = vectors.T @ apart
    by_features, by_outputs = dense.b @ taught, dense.b @ told
    scale = max(dense.scale, np.linalg.norm(teacher))
    ways = vectors @ (shares / (dense.lam + shares) * parts), vectors @ ((shares > 0) / (1 + dense.lam) * parts)
    near, far = np.linalg.norm(by_features - teacher), np.linalg.norm(by_outputs - teacher)
    closer, wider = np.linalg.norm(dense.y - by_outputs), np.linalg.norm(dense.y - by_features)
    return Check.worst(
        Check.compare(label, by_features - teacher, ways[0], tolerance, scale, "way from the teacher, features"),
        Check.compare(label, by_outputs - teacher, ways[1], tolerance, scale, "way from the teacher, outputs"),
        Check.at_most(label, near, far, tolerance, scale, "nearer to the teacher"),
        Check.at_most(label, closer, wider, tolerance, scale, "farther from the labels"),
    )
