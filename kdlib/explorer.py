"""The mechanism of the explorers: a table computed by kdlib, one front-end that draws it.

At the edge of the package: the core never imports this module. An explorer

* has *grid* parameters, whose sliders snap to the points of a table, and at most one *smooth* parameter, in which
  every field is a polynomial, so that the table holds its coefficients and any value is exact: no number that an
  explorer shows is interpolated;
* computes its fields with kdlib, at build time on the grid and in a live kernel wherever its traits are set;
* says in a few dictionaries what to draw, made in ``kdlib.views``; ``static/explorer.js`` draws them all.

Book: the explorers of all chapters, which `kdlib.widgets` defines.
"""

import base64
import html
import itertools
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import matplotlib
import numpy as np
import traitlets
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.polynomial import polynomial

from kdlib import figures

_STATIC = Path(__file__).parent / "static"


# Parameters -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """A parameter whose slider snaps to ``values``, the points at which the table was computed.

    A live kernel takes any number from ``least`` to ``most``, if ``whole`` any whole number; with ``names``, one for
    each value, only the values themselves, and the names are what a reader sees.
    """

    name: str
    symbol: str
    label: str
    values: tuple[float, ...]
    ticks: tuple[float, ...]
    names: tuple[str, ...] = ()
    least: float = 0.0
    most: float = math.inf
    whole: bool = False

    def check(self, value: float) -> None:
        """Raise a ValueError that names the parameter where the value is not one of its own."""
        if self.names:
            if value not in self.values:
                listed = ", ".join(f"{v:g} ({name})" for v, name in zip(self.values, self.names, strict=True))
                raise ValueError(f"{self.name}: expected one of {listed}; got {value}")
        elif not (math.isfinite(value) and self.least <= value <= self.most and not (self.whole and value % 1)):
            kind = "whole" if self.whole else "finite"
            top = (
                f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"that is at least {self.least:g}"
            )
            raise ValueError(f"{self.name}: expected a {kind} number {top}; got {value}")


@dataclass(frozen=True)
class Smooth:
    """A parameter from 0 to ``maximum`` in which every field is a polynomial."""

    name: str
    symbol: str
    label: str
    maximum: float
    step: float
    ticks: tuple[float, ...]

    def check(self, value: float) -> None:
        """Raise a ValueError that names the parameter where the value is out of range."""
        if not (math.isfinite(value) and 0 <= value <= self.maximum):
            raise ValueError(f"{self.name}: expected a finite number from 0 to {self.maximum:g}; got {value}")


class Value(traitlets.Float[float, float]):
    """The trait of a parameter: a synchronised number that the parameter of its name has checked."""

    def __init__(self, start: float):
        super().__init__(start)
        self.tag(sync=True)

    def validate(self, obj, value):
        value = super().validate(obj, value)
        next(p for p in obj.parameters if p.name == self.name).check(value)
        return value


def renard(first: int, last: int) -> tuple[float, ...]:
    """Ten preferred numbers per decade from 10^first to 10^last: what is shown is what was computed."""
    series = (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
    return (*(float(f"{k}e{power}") for power in range(first, last) for k in series), float(f"1e{last}"))


# The widget -----------------------------------------------------------------------------------------------------------


class Explorer(anywidget.AnyWidget):
    """A table of fields over a grid of parameters, and the views that draw it.

    A subclass has one trait `Value` per parameter and defines `parameters`, `describe`, `at` or `curves`, and
    `constants` where it has any. With a smooth parameter each field has shape (p, ...): the p coefficients of a
    polynomial in it, lowest first; p = 1 for a field that does not depend on it. Without one there is no such axis.

    Examples
    --------
    >>> from kdlib import views
    >>> from kdlib.explorer import Explorer, Grid, Value
    >>> class Square(Explorer):
    ...     a = Value(1.0)
    ...     parameters = (Grid("a", "$a$", "side", values=(1.0, 2.0), ticks=(1.0, 2.0)),)
    ...
    ...     def at(self, a):
    ...         return {"side": [0.0, a], "area": [a**2]}
    ...
    ...     def describe(self):
    ...         diagonal = views.line("side", "side", "student")
    ...         drawing = views.view("Diagonal", "It rises.", *[views.axis("side", [0, 2])] * 2, diagonal)
    ...         rows = [views.row("square", "student", "area", solid=True)]
    ...         return {
    ...             "title": "A square", "claim": "Twice the side is four times the area.", "views": [drawing],
    ...             "readout": {"corner": "", "columns": ["area"], "rows": rows},
    ...             "sentence": "The square of side {a} has the area {area}.",
    ...         }
    >>> Square(a=1.5).sentence  # off the grid, too
    'The square of side 1.5 has the area 2.25.'
    """

    _esm = (_STATIC / "explorer.js").read_text(encoding="utf-8")
    _css = (_STATIC / "explorer.css").read_text(encoding="utf-8")
    _spec = traitlets.Dict().tag(sync=True)
    _table = traitlets.Bytes().tag(sync=True)
    _live = traitlets.Dict().tag(sync=True)

    parameters: tuple[Grid | Smooth, ...] = ()

    def constants(self) -> dict[str, Any]:
        """The fields that no grid parameter changes."""
        return {}

    def at(self, *_: Any, **point: Any) -> dict[str, Any]:
        """The fields at one point of the grid parameters, which it takes by name, on the grid or off it."""
        raise NotImplementedError

    def curves(self, *_: Any, **points: Any) -> dict[str, Any]:
        """The fields at many points: an array of length N for each grid parameter; fields of shape (N, ...)."""
        names = list(points)
        rows = [self.at(**dict(zip(names, map(float, point), strict=True))) for point in zip(*points.values())]
        return {name: np.stack([np.asarray(fields[name]) for fields in rows]) for name in rows[0]}

    def describe(self) -> dict[str, Any]:
        """Title, claim, views, read-out and sentence.

        Two more entries are optional: ``whole``, the names of fields that count something, and ``words``, for a field
        whose value is 0, 1, ... the word that the sentence says in its place.
        """
        raise NotImplementedError

    def __init__(self, **start: float):
        super().__init__()
        self._grid = [p for p in self.parameters if isinstance(p, Grid)]
        self._smooth = next((p for p in self.parameters if isinstance(p, Smooth)), None)
        self._fields: dict[str, dict[str, Any]] = {}
        constants = self._blocks({name: np.asarray(value)[None] for name, value in self.constants().items()})
        points = np.array(list(itertools.product(*(p.values for p in self._grid))))
        fields = self._blocks(self.curves(**dict(zip(self._names, points.T, strict=True))))
        shape = tuple(len(p.values) for p in self._grid)
        self._table = self._pack(fields, shape) + self._pack(constants, (1,) * len(shape), constant=True)
        for name, value in start.items():
            setattr(self, name, value)
        self._spec = {
            "parameters": [_without_bounds(asdict(p)) for p in self.parameters],
            "fields": self._fields,
            "colors": figures.THEMES,
            "whole": [],
            "words": {},
            **self.describe(),
        }
        self.observe(self._recompute, self._names)
        self._recompute()

    @property
    def _names(self):
        return [p.name for p in self._grid]

    def _blocks(self, fields):
        """The fields by name, each of shape (points, coefficients, size)."""
        blocks = {name: np.asarray(value, dtype="<f4") for name, value in fields.items()}
        if self._smooth is None:
            blocks = {name: block[:, None] for name, block in blocks.items()}
        return {name: block.reshape(*block.shape[:2], -1) for name, block in blocks.items()}

    def _pack(self, blocks, shape, *, constant=False):
        """The fields one after the other, for a grid of this shape; notes where in the table each stands.

        What a parameter does not change is stored once for all its values: the curve over which a cursor moves.
        """
        start = sum(field["length"] for field in self._fields.values())
        parts, record = [], 0
        for name, block in blocks.items():
            part = block.reshape(*shape, *block.shape[1:])
            for axis in range(len(shape)):
                first = part.take([0], axis)
                if np.array_equal(part, np.broadcast_to(first, part.shape), equal_nan=True):
                    part = first
            strides = [0 if part.shape[k] == 1 else math.prod(part.shape[k + 1 :]) for k in range(len(shape))]
            self._fields[name] = {
                "offset": start, "length": part.size, "strides": strides, "record": record,
                "coefficients": block.shape[1], "size": block.shape[2], "constant": constant,
            }  # fmt: skip
            parts.append(part.ravel())
            start, record = start + part.size, record + math.prod(block.shape[1:])
        return b"".join(part.tobytes() for part in parts)

    def _recompute(self, _change=None):
        """Off the grid, compute the fields at the parameters' own values and send them."""
        here = {name: getattr(self, name) for name in self._names}
        if all(here[p.name] in p.values for p in self._grid):
            self._live = {}
        else:
            point = {name: np.array([value]) for name, value in here.items()}
            record = self._blocks(self.curves(**point))
            self._live = {"at": here, "record": b"".join(block.tobytes() for block in record.values())}

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
        field = self._fields[name]
        if self._live and not field["constant"]:
            source, start = np.frombuffer(self._live["record"], "<f4"), field["record"]
        else:
            source, start = np.frombuffer(self._table, "<f4"), field["offset"]
            start += sum(step * self._index(p) for step, p in zip(field["strides"], self._grid, strict=True))
        block = source[start : start + field["coefficients"] * field["size"]]
        at = getattr(self, self._smooth.name) if self._smooth else 0.0
        return np.asarray(polynomial.polyval(at, block.astype(float).reshape(field["coefficients"], -1)))

    def _index(self, parameter):
        gaps = [abs(value - getattr(self, parameter.name)) for value in parameter.values]
        return gaps.index(min(gaps))

    def span(self, *names: str, margin: float = 0.04) -> list[float]:
        """Return a domain for a linear axis: all finite values of some fields over the table, and a margin."""
        low, high = self._range(*names)
        return [low - margin * (high - low), high + margin * (high - low)]

    def decades(self, *names: str, least: float = 0.0) -> list[float]:
        """Return a domain for a log axis: all positive values of some fields over the table, from ``least`` on."""
        low, high = self._range(*names, positive=True)
        return [max(low / 1.3, least), high * 1.3]

    def _range(self, *names, positive=False):
        """The least and the largest value that the fields take over the grid, at both ends of the smooth parameter."""
        ends = (0.0, self._smooth.maximum) if self._smooth else (0.0,)
        table, values = np.frombuffer(self._table, "<f4").astype(float), []
        for field in map(self._fields.__getitem__, names):
            stored = table[field["offset"] : field["offset"] + field["length"]]
            blocks = stored.reshape(-1, field["coefficients"], field["size"]).swapaxes(0, 1)
            values += [np.ravel(polynomial.polyval(at, blocks)) for at in ends]
        values = np.concatenate(values)
        values = values[np.isfinite(values) & ((values > 0) | (not positive))]
        return float(values.min()), float(values.max())

    def _text(self, name):
        parameter = next((p for p in self.parameters if p.name == name), None)
        if parameter is None:
            number = float(self.value(name)[0])
            words = self._spec["words"].get(name)
            return words[int(number)] if words else _format(number, whole=name in self._spec["whole"])
        value = getattr(self, name)
        if isinstance(parameter, Grid) and parameter.names:
            return parameter.names[self._index(parameter)]
        steps = f"{value:.{_decimals(parameter.step)}f}" if isinstance(parameter, Smooth) else ""
        return steps if steps and float(steps) == value else f"{float(f'{value:.4g}'):.12g}"

    @property
    def sentence(self) -> str:
        """What the page says below the views, with the numbers at the current parameters."""
        return re.sub(r"\{(\w+)\}", lambda match: self._text(match[1]), self._spec["sentence"])

    def controls(self) -> ipywidgets.VBox:
        """Return ipywidgets for the parameters, on the grid or off it, for a live notebook."""
        controls = []
        for p in self.parameters:
            start = getattr(self, p.name)
            if isinstance(p, Grid) and p.names:
                options = list(zip(p.names, p.values, strict=True))
                control = ipywidgets.Dropdown(options=options, value=start, description=p.symbol)
            else:
                low, high = (0.0, p.maximum) if isinstance(p, Smooth) else (p.least, min(p.most, 1e12))
                control = ipywidgets.BoundedFloatText(start, min=low, max=high, description=p.symbol)
            ipywidgets.link((control, "value"), (self, p.name))
            controls.append(control)
        return ipywidgets.VBox(controls)

    def picture(self) -> Figure:
        """Return the views at the current parameters as a matplotlib figure, for paper and pages without scripts."""
        views = self._spec["views"]
        cells = [view["title"] for view in views for _ in range(round(2 * view["share"]))]
        rows = [cells[i : i + 2] for i in range(0, len(cells), 2)]
        with matplotlib.rc_context(figures.STYLE):
            figure = Figure(figsize=(7.0, 2.9 * len(rows)))
            axes = figure.subplot_mosaic(rows)
            for view in views:
                self._draw(axes[view["title"]], view)
            handles = [Line2D([], [], label=row["label"], **_mark(row)) for row in self._spec["readout"]["rows"]]
            figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
        return figure

    def _draw(self, axes, view):
        for name in ("x", "y"):
            axis = view[name]
            getattr(axes, f"set_{name}scale")(axis["scale"])
            axes.set(**{f"{name}label": axis["label"], f"{name}lim": axis["domain"]})
            if "ticks" in axis:
                places, texts = zip(*axis["ticks"], strict=True)
                getattr(axes, f"set_{name}ticks")(places, texts)
                getattr(axes, f"set_{name}ticks")([], minor=True)  # on a short log axis these would be labelled too
        low, high = view["y"]["domain"]
        for layer in view["layers"]:
            color = figures.THEMES[layer["color"]][0]
            style = {"color": color, "alpha": layer.get("opacity", 1.0), "lw": layer.get("width", 1.8)}
            style["ls"] = "--" if "dash" in layer else "-"
            if layer["kind"] == "cursor":
                axes.axvline(self.value(layer["x"])[0], **style)
                continue
            y = self.value(layer["y"])
            if layer["kind"] == "rule":
                axes.axhline(y[0], **style)
                continue
            x = self.value(layer["x"])
            x = np.where(np.isinf(x), view["x"]["domain"][1], x)
            if layer["kind"] == "segments":
                axes.vlines(x, y, self.value(layer["y2"]), **style)
            elif layer["kind"] == "marks":
                y = np.where((low <= y) & (y <= high), y, np.nan)
                axes.plot(np.broadcast_to(x, y.shape), y, clip_on=False, zorder=3, **_mark(layer) | {"ls": "none"})
            else:
                axes.plot(x, y.reshape(-1, len(x)).T, **style)

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


def _without_bounds(parameter):
    """What the page needs of a parameter: its slider keeps to the table, and JSON knows no infinity."""
    return {name: value for name, value in parameter.items() if name not in ("least", "most", "whole")}


def _mark(layer):
    """The style of a layer's marks, and of its line in a legend, for matplotlib."""
    color = figures.THEMES[layer["color"]][0]
    fill = color if layer.get("symbol") == "disc" else "none"
    shape = {"disc": "o", "diamond": "D", "square": "s", "cross": "x", "bar": "_", None: ""}[layer.get("symbol")]
    stroke = {None: "none", "none": "-"}.get(layer.get("dash"), "--")
    return {"color": color, "marker": shape, "mfc": fill, "mew": 1.8, "ms": 6, "ls": stroke}


def _format(value, *, whole=False):
    """Three significant digits, as the page prints them; a count in full."""
    size = abs(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if whole and size < 1e6:
        return f"{value:.0f}".replace("-", "−")
    if size < 1e-6:
        return "<\u00a010⁻⁶"
    if 1e-3 <= size < 1e3:
        return f"{value:#.3g}".rstrip(".").replace("-", "−")
    digits, power = f"{value:.2e}".split("e")
    return f"{digits}·10{str(int(power)).translate(_RAISED)}".replace("-", "−")


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _decimals(step):
    return max(0, math.ceil(-math.log10(step) - 1e-9))
