r"""Bounds on what label noise does to the student: whom it beats, and how much of the noise it takes up.

Labels are y = truth + ε with Eε = 0 and E εεᵀ = s² I; the teacher is fixed. Labels alone do not tell their noise: this
assumption is taken on trust. The measured side is `noise_risk`, which goes through the projectors of all units.

Book: chapter *Noisy labels*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.bounds.bound import Assumption, Bound
from kdlib.linear_system import after
from kdlib.posterior import LabelMap
from kdlib.problem import TransferProblem
from kdlib.risk import noise_risk
from kdlib.trajectory import check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, non_negative, real_array

_WHITE = Assumption("noise of mean 0 and covariance s²I, teacher chosen without it", None)


def beats_teacher(problem: TransferProblem, truth: ArrayLike, noise: float | jax.Array) -> Bound:
    r"""Return the student's risk beside its teacher's error e², which bounds it for a λ that is large enough.

    .. math:: \tfrac1n E \lVert f_\infty - \text{truth} \rVert^2 \le e^2
              = \tfrac1n \lVert \bar\varphi - \text{truth} \rVert^2
              \quad\text{exactly for}\quad \lambda \ge a\,\frac{s^2 - e^2}{2 e^2} .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0 and every H_k invertible; its labels are not used.
    truth : array, shape (n,)
    noise : float
        Standard deviation s of the label noise.

    Returns
    -------
    Bound
        ``value`` e², ``measured`` the student's risk on the training data.

    Raises
    ------
    ValueError
        For a problem without a teacher, a wrong shape, or values that are not finite.

    References
    ----------
    Statement ``beats-both`` of the book. Bates and Granger, *The Combination of Forecasts*, 1969.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 3)
    >>> x, truth = jnp.eye(3), student(jnp.eye(3)) + 0.5
    >>> problem = kd.TransferProblem(student, x, truth, student.features(x), lam=4.0)
    >>> print(kd.bounds.beats_teacher(problem, truth, 1.0))
    risk against the teacher's: measured 0.2 ≤ 0.25
    """
    noise, error, risk, assumptions = _setting(problem, truth, noise)
    enough = 2 * error * problem.lam >= problem.student.a * (noise**2 - error)
    return Bound(
        "risk against the teacher's",
        error,
        risk,
        (*assumptions, Assumption("λ ≥ a(s² - e²)/(2e²)", enough)),
    )


def beats_labels(problem: TransferProblem, truth: ArrayLike, noise: float | jax.Array) -> Bound:
    r"""Return the student's risk beside that of its labels, s², which bounds it for a λ that is small enough.

    .. math:: \tfrac1n E \lVert f_\infty - \text{truth} \rVert^2 \le s^2
              \quad\text{exactly for}\quad \lambda (e^2 - s^2) \le 2 a s^2 .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0 and every H_k invertible; its labels are not used.
    truth : array, shape (n,)
    noise : float
        Standard deviation s of the label noise.

    Returns
    -------
    Bound
        ``value`` s², ``measured`` the student's risk on the training data.

    Raises
    ------
    ValueError
        For a problem without a teacher, a wrong shape, or values that are not finite.

    References
    ----------
    Statement ``beats-both`` of the book. Bates and Granger, *The Combination of Forecasts*, 1969.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 3)
    >>> x, truth = jnp.eye(3), student(jnp.eye(3)) + 0.5
    >>> problem = kd.TransferProblem(student, x, truth, student.features(x), lam=4.0)
    >>> print(kd.bounds.beats_labels(problem, truth, 1.0))
    risk against the labels': measured 0.2 ≤ 1
    """
    noise, error, risk, assumptions = _setting(problem, truth, noise)
    enough = problem.lam * (error - noise**2) <= 2 * problem.student.a * noise**2
    return Bound(
        "risk against the labels'",
        noise**2,
        risk,
        (*assumptions, Assumption("λ(e² - s²) ≤ 2as²", enough)),
    )


def noise_variance(problem: TransferProblem, noise: float | jax.Array) -> Bound:
    r"""Bound the noise that stays in the student, averaged over the training data; any kernels, λ > 0.

    .. math:: \frac{s^2}{n} \operatorname{tr}\bigl[\bar P (\lambda I + \bar P)^{-1}\bigr]^2
              \le s^2 \min\Bigl\{ \Bigl(\frac{a}{a + \lambda}\Bigr)^2,\;
                  a \min\bigl(1, \tfrac dn\bigr)\, c \Bigr\}, \qquad
              c = \frac{\min(\lambda, a)}{(\min(\lambda, a) + \lambda)^2} .

    Parameters
    ----------
    problem : TransferProblem
        Its labels play no role, nor does its teacher, which must not have been trained on them.
    noise : float
        Standard deviation s of the label noise.

    Returns
    -------
    Bound
        The trivial bound is s², the noise of the labels.

    Raises
    ------
    ValueError
        At λ = 0, or for a negative noise.

    Notes
    -----
    Attained where all ranges agree, rank H_k = min(n, d), and λ ≥ a or n ≤ d. Relative error of ``value`` 1e-14 in
    64-bit, 1e-6 in 32-bit.

    References
    ----------
    Statement ``noise-budget`` of the book. Hoerl and Kennard, *Ridge Regression: Biased Estimation for Nonorthogonal
    Problems*, Technometrics, 1970.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 3)
    >>> problem = kd.TransferProblem(student, jnp.eye(3), jnp.ones(3), student.features(jnp.eye(3)), lam=1.0)
    >>> print(kd.bounds.noise_variance(problem, 1.0))
    noise in the student: measured 0.25 ≤ 0.25
    """
    check_problem_and_inputs(problem, None)
    noise, (lam, a), (n, d) = non_negative("noise", noise), (problem.lam, problem.student.a), problem.x.shape
    if is_concrete(lam) and float(lam) == 0:
        raise ValueError("problem: expected a strength lam > 0; got lam=0, where the student takes up all it can see")
    least = jnp.minimum(lam, a)
    share = a * min(1.0, d / n) * least / (least + lam) ** 2
    measured = jnp.mean(noise_risk(problem, jnp.zeros(n, problem.x.dtype), noise).variance)
    value = noise**2 * jnp.minimum((a / (a + lam)) ** 2, share)
    assumptions = Assumption("λ > 0", lam > 0), _WHITE
    return Bound("noise in the student", value, measured, assumptions, trivial=noise**2)


def _setting(problem, truth, noise):
    """The noise checked, the teacher's mean squared error, the student's risk; assumed are white noise and P̄ = aI."""
    check_problem_and_inputs(problem, None)
    if problem.teacher is None:
        raise ValueError("problem: expected a teacher; got phi=None")
    truth, noise = real_array("truth", truth, (("n", problem.x.shape[0]),)), non_negative("noise", noise)
    student = problem.student
    error = jnp.mean((student.output_weights @ problem.phi - truth) ** 2)
    values = LabelMap.of(problem, problem.x).values
    whole = jnp.min(values) >= (1 - 1e-6) * student.a
    later = eqx.tree_at(lambda problem: problem.x, problem, after(values, problem.x))
    risk = noise_risk(later, truth, noise).total
    return noise, error, risk, (_WHITE, Assumption("every H_k is invertible, λ > 0", whole & (problem.lam > 0)))
