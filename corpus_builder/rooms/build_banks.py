"""Builds the room banks of a corpus in parallel; what an interrupted run has made is not made again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.rooms.rir_bank import known_at_planning, read_bank, write_bank, write_room
from corpus_builder.workers.resume_cache import PartialResults, resumed
from manifests.corpus import layout
from manifests.corpus.layout import ROOMS_FOLDER
from manifests.errors import StillroomError, UsageError
from manifests.io.digest import digest
from manifests.plan.rooms import PlannedRoom, RecordedRoom, RoomResponse, response_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from manifests.io.place import Place


@dataclass(frozen=True)
class RoomJob:
    """One planned room to be simulated, or copied, and written."""

    folder: str
    room: PlannedRoom | RecordedRoom
    rate_hz: int
    roots: tuple[tuple[str, Place], ...] = ()


def make_room(job: RoomJob) -> tuple[RoomResponse, ...]:
    """Simulate or copy one room and write it; runs in a worker."""
    return write_room(Path(job.folder), job.room, rate_hz=job.rate_hz, roots=dict(job.roots))


def planned_rooms(corpus: Path) -> dict[str, list[PlannedRoom | RecordedRoom]]:
    """The rooms of the plan by bank."""
    banks: dict[str, list[PlannedRoom | RecordedRoom]] = {}
    for room in layout.planned_rooms(corpus):
        banks.setdefault(room.bank, []).append(room)
    return banks


def is_finished(folder: Path, bank: str, rooms: Iterable[PlannedRoom | RecordedRoom]) -> bool:
    """Whether a bank's list and every file in it exist, for the rooms that are planned now."""
    wanted = {
        response_name(bank, room.room, position): known_at_planning(room, position)
        for room in rooms
        for position in range(room.num_positions)
    }
    try:
        rows = read_bank(folder, bank)
    except StillroomError:
        return False
    return set(rows) == set(wanted) and all(
        (folder / f"{name}.npy").exists() and all(getattr(row, key) == value for key, value in wanted[name].items())
        for name, row in rows.items()
    )


def check_rooms(corpus: Path, *, part: str) -> None:
    """A slice renders only when all banks are finished.

    Raises:
        UsageError: If one is not.
    """
    for bank, rooms in planned_rooms(corpus).items():
        if not is_finished(corpus / ROOMS_FOLDER, bank, rooms):
            raise UsageError(
                f"--slice {part}: room bank {bank!r} is not built yet; run `stillroom build PLAN CORPUS --rooms` once before the slices"
            )


def build_rooms(
    corpus: Path, *, roots: Mapping[str, Place] | None = None, rate_hz: int, workers: int, progress: bool = True
) -> None:
    """Simulate, or copy, every planned room that has not been built yet.

    Args:
        corpus: With a finished plan.
        roots: Folders of recorded responses.
        rate_hz: Sample rate of the corpus.
        workers: Number of processes.
        progress: Show how far it is.
    """
    folder = corpus / ROOMS_FOLDER
    for bank, rooms in planned_rooms(corpus).items():
        if is_finished(folder, bank, rooms):
            continue
        folder.mkdir(exist_ok=True)
        (folder / f"{bank}.jsonl").unlink(missing_ok=True)
        cache = PartialResults(folder / f".{bank}.partial")
        made = resumed(
            make_room,
            [RoomJob(str(folder), room, rate_hz, tuple((roots or {}).items())) for room in rooms],
            cache=cache,
            key=lambda job: digest([job.room.model_dump(mode="json"), job.rate_hz]),
            to_cache=lambda rows: [row.model_dump(mode="json") for row in rows],
            from_cache=cached_rows,
            workers=workers,
            what=f"making rooms of {bank}",
            unit="rooms",
            progress=progress,
        )
        write_bank(folder, bank, [row for rows in made for row in rows])
        cache.remove()


def cached_rows(job: RoomJob, plain: list[Any]) -> tuple[RoomResponse, ...] | None:
    """The rows of a room that an interrupted run has made; None if one of its files is gone."""
    rows = tuple(RoomResponse.parse(row, where=job.folder) for row in plain)
    return rows if rows and all((Path(job.folder) / f"{row.name}.npy").exists() for row in rows) else None
