"""`stillroom evaluate`: its options reach the evaluation, and the next command can be typed as it is said."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation.cli import evaluate_command
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
