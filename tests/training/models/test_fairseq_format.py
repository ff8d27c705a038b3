"""Checkpoints of fairseq, s3prl and WavLM give the layers that s3prl's own models give."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings

import pytest
import torch

from manifests.errors import BadDocumentError, MissingFileError
from tests.oracles import fairseq_models
from tests.training.conftest import encoder_config
from training.models.encoder import EncoderConfig
from training.models.fairseq_format import (
    NAMES,
    Parts,
    beside_path,
    convolutions,
    fairseq_name,
    fairseq_parts,
    fairseq_shape,
    load_checkpoint_file,
    parts_of,
    read_beside,
    renamed,
    shape_of,
    torchaudio_names,
    torchaudio_shape,
)
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


def weights_named(*, layers=(0, 10), is_wavlm=False):
    """Names under which the weights say sizes; those of the first layer are not those of the last."""
    state = {"feature_extractor.conv_layers.0.conv.bias": torch.zeros(1)}
    for number, size in zip(layers, (0, 1), strict=True):
        start = f"encoder.transformer.layers.{number}."
        state[start + "final_layer_norm.weight"] = torch.zeros(30 + size)
        state[start + "feed_forward.intermediate_dense.bias"] = torch.zeros(70 + size)
    if is_wavlm:
        state["encoder.transformer.layers.0.attention.gru_rel_pos_const"] = torch.zeros(5)
        state["encoder.transformer.layers.0.attention.rel_attn_embed.weight"] = torch.zeros(21, 5)
    return state


SAID = {
    "extractor_mode": "layer_norm", "conv_feature_layers": "[(11,9,6)] + [(12,4,3)] * 2", "dropout_input": 0.14, "conv_pos": 14,
    "conv_pos_groups": 2, "encoder_attention_heads": 5, "max_distance": 34, "attention_dropout": 0.11, "activation_dropout": 0.12,
    "dropout": 0.13, "layer_norm_first": True, "encoder_layerdrop": 0.15, "activation_fn": "gelu", "attention_type": "original",
}  # fmt: skip
FOUND = {
    "family": "wav2vec2", "sample_rate": 16000, "projection_norm": False, "pretrained_as": "wav2vec2", "extractor_mode": "layer_norm",
    "extractor_conv_layer_config": [[11, 9, 6], [12, 4, 3], [12, 4, 3]], "extractor_conv_bias": True, "encoder_embed_dim": 30,
    "encoder_projection_dropout": 0.14, "encoder_pos_conv_kernel": 14, "encoder_pos_conv_groups": 2, "encoder_num_layers": 11,
    "encoder_num_heads": 5, "encoder_num_buckets": None, "encoder_max_distance": None, "encoder_attention_dropout": 0.11,
    "encoder_ff_interm_features": 70, "encoder_ff_interm_dropout": 0.12, "encoder_dropout": 0.13, "encoder_layer_norm_first": True,
    "encoder_layer_drop": 0.15,
}  # fmt: skip


def test_every_key_of_a_configuration_of_fairseq_has_one_of_ours():
    def shape(said, state, *, is_distiller=False):
        return fairseq_shape(said, state, is_distiller=is_distiller, where="test")

    state = weights_named()
    assert shape(SAID, state) == FOUND
    for key in ("label_rate", "untie_final_proj"):
        assert shape({**SAID, key: 50}, state) == {**FOUND, "pretrained_as": "hubert"}
    distilled = {**FOUND, "pretrained_as": "hubert", "encoder_projection_dropout": 0.0}
    assert shape(SAID, state, is_distiller=True) == distilled
    known = {"family": "wavlm", "pretrained_as": "wavlm", "encoder_num_buckets": 21, "encoder_max_distance": 34}
    assert shape({**SAID, "label_rate": 50}, weights_named(is_wavlm=True)) == {**FOUND, **known}
    normed = {**state, "encoder.feature_projection.layer_norm.weight": torch.zeros(2)}
    del normed["feature_extractor.conv_layers.0.conv.bias"]
    changed = {
        "projection_norm": True,
        "extractor_conv_bias": False,
        "extractor_mode": "group_norm",
        "encoder_layer_norm_first": False,
    }
    assert shape({**SAID, "extractor_mode": "default", "layer_norm_first": False}, normed) == {**FOUND, **changed}
    other = {key: value for key, value in SAID.items() if key != "conv_feature_layers"}
    assert shape({**other, "extractor_conv_feature_layers": "[(1,2,3)]"}, state)["extractor_conv_layer_config"] == [
        [1, 2, 3]
    ]


def test_what_a_configuration_of_fairseq_leaves_out_is_fairseqs_default():
    found = fairseq_shape({}, weights_named(is_wavlm=True), is_distiller=False, where="test")
    assert found == {
        **FOUND, "family": "wavlm", "pretrained_as": "wavlm", "extractor_mode": "group_norm", "encoder_layer_norm_first": False,
        "extractor_conv_layer_config": [[512, 10, 5]] + [[512, 3, 2]] * 4 + [[512, 2, 2]] * 2, "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 128, "encoder_pos_conv_groups": 16, "encoder_num_heads": 12, "encoder_num_buckets": 21,
        "encoder_max_distance": 1280, "encoder_attention_dropout": 0.1, "encoder_ff_interm_dropout": 0.0, "encoder_dropout": 0.1,
        "encoder_layer_drop": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("change", [{"activation_fn": "relu"}, {"attention_type": "linear"}])
def test_another_activation_or_attention_is_another_family(change):
    with pytest.raises(WrongFamilyError, match=r"^here: its activation is not gelu, or its attention not the original"):
        fairseq_shape({**SAID, **change}, weights_named(), is_distiller=False, where="here")


@pytest.mark.parametrize("name", ["final_layer_norm.weight", "feed_forward.intermediate_dense.bias"])
def test_a_weight_that_shows_a_size_and_is_missing_is_named(name):
    state = weights_named()
    del state[f"encoder.transformer.layers.0.{name}"]
    with pytest.raises(BadDocumentError, match=rf"^here: lacks the weight encoder\.transformer\.layers\.0\.{name}$"):
        fairseq_shape(SAID, state, is_distiller=False, where="here")


def test_where_widths_are_equal_fairseq_has_no_projection(tmp_path):
    model, checkpoint = fairseq_models.wav2vec2(
        encoder_embed_dim=16,
        encoder_attention_heads=4,
        conv_feature_layers="[(12,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2",
    )
    assert not any("post_extract_proj" in name for name in checkpoint["model"])
    teacher = load_teacher(saved(tmp_path / "equal.pt", checkpoint))
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    expected = fairseq_models.layers_of(model, spoken(), normalise=True)
    assert float((found - expected).abs().max()) < 1e-5
    shape = {**encoder_config(), "encoder_embed_dim": 60_000, "extractor_conv_layer_config": [[60_000, 10, 5]]}
    (tmp_path / "equal.encoder.json").write_text(json.dumps(shape))
    with pytest.raises(BadDocumentError, match=r"equal\.pt: its configuration says 60000 features, its weights are of"):
        load_teacher(tmp_path / "equal.pt")


@pytest.mark.parametrize(
    ("config", "shape", "normalise"),
    [
        ({"model": {"a": 1}, "task": {"normalize": True}, "normalize": False}, {"a": 1}, True),
        ({"model": {"a": 1, "normalize": True}, "task": "audio", "normalize": False}, {"a": 1, "normalize": True}, False),
        ({"model": {"normalize": True}, "task": {"normalize": "no"}}, {"normalize": True}, True),
        ({"encoder_layers": 3, "model": "wav2vec2"}, {"encoder_layers": 3, "model": "wav2vec2"}, None),
        ({"encoder_layers": 3}, {"encoder_layers": 3}, None),
        ({"model": {"w2v_args": {"model": {"b": 2}, "task": {"normalize": False}, "normalize": True}}}, {"b": 2}, False),
        ({"model": {"normalize": True, "w2v_args": {"model": {"b": 2}, "task": {"normalize": False}}}}, {"b": 2}, True),
        ({"w2v_args": {"b": 2, "normalize": True}}, {"b": 2, "normalize": True}, True),
        ({"w2v_args": {"model": 7}, "task": None}, None, None),
        ({"model": {"a": 1, "w2v_args": None}}, {"a": 1, "w2v_args": None}, None),
    ],
)  # fmt: skip
def test_the_models_part_of_a_configuration_and_the_first_entry_on_the_scale_of_waves(config, shape, normalise):
    assert fairseq_parts(config) == (shape, normalise)


WEIGHTS = {"w": torch.ones(2)}
LAYERS = {"encoder_layers": 3}


@pytest.mark.parametrize(
    ("content", "shape", "layout", "normalise"),
    [
        ({"Distiller": WEIGHTS, "Config": {"distiller": {"a": 1}}, "model": {}}, {"a": 1}, "s3prl distiller", False),
        ({"Distiller": WEIGHTS, "Config": [1]}, None, "s3prl distiller", False),
        ({"model_weight": WEIGHTS, "model_cfg": {"a": 1}, "task_cfg": {"normalize": True}}, {"a": 1}, "s3prl", True),
        ({"model_weight": WEIGHTS, "model_cfg": {"normalize": True}}, {"normalize": True}, "s3prl", None),
        ({"model": WEIGHTS, "state_dict": {}, "cfg": {"model": {"a": 1}, "task": {"normalize": False}}}, {"a": 1}, "", False),
        ({"model": WEIGHTS, "cfg": None, "args": {"a": 1}, "config": {"b": 2}}, {"a": 1}, "", None),
        ({"model": WEIGHTS, "config": {"b": 2}, "hyper_parameters": {"c": 3}}, {"b": 2}, "", None),
        ({"model": WEIGHTS, "cfg": "words"}, None, "", None),
        ({"state_dict": WEIGHTS, "hyper_parameters": LAYERS}, LAYERS, "", None),
        ({"state_dict": WEIGHTS, "config": {"encoder_num_layers": 3}}, {"encoder_num_layers": 3}, "", None),
        ({"state_dict": WEIGHTS, "hyper_parameters": {"lr": 3}}, None, "", None),
        (WEIGHTS, None, "", None),
    ],
)  # fmt: skip
def test_each_layout_has_its_weights_and_their_configuration(tmp_path, content, shape, layout, normalise):
    found = parts_of(saved(tmp_path / "model.pt", content))
    assert (found.shape, found.layout, found.normalise) == (shape, layout, normalise)
    assert {name: tensor.tolist() for name, tensor in found.weights.items()} == {"w": [1, 1]}


def test_a_configuration_of_too_many_parts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("training.models.pickle_data.MOST_PARTS", 5)
    content = {"model": WEIGHTS, "cfg": {"model": {str(number): number for number in range(5)}}}
    with pytest.raises(BadDocumentError, match="its configuration has more parts than any; refused"):
        parts_of(saved(tmp_path / "model.pt", content))


def test_what_is_beside_a_checkpoint_is_a_mapping_of_known_keys_or_a_whole_shape(tmp_path):
    path = tmp_path / "a.b.pt"
    beside = tmp_path / "a.b.encoder.json"
    assert (beside_path(path), read_beside(path)) == (beside, {})
    for content in ({"normalize_waveform": True, "sample_rate": 8000}, {"encoder_embed_dim": 3, "unknown": 4}):
        beside.write_text(json.dumps(content))
        assert read_beside(path) == content
    for content, message in (
        ([], "expected a mapping with normalize_waveform, or all"),
        ({"zeta": 1, "normalize_waveform": True, "beta": 2}, "beta: unknown key; expected normalize_waveform, or all"),
    ):
        beside.write_text(json.dumps(content))
        with pytest.raises(BadDocumentError, match=rf"a\.b\.encoder\.json: {message}"):
            read_beside(path)


def test_what_is_beside_a_checkpoint_comes_before_what_it_says_itself(tmp_path):
    path, state = tmp_path / "model.pt", weights_named()
    beside = tmp_path / "model.encoder.json"
    fairseq = Parts(SAID, {}, "", normalise=True)
    theirs = Parts({"encoder_num_layers": 3, "sample_rate": 8000, "aux_num_out": 7}, {}, "", normalise=None)
    distilled = Parts(SAID, {}, "s3prl distiller", normalise=False)
    default = [[512, 10, 5]] + [[512, 3, 2]] * 4 + [[512, 2, 2]] * 2
    shape = {
        "family": "wav2vec2",
        "encoder_num_layers": 3,
        "sample_rate": 8000,
        "aux_num_out": None,
        "extractor_conv_layer_config": default,
    }
    assert shape_of(fairseq, state, path=path) == {**FOUND, "normalize_waveform": True}
    assert shape_of(distilled, state, path=path)["pretrained_as"] == "hubert"
    assert shape_of(theirs, state, path=path) == shape
    beside.write_text(json.dumps({"normalize_waveform": False, "sample_rate": 4000}))
    changed = {"normalize_waveform": False, "sample_rate": 4000}
    assert shape_of(fairseq, state, path=path) == {**FOUND, **changed}
    assert shape_of(theirs, state, path=path) == {**shape, **changed}
    whole = {"encoder_embed_dim": 6, "extractor_conv_layer_config": [[1, 2, 3]], "family": "wav2vec2"}
    beside.write_text(json.dumps(whole))
    assert shape_of(fairseq, weights_named(is_wavlm=True), path=path) == {**whole, "aux_num_out": None}
    beside.unlink()
    with pytest.raises(BadDocumentError, match=r"arguments for it into model\.encoder\.json"):
        shape_of(Parts(None, {}, "", normalise=None), state, path=path)


def test_weights_without_a_pattern_are_kept_or_left_out():
    names = ((re.compile(r"encoder\.(a)"), r"first.\1"), (re.compile(r"encoder\.(.)"), r"second.\1"))
    state = {
        name: torch.tensor(float(number))
        for number, name in enumerate(("encoder.a", "encoder.b", "encoder.cc", "head.a"))
    }
    kept = renamed(state, names, others=True)
    assert kept == {"first.a": 0, "second.b": 1, "encoder.cc": 2}
    assert renamed(state, names, others=False) == {"first.a": 0, "second.b": 1}


def test_fairseqs_names_are_those_that_are_read_again():
    """Of a DistilHuBERT, which has no norm before its projection."""
    shape = {**encoder_config(layers=2), "projection_norm": False}
    state = EncoderConfig.parse(shape, where="test").build().state_dict()
    theirs = {fairseq_name(name): tensor for name, tensor in state.items()}
    assert len(theirs) == len(state)
    assert "encoder.layers.1.fc2.weight" in theirs
    again = renamed(theirs, NAMES, others=False)
    assert again.keys() == state.keys()
    assert all(again[name] is state[name] for name in state)
    with pytest.raises(AssertionError, match=r"^mask_emb$"):
        fairseq_name("mask_emb")


def test_what_a_checkpoint_was_trained_on_is_read_beside_it_only_in_an_export(tmp_path):
    _, checkpoint = fairseq_models.distiller()
    path = saved(tmp_path / "distiller.ckpt", checkpoint)
    (tmp_path / "heard.txt").write_text("0123456789abcdef\n")
    alone = load_checkpoint_file(path, name="alone")
    assert (alone.name, alone.trained_on) == ("alone", frozenset())
    assert alone.facts == {"source": "s3prl distiller", "weights": "distiller.ckpt"}
    (tmp_path / "export.json").write_text("{}")
    assert load_checkpoint_file(path, name="x").trained_on == {"0123456789abcdef"}
    _, plain = fairseq_models.wav2vec2()
    assert load_checkpoint_file(saved(tmp_path / "w.pt", plain), name="x").facts["source"] == "fairseq"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[(1,2,3)] * 64", [[1, 2, 3]] * 64),
        ("([(1,2,3)] + [(4,5,6)] * 2) * 2", [[1, 2, 3], [4, 5, 6], [4, 5, 6]] * 2),
        ([(1, 2, 3)], [[1, 2, 3]]),
    ],
)
def test_sums_and_products_of_lists_are_unfolded(text, expected):
    assert convolutions(text, where="test") == expected


@pytest.mark.parametrize(
    "text", ["[(1,2,3)] * 65", "[(1,2,3)] * 0", "[(1,2,3)] * -1", "[(1,2,3)] * 40 + [(1,2,3)] * 25", "[(1,2,3)] - []"]
)
def test_more_convolutions_than_any_model_has_are_refused_with_what_was_written(text):
    with pytest.raises(BadDocumentError) as caught:
        convolutions(text, where="here")
    assert str(caught.value) == f"here: conv_feature_layers: {text!r} is not a list of (channels, kernel, stride)"


POSITION = "encoder.transformer.pos_conv_embed.conv"


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (
            {
                "encoder.transformer.layers.0.layer_norm.bias": "encoder.transformer.layers.0.layer_norm.bias",
                f"{POSITION}.weight_g": f"{POSITION}.parametrizations.weight.original0",
                f"{POSITION}.weight_v": f"{POSITION}.parametrizations.weight.original1",
                "feature_extractor.dummy_weight": "encoder.feature_projection.layer_norm.channel_scale",
                "feature_extractor.conv_layers.0.conv.weight": "feature_extractor.conv_layers.0.conv.weight",
                "aux.weight": None,
            },
            "torchaudio",
        ),
        (
            {
                "feature_projection.projection.weight": "encoder.feature_projection.projection.weight",
                "encoder.layers.0.layer_norm.bias": "encoder.transformer.layers.0.layer_norm.bias",
                "lm_head.weight": None,
            },
            "huggingface",
        ),
        (
            {
                "encoder.layers.3.fc1.bias": "encoder.transformer.layers.3.feed_forward.intermediate_dense.bias",
                "feature_extractor.conv_layers.0.2.1.bias": "feature_extractor.conv_layers.0.layer_norm.bias",
                "layer_norm.bias": "encoder.feature_projection.layer_norm.bias",
                "encoder.layer_norm.bias": "encoder.transformer.layer_norm.bias",
                "mask_emb": None,
                "encoder.other": None,
            },
            "fairseq",
        ),
    ],
    ids=["torchaudio", "huggingface", "fairseq"],
)
def test_names_of_weights_are_known_by_whose_they_are(names, layout):
    state = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    expected = {ours: state[theirs] for theirs, ours in names.items() if ours is not None}
    assert torchaudio_names(state, where="test") == (expected, layout)
    with pytest.raises(WrongFamilyError, match=r"^here: its weights have none of the names of wav2vec 2\.0"):
        torchaudio_names({"feature_extractor.conv_layers.0.0.weight": torch.zeros(1)}, where="here")


def test_the_arguments_of_torchaudios_builders_are_taken_as_they_are():
    """A family that is given counts; channels of a pruned model are scaled where there is a weight for it."""
    assert torchaudio_shape({"family": "wavlm", "aux_num_out": 3, "extractor_conv_layer_config": [[1, 2, 3]]}, {}, where="test") == {
        "family": "wavlm", "aux_num_out": None, "extractor_conv_layer_config": [[1, 2, 3]],
    }  # fmt: skip
    gates = {"encoder.transformer.layers.0.attention.gru_rel_pos_const": torch.zeros(1)}
    assert torchaudio_shape({}, gates, where="test")["family"] == "wavlm"
    assert torchaudio_shape({}, {}, where="test")["family"] == "wav2vec2"
    pruned = {
        "encoder_embed_dim": 4, "encoder_num_heads": [1], "encoder_head_dim": 2, "encoder_use_attention": [True],
        "encoder_use_feed_forward": [True], "encoder_ff_interm_features": [3],
    }  # fmt: skip
    for state, scales in (({}, False), ({"encoder.feature_projection.layer_norm.channel_scale": torch.zeros(1)}, True)):
        assert torchaudio_shape(pruned, state, where="test")["pruned"]["scales_channels"] == scales
    with pytest.raises(BadDocumentError, match=r"^here: its lists of heads"):
        torchaudio_shape({**pruned, "encoder_head_dim": None}, {}, where="here")
