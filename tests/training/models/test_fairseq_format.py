"""Checkpoints of fairseq, s3prl and WavLM give the layers that s3prl's own models give."""

from __future__ import annotations

import argparse
import pickle
import warnings

import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError
from tests.oracles import fairseq_models
from training.models.fairseq_format import convolutions
from training.models.huggingface_format import WrongFamilyError
from training.teacher import load_teacher

pytest.importorskip("s3prl.upstream.distiller.model")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Support for mismatched")
MODELS = {"hubert": fairseq_models.hubert, "wav2vec2": fairseq_models.wav2vec2, "wavlm": fairseq_models.wavlm}


def spoken(num_samples=9000, seed=1):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.02


def saved(path, checkpoint):
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("shape", [{}, fairseq_models.LARGE], ids=["base", "large"])
def test_every_layer_is_that_of_the_original(family, shape, tmp_path):
    model, checkpoint = MODELS[family](**shape)
    teacher = load_teacher(saved(tmp_path / "checkpoint.pt", checkpoint))
    expected = fairseq_models.layers_of(model, spoken(), normalise=bool(shape))
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-5
    assert float((found[:, 0] - found[:, 2]).abs().mean()) > 0.05
    assert teacher.config.pretrained_as == family
    assert teacher.config.normalize_waveform == bool(shape)
    assert teacher.name == "checkpoint"


def test_distilhuberts_layers_are_those_of_s3prl(tmp_path):
    model, checkpoint = fairseq_models.distiller()
    # s3prl's trainer keeps its command line beside the model
    checkpoint |= {"Args": argparse.Namespace(lr=1e-4), "Step": 7}
    teacher = load_teacher(saved(tmp_path / "distilhubert.ckpt", checkpoint))
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    assert float((found - fairseq_models.layers_of(model, spoken())).abs().max()) < 1e-5
    assert not teacher.config.projection_norm
    assert (teacher.num_layers, teacher.config.pretrained_as) == (2, "hubert")


def test_a_fine_tuned_model_holds_the_pretrained_one(tmp_path):
    _, checkpoint = fairseq_models.wav2vec2()
    plain = load_teacher(saved(tmp_path / "plain.pt", checkpoint))
    tuned = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in checkpoint["model"].items()}
    tuned["w2v_encoder.proj.weight"] = torch.zeros(5, 24)
    cfg = {"model": {"_name": "wav2vec_ctc", "w2v_args": checkpoint["cfg"]}, "task": {"normalize": False}}
    found = load_teacher(saved(tmp_path / "tuned.pt", {"model": tuned, "cfg": cfg}))
    assert found.digest == plain.digest
    assert found.config == plain.config


class Task:
    """What fairseq keeps in its checkpoints."""

    def __init__(self):
        self.dictionaries = [{"a": 0}]

    def __setstate__(self, state):
        raise AssertionError("something of the checkpoint was run")


@pytest.mark.parametrize(
    "held", [{"task_state": Task()}, {"args": argparse.Namespace(arch="hubert")}], ids=["task", "args"]
)
def test_objects_beside_the_weights_are_neither_made_nor_in_the_way(tmp_path, held):
    _, checkpoint = fairseq_models.wav2vec2()
    plain = load_teacher(saved(tmp_path / "plain.pt", checkpoint))
    assert load_teacher(saved(tmp_path / "hubert_base.pt", {**checkpoint, **held})).digest == plain.digest


def omega_checkpoint(omegaconf):
    """fairseq's layout, with an interpolation and a choice."""
    model, checkpoint = fairseq_models.hubert()
    shape = {
        **checkpoint["model_cfg"],
        "label_rate": "${task.label_rate}",
        "extractor_mode": fairseq_models.Mode.default,
    }
    cfg = omegaconf.OmegaConf.create({"model": shape, "task": {"normalize": True}})
    return model, {"model": checkpoint["model_weight"], "cfg": cfg, "args": None}


def plain_checkpoint(_):
    """The same as a plain mapping, as later versions write it."""
    model, checkpoint = fairseq_models.hubert()
    shape = {**checkpoint["model_cfg"], "extractor_mode": fairseq_models.Mode.default}
    cfg = {"model": shape, "task": {"normalize": True}}
    return model, {"model": checkpoint["model_weight"], "cfg": cfg, "args": None}


def tuned_checkpoint(_):
    """A fine-tuned model of before omegaconf: a command line, which holds the command line of the pre-trained one."""
    model, checkpoint = fairseq_models.wav2vec2()
    before = argparse.Namespace(**checkpoint["cfg"]["model"], arch="wav2vec2")
    weights = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in checkpoint["model"].items()}
    args = argparse.Namespace(arch="wav2vec_ctc", w2v_args=before, normalize=True)
    return model, {"model": weights, "cfg": None, "args": args}


@pytest.mark.parametrize("written", [omega_checkpoint, plain_checkpoint, tuned_checkpoint])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])
def test_a_checkpoint_of_fairseq_is_read_without_fairseq(tmp_path, written, is_zip):
    model, checkpoint = written(pytest.importorskip("omegaconf"))
    path = tmp_path / "a hubert.pt"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=is_zip)
    teacher = load_teacher(path)
    expected = fairseq_models.layers_of(model, spoken(), normalise=True)
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    assert float((found - expected).abs().max()) < 5e-6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda checkpoint: {**checkpoint, "model": {"a": torch.zeros(3)}}, WrongFamilyError, "none of the names"),
        (lambda checkpoint: {"model": checkpoint["model"]}, BadDocumentError, "without the configuration"),
        (lambda checkpoint: {"cfg": checkpoint["cfg"]}, BadDocumentError, "no weights"),
        (lambda _: torch.zeros(3), BadDocumentError, "a mapping"),
        (lambda checkpoint: {**checkpoint, "cfg": {"conv_feature_layers": "__import__('os')"}}, BadDocumentError, "not a list"),
        (lambda checkpoint: {**checkpoint, "cfg": {**checkpoint["cfg"]["model"], "encoder_attention_heads": 7}}, BadDocumentError, "no model"),
        (lambda checkpoint: {**checkpoint, "cfg": {**checkpoint["cfg"]["model"], "conv_pos": 8}}, BadDocumentError, "does not fit"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_is_something_else_is_one_line(tmp_path, change, error, message):
    _, checkpoint = fairseq_models.wav2vec2()
    with pytest.raises(error, match=message) as caught:
        load_teacher(saved(tmp_path / "model.pt", change(checkpoint)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 and no more", b"\x80\x02}q\x00."])
def test_damaged_bytes_are_one_line(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(BadDocumentError, match="not a file of weights") as caught:
        load_teacher(tmp_path / "model.pt")
    assert "\n" not in str(caught.value)


def test_a_pickle_of_another_protocol_is_one_line_and_no_warning_of_torchs(tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"model": {}}, protocol=4))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(BadDocumentError, match=r"not a file of weights, or is damaged$"):
            load_teacher(tmp_path / "model.pt")
    assert not warned


def test_a_checkpoint_that_is_not_there_is_said(tmp_path):
    with pytest.raises(MissingFileError):
        load_teacher(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2", [[512, 10, 5]] + [[512, 3, 2]] * 4 + [[512, 2, 2]] * 2),
        ("[(16, 2, 1), (8, 3, 2)]", [[16, 2, 1], [8, 3, 2]]),
    ],
)
def test_convolutions_are_read_as_written(text, expected):
    assert convolutions(text, where="test") == expected


@pytest.mark.parametrize(
    "text", ["[(1,2,3)] * 10**9", "[(1,2)]", "(lambda: 0)()", "[" * 3000, "[(1,2,3)] * 64 + [(1,2,3)] * 64", 7]
)
def test_strange_convolutions_are_refused(text):
    with pytest.raises(BadDocumentError, match="conv_feature_layers"):
        convolutions(text, where="test")
