"""The explorer of *Generalisation*: lengths, errors and bounds are kdlib's own, and the bound is true and blind."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

GOOD, POOR, MISLED = 0.0, 1.0, 2.0
START = {"lam": 10.0, "flipped": 0.1, "teacher": GOOD}


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.generalization_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(autouse=True)
def at_the_start(explorer):
    yield
    put(explorer, *START.values())


def put(explorer, lam, flipped, teacher):
    explorer.lam, explorer.flipped, explorer.teacher = lam, flipped, teacher


def one(explorer, name):
    (value,) = explorer.value(name)
    return value


def problem(explorer, lam, flipped, teacher):
    """The same from the data: start, lessons and flips are drawn here once more."""
    data = kd.datasets.digits(((0, 6), (1, 7)), train=360)
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 20, 64)
    x, y, steps = {
        GOOD: (data.x, data.y, 20),
        POOR: (data.x[:10], data.y[:10], 200),
        MISLED: (data.x, kd.datasets.flip(data.y, 144, seed=1), 20),
    }[teacher]
    lesson = kd.TransferProblem(student, x, y, None, lam=0)
    way = kd.gradient_descent(lesson, 0.01, [steps]).network.weights - student.weights
    phi = student.features(data.x) + student.derivative(data.x) * (way @ data.x.T)
    signs = np.where(np.random.default_rng(0).random(720) < flipped, -1.0, 1.0)
    given = kd.TransferProblem(student, data.x, signs[:360] * data.y, phi, lam=lam)
    return given, data.x_test, signs[360:] * data.y_test, data.y_test, np.linalg.norm(way)


@pytest.mark.parametrize(("lam", "flipped", "teacher"), [(0.001, 0.2, POOR), (1000.0, 0.0, MISLED), (7.7, 0.07, GOOD)])
def test_every_field_is_that_of_kdlib(explorer, lam, flipped, teacher):
    put(explorer, lam, flipped, teacher)
    assert bool(explorer._live) == (lam == 7.7)
    given, x_test, y_test, clean, way = problem(explorer, lam, flipped, teacher)
    alone = kd.TransferProblem(given.student, given.x, given.y, None, lam=0)
    expected = {"teacher_length": way, "strength": lam}
    for name, which in (("", given), ("alone_", alone)):
        bound = kd.bounds.generalization_gap(which, x_test, y_test, delta=0.05)
        way = kd.bounds.displacement_norm(which).measured
        expected |= {f"{name}bound": bound.value, f"{name}error": bound.measured, f"{name}length": way}
    outputs = np.asarray(kd.kernel_flow(given, [np.inf], at=x_test).outputs[0])
    carried = np.asarray(
        kd.kernel_flow(
            kd.TransferProblem(given.student, given.x, given.y, given.phi, lam=1e8), [np.inf], at=x_test
        ).outputs[0]
    )
    expected |= {
        "clean": np.mean(outputs * clean <= 0),
        "teacher_error": np.mean(carried * y_test <= 0),
        "radius": max(1, np.ceil(expected["length"])),
        "informative": expected["bound"] < 1,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(one(explorer, name), value, rtol=1e-4, err_msg=name)


def test_the_curves_are_the_points_of_the_slider(explorer):
    for lam in (0.001, 0.3, 1000.0):
        put(explorer, lam, 0.2, MISLED)
        which = list(explorer.value("strengths").astype(np.float32)).index(np.float32(lam))
        for name in ("length", "bound", "error"):
            assert explorer.value(f"{name}s")[which] == one(explorer, name)


def everywhere(explorer):
    strengths, shares, teachers = (p.values for p in explorer.parameters)
    for point in ((lam, share, which) for lam in strengths for share in shares for which in teachers):
        put(explorer, *point)
        yield point


def test_the_claim_holds_everywhere(explorer):
    """No point breaks the bound. It is below 1 on short ways alone, and above ‖v‖ times a constant everywhere."""
    trace = np.trace(np.asarray(kd.tangent_kernel(explorer.student, explorer.data.x)))
    for point in everywhere(explorer):
        length, error, bound = (one(explorer, name) for name in ("length", "error", "bound"))
        assert error < bound, point
        assert length < 8 or bound > 1, point
        assert bound > 2 * length * np.sqrt(trace) / 360, point
        assert one(explorer, "alone_error") < one(explorer, "alone_bound"), point


def test_it_says_something_at_one_end_and_nothing_at_the_other(explorer):
    put(explorer, 1000.0, 0.0, GOOD)
    assert "it says something." in explorer.sentence
    for flipped in (0.0, 0.2):
        put(explorer, 0.001, flipped, GOOD)
        assert "it says nothing." in explorer.sentence
        assert one(explorer, "bound") > 14


@pytest.mark.parametrize("flipped", [0.0, 0.2])
def test_the_bound_is_blind_to_the_direction(explorer, flipped):
    """The way that the misled teacher sets is shorter than the good one's, and leads to a larger error."""
    put(explorer, 1000.0, flipped, GOOD)
    good = {name: one(explorer, name) for name in ("length", "error")}
    put(explorer, 1000.0, flipped, MISLED)
    assert one(explorer, "length") < good["length"] / 1.3
    assert one(explorer, "error") > good["error"] + 0.08
    put(explorer, 1000.0, 0.0, MISLED)  # beside the student alone: the smaller bound, the larger error
    assert one(explorer, "bound") < one(explorer, "alone_bound") / 2
    assert one(explorer, "error") > one(explorer, "alone_error") + 0.1


@pytest.mark.parametrize("teacher", [GOOD, POOR, MISLED])
@pytest.mark.parametrize("flipped", [0.0, 0.2])
def test_a_whisper_sends_the_student_the_longest_way(explorer, flipped, teacher):
    put(explorer, 0.001, flipped, teacher)
    assert one(explorer, "length") > 3 * one(explorer, "alone_length")
    assert np.all(np.diff(explorer.value("lengths")[:10]) < 0)
    explorer.lam = 1000.0
    assert one(explorer, "length") == pytest.approx(one(explorer, "teacher_length"), rel=0.1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", 0.0, r"^lam: expected a finite number that is at least 1e-06; got 0\.0$"),
        ("flipped", 0.6, r"^flipped: expected a finite number from 0 to 0\.5; got 0\.6$"),
        ("teacher", 0.5, r"^teacher: expected one of 0 \(good\), 1 \(poor\), 2 \(misled\); got 0\.5$"),
    ],
)
def test_a_parameter_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == START[name]


def test_only_the_good_teacher_heard_loudly_brings_the_bound_below_one(explorer):
    """What the chapter says to look for: never with the other teachers, below λ = 3, or with a fifth flipped."""
    for lam, flipped, teacher in everywhere(explorer):
        if teacher != GOOD or lam < 3 or flipped == 0.2:
            assert one(explorer, "bound") > 0.999, (lam, flipped, teacher)
    put(explorer, 1000.0, 0.0, GOOD)
    assert one(explorer, "bound") < 0.9
