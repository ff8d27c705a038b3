"""Which names and counts a plot shows, by the texts that its SVG keeps beside the drawn letters."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from corpus_builder.pages.corpus_page import plots
from corpus_builder.pages.plots import bars, histogram, histograms, line_style, new_figure, plain_label, with_legend
from corpus_builder.pages.summary import Described


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
    bar = r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) [\d.]+ \nL [^"]*z\n" clip-path[^>]*fill: var\(--faint\)'
    found = sorted((float(top), float(right) - float(left)) for left, top, right in re.findall(bar, str(drawn)))
    return [length / found[0][1] for _, length in found]


def test_the_bar_of_the_others_is_as_long_as_they_are_together() -> None:
    drawn = bars({"a": 6, "b": 10, "c": 2, "d": 2, "e": 1}, title="t", most=2)
    assert lengths_from_the_top(drawn) == pytest.approx([1.0, 0.6, 0.5], abs=1e-3)


def test_histograms_show_the_groups_with_most_values_in_their_order_and_the_others_as_one() -> None:
    values = {f"g{number:02d}": [float(number)] * (1 + number) for number in range(12)}
    shown = [
        text
        for text in texts(histograms(values, title="t", unit="dB", styles={}))
        if text.startswith("g") or "others" in text
    ]
    assert shown == [*(f"g{number:02d}" for number in range(3, 12)), "3 others"]
    ten = {name: values[name] for name in list(values)[:10]}
    shown = [
        text
        for text in texts(histograms(ten, title="t", unit="dB", styles={}))
        if text.startswith("g") or "others" in text
    ]
    assert shown == list(ten), "a tenth line is no longer than one of others"
    assert "dB" in texts(histograms(ten, title="t", unit="dB", styles={}))


def test_a_label_is_no_mathematics() -> None:
    assert plain_label("$x$") == r"\$x\$"
    assert len(plain_label("x" * 100)) < 50


def test_lines_differ_by_colour_first_and_then_by_marker() -> None:
    styles = [(style["color"], style["marker"]) for style in map(line_style, range(48))]
    assert len(set(styles)) == 48
    assert len({colour for colour, _ in styles[:8]}) == 8
    assert {marker for _, marker in styles[:8]} == {"o"}
    assert line_style(48) == line_style(0)


def test_a_page_plots_all_that_was_drawn_with_more_than_one_value_the_most_important_first() -> None:
    train = Described(
        domains=Counter({"white": 3, "cell": 2}),
        seconds=[1.0, 2.0],
        numbers={
            ("noise", "noise.snr_db"): [1.0], ("far", "noise.snr_db"): [4.0], ("far", "room.rt60_s"): [0.3, 0.3],
            ("far", "clip.percent"): [1.0, 2.0],
        },
        words={
            ("phone", "codec.codec"): Counter({"opus": 2}), ("noise", "codec.codec"): Counter({"mp3": 1}),
            ("noise", "noise.over"): Counter({"whole": 3}), ("far", "noise.over"): Counter({"whole": 1}),
        },
    )  # fmt: skip
    dev = Described(domains=Counter({"pink": 1}), seconds=[3.0], numbers={("far", "room.rt60_s"): [0.3]})
    shown = [texts(drawn) for drawn in plots({"train": train, "dev": dev}, [-20.0, -30.0])]
    titles = [
        "duration of utterances", "copies by domain", "level of the waves below", "copies by codec.codec", "noise.snr db",
        "clip.percent",
    ]  # fmt: skip
    assert [[title for title in titles if title in found] for found in shown] == [[title] for title in titles]
    assert {"train", "dev", "s"} <= set(shown[0])
    assert {"white", "cell", "pink"} <= set(shown[1])
    assert "dBFS" in shown[2]
    assert {"opus", "mp3"} <= set(shown[3])
    assert {"noise", "far", "dB"} <= set(shown[4])
    assert len(plots({"dev": Described(seconds=[3.0])}, [])) == 1, "without copies and waves only durations are known"


def test_a_histogram_has_its_title_its_unit_and_as_many_bars_as_asked_for() -> None:
    drawn = histogram([1.0, 2.0, 4.0], title="how long", unit="s", bins=3)
    assert {"how long", "s"} <= set(texts(drawn))
    assert str(drawn).count("fill: var(--faint)") == 3


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_legend_makes_a_plot_higher_by_a_line_for_as_many_names_as_have_room_and_the_unit_is_on_its_axis(
    axis: str,
) -> None:
    heights = {}
    for count in (0, 3, 4):
        figure = new_figure()
        axes = figure.subplots()
        for number in range(count):
            axes.plot([0, 1], [0, number], label=f"line {number}")
        drawn = with_legend(figure, unit="dB", inches=(3.0, 2.0), axis=axis)  # type: ignore[arg-type]
        assert (axes.get_xlabel(), axes.get_ylabel()) == (("dB", "") if axis == "x" else ("", "dB"))
        assert [text for text in texts(drawn) if text.startswith("line")] == [f"line {n}" for n in range(count)]
        heights[count] = figure.get_size_inches().tolist()
    assert heights == {0: [3.0, 2.0], 3: [3.0, pytest.approx(2.19)], 4: [3.0, pytest.approx(2.38)]}
