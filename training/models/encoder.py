"""Speech encoders of the wav2vec 2.0 kind: a wave in, the output of every transformer layer out.

wav2vec 2.0 (arXiv 2006.11477), HuBERT (2106.07447) and WavLM (2110.13900) share one shape: seven strided convolutions, a
projection, a convolutional position embedding and a stack of transformer layers. torchaudio's modules are used as they
are; this module runs them layer by layer, so that

* layer k is the output of transformer layer k, counted from 1, for post-norm and pre-norm models alike;
* an utterance gets the same features whatever it is batched with: group norm and input normalisation take their
  statistics over real samples only, padding is zeroed before the position embedding and masked out of the attention
  (torchaudio normalises a whole batch at once, includes padding in the group norm, and refuses padding for WavLM).
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, assert_never, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.models.wav2vec2.wavlm_attention import WavLMSelfAttention

from manifests.io.records import Record
from training.data.batch import on_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MASKED_SCORE = -1e4
NORMALISE_EPSILON = 1e-5
LEAST_BFLOAT16_CHANNELS = 16
NOT_TORCHAUDIOS = frozenset(
    {"family", "sample_rate", "normalize_waveform", "normalize_epsilon", "projection_norm", "pretrained_as", "pruned"}
)

Count = Annotated[int, Field(ge=1, le=65536)]
Share = Annotated[float, Field(ge=0, lt=1)]


class EncoderConfig(Record):
    """Shape of an encoder: the arguments of `torchaudio.models.wav2vec2_model` or `wavlm_model`, and what they do not cover.

    Attributes:
        family: Which of the two builds it.
        sample_rate: Of the waves it takes, in Hz.
        normalize_waveform: Whether each utterance is brought to zero mean and unit variance first (the large models).
        normalize_epsilon: What is added to that variance: 1e-5 in fairseq and torchaudio, 1e-7 in Hugging Face's extractors.
        projection_norm: Whether a layer norm is before the projection; s3prl's DistilHuBERT has none.
        pretrained_as: Whose objective it was trained with, where that is known: wav2vec 2.0 and HuBERT have one shape, and
            an export to Hugging Face names the class.
    """

    family: Literal["wav2vec2", "wavlm"] = "wav2vec2"
    sample_rate: Annotated[int, Field(ge=1000, le=384_000)] = 16000
    normalize_waveform: bool = False
    normalize_epsilon: Annotated[float, Field(gt=0, lt=1)] = NORMALISE_EPSILON
    projection_norm: bool = True
    pretrained_as: Literal["wav2vec2", "hubert", "wavlm"] | None = None
    extractor_mode: Literal["group_norm", "layer_norm"]
    extractor_conv_layer_config: Annotated[
        tuple[Annotated[tuple[Count, Count, Count], Field(strict=False)], ...],
        Field(strict=False, min_length=1, max_length=64),
    ]
    extractor_conv_bias: bool
    encoder_embed_dim: Count
    encoder_projection_dropout: Share
    encoder_pos_conv_kernel: Count
    encoder_pos_conv_groups: Count
    encoder_num_layers: Annotated[int, Field(ge=1, le=256)]
    encoder_num_heads: Count
    encoder_num_buckets: Count | None = None
    encoder_max_distance: Count | None = None
    encoder_attention_dropout: Share
    encoder_ff_interm_features: Count
    encoder_ff_interm_dropout: Share
    encoder_dropout: Share
    encoder_layer_norm_first: bool
    encoder_layer_drop: Share
    aux_num_out: int | None = None

    def build(self) -> Wav2Vec2Model:
        """A model of this shape with random weights and no output layer."""
        given = self.model_dump(exclude=set(NOT_TORCHAUDIOS))
        given["extractor_conv_layer_config"] = [tuple(shape) for shape in self.extractor_conv_layer_config]
        given["aux_num_out"] = None
        match self.family:
            case "wav2vec2":
                del given["encoder_num_buckets"], given["encoder_max_distance"]
                trunk = wav2vec2_model(**given)
            case "wavlm":
                trunk = wavlm_model(**given)
            case _:
                assert_never(self.family)
        if not self.projection_norm:
            trunk.encoder.feature_projection.layer_norm = nn.Identity()
        return trunk

    def whole(self) -> EncoderConfig:
        """The shape with all heads and hidden units, as a student has it."""
        return self

    def num_frames(self, num_samples: int) -> int:
        """How many frames an utterance of so many samples gives; 0 if it is shorter than one."""
        for _, kernel, stride in self.extractor_conv_layer_config:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    @property
    def receptive_samples(self) -> int:
        """Fewest samples that give a frame (400 for the published models)."""
        needed = 1
        for _, kernel, stride in reversed(self.extractor_conv_layer_config):
            needed = (needed - 1) * stride + kernel
        return needed

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next (320 for the published models)."""
        hop = 1
        for _, _, stride in self.extractor_conv_layer_config:
            hop *= stride
        return hop


class Encoder(nn.Module):
    """A frozen encoder: always in eval mode, never with gradient.

    Args:
        trunk: The model; its output layer, if any, is not used.
        config: Its shape.
        name: Its name in a table.
        trained_on: First 16 hex digits of the SHA-256 of the PCM (little-endian int16) of each clean utterance that it, or the
            teacher it was distilled from, was trained on.
        facts: Of its training, for a report.

    Attributes:
        sample_rate: Of the waves it takes, in Hz.
        num_layers: Transformer layers.
        num_features: Size of each layer's output.
        num_parameters: All of the trunk's; heads of distillation are not part of an encoder.
        is_bfloat16: Whether its matrices are held in bfloat16, so that it computes under autocast.
    """

    def __init__(
        self,
        trunk: Wav2Vec2Model,
        config: EncoderConfig,
        *,
        name: str,
        trained_on: frozenset[str] = frozenset(),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        trunk.aux = None
        self.trunk = trunk
        self.config = config
        self.name = name
        self.trained_on = trained_on
        self.facts: dict[str, Any] = dict(facts or {})
        self.sample_rate = config.sample_rate
        self.num_layers = config.encoder_num_layers
        self.num_features = config.encoder_embed_dim
        self.num_parameters = sum(parameter.numel() for parameter in trunk.parameters())
        self.is_bfloat16 = False
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:  # noqa: ARG002, FBT001, FBT002 (torch's signature)
        """Stays in eval mode whatever `mode` says: a teacher with dropout teaches noise."""
        return super().train(False)  # noqa: FBT003

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and values of all parameters."""
        return parameter_digest(self.trunk)

    def layers(self, wave: Tensor, num_samples: Tensor, *, only: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Outputs of the transformer layers.

        Args:
            wave: Shape (batch, time), zeros after each utterance's end.
            num_samples: Real samples of each utterance, shape (batch,); on the CPU, so that nobody waits for a GPU.
            only: Which layers, counted from 1; all by default. Nothing above the highest is computed.

        Returns:
            Outputs of shape (batch, layer, frame, feature), where layer k is at index k-1 (or in the order of `only`),
            and the number of real frames of each utterance, shape (batch,).
        """
        lengths = num_samples.tolist()
        bfloat16 = torch.autocast(wave.device.type, dtype=torch.bfloat16) if self.is_bfloat16 else nullcontext()
        with torch.inference_mode(), bfloat16:
            outputs, num_frames = transformer_outputs(self.trunk, self.config, wave, lengths, only=only)
        # Stacked outside: a loss may keep the result for its backward pass, which inference tensors forbid.
        return torch.stack(outputs, dim=1), num_frames.clone()

    def forward(self, wave: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `layers`."""
        return self.layers(wave, num_samples)


def transformer_outputs(
    trunk: Wav2Vec2Model,
    config: EncoderConfig,
    wave: Tensor,
    num_samples: Tensor | list[int],
    *,
    cnn_gradient: float = 1.0,
    mask: tuple[Tensor, Tensor] | None = None,
    only: Sequence[int] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Run a batch through convolutions and transformer layers, as far up as they are wanted.

    Args:
        trunk: The model, in whatever mode it is.
        config: Its shape.
        wave: Shape (batch, time), zeros after each utterance's end.
        num_samples: Of each utterance; if a tensor, on the CPU, so that nobody waits for a GPU.
        cnn_gradient: What the gradient that reaches the convolutions is multiplied by (wav2vec 2.0 and s3prl: 0.1).
        mask: Which frames are replaced before the transformer, shape (batch, frame), and the vector in their place, shape (feature,).
        only: Layers that are returned, counted from 1; all by default.

    Returns:
        One tensor of shape (batch, frame, feature) a layer, in the order of `only`, and the number of real frames, shape
        (batch,).
    """
    lengths = num_samples.tolist() if isinstance(num_samples, Tensor) else num_samples
    if config.normalize_waveform:
        given = on_device(torch.tensor(lengths), wave.device)
        wave = normalised(wave, given, epsilon=config.normalize_epsilon)
    if wave.shape[1] < config.receptive_samples:  # too short for the kernels, and no frame of it will be real
        wave = functional.pad(wave, (0, config.receptive_samples - wave.shape[1]))
    features, frames = convolved(trunk, wave, lengths)
    if cnn_gradient != 1.0:
        features = scale_gradient(features, cnn_gradient)
    hidden = trunk.encoder.feature_projection(features)
    if mask is not None:
        is_masked, vector = mask
        hidden = torch.where(is_masked[:, :, None], vector.to(hidden.dtype), hidden)
    num_frames = on_device(torch.tensor(frames), wave.device)
    frame_is_padding: Tensor | None = None
    attention_mask: Tensor | None = None
    longest = hidden.shape[1]
    if min(frames) < longest:
        positions = torch.arange(longest, device=wave.device)
        hidden = hidden.masked_fill((positions >= num_frames[:, None])[:, :, None], 0.0)
        # An utterance without a frame attends to its first, so that no row of scores is masked throughout (NaN).
        frame_is_padding = positions >= num_frames.clamp(min=1)[:, None]
        scores = frame_is_padding[:, None, None, :].to(hidden.dtype) * MASKED_SCORE
        attention_mask = scores.expand(-1, 1, longest, longest)
    transformer = trunk.encoder.transformer
    hidden = with_positions(transformer, hidden, channels=config.encoder_embed_dim // config.encoder_pos_conv_groups)
    outputs: dict[int, Tensor] = {}
    wanted = tuple(range(1, config.encoder_num_layers + 1) if only is None else only)
    position_bias: Tensor | None = None
    if config.family == "wavlm" and isinstance(transformer.layers[0].attention, WavLMSelfAttention):
        position_bias = wavlm_position_bias(transformer.layers[0].attention, hidden)
    for number, layer in enumerate(list(transformer.layers)[: max(wanted)], 1):
        if config.family == "wavlm":
            hidden, position_bias = layer(hidden, position_bias=position_bias, key_padding_mask=frame_is_padding)
        else:
            hidden, position_bias = layer(hidden, attention_mask=attention_mask)
        if number in wanted:
            outputs[number] = hidden
    return [outputs[number] for number in wanted], num_frames


def with_positions(transformer: Any, hidden: Tensor, *, channels: int) -> Tensor:
    """Position embedding, norm and dropout.

    In float32 where a CPU would convolve groups of few channels: with AMX, oneDNN's bfloat16 gives wrong numbers (decision 177).
    """
    if hidden.device.type == "cpu" and channels < LEAST_BFLOAT16_CHANNELS:
        with torch.autocast("cpu", enabled=False):
            return cast("Tensor", transformer._preprocess(hidden.float()))  # noqa: SLF001
    return cast("Tensor", transformer._preprocess(hidden))  # noqa: SLF001


def wavlm_position_bias(attention: WavLMSelfAttention, hidden: Tensor) -> Tensor:
    """The relative position embedding that all layers share, shape (batch, head, frame, frame).

    As torchaudio's `compute_bias`, which would make a matrix on the CPU and wait until a GPU has it.
    """
    batch, frames, _ = hidden.shape
    bucket_of = attention._relative_positions_bucket(torch.arange(1 - frames, frames))  # noqa: SLF001
    place = torch.arange(frames, device=hidden.device)
    buckets = on_device(bucket_of, hidden.device)[place[None, :] - place[:, None] + frames - 1]
    return torch.as_tensor(attention.rel_attn_embed(buckets)).permute(2, 0, 1).repeat(batch, 1, 1, 1)


def convolved(trunk: Wav2Vec2Model, wave: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]:
    """The convolutional features, shape (batch, frame, feature), and how many frames of each utterance are real."""
    hidden = wave.unsqueeze(1)
    for block in trunk.feature_extractor.conv_layers:
        lengths = [max(0, (length - block.kernel_size) // block.stride + 1) for length in lengths]
        hidden = block.conv(hidden)
        if isinstance(block.layer_norm, nn.GroupNorm):
            hidden = group_normed(block.layer_norm, hidden, lengths)
        elif block.layer_norm is not None:
            hidden = block.layer_norm(hidden)
        # The largest tensors of a step: in place where no gradient needs what was there.
        hidden = functional.gelu(hidden) if hidden.requires_grad else torch.ops.aten.gelu_(hidden)
    return hidden.transpose(1, 2), lengths


def group_normed(norm: nn.GroupNorm, hidden: Tensor, lengths: list[int]) -> Tensor:
    """Group norm with statistics over each utterance's own frames; hidden has shape (batch, channel, frame)."""
    longest = hidden.shape[-1]
    if min(lengths) >= longest:
        return cast("Tensor", norm(hidden))
    used = [min(longest, max(2, length)) for length in lengths]  # statistics of fewer than two values do not exist
    if hidden.device.type == "cuda":  # as autocast has it there
        hidden = hidden.float()
    return cast("Tensor", RaggedGroupNorm.apply(hidden, norm.weight, norm.bias, norm.num_groups, norm.eps, used))


class RaggedGroupNorm(torch.autograd.Function):
    """Group norm of each row's first values, zeros after them; written out, as the gradient of a slice of the batch is as large as the batch."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd gives all by position
        context: Any, hidden: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, lengths: list[int]
    ) -> Tensor:
        """Norm `lengths[row]` values of each row of `hidden`, which has shape (batch, channel, frame)."""
        channels = hidden.shape[1]
        normed = torch.empty_like(hidden)
        kept: list[Tensor] = []
        for row, output, length in zip(hidden, normed, lengths, strict=True):
            real = row[None, :, :length].contiguous()
            values, mean, scale = torch.native_group_norm(real, weight, bias, 1, channels, length, groups, epsilon)
            output[:, :length] = values[0]
            output[:, length:] = 0
            if any(context.needs_input_grad):
                kept += [real, mean, scale]
        context.save_for_backward(weight, *kept)
        context.groups, context.lengths = groups, lengths
        return normed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None, None]:
        """The gradients of hidden values, weight and bias."""
        weight, *kept = context.saved_tensors
        channels = gradient.shape[1]
        of_hidden = torch.empty_like(gradient)
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        for row, length in enumerate(context.lengths):
            into, by_weight, by_bias = torch.ops.aten.native_group_norm_backward(
                gradient[row, None, :, :length].contiguous(), *kept[3 * row : 3 * row + 3],
                weight, 1, channels, length, context.groups, [True, True, True],
            )  # fmt: skip
            of_hidden[row, :, :length] = into[0]
            of_hidden[row, :, length:] = 0
            of_weight += by_weight
            of_bias += by_bias
        return of_hidden, of_weight, of_bias, None, None, None


def normalised(wave: Tensor, num_samples: Tensor, *, epsilon: float = NORMALISE_EPSILON) -> Tensor:
    """Each utterance with zero mean and unit variance over its real samples, padding still zero; shape (batch, time)."""
    is_real = torch.arange(wave.shape[1], device=wave.device) < num_samples[:, None].to(wave.device)
    count = is_real.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (wave * is_real).sum(dim=1, keepdim=True) / count
    centred = (wave - mean) * is_real
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred * torch.rsqrt(variance + epsilon)


class ScaledGradient(torch.autograd.Function):
    """The identity forwards; the gradient times a factor backwards."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, factor: float) -> Tensor:
        """Pass on."""
        context.factor = factor
        return hidden.view_as(hidden)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Scale."""
        return gradient * context.factor, None


def scale_gradient(hidden: Tensor, factor: float) -> Tensor:
    """`hidden` as it is, its gradient multiplied by `factor`; a negative factor reverses it (arXiv 1505.07818)."""
    return cast("Tensor", ScaledGradient.apply(hidden, factor))


def parameter_digest(module: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 values of a module's state, 64 hex digits."""
    state = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        state.update(f"{name}\x1f{tuple(values.shape)}\x1f".encode())
        state.update(memoryview(values.numpy()).cast("B") if values.numel() else b"")
    return state.hexdigest()
