"""The explorer of *Transfer*: its numbers are kdlib's, and a larger λ trades label error for distance."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

GRID = [(0.03, 0.0), (1.0, 30.0), (30.0, 5000.0)]
OFF_GRID = [(0.37, 33.0), (100.0, 4999.0)]


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.transfer_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(scope="module")
def problems():
    """The chapter's two training sets, in the order in which they are drawn: +1 before −1 of the correct labels."""

    def taught(data):
        student = kd.TwoLayerNetwork.init(jax.random.key(0), 60, data.x.shape[1])
        alone = kd.TransferProblem(student, data.x, data.y, None, lam=0.0)
        phi = kd.gradient_descent(alone, 0.1, np.array([60])).network.features(data.x)
        order = [*np.flatnonzero(data.y > 0), *np.flatnonzero(data.y < 0)]
        y = kd.datasets.flip(data.y, 2)
        return lambda lam: kd.TransferProblem(student, data.x[order], y[order], np.asarray(phi)[:, order], lam=lam)

    return taught(kd.datasets.circle(12)), taught(kd.datasets.digits((3, 8), train=12))


def expected(problem, step):
    """From the network after so many steps; the best fit by least squares, as the chapter's checker finds it."""
    lam, y, phi = float(problem.lam), np.asarray(problem.y), np.asarray(problem.phi)
    eta = 1 / ((1 + lam) * np.linalg.norm(problem.x, 2) ** 2)
    network = kd.gradient_descent(problem, eta, np.array([step])).network
    features, b = np.asarray(network.features(problem.x)), np.asarray(network.output_weights)
    rows = np.vstack([b[None, :], np.sqrt(lam) * np.eye(len(b))])
    best = np.linalg.lstsq(rows, np.vstack([y[None, :], np.sqrt(lam) * phi]))[0]
    residuals = b[:, None] * (y - b @ features) + lam * (phi - features)  # r_k, with a = 1
    budget = np.linalg.norm(y - b @ phi)
    misfits = [(np.linalg.norm(y - b @ f) / budget, np.linalg.norm(phi - f) / budget) for f in (features, best)]
    return {
        "labels": y,
        "teacher": b @ phi,
        "output": network(problem.x),
        "best": b @ best,
        "left": b @ residuals / (1 + lam),
        "left_size": [np.sqrt(np.mean((b @ residuals / (1 + lam)) ** 2))],
        "energy": [problem.energy(network)],
        "label_energy": [np.sum((y - b @ features) ** 2) / 2],
        "teacher_energy": [lam * np.sum((phi - features) ** 2) / 2],
        "floor": [np.sum((y - b @ best) ** 2) / 2 + lam * np.sum((phi - best) ** 2) / 2],
        "label_misfit": misfits[0][:1],
        "teacher_misfit": misfits[0][1:],
        "both": [sum(misfits[0])],
        "label_share": misfits[1][:1],
        "teacher_share": misfits[1][1:],
    }


@pytest.mark.parametrize("data", [0, 1])
@pytest.mark.parametrize(("lam", "step"), GRID + OFF_GRID)
def test_every_number_is_that_of_kdlib(explorer, problems, lam, step, data):
    explorer.lam, explorer.step, explorer.data = lam, step, data
    assert bool(explorer._live) == ((lam, step) in OFF_GRID)
    for name, value in expected(problems[data](lam), int(step)).items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("data", [0, 1])
@pytest.mark.parametrize("lam", [0.03, 30.0])
def test_the_parts_of_the_energy_and_the_pulls_add_up(explorer, lam, data):
    explorer.lam, explorer.data = lam, data
    for step in (0.0, 5000.0):
        explorer.step = step
        pulls = explorer.value("label_pull") + explorer.value("teacher_pull")
        np.testing.assert_allclose(pulls, explorer.value("left"), atol=1e-5)
        np.testing.assert_allclose(explorer.value("output") + pulls, explorer.value("best"), atol=1e-5)
        which = list(explorer.parameters[1].values).index(step)
        for part in ("label", "teacher"):
            assert explorer.value(f"{part}_energies")[which] == pytest.approx(explorer.value(f"{part}_energy")[0])
    np.testing.assert_allclose(
        explorer.value("label_energies") + explorer.value("teacher_energies"), explorer.value("energies"), rtol=1e-5
    )


@pytest.mark.parametrize("data", [0, 1])
def test_the_claim_holds_from_the_least_to_the_largest_strength(explorer, data):
    """Trained to the end: more label error and less distance, λ by λ, by more than the table's accuracy."""
    explorer.data, explorer.step = data, 5000.0
    labels, teacher = [], []
    for lam in explorer.parameters[0].values:
        explorer.lam = lam
        labels.append(explorer.value("label_misfit")[0])
        teacher.append(explorer.value("teacher_misfit")[0])
    assert np.all(np.diff(labels) > 1e-5)
    assert np.all(np.diff(teacher) < -1e-5)
    np.testing.assert_allclose(explorer.value("ends"), labels, rtol=1e-5)
    np.testing.assert_allclose(explorer.value("ends_up"), teacher, rtol=1e-5)


@pytest.mark.parametrize("data", [0, 1])
def test_no_student_lies_below_the_line_or_the_floor(explorer, data):
    explorer.data = data
    for lam in explorer.parameters[0].values:
        explorer.lam = lam
        assert np.all(explorer.value("way") + explorer.value("way_up") >= 1 - 1e-6)
        assert np.all(explorer.value("energies") >= explorer.value("floor") * (1 - 1e-6))


def test_units_of_two_parameters_stop_above_the_floor(explorer):
    """Where it breaks: at a weak strength the circle's student stays far from the best fit; on digits not."""
    explorer.step, above = 5000.0, []
    for data, lam in ((0, 0.1), (1, 0.1), (0, 30.0), (1, 30.0)):
        explorer.data, explorer.lam = data, lam
        above.append(explorer.value("energy")[0] / explorer.value("floor")[0])
    assert above[0] > 4
    assert above[1] < 1.2
    assert max(above[2:]) < 1.03


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", 0.0, r"^lam: expected a finite number from 0\.01 to 100; got 0\.0$"),
        ("step", 2.5, r"^step: expected a whole number from 0 to 5000; got 2\.5$"),
        ("data", 2.0, r"^data: expected one of 0 \(circle\), 1 \(digits\); got 2\.0$"),
    ],
)
def test_bad_values_are_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)


def test_weak_transfer_turns_back_from_the_teacher(explorer):
    """What the chapter asks its readers to predict, on the circle, and where it says the student ends."""
    explorer.step = 5000.0
    explorer.data, explorer.lam = 0, 0.03
    way = explorer.value("way_up")
    assert 1.5 * way.min() < way[0] < way[-1] / 1.5
    explorer.lam = 1.0
    way = explorer.value("way_up")
    assert 1.05 * way.min() < way[-1] < 1.2 * way.min() < way[0]
    for lam in explorer.parameters[0].values:
        explorer.data, explorer.lam = 1, lam
        assert 1 < explorer.value("both")[0] < 1.13  # on the digits near the line, above it
        explorer.data = 0
        assert (explorer.value("left_size")[0] > 0.2) == (lam <= 2)  # on the circle far from the marks
