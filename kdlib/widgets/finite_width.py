"""The explorer of the chapter *How wide is wide enough?*: the gap of a network to its kernel flow, and two bounds."""

import jax
import numpy as np

from kdlib import datasets
from kdlib.bounds import finite_width_gap, finite_width_gap_posterior
from kdlib.explorer import Explorer, Grid, Value
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.views import axis, cursor, line, marks, row, rule, view

_WIDTHS = (16, 32, 64, 128, 256)
_MOST = _WIDTHS[-1]
_TIMES = (0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0)
_TEACHER_STOPS = 2.0
_CURVES = (("gap", "network", "disc"), ("start", "bound", "diamond"), ("flow", "bound", "cross"))


class FiniteWidthExplorer(Explorer):
    """What two bounds promise of a network of m units by time t, and what it does.

    The units of a narrow student are the first ones of a wide one. All widths share one shape, hence one compiled
    program: the other units have output weight 0 and a teacher that asks nothing of them, so they stand still.

    Attributes
    ----------
    m : float
        The width, one of the table's.
    t : float
        The gradient-flow time, one of the table's.
    """

    m = Value(64.0)
    t = Value(1.0)

    parameters = (
        Grid("m", "m", "width", _WIDTHS, _WIDTHS, names=tuple(map(str, _WIDTHS))),
        Grid("t", "t", "gradient-flow time", _TIMES, (0.1, 1.0, 10.0), names=tuple(f"{t:g}" for t in _TIMES)),
    )

    def problem(self, m: float) -> TransferProblem:
        """The antisymmetric student of m units and its near teacher, among units that stand still."""
        data = datasets.circle(4)
        half = np.asarray(TwoLayerNetwork.init(jax.random.key(0), _MOST // 2, 2).weights)
        # b_k = a_k/√m: the signs make up for the units that are only there to stand still
        signs = np.where(np.arange(_MOST // 2) < m / 2, np.sqrt(_MOST / m), 0.0)
        student = TwoLayerNetwork(np.concatenate([half, half]), np.concatenate([signs, -signs]))
        alone = TransferProblem(student, data.x, data.y, student.features(data.x), lam=0.0)
        clock = np.array(_TIMES) * _TEACHER_STOPS / _TIMES[-1]
        phi = gradient_flow(alone, clock).network.features(data.x)
        return TransferProblem(student, data.x, datasets.flip(data.y, 1), phi, lam=0.5)

    def constants(self):
        return {"times": np.array(_TIMES), "widths": np.array(_WIDTHS)}

    def curves(self, *, m: np.ndarray, t: np.ndarray):
        """The fields at pairs of a width and a time of the table, two arrays of length N."""
        rows = np.searchsorted(_WIDTHS, m), np.searchsorted(_TIMES, t)
        fields = {"width": m, "now": t, "energies": self._sizes["energies"][rows]}
        for name, _, _ in _CURVES:
            sizes = self._sizes[name]
            fields |= {name: sizes[rows], f"{name}_path": sizes[rows[0]], f"{name}_row": sizes.T[rows[1]]}
        for name in ("start", "flow"):
            fields[f"{name}_slack"] = fields[name] / fields["gap"]
            fields[f"{name}_says"] = (fields[name] < fields["energies"]).astype(float)
        return fields

    def __init__(self):
        found = {"gap": [], "start": [], "flow": [], "energies": []}
        for m in _WIDTHS:
            problem = self.problem(m)
            before, after = finite_width_gap(problem, _TIMES), finite_width_gap_posterior(problem, _TIMES)
            found["gap"].append(before.measured)
            found["start"].append(before.value)
            found["flow"].append(after.value)
            found["energies"].append(before.trivial)
        # each of shape (widths, times)
        self._sizes = {name: np.array(values) for name, values in found.items()}
        super().__init__()

    def describe(self):
        sizes = axis("gap ‖f − f̂‖", self.decades("gap", "start", "flow", "energies"), scale="log")

        def lines(along, place, here):
            parts = [(line(place, f"{name}_{along}", color, dashed=color == "bound"), marks(here, name, color, symbol))
                     for name, color, symbol in _CURVES]  # fmt: skip
            return [layer for pair in parts for layer in pair]

        return {
            "title": "Explorer: the gap between network and kernel flow, and its bounds",
            "claim": (
                "Both bounds are true at every width. With a near teacher they fall like 1/\u2060√m, far above the "
                "gap; above what energies alone say they say nothing."
            ),
            "views": [
                view(
                    "Against the time",
                    "Gap, both bounds and what energies alone say, against time at this width; a line at the time t.",
                    axis("gradient-flow time t", [0.09, 22], scale="log"),
                    sizes,
                    rule("energies", "labels", dashed=True, width=1.2),
                    cursor("now", dashed=True, width=1.2),
                    *lines("path", "times", "now"),
                    share=0.5,
                    height=280,
                ),
                view(
                    "Against the width",
                    "The same against the width at this time; a line at the width m.",
                    axis("width m", [14.5, 285], scale="log", ticks=[[m, str(m)] for m in _WIDTHS]),
                    sizes,
                    rule("energies", "labels", dashed=True, width=1.2),
                    cursor("width", dashed=True, width=1.2),
                    *lines("row", "widths", "width"),
                    share=0.5,
                    height=280,
                ),
            ],
            "readout": {
                "corner": "at this m and t",
                "columns": ["size", "over the gap"],
                "rows": [
                    row("gap, measured", "network", "gap", "1", symbol="disc", solid=True),
                    row("bound from the start", "bound", "start", "start_slack", symbol="diamond", dashed=True),
                    row("bound from the flow", "bound", "flow", "flow_slack", symbol="cross", dashed=True),
                    row("energies alone", "labels", "energies", "", dashed=True),
                ],
            },
            "sentence": (
                "With m = {m} units, network and kernel flow are {gap} apart at t = {t}. The bound from the start is "
                "{start_slack} times the gap and {start_says} what energies alone say, {energies}; the one from the "
                "kernel flow is {flow_slack} times the gap and {flow_says} it."
            ),
            "words": {"start_says": ["not below", "below"], "flow_says": ["not below", "below"]},
        }


def finite_width_explorer() -> FiniteWidthExplorer:
    """Return the explorer of the chapter *How wide is wide enough?*: four points on the circle, one label wrong.

    Students are antisymmetric, f(0) = 0, their teachers near: the student itself, trained on the correct labels up to
    t = 2. λ = 0.5.

    Returns
    -------
    FiniteWidthExplorer
        With the traits ``m`` and ``t``, to be set, observed and linked.
    """
    return FiniteWidthExplorer()
