"""The bounds under label noise: true where their assumptions are met, tight at the threshold, not true elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.problems import SHAPES, any_problem, as_transfer_problem, measured_on, random_problem


def problem_and_truth(lam, error=0.5):
    """A student whose own start is its teacher, and errs by ``error`` everywhere."""
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 6, 5)
    x = jnp.eye(5)[:3]
    truth = student(x) + error
    return kd.TransferProblem(student, x, truth, student.features(x), lam=lam), truth


def test_both_rivals_are_beaten_exactly_up_to_the_threshold():
    # s = 1, e = 1/2: the teacher is beaten for λ > 3/2; s = 1/2, e = 1: the labels for λ < 2/3
    for call, noise, error, threshold, wins in (
        (kd.bounds.beats_teacher, 1.0, 0.5, 1.5, 1.1),
        (kd.bounds.beats_labels, 0.5, 1.0, 2 / 3, 0.9),
    ):
        at, inside, outside = (
            call(*problem_and_truth(threshold * factor, error), noise) for factor in (1.0, wins, 1 / wins)
        )
        np.testing.assert_allclose(at.measured, at.value, rtol=1e-12)
        assert inside.holds and inside.met and inside.measured < inside.value
        assert not outside.holds and not outside.met
        assert "not met" in str(outside)


@pytest.mark.parametrize("call", [kd.bounds.beats_teacher, kd.bounds.beats_labels])
def test_rivals_are_beaten_exactly_where_the_bound_says_so(call):
    met = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, 1])
        problem = any_problem(seed, ((8, 1, 5), (5, 6, 6), (7, 5, 8)), activation="tanh", repeated=False)
        truth = problem.student.output_weights @ problem.phi + 10.0 ** rng.uniform(-3, 3) * rng.normal(
            size=len(problem.y)
        )
        bound = call(problem, truth, 10.0 ** rng.uniform(-3, 3))
        near = np.abs(bound.measured / bound.value - 1) < 1e-6  # λ = 1e12 is the teacher's error, λ = 1e-12 the noise
        assert np.isfinite(bound.measured) and (near or bool(bound.holds) == bool(bound.met)), f"seed {seed}: {bound}"
        met += bool(bound.met)
    assert 50 < met < 150


def test_no_threshold_where_the_rival_is_the_worse_one():
    for lam in (1e-3, 1.0, 1e3):
        assert kd.bounds.beats_teacher(*problem_and_truth(lam, 1.0), 0.5).met
        assert kd.bounds.beats_teacher(*problem_and_truth(lam, 1.0), 0.5).holds
        assert kd.bounds.beats_labels(*problem_and_truth(lam, 0.5), 1.0).holds


def test_singular_kernels_are_noticed():
    problem = as_transfer_problem(*random_problem((6, 12, 4), "relu", 0)[:-1], 10.0)
    bound = kd.bounds.beats_teacher(problem, np.ones(12), 0.1)
    assert not bound.met and "invertible" in str(bound)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_noise_variance_holds(shape, activation):
    for seed in range(5):
        for lam in (1e-3, 0.3, 1.0, 30.0):
            problem = as_transfer_problem(*random_problem(shape, activation, seed)[:-1], lam)
            bound = kd.bounds.noise_variance(problem, 0.8)
            assert bound.holds and bound.value <= bound.trivial


def test_noise_variance_holds_for_any_problem():
    for seed in range(200):
        bound = kd.bounds.noise_variance(any_problem(seed), (0.0, 1e-6, 1.0, 1e6)[seed % 4])
        assert bound.holds and bound.met and np.isfinite(bound.measured), f"seed {seed}: {bound}"


def test_noise_variance_is_crossed_by_noise_that_is_not_white():
    # noise of the same size along what all units see: the labels cannot tell, and the student takes it up
    x = np.random.default_rng(0).normal(size=(9, 3))
    student = kd.TwoLayerNetwork(np.tile([[0.3, -0.2, 0.5]], (4, 1)), np.ones(4), "relu")
    seen = np.where(x @ student.weights[0] > 0, x[:, 0], 0.0)
    noise = 0.7 * np.sqrt(9) * seen / np.linalg.norm(seen)

    def end(y):
        return kd.fixed_point(kd.TransferProblem(student, x, y, student.features(x), lam=1.0)).outputs

    bound = kd.bounds.noise_variance(kd.TransferProblem(student, x, np.ones(9), student.features(x), lam=1.0), 0.7)
    coloured = kd.bounds.Bound("", 0.0, np.mean((end(np.ones(9) + noise) - end(np.ones(9))) ** 2))
    assert bound.holds and bound.met and not measured_on(bound, coloured).holds
    trust = [known.statement for known in bound.assumptions if known.met is None]
    assert trust == ["noise of mean 0 and covariance s²I, teacher chosen without it"]


def test_noise_variance_is_tight_with_one_range():
    """n ≤ d; and n > d with equal units and λ ≥ a: equality."""
    for n, lam in ((3, 0.1), (3, 4.0), (9, 1.0), (9, 4.0)):
        student = kd.TwoLayerNetwork(np.tile([[0.3, -0.2, 0.5]], (4, 1)), np.ones(4))
        x = np.random.default_rng(n).normal(size=(n, 3))
        problem = kd.TransferProblem(student, x, np.ones(n), student.features(x), lam=lam)
        bound = kd.bounds.noise_variance(problem, 1.0)
        np.testing.assert_allclose(bound.slack, 1.0, rtol=1e-9)


def test_bad_input():
    problem, truth = problem_and_truth(1.0)
    alone = kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0)
    for call in (kd.bounds.beats_teacher, kd.bounds.beats_labels):
        with pytest.raises(ValueError, match="problem: expected a teacher; got phi=None"):
            call(alone, truth, 1.0)
        with pytest.raises(ValueError, match="truth: expected a real array"):
            call(problem, truth[:2], 1.0)
    with pytest.raises(ValueError, match="problem: expected a strength lam > 0"):
        kd.bounds.noise_variance(alone, 1.0)
