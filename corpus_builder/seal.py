"""The seal of a corpus: refusals merged, digests listed, a card for people, and `corpus.json`, written last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from corpus_builder.card import card
from corpus_builder.shard import finished_index
from manifests.digest import bytes_digest, canonical_json, digest, file_digest
from manifests.errors import MissingFileError
from manifests.files import write_bytes, write_json_lines, write_text
from manifests.plan import Plan, PlanFile, Refusal
from manifests.recipe import Recipe
from manifests.shards import Corpus

if TYPE_CHECKING:
    from pathlib import Path

SUMS = "SHA256SUMS"


def seal(plan: Plan, corpus: Path) -> Corpus:
    """Write everything that stands above the shards.

    Args:
        plan: All of its shards are finished.
        corpus: Its folder.

    Raises:
        MissingFileError: If a shard vanished.
    """
    recipe = Recipe.read(corpus / "recipe.yaml", needed="the recipe of the corpus")
    refused = [Refusal(split=one.split, id=one.id, reason=one.reason) for one in plan.refused]
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in recipe.speech}
    sums: dict[str, str] = {}
    for file in plan.files:
        entry, refused_here = finished_entry(plan, file, corpus)
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
    content = corpus_json(sealed)
    for path in listed_files(corpus):
        name = path.relative_to(corpus).as_posix()
        if name not in sums:
            sums[name] = file_digest(path)
    sums["corpus.json"] = bytes_digest(content)
    write_text(corpus / SUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
    write_bytes(corpus / "corpus.json", content)
    return sealed


def finished_entry(plan: Plan, file: PlanFile, corpus: Path) -> tuple[dict[str, Any], list[Refusal]]:
    """A shard's entry in `corpus.json`, and what it refused.

    Raises:
        MissingFileError: If the shard vanished.
    """
    index = finished_index(corpus, file.name, plan_sha256=file.sha256)
    if index is None:
        where = corpus / "shards" / f"{file.name}.json"
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
    """What belongs to the corpus beside its seal: no hidden files, no local roots."""
    files = [corpus / name for name in ("recipe.yaml", "refused.jsonl", "README.md")]
    for folder in ("plan", "rooms", "shards"):
        files += sorted(
            path for path in (corpus / folder).glob("*") if path.is_file() and not path.name.startswith(".")
        )
    return files
