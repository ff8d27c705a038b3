"""Hugging Face's models, read without `transformers`, give the layers that `transformers` gives."""

from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch

from manifests.errors import BadDocumentError, MissingFileError, UnsafePathError
from tests.training.conftest import RATE_HZ, encoder_config
from training.models.encoder import EncoderConfig
from training.models.huggingface_format import (
    HuggingFaceConfig,
    WrongFamilyError,
    huggingface_config,
    huggingface_state,
    is_huggingface,
    joined_attention,
    load_huggingface,
    model_type_of,
    preprocessing,
    read_config,
    read_state,
    trunk_state,
    weight_files,
)
from training.models.native_format import read_safetensors
from training.models.torch_weights import PickledCodeError
from training.teacher import load_teacher

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")

SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
}
BASE = {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
CLASSES = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}


def random_model(family, *, seed=0, **shape):
    config_class, model_class = CLASSES[family]
    if family == "wavlm":
        shape = {"num_buckets": 32, "max_bucket_distance": 64, **shape}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config_class(**{**SHAPE, **shape}))
        for name, parameter in model.named_parameters():
            if "pos_conv" in name:
                parameter.data.add_(0.05 * torch.randn_like(parameter))
            elif parameter.ndim > 1:
                torch.nn.init.xavier_normal_(parameter)
            else:  # a norm that is not the identity, a gate that is not one
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def write_folder(folder, model, *, normalise, prefix=""):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    state = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    preprocessor = {
        "do_normalize": normalise,
        "sampling_rate": RATE_HZ,
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def heard_by(model, folder, wave):
    """All hidden states, each transformer layer's own output: the last without the final norm."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(wave.numpy(), sampling_rate=RATE_HZ, return_tensors="pt").input_values
    outputs = {}
    hooks = [
        layer.register_forward_hook(
            lambda _, __, output, k=k: outputs.update({k: output[0] if isinstance(output, tuple) else output})
        )
        for k, layer in enumerate(model.encoder.layers, 1)
    ]
    with torch.no_grad():
        said = model(given, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    layers = torch.stack([outputs[k] for k in sorted(outputs)], dim=1)
    for k in range(1, len(outputs)):  # hidden_states[0] is what enters the first layer
        assert torch.equal(said.hidden_states[k], outputs[k])
    return layers, said.last_hidden_state


def spoken(num_samples=9000, seed=1):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.02


@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("shape", [BASE, LARGE], ids=["base", "large"])
def test_every_layer_is_that_of_transformers(family, shape, tmp_path):
    model = random_model(family, **shape)
    folder = write_folder(tmp_path / "model", model, normalise=shape is LARGE)
    teacher = load_teacher(folder)
    wave = spoken()
    expected, expected_last = heard_by(model, folder, wave)
    found, num_frames = teacher.layers(wave[None], torch.tensor([len(wave)]))
    assert found.shape == expected.shape == (1, 3, int(num_frames), 24)
    assert float((found - expected).abs().max()) < 1e-5
    # the last hidden state of a layer-norm model is given after the final norm
    last = teacher.trunk.encoder.transformer.layer_norm(found[:, 2]) if shape is LARGE else found[:, 2]
    assert float((last - expected_last).abs().max()) < 1e-5
    assert (
        float((found[:, 0] - found[:, 2]).abs().mean()) > 0.05
    )  # layers are not alike: an index off by one would show
    assert (teacher.name, teacher.config.pretrained_as) == ("model", family)


def test_layers_are_those_of_transformers_under_padding_where_a_mask_tells_it(tmp_path):
    for family in CLASSES:
        model = random_model(family, **LARGE)
        teacher = load_teacher(write_folder(tmp_path / family, model, normalise=False))
        waves = [spoken(9000), spoken(5000, seed=2)]
        batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        is_real = torch.nn.utils.rnn.pad_sequence(
            [torch.ones(len(wave), dtype=torch.long) for wave in waves], batch_first=True
        )
        with torch.no_grad():
            expected = model(batch, attention_mask=is_real, output_hidden_states=True).hidden_states[2]
        found, num_frames = teacher.layers(batch, torch.tensor([9000, 5000]), only=(2,))
        for row, frames in enumerate(num_frames):
            torch.testing.assert_close(found[row, 0, :frames], expected[row, :frames], atol=1e-5, rtol=1e-4)


def test_distilhuberts_missing_norm_is_read_as_missing(tmp_path):
    model = random_model("hubert", feat_proj_layer_norm=False, num_hidden_layers=2, **BASE)
    folder = write_folder(tmp_path / "distilhubert", model, normalise=True)
    teacher = load_teacher(folder)
    assert not teacher.config.projection_norm
    expected, _ = heard_by(model, folder, spoken())
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    assert float((found - expected).abs().max()) < 1e-5


def test_weights_may_lie_in_a_bin_in_parts_or_under_a_head(tmp_path):
    model = random_model("wav2vec2", **BASE)
    plain = load_teacher(write_folder(tmp_path / "plain", model, normalise=False))
    headed = write_folder(tmp_path / "headed", model, normalise=False, prefix="wav2vec2.")
    state = safetensors.torch.load_file(headed / "model.safetensors")
    state["lm_head.weight"] = torch.zeros(12, 24)
    safetensors.torch.save_file(state, headed / "model.safetensors")
    assert load_teacher(headed).digest == plain.digest
    binary = write_folder(tmp_path / "binary", model, normalise=False)
    (binary / "model.safetensors").unlink()
    old = {name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): tensor
           for name, tensor in model.state_dict().items()}  # fmt: skip
    torch.save(old, binary / "pytorch_model.bin")
    assert load_teacher(binary).digest == plain.digest
    parts = write_folder(tmp_path / "parts", model, normalise=False)
    state = safetensors.torch.load_file(parts / "model.safetensors")
    (parts / "model.safetensors").unlink()
    places = {name: f"model-0000{n % 2 + 1}-of-00002.safetensors" for n, name in enumerate(state)}
    for place in set(places.values()):
        safetensors.torch.save_file({name: state[name] for name in state if places[name] == place}, parts / place)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert load_teacher(parts).digest == plain.digest
    (parts / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../plain/model.safetensors"}})
    )
    with pytest.raises(UnsafePathError):
        load_teacher(parts)


def test_a_bin_that_names_code_is_refused_and_nothing_of_it_is_run(tmp_path):
    folder = write_folder(tmp_path / "model", random_model("hubert", **BASE), normalise=False)
    (folder / "model.safetensors").unlink()
    torch.save({"a": os.system}, folder / "pytorch_model.bin")
    with pytest.raises(PickledCodeError, match=r"names posix\.system.* nothing of it was run") as caught:
        load_teacher(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"model_type": "wav2vec2-conformer"}, "no others"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_a_model_of_another_kind_is_one_line(tmp_path, change, message):
    folder = write_folder(tmp_path / "model", random_model("hubert", **BASE), normalise=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(WrongFamilyError, match=message) as caught:
        load_teacher(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_whole_is_one_line(tmp_path):
    folder = write_folder(tmp_path / "model", random_model("hubert", **BASE), normalise=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
    with pytest.raises(BadDocumentError, match="does not fit its config") as caught:
        load_teacher(folder)
    assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 5}))
    with pytest.raises(BadDocumentError, match="describes no model"):
        load_teacher(folder)
    for sizes in (
        {"hidden_size": 65536, "num_hidden_layers": 200, "intermediate_size": 65536},
        {"num_hidden_layers": 10**9},
    ):
        (folder / "config.json").write_text(json.dumps({**config, **sizes}))
        with pytest.raises(BadDocumentError, match=r"refused above|encoder_num_layers") as caught:
            load_teacher(folder)
        assert "\n" not in str(caught.value)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"pytorch_model.bin"):
        load_teacher(folder)


def test_without_a_preprocessor_layer_norm_models_are_normalised(tmp_path):
    for shape in (BASE, LARGE):
        folder = write_folder(tmp_path / str(shape is LARGE), random_model("wavlm", **shape), normalise=True)
        (folder / "preprocessor_config.json").unlink()
        assert load_teacher(folder).config.normalize_waveform == (shape is LARGE)


def test_a_key_that_is_null_has_its_default_and_weights_outlive_their_file(tmp_path):
    """As transformers writes what was never set; a file that is overwritten while a model is used changes nothing."""
    folder = write_folder(tmp_path / "model", random_model("hubert", **BASE), normalise=False)
    plain = load_teacher(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["layer_norm_eps"] == 1e-5
    (folder / "config.json").write_text(json.dumps({**config, "layer_norm_eps": None, "do_stable_layer_norm": None}))
    nulls = load_teacher(folder)
    assert nulls.config == plain.config
    path = folder / "model.safetensors"
    before = {name: tensor.clone() for name, tensor in nulls.state_dict().items()}
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(bytes(path.stat().st_size // 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in nulls.state_dict().items())
    found = read_safetensors(path, needed="test")
    kept = {name: tensor.clone() for name, tensor in found.items()}
    path.write_bytes(bytes(path.stat().st_size))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in found.items())


SIZES = {
    "hidden_size": 30, "num_hidden_layers": 4, "num_attention_heads": 5, "intermediate_size": 70, "conv_dim": [11, 12], "conv_kernel": [9, 4],
    "conv_stride": [6, 3], "num_conv_pos_embeddings": 14, "num_conv_pos_embedding_groups": 2, "attention_dropout": 0.11,
    "activation_dropout": 0.12, "hidden_dropout": 0.13, "feat_proj_dropout": 0.14, "layerdrop": 0.15,
}  # fmt: skip
OUR_SIZES = {
    "encoder_embed_dim": 30, "encoder_num_layers": 4, "encoder_num_heads": 5, "encoder_ff_interm_features": 70,
    "extractor_conv_layer_config": [[11, 9, 6], [12, 4, 3]], "encoder_pos_conv_kernel": 14, "encoder_pos_conv_groups": 2,
    "encoder_attention_dropout": 0.11, "encoder_ff_interm_dropout": 0.12, "encoder_dropout": 0.13, "encoder_projection_dropout": 0.14,
    "encoder_layer_drop": 0.15,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "has_bias", "is_first", "has_norm", "normalise", "mode"),
    [
        ("hubert", True, False, True, False, "group"),
        ("wavlm", True, True, True, True, "group"),
        ("wav2vec2", False, True, True, False, "layer"),
        ("hubert", True, False, False, True, "layer"),
    ],
)
def test_every_key_of_a_shape_has_one_of_ours_and_back(model_type, has_bias, is_first, has_norm, normalise, mode):
    """Sizes and shares that all differ, none of them a default."""
    theirs = {
        **SIZES, "model_type": model_type, "conv_bias": has_bias, "do_stable_layer_norm": is_first, "feat_extract_norm": mode,
    }  # fmt: skip
    ours = {
        **OUR_SIZES, "family": "wavlm" if model_type == "wavlm" else "wav2vec2", "pretrained_as": model_type, "sample_rate": 8000,
        "normalize_waveform": normalise, "normalize_epsilon": 1e-7, "projection_norm": has_norm, "extractor_mode": f"{mode}_norm",
        "extractor_conv_bias": has_bias, "encoder_layer_norm_first": is_first,
    }  # fmt: skip
    if model_type == "wavlm":
        theirs |= {"num_buckets": 21, "max_bucket_distance": 34}
        ours |= {"encoder_num_buckets": 21, "encoder_max_distance": 34}
    given = HuggingFaceConfig.model_validate({**theirs, "feat_proj_layer_norm": has_norm})
    config = EncoderConfig.parse(ours, where="test")
    assert given.encoder_config(normalise=normalise, sample_rate=8000, where="test") == config
    if model_type == "hubert":
        theirs["feat_proj_layer_norm"] = has_norm
    assert huggingface_config(config) == {**theirs, "num_feat_extract_layers": 2, "apply_spec_augment": False}


@pytest.mark.parametrize("family", CLASSES)
def test_what_a_config_leaves_out_is_what_transformers_takes_for_it(family):
    theirs = CLASSES[family][0]().to_dict()
    ours = json.loads(HuggingFaceConfig(model_type=family).model_dump_json())
    shared = {key: value for key, value in theirs.items() if key in ours}
    assert {key: ours[key] for key in shared} == json.loads(json.dumps(shared))
    assert len(shared) >= 22


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ([], "expected a mapping"),
        ({"conv_dim": [512] * 6}, "conv_dim, conv_kernel and conv_stride have different lengths"),
        ({"conv_kernel": [10] * 8}, "conv_dim, conv_kernel and conv_stride have different lengths"),
        ({"conv_stride": [2] * 6}, "conv_dim, conv_kernel and conv_stride have different lengths"),
    ],
)
def test_a_config_that_is_no_shape_is_refused(tmp_path, change, message):
    content = {"model_type": "hubert", **change} if isinstance(change, dict) else change
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(BadDocumentError, match=rf"config\.json: {message}"):
        read_config(tmp_path / "config.json")


def test_how_waves_are_prepared_is_what_the_folder_says_or_what_the_norm_does(tmp_path):
    group, layer = (HuggingFaceConfig(model_type="hubert", feat_extract_norm=norm) for norm in ("group", "layer"))
    assert preprocessing(tmp_path, group) == (False, 16000)
    assert preprocessing(tmp_path, layer) == (True, 16000)
    path = tmp_path / "preprocessor_config.json"
    for rate_hz in (1000, 384_000):
        path.write_text(json.dumps({"do_normalize": True, "sampling_rate": rate_hz}))
        assert preprocessing(tmp_path, group) == (True, rate_hz)
    path.write_text(json.dumps({"do_normalize": False}))
    assert preprocessing(tmp_path, layer) == (False, 16000)
    for content, message in (
        ([], "expected a mapping"),
        ({"do_normalize": "yes"}, "do_normalize: expected true or false, got 'yes'"),
        ({"sampling_rate": 999}, "sampling_rate: expected a rate in Hz from 1000 to 384000, got '999'"),
        ({"sampling_rate": 384_001}, "sampling_rate: .* got '384001'"),
        ({"sampling_rate": 16000.0}, "sampling_rate: "),
        ({"sampling_rate": True}, "sampling_rate: "),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(BadDocumentError, match=rf"preprocessor_config\.json: {message}"):
            preprocessing(tmp_path, group)


def test_of_several_files_of_weights_the_first_kind_is_read_whole_before_in_parts(tmp_path):
    """Each step removes what was read before, so that the next is."""
    whole, parts, old, old_parts = (
        tmp_path / name
        for name in (
            "model.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
        )
    )
    for path in (whole, old):
        path.touch()
    for path, ending in ((parts, "safetensors"), (old_parts, "bin")):
        places = {"a": f"2.{ending}", "b": f"1.{ending}", "c": f"2.{ending}"}
        path.write_text(json.dumps({"weight_map": places}))
    for path, files in (
        (whole, [whole]),
        (parts, [parts, tmp_path / "1.safetensors", tmp_path / "2.safetensors"]),
        (old, [old]),
        (old_parts, [old_parts, tmp_path / "1.bin", tmp_path / "2.bin"]),
    ):
        assert weight_files(tmp_path) == files
        path.unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors.*config\.json and model\.safetensors or pytorch"):
        weight_files(tmp_path)
    for content in ([], {}, {"weight_map": ["a"]}, {"weight_map": {"a": "1.bin", "b": 2}}):
        parts.write_text(json.dumps(content))
        with pytest.raises(BadDocumentError, match=r"index\.json: weight_map: expected a mapping of names to files"):
            weight_files(tmp_path)


def test_a_bin_of_something_else_is_refused_and_errors_name_the_index_of_parts(tmp_path):
    torch.save([1], tmp_path / "pytorch_model.bin")
    with pytest.raises(BadDocumentError, match=r"pytorch_model\.bin: expected a mapping of names to tensors"):
        read_state(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}))
    for place, name in (("1", "x"), ("2", "y")):
        safetensors.torch.save_file({name: torch.full((2,), float(place))}, tmp_path / f"{place}.safetensors")
    named, state = read_state(tmp_path)
    assert named == index
    assert {name: tensor.tolist() for name, tensor in state.items()} == {"x": [1, 1], "y": [2, 2]}


def test_names_of_weights_are_changed_to_torchaudios_and_heads_left_out():
    names = {
        "feature_extractor.conv_layers.0.conv.weight": "feature_extractor.conv_layers.0.conv.weight",
        "feature_projection.projection.bias": "encoder.feature_projection.projection.bias",
        "encoder.layer_norm.weight": "encoder.transformer.layer_norm.weight",
        "encoder.pos_conv_embed.conv.weight_g": "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.pos_conv_embed.conv.weight_v": "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.layers.2.attention.q_proj.bias": "encoder.transformer.layers.2.attention.q_proj.bias",
        "masked_spec_embed": None,
        "quantizer.weight_proj.weight": None,
    }  # fmt: skip
    state = {name: torch.tensor(float(number)) for number, name in enumerate(names)}
    expected = {ours: state[theirs] for theirs, ours in names.items() if ours is not None}
    assert trunk_state(state, where="test") == expected
    for start in ("hubert.", "model.wavlm."):
        assert trunk_state({start + name: one for name, one in state.items()}, where="test") == expected
    with pytest.raises(BadDocumentError, match=r"^here: holds no weights of an encoder$"):
        trunk_state({"lm_head.weight": torch.zeros(2)}, where="here")


def test_joined_projections_are_query_key_and_value_in_that_order_and_back():
    names = [f"layers.0.attention.{part}_proj.{kind}" for part in "qkv" for kind in ("weight", "bias")]
    apart = {name: torch.randn(3, 4)[:, : None if "weight" in name else 1].squeeze(1) for name in names}
    apart |= {"layers.0.attention.out_proj.bias": torch.ones(3), "layers.0.final_layer_norm.bias": torch.zeros(3)}
    joined = joined_attention(apart)
    assert joined.keys() == {
        "layers.0.attention.attention.in_proj_weight", "layers.0.attention.attention.in_proj_bias",
        "layers.0.attention.attention.out_proj.bias", "layers.0.final_layer_norm.bias",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        whole = joined[f"layers.0.attention.attention.in_proj_{kind}"]
        for row, part in enumerate("qkv"):
            assert torch.equal(whole[3 * row : 3 * row + 3], apart[f"layers.0.attention.{part}_proj.{kind}"])
    again = huggingface_state({f"encoder.transformer.{name}": one for name, one in joined.items()})
    assert again.keys() == {f"encoder.{name}" for name in apart}
    assert all(torch.equal(again[f"encoder.{name}"], one) for name, one in apart.items())
    projection = {"encoder.feature_projection.projection.bias": torch.ones(1), "feature_extractor.x": torch.ones(2)}
    assert huggingface_state(projection).keys() == {"feature_projection.projection.bias", "feature_extractor.x"}


@pytest.mark.parametrize(
    ("files", "config", "expected"),
    [
        ((), None, False),
        ((), {"model_type": "hubert"}, True),
        ((), {"model_type": "bert"}, True),
        ((), {"encoder_embed_dim": 3}, False),
        (("pytorch_model.bin",), {"architectures": []}, True),
        (("model.safetensors",), {"architectures": []}, True),
        (("weights.safetensors",), {"model_type": "hubert"}, False),
        (("model.safetensors",), [], False),
        (("model.safetensors",), None, False),
    ],
)
def test_a_folder_is_hugging_faces_by_its_model_type_or_its_file_of_weights(tmp_path, files, config, expected):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    for name in files:
        (tmp_path / name).touch()
    assert is_huggingface(tmp_path) == expected


def test_a_models_type_is_what_it_was_trained_as_where_that_has_its_shape():
    config = EncoderConfig.parse(encoder_config(), where="test")
    for update, expected in (
        ({}, "hubert"),
        ({"pretrained_as": "hubert"}, "hubert"),
        ({"pretrained_as": "wav2vec2"}, "wav2vec2"),
        ({"pretrained_as": "wav2vec2", "projection_norm": False}, "hubert"),
        ({"pretrained_as": "wav2vec2", "family": "wavlm"}, "wavlm"),
    ):
        assert model_type_of(config.model_copy(update=update)) == expected


def test_a_model_of_hugging_face_says_where_it_is_from_and_what_it_was_trained_on(tmp_path):
    folder = write_folder(tmp_path / "model", random_model("wavlm", **BASE), normalise=False)
    (folder / "heard.txt").write_text("0123456789abcdef\n")
    found = load_huggingface(folder, name="mine")
    assert found.facts == {"source": "huggingface", "model_type": "wavlm", "weights": "model.safetensors"}
    assert (found.name, found.trained_on) == ("mine", {"0123456789abcdef"})
