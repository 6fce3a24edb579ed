"""The explorer of the chapter *Experiments*: test error against λ and steps, with teachers good and poor."""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.teachers import kernel_machine_teacher, random_fourier_features, trained_teacher
from kdlib.training import gradient_descent
from kdlib.trajectory import kernel_flow
from kdlib.views import axis, cursor, line, marks, row, rule, segments, view

_EVEN_ODD = ((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))
_TRAIN, _TEST, _WIDTH, _FLIPPED, _FEW, _DRAWS = 60, 1000, 150, 12, 15, 3
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_TRAINED = (0.1, 1.0, 3.0)  # the λ at which networks are trained; at λ = 10 this step would explode
_STEP = 0.06
_MARKS = np.array([0, 1, 2, 4, 8, 15, 30, 50, 75, 100])


class ExperimentsExplorer(Explorer):
    """Errors on test images: of the teacher, of the student as the kernel flow predicts it, and of trained networks.

    The chapter's experiment in small: 60 training and 1,000 test images, 12 labels wrong, 150 units, a hundred steps,
    three draws of split, start and wrong labels. Times are longer than in the chapter as the images are fewer.

    Attributes
    ----------
    teacher : float
        0 good, 1 stopped early, 2 few samples, 3 noisy labels, 4 a kernel machine in random cosines.
    lam : float
        The strength λ > 0; networks are trained at 0.1, 1 and 3 only.
    """

    teacher = Value(3.0)
    lam = Value(1.0)

    parameters = (
        Grid(
            "teacher", "teacher", "choice of teacher", (0.0, 1.0, 2.0, 3.0, 4.0), (0.0, 4.0),
            names=("good", "stopped early", "few samples", "noisy labels", "machine"),
        ),
        Grid(
            "lam", "λ", "strength of the transfer", _STRENGTHS, _STRENGTHS, least=1e-3, most=1e3
        ),
    )  # fmt: skip

    def constants(self):
        self._draws = [_draw(seed) for seed in range(_DRAWS)]
        alone = np.stack([self._errors(kernel_flow, draw, None, 0.0) for draw in self._draws]).mean(axis=0)
        self._alone, last = alone, len(_MARKS) - 1
        return {
            "step": _MARKS[1:],
            "strength": _STRENGTHS,
            "trained": _TRAINED,
            "alone": alone[1:],
            "alone_last": [alone[last]],
            "alone_from": [_MARKS[np.argmin(alone)]],
        }

    def _errors(self, route, draw, teacher, lam):
        """Per cent of wrong test images at the marked steps."""
        student, x, labels, phi, x_test, y_test, _ = draw
        problem = TransferProblem(student, x, labels, None if teacher is None else phi[teacher], lam=jnp.float32(lam))
        steps = (np.float32(_STEP * _MARKS),) if route is kernel_flow else (np.float32(_STEP), _MARKS)
        return 100 * np.mean(np.sign(route(problem, *steps, at=x_test).outputs) != y_test, axis=1)

    def curves(self, *, teacher, lam):
        """The fields at each pair of a teacher and a λ, of arrays of shape (N,)."""
        runs = {}

        def run(route, name, strength):
            key = route, name, strength
            if key not in runs:
                runs[key] = np.stack([self._errors(route, draw, int(name), strength) for draw in self._draws])
            return runs[key]

        def point(name, strength):
            flow = run(kernel_flow, name, strength)
            real = run(gradient_descent, name, strength) if strength in _TRAINED else np.full(flow.shape, np.nan)
            over = np.stack([run(kernel_flow, name, other)[:, -1].mean() for other in _STRENGTHS])
            bars = np.stack([run(gradient_descent, name, other)[:, -1] for other in _TRAINED], axis=1)
            own = np.mean([draw[-1][int(name)] for draw in self._draws])
            mean, spread = real.mean(axis=0), real.std(axis=0)
            better = 2 * (flow[:, -1].mean() < self._alone[-1]) + (flow[:, -1].mean() < own)
            return {
                "here": [strength],
                "over": over,
                "bar": bars.mean(axis=0),
                "bar_low": bars.mean(axis=0) - bars.std(axis=0),
                "bar_high": bars.mean(axis=0) + bars.std(axis=0),
                "flow": flow.mean(axis=0)[1:],
                "network": mean[1:],
                "network_low": (mean - spread)[1:],
                "network_high": (mean + spread)[1:],
                "own": [own],
                "flow_last": [flow[:, -1].mean()],
                "network_last": [mean[-1]],
                "flow_from": [self._first(flow.mean(axis=0))],
                "network_from": [self._first(mean)],
                "verdict": [better],
            }

        points = [point(*pair) for pair in zip(map(float, teacher), map(float, lam), strict=True)]
        return {name: np.stack([fields[name] for fields in points]) for name in points[0]}

    def _first(self, errors):
        """The first marked step at which the student is better than the best that it comes to without a teacher."""
        better = np.flatnonzero(errors < self._alone.min())
        return _MARKS[better[0]] if better.size else np.nan

    def describe(self):
        percent = "errors on test images, %"
        strength = axis(
            "strength of the transfer λ", [0.025, 12], scale="log", ticks=[(0.1, "0.1"), (1, "1"), (10, "10")]
        )
        steps = axis("steps of gradient descent", [1, 100], scale="log", ticks=[(k, str(k)) for k in (1, 4, 15, 100)])
        rules = [rule("own", "teacher", dashed=True)]
        return {
            "title": "Explorer: the test error of a teacher's students",
            "claim": (
                "Up to λ = 10 the good teacher cannot be followed too closely. The noisy one is followed best in "
                "between: there its errors and the labels' cancel in part."
            ),
            "views": [
                view(
                    "After a hundred steps",
                    "Errors on the test images after a hundred steps against λ: kernel flow, networks, teacher.",
                    strength,
                    axis(percent, self.span("over", "own", "alone_last", "bar_low", "bar_high")),
                    rule("alone_last", "labels", dashed=True),
                    *rules,
                    cursor("here"),
                    line("strength", "over", "student"),
                    segments("trained", "bar_low", "bar_high", "network"),
                    marks("trained", "bar", "network", "cross"),
                    marks("here", "flow_last", "student", "disc"),
                    share=0.5,
                    height=280,
                ),
                view(
                    "On the way",
                    "Errors on the test images against the steps of gradient descent at this λ.",
                    steps,
                    axis(percent, self.span("flow", "own", "alone", "network_low", "network_high")),
                    line("step", "alone", "labels", dashed=True),
                    *rules,
                    line("step", "flow", "student"),
                    segments("step", "network_low", "network_high", "network"),
                    marks("step", "network", "network", "cross"),
                    share=0.5,
                    height=280,
                ),
            ],
            "readout": {
                "corner": "errors on test images, %",
                "columns": ["at step 100", "better from step"],
                "rows": [
                    row("no teacher", "labels", "alone_last", "", dashed=True),
                    row("the teacher itself", "teacher", "own", "", dashed=True),
                    row("student, kernel flow", "student", "flow_last", "flow_from", symbol="disc", solid=True),
                    row("student, network", "network", "network_last", "network_from", symbol="cross"),
                ],
            },
            "whole": ["flow_from", "network_from"],
            "words": {
                "verdict": [
                    "no better than either of them",
                    "better than its teacher, but no better than alone",
                    "better than alone, but no better than its teacher",
                    "better than both",
                ]
            },
            "sentence": (
                "A fifth of the labels is wrong. After a hundred steps at λ = {lam} with the teacher “{teacher}” the "
                "student makes {flow_last} % errors on new images; its teacher makes {own} %, a student alone "
                "{alone_last} %. It is {verdict}."
            ),
        }


def _draw(seed):
    """Images without their mean image, a start, labels of which a fifth is wrong, teachers' PI and their errors."""
    data = datasets.digits(_EVEN_ODD, train=_TRAIN, test=_TEST, seed=seed)
    centred = [x - data.x.mean(axis=0) for x in (data.x, data.x_test)]
    x, x_test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in centred)
    data = datasets.Dataset(x, data.y, x_test, data.y_test, name=data.name)
    student = TwoLayerNetwork.init(jax.random.key(seed), _WIDTH, x.shape[1])
    told, heard = (datasets.flip(data.y, _FLIPPED, seed=start + seed) for start in (0, 100))
    cosines = random_fourier_features(jax.random.key(1000 + seed), np.concatenate([x, x_test]), _WIDTH, bandwidth=1.0)
    phi, outputs = _taught(student, x, data.y, heard, x_test, cosines)
    own = 100 * np.mean(np.sign(outputs) != data.y_test, axis=1)
    # single precision is enough: errors are counted
    single = jax.tree.map(lambda part: jnp.asarray(part, "float32"), (student, x, told, phi, x_test))
    return *single, data.y_test, own


@jax.jit
def _taught(student, x, y, heard, x_test, cosines):
    """The teachers' PI, shape (5, m, n), and their outputs on the test images."""
    schools = jnp.stack([y, y, heard]), jnp.asarray([200.0, 7.0, 70.0])
    weights = jax.vmap(lambda labels, time: trained_teacher(student, x, labels, time).weights)(*schools)
    good, early, noisy = map(student.with_weights, weights)
    nets = good, early, trained_teacher(student, x[:_FEW], y[:_FEW], 200.0), noisy
    machine = kernel_machine_teacher(student, x, y, cosines[:, :_TRAIN], ridge=0.3)
    phi = [*(net.features(x) for net in nets), machine.phi]
    return jnp.stack(phi), jnp.stack([*(net(x_test) for net in nets), student(x_test) + machine(cosines[:, _TRAIN:])])


def experiments_explorer() -> ExperimentsExplorer:
    """Return the explorer of the chapter *Experiments*: test error against λ for five teachers.

    Returns
    -------
    ExperimentsExplorer
        With the traits ``teacher`` and ``lam``, to be set, observed and linked.
    """
    return ExperimentsExplorer()
