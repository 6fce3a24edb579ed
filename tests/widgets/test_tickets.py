"""The explorer of *How much of the teacher is needed?*: losses, limits and bounds are those of kdlib."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.tickets_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(scope="module")
def given():
    """The chapter's problem, as a function of λ; its teacher goes by short steps, near to the chapter's flow."""
    data = kd.datasets.digits((0, 1), train=40)
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 100, 64)
    lesson = kd.TransferProblem(student, data.x, data.y, None, lam=0)
    phi = kd.gradient_descent(lesson, 0.01, [500]).network.features(data.x)
    return lambda lam: kd.TransferProblem(student, data.x, kd.datasets.flip(data.y, 8), phi, lam=lam)


def at(explorer, units, order, lam):
    explorer.units, explorer.order, explorer.lam = units, order, lam


def orders(problem):
    return [np.random.default_rng(0).permutation(100), kd.lead_order(problem), kd.greedy_order(problem)]


@pytest.mark.parametrize("lam", [0.1, 2.0, 0.7])  # the last is off the grid
def test_losses_and_smallest_tickets(explorer, given, lam):
    problem = given(lam)
    for which, order in enumerate(orders(problem)):
        at(explorer, 25.0, float(which), lam)
        losses = np.asarray(kd.ticket_losses(problem, order))
        np.testing.assert_allclose(explorer.value("losses"), losses, rtol=1e-4, atol=1e-6)
        assert explorer.value("loss") == pytest.approx(losses[24:25], rel=1e-4)
        assert explorer.value("first")[0] == kd.smallest_ticket(problem, 0.1, order).size
    bound = kd.bounds.units_needed(problem, 0.1)
    assert explorer.value("least_first")[0] == bound.value
    assert explorer.value("first")[0] == bound.measured  # the greedy ticket's


@pytest.mark.parametrize("lam", [0.1, 10.0])
@pytest.mark.parametrize(("which", "units"), [(0, 40), (1, 60), (2, 38)])
def test_limits_on_the_images(explorer, given, which, units, lam):
    problem = given(lam)
    at(explorer, float(units), float(which), lam)
    order, wide = np.asarray(orders(problem)[which]), kd.fixed_point(problem)
    # a unit without output weight does nothing: the ticket in the wide student's own shape
    signs = np.where(np.isin(np.arange(100), order[:units]), problem.student.signs, 0.0)
    masked = kd.TwoLayerNetwork(problem.student.weights, signs)
    narrow = kd.fixed_point(kd.TransferProblem(masked, problem.x, problem.y, problem.phi, lam=lam))
    shown = explorer._shown
    np.testing.assert_allclose(explorer.value("wide"), wide.outputs[shown], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explorer.value("end"), narrow.outputs[shown], rtol=1e-4, atol=1e-6)
    parts = problem.student.output_weights[:, None] * wide.features
    rest = np.asarray(parts)[order[units:]]
    assert explorer.value("dropped")[0] * problem.scale == pytest.approx(np.linalg.norm(rest.sum(axis=0)), rel=1e-4)
    assert explorer.value("apart")[0] * problem.scale == pytest.approx(np.linalg.norm(rest), rel=1e-4)
    shares = np.asarray(parts @ wide.outputs / np.sum(wide.outputs**2))[order]
    np.testing.assert_allclose(explorer.value("shares"), shares, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lam", [0.1, 0.5, 2.0, 10.0])
def test_the_claim(explorer, lam):
    """At every number of units, along every order, the loss is between the damped sum and the sum."""
    first = []
    for order in (0.0, 1.0, 2.0):
        for units in (1.0, 10.0, 38.0, 70.0, 99.0, 100.0):
            at(explorer, units, order, lam)
            loss, dropped = explorer.value("loss")[0], explorer.value("dropped")[0]
            assert lam / (lam + units / 100) * dropped - 1e-6 <= loss <= dropped + 1e-6
        least = np.nan_to_num(explorer.value("least"))  # no number: the bound says no more
        assert np.all(least <= explorer.value("losses") + 1e-6)
        first.append(explorer.value("first")[0])
        if units == 100:
            assert loss < 1e-6
    assert first[2] < 0.6 * min(first[:2])


def test_sums_count_and_not_sizes(explorer):
    """The chapter's numbers: 38 greedy units for a tenth; the units that they drop are not the smaller ones."""
    at(explorer, 38.0, 2.0, 2.0)
    assert explorer.value("first")[0] == 38
    greedy = {name: explorer.value(name)[0] for name in ("apart", "dropped", "loss")}
    explorer.order = 1.0
    assert greedy["apart"] > explorer.value("apart")[0]
    assert greedy["dropped"] < 0.2 * explorer.value("dropped")[0]
    assert greedy["loss"] < 0.2 * explorer.value("loss")[0]


def test_losses_are_not_monotone(explorer):
    for order in (0.0, 1.0, 2.0):
        at(explorer, 38.0, order, 2.0)
        assert np.diff(explorer.value("losses")).max() > 1e-3
    rises = np.diff(explorer.value("losses")) > 0
    assert rises[:38].mean() < 0.1 and rises[70:].mean() > 0.4  # along the greedy order: late, and often


def test_a_loss_curve_is_stored_once_for_all_numbers_of_units(explorer):
    assert explorer._fields["losses"]["length"] == 3 * 4 * 100


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("units", 0.0, r"^units: expected a whole number from 1 to 100; got 0\.0$"),
        ("units", 37.5, r"^units: expected a whole number from 1 to 100; got 37\.5$"),
        ("order", 3.0, r"^order: expected one of 0 \(random\), 1 \(by lead\), 2 \(greedy\); got 3\.0$"),
        ("lam", 0.0, r"^lam: expected a finite number from 0\.001 to 1000; got 0\.0$"),
    ],
)
def test_bad_values_are_refused(explorer, name, value, message):
    before = getattr(explorer, name)
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before
