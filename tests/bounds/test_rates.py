"""The bounds on rates, energies, times and steps: true, tight somewhere, and not true where a hypothesis is broken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import bounds
from kdlib.bounds import times as times_module
from kdlib.linear_system import LinearSystem
from tests.problems import SHAPES, as_transfer_problem, random_problem

TIMES = (0.0, 0.1, 1.0, 10.0, 100.0)


def random(shape, activation="tanh", corner=0, lam=0.5):
    return as_transfer_problem(*random_problem(shape, activation, corner)[:-1], lam)


def one_kernel(m=3, n=2, lam=0.5, y=1.0):
    """tanh at w = 0 on the standard basis: every H_k is the identity."""
    student = kd.TwoLayerNetwork(jnp.zeros((m, n)), jnp.ones(m))
    return kd.TransferProblem(student, jnp.eye(n), jnp.full(n, y), jnp.ones((m, n)), lam=lam)


CASES = [(shape, activation, corner) for shape in SHAPES[:5] for activation in ("tanh", "relu") for corner in (0, 2, 3)]
CASES = [case for case in CASES if case[:2] != ((1, 6, 3), "relu")]  # a single unit may be off


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: "-".join(map(str, CASES[index])))
def test_bounds_without_hypotheses_hold(index):
    problem = random(*CASES[index], (1e-6, 0.1, 10.0)[index % 3])
    for bound in (
        bounds.slowest_rate(problem),
        bounds.interlacing(problem, np.geomspace(1e-8, 1e2, 30)),
        bounds.small_transfer_rates(problem),
        bounds.time_to_accuracy(problem, 0.05),
        bounds.iterations_to_accuracy(problem, 0.05),
    ):
        assert bound.holds and bound.met, str(bound)
    if problem.student.width > 1:
        assert bounds.slow_amplitude(problem).holds


def test_slowest_rate_is_attained_by_equal_kernels():
    bound = bounds.slowest_rate(one_kernel())
    np.testing.assert_allclose(bound.measured, bound.value, rtol=1e-12)
    assert bound.informative


def test_slowest_rate_says_nothing_without_a_teacher():
    problem = one_kernel()
    bound = bounds.slowest_rate(kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0))
    assert bound.value == 0 and bound.holds and not bound.met and not bound.informative


def test_slowest_rate_can_be_far_away():
    # a unit with a steep slope beside one with a flat one: together they are as fast as the steep one at λ → 0
    student = kd.TwoLayerNetwork(jnp.array([[3.0]]), jnp.ones(1))
    bound = bounds.slowest_rate(kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((1, 1)), lam=1e-3))
    assert bound.holds and not bound.informative and "uninformative" in str(bound)


def test_interlacing_is_attained():
    # at thresholds between λ and a + λ exactly n rates have crossed
    bound = bounds.interlacing(one_kernel(n=2), [0.7, 1.2])
    np.testing.assert_array_equal(bound.measured[0], [2.0, 2.0])
    np.testing.assert_array_equal(bound.value[0], [2.0, 2.0])


@pytest.mark.parametrize("corner", [0, 1, 4])
def test_energy_decay_holds_with_positive_kernels(corner):
    bound = bounds.energy_decay(random((7, 5, 8), "tanh", corner), (*TIMES, np.inf))
    assert bound.holds and bound.met


def test_energy_decay_is_attained_when_the_labels_agree_with_their_teacher():
    # y = φ̄ = f(0): only features move, all at the rate λ
    student = kd.TwoLayerNetwork(jnp.zeros((2, 2)), jnp.array([1.0, -1.0]))
    problem = kd.TransferProblem(student, jnp.eye(2), jnp.zeros(2), jnp.ones((2, 2)), lam=0.5)
    bound = bounds.energy_decay(problem, TIMES)
    np.testing.assert_allclose(bound.measured, bound.value, rtol=1e-7, atol=1e-9)


def test_energy_decay_fails_with_singular_kernels():
    bound = bounds.energy_decay(random((6, 12, 4), "tanh"), (*TIMES, 1e6))
    assert not bound.met and not bound.holds and "not met" in str(bound)


def test_equal_kernels_attain_their_rate():
    bound = bounds.equal_kernel_speedup(one_kernel(), TIMES[:4])
    assert bound.met and bound.holds
    np.testing.assert_allclose(bound.measured, bound.value, rtol=1e-6, atol=1e-9)


def test_the_speed_of_equal_kernels_is_not_that_of_others():
    bound = bounds.equal_kernel_speedup(random((7, 5, 8)), TIMES)
    assert not bound.met and not bound.holds


def test_time_scales_separate_and_the_bound_says_so():
    far, near = (bounds.small_transfer_rates(random((7, 5, 8), lam=lam)) for lam in (1e-6, 10.0))
    assert far.holds and far.value[0] < 1e-3
    assert near.holds and not near.informative
    # one kernel: fast rates exceed those of H̄ by λβ exactly
    bound = bounds.small_transfer_rates(one_kernel(lam=1e-3))
    np.testing.assert_allclose(bound.measured[-2:], bound.value[-2:], rtol=1e-9)


def test_slow_amplitude_falls_with_lambda_and_is_within_a_small_factor():
    found = [bounds.slow_amplitude(random((7, 5, 8), lam=lam)) for lam in (1e-5, 1e-6)]
    np.testing.assert_allclose(found[0].measured / found[1].measured, 10, rtol=1e-2)
    # two units, one sample: a factor of seven
    student = kd.TwoLayerNetwork(jnp.array([[0.0], [1.0]]), jnp.ones(2))
    problem = kd.TransferProblem(student, jnp.ones((1, 1)), jnp.ones(1), jnp.ones((2, 1)), lam=0.01)
    assert 1 < bounds.slow_amplitude(problem).slack < 7


def test_no_slow_mode_is_an_error():
    with pytest.raises(ValueError, match="got no slow mode"):
        bounds.slow_amplitude(random((1, 6, 3)))


def test_time_and_steps_are_within_a_small_factor_for_one_kernel():
    # y = φ̄: every mode of the outputs has the rate a + λ, the bound counts with λ or with a
    problem = one_kernel(lam=20.0)
    bound = bounds.time_to_accuracy(problem, 1e-4)
    assert bound.informative and bound.slack < 1.25
    steps = bounds.iterations_to_accuracy(problem, 1e-4)
    assert steps.holds and np.all(steps.slack >= 1)
    # without a teacher all rates are equal, and one step does it
    single = kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0)
    np.testing.assert_array_equal(bounds.iterations_to_accuracy(single, 1e-4).measured, [1.0, 1.0])


def test_measured_steps_are_those_of_descent_itself():
    problem = random((7, 5, 8), lam=0.1)
    rate = float(kd.largest_rate(problem).value)
    system, end = LinearSystem.of(problem), kd.fixed_point(problem).displacement
    force, v, last = system.adjoint(system.target), jnp.zeros_like(end), 0
    descend = jax.jit(lambda v: v + (force - system.adjoint(system.forward(v))) / rate)
    for step in range(1, 400):
        v = descend(v)
        if jnp.linalg.norm(system.outputs(v - end)) > 0.2 * problem.scale:
            last = step
    assert 0 < last < 350
    np.testing.assert_allclose(bounds.iterations_to_accuracy(problem, 0.2).measured[0], last + 1, rtol=0.02)


def test_measured_time_is_that_of_the_flow():
    problem = random((7, 5, 8), lam=0.1)
    time = float(bounds.time_to_accuracy(problem, 0.02).measured)
    outputs = kd.kernel_flow(problem, [0.999 * time, 1.01 * time, np.inf]).outputs
    early, late = jnp.linalg.norm(outputs[:2] - outputs[2:], axis=1) / problem.scale
    assert late <= 0.02 < early


def test_a_time_beyond_its_bound_would_be_seen(monkeypatch):
    monkeypatch.setattr(times_module, "output_rates", lambda problem: np.array([1e3]))
    assert not bounds.time_to_accuracy(random((7, 5, 8), lam=1e-9), 0.3).holds


@pytest.mark.parametrize(
    "call",
    [
        lambda problem: bounds.interlacing(problem, [1.0]),
        lambda problem: bounds.energy_decay(problem, [1.0]),
        bounds.small_transfer_rates,
        bounds.slow_amplitude,
    ],
)
def test_a_teacher_is_asked_for(call):
    problem = one_kernel()
    with pytest.raises(ValueError, match="expected a TransferProblem with lam > 0; got lam=0"):
        call(kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0))


@pytest.mark.parametrize("accuracy", [0.0, -1.0, np.nan])
def test_accuracy_is_checked(accuracy):
    for call in (bounds.time_to_accuracy, bounds.iterations_to_accuracy):
        with pytest.raises(ValueError, match="accuracy: expected"):
            call(one_kernel(), accuracy)


def test_a_student_that_cannot_move_is_refused():
    student = kd.TwoLayerNetwork(jnp.ones((2, 2)), jnp.zeros(2))
    mute = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.5)
    for call in (lambda p: bounds.time_to_accuracy(p, 0.1), lambda p: bounds.equal_kernel_speedup(p, [1.0])):
        with pytest.raises(ValueError, match="outputs can move"):
            call(mute)
    off = kd.TransferProblem(
        kd.TwoLayerNetwork(-jnp.ones((2, 2)), jnp.ones(2), "relu"), jnp.eye(2), jnp.ones(2), jnp.ones((2, 2)), lam=0.5
    )
    with pytest.raises(ValueError, match="expected at most 0"):
        bounds.slowest_rate(off)
