"""The tables: their text, their arithmetic, and what may not stand in one table."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from click.testing import CliRunner

from evaluation.cli import report_command
from evaluation.report.markdown import OtherDataError, TwoModelsError, read_results, report_text
from evaluation.report.table import Table, escaped, smaller_percent, width_of
from manifests.errors import MissingFileError, UsageError
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
