"""The mechanism of the explorers: a table computed by kdlib, one front-end that draws it.

At the edge of the package: the core never imports this module. An explorer

* has *grid* parameters, whose sliders snap to the points of a table, and at most one *smooth* parameter, in which
  every field is a polynomial, so that the table holds its coefficients and any value is exact: no number that an
  explorer shows is interpolated;
* computes its fields with kdlib, at build time on the grid and in a live kernel wherever its traits are set;
* says in a few dictionaries what to draw; ``static/explorer.js`` draws them all.

Book: the explorers of all chapters, which `kdlib.widgets` defines.
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
import matplotlib
import numpy as np
import traitlets
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.polynomial import polynomial

from kdlib import figures

_STATIC = Path(__file__).parent / "static"


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
    `describe`. A field of `constants` has shape (p, ...): the p coefficients of a polynomial in the smooth parameter,
    lowest first; p = 1 for a field that does not depend on it. `curves` takes arrays, one for each grid parameter and
    all of one length N, and returns fields of shape (N, p, ...).
    """

    _esm = (_STATIC / "explorer.js").read_text(encoding="utf-8")
    _css = (_STATIC / "explorer.css").read_text(encoding="utf-8")
    _spec = traitlets.Dict().tag(sync=True)
    _table = traitlets.Bytes().tag(sync=True)
    _live = traitlets.Dict().tag(sync=True)

    parameters: tuple[Grid | Smooth, ...] = ()
    curves: Callable[..., dict]
    """The fields at some points of the grid parameters, which it takes by name, on the grid or off it."""

    def constants(self) -> dict:
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
        constants = {name: np.asarray(value)[None] for name, value in self.constants().items()}
        points = np.array(list(itertools.product(*(p.values for p in self._grid))))
        rows = self._pack(self.curves(**dict(zip(self._names, points.T, strict=True))), constant=False)
        self._base, self._stride = self._pack(constants, constant=True).size, rows.shape[1]
        self._table = self._pack(constants, constant=True).tobytes() + rows.tobytes()
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
        """The fields as rows of the table, one for each point; notes where in a row each stands."""
        offset = 0
        blocks = [np.asarray(value, dtype="<f4") for value in fields.values()]
        for name, block in zip(fields, blocks, strict=True):
            coefficients, size = block.shape[1], math.prod(block.shape[2:])
            self._fields[name] = {"offset": offset, "size": size, "coefficients": coefficients, "constant": constant}
            offset += coefficients * size
        return np.concatenate([block.reshape(len(block), -1) for block in blocks], axis=1)

    def _recompute(self, _change=None):
        """Off the grid, compute the fields at the parameters' own values and send them."""
        here = {name: getattr(self, name) for name in self._names}
        if all(here[p.name] in p.values for p in self._grid):
            self._live = {}
        else:
            point = {name: np.array([value]) for name, value in here.items()}
            self._live = {"at": here, "record": self._pack(self.curves(**point), constant=False).tobytes()}

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
        value = getattr(self, name)
        steps = f"{value:.{_decimals(parameter.step)}f}" if isinstance(parameter, Smooth) else ""
        return steps if steps and float(steps) == value else f"{value:.4g}"

    @property
    def sentence(self) -> str:
        """What the page says below the views, with the numbers at the current parameters."""
        return re.sub(r"\{(\w+)\}", lambda match: self._text(match[1]), self._spec["sentence"])

    def controls(self) -> ipywidgets.VBox:
        """Return ipywidgets number boxes for the parameters, on the grid or off it, for a live notebook."""
        controls = []
        for p in self.parameters:
            top = p.maximum if isinstance(p, Smooth) else 1e12
            control = ipywidgets.BoundedFloatText(getattr(self, p.name), min=0.0, max=top, description=p.symbol)
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
