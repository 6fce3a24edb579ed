"""What the student says of a label that was left out, for many strengths λ at the price of one.

Book: chapter *Your own teacher*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from kdlib.kernels import range_eigh, rank_tolerance
from kdlib.limit import carried_error
from kdlib.linear_system import LinearSystem
from kdlib.problem import TransferProblem
from kdlib.trajectory import check_problem_and_inputs
from kdlib.validation import is_concrete, real_array


def leave_one_out(problem: TransferProblem, strengths: ArrayLike) -> jax.Array:
    r"""Return what the student says of each label when that one label is left out.

    .. math:: f_i^{(-i)} = y_i - \frac{[(\lambda I + \bar P)^{-1} (y - \tau)]_i}{[(\lambda I + \bar P)^{-1}]_{ii}} .

    The sample's input and teacher's features stay. With every :math:`H_k \succ 0` the answer is the teacher's output,
    whatever λ.

    Parameters
    ----------
    problem : TransferProblem
        Its own λ plays no part.
    strengths : array, shape (s,)
        Positive values of λ.

    Returns
    -------
    array, shape (s, n)
        Outputs at t → ∞, each of a student that has not seen the label there.

    Raises
    ------
    ValueError
        For strengths that are not positive.

    Notes
    -----
    Exact, from one eigendecomposition: no student is fitted again. A label on which the *teacher* was trained has not
    been left out. Accurate to 1e-9 in 64-bit, 1e-4 in 32-bit, relative to the larger of ‖y‖ and the norms of outputs
    and features, for units' singular values within the spread of :func:`fixed_point`. At strengths below 1e-6 a
    (32-bit: 1e-2 a) a sample that the units all but miss loses more.

    References
    ----------
    Golub, Heath, Wahba, *Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter*, 1979.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((1, 1)), jnp.ones(1))
    >>> problem = kd.TransferProblem(student, jnp.ones((2, 1)), jnp.ones(2), jnp.zeros((1, 2)), lam=1.0)
    >>> print(kd.leave_one_out(problem, [1.0]).round(4))
    [[0.3333 0.3333]]
    """
    check_problem_and_inputs(problem, None)
    return _left_out(problem, _check(strengths))


def _check(strengths):
    strengths = real_array("strengths", strengths, (("s", None),))
    if is_concrete(strengths) and (least := np.asarray(strengths).min()) <= 0:
        raise ValueError(f"strengths: expected positive numbers; got {float(least)}")
    return strengths


@eqx.filter_jit
def _left_out(problem, strengths):
    system = LinearSystem.of(problem)
    mean, bracket, _ = carried_error(system)
    values, vectors = range_eigh(mean, jnp.sum(system.output_weights**2))
    # rounding puts a trace of what no unit sees into samples that all of it misses: a small λ would show it alone
    unseen = values[None, :] == 0
    missed = jnp.linalg.norm(jnp.where(unseen, vectors, 0.0), axis=1) <= rank_tolerance(values.dtype, values.size)
    vectors = jnp.where(unseen & missed[:, None], 0.0, vectors)
    shrink = strengths[:, None] / (strengths[:, None] + values[None, :])
    errors = (shrink * (vectors.T @ bracket)[None, :]) @ vectors.T
    return problem.y[None, :] - errors / (shrink @ (vectors**2).T)
