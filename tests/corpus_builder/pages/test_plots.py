"""Which names and counts a plot shows, by the texts that its SVG keeps beside the drawn letters."""

from __future__ import annotations

import re

import pytest

from corpus_builder.pages.plots import bars, histograms, line_style, plain_label


def texts(drawn: object) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", str(drawn))


def test_bars_are_the_largest_counts_from_the_top_and_the_rest_in_one() -> None:
    counts = {f"n{number:02d}": number for number in range(1, 20)}
    shown = texts(bars(counts, title="what", most=16))
    names = [text for text in shown if text.startswith("n")]
    assert names == [f"n{number:02d}" for number in range(19, 3, -1)]
    assert "3 others" in shown
    assert "what" in shown
    assert "others" not in str(texts(bars(counts, title="what", most=19)))
    assert [text for text in texts(bars({"b": 2, "c": 2, "a": 2}, title="t")) if text in {"a", "b", "c"}] == [
        "a",
        "b",
        "c",
    ]


def lengths_from_the_top(drawn: object) -> list[float]:
    """The length of each bar over that of the uppermost."""
    bar = r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) [\d.]+ \nL [^"]*z\n" clip-path[^>]*fill: #2b5d8a'
    found = sorted((float(top), float(right) - float(left)) for left, top, right in re.findall(bar, str(drawn)))
    return [length / found[0][1] for _, length in found]


def test_the_bar_of_the_others_is_as_long_as_they_are_together() -> None:
    drawn = bars({"a": 6, "b": 10, "c": 2, "d": 2, "e": 1}, title="t", most=2)
    assert lengths_from_the_top(drawn) == pytest.approx([1.0, 0.6, 0.5], abs=1e-3)


def test_histograms_show_the_groups_with_most_values_in_their_order_and_the_others_as_one() -> None:
    values = {f"g{number:02d}": [float(number)] * (1 + number) for number in range(12)}
    shown = [
        text for text in texts(histograms(values, title="t", unit="dB")) if text.startswith("g") or "others" in text
    ]
    assert shown == [*(f"g{number:02d}" for number in range(3, 12)), "3 others"]
    ten = {name: values[name] for name in list(values)[:10]}
    shown = [text for text in texts(histograms(ten, title="t", unit="dB")) if text.startswith("g") or "others" in text]
    assert shown == list(ten), "a tenth line is no longer than one of others"
    assert "dB" in texts(histograms(ten, title="t", unit="dB"))


def test_a_label_is_no_mathematics() -> None:
    assert plain_label("$x$") == r"\$x\$"
    assert len(plain_label("x" * 100)) < 50


def test_lines_differ_by_colour_first_and_then_by_marker() -> None:
    styles = [(style["color"], style["marker"]) for style in map(line_style, range(48))]
    assert len(set(styles)) == 48
    assert len({colour for colour, _ in styles[:8]}) == 8
    assert {marker for _, marker in styles[:8]} == {"o"}
    assert line_style(48) == line_style(0)
