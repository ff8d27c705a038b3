"""Stores the utterances of one split in a temporary file, so that millions need little memory, and assigns them to shards.

An utterance is known by its index, the order in which it was added. What stays in memory is 40 bytes an utterance: its place in the
file, the keyed hash of its id, its speaker's number.
"""

from __future__ import annotations

import marshal
import os
from array import array
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from corpus_builder.plan.materials.seeded_random import index_below, keyed_hash
from corpus_builder.sources.utterance import Refused, Utterance
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.sources.relative_paths import RootFinder

PICKS_BEFORE_SEARCH = 64


class NoOtherSpeakerError(StillroomError, ValueError):
    """A recipe has babble in a split that has only one speaker."""

    def __init__(self, split: str, speaker: str | None) -> None:
        who = f"the one speaker {printable(speaker)!r}" if speaker else "one utterance"
        super().__init__(
            f"split {split!r} has only {who}, and babble is made of others: add speakers, or leave babble out of its copies"
        )


class StoredUtterance(NamedTuple):
    """An utterance as it is read back, with its path below its root."""

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


class UtteranceStore:
    """The utterances of one split: first `add` all of them, then `finish`, then read them back in any order.

    Args:
        path: A temporary file.
        split: Whose utterances these are.
        seed: The recipe's, for the keyed hash that orders and assigns them.
        finder: Knows paths below the root once all were added.
    """

    def __init__(self, path: Path, *, split: str, seed: int, finder: RootFinder) -> None:
        self.split, self.seed, self.finder = split, seed, finder
        self.stream: IO[bytes] = path.open("w+b")
        self.num_bytes = 0
        self.starts, self.sizes = array("Q"), array("I")
        self.hashes, self.speakers = array("Q"), array("q")
        self.speaker_numbers: dict[str, int] = {}
        self.order: NDArray[np.int64] = np.zeros(0, np.int64)
        self.shortened: dict[int, int] = {}

    def add(self, utterance: Utterance) -> None:
        """Store one utterance."""
        path = self.finder.add(utterance.path)
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
        # without a label each recording counts as a speaker of its own, and all that is cut from one as the same speaker
        number = -1 - keyed_hash(self.seed, "recording", path, str(utterance.channel)) // 2
        if utterance.speaker is not None:
            number = self.speaker_numbers.setdefault(utterance.speaker, len(self.speaker_numbers))
        self.speakers.append(number)

    def finish(self) -> list[Refused]:
        """Order the utterances by the keyed hash of their ids; of those with one id only the first by path and start is used.

        Returns:
            The others.
        """
        self.stream.flush()
        hashes = np.frombuffer(self.hashes, np.uint64) if self.hashes else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]]) if order.size else np.zeros(0, np.int64)
        refused: list[Refused] = []
        dropped: list[int] = []
        for value in dict.fromkeys(hashes[order[again]].tolist()):
            indices = np.flatnonzero(hashes == value).tolist()
            twins = sorted(
                ((self.read(index), index) for index in indices),
                key=lambda twin: (twin[0].path, twin[0].utterance.start_s),
            )
            used = twins[0][0]
            for other, index in twins[1:]:
                dropped.append(index)
                refused.append(Refused(other.utterance.id, same_id(used, other, count=len(twins))))
        self.order = order
        self.drop(dropped)
        return refused

    def shorten(self, index: int, num_frames: int) -> None:
        """Give an utterance another length than it was added with."""
        self.shortened[index] = num_frames

    def drop(self, indices: Collection[int]) -> None:
        """Use some utterances no more."""
        if indices:
            self.order = self.order[~np.isin(self.order, list(indices))]

    def read(self, index: int) -> StoredUtterance:
        """Read an utterance back; about 5 microseconds."""
        return self.stored(index, with_text=True)

    def talker(self, index: int) -> StoredUtterance:
        """An utterance without its text, language and custom fields, which a talker of a babble does not need."""
        return self.stored(index, with_text=False)

    def stored(self, index: int, *, with_text: bool) -> StoredUtterance:
        """Decode an entry of the file, which no other process sees: so marshal, five times faster than JSON, may read it."""
        line = os.pread(self.stream.fileno(), self.sizes[index], self.starts[index])
        name, path, start_s, num_frames, rate_hz, channel, speaker, texts = marshal.loads(line)  # noqa: S302 (our own open file)
        num_frames = self.shortened.get(index, num_frames)
        text, language, custom = marshal.loads(texts) if with_text else (None, None, {})  # noqa: S302 (as above)
        utterance = Utterance(name, path, start_s, num_frames, rate_hz, channel, text, speaker, language, custom)
        return StoredUtterance(utterance, self.finder.relative(path))

    def __len__(self) -> int:
        return int(self.order.size)

    def shards(self, samples: int, *, limit: int | None) -> Iterator[tuple[int, list[int]]]:
        """Assign the utterances to shards by the keyed hash of their ids.

        Args:
            samples: About how many utterances a shard holds.
            limit: Only so many utterances, those whose hashes are smallest.

        Yields:
            Number of a shard and the indices of its utterances, in the order of their hashes; empty shards are left out.
        """
        chosen = self.order[:limit]
        if not chosen.size:
            return
        count = -(-chosen.size // samples)
        shard_of = np.frombuffer(self.hashes, np.uint64)[chosen] % np.uint64(count)
        by_shard = np.argsort(shard_of, kind="stable")
        borders = np.searchsorted(shard_of[by_shard], np.arange(count + 1, dtype=np.uint64))
        for shard in range(count):
            indices = chosen[by_shard[borders[shard] : borders[shard + 1]]]
            if indices.size:
                yield shard, indices.tolist()

    def others(self, index: int, count: int, rng: np.random.Generator) -> list[int]:
        """Draw utterances of other speakers; speakers repeat only when fewer than `count` remain.

        Args:
            index: The utterance whose speaker is not to be drawn.
            count: How many.
            rng: Their own generator.

        Raises:
            NoOtherSpeakerError: If there is no other speaker.
        """
        own = self.speakers[index]
        used = {own}
        chosen: list[int] = []
        while len(chosen) < count:
            found = self.another(used, chosen, rng)
            if found is None and len(used) > 1:
                used = {own}
                found = self.another(used, chosen, rng)
                found = self.another(used, [], rng) if found is None else found
            if found is None:
                raise NoOtherSpeakerError(self.split, self.read(index).utterance.speaker)
            chosen.append(found)
            used.add(self.speakers[found])
        return chosen

    def another(self, used: set[int], chosen: list[int], rng: np.random.Generator) -> int | None:
        """One utterance of a speaker not used yet and not itself chosen, each equally likely; None if there is none."""
        for _ in range(PICKS_BEFORE_SEARCH):
            found = int(self.order[index_below(self.order.size, rng)])
            if self.speakers[found] not in used and found not in chosen:
                return found
        speakers = np.frombuffer(self.speakers, np.int64)[self.order]
        left = self.order[~np.isin(speakers, list(used)) & ~np.isin(self.order, chosen)]
        return int(left[index_below(left.size, rng)]) if left.size else None

    def close(self) -> None:
        """Close the temporary file."""
        self.stream.close()


def same_id(used: StoredUtterance, other: StoredUtterance, *, count: int) -> str:
    """Why the second of two utterances with one id is refused; `count` utterances have it."""
    here, there = printable(used.path), printable(other.path)
    if used.path == other.path:  # two stretches of one recording
        here, there = f"{here} at {used.utterance.start_s:g} s", f"{there} at {other.utterance.start_s:g} s"
    says = f"its id occurs {count} times; the one of {here} is used, not that of {there}"
    of_names = used.path != other.path and all(used.utterance.id in one.path for one in (used, other))
    return f"{says} (without {{id}} in fields the whole path is the id)" if of_names else says
