"""The explorer of *Experiments*: errors on test images, predicted and of trained networks."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

NAMES = ("good", "stopped early", "few samples", "noisy labels", "machine")
STEPS = np.array([0, 1, 2, 4, 8, 15, 30, 50, 75, 100])


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.experiments_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(scope="module")
def draws():
    """Data, start, wrong labels, PI and outputs on the test images, teacher by teacher, as the chapter makes them."""

    def draw(seed):
        raw = kd.datasets.digits(((0, 2, 4, 6, 8), (1, 3, 5, 7, 9)), train=60, test=1000, seed=seed)
        mean = raw.x.mean(axis=0)
        x, x_test = ((rows - mean) / np.linalg.norm(rows - mean, axis=1, keepdims=True) for rows in (raw.x, raw.x_test))
        student, y = kd.TwoLayerNetwork.init(jax.random.key(seed), 150, 64), raw.y
        nets = [
            kd.trained_teacher(student, x, y, 200.0),
            kd.trained_teacher(student, x, y, 7.0),
            kd.trained_teacher(student, x[:15], y[:15], 200.0),
            kd.trained_teacher(student, x, kd.datasets.flip(y, 12, seed=100 + seed), 70.0),
        ]
        key = jax.random.key(1000 + seed)
        z, z_test = (kd.random_fourier_features(key, rows, 150, bandwidth=1.0) for rows in (x, x_test))
        machine = kd.kernel_machine_teacher(student, x, y, z, ridge=0.3)
        phi = [*(net.features(x) for net in nets), machine.phi]
        says = [*(net(x_test) for net in nets), student(x_test) + machine(z_test)]
        return student, x, kd.datasets.flip(y, 12, seed=seed), phi, says, x_test, raw.y_test

    return [draw(seed) for seed in range(3)]


def wrong(outputs, truth):
    return 100 * np.mean(np.sign(outputs) != truth, axis=-1)


def followed(draws, teacher, lam, route):
    """Errors of shape (draw, mark), in double precision."""
    errors = []
    for student, x, y, phi, _, x_test, truth in draws:
        problem = kd.TransferProblem(student, x, y, None if teacher is None else phi[teacher], lam=lam)
        if route == "flow":
            path = kd.kernel_flow(problem, 0.06 * STEPS, at=x_test)
        else:
            path = kd.gradient_descent(problem, 0.06, STEPS, at=x_test)
        errors.append(wrong(np.asarray(path.outputs), truth))
    return np.stack(errors)


def test_teachers_err_as_they_do(explorer, draws):
    for which in range(5):
        explorer.teacher = float(which)
        own = np.mean([wrong(says[which], truth) for *_, says, _, truth in draws])
        assert explorer.value("own")[0] == pytest.approx(own, abs=0.05), NAMES[which]


# Single precision, as in the explorer and the chapter, may turn the sign of an output near 0: one image in 3,000.
ONE_IMAGE = 100 / 3000 * 1.01


@pytest.mark.parametrize(("which", "lam"), [(0, 0.03), (2, 1.0), (3, 10.0), (4, 0.5)])  # the last is off the grid
def test_the_kernel_flow(explorer, draws, which, lam):
    explorer.teacher, explorer.lam = float(which), lam
    errors = followed(draws, which, lam, "flow").mean(axis=0)
    np.testing.assert_allclose(explorer.value("flow"), errors[1:], atol=ONE_IMAGE)
    assert explorer.value("flow_last")[0] == pytest.approx(errors[-1], abs=ONE_IMAGE)


def test_no_teacher(explorer, draws):
    np.testing.assert_allclose(
        explorer.value("alone"), followed(draws, None, 0.0, "flow").mean(axis=0)[1:], atol=ONE_IMAGE
    )


@pytest.mark.parametrize(("which", "lam"), [(0, 1.0), (3, 0.1), (4, 3.0)])
def test_the_networks(explorer, draws, which, lam):
    explorer.teacher, explorer.lam = float(which), lam
    errors = followed(draws, which, lam, "network")
    np.testing.assert_allclose(explorer.value("network"), errors.mean(axis=0)[1:], atol=ONE_IMAGE)
    spread = explorer.value("network_high") - explorer.value("network")
    np.testing.assert_allclose(spread, errors.std(axis=0)[1:], atol=2 * ONE_IMAGE)
    bar = explorer.value("bar")[[0.1, 1.0, 3.0].index(lam)]
    assert bar == pytest.approx(errors.mean(axis=0)[-1], abs=ONE_IMAGE)


def test_where_no_network_is_trained_none_is_shown(explorer):
    explorer.lam = 10.0
    assert np.isnan(explorer.value("network")).all()
    assert np.isnan(explorer.value("network_from")).all()


def test_the_step_explodes_at_the_strongest_transfer_alone(draws):
    student, x, y, phi, *_ = draws[0]
    for lam in (0.1, 1.0, 3.0, 10.0):
        rate = kd.largest_rate(kd.TransferProblem(student, x, y, phi[0], lam=lam)).value
        assert (0.06 < 2 / rate) == (lam < 10), lam


def test_the_claim_at_both_ends(explorer):
    """Good: the stronger the better. Noisy: better in between than at either end, by a point and more."""
    over = {}
    for which, name in enumerate(NAMES):
        explorer.teacher = float(which)
        over[name] = explorer.value("over")
    alone = explorer.value("alone_last")[0]
    assert np.all(np.diff(over["good"]) < 0)
    assert over["good"][-1] < alone - 8
    noisy = over["noisy labels"]
    assert noisy[1:-1].min() < min(noisy[0], noisy[-1], alone) - 1
    machine, explorer.teacher = over["machine"], 4.0
    assert explorer.value("own")[0] + 3 < machine[1:-1].min() < min(machine[0], machine[-1]) - 1
    explorer.teacher = 3.0
    assert noisy.min() < explorer.value("own")[0] - 2


def test_prediction_and_networks_agree_to_two_points(explorer):
    for which in range(5):
        explorer.teacher = float(which)
        np.testing.assert_allclose(explorer.value("bar"), explorer.value("over")[[1, 3, 4]], atol=2.0)


def test_the_verdict_and_the_first_better_step(explorer):
    alone = explorer.value("alone").min()
    for which in range(5):
        explorer.teacher = float(which)
        for lam in (0.03, 1.0, 10.0):
            explorer.lam = lam
            student, own, none = (explorer.value(name)[0] for name in ("flow_last", "own", "alone_last"))
            assert explorer.value("verdict")[0] == 2 * (student < none) + (student < own)
            better = STEPS[1:][explorer.value("flow") < alone - 1e-4]
            assert explorer.value("flow_from")[0] == (better[0] if better.size else pytest.approx(np.nan, nan_ok=True))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("teacher", 5.0, r"^teacher: expected one of 0 \(good\), 1 \(stopped early\), .*; got 5\.0$"),
        ("lam", 0.0, r"^lam: expected a finite number from 0\.001 to 1000; got 0\.0$"),
    ],
)
def test_bad_values_are_refused(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_what_the_chapter_says_of_the_other_teachers(explorer):
    """The early teacher is like the good one, few samples like the noisy one; the machine turns, above its teacher."""
    curves = []
    for teacher in range(5):
        explorer.teacher, explorer.lam = float(teacher), 1.0
        curves.append(explorer.value("over"))
    for falling in curves[:2]:
        assert np.all(np.diff(falling) < 0.1)
    strengths = explorer.value("strength")
    assert all(strengths[np.argmin(curve)] == 1 for curve in curves[2:4])
    machine, own = curves[4], explorer.value("own")[0]
    assert machine[:-1].min() < machine[-1] and machine.min() > own + 3
