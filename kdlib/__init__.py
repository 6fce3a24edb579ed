"""Kernels, trajectories and bounds of knowledge transfer between wide two-layer networks.

Three nouns carry the package, in the order of the book:

* *kernels*: :func:`unit_kernels`, :func:`tangent_kernel`, :func:`limit_kernel`;
* *trajectories*: :func:`kernel_flow`, :func:`gradient_flow`, :func:`gradient_descent`,
  and where they end, :func:`fixed_point`;
* *claims*: :mod:`kdlib.claims`, one executable check per statement of the book.

``kdlib.claims``, ``kdlib.datasets``, ``kdlib.figures``, ``kdlib.image_files`` and ``kdlib.widgets`` are imported on
first use.
"""

import importlib

from kdlib.kernels import limit_kernel, tangent_kernel, unit_kernels
from kdlib.limit import FixedPoint, fixed_point
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.training import gradient_descent, gradient_flow
from kdlib.trajectory import Trajectory, kernel_flow

__version__ = "0.1.0"

__all__ = [
    "FixedPoint",
    "Trajectory",
    "TransferProblem",
    "TwoLayerNetwork",
    "fixed_point",
    "gradient_descent",
    "gradient_flow",
    "kernel_flow",
    "limit_kernel",
    "tangent_kernel",
    "unit_kernels",
]

_ON_FIRST_USE = ("bounds", "claims", "datasets", "figures", "image_files", "widgets")
# Public name -> its module, imported on first use: `import kdlib` stays fast.
_HOME = {
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "leave_one_out": "cross_validation",
    "SelfDistillation": "distillation",
    "greedy_order": "tickets",
    "lead_order": "tickets",
    "self_distillation": "distillation",
    "smallest_ticket": "tickets",
    "ticket": "tickets",
    "ticket_losses": "tickets",
    "KernelMachine": "teachers",
    "kernel_machine_teacher": "teachers",
    "random_fourier_features": "teachers",
    "trained_teacher": "teachers",
    "Alignment": "filters",
    "StoppingTime": "filters",
    "alignment": "filters",
    "best_stopping_time": "filters",
    "early_stopping_filter": "filters",
    "ridge_filter": "filters",
    "spectral_fit": "filters",
    "output_fixed_point": "output_transfer",
    "output_flow": "output_transfer",
    "output_gradient_flow": "output_transfer",
    "soft_label_problem": "output_transfer",
    "OptimalStrength": "risk",
    "Posterior": "posterior",
    "Risk": "risk",
    "gaussian_posterior": "posterior",
    "inverse_variance_strength": "risk",
    "noise_risk": "risk",
    "optimal_strength": "risk",
    "characteristic_matrix": "laplace",
    "InfiniteWidthFlow": "memory",
    "infinite_width_flow": "memory",
    "laplace_flow": "laplace",
    "memory_flow": "memory",
    "memory_kernel": "memory",
    "output_transform": "laplace",
    "resolvent": "laplace",
    "SlowModes": "spectrum",
    "characteristic_values": "characteristic",
    "count_above": "characteristic",
    "decay_rates": "spectrum",
    "largest_rate": "spectrum",
    "slow_modes": "spectrum",
}


def __getattr__(name):
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"kdlib.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"kdlib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'kdlib' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_ON_FIRST_USE, *_HOME])
