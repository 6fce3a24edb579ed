"""Bad input to what the second half of the book computes; see ``test_bad_input.py``."""

import warnings

import numpy as np
import pytest

import kdlib as kd
from tests.test_bad_input import KEY, NET, PHI, PROBLEM, W, X, Y

ALONE = kd.TransferProblem(NET, X, Y, PHI, lam=0.0)
RELU = kd.TransferProblem(kd.TwoLayerNetwork(W, NET.signs, "relu"), X, Y, PHI, lam=0.5)

TABLE = {
    "T of a network": (
        lambda: kd.characteristic_matrix(NET, 1.0),
        "problem: expected a TransferProblem; got TwoLayerNetwork",
    ),
    "T s list": (lambda: kd.characteristic_matrix(PROBLEM, [1.0]), "s: expected a real number; got shape (1,)"),
    "T s nan": (
        lambda: kd.characteristic_matrix(PROBLEM, np.nan),
        "s: expected finite values; got nan (1 of 1 not finite)",
    ),
    "T s text": (lambda: kd.characteristic_matrix(PROBLEM, "a"), "s: expected a real number; got <U1 values"),
    "T s zero": (
        lambda: kd.characteristic_matrix(ALONE, 0.0),
        "s: expected a number other than 0, since lam is 0 and T(s) = I + H̄/s; got 0",
    ),
    "resolvent vector": (
        lambda: kd.resolvent(PROBLEM, 1.0, np.ones(3)),
        "vector: expected a real array of shape (m=3, d=2); got shape (3,)",
    ),
    "resolvent nan": (
        lambda: kd.resolvent(PROBLEM, 1j * np.inf),
        "s: expected finite values; got nan (1 of 1 not finite)",
    ),
    "transform zero": (
        lambda: kd.output_transform(PROBLEM, 0.0),
        "s: expected a number other than 0, where the transform has a pole of residue f(∞); got 0",
    ),
    "transform at": (
        lambda: kd.output_transform(PROBLEM, 1.0, at=np.ones((2, 3))),
        "at: expected a real array of shape (rows, d=2); got shape (2, 3)",
    ),
    "laplace times": (
        lambda: kd.laplace_flow(PROBLEM, [-1.0]),
        "times: expected times that are at least 0; got -1.0 at index 0",
    ),
    "laplace nan": (lambda: kd.laplace_flow(PROBLEM, [np.nan]), "times: expected numbers; got NaN at index 0"),
    "memory inf": (
        lambda: kd.memory_flow(PROBLEM, [np.inf]),
        "times: expected finite times, since the equation is solved panel by panel; got inf. The "
        "limit of the frozen-kernel system is fixed_point(problem)",
    ),
    "memory kernel times": (
        lambda: kd.memory_kernel(PROBLEM, [[1.0]]),
        "times: expected a real array of shape (T,); got shape (1, 1)",
    ),
    "wide dual": (
        lambda: kd.infinite_width_flow(X, Y, np.ones(3), [1.0], lam=0.5, key=KEY),
        "dual: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "wide samples": (
        lambda: kd.infinite_width_flow(X, Y, Y, [1.0], lam=0.5, key=KEY, samples=0),
        "samples: expected a multiple of 8, at least 16; got 0",
    ),
    "wide lam": (
        lambda: kd.infinite_width_flow(X, Y, Y, [1.0], lam=-1, key=KEY),
        "lam: expected a number that is at least 0; got -1.0",
    ),
    "wide key": (
        lambda: kd.infinite_width_flow(X, Y, Y, [1.0], lam=0.5, key=3),
        "key: expected a key such as jax.random.key(0); got 3",
    ),
    "rates k zero": (lambda: kd.decay_rates(PROBLEM, 0), "k: expected a positive integer; got 0"),
    "rates k float": (lambda: kd.decay_rates(PROBLEM, 1.5), "k: expected a positive integer; got 1.5"),
    "rates k many": (
        lambda: kd.decay_rates(PROBLEM, 100),
        "k: expected at most 6, the number of non-zero rates of this problem; got 100",
    ),
    "rates problem": (lambda: kd.decay_rates(NET, 1), "problem: expected a TransferProblem; got TwoLayerNetwork"),
    "modes k": (lambda: kd.slow_modes(PROBLEM, -1), "k: expected a positive integer; got -1"),
    "largest": (lambda: kd.largest_rate(None), "problem: expected a TransferProblem; got NoneType"),
    "count nan": (lambda: kd.count_above(PROBLEM, np.nan), "x: expected finite values; got nan (1 of 1 not finite)"),
    "count array": (lambda: kd.count_above(PROBLEM, [1.0, 2.0]), "x: expected a real number; got shape (2,)"),
    "values of": (lambda: kd.characteristic_values(3), "problem: expected a TransferProblem; got int"),
    "alignment vector": (
        lambda: kd.alignment(NET, X, np.ones(3)),
        "vector: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "alignment zero": (
        lambda: kd.alignment(NET, X, 0 * Y),
        "vector: expected a vector other than zero; got zeros, which have no direction",
    ),
    "filter rates": (
        lambda: kd.early_stopping_filter([-1.0], 1.0),
        "rates: expected rates that are at least 0; got -1.0",
    ),
    "filter time": (
        lambda: kd.early_stopping_filter([1.0], -1.0),
        "time: expected a time that is at least 0, inf allowed; got -1.0",
    ),
    "ridge gamma": (lambda: kd.ridge_filter([1.0], -1.0), "gamma: expected a number that is at least 0; got -1.0"),
    "stopping truth": (
        lambda: kd.best_stopping_time(ALONE, np.ones(3), 1.0),
        "truth: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "stopping noise": (
        lambda: kd.best_stopping_time(ALONE, Y, -1.0),
        "noise: expected a number that is at least 0; got -1.0",
    ),
    "soft of": (lambda: kd.soft_label_problem(NET), "problem: expected a TransferProblem; got TwoLayerNetwork"),
    "output times": (
        lambda: kd.output_flow(PROBLEM, [-1.0]),
        "times: expected times that are at least 0; got -1.0 at index 0",
    ),
    "output real inf": (
        lambda: kd.output_gradient_flow(PROBLEM, [np.inf]),
        "times: expected finite times, since the network itself is integrated; got inf. The limit "
        "of the frozen-kernel system is fixed_point(problem)",
    ),
    "output limit": (lambda: kd.output_fixed_point(None), "problem: expected a TransferProblem; got NoneType"),
    "posterior noise": (
        lambda: kd.gaussian_posterior(PROBLEM, noise=-1.0),
        "noise: expected a number that is at least 0; got -1.0",
    ),
    "posterior lam": (
        lambda: kd.gaussian_posterior(ALONE, noise=1.0),
        "problem: expected a strength lam > 0, the precision of the prior; got lam=0",
    ),
    "posterior at": (
        lambda: kd.gaussian_posterior(PROBLEM, noise=1.0, at=np.ones((2, 3))),
        "at: expected a real array of shape (rows, d=2); got shape (2, 3)",
    ),
    "risk truth": (
        lambda: kd.noise_risk(PROBLEM, np.ones(3), 1.0),
        "truth: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "risk noise": (lambda: kd.noise_risk(PROBLEM, Y, -1.0), "noise: expected a number that is at least 0; got -1.0"),
    "risk time": (
        lambda: kd.noise_risk(PROBLEM, Y, 1.0, time=-1.0),
        "time: expected a time that is at least 0, inf allowed; got -1.0",
    ),
    "risk at": (lambda: kd.noise_risk(PROBLEM, Y, 1.0, at=X), "truth_at: expected truth_at together with at; got None"),
    "strength truth": (
        lambda: kd.optimal_strength(PROBLEM, np.ones(2), 1.0),
        "truth: expected a real array of shape (n=4,); got shape (2,)",
    ),
    "variance strength": (
        lambda: kd.inverse_variance_strength(1.0, -1.0),
        "error: expected a number that is at least 0; got -1.0",
    ),
    "correlation": (
        lambda: kd.inverse_variance_strength(1.0, 1.0, correlation=2.0),
        "correlation: expected at most noise·error = 1 in size; got 2",
    ),
    "trained time": (
        lambda: kd.trained_teacher(NET, X, Y, -1.0),
        "time: expected a time that is at least 0, inf allowed; got -1.0",
    ),
    "trained y": (
        lambda: kd.trained_teacher(NET, X, np.ones(3), 1.0),
        "y: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "fourier count": (
        lambda: kd.random_fourier_features(KEY, X, 0, bandwidth=1.0),
        "count: expected a positive integer; got 0",
    ),
    "fourier bandwidth": (
        lambda: kd.random_fourier_features(KEY, X, 3, bandwidth=0.0),
        "bandwidth: expected a number greater than 0; got 0",
    ),
    "fourier key": (
        lambda: kd.random_fourier_features(0, X, 3, bandwidth=1.0),
        "key: expected a key such as jax.random.key(0); got 0",
    ),
    "machine embedding": (
        lambda: kd.kernel_machine_teacher(NET, X, Y, np.ones((2, 4)), ridge=1.0),
        "embedding: expected a real array of shape (m=3, n=4); got shape (2, 4)",
    ),
    "machine ridge": (
        lambda: kd.kernel_machine_teacher(NET, X, Y, np.ones((3, 4)), ridge=0.0),
        "ridge: expected a number greater than 0; got 0",
    ),
    "ticket units": (
        lambda: kd.ticket(PROBLEM, [0, 7]),
        "units: expected different unit indices from 0 to m - 1 = 2, an integer array of shape (m',); got [0, 7]",
    ),
    "ticket twice": (
        lambda: kd.ticket(PROBLEM, [0, 0]),
        "units: expected different unit indices from 0 to m - 1 = 2, an integer array of shape (m',); got [0, 0]",
    ),
    "ticket empty": (
        lambda: kd.ticket(PROBLEM, []),
        "units: expected different unit indices from 0 to m - 1 = 2, an integer array of shape "
        "(m',); got float64 values of shape (0,)",
    ),
    "ticket real": (
        lambda: kd.ticket(PROBLEM, [0.5]),
        "units: expected different unit indices from 0 to m - 1 = 2, an integer array of shape "
        "(m',); got float64 values of shape (1,)",
    ),
    "ticket output": (
        lambda: kd.ticket(PROBLEM, [0], output="shrink"),
        "output: expected one of 'keep', 'rescale'; got 'shrink'",
    ),
    "greedy count": (lambda: kd.greedy_order(PROBLEM, 9), "count: expected an integer from 1 to m=3; got 9"),
    "smallest loss": (
        lambda: kd.smallest_ticket(PROBLEM, -1.0, [0, 1, 2]),
        "loss: expected a number that is at least 0; got -1.0",
    ),
    "losses order": (
        lambda: kd.ticket_losses(PROBLEM, [0, 9]),
        "order: expected different unit indices from 0 to m - 1 = 2, an integer array of shape (m',); got [0, 9]",
    ),
    "distil rounds": (lambda: kd.self_distillation(PROBLEM, 0), "rounds: expected a positive integer; got 0"),
    "distil replace": (
        lambda: kd.self_distillation(PROBLEM, 1, replace="both"),
        "replace: expected one of 'teacher', 'labels'; got 'both'",
    ),
    "distil lam": (
        lambda: kd.self_distillation(ALONE, 1),
        "problem: expected lam > 0, since without a teacher nothing is handed on; got lam = 0",
    ),
    "leave strengths": (lambda: kd.leave_one_out(PROBLEM, [-1.0]), "strengths: expected positive numbers; got -1.0"),
    "diagnose phi": (
        lambda: kd.diagnose(kd.datasets.Dataset(X, Y)),
        "data: expected the teacher's features phi, an array of shape (m, n=4); got none",
    ),
    "diagnose what": (lambda: kd.diagnose(3), "data: expected a Dataset, such as kd.datasets.load returns; got int"),
    "bound accuracy": (
        lambda: kd.bounds.time_to_accuracy(PROBLEM, 0.0),
        "accuracy: expected a positive number; got 0.0",
    ),
    "bound steps": (
        lambda: kd.bounds.iterations_to_accuracy(PROBLEM, -1.0),
        "accuracy: expected a positive number; got -1.0",
    ),
    "bound decay times": (
        lambda: kd.bounds.energy_decay(PROBLEM, [-1.0]),
        "times: expected times that are at least 0; got -1.0 at index 0",
    ),
    "bound thresholds": (
        lambda: kd.bounds.interlacing(PROBLEM, [np.nan]),
        "thresholds: expected finite values; got nan at index (0,) (1 of 1 not finite)",
    ),
    "bound relu": (
        lambda: kd.bounds.finite_width_gap(RELU, [1.0]),
        "activation: expected one with a bounded second derivative, such as 'tanh', 'erf' or "
        "'softplus'; got 'relu', whose slope jumps",
    ),
    "bound gap inf": (
        lambda: kd.bounds.finite_width_gap(PROBLEM, [np.inf]),
        "times: expected finite times, since the network itself is integrated; got inf. The limit "
        "of the frozen-kernel system is fixed_point(problem)",
    ),
    "bound movement": (
        lambda: kd.bounds.weight_movement(PROBLEM, [np.nan]),
        "times: expected numbers; got NaN at index 0",
    ),
    "bound suprema": (
        lambda: kd.bounds.activation_suprema("sin", 1.0),
        "activation: expected one of 'tanh', 'relu', 'erf', 'softplus', or an elementwise callable; got 'sin'",
    ),
    "bound radius": (
        lambda: kd.bounds.rademacher_complexity(NET, X, -1.0),
        "radius: expected a number that is at least 0; got -1.0",
    ),
    "bound delta": (
        lambda: kd.bounds.generalization_gap(PROBLEM, X, np.sign(Y), delta=2.0),
        "delta: expected a probability between 0 and 1; got 2.0",
    ),
    "bound labels": (
        lambda: kd.bounds.generalization_gap(PROBLEM, X, 0.5 * Y, delta=0.1),
        "y_test: expected labels +1 and -1; got 0.5",
    ),
    "bound truth": (
        lambda: kd.bounds.beats_teacher(PROBLEM, np.ones(3), 1.0),
        "truth: expected a real array of shape (n=4,); got shape (3,)",
    ),
    "bound noise": (
        lambda: kd.bounds.noise_variance(PROBLEM, -1.0),
        "noise: expected a number that is at least 0; got -1.0",
    ),
    "bound units": (
        lambda: kd.bounds.units_needed(PROBLEM, -1.0),
        "loss: expected a number that is at least 0; got -1.0",
    ),
}


@pytest.mark.parametrize(("call", "message"), TABLE.values(), ids=TABLE.keys())
def test_bad_input_is_refused_by_name(call, message):
    with warnings.catch_warnings(), pytest.raises(ValueError) as caught:
        warnings.simplefilter("error")
        call()
    assert type(caught.value) is ValueError
    assert str(caught.value) == message
