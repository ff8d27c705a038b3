"""One run of planning: sources set down, noises read, rooms calibrated, every copy of every utterance drawn."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.audio.tar_members import audio_exists
from corpus_builder.plan.draws.copy import planned_copy
from corpus_builder.plan.materials.noise_levels import level_lines, read_noises, usable_files
from corpus_builder.plan.materials.recorded_rooms import plan_recorded_rooms
from corpus_builder.plan.materials.simulated_rooms import plan_rooms
from corpus_builder.plan.materials.speech_spectrum import spectrum_rows
from corpus_builder.plan.materials.split_materials import Materials
from corpus_builder.plan.materials.utterance_store import Spool
from corpus_builder.sources.lhotse_manifest import utterances
from corpus_builder.sources.relative_paths import Rooting, remember_place
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused, Utterance, too_long
from corpus_builder.workers.resume_cache import PartialResults
from manifests.corpus.sample import sample_key
from manifests.errors import MissingFileError
from manifests.io.atomic import temporary_path
from manifests.io.digest import bytes_digest, canonical_json
from manifests.io.json_yaml import write_json_lines
from manifests.io.progress import Progress
from manifests.plan.plan import Plan
from manifests.recipe.noises import Babble
from manifests.recipe.steps import noise_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from corpus_builder.plan.materials.noise_levels import NoiseFile
    from corpus_builder.plan.materials.split_materials import AnyRoom
    from corpus_builder.sources.roots import Located
    from manifests.io.place import Place
    from manifests.recipe.recipe import Recipe


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
        self,
        recipe: Recipe,
        sources: dict[str, Located],
        folder: Path,
        *,
        limit: int | None,
        workers: int,
        progress: bool,
    ) -> None:
        self.recipe, self.sources, self.folder = recipe, sources, folder / "plan"
        self.limit, self.workers, self.progress = limit, workers, progress
        self.tally = Tally()
        self.spools: dict[str, Spool] = {}
        self.places: dict[str, Place] = {}
        self.lengths: Counter[str] = Counter()
        self.scratch = temporary_path(self.folder / "utterances")
        self.noises_done = PartialResults(self.folder / ".noises.partial")
        self.rooms_done = PartialResults(self.folder / ".rooms.partial")

    def run(self, recipe_sha256: str) -> dict[str, Any]:
        """All of it; returns the content of `plan.json`."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        for split in self.recipe.speech:
            self.set_down(split)
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
        rooms = self.rooms()
        room_rows = [canonical_json(room) for room in rooms]
        write_json_lines(self.folder / "levels.jsonl", level_rows)
        write_json_lines(self.folder / "rooms.jsonl", room_rows)
        spectra = spectrum_rows(self.recipe, self.spools)
        if spectra:
            write_json_lines(self.folder / "spectra.jsonl", spectra)
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
            **({"spectra_sha256": bytes_digest(b"".join(line + b"\n" for line in spectra))} if spectra else {}),
            "filtered": {split: dict(sorted(counts.items())) for split, counts in sorted(self.tally.filtered.items())},
            "refused": refused,
        } | ({} if self.limit is None else {"limit": self.limit})

    def rooms(self) -> list[AnyRoom]:
        """Every room, simulated or recorded, by bank and number."""
        simulated = plan_rooms(self.recipe, done=self.rooms_done, workers=self.workers, progress=self.progress)
        recorded = plan_recorded_rooms(
            self.recipe,
            self.sources,
            done=self.rooms_done,
            workers=self.workers,
            refuse=self.tally.refuse,
            places=self.places,
            progress=self.progress,
        )
        return sorted([*simulated, *recorded], key=lambda room: (room.bank, room.room))

    def set_down(self, split: str) -> None:
        """Read one split's sources into a temporary file.

        Raises:
            NoAudioError: If no utterance is left.
            MissingFileError: If the first files are not there: most likely the root is wrong.
        """
        source = self.sources[split]
        rooting = Rooting(source)
        spool = Spool(self.scratch / f"{split}.spool", split=split, seed=self.recipe.seed, rooting=rooting)
        self.spools[split] = spool
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
                case Utterance() if (reason := too_long(found, rate_hz=rate_hz)) is not None:
                    self.tally.refuse(split, found.id, reason)
                case Utterance():
                    spool.add(found)
                    self.lengths[split] += num_samples_at(found.num_frames, from_hz=found.rate_hz, to_hz=rate_hz)
        for name, reason in spool.settle():
            self.tally.refuse(split, name, reason)
        if not len(spool):
            raise NoAudioError(source.manifest or source.folder, self.nothing_left(split))
        if not spool.speaker_numbers and self.uses_babble(split):
            told = "has no speaker labels: every other utterance counts as another speaker in babble"
            print(f"{split} {told}", file=sys.stderr)
        remember_place(self.places, rooting)
        first = rooting.place / spool.read(int(spool.order[0])).path
        if not audio_exists(first):
            raise MissingFileError(
                first, needed=f"an utterance of {split!r}; say --root {source.root}=DIR if they lie elsewhere"
            )

    def uses_babble(self, split: str) -> bool:
        """Whether some copy of a split may have babble in it."""
        used = {name for name, count in self.recipe.copies.get(split, {}).items() if count}
        sources = {source for name in used for source in noise_names(self.recipe.conditions[name].steps)}
        return any(isinstance(self.recipe.noises[source], Babble) for source in sources)

    def nothing_left(self, split: str) -> str:
        """Why a split has no utterance."""
        first = next(
            (f"; the first: {name}: {reason}" for where, name, reason in self.tally.refused if where == split), ""
        )
        refused = sum(where == split for where, _, _ in self.tally.refused)
        filtered = sum(self.tally.filtered.get(split, Counter()).values())
        return f"no utterance is left for split {split!r} ({refused} refused, {filtered} left out by the recipe){first}"

    def draw_split(
        self, split: str, files: dict[tuple[str, str], list[NoiseFile]], rooms: list[AnyRoom]
    ) -> Iterator[dict[str, Any]]:
        """Write the plan files of one split; yields their entries for `plan.json`."""
        spool, root = self.spools[split], self.sources[split].root
        materials = Materials(
            seed=self.recipe.seed,
            split=split,
            rate_hz=self.recipe.sample_rate,
            noises=dict(self.recipe.noises),
            files={source: found for (source, where), found in files.items() if where == split},
            rooms={
                bank: [room for room in rooms if room.bank == bank and split in room.splits]
                for bank in self.recipe.rooms
            },
            spool=spool,
            root=root,
        )
        total = min(len(spool), self.limit or len(spool))
        with contextlib.ExitStack() as stack:
            shown = None
            if self.progress:
                shown = stack.enter_context(Progress(f"planning {split}", total=total, unit="utterances"))
            samples = self.recipe.shards.samples_of(
                utterances=len(spool),
                num_samples=self.lengths[split],
                waves=1 + sum(self.recipe.copies.get(split, {}).values()),
            )
            for shard, places in spool.shards(samples, limit=self.limit):
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
            planned_copy(
                materials,
                self.recipe.conditions[name],
                name=name,
                number=number,
                utterance=utterance.id,
                place=place,
                num_samples=num_samples,
            )
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
