"""The frozen-kernel system in 50 digits, by mpmath alone: what the right answer is where 64 bits are not enough."""

import functools

import mpmath as mp
import numpy as np

DIGITS = 50
# eigenvalues below this fraction of the largest are zeros of exact arithmetic
_ZERO = mp.mpf(10) ** -40
# slopes that no 64-bit number can hold are zeros to every program
_UNDERFLOW = mp.mpf(2) ** -1022

_ACTIVATIONS = {
    "tanh": (mp.tanh, lambda z: mp.sech(z) ** 2),
    "relu": (lambda z: max(z, mp.mpf(0)), lambda z: mp.mpf(1 if z > 0 else 0)),
    "erf": (mp.erf, lambda z: 2 / mp.sqrt(mp.pi) * mp.exp(-(z**2))),
}


def applied(values, vectors, function):
    """F of a symmetric matrix ⪰ 0 on its range, zero beyond it, from its eigenvalues and eigenvectors."""
    largest, columns = max(values), vectors.copy()
    for i, value in enumerate(values):
        image = function(value) if largest > 0 and value > _ZERO * largest else 0
        for j in range(vectors.rows):
            columns[j, i] *= image
    return columns * vectors.T


def _grown(rate, t):
    return (mp.mpf(1) if np.isinf(t) else -mp.expm1(-rate * mp.mpf(float(t)))) / rate


class Precise:
    """v' = c - M v from plain arrays, by an eigenvalue decomposition of M in 50 digits; for a handful of unknowns."""

    def __init__(self, weights, signs, activation, x, y, phi, lam):
        with mp.workdps(DIGITS):
            sigma, slope = self.activation = _ACTIVATIONS[activation]
            (m, d), n = weights.shape, x.shape[0]
            weights, x, phi, lam = mp.matrix(weights), mp.matrix(x), mp.matrix(phi), mp.mpf(float(lam))
            b = [mp.mpf(float(sign)) / mp.sqrt(m) for sign in signs]
            z = weights * x.T
            start = mp.matrix(m, n)
            jacobian, outputs_map = mp.zeros(m * n, m * d), mp.zeros(n, m * d)
            for k in range(m):
                for i in range(n):
                    start[k, i], at = sigma(z[k, i]), slope(z[k, i])
                    at = at if at > _UNDERFLOW else mp.mpf(0)
                    for j in range(d):
                        jacobian[k * n + i, k * d + j] = at * x[i, j]
                        outputs_map[i, k * d + j] = b[k] * at * x[i, j]
            self.start = mp.matrix([mp.fsum(b[k] * start[k, i] for k in range(m)) for i in range(n)])
            self.weights, self.features, self.jacobian, self.outputs_map = weights, start, jacobian, outputs_map
            gap = mp.matrix([phi[k, i] - start[k, i] for k in range(m) for i in range(n)])
            self.lam, self.b, self.n, self.gaps = lam, b, n, [gap[k * n : (k + 1) * n] for k in range(m)]
            self.y = mp.matrix([label if isinstance(label, mp.mpf) else mp.mpf(float(label)) for label in y])
            left = self.y - self.start
            force = lam * (jacobian.T * gap) + outputs_map.T * left
            matrix = lam * (jacobian.T * jacobian) + outputs_map.T * outputs_map
            self.matrix, self.force = matrix, force
            self.rates, self.modes = mp.eigsy((matrix + matrix.T) / 2)
            self.scale = max(mp.norm(left + self.start), mp.norm(self.start))

    @property
    def slowest_rate(self):
        """The smallest non-zero eigenvalue of M; inf where M = 0."""
        return float(min((rate for rate in self.rates if rate > _ZERO * max(self.rates)), default=mp.inf))

    @property
    def rate_spread(self):
        """The smallest non-zero eigenvalue of M over the largest; 1 where M = 0."""
        largest = float(max(self.rates))
        return self.slowest_rate / largest if largest > 0 else 1.0

    def displacement(self, t, y=None):
        """v(t) = Σ z (1 - e^{-μt})/μ ⟨z, c⟩ over the modes with μ > 0; t may be inf, and labels others."""
        with mp.workdps(DIGITS):
            largest = max(self.rates)
            force = self.force if y is None else self.force + self.outputs_map.T * (mp.matrix(y) - self.y)
            coefficients = self.modes.T * force
            for i, rate in enumerate(self.rates):
                coefficients[i] *= _grown(rate, t) if largest > 0 and rate > _ZERO * largest else 0
            return self.modes * coefficients

    def answer(self, t):
        """A(t), what labels do to the outputs at time t: J M⁺(1 - e^{-tM}) Jᵀ."""
        with mp.workdps(DIGITS):
            grown = applied(self.rates, self.modes, lambda rate: _grown(rate, t))
            return self.outputs_map * grown * self.outputs_map.T

    def unit_kernel(self, k):
        """H_k = L_kᵀ L_k."""
        with mp.workdps(DIGITS):
            own = self.jacobian[k * self.n : (k + 1) * self.n, :]
            return own * own.T

    def unit_rates(self, k):
        """The positive eigenvalues of H_k."""
        with mp.workdps(DIGITS):
            values = mp.eigsy(self.unit_kernel(k), eigvals_only=True)
            return [value for value in values if max(values) > 0 and value > _ZERO * max(values)]

    def over_units(self, function, vectors=None):
        """Σ b_k² F(H_k) for a function F on the positive eigenvalues, or Σ b_k F(H_k) u_k for vectors u_k."""
        with mp.workdps(DIGITS):
            total = mp.zeros(self.n, self.n if vectors is None else 1)
            for k, b in enumerate(self.b):
                of_kernel = applied(*mp.eigsy(self.unit_kernel(k)), function)
                total += b**2 * of_kernel if vectors is None else b * of_kernel * vectors[k]
            return total

    @functools.cached_property
    def mean_projector(self):
        """P̄ = Σ b_k² P_k."""
        return self.over_units(lambda _: 1)

    @functools.cached_property
    def carried(self):
        """τ = f(0) + Σ b_k P_k (φ_k - f_k(0))."""
        return self.start + self.over_units(lambda _: 1, self.gaps)

    @functools.cached_property
    def tangent(self):
        """H̄ = J Jᵀ."""
        with mp.workdps(DIGITS):
            return self.outputs_map * self.outputs_map.T

    def readout(self, at):
        """f(0) and J at other inputs."""
        with mp.workdps(DIGITS):
            (sigma, slope), inputs = self.activation, mp.matrix(at)
            z = self.weights * inputs.T
            start, outputs_map = mp.zeros(z.cols, 1), mp.zeros(z.cols, self.outputs_map.cols)
            for k, b in enumerate(self.b):
                for i in range(z.cols):
                    start[i] += b * sigma(z[k, i])
                    for j in range(inputs.cols):
                        outputs_map[i, k * inputs.cols + j] = b * slope(z[k, i]) * inputs[i, j]
            return start, outputs_map

    def outputs(self, v, at=None):
        """f(0) + J v as floats, on the data or at other inputs, shape (n,) or (rows,)."""
        start, outputs_map = (self.start, self.outputs_map) if at is None else self.readout(at)
        with mp.workdps(DIGITS):
            return np.array([float(value) for value in start + outputs_map * v])

    def features_after(self, v):
        """f_k(0) + L_kᵀ v_k as floats, shape (m, n)."""
        with mp.workdps(DIGITS):
            change = self.jacobian * v
            m, n = self.features.rows, self.features.cols
            return np.array([[float(self.features[k, i] + change[k * n + i]) for i in range(n)] for k in range(m)])
