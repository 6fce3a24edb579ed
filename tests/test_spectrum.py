"""Slow modes, the largest rate, counts and characteristic values against dense references."""

import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from kdlib import characteristic, spectrum
from kdlib.krylov import CHUNK
from kdlib.linear_system import LinearSystem
from tests.dense import Dense
from tests.problems import CORNERS, SHAPES, as_transfer_problem, random_problem

LAMBDAS = (0.0, 1e-8, 0.5, 1e3)


def cases():
    for index, shape in enumerate(SHAPES):
        for activation in ("tanh", "relu"):
            for corner in range(len(CORNERS)):
                lam = LAMBDAS[(index + corner) % len(LAMBDAS)]
                yield pytest.param(shape, activation, corner, lam, id=f"{shape}-{activation}-{CORNERS[corner]}-{lam}")


def pair(shape, activation, corner, lam):
    """The problem, its dense twin, and the dense non-zero rates, ascending, as many as there are by the ranks."""
    arrays = random_problem(shape, activation, corner)[:-1]
    dense = Dense(*arrays, lam)
    if lam > 0:
        rank = sum(np.linalg.matrix_rank(jacobian, tol=1e-12) for jacobian in dense.jacobians)
    else:
        rank = np.linalg.matrix_rank(dense.outputs_map, tol=1e-8)
    return as_transfer_problem(*arrays, lam), dense, dense.factors[1][:rank][::-1] ** 2


def many_units(lam=0.5):
    """Large enough for Lanczos: 600 rates."""
    return kd.TransferProblem(*several((30, 20, 25)), lam=lam)


def several(shape):
    weights, signs, activation, x, y, phi, _ = random_problem(shape, "tanh", 0)
    return kd.TwoLayerNetwork(weights, signs, activation), x, y, phi


def equal_units(m=50, n=9, d=16):
    """All kernels equal X Xᵀ: rates λ eig(H), m - 1 times each, and (1 + λ) eig(H)."""
    x = np.random.default_rng(0).normal(size=(n, d))
    student = kd.TwoLayerNetwork(jnp.zeros((m, d)), jnp.ones(m))
    return kd.TransferProblem(student, x, np.ones(n), np.ones((m, n)), lam=0.5), np.linalg.eigvalsh(x @ x.T)


@pytest.mark.parametrize(("shape", "activation", "corner", "lam"), list(cases()))
def test_spectrum_is_that_of_the_dense_system(shape, activation, corner, lam):
    problem, _, rates = pair(shape, activation, corner, lam)
    if len(rates) == 0:
        with pytest.raises(ValueError, match="k: expected at most 0"):
            kd.decay_rates(problem, 1)
        assert kd.characteristic_values(problem).shape == (0,)
        assert kd.count_above(problem, 0.0) == 0 and kd.largest_rate(problem).value == 0
        return
    # the singular values of A are good to a few roundings of the largest
    tolerance = {"rtol": 1e-9, "atol": 1e-14 * rates[-1]}
    np.testing.assert_allclose(kd.decay_rates(problem, len(rates)), rates, **tolerance)
    np.testing.assert_allclose(-kd.characteristic_values(problem), rates, **tolerance)
    rate = kd.largest_rate(problem)
    np.testing.assert_allclose(rate.value, rates[-1], rtol=1e-12)
    assert rate.error <= 1e-12 * rate.value
    with pytest.raises(ValueError, match=f"k: expected at most {len(rates)}, the number of non-zero rates"):
        kd.decay_rates(problem, len(rates) + 1)
    for x in np.sqrt(rates[:-1] * rates[1:])[np.diff(np.log(rates)) > 1e-3]:
        assert kd.count_above(problem, x) == np.sum(rates > x)


@pytest.mark.parametrize(("shape", "activation", "corner", "lam"), list(cases()))
def test_all_modes_together_are_the_flow(shape, activation, corner, lam):
    problem, dense, rates = pair(shape, activation, corner, lam)
    if len(rates) == 0:
        return
    modes = kd.slow_modes(problem, len(rates))
    times, end = np.array([0.0, 0.5, 20.0]), dense.displacement(np.inf)
    flow = np.stack([dense.outputs(dense.displacement(t)) for t in times]) - dense.outputs(end)
    decayed = np.exp(-times[:, None] * np.asarray(modes.rates)) @ np.asarray(modes.amplitudes)
    np.testing.assert_allclose(decayed, flow, atol=1e-7 * max(dense.scale, np.linalg.norm(dense.phi)))
    flat = np.asarray(modes.modes).reshape(len(rates), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(rates)), atol=1e-12)
    assert np.max(modes.residuals) < 1e-12 * rates[-1]
    # strong transfer makes many rates nearly equal, and rounding mixes their modes
    if lam < 1e3:
        np.testing.assert_array_equal(modes.visible, np.linalg.norm(dense.outputs_map @ flat.T, axis=0) > 1e-11)


@pytest.mark.parametrize("lam", [1e-8, 0.5])
def test_lanczos_and_dense_factors_agree(lam, monkeypatch):
    problem = many_units(lam)
    found = kd.slow_modes(problem, 12)
    assert np.max(found.residuals) < 1e-10
    monkeypatch.setattr(spectrum, "_DENSE_RANK", 10**6)
    np.testing.assert_allclose(found.rates, kd.decay_rates(problem, 12), rtol=1e-10)


def test_rates_alone_take_fewer_steps_than_modes(monkeypatch):
    (problem, _), solve, steps = equal_units(), spectrum._solve, []
    monkeypatch.setattr(spectrum, "_solve", lambda *args: (steps.append(None), solve(*args))[1])
    rates = kd.decay_rates(problem, 10)
    alone = len(steps)
    modes = kd.slow_modes(problem, 10)
    assert alone < 0.85 * (len(steps) - alone)
    np.testing.assert_allclose(rates, modes.rates, rtol=1e-12)


def test_lanczos_counts_multiple_rates():
    problem, kernel = equal_units()
    rates = np.sort(np.concatenate([1.5 * kernel, *[0.5 * kernel] * 49]))
    np.testing.assert_allclose(kd.decay_rates(problem, 53), rates[:53], rtol=1e-9)
    modes = kd.slow_modes(problem, 3)
    assert not modes.visible.any() and np.max(np.abs(modes.amplitudes)) < 1e-10


def test_a_rate_that_lanczos_passes_over_is_found_by_the_count(monkeypatch):
    problem, right = many_units(), spectrum._krylov
    rates, calls = kd.decay_rates(problem, 6), []

    def forgetful(*args, **kwargs):
        modes = right(*args, **kwargs)
        calls.append(len(modes))
        # the first run loses its slowest mode and finds the next one instead
        return right(*args, without=modes[:1].reshape(1, -1)) if len(calls) == 1 else modes

    monkeypatch.setattr(spectrum, "_krylov", forgetful)
    np.testing.assert_allclose(kd.decay_rates(problem, 6), rates, rtol=1e-10)
    assert calls == [6, 1]


def only(warned):
    """The text of the one warning, which must point here, at the line that called kdlib."""
    assert [Path(one.filename) for one in warned] == [Path(__file__)]
    return str(warned[0].message)


def test_no_convergence_is_a_warning_and_not_a_number(monkeypatch):
    import scipy.sparse.linalg as sparse

    def stops(*args, **kwargs):
        raise sparse.ArpackNoConvergence("no convergence", np.zeros(0), np.zeros((750, 0)))

    monkeypatch.setattr(sparse, "eigsh", stops)
    with pytest.warns(UserWarning) as warned:
        assert np.isnan(kd.decay_rates(many_units(), 2)).all()
    assert only(warned) == "spectrum: Lanczos found 0 of 2 eigenvalues"
    with pytest.warns(UserWarning) as warned:
        assert np.isnan(kd.slow_modes(many_units(), 2).rates).all()
    assert only(warned) == "spectrum: Lanczos found 0 of 2 eigenvalues"
    monkeypatch.setattr(spectrum, "_MOST_STEPS", CHUNK)
    with pytest.warns(UserWarning) as warned:
        rate = kd.largest_rate(many_units())
        assert np.isnan(rate.value) and np.isnan(rate.error)
    assert only(warned) == f"largest_rate: Lanczos did not converge in {CHUNK} steps"


def test_rates_that_are_counted_but_not_found_are_reported(monkeypatch):
    monkeypatch.setattr(spectrum, "count", lambda *_: 0)
    with pytest.warns(UserWarning) as warned:
        found = kd.decay_rates(many_units(), 3)
    assert only(warned) == f"spectrum: 3 rates below {found[-1]:.3g} are counted but not found"


def test_modes_that_are_none_are_reported(monkeypatch):
    right = spectrum._krylov
    monkeypatch.setattr(spectrum, "_krylov", lambda *args, **kwargs: np.roll(right(*args, **kwargs), 1, axis=2))
    monkeypatch.setattr(spectrum, "count", lambda *_: 600)  # nothing is missing
    with pytest.warns(UserWarning) as warned:
        modes = kd.slow_modes(many_units(), 3)
    assert only(warned) == f"spectrum: residuals of slow modes up to {np.max(modes.residuals):.1e}"


def test_characteristic_values_make_the_characteristic_matrix_singular():
    problem, _, _ = pair((7, 5, 8), "tanh", 0, 0.5)
    for p in kd.characteristic_values(problem):
        sigma = np.linalg.svd(np.asarray(kd.characteristic_matrix(problem, p)), compute_uv=False)
        assert sigma[-1] < 1e-8 * max(1.0, sigma[0])


def test_characteristic_values_that_stay_at_their_poles():
    problem, kernel = equal_units(4, 3, 5)
    rates = np.sort(np.concatenate([1.5 * kernel, *[0.5 * kernel] * 3]))
    np.testing.assert_allclose(-kd.characteristic_values(problem), rates, rtol=1e-9)


@pytest.mark.parametrize("shape", [(7, 5, 8), (7, 8, 3)])
def test_characteristic_values_from_blocks_of_units(shape, monkeypatch):
    problem, _, rates = pair(shape, "relu", 0, 0.5)
    monkeypatch.setattr(characteristic, "_ENTRIES_AT_ONCE", 2 * shape[1] * min(shape[1:]))  # two units, and one is left
    np.testing.assert_allclose(-kd.characteristic_values(problem), rates, rtol=1e-9, atol=1e-14 * rates[-1])


@pytest.mark.parametrize("shape", [(1024, 16, 16), (1024, 32, 8)])
def test_a_characteristic_matrix_holds_no_array_over_units_whole(shape, monkeypatch):
    m, n, d = shape
    monkeypatch.setattr(characteristic, "_ENTRIES_AT_ONCE", m * n * min(n, d) // 64)
    operator = characteristic.pseudo_inverse(
        LinearSystem.of(as_transfer_problem(*random_problem(shape, "tanh", 0)[:-1], 0.5))
    )
    poles = characteristic.poles_of(operator)
    tracemalloc.start()
    try:
        below = characteristic._below(poles, characteristic._blocks(operator), np.median(poles))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert below == len(poles) - characteristic.count(operator, np.median(poles))
    assert peak < poles.nbytes * n / 4  # a quarter of what G takes


def test_characteristic_values_that_do_not_add_up_are_reported(monkeypatch):
    monkeypatch.setattr(characteristic, "_roots", lambda poles, blocks, size: np.sort(poles))
    with pytest.warns(UserWarning, match="add up to"):
        kd.characteristic_values(many_units())


def test_the_count_at_zero_and_beyond_the_largest_rate():
    problem = many_units()
    assert kd.count_above(problem, 0.0) == 600
    assert kd.count_above(problem, 1.001 * float(kd.largest_rate(problem).value)) == 0
    pole = characteristic.poles_of(characteristic.pseudo_inverse(LinearSystem.of(problem)))[5]
    assert kd.count_above(problem, pole) in (kd.count_above(problem, pole * f) for f in (1 - 1e-9, 1 + 1e-9))


def test_single_precision():
    with jax.enable_x64(False):
        student, x, y, phi = several((30, 20, 25))
        single = kd.TransferProblem(
            kd.TwoLayerNetwork(np.float32(student.weights), np.float32(student.signs)),
            np.float32(x),
            np.float32(y),
            np.float32(phi),
            lam=np.float32(0.5),
        )
        rates = kd.decay_rates(single, 3)
        assert rates.dtype == jnp.float32
    np.testing.assert_allclose(rates, kd.decay_rates(many_units(), 3), rtol=1e-2)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, None])
def test_k_must_be_a_positive_integer(k):
    for call in (kd.decay_rates, kd.slow_modes):
        with pytest.raises(ValueError, match="k: expected a positive integer"):
            call(many_units(), k)


@pytest.mark.parametrize("call", [kd.decay_rates, kd.slow_modes, kd.count_above])
def test_problem_is_checked(call):
    with pytest.raises(ValueError, match="problem: expected a TransferProblem; got int"):
        call(3, 1)


@pytest.mark.parametrize("call", [kd.largest_rate, kd.characteristic_values])
def test_problem_alone_is_checked(call):
    with pytest.raises(ValueError, match="problem: expected a TransferProblem; got int"):
        call(3)


@pytest.mark.parametrize("x", [-1.0, np.nan, [1.0, 2.0]])
def test_threshold_is_checked(x):
    with pytest.raises(ValueError, match="x: expected"):
        kd.count_above(many_units(), x)


def test_the_second_problem_of_a_shape_compiles_nothing(monkeypatch, caplog):
    monkeypatch.setattr(spectrum, "_DENSE_RANK", 0)  # by Lanczos
    problems = [as_transfer_problem(*random_problem(SHAPES[1], "tanh", 0)[:-1], lam) for lam in (0.5, 0.7)]
    kd.decay_rates(problems[0], 3)
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        kd.decay_rates(problems[1], 3)
    compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
    assert not compiled, compiled
