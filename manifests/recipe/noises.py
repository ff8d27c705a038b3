"""Noise sources of a recipe: recorded, divided by split, coloured, babble."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Tag, model_serializer, model_validator

from manifests.io.records import Record
from manifests.recipe.distributions import Draw, number_between
from manifests.recipe.speech import SpeechSource

OWN_KEYS = {"talkers": "-babble", "colour": "-coloured", "cuts": "-recorded", "dir": "-recorded"}
Colour: TypeAlias = Literal["white", "pink", "brown", "speech"]


class RecordedNoise(SpeechSource):
    """Recorded noises that are not divided by split: assigned to the splits by keyed hash of their group.

    Attributes:
        group: A name in `fields` (or a custom field of the cuts); files of one group go to one split. Default: the file.
        split: `own` assigns each file to one split; `shared` gives all files to all splits, as some papers do.
    """

    group: str | None = None
    split: Literal["own", "shared"] = "own"


class DividedNoise(Record):
    """Recorded noises that come with a folder or manifest for each split.

    Attributes:
        splits: A source for each split.
    """

    splits: dict[str, SpeechSource]

    @model_validator(mode="before")
    @classmethod
    def from_short_form(cls, data: Any) -> Any:
        """`{train: {...}, test: {...}}`: the keys are the splits."""
        return data if isinstance(data, dict) and set(data) == {"splits"} else {"splits": data}

    @model_serializer
    def to_short_form(self) -> Any:
        """Write as it was read."""
        return {name: source.model_dump(mode="json", exclude_none=True) for name, source in self.splits.items()}


class ColouredNoise(Record):
    """Synthetic stationary noise.

    Attributes:
        colour: `white`; `pink` (3 dB less power an octave) and `brown` (6 dB less), both from 20 Hz on; or `speech`, with the
            long-term average spectrum of the split's own speech, which planning measures.
    """

    colour: Colour


class Babble(Record):
    """Several other speakers of the same split at once, never the speaker itself.

    Attributes:
        talkers: How many; 1 is one interfering talker, whose words can be taken for the speaker's own.
    """

    talkers: Annotated[Draw, number_between(1, 64, whole=True)]


def noise_kind(data: Any) -> str:
    """The kind of a noise source, from its keys."""
    if isinstance(data, Record):
        return {RecordedNoise: "-recorded", DividedNoise: "-divided", ColouredNoise: "-coloured", Babble: "-babble"}[
            type(data)
        ]
    given = data if isinstance(data, dict) else {}
    for key, kind in OWN_KEYS.items():
        if key in given:
            return kind
    for key, value in given.items():  # a mistyped key is no split
        near = [] if isinstance(value, dict) else difflib.get_close_matches(str(key), OWN_KEYS, n=1)
        if near:
            return OWN_KEYS[near[0]]
    return "-divided"


NoiseSource = Annotated[
    Annotated[RecordedNoise, Tag("-recorded")]
    | Annotated[DividedNoise, Tag("-divided")]
    | Annotated[ColouredNoise, Tag("-coloured")]
    | Annotated[Babble, Tag("-babble")],
    Discriminator(noise_kind),
]
