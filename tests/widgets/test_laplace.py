"""The explorer of *Laplace*: its branches, zeros and poles are those of kdlib's T(p) and of a dense M."""

import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

CORNERS = [(0.01, 0.0), (0.01, 1.0), (10.0, 0.0), (10.0, 1.0)]
INSIDE = [(0.25, 1.0), (1.0, 0.1), (0.3, 0.7)]  # the last one is off the grid


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.laplace_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


def move(explorer, lam, apart):
    explorer.lam, explorer.apart = lam, apart
    return explorer.problem(lam, apart)


def dense(problem):
    """Eigenvalues of M and of its units under their teachers alone, ascending."""
    blocks = np.asarray(problem.x).T * np.asarray(problem.student.derivative(problem.x))[:, None, :]
    weights = np.asarray(problem.student.output_weights)
    J = np.concatenate([b * part.T for b, part in zip(weights, blocks, strict=True)], axis=1)
    alone = np.zeros((4, 4))
    for k, part in enumerate(blocks):
        alone[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = float(problem.lam) * part @ part.T
    return np.linalg.eigvalsh(alone + J.T @ J), np.linalg.eigvalsh(alone)


def numbers(explorer, name):
    values = explorer.value(name)
    return values[np.isfinite(values)]


@pytest.mark.parametrize(("lam", "apart"), CORNERS + INSIDE)
def test_every_field_is_that_of_kdlib(explorer, lam, apart):
    problem = move(explorer, lam, apart)
    assert bool(explorer._live) == (lam == 0.3)
    rates, alone = dense(problem)
    found = np.sort(np.concatenate([numbers(explorer, "seen"), numbers(explorer, "hidden")]))
    np.testing.assert_allclose(found, rates, rtol=1e-4)
    np.testing.assert_allclose(numbers(explorer, "own"), alone, rtol=1e-4)
    assert explorer.value("error")[0] < 1e-8
    visible = kd.slow_modes(problem, 4).visible
    assert [explorer.value(f"{name}_count")[0] for name in ("seen", "hidden", "own")] == [
        visible.sum(), 4 - visible.sum(), 4,
    ]  # fmt: skip
    np.testing.assert_allclose(explorer.value("seen_slowest"), rates[np.asarray(visible)].min(), rtol=1e-4)
    np.testing.assert_allclose(explorer.value("seen_fastest"), rates.max(), rtol=1e-4)
    kernel = np.linalg.eigvalsh(kd.tangent_kernel(problem.student, problem.x))
    np.testing.assert_allclose(explorer.value("kernel")[:2], kernel, rtol=1e-4)


@pytest.mark.parametrize(("lam", "apart"), [*CORNERS, *INSIDE, (0.0, 1.0), (0.0, 0.0)])
def test_the_branches_are_the_eigenvalues_of_the_characteristic_matrix(explorer, lam, apart):
    problem = move(explorer, lam, apart)
    p, branches = -explorer.value("p"), explorer.value("branches").reshape(2, -1)
    own = numbers(explorer, "own")
    away = [i for i in range(len(p)) if not len(own) or np.min(np.abs(p[i] / own + 1)) > 3e-3]
    assert len(away) > 30
    assert np.all(np.diff(p) >= 0)
    for i in away[::5]:
        values = np.linalg.eigvalsh(kd.characteristic_matrix(problem, float(p[i])))
        # p itself has the digits of the table, and T is steep beside its poles and zeros
        np.testing.assert_allclose(branches[:, i], values / (1 + np.abs(values)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("lam", "apart"), CORNERS + INSIDE)
def test_a_visible_rate_is_a_zero_and_branches_only_fall(explorer, lam, apart):
    problem = move(explorer, lam, apart)
    rates, alone = dense(problem)
    for rate in rates[np.asarray(kd.slow_modes(problem, 4).visible)]:
        values = [
            np.linalg.eigvalsh(kd.characteristic_matrix(problem, -rate * side)) for side in (1 - 1e-9, 1, 1 + 1e-9)
        ]
        assert min(np.abs(values[1])) < 1e-6
        assert np.sum(values[0] < 0) == np.sum(values[2] < 0) + 1  # it falls with p
    branches = explorer.value("branches").reshape(2, -1)
    for part in np.split(branches, np.flatnonzero(np.isnan(branches[0])), axis=1):
        assert np.all(np.diff(part[:, 1:]) <= 1e-6)
    # negative eigenvalues between the poles count the rates (characteristic-values, part 3)
    x = np.sqrt(alone[:-1] * alone[1:])
    for middle in x[np.diff(alone) > 1e-3 * alone[1:]]:
        negative = np.sum(np.linalg.eigvalsh(kd.characteristic_matrix(problem, -middle)) < 0)
        assert negative == np.sum(rates > middle) - np.sum(alone > middle)


@pytest.mark.parametrize(("lam", "apart"), [(lam, 1.0) for lam in (0.01, 0.25, 10.0)])
def test_a_branch_leaps_from_below_to_above_at_a_unit_s_own_rate(explorer, lam, apart):
    """As p grows through -1 times the rate: one eigenvalue of T(p) has gone to -∞ and comes back from +∞."""
    problem = move(explorer, lam, apart)
    own = numbers(explorer, "own")
    assert len(own) == 4 and np.min(np.diff(own)) > 1e-6 * own[-1]  # four poles of one unit each
    for rate in own:
        # the table's digits, sharpened: the unit's eigenvalue next to it
        pole = min(dense(problem)[1], key=lambda value: abs(value - rate))
        before, after = (
            np.linalg.eigvalsh(kd.characteristic_matrix(problem, -pole * side)) for side in (1 + 1e-7, 1 - 1e-7)
        )
        assert before[0] < -1e3 and before[1] > -1e3
        assert after[-1] > 1e3 and after[0] < 1e3


def test_a_weak_teacher_leaves_the_rates_of_the_tangent_kernel(explorer):
    move(explorer, 0.0, 1.0)
    np.testing.assert_array_equal(numbers(explorer, "seen"), numbers(explorer, "kernel"))
    assert (explorer.value("count")[0], explorer.value("own_count")[0]) == (2, 0)
    move(explorer, 0.01, 1.0)
    paths = explorer.value("paths").reshape(4, -1)
    np.testing.assert_allclose(paths[2:, 0], numbers(explorer, "kernel"), rtol=0.02)
    np.testing.assert_allclose(paths[:2, 1] / paths[:2, 0], 1.6, rtol=0.02)  # λ goes from 0.01 to 0.016
    np.testing.assert_allclose(paths[:, -1], explorer.value("own_paths").reshape(4, -1)[:, -1], rtol=0.15)


@pytest.mark.parametrize("lam", [0.01, 10.0])
def test_equal_units_hide_half_of_the_rates(explorer, lam):
    move(explorer, lam, 0.0)
    kernel = numbers(explorer, "kernel")
    np.testing.assert_allclose(numbers(explorer, "seen"), (1 + lam) * kernel, rtol=1e-5)
    np.testing.assert_allclose(numbers(explorer, "hidden"), lam * kernel, rtol=1e-5)
    assert "the student has 4 rates, and its outputs see 2" in explorer.sentence


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", -1.0, r"^lam: expected a finite number that is at least 0; got -1\.0$"),
        ("apart", 1.5, r"^apart: expected a finite number from 0 to 1; got 1\.5$"),
    ],
)
def test_a_value_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
