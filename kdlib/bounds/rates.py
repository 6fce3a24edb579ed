r"""Bounds on the rates of the kernel flow, and on what decays at them.

Throughout, s² runs over the non-zero eigenvalues of all H_k together, β is the largest of them, and κ is the smallest
non-zero eigenvalue of H̄. Book: chapter *How fast*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound, followed
from kdlib.characteristic import known, plain_spectrum, pseudo_inverse, reduced
from kdlib.kernels import tangent_kernel
from kdlib.limit import fixed_point
from kdlib.linear_system import LinearSystem, unit_factors
from kdlib.problem import TransferProblem
from kdlib.spectrum import decay_rates, slow_modes
from kdlib.trajectory import kernel_flow
from kdlib.validation import ArrayLike, real_array, time_array


def slowest_rate(problem: TransferProblem) -> Bound:
    r"""Bound the slowest non-zero rate from below by the kernels of the units alone.

    .. math:: \mu_{\min}^+(M) \ge \lambda \min_k \lambda_{\min}^+(H_k) .

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    Bound
        ``value`` and ``measured`` scalars, in units of 1/time. At λ = 0 the bound is 0 and says nothing.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, or all its kernels vanish; for traced arrays.

    Notes
    -----
    Attained where the two flattest units have equal kernels. ``measured`` is :func:`kdlib.decay_rates`.

    References
    ----------
    Statement ``rate-from-below`` of the book. Du et al., *Gradient Descent Provably Optimizes Over-parameterized Neural
    Networks*, ICLR 2019 (the least eigenvalue without a teacher). Rahbar et al., *Analysis of Knowledge Transfer in
    Kernel Regime*, arXiv 2003.13438 (a rate with a teacher).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.5)
    >>> print(kd.bounds.slowest_rate(problem))
    slowest rate: measured 0.5 ≥ 0.5
    """
    value = problem.lam * kernel_eigenvalues(known(problem))[0]
    rate = decay_rates(problem, 1)[0]
    return Bound("slowest rate", value, rate, (_transfer(problem),), below=True)


def interlacing(problem: TransferProblem, thresholds: ArrayLike) -> Bound:
    r"""Bound how many rates the labels can push over a threshold: at most n of them, and none back.

    .. math:: 0 \le \#\{\operatorname{eig} M > x\} - \sum_k \#\{\lambda\operatorname{eig} H_k > x\} \le n .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    thresholds : array, shape (X,)
        The x ≥ 0, in units of 1/time.

    Returns
    -------
    Bound
        Row 0 of ``measured``, shape (2, X), is the difference and at most n; row 1 is its negative and at most 0. A
        rate within rounding of a threshold is not over it.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem or traced, λ = 0, or the thresholds are not real numbers.

    Notes
    -----
    Attained where every H_k is the identity, between λ and a + λ. Counts all rates from the singular values of one
    matrix as large as rank(M): for ranks up to a few thousand.

    References
    ----------
    Statement ``interlacing`` of the book. Horn and Johnson, *Matrix Analysis*, Cambridge University Press, section 4.3
    (Weyl's inequalities).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((3, 1)), jnp.ones(3))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((3, 1)), lam=0.5)
    >>> print(kd.bounds.interlacing(problem, [0.1, 1.0]).measured[0])
    [0. 1.]
    """
    _needs_transfer(problem)
    thresholds = real_array("thresholds", thresholds, (("X", None),))
    blocks = problem.lam * kernel_eigenvalues(problem)
    rates = decay_rates(problem, len(blocks))
    # both counts of values equal to the threshold must be of one mind, whatever their rounding
    over = jnp.where(thresholds > 0, (jnp.sqrt(jnp.abs(thresholds)) + _root_error(rates)) ** 2, thresholds)
    above, alone = (jnp.sum(values[:, None] > over[None, :], axis=0) for values in (rates, blocks))
    above, alone = above.astype(thresholds.dtype), alone.astype(thresholds.dtype)
    n, nothing = jnp.full_like(above, len(problem.y)), jnp.zeros_like(above)
    return Bound(
        "rates over a threshold beside those of the units alone",
        jnp.stack([n, nothing]),
        jnp.stack([above - alone, alone - above]),
        (_transfer(problem), Assumption("thresholds x ≥ 0", jnp.all(thresholds >= 0))),
        trivial=jnp.stack([len(blocks) - alone, nothing]),
    )


def energy_decay(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound the energy of the kernel flow when every unit's kernel is positive (Polyak-Łojasiewicz).

    .. math:: E(t) - E_\infty \le e^{-2\lambda h t} (E(0) - E_\infty), \qquad H_k \succeq hI, \qquad
              E_\infty = \frac{\lambda \lVert y - \bar\varphi \rVert^2}{2(a + \lambda)} .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.
    times : array, shape (T,)
        Gradient-flow times.

    Returns
    -------
    Bound
        Energies (T,), in squared label units. The assumption that every H_k is positive definite fails for n > d; h is
        then the smallest non-zero eigenvalue, and the bound can fail too.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem or traced, λ = 0, or for negative times.

    Notes
    -----
    Attained where every H_k = hI and y = φ̄ = f(0): only features move, all at the rate λh.

    References
    ----------
    Statement ``energy-decay`` of the book. Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv
    2003.13438 (a rate with a teacher).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.5)
    >>> print(kd.bounds.energy_decay(problem, [0.0, 1.0, 5.0]))
    energy: 3 values measured, all ≤ their bound
    """
    _needs_transfer(problem)
    times = time_array(times, allow_inf=True)
    values, (start, least) = kernel_eigenvalues(problem), _first_and_least_energy(problem)
    bound = least + jnp.exp(-2 * problem.lam * values[0] * times) * (start - least)
    positive = len(values) == problem.student.width * len(problem.y)
    path = kernel_flow(problem, times)
    definite = Assumption("every H_k is positive definite", positive)
    assumptions = _transfer(problem), definite, followed("kernel flow", path)
    return Bound("energy", bound, path.energies, assumptions, trivial=start, error=flow_error(path) * start)


def equal_kernel_speedup(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound the distance of the outputs from their limit when all units have one kernel, H_k = H.

    .. math:: \lVert f(t) - f_\infty \rVert \le e^{-(a + \lambda) h t}\, \lVert f(0) - f_\infty \rVert, \qquad
              h = \lambda_{\min}^+(H) .

    Parameters
    ----------
    problem : TransferProblem
        With an output weight that is not zero.
    times : array, shape (T,)
        Gradient-flow times.

    Returns
    -------
    Bound
        Distances (T,), in label units. Where the kernels are not equal, H̄/a takes the place of H, and the bound can
        fail.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem or traced, all output weights or all kernels vanish, or for negative
        times.

    Notes
    -----
    Attained where f(0) - f_∞ is an eigenvector of H with the eigenvalue h.

    References
    ----------
    Statement ``equal-kernels`` of the book. Rahbar et al., *Analysis of Knowledge Transfer in Kernel Regime*, arXiv
    2003.13438 (fewer iterations with a teacher).

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.5)
    >>> print(kd.bounds.equal_kernel_speedup(problem, [1.0]))
    outputs from their limit: 1 values measured, all ≤ their bound
    """
    times, a = time_array(times, allow_inf=True), known(problem).student.a
    rates = output_rates(problem)
    path, end = kernel_flow(problem, times), fixed_point(problem).outputs
    start = jnp.linalg.norm(problem.student(problem.x) - end)
    speed = (1 + problem.lam / a) * rates[0]
    assumptions = Assumption("all units have the same kernel", _spread(problem) < 1e-8), followed("kernel flow", path)
    measured, error = jnp.linalg.norm(path.outputs - end[None, :], axis=1), flow_error(path) * problem.scale
    value = start * jnp.exp(-speed * times)
    return Bound("outputs from their limit", value, measured, assumptions, trivial=start, error=error)


def small_transfer_rates(problem: TransferProblem) -> Bound:
    r"""Bound how far the rates are from the two time scales of λ → 0.

    With :math:`h_i` the non-zero eigenvalues of H̄ and :math:`\nu_i` those of :math:`N^\top
    \operatorname{blkdiag}(L_kL_k^\top) N`, N an orthonormal basis of ker J within range(M), the rates are

    .. math:: \lambda\nu_i \Bigl(1 - \frac{\lambda\beta}\kappa\Bigr) \le \mu_i^{\text{slow}} \le \lambda\nu_i, \qquad
              h_i \le \mu_i^{\text{fast}} \le h_i + \lambda\beta .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.

    Returns
    -------
    Bound
        ``measured`` (rank M,): :math:`1 - \mu_i/(\lambda\nu_i)` for slow rates, then :math:`(\mu_i - h_i)/\kappa` for
        fast ones, both ascending; each is at most ``value`` :math:`= \lambda\beta/\kappa`.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem or traced, λ = 0, or no output can move.

    Notes
    -----
    Attained by the fast rates where every H_k = hI; within a factor 1.01 by a slow one of a flat unit of large output
    weight beside a steep one of small weight. From dense factors of rank(M): for ranks up to a few thousand.

    References
    ----------
    Statement ``two-time-scales`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.01)
    >>> bound = kd.bounds.small_transfer_rates(problem)
    >>> print(bound.value[0].round(6), jnp.abs(bound.measured).round(6))
    0.01 [0.   0.   0.01 0.01]
    """
    _needs_transfer(problem)
    outputs, ratio = output_rates(problem), _transfer_ratio(problem)
    poles, columns = reduced(pseudo_inverse(LinearSystem.of(problem)))
    free = np.linalg.svd(columns)[2][len(outputs) :].T
    slow = np.linalg.svd(np.sqrt(poles)[:, None] * free, compute_uv=False)[::-1] ** 2  # λν
    rates = np.asarray(decay_rates(problem, len(poles)))
    count = len(slow)
    away = np.concatenate([1 - rates[:count] / slow, (rates[count:] - outputs) / outputs[0]])
    error = 2 * np.sqrt(rates) * _root_error(rates) / np.append(slow, np.full(len(outputs), outputs[0]))
    assumptions = (_transfer(problem), outputs_move(outputs))
    value = jnp.full(away.shape, ratio)
    return Bound("rates from their two time scales", value, away, assumptions, trivial=1.0, error=error)


def slow_amplitude(problem: TransferProblem) -> Bound:
    r"""Bound what the slow modes, those with rates of order λ, contribute to the outputs.

    .. math:: \Bigl\lVert \sum_{j\ \text{slow}} e^{-\mu_j t} A_j \Bigr\rVert
              \le \frac{\lambda\beta}{\sqrt\kappa}\, \lVert v_\infty \rVert \quad\text{for every } t .

    Parameters
    ----------
    problem : TransferProblem
        With λ > 0.

    Returns
    -------
    Bound
        Scalars in label units; ``measured`` the largest at t = 0 and at 400 times, from well before the fastest of the
        slow modes to well beyond the slowest.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem or traced, λ = 0, or there are no slow modes or no fast ones.

    Notes
    -----
    Within a factor 1.04 where λ is small, the steepest unit has no output weight, and the only other one is so flat
    that its rate (λ + b²)h is barely below λβ. From dense factors of rank(M): for ranks up to a few thousand.

    References
    ----------
    Statement ``small-transfer-amplitude`` of the book.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.array([[0.0], [1.0]]), jnp.ones(2))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((2, 1)), lam=0.01)
    >>> print(kd.bounds.slow_amplitude(problem))
    slow modes in the outputs: measured 0.00146 ≤ 0.0094
    """
    _needs_transfer(problem)
    outputs = output_rates(problem)
    count = len(kernel_eigenvalues(problem)) - len(outputs)
    if count == 0:
        raise ValueError("problem: expected more non-zero rates than those of the tangent kernel; got no slow mode")
    slow = slow_modes(problem, count)
    rates, amplitudes = np.asarray(slow.rates, float), np.asarray(slow.amplitudes, float)
    # amplitudes may cancel at the start
    times = np.append(0.0, np.geomspace(0.01 / rates[-1], 20 / rates[0], 400))
    measured = np.max(np.linalg.norm(np.exp(-np.outer(times, rates)) @ amplitudes, axis=1))
    value, trivial = slow_amplitude_bound(problem), start_of_energy(problem)
    assumptions = (_transfer(problem), outputs_move(outputs))
    return Bound("slow modes in the outputs", value, measured, assumptions, trivial=trivial)


def _needs_transfer(problem):
    if not isinstance(problem, TransferProblem):
        raise ValueError(f"problem: expected a TransferProblem with lam > 0; got {type(problem).__name__}")
    if float(known(problem).lam) == 0:
        raise ValueError("problem: expected a TransferProblem with lam > 0; got lam=0")


def _transfer(problem):
    return Assumption("λ > 0", problem.lam > 0)


def outputs_move(rates):
    """Whether there are non-zero eigenvalues of H̄."""
    return Assumption("some b_k H_k ≠ 0", len(rates) > 0)


def flow_error(path):
    """The accuracy of a kernel flow, relative to its start: twice its own estimate, and rounding."""
    return 2 * path.error + 1e3 * jnp.finfo(path.error.dtype).eps


def _root_error(rates):
    """The accuracy of √μ for each rate μ: rounding of the largest, for they are the singular values of one matrix."""
    return 16 * np.finfo(rates.dtype).eps * np.sqrt(rates[-1])


@eqx.filter_jit
def _first_and_least_energy(problem):
    """E(0), and E_∞ where every H_k is positive definite."""
    student = problem.student
    teacher = student(problem.x) + student.output_weights @ problem.feature_gap
    least = problem.lam * jnp.sum((problem.y - teacher) ** 2) / (2 * (student.a + problem.lam))
    return problem.energy(student), least


@eqx.filter_jit
def _squared_factors(system):
    return jax.lax.map(lambda slopes: unit_factors(system.x, slopes)[1] ** 2, system.slopes)


def kernel_eigenvalues(problem):
    """The non-zero eigenvalues of all H_k together, ascending."""
    values = np.asarray(_squared_factors(LinearSystem.of(problem))).ravel()
    if not np.any(values > 0):
        raise ValueError("problem: expected a unit whose kernel is not zero; got slopes that are zero on all samples")
    return np.sort(values[values > 0])


def output_rates(problem):
    """The non-zero eigenvalues of H̄, ascending."""
    rates = plain_spectrum(known(problem))[0]
    if len(rates) == 0:
        raise ValueError("problem: expected a student whose outputs can move; got output weights or kernels all zero")
    return rates


def _transfer_ratio(problem):
    """λβ/κ."""
    return problem.lam * kernel_eigenvalues(problem)[-1] / output_rates(problem)[0]


def slow_amplitude_bound(problem):
    """S = λβ‖v_∞‖/√κ."""
    size = jnp.linalg.norm(fixed_point(problem).displacement)
    return problem.lam * kernel_eigenvalues(problem)[-1] / np.sqrt(output_rates(problem)[0]) * size


def start_of_energy(problem):
    """√(2(E(0) - E_∞)) = ‖A v_∞‖, which the outputs' distance from their limit never exceeds."""
    return _image_length(LinearSystem.of(problem), fixed_point(problem).displacement)


@eqx.filter_jit
def _image_length(system, v):
    return system.image_length(v)


@eqx.filter_jit
def _spread(problem):
    """The largest distance of a unit's kernel from H̄/a, relative to the length of H̄/a."""
    x, slopes = problem.x, problem.student.derivative(problem.x)
    gram, mean = x @ x.T, tangent_kernel(problem.student, x) / problem.student.a
    away = jax.lax.map(lambda row: jnp.linalg.norm(row[:, None] * gram * row[None, :] - mean), slopes)
    return jnp.max(away) / jnp.linalg.norm(mean)
