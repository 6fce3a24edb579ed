"""The mechanism of the explorers: numbers as text, parameters that check themselves, words and counts."""

import pytest

from kdlib import explorer as mechanism
from kdlib import views


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "<\u00a010⁻⁶"),
        (3e-7, "<\u00a010⁻⁶"),
        (1.234e-5, "1.23·10⁻⁵"),
        (0.5, "0.500"),
        (12.34, "12.3"),
        (123.4, "123"),
        (-1.5, "−1.50"),
        (4321.0, "4.32·10³"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert mechanism._format(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (7.0, "7"), (12345.0, "12345"), (2e7, "2.00·10⁷")])
def test_counts_stand_in_full(value, text):
    assert mechanism._format(value, whole=True) == text


def test_a_parameter_with_names_takes_its_own_values_only():
    choice = mechanism.Grid("teacher", "teacher", "teacher", (0.0, 1.0), (0.0, 1.0), names=("good", "poor"))
    choice.check(1.0)
    with pytest.raises(ValueError, match=r"^teacher: expected one of 0 \(good\), 1 \(poor\); got 2\.0$"):
        choice.check(2.0)


def test_a_parameter_keeps_to_its_bounds():
    width = mechanism.Grid("m", "m", "width", (1.0, 64.0), (1.0, 64.0), least=1.0, most=4096.0)
    width.check(3.0)
    with pytest.raises(ValueError, match=r"^m: expected a finite number from 1 to 4096; got 0\.0$"):
        width.check(0.0)


class Coin(mechanism.Explorer):
    """No smooth parameter, a word and a count: the shapes of fields need no axis for coefficients."""

    side = mechanism.Value(0.0)
    parameters = (mechanism.Grid("side", "side", "side", (0.0, 1.0), (0.0, 1.0), names=("heads", "tails")),)

    def constants(self):
        return {"x": [0.0, 1.0]}

    def at(self, *, side):
        return {"y": [side, 1 - side], "verdict": [side], "count": [1000 + side]}

    def describe(self):
        axes = views.axis("x", [0, 1]), views.axis("y", self.span("y"))
        return {
            "title": "Explorer: a coin",
            "claim": "A coin has two sides.",
            "views": [views.view("Coin", "A line.", *axes, views.line("x", "y", "student"))],
            "readout": {"corner": "", "columns": [], "rows": [views.row("coin", "student", solid=True)]},
            "words": {"verdict": ["won", "lost"]},
            "whole": ["count"],
            "sentence": "With {side} you have {verdict} after {count} throws.",
        }


def test_words_counts_and_names_are_said():
    coin = Coin()
    assert coin.sentence == "With heads you have won after 1000 throws."
    coin.side = 1.0
    assert coin.sentence == "With tails you have lost after 1001 throws."
    assert coin.value("y").tolist() == [1.0, 0.0]
    assert coin._spec["views"][0]["y"]["domain"] == pytest.approx([-0.04, 1.04])
