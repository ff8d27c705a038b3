"""Collects facts about the splits of a corpus, a pack or a plan for `corpus_builder.audit.leaks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corpus_builder.audit.leaks import Unchecked
from manifests.corpus.fingerprints import DecodedSource
from manifests.corpus.layout import CORPUS, PLAN, bank_name, noise_levels, plain_rows, planned_rooms, room_responses
from manifests.corpus.reader import OpenCorpus
from manifests.corpus.sample import CLEAN
from manifests.corpus.shard_index import read_index
from manifests.errors import printable
from manifests.io.digest import digest
from manifests.io.place import size_of
from manifests.pack.view import View, open_view
from manifests.plan.references import references
from manifests.plan.rooms import RESPONSE_PATTERN, RecordedRoom
from manifests.recipe.noises import RecordedNoise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.audit.leaks import Facts
    from manifests.io.place import Place
    from manifests.plan.references import Reference
    from manifests.recipe.recipe import Recipe
    from manifests.recipe.speech import Channel
    from manifests.results.reports import Kind

Rooms = dict[tuple[str, int, str], str]
Uses = dict[tuple[str, str, "Kind", int], tuple[bool, "Channel | None", str]]


class UtteranceFacts:
    """Collects facts about the utterances of one corpus, row by row.

    Args:
        facts: The facts are added to it.
        corpus: The letter of the corpus.
    """

    def __init__(self, facts: Facts, corpus: str) -> None:
        self.facts, self.corpus = facts, corpus
        self.uses: Uses = {}
        self.speakers: dict[tuple[str, int], str] = {}
        self.utterances: list[tuple[Kind, Any, str, int, bool, str]] = []
        self.rooms: Rooms = {}
        self.counts: dict[str, list[int]] = {}

    def add(self, row: dict[str, Any], clean: str | None, *, files: bool = True) -> None:
        """Add one utterance.

        Args:
            row: Its row of the plan, or its record, as plain data.
            clean: Digest of its clean PCM, if there is one.
            files: Whether its source is a file that two utterances may share.
        """
        split, name = str(row["split"]), str(row["id"])
        group = self.facts.group(self.corpus, split)
        counts = self.counts.setdefault(split, [0, 0, 0])
        counts[0] += 1
        if row.get("speaker") is None:
            counts[1] += 1
        else:
            self.speakers.setdefault((str(row["speaker"]), group), name)
        if clean is None:
            counts[2] += 1
        else:
            self.utterances.append(("utterance", "pcm", clean, group, True, name))
        for one in references(row):
            if one.role in {"noise", "talker"} or (one.role == "speech" and files):
                self.add_file(one, "noise" if one.role == "noise" else "recording", group, name)
            if one.role == "talker" and one.speaker is not None:
                self.speakers.setdefault((one.speaker, group), f"babble of {name}")
            if one.role == "response" and (match := RESPONSE_PATTERN.match(one.name)) is not None:
                self.rooms.setdefault((match["bank"], int(match["room"]), split), name)

    def add_file(self, file: Reference, kind: Kind, group: int, name: str) -> None:
        """Add a file that an utterance uses."""
        self.uses[file.root, file.name, kind, group] = (True, file.part.get("channel"), f"{file.name} in {name}")
        if file.part.get("sha256"):
            self.facts.add_sources([(self.corpus, file.root, file.name, str(file.part["sha256"]), None)])

    def flush(self) -> None:
        """Write what was collected to the database, but for the rooms; after each shard, so that memory stays small."""
        self.facts.add(self.utterances)
        self.facts.add(
            ("speaker", "label", who, group, True, f"{who}: {name}") for (who, group), name in self.speakers.items()
        )
        self.facts.add_uses(
            (self.corpus, root, path, kind, group, *use) for (root, path, kind, group), use in self.uses.items()
        )
        self.utterances, self.speakers, self.uses = [], {}, {}

    def add_unchecked(self, *, no_waves: bool) -> None:
        """Report missing labels and digests as not checked."""
        for split, (total, speakerless, digestless) in self.counts.items():
            if speakerless:
                why = "utterances have no speaker label"
                self.facts.unchecked.append(Unchecked("speaker", self.corpus, split, speakerless, total, why))
            if digestless:
                why = "utterances have no digest" + (": a plan has no waves" if no_waves else "")
                self.facts.unchecked.append(Unchecked("utterance", self.corpus, split, digestless, total, why))


def collect_facts(facts: Facts, corpus: str, place: Place, scratch: Path) -> str:
    """Collect the facts of a corpus, pack or plan.

    Args:
        facts: They are added to it.
        corpus: Its letter.
        place: The corpus, pack or plan.
        scratch: A pack is unpacked here.

    Returns:
        Its description.

    Raises:
        StillroomError: If it does not exist, or is damaged.
    """
    if size_of(place / CORPUS) is not None and size_of(place / PLAN) is None:
        return collect_linked(facts, corpus, place)
    item = open_view(place, scratch)
    utterances = UtteranceFacts(facts, corpus)
    for file in item.plan.files:
        index = clean_digests(item, file.name) if item.has_waves else {}
        for row in plain_rows(item.folder, file.name):
            if item.has_waves and row["key"] not in index:
                continue  # refused: it is in no shard
            utterances.add(row, index.get(row["key"]))
        utterances.flush()
    utterances.add_unchecked(no_waves=not item.has_waves)
    facts.add_sources((corpus, *digests) for digests in digests_of(item))
    collect_levels(facts, corpus, item)
    collect_rooms(facts, corpus, item, utterances.rooms)
    facts.declared += declared(item.recipe, corpus)
    return item.description


def collect_linked(facts: Facts, corpus: str, place: Place) -> str:
    """Collect the facts of a subset, or of an index of external shards, from its records."""
    opened = OpenCorpus(place)
    utterances = UtteranceFacts(facts, corpus)
    for number, held in enumerate(opened.utterances(), 1):
        row = held.record.model_dump(mode="json") | {"split": held.split}
        utterances.add(row, held.sample.members[CLEAN].pcm_sha256, files=not opened.is_external)
        if number % 1024 == 0:
            utterances.flush()
    utterances.flush()
    utterances.add_unchecked(no_waves=False)
    total = opened.sealed.totals.samples
    if opened.is_external:
        unknown: tuple[tuple[Kind, str], ...] = (("recording", "sources"), ("noise", "noises"), ("room", "rooms"))
        for kind, why in unknown:
            facts.unchecked.append(
                Unchecked(kind, corpus, None, total, total, f"utterances: the {why} of external shards are not known")
            )
    elif utterances.rooms:
        facts.unchecked.append(
            Unchecked(
                "room", corpus, None, total, total, "utterances: a subset has no geometry; audit the whole corpus"
            )
        )
    return f"{printable(place)}: {'index of external shards' if opened.is_external else 'corpus without a plan'}, {total} utterances"


def clean_digests(item: View, name: str) -> dict[str, str | None]:
    """Digest of the clean PCM of each utterance of a shard, by key."""
    index = read_index(item.folder, name)
    return {one.key: one.members[CLEAN].pcm_sha256 for one in index.samples if CLEAN in one.members}


def digests_of(item: View) -> Iterator[tuple[str, str, str | None, str | None]]:
    """Root, path, and digests of the file and of the PCM of a stretch, of all sources that are known."""
    for name in item.source_lists():
        if item.has_waves and (item.folder / name).exists():
            for one in DecodedSource.read_lines(item.folder / name, needed="sources", where=name):
                yield one.root, one.path, one.sha256, one.pcm_sha256


def collect_levels(facts: Facts, corpus: str, item: View) -> None:
    """Collect the noise files as they were assigned to the splits, each with its digest."""
    for level in noise_levels(item.folder):
        facts.add_sources([(corpus, level.root, level.path, level.sha256, None)])
        facts.add_uses(
            (corpus, level.root, level.path, "noise", facts.group(corpus, split), False, level.channel, level.path)
            for split in level.splits
        )


def collect_rooms(facts: Facts, corpus: str, item: View, used_rooms: Rooms) -> None:
    """Collect rooms by geometry, recorded responses by the digest of their file, and responses by their own."""
    splits: dict[tuple[str, int], set[str]] = {}
    for bank, at, split in used_rooms:
        splits.setdefault((bank, at), set()).add(split)
    for room in planned_rooms(item.folder):
        found = splits.setdefault((room.bank, room.room), set())
        found |= set(room.splits)
        for split in sorted(found):
            group, name = facts.group(corpus, split), used_rooms.get((room.bank, room.room, split))
            example = f"{room.bank}-{room.room}" + (f" in {name}" if name else "")
            if isinstance(room, RecordedRoom):
                spans = [response.file for response in room.responses]
                facts.add_sources((corpus, span.root, span.path, span.sha256, None) for span in spans if span.sha256)
                facts.add_uses(
                    (
                        corpus,
                        span.root,
                        span.path,
                        "room",
                        group,
                        name is not None,
                        span.channel,
                        f"{span.path}, {example}",
                    )
                    for span in spans
                )
            else:
                geometry = digest({"size_m": list(room.size_m), "absorption": room.absorption})
                facts.add([("room", "geometry", geometry, group, name is not None, example)])
    collect_responses(facts, corpus, item, splits, used_rooms)


def collect_responses(
    facts: Facts, corpus: str, item: View, splits: dict[tuple[str, int], set[str]], used_rooms: Rooms
) -> None:
    """Collect the digests of simulated responses."""
    for bank in sorted({bank for bank, _ in splits}):
        is_built = (item.folder / bank_name(bank)).exists()
        for one in room_responses(item.folder, bank) if is_built else ():
            for split in sorted(splits.get((one.bank, one.room), ())):
                is_used = (one.bank, one.room, split) in used_rooms
                facts.add([("room", "response", one.sha256, facts.group(corpus, split), is_used, one.name)])


def declared(recipe: Recipe, corpus: str) -> Iterator[str]:
    """Sources that the recipe itself assigns to all splits."""
    for name, noise in recipe.noises.items():
        if isinstance(noise, RecordedNoise) and noise.split == "shared":
            yield f"{corpus}: its recipe says split: shared for the noises {name}: every split may use every one"
    for name, bank in recipe.rooms.items():
        if bank.split == "shared":
            yield f"{corpus}: its recipe says split: shared for the rooms {name}: every split may use every one"
