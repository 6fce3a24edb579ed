"""What an explorer draws, in a few dictionaries: views with axes and layers, and the rows of its read-out.

A *field* is an array that an explorer computes, called by its name; a colour is called by its *role*: student, teacher,
labels, bound, network or faint. Each function returns a ``Spec``, a dictionary that the front-end is told as JSON:
``static/explorer.js`` draws, and so does ``kdlib.explorer.Explorer.picture`` on paper.

Book: the explorers of all chapters.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Spec = dict[str, Any]


def axis(
    label: str,
    domain: Sequence[float] | np.ndarray,
    *,
    scale: str = "linear",
    ticks: Iterable[Sequence[Any]] | None = None,
    infinity: bool = False,
) -> Spec:
    """An axis from ``domain[0]`` to ``domain[1]``.

    With ``infinity`` a place for ∞ stands behind a log axis.

    Parameters
    ----------
    label : str
        With the unit, where there is one.
    domain : pair of floats
        The two ends.
    scale : {"linear", "log"}
        How places go with values.
    ticks : iterable of pairs (float, str), optional
        Places and their texts; by default the front-end chooses.
    infinity : bool

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.axis("time", [0.1, 10], scale="log")
    {'label': 'time', 'scale': 'log', 'domain': [0.1, 10.0]}
    """
    low, high = (float(end) for end in domain)
    drawn: Spec = {"label": label, "scale": scale, "domain": [low, high]}
    if ticks is not None:
        drawn["ticks"] = [[float(place), text] for place, text in ticks]
    return drawn | ({"infinity": True} if infinity else {})


def view(title: str, description: str, x: Spec, y: Spec, *layers: Spec, share: float = 1, height: int = 230) -> Spec:
    """A drawing: its title, what a screen reader says of it, two axes and layers.

    Parameters
    ----------
    title, description : str
    x, y : Spec
        Axes.
    *layers : Spec
        From back to front.
    share : float
        Of the width; 1 is all of it.
    height : int
        At most, in pixels.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> time, output = views.axis("t", [0, 1]), views.axis("f", [-1, 1])
    >>> drawing = views.view("Outputs", "One line, which rises.", time, output, views.line("t", "f", "student"))
    >>> [layer["kind"] for layer in drawing["layers"]]
    ['line']
    """
    return {
        "title": title, "description": description, "share": share, "height": height,
        "x": x, "y": y, "layers": list(layers),
    }  # fmt: skip


def line(x: str, y: str, color: str, *, dashed: bool = False, width: float = 1.8, opacity: float = 1.0) -> Spec:
    """Smooth lines through the field ``y`` over the field ``x``: one, or several where y has several times as many.

    Parameters
    ----------
    x, y : str
        Names of fields.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    dashed : bool
    width : float
        Of the line, in pixels.
    opacity : float
        From 0 to 1.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.line("t", "f", "student", dashed=True)["dash"]
    '5 4'
    """
    return _layer("line", color, dashed, x=x, y=y, width=width, opacity=opacity)


def curve(x: str, y: str, color: str, *, dashed: bool = False, width: float = 1.8, opacity: float = 1.0) -> Spec:
    """A smooth way from point to point of the plane, in their order; x may come back.

    Parameters
    ----------
    x, y : str
        Names of fields.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    dashed : bool
    width : float
        Of the line, in pixels.
    opacity : float
        From 0 to 1.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.curve("x", "y", "teacher", width=1.0)["width"]
    1.0
    """
    return _layer("curve", color, dashed, x=x, y=y, width=width, opacity=opacity)


def marks(x: str, y: str, color: str, symbol: str, *, opacity: float = 1.0) -> Spec:
    """A mark at each value; one x may serve all, and a ``"bar"`` is level.

    Parameters
    ----------
    x, y : str
        Names of fields.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    symbol : {"disc", "diamond", "square", "cross", "bar"}
    opacity : float
        From 0 to 1.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.marks("t", "y", "labels", "cross")["symbol"]
    'cross'
    """
    return _layer("marks", color, x=x, y=y, symbol=symbol, opacity=opacity)


def segments(x: str, y: str, y2: str, color: str, *, width: float = 1.8, opacity: float = 1.0) -> Spec:
    """Upright segments from ``y`` to ``y2``: residuals, error bars, stems.

    Parameters
    ----------
    x, y, y2 : str
        Names of fields.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    width : float
        Of the line, in pixels.
    opacity : float
        From 0 to 1.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.segments("t", "f", "y", "faint")["y2"]
    'y'
    """
    return _layer("segments", color, x=x, y=y, y2=y2, width=width, opacity=opacity)


def rule(y: str, color: str, *, dashed: bool = False, width: float = 1.8) -> Spec:
    """A level line at the one value of ``y``.

    Parameters
    ----------
    y : str
        Name of a field.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    dashed : bool
    width : float
        Of the line, in pixels.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.rule("limit", "bound")["color"]
    'bound'
    """
    return _layer("rule", color, dashed, y=y, width=width)


def cursor(x: str, color: str = "faint", *, dashed: bool = False, width: float = 1.8) -> Spec:
    """An upright line at the one value of ``x``.

    Parameters
    ----------
    x : str
        Name of a field.
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    dashed : bool
    width : float
        Of the line, in pixels.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.cursor("t")["color"]
    'faint'
    """
    return _layer("cursor", color, dashed, x=x, width=width)


def _layer(kind, color, dashed=False, **rest):
    return {"kind": kind, "color": color, **rest, **({"dash": "5 4"} if dashed else {})}


def row(
    label: str, color: str, *fields: str, symbol: str | None = None, solid: bool = False, dashed: bool = False
) -> Spec:
    """A row of the read-out, which is the legend as well: a name, its mark or line, a field or a text per column.

    Parameters
    ----------
    label : str
    color : str
        A role, a key of ``kdlib.figures.THEMES``.
    *fields : str
        Names of fields, or texts, one for each column.
    symbol : str, optional
        As of :func:`marks`.
    solid, dashed : bool
        Whether a line is drawn, and which.

    Returns
    -------
    Spec

    Examples
    --------
    >>> from kdlib import views
    >>> views.row("student", "student", "error", solid=True)["fields"]
    ['error']
    """
    entry: Spec = {"label": label, "color": color, "fields": list(fields)}
    if symbol:
        entry["symbol"] = symbol
    return entry | ({"dash": "5 4" if dashed else "none"} if solid or dashed else {})
