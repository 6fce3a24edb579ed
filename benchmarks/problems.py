"""The problem of all benchmarks, in words and as arrays."""

import jax
import jax.numpy as jnp

import kdlib as kd

WORDS = "unit-norm Gaussian inputs, Gaussian labels, a teacher whose weights are the student's plus N(0, 1)/√m"


def problem(
    m: int, n: int, d: int, *, activation: str = "tanh", lam: float = 0.5, features: bool = True, seed: int = 0
) -> kd.TransferProblem:
    """A student of N(0, 1) weights and a teacher close by, given by its features or, without them, as a network."""
    data, labels, start, lead = jax.random.split(jax.random.key(seed), 4)
    x = jax.random.normal(data, (n, d))
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    student = kd.TwoLayerNetwork.init(start, m, d, activation=activation)
    teacher = student.with_weights(student.weights + jax.random.normal(lead, (m, d)) / jnp.sqrt(m))
    phi = teacher.features(x) if features else teacher
    return kd.TransferProblem(student, x, jax.random.normal(labels, (n,)), phi, lam=lam)


@jax.jit
def product(system, v):
    """M v."""
    return system.product(v) if hasattr(system, "product") else system.adjoint(system.forward(v))
