r"""Bounds on the time, and on the steps of gradient descent, until the outputs stay near their limit.

Book: chapter *How fast*.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound
from kdlib.bounds.rates import (
    flow_error,
    kernel_eigenvalues,
    output_rates,
    outputs_move,
    slow_amplitude_bound,
    start_of_energy,
)
from kdlib.characteristic import known
from kdlib.limit import fixed_point
from kdlib.problem import TransferProblem
from kdlib.spectrum import largest_rate, slow_modes
from kdlib.trajectory import kernel_flow
from kdlib.validation import known_now, real_array


def time_to_accuracy(problem: TransferProblem, accuracy: float | jax.Array) -> Bound:
    r"""Bound the time after which the outputs stay within a tolerance δ of their limit.

    .. math:: t \le \min\Bigl\{ \frac1{\lambda \min s^2} \log\frac{\varepsilon_0}{\delta},\;
              \frac1\kappa \log\frac{\varepsilon_0}{\delta - S} \Bigr\}, \qquad
              S = \frac{\lambda\beta}{\sqrt\kappa}\lVert v_\infty\rVert,

    with :math:`\varepsilon_0 = \sqrt{2(E(0) - E_\infty)}`, the second only for δ > S: a tolerance that is coarser than
    what the slow modes contribute.

    Parameters
    ----------
    problem : TransferProblem
    accuracy : float
        δ relative to max(‖y‖, ‖f(0)‖), positive.

    Returns
    -------
    Bound
        ``value`` and ``measured`` scalars, gradient-flow times; ``measured`` from :func:`kdlib.kernel_flow`, to 1 %,
        for a δ that is above the accuracy of that flow.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, the accuracy is not positive, or no output can move; for traced arrays.

    Notes
    -----
    Within a factor 1.02 where all the error is in the slowest mode, of a single unit at a small λ.

    References
    ----------
    Statement ``time-to-reach`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)) / 2, lam=1.0)
    >>> print(kd.bounds.time_to_accuracy(problem, 0.01))
    time to accuracy: measured 2.22 ≤ 4.79
    """
    tolerance = _tolerance(problem, accuracy)
    start, outputs = start_of_energy(problem), output_rates(problem)
    slowest, slow = problem.lam * kernel_eigenvalues(problem)[0], slow_amplitude_bound(problem)
    through_all = jnp.where(slowest > 0, jnp.log(start / tolerance) / jnp.where(slowest > 0, slowest, 1.0), jnp.inf)
    room = tolerance - slow
    through_fast = jnp.where(room > 0, jnp.log(start / jnp.where(room > 0, room, 1.0)) / outputs[0], jnp.inf)
    value = jnp.maximum(jnp.minimum(through_all, through_fast), 0.0)
    end = fixed_point(problem).outputs

    fastest, errors = float(largest_rate(problem).value), []

    def distance(times):
        path = kernel_flow(problem, times)
        errors.append(float(flow_error(path)))
        return np.linalg.norm(np.asarray(path.outputs - end[None, :]), axis=1)

    measured = _last_above(distance, float(tolerance), 1e-6 / fastest, 4 * float(value))
    seen = Assumption("δ above the accuracy of the kernel flow", accuracy > max(errors))
    return Bound("time to accuracy", value, measured, (outputs_move(outputs), seen))


def iterations_to_accuracy(problem: TransferProblem, accuracy: float | jax.Array) -> Bound:
    r"""Bound the number of steps of gradient descent, in the kernel regime, to a tolerance δ.

    .. math:: v_{j+1} = v_j + \eta (c - M v_j), \qquad j \le \frac{\log(\varepsilon_0/\delta)}{-\log q}, \qquad
              \varepsilon_0 = \sqrt{2(E(0) - E_\infty)},

    with :math:`q = 1 - \mu_{\min}^+/\lambda_{\max}` at η = 1/λ_max, half the edge of stability, and
    :math:`q = (\lambda_{\max} - \mu_{\min}^+)/(\lambda_{\max} + \mu_{\min}^+)` at the best step for the worst mode,
    η = 2/(λ_max + μ_min⁺).

    Parameters
    ----------
    problem : TransferProblem
    accuracy : float
        δ relative to max(‖y‖, ‖f(0)‖), positive.

    Returns
    -------
    Bound
        ``value`` and ``measured`` (2,), numbers of steps at the two step sizes; ``measured`` to 1 %, from the powers
        (1 - ημ)^j of all modes.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, the accuracy is not positive, or no output can move; for traced arrays.

    Notes
    -----
    Within a factor 1.02 where all the error is in the slowest mode, of a single unit at a small λ. From dense factors
    of rank(M): for ranks up to a few thousand.

    References
    ----------
    Statement ``iterations`` of the book. Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv
    2003.13438 (fewer iterations with a teacher).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.array([[0.0], [1.0]]), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((2, 1)), lam=0.1)
    >>> print(kd.bounds.iterations_to_accuracy(problem, 0.001).value)
    [146.  75.]
    """
    tolerance, start = float(_tolerance(problem, accuracy)), float(start_of_energy(problem))
    outputs = output_rates(problem)
    modes = slow_modes(problem, len(kernel_eigenvalues(problem)) if problem.lam > 0 else len(outputs))
    rates, amplitudes = np.asarray(modes.rates, float), np.asarray(modes.amplitudes, float)
    slowest, fastest = rates[0], rates[-1]
    values, counts, stable = [], [], []
    for other in (fastest, slowest):
        # η = 2/(λ_max + other), and 1 - |1 - ημ| to its last digit, however near to 0 or to 2 the step brings ημ
        lost = 2 / (fastest + other) * np.minimum(rates, fastest - rates + other)
        with np.errstate(divide="ignore"):
            decay = np.maximum(np.log1p(-np.minimum(lost, 1.0)), -1e3)  # finite, for 0 steps lose nothing
        signs = np.where(rates > fastest - rates + other, -1.0, 1.0)
        values.append(max(np.ceil(np.log(max(start, 1e-300) / tolerance) / -np.max(decay)), 1.0))

        def distance(steps, decay=decay, signs=signs):
            steps = np.floor(steps)[:, None]
            return np.linalg.norm(signs**steps * np.exp(steps * decay) @ amplitudes, axis=1)

        last = _last_above(distance, tolerance, 1.0, 4 * values[-1])
        counts.append(np.floor(last) + 1 if distance(np.array([last]))[0] > tolerance else 0.0)
        stable.append(np.max(decay) < 0)
    assumptions = outputs_move(outputs), Assumption("steps below 2/λ_max", all(stable))
    return Bound("steps to accuracy", jnp.asarray(values), jnp.asarray(counts), assumptions)


def _tolerance(problem, accuracy):
    known_now("accuracy", accuracy, "since the time to it is searched for")
    scale = known(problem).scale
    accuracy = real_array("accuracy", accuracy, ())
    if float(accuracy) <= 0:
        raise ValueError(f"accuracy: expected a positive number; got {float(accuracy)}")
    return accuracy * scale


def _last_above(distance, tolerance, shortest, longest):
    """The last time at which ``distance`` exceeds the tolerance, by three grids, to about 1 %; 0 if it never does."""
    times = np.append(0.0, np.geomspace(shortest, max(longest, 2 * shortest), 200))
    low = 0.0
    for _ in range(3):
        above = np.flatnonzero(distance(times) > tolerance)
        if len(above) == 0:
            break
        low, high = times[above[-1]], times[min(above[-1] + 1, len(times) - 1)]
        if high <= 1.002 * low or high <= shortest:
            break
        times = np.linspace(low, high, 30)
    return float(low)
