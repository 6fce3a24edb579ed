"""The explorer of *How fast*: times, steps and rates are those of kdlib, and the claim holds where it says so."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.convergence_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def move(explorer, lam, tolerance, teacher):
    explorer.lam, explorer.tolerance, explorer.teacher = lam, tolerance, teacher
    return explorer.problem(lam, teacher)


def distance(problem, times):
    path = np.asarray(kd.kernel_flow(problem, np.append(times, np.inf)).outputs)
    return np.linalg.norm(path[:-1] - path[-1], axis=1) / float(problem.scale)


@pytest.mark.parametrize(
    ("lam", "tolerance", "teacher"),
    [(0.01, 0.001, 1.0), (1.0, 0.1, 1.0), (100.0, 0.01, 0.0), (0.123, 0.03, 0.0)],  # the last one is off the grid
)
def test_every_field_is_that_of_kdlib(explorer, lam, tolerance, teacher):
    problem = move(explorer, lam, tolerance, teacher)
    assert bool(explorer._live) == (lam == 0.123)
    assert problem.scale == np.linalg.norm(problem.y)  # what the axis says
    np.testing.assert_allclose(explorer.value("distance"), distance(problem, explorer.times), rtol=1e-4, atol=1e-6)
    at, later = explorer.value("time")[0] * np.array([1.0, 1.001])
    np.testing.assert_allclose(distance(problem, [at]), tolerance, rtol=1e-4)
    assert distance(problem, np.geomspace(later, 1e6, 40)).max() < tolerance
    steps = kd.bounds.iterations_to_accuracy(problem, tolerance).measured[0]
    assert explorer.value("steps")[0] == pytest.approx(float(steps), rel=0.01, abs=1)  # kdlib counts to 1 %
    kappa = kd.decay_rates(kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0), 1)[0]
    assert explorer.value("slowest")[0] == pytest.approx(float(kd.decay_rates(problem, 1)[0] / kappa), rel=1e-4)
    end, taught = kd.fixed_point(problem).outputs, problem.student.output_weights @ problem.phi
    for name, outputs in (("end_error", end), ("teacher_error", taught)):
        assert explorer.value(name)[0] == pytest.approx(float(np.mean((problem.y - outputs) ** 2)), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("tolerance", [0.1, 0.001])
def test_without_a_teacher_it_is_the_plain_kernel_flow(explorer, tolerance):
    problem = move(explorer, 0.0, tolerance, 1.0)
    for name in ("alone", "distance"):
        np.testing.assert_allclose(explorer.value(name), distance(problem, explorer.times), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(distance(problem, explorer.value("alone_time")), tolerance, rtol=1e-4)
    steps = kd.bounds.iterations_to_accuracy(problem, tolerance).measured[0]
    assert explorer.value("alone_steps")[0] == pytest.approx(float(steps), rel=0.01, abs=1)
    assert explorer.value("slowest")[0] == pytest.approx(1.0, rel=1e-6)
    assert "as early as without it" in explorer.sentence


def test_a_step_less_is_outside_of_the_tolerance(explorer):
    """The count of steps against descent itself, v ← v + η(c - Mv), over all weights."""
    problem = move(explorer, 1.0, 0.1, 1.0)
    pull = jax.jit(jax.grad(lambda v: energy(problem, v)))
    size, v = 1 / float(kd.largest_rate(problem).value), np.zeros(problem.student.weights.shape)
    end, left = np.asarray(kd.fixed_point(problem).outputs), []
    for _ in range(int(explorer.value("steps")[0])):
        v = v - size * pull(v)
        outputs = problem.student(problem.x) + problem.student.output_weights @ change(problem, v)
        left.append(np.linalg.norm(outputs - end) / float(problem.scale))
    assert left[-1] <= 0.1 < left[-2]


def change(problem, v):
    return problem.student.derivative(problem.x) * (v @ problem.x.T)


def energy(problem, v):
    moved, b = change(problem, v), problem.student.output_weights
    return (
        0.5 * ((problem.output_gap - b @ moved) ** 2).sum()
        + 0.5 * problem.lam * ((problem.feature_gap - moved) ** 2).sum()
    )


def test_a_good_teacher_saves_time_at_a_coarse_tolerance_whatever_its_strength(explorer):
    move(explorer, 1.0, 0.1, 1.0)
    assert np.all(explorer.value("time_at") < explorer.value("alone_time"))
    assert "earlier than without it" in explorer.sentence
    move(explorer, 0.1, 0.1, 1.0)
    saved = 1 - explorer.value("time")[0] / explorer.value("alone_time")[0]
    assert saved == pytest.approx(1 / 3, abs=0.03)  # the chapter says a third
    # a strong one saves time at every tolerance: its slowest rate is better than that of the student alone
    for tolerance in (0.1, 0.001):
        move(explorer, 100.0, tolerance, 1.0)
        assert explorer.value("time")[0] < explorer.value("alone_time")[0] / 3
    assert explorer.value("slowest")[0] > 1


def test_a_good_teacher_saves_no_steps_at_a_fine_tolerance(explorer):
    move(explorer, 1.0, 0.001, 1.0)
    assert np.all(explorer.value("steps_at") > explorer.value("alone_steps"))
    saves = explorer.value("time_at") < explorer.value("alone_time")  # time it does save, from about λ = 1 on
    np.testing.assert_array_equal(saves, explorer.value("strengths") > 0.99)


@pytest.mark.parametrize("teacher", [0.0, 1.0])
def test_a_weak_teacher_costs_time_at_a_fine_tolerance(explorer, teacher):
    move(explorer, 0.01, 0.001, teacher)
    assert explorer.value("time")[0] > 1.5 * explorer.value("alone_time")[0]
    assert "later than without it" in explorer.sentence
    weak = explorer.value("strengths") <= 0.5
    assert np.all(explorer.value("time_at")[weak] > explorer.value("alone_time"))


def test_left_of_the_threshold_the_slowest_rate_is_worse(explorer):
    threshold = float(explorer.value("threshold")[0])
    problem = explorer.problem(0.0, 1.0)
    kernel = np.linalg.eigvalsh(kd.tangent_kernel(problem.student, problem.x))
    units = np.linalg.eigvalsh(kd.unit_kernels(problem.student, problem.x)).ravel()
    assert threshold == pytest.approx(kernel[0] / np.sort(units[units > 1e-12])[16], rel=1e-4)
    for lam in (0.01, 0.999 * threshold):
        move(explorer, lam, 0.1, 1.0)
        assert explorer.value("slowest")[0] < 1


def test_the_poor_teacher_leads_to_the_wrong_place(explorer):
    errors = {}
    for lam in (0.01, 100.0):
        for teacher in (0.0, 1.0):
            move(explorer, lam, 0.1, teacher)
            errors[lam, teacher] = explorer.value("end_error")[0], explorer.value("teacher_error")[0]
    assert errors[100.0, 0.0][0] > 0.9 * errors[100.0, 0.0][1] > 0.02 > 100 * errors[100.0, 1.0][0]
    assert errors[0.01, 0.0][0] < 1e-3 * errors[0.01, 0.0][1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", -1.0, r"^lam: expected a finite number that is at least 0; got -1\.0$"),
        ("tolerance", 0.02, r"^tolerance: expected one of 0\.001 \(0\.1 %\), .*, 0\.1 \(10 %\); got 0\.02$"),
        ("teacher", 0.5, r"^teacher: expected one of 0 \(poor\), 1 \(good\); got 0\.5$"),
    ],
)
def test_a_value_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
