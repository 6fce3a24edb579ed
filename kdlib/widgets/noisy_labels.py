"""The explorer of the chapter *Noisy labels*: labels and teacher both err, and the student between them errs less."""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.network import TwoLayerNetwork
from kdlib.posterior import gaussian_posterior
from kdlib.problem import TransferProblem
from kdlib.risk import inverse_variance_strength, noise_risk
from kdlib.views import axis, cursor, line, marks, row, rule, segments, view

_SIZES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
_STRENGTHS = (*(float(f"{k}e{power}") for power in (-2, -1, 0, 1) for k in (1, 2, 3, 5)), 100.0)
_SHOWN = 10  # images whose errors are drawn one by one
_LEAST = 1e-6  # s = 0 or e = 0 leaves nothing to weigh, and λ = 0 no teacher
_TIE = 1e-9  # relative: on the border of two regions rounding decides nothing


class NoisyLabelsExplorer(Explorer):
    """What a student errs on average, between labels with noise s and a teacher with error e.

    Attributes
    ----------
    noise, error : float
        Standard deviation s of the labels' noise, and root mean square e of the teacher's error, in label units.
    lam : float
        The strength λ > 0 of the transfer.
    """

    noise = Value(0.4)
    error = Value(0.3)
    lam = Value(1.0)

    parameters = (
        Grid("noise", "s", "noise of the labels", _SIZES, (0.1, 0.2, 0.3, 0.4, 0.6), least=_LEAST, most=10.0),
        Grid("error", "e", "error of the teacher", _SIZES, (0.1, 0.2, 0.3, 0.4, 0.6), least=_LEAST, most=10.0),
        Grid("lam", "λ", "strength of the transfer", _STRENGTHS, (0.01, 0.1, 1, 10, 100), least=_LEAST, most=1e6),
    )

    def __init__(self):
        data = datasets.digits((0, 1), train=40)
        self._student, self._x = TwoLayerNetwork.init(jax.random.key(0), 40, 64), data.x
        self.truth = data.y
        way, self.draw = np.random.default_rng(1).standard_normal((2, 40))
        self._way = way / np.sqrt(np.mean(way**2))
        self._axis = np.logspace(-2, 2, 41)
        everywhere = self._judged
        for axes in ((None, None, 0), (None, 0, None), (0, None, None)):
            everywhere = jax.vmap(everywhere, axes)
        self._everywhere = jax.jit(everywhere)
        super().__init__()

    def problem(self, error: float, lam: float, labels: np.ndarray) -> TransferProblem:
        """The students' problem: a teacher that is wrong by ``error``, of which each unit carries its share."""
        told = self.truth + error * self._way - self._student(self._x)
        phi = self._student.features(self._x) + jnp.outer(self._student.output_weights, told)
        return TransferProblem(self._student, self._x, labels, phi, lam=lam)

    def _judged(self, noise, error, lam):
        """The risk, its two parts, and the errors on all images of one student, trained for ever on one draw."""
        given = self.problem(error, lam, self.truth + noise * self.draw)
        risk = noise_risk(given, self.truth, noise)
        trained = gaussian_posterior(given, noise=noise).mean
        return risk.total, (risk.bias**2).mean(), risk.variance.mean(), trained - self.truth

    def constants(self):
        return {"axis": self._axis, "image": np.arange(1.0, _SHOWN + 1), "zero": np.zeros(_SHOWN)}

    def curves(self, *, noise: np.ndarray, error: np.ndarray, lam: np.ndarray):
        """The fields at many points, arrays of shape (N,): what few values make up is computed once for each."""
        best, at_best = np.unique(
            jax.vmap(inverse_variance_strength)(jnp.asarray(noise), jnp.asarray(error)), return_inverse=True
        )
        (sizes, i), (errors, j), (strengths, k) = (np.unique(z, return_inverse=True) for z in (noise, error, lam))
        everywhere = self._everywhere(sizes, errors, np.concatenate([strengths, best, self._axis]))
        total, bias, variance, own = map(np.asarray, everywhere)
        curve, here = slice(-len(self._axis), None), total[i, j, k]
        own = own[i, j, k]
        wins = [here < rival * (1 - _TIE) for rival in (error**2, noise**2)]
        return {
            "risk": here,
            "risks": total[i, j, curve],
            "biases": bias[i, j, curve],
            "variances": variance[i, j, curve],
            "bias": bias[i, j, k],
            "variance": variance[i, j, k],
            "strength": lam,
            "labels": noise**2,
            "teacher": error**2,
            "best": best[at_best],
            "least": total[i, j, len(strengths) + at_best],
            "one_draw": np.mean(own**2, axis=1),
            "label_errors": noise[:, None] * self.draw[:_SHOWN],
            "teacher_errors": error[:, None] * self._way[:_SHOWN],
            "student_errors": own[:, :_SHOWN],
            "verdict": wins[0] + 2 * wins[1],
        }

    def describe(self):
        strength = axis("strength of the transfer λ", [0.01, 100], scale="log")
        levels = [[level, f"{level:g}"] for level in (0.01, 0.03, 0.1, 0.3)]
        squared = axis("expected squared error", [0.004, 0.5], scale="log", ticks=levels)
        images = [[k, str(k)] for k in range(1, _SHOWN + 1)]
        return {
            "title": "Explorer: the student that beats its teacher",
            "claim": (
                "Errors that know nothing of each other partly cancel: with invertible kernels the student beats, on "
                "average, its labels or its teacher at every λ > 0, and both at λ* = s²/e²."
            ),
            "views": [
                view(
                    "Risk",
                    "The student's expected squared error against λ, between the levels of its labels and its teacher.",
                    strength,
                    squared,
                    cursor("best", "bound", dashed=True, width=1.2),
                    rule("least", "bound", dashed=True, width=1.2),
                    rule("labels", "labels"),
                    rule("teacher", "teacher"),
                    line("axis", "risks", "student", width=2.4),
                    marks("strength", "risk", "student", "disc"),
                    share=0.5,
                    height=280,
                ),
                view(
                    "What it is made of",
                    "The two parts of the risk against λ: the noise that the student takes over, and the teacher's "
                    "error that it takes over.",
                    strength,
                    squared,
                    line("axis", "risks", "student", width=2.4, opacity=0.35),
                    line("axis", "variances", "labels", dashed=True),
                    line("axis", "biases", "teacher", dashed=True),
                    marks("strength", "variance", "labels", "cross"),
                    marks("strength", "bias", "teacher", "diamond"),
                    share=0.5,
                    height=280,
                ),
                view(
                    "One draw of the labels",
                    "On ten of the forty images the errors of label, teacher and student: the student's lies between.",
                    axis("image", [0.5, _SHOWN + 0.5], ticks=images),
                    axis("output minus truth", self.span("label_errors", "teacher_errors")),
                    line("image", "zero", "faint", width=1),
                    segments("image", "label_errors", "teacher_errors", "faint"),
                    marks("image", "label_errors", "labels", "cross"),
                    marks("image", "teacher_errors", "teacher", "diamond"),
                    marks("image", "student_errors", "student", "disc"),
                ),
            ],
            "readout": {
                "corner": "squared error",
                "columns": ["alone", "part in the student's error"],
                "rows": [
                    row("labels, s²", "labels", "labels", "variance", symbol="cross", solid=True),
                    row("teacher, e²", "teacher", "teacher", "bias", symbol="diamond", solid=True),
                    row("student", "student", "risk", "risk", symbol="disc", solid=True),
                    row("student at λ*", "bound", "least", "–", dashed=True),
                ],
            },
            "words": {
                "verdict": [
                    "neither its labels nor its teacher",
                    "its teacher, but not its labels",
                    "its labels, but not its teacher",
                    "both its labels and its teacher",
                ]
            },
            "sentence": (
                "With labels wrong by s = {noise} and a teacher wrong by e = {error}, the student at λ = {lam} has the "
                "risk {risk}: on average it beats {verdict}. The best strength is λ* = {best}, with the risk {least}. "
                "On the draw shown its mean squared error is {one_draw}."
            ),
        }


def noisy_labels_explorer() -> NoisyLabelsExplorer:
    """Return the explorer of the chapter *Noisy labels*, on forty images of the digits 0 and 1.

    The forty images are linearly independent and tanh has no zero slope, so every unit's kernel is invertible. The
    teacher errs in one fixed direction that has nothing to do with the noise. The risk is exact, from
    `kdlib.noise_risk`; the last view shows one draw.

    Returns
    -------
    NoisyLabelsExplorer
        With the traits ``noise``, ``error`` and ``lam``, to be set, observed and linked.
    """
    return NoisyLabelsExplorer()
