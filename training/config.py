"""What a training run is asked to be: defaults are DistilHuBERT's numbers, presets are the papers', the user turns the rest.

Sources: DistilHuBERT (arXiv 2110.01900) and s3prl's distiller for model, loss and optimiser; "Improving generalizability of
distilled self-supervised speech processing models under distorted settings" (arXiv 2210.07978) and its code for the views;
domain adversarial training by gradient reversal from Ganin and Lempitsky (arXiv 1409.7495). Where a number is ours it says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from manifests.errors import BadDocumentError, UsageError, printable
from manifests.files import read_yaml
from manifests.records import Document, Name, Record
from manifests.yaml12 import parse_yaml
from training.views import Views

PAPER_UTTERANCES = 24
CRITIC_PACE = 3.0
SHORTEST_CROP_S = 0.1  # a frame takes 25 ms; a crop without one would train on nothing, at a loss of 0

Positive = Annotated[float, Field(gt=0)]
Whole = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class TeacherChoice(Record):
    """Who teaches: `nano`, a torchaudio bundle such as `hubert_base`, or a folder; and which layers, counted from 1."""

    name: str
    layers: Literal["thirds"] | Annotated[tuple[Whole, ...], Field(strict=False, min_length=1)] = "thirds"

    @model_validator(mode="after")
    def check_layers_once(self) -> Self:
        """A layer named twice would weigh twice."""
        if self.layers != "thirds" and len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: {list(self.layers)} names a layer twice")
        return self


class StudentShape(Record):
    """The student: the teacher's convolutions and first layers.

    Attributes:
        layers: How many transformer layers it keeps.
        dropout: In attention, feed-forward and residual paths.
        cnn_gradient: What gradients into the convolutions are multiplied by, as in wav2vec 2.0 and s3prl; 0 freezes them.
    """

    layers: Whole = 2
    dropout: Fraction = 0.1
    cnn_gradient: Annotated[float, Field(ge=0, le=1)] = 0.1


class Batch(Record):
    """Size of the global batch: `seconds` of audio with padding, or `utterances`; cut into `lanes` micro-batches.

    The papers use 24 utterances. The number of lanes is ours: ranks take whole lanes, so it is the most ranks there can be.
    """

    seconds: Positive | None = None
    utterances: Whole | None = None
    lanes: Annotated[int, Field(ge=1, le=4096)] = 4

    @model_validator(mode="after")
    def check_one_size(self) -> Self:
        """Not both."""
        if self.seconds is not None and self.utterances is not None:
            raise ValueError("either seconds or utterances is due here, not both")
        return self


class Adversary(Record):
    """A critic tells domains apart from the student's last transformer layer; the student learns to hide them.

    The authors published no critic; this one is ours. `strength` and the critic's pace come from an experiment in which a
    reversal of 0.3 with one optimiser outran the critic (accuracy far below chance) and hurt, and 0.03 with a critic about
    six times as fast (here: three times the rate, two updates for one) kept it near chance and helped.

    Attributes:
        domain: What the critic names: the condition heard, whether it was distorted, or whether the features are the
            student's or the teacher's of the same depth (the authors' code).
        strength: Largest factor of the reversed gradient.
        schedule: `ganin` rises from 0 as 2 / (1 + exp(-10 p)) - 1 over the run; `constant` does not.
        weight: Of the critic's loss in the sum.
        learning_rate: The critic's own, constant; three times the student's if not given.
        hidden: Width of the critic.
        critic_steps: Updates of the critic for one of the student.
    """

    domain: Literal["condition", "distorted", "view"] = "condition"
    strength: Annotated[float, Field(ge=0)] = 0.03
    schedule: Literal["ganin", "constant"] = "ganin"
    weight: Positive = 1.0
    learning_rate: Positive | None = None
    hidden: Whole = 256
    critic_steps: Whole = 2


class LossWeights(Record):
    """Weights of the two parts of the distillation loss."""

    l1: Annotated[float, Field(ge=0)] = 1.0
    cosine: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def check_something(self) -> Self:
        """A loss of nothing teaches nothing."""
        if self.l1 + self.cosine == 0:
            raise ValueError("l1 and cosine are both 0; give one of them weight")
        return self


class Optimiser(Record):
    """AdamW with linear warm-up and linear decay to zero."""

    learning_rate: Positive = 2e-4
    warmup_share: Fraction = 0.07
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] = (0.9, 0.98)
    epsilon: Positive = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 1e-6
    clip: Positive = 5.0


class TrainConfig(Document):
    """A whole run; `config.yaml` in its folder is this, resolved.

    Attributes:
        preset: The preset that it was made from, for the record.
        corpus: A folder or URL.
        dev: Split of the validation; without that split there is none.
        crop_s: Longer utterances are cut to this; 250000 samples at 16 kHz by default.
        validate_utterances: How many of the dev split are heard at a validation, the same each time.
        precision: `bfloat16` runs the models under autocast; parameters, losses and optimiser stay float32.
        workers: Processes that read and decode; 0 does it in the trainer's own.
    """

    SCHEMA: ClassVar[str] = "stillroom/train/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    preset: str | None = None
    corpus: str
    split: Name = "train"
    dev: Name = "dev"
    teacher: TeacherChoice
    student: StudentShape = StudentShape()
    batch: Batch = Batch()
    crop_s: Annotated[float, Field(ge=SHORTEST_CROP_S)] = 15.625
    views: Views = Views()
    adversary: Adversary | None = None
    loss: LossWeights = LossWeights()
    optimiser: Optimiser = Optimiser()
    steps: Whole = 200_000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log_every: Whole = 50
    checkpoint_every: Whole = 2500
    validate_every: Whole = 2500
    validate_utterances: Whole = 64
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: Annotated[int, Field(ge=0, le=256)] = 1

    @field_validator("corpus", mode="before")
    @classmethod
    def check_corpus(cls, corpus: Any) -> Any:
        """One corpus."""
        if isinstance(corpus, list):
            raise ValueError("a list of corpora cannot be read yet; give one folder or URL")  # noqa: TRY004 (pydantic's way)
        return corpus

    @model_validator(mode="after")
    def resolve(self) -> Self:
        """Fill in what depends on other keys."""
        if self.batch.seconds is None and self.batch.utterances is None:
            object.__setattr__(self, "batch", self.batch.model_copy(update={"utterances": PAPER_UTTERANCES}))
        if self.adversary is not None and self.adversary.learning_rate is None:
            rate = CRITIC_PACE * self.optimiser.learning_rate
            object.__setattr__(self, "adversary", self.adversary.model_copy(update={"learning_rate": rate}))
        return self


# One in sixteen pairs is clean: in the authors' "double" mode both distortions are left out in one draw of sixteen.
CLEAN_SHARE = 0.0625
PRESETS: dict[str, dict[str, Any]] = {
    "distilhubert": {"views": {"kind": "none"}},
    "cdm1": {"views": {"kind": "cdm1", "clean_share": CLEAN_SHARE}},
    "cdm2": {"views": {"kind": "cdm2", "clean_share": CLEAN_SHARE}},
    "cdm1-dat": {"views": {"kind": "cdm1", "clean_share": CLEAN_SHARE}, "adversary": {"domain": "condition"}},
    "cdm2-dat": {"views": {"kind": "cdm2", "clean_share": CLEAN_SHARE}, "adversary": {"domain": "condition"}},
}

# What may differ between a run and the command that goes on with it: nothing of the method.
FREE_KEYS = frozenset({"corpus", "preset", "workers", "log_every", "checkpoint_every"})


def load_config(path: Path, *, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """A config file with its preset and `key=value` overrides worked in.

    Relative paths in the file are relative to it, those in overrides to the current folder.

    Raises:
        BadDocumentError: A wrong key or value, with its path.
        UsageError: An override that is none.
    """
    data = read_yaml(path, needed="the config of a training run")
    if not isinstance(data, dict):
        raise BadDocumentError(
            path, "a mapping is due here, such as `preset: cdm2`, `corpus: FOLDER`, `teacher: {name: nano}`"
        )
    user = with_paths(data, path.parent)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key or not all(key.split(".")):
            raise UsageError(
                f"--set {printable(override)}: key=value is due here, such as optimiser.learning_rate=1e-3"
            )
        change: Any = parse_yaml(text.encode(), where=f"--set {key}")
        for part in reversed(key.split(".")):
            change = {part: change}
        user = merged(user, with_paths(change, Path.cwd()))
    return resolved(user, where=path)


def resolved(user: dict[str, Any], *, where: object) -> TrainConfig:
    """A config from what a user wrote, over its preset.

    Raises:
        BadDocumentError: A wrong key or value, with its path.
    """
    preset = user.get("preset")
    if preset is not None and (not isinstance(preset, str) or preset not in PRESETS):
        raise BadDocumentError(where, f"preset: {printable(preset)!r} is none of {', '.join(PRESETS)}")
    base = PRESETS[preset] if preset is not None else {}
    return TrainConfig.parse({"schema": TrainConfig.SCHEMA, **merged(base, user)}, where=where)


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`change` over `base`: mappings key by key, anything else replaced."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def with_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with a relative corpus folder, or teacher folder, made absolute."""

    def absolute(value: object) -> object:
        return str((folder / value).resolve()) if isinstance(value, str) and "://" not in value else value

    result = dict(data)
    if "corpus" in result:
        result["corpus"] = absolute(result["corpus"])
    teacher = result.get("teacher")
    if isinstance(teacher, dict) and isinstance(teacher.get("name"), str) and "/" in teacher["name"]:
        result["teacher"] = {**teacher, "name": absolute(teacher["name"])}
    return result


def method_difference(ours: TrainConfig, theirs: TrainConfig) -> str | None:
    """The first key, with both values, in which two runs differ in method; None if they are the same."""
    mine, other = flat(ours.model_dump(mode="json", by_alias=True)), flat(theirs.model_dump(mode="json", by_alias=True))
    derived_last = sorted(mine.keys() | other.keys(), key=lambda key: (key.startswith("adversary"), key))
    for key in derived_last:
        if key.partition(".")[0] not in FREE_KEYS and mine.get(key) != other.get(key):
            return f"{key} is {printable(other.get(key))}, asked for {printable(mine.get(key))}"
    return None


def flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one with dotted keys."""
    if not isinstance(data, dict) or not data:
        return {prefix.rstrip("."): data}
    return {path: value for key, inner in data.items() for path, value in flat(inner, f"{prefix}{key}.").items()}
