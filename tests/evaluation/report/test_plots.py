"""What plots draw: each point, bar, mark and label by its own number, as matplotlib holds it before it is drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from corpus_builder.pages.colours import light
from corpus_builder.pages.plots import line_style
from evaluation.report import plots
from evaluation.report.plots import curves, size_plots, snr_plots, spans
from evaluation.report.robustness_table import SystemOutcomes
from tests.evaluation.report.test_html import ONE, TEACHER, cell, document


@pytest.fixture(name="drawn")
def figures_that_are_kept(monkeypatch):
    """Figures with their options, in place of SVG."""
    kept = []
    monkeypatch.setattr(plots, "with_legend", lambda figure, **given: kept.append((figure, given)) or len(kept))
    return kept


def styles_of(*names):
    return {name: line_style(number) for number, name in enumerate(names)}


def test_a_curve_has_its_points_bars_and_label_over_the_names_of_its_places(drawn):
    series = {"a$": [(0.0, 10.0, 1.5), (2.0, 30.0, 0.5)], "b": [(1.0, 20.0, 0.0)]}
    curves(series, unit="CER in %", marks={0.0: "-5 to 0", 1.0: "0 to 5", 2.0: "clean"}, styles=styles_of("a$", "b"))
    [(figure, given)] = drawn
    [axes] = figure.axes
    first, second = axes.containers
    assert [one.get_label() for one in (first, second)] == [r"a\$", "b"]
    assert first.lines[0].get_xydata().tolist() == [[0.0, 10.0], [2.0, 30.0]]
    assert second.lines[0].get_xydata().tolist() == [[1.0, 20.0]]
    bars = first.lines[2][0].get_segments()
    assert [bar[:, 1].tolist() for bar in bars] == [[8.5, 11.5], [29.5, 30.5]]
    for container, style in zip((first, second), styles_of("a$", "b").values(), strict=True):
        assert (container.lines[0].get_color(), container.lines[0].get_marker()) == (style["color"], style["marker"])
    assert [(tick, label.get_text()) for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)] == [
        (0.0, "-5 to 0"), (1.0, "0 to 5"), (2.0, "clean"),
    ]  # fmt: skip
    assert given == {"unit": "CER in %", "inches": plots.PLOT_INCHES}
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {0.0}


def test_names_of_places_that_have_no_room_stand_upright_in_a_higher_plot(drawn):
    """Each takes its letters and two more; 0.8 of the width is 44 letters."""
    for marks in (["x" * 20, "y" * 20], ["x" * 20, "y" * 21]):
        curves({"a": []}, unit="%", marks=dict(enumerate(marks)), styles=styles_of("a"))
    assert plots.LETTER_INCHES * 44 < 0.8 * plots.PLOT_INCHES[0] < plots.LETTER_INCHES * 45
    (level, given), (upright, higher) = drawn
    assert [one.axes[0].get_xticklabels()[0].get_rotation() for one, _ in drawn] == [0.0, 90.0]
    width, height = plots.PLOT_INCHES
    assert given["inches"] == (width, height)
    assert higher["inches"] == (width, pytest.approx(height + 21 * plots.LETTER_INCHES))
    assert level is not upright


def test_a_span_goes_from_hollow_to_full_at_its_place_and_a_name_without_one_crosses_the_plot(drawn):
    ends = {
        "a": (1e6, 90.0, 50.0),
        "floor": (0.0, 70.0, 20.0),
        "b": (1e6, 80.0, 60.0),
        "c": (3e6, 95.0, 75.0),
        "d": (1e6, 1.0, 2.0),
    }
    styles = styles_of(*ends)
    spans(ends, unit="%", place="parameters", styles=styles, whole_width=["floor"])
    [(figure, given)] = drawn
    [axes] = figure.axes
    crossing = [line for line in axes.lines if line.get_xdata()[0] == 0 and line.get_xdata()[-1] == 1]
    assert [(line.get_ydata()[0], line.get_linestyle(), line.get_label()) for line in crossing] == [
        (70.0, ":", crossing[0].get_label()), (20.0, "-", "floor"),
    ]  # fmt: skip
    assert crossing[0].get_label().startswith("_"), "a name stands once in the legend"
    assert {line.get_color() for line in crossing} == {styles["floor"]["color"]}
    rest = [line for line in axes.lines if line not in crossing]
    assert len(rest) == 3 * 4
    for number, (name, beside) in enumerate((("a", 1.0), ("b", 1.04), ("c", 3.0), ("d", 1.04**2))):
        stem, hollow, full = rest[3 * number : 3 * number + 3]
        at, (_, before, after) = beside * 1e6, ends[name]
        np.testing.assert_allclose(stem.get_xydata(), [[at, before], [at, after]])
        np.testing.assert_allclose([hollow.get_xydata()[0], full.get_xydata()[0]], [[at, before], [at, after]])
        assert hollow.get_markerfacecolor() == light("paper") != full.get_markerfacecolor()
        assert (hollow.get_label()[0], full.get_label()) == ("_", name)
        assert {line.get_color() for line in (stem, hollow, full)} == {styles[name]["color"]}
        assert [line.get_linestyle() for line in (stem, hollow, full)] == ["-", "None", "None"]
        assert hollow.get_marker() == full.get_marker() == styles[name]["marker"]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "parameters")
    assert axes.xaxis.get_major_formatter()(2e6) == "2 M"
    assert axes.xaxis.get_minor_formatter()(2e6) == ""
    assert given == {"unit": "%"}


def test_a_plot_of_names_without_a_place_has_a_plain_axis(drawn):
    spans({"floor": (0.0, 70.0, 20.0)}, unit="%", place="parameters", styles=styles_of("floor"), whole_width=["floor"])
    assert drawn[0][0].axes[0].get_xscale() == "linear"


def outcomes(*cells):
    results = document(*cells)
    return SystemOutcomes.from_scores(results.cells, results.roll)


def test_plots_are_named_by_task_and_measure_and_marked_from_the_lowest_band_to_clean(monkeypatch):
    given = []
    monkeypatch.setattr(plots, "curves", lambda series, **options: given.append(options) or "curves")
    monkeypatch.setattr(plots, "spans", lambda ends, **options: given.append(options) or "spans")
    floor = cell("logmel", kind="floor", digest="7", parameters=0)
    paper = outcomes(TEACHER, floor, ONE)
    assert snr_plots(paper) == [("word: accuracy", "curves")]
    assert size_plots(paper) == [("word: accuracy", "spans")]
    styles = styles_of("teacher", "logmel", "cdm")
    marks = {0.0: "0 to 5", 1.0: "10 to 15", 2.0: "clean"}
    assert given == [
        {"unit": "accuracy in %", "marks": marks, "styles": styles},
        {"unit": "accuracy in %", "place": "parameters", "whole_width": ["logmel"], "styles": styles},
    ]


def test_without_noise_there_is_no_plot_by_snr_and_without_an_outcome_there_is_no_point(monkeypatch):
    series = []
    monkeypatch.setattr(plots, "curves", lambda found, **_: series.append(found))
    monkeypatch.setattr(plots, "spans", lambda found, **_: series.append(found))
    results = document(TEACHER, ONE)
    quiet = results.roll.model_copy(update={"snr_db": " ".join("-" * 36)})
    assert snr_plots(SystemOutcomes.from_scores(results.cells, quiet)) == []
    counts = TEACHER["outcomes"][0]["counts"].split()
    part = {
        **TEACHER,
        "outcomes": [{**TEACHER["outcomes"][0], "counts": " ".join(["-"] * 12 + ["-"] * 6 + counts[18:])}],
    }
    assert len(snr_plots(outcomes(part))) == 1
    [points] = series[0].values()
    assert [place for place, *_ in points] == [1.0], "neither clean nor the lower band has one"
    assert size_plots(outcomes(part)) == []
    only_clean = {**part, "outcomes": [{**part["outcomes"][0], "counts": " ".join(counts[:12] + ["-"] * 24)}]}
    assert size_plots(outcomes(only_clean)) == []
    nobody = SimpleNamespace(
        copies=outcomes(TEACHER).copies, groups=outcomes(TEACHER).groups, systems={}, tasks=lambda: [("t", "cer")]
    )
    assert snr_plots(nobody) == size_plots(nobody) == []
