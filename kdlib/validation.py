"""The boundary: what comes in from a caller is checked here, once, with an error that says what to do.

Shapes are checked always; values only where they are known, so that ``jit``, ``grad`` and ``vmap``
pass through.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing
from jax.core import Tracer

# what a caller may pass for an array
ArrayLike = numpy.typing.ArrayLike | jax.Array


def is_concrete(*values):
    """Whether every value is known now, rather than traced by ``jit``, ``grad`` or ``vmap``."""
    return not any(isinstance(value, Tracer) for value in values)


def known_now(name, value, why):
    """Raise `ValueError` where a part of ``value`` is traced, by ``jit``, ``grad`` or ``vmap``."""
    if not is_concrete(*jax.tree.leaves(value)):
        raise ValueError(f"{name}: expected values that are known now, {why}; got some traced by jit, grad or vmap")


def describe_shape(shape):
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"


def real_array(name, value, axes, *, finite=True) -> jax.Array:
    """Return ``value`` as a floating-point array, or raise a `ValueError` that names it.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : array_like
        What the caller passed.
    axes : tuple of (str, int or None)
        Each axis' name and, where it is fixed, its length: ``(("n", None), ("d", 3))``.
    finite : bool
        Whether NaN and infinities are errors.
    """
    if not isinstance(value, jax.Array):
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise _unexpected(name, axes, "nested sequences of unequal length") from error
    if value.dtype.kind == "c":
        raise _unexpected(name, axes, f"complex numbers ({value.dtype})")
    if value.dtype.kind not in "fiub" and not jnp.issubdtype(value.dtype, jnp.floating):
        raise _unexpected(name, axes, f"{value.dtype} values")
    if len(value.shape) != len(axes) or any(size not in (None, got) for (_, size), got in zip(axes, value.shape)):
        raise _unexpected(name, axes, f"shape {describe_shape(value.shape)}")
    for (label, _), got in zip(axes, value.shape):
        if got == 0:
            came = f"shape {describe_shape(value.shape)}, empty along {label}"
            raise _unexpected(name, axes, came, " with at least one entry on every axis")
    if finite and is_concrete(value):
        # an array of which other processes hold parts is judged where it lies: all of them come to one verdict
        held = not isinstance(value, jax.Array) or value.is_fully_addressable
        bad = ~np.isfinite(np.asarray(value, dtype=np.float64)) if held else ~jnp.isfinite(value)
        if bad.any():
            first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
            where = f" at index {first}" if axes else ""
            raise ValueError(
                f"{name}: expected finite values; got {value[first]}{where} ({int(bad.sum())} of {bad.size} not finite)"
            )
    array = value if isinstance(value, jax.Array) else jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _unexpected(name, axes, came, more=""):
    """The error that says which array was expected and what came."""
    shape = describe_shape([label if size is None else f"{label}={size}" for label, size in axes])
    what = f"a real array of shape {shape}" if axes else "a real number"
    return ValueError(f"{name}: expected {what}{more}; got {came}")


def non_negative(name, value):
    """Return the scalar ``value`` as a real array, or raise unless it is at least zero."""
    value = real_array(name, value, ())
    if is_concrete(value) and float(value) < 0:
        raise ValueError(f"{name}: expected a number that is at least 0; got {float(value)}")
    return value


def time_array(times, *, allow_inf):
    """Return ``times`` as a one-dimensional array, or raise unless all are at least zero."""
    times = real_array("times", times, (("T", None),), finite=False)
    if is_concrete(times):
        values = np.asarray(times)
        if np.isnan(values).any():
            raise ValueError(f"times: expected numbers; got NaN at index {int(np.argmax(np.isnan(values)))}")
        if (values < 0).any():
            at = int(np.argmax(values < 0))
            raise ValueError(f"times: expected times that are at least 0; got {values[at]} at index {at}")
        if not allow_inf and np.isinf(values).any():
            raise ValueError(
                "times: expected finite times, since the network itself is integrated; got inf. "
                "The limit of the frozen-kernel system is fixed_point(problem)"
            )
    return times


def positive_integer(name, value):
    """Return ``value`` as an int, or raise a `ValueError` that names it."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise ValueError(f"{name}: expected a positive integer; got {value!r}")
    return value.__index__()


def random_key(key):
    """Return the key of a random draw, of the new type or the old, or raise a `ValueError`."""
    if not isinstance(key, jax.Array) or not (
        key.dtype == jnp.uint32 or jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    ):
        raise ValueError(f"key: expected a key such as jax.random.key(0); got {key!r}")
    return key
