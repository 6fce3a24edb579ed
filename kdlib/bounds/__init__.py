"""Bounds, each beside the quantity that it bounds.

A bound is a function named after what it bounds and under which hypothesis. It returns a `Bound`: the bound, the
quantity measured on this very problem, and the hypotheses with whether each was met. One module a topic.

Book: Parts III and IV.
"""

from kdlib.bounds.bound import Assumption, Bound
from kdlib.bounds.finite_width import finite_width_gap, finite_width_gap_posterior
from kdlib.bounds.generalization import (
    RademacherAverage,
    displacement_norm,
    generalization_gap,
    rademacher_average,
    rademacher_complexity,
)
from kdlib.bounds.lazy import Suprema, activation_suprema, kernel_drift, weight_movement
from kdlib.bounds.noise import beats_labels, beats_teacher, noise_variance
from kdlib.bounds.rates import (
    energy_decay,
    equal_kernel_speedup,
    interlacing,
    slow_amplitude,
    slowest_rate,
    small_transfer_rates,
)
from kdlib.bounds.tickets import units_needed
from kdlib.bounds.times import iterations_to_accuracy, time_to_accuracy

__all__ = [
    "Assumption",
    "Bound",
    "RademacherAverage",
    "Suprema",
    "activation_suprema",
    "beats_labels",
    "beats_teacher",
    "displacement_norm",
    "energy_decay",
    "equal_kernel_speedup",
    "finite_width_gap",
    "finite_width_gap_posterior",
    "generalization_gap",
    "interlacing",
    "iterations_to_accuracy",
    "kernel_drift",
    "noise_variance",
    "rademacher_average",
    "rademacher_complexity",
    "slow_amplitude",
    "slowest_rate",
    "small_transfer_rates",
    "time_to_accuracy",
    "units_needed",
    "weight_movement",
]
