"""What a reader takes from the pages works elsewhere: the notebooks, and the package that runs them."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from tests.browser.conftest import readers_environment
from tools import downloads, notebooks

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [path.stem for path in notebooks.chapters() if path.stem not in downloads.IN_THE_REPOSITORY]
SAMPLE = [("transfer", "http"), ("status", "file")]
REST = [(page, "file") for page in CHAPTERS if page not in dict(SAMPLE)]

RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
notebook.cells.insert(0, nbformat.v4.new_code_cell("import kdlib, sys; assert kdlib.__file__.startswith(sys.prefix)"))
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
del notebook.cells[0]
nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture(scope="module")
def wheel(book):
    return book / downloads.FOLDER / downloads.wheel_name(ROOT)


def bare(folder):
    """A Python with nothing: the pip of the tests installs into it."""
    venv.create(folder, with_pip=False)
    return folder / "bin/python"


def pip(python, *arguments):
    command = [sys.executable, "-m", "pip", "--python", python, "install", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python where kdlib is that of the wheel, and only the rest comes from the environment of the tests."""
    python = bare(tmp_path_factory.mktemp("elsewhere"))
    pip(python, "--no-index", "--no-deps", str(wheel))
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    Path(site.strip(), "environment.pth").write_text(sysconfig.get_path("purelib"))
    return python


def printed(notebook):
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def take(visit, page, origin, target):
    """Follow the link of the page. From a server the notebook is saved; from a disk a browser shows where it lies."""
    with visit(f"book/{page}", origin=origin) as tab:
        link = tab.get_by_role("link", name="Notebook", exact=True)
        if origin == "http":
            with tab.expect_download() as download:
                link.click()
            assert download.value.suggested_filename == target.name
            download.value.save_as(target)
        else:
            link.click()
            tab.wait_for_url(f"**/{target.name}")
            shutil.copy(unquote(urlsplit(tab.url).path), target)


def check_runs(visit, python, folder, page, origin):
    """The notebook of the page runs where nothing else lies, and prints what it printed in the book."""
    take(visit, page, origin, folder / f"{page}.ipynb")
    command = [python, "-c", RUN, f"{page}.ipynb", "again.ipynb"]
    run = subprocess.run(command, cwd=folder, env=readers_environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    taken, again = (nbformat.read(folder / name, as_version=4) for name in (f"{page}.ipynb", "again.ipynb"))
    assert any(cell.get("outputs") for cell in taken.cells)
    if page != "status":  # which says what machine it is
        assert printed(again) == printed(taken)


@pytest.mark.parametrize(("page", "origin"), SAMPLE)
def test_a_notebook_runs_elsewhere(visit, python, tmp_path, page, origin):
    check_runs(visit, python, tmp_path, page, origin)


@pytest.mark.verify
@pytest.mark.parametrize(("page", "origin"), REST)
def test_every_notebook_runs_elsewhere(visit, python, tmp_path, page, origin):
    check_runs(visit, python, tmp_path, page, origin)


def test_every_page_links_to_what_it_is_made_of(book):
    for source in sorted((book / "_sources/book").glob("*.md")):
        page = (book / f"book/{source.stem}.html").read_text()
        assert f'<a download href="../_sources/book/{source.name}">Source</a>' in page
        assert source.read_bytes() == (ROOT / f"book/{source.name}").read_bytes()
        has_notebook = f'<a download href="../{downloads.FOLDER}/{source.stem}.ipynb">Notebook</a>' in page
        assert has_notebook == (source.stem in CHAPTERS), source.stem


def test_the_wheel_is_the_package(wheel, tmp_path):
    tracked = subprocess.check_output(["git", "ls-files", "kdlib"], cwd=ROOT, text=True).split()
    assert tracked
    with zipfile.ZipFile(wheel) as archive:
        for name in tracked:
            assert archive.read(name) == (ROOT / name).read_bytes(), name
    assert downloads.write_wheel(ROOT, tmp_path).read_bytes() == wheel.read_bytes()  # the same, whenever it is built


@pytest.mark.verify
def test_the_wheel_brings_what_it_needs(wheel, tmp_path):
    """With its dependencies from the index: the one test that needs a network."""
    python = bare(tmp_path / "bare")
    pip(python, str(wheel))
    code = "import kdlib as kd; print(kd.widgets, kd.figures, kd.datasets.digits((0, 1), train=4).x.shape)"
    done = subprocess.run([python, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(4, 64)" in done.stdout
