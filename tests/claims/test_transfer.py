"""The statements of the chapter *Transfer* over random problems."""

import equinox as eqx
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from tests.extremes import extreme

SHAPES = ((1, 1, 1), (4, 3, 2), (7, 12, 2), (5, 2, 6))
ACTIVATIONS = ("tanh", "relu", "erf", "softplus")


def draw(seed, *, lam=None, signs=None, without=()):
    """A random problem, in a few shapes, with a strength between 1e-6 and 1e6; some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.3], m) if signs is None else signs(m)
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, ACTIVATIONS[seed // 4 % 4])
    lam = 10.0 ** rng.uniform(-6, 6) if lam is None else lam
    x, y, phi = rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(m, n))
    return extreme(kd.TransferProblem(student, x, y, phi, lam=lam), seed, without=without), rng


def networks_near(problem, rng, count):
    """Weights of random networks, about as large as the student's: what its inputs ask for, whatever their scale."""
    weights = np.asarray(problem.student.weights)
    return np.max(np.abs(weights)) * rng.normal(size=(count, *weights.shape))


@pytest.mark.claim("cheapest-features")
def test_cheapest_features(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed)
        ledger(claims.cheapest_features(problem, rng.normal(size=problem.y.shape)))


@pytest.mark.counterexample("cheapest-features")
def test_without_output_weights_an_output_has_no_price():
    problem, rng = draw(1, signs=np.zeros)
    assert claims.cheapest_features(problem, rng.normal(size=problem.y.shape)).margin <= 0.01


@pytest.mark.claim("unconstrained-fit")
def test_unconstrained_fit(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, without=("no transfer",))
        ledger(claims.unconstrained_fit(problem, rng.normal(size=problem.phi.shape)))


@pytest.mark.counterexample("unconstrained-fit")
def test_without_transfer_the_best_features_depend_on_the_start():
    problem, rng = draw(1, lam=0.0)
    assert claims.unconstrained_fit(problem, rng.normal(size=problem.phi.shape)).margin <= 0.01


@pytest.mark.claim("energy-floor")
def test_energy_floor(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, without=("no transfer",))
        ledger(claims.energy_floor(problem, problem.student.with_weights(3 * networks_near(problem, rng, 1)[0])))


@pytest.mark.claim("trade-off-line")
def test_trade_off_line(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, without=("no transfer",))
        # half of the features lie near the minimisers' line, where the inequality is tight
        scale = 10.0 ** rng.uniform(-6, 1)
        b, phi = np.asarray(problem.student.output_weights), np.asarray(problem.phi)
        on_line = phi + rng.uniform() * np.outer(b, np.asarray(problem.y) - b @ phi) / (b @ b)
        ledger(claims.trade_off_line(problem, on_line + scale * rng.normal(size=phi.shape)))


@pytest.mark.claim("regularised-is-constrained")
def test_regularised_is_constrained(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed)
        candidates = networks_near(problem, rng, 30)
        strengths = [1e-12, *10.0 ** rng.uniform(-3, 3, 8), 1e12]
        ledger(claims.regularised_is_constrained(problem, candidates, strengths))


@pytest.mark.counterexample("regularised-is-constrained")
def test_networks_that_do_not_minimise_need_not_lie_on_the_frontier():
    problem, rng = draw(1)
    candidates = rng.normal(size=(30, *problem.student.weights.shape))
    check = claims.regularised_is_constrained(problem, candidates, [0.1, 1.0, 10.0], choose=np.argmax)
    assert check.margin <= 0.01


@pytest.mark.counterexample("energy-floor")
def test_the_floor_is_that_of_the_students_own_output_weights():
    problem, _ = draw(1, lam=0.1)
    other = kd.TwoLayerNetwork(problem.student.weights, 2 * problem.student.signs, problem.student.activation)
    assert claims.energy_floor(problem, other).margin <= 0.01


@pytest.mark.counterexample("trade-off-line")
def test_a_negative_strength_spends_more_than_the_budget():
    # no TransferProblem has λ < 0: it is put in afterwards
    problem, rng = draw(1, lam=1.0)
    repelled = eqx.tree_at(lambda problem: problem.lam, problem, -problem.lam)
    assert claims.trade_off_line(repelled, rng.normal(size=problem.phi.shape)).margin <= 0.01
