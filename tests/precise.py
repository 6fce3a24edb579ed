"""The frozen-kernel system in 50 digits, by mpmath alone: what the right answer is where 64 bits are not enough."""

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


class Precise:
    """v' = c - M v from plain arrays, by an eigenvalue decomposition of M in 50 digits; for a handful of unknowns."""

    def __init__(self, weights, signs, activation, x, y, phi, lam):
        with mp.workdps(DIGITS):
            sigma, slope = _ACTIVATIONS[activation]
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
            self.features, self.jacobian, self.outputs_map = start, jacobian, outputs_map
            gap = mp.matrix([phi[k, i] - start[k, i] for k in range(m) for i in range(n)])
            left = mp.matrix([mp.mpf(float(label)) for label in y]) - self.start
            force = lam * (jacobian.T * gap) + outputs_map.T * left
            matrix = lam * (jacobian.T * jacobian) + outputs_map.T * outputs_map
            self.rates, self.modes = mp.eigsy((matrix + matrix.T) / 2)
            self.coefficients = self.modes.T * force
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

    def displacement(self, t):
        """v(t) = Σ z (1 - e^{-μt})/μ ⟨z, c⟩ over the modes with μ > 0; t may be inf."""
        with mp.workdps(DIGITS):
            largest = max(self.rates)
            grown = mp.matrix(len(self.rates), 1)
            for i, rate in enumerate(self.rates):
                if largest > 0 and rate > _ZERO * largest:
                    decayed = mp.mpf(1) if np.isinf(t) else -mp.expm1(-rate * mp.mpf(float(t)))
                    grown[i] = decayed / rate * self.coefficients[i]
            return self.modes * grown

    def outputs(self, v):
        """f(0) + J v as floats, shape (n,)."""
        with mp.workdps(DIGITS):
            return np.array([float(value) for value in self.start + self.outputs_map * v])

    def features_after(self, v):
        """f_k(0) + L_kᵀ v_k as floats, shape (m, n)."""
        with mp.workdps(DIGITS):
            change = self.jacobian * v
            m, n = self.features.rows, self.features.cols
            return np.array([[float(self.features[k, i] + change[k * n + i]) for i in range(n)] for k in range(m)])
