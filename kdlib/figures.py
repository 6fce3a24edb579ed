"""Figures of the book: one style, one colour for each role, one SVG for both themes of the page.

At the edge of the package: the core never imports this module. A chapter calls `use` in its first cell and then draws
with matplotlib as usual. The colours can be told apart with any of the common colour blindnesses; in print, draw
`LABELS` as points and `BOUND` dashed.
"""

import io
import re
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

# The colour on a light page, which is also the one to pass to matplotlib, and its partner on a dark page.
THEMES = {
    "student": ("#1b6ed3", "#93b7ff"),
    "teacher": ("#d03b00", "#f5701f"),
    "labels": ("#1f2328", "#e6edf3"),
    "bound": ("#0d8376", "#3ddc97"),
    "network": ("#75167d", "#d06fb8"),
    "faint": ("#8b949e", "#768390"),
}

STUDENT = THEMES["student"][0]
"""Colour of the student and of the kernel flow."""
TEACHER = THEMES["teacher"][0]
"""Colour of the teacher and of its privileged information."""
LABELS = THEMES["labels"][0]
"""Colour of the labels: that of the text."""
BOUND = THEMES["bound"][0]
"""Colour of a bound; draw it dashed."""
NETWORK = THEMES["network"][0]
"""Colour of the trained network where it stands beside the kernel flow."""

STYLE: dict[Any, Any] = {
    "figure.figsize": (7.0, 3.4),
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.prop_cycle": cycler(color=[STUDENT, TEACHER, LABELS, BOUND, NETWORK]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": THEMES["faint"][0],
    "grid.alpha": 0.3,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.hashsalt": "kdlib",  # the same figure is the same file in every build
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), LABELS),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
}


def use() -> None:
    """Draw from now on in the style of the book.

    Resets matplotlib to its defaults first, so that a figure does not depend on the reader's own settings. In a
    notebook, figures are shown as SVG that follows the theme of the page, with a PNG beside it for print.

    Examples
    --------
    >>> import kdlib as kd, matplotlib
    >>> with matplotlib.rc_context():  # until the end of this block only
    ...     kd.figures.use()
    ...     matplotlib.rcParams["figure.facecolor"]
    'none'
    """
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)
    shell = _notebook()
    if shell is not None:
        shell.run_line_magic("matplotlib", "inline")  # first: it sets a style and formatters of its own
        mpl.rcParams.update(STYLE)
        formatters = shell.display_formatter.formatters
        formatters["image/svg+xml"].for_type(Figure, to_svg)
        formatters["image/png"].for_type(Figure, to_png)


def to_svg(figure: Figure) -> str:
    """The figure as an SVG whose colours follow the theme of the page that shows it.

    Parameters
    ----------
    figure : Figure
        A matplotlib figure drawn with the colours of this module.

    Returns
    -------
    str
        The SVG; equal figures give equal strings.

    Examples
    --------
    >>> import kdlib as kd
    >>> from matplotlib.figure import Figure
    >>> "prefers-color-scheme: dark" in kd.figures.to_svg(Figure(figsize=(2, 1)))
    True
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    for role, (light, _) in THEMES.items():
        svg = svg.replace(light, f"var(--{role})")
    light, dark = ("".join(f"--{role}: {pair[i]}; " for role, pair in THEMES.items()) for i in (0, 1))
    themes = f"<style>svg {{ {light}}} @media (prefers-color-scheme: dark) {{ svg {{ {dark}}} }}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda opening: opening[0] + themes, svg, count=1)


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG on white, in the light theme's colours, for print.

    Parameters
    ----------
    figure : Figure
        A matplotlib figure.

    Returns
    -------
    bytes
        The PNG at 200 dots per inch.

    Examples
    --------
    >>> import kdlib as kd
    >>> from matplotlib.figure import Figure
    >>> kd.figures.to_png(Figure(figsize=(2, 1)))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, facecolor="white")
    return buffer.getvalue()


def _notebook():
    """The running notebook's shell, or None outside of a notebook."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None
