r"""What label noise costs the student, and the strength of the transfer at which it costs least.

The kernel flow is affine in the labels at every time. So under labels y = truth + ε with Eε = 0, E εεᵀ = s² I and a
teacher that does not depend on ε, bias and variance of the student follow from one linear map; nothing is sampled.

Book: chapter *Noisy labels*.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.kernels import range_eigh, tangent_kernel
from kdlib.posterior import LabelMap
from kdlib.problem import TransferProblem
from kdlib.trajectory import check_problem_and_inputs, kernel_flow
from kdlib.validation import ArrayLike, is_concrete, known_now, non_negative, real_array


class Risk(eqx.Module):
    """Bias and variance of a student's outputs under label noise.

    Attributes
    ----------
    bias : array, shape (rows,)
        Expected output minus truth, in label units.
    variance : array, shape (rows,)
        Variance of the output, in squared label units.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.zeros((3, 1)), lam=0.5)
    >>> risk = kd.noise_risk(problem, jnp.array([2.0]), 1.0)
    >>> print(risk.bias.round(4), risk.variance.round(4), risk.total.round(4))
    [-0.6667] [0.4444] 0.8889
    """

    bias: jax.Array
    variance: jax.Array

    @property
    def total(self) -> jax.Array:
        """Expected squared error, averaged over the rows: mean of bias² + variance."""
        return jnp.mean(self.bias**2 + self.variance)


class OptimalStrength(eqx.Module):
    """The best strength for a problem under label noise, and what there is to beat.

    Attributes
    ----------
    lam : array, scalar
        The minimiser λ; 0 stands for the limit λ → 0⁺, ``inf`` for the carried teacher alone.
    risk : array, scalar
        The student's risk there, in squared label units.
    carried : array, scalar
        Mean squared error of the teacher as far as this student can carry it, the risk at λ = ∞.
    labels : array, scalar
        s², the risk of the noisy labels themselves.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.zeros((3, 1)), lam=0.5)
    >>> best = kd.optimal_strength(problem, jnp.array([2.0]), 1.0)  # s = 1 and e = 2
    >>> print(best.lam.round(4), best.risk.round(4), best.carried, best.labels)
    0.25 0.8 4.0 1.0
    """

    lam: jax.Array
    risk: jax.Array
    carried: jax.Array
    labels: jax.Array


def noise_risk(
    problem: TransferProblem,
    truth: ArrayLike,
    noise: float | jax.Array,
    *,
    time: float | jax.Array = math.inf,
    at: ArrayLike | None = None,
    truth_at: ArrayLike | None = None,
) -> Risk:
    r"""Return bias and variance of the student under label noise, exactly.

    With y = truth + ε, Eε = 0, E εεᵀ = s² I and the teacher fixed, the outputs are :math:`f(t) = \alpha(t) + A(t) y`:

    .. math:: \text{bias} = \alpha + A\,\text{truth} - \text{truth}_*, \qquad
              \text{variance} = s^2 \operatorname{diag}(A A^\top).

    In the limit :math:`A = \bar G^\top (\lambda I + \bar P)^{-1}` (see :func:`gaussian_posterior`), on the training
    data :math:`A = \bar P (\lambda I + \bar P)^{-1}`; at λ = 0 it is
    :math:`\bar H_* \bar H^+ (I - e^{-\bar H t})`.

    Parameters
    ----------
    problem : TransferProblem
        Its labels are not used: ``truth`` and ``noise`` say how labels are made.
    truth : array, shape (n,)
        The noise-free labels of the training inputs.
    noise : float
        Standard deviation s of the noise of every label, in label units.
    time : float
        Gradient-flow time at which training stops; ``inf`` by default.
    at : array, shape (rows, d), optional
        Inputs at which to judge the student; the training inputs by default.
    truth_at : array, shape (rows,), optional
        The truth at these inputs; needed exactly when ``at`` is given.

    Returns
    -------
    Risk

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, a negative noise or time, a traced time, or ``at`` without
        ``truth_at``.

    Notes
    -----
    The limit, and λ = 0 at any time, cost one decomposition. A finite time with λ > 0 costs n + 1 runs of
    `kernel_flow`: for n up to a few hundred. A teacher that was trained on the same noisy labels is not fixed; then the
    answer is not its student's risk. A λ traced by ``jit`` or ``grad`` is taken to be positive. On the training data
    accurate to 1e-9 in 64-bit, 1e-4 in 32-bit, for units' singular values within the spread of :func:`fixed_point`; at
    a finite time with λ > 0 to 1e-8 in 64-bit, 1e-3 in 32-bit. This is relative to the larger of ‖y‖ and the norms of
    outputs and features, for the variance to s².

    References
    ----------
    Statements ``risk-of-the-limit`` and ``risk-with-projectors`` of the book. Hoerl and Kennard, *Ridge Regression:
    Biased Estimation for Nonorthogonal Problems*, Technometrics, 1970 (bias and variance).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 3)
    >>> x, truth = jnp.eye(3), jnp.array([1.0, -1.0, 1.0])
    >>> problem = kd.TransferProblem(student, x, truth, student.features(x), lam=3.0)
    >>> risk = kd.noise_risk(problem, truth, 0.5)
    >>> print(risk.variance.round(6))  # s² a²/(a + λ)² with a = 1
    [0.015625 0.015625 0.015625]
    """
    inputs, truth, goal = _judged(problem, truth, at, truth_at)
    noise, time = non_negative("noise", noise), _stop(time)
    if is_concrete(problem.lam) and float(problem.lam) == 0:
        expected, matrix = _without_teacher(problem, inputs, truth, time)
    elif math.isinf(time):
        expected, matrix = _in_the_limit(problem, inputs, truth)
    else:
        expected, matrix = _column_by_column(problem, inputs, truth, time)
    return Risk(expected - goal, noise**2 * jnp.sum(matrix**2, axis=1))


def _judged(problem, truth, at, truth_at):
    """The inputs at which the student is judged, the truth on the training inputs, and the truth there."""
    inputs = check_problem_and_inputs(problem, at)
    truth = real_array("truth", truth, (("n", problem.x.shape[0]),))
    if (at is None) != (truth_at is None):
        given, absent = ("at", "truth_at") if truth_at is None else ("truth_at", "at")
        raise ValueError(f"{absent}: expected {absent} together with {given}; got None")
    return inputs, truth, truth if truth_at is None else real_array("truth_at", truth_at, (("rows", len(inputs)),))


def _stop(time):
    real_array("time", time, (), finite=False)
    known_now("time", time, "since it decides how the risk is found")
    time = float(time)  # of what came: under jit every new array is traced
    if math.isnan(time) or time < 0:
        raise ValueError(f"time: expected a time that is at least 0, inf allowed; got {time}")
    return time


@eqx.filter_jit
def _in_the_limit(problem, inputs, truth):
    labels = LabelMap.of(problem, inputs)
    matrix = labels.matrix(problem.lam)
    return labels.teacher_at + matrix @ (truth - labels.teacher), matrix


def _without_teacher(problem, inputs, truth, time):
    student, x = problem.student, problem.x
    values, vectors = range_eigh(tangent_kernel(student, x))
    safe = jnp.where(values > 0, values, 1.0)
    filters = jnp.where(values > 0, -jnp.expm1(-safe * time) / safe, 0.0)
    matrix = (tangent_kernel(student, inputs, x) @ vectors * filters[None, :]) @ vectors.T
    return student(inputs) + matrix @ (truth - student(x)), matrix


def _column_by_column(problem, inputs, truth, time):
    """The flow answers y ↦ f(t) once for the truth, and once for an error of every label without a teacher."""
    student, x = problem.student, problem.x
    features, n = student.features(x), x.shape[0]
    # an error as large as the outputs at the start, that it keeps its digits beside them
    start, size, told = student(inputs), jnp.maximum(1.0, jax.lax.stop_gradient(problem.scale)), problem.phi

    def outputs(flow):
        y, taught = flow
        phi = jnp.where(taught, told, features)
        return kernel_flow(TransferProblem(student, x, y, phi, lam=problem.lam), [time], at=inputs).outputs[0]

    flows = jnp.concatenate([truth[None], student(x)[None] + size * jnp.eye(n, dtype=x.dtype)]), jnp.arange(n + 1) == 0
    if is_concrete(*jax.tree.leaves((problem, inputs, flows))):
        found = jnp.stack([outputs(flow) for flow in zip(*flows)])
    else:
        found = jax.lax.map(outputs, flows)
    return found[0], (found[1:] - start[None]).T / size


def inverse_variance_strength(
    noise: float | jax.Array,
    error: float | jax.Array,
    *,
    correlation: float | jax.Array = 0.0,
    a: float | jax.Array = 1.0,
) -> jax.Array:
    r"""Return the strength at which a student with invertible kernels comes closest to the truth.

    .. math:: \lambda^* = a\,\frac{s^2 - \rho}{e^2 - \rho}, \qquad
              \text{risk}(\lambda^*) = \frac{s^2 e^2 - \rho^2}{s^2 + e^2 - 2\rho}.

    Parameters
    ----------
    noise : float
        s, the root of E‖ε‖²/n, with ε the errors of the labels.
    error : float
        e, the root of E‖φ̄ - truth‖²/n, the teacher's.
    correlation : float
        ρ = E⟨ε, φ̄ - truth⟩/n, 0 for a teacher that has not seen these labels and a noise of mean zero; from
        -s·e to s·e.
    a : float
        Σ b_k² of the student, 1 for signs ±1.

    Returns
    -------
    array, scalar
        λ*; 0 where ρ ≥ s² (the labels alone are best), ``inf`` where ρ ≥ e² (the teacher alone is).

    Raises
    ------
    ValueError
        For negative ``noise``, ``error`` or ``a``, or ρ beyond ±s·e, which no errors have.

    Notes
    -----
    Relative error 1e-14 in 64-bit, 1e-6 in 32-bit, unless ρ is so close to s² or e² that the difference cancels.

    References
    ----------
    Bates and Granger, *The Combination of Forecasts*, 1969. Statements ``optimal-strength`` and ``correlated-errors``
    of the book.

    Examples
    --------
    >>> import kdlib as kd
    >>> print(kd.inverse_variance_strength(0.6, 0.3))
    4.0
    >>> print(kd.inverse_variance_strength(0.6, 0.3, correlation=0.09))
    inf
    """
    noise, error, a = non_negative("noise", noise), non_negative("error", error), non_negative("a", a)
    rho = real_array("correlation", correlation, ())
    # a product of roots may fall short of ρ = s e by rounding
    if is_concrete(noise, error, rho) and abs(float(rho)) > float(noise) * float(error) * (1 + 1e-6):
        raise ValueError(
            f"correlation: expected at most noise·error = {float(noise * error):.3g} in size; got {float(rho):.3g}"
        )
    return _balance(noise**2 - rho, error**2 - rho, a)


@jax.jit
def _balance(above, below, a):
    """a (s² - ρ)/(e² - ρ), and 0 or ∞ where one of the two says nothing."""
    inside = (above > 0) & (below > 0)
    return jnp.where(inside, a * above / jnp.where(inside, below, 1.0), jnp.where(above > 0, jnp.inf, 0.0))


def optimal_strength(
    problem: TransferProblem,
    truth: ArrayLike,
    noise: float | jax.Array,
    *,
    at: ArrayLike | None = None,
    truth_at: ArrayLike | None = None,
) -> OptimalStrength:
    r"""Return the strength λ at which the student's limit has the least risk, for any kernels.

    In the eigenbasis of :math:`\bar P`, with eigenvalues :math:`\pi_i` and the carried teacher's errors
    :math:`\delta_i`, the risk on the training data is

    .. math:: \frac1n \sum_i \frac{\lambda^2 \delta_i^2 + s^2 \pi_i^2}{(\lambda + \pi_i)^2} .

    Mode i asks for :math:`\lambda = s^2 \pi_i / \delta_i^2`; the best single λ lies between the extremes of these. It
    is searched on a grid of λ/a from 1e-8 to 1e8, the two ends 0⁺ and ∞ included, and refined by Brent's method.

    Parameters
    ----------
    problem : TransferProblem
        Its labels and its ``lam`` are not used.
    truth : array, shape (n,)
    noise : float
        Standard deviation s of the label noise.
    at, truth_at : arrays, shapes (rows, d) and (rows,), optional
        Judge the student there rather than on the training inputs; both or neither.

    Returns
    -------
    OptimalStrength
        The risk is accurate to 1e-12 in 64-bit, 1e-5 in 32-bit, relative to the larger of ``carried`` and s², for
        units' singular values within the spread of :func:`fixed_point`; λ to 1e-6 in 64-bit, 1e-4 in 32-bit, where the
        lowest point is deep enough to tell. It is the global minimum as far as the grid can tell.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, a negative noise, ``at`` without ``truth_at``, or traced arrays.

    Notes
    -----
    The teacher must not have been trained on the labels whose noise this is.

    References
    ----------
    Statements ``optimal-strength`` and ``risk-with-projectors`` of the book. Hoerl and Kennard, *Ridge Regression:
    Biased Estimation for Nonorthogonal Problems*, Technometrics, 1970 (a best strength exists).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 3)
    >>> x, truth = jnp.eye(3), student(jnp.eye(3)) + 0.5  # the start, as a teacher, errs by e = 0.5
    >>> problem = kd.TransferProblem(student, x, truth, student.features(x), lam=1.0)
    >>> print(kd.optimal_strength(problem, truth, 1.0).lam.round(4))  # s²/e²
    4.0
    """
    from scipy.optimize import minimize_scalar

    inputs, truth, goal = _judged(problem, truth, at, truth_at)
    searched = ("problem", problem), ("truth", truth), ("noise", noise), ("at", inputs), ("truth_at", goal)
    for name, value in searched:
        known_now(name, value, "since the best strength is searched for")
    noise = float(non_negative("noise", noise))
    labels = LabelMap.of(problem, inputs)
    modes, values = np.asarray(labels.modes), np.asarray(labels.values)
    lead = np.asarray(labels.vectors).T @ np.asarray(truth - labels.teacher)
    teacher_bias = np.asarray(labels.teacher_at - goal)
    squares, seen = np.mean(modes**2, axis=0), values > 0

    def risk(lam):
        # one strength or many: a row for each
        shrinkage = np.where(seen, 1 / np.where(seen, np.add.outer(lam, values), 1.0), 0.0)
        bias = teacher_bias + (shrinkage * lead) @ modes.T
        return np.mean(bias**2, axis=-1) + noise**2 * (shrinkage**2 @ squares)

    a = float(problem.student.a)
    grid = np.linspace(math.log(1e-8), math.log(1e8), 161) + math.log(a if a > 0 else 1.0)
    best = int(np.argmin(risk(np.exp(grid))))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    refined: Any = minimize_scalar(
        lambda z: risk(math.exp(z)), bounds=(low, high), method="bounded", options={"xatol": 1e-9}
    )
    carried = float(np.mean(teacher_bias**2))
    candidates = [(float(risk(0.0)), 0.0), (float(refined.fun), math.exp(refined.x)), (carried, math.inf)]
    # an end of the range wins where nothing inside is lower: ties are broken by rounding otherwise
    least = min(value for value, _ in candidates)
    order = (candidates[2], candidates[0], candidates[1])
    value, lam = next(entry for entry in order if entry[0] <= least * (1 + 1e-14))
    dtype = labels.values.dtype
    return OptimalStrength(*(jnp.asarray(number, dtype) for number in (lam, value, carried, noise**2)))
