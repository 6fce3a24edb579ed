"""The transfer problem: fit the labels and the teacher's features together.

Book: chapter *Transfer*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.network import TwoLayerNetwork
from kdlib.validation import ArrayLike, is_concrete, non_negative, real_array


class TransferProblem(eqx.Module):
    r"""A student, its data, its teacher's features, and the strength of the transfer.

    .. math:: E(w) = \tfrac12 \lVert y - f \rVert^2 + \tfrac\lambda2 \sum_k \lVert \varphi_k - f_k \rVert^2 .

    Parameters
    ----------
    student : TwoLayerNetwork
        The student at its start, w(0).
    x : array, shape (n, d)
        Inputs, one row a sample.
    y : array, shape (n,)
        Labels.
    phi : array, shape (m, n), or TwoLayerNetwork, or None
        The teacher's features on the data, the privileged information (PI); or the teacher itself, of the student's
        width m, whose features are then computed where they are needed and not kept. None is allowed at λ = 0 only.
    lam : float
        The strength λ ≥ 0 of the transfer, in the units of a squared output weight.

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, complex numbers, λ < 0, empty data, or a missing teacher.

    Notes
    -----
    Arrays over units (the student's, and φ) may be sharded over their first axis; ``x``, ``y`` and λ are then the same
    on all devices and in all processes.

    Examples
    --------
    >>> import jax.numpy as jnp, kdlib as kd
    >>> net = kd.TwoLayerNetwork(jnp.zeros((1, 2)), jnp.ones(1))
    >>> problem = kd.TransferProblem(net, jnp.eye(2), jnp.ones(2), jnp.zeros((1, 2)), lam=0.5)
    >>> float(problem.energy(net)), problem.output_gap.tolist()
    (1.0, [1.0, 1.0])
    """

    student: TwoLayerNetwork
    x: jax.Array
    y: jax.Array
    teacher: jax.Array | TwoLayerNetwork | None
    lam: jax.Array

    def __init__(
        self,
        student: TwoLayerNetwork,
        x: ArrayLike,
        y: ArrayLike,
        phi: ArrayLike | TwoLayerNetwork | None,
        *,
        lam: float | jax.Array,
    ):
        if not isinstance(student, TwoLayerNetwork):
            raise ValueError(f"student: expected a TwoLayerNetwork; got {type(student).__name__}")
        self.student = student
        self.x = real_array("x", x, (("n", None), ("d", student.dim)))
        self.y = real_array("y", y, (("n", self.x.shape[0]),))
        self.lam = non_negative("lam", lam)
        if phi is None:
            if not is_concrete(self.lam) or float(self.lam) != 0:
                raise ValueError(
                    "phi: expected the teacher's features, a real array of shape "
                    f"(m={student.width}, n={self.x.shape[0]}), since lam is not 0; got None"
                )
            self.teacher = None
        elif isinstance(phi, TwoLayerNetwork):
            if phi.weights.shape != student.weights.shape:
                raise ValueError(
                    f"phi: expected a teacher of weights (m={student.width}, d={student.dim}), or its features, a real "
                    f"array of shape (m={student.width}, n={self.x.shape[0]}); got one of weights {phi.weights.shape}"
                )
            self.teacher = phi
        else:
            self.teacher = real_array("phi", phi, (("m", student.width), ("n", self.x.shape[0])))

    @property
    def phi(self) -> jax.Array | None:
        r"""The teacher's features :math:`\varphi_k(x_i)`, shape (m, n), or None without a teacher."""
        return self.teacher.features(self.x) if isinstance(self.teacher, TwoLayerNetwork) else self.teacher

    @property
    def feature_gap(self) -> jax.Array:
        r"""The teacher's lead :math:`\varphi_k - f_k(0)`, shape (m, n); zero where there is no teacher."""
        start, phi = self.student.features(self.x), self.phi
        # no constant zeros: those would lie whole on every device that the student is spread over
        return 0.0 * start if phi is None else phi - start

    @property
    def output_gap(self) -> jax.Array:
        """What the student's start leaves of the labels, y − f(0), shape (n,)."""
        return self.y - self.student(self.x)

    @property
    def scale(self) -> jax.Array:
        """max(‖y‖, ‖f(0)‖): every stated accuracy of a trajectory is relative to it.

        Outputs at other inputs are as accurate relative to the largest of it and of ‖f(0)‖ and ‖f(t)‖ there, for units'
        singular values within the spread of :func:`fixed_point`, but for some roundings times that spread. And they see
        weights that the data do not: late, when weak transfer moves these, they may err by ten more roundings times
        a/λ, and at the limit by more where units have ranges that all but coincide.
        """
        return jnp.maximum(jnp.linalg.norm(self.y), jnp.linalg.norm(self.student(self.x)))

    def energy(self, net: TwoLayerNetwork) -> jax.Array:
        """Return E, the energy, at the network ``net``.

        Parameters
        ----------
        net : TwoLayerNetwork
            Any network of the student's width, input dimension and output weights.

        Returns
        -------
        array, scalar
            In squared label units.

        Raises
        ------
        ValueError
            If ``net`` is not a network of the student's width and input dimension.
        """
        if not isinstance(net, TwoLayerNetwork) or net.weights.shape != self.student.weights.shape:
            came = f"one of weights {net.weights.shape}" if isinstance(net, TwoLayerNetwork) else type(net).__name__
            raise ValueError(f"net: expected a TwoLayerNetwork of weights {self.student.weights.shape}; got {came}")
        features, phi = net.features(self.x), self.phi
        fit = jnp.sum((self.y - net.output_weights @ features) ** 2)
        transfer = 0.0 if phi is None else self.lam * jnp.sum((phi - features) ** 2)
        return (fit + transfer) / 2


def check_problem(problem):
    """The problem, or a `ValueError` where it is none."""
    if not isinstance(problem, TransferProblem):
        raise ValueError(f"problem: expected a TransferProblem; got {type(problem).__name__}")
    return problem
