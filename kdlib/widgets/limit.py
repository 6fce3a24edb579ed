"""The explorer of the front page and of the chapter *Limit*: the student between its labels and its teacher."""

import math

import jax
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Smooth, Value, renard
from kdlib.limit import fixed_point
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow
from kdlib.views import axis, line, marks, row, rule, segments, view

_MOST_NOISE = 1.0  # in units of the labels, which are ±1
_FEW = 512  # weights: so few that the slowest modes cost nothing
_SHOWN = 12  # samples drawn one by one; more cannot be told apart


class LimitExplorer(Explorer):
    """Where the student ends, and its way there, as λ and the noise of its labels move.

    In the kernel regime outputs are affine, and mean square errors quadratic, in the labels: noise is the smooth
    parameter. In λ they are rational, and change in kind at 0: λ snaps to a grid.

    Parameters
    ----------
    problem : TransferProblem
        Student, inputs, noise-free labels, the teacher's features, and the λ to begin with.
    seed : int
        Draws the direction of the noise, Gaussian and then scaled to a mean square of 1.

    Attributes
    ----------
    lam : float
        The strength λ ≥ 0 of the transfer; any number in a live kernel, a point of the table in the page.
    times : array, shape (31,)
        The gradient-flow times of the trajectories; the limit stands behind them.
    noise : float
        Root mean square of what is added to the labels, in units of the labels, from 0 to 1.
    """

    lam = Value(1.0)
    noise = Value(0.5)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", (0.0, *renard(-2, 2)), (0, 0.1, 1, 10, 100)),
        Smooth("noise", "s", "label noise", _MOST_NOISE, 0.05, (0, 0.5, 1)),
    )

    def __init__(self, problem: TransferProblem, *, seed: int = 0):
        if not isinstance(problem, TransferProblem):
            raise ValueError(f"problem: expected a TransferProblem; got {type(problem).__name__}")
        if problem.phi is None:
            raise ValueError("problem: expected one with a teacher, so that λ can move; got phi=None")
        self._problem = problem
        noise = np.random.default_rng(seed).standard_normal(len(problem.y))
        self._direction = noise / np.sqrt(np.mean(noise**2))
        clean, teacher = np.asarray(problem.y), np.asarray(problem.student.output_weights @ problem.phi)
        self._clean, self._teacher = clean, teacher
        # A Krylov run to time t takes about √(t·λ_max(M)) steps, but never many more than there are weights.
        self.times = np.logspace(-2, 4 if problem.student.weights.size <= _FEW else 2, 31)
        shown = np.linspace(0, len(clean) - 1, min(len(clean), _SHOWN)).round().astype(int)
        self._around = None
        if problem.x.shape[1] == 2 and np.allclose(np.linalg.norm(problem.x, axis=1), 1.0):
            self._places = np.mod(np.arctan2(problem.x[:, 1], problem.x[:, 0]), 2 * np.pi)[shown]
            self._angles = np.linspace(0.0, 2 * np.pi, 121)
            self._around = np.stack([np.cos(self._angles), np.sin(self._angles)], axis=1)
        else:
            shown = shown[np.lexsort((teacher[shown], clean[shown]))]
            self._places = np.arange(1.0, len(shown) + 1)
        self._shown = shown
        super().__init__(lam=float(problem.lam))

    def constants(self):
        clean, teacher, direction, one = self._clean, self._teacher, self._direction, self._shown

        def mean_square(at_zero, slope):
            return _mean_square(np.stack([at_zero, slope])[None])[0]

        fields = {
            "place": [self._places],
            "time": [self.times],
            "forever": [[math.inf]],
            "labels": [clean[one], direction[one]],
            "teacher": [teacher[one]],
            "labels_truth": mean_square(np.zeros_like(clean), direction),
            "teacher_error": mean_square(clean - teacher, direction),
            "teacher_truth": [np.mean((clean - teacher) ** 2)],
        }
        return fields if self._around is None else fields | {"angle": [self._angles]}

    def curves(self, *, lam: np.ndarray):
        """The fields at each λ of an array, shape (N,)."""
        given, clean, direction = self._problem, self._clean, self._direction
        labels = np.stack([clean, clean + direction])

        def at(strength, y):
            return TransferProblem(given.student, given.x, y, given.phi, lam=strength)

        def ends(strength, y):
            end = fixed_point(at(strength, y))
            return end.outputs, end.displacement

        def function(displacement):  # the frozen-kernel student is linear in its weights
            student = given.student
            value, change = jax.jvp(
                lambda w: student.with_weights(w)(np.asarray(self._around)), (student.weights,), (displacement,)
            )
            return value + change

        # Mapped together, all problems share their projectors.
        outputs, displacements = jax.jit(jax.vmap(jax.vmap(ends, (None, 0)), (0, None)))(lam, labels)
        flows = np.array([[kernel_flow(at(strength, y), self.times).outputs for y in labels] for strength in lam])
        flow, end = _affine(flows), _affine(np.asarray(outputs))
        errors = _mean_square(np.stack([clean, direction])[:, None] - flow)
        fields = {
            "outputs": flow[..., self._shown].swapaxes(2, 3),
            "limit": end[..., self._shown],
            "errors": errors,
            "error": _mean_square(np.stack([clean, direction]) - end),
            "truth": _mean_square(np.stack([clean, np.zeros_like(clean)]) - end),
        }
        if self._around is not None:
            fields["function"] = _affine(np.asarray(jax.vmap(jax.vmap(function))(displacements)))
        return fields

    def describe(self):
        output = self.span("outputs", "limit", "labels", "teacher")
        time = axis("gradient-flow time t", self.times[[0, -1]], scale="log", infinity=True)
        error = [1e-3, 1.2 * self.decades("errors", "teacher_error")[1]]
        if self._around is not None:
            ticks = [[k * math.pi / 2, text] for k, text in enumerate(("0", "π/2", "π", "3π/2", "2π"))]
            place = axis("angle on the circle", [0, 2 * math.pi], ticks=ticks)
        else:
            count = len(self._shown)
            place = axis("sample", [0.5, count + 0.5], ticks=[[k, str(k)] for k in range(1, count + 1)])
        return {
            "title": "Explorer: the student between its labels and its teacher",
            "claim": (
                "As a whole the student ends between its labels and what it can carry of its teacher; λ decides where."
            ),
            "views": [
                view(
                    "Where it ends",
                    "Labels, teacher and the student's limit on the samples.",
                    place,
                    axis("output at t = ∞", output),
                    segments("place", "labels", "teacher", "faint"),
                    *([line("angle", "function", "student")] if self._around is not None else []),
                    marks("place", "labels", "labels", "cross"),
                    marks("place", "teacher", "teacher", "diamond"),
                    marks("place", "limit", "student", "disc"),
                    height=270,
                ),
                view(
                    "How it gets there",
                    "The student's outputs on the samples against time, up to their limits.",
                    time,
                    axis("output", output),
                    line("time", "outputs", "student", width=1.3, opacity=0.8),
                    marks("forever", "limit", "student", "disc"),
                    share=0.5,
                ),
                view(
                    "Training error",
                    "The student's training error against time, beside its teacher's.",
                    time,
                    axis("training error, mean square", error, scale="log"),
                    rule("teacher_error", "teacher", dashed=True),
                    line("time", "errors", "student", width=2.2),
                    marks("forever", "error", "student", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "mean square distance to",
                "columns": ["its labels", "noise-free labels"],
                "rows": [
                    row("labels", "labels", "0", "labels_truth", symbol="cross"),
                    row("teacher", "teacher", "teacher_error", "teacher_truth", symbol="diamond", dashed=True),
                    row("student at t = ∞", "student", "error", "truth", symbol="disc", solid=True),
                ],
            },
            "sentence": (
                "At λ = {lam} and label noise s = {noise} the student ends with training error {error}, "
                "its teacher with {teacher_error}. Against the noise-free labels the student's error is {truth}, "
                "the teacher's {teacher_truth}."
            ),
        }


def _affine(values):
    """From values without noise and with one unit of it, along axis 1: the value without, and what a unit adds."""
    return np.stack([values[:, 0], values[:, 1] - values[:, 0]], axis=1)


def _mean_square(residuals):
    """The mean square of r₀ + s·r₁ over the last axis, as a polynomial in s; r₀ and r₁ lie along axis 1."""
    r0, r1 = residuals[:, 0], residuals[:, 1]
    return np.stack([np.mean(r0**2, -1), 2 * np.mean(r0 * r1, -1), np.mean(r1**2, -1)], axis=1)


def limit_explorer(problem: TransferProblem | None = None, *, seed: int = 0) -> LimitExplorer:
    """Return the explorer of the chapter *Limit*, on the circle's dozen points or on the reader's own problem.

    Parameters
    ----------
    problem : TransferProblem, optional
        Its labels count as noise-free, its λ is where the explorer begins. By default a wide student on
        `kdlib.datasets.circle`, with a teacher trained for a short time from the student's own start.
    seed : int
        Draws the noise.

    Returns
    -------
    LimitExplorer
        With the traits ``lam`` and ``noise``, to be set, observed and linked.

    Raises
    ------
    ValueError
        If ``problem`` is not a TransferProblem, or has no teacher.
    """
    return LimitExplorer(circle_problem() if problem is None else problem, seed=seed)


def circle_problem() -> TransferProblem:
    """Return the problem that `limit_explorer` explores by default: a dozen points, a teacher that stopped early."""
    data = datasets.circle()
    student = TwoLayerNetwork.init(jax.random.key(0), 128, 2)
    lesson = TransferProblem(student, data.x, data.y, None, lam=0.0)
    teacher = gradient_flow(lesson, [3.0]).network
    return TransferProblem(student, data.x, data.y, teacher.features(data.x), lam=0.1)
