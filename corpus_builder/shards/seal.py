"""Seals a corpus when all shards are finished: merged refusals, dataset card, lists of utterances, digests, and `corpus.json` last of all."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from corpus_builder.shards.croissant import ListedFile, croissant, utterance_line
from corpus_builder.shards.dataset_card import card
from corpus_builder.shards.environment import build_provenance
from corpus_builder.shards.writer import finished_index
from manifests.corpus.layout import (
    CARD,
    CORPUS,
    CROISSANT,
    LEVELS,
    PROVENANCE,
    REFUSED,
    index_name,
    plain_rows,
    planned_rooms,
    read_recipe,
    summed_names,
    tar_name,
    utterances_name,
    write_seal,
)
from manifests.corpus.shard_index import Corpus, ShardEntry, totals_of
from manifests.errors import MissingFileError
from manifests.io.atomic import write_text
from manifests.io.digest import canonical_json, digest, file_digest
from manifests.io.json_yaml import read_json_lines, write_json, write_json_lines
from manifests.plan.plan import Refusal
from manifests.plan.rooms import RecordedRoom

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corpus_builder.shards.destination import Target
    from manifests.plan.plan import Plan, PlanFile
    from manifests.recipe.recipe import Recipe

LOOK_AGAIN_AFTER_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def seal(plan: Plan, target: Target) -> Corpus:
    """Write refusals, card, lists of utterances, Croissant description, provenance, digests, and `corpus.json` last.

    Args:
        plan: All of its shards are finished.
        target: Where the corpus is.

    Raises:
        MissingFileError: If a shard is no longer there.
    """
    corpus = target.work
    recipe = read_recipe(corpus)
    splits: dict[str, list[ShardEntry]] = {split: [] for split in recipe.speech}
    refused = list(plan.refused)
    left_out: dict[str, set[str]] = {}
    sizes = target.shard_sizes()
    for file in plan.files:
        entry, refused_here = finished_entry(plan, file, target, sizes)
        splits[file.split].append(entry)
        refused += refused_here
        left_out[file.name] = {one.id for one in refused_here}
    refused.sort(key=lambda one: (one.split, one.id, one.reason))
    write_json_lines(corpus / REFUSED, (canonical_json(one) for one in refused))
    sealed = sealed_corpus(plan, recipe, splits, refused)
    write_text(corpus / CARD, card(sealed, recipe, root_examples(corpus, plan)))
    listed = {
        split: write_utterances(corpus, split, shards, left_out) for split, shards in splits.items() if count(shards)
    }
    write_json(corpus / CROISSANT, croissant(sealed, recipe, listed))
    write_json(corpus / PROVENANCE, build_provenance())
    known = {tar_name(entry.name): entry.sha256 for entries in splits.values() for entry in entries}
    known |= {utterances_name(split): file.sha256 for split, file in listed.items()}
    write_seal(corpus, sealed, summed=summed_names(corpus), known=known)
    target.send_seal()
    return sealed


def root_examples(corpus: Path, plan: Plan) -> dict[str, str]:
    """One path below each root, by its name: the first of the plan."""
    found: dict[str, str] = {}
    for file in {file.split: file for file in reversed(plan.files)}.values():
        source = next(plain_rows(corpus, file.name))["source"]
        found.setdefault(source["root"], source["path"])
    for level in read_json_lines(corpus / LEVELS, needed="the noise levels of a plan"):
        found.setdefault(level["root"], level["path"])
    for room in planned_rooms(corpus):
        if isinstance(room, RecordedRoom):
            found.setdefault(room.responses[0].file.root, room.responses[0].file.path)
    return found


def count(shards: Sequence[ShardEntry]) -> int:
    """How many utterances shards have."""
    return sum(shard.samples for shard in shards)


def write_utterances(
    corpus: Path, split: str, shards: Sequence[ShardEntry], left_out: Mapping[str, set[str]]
) -> ListedFile:
    """Write the list of a split's utterances.

    Args:
        corpus: The working folder.
        split: Which.
        shards: Of the split.
        left_out: Ids of planned utterances that are not in it, by shard.
    """
    path = corpus / utterances_name(split)
    rows = (row for shard in shards for row in plain_rows(corpus, shard.name) if row["id"] not in left_out[shard.name])
    write_json_lines(path, map(utterance_line, rows))
    return ListedFile(path.stat().st_size, file_digest(path))


def sealed_corpus(
    plan: Plan, recipe: Recipe, splits: Mapping[str, Sequence[ShardEntry]], refused: Sequence[Refusal]
) -> Corpus:
    """`corpus.json` of a built corpus."""
    return Corpus.parse(
        {
            "schema": Corpus.SCHEMA,
            "name": plan.name,
            "recipe_sha256": plan.recipe_sha256,
            "plan_sha256": digest(plan),
            "sample_rate": plan.sample_rate,
            "splits": {
                split: [one.model_dump(exclude_none=True) for one in entries] for split, entries in splits.items()
            },
            "copies": {
                split: {name: n for name, n in recipe.copies.get(split, {}).items() if n} for split in recipe.speech
            },
            "totals": totals_of(splits),
            "filtered": plan.filtered,
            "refused": dict(Counter(one.split for one in refused)),
        },
        where=CORPUS,
    )


def finished_entry(
    plan: Plan, file: PlanFile, target: Target, sizes: dict[str, int]
) -> tuple[ShardEntry, list[Refusal]]:
    """A shard's entry in `corpus.json`, and what it refused.

    A network disk may not list for up to a minute what another machine wrote there, so a shard that is not listed is looked for again.

    Args:
        plan: Of the corpus.
        file: The shard's plan file.
        target: Where the corpus is.
        sizes: Sizes of the shards' files; updated when one is not listed.

    Raises:
        MissingFileError: If the shard is no longer there.
    """
    index = finished_index(target, file.name, plan_sha256=file.sha256, sizes=sizes)
    for wait_s in LOOK_AGAIN_AFTER_S:
        if index is not None:
            break
        time.sleep(wait_s)
        sizes.clear()
        sizes.update(target.shard_sizes())
        index = finished_index(target, file.name, plan_sha256=file.sha256, sizes=sizes)
    if index is None:
        where = f"{target}/{index_name(file.name)}"
        raise MissingFileError(where, needed="the index of a shard that was finished; run the same command again")
    num_samples = sum(sample["num_samples"] for sample in index["samples"])
    entry = ShardEntry(
        name=file.name,
        samples=len(index["samples"]),
        seconds=round(num_samples / plan.sample_rate, 3),
        bytes=index["bytes"],
        sha256=index["sha256"],
    )
    return entry, [Refusal.parse(one, where=file.name) for one in index.get("refused", ())]
