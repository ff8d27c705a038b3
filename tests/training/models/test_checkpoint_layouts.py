"""Checkpoints in the layouts of the world give the layers of the library that they come from; others are refused by what they are."""

from __future__ import annotations

import argparse
import copy
import json

import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torchaudio.models import hubert_pretrain_model, wav2vec2_model, wavlm_model

from manifests.errors import BadDocumentError
from tests.oracles import fairseq_models
from tests.training.conftest import encoder_config
from training.cli import teacher_command
from training.models.encoder import EncoderConfig
from training.models.native_format import ScaleUnknownError, WrongFamilyError
from training.models.pruned import CHANNEL_SCALE, parsed_config
from training.models.student import student_config
from training.teacher import description, load_teacher, weights_digest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Support for mismatched")
LARGEST_DIFFERENCE = 5e-6


def spoken(num_samples=9000, seed=1):
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed)) + 0.02


def difference(teacher, expected):
    found, _ = teacher.layers(spoken()[None], torch.tensor([9000]))
    assert found.shape == expected.shape
    assert float((found[:, 0] - found[:, -1]).abs().mean()) > 0.05
    return float((found - expected).abs().max())


def saved(path, checkpoint):
    torch.save(checkpoint, path)
    return path


def arguments(*, mode="group_norm", first=False, family="wav2vec2"):
    given = encoder_config(mode=mode, first=first)
    found = {key: given[key] for key in given if key.startswith(("extractor", "encoder"))} | {"aux_num_out": None}
    found["encoder_num_buckets"], found["encoder_max_distance"] = 32, 64
    if family == "wav2vec2":
        del found["encoder_num_buckets"], found["encoder_max_distance"]
    return found


def random_trunk(build, **given):
    return fairseq_models.random_weights(build(**given))


def layers_of_torchaudio(trunk, *, normalise=False):
    wave = spoken()[None]
    wave = torch.nn.functional.layer_norm(wave, wave.shape[-1:]) if normalise else wave
    with torch.no_grad():
        return torch.stack(trunk.extract_features(wave)[0], dim=1)


@pytest.mark.parametrize("kind", ["UniSpeech", "UniSpeechSat"])
@pytest.mark.parametrize("is_large", [False, True], ids=["base", "large"])
def test_unispeech_gives_the_layers_of_transformers(tmp_path, kind, is_large):
    transformers = pytest.importorskip("transformers")
    shape = {
        "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48, "conv_dim": [16] * 7,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "conv_bias": is_large, "do_stable_layer_norm": is_large,
        "feat_extract_norm": "layer" if is_large else "group",
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**shape)
    model = fairseq_models.random_weights(getattr(transformers, f"{kind}Model")(config))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": is_large, "sampling_rate": 16000}))
    start = {"UniSpeech": "unispeech.", "UniSpeechSat": "unispeech_sat."}[kind]
    state = {f"{start}{name}": tensor.contiguous() for name, tensor in model.state_dict().items()}
    state["project_hid.weight"] = torch.zeros(2, 2)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    wave = spoken()
    if is_large:
        wave = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7)
    outputs = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(
            lambda _, __, output: outputs.append(output[0] if isinstance(output, tuple) else output)
        )
    with torch.no_grad():
        model(wave[None])
    teacher = load_teacher(tmp_path)
    assert difference(teacher, torch.stack(outputs, dim=1)) < LARGEST_DIFFERENCE
    assert teacher.config.pretrained_as == {"UniSpeech": "wav2vec2", "UniSpeechSat": "hubert"}[kind]


@pytest.mark.parametrize("is_large", [False, True], ids=["base", "large"])
def test_unispeech_sat_as_microsoft_publishes_it_gives_the_layers_of_s3prl(tmp_path, is_large):
    pytest.importorskip("s3prl.upstream.wavlm.WavLM")
    shape = {**(fairseq_models.LARGE if is_large else {}), "relative_position_embedding": False, "gru_rel_pos": False}
    model, checkpoint = fairseq_models.wavlm(**shape, normalize=is_large)
    teacher = load_teacher(saved(tmp_path / "sat.pt", checkpoint))
    assert difference(teacher, fairseq_models.layers_of(model, spoken(), normalise=is_large)) < LARGEST_DIFFERENCE
    assert (teacher.config.family, teacher.config.normalize_waveform) == ("wav2vec2", is_large)


@pytest.mark.parametrize("normalise", [False, True])
def test_an_old_command_line_says_whether_waves_are_normalised_beside_a_task_that_is_a_word(tmp_path, normalise):
    pytest.importorskip("s3prl.upstream.wav2vec2")
    model, checkpoint = fairseq_models.wav2vec2(**fairseq_models.LARGE)
    args = argparse.Namespace(**checkpoint["cfg"]["model"], task="audio_pretraining", normalize=normalise)
    expected = fairseq_models.layers_of(model, spoken(), normalise=normalise)
    for content in ({"args": args, "cfg": None}, {"cfg": vars(args)}):
        teacher = load_teacher(saved(tmp_path / "libri960_big.pt", {"model": checkpoint["model"], **content}))
        assert teacher.config.normalize_waveform == normalise
        assert difference(teacher, expected) < LARGEST_DIFFERENCE


def test_where_nothing_says_whether_waves_are_normalised_a_layer_norm_model_is_refused_with_the_key_to_set(tmp_path):
    pytest.importorskip("s3prl.upstream.wav2vec2")
    _, base = fairseq_models.wav2vec2()
    silent = {"model": base["model"], "cfg": {"model": base["cfg"]["model"], "task": "audio_pretraining"}}
    assert not load_teacher(saved(tmp_path / "base.pt", silent)).config.normalize_waveform
    _, large = fairseq_models.wav2vec2(**fairseq_models.LARGE)
    path = saved(tmp_path / "large.pt", {"model": large["model"], "cfg": {"model": large["cfg"]["model"], "task": {}}})
    with pytest.raises(ScaleUnknownError, match=r'"normalize_waveform": true.*large.encoder.json$') as caught:
        load_teacher(path)
    assert "\n" not in str(caught.value)
    without = weights_digest(str(path))
    for normalise in (True, False):
        (tmp_path / "large.encoder.json").write_text(json.dumps({"normalize_waveform": normalise}))
        assert load_teacher(path).config.normalize_waveform == normalise
    assert weights_digest(str(path)) != without
    (tmp_path / "large.encoder.json").write_text('{"normalise": true}')
    with pytest.raises(BadDocumentError, match="unknown key"):
        load_teacher(path)


@pytest.mark.parametrize("start", ["module.", "model.", "model.module.", "_orig_mod.", "model.wav2vec2."])
def test_what_precedes_the_names_of_weights_does_not_matter(tmp_path, start):
    trunk = random_trunk(wav2vec2_model, **arguments())
    state = {start + name: tensor for name, tensor in trunk.state_dict().items()} | {"criterion.weight": torch.zeros(2)}
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": {"config": 1},
        "pytorch-lightning_version": "2.0",
        "optimizer_states": [{}],
    }
    (tmp_path / "last.encoder.json").write_text(json.dumps(arguments()))
    teacher = load_teacher(saved(tmp_path / "last.ckpt", checkpoint))
    assert difference(teacher, layers_of_torchaudio(trunk)) < LARGEST_DIFFERENCE


def test_fairseqs_names_may_have_ddps_prefix(tmp_path):
    pytest.importorskip("s3prl.upstream.wav2vec2")
    model, checkpoint = fairseq_models.wav2vec2()
    checkpoint["model"] = {f"module.{name}": tensor for name, tensor in checkpoint["model"].items()}
    teacher = load_teacher(saved(tmp_path / "model.pt", checkpoint))
    assert difference(teacher, fairseq_models.layers_of(model, spoken())) < LARGEST_DIFFERENCE


def test_two_models_in_one_file_are_refused_with_how_their_names_begin(tmp_path):
    state = random_trunk(wav2vec2_model, **arguments()).state_dict()
    both = {f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in state.items()}
    with pytest.raises(BadDocumentError, match=r"2 models, whose names begin with 'student\.', 'teacher\.'"):
        load_teacher(saved(tmp_path / "both.pt", both))


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_torchaudios_weights_alone_need_their_shape_beside_them(tmp_path, family):
    given = arguments(mode="layer_norm", first=True, family=family)
    trunk = random_trunk({"wav2vec2": wav2vec2_model, "wavlm": wavlm_model}[family], **given)
    path = saved(tmp_path / "mine.pth", trunk.state_dict())
    with pytest.raises(BadDocumentError, match=r"without the configuration .* mine.encoder.json"):
        load_teacher(path)
    (tmp_path / "mine.encoder.json").write_text(json.dumps(given))
    with pytest.raises(ScaleUnknownError):
        load_teacher(path)
    (tmp_path / "mine.encoder.json").write_text(json.dumps({**given, "normalize_waveform": True}))
    teacher = load_teacher(path)
    assert teacher.config.family == family
    assert difference(teacher, layers_of_torchaudio(trunk, normalise=True)) < LARGEST_DIFFERENCE


def test_torchaudios_pretraining_model_and_its_old_names_of_the_weight_norm_are_read(tmp_path):
    given = {key: value for key, value in arguments().items() if key != "aux_num_out"}
    model = fairseq_models.random_weights(
        hubert_pretrain_model(
            **given, mask_prob=0.5, mask_selection="static", mask_other=0.0, mask_length=10, no_mask_overlap=False, mask_min_space=1,
            mask_channel_prob=0.0, mask_channel_selection="static", mask_channel_other=0.0, mask_channel_length=10,
            no_mask_channel_overlap=False, mask_channel_min_space=1, skip_masked=False, skip_nomask=False, num_classes=5,
            final_dim=8, feature_grad_mult=0.1,
        )
    )  # fmt: skip
    state = {name.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): tensor
             for name, tensor in model.state_dict().items()}  # fmt: skip
    teacher = load_teacher(saved(tmp_path / "hubert.pth", {"state_dict": state, "config": arguments()}))
    assert difference(teacher, layers_of_torchaudio(model.wav2vec2)) < LARGEST_DIFFERENCE


HEADS = [[0, 2, 3], [], [1]]
UNITS = [[0, 5, 7, 40], [3, 4], []]


def pruned_from(trunk, *, is_wavlm, channel_scale):
    """(checkpoint of DPHuBERT's, its oracle: the whole model in which what is pruned weighs nothing)."""
    size = 6
    whole = copy.deepcopy(trunk)
    state = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    for number, (heads, units) in enumerate(zip(HEADS, UNITS, strict=True)):
        layer = whole.encoder.transformer.layers[number]
        start = f"encoder.transformer.layers.{number}."
        rows = [head * size + place for head in heads for place in range(size)]
        out = layer.attention.attention.out_proj if is_wavlm else layer.attention.out_proj
        gone = [row for row in range(24) if row not in rows]
        out.weight.data[:, gone] = 0
        if not rows:
            out.bias.data.zero_()
        if is_wavlm:
            for part, name in enumerate("qkv"):
                for kind in ("weight", "bias"):
                    joined = state[f"{start}attention.attention.in_proj_{kind}"].chunk(3)[part]
                    state[f"{start}attention.{name}_proj.{kind}"] = joined[rows]
            for kind in ("weight", "bias"):
                del state[f"{start}attention.attention.in_proj_{kind}"]
                state[f"{start}attention.out_proj.{kind}"] = state.pop(f"{start}attention.attention.out_proj.{kind}")
        else:
            for name in "qkv":
                for kind in ("weight", "bias"):
                    state[f"{start}attention.{name}_proj.{kind}"] = state[f"{start}attention.{name}_proj.{kind}"][rows]
        state[f"{start}attention.out_proj.weight"] = state[f"{start}attention.out_proj.weight"][:, rows]
        if not rows:
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{start}attention.")}
        feed = layer.feed_forward
        feed.output_dense.weight.data[:, [unit for unit in range(48) if unit not in units]] = 0
        if not units:
            feed.output_dense.bias.data.zero_()
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{start}feed_forward.")}
        else:
            dense = f"{start}feed_forward."
            state[f"{dense}intermediate_dense.weight"] = state[f"{dense}intermediate_dense.weight"][units]
            state[f"{dense}intermediate_dense.bias"] = state[f"{dense}intermediate_dense.bias"][units]
            state[f"{dense}output_dense.weight"] = state[f"{dense}output_dense.weight"][:, units]
    state["feature_extractor.dummy_weight"] = channel_scale
    norm = whole.encoder.feature_projection.layer_norm
    norm.register_forward_pre_hook(lambda _, given: (given[0] * channel_scale,))
    return state, whole


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_dphubert_has_the_layers_of_the_whole_model_in_which_what_is_pruned_weighs_nothing(tmp_path, family):
    given = {**arguments(family=family), "encoder_num_heads": 4}
    trunk = random_trunk({"wav2vec2": wav2vec2_model, "wavlm": wavlm_model}[family], **given)
    scale = torch.rand(16, generator=torch.Generator().manual_seed(3))
    state, whole = pruned_from(trunk, is_wavlm=family == "wavlm", channel_scale=scale)
    left = [len(units) or 48 for units in UNITS]
    config = {
        **given, "encoder_use_attention": [bool(heads) for heads in HEADS], "encoder_use_feed_forward": [bool(units) for units in UNITS],
        "encoder_ff_interm_features": left, "normalize_waveform": False, "extractor_prune_conv_channels": False,
        "encoder_prune_attention_heads": False, "encoder_prune_feed_forward_layer": False,
    }  # fmt: skip
    del config["encoder_num_heads"]
    if family == "wavlm":
        config |= {"encoder_total_num_heads": [4] * 3, "encoder_remaining_heads": HEADS}
    else:
        config |= {"encoder_num_heads": [len(heads) or 4 for heads in HEADS], "encoder_head_dim": 6}
    checkpoint = {"state_dict": state, "config": config, "distill_linear_projs": {"0.weight": torch.zeros(2)}}
    teacher = load_teacher(saved(tmp_path / "DPHuBERT-sp0.75.pth", checkpoint))
    assert difference(teacher, layers_of_torchaudio(whole)) < LARGEST_DIFFERENCE
    assert teacher.num_parameters == sum(tensor.numel() for tensor in state.values())
    assert parsed_config(json.loads(teacher.config.model_dump_json()), where="test") == teacher.config
    assert torch.equal(teacher.trunk.state_dict()[CHANNEL_SCALE], scale)
    student = student_config(teacher.config, layers=2, dropout=0.1)
    assert type(student) is EncoderConfig
    assert (student.encoder_num_heads, student.encoder_ff_interm_features) == (4, 48)
    # padding does not change an utterance
    batch = torch.nn.utils.rnn.pad_sequence([spoken(), spoken(5000, seed=2)], batch_first=True)
    found, frames = teacher.layers(batch, torch.tensor([9000, 5000]))
    alone, _ = teacher.layers(spoken(5000, seed=2)[None], torch.tensor([5000]))
    assert float((found[1, :, : frames[1]] - alone[0]).abs().max()) < 1e-5
    for wrong in ({"encoder_use_attention": [True]}, {"encoder_ff_interm_features": 3}):
        with pytest.raises(BadDocumentError, match="an entry for each layer"):
            load_teacher(saved(tmp_path / "wrong.pth", {"state_dict": state, "config": {**config, **wrong}}))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["feature_extractor.conv_layers.0.0.weight", "encoder.pos_conv.4.0.weight"], "data2vec model, whose position embedding is five"),
        (["modality_encoders.AUDIO.local_encoder.conv_layers.0.0.weight"], r"data2vec 2\.0"),
        (["w2v_encoder.w2v_model.encoder.layers.0.adapter_layer.W_a"], "use mms-300m or mms-1b"),
        (["feature_extractor.conv_layers.0.0.weight", "encoder.upsample.0.weight"], "SEW"),
        (["encoder.layers.0.conv_module.batch_norm.weight"], "conformer"),
    ],
)  # fmt: skip
def test_weights_of_other_models_are_refused_by_what_they_are(tmp_path, names, message):
    checkpoint = {"model": {name: torch.zeros(2) for name in names}, "cfg": {"model": {}}}
    with pytest.raises(WrongFamilyError, match=message) as caught:
        load_teacher(saved(tmp_path / "model.pt", checkpoint))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "data2vec-audio"}, "data2vec model, whose position embedding is five"),
        ({"model_type": "sew"}, "SEW"),
        ({"model_type": "sew-d"}, "SEW"),
        ({"model_type": "wav2vec2-bert"}, r"w2v-BERT 2\.0"),
        ({"model_type": "wav2vec2", "adapter_attn_dim": 16}, "use mms-300m or mms-1b"),
        ({"model_type": ["sew"]}, "model_type is"),
    ],
)
def test_folders_of_other_models_are_refused_by_what_they_are(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WrongFamilyError, match=message) as caught:
        load_teacher(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_digest_of_weights_covers_what_is_read_and_nothing_else(tmp_path, teacher_folder):
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, conv_dim=[16] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    folder = tmp_path / "hubert"
    folder.mkdir()
    state = {name: tensor.contiguous() for name, tensor in transformers.HubertModel(config).state_dict().items()}
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    safetensors.torch.save_file(state, folder / "model.safetensors")
    load_teacher(folder)
    before = weights_digest(str(folder))
    for name in (
        "pytorch_model.bin",
        "optimizer.pt",
        "adapter.eng.safetensors",
        "model.safetensors.index.json",
        "README.md",
    ):
        (folder / name).write_bytes(b"not read")
    assert weights_digest(str(folder)) == before
    for name in ("config.json", "model.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert weights_digest(str(folder)) != before, name
        (folder / name).write_bytes(content)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    assert weights_digest(str(folder)) != before
    before = weights_digest(str(teacher_folder))
    assert before is not None
    (tmp_path / "copy").mkdir()
    for name in ("config.json", "weights.safetensors"):
        (tmp_path / "copy" / name).write_bytes((teacher_folder / name).read_bytes())
    (tmp_path / "copy" / "other.pt").write_bytes(b"not read")
    assert weights_digest(str(tmp_path / "copy")) == before
    assert weights_digest(str(tmp_path / "nothing")) is None


def test_the_command_says_what_a_teacher_is(teacher_folder):
    teacher = load_teacher(teacher_folder)
    done = CliRunner().invoke(teacher_command, [str(teacher_folder)])
    shown = f"3 layers of 24, 16000 Hz, 50 frames a second, waves not normalised, digest {teacher.digest[:16]}"
    assert shown in done.output
    teacher.config = teacher.config.model_copy(update={"normalize_waveform": True})
    assert "each utterance normalised" in description(teacher)


@pytest.mark.slow
def test_a_wav2vec2_of_published_size_gives_the_layers_of_s3prl(tmp_path):
    pytest.importorskip("s3prl.upstream.wav2vec2")
    sizes = {
        "encoder_layers": 12, "encoder_embed_dim": 768, "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12,
        "conv_feature_layers": "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]", "conv_pos": 128, "conv_pos_groups": 16,
    }  # fmt: skip
    model, checkpoint = fairseq_models.wav2vec2(**sizes)
    checkpoint["cfg"] = {
        "model": argparse.Namespace(**checkpoint["cfg"]["model"]),
        "task": argparse.Namespace(normalize=False),
    }
    teacher = load_teacher(saved(tmp_path / "wav2vec_small.pt", checkpoint))
    assert difference(teacher, fairseq_models.layers_of(model, spoken())) < LARGEST_DIFFERENCE
