"""The rooms of a corpus, simulated or copied once and in parallel; resumed by what is on the disk."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus_builder.rooms.rir_bank import read_bank, what_is_known, write_bank, write_room
from corpus_builder.workers.pool import mapped
from corpus_builder.workers.resume_cache import PartialResults
from manifests.errors import StillroomError, UsageError
from manifests.io.digest import digest
from manifests.io.json_yaml import read_json_lines
from manifests.io.progress import Progress
from manifests.plan.rooms import PlannedRoom, RecordedRoom, RoomResponse, parse_room, response_name

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
    path = corpus / "plan" / "rooms.jsonl"
    banks: dict[str, list[PlannedRoom | RecordedRoom]] = {}
    for number, document in enumerate(read_json_lines(path, needed="the rooms of the plan"), 1):
        room = parse_room(document, where=f"{path}:{number}")
        banks.setdefault(room.bank, []).append(room)
    return banks


def is_finished(folder: Path, bank: str, rooms: Iterable[PlannedRoom | RecordedRoom]) -> bool:
    """Whether a bank's list and every file in it are there, for the rooms that are planned now."""
    wanted = {
        response_name(bank, room.room, position): what_is_known(room, position)
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


def room_key(room: PlannedRoom | RecordedRoom, rate_hz: int) -> str:
    """What an interrupted run knows a room by."""
    return digest([room.model_dump(mode="json"), rate_hz])


def check_rooms(corpus: Path, *, part: str) -> None:
    """A slice renders only when all banks are finished.

    Raises:
        UsageError: If one is not.
    """
    for bank, rooms in planned_rooms(corpus).items():
        if not is_finished(corpus / "rooms", bank, rooms):
            raise UsageError(
                f"--slice {part}: room bank {bank!r} is not built yet; run `stillroom build PLAN CORPUS --rooms` once before the slices"
            )


def build_rooms(
    corpus: Path, *, roots: Mapping[str, Place] | None = None, rate_hz: int, workers: int, progress: bool = True
) -> None:
    """Simulate, or copy, every planned room that is not on the disk yet.

    Args:
        corpus: With a finished plan.
        roots: Where recorded responses lie.
        rate_hz: Sample rate of the corpus.
        workers: Number of processes.
        progress: Show how far it is.
    """
    folder = corpus / "rooms"
    for bank, rooms in planned_rooms(corpus).items():
        if is_finished(folder, bank, rooms):
            continue
        folder.mkdir(exist_ok=True)
        (folder / f"{bank}.jsonl").unlink(missing_ok=True)
        partial = PartialResults(folder / f".{bank}.partial")
        rows: list[RoomResponse] = []
        missing: list[PlannedRoom | RecordedRoom] = []
        for room in rooms:
            known = partial.known.get(room_key(room, rate_hz), [])
            found = [RoomResponse.parse(row, where=partial.path) for row in known]
            if found and all((folder / f"{row.name}.npy").exists() for row in found):
                rows += found
            else:
                missing.append(room)
        with contextlib.ExitStack() as stack:
            shown = None
            if progress:
                done = len(rooms) - len(missing)
                shown = stack.enter_context(Progress(f"rooms of {bank}", total=len(rooms), unit="rooms", done=done))
            needed = tuple((roots or {}).items())
            jobs = [RoomJob(str(folder), room, rate_hz, needed) for room in missing]
            results = mapped(make_room, jobs, workers=min(workers, len(jobs)), what="making rooms")
            for room, responses in zip(missing, results, strict=True):
                rows += responses
                partial.add(room_key(room, rate_hz), [row.model_dump(mode="json") for row in responses])
                if shown is not None:
                    shown.advance()
        write_bank(folder, bank, rows)
        partial.remove()
