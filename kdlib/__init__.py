"""Kernels, trajectories and bounds of knowledge transfer between wide two-layer networks.

Three nouns carry the package, in the order of the book:

* *kernels*: :func:`unit_kernels`, :func:`tangent_kernel`, :func:`limit_kernel`;
* *trajectories*: :func:`kernel_flow`, :func:`gradient_flow`, :func:`gradient_descent`,
  and where they end, :func:`fixed_point`;
* *bounds*: :mod:`kdlib.bounds`, each beside the quantity that it bounds.

:mod:`kdlib.claims` has one executable check per statement of the book. All but the core is imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from kdlib.kernels import limit_kernel, tangent_kernel, unit_kernels
from kdlib.limit import FixedPoint, fixed_point
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_descent, gradient_flow
from kdlib.trajectory import Trajectory, kernel_flow

if TYPE_CHECKING:  # imported on first use, see below
    from kdlib.characteristic import characteristic_values, count_above
    from kdlib.cross_validation import leave_one_out
    from kdlib.diagnosis import Diagnosis, diagnose
    from kdlib.distillation import SelfDistillation, self_distillation
    from kdlib.filters import (
        Alignment,
        StoppingTime,
        alignment,
        best_stopping_time,
        early_stopping_filter,
        ridge_filter,
        spectral_fit,
    )
    from kdlib.infinite_width import InfiniteWidthFlow, infinite_width_flow
    from kdlib.laplace import characteristic_matrix, laplace_flow, output_transform, resolvent
    from kdlib.memory import memory_flow, memory_kernel
    from kdlib.output_transfer import output_fixed_point, output_flow, output_gradient_flow, soft_label_problem
    from kdlib.posterior import Posterior, gaussian_posterior
    from kdlib.risk import OptimalStrength, Risk, inverse_variance_strength, noise_risk, optimal_strength
    from kdlib.spectrum import LargestRate, SlowModes, decay_rates, largest_rate, slow_modes
    from kdlib.teachers import KernelMachine, kernel_machine_teacher, random_fourier_features, trained_teacher
    from kdlib.tickets import greedy_order, lead_order, smallest_ticket, ticket, ticket_losses

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Diagnosis",
    "FixedPoint",
    "InfiniteWidthFlow",
    "KernelMachine",
    "LargestRate",
    "OptimalStrength",
    "Posterior",
    "Risk",
    "SelfDistillation",
    "SlowModes",
    "StoppingTime",
    "Trajectory",
    "TransferProblem",
    "TwoLayerNetwork",
    "alignment",
    "best_stopping_time",
    "characteristic_matrix",
    "characteristic_values",
    "count_above",
    "decay_rates",
    "diagnose",
    "early_stopping_filter",
    "fixed_point",
    "gaussian_posterior",
    "gradient_descent",
    "gradient_flow",
    "greedy_order",
    "infinite_width_flow",
    "inverse_variance_strength",
    "kernel_flow",
    "kernel_machine_teacher",
    "laplace_flow",
    "largest_rate",
    "lead_order",
    "leave_one_out",
    "limit_kernel",
    "memory_flow",
    "memory_kernel",
    "noise_risk",
    "optimal_strength",
    "output_fixed_point",
    "output_flow",
    "output_gradient_flow",
    "output_transform",
    "random_fourier_features",
    "resolvent",
    "ridge_filter",
    "self_distillation",
    "slow_modes",
    "smallest_ticket",
    "soft_label_problem",
    "spectral_fit",
    "tangent_kernel",
    "ticket",
    "ticket_losses",
    "trained_teacher",
    "unit_kernels",
]

_ON_FIRST_USE = ("bounds", "claims", "datasets", "figures", "image_files", "widgets")
# Public name -> its module, imported on first use: `import kdlib` stays fast.
_HOME = {
    "characteristic_values": "characteristic",
    "count_above": "characteristic",
    "leave_one_out": "cross_validation",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "SelfDistillation": "distillation",
    "self_distillation": "distillation",
    "Alignment": "filters",
    "StoppingTime": "filters",
    "alignment": "filters",
    "best_stopping_time": "filters",
    "early_stopping_filter": "filters",
    "ridge_filter": "filters",
    "spectral_fit": "filters",
    "InfiniteWidthFlow": "infinite_width",
    "infinite_width_flow": "infinite_width",
    "characteristic_matrix": "laplace",
    "laplace_flow": "laplace",
    "output_transform": "laplace",
    "resolvent": "laplace",
    "memory_flow": "memory",
    "memory_kernel": "memory",
    "output_fixed_point": "output_transfer",
    "output_flow": "output_transfer",
    "output_gradient_flow": "output_transfer",
    "soft_label_problem": "output_transfer",
    "Posterior": "posterior",
    "gaussian_posterior": "posterior",
    "OptimalStrength": "risk",
    "Risk": "risk",
    "inverse_variance_strength": "risk",
    "noise_risk": "risk",
    "optimal_strength": "risk",
    "LargestRate": "spectrum",
    "SlowModes": "spectrum",
    "decay_rates": "spectrum",
    "largest_rate": "spectrum",
    "slow_modes": "spectrum",
    "KernelMachine": "teachers",
    "kernel_machine_teacher": "teachers",
    "random_fourier_features": "teachers",
    "trained_teacher": "teachers",
    "greedy_order": "tickets",
    "lead_order": "tickets",
    "smallest_ticket": "tickets",
    "ticket": "tickets",
    "ticket_losses": "tickets",
}


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"kdlib.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"kdlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kdlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_FIRST_USE, *_HOME])
