"""A checkpoint of s3prl's distiller has the student's sizes and heads; what it cannot be is said, each with a reason."""

from __future__ import annotations

import sys

import pytest
import torch

from manifests.errors import UsageError
from tests.training.conftest import CONV, random_encoder
from training.export.format import NotExportableError
from training.export.s3prl import distiller_shape, head_state, loaded, misfits, write_s3prl
from training.models.encoder import EncoderConfig
from training.models.student import Heads
from training.runs.checkpoint import TrainedStudent

PLAIN = {"projection_norm": False}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Support for mismatched")


def heads_of(num_targets, *, num_features=30):
    return {name: one.detach() for name, one in Heads(24, num_targets, num_features).state_dict().items()}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"projection_norm": True}, "it has a layer norm before the projection (train with student.projection_norm: false)"),
        ({"family": "wavlm"}, "it is of WavLM's kind"),
        ({"normalize_waveform": True}, "its waves are normalised"),
        ({"extractor_mode": "layer_norm"}, "its convolutions have layer norms or a bias"),
        ({"extractor_conv_bias": True}, "its convolutions have layer norms or a bias"),
        ({"encoder_layer_norm_first": True}, "its layer norms come first"),
        ({"extractor_conv_layer_config": ((16, 10, 5), (24, 3, 2))}, "its width is that of the convolutions"),
    ],
)  # fmt: skip
def test_each_reason_alone_is_enough(changes, reason):
    config = random_encoder(changes=PLAIN).config
    assert misfits(config, heads_of(2)) == []
    assert misfits(config.model_copy(update=changes), heads_of(2)) == [reason]
    wide_first = config.model_copy(update={"extractor_conv_layer_config": ((24, 10, 5), (16, 3, 2))})
    assert misfits(wide_first, heads_of(2)) == []


def test_a_student_with_other_heads_is_refused_with_all_reasons(tmp_path):
    trained = TrainedStudent(random_encoder(), {"weight": torch.zeros(1, 24, 24)})
    with pytest.raises(NotExportableError) as caught:
        write_s3prl(trained, tmp_path)
    assert str(caught.value) == (
        "made cannot be written as s3prl: its heads are not DistilHuBERT's (student.predict: last); it has a layer norm before the "
        "projection (train with student.projection_norm: false); write it with --to huggingface, torchaudio or onnx"
    )


def test_every_size_of_a_student_has_a_key_of_s3prls():
    config = EncoderConfig(
        extractor_mode="group_norm", extractor_conv_layer_config=((11, 9, 6), (12, 4, 3)), extractor_conv_bias=False, encoder_embed_dim=30,
        encoder_projection_dropout=0.14, encoder_pos_conv_kernel=14, encoder_pos_conv_groups=2, encoder_num_layers=4, encoder_num_heads=5,
        encoder_attention_dropout=0.11, encoder_ff_interm_features=70, encoder_ff_interm_dropout=0.12, encoder_dropout=0.13,
        encoder_layer_norm_first=False, encoder_layer_drop=0.15,
    )  # fmt: skip
    assert distiller_shape(config, num_features=40, layers=[3, 7, 9]) == {
        "extractor_mode": "default", "extractor_conv_feature_layers": "[(11, 9, 6), (12, 4, 3)]", "extractor_dropout": 0.0,
        "feature_grad_mult": 0.1, "conv_pos": 14, "conv_pos_groups": 2, "encoder_layers": 4, "encoder_embed_dim": 30,
        "encoder_ffn_embed_dim": 70, "encoder_attention_heads": 5, "activation_fn": "gelu", "layer_norm_first": False,
        "attention_type": "original", "dropout": 0.13, "attention_dropout": 0.11, "activation_dropout": 0.12, "encoder_layerdrop": 0.0,
        "final_dim": 40, "out_layer_type": "expand-last", "out_layer_inter_dim": -1, "n_tasks": 3, "task_emb_type": "expand-last",
        "pred_layer_id": [3, 7, 9], "loss_type": "l1", "cosine_loss": 1.0,
    }  # fmt: skip


def test_heads_are_s3prls_linear_layers():
    """By their results: s3prl multiplies each part by a matrix of its own, and a single one by a transposed matrix."""
    for num_targets in (1, 3):
        heads = heads_of(num_targets)
        found = head_state(heads)
        assert torch.equal(found["output_layer.0.weight"], heads["expand.weight"])
        assert torch.equal(found["output_layer.0.bias"], heads["expand.bias"])
        if num_targets == 1:
            assert torch.equal(found["output_layer.2.layer.weight"], heads["weight"][0].t())
            assert torch.equal(found["output_layer.2.layer.bias"], heads["bias"][0, 0])
        else:
            assert torch.equal(found["output_layer.2.weight"], heads["weight"])
            assert found["output_layer.2.bias"].shape == (1, 1, 3, 30)
            assert torch.equal(found["output_layer.2.bias"][0, 0], heads["bias"][:, 0])
        assert len(found) == 4
        assert all(one.is_contiguous() for one in found.values())


@pytest.mark.parametrize(
    ("facts", "layers"), [({"teacher_layers": [2, 5]}, [2, 5]), ({}, [1, 2]), ({"teacher_layers": None}, [1, 2])]
)
def test_a_checkpoint_names_the_layers_that_its_heads_predict(facts, layers, tmp_path):
    pytest.importorskip("s3prl.upstream.distiller.model")
    trained = TrainedStudent(random_encoder(layers=2, changes=PLAIN, facts=facts), heads_of(2))
    written = write_s3prl(trained, tmp_path)
    shape = torch.load(tmp_path / "distiller.ckpt", weights_only=True)["Config"]["distiller"]
    assert (shape["pred_layer_id"], shape["n_tasks"], shape["final_dim"]) == (layers, 2, 30)
    assert shape["extractor_conv_feature_layers"] == str([tuple(layer) for layer in CONV])
    assert (written.name, written.loads) == ("distiller.ckpt", "s3prl.upstream.distiller.expert.UpstreamExpert({path})")
    assert (written.note, written.is_rounded) == ("", False)
    assert "[1 : 3]" in written.code
    wave = 0.1 * torch.randn(2000, generator=torch.Generator().manual_seed(1))
    expected = trained.encoder.layers(wave[None], torch.tensor([2000]))[0][0]
    torch.testing.assert_close(written.outputs(wave), expected, atol=1e-5, rtol=1e-4)


def test_without_s3prl_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3prl.upstream.distiller.model", None)
    with pytest.raises(UsageError, match=r"^--to s3prl compares .* not installed: pip install s3prl==0\.4\.18$"):
        loaded(tmp_path / "gone.ckpt")
