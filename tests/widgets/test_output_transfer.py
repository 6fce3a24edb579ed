"""The explorer of *Soft labels*: limits, curves and rates are kdlib's own, and features say no less than outputs."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

START = {"lam": 10.0, "n": 4.0}
ENDS = [(lam, n) for lam in (0.01, 100.0) for n in (2.0, 6.0)]


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.output_transfer_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(autouse=True)
def at_the_start(explorer):
    yield
    put(explorer, *START.values())


def put(explorer, lam, n):
    explorer.lam, explorer.n = lam, n


def one(explorer, name):
    (value,) = explorer.value(name)
    return value


@pytest.fixture(scope="module")
def told():
    """Student, points around the circle, and the weights that the teacher has learnt there."""
    student = kd.TwoLayerNetwork.init(jax.random.key(5), 24, 2, activation="softplus")
    angle = np.linspace(0, 2 * np.pi, 73)
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lesson = kd.TransferProblem(student, around[1:], 3 * np.cos(2 * angle[1:]), None, lam=0)
    return student, around, kd.kernel_flow(lesson, [2.0]).network.weights - student.weights


def problem(told, lam, n):
    """On n samples alone: without the points at the origin that give the explorer's problems one shape."""
    student, _, way = told
    data = kd.datasets.circle(12)
    chosen = [1, 5, 9, 3, 7, 11][: int(n)]
    x = data.x[chosen]
    phi = student.features(x) + student.derivative(x) * (way @ x.T)
    return kd.TransferProblem(student, x, data.y[chosen], phi, lam=lam)


@pytest.mark.parametrize(("lam", "n"), [(0.0, 2.0), (0.01, 6.0), (100.0, 4.0), (0.7, 5.0)])
def test_every_field_is_that_of_kdlib(explorer, told, lam, n):
    """The flows go through Krylov spaces here, and through all modes there. The last point is off the grid."""
    put(explorer, lam, n)
    assert bool(explorer._live) == (lam == 0.7)
    student, around, way = told
    given = problem(told, lam, n)
    teacher = np.asarray(student.output_weights @ given.phi)
    opinion = np.asarray(student(around) + student.output_weights @ (student.derivative(around) * (way @ around.T)))
    seen = slice(0, int(n))
    np.testing.assert_allclose(explorer.value("labels")[seen], given.y)
    np.testing.assert_allclose(explorer.value("teacher")[seen], teacher, rtol=1e-5)
    np.testing.assert_allclose(explorer.value("opinion"), opinion, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        explorer.value("place")[seen], np.mod(np.arctan2(*given.x.T[::-1]), 2 * np.pi), rtol=1e-6
    )
    assert np.all(np.isnan(explorer.value("features_limit")[int(n) :]))
    soft = kd.soft_label_problem(given)
    rank = {"features": 48 if lam > 0 else int(n), "outputs": int(n)}
    times = np.array([0.01, 1.0, 100.0])
    for name, flow, which in (("features", kd.kernel_flow, given), ("outputs", kd.output_flow, given)):
        end = np.asarray(flow(which, [np.inf]).outputs[0])
        there = np.asarray(flow(which, [np.inf], at=around).outputs[0])
        start, *path = np.asarray(flow(which, [0.0, *times]).outputs)
        gaps = [np.linalg.norm(f - end) / np.linalg.norm(start - end) for f in path]
        rates = np.asarray(kd.decay_rates(given if name == "features" else soft, rank[name]))
        rates = rates * (1 if name == "features" else 1 + lam)
        expected = {
            "limit": end,
            "around": there,
            "there": np.sqrt(np.mean((end - teacher) ** 2)),
            "elsewhere": np.sqrt(np.mean((there - opinion)[1:] ** 2)),
            "slowest": rates[0],
            "condition": rates[-1] / rates[0],
        }
        for field, value in expected.items():
            shown = explorer.value(f"{name}_{field}")[: np.size(value)]
            np.testing.assert_allclose(shown, np.ravel(value), rtol=1e-4, atol=1e-5, err_msg=f"{name} {field}")
        at = np.searchsorted(explorer.value("time"), times * 0.999)
        np.testing.assert_allclose(explorer.value(f"{name}_in_time")[at], gaps, rtol=1e-4, atol=1e-6, err_msg=name)
        step = 10.0 / rates[-1]
        gap = np.linalg.norm(np.asarray(flow(which, [step]).outputs[0]) - end) / np.linalg.norm(start - end)
        ten = np.searchsorted(explorer.value("step"), 9.99)
        assert explorer.value(f"{name}_in_steps")[ten] == pytest.approx(gap, rel=1e-4)


@pytest.mark.parametrize(("lam", "n"), [(lam, n) for lam in (0.01, 1.0, 100.0) for n in (2.0, 3.0, 4.0, 6.0)])
def test_the_claim_holds(explorer, lam, n):
    """Nearer on the samples, or for n ≤ d as near; in between nearer by a part in a hundred at least."""
    put(explorer, lam, n)
    features, outputs = (one(explorer, f"{name}_there") for name in ("features", "outputs"))
    if n == 2:
        assert features == pytest.approx(outputs, rel=1e-4)
        assert features == pytest.approx(one(explorer, "labels_there") / (1 + lam), rel=1e-4)
    else:
        assert features < outputs * 0.999
    assert one(explorer, "features_elsewhere") < 0.99 * one(explorer, "outputs_elsewhere")


@pytest.mark.parametrize("n", [2.0, 6.0])
def test_without_transfer_the_students_are_one(explorer, n):
    put(explorer, 0.0, n)
    for field in ("limit", "around", "in_time", "in_steps", "slowest", "condition"):
        np.testing.assert_allclose(explorer.value(f"features_{field}"), explorer.value(f"outputs_{field}"), rtol=1e-5)


@pytest.mark.parametrize("n", [2.0, 6.0])
def test_told_outputs_the_clock_runs_faster_and_the_condition_number_stays(explorer, n):
    put(explorer, 0.0, n)
    slowest, condition = one(explorer, "outputs_slowest"), one(explorer, "outputs_condition")
    for lam in (0.01, 100.0):
        explorer.lam = lam
        assert one(explorer, "outputs_slowest") == pytest.approx((1 + lam) * slowest, rel=1e-5)
        assert one(explorer, "outputs_condition") == pytest.approx(condition, rel=1e-5)


def test_two_outputs_do_not_tell_what_features_tell(explorer):
    """What the chapter says to look for: both students stand on the two samples, and one of them knows the rest."""
    put(explorer, 100.0, 2.0)
    assert one(explorer, "features_there") < 0.01
    assert one(explorer, "features_elsewhere") < 0.01
    assert one(explorer, "outputs_elsewhere") > 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", -0.1, r"^lam: expected a finite number from 0 to 1e\+06; got -0\.1$"),
        ("n", 2.5, r"^n: expected a whole number from 2 to 6; got 2\.5$"),
        ("n", 7.0, r"^n: expected a whole number from 2 to 6; got 7\.0$"),
    ],
)
def test_a_parameter_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == START[name]


def test_six_outputs_say_nearly_all(explorer):
    """From two samples to six at λ = 100 one of the four distances changes most, the one that was large."""
    fields = [f"{name}_{where}" for name in ("features", "outputs") for where in ("there", "elsewhere")]
    found = []
    for n in (2.0, 6.0):
        put(explorer, 100.0, n)
        found.append(np.array([one(explorer, field) for field in fields]))
    factors = np.abs(np.log(found[1] / found[0]))
    assert np.all(factors > 0.5) and np.argmax(factors) == 3 and factors[3] > 2 * np.sort(factors)[-2] > 2
    assert found[0][3] > 1.5 and found[1][3] < 0.03
