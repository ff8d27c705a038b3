"""A stranger's evaluation config, results and cells at the doors `evaluate` and `report`."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.evaluation.report.test_markdown import STUDENT, TEACHER, document
from tests.hostile.test_corpora import NASTY, TEXTS, evaluation
from tests.hostile.test_recipes import TEXTS as YAMLS
from tests.hostile.test_recipes import put

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.hostile.conftest import House

ROLL = {"speakers": ["a", "b"], "conditions": ["clean", "noise"], "utterance": "0 0 1 1", "speaker": "0 0 1 1", "condition": "0 1 0 1", "snr_db": "- 5 - 7.5"}  # fmt: skip
OUTCOME = {"task": "word", "measure": "accuracy", "probe": 0, "counts": "1 0 1 1"}
TRIAL = {"task": "verify", "copies": "1 3", "enrolled": "0 2", "same": "10", "scores": ["0.5 0.25"]}


def results() -> dict[str, Any]:
    """Results with outcomes and trials of two models."""
    found = copy.deepcopy(document(TEACHER, STUDENT))
    found["roll"] = copy.deepcopy(ROLL)
    for cell in found["cells"]:
        cell |= {"outcomes": [dict(OUTCOME)], "trials": [copy.deepcopy(TRIAL)], "seen": "chcs"}
    return found


def test_the_results_that_are_twisted_here_can_be_reported(house: House) -> None:
    house.write("results/results.json", results())
    page = house.home / "page.html"
    assert house.knock("report", house.home / "results", "--html", page, target="page.html").code == 0
    assert page.is_file()


CELL = ("cells", 0)
RESULTS: dict[str, Callable[[Any], None]] = {
    "newer": put("schema", "stillroom/results/99"),
    "no cells": put("cells", {}),
    "model of a path": put(*CELL, "model", "../../x"),
    "model of escapes": put(*CELL, "model", "\x1b[31m"),
    "model with markup": put(*CELL, "model", "<script>"),
    "condition of a path": put("protocol", "conditions", ["../x"]),
    "settings of a word": put("protocol", "settings", "x"),
    "splits of a word": put("protocol", "settings", "splits", "x"),
    "splits of numbers": put("protocol", "settings", "splits", {"test": [1]}),
    "seed of markup": put("protocol", "settings", "seed", "<script>"),
    "limit of escapes": put("protocol", "settings", "limit", "\x1b[31m"),
    "probes of a text": put("protocol", "settings", "probes", "\u202e"),
    "measures of a number": put("protocol", "settings", "measures", 7),
    "tasks of a number": put("protocol", "settings", "tasks", 7),
    "value of a word": put(*CELL, "scores", 0, "value", "much"),
    "layer beyond all": put(*CELL, "scores", 0, "layer", 10**9),
    "negative layer": put(*CELL, "scores", 0, "layer", -1),
    "negative count": put(*CELL, "scores", 0, "count", -1),
    "unknown measure": put(*CELL, "scores", 0, "measure", "\x1b[31m"),
    "digest of a word": put(*CELL, "facts", "digest", "x"),
    "negative size": put(*CELL, "facts", "parameters", -1),
    "outcomes of words": put(*CELL, "outcomes", 0, "counts", "a b c d"),
    "outcomes of NaN": put(*CELL, "outcomes", 0, "counts", "nan nan nan nan"),
    "outcomes of infinity": put(*CELL, "outcomes", 0, "counts", "inf 1e999 1 1"),
    "few outcomes": put(*CELL, "outcomes", 0, "counts", "1 1"),
    "few totals": put(*CELL, "outcomes", 0, "totals", "1"),
    "seen of another length": put(*CELL, "seen", "c"),
    "seen of other letters": put(*CELL, "seen", "\x1b[31"),
    "trial beyond the roll": put(*CELL, "trials", 0, "copies", "1 99999999"),
    "negative trial": put(*CELL, "trials", 0, "copies", "1 -1"),
    "trials of another length": put(*CELL, "trials", 0, "same", "1"),
    "trials of other letters": put(*CELL, "trials", 0, "same", "xy"),
    "few scores": put(*CELL, "trials", 0, "scores", ["1"]),
    "roll of words": put("roll", "utterance", "a b c d"),
    "roll of other lengths": put("roll", "speaker", "0"),
    "speaker beyond all": put("roll", "speaker", "0 0 1 999999999999"),
    "condition beyond all": put("roll", "condition", "0 1 0 9"),
    "no clean copy": put("roll", "condition", "1 1 1 1"),
    "negative place": put("roll", "condition", "0 1 0 -1"),
    "SNR of NaN": put("roll", "snr_db", "- nan - nan"),
    "SNR of a word": put("roll", "snr_db", "- x - y"),
    "software of a list": put("software", ["torch"]),
    "unknown key": put("\x1b[31m\u202e\n", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_hostile_results_are_one_line(house: House, name: str) -> None:
    twisted = results()
    RESULTS[name](twisted)
    house.write("results/results.json", twisted)
    page = house.home / "page.html"
    house.refused(
        "report", house.home / "results", "--html", page, "--markdown", house.home / "r.md", target="page.html"
    )
    assert not page.exists()


@pytest.mark.parametrize("name", TEXTS)
def test_bytes_that_are_no_results_are_one_line(house: House, name: str) -> None:
    house.write("results/results.json", TEXTS[name])
    house.refused("report", house.home / "results")


def test_results_of_other_data_are_one_line(house: House) -> None:
    house.write("a/results.json", document(TEACHER))
    house.write("b/results.json", document(STUDENT, data="e"))
    house.refused("report", house.home / "a", house.home / "b")


@pytest.mark.parametrize("name", [name for name in NASTY if name != "long"])
def test_hostile_texts_of_results_are_shown_harmlessly(house: House, name: str) -> None:
    """In every field that may hold any text: terminal, Markdown and page."""
    text, twisted = NASTY[name], results()
    twisted["protocol"] |= {"corpus": text, "models": {"teacher": text}}
    twisted["protocol"]["settings"] |= {"splits": {"train": text, "dev": text, "test": text}}
    twisted |= {"software": {text: text}, "machine": {text: text}, "command": [text, text]}
    twisted["roll"]["speakers"] = [text, "b"]
    for cell in twisted["cells"]:
        cell["facts"] |= {"origin": text, "details": {text: text, "steps": text, "audio_s": text}}
        cell |= {"notes": [text], "chosen": {text: [0.1]}, "chosen_is": {text: "C"}}
        for score in cell["scores"]:
            if "task" in score:
                score["task"] = text
        for told in (*cell["outcomes"], *cell["trials"]):
            told["task"] = text
    house.write("out/../results.json", twisted)
    page, markdown = house.home / "out/page.html", house.home / "out/report.md"
    (house.home / "out").mkdir(exist_ok=True)
    words = ("report", house.home / "results.json", "--html", page, "--markdown", markdown)
    assert house.knock(*words, target="out").code == 0
    for shown in (page.read_text(), markdown.read_text()):
        assert not re.search(r"(?<!\\)<(script>alert|svg/onload|img src=x)", shown)
        assert not set(shown) & set("\x1b\u202e\u2066\u2028\0\x07")
    assert not re.search(r"(?<!\\)\]\((javascript|http)", markdown.read_text())


@pytest.mark.parametrize("name", YAMLS)
def test_a_text_that_is_no_evaluation_config_is_one_line(house: House, name: str) -> None:
    path = house.write("evaluation.yaml", YAMLS[name])
    house.refused("evaluate", path, house.home / "results", target="results")


EVALUATIONS: dict[str, dict[str, Any]] = {
    "pipe as a corpus": {"corpus": "pipe:touch OWNED"},
    "chained URL": {"corpus": "simplecache::file:///etc"},
    "corpus of a file": {"corpus": "/etc/passwd"},
    "no models": {"models": {}},
    "model of a command": {"models": {"x": "pipe:touch OWNED"}},
    "model of a URL": {"models": {"x": "http://127.0.0.1:9/x.pt"}},
    "model of a device": {"models": {"x": "/dev/null"}},
    "name of a path": {"models": {"../x": "nano"}},
    "name of escapes": {"models": {"\x1b[31m": "nano"}},
    "splits alike": {"splits": {"train": "train", "test": "train"}},
    "split of a path": {"splits": {"train": "../x", "test": "dev"}},
    "unknown measure": {"measures": ["\x1b[31m"]},
    "unknown task": {"tasks": [{"kind": "shell", "command": "touch OWNED"}]},
    "task of a word": {"tasks": ["touch OWNED"]},
    "label of nothing": {"tasks": [{"kind": "classify", "label": ""}]},
    "long label": {"tasks": [{"kind": "classify", "label": "x" * 10_000}]},
    "unknown label of escapes": {"tasks": [{"kind": "classify", "label": "\x1b[31m\u202e"}]},
    "updates beyond all": {"tasks": [{"kind": "ctc", "updates": 10**12}]},
    "trials beyond all": {"tasks": [{"kind": "verify", "trials": 10**12}]},
    "table of a device": {"tasks": [{"kind": "frames", "table": "/dev/zero"}]},
    "table of a path": {"tasks": [{"kind": "frames", "table": "../../etc/nothing"}]},
    "probes beyond all": {"probes": 10**9},
    "limit of nothing": {"limit": 0},
    "unknown key of escapes": {"\x1b[2J\u202e\n": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_hostile_evaluation_config_is_one_line(house: House, name: str) -> None:
    path = evaluation(house, **EVALUATIONS[name])
    house.refused("evaluate", path, house.home / "results", target="results")
    assert not list(house.home.rglob("OWNED"))
