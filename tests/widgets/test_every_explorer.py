"""What every explorer keeps to, whatever it shows. What each one shows is tested in the file of its chapter.

The chapter's file runs these tests, too, on the same explorer: computing its table takes most of their time.
"""

import base64
import html
import importlib
import inspect
import re

import numpy as np
import pytest
from numpy.polynomial import polynomial

import kdlib as kd
from kdlib.explorer import Grid, Smooth

FACTORIES = sorted(name for name in kd.widgets.__all__ if name.endswith("_explorer"))


def ends(parameter):
    return (0.0, parameter.maximum) if isinstance(parameter, Smooth) else (parameter.values[0], parameter.values[-1])


def drawn(explorer):
    """Every field that a view draws, at the current parameters."""
    layers = [layer for view in explorer._spec["views"] for layer in view["layers"]]
    return {layer[axis]: explorer.value(layer[axis]) for layer in layers for axis in ("x", "y", "y2") if axis in layer}


class EveryExplorer:
    """Tests of the fixture ``explorer``. A subclass stands before the other tests of its file, which move it."""

    @pytest.fixture(autouse=True)
    def at_the_start(self, explorer):
        start = {p.name: getattr(explorer, p.name) for p in explorer.parameters}
        yield
        for name, value in start.items():
            setattr(explorer, name, value)

    def test_it_is_that_of_its_chapter(self, explorer, request):
        assert type(explorer).__module__ == f"kdlib.widgets.{request.path.stem.removeprefix('test_')}"

    def test_a_page_carries_at_most_250_kilobytes(self, explorer):
        assert len(base64.b64encode(explorer._table)) <= 250_000

    def test_it_begins_on_its_grid(self, explorer):
        """The page has no kernel: what stands there first must be in the table."""
        assert explorer._live == {}
        for parameter in explorer.parameters:
            if isinstance(parameter, Grid):
                assert list(parameter.values) == sorted(set(parameter.values))
                assert set(parameter.ticks) <= set(parameter.values)
                assert len(parameter.names) in (0, len(parameter.values))

    def test_every_slider_moves_what_is_drawn_and_what_is_said(self, explorer):
        for parameter in explorer.parameters:
            shapes, words = [], []
            for value in ends(parameter):
                setattr(explorer, parameter.name, value)
                shapes.append(drawn(explorer))
                words.append(explorer.sentence)
            moved = [name for name in shapes[0] if not np.array_equal(shapes[0][name], shapes[1][name], equal_nan=True)]
            assert moved, parameter.name
            assert words[0] != words[1], parameter.name

    def test_all_that_it_says_is_filled_in(self, explorer):
        for parameter in explorer.parameters:
            for value in ends(parameter):
                setattr(explorer, parameter.name, value)
                assert not re.search(r"[{}]|nan|None", explorer.sentence), explorer.sentence
                cells = [name for row in explorer._spec["readout"]["rows"] for name in row["fields"]]
                assert all(explorer._text(name) for name in cells if name in explorer._fields)

    def test_the_read_out_is_the_legend_of_all_that_is_drawn(self, explorer):
        rows = explorer._spec["readout"]["rows"]
        named = {(row["color"], row.get("symbol")) for row in rows} | {(row["color"], None) for row in rows}
        for view in explorer._spec["views"]:
            for layer in view["layers"]:
                assert layer["color"] == "faint" or (layer["color"], layer.get("symbol")) in named, layer
        assert all(len(row["fields"]) == len(explorer._spec["readout"]["columns"]) for row in rows)

    def test_one_point_alone_is_the_row_of_the_table(self, explorer):
        """A live kernel computes one point, the page looks it up: both show the same."""
        grid = [p for p in explorer.parameters if isinstance(p, Grid)]
        for which in (0, -1):
            point = {p.name: p.values[which] for p in grid}
            for name, value in point.items():
                setattr(explorer, name, value)
            fields = explorer.curves(**{name: np.array([value]) for name, value in point.items()})
            for name, field in fields.items():
                block = np.asarray(field)[0]
                smooth = next((p for p in explorer.parameters if isinstance(p, Smooth)), None)
                alone = block if smooth is None else polynomial.polyval(getattr(explorer, smooth.name), block)
                np.testing.assert_allclose(explorer.value(name), np.ravel(alone), rtol=1e-4, atol=1e-6, err_msg=name)

    def test_a_value_out_of_range_is_refused_and_changes_nothing(self, explorer):
        for parameter in explorer.parameters:
            before = getattr(explorer, parameter.name)
            for bad in (np.nan, -1e9):
                with pytest.raises(ValueError, match=rf"^{parameter.name}: expected .*; got {bad}$"):
                    setattr(explorer, parameter.name, bad)
            assert getattr(explorer, parameter.name) == before

    def test_its_controls_move_it(self, explorer):
        for parameter, control in zip(explorer.parameters, explorer.controls().children, strict=True):
            for value in ends(parameter):
                control.value = value
                assert getattr(explorer, parameter.name) == value

    def test_it_displays_with_a_picture_for_pages_without_scripts(self, explorer):
        data, _ = explorer._repr_mimebundle_()
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
        assert explorer.model_id in data["text/html"]
        assert explorer.sentence in html.unescape(data["text/html"])
        picture = base64.b64decode(re.search(r'base64,([^"]+)"', data["text/html"])[1]).decode()
        assert "<svg" in picture
        assert all(view["description"].endswith(".") for view in explorer._spec["views"])
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_file_of_its_chapter_runs_them_first(factory):
    module = importlib.import_module(f"tests.widgets.test_{factory.removesuffix('_explorer')}")
    first = next(value for name, value in vars(module).items() if name.startswith(("test_", "Test")))
    assert inspect.isclass(first) and issubclass(first, EveryExplorer)
