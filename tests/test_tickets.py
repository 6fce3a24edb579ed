"""Narrow students and repeated distillation: against brute force and repeated limits, and what they refuse."""

import itertools

import jax
import numpy as np
import pytest

import kdlib as kd
from kdlib.bounds import Bound, units_needed
from tests.problems import any_problem, measured_on


def wide(m=8, n=6, d=3, lam=0.5, seed=0, activation="tanh"):
    data = kd.datasets.gaussian(n, d, seed=seed)
    student = kd.TwoLayerNetwork.init(jax.random.key(seed), m, d, activation=activation)
    phi = np.asarray(student.features(data.x)) + 0.3 * np.random.default_rng(seed).normal(size=(m, n))
    return kd.TransferProblem(student, data.x, data.y, phi, lam=lam)


PROBLEM = wide()


def loss_of(problem, units, output="keep"):
    end = kd.fixed_point(kd.ticket(problem, units, output=output)).outputs
    return np.linalg.norm(end - kd.fixed_point(problem).outputs) / problem.scale


@pytest.mark.parametrize("output", ["keep", "rescale"])
def test_losses_are_those_of_each_ticket(output):
    order = np.random.default_rng(1).permutation(8)
    losses = kd.ticket_losses(PROBLEM, order, output=output)
    expected = [loss_of(PROBLEM, order[: j + 1], output) for j in range(8)]
    np.testing.assert_allclose(losses, expected, atol=1e-9)


@pytest.mark.parametrize("output", ["keep", "rescale"])
def test_greedy_takes_the_best_unit_in_every_step(output):
    order, taken = kd.greedy_order(PROBLEM, output=output).tolist(), []
    for chosen in order[:-1]:
        left = [k for k in range(8) if k not in taken]
        losses = [loss_of(PROBLEM, [*taken, k], output) for k in left]
        assert loss_of(PROBLEM, [*taken, chosen], output) <= min(losses) + 1e-9
        taken.append(chosen)
    assert kd.greedy_order(PROBLEM, 3, output=output).tolist() == order[:3]


def test_smallest_ticket_is_the_first_that_fits_though_losses_are_not_monotone():
    order = kd.greedy_order(PROBLEM)
    losses = np.asarray(kd.ticket_losses(PROBLEM, order))
    assert (np.diff(losses) > 0).any()
    for loss in (0.05, 0.2, 0.5):
        units = kd.smallest_ticket(PROBLEM, loss, order)
        assert losses[units.size - 1] <= loss and (losses[: units.size - 1] > loss).all()


def test_a_small_ticket_of_a_wide_student_is_seen_in_32_bit():
    """The rank of a ticket's projectors is that of its own output weights."""
    with jax.enable_x64(False):
        student = kd.TwoLayerNetwork.init(jax.random.key(0), 4000, 2)
        x = jax.random.normal(jax.random.key(1), (300, 2))
        phi = student.features(x)
        problem = kd.TransferProblem(student, x, phi[0] + 1.0, phi, lam=1e-3)
        alone = kd.fixed_point(kd.ticket(problem, [0])).outputs
        expected = np.linalg.norm(kd.fixed_point(problem).outputs - alone) / problem.scale
        assert kd.ticket_losses(problem, [0])[0] == pytest.approx(float(expected), rel=1e-3)


def test_lead_order_sorts_what_the_teacher_adds():
    gap = np.asarray(PROBLEM.student.output_weights)[:, None] * np.asarray(PROBLEM.feature_gap)
    assert (np.diff(np.linalg.norm(gap, axis=1)[kd.lead_order(PROBLEM)]) <= 0).all()


def test_scaling_of_the_output_weights():
    keep, rescale = (kd.ticket(PROBLEM, [1, 5], output=output).student for output in ("keep", "rescale"))
    np.testing.assert_allclose(keep.output_weights, PROBLEM.student.output_weights[np.array([1, 5])])
    np.testing.assert_allclose([keep.a, rescale.a], [2 / 8, 1.0])


def test_no_ticket_is_smaller_than_the_bound_and_twins_attain_it():
    for seed in range(4):
        problem = wide(seed=seed, lam=(0.1, 10.0)[seed % 2])
        sizes = {}
        for size in range(1, 9):
            sizes[size] = min(loss_of(problem, c) for c in itertools.combinations(range(8), size)) if size < 4 else 0.0
        for loss in (0.1, 0.4, 0.8):
            smallest = min(size for size, least in sizes.items() if least <= loss)
            bound = units_needed(problem, loss)
            assert bound.holds and bound.value <= smallest
    student = kd.TwoLayerNetwork(np.ones((8, 1)), np.ones(8))
    twins = kd.TransferProblem(student, np.ones((1, 1)), np.ones(1), np.full((8, 1), 0.5), lam=1.0)
    assert all(units_needed(twins, loss).slack == 1 for loss in (0.02, 0.1, 0.3))


def test_no_greedy_ticket_is_smaller_than_the_bound_for_any_problem():
    for seed in range(200):
        problem, loss = any_problem(seed), 10.0 ** np.random.default_rng([seed, 1]).uniform(-3, 0)
        bound = units_needed(problem, loss)
        assert bound.holds and bound.met and 1 <= bound.value <= problem.student.width, f"seed {seed}: {bound}"


def test_rescaled_tickets_can_be_smaller_than_the_bound():
    """The theorem is for kept output weights: one rescaled twin does what the bound asks four of eight for."""
    student = kd.TwoLayerNetwork(np.ones((8, 1)), np.ones(8))
    twins = kd.TransferProblem(student, np.ones((1, 1)), [np.sqrt(8)], np.ones((8, 1)), lam=1.0)
    bound = units_needed(twins, 0.35)
    assert bound.holds and bound.value == 4
    one = kd.smallest_ticket(twins, 0.35, np.arange(8), output="rescale")
    assert not measured_on(bound, Bound("units of a ticket", 4.0, float(one.size))).holds


@pytest.mark.parametrize("replace", ["teacher", "labels"])
@pytest.mark.parametrize("shape", [(8, 6, 3), (5, 3, 6)])
@pytest.mark.parametrize("lam", [1e-3, 1.0, 1e3])
def test_rounds_are_repeated_limits(replace, shape, lam):
    problem = wide(*shape, lam=lam, activation="relu")
    rounds, now = kd.self_distillation(problem, 4, replace=replace), problem
    for r in range(4):
        end = kd.fixed_point(now)
        np.testing.assert_allclose(rounds.outputs[r], end.outputs, atol=1e-9)
        y, phi = (problem.y, end.features) if replace == "teacher" else (end.outputs, problem.phi)
        now = kd.TransferProblem(problem.student, problem.x, y, phi, lam=lam)
    np.testing.assert_allclose(rounds.features, end.features, atol=1e-8)
    bracket = problem.y - rounds.outputs[0]
    assert np.linalg.norm(bracket) <= np.linalg.norm(problem.y - rounds.carried) * (1 + 1e-12)


def test_many_rounds_end_where_they_should():
    for replace, goal in (("teacher", "nearest fit"), ("labels", "carried")):
        rounds = kd.self_distillation(PROBLEM, 3000, replace=replace)
        if goal == "carried":
            np.testing.assert_allclose(rounds.outputs[-1], rounds.carried, atol=1e-9)
        else:
            near = kd.fixed_point(kd.TransferProblem(PROBLEM.student, PROBLEM.x, PROBLEM.y, PROBLEM.phi, lam=1e-9))
            np.testing.assert_allclose(rounds.features, near.features, atol=1e-5)


def test_labels_left_out_are_the_teachers_where_every_kernel_is_positive():
    problem = wide(n=3, d=5)
    left_out = kd.leave_one_out(problem, [1e-3, 1.0, 1e3])
    teacher = np.asarray(problem.student.output_weights @ problem.phi)
    np.testing.assert_allclose(left_out, np.tile(teacher, (3, 1)), atol=1e-9)


def test_transformations():
    losses = jax.jit(lambda problem, order: kd.ticket_losses(problem, order))(PROBLEM, np.arange(4))
    np.testing.assert_allclose(losses, kd.ticket_losses(PROBLEM, np.arange(4)), atol=1e-12)

    def last(lam):
        problem = kd.TransferProblem(PROBLEM.student, PROBLEM.x, PROBLEM.y, PROBLEM.phi, lam=lam)
        return kd.self_distillation(problem, 2).outputs[-1, 0]

    step = 1e-5
    np.testing.assert_allclose(jax.grad(last)(0.5), (last(0.5 + step) - last(0.5 - step)) / (2 * step), rtol=1e-6)


PLAIN = kd.TransferProblem(PROBLEM.student, PROBLEM.x, PROBLEM.y, None, lam=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd.ticket(PROBLEM.student, [0]), "problem: expected a TransferProblem; got TwoLayerNetwork"),
        (lambda: kd.ticket(PROBLEM, [0, 0]), r"units: expected different unit indices .* got \[0, 0\]"),
        (lambda: kd.ticket(PROBLEM, [8]), r"units: .* from 0 to m - 1 = 7"),
        (lambda: kd.ticket(PROBLEM, [0.5]), "units: .* got float64 values"),
        (lambda: kd.ticket(PROBLEM, []), "units: "),
        (lambda: kd.ticket(PROBLEM, [0], output="same"), "output: expected one of 'keep', 'rescale'; got 'same'"),
        (lambda: kd.ticket_losses(PLAIN, [0]), "problem: expected lam > 0"),
        (lambda: kd.greedy_order(PLAIN), "problem: expected lam > 0"),
        (lambda: kd.greedy_order(PROBLEM, 9), "count: expected an integer from 1 to m=8; got 9"),
        (
            lambda: kd.smallest_ticket(PROBLEM, 1e-6, [0, 1]),
            "loss: expected one that some ticket along the order keeps to, .* got 1e-06",
        ),
        (lambda: kd.smallest_ticket(PROBLEM, -1, [0]), "loss: expected a number that is at least 0"),
        (lambda: kd.self_distillation(PLAIN, 2), "problem: expected lam > 0"),
        (lambda: kd.self_distillation(PROBLEM, 0), "rounds: expected a positive integer; got 0"),
        (lambda: kd.self_distillation(PROBLEM, 2, replace="both"), "replace: expected one of 'teacher', 'labels'"),
        (lambda: kd.leave_one_out(PROBLEM, [0.0]), "strengths: expected positive numbers; got 0.0"),
        (lambda: kd.leave_one_out(PROBLEM.student, [1.0]), "problem: expected a TransferProblem"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
