"""The real network: gradient descent and flow against their matrix products alone, and many problems in one call."""

import jax
import jax.numpy as jnp
import numpy as np

import kdlib as kd
from benchmarks import record
from benchmarks.problems import WORDS, problem
from benchmarks.timing import compete, difference, ratio

STEP, STEPS = 0.1, 100


def run(say, size=(2000, 400, 64), many=(256, 60, 64), count=64, rounds=7) -> dict:
    given = problem(*size)
    weights, x = given.student.weights, given.x
    flow_time = jnp.array([5.0])
    evaluations = flow_evaluations(given, flow_time)
    reference = in_numpy(given)()
    say(f"  gradient_flow to t = 5 takes {evaluations} velocities")
    answers = {
        "gradient_descent": lambda: kd.gradient_descent(given, STEP, np.array([STEPS])).outputs[0],
        "its products alone": lambda: products(weights, x, STEPS),
        "gradient descent in NumPy": in_numpy(given),
        "gradient_flow": lambda: kd.gradient_flow(given, flow_time).outputs[0],
        "the products of the flow alone": lambda: products(weights, x, evaluations),
    }
    errors = iter([reference, None, reference, None, None])

    def error(answer):
        expected = next(errors)
        return None if expected is None else difference(answer, expected)

    rows = compete(answers, error=error, asked=1e-8, rounds=rounds, say=say)
    descent, alone, _, flow, flow_alone = rows
    one, together = several(*many, count)
    say(f"  {count} values of λ in one call")
    vector = compete(
        {f"one value of λ at m={many[0]}, n={many[1]}": one, f"{count} values of λ in one call": together},
        error=lambda answer: None, asked=1e-8, rounds=rounds, say=say,
    )  # fmt: skip
    targets = [
        record.target("gradient_descent over its products alone", ratio(descent, alone), at_most=1.5),
        record.target("gradient_flow over its products alone", ratio(flow, flow_alone), at_most=1.5),
        record.target(f"{count} values of λ over one", ratio(vector[1], vector[0]), at_most=16),
    ]
    words = f"m = {size[0]}, n = {size[1]}, d = {size[2]}, {STEPS} steps of {STEP}, λ = 0.5, tanh; {WORDS}"
    return record.result("Training", words, rows + vector, targets)


@jax.jit
def products(weights, x, count):
    """The two matrix products of a velocity, again and again."""
    return jax.lax.fori_loop(0, count, lambda _, w: w + 1e-6 * ((w @ x.T) @ x), weights)


def flow_evaluations(given, times):
    """How many velocities both runs of `gradient_flow` evaluate: counted as they happen."""
    from kdlib import training

    calls, velocity = [], training._velocity

    def counted(problem, weights):
        jax.debug.callback(lambda: calls.append(1))
        return velocity(problem, weights)

    training._velocity = counted
    jax.clear_caches()
    try:
        kd.gradient_flow(given, times).outputs.block_until_ready()
        jax.effects_barrier()
    finally:
        training._velocity = velocity
        jax.clear_caches()
    return len(calls)


def in_numpy(given):
    """The same descent as a user would write it."""
    net = given.student
    start, x, y, phi, b, lam = (
        np.asarray(part) for part in (net.weights, given.x, given.y, given.phi, net.output_weights, given.lam)
    )

    def descend():
        w = start
        for _ in range(STEPS):
            features = np.tanh(w @ x.T)
            residuals = b[:, None] * (y - b @ features) + lam * (phi - features)
            w = w + STEP * ((1 - features**2) * residuals) @ x
        return b @ np.tanh(w @ x.T)

    return descend


def several(m, n, d, count):
    """Gradient descent for one λ, and for many in one vectorised call."""
    given = problem(m, n, d)

    def outputs(lam):
        each = kd.TransferProblem(given.student, given.x, given.y, given.phi, lam=lam)
        return kd.gradient_descent(each, STEP, np.array([STEPS])).outputs

    lams = jnp.linspace(0.1, 2.0, count)
    one, together = jax.jit(outputs), jax.jit(jax.vmap(outputs))
    return lambda: one(lams[0]), lambda: together(lams)
