"""The explorer of *How wide is wide enough?*: gap and bounds are kdlib's without idle units, and its claim holds."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

# What gradient_flow leaves open of a gap: about its tolerance times the length of the way.
ACCURACY = 2e-7


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.finite_width_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def problem(m):
    """The student that has m units and no more, and its teacher."""
    data, widest = kd.datasets.circle(4), 256
    half = np.asarray(kd.TwoLayerNetwork.init(jax.random.key(0), widest // 2, 2).weights)[: m // 2]
    student = kd.TwoLayerNetwork(np.concatenate([half, half]), np.repeat([1.0, -1.0], m // 2))
    alone = kd.TransferProblem(student, data.x, data.y, student.features(data.x), lam=0.0)
    phi = kd.gradient_flow(alone, np.linspace(0.2, 2, 10)).network.features(data.x)
    return kd.TransferProblem(student, data.x, kd.datasets.flip(data.y, 1), phi, lam=0.5)


@pytest.mark.parametrize("m", [16, 256])
def test_every_field_is_that_of_a_student_without_idle_units(explorer, m):
    given, times = problem(m), explorer.parameters[1].values
    assert np.max(np.abs(given.student(given.x))) < 1e-12
    early, late = kd.bounds.finite_width_gap(given, times), kd.bounds.finite_width_gap_posterior(given, times)
    expected = {"gap": early.measured, "start": early.value, "flow": late.value, "energies": early.trivial}
    for k, t in enumerate(times):
        explorer.m, explorer.t = m, t
        for name, values in expected.items():
            np.testing.assert_allclose(explorer.value(name), values[k], rtol=1e-4, atol=ACCURACY, err_msg=name)
        assert explorer.value("flow_says")[0] == (late.value[k] < late.trivial[k])
        assert explorer.value("start_slack")[0] == pytest.approx(explorer.value("start")[0] / explorer.value("gap")[0])
    for name in ("gap", "start", "flow"):
        np.testing.assert_allclose(explorer.value(f"{name}_path"), expected[name], rtol=1e-4, atol=ACCURACY)


def test_the_lines_go_through_the_marks(explorer):
    widths, times = (p.values for p in explorer.parameters)
    for j, m in enumerate(widths):
        for k, t in enumerate(times):
            explorer.m, explorer.t = m, t
            for name in ("gap", "start", "flow"):
                here = explorer.value(name)[0]
                assert explorer.value(f"{name}_path")[k] == explorer.value(f"{name}_row")[j] == here


def test_both_bounds_are_true_everywhere(explorer):
    for m in explorer.parameters[0].values:
        explorer.m = m
        gap, start, flow = (explorer.value(f"{name}_path") for name in ("gap", "start", "flow"))
        assert np.all(gap < flow)
        assert np.all(flow <= start)


@pytest.mark.parametrize("t", [0.1, 20.0])
def test_bounds_fall_like_the_root_of_the_width_and_the_gap_faster(explorer, t):
    """Slopes over all widths: those of the bounds are -1/2 to a tenth."""
    explorer.t = t
    widths = explorer.value("widths")
    slopes = {
        name: np.polyfit(np.log(widths), np.log(explorer.value(f"{name}_row")), 1)[0]
        for name in ("gap", "start", "flow")
    }
    assert abs(slopes["start"] + 0.5) < 0.1
    assert abs(slopes["flow"] + 0.5) < 0.1
    assert slopes["gap"] < -0.9


def test_both_are_informative_early_and_say_nothing_late(explorer):
    explorer.m, explorer.t = 16, 0.1
    assert "and below what energies alone say" in explorer.sentence
    assert explorer.value("start_slack")[0] > 50
    explorer.t = 20.0
    assert "and not below what energies alone say" in explorer.sentence
    assert explorer.sentence.endswith("and not below it.")


@pytest.mark.parametrize("t", [0.1, 20.0])
def test_the_bounds_are_far_above_the_gap_at_the_widest_too(explorer, t):
    explorer.m, explorer.t = 256, t
    assert explorer.value("start_slack")[0] > 50
    assert explorer.value("gap")[0] > 0


@pytest.mark.parametrize(("name", "value"), [("m", 17.0), ("m", np.nan), ("t", 0.3)])
def test_only_the_tables_own_values_are_taken(explorer, name, value):
    before = getattr(explorer, name)
    with pytest.raises(ValueError, match=rf"^{name}: expected one of .*; got {value}$"):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_sixteen_times_as_many_units(explorer):
    """The factors that the chapter names, at t = 1."""
    explorer.t = 1.0
    fallen = {name: np.divide(*explorer.value(f"{name}_row")[[0, -1]]) for name in ("gap", "start", "flow")}
    assert fallen["start"] == pytest.approx(4, abs=0.5)
    assert fallen["flow"] == pytest.approx(4, abs=0.5)
    assert fallen["gap"] == pytest.approx(50, abs=5)
