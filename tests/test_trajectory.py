"""The kernel flow and its limit against the dense matrices, and what a trajectory promises."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.dense import Dense
from tests.problems import SHAPES, as_transfer_problem, random_problem

TIMES = np.array([3.0, 0.0, 1e-6, 0.1, 1e4, 30.0, np.inf])
ACCURACY = 1e-8


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_flow_and_fixed_point_agree_with_dense_matrices(shape, activation, sweep):
    """18 combinations of 20 problems each, all λ and all corners among them."""
    for seed in range(200 if sweep else 20):
        arrays = random_problem(shape, activation, seed)
        dense, problem = Dense(*arrays), as_transfer_problem(*arrays)
        path = kd.kernel_flow(problem, TIMES)
        assert path.converged and path.error <= ACCURACY, (seed, path.error)
        for t, outputs, energy, movement in zip(TIMES, path.outputs, path.energies, path.movement):
            v = dense.displacement(t)
            context = f"seed {seed}, t = {t}"
            assert np.linalg.norm(outputs - dense.outputs(v)) <= ACCURACY * dense.scale, context
            assert abs(energy - dense.energy(v)) <= ACCURACY * max(dense.energy(0 * v), dense.scale**2), context
            length = np.sqrt(np.sum(v**2) / shape[0])
            assert abs(movement - length) <= ACCURACY * max(1.0, length), context
        limit, v = kd.fixed_point(problem), dense.displacement(np.inf)
        size = max(dense.scale, np.linalg.norm(dense.phi))
        features = dense.features + (dense.blocks @ v).reshape(dense.features.shape)
        assert np.linalg.norm(limit.outputs - dense.outputs(v)) <= ACCURACY * dense.scale
        assert np.linalg.norm(limit.features - features) <= ACCURACY * size
        assert np.linalg.norm(limit.displacement.ravel() - v) <= ACCURACY * max(1.0, np.linalg.norm(v))
        gaps = dense.phi - dense.features
        projectors = np.array([jacobian @ np.linalg.pinv(jacobian, rcond=1e-12) for jacobian in dense.jacobians])
        carried = np.einsum("kij,kj->ki", projectors, gaps)
        assert np.linalg.norm(limit.unlearnable - (gaps - carried)) <= ACCURACY * size


def digits_problem(lam, width=30):
    data = kd.datasets.digits(train=60)
    student = kd.TwoLayerNetwork.init(jax.random.key(0), width, data.x.shape[1])
    plain = kd.TransferProblem(student, data.x, data.y, None, lam=0.0)
    teacher = kd.gradient_flow(plain, [20.0]).network
    return kd.TransferProblem(student, data.x, data.y, teacher.features(data.x), lam=lam), data


def test_outputs_elsewhere_are_those_of_the_linearised_network():
    problem, data = digits_problem(0.5)
    path = kd.kernel_flow(problem, [0.0, 1.0, 50.0, jnp.inf], at=data.x_test)
    for t, outputs in zip([1.0, 50.0, jnp.inf], path.outputs[1:]):
        start = problem.student.weights
        moved = kd.kernel_flow(problem, [t]).network.weights - start
        _, change = jax.jvp(lambda w: problem.student.with_weights(w)(data.x_test), (start,), (moved,))
        np.testing.assert_allclose(outputs, problem.student(data.x_test) + change, atol=1e-9)
    np.testing.assert_allclose(path.outputs[0], problem.student(data.x_test), atol=1e-14)


def test_the_network_at_the_end_has_moved_as_far_as_the_movement_says():
    problem, _ = digits_problem(2.0)
    path = kd.kernel_flow(problem, [100.0, 1.0])
    moved = path.network.weights - problem.student.weights
    assert jnp.sqrt(jnp.sum(moved**2) / problem.student.width) == pytest.approx(float(path.movement[0]), rel=1e-9)


def test_one_trajectory_type_from_every_route():
    problem, _ = digits_problem(0.5)
    paths = [
        kd.kernel_flow(problem, [0.0, 0.1]),
        kd.gradient_flow(problem, [0.0, 0.1]),
        kd.gradient_descent(problem, 0.1, [0, 1]),
    ]
    for path in paths:
        assert type(path) is kd.Trajectory
        assert path.outputs.shape == (2, 60) and path.energies.shape == path.movement.shape == (2,)
        np.testing.assert_allclose(path.energies[0], problem.energy(problem.student), rtol=1e-12)
        assert path.movement[0] == 0 and path.converged
        assert isinstance(path.network, kd.TwoLayerNetwork)


def test_start_at_rest_stays_at_rest():
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 4, 3)
    x = np.eye(3)
    problem = kd.TransferProblem(student, x, student(x), student.features(x), lam=1.0)
    path = kd.kernel_flow(problem, [0.0, 1.0, np.inf])
    np.testing.assert_allclose(path.outputs, np.tile(student(x), (3, 1)), atol=1e-15)
    assert path.converged


def test_no_array_of_all_pairs_is_ever_made():
    """Neither M nor an (m, n, n) array nor a Krylov basis appears among the values of the compiled step."""
    from kdlib.krylov import continue_bidiagonalization, start_bidiagonalization
    from kdlib.linear_system import LinearSystem, Readout

    m, n, d, steps = 50, 40, 8, 16
    student = kd.TwoLayerNetwork.init(jax.random.key(0), m, d)
    x = jax.random.normal(jax.random.key(1), (n, d))
    problem = kd.TransferProblem(student, x, x[:, 0], student.features(x) + 0.1, lam=0.5)

    def run(problem):
        system = LinearSystem.of(problem)
        start, _ = start_bidiagonalization(system)
        readout = Readout.of(problem.student, problem.x)
        return continue_bidiagonalization(system, start, jnp.zeros(steps), readout)

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (var.aval.size for var in equation.outvars)
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    assert max(sizes(jax.make_jaxpr(run)(problem).jaxpr)) <= max(m * n, m * d, steps * n)


def test_a_run_that_gets_nowhere_says_so(monkeypatch):
    import kdlib.trajectory as trajectory

    monkeypatch.setattr(trajectory, "_MOST_EARLY_STEPS", 16)
    monkeypatch.setattr(trajectory, "_MOST_LATE_STEPS", 16)
    problem, _ = digits_problem(1.0)
    with pytest.warns(UserWarning, match="kernel_flow: after .* Krylov steps the outputs at time .* still change by"):
        path = kd.kernel_flow(problem, [1e3, 1e6])
    assert not path.converged and path.error > ACCURACY


@pytest.mark.parametrize("lam", [0.0, 0.01, 1.0, 10.0])
def test_times_that_wait_for_the_slowest_modes(lam):
    """Digits have rates over ten decades: the middle of the run is where a polynomial method fails."""
    problem, _ = digits_problem(lam, width=10)
    student = problem.student
    arrays = (student.weights, student.signs, "tanh", problem.x, problem.y, problem.phi, lam)
    dense = Dense(*(np.asarray(part) if hasattr(part, "shape") else part for part in arrays))
    times = np.array([1e6, 1e-3, 10.0, 1e12, 1e3, 1e8, 1e10, 1e4])
    path = kd.kernel_flow(problem, times)
    assert path.converged
    for t, outputs, energy, movement in zip(times, path.outputs, path.energies, path.movement):
        v = dense.displacement(t)
        assert np.linalg.norm(outputs - dense.outputs(v)) <= ACCURACY * dense.scale, t
        assert abs(energy - dense.energy(v)) <= ACCURACY * dense.energy(0 * v), t
        assert abs(movement - np.linalg.norm(v) / np.sqrt(student.width)) <= 1e-6 * movement, t
    moved = path.network.weights - student.weights
    assert np.linalg.norm(moved) / np.sqrt(student.width) == pytest.approx(float(path.movement[3]), rel=1e-6)


def test_jit_vmap_and_the_plain_call_agree():
    arrays = random_problem(SHAPES[0], "tanh", 3)
    times = jnp.array([0.0, 0.5, 20.0])
    problem = as_transfer_problem(*arrays)
    expected = kd.kernel_flow(problem, times).outputs

    def outputs(lam):
        return kd.kernel_flow(as_transfer_problem(*arrays[:-1], lam), times).outputs

    np.testing.assert_allclose(jax.jit(outputs)(problem.lam), expected, atol=1e-10)
    many = jax.vmap(outputs)(jnp.array([0.1, float(problem.lam), 7.0]))
    np.testing.assert_allclose(many[1], expected, atol=1e-10)
    limit = jax.jit(lambda lam: kd.fixed_point(as_transfer_problem(*arrays[:-1], lam)).outputs)
    for lam in (0.0, 0.5):
        np.testing.assert_allclose(
            limit(lam), kd.fixed_point(as_transfer_problem(*arrays[:-1], lam)).outputs, atol=1e-10
        )


def test_single_precision_reaches_what_it_promises():
    arrays = random_problem(SHAPES[1], "tanh", 3)
    dense = Dense(*arrays)
    with jax.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        path = kd.kernel_flow(as_transfer_problem(*arrays), [0.1, 3.0, 30.0, np.inf])
        assert path.outputs.dtype == jnp.float32 and path.converged
    for t, outputs in zip([0.1, 3.0, 30.0, np.inf], path.outputs):
        assert np.linalg.norm(outputs - dense.outputs(dense.displacement(t))) <= 1e-3 * dense.scale


def test_a_second_problem_of_the_shape_compiles_nothing_though_it_takes_more_steps(caplog):
    def follow(seed, lam):
        problem = as_transfer_problem(*random_problem((60, 20, 8), "tanh", seed)[:-1], lam)
        return kd.kernel_flow(problem, [0.1, 30.0])

    first = follow(0, 0.5)
    _ = first.network
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        second = follow(5, 5.0)
        _ = second.network
    assert second._end.coefficients.size > first._end.coefficients.size
    assert not [line for line in caplog.messages if line.startswith("Compiling")]
