"""Krylov runs that answer for all times at once and keep no basis.

A recurrence hands out the few numbers of each step, and the outputs of each basis vector at the inputs that
are asked about. What it builds with coefficients known from a first pass, a second pass sums up.

Two recurrences share the work. Golub-Kahan on A resolves the fast modes first, and serves early and middle
times. Lanczos on (γI + M)⁻¹ resolves the slow ones first, and serves the times that wait for them.

Book: chapter *Linear system*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 16
# A length below this many roundings of the largest is noise. In steps of a recurrence it says: the space is complete.
NOISE = 16
# A run is checked each time it has grown by this factor; its error is what the last growth changed.
GROWTH = 1.25


class Bidiagonalization(eqx.Module):
    """The state of a Golub-Kahan recurrence: A Q = U B with B lower bidiagonal, started from g.

    ``right`` is the next column of Q, ``left`` the last column of U times its length ``beta``; ``sum`` gathers
    Σ y_j q_j for coefficients y known from an earlier pass, which is how weights come back without a basis.
    """

    right: jax.Array
    left: tuple[jax.Array, jax.Array]
    beta: jax.Array
    alpha: jax.Array
    largest: jax.Array
    sum: jax.Array


def _length(image):
    return jnp.sqrt(sum(jnp.vdot(part, part) for part in image))


def _inverse(length):
    """1 / length; zero where the recurrence has broken down."""
    return jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1.0), 0.0)


def _zeros_beside(vector):
    """Zeros on the devices where the vector is: a constant would be put whole on every device."""
    return 0.0 * vector


def start_bidiagonalization(system):
    """Return the state before the first step and β₁ = ‖g‖."""
    left = _target(system)  # a program of its own: in one with what follows, features would be held twice
    right, numbers, total, length = _first_column(system, left)
    return Bidiagonalization(right, left, *numbers, total), length


@eqx.filter_jit
def _target(system):
    return system.target


@eqx.filter_jit
def _first_column(system, left):
    beta = _length(left)
    right = _inverse(beta) * system.adjoint(left)
    alpha = _length((right,))
    # the state's memory is used up step by step: it shares no number with another, nor with what is returned beside it
    return _inverse(alpha) * right, (beta, alpha, alpha), _zeros_beside(right), beta


def continue_bidiagonalization(system, state, coefficients, readout):
    """Take ``len(coefficients)`` steps.

    Parameters
    ----------
    system : LinearSystem
    state : Bidiagonalization
    coefficients : array, shape (K,)
        y_j for ``state.sum``; zeros on a first pass.
    readout : Readout or None
        The inputs at which outputs are wanted; None for the training data.

    Returns
    -------
    state : Bidiagonalization
    alphas, betas : array, shape (K,)
        Diagonal and lower diagonal of the K columns of B.
    rows : array, shape (K, rows)
        J q_j at the readout's inputs: all that is kept of the basis.
    """
    negligible = NOISE * jnp.finfo(state.right.dtype).eps

    def step(state, coefficient):
        left, beta, outputs, pulled = system.advance(state.right, state.left, state.alpha * _inverse(state.beta))
        # A length at rounding level is a breakdown: the Krylov space is complete, and its direction is noise.
        beta = jnp.where(beta > negligible * state.largest, beta, 0.0)
        right = _inverse(beta) * pulled - beta * state.right
        alpha = _length((right,))
        largest = jnp.maximum(state.largest, jnp.maximum(alpha, beta))
        alpha = jnp.where((alpha > negligible * largest) & (beta > 0), alpha, 0.0)
        total = state.sum + coefficient * state.right
        new = Bidiagonalization(_inverse(alpha) * right, left, beta, alpha, largest, total)
        return new, (state.alpha, beta, outputs if readout is None else readout(state.right))

    state, (alphas, betas, rows) = jax.lax.scan(step, state, coefficients)
    return state, alphas, betas, rows


class Tridiagonalization(eqx.Module):
    """The state of a Lanczos recurrence: R Q = Q T with T symmetric tridiagonal."""

    right: jax.Array
    before: jax.Array
    beta: jax.Array
    largest: jax.Array
    sum: jax.Array


@eqx.filter_jit
def start_tridiagonalization(vector):
    """Return the state before the first step and the vector's length."""
    length = _length((vector,))
    right = _inverse(length) * vector
    zero = jnp.zeros((), vector.dtype)
    return Tridiagonalization(right, _zeros_beside(right), zero, zero, _zeros_beside(right)), length


def continue_tridiagonalization(operator, state, coefficients, readout):
    """Take ``len(coefficients)`` Lanczos steps with a symmetric operator; see `continue_bidiagonalization`.

    ``alphas`` and ``betas`` are the diagonal of T and the entries below it.
    """
    negligible = NOISE * jnp.finfo(state.right.dtype).eps

    def step(state, coefficient):
        image = operator(state.right) - state.beta * state.before
        alpha = jnp.vdot(state.right, image)
        image = image - alpha * state.right
        beta = _length((image,))
        largest = jnp.maximum(state.largest, jnp.maximum(jnp.abs(alpha), beta))
        beta = jnp.where(beta > negligible * largest, beta, 0.0)
        total = state.sum + coefficient * state.right
        new = Tridiagonalization(_inverse(beta) * image, state.right, beta, largest, total)
        return new, (alpha, beta, readout(state.right))

    state, (alphas, betas, rows) = jax.lax.scan(step, state, coefficients)
    return state, alphas, betas, rows


# A state is as large as the features; each chunk takes over the memory of the one before.
@eqx.filter_jit(donate="all-except-first")
def bidiagonal_steps(known, state):
    operator, coefficients, readout = known
    return continue_bidiagonalization(operator, state, coefficients, readout)


@eqx.filter_jit(donate="all-except-first")
def tridiagonal_steps(known, state):
    operator, coefficients, readout = known
    return continue_tridiagonalization(operator, state, coefficients, readout)


def early_values(alphas, betas, rows, *, beta, eps, times, xp=np):
    """Output changes, energies and lengths of v(t), and the coefficients y(t) of v(t) = Q y(t), from the bidiagonal B.

    With B = U Σ Vᵀ and p = β₁ Uᵀe₁:  y(t) = V (1 - exp(-tΣ²)) Σ⁻¹ p  and  E(t) = ½‖β₁e₁ - B y(t)‖².
    Singular values at the level of noise, for rounding ``eps``, count as 0; the third result says for each time how
    far modes that are hidden there could have decayed.
    """
    steps = alphas.shape[0]
    matrix = xp.eye(steps + 1, steps) * alphas[None, :] + xp.eye(steps + 1, steps, k=-1) * betas[None, :]
    left, sigma, right = xp.linalg.svd(matrix, full_matrices=False)
    start = beta * left[0]
    noise = NOISE * eps * sigma[0]
    positive = sigma > noise
    rates = xp.where(positive, sigma, 1.0) ** 2
    exponent = xp.where(positive[None, :], times[:, None] * rates[None, :], 0.0)
    grown = -xp.expm1(-exponent)
    y = (grown * xp.where(positive, start / xp.where(positive, sigma, 1.0), 0.0)[None, :]) @ right
    left_over = xp.maximum(beta**2 - xp.sum(start**2), 0.0)
    energies = (left_over + xp.sum((xp.exp(-exponent) * start[None, :]) ** 2, axis=1)) / 2
    return (y @ rows, energies, xp.sqrt(xp.sum(y**2, axis=1))), y, -xp.expm1(-times * noise**2)


def late_values(alphas, betas, rows, *, beta, gamma, times, at_limit):
    """The same from the tridiagonal T of (γI + M)⁻¹ started at v_∞: v(t) = v_∞ - exp(-tM) v_∞ = v_∞ + Q y(t).

    With T = V diag(ρ) Vᵀ, rates μ = 1/ρ - γ and p = ‖v_∞‖ Vᵀe₁:  y(t) = -V exp(-tμ) p.
    """
    matrix = np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1)
    inverse_rates, vectors = np.linalg.eigh(matrix)
    # A Ritz value at rounding level stands for rates beyond all resolution, long since decayed.
    resolved = inverse_rates > 1e-14 / gamma
    rates = np.where(resolved, np.maximum(1 / np.where(resolved, inverse_rates, 1.0) - gamma, 0.0), 0.0)
    exponent = np.where(resolved, times[:, None] * rates, np.inf)
    start = beta * vectors[0]
    y = -(np.exp(-exponent) * start) @ vectors.T
    changes, energy, _ = at_limit
    energies = energy + np.sum(rates * (np.exp(-exponent) * start) ** 2, axis=1) / 2
    values = changes + y @ rows, energies, np.linalg.norm(-np.expm1(-exponent) * start, axis=1)
    return values, y, np.zeros(times.shape)


def differences(values, others, scales, xp=np):
    """For each time the largest relative difference of two evaluations: outputs, energies and lengths."""
    output_scale, energy_scale = scales

    def relative(difference, size):
        return difference / xp.where(size > 0, size, 1.0)

    return xp.stack(
        [
            relative(xp.linalg.norm(values[0] - others[0], axis=1), output_scale),
            relative(xp.abs(values[1] - others[1]), energy_scale),
            relative(xp.abs(values[2] - others[2]), xp.max(values[2])),
        ]
    ).max(axis=0)


def run_until_settled(steps, operator, start, readout, evaluate, *, scales, goal, most_steps):
    """Extend a recurrence chunk by chunk until growing it by a quarter changes nothing.

    Parameters
    ----------
    steps : callable
        `bidiagonal_steps` or `tridiagonal_steps`.
    operator, start, readout
        What it takes, and its first state, whose memory is used up.
    evaluate : callable
        Maps (alphas, betas, rows) to (values, coefficients, hidden error) at all times.
    scales : (float, float)
        What errors of outputs and of energies are relative to.
    goal : float
        The relative error at which to stop.
    most_steps : int
        Where to stop in any case.

    Returns
    -------
    values, coefficients
        At the last evaluation.
    errors : array, shape (T,)
        The estimated relative error at each time.
    taken : int
        The number of steps.
    """
    eps = float(jnp.finfo(start.right.dtype).eps)
    no_coefficients = jnp.zeros(CHUNK, start.right.dtype)
    state, parts, previous = start, [], None
    taken, next_check = 0, CHUNK
    while True:
        state, *part = steps((operator, no_coefficients, readout), state)
        parts.append([np.asarray(piece, np.float64) for piece in part])
        taken += CHUNK
        complete = parts[-1][1][-1] == 0
        last = complete or taken >= most_steps
        if not last and taken < next_check:
            continue
        # a saturated unit may have to move by 1e200; what overflows counts as not settled
        with np.errstate(over="ignore", invalid="ignore"):
            values, coefficients, hidden = evaluate(*(np.concatenate(pieces) for pieces in zip(*parts, strict=True)))
        if complete:
            errors = np.full(coefficients.shape[0], taken * eps)
        elif previous is None:
            errors = np.full(coefficients.shape[0], np.inf)
        else:
            errors = np.maximum(differences(values, previous, scales), eps)
        errors = np.where(np.isfinite(values[0]).all(axis=1), np.maximum(errors, hidden), np.inf)
        # what hides from one recurrence waits for the other
        if last or errors[hidden <= goal].max(initial=0.0) <= goal:
            return values, coefficients, errors, taken
        previous, next_check = values, max(taken + CHUNK, int(GROWTH * taken))


def largest_mode(operator, start, *, most_steps):
    """The unit eigenvector of an operator's largest eigenvalue, none of which is negative; None if it is not found.

    By Lanczos, until β_K |s_K|, the residual for the eigenvector s of T, is `NOISE` roundings of the eigenvalue.
    """
    dtype, parts, taken, next_check = start.dtype, [], 0, CHUNK
    state, _ = start_tridiagonalization(start)
    scaled = eqx.Partial(_scaled, operator, _largest_entry(operator, state.right))  # else squares may overflow

    def advanced(state, coefficients):
        return tridiagonal_steps((scaled, jnp.asarray(coefficients, dtype), _no_outputs), state)

    while True:
        state, *numbers, _ = advanced(state, np.zeros(CHUNK))
        parts.append(np.asarray(numbers, np.float64))
        taken += CHUNK
        last = taken >= most_steps
        if taken < next_check and not last:
            continue
        alphas, betas = np.concatenate(parts, axis=1)
        value, vector = _top_of(alphas, betas[:-1])
        if betas[-1] * abs(vector[-1]) <= NOISE * float(jnp.finfo(dtype).eps) * value:
            break
        if last:
            return None
        next_check = max(taken + CHUNK, int(GROWTH * taken))
    state, _ = start_tridiagonalization(start)
    for coefficients in vector.reshape(-1, CHUNK):
        state, *_ = advanced(state, coefficients)
    return _unit(state.sum)


def _top_of(diagonal, beside):
    """The largest eigenvalue of a symmetric tridiagonal matrix, and its eigenvector."""
    from scipy.linalg import eigh_tridiagonal  # on first use: it takes as long as half of kdlib

    last = len(diagonal) - 1
    values, vectors = eigh_tridiagonal(diagonal, beside, select="i", select_range=(last, last))
    return values[0], vectors[:, 0]


@eqx.filter_jit
def _largest_entry(operator, vector):
    return jnp.max(jnp.abs(operator(vector)))


def _scaled(operator, size, vector):
    return _inverse(size) * operator(vector)


def _no_outputs(v):
    return v[:0, 0]


@eqx.filter_jit
def _unit(vector):
    return _inverse(_length((vector,))) * vector
