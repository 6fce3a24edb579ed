"""The explorer of the chapter *Lazy training*: a network beside its kernel flow, at any width, with two teachers."""

from typing import Any

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.kernels import tangent_kernel
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow
from kdlib.views import axis, line, marks, row, view

_WIDTHS = (16, 32, 64, 128, 256, 512, 1024)
_MOST = _WIDTHS[-1]
_SEED, _STRANGER = 2, 102
_SHOWN = slice(None, None, 3)  # four of the twelve outputs
_TEACHER_STOPS, _LATEST = 5.0, 20.0
_LAZY = 0.01  # of ‖y‖
_NEAR = 0.0


class LazyTrainingExplorer(Explorer):
    """Whether a student is lazy, as its width m grows and its teacher is near or far.

    The units of a narrow student are the first ones of a wide one. All widths share one shape, hence one compiled
    program: units beyond the m-th have output weight 0 and a teacher that asks nothing of them, so they stand still.

    Attributes
    ----------
    m : float
        The width, a whole number; the page has those of the table.
    teacher : float
        0 for the student itself trained on the correct labels, 1 for a network drawn on its own.
    times : array, shape (25,)
        Gradient-flow times, up to the horizon of all that is measured.
    """

    m = Value(64.0)
    teacher = Value(_NEAR)

    parameters = (
        Grid("m", "m", "width", _WIDTHS, (16, 64, 256, 1024), least=1, most=_MOST, whole=True),
        Grid("teacher", "teacher", "teacher", (_NEAR, 1.0), (_NEAR, 1.0), names=("near", "far")),
    )

    def __init__(self):
        self.times = np.geomspace(0.05, _LATEST, 25)
        data = datasets.circle()
        self._x, self._clean, self._y = data.x, data.y, datasets.flip(data.y, 2)
        self._drawn = TwoLayerNetwork.init(jax.random.key(_SEED), _MOST, 2)
        self._other = np.asarray(TwoLayerNetwork.init(jax.random.key(_STRANGER), _MOST, 2).features(self._x))
        self._runs: dict[tuple[float, float], dict[str, Any]] = {}
        super().__init__()

    def problem(self, m: float, teacher: float) -> TransferProblem:
        """The student of width m with its teacher, among units that stand still."""
        one = np.arange(_MOST) < m
        # b_k = a_k/√m: the signs make up for the units that are only there to stand still
        signs = np.where(one, np.asarray(self._drawn.signs) * np.sqrt(_MOST / m), 0.0)
        student = TwoLayerNetwork(self._drawn.weights, signs)
        own = student.features(self._x)
        if teacher == _NEAR:
            alone = TransferProblem(student, self._x, self._clean, own, lam=0.0)
            phi = gradient_flow(alone, self.times * _TEACHER_STOPS / _LATEST).network.features(self._x)
        else:
            phi = np.where(one[:, None], self._other, own)
        return TransferProblem(student, self._x, self._y, phi, lam=0.5)

    def _run(self, m, teacher):
        """What training to the horizon changes, and the outputs on the way."""
        if (m, teacher) not in self._runs:
            problem = self.problem(m, teacher)
            trained, frozen = gradient_flow(problem, self.times), kernel_flow(problem, self.times)
            outputs, linear = np.asarray(trained.outputs), np.asarray(frozen.outputs)
            after, before = (tangent_kernel(net, self._x) for net in (trained.network, problem.student))
            moved = np.asarray(trained.network.weights - problem.student.weights)
            self._runs[m, teacher] = {
                "network": outputs[:, _SHOWN].T,
                "flow": linear[:, _SHOWN].T,
                "movement": np.max(np.linalg.norm(moved, axis=1)),
                "drift": np.linalg.norm(np.asarray(after - before), 2),
                "gap": np.max(np.linalg.norm(outputs - linear, axis=1)),
            }
        return self._runs[m, teacher]

    def constants(self):
        widths = np.array(_WIDTHS, float)
        guide = self._run(widths[0], _NEAR)["movement"] * np.sqrt(widths[0] / widths)
        return {"time": self.times, "widths": widths, "guides": guide}

    def at(self, *, m: float, teacher: float):
        here = self._run(m, teacher)
        guide = self._run(_WIDTHS[0], _NEAR)["movement"] * np.sqrt(_WIDTHS[0] / m)
        fields = here | {"guide": guide, "width": m}
        fields |= {f"{name}_grown": np.sqrt(m) * fields[name] for name in ("movement", "drift", "gap", "guide")}
        for name in ("movement", "drift", "gap"):
            fields[f"{name}s"] = np.array([self._run(width, teacher)[name] for width in _WIDTHS])
        share = here["gap"] / np.linalg.norm(self._y)
        return fields | {"percent": 100 * share, "lazy": float(share <= _LAZY)}

    def describe(self):
        ticks = [[m, str(m)] for m in (16, 64, 256, 1024)]
        sizes = self.decades("movements", "drifts", "gaps", "guides")
        return {
            "title": "Explorer: lazy or not",
            "claim": (
                "With a near teacher weight movement, kernel drift and gap shrink at least as fast as 1/\u2060√m: a "
                "wide student is lazy. With a far one no width makes it so."
            ),
            "views": [
                view(
                    "Outputs",
                    "Four outputs against time: of the network, and of its kernel flow.",
                    axis("gradient-flow time t", self.times[[0, -1]], scale="log"),
                    axis("output", self.span("network", "flow")),
                    line("time", "network", "network", width=2.0),
                    line("time", "flow", "student", dashed=True, width=1.6),
                    share=0.5,
                    height=270,
                ),
                view(
                    "What training changes",
                    "Largest weight movement, drift of the tangent kernel and gap of the outputs against the width, "
                    "beside a line of slope minus one half.",
                    axis("width m", [14, 1200], scale="log", ticks=ticks),
                    axis("size, up to t = 20", sizes, scale="log"),
                    line("widths", "guides", "bound", dashed=True),
                    *(
                        layer
                        for name, symbol in _MEASURED
                        for layer in (
                            line("widths", f"{name}s", "network", width=1.3, opacity=0.6),
                            marks("width", name, "network", symbol),
                        )
                    ),
                    share=0.5,
                    height=270,
                ),
            ],
            "readout": {
                "corner": "up to t = 20",
                "columns": ["at this m", "times √m"],
                "rows": [
                    row("network", "network", "", "", solid=True),
                    row("kernel flow", "student", "", "", dashed=True),
                    row("weight movement", "network", "movement", "movement_grown", symbol="disc", solid=True),
                    row("drift of H̄", "network", "drift", "drift_grown", symbol="diamond", solid=True),
                    row("gap of the outputs", "network", "gap", "gap_grown", symbol="cross", solid=True),
                    row("1/√m, to compare", "bound", "guide", "guide_grown", dashed=True),
                ],
            },
            "sentence": (
                "With m = {m} units and a {teacher} teacher, some unit's weights move by {movement}. The outputs of "
                "network and kernel flow part by at most {gap}, which is {percent} % of ‖y‖: to one percent, the "
                "student is {lazy}."
            ),
            "words": {"lazy": ["not lazy", "lazy"]},
        }


_MEASURED = (("movement", "disc"), ("drift", "diamond"), ("gap", "cross"))


def lazy_training_explorer() -> LazyTrainingExplorer:
    """Return the explorer of the chapter *Lazy training*: twelve points on the circle, two of them with wrong labels.

    The near teacher is the student itself, trained on the correct labels up to t = 5; the far one is a network drawn on
    its own. Measured up to t = 20, at λ = 0.5.

    Returns
    -------
    LazyTrainingExplorer
        With the traits ``m`` and ``teacher``, to be set, observed and linked.
    """
    return LazyTrainingExplorer()
