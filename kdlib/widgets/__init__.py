"""Explorers of the book: live figures that need no kernel in the rendered page, and have one in JupyterLab.

At the edge of the package: the core never imports this package. How an explorer works is `kdlib.explorer`'s matter;
here is one module for each chapter that has one, named after it, with its parameters, its fields and its views.

Book: each chapter's section "Move it".
"""

from kdlib.widgets.convergence import ConvergenceExplorer, convergence_explorer
from kdlib.widgets.experiments import ExperimentsExplorer, experiments_explorer
from kdlib.widgets.finite_width import FiniteWidthExplorer, finite_width_explorer
from kdlib.widgets.generalization import GeneralizationExplorer, generalization_explorer
from kdlib.widgets.gradient_flow import GradientFlowExplorer, gradient_flow_explorer
from kdlib.widgets.kernels import KernelsExplorer, kernels_explorer
from kdlib.widgets.laplace import LaplaceExplorer, laplace_explorer
from kdlib.widgets.lazy_training import LazyTrainingExplorer, lazy_training_explorer
from kdlib.widgets.limit import LimitExplorer, circle_problem, limit_explorer
from kdlib.widgets.linear_system import LinearSystemExplorer, linear_system_explorer
from kdlib.widgets.noisy_labels import NoisyLabelsExplorer, noisy_labels_explorer
from kdlib.widgets.output_transfer import OutputTransferExplorer, output_transfer_explorer
from kdlib.widgets.spectra import SpectraExplorer, spectra_explorer
from kdlib.widgets.tickets import TicketsExplorer, tickets_explorer
from kdlib.widgets.transfer import TransferExplorer, transfer_explorer

__all__ = [
    "ConvergenceExplorer",
    "ExperimentsExplorer",
    "FiniteWidthExplorer",
    "GeneralizationExplorer",
    "GradientFlowExplorer",
    "KernelsExplorer",
    "LaplaceExplorer",
    "LazyTrainingExplorer",
    "LimitExplorer",
    "LinearSystemExplorer",
    "NoisyLabelsExplorer",
    "OutputTransferExplorer",
    "SpectraExplorer",
    "TicketsExplorer",
    "TransferExplorer",
    "circle_problem",
    "convergence_explorer",
    "experiments_explorer",
    "finite_width_explorer",
    "generalization_explorer",
    "gradient_flow_explorer",
    "kernels_explorer",
    "laplace_explorer",
    "lazy_training_explorer",
    "limit_explorer",
    "linear_system_explorer",
    "noisy_labels_explorer",
    "output_transfer_explorer",
    "spectra_explorer",
    "tickets_explorer",
    "transfer_explorer",
]
