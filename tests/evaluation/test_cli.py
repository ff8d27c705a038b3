"""`stillroom evaluate`, `report` and `export`: their options reach the evaluation, and the next command can be typed as it is said."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation.cli import evaluate_command, export_command, report_command
from manifests.errors import UsageError
from manifests.results.scores import Results
from tests.evaluation.test_models import write_run
from tests.oracles.tiny_corpus import tiny_split, write_corpus

WORD = {"kind": "classify", "label": "word", "probe": "distorted"}


def invoke(*words):
    return CliRunner().invoke(evaluate_command, list(map(str, words)), catch_exceptions=False)


@pytest.fixture
def config(tmp_path):
    """A run with another last than best checkpoint, and log-mel; nothing but probes on words."""
    splits = {name: tiny_split(name, count=8, members=("noise-0",)) for name in ("train", "test")}
    write_corpus(tmp_path / "tiny", splits)
    for folder, step in (("checkpoints", 7), ("best", 3)):
        write_run(tmp_path / "ours", folder=folder, step=step)
    given = {
        "corpus": "tiny", "models": {"student": "ours", "floor": "logmel"}, "tasks": [WORD], "measures": [], "probes": 1,
        "efficiency": False, "seed": 3,
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    return tmp_path / "c.yaml"


@pytest.mark.parametrize(("options", "origin", "steps"), [([], "ours, last", 7), (["--best"], "ours, best", 3)])
def test_the_command_writes_results_and_says_how_to_print_them(config, tmp_path, options, origin, steps):
    out = tmp_path / "my results"
    lines = invoke(config, out, *options).output.splitlines()
    assert shlex.split(lines[-1])[:3] == ["stillroom", "report", str(out)]
    results = Results.read(out / "results.json", needed="")
    assert results.protocol.models == {"student": origin, "floor": "logmel"}
    assert results.protocol.settings["seed"] == 3
    student, floor = results.cells
    assert (student.facts.origin, student.facts.details["steps"]) == (origin, steps)
    assert (floor.facts.kind, {score.count for score in floor.scores}) == ("floor", {8})
    assert "what it was trained on is not known" in student.notes[0]
    assert (student.seen, floor.seen) == ("cu" * 8, "cn" * 8)
    assert (out / "report.md").is_file()


def test_a_dry_run_writes_nothing_and_counts_what_is_processed(config, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    lines = invoke(config, tmp_path / "out", "--dry-run", "--best").output.splitlines()
    seconds = 0.0
    for split in (
        "train",
        "test",
    ):  # each clean wave, and a copy of each: what probes on distorted speech learn, what is tested
        index = json.loads((tmp_path / f"tiny/shards/{split}-000000.json").read_text())
        seconds += 2 * sum(one["num_samples"] for one in index["samples"]) / 16000
    assert lines == [
        f"2 models, each processes {seconds / 3600:.3g} h of audio, all copies counted",
        "nothing was written",
    ]
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run there")
def test_a_device_that_is_not_there_is_said(config, tmp_path):
    with pytest.raises(UsageError, match=r"^--device cuda: torch finds no such device here"):
        invoke(config, tmp_path / "out", "--device", "cuda")
    assert not (tmp_path / "out").exists()


def test_every_option_of_evaluate_reaches_it(config, tmp_path, monkeypatch):
    given = []
    for name in ("evaluate", "dry_run", "chosen_device"):
        monkeypatch.setattr(
            f"evaluation.evaluate_models.{name}", lambda *args, name=name, **rest: given.append((name, args, rest))
        )
    out = tmp_path / "my results"
    options = ("--set", "limit=7", "--set", f"models.mine={tmp_path / 'ours'}", "--set", "seed=5")
    said = invoke(config, out, *options, "--device", "cuda").output
    [(name, (read, folder), rest)] = given
    rest.pop("log")("a line")
    assert (name, folder, rest) == ("evaluate", out, {"device": "cuda"})
    assert (read.limit, read.seed, list(read.models)) == (7, 5, ["student", "floor", "mine"])
    assert read.models["mine"].checkpoint == read.models["student"].checkpoint == "last"
    assert said == f"stillroom report {shlex.quote(str(out))} prints the tables, which are in report.md there too\n"
    given.clear()
    assert invoke(config, out, *options[:2], "--device", "cpu", "--dry-run", "--best").output == ""
    assert [one[0] for one in given] == ["chosen_device", "dry_run"]
    assert given[0][1:] == (("cpu",), {})
    (read, folder), rest = given[1][1:]
    assert (read.limit, read.models["student"].checkpoint, folder, list(rest)) == (7, "best", out, ["log"])
    given.clear()
    invoke(config, out)
    assert given[0][2]["device"] is None


def test_every_option_of_report_reaches_it_and_its_text_is_printed_as_it_is(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "evaluation.report.make_report.report", lambda *args, **rest: given.append((args, rest)) or "text\n"
    )
    words = ["a", "b", "--markdown", "tables.md", "--html", "page.html", "--csv", "csv", "--against", "plain"]
    assert CliRunner().invoke(report_command, words, catch_exceptions=False).output == "text\n"
    CliRunner().invoke(report_command, ["a"], catch_exceptions=False)
    assert given == [
        (
            ((Path("a"), Path("b")),),
            {"markdown": Path("tables.md"), "html": Path("page.html"), "csv": Path("csv"), "against": "plain"},
        ),
        (((Path("a"),),), {"markdown": None, "html": None, "csv": None, "against": None}),
    ]


@pytest.mark.parametrize("note", ["", "a note"])
def test_every_option_of_export_reaches_it_and_it_says_what_was_compared(tmp_path, monkeypatch, note):
    given = []
    done = SimpleNamespace(
        path="out", loads="load() of out/load.py", utterances=3, seconds=7.26, shown_difference="1e-05 (at most 0.0001)", note=note,
    )  # fmt: skip
    monkeypatch.setattr(
        "evaluation.report.model_card.export_with_card", lambda *args, **rest: given.append((args, rest)) or done
    )
    audio = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in audio:
        path.touch()
    (tmp_path / "run").mkdir()
    run, out = tmp_path / "run", tmp_path / "out"
    words = ["--to", "onnx", "--checkpoint", "best", "--int8", "--results", "one", "--results", "two"]
    words += [word for path in audio for word in ("--audio", str(path))]
    said = CliRunner().invoke(export_command, [str(run), str(out), *words], catch_exceptions=False).output
    assert said.splitlines() == [
        "out: load() of out/load.py", "largest difference from the run over 3 utterances (7.3 s): 1e-05 (at most 0.0001)", *([note] if note else []),
    ]  # fmt: skip
    CliRunner().invoke(export_command, [str(run), str(out), "--to", "s3prl"], catch_exceptions=False)
    assert given == [
        ((run, out), {"form": "onnx", "checkpoint": "best", "audio": tuple(audio), "int8": True, "results": (Path("one"), Path("two"))}),
        ((run, out), {"form": "s3prl", "checkpoint": "last", "audio": (), "int8": False, "results": ()}),
    ]  # fmt: skip
