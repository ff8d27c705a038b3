"""Pages are readable on light and dark screens and fit a phone, as far as it can be held without a browser."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import pytest

from corpus_builder.pages.colours import COLOURS, NAMES, declarations, light
from corpus_builder.pages.corpus_page import plots
from corpus_builder.pages.plots import bars, histogram, line_style, new_figure, outline_style, with_legend
from corpus_builder.pages.summary import Described

HOUSE = Path(__file__).resolve().parents[3]
TEMPLATES = [
    *(HOUSE / "corpus_builder/pages").glob("*.html"), *(HOUSE / "evaluation/report").glob("*.html"),
    *(HOUSE / "benchmarks/robustness").glob("*.html"),
]  # fmt: skip
THEMES = ("light", "dark")


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    dark, bright = sorted((luminance(first), luminance(second)))
    return (bright + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the usual example of just enough


@pytest.mark.parametrize("theme", THEMES)
def test_texts_are_readable_on_whatever_they_are_on_and_lines_are_seen(theme: str) -> None:
    of = {name: pair[THEMES.index(theme)] for name, pair in COLOURS.items()}
    texts = [*product(("ink", "faint", "accent", "good", "bad"), ("paper", "tint")), ("ink", "heat")]
    assert {(text, ground): contrast(of[text], of[ground]) for text, ground in texts if contrast(of[text], of[ground]) < 4.5} == {}  # fmt: skip
    series = [name for name in COLOURS if name.startswith("series")]
    assert {name: contrast(of[name], of["paper"]) for name in series if contrast(of[name], of["paper"]) < 3} == {}
    assert len({of[name] for name in series}) == len(series) == 8


def test_a_colour_is_known_by_its_light_value() -> None:
    assert len(NAMES) == len(COLOURS)


def test_the_css_has_each_colour_light_and_then_dark() -> None:
    found = re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", declarations())
    assert found == [(name, pair[at]) for at in (0, 1) for name, pair in COLOURS.items()]
    assert declarations().index("prefers-color-scheme: dark") < declarations().index(COLOURS["paper"][1])


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_names_colours_and_fixes_no_width_beyond_a_phones(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"(?i)#[0-9a-f]{3,8}\b(?=[;,)\s])|\brgba?\(|\bhsla?\(|:\s*(?:white|black|gr[ae]y)\b", text) == []
    assert set(re.findall(r"var\(--([a-z0-9-]+)", text)) <= set(COLOURS)
    assert "http:" not in text
    assert "https:" not in text
    widths = re.findall(r"(?<![\w-])(?:min-)?width:\s*([\d.]+)(rem|px)|minmax\(([\d.]+)(rem|px)", text)
    assert [width for width in widths if float(width[0] or width[2]) * {"rem": 16, "px": 1}[width[1] or width[3]] > 288] == []  # fmt: skip


class Tables(HTMLParser):
    """Counts tables in a box that scrolls, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes: list[bool] = []
        self.found: Counter[bool] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div":
            self.boxes.append("wide" in (dict(attrs).get("class") or "").split())
        if tag == "table":
            self.found[any(self.boxes)] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.boxes.pop()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_table_scrolls_in_its_own_box(path: Path) -> None:
    tables = Tables()
    tables.feed(path.read_text())
    assert tables.found[False] == 0
    assert tables.found[True] > 0 or path.name == "base.html"
    box = re.search(r"\.wide \{([^}]*)\}", (HOUSE / "corpus_builder/pages/base.html").read_text())
    assert box is not None
    assert "overflow-x: auto" in box[1]


def colours_of(drawn: object) -> set[str]:
    """Names of a plot's colours; what is no name is there as it is."""
    return set(re.findall(r"(?:fill|stroke): (?:var\(--)?([#a-z0-9-]+)", str(drawn))) - {"none"}


def test_plots_have_no_colour_but_those_of_the_page() -> None:
    figure = new_figure()
    axes = figure.subplots()
    axes.plot([1, 2, 1000], [1, 2, 3], label="a", markerfacecolor=light("paper"), **line_style(0))
    axes.set_xscale("log")  # has minor ticks
    drawn = [bars({"a": 1, "b": 2}, title="t"), histogram([1.0, 2.0], title="t", unit="s"), with_legend(figure, unit="s")]  # fmt: skip
    assert colours_of(drawn[0]) <= {"ink", "faint"}
    assert colours_of(drawn[1]) <= {"ink", "faint", "line"}
    assert colours_of(drawn[2]) == {"ink", "line", "paper", "series-1"}


def test_a_condition_has_one_colour_in_every_plot_and_splits_have_none() -> None:
    numbers = {
        ("far", "noise.snr_db"): [1.0, 2.0], ("noise", "noise.snr_db"): [4.0],
        ("far", "room.rt60_s"): [0.3, 0.4], ("noise", "clip.percent"): [1.0, 2.0],
    }  # fmt: skip
    drawn = plots({"train": Described(seconds=[1.0, 2.0], numbers=numbers), "dev": Described(seconds=[3.0])}, [])
    durations, snr, rt60, clip = (colours_of(plot) - {"ink", "line"} for plot in drawn)
    assert durations == set()
    assert (rt60, clip) == ({"series-1"}, {"series-2"})
    assert snr == rt60 | clip


def test_outlines_differ_by_colour_first_and_then_by_dashes() -> None:
    styles = [tuple(outline_style(number).values()) for number in range(32)]
    assert len(set(styles)) == 32
    assert len({colour for colour, _ in styles[:8]}) == 8
    assert {outline_style(number, colour="ink")["color"] for number in range(4)} == {light("ink")}


def test_links_and_the_head_of_the_site_are_readable() -> None:
    css = (HOUSE / "docs/site.css").read_text()
    found = re.findall(r"--md-(?:primary-fg|typeset-a)-color: (#[0-9a-f]{6});", css)
    assert len(found) == 2
    assert [colour for colour in found if contrast(colour, "#ffffff") < 4.5] == []
