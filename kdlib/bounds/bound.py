"""What every bound returns.

Book: chapter *How fast*, where the first bounds stand.
"""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.validation import ArrayLike


class Assumption(eqx.Module):
    """A hypothesis of a bound, and whether this problem meets it: None where its arguments cannot tell.

    Examples
    --------
    >>> from kdlib.bounds import Assumption
    >>> Assumption("λ > 0", True).met
    True
    >>> print(Assumption("i.i.d. sample", None).met)  # nobody can see that of the numbers
    None
    """

    statement: str = eqx.field(static=True)
    met: bool | jax.Array | None


def followed(name, *paths):
    """The assumption that trajectories are as accurate as they say: what is measured on them rests on it."""
    converged = jnp.all(jnp.asarray([path.converged for path in paths]))
    return Assumption(f"{name} converged", converged)


class Bound(eqx.Module):
    r"""A bound beside the quantity that it bounds.

    Parameters
    ----------
    name : str
        What is bounded, for the sentence that ``str`` gives.
    value : array
        The bound.
    measured : array, of the same shape
        The quantity itself, computed on a route that does not use the bound.
    assumptions : tuple of Assumption
        The hypotheses of the theorem, each with whether it is met, or None where it is taken on trust. Where all are,
        ``holds`` is a theorem.
    below : bool
        Whether ``value`` bounds from below; from above otherwise.
    trivial : array, optional
        The bound that everybody knows without the theorem. One that does not beat it is uninformative.
    error : array, optional
        How far ``measured`` may be off, by the accuracy of its route; 0 by default.

    Examples
    --------
    >>> from kdlib.bounds import Assumption, Bound
    >>> bound = Bound("the rate", 1e-7, 2e-3, [Assumption("λ > 0", True)], below=True)
    >>> bool(bound.holds), bool(bound.informative)
    (True, False)
    >>> print(bound)
    the rate: measured 0.002 ≥ 1e-07; true but uninformative, a factor of 2e+04 away
    """

    name: str = eqx.field(static=True)
    value: jax.Array
    measured: jax.Array
    assumptions: tuple[Assumption, ...]
    below: bool = eqx.field(static=True)
    trivial: jax.Array
    error: jax.Array

    # A bound further away than this says little, even where it is true.
    LOOSE = 10.0

    def __init__(
        self,
        name: str,
        value: ArrayLike,
        measured: ArrayLike,
        assumptions: Iterable[Assumption] = (),
        *,
        below: bool = False,
        trivial: ArrayLike | None = None,
        error: ArrayLike = 0.0,
    ):
        self.name, self.below, self.assumptions = name, below, tuple(assumptions)
        self.value, self.measured = jnp.asarray(value), jnp.asarray(measured)
        nothing = 0.0 if below else jnp.inf
        # of the value's shape, so that a map over bounds keeps entry beside entry
        shape, dtype = self.value.shape, self.value.dtype
        self.trivial = jnp.broadcast_to(jnp.asarray(nothing if trivial is None else trivial, dtype), shape)
        self.error = jnp.broadcast_to(jnp.asarray(error, dtype), shape)

    @property
    def holds(self) -> jax.Array:
        """Whether all of the measured quantity keeps to the bound, up to its error and the square root of rounding."""
        low, high = (self.value, self.measured) if self.below else (self.measured, self.value)
        larger = jnp.maximum(jnp.abs(low), jnp.where(jnp.isfinite(high), jnp.abs(high), 0))
        return jnp.all(low <= high + self.error + jnp.sqrt(jnp.finfo(self.value.dtype).eps) * larger)

    @property
    def met(self) -> jax.Array:
        """Whether all assumptions are met, but for those that are taken on trust."""
        judged = [jnp.all(assumption.met) for assumption in self.assumptions if assumption.met is not None]
        return jnp.all(jnp.asarray([True, *judged]))

    @property
    def slack(self) -> jax.Array:
        """How many times the bound is away from the measured quantity: 1 where it is attained, entry by entry.

        Infinite where the lower side is not positive: there is no ratio to it.
        """
        low, high = (self.value, self.measured) if self.below else (self.measured, self.value)
        ratio = jnp.maximum(high, 0.0) / jnp.where(low > 0, low, 1.0)
        return jnp.where(low == high, 1.0, jnp.where(low > 0, ratio, jnp.inf))

    @property
    def informative(self) -> jax.Array:
        """Whether the bound beats the trivial one and is within a factor of ten of the truth, somewhere."""
        beats = self.value > self.trivial if self.below else self.value < self.trivial
        return jnp.any(beats & (self.slack <= self.LOOSE))

    def __str__(self) -> str:
        missed = [known.statement for known in self.assumptions if known.met is not None and not jnp.all(known.met)]
        kept, crossed = ("≥", "<") if self.below else ("≤", ">")
        if self.value.ndim == 0:
            numbers = f"measured {float(self.measured):.3g} {kept if self.holds else crossed} {float(self.value):.3g}"
        else:
            numbers = f"{self.value.size} values measured, {'all' if self.holds else 'not all'} {kept} their bound"
        parts = [f"{self.name}: {numbers}"]
        if missed:
            parts.append(f"not met: {', '.join(missed)}")
        elif self.holds and not self.informative:
            parts.append(f"true but uninformative, a factor of {float(jnp.min(self.slack)):.2g} away")
        return "; ".join(parts)
