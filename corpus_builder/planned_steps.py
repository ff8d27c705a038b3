"""The steps of one copy, drawn: a recipe's ranges in, numbers out. All chance of an utterance lies here.

Every draw has its own generator, named after split, utterance, copy and step ("0.snr_db"), so no draw moves another. Rows are
plain data, in the very form that `manifests.plan` reads back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never, cast

from corpus_builder.decode import num_samples_at
from corpus_builder.distortions.codec import DEFAULT_BITRATE_KBPS, nearest_bitrate_kbps
from corpus_builder.draws import dice_for, drawn, index_below
from manifests.errors import StillroomError, printable
from manifests.noises import Babble, ColouredNoise, DividedNoise, NoiseSource, RecordedNoise
from manifests.responses import response_name
from manifests.steps import ChooseStep, Codec, CodecStep, Condition, NoiseStep, RoomStep, Step

if TYPE_CHECKING:
    import numpy as np

    from corpus_builder.deal import Spool
    from corpus_builder.noise_levels import NoiseFile
    from manifests.plan import PlannedRoom
    from manifests.ranges import Draw

MOST_REDRAWS = 100


class NoLoudSegmentError(StillroomError, ValueError):
    """No segment of a noise source is loud enough."""

    def __init__(self, source: str, *, split: str) -> None:
        super().__init__(
            f"noises.{printable(source)}: {MOST_REDRAWS} segments drawn for split {split!r} were all silent (under -60 dBFS, or 40 dB "
            "under their file); take the silent files out"
        )


class NoNoiseInSplitError(StillroomError, ValueError):
    """A divided noise says nothing for a split that uses it."""

    def __init__(self, source: str, *, split: str) -> None:
        super().__init__(
            f"noises.{printable(source)} has nothing for split {split!r}, whose copies use it; give it {split}: {{dir: ...}}"
        )


@dataclass(frozen=True)
class Chance:
    """The named generators of one copy."""

    seed: int
    split: str
    utterance: str
    copy: str

    def dice(self, step: str) -> np.random.Generator:
        """The generator of one step."""
        return dice_for(self.seed, self.split, self.utterance, self.copy, step)

    def value(self, draw: Draw, step: str) -> float | int | str:
        """A value of a draw; a constant needs no dice."""
        return draw.values[0] if draw.spread == "constant" else drawn(draw, self.dice(step))


@dataclass(frozen=True)
class Standing:
    """Where the signal stands in the room that is in force."""

    bank: str
    room: PlannedRoom
    position: int


@dataclass(frozen=True)
class Materials:
    """What one split may draw from.

    Attributes:
        noises: The recipe's noise sources.
        files: Noise files by source.
        rooms: Rooms by bank.
        spool: The split's utterances, for babble.
    """

    seed: int
    split: str
    rate_hz: int
    noises: dict[str, NoiseSource]
    files: dict[str, list[NoiseFile]]
    rooms: dict[str, list[PlannedRoom]]
    spool: Spool
    root: str

    def copy(
        self, condition: Condition, *, name: str, number: int, utterance: str, place: int, num_samples: int
    ) -> dict[str, Any]:
        """One planned copy, as plain data.

        Args:
            condition: As the recipe has it.
            name: Of the condition.
            number: Which copy of the condition, from 0.
            utterance: Its id.
            place: Its place in the spool.
            num_samples: Its length at the corpus rate.
        """
        label = f"{name}-{number}"
        chance = Chance(self.seed, self.split, utterance, label)
        drawer = StepDrawer(self, chance, place, num_samples)
        for at, step in enumerate(condition.steps):
            drawer.draw(step, f"{at}")
        return {
            "name": label,
            "condition": name,
            "steps": drawer.steps,
            "level": chance.value(condition.level, "level"),
        }


class StepDrawer:
    """Draws the steps of one copy one after another, minding which room is in force.

    Args:
        materials: What may be drawn from.
        chance: The copy's generators.
        place: The utterance's place in the spool.
        num_samples: Its length at the corpus rate.
    """

    def __init__(self, materials: Materials, chance: Chance, place: int, num_samples: int) -> None:
        self.materials, self.chance, self.place, self.num_samples = materials, chance, place, num_samples
        self.steps: list[dict[str, Any]] = []
        self.standing: Standing | None = None

    def draw(self, step: Step, name: str) -> None:
        """Draw one step of the recipe; `choose` may give several, or none."""
        match step:
            case NoiseStep():
                self.steps.append(self.noise(step, name))
            case RoomStep():
                self.steps.append(self.room(step, name))
            case CodecStep():
                self.steps.append(self.codec(step, name))
            case ChooseStep():
                way = index_below(len(step.choose), self.chance.dice(f"{name}.choose"))
                for at, inner in enumerate(step.choose[way]):
                    self.draw(inner, f"{name}.{way}.{at}")
            case _:
                assert_never(step)

    def room(self, step: RoomStep, name: str) -> dict[str, Any]:
        """A room of the bank and a position in it."""
        rooms = self.materials.rooms[step.bank]
        room = rooms[index_below(len(rooms), self.chance.dice(f"{name}.room"))]
        position = index_below(len(room.sources_m), self.chance.dice(f"{name}.position"))
        self.standing = Standing(step.bank, room, position)
        return {
            "kind": "room",
            "bank": step.bank,
            "room": room.room,
            "position": position,
            "response": response_name(step.bank, room.room, position),
        }

    def codec(self, step: CodecStep, name: str) -> dict[str, Any]:
        """A codec and the nearest of its bit rates."""
        codec = cast("Codec", self.chance.value(step.codec, f"{name}.codec"))
        asked_kbps = DEFAULT_BITRATE_KBPS[codec]
        if step.bitrate_kbps is not None:
            asked_kbps = float(self.chance.value(step.bitrate_kbps, f"{name}.bitrate_kbps"))
        return {"kind": "codec", "codec": codec, "bitrate_kbps": nearest_bitrate_kbps(codec, asked_kbps)}

    def noise(self, step: NoiseStep, name: str) -> dict[str, Any]:
        """A noise from one of the sources, at an SNR, in the room in force if it stands there."""
        source = step.from_[0]
        if len(step.from_) > 1:
            source = step.from_[index_below(len(step.from_), self.chance.dice(f"{name}.source"))]
        noise = self.materials.noises[source]
        planned: dict[str, Any] = {
            "kind": "noise",
            "source": source,
            "snr_db": float(self.chance.value(step.snr_db, f"{name}.snr_db")),
            "over": step.over,
        }
        match noise:
            case RecordedNoise() | DividedNoise():
                planned |= self.segment(source, name)
            case ColouredNoise():
                seed = index_below(2**32, self.chance.dice(f"{name}.seed"))
                planned |= {"form": "coloured", "colour": noise.colour, "seed": seed}
            case Babble():
                planned |= {"form": "babble", "talkers": self.talkers(noise, name)}
            case _:
                assert_never(noise)
        if step.in_room:
            assert self.standing is not None, "the recipe's own check holds that a room comes before"
            positions = len(self.standing.room.sources_m)
            other = index_below(positions - 1, self.chance.dice(f"{name}.position"))
            other += other >= self.standing.position
            planned["response"] = response_name(self.standing.bank, self.standing.room.room, other)
        return planned

    def segment(self, source: str, name: str) -> dict[str, Any]:
        """A file and where in it the segment begins; silent segments are drawn again.

        Raises:
            NoNoiseInSplitError: If there is no file for the split.
            NoLoudSegmentError: If 100 segments were silent.
        """
        files = self.materials.files.get(source)
        if not files:
            raise NoNoiseInSplitError(source, split=self.materials.split)
        dice = self.chance.dice(f"{name}.segment")
        for _ in range(MOST_REDRAWS):
            file = files[index_below(len(files), dice)]
            room = file.num_samples - self.num_samples
            offset = index_below(room + 1 if room >= 0 else file.num_samples, dice)
            if not file.is_silent(offset, self.num_samples, rate_hz=self.materials.rate_hz):
                return {"form": "recorded", "root": file.root, "recording": file.path, "offset": offset}
        raise NoLoudSegmentError(source, split=self.materials.split)

    def talkers(self, babble: Babble, name: str) -> list[dict[str, Any]]:
        """Other speakers, and where each begins.

        Raises:
            NoOtherSpeakerError: If there is none.
        """
        count = int(self.chance.value(babble.talkers, f"{name}.count"))
        dice = self.chance.dice(f"{name}.talkers")
        talkers = []
        for place in self.materials.spool.others(self.place, count, dice):
            spooled = self.materials.spool.read(place)
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
