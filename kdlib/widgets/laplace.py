"""The explorer of the chapter *Laplace*: the characteristic matrix along the real axis, and where it loses its rank."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.characteristic import characteristic_values
from kdlib.explorer import Explorer, Grid, Value, renard
from kdlib.kernels import tangent_kernel, unit_kernels
from kdlib.laplace import characteristic_matrix
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.spectrum import decay_rates
from kdlib.views import axis, cursor, line, marks, row, segments, view

_STRENGTHS = renard(-2, 1)[::2]
_RATES = (3e-4, 40.0)  # what the axes show, 1/time
_NOWHERE = 0.004  # the place of λ = 0 before a log axis
_BESIDE = 1 / (1 + np.exp(-np.linspace(-5.5, 5.5, 11)))  # shares of the way between two poles, dense at both
_AROUND = np.array([0.75, 0.92, 1.0, 1.08, 1.3])  # times a zero
_RANK = 4  # two units in two dimensions
_PLACES = (_RANK + 1) * len(_BESIDE) + _RANK + _RANK * len(_AROUND)


class LaplaceExplorer(Explorer):
    """The eigenvalues of T(p) for p < 0, and the characteristic values against λ.

    The smallest student with all that the chapter is about: two units, two samples of the circle. One unit has the
    weight 0, the other one moves away from it.

    Attributes
    ----------
    lam : float
        The strength λ ≥ 0 of the transfer; any number in a live kernel, a point of the table in the page.
    apart : float
        How far apart the units are, from 0, where their kernels are equal, to 1.
    """

    lam = Value(0.25)
    apart = Value(1.0)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", (0.0, *_STRENGTHS), (0, 0.1, 1, 10)),
        Grid("apart", "r", "how far apart the units are", (0.0, 0.1, 0.25, 0.5, 1.0), (0, 0.25, 0.5, 1), most=1.0),
    )

    def __init__(self):
        self._data = datasets.circle(2)
        self._known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        super().__init__()

    def problem(self, lam: float | jax.Array, apart: float | jax.Array) -> TransferProblem:
        """Return the problem at λ with its units at a distance; its teacher is the student's start."""
        weights = jnp.array([[0.0, 0.0], [0.8, 1.2]]) * apart
        student = TwoLayerNetwork(weights, jnp.ones(2))
        return TransferProblem(student, self._data.x, self._data.y, student.features(self._data.x), lam=lam)

    def _spectrum(self, lam, apart):
        """Characteristic values and eigenvalues of M, both as rates, and the units' own rates, ascending."""
        if (lam, apart) not in self._known:
            problem = self.problem(lam, apart)
            values = -np.asarray(characteristic_values(problem))
            units = np.linalg.eigvalsh(unit_kernels(problem.student, problem.x))
            found = values, decay_rates(problem, len(values)), np.sort(lam * units, axis=None)
            self._known[lam, apart] = tuple(np.asarray(part) for part in found)
        return self._known[lam, apart]

    def constants(self):
        return {"strengths": _STRENGTHS, "ends": [_NOWHERE, _STRENGTHS[-1]], "low": [_bend(-np.inf)] * _RANK,
                "high": [_bend(np.inf)] * _RANK, "zero": [0.0] * _RANK}  # fmt: skip

    def curves(self, *, lam: np.ndarray, apart: np.ndarray):
        """The fields at each pair of a λ and a distance, shape (N,)."""
        points = list(zip(map(float, lam), map(float, apart), strict=True))
        places = np.stack([self._places(*point) for point in points])

        def matrices(strength, distance, rates):
            return jax.vmap(characteristic_matrix, (None, 0))(self.problem(strength, distance), -rates)

        own = np.stack([self._spectrum(*point)[2] for point in points])
        poles = np.min(np.abs(places[:, :, None] - own[:, None]), axis=2) < 1e-9 * places
        found = jax.jit(jax.vmap(matrices))(lam, apart, np.where(poles, 2 * _RATES[1], places))
        branches = np.where(poles[:, None], np.nan, _bend(np.linalg.eigvalsh(found)).swapaxes(1, 2))
        rows = [self._read_off(*point) for point in points]
        fields = {name: np.stack([fields[name] for fields in rows]) for name in rows[0]}
        return fields | {"p": places, "branches": branches}

    def _places(self, lam, apart):
        """Rates x at which T(-x) is drawn, from left to right: between the poles, at them, and around its zeros."""
        values, _, poles = self._spectrum(lam, apart)
        around = np.outer(values, _AROUND).ravel()
        slow, fast = _RATES
        edges = [fast, *(poles[::-1] if lam else np.geomspace(fast, slow, _RANK + 2)[1:-1]), slow]
        between = [a * (b / a) ** _BESIDE for a, b in itertools.pairwise(edges)]
        places = np.concatenate([*between, poles[poles > 0], around])
        rest = np.geomspace(slow, fast, _PLACES - len(places) + 2)[1:-1]  # at λ = 0 there are no poles and fewer zeros
        return np.sort(np.append(places, rest))[::-1]

    def _read_off(self, lam, apart):
        values, rates, own = self._spectrum(lam, apart)
        # an invisible mode has the rate of a unit alone
        hidden = np.min(np.abs(values[:, None] / np.where(own > 0, own, np.inf) - 1), axis=1) < 1e-9
        problem = self.problem(lam, apart)
        tangent = np.linalg.eigvalsh(tangent_kernel(problem.student, problem.x))
        path = np.array([self._spectrum(strength, apart)[::2] for strength in _STRENGTHS])
        fields = {
            "count": [float(len(values))],
            "error": [np.max(np.abs(values / rates - 1))],
            "place": [lam or _NOWHERE],
            "tangent": np.repeat(tangent, 2),
            "paths": path[:, 0].T,
            "own_paths": path[:, 1].T,
        }
        named = {"seen": values[~hidden], "hidden": values[hidden], "own": own[own > 0], "kernel": tangent}
        for name, part in named.items():
            ends = [np.min(part), np.max(part)] if len(part) else [np.nan] * 2
            fields |= {f"{name}_count": [float(len(part))], f"{name}_slowest": ends[:1], f"{name}_fastest": ends[1:]}
            fields[name] = np.append(part, np.full(_RANK - len(part), np.nan))
        return fields

    def describe(self):
        ticks = [[_bend(value), text] for value, text in
                 ((-np.inf, "−∞"), (-1, "−1"), (0, "0"), (1, "1"), (np.inf, "∞"))]  # fmt: skip
        rates = [[10.0**k, text] for k, text in ((-3, "−0.001"), (-2, "−0.01"), (-1, "−0.1"), (0, "−1"), (1, "−10"))]
        strengths = [[_NOWHERE, "0"], *([10.0**k, f"{10.0**k:g}"] for k in (-2, -1, 0, 1))]
        rows = {
            "seen": ("visible", "student", {"symbol": "disc", "solid": True}),
            "hidden": ("invisible", "teacher", {"symbol": "diamond"}),
            "own": ("units alone", "teacher", {"solid": True}),
            "kernel": ("no teacher", "labels", {"dashed": True}),
        }
        return {
            "title": "Explorer: the characteristic matrix and the student's rates",
            "claim": (
                "Each rate that the outputs see is a place p = −μ where an eigenvalue of T(p) falls through zero; "
                "where it jumps from −∞ to ∞, a unit alone would have a rate."
            ),
            "whole": ["count", *(f"{name}_count" for name in rows)],
            "views": [
                view(
                    "Eigenvalues of T(p)",
                    "The eigenvalues of the characteristic matrix against p, with its poles and its zeros.",
                    axis("p (1/time)", _RATES[::-1], scale="log", ticks=rates),
                    axis("eigenvalues of T(p)", [-1, 1], ticks=ticks),
                    segments("own", "low", "high", "teacher", width=1.2),
                    line("p", "branches", "student"),
                    marks("hidden", "zero", "teacher", "diamond"),
                    marks("seen", "zero", "student", "disc"),
                    height=290,
                ),
                view(
                    "Rates",
                    "The student's rates against the strength of the transfer, with those of its units alone.",
                    axis("strength of the transfer λ", [0.0035, 12], scale="log", ticks=strengths),
                    axis("rate (1/time)", _RATES, scale="log"),
                    cursor("place"),
                    line("ends", "tangent", "labels", dashed=True, width=1.2),
                    line("strengths", "own_paths", "teacher", width=1.2),
                    line("strengths", "paths", "student", width=2.2),
                    marks("place", "hidden", "teacher", "diamond"),
                    marks("place", "seen", "student", "disc"),
                    height=290,
                ),
            ],
            "readout": {
                "corner": "rates",
                "columns": ["number", "slowest", "fastest"],
                "rows": [
                    *(
                        row(label, color, f"{name}_count", f"{name}_slowest", f"{name}_fastest", **look)
                        for name, (label, color, look) in rows.items()
                    ),
                    row("this λ", "faint", "", "", "", solid=True),
                ],
            },
            "sentence": (
                "At λ = {lam}, with the units r = {apart} apart, the student has {count} rates, and its outputs see "
                "{seen_count}. The slowest of these is {seen_slowest}; without a teacher it is {kernel_slowest}. "
                "Relative difference from the eigenvalues of M: {error}."
            ),
        }  # fmt: skip


def _bend(value):
    """A scale on which all numbers from −∞ to ∞ have a place, from −1 to 1."""
    return np.where(np.isinf(value), np.sign(value), value / (1 + np.abs(np.where(np.isinf(value), 0, value))))


def laplace_explorer() -> LaplaceExplorer:
    """Return the explorer of the chapter *Laplace*.

    It shows that T(p) loses its rank exactly at the negatives of the rates that the outputs see.

    Returns
    -------
    LaplaceExplorer
        With the traits ``lam`` and ``apart``, to be set, observed and linked.

    Examples
    --------
    >>> import kdlib as kd
    >>> explorer = kd.widgets.laplace_explorer()
    >>> explorer.apart = 0.0  # equal kernels
    >>> "the student has 4 rates, and its outputs see 2" in explorer.sentence
    True
    """
    return LaplaceExplorer()
