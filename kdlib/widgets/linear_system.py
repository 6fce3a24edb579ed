"""The explorer of the chapter *The linear system*: the rates of M, and the modes whose sum an output is."""

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value, renard
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.spectrum import slow_modes
from kdlib.trajectory import kernel_flow
from kdlib.views import axis, cursor, line, marks, row, rule, view

_WIDTH, _SEED, _STRANGER = 12, 0, 100
_ONE, _OTHERS = 8, (2, 5, 11)  # the output that is followed, and some beside it
_LEAST = 1e-3  # what is left of a mode and below this is not drawn


class LinearSystemExplorer(Explorer):
    """Which modes of the linear system have decayed by time t, and what the rest makes of an output.

    f(t) = f_∞ + Σ_j exp(-μ_j t) A_j: every term only shrinks; their sum may cross zero, and the output its limit.

    Attributes
    ----------
    lam : float
        The strength λ > 0 of the transfer.
    t : float
        The gradient-flow time up to which modes have decayed.
    times : array, shape (41,)
        The gradient-flow times of the curves.
    """

    lam = Value(0.1)
    t = Value(1.0)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", renard(-2, 2)[::2], (0.01, 0.1, 1, 10, 100), least=1e-3, most=1e3),
        Grid("t", "t", "gradient-flow time", renard(-2, 3)[::2], (0.01, 0.1, 1, 10, 100, 1000), least=1e-3, most=1e4),
    )

    def __init__(self):
        self._x, self._y = (datasets.circle().x, datasets.circle().y)
        self._student, other = (TwoLayerNetwork.init(jax.random.key(k), _WIDTH, 2) for k in (_SEED, _STRANGER))
        self._phi = other.features(self._x)
        self.times = np.geomspace(1e-2, 1e3, 41)
        super().__init__()

    def problem(self, lam: float) -> TransferProblem:
        """The student of twelve units on the twelve points, with a teacher drawn on its own."""
        return TransferProblem(self._student, self._x, self._y, self._phi, lam=lam)

    def constants(self):
        return {"time": self.times}

    def curves(self, *, lam: np.ndarray, t: np.ndarray):
        """The fields at pairs of λ and t, two arrays of length N."""
        clock = np.unique(t)
        spectra = {strength: self._spectrum(strength, clock) for strength in np.unique(lam)}
        rows = [
            self._at(*spectra[strength], clock.searchsorted(now), now) for strength, now in zip(lam, t, strict=True)
        ]
        return {name: np.stack([np.asarray(fields[name]) for fields in rows]) for name in rows[0]}

    def _spectrum(self, lam, clock):
        """What λ alone decides, and how far the output is from its limit at each time of the clock."""
        problem = self.problem(lam)
        # two units of weight for each of twelve units: all the modes there are
        modes = slow_modes(problem, 2 * _WIDTH)
        outputs = np.asarray(kernel_flow(problem, np.concatenate([self.times, clock, [np.inf]])).outputs)
        path, now, limit = outputs[: len(self.times), _ONE], outputs[len(self.times) : -1, _ONE], outputs[-1, _ONE]
        start = float(self._student(self._x)[_ONE])
        rates, parts = np.asarray(modes.rates), np.asarray(modes.amplitudes)[:, _ONE]
        steps = np.diff(np.concatenate([[start], path]))
        moving = steps[np.abs(steps) > 1e-6 * np.abs(steps).max()]  # later changes are rounding
        fixed = {
            "rates": rates,
            "rates_up": np.where(parts > 0, rates, np.nan),
            "rates_down": np.where(parts > 0, np.nan, rates),
            "sizes": np.abs(parts),
            "output": path,
            "others": outputs[: len(self.times), _OTHERS].T,
            "limit": limit,
            "start": start - limit,
            "slowest": modes.rates[0],
            "fastest": modes.rates[-1],
            "count": len(modes.rates),
            "turns": np.sum(np.diff(np.sign(moving)) != 0),
            "overshoot": max(0.0, np.max(np.sign(limit - start) * (path - limit))),
        }
        return fixed, parts, now

    def _at(self, fixed, parts, outputs, index, t):
        left, fast = parts * np.exp(-fixed["rates"] * t), fixed["rates"] * t > 1
        return fixed | {
            "now": t,
            "pace": 1 / t,
            "left": np.abs(left),
            "fast": np.sum(fast),
            "fast_left": np.sum(left[fast]),
            "up": np.sum(parts > 0),
            "up_left": np.sum(left[parts > 0]),
            "down": np.sum(parts <= 0),
            "down_left": np.sum(left[parts <= 0]),
            "here": outputs[index],
            "distance": outputs[index] - fixed["limit"],
        }

    def describe(self):
        return {
            "title": "Explorer: the spectrum and the modes",
            "claim": "All rates are real: every mode decays without oscillation. Their sum, an output, may overshoot.",
            "views": [
                view(
                    "Spectrum",
                    "Size of each mode's part in the output, at time 0 and now, against its rate; a line at the rate "
                    "1/t.",
                    axis("rate μ", [1e-3, 1e3], scale="log"),
                    axis("size of the mode's part", [_LEAST, 1.3 * self.decades("sizes")[1]], scale="log"),
                    cursor("pace", dashed=True),
                    marks("rates", "sizes", "faint", "diamond", opacity=0.7),
                    marks("rates_up", "left", "student", "disc"),
                    marks("rates_down", "left", "student", "cross"),
                    share=0.5,
                    height=280,
                ),
                view(
                    "Outputs",
                    "One output against time with its limit, and three others; a line at the time t.",
                    axis("gradient-flow time t", self.times[[0, -1]], scale="log"),
                    axis("output", self.span("output", "others")),
                    cursor("now", dashed=True),
                    rule("limit", "labels", dashed=True, width=1.2),
                    line("time", "others", "student", width=1.2, opacity=0.35),
                    line("time", "output", "student", width=2.4),
                    marks("now", "here", "student", "disc"),
                    share=0.5,
                    height=280,
                ),
            ],
            "readout": {
                "corner": "one output, in modes",
                "columns": ["how many", "together"],
                "rows": [
                    row("at time 0", "faint", "count", "start", symbol="diamond"),
                    row("left, pushing up", "student", "up", "up_left", symbol="disc"),
                    row("left, pushing down", "student", "down", "down_left", symbol="cross"),
                    row("rate above 1/t", "faint", "fast", "fast_left", dashed=True),
                    row("output − limit", "student", "", "distance", solid=True),
                    row("limit", "labels", "", "limit", dashed=True),
                ],
            },
            "sentence": (
                "At λ = {lam} all {count} rates are real, from {slowest} to {fastest}. By t = {t}, {fast} modes have "
                "shrunk to less than 37 % each; together the modes keep the output {distance} from its limit. Its "
                "turning points: {turns}; it passes its limit by {overshoot}."
            ),
            "whole": ["count", "fast", "up", "down", "turns"],
        }


def linear_system_explorer() -> LinearSystemExplorer:
    """Return the explorer of the chapter *The linear system*: twelve units learn twelve points on the circle.

    The teacher is a network drawn on its own: it is far away, and the kernels are frozen all the same.

    Returns
    -------
    LinearSystemExplorer
        With the traits ``lam`` and ``t``, to be set, observed and linked.
    """
    return LinearSystemExplorer()
