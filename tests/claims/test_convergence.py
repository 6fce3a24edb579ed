"""The statements of the chapter *How fast* over random problems."""

import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import convergence as checkers
from tests.extremes import FAR_TIMES, TWINS, extreme

ANY = ((1, 1, 1), (6, 3, 5), (5, 9, 3), (8, 4, 4))
SQUARE = ((1, 1, 1), (6, 3, 5), (8, 4, 4))
TIMES = (0.0, 0.1, 1.0, 30.0, *FAR_TIMES)


def draw(seed, shapes=ANY, *, decades=(-4, 2), activation=None, repeated=True, equal=False, still=False, without=()):
    """A random problem: λ over many decades, units without output, ReLU units off, repeated and antipodal samples.

    Now and then in a corner; outputs that cannot move only if ``still``.
    """
    rng = np.random.default_rng(seed)
    m, n, d = shapes[seed % len(shapes)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    if seed % 9 == 3 and m > 1:
        signs[0] = 0.0
    activation = ("tanh", "relu")[seed // 4 % 2] if activation is None else activation
    weights, x = rng.normal(size=(m, d)), rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if m == 1:
        weights *= np.sign(weights @ x[0])  # the only unit is on
    if seed % 5 == 2 and n > 1 and repeated:
        x[-1] = x[0] * rng.choice([-1.0, 1.0])
    if equal:
        weights = weights[:1] * rng.choice([-1.0, 1.0], (m, 1))  # tanh' is even
    student = kd.TwoLayerNetwork(weights, signs, activation)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    problem = kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=10.0 ** rng.uniform(*decades))
    cornered = extreme(problem, seed, without=("no transfer", *without))
    slopes = cornered.student.output_weights[:, None] * cornered.student.derivative(cornered.x)
    return cornered if still or np.any(slopes) else problem


def other_feedback(problem):
    """The error comes back with the wrong sign."""
    return -np.asarray(problem.student.output_weights)


@pytest.mark.claim("rate-from-below")
def test_rate_from_below(cases, ledger):
    for seed in cases:
        ledger(claims.rate_from_below(draw(seed)))


@pytest.mark.counterexample("rate-from-below")
def test_rate_from_below_needs_the_same_weights_forward_and_backward():
    problem = draw(1, decades=(-1, -1))
    assert claims.rate_from_below(problem, other_feedback(problem)).margin <= 0.01


@pytest.mark.claim("interlacing")
def test_interlacing(cases, ledger):
    for seed in cases:
        ledger(claims.interlacing(draw(seed, still=True)))


@pytest.mark.counterexample("interlacing")
def test_interlacing_needs_the_same_weights_forward_and_backward():
    problem = draw(1, decades=(0.5, 0.5))
    assert claims.interlacing(problem, other_feedback(problem)).margin <= 0.01


@pytest.mark.claim("energy-decay")
def test_energy_decay(cases, ledger):
    for seed in cases:
        problem = draw(seed, SQUARE, activation="tanh", repeated=False, without=(*TWINS, "one dimension"))
        ledger(claims.energy_decay(problem, TIMES))


@pytest.mark.counterexample("energy-decay")
def test_energy_decay_needs_positive_kernels():
    assert claims.energy_decay(draw(2, activation="tanh", decades=(0, 0)), TIMES).margin <= 0.01


@pytest.mark.claim("equal-kernels")
def test_equal_kernels(cases, ledger):
    for seed in cases:
        ledger(claims.equal_kernels(draw(seed, activation="tanh", equal=True), (*TIMES, np.inf)))


@pytest.mark.counterexample("equal-kernels")
def test_equal_kernels_needs_equal_kernels():
    assert claims.equal_kernels(draw(1, activation="tanh"), TIMES).margin <= 0.01


@pytest.mark.claim("rate-crossover")
def test_rate_crossover(cases, ledger):
    for seed in cases:
        ledger(claims.rate_crossover(draw(seed)))


@pytest.mark.counterexample("rate-crossover")
def test_rate_crossover_notices_a_wrong_rate(monkeypatch):
    monkeypatch.setattr(checkers, "decay_rates", lambda problem, k: 0.5 * kd.decay_rates(problem, k))
    assert claims.rate_crossover(draw(1, activation="tanh", equal=True)).margin <= 0.01


@pytest.mark.claim("two-time-scales")
def test_two_time_scales(cases, ledger):
    for seed in cases:
        ledger(claims.two_time_scales(draw(seed, decades=(-8, 1))))


@pytest.mark.counterexample("two-time-scales")
def test_two_time_scales_notices_a_wrong_rate(monkeypatch):
    monkeypatch.setattr(checkers, "decay_rates", lambda problem, k: 1.1 * kd.decay_rates(problem, k))
    assert claims.two_time_scales(draw(1, decades=(-4, -4))).margin <= 0.01


@pytest.mark.claim("small-transfer-amplitude")
def test_small_transfer_amplitude(cases, ledger):
    for seed in cases:
        ledger(claims.small_transfer_amplitude(draw(seed, decades=(-8, -2), activation="tanh"), TIMES))


@pytest.mark.counterexample("small-transfer-amplitude")
def test_small_transfer_amplitude_is_that_of_slow_modes_only():
    assert claims.small_transfer_amplitude(draw(1, decades=(-5, -5)), TIMES, extra=1).margin <= 0.01


@pytest.mark.claim("time-to-reach")
def test_time_to_reach(cases, ledger):
    for seed in cases:
        accuracy = 10.0 ** np.random.default_rng(seed).uniform(-6, 0)
        ledger(claims.time_to_reach(draw(seed), accuracy))


@pytest.mark.counterexample("time-to-reach")
def test_time_to_reach_needs_the_whole_time():
    assert claims.time_to_reach(draw(0), 1e-4, shrink=0.5).margin <= 0.01


@pytest.mark.claim("iterations")
def test_iterations(cases, ledger):
    for seed in cases:
        ledger(claims.iterations(draw(seed)))


@pytest.mark.counterexample("iterations")
def test_iterations_needs_a_stable_step():
    assert claims.iterations(draw(1), stretch=2.5).margin <= 0.01
