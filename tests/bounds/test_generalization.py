"""Bounds on complexity, distance and test error: how tight they are, where they say nothing, what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

import kdlib as kd
from tests.problems import any_problem

bounds = kd.bounds


def start(width=8, dim=3, activation="tanh", seed=0):
    return kd.TwoLayerNetwork.init(jax.random.key(seed), width, dim, activation=activation)


def taught(lam, n=6, dim=3, seed=0):
    data = kd.datasets.gaussian(n, dim, seed=seed)
    net = start(dim=dim)
    phi = np.asarray(net.features(data.x)) + 0.3 * np.random.default_rng(seed).normal(size=(8, n))
    return kd.TransferProblem(net, data.x, data.y, phi, lam=lam), data


def test_trace_bound_holds_for_any_start():
    for seed in range(200):
        problem, radius = any_problem(seed), (0.0, 1e-6, 1.0, 1e6)[seed % 4]
        bound = bounds.rademacher_complexity(problem.student, problem.x, radius)
        assert bound.holds and bound.met and np.isfinite(bound.measured) and bound.slack <= np.sqrt(2) * (1 + 1e-9)


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0])
def test_trace_bound_holds_where_signs_are_drawn(spread):
    # nearly orthogonal gradients: the bound is nearer to the truth than 4096 roots are to their mean
    net = kd.TwoLayerNetwork(np.zeros((1, 20)), [1.0])
    for seed in range(5):
        x = np.eye(20) + spread * np.random.default_rng(seed).normal(size=(20, 20))
        bound = bounds.rademacher_complexity(net, x, 1.0)
        # the mean of the roots of squares with relative variance v is 1 - v/8 and so on
        kernel = x @ x.T
        variance = 2 * (np.sum(kernel**2) - np.sum(np.diag(kernel) ** 2)) / np.trace(kernel) ** 2
        assert bound.holds and bound.slack - 1 == pytest.approx(variance / 8, rel=0.15, abs=1e-13)


def test_trace_bound_is_crossed_by_the_networks_themselves():
    # one unit that starts where tanh is flat: in the kernel regime it cannot leave, a network within B can
    net, x, radius = kd.TwoLayerNetwork([[5.0]], [1.0]), np.ones((1, 1)), 5.0
    bound = bounds.rademacher_complexity(net, x, radius)
    outputs = [float(net.with_weights([[5.0 + v]])(x)[0]) for v in np.linspace(-radius, radius, 11)]
    assert bound.holds and (max(outputs) - min(outputs)) / 2 > 100 * bound.value


def test_trace_bound_is_attained_on_orthogonal_gradients():
    bound = bounds.rademacher_complexity(start(dim=5), np.eye(5), 2.0)
    assert bound.holds and bound.slack == pytest.approx(1, rel=1e-12)


def test_trace_bound_is_root_two_away_from_two_equal_samples():
    bound = bounds.rademacher_complexity(start(), np.tile([[0.6, 0.8, 0.0]], (2, 1)), 1.0)
    assert bound.slack == pytest.approx(np.sqrt(2), rel=1e-12)


def test_drawn_signs_agree_with_all_signs_within_their_standard_error():
    x = kd.datasets.gaussian(17, 3).x
    kernel = np.asarray(kd.tangent_kernel(start(), x))
    bits = (np.arange(2**16)[:, None] >> np.arange(17)) & 1
    signs = 2.0 * bits - 1
    exact = np.mean(np.sqrt(np.sum((signs @ kernel) * signs, axis=1))) / 17
    drawn = bounds.rademacher_average(start(), x, 1.0)
    assert 0 < drawn.standard_error < 0.01 * exact
    assert abs(drawn.value - exact) < 4 * drawn.standard_error
    assert drawn == bounds.rademacher_average(start(), x, 1.0)
    assert bounds.rademacher_average(start(), x[:14], 1.0).standard_error == 0


def test_symmetrisation_cannot_do_with_less_than_two():
    # one draw; with probability 0.02 it is the only input that the network can see, and the ramp is linear there
    share, net = 0.02, kd.TwoLayerNetwork([[0.3]], [1.0])
    x, output = np.ones((1, 1)), float(net(np.ones((1, 1)))[0])
    margin, slope = 2 * output, np.sqrt(float(kd.tangent_kernel(net, x)[0, 0]))
    radius = output / slope
    # the best student moves its output there by B slope, up or down: E|share - drawn| B slope / margin
    deviation = 2 * share * (1 - share) * radius * slope / margin
    allowed = 2 / margin * share * float(bounds.rademacher_average(net, x, radius).value)
    assert deviation <= allowed and deviation / allowed == pytest.approx(1 - share, rel=1e-12)


def test_confidence_term_is_within_a_factor_of_three_of_an_exact_quantile():
    # inputs too short to be seen: the loss is that of the start, 0 or 1 with equal probability
    n, delta, net = 400, 1e-6, kd.TwoLayerNetwork([[1.0]], [1.0])
    y = np.where(np.arange(n) % 2, 1.0, -1.0)
    x = np.full((n, 1), 1e-9)
    problem = kd.TransferProblem(net, x, y, None, lam=0)
    bound = bounds.generalization_gap(problem, x, y, delta=delta, margin=1e-9, times=0.0)
    allowed = float(bound.value) - 0.5
    needed = 0.5 - binom.ppf(delta, n, 0.5) / n
    complexity = 2 * 1e-9 / np.sqrt(n) / 1e-9
    assert 1 < (allowed - complexity) / needed < 3


def test_displacement_bound_holds_for_any_problem():
    met = 0
    for seed in range(200):
        bound = bounds.displacement_norm(any_problem(seed, zero=True))
        met += bool(bound.met)
        assert np.isfinite(bound.measured) and (bound.holds or not bound.met), f"seed {seed}: {bound}"
    assert met >= 195


def test_displacement_bound_says_where_a_rank_is_within_rounding():
    # short inputs, where all units are nearly alike: four samples in three dimensions are barely seen as four
    rng = np.random.default_rng(10)
    student = kd.TwoLayerNetwork(rng.normal(size=(3, 3)), [1.0, -1.0, -1.0])
    x, y = 1e-3 * rng.normal(size=(4, 3)), rng.normal(size=4)
    bound = bounds.displacement_norm(kd.TransferProblem(student, x, y, student.features(x), lam=1e-12))
    assert not bound.met and not bound.holds and "not met: ranks beyond rounding" in str(bound)


def test_displacement_bound_keeps_the_digits_of_small_eigenvalues():
    # two inputs that are 4e-6 apart: the small eigenvalue of the kernel is 8e-12, of which rounding leaves five digits
    student, x = kd.TwoLayerNetwork(np.zeros((1, 2)), [1.0]), [[1.0, 0.0], [1.0, 4e-6]]
    bound = bounds.displacement_norm(kd.TransferProblem(student, x, [1.0, 0.0], None, lam=0.0))
    exact = np.hypot(1.0, 1 / 4e-6)  # v = (1, -1/4e-6)
    assert bound.holds and bound.met and bound.value == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_displacement_bound_is_crossed_by_a_network_that_is_trained(lam):
    # its slope falls on the way to a label near 1, and the weights have to go further than in the kernel regime
    problem = kd.TransferProblem(kd.TwoLayerNetwork([[0.0]], [1.0]), [[1.0]], [0.9], [[0.9]], lam=lam)
    bound, trained = bounds.displacement_norm(problem), kd.gradient_flow(problem, [1e3])
    assert bound.holds and bound.met and trained.outputs[0, 0] == pytest.approx(0.9, rel=1e-6)
    assert trained.movement[0] > 1.5 * bound.value


def test_displacement_bound_asks_for_a_strength_that_is_not_negative():
    problem, _ = taught(0.5)

    def met(lam):
        traced = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return bounds.displacement_norm(traced).met

    assert jax.jit(met)(0.5) and not jax.jit(met)(-0.5)


def test_displacement_bound_is_attained_without_a_teacher_and_by_a_strong_one():
    assert bounds.displacement_norm(taught(0.0)[0]).slack == pytest.approx(1, rel=1e-7)
    slacks = [float(bounds.displacement_norm(taught(lam)[0]).slack) for lam in (1.0, 1e2, 1e6)]
    assert slacks[0] > slacks[1] > slacks[2] > 1 - 1e-9 and slacks[2] == pytest.approx(1, rel=1e-3)


def test_displacement_bound_survives_dead_and_repeated_samples():
    net = kd.TwoLayerNetwork(-np.ones((3, 2)), np.ones(3), "relu")
    dead = kd.TransferProblem(net, np.abs(np.eye(2)), np.ones(2), np.ones((3, 2)), lam=1.0)
    assert bounds.displacement_norm(dead).value == 0 and bounds.displacement_norm(dead).holds
    net = start(activation="relu")
    x = np.tile([[1.0, 0.0, 0.0]], (4, 1))
    for lam in (0.0, 1e-6, 1.0):
        twice = kd.TransferProblem(net, x, np.array([1.0, -1.0, 1.0, 1.0]), net.features(x) + 0.1, lam=lam)
        assert bounds.displacement_norm(twice).holds


def test_displacement_bound_under_jit():
    problem, _ = taught(0.5)

    def value(lam):
        traced = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=lam)
        return bounds.displacement_norm(traced).value

    assert jax.jit(value)(0.5) == pytest.approx(float(bounds.displacement_norm(problem).value), rel=1e-9)


def test_generalization_bound_holds_for_any_problem():
    # the test inputs are the sample: half of the labels may be wrong on them, or all
    for seed in range(200):
        rng = np.random.default_rng([seed, 1])
        given = any_problem(seed, zero=True)
        y = rng.choice([-1.0, 1.0], len(given.y))
        problem = kd.TransferProblem(given.student, given.x, y, given.phi, lam=given.lam)
        delta, margin, time = 10.0 ** rng.uniform([-9, -3, -3], [-0.01, 3, 3])
        times = (np.inf, 0.0, time / float(kd.largest_rate(problem).value))[seed % 3]
        bound = bounds.generalization_gap(problem, problem.x, y, delta=delta, margin=margin, times=times)
        assert bound.holds and bound.met and np.isfinite(bound.value), f"seed {seed}: {bound}"


def test_generalization_bound_is_nearly_attained():
    # labels are coin flips, the start's outputs are +1 and the margin is small: half of the ramp losses are 1
    n, x = 4000, np.ones((4000, 1))
    y, y_test = np.random.default_rng(0).choice([-1.0, 1.0], (2, n))
    problem = kd.TransferProblem(kd.TwoLayerNetwork([[1.0]], [1 / np.tanh(1.0)]), x, y, None, lam=0)
    bound = bounds.generalization_gap(problem, x, y_test, delta=0.05, times=0.0)
    assert bound.holds and bound.informative and 1 < bound.slack < 1.2


def test_generalization_bound_is_crossed_by_a_start_that_has_seen_the_sample():
    # labels are coin flips, and the start has fitted them: nothing is left to learn, and the bound is small
    data = kd.datasets.gaussian(200, 300, test=200)
    coins = np.random.default_rng(1).choice([-1.0, 1.0], 400)
    fit = np.linalg.lstsq(data.x, 4 * coins[:200], rcond=None)[0]
    problem = kd.TransferProblem(kd.TwoLayerNetwork(fit[None, :], [1.0]), data.x, coins[:200], None, lam=0)
    bound = bounds.generalization_gap(problem, data.x_test, coins[200:], delta=0.05, times=0.0)
    assert not bound.holds and bound.value < 0.3 and bound.measured > 0.4
    # nobody can see this of the numbers
    assert bound.met and bound.assumptions[0].statement.startswith("i.i.d.") and bound.assumptions[0].met is None


def test_generalization_bound_says_when_it_says_nothing():
    problem, data = taught(1.0)
    bound = bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.05)
    assert bound.holds and bound.value > 1 and not bound.informative and "uninformative" in str(bound)


def test_generalization_bound_can_be_informative():
    data = kd.datasets.gaussian(3000, 3, test=1000)
    noisy = kd.datasets.flip(data.y, 300)
    test = kd.datasets.flip(data.y_test, 100)
    problem = kd.TransferProblem(start(20), data.x, noisy, None, lam=0)
    bound = bounds.generalization_gap(problem, data.x_test, test, delta=0.05, times=0.002)
    assert bound.holds and bound.informative and bound.value < 0.7 and bound.slack < 5


def test_generalization_bound_stops_in_time_and_in_the_limit():
    problem, data = taught(1.0)
    at_start = bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.1, times=0.0)
    wrong = np.mean(data.y_test * problem.student(data.x_test) <= 0)
    assert at_start.measured == pytest.approx(wrong)
    limit = bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.1)
    both = bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.1, times=[0.0, 1e9])
    assert both.value.shape == (2,) and both.value[0] == pytest.approx(float(at_start.value), rel=1e-9)
    late = bounds.generalization_gap(problem, data.x_test, data.y_test, delta=0.1, times=1e9)
    assert limit.value == pytest.approx(float(late.value), rel=1e-6) and limit.measured == late.measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delta": 0.0}, "delta: expected a probability between 0 and 1; got 0.0"),
        ({"delta": jnp.nan}, "delta: expected finite values"),
        ({"margin": -1.0}, "margin: expected a positive number; got -1.0"),
        ({"times": -1.0}, "times: expected times that are at least 0"),
        ({"y_test": np.full(200, 0.5)}, "y_test: expected labels .1 and -1; got 0.5"),
        ({"y_test": np.ones(3)}, "y_test: expected a real array of shape"),
        ({"x_test": np.ones((200, 2))}, "x_test: expected a real array of shape"),
        ({"problem": "digits"}, "problem: expected a TransferProblem; got str"),
    ],
)
def test_generalization_bound_refuses(change, message):
    problem, data = taught(1.0)
    given = {"problem": problem, "x_test": data.x_test, "y_test": data.y_test, "delta": 0.1} | change
    with pytest.raises(ValueError, match=message):
        bounds.generalization_gap(given.pop("problem"), given.pop("x_test"), given.pop("y_test"), **given)


def test_generalization_bound_refuses_labels_other_than_two():
    problem, data = taught(1.0)
    other = kd.TransferProblem(problem.student, problem.x, 2 * problem.y, problem.phi, lam=1.0)
    with pytest.raises(ValueError, match=r"problem\.y: expected labels"):
        bounds.generalization_gap(other, data.x_test, data.y_test, delta=0.1)


def test_complexity_refuses():
    with pytest.raises(ValueError, match=r"radius: expected a number that is at least 0; got -1\.0"):
        bounds.rademacher_complexity(start(), np.eye(3), -1.0)
    with pytest.raises(ValueError, match="net: expected a TwoLayerNetwork; got NoneType"):
        bounds.rademacher_average(None, np.eye(3), 1.0)
    with pytest.raises(ValueError, match="problem: expected a TransferProblem"):
        bounds.displacement_norm(None)
