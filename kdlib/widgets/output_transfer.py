"""The explorer of the chapter *Soft labels*: one student is told its teacher's features, the other its outputs."""

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.limit import fixed_point
from kdlib.linear_system import Readout
from kdlib.network import TwoLayerNetwork
from kdlib.output_transfer import soft_label_problem
from kdlib.problem import TransferProblem
from kdlib.spectrum import slow_modes
from kdlib.trajectory import kernel_flow
from kdlib.views import axis, line, marks, row, view

_ORDER = (1, 5, 9, 3, 7, 11)  # of the circle's dozen points: any first few of these lie around it
_STRENGTHS = (0.0, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_WIDTH = 24


class OutputTransferExplorer(Explorer):
    """Two students with the same start, samples, labels, teacher and λ, each trained for ever in the kernel regime.

    Attributes
    ----------
    lam : float
        The strength λ ≥ 0 of the transfer.
    n : float
        How many samples the students see, from 2, as many as there are dimensions, to 6.
    """

    lam = Value(10.0)
    n = Value(4.0)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", _STRENGTHS, (0, 0.1, 1, 10, 100), most=1e6),
        Grid(
            "n", "n", "samples, in two dimensions", (2.0, 3.0, 4.0, 6.0), (2, 3, 4, 6), least=2.0, most=6.0, whole=True
        ),
    )

    def __init__(self):
        circle = datasets.circle(12)
        self.student = TwoLayerNetwork.init(jax.random.key(5), _WIDTH, 2, activation="softplus")
        self._x, self._y = circle.x[list(_ORDER)], circle.y[list(_ORDER)]
        self._angles = np.linspace(0.0, 2 * np.pi, 73)
        self.around = np.stack([np.cos(self._angles), np.sin(self._angles)], axis=1)
        lesson = TransferProblem(self.student, self.around[1:], 3 * np.cos(2 * self._angles[1:]), None, lam=0)
        self._way = np.asarray(kernel_flow(lesson, [2.0]).network.weights - self.student.weights)
        self._moved = Readout.of(self.student, self.around)
        self._start = np.asarray(self.student(self.around))
        self.times, self.steps = np.logspace(-2, 4, 37), np.logspace(0, 5, 31)
        super().__init__()

    def problem(self, lam: float, n: int) -> TransferProblem:
        """The problem of both students, on the first n samples.

        The others are moved to the origin, with labels that hold there at the start: no weight ever hears of them,
        and all problems have one shape.
        """
        seen = np.arange(len(self._x)) < n
        x = np.where(seen[:, None], self._x, 0.0)
        labels = np.where(seen, self._y, self.student(x))
        features = self.student.features(x) + self.student.derivative(x) * (self._way @ x.T)
        return TransferProblem(self.student, x, labels, features, lam=lam)

    def constants(self):
        return {
            "angle": self._angles,
            "opinion": self._start + np.asarray(self._moved(self._way)),
            "time": self.times,
            "step": self.steps,
        }

    def at(self, *, lam: float, n: float):
        given, seen = self.problem(lam, int(n)), np.arange(len(self._x)) < n
        teacher = np.asarray(self.student.output_weights) @ np.asarray(given.phi)
        opinion = self._start + np.asarray(self._moved(self._way))
        places = np.mod(np.arctan2(self._x[:, 1], self._x[:, 0]), 2 * np.pi)
        only = {"place": places, "labels": self._y, "teacher": teacher}
        fields = {name: np.where(seen, values, np.nan) for name, values in only.items()}
        fields["labels_there"] = _size((self._y - teacher)[seen])
        # Output-level transfer is training without a teacher on other labels, by a clock 1 + λ times as fast.
        for name, which, clock in (("features", given, 1.0), ("outputs", soft_label_problem(given), 1.0 + lam)):
            end = fixed_point(which)
            told = np.asarray(end.outputs)
            around = self._start + np.asarray(self._moved(end.displacement))
            modes = slow_modes(which, 2 * _WIDTH if which.lam > 0 else int(n))
            rates, amplitudes = clock * np.asarray(modes.rates), np.asarray(modes.amplitudes)

            def left(times, rates=rates, amplitudes=amplitudes):
                gaps = np.linalg.norm(np.exp(-np.outer(times, rates)) @ amplitudes, axis=1)
                return gaps / np.linalg.norm(amplitudes.sum(axis=0))

            fields |= {
                f"{name}_limit": np.where(seen, told, np.nan),
                f"{name}_around": around,
                f"{name}_in_time": left(self.times),
                f"{name}_in_steps": left(self.steps / rates[-1]),
                f"{name}_there": _size((told - teacher)[seen]),
                f"{name}_elsewhere": _size((around - opinion)[1:]),
                f"{name}_condition": rates[-1] / rates[0],
                f"{name}_slowest": rates[0],
            }
        return fields

    def describe(self):
        ticks = [[k * np.pi / 2, text] for k, text in enumerate(("0", "π/2", "π", "3π/2", "2π"))]
        distance = axis("distance to its limit, relative", [1e-3, 1.5], scale="log")
        return {
            "title": "Explorer: told features, told outputs",
            "claim": (
                "On the samples the student that is told features ends at least as near to its teacher as the one "
                "that is told outputs, with invertible kernels (here n = 2) exactly as near. Here, for λ > 0, it ends "
                "nearer to it in between, too."
            ),
            "views": [
                view(
                    "Around the circle",
                    "Teacher and both students around the circle at the end, and on the samples their labels.",
                    axis("angle on the circle", [0, 2 * np.pi], ticks=ticks),
                    axis("output at t = ∞", self.span("opinion", "features_around", "outputs_around")),
                    line("angle", "opinion", "teacher"),
                    line("angle", "features_around", "student", width=2.2),
                    line("angle", "outputs_around", "student", dashed=True),
                    marks("place", "labels", "labels", "cross"),
                    marks("place", "teacher", "teacher", "diamond"),
                    marks("place", "features_limit", "student", "disc"),
                    marks("place", "outputs_limit", "student", "square"),
                    height=280,
                ),
                view(
                    "In time",
                    "Each student's distance to its own limit on the samples, against time.",
                    axis("gradient-flow time t", self.times[[0, -1]], scale="log"),
                    distance,
                    line("time", "features_in_time", "student", width=2.2),
                    line("time", "outputs_in_time", "student", dashed=True),
                    share=0.5,
                ),
                view(
                    "In steps",
                    "The same distances against steps of gradient descent, each as long as 1/λₘₐₓ.",
                    axis("steps of length 1/λₘₐₓ", self.steps[[0, -1]], scale="log"),
                    distance,
                    line("step", "features_in_steps", "student", width=2.2),
                    line("step", "outputs_in_steps", "student", dashed=True),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "distance to the teacher",
                "columns": ["on the samples", "around", "μₘₐₓ/μₘᵢₙ"],
                "rows": [
                    row("labels", "labels", "labels_there", "–", "–", symbol="cross"),
                    row("teacher", "teacher", "0", "0", "–", symbol="diamond", solid=True),
                    row(
                        "told features",
                        "student",
                        "features_there",
                        "features_elsewhere",
                        "features_condition",
                        symbol="disc",
                        solid=True,
                    ),
                    row(
                        "told outputs",
                        "student",
                        "outputs_there",
                        "outputs_elsewhere",
                        "outputs_condition",
                        symbol="square",
                        dashed=True,
                    ),
                ],
            },
            "sentence": (
                "With n = {n} samples and λ = {lam}, told features the student ends {features_there} from its teacher "
                "on the samples and {features_elsewhere} around the circle; told outputs {outputs_there} and "
                "{outputs_elsewhere}. Their slowest rates are {features_slowest} and {outputs_slowest}."
            ),
        }


def _size(values):
    return np.sqrt(np.mean(values**2))


def output_transfer_explorer() -> OutputTransferExplorer:
    """Return the explorer of the chapter *Soft labels*, on a few points of the circle.

    The teacher has an opinion about the whole circle, 3 cos 2θ, and features that the student can carry.

    Returns
    -------
    OutputTransferExplorer
        With the traits ``lam`` and ``n``, to be set, observed and linked.
    """
    return OutputTransferExplorer()
