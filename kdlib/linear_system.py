r"""The linear system of the kernel regime, as a structure: block-diagonal plus low rank.

With the unit kernels frozen at the start, v_k = w_k - w_k(0) follows v' = c - M v with

    M = λ blkdiag(L_k L_kᵀ) + JᵀJ = AᵀA,   A = [√λ blkdiag(L_kᵀ); J],   c = Aᵀg,

so the flow is the gradient flow of ½‖g - A v‖². Nothing here forms M or A: a product with either costs
matrix products of sizes (m×d)·(d×n), and the memory is O(m(n + d)).

Book: chapter *Linear system*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp


class LinearSystem(eqx.Module):
    """The frozen-kernel system of a transfer problem, by its actions.

    Vectors v are of shape (m, d); the image of A is a pair of shapes (m, n) and (n,).
    """

    x: jax.Array
    slopes: jax.Array
    output_weights: jax.Array
    lam: jax.Array
    feature_gap: jax.Array
    output_gap: jax.Array

    @classmethod
    def of(cls, problem):
        student = problem.student
        return cls(
            x=problem.x,
            slopes=student.derivative(problem.x),
            output_weights=student.output_weights,
            lam=problem.lam,
            feature_gap=problem.feature_gap,
            output_gap=problem.output_gap,
        )

    @property
    def target(self):
        """g = [√λ (φ - f(0)); y - f(0)], what A v is to reach."""
        return jnp.sqrt(self.lam) * self.feature_gap, self.output_gap

    def features(self, v):
        """L_kᵀ v_k, the change of every unit's features, shape (m, n)."""
        return self.slopes * (v @ self.x.T)

    def outputs(self, v):
        """J v, the change of the outputs, shape (n,)."""
        return self.output_weights @ self.features(v)

    def forward(self, v):
        """A v."""
        change = self.features(v)
        return jnp.sqrt(self.lam) * change, self.output_weights @ change

    def adjoint(self, image):
        """Aᵀ applied to a pair of shapes (m, n) and (n,)."""
        features, outputs = image
        pulled = jnp.sqrt(self.lam) * features + self.output_weights[:, None] * outputs[None, :]
        return (self.slopes * pulled) @ self.x

    def product(self, v):
        """M v = Aᵀ A v, two matrix products of 2·m·n·d flops each."""
        change = self.features(v)
        pulled = self.lam * change + self.output_weights[:, None] * (self.output_weights @ change)[None, :]
        return (self.slopes * pulled) @ self.x


class Readout(eqx.Module):
    """J at any inputs: what a change of weights does to the outputs there."""

    x: jax.Array
    slopes: jax.Array
    output_weights: jax.Array

    @classmethod
    def of(cls, student, x):
        return cls(x, student.derivative(x), student.output_weights)

    def __call__(self, v):
        return self.output_weights @ (self.slopes * (v @ self.x.T))


class Bidiagonalization(eqx.Module):
    """The state of a Golub-Kahan recurrence: A Q = U B with B lower bidiagonal, started from g.

    ``right`` is the next column of Q scaled to length 1, ``left`` the last column of U; ``sum`` gathers
    Σ y_j q_j for coefficients y known from an earlier pass, which is how weights come back without a basis.
    """

    right: jax.Array
    left: tuple[jax.Array, jax.Array]
    alpha: jax.Array
    largest: jax.Array
    sum: jax.Array


def _length(image):
    return jnp.sqrt(sum(jnp.vdot(part, part) for part in image))


def _unit(image, length):
    """Each part over its common length; zero where the recurrence has broken down."""
    inverse = jnp.where(length > 0, 1 / jnp.where(length > 0, length, 1.0), 0.0)
    return tuple(inverse * part for part in image)


def start_bidiagonalization(system):
    """Return the state before the first step and β₁ = ‖g‖."""
    beta = _length(system.target)
    left = _unit(system.target, beta)
    right = system.adjoint(left)
    alpha = _length((right,))
    (right,) = _unit((right,), alpha)
    return Bidiagonalization(right, left, alpha, alpha, jnp.zeros_like(right)), beta


def continue_bidiagonalization(system, state, coefficients, readout):
    """Take ``len(coefficients)`` steps.

    Parameters
    ----------
    system : LinearSystem
    state : Bidiagonalization
    coefficients : array, shape (K,)
        y_j for ``state.sum``; zeros on a first pass.
    readout : Readout
        The inputs at which outputs are wanted.

    Returns
    -------
    state : Bidiagonalization
    alphas, betas : array, shape (K,)
        Diagonal and lower diagonal of the K columns of B.
    rows : array, shape (K, rows)
        J q_j at the readout's inputs: all that is kept of the basis.
    """
    negligible = jnp.finfo(state.right.dtype).eps

    def step(state, coefficient):
        features, outputs = system.forward(state.right)
        left = (features - state.alpha * state.left[0], outputs - state.alpha * state.left[1])
        beta = _length(left)
        # A length at rounding level is a breakdown: the Krylov space is complete, and its direction is noise.
        beta = jnp.where(beta > negligible * state.largest, beta, 0.0)
        left = _unit(left, beta)
        right = system.adjoint(left) - beta * state.right
        alpha = _length((right,))
        largest = jnp.maximum(state.largest, jnp.maximum(alpha, beta))
        alpha = jnp.where((alpha > negligible * largest) & (beta > 0), alpha, 0.0)
        new = Bidiagonalization(
            _unit((right,), alpha)[0], left, alpha, largest, state.sum + coefficient * state.right
        )
        return new, (state.alpha, beta, readout(state.right))

    state, (alphas, betas, rows) = jax.lax.scan(step, state, coefficients)
    return state, alphas, betas, rows
