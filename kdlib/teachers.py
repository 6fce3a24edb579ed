"""Ways to make a teacher: privileged information that starts where the student starts.

In the kernel regime a teacher has to stay within m^(-1/2) of the student's start. A network trained from that start
does so by itself; a kernel machine does once it is embedded as :func:`kernel_machine_teacher` does it. Teachers of
lower quality need nothing of their own: an earlier time, a part of the samples (``trained_teacher(student, x[:100],
y[:100], time)``), flipped labels (:func:`kdlib.datasets.flip`).

Book: chapter *Experiments*.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from kdlib.filters import _modes, early_stopping_filter
from kdlib.kernels import tangent_kernel
from kdlib.network import TwoLayerNetwork
from kdlib.problem import TransferProblem
from kdlib.validation import ArrayLike, is_concrete, non_negative, positive_integer, random_key, real_array


class KernelMachine(eqx.Module):
    """A kernel machine, and the privileged information that carries it.

    Attributes
    ----------
    phi : array, shape (m, n)
        The PI on the training inputs.
    coefficients : array, shape (m,)
        θ_k, the machine's coefficient of the embedding z_k.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(6)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 50, 2)
    >>> z = kd.random_fourier_features(jax.random.key(1), data.x, 50, bandwidth=1.0)
    >>> machine = kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=0.1)
    >>> machine.phi.shape, machine(z).shape
    ((50, 6), (6,))
    """

    phi: jax.Array
    coefficients: jax.Array

    def __call__(self, embedding: ArrayLike) -> jax.Array:
        """Return Σ_k θ_k z_k, shape (rows,): what the machine adds to the student's start.

        Parameters
        ----------
        embedding : array, shape (m, rows)
            The z_k at the inputs in question.

        Returns
        -------
        array, shape (rows,)
            In label units.

        Raises
        ------
        ValueError
            For an embedding of a wrong shape or with values that are not finite.
        """
        z = real_array("embedding", embedding, (("m", self.coefficients.size), ("rows", None)))
        return self.coefficients @ z


def trained_teacher(student: TwoLayerNetwork, x: ArrayLike, y: ArrayLike, time: float | jax.Array) -> TwoLayerNetwork:
    r"""Return the network that the student becomes without a teacher, in the kernel regime.

    .. math:: w(t) = w(0) + J^\top \bar H^+ (I - e^{-t \bar H})\,(y - f(0)) .

    Parameters
    ----------
    student : TwoLayerNetwork
        The student at its start, which is the teacher's too.
    x : array, shape (n, d)
        The teacher's inputs: the student's, or others, or fewer.
    y : array, shape (n,)
        Its labels.
    time : float
        Gradient-flow time t ≥ 0 at which its training stops; ``inf`` is allowed.

    Returns
    -------
    TwoLayerNetwork
        Its ``features`` at the student's inputs are the PI. Those of each unit on the teacher's own x lie within
        abs(b_k) B₁² ‖X‖² ‖y - f(0)‖ t of the start, with B₁ the supremum of abs(σ').

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or a negative or missing time.

    Notes
    -----
    The same weights as ``kernel_flow(problem, [time]).network`` at λ = 0, from one eigendecomposition, n³, whatever the
    time; modes with eigenvalues below ``10 n eps`` of the largest are left out. A teacher that real training has made
    is ``gradient_flow(problem, [time]).network``. Weights are accurate to 1e-12 in 64-bit, 1e-5 in 32-bit, relative to
    their norm, up to the time 1/μ of the fastest mode; rounding then grows with time, until the slowest mode has been
    learnt.

    References
    ----------
    Statement ``same-labels`` of the book. Chizat, Oyallon, Bach, *On Lazy Training in
    Differentiable Programming*, NeurIPS 2019.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> data = kd.datasets.circle(12)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 400, 2)
    >>> early, late = (kd.trained_teacher(student, data.x, data.y, time) for time in (1.0, 100.0))
    >>> print(*(f"{abs(data.y - teacher(data.x)).mean():.2f}" for teacher in (student, early, late)))
    1.30 0.25 0.14
    """
    problem = _alone(student, x, y)
    rates, modes = _modes(tangent_kernel(student, problem.x))
    learnt = early_stopping_filter(rates, time)
    over_rates = jnp.where(rates > 0, learnt / jnp.where(rates > 0, rates, 1.0), 0.0)
    multipliers = modes @ (over_rates * (modes.T @ problem.output_gap))
    pulled = student.output_weights[:, None] * student.derivative(problem.x) * multipliers[None, :]
    return student.with_weights(student.weights + pulled @ problem.x)


def random_fourier_features(key: jax.Array, x: ArrayLike, count: int, *, bandwidth: float | jax.Array) -> jax.Array:
    r"""Return random features whose products average to a Gaussian kernel.

    .. math:: z_k(x) = \sqrt 2 \cos(\omega_k \cdot x / \ell + \beta_k), \qquad
              \mathbb E\, z_k(x) z_k(x') = e^{-\lVert x - x' \rVert^2 / (2 \ell^2)}

    with ω_k ~ N(0, I) and β_k uniform on [0, 2π), independently.

    Parameters
    ----------
    key : jax.random.key
        The same key gives the same functions z_k, at whatever inputs.
    x : array, shape (n, d)
    count : int
        How many; the student's width m where they are to be its PI.
    bandwidth : float
        ℓ > 0, in the units of x.

    Returns
    -------
    array, shape (count, n)

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, a count that is no positive integer, ℓ ≤ 0, or what is no key.

    Notes
    -----
    Accurate to 1e-14 in 64-bit, 1e-5 in 32-bit, times 1 + ‖ω_k‖ ‖x‖/ℓ: the rounding of the cosine's argument.

    References
    ----------
    Rahimi and Recht, *Random Features for Large-Scale Kernel Machines*, NeurIPS 2007.

    Examples
    --------
    >>> import jax, kdlib as kd
    >>> x = kd.datasets.circle(3).x
    >>> z = kd.random_fourier_features(jax.random.key(0), x, 100_000, bandwidth=1.0)
    >>> print((z.T @ z / 100_000)[0].round(2))  # exp(-3/2) = 0.22
    [1.   0.22 0.22]
    """
    x = real_array("x", x, (("n", None), ("d", None)))
    count = positive_integer("count", count)
    directions_key, phase_key = jax.random.split(random_key(key))
    directions = jax.random.normal(directions_key, (count, x.shape[1]), x.dtype)
    phases = jax.random.uniform(phase_key, (count,), x.dtype, 0.0, 2 * jnp.pi)
    return jnp.sqrt(jnp.asarray(2.0, x.dtype)) * jnp.cos(
        directions @ x.T / _positive("bandwidth", bandwidth) + phases[:, None]
    )


def kernel_machine_teacher(
    student: TwoLayerNetwork, x: ArrayLike, y: ArrayLike, embedding: ArrayLike, *, ridge: float | jax.Array
) -> KernelMachine:
    r"""Return a kernel machine as privileged information that is near the student's start.

    Embeddings z_k that have nothing to do with the student are O(1) away from its features. Added to them with small
    coefficients they are near, and the teacher's output is the machine:

    .. math::
        \varphi_k = f_k(0) + \frac{\theta_k}{b_k} z_k, \qquad
        \theta_k = b_k^2\, z_k \cdot (\gamma I + K)^{-1} (y - f(0)), \qquad
        K = \textstyle\sum_k b_k^2 z_k z_k^\top,

    so that :math:`\bar\varphi = f(0) + \sum_k \theta_k z_k = f(0) + K (\gamma I + K)^{-1} (y - f(0))`. With signs ±1,
    θ_k/b_k is √m a_k θ_k.

    Parameters
    ----------
    student : TwoLayerNetwork
        The student at its start.
    x : array, shape (n, d)
    y : array, shape (n,)
        The machine's labels.
    embedding : array, shape (m, n)
        z_k on x, such as :func:`random_fourier_features` with count m.
    ridge : float
        γ > 0.

    Returns
    -------
    KernelMachine

    Raises
    ------
    ValueError
        For a wrong shape, values that are not finite, or γ ≤ 0.

    Notes
    -----
    Of all PI of the form f_k(0) + c_k z_k this one has the least :math:`\lVert y - \bar\varphi \rVert^2 + \gamma \sum_k
    c_k^2`. It is near: :math:`\lVert \varphi_k - f_k(0) \rVert \le |b_k| \lVert z_k \rVert^2 \lVert y - f(0) \rVert /
    \gamma`. One QR factorization: 4(m + n)n² flops up to a small factor, memory n(m + n). φ is accurate to 1e-13 in
    64-bit, 1e-5 in 32-bit, relative to the larger of ‖y‖ and the norms of outputs and features, for γ of at least a
    tenth of ‖K‖; below, rounding grows like ‖K‖/γ.

    References
    ----------
    Statement ``kernel-machine-teacher`` of the book. Rasmussen and Williams, *Gaussian Processes for Machine Learning*,
    MIT Press 2006 (kernel regression).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, kdlib as kd
    >>> data = kd.datasets.circle(12)
    >>> student = kd.TwoLayerNetwork.init(jax.random.key(0), 400, 2)
    >>> z = kd.random_fourier_features(jax.random.key(1), data.x, 400, bandwidth=1.0)
    >>> machine = kd.kernel_machine_teacher(student, data.x, data.y, z, ridge=0.1)
    >>> teacher = student.output_weights @ machine.phi
    >>> print(abs(teacher - (student(data.x) + machine(z))).max() < 1e-12)
    True
    """
    problem = _alone(student, x, y)
    z = real_array("embedding", embedding, (("m", student.width), ("n", problem.x.shape[0])))
    weighted = student.output_weights[:, None] * z
    # least squares over the coefficients by QR: K itself would lose what hardly any embedding sees
    penalty = jnp.sqrt(_positive("ridge", ridge)) * jnp.eye(z.shape[1], dtype=z.dtype)
    orthonormal, triangle = jnp.linalg.qr(jnp.concatenate([weighted, penalty]))
    steps = orthonormal[: len(z)] @ jax.scipy.linalg.solve_triangular(triangle, problem.output_gap, trans="T")
    steps = jnp.where(student.output_weights == 0, 0.0, steps)  # without rounding where there is no output
    return KernelMachine(student.features(problem.x) + steps[:, None] * z, student.output_weights * steps)


def _alone(student, x, y):
    """The student without transfer; the features stand in for the None that ``jit`` cannot tell from λ > 0."""
    if not isinstance(student, TwoLayerNetwork):
        raise ValueError(f"student: expected a TwoLayerNetwork; got {type(student).__name__}")
    return TransferProblem(student, x, y, student.features(x), lam=0)


def _positive(name, value):
    value = non_negative(name, value)
    if is_concrete(value) and float(value) == 0:
        raise ValueError(f"{name}: expected a number greater than 0; got 0")
    return value
