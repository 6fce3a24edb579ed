"""The statements of the chapter *Who learns fast* over random problems."""

import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import spectra as checkers
from tests.extremes import FAR_TIMES, STRENGTHS, corner_of, extreme

SHAPES = ((1, 1, 1), (6, 3, 5), (5, 8, 3))


def draw(seed, *, lam=None, activation=None, without=()):
    """A random problem with unit rows, at times two equal or opposite, and a start that does not fit; corners."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    activation = ("tanh", "relu")[seed // 3 % 2] if activation is None else activation
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if seed // 6 % 3 and n > 1:
        x[-1] = x[0] * (-1) ** (seed // 6)
    weights = rng.normal(size=(m, d))
    weights[0] *= np.sign(weights[0] @ x[0])  # one unit at least is on, at a sample at least
    student = kd.TwoLayerNetwork(weights, signs, activation)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = (0.0, 10.0 ** rng.uniform(-6, 3))[seed // 2 % 2] if lam is None else lam
    problem = kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam)
    cornered = extreme(problem, seed, without=without)
    # a lone unit may be off, and so as good as dead
    return problem if "dead units" in without and not np.any(cornered.student.derivative(cornered.x)) else cornered


def rng_of(seed):
    return np.random.default_rng([seed, 1])


@pytest.mark.claim("mode-decay")
def test_mode_decay(cases, ledger):
    for seed in cases:
        # labels and PI are seen at the latest time: half of the problems are seen before they have come to rest
        times = np.append(10.0 ** rng_of(seed).uniform(-2, 3, size=3), FAR_TIMES[: 1 + seed // 2 % 2])
        # rates of 1e12 at times of 1e12: the library warns that its outputs are known to 1e-5 there
        times = np.minimum(times, 1e3) if corner_of(seed) == "long inputs" else times
        ledger(claims.mode_decay(draw(seed), times))


@pytest.mark.counterexample("mode-decay")
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_mode_decay_needs_frozen_kernels(lam):
    problem = draw(1, lam=lam, activation="tanh")
    assert claims.mode_decay(problem, [1.0, 3.0], kd.gradient_flow).margin <= 0.01


@pytest.mark.claim("alignment-time")
def test_alignment_time(cases, ledger):
    for seed in cases:
        ledger(claims.alignment_time(draw(seed, without=("dead units",)), rng_of(seed).uniform(0.05, 0.95)))


@pytest.mark.counterexample("alignment-time")
def test_alignment_time_needs_frozen_kernels():
    problem = draw(0, lam=0.0, activation="tanh")
    assert claims.alignment_time(problem, 0.1, kd.gradient_flow).margin <= 0.01


@pytest.mark.parametrize("accuracy", [0.9, 0.1, 0.01])
def test_alignment_times_meet_where_one_mode_is_all(accuracy):
    dense = checkers._Dense.of(draw(0, lam=0.0, activation="tanh"))
    path = kd.kernel_flow(draw(0, lam=0.0, activation="tanh"), [-np.log(accuracy) / np.sum(dense.J**2)])
    np.testing.assert_allclose(np.sqrt(2 * path.energies[0]), accuracy * abs(dense.residual[0]), rtol=1e-9)


def filter_case(seed, d):
    rng = rng_of(seed)
    time, penalty = 10.0 ** rng.uniform(-2, 3), 10.0 ** rng.uniform(-3, 3)
    return time, rng.uniform(0.1, 1.9), int(rng.integers(1, 40)), penalty, rng.normal(size=(2, d))


@pytest.mark.claim("early-stopping-is-a-filter")
def test_early_stopping_is_a_filter(cases, ledger):
    for seed in cases:
        # with all units dead there is no largest rate to measure a step by
        problem = draw(seed, lam=0.0, without=(*STRENGTHS, "dead units"))
        ledger(claims.early_stopping_is_a_filter(problem, *filter_case(seed, problem.x.shape[1])))


@pytest.mark.counterexample("early-stopping-is-a-filter")
def test_early_stopping_is_a_filter_without_transfer_only():
    assert claims.early_stopping_is_a_filter(draw(1, lam=0.5), *filter_case(1, 5)).margin <= 0.01


@pytest.mark.claim("early-stopped-teacher")
def test_early_stopped_teacher(cases, ledger):
    for seed in cases:
        rng = rng_of(seed)
        problem = draw(seed, lam=10.0 ** rng.uniform(-3, 2), without=("no transfer",))
        ledger(claims.early_stopped_teacher(problem, 10.0 ** rng.uniform(-2, 3)))


@pytest.mark.counterexample("early-stopped-teacher")
def test_early_stopped_teacher_comes_from_the_kernel_regime():
    problem = draw(1, lam=0.5, activation="tanh")
    alone = kd.TransferProblem(problem.student, problem.x, problem.y, None, lam=0)
    moved = kd.gradient_flow(alone, [3.0]).network
    assert claims.early_stopped_teacher(problem, 3.0, moved).margin <= 0.01


def noise_case(seed, n):
    rng = rng_of(seed)
    return rng.normal(size=n), 10.0 ** rng.uniform(-2, 1)


@pytest.mark.claim("filter-comparison")
def test_filter_comparison(cases, ledger):
    for seed in cases:
        problem = draw(seed, lam=0.0, without=STRENGTHS)
        time = 10.0 ** rng_of(seed).uniform(-2, 3)
        ledger(claims.filter_comparison(problem, *noise_case(seed, len(problem.x)), time))


@pytest.mark.counterexample("filter-comparison")
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_filter_comparison_needs_the_penalty_one_over_t(penalty):
    assert claims.filter_comparison(draw(1, lam=0.0), np.zeros(3), 1.0, 1.0, penalty).margin <= 0.01


def test_the_constants_of_the_comparison_are_attained():
    """One sample, one mode: at z = 1.79 the step is κ times the penalised one, at z = 3.21 the Bayes risk χ times."""
    problem = draw(0, lam=0.0, activation="tanh")
    rate = float(kd.tangent_kernel(problem.student, problem.x)[0, 0])
    start = float(problem.student(problem.x)[0])

    def fits(z):
        stopped = float(kd.kernel_flow(problem, [z / rate]).outputs[0, 0]) - start
        shares = kd.ridge_filter([rate], rate / z)
        return stopped, float(shares[0]) * float(problem.output_gap[0])

    stopped, penalised = fits(1.7932821329)
    np.testing.assert_allclose(stopped / penalised, checkers._KAPPA, rtol=1e-9)
    # truth of the size that the prior expects, noise 1: the risks are those of the Bayes average
    z = 3.213563507
    truth = np.asarray(problem.student(problem.x)) + np.sqrt(z)
    risk = float(kd.noise_risk(problem, truth, 1.0, time=z / rate).total)
    np.testing.assert_allclose(risk / (z / (1 + z)), checkers._CHI, rtol=1e-8)


@pytest.mark.claim("when-to-stop")
def test_when_to_stop(cases, ledger):
    for seed in cases:
        # on a line rounding hides the rank of the kernel
        problem = draw(seed, lam=0.0, without=(*STRENGTHS, "dead units", "one dimension"))
        ledger(claims.when_to_stop(problem, *noise_case(seed, len(problem.x))))


@pytest.mark.counterexample("when-to-stop")
def test_when_to_stop_needs_white_noise():
    uneven = np.diag([3.0, 0.0, 0.0])
    assert claims.when_to_stop(draw(1, lam=0.0), np.ones(3), 1.0, uneven).margin <= 0.01
