"""Checkers of the book's statements, one function for each theorem, lemma, proposition and corollary.

A statement with the label ``some-label`` in the chapter ``some-chapter`` has its checker
``kdlib.claims.some_label`` in the module ``kdlib/claims/some_chapter.py``.  It takes the objects of
the statement, computes both sides on two independent routes and returns a `Check`.  The chapter's
cell and the test over random problems call the same checker; the page "Claims" lists the results.

Every public function defined in a module of this package is a checker, and is found here by itself.
"""

import importlib
import inspect
import math
import pkgutil
from dataclasses import dataclass

import numpy as np

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """How far the two sides of a statement are apart, and how far they may be.

    Parameters
    ----------
    label : str
        The statement's label in the book, ``"some-label"``.
    error : float
        Worst discrepancy between the two routes, as a fraction of the scale.  A discrepancy that is
        not a number counts as infinite.
    tolerance : float
        The largest error with which the statement counts as confirmed, positive.
    part : str
        Which part of the statement this is, where it has several.

    Examples
    --------
    >>> from kdlib.claims import Check
    >>> Check.compare("some-label", [1.0, 2.002], [1.0, 2.0], 1e-2)
    some-label: holds, error 0.001, tolerance 0.01, margin 10
    >>> Check.at_most("some-label", [0.0, 2.5], 2.0, 1e-9).holds
    False
    """

    label: str
    error: float
    tolerance: float
    part: str = ""

    def __post_init__(self):
        error, tolerance = float(self.error), float(self.tolerance)
        if not (math.isfinite(tolerance) and tolerance > 0):
            raise ValueError(f"tolerance must be a positive finite number, got {self.tolerance}")
        if error < 0:
            raise ValueError(f"error must not be negative, got {self.error}")
        object.__setattr__(self, "error", math.inf if math.isnan(error) else error)
        object.__setattr__(self, "tolerance", tolerance)

    @classmethod
    def compare(cls, label, computed, reference, tolerance, scale=None, part=""):
        """Check of an equality, ``computed = reference``.

        ``error = max |computed − reference| / scale``

        Parameters
        ----------
        computed, reference : arrays of one shape
            The two sides, from independent routes.
        scale : float, optional
            What the discrepancy is measured against; by default ``max |reference|``.  Give it where the
            reference may vanish: against zero nothing but zero itself agrees.
        """
        computed, reference = _same_shape(computed, reference)
        with np.errstate(invalid="ignore"):
            discrepancy = np.abs(computed - reference)
        return cls(label, _relative(discrepancy, reference, scale), tolerance, part)

    @classmethod
    def at_most(cls, label, quantity, bound, tolerance, scale=None, part=""):
        """Check of an inequality, ``quantity <= bound``, entry by entry.

        error = max (quantity − bound)₊ / scale, so that slack makes no error at all.

        Parameters
        ----------
        quantity, bound : real arrays of one shape; a scalar bound holds for all entries
        scale : float, optional
            What the excess is measured against; by default ``max |bound|``.
        """
        quantity, bound = np.asarray(quantity), np.asarray(bound)
        if bound.ndim == 0:
            bound = np.full(quantity.shape, bound)
        quantity, bound = _same_shape(quantity, bound)
        return cls(label, _relative(np.maximum(quantity - bound, 0), bound, scale), tolerance, part)

    @classmethod
    def worst(cls, *checks):
        """The check with the smallest margin, for a statement of several parts."""
        if not checks:
            raise ValueError("checks must hold at least one Check, got none")
        return min(checks, key=lambda check: check.margin)

    @property
    def margin(self):
        """tolerance / error: at least 1 where the statement holds, infinite for an exact agreement."""
        return math.inf if self.error == 0 else self.tolerance / self.error

    @property
    def holds(self):
        return self.error <= self.tolerance

    def require(self):
        """Return the check itself where it holds; raise AssertionError where it does not."""
        if not self.holds:
            raise AssertionError(str(self))
        return self

    def __repr__(self):
        name = f"{self.label} ({self.part})" if self.part else self.label
        verdict = "holds" if self.holds else "FAILS"
        return f"{name}: {verdict}, error {self.error:.2g}, tolerance {self.tolerance:.2g}, margin {self.margin:.3g}"


def _same_shape(left, right):
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        raise ValueError(f"the two sides must have one shape, got {left.shape} and {right.shape}")
    if left.size == 0:
        raise ValueError(f"the two sides must hold at least one number, got shape {left.shape}")
    return left, right


def _relative(discrepancy, reference, scale):
    worst = float(np.max(discrepancy))
    scale = float(np.max(np.abs(reference)) if scale is None else scale)
    # nan and inf on either side are no agreement, whatever the scale
    if not math.isfinite(worst) or not math.isfinite(scale):
        return math.inf
    if worst == 0:
        return 0.0
    return worst / scale if scale > 0 else math.inf


def _collect():
    for entry in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        for name, checker in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or checker.__module__ != module.__name__:
                continue
            if name in __all__:
                raise ImportError(f"two checkers are named {name}: labels must be unique in the book")
            # a checker may have its chapter's name, and then stands for it here
            globals()[name] = checker
            __all__.append(name)


_collect()
