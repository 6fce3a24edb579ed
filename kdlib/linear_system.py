r"""The linear system of the kernel regime, as a structure: block-diagonal plus low rank.

With the unit kernels frozen at the start, v_k = w_k - w_k(0) follows v' = c - M v with

    M = λ blkdiag(L_k L_kᵀ) + JᵀJ = AᵀA,   A = [√λ blkdiag(L_kᵀ); J],   c = Aᵀg,

so the flow is the gradient flow of ½‖g - A v‖². Nothing here forms M or A: a product with either costs
matrix products of sizes (m×d)·(d×n), and the memory is O(m(n + d)).

Units meet in one sum of length n only. So they are processed in blocks that fit the cache, and arrays that are
sharded over units stay where they are: one all-reduce of an (n,) vector a product is all that devices exchange.

Book: chapter *Linear system*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.kernels import rank_tolerance
from kdlib.network import activation_pair
from kdlib.problem import TransferProblem
from kdlib.validation import is_concrete

# Features of a block: on a CPU of units about as many as fit a core's cache, of samples about as many as fit the last
# one, and no fewer of either than a product is slow with; a GPU is faster the larger its blocks are.
_CACHED_ENTRIES, _LAST_CACHED_ENTRIES, _MOST_ENTRIES, _FEWEST = 2**18, 2**21, 2**28, 64
# Slopes of more bytes on a device than this are not kept but computed anew, block by block, in each product; a GPU has
# memory of its own, and keeps more.
_KEPT_BYTES, _MOST_KEPT_BYTES = 2**30, 2**33
# Factorizations of units at once, and the entries of their matrices.
_UNITS_AT_ONCE, _ENTRIES_AT_ONCE = 32, 2**22


class LinearSystem(eqx.Module):
    """The frozen-kernel system of a transfer problem, by its actions.

    Vectors v are of shape (m, d); the image of A is a pair of shapes (m, n) and (n,). Of arrays of size (m, n) only
    the slopes are kept, and of a large problem not even those (None); the slopes of a ReLU are 0 or 1, and kept in one
    byte each. ``start`` holds the outputs f(0).
    """

    problem: TransferProblem
    kept_slopes: jax.Array | None
    start: jax.Array
    devices: int = eqx.field(static=True, default=1)

    @classmethod
    def of(cls, problem):
        weights = problem.student.weights
        devices = len(weights) // weights.sharding.shard_shape(weights.shape)[0] if is_concrete(weights) else 1
        most = _KEPT_BYTES if jax.default_backend() == "cpu" else _MOST_KEPT_BYTES
        each = 1 if problem.student.activation == "relu" else problem.x.dtype.itemsize
        slopes, start = _frozen(problem, each * len(weights) * len(problem.x) <= devices * most)
        return cls(problem, slopes, start, devices if is_concrete(start) else 1)

    def after(self, done):
        """The same system, whose units are factored only once the array ``done`` is there, see :func:`after`."""
        return eqx.tree_at(lambda system: system.problem.x, self, after(done, self.x))

    @property
    def x(self):
        return self.problem.x

    @property
    def lam(self):
        return self.problem.lam

    @property
    def output_weights(self):
        return self.problem.student.output_weights

    @property
    def slopes(self):
        """σ'(w_k(0)·x_i), shape (m, n): row k is the diagonal of S_k."""
        kept = self.problem.student.derivative(self.x) if self.kept_slopes is None else self.kept_slopes
        return kept.astype(self.x.dtype)

    @property
    def output_gap(self):
        """y - f(0), shape (n,)."""
        return self.problem.y - self.start

    @property
    def scale(self):
        """max(‖y‖, ‖f(0)‖), what accuracies of trajectories are relative to."""
        return _longer(self.problem.y, self.start)

    @property
    def feature_gap(self):
        """φ - f(0) unit by unit, shape (m, n), computed anew each time."""
        return self.problem.feature_gap

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
        return self._pulled(outputs, features)

    def output_adjoint(self, outputs):
        """Jᵀ applied to a vector of shape (n,)."""
        return self._pulled(outputs)

    def _pulled(self, outputs, features=None):
        """Xᵀ S_k (b_k outputs + √λ features_k) unit by unit, shape (m, d); without features their part is left out."""
        slopes, weights = self._slopes_in_blocks(), self._in_blocks(self.output_weights)
        rows, root = None if features is None else self._in_blocks(features), jnp.sqrt(self.lam)

        def block(j, pulled):
            pull = _block(weights, j)[..., None] * outputs[None, None, :]
            if rows is not None:
                pull = pull + root * _block(rows, j)
            return jax.lax.dynamic_update_index_in_dim(pulled, (slopes(j) * pull) @ self.x, j, 1)

        units = self.problem.student.weights
        dtype = jnp.result_type(self.x, outputs, *([] if features is None else [features]))
        start = jnp.zeros_like(self._in_blocks(units), dtype=dtype)
        return jax.lax.fori_loop(0, start.shape[1], block, start).reshape(units.shape)

    def product(self, v):
        """M v = AᵀA v, shape (m, d), in blocks of samples: a sample's output needs all units, but no other sample."""
        if self.devices > 1:  # where each block's outputs would be an all-reduce of their own
            return self.adjoint(self.forward(v))
        n, b = len(self.x), self.output_weights[:, None]
        blocks = max(1, min(n // _FEWEST, -(-len(v) * n // _entries(_LAST_CACHED_ENTRIES))))
        width = -(-n // blocks)

        def add(start, width, pulled):
            x = jax.lax.dynamic_slice_in_dim(self.x, start, width)
            own = self._slopes_at(x, start)
            change = own * (v @ x.T)
            return pulled + (own * (self.lam * change + b * (b.T @ change))) @ x

        pulled = jax.lax.fori_loop(0, n // width, lambda j, pulled: add(j * width, width, pulled), jnp.zeros_like(v))
        return add(n - n % width, n % width, pulled) if n % width else pulled

    def image_length(self, v):
        """‖A v‖."""
        features, outputs = self.forward(v)
        return jnp.sqrt(jnp.sum(features**2) + jnp.sum(outputs**2))

    def advance(self, v, image, share):
        """One step of a recurrence in two sweeps over blocks of units, each with one matrix product a block.

        Returns
        -------
        moved : pair of arrays, shapes (m, n) and (n,)
            A v - share·image.
        length : array, scalar
            ‖A v - share·image‖.
        outputs : array, shape (n,)
            J v.
        pulled : array, shape (m, d)
            Aᵀ(A v - share·image).
        """
        slopes, weights, vectors = self._slopes_in_blocks(), *map(self._in_blocks, (self.output_weights, v))
        root, n = jnp.sqrt(self.lam), len(self.x)

        def block(j, carry):
            rows, outputs, square = carry
            change = slopes(j) * (_block(vectors, j) @ self.x.T)
            moved = root * change - share * _block(rows, j)
            rows = jax.lax.dynamic_update_index_in_dim(rows, moved, j, 1)
            outputs = outputs + jnp.einsum("zk,zkn->zn", _block(weights, j), change)
            return rows, outputs, square + jnp.sum(moved**2, axis=(1, 2))

        # sums of each device's own units: they meet after the last block
        sums = jnp.zeros((self.devices, n), v.dtype), jnp.zeros(self.devices, v.dtype)
        start = self._in_blocks(image[0]), *sums
        rows, outputs, square = jax.lax.fori_loop(0, vectors.shape[1], block, start)
        outputs, square = jnp.sum(outputs, axis=0), jnp.sum(square)
        left = outputs - share * image[1]
        moved = rows.reshape(len(v), n), left
        return moved, jnp.sqrt(square + jnp.vdot(left, left)), outputs, self.adjoint(moved)

    def scan_units(self, function, total, units):
        """Scan over batches of units, on each device over its own; the totals of all devices are added up.

        ``function(total, batch)`` returns a new total, and arrays over the units of the batch.
        """
        n, d = self.x.shape
        # devices of one CPU share one pool of threads, which their batches of factorizations could fill: one at a time
        shared = self.devices > 1 and jax.default_backend() == "cpu" and jax.local_device_count() > 1
        most = 1 if shared else min(_UNITS_AT_ONCE, max(1, _ENTRIES_AT_ONCE // (n * d)))

        def scan(own):
            return _scan_batches(function, total, own, most)

        if self.devices == 1:
            return scan(units)
        own = jax.tree.map(lambda array: array.reshape(self.devices, -1, *array.shape[1:]), units)
        totals, arrays = jax.vmap(scan)(own)
        total = jax.tree.map(lambda parts: jnp.sum(parts, axis=0), totals)
        return total, jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), arrays)

    def _slopes_at(self, x, start):
        """The slopes at the samples x, which begin at number ``start``, shape (m, samples)."""
        if self.kept_slopes is None:
            return self.problem.student.derivative(x)
        return jax.lax.dynamic_slice_in_dim(self.kept_slopes, start, len(x), axis=1)

    def _slopes_in_blocks(self):
        """A function from a block's number to its slopes, shape (devices, units of a block, n)."""
        if self.kept_slopes is not None:
            kept = self._in_blocks(self.kept_slopes)
            return lambda j: _block(kept, j)
        student = self.problem.student
        weights, (_, slope) = self._in_blocks(student.weights), activation_pair(student.activation)
        return lambda j: slope(_block(weights, j) @ self.x.T)

    def _in_blocks(self, array):
        """An array over units as (devices, blocks, units of a block, ...)."""
        units, samples = len(array) // self.devices, len(self.x)
        entries = _entries(_CACHED_ENTRIES)
        counts = [count for count in range(1, max(1, units // _FEWEST) + 1) if units % count == 0]
        count = next((count for count in counts if units // count * samples <= entries), counts[-1])
        return array.reshape(self.devices, count, -1, *array.shape[1:])


def _entries(cached):
    return cached if jax.default_backend() == "cpu" else _MOST_ENTRIES


@jax.jit
def _longer(first, second):
    return jnp.maximum(jnp.linalg.norm(first), jnp.linalg.norm(second))


def _block(array, j):
    return jax.lax.dynamic_index_in_dim(array, j, 1, keepdims=False)


@eqx.filter_jit
def _frozen(problem, keeps_slopes):
    """Slopes, if they are to be kept, and outputs at the start: together, for they share their preactivations."""
    student = problem.student
    if not keeps_slopes:
        return None, student(problem.x)
    slopes = student.derivative(problem.x)
    return slopes > 0 if student.activation == "relu" else slopes, student(problem.x)


@eqx.filter_jit
def _slopes_and_weights(student, x):
    return student.derivative(x), student.output_weights


class Readout(eqx.Module):
    """J at any inputs: what a change of weights does to the outputs there."""

    x: jax.Array
    slopes: jax.Array
    output_weights: jax.Array

    @classmethod
    def of(cls, student, x):
        return cls(x, *_slopes_and_weights(student, x))

    def __call__(self, v):
        return self.output_weights @ (self.slopes * (v @ self.x.T))


def after(done, array):
    """The array as it is, but there only once the array ``done``, of real or complex numbers, is; so its derivatives.

    Chains what factors matrices in a row. jaxlib 0.10 shares the matrices of a batch out over a pool of threads, and
    whoever asked waits in a thread of the same pool: on two cores two batches at the same time wait for each other for
    ever.
    """
    number = _one_for_all(jax.lax.stop_gradient(jnp.ravel(done)[0]))
    # A choice that is always the array, but the compiler cannot know. A barrier it removes, and with it the order.
    number = jnp.where(number == number, number, 0)
    return jnp.where(number == number, array, 0)


@jax.custom_batching.custom_vmap
def _one_for_all(number):
    """Of the numbers of many problems the first: they are there together, and what is the same for all stays one."""
    return number


@_one_for_all.def_vmap
def _first_of_many(_, batched, number):
    return _one_for_all(number[0]), False


def over_units(function, units):
    """Map a function of one unit over units, some at once, so that no array of size (m, n, d) is held."""
    return _scan_batches(lambda total, batch: (total, jax.vmap(function)(batch)), (), units, _UNITS_AT_ONCE)[1]


def _scan_batches(function, total, units, most):
    # Batches of equal size, one after the other, see `after`.
    # Not filled up with units of zeros: the derivative of a singular vector is not a number there.
    count = len(jax.tree.leaves(units)[0])
    size = next(size for size in range(min(count, most), 0, -1) if count % size == 0)
    batches = jax.tree.map(lambda array: array.reshape(-1, size, *array.shape[1:]), units)
    total, arrays = jax.lax.scan(function, total, batches)
    return total, jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), arrays)


def unit_factors(x, slopes):
    """U, Σ and Wᵀ of one unit's S_k X = L_kᵀ = U Σ Wᵀ, with U and Σ set to zero beyond the rank: P_k = U Uᵀ.

    ``slopes`` is of shape (n,), or (units, n) for a batch of units.
    """
    return truncated_svd(_unit_matrices(x, slopes))


def truncated_svd(matrix):
    """U, Σ and Wᵀ of a matrix (n, d), or of several, with U and Σ set to zero beyond the rank."""
    left, sigma, right = jnp.linalg.svd(matrix, full_matrices=False)
    kept = sigma > rank_tolerance(sigma.dtype, *matrix.shape[-2:]) * sigma[..., :1]
    return left * kept[..., None, :], sigma * kept, right


def _unit_matrices(x, slopes):
    return jnp.einsum("...n,nd->...nd", slopes, x)


def range_and_inverse(x, slopes):
    """U and A⁺ = W Σ⁺ Uᵀ of one unit's A = S_k X, or of a batch of units, with derivatives at constant rank.

    What depends on the range of A alone, as P_k = U Uᵀ, has its true derivative, also where a unit has lost rank or
    singular values meet; the derivative of a singular vector is not a number there.
    """
    return _range_and_inverse(_unit_matrices(x, slopes))


@jax.custom_jvp
def _range_and_inverse(matrix):
    left, sigma, right = truncated_svd(matrix)
    inverse = jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, sigma, 1.0), 0.0)
    return left, jnp.einsum("...rd,...r,...nr->...dn", right, inverse, left)


@_range_and_inverse.defjvp
def _range_and_inverse_jvp(primals, tangents):
    # U moves at right angles to the range, dU = (I - P) dA A⁺U, and (Golub and Pereyra, 1973)
    # dA⁺ = A⁺A⁺ᵀ dAᵀ (I - P) + (I - A⁺A) dAᵀ A⁺ᵀA⁺ - A⁺ dA A⁺.
    (matrix,), (change,) = primals, tangents
    left, inverse = _range_and_inverse(matrix)

    def off_range(columns):
        return columns - left @ (left.mT @ columns)

    inner = inverse @ change
    across = off_range(change @ (inverse @ inverse.mT)).mT
    turned = inner.mT @ inverse
    return (left, inverse), (
        off_range(change @ (inverse @ left)),
        across + turned - (inverse @ matrix) @ turned - inner @ inverse,
    )


def sum_of_outer(columns, scales):
    """Σ_k C_k diag(s_k) C_kᵀ of a batch of units, shapes (units, n, r) and (units, r), as one matrix product."""
    return jnp.einsum("kir,kjr->ij", columns * scales[:, None, :], columns)


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
        def gather(total, batch):
            slopes, weights = batch
            left, sigma, right = unit_factors(system.x, slopes)
            inverse = jnp.where(sigma > 0, 1 / (gamma + system.lam * sigma**2), 0.0)
            scales = weights[:, None] ** 2 * sigma**2 * inverse
            return total + sum_of_outer(left, scales), (right, inverse)

        identity = jnp.eye(system.x.shape[0], dtype=system.x.dtype)
        units = system.slopes, system.output_weights
        total, (right, inverse) = system.scan_units(gather, jnp.zeros_like(identity), units)
        return cls(system, gamma, right, inverse, jnp.linalg.cholesky(identity + total))

    def _blocks(self, v):
        """B⁻¹ v on the range of the units' kernels."""
        return jnp.einsum("krd,kr->kd", self.right, self.inverse * jnp.einsum("krd,kd->kr", self.right, v))

    def __call__(self, v):
        """(γI + M)⁻¹ v for v in range(M), shape (m, d)."""
        from jax.scipy.linalg import cho_solve  # on first use: it takes as long as all of kdlib

        system, first = self.system, self._blocks(v)
        pull = cho_solve((self.cholesky, True), system.outputs(first))
        return first - self._blocks(system.output_adjoint(pull))
