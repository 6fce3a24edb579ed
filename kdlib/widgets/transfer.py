"""The explorer of the chapter *Transfer*: labels and teacher pull on a student while it trains."""

import functools

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_descent
from kdlib.views import axis, cursor, curve, line, marks, row, rule, segments, view

_WIDTH, _SAMPLES, _WRONG = 60, 12, 2  # units of the student; training samples, and how many labels are flipped
_STRENGTHS = (0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000)
_START = 0.5  # where step 0 stands on a log axis


class TransferExplorer(Explorer):
    """A tanh student of 60 units between its labels and its teacher, step by step, for a strength λ.

    The pulls are those on the output, a(y − f) and λ(φ̄ − f), the sums of b_k r_k over the units, divided by a + λ: they
    add up to f* − f, the way that is left to the best fit over all features. On the circle the units cannot go it.

    Attributes
    ----------
    lam : float
        The strength λ of the transfer.
    step : float
        How many steps of gradient descent the student has made, each half of the edge of a linear student.
    data : float
        0 for twelve points on the circle, 1 for twelve images of the digits 3 and 8; two labels are wrong.
    """

    lam = Value(1)
    step = Value(5000)
    data = Value(0)

    parameters = (
        Grid(
            "lam", "λ", "strength of the transfer", _STRENGTHS, (0.03, 0.1, 1, 10, 30),
            least=0.01, most=100,
        ),
        Grid("step", "j", "steps of descent", _STEPS, (0, 5, 20, 100, 5000), most=_STEPS[-1], whole=True),
        Grid("data", "set", "training set", (0, 1), (0, 1), names=("circle", "digits")),
    )  # fmt: skip

    def __init__(self):
        self._given = [_taught(datasets.circle(_SAMPLES)), _taught(datasets.digits((3, 8), train=_SAMPLES))]
        self._of = functools.cache(self._of)  # one run after the other, each once
        super().__init__()

    def problem(self, lam: float, data: float) -> TransferProblem:
        """Return the problem of a training set, with this λ."""
        return TransferProblem(*self._given[int(data)], lam=lam)

    def _of(self, lam, data, steps=_STEPS):
        """The outputs of a run after so many steps, and its misfits to labels and teacher, squared."""
        problem = self.problem(lam, data)
        step_size = 1 / ((1 + lam) * np.linalg.norm(problem.x, 2) ** 2)
        run = gradient_descent(problem, step_size, steps)
        labels = np.sum((np.asarray(problem.y) - np.asarray(run.outputs)) ** 2, axis=1)
        return np.asarray(run.outputs), labels, (2 * np.asarray(run.energies) - labels) / lam

    def constants(self):
        place = np.arange(1.0, _SAMPLES + 1)
        return {
            "place": place,
            "left_of_it": place - 0.15,
            "right_of_it": place + 0.15,
            "zero": np.zeros(_SAMPLES),
            "steps": np.maximum(_STEPS, _START),
            "corners": [0.0, 1.0],
            "line": [1.0, 0.0],
        }

    def at(self, *, lam: float, step: float, data: float):
        """The fields for one strength, after one number of steps, on one training set."""
        problem = self.problem(lam, data)
        y, a = np.asarray(problem.y), float(problem.student.a)
        teacher = np.asarray(problem.student.output_weights @ self._given[int(data)][3])
        budget = np.linalg.norm(y - teacher)
        run = self._of(lam, data)
        now, which = (run, _STEPS.index(step)) if step in _STEPS else (self._of(lam, data, (int(step),)), 0)
        output, labels, distance = (values[which] for values in now)
        ends = np.array([[squares[-1] for squares in self._of(each, data)[1:]] for each in _STRENGTHS])
        pulls = a * (y - output) / (a + lam), lam * (teacher - output) / (a + lam)
        misfits = np.sqrt([labels, a * distance]) / budget
        return {
            "labels": y,
            "teacher": teacher,
            "output": output,
            "best": (a * y + lam * teacher) / (a + lam),
            "label_pull": pulls[0],
            "teacher_pull": pulls[1],
            "left": sum(pulls),
            "left_size": [np.sqrt(np.mean(sum(pulls) ** 2))],
            "label_energies": run[1] / 2,
            "teacher_energies": lam * run[2] / 2,
            "energies": run[1] / 2 + lam * run[2] / 2,
            "label_energy": [labels / 2],
            "teacher_energy": [lam * distance / 2],
            "energy": [labels / 2 + lam * distance / 2],
            "floor": [lam * budget**2 / (a + lam) / 2],
            "way": np.sqrt(run[1]) / budget,
            "way_up": np.sqrt(a * run[2]) / budget,
            "ends": np.sqrt(ends[:, 0]) / budget,
            "ends_up": np.sqrt(a * ends[:, 1]) / budget,
            "label_misfit": misfits[:1],
            "teacher_misfit": misfits[1:],
            "both": [misfits.sum()],
            "label_share": [lam / (a + lam)],
            "teacher_share": [a / (a + lam)],
            "here": [max(step, _START)],
        }

    def describe(self):
        sample = axis("sample", [0.5, _SAMPLES + 0.5], ticks=[[k, str(k)] for k in range(1, _SAMPLES + 1, 2)])
        ticks = [[_START, "0"], *([10**k, str(10**k)] for k in range(4))]
        step = axis("steps of descent", [0.4, 6000], scale="log", ticks=ticks)
        energy = [0.05, self.decades("energies")[1]]
        return {
            "title": "Explorer: labels and teacher pull on the student",
            "claim": "Trained to the end, a student with a larger λ has more label error and is nearer to its teacher.",
            "views": [
                view(
                    "Outputs",
                    "Labels, teacher, the student's outputs and the best fit over all features, sample by sample.",
                    sample,
                    axis("output", self.span("output", "labels", "teacher")),
                    segments("place", "labels", "teacher", "faint", width=1),
                    marks("place", "best", "bound", "bar"),
                    marks("place", "output", "network", "disc"),
                    marks("place", "labels", "labels", "cross"),
                    marks("place", "teacher", "teacher", "diamond"),
                    share=0.5,
                ),
                view(
                    "Pulls",
                    "The pulls of labels and teacher on the student's output, and their sum, sample by sample.",
                    sample,
                    axis("pull / (a + λ)", self.span("label_pull", "teacher_pull", "left")),
                    segments("left_of_it", "zero", "label_pull", "labels", width=5),
                    segments("right_of_it", "zero", "teacher_pull", "teacher", width=5),
                    marks("place", "left", "network", "disc"),
                    share=0.5,
                ),
                view(
                    "Misfits",
                    "The student's way in the plane of its misfits to labels and teacher, the line that no student "
                    "crosses, and the ends of the students for all strengths.",
                    axis("misfit to the labels", [0, 1.5]),
                    axis("misfit to the teacher", [0, 2.6]),
                    line("corners", "line", "bound", dashed=True),
                    line("ends", "ends_up", "faint"),
                    curve("way", "way_up", "network", width=1.2),
                    cursor("label_share", "bound", dashed=True, width=1),
                    marks("label_share", "teacher_share", "bound", "bar"),
                    marks("label_misfit", "teacher_misfit", "network", "disc"),
                    share=0.5,
                ),
                view(
                    "Energy",
                    "The two parts of the energy and their sum against the number of steps.",
                    step,
                    axis("energy", energy, scale="log"),
                    cursor("here"),
                    rule("floor", "bound", dashed=True),
                    line("steps", "label_energies", "labels"),
                    line("steps", "teacher_energies", "teacher"),
                    line("steps", "energies", "network", width=2.4),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "",
                "columns": ["energy", "misfit / ‖y − φ̄‖"],
                "rows": [
                    row("labels", "labels", "label_energy", "label_misfit", symbol="cross", solid=True),
                    row("teacher", "teacher", "teacher_energy", "teacher_misfit", symbol="diamond", solid=True),
                    row("student, both parts", "network", "energy", "both", symbol="disc", solid=True),
                    row("best fit of all", "bound", "floor", "1", symbol="bar", dashed=True),
                    row("ends for all λ", "faint", "", "", solid=True),
                ],
            },
            "sentence": (
                "At λ = {lam}, after {step} steps on the {data}, the student misses its labels by {label_misfit} and "
                "its teacher by {teacher_misfit}, in units of their disagreement; the best fit of all would by "
                "{label_share} and {teacher_share}. The sum of the pulls is {left_size} in root mean square."
            ),
        }


def _taught(data):
    """Student, inputs, labels and the features of a teacher that learned the correct labels and stopped early."""
    student = TwoLayerNetwork.init(jax.random.key(0), _WIDTH, data.x.shape[1])
    lesson = TransferProblem(student, data.x, data.y, None, lam=0.0)
    phi = gradient_descent(lesson, 0.1, [60]).network.features(data.x)
    order = np.argsort(-data.y, kind="stable")  # drawn side by side: first those on the upper side
    return student, data.x[order], datasets.flip(data.y, _WRONG)[order], phi[:, order]


def transfer_explorer() -> TransferExplorer:
    """Return the explorer of the chapter *Transfer*, on twelve points of the circle and on twelve digits.

    It shows that a student with a larger λ, trained to the end, has more label error and is nearer to its teacher,
    and how far above the best fit over all features it ends.

    Returns
    -------
    TransferExplorer
        With the traits ``lam``, ``step`` and ``data``, to be set, observed and linked.
    """
    return TransferExplorer()
