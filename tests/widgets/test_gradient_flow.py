"""The explorer of *Gradient flow*: its numbers are kdlib's; below the edge a gap of slope one, beyond it no rest."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

HORIZON = 4.0


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.gradient_flow_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def problem(lam):
    """That of the chapter."""
    data = kd.datasets.circle(12)
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 60, 2)
    alone = kd.TransferProblem(student, data.x, data.y, None, lam=0.0)
    teacher = kd.gradient_descent(alone, 0.1, np.array([60])).network
    return kd.TransferProblem(student, data.x, kd.datasets.flip(data.y, 2), teacher.features(data.x), lam=lam)


def edge(lam):
    """2 over the largest eigenvalue of the Hessian, in the form of `hessian-bounds` and at the end of other steps."""
    given = problem(lam)
    net = kd.gradient_descent(given, 0.06, np.array([10_000])).network
    x, y, phi, b = map(np.asarray, (given.x, given.y, given.phi, net.output_weights))
    f = np.asarray(net.features(given.x))
    residuals = b[:, None] * (y - b @ f) + lam * (phi - f)
    slopes, bends = 1 - f**2, -2 * f * (1 - f**2)  # of tanh
    jacobian = np.einsum("k,kn,nd->nkd", b, slopes, x).reshape(len(x), -1)
    hessian = jacobian.T @ jacobian
    blocks = np.einsum("kn,nd,ne->kde", lam * slopes**2 - residuals * bends, x, x)
    for k, block in enumerate(blocks):
        hessian[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += block
    return 2 / np.linalg.eigvalsh(hessian)[-1]


@pytest.mark.parametrize(("eta", "lam"), [(0.005, 0.25), (0.1, 1), (0.5, 4), (0.3, 1), (0.1, 0.7)])
def test_every_number_is_that_of_kdlib(explorer, eta, lam):
    explorer.eta, explorer.lam = eta, lam
    assert bool(explorer._live) == ((eta, lam) in [(0.3, 1), (0.1, 0.7)])
    given, count = problem(lam), int(round(HORIZON / eta, 6))
    run = kd.gradient_descent(given, eta, count)
    flow = kd.gradient_flow(given, [*explorer.times, count * eta])
    until = kd.gradient_flow(given, [0.0, count * eta])
    expected = {
        "flow": np.asarray(flow.outputs)[:-1, [1, 2, 8]].T.ravel(),
        "flow_energy": flow.energies[:-1],
        "gap": [np.linalg.norm(run.network.weights - until.network.weights)],
        "descent_end": run.energies[-1:],
        "flow_end": kd.gradient_flow(given, [HORIZON]).energies,
        "edge": [edge(lam)],
        "share": [eta / edge(lam)],
        "count": [count],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=5e-4, atol=1e-6, err_msg=name)
    shown = explorer.value("descent").reshape(3, -1)
    steps = np.round(explorer.value("step_time") / eta).astype(int)
    seen = steps <= count
    assert np.array_equal(np.isfinite(shown), np.broadcast_to(seen, shown.shape))
    assert steps[0] == 0 and len(set(np.diff(steps))) == 1
    np.testing.assert_allclose(shown[:, seen], np.asarray(run.outputs)[steps[seen]][:, [1, 2, 8]].T, atol=1e-5)
    energies = explorer.value("descent_energy")[seen]
    np.testing.assert_allclose(energies, np.asarray(run.energies)[steps[seen]], rtol=1e-5)


@pytest.mark.parametrize("lam", [0.25, 4.0])
def test_below_the_edge_the_gap_is_in_proportion_to_the_step(explorer, lam):
    """Slope one over the shortest steps to 0.03, as in the chapter; a twentieth of the edge off by at most a tenth."""
    explorer.lam = lam
    steps, gaps = np.array(explorer.parameters[0].values), explorer.value("gaps")
    assert abs(np.polyfit(np.log(steps[:3]), np.log(gaps[:3]), 1)[0] - 1) < 0.03
    small = steps < explorer.value("edge")[0] / 5
    np.testing.assert_allclose(gaps[small], explorer.value("in_proportion")[small], rtol=0.1)
    beyond = steps > 1.2 * explorer.value("edge")[0]
    assert np.all(gaps[beyond] > 100 * explorer.value("in_proportion")[beyond])
    assert beyond.any() == (lam == 4.0)
    for eta, gap in zip(steps[[0, -1]], gaps[[0, -1]], strict=True):
        explorer.eta = eta
        assert explorer.value("gap")[0] == pytest.approx(gap)


@pytest.mark.parametrize(
    ("eta", "lam", "fate"), [(0.005, 0.25, 0), (0.005, 4, 0), (0.5, 0.25, 1), (0.2, 1, 1), (0.5, 4, 2), (4 / 14, 1, 2)]
)
def test_what_it_says_of_the_end_is_what_descent_does(explorer, eta, lam, fate):
    """Late energies stand still to 1e-4 exactly when the step is below the edge."""
    explorer.eta, explorer.lam = eta, lam
    assert explorer.value("fate")[0] == fate
    assert ("settles", "overshoots but settles", "does not settle")[fate] in explorer.sentence
    if fate == 2:
        assert explorer.value("descent_end")[0] > 1.5 * explorer.value("flow_end")[0]
    late = kd.gradient_descent(problem(lam), eta, np.array([9998, 9999, 10_000]))
    assert (np.ptp(late.energies) < 1e-4) == (fate < 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("eta", 0.0, r"^eta: expected a finite number from 0\.002 to 1; got 0\.0$"),
        ("lam", 0.0, r"^lam: expected a finite number from 0\.25 to 10; got 0\.0$"),
    ],
)
def test_bad_values_are_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
