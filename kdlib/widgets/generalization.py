"""The explorer of the chapter *Generalisation*: how far a student goes, how well it does, and what the bound says."""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.bounds.generalization import _error_and_bound
from kdlib.explorer import Explorer, Grid, Value
from kdlib.limit import fixed_point
from kdlib.linear_system import Readout
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_descent
from kdlib.views import axis, line, marks, row, rule, view

_SAMPLES, _WIDTH = 360, 20
_STRENGTHS = (*(float(f"{k}e{power}") for power in range(-3, 3) for k in (1, 3)), 1000.0)
_SHARES = (0.0, 0.05, 0.1, 0.15, 0.2)
_TEACHERS = ("good", "poor", "misled")
_DELTA, _MARGIN = 0.05, 1.0


class GeneralizationExplorer(Explorer):
    """Length of the way, bound and test error of a student at its limit.

    Attributes
    ----------
    lam : float
        The strength λ > 0 of the transfer.
    flipped : float
        The probability with which each label, in the sample as in the test set, is flipped; at most one half.
    teacher : float
        0 for the good teacher, 1 for the poor and 2 for the misled one.
    """

    lam = Value(10.0)
    flipped = Value(0.1)
    teacher = Value(0.0)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", _STRENGTHS, (0.001, 0.01, 0.1, 1, 10, 100, 1000), least=1e-6),
        Grid("flipped", "p", "share of flipped labels", _SHARES, _SHARES, most=0.5),
        Grid("teacher", "teacher", "what the teacher knows", (0.0, 1.0, 2.0), (0.0, 1.0, 2.0), names=_TEACHERS),
    )

    def __init__(self):
        data = datasets.digits(((0, 6), (1, 7)), train=_SAMPLES)
        student = TwoLayerNetwork.init(jax.random.key(0), _WIDTH, 64)
        self.data, self.student = data, student
        misled = datasets.flip(data.y, round(0.4 * _SAMPLES), seed=1)
        # An image that is black all over moves no weight: all three lessons have one shape.
        few = (np.arange(_SAMPLES) < 10).astype(float)
        lessons = ((data.x, data.y, 20), (few[:, None] * data.x, few * data.y, 200), (data.x, misled, 20))
        trained = [
            gradient_descent(TransferProblem(student, x, y, None, lam=0), 0.01, [steps]).network
            for x, y, steps in lessons
        ]
        self.ways = np.stack([network.weights - student.weights for network in trained])
        x_test, self._y_test = np.asarray(data.x_test), np.asarray(data.y_test)
        self._draws = np.random.default_rng(0).random(_SAMPLES + len(x_test))
        images = np.concatenate([data.x, x_test])
        self._moved = jax.jit(jax.vmap(Readout.of(student, images)))
        self._start = np.asarray(student(images))
        super().__init__()

    def labels(self, flipped: float) -> tuple[np.ndarray, np.ndarray]:
        """The labels of the sample and of the test set; what a small share flips, a larger one flips too."""
        signs = np.where(self._draws < flipped, -1.0, 1.0)
        return signs[:_SAMPLES] * self.data.y, signs[_SAMPLES:] * self._y_test

    def told(self, which: int) -> jax.Array:
        """A teacher's features in the kernel regime, so that the student can carry them."""
        x, student = self.data.x, self.student
        return student.features(x) + student.derivative(x) * (self.ways[which] @ x.T)

    def _ends(self, labels, features, lam):
        """Displacements at the limit, (R, m, d); λ stays out of the map, so that each unit is decomposed once."""

        def end(y, phi):
            return fixed_point(TransferProblem(self.student, self.data.x, y, phi, lam=lam)).displacement

        return np.asarray(jax.vmap(end)(labels, features))

    def constants(self):
        return {"strengths": _STRENGTHS, "trivial": [1.0]}

    def curves(self, *, lam: np.ndarray, flipped: np.ndarray, teacher: np.ndarray):
        """The fields at many points, arrays of shape (N,): all pairs of shares and teachers at every λ."""
        strengths = np.union1d(_STRENGTHS, lam)
        (shares, s), (which, t) = np.unique(flipped, return_inverse=True), np.unique(teacher, return_inverse=True)
        k, curve = np.searchsorted(strengths, lam), np.searchsorted(strengths, _STRENGTHS)
        labels = np.stack([self.labels(share)[0] for share in shares])
        features = jnp.stack([self.told(int(index)) for index in which])
        pairs = np.repeat(labels, len(which), axis=0), jnp.tile(features, (len(shares), 1, 1))
        ends = np.stack([self._ends(*pairs, strength) for strength in strengths])
        ends = ends.reshape(len(strengths), len(shares), len(which), *ends.shape[2:])
        alone = self._ends(labels, jnp.broadcast_to(features[0], (len(shares), *features[0].shape)), 0.0)
        judged = [
            self._judged(np.concatenate([*ends[:, i], alone[i : i + 1], self.ways[which.astype(int)]]), share)
            for i, share in enumerate(shares)
        ]
        count, fields = len(strengths) * len(which), {}
        for name, values in zip(("length", "bound", "error", "clean"), np.stack(judged, axis=1), strict=True):
            limits = values[:, :count].reshape(len(shares), len(strengths), len(which)).swapaxes(1, 2)
            fields |= {name: limits[s, t, k], f"{name}s": limits[s, t][:, curve], f"alone_{name}": values[s, count]}
            fields[f"teacher_{name}"] = values[s, count + 1 + t]
        fields["radius"] = np.maximum(1, np.ceil(fields["length"]))
        return fields | {"strength": lam, "informative": fields["bound"] < 1}

    def _judged(self, ways, flipped):
        """Length, bound, test error, and error on the correct test labels, for each of R displacements."""
        y, y_test = self.labels(flipped)
        outputs = self._start[None, :] + np.asarray(self._moved(ways))
        lengths = np.linalg.norm(ways, axis=(1, 2))
        movement = lengths / np.sqrt(_WIDTH)
        bounds, errors = _error_and_bound(
            self.student, jnp.asarray(self.data.x), jnp.asarray(y), jnp.asarray(y_test), jnp.asarray(outputs),
            jnp.asarray(movement), jnp.asarray(_DELTA), jnp.asarray(_MARGIN),
        )  # fmt: skip
        clean = np.mean(self._y_test * outputs[:, _SAMPLES:] <= 0, axis=1)
        return np.stack([lengths, bounds, errors, clean])

    def describe(self):
        strength = axis("strength of the transfer λ", [_STRENGTHS[0], _STRENGTHS[-1]], scale="log")
        return {
            "title": "Explorer: how far the student goes, and how well it does",
            "claim": (
                "With probability 95 % over the sample the bound holds for all students of one start at once. Besides "
                "the training loss it sees the length of a student's way, and not its direction."
            ),
            "views": [
                view(
                    "Test error",
                    "The student's test error against λ, beside that of its teacher and of a student without one.",
                    strength,
                    axis("test error (share of images)", [0, 0.5]),
                    rule("alone_error", "labels"),
                    rule("teacher_error", "teacher"),
                    line("strengths", "errors", "student", width=2.2),
                    marks("strength", "error", "student", "disc"),
                ),
                view(
                    "Length of the way",
                    "The length of the student's way against λ, beside its teacher's and that without a teacher.",
                    strength,
                    axis("length of the way ‖v‖", self.decades("lengths", "teacher_length"), scale="log"),
                    rule("alone_length", "labels"),
                    rule("teacher_length", "teacher"),
                    line("strengths", "lengths", "student", width=2.2),
                    marks("strength", "length", "student", "disc"),
                    share=0.5,
                ),
                view(
                    "Bound",
                    "The bound on the test error against λ; above the level 1 it says nothing.",
                    strength,
                    axis("bound on the test error", self.decades("bounds"), scale="log"),
                    rule("trivial", "faint"),
                    line("strengths", "bounds", "bound", dashed=True, width=2.2),
                    marks("strength", "bound", "bound", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "way and error of",
                "columns": ["length", "test error"],
                "rows": [
                    row("student", "student", "length", "error", symbol="disc", solid=True),
                    row("bound for it", "bound", "radius", "bound", symbol="disc", dashed=True),
                    row("trivial bound", "faint", "–", "trivial", solid=True),
                    row("teacher", "teacher", "teacher_length", "teacher_error", solid=True),
                    row("no teacher, λ = 0", "labels", "alone_length", "alone_error", solid=True),
                ],
            },
            "whole": ["radius", "trivial"],
            "words": {"informative": ["nothing", "something"]},
            "sentence": (
                "With the {teacher} teacher at λ = {lam} and a share p = {flipped} of all labels flipped, the student "
                "goes a way of length {length}. Its test error is {error}, or {clean} if the correct labels count. The "
                "bound is {bound}: it says {informative}. Without a teacher: length {alone_length}, test error "
                "{alone_error}, bound {alone_bound}."
            ),
        }


def generalization_explorer() -> GeneralizationExplorer:
    """Return the explorer of the chapter *Generalisation*: digits 0 and 6 against 1 and 7, and three teachers.

    All start where the student starts. The good one was trained for a short time on the sample with its correct
    labels, the poor one on ten of its images, the misled one on the sample with two fifths of its labels flipped.

    Returns
    -------
    GeneralizationExplorer
        With the traits ``lam``, ``flipped`` and ``teacher``, to be set, observed and linked.
    """
    return GeneralizationExplorer()
