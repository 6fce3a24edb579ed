"""The explorer of *The linear system*: modes and outputs are kdlib's, their sums agree, and its claim holds."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

ONE = 8  # the output that it follows
ENDS = [(0.01, 0.01), (0.01, 1000.0), (100.0, 0.01), (100.0, 1000.0)]
INSIDE = [(1.0, 4.0), (0.0271, 3.7)]  # the last is off the grid


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.linear_system_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def problem(lam):
    data = kd.datasets.circle()
    student, other = (kd.TwoLayerNetwork.init(jax.random.key(key), 12, 2) for key in (0, 100))
    return kd.TransferProblem(student, data.x, data.y, other.features(data.x), lam=lam)


def dense(lam):
    """Eigenvalues of the dense matrix M, ascending, its eigenvectors, c and J."""
    given = problem(lam)
    x, slopes = np.asarray(given.x), np.asarray(given.student.derivative(given.x))
    b, size = np.asarray(given.student.output_weights), 24
    columns = [slopes[k][:, None] * x for k in range(12)]  # the transposes of the L_k
    matrix, jacobian, force = np.zeros((size, size)), np.hstack([b[k] * columns[k] for k in range(12)]), []
    for k in range(12):
        matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = lam * columns[k].T @ columns[k]
        force.append(columns[k].T @ np.asarray(b[k] * given.output_gap + lam * given.feature_gap[k]))
    values, vectors = np.linalg.eigh(matrix + jacobian.T @ jacobian)
    return values, vectors, np.concatenate(force), jacobian


@pytest.mark.parametrize(("lam", "t"), ENDS + INSIDE)
def test_every_field_is_that_of_the_dense_matrix(explorer, lam, t):
    explorer.lam, explorer.t = lam, t
    assert bool(explorer._live) == ((lam, t) == INSIDE[-1])
    given, (rates, vectors, force, jacobian) = problem(lam), dense(lam)
    parts = -(jacobian @ vectors)[ONE] * (vectors.T @ force) / rates
    outputs = np.asarray(kd.kernel_flow(given, [*explorer.times, t, np.inf]).outputs)
    limit = np.asarray(kd.fixed_point(given).outputs)[ONE]
    left, fast = parts * np.exp(-rates * t), rates > 1 / t
    expected = {
        "rates": rates,
        "sizes": np.abs(parts),
        "left": np.abs(left),
        "rates_up": np.where(parts > 0, rates, np.nan),
        "output": outputs[:-2, ONE],
        "others": outputs[:-2, [2, 5, 11]].T.ravel(),
        "here": outputs[-2, ONE],
        "limit": limit,
        "start": given.student(given.x)[ONE] - limit,
        "pace": 1 / t,
        "fast": np.sum(fast),
        "fast_left": np.sum(left[fast]),
        "up_left": np.sum(left[left > 0]),
        "down_left": np.sum(left[left < 0]),
        "distance": np.sum(left),  # the sum of the modes is the output
    }
    for name, value in expected.items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("lam", [0.01, 100.0])
def test_no_mode_oscillates_and_the_output_overshoots(explorer, lam):
    """From each time of the slider to the next every mode keeps its sign and shrinks; their sum changes its sign."""
    explorer.lam, before, sums = lam, np.inf, []
    for t in explorer.parameters[1].values:
        explorer.t = t
        left = explorer.value("left")
        assert np.all(left <= before)
        sums.append(explorer.value("distance")[0])
        before = left
    assert np.all(explorer.value("rates") > 0)
    assert {np.sign(value) for value in sums if abs(value) > 1e-6} == {-1.0, 1.0}
    assert explorer.value("overshoot")[0] > 0.04
    if lam == 100:
        assert abs(sums[-1]) < 1e-6


@pytest.mark.parametrize("lam", [0.01, 0.1, 1.0, 10.0, 100.0])
def test_turning_points_are_those_of_a_fine_grid(explorer, lam):
    explorer.lam = lam
    outputs = np.asarray(kd.kernel_flow(problem(lam), np.append(np.geomspace(1e-3, 1e3, 600), np.inf)).outputs)[:, ONE]
    steps = np.diff(outputs[:-1])
    steps = steps[np.abs(steps) > 1e-7]
    assert explorer.value("turns")[0] == np.sum(np.diff(np.sign(steps)) != 0)
    side = np.sign(outputs[0] - outputs[-1])
    passed = np.max(-side * (outputs - outputs[-1]))
    assert explorer.value("overshoot")[0] == pytest.approx(passed, rel=0.02)  # it looks at 41 times


def test_the_sentence_prints_these_numbers(explorer):
    explorer.lam, explorer.t = 0.1, 1.0
    rates = dense(0.1)[0]
    assert explorer.sentence.startswith(f"At λ = 0.1 all 24 rates are real, from {rates[0]:.4f} to {rates[-1]:.2f}.")
    assert f"By t = 1, {np.sum(rates > 1)} modes have shrunk" in explorer.sentence


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", 0.0, r"^lam: expected a finite number from 0\.001 to 1000; got 0\.0$"),
        ("t", np.inf, r"^t: expected a finite number from 0\.001 to 10000; got inf$"),
    ],
)
def test_a_parameter_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)


def test_slow_modes_bring_the_output_back(explorer):
    """What the chapter says of λ = 0.01 once the two fast modes are gone, and of λ from end to end."""
    explorer.lam, explorer.t = 0.01, 10.0
    assert explorer.value("distance")[0] < -0.2  # it came from above, and is beyond the limit
    assert -explorer.value("down_left")[0] > 5 * explorer.value("up_left")[0] > 0
    weak = {name: explorer.value(name)[0] for name in ("slowest", "fastest", "overshoot")}
    explorer.lam = 100.0
    growth = {name: explorer.value(name)[0] / value for name, value in weak.items()}
    assert growth["slowest"] > 10 * growth["fastest"] > 1000
    assert growth["overshoot"] == pytest.approx(0.25, abs=0.05)
