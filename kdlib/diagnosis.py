"""What to expect of a teacher, from arrays: five questions and how they are decided.

Book: chapter *Your own teacher*.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from kdlib.answers import Capacity, Regime, Speed, Strength, TestError
from kdlib.cross_validation import leave_one_out
from kdlib.datasets import Dataset
from kdlib.limit import fixed_point
from kdlib.network import Activation, TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.spectrum import largest_rate, slow_modes
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow
from kdlib.validation import known_now, non_negative, real_array

_STRENGTHS = np.array([0.01, 0.1, 1.0, 10.0, 100.0])
_TIMES = np.concatenate([[0.0], np.geomspace(1e-4, 1e8, 73)])
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The five answers, and the transfer problem that they are about.

    Attributes
    ----------
    problem : TransferProblem
        With the chosen λ.
    drawn : bool
        Whether the student was drawn here, since the data had none.
    regime, capacity, strength, speed, test : Regime, Capacity, Strength, Speed, TestError
        The answers, each with ``sentence`` and ``plot(ax)``.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(6)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 2)
    >>> own = kd.datasets.Dataset(data.x, data.y, phi=1.1 * student.features(data.x),
    ...                           weights=student.weights, signs=student.signs)
    >>> answers = kd.diagnose(own, lam=1.0)
    >>> answers.drawn, len(answers.sentences)
    (False, 5)
    """

    problem: TransferProblem
    drawn: bool
    regime: Regime
    capacity: Capacity
    strength: Strength
    speed: Speed
    test: TestError

    @property
    def sentences(self) -> tuple[str, ...]:
        """All answers in words, a tuple of strings."""
        answers = self.regime, self.capacity, self.strength, self.speed, self.test
        return tuple(answer.sentence for answer in answers)


def diagnose(
    data: Dataset,
    *,
    lam: float | jax.Array | None = None,
    time: float | jax.Array = 100.0,
    activation: Activation = "tanh",
    key: jax.Array | None = None,
) -> Diagnosis:
    r"""Answer five questions about a teacher, from its features on the training data.

    Is it in the kernel regime? How much of it can the student carry? Which λ? How fast? What test error?

    Parameters
    ----------
    data : Dataset
        With the teacher's features ``phi``, such as :func:`kdlib.datasets.load` reads. ``weights`` and ``signs`` are
        the student's start; without them a student is drawn, and its units are assigned to the teacher's.
    lam : float, optional
        The strength, positive; by default the one with the least cross-validated error.
    time : float
        How long the student will be trained, in gradient-flow time: steps times step size, ``inf`` allowed. Strength
        and test error are judged at this time, in the kernel regime.
    activation : str or callable
        Of the student.
    key : jax.random.key, optional
        For the student's draw; required where the data have no weights.

    Returns
    -------
    Diagnosis

    Raises
    ------
    ValueError
        If data are not a Dataset, lack ``phi``, have fewer than two rows, or lack weights while no key is given; if
        ``lam`` is not positive, ``time`` negative or NaN, or either is traced.

    Notes
    -----
    λ is chosen among 0.01, 0.1, 1, 10 and 100 by five-fold cross-validation of whole rows, label and teacher's features
    left out together. This assumes exchangeable rows, and a teacher that has not seen the labels.
    A drawn student is assigned by the least :math:`\sum_j \lVert\varphi_j - f_{k(j)}(0)\rVert^2`, O(m³); then single
    signs are flipped as long as this brings the teacher's output nearer to the labels. Such a teacher is far: expect
    the kernel regime to fail.

    References
    ----------
    Statements ``lazy-training``, ``relative-capacity`` and ``leave-one-out`` of the book. Chizat, Oyallon, Bach, *On
    Lazy Training in Differentiable Programming*, NeurIPS 2019 (when the kernel regime fails).

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(6)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 8, 2)
    >>> own = kd.datasets.Dataset(data.x, data.y, phi=1.1 * student.features(data.x),
    ...                           weights=student.weights, signs=student.signs)
    >>> print(kd.diagnose(own, lam=1.0).capacity.share < 1)
    True
    """
    if not isinstance(data, Dataset):
        raise ValueError(f"data: expected a Dataset, such as kd.datasets.load returns; got {type(data).__name__}")
    if data.phi is None:
        raise ValueError(f"data: expected the teacher's features phi, an array of shape (m, n={len(data.x)}); got none")
    if len(data.x) < 2:
        raise ValueError("data: expected at least two rows, since rows are left out in turn; got one")
    for name, value in (("lam", lam), ("time", time)):
        known_now(name, value, "since a diagnosis is to be read")
    time = float(real_array("time", time, (), finite=False))
    if not time >= 0:
        raise ValueError(f"time: expected a time that is at least 0, inf allowed; got {time}")
    if lam is not None and non_negative("lam", lam) == 0:
        raise ValueError("lam: expected a positive strength; got 0")
    student = _student(data, activation, key)
    strength = _strength(TransferProblem(student, data.x, data.y, data.phi, lam=1.0), time)
    lam = strength.best if lam is None else lam
    problem = TransferProblem(student, data.x, data.y, data.phi, lam=lam)
    speed = _speed(problem)
    return Diagnosis(
        problem=problem,
        drawn=data.weights is None,
        regime=_regime(problem, speed.tenth),
        capacity=_capacity(problem),
        strength=strength,
        speed=speed,
        test=_test(problem, data, strength),
    )


def _student(data, activation, key):
    """The student of the data, or one drawn and assigned to the teacher."""
    if data.weights is not None:
        return TwoLayerNetwork(data.weights, data.signs, activation)
    if key is None:
        raise ValueError("key: expected a jax.random.key, since the data hold no weights of a student; got None")
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    net = TwoLayerNetwork.init(key, len(data.phi), data.x.shape[1], activation=activation)
    cost = cdist(data.phi, np.asarray(net.features(jnp.asarray(data.x))), "sqeuclidean")
    weights = np.asarray(net.weights)[linear_sum_assignment(cost)[1]]
    return TwoLayerNetwork(weights, _fitted_signs(np.array(net.signs), data.phi, data.y), activation)


def _fitted_signs(signs, phi, y):
    """Flip the sign that helps the teacher's output most, until none does."""
    scaled = phi / np.sqrt(len(phi))
    left = y - signs @ scaled
    while True:
        gain = -4 * signs * (scaled @ left) - 4 * np.sum(scaled**2, axis=1)
        best = np.argmax(gain)
        if gain[best] <= 1e-12 * (y @ y):
            return signs
        left = left + 2 * signs[best] * scaled[best]
        signs[best] *= -1


def _at(student, x, y, phi, lam, time, inputs):
    """Outputs of the kernel flow at one time; without a teacher at λ = 0."""
    problem = TransferProblem(student, x, y, phi if lam > 0 else None, lam=lam)
    return np.asarray(kernel_flow(problem, [time], at=inputs).outputs[0])


def _left_out(problem, lam, time):
    """Outputs at one time on rows that were left out in turn, shape (n,)."""
    x, y, phi = (np.asarray(part) for part in (problem.x, problem.y, problem.phi))
    order, outputs = np.random.default_rng(0).permutation(y.size), np.zeros(y.size)
    for fold in np.array_split(order, min(_FOLDS, y.size)):
        kept = np.setdiff1d(order, fold)
        outputs[fold] = _at(problem.student, x[kept], y[kept], phi[:, kept], lam, time, x[fold])
    return outputs


def _strength(problem, time):
    y = np.asarray(problem.y)
    alone, *errors = (float(np.mean((_left_out(problem, lam, time) - y) ** 2)) for lam in (0.0, *_STRENGTHS))
    known = np.mean((np.asarray(leave_one_out(problem, _STRENGTHS)) - y) ** 2, axis=1)
    best = float(_STRENGTHS[np.argmin(errors)])
    return Strength(best, time, _STRENGTHS, np.array(errors), alone, known)


def _speed(problem):
    end = np.asarray(fixed_point(problem).outputs)
    start = np.asarray(problem.student(problem.x))
    way = float(np.linalg.norm(end - start))
    flow = np.asarray(kernel_flow(problem, _TIMES).outputs)
    distances = np.linalg.norm(flow - end, axis=1) / (way if way > 0 else 1.0)

    def last_above(level):
        above = np.flatnonzero(distances > level)[-1] if way > 0 else 0
        if above + 1 == _TIMES.size:
            return np.inf
        if above == 0:
            return float(_TIMES[1])
        left, right = np.log(distances[above : above + 2])
        t = (left - np.log(level)) / (left - right)
        return float(np.exp((1 - t) * np.log(_TIMES[above]) + t * np.log(_TIMES[above + 1])))

    slow = slow_modes(problem, 1)
    amplitude = float(jnp.linalg.norm(slow.amplitudes[0])) / (way if way > 0 else 1.0)
    return Speed(last_above(0.1), last_above(0.01), float(slow.rates[0]), amplitude, _TIMES, distances)


def _regime(problem, until):
    lead, root = problem.feature_gap, np.sqrt(problem.student.width)
    mixed = jnp.roll(problem.phi, 1, axis=0) - problem.student.features(problem.x)
    kappas = [float(root * jnp.max(jnp.linalg.norm(gap, axis=1))) for gap in (lead, mixed)]
    # the network's own steps are bound to the fastest rate: the comparison costs at most some thousand of them
    times = np.linspace(0.0, min(until, 1000 / float(largest_rate(problem).value)), 21)
    flow, network = (np.asarray(route(problem, times).outputs) for route in (kernel_flow, gradient_flow))
    gap = np.linalg.norm(flow - network, axis=1).max() / float(problem.scale)
    return Regime(kappas[0], kappas[1], times, flow, network, float(gap))


def _capacity(problem):
    lost, lead = fixed_point(problem).unlearnable, problem.feature_gap
    sizes, leads = (np.asarray(jnp.linalg.norm(part, axis=1)) for part in (lost, lead))
    units = np.divide(sizes, leads, out=np.zeros_like(sizes), where=leads > 0)
    share = float(np.linalg.norm(sizes) / np.linalg.norm(leads)) if leads.any() else 0.0
    output = float(jnp.linalg.norm(problem.student.output_weights @ lost) / problem.scale)
    return Capacity(share, units, output)


def _test(problem, data, strength):
    lam = float(problem.lam)
    if data.x_test is None:
        outputs, labels, alone = _left_out(problem, lam, strength.time), data.y, strength.alone
    else:
        rest = data.x, data.y, data.phi
        outputs, plain = (_at(problem.student, *rest, value, strength.time, data.x_test) for value in (lam, 0.0))
        labels, alone = data.y_test, float(np.mean((plain - data.y_test) ** 2))
    signs = np.isin(labels, (-1.0, 1.0)).all()
    wrong = float(np.mean(np.sign(outputs) != labels)) if signs else None
    error = float(np.mean((outputs - labels) ** 2))
    return TestError(error, alone, wrong, data.x_test is not None, outputs, np.asarray(labels))
