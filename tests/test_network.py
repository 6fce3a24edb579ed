"""The network, its derivative, and the objective, against autodiff and plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd


@pytest.mark.parametrize("activation", ["tanh", "relu", "erf", "softplus", jnp.sin])
def test_derivative_is_that_of_the_features(activation):
    net = kd.TwoLayerNetwork.init(jax.random.key(0), 6, 3, activation=activation)
    x = jax.random.normal(jax.random.key(1), (5, 3))
    scalar = activation if callable(activation) else kd.network.ACTIVATIONS[activation][0]
    expected = jax.vmap(jax.vmap(jax.grad(scalar)))(net.weights @ x.T)
    np.testing.assert_allclose(net.derivative(x), expected, atol=1e-14)
    np.testing.assert_allclose(net.features(x), scalar(net.weights @ x.T), atol=1e-14)


def test_outputs_are_the_weighted_features():
    net = kd.TwoLayerNetwork(np.arange(6.0).reshape(3, 2) / 5, [1.0, -1.0, 0.5])
    x = np.array([[1.0, 2.0], [0.0, -1.0]])
    expected = [
        sum(a / np.sqrt(3) * np.tanh(w @ row) for a, w in zip([1, -1, 0.5], np.arange(6.0).reshape(3, 2) / 5))
        for row in x
    ]
    np.testing.assert_allclose(net(x), expected, atol=1e-15)
    assert net.a == pytest.approx(2.25 / 3)


def test_init_draws_standard_normal_weights_and_even_signs():
    net = kd.TwoLayerNetwork.init(jax.random.key(3), 4000, 5)
    assert set(np.unique(net.signs)) == {-1.0, 1.0}
    assert abs(float(net.signs.mean())) < 4 / np.sqrt(4000)
    assert abs(float(net.weights.mean())) < 4 / np.sqrt(20000)
    assert float(net.weights.std()) == pytest.approx(1.0, abs=0.03)
    assert net.a == pytest.approx(1.0)
    again = kd.TwoLayerNetwork.init(jax.random.key(3), 4000, 5)
    assert (net.weights == again.weights).all() and (net.signs == again.signs).all()


def test_energy_is_the_sum_it_says():
    rng = np.random.default_rng(0)
    net = kd.TwoLayerNetwork(rng.normal(size=(3, 2)), [1.0, -1.0, 1.0])
    x, y, phi = rng.normal(size=(4, 2)), rng.normal(size=4), rng.normal(size=(3, 4))
    other = net.with_weights(rng.normal(size=(3, 2)))
    features = np.tanh(np.asarray(other.weights) @ x.T)
    f = np.array([1, -1, 1]) / np.sqrt(3) @ features
    expected = 0.5 * np.sum((y - f) ** 2) + 0.35 * np.sum((phi - features) ** 2)
    assert kd.TransferProblem(net, x, y, phi, lam=0.7).energy(other) == pytest.approx(expected, rel=1e-14)
    plain = kd.TransferProblem(net, x, y, None, lam=0)
    assert plain.energy(other) == pytest.approx(0.5 * np.sum((y - f) ** 2), rel=1e-14)


def test_networks_and_problems_are_pytrees_that_do_not_change():
    net = kd.TwoLayerNetwork.init(jax.random.key(0), 3, 2)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, net)
    np.testing.assert_array_equal(doubled.weights, 2 * net.weights)
    with pytest.raises(AttributeError):
        net.weights = net.weights


def test_import_leaves_the_configuration_alone_and_stays_light():
    import subprocess
    import sys

    code = (
        "import jax, sys; before = dict(jax.config.values); import kdlib; "
        "assert dict(jax.config.values) == before; "
        "heavy = {'diffrax', 'matplotlib', 'sklearn', 'ipywidgets', 'anywidget'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.timed
def test_import_costs_at_most_one_and_a_half_times_that_of_jax():
    import statistics
    import subprocess
    import sys
    import time

    costs = {"jax": [], "kdlib": []}
    for _ in range(9):  # in turns, so that what else the machine does falls on both
        for package, times in costs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {package}"], check=True)
            times.append(time.perf_counter() - start)
    jax_alone, ours = (statistics.median(times) for times in costs.values())
    print(f"import jax {jax_alone:.2f} s, import kdlib {ours:.2f} s, {ours / jax_alone:.2f} times as long")
    assert ours <= 1.5 * jax_alone
