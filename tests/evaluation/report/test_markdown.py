"""The tables: their text, their arithmetic, and what may not stand in one table."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from click.testing import CliRunner

from evaluation.cli import report_command
from evaluation.report.make_report import report
from evaluation.report.markdown import (
    DamagedResultsError,
    OtherDataError,
    TwoModelsError,
    efficiency_table,
    escaped_long,
    hours_of,
    notes_of,
    read_results,
    report_text,
    steps_of,
    task_table,
    with_spread,
)
from evaluation.report.table import Table, escaped, percent, smaller_percent, width_of
from manifests.errors import MissingFileError, NotAFolderError, UsageError
from manifests.results.scores import Results


def cell(model, *, kind, digest, parameters, clean, noise, phone, cosine, leakage):
    scores = [
        {"measure": "accuracy", "task": "word", "condition": condition, "value": value, "count": 40, "probe": probe}
        for condition, values in (("clean", clean), ("noise", noise), ("phone", phone))
        for probe, value in enumerate(values)
    ]
    scores.append({"measure": "majority", "task": "word", "value": 0.0625, "count": 40})
    for condition in ("noise", "phone"):
        for layer, (matched, other) in enumerate(cosine, 1):
            scores.append(
                {"measure": "cosine", "condition": condition, "layer": layer, "value": matched, "count": 2000}
            )
            scores.append(
                {"measure": "mismatched", "condition": condition, "layer": layer, "value": other, "count": 1950}
            )
    scores += [
        {"measure": "leakage", "layer": layer, "value": value, "count": 120} for layer, value in enumerate(leakage, 1)
    ]
    scores.append({"measure": "majority", "value": 1 / 3, "count": 120})
    return {
        "schema": "stillroom/cell/1", "model": model, "protocol_sha256": "a" * 64, "data_sha256": "d" * 64,
        "facts": {
            "kind": kind, "origin": "nano" if kind == "teacher" else f"{model}, last", "digest": digest * 64,
            "parameters": parameters, "layers": len(cosine), "heard_known": kind == "run",
            "details": {"steps": 1000} if kind == "run" else {"steps": ["odd"]},
        },
        "scores": scores, "notes": ["word: 2 of 42 test utterances are left out"], "chosen": {"word": [0.1, 0.01]},
        "cost": {"audio_s": 5400.0, "hearing_s": 61.0, "probing_s": 4.2},
    }  # fmt: skip


TEACHER = cell(
    "teacher", kind="teacher", digest="1", parameters=2_200_000, clean=(0.935, 0.915), noise=(0.5, 0.5),
    phone=(0.8, 0.74), cosine=[(0.81, 0.10), (0.70, 0.12)], leakage=(0.91, 0.88),
)  # fmt: skip
STUDENT = cell(
    "cdm2-dat", kind="run", digest="2", parameters=715_000, clean=(0.9, 0.9), noise=(0.68, 0.66), phone=(0.85, 0.85),
    cosine=[(0.92, 0.11)], leakage=(0.52,),
)  # fmt: skip


def document(*cells, corpus="tiny", data="d", **settings):
    return {
        "schema": "stillroom/results/1",
        "protocol": {
            "schema": "stillroom/protocol/1", "corpus": corpus, "data_sha256": data * 64, "conditions": ["noise", "phone"],
            "settings": {
                "splits": {"train": "train", "dev": "dev", "test": "test"}, "measures": ["cosine", "leakage"],
                "tasks": [{"kind": "classify", "label": "word"}], "seed": 0, "probes": 2, **settings,
            },
            "models": {one["model"]: one["facts"]["origin"] for one in cells},
        },
        "cells": list(cells), "software": {"python": "3.11.9", "torch": "2.11.0"}, "machine": {"system": "Linux"},
    }  # fmt: skip


def results(*cells, **changes) -> Results:
    return Results.parse(document(*cells, **changes), where="test")


def changed_protocol(**changes) -> Results:
    found = document(STUDENT)
    return Results.parse({**found, "protocol": {**found["protocol"], **changes}}, where="test")


def test_the_report_is_the_golden_one(golden):
    golden("evaluation_report.md", report_text([results(TEACHER, STUDENT)]))


def table_row(text: str, title: str, model: str) -> list[str]:
    lines = text[text.index(title) :].splitlines()
    row = next(line for line in lines if line.startswith(f"| {model} "))
    return [column.strip() for column in row.strip("|").split("|")]


def test_mean_and_loss_are_those_of_a_calculator():
    text = report_text([results(TEACHER, STUDENT)])
    # teacher: clean (93.5 + 91.5) / 2; means over conditions 65 and 62; losses 28.5 and 29.5
    expected = ["teacher", "92.5 ±1.0", "50.0 ±0.0", "77.0 ±3.0", "63.5 ±1.5", "29.0 ±0.5"]
    assert table_row(text, "Task: word", "teacher") == expected
    # student: means 76.5 and 75.5; losses 13.5 and 14.5
    assert table_row(text, "Task: word", "cdm2-dat")[-2:] == ["76.0 ±0.5", "14.0 ±0.5"]
    assert "67.5 %" in table_row(text, "**Models**", "cdm2-dat")
    assert table_row(text, "Frame cosine", "teacher")[1:] == ["1", "0.81 / 0.10", "0.81 / 0.10", "0.71"]


def test_an_error_rate_loses_upwards_and_says_of_what_it_is():
    rates = {"clean": (0.10, 0.12), "noise": (0.30, 0.34), "phone": (0.20, 0.20)}
    scores = [
        {"measure": "cer", "task": "text", "condition": condition, "value": value, "count": 40, "probe": probe}
        for condition, values in rates.items()
        for probe, value in enumerate(values)
    ]
    text = report_text([results({**TEACHER, "scores": scores})])
    assert "**Task: text, CER (40 test utterances)**" in text
    # means over conditions 25 and 27, losses 15 and 15: more errors are a loss
    expected = ["teacher", "11.0 ±1.0", "32.0 ±2.0", "20.0 ±0.0", "26.0 ±1.0", "15.0 ±0.0"]
    assert table_row(text, "Task: text", "teacher") == expected


def test_smaller_is_in_percent_of_the_other():
    assert smaller_percent(350, than=1000) == pytest.approx(65.0)
    assert smaller_percent(1500, than=1000) == pytest.approx(-50.0)


def test_results_of_one_protocol_are_joined_and_a_model_in_both_stands_once():
    joined = report_text([results(TEACHER), results(TEACHER, STUDENT)])
    assert joined == report_text([results(TEACHER, STUDENT)])


@pytest.mark.parametrize(
    ("other", "error", "told"),
    [
        (results(STUDENT, data="e"), OtherDataError, r"a and b were measured with different data \(tiny d{12}; tiny e{12}\)"),
        (results(STUDENT, limit=5), OtherDataError, r"different settings \(limit: None; limit: 5\)"),
        (changed_protocol(conditions=["noise"]), OtherDataError, r"settings \(conditions: noise, phone; conditions: noise\)"),
        (results({**TEACHER, "facts": {**TEACHER["facts"], "digest": "3" * 64}}), TwoModelsError, "two models have the name 'teacher'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_and_named(other, error, told):
    with pytest.raises(error, match=told):
        report_text([results(TEACHER), other], names=["a", "b"])


def test_the_same_data_may_go_by_two_names():
    joined = report_text([results(TEACHER), results(STUDENT, corpus="renamed")])
    assert joined == report_text([results(TEACHER, STUDENT)])


def test_no_results_are_told():
    with pytest.raises(UsageError):
        report_text([])


def test_columns_are_aligned_in_a_terminal():
    lines = Table("t", ("model", "x"), (("日本", "1.0"), ("a|b\n\x1b[31m", "23.0"))).lines()[2:]
    assert len({width_of(line) for line in lines}) == 1
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


def test_text_of_strangers_is_only_text():
    bad = copy.deepcopy(STUDENT)
    bad["facts"]["origin"] = "<script>alert(1)</script>\x1b[2J\n| forged | row |\u202e"
    bad["notes"] = ["[a](javascript:x)\n# heading"]
    text = report_text([results(TEACHER, bad, corpus="<b>*x*")])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" not in text.replace("\\<", "")
    assert "\\<script\\>" in text
    assert "\n# heading" not in text
    assert "\n| forged" not in text
    assert text.startswith("# Robustness on \\<b\\>\\*x\\*\n")


def test_a_note_on_every_model_stands_once():
    text = report_text([results(TEACHER, {**STUDENT, "notes": [*STUDENT["notes"], "one more"]})])
    assert "- all models: word: 2 of 42 test utterances are left out\n- cdm2-dat: one more" in text


def test_ordinary_words_stay_as_they_are():
    assert escaped("cdm2_dat, hubert_base: 2 of 3") == "cdm2_dat, hubert_base: 2 of 3"


def test_the_command_prints_and_writes_the_same(tmp_path):
    (tmp_path / "one").mkdir()
    results(TEACHER).write(tmp_path / "one/results.json")
    (tmp_path / "two").mkdir()
    results(STUDENT).write(tmp_path / "two/results.json")
    arguments = [str(tmp_path / "one"), str(tmp_path / "two"), "--markdown", str(tmp_path / "report.md")]
    done = CliRunner().invoke(report_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output == report_text([results(TEACHER, STUDENT)]) == (tmp_path / "report.md").read_text()


def test_an_unfinished_folder_is_told(tmp_path):
    with pytest.raises(MissingFileError, match="`stillroom evaluate` has finished"):
        read_results(tmp_path)


def test_the_commands_load_neither_torch_nor_scikit_learn_to_show_help_or_a_report(tmp_path):
    results(TEACHER).write(tmp_path / "results.json")
    code = (
        "import sys; from click.testing import CliRunner; from evaluation.cli import evaluate_command, report_command;"
        "assert CliRunner().invoke(evaluate_command, ['--help']).exit_code == 0;"
        f"assert CliRunner().invoke(report_command, [{str(tmp_path)!r}]).exit_code == 0;"
        "assert not {'torch', 'sklearn', 'lhotse'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_results_that_were_cut_off_say_what_to_do_and_another_file_is_no_folder(tmp_path):
    path = tmp_path / "results.json"
    results(TEACHER).write(path)
    assert read_results(tmp_path) == read_results(path) == results(TEACHER)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(
        DamagedResultsError,
        match=r"results\.json.*: remove it and run `stillroom evaluate` again, finished models stay$",
    ):
        read_results(tmp_path)
    (tmp_path / "report.md").write_text("# Robustness")
    with pytest.raises(NotAFolderError, match=r"report\.md is a file, not a folder: name a folder that"):
        read_results(tmp_path / "report.md")


def test_models_of_one_name_are_told_with_the_digests_of_both():
    other = {**TEACHER, "facts": {**TEACHER["facts"], "digest": "3" * 64}}
    with pytest.raises(
        TwoModelsError,
        match=r"^two models have the name 'teacher' \(1{12} and 3{12}\): rename one in its evaluation config$",
    ):
        report_text([results(TEACHER), results(other)])


def test_the_settings_that_differ_first_are_told_each_with_its_own_results():
    changed = document(STUDENT, seed=3, probes=9)
    with pytest.raises(
        OtherDataError,
        match=r"^a and b were measured with different settings \(probes: 2; probes: 9\): report them one by one$",
    ):
        report_text([results(TEACHER), Results.parse(changed, where="test")], names=["a", "b"])


def scores_of(task, measure, **conditions):
    return [
        {"measure": measure, "task": task, "condition": condition, "value": value, "count": count, "probe": probe}
        for condition, (count, *values) in conditions.items()
        for probe, value in enumerate(values)
    ]


def test_a_task_has_those_who_were_tested_on_clean_and_the_mean_of_what_there_is():
    whole = {**TEACHER, "scores": [
        *scores_of("who", "eer", clean=(12, 0.125), noise=(24, 0.5)), {"measure": "majority", "task": "word", "value": 0.5, "count": 99},
    ]}  # fmt: skip
    distorted = {**STUDENT, "scores": scores_of("who", "eer", noise=(24, 0.25))}
    clean = {**STUDENT, "model": "clean", "scores": scores_of("who", "eer", clean=(12, 0.25, 0.5))}
    one = results(whole, distorted, clean)
    table = task_table(one.cells, "who", "eer", one.protocol)
    assert table.title == "Task: who, EER (24 trials)"
    assert table.header == ("model", "clean", "noise", "phone", "mean distorted", "loss")
    assert table.rows == (("teacher", "12.5", "50.0", "", "50.0", "37.5"), ("clean", "37.5 ±12.5", "", "", "", ""))
    word = results({**TEACHER, "scores": [*scores_of("word", "accuracy", clean=(12, 0.5)), *whole["scores"]]})
    titled = task_table(word.cells, "word", "accuracy", word.protocol).title
    assert titled == "Task: word (99 test utterances, 50.0 % for always the same answer)"


def test_a_spread_is_half_the_range_and_one_value_has_none():
    assert [with_spread(values) for values in ([], [0.5], [0.25, 0.125, 0.375], [0.5, 0.5])] == [
        "", "50.0", "25.0 ±12.5", "50.0 ±0.0",
    ]  # fmt: skip
    assert (percent(0.935), percent(0.935, spread=0.004), percent(0.5, spread=0.0)) == (
        "93.5",
        "93.5 ±0.4",
        "50.0 ±0.0",
    )


def test_the_table_of_cost_has_each_number_in_its_unit_and_none_of_who_was_not_measured():
    cost = {"macs_per_s": 1.234e9, "real_time_factor": 0.01234, "size_mb": 2.875, "measured_s": 4.0}
    table = efficiency_table(results(TEACHER, {**STUDENT, "efficiency": cost}).cells)
    assert table.header == ("model", "MACs a second of audio", "real-time factor", "size, MB")
    assert table.rows == (("cdm2-dat", "1234 M", "0.0123", "2.88"),)


@pytest.mark.parametrize(
    ("details", "steps", "hours"),
    [
        ({"steps": 12, "audio_s": 5400}, "12", "1.50 h"),
        ({"steps": 0, "audio_s": 0}, "0", ""),
        ({"steps": "12", "audio_s": "9"}, "", ""),
        ({}, "", ""),
    ],
)
def test_steps_and_hours_are_shown_where_a_record_has_them(details, steps, hours):
    [model] = results({**STUDENT, "facts": {**STUDENT["facts"], "details": details}}).cells
    assert (steps_of(model), hours_of(model)) == (steps, hours)


def test_a_note_is_told_with_the_models_that_it_is_about_in_their_order():
    cells = [
        {**STUDENT, "model": name, "notes": notes}
        for name, notes in (("c", ["x", "y"]), ("a", ["y"]), ("b", ["z", "y", "x"]))
    ]
    assert notes_of(results(*cells).cells) == [("c, b", "x"), ("all models", "y"), ("b", "z")]


def test_a_long_list_is_escaped_item_by_item_and_ends_after_forty():
    assert escaped_long("a*b, " + "y" * 100 + ", c_") == "a\\*b, " + "y" * 100 + ", c\\_"
    assert escaped_long(", ".join(map(str, range(60)))) == ", ".join(map(str, range(40)))
    assert len(escaped("x" * 300)) == 120


def test_tables_of_a_report_are_in_the_order_of_their_weight(tmp_path):
    """With everything that there may be, and against whom it is asked for."""
    from tests.evaluation.report.test_html import ONE
    from tests.evaluation.report.test_html import TEACHER as FIRST
    from tests.evaluation.report.test_html import document as whole

    cost = {"macs_per_s": 1e9, "real_time_factor": 0.1, "size_mb": 2.0, "measured_s": 4.0}
    leak = [{"measure": measure, "layer": 1, "value": 0.5, "count": 9} for measure in ("leakage_mlp", "leakage")]
    first = {**FIRST, "efficiency": cost, "chosen": {"word": [0.1]}, "scores": FIRST["scores"] + leak}
    found = whole(first, ONE)
    settings = {**found.protocol.settings, "measures": ["cosine"]}
    for name, roll in (("one", None), ("two", found.roll)):
        (tmp_path / name).mkdir()
        cells = found.cells if roll is not None else found.cells[:1]
        changed = {"roll": roll, "cells": cells, "protocol": found.protocol.model_copy(update={"settings": settings})}
        found.model_copy(update=changed).write(tmp_path / name / "results.json")
    text = report([tmp_path / "one", tmp_path / "two"], against="teacher")
    titles = [line.strip("*") for line in text.splitlines() if line.startswith("**")]
    starts = (
        "Models", "Cost on one thread", "The table, in %", "Loss against own clean", "Loss against teacher", "Against teacher: word",
        "What test copies are", "Task: word (12 test", "By SNR: word", "Frame cosine", "Linear CKA", "Retrieval@1",
        "Leakage: accuracy in % of a linear probe", "Leakage: accuracy in % of a small network", "What probes chose", "Notes",
    )  # fmt: skip
    assert len(titles) == len(starts)
    assert [title for title, start in zip(titles, starts, strict=True) if not title.startswith(start)] == []
    assert text == report([str(tmp_path / "one"), tmp_path / "two"], against="teacher", markdown=tmp_path / "r.md")
    assert (tmp_path / "r.md").read_text() == text
    without = found.model_copy(
        update={"protocol": found.protocol.model_copy(update={"settings": {**settings, "measures": []}})}
    )
    assert "Frame cosine" not in report_text([without])
    assert report_text([found]).endswith("Software: python 3.11.9. Machine: Linux.\n")
