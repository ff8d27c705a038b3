"""`stillroom subset`: a part of a corpus as a manifest over the same shards; no audio is copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from manifests.corpus.layout import CORPUS, index_name
from manifests.corpus.linked import seal_linked
from manifests.corpus.reader import NoSuchSplitError, OpenCorpus, refuse_occupied
from manifests.corpus.sample import CLEAN
from manifests.corpus.shard_index import (
    Corpus,
    IndexedSample,
    Linked,
    ShardEntry,
    ShardIndex,
    copies_of,
    entry_of,
    totals_of,
)
from manifests.errors import UsageError, printable
from manifests.io.atomic import making
from manifests.io.place import place_of
from manifests.io.progress import Progress

if TYPE_CHECKING:
    from manifests.corpus.filter import Where
    from manifests.io.place import Place

ROOT = "corpus"


def subset(corpus: str | Place, out: str | Path, *, where: Where, progress: bool = True) -> Corpus:
    """Write the manifest of a part of a corpus.

    Args:
        corpus: A folder or URL; may be a subset or an index itself.
        out: A new folder.
        where: Which part.
        progress: Show how far it is.

    Returns:
        Its `corpus.json`.

    Raises:
        UsageError: If nothing is selected, or the folder is not new.
        NoSuchSplitError: If the corpus has no such split.
    """
    out = Path(out)
    refuse_occupied(out, what="the subset")
    opened = OpenCorpus(place_of(corpus))
    check_names(opened, where)
    with making(out) as part:
        splits: dict[str, list[ShardEntry]] = {}
        copies: dict[str, dict[str, int]] = {}
        with Progress("selecting", total=opened.sealed.totals.samples, unit="samples", shown=progress) as display:
            for split, entries in opened.sealed.splits.items():
                if not where.split(split):
                    continue
                chosen: list[ShardIndex] = []
                for entry in entries:
                    index = chosen_index(opened, split, entry, where)
                    display.advance(entry.samples)
                    if index.samples:
                        index.write(part / index_name(entry.name))
                        splits.setdefault(split, []).append(entry_of(index, tar=entry.tar_path))
                        chosen.append(index)
                copies[split] = copies_of(chosen)
        if not splits:
            raise UsageError(
                f"{printable(corpus)}: no utterance is selected by --where {' '.join(map(printable, where.expressions))}"
            )
        sealed = sealed_subset(opened, splits, copies, where)
        seal_linked(part, sealed, refused=(), root=opened.tars)
    return sealed


def sealed_subset(
    opened: OpenCorpus, splits: dict[str, list[ShardEntry]], copies: dict[str, dict[str, int]], where: Where
) -> Corpus:
    """`corpus.json` of a subset."""
    whole = opened.sealed
    before = whole.borrowed.where if whole.borrowed is not None else ()
    borrowed = Linked(
        root=ROOT, foreign=opened.is_external, of_sha256=opened.digest, where=(*before, *where.expressions)
    )
    document = {
        "schema": Corpus.SCHEMA,
        "name": whole.name,
        "recipe_sha256": whole.recipe_sha256,
        "plan_sha256": whole.plan_sha256,
        "sample_rate": whole.sample_rate,
        "splits": {
            split: [entry.model_dump(exclude_none=True) for entry in entries] for split, entries in splits.items()
        },
        "copies": {split: copies[split] for split in splits},
        "totals": totals_of(splits),
        "borrowed": borrowed.model_dump(mode="json", exclude_none=True),
    }
    return Corpus.parse(document, where=CORPUS)


def chosen_index(opened: OpenCorpus, split: str, entry: ShardEntry, where: Where) -> ShardIndex:
    """The index of the selected part of a shard."""
    index = opened.index(entry)
    chosen: list[IndexedSample] = []
    for sample in index.samples:
        record = opened.record(split, entry, sample) if where.needs_records else None
        copies = where.chosen(sample, record, sample_rate=opened.sealed.sample_rate)
        if copies is not None:
            left_out = set(sample.copies) - set(copies)
            members = {name: member for name, member in sample.members.items() if name not in left_out}
            chosen.append(sample.model_copy(update={"members": members}))
    return index.model_copy(update={"samples": tuple(chosen), "refused": ()})


def check_names(opened: OpenCorpus, where: Where) -> None:
    """Check that the corpus has the splits and conditions of an expression.

    Raises:
        NoSuchSplitError: If it has not a split.
        UsageError: If it has not a condition.
    """
    for term in where.of("split"):
        for split in sorted(term.texts - set(opened.sealed.splits)):
            raise NoSuchSplitError(opened.place, split, found=list(opened.sealed.splits))
    if opened.sealed.borrowed is not None:
        return  # its `copies` may leave out those that not every utterance has
    known = {CLEAN, *(name for counts in opened.sealed.copies.values() for name in counts)}
    for term in where.of("condition"):
        for name in sorted(term.texts - known):
            raise UsageError(
                f"{printable(opened.place)} has no condition {printable(name)!r}; it has {', '.join(sorted(known))}"
            )
