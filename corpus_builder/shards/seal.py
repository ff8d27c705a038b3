"""The seal of a corpus: refusals merged, digests listed, a card for people, and `corpus.json`, written last."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from corpus_builder.shards.croissant import croissant
from corpus_builder.shards.dataset_card import card
from corpus_builder.shards.environment import build_provenance
from corpus_builder.shards.writer import finished_index
from manifests.corpus.shard_index import Corpus
from manifests.errors import MissingFileError
from manifests.io.atomic import write_bytes, write_text
from manifests.io.digest import bytes_digest, canonical_json, digest, file_digest
from manifests.io.json_yaml import write_json, write_json_lines
from manifests.plan.plan import Plan, PlanFile, Refusal
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from corpus_builder.shards.destination import Target

SUMS = "SHA256SUMS"
LOOK_AGAIN_AFTER_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def seal(plan: Plan, target: Target) -> Corpus:
    """Write everything that stands above the shards.

    Args:
        plan: All of its shards are finished.
        target: Where the corpus is.

    Raises:
        MissingFileError: If a shard vanished.
    """
    corpus = target.work
    recipe = Recipe.read(corpus / "recipe.yaml", needed="the recipe of the corpus")
    refused = [Refusal(split=one.split, id=one.id, reason=one.reason) for one in plan.refused]
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in recipe.speech}
    sums: dict[str, str] = {}
    sizes = target.shard_sizes()
    for file in plan.files:
        entry, refused_here = finished_entry(plan, file, target, sizes)
        splits[file.split].append(entry)
        sums[f"shards/{file.name}.tar"] = entry["sha256"]
        refused += refused_here
    refused.sort(key=lambda one: (one.split, one.id, one.reason))
    write_json_lines(corpus / "refused.jsonl", (canonical_json(one) for one in refused))
    shards = [entry for entries in splits.values() for entry in entries]
    counts = {
        split: sum(one.split == split for one in refused) for split in dict.fromkeys(one.split for one in refused)
    }
    sealed = Corpus.parse(
        {
            "schema": Corpus.SCHEMA,
            "name": plan.name,
            "recipe_sha256": plan.recipe_sha256,
            "plan_sha256": digest(plan),
            "sample_rate": plan.sample_rate,
            "splits": splits,
            "copies": {
                split: {name: n for name, n in recipe.copies.get(split, {}).items() if n} for split in recipe.speech
            },
            "totals": {
                "samples": sum(entry["samples"] for entry in shards),
                "seconds": round(sum(entry["seconds"] for entry in shards), 3),
                "bytes": sum(entry["bytes"] for entry in shards),
                "shards": len(shards),
            },
            "filtered": plan.filtered,
            "refused": counts,
        },
        where=corpus,
    )
    write_text(corpus / "README.md", card(sealed, recipe))
    write_json(corpus / "croissant.json", croissant(sealed, recipe))
    write_json(corpus / "provenance.json", build_provenance())
    content = corpus_json(sealed)
    for path in listed_files(corpus):
        name = path.relative_to(corpus).as_posix()
        if name not in sums:
            sums[name] = file_digest(path)
    sums["corpus.json"] = bytes_digest(content)
    write_text(corpus / SUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
    write_bytes(corpus / "corpus.json", content)
    target.send_seal()
    return sealed


def finished_entry(
    plan: Plan, file: PlanFile, target: Target, sizes: dict[str, int]
) -> tuple[dict[str, Any], list[Refusal]]:
    """A shard's entry in `corpus.json`, and what it refused.

    A network disk may not show for up to a minute what another machine wrote there, so what is not seen is looked for again.

    Args:
        plan: Of the corpus.
        file: The shard's plan file.
        target: Where the corpus is.
        sizes: Sizes of the shards' files; brought up to date when one is not seen.

    Raises:
        MissingFileError: If the shard vanished.
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
        where = f"{target}/shards/{file.name}.json"
        raise MissingFileError(where, needed="a shard vanished; run the same command again")
    num_samples = sum(sample["num_samples"] for sample in index["samples"])
    entry = {
        "name": file.name,
        "samples": len(index["samples"]),
        "seconds": round(num_samples / plan.sample_rate, 3),
        "bytes": index["bytes"],
        "sha256": index["sha256"],
    }
    return entry, [Refusal.parse(one, where=file.name) for one in index.get("refused", ())]


def corpus_json(sealed: Corpus) -> bytes:
    """The bytes of `corpus.json`."""
    return json.dumps(sealed.plain(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def listed_files(corpus: Path) -> list[Path]:
    """What belongs to the corpus beside its seal: no hidden files, no local roots, nothing that tells when it was made."""
    files = [corpus / name for name in ("recipe.yaml", "refused.jsonl", "README.md", "croissant.json")]
    for folder in ("plan", "rooms", "shards", "proof"):
        files += sorted(
            path for path in (corpus / folder).glob("*") if path.is_file() and not path.name.startswith(".")
        )
    return files
