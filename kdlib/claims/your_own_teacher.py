"""Checker of the chapter *Your own teacher*: what the student says of a label that it has not seen."""

import jax
import numpy as np

from kdlib.claims import Check
from kdlib.claims.limit import _shortest_fit
from kdlib.claims.linear_system import _Dense
from kdlib.cross_validation import leave_one_out as _left_out

_library = jax.jit(lambda problem: _left_out(problem, problem.lam[None])[0])


def leave_one_out(problem, *, teacher_too=False):
    """Leaving out one label at a time takes no further fit (chapter *Your own teacher*).

    `kdlib.leave_one_out` against least squares over all weights, again for every label that is left out.

    Parameters
    ----------
    problem : TransferProblem
    teacher_too : bool
        Whether the teacher's features of the sample are left out with its label: a broken hypothesis.
    """
    dense = _Dense.of(problem)
    m, n = dense.gap.shape
    rows, targets = np.sqrt(dense.lam) * dense.L.T, np.sqrt(dense.lam) * dense.gap.ravel()
    outputs = []
    for i in range(n):
        kept, others = np.arange(m * n) % n != i if teacher_too else np.full(m * n, True), np.arange(n) != i
        v = _shortest_fit(rows[kept], targets[kept], dense.J[others], dense.residual[others])
        outputs.append(dense.b @ dense.start[:, i] + dense.J[i] @ v)
    scale = max(dense.scale, np.linalg.norm(dense.b @ (dense.start + dense.gap)))
    return Check.compare("leave-one-out", np.asarray(_library(problem)), np.array(outputs), 1e-7, scale)
