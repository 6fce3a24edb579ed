"""The five answers of a diagnosis: each a few numbers, a sentence and a figure.

Book: chapter *Your own teacher*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # drawn on demand: matplotlib takes longer to import than all of kdlib
    from matplotlib.axes import Axes

# the gap of the outputs, relative to max(‖y‖, ‖f(0)‖), up to which the kernel flow stands for the network
_CLOSE, _ROUGH = 0.1, 0.3


def _axes(ax: Axes | None) -> Axes:
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax


@dataclass(frozen=True, eq=False)
class Regime:
    """Is this teacher in the kernel regime?

    Attributes
    ----------
    kappa, kappa_mixed : float
        √m max_k ‖φ_k - f_k(0)‖, and the same for a teacher whose units are in the wrong places.
    times : array, shape (T,)
        Gradient-flow times of the comparison: until a tenth of the way is left, but at most 1000/λ_max(M).
    flow, network : arrays, shape (T, n)
        Outputs of the kernel flow and of the trained network, in label units.
    gap : float
        Largest distance of the two over these times, relative to max(‖y‖, ‖f(0)‖).

    Examples
    --------
    >>> import numpy as np
    >>> from kdlib.answers import Regime
    >>> times, flow = np.array([0.0, 2.0]), np.array([[0.0], [1.0]])
    >>> answer = Regime(kappa=0.5, kappa_mixed=3.0, times=times, flow=flow, network=1.2 * flow, gap=0.2)
    >>> answer.holds
    False
    >>> print(answer.sentence)
    Kernel regime: roughly. Trained up to time 2, the network's outputs leave the kernel flow by 20.0%; kappa is 0.5,
    with the units mixed up 3.
    """

    kappa: float
    kappa_mixed: float
    times: np.ndarray
    flow: np.ndarray
    network: np.ndarray
    gap: float

    @property
    def holds(self) -> bool:
        """Whether the kernel flow stands for the network: the gap is at most 0.1."""
        return self.gap <= _CLOSE

    @property
    def sentence(self) -> str:
        """The answer in words."""
        verdict = "yes" if self.holds else "roughly" if self.gap <= _ROUGH else "no"
        return (
            f"Kernel regime: {verdict}. Trained up to time {self.times[-1]:.2g}, the network's outputs leave the "
            f"kernel flow by {self.gap:.1%}; kappa is {self.kappa:.3g}, with the units mixed up {self.kappa_mixed:.3g}."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the outputs of up to six samples over time, kernel flow and network.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            New ones by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from kdlib import figures

        ax, rows = _axes(ax), np.linspace(0, self.flow.shape[1] - 1, min(6, self.flow.shape[1])).astype(int)
        ax.plot(self.times, self.flow[:, rows], color=figures.STUDENT, label=["kernel flow", *[None] * (rows.size - 1)])
        ax.plot(
            self.times, self.network[:, rows], ".", color=figures.NETWORK, label=["network", *[None] * (rows.size - 1)]
        )
        ax.set(xlabel="gradient-flow time $t$", ylabel="output")
        ax.legend()
        return ax


@dataclass(frozen=True, eq=False)
class Capacity:
    """How much of this teacher can the student carry?

    Attributes
    ----------
    share : float
        ‖(I - P_k)(φ_k - f_k(0))‖ over ‖φ_k - f_k(0)‖, all units together.
    units : array, shape (m,)
        The same, unit by unit.
    output : float
        Distance of the carried teacher's output τ from the teacher's, relative to max(‖y‖, ‖f(0)‖).

    Examples
    --------
    >>> import numpy as np
    >>> from kdlib.answers import Capacity
    >>> print(Capacity(share=0.1, units=np.array([0.0, 0.2]), output=0.03).sentence)
    Capacity: 10.0% of the teacher's lead cannot be learnt by these units on these inputs; on the output that is 3.0%.
    """

    share: float
    units: np.ndarray
    output: float

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return (
            f"Capacity: {self.share:.1%} of the teacher's lead cannot be learnt by these units on these inputs; "
            f"on the output that is {self.output:.1%}."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the unlearnable share of every unit, sorted.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            New ones by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from kdlib import figures

        ax = _axes(ax)
        ax.plot(np.sort(self.units)[::-1], ".", color=figures.TEACHER)
        ax.axhline(self.share, color=figures.STUDENT, label="all units")
        ax.set(xlabel="unit, sorted", ylabel="unlearnable share", ylim=(-0.03, 1.03))
        ax.legend()
        return ax


@dataclass(frozen=True, eq=False)
class Strength:
    """Which λ?

    Attributes
    ----------
    best : float
        The strength with the least cross-validated error.
    time : float
        The gradient-flow time at which it is judged.
    strengths, errors : arrays, shape (s,)
        λ, and the mean square error on rows that were left out with labels and teacher.
    alone : float
        The same without a teacher, λ = 0.
    known : array, shape (s,)
        Mean square error, at the limit, on labels that were left out where the teacher's features stayed.

    All errors are in squared label units.

    Examples
    --------
    >>> import numpy as np
    >>> from kdlib.answers import Strength
    >>> strengths, errors = np.array([0.1, 1.0, 10.0]), np.array([0.3, 0.2, 0.4])
    >>> answer = Strength(best=1.0, time=100.0, strengths=strengths, errors=errors, alone=0.5, known=errors)
    >>> answer.helps
    True
    >>> print(answer.sentence)
    Strength: lambda = 1. At time 100 it misses rows left out by 0.2 in the mean square, no teacher by 0.5:
    the teacher helps, provided that it has not seen the labels left out.
    """

    best: float
    time: float
    strengths: np.ndarray
    errors: np.ndarray
    alone: float
    known: np.ndarray

    @property
    def helps(self) -> bool:
        """Whether the teacher improves on training without one."""
        return bool(self.errors.min() < self.alone)

    @property
    def sentence(self) -> str:
        """The answer in words."""
        end = " at the end of the range tried" if self.best in (self.strengths[0], self.strengths[-1]) else ""
        verdict = "helps" if self.helps else "does not help"
        return (
            f"Strength: lambda = {self.best:.2g}{end}. At time {self.time:.3g} it misses rows left out by "
            f"{self.errors.min():.3g} in the mean square, no teacher by {self.alone:.3g}: the teacher {verdict}, "
            "provided that it has not seen the labels left out."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the two cross-validated errors over λ.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            New ones by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from kdlib import figures

        ax = _axes(ax)
        ax.semilogx(self.strengths, self.errors, "o-", color=figures.STUDENT, label="row left out")
        ax.semilogx(self.strengths, self.known, "v-", color=figures.TEACHER, label="label left out")
        ax.axhline(self.alone, color=figures.LABELS, label="row left out, no teacher")
        ax.axvline(self.best, color=figures.LABELS, lw=0.8, ls=":")
        ax.set(xlabel=r"strength of the transfer $\lambda$", ylabel="mean square error")
        ax.set_ylim(bottom=0)
        ax.legend()
        return ax


@dataclass(frozen=True, eq=False)
class Speed:
    """How fast?

    Attributes
    ----------
    tenth, hundredth : float
        Gradient-flow times after which at most 10 % and 1 % of the way to the limit are left.
    rate, amplitude : float
        The slowest non-zero rate, in units of 1/time, and its mode's part of the outputs relative to the way.
    times, distances : arrays, shape (T,)
        Gradient-flow times, 0 first, and the distance of the outputs from their limit, relative to that at the start.

    Examples
    --------
    >>> import numpy as np
    >>> from kdlib.answers import Speed
    >>> times = np.array([0.0, 1.0, 10.0])
    >>> print(Speed(2.3, 4.6, rate=1.0, amplitude=1.0, times=times, distances=np.exp(-times)).sentence)
    Speed: within 10 % of the limit at time 2.3, within 1 % at 4.6;
    the slowest mode decays at rate 1.0e+00 and holds 1.0e+00 of the way.
    """

    tenth: float
    hundredth: float
    rate: float
    amplitude: float
    times: np.ndarray
    distances: np.ndarray

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return (
            f"Speed: within 10 % of the limit at time {self.tenth:.2g}, within 1 % at {self.hundredth:.2g}; "
            f"the slowest mode decays at rate {self.rate:.1e} and holds {self.amplitude:.1e} of the way."
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the distance from the limit over time.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            New ones by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from kdlib import figures

        ax = _axes(ax)
        ax.loglog(self.times[1:], self.distances[1:], color=figures.STUDENT)
        for level, time in ((0.1, self.tenth), (0.01, self.hundredth)):
            ax.plot([self.times[1], time, time], [level, level, 1e-4], ":", color=figures.LABELS, lw=1)
        ax.set(xlabel="gradient-flow time $t$", ylabel="way left to the limit", ylim=(1e-4, 2))
        return ax


@dataclass(frozen=True, eq=False)
class TestError:
    """What test error to expect?

    Attributes
    ----------
    error, alone : float
        Mean square error at λ and at λ = 0 at the time of :class:`Strength`, in squared label units.
    wrong : float or None
        Share of wrong signs at λ, where the labels are ±1.
    held_out : bool
        Whether this is on the file's own test rows; by cross-validation otherwise.
    outputs, labels : arrays, shape (rows,)
        The student's outputs at λ and the labels they are compared with.

    Examples
    --------
    >>> import numpy as np
    >>> from kdlib.answers import TestError
    >>> outputs, labels = np.array([0.8, 0.1]), np.array([1.0, -1.0])
    >>> print(TestError(0.625, alone=1.0, wrong=0.5, held_out=True, outputs=outputs, labels=labels).sentence)
    Test error: 0.625 in the mean square, 50.0% of the signs wrong; without a teacher 1 (2 test rows).
    """

    __test__ = False  # the name is not that of a test

    error: float
    alone: float
    wrong: float | None
    held_out: bool
    outputs: np.ndarray
    labels: np.ndarray

    @property
    def sentence(self) -> str:
        """The answer in words."""
        source = f"{self.labels.size} test rows" if self.held_out else "cross-validation, no test rows given"
        signs = "" if self.wrong is None else f", {self.wrong:.1%} of the signs wrong"
        return f"Test error: {self.error:.3g} in the mean square{signs}; without a teacher {self.alone:.3g} ({source})."

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw outputs against labels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            New ones by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from kdlib import figures

        ax = _axes(ax)
        jitter = np.random.default_rng(0).uniform(-0.1, 0.1, self.labels.size) if self.wrong is not None else 0.0
        ax.plot(self.labels + jitter, self.outputs, ".", color=figures.STUDENT, alpha=0.5)
        ends = np.array([self.labels.min(), self.labels.max()])
        ax.plot(ends, ends, color=figures.LABELS, lw=1)
        ax.set(xlabel="label", ylabel="output of the student")
        return ax
