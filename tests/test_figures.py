"""Figures: one file for both themes, the same file for the same figure, colours that can be told apart."""

import colorsys
import itertools
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest

from kdlib import figures

ROLES = {role: pair for role, pair in figures.THEMES.items() if role != "faint"}
PAGES = ("#ffffff", "#121212")  # what lies behind a figure in the light and in the dark theme


def draw():
    figures.use()
    figure, axes = plt.subplots()
    axes.plot([0, 1], [1, 0], color=figures.STUDENT)
    axes.plot([0, 1], [0, 1], color=figures.TEACHER)
    axes.set(xlabel="time", ylabel="error")
    svg = figures.to_svg(figure)
    plt.close(figure)
    return svg


def linear_rgb(colour):
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return linear_rgb(colour) @ [0.2126, 0.7152, 0.0722]


def contrast(first, second):
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_the_same_figure_is_the_same_file():
    assert draw() == draw()


def test_one_svg_holds_both_themes():
    svg = draw()
    ElementTree.fromstring(svg)
    for role in ("student", "teacher", "labels", "faint"):
        light, dark = figures.THEMES[role]
        assert svg.count(f"var(--{role})") >= 1
        assert svg.count(light) == svg.count(dark) == 1  # where the variable is set, and nowhere else
    assert svg.count("@media (prefers-color-scheme: dark)") == 1
    assert "http://www.w3.org" in svg and "<dc:date>" not in svg


def test_style_does_not_depend_on_what_was_set_before():
    expected = draw()
    plt.rcParams["lines.linewidth"] = 9
    plt.rcParams["axes.facecolor"] = "red"
    assert draw() == expected


@pytest.mark.parametrize("theme", (0, 1), ids=("light", "dark"))
def test_colours_stand_out_from_the_page(theme):
    for role, pair in ROLES.items():
        assert contrast(pair[theme], PAGES[theme]) >= 4.5, role


@pytest.mark.parametrize("theme", (0, 1), ids=("light", "dark"))
@pytest.mark.parametrize("missing", ("none", "red", "green"))
def test_colours_can_be_told_apart(theme, missing):
    # dichromats by Viénot, Brettel and Mollon's projection in linear RGB, distances in the Oklab space
    simulate = {
        "none": np.eye(3),
        "red": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        "green": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    }[missing]
    seen = {role: oklab(simulate @ linear_rgb(pair[theme])) for role, pair in ROLES.items()}
    for (first, a), (second, b) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(a - b) >= 0.11, (first, second)


def oklab(rgb):
    cones = np.array([[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]) @ rgb
    to_lab = np.array([[0.21045, 0.79362, -0.00407], [1.97800, -2.42859, 0.45059], [0.02590, 0.78277, -0.80868]])
    return to_lab @ np.cbrt(cones)


def test_hues_are_those_of_their_light_partner():
    for role, (light, dark) in ROLES.items():
        hues = [colorsys.rgb_to_hls(*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)))[0] for c in (light, dark)]
        assert role == "labels" or abs(hues[0] - hues[1]) < 0.06, role
