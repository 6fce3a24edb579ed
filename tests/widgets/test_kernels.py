"""The explorer of *Kernels*: its kernels are those of networks of m units, and they go to K like 1/√m."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

ACTIVATIONS = ("tanh", "relu", "erf")


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.kernels_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(scope="module")
def weights():
    return np.asarray(kd.TwoLayerNetwork.init(jax.random.key(0), 16 * 4096, 2).weights).reshape(16, 4096, 2)


@pytest.mark.parametrize(("m", "activation"), [(1, 0), (1, 2), (8, 1), (64, 0), (1024, 1), (37, 2)])
def test_every_number_is_that_of_narrow_networks(explorer, weights, m, activation):
    explorer.m, explorer.activation = m, activation
    assert bool(explorer._live) == (m == 37)
    name, circle = ACTIVATIONS[activation], kd.datasets.circle(12)
    nets = [kd.TwoLayerNetwork(draw[:m], np.ones(m), name) for draw in weights]
    theta = np.linspace(0, np.pi, 73)
    first, others = np.array([[1.0, 0.0]]), np.stack([np.cos(theta), np.sin(theta)], axis=1)
    curves = [kd.tangent_kernel(net, first, others)[0] for net in nets[:5]]
    limit = np.asarray(kd.limit_kernel(circle.x, activation=name))
    kernels = [np.mean(kd.unit_kernels(net, circle.x), axis=0) for net in nets]
    misses = [np.linalg.norm(kernel - limit) / np.linalg.norm(limit) for kernel in kernels]
    expected = {
        "kernel": curves[0],
        "others": np.ravel(curves[1:]),
        "limit": kd.limit_kernel(first, others, activation=name)[0],
        "distance": misses[:1],
        "rms": [np.sqrt(np.mean(np.square(misses)))],
        "rank": [np.linalg.matrix_rank(kernels[0], tol=1e-11, hermitian=True)],
        "limit_rank": [np.linalg.matrix_rank(limit, tol=1e-11, hermitian=True)],
        "limit_spectrum": np.linalg.eigvalsh(limit)[::-1],
        "least": [max(np.linalg.eigvalsh(kernels[0])[0], 0.0) / np.linalg.eigvalsh(limit)[0]],
    }
    for field, value in expected.items():
        np.testing.assert_allclose(explorer.value(field), value, rtol=1e-4, atol=1e-6, err_msg=field)
    spectrum = np.linalg.eigvalsh(kernels[0])[::-1]
    seen = np.isfinite(explorer.value("spectrum"))
    np.testing.assert_allclose(explorer.value("spectrum")[seen], spectrum[seen], rtol=1e-4, atol=1e-12)
    if m in explorer.parameters[0].values:
        column = explorer.parameters[0].values.index(m)
        np.testing.assert_allclose(explorer.value("distances").reshape(5, -1)[:, column], misses[:5], rtol=1e-4)
        assert explorer.value("every_rms")[column] == pytest.approx(explorer.value("rms")[0])
        assert explorer.value("bounds")[column] == pytest.approx(explorer.value("bound")[0])


def test_near_in_norm_is_not_near_in_the_least_eigenvalue(explorer):
    """What the chapter says of 32 tanh units: within a tenth in norm, the least eigenvalue below a twentieth."""
    explorer.m, explorer.activation = 32, 0
    assert explorer.value("distance")[0] < 0.1
    assert explorer.value("least")[0] < 0.05


@pytest.mark.parametrize("activation", [0, 1, 2])
def test_the_rank_grows_by_two_with_each_unit(explorer, activation):
    explorer.activation = activation
    for m in explorer.parameters[0].values:
        explorer.m = m
        assert explorer.value("rank")[0] == min(12, 2 * m)
        assert np.isfinite(explorer.value("spectrum")).sum() == explorer.value("rank")[0]
    assert explorer.value("rank")[0] == explorer.value("limit_rank")[0] == 12  # at the largest width


@pytest.mark.parametrize("activation", [0, 1, 2])
def test_the_claim_holds_from_one_unit_to_the_largest_width(explorer, activation):
    """The bound of `kernel-concentration` at each width, and its rate: the slope over twelve doublings, to a tenth."""
    explorer.activation = activation
    widths, rms = np.array(explorer.parameters[0].values), explorer.value("every_rms")
    assert abs(np.polyfit(np.log(widths), np.log(rms), 1)[0] + 0.5) < 0.1
    assert np.all(rms <= explorer.value("bounds"))
    for m in (1, 4096):
        explorer.m = m
        nets = [kd.TwoLayerNetwork(draw[:m], np.ones(m), ACTIVATIONS[activation]) for draw in explorer._weights]
        kd.claims.kernel_concentration(nets, kd.datasets.circle(12).x).require()
        of_k = np.linalg.norm(kd.limit_kernel(kd.datasets.circle(12).x, activation=ACTIVATIONS[activation]))
        steepest = {"erf": 4 / np.pi}.get(ACTIVATIONS[activation], 1.0)  # B₁²; the Gram matrix of the circle's points
        gram = kd.datasets.circle(12).x @ kd.datasets.circle(12).x.T
        assert explorer.value("bound")[0] == pytest.approx(steepest * np.linalg.norm(gram) / np.sqrt(m) / of_k)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("m", 2.5, r"^m: expected a whole number from 1 to 4096; got 2\.5$"),
        ("m", 0.0, r"^m: expected a whole number from 1 to 4096; got 0\.0$"),
        ("activation", 3.0, r"^activation: expected one of 0 \(tanh\), 1 \(ReLU\), 2 \(erf\); got 3\.0$"),
    ],
)
def test_bad_values_are_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
