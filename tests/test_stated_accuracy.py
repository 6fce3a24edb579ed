"""Every public function states its relative error, in 64-bit and in 32-bit, and keeps to it; so do some bounds.

A row of the table is what the docstring says, about ten times what is measured; what it is relative to, and where it
ends, stands there too. The measuring is in ``errors_of_flows.py`` and ``errors_of_answers.py``, on the problems of
``cases.py``.
"""

import inspect
import itertools
import operator
import re

import jax
import numpy as np
import pytest

import kdlib as kd
from tests import errors_of_answers as answers
from tests import errors_of_flows as flows
from tests.cases import KINDS, LAMBDAS, SHAPES, SPREAD, case
from tests.test_accuracy import ACCURACY

# of a problem: name, and part of the answer where there are several: error in 64-bit, in 32-bit, how it is measured
OF_PROBLEMS = {
    "tangent_kernel": (1e-11, 1e-5, flows.tangent_kernel),
    "unit_kernels": (1e-11, 1e-5, flows.unit_kernels),
    "memory_kernel": (1e-11, 1e-5, flows.memory_kernel),
    "characteristic_matrix": (1e-11, 1e-5, flows.characteristic_matrix),
    "resolvent": (1e-11, 1e-4, flows.resolvent),
    "output_transform": (1e-12, 1e-5, flows.output_transform),
    "laplace_flow": (1e-12, 1e-4, flows.flow(kd.laplace_flow)),
    "memory_flow": (1e-12, 1e-5, flows.flow(kd.memory_flow)),
    "soft_label_problem": (1e-14, 1e-6, flows.soft_label_problem),
    "output_flow": (1e-8, 1e-3, flows.output_flow),
    "output_fixed_point": (1e-8, 1e-3, flows.output_fixed_point),
    "decay_rates": (1e-11, 1e-5, answers.spectrum(kd.decay_rates)),
    "slow_modes": (1e-11, 1e-5, answers.spectrum(lambda problem, k: kd.slow_modes(problem, k).rates)),
    "characteristic_values": (1e-9, 1e-5, answers.spectrum(lambda problem, _: -kd.characteristic_values(problem))),
    "largest_rate": (1e-11, 1e-5, answers.largest_rate),
    "count_above": (0.0, 0.0, answers.count_above),
    "noise_risk": (1e-9, 1e-4, answers.noise_risk),
    "noise_risk, stopped": (1e-8, 1e-3, answers.noise_risk_stopped),
    "gaussian_posterior": (1e-9, 1e-4, answers.gaussian_posterior),
    "leave_one_out": (1e-9, 1e-4, answers.leave_one_out),
    "self_distillation": (1e-9, 1e-4, answers.self_distillation),
    "ticket_losses": (1e-9, 1e-4, answers.ticket_losses),
    "optimal_strength": (1e-12, 1e-5, answers.optimal_strength),
    "optimal_strength, lam": (1e-6, 1e-4, answers.optimal_strength_lam),
    "best_stopping_time": (1e-12, 1e-5, answers.best_stopping_time),
    "best_stopping_time, time": (1e-6, 1e-4, answers.best_stopping_time_time),
    "alignment": (1e-11, 1e-5, answers.alignment),
    "early_stopping_filter": (1e-14, 1e-6, answers.early_stopping_filter),
    "ridge_filter": (1e-14, 1e-6, answers.ridge_filter),
    "spectral_fit": (1e-13, 1e-5, answers.spectral_fit),
    "trained_teacher": (1e-12, 1e-5, answers.trained_teacher),
    "kernel_machine_teacher": (1e-13, 1e-5, answers.kernel_machine_teacher),
    "bounds.displacement_norm": (1e-9, 1e-4, answers.displacement_norm),
    "bounds.noise_variance": (1e-14, 1e-6, answers.noise_variance),
    "bounds.rademacher_complexity": (1e-14, 1e-5, answers.rademacher_complexity),
}  # fmt: skip
# of other arrays
OTHERS = {
    "limit_kernel": (1e-12, 1e-3, flows.limit_kernel),
    "limit_kernel, nearly parallel": (1e-7, 1e-3, flows.limit_kernel_of_parallels),
    "gradient_flow": (1e-8, 1e-4, flows.gradient_flow),
    "output_gradient_flow": (1e-8, 1e-3, flows.output_gradient_flow),
    "gradient_descent": (1e-13, 1e-4, flows.gradient_descent),
    "infinite_width_flow": (1e-8, 1e-3, flows.infinite_width_flow),
    "random_fourier_features": (1e-14, 1e-5, answers.random_fourier_features),
    "inverse_variance_strength": (1e-14, 1e-6, answers.inverse_variance_strength),
    "decay_rates, many": (1e-11, 1e-5, answers.lanczos(kd.decay_rates)),
    "slow_modes, many": (1e-11, 1e-5, answers.lanczos(lambda problem, k: kd.slow_modes(problem, k).rates)),
}
IN_TEST_ACCURACY = dict.fromkeys(("kernel_flow", "fixed_point"), (ACCURACY[np.float64], ACCURACY[np.float32], None))
STATED = OF_PROBLEMS | OTHERS | IN_TEST_ACCURACY
# functions that choose units, or put answers of the above together
CHOICES = {"diagnose", "greedy_order", "lead_order", "smallest_ticket", "ticket"}
PRECISIONS = [np.float64, np.float32]


def keys():
    """Every kind at every strength, by turns for the largest shape; of one number some kinds are the same."""
    one, _, largest = SHAPES
    for shape, (j, kind), (k, lam) in itertools.product(SHAPES, enumerate(KINDS), enumerate(LAMBDAS)):
        if (shape == one and kind in ("repeated", "antipodal", "mixed")) or (shape == largest and (j + k) % 2 == 0):
            continue
        yield shape, kind, lam


def said_of(name):
    return re.sub(r"\s+", " ", inspect.getdoc(operator.attrgetter(name.split(",")[0])(kd)) or "")


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", OF_PROBLEMS)
def test_answers_to_problems_are_as_accurate_as_stated(name, dtype):
    *stated, measure = OF_PROBLEMS[name]
    found, limited = {}, "spread" in said_of(name)  # of singular values, beyond which the docstring promises nothing
    with jax.enable_x64(dtype is np.float64):
        for key in keys():
            problem = case(*key, dtype)
            if not limited or problem.spread <= SPREAD[dtype]:
                found |= {(*key, i): error for i, error in enumerate(measure(problem))}
    assert len(found) >= 24 and np.all(np.isfinite(list(found.values())))
    worst = max(found, key=lambda key: found[key])
    assert found[worst] <= stated[PRECISIONS.index(dtype)], worst


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", OTHERS)
def test_other_answers_are_as_accurate_as_stated(name, dtype):
    *stated, measure = OTHERS[name]
    with jax.enable_x64(dtype is np.float64):
        errors = np.array(list(measure(dtype)))
    assert np.all(np.isfinite(errors)) and np.max(errors) <= stated[PRECISIONS.index(dtype)]


# of many modes it is said already; a count is right or wrong
@pytest.mark.parametrize("name", [name for name in STATED if "many" not in name and name != "count_above"])
def test_docstrings_say_so(name):
    numbers = [f"{number:.0e}".replace("e-0", "e-") for number in STATED[name][:2]]
    assert re.search(rf"{numbers[0]}( of max\(‖y‖, ‖f\(0\)‖\))? in 64-bit, {numbers[1]} in 32-bit", said_of(name))


def test_no_function_is_left_out():
    functions = {name for name in kd.__all__ if inspect.isfunction(getattr(kd, name))}
    assert functions == {name.split(",")[0] for name in STATED if not name.startswith("bounds.")} | CHOICES
    assert len(set(keys())) >= 50
