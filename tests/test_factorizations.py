"""No two batches of factorizations are left to run at the same time: on two cores they could wait for each other.

See `kdlib.linear_system.after`. What is judged is the program as JAX traces it, not a race: two operations, each of
which factors a batch of matrices or holds a loop that does, must be ordered by what one computes and the other needs.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

import kdlib as kd
from kdlib.linear_system import after
from tests.test_transformations import arguments, value

FACTORING = {"cholesky", "eig", "eigh", "householder_product", "lu", "qr", "geqrf", "svd", "triangular_solve"}
LOOPS = {"cond", "custom_linear_solve", "scan", "while"}

ROUTES = {
    "kernel_flow": kd.kernel_flow,
    "kernel_flow, network": lambda p, t: kd.kernel_flow(p, t).network.weights,
    "kernel_flow and network": lambda p, t: (lambda path: (path.outputs, path.network.weights))(kd.kernel_flow(p, t)),
    "kernel_flow at": lambda p, t: kd.kernel_flow(p, t, at=2 * p.x[:2]),
    "laplace_flow": kd.laplace_flow,
    "memory_flow": kd.memory_flow,
    "memory_kernel": kd.memory_kernel,
    "output_flow": kd.output_flow,
    "fixed_point": lambda p, t: kd.fixed_point(p),
    "output_fixed_point": lambda p, t: kd.output_fixed_point(p),
    "characteristic_matrix": lambda p, t: kd.characteristic_matrix(p, t[0]),
    "resolvent": lambda p, t: kd.resolvent(p, t[0]),
    "resolvent of a vector": lambda p, t: kd.resolvent(p, t[0], jnp.ones_like(p.student.weights)),
    "output_transform": lambda p, t: kd.output_transform(p, t[0]),
    "gaussian_posterior": lambda p, t: kd.gaussian_posterior(p, noise=t[0], at=2 * p.x[:2]),
    "noise_risk": lambda p, t: kd.noise_risk(p, 0 * p.y, t[0]),
    "noise_risk, stopped": lambda p, t: kd.noise_risk(p, 0 * p.y, t[0], time=2.0),
    "alignment": lambda p, t: kd.alignment(p.student, p.x, p.y),
    "self_distillation": lambda p, t: kd.self_distillation(p, 3),
    "leave_one_out": kd.leave_one_out,
    "ticket_losses": lambda p, t: kd.ticket_losses(p, jnp.arange(4)),
    "greedy_order": lambda p, t: (kd.greedy_order(p, 2), p.lam),
    "infinite_width_flow": lambda p, t: kd.infinite_width_flow(
        p.x, p.y, 0.1 * p.y, t, lam=p.lam, key=jax.random.key(0), samples=16
    ),
    "beats_teacher": lambda p, t: (lambda bound: (bound.value, bound.measured))(
        kd.bounds.beats_teacher(p, 0 * p.y, t[0])
    ),
    "displacement_norm": lambda p, t: (lambda bound: (bound.value, bound.measured))(kd.bounds.displacement_norm(p)),
}


def operations(jaxpr):
    """The operations of a program, calls written out: what each follows, the bodies inside it, and if it is used."""
    found = []

    def visit(jaxpr, ancestors):
        for eqn in jaxpr.eqns:
            inside = [part for value in eqn.params.values() for part in _programs(value)]
            before = set().union(*(ancestors.get(v, set()) for v in eqn.invars if not isinstance(v, Literal)))
            if inside and eqn.primitive.name not in LOOPS:
                body = inside[0]
                given = eqn.invars[len(eqn.invars) - len(body.invars) :]
                own = {v: ancestors.get(a, set()) for v, a in zip(body.invars, given) if not isinstance(a, Literal)}
                visit(body, own)
                results = [set() if isinstance(v, Literal) else own.get(v, set()) for v in body.outvars]
            else:
                found.append((eqn, frozenset(before), inside))
                results = [before | {len(found) - 1}] * len(eqn.outvars)
            ancestors.update(zip(eqn.outvars, results))
        return ancestors

    ancestors = visit(jaxpr, {})
    used = set().union(*(ancestors.get(v, set()) for v in jaxpr.outvars if not isinstance(v, Literal)))
    return [(eqn, before, inside, i in used) for i, (eqn, before, inside) in enumerate(found)]


def _programs(value):
    for part in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(part, ClosedJaxpr):
            yield part.jaxpr
        elif isinstance(part, Jaxpr):
            yield part


def factors_a_batch(eqn, inside):
    shape = eqn.invars[0].aval.shape if eqn.primitive.name in FACTORING else ()
    return len(shape) > 2 or any(
        factors_a_batch(eqn, deeper) for body in inside for eqn, _, deeper, _ in operations(body)
    )


def side_by_side(jaxpr):
    """Pairs of batches of factorizations that nothing orders."""
    parts = operations(jaxpr)
    heavy = [i for i, (eqn, _, inside, used) in enumerate(parts) if used and factors_a_batch(eqn, inside)]
    pairs = [(parts[i][0].primitive.name, parts[j][0].primitive.name) for j in heavy for i in heavy if i < j]
    ordered = [i in parts[j][1] for j in heavy for i in heavy if i < j]
    within = [pair for i in heavy for body in parts[i][2] for pair in side_by_side(body)]
    return [pair for pair, chained in zip(pairs, ordered) if not chained] + within


def plain(result):
    """A number that depends on all results, and whose slope in them does not."""
    parts = [leaf for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum(jnp.sum(jnp.real(part)) for part in parts)


def bent(result):
    return plain(jax.tree.map(lambda leaf: jnp.sin(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, result))


@pytest.mark.parametrize("name", ROUTES)
def test_batches_of_factorizations_are_ordered(name, sweep):
    fixed, free = arguments("repeated")
    free = {key: jnp.asarray(part) for key, part in free.items()}
    *network, x = fixed

    def of_all(part):
        return value(ROUTES[name], fixed, part)

    def of_inputs(x):  # with λ known
        return value(ROUTES[name], (*network, x), free)

    def of_both(both):
        return value(ROUTES[name], (*network, both[0]), both[1])

    for function, one in ((of_all, free), (of_inputs, x), (of_both, (x, free))):
        several = jax.tree.map(lambda part: jnp.stack([part, 2 * part]), one)
        assert side_by_side(jax.make_jaxpr(function)(one).jaxpr) == []
        assert side_by_side(jax.make_jaxpr(jax.vmap(function))(several).jaxpr) == []
        for total in (plain, bent) if sweep else (plain,):  # the first leaves more unordered
            slope = jax.value_and_grad(lambda part, of=function, total=total: total(of(part)))
            assert side_by_side(jax.make_jaxpr(slope)(one).jaxpr) == []
            assert side_by_side(jax.make_jaxpr(jax.vmap(slope))(several).jaxpr) == []


def factored(jaxpr):
    """Shapes of what is factored, in loops too."""
    for eqn, _, inside, _ in operations(jaxpr):
        if eqn.primitive.name in FACTORING:
            yield eqn.invars[0].aval.shape
        for body in inside:
            yield from factored(body)


def test_many_strengths_share_the_factors_of_their_units():
    fixed, free = arguments("repeated")

    def limit(lam):
        return value(lambda p, t: kd.fixed_point(p), fixed, free | {"lam": lam})

    one, many = jnp.asarray(0.5), jnp.asarray([0.0, 0.5, 2.0])
    mapped, single = jax.make_jaxpr(jax.vmap(limit))(many), jax.make_jaxpr(limit)(one)
    assert list(factored(mapped.jaxpr)) == list(factored(single.jaxpr))


def test_what_nothing_orders_is_found():
    def singular_values(matrix):
        return jnp.linalg.svd(matrix, compute_uv=False)

    def apart(a, b):
        return singular_values(a), singular_values(b)

    def in_a_loop(a, b):
        return singular_values(a), jax.lax.map(singular_values, b)

    def in_turn(a, b):
        first = singular_values(a)
        return first, singular_values(after(first, b))

    one, many = jnp.ones((4, 3)), jnp.ones((5, 4, 3))
    assert side_by_side(jax.make_jaxpr(apart)(many, many).jaxpr) == [("svd", "svd")]
    assert side_by_side(jax.make_jaxpr(jax.jit(in_a_loop))(many, many[None]).jaxpr) == [("svd", "scan")]
    assert side_by_side(jax.make_jaxpr(apart)(one, one).jaxpr) == []  # single matrices are factored where they are
    assert side_by_side(jax.make_jaxpr(in_turn)(many, many).jaxpr) == []


@pytest.mark.parametrize("kind", [float, complex])
def test_the_order_outlives_the_compiler(kind):
    def in_turn(a, b):
        first = jnp.linalg.svd(a, compute_uv=False).astype(kind)
        return first, jnp.linalg.svd(after(first, b), compute_uv=False)

    text = jax.jit(in_turn).lower(jnp.ones((40, 4, 3)), jnp.ones((40, 4, 3))).compile().as_text()
    entry = text[text.index("ENTRY") :]
    needs = {}  # of each instruction
    for line in entry.splitlines():
        if instruction := re.match(r"\s*(?:ROOT )?(%[\w.-]+) = (.*)", line):
            name, rest = instruction.groups()
            given = set(re.findall(r"%[\w.-]+", rest)) & needs.keys()
            needs[name] = given | set().union(*(needs[other] for other in given))
    calls = [name for name in needs if re.search(rf"{re.escape(name)} = .*custom_call_target=\"lapack", entry)]
    assert len(calls) == 2
    assert calls[0] in needs[calls[1]]


def test_an_array_waits_unchanged():
    array = jnp.asarray([2.0, -0.0, jnp.inf])
    for done in (1.0, 1j, jnp.nan, complex(jnp.nan, 1.0)):
        assert jnp.array_equal(after(jnp.asarray([done]), array), array)
    mapped = jax.vmap(after, (0, None))(jnp.asarray([jnp.nan, 1.0]), array)
    assert jnp.array_equal(mapped, jnp.stack([array, array]))
    array = array[:2]
    assert jnp.array_equal(jax.grad(lambda array: jnp.sum(after(array, array) ** 2))(array), 2 * array)
    assert jnp.array_equal(jax.hessian(lambda array: jnp.sum(after(array, array) ** 2))(array), 2 * jnp.eye(2))
