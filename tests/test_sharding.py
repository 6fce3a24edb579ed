"""A problem whose arrays are sharded over units is solved where it lies: on eight devices, and in two processes."""

import json
import os
import socket
import subprocess
import sys

import pytest

# In processes of their own: the number of devices is fixed when JAX starts.
PROBLEM = r"""
import json, re, sys
import jax, jax.numpy as jnp, numpy as np
import equinox as eqx
import kdlib as kd
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from kdlib import spectrum
from kdlib.krylov import continue_bidiagonalization, largest_mode, start_bidiagonalization, start_tridiagonalization
from kdlib.limit import _plain, _transfer
from kdlib.linear_system import LinearSystem, ShiftedInverse

jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
mesh = jax.make_mesh((jax.device_count(),), ("units",), axis_types=(AxisType.Auto,))
over_units = NamedSharding(mesh, PartitionSpec("units"))
m, n, d, steps = 512, 20, 6, 16
keys = jax.random.split(jax.random.key(0), 4)
x, y = jax.random.normal(keys[1], (n, d)), jax.random.normal(keys[2], (n,))


def parts():
    student = kd.TwoLayerNetwork.init(keys[0], m, d)
    teacher = student.with_weights(student.weights + jax.random.normal(keys[3], (m, d)) / np.sqrt(m))
    return student, teacher.features(x)


def pair(lam):
    return [kd.TransferProblem(student, x, y, phi, lam=lam) for student, phi in (whole, sharded)]


def apart(ours, whole):
    # the largest difference of an array's parts that this process holds, relative to the largest entry
    return max(
        float(np.abs(np.asarray(shard.data) - np.asarray(whole)[shard.index]).max() / np.abs(whole).max())
        for shard in ours.addressable_shards
    )


whole, sharded = parts(), jax.jit(parts, out_shardings=over_units)()
"""
EIGHT_DEVICES = r"""
def exchanges(function, *args):
    text = eqx.filter_jit(function).lower(*args).compile().compiled.as_text()
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return re.findall(rf"= (\S.*?) ({kinds})(?:-start)?\(", text)


def whole_somewhere(tree):
    arrays = [array for array in jax.tree.leaves(tree) if isinstance(array, jax.Array) and array.shape[:1] == (m,)]
    return [array.shape for array in arrays if array.sharding.shard_shape(array.shape)[0] != m // 8]


one, many = pair(0.5)
system = LinearSystem.of(many)
start, _ = start_bidiagonalization(system)
run = lambda system, start: continue_bidiagonalization(system, start, jnp.zeros(steps), None)
factor = lambda system: ShiftedInverse.of(system, jnp.asarray(1e-3))
operator = eqx.filter_jit(factor)(system)
alone = kd.TransferProblem(many.student, x, y, None, lam=0)
limits = {lam: [kd.fixed_point(problem) for problem in pair(lam)] for lam in (0.5, 0.0)}
late, _ = start_tridiagonalization(limits[0.5][1].displacement)
drawn = spectrum._random_beside(many.student.weights)
mode = largest_mode(system.product, drawn, most_steps=1000)
held = many, system, start, operator, late, drawn, mode, limits[0.5][1], LinearSystem.of(alone)
times = {"early": [0.0, 1.0, 10.0], "late": [0.0, 1.0, 1e3, 1e5], "limit": [1.0, jnp.inf]}
routes = [lambda problem: kd.gradient_flow(problem, [0.5]), lambda problem: kd.gradient_descent(problem, 0.01, 20)]
trained = [[route(problem) for problem in (one, many)] for route in routes]
flows = {name: [kd.kernel_flow(problem, t) for problem in (one, many)] for name, t in times.items()}
told = {
    "devices": system.devices,
    "product": exchanges(lambda system, v: system.product(v), system, many.student.weights),
    "step": exchanges(run, system, start),
    "factor": exchanges(factor, system),
    "solve": exchanges(lambda operator, v: operator(v), operator, many.student.weights),
    "whole somewhere": whole_somewhere(held),
    "residual": exchanges(spectrum._residuals, system, mode[None], jnp.ones(1)),
    "transfer": exchanges(_transfer, system),
    "plain": exchanges(_plain, system),
    "moved": whole_somewhere([b.network for _, b in flows.values()]),
    "late": [bool(b.converged) and type(b._end).__name__ for _, b in flows.values()],
    "outputs": max(apart(b.outputs, a.outputs) for a, b in flows.values()),
    "weights": max(apart(b.network.weights, a.network.weights) for a, b in flows.values()),
    "trained": max(apart(b.outputs, a.outputs) for a, b in trained),
    "rate": apart(*(kd.largest_rate(problem).value for problem in (many, one))),
}
for lam, (a, b) in limits.items():
    told[f"limit at {lam}"] = max(apart(getattr(b, name), getattr(a, name)) for name in ("outputs", "displacement"))
print(json.dumps(told))
"""
TWO_PROCESSES = r"""
one, many = pair(0.5)
early, late = ([kd.kernel_flow(problem, t) for problem in (one, many)] for t in ([0.0, 1.0, 10.0], [1e5, jnp.inf]))
told = {
    "held": [shard.data.shape for shard in many.student.weights.addressable_shards],
    "outputs": max(apart(b.outputs, a.outputs) for a, b in (early, late)),
    "weights": max(apart(b.network.weights, a.network.weights) for a, b in (early, late)),
    "rates": [apart(*(kd.largest_rate(problem).value for problem in pair(lam)[::-1])) for lam in (0.5, 0.0)],
}
try:
    kd.TransferProblem(sharded[0], x, y, sharded[1].at[300, 7].set(jnp.nan), lam=0.5)
except ValueError as error:
    told["refused"] = str(error)
print(json.dumps(told))
"""


def start(program, *arguments, devices=1):
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", PROBLEM + program, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(processes):
    try:
        answers = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "".join(errors for _, errors in answers)
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


@pytest.fixture(scope="module")
def told():
    return end([start(EIGHT_DEVICES, devices=8)])[0]


@pytest.fixture(scope="module")
def both():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    return end([start(TWO_PROCESSES, port, str(process)) for process in range(2)])


def test_a_product_exchanges_one_vector_of_outputs(told):
    assert told["devices"] == 8
    assert told["product"] == [["f64[20]{0}", "all-reduce"]]


def test_a_step_exchanges_besides_two_lengths(told):
    """The compiler sends the first length along with the outputs."""
    assert sorted(told["step"]) == [["(f64[], f64[20]{0})", "all-reduce"], ["f64[]", "all-reduce"]]


@pytest.mark.parametrize(("part", "products"), [("factor", 0), ("transfer", 0), ("plain", 1)])
def test_a_factorization_exchanges_one_matrix_of_samples(told, part, products):
    """Units are factorized where they are; sums that are ready at the same time travel together."""
    (shapes, kind), *others = sorted(told[part], key=lambda exchange: "[20,20]" not in exchange[0])
    assert kind == "all-reduce" and "f64[20,20]" in shapes and "512" not in shapes
    assert others == [["f64[20]{0}", "all-reduce"]] * products


def test_an_inverse_product_exchanges_one_vector_of_outputs(told):
    assert told["solve"] == [["f64[20]{0}", "all-reduce"]]


def test_a_residual_exchanges_sums_only(told):
    assert told["residual"] and {kind for _, kind in told["residual"]} == {"all-reduce"}
    assert all("512" not in shape and "3072" not in shape for shape, _ in told["residual"])


def test_no_array_over_units_is_whole_on_any_device(told):
    assert told["whole somewhere"] == told["moved"] == []


def test_devices_change_nothing_but_rounding(told):
    assert told["late"] == ["KrylovEnd", "KrylovEnd", "TwoLayerNetwork"]
    names = ("outputs", "weights", "trained", "rate", "limit at 0.5", "limit at 0.0")
    assert max(told[name] for name in names) < 1e-10


def test_processes_change_nothing_but_rounding(both):
    for told in both:
        assert told["held"] == [[256, 6]]
        assert max(told["outputs"], told["weights"], *told["rates"]) < 1e-10


def test_processes_agree_on_what_is_refused(both):
    for told in both:
        assert "phi: expected finite values; got nan at index (300, 7) (1 of 10240 not finite)" in told["refused"]
