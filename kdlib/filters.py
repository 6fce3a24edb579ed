r"""The tangent kernel's modes: which are learnt first, what early stopping filters out, and when to stop.

Without a teacher each eigenvector :math:`u_i` of :math:`\bar H` is learnt on its own, at the rate of its eigenvalue
:math:`\mu_i`. The slow modes with a teacher are in :mod:`kdlib.spectrum`.

Book: chapter *Spectra*.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.kernels import range_eigh, tangent_kernel
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.trajectory import check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, known_now, non_negative, real_array


class Alignment(eqx.Module):
    """How a vector on the samples spreads over the tangent kernel's modes, fastest first.

    Attributes
    ----------
    rates : array, shape (n,)
        Eigenvalues μ_i of H̄, descending: the rates in gradient-flow time.
    modes : array, shape (n, n)
        Column i is the unit eigenvector u_i.
    shares : array, shape (n,)
        (u_i · z)²/‖z‖², which sum to 1; for several vectors z, their squares summed.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> found = kd.alignment(net, jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([3.0, 4.0]))
    >>> print(found.rates, found.shares.round(2), found.mean_rate.round(2))
    [4. 1.] [0.36 0.64] 2.08
    """

    rates: jax.Array
    modes: jax.Array
    shares: jax.Array

    @property
    def cumulative(self) -> jax.Array:
        """Share of ‖z‖² in the fastest 1, 2, ..., n modes, shape (n,)."""
        return jnp.cumsum(self.shares)

    @property
    def mean_rate(self) -> jax.Array:
        """zᵀH̄z/‖z‖², the mean of the rates under the shares: the rate at which ‖z‖ starts to decay."""
        return self.rates @ self.shares


class StoppingTime(eqx.Module):
    """The best time to stop under label noise, and what there is to beat.

    Attributes
    ----------
    time : array, scalar
        The minimiser; ``inf`` where noise-free labels are best learnt to the end.
    risk : array, scalar
        Expected squared error of an output on the training data there, in squared label units.
    trained : array, scalar
        The same after training for ever.
    mode_times : array, shape (n,)
        The best time of each mode on its own, fastest mode first; NaN for a mode that never moves.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.zeros((3, 1)), lam=0.5)
    >>> best = kd.best_stopping_time(kd.TransferProblem(student, problem.x, problem.y, None, lam=0), jnp.ones(1), 0.5)
    >>> print(f"{best.time:.4f} {best.risk:.4f}")  # the share 1/(1 + s²) is learnt at t = log(1 + 1/s²)
    1.6094 0.2000
    """

    time: jax.Array
    risk: jax.Array
    trained: jax.Array
    mode_times: jax.Array


def alignment(net: TwoLayerNetwork, x: ArrayLike, vector: ArrayLike) -> Alignment:
    r"""Return the shares of a vector, such as labels or PI, in the tangent kernel's modes.

    .. math:: \alpha_i = \frac{(u_i \cdot z)^2}{\lVert z \rVert^2}, \qquad
              \bar H = \sum_i \mu_i u_i u_i^\top, \quad \mu_1 \ge \dots \ge \mu_n .

    Parameters
    ----------
    net : TwoLayerNetwork
        The student at its start.
    x : array, shape (n, d)
    vector : array, shape (n,) or (rows, n)
        z, for instance ``problem.output_gap`` (labels), φ̄ - f(0) (the teacher's output), or
        ``problem.feature_gap`` (all its features).

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or a vector that is zero.

    Notes
    -----
    One eigendecomposition, n³. Where eigenvalues coincide, only the sum of their shares is determined. Rates are
    accurate to 1e-11 in 64-bit, 1e-5 in 32-bit, relative to the largest; cumulative shares to as much divided by the
    gap to the next rate, relative to the largest.

    References
    ----------
    Arora et al., *Fine-Grained Analysis of Optimization and Generalization for Overparameterized Two-Layer Neural
    Networks*, ICML 2019 (labels in the kernel's modes). Statements ``alignment-time`` and ``mode-decay`` of the book.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork.init(jax.random.key(0), 100, 2)
    >>> x = kd.datasets.circle(12).x
    >>> smooth = kd.alignment(net, x, x[:, 0])
    >>> print(smooth.cumulative[1].round(2))  # a linear function lies in the two fastest modes
    1.0
    """
    kernel = tangent_kernel(net, x)
    ndim = np.ndim(vector)
    axes = (("n", kernel.shape[0]),) if ndim != 2 else (("rows", None), ("n", kernel.shape[0]))
    rows = jnp.atleast_2d(real_array("vector", vector, axes))
    total = jnp.sum(rows**2)
    if is_concrete(total) and total == 0:
        raise ValueError("vector: expected a vector other than zero; got zeros, which have no direction")
    rates, modes = _modes(kernel)
    return Alignment(rates, modes, jnp.sum((rows @ modes) ** 2, axis=0) / total)


def early_stopping_filter(rates: ArrayLike, time: float | jax.Array) -> jax.Array:
    r"""Return the share of each mode that training up to a time has learnt.

    .. math:: q_t(\mu) = 1 - e^{-t \mu} .

    Parameters
    ----------
    rates : array, shape (n,)
        Eigenvalues μ ≥ 0 of the kernel.
    time : float
        Gradient-flow time t ≥ 0; ``inf`` is allowed.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        For negative rates or a negative or missing time.

    Notes
    -----
    Relative error of each share 1e-14 in 64-bit, 1e-6 in 32-bit.

    References
    ----------
    Yao, Rosasco, Caponnetto, *On Early Stopping in Gradient Descent Learning*, 2007. Ali, Kolter, Tibshirani, *A
    Continuous-Time View of Early Stopping for Least Squares*, AISTATS 2019. Statement ``early-stopping-is-a-filter`` of
    the book.

    Examples
    --------
    >>> import kdlib as kd
    >>> print(kd.early_stopping_filter([3.0, 0.1, 0.0], 1.0).round(3))
    [0.95  0.095 0.   ]
    """
    rates, time = _rates(rates), _time(time)
    # 0 · inf: a mode that does not move is not learnt by waiting
    return jnp.where(rates > 0, -jnp.expm1(-jnp.where(rates > 0, rates, 1.0) * time), 0.0)


def ridge_filter(rates: ArrayLike, gamma: float | jax.Array) -> jax.Array:
    r"""Return the share of each mode that a fit with penalised weights learns.

    .. math:: \rho_\gamma(\mu) = \frac{\mu}{\mu + \gamma},

    the filter of :math:`\min_v \tfrac12 \lVert y - f(0) - Jv \rVert^2 + \tfrac\gamma2 \lVert v \rVert^2`.

    Parameters
    ----------
    rates : array, shape (n,)
        Eigenvalues μ ≥ 0 of the kernel.
    gamma : float
        Strength γ ≥ 0 of the penalty, in units of a rate; γ = 1/t compares with stopping at t.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        For negative rates or a negative strength.

    Notes
    -----
    Relative error of each share 1e-14 in 64-bit, 1e-6 in 32-bit.

    References
    ----------
    Hoerl and Kennard, *Ridge Regression: Biased Estimation for Nonorthogonal Problems*, Technometrics, 1970. Ali,
    Kolter, Tibshirani, *A Continuous-Time View of Early Stopping for Least Squares*, AISTATS 2019 (beside early
    stopping). Statement ``filter-comparison`` of the book.

    Examples
    --------
    >>> import kdlib as kd
    >>> print(kd.ridge_filter([3.0, 0.1, 0.0], 1.0).round(3))
    [0.75  0.091 0.   ]
    """
    rates, gamma = _rates(rates), non_negative("gamma", gamma)
    return jnp.where(rates > 0, rates / (jnp.where(rates > 0, rates, 1.0) + gamma), 0.0)


def spectral_fit(
    problem: TransferProblem, filter: Callable[[jax.Array], ArrayLike], *, at: ArrayLike | None = None
) -> jax.Array:
    r"""Return the outputs of a filtered fit of the labels with the student's tangent kernel.

    .. math:: f(x) = f_0(x) + \sum_i \frac{q(\mu_i)}{\mu_i}\, \bar H(x, X) u_i\; u_i \cdot (y - f_0(X)) .

    Parameters
    ----------
    problem : TransferProblem
        Its teacher is not used.
    filter : callable
        Maps the rates, shape (n,), to the learnt shares q, shape (n,): for instance
        ``lambda rates: kd.ridge_filter(rates, 0.1)``.
    at : array, shape (rows, d), optional
        Inputs at which to return the outputs; the training inputs by default.

    Returns
    -------
    array, shape (n,) or (rows,)

    Raises
    ------
    ValueError
        For a wrong shape, or a filter that does not return one share a mode.

    Notes
    -----
    Modes with eigenvalues below ``10 n eps`` of the largest are left out. On the training data, with a ridge of a tenth
    of the largest eigenvalue, accurate to 1e-13 in 64-bit, 1e-5 in 32-bit, relative to max(‖y‖, ‖f(0)‖); filters that
    learn slower modes lose digits as their q(μ)/μ grows.

    References
    ----------
    Yao, Rosasco, Caponnetto, *On Early Stopping in Gradient Descent Learning*, 2007. Statement
    ``early-stopping-is-a-filter`` of the book.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(6)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 50, 2)
    >>> problem = kd.TransferProblem(student, data.x, data.y, None, lam=0)
    >>> stopped = kd.spectral_fit(problem, lambda rates: kd.early_stopping_filter(rates, 10.0))
    >>> print(abs(stopped - kd.kernel_flow(problem, [10.0]).outputs[0]).max() < 1e-9)
    True
    """
    at = check_problem_and_inputs(problem, at)
    rates, modes = _modes(tangent_kernel(problem.student, problem.x))
    learnt = real_array("filter", filter(rates), (("n", rates.size),))
    return _fit(problem, at, rates, modes, learnt)


@eqx.filter_jit
def _fit(problem, at, rates, modes, learnt):
    student, x = problem.student, problem.x
    over_rates = jnp.where(rates > 0, learnt / jnp.where(rates > 0, rates, 1.0), 0.0)
    return student(at) + tangent_kernel(student, at, x) @ (modes @ (over_rates * (modes.T @ problem.output_gap)))


def best_stopping_time(problem: TransferProblem, truth: ArrayLike, noise: float | jax.Array) -> StoppingTime:
    r"""Return the time at which training without a teacher is closest to the truth, exactly.

    With labels y = truth + ε, Eε = 0, E εεᵀ = s² I, and :math:`\delta_i = u_i \cdot (\text{truth} - f(0))`,

    .. math:: R(t) = \frac1n \sum_i \delta_i^2 e^{-2 \mu_i t} + s^2 (1 - e^{-\mu_i t})^2, \qquad
              t_i = \frac{\log(1 + \delta_i^2/s^2)}{\mu_i} .

    Mode i alone would stop at t_i. R falls before the smallest t_i and rises after the largest, so the best common
    time lies between them; it is searched there on a grid and refined by Brent's method.

    Parameters
    ----------
    problem : TransferProblem
        Its labels and its teacher are not used.
    truth : array, shape (n,)
        The noise-free labels of the training inputs.
    noise : float
        Standard deviation s of the noise of every label, in label units.

    Returns
    -------
    StoppingTime
        The risk is accurate to 1e-12 in 64-bit, 1e-5 in 32-bit, relative to the larger of the risk at time 0 and s²;
        the time to 1e-6 in 64-bit, 1e-4 in 32-bit, where the lowest point is deep enough to tell. It is the global
        minimum as far as the grid can tell.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, a negative noise, or traced arrays.

    Notes
    -----
    Modes below ``10 n eps`` of the largest eigenvalue count as never learnt. The risk at other
    inputs and at any time is :func:`noise_risk`.

    References
    ----------
    Statement ``when-to-stop`` of the book. Yao, Rosasco, Caponnetto, *On Early Stopping in Gradient Descent Learning*,
    2007.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 2)
    >>> x = jnp.array([[1.0, 0.0]])
    >>> problem = kd.TransferProblem(student, x, jnp.zeros(1), None, lam=0)
    >>> best = kd.best_stopping_time(problem, student(x) + 2.0, 1.0)  # one mode: learn the share 4/(4 + 1) of it
    >>> print(f"{best.risk:.4f} rather than {best.trained:.4f}")
    0.8000 rather than 1.0000
    """
    from scipy.optimize import minimize_scalar

    check_problem_and_inputs(problem, None)
    truth = real_array("truth", truth, (("n", problem.x.shape[0]),))
    for name, value in (("problem", problem), ("truth", truth), ("noise", noise)):
        known_now(name, value, "since the best time is searched for")
    noise = float(non_negative("noise", noise))
    rates, modes = (np.asarray(part) for part in _modes(tangent_kernel(problem.student, problem.x)))
    squares = (modes.T @ np.asarray(truth - problem.student(problem.x))) ** 2
    moving = rates > 0
    mode_times = np.full(rates.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.log1p(squares[moving] / noise**2)
    # without noise nothing is gained by stopping
    mode_times[moving] = np.where(noise > 0, wanted, np.inf) / rates[moving]

    def risk(time):
        # one time or many: a row for each
        learnt = -np.expm1(-np.multiply.outer(time, rates))
        return np.mean(squares * (1 - learnt) ** 2 + noise**2 * learnt**2, axis=-1)

    trained = float((squares[~moving].sum() + noise**2 * moving.sum()) / rates.size)
    time = math.inf if noise == 0 else 0.0
    if noise > 0 and moving.any() and mode_times[moving].max() > 0:
        last = mode_times[moving].max()
        first = max(mode_times[moving].min(), 1e-12 * last)
        grid = np.geomspace(first, last, 400)
        best = int(np.argmin(risk(grid)))
        low, high = sorted((grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]))  # rounding, when all agree
        refined: Any = minimize_scalar(risk, bounds=(low, high), method="bounded", options={"xatol": 1e-9 * high})
        time = min((first, float(grid[best]), float(refined.x), last), key=risk)
    dtype = problem.x.dtype
    value = trained if math.isinf(time) else risk(time)
    return StoppingTime(*(jnp.asarray(part, dtype) for part in (time, value, trained, mode_times)))


@jax.jit
def _modes(kernel):
    """Eigenvalues, descending, and eigenvectors."""
    values, vectors = range_eigh(kernel)
    return values[::-1], vectors[:, ::-1]


def _rates(rates):
    rates = real_array("rates", rates, (("n", None),))
    if is_concrete(rates) and (np.asarray(rates) < 0).any():
        raise ValueError(f"rates: expected rates that are at least 0; got {float(np.asarray(rates).min())}")
    return rates


def _time(time):
    time = real_array("time", time, (), finite=False)
    if is_concrete(time) and not float(time) >= 0:
        raise ValueError(f"time: expected a time that is at least 0, inf allowed; got {float(time)}")
    return time
