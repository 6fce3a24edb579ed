"""The explorer of the chapter *Kernels*: from the kernel of one random unit to that of infinitely many."""

import functools

import jax
import numpy as np

from kdlib import datasets
from kdlib.claims.kernels import SLOPE
from kdlib.explorer import Explorer, Grid, Value
from kdlib.kernels import limit_kernel, tangent_kernel
from kdlib.network import TwoLayerNetwork
from kdlib.views import axis, cursor, line, marks, row, view

_ACTIVATIONS = ("tanh", "relu", "erf")
_WIDTHS = tuple(2.0**k for k in range(13))
_MOST = 4096  # units
_DRAWS, _DRAWN = 16, 5  # networks in a root mean square, and those drawn one by one
_RANK = 1e-11  # eigenvalues below are zero but for rounding; those of the dozen points are far above


class KernelsExplorer(Explorer):
    """The tangent kernel of random networks, against the angle and on the dozen points, as their width m grows.

    A network of m units consists of the first m of the same 4096, so that a step of the slider adds units and keeps
    the old ones; at each m it is a network of independent N(0, I) weights.

    Attributes
    ----------
    m : float
        The width, a whole number from 1 to 4096 in a live kernel, a power of 2 in the page.
    activation : float
        0 for tanh, 1 for the ReLU, 2 for erf.
    """

    m = Value(16)
    activation = Value(1)

    parameters = (
        Grid("m", "m", "width", _WIDTHS, (1, 4, 16, 64, 256, 1024, 4096), least=1, most=_MOST, whole=True),
        Grid("activation", "σ", "activation", (0, 1, 2), (0, 1, 2), names=("tanh", "ReLU", "erf")),
    )

    def __init__(self):
        self._x = datasets.circle().x
        self._angles = np.linspace(0.0, np.pi, 73)
        self._around = np.stack([np.cos(self._angles), np.sin(self._angles)], axis=1)
        wide = TwoLayerNetwork.init(jax.random.key(0), _DRAWS * _MOST, 2)  # its units are independent
        self._weights = np.asarray(wide.weights).reshape(_DRAWS, _MOST, 2)
        self._of = functools.cache(self._of)  # one activation after the other, each once
        super().__init__()

    def _kernels(self, activation, widths):
        """Of every draw at each width: its kernel against the angle, and on the dozen points."""

        def of_one(weights, signs):
            net = TwoLayerNetwork(weights, signs, activation)
            return tangent_kernel(net, self._around[:1], self._around)[0], tangent_kernel(net, self._x)

        # The output weights of the units beyond m are zero: narrow networks in the shape of the widest.
        signs = np.sqrt(_MOST / widths)[:, None] * (np.arange(_MOST) < widths[:, None])
        of_all = jax.jit(lambda draws: jax.lax.map(lambda w: jax.vmap(of_one, (None, 0))(w, signs), draws))
        return [np.asarray(kernels) for kernels in of_all(self._weights)]

    def _of(self, activation):
        """The kernels at the widths of the table, and the limit kernel, each against the angle and on the points."""
        points, count = np.concatenate([self._around, self._x]), len(self._around)
        limit = np.asarray(limit_kernel(points, activation=activation))
        return *self._kernels(activation, np.array(_WIDTHS)), limit[0, :count], limit[count:, count:]

    def constants(self):
        return {
            "angle": np.degrees(self._angles),
            "number": np.arange(1.0, len(self._x) + 1),
            "widths": _WIDTHS,
            "every_width": np.tile(_WIDTHS, _DRAWN),
        }

    def at(self, *, m: float, activation: float):
        """The fields at one width and activation."""
        name = _ACTIVATIONS[int(activation)]
        curves, kernels, limit_curve, limit = self._of(name)
        here = (curves, kernels) if m in _WIDTHS else self._kernels(name, np.array([m]))
        curve, kernel = (of_all[:, _WIDTHS.index(m) if m in _WIDTHS else 0] for of_all in here)
        spectrum, limit_spectrum = (np.linalg.eigvalsh(matrix)[::-1] for matrix in (kernel[0], limit))

        def distances(of_some):
            return np.linalg.norm(of_some - limit, axis=(-2, -1)) / np.linalg.norm(limit)

        def bounds(width):
            size = SLOPE[name] ** 2 * np.linalg.norm(self._x @ self._x.T)
            return size / np.sqrt(width) / np.linalg.norm(limit)

        everywhere, now = distances(kernels), distances(kernel)
        return {
            "here": [m],
            "kernel": curve[0],
            "others": curve[1:_DRAWN],
            "limit": limit_curve,
            "spectrum": np.where(spectrum > _RANK, spectrum, np.nan),
            "least": np.where(spectrum > _RANK, spectrum, 0)[-1:] / limit_spectrum[-1],
            "limit_spectrum": limit_spectrum,
            "distance": now[:1],
            "rms": [np.sqrt(np.mean(now**2))],
            "bound": [bounds(m)],
            "distances": everywhere[:_DRAWN],
            "every_rms": np.sqrt(np.mean(everywhere**2, axis=0)),
            "bounds": bounds(np.array(_WIDTHS)),
            "rank": [np.sum(spectrum > _RANK)],
            "limit_rank": [np.sum(limit_spectrum > _RANK)],
        }

    def describe(self):
        width = axis("width m", [0.8, 1.3 * _MOST], scale="log", ticks=[[8.0**k, str(8**k)] for k in range(5)])
        angle = axis("angle between the inputs, degrees", [0, 180], ticks=[[k, str(k)] for k in range(0, 181, 30)])
        place = axis("number of the eigenvalue", [0.5, 12.5], ticks=[[k, str(k)] for k in range(1, 13, 2)])
        return {
            "title": "Explorer: from random to limit kernel",
            "claim": "In the plane the kernel of m random units has rank at most 2m; "
            "it scatters around its limit K like 1/√m.",
            "views": [
                view(
                    "Kernel and angle",
                    "The kernel between two unit vectors against the angle between them: of five random networks, "
                    "and of the infinitely wide one.",
                    angle,
                    axis("kernel", [-0.8, 1.05]),
                    line("angle", "others", "faint", width=1.2),
                    line("angle", "limit", "student", width=4, opacity=0.5),
                    line("angle", "kernel", "network"),
                    height=260,
                ),
                view(
                    "Distance to the limit",
                    "Distance of kernels on the dozen points from their limit against the width, with the bound.",
                    width,
                    axis("distance ‖H̄ − K‖ / ‖K‖", self.decades("distances", "bounds"), scale="log"),
                    cursor("here"),
                    line("widths", "bounds", "bound", dashed=True),
                    marks("every_width", "distances", "faint", "disc"),
                    marks("widths", "every_rms", "network", "cross"),
                    marks("here", "distance", "network", "disc"),
                    share=0.5,
                ),
                view(
                    "Eigenvalues",
                    "The eigenvalues of the kernel on the dozen points, beside those of the limit kernel.",
                    place,
                    axis("eigenvalue", self.decades("spectrum", "limit_spectrum", least=1e-8), scale="log"),
                    marks("number", "limit_spectrum", "student", "diamond"),
                    marks("number", "spectrum", "network", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "kernel on the dozen points",
                "columns": ["distance / ‖K‖", "rank"],
                "rows": [
                    row("one network", "network", "distance", "rank", symbol="disc", solid=True),
                    row("more draws", "faint", "", "", symbol="disc", solid=True),
                    row("root mean square", "network", "rms", "", symbol="cross"),
                    row("bound on it", "bound", "bound", "", dashed=True),
                    row("limit K", "student", "0", "limit_rank", symbol="diamond", solid=True),
                ],
            },
            "whole": ["rank", "limit_rank"],
            "sentence": (
                "At width m = {m} the kernel of {activation} units has rank {rank} on the dozen points and misses its "
                "limit by {distance} of the limit's norm; its least eigenvalue is {least} times the limit's. Over "
                "16 draws the root mean square of the miss is {rms}; the theorem bounds its expectation by {bound}."
            ),
        }


def kernels_explorer() -> KernelsExplorer:
    """Return the explorer of the chapter *Kernels*, on the circle's dozen points.

    It shows that the kernel of m random units has rank at most 2m on points of the plane, and scatters around its
    limit in proportion to m^(-1/2).

    Returns
    -------
    KernelsExplorer
        With the traits ``m`` and ``activation``, to be set, observed and linked.
    """
    return KernelsExplorer()
