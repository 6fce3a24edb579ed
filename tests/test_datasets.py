"""The data sets are what their docstrings say, and a file that is not what it says is refused."""

import io
import zipfile
from itertools import pairwise

import numpy as np
import pytest

from kdlib import datasets

BUILT_IN = {
    "circle": lambda: datasets.circle(12),
    "odd circle": lambda: datasets.circle(7),
    "digits": lambda: datasets.digits(),
    "even against odd": lambda: datasets.digits(((0, 2, 4, 6, 8), (1, 3, 5, 7, 9)), train=400),
    "gaussian": lambda: datasets.gaussian(20, 10),
}


@pytest.mark.parametrize("make", BUILT_IN.values(), ids=BUILT_IN.keys())
def test_rows_have_norm_one_and_labels_are_signs(make):
    data = make()
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        assert x.dtype == y.dtype == np.float64 and len(x) == len(y)
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-14)
        assert set(np.unique(y)) == {-1.0, 1.0}


@pytest.mark.parametrize("make", BUILT_IN.values(), ids=BUILT_IN.keys())
def test_the_same_call_gives_the_same_data(make):
    first, second = make(), make()
    for key in ("x", "y", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))


@pytest.mark.parametrize("n", [1, 2, 7, 12, 13, 50])
def test_no_two_points_of_the_circle_are_equal_or_antipodal(n):
    x = datasets.circle(n).x
    cosines = np.abs(x @ x.T) - np.eye(n)
    assert cosines.max() < 1 - 1e-4
    # none on the border between the labels
    assert np.abs(x[:, 1]).min() > 1e-3


def test_the_circle_leaves_one_place_empty():
    x = datasets.circle(12).x
    angles = np.unwrap(np.arctan2(x[:, 1], x[:, 0]))
    gaps = np.diff([*angles, angles[0] + 2 * np.pi])
    np.testing.assert_allclose(gaps[:-1], 2 * np.pi / 13)
    np.testing.assert_allclose(gaps[-1], 4 * np.pi / 13)


def test_the_test_points_of_the_circle_run_once_around_it():
    x = datasets.circle().x_test
    np.testing.assert_allclose(np.diff(np.unwrap(np.arctan2(x[:, 1], x[:, 0]))), 2 * np.pi / 360)


def test_digits_are_the_images_of_scikit_learn():
    from sklearn.datasets import load_digits

    images = load_digits()
    data = datasets.digits((3, 8), train=100)
    assert len(data.x) + len(data.x_test) == np.isin(images.target, (3, 8)).sum()
    rows = {
        tuple(np.round(row / np.linalg.norm(row), 12)): target
        for row, target in zip(images.data, images.target, strict=True)
    }
    for x, y in zip([*data.x, *data.x_test], [*data.y, *data.y_test], strict=True):
        assert rows[tuple(np.round(x, 12))] == (8 if y > 0 else 3)


def test_training_and_test_digits_are_disjoint_and_follow_the_seed():
    data = datasets.digits(train=60)
    assert not {row.tobytes() for row in data.x} & {row.tobytes() for row in data.x_test}
    assert len(datasets.digits(train=60, test=100).x_test) == 100
    assert not np.array_equal(datasets.digits(seed=1).x, data.x)


def test_a_data_set_cannot_be_changed():
    data = datasets.circle()
    with pytest.raises(ValueError, match="read-only"):
        data.x[0] = 0
    with pytest.raises(AttributeError):
        data.y = None


def test_a_data_set_keeps_a_copy():
    x, y = np.eye(2), np.ones(2)
    data = datasets.Dataset(x, y)
    x[0] = 7
    assert data.x[0, 0] == 1 and x.flags.writeable


def test_a_data_set_prints_its_sizes():
    assert repr(datasets.digits(train=60, test=100)) == (
        "Dataset(digits 0 against 1: 60 training samples, 100 test samples, dimension 64)"
    )


def test_flipped_labels_are_nested_in_the_count():
    y = datasets.circle().y
    wrong = [set(np.flatnonzero(datasets.flip(y, count, seed=3) != y)) for count in range(13)]
    assert [len(part) for part in wrong] == list(range(13))
    assert all(small <= large for small, large in pairwise(wrong))
    assert wrong[4] != set(np.flatnonzero(datasets.flip(y, 4, seed=4) != y))


ARRAYS = {
    "x": np.arange(6.0).reshape(3, 2),
    "y": np.array([1, -1, 1]),
    "x_test": np.ones((4, 2)),
    "y_test": np.ones(4),
    "phi": np.zeros((5, 3)),
    "weights": np.ones((5, 2)),
    "signs": np.ones(5),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_comes_back_as_it_was(tmp_path, write):
    write(tmp_path / "mine.npz", **ARRAYS)
    data = datasets.load(tmp_path / "mine.npz")
    for key, value in ARRAYS.items():
        np.testing.assert_array_equal(getattr(data, key), value)
    assert "teacher of 5 units" in repr(data)


def test_an_npz_needs_inputs_and_labels_only(tmp_path):
    np.savez(tmp_path / "mine.npz", x=ARRAYS["x"], y=ARRAYS["y"])
    data = datasets.load(str(tmp_path / "mine.npz"))
    assert data.phi is data.weights is data.signs is data.x_test is data.y_test is None


@pytest.mark.parametrize("text", ["1,2,3\n4,5,-6\n", "\ufeff1, 2 ,3\r\n\r\n4,5,-6", '"1",2e0,3\n4,5,-6'])
def test_a_csv_has_the_label_last(tmp_path, text):
    (tmp_path / "mine.CSV").write_bytes(text.encode())
    data = datasets.load(tmp_path / "mine.CSV")
    np.testing.assert_array_equal(data.x, [[1, 2], [4, 5]])
    np.testing.assert_array_equal(data.y, [3, -6])


def npz(**changes):
    """Bytes of an .npz that differs from a good one; None leaves an array out."""
    buffer = io.BytesIO()
    np.savez(buffer, **{key: value for key, value in (ARRAYS | changes).items() if value is not None})
    return buffer.getvalue()


def archive(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name + ".npy", content)
    return buffer.getvalue()


def corrupt():
    content = bytearray(npz())
    # inside the numbers of the first array: the archive's own checksum must notice
    content[len(b"PK") + 150] ^= 0xFF
    return bytes(content)


NOT_WHAT_IT_SAYS = {
    "wrong ending": ("mine.txt", b"1,2\n", r"expected a file ending in \.npz or \.csv; got '\.txt'"),
    "no ending": ("mine", b"1,2\n", r"expected a file ending in \.npz or \.csv; got 'no ending'"),
    "npy": ("mine.npy", b"", r"expected a file ending in \.npz or \.csv; got '\.npy'"),
    "empty npz": ("mine.npz", b"", r"expected an \.npz archive, as numpy\.savez writes it; got an empty file"),
    "text in npz": ("mine.npz", b"1,2\n", r"expected an \.npz archive, .*; got other content, or a file cut short"),
    "cut npz": ("mine.npz", npz()[:-40], r"expected an \.npz archive, .*; got other content, or a file cut short"),
    "corrupt npz": ("mine.npz", corrupt(), r"expected x to be an array of numbers; got one that cannot be read"),
    "not an array": ("mine.npz", archive(x=b"PICKLE", y=b""), r"expected x to be an array of numbers; got one that"),
    "no array": ("mine.npz", archive(), r"expected the arrays x and y; got none"),
    "no labels": ("mine.npz", npz(y=None), r"expected the arrays x and y; got x, x_test, y_test, phi, weights, signs"),
    "unknown array": ("mine.npz", npz(phis=np.ones(3)), r"expected only the arrays x, y, .*; got phis"),
    "objects": ("mine.npz", npz(y=np.array([1, None, 2])), r"expected y to be an array of numbers; got Python objects"),
    "strings": ("mine.npz", npz(y=np.array(["1", "2", "3"])), r"y: expected a real array of shape \(n=3,\); got <U1"),
    "complex": (
        "mine.npz",
        npz(x=ARRAYS["x"] * 1j),
        r"x: expected a real array of shape \(n, d\); got complex numbers",
    ),
    "nan": ("mine.npz", npz(y=np.array([1, np.nan, 1])), r"y: expected finite numbers; got nan at index \(1,\)"),
    "inf": ("mine.npz", npz(phi=np.full((5, 3), -np.inf)), r"phi: expected finite numbers; got -inf at index \(0, 0\)"),
    "flat inputs": ("mine.npz", npz(x=np.ones(3)), r"x: expected a real array of shape \(n, d\); got shape \(3,\)"),
    "no samples": ("mine.npz", npz(x=np.ones((0, 2))), r"x: .* and at least one number; got shape \(0, 2\)"),
    "labels short": ("mine.npz", npz(y=np.ones(2)), r"y: expected a real array of shape \(n=3,\); got shape \(2,\)"),
    "labels in a column": ("mine.npz", npz(y=np.ones((3, 1))), r"y: .* \(n=3,\); got shape \(3, 1\)"),
    "other dimension": ("mine.npz", npz(x_test=np.ones((4, 3))), r"x_test: .* \(k, d=2\); got shape \(4, 3\)"),
    "phi turned": ("mine.npz", npz(phi=np.ones((3, 5))), r"phi: .* \(m, n=3\); got shape \(3, 5\)"),
    "other width": ("mine.npz", npz(weights=np.ones((4, 2))), r"weights: .* \(m=5, d=2\); got shape \(4, 2\)"),
    "half a test": ("mine.npz", npz(y_test=None), r"expected x_test and y_test together; got x_test without y_test"),
    "half a start": ("mine.npz", npz(weights=None), r"expected weights and signs together; got signs without weights"),
    "empty csv": ("mine.csv", b"\n\n", r"expected at least one line of numbers; got an empty file"),
    "header": ("mine.csv", b"a,b,y\n1,2,3\n", r"expected numbers only; got 'a' in line 1; remove the header"),
    "word": ("mine.csv", b"1,2\n3,x\n", r"expected numbers only; got 'x' in line 2$"),
    "empty cell": ("mine.csv", b"1,2\n,1\n", r"expected numbers only; got '' in line 2$"),
    "ragged": ("mine.csv", b"1,2,3\n4,5\n", r"expected 3 columns in every line; got 2 in line 2"),
    "one column": ("mine.csv", b"1\n2\n", r"expected at least two columns, the inputs and the label; got one"),
    "nan in csv": ("mine.csv", b"1,2\nnan,1\n", r"x: expected finite numbers; got nan at index \(1, 0\)"),
    "complex csv": ("mine.csv", b"1+2j,1\n", r"expected numbers only; got '1\+2j' in line 1"),
    "binary csv": ("mine.csv", b"\xff\xfe\x00\x80", r"expected lines of comma-separated numbers; got other content"),
    "npz as csv": ("mine.csv", npz(), r"expected lines of comma-separated numbers; got other content"),
    "open quote": ("mine.csv", b'"1,2\n3,4\n', r"expected lines of comma-separated numbers; got other content"),
}


@pytest.mark.parametrize(("name", "content", "message"), NOT_WHAT_IT_SAYS.values(), ids=NOT_WHAT_IT_SAYS.keys())
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_folder_or_nothing_is_no_file(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ValueError, match="expected a file; got a folder"):
        datasets.load(tmp_path / "folder.npz")
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz: no such file"):
        datasets.load(tmp_path / "nothing.npz")


def test_pickled_objects_are_not_unpacked(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "mine.npz", x=np.array([[Trap()]], dtype=object), y=np.ones(1))
    with pytest.raises(ValueError, match="expected x to be an array of numbers; got Python objects"):
        datasets.load(tmp_path / "mine.npz")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.circle(0), "n: expected a positive integer; got 0"),
        (lambda: datasets.circle(2.5), "n: expected an integer; got 2.5"),
        (lambda: datasets.gaussian(3, -1), "d: expected a positive integer; got -1"),
        (lambda: datasets.gaussian(3, 2, test=0), "test: expected a positive integer; got 0"),
        (lambda: datasets.digits((0, 10)), r"classes: expected a pair of digits, .*; got \(0, 10\)"),
        (lambda: datasets.digits((1, 1)), r"classes: expected a pair of digits, .*; got \(1, 1\)"),
        (lambda: datasets.digits(((0, 1), (1, 2))), "classes: expected a pair of digits"),
        (lambda: datasets.digits((0, 1, 2)), "classes: expected a pair of digits"),
        (lambda: datasets.digits((0, ())), "classes: expected a pair of digits"),
        (lambda: datasets.digits(7), "classes: expected a pair of digits, .*; got 7"),
        (lambda: datasets.digits(train=0), "train: expected a positive integer; got 0"),
        (lambda: datasets.digits(train="many"), "train: expected an integer; got 'many'"),
        (lambda: datasets.digits(train=360), "train: expected at most 359, one less than there are images; got 360"),
        (
            lambda: datasets.digits(train=60, test=301),
            "test: expected at most 300, the images left by train=60; got 301",
        ),
        (lambda: datasets.flip(np.ones(3), 4), "count: expected an integer from 0 to n=3; got 4"),
        (lambda: datasets.flip(np.ones(3), 0.5), "count: expected an integer; got 0.5"),
        (lambda: datasets.flip([1, np.nan], 1), r"y: expected finite numbers; got nan at index \(1,\)"),
        (lambda: datasets.Dataset([[1, 2], [3]], [1, 2]), r"x: expected a real array of shape \(n, d\); got rows of"),
    ],
)
def test_a_malformed_call_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
