"""The explorer of the chapter *How much of the teacher is needed?*: which units a narrow student keeps."""

import jax
import jax.numpy as jnp
import numpy as np

from kdlib import datasets
from kdlib.explorer import Explorer, Grid, Value
from kdlib.limit import fixed_point
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.tickets import _basis_and_share, _end, _parts, greedy_order, lead_order
from kdlib.training import gradient_descent
from kdlib.views import axis, cursor, line, marks, row, rule, segments, view

_WIDTH, _SHOWN, _DRAWS, _TOLERANCE = 100, 10, 6, 0.1
_SIZES = np.arange(1, _WIDTH + 1)
_ALONG = ("ends", "losses", "dropped", "apart", "shares")  # what belongs to an order


class TicketsExplorer(Explorer):
    """What a ticket of m′ units loses, predicted, along three orders of the units and at several strengths.

    The chapter's problem: forty digits, eight labels flipped, a teacher of 100 units trained on the correct labels from
    the student's own start. Losses are those of `kdlib.ticket_losses`; output weights are kept.

    Attributes
    ----------
    units : float
        m′ from 1 to 100, the first units of the order.
    order : float
        0 at random, 1 by the size of the teacher's lead, 2 greedy.
    lam : float
        The strength λ > 0.
    """

    units = Value(38.0)
    order = Value(2.0)
    lam = Value(2.0)

    parameters = (
        Grid(
            "units", "m′", "units of the ticket", tuple(map(float, _SIZES)), (1, 20, 40, 60, 80, 100),
            least=1, most=_WIDTH, whole=True,
        ),
        Grid(
            "order", "order", "order of the units", (0.0, 1.0, 2.0), (0.0, 1.0, 2.0),
            names=("random", "by lead", "greedy"),
        ),
        Grid(
            "lam", "λ", "strength of the transfer", (0.1, 0.5, 2.0, 10.0), (0.1, 0.5, 2, 10), least=1e-3, most=1e3
        ),
    )  # fmt: skip

    def constants(self):
        self._problem = _problem()
        self._random = [np.random.default_rng(seed).permutation(_WIDTH) for seed in range(_DRAWS)]
        teacher = np.asarray(self._problem.student.output_weights) @ np.asarray(self._problem.phi)
        shown = np.linspace(0, len(teacher) - 1, _SHOWN).round().astype(int)
        self._shown = shown[np.lexsort((teacher[shown], np.asarray(self._problem.y)[shown]))]
        return {"size": _SIZES, "sample": np.arange(1, _SHOWN + 1), "tolerance": [_TOLERANCE]}

    def curves(self, *, units, order, lam):
        """The fields at each triple of m′, an order and a λ, of arrays of shape (N,)."""
        runs = {strength: self._run(strength) for strength in map(float, np.unique(lam))}

        def point(size, which, strength):
            run, count = runs[strength], int(size)
            at = count - 1
            ends, losses, dropped, apart, shares = (run[name][int(which)] for name in _ALONG)
            return {
                "here": [count],
                "loss": [losses[at]],
                "end": ends[at, self._shown],
                "wide": run["wide"][self._shown],
                "dropped": [dropped[at]],
                "apart": [apart[at]],
                "losses": losses,
                "shares": shares,
                "none": np.zeros(_WIDTH),
                "first": [np.argmax(losses <= _TOLERANCE) + 1],
                "random": run["random"],
                "random_mean": [run["random"][:, at].mean()],
                "random_first": [np.mean(np.argmax(run["random"] <= _TOLERANCE, axis=1) + 1)],
                "least": run["least"],
                "least_here": [run["least"][at]],
                "least_first": [np.argmax(run["least"] <= _TOLERANCE) + 1],
            }

        points = [point(*triple) for triple in zip(units, order, map(float, lam), strict=True)]
        return {name: np.stack([fields[name] for fields in points]) for name in points[0]}

    def _run(self, lam):
        """At one λ: the wide student's limit, and along every order what the tickets lose and what is dropped."""
        given = self._problem
        problem = TransferProblem(given.student, given.x, given.y, given.phi, lam=lam)
        limit, b, scale = fixed_point(problem), np.asarray(given.student.output_weights), float(given.scale)
        parts, wide = b[:, None] * np.asarray(limit.features), np.asarray(limit.outputs)
        orders = np.stack([self._random[0], lead_order(problem), greedy_order(problem), *self._random[1:]])
        ends = np.asarray(_ends(problem, orders))
        losses = np.linalg.norm(wide - ends, axis=2) / scale
        rest = wide - np.cumsum(parts[orders], axis=1)
        apart = np.sum(parts**2) - np.cumsum(np.sum(parts**2, axis=1)[orders], axis=1)
        along = parts @ wide / np.linalg.norm(wide)
        missing = np.linalg.norm(wide) - np.cumsum(np.sort(along)[::-1])
        least = lam / (lam + np.cumsum(np.sort(b**2)[::-1])) * np.maximum(missing, 0.0) / scale
        return {
            "wide": wide,
            "ends": ends,
            "losses": losses,
            "dropped": np.linalg.norm(rest, axis=2) / scale,
            "apart": np.sqrt(np.maximum(apart, 0.0)) / scale,
            "shares": along[orders] / np.linalg.norm(wide),
            "random": losses[[0, *range(3, len(orders))]],
            # once it has come down to 0 the bound says no more
            "least": np.where(np.arange(_WIDTH) > np.argmax(least == 0), np.nan, least),
        }

    def describe(self):
        size = axis("units m′ of the ticket", [0, _WIDTH])
        output = self.span("end", "wide")
        ticks = [(k, str(k)) for k in range(1, _SHOWN + 1)]
        return {
            "title": "Explorer: what a ticket loses",
            "claim": (
                "A ticket never loses more than its dropped units did together: sums count, not sizes. Here, of the "
                "three orders, the one that watches the sum needs the fewest units."
            ),
            "views": [
                view(
                    "Loss of the ticket",
                    "Relative loss against the number of units: this order, six random ones, the bound for all.",
                    size,
                    axis("relative loss", [0, 1.04 * self._range("losses", "random")[1]]),
                    line("size", "random", "faint", width=1.0, opacity=0.6),
                    rule("tolerance", "labels", dashed=True, width=1.0),
                    line("size", "least", "bound", dashed=True),
                    cursor("here"),
                    line("size", "losses", "student", width=2.2),
                    marks("here", "loss", "student", "disc"),
                    height=270,
                ),
                view(
                    "What each unit brings",
                    "Each unit's share of the wide student's output, along the order; those right of the line go.",
                    axis("place in the order", [0, _WIDTH]),
                    axis("share of the wide output", self.span("shares")),
                    cursor("here"),
                    segments("size", "none", "shares", "student", width=1.5),
                    share=0.5,
                ),
                view(
                    "Where it ends",
                    "The limits of the ticket and of the wide student on ten of the forty images.",
                    axis("image", [0.5, _SHOWN + 0.5], ticks=ticks),
                    axis("output at t = ∞", output),
                    segments("sample", "wide", "end", "faint"),
                    marks("sample", "wide", "student", "diamond"),
                    marks("sample", "end", "student", "disc"),
                    share=0.5,
                ),
            ],
            "readout": {
                "corner": "of 100 units",
                "columns": ["loss", "units for a tenth"],
                "rows": [
                    row("the ticket", "student", "loss", "first", symbol="disc", solid=True),
                    row("wide student", "student", "0", "100", symbol="diamond"),
                    row("mean of six random", "faint", "random_mean", "random_first", solid=True),
                    row("no ticket below", "bound", "least_here", "least_first", dashed=True),
                    row("a tenth", "labels", "tolerance", "", dashed=True),
                ],
            },
            "whole": ["first", "least_first"],
            "sentence": (
                "Keep m′ = {units} of 100 units ({order}) at λ = {lam}. At the wide student's end the others add "
                "{apart}, each for itself (root of the sum of their squares), and {dropped} together. Trained again "
                "without them, the ticket loses {loss}. This order first comes down to a tenth at {first} units."
            ),
        }


def _problem():
    """The chapter's problem at λ = 1, its teacher by short steps instead of the flow."""
    data = datasets.digits((0, 1), train=40)
    student = TwoLayerNetwork.init(jax.random.key(0), _WIDTH, data.x.shape[1])
    teacher = gradient_descent(TransferProblem(student, data.x, data.y, None, lam=0), 0.01, [500]).network
    return TransferProblem(student, data.x, datasets.flip(data.y, 8), teacher.features(data.x), lam=1.0)


@jax.jit
def _ends(problem, orders):
    """Limits of the tickets along each order, shape (orders, m, n)."""
    bases, shares = jax.lax.map(lambda unit: _basis_and_share(problem.x, *unit), _parts(problem))
    b, n = problem.student.output_weights, problem.x.shape[0]

    def along(order):
        def add(total, unit):
            basis, share, weight = unit
            mean, told = total[0] + weight**2 * basis @ basis.T, total[1] + share
            return (mean, told), _end(problem, mean, told, 1.0)

        start = jnp.zeros((n, n)), jnp.zeros(n)
        return jax.lax.scan(add, start, (bases[order], shares[order], b[order]))[1]

    return jax.lax.map(along, orders)


def tickets_explorer() -> TicketsExplorer:
    """Return the explorer of the chapter *How much of the teacher is needed?*, on that chapter's problem.

    Returns
    -------
    TicketsExplorer
        With the traits ``units``, ``order`` and ``lam``, to be set, observed and linked.
    """
    return TicketsExplorer()
