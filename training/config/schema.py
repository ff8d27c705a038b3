"""The config of a training run: defaults are DistilHuBERT's numbers, presets are the papers', the user sets the rest.

Sources: DistilHuBERT (arXiv 2110.01900) and s3prl's distiller for model, loss and optimiser; "Improving generalizability of
distilled self-supervised speech processing models under distorted settings" (arXiv 2210.07978) and its code for the views;
domain adversarial training by gradient reversal from Ganin and Lempitsky (arXiv 1409.7495). Where a number is ours it says so.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from manifests.errors import printable
from manifests.io.records import Document, Name, Record
from training.config.model import LossWeights, StudentShape, TeacherChoice, Whole, whole
from training.config.other_names import EXAMPLES, OTHER_NAMES
from training.data.view_keys import Views

PAPER_UTTERANCES = 24
CRITIC_PACE = 3.0
SHORTEST_CROP_S = 0.1  # a frame takes 25 ms; a crop without one would train on nothing, at a loss of 0
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(whole)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Batch(Record):
    """Size of the global batch: `seconds` of audio with padding, or `utterances`; cut into `lanes` micro-batches.

    The papers use 24 utterances. The number of lanes is ours: ranks take whole lanes, so it is the most ranks there can be.

    Attributes:
        seconds: Seconds of audio in a batch, padding counted.
        utterances: Utterances in a batch, in place of `seconds`.
        lanes: Micro-batches of a batch; ranks take whole lanes.
        window_shards: Shards that a lane mixes at a time, 2 by default; memory grows with it.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("size", "batch_size", "samples"), "write utterances, or seconds of audio"),
        **dict.fromkeys(("secs", "duration", "max_duration", "seconds_per_batch"), "write seconds"),
    }

    seconds: Positive | None = None
    utterances: Whole | None = None
    lanes: Annotated[int, Field(ge=1, le=4096)] = 4
    window_shards: Whole | None = None

    @model_validator(mode="after")
    def check_one_size(self) -> Self:
        """Not both."""
        if self.seconds is not None and self.utterances is not None:
            raise ValueError("expected either seconds or utterances, not both")
        return self


class Crops(Record):
    """Crops that begin where a frame of the teacher begins, so that its outputs can be stored; see `training.targets.reader`.

    Attributes:
        sets: Epoch e has the crops of set e modulo so many; none draws new ones for every epoch.
        seed: Of the sets; not the run's, so that students of several seeds share them.
    """

    sets: Whole | None = 1
    seed: Seed = 0


class Staging(Record):
    """Shards are copied to a disk of each node before they are read.

    Attributes:
        dir: The folder, the same path on every node.
        gigabytes: Most that the copies take; by default what the disk has room for.
    """

    dir: Annotated[str, Field(min_length=1)]
    gigabytes: Positive | None = None


class Adversary(Record):
    """A domain classifier (critic) names the domain from hidden layers of the student; the student learns to hide it.

    The authors published no critic; this one is ours. `strength` and the critic's pace come from an experiment in which a
    reversal of 0.3 with one optimiser outran the critic (accuracy far below chance) and hurt, and 0.03 with a critic about
    six times as fast (here: three times the rate, two updates for one) kept it near chance and helped.

    Attributes:
        objective: `reversal` of the critic's gradient, `confusion` (its predictions are drawn to the uniform distribution), or the
            authors' alternating `game`.
        domain: What the critic names: the condition of the student's copy, its family, whether it is distorted, or whether the features
            are the student's or the teacher's of the same depth (the authors' code).
        features: Mean and deviation over time of each layer, `pooled`, or its single `frames`.
        layers: Which hidden layers, counted from 1, side by side; `last` by default.
        strength: Largest factor of the gradient that reaches the student.
        schedule: `ganin` rises from 0 as 2 / (1 + exp(-10 p)) - 1 over the run; `constant` does not.
        learning_rate: The critic's own, constant; three times the student's if not given.
        standardise: Whether each feature is scaled to zero mean and unit variance over fixed utterances of the untrained student
            before the critic, so that the scale of a layer does not matter. Off in what was run before.
        critic_steps: Updates of the critic at each step of the student.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("lambda", "weight", "alpha", "lambda_"), "write strength"),
        "lr": "write learning_rate",
    }

    objective: Literal["reversal", "confusion", "game"] = "reversal"
    domain: Literal["condition", "family", "distorted", "view"] = "condition"
    features: Literal["pooled", "frames"] = "pooled"
    layers: Literal["last"] | Annotated[tuple[Whole, ...], Field(strict=False, min_length=1)] = "last"
    strength: Annotated[float, Field(ge=0)] = 0.03
    schedule: Literal["ganin", "constant"] = "ganin"
    learning_rate: Positive | None = None
    standardise: bool = False
    critic_steps: Whole = 2

    @model_validator(mode="after")
    def check_layers(self) -> Self:
        """Each once."""
        if self.layers != "last" and len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: {list(self.layers)} names a layer twice")
        return self


class Optimiser(Record):
    """AdamW with linear warm-up and linear decay to zero; its other numbers are constants of `training.distillation.optimiser`.

    Attributes:
        learning_rate: Its peak, after the warm-up.
        warmup_share: Share of all steps in which it rises from zero.
        clip: Gradients are scaled down to this norm.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        "lr": "write learning_rate",
        **dict.fromkeys(("warmup", "warmup_steps", "warmup_ratio"), "write warmup_share, a share of all steps"),
        **dict.fromkeys(("name", "type", "kind"), "it is AdamW"),
    }

    learning_rate: Positive = 2e-4
    warmup_share: Fraction = 0.07
    clip: Positive = 5.0


class TrainConfig(Document):
    """A whole run; `config.yaml` in its folder is this, resolved.

    Attributes:
        preset: The preset that it was made from, for the record.
        corpus: A folder or URL; or several, where later ones add their copies of the same utterances.
        split: The split to train on.
        dev: Split of the validation; without that split there is none.
        teacher: The model that is distilled, and which of its layers.
        student: The shape of the student, and its first weights.
        batch: Size of a global batch.
        crop_s: Longer utterances are cut to this; 250000 samples at 16 kHz by default.
        views: Which copies of an utterance teacher and student get: cross-distortion mapping (CDM).
        adversary: Domain adversarial training (DAT); `none` for none.
        loss: Weights of its parts.
        optimiser: AdamW with warm-up and decay.
        steps: Updates of the whole run; the learning rate reaches zero at the last.
        seed: Of order, crops, views, dropout and first weights.
        log_every: Steps between two lines of the journal.
        checkpoint_every: Steps between two checkpoints.
        validate_every: Steps between two validations.
        validate_utterances: How many of the dev split a validation uses, the same each time.
        tensorboard: Whether the journal's numbers are written for TensorBoard too (extra `tensorboard`).
        precision: `bfloat16` (or `bf16`) runs the models under autocast; parameters, losses and optimiser stay float32. On a GPU that has
            it, it is what a new run gets whose config does not say.
        compile: Whether the transformer layers of teacher and student are compiled by `torch.compile`, which takes a minute at the start; losses
            are then the same but for rounding. Where it does not work, one line says so.
        workers: Processes that read and decode; 0 does it in the trainer's own.
        crops: Where crops begin; by default at any sample, anew in each epoch.
        targets: Folder of a teacher's outputs, from `stillroom targets`; the teacher itself is then not needed.
        stage: A disk of each node that shards are copied to before they are read; a folder, or a mapping.
        damaged_shards: How many shards that are damaged or gone are left out, each named, before the run ends; at 0 the first
            ends it.
    """

    SCHEMA: ClassVar[str] = "stillroom/train/2"
    EXAMPLES: ClassVar[dict[str, str]] = EXAMPLES
    OTHER_NAMES: ClassVar[dict[str, str]] = OTHER_NAMES

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    preset: str | None = None
    corpus: str | Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
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
    seed: Seed = 0
    log_every: Whole = 50
    checkpoint_every: Whole = 2500
    validate_every: Whole = 2500
    validate_utterances: Whole = 64
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool | None = None
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    tensorboard: bool = False
    crops: Crops | None = None
    targets: str | None = None
    stage: Staging | None = None
    damaged_shards: Annotated[int, Field(ge=0)] = 0

    @field_validator("schema_", mode="after")
    @classmethod
    def check_version(cls, schema: str) -> str:
        """The first version was never released, and had other defaults."""
        if schema != cls.SCHEMA:
            raise ValueError(f"{schema!r} is not read any more; write a config of {cls.SCHEMA}")
        return schema

    @field_validator("adversary", mode="before")
    @classmethod
    def check_adversary(cls, adversary: Any) -> Any:
        """The word `none` means no adversary."""
        if isinstance(adversary, str) and adversary != "none":
            raise ValueError(f"expected a mapping, or none, got {printable(adversary)!r}")
        return None if adversary == "none" else adversary

    @field_validator("stage", mode="before")
    @classmethod
    def check_stage(cls, stage: Any) -> Any:
        """A folder alone means a mapping with `dir`."""
        return {"dir": stage} if isinstance(stage, str) else stage

    @field_validator("precision", mode="before")
    @classmethod
    def check_precision(cls, precision: Any) -> Any:
        """The short name means the long one."""
        return "bfloat16" if precision == "bf16" else precision

    @model_validator(mode="after")
    def resolve(self) -> Self:
        """Fill in what depends on other keys."""
        if self.batch.seconds is None and self.batch.utterances is None:
            object.__setattr__(self, "batch", self.batch.model_copy(update={"utterances": PAPER_UTTERANCES}))
        if self.adversary is not None and self.adversary.learning_rate is None:
            rate = CRITIC_PACE * self.optimiser.learning_rate
            object.__setattr__(self, "adversary", self.adversary.model_copy(update={"learning_rate": rate}))
        return self
