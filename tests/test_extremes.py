"""The corners that random problems of the claims are moved into are what their names say."""

import numpy as np
import pytest

import kdlib as kd
from tests.extremes import CORNERS, SCALES, SINGLES, STRENGTHS, TWINS, corner_of, extreme


def plain(activation, seed=0):
    rng = np.random.default_rng(seed)
    student = kd.TwoLayerNetwork(rng.normal(size=(3, 4)), rng.choice([-1.0, 1.0], 3), activation)
    x = rng.normal(size=(5, 4))
    return kd.TransferProblem(student, x, rng.normal(size=5), rng.normal(size=(3, 5)), lam=0.5)


def test_each_corner_meets_every_shape_that_is_drawn_in_turns():
    for turns in (2, 3, 4, 12):
        met = {(corner_of(seed), seed % turns) for seed in range(1000)}
        assert met >= {(corner, turn) for corner in CORNERS for turn in range(turns)}
    assert min(sum(corner_of(seed) == corner for seed in range(200)) for corner in CORNERS) >= 2


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf", "softplus"])
def test_the_corners_are_what_they_are_called(activation):
    problem = plain(activation)
    found = {corner_of(seed): extreme(problem, seed) for seed in range(77)}
    for seed in range(77):
        assert extreme(problem, seed, without=CORNERS) is problem
    assert found[None] is problem
    for corner, moved in found.items():
        # no corner moves the teacher nearer or further
        m, n = moved.phi.shape
        np.testing.assert_allclose(moved.feature_gap, problem.feature_gap[:m, :n], rtol=1e-12)
        assert moved.lam == STRENGTHS.get(corner, 0.5)
    for corner, size in SCALES.items():
        np.testing.assert_allclose(found[corner].x, size * problem.x)
        np.testing.assert_allclose(found[corner].phi, problem.phi, rtol=1e-9)
    for corner, sign in TWINS.items():
        np.testing.assert_array_equal(found[corner].x[-1], sign * found[corner].x[0])
    assert np.all(kd.unit_kernels(found["dead units"].student, found["dead units"].x) == 0)
    shapes = [(*found[corner].phi.shape, found[corner].x.shape[1]) for corner in SINGLES]
    assert shapes == [(1, 2, 3), (3, 1, 2), (2, 3, 1)]
