"""Runs of an older Stillroom go on; those of a newer one are left alone."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from manifests.errors import BadDocumentError, NewerSchemaError
from manifests.io.digest import file_digest
from manifests.io.json_yaml import read_json, write_json
from manifests.io.yaml12 import parse_yaml
from training import loop
from training.config.load import load_config, resolved, run_config
from training.runs.checkpoint import load_run, read_tensors
from training.runs.folder import OtherConfigError
from training.runs.resume import OtherOrderError

OLDER = """
schema: stillroom/train/2
preset: cdm2
corpus: {corpus}
teacher: {{name: nano, layers: [1, 3]}}
student: {{layers: 1, dropout: 0.1, cnn_gradient: 0.1}}
batch: {{seconds: 6.0, utterances: null, lanes: 2}}
crop_s: 1.0
crops: {{sets: 2, seed: 5, context: crop}}
views: {{kind: cdm2, clean_share: 0.0625}}
adversary: null
steps: 2
checkpoint_every: 1
workers: 0
"""


@pytest.fixture(name="run")
def finished_run(tmp_path, corpus):
    """As an older version left it: a key that is a constant today, views without conditions of either model, a count of copies."""
    data = parse_yaml(OLDER.format(corpus=corpus).encode(), where="test")
    loop.distil(resolved(data, where="test", over_preset=False), tmp_path / "run", report=str)
    (tmp_path / "run/config.yaml").write_text(OLDER.format(corpus=corpus))
    for path in (tmp_path / "run/checkpoints").glob("*.safetensors"):
        tensors = read_tensors(path) | {"tally.copies": torch.zeros(16384, dtype=torch.uint8)}
        safetensors.torch.save_file(tensors, path)
        mark = read_json(path.with_suffix(".json"), needed="test")
        write_json(path.with_suffix(".json"), {**mark, "sha256": file_digest(path)})
    return tmp_path / "run"


def test_a_run_of_an_older_version_goes_on_with_its_own_config(tmp_path, run):
    config = load_config(run / "config.yaml")
    assert config.views.student.clean_share == config.views.teacher.clean_share == 0, "its preset sets both today"
    assert (config.crops.sets, config.crops.seed) == (2, 5)
    assert load_config(run / "config.yaml", overrides=("workers=1",)).workers == 1
    assert load_run(run).num_layers == 1
    newest = max((run / "checkpoints").glob("*.safetensors"))
    before = read_tensors(newest)
    newest.unlink()
    newest.with_suffix(".json").unlink()
    assert loop.distil(config, run, report=str) == "done"
    after = read_tensors(newest)
    assert before.keys() - after.keys() == {"tally.copies"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    copied = tmp_path / "mine.yaml"
    copied.write_text((run / "config.yaml").read_text())
    with pytest.raises(OtherConfigError, match=r"go on with its own config\.yaml"):
        loop.distil(load_config(copied), run, report=str)


def test_a_run_with_another_value_of_a_dropped_key_is_exported_and_not_trained_on(tmp_path, run):
    """Its students were made otherwise, so it cannot go on; it can be read."""
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("context: crop", "context: whole"))
    with pytest.raises(
        BadDocumentError, match=r"crops\.context: not a key any more; it is always crop .* got whole: leave it out"
    ):
        load_config(path)
    assert run_config(path, any_version=True).crops.seed == 5
    assert load_run(run).num_layers == 1


def test_a_config_of_the_first_version_is_refused_in_one_line(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("schema: stillroom/train/1\ncorpus: tiny\nteacher: {name: nano}\n")
    with pytest.raises(
        BadDocumentError, match="'stillroom/train/1' is not read any more; write a config of stillroom/train/2"
    ):
        load_config(path)


def test_a_checkpoint_of_a_newer_version_is_refused_and_nothing_overwritten(run):
    """It is whole, so it is not torn: to begin anew would train over it."""
    for path in (run / "checkpoints").glob("*.json"):
        path.write_text(path.read_text().replace("stillroom/checkpoint/2", "stillroom/checkpoint/3"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(NewerSchemaError, match=r"stillroom/checkpoint/3.*install a newer one"):
        loop.distil(load_config(run / "config.yaml"), run, report=str)
    with pytest.raises(NewerSchemaError):
        load_run(run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_run_whose_batches_came_in_another_order_is_not_resumed_but_still_evaluated(run):
    """As its checkpoints were before the order had a number."""
    for path in (run / "checkpoints").glob("*.json"):
        mark = read_json(path, needed="test")
        assert mark.pop("order") == 2
        write_json(path, {**mark, "schema": "stillroom/checkpoint/1"})
    config = load_config(run / "config.yaml")
    assert loop.distil(config, run, report=str) == "done", "nothing is left to do"
    max((run / "checkpoints").glob("*.json")).unlink()
    checkpoints = {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    with pytest.raises(OtherOrderError, match=r"another order \(version 1, this Stillroom has 2\)") as caught:
        loop.distil(config, run, report=str)
    assert "\n" not in str(caught.value)
    assert checkpoints == {path: path.read_bytes() for path in (run / "checkpoints").iterdir()}
    assert load_run(run).facts["steps"] == 1
