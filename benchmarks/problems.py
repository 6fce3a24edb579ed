"""The problem of all benchmarks, in words and as arrays."""

import jax
import jax.numpy as jnp

import kdlib as kd

WORDS = "unit-norm Gaussian inputs, Gaussian labels, a teacher whose weights are the student's plus N(0, 1)/√m"


def problem(m: int, n: int, d: int, *, activation: str = "tanh", lam: float = 0.5) -> kd.TransferProblem:
    """A student of N(0, 1) weights and a teacher close by."""
    data, labels, start, lead = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(data, (n, d))
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    student = kd.TwoLayerNetwork.init(start, m, d, activation=activation)
    teacher = student.with_weights(student.weights + jax.random.normal(lead, (m, d)) / jnp.sqrt(m))
    return kd.TransferProblem(student, x, jax.random.normal(labels, (n,)), teacher.features(x), lam=lam)


@jax.jit
def product(system, v):
    """M v."""
    return system.product(v) if hasattr(system, "product") else system.adjoint(system.forward(v))
