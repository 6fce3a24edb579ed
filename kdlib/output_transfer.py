r"""Output-level transfer, Hinton's form: the student sees the teacher's outputs, not its features.

.. math:: E_{\text{out}}(w) = \tfrac12 \lVert y - f \rVert^2 + \tfrac\lambda2 \lVert \bar\varphi - f \rVert^2
          = \tfrac{1 + \lambda}2 \lVert \tilde y - f \rVert^2
          + \tfrac{\lambda}{2 (1 + \lambda)} \lVert y - \bar\varphi \rVert^2, \qquad
          \tilde y = \frac{y + \lambda \bar\varphi}{1 + \lambda} .

Up to a constant this is the problem without a teacher, with soft labels ỹ and a clock that runs 1 + λ times as fast.
So everything here is a change of labels and times.

Book: chapter *Soft labels*.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp

from kdlib.limit import FixedPoint, fixed_point
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import Trajectory, check_problem_and_inputs, kernel_flow
from kdlib.validation import ArrayLike, time_array


def soft_label_problem(problem: TransferProblem) -> TransferProblem:
    r"""Return the problem without transfer that output-level transfer amounts to.

    .. math:: \tilde y = \frac{y + \lambda \bar\varphi}{1 + \lambda}, \qquad \bar\varphi = \sum_k b_k \varphi_k .

    Parameters
    ----------
    problem : TransferProblem
        Of its teacher only the output φ̄ is used.

    Returns
    -------
    TransferProblem
        The same student and inputs, the labels ỹ, λ = 0; the teacher's features stay on board, unused.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    Notes
    -----
    Who has the teacher's outputs only writes ``TransferProblem(student, x, soft, None, lam=0)`` with their own ỹ. ỹ is
    accurate to 1e-14 in 64-bit, 1e-6 in 32-bit, relative to the largest of ‖y‖, ‖f(0)‖ and ‖φ̄‖.

    References
    ----------
    Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015. Statement
    ``output-transfer-is-relabelling`` of the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 2)
    >>> teacher = student.features(jnp.eye(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), student(jnp.eye(2)) + 1.0, teacher, lam=3.0)
    >>> print(kd.soft_label_problem(problem).y - student(jnp.eye(2)))  # a quarter of the way is left of the labels
    [0.25 0.25]
    """
    check_problem_and_inputs(problem, None)
    soft, phi = problem.y, problem.phi
    if phi is not None:
        soft = (problem.y + problem.lam * (problem.student.output_weights @ phi)) / (1 + problem.lam)
    return TransferProblem(problem.student, problem.x, soft, problem.teacher, lam=0.0)


def output_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the student under output-level transfer in the kernel regime.

    .. math:: f(t) = f(0) + \bigl(I - e^{-(1 + \lambda) \bar H t}\bigr) (\tilde y - f(0)) .

    Parameters
    ----------
    problem : TransferProblem
        Of its teacher only the output φ̄ is used.
    times : array, shape (T,)
        Gradient-flow times in any order; 0 and ``inf`` are allowed.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        ``energies`` are those of the output-level objective; everything else is as in :func:`kernel_flow`.

    Raises
    ------
    ValueError
        For NaN or negative times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When the Krylov runs end before their accuracy is reached.

    Notes
    -----
    Outputs are accurate to 1e-8 in 64-bit, 1e-3 in 32-bit, relative to the largest of ‖y‖, ‖f(0)‖ and ‖φ̄‖. Cost is
    that of :func:`kernel_flow` at times (1 + λ) t.

    References
    ----------
    Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 2)
    >>> x, y, teacher = jnp.eye(2), jnp.array([1.0, -1.0]), jnp.zeros((4, 2))
    >>> problem = kd.TransferProblem(student, x, y, teacher, lam=1.0)
    >>> print(kd.output_flow(problem, [jnp.inf]).outputs[0].round(6) + 0.0)  # half-way from φ̄ = 0 to y
    [ 0.5 -0.5]
    """
    return _on_soft_labels(kernel_flow, problem, times, at, allow_inf=True)


def output_gradient_flow(problem: TransferProblem, times: ArrayLike, *, at: ArrayLike | None = None) -> Trajectory:
    r"""Follow the gradient flow of the network itself under output-level transfer.

    .. math:: \dot w_k = b_k L_k(w) \bigl[(y - f) + \lambda (\bar\varphi - f)\bigr]
              = (1 + \lambda)\, b_k L_k(w)\, (\tilde y - f) .

    The change of labels and times is exact for every network, lazy or not.

    Parameters
    ----------
    problem : TransferProblem
        Of its teacher only the output φ̄ is used.
    times : array, shape (T,)
        Finite gradient-flow times in any order; 0 is allowed.
    at : array, shape (rows, d), optional
        Other inputs, such as test points, at which to return the outputs.

    Returns
    -------
    Trajectory
        ``energies`` are those of the output-level objective; everything else is as in :func:`gradient_flow`.

    Raises
    ------
    ValueError
        For NaN, negative or infinite times, a wrong shape, or values that are not finite.

    Warns
    -----
    UserWarning
        When the integrator gives up.

    Notes
    -----
    On networks of a few units, up to t = 3, outputs are accurate to 1e-8 in 64-bit, 1e-3 in 32-bit, relative to
    max(‖y‖, ‖f(0)‖). Cost is that of :func:`gradient_flow` at times (1 + λ) t.

    References
    ----------
    Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 2)
    >>> x, y, teacher = jnp.eye(2), jnp.array([0.5, -0.5]), jnp.zeros((4, 2))
    >>> problem = kd.TransferProblem(student, x, y, teacher, lam=1.0)
    >>> print(kd.output_gradient_flow(problem, [200.0]).outputs[0].round(3))
    [ 0.25 -0.25]
    """
    return _on_soft_labels(gradient_flow, problem, times, at, allow_inf=False)


def output_fixed_point(problem: TransferProblem) -> FixedPoint:
    r"""Return the limit of output-level transfer in the kernel regime.

    .. math:: f_\infty = f(0) + P (\tilde y - f(0)), \qquad
              f_{k,\infty} = f_k(0) + b_k H_k \bar H^+ (\tilde y - f(0)),

    with P the orthogonal projector on range(H̄); for H̄ ≻ 0 the outputs are (y + λφ̄)/(1 + λ).

    Parameters
    ----------
    problem : TransferProblem
        Of its teacher only the output φ̄ is used; ``unlearnable`` alone looks at its features.

    Returns
    -------
    FixedPoint

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    Notes
    -----
    Outputs are accurate to 1e-8 in 64-bit, 1e-3 in 32-bit, relative to the largest of ‖y‖, ‖f(0)‖ and ‖φ̄‖. Rank
    decisions, cost and ``residual`` are those of :func:`fixed_point` at λ = 0.

    References
    ----------
    Hinton, Vinyals, Dean, *Distilling the Knowledge in a Neural Network*, 2015. Statement ``output-transfer-limit`` of
    the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 2)
    >>> x, y, teacher = jnp.eye(2), jnp.array([1.0, -1.0]), jnp.zeros((4, 2))
    >>> end = kd.output_fixed_point(kd.TransferProblem(student, x, y, teacher, lam=3.0))
    >>> print(end.outputs.round(6) + 0.0)
    [ 0.25 -0.25]
    """
    return fixed_point(soft_label_problem(problem))


def _on_soft_labels(follow, problem, times, at, *, allow_inf):
    """The path of ``follow`` on the soft labels at times (1 + λ) t, with the clock, energies and scale put back."""
    soft = soft_label_problem(problem)
    times = time_array(times, allow_inf=allow_inf)
    path = follow(soft, (1 + problem.lam) * times, at=at)
    energies, error = _in_terms_of(problem, soft, path.energies, path.error)
    return dataclasses.replace(path, times=times, energies=energies, error=error)


@eqx.filter_jit
def _in_terms_of(problem, soft, energies, error):
    """Energies and error on the soft labels as those of the problem."""
    phi = problem.phi
    teacher = problem.y if phi is None else problem.student.output_weights @ phi
    apart = problem.lam / (1 + problem.lam) * jnp.sum((problem.y - teacher) ** 2) / 2
    scale = jnp.where(problem.scale > 0, problem.scale, 1.0)
    return (1 + problem.lam) * energies + apart, error * soft.scale / scale
