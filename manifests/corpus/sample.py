"""The record of a sample in a tar, which the builder writes and training reads.

A sample is WebDataset's: `<key>.json`, `<key>.clean.flac` and `<key>.<condition>-<n>.flac`, 16-bit mono, all of exactly
the same length.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, assert_never

from pydantic import Field

from manifests.io.records import CONDITION_PATTERN, Document, Name, Rate, Record
from manifests.plan.channel_steps import PlannedChannelStep, PlannedPitchStep
from manifests.plan.steps import (
    BabblePart,
    BabbleStep,
    ColouredNoiseStep,
    ColouredPart,
    FileSpan,
    PlannedCodecStep,
    PlannedFreeverbStep,
    PlannedRoomStep,
    PlannedStep,
    RecordedNoiseStep,
    RecordedPart,
    SeveralNoisesStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manifests.plan.steps import NoisePart


CLEAN = "clean"
MEMBER_PATTERN = re.compile(r"^(?P<key>[A-Za-z0-9_-]+)\.(?P<suffix>json|(?P<copy>clean|[a-z][a-z0-9_]*-[0-9]+)\.flac)$")


def sample_key(utterance_id: str) -> str:
    """The WebDataset key of an utterance.

    webdataset splits a name at its first dot and groups members by what precedes it, so a key has no dot: characters
    other than `[A-Za-z0-9_-]` become `_`, it is cut to 40, and 12 hex digits of the id's SHA-256 keep it unique.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", utterance_id)[:40]
    return f"{readable}-{hashlib.sha256(utterance_id.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


class SampleCopy(Record):
    """The record of one copy: its domain and every step.

    Attributes:
        domain: One token a step really applied, joined by `+`: a noise's source, a room's bank, a codec's name, a channel step's
            kind; `clean` if none.
        family: The same, coarser: `noise`, `room`, `codec`, `channel`.
        gain_db: Gain put on the whole copy at the end so that it does not clip; 0.0 where none was needed.
        unheard: Ids of planned talkers that are not in the babble, because their files cannot be read or are silent.
    """

    name: str
    condition: Annotated[str, Field(pattern=CONDITION_PATTERN)]
    domain: str
    family: str
    gain_db: float
    steps: Annotated[tuple[PlannedStep, ...], Field(strict=False)]
    unheard: Annotated[tuple[str, ...], Field(strict=False)] | None = None

    @property
    def keeps_content(self) -> bool:
        """Whether the words can still be understood in this copy; see `step_keeps_content`."""
        return keeps_content(self.steps)


class Sample(Document):
    """The `.json` member.

    Attributes:
        clean_gain_db: Gain put on the clean wave, before every copy, so that it does not clip; 0.0 for any 16-bit source.
    """

    SCHEMA: ClassVar[str] = "stillroom/sample/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    id: str
    split: Name
    num_samples: Annotated[int, Field(ge=1)]
    sample_rate: Rate
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    custom: dict[str, Any] = {}
    source: FileSpan
    clean_gain_db: float = 0.0
    copies: Annotated[tuple[SampleCopy, ...], Field(strict=False)]


def domain_of(steps: tuple[PlannedStep, ...]) -> str:
    """One token a step, in order: noise its source, room its bank, codec its name, channel its kind; `clean` if there is none."""
    return "+".join(domain_token(step) for step in steps) or CLEAN


def domain_token(step: PlannedStep) -> str:
    """The domain of one step."""
    match step:
        case PlannedRoomStep():
            return step.bank
        case PlannedCodecStep():
            return step.codec if step.loss is None else f"{step.codec}-loss"
        case PlannedChannelStep() | PlannedFreeverbStep():
            return step.kind
        case _:
            return step.source


def family_of(steps: tuple[PlannedStep, ...]) -> str:
    """Families of the steps joined by `+`; `clean` if there is none."""
    return "+".join(family_token(step) for step in steps) or CLEAN


def family_token(step: PlannedStep) -> str:
    """The family of one step: `channel` for all of the channel's kinds, `room` for freeverb, else its kind."""
    if isinstance(step, PlannedFreeverbStep):
        return "room"
    return "channel" if isinstance(step, PlannedChannelStep) else step.kind


def keeps_content(steps: Iterable[PlannedStep]) -> bool:
    """Whether every step of a copy keeps the content; true of no steps."""
    return all(step_keeps_content(step) for step in steps)


def step_keeps_content(step: PlannedStep) -> bool:
    """Whether one planned step keeps the spoken content: not a pitch shift, lost packets or a single interfering talker."""
    match step:
        case RecordedNoiseStep() | ColouredNoiseStep() | BabbleStep():
            return noise_keeps_content(step)
        case SeveralNoisesStep():
            return all(noise_keeps_content(noise) for noise in step.noises)
        case PlannedRoomStep() | PlannedFreeverbStep():
            return True
        case PlannedCodecStep():
            return step.loss is None
        case PlannedPitchStep():
            return False
        case PlannedChannelStep():
            return True
        case _:
            assert_never(step)


def noise_keeps_content(noise: NoisePart) -> bool:
    """Whether a noise keeps the content: all do but a single interfering talker."""
    match noise:
        case RecordedPart() | ColouredPart():
            return True
        case BabblePart():
            return len(noise.talkers) > 1
        case _:
            assert_never(noise)
