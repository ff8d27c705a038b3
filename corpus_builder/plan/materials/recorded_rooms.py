"""Recorded rooms as they are planned: every response read and measured once, its room dealt to a split."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.decode import channel_of, read_header, read_stretch
from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audio.resample import at_rate
from corpus_builder.plan.materials.split_assignment import dealt
from corpus_builder.rooms.measured_rir import UnfitResponseError, taken_response
from corpus_builder.sources.rir_files import ResponseTask, response_tasks
from corpus_builder.workers.pool import mapped
from manifests.errors import BadDocumentError, MissingFileError, printable
from manifests.io.digest import file_digest
from manifests.io.progress import Progress
from manifests.plan.rooms import RecordedRoom
from manifests.recipe.rooms import RecordedBank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corpus_builder.sources.roots import Located
    from corpus_builder.workers.resume_cache import PartialResults
    from manifests.io.place import Place
    from manifests.recipe.recipe import Recipe


class NoResponseError(BadDocumentError):
    """No response of a bank can be used."""

    def __init__(self, bank: str, *, refused: list[str]) -> None:
        first = f"; the first: {refused[0]}" if refused else ""
        super().__init__(f"rooms.{printable(bank)}", f"no response is left of it ({len(refused)} refused{first})")


@dataclass(frozen=True)
class ReadResponse:
    """What reading one recording gave: a row a usable channel, and a reason for each other one."""

    task: ResponseTask
    rows: tuple[dict[str, Any], ...]
    reasons: tuple[str, ...]
    missing: bool = False


def read_response_file(task: ResponseTask) -> ReadResponse:
    """Read and measure every channel of one recording; runs in a worker, about 20 ms a channel."""
    rows: list[dict[str, Any]] = []
    reasons: list[str] = []
    try:
        header = read_header(task.place, name=task.path)
        num_frames = header.num_frames - task.start if task.num_frames is None else task.num_frames
        if num_frames > task.longest_s * header.rate_hz:
            seconds = num_frames / header.rate_hz
            what = f"lasts {seconds:.1f} s: a recording, not a response (at most {task.longest_s:g} s)"
            raise UnfitResponseError(task.path, what)
        sha256 = file_digest(task.place)
        channels = range(header.num_channels) if task.channels is None else task.channels
    except UnfitAudioError as problem:
        return ReadResponse(task, (), (str(problem),), missing=isinstance(problem, MissingAudioError))
    for asked in channels:
        name = task.path if header.num_channels == 1 else f"{task.path} (channel {asked})"
        try:
            span: dict[str, Any] = {
                "root": task.root,
                "path": task.path,
                "start": task.start / header.rate_hz,
                "num_frames": num_frames,
                "rate_hz": header.rate_hz,
                "channel": channel_of(header.num_channels, asked, name=task.path),
                "sha256": sha256,
            }
            wave = read_stretch(
                task.place,
                name=name,
                start=task.start,
                num_frames=num_frames,
                channel=span["channel"],
                rate_hz=header.rate_hz,
            )
            wave = at_rate(wave, from_hz=header.rate_hz, to_hz=task.rate_hz)
            response = taken_response(wave, rate_hz=task.rate_hz, name=name)
        except UnfitAudioError as problem:
            reasons.append(str(problem))
        else:
            row = {"file": {key: value for key, value in span.items() if value is not None}, "t30_s": response.t30_s}
            rows.append(row)
    return ReadResponse(task, tuple(rows), tuple(reasons))


def cache_key(task: ResponseTask) -> str | None:
    """What an interrupted run knows a recording by; None if its file tells no size and time of change."""
    try:
        status = task.place.stat()  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return None
    what = (task.place, task.start, task.num_frames, task.channels, task.rate_hz, task.longest_s)
    return "\x1f".join(map(str, (*what, status.st_size, status.st_mtime_ns)))


def plan_recorded_rooms(
    recipe: Recipe,
    sources: Mapping[str, Located],
    *,
    done: PartialResults,
    workers: int,
    refuse: Callable[[str, str, str], None],
    places: dict[str, Place],
    progress: bool = True,
) -> list[RecordedRoom]:
    """Every recorded room of a recipe, by bank and number.

    Args:
        recipe: What is wanted.
        sources: Where the sources lie.
        done: What an interrupted run has read.
        workers: Number of processes.
        refuse: Called with bank, file and reason for each response that cannot be used.
        places: Takes the real folder of each root.
        progress: Show how far it is.

    Raises:
        MissingFileError: If a file that a list or manifest names is not there.
        NoResponseError: If nothing usable is left of a bank.
        TooFewToDealError: If a bank has fewer rooms than there are splits.
    """
    rooms: list[RecordedRoom] = []
    for name, bank in recipe.rooms.items():
        if not isinstance(bank, RecordedBank):
            continue
        tasks = response_tasks(
            name, bank, sources[name], rate_hz=recipe.sample_rate, refuse=refuse, places=places, tell=tell
        )
        found = reads_of(name, tasks, done=done, workers=workers, progress=progress)
        reasons: list[str] = []
        for read in found:
            if read.missing:
                needed = f"a response of {name!r}; say --root {read.task.root}=DIR if it lies elsewhere"
                raise MissingFileError(read.task.place, needed=needed)
            for reason in read.reasons:
                refuse(name, read.task.path, reason)
                reasons.append(reason)
        rooms += dealt_rooms(name, bank, found, recipe=recipe, reasons=reasons)
    return rooms


def tell(line: str) -> None:
    """Say something that a user should know."""
    print(line, file=sys.stderr)


def reads_of(
    name: str, tasks: list[ResponseTask], *, done: PartialResults, workers: int, progress: bool
) -> list[ReadResponse]:
    """What each recording gave, in the order of the tasks; what an interrupted run has read is not read again."""
    keys = [cache_key(task) for task in tasks]
    unread = [task for task, key in zip(tasks, keys, strict=True) if key not in done.known]
    with contextlib.ExitStack() as stack:
        shown = None
        if progress and unread:
            known = len(tasks) - len(unread)
            shown = stack.enter_context(Progress(f"responses of {name}", total=len(tasks), unit="files", done=known))
        reads = mapped(read_response_file, unread, workers=min(workers, len(unread)), what="reading responses")
        found: list[ReadResponse] = []
        for task, key in zip(tasks, keys, strict=True):
            if key in done.known:
                found.append(ReadResponse(task, tuple(done.known[key]["rows"]), tuple(done.known[key]["reasons"])))
                continue
            read = next(reads)
            found.append(read)
            if key is not None and not read.missing:
                done.add(key, {"rows": list(read.rows), "reasons": list(read.reasons)})
            if shown is not None:
                shown.advance()
        next(reads, None)  # its end lets the workers go
    return found


def dealt_rooms(
    name: str, bank: RecordedBank, found: list[ReadResponse], *, recipe: Recipe, reasons: list[str]
) -> list[RecordedRoom]:
    """The rooms that have a usable response, numbered by their labels, each with the splits that may use it."""
    by_room: dict[str, list[ReadResponse]] = {}
    for read in found:
        if read.rows:
            by_room.setdefault(read.task.room, []).append(read)
    if not by_room:
        raise NoResponseError(name, refused=reasons)
    splits = tuple(recipe.speech)
    owner = dealt(by_room, splits, seed=recipe.seed, deck=name, what="recorded rooms") if bank.split == "own" else {}
    rooms = []
    for number, label in enumerate(sorted(by_room)):
        responses = [dict(row, place=place) for place, read in enumerate(by_room[label]) for row in read.rows]
        row = {
            "bank": name,
            "room": number,
            "splits": [owner[label]] if owner else list(splits),
            "label": label,
            "responses": responses,
        }
        rooms.append(RecordedRoom.parse(row, where=f"rooms.{name}"))
    return rooms
