"""The page of a report needs no network, runs nothing, and shows the numbers of the results and no others."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from corpus_builder.pages.plots import line_style
from evaluation.cli import report_command
from evaluation.report import plots
from evaluation.report.heatmaps import mean_places
from evaluation.report.html import brief, page_content, settings_rows, unescaped, write_page
from evaluation.report.make_report import headline, report
from evaluation.report.markdown import OtherDataError
from evaluation.report.plots import curves, shade, spans
from evaluation.report.robustness_table import SystemOutcomes, value_of
from evaluation.report.table import escaped
from manifests.errors import printable
from manifests.results.scores import Results
from tests.oracles.browser import check_width, opened

HOSTILE = "<script>alert(1)</script>\"' onload=x \x1b[31m\u202e$\\frac{1}{0}$ {{ 7*7 }}"
NOISE, PHONE = 8, 6  # right answers of the teacher, out of 12


class Seen(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.handlers, self.cells = [], [], [], []
        self.is_cell = False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.is_cell = tag in {"td", "th"}
        self.cells += [""] if self.is_cell else []
        self.sources += [value for name, value in attrs if name in {"src", "href", "xlink:href", "data", "action"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        self.is_cell = False

    def handle_data(self, data):
        if self.is_cell:
            self.cells[-1] += data


def cell(
    model, *, kind="run", digest="1", parameters=700_000, system=None, seen="s", right=(11, 8, 6), gap=0.5, **details
):
    """A model on 12 utterances, each clean, with noise and by phone: so many are right."""
    counts = " ".join("1" if number < many else "0" for many in right for number in range(12))
    scores = [
        {"measure": "accuracy", "task": "word", "condition": condition, "value": many / 12, "count": 12, "probe": 0}
        for condition, many in zip(("clean", "noise", "phone"), right, strict=True)
    ]
    for condition in ("noise", "phone"):
        for layer in (1, 2):
            scores += [
                {"measure": "cosine", "condition": condition, "layer": layer, "value": 0.2 + gap, "count": 90},
                {"measure": "mismatched", "condition": condition, "layer": layer, "value": 0.2, "count": 90},
                {"measure": "cka", "condition": condition, "layer": layer, "value": 0.0625 * layer, "count": 90},
                {"measure": "retrieval", "condition": condition, "layer": layer, "value": 0.375, "count": 90},
            ]
    return {
        "schema": "stillroom/cell/2", "model": model, "protocol_sha256": "a" * 64, "data_sha256": "d" * 64,
        "facts": {
            "kind": kind, "origin": model, "digest": digest * 64, "parameters": parameters, "layers": 2, "heard_known": True,
            "details": details, "system": system,
        },
        "scores": scores, "notes": ["a note"], "cost": {"audio_s": 3600.0, "hearing_s": 1.0, "probing_s": 1.0},
        "outcomes": [{"task": "word", "measure": "accuracy", "probe": 0, "counts": counts}],
        "seen": "c" * 12 + seen * 12 + "f" * 12,
    }  # fmt: skip


def document(*cells, data="d", command="evaluation.yaml"):
    columns = [(number, part) for part in range(3) for number in range(12)]
    return Results.parse(
        {
            "schema": "stillroom/results/2",
            "protocol": {
                "schema": "stillroom/protocol/1", "corpus": "tiny", "data_sha256": data * 64, "conditions": ["noise", "phone"],
                "settings": {"splits": {"train": "train", "test": "test"}, "measures": ["cosine"], "seed": 77, "tasks": []},
                "models": {one["model"]: one["model"] for one in cells},
            },
            "cells": list(cells), "software": {"python": "3.11.9"}, "machine": {"system": "Linux"},
            "command": ["stillroom", "evaluate", command, "out"],
            "roll": {
                "speakers": ["a", "b", "c"], "conditions": ["clean", "noise", "phone"],
                "utterance": " ".join(str(number) for number, _ in columns),
                "speaker": " ".join(str(number % 3) for number, _ in columns),
                "condition": " ".join(str(part) for _, part in columns),
                "snr_db": " ".join(("2.5" if number < 6 else "12") if part == 1 else "-" for number, part in columns),
            },
        },
        where="test",
    )  # fmt: skip


TEACHER = cell("teacher", kind="teacher", digest="2", parameters=2_200_000, right=(12, NOISE, PHONE))
ONE = cell("cdm-1", system="cdm", digest="3", right=(11, 10, 9), gap=0.5, seed=101, steps=4321, audio_s=7200.0,
           command=["stillroom", "train", "cdm one.yaml", "cdm-1"], corpus_sha256="e" * 64)  # fmt: skip
TWO = cell("cdm-2", system="cdm", digest="4", right=(9, 10, 9), gap=0.25, seed=102, steps=4322, audio_s=3600.0)


def page_of(tmp_path, *results, **options) -> str:
    names = options.pop("names", [f"results-{number}" for number in range(len(results))])
    write_page(tmp_path / "page.html", list(results), names=names, **options)
    return (tmp_path / "page.html").read_text()


def seen_on(text: str) -> Seen:
    seen = Seen()
    seen.feed(text)
    return seen


def test_the_page_asks_for_nothing_from_anywhere(tmp_path):
    text = page_of(tmp_path, document(TEACHER, ONE, TWO))
    seen = seen_on(text)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base", "img"} & set(seen.tags)
    assert not seen.handlers
    assert all(source.startswith("#") for source in seen.sources)
    assert "default-src 'none'" in text
    assert seen.tags.count("svg") == 2


def test_every_part_that_is_asked_for_is_there(tmp_path):
    text = page_of(tmp_path, document(TEACHER, ONE, TWO), command=["stillroom", "report", "out", "--html", "page.html"])
    cells = seen_on(text).cells
    for wanted in (
        "clean",
        "seen",
        "shifted",
        "101",
        "102",
        "4321",
        "2.00 h",
        "stillroom train &#39;cdm one.yaml&#39; cdm-1",
        "eeeeeeeeeeee",
    ):
        assert wanted.replace("&#39;", "'") in cells, wanted
    assert "stillroom evaluate evaluation.yaml out" in text
    assert "stillroom report out --html page.html" in text
    assert "d" * 64 in text
    assert all(digit * 64 in text for digit in "234")
    for title in ("The table", "Loss against own clean", "Loss against teacher", "Against cdm", "Robustness against SNR",
                  "Robustness against size", "Frame cosine", "Gap", "Linear CKA", "Retrieval@1"):  # fmt: skip
        assert title in text, title


def test_the_table_is_that_of_a_calculator():
    content = page_content([document(TEACHER, ONE, TWO)], names=["one"], against=None, command=[])
    absolute, own, teacher = content["robustness"]
    assert absolute["above"] == [("word: accuracy", 3)]
    assert absolute["header"] == ["system", "clean", "seen", "shifted"]
    # cdm: clean (11 + 9) / 24, half the range of 91.7 and 75
    assert absolute["rows"] == [
        ["teacher", "100.0 ±0.0", "66.7 ±0.0", "50.0 ±0.0"],
        ["cdm", "83.3 ±8.3", "83.3 ±0.0", "75.0 ±0.0"],
    ]
    assert own["rows"] == [["teacher", "", "33.3", "50.0"], ["cdm", "", "0.0", "8.3"]]
    assert teacher["rows"] == [["teacher", "", "", ""], ["cdm", "16.7", "-16.7", "-25.0"]]


def test_heat_maps_are_the_scores_and_their_differences():
    content = page_content([document(TEACHER, ONE, TWO)], names=["one"], against=None, command=[])
    maps = {kind["title"].split(",")[0].split(":")[0]: kind for kind in content["heat_maps"]}
    assert list(maps) == [
        "Frame cosine",
        "Gap",
        "Linear CKA",
        "Retrieval@1 of the clean frame among 1000 of the same speaker",
    ]
    assert maps["Gap"]["columns"] == ["noise", "phone"]
    teacher, cdm = maps["Gap"]["maps"]
    assert [layer for layer, _ in teacher["rows"]] == [2, 1]
    assert {text for _, row in teacher["rows"] for text, _ in row} == {"0.50"}
    assert cdm["seeds"] == 2
    assert {text for _, row in cdm["rows"] for text, _ in row} == {"0.38"}  # (0.5 + 0.25) / 2
    assert maps["Linear CKA"]["maps"][0]["rows"][0][1][0][0] == "0.12"


def test_a_collapsed_model_has_no_gap():
    collapsed = Results.parse(json.loads(document(cell("flat", gap=0.0)).model_dump_json(by_alias=True)), where="x")
    assert set(mean_places(collapsed.cells, "gap").values()) == {0.0}


def test_shades_go_from_the_ground_to_the_high_end():
    mixed = "background:color-mix(in srgb,var(--heat) {}%,var(--paper))"
    assert shade(0.0, low=0.0, high=1.0) == mixed.format(0)
    assert shade(0.25, low=0.0, high=1.0) == mixed.format(25)
    assert shade(9.0, low=0.0, high=1.0) == mixed.format(100)
    assert shade(1.0, low=1.0, high=1.0) == mixed.format(0)


def test_a_system_has_one_colour_in_every_plot_whichever_tasks_it_has():
    without = {**TEACHER, "outcomes": [{**TEACHER["outcomes"][0], "task": "accent"}]}
    content = page_content([document(without, ONE, TWO)], names=["one"], against=None, command=[])
    for part in ("snr_plots", "size_plots"):
        colours = {caption: set(re.findall(r"--(series-\d)", plot)) for caption, plot in content[part]}
        assert colours == {"accent: accuracy": {"series-1"}, "word: accuracy": {"series-2"}}


def test_plots_hold_the_numbers_that_the_tables_hold():
    results = document(TEACHER, ONE, TWO)
    paper = SystemOutcomes.from_scores(results.cells, results.roll)
    told = paper.of("teacher", "word")["accuracy"]
    assert value_of(told, paper.copies.condition > 0)[0] == pytest.approx((NOISE + PHONE) / 24)
    content = page_content([results], names=["one"], against=None, command=[])
    # the first 6 of the 12 noisy copies are at 2.5 dB, and of 8 right answers the first 6 are there
    assert content["snr_tables"][0]["header"] == ["system", "0 to 5 dB", "10 to 15 dB"]
    assert content["snr_tables"][0]["rows"][0] == ["teacher", "100.0 ±0.0", "33.3 ±0.0"]
    assert [caption for caption, _ in content["snr_plots"]] == ["word: accuracy"]


def test_plots_are_drawn_from_the_numbers_of_the_tables(monkeypatch):
    """By SNR from left to right with clean at the end; by size from clean to the mean of all distorted copies."""
    by_snr, by_size = [], []
    monkeypatch.setattr(plots, "curves", lambda series, **_: by_snr.append(series))
    monkeypatch.setattr(plots, "spans", lambda ends, **_: by_size.append(ends))
    results = document(TEACHER, ONE, TWO)
    paper = SystemOutcomes.from_scores(results.cells, results.roll)
    plots.snr_plots(paper)
    plots.size_plots(paper)
    # cdm: clean 11 and 9 of 12, noise (at 2.5 dB 6 of 6, at 12 dB 4 of 6) and phone 9 of 12 in both seeds
    assert by_snr == [
        {
            "teacher": [(0.0, 100.0, 0.0), (1.0, pytest.approx(100 / 3), 0.0), (2.0, 100.0, 0.0)],
            "cdm": [(0.0, 100.0, 0.0), (1.0, pytest.approx(200 / 3), 0.0), (2.0, pytest.approx(250 / 3), pytest.approx(25 / 3))],
        }
    ]  # fmt: skip
    assert by_size == [
        {
            "teacher": (2_200_000.0, 100.0, pytest.approx(100 * (NOISE + PHONE) / 24)),
            "cdm": (700_000.0, pytest.approx(250 / 3), pytest.approx(100 * 19 / 24)),
        }
    ]


def test_results_of_other_data_are_refused_by_name(tmp_path):
    with pytest.raises(OtherDataError, match="first and second were measured with different data"):
        page_of(tmp_path, document(TEACHER), document(ONE, data="e"), names=["first", "second"])
    assert not (tmp_path / "page.html").exists()


def test_folders_of_several_seeds_become_one_page(tmp_path):
    together = page_content([document(TEACHER, ONE, TWO)], names=["a"], against=None, command=[])
    apart = page_content(
        [document(TEACHER, ONE), document(TWO, command="other.yaml")], names=["a", "b"], against=None, command=[]
    )
    assert together["robustness"] == apart["robustness"]
    assert [run["command"] for run in apart["runs"]] == [
        "stillroom evaluate evaluation.yaml out",
        "stillroom evaluate other.yaml out",
    ]


def test_the_settings_of_an_evaluation_are_shown_whole():
    tasks = [{"kind": "classify", "label": f"label{number}"} for number in range(30)]
    rows = settings_rows(SimpleNamespace(settings={"seed": 3, "tasks": tasks, "note": "x" * 5000}))
    assert rows[:2] == [("seed", "3"), ("tasks", json.dumps(tasks))]
    assert 1900 < len(rows[2][1]) <= 2000


def test_hostile_texts_stay_text(tmp_path):
    bad = cell("bad", digest="5", seed=HOSTILE, preset=HOSTILE, command=[HOSTILE], system=None)
    bad["facts"]["origin"] = HOSTILE
    bad["notes"] = [HOSTILE]
    bad["outcomes"][0]["task"] = HOSTILE
    text = page_of(tmp_path, document(TEACHER, bad, command=HOSTILE), names=[HOSTILE])
    seen = seen_on(text)
    assert "script" not in seen.tags
    assert not seen.handlers
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text


def test_plots_take_a_strangers_names_and_models_without_parameters():
    points = [(0.0, 1.0, 0.1), (1.0, 2.0, 0.0)]
    plot = curves(
        {HOSTILE: points, "b": points[:1]}, unit="%", marks={0.0: HOSTILE, 1.0: "b"}, styles={HOSTILE: {}, "b": {}}
    )
    assert "<svg" in plot
    assert "script>" not in plot
    styles = {name: line_style(number) for number, name in enumerate((HOSTILE, "b", "floor"))}
    sized = {"unit": "%", "place": "parameters", "styles": styles}
    assert "<svg" in spans({"floor": (0.0, 1.0, 2.0)}, **sized, whole_width=["floor"])
    assert "<svg" in spans({HOSTILE: (1e6, 1.0, 2.0), "b": (1e6, 2.0, 2.0)}, **sized)


@given(st.text(max_size=60))
def test_a_line_for_markdown_reads_again_as_it_was(text):
    assert unescaped(escaped(text)) == printable(text, limit=120)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "True"),
        (3, "3"),
        (0.5, "0.5"),
        ("a" * 64, "a" * 12),
        (["a b", "c"], "'a b' c"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_a_strangers_value_is_shown_briefly(value, shown):
    assert brief(value) == shown


def test_the_same_results_give_the_same_page(tmp_path):
    results = document(TEACHER, ONE, TWO)
    assert page_of(tmp_path, results) == page_of(tmp_path, results)


def test_results_without_outcomes_still_have_a_page(tmp_path):
    plain = document(TEACHER, ONE).model_copy(update={"roll": None})
    text = page_of(tmp_path, plain)
    assert "Task: word" in text
    assert "The table" not in text


def test_the_command_writes_the_page_beside_the_text(tmp_path):
    document(TEACHER, ONE).write(tmp_path / "results.json")
    arguments = [str(tmp_path), "--html", str(tmp_path / "page.html")]
    done = CliRunner().invoke(report_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.startswith("# Robustness on tiny")
    assert "<svg" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
def test_the_page_opens_from_a_file_in_a_real_browser_and_is_as_narrow_as_a_phone(tmp_path):
    page_of(tmp_path, document(TEACHER, ONE, TWO))
    page = tmp_path / "page.html"
    opened(page, "--window-size=1400,2400", f"--screenshot={tmp_path / 'shot.png'}", scratch=tmp_path)
    import matplotlib.image

    shot = matplotlib.image.imread(tmp_path / "shot.png")[..., :3]
    ink = (abs(shot - [0x2B / 255, 0x5D / 255, 0x8A / 255]) < 0.03).all(axis=-1)
    assert ink.sum() > 100  # the darkest cells of a heat map
    assert shot.std() > 0.05
    check_width(page, width=390, scratch=tmp_path)


def test_the_template_is_packed():
    project = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert re.search(r'^"evaluation\.report" = \[.*"\*\.html"', project, re.MULTILINE)


def test_the_headline_is_the_first_table_of_the_report_alone(tmp_path):
    document(TEACHER, ONE).write(tmp_path / "results.json")
    found = headline(tmp_path)
    assert found in report(tmp_path)
    assert found.startswith("**The table, in %")
    assert [line.split("|")[1].strip() for line in found.splitlines()[2:]] == ["system", "-------", "teacher", "cdm"]
