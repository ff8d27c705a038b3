"""Real models of s3prl's (fairseq's HuBERT and wav2vec 2.0, Microsoft's WavLM, DistilHuBERT) in tiny sizes with random weights."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import io

import torch

CONVOLUTIONS = "[(16,10,5)] + [(16,3,2)] * 4 + [(16,2,2)] * 2"
SHAPE = {
    "encoder_layers": 3,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 48,
    "encoder_attention_heads": 2,
    "conv_feature_layers": CONVOLUTIONS,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "final_dim": 8,
}
LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}


class Mode(enum.Enum):
    """fairseq's configurations hold choices as these."""

    default = "default"


def random_weights(model, *, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "pos_conv" in name:
                parameter.data.add_(0.05 * torch.randn_like(parameter))
            elif parameter.ndim > 1 and min(parameter.shape) > 1:
                torch.nn.init.xavier_normal_(parameter)
            else:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def hubert(**shape):
    """(model, checkpoint as s3prl converts fairseq's)."""
    from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig

    config = HubertConfig(label_rate=50, **{**SHAPE, **shape})
    task = HubertPretrainingConfig(normalize=bool(shape))
    model = random_weights(HubertModel(config, task, [["a", "b"]]))
    checkpoint = {
        "task_cfg": dataclasses.asdict(task),
        "model_cfg": dataclasses.asdict(config),
        "model_weight": model.state_dict(),
        "dictionaries_symbols": [["a", "b"]],
    }
    return model, checkpoint


def wav2vec2(**shape):
    """(model, checkpoint as the conversion writes fairseq's)."""
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(quantize_targets=False, **{**SHAPE, **shape})
    model = random_weights(Wav2Vec2Model(config))
    checkpoint = {
        "model": model.state_dict(),
        "cfg": {"model": dataclasses.asdict(config), "task": {"normalize": bool(shape)}},
    }
    return model, checkpoint


def wavlm(**shape):
    """(model, checkpoint as Microsoft publishes it)."""
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    cfg = {**SHAPE, "relative_position_embedding": True, "gru_rel_pos": True, "num_buckets": 32, "max_distance": 64,
           "normalize": bool(shape), **shape}  # fmt: skip
    del cfg["final_dim"]
    model = random_weights(WavLM(WavLMConfig(cfg)))
    return model, {"model": model.state_dict(), "cfg": cfg}


def distiller(**shape):
    """(model, checkpoint as s3prl's upstream reads it) of DistilHuBERT."""
    from s3prl.upstream.distiller.model import DistillerConfig, DistillerModel

    given = {key: value for key, value in SHAPE.items() if key != "conv_feature_layers"}
    config = {
        **given, "extractor_conv_feature_layers": CONVOLUTIONS, "encoder_layers": 2, "final_dim": 24, "n_tasks": 3,
        "pred_layer_id": [1, 2, 3], "out_layer_type": "expand-last", "task_emb_type": "expand-last",
        "extractor_mode": "default", "loss_type": "l1", "cosine_loss": 1.0, "feature_grad_mult": 0.1,
        "init_teacher_conv_layers": True, "init_teacher_encoder_layers": True, **shape,
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        model = random_weights(DistillerModel(DistillerConfig(config)))
    return model, {"Config": {"distiller": config}, "Distiller": model.state_dict()}


def layers_of(model, wave, *, normalise=False):
    """The output of every transformer layer for one utterance, shape (1, layer, frame, feature), by hooks on the layers."""
    outputs = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: outputs.append(output[0])) for layer in model.encoder.layers
    ]
    given = torch.nn.functional.layer_norm(wave, wave.shape) if normalise else wave
    with torch.no_grad():
        match type(model).__name__:
            case "DistillerModel":
                model(given[None], torch.ones(1, len(wave)), no_pred=True)
            case "WavLM":
                model.extract_features(given[None])
            case _:
                model(given[None], features_only=True, mask=False)
    for hook in hooks:
        hook.remove()
    frames = model.feature_extractor(given[None]).shape[
        2
    ]  # fairseq's wav2vec 2.0 adds a masked frame where they are odd
    return torch.stack([output.transpose(0, 1)[:, :frames] for output in outputs], dim=1)
