"""Draws the noises of one step: source, file and offset, talkers, SNR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.plan.materials.seeded_random import index_below, weighted_index
from corpus_builder.plan.materials.split_materials import FilePool, pool_of
from manifests.errors import StillroomError, printable
from manifests.recipe.noises import Babble, ColouredNoise, DividedNoise, RecordedNoise

if TYPE_CHECKING:
    import numpy as np

    from corpus_builder.plan.draws.room import RoomPosition
    from corpus_builder.plan.materials.seeded_random import SeededRandom
    from corpus_builder.plan.materials.split_materials import Materials
    from manifests.recipe.steps import NoiseStep


MOST_REDRAWS = 100
SPARE_TALKERS = 3


class NoLoudSegmentError(StillroomError, ValueError):
    """No segment of a noise source is loud enough."""

    def __init__(self, source: str, *, split: str) -> None:
        super().__init__(
            f"noises.{printable(source)}: {MOST_REDRAWS} segments drawn for split {split!r} were all silent (under -60 dBFS, or 40 dB "
            "under their file); take the silent files out"
        )


@dataclass(frozen=True)
class NoiseDrawer:
    """Draws the noises of one copy.

    Attributes:
        materials: What may be drawn from.
        random: The copy's generators.
        index: The utterance's index in the utterance store.
        num_samples: Its length at the corpus rate.
        position: The room that the signal is in, if a room came before.
    """

    materials: Materials
    random: SeededRandom
    index: int
    num_samples: int
    position: RoomPosition | None

    def step(self, step: NoiseStep, name: str) -> dict[str, Any]:
        """A planned noise step: one noise, or several at once."""
        planned: dict[str, Any] = {
            "kind": "noise",
            "snr_db": float(self.random.value(step.snr_db, f"{name}.snr_db")),
            "over": step.over,
        }
        count = 1 if step.count is None else int(self.random.value(step.count, f"{name}.noises"))
        if count == 1:
            return planned | self.noise(step, name)
        noises = [self.noise(step, name if number == 0 else f"{name}.noise-{number}") for number in range(count)]
        return planned | {"form": "several", "noises": noises}

    def noise(self, step: NoiseStep, name: str) -> dict[str, Any]:
        """One noise from one of the sources, in the signal's room if the recipe puts it there."""
        sources = tuple(step.from_)
        source = sources[0]
        pooled = step.draw in {"file", "duration"} and step.weights is None
        if len(sources) > 1 and not pooled:
            rng = self.random.rng(f"{name}.source")
            weights = step.weights
            source = sources[index_below(len(sources), rng) if weights is None else weighted_index(weights, rng)]
        noise = self.materials.noises[source]
        planned: dict[str, Any] = {"source": source}
        match noise:
            case RecordedNoise() | DividedNoise():
                pool = pool_of(self.materials, sources if pooled else (source,), by_length=step.draw == "duration")
                planned |= self.segment(pool, name)
            case ColouredNoise():
                seed = index_below(2**32, self.random.rng(f"{name}.seed"))
                planned |= {"form": "coloured", "colour": noise.colour, "seed": seed}
                if noise.colour == "speech":
                    planned["spectrum"] = self.materials.split
            case Babble():
                planned |= {"form": "babble"} | self.babble(noise, name)
            case _:
                assert_never(noise)
        if step.in_room:
            assert self.position is not None, "the recipe's own check holds that a room comes before"
            planned["response"] = self.position.other_response(self.random, name)
        return planned

    def segment(self, pool: FilePool, name: str) -> dict[str, Any]:
        """A file and where in it the segment begins; silent segments are drawn again.

        Raises:
            NoLoudSegmentError: If 100 segments were silent.
        """
        rng = self.random.rng(f"{name}.segment")
        for _ in range(MOST_REDRAWS):
            file = pool.drawn(rng)
            offset = self.offset(file.num_samples, rng)
            if not file.is_silent(offset, self.num_samples, rate_hz=self.materials.rate_hz):
                return {
                    "form": "recorded",
                    "source": file.source,
                    "root": file.root,
                    "recording": file.path,
                    "offset": offset,
                }
        raise NoLoudSegmentError(pool.files[0].source, split=self.materials.split)

    def babble(self, babble: Babble, name: str) -> dict[str, Any]:
        """Other speakers, and where each begins; for a single talker spare ones too, in case that its file cannot be used.

        Raises:
            NoOtherSpeakerError: If there is none.
        """
        count = int(self.random.value(babble.talkers, f"{name}.count"))
        planned = {"talkers": self.talkers(count, f"{name}.talkers")}
        if babble.talkers.high == 1:
            planned["spare"] = self.talkers(SPARE_TALKERS, f"{name}.spare")
        return planned

    def talkers(self, count: int, name: str) -> list[dict[str, Any]]:
        """Utterances of other speakers, and where each begins."""
        rng = self.random.rng(name)
        talkers = []
        for index in self.materials.store.others(self.index, count, rng):
            stored = self.materials.store.talker(index)
            utterance = stored.utterance
            length = num_samples_at(utterance.num_frames, from_hz=utterance.rate_hz, to_hz=self.materials.rate_hz)
            talker: dict[str, Any] = {
                "id": utterance.id,
                "file": stored.span(self.materials.root),
                "offset": self.offset(length, rng),
            }
            if utterance.speaker is not None:
                talker["speaker"] = utterance.speaker
            talkers.append(talker)
        return talkers

    def offset(self, length: int, rng: np.random.Generator) -> int:
        """Where a segment begins: anywhere that it fits, or anywhere in a recording that is shorter than it."""
        spare = length - self.num_samples
        return index_below(spare + 1 if spare >= 0 else length, rng)
