"""What a bound says of itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib.bounds import Assumption, Bound
from tests.problems import any_problem

MET, MISSED = Assumption("λ > 0", True), Assumption("every H_k ≻ 0", False)
TRUST = Assumption("i.i.d. sample", None)


@pytest.mark.parametrize(
    ("bound", "holds", "informative", "text"),
    [
        (Bound("gap", 2.0, 1.0, [MET]), True, True, "gap: measured 1 ≤ 2"),
        (Bound("gap", 1.0, 2.0, [MET]), False, True, "gap: measured 2 > 1"),
        (Bound("gap", 50.0, 1.0), True, False, "gap: measured 1 ≤ 50; true but uninformative, a factor of 50 away"),
        (Bound("gap", 2.0, 1.0, trivial=1.5), True, False, "true but uninformative, a factor of 2 away"),
        (Bound("rate", 1.0, 2.0, below=True), True, True, "rate: measured 2 ≥ 1"),
        (Bound("rate", 2.0, 1.0, below=True), False, True, "rate: measured 1 < 2"),
        (Bound("rate", 0.0, 1.0, below=True), True, False, "a factor of inf away"),
        (Bound("gap", 1.0, 2.0, [MET, MISSED]), False, True, "gap: measured 2 > 1; not met: every H_k ≻ 0"),
        (Bound("gap", 1.0, 2.0, [MET, TRUST]), False, True, "gap: measured 2 > 1"),
        (Bound("gap", 1.0, -1e9, trivial=2.0), True, False, "true but uninformative, a factor of inf away"),
        (Bound("gap", -1.0, -1e9), True, False, "true but uninformative, a factor of inf away"),
        (Bound("rate", -1e9, 1.0, below=True, trivial=-jnp.inf), True, False, "a factor of inf away"),
        (Bound("gap", [2.0, 3.0], [1.0, 3.0]), True, True, "gap: 2 values measured, all ≤ their bound"),
        (Bound("gap", [2.0, 3.0], [1.0, 4.0]), False, True, "gap: 2 values measured, not all ≤ their bound"),
    ],
)
def test_a_bound_in_words(bound, holds, informative, text):
    assert bool(bound.holds) == holds and bool(bound.informative) == informative
    assert text in str(bound)
    assert bool(bound.met) == (MISSED not in bound.assumptions)


def test_rounding_is_no_crossing_and_slack_is_a_ratio():
    assert Bound("gap", 1.0, 1.0 + 1e-12).holds and not Bound("gap", 1.0, 1.0 + 1e-6).holds
    assert not Bound("gap", jnp.inf, jnp.nan).holds
    np.testing.assert_allclose(Bound("gap", [2.0, 0.0, 3.0], [1.0, 0.0, 0.0]).slack, [2.0, 1.0, np.inf])


def test_there_is_no_ratio_to_a_negative_number():
    found = Bound("gap", [0.0, 3.0, -1.0, -1.0, jnp.inf, -2.0], [-2.0, -2.0, -2.0, 2.0, -2.0, -2.0]).slack
    np.testing.assert_array_equal(found, [np.inf, np.inf, np.inf, 0.0, np.inf, 1.0])
    np.testing.assert_array_equal(Bound("rate", [-2.0, -2.0], [0.0, 3.0], below=True).slack, [np.inf, np.inf])


def test_a_bound_leaves_jit_and_vmap():
    problem = any_problem(3, sizes=(0,))

    def bound(lam):
        given = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return kd.bounds.noise_variance(given, 0.1)

    alone, strengths = bound(0.5), jnp.asarray([0.5, 2.0])
    for left in (jax.jit(bound)(0.5), jax.vmap(bound)(jnp.asarray([0.5]))):
        np.testing.assert_allclose(left.slack, alone.slack, rtol=1e-12)
        assert left.name == alone.name and left.holds and left.met and left.informative == alone.informative
        assert [known.statement for known in left.assumptions] == [known.statement for known in alone.assumptions]
        assert left.assumptions[1].met is None

    # a map judges all its problems
    mapped = jax.vmap(lambda noise, enough: Bound("gap", 2.0 * noise, noise**2, [Assumption("enough", enough)]))
    several = mapped(strengths, jnp.asarray([True, False]))
    assert several.holds and not several.met and str(several).endswith("all ≤ their bound; not met: enough")
    assert mapped(strengths, jnp.asarray([True, True])).met
    assert not mapped(strengths + 1, jnp.asarray([True, True])).holds
    rows = jax.vmap(lambda size: Bound("gap", size * jnp.ones(3), jnp.ones(3), trivial=size / 2, error=size))(strengths)
    assert rows.value.shape == rows.trivial.shape == rows.error.shape == (2, 3) and not rows.informative


def test_a_measured_quantity_is_judged_up_to_its_error():
    assert Bound("gap", 1.0, 1.1, error=0.2).holds and not Bound("gap", 1.0, 1.1, error=0.05).holds
    assert Bound("rate", 1.0, 0.9, below=True, error=0.2).holds
    assert not Bound("rate", [1.0, 1.0], [0.9, 0.9], below=True, error=[0.2, 0.05]).holds
    assert not Bound("gap", 1.0, jnp.nan, error=jnp.inf).holds


def test_every_bound_says_what_it_assumes():
    problem, bounds = any_problem(3, sizes=(0,)), kd.bounds
    x, truth = problem.x, problem.y
    labels = kd.TransferProblem(problem.student, x, np.sign(problem.y), problem.phi, lam=problem.lam)
    smooth = any_problem(4, sizes=(0,))
    found = {
        "beats_labels": bounds.beats_labels(problem, truth, 0.1),
        "beats_teacher": bounds.beats_teacher(problem, truth, 0.1),
        "displacement_norm": bounds.displacement_norm(problem),
        "energy_decay": bounds.energy_decay(problem, [1.0]),
        "equal_kernel_speedup": bounds.equal_kernel_speedup(problem, [1.0]),
        "finite_width_gap": bounds.finite_width_gap(smooth, [0.1]),
        "finite_width_gap_posterior": bounds.finite_width_gap_posterior(smooth, [0.1]),
        "generalization_gap": bounds.generalization_gap(labels, x, labels.y, delta=0.1),
        "interlacing": bounds.interlacing(problem, [1.0]),
        "iterations_to_accuracy": bounds.iterations_to_accuracy(problem, 0.1),
        "kernel_drift": bounds.kernel_drift(smooth, [0.1]),
        "noise_variance": bounds.noise_variance(problem, 0.1),
        "rademacher_complexity": bounds.rademacher_complexity(problem.student, x, 1.0),
        "slow_amplitude": bounds.slow_amplitude(problem),
        "slowest_rate": bounds.slowest_rate(problem),
        "small_transfer_rates": bounds.small_transfer_rates(problem),
        "time_to_accuracy": bounds.time_to_accuracy(problem, 0.1),
        "units_needed": bounds.units_needed(problem, 0.1),
        "weight_movement": bounds.weight_movement(smooth, [0.1]),
    }
    assert found.keys() == set(bounds.__all__) - {
        "Assumption", "Bound", "RademacherAverage", "Suprema", "activation_suprema", "rademacher_average"
    }  # fmt: skip
    for name, bound in found.items():
        # something is judged of the problem, and whatever is not is None
        judged = [known.met for known in bound.assumptions if known.met is not None]
        assert judged and all(np.asarray(met).dtype == bool and np.ndim(met) == 0 for met in judged), name
