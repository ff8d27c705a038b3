"""Hugging Face's models, read without `transformers`, give the layers that `transformers` gives."""

from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch

from manifests.errors import BadDocumentError, MissingFileError, UnsafePathError
from tests.training.conftest import RATE_HZ
from training.models.huggingface_format import WrongFamilyError
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
