"""The statements of the chapter *Lazy training*, with networks that are really trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims.kernels import SLOPE
from tests.extremes import SINGLES, clock, corner_of, extreme

SMOOTH = ("tanh", "erf", "softplus")


def student(seed, width, dim, activation="tanh"):
    return kd.TwoLayerNetwork.init(jax.random.key(seed), width, dim, activation=activation)


def near(seed, width, *, lam=1.0, kappa=1.0, activation="tanh"):
    """A problem on 6 points in 3 dimensions whose teacher stands κ/√m from every unit, in a random direction."""
    data = kd.datasets.gaussian(6, 3, test=1, seed=seed)
    net = student(seed, width, 3, activation)
    direction = jax.random.normal(jax.random.key(seed + 1), (width, 6))
    direction /= jnp.linalg.norm(direction, axis=1, keepdims=True)
    return kd.TransferProblem(net, data.x, data.y, net.features(data.x) + kappa * direction / jnp.sqrt(width), lam=lam)


def smooth(seed):
    """Any smooth activation; where one unit, sample or dimension asks for a shape of its own, the same for all."""
    return SMOOTH[0 if corner_of(seed) in SINGLES else seed % 3]


def copied(problem, copies, *, conspiring):
    """Copies of every unit, half of them with the opposite sign: f(0) = 0 and the same units at every width.

    A teacher that leads the units of either sign alike makes their remainders add up in the output; one that leads them
    in opposite directions makes them cancel.
    """
    old, width = problem.student, problem.student.width * copies
    signs = jnp.repeat(jnp.tile(jnp.asarray([1.0, -1.0]), copies // 2), old.width)
    net = kd.TwoLayerNetwork(jnp.tile(old.weights, (copies, 1)), signs, old.activation)
    side = jnp.ones(width) if conspiring else signs
    phi = net.features(problem.x) + side[:, None] * jnp.tile(problem.feature_gap, (copies, 1)) / jnp.sqrt(copies)
    return kd.TransferProblem(net, problem.x, problem.y, phi, lam=problem.lam)


def far(seed, width, *, lam=1.0):
    """The same data and student; the teacher is another network, drawn on its own."""
    problem = near(seed, width, lam=lam)
    phi = student(seed + 1000, width, 3).features(problem.x)
    return kd.TransferProblem(problem.student, problem.x, problem.y, phi, lam=lam)


def trained_beforehand(seed, width, times):
    """n = 20 and d = 10; the teacher is the student itself, trained on y; then 4 labels are flipped."""
    data = kd.datasets.gaussian(20, 10, test=1, seed=seed)
    net = student(seed, width, 10)
    teacher = kd.gradient_flow(kd.TransferProblem(net, data.x, data.y, net.features(data.x), lam=0.0), times).network
    flipped = kd.datasets.flip(data.y, 4, seed=seed)
    return kd.TransferProblem(net, data.x, flipped, teacher.features(data.x), lam=0.5)


@pytest.mark.claim("residual-growth", trains=True)
def test_residual_growth(cases, ledger):
    for seed in cases:
        problem = extreme(near(seed, 128, lam=(0.0, 0.3, 3.0)[seed % 3], activation=smooth(seed)), seed)
        ledger(claims.residual_growth(problem, (0.05 + seed % 2) * clock(problem)))


def test_residual_growth_is_tight_for_a_unit_without_output():
    # b_k = 0: the unit only follows its teacher, and at lam = 0 it does not move at all
    problem = near(0, 4, lam=0.0)
    net = kd.TwoLayerNetwork(problem.student.weights, jnp.zeros(4))
    still = kd.TransferProblem(net, problem.x, problem.y, problem.phi, lam=0.0)
    end = kd.gradient_flow(still, [3.0]).network
    np.testing.assert_allclose(still.phi - end.features(still.x), still.feature_gap, atol=1e-14)


@pytest.mark.claim("lazy-training", trains=True)
def test_lazy_training(cases, ledger):
    for seed in cases:
        kappa = (0.5, 3.0)[seed % 2]
        problem = near(seed, 128, lam=(0.0, 0.3, 3.0)[seed % 3], kappa=kappa, activation=smooth(seed))
        problem = extreme(problem, seed)
        ledger(claims.lazy_training(problem, (0.02, 0.2, 2.0)[seed // 3 % 3] * clock(problem), kappa=kappa + 1e-9))


def test_the_movement_bound_is_tight_at_short_times():
    # one sample: L_k has one column, and every inequality of the first steps is an equality but |tanh'| <= 1
    x, y = jnp.asarray([[1.0, 0.0]]), jnp.asarray([2.0])
    net = kd.TwoLayerNetwork(jnp.asarray([[0.01, 1.0]] * 16), [1.0, -1.0] * 8)
    problem = kd.TransferProblem(net, x, y, net.features(x), lam=1.0)
    moved = jnp.linalg.norm(kd.gradient_flow(problem, [1e-3]).network.weights - net.weights, axis=1)
    assert float(jnp.max(moved)) == pytest.approx(2e-3 / 4, rel=0.01)
    assert claims.lazy_training(problem, 1e-3).holds
    assert claims.lazy_training(problem, 1e-3, misfit=1.9).margin <= 0.01


@pytest.mark.counterexample("lazy-training")
def test_a_far_teacher_breaks_the_promise_of_kappa():
    problem = far(0, 16384, lam=10.0)
    assert claims.lazy_training(problem, 0.02).holds  # with its own, large kappa
    assert claims.lazy_training(problem, 0.02, kappa=1.0).margin <= 0.01


@pytest.mark.counterexample("lazy-training")
def test_a_start_far_from_the_labels_breaks_the_promise_of_misfit():
    # softplus with all signs +: f(0) grows like sqrt(m)
    problem = near(0, 16384, activation="softplus")
    net = kd.TwoLayerNetwork(problem.student.weights, jnp.ones(16384), "softplus")
    positive = kd.TransferProblem(net, problem.x, problem.y, problem.phi, lam=1.0)
    assert claims.lazy_training(positive, 0.02).holds
    assert claims.lazy_training(positive, 0.02, misfit=4.0).margin <= 0.01


@pytest.mark.counterexample("lazy-training")
def test_a_relu_has_no_curvature_and_yet_its_kernels_move():
    problem = near(0, 64, activation="relu", kappa=3.0)
    assert claims.lazy_training(problem, 0.1, kappa=3.001).margin <= 0.01


@pytest.mark.claim("lazy-training-rate", trains=True)
def test_lazy_training_rate(cases, ledger):
    for seed in cases:
        # what does not move at all has no rate, nor has a gap below rounding, and shapes of their own would be compiled
        # at both widths
        without = ("dead units", "strong transfer", *SINGLES)
        problem = extreme(near(seed, 16, activation=SMOOTH[seed % 3]), seed, without=without)
        narrow, wide = (copied(problem, copies, conspiring=bool(seed % 2)) for copies in (2, 64))
        ledger(claims.lazy_training_rate(narrow, wide, clock(problem)))


def test_a_conspiring_teacher_attains_the_rate_of_the_theorem():
    gaps = {}
    for copies in (2, 64):
        problem = copied(near(0, 64), copies, conspiring=True)
        trained, linear = kd.gradient_flow(problem, [1.0]), kd.kernel_flow(problem, [1.0])
        gaps[copies] = float(jnp.linalg.norm(trained.outputs - linear.outputs))
    assert np.log(gaps[64] / gaps[2]) / np.log(32) == pytest.approx(-0.5, abs=0.05)


@pytest.mark.counterexample("lazy-training-rate")
def test_units_with_a_far_teacher_do_not_become_lazy():
    assert claims.lazy_training_rate(far(0, 2), far(0, 2**16), 1.0).margin <= 0.01


def test_measured_slopes_of_the_lazy_regime():
    times, widths = np.asarray([1.0, 2.0, 5.0, 10.0, 20.0]), (64, 256, 1024)
    gaps, moves = np.zeros((2, 3, len(widths)))
    for seed in range(3):
        for column, width in enumerate(widths):
            problem = trained_beforehand(seed, width, times)
            trained, linear = kd.gradient_flow(problem, times), kd.kernel_flow(problem, times)
            gaps[seed, column] = jnp.max(jnp.linalg.norm(trained.outputs - linear.outputs, axis=1))
            moved = trained.network.weights - problem.student.weights
            moves[seed, column] = jnp.max(jnp.linalg.norm(moved, axis=1))
    slopes = [np.polyfit(np.log(widths), np.mean(np.log(rows), axis=0), 1)[0] for rows in (gaps, moves)]
    assert slopes[0] <= -0.8
    assert -0.6 <= slopes[1] <= -0.4


@pytest.mark.claim("near-teacher", trains=True)
def test_near_teacher(cases, ledger):
    for seed in cases:
        problem = extreme(near(seed, 128, activation=smooth(seed)), seed)
        ledger(claims.near_teacher(problem, (0.05, 0.5, 5.0)[seed // 3 % 3] * clock(problem)))


@pytest.mark.counterexample("near-teacher")
def test_a_teacher_far_from_its_labels_runs_away():
    problem = near(0, 16384, activation="softplus")
    net = kd.TwoLayerNetwork(problem.student.weights, jnp.ones(16384), "softplus")
    positive = kd.TransferProblem(net, problem.x, problem.y, problem.phi, lam=1.0)
    assert claims.near_teacher(positive, 0.02).holds
    assert claims.near_teacher(positive, 0.02, misfit=4.0).margin <= 0.01


@pytest.mark.claim("far-teacher", trains=True)
def test_far_teacher(cases, ledger):
    for seed in cases:
        problem = extreme(far(seed, 128, lam=(0.5, 5.0)[seed % 2]), seed)
        ledger(claims.far_teacher(problem, (1e-5, 1e-4, 1e-3)[seed % 3] * clock(problem)))


@pytest.mark.counterexample("far-teacher")
def test_a_near_teacher_pulls_too_little():
    assert claims.far_teacher(near(0, 4096, lam=5.0), 1e-3, pull=0.5).margin <= 0.01


def test_far_teacher_is_tight_at_short_times():
    problem = far(1, 4096, lam=5.0)
    moved = jnp.linalg.norm(kd.gradient_flow(problem, [1e-5]).network.weights - problem.student.weights, axis=1)
    pull = jnp.linalg.norm((problem.student.derivative(problem.x) * problem.feature_gap) @ problem.x, axis=1)
    np.testing.assert_allclose(moved / (5e-5 * pull), 1.0, atol=0.3)


@pytest.mark.claim("relu-kernel-jump")
def test_relu_kernel_jump(cases, ledger):
    for seed in cases:
        x = np.random.default_rng(seed).normal(size=(6, 3))
        problem = kd.TransferProblem(student(seed, 50, 3, "relu"), x, np.zeros(6), None, lam=0.0)
        problem = extreme(problem, seed)
        net, size = problem.student, jnp.max(jnp.abs(problem.student.weights)) / 3
        change = size * jax.random.normal(jax.random.key(-seed - 1), net.weights.shape)
        ledger(claims.relu_kernel_jump(net, net.with_weights(net.weights + 0.1 * (seed % 5) * change), problem.x))


@pytest.mark.counterexample("relu-kernel-jump")
def test_a_smooth_unit_drifts_without_a_jump():
    net = student(0, 50, 3)
    x = kd.datasets.gaussian(6, 3).x
    assert claims.relu_kernel_jump(net, net.with_weights(net.weights + 1e-3), x).margin <= 0.01


@pytest.mark.counterexample("residual-growth")
def test_a_slope_beyond_its_bound_carries_a_unit_away_sooner(monkeypatch):
    monkeypatch.setitem(SLOPE, "tanh", 0.1)
    assert claims.residual_growth(near(0, 32, lam=0.0, kappa=1e-3), 0.05).margin <= 0.01
