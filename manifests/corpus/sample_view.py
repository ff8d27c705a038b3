"""What a trainer asks of a sample's record for every pair it draws: each copy's family, and whether it keeps the content.

The whole record says a hundred things more. To check all of them takes 70 us of CPU, seven times as long as these alone, and a
loader reads a record for every utterance of every epoch. What is not asked is not looked at here; `manifests.corpus.sample` and
`stillroom verify` look at everything.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "noise", "room", "freeverb", "codec",
    "lowpass", "highpass", "bandpass", "bandreject", "tilt", "gain", "clip", "resample", "pitch",
]  # fmt: skip


class Outline(BaseModel):
    """A part of a record, of which only some keys are asked."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class NoiseOutline(Outline):
    """One noise: a `babble` has talkers."""

    form: Literal["recorded", "coloured", "babble"]
    talkers: Annotated[tuple[Outline, ...], Field(strict=False)] = ()

    @property
    def keeps_content(self) -> bool:
        """All but one interfering talker do; see `manifests.corpus.sample`."""
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
        """Whether the step keeps the content; the same answer as `manifests.corpus.sample` gives of the whole step."""
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
        """Whether what was said can still be asked for of this copy."""
        return all(step.keeps_content for step in self.steps)


class SampleOutline(Outline):
    """A sample's record."""

    schema_: Annotated[Literal["stillroom/sample/1"], Field(alias="schema")]
    copies: Annotated[tuple[CopyOutline, ...], Field(strict=False)]
