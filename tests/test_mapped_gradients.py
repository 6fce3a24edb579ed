"""What differentiates, and what maps over problems, also does both at once: see `test_transformations.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.test_transformations import DIFFERENTIATED, ROUTES, arguments, value

# They take long to compile; the others stand for their derivative rules. infinite_width_flow is nine of kernel_flow's.
LONG = {"kernel_flow, energies", "kernel_flow, movement", "kernel_flow at", *kd.bounds.__all__} - {"displacement_norm"}
NAMES = [
    pytest.param(name, marks=pytest.mark.verify) if name in LONG else name
    for name in DIFFERENTIATED
    if name != "infinite_width_flow"
]


@pytest.mark.parametrize("name", NAMES)
def test_a_map_differentiates_as_its_problems_do(name):
    function, wrt, mapped = ROUTES[name]
    key = mapped if mapped in wrt else wrt[0]
    fixed, free = arguments("repeated")
    stack = jnp.stack([free[key] * factor for factor in (1.0, 0.5)])

    def loss(part):
        return jnp.sum(jnp.sin(value(function, fixed, free | {key: part})))

    together = jax.grad(lambda parts: jnp.sum(jax.vmap(loss)(parts)))(stack)
    alone = jnp.stack([jax.grad(loss)(part) for part in stack])
    assert jnp.all(jnp.isfinite(alone)) and jnp.any(alone != 0)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7 * max(1.0, float(jnp.max(jnp.abs(alone)))))
