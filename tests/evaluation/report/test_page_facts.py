"""The origin of each number on the page, and how the tables word what they show."""

from __future__ import annotations

import html
import shlex
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.report import html as page
from evaluation.report.heatmaps import heat_maps
from evaluation.report.html import page_content, training_table
from evaluation.report.layer_tables import chosen_scores, cosine_table, layer_tables, leakage_table
from evaluation.report.make_report import headline, report
from evaluation.report.markdown import (
    OtherDataError,
    chosen_table,
    merged_models,
    model_table,
    preamble,
    provenance_lines,
    read_results,
)
from evaluation.report.plots import shade
from evaluation.report.robustness_table import baseline_of, counted, shown, value_of
from evaluation.report.table import Table, width_of
from manifests.corpus.provenance import provenance
from manifests.errors import NewerSchemaError
from manifests.results.scores import ModelScores
from tests.evaluation.report.test_html import ONE, TEACHER, TWO, cell, document, page_of


def content_of(*results, names=None, **given):
    return page_content(
        list(results), names=names or [str(n) for n in range(len(results))], **{"against": None, "command": [], **given}
    )


@pytest.fixture(name="_undrawn")
def plots_that_are_not_drawn(monkeypatch):
    for name in ("snr_plots", "size_plots"):
        monkeypatch.setattr(page, name, lambda outcomes, name=name: [name, *outcomes.systems])


@pytest.mark.usefixtures("_undrawn")
def test_each_run_of_the_evaluation_is_told_with_its_command_digests_software_and_machine():
    first, second = document(TEACHER, ONE), document(TWO, command="my config.yaml")
    second = second.model_copy(
        update={"software": {"python": "3.12.1", "torch": "2.9"}, "machine": {"system": "Darwin", "cores": "8"}}
    )
    one, other = content_of(first, second, names=["/results/first", "second"])["runs"]
    protocol = one["protocol_sha256"]
    assert one == {
        "name": "first", "command": "stillroom evaluate evaluation.yaml out", "data_sha256": "d" * 64, "protocol_sha256": protocol,
        "models": "teacher, cdm-1", "software": "python 3.11.9, system Linux",
    }  # fmt: skip
    assert other == {
        "name": "second", "command": "stillroom evaluate 'my config.yaml' out", "data_sha256": "d" * 64, "protocol_sha256": protocol,
        "models": "cdm-2", "software": "python 3.12.1, torch 2.9, system Darwin, cores 8",
    }  # fmt: skip
    settings = {**first.protocol.settings, "seed": 5}
    changed = first.model_copy(update={"protocol": first.protocol.model_copy(update={"settings": settings})})
    assert content_of(changed)["runs"][0]["protocol_sha256"] != protocol


@pytest.mark.usefixtures("_undrawn")
def test_the_page_tells_models_settings_notes_and_how_students_were_trained():
    export = cell("copy", kind="export", digest="5", steps=9)
    content = content_of(document(TEACHER, {**ONE, "notes": ["a note", "one more"]}, TWO, export), command=["a b", "c"])
    assert content["digests"] == [("teacher", "2" * 64), ("cdm-1", "3" * 64), ("cdm-2", "4" * 64), ("copy", "5" * 64)]
    assert content["notes"] == [("all models", "a note"), ("cdm-1", "one more")]
    assert (content["command"], content["data_sha256"], content["leakage"], content["cost"]) == (
        "'a b' c",
        "d" * 64,
        [],
        None,
    )
    cost = {"macs_per_s": 1e9, "real_time_factor": 0.1, "size_mb": 2.0, "measured_s": 4.0}
    assert content_of(document({**TEACHER, "efficiency": cost}, ONE))["cost"]["rows"][0][0] == "teacher"
    assert dict(content["settings"])["splits"] == '{"train": "train", "test": "test"}'
    training = content["training"]
    rows = {row[0]: dict(zip(training["header"], row, strict=True)) for row in training["rows"]}
    assert list(rows) == ["cdm-1", "cdm-2"]
    first = {key: value for key, value in rows["cdm-1"].items() if value}
    assert first == {
        "student": "cdm-1", "system": "cdm", "its digest": "e" * 12, "seed": "101", "updates": "4321", "training audio": "2.00 h",
        "command": "stillroom train 'cdm one.yaml' cdm-1",
    }  # fmt: skip
    alone = content_of(document(cell("own")))["training"]["rows"]
    assert alone[0][:2] == ["own", "own"]
    assert (training["words"], content["models"]["words"]) == (8, 4)
    assert content["seen"]["title"].startswith("What test copies are to each model")
    assert content["chosen"] is None
    chosen = content_of(document({**TEACHER, "chosen": {"word": [0.1]}}))["chosen"]
    assert (chosen["header"], chosen["rows"]) == (["model", "word: C"], [["teacher", "0.1"]])


def test_every_fact_of_a_training_stands_in_its_own_column():
    facts = {
        "preset": "cdm2-dat", "teacher": "nano", "corpus": "lab", "corpus_sha256": "c" * 64, "views": {"kind": "cdm2"}, "adversary": True,
        "seed": 7, "steps": 5, "utterances": 1234, "audio_s": 1800.0, "checkpoint": "best", "command": ["stillroom", "train"],
    }  # fmt: skip
    training = training_table(document(cell("own", system="sys", **facts)).cells)
    assert dict(zip(training.header, training.rows[0], strict=True)) == {
        "student": "own", "system": "sys", "preset": "cdm2-dat", "teacher": "nano", "corpus": "lab", "its digest": "c" * 12,
        "views": '{"kind": "cdm2"}', "adversary": "True", "seed": "7", "updates": "5", "training utterances": "1234",
        "training audio": "0.50 h", "checkpoint": "best", "command": "stillroom train",
    }  # fmt: skip


@pytest.mark.usefixtures("_undrawn")
def test_outcomes_are_of_the_first_results_that_have_a_roll_and_without_any_their_parts_are_empty():
    first, second = document(TEACHER).model_copy(update={"roll": None}), document(ONE)
    both = content_of(first, second)
    assert both["robustness"][0]["rows"][0][0] == "teacher"
    assert (both["snr_plots"], both["size_plots"]) == (
        ["snr_plots", "teacher", "cdm"],
        ["size_plots", "teacher", "cdm"],
    )
    silent = content_of(document({**TEACHER, "outcomes": []}))
    parts = ("robustness", "snr_plots", "snr_tables", "size_plots", "differences", "seen")
    assert [silent[part] for part in parts] == [[], [], [], [], [], None]
    assert [content_of(first)[part] for part in parts] == [[], [], [], [], [], None]


@pytest.mark.usefixtures("_undrawn")
def test_long_and_strange_texts_of_a_run_are_shown_as_far_as_there_is_room():
    one = document(TEACHER, command="x" * 3000)
    odd = {"python": "3.11", **{f"package-{number}": "1.0" for number in range(200)}}
    [told] = content_of(one.model_copy(update={"software": odd}), names=["."])["runs"]
    assert told["name"] == "."
    assert 1900 < len(told["command"]) <= 2000
    assert 1900 < len(told["software"]) <= 2000
    settings = {**one.protocol.settings, "note": "ä"}
    protocol = one.protocol.model_copy(update={"settings": settings, "corpus": "a_b"})
    content = content_of(one.model_copy(update={"protocol": protocol}))
    assert dict(content["settings"])["note"] == '"ä"'
    assert content["title"] == "Robustness on a_b"
    unknown = protocol.model_copy(update={"settings": {**settings, "splits": {"test": "*odd*"}}})
    assert "tested on split *odd*, seed 77." in content_of(one.model_copy(update={"protocol": unknown}))["preamble"][0]


@pytest.mark.usefixtures("_undrawn")
def test_two_tasks_have_their_groups_side_by_side():
    both = []
    for one in (TEACHER, ONE):
        [outcome] = one["outcomes"]
        both.append({**one, "outcomes": [outcome, {**outcome, "task": "another"}]})
    table = content_of(document(*both))["robustness"][0]
    assert table["above"] == [("word: accuracy", 3), ("another: accuracy", 3)]
    assert table["header"] == ["system", *["clean", "seen", "shifted"] * 2]


@pytest.mark.usefixtures("_undrawn")
def test_differences_are_against_the_system_that_is_asked_for():
    one = document(TEACHER, ONE, TWO)
    assert content_of(one)["differences"][0]["title"].startswith("Against cdm: ")
    assert content_of(one, against="teacher")["differences"][0]["title"].startswith("Against teacher: ")


def test_a_report_is_written_with_its_own_command_against_whom_and_under_the_names_of_its_folders(tmp_path):
    for name, cells in (("one", (TEACHER, ONE)), ("two", (TWO,))):
        (tmp_path / name).mkdir()
        document(*cells).write(tmp_path / name / "results.json")
    report([tmp_path / "one", tmp_path / "two"], html=tmp_path / "page.html", against="teacher")
    page = (tmp_path / "page.html").read_text()
    assert html.escape(shlex.join(provenance()["command"]), quote=False)[:40] in html.unescape(page).replace(
        "&", "&amp;"
    )
    assert "Against teacher" in page
    assert page != page_of(tmp_path, document(TEACHER, ONE), document(TWO), names=["one", "two"], against="teacher")
    document(cell("odd"), data="e").write(tmp_path / "two/results.json")
    with pytest.raises(OtherDataError, match=rf"^{tmp_path}/one and {tmp_path}/two were measured"):
        report([tmp_path / "one", tmp_path / "two"])


def test_the_results_that_differ_are_the_ones_that_are_named():
    odd = document(TWO, data="e")
    odd = odd.model_copy(update={"protocol": odd.protocol.model_copy(update={"corpus": "other"})})
    with pytest.raises(
        OtherDataError,
        match=r"^a and c were measured with different data \(tiny d{12}; other e{12}\): report them one by one$",
    ):
        merged_models([document(TEACHER), document(ONE), odd, odd], names=["a", "b", "c", "d"])
    with pytest.raises(OtherDataError, match=r"^results 1 and results 3 were"):
        merged_models([document(TEACHER), document(ONE), odd])


def test_results_of_a_later_version_are_no_damaged_ones(tmp_path):
    path = tmp_path / "results.json"
    document(TEACHER).write(path)
    path.write_text(path.read_text().replace("stillroom/results/2", "stillroom/results/99"))
    with pytest.raises(NewerSchemaError, match="pip install"):
        read_results(tmp_path)


def test_without_outcomes_there_is_no_headline(tmp_path):
    document(TEACHER).model_copy(update={"roll": None}).write(tmp_path / "results.json")
    assert headline(tmp_path) == ""


def scored(model, *scores, system=None, kind="run"):
    """A model with scores of measure, condition, layer and value."""
    given = cell(model, system=system, kind=kind)
    given["scores"] = [
        {"measure": measure, "condition": condition, "layer": layer, "value": value, "count": 10 * (number + 1)}
        for number, (measure, condition, layer, value) in enumerate(scores)
    ]
    return ModelScores.parse({key: value for key, value in given.items() if value is not None}, where="test")


def test_a_heat_map_has_the_mean_of_its_seeds_the_columns_that_were_measured_and_its_own_decimals():
    protocol = document(TEACHER).protocol
    seeds = [
        scored(
            f"s{number}",
            ("retrieval", "noise", 1, value),
            ("rank", "clean", 1, 10 * value),
            ("rank", "noise", 2, 7.0),
            system="s",
        )
        for number, value in enumerate((0.125, 0.5, 0.25))
    ]
    one = scored(
        "t", ("retrieval", "noise", 2, 0.75), ("rank", "noise", 2, 1.0), ("cosine", "noise", 1, 0.5), kind="teacher"
    )
    retrieval, rank = (kind for kind in heat_maps([*seeds, one], protocol) if "Frame" not in kind["title"])
    mean = 0.875 / 3
    assert (retrieval["columns"], rank["columns"]) == (["noise"], ["clean", "noise"])
    assert retrieval["maps"] == [
        {"system": "s", "seeds": 3, "rows": [(1, [("0.292", shade(mean, low=0.0, high=1.0))])]},
        {"system": "t", "seeds": 1, "rows": [(2, [("0.750", shade(0.75, low=0.0, high=1.0))])]},
    ]
    ends = {"low": 1.0, "high": 7.0}
    assert rank["maps"][0]["rows"] == [
        (2, [("", ""), ("7.0", shade(7.0, **ends))]), (1, [("2.9", shade(10 * mean, **ends)), ("", "")]),
    ]  # fmt: skip


def test_layer_tables_have_the_largest_count_and_their_own_decimals():
    protocol = document(TEACHER).protocol
    models = [
        scored("a", ("cosine", "noise", 1, 0.5), ("mismatched", "noise", 1, 0.125), ("retrieval", "phone", 1, 0.0625)),
        scored(
            "b",
            ("retrieval", "noise", 2, 0.375),
            ("cosine", "noise", 1, 0.25),
            ("cosine", "phone", 1, 0.75),
            ("mismatched", "phone", 1, 0.25),
        ),
    ]
    cosine = cosine_table(models, protocol)
    assert cosine.title.endswith("(up to 30 frames a condition)")
    assert cosine.rows == (("a", "1", "0.50 / 0.12", "", "0.38"), ("b", "1", "0.25", "0.75 / 0.25", "0.50"))
    [retrieval] = layer_tables(models, protocol)
    assert (retrieval.title[-25:], retrieval.header) == (
        "er (up to 30 a condition)",
        ("model", "layer", "noise", "phone"),
    )
    assert retrieval.rows == (("a", "1", "", "0.062"), ("b", "2", "0.375", ""))


def test_scores_are_chosen_by_measure_task_condition_and_layer_and_tables_have_what_was_measured():
    protocol = document(TEACHER).protocol
    one = scored(
        "a",
        ("rank", "clean", 1, 3.25),
        ("rank", "phone", 2, 4.0),
        ("rank", "phone", 1, 5.0),
        ("cka", "noise", 1, 0.125),
    )
    assert [score.value for score in chosen_scores(one, "rank", condition="phone", layer=1)] == [5.0]
    assert (
        chosen_scores(one, "rank", condition="phone")
        == chosen_scores(one, "rank", task="word", condition="phone", layer=1)
        == []
    )
    cka, rank = layer_tables([one], protocol)
    assert (cka.title, cka.header, cka.rows) == (
        "Linear CKA of clean and distorted frames (up to 40 a condition)", ("model", "layer", "noise"), (("a", "1", "0.12"),),
    )  # fmt: skip
    assert (rank.title, rank.header) == (
        "Effective rank of the frames (up to 30 a condition)",
        ("model", "layer", "clean", "phone"),
    )
    assert rank.rows == (("a", "1", "3.2", "5.0"), ("a", "2", "", "4.0"))


def test_errors_and_edits_are_in_percent_and_the_smallest_has_the_strongest_colour():
    protocol = document(TEACHER).protocol
    values = {"abx_within": (0.125, 0.375), "abx_across": (0.25, 0.5), "unit_edits": (0.0625, 0.5)}
    one = scored(
        "t",
        *((name, "noise", layer, value) for name, pair in values.items() for layer, value in enumerate(pair, 1)),
        ("phone_purity", "noise", 1, 0.75),
        ("pnmi", "noise", 1, 0.5),
        kind="teacher",
    )
    maps = {
        kind["title"].split(":")[0].split(" of ")[0]: kind["maps"][0]["rows"] for kind in heat_maps([one], protocol)
    }
    titles = ("Phone ABX within speakers", "Phone ABX across speakers", "Unit edit distance")
    for title, (least, most) in zip(titles, values.values(), strict=True):
        ends = {"low": least, "high": most}
        assert maps[title] == [
            (2, [(f"{100 * most:.1f}", shade(least, **ends))]), (1, [(f"{100 * least:.1f}", shade(most, **ends))])
        ]  # fmt: skip
    assert maps["Phone purity in %"] == [(1, [("75.0", shade(0.75, low=0.0, high=1.0))])]
    assert maps["PNMI"] == [(1, [("0.500", shade(0.5, low=0.0, high=1.0))])]
    tables = {table.title.split(" (")[0]: table.rows for table in layer_tables([one], protocol)}
    assert tables["Phone ABX: error in %, A and B clean, X within speakers"] == (("t", "1", "12.5"), ("t", "2", "37.5"))
    assert tables["Unit edit distance of clean and distorted in % of the frames"] == (
        ("t", "1", "6.2"),
        ("t", "2", "50.0"),
    )
    assert tables["PNMI: share of the phones' entropy that units take away"] == (("t", "1", "0.500"),)


def test_the_leakage_table_has_the_majority_of_the_domains_and_not_that_of_a_task():
    one = cell("a")
    one["scores"] = [
        {"measure": "majority", "task": "word", "value": 0.5, "count": 12}, {"measure": "leakage", "layer": 2, "value": 0.75, "count": 30},
        {"measure": "leakage_mlp", "layer": 1, "value": 0.25, "count": 30}, {"measure": "majority", "value": 0.4, "count": 30},
    ]  # fmt: skip
    models = [ModelScores.parse({key: value for key, value in one.items() if value is not None}, where="test")]
    linear, network = leakage_table(models, "leakage"), leakage_table(models, "leakage_mlp")
    assert linear.title == (
        "Leakage: accuracy in % of a linear probe that names the condition (30 test copies, 40.0 % for always the same answer)"
    )
    assert (linear.header, linear.rows) == (("model", "layer 1", "layer 2"), (("a", "", "75.0"),))
    assert (network.header, network.rows) == (("model", "layer 1"), (("a", "25.0"),))
    assert "of a small network" in network.title


def test_the_table_of_models_has_all_their_time_and_no_teacher_is_smaller_than_itself():
    table = model_table(
        document(TEACHER, {**ONE, "cost": {"audio_s": 5400.0, "hearing_s": 100.0, "probing_s": 50.0}}).cells
    )
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [(row["smaller than teacher"], row["evaluated on"], row["time"], row["trained on"], row["steps"]) for row in rows] == [
        ("", "1.00 h", "2s", "", ""), ("68.2 %", "1.50 h", "2m30s", "2.00 h", "4321"),
    ]  # fmt: skip
    assert "smaller" in model_table(document(ONE).cells).header


def test_the_preamble_says_how_it_was_measured():
    one = document(TEACHER, ONE)
    unknown = one.cells[1].model_copy(update={"facts": one.cells[1].facts.model_copy(update={"heard_known": False})})
    settings = {
        "splits": {"train": "learn", "dev": "choose", "test": "exam"}, "seed": 7, "limit": 30, "probes": 4, "tasks": [{"label": "word"}],
    }  # fmt: skip
    lines = preamble(one.protocol.model_copy(update={"settings": settings}), [one.cells[0], unknown])
    assert lines[0] == "Data dddddddddddd, tested on split exam, seed 7, at most 30 utterances a split."
    assert lines[1].startswith("Tasks: 4 probes each ")
    assert "clean speech of split learn," in lines[1]
    assert lines[1].endswith("chosen on split choose.")
    assert lines[2].startswith("Differences: 95 % intervals")
    assert lines[3:] == ["Not known which utterances they were trained on: cdm-1."]
    plain = preamble(
        one.protocol.model_copy(update={"settings": {**settings, "limit": None, "splits": {"test": "t"}}}), []
    )
    assert plain[0].endswith("seed 7.")
    assert plain[1].endswith("chosen on the tenth of train that each holds back.")
    assert len(plain) == 2


def test_what_probes_chose_is_a_table_with_what_it_is():
    one, other = (ModelScores.parse({**TEACHER, "model": name}, where="test") for name in "ab")
    one = one.model_copy(update={"chosen": {"word": (0.1, 0.1)}, "chosen_is": {"word": "C"}})
    other = other.model_copy(update={"chosen": {"text": (0.01, 0.001)}, "chosen_is": {"text": "learning rate"}})
    table = chosen_table([one, other])
    assert table.header == ("model", "word: C", "text: learning rate")
    assert table.rows == (("a", "0.1", ""), ("b", "", "0.01 0.001"))
    assert chosen_table([]) is None


def test_software_and_machine_are_told_once_for_runs_that_are_alike():
    one = document(TEACHER)
    silent = one.model_copy(update={"command": (), "machine": {"system": "Linux", "cores": "2"}})
    assert provenance_lines([one, one, silent]) == [
        "Command: stillroom evaluate evaluation.yaml out.",
        "Software: python 3.11.9. Machine: Linux.",
        "Software: python 3.11.9. Machine: Linux, 2.",
    ]


def probes(*values):
    return SimpleNamespace(values=lambda _: np.array(values))


def test_the_spread_is_half_the_range_of_the_seeds_or_of_the_probes_of_one():
    assert value_of([probes(0.25, 0.75, 0.5)], np.ones(1)) == (0.5, 0.25)
    assert value_of([probes(0.0, 1.0), probes(0.5, 1.0), probes(0.25, 0.25)], np.ones(1)) == (0.5, 0.25)
    assert [shown(-0.0004), shown(-0.00051), shown(np.nan, 0.1), shown(0.123, 0.004)] == [
        "0.0",
        "-0.1",
        "",
        "12.3 ±0.4",
    ]


def test_the_commonest_category_is_named_first():
    assert counted(np.array(list("nffsssu"))) == "seen 3, shifted 2, new 1, unknown 1"
    assert counted(np.array(list("ff"))) == "shifted"


@pytest.mark.parametrize(
    ("models", "due"),
    [
        ({"t": ("teacher", {}), "a": ("run", {"views": "cdm1"}), "b": ("run", {"views": "none"})}, "b"),
        ({"a": ("run", {"views": "cdm1"}), "e": ("export", {})}, "e"),
        ({"e": ("export", {}), "b": ("run", {"views": "none"})}, "b"),
        ({"e": ("export", {"views": "cdm1"}), "a": ("run", {"views": "cdm1"})}, "e"),
        ({"c": ("checkpoint", {}), "f": ("floor", {})}, None),
    ],
)
def test_others_are_compared_with_the_first_student_of_clean_speech(models, due):
    systems = {
        name: [SimpleNamespace(facts=SimpleNamespace(kind=kind, details=details), trained=None)]
        for name, (kind, details) in models.items()
    }
    assert baseline_of(SimpleNamespace(systems=systems)) == due


def test_columns_of_text_begin_at_the_left_and_numbers_end_at_the_right():
    assert Table("t", ("a", "word", "n"), (("日", "x", "1.5"), ("e\u0301", "yy", "22")), words=2).lines() == [
        "**t**", "", "| a   | word |   n |", "| --- | ---- | --: |", "| 日  | x    | 1.5 |", "| e\u0301   | yy   |  22 |",
    ]  # fmt: skip
    assert [width_of(one) for one in ("日本", "e\u0301", "\uff21", "ab")] == [4, 1, 2, 2]
