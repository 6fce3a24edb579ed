r"""How far training moves a student of finite width: its weights, its residuals, its kernel.

The energy E pays for all movement. What is left of it for that is Δ = E(0) - E*, with E* = λ‖y - φ̄‖²/(2(a + λ)) the
least energy that any features have; so Σ_k ∫‖ẇ_k‖² dt ≤ Δ, at any width.

Book: chapter *How wide is wide enough?*
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from kdlib.bounds.bound import Assumption, Bound, followed
from kdlib.kernels import tangent_kernel
from kdlib.network import Activation, activation_pair
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow, tolerances
from kdlib.trajectory import check_problem_and_inputs
from kdlib.validation import ArrayLike, is_concrete, known_now, real_array, time_array

_SUPREMA = {
    "tanh": (1.0, 4 / (3 * np.sqrt(3))),
    "erf": (2 / np.sqrt(np.pi), np.sqrt(8 / np.pi) * np.exp(-0.5)),
    "softplus": (1.0, 0.25),
}
_GRID = 4097


class Suprema(NamedTuple):
    """The suprema of abs(σ') and of abs(σ'').

    Examples
    --------
    >>> from kdlib.bounds import activation_suprema
    >>> suprema = activation_suprema("tanh", 1.0)
    >>> float(suprema.slope), round(float(suprema.curvature), 4)
    (1.0, 0.7698)
    """

    slope: jax.Array
    curvature: jax.Array


def activation_suprema(activation: Activation, reach: float | jax.Array) -> Suprema:
    r"""Return the steepest slope and the largest curvature of an activation.

    .. math:: B_1 = \sup |\sigma'|, \qquad B_2 = \sup |\sigma''| .

    Parameters
    ----------
    activation : {"tanh", "erf", "softplus"} or callable
    reach : float
        For a callable the suprema are over :math:`|z| \le` reach. Those of a name are over all z, and exact.

    Returns
    -------
    Suprema
        ``slope`` B₁ and ``curvature`` B₂.

    Raises
    ------
    ValueError
        For the ReLU and for a callable whose slope jumps or is not finite; for a reach that is not a positive finite
        number.

    Notes
    -----
    A callable is differentiated by JAX on a grid of 4097 points: a spike between them is missed.

    References
    ----------
    Statements ``weight-movement`` and ``kernel-drift`` of the book, for their constants.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> print([round(float(sup), 4) for sup in kd.bounds.activation_suprema("tanh", 1.0)])
    [1.0, 0.7698]
    >>> print([round(float(sup), 4) for sup in kd.bounds.activation_suprema(jnp.sin, 1.0)])
    [1.0, 0.8415]
    """
    _, slope = activation_pair(activation)
    reach = real_array("reach", reach, ())
    if is_concrete(reach) and not float(reach) > 0:
        raise ValueError(f"reach: expected a number greater than 0; got {float(reach)}")
    if isinstance(activation, str):
        if activation not in _SUPREMA:
            raise ValueError(
                f"activation: expected one with a bounded second derivative, such as 'tanh', 'erf' or 'softplus'; got "
                f"{activation!r}, whose slope jumps"
            )
        return Suprema(*(jnp.asarray(sup, reach.dtype) for sup in _SUPREMA[activation]))
    grid = reach * jnp.linspace(-1.0, 1.0, _GRID, dtype=reach.dtype)
    slopes, curvatures = jax.jvp(slope, (grid,), (jnp.ones_like(grid),))
    suprema = Suprema(jnp.max(jnp.abs(slopes)), jnp.max(jnp.abs(curvatures)))
    # a difference quotient of σ' is at most sup|σ''|: where it is much larger, σ' jumps between two points
    steepest = jnp.max(jnp.abs(jnp.diff(slopes))) / (grid[1] - grid[0])
    smooth = jnp.isfinite(suprema.slope + suprema.curvature) & (steepest <= 2 * suprema.curvature + 1e-3)
    if is_concrete(smooth) and not smooth:
        raise ValueError(
            f"activation: expected a callable whose slope does not jump on [-{reach:.3g}, {reach:.3g}]; got "
            f"sup|σ'| = {suprema.slope:.3g}, sup|σ''| = {suprema.curvature:.3g}, and slopes that change at a rate of "
            f"{steepest:.3g}"
        )
    return suprema


class Constants(eqx.Module):
    r"""The numbers that bounds at finite width are made of, by the names of the book.

    ``budget`` is Δ, ``energy`` E(0), ``beta`` = B₁‖X‖, ``gamma`` = B₂ max‖x_i‖ ‖X‖, ``weights`` the \|b_k\|, ``lead``
    the ‖φ_k - f_k(0)‖, ``trust`` what is assumed of the activation, ``error`` how far a trained weight may be off.
    """

    energy: jax.Array
    budget: jax.Array
    beta: jax.Array
    gamma: jax.Array
    weights: jax.Array
    lead: jax.Array
    lam: jax.Array
    trust: Assumption
    error: jax.Array

    @classmethod
    def of(cls, problem, horizon):
        student, x, lam = problem.student, problem.x, problem.lam
        energy, floor = problem.energy(student), jnp.zeros(())
        phi = problem.phi
        if phi is not None:
            error = jnp.sum((problem.y - student.output_weights @ phi) ** 2)
            floor = jnp.where(lam > 0, lam * error / (2 * jnp.where(lam > 0, student.a + lam, 1.0)), 0.0)
        budget = jnp.maximum(energy - floor, 0.0)
        longest = jnp.max(jnp.linalg.norm(x, axis=1))
        spectral, start = jnp.linalg.norm(x, 2), jnp.max(jnp.abs(student.weights @ x.T))

        def within(movement):
            reach = jnp.maximum(start + longest * movement, jnp.finfo(x.dtype).tiny)
            slope, curvature = activation_suprema(student.activation, reach)
            trust = Assumption("σ′, σ″ bounded", jnp.isfinite(slope + curvature))
            if not isinstance(student.activation, str):
                trust = Assumption("σ′, σ″ bounded by their suprema on a grid", None)
            return cls(
                energy=energy,
                budget=budget,
                beta=slope * spectral,
                gamma=curvature * longest * spectral,
                weights=jnp.abs(student.output_weights),
                lead=jnp.linalg.norm(problem.feature_gap, axis=1),
                lam=lam,
                trust=trust,
                error=tolerances(x.dtype)[0] * (1 + jnp.max(jnp.abs(student.weights))),
            )

        # no weight vector moves by more than √(Δt), hence by more than the D_k(t) of the slopes met on that way
        paid = jnp.sqrt(budget * horizon)
        return within(jnp.minimum(paid, jnp.max(within(paid).movements(horizon[None]))))

    @property
    def push(self):
        r"""\|b_k\| √(2E(0)) + λ‖φ_k - f_k(0)‖, shape (m,): what drives unit k at the start is at most this."""
        return self.weights * jnp.sqrt(2 * self.energy) + self.lam * self.lead

    def residuals(self, times):
        """R_k(t) ≥ ‖r_k(s)‖ for all s ≤ t, shape (T, m)."""
        growth = self.beta * jnp.sqrt(self.lam * self.energy * times)
        return self.push[None, :] + growth[:, None] * self.weights[None, :]

    def movements(self, times):
        """D_k(t) = β∫R_k ≥ ‖w_k(t) - w_k(0)‖, shape (T, m)."""
        growth = 2 / 3 * self.beta * jnp.sqrt(self.lam * self.energy * times)
        return self.beta * times[:, None] * (self.push[None, :] + growth[:, None] * self.weights[None, :])


def weight_movement(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound the distance that any unit's weights have moved by then.

    .. math:: \max_k \lVert w_k(t) - w_k(0) \rVert \le \beta \max_k \Bigl[
              \bigl( |b_k| \sqrt{2E(0)} + \lambda \lVert \varphi_k - f_k(0) \rVert \bigr) t
              + \tfrac23 |b_k| \beta \sqrt{\lambda E(0)}\, t^{3/2} \Bigr],
              \qquad \beta = \sup|\sigma'| \lVert X \rVert .

    Parameters
    ----------
    problem : TransferProblem
        With a smooth activation.
    times : array, shape (T,)
        Finite gradient-flow times in any order.

    Returns
    -------
    Bound
        Shape (T,). ``measured`` is that of the trained network. The trivial bound is √(Δt): what the energy pays for
        if one unit has it all.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for the ReLU, and a callable whose slope jumps or is not finite where
        the weights can get; for NaN, negative or infinite times; for traced times.

    Notes
    -----
    Falls like m^(-1/2) where E(0) stays bounded and the teacher is within O(m^(-1/2)) of every unit.
    Attained as t → 0 by a unit that starts where σ is steepest. The network is trained from each time to the next.

    References
    ----------
    Statement ``weight-movement`` of the book. Du et al., *Gradient Descent Provably Optimizes Over-parameterized Neural
    Networks*, ICLR 2019 (without a teacher).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork(jnp.zeros((16, 1)), jnp.tile(jnp.array([1.0, -1.0]), 8))
    >>> problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), None, lam=0.0)
    >>> bound = kd.bounds.weight_movement(problem, [0.1, 1.0])
    >>> print(bool(bound.holds), [round(float(slack), 2) for slack in bound.slack])
    True [1.05, 1.59]
    """
    known_now("times", times, "since the network is trained from each to the next")
    times, constants = check_times(problem, times)
    start = problem.student.weights
    nets, followed = networks(problem, times)
    moved = [jnp.max(jnp.linalg.norm(net.weights - start, axis=1)) for net in nets]
    value = jnp.max(constants.movements(times), axis=1)
    trivial = jnp.sqrt(constants.budget * times)
    assumptions = constants.trust, followed
    return Bound("weight movement", value, jnp.stack(moved), assumptions, trivial=trivial, error=constants.error)


def kernel_drift(problem: TransferProblem, times: ArrayLike) -> Bound:
    r"""Bound how far the tangent kernel has drifted by then.

    .. math:: \lVert \bar H(t) - \bar H(0) \rVert \le 2 \beta \gamma \min\Bigl\{
              \Bigl( \sum_k b_k^4 \Bigr)^{1/2} \sqrt{\Delta t},\ \sum_k b_k^2 D_k(t) \Bigr\},
              \qquad \gamma = \sup|\sigma''| \max_i \lVert x_i \rVert\, \lVert X \rVert,

    with β and D_k(t), the bound of unit k's movement, of :func:`weight_movement`.

    Parameters
    ----------
    problem : TransferProblem
        With a smooth activation.
    times : array, shape (T,)
        Finite gradient-flow times in any order.

    Returns
    -------
    Bound
        Shape (T,), spectral norms. ``measured`` is that of the trained network. The trivial bound is the larger of
        ‖H̄(0)‖ and aβ²: both kernels are positive semidefinite.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem; for the ReLU, and a callable whose slope jumps or is not finite where
        the weights can get; for NaN, negative or infinite times; for traced times.

    Notes
    -----
    Falls like m^(-1/2) where E(0) stays bounded: with signs ±1 the sum of the b_k⁴ is 1/m. No unit's teacher
    need be near. Within a factor 1.03 at short times, where all units start at one point with nearly the largest slope
    and curvature, with output weights of one sign, one sample and no teacher.

    References
    ----------
    Statement ``kernel-drift`` of the book. Du et al., *Gradient Descent Provably Optimizes Over-parameterized Neural
    Networks*, ICLR 2019 (without a teacher).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 64, 3)
    >>> problem = kd.TransferProblem(student, jnp.eye(3), jnp.ones(3), None, lam=0.0)
    >>> bound = kd.bounds.kernel_drift(problem, [0.1, 1.0])
    >>> print(bool(bound.holds), bool(bound.met))
    True True
    """
    known_now("times", times, "since the network is trained from each to the next")
    times, constants = check_times(problem, times)
    x, student = problem.x, problem.student
    before = tangent_kernel(student, x)
    nets, followed = networks(problem, times)
    drift = [jnp.linalg.norm(tangent_kernel(net, x) - before, 2) for net in nets]
    together = jnp.sqrt(jnp.sum(constants.weights**4) * constants.budget * times)
    alone = constants.movements(times) @ constants.weights**2
    value = 2 * constants.beta * constants.gamma * jnp.minimum(together, alone)
    trivial = jnp.maximum(jnp.linalg.norm(before, 2), student.a * constants.beta**2)
    trivial = jnp.broadcast_to(trivial, value.shape)
    error = 2 * constants.beta * constants.gamma * student.a * constants.error
    return Bound("kernel drift", value, jnp.stack(drift), (constants.trust, followed), trivial=trivial, error=error)


def check_times(problem, times):
    """The times as an array, and the constants up to the latest of them, or `ValueError`."""
    check_problem_and_inputs(problem, None)
    times = time_array(times, allow_inf=False)
    return times, Constants.of(problem, jnp.max(times))


def networks(problem, times):
    """The trained network at each time, in the order asked for, and whether the gradient flow could be followed there.

    The flow goes on from each time to the next.
    """
    clock, net, reached, paths = np.asarray(times), problem.student, {0.0: problem.student}, []
    distinct = np.unique(clock[clock > 0])
    for stride, time in zip(np.diff(distinct, prepend=0.0), distinct, strict=True):
        # the flow is autonomous: a student that starts where the last one stood takes the same path
        going_on = TransferProblem(net, problem.x, problem.y, problem.teacher, lam=problem.lam)
        paths.append(gradient_flow(going_on, [stride]))
        net = reached[float(time)] = paths[-1].network
    return [reached[float(time)] for time in clock], followed("gradient flow", *paths)
