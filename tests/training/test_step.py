"""One step against s3prl's: with its weights, on its batch, the same loss and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tests.oracles import fairseq_models
from training.config.model import StudentShape
from training.distillation.losses import layer_distance
from training.setup import make_student
from training.teacher import load_teacher

pytest.importorskip("s3prl.upstream.distiller.model")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
TARGETS = (1, 2, 3)
GRADIENTS = {
    "encoder.transformer.layers.0.attention.q_proj.weight": "encoder.layers.0.self_attn.q_proj.weight",
    "encoder.transformer.layers.1.final_layer_norm.bias": "encoder.layers.1.final_layer_norm.bias",
    "encoder.transformer.pos_conv_embed.conv.bias": "encoder.pos_conv.0.bias",
    "encoder.feature_projection.projection.weight": "post_extract_proj.weight",
    "feature_extractor.conv_layers.0.conv.weight": "feature_extractor.conv_layers.0.0.weight",
    "feature_extractor.conv_layers.0.layer_norm.weight": "feature_extractor.conv_layers.0.2.weight",
}


@pytest.fixture(name="both")
def same_models(tmp_path):
    """(s3prl's teacher, its student, our teacher, our student) with the same weights."""
    their_teacher, saved = fairseq_models.hubert()
    torch.save(saved, tmp_path / "teacher.pt")
    their_student, saved = fairseq_models.distiller()
    torch.save(saved, tmp_path / "student.ckpt")
    teacher = load_teacher(tmp_path / "teacher.pt")
    shape = StudentShape(init=str(tmp_path / "student.ckpt"), dropout=0.0)
    student = make_student(shape, teacher, target_layers=TARGETS, seed=0)
    heads = their_student.output_layer.state_dict()
    student.heads.load_state_dict(
        {"expand.weight": heads["0.weight"], "expand.bias": heads["0.bias"], "weight": heads["2.weight"],
         "bias": heads["2.bias"][0, 0, :, None]}
    )  # fmt: skip
    return their_teacher, their_student, teacher, student


def test_loss_and_gradients_of_a_step_are_those_of_s3prl(both):
    their_teacher, their_student, teacher, student = both
    wave = 0.1 * torch.randn(3, 12_000, generator=torch.Generator().manual_seed(0))
    target = torch.cat([fairseq_models.layers_of(their_teacher, row) for row in wave])
    predictions = their_student(wave, torch.ones_like(wave))[2]
    l1 = functional.l1_loss(predictions, target)
    cosine = -functional.logsigmoid(functional.cosine_similarity(predictions, target, dim=-1)).mean()
    (l1 + cosine).backward()
    num_samples = torch.full((3,), 12_000)
    ours, _ = teacher.layers(wave, num_samples, only=TARGETS)
    heard = student(wave, num_samples)
    distance = layer_distance(heard.predictions, ours, heard.num_frames)
    frames = heard.num_frames.sum()
    torch.testing.assert_close(distance.l1 / frames, l1, rtol=1e-5, atol=0)
    torch.testing.assert_close(distance.cosine / frames, cosine, rtol=1e-5, atol=0)
    ((distance.l1 + distance.cosine) / frames).backward()
    mine, theirs = dict(student.trunk.named_parameters()), dict(their_student.named_parameters())
    for name, other in GRADIENTS.items():
        assert theirs[other].grad.abs().max() > 0
        torch.testing.assert_close(mine[name].grad, theirs[other].grad, rtol=1e-3, atol=1e-6)


def test_bfloat16_gives_nearly_the_same_loss_and_full_precision_gradients(both):
    _, _, teacher, student = both
    wave = 0.1 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(1))
    num_samples = torch.tensor([12_000, 8000])
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            target, _ = teacher.layers(wave, num_samples, only=TARGETS)
            heard = student(wave, num_samples)
        distance = layer_distance(heard.predictions, target, heard.num_frames)
        losses.append((distance.l1 + distance.cosine) / heard.num_frames.sum())
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=0)
    assert not torch.equal(losses[1], losses[0])
    losses[1].backward()
    assert all(
        parameter.grad.dtype == torch.float32 for parameter in student.parameters() if parameter.grad is not None
    )
