"""The explorer of the chapter *Who learns fast*: shares of the modes, the filter of early stopping, when to stop."""

import math
from typing import Any

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.filters import alignment, best_stopping_time, early_stopping_filter, ridge_filter, spectral_fit
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.risk import noise_risk
from kdlib.views import axis, cursor, line, marks, row, segments, view

_TIMES = (*(float(f"{k}e{power}") for power in range(-2, 4) for k in (1, 2, 5)), 1e4)
_LESSON = 5.0  # the time at which the teacher has stopped
_ERRORS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_LEAST = 1e-4  # the smallest share that is drawn


class SpectraExplorer(Explorer):
    """Which modes a student has learnt at time t, and what that costs or saves when the labels are noisy.

    The kernel flow of a wide student on two dozen digits. The teacher is the same flow, stopped at time 5.

    Attributes
    ----------
    time : float
        The time t > 0 at which training stops; any number in a live kernel, a point of the table in the page.
    labels : float
        0 for the correct labels, 1 for the same ones in random order, 2 for the pattern of the slowest mode.
    noise : float
        Standard deviation s of what is added to each label.
    """

    time = Value(1.0)
    labels = Value(0.0)
    noise = Value(1.0)

    parameters = (
        Grid("time", "t", "time of stopping", _TIMES, (0.01, 1, 100, 10000), least=1e-6),
        Grid("labels", "labels", "which labels", (0.0, 1.0, 2.0), (0, 1, 2), ("correct", "shuffled", "hardest")),
        Grid("noise", "s", "label noise", (0.0, 0.25, 0.5, 0.75, 1.0), (0, 0.5, 1)),
    )

    def __init__(self):
        self.data = data = datasets.digits((0, 1), train=24, test=60)
        self.student = student = TwoLayerNetwork.init(jax.random.key(0), 200, 64)
        start = np.asarray(student(data.x))
        modes = alignment(student, data.x, data.y - start)
        hardest = start + np.linalg.norm(data.y) * np.asarray(modes.modes[:, -1])
        self._labels = data.y, np.random.default_rng(0).permutation(data.y), hardest
        self._rates = np.asarray(modes.rates)
        self._around = np.geomspace(self._rates[-1] / 2, 2 * self._rates[0], 60)
        self._known: dict[Any, Any] = {}
        problems = [self.problem(each) for each in range(3)]
        self._shares = [np.asarray(alignment(student, data.x, each.output_gap).shares) for each in problems]
        taught = [spectral_fit(each, lambda rates: early_stopping_filter(rates, _LESSON)) - start for each in problems]
        self._taught = [np.asarray(alignment(student, data.x, each).shares) for each in taught]
        super().__init__()

    def problem(self, labels: float) -> TransferProblem:
        """Return the student without a teacher, with the labels of a number."""
        return TransferProblem(self.student, self.data.x, self._labels[int(labels)], None, lam=0)

    def _errors(self, time, labels, noise):
        """The expected errors on the training images and on others."""
        if time not in self._known:
            problem, x, y = self.problem(0.0), self.data.x_test, self.data.y_test
            on_training = jax.vmap(lambda truth: noise_risk(problem, truth, 1.0, time=time))
            on_others = jax.vmap(lambda truth: noise_risk(problem, truth, 1.0, time=time, at=x, truth_at=y))
            risks = [on(np.stack(self._labels)) for on in (on_training, on_others)]
            parts = [(np.mean(each.bias**2, axis=1), np.mean(each.variance, axis=1)) for each in risks]
            self._known[time] = np.array(parts)  # axes: images, bias or variance, labels
        bias, variance = self._known[time][:, :, int(labels)].T
        return bias + noise**2 * variance

    def _over_time(self, labels, noise):
        """The same at all times and for ever, shape (2, ...)."""
        key = "path", labels, noise
        if key not in self._known:
            self._known[key] = np.stack([self._errors(t, labels, noise) for t in (*_TIMES, math.inf)], axis=1)
        return self._known[key]

    def _filters(self, time):
        """What is learnt of each mode at a time, and the filters of stopping there and of the penalty that compares."""
        key = "filters", time
        if key not in self._known:
            stopped = [np.asarray(early_stopping_filter(rates, time)) for rates in (self._rates, self._around)]
            self._known[key] = *stopped, np.asarray(ridge_filter(self._around, 1 / time))
        return self._known[key]

    def _best(self, labels, noise):
        """The best time on the training images, and the error there."""
        key = "best", labels, noise
        if key not in self._known:
            problem = self.problem(labels)
            best = best_stopping_time(problem, problem.y, noise)
            self._known[key] = float(best.time), float(best.risk)
        return self._known[key]

    def constants(self):
        return {"rates": self._rates, "around": self._around, "clock": _TIMES, "forever": [math.inf]}

    def at(self, *, time: float, labels: float, noise: float):
        """The fields at one time, choice of labels and noise."""
        shares, (learnt, stopped, penalised) = self._shares[int(labels)], self._filters(time)
        left = shares * (1 - learnt) ** 2
        training, others = self._over_time(labels, noise)
        now, best = self._errors(time, labels, noise), self._best(labels, noise)
        return {
            "shares": shares,
            "taught": self._taught[int(labels)],
            "left": left,
            "left_over": [np.sum(left)],
            "learnt": learnt,
            "stopped": stopped,
            "penalised": penalised,
            "now": [time],
            "training": training[:-1],
            "others": others[:-1],
            "training_now": now[:1],
            "others_now": now[1:],
            "training_ever": training[-1:],
            "others_ever": others[-1:],
            "best": best[:1],
            "best_error": best[1:],
        }

    def describe(self):
        rate = axis("rate μ of the mode (1/time)", self._around[[0, -1]], scale="log")
        return {
            "title": "Explorer: modes, early stopping, and noise",
            "claim": (
                "Stopping at t learns the modes whose rates are well above 1/t and leaves the slower ones. "
                "With noise in the labels, the best time beats training for ever."
            ),
            "views": [
                view(
                    "Shares of the modes",
                    "Each mode's share of the labels, of the teacher, and what is left of it at time t.",
                    rate,
                    axis("share of the mode", [_LEAST, 1.5], scale="log"),
                    segments("rates", "left", "shares", "student", width=1.3, opacity=0.6),
                    marks("rates", "taught", "teacher", "diamond"),
                    marks("rates", "shares", "labels", "cross"),
                    marks("rates", "left", "student", "disc"),
                    height=270,
                ),
                view(
                    "The filter",
                    "The share of each mode that is learnt at time t, and by a penalty of 1/t.",
                    rate,
                    axis("share learnt", [0.0, 1.05]),
                    line("around", "penalised", "bound", dashed=True),
                    line("around", "stopped", "student", width=2.2),
                    marks("rates", "learnt", "student", "disc"),
                    share=0.5,
                ),
                view(
                    "When to stop",
                    "The expected error on the training images and on other images against the time of stopping.",
                    axis("time of stopping t", [_TIMES[0], _TIMES[-1]], scale="log", infinity=True),
                    axis("mean squared error", [0.03, 10], scale="log", ticks=[[v, f"{v:g}"] for v in _ERRORS]),
                    cursor("now"),
                    cursor("best", "bound", dashed=True),
                    line("clock", "others", "student", dashed=True),
                    line("clock", "training", "student", width=2.2),
                    marks("now", "training_now", "student", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "expected error",
                "columns": ["at t", "for ever"],
                "rows": [
                    row("training images", "student", "training_now", "training_ever", symbol="disc", solid=True),
                    row("other images", "student", "others_now", "others_ever", dashed=True),
                    row("penalty 1/t; best t", "bound", "", "", dashed=True),
                    row("labels' shares", "labels", "", "", symbol="cross"),
                    row("teacher's shares", "teacher", "", "", symbol="diamond"),
                    row("t", "faint", "", "", solid=True),
                ],
            },
            "sentence": (
                "Stopped at t = {time}, the student has the share {left_over} of the {labels} labels still to learn. "
                "With noise s = {noise} its error is {training_now} on the training images and {others_now} on "
                "others. The best time on the training images is {best}, with the error {best_error}; for ever it is "
                "{training_ever}."
            ),
        }


def spectra_explorer() -> SpectraExplorer:
    """Return the explorer of the chapter *Who learns fast*.

    It shows that early stopping is a filter of the kernel's modes, and that with noisy labels it pays to stop.

    Returns
    -------
    SpectraExplorer
        With the traits ``time``, ``labels`` and ``noise``, to be set, observed and linked.

    Examples
    --------
    >>> import kdlib as kd
    >>> explorer = kd.widgets.spectra_explorer()
    >>> explorer.time = 10000.0
    >>> bool(explorer.value("best_error")[0] < explorer.value("training_now")[0] / 3)
    True
    """
    return SpectraExplorer()
