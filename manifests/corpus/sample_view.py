"""The part of a sample's record that training reads for every pair: each copy's family, and whether it keeps the content.

Checking the whole record takes 70 us of CPU, seven times as long as this part alone, and a loader reads a record for every
utterance of every epoch. Other keys are ignored here; `manifests.corpus.sample` and `stillroom verify` check all of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "noise", "room", "freeverb", "codec",
    "lowpass", "highpass", "bandpass", "bandreject", "tilt", "gain", "clip", "resample", "pitch",
]  # fmt: skip


class Outline(BaseModel):
    """A part of a record, of which only some keys are read."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class NoiseOutline(Outline):
    """One noise: a `babble` has talkers."""

    form: Literal["recorded", "coloured", "babble"]
    talkers: Annotated[tuple[Outline, ...], Field(strict=False)] = ()

    @property
    def keeps_content(self) -> bool:
        """Whether the noise keeps the content; see `manifests.corpus.sample`."""
        return self.form != "babble" or len(self.talkers) > 1


class StepOutline(Outline):
    """One step."""

    kind: Kind
    form: Literal["recorded", "coloured", "babble", "several"] | None = None
    talkers: Annotated[tuple[Outline, ...], Field(strict=False)] = ()
    noises: Annotated[tuple[NoiseOutline, ...], Field(strict=False)] = ()
    loss: Any = None

    @property
    def keeps_content(self) -> bool:
        """Whether the step keeps the content, as `manifests.corpus.sample.step_keeps_content` decides of the whole step."""
        if self.form == "babble" and len(self.talkers) <= 1:
            return False
        return self.kind != "pitch" and self.loss is None and all(noise.keeps_content for noise in self.noises)


class CopyOutline(Outline):
    """One copy."""

    name: str
    family: str
    steps: Annotated[tuple[StepOutline, ...], Field(strict=False)]

    @property
    def keeps_content(self) -> bool:
        """Whether every step keeps the content."""
        return all(step.keeps_content for step in self.steps)


class SampleOutline(Outline):
    """A sample's record."""

    schema_: Annotated[Literal["stillroom/sample/1"], Field(alias="schema")]
    copies: Annotated[tuple[CopyOutline, ...], Field(strict=False)]
