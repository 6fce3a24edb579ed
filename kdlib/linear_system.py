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
from jax.scipy.linalg import cho_solve

from kdlib.kernels import rank_tolerance


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


def unit_factors(x, slopes):
    """U, Σ and Wᵀ of one unit's S_k X = L_kᵀ = U Σ Wᵀ, with U and Σ set to zero beyond the rank: P_k = U Uᵀ."""
    left, sigma, right = jnp.linalg.svd(slopes[:, None] * x, full_matrices=False)
    kept = sigma > rank_tolerance(sigma.dtype, *x.shape) * sigma[0]
    return left * kept[None, :], sigma * kept, right


class ShiftedInverse(eqx.Module):
    r"""(γI + M)⁻¹ on range(M), by the Woodbury identity over the block structure.

    With B = γI + λ blkdiag(L_k L_kᵀ), inverted unit by unit, and T = I + J B⁻¹ Jᵀ, an n×n matrix between
    I and (1 + a/λ) I:  (γI + M)⁻¹ = B⁻¹ - B⁻¹ Jᵀ T⁻¹ J B⁻¹. Memory O(m d min(n, d) + n²).
    """

    system: LinearSystem
    gamma: jax.Array
    right: jax.Array
    inverse: jax.Array
    cholesky: jax.Array

    @classmethod
    def of(cls, system, gamma):
        def gather(total, unit):
            slopes, weight = unit
            left, sigma, right = unit_factors(system.x, slopes)
            inverse = jnp.where(sigma > 0, 1 / (gamma + system.lam * sigma**2), 0.0)
            return total + (weight**2 * left * (sigma**2 * inverse)[None, :]) @ left.T, (right, inverse)

        start = jnp.eye(system.x.shape[0], dtype=system.x.dtype)
        total, (right, inverse) = jax.lax.scan(gather, start, (system.slopes, system.output_weights))
        return cls(system, gamma, right, inverse, jnp.linalg.cholesky(total))

    def _blocks(self, v):
        """B⁻¹ v on the range of the units' kernels."""
        return jnp.einsum("krd,kr->kd", self.right, self.inverse * jnp.einsum("krd,kd->kr", self.right, v))

    def __call__(self, v):
        """(γI + M)⁻¹ v for v in range(M), shape (m, d)."""
        system, first = self.system, self._blocks(v)
        pull = cho_solve((self.cholesky, True), system.outputs(first))
        back = (system.output_weights[:, None] * system.slopes * pull[None, :]) @ system.x
        return first - self._blocks(back)
