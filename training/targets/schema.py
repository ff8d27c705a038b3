"""The documents of a teacher's stored outputs: `targets.json`, and the index beside each of their shards."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from manifests.corpus.sample import CLEAN
from manifests.corpus.shard_index import ShardEntry, Size
from manifests.io.records import Document, Name, Record, Sha256
from training.data.sampler import CropGrid
from training.data.views import condition_of
from training.models.encoder import EncoderConfig

Count = Annotated[int, Field(ge=1, le=65536)]


class TargetPlan(Record):
    """Everything that decides targets: two that agree in this agree in every number.

    Attributes:
        corpus: Name of the corpus.
        corpus_sha256: Its digest.
        teacher: Its name.
        teacher_sha256: Digest of its parameters.
        weights_sha256: Digest of the files that its weights were read from.
        heard_sha256: Digest of `teacher/heard.txt`.
        encoder: Its shape.
        layers: Which layers, counted from 1, in the order in which they are stored.
        context: What the teacher was given of an utterance: the crop.
        crop_samples: Longest crop.
        crop_sets: How many crops an utterance has.
        crop_seed: Of the crops.
        conditions: Whose copies were given, beside the clean utterances.
        precision: In which the teacher computed.
    """

    corpus: str
    corpus_sha256: Sha256
    teacher: str
    teacher_sha256: Sha256
    weights_sha256: Sha256 | None = None
    heard_sha256: Sha256
    encoder: EncoderConfig
    layers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1, max_length=256)]
    context: Literal["crop"] = "crop"
    crop_samples: Annotated[int, Field(ge=1)] | None = None
    crop_sets: Count | None = None
    crop_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    conditions: Annotated[tuple[Name, ...], Field(strict=False)] = ()
    precision: Literal["float32", "bfloat16"] = "float32"

    @field_validator("context", mode="before")
    @classmethod
    def check_context(cls, context: object) -> object:
        """Targets of whole utterances were made by an older Stillroom."""
        if context == "whole":
            raise ValueError(
                "targets made with `--context whole` are not supported any more: compute them again with `stillroom targets`"
            )
        return context

    @property
    def grid(self) -> CropGrid:
        """Where crops may begin."""
        return CropGrid(self.encoder.hop_samples, sets=self.crop_sets, seed=self.crop_seed)

    def has(self, copy: str) -> bool:
        """Whether there are targets of a copy."""
        return copy == CLEAN or condition_of(copy) in self.conditions


class Targets(Document):
    """`targets.json`, written last.

    Attributes:
        plan: What decided them.
        splits: Their shards, named as those of the audio.
    """

    SCHEMA: ClassVar[str] = "stillroom/targets/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    plan: TargetPlan
    splits: dict[Name, Annotated[tuple[ShardEntry, ...], Field(strict=False)]]


class Target(Record):
    """One member: which stretch, in samples, of the copy of this name, and where it is in the tar."""

    name: Annotated[str, Field(max_length=64)]
    start: Size
    length: Annotated[int, Field(ge=1, lt=2**40)]
    offset: Size
    size: Size


class TargetSample(Record):
    """The targets of one utterance."""

    key: str
    targets: Annotated[tuple[Target, ...], Field(strict=False)]


class TargetIndex(Document):
    """The `.json` beside a tar of targets, the mark of a finished one."""

    SCHEMA: ClassVar[str] = "stillroom/target-shard/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: str
    split: Name
    bytes: Size
    sha256: Sha256
    plan_sha256: Sha256
    seconds: float
    samples: Annotated[tuple[TargetSample, ...], Field(strict=False)]
