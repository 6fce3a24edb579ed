"""The explorer of *Noisy labels*: its risks are kdlib's own, and the student beats whom the corollary says."""

import jax
import numpy as np
import pytest

import kdlib as kd
from tests.widgets.test_every_explorer import EveryExplorer

START = {"noise": 0.4, "error": 0.3, "lam": 1.0}
ENDS = [(s, e, lam) for s in (0.1, 0.6) for e in (0.1, 0.6) for lam in (0.01, 100.0)]
BOTH, LABELS, TEACHER = (f"it beats {words}." for words in (
    "both its labels and its teacher", "its labels, but not its teacher", "its teacher, but not its labels"
))  # fmt: skip


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.noisy_labels_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    pass


@pytest.fixture(autouse=True)
def at_the_start(explorer):
    yield
    put(explorer, *START.values())


def put(explorer, noise, error, lam):
    explorer.noise, explorer.error, explorer.lam = noise, error, lam


def one(explorer, name):
    (value,) = explorer.value(name)
    return value


@pytest.fixture(scope="module")
def digits():
    data = kd.datasets.digits((0, 1), train=40)
    return kd.TwoLayerNetwork.init(jax.random.key(0), 40, 64), data.x, data.y


@pytest.mark.parametrize(("noise", "error", "lam"), [*ENDS[::3], (0.4, 0.3, 1.0), (0.33, 0.07, 2.345)])
def test_every_field_is_that_of_kdlib(explorer, digits, noise, error, lam):
    """A teacher is made here from the errors that the explorer shows; the last point is off the grid."""
    student, x, truth = digits
    put(explorer, noise, error, lam)
    assert bool(explorer._live) == (lam == 2.345)
    way, draw = np.random.default_rng(1).standard_normal((2, 40))
    told = truth + error * way / np.sqrt(np.mean(way**2))
    b = np.asarray(student.output_weights)
    phi = np.asarray(student.features(x)) + np.outer(b, told - np.asarray(student(x)))

    def problem(strength, y=truth):
        return kd.TransferProblem(student, x, y, phi, lam=strength)

    risk, best = kd.noise_risk(problem(lam), truth, noise), kd.optimal_strength(problem(lam), truth, noise)
    end = np.asarray(kd.fixed_point(problem(lam, truth + noise * draw)).outputs) - truth
    at = [0, 17, 40]
    curve = [kd.noise_risk(problem(strength), truth, noise) for strength in np.logspace(-2, 2, 41)[at]]
    expected = {
        "risk": risk.total,
        "bias": np.mean(risk.bias**2),
        "variance": np.mean(risk.variance),
        "labels": best.labels,
        "teacher": np.mean((b @ phi - truth) ** 2),
        "best": best.lam,
        "least": best.risk,
        "one_draw": np.mean(end**2),
        "label_errors": noise * draw[:10],
        "teacher_errors": (told - truth)[:10],
        "student_errors": end[:10],
        "strength": lam,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(explorer.value(name), np.ravel(value), rtol=1e-4, atol=1e-6, err_msg=name)
    for name, values in {
        "risks": [r.total for r in curve],
        "biases": [np.mean(r.bias**2) for r in curve],
        "variances": [np.mean(r.variance) for r in curve],
    }.items():
        np.testing.assert_allclose(explorer.value(name)[at], values, rtol=1e-4, err_msg=name)
    beats = [kd.bounds.beats_teacher(problem(lam), truth, noise), kd.bounds.beats_labels(problem(lam), truth, noise)]
    assert one(explorer, "verdict") == sum(weight * bool(bound.met) for weight, bound in zip((1, 2), beats))


@pytest.mark.parametrize(("noise", "error", "lam"), ENDS)
def test_the_claim_holds_at_the_ends(explorer, noise, error, lam):
    """Never a loss to both; at the best strength a gain on both, by at least a fortieth: s²/e² is at most 36."""
    put(explorer, noise, error, lam)
    risk, labels, teacher, best = (one(explorer, name) for name in ("risk", "labels", "teacher", "best"))
    assert risk < max(labels, teacher) * (1 - 1e-5)  # float32
    assert one(explorer, "verdict") > 0
    assert best == pytest.approx(noise**2 / error**2, rel=1e-5)
    explorer.lam = best
    assert explorer.sentence.count(BOTH) == 1
    assert one(explorer, "risk") == pytest.approx(one(explorer, "least"), rel=1e-5)
    assert one(explorer, "risk") < min(labels, teacher) * 0.975


@pytest.mark.parametrize(
    ("noise", "error", "lam", "said"),
    [
        (0.3, 0.3, 0.01, BOTH),
        (0.3, 0.3, 100.0, BOTH),
        (0.1, 0.6, 100.0, TEACHER),
        (0.6, 0.1, 0.01, LABELS),
        (0.1, 0.6, 0.01, BOTH),
        (0.6, 0.1, 100.0, BOTH),
    ],
)
def test_the_sentence_names_whom_the_student_beats(explorer, noise, error, lam, said):
    put(explorer, noise, error, lam)
    assert said in explorer.sentence


def test_on_the_border_it_is_not_better(explorer):
    """λ = (s² - e²)/(2e²) is 4 for s = 0.3, e = 0.1: there the risk is that of the teacher."""
    put(explorer, 0.3, 0.1, 4.0)
    assert one(explorer, "risk") == pytest.approx(one(explorer, "teacher"), rel=1e-6)
    assert LABELS in explorer.sentence


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("noise", 0.0, r"^noise: expected a finite number from 1e-06 to 10; got 0\.0$"),
        ("error", np.inf, r"^error: expected a finite number from 1e-06 to 10; got inf$"),
        ("lam", 0.0, r"^lam: expected a finite number from 1e-06 to 1e\+06; got 0\.0$"),
    ],
)
def test_a_parameter_out_of_range_is_refused(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == START[name]
