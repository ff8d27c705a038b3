"""A recipe and its sources become a plan: files of rows in which every parameter is a number. All chance ends here.

In this order: utterances are set down, noises read through once, rooms calibrated, utterances dealt to shards and their
copies drawn. `plan.json` is written last. A plan that was interrupted begins again but keeps what was costly.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.deal import Spool
from corpus_builder.decode import num_samples_at
from corpus_builder.leftovers import clear_leftovers
from corpus_builder.noise_levels import level_lines, read_noises, usable_files
from corpus_builder.partial import PartialResults
from corpus_builder.planned_rooms import plan_rooms
from corpus_builder.planned_steps import Materials
from corpus_builder.rooting import Rooting
from corpus_builder.roots import Located, locate, published, published_digest, read_roots, write_roots
from corpus_builder.sources import utterances
from corpus_builder.utterance import LeftOut, NoAudioError, Refused, Utterance
from manifests.digest import bytes_digest, canonical_json
from manifests.errors import MissingFileError, OtherRecipeError, UsageError, printable
from manifests.files import temporary_path, write_json_lines, write_yaml
from manifests.plan import Plan
from manifests.progress import Progress
from manifests.recipe import Recipe
from manifests.sample import sample_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from corpus_builder.noise_levels import NoiseFile
    from manifests.plan import PlannedRoom

OURS = {"plan", "rooms", "shards", "recipe.yaml", "roots.local.json", "corpus.json", "refused.jsonl", "SHA256SUMS", "README.md"}


@dataclass
class Tally:
    """What was left out while planning, and why."""

    refused: list[tuple[str, str, str]] = field(default_factory=list)
    filtered: dict[str, Counter[str]] = field(default_factory=dict)

    def refuse(self, split: str, name: str, reason: str) -> None:
        """Refuse an utterance or a noise file."""
        self.refused.append((split, name, reason))

    def leave_out(self, split: str, reason: str) -> None:
        """Count what the recipe's own rules leave out."""
        self.filtered.setdefault(split, Counter())[reason] += 1


def recipe_at(path: Path) -> tuple[Recipe, Path]:
    """Read a recipe, or that of a plan folder.

    Returns:
        The recipe and the folder that its relative paths start from.
    """
    if path.is_dir():
        path = path / "recipe.yaml"
    return Recipe.read(path, needed="a recipe (YAML) or the folder of a plan is due here"), path.parent


def finished_plan(folder: Path) -> Plan | None:
    """The plan of a folder if it is finished."""
    path = folder / "plan" / "plan.json"
    return Plan.read(path, needed="the index of a plan") if path.exists() else None


def check_target(folder: Path, recipe_path: Path) -> None:
    """A plan or corpus folder is new, or one of ours; nothing of a stranger's is overwritten.

    Raises:
        UsageError: If the folder holds something else, or the recipe itself.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{printable(folder)} is a file; name a folder that is new, or holds a plan")
    if not folder.exists():
        return
    strange = sorted(entry.name for entry in folder.iterdir() if entry.name not in OURS and not entry.name.startswith("."))
    if strange or (recipe_path.parent.resolve() == folder.resolve() and not (folder / "plan").exists()):
        what = strange[0] if strange else recipe_path.name
        raise UsageError(f"{printable(folder)} holds {printable(what)!r}, which is not of a plan or corpus; choose a new folder")


def check_same(plan: Plan, *, recipe_sha256: str, limit: int | None, folder: Path) -> None:
    """A finished plan was made from the same recipe with the same limit.

    Raises:
        OtherRecipeError: If not.
    """
    if plan.recipe_sha256 != recipe_sha256:
        raise OtherRecipeError(folder, what="recipe", found=plan.recipe_sha256, asked=recipe_sha256)
    if plan.limit != limit:
        raise OtherRecipeError(folder, what="--limit", found=str(plan.limit), asked=str(limit))


def make_plan(
    recipe_path: Path,
    folder: Path,
    *,
    roots: Mapping[str, Path] | None = None,
    limit: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> tuple[Plan, bool]:
    """Decide everything that a recipe leaves open, and write it down. The caller holds the folder's lock.

    Args:
        recipe_path: The recipe.
        folder: Where to: `folder/plan/`, `folder/recipe.yaml`, `folder/roots.local.json`.
        roots: Where roots lie, by `--root`.
        limit: Only so many utterances a split, by keyed hash of their ids.
        workers: Number of processes that read noises and calibrate rooms.
        progress: Show how far it is.

    Returns:
        The plan, and whether it was there already.

    Raises:
        OtherRecipeError: If the folder holds the plan of another recipe.
        StillroomError: By what is wrong with recipe or sources.
    """
    recipe, beside = recipe_at(recipe_path)
    check_target(folder, recipe_path)
    known_roots = {**{name: Path(place) for name, place in read_roots(beside).items()}, **(roots or {})}
    sources = locate(recipe, beside=beside, roots=known_roots)
    recipe_sha256 = published_digest(recipe, sources)
    plan = finished_plan(folder)
    if plan is not None:
        check_same(plan, recipe_sha256=recipe_sha256, limit=limit, folder=folder)
        return plan, True
    (folder / "plan").mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder / "plan")
    for stale in (folder / "plan").glob("*-[0-9]*.jsonl"):
        stale.unlink()
    planner = Planner(recipe, sources, folder, limit=limit, workers=workers, progress=progress)
    try:
        document = planner.run(recipe_sha256)
    finally:
        planner.close()
    write_yaml(folder / "recipe.yaml", published(recipe, sources))
    write_roots(folder, planner.places)
    plan = Plan.parse(document, where=folder)
    plan.write(folder / "plan" / "plan.json")
    planner.noises_done.remove()
    planner.rooms_done.remove()
    return plan, False


class Planner:
    """One run of planning.

    Args:
        recipe: What is wanted.
        sources: Where its sources lie.
        folder: The plan's folder.
        limit: Only so many utterances a split.
        workers: Number of processes.
        progress: Show how far it is.
    """

    def __init__(
        self, recipe: Recipe, sources: dict[str, Located], folder: Path, *, limit: int | None, workers: int, progress: bool
    ) -> None:
        self.recipe, self.sources, self.folder = recipe, sources, folder / "plan"
        self.limit, self.workers, self.progress = limit, workers, progress
        self.tally = Tally()
        self.spools: dict[str, Spool] = {}
        self.places: dict[str, Path] = {}
        self.scratch = temporary_path(self.folder / "utterances")
        self.noises_done = PartialResults(self.folder / ".noises.partial")
        self.rooms_done = PartialResults(self.folder / ".rooms.partial")

    def run(self, recipe_sha256: str) -> dict[str, Any]:
        """All of it; returns the content of `plan.json`."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        for split in self.recipe.speech:
            self.spools[split] = self.set_down(split)
        levels = read_noises(
            self.recipe,
            self.sources,
            done=self.noises_done,
            workers=self.workers,
            refuse=self.tally.refuse,
            leave_out=self.tally.leave_out,
            places=self.places,
            progress=self.progress,
        )
        level_rows = level_lines(levels)
        rooms = plan_rooms(self.recipe, done=self.rooms_done, workers=self.workers, progress=self.progress)
        room_rows = [canonical_json(room) for room in rooms]
        write_json_lines(self.folder / "levels.jsonl", level_rows)
        write_json_lines(self.folder / "rooms.jsonl", room_rows)
        files = usable_files(levels)
        drawn = [entry for split in self.recipe.speech for entry in self.draw_split(split, files, rooms)]
        refused = [{"split": split, "id": name, "reason": reason} for split, name, reason in sorted(self.tally.refused)]
        return {
            "schema": Plan.SCHEMA,
            "name": self.recipe.name,
            "recipe_sha256": recipe_sha256,
            "sample_rate": self.recipe.sample_rate,
            "files": drawn,
            "levels_sha256": bytes_digest(b"".join(line + b"\n" for line in level_rows)),
            "rooms_sha256": bytes_digest(b"".join(line + b"\n" for line in room_rows)),
            "filtered": {split: dict(sorted(counts.items())) for split, counts in sorted(self.tally.filtered.items())},
            "refused": refused,
        } | ({} if self.limit is None else {"limit": self.limit})

    def set_down(self, split: str) -> Spool:
        """Read one split's sources into a temporary file.

        Raises:
            NoAudioError: If no utterance is left.
            MissingFileError: If the first files are not there: most likely the root is wrong.
        """
        source = self.sources[split]
        rooting = Rooting(source)
        spool = Spool(self.scratch / f"{split}.spool", split=split, seed=self.recipe.seed, rooting=rooting)
        shortest_s, longest_s = source.source.min_s, source.source.max_s
        rate_hz = self.recipe.sample_rate
        for found in utterances(source):
            match found:
                case Refused():
                    self.tally.refuse(split, found.id, found.reason)
                case LeftOut():
                    self.tally.leave_out(split, found.reason)
                case Utterance() if found.seconds < shortest_s:
                    self.tally.leave_out(split, f"shorter than {shortest_s:g} s")
                case Utterance() if found.seconds > longest_s:
                    self.tally.leave_out(split, f"longer than {longest_s:g} s")
                case Utterance() if num_samples_at(found.num_frames, from_hz=found.rate_hz, to_hz=rate_hz) < 1:
                    self.tally.refuse(split, found.id, "has no sample at the corpus rate")
                case Utterance():
                    spool.add(found)
        for name, reason in spool.settle():
            self.tally.refuse(split, name, reason)
        if not len(spool):
            raise NoAudioError(source.manifest or source.folder, self.nothing_left(split))
        self.places[source.root] = rooting.place
        first = rooting.place / spool.read(int(spool.order[0])).path
        if not first.exists():
            raise MissingFileError(first, needed=f"an utterance of {split!r}; say --root {source.root}=DIR if they lie elsewhere")
        return spool

    def nothing_left(self, split: str) -> str:
        """Why a split has no utterance."""
        first = next((f"; the first: {name}: {reason}" for where, name, reason in self.tally.refused if where == split), "")
        refused = sum(where == split for where, _, _ in self.tally.refused)
        filtered = sum(self.tally.filtered.get(split, Counter()).values())
        return f"no utterance is left for split {split!r} ({refused} refused, {filtered} left out by the recipe){first}"

    def draw_split(
        self, split: str, files: dict[tuple[str, str], list[NoiseFile]], rooms: list[PlannedRoom]
    ) -> Iterator[dict[str, Any]]:
        """Write the plan files of one split; yields their entries for `plan.json`."""
        spool, root = self.spools[split], self.sources[split].root
        materials = Materials(
            seed=self.recipe.seed,
            split=split,
            rate_hz=self.recipe.sample_rate,
            noises=dict(self.recipe.noises),
            files={source: found for (source, where), found in files.items() if where == split},
            rooms={bank: [room for room in rooms if room.bank == bank and split in room.splits] for bank in self.recipe.rooms},
            spool=spool,
            root=root,
        )
        total = min(len(spool), self.limit or len(spool))
        with contextlib.ExitStack() as stack:
            shown = None
            if self.progress:
                shown = stack.enter_context(Progress(f"planning {split}", total=total, unit="utterances"))
            for shard, places in spool.shards(self.recipe.shards.samples, limit=self.limit):
                yield self.write_file(f"{split}-{shard:06d}", materials, places)
                if shown is not None:
                    shown.advance(len(places))

    def write_file(self, name: str, materials: Materials, places: Iterable[int]) -> dict[str, Any]:
        """Draw and write the rows of one shard; returns its entry for `plan.json`."""
        state = hashlib.sha256()
        rows = samples = 0

        def lines() -> Iterator[bytes]:
            nonlocal rows, samples
            for place in places:
                row = self.row(materials, place)
                line = canonical_json(row)
                state.update(line + b"\n")
                rows += 1
                samples += row["num_samples"]
                yield line

        write_json_lines(self.folder / f"{name}.jsonl", lines())
        seconds = round(samples / self.recipe.sample_rate, 3)
        return {"name": name, "split": materials.split, "rows": rows, "seconds": seconds, "sha256": state.hexdigest()}

    def row(self, materials: Materials, place: int) -> dict[str, Any]:
        """One utterance with all its draws, as plain data."""
        spooled = materials.spool.read(place)
        utterance = spooled.utterance
        num_samples = num_samples_at(utterance.num_frames, from_hz=utterance.rate_hz, to_hz=self.recipe.sample_rate)
        copies = [
            materials.copy(self.recipe.conditions[name], name, number, utterance.id, place, num_samples)
            for name, count in self.recipe.copies.get(materials.split, {}).items()
            for number in range(count)
        ]
        row: dict[str, Any] = {
            "id": utterance.id,
            "key": sample_key(utterance.id),
            "split": materials.split,
            "num_samples": num_samples,
            "custom": utterance.custom,
            "source": spooled.span(materials.root),
            "copies": copies,
        }
        labels = {"text": utterance.text, "speaker": utterance.speaker, "language": utterance.language}
        return row | {name: value for name, value in labels.items() if value is not None}

    def close(self) -> None:
        """Remove what was set down."""
        for spool in self.spools.values():
            spool.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
