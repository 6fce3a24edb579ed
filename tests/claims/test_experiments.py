"""The statements of the chapter *Experiments* over random problems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from tests.extremes import SCALES, STRENGTHS, corner_of, extreme

SHAPES = ((6, 3, 5), (5, 8, 3), (4, 1, 2))  # m, n, d


def draw(seed, *, activation=None, corners=True, without=()):
    """Student, inputs, labels and a random generator: several sizes of signs, awkward samples now and then."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)]
    signs = rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 1.0, 0.5, 2.0], m)
    activation = ("tanh", "relu", "erf")[seed // 3 % 3] if activation is None else activation
    student = kd.TwoLayerNetwork(rng.normal(size=(m, d)), signs, activation)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if corners and n > 1 and seed % 5 == 0:
        x[-1] = x[0] if seed % 2 else -x[0]
    # a λ, if any, comes from the test
    problem = extreme(kd.TransferProblem(student, x, rng.normal(size=n), None, lam=0.0), seed, without=without)
    return problem.student, np.asarray(problem.x), np.asarray(problem.y), rng


@pytest.mark.claim("random-fourier-features")
def test_random_fourier_features(cases, ledger):
    for seed in cases:
        # no trapezoidal rule follows a cosine over millions of its waves
        student, x, y, rng = draw(seed, without=("long inputs",))
        bandwidth, ridge = 10.0 ** rng.uniform(-0.3, 1), 10.0 ** rng.uniform(-3, 3)
        ledger(claims.random_fourier_features(student, x, y, seed, bandwidth, ridge))


@pytest.mark.counterexample("random-fourier-features")
def test_random_fourier_features_need_random_phases():
    student, x, y, _ = draw(0, corners=False)
    broken = claims.random_fourier_features(student, x, y, 0, 1.0, 1.0, phases=np.zeros(1))
    assert broken.margin <= 0.01


def test_the_variance_of_a_product_and_the_machines_distance_are_attained():
    """One sample: the machine's distance is |K - a| ridge/(ridge + K)/(ridge + a), for much ridge the bound."""
    x = np.array([[0.6, 0.8]])
    squares, apart = [], []
    for seed in range(2000):
        z = np.asarray(kd.random_fourier_features(jax.random.key(seed), x, 16, bandwidth=1.0))
        squares.append((np.sum(z**2) / 16 - 1) ** 2)
        kernel = np.sum(z**2) / 16
        apart.append(abs(kernel / (kernel + 1e3) - 1 / (1 + 1e3)) / (abs(kernel - 1) / 1e3))
    assert np.mean(squares) == pytest.approx(0.5 / 16, rel=0.1)
    assert 0.99 < np.max(apart) <= 1


@pytest.mark.claim("kernel-machine-teacher")
def test_kernel_machine_teacher(cases, ledger):
    for seed in cases:
        student, x, y, rng = draw(seed)
        at, bandwidth, ridge = rng.normal(size=(2, x.shape[1])), 10.0 ** rng.uniform(-1, 1), 10.0 ** rng.uniform(-3, 3)
        key = jax.random.key(seed)
        z, z_at = (kd.random_fourier_features(key, points, student.width, bandwidth=bandwidth) for points in (x, at))
        ledger(claims.kernel_machine_teacher(student, x, y, z, ridge, z_at))


@pytest.mark.counterexample("kernel-machine-teacher")
def test_a_raw_embedding_is_not_near():
    student, x, y, _ = draw(0)
    z = kd.random_fourier_features(jax.random.key(0), x, student.width, bandwidth=1.0)
    assert claims.kernel_machine_teacher(student, x, y, z, 10.0, z, phi=z).margin <= 0.01


def test_the_distance_of_the_machine_is_tight_for_one_sample_and_a_silent_unit():
    student = kd.TwoLayerNetwork([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0])
    z, x, y = np.array([[1.2], [0.3]]), np.array([[0.6, 0.8]]), np.array([2.0])
    machine = kd.kernel_machine_teacher(student, x, y, z, ridge=0.5)
    distance = np.linalg.norm(machine.phi[0] - student.features(x)[0])
    kernel, residual = 1.2**2 / 2, abs(2.0 - float(student(x)[0]))
    assert distance == pytest.approx(1.2**2 / np.sqrt(2) * residual / (0.5 + kernel))


@pytest.mark.claim("alignment-of-pi")
def test_alignment_of_pi(cases, ledger):
    for seed in cases:
        # short inputs come with weights of 1e6, which do not show how little they move
        student, x, y, rng = draw(seed, without=("dead units", "short inputs"))
        early = 10.0 ** rng.uniform(-2, 3)
        late = np.inf if seed % 9 == 0 else early * 10.0 ** rng.uniform(0.01, 2)
        if not np.any(np.asarray(kd.tangent_kernel(student, x))):
            student = kd.TwoLayerNetwork(-student.weights, student.signs, student.activation)
        ledger(claims.alignment_of_pi(student, x, y, early, late))


@pytest.mark.counterexample("alignment-of-pi")
def test_alignment_of_pi_needs_frozen_kernels():
    student, x, y, _ = draw(0, activation="tanh")

    def train(student, x, y, time):
        return kd.gradient_flow(kd.TransferProblem(student, x, y, None, lam=0), [time]).network

    assert claims.alignment_of_pi(student, x, y, 1.0, 10.0, train).margin <= 0.01


def test_a_teacher_from_other_labels_may_be_worse_aligned_than_the_students():
    """Labels in the fastest mode, a teacher of the slowest: nothing is left of the order."""
    student, x, _, _ = draw(0, corners=False)
    modes = np.asarray(kd.alignment(student, x, np.ones(3)).modes)
    teacher = kd.trained_teacher(student, x, student(x) + modes[:, -1], 1.0)
    lead = np.sum(
        student.output_weights[:, None] * student.derivative(x) * ((teacher.weights - student.weights) @ x.T), 0
    )
    assert kd.alignment(student, x, lead).cumulative[0] < 1e-9
    assert kd.alignment(student, x, modes[:, 0]).cumulative[0] > 1 - 1e-9


def two_students(seed, **options):
    """Two problems with one start and one λ, and other teachers, every other time other labels too; early times.

    Late ones, and ∞, bring modes that all units but miss, and whose way at other inputs is rounding.
    """
    student, x, y, rng = draw(seed, **options)
    lam, near = 10.0 ** rng.uniform(-3, 3), student.width**-0.5
    if corner_of(seed) != "weak transfer":  # whose modes of H̄ of its own size are rounding at other inputs
        lam = STRENGTHS.get(corner_of(seed), lam)
    problems = []
    for labels in (y, y if seed % 2 else rng.normal(size=len(x))):
        phi = np.asarray(student.features(x)) + near * rng.normal(size=(student.width, len(x)))
        problems.append(kd.TransferProblem(student, x, labels, phi, lam=lam))
    share, moment = rng.normal(), 1e-12 if seed % 8 == 5 else 10.0 ** rng.uniform(-2, 1.5)
    at = SCALES.get(corner_of(seed), 1.0) * rng.normal(size=(2, x.shape[1]))
    return problems, share, moment, np.abs(at) if corner_of(seed) == "dead units" else at


@pytest.mark.claim("superposition-of-teachers")
def test_superposition_of_teachers(cases, ledger):
    for seed in cases:
        ledger(claims.superposition_of_teachers(*two_students(seed)))


@pytest.mark.counterexample("superposition-of-teachers")
def test_superposition_needs_frozen_kernels():
    problems, share, _, at = two_students(0, activation="tanh")
    assert claims.superposition_of_teachers(problems, share, 3.0, at, flow=kd.gradient_flow).margin <= 0.01


@pytest.mark.counterexample("superposition-of-teachers")
def test_superposition_needs_shares_that_sum_to_one():
    problems, share, time, at = two_students(0, activation="tanh")
    assert claims.superposition_of_teachers(problems, share, time, at, rest=1.5 - share).margin <= 0.01


def test_the_damping_of_a_flaw_is_attained_at_lambda_one():
    """Half of the flaw comes through, no more: two teachers that differ along b, in the limit at λ = a = 1."""
    student, x, y, _ = draw(0, activation="tanh", corners=False)
    student = kd.TwoLayerNetwork(student.weights, np.sign(student.signs))
    phi = np.asarray(student.features(x))
    flaw = np.outer(student.output_weights, [0.3, -0.4, 1.2])  # of length 1.3
    ends = [kd.fixed_point(kd.TransferProblem(student, x, y, p, lam=1.0)).outputs for p in (phi, phi + flaw)]
    assert jnp.linalg.norm(ends[1] - ends[0]) == pytest.approx(1.3 / 2)
