"""The explorer of *Limit*: what the page shows is what kdlib computes, on the grid, off it, and at both ends."""

import re

import ipywidgets
import jax
import numpy as np
import pytest

import kdlib as kd
from kdlib.widgets.limit import circle_problem
from tests.widgets.test_every_explorer import EveryExplorer

DIGITS = 3  # significant digits that the page shows


def problem(n=6, dim=2, width=16, lam=1.0):
    """A student, noise-free labels, and a teacher near the student's start that does not fit them."""
    keys = jax.random.split(jax.random.key(n + dim), 3)
    student = kd.TwoLayerNetwork.init(keys[0], width, dim)
    x = jax.random.normal(keys[1], (n, dim))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    phi = student.features(x) + 0.3 * jax.random.normal(keys[2], (width, n))
    return kd.TransferProblem(student, x, np.sign(np.arange(n) - n / 2 + 0.5), phi, lam=lam)


@pytest.fixture(scope="module")
def explorer():
    return kd.widgets.limit_explorer(problem())


@pytest.fixture(scope="module")
def on_the_page():
    """The circle's problem, as the book shows it."""
    return kd.widgets.limit_explorer()


class TestLikeEveryExplorer(EveryExplorer):
    @pytest.fixture
    def explorer(self, on_the_page):
        return on_the_page


@pytest.fixture(autouse=True)
def at_the_start(request):
    yield
    if "explorer" in request.fixturenames:
        explorer = request.getfixturevalue("explorer")
        explorer.lam, explorer.noise = 1.0, 0.5


def expected(explorer, at):
    """The same numbers from kdlib, at the labels that the explorer shows: here it shows all of them."""
    given, labels = problem(), explorer.value("labels")
    clean, teacher = np.asarray(given.y), np.asarray(given.student.output_weights @ given.phi)
    shown = kd.TransferProblem(given.student, given.x, labels, given.phi, lam=at)
    end = np.asarray(kd.fixed_point(shown).outputs)
    outputs = np.asarray(kd.kernel_flow(shown, explorer.times).outputs)
    return {
        "outputs": outputs.T.ravel(),
        "limit": end,
        "errors": np.mean((labels - outputs) ** 2, axis=1),
        "error": [np.mean((labels - end) ** 2)],
        "truth": [np.mean((clean - end) ** 2)],
        "teacher_error": [np.mean((labels - teacher) ** 2)],
        "teacher_truth": [np.mean((clean - teacher) ** 2)],
        "labels_truth": [np.mean((labels - clean) ** 2)],
    }


@pytest.mark.parametrize("noise", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("lam", [0.0, 0.01, 0.5, 100.0, 0.3137, 1e4])  # the last two are off the grid
def test_every_field_is_that_of_kdlib(explorer, lam, noise):
    explorer.lam, explorer.noise = lam, noise
    assert bool(explorer._live) == (lam not in explorer.parameters[0].values)
    for name, value in expected(explorer, lam).items():
        np.testing.assert_allclose(explorer.value(name), value, rtol=0.1 * 10.0**-DIGITS, atol=1e-6, err_msg=name)


def test_the_sentence_prints_these_numbers(explorer):
    explorer.lam, explorer.noise = 0.125, 0.35
    error, teacher = (expected(explorer, 0.125)[name][0] for name in ("error", "teacher_error"))
    assert explorer.sentence.startswith("At λ = 0.125 and label noise s = 0.35 the student ends with training error ")
    printed = [float(number) for number in re.findall(r"(?:error|with) (\d\.\d+)", explorer.sentence)]
    assert printed[:2] == pytest.approx([error, teacher], rel=0.5 * 10.0 ** (1 - DIGITS))


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_claim_holds_at_both_ends(explorer, noise):
    """λ = 0 ends at the labels' kernel fit; at λ = 100 the student is what it can carry of its teacher, to 1/101."""
    given = problem()
    explorer.noise = noise
    labels = explorer.value("labels")
    end = kd.fixed_point(given)
    carried = given.student.output_weights @ (given.phi - end.unlearnable)
    explorer.lam = 0.0
    kernel = kd.tangent_kernel(given.student, given.x)
    start = given.student(given.x)
    fit = start + kernel @ np.linalg.pinv(kernel, rcond=1e-12) @ (labels - start)
    np.testing.assert_allclose(explorer.value("limit"), fit, atol=1e-5)
    explorer.lam = 100.0
    assert np.linalg.norm(explorer.value("limit") - carried) <= np.linalg.norm(labels - carried) / 101 * (1 + 1e-5)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_on_the_page_the_student_ends_between_labels_and_teacher(on_the_page, noise):
    """At every λ of the table, and at both ends next to one of the two."""
    explorer, given = on_the_page, circle_problem()
    explorer.noise = noise
    labels = explorer.value("labels")
    assert labels.shape == given.y.shape  # all of them are shown
    carried = given.student.output_weights @ (given.phi - kd.fixed_point(given).unlearnable)
    apart = np.linalg.norm(labels - carried)
    distances = []
    for lam in explorer.parameters[0].values:
        explorer.lam = lam
        end = explorer.value("limit")
        distances.append((np.linalg.norm(end - labels), np.linalg.norm(end - carried)))
    to_labels, to_teacher = np.transpose(distances) / apart
    assert np.all(np.diff(to_labels) > 0) and np.all(np.diff(to_teacher) < 0)
    assert np.all(to_labels < 1) and np.all(to_teacher <= 1 + 1e-4)
    assert to_labels[0] < 1e-3 and to_teacher[-1] < 1 / 101 + 1e-5


def test_away_from_the_circle_twelve_samples_stand_for_all():
    given = problem(n=15, dim=4)
    explorer = kd.widgets.limit_explorer(given)
    assert explorer.value("limit").size == 12
    explorer.noise = 0.0
    left = np.asarray(given.y - kd.fixed_point(given).outputs)
    assert explorer.value("error")[0] == pytest.approx(np.mean(left**2), rel=1e-5)


def test_it_starts_at_the_problems_own_strength():
    explorer = kd.widgets.limit_explorer(problem(lam=0.77))
    assert explorer.lam == 0.77
    assert explorer._live["at"] == {"lam": 0.77}


def test_traits_can_be_observed_and_linked(explorer):
    seen = []
    explorer.observe(lambda change: seen.append(change["new"]), "lam")
    slider = ipywidgets.FloatSlider(value=0.2, min=0.0, max=2.0, step=0.001)
    ipywidgets.link((slider, "value"), (explorer, "lam"))
    before = explorer.value("error")[0]
    slider.value = 1.234
    assert seen == [0.2, 1.234]
    assert explorer.value("error")[0] > before
    explorer.lam = 0.5
    assert slider.value == 0.5


def test_its_controls_move_it(explorer):
    lam, noise = explorer.controls().children
    lam.value, noise.value = 0.3137, 0.123
    assert (explorer.lam, explorer.noise) == (0.3137, 0.123)
    assert explorer.value("error")[0] == pytest.approx(expected(explorer, 0.3137)["error"][0], rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kd.widgets.limit_explorer(7), r"^problem: expected a TransferProblem; got int$"),
        (
            lambda: kd.widgets.limit_explorer(
                kd.TransferProblem(problem().student, problem().x, problem().y, None, lam=0.0)
            ),
            r"^problem: expected one with a teacher, so that λ can move; got phi=None$",
        ),
    ],
)
def test_a_problem_that_cannot_be_explored_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lam", -1.0, r"^lam: expected a finite number that is at least 0; got -1\.0$"),
        ("lam", np.nan, r"^lam: expected a finite number that is at least 0; got nan$"),
        ("lam", np.inf, r"^lam: expected a finite number that is at least 0; got inf$"),
        ("noise", 1.5, r"^noise: expected a finite number from 0 to 1; got 1\.5$"),
    ],
)
def test_a_parameter_out_of_range_is_refused_and_changes_nothing(explorer, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(explorer, name, value)
    assert (explorer.lam, explorer.noise) == (1.0, 0.5)


def test_an_unknown_field_is_named(explorer):
    with pytest.raises(ValueError, match=r"^name: expected one of outputs, .*; got 'outputz'$"):
        explorer.value("outputz")


def test_the_student_of_the_circle_that_misses_its_labels_is_nearer_to_the_truth(on_the_page):
    """What the chapter asks its readers to predict."""
    on_the_page.noise, found = 1.0, []
    for lam in (0.0, 100.0):
        on_the_page.lam = lam
        found.append([on_the_page.value(name)[0] for name in ("error", "truth", "teacher_error")])
    (label_error, truth, _), (strong_error, strong_truth, teacher_error) = found
    assert label_error < 1e-6 and 0.99 * teacher_error < strong_error < teacher_error
    assert strong_truth < 0.2 * truth
