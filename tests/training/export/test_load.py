"""Exports are read back from their folders, and known from folders of other kinds."""

from __future__ import annotations

import json

import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError
from tests.training.conftest import random_encoder
from training.export.load import OnnxError, export_files, is_export, load_export, load_torchaudio
from training.export.torchaudio import write_torchaudio

NAMES = ("distiller.ckpt", "torchaudio.json", "model.onnx")


def test_a_folder_is_an_export_by_one_of_three_files_unless_it_has_a_config(tmp_path):
    assert not is_export(tmp_path)
    for name in NAMES:
        (tmp_path / name).mkdir()
        assert not is_export(tmp_path)
        (tmp_path / name).rmdir()
        (tmp_path / name).touch()
        assert is_export(tmp_path)
        (tmp_path / "config.json").touch()
        assert not is_export(tmp_path)
        (tmp_path / "config.json").unlink()
        (tmp_path / name).unlink()
    assert export_files(tmp_path) == [tmp_path / "torchaudio.json", tmp_path / "weights.pt"]
    (tmp_path / "torchaudio.json").touch()
    (tmp_path / "distiller.ckpt").touch()
    assert export_files(tmp_path) == [tmp_path / "distiller.ckpt", tmp_path / "distiller.encoder.json"]


def test_a_graph_without_weights_is_refused_with_what_to_name_instead(tmp_path):
    (tmp_path / "model.onnx").touch()
    with pytest.raises(OnnxError) as caught:
        load_export(tmp_path, name="x")
    assert str(caught.value) == (
        f"{tmp_path} is an export to ONNX, a graph without the weights' names, which `stillroom evaluate` alone reads: name the run it was "
        "made from, or export that to huggingface, s3prl or torchaudio"
    )


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ({}, {"projection_norm": False, "sample_rate": 8000}),
        ({"family": "wavlm", "normalise": True}, {"normalize_epsilon": 0.01}),
    ],
)
def test_an_export_to_torchaudio_is_the_encoder_that_was_written(tmp_path, shape, changes):
    encoder = random_encoder(**shape, changes=changes)
    write_torchaudio(encoder, tmp_path)
    (tmp_path / "heard.txt").write_text("0123456789abcdef\n")
    found = load_export(tmp_path, name="mine")
    assert found.config == encoder.config
    assert (found.digest, found.name, found.trained_on) == (encoder.digest, "mine", {"0123456789abcdef"})


def test_a_damaged_export_to_torchaudio_is_one_line_that_names_its_file(tmp_path):
    write_torchaudio(random_encoder(), tmp_path)
    path = tmp_path / "torchaudio.json"
    record = json.loads(path.read_text())
    for content, message in (
        ({**record, "arguments": [1]}, "arguments: expected a mapping, the arguments of torchaudio's builder"),
        ([record], "arguments: expected a mapping"),
        ({**record, "sample_rate": 3}, "sample_rate"),
        ({**record, "arguments": {**record["arguments"], "encoder_num_heads": 5}}, "describes no model"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(BadDocumentError, match=rf"torchaudio\.json: {message}"):
            load_torchaudio(tmp_path, name="x")
    path.write_text(json.dumps(record))
    torch.save({"encoder.transformer.layer_norm.bias": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(BadDocumentError, match=r"weights\.pt: does not fit its config"):
        load_torchaudio(tmp_path, name="x")
    for name in ("weights.pt", "torchaudio.json"):
        (tmp_path / name).unlink()
        with pytest.raises(
            MissingFileError, match=rf"{name}.*an export to torchaudio holds torchaudio\.json and weights"
        ):
            load_torchaudio(tmp_path, name="x")
