"""Extreme problems of kdlib beside the same in 50 digits, for what the functions state of their accuracy.

The problems are those of ``test_accuracy.py``, each drawn anew.
"""

import functools

import jax
import mpmath as mp
import numpy as np

from tests.precise import DIGITS, Precise
from tests.problems import as_transfer_problem
from tests.test_accuracy import DECIDABLE, KINDS, extreme_problem

SHAPES = {(1, 1, 1): "tanh", (2, 3, 2): "relu", (3, 2, 3): "tanh"}
LAMBDAS = [0.0, 1e-12, 0.5, 1e12]
# the largest spread of the singular values of an L_k up to which accuracies of what goes through its range are stated
SPREAD = {np.float64: 1e6, np.float32: 1e2}


class Case:
    """A problem of kdlib beside the same in 50 digits."""

    def __init__(self, shape, kind, lam, dtype):
        self.dtype, self.kind, self.lam = dtype, kind, lam
        seed = KINDS.index(kind), LAMBDAS.index(lam)
        self.arrays = extreme_problem(shape, SHAPES[shape], lam, kind, dtype, *seed)
        self.precise, self.problem = Precise(*self.arrays), as_transfer_problem(*self.arrays)
        self.scale = float(self.precise.scale)
        self.size = max(self.scale, float(mp.norm(self.precise.features)), float(np.linalg.norm(self.arrays[5])))
        self.decided = lam > 0 or self.precise.rate_spread >= DECIDABLE[dtype]
        self.spread = max(
            [1.0, *(float(mp.sqrt(max(h) / min(h))) for h in map(self.precise.unit_rates, range(shape[0])) if h)]
        )
        self.rate = float(max(self.precise.rates)) or 1.0
        self.truth = np.cos(np.arange(shape[1])).astype(dtype)
        self.labels = mp.matrix([mp.mpf(float(label)) for label in self.truth])

    @functools.cached_property
    def alone(self):
        """The same without transfer, and its kernel's eigenvalues and eigenvectors."""
        arrays = (*self.arrays[:-1], self.dtype(0))
        with mp.workdps(DIGITS):
            return Precise(*arrays), as_transfer_problem(*arrays), mp.eigsy(self.precise.tangent)

    def times(self, *more):
        """Short, middle and late, relative to the fastest rate, and 0."""
        return np.array([0.0, *(t / self.rate for t in (1e-6, 1.0, 1e3)), *more]).astype(self.dtype)


@functools.cache
def case(*key):
    with jax.enable_x64(key[-1] is np.float64):
        return Case(*key)


def floats(matrix):
    """A matrix of many digits as an array, a column as a vector."""
    array = np.array(matrix.tolist(), complex)
    array = array if np.any(array.imag) else array.real
    return array[:, 0] if array.shape[1] == 1 else array


def precisely(s):
    return mp.mpc(complex(s)) if np.iscomplexobj(s) else mp.mpf(float(s))


def apart(found, exact, size=None):
    """The distance, relative to the exact value or to a size."""
    found = np.asarray(found)
    assert np.all(np.isfinite(found))
    distance, size = np.linalg.norm(found - exact), np.linalg.norm(exact) if size is None else size
    return distance / size if size > 0 else (0.0 if distance == 0 else np.inf)
