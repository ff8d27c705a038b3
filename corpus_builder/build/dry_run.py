"""Estimates the size of a corpus and the time to build it: files are counted, a sample of the real work is timed.

The plan is made as a build would make it (in a temporary folder, unless a finished one is given). Then a few rows of shards spread
evenly over the plan are rendered, in rooms simulated for them, and their time and bytes are extrapolated to all rows by seconds of
audio, separately for each split.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from corpus_builder.build.preflight import check_places, copy_plan, limit_text
from corpus_builder.plan.make_plan import finished_plan, plan_locked
from corpus_builder.render.corpus_waves import CorpusWaves
from corpus_builder.rooms.build_banks import planned_rooms
from corpus_builder.rooms.rir_bank import write_bank, write_room
from corpus_builder.shards.writer import UNFIT, HashingStream, write_sample
from corpus_builder.sources.roots import read_roots
from manifests.corpus.layout import PLAN_FOLDER, ROOMS_FOLDER, plan_rows
from manifests.errors import UsageError, printable
from manifests.io.place import places_of
from manifests.io.progress import duration
from manifests.io.tar import TarBuilder
from manifests.io.url import Url
from manifests.plan.references import references
from manifests.plan.rooms import response_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from manifests.io.place import Place
    from manifests.plan.plan import Plan, PlanRow

SAMPLE_S = 20.0
SHARDS_A_SPLIT = 4
ROWS_A_SHARD = 8
INDEX_BYTES_A_WAVE = 250  # of a shard's index, its fingerprints and the sources it lists


@dataclass
class Timed:
    """Sums over the sampled rows of one split: seconds of audio, of processor time, and bytes."""

    audio_s: float = 0.0
    work_s: float = 0.0
    num_bytes: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a build.

    Attributes:
        files: All files of the corpus.
        temporary_bytes: What the working folder needs beside the finished shards.
        core_s: Processor time of rooms and shards.
        room_s: The part of it for rooms.
        sampled: How many utterances were rendered for the estimate.
    """

    utterances: int
    audio_s: float
    shards: int
    corpus_bytes: float
    files: int
    temporary_bytes: float
    core_s: float
    room_s: float
    sampled: int

    def lines(self, *, workers: int) -> str:
        """The estimate as text."""
        wall = duration(self.core_s / workers)
        return "\n".join(
            [
                f"{self.utterances} utterances, {self.audio_s / 3600:.2f} h of clean speech, {self.shards} shards",
                f"about {self.corpus_bytes / 1e9:.3g} GB in {self.files} files",
                f"about {self.temporary_bytes / 1e9:.2g} GB of temporary space while it is built with {workers} worker(s)",
                (
                    f"about {self.core_s / 3600:.2g} core-hours ({self.room_s / 3600:.2g} of them for rooms): {wall} with {workers} "
                    "worker(s) if each has a core"
                ),
                f"estimated from {self.sampled} utterances that were rendered and thrown away; nothing was built",
            ]
        )


def estimate(
    source: Place, *, roots: Mapping[str, Place], limit: int | None, workers: int, remote: bool, progress: bool = True
) -> Estimate:
    """Plan, render a sample, and estimate the cost of a build.

    Args:
        source: A recipe, or the folder of a finished plan.
        roots: Folder or URL of each root, as `--root` gives them.
        limit: Only so many utterances a split.
        workers: Number of processes that the build will have.
        remote: The corpus is uploaded to a URL, so that its finished shards need no space here.
        progress: Show how far planning is.

    Raises:
        StillroomError: If recipe, plan or sources are missing or damaged.
    """
    if isinstance(source, Url):
        raise UsageError(f"expected a recipe or a plan on a disk, got {printable(source)}")
    with tempfile.TemporaryDirectory(prefix="stillroom-dry-") as scratch:
        folder = Path(scratch) / "corpus"
        folder.mkdir()
        planned = finished_plan(source) if source.is_dir() else None
        if planned is None:
            planned, _ = plan_locked(source, folder, roots=roots, limit=limit, workers=workers, progress=progress)
        else:
            if limit is not None and limit != planned.limit:
                raise UsageError("--limit belongs to planning: this plan was made " + limit_text(planned.limit))
            copy_plan(planned, source, folder)
        places = places_of(read_roots(folder)) | dict(roots)
        check_places(planned, folder, places, changed=False)
        return estimated(planned, folder, places, workers=workers, remote=remote)


def estimated(plan: Plan, folder: Path, places: Mapping[str, Place], *, workers: int, remote: bool) -> Estimate:
    """Render the sample of a plan and extrapolate to all of it."""
    chosen = sampled_rows(plan, folder)
    room_s, num_responses = timed_rooms(plan, folder, places, [row for rows in chosen.values() for row in rows])
    timed = timed_rows(plan, folder, places, chosen)
    corpus_bytes = core_s = 0.0
    largest = 0.0
    for split, result in timed.items():
        files = [file for file in plan.files if file.split == split]
        bytes_a_second = result.num_bytes / result.audio_s if result.audio_s else 0.0
        work_a_second = result.work_s / result.audio_s if result.audio_s else 0.0
        corpus_bytes += bytes_a_second * sum(file.seconds for file in files)
        core_s += work_a_second * sum(file.seconds for file in files)
        largest = max(largest, *(bytes_a_second * file.seconds for file in files))
    plan_bytes = sum(path.stat().st_size for path in (folder / PLAN_FOLDER).iterdir())
    other_bytes = plan_bytes + num_responses * 4 * plan.sample_rate * 0.7
    return Estimate(
        utterances=sum(file.rows for file in plan.files),
        audio_s=sum(file.seconds for file in plan.files),
        shards=len(plan.files),
        corpus_bytes=corpus_bytes + other_bytes,
        files=4 * len(plan.files) + num_responses + len(list((folder / PLAN_FOLDER).iterdir())) + len(timed) + 8,
        temporary_bytes=largest * min(workers, len(plan.files)) + (other_bytes if remote else 0.0),
        core_s=core_s + room_s,
        room_s=room_s,
        sampled=sum(result.rows for result in timed.values()),
    )


def sampled_rows(plan: Plan, folder: Path) -> dict[str, list[PlanRow]]:
    """The first rows of each sampled plan file, consecutive as in a build, by name of the file."""
    chosen: dict[str, list[PlanRow]] = {}
    for split in dict.fromkeys(file.split for file in plan.files):
        files = [file for file in plan.files if file.split == split]
        step = max(1, len(files) // SHARDS_A_SPLIT)
        for file in files[::step][:SHARDS_A_SPLIT]:
            rows = plan_rows(folder, file.name)
            chosen[file.name] = [row for row, _ in zip(rows, range(ROWS_A_SHARD), strict=False)]
    return chosen


def timed_rooms(plan: Plan, folder: Path, places: Mapping[str, Place], rows: Iterable[PlanRow]) -> tuple[float, int]:
    """Make the rooms of the sampled rows.

    Returns:
        Processor time of all rooms of the plan, extrapolated from these, and how many responses they have.
    """
    needs = (one for row in rows for one in references(row.model_dump(mode="json")))
    wanted = {one.name for one in needs if one.role == "response"}
    total_s, num_responses = 0.0, 0
    for bank, rooms in planned_rooms(folder).items():
        num_responses += sum(room.num_positions for room in rooms)
        needed = [
            room for room in rooms
            if wanted & {response_name(bank, room.room, position) for position in range(room.num_positions)}
        ]  # fmt: skip
        begun_s = time.process_time()
        made = [write_room(folder / ROOMS_FOLDER, room, rate_hz=plan.sample_rate, roots=places) for room in needed]
        if needed:
            total_s += (time.process_time() - begun_s) * len(rooms) / len(needed)
        write_bank(folder / ROOMS_FOLDER, bank, [row for responses in made for row in responses])
    return total_s, num_responses


def timed_rows(
    plan: Plan, folder: Path, places: Mapping[str, Place], chosen: Mapping[str, list[PlanRow]]
) -> dict[str, Timed]:
    """Render the sampled rows, a row of each file in turn until the time is over; each split has one row at least.

    Each row is rendered once before it is timed, by a `CorpusWaves` of its own: a cost that occurs once in a process (imports, the delay
    of each setting of a codec) would otherwise be extrapolated to every second of the corpus.
    """
    first, waves = (CorpusWaves(folder, roots=places, rate_hz=plan.sample_rate) for _ in range(2))
    splits = {file.name: file.split for file in plan.files}
    timed = {split: Timed() for split in dict.fromkeys(splits.values())}
    end_s = time.monotonic() + SAMPLE_S
    for turn in itertools.zip_longest(*chosen.values()):
        for name, row in zip(chosen, turn, strict=True):
            result = timed[splits[name]]
            if row is None or (result.rows and time.monotonic() > end_s):
                continue
            rendered_bytes(row, first, plan.sample_rate)
            begun_s = time.process_time()
            result.num_bytes += rendered_bytes(row, waves, plan.sample_rate) + INDEX_BYTES_A_WAVE * (
                1 + len(row.copies)
            )
            result.work_s += time.process_time() - begun_s
            result.audio_s += row.num_samples / plan.sample_rate
            result.rows += 1
    return timed


def rendered_bytes(row: PlanRow, waves: CorpusWaves, rate_hz: int) -> int:
    """Bytes that one row takes in a tar: it is rendered as a build does and thrown away; 0 if it is refused."""
    stream = HashingStream(io.BytesIO())
    waves.ledger.begin()
    with contextlib.suppress(*UNFIT):
        write_sample(TarBuilder(cast("IO[bytes]", stream)), row, waves, rate_hz=rate_hz)
    return stream.size
