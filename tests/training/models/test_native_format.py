"""A folder of an encoder: its shape is checked before memory is taken, its weights and what it was trained on as they are recorded."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import safetensors.torch
import torch

from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError
from tests.training.conftest import encoder_config, write_teacher
from training.models import native_format
from training.models.encoder import EncoderConfig
from training.models.native_format import (
    ScaleUnknownError,
    WrongFamilyError,
    built,
    filled,
    first_misfit,
    load_encoder_folder,
    outlined,
    read_safetensors,
    read_trained_on,
    recorded_digest,
    trained_on_beside,
    unprefixed,
)

ONE, TWO = "0123456789abcdef", "fedcba9876543210"
RECORDS = ("card.json", "provenance.json", "export.json")


def config_of(**changes):
    return EncoderConfig.parse({**encoder_config(layers=1), **changes}, where="test")


def digest_of(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_folder_is_read_with_its_card_and_errors_name_its_files(tmp_path):
    folder = write_teacher(tmp_path / "teacher", layers=2)
    found = load_encoder_folder(folder, name="mine")
    assert (found.name, found.num_layers, found.facts, found.trained_on) == ("mine", 2, {}, {ONE})
    (folder / "card.json").write_text(json.dumps({"steps": 3}))
    assert load_encoder_folder(folder, name="mine").facts == {"steps": 3}
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(json.dumps({**json.loads(config), "encoder_num_heads": 5}))
    with pytest.raises(BadDocumentError, match=r"config\.json: describes no model"):
        load_encoder_folder(folder, name="mine")
    (folder / "config.json").write_text(json.dumps({**json.loads(config), "encoder_num_layers": 3}))
    with pytest.raises(BadDocumentError, match=r"weights\.safetensors: does not fit its config"):
        load_encoder_folder(folder, name="mine")
    (folder / "config.json").write_text(config)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"weights\.safetensors.*a teacher's folder holds config\.json and"):
        load_encoder_folder(folder, name="mine")


def test_a_shape_is_refused_above_a_number_of_parameters_and_before_memory_is_taken(monkeypatch):
    config = config_of()
    size = sum(parameter.numel() for parameter in config.build().parameters())
    monkeypatch.setattr(native_format, "MOST_PARAMETERS", size)
    outline, model = outlined(config, where="here"), built(config, where="here")
    assert {parameter.device.type for parameter in outline.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    monkeypatch.setattr(native_format, "MOST_PARAMETERS", size - 1)
    for make in (outlined, built):
        with pytest.raises(
            BadDocumentError, match=rf"^here: describes a model of {re.escape(f'{size:.1e}')} parameters; refused above"
        ):
            make(config, where="here")
    monkeypatch.undo()
    with pytest.raises(BadDocumentError, match=r"^here: describes no model: .*divi"):
        built(config_of(encoder_num_heads=5), where="here")


def test_weights_become_float32_and_are_not_copied():
    config = config_of()
    state = dict(config.build().state_dict())
    name = "encoder.transformer.layer_norm.weight"
    half = {
        **state,
        name: torch.linspace(0, 1, 24).to(torch.float16),
        "encoder.transformer.layer_norm.bias": torch.arange(48.0)[::2],
    }
    trunk = filled(config, half, where="config", weights="weights")
    found = trunk.state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(tensor.is_contiguous() for tensor in found.values())
    assert torch.equal(found[name], half[name].float())
    other = "encoder.feature_projection.projection.weight"
    assert found[other].data_ptr() == state[other].data_ptr()
    with pytest.raises(BadDocumentError, match=rf"^weights: does not fit its config: .*{name}") as caught:
        filled(config, {key: tensor for key, tensor in state.items() if key != name}, where="config", weights="weights")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadDocumentError, match=r"^config: describes no model"):
        filled(config_of(encoder_num_heads=5), state, where="config", weights="weights")


def test_a_file_of_safetensors_is_there_and_has_no_more_tensors_than_any_model(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    with pytest.raises(MissingFileError, match=r"w\.safetensors.*for a test"):
        read_safetensors(path, needed="for a test")
    safetensors.torch.save_file({"a": torch.ones(2), "b": torch.zeros(1)}, path)
    monkeypatch.setattr(native_format, "MOST_TENSORS", 2)
    assert read_safetensors(path, needed="a test").keys() == {"a", "b"}
    monkeypatch.setattr(native_format, "MOST_TENSORS", 1)
    with pytest.raises(BadDocumentError, match=r"w\.safetensors: has 2 tensors, expected at most 1$"):
        read_safetensors(path, needed="a test")


FIRST = "feature_extractor.conv_layers.0.conv.weight"


def test_what_precedes_the_first_convolutions_is_taken_off_and_other_beginnings_are_left_out():
    for start in ("", "module.", "w2v_encoder.w2v_model.", "a.feature_extractor."):
        weights = {start + FIRST: 1, start + "encoder.x": 2, "proj.bias": 3}
        kept = {FIRST: 1, "encoder.x": 2} | ({"proj.bias": 3} if not start else {})
        assert unprefixed(weights, where="test") == kept
    assert unprefixed({"encoder.x": 1}, where="test") == {"encoder.x": 1}
    many = {f"{name}.{FIRST}": 1 for name in ("e", "b", "d", "a", "c")}
    expected = "here: holds 5 models, whose names begin with 'a.', 'b.', 'c.', 'd.'; save one of them alone"
    with pytest.raises(BadDocumentError, match=f"^{re.escape(expected)}$"):
        unprefixed(many, where="here")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("modality_encoders.x", "is a data2vec 2.0 model"),
        ("a.modality_encoders.x", "is a data2vec 2.0 model"),
        ("encoder.pos_conv.1.0.bias", "is a data2vec model"),
        ("encoder.pos_conv_embed.layers.1.conv.bias", "is a data2vec model"),
        ("encoder.layers.0.adapter_layer.x", "has MMS's adapters"),
        ("sew.encoder.pool.x", "is a SEW model"),
        ("encoder.layers.0.conformer.x", "is a model of conformer layers"),
    ],
)
def test_a_model_of_another_family_is_known_by_a_name(name, words):
    with pytest.raises(WrongFamilyError) as caught:
        unprefixed({FIRST: 1, name: 2}, where="here")
    assert str(caught.value).startswith(f"here: {words}")
    assert str(caught.value).endswith("wav2vec2, hubert, wavlm, unispeech and unispeech-sat can be read, no others")
    unprefixed({FIRST: 1, "encoder.pos_conv.0.bias": 2, "encoder.pool_size": 3}, where="here")


def test_an_unknown_scale_says_which_key_goes_into_which_file():
    assert str(ScaleUnknownError("a.pt", key="normalize", file="b.json")) == (
        "a.pt: nothing in it says whether each wave is brought to zero mean and unit variance first, and its features depend on that (its "
        'extractor has layer norm): put {"normalize": true}, or false, into b.json'
    )
    assert first_misfit(RuntimeError("Error(s):\n\tsize  mismatch\n")) == "Error(s): size mismatch"


@pytest.mark.parametrize("name", RECORDS)
def test_what_a_model_was_trained_on_has_the_digest_of_the_record_beside_it(tmp_path, name):
    path, record = tmp_path / "heard.txt", tmp_path / name
    assert trained_on_beside(tmp_path) == frozenset()
    with pytest.raises(MissingFileError, match=r"heard\.txt.*no test may be made on that"):
        trained_on_beside(tmp_path, required=True)
    path.write_text(f"{ONE}\n{TWO}\n")
    assert trained_on_beside(tmp_path) == trained_on_beside(tmp_path, required=True) == {ONE, TWO}
    record.write_text(json.dumps({"heard_sha256": digest_of(f"{ONE}\n{TWO}\n")}))
    assert trained_on_beside(tmp_path) == {ONE, TWO}
    path.write_text(f"{ONE}\n")
    with pytest.raises(DigestMismatchError, match=r"heard\.txt"):
        trained_on_beside(tmp_path)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"heard\.txt"):
        trained_on_beside(tmp_path)
    for content in ({"heard_sha256": None}, {"heard_sha256": 7}, {}, ["heard_sha256"]):
        record.write_text(json.dumps(content))
        assert recorded_digest(record) is None
        assert trained_on_beside(tmp_path) == frozenset()


def test_of_several_records_the_first_that_has_a_digest_counts(tmp_path):
    (tmp_path / "heard.txt").write_text(f"{ONE}\n")
    right, wrong = digest_of(f"{ONE}\n"), digest_of("another")
    for digests, is_right in (
        ((right, wrong, wrong), True),
        ((None, right, wrong), True),
        ((wrong, right, right), False),
    ):
        for name, sha256 in zip(RECORDS, digests, strict=True):
            (tmp_path / name).write_text(json.dumps({"heard_sha256": sha256}))
        if is_right:
            assert trained_on_beside(tmp_path) == {ONE}
        else:
            with pytest.raises(DigestMismatchError):
                trained_on_beside(tmp_path)


def test_a_changed_list_of_training_audio_says_which_digest_was_expected_and_found(tmp_path):
    path = tmp_path / "heard.txt"
    path.write_text(f"{ONE}\n")
    assert read_trained_on(path) == {ONE}
    with pytest.raises(DigestMismatchError) as caught:
        read_trained_on(path, sha256="5" * 64)
    assert str(caught.value) == str(DigestMismatchError(path, expected="5" * 64, found=digest_of(f"{ONE}\n")))
    with pytest.raises(MissingFileError, match="what the model was trained on"):
        read_trained_on(tmp_path / "gone.txt")
    for line in (ONE[:-1], ONE + "0", ONE.upper(), "g" * 16, "é" * 16):
        path.write_text(f"{ONE}\n{line}\n")
        with pytest.raises(BadDocumentError, match=r"heard\.txt: a line is not 16 hex digits of a SHA-256"):
            read_trained_on(path)
