"""Teachers made from the student's own start: against the flow, and against scikit-learn's ridge regression."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd


def setting(m=30, n=8, d=5, activation="tanh", seed=0):
    data = kd.datasets.gaussian(n, d, test=6, seed=seed)
    return data, kd.TwoLayerNetwork.init(jax.random.key(seed), m, d, activation=activation)


@pytest.mark.parametrize("time", [0.0, 0.3, 50.0, 1e6, np.inf])
@pytest.mark.parametrize(("shape", "activation"), [((30, 8, 5), "tanh"), ((4, 12, 2), "relu"), ((1, 1, 3), "erf")])
def test_trained_teacher_is_the_end_of_the_kernel_flow(time, shape, activation):
    data, student = setting(*shape, activation)
    problem = kd.TransferProblem(student, data.x, data.y, None, lam=0)
    expected = kd.kernel_flow(problem, [time]).network
    teacher = kd.trained_teacher(student, data.x, data.y, time)
    np.testing.assert_allclose(teacher.weights, expected.weights, atol=1e-7 * max(1, jnp.abs(expected.weights).max()))
    np.testing.assert_array_equal(teacher.signs, student.signs)


def test_trained_teacher_approaches_a_really_trained_one_as_the_width_grows():
    gaps = []
    for width in (100, 1600):
        data, student = setting(width)
        real = kd.gradient_flow(kd.TransferProblem(student, data.x, data.y, None, lam=0), [5.0]).network
        teacher = kd.trained_teacher(student, data.x, data.y, 5.0)
        gaps.append(float(jnp.abs(real(data.x_test) - teacher(data.x_test)).max()))
    assert gaps[1] < gaps[0] / 2 and gaps[1] < 0.05


def test_a_teacher_may_have_seen_fewer_samples():
    data, student = setting()
    few = kd.trained_teacher(student, data.x[:3], data.y[:3], np.inf)
    system = kd.kernel_flow(kd.TransferProblem(student, data.x[:3], data.y[:3], None, lam=0), [np.inf], at=data.x)
    change = jnp.sum(
        student.derivative(data.x) * ((few.weights - student.weights) @ data.x.T) * student.output_weights[:, None], 0
    )
    np.testing.assert_allclose(student(data.x) + change, system.outputs[0], atol=1e-8)


def test_a_trained_teacher_stays_within_its_distance():
    for time in (0.01, 1.0, 10.0):
        data, student = setting(200)
        lead = kd.trained_teacher(student, data.x, data.y, time).features(data.x) - student.features(data.x)
        reach = np.linalg.norm(data.x, 2) ** 2 * np.linalg.norm(data.y - student(data.x)) * time / np.sqrt(200)
        assert jnp.linalg.norm(lead, axis=1).max() <= reach


def test_random_fourier_features_average_to_the_gaussian_kernel():
    data, _ = setting()
    z = kd.random_fourier_features(jax.random.key(3), data.x, 40_000, bandwidth=0.7)
    squares = np.sum((data.x[:, None] - data.x[None]) ** 2, axis=2)
    kernel = np.exp(-squares / (2 * 0.7**2))
    np.testing.assert_allclose(z.T @ z / 40_000, kernel, atol=6 / np.sqrt(40_000))
    assert np.abs(z).max() <= np.sqrt(2)


def test_the_same_key_gives_the_same_functions_at_other_inputs():
    data, _ = setting()
    both = np.concatenate([data.x, data.x_test])
    together = kd.random_fourier_features(jax.random.key(0), both, 50, bandwidth=1.0)
    apart = [kd.random_fourier_features(jax.random.key(0), part, 50, bandwidth=1.0) for part in (data.x, data.x_test)]
    np.testing.assert_allclose(together, np.concatenate(apart, axis=1), atol=1e-14)
    other = kd.random_fourier_features(jax.random.key(1), data.x, 50, bandwidth=1.0)
    assert np.abs(other - apart[0]).max() > 0.5


@pytest.mark.parametrize("ridge", [1e-10, 0.1, 30.0])
@pytest.mark.parametrize("width", [3, 40])
def test_the_machine_is_kernel_ridge_regression(ridge, width):
    """Scikit-learn's, with the kernel of the embeddings; 1e-10 stands for no ridge, where m < n leaves a remainder."""
    from sklearn.linear_model import Ridge

    data, student = setting(width)
    z, at = (kd.random_fourier_features(jax.random.key(5), x, width, bandwidth=1.0) for x in (data.x, data.x_test))
    machine = kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=ridge)
    known = Ridge(alpha=ridge, fit_intercept=False, solver="svd")
    known.fit(np.asarray(z).T / np.sqrt(width), data.y - np.asarray(student(data.x)))
    np.testing.assert_allclose(machine(at), known.predict(np.asarray(at).T / np.sqrt(width)), rtol=1e-6, atol=1e-8)
    carried = student.output_weights @ machine.phi - student(data.x)
    np.testing.assert_allclose(carried, machine(z), atol=1e-10)


def test_the_machine_works_with_any_signs():
    data, student = setting(12)
    student = kd.TwoLayerNetwork(student.weights, student.signs * np.linspace(0, 2, 12))
    z = kd.random_fourier_features(jax.random.key(1), data.x, 12, bandwidth=1.0)
    machine = kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=0.5)
    np.testing.assert_allclose(student.output_weights @ machine.phi, student(data.x) + machine(z), atol=1e-12)
    assert machine.coefficients[0] == 0  # a unit without an output carries nothing
    np.testing.assert_array_equal(machine.phi[0], student.features(data.x)[0])


def test_the_machine_is_near_and_its_raw_embeddings_are_far():
    near, far = [], []
    for width in (100, 10_000):
        data, student = setting(width)
        z = kd.random_fourier_features(jax.random.key(0), data.x, width, bandwidth=1.0)
        machine = kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=0.1)
        near.append(jnp.linalg.norm(machine.phi - student.features(data.x), axis=1).max())
        far.append(jnp.sqrt(jnp.mean(jnp.sum((z - student.features(data.x)) ** 2, axis=1))))
    assert near[1] < near[0] / 4  # ten, but for the unluckiest of the units
    assert far[1] > 0.9 * far[0]


def test_jit_and_grad_pass():
    data, student = setting()
    z = kd.random_fourier_features(jax.random.key(0), data.x, 30, bandwidth=1.0)

    def error(ridge):
        return jnp.sum(
            (student.output_weights @ kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=ridge).phi - data.y)
            ** 2
        )

    assert jnp.isfinite(jax.jit(jax.grad(error))(0.3)) and jax.grad(error)(0.3) > 0
    moved = jax.jit(lambda time: kd.trained_teacher(student, data.x, data.y, time).weights)(2.0)
    np.testing.assert_allclose(moved, kd.trained_teacher(student, data.x, data.y, 2.0).weights, atol=1e-12)
    drawn = jax.jit(lambda ell: kd.random_fourier_features(jax.random.key(0), data.x, 30, bandwidth=ell))(1.0)
    np.testing.assert_allclose(drawn, z, atol=1e-13)


def test_numbers_that_are_known_are_read_under_jit():
    data, _ = setting()
    known, zero = jnp.asarray(0.7), jnp.zeros(())
    draw = jax.jit(lambda x: kd.random_fourier_features(jax.random.key(0), x, 5, bandwidth=known))
    np.testing.assert_allclose(draw(data.x), kd.random_fourier_features(jax.random.key(0), data.x, 5, bandwidth=0.7))
    refused = jax.jit(lambda x: kd.random_fourier_features(jax.random.key(0), x, 5, bandwidth=zero))
    with pytest.raises(ValueError, match=r"bandwidth: expected a number greater than 0; got 0"):
        refused(data.x)


def test_bad_input():
    data, student = setting()
    key, x, y = jax.random.key(0), data.x, data.y
    z = kd.random_fourier_features(key, x, 30, bandwidth=1.0)
    for message, call in {
        "time: expected a time that is at least 0": lambda: kd.trained_teacher(student, x, y, -1.0),
        r"x: expected a real array of shape \(n, d=5\)": lambda: kd.trained_teacher(student, x[:, :3], y, 1.0),
        r"y: expected a real array of shape \(n=8,\)": lambda: kd.trained_teacher(student, x, y[:3], 1.0),
        "student: expected a TwoLayerNetwork": lambda: kd.trained_teacher(None, x, y, 1.0),
        "key: expected a key": lambda: kd.random_fourier_features(0, x, 3, bandwidth=1.0),
        "count: expected a positive integer; got 0": lambda: kd.random_fourier_features(key, x, 0, bandwidth=1.0),
        "count: expected a positive integer; got 2.5": lambda: kd.random_fourier_features(key, x, 2.5, bandwidth=1.0),
        "bandwidth: expected a number greater than 0; got 0": lambda: kd.random_fourier_features(
            key, x, 3, bandwidth=0
        ),
        "bandwidth: expected a number that is at least 0": lambda: kd.random_fourier_features(key, x, 3, bandwidth=-1),
        r"embedding: expected a real array of shape \(m=30, n=8\)": lambda: kd.kernel_machine_teacher(
            student, x, y, z.T, ridge=1.0
        ),
        "ridge: expected a number greater than 0; got 0": lambda: kd.kernel_machine_teacher(
            student, x, y, z, ridge=0.0
        ),
        r"embedding: expected a real array of shape \(m=30, rows\)": lambda: kd.kernel_machine_teacher(
            student, x, y, z, ridge=1.0
        )(z[:3]),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
