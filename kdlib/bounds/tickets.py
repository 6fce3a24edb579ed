"""How many units a narrow student needs at least.

Book: chapter *How much of the teacher is needed?*.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound
from kdlib.limit import fixed_point
from kdlib.problem import TransferProblem
from kdlib.tickets import greedy_order, smallest_ticket
from kdlib.validation import known_now, non_negative


def units_needed(problem: TransferProblem, loss: float | jax.Array) -> Bound:
    r"""Bound from below the size of every ticket that loses at most δ.

    The least m' at which the m' largest of
    :math:`\beta_k = \langle b_k f_{k,\infty}, f_\infty \rangle / \lVert f_\infty \rVert` and of :math:`b_k^2` fulfil

    .. math:: \sum_{\text{largest } m'} \beta_k \;\ge\; \lVert f_\infty \rVert -
              \Bigl(1 + \frac1\lambda \sum_{\text{largest } m'} b_k^2\Bigr)\,
              \delta \max(\lVert y \rVert, \lVert f(0) \rVert) .

    Parameters
    ----------
    problem : TransferProblem
        Of the wide student, λ > 0.
    loss : float
        δ, relative to max(‖y‖, ‖f(0)‖), as :func:`kdlib.ticket_losses` measures it.

    Returns
    -------
    Bound
        ``value`` the number of units; ``measured`` the size of the greedy ticket, itself at least the smallest one's.

    Raises
    ------
    ValueError
        As :func:`kdlib.greedy_order`; for a negative loss; for traced arrays.

    Notes
    -----
    Attained where all units are alike, as is what they are taught, and the limit lies in the range of their kernel. The
    bound is for kept output weights. It costs one `fixed_point`; the greedy ticket beside it costs more.

    References
    ----------
    Statement ``units-needed`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((4, 1)), jnp.ones(4))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((4, 1)) / 2, lam=1.0)
    >>> print(kd.bounds.units_needed(problem, 0.2))
    units of a ticket: measured 3 ≥ 3
    """
    for name, value in (("problem", problem), ("loss", loss)):
        known_now(name, value, "since they decide how many units there are")
    loss = float(non_negative("loss", loss))
    measured = smallest_ticket(problem, max(loss, 1e-9), greedy_order(problem)).size
    end, b = fixed_point(problem), np.asarray(problem.student.output_weights)
    f = np.asarray(end.outputs)
    size = np.linalg.norm(f)
    share = np.sort(b * (np.asarray(end.features) @ f) / (size if size > 0 else 1.0))[::-1].cumsum()
    weight = np.sort(b**2)[::-1].cumsum()
    reached = share >= size - (1 + weight / float(problem.lam)) * loss * float(problem.scale) - 1e-12 * size
    value = 1 + int(np.argmax(reached)) if reached.any() else b.size
    assumptions = (Assumption("λ > 0", problem.lam > 0),)
    return Bound("units of a ticket", jnp.asarray(float(value)), float(measured), assumptions, below=True, trivial=1.0)
