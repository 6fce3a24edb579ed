"""Image files in their real formats, in miniature, written by the test; and what is wrong with a reader's files."""

import gzip

import numpy as np
import pytest

import kdlib as kd
from kdlib import image_files

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def pictures(seed, count, shape):
    """Random images, none of them black, and their classes: each of the ten comes again and again."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (count, *shape), np.uint8), (np.arange(count) % 10).astype(np.uint8)


@pytest.fixture
def mnist_folder(tmp_path):
    for seed, part in enumerate(("train", "t10k")):
        images, labels = pictures(seed, 40 - 10 * seed, (28, 28))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


@pytest.fixture
def cifar_folder(tmp_path):
    for seed, name in enumerate(BATCHES):
        images, labels = pictures(seed, 20, (3072,))
        (tmp_path / name).write_bytes(np.concatenate([labels[:, None], images], axis=1).tobytes())
    return tmp_path


def expected_rows(images, labels, classes):
    kept = np.isin(labels, classes)
    rows = images[kept].reshape(kept.sum(), -1).astype(float)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels[kept]


def assert_same_samples(x, y, images, labels, positive, classes):
    """Every row is one of the images of its classes, with its label; no image comes twice."""
    rows, targets = expected_rows(images, labels, classes)
    found = [int(np.argmin(np.sum((rows - row) ** 2, axis=1))) for row in x]
    np.testing.assert_allclose(x, rows[found], atol=1e-15)
    np.testing.assert_array_equal(y, np.where(np.isin(targets[found], positive), 1.0, -1.0))
    assert len(set(found)) == len(x)


def test_mnist_rows_and_labels_are_those_of_the_files(mnist_folder):
    data = image_files.mnist(mnist_folder, (3, (5, 7)), train=9)
    assert data.x.shape == (9, 784) and data.x_test.shape == (9, 784)
    assert_same_samples(data.x, data.y, *pictures(0, 40, (28, 28)), (5, 7), (3, 5, 7))
    assert_same_samples(data.x_test, data.y_test, *pictures(1, 30, (28, 28)), (5, 7), (3, 5, 7))
    assert repr(data) == "Dataset(MNIST 3 against 57: 9 training samples, 9 test samples, dimension 784)"


def test_cifar_rows_and_labels_are_those_of_the_files(cifar_folder):
    data = kd.image_files.cifar10(str(cifar_folder), (0, 9), train=20, test=3)
    assert data.x.shape == (20, 3072) and data.x_test.shape == (3, 3072)
    batches = [pictures(seed, 20, (3072,)) for seed in range(5)]
    images, labels = (np.concatenate(parts) for parts in zip(*batches))
    assert_same_samples(data.x, data.y, images, labels, (9,), (0, 9))
    assert_same_samples(data.x_test, data.y_test, *pictures(5, 20, (3072,)), (9,), (0, 9))


def test_the_seed_decides_which_images_are_drawn(cifar_folder):
    one, same, other = (image_files.cifar10(cifar_folder, train=8, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.x, same.x)
    assert not np.array_equal(one.x, other.x)


def test_a_student_learns_from_them(mnist_folder):
    import jax

    data = image_files.mnist(mnist_folder, train=8)
    student = kd.TwoLayerNetwork.init(jax.random.key(0), 20, data.x.shape[1])
    problem = kd.TransferProblem(student, data.x, data.y, None, lam=0)
    np.testing.assert_allclose(kd.fixed_point(problem).outputs, data.y, atol=1e-8)


@pytest.mark.parametrize("name", IDX)
def test_a_missing_mnist_file_is_named_with_its_folder(mnist_folder, name):
    for path in mnist_folder.glob(name + "*"):
        path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        image_files.mnist(mnist_folder)
    assert str(mnist_folder) in str(error.value) and f"{name} or {name}.gz" in str(error.value)


def test_missing_cifar_files_are_all_named(cifar_folder):
    for name in BATCHES[1:3]:
        (cifar_folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_2.bin and data_batch_3.bin in this folder$"):
        image_files.cifar10(cifar_folder)


def test_the_python_version_of_cifar_is_recognised(tmp_path):
    (tmp_path / "test_batch").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match=r"the binary version is needed"):
        image_files.cifar10(tmp_path)


@pytest.mark.parametrize("read", [image_files.mnist, image_files.cifar10])
def test_no_folder(read, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder .*; got no such folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"got a file"):
        read(tmp_path / "file")


def test_an_idx_file_of_another_kind(mnist_folder):
    (mnist_folder / IDX[0]).write_bytes(idx(np.zeros(5, np.uint8)) + bytes(8))
    with pytest.raises(
        ValueError, match=r"images-idx3-ubyte: expected an IDX file of images, .*00000803; got 00000801"
    ):
        image_files.mnist(mnist_folder)
    (mnist_folder / IDX[0]).write_bytes(b"")
    with pytest.raises(ValueError, match=r"00000803; got an empty file"):
        image_files.mnist(mnist_folder)


@pytest.mark.parametrize("kept", [100, -1])
def test_a_file_cut_short(mnist_folder, kept):
    path = mnist_folder / IDX[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"expected 31360 bytes after the header, images of shape \(40, 28, 28\); got"):
        image_files.mnist(mnist_folder)


def test_a_gzipped_file_cut_short(mnist_folder):
    path = mnist_folder / f"{IDX[1]}.gz"
    for content in (path.read_bytes()[:-12], b"not gzipped"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"labels-idx1-ubyte.gz: expected a gzipped file; got other content"):
            image_files.mnist(mnist_folder)


def test_a_cifar_file_cut_short(cifar_folder):
    path = cifar_folder / BATCHES[2]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: expected rows of 3073 bytes, .*; got 61455 bytes"):
        image_files.cifar10(cifar_folder)


def test_labels_that_do_not_fit(mnist_folder):
    (mnist_folder / f"{IDX[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(39, np.uint8))))
    with pytest.raises(ValueError, match=r"expected 40 labels, one for each image of .*; got 39"):
        image_files.mnist(mnist_folder)
    (mnist_folder / f"{IDX[1]}.gz").write_bytes(gzip.compress(idx(np.full(40, 12, np.uint8))))
    with pytest.raises(ValueError, match=r"expected classes from 0 to 9; got 12 at image 0"):
        image_files.mnist(mnist_folder)


def test_images_that_do_not_fit(mnist_folder):
    images, _ = pictures(1, 30, (14, 14))
    (mnist_folder / IDX[2]).write_bytes(idx(images))
    with pytest.raises(ValueError, match=r"expected training and test images of one size; got 784 and 196 pixels"):
        image_files.mnist(mnist_folder, train=8)
    (mnist_folder / IDX[0]).write_bytes(idx(np.zeros((40, 28, 28), np.uint8)))
    with pytest.raises(ValueError, match=r"expected images that are not all black; train image"):
        image_files.mnist(mnist_folder, train=8)


@pytest.mark.parametrize("classes", [(0, 0), (0, 10), (1,), "ab"])
def test_wrong_classes(mnist_folder, classes):
    with pytest.raises(ValueError, match=r"classes: expected a pair of digits"):
        image_files.mnist(mnist_folder, classes, train=2)


def test_more_samples_than_images(mnist_folder):
    with pytest.raises(ValueError, match=r"train: expected at most 8, the train images of these classes; got 9"):
        image_files.mnist(mnist_folder, train=9)
    with pytest.raises(ValueError, match=r"test: expected at most 6, the test images of these classes; got 7"):
        image_files.mnist(mnist_folder, train=8, test=7)
    with pytest.raises(ValueError, match=r"train: expected a positive integer; got 0"):
        image_files.mnist(mnist_folder, train=0)
