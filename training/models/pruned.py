"""Encoders whose layers have widths of their own, as structured pruning leaves them: DPHuBERT and DPWavLM (arXiv 2305.17651).

Whole attention heads, hidden units of the feed-forward part and channels of the convolutions are gone, and sometimes a whole part of a
layer. Names of weights are those of torchaudio, from which DPHuBERT's code was made. A scale of the last channels (its `dummy_weight`)
is what pruning left of their soft mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models.wav2vec2.components import FeedForward
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from manifests.errors import BadDocumentError
from manifests.io.records import Record
from training.models.encoder import EncoderConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchaudio.models import Wav2Vec2Model

CHANNEL_SCALE = "encoder.feature_projection.layer_norm.channel_scale"
Number = Annotated[int, Field(ge=0, le=65536)]


class LayerWidths(Record):
    """What is left of a transformer layer.

    Attributes:
        heads: Numbers of the attention heads that are left, from 0; none where the layer has no attention.
        feed_forward: Size of the feed-forward part; 0 where there is none.
    """

    heads: Annotated[tuple[Number, ...], Field(strict=False)]
    feed_forward: Number


class Pruning(Record):
    """What is left of an encoder whose numbers of heads and hidden units, in `EncoderConfig`, are those before.

    Attributes:
        layers: Of each transformer layer.
        scales_channels: Whether the convolutions' channels are multiplied by a weight each before the projection.
    """

    layers: Annotated[tuple[LayerWidths, ...], Field(strict=False, min_length=1)]
    scales_channels: bool = False

    @model_validator(mode="after")
    def check_heads_once(self) -> Self:
        """Refuse a head that is named twice."""
        for widths in self.layers:
            if len(set(widths.heads)) < len(widths.heads):
                raise ValueError(f"heads: {list(widths.heads)} names a head twice")
        return self


class PrunedAttention(nn.Module):
    """Self-attention with some heads, as `torchaudio`'s with all."""

    def __init__(self, embed_dim: int, head_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        for name in ("k_proj", "v_proj", "q_proj"):
            setattr(self, name, nn.Linear(embed_dim, num_heads * head_dim))
        self.out_proj = nn.Linear(num_heads * head_dim, embed_dim)

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,  # noqa: ARG002 (the signature of torchaudio)
        key_padding_mask: Tensor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, None]:
        """Shape (batch, frame, feature) to the same."""
        return attended(self, x, attention_mask), None


class PrunedWavLMAttention(WavLMSelfAttention):  # type: ignore[misc]  # torchaudio has no types
    """WavLM's gated attention with some heads; gates and position embedding are those of all heads, before the choice."""

    def __init__(self, embed_dim: int, num_heads: int, heads: tuple[int, ...], **given: Any) -> None:
        super().__init__(embed_dim, num_heads, **given)
        del self.attention
        self.heads = heads
        self.total_heads = num_heads
        self.num_heads = len(heads)
        for name in ("k_proj", "v_proj", "q_proj"):
            setattr(self, name, nn.Linear(embed_dim, len(heads) * self.head_dim))
        self.out_proj = nn.Linear(len(heads) * self.head_dim, embed_dim)

    def forward(
        self,
        query: Tensor,
        key_padding_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002 (the signature of torchaudio)
        position_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Shape (batch, frame, feature) to the same; the position embedding has shape (batch, head, frame, frame)."""
        batch, frames, _ = query.shape
        mask: Tensor | None = None
        if position_bias is not None:
            parts = query.view(batch, frames, self.total_heads, -1).transpose(1, 2)
            gates = self.gru_rel_pos_linear(parts).view(batch, self.total_heads, frames, 2, 4).sum(-1)
            gate_a, gate_b = torch.sigmoid(gates).chunk(2, dim=-1)
            rows = ((gate_a * (gate_b * self.gru_rel_pos_const - 1.0) + 2.0) * position_bias).unbind(1)
            mask = torch.stack([rows[head] for head in self.heads], dim=1)
        if key_padding_mask is not None:
            scores = query.new_zeros(batch, 1, 1, frames).masked_fill(key_padding_mask[:, None, None, :], float("-inf"))
            mask = scores.expand(-1, self.num_heads, frames, -1) if mask is None else mask + scores
        return attended(self, query, mask), position_bias


class NoAttention(nn.Module):
    """The attention of a layer that lost it: it adds nothing."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    def forward(
        self, x: Tensor, position_bias: Tensor | None = None, **_: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Zeros."""
        return torch.zeros_like(x), position_bias


class NoFeedForward(nn.Module):
    """The feed-forward part of a layer that lost it: it adds nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


class ScaledNorm(nn.LayerNorm):
    """A layer norm of channels that are multiplied by a weight each before."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.channel_scale = nn.Parameter(torch.ones(channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's signature)
        """Shape (batch, frame, channel) to the same."""
        return super().forward(input * self.channel_scale)


def attended(attention: Any, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Attention by four projections, `mask` added to the scores."""
    batch, frames, _ = hidden.shape
    shape = (batch, frames, attention.num_heads, -1)
    query, key, value = (
        project(hidden).view(shape).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    dropout = attention.dropout if attention.training else 0.0
    found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    projected: Tensor = attention.out_proj(found.transpose(1, 2).reshape(batch, frames, -1))
    return projected


def prune(trunk: Wav2Vec2Model, config: EncoderConfig, pruning: Pruning) -> None:
    """Give a model's layers the widths that are left of them.

    Raises:
        ValueError: If they are those of another model.
    """
    width, total = config.encoder_embed_dim, config.encoder_num_heads
    layers = trunk.encoder.transformer.layers
    if len(layers) != len(pruning.layers) or any(head >= total for widths in pruning.layers for head in widths.heads):
        raise ValueError(f"pruned: expected {len(layers)} layers of heads below {total}")
    for number, (layer, widths) in enumerate(zip(layers, pruning.layers, strict=True)):
        if not widths.heads:
            layer.attention = NoAttention(width)
        elif config.family == "wavlm":
            layer.attention = PrunedWavLMAttention(
                width,
                total,
                widths.heads,
                dropout=config.encoder_attention_dropout,
                has_relative_attention_bias=number == 0,
                num_buckets=config.encoder_num_buckets,
                max_distance=config.encoder_max_distance,
            )
        else:
            layer.attention = PrunedAttention(
                width, width // total, len(widths.heads), config.encoder_attention_dropout
            )
        layer.feed_forward = (
            FeedForward(width, widths.feed_forward, config.encoder_ff_interm_dropout, config.encoder_dropout)
            if widths.feed_forward
            else NoFeedForward()
        )
    if pruning.scales_channels:
        trunk.encoder.feature_projection.layer_norm = ScaledNorm(config.extractor_conv_layer_config[-1][0])


class PrunedEncoderConfig(EncoderConfig):
    """Shape of an encoder out of whose layers parts were taken.

    Attributes:
        pruned: What is left of them.
    """

    pruned: Pruning

    def build(self) -> Wav2Vec2Model:
        """A model of this shape with random weights and no output layer."""
        trunk = super().build()
        prune(trunk, self, self.pruned)
        return trunk

    def whole(self) -> EncoderConfig:
        """The shape with all heads and hidden units."""
        return EncoderConfig.model_validate(self.model_dump(exclude={"pruned"}))


def parsed_config(given: Any, *, where: object) -> EncoderConfig:
    """The shape that an untrusted mapping describes.

    Raises:
        BadDocumentError: If it describes none.
    """
    is_pruned = isinstance(given, dict) and "pruned" in given
    return (PrunedEncoderConfig if is_pruned else EncoderConfig).parse(given, where=where)


def pruned_shape(given: Mapping[str, Any], *, scales_channels: bool, where: object) -> dict[str, Any]:
    """The arguments of DPHuBERT's builder, with lists a layer, as those of torchaudio's and a `Pruning`.

    Raises:
        BadDocumentError: If a list is missing, or they have different lengths.
    """
    shape = {key: value for key, value in given.items() if "_prune_" not in key}
    attends, feeds = shape.pop("encoder_use_attention", None), shape.pop("encoder_use_feed_forward", None)
    sizes = shape.pop("encoder_ff_interm_features", None)
    if "encoder_remaining_heads" in shape:
        heads, totals = shape.pop("encoder_remaining_heads"), shape.pop("encoder_total_num_heads", None)
        total = totals[0] if isinstance(totals, list) and totals else None
    else:
        counts, size = shape.pop("encoder_num_heads", None), shape.pop("encoder_head_dim", None)
        is_counted = isinstance(counts, list) and all(type(count) is int and 0 <= count <= 65536 for count in counts)
        heads = [list(range(count)) for count in counts] if is_counted else None
        width = shape.get("encoder_embed_dim")
        total = width // size if type(width) is int and type(size) is int and size > 0 else None
    columns = (attends, feeds, sizes, heads)
    if not all(isinstance(column, list) and len(column) == len(attends) for column in columns) or not total:
        raise BadDocumentError(where, "its lists of heads and feed-forward sizes do not have an entry for each layer")
    layers = [
        {"heads": left if attend else [], "feed_forward": size if feed else 0}
        for attend, feed, size, left in zip(*columns, strict=True)
    ]
    largest = max((size for size in sizes if type(size) is int), default=1)
    return {
        **shape,
        "encoder_num_heads": total,
        "encoder_ff_interm_features": max(1, largest),
        "pruned": {"layers": layers, "scales_channels": scales_channels},
    }
