"""Bad input meets a ValueError that names the argument, says what was expected, and what came.

Each row of a table is a call and the whole of the message it must give; files have theirs in
``test_datasets.py``.
"""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kdlib as kd

M, N, D = 3, 4, 2
rng = np.random.default_rng(0)
W, S, X, Y = rng.normal(size=(M, D)), np.ones(M), rng.normal(size=(N, D)), np.ones(N)
PHI = np.tanh(W @ X.T) + 0.1
KEY = jax.random.key(0)
NET = kd.TwoLayerNetwork(W, S)
PROBLEM = kd.TransferProblem(NET, X, Y, PHI, lam=0.5)


def spoilt(array, value, index):
    array = np.array(array, dtype=np.result_type(array, value))
    array[index] = value
    return array


def network(weights=W, signs=S, activation="tanh"):
    return lambda: kd.TwoLayerNetwork(weights, signs, activation)


def drawn(key=KEY, width=M, dim=D, **options):
    return lambda: kd.TwoLayerNetwork.init(key, width, dim, **options)


def problem(student=NET, x=X, y=Y, phi=PHI, lam=0.5):
    return lambda: kd.TransferProblem(student, x, y, phi, lam=lam)


def flow(times=(1.0,), at=None, of=PROBLEM):
    return lambda: kd.kernel_flow(of, times, at=at)


def real_flow(times=(1.0,), at=None, of=PROBLEM):
    return lambda: kd.gradient_flow(of, times, at=at)


def descent(step_size=0.1, steps=3, at=None, of=PROBLEM):
    return lambda: kd.gradient_descent(of, step_size, steps, at=at)


NO_ENTRY = "with at least one entry on every axis"
NAMES = "activation: expected one of 'tanh', 'relu', 'erf', 'softplus', or an elementwise callable; got"
WHOLE = "steps: expected a whole number, or an array of them, that is at least 0; got"

TABLE = {
    # the network
    "weights flat": (network(np.ones(3)), "weights: expected a real array of shape (m, d); got shape (3,)"),
    "weights none": (network(None), "weights: expected a real array of shape (m, d); got object values"),
    "weights text": (network("random"), "weights: expected a real array of shape (m, d); got <U6 values"),
    "weights ragged": (
        network([[1, 2], [3]]),
        "weights: expected a real array of shape (m, d); got nested sequences of unequal length",
    ),
    "weights complex": (
        network(W * 1j),
        "weights: expected a real array of shape (m, d); got complex numbers (complex128)",
    ),
    "weights nan": (
        network(spoilt(W, np.nan, (1, 0))),
        "weights: expected finite values; got nan at index (1, 0) (1 of 6 not finite)",
    ),
    "no units": (
        network(np.ones((0, 2)), np.ones(0)),
        f"weights: expected a real array of shape (m, d) {NO_ENTRY}; got shape (0, 2), empty along m",
    ),
    "no inputs": (
        network(np.ones((3, 0))),
        f"weights: expected a real array of shape (m, d) {NO_ENTRY}; got shape (3, 0), empty along d",
    ),
    "signs few": (network(signs=np.ones(2)), "signs: expected a real array of shape (m=3,); got shape (2,)"),
    "signs column": (network(signs=np.ones((3, 1))), "signs: expected a real array of shape (m=3,); got shape (3, 1)"),
    "signs inf": (
        network(signs=[1, np.inf, np.nan]),
        "signs: expected finite values; got inf at index (1,) (2 of 3 not finite)",
    ),
    "activation unknown": (network(activation="gelu"), f"{NAMES} 'gelu'"),
    "activation case": (network(activation="ReLU"), f"{NAMES} 'ReLU'"),
    "activation none": (network(activation=None), f"{NAMES} None"),
    "activation list": (network(activation=["tanh"]), f"{NAMES} ['tanh']"),
    "activation sums": (
        network(activation=jnp.sum),
        "activation: expected an elementwise callable; it maps shape (2, 3) to float64 values of shape ()",
    ),
    "activation complex": (
        network(activation=lambda z: z + 1j),
        "activation: expected an elementwise callable; it maps shape (2, 3) to complex128 values of shape (2, 3)",
    ),
    "activation fails": (
        network(activation=lambda z, slope: slope * z),
        re.compile(r"activation: expected an elementwise callable; it fails on an array: .* 'slope'"),
    ),
    "width zero": (drawn(width=0), "width: expected a positive integer; got 0"),
    "width real": (drawn(width=3.0), "width: expected a positive integer; got 3.0"),
    "width boolean": (drawn(width=True), "width: expected a positive integer; got True"),
    "dim negative": (drawn(dim=-2), "dim: expected a positive integer; got -2"),
    "key number": (drawn(key=0), "key: expected a key such as jax.random.key(0); got 0"),
    "drawn activation": (drawn(activation="swish"), f"{NAMES} 'swish'"),
    "other weights": (
        lambda: NET.with_weights(np.ones((M + 1, D))),
        "weights: expected a real array of shape (m=3, d=2); got shape (4, 2)",
    ),
    "features dimension": (
        lambda: NET.features(np.ones((N, 3))),
        "x: expected a real array of shape (n, d=2); got shape (4, 3)",
    ),
    "one sample flat": (lambda: NET(np.ones(D)), "x: expected a real array of shape (n, d=2); got shape (2,)"),
    "no samples": (
        lambda: NET(np.ones((0, D))),
        f"x: expected a real array of shape (n, d=2) {NO_ENTRY}; got shape (0, 2), empty along n",
    ),
    "derivative inf": (
        lambda: NET.derivative(spoilt(X, np.inf, (0, 1))),
        "x: expected finite values; got inf at index (0, 1) (1 of 8 not finite)",
    ),
    # the problem
    "student array": (problem(student=W), "student: expected a TwoLayerNetwork; got ndarray"),
    "x dimension": (problem(x=np.ones((N, 3))), "x: expected a real array of shape (n, d=2); got shape (4, 3)"),
    "x empty": (
        problem(x=X[:0], y=Y[:0], phi=PHI[:, :0]),
        f"x: expected a real array of shape (n, d=2) {NO_ENTRY}; got shape (0, 2), empty along n",
    ),
    "x nan": (
        problem(x=spoilt(X, np.nan, (2, 1))),
        "x: expected finite values; got nan at index (2, 1) (1 of 8 not finite)",
    ),
    "y long": (problem(y=np.ones(5)), "y: expected a real array of shape (n=4,); got shape (5,)"),
    "y column": (problem(y=np.ones((4, 1))), "y: expected a real array of shape (n=4,); got shape (4, 1)"),
    "y words": (problem(y=["cat"] * 4), "y: expected a real array of shape (n=4,); got <U3 values"),
    "y complex": (
        problem(y=Y + 0j),
        "y: expected a real array of shape (n=4,); got complex numbers (complex128)",
    ),
    "phi turned": (problem(phi=PHI.T), "phi: expected a real array of shape (m=3, n=4); got shape (4, 3)"),
    "phi network": (
        problem(phi=kd.TwoLayerNetwork(np.ones((2, 2)), np.ones(2))),
        "phi: expected a teacher of weights (m=3, d=2), or its features, a real array of shape (m=3, n=4); "
        "got one of weights (2, 2)",
    ),
    "phi missing": (
        problem(phi=None),
        "phi: expected the teacher's features, a real array of shape (m=3, n=4), since lam is not 0; got None",
    ),
    "phi nan": (
        problem(phi=spoilt(PHI, np.nan, (1, 2))),
        "phi: expected finite values; got nan at index (1, 2) (1 of 12 not finite)",
    ),
    "lam negative": (problem(lam=-1), "lam: expected a number that is at least 0; got -1.0"),
    "lam nan": (problem(lam=np.nan), "lam: expected finite values; got nan (1 of 1 not finite)"),
    "lam inf": (problem(lam=np.inf), "lam: expected finite values; got inf (1 of 1 not finite)"),
    "lam complex": (problem(lam=1j), "lam: expected a real number; got complex numbers (complex128)"),
    "lam text": (problem(lam="0.5"), "lam: expected a real number; got <U3 values"),
    "lam none": (problem(lam=None), "lam: expected a real number; got object values"),
    "lam list": (problem(lam=[0.5]), "lam: expected a real number; got shape (1,)"),
    "energy of weights": (
        lambda: PROBLEM.energy(W),
        "net: expected a TwoLayerNetwork of weights (3, 2); got ndarray",
    ),
    "energy of another width": (
        lambda: PROBLEM.energy(kd.TwoLayerNetwork(np.ones((2, D)), np.ones(2))),
        "net: expected a TwoLayerNetwork of weights (3, 2); got one of weights (2, 2)",
    ),
    # kernels
    "unit kernels of weights": (lambda: kd.unit_kernels(W, X), "net: expected a TwoLayerNetwork; got ndarray"),
    "unit kernels turned": (
        lambda: kd.unit_kernels(NET, X.T),
        "x: expected a real array of shape (n, d=2); got shape (2, 4)",
    ),
    "tangent kernel of a name": (lambda: kd.tangent_kernel("net", X), "net: expected a TwoLayerNetwork; got str"),
    "tangent kernel x2": (
        lambda: kd.tangent_kernel(NET, X, np.ones((5, 3))),
        "x2: expected a real array of shape (n2, d=2); got shape (5, 3)",
    ),
    "tangent kernel x2 nan": (
        lambda: kd.tangent_kernel(NET, X, np.full((1, 2), np.nan)),
        "x2: expected finite values; got nan at index (0, 0) (2 of 2 not finite)",
    ),
    "limit kernel flat": (
        lambda: kd.limit_kernel(X[0], activation="erf"),
        "x: expected a real array of shape (n, d); got shape (2,)",
    ),
    "limit kernel x2": (
        lambda: kd.limit_kernel(X, np.ones((5, 3)), activation="relu"),
        "x2: expected a real array of shape (n2, d=2); got shape (5, 3)",
    ),
    "limit kernel complex": (
        lambda: kd.limit_kernel(X * 1j, activation="tanh"),
        "x: expected a real array of shape (n, d); got complex numbers (complex128)",
    ),
    "limit kernel activation": (lambda: kd.limit_kernel(X, activation="sine"), f"{NAMES} 'sine'"),
    # trajectories
    "flow of a network": (flow(of=NET), "problem: expected a TransferProblem; got TwoLayerNetwork"),
    "times negative": (flow([0, -1.0]), "times: expected times that are at least 0; got -1.0 at index 1"),
    "times minus inf": (flow([-np.inf]), "times: expected times that are at least 0; got -inf at index 0"),
    "times nan": (flow([1.0, np.nan]), "times: expected numbers; got NaN at index 1"),
    "times scalar": (flow(1.0), "times: expected a real array of shape (T,); got shape ()"),
    "times table": (flow([[1.0]]), "times: expected a real array of shape (T,); got shape (1, 1)"),
    "times empty": (
        flow([]),
        f"times: expected a real array of shape (T,) {NO_ENTRY}; got shape (0,), empty along T",
    ),
    "times complex": (
        flow([1j]),
        "times: expected a real array of shape (T,); got complex numbers (complex128)",
    ),
    "times words": (flow(["soon"]), "times: expected a real array of shape (T,); got <U4 values"),
    "at dimension": (flow(at=np.ones((5, 3))), "at: expected a real array of shape (rows, d=2); got shape (5, 3)"),
    "at nan": (
        flow(at=np.full((1, 2), np.nan)),
        "at: expected finite values; got nan at index (0, 0) (2 of 2 not finite)",
    ),
    "at empty": (
        flow(at=np.ones((0, 2))),
        f"at: expected a real array of shape (rows, d=2) {NO_ENTRY}; got shape (0, 2), empty along rows",
    ),
    "real flow of inputs": (real_flow(of=X), "problem: expected a TransferProblem; got ndarray"),
    "real flow forever": (
        real_flow([1.0, np.inf]),
        (
            "times: expected finite times, since the network itself is integrated; got inf. "
            "The limit of the frozen-kernel system is fixed_point(problem)"
        ),
    ),
    "real flow backwards": (real_flow([-1]), "times: expected times that are at least 0; got -1.0 at index 0"),
    "real flow nan": (real_flow([np.nan]), "times: expected numbers; got NaN at index 0"),
    "real flow at": (real_flow(at=X[:, 0]), "at: expected a real array of shape (rows, d=2); got shape (4,)"),
    "descent of nothing": (descent(of=None), "problem: expected a TransferProblem; got NoneType"),
    "step zero": (descent(0), "step_size: expected a number greater than 0; got 0.0"),
    "step negative": (descent(-0.1), "step_size: expected a number greater than 0; got -0.1"),
    "step nan": (descent(np.nan), "step_size: expected finite values; got nan (1 of 1 not finite)"),
    "step inf": (descent(np.inf), "step_size: expected finite values; got inf (1 of 1 not finite)"),
    "step complex": (descent(0.1j), "step_size: expected a real number; got complex numbers (complex128)"),
    "step list": (descent([0.1]), "step_size: expected a real number; got shape (1,)"),
    "steps negative": (descent(steps=-3), f"{WHOLE} array(-3)"),
    "steps one negative": (descent(steps=[1, -2]), f"{WHOLE} array([ 1, -2])"),
    "steps real": (descent(steps=2.5), f"{WHOLE} array(2.5)"),
    "steps boolean": (descent(steps=True), f"{WHOLE} array(True)"),
    "steps empty": (descent(steps=[]), f"{WHOLE} array([], dtype=float64)"),
    "steps table": (descent(steps=[[1]]), f"{WHOLE} array([[1]])"),
    "steps ragged": (
        descent(steps=[[1], [2, 3]]),
        "steps: expected a whole number, or an array of them; got rows of unequal length",
    ),
    "descent at": (
        descent(at=X * 1j),
        "at: expected a real array of shape (rows, d=2); got complex numbers (complex128)",
    ),
    "limit of a network": (
        lambda: kd.fixed_point(NET),
        "problem: expected a TransferProblem; got TwoLayerNetwork",
    ),
}


@pytest.mark.parametrize(("call", "message"), TABLE.values(), ids=TABLE.keys())
def test_bad_input_is_refused_by_name(call, message):
    pattern = message if isinstance(message, re.Pattern) else re.compile(re.escape(message))
    # a warning before the error would mean that work was done on bad input
    with warnings.catch_warnings(), pytest.raises(ValueError) as caught:
        warnings.simplefilter("error")
        call()
    assert type(caught.value) is ValueError
    assert pattern.fullmatch(str(caught.value)), str(caught.value)


GOOD = {
    "network": network(),
    "integers": network([[1, 2]], [1]),
    "callable": network(activation=jnp.sin),
    "drawn": drawn(),
    "old key": drawn(key=jax.random.PRNGKey(0)),
    "problem": problem(),
    "no teacher": problem(phi=None, lam=0),
    "energy": lambda: PROBLEM.energy(NET),
    "second inputs": lambda: kd.tangent_kernel(NET, X, X[:1]),
    "flow": flow([0.0, np.inf, 1.0], at=X[:1]),
    "real flow": real_flow(),
    "descent": descent(),
}


@pytest.mark.parametrize("call", GOOD.values(), ids=GOOD.keys())
def test_what_the_table_spoils_is_good(call):
    assert call() is not None


def test_shapes_are_checked_under_jit_and_values_pass():
    @jax.jit
    def outputs(x):
        return NET(x)

    assert np.isnan(outputs(np.full((1, D), np.nan))).all()
    with pytest.raises(ValueError, match=re.escape("x: expected a real array of shape (n, d=2); got shape (1, 3)")):
        outputs(np.ones((1, 3)))


def test_a_traced_strength_needs_a_teacher():
    with pytest.raises(ValueError, match="phi: expected the teacher's features"):
        jax.jit(lambda lam: problem(phi=None, lam=lam)().energy(NET))(0.0)


def test_bounds_on_transfer_need_a_known_strength():
    with pytest.raises(ValueError, match="problem: expected values that are known now"):
        jax.jit(lambda lam: kd.bounds.small_transfer_rates(problem(lam=lam)()).value)(0.5)
