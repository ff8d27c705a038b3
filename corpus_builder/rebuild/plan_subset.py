"""Selects a part of a pack's plan, as a plan of its own: some splits, some conditions, so many utterances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.plan.materials.seeded_random import keyed_hash
from manifests.corpus.layout import LEVELS, PLAN, RECIPE, ROOMS, SPECTRA, plain_rooms, plain_rows, plan_rows_name
from manifests.errors import UsageError, printable
from manifests.io.atomic import write_bytes
from manifests.io.digest import canonical_json, digest, file_digest
from manifests.io.json_yaml import write_json_lines, write_yaml
from manifests.plan.plan import Plan
from manifests.plan.references import references
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.pack.contents import OpenedPack


@dataclass(frozen=True)
class Selection:
    """The selected part of a pack; by default all of it.

    Attributes:
        splits: Only these.
        conditions: Only copies of these.
        limit: Only so many utterances a split, by keyed hash of their ids, as `--limit` of `plan` chooses them.
    """

    splits: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def is_all(self) -> bool:
        """Whether all of it is selected."""
        return not self.splits and not self.conditions and self.limit is None

    def check(self, recipe: Recipe) -> None:
        """Check that every name is in the recipe.

        Raises:
            UsageError: If one is not.
        """
        for what, names, known in (
            ("split", self.splits, list(recipe.speech)),
            ("condition", self.conditions, list(recipe.conditions)),
        ):
            for name in names:
                if name not in known:
                    raise UsageError(
                        f"--{what} {printable(name)}: the pack has no such {what}; it has {', '.join(known) or 'none'}"
                    )


def write_selection(opened: OpenedPack, selection: Selection, folder: Path) -> Plan:
    """Write the selected part of a pack's plan as the folder of a finished plan.

    Args:
        opened: The pack.
        selection: Which part.
        folder: Where `recipe.yaml` and `plan/` are written.

    Returns:
        Its plan, with digests of its own.

    Raises:
        UsageError: If nothing is left.
    """
    selection.check(opened.recipe)
    files = [file for file in opened.plan.files if not selection.splits or file.split in selection.splits]
    chosen = limited(opened, selection) if selection.limit is not None else None
    entries: list[dict[str, Any]] = []
    for file in files:
        rows = [
            selected_row(row, selection)
            for row in plain_rows(opened.folder, file.name)
            if chosen is None or (file.split, row["id"]) in chosen
        ]
        if not rows:
            continue
        path = folder / plan_rows_name(file.name)
        write_json_lines(path, (canonical_json(row) for row in rows))
        seconds = round(sum(row["num_samples"] for row in rows) / opened.plan.sample_rate, 3)
        entries.append(
            {"name": file.name, "split": file.split, "rows": len(rows), "seconds": seconds, "sha256": file_digest(path)}
        )
    wanted = selected_recipe(opened.recipe, selection)
    if not entries or (selection.conditions and not any(sum(counts.values()) for counts in wanted.copies.values())):
        raise UsageError("--split, --condition and --limit select nothing of the pack; select more")
    banks = {
        one.name.rsplit("-", 2)[0]
        for file in entries
        for row in plain_rows(folder, file["name"])
        for one in references(row)
        if one.role == "response"
    }
    rooms = (room for room in plain_rooms(opened.folder) if room["bank"] in banks)
    write_json_lines(folder / ROOMS, (canonical_json(room) for room in rooms))
    for name in (LEVELS, *([SPECTRA] if opened.plan.spectra_sha256 else [])):
        write_bytes(folder / name, (opened.folder / name).read_bytes())
    write_yaml(folder / RECIPE, wanted.plain())
    refused = [
        one
        for one in opened.plan.plain().get("refused", [])
        if chosen is None and one["split"] in {f.split for f in files}
    ]
    document = opened.plan.plain() | {"files": entries, "recipe_sha256": digest(wanted.plain()), "refused": refused}
    document["rooms_sha256"] = file_digest(folder / ROOMS)
    if selection.limit is not None:
        document["limit"] = selection.limit
    plan = Plan.parse(document, where="the selected part of the plan")
    plan.write(folder / PLAN)
    return plan


def limited(opened: OpenedPack, selection: Selection) -> set[tuple[str, str]]:
    """Split and id of the utterances that a limit selects."""
    hashes: dict[str, list[tuple[int, str]]] = {}
    for file in opened.plan.files:
        for row in plain_rows(opened.folder, file.name):
            hashes.setdefault(file.split, []).append(
                (keyed_hash(opened.recipe.seed, "order", file.split, row["id"]), row["id"])
            )
    return {(split, name) for split, found in hashes.items() for _, name in sorted(found)[: selection.limit]}


def selected_row(row: dict[str, Any], selection: Selection) -> dict[str, Any]:
    """A row with the selected copies only."""
    if not selection.conditions:
        return row
    return row | {"copies": [copy for copy in row["copies"] if copy["condition"] in selection.conditions]}


def selected_recipe(recipe: Recipe, selection: Selection) -> Recipe:
    """The recipe with the selected copies only, so that it describes the corpus."""
    plain = recipe.plain()
    plain["copies"] = {
        split: {name: n for name, n in counts.items() if not selection.conditions or name in selection.conditions}
        for split, counts in plain.get("copies", {}).items()
        if not selection.splits or split in selection.splits
    }
    return Recipe.parse(plain, where="the selected part of the recipe")
