"""The kernel flow at many times against integrators, `expm_multiply` and dense matrices, over the same product M·v."""

import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy

import kdlib as kd
from benchmarks import record, timing
from benchmarks.problems import WORDS, problem, product
from benchmarks.timing import best, compete, ratio
from kdlib.linear_system import LinearSystem

TIMES = np.geomspace(0.1, 1000, 40)
ACCURACY = 1e-6
STEPS = 120  # of the reference
# The loosest tolerance, in powers of ten, with which each reaches the accuracy; a tighter one is taken if it fails.
TOLERANCES = {"Tsit5": 1e-8, "Dopri8": 1e-8, "RK45": 1e-8, "DOP853": 1e-10, "expm_multiply": None}
LIMIT = 600.0  # seconds; what would take longer is extrapolated, and `expm_multiply` stopped


def run(say, sizes=((2000, 400, 25), (20_000, 1000, 40)), small=(64, 100, 16)) -> dict:
    rows, targets, tolerances = [], [], dict(TOLERANCES)
    for m, n, asked in sizes:
        part = large(m, n, 64, tolerances, say)
        rows += part
        rival = best(part[1:-1])
        what = f"m={m}, n={n}: times faster than {rival['name'].removeprefix(f'm={m}, n={n}: ')}"
        targets.append(record.target(what, ratio(rival, part[0]), at_least=asked, how=rival["how"]))
    rows += dense(*small, say)
    words = f"kernel_flow at 40 times from 0.1 to 1000, λ = 0.5, tanh, d = 64, error at most 1e-6; {WORDS}"
    return record.result("All times of a trajectory", words, rows, targets)


class Flow:
    """v' = c - M v, and the ways to follow it; each returns outputs at sorted times and counts its products."""

    def __init__(self, system):
        self.system, self.shape = system, (len(system.output_weights), system.x.shape[1])
        self.product, self.outputs = partial(product, system), partial(_outputs, system)
        self.force = system.adjoint(system.target)
        self.products = 0

    def flat(self, v):
        """M v between flat NumPy arrays."""
        self.products += 1
        return np.asarray(self.product(v.reshape(self.shape))).ravel()

    def follow(self, method, times, tolerance):
        return getattr(self, "scipy" if method in ("RK45", "DOP853") else method)(method, times, tolerance)

    def scipy(self, method, times, tolerance):
        force, self.products = np.asarray(self.force).ravel(), 0
        solution = scipy.integrate.solve_ivp(
            lambda t, v: force - self.flat(v), (0, times[-1]), np.zeros(force.size),
            method=method, t_eval=times, rtol=tolerance, atol=tolerance,
        )  # fmt: skip
        return np.stack([self.outputs(v.reshape(self.shape)) for v in solution.y.T])

    def Tsit5(self, method, times, tolerance):
        outputs, steps, stages = _diffrax(self.system, self.force, jnp.asarray(times), tolerance, method)
        self.products = int(steps) * int(stages)
        return outputs

    Dopri8 = Tsit5

    def expm_multiply(self, method, times, tolerance):
        """From time to time, of the matrix [-M c; 0 0]: its last unknown stays 1.

        Raises
        ------
        TimeoutError
            When it has run for `LIMIT`, or will: the times grow, and a longer way takes no fewer products.
        """
        force, self.products, start = np.asarray(self.force).ravel(), 0, time.perf_counter()

        def moved(v):
            if time.perf_counter() - start > LIMIT:
                raise TimeoutError
            return self.flat(v)

        squares = (self.system.slopes**2) @ np.sum(self.system.x**2, axis=1)
        trace = -float(jnp.sum((self.system.lam + self.system.output_weights**2) * squares))
        state, before, outputs = np.append(np.zeros(force.size), 1.0), 0.0, []
        for now in times:
            dt = now - before
            matrix = scipy.sparse.linalg.LinearOperator(
                (state.size, state.size), dtype=float,
                matvec=lambda u, dt=dt: np.append(dt * (force * u.ravel()[-1] - moved(u.ravel()[:-1])), 0.0),
                rmatvec=lambda u, dt=dt: dt * np.append(-moved(u.ravel()[:-1]), force @ u.ravel()[:-1]),
            )  # fmt: skip
            state = scipy.sparse.linalg.expm_multiply(matrix, state, traceA=dt * trace)
            outputs.append(self.outputs(state[:-1].reshape(self.shape)))
            before = now
            if (time.perf_counter() - start) / len(outputs) * len(times) > LIMIT:
                raise TimeoutError(f" to t = {now:.1f}: at least as many to each later time")
        return np.stack(outputs)


@jax.jit
def _outputs(system, v):
    return system.outputs(v)


def _diffrax(system, force, times, tolerance, method):
    import diffrax

    solver = getattr(diffrax, method)()
    tableau = solver.tableau
    evaluations = tableau.num_stages - int(tableau.fsal)  # the last evaluation of a step is the first of the next
    return *_integrate(system, force, times, tolerance, solver), evaluations


@eqx.filter_jit
def _integrate(system, force, times, tolerance, solver):
    import diffrax

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, v, args: force - product(system, v)),
        solver, t0=0.0, t1=times[-1], dt0=None, y0=jnp.zeros_like(force), max_steps=10_000_000,
        saveat=diffrax.SaveAt(ts=times, fn=lambda t, v, args: system.outputs(v)),
        stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
    )  # fmt: skip
    return solution.ys, solution.stats["num_steps"]


def lanczos(flow, times, steps=STEPS):
    """The reference: outputs by the textbook Lanczos method, which keeps its basis and reorthogonalises it twice.

    With M Q = Q T and Qᵀc = β e₁:  v(t) = β Q V ((1 - exp(-tμ))/μ) Vᵀe₁ for T = V diag(μ) Vᵀ. Its error is what the
    last fifth of its steps changed.
    """
    force = np.asarray(flow.force).ravel()
    beta = np.linalg.norm(force)
    basis, alphas, betas = np.empty((steps + 1, force.size)), [], []
    basis[0] = force / beta
    for j in range(steps):
        image = flow.flat(basis[j])
        alphas.append(basis[j] @ image)
        for _ in range(2):
            image = image - basis[: j + 1].T @ (basis[: j + 1] @ image)
        betas.append(np.linalg.norm(image))
        basis[j + 1] = image / betas[-1]
    rows = np.stack([flow.outputs(q.reshape(flow.shape)) for q in basis[:steps]])

    def outputs(k):
        rates, vectors = scipy.linalg.eigh_tridiagonal(alphas[:k], betas[: k - 1])
        grown = -np.expm1(-np.outer(times, rates)) / rates
        return beta * ((grown * vectors[0]) @ vectors.T) @ rows[:k]

    return outputs(steps), np.abs(outputs(steps) - outputs(steps * 4 // 5)).max()


def large(m, n, d, tolerances, say) -> list[dict]:
    """kdlib, and then the alternatives, on one problem; each starts at its tolerance, and leaves the one it needed."""
    given = problem(m, n, d)
    flow = Flow(LinearSystem.of(given))
    start, scale = np.asarray(given.student(given.x)), float(given.scale)
    taken, (reference, uncertain) = timing.seconds(lambda: lanczos(flow, TIMES))
    if uncertain > ACCURACY / 10 * scale:
        raise ValueError(f"the reference is not accurate enough: its last steps changed it by {uncertain / scale:.1e}")
    say(f"  m={m}, n={n}: reference in {taken:.3g} s")

    def error(changes):
        return float(np.max(np.linalg.norm(changes - reference[: len(changes)], axis=1))) / scale

    label = f"m={m}, n={n}: "
    rows = compete(
        {label + "kdlib": lambda: kd.kernel_flow(given, TIMES).outputs - start},
        error=error, asked=ACCURACY, rounds=5, say=say,
    )  # fmt: skip
    for method in tolerances:
        while True:
            row = follow(flow, method, tolerances[method], error, label, say)
            if row["accurate"] or tolerances[method] is None or tolerances[method] < 1e-12:
                break
            tolerances[method] /= 10
        rows.append(row)
    reference = {"name": f"{label}the reference, Lanczos with its basis kept", "how": "measured", "products": STEPS}
    return [*rows, reference | {"seconds": [taken] * 3}]


def follow(flow, method, tolerance, error, label, say) -> dict:
    """One alternative's row: measured once, or extrapolated by its products where it would take over `LIMIT`.

    An `expm_multiply` that is stopped has no answer whose accuracy could be checked, and does not count.
    """
    name = label + method + ("" if tolerance is None else f", tolerance {tolerance:.0e}")
    if tolerance is None:
        expected, how, outputs = 0.0, "", None
    else:
        expected, needed, how, outputs = extrapolated(flow, method, tolerance)
    if outputs is None or (expected <= LIMIT and error(outputs) <= ACCURACY):
        try:
            expected, outputs = timed(flow, method, TIMES, tolerance)
        except TimeoutError as stopped:
            say(f"  {name}: > {LIMIT:g} s")
            how = f"stopped after {flow.products} products{stopped}"
            return {"name": name, "accurate": False, "how": how, "times": [LIMIT], "seconds": [LIMIT] * 3}
        needed, how = flow.products, "measured"
    missed = error(outputs)
    say(f"  {name}: {expected:.3g} s, {how}, error {missed:.1e}")
    return {
        "name": name, "error": missed, "accurate": missed <= ACCURACY, "how": how, "products": round(needed),
        "times": [expected], "seconds": [expected] * 3,
    }  # fmt: skip


def timed(flow, method, times, tolerance):
    """Seconds and outputs, without what diffrax compiles: it is asked for as many times, but early ones, beforehand."""
    if method in ("Tsit5", "Dopri8"):
        flow.follow(method, 1e-6 * times, tolerance)
    return timing.seconds(partial(flow.follow, method, times, tolerance))


def extrapolated(flow, method, tolerance):
    """Seconds, products, how and the outputs so far, of an integrator: in the end its steps are equally long."""
    counts = []
    for times in (TIMES[TIMES < 4], TIMES[TIMES < 8]):
        (seconds, outputs), end = timed(flow, method, times, tolerance), times[-1]
        counts.append((end, flow.products))
    (half, few), (_, many) = counts
    needed = many + (TIMES[-1] - end) * (many - few) / (end - half)
    return needed * seconds / many, needed, f"extrapolated from {many} products to t = {end:.1f}", outputs


def dense(m, n, d, say) -> list[dict]:
    """Where M fits: its eigenvectors, and its exponential time by time."""
    given = problem(m, n, d)
    flow = Flow(LinearSystem.of(given))
    start, size = np.asarray(given.student(given.x)), m * d
    readout = np.asarray(jax.vmap(flow.outputs)(jnp.eye(size).reshape(size, m, d))).T

    def matrix():
        return np.asarray(jax.vmap(flow.product)(jnp.eye(size).reshape(size, m, d))).reshape(size, size)

    def eigh():
        rates, modes = np.linalg.eigh(matrix())
        rates = np.maximum(rates, 1e-300)
        grown = -np.expm1(-np.outer(TIMES, rates)) / rates
        return (grown * (np.asarray(flow.force).ravel() @ modes)) @ (readout @ modes).T

    def expm():
        force = np.asarray(flow.force).ravel()
        whole = np.block([[-matrix(), force[:, None]], [np.zeros((1, size + 1))]])
        return np.stack([readout @ scipy.linalg.expm(t * whole)[:-1, -1] for t in TIMES])

    reference, _ = lanczos(flow, TIMES)
    label = f"m={m}, n={n}, d={d}: "
    return compete(
        {
            label + "kdlib": lambda: kd.kernel_flow(given, TIMES).outputs - start,
            label + "dense eigh": eigh,
            label + "dense expm": expm,
        },
        error=lambda changes: float(np.max(np.linalg.norm(changes - reference, axis=1)) / given.scale),
        asked=ACCURACY, rounds=3, say=say,
    )  # fmt: skip
