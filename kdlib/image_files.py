"""A reader's own MNIST or CIFAR-10, from the files that their authors distribute.

Nothing is downloaded: a reader names the folder. Rows and labels are as in :mod:`kdlib.datasets`, rows of norm 1 and
labels ±1, so that every experiment on the digits of scikit-learn runs on these images unchanged.

Book: chapter *Experiments*.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from kdlib.datasets import Classes, Dataset, _classes, _integer, _positive

__all__ = ["cifar10", "mnist"]

_IDX_MAGIC = {"images": 0x803, "labels": 0x801}  # unsigned bytes in 3 dimensions and in 1
_CIFAR_ROW = 1 + 3 * 32 * 32  # a label, then the red, green and blue pixels


def mnist(
    folder: str | Path,
    classes: Classes = (0, 1),
    *,
    train: int = 400,
    test: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Handwritten digits, 28 × 28 pixels, from the four IDX files of MNIST, gzipped or not.

    Looks in ``folder`` for ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
    ``t10k-labels-idx1-ubyte``, each with or without ``.gz``. Files of the same format and names with other images,
    such as Fashion-MNIST's, are read as well.

    Parameters
    ----------
    folder : str or path
        Where the four files lie.
    classes : pair
        The classes labelled -1 and those labelled +1, each one number from 0 to 9 or several.
    train : int
        The number n of training samples, drawn from the training files.
    test : int, optional
        The number of test samples, drawn from the test files; by default all of these classes.
    seed : int
        Which images are drawn.

    Returns
    -------
    Dataset
        d = 784 pixels; each row is an image divided by its norm.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message has the names and the folder.
    ValueError
        If a file is not what its name says or is cut short, if classes are not two disjoint sets of classes, or if
        more samples are wanted than there are images.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner, *Gradient-based learning applied to document recognition*, Proc. IEEE 86, 1998.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, kdlib as kd
    >>> with tempfile.TemporaryDirectory() as folder:  # four images of 1 × 2 pixels, in the files' own format
    ...     for part in ("train", "t10k"):
    ...         images = bytes([0, 0, 8, 3]) + np.array([4, 1, 2], ">i4").tobytes() + bytes([9, 0, 0, 9, 9, 0, 0, 9])
    ...         labels = bytes([0, 0, 8, 1]) + np.array([4], ">i4").tobytes() + bytes([0, 1, 0, 1])
    ...         _ = pathlib.Path(folder, f"{part}-images-idx3-ubyte").write_bytes(images)
    ...         _ = pathlib.Path(folder, f"{part}-labels-idx1-ubyte").write_bytes(labels)
    ...     print(kd.image_files.mnist(folder, (0, 1), train=2))
    Dataset(MNIST 0 against 1: 2 training samples, 4 test samples, dimension 2)
    """
    folder = _folder(folder)
    parts = [_idx_pair(folder, part) for part in ("train", "t10k")]
    return _dataset("MNIST", parts, classes, train, test, seed)


def cifar10(
    folder: str | Path,
    classes: Classes = (0, 1),
    *,
    train: int = 400,
    test: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Photographs, 32 × 32 pixels in three colours, from the six files of CIFAR-10's binary version.

    Looks in ``folder`` for ``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``. The classes 0 to 9 are
    airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.

    Parameters
    ----------
    folder : str or path
        Where the six files lie, usually ``cifar-10-batches-bin``.
    classes : pair
        The classes labelled -1 and those labelled +1, each one number from 0 to 9 or several.
    train : int
        The number n of training samples, drawn from the five training files.
    test : int, optional
        The number of test samples, drawn from the test file; by default all of these classes.
    seed : int
        Which images are drawn.

    Returns
    -------
    Dataset
        d = 3072, the red, then the green, then the blue pixels; each row is an image divided by its norm.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message has the names and the folder.
    ValueError
        If a file is not what its name says or is cut short, if classes are not two disjoint sets of classes, or if
        more samples are wanted than there are images.

    References
    ----------
    Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, technical report, 2009.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, kdlib as kd
    >>> with tempfile.TemporaryDirectory() as folder:  # two images a file, in the files' own format
    ...     for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
    ...         _ = pathlib.Path(folder, f"{name}.bin").write_bytes(bytes([0] + [7] * 3072 + [8] + [5] * 3072))
    ...     print(kd.image_files.cifar10(folder, (0, 8), train=6))
    Dataset(CIFAR-10 0 against 8: 6 training samples, 2 test samples, dimension 3072)
    """
    folder = _folder(folder)
    names = [[f"data_batch_{i}.bin" for i in range(1, 6)], ["test_batch.bin"]]
    missing = [name for part in names for name in part if not (folder / name).is_file()]
    if missing:
        other = any((folder / name.removesuffix(".bin")).is_file() for name in missing)
        hint = "; it holds the Python version, the binary version is needed" if other else ""
        raise FileNotFoundError(f"{folder}: expected the file {_listing(missing)} in this folder{hint}")
    parts = []
    for part in names:
        rows = np.concatenate([_cifar_rows(folder / name) for name in part])
        parts.append((rows[:, 1:], rows[:, 0]))
    return _dataset("CIFAR-10", parts, classes, train, test, seed)


def _folder(folder):
    folder = Path(folder)
    if not folder.is_dir():
        came = "a file" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: expected a folder with the image files; got {came}")
    return folder


def _listing(names):
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _idx_pair(folder, part):
    """Images, one row each, and their classes."""
    images, where = _idx(folder, f"{part}-images-idx3-ubyte", "images")
    labels, labels_at = _idx(folder, f"{part}-labels-idx1-ubyte", "labels")
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_at}: expected {len(images)} labels, one for each image of {where}; got {len(labels)}"
        )
    _check_classes(labels_at, labels)
    return images.reshape(len(images), -1), labels


def _idx(folder, name, what):
    """The array in an IDX file, gzipped or not, and the file's path."""
    candidates = [folder / name, folder / f"{name}.gz"]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder}: expected the file {name} or {name}.gz in this folder; got neither")
    raw = path.read_bytes()
    if path.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: expected a gzipped file; got other content, or a file cut short") from error
    ndim = _IDX_MAGIC[what] & 0xFF
    header = np.frombuffer(raw[: 4 * (1 + ndim)], ">u4") if len(raw) >= 4 * (1 + ndim) else np.zeros(1, int)
    if header[0] != _IDX_MAGIC[what]:
        raise ValueError(
            f"{path}: expected an IDX file of {what}, which starts with {_IDX_MAGIC[what].to_bytes(4, 'big').hex()}; "
            f"got {raw[:4].hex() or 'an empty file'}"
        )
    shape = tuple(int(size) for size in header[1:])
    expected, came = int(np.prod(shape)), len(raw) - 4 * (1 + ndim)
    if came != expected or expected == 0:
        raise ValueError(f"{path}: expected {expected} bytes after the header, {what} of shape {shape}; got {came}")
    return np.frombuffer(raw, np.uint8, offset=4 * (1 + ndim)).reshape(shape), path


def _cifar_rows(path):
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % _CIFAR_ROW:
        raise ValueError(
            f"{path}: expected rows of {_CIFAR_ROW} bytes, a class and 3072 pixels; "
            f"got {raw.size} bytes, which is no multiple of it"
        )
    rows = raw.reshape(-1, _CIFAR_ROW)
    _check_classes(path, rows[:, 0])
    return rows


def _check_classes(path, labels):
    if (labels > 9).any():
        at = int(np.argmax(labels > 9))
        raise ValueError(f"{path}: expected classes from 0 to 9; got {labels[at]} at image {at}")


def _dataset(name, parts, classes, train, test, seed):
    """Images of the classes, drawn at random from the training and from the test part."""
    negative, positive = _classes(classes)
    rng = np.random.default_rng(_integer("seed", seed))
    drawn = []
    for part, count, (images, targets) in zip(("train", "test"), (train, test), parts, strict=True):
        kept = np.flatnonzero(np.isin(targets, negative + positive))
        count = len(kept) if count is None else _positive(part, count)
        if not 0 < count <= len(kept):
            raise ValueError(f"{part}: expected at most {len(kept)}, the {part} images of these classes; got {count}")
        chosen = rng.permutation(kept)[:count]
        rows = images[chosen].astype(np.float64)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if (norms == 0).any():
            black = int(chosen[np.argmin(norms)])
            raise ValueError(
                f"{name}: expected images that are not all black; {part} image {black} is, with no direction"
            )
        drawn += [rows / norms, np.where(np.isin(targets[chosen], positive), 1.0, -1.0)]
    if drawn[0].shape[1] != drawn[2].shape[1]:
        sizes = " and ".join(str(drawn[i].shape[1]) for i in (0, 2))
        raise ValueError(f"{name}: expected training and test images of one size; got {sizes} pixels")
    titles = ["".join(str(one) for one in part) for part in (negative, positive)]
    return Dataset(*drawn, name=f"{name} " + " against ".join(titles))
