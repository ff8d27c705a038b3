"""One split's utterances set down in a temporary file, so that millions need little memory, and dealt to shards.

What stays in memory is 40 bytes an utterance: where it lies in the file, the keyed hash of its id, its speaker's number.
"""

from __future__ import annotations

import marshal
import os
from array import array
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from corpus_builder.plan.materials.seeded_random import index_below, keyed_hash
from corpus_builder.sources.utterance import Utterance
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.sources.relative_paths import Rooting

PICKS_BEFORE_SEARCH = 64


class NoOtherSpeakerError(StillroomError, ValueError):
    """Babble is asked for where only one speaker is."""

    def __init__(self, split: str, speaker: str | None) -> None:
        who = f"the one speaker {printable(speaker)!r}" if speaker else "one utterance"
        super().__init__(
            f"split {split!r} has only {who}, and babble is made of others: add speakers, or leave babble out of its copies"
        )


class Spooled(NamedTuple):
    """An utterance as it is read back, its path below its root."""

    utterance: Utterance
    path: str

    def span(self, root: str) -> dict[str, Any]:
        """The `FileSpan` of its file, as plain data."""
        span: dict[str, Any] = {
            "root": root,
            "path": self.path,
            "start": self.utterance.start_s,
            "num_frames": self.utterance.num_frames,
            "rate_hz": self.utterance.rate_hz,
        }
        if self.utterance.channel is not None:
            span["channel"] = self.utterance.channel
        return span


class Spool:
    """Utterances of one split: first `add` all of them, then `settle`, then read them back in any order.

    Args:
        path: A temporary file.
        split: Whose utterances these are.
        seed: The recipe's, for the keyed hash that orders and deals them.
        rooting: Tells paths below the root once all have been seen.
    """

    def __init__(self, path: Path, *, split: str, seed: int, rooting: Rooting) -> None:
        self.split, self.seed, self.rooting = split, seed, rooting
        self.stream: IO[bytes] = path.open("w+b")
        self.num_bytes = 0
        self.starts, self.sizes = array("Q"), array("I")
        self.hashes, self.speakers = array("Q"), array("q")
        self.speaker_numbers: dict[str, int] = {}
        self.order: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, utterance: Utterance) -> None:
        """Set one utterance down."""
        path = self.rooting.see(utterance.path)
        texts = (utterance.text, utterance.language, utterance.custom)
        stretch = (
            utterance.id, path, utterance.start_s, utterance.num_frames, utterance.rate_hz, utterance.channel,
            utterance.speaker,
        )  # fmt: skip
        line = marshal.dumps((*stretch, marshal.dumps(texts)))
        self.starts.append(self.num_bytes)
        self.sizes.append(len(line))
        self.num_bytes += self.stream.write(line)
        self.hashes.append(keyed_hash(self.seed, "order", self.split, utterance.id))
        # without a label every recording counts as somebody else's, and all that is cut from one as the same person's
        number = -1 - keyed_hash(self.seed, "recording", path, str(utterance.channel)) // 2
        if utterance.speaker is not None:
            number = self.speaker_numbers.setdefault(utterance.speaker, len(self.speaker_numbers))
        self.speakers.append(number)

    def settle(self) -> list[tuple[str, str]]:
        """Order the utterances by the keyed hash of their ids; of those with one id the first by path and start is kept.

        Returns:
            Id and reason for each that is not kept.
        """
        self.stream.flush()
        hashes = np.frombuffer(self.hashes, np.uint64) if self.hashes else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]]) if order.size else np.zeros(0, np.int64)
        refused: list[tuple[str, str]] = []
        dropped: set[int] = set()
        for value in dict.fromkeys(hashes[order[again]].tolist()):
            twins = [self.read(int(place)) for place in np.flatnonzero(hashes == value)]
            places = np.flatnonzero(hashes == value).tolist()
            ranked = sorted(zip(twins, places, strict=True), key=lambda twin: (twin[0].path, twin[0].utterance.start_s))
            kept = ranked[0][0]
            for twin, place in ranked[1:]:
                dropped.add(place)
                told, other = (printable(which.path) for which in (kept, twin))
                if kept.path == twin.path:  # two stretches of one recording
                    told, other = (
                        f"{told} at {kept.utterance.start_s:g} s",
                        f"{other} at {twin.utterance.start_s:g} s",
                    )
                reason = f"its id stands {len(ranked)} times; the one of {told} is kept, not that of {other}"
                refused.append((twin.utterance.id, reason))
        self.order = order[~np.isin(order, list(dropped))] if dropped else order
        return refused

    def read(self, place: int) -> Spooled:
        """Read the utterance back that was added as number `place`; about 5 microseconds."""
        return self.spooled(place, with_text=True)

    def talker(self, place: int) -> Spooled:
        """The utterance number `place` as others hear it: its text, language and custom fields are left in the file."""
        return self.spooled(place, with_text=False)

    def spooled(self, place: int, *, with_text: bool) -> Spooled:
        """What stands in the file, which no other process sees: so marshal, five times faster than JSON, may read it."""
        line = os.pread(self.stream.fileno(), self.sizes[place], self.starts[place])
        name, path, start_s, num_frames, rate_hz, channel, speaker, texts = marshal.loads(line)  # noqa: S302 (our own open file)
        text, language, custom = marshal.loads(texts) if with_text else (None, None, {})  # noqa: S302 (as above)
        utterance = Utterance(name, path, start_s, num_frames, rate_hz, channel, text, speaker, language, custom)
        return Spooled(utterance, self.rooting.below(path))

    def __len__(self) -> int:
        return int(self.order.size)

    def shards(self, samples: int, *, limit: int | None) -> Iterator[tuple[int, list[int]]]:
        """Deal the utterances to shards by the keyed hash of their ids.

        Args:
            samples: About how many utterances a shard holds.
            limit: Only so many utterances, those whose hashes are smallest.

        Yields:
            Number of a shard and the places of its utterances, in the order of their hashes; empty shards are left out.
        """
        chosen = self.order[:limit]
        if not chosen.size:
            return
        count = -(-chosen.size // samples)
        shard_of = np.frombuffer(self.hashes, np.uint64)[chosen] % np.uint64(count)
        by_shard = np.argsort(shard_of, kind="stable")
        borders = np.searchsorted(shard_of[by_shard], np.arange(count + 1, dtype=np.uint64))
        for shard in range(count):
            places = chosen[by_shard[borders[shard] : borders[shard + 1]]]
            if places.size:
                yield shard, places.tolist()

    def others(self, place: int, count: int, dice: np.random.Generator) -> list[int]:
        """Draw utterances of other speakers; speakers repeat only when fewer than `count` remain.

        Args:
            place: Who is not to be drawn.
            count: How many.
            dice: Their own generator.

        Raises:
            NoOtherSpeakerError: If there is no other speaker.
        """
        own = self.speakers[place]
        used = {own}
        chosen: list[int] = []
        while len(chosen) < count:
            found = self.another(used, chosen, dice)
            if found is None and len(used) > 1:
                used = {own}
                found = self.another(used, chosen, dice)
                found = self.another(used, [], dice) if found is None else found
            if found is None:
                raise NoOtherSpeakerError(self.split, self.read(place).utterance.speaker)
            chosen.append(found)
            used.add(self.speakers[found])
        return chosen

    def another(self, used: set[int], chosen: list[int], dice: np.random.Generator) -> int | None:
        """One utterance of a speaker not used yet and not itself chosen, each with equal chance; None if there is none."""
        for _ in range(PICKS_BEFORE_SEARCH):
            found = int(self.order[index_below(self.order.size, dice)])
            if self.speakers[found] not in used and found not in chosen:
                return found
        speakers = np.frombuffer(self.speakers, np.int64)[self.order]
        left = self.order[~np.isin(speakers, list(used)) & ~np.isin(self.order, chosen)]
        return int(left[index_below(left.size, dice)]) if left.size else None

    def close(self) -> None:
        """Let the temporary file go."""
        self.stream.close()
