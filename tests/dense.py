"""Independent references: the matrices of the theory, formed whole and solved by NumPy and SciPy alone.

Nothing here calls kdlib; problems come in as plain arrays, slopes of the activation included.
"""

import functools

import numpy as np
from scipy.special import erf

ACTIVATIONS = {
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
}


class Dense:
    """The frozen-kernel system ½‖g - A v‖² of a transfer problem with A formed whole, (mn + n) × md."""

    def __init__(self, weights, signs, activation, x, y, phi, lam):
        sigma, slope = ACTIVATIONS[activation]
        z = weights @ x.T
        (m, n), d = z.shape, x.shape[1]
        self.b = signs / np.sqrt(m)
        self.features, self.y, self.phi, self.lam = sigma(z), y, phi, lam
        self.jacobians = slope(z)[:, :, None] * x  # row k is L_kᵀ, (n, d)
        blocks = np.zeros((m * n, m * d))
        for k in range(m):
            blocks[k * n : (k + 1) * n, k * d : (k + 1) * d] = self.jacobians[k]
        self.blocks = blocks
        self.outputs_map = np.hstack([b * jacobian for b, jacobian in zip(self.b, self.jacobians)])
        self.start = self.b @ self.features
        self.a = np.vstack([np.sqrt(lam) * blocks, self.outputs_map])
        self.g = np.concatenate([np.sqrt(lam) * (phi - self.features).ravel(), y - self.start])
        self.scale = max(np.linalg.norm(y), np.linalg.norm(self.start))

    @functools.cached_property
    def factors(self):
        return np.linalg.svd(self.a, full_matrices=False)

    def displacement(self, t):
        """v(t), shape (md,), from the singular value decomposition of A."""
        left, sigma, right = self.factors
        kept = sigma > 1e-12 * sigma.max(initial=0)
        safe = np.where(kept, sigma, 1.0)
        grown = np.where(kept, -np.expm1(-t * safe**2) / safe, 0.0)
        return right.T @ (grown * (left.T @ self.g))

    def outputs(self, v):
        return self.start + self.outputs_map @ v

    def energy(self, v):
        return np.sum((self.g - self.a @ v) ** 2) / 2
