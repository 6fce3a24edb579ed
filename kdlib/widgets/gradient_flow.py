"""The explorer of the chapter *Gradient flow*: descent beside the flow, as its step grows beyond the edge."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_descent, gradient_flow
from kdlib.views import axis, cursor, line, marks, row, view

_WIDTH, _HORIZON = 60, 4.0  # units of the student; T, in gradient-flow time
_COUNTS = (800, 400, 200, 100, 80, 64, 50, 40, 32, 25, 20, 16, 14, 12, 10, 8)  # steps until T
_ETAS = tuple(_HORIZON / count for count in _COUNTS)
_MARKS = 33  # of a run; one of more steps shows some of them
_SHOWN = [1, 2, 8]  # samples drawn one by one: a correct label, the wrong one beside it, one of the other side


class GradientFlowExplorer(Explorer):
    """Gradient descent beside the gradient flow of the same tanh student, as the step η and the strength λ move.

    The edge of stability is 2 over the largest eigenvalue of the energy's Hessian at the minimum to which short steps
    lead. It is a local one: beyond it this minimum repels descent.

    Attributes
    ----------
    eta : float
        The step η; in the page T = 4 is a whole number of steps. In a live kernel the gap is taken after the last
        whole step.
    lam : float
        The strength λ of the transfer.
    times : array, shape (41,)
        Gradient-flow times at which the flow is drawn.
    """

    eta = Value(0.1)
    lam = Value(1.0)

    parameters = (
        Grid(
            "eta", "η", "step of descent", _ETAS,
            (0.005, 0.02, 0.05, 0.1, 0.2, 0.5), least=0.002, most=1.0,
        ),
        Grid("lam", "λ", "strength of the transfer", (0.25, 0.5, 1, 2, 4), (0.25, 0.5, 1, 2, 4), least=0.25, most=10),
    )  # fmt: skip

    def __init__(self):
        self._data = datasets.circle()
        self._labels = datasets.flip(self._data.y, 2)
        self._student = TwoLayerNetwork.init(jax.random.key(0), _WIDTH, 2)
        alone = TransferProblem(self._student, self._data.x, self._data.y, None, lam=0.0)
        teacher = gradient_descent(alone, 0.1, [60]).network  # stopped early
        self._phi = teacher.features(self._data.x)
        self.times = np.linspace(0.0, _HORIZON, 41)
        self._curvature = jax.jit(self._curvature)
        self._of = functools.cache(self._of)  # one λ after the other, each once
        super().__init__()

    def problem(self, lam: float) -> TransferProblem:
        """Return the problem of the chapter, with this λ."""
        return TransferProblem(self._student, self._data.x, self._labels, self._phi, lam=lam)

    def _curvature(self, problem, weights):
        """The largest eigenvalue of the energy's Hessian."""
        hessian = jax.hessian(lambda w: problem.energy(problem.student.with_weights(w)))(weights)
        return jnp.linalg.eigvalsh(hessian.reshape(weights.size, weights.size))[-1]

    def _of(self, lam):
        """At this λ: the flow, its end, the edge of stability, and the gap at every step of the table."""
        problem = self.problem(lam)
        flow = gradient_flow(problem, self.times)
        short = 1 / ((1 + lam) * np.linalg.norm(problem.x, 2) ** 2)  # half of the edge of a linear student
        bottom = gradient_descent(problem, short, [8000]).network
        edge = 2 / float(self._curvature(problem, bottom.weights))
        ends = np.array([self._end(problem, _HORIZON / count, count, flow) for count in _COUNTS])
        return problem, flow, edge, ends

    @staticmethod
    def _end(problem, eta, count, flow):
        """After so many steps: the gap ‖w_j − w(jη)‖ to the end of a flow up to the same time, and the energy."""
        run = gradient_descent(problem, eta, [count])
        return float(jnp.linalg.norm(run.network.weights - flow.network.weights)), float(run.energies[0])

    def constants(self):
        return {"time": self.times, "steps": _ETAS}

    def at(self, *, eta: float, lam: float):
        """The fields at one step and one λ."""
        problem, flow, edge, ends = self._of(lam)
        count = int(_HORIZON / eta + 1e-9)
        # As many steps of every run, so that nothing compiles anew; those after T leave their places empty.
        recorded = np.arange(_MARKS) * math.ceil(count / (_MARKS - 1))
        run, until = gradient_descent(problem, eta, recorded), recorded <= count
        outputs = np.where(until[:, None], run.outputs, np.nan)[:, _SHOWN]
        if eta in _ETAS:
            gap, energy = ends[_ETAS.index(eta)]
        else:
            beside = gradient_flow(problem, self.times * (count * eta / _HORIZON))
            gap, energy = self._end(problem, eta, count, beside)
        return {
            "here": [eta],
            "flow": np.asarray(flow.outputs)[:, _SHOWN].T,
            "flow_energy": flow.energies,
            "step_time": run.times,
            "every_time": np.tile(run.times, len(_SHOWN)),
            "descent": outputs.T,
            "descent_energy": np.where(until, run.energies, np.nan),
            "gap": [gap],
            "gaps": ends[:, 0],
            "in_proportion": ends[0, 0] * _COUNTS[0] / np.array(_COUNTS),
            "edge": [edge],
            "share": [eta / edge],
            "fate": [np.digitize(eta / edge, (0.5, 1.0))],
            "flow_end": flow.energies[-1:],
            "descent_end": [energy],
            "count": [count],
        }

    def describe(self):
        time = axis("gradient-flow time t = jη", [0, _HORIZON])
        step = axis("step η", [0.004, 0.7], scale="log", ticks=[[k, f"{k:g}"] for k in (0.005, 0.02, 0.1, 0.5)])
        return {
            "title": "Explorer: the step of descent beside the flow",
            "claim": "With a small step descent misses the flow in proportion to η; "
            "with a step beyond the edge of stability it does not come to rest in this minimum.",
            "views": [
                view(
                    "Outputs",
                    "The student's outputs at three samples against time: the flow, and descent after each step.",
                    time,
                    axis("output at three samples", [-1.6, 1.6]),
                    line("time", "flow", "network"),
                    line("step_time", "descent", "student", width=1, opacity=0.5),
                    marks("every_time", "descent", "student", "disc"),
                    height=260,
                ),
                view(
                    "Energy",
                    "The energy of the flow and of descent against time.",
                    time,
                    axis("energy E", [2, 1000], scale="log"),
                    line("time", "flow_energy", "network"),
                    line("step_time", "descent_energy", "student", width=1, opacity=0.5),
                    marks("step_time", "descent_energy", "student", "disc"),
                    share=0.5,
                ),
                view(
                    "Gap and step",
                    "The gap between descent and flow at time 4 against the step, with the edge of stability.",
                    step,
                    axis("gap at T = 4", self.decades("gaps", "gap"), scale="log"),
                    cursor("here"),
                    cursor("edge", "bound", dashed=True),
                    line("steps", "in_proportion", "faint"),
                    marks("steps", "gaps", "student", "cross"),
                    marks("here", "gap", "student", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "at time T = 4",
                "columns": ["energy", "gap"],
                "rows": [
                    row("descent", "student", "descent_end", "gap", symbol="disc"),
                    row("descent at every η", "student", "", "", symbol="cross"),
                    row("in proportion to η", "faint", "", "", solid=True),
                    row("gradient flow", "network", "flow_end", "0", solid=True),
                    row("edge of stability", "bound", "", "", dashed=True),
                ],
            },
            "whole": ["count"],
            "words": {"fate": ["settles", "overshoots but settles", "does not settle"]},
            "sentence": (
                "At λ = {lam} the step η = {eta} is {share} of the edge of stability {edge}: descent {fate}. "
                "After {count} steps its weights are {gap} away from the flow's, with energy {descent_end} "
                "against {flow_end}."
            ),
        }


def gradient_flow_explorer() -> GradientFlowExplorer:
    """Return the explorer of the chapter *Gradient flow*, on the circle's dozen points with two wrong labels.

    It shows that with a small step descent misses the flow in proportion to the step, at a fixed time, and that with
    a step beyond the edge of stability it does not settle.

    Returns
    -------
    GradientFlowExplorer
        With the traits ``eta`` and ``lam``, to be set, observed and linked.
    """
    return GradientFlowExplorer()
