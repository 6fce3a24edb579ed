"""The statements of the chapter *Gradient flow* over random problems."""

import jax
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import gradient_flow as checkers
from tests.extremes import SINGLES, clock, corner_of, extreme

# one activation for each shape, so that each compiles once
STUDENTS = ((5, 4, 3, "tanh"), (3, 6, 2, "erf"), (1, 1, 1, "softplus"), (4, 3, 5, "relu"))


def draw(seed, *, smooth=False, largest=2):
    """A random problem of one of a few shapes; λ = 0 for some of them, and some in a corner."""
    rng = np.random.default_rng(seed)
    m, n, d, activation = STUDENTS[seed % (len(STUDENTS) - smooth)]
    # the corners with shapes of their own would be compiled for every activation
    activation = "tanh" if smooth and corner_of(seed) in SINGLES else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], m), activation)
    lam = 0.0 if seed % 5 == 4 else 10.0 ** rng.uniform(-3, largest)
    x, y, phi = rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=(m, n))
    return extreme(kd.TransferProblem(student, x, y, phi, lam=lam), seed), rng


def sized(problem, rng):
    """A random change of the weights, as large as they are: what their inputs ask for, whatever the scale."""
    weights = np.asarray(problem.student.weights)
    return np.max(np.abs(weights)) * rng.normal(size=weights.shape)


def at_a_kink():
    """A ReLU unit that stands exactly at its kink."""
    student = kd.TwoLayerNetwork(np.zeros((1, 1)), np.ones(1), "relu")
    return kd.TransferProblem(student, np.ones((1, 1)), np.ones(1), np.ones((1, 1)), lam=1.0)


@pytest.mark.claim("energy-gradient")
def test_energy_gradient(cases, ledger):
    for seed in cases:
        ledger(claims.energy_gradient(draw(seed, largest=6)[0]))


@pytest.mark.counterexample("energy-gradient")
def test_energy_gradient_at_a_kink():
    assert claims.energy_gradient(at_a_kink()).margin <= 0.01


@pytest.mark.claim("feature-dynamics")
def test_feature_dynamics(cases, ledger):
    for seed in cases:
        ledger(claims.feature_dynamics(draw(seed, largest=6)[0]))


@pytest.mark.counterexample("feature-dynamics")
def test_feature_dynamics_at_a_kink():
    assert claims.feature_dynamics(at_a_kink()).margin <= 0.01


@pytest.mark.claim("energy-identity", trains=True)
def test_energy_identity(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, smooth=True)
        ledger(claims.energy_identity(problem, 10.0 ** rng.uniform(-3, 1) * clock(problem)))


@pytest.mark.claim("flow-exists", trains=True)
def test_flow_exists(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, smooth=True)
        horizon = 10.0 ** rng.uniform(-3, 1) * clock(problem)
        ledger(claims.flow_exists(problem, horizon, 1e-9 * sized(problem, rng)))


@pytest.mark.counterexample("flow-exists")
def test_the_flow_from_a_kink_depends_on_the_side():
    assert claims.flow_exists(at_a_kink(), 3.0, np.full((1, 1), 1e-9)).margin <= 0.01


@pytest.mark.claim("time-unit", trains=True)
def test_time_unit(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, smooth=True)
        factor = 2.0 if seed == 0 else 10.0 ** rng.uniform(-1, 1)
        ledger(claims.time_unit(problem, factor, clock(problem)))


@pytest.mark.claim("hessian-bounds")
def test_hessian_bounds(cases, ledger):
    for seed in cases:
        problem, rng = draw(seed, smooth=True, largest=6)
        ledger(claims.hessian_bounds(problem, sized(problem, rng)))


@pytest.mark.claim("descent-follows-flow", trains=True)
def test_descent_follows_flow(cases, ledger):
    for seed in cases:
        problem, _ = draw(seed, smooth=True)
        horizon = horizon_of(problem)
        ledger(claims.descent_follows_flow(problem, horizon, [horizon / steps for steps in (50, 100, 200)]))


def horizon_of(problem):
    """A time on which the theorem's constants stay small: the gradient is Lipschitz with about 1/horizon."""
    squared, strength = np.linalg.norm(problem.x, 2) ** 2, 1 + float(problem.lam)
    return 0.5 / (squared * (strength + np.sqrt(2 * strength * problem.energy(problem.student))))


def two_kinks(gap):
    """One ReLU unit between two nearly opposite samples: it is off for both in a wedge of angle about `gap`."""
    student = kd.TwoLayerNetwork(np.array([[1.0, -1.0]]), np.ones(1), "relu")
    x = np.array([[1.0, 0.0], [-1.0, gap]])
    return kd.TransferProblem(student, x, np.array([-1.0, 1.0]), None, lam=0.0)


@pytest.mark.counterexample("descent-follows-flow")
def test_descent_jumps_over_a_kink():
    check = claims.descent_follows_flow(two_kinks(1e-4), 4.0, [1e-3])
    assert check.margin <= 0.01


@pytest.mark.counterexample("descent-follows-flow")
def test_descent_with_a_long_step_leaves_the_flow():
    # one unit far from its kink, where the ReLU is linear: each step multiplies the distance to the minimiser by −9
    student = kd.TwoLayerNetwork(np.full((1, 1), 1e6 + 1), np.ones(1), "relu")
    problem = kd.TransferProblem(student, np.ones((1, 1)), np.array([1e6]), np.array([[1e6]]), lam=1.0)
    assert claims.descent_follows_flow(problem, 30.0, [5.0]).margin <= 0.01


def linear(seed):
    """A random problem for a student with σ(z) = z."""
    problem, rng = draw(4 * seed + 3)  # one shape: fewer samples than inputs, so that M is singular
    student = kd.TwoLayerNetwork(problem.student.weights, problem.student.signs, identity)
    return kd.TransferProblem(student, problem.x, problem.y, problem.phi, lam=problem.lam), rng


def identity(z):
    return z


def edge_of(problem):
    return 2 / ((float(problem.student.a) + float(problem.lam)) * np.linalg.norm(problem.x, 2) ** 2)


@pytest.mark.claim("stable-step")
def test_stable_step(cases, ledger):
    for seed in cases:
        problem, rng = linear(seed)
        ledger(claims.stable_step(problem, rng.uniform(0.01, 0.999) * edge_of(problem), int(rng.integers(1, 50))))


@pytest.mark.counterexample("stable-step")
def test_a_step_beyond_the_edge_diverges():
    problem, _ = linear(0)
    assert claims.stable_step(problem, 1.2 * edge_of(problem), 50).margin <= 0.01


@pytest.mark.parametrize("activation", ["tanh", "erf", "softplus"])
def test_the_gap_of_descent_falls_in_proportion_to_the_step(activation):
    rng = np.random.default_rng(1)
    student = kd.TwoLayerNetwork(rng.normal(size=(5, 3)), rng.choice([-1.0, 1.0], 5), activation)
    problem = kd.TransferProblem(student, rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(5, 4)), lam=0.5)
    flow = kd.gradient_flow(problem, np.array([1.0])).network.weights
    steps = np.array([100, 200, 400, 800])
    gaps = [np.linalg.norm(kd.gradient_descent(problem, 1 / s, np.array([s])).network.weights - flow) for s in steps]
    slope = np.polyfit(np.log(1 / steps), np.log(gaps), 1)[0]
    assert abs(slope - 1) < 0.05


def test_the_checkers_own_activations():
    from kdlib.claims.gradient_flow import _ACTIVATIONS

    z = np.linspace(-4, 4, 80_001)
    for name in ("tanh", "erf", "softplus"):
        own, library = _ACTIVATIONS[name], kd.network.ACTIVATIONS[name][0]
        assert np.allclose(own.value(z), library(z), atol=1e-12)
        assert np.allclose(own.slope(z), jax.vmap(jax.grad(library))(z), atol=1e-12)
        assert np.allclose(own.bend(z), jax.vmap(jax.grad(jax.grad(library)))(z), atol=1e-12)
        # softplus comes to its steepest slope, 1, only at infinity
        assert 0.98 * own.steepest <= np.max(np.abs(own.slope(z))) <= own.steepest * (1 + 1e-12)
        assert np.isclose(np.max(np.abs(own.bend(z))), own.sharpest, rtol=1e-6)


def two_long_steps(problem, times):
    """Gradient descent in the place of the flow."""
    return kd.gradient_descent(problem, times[-1] / 2, np.array([0, 2]))


@pytest.mark.counterexample("energy-identity")
def test_descent_does_not_lose_what_the_flow_dissipates(monkeypatch):
    monkeypatch.setattr(checkers, "gradient_flow", two_long_steps)
    assert claims.energy_identity(draw(0)[0], 0.1).margin <= 0.01


@pytest.mark.counterexample("time-unit")
def test_from_a_kink_the_flow_of_a_multiple_may_take_another_side(monkeypatch):
    # with σ'(0) = 0 the unit stays at its kink, with σ'(0) = 1 it leaves: both are flows of the same energy
    leaving = checkers._ACTIVATIONS["relu"]._replace(slope=lambda z: (z >= 0) * 1.0)
    monkeypatch.setitem(checkers._ACTIVATIONS, "relu", leaving)
    assert claims.time_unit(at_a_kink(), 2.0, 1.0).margin <= 0.01


@pytest.mark.counterexample("hessian-bounds")
@pytest.mark.parametrize("promise", [{"steepest": 0.1}, {"sharpest": 0.0}])
def test_the_curvature_exceeds_bounds_from_slopes_that_are_not_bounded_so(monkeypatch, promise):
    problem, rng = draw(0)
    monkeypatch.setitem(checkers._ACTIVATIONS, "tanh", checkers._ACTIVATIONS["tanh"]._replace(**promise))
    assert claims.hessian_bounds(problem, rng.normal(size=problem.student.weights.shape)).margin <= 0.01
