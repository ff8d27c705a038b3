"""Exports a corpus as lhotse `CutSet`s, lazily, and as Lhotse Shar.

```python
from corpus_builder.exchange.lhotse_export import cut_sets

sets = cut_sets("corpus", split="train")     # {"clean": CutSet, "noise-0": CutSet, ...}, all in the same order
for clean, noisy in zip(sets["clean"], sets["noise-0"], strict=True):
    clean.load_audio(), noisy.load_audio(), noisy.custom["stillroom"]["steps"]
```
Cuts have the utterance's id, its text, speaker and language as one supervision, and its custom fields; `custom["stillroom"]` has
split, source and, for a copy, every parameter. Audio is the corpus's own bytes, read when a cut is reached and decoded by lhotse.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.corpus.reader import OpenCorpus, StoredUtterance, refuse_occupied
from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from manifests.io.atomic import making
from manifests.io.place import Place, place_of
from manifests.io.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = "stillroom"


@dataclass(frozen=True)
class CorpusCuts:
    """The cuts of one copy of a split; can be iterated again and sent to a worker.

    Args:
        corpus: Folder or URL.
        split: Which split.
        copy: `clean` or a copy's name.
    """

    corpus: str
    split: str
    copy: str

    def __iter__(self) -> Iterator[Any]:
        """One cut after another, in the order of the shards."""
        opened = OpenCorpus(place_of(self.corpus))
        for held in opened.utterances(self.split):
            if self.copy in held.sample.members:
                yield cut_of(opened, held, self.copy)

    @property
    def is_lazy(self) -> bool:
        """Lhotse reads this attribute."""
        return True


@dataclass(frozen=True)
class Written:
    """What was written of a split: number of cuts, and the fields of its copies."""

    cuts: int
    fields: tuple[str, ...]


def cut_sets(corpus: str | Path, *, split: str) -> dict[str, Any]:
    """A lhotse `CutSet` of the clean waves and one of each copy, lazily, in parallel order.

    A copy that only some utterances have gives a shorter set; its cuts have the ids of the clean ones.

    Args:
        corpus: A finished corpus: a folder or a URL; a subset or an index too.
        split: Which split.

    Raises:
        NoSuchSplitError: If there is no such split.
        MissingFileError: If it is not sealed.
    """
    from lhotse import CutSet

    opened = OpenCorpus(place_of(corpus))
    return {name: CutSet(CorpusCuts(str(corpus), split, name)) for name in (CLEAN, *copy_names(opened, split))}


def copy_names(opened: OpenCorpus, split: str) -> list[str]:
    """Every name that a copy of a split has, from the indexes."""
    opened.splits((split,))
    names = {
        name
        for entry in opened.sealed.splits[split]
        for sample in opened.index(entry).samples
        for name in sample.copies
    }
    return sorted(names)


def cut_of(opened: OpenCorpus, held: StoredUtterance, copy: str) -> Any:
    """One copy of an utterance as a `MonoCut` of a whole recording in memory."""
    from lhotse.cut import MonoCut
    from lhotse.supervision import SupervisionSegment

    record = held.record
    recording = recording_of(opened, held, copy)
    gender = record.custom.get("gender")
    supervision = SupervisionSegment(
        id=record.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        text=record.text,
        language=record.language,
        speaker=record.speaker,
        gender=gender if isinstance(gender, str) else None,
    )
    return MonoCut(
        id=record.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
        custom={**record.custom, OWN: description_of(held, copy)},
    )


def recording_of(opened: OpenCorpus, held: StoredUtterance, copy: str) -> Any:
    """A copy's wave as a recording in memory; its id is the utterance's, and for a copy its name too."""
    from lhotse.audio import AudioSource, Recording

    rate_hz, num_samples = opened.sealed.sample_rate, held.sample.num_samples
    content = opened.contents(held.entry, held.sample, [copy])[copy]
    return Recording(
        id=held.record.id if copy == CLEAN else f"{held.record.id}.{copy}",
        sources=[AudioSource(type="memory", channels=[0], source=content)],
        sampling_rate=rate_hz,
        num_samples=num_samples,
        duration=num_samples / rate_hz,
        channel_ids=[0],
    )


def description_of(held: StoredUtterance, copy: str) -> dict[str, Any]:
    """Split, source and parameters of a copy, as plain data; a custom field of this name is in it as `before`."""
    record = held.record
    description: dict[str, Any] = {
        "split": held.split,
        "copy": copy,
        "source": record.source.model_dump(mode="json", exclude_none=True),
    }
    if OWN in record.custom:  # the speech came from a corpus of ours, by way of lhotse
        description["before"] = record.custom[OWN]
    for one in record.copies:
        if one.name == copy:
            description |= one.model_dump(mode="json", exclude_none=True, exclude={"name"})
    return description


def field_of(copy: str) -> str:
    """The Shar field of a copy: `noise-0` is `noise_0`, a Python identifier."""
    return copy.replace("-", "_")


def export_shar(
    corpus: str | Place, out: str | Path, *, splits: tuple[str, ...] = (), shard_size: int = 1000, progress: bool = True
) -> dict[str, Written]:
    """Write a corpus as Lhotse Shar, a folder a split, that plain lhotse reads back with `CutSet.from_shar`.

    Args:
        corpus: A folder or URL.
        out: A new folder.
        splits: Only these; all by default.
        shard_size: Utterances a shard.
        progress: Show how far it is.

    Returns:
        What was written, by split.

    Raises:
        UsageError: If the folder is not new, or a custom field has the name of a copy's field.
    """
    from lhotse.shar import SharWriter

    out = Path(out)
    refuse_occupied(out, what="the export")
    opened = OpenCorpus(place_of(corpus))
    done: dict[str, Written] = {}
    with making(out) as part:
        for split in opened.splits(splits):
            copies = copy_names(opened, split)
            fields = {"recording": "flac"} | {field_of(name): "flac" for name in copies}
            (part / split).mkdir(parents=True)
            count = 0
            total = sum(entry.samples for entry in opened.sealed.splits[split])
            with (
                Progress(f"exporting {split}", total=total, unit="cuts", shown=progress) as display,
                SharWriter(part / split, fields=fields, shard_size=shard_size) as writer,
            ):
                for held in opened.utterances(split):
                    writer.write(joint_cut(opened, held))
                    count += 1
                    display.advance()
            done[split] = Written(count, tuple(map(field_of, copies)))
    return done


def joint_cut(opened: OpenCorpus, held: StoredUtterance) -> Any:
    """The clean cut with each copy as a field, and the parameters of each in `custom["stillroom"]["copies"]`."""
    cut = cut_of(opened, held, CLEAN)
    cut.custom[OWN]["copies"] = {
        field_of(copy.name): copy.model_dump(mode="json", exclude_none=True) for copy in held.record.copies
    }
    for name in held.sample.copies:
        if field_of(name) in held.record.custom:
            raise UsageError(
                f"{printable(held.record.id)}: its custom field {field_of(name)!r} has the name of a copy; rename one of them"
            )
        cut.custom[field_of(name)] = recording_of(opened, held, name)
    return cut
