"""How large a corpus will be and how long it takes, before it is built: everything counted, a sample of the real work timed.

The plan is made for real (in a temporary folder, unless a finished one is given). Then a few rows of shards that lie evenly over
the plan are rendered as a build would render them, in rooms simulated for them, and what they cost and weigh is carried over
to all rows by their seconds of audio, each split by itself.
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
from corpus_builder.plan.make_plan import finished_plan, make_plan
from corpus_builder.render.corpus_waves import CorpusWaves
from corpus_builder.rooms.build_banks import planned_rooms
from corpus_builder.rooms.rir_bank import write_bank, write_room
from corpus_builder.shards.writer import UNFIT, HashingStream, ShardTask, plan_rows, write_sample
from corpus_builder.sources.roots import read_roots
from manifests.errors import UsageError, printable
from manifests.io.place import place_of
from manifests.io.progress import duration
from manifests.io.tar import TarBuilder
from manifests.io.url import Url
from manifests.plan.rooms import response_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from manifests.io.place import Place
    from manifests.plan.plan import Plan, PlanFile, PlanRow

SAMPLE_S = 20.0
SHARDS_A_SPLIT = 4
ROWS_A_SHARD = 8
INDEX_BYTES_A_WAVE = 250  # of a shard's index, its fingerprints and the sources it lists


@dataclass
class Timed:
    """What the sampled rows of one split came to: seconds of audio, of processor time, and bytes."""

    audio_s: float = 0.0
    work_s: float = 0.0
    num_bytes: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a build will come to.

    Attributes:
        files: All files of the corpus.
        temporary_bytes: What the place of work needs beside the finished shards.
        core_s: Processor time of rooms and shards.
        room_s: The rooms' share of it.
        sampled: How many utterances were rendered to find out.
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
        """For a person."""
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
                f"from {self.sampled} utterances that were rendered, in rooms that were simulated, and thrown away; nothing was built",
            ]
        )


def estimate(
    source: Place, *, roots: Mapping[str, Place], limit: int | None, workers: int, remote: bool, progress: bool = True
) -> Estimate:
    """Plan, render a sample, and say what a build will come to.

    Args:
        source: A recipe, or the folder of a finished plan.
        roots: Where roots lie, by `--root`.
        limit: Only so many utterances a split.
        workers: Number of processes that the build will have.
        remote: The corpus is sent to a URL, so that its finished shards need no space here.
        progress: Show how far planning is.

    Raises:
        StillroomError: By what is wrong with recipe, plan or sources.
    """
    if isinstance(source, Url):
        raise UsageError(f"{printable(source)}: a recipe or a plan on a disk is due here")
    with tempfile.TemporaryDirectory(prefix="stillroom-dry-") as scratch:
        folder = Path(scratch) / "corpus"
        folder.mkdir()
        planned = finished_plan(source) if source.is_dir() else None
        if planned is None:
            planned, _ = make_plan(source, folder, roots=roots, limit=limit, workers=workers, progress=progress)
        else:
            if limit is not None and limit != planned.limit:
                raise UsageError("--limit belongs to planning: this plan was made " + limit_text(planned.limit))
            copy_plan(planned, source, folder)
        places = {**{name: place_of(place) for name, place in read_roots(folder).items()}, **roots}
        check_places(planned, folder, places, changed=False)
        return estimated(planned, folder, places, workers=workers, remote=remote)


def estimated(plan: Plan, folder: Path, places: Mapping[str, Place], *, workers: int, remote: bool) -> Estimate:
    """Render the sample of a plan and carry it over to all of it."""
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
    plan_bytes = sum(path.stat().st_size for path in (folder / "plan").iterdir())
    above = plan_bytes + num_responses * 4 * plan.sample_rate * 0.7
    return Estimate(
        utterances=sum(file.rows for file in plan.files),
        audio_s=sum(file.seconds for file in plan.files),
        shards=len(plan.files),
        corpus_bytes=corpus_bytes + above,
        files=5 * len(plan.files) + num_responses + len(list((folder / "plan").iterdir())) - len(plan.files) + 8,
        temporary_bytes=largest * min(workers, len(plan.files)) + (above if remote else 0.0),
        core_s=core_s + room_s,
        room_s=room_s,
        sampled=sum(result.rows for result in timed.values()),
    )


def sampled_rows(plan: Plan, folder: Path) -> dict[str, list[PlanRow]]:
    """Some rows of each plan file that is looked at, neighbours as in a build, by name of the file."""
    chosen: dict[str, list[PlanRow]] = {}
    for split in dict.fromkeys(file.split for file in plan.files):
        files = [file for file in plan.files if file.split == split]
        step = max(1, len(files) // SHARDS_A_SPLIT)
        for file in files[::step][:SHARDS_A_SPLIT]:
            rows = plan_rows(task_of(file, folder, plan))
            chosen[file.name] = [row for row, _ in zip(rows, range(ROWS_A_SHARD), strict=False)]
    return chosen


def task_of(file: PlanFile, folder: Path, plan: Plan) -> ShardTask:
    """The task of a plan file."""
    return ShardTask(str(folder), file.name, file.split, file.sha256, plan.sample_rate, file.rows, ())


def responses_in(value: object) -> Iterator[str]:
    """Names of the room responses anywhere in a row, as plain data."""
    if isinstance(value, dict):
        if isinstance(name := value.get("response"), str):
            yield name
        for item in value.values():
            yield from responses_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from responses_in(item)


def timed_rooms(plan: Plan, folder: Path, places: Mapping[str, Place], rows: Iterable[PlanRow]) -> tuple[float, int]:
    """Make the rooms that the sampled rows stand in.

    Returns:
        Processor time of all rooms of the plan, carried over from these, and how many responses they have.
    """
    wanted = {name for row in rows for name in responses_in(row.model_dump(mode="json"))}
    total_s, num_responses = 0.0, 0
    for bank, rooms in planned_rooms(folder).items():
        num_responses += sum(room.num_positions for room in rooms)
        needed = [
            room for room in rooms
            if wanted & {response_name(bank, room.room, position) for position in range(room.num_positions)}
        ]  # fmt: skip
        begun_s = time.process_time()
        made = [write_room(folder / "rooms", room, rate_hz=plan.sample_rate, roots=places) for room in needed]
        if needed:
            total_s += (time.process_time() - begun_s) * len(rooms) / len(needed)
        write_bank(folder / "rooms", bank, [row for responses in made for row in responses])
    return total_s, num_responses


def timed_rows(
    plan: Plan, folder: Path, places: Mapping[str, Place], chosen: Mapping[str, list[PlanRow]]
) -> dict[str, Timed]:
    """Render the sampled rows, the files taking turns until the time is over; each split has one row at least.

    Each row is rendered once before it is timed, by waves of its own: what is paid once in a process (imports, the delay of each setting
    of a codec) would else be carried over to every second of the corpus.
    """
    once, waves = (CorpusWaves(folder, roots=places, rate_hz=plan.sample_rate) for _ in range(2))
    splits = {file.name: file.split for file in plan.files}
    timed = {split: Timed() for split in dict.fromkeys(splits.values())}
    end_s = time.monotonic() + SAMPLE_S
    for turn in itertools.zip_longest(*chosen.values()):
        for name, row in zip(chosen, turn, strict=True):
            result = timed[splits[name]]
            if row is None or (result.rows and time.monotonic() > end_s):
                continue
            weigh(row, once, plan.sample_rate)
            begun_s = time.process_time()
            result.num_bytes += weigh(row, waves, plan.sample_rate) + INDEX_BYTES_A_WAVE * (1 + len(row.copies))
            result.work_s += time.process_time() - begun_s
            result.audio_s += row.num_samples / plan.sample_rate
            result.rows += 1
    return timed


def weigh(row: PlanRow, waves: CorpusWaves, rate_hz: int) -> int:
    """Render one row as a build does and throw it away; gives its bytes in a tar, none if it is refused."""
    stream = HashingStream(io.BytesIO())
    waves.ledger.begin()
    with contextlib.suppress(*UNFIT):
        write_sample(TarBuilder(cast("IO[bytes]", stream)), row, waves, rate_hz=rate_hz)
    return stream.size
