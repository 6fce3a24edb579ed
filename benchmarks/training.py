"""The real network: gradient descent and flow against their matrix products alone, and many problems in one call."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy

import kdlib as kd
from benchmarks import record
from benchmarks.problems import WORDS, problem
from benchmarks.timing import compete, difference, ratio
from kdlib.training import tolerances

STEP, STEPS, END = 0.1, 100, 5.0


def run(say, size=(2000, 400, 64), many=(256, 60, 64), count=64, rounds=7) -> dict:
    given = problem(*size)
    weights, x = given.student.weights, given.x
    flow_time = jnp.array([END])
    evaluations = flow_evaluations(given, flow_time)
    descend, flow_in_numpy = in_numpy(given)
    reference, flow_reference = descend(), flow_in_numpy(1e-12)
    # the tolerance that kdlib gives its integrator, in the finer of its two runs
    tolerance = float(tolerances(weights.dtype)[0])
    answers = {
        "gradient_descent": lambda: kd.gradient_descent(given, STEP, np.array([STEPS])).outputs[0],
        "its products alone": lambda: products(weights, x, STEPS),
        "gradient descent in NumPy": descend,
        "gradient_flow": lambda: kd.gradient_flow(given, flow_time).outputs[0],
        "the products of the flow alone": lambda: products(weights, x, evaluations),
        f"gradient flow in NumPy, SciPy's DOP853, tolerance {tolerance:.1e}": lambda: flow_in_numpy(tolerance),
    }
    errors = iter([reference, None, reference, flow_reference, None, flow_reference])

    def error(answer):
        expected = next(errors)
        return None if expected is None else difference(answer, expected)

    rows = compete(answers, error=error, asked=1e-8, rounds=rounds, say=say)
    descent, alone, _, flow, flow_alone, _ = rows
    flow["velocities"] = evaluations  # of both its runs
    targets = [
        record.target("gradient_descent over its products alone", ratio(descent, alone), at_most=1.5),
        record.target("gradient_flow over its products alone", ratio(flow, flow_alone), at_most=1.5),
    ]
    for what, single, values in several(*many, count):
        both = vectorised(what, single, values, f"at m={many[0]}, n={many[1]}", rounds, say)
        targets.append(record.target(f"{count} {what} over one", ratio(both[1], both[0]), at_most=16))
        rows += both
    m, n, d = size
    words = f"m = {m}, n = {n}, d = {d}, {STEPS} steps of {STEP}, the flow to t = {END:g}, λ = 0.5, tanh; {WORDS}"
    return record.result("Training", words, rows, targets)


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
    """The same descent and the same flow as a user would write them; the flow is given its tolerance."""
    net = given.student
    start, x, y, phi, b, lam = (
        np.asarray(part) for part in (net.weights, given.x, given.y, given.phi, net.output_weights, given.lam)
    )

    def velocity(w):
        features = np.tanh(w @ x.T)
        residuals = b[:, None] * (y - b @ features) + lam * (phi - features)
        return ((1 - features**2) * residuals) @ x

    def outputs(w):
        return b @ np.tanh(w @ x.T)

    def descend():
        w = start
        for _ in range(STEPS):
            w = w + STEP * velocity(w)
        return outputs(w)

    def flow(tolerance):
        solution = scipy.integrate.solve_ivp(
            lambda t, w: velocity(w.reshape(start.shape)).ravel(), (0, END), start.ravel(),
            method="DOP853", t_eval=[END], rtol=tolerance, atol=tolerance,
        )  # fmt: skip
        return outputs(solution.y[:, -1].reshape(start.shape))

    return descend, flow


def several(m, n, d, count):
    """What is varied, gradient descent as a function of it, and its values: λ, and the weights at the start."""
    given = problem(m, n, d)

    def of_lam(lam):
        each = kd.TransferProblem(given.student, given.x, given.y, given.phi, lam=lam)
        return kd.gradient_descent(each, STEP, np.array([STEPS])).outputs[0]

    def of_start(weights):
        student = given.student.with_weights(weights)
        each = kd.TransferProblem(student, given.x, given.y, given.phi, lam=given.lam)
        return kd.gradient_descent(each, STEP, np.array([STEPS])).outputs[0]

    starts = jax.random.normal(jax.random.key(1), (count, m, d))
    return ("values of λ", of_lam, jnp.linspace(0.1, 2.0, count)), ("seeds", of_start, starts)


def vectorised(what, function, values, where, rounds, say):
    """Rows of a call with one value, and of one with all: the same answers as one by one."""
    one, together = jax.jit(function), jax.jit(jax.vmap(function))
    expected = iter([None, [one(value) for value in values]])

    def error(answers):
        singles = next(expected)
        return None if singles is None else max(map(difference, answers, singles))

    contestants = {
        f"one of the {what}, {where}": lambda: one(values[0]),
        f"{len(values)} {what} in one call": lambda: together(values),
    }
    return compete(contestants, error=error, asked=1e-10, rounds=rounds, say=say)
