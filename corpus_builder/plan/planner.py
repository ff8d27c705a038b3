"""The steps of planning, as functions over one frozen job: store the utterances, measure the noises, calibrate the rooms, draw."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.resample import num_samples_at
from corpus_builder.audio.tar_members import audio_exists
from corpus_builder.plan.draws.row import planned_row
from corpus_builder.plan.lengths.file_headers import costly_headers
from corpus_builder.plan.lengths.manifest_lengths import fitted_to_files
from corpus_builder.plan.materials.noise_levels import level_lines, measure_noises, usable_files
from corpus_builder.plan.materials.recorded_rooms import plan_recorded_rooms
from corpus_builder.plan.materials.simulated_rooms import plan_simulated_rooms
from corpus_builder.plan.materials.speech_spectrum import spectrum_rows
from corpus_builder.plan.materials.split_materials import Materials
from corpus_builder.plan.materials.utterance_store import UtteranceStore
from corpus_builder.sources.lhotse_cut import CUT_THROUGH
from corpus_builder.sources.lhotse_manifest import utterances
from corpus_builder.sources.noise_files import noise_listings
from corpus_builder.sources.relative_paths import RootFinder, root_folders, taken_lines
from corpus_builder.sources.rir_files import response_listings
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused, Utterance, too_long
from manifests.errors import MissingFileError
from manifests.io.atomic import replacing, temporary_path
from manifests.io.digest import bytes_digest, canonical_json
from manifests.io.json_yaml import write_json_lines
from manifests.io.progress import Progress
from manifests.plan.plan import PASSED_OVER, Plan
from manifests.recipe.noises import Babble
from manifests.recipe.steps import noise_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from corpus_builder.plan.materials.noise_levels import NoiseFile
    from corpus_builder.plan.materials.split_materials import AnyRoom
    from corpus_builder.sources.roots import Located
    from corpus_builder.workers.resume_cache import PartialResults
    from manifests.io.place import Place
    from manifests.recipe.recipe import Recipe


@dataclass(frozen=True)
class PlanJob:
    """What a plan is made from, and how.

    Attributes:
        recipe: What is wanted.
        sources: Its sources on this machine.
        folder: The plan's folder.
        noise_cache: Noises that an interrupted run has read.
        header_cache: Lengths of files that an interrupted run has counted.
        room_cache: Rooms that an interrupted run has calibrated or read.
        limit: Only so many utterances a split.
        workers: Number of processes.
        progress: Show how far it is.
    """

    recipe: Recipe
    sources: Mapping[str, Located]
    folder: Path
    noise_cache: PartialResults
    room_cache: PartialResults
    header_cache: PartialResults
    limit: int | None = None
    workers: int = 1
    progress: bool = True


@dataclass(frozen=True)
class StoredSplit:
    """The utterances of one split.

    Attributes:
        store: Takes them back in any order.
        num_samples: Their length at the corpus rate, all together.
        unused: What its source has besides, with reasons.
        cut_through: How many supervisions reach beyond their cuts.
    """

    store: UtteranceStore
    num_samples: int
    unused: tuple[Refused | LeftOut, ...]
    cut_through: int


Unused = tuple[str, Refused | LeftOut]
"""What cannot be used, with the name of its split, noise source or bank."""


def write_plan(job: PlanJob, *, recipe_sha256: str) -> tuple[dict[str, Any], dict[str, Place]]:
    """Make every decision and write the files of the plan, all but `plan.json`.

    Returns:
        The content of `plan.json`, and the folder of each root.

    Raises:
        StillroomError: By what is wrong with recipe or sources.
    """
    recipe, folder = job.recipe, job.folder
    options: dict[str, Any] = {"workers": job.workers, "progress": job.progress}
    with contextlib.ExitStack() as stack:
        scratch = temporary_path(folder / "utterances")
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        splits: dict[str, StoredSplit] = {}
        commons: dict[str, str] = {}
        for split in recipe.speech:
            finder = RootFinder(job.sources[split], commons)
            store = UtteranceStore(scratch / split, split=split, seed=recipe.seed, finder=finder)
            splits[split] = fill_store(job, stack.enter_context(contextlib.closing(store)))
        listings = noise_listings(
            recipe, job.sources, functools.partial(costly_headers, cache=job.header_cache, **options)
        )
        responses = response_listings(recipe, job.sources)
        for note in filter(None, (listing.note for listing in responses)):
            print(note, file=sys.stderr)
        found = [stored.store.finder.found() for stored in splits.values()]
        found += [*(listing.root for listing in listings), *(listing.root for listing in responses)]
        roots = root_folders(found)
        for line in taken_lines(found):
            print(line, file=sys.stderr)
        noises = measure_noises(recipe, listings, cache=job.noise_cache, **options)
        simulated = plan_simulated_rooms(recipe, cache=job.room_cache, **options)
        recorded = plan_recorded_rooms(recipe, responses, cache=job.room_cache, **options)
        rooms: list[AnyRoom] = [*simulated, *recorded.rooms]
        rooms.sort(key=lambda room: (room.bank, room.room))
        digests = {
            "levels_sha256": write_lines(folder / "levels.jsonl", level_lines(noises.levels)),
            "rooms_sha256": write_lines(folder / "rooms.jsonl", [canonical_json(room) for room in rooms]),
        }
        if spectra := spectrum_rows(recipe, {split: stored.store for split, stored in splits.items()}):
            digests["spectra_sha256"] = write_lines(folder / "spectra.jsonl", spectra)
        files = usable_files(noises.levels)
        entries = [
            entry
            for split, stored in splits.items()
            for entry in write_split(job, stored, split_materials(job, stored.store, files, rooms))
        ]
    unused: list[Unused] = [(split, one) for split, stored in splits.items() for one in stored.unused]
    unused += [(listing.source, one) for listing in listings for one in listing.unused]
    unused += [(listing.bank, one) for listing in responses for one in listing.unused]
    unused += [*noises.refused, *recorded.refused]
    cut_through = {split: stored.cut_through for split, stored in splits.items() if stored.cut_through}
    document = plan_document(job, entries, unused, digests | {"recipe_sha256": recipe_sha256})
    return document | {"cut_through": cut_through}, roots


def write_lines(path: Path, lines: Sequence[bytes]) -> str:
    """Write JSON lines; returns their SHA-256."""
    write_json_lines(path, lines)
    return bytes_digest(b"".join(line + b"\n" for line in lines))


def plan_document(
    job: PlanJob, entries: list[dict[str, Any]], unused: Iterable[Unused], digests: Mapping[str, str]
) -> dict[str, Any]:
    """The content of `plan.json`."""
    refused: list[tuple[str, str, str]] = []
    filtered: dict[str, Counter[str]] = {}
    for owner, what in unused:
        if isinstance(what, Refused):
            refused.append((owner, what.id, what.reason))
        else:
            filtered.setdefault(owner, Counter())[what.reason] += what.count
    return {
        "schema": Plan.SCHEMA,
        "name": job.recipe.name,
        "sample_rate": job.recipe.sample_rate,
        "files": entries,
        **digests,
        "filtered": {owner: dict(sorted(counts.items())) for owner, counts in sorted(filtered.items())},
        "refused": [{"split": owner, "id": name, "reason": reason} for owner, name, reason in sorted(refused)],
    } | ({} if job.limit is None else {"limit": job.limit})


def fill_store(job: PlanJob, store: UtteranceStore) -> StoredSplit:
    """Read one split's source and store its utterances.

    Raises:
        NoAudioError: If no utterance is left.
        MissingFileError: If the first file does not exist: most likely the root is wrong.
    """
    split = store.split
    source, rate_hz = job.sources[split], job.recipe.sample_rate
    unused: list[Refused | LeftOut] = []
    num_samples = num_cut_through = 0
    headers = costly_headers(source, cache=job.header_cache, workers=job.workers, progress=job.progress)
    for found in utterances(source, headers):
        checked = usable(found, source, rate_hz=rate_hz)
        if isinstance(checked, Utterance):
            store.add(checked)
            num_samples += samples_of(checked, rate_hz)
            num_cut_through += int(isinstance(count := checked.custom.get(CUT_THROUGH), int) and count)
        else:
            unused.append(checked)
    unused += store.finish()
    if not len(store):
        raise NoAudioError(source.manifest or source.folder, nothing_left(split, unused))
    if not store.speaker_numbers and uses_babble(job.recipe, split):
        note = "has no speaker labels: every other utterance counts as another speaker in babble"
        print(f"{split} {note}", file=sys.stderr)
    first = store.finder.folder / store.read(int(store.order[0])).path
    if not audio_exists(first):
        raise MissingFileError(
            first, needed=f"an utterance of {split!r}; say --root {source.root}=DIR if they are elsewhere"
        )
    if source.manifest is not None:
        num_samples -= fit_to_files(job, store, unused)
    if num_cut_through:
        note = (
            f"{num_cut_through} supervisions reach beyond their cuts; their texts are whole ({CUT_THROUGH} in custom)"
        )
        print(f"{split}: {note}", file=sys.stderr)
    return StoredSplit(store, num_samples, tuple(unused), num_cut_through)


def fit_to_files(job: PlanJob, store: UtteranceStore, unused: list[Refused | LeftOut]) -> int:
    """Let utterances of a manifest that is longer than its files end where those do; what cannot be used then is added to `unused`.

    Returns:
        The number of samples that are fewer now, at the corpus rate.

    Raises:
        NoAudioError: If no utterance is left.
    """
    source, rate_hz = job.sources[store.split], job.recipe.sample_rate
    num_fewer = 0
    dropped = []
    for index, was, found in fitted_to_files(store, progress=job.progress):
        checked = usable(found, source, rate_hz=rate_hz)
        num_fewer += samples_of(was, rate_hz)
        if isinstance(checked, Utterance):
            store.shorten(index, checked.num_frames)
            num_fewer -= samples_of(checked, rate_hz)
        else:
            dropped.append(index)
            unused.append(checked)
    store.drop(dropped)
    if not len(store):
        raise NoAudioError(source.manifest or source.folder, nothing_left(store.split, unused))
    return num_fewer


def samples_of(utterance: Utterance, rate_hz: int) -> int:
    """Length of an utterance at the corpus rate."""
    return num_samples_at(utterance.num_frames, from_hz=utterance.rate_hz, to_hz=rate_hz)


def usable(found: Utterance | Refused | LeftOut, source: Located, *, rate_hz: int) -> Utterance | Refused | LeftOut:
    """An utterance that the recipe takes and a worker can render, or why it is not used."""
    shortest_s, longest_s = source.source.min_s, source.source.max_s
    match found:
        case Utterance() if found.seconds < shortest_s:
            return LeftOut(f"shorter than {shortest_s:g} s")
        case Utterance() if found.seconds > longest_s:
            return LeftOut(f"longer than {longest_s:g} s")
        case Utterance() if samples_of(found, rate_hz) < 1:
            return Refused(found.id, "has no sample at the corpus rate")
        case Utterance() if (reason := too_long(found, in_manifest=source.manifest is not None)) is not None:
            return Refused(found.id, reason)
        case _:
            return found


def uses_babble(recipe: Recipe, split: str) -> bool:
    """Whether some copy of a split may have babble in it."""
    used = {name for name, count in recipe.copies.get(split, {}).items() if count}
    sources = {source for name in used for source in noise_names(recipe.conditions[name].steps)}
    return any(isinstance(recipe.noises[source], Babble) for source in sources)


def nothing_left(split: str, unused: Sequence[Refused | LeftOut]) -> str:
    """Why a split has no utterance."""
    refused = [one for one in unused if isinstance(one, Refused)]
    first = f"; the first: {refused[0].id}: {refused[0].reason}" if refused else ""
    left_out = Counter(
        one.reason for one in unused if isinstance(one, LeftOut) and not one.reason.startswith(PASSED_OVER)
    )
    why = ": " + ", ".join(f"{count} {reason}" for reason, count in left_out.most_common()) if left_out else ""
    return f"no utterance is left for split {split!r} ({len(refused)} refused, {left_out.total()} left out by the recipe{why}){first}"


def split_materials(
    job: PlanJob, store: UtteranceStore, files: Mapping[tuple[str, str], list[NoiseFile]], rooms: Sequence[AnyRoom]
) -> Materials:
    """What the copies of one split may draw from."""
    split = store.split
    return Materials(
        seed=job.recipe.seed,
        split=split,
        rate_hz=job.recipe.sample_rate,
        noises=dict(job.recipe.noises),
        files={source: found for (source, where), found in files.items() if where == split},
        rooms={
            bank: [room for room in rooms if room.bank == bank and split in room.splits] for bank in job.recipe.rooms
        },
        store=store,
        root=job.sources[split].root,
    )


def write_split(job: PlanJob, stored: StoredSplit, materials: Materials) -> Iterator[dict[str, Any]]:
    """Draw and write the plan files of one split; yields their entries for `plan.json`."""
    store, split = stored.store, materials.split
    samples = job.recipe.shards.samples_of(
        utterances=len(store),
        num_samples=stored.num_samples,
        waves=1 + sum(job.recipe.copies.get(split, {}).values()),
    )
    total = min(len(store), job.limit or len(store))
    with Progress(f"planning {split}", total=total, unit="utterances", shown=job.progress) as display:
        for shard, indices in store.shards(samples, limit=job.limit):
            yield write_file(job, f"{split}-{shard:06d}", materials, indices)
            display.advance(len(indices))


def write_file(job: PlanJob, name: str, materials: Materials, indices: Sequence[int]) -> dict[str, Any]:
    """Draw and write the rows of one shard; returns its entry for `plan.json`."""
    state, samples = hashlib.sha256(), 0
    with replacing(job.folder / f"{name}.jsonl") as part, part.open("wb") as stream:
        for index in indices:
            row = planned_row(job.recipe, materials, index)
            line = canonical_json(row) + b"\n"
            state.update(line)
            stream.write(line)
            samples += row["num_samples"]
    seconds = round(samples / job.recipe.sample_rate, 3)
    return {
        "name": name,
        "split": materials.split,
        "rows": len(indices),
        "seconds": seconds,
        "sha256": state.hexdigest(),
    }
