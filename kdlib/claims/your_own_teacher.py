"""Checker of the chapter *Your own teacher*: what the student says of a label that it has not seen."""

import jax
import numpy as np

from kdlib.claims import Check
from kdlib.claims.linear_system import _Dense
from kdlib.cross_validation import leave_one_out as _left_out

_SMALLEST = 1e-10  # singular values below this fraction of the largest count as zero
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
    A, g = dense.A, np.concatenate([np.sqrt(dense.lam) * dense.gap.ravel(), dense.residual])
    outputs = []
    for i in range(n):
        without = [k * n + i for k in range(m + 1)] if teacher_too else [m * n + i]
        v = np.linalg.lstsq(np.delete(A, without, axis=0), np.delete(g, without), rcond=_SMALLEST)[0]
        outputs.append(dense.b @ dense.start[:, i] + A[m * n + i] @ v)
    scale = max(dense.scale, np.linalg.norm(dense.b @ (dense.start + dense.gap)))
    return Check.compare("leave-one-out", np.asarray(_library(problem)), np.array(outputs), 1e-7, scale)
