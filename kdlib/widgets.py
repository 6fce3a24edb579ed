"""Explorers: live figures that need no kernel in the rendered page, and have one in JupyterLab.

At the edge of the package: the core never imports this module. One mechanism serves every chapter. An explorer

* has *grid* parameters, whose sliders snap to the points of a table, and at most one *smooth* parameter, in which
  every field is a polynomial, so that the table holds its coefficients and any value is exact: no number that an
  explorer shows is interpolated;
* computes its fields with kdlib, at build time on the grid and in a live kernel wherever its traits are set;
* says in a few dictionaries what to draw; ``static/explorer.js`` draws them all.

Book: the explorer of each chapter; the first stands in *Limit*.
"""

import base64
import html
import itertools
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import anywidget
import ipywidgets
import jax
import matplotlib
import numpy as np
import traitlets
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.polynomial import polynomial

from kdlib import datasets, figures
from kdlib.limit import fixed_point
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_flow
from kdlib.trajectory import kernel_flow

_STATIC = Path(__file__).parent / "static"
_MOST_NOISE = 1.0  # in units of the labels, which are ±1
_SHOWN = 12  # samples drawn one by one; more cannot be told apart


@dataclass(frozen=True)
class Grid:
    """A parameter whose slider snaps to ``values``, the points at which the table was computed."""

    name: str
    symbol: str
    label: str
    values: tuple[float, ...]
    ticks: tuple[float, ...]


@dataclass(frozen=True)
class Smooth:
    """A parameter from 0 to ``maximum`` in which every field is a polynomial."""

    name: str
    symbol: str
    label: str
    maximum: float
    step: float
    ticks: tuple[float, ...]


class Explorer(anywidget.AnyWidget):
    """A table of fields over a grid of parameters, and the views that draw it.

    A subclass has one synchronised float trait per parameter and defines `parameters`, `constants`, `curves` and
    `describe`. A field is an array of shape (p, ...): the p coefficients of a polynomial in the smooth parameter,
    lowest first; p = 1 for a field that does not depend on it.
    """

    _esm = (_STATIC / "explorer.js").read_text(encoding="utf-8")
    _css = (_STATIC / "explorer.css").read_text(encoding="utf-8")
    _spec = traitlets.Dict().tag(sync=True)
    _table = traitlets.Bytes().tag(sync=True)
    _live = traitlets.Dict().tag(sync=True)

    parameters: tuple[Grid | Smooth, ...] = ()
    curves: Callable[..., dict]
    """The fields at one point of the grid parameters, which it takes by name, on the grid or off it."""

    def constants(self) -> dict[str, np.ndarray]:
        """The fields that no grid parameter changes."""
        raise NotImplementedError

    def describe(self) -> dict:
        """Title, claim, views, read-out and sentence."""
        raise NotImplementedError

    def __init__(self, **start: float):
        super().__init__()
        self._grid = [p for p in self.parameters if isinstance(p, Grid)]
        self._smooth = next((p for p in self.parameters if isinstance(p, Smooth)), None)
        self._fields: dict[str, dict] = {}
        constants = self._pack(self.constants(), constant=True)
        points = itertools.product(*(p.values for p in self._grid))
        rows = [
            self._pack(self.curves(**dict(zip(self._names, point, strict=True))), constant=False) for point in points
        ]
        self._base, self._stride = constants.size, rows[0].size
        self._table = np.concatenate([constants, *rows]).tobytes()
        for name, value in start.items():
            setattr(self, name, value)
        self._spec = {
            "parameters": [asdict(p) for p in self.parameters],
            "fields": self._fields,
            "base": self._base,
            "stride": self._stride,
            "colors": figures.THEMES,
            **self.describe(),
        }
        self.observe(self._recompute, self._names)
        self._recompute()

    @property
    def _names(self):
        return [p.name for p in self._grid]

    def _pack(self, fields, *, constant):
        """The fields as one row of the table; notes where in the row each stands."""
        offset = 0
        blocks = [np.asarray(value, dtype="<f4").reshape(len(value), -1) for value in fields.values()]
        for name, block in zip(fields, blocks, strict=True):
            shape = {"size": block.shape[1], "coefficients": len(block)}
            self._fields[name] = {"offset": offset, **shape, "constant": constant}
            offset += block.size
        return np.concatenate([block.ravel() for block in blocks])

    def _recompute(self, _change=None):
        """Off the grid, compute the fields at the parameters' own values and send them."""
        here = {name: getattr(self, name) for name in self._names}
        if all(here[p.name] in p.values for p in self._grid):
            self._live = {}
        else:
            self._live = {"at": here, "record": self._pack(self.curves(**here), constant=False).tobytes()}

    def value(self, name: str) -> np.ndarray:
        """Return a field at the current parameters, flat, with the very numbers that the page shows.

        Parameters
        ----------
        name : str
            One of the names in ``constants()`` or ``curves(...)``.

        Raises
        ------
        ValueError
            For an unknown name.
        """
        if name not in self._fields:
            raise ValueError(f"name: expected one of {', '.join(self._fields)}; got {name!r}")
        index = 0
        for p in self._grid:
            gaps = [abs(value - getattr(self, p.name)) for value in p.values]
            index = index * len(p.values) + gaps.index(min(gaps))
        return self._read(name, index)

    def _read(self, name, index, at=None):
        field = self._fields[name]
        source, start = np.frombuffer(self._table, "<f4"), field["offset"]
        if not field["constant"]:
            if at is None and self._live:
                source = np.frombuffer(self._live["record"], "<f4")
            else:
                start += self._base + index * self._stride
        block = source[start : start + field["coefficients"] * field["size"]]
        if at is None:
            at = getattr(self, self._smooth.name) if self._smooth else 0.0
        return np.asarray(polynomial.polyval(at, block.astype(float).reshape(field["coefficients"], -1)))

    def _range(self, *names):
        """The least and the largest value that the fields take over the grid, at both ends of the smooth parameter."""
        points = range((len(self._table) // 4 - self._base) // self._stride)
        ends = (0.0, self._smooth.maximum) if self._smooth else (0.0,)
        values = np.concatenate([self._read(n, i, at) for n in names for i in points for at in ends])
        return float(values.min()), float(values.max())

    def _text(self, name):
        parameter = next((p for p in self.parameters if p.name == name), None)
        if parameter is None:
            return _format(float(self.value(name)[0]))
        if isinstance(parameter, Smooth):
            return f"{getattr(self, name):.{_decimals(parameter.step)}f}"
        return f"{getattr(self, name):.4g}"

    @property
    def sentence(self) -> str:
        """What the page says below the views, with the numbers at the current parameters."""
        return re.sub(r"\{(\w+)\}", lambda match: self._text(match[1]), self._spec["sentence"])

    def controls(self) -> ipywidgets.VBox:
        """Return ipywidgets sliders that move the parameters off the grid, for a live notebook."""
        controls = []
        for p in self.parameters:
            here = {"value": getattr(self, p.name), "description": p.symbol, "min": 0.0}
            if isinstance(p, Grid):  # a number box: a logarithmic slider would have no zero
                control = ipywidgets.BoundedFloatText(max=1e12, **here)
            else:
                control = ipywidgets.FloatSlider(max=p.maximum, step=p.step / 10, **here)
            ipywidgets.link((control, "value"), (self, p.name))
            controls.append(control)
        return ipywidgets.VBox(controls)

    def picture(self) -> Figure:
        """Return the views at the current parameters as a matplotlib figure, for paper and pages without scripts."""
        views = self._spec["views"]
        cells = [view["title"] for view in views for _ in range(round(2 * view["share"]))]
        rows = [cells[i : i + 2] for i in range(0, len(cells), 2)]
        with matplotlib.rc_context(cast("dict", figures.STYLE)):
            figure = Figure(figsize=(7.0, 2.9 * len(rows)))
            axes = figure.subplot_mosaic(rows)
            for view in views:
                self._draw(axes[view["title"]], view)
            handles = [Line2D([], [], label=row["label"], **_mark(row)) for row in self._spec["readout"]["rows"]]
            figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
        return figure

    def _draw(self, axes, view):
        for name in ("x", "y"):
            axis = view[name]
            getattr(axes, f"set_{name}scale")(axis["scale"])
            axes.set(**{f"{name}label": axis["label"], f"{name}lim": axis["domain"]})
            if "ticks" in axis:
                places, texts = zip(*axis["ticks"], strict=True)
                getattr(axes, f"set_{name}ticks")(places, texts)
        low, high = view["y"]["domain"]
        for layer in view["layers"]:
            color = figures.THEMES[layer["color"]][0]
            line = {"color": color, "alpha": layer.get("opacity", 1.0), "lw": layer.get("width", 1.8)}
            line["ls"] = "--" if "dash" in layer else "-"
            y = self.value(layer["y"])
            if layer["kind"] == "rule":
                axes.axhline(y[0], **line)
                continue
            x = self.value(layer["x"])
            x = np.where(np.isinf(x), view["x"]["domain"][1], x)
            if layer["kind"] == "segments":
                axes.vlines(x, y, self.value(layer["y2"]), **line)
            elif layer["kind"] == "marks":
                y = np.where((low <= y) & (y <= high), y, np.nan)
                axes.plot(np.broadcast_to(x, y.shape), y, clip_on=False, zorder=3, **_mark(layer) | {"ls": "none"})
            else:
                axes.plot(x, y.reshape(-1, len(x)).T, **line)

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        picture = self.picture()
        source = base64.b64encode(figures.to_svg(picture).encode()).decode()
        view = json.dumps(data["application/vnd.jupyter.widget-view+json"])
        alt = " ".join(view["description"] for view in self._spec["views"])
        data["text/html"] = (
            f'<div class="kd-explorer"><script type="application/vnd.jupyter.widget-view+json">{view}</script>'
            f'<figure class="kd-explorer-picture"><img alt="{html.escape(alt)}" '
            f'src="data:image/svg+xml;base64,{source}">'
            f"<figcaption>{html.escape(self.sentence)}</figcaption></figure></div>"
        )
        data["image/png"] = base64.b64encode(figures.to_png(picture)).decode()
        return data, metadata


def _mark(layer):
    """The style of a layer's marks, and of its line in a legend, for matplotlib."""
    color = figures.THEMES[layer["color"]][0]
    fill = color if layer["symbol"] == "disc" else "none"
    shape = {"disc": "o", "diamond": "D", "cross": "x"}[layer["symbol"]]
    line = {None: "none", "none": "-"}.get(layer.get("dash"), "--")
    return {"color": color, "marker": shape, "mfc": fill, "mew": 1.8, "ms": 6, "ls": line}


def _format(value):
    """Three significant digits, as the page prints them."""
    size = abs(value)
    if size < 1e-6:
        return "< 10⁻⁶"
    if 1e-3 <= size < 1e3:
        return f"{value:#.3g}".rstrip(".").replace("-", "−")
    digits, power = f"{value:.2e}".split("e")
    return f"{digits}·10{str(int(power)).translate(_RAISED)}".replace("-", "−")


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _decimals(step):
    return max(0, math.ceil(-math.log10(step) - 1e-9))


def _renard(first, last):
    """Ten preferred numbers per decade from 10^first to 10^last: what is shown is what was computed."""
    series = (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
    return [float(f"{k}e{power}") for power in range(first, last) for k in series] + [float(f"1e{last}")]


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
    noise : float
        Root mean square of what is added to the labels, in units of the labels, from 0 to 1.
    """

    lam = traitlets.Float(1.0).tag(sync=True)
    noise = traitlets.Float(0.5).tag(sync=True)

    parameters = (
        Grid("lam", "λ", "strength of the transfer", (0.0, *_renard(-2, 2)), (0, 0.1, 1, 10, 100)),
        Smooth("noise", "s", "label noise", _MOST_NOISE, 0.05, (0, 0.5, 1)),
    )
    times = np.logspace(-2, 4, 31)

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
        shown = np.linspace(0, len(clean) - 1, min(len(clean), _SHOWN)).round().astype(int)
        self._on_circle = problem.x.shape[1] == 2
        if self._on_circle:
            self._places = np.mod(np.arctan2(problem.x[:, 1], problem.x[:, 0]), 2 * np.pi)[shown]
            around = (np.arange(121) / 120) * 2 * np.pi
            self._around = around, np.stack([np.cos(around), np.sin(around)], axis=1)
        else:
            shown = shown[np.lexsort((teacher[shown], clean[shown]))]
            self._places = np.arange(1.0, len(shown) + 1)
        self._shown = shown
        super().__init__(lam=float(problem.lam))

    @traitlets.validate("lam", "noise")
    def _finite(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        top = math.inf if name == "lam" else _MOST_NOISE
        if not (math.isfinite(value) and 0 <= value <= top):
            bound = "that is at least 0" if name == "lam" else f"from 0 to {top:g}"
            raise ValueError(f"{name}: expected a finite number {bound}; got {value}")
        return value

    def constants(self):
        clean, teacher, direction, one = self._clean, self._teacher, self._direction, self._shown
        return {
            "place": [self._places],
            "time": [self.times],
            "forever": [[math.inf]],
            "around": [self._around[0] if self._on_circle else [0.0]],
            "labels": [clean[one], direction[one]],
            "teacher": [teacher[one]],
            "labels_truth": _mean_square([np.zeros_like(clean), direction]),
            "teacher_error": _mean_square([clean - teacher, direction]),
            "teacher_truth": [np.mean((clean - teacher) ** 2)],
        }

    def curves(self, *, lam: float):
        n = len(self._clean)
        at = np.concatenate([self._problem.x, self._around[1]]) if self._on_circle else self._problem.x
        times = np.append(self.times, math.inf)
        labels = self._clean, self._clean + self._direction
        runs = []
        for y in labels:
            problem = TransferProblem(self._problem.student, self._problem.x, y, self._problem.phi, lam=lam)
            outputs = np.array(kernel_flow(problem, times, at=at).outputs)
            outputs[-1, :n] = fixed_point(problem).outputs
            runs.append(outputs)
        # Affine in the noise: its value at 0, and what one unit of noise adds.
        start, slope = runs[0], runs[1] - runs[0]
        coefficients = np.stack([start, slope])
        left = np.stack([labels[0] - start[:, :n], self._direction - slope[:, :n]])
        errors = _mean_square(left)
        fields = {
            "outputs": coefficients[:, :-1, self._shown].transpose(0, 2, 1),
            "limit": coefficients[:, -1, self._shown],
            "errors": errors[:, :-1],
            "error": errors[:, -1],
            "truth": _mean_square([start[-1, :n] - labels[0], slope[-1, :n]]),
        }
        return fields | ({"function": coefficients[:, -1, n:]} if self._on_circle else {})

    def describe(self):
        low, high = self._range("outputs", "limit", "labels", "teacher")
        margin = 0.04 * (high - low)
        output = {"label": "output", "scale": "linear", "domain": [low - margin, high + margin]}
        time = {"label": "gradient-flow time t", "scale": "log", "domain": [1e-2, 1e4], "infinity": True}
        _, most = self._range("errors", "teacher_error")
        error = {"label": "training error, mean square", "scale": "log", "domain": [1e-3, most * 1.5]}
        if self._on_circle:
            names = ("0", "π/2", "π", "3π/2", "2π")
            ticks = [[k * math.pi / 2, text] for k, text in enumerate(names)]
            place = {"label": "angle on the circle", "scale": "linear", "domain": [0, 2 * math.pi], "ticks": ticks}
        else:
            ticks = [[k, str(k)] for k in range(1, len(self._shown) + 1)]
            place = {"label": "sample", "scale": "linear", "domain": [0.5, len(ticks) + 0.5], "ticks": ticks}
        student = {"color": "student", "symbol": "disc"}
        teacher = {"color": "teacher", "symbol": "diamond"}
        labels = {"color": "labels", "symbol": "cross"}
        rest = {"kind": "line", "x": "around", "y": "function", "color": "student"}
        return {
            "title": "Explorer: the student between its labels and its teacher",
            "claim": "The student ends between its labels and what it can carry of its teacher; λ decides where.",
            "views": [
                {
                    "title": "Where it ends",
                    "description": "Labels, teacher and the student's limit on the samples.",
                    "share": 1,
                    "height": 270,
                    "x": place,
                    "y": output | {"label": "output at t = ∞"},
                    "layers": [
                        {"kind": "segments", "x": "place", "y": "labels", "y2": "teacher", "color": "faint"},
                        *([rest] if self._on_circle else []),
                        {"kind": "marks", "x": "place", "y": "labels", **labels},
                        {"kind": "marks", "x": "place", "y": "teacher", **teacher},
                        {"kind": "marks", "x": "place", "y": "limit", **student},
                    ],
                },
                {
                    "title": "How it gets there",
                    "description": "The student's outputs on the samples against time, up to their limits.",
                    "share": 0.5,
                    "height": 230,
                    "x": time,
                    "y": output,
                    "layers": [
                        {"kind": "line", "x": "time", "y": "outputs", "color": "student", "width": 1.3, "opacity": 0.8},
                        {"kind": "marks", "x": "forever", "y": "limit", **student},
                    ],
                },
                {
                    "title": "Training error",
                    "description": "The student's training error against time, beside its teacher's.",
                    "share": 0.5,
                    "height": 230,
                    "x": time,
                    "y": error,
                    "layers": [
                        {"kind": "rule", "y": "teacher_error", "color": "teacher", "dash": "5 4"},
                        {"kind": "line", "x": "time", "y": "errors", "color": "student", "width": 2.2},
                        {"kind": "marks", "x": "forever", "y": "error", **student},
                    ],
                },
            ],
            "readout": {
                "corner": "mean square distance to",
                "columns": ["its labels", "noise-free labels"],
                "rows": [
                    {"label": "labels", **labels, "fields": [None, "labels_truth"]},
                    {"label": "teacher", **teacher, "dash": "5 4", "fields": ["teacher_error", "teacher_truth"]},
                    {"label": "student at t = ∞", **student, "dash": "none", "fields": ["error", "truth"]},
                ],
            },
            "sentence": (
                "At λ = {lam} and label noise s = {noise} the student ends with training error {error}, "
                "its teacher with {teacher_error}. Against the noise-free labels the student's error is {truth}, "
                "the teacher's {teacher_truth}."
            ),
        }


def _mean_square(residuals):
    """The mean square of r₀ + s·r₁ over the last axis, as a polynomial in s."""
    r0, r1 = residuals
    return np.stack([np.mean(r0**2, -1), 2 * np.mean(r0 * r1, -1), np.mean(r1**2, -1)])


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
    return LimitExplorer(_circle_problem() if problem is None else problem, seed=seed)


def _circle_problem():
    data = datasets.circle()
    student = TwoLayerNetwork.init(jax.random.key(0), 128, 2)
    lesson = TransferProblem(student, data.x, data.y, None, lam=0.0)
    teacher = gradient_flow(lesson, [3.0]).network
    return TransferProblem(student, data.x, data.y, teacher.features(data.x), lam=1.0)
