r"""The kernel flow as a contour integral over its Laplace transform.

With e = y - f the transform of the linear system v' = c - M v is, unit by unit,

    ê(s) = T(s)⁻¹ (1/s) [y - f(0) - Σ b_k λH_k (sI + λH_k)⁻¹ (φ_k - f_k(0))],   T(s) = I + Σ b_k² H_k (sI + λH_k)⁻¹,
    v̂_k(s) = L_k (sI + λH_k)⁻¹ (λ(φ_k - f_k(0))/s + b_k ê(s)).

Nothing is subtracted on the way from ê to v̂, so small s, which is late time, costs no digits.

Book: chapter *Characteristic values and fading memory*.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.kernels import range_eigh
from kdlib.limit import limit_of
from kdlib.linear_system import after, unit_factors
from kdlib.validation import is_concrete

# At most so many complex numbers are held for the matrices T(s) of the times that are inverted together.
_NUMBERS_AT_ONCE = 2**22
# Weideman's modified Talbot contour, for poles on the negative axis:
# z(θ)/N = 0.5017 θ cot(0.6407 θ) - 0.6122 + 0.2645 iθ
_COT_WEIGHT, _COT_SCALE, _SHIFT, _SLOPE = 0.5017, 0.6407, 0.6122, 0.2645


def seen_directions(system):
    """The eigenvectors of P̄, or of H̄ at λ = 0, with zeros in place of those that no unit sees, shape (n, n).

    In this basis T(s) is the identity on the unseen directions, and it is put so exactly: rounding there would be
    multiplied by 1/s. The rank decision is that of `fixed_point`.
    """

    def gather(total, unit):
        slopes, weight = unit
        left, sigma, _ = unit_factors(system.x, slopes)
        shape = jnp.where(system.lam > 0, (sigma > 0).astype(sigma.dtype), sigma**2)
        return total + weight**2 * (left * shape[None, :]) @ left.T, None

    b, n = system.output_weights, system.x.shape[0]
    total, _ = jax.lax.scan(gather, jnp.zeros((n, n), system.x.dtype), (system.slopes, b))
    values, vectors = range_eigh(total, jnp.where(system.lam > 0, jnp.sum(b**2), 0.0))
    return vectors * (values > 0)[None, :]


def response(sigma, s, lam):
    """1/(s + λσ²), and 0 where σ = 0."""
    return jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, s + lam * sigma**2, 1.0), 0.0)


def output_pull(system, basis, s):
    """s ê(s) on the seen directions, for points s of shape (Q,): shape (Q, n)."""
    system = system.after(basis)
    x, lam, n = system.x, system.lam, system.x.shape[0]

    def gather(carry, unit):
        slopes, weight, gap = unit
        left, sigma, _ = unit_factors(x, slopes)
        total, bracket = carry

        def add(total, bracket, s):
            damping = sigma**2 * response(sigma, s, lam)
            matrix = (left * damping[None, :]) @ left.T
            return total + weight**2 * matrix, bracket - weight * lam * left @ (damping * (gap @ left))

        return jax.vmap(add)(total, bracket, s), None

    dtype = jnp.result_type(s, x)
    start = jnp.zeros((*s.shape, n, n), dtype), jnp.tile(system.output_gap.astype(dtype), (*s.shape, 1))
    (total, bracket), _ = jax.lax.scan(gather, start, (system.slopes, system.output_weights, system.feature_gap))

    def solve(total, bracket):
        return basis @ jnp.linalg.solve(jnp.eye(n, dtype=dtype) + basis.T @ total @ basis, basis.T @ bracket)

    return jax.vmap(solve)(total, bracket)


def unit_force(system, s, pull, unit):
    """Singular coefficients of unit k's (sI + M)⁻¹c at points s of shape (Q,), shape (Q, r), and its factors."""
    slopes, weight, gap = unit
    left, sigma, right = unit_factors(system.x, slopes)

    def at_point(s, pull):
        return sigma * response(sigma, s, system.lam) * (left.T @ (system.lam * gap + weight * pull))

    return jax.vmap(at_point)(s, pull), left, sigma, right


def _contour(nodes):
    """Points z of the contour's upper half, and weights: the sum over F(z/t) inverts the transform F(s)/s."""
    theta = np.pi * (2 * np.arange(nodes // 2) + 1) / nodes
    angle = _COT_SCALE * theta
    z = nodes * (_COT_WEIGHT * theta / np.tan(angle) - _SHIFT + 1j * _SLOPE * theta)
    velocity = nodes * (_COT_WEIGHT / np.tan(angle) - _COT_WEIGHT * angle / np.sin(angle) ** 2 + 1j * _SLOPE)
    return z, 2 * np.exp(z) * velocity / (1j * nodes * z)


def invert(system, readout, times):
    """Output changes, energies and lengths of v at times from 0 to ∞; errors; v at the latest of them."""
    inside, forever, latest = (times > 0) & jnp.isfinite(times), jnp.isinf(times), jnp.argmax(times)
    # a time that stands in for 0 and ∞ and is never the latest
    least = jax.lax.stop_gradient(jnp.min(jnp.where(inside, times, 2.0)))
    values, errors, end = _invert(system, readout, jnp.where(inside, times, least / 2))

    def put(rows, others):
        shaped = [jnp.reshape(rows, (-1, *[1] * (value.ndim - 1))) for value in values]
        return tuple(jnp.where(*parts) for parts in zip(shaped, others, values, strict=True))

    start, start_end = _at_start(system, readout, jnp.where(times == 0, times, 0.0))
    values, end = put(times == 0, start), jnp.where(times[latest] == 0, start_end, end)
    if not is_concrete(forever) or forever.any():
        limit = limit_of(system.after(end))
        # backwards the limit comes first, too
        values, end = tuple(after(limit.displacement, part) for part in values), after(limit.displacement, end)
        values = put(forever, at_limit(system.problem, limit, readout))
        end = jnp.where(forever[latest], limit.displacement, end)
    return values, jnp.where(inside, errors, 0.0), end


@eqx.filter_jit
def _at_start(system, readout, zeros):
    """The same at times 0 and with their slopes in t there: v = tc."""
    # c without the root of λ, which has no slope at 0
    pulls = system.lam * system.feature_gap + system.output_weights[:, None] * system.output_gap[None]
    force = (system.slopes * pulls) @ system.x
    energy, square = system.problem.energy(system.problem.student), jnp.sum(force**2)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    changes = zeros[:, None] * readout(force)[None, :]
    return (changes, energy - zeros * square, zeros * length), zeros[0] * force  # the latest is 0 where all are


@eqx.filter_jit
def at_limit(problem, limit, readout):
    """Output changes, energy and length of v_∞."""
    transfer = 0.0 if problem.teacher is None else problem.lam * jnp.sum((problem.phi - limit.features) ** 2)
    energy = (jnp.sum((problem.y - limit.outputs) ** 2) + transfer) / 2
    return readout(limit.displacement), energy, jnp.linalg.norm(limit.displacement)


@eqx.filter_jit
def _invert(system, readout, times):
    """The same at positive finite times."""
    n, dtype = system.x.shape[0], system.x.dtype
    nodes = 2 * round(np.log(1 / float(jnp.finfo(dtype).eps)) / 3)
    pairs = [_contour(nodes), _contour(nodes + 4)]
    count = sum(z.size for z, _ in pairs)
    z, weights = np.concatenate([z for z, _ in pairs]), np.zeros((2, count), complex)
    weights[0, : nodes // 2], weights[1, nodes // 2 :] = (weight for _, weight in pairs)
    complex_type = jnp.result_type(dtype, jnp.complex64)
    z, weights = jnp.asarray(z, complex_type), jnp.asarray(weights, complex_type)
    basis = seen_directions(system)

    def together(times):
        s = (z[None, :] / times[:, None]).ravel()
        pull = output_pull(system, basis, s)
        pulled = system.after(pull)

        def gather(carry, unit):
            *factors, slopes_there = unit
            coefficients, _, sigma, right = unit_force(pulled, s, pull, factors)
            coefficients = coefficients.reshape(times.shape[0], count, sigma.shape[0])
            v = jnp.einsum("gq,tqr->tgr", weights, coefficients).real @ right
            changes, changes_there, squares, lengths = carry
            slopes, weight, gap = factors
            change = slopes[None, None] * (v @ system.x.T)
            changes = changes + weight * change
            changes_there = changes_there + weight * slopes_there[None, None] * (v @ readout.x.T)
            squares = squares + jnp.sum((gap[None] - change[:, 0]) ** 2, axis=1)
            return (changes, changes_there, squares, lengths + jnp.sum(v[:, 0] ** 2, axis=1)), v[:, 0]

        zeros = functools.partial(jnp.zeros, dtype=dtype)
        shape = times.shape[0]
        start = zeros((shape, 2, n)), zeros((shape, 2, readout.x.shape[0])), zeros(shape), zeros(shape)
        units = system.slopes, system.output_weights, system.feature_gap, readout.slopes
        (changes, there, squares, lengths), v = jax.lax.scan(gather, start, units)
        errors = jnp.maximum(*(jnp.linalg.norm(part[:, 1] - part[:, 0], axis=1) for part in (changes, there)))
        fit = jnp.sum((system.output_gap[None] - changes[:, 0]) ** 2, axis=1)
        energies = (fit + system.lam * squares) / 2
        return there[:, 0], energies, jnp.sqrt(lengths), errors, v[:, jnp.argmax(times)]

    size = max(1, min(times.shape[0], _NUMBERS_AT_ONCE // (count * n * n)))
    batches = -(-times.shape[0] // size)
    padded = jnp.concatenate([times, jnp.full(batches * size - times.shape[0], jnp.min(times))])
    *values, ends = jax.lax.map(together, padded.reshape(batches, size))
    changes, energies, lengths, errors = (
        value.reshape(batches * size, *value.shape[2:])[: times.shape[0]] for value in values
    )
    return (changes, energies, lengths), errors, ends[jnp.argmax(times) // size]
