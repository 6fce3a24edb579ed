"""What the student says of a label that was left out, for many strengths λ at the price of one.

Book: chapter *Your own teacher*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from kdlib.kernels import rank_tolerance
from kdlib.linear_system import LinearSystem, unit_factors
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
    been left out.

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
    if is_concrete(strengths) and (strengths <= 0).any():
        raise ValueError(f"strengths: expected positive numbers; got {float(strengths.min())}")
    return strengths


def _carried_error(problem, system):
    """P̄'s eigenvalues, exact zeros where nothing is seen, its eigenvectors, and y - τ."""

    def gather(total, unit):
        slopes, weight, gap = unit
        left, _, _ = unit_factors(system.x, slopes)
        return (total[0] + weight**2 * left @ left.T, total[1] - weight * left @ (left.T @ gap)), None

    n = system.x.shape[0]
    start = jnp.zeros((n, n), system.x.dtype), system.output_gap
    (mean, bracket), _ = jax.lax.scan(gather, start, (system.slopes, system.output_weights, system.feature_gap))
    values, vectors = jnp.linalg.eigh(mean)
    seen = values > rank_tolerance(values.dtype, n) * jnp.sum(system.output_weights**2)
    return jnp.where(seen, values, 0.0), vectors, bracket


@eqx.filter_jit
def _left_out(problem, strengths):
    values, vectors, bracket = _carried_error(problem, LinearSystem.of(problem))
    shrink = strengths[:, None] / (strengths[:, None] + values[None, :])
    errors = (shrink * (vectors.T @ bracket)[None, :]) @ vectors.T
    return problem.y[None, :] - errors / (shrink @ (vectors**2).T)
