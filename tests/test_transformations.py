"""Every public function of arrays differentiates and maps: λ, labels, teacher, times, inputs, where it has them.

Those that search, count or choose need to know their arrays now, and say so: ``KNOWN``. No public name is left out, and
no bound.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd
from tests.problems import random_problem

# one plain problem, one with repeated and one with antipodal samples: recurrences break down, singular values meet
PROBLEMS = {"plain": (6, 3, 4, 0), "repeated": (6, 5, 4, 2), "antipodal": (6, 5, 4, 3)}
TEACHER = ("lam", "y", "phi")
TIMED = (*TEACHER, "times")
KEY = jax.random.key(0)


def route(function, *wrt, mapped="lam"):
    """A function of a problem and times, what it is differentiated in, and what it is mapped over."""
    return function, wrt, mapped


def rescaled(problem, times):
    return problem.student.with_weights(problem.student.weights * times[0])


def sides(bound):
    """Both sides of a bound, in one vector."""
    return jnp.concatenate([jnp.ravel(bound.value), jnp.ravel(bound.measured)])


def signed(problem):
    return kd.TransferProblem(problem.student, problem.x, jnp.sign(problem.y), problem.phi, lam=problem.lam)


ROUTES = {
    "energy": route(lambda p, t: p.energy(p.student.with_weights(0.9 * p.student.weights))[None], *TEACHER),
    "kernel_flow": route(lambda p, t: kd.kernel_flow(p, t).outputs, *TIMED),
    "kernel_flow, energies": route(lambda p, t: kd.kernel_flow(p, t).energies, *TIMED),
    "kernel_flow, movement": route(lambda p, t: kd.kernel_flow(p, t).movement, *TIMED, mapped="y"),
    "kernel_flow, network": route(lambda p, t: kd.kernel_flow(p, t).network.weights, *TIMED, mapped="phi"),
    "kernel_flow at": route(lambda p, t: kd.kernel_flow(p, t, at=2 * p.x[:2]).outputs, *TIMED),
    "laplace_flow": route(lambda p, t: kd.laplace_flow(p, t).outputs, *TIMED),
    "memory_flow": route(lambda p, t: kd.memory_flow(p, t).outputs, *TIMED),
    "gradient_flow": route(lambda p, t: kd.gradient_flow(p, t).outputs, *TIMED),
    "gradient_descent": route(lambda p, t: kd.gradient_descent(p, 0.1 * t[0], [3, 7]).outputs, *TIMED),
    "output_flow": route(lambda p, t: kd.output_flow(p, t).outputs, *TIMED),
    "output_gradient_flow": route(lambda p, t: kd.output_gradient_flow(p, t).outputs, *TIMED),
    "fixed_point": route(lambda p, t: kd.fixed_point(p).features, *TEACHER),
    "fixed_point, outputs": route(lambda p, t: kd.fixed_point(p).outputs, *TEACHER, mapped="y"),
    "output_fixed_point": route(lambda p, t: kd.output_fixed_point(p).outputs, *TEACHER),
    "characteristic_matrix": route(lambda p, t: kd.characteristic_matrix(p, t[0]), "lam", "times"),
    "resolvent": route(lambda p, t: kd.resolvent(p, t[0]), *TIMED),
    "output_transform": route(lambda p, t: kd.output_transform(p, t[0]), *TIMED),
    "memory_kernel": route(lambda p, t: kd.memory_kernel(p, t), "lam", "times"),
    "unit_kernels": route(lambda p, t: kd.unit_kernels(rescaled(p, t), p.x), "times", mapped="times"),
    "tangent_kernel": route(lambda p, t: kd.tangent_kernel(rescaled(p, t), p.x), "times", mapped="times"),
    "limit_kernel, tanh": route(lambda p, t: kd.limit_kernel(t[0] * p.x, activation="tanh"), "times", mapped="times"),
    "limit_kernel, erf": route(lambda p, t: kd.limit_kernel(t[0] * p.x, activation="erf"), "times", mapped="times"),
    "early_stopping_filter": route(lambda p, t: kd.early_stopping_filter(p.y**2, t[0]), "y", "times", mapped="y"),
    "ridge_filter": route(lambda p, t: kd.ridge_filter(p.y**2, t[0]), "y", "times", mapped="y"),
    "gaussian_posterior": route(lambda p, t: kd.gaussian_posterior(p, noise=t[0]).mean, *TEACHER),
    "gaussian_posterior, variance": route(lambda p, t: kd.gaussian_posterior(p, noise=t[0]).variance, "lam", "times"),
    "noise_risk": route(lambda p, t: kd.noise_risk(p, 0 * p.y, t[0]).total[None], *TIMED),
    "inverse_variance_strength": route(
        lambda p, t: kd.inverse_variance_strength(1 + t[0], t[1], correlation=t[0] / 9, a=p.lam), "lam", "times"
    ),
    "alignment": route(lambda p, t: kd.alignment(p.student, p.x, 1 + p.y).shares, "y", mapped="y"),
    "alignment, inputs": route(lambda p, t: kd.alignment(p.student, t[0] * p.x, p.y).shares, "times", mapped="times"),
    "spectral_fit": route(
        lambda p, t: kd.spectral_fit(p, lambda rates: kd.ridge_filter(rates, t[0]), at=2 * p.x[:2]), "y", "times",
        mapped="times",
    ),
    "leave_one_out": route(lambda p, t: kd.leave_one_out(p, t), "y", "phi", "times", mapped="times"),
    "infinite_width_flow": route(
        lambda p, t: kd.infinite_width_flow(p.x, p.y, 0.1 * p.y, t, lam=p.lam, key=KEY, samples=16).outputs,
        "lam", "y", "times",
    ),
    "trained_teacher": route(
        lambda p, t: kd.trained_teacher(p.student, p.x, p.y, t[0]).weights, "y", "times", mapped="times"
    ),
    "random_fourier_features": route(
        lambda p, t: kd.random_fourier_features(KEY, p.x, 7, bandwidth=t[0]), "times", mapped="times"
    ),
    "kernel_machine_teacher": route(
        lambda p, t: kd.kernel_machine_teacher(p.student, p.x, p.y, p.phi, ridge=t[0]).phi, "y", "phi", "times",
        mapped="times",
    ),
    "soft_label_problem": route(lambda p, t: kd.soft_label_problem(p).y, *TEACHER),
    "self_distillation": route(lambda p, t: kd.self_distillation(p, 3).features, *TEACHER),
    "self_distillation, labels": route(
        lambda p, t: kd.self_distillation(p, 3, replace="labels").outputs, *TEACHER, mapped="phi"
    ),
    "ticket": route(lambda p, t: kd.ticket(p, [4, 1], output="rescale").energy(kd.ticket(p, [4, 1]).student), *TEACHER),
    "ticket_losses": route(lambda p, t: kd.ticket_losses(p, jnp.arange(4)), *TEACHER),
    "lead_order": route(lambda p, t: kd.lead_order(p), mapped="phi"),
    "greedy_order": route(lambda p, t: kd.greedy_order(p), mapped="phi"),
    "activation_suprema": route(
        lambda p, t: jnp.stack(kd.bounds.activation_suprema(jnp.exp, t[0])), "times", mapped="times"
    ),
    "beats_labels": route(lambda p, t: sides(kd.bounds.beats_labels(p, 0 * p.y, t[0])), "lam", "phi", "times"),
    "beats_teacher": route(lambda p, t: sides(kd.bounds.beats_teacher(p, 0 * p.y, t[0])), "lam", "phi", "times"),
    "displacement_norm": route(lambda p, t: kd.bounds.displacement_norm(p).value, *TEACHER),
    "energy_decay": route(lambda p, t: sides(kd.bounds.energy_decay(p, t)), "times", mapped="times"),
    "equal_kernel_speedup": route(lambda p, t: sides(kd.bounds.equal_kernel_speedup(p, t)), "times", mapped="times"),
    "finite_width_gap": route(lambda p, t: sides(kd.bounds.finite_width_gap(p, 0.02 * t)), *TIMED),
    "generalization_gap": route(
        lambda p, t: sides(kd.bounds.generalization_gap(signed(p), p.x, jnp.sign(p.y), delta=t[0], margin=9.0)),
        "lam", "phi", "times",
    ),
    "interlacing": route(lambda p, t: sides(kd.bounds.interlacing(p, t)), mapped="times"),
    "kernel_drift": route(lambda p, t: sides(kd.bounds.kernel_drift(p, [0.3, 2.0])), *TEACHER),
    "noise_variance": route(lambda p, t: sides(kd.bounds.noise_variance(p, t[0])), "lam", "times"),
    "rademacher_average": route(
        lambda p, t: kd.bounds.rademacher_average(rescaled(p, t), p.x, t[1]).value, "times", mapped="times"
    ),
    "rademacher_complexity": route(
        lambda p, t: sides(kd.bounds.rademacher_complexity(rescaled(p, t), p.x, t[1])), "times", mapped="times"
    ),
    "weight_movement": route(lambda p, t: sides(kd.bounds.weight_movement(p, [0.3, 2.0])), *TEACHER),
}  # fmt: skip

# Classes, by one of the functions that return them or take them: they are mapped and differentiated through there.
RESULTS = {
    "Alignment": "alignment",
    "Assumption": "displacement_norm",
    "Bound": "displacement_norm",
    "FixedPoint": "fixed_point",
    "InfiniteWidthFlow": "infinite_width_flow",
    "KernelMachine": "kernel_machine_teacher",
    "Posterior": "gaussian_posterior",
    "RademacherAverage": "rademacher_average",
    "Risk": "noise_risk",
    "Suprema": "activation_suprema",
    "SelfDistillation": "self_distillation",
    "Trajectory": "kernel_flow",
    "TransferProblem": "energy",
    "TwoLayerNetwork": "tangent_kernel",
    "Diagnosis": "diagnose",
    "LargestRate": "largest_rate",
    "OptimalStrength": "optimal_strength",
    "SlowModes": "slow_modes",
    "StoppingTime": "best_stopping_time",
}


def arguments(case):
    m, n, d, seed = PROBLEMS[case]
    weights, signs, activation, x, y, phi, _ = random_problem((m, n, d), "tanh", seed)
    fixed = (weights, signs, activation, x)
    return fixed, {"lam": jnp.asarray(0.5), "y": y, "phi": phi, "times": jnp.asarray([0.3, 2.0, 40.0])}


def value(function, fixed, free):
    weights, signs, activation, x = fixed
    student = kd.TwoLayerNetwork(weights, signs, activation)
    problem = kd.TransferProblem(student, x, free["y"], free["phi"], lam=free["lam"])
    return function(problem, free["times"])


DIFFERENTIATED = [name for name, (_, wrt, _) in ROUTES.items() if wrt]


@pytest.mark.parametrize(
    ("name", "case"),
    [*((name, "repeated") for name in DIFFERENTIATED), ("kernel_flow", "plain"), ("kernel_flow", "antipodal")],
)
def test_gradients_are_those_of_differences(name, case):
    function, wrt, _ = ROUTES[name]
    fixed, free = arguments(case)

    @jax.grad
    def gradient(part):
        return jnp.sum(jnp.sin(value(function, fixed, free | part)))

    def difference(part, step):
        moved = {key: free[key] + step * direction for key, direction in part.items()}
        return np.sum(np.sin(np.asarray(value(function, fixed, free | moved))))

    part = {key: jnp.asarray(free[key]) for key in wrt}
    found = gradient(part)
    rng = np.random.default_rng(0)
    for key in wrt:
        direction = {key: rng.normal(size=np.shape(free[key]))}
        step = 1e-4
        expected = (difference(direction, step) - difference(direction, -step)) / (2 * step)
        assert np.isfinite(expected)
        size = max(1.0, float(np.linalg.norm(found[key])))
        assert abs(np.sum(found[key] * direction[key]) - expected) <= 1e-5 * size, key


@pytest.mark.parametrize("name", ROUTES)
def test_a_map_over_problems_is_a_loop_over_them(name):
    function, _, mapped = ROUTES[name]
    fixed, free = arguments("repeated")
    stack = jnp.stack([free[mapped] * factor for factor in (1.0, 0.5, 2.0)])
    together = jax.vmap(lambda part: value(function, fixed, free | {mapped: part}))(stack)
    alone = jnp.stack([value(function, fixed, free | {mapped: part}) for part in stack])
    assert jnp.all(jnp.isfinite(alone)) and jnp.any(alone[0] != alone[1])
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-8 * max(1.0, float(jnp.max(jnp.abs(alone)))))


@pytest.mark.parametrize("name", ["fixed_point", "fixed_point, outputs"])
@pytest.mark.parametrize("jit", [False, True])
def test_inputs_that_mapped_problems_share_differentiate(name, jit):
    function, *_ = ROUTES[name]
    (*network, x), free = arguments("plain")
    many = {key: jnp.stack([free[key], 0.5 * free[key]]) for key in TEACHER}

    def loss(x, part):
        return jnp.sum(jnp.sin(value(function, (*network, x), free | part)))

    def together(x):
        return jnp.sum(jax.vmap(loss, (None, 0))(x, many))

    found = jax.grad(jax.jit(together) if jit else together)(x)
    alone = sum(jax.grad(loss)(x, {key: many[key][i] for key in TEACHER}) for i in range(2))
    assert jnp.all(jnp.isfinite(alone))
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-7 * max(1.0, float(jnp.max(jnp.abs(alone)))))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev])
def test_resolvents_differentiate_where_singular_values_are_equal_or_zero(transform, activation):
    # a unit that is silent on all samples, and one whose kernel is the identity
    student = kd.TwoLayerNetwork(jnp.asarray([[-1.0, -1.0], [1e-9, 1e-9]]), jnp.ones(2), activation)

    def change(lam):
        problem = kd.TransferProblem(student, jnp.eye(2), jnp.ones(2), jnp.zeros((2, 2)), lam=lam)
        return kd.resolvent(problem, 0.7)

    step = 1e-5
    expected = (change(0.5 + step) - change(0.5 - step)) / (2 * step)
    np.testing.assert_allclose(transform(change)(0.5), expected, atol=1e-8)


def test_a_pole_in_a_map_is_the_pole_of_one():
    fixed, free = arguments("plain")

    def response(s):
        return value(lambda p, t: kd.resolvent(p, s), fixed, free | {"lam": jnp.asarray(0.0)})

    mapped = jax.vmap(response)(jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(mapped[1], response(jnp.asarray(1.0)), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("lam", [0.0, 0.5])
def test_the_distance_of_the_limit_differentiates_where_a_part_of_it_is_zero(lam, activation):
    """The start's own features teach nothing, labels that are its outputs pull at nothing, a ReLU can be silent."""
    fixed, _ = arguments("repeated")
    student = kd.TwoLayerNetwork(*fixed[:2], activation)

    def distance(lam, x, labels, gap):
        problem = kd.TransferProblem(student, x, student(x) + labels, student.features(x) + gap, lam=lam)
        return kd.bounds.displacement_norm(problem).value

    gap = 0.1 * jnp.cos(jnp.arange(30.0)).reshape(6, 5)
    for labels, led in ((jnp.ones(5), 0 * gap), (jnp.zeros(5), gap)):
        slope = jax.jit(jax.grad(distance, argnums=(0, 1)))(lam, fixed[3], labels, led)
        assert all(jnp.all(jnp.isfinite(part)) for part in slope)
        if lam > 0:  # at 0 the distance jumps
            above, below = (distance(lam + step, fixed[3], labels, led) for step in (1e-5, -1e-5))
            np.testing.assert_allclose(slope[0], (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", PROBLEMS)
def test_the_start_and_the_end_of_the_kernel_flow_differentiate_too(case):
    fixed, free = arguments(case)
    times = jnp.asarray([0.0, jnp.inf])

    def outputs(lam):
        return value(lambda p, t: kd.kernel_flow(p, t).outputs, fixed, free | {"lam": lam, "times": times})

    limit = jax.jacfwd(lambda lam: value(lambda p, t: kd.fixed_point(p).outputs, fixed, free | {"lam": lam}))
    slopes = jax.jacrev(outputs)(free["lam"])
    np.testing.assert_array_equal(slopes[0], 0.0)
    np.testing.assert_allclose(slopes[1], limit(free["lam"]), atol=1e-9)


@pytest.mark.parametrize("flow", [kd.kernel_flow, kd.laplace_flow])
def test_the_start_differentiates_in_time(flow):
    fixed, free = arguments("repeated")

    def outputs(times):
        return value(lambda p, t: flow(p, t).outputs, fixed, free | {"times": times})

    early = outputs(jnp.asarray([0.0, 1e-7]))
    speed = jax.jacrev(lambda t: outputs(t[None])[0])(jnp.zeros(()))
    assert jnp.any(speed != 0)
    np.testing.assert_allclose(speed, (early[1] - early[0]) / 1e-7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flow", [kd.kernel_flow, kd.laplace_flow])
def test_the_flow_differentiates_where_transfer_begins(flow):
    """Its features enter the energy with the root of λ, which has no slope at 0; the flow has one."""
    fixed, free = arguments("plain")

    def both(lam):
        path = value(lambda p, t: flow(p, t), fixed, free | {"lam": lam, "times": jnp.asarray([0.0, 0.3, 2.0])})
        return jnp.concatenate([path.outputs.ravel(), path.energies, path.network.weights.ravel()])

    slope = jax.jacrev(both)(0.0)
    at, after = both(0.0), both(1e-6)
    assert jnp.all(jnp.isfinite(slope)) and jnp.any(slope != 0)
    np.testing.assert_allclose(slope, (after - at) / 1e-6, atol=1e-4 * jnp.max(jnp.abs(slope)))


@pytest.mark.parametrize("case", PROBLEMS)
def test_the_network_at_the_end_of_the_kernel_flow_differentiates_too(case):
    fixed, free = arguments(case)

    def weights(lam):
        given = free | {"lam": lam, "times": jnp.asarray([jnp.inf, 1.0])}
        return value(lambda p, t: kd.kernel_flow(p, t).network.weights, fixed, given)

    displacement = jax.jacfwd(
        lambda lam: value(lambda p, t: kd.fixed_point(p).displacement, fixed, free | {"lam": lam})
    )
    slope = jax.jacrev(weights)(free["lam"])
    assert jnp.any(slope != 0)
    np.testing.assert_allclose(slope, displacement(free["lam"]), atol=1e-9)


PROBLEM = value(lambda p, t: p, *arguments("plain"))
# what cannot be traced: what it says, by the argument that is
KNOWN = {
    "best_stopping_time": {
        "problem": (lambda y: kd.best_stopping_time(with_labels(y), PROBLEM.y, 0.1), PROBLEM.y),
        "truth": (lambda y: kd.best_stopping_time(PROBLEM, y, 0.1), PROBLEM.y),
        "noise": (lambda noise: kd.best_stopping_time(PROBLEM, PROBLEM.y, noise), 0.1),
    },
    "characteristic_values": {"problem": (lambda y: kd.characteristic_values(with_labels(y)), PROBLEM.y)},
    "energy_decay": {"problem": (lambda y: kd.bounds.energy_decay(with_labels(y), [1.0]), PROBLEM.y)},
    "equal_kernel_speedup": {"problem": (lambda y: kd.bounds.equal_kernel_speedup(with_labels(y), [1.0]), PROBLEM.y)},
    "finite_width_gap_posterior": {
        "problem": (lambda y: kd.bounds.finite_width_gap_posterior(with_labels(y), [1.0]), PROBLEM.y),
        "times": (lambda times: kd.bounds.finite_width_gap_posterior(PROBLEM, times), np.ones(1)),
    },
    "interlacing": {"problem": (lambda y: kd.bounds.interlacing(with_labels(y), [1.0]), PROBLEM.y)},
    "iterations_to_accuracy": {
        "problem": (lambda y: kd.bounds.iterations_to_accuracy(with_labels(y), 0.1), PROBLEM.y),
        "accuracy": (lambda accuracy: kd.bounds.iterations_to_accuracy(PROBLEM, accuracy), 0.1),
    },
    "kernel_drift": {"times": (lambda times: kd.bounds.kernel_drift(PROBLEM, times), np.ones(1))},
    "slow_amplitude": {"problem": (lambda y: kd.bounds.slow_amplitude(with_labels(y)), PROBLEM.y)},
    "slowest_rate": {"problem": (lambda y: kd.bounds.slowest_rate(with_labels(y)), PROBLEM.y)},
    "small_transfer_rates": {"problem": (lambda y: kd.bounds.small_transfer_rates(with_labels(y)), PROBLEM.y)},
    "time_to_accuracy": {
        "problem": (lambda y: kd.bounds.time_to_accuracy(with_labels(y), 0.1), PROBLEM.y),
        "accuracy": (lambda accuracy: kd.bounds.time_to_accuracy(PROBLEM, accuracy), 0.1),
    },
    "units_needed": {
        "problem": (lambda y: kd.bounds.units_needed(with_labels(y), 0.1), PROBLEM.y),
        "loss": (lambda loss: kd.bounds.units_needed(PROBLEM, loss), 0.1),
    },
    "weight_movement": {"times": (lambda times: kd.bounds.weight_movement(PROBLEM, times), np.ones(1))},
    "count_above": {
        "problem": (lambda y: kd.count_above(with_labels(y), 0.1), PROBLEM.y),
        "x": (lambda x: kd.count_above(PROBLEM, x), 0.1),
    },
    "decay_rates": {"problem": (lambda y: kd.decay_rates(with_labels(y), 1), PROBLEM.y)},
    "diagnose": {
        "lam": (lambda lam: kd.diagnose(DATA, lam=lam), 0.5),
        "time": (lambda time: kd.diagnose(DATA, time=time), 10.0),
    },
    "gradient_descent": {"steps": (lambda steps: kd.gradient_descent(PROBLEM, 0.1, steps), np.arange(3))},
    "largest_rate": {"problem": (lambda y: kd.largest_rate(with_labels(y)), PROBLEM.y)},
    "noise_risk": {"time": (lambda time: kd.noise_risk(PROBLEM, PROBLEM.y, 0.1, time=time), 1.0)},
    "optimal_strength": {
        "problem": (lambda y: kd.optimal_strength(with_labels(y), PROBLEM.y, 0.1), PROBLEM.y),
        "truth": (lambda y: kd.optimal_strength(PROBLEM, y, 0.1), PROBLEM.y),
        "noise": (lambda noise: kd.optimal_strength(PROBLEM, PROBLEM.y, noise), 0.1),
    },
    "slow_modes": {"problem": (lambda y: kd.slow_modes(with_labels(y), 1), PROBLEM.y)},
    "smallest_ticket": {
        "problem": (lambda y: kd.smallest_ticket(with_labels(y), 0.5, [0, 1, 2]), PROBLEM.y),
        "loss": (lambda loss: kd.smallest_ticket(PROBLEM, loss, [0, 1, 2]), 0.5),
        "order": (lambda order: kd.smallest_ticket(PROBLEM, 0.5, order), np.arange(6)),
    },
}
STUDENT = PROBLEM.student
DATA = kd.datasets.Dataset(PROBLEM.x, PROBLEM.y, phi=PROBLEM.phi, weights=STUDENT.weights, signs=STUDENT.signs)


def with_labels(y):
    return kd.TransferProblem(PROBLEM.student, PROBLEM.x, y, PROBLEM.phi, lam=PROBLEM.lam)


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in KNOWN for argument in KNOWN[name]])
def test_what_must_be_known_says_so(name, argument):
    call, given = KNOWN[name][argument]
    for transformed, values in ((jax.vmap(call), jnp.stack([given, given])), (jax.jit(call), given)):
        with pytest.raises(ValueError) as caught:
            transformed(values)
        expected = rf"{argument}: expected values that are known now, since .*; got some traced by jit, grad or vmap"
        assert re.fullmatch(expected, str(caught.value))


def test_no_public_name_is_left_out():
    routes = {}
    for name, (function, *_) in ROUTES.items():
        routes.setdefault(name.split(",")[0].split()[0], []).append(function)
    for name, functions in routes.items():
        assert all(name in function.__code__.co_names for function in functions), name
    for name in KNOWN:
        assert all(name in call.__code__.co_names for call, _ in KNOWN[name].values()), name
    tested = routes.keys() | KNOWN.keys()
    assert set(RESULTS.values()) <= tested
    public = {*kd.__all__, *kd.bounds.__all__}
    assert public == (tested & public) | RESULTS.keys()
