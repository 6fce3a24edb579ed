r"""How far a student in the kernel regime can be trusted on new inputs.

In the kernel regime a student is a point of the class {f₀ + ⟨v, ∇f₀⟩ : ‖v‖ ≤ B}: its start fixes the class, and all
that labels, teacher and λ do is to choose v. How much noise the class can fit is a matter of B and of the trace of H̄;
how far v goes is a matter of the teacher.

Book: chapter *Does it help on new images?*
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound, followed
from kdlib.kernels import tangent_kernel
from kdlib.limit import inverse_on_range, limit_of
from kdlib.linear_system import LinearSystem, range_and_inverse
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem, check_problem
from kdlib.trajectory import kernel_flow
from kdlib.validation import ArrayLike, is_concrete, non_negative, real_array

_MOST_ENUMERATED, _DRAWS = 14, 4096


class RademacherAverage(NamedTuple):
    """An empirical Rademacher complexity, and the standard error of its estimate: 0 where it is exact.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> kd.bounds.rademacher_average(net, jnp.eye(2), 1.0)._fields
    ('value', 'standard_error')
    """

    value: jax.Array
    standard_error: jax.Array


def rademacher_average(net: TwoLayerNetwork, x: ArrayLike, radius: float | jax.Array) -> RademacherAverage:
    r"""Return the empirical Rademacher complexity of all students within a radius of a start.

    .. math:: \frac1n\,\mathbb E_\varepsilon \sup_{\lVert v \rVert \le B} \sum_i \varepsilon_i
              \bigl( f_0(x_i) + \langle v, \nabla f_0(x_i) \rangle \bigr)
              = \frac Bn\,\mathbb E_\varepsilon \sqrt{\varepsilon^\top \bar H \varepsilon} .

    Parameters
    ----------
    net : TwoLayerNetwork
        The start, which fixes f₀ and its gradients.
    x : array, shape (n, d)
    radius : float
        B ≥ 0, the largest ‖v‖ over all m·d weights together.

    Returns
    -------
    RademacherAverage
        ``value`` in label units, and its ``standard_error``.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or a negative radius.

    Notes
    -----
    Up to 14 samples all signs are enumerated. Beyond, 4096 draws ε from a fixed seed are averaged, of the root less
    :math:`(\varepsilon^\top \bar H \varepsilon - \operatorname{tr} \bar H) / (2 \sqrt{\operatorname{tr} \bar H})`,
    whose mean is 0: it takes most of the scatter away. The root lies below its tangent there, so that no draw exceeds
    :math:`\sqrt{\operatorname{tr} \bar H}`.

    References
    ----------
    Bartlett and Mendelson, *Rademacher and Gaussian Complexities*, JMLR 2002. Statement ``rademacher-complexity`` of
    the book.

    Examples
    --------
    Two equal samples either add or cancel:

    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    >>> average = kd.bounds.rademacher_average(net, x, 1.0)
    >>> print(round(float(average.value), 6), float(average.standard_error))
    0.5 0.0
    """
    radius = non_negative("radius", radius)
    kernel = tangent_kernel(net, x)
    mean, error = _average_length(kernel)
    radius = radius / kernel.shape[0]
    return RademacherAverage(radius * mean, radius * error)


def rademacher_complexity(net: TwoLayerNetwork, x: ArrayLike, radius: float | jax.Array) -> Bound:
    r"""Bound the empirical Rademacher complexity of all students within a radius of a start.

    .. math:: \frac Bn\,\mathbb E_\varepsilon \sqrt{\varepsilon^\top \bar H \varepsilon}
              \le \frac{B \sqrt{\operatorname{tr} \bar H}}{n} .

    Parameters
    ----------
    net : TwoLayerNetwork
        The start.
    x : array, shape (n, d)
    radius : float
        B ≥ 0.

    Returns
    -------
    Bound
        ``measured`` is that of :func:`rademacher_average`.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or a negative radius.

    Notes
    -----
    Attained exactly where H̄ is diagonal, and never more than √2 times the truth. Relative error of ``value`` 1e-14 in
    64-bit, 1e-5 in 32-bit, but for units that are saturated on all samples, see :func:`kdlib.tangent_kernel`.

    References
    ----------
    Bartlett and Mendelson, *Rademacher and Gaussian Complexities*, JMLR 2002.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork.init(jax.random.key(0), 50, 3)
    >>> bound = kd.bounds.rademacher_complexity(net, jnp.eye(3), 2.0)
    >>> print(bool(bound.holds), round(float(bound.slack), 6))
    True 1.0
    """
    measured = rademacher_average(net, x, radius).value
    x = jnp.asarray(x)
    radius = non_negative("radius", radius)
    value = radius * jnp.sqrt(_kernel_trace(net, x)) / len(x)
    return Bound("Rademacher complexity", value, measured, (Assumption("B ≥ 0", radius >= 0),))


def displacement_norm(problem: TransferProblem) -> Bound:
    r"""Bound how far the weights go, ‖v_∞‖, through the teacher's own distance.

    With :math:`v^T_k = (L_k^\top)^+ (\varphi_k - f_k(0))` the shortest weights that carry what the student can carry of
    its teacher, λ > 0 and :math:`p = (\lambda I + \bar P)^{-1} (y - \tau)`,

    .. math:: \lVert v_\infty \rVert \le \lVert v^T \rVert
              + \Bigl( \sum_k b_k^2\, p^\top H_k^+ p \Bigr)^{1/2},

    where the root is the exact distance :math:`\lVert v_\infty - v^T \rVert`. At λ = 0 the value is
    :math:`((y - f(0))^\top \bar H^+ (y - f(0)))^{1/2}`, with equality.

    Parameters
    ----------
    problem : TransferProblem

    Returns
    -------
    Bound
        ``measured`` is the length of the displacement of :func:`~kdlib.fixed_point`. Where that point is not stationary
        to the square root of rounding, ranks are within rounding, and value and measured may differ by it.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem.

    Notes
    -----
    Kernel regime, t → ∞. Costs a singular value decomposition for each unit. As λ → ∞ the bound is attained.
    ``value`` is accurate to 1e-9 in 64-bit, 1e-4 in 32-bit, within the spread of :func:`kdlib.fixed_point`: at λ = 0
    relative to itself, beyond relative to the larger of ‖y‖ and the norms of outputs and features, over the least
    non-zero singular value of an L_k, unless units have ranges that all but coincide: rounding then meets 1/λ.

    References
    ----------
    Statements ``displacement-norm`` and ``norm-without-teacher`` of the book. Arora et al., *Fine-Grained Analysis of
    Optimization and Generalization for Overparameterized Two-Layer Neural Networks*, ICML 2019 (λ = 0).

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(6)
    >>> net = kd.TwoLayerNetwork.init(jax.random.key(0), 20, 2)
    >>> strong = kd.TransferProblem(net, data.x, data.y, net.features(data.x) + 0.1, lam=1e4)
    >>> bound = kd.bounds.displacement_norm(strong)
    >>> print(bool(bound.holds), round(float(bound.slack), 3))
    True 1.001
    """
    system = LinearSystem.of(check_problem(problem))
    limit = limit_of(system)
    measured = jnp.linalg.norm(limit.displacement)
    system = system.after(measured)
    if is_concrete(problem.lam):
        value = (_teacher_radius if float(problem.lam) > 0 else _plain_radius)(system)
    else:
        value = _plain_radius(system)
        value = jnp.where(problem.lam > 0, _teacher_radius(system.after(value)), value)
    clear = limit.residual <= jnp.sqrt(jnp.finfo(measured.dtype).eps)
    assumptions = Assumption("λ ≥ 0", problem.lam >= 0), Assumption("ranks beyond rounding", clear)
    return Bound("distance of the limit from the start", value, measured, assumptions)


def generalization_gap(
    problem: TransferProblem,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    delta: float | jax.Array,
    margin: float | jax.Array = 1.0,
    times: ArrayLike = jnp.inf,
) -> Bound:
    r"""Bound the test error of the student that the kernel flow reaches.

    With probability at least 1 - δ over an i.i.d. sample, at once for all v, and with
    :math:`B = \max(1, \lceil \lVert v \rVert \rceil)` and the ramp loss
    :math:`\ell_\gamma(u) = \min(1, \max(0, 1 - u/\gamma))`,

    .. math:: \mathbb P(y f_v(x) \le 0) \le \frac1n \sum_i \ell_\gamma(y_i f_v(x_i))
              + \frac{2 B \sqrt{\operatorname{tr} \bar H}}{\gamma n} + \sqrt{\frac{2 \log(B(B+1)/\delta)}{n}} .

    Parameters
    ----------
    problem : TransferProblem
        Its labels are ±1.
    x_test : array, shape (k, d)
        New inputs, on which the error is measured.
    y_test : array, shape (k,)
        Their labels, ±1.
    delta : float
        The probability δ, in (0, 1), with which the sample may be misleading.
    margin : float
        γ > 0, chosen without the sample, in label units.
    times : float or array, shape (T,)
        Gradient-flow times at which training stops; ``inf`` for its limit. They may be chosen with the sample in view.

    Returns
    -------
    Bound
        ``measured`` is the share of test inputs with y·f ≤ 0. The trivial bound is 1. Of the shape of ``times``.

    Raises
    ------
    ValueError
        For a wrong shape, labels other than ±1, or δ or γ outside their ranges.

    Notes
    -----
    Within a factor 1.2 for 4000 labels that are coin flips and a start that says +1 everywhere.

    The teacher may have seen the sample: it chooses v, and the bound is for all v. The start may not: it chooses the
    class. That the sample is i.i.d. and that start and margin were chosen without it cannot be seen of the arguments:
    ``met`` of this assumption is None.

    References
    ----------
    Bartlett and Mendelson, *Rademacher and Gaussian Complexities*, JMLR 2002. Arora et al., *Fine-Grained Analysis of
    Optimization and Generalization for Overparameterized Two-Layer Neural Networks*, ICML 2019.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.gaussian(30, 3)
    >>> net = kd.TwoLayerNetwork.init(jax.random.key(0), 40, 3)
    >>> problem = kd.TransferProblem(net, data.x, data.y, None, lam=0)
    >>> bound = kd.bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.05)
    >>> print(bool(bound.holds), bool(bound.informative))
    True False
    """
    check_problem(problem)
    x_test = real_array("x_test", x_test, (("k", None), ("d", problem.student.dim)))
    y_test = _two_labels("y_test", real_array("y_test", y_test, (("k", x_test.shape[0]),)))
    y = _two_labels("problem.y", problem.y)
    delta, margin = real_array("delta", delta, ()), real_array("margin", margin, ())
    if is_concrete(delta) and not 0 < float(delta) < 1:
        raise ValueError(f"delta: expected a probability between 0 and 1; got {float(delta)}")
    if is_concrete(margin) and not float(margin) > 0:
        raise ValueError(f"margin: expected a positive number; got {float(margin)}")
    times = jnp.asarray(times)
    path = kernel_flow(problem, times[None] if times.ndim == 0 else times, at=jnp.concatenate([problem.x, x_test]))
    reached = path.outputs, path.movement
    value, wrong = _error_and_bound(problem.student, problem.x, y, y_test, *reached, delta, margin)
    assumptions = (
        Assumption("i.i.d. sample, start and margin chosen without it", None),
        Assumption("labels ±1", jnp.all(jnp.abs(y) == 1) & jnp.all(jnp.abs(y_test) == 1)),
        Assumption("0 < δ < 1, γ > 0", (delta > 0) & (delta < 1) & (margin > 0)),
        followed("kernel flow", path),
    )
    value, wrong = value.reshape(times.shape), wrong.reshape(times.shape)
    return Bound("test error", value, wrong, assumptions, trivial=1.0)


@eqx.filter_jit
def _error_and_bound(net, x, y, y_test, outputs, movement, delta, margin):
    """Bound and test error at every time; the outputs are on x first, then on the test inputs."""
    n = len(y)
    radius = jnp.maximum(1.0, jnp.ceil(np.sqrt(net.width) * movement))
    ramp = jnp.mean(jnp.clip(1 - y[None, :] * outputs[:, :n] / margin, 0, 1), axis=1)
    complexity = 2 * radius * jnp.sqrt(_kernel_trace(net, x)) / (margin * n)
    confidence = jnp.sqrt(2 * jnp.log(radius * (radius + 1) / delta) / n)
    wrong = jnp.mean((y_test[None, :] * outputs[:, n:] <= 0).astype(ramp.dtype), axis=1)
    return ramp + complexity + confidence, wrong


@jax.jit
def _average_length(kernel):
    """The mean of √(εᵀ H̄ ε) over sign vectors, and the standard error of that mean."""
    n = kernel.shape[0]
    if n <= _MOST_ENUMERATED:
        # ε and -ε have the same length, so that the first sign may stay +
        signs = np.array(np.meshgrid(*[[1.0]] + [[1.0, -1.0]] * (n - 1), indexing="ij")).reshape(n, -1).T
        signs = jnp.asarray(signs, kernel.dtype)
    else:
        signs = jax.random.rademacher(jax.random.key(0), (_DRAWS, n), kernel.dtype)
    squares = jnp.maximum(jnp.sum((signs @ kernel) * signs, axis=1), 0.0)
    lengths = jnp.sqrt(squares)
    if n <= _MOST_ENUMERATED:
        return jnp.mean(lengths), jnp.zeros(())
    trace = jnp.trace(kernel)  # the mean of the squares
    lengths = lengths - (squares - trace) / (2 * jnp.sqrt(jnp.where(trace > 0, trace, 1.0)))
    return jnp.mean(lengths), jnp.std(lengths) / np.sqrt(_DRAWS)


def _two_labels(name, y):
    if is_concrete(y) and (other := np.abs(y) != 1).any():
        raise ValueError(f"{name}: expected labels +1 and -1; got {float(np.asarray(y)[other][0])}")
    return y


@eqx.filter_jit
def _kernel_trace(net: TwoLayerNetwork, x):
    """The trace of H̄, from its diagonal alone."""
    return jnp.sum((net.output_weights**2 @ net.derivative(x) ** 2) * jnp.sum(x**2, axis=1))


@eqx.filter_jit
def _teacher_radius(system):
    """‖v^T‖ + ‖v_∞ - v^T‖ for λ > 0, unit by unit."""
    x, n = system.x, system.x.shape[0]

    def gather(total, unit):
        slopes, weight, gap = unit
        left, inverse = range_and_inverse(x, slopes)
        mean, inverses, bracket, length = total
        total = (
            mean + weight**2 * left @ left.T,
            inverses + weight**2 * inverse.T @ inverse,
            bracket - weight * left @ (left.T @ gap),
            length + jnp.sum((inverse @ gap) ** 2),
        )
        return total, None

    zeros = jnp.zeros((n, n), x.dtype)
    start = zeros, zeros, system.output_gap, jnp.zeros((), x.dtype)
    units = system.slopes, system.output_weights, system.feature_gap
    (mean, inverses, bracket, length), _ = jax.lax.scan(gather, start, units)
    # what no unit sees would meet 1/λ here, and 0 in the inverses
    pull = inverse_on_range(mean, system.lam, jnp.sum(system.output_weights**2)) @ bracket
    return _root(length) + _root(pull @ inverses @ pull)


@eqx.filter_jit
def _plain_radius(system):
    """((y - f(0))ᵀ H̄⁺ (y - f(0)))^(1/2)."""
    weighted = system.output_weights[:, None] * system.slopes
    kernel = (weighted.T @ weighted) * (system.x @ system.x.T)
    zero, gap = jnp.zeros((), kernel.dtype), system.output_gap
    pull = inverse_on_range(kernel, zero, zero) @ gap
    # the kernel has lost digits of its small eigenvalues, J has not: what is left over squares the error
    left = gap - system.outputs(system.output_adjoint(pull))
    return _root(gap @ pull + pull @ left)


def _root(square):
    """The root, and a slope of 0 where rounding leaves nothing above 0: the start itself is the limit there."""
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
