"""The diagnosis of a teacher from arrays: near and far, with and without a start, and what it refuses."""

import functools

import jax
import matplotlib
import numpy as np
import pytest

import kdlib as kd
from kdlib.diagnosis import _fitted_signs

matplotlib.use("agg")

DATA = kd.datasets.digits((0, 1), train=20, test=30)
STUDENT = kd.TwoLayerNetwork.init(jax.random.key(0), 30, 64)


@functools.cache
def teacher():
    return kd.gradient_flow(kd.TransferProblem(STUDENT, DATA.x_test, DATA.y_test, None, lam=0), [5.0]).network


def near(y=DATA.y, **other):
    return kd.datasets.Dataset(
        DATA.x, y, phi=teacher().features(DATA.x), weights=STUDENT.weights, signs=STUDENT.signs, **other
    )


@functools.cache
def near_answer():
    return kd.diagnose(near(kd.datasets.flip(DATA.y, 4), x_test=DATA.x_test, y_test=DATA.y_test))


def test_near_teacher():
    answer = near_answer()
    assert not answer.drawn and answer.regime.holds and answer.strength.helps
    assert answer.regime.kappa < answer.regime.kappa_mixed
    assert answer.test.held_out and answer.test.labels.size == 30 and answer.test.wrong < 0.2
    assert answer.test.error < answer.test.alone
    end = kd.fixed_point(answer.problem)
    lost = np.linalg.norm(end.unlearnable) / np.linalg.norm(answer.problem.feature_gap)
    assert answer.capacity.share == pytest.approx(lost, rel=1e-9)


def test_times_are_those_of_the_kernel_flow():
    answer = near_answer()
    problem, speed = answer.problem, answer.speed
    end, start = kd.fixed_point(problem).outputs, problem.student(problem.x)
    flow = np.asarray(kd.kernel_flow(problem, [speed.tenth, speed.hundredth]).outputs)
    left = np.linalg.norm(flow - np.asarray(end), axis=1) / np.linalg.norm(end - start)
    np.testing.assert_allclose(left, [0.1, 0.01], rtol=0.1)
    assert speed.rate == pytest.approx(float(kd.decay_rates(problem, 1)[0]), rel=1e-6)


def test_errors_of_rows_left_out_are_those_of_students_without_them():
    answer, y = near_answer(), kd.datasets.flip(DATA.y, 4)
    order = np.random.default_rng(0).permutation(20)
    total = 0.0
    for fold in np.array_split(order, 5):
        kept = np.setdiff1d(order, fold)
        phi = teacher().features(DATA.x[kept])
        part = kd.TransferProblem(STUDENT, DATA.x[kept], y[kept], phi, lam=answer.strength.best)
        total += np.sum((kd.kernel_flow(part, [100.0], at=DATA.x[fold]).outputs[0] - y[fold]) ** 2)
    assert answer.strength.errors.min() == pytest.approx(float(total) / 20, rel=1e-6)


def test_without_test_rows_the_error_is_that_of_rows_left_out_at_the_strength_asked_for():
    between, (low, high) = (
        kd.diagnose(near(), lam=0.3, time=5.0),
        (kd.diagnose(near(), lam=lam, time=5.0) for lam in (0.1, 1.0)),
    )
    assert not between.test.held_out
    order, outputs = np.random.default_rng(0).permutation(20), np.zeros(20)
    for fold in np.array_split(order, 5):
        kept = np.setdiff1d(order, fold)
        part = kd.TransferProblem(STUDENT, DATA.x[kept], DATA.y[kept], teacher().features(DATA.x[kept]), lam=0.3)
        outputs[fold] = kd.kernel_flow(part, [5.0], at=DATA.x[fold]).outputs[0]
    np.testing.assert_allclose(between.test.outputs, outputs, rtol=1e-6)
    # at a strength that was tried it is the error of its row
    for answer, row in ((low, 1), (high, 2)):
        assert answer.test.error == pytest.approx(answer.strength.errors[row], rel=1e-9) != between.test.error


def test_without_a_start_a_student_is_drawn_and_assigned():
    phi = np.maximum(np.random.default_rng(0).normal(size=(30, 64)) @ DATA.x.T, 0)
    answer = kd.diagnose(kd.datasets.Dataset(DATA.x, DATA.y, phi=phi), key=jax.random.key(1), lam=10.0)
    assert answer.drawn and not answer.test.held_out and float(answer.problem.lam) == 10.0
    gap = np.sum((phi - np.asarray(answer.problem.student.features(DATA.x))) ** 2)
    features = np.asarray(kd.TwoLayerNetwork.init(jax.random.key(1), 30, 64).features(DATA.x))
    assert gap < np.sum((phi - features) ** 2)
    assert answer.regime.gap > near_answer().regime.gap


def test_no_flip_of_one_sign_brings_the_teacher_nearer():
    rng = np.random.default_rng(2)
    phi, y = rng.normal(size=(12, 7)), rng.normal(size=7)
    signs = _fitted_signs(rng.choice([-1.0, 1.0], 12), phi, y)
    missed = np.linalg.norm(y - signs @ phi / np.sqrt(12))
    for k in range(12):
        flipped = signs.copy()
        flipped[k] *= -1
        assert np.linalg.norm(y - flipped @ phi / np.sqrt(12)) >= missed - 1e-9


def test_every_answer_has_a_sentence_and_a_figure():
    import matplotlib.pyplot as plt

    answer = near_answer()
    assert len(answer.sentences) == 5
    for part in (answer.regime, answer.capacity, answer.strength, answer.speed, answer.test):
        assert part.sentence in answer.sentences
        ax = part.plot()
        assert ax.get_xlabel() and ax.get_ylabel() and ax is part.plot(ax)
    plt.close("all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd.diagnose(DATA.x), "data: expected a Dataset, such as kd.datasets.load returns; got ndarray"),
        (lambda: kd.diagnose(DATA), "data: expected the teacher's features phi, an array of shape (m, n=20); got none"),
        (
            lambda: kd.diagnose(kd.datasets.Dataset(DATA.x, DATA.y, phi=np.ones((2, 20)))),
            "key: expected a jax.random.key, since the data hold no weights of a student; got None",
        ),
        (lambda: kd.diagnose(near(), lam=-1.0), "lam: expected a number that is at least 0; got -1.0"),
        (lambda: kd.diagnose(near(), lam=0.0), "lam: expected a positive strength; got 0"),
        (lambda: kd.diagnose(near(), time=-1.0), "time: expected a time that is at least 0, inf allowed; got -1.0"),
        (lambda: kd.diagnose(near(), time=np.nan), "time: expected a time that is at least 0, inf allowed; got nan"),
        (lambda: kd.diagnose(near(), time=[1.0]), "time: expected a real number; got shape (1,)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message
