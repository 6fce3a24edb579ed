"""The explorer of *Lazy training*: its numbers are kdlib's for students without idle units, and its claim holds."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

NEAR, FAR = 0.0, 1.0


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.lazy_training_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def expected(explorer, m, teacher):
    """The same numbers for a student that has m units and no more."""
    widest = int(explorer.parameters[0].values[-1])
    data = kd.datasets.circle()
    wrong = kd.datasets.flip(data.y, 2)
    drawn, other = (kd.TwoLayerNetwork.init(jax.random.key(key), widest, 2) for key in (2, 102))
    student = kd.TwoLayerNetwork(drawn.weights[:m], drawn.signs[:m])
    if teacher == NEAR:
        alone = kd.TransferProblem(student, data.x, data.y, student.features(data.x), lam=0.0)
        phi = kd.gradient_flow(alone, np.geomspace(0.05, 20, 25) / 4).network.features(data.x)
    else:
        phi = other.features(data.x)[:m]
    problem = kd.TransferProblem(student, data.x, wrong, phi, lam=0.5)
    trained, linear = kd.gradient_flow(problem, explorer.times), kd.kernel_flow(problem, explorer.times)
    kernels = [np.asarray(kd.tangent_kernel(net, data.x)) for net in (trained.network, student)]
    gap = np.max(np.linalg.norm(trained.outputs - linear.outputs, axis=1))
    return {
        "network": np.ravel(trained.outputs[:, ::3].T),
        "flow": np.ravel(linear.outputs[:, ::3].T),
        "movement": np.max(np.linalg.norm(trained.network.weights - student.weights, axis=1)),
        "drift": np.linalg.norm(kernels[0] - kernels[1], 2),
        "gap": gap,
        "gap_grown": np.sqrt(m) * gap,
        "percent": 100 * gap / np.linalg.norm(wrong),
        "lazy": gap <= 0.01 * np.linalg.norm(wrong),
    }


@pytest.mark.parametrize("m", [16, 1024])
@pytest.mark.parametrize("teacher", [NEAR, FAR])
def test_every_field_is_that_of_a_student_without_idle_units(explorer, m, teacher):
    explorer.m, explorer.teacher = m, teacher
    for name, value in expected(explorer, m, teacher).items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_lines_go_through_the_marks(explorer):
    explorer.teacher = NEAR
    for k, m in enumerate(explorer.parameters[0].values):
        explorer.m = m
        assert explorer.value("widths")[k] == explorer.value("width")[0] == m
        for name in ("movement", "drift", "gap", "guide"):
            assert explorer.value(f"{name}s")[k] == pytest.approx(explorer.value(name)[0], rel=1e-6)


def test_a_wide_student_of_a_near_teacher_is_lazy(explorer):
    """Times √m, nothing grows from the narrowest to the widest student, to a tenth of one draw's chance."""
    narrow, wide = at_both_ends(explorer, NEAR)
    for name in ("movement_grown", "drift_grown", "gap_grown"):
        assert wide[name] <= 1.1 * narrow[name], name
    assert not narrow["lazy"]
    assert wide["lazy"]


def test_no_width_makes_the_student_of_a_far_teacher_lazy(explorer):
    narrow, wide = at_both_ends(explorer, FAR)
    assert wide["movement"] >= 0.9 * narrow["movement"]
    assert wide["percent"] > 20
    assert not explorer.value("lazy")[0]
    assert np.all(explorer.value("gaps") > 0.2 * np.sqrt(12))


def at_both_ends(explorer, teacher):
    explorer.teacher, found = teacher, []
    for m in (16, 1024):
        explorer.m = m
        names = ("movement", "percent", "lazy", "movement_grown", "drift_grown", "gap_grown")
        found.append({name: explorer.value(name)[0] for name in names})
    return found


def test_the_sentence_says_whether_it_is_lazy(explorer):
    explorer.m, explorer.teacher = 1024, FAR
    assert explorer.sentence.startswith("With m = 1024 units and a far teacher, ")
    assert explorer.sentence.endswith("to one percent, the student is not lazy.")


def test_a_live_kernel_takes_any_width(explorer):
    explorer.m, explorer.teacher = 100, FAR
    assert explorer._live
    given = explorer.problem(100, FAR)
    moved = kd.gradient_flow(given, explorer.times).network.weights - given.student.weights
    assert np.count_nonzero(np.any(moved, axis=1)) == 100
    assert explorer.value("movement")[0] == pytest.approx(np.max(np.linalg.norm(moved, axis=1)), rel=1e-6)
    np.testing.assert_array_equal(explorer.value("widths"), explorer.parameters[0].values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("m", 17.5, r"^m: expected a whole number from 1 to 1024; got 17\.5$"),
        ("m", 2048, r"^m: expected a whole number from 1 to 1024; got 2048\.0$"),
        ("teacher", 0.5, r"^teacher: expected one of 0 \(near\), 1 \(far\); got 0\.5$"),
    ],
)
def test_other_widths_and_teachers_are_refused(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_the_tangent_kernel_keeps_still_all_the_same(explorer):
    """The far teacher's surprise: of the three sizes the drift of the tangent kernel alone comes down."""
    explorer.teacher, drift = FAR, []
    for m in (16, 1024):
        explorer.m = m
        drift.append(explorer.value("drift")[0])
    assert drift[1] < 0.1 * drift[0]
