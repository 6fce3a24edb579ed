"""The statements of the chapter *Characteristic values and fading memory* over random problems."""

import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import claims
from kdlib.claims import laplace as checkers
from tests.extremes import FAR_TIMES, SCALES, SINGLES, STRENGTHS, TWINS, corner_of, extreme

SHAPES = ((1, 1, 1), (4, 3, 5), (4, 5, 2), (5, 4, 4))
ACTIVATIONS = ("tanh", "relu")


def draw(seed, *, shape=None, lam=None, activation=None, without=()):
    """A random problem, some in a corner: n < d, n > d and n = d, silent units, units and samples that repeat."""
    rng = np.random.default_rng(seed)
    m, n, d = SHAPES[seed % len(SHAPES)] if shape is None else shape
    weights, signs = rng.normal(size=(m, d)), rng.choice([-1.0, 1.0], m) * rng.choice([1.0, 0.5], m)
    x = rng.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    corner = seed // 8 % 4
    if corner == 1:
        weights[-1] = weights[0]
    if corner == 2 and m > 1:
        signs[-1] = 0.0
    if corner == 3:
        x[-1] = rng.choice([-1.0, 1.0]) * x[0]
    activation = ACTIVATIONS[seed // 4 % 2] if activation is None else activation
    student = kd.TwoLayerNetwork(weights, signs, activation)
    phi = np.asarray(student.features(x)) + rng.normal(size=(m, n)) * rng.choice([1.0, m**-0.5])
    lam = rng.choice([0.0, 10.0 ** rng.uniform(-3, 2)], p=[0.15, 0.85]) if lam is None else lam
    return extreme(kd.TransferProblem(student, x, rng.normal(size=n), phi, lam=lam), seed, without=without)


def twins(seed, *, all_equal=False):
    """A problem of five units: 0, 1 and 2 share their weights, 4 has no output weight; or all share their weights."""
    rng = np.random.default_rng(seed)
    m, n, d = (5, 4, 3)
    weights, signs = rng.normal(size=(m, d)), rng.choice([-1.0, 1.0, 0.5], m)
    if all_equal:
        weights[:] = weights[0]
    else:
        weights[1] = weights[2] = weights[0]
        signs[4] = 0.0
    student = kd.TwoLayerNetwork(weights, signs, ACTIVATIONS[seed % 2])
    x = rng.normal(size=(n, d))
    lam = 10.0 ** rng.uniform(-3, 2)
    problem = kd.TransferProblem(student, x, rng.normal(size=n), rng.normal(size=(m, n)), lam=lam)
    return extreme(problem, seed, without=SINGLES)


def right_half(seed):
    """A point s with Re s > |Im s|, over five decades."""
    rng = np.random.default_rng(seed)
    return 10.0 ** rng.uniform(-3, 2) * (1 + 1j * rng.uniform(-1, 1))


def anywhere(seed):
    """A point of the plane away from the real axis, over five decades."""
    rng = np.random.default_rng(seed)
    return 10.0 ** rng.uniform(-3, 2) * np.exp(1j * rng.choice([-1, 1]) * rng.uniform(0.1, 3.0))


def trained(problem):
    """Outputs of the real network, whose kernels are not frozen."""

    def path(times):
        order = np.argsort(times)
        outputs = np.empty((times.size, problem.y.size))
        outputs[order] = kd.gradient_flow(problem, times[order]).outputs
        return outputs

    return path


def fading(seed):
    """λ > 0 where inputs are long: without it T(s) is of 1e15 there, beside which 64 bits do not hold the identity."""
    return 1.0 if corner_of(seed) == "long inputs" and draw(seed).lam == 0 else None


@pytest.mark.claim("laplace-image")
def test_laplace_image(cases, ledger):
    for seed in cases:
        ledger(claims.laplace_image(draw(seed), right_half(seed)))


@pytest.mark.counterexample("laplace-image")
def test_laplace_image_needs_frozen_kernels():
    problem = draw(1, lam=0.5)
    path, end = trained(problem), kd.gradient_flow(problem, [50.0]).outputs
    assert claims.laplace_image(problem, 5.0 + 1.0j, lambda times: path(times) - end).margin <= 0.01


@pytest.mark.claim("resolvent-form")
def test_resolvent_form(cases, ledger):
    for seed in cases:
        problem = draw(seed, lam=fading(seed))
        vector = np.random.default_rng(seed).normal(size=problem.student.weights.shape)
        ledger(claims.resolvent_form(problem, anywhere(seed), vector))


def test_resolvent_form_notices_a_wrong_resolvent(monkeypatch):
    problem = draw(1, lam=0.5)
    monkeypatch.setattr(checkers, "_resolvent", lambda problem, s, vector: 1.001 * kd.resolvent(problem, s, vector))
    assert claims.resolvent_form(problem, 0.5 + 0.1j, np.ones(problem.student.weights.shape)).margin <= 0.01


@pytest.mark.claim("characteristic-determinants")
def test_characteristic_determinants(cases, ledger):
    for seed in cases:
        ledger(claims.characteristic_determinants(draw(seed, lam=fading(seed)), anywhere(seed)))


def wrong_matrices(problem, points):
    """T at another λ."""
    other = kd.TransferProblem(problem.student, problem.x, problem.y, problem.phi, lam=1.01 * problem.lam)
    return jnp.stack([kd.characteristic_matrix(other, s) for s in points])


def test_characteristic_determinants_notices_a_wrong_matrix(monkeypatch):
    monkeypatch.setattr(checkers, "_matrices", wrong_matrices)
    assert claims.characteristic_determinants(draw(1, lam=0.5), 0.5 + 0.1j).margin <= 0.01


@pytest.mark.claim("characteristic-values")
def test_characteristic_values(cases, ledger):
    for seed in cases:
        ledger(claims.characteristic_values(draw(seed)))


def test_characteristic_values_notices_a_wrong_matrix(monkeypatch):
    def mirrored(problem, points):
        return jnp.stack([kd.characteristic_matrix(problem, -s) for s in points])

    # T at another λ: its zeros are elsewhere, a count that is wrong, and no count is wrong by less than two tolerances
    monkeypatch.setattr(checkers, "_matrices", wrong_matrices)
    check = claims.characteristic_values(draw(1, lam=0.5))
    assert check.error >= 1 and check.margin <= 0.5
    # T of the other half of the axis: in the wrong order, by as much as it changes
    monkeypatch.setattr(checkers, "_matrices", mirrored)
    assert claims.characteristic_values(draw(1, lam=0.5)).margin <= 1e-6


@pytest.mark.claim("invisible-modes")
def test_invisible_modes(cases, ledger):
    for seed in cases:
        if seed % 3:
            ledger(claims.invisible_modes(twins(seed), anywhere(seed), equal=(0, 1, 2), silent=(4,)))
        else:
            ledger(claims.invisible_modes(twins(seed, all_equal=True), anywhere(seed), equal=range(5)))


@pytest.mark.counterexample("invisible-modes")
def test_invisible_modes_needs_equal_kernels():
    assert claims.invisible_modes(twins(0), 1j, equal=(0, 3)).margin <= 0.01


@pytest.mark.counterexample("invisible-modes")
def test_invisible_modes_needs_a_silent_unit():
    assert claims.invisible_modes(twins(0), 1j, silent=(3,)).margin <= 0.01


def moments(problem):
    """Times up to 1e12, unless memory hardly fades: its sum would hold nothing but the rounding of the errors."""
    times, (least, most) = np.array([0.01, 0.5, 3.0, 40.0]), FAR_TIMES
    if problem.lam > 1e-6:
        return np.concatenate([[least], times, [most]])
    largest = max(np.trace(kd.tangent_kernel(problem.student, problem.x)), 1.0)
    return np.concatenate([[least], times / largest, [1e3 / largest]])


@pytest.mark.claim("fading-memory")
def test_fading_memory(cases, ledger):
    for seed in cases:
        problem = draw(seed)
        ledger(claims.fading_memory(problem, moments(problem)))


@pytest.mark.counterexample("fading-memory")
def test_fading_memory_needs_frozen_kernels():
    problem = draw(1, lam=0.5, activation="tanh")
    assert claims.fading_memory(problem, (0.5, 3.0), trained(problem)).margin <= 0.01


TIMES = np.concatenate([[0.0, FAR_TIMES[0]], np.geomspace(0.01, 3.0, 11)])


def small(seed):
    """Data in one or two dimensions, labels, and a teacher's dual coefficients, often none; in a corner now and then.

    Not that of long inputs: no Gauss rule over the weights sees a slope that lives on a millionth of them.
    """
    rng = np.random.default_rng(seed)
    d, corner = 1 + seed % 4 // 3, corner_of(seed)
    n, x = 1 if corner == "one sample" else 3, rng.normal(size=(3, d))
    if corner in TWINS:
        x[2] = TWINS[corner] * x[0]
    if corner == "short inputs":
        x *= SCALES[corner]
    return x[:n], rng.normal(size=n), rng.normal(size=n) * rng.choice([0.0, 0.1, 1.0])


@pytest.mark.claim("infinite-width-memory")
def test_infinite_width_memory(cases, ledger):
    for seed in cases:
        lam = STRENGTHS.get(corner_of(seed), 10.0 ** np.random.default_rng(seed).uniform(-3, 2))
        ledger(claims.infinite_width_memory(*small(seed), lam, TIMES, 8, seed))


@pytest.mark.counterexample("infinite-width-memory")
def test_infinite_width_memory_needs_signs_independent_of_the_weights():
    x, y, dual = np.ones((1, 1)), np.ones(1), np.zeros(1)
    signs = lambda w: np.sqrt(2.0) * (np.abs(w[:, 0]) > 0.6744897501960817)  # noqa: E731  mean square 1
    assert claims.infinite_width_memory(x, y, dual, 0.1, TIMES, 4000, 0, signs=signs).margin <= 0.01


def test_infinite_width_memory_is_tight_at_early_times():
    """One sample, no teacher: to first order in t the outputs' bound is their distance."""
    rng = np.random.default_rng(0)
    x, t = np.ones((1, 1)), 1e-4
    w = rng.normal(size=(6, 1))
    points, shares = checkers._nodes(1)
    zero = np.zeros(1)
    distance = (
        checkers._memory_of(checkers._blocks(w, x), np.full(6, 1 / 6), 0.5, zero)
        - checkers._memory_of(checkers._blocks(points, x), shares, 0.5, zero)
    )[0, 0, 0]
    student = kd.TwoLayerNetwork(np.tile(w, (2, 1)), np.repeat([1.0, -1.0], 6))
    problem = kd.TransferProblem(student, x, np.ones(1), student.features(x), lam=0.5)
    wide = np.sum(shares / np.cosh(points[:, 0]) ** 4)
    outputs = kd.kernel_flow(problem, [t]).outputs[0, 0] - wide * t
    assert abs(outputs / (t * distance) - 1) < 0.01


def test_kernel_size_is_tight():
    """K(t) reaches a/(eλt) at t = 1/(λh) when all kernels are hI."""
    student = kd.TwoLayerNetwork(np.zeros((3, 2)), np.ones(3))
    problem = kd.TransferProblem(student, np.eye(2), np.ones(2), np.zeros((3, 2)), lam=0.5)
    np.testing.assert_allclose(kd.memory_kernel(problem, [2.0])[0], np.eye(2) / np.e, rtol=1e-12)
