"""Checkers of the chapter *The linear system*: one flow in two coordinates, its spectrum, its Krylov run.

The reference is always dense NumPy: the blocks L_k are built from the inputs and the slopes, stacked, and
exponentiated or decomposed whole, which `kdlib` itself never does.
"""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from kdlib.claims import Check
from kdlib.krylov import continue_bidiagonalization, start_bidiagonalization
from kdlib.limit import fixed_point
from kdlib.linear_system import LinearSystem, Readout, ShiftedInverse
from kdlib.trajectory import kernel_flow

# max over z > 0 of (1 - exp(-z²))/z, attained where exp(z²) = 1 + 2z²
_KAPPA = 0.6381726863389515
_ROUNDING = 1e-13  # singular values below this fraction of the largest count as zero

_steps = jax.jit(continue_bidiagonalization)


@jax.jit
def _at_start(student, x):
    return student.features(x), student.derivative(x), student.output_weights


@jax.jit
def _shifted_solve(system, gamma, v):
    """(γI + M)⁻¹ v by the library, and the Cholesky factor of its T."""
    operator = ShiftedInverse.of(system, gamma)
    return operator(v), operator.cholesky


@dataclass(frozen=True)
class _Dense:
    """A transfer problem's linear system written out: every block an array, for small problems only."""

    blocks: np.ndarray  # L_k, shape (m, d, n)
    b: np.ndarray
    y: np.ndarray
    start: np.ndarray  # f_k(0), shape (m, n)
    gap: np.ndarray  # φ_k - f_k(0), shape (m, n)
    lam: float

    @classmethod
    def of(cls, problem):
        start, slopes, b = (np.asarray(part) for part in _at_start(problem.student, problem.x))
        return cls(
            blocks=np.asarray(problem.x).T[None] * slopes[:, None, :],
            b=b,
            y=np.asarray(problem.y),
            start=start,
            gap=np.zeros_like(start) if problem.phi is None else np.asarray(problem.phi) - start,
            lam=float(problem.lam),
        )

    @cached_property
    def residual(self):
        """y - f(0)."""
        return self.y - self.b @ self.start

    @cached_property
    def scale(self):
        """max(‖y‖, ‖f(0)‖), the scale of every stated accuracy."""
        return max(np.linalg.norm(self.y), np.linalg.norm(self.b @ self.start))

    @property
    def feature_scale(self):
        return max(self.scale, np.linalg.norm(self.gap))

    @cached_property
    def L(self):
        return _block_diagonal(self.blocks)

    @cached_property
    def J(self):
        return (self.b[:, None, None] * self.blocks).reshape(-1, self.y.size).T

    @cached_property
    def D(self):
        return _block_diagonal(np.swapaxes(self.blocks, 1, 2) @ self.blocks)

    @cached_property
    def root(self):
        """D^½, without what rounding makes of zeros: a number that λ can make large again."""
        _, sigma, right = np.linalg.svd(self.blocks, full_matrices=False)
        sigma = np.where(sigma > _ROUNDING * sigma[:, :1], sigma, 0.0)
        return _block_diagonal(np.swapaxes(right, 1, 2) @ (sigma[:, :, None] * right))

    def C(self, backward=None):
        """λI + (b bᵀ ⊗ I); ``backward`` replaces the b that carries the error back to the units."""
        outer = np.outer(self.b if backward is None else backward, self.b)
        return self.lam * np.eye(self.start.size) + np.kron(outer, np.eye(self.y.size))

    @cached_property
    def A(self):
        return np.concatenate([np.sqrt(self.lam) * self.L.T, self.J])

    @cached_property
    def g(self):
        return np.concatenate([np.sqrt(self.lam) * self.gap.ravel(), self.residual])

    @cached_property
    def decomposition(self):
        return _decomposed(self.A)

    def singular_flow(self, times):
        """v(t) from the singular values of A, shape (T, md); times may hold inf."""
        return _singular_flow(*self.decomposition, self.g, times)


def _decomposed(matrix):
    """The singular value decomposition, without what rounding makes of zeros."""
    left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
    kept = sigma > max(matrix.shape) * np.finfo(float).eps * sigma.max(initial=0.0)
    return left[:, kept], sigma[kept], right[kept]


def _singular_flow(left, sigma, right, g, times):
    """The gradient flow of ½‖g - Av‖² from the singular value decomposition of A."""
    filters = -np.expm1(-np.outer(times, sigma**2)) / sigma
    return (filters * (left.T @ g)) @ right


def _block_diagonal(blocks):
    """Equal blocks along a diagonal, all at once: SciPy's function places them one by one."""
    m, rows, columns = blocks.shape
    whole, units = np.zeros((m, rows, m, columns)), np.arange(m)
    whole[units, :, units] = blocks
    return whole.reshape(m * rows, m * columns)


def _exponential_flow(rate, force, start, times):
    """Solve F' = -rate F + force by the exponential of the augmented matrix, and the number of the time.

    At the latest time at which it keeps its digits: those are lost as time times norm grows.
    """
    at = int(np.argmax(np.where(times * np.linalg.norm(rate, 2) <= 1e3, times, -1.0)))
    size = start.size
    augmented = np.zeros((size + 1, size + 1))
    augmented[:size, :size], augmented[:size, size] = -rate, force
    return (scipy.linalg.expm(times[at] * augmented) @ np.append(start, 1.0))[:size], at


def two_coordinates(problem, times, flow=kernel_flow):
    """The kernel flow is F' = -DCF + Ds in features and v' = c - Mv in weights (chapter *The linear system*).

    Features by the exponential of DC, against outputs and weights of ``flow``; at late times, where it has lost its
    digits, by that of the symmetric D^½ C D^½ = KᵀK, which DC becomes with F = F(0) + D^½ u.

    Parameters
    ----------
    problem : TransferProblem
    times : sequence of finite numbers
    flow : callable
        ``kernel_flow``, or another route from a problem and times to a `Trajectory`.
    """
    dense = _Dense.of(problem)
    times = np.asarray(times, float)
    spread = np.kron(dense.b, np.eye(dense.y.size))
    K = np.concatenate([np.sqrt(dense.lam) * dense.root, spread @ dense.root])
    features = dense.start.ravel() + _singular_flow(*_decomposed(K), dense.g, times) @ dense.root
    features = features.reshape(-1, *dense.start.shape)
    force = np.concatenate([b * dense.y for b in dense.b]) + dense.lam * (dense.gap + dense.start).ravel()
    direct, at = _exponential_flow(dense.D @ dense.C(), dense.D @ force, dense.start.ravel(), times)
    trajectory = flow(problem, times)
    latest = int(np.argmax(times))
    moved = np.asarray(trajectory.network.weights - problem.student.weights)
    from_weights = dense.start + np.einsum("kdn,kd->kn", dense.blocks, moved)
    label, tolerance = "two-coordinates", 1e-8
    return Check.worst(
        Check.compare(label, features[at].ravel(), direct, tolerance, dense.feature_scale, "exponential of DC"),
        Check.compare(label, trajectory.outputs, dense.b @ features, tolerance, dense.scale, "outputs"),
        Check.compare(label, from_weights, features[latest], tolerance, dense.feature_scale, "features from weights"),
    )


def real_spectrum(problem, backward=None):
    """DC has a real spectrum, and its non-zero eigenvalues are those of M (chapter *The linear system*).

    All eigenvalues of the non-symmetric DC by the general QR algorithm, against the symmetric solver on M.

    Parameters
    ----------
    problem : TransferProblem
    backward : array, shape (m,), optional
        Weights that carry the error back to the units in the place of b: a broken hypothesis.
    """
    dense = _Dense.of(problem)
    general = np.linalg.eigvals(dense.D @ dense.C(backward))
    symmetric = np.linalg.eigvalsh(dense.L @ dense.C() @ dense.L.T)
    size = max(general.size, symmetric.size)
    general = np.sort(np.pad(general, (0, size - general.size)))[::-1]
    symmetric = np.sort(np.pad(symmetric, (0, size - symmetric.size)))[::-1]
    return Check.compare("real-spectrum", general, symmetric, 1e-8)


def least_squares_flow(problem, times, flow=kernel_flow):
    """The kernel flow is the gradient flow of ½‖g - Av‖² from v = 0 (chapter *The linear system*).

    Outputs, energies and movement of ``flow`` against the dense singular value decomposition of A;
    the limit against the solution of least norm.

    Parameters
    ----------
    problem : TransferProblem
    times : sequence of numbers >= 0, inf allowed
    flow : callable
    """
    dense = _Dense.of(problem)
    times = np.asarray(times, float)
    trajectory = flow(problem, times)
    v = dense.singular_flow(times)
    ends = np.isinf(times)
    v[ends] = np.linalg.lstsq(dense.A, dense.g)[0]
    energies = 0.5 * np.sum((dense.g - v @ dense.A.T) ** 2, axis=1)
    start_energy = 0.5 * np.sum(dense.g**2)
    movement = np.linalg.norm(v, axis=1) / np.sqrt(dense.b.size)
    outputs = dense.b @ dense.start + v @ dense.J.T
    label, tolerance = "least-squares-flow", 1e-8
    return Check.worst(
        Check.compare(label, trajectory.outputs, outputs, tolerance, dense.scale, "outputs"),
        Check.compare(label, trajectory.energies, energies, tolerance, start_energy, "energies"),
        Check.compare(label, trajectory.movement, movement, 100 * tolerance, part="movement"),
    )


def _bidiagonal_run(problem, steps):
    """K steps of the library's recurrence: B_K, β₁, α_{K+1} and J Q_K."""
    system = LinearSystem.of(problem)
    state, beta = start_bidiagonalization(system)
    readout = Readout.of(problem.student, problem.x)
    state, alphas, betas, outputs = _steps(system, state, jnp.zeros(steps), readout)
    alphas, betas = np.asarray(alphas), np.asarray(betas)
    bidiagonal = np.zeros((steps + 1, steps))
    bidiagonal[np.arange(steps), np.arange(steps)] = alphas
    bidiagonal[np.arange(1, steps + 1), np.arange(steps)] = betas
    return bidiagonal, float(beta), float(state.alpha), np.asarray(outputs)


def _krylov_coefficients(bidiagonal, beta, times):
    """y_K(t), shape (T, K), for all times from one small singular value decomposition."""
    left, sigma, right = np.linalg.svd(bidiagonal, full_matrices=False)
    return (-np.expm1(-np.outer(times, sigma**2)) / sigma * (beta * left[0])) @ right


def golub_kahan_flow(problem, steps, times):
    """K bidiagonalisation steps give the gradient flow of E within the Krylov space (chapter *The linear system*).

    The library's recurrence, against a dense Galerkin projection: an orthonormal basis of
    span{c, Mc, ..., M^{K-1} c} and the gradient flow of E within it, by a singular value decomposition, and by the
    exponential of M compressed to it where that keeps its digits.

    Parameters
    ----------
    problem : TransferProblem
    steps : int
        K, so small that the recurrence has not broken down.
    times : sequence of finite numbers
    """
    dense = _Dense.of(problem)
    bidiagonal, beta, _, rows = _bidiagonal_run(problem, steps)
    coefficients = _krylov_coefficients(bidiagonal, beta, times)
    outputs = coefficients @ rows
    energies = 0.5 * np.sum((beta * np.eye(steps + 1)[0] - coefficients @ bidiagonal.T) ** 2, axis=1)

    M, c = dense.A.T @ dense.A, dense.A.T @ dense.g
    basis = (c / np.linalg.norm(c))[:, None]
    for _ in range(steps - 1):
        new = M @ basis[:, -1]
        for _ in range(2):  # twice is enough: the basis stays orthonormal to rounding
            new = new - basis @ (basis.T @ new)
        basis = np.column_stack([basis, new / np.linalg.norm(new)])
    v = _singular_flow(*_decomposed(dense.A @ basis), dense.g, times) @ basis.T
    direct, at = _exponential_flow(basis.T @ M @ basis, basis.T @ c, np.zeros(steps), np.asarray(times, float))

    label, tolerance = "golub-kahan-flow", 1e-8
    start_energy = 0.5 * np.sum(dense.g**2)
    moved, reference = np.linalg.norm(coefficients, axis=1), np.linalg.norm(v, axis=1)
    dense_energies = 0.5 * np.sum((dense.g - v @ dense.A.T) ** 2, axis=1)
    return Check.worst(
        Check.compare(label, v[at], basis @ direct, tolerance, reference.max(), "exponential of M"),
        Check.compare(label, outputs, v @ dense.J.T, tolerance, dense.scale, "outputs"),
        Check.compare(label, energies, dense_energies, tolerance, start_energy, "energies"),
        Check.compare(label, moved, reference, tolerance, part="movement"),
    )


def krylov_error(problem, steps, times):
    """The error of a truncated run is bounded by its own last coefficient (chapter *The linear system*).

    The distance to the dense flow, against α_{K+1} β_{K+1} times ∫η, tη or η/μ for weights and κ√t η for outputs.

    Parameters
    ----------
    problem : TransferProblem
    steps : int
        K.
    times : sequence of finite numbers
    """
    dense = _Dense.of(problem)
    times = np.asarray(times, float)
    bidiagonal, beta, next_alpha, rows = _bidiagonal_run(problem, steps)
    factor = next_alpha * bidiagonal[steps, steps - 1]
    coefficients = _krylov_coefficients(bidiagonal, beta, times)
    eta = np.abs(coefficients[:, -1])

    v = dense.singular_flow(times)
    outputs = np.linalg.norm(coefficients @ rows - v @ dense.J.T, axis=1)
    # U_{K+1} and Q_K from the dense A, so that the weights of the run can be compared
    weights = coefficients @ _right_vectors(dense, bidiagonal, beta).T
    weight_error = np.linalg.norm(weights - v, axis=1)

    left, sigma, right = np.linalg.svd(bidiagonal, full_matrices=False)
    decayed = -np.expm1(-np.outer(times, sigma**2)) / sigma**2
    integral = np.abs(((times[:, None] - decayed) / sigma * (beta * left[0])) @ right[:, -1])
    slowest = dense.decomposition[1][-1] ** 2
    label, tolerance, rounding = "krylov-error", 1e-8, 1e-12
    moved = max(np.linalg.norm(v, axis=1).max(), rounding)
    return Check.worst(
        Check.at_most(label, weight_error, factor * integral, tolerance, moved, "integral"),
        Check.at_most(label, weight_error, factor * np.minimum(times, 1 / slowest) * eta, tolerance, moved, "weights"),
        Check.at_most(label, outputs, factor * _KAPPA * np.sqrt(times) * eta, tolerance, dense.scale, "outputs"),
    )


def _right_vectors(dense, bidiagonal, beta):
    """Q_K from the dense A and the coefficients of the run."""
    steps = bidiagonal.shape[1]
    left = dense.g / beta
    columns = []
    previous = np.zeros(dense.A.shape[1])
    for j in range(steps):
        alpha, below = bidiagonal[j, j], bidiagonal[j + 1, j]
        right = (dense.A.T @ left - (bidiagonal[j, j - 1] if j else 0.0) * previous) / alpha
        columns.append(right)
        left = (dense.A @ right - alpha * left) / below
        previous = right
    return np.column_stack(columns)


def slow_modes(problem, gamma, times):
    """v(t) = v_∞ - exp(-tM) v_∞, and (γI + M)⁻¹ from blocks and an n×n matrix (chapter *The linear system*).

    The limit of `fixed_point` and the dense eigenvectors of M, against the singular value decomposition of A; the
    library's shifted inverse, against a dense solve; the eigenvalues of its T, against 1 and 1 + a/λ.

    Parameters
    ----------
    problem : TransferProblem
    gamma : float
        The shift γ > 0.
    times : sequence of finite numbers
    """
    dense = _Dense.of(problem)
    M = dense.A.T @ dense.A
    end = fixed_point(problem).displacement
    rates, modes = np.linalg.eigh(M)
    # modes at rate zero are orthogonal to v_∞; rounding must not let them grow
    decay = np.exp(-np.outer(times, np.clip(rates, 0, None)))
    v = np.asarray(end).ravel() - (decay * (modes.T @ np.asarray(end).ravel())) @ modes.T
    answer, cholesky = _shifted_solve(LinearSystem.of(problem), jnp.asarray(gamma), end)
    _, sigma, right = dense.decomposition
    solved = right.T @ (right @ np.asarray(end).ravel() / (gamma + sigma**2))
    spectrum = np.linalg.svd(np.asarray(cholesky), compute_uv=False) ** 2
    most = 1 + np.sum(dense.b**2) / dense.lam if dense.lam > 0 else np.inf
    label, tolerance = "slow-modes", 1e-7
    outputs = dense.singular_flow(times) @ dense.J.T
    return Check.worst(
        Check.compare(label, v @ dense.J.T, outputs, tolerance, dense.scale, "flow from its limit"),
        Check.compare(label, np.asarray(answer).ravel(), solved, tolerance, part="shifted inverse"),
        Check.at_most(label, np.ones_like(spectrum), spectrum, tolerance, 1.0, "T from below"),
        Check.at_most(label, spectrum, most, tolerance, spectrum[0], "T from above"),
    )
