"""A problem whose arrays are sharded over units is solved where it lies; here on eight devices."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: the number of devices is fixed when JAX starts.
PROGRAM = r"""
import json, re
import jax, jax.numpy as jnp, numpy as np
import equinox as eqx
import kdlib as kd
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kdlib.krylov import continue_bidiagonalization, start_bidiagonalization
from kdlib.linear_system import LinearSystem

jax.config.update("jax_enable_x64", True)
mesh = jax.make_mesh((8,), ("units",), axis_types=(AxisType.Auto,))
m, n, d, steps = 512, 20, 6, 16
keys = jax.random.split(jax.random.key(0), 4)
student = kd.TwoLayerNetwork.init(keys[0], m, d)
x, y = jax.random.normal(keys[1], (n, d)), jax.random.normal(keys[2], (n,))
teacher = student.with_weights(student.weights + jax.random.normal(keys[3], (m, d)) / np.sqrt(m))
phi = teacher.features(x)
whole = kd.TransferProblem(student, x, y, phi, lam=0.5)
over_units = NamedSharding(mesh, PartitionSpec("units"))
student, phi = jax.device_put((student, phi), over_units)
sharded = kd.TransferProblem(student, x, y, phi, lam=0.5)


def exchanges(function, *args):
    text = eqx.filter_jit(function).lower(*args).compile().compiled.as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", text)


system = LinearSystem.of(sharded)
start, _ = start_bidiagonalization(system)
run = lambda system, start: continue_bidiagonalization(system, start, jnp.zeros(steps), None)
times = [0.0, 1.0, 10.0]
one, many = (kd.kernel_flow(problem, times) for problem in (whole, sharded))
rates = [float(kd.largest_rate(problem).value) for problem in (whole, sharded)]
print(json.dumps({
    "devices": system.devices,
    "product": exchanges(lambda system, v: system.product(v), system, student.weights),
    "step": exchanges(run, system, start),
    "outputs": float(jnp.abs(one.outputs - many.outputs).max() / one.outputs.max()),
    "weights": float(jnp.abs(one.network.weights - many.network.weights).max()),
    "stays": many.network.weights.sharding.is_equivalent_to(over_units, 2),
    "rate": abs(rates[0] - rates[1]) / rates[0],
}))
"""


@pytest.fixture(scope="module")
def told():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    run = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_product_exchanges_one_vector_of_outputs(told):
    assert told["devices"] == 8
    assert told["product"] == [["f64[20]{0}", "all-reduce"]]


def test_a_step_exchanges_besides_two_lengths(told):
    """The compiler sends the first length along with the outputs."""
    assert sorted(told["step"]) == [["(f64[], f64[20]{0})", "all-reduce"], ["f64[]", "all-reduce"]]


def test_devices_change_nothing_but_rounding(told):
    assert max(told["outputs"], told["weights"], told["rate"]) < 1e-10
    assert told["stays"]
