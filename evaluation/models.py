"""The models of an evaluation: loaded, checked and described; and `logmel`, log-mel energies as a baseline that nobody trained."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from evaluation.config import RunSource
from evaluation.data.alignments import FrameClock
from evaluation.data.utterances import check_model
from evaluation.exposure.training_set import (
    TrainingUnknownError,
    exposure_of,
    teacher_exposure,
    training_command,
)
from evaluation.onnx_model import OnnxModel, onnx_folder
from manifests.errors import StillroomError
from manifests.io.json_yaml import read_json
from manifests.results.scores import ModelFacts
from manifests.results.training_exposure import TrainedOn
from training.models.student import Heads
from training.runs.checkpoint import load_run, load_student
from training.teacher import load_teacher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evaluation.config import EvaluationConfig
    from evaluation.data.utterances import EvaluationSet
    from manifests.results.scores import ModelKind
    from training.models.encoder import Encoder


LOGMEL = "logmel"
NUM_BANDS = 80
WINDOW_S = 0.025
HOP_S = 0.02
ENERGY_FLOOR = 1e-10


class LogMelShape:
    """Frames of 25 ms every 20 ms, as the wav2vec 2.0 family has them.

    Attributes:
        sample_rate: In Hz.
        receptive_samples: Length of a frame.
        hop_samples: From one frame to the next.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.receptive_samples = round(WINDOW_S * sample_rate)
        self.hop_samples = round(HOP_S * sample_rate)

    def num_frames(self, num_samples: int) -> int:
        """How many frames an utterance of so many samples gives."""
        return max(0, (num_samples - self.receptive_samples) // self.hop_samples + 1)


class LogMel(nn.Module):
    """80 log-mel energies a frame, behind the interface of `training.models.encoder.Encoder`: one layer, no parameters.

    Args:
        sample_rate: Of the corpus, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.config = LogMelShape(sample_rate)
        self.name = LOGMEL
        self.sample_rate = sample_rate
        self.num_layers = 1
        self.num_features = NUM_BANDS
        self.num_parameters = 0
        self.trained_on: frozenset[str] = frozenset()
        self.facts: dict[str, Any] = {}
        self.digest = hashlib.sha256(f"{LOGMEL} {NUM_BANDS} {WINDOW_S} {HOP_S} {sample_rate}".encode()).hexdigest()
        self.num_bins = 1 << (self.config.receptive_samples - 1).bit_length()
        self.register_buffer("window", torch.hann_window(self.config.receptive_samples), persistent=False)
        banks = melscale_fbanks(self.num_bins // 2 + 1, 0.0, sample_rate / 2, NUM_BANDS, sample_rate, mel_scale="htk")
        self.register_buffer("banks", banks, persistent=False)

    @torch.no_grad()
    def layers(self, wave: Tensor, num_samples: Tensor, *, only: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel energies, shape (batch, 1, frame, band), and the number of real frames, shape (batch,)."""
        shape = self.config
        if wave.shape[1] < shape.receptive_samples:
            wave = nn.functional.pad(wave, (0, shape.receptive_samples - wave.shape[1]))
        frames = wave.unfold(-1, shape.receptive_samples, shape.hop_samples) * self.get_buffer("window")
        power = torch.fft.rfft(frames, n=self.num_bins).abs().square()
        energies = (power @ self.get_buffer("banks")).clamp(min=ENERGY_FLOOR).log()
        num_frames = torch.tensor([shape.num_frames(int(length)) for length in num_samples], device=wave.device)
        return energies[:, None].expand(-1, len(only or (1,)), -1, -1), num_frames


class OtherWidthError(StillroomError, ValueError):
    """Heads whose predictions have another width than the layers, so they cannot be summed."""

    def __init__(self, model: str, *, layer: int, head: int) -> None:
        super().__init__(
            f"model {model!r}: features sum+heads: its layers have {layer} features, its heads' predictions {head}; "
            "use features: sum"
        )


def distillation_heads(name: str, source: str | RunSource, encoder: Encoder) -> nn.Module | None:
    """The heads of a model, from its layers, each of shape (batch, frame, feature), to (batch, head, frame, feature); or None.

    Raises:
        OtherWidthError: If they predict a teacher of another width.
    """
    own: nn.Module | None = getattr(encoder, "heads", None)
    if own is not None or not isinstance(source, RunSource):
        return own
    weights = load_student(Path(source.run), checkpoint=source.checkpoint).heads
    if not {"expand.weight", "weight"} <= weights.keys():
        return None  # a student of another shape predicts layer by layer and has no heads on its last
    num_targets, num_features, num_target_features = weights["weight"].shape
    if num_target_features != encoder.num_features:
        raise OtherWidthError(name, layer=encoder.num_features, head=num_target_features)
    heads = Heads(num_features, num_targets, num_target_features)
    heads.load_state_dict(weights)
    return heads.requires_grad_(requires_grad=False).eval()


def load_model(source: str | RunSource, rate_hz: int) -> Encoder:
    """A teacher, the student of a run or of an export, or log-mel energies (for a corpus of this sample rate)."""
    if isinstance(source, RunSource):
        return load_run(Path(source.run), checkpoint=source.checkpoint)
    if source == LOGMEL:
        return cast("Encoder", LogMel(rate_hz))
    folder = onnx_folder(source)
    return load_teacher(source) if folder is None else cast("Encoder", OnnxModel(folder))


def origin_of(source: str | RunSource) -> str:
    """A model's origin without its path on this machine."""
    if isinstance(source, RunSource):
        return f"{Path(source.run).name}, {source.checkpoint}"
    return Path(source).name


@dataclasses.dataclass(frozen=True)
class InspectedModel:
    """Facts of a model, and the times and width of its frames; the model itself is freed.

    Attributes:
        num_heads: Distillation heads that `sum+heads` reads.
    """

    facts: ModelFacts
    clock: FrameClock
    num_features: int
    num_heads: int


def inspect_model(
    name: str, source: str | RunSource, *, dataset: EvaluationSet, with_heads: bool = False
) -> InspectedModel:
    """Load a model to check that it is there and fits, and describe it.

    Args:
        name: In the config.
        source: What it is loaded from.
        dataset: What it is evaluated on.
        with_heads: Whether some task reads its distillation heads.
    """
    encoder = load_model(source, dataset.sample_rate)
    check_model(name, encoder, dataset)
    exported = exported_facts(source)
    command = training_command(Path(source.run)) if isinstance(source, RunSource) else {}
    facts = ModelFacts(
        kind=kind_of(source, encoder, is_export=exported is not None),
        origin=origin_of(source),
        digest=encoder.digest,
        parameters=encoder.num_parameters,
        layers=encoder.num_layers,
        heard_known=bool(encoder.trained_on) or source == LOGMEL,
        details={
            key: value for key, value in {**(exported or {}), **command, **encoder.facts}.items() if key != "trained"
        },
        system=source.system if isinstance(source, RunSource) else None,
    )
    clock = FrameClock.of(encoder.config.num_frames, rate_hz=encoder.sample_rate)
    heads = distillation_heads(name, source, encoder) if with_heads else None
    num_heads = 0
    if heads is not None:
        with torch.no_grad():
            num_heads = heads([torch.zeros(1, 1, encoder.num_features)] * encoder.num_layers).shape[1]
    return InspectedModel(facts, clock, encoder.num_features, num_heads)


def exported_facts(source: str | RunSource) -> dict[str, Any] | None:
    """Facts in `export.json` of the run that an export was made from; None if there is no such file."""
    if isinstance(source, RunSource) or not Path(source).exists():
        return None
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    if not (folder / "export.json").is_file():
        return None
    record = read_json(folder / "export.json", needed="the record of an export")
    facts = record.get("facts") if isinstance(record, dict) else None
    return facts if isinstance(facts, dict) else {}


def kind_of(source: str | RunSource, encoder: Encoder, *, is_export: bool) -> ModelKind:
    """The kind of a model; only a teacher is what others are compared with in the tables."""
    if isinstance(source, RunSource):
        return "run"
    if source == LOGMEL:
        return "floor"
    if is_export:
        return "export"
    return "checkpoint" if encoder.facts.get("source") == "s3prl distiller" else "teacher"


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    """A loaded model with everything that is known of it.

    Attributes:
        heads: Its distillation heads, where some task reads them.
        teacher: Scaled features of its teacher's last layer on clean test, by sample key; None where there are none.
        trained: Distortions that it was trained on; None if they are not known.
        teacher_trained: The same of its teacher.
        notes: For readers of its scores.
    """

    name: str
    encoder: Encoder
    facts: ModelFacts
    heads: nn.Module | None = None
    teacher: Mapping[str, Tensor] | None = None
    trained: TrainedOn | None = None
    teacher_trained: TrainedOn | None = None
    notes: tuple[str, ...] = ()


def open_model(
    name: str,
    config: EvaluationConfig,
    facts: ModelFacts,
    *,
    sample_rate: int,
    device: str,
    teacher: Mapping[str, Tensor] | None = None,
) -> EvaluatedModel:
    """Load a model of the config, ready to be measured."""
    source = config.models[name]
    encoder = load_model(source, sample_rate).to(device)
    notes = []
    own_facts = {**(exported_facts(source) or {}), **encoder.facts}

    def known(find: Callable[[str, str | RunSource, Mapping[str, Any]], TrainedOn | None]) -> TrainedOn | None:
        try:
            return TrainedOn.clean() if source == LOGMEL else find(name, source, own_facts)
        except TrainingUnknownError as problem:
            notes.append(str(problem))
            return None

    trained, teacher_trained = known(exposure_of), known(teacher_exposure)
    heads = None
    if any(task.features == "sum+heads" for task in config.tasks):
        heads = distillation_heads(name, source, encoder)
        if heads is None:
            notes.append("sum+heads: it has no distillation heads, so its sum is over its layers")
        else:
            heads = heads.to(device)
    return EvaluatedModel(name, encoder, facts, heads, teacher, trained, teacher_trained, tuple(notes))
