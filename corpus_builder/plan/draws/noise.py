"""The noises of one step, drawn: which source, which file and where in it, which talkers, at which SNR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.plan.materials.seeded_random import index_below, weighted_index
from corpus_builder.plan.materials.split_materials import FilePool, pool_of
from manifests.errors import StillroomError, printable
from manifests.recipe.noises import Babble, ColouredNoise, DividedNoise, RecordedNoise

if TYPE_CHECKING:
    from corpus_builder.plan.draws.room import Standing
    from corpus_builder.plan.materials.seeded_random import Chance
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
        chance: The copy's generators.
        place: The utterance's place in the spool.
        num_samples: Its length at the corpus rate.
        standing: Where the signal stands, if a room came before.
    """

    materials: Materials
    chance: Chance
    place: int
    num_samples: int
    standing: Standing | None

    def step(self, step: NoiseStep, name: str) -> dict[str, Any]:
        """A planned noise step: one noise, or several at once."""
        planned: dict[str, Any] = {
            "kind": "noise",
            "snr_db": float(self.chance.value(step.snr_db, f"{name}.snr_db")),
            "over": step.over,
        }
        count = 1 if step.count is None else int(self.chance.value(step.count, f"{name}.noises"))
        if count == 1:
            return planned | self.noise(step, name)
        noises = [self.noise(step, name if number == 0 else f"{name}.noise-{number}") for number in range(count)]
        return planned | {"form": "several", "noises": noises}

    def noise(self, step: NoiseStep, name: str) -> dict[str, Any]:
        """One noise from one of the sources, in the room in force if it stands there."""
        sources = tuple(step.from_)
        source = sources[0]
        pooled = step.draw in {"file", "duration"} and step.weights is None
        if len(sources) > 1 and not pooled:
            dice = self.chance.dice(f"{name}.source")
            weights = step.weights
            source = sources[index_below(len(sources), dice) if weights is None else weighted_index(weights, dice)]
        noise = self.materials.noises[source]
        planned: dict[str, Any] = {"source": source}
        match noise:
            case RecordedNoise() | DividedNoise():
                pool = pool_of(self.materials, sources if pooled else (source,), by_length=step.draw == "duration")
                planned |= self.segment(pool, name)
            case ColouredNoise():
                seed = index_below(2**32, self.chance.dice(f"{name}.seed"))
                planned |= {"form": "coloured", "colour": noise.colour, "seed": seed}
                if noise.colour == "speech":
                    planned["spectrum"] = self.materials.split
            case Babble():
                planned |= {"form": "babble"} | self.babble(noise, name)
            case _:
                assert_never(noise)
        if step.in_room:
            assert self.standing is not None, "the recipe's own check holds that a room comes before"
            planned["response"] = self.standing.other_response(self.chance, name)
        return planned

    def segment(self, pool: FilePool, name: str) -> dict[str, Any]:
        """A file and where in it the segment begins; silent segments are drawn again.

        Raises:
            NoLoudSegmentError: If 100 segments were silent.
        """
        dice = self.chance.dice(f"{name}.segment")
        for _ in range(MOST_REDRAWS):
            file = pool.drawn(dice)
            room = file.num_samples - self.num_samples
            offset = index_below(room + 1 if room >= 0 else file.num_samples, dice)
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
        """Other speakers, and where each begins; for an interfering talker others too, in case that its file proves unfit.

        Raises:
            NoOtherSpeakerError: If there is none.
        """
        count = int(self.chance.value(babble.talkers, f"{name}.count"))
        planned = {"talkers": self.talkers(count, f"{name}.talkers")}
        if babble.talkers.high == 1:
            planned["spare"] = self.talkers(SPARE_TALKERS, f"{name}.spare")
        return planned

    def talkers(self, count: int, name: str) -> list[dict[str, Any]]:
        """So many other speakers, and where each begins."""
        dice = self.chance.dice(name)
        talkers = []
        for place in self.materials.spool.others(self.place, count, dice):
            spooled = self.materials.spool.talker(place)
            length = num_samples_at(
                spooled.utterance.num_frames, from_hz=spooled.utterance.rate_hz, to_hz=self.materials.rate_hz
            )
            room = length - self.num_samples
            talker: dict[str, Any] = {
                "id": spooled.utterance.id,
                "file": spooled.span(self.materials.root),
                "offset": index_below(room + 1 if room >= 0 else length, dice),
            }
            if spooled.utterance.speaker is not None:
                talker["speaker"] = spooled.utterance.speaker
            talkers.append(talker)
        return talkers
