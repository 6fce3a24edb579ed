"""What a bound says of itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdlib.bounds import Assumption, Bound

MET, MISSED = Assumption("λ > 0", True), Assumption("every H_k ≻ 0", False)


@pytest.mark.parametrize(
    ("bound", "holds", "informative", "text"),
    [
        (Bound("gap", 2.0, 1.0, [MET]), True, True, "gap: measured 1 ≤ 2"),
        (Bound("gap", 1.0, 2.0, [MET]), False, True, "gap: measured 2 > 1"),
        (Bound("gap", 50.0, 1.0), True, False, "gap: measured 1 ≤ 50; true but uninformative, a factor of 50 away"),
        (Bound("gap", 2.0, 1.0, trivial=1.5), True, False, "true but uninformative, a factor of 2 away"),
        (Bound("rate", 1.0, 2.0, below=True), True, True, "rate: measured 2 ≥ 1"),
        (Bound("rate", 2.0, 1.0, below=True), False, True, "rate: measured 1 < 2"),
        (Bound("rate", 0.0, 1.0, below=True), True, False, "a factor of inf away"),
        (Bound("gap", 1.0, 2.0, [MET, MISSED]), False, True, "gap: measured 2 > 1; not met: every H_k ≻ 0"),
        (Bound("gap", [2.0, 3.0], [1.0, 3.0]), True, True, "gap: 2 values measured, all ≤ their bound"),
        (Bound("gap", [2.0, 3.0], [1.0, 4.0]), False, True, "gap: 2 values measured, not all ≤ their bound"),
    ],
)
def test_a_bound_in_words(bound, holds, informative, text):
    assert bool(bound.holds) == holds and bool(bound.informative) == informative
    assert text in str(bound)
    assert bool(bound.met) == (MISSED not in bound.assumptions)


def test_rounding_is_no_crossing_and_slack_is_a_ratio():
    assert Bound("gap", 1.0, 1.0 + 1e-12).holds and not Bound("gap", 1.0, 1.0 + 1e-6).holds
    assert not Bound("gap", jnp.inf, jnp.nan).holds
    np.testing.assert_allclose(Bound("gap", [2.0, 0.0, 3.0], [1.0, 0.0, 0.0]).slack, [2.0, 1.0, np.inf])
