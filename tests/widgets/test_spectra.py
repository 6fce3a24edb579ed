"""The explorer of *Who learns fast*: shares, filters and errors are those of kdlib, and stopping early pays."""

import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

POINTS = [(0.01, 0.0, 0.0), (1.0, 0.0, 1.0), (10000.0, 1.0, 0.5), (100.0, 2.0, 1.0), (3.7, 1.0, 0.9)]  # the last: live


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.spectra_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def move(explorer, time, labels, noise):
    explorer.time, explorer.labels, explorer.noise = time, labels, noise
    return explorer.problem(labels)


@pytest.mark.parametrize(("time", "labels", "noise"), POINTS)
def test_every_field_is_that_of_kdlib(explorer, time, labels, noise):
    problem = move(explorer, time, labels, noise)
    assert bool(explorer._live) == (time == 3.7)
    path = kd.kernel_flow(problem, [time, 5.0]).outputs  # the teacher has stopped at 5
    found = kd.alignment(problem.student, problem.x, problem.output_gap)
    left = np.asarray(found.modes.T @ (problem.y - path[0])) ** 2 / np.sum(problem.output_gap**2)
    lead = kd.alignment(problem.student, problem.x, path[1] - problem.student(problem.x))
    kernel = np.linalg.eigvalsh(kd.tangent_kernel(problem.student, problem.x))[::-1]
    expected = {"rates": kernel, "shares": found.shares, "taught": lead.shares, "left": left, "left_over": [left.sum()]}
    for name, value in expected.items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=1e-4, atol=1e-7, err_msg=name)
    around = explorer.value("around")
    np.testing.assert_allclose(explorer.value("stopped"), kd.early_stopping_filter(around, time), rtol=1e-4)
    np.testing.assert_allclose(explorer.value("penalised"), kd.ridge_filter(around, 1 / time), rtol=1e-4)


@pytest.mark.parametrize(("time", "labels", "noise"), POINTS)
def test_errors_are_exact_expectations(explorer, time, labels, noise):
    problem, data = move(explorer, time, labels, noise), explorer.data
    for name, where in (("training", {}), ("others", {"at": data.x_test, "truth_at": data.y_test})):
        for suffix, at in (("now", time), ("ever", np.inf)):
            risk = kd.noise_risk(problem, problem.y, noise, time=at, **where)
            value = explorer.value(f"{name}_{suffix}")
            np.testing.assert_allclose(value, np.mean(risk.bias**2 + risk.variance), rtol=1e-4, atol=1e-7)
        risk = kd.noise_risk(problem, problem.y, noise, time=explorer.value("clock")[7], **where)
        np.testing.assert_allclose(explorer.value(name)[7], np.mean(risk.bias**2 + risk.variance), rtol=1e-4)
    best = kd.best_stopping_time(problem, problem.y, noise)
    np.testing.assert_allclose(explorer.value("best"), best.time, rtol=1e-4)
    np.testing.assert_allclose(explorer.value("best_error"), best.risk, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("time", [0.01, 1.0, 10000.0])
def test_fast_modes_are_learnt_and_slow_ones_left(explorer, time):
    move(explorer, time, 0.0, 0.0)
    rates, learnt = explorer.value("rates"), explorer.value("learnt")
    assert np.all(learnt[rates * time > 3] > 0.95)
    assert np.all(learnt[rates * time < 0.05] < 0.05)
    # the penalty 1/t learns less of every mode, by a factor of 1.2984... at most
    quotient = explorer.value("stopped") / explorer.value("penalised")
    assert 1 - 1e-6 < quotient.min() <= quotient.max() < 1.2985


@pytest.mark.parametrize("labels", [0.0, 1.0, 2.0])
def test_with_noise_the_best_time_beats_training_for_ever_and_without_it_never_does(explorer, labels):
    for noise in (0.25, 1.0):
        move(explorer, 1.0, labels, noise)
        assert explorer.value("best_error")[0] < explorer.value("training_ever")[0] * (1 - 1e-6)
        assert explorer.value("best_error")[0] <= explorer.value("training").min() * (1 + 1e-6)
    move(explorer, 1.0, labels, 0.0)
    assert np.isinf(explorer.value("best")[0])
    assert np.all(np.diff(explorer.value("training")) < 0)
    assert "The best time on the training images is ∞" in explorer.sentence


def test_the_best_time_depends_on_the_labels(explorer):
    """What the chapter asks its readers to predict, and what it says of the hardest labels."""
    best, gain = [], []
    for labels in (0.0, 1.0, 2.0):
        move(explorer, 1.0, labels, 1.0)
        best.append(explorer.value("best")[0])
        gain.append(1 - explorer.value("best_error")[0] / explorer.value("training_ever")[0])
    assert 1 < best[0] < 1.5 < 10 < best[1] < 20
    assert gain[0] > 0.8 > gain[1] > 0.3 > 0.002 > gain[2]


def test_the_correct_labels_are_learnt_first(explorer):
    left = []
    for labels in (0.0, 1.0, 2.0):
        move(explorer, 1.0, labels, 0.0)
        left.append(explorer.value("left_over")[0])
    assert left[0] < 0.15 < 0.5 < left[1] < 0.9 < 0.99 < left[2]
    # a teacher that stopped early is smoother than its labels
    for labels in (0.0, 1.0):
        move(explorer, 1.0, labels, 0.0)
        fast = explorer.value("rates") > 0.5
        assert explorer.value("taught")[fast].sum() > explorer.value("shares")[fast].sum()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("time", 0.0, r"^time: expected a finite number that is at least 1e-06; got 0\.0$"),
        ("labels", 3.0, r"^labels: expected one of 0 \(correct\), 1 \(shuffled\), 2 \(hardest\); got 3\.0$"),
        ("noise", -1.0, r"^noise: expected a finite number that is at least 0; got -1\.0$"),
    ],
)
def test_a_value_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
