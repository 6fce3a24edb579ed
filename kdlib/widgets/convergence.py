"""The explorer of the chapter *How fast*: the time and the steps to a tolerance, with a teacher and without."""

from typing import Any

import jax
import numpy as np
from scipy.optimize import brentq

from kdlib import datasets
from kdlib.bounds.rates import kernel_eigenvalues, output_rates
from kdlib.explorer import Explorer, Grid, Value, renard
from kdlib.filters import alignment
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.spectrum import slow_modes
from kdlib.teachers import trained_teacher
from kdlib.views import axis, cursor, line, marks, row, rule, view

_STRENGTHS = renard(-2, 2)[::2]
_TOLERANCES = (0.001, 0.003, 0.01, 0.03, 0.1)
_STOPS = (5.0, 200.0)  # the training times of the poor and of the good teacher


class ConvergenceExplorer(Explorer):
    """How long the outputs take to come within a tolerance of their limit, against λ.

    The kernel flow of a dozen units on sixteen digits, whose modes are all computed. The teachers are the student
    itself, trained without a teacher, in the kernel regime, for a short and for a long time.

    Attributes
    ----------
    lam : float
        The strength λ ≥ 0 of the transfer; any number in a live kernel, a point of the table in the page.
    tolerance : float
        The tolerance δ, as a share of max(‖y‖, ‖f(0)‖): 0.001, 0.003, 0.01, 0.03 or 0.1.
    teacher : float
        0 for the poor teacher, 1 for the good one.
    times : array, shape (64,)
        The gradient-flow times of the curves.
    """

    lam = Value(1.0)
    tolerance = Value(0.1)
    teacher = Value(1.0)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", _STRENGTHS, (0.01, 0.1, 1, 10, 100)),
        Grid("tolerance", "δ", "tolerance", _TOLERANCES, _TOLERANCES, ("0.1 %", "0.3 %", "1 %", "3 %", "10 %")),
        Grid("teacher", "teacher", "quality of the teacher", (0.0, 1.0), (0, 1), ("poor", "good")),
    )

    def __init__(self):
        data = datasets.digits((0, 1), train=16)
        self.student = student = TwoLayerNetwork.init(jax.random.key(1), 12, 64)
        self._x, self._y = data.x, data.y
        self.times = np.geomspace(1e-2, 3e4, 64)
        start, slopes = np.asarray(student.features(data.x)), np.asarray(student.derivative(data.x))
        moved = [trained_teacher(student, data.x, data.y, t).weights - student.weights for t in _STOPS]
        self._phi = [start + slopes * np.asarray(way @ data.x.T) for way in moved]
        self._start, *self._taught = (np.asarray(student.output_weights @ phi) for phi in (start, *self._phi))
        alone = self.problem(0.0, 1.0)
        self._scale, self._alone = float(alone.scale), alignment(student, data.x, alone.output_gap)
        self._squares, self._kappa = kernel_eigenvalues(alone), output_rates(alone)
        self._known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        super().__init__()

    def problem(self, lam: float, teacher: float) -> TransferProblem:
        """Return what the explorer explores: the student at λ with its poor (0) or its good (1) teacher."""
        return TransferProblem(self.student, self._x, self._y, self._phi[int(teacher)], lam=lam)

    def _modes(self, lam, teacher):
        """All rates, ascending, with their amplitudes in the outputs."""
        if (lam, teacher) not in self._known:
            if lam == 0:  # the modes of the tangent kernel
                rates, vectors = self._alone.rates[::-1], self._alone.modes.T[::-1]
                amplitudes = -vectors * (vectors @ (self._y - self._start))[:, None]
            else:
                found = slow_modes(self.problem(lam, teacher), len(self._squares))
                rates, amplitudes = found.rates, found.amplitudes
            self._known[lam, teacher] = np.asarray(rates), np.asarray(amplitudes)
        return self._known[lam, teacher]

    def _distance(self, times, lam, teacher):
        """‖f(t) - f_∞‖ as a share of max(‖y‖, ‖f(0)‖)."""
        rates, amplitudes = self._modes(lam, teacher)
        return np.linalg.norm(np.exp(-np.outer(times, rates)) @ amplitudes, axis=1) / self._scale

    def _reached(self, lam, teacher, tolerance):
        """The last time outside of the tolerance, and the number of steps of size 1/λ_max(M) until none is outside."""
        rates, amplitudes = self._modes(lam, teacher)
        factors, late = 1 - rates / rates[-1], 60 / rates[0]

        def beyond(steps):
            return np.linalg.norm(factors ** np.reshape(steps, (-1, 1)) @ amplitudes, axis=1) - tolerance * self._scale

        clock = np.geomspace(1e-3 / rates[-1], late, 200)
        outside = np.flatnonzero(self._distance(clock, lam, teacher) > tolerance)[-1]
        time = brentq(lambda t: self._distance([t], lam, teacher)[0] - tolerance, *clock[outside : outside + 2])
        counts = np.unique(np.append(0, np.geomspace(1, late * rates[-1], 200)).astype(int))
        low, high = counts[np.flatnonzero(beyond(counts) > 0)[-1] :][:2]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if beyond(middle)[0] > 0 else (low, middle)
        return time, float(high)

    def constants(self):
        return {
            "clock": self.times,
            "alone": self._distance(self.times, 0.0, 1.0),
            "strengths": _STRENGTHS,
            "threshold": [self._kappa[0] / self._squares[len(self._kappa)]],
        }

    def at(self, *, lam: float, tolerance: float, teacher: float):
        """The fields at one λ, tolerance and teacher."""
        rates, amplitudes = self._modes(lam, teacher)
        reached = [self._measured(strength, teacher, tolerance) for strength in _STRENGTHS]
        (time, steps), (alone, alone_steps) = (self._measured(at, teacher, tolerance) for at in (lam, 0.0))
        end = self._start - np.sum(amplitudes, axis=0)
        return {
            "distance": self._distance(self.times, lam, teacher),
            "level": [tolerance],
            "place": [lam],
            "time": [time],
            "steps": [steps],
            "alone_time": [alone],
            "alone_steps": [alone_steps],
            "verdict": [1 + np.sign(time - alone)],
            "slowest": rates[:1] / self._kappa[0],
            "end_error": [np.mean((end - self._y) ** 2)],
            "teacher_error": [np.mean((self._taught[int(teacher)] - self._y) ** 2)],
            "time_at": [each[0] for each in reached],
            "steps_at": [each[1] for each in reached],
        }

    def _measured(self, *point):
        if point not in self._known:
            self._known[point] = self._reached(*point)
        return self._known[point]

    def describe(self):
        strength = axis("strength of the transfer λ", [0.008, 125], scale="log")
        return {
            "title": "Explorer: the time to a tolerance, with a teacher and without",
            "claim": (
                "The good teacher saves time at coarse tolerances. At fine ones a weak transfer costs time: "
                "the modes that it adds are slow."
            ),
            "whole": ["steps", "alone_steps"],
            "words": {"verdict": ["earlier than", "as early as", "later than"]},
            "views": [
                view(
                    "Distance from the limit",
                    "The distance of the outputs from their limit against time, with and without a teacher.",
                    axis("gradient-flow time t", self.times[[0, -1]], scale="log"),
                    axis("‖f(t) − f∞‖ / ‖y‖", [3e-4, 2.5], scale="log"),
                    rule("level", "faint"),
                    line("clock", "alone", "labels", dashed=True),
                    line("clock", "distance", "student", width=2.2),
                    marks("alone_time", "level", "labels", "cross"),
                    marks("time", "level", "student", "disc"),
                    height=270,
                ),
                view(
                    "Time to the tolerance",
                    "The time to the tolerance against the strength of the transfer.",
                    strength,
                    axis("time to δ", self.decades("time_at"), scale="log"),
                    cursor("place"),
                    cursor("threshold", "bound", dashed=True),
                    rule("alone_time", "labels", dashed=True),
                    line("strengths", "time_at", "student", width=2.2),
                    marks("place", "time", "student", "disc"),
                    share=0.5,
                ),
                view(
                    "Steps to the tolerance",
                    "The steps of gradient descent to the tolerance against the strength of the transfer.",
                    strength,
                    axis("steps to δ", self.decades("steps_at"), scale="log"),
                    cursor("place"),
                    cursor("threshold", "bound", dashed=True),
                    rule("alone_steps", "labels", dashed=True),
                    line("strengths", "steps_at", "student", width=2.2),
                    marks("place", "steps", "student", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "the student",
                "columns": ["time to δ", "steps to δ", "slowest rate/κ"],
                "rows": [
                    row("taught", "student", "time", "steps", "slowest", symbol="disc", solid=True),
                    row("alone", "labels", "alone_time", "alone_steps", "1", symbol="cross", dashed=True),
                    row("λ and δ", "faint", "", "", "", solid=True),
                    row("λ = κ/sᵣ₊₁", "bound", "", "", "", dashed=True),
                ],
            },
            "sentence": (
                "At λ = {lam} with the {teacher} teacher the outputs are within {tolerance} of their limit from "
                "t = {time} on, {verdict} without it, after {steps} steps of size 1/λₘₐₓ. The limit has the training "
                "error {end_error}, the teacher {teacher_error}. For 0 < λ < κ/sᵣ₊₁ = "
                "{threshold} the slowest rate is worse than without a teacher."
            ),
        }


def convergence_explorer() -> ConvergenceExplorer:
    """Return the explorer of the chapter *How fast*.

    It shows that a good teacher saves time at coarse tolerances, and that a weak one costs time at fine tolerances.

    Returns
    -------
    ConvergenceExplorer
        With the traits ``lam``, ``tolerance`` and ``teacher``, to be set, observed and linked.

    Examples
    --------
    >>> import kdlib as kd
    >>> explorer = kd.widgets.convergence_explorer()
    >>> explorer.lam, explorer.tolerance = 0.1, 0.001
    >>> "later than without it" in explorer.sentence
    True
    """
    return ConvergenceExplorer()
