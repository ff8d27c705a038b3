"""What pruning left of an encoder: as the whole model computes it where nothing is gone, and by hand where something is."""

from __future__ import annotations

import pytest
import torch
from torchaudio.models.wav2vec2.components import SelfAttention
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from manifests.errors import BadDocumentError
from tests.training.conftest import encoder_config
from training.models.encoder import EncoderConfig, transformer_outputs
from training.models.pruned import (
    CHANNEL_SCALE,
    NoAttention,
    NoFeedForward,
    PrunedAttention,
    PrunedEncoderConfig,
    PrunedWavLMAttention,
    Pruning,
    attended,
    parsed_config,
    pruned_shape,
)

LEFT = [{"heads": [1, 0], "feed_forward": 5}, {"heads": [], "feed_forward": 7}, {"heads": [1], "feed_forward": 0}]


def config_of(layers=LEFT, *, scales=False, **changes):
    given = {**encoder_config(), **changes, "pruned": {"layers": layers, "scales_channels": scales}}
    return PrunedEncoderConfig.parse(given, where="test")


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_attention_with_all_heads_is_torchaudios():
    theirs = SelfAttention(12, 3, dropout=0.0).eval()
    ours = PrunedAttention(12, 4, 3, 0.0).eval()
    ours.load_state_dict(theirs.state_dict())
    mask = torch.zeros(2, 1, 5, 5).masked_fill(torch.arange(5) > 3, float("-inf"))
    for given in (None, mask):
        expected, _ = theirs(random(2, 5, 12), attention_mask=given)
        found, bias = ours(random(2, 5, 12), attention_mask=given)
        torch.testing.assert_close(found, expected)
        assert bias is None


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("is_padded", [True, False])
def test_wavlms_attention_with_all_heads_is_torchaudios(has_bias, is_padded):
    given = {"dropout": 0.0, "has_relative_attention_bias": True, "num_buckets": 8, "max_distance": 20}
    theirs = WavLMSelfAttention(12, 3, **given).eval()
    ours = PrunedWavLMAttention(12, 3, (0, 1, 2), **given).eval()
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("attention.")}
    for kind in ("weight", "bias"):
        joined = getattr(theirs.attention, f"in_proj_{kind}")
        state |= {f"{part}_proj.{kind}": piece for part, piece in zip("qkv", joined.chunk(3), strict=True)}
        state[f"out_proj.{kind}"] = getattr(theirs.attention.out_proj, kind)
    ours.load_state_dict(state)
    bias = random(2, 3, 5, 5, seed=1) if has_bias else None
    padding = (torch.arange(5) >= torch.tensor([5, 3])[:, None]) if is_padded else None
    query = random(2, 5, 12)
    found, passed_on = ours(query, key_padding_mask=padding, position_bias=bias)
    assert passed_on is bias
    shape = (2, 5, 3, 4)
    q, k, v = (getattr(ours, f"{part}_proj")(query).view(shape).transpose(1, 2) for part in "qkv")
    scores = q @ k.transpose(2, 3) / 2.0
    if has_bias:
        parts = query.view(shape).transpose(1, 2)
        gates = torch.sigmoid(ours.gru_rel_pos_linear(parts).view(2, 3, 5, 2, 4).sum(-1))
        scores += (gates[..., :1] * (gates[..., 1:] * ours.gru_rel_pos_const - 1.0) + 2.0) * bias
    if is_padded:
        scores = scores.masked_fill(padding[:, None, None, :], float("-inf"))
    expected = ours.out_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 12))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    if has_bias:
        expected, _ = theirs(query, key_padding_mask=padding, position_bias=bias)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_attention_drops_out_by_its_share_while_it_trains():
    attention = PrunedAttention(4, 2, 2, 1.0)
    hidden = random(1, 3, 4)
    attention.train()
    torch.testing.assert_close(attended(attention, hidden, None), attention.out_proj.bias.expand(1, 3, 4))
    attention.eval()
    assert not torch.allclose(attended(attention, hidden, None), attention.out_proj.bias.expand(1, 3, 4))


def test_layers_get_the_widths_that_are_left_and_the_shares_of_the_config():
    shares = {"encoder_attention_dropout": 0.11, "encoder_ff_interm_dropout": 0.12, "encoder_dropout": 0.13}
    trunk = config_of(**shares).build()
    first, second, third = trunk.encoder.transformer.layers
    assert (first.attention.num_heads, first.attention.k_proj.out_features, first.attention.dropout) == (2, 24, 0.11)
    assert (third.attention.num_heads, third.attention.k_proj.out_features) == (1, 12)
    assert isinstance(second.attention, NoAttention)
    assert isinstance(third.feed_forward, NoFeedForward)
    for layer, size in ((first, 5), (second, 7)):
        feed = layer.feed_forward
        assert (feed.intermediate_dense.out_features, feed.output_dense.in_features) == (size, size)
        assert (feed.intermediate_dropout.p, feed.output_dropout.p) == (0.12, 0.13)
    assert CHANNEL_SCALE not in trunk.state_dict()
    assert config_of(scales=True).build().state_dict()[CHANNEL_SCALE].shape == (16,)
    wavlm = config_of(family="wavlm", encoder_num_buckets=32, encoder_max_distance=64, **shares).build()
    first, _, third = wavlm.encoder.transformer.layers
    assert (first.attention.dropout, first.attention.heads, third.attention.heads) == (0.11, (1, 0), (1,))
    assert first.attention.rel_attn_embed.weight.shape == (32, 2)
    assert (first.attention.max_distance, third.attention.rel_attn_embed) == (64, None)


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm"])
def test_padding_changes_nothing_where_the_first_layer_has_lost_its_attention(family):
    """Then no layer has a position embedding."""
    buckets = {"encoder_num_buckets": 32, "encoder_max_distance": 64} if family == "wavlm" else {}
    config = config_of(LEFT[::-1][1:] + LEFT[:1], family=family, encoder_num_layers=3, **buckets)
    trunk = config.build().eval()
    waves = [0.1 * random(9000), 0.1 * random(5000, seed=1)]
    batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    with torch.no_grad():
        together, frames = transformer_outputs(trunk, config, batch, [9000, 5000])
        alone, _ = transformer_outputs(trunk, config, waves[1][None], [5000])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1, : frames[1]], other[0], atol=1e-5, rtol=1e-4)


def test_parts_that_are_gone_add_nothing():
    hidden, bias = random(1, 2, 3), random(1)
    nothing, passed_on = NoAttention(3)(hidden, position_bias=bias, key_padding_mask=None)
    assert not nothing.any()
    assert passed_on is bias
    assert NoFeedForward()(hidden).tolist() == torch.zeros(1, 2, 3).tolist()


def test_widths_of_another_model_are_refused():
    with pytest.raises(ValueError, match="pruned: expected 3 layers of heads below 2"):
        config_of(LEFT[:2]).build()
    with pytest.raises(ValueError, match="pruned: expected 3 layers of heads below 2"):
        config_of([*LEFT[:2], {"heads": [2], "feed_forward": 1}]).build()
    with pytest.raises(BadDocumentError, match=r"heads: \[1, 0, 1\] names a head twice"):
        config_of([{"heads": [1, 0, 1], "feed_forward": 1}])


def test_a_pruned_shape_is_known_by_its_key_and_knows_the_whole_one():
    whole, pruned = encoder_config(), {"layers": LEFT}
    config = parsed_config({**whole, "pruned": pruned}, where="test")
    assert config.pruned == Pruning.parse({**pruned, "scales_channels": False}, where="test")
    assert type(parsed_config(whole, where="test")) is type(config.whole()) is EncoderConfig
    assert config.whole() == parsed_config(whole, where="test")
    for given in ([], {**whole, "pruned": None}):
        with pytest.raises(BadDocumentError, match=r"^here"):
            parsed_config(given, where="here")


COUNTED = {
    "encoder_embed_dim": 24, "encoder_num_heads": [3, 4, 1], "encoder_head_dim": 6, "encoder_use_attention": [True, False, True],
    "encoder_use_feed_forward": [True, True, False], "encoder_ff_interm_features": [5, 40, 48], "encoder_prune_attention_heads": False,
}  # fmt: skip
NAMED = {
    **{key: value for key, value in COUNTED.items() if key not in {"encoder_num_heads", "encoder_head_dim"}},
    "encoder_remaining_heads": [[0, 3], [1], [2]], "encoder_total_num_heads": [4, 5, 6],
}  # fmt: skip


def test_lists_of_what_is_left_of_each_layer_become_a_pruning():
    def shape(heads, **changes):
        layers = [
            {"heads": kept, "feed_forward": size}
            for kept, size in zip(heads, changes.pop("sizes", (5, 40, 0)), strict=True)
        ]
        found = {"encoder_embed_dim": 24, "encoder_num_heads": 4, "encoder_ff_interm_features": 48}
        return {**found, "pruned": {"layers": layers, "scales_channels": False}, **changes}

    given = {"scales_channels": False, "where": "test"}
    assert pruned_shape(COUNTED, **given) == shape([[0, 1, 2], [], [0]])
    assert pruned_shape(NAMED, **given) == shape([[0, 3], [], [2]])
    scaled = pruned_shape(NAMED, scales_channels=True, where="test")
    assert scaled["pruned"]["scales_channels"]
    empty = {**COUNTED, "encoder_ff_interm_features": [0, 0, 0]}
    assert pruned_shape(empty, **given) == shape([[0, 1, 2], [], [0]], sizes=(0, 0, 0), encoder_ff_interm_features=1)


@pytest.mark.parametrize(
    ("given", "change"),
    [
        (COUNTED, {"encoder_num_heads": 4}),
        (COUNTED, {"encoder_num_heads": [3, 4]}),
        (COUNTED, {"encoder_num_heads": [3, 4, -1]}),
        (COUNTED, {"encoder_num_heads": [3, 4, 65537]}),
        (COUNTED, {"encoder_num_heads": [3, 4, True]}),
        (COUNTED, {"encoder_head_dim": 0}),
        (COUNTED, {"encoder_head_dim": None}),
        (COUNTED, {"encoder_head_dim": 25}),
        (COUNTED, {"encoder_embed_dim": "24"}),
        (COUNTED, {"encoder_use_attention": None}),
        (COUNTED, {"encoder_use_attention": [True] * 4}),
        (COUNTED, {"encoder_use_feed_forward": [True] * 2}),
        (COUNTED, {"encoder_ff_interm_features": [5, 40]}),
        (NAMED, {"encoder_remaining_heads": [[0]]}),
        (NAMED, {"encoder_total_num_heads": []}),
        (NAMED, {"encoder_total_num_heads": 4}),
    ],
)
def test_lists_that_do_not_have_an_entry_a_layer_are_refused(given, change):
    with pytest.raises(
        BadDocumentError, match=r"^here: its lists of heads and feed-forward sizes do not have an entry"
    ):
        pruned_shape({**given, **change}, scales_channels=False, where="here")
