"""Narrow students: which of the teacher's units are needed, and how many.

A *ticket* is a student that keeps some of a wide student's units, each with its start, its output weight and its part
of the teacher. All predictions are of the kernel regime's limit: none of the narrow students is trained.

Book: chapter *How much of the teacher is needed?*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve

from kdlib.limit import fixed_point, inverse_on_range
from kdlib.linear_system import LinearSystem, after, over_units, range_and_inverse
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem, check_problem
from kdlib.validation import ArrayLike, is_concrete, known_now, non_negative

_OUTPUTS = ("keep", "rescale")


def ticket(problem: TransferProblem, units: ArrayLike, *, output: str = "keep") -> TransferProblem:
    r"""Return the transfer problem of a narrow student that keeps some units.

    .. math:: f^S = c \sum_{k \in S} b_k f_k, \qquad c = 1 \text{ ("keep")},
              \quad c = \sqrt{m / m'} \text{ ("rescale")}.

    With kept output weights :math:`b_k = a_k/\sqrt m` the sum a of their squares falls to m'/m (signs ±1). Rescaled to
    :math:`a_k/\sqrt{m'}` a stays 1, and the student's and the teacher's outputs grow by c.

    Parameters
    ----------
    problem : TransferProblem
        Of the wide student, m units.
    units : array of int, shape (m',)
        The units to keep, each at most once.
    output : {"keep", "rescale"}
        What becomes of their output weights.

    Returns
    -------
    TransferProblem
        Of width m', with the units in the order given.

    Raises
    ------
    ValueError
        Unless units are different indices from 0 to m - 1, and ``output`` is one of the two.

    References
    ----------
    Frankle and Carbin, *The Lottery Ticket Hypothesis*, ICLR 2019.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((4, 1)), jnp.ones(4))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((4, 1)), lam=1.0)
    >>> for output in ("keep", "rescale"):
    ...     print(f"{kd.ticket(problem, [0, 2], output=output).student.a:.2f}")
    0.50
    1.00
    """
    problem, units = check_problem(problem), _check_units(problem, units, "units")
    factor = _factors(problem, np.array([units.size]), output)[0] * np.sqrt(units.size / problem.student.width)
    wide = problem.student
    narrow = TwoLayerNetwork(wide.weights[units], factor * wide.signs[units], wide.activation)
    phi = problem.phi
    return TransferProblem(narrow, problem.x, problem.y, None if phi is None else phi[units], lam=problem.lam)


def ticket_losses(problem: TransferProblem, order: ArrayLike, *, output: str = "keep") -> jax.Array:
    r"""Return how far the tickets along an order end from the wide student.

    Entry j - 1 belongs to the ticket :math:`S` of the first j units:

    .. math:: \frac{\lVert f_\infty - f_\infty^S \rVert}{\max(\lVert y \rVert, \lVert f(0) \rVert)}, \qquad
              f_\infty - f_\infty^S = \lambda \Bigl(\lambda I + \sum_{k \in S} b_k^2 P_k\Bigr)^{-1}
              \sum_{k \notin S} b_k f_{k,\infty} \quad \text{("keep")}.

    Parameters
    ----------
    problem : TransferProblem
        Of the wide student, λ > 0.
    order : array of int, shape (j,)
        Units, each at most once; j may be smaller than m.
    output : {"keep", "rescale"}
        As in :func:`ticket`.

    Returns
    -------
    array, shape (j,)
        Relative losses, not monotone in general: a further unit can do harm.

    Raises
    ------
    ValueError
        As :func:`ticket`; for λ = 0.

    Notes
    -----
    All tickets come from one pass over the units, O(j(n³ + n²d)) flops and O(n² + m(n + d)) memory. Losses, times
    max(‖y‖, ‖f(0)‖), are accurate to 1e-9 in 64-bit, 1e-4 in 32-bit, relative to the larger of ‖y‖ and the norms of
    outputs and features, for units' singular values within the spread of :func:`fixed_point`.

    References
    ----------
    Statement ``ticket-limit`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((4, 1)), jnp.ones(4))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((4, 1)) / 2, lam=1.0)
    >>> print(kd.ticket_losses(problem, jnp.arange(4)))
    [0.6        0.33333333 0.14285714 0.        ]
    """
    problem = _check_strength(check_problem(problem))
    order = _check_units(problem, order, "order")
    factors = jnp.asarray(_factors(problem, np.arange(1, order.size + 1), output))
    return _losses(problem, fixed_point(problem).outputs, order, factors)


def smallest_ticket(
    problem: TransferProblem, loss: float | jax.Array, order: ArrayLike, *, output: str = "keep"
) -> jax.Array:
    """Return the shortest beginning of an order whose ticket loses at most the given share.

    Parameters
    ----------
    problem : TransferProblem
        Of the wide student, λ > 0.
    loss : float
        The largest relative loss allowed, as :func:`ticket_losses` measures it.
    order : array of int, shape (j,)
        Units, such as :func:`greedy_order` returns.
    output : {"keep", "rescale"}
        As in :func:`ticket`.

    Returns
    -------
    array of int, shape (m',)
        The units of the ticket, for :func:`ticket`.

    Raises
    ------
    ValueError
        As :func:`ticket_losses`; if no beginning of the order is good enough; for traced arrays.

    Notes
    -----
    Losses are not monotone, so all are computed; bisection could miss the first that fits.

    References
    ----------
    Frankle and Carbin, *The Lottery Ticket Hypothesis*, ICLR 2019. Statements ``ticket-limit`` and ``units-needed`` of
    the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((4, 1)), jnp.ones(4))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((4, 1)) / 2, lam=1.0)
    >>> print(kd.smallest_ticket(problem, 0.2, [3, 2, 1, 0]))
    [3 2 1]
    """
    for name, value in (("problem", problem), ("loss", loss), ("order", order)):
        known_now(name, value, "since they decide how many units there are")
    loss = float(non_negative("loss", loss))
    losses = np.asarray(ticket_losses(problem, order, output=output))
    fits = np.flatnonzero(losses <= loss)
    if fits.size == 0:
        raise ValueError(
            f"loss: expected one that some ticket along the order keeps to, {losses.min():.3g} or more; got {loss}"
        )
    return jnp.asarray(order)[: fits[0] + 1]


def lead_order(problem: TransferProblem) -> jax.Array:
    r"""Return the units by the size of the teacher's lead, largest first.

    .. math:: \lVert b_k (\varphi_k - f_k(0)) \rVert

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    array of int, shape (m,)

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    References
    ----------
    Frankle and Carbin, *The Lottery Ticket Hypothesis*, ICLR 2019 (keep the largest).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.array([[1.0], [3], [2]]), lam=1.0)
    >>> print(kd.lead_order(problem))
    [1 2 0]
    """
    problem = check_problem(problem)
    lead = jnp.abs(problem.student.output_weights) * jnp.linalg.norm(problem.feature_gap, axis=1)
    return jnp.argsort(-lead)


def greedy_order(problem: TransferProblem, count: int | None = None, *, output: str = "keep") -> jax.Array:
    r"""Return units in the order in which each one makes the loss of the next ticket least.

    Starting from no units, the next one is that of least :math:`\lVert f_\infty - f_\infty^S \rVert`, the loss of
    :func:`ticket_losses`, predicted for every unit that is left.

    Parameters
    ----------
    problem : TransferProblem
        Of the wide student, λ > 0.
    count : int, optional
        How many units to choose; all m by default.
    output : {"keep", "rescale"}
        As in :func:`ticket`.

    Returns
    -------
    array of int, shape (count,)

    Raises
    ------
    ValueError
        As :func:`ticket_losses`; unless count is an integer from 1 to m.

    Notes
    -----
    Cost m·count factorizations of size n: m·count·n²(min(n, d) + n/3) flops. Every unit's basis of range(H_k) is kept,
    O(m n min(n, d)) memory: for hundreds of units and samples, not thousands. Each step is the best one; the ticket
    as a whole need not be. At λ below 1e-6 a (32-bit: 1e-2 a) it may be rounding that chooses.

    References
    ----------
    Ye et al., *Good Subnetworks Provably Exist: Pruning via Greedy Forward Selection*, ICML 2020 (greedy selection).
    Statement ``ticket-limit`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.array([[1.0], [3], [2]]), lam=1.0)
    >>> print(kd.greedy_order(problem, 2))
    [1 2]
    """
    problem = _check_strength(check_problem(problem))
    m = problem.student.width
    count = m if count is None else count
    if isinstance(count, bool) or not hasattr(count, "__index__") or not 1 <= int(count) <= m:
        raise ValueError(f"count: expected an integer from 1 to m={m}; got {count!r}")
    factors = jnp.asarray(_factors(problem, np.arange(1, int(count) + 1), output))
    return _greedy(problem, fixed_point(problem).outputs, factors)


def _check_strength(problem):
    if is_concrete(problem.lam) and float(problem.lam) == 0:
        raise ValueError("problem: expected lam > 0, since a ticket's limit is predicted from its teacher; got lam = 0")
    return problem


def _check_units(problem, units, name):
    """The units as an array of different indices."""
    m = problem.student.width
    units = units if isinstance(units, jax.Array) else np.asarray(units)
    what = f"different unit indices from 0 to m - 1 = {m - 1}, an integer array of shape (m',)"
    if units.ndim != 1 or units.size == 0 or units.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected {what}; got {units.dtype} values of shape {units.shape}")
    if is_concrete(units):
        values = np.asarray(units)
        if values.min() < 0 or values.max() >= m or np.unique(values).size < values.size:
            raise ValueError(f"{name}: expected {what}; got {values.tolist()}")
    return jnp.asarray(units)


def _factors(problem, sizes, output):
    """c for tickets of these sizes."""
    if output not in _OUTPUTS:
        raise ValueError(f"output: expected one of {', '.join(map(repr, _OUTPUTS))}; got {output!r}")
    return np.sqrt(problem.student.width / sizes) if output == "rescale" else np.ones(len(sizes))


def _parts(problem):
    """What each unit brings: its slopes, b_k, f_k(0) and φ_k - f_k(0)."""
    system = LinearSystem.of(problem)
    return system.slopes, system.output_weights, problem.student.features(problem.x), system.feature_gap


def _basis_and_share(x, slopes, b, start, gap):
    """An orthonormal basis of range(H_k) as columns, and b_k(f_k(0) + P_k(φ_k - f_k(0)))."""
    left, _ = range_and_inverse(x, slopes)
    return left, b * (start + left @ (left.T @ gap))


def _end(problem, mean, told, factor):
    """f_∞ of the student with projectors' mean c²·mean and carried teacher c·told."""
    matrix = problem.lam * jnp.eye(told.size, dtype=told.dtype) + factor**2 * mean
    return problem.y - problem.lam * solve(matrix, problem.y - factor * told, assume_a="pos")


@eqx.filter_jit
def _losses(problem, full, order, factors):
    x = after(full, problem.x)

    def add(total, unit):
        *parts, factor = unit
        basis, share = _basis_and_share(x, *parts)
        mean, told, a = total[0] + parts[1] ** 2 * basis @ basis.T, total[1] + share, total[2] + parts[1] ** 2
        # on the range of P̄ and beyond it apart, that a small λ meets no rounding
        projector = factor**2 * mean
        inverse = inverse_on_range(projector, problem.lam, factor**2 * a)
        end = factor * told + projector @ (inverse @ (problem.y - factor * told))
        return (mean, told, a), jnp.linalg.norm(full - end) / problem.scale

    n = full.size
    start = jnp.zeros((n, n), full.dtype), jnp.zeros(n, full.dtype), jnp.zeros((), full.dtype)
    return jax.lax.scan(add, start, (*(part[order] for part in _parts(problem)), factors))[1]


@eqx.filter_jit
def _greedy(problem, full, factors):
    b, x = problem.student.output_weights, after(full, problem.x)
    bases, shares = over_units(lambda unit: _basis_and_share(x, *unit), _parts(problem))

    def choose(state, factor):
        mean, told, free = state

        def loss(unit):
            basis, share, weight = unit
            return jnp.linalg.norm(full - _end(problem, mean + weight**2 * basis @ basis.T, told + share, factor))

        losses = over_units(loss, (bases, shares, b))
        best = jnp.argmin(jnp.where(free, losses, jnp.inf))
        mean = mean + b[best] ** 2 * bases[best] @ bases[best].T
        return (mean, told + shares[best], free.at[best].set(False)), best

    n = full.size
    start = jnp.zeros((n, n), full.dtype), jnp.zeros(n, full.dtype), jnp.ones(b.size, bool)
    return jax.lax.scan(choose, start, factors)[1]
