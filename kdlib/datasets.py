"""Data sets of the book, and a reader's own from a file.

All built-in sets have rows of norm 1 and labels ±1.  Rows are scaled, not centred: centring ties the
rows together (their rank falls to n − 1), and whether n rows are independent decides whether a unit's
kernel can be invertible.  `load` changes no number, since the features in a file belong to its inputs.

Book: every chapter; the dozen points on the circle and the digits are its running examples.
"""

import csv
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format

from kdlib.validation import ArrayLike

__all__ = ["Dataset", "circle", "digits", "flip", "gaussian", "load"]

# two digits, or two groups of digits
Classes = Sequence[int | Sequence[int]]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """An immutable record of inputs and labels, and of a teacher where there is one.

    Parameters
    ----------
    x : array, shape (n, d)
        Training inputs, one row a sample.
    y : array, shape (n,)
        Training labels.
    x_test, y_test : arrays, shapes (k, d) and (k,), optional
        Test inputs and labels; both or neither.
    phi : array, shape (m, n), optional
        The teacher's features on ``x``.
    weights, signs : arrays, shapes (m, d) and (m,), optional
        The student's start; both or neither.
    name : str
        What the data are, for titles and messages.

    Raises
    ------
    ValueError
        For a shape that does not fit, numbers that are complex or not finite, and half a pair.

    Examples
    --------
    >>> import kdlib as kd
    >>> data = kd.datasets.circle()
    >>> data.name, data.x.shape, data.y.shape
    ('12 points on the circle', (12, 2), (12,))
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    phi: np.ndarray | None = None
    weights: np.ndarray | None = None
    signs: np.ndarray | None = None
    name: str = "data"

    def __post_init__(self) -> None:
        for one, other in (("x_test", "y_test"), ("weights", "signs")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                given, absent = (one, other) if getattr(self, other) is None else (other, one)
                raise ValueError(f"{self.name}: expected {one} and {other} together; got {given} without {absent}")
        sizes = {}
        for key, axes in _AXES.items():
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, _array(f"{self.name}: {key}", value, axes, sizes))

    def __repr__(self) -> str:
        test = "no test samples" if self.x_test is None else f"{len(self.x_test)} test samples"
        teacher = "" if self.phi is None else f", teacher of {len(self.phi)} units"
        return f"Dataset({self.name}: {len(self.x)} training samples, {test}, dimension {self.x.shape[1]}{teacher})"


# each axis by the letter of the book's notation; k counts test samples
_AXES = {"x": "nd", "y": "n", "x_test": "kd", "y_test": "k", "phi": "mn", "weights": "md", "signs": "m"}


def circle(n: int = 12) -> Dataset:
    r"""Points on the unit circle, +1 on its upper half and −1 on its lower half.

    .. math::
        \theta_i = 2\pi (i + 1/4) / N, \qquad x_i = (\cos\theta_i, \sin\theta_i), \qquad
        y_i = \mathrm{sign}(\sin\theta_i)

    with i = 0, …, n − 1 and N the smallest odd number that is at least n.  So no two points are antipodal
    (without a bias an odd activation forces f(−x) = −f(x)), none lies on the border between the labels,
    and for even n one place stays empty: there the student has to guess.

    Parameters
    ----------
    n : int
        The number of training points.

    Returns
    -------
    Dataset
        d = 2; the test inputs are 360 points around the whole circle, in order, for curves.

    Raises
    ------
    ValueError
        Unless n is a positive integer.

    Examples
    --------
    >>> import kdlib as kd
    >>> data = kd.datasets.circle(4)
    >>> data.x.round(2).tolist(), data.y.tolist(), data.x_test.shape
    ([[0.95, 0.31], [0.0, 1.0], [-0.95, 0.31], [-0.59, -0.81]], [1.0, 1.0, 1.0, -1.0], (360, 2))
    """
    n = _positive("n", n)
    angles = 2 * np.pi * (np.arange(n) + 0.25) / (n + 1 - n % 2)
    # half a degree off the border, where the sign would be a matter of rounding
    around = 2 * np.pi * (np.arange(360) + 0.5) / 360
    points = [np.stack([np.cos(angle), np.sin(angle)], axis=1) for angle in (angles, around)]
    return Dataset(
        points[0], np.sign(points[0][:, 1]), points[1], np.sign(points[1][:, 1]), name=f"{n} points on the circle"
    )


def digits(classes: Classes = (0, 1), *, train: int = 60, test: int | None = None, seed: int = 0) -> Dataset:
    """Handwritten digits, 8 × 8 pixels: the real images that ship with scikit-learn.

    A row is an image divided by its norm, so that its 64 entries are at least 0.

    Parameters
    ----------
    classes : pair
        The digits labelled −1 and the digits labelled +1, each one digit or several:
        ``(0, 1)``, or ``((0, 2, 4, 6, 8), (1, 3, 5, 7, 9))`` for even against odd.
    train : int
        The number n of training samples.
    test : int, optional
        The number of test samples; by default all images that are left.
    seed : int
        Which images come into which part; the same seed gives the same parts everywhere.

    Returns
    -------
    Dataset
        d = 64.  Training and test samples are disjoint.

    Raises
    ------
    ValueError
        For classes that are not two disjoint sets of digits, or more samples than there are images.

    References
    ----------
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Examples
    --------
    >>> import kdlib as kd
    >>> data = kd.datasets.digits((0, 1), train=40)
    >>> data.x.shape, data.x_test.shape, data.name
    ((40, 64), (320, 64), 'digits 0 against 1')
    """
    from sklearn.datasets import load_digits

    negative, positive = _classes(classes)
    images, targets = load_digits(return_X_y=True)
    kept = np.isin(targets, negative + positive)
    x, y = images[kept], np.where(np.isin(targets[kept], positive), 1.0, -1.0)
    train, left = _positive("train", train), len(x) - int(train)
    if left < 1:
        raise ValueError(f"train: expected at most {len(x) - 1}, one less than there are images; got {train}")
    test = left if test is None else _positive("test", test)
    if test > left:
        raise ValueError(f"test: expected at most {left}, the images left by train={train}; got {test}")
    order = np.random.default_rng(seed).permutation(len(x))
    first, second = order[:train], order[train : train + test]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    titles = ["".join(str(digit) for digit in part) for part in (negative, positive)]
    return Dataset(x[first], y[first], x[second], y[second], name="digits " + " against ".join(titles))


def gaussian(n: int, d: int, *, test: int = 200, seed: int = 0) -> Dataset:
    """Directions drawn uniformly from the sphere, labelled by the side of a plane on which they lie.

    Rows are Gaussian vectors divided by their norm; y = sign(x · u) with a direction u drawn likewise.

    Parameters
    ----------
    n, d : int
        Training samples and dimension.
    test : int
        The number of test samples.
    seed : int

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        Unless n, d and test are positive integers.

    Examples
    --------
    >>> import kdlib as kd
    >>> kd.datasets.gaussian(5, 3, test=2).x.shape
    (5, 3)
    """
    n, d, test = _positive("n", n), _positive("d", d), _positive("test", test)
    rows = np.random.default_rng(seed).standard_normal((1 + n + test, d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    x = rows[1:]
    y = np.where(x @ rows[0] >= 0, 1.0, -1.0)
    return Dataset(x[:n], y[:n], x[n:], y[n:], name=f"{n} Gaussian directions")


def flip(y: ArrayLike, count: int, *, seed: int = 0) -> np.ndarray:
    """Label noise: a copy of the labels, shape (n,), with ``count`` of them negated.

    Which ones is drawn once for a seed: those of a smaller count are among those of a larger one.

    Parameters
    ----------
    y : array, shape (n,)
        Labels.
    count : int
        How many to negate.
    seed : int

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        Unless count is an integer from 0 to n.

    Examples
    --------
    >>> import numpy as np, kdlib as kd
    >>> int(np.sum(kd.datasets.flip(np.ones(10), 3) == -1))
    3
    """
    y = _array("y", y, "n", {})
    count = _integer("count", count)
    if not 0 <= count <= len(y):
        raise ValueError(f"count: expected an integer from 0 to n={len(y)}; got {count}")
    noisy = y.copy()
    noisy[np.random.default_rng(seed).permutation(len(y))[:count]] *= -1
    return noisy


def load(path: str | Path) -> Dataset:
    """Read a reader's own data from a file, as they are: no row is scaled, no label changed.

    Parameters
    ----------
    path : str or path
        ``.npz``: the arrays ``x`` (n, d) and ``y`` (n,), and, as far as there are, ``x_test`` (k, d),
        ``y_test`` (k,), ``phi`` (m, n), ``weights`` (m, d), ``signs`` (m,); as ``numpy.savez`` writes them.
        ``.csv``: one sample a line, numbers only, no header; the last column is the label.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not what its name says.  The message has the file, what was expected, what came.
        Pickled objects are never unpacked.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np, kdlib as kd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "mine.npz"
    ...     np.savez(file, x=np.eye(2), y=np.array([1.0, -1.0]))
    ...     kd.datasets.load(file).y.tolist()
    [1.0, -1.0]
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: expected a file ending in .npz or .csv; got {path.suffix or 'no ending'!r}")
    if path.is_dir():
        raise ValueError(f"{path}: expected a file; got a folder")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return Dataset(**readers[path.suffix.lower()](path), name=str(path))


def _read_npz(path):
    if not zipfile.is_zipfile(path):
        came = "an empty file" if path.stat().st_size == 0 else "other content, or a file cut short"
        raise ValueError(f"{path}: expected an .npz archive, as numpy.savez writes it; got {came}")
    known = list(_AXES)
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        strange = sorted(set(keys) - set(known))
        if strange:
            raise ValueError(f"{path}: expected only the arrays {', '.join(known)}; got {', '.join(strange)}")
        for required in ("x", "y"):
            if required not in keys:
                raise ValueError(f"{path}: expected the arrays x and y; got {', '.join(keys) or 'none'}")
        for name, key in zip(archive.namelist(), keys, strict=True):
            try:
                with archive.open(name) as member:
                    arrays[key] = npy_format.read_array(member, allow_pickle=False)
            except (
                ValueError,
                EOFError,
                OSError,
                zipfile.BadZipFile,
                zlib.error,
                NotImplementedError,
                RuntimeError,
            ) as e:
                reason = "Python objects" if "Object arrays" in str(e) else f"one that cannot be read ({e})"
                raise ValueError(f"{path}: expected {key} to be an array of numbers; got {reason}") from e
    return arrays


def _read_csv(path):
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for line, cells in enumerate(csv.reader(file, strict=True), start=1):
                if not cells:
                    continue
                for cell in cells:
                    try:
                        float(cell)
                    except ValueError:
                        hint = "; remove the header" if line == 1 else ""
                        raise ValueError(f"{path}: expected numbers only; got {cell!r} in line {line}{hint}") from None
                if rows and len(cells) != len(rows[0]):
                    raise ValueError(
                        f"{path}: expected {len(rows[0])} columns in every line; got {len(cells)} in line {line}"
                    )
                rows.append([float(cell) for cell in cells])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected lines of comma-separated numbers; got other content ({error})") from error
    if not rows:
        raise ValueError(f"{path}: expected at least one line of numbers; got an empty file")
    if len(rows[0]) < 2:
        raise ValueError(f"{path}: expected at least two columns, the inputs and the label; got one")
    table = np.array(rows)
    return {"x": table[:, :-1], "y": table[:, -1]}


def _array(name, value, axes, sizes):
    """A read-only copy in double precision; ``sizes`` remembers the length of each axis seen so far."""
    expected = "(" + ", ".join(f"{a}={sizes[a]}" if a in sizes else a for a in axes) + ("," * (len(axes) == 1)) + ")"
    what = f"expected a real array of shape {expected}"
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {what}; got rows of unequal length") from error
    if array.dtype.kind not in "fiub":
        kind = "complex numbers" if array.dtype.kind == "c" else f"{array.dtype} values"
        raise ValueError(f"{name}: {what}; got {kind}")
    if array.ndim != len(axes) or any(sizes.get(a, size) != size for a, size in zip(axes, array.shape, strict=True)):
        raise ValueError(f"{name}: {what}; got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name}: {what} and at least one number; got shape {array.shape}")
    array = np.array(array, dtype=np.float64)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}: expected finite numbers; got {array[where]} at index {where}")
    sizes.update(zip(axes, array.shape, strict=True))
    array.setflags(write=False)
    return array


def _integer(name, value):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name}: expected an integer; got {value!r}")
    return int(value)


def _positive(name, value):
    if _integer(name, value) < 1:
        raise ValueError(f"{name}: expected a positive integer; got {value!r}")
    return int(value)


def _classes(classes):
    try:
        parts = [tuple(np.atleast_1d(part).tolist()) for part in classes]
    except (TypeError, ValueError):
        parts = []
    members = [digit for part in parts for digit in part]
    if len(parts) != 2 or not all(parts) or len(set(members)) != len(members) or not set(members) <= set(range(10)):
        raise ValueError(f"classes: expected a pair of digits, or of disjoint groups of digits; got {classes!r}")
    return parts
