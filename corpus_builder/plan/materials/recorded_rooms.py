"""Recorded rooms as they are planned: every response read and measured once, each room assigned to a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corpus_builder.audio.decode import channel_of, read_header, read_stretch
from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audio.resample import at_rate
from corpus_builder.plan.materials.split_assignment import assigned
from corpus_builder.rooms.measured_rir import UnfitResponseError, usable_response
from corpus_builder.sources.utterance import Refused
from corpus_builder.workers.resume_cache import PartialResults, resumed
from manifests.errors import BadDocumentError, MissingFileError, printable
from manifests.io.digest import file_digest
from manifests.plan.rooms import RecordedRoom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corpus_builder.sources.rir_files import ResponseListing, ResponseTask
    from manifests.recipe.recipe import Recipe


class NoResponseError(BadDocumentError):
    """No response of a bank can be used."""

    def __init__(self, bank: str, *, refused: list[str]) -> None:
        first = f"; the first: {refused[0]}" if refused else ""
        super().__init__(f"rooms.{printable(bank)}", f"no response is left of it ({len(refused)} refused{first})")


@dataclass(frozen=True)
class ReadResponse:
    """What was read of one recording: a row for each usable channel, a reason for each other one."""

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
    for number in channels:
        name = task.path if header.num_channels == 1 else f"{task.path} (channel {number})"
        try:
            span: dict[str, Any] = {
                "root": task.root,
                "path": task.path,
                "start": task.start / header.rate_hz,
                "num_frames": num_frames,
                "rate_hz": header.rate_hz,
                "channel": channel_of(header.num_channels, number, name=task.path),
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
            response = usable_response(wave, rate_hz=task.rate_hz, name=name)
        except UnfitAudioError as problem:
            reasons.append(str(problem))
        else:
            row = {"file": {key: value for key, value in span.items() if value is not None}, "t30_s": response.t30_s}
            rows.append(row)
    return ReadResponse(task, tuple(rows), tuple(reasons))


def cache_key(task: ResponseTask) -> str | None:
    """The name of a recording in the cache; None if its file has no size and time of change."""
    try:
        status = task.place.stat()  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return None
    what = (task.place, task.start, task.num_frames, task.channels, task.rate_hz, task.longest_s)
    return "\x1f".join(map(str, (*what, status.st_size, status.st_mtime_ns)))


@dataclass(frozen=True)
class RecordedRooms:
    """The recorded rooms of a recipe after every response was read.

    Attributes:
        rooms: By bank and number.
        refused: Responses that cannot be used, each with the name of its bank.
    """

    rooms: tuple[RecordedRoom, ...]
    refused: tuple[tuple[str, Refused], ...]


def plan_recorded_rooms(
    recipe: Recipe, listings: Sequence[ResponseListing], *, cache: PartialResults, workers: int, progress: bool = True
) -> RecordedRooms:
    """Read every recorded response of a recipe once and assign the rooms to the splits.

    Args:
        recipe: What is wanted.
        listings: The responses of its recorded banks.
        cache: What an interrupted run has read.
        workers: Number of processes.
        progress: Show how far it is.

    Raises:
        MissingFileError: If a file that a list or manifest names does not exist.
        NoResponseError: If nothing usable is left of a bank.
        TooFewToAssignError: If a bank has fewer rooms than there are splits.
    """
    rooms: list[RecordedRoom] = []
    refused: list[tuple[str, Refused]] = []
    for listing in listings:
        reads = resumed(
            read_response_file,
            listing.tasks,
            cache=cache,
            key=cache_key,
            to_cache=lambda read: None if read.missing else {"rows": list(read.rows), "reasons": list(read.reasons)},
            from_cache=lambda task, known: ReadResponse(task, tuple(known["rows"]), tuple(known["reasons"])),
            workers=workers,
            what=f"reading responses of {listing.bank}",
            unit="files",
            progress=progress,
        )
        for read in reads:
            if read.missing:
                needed = f"a response of {listing.bank!r}; say --root {read.task.root}=DIR if it is elsewhere"
                raise MissingFileError(read.task.place, needed=needed)
        rooms += assigned_rooms(listing, reads, recipe=recipe)
        refused += [(listing.bank, Refused(read.task.path, reason)) for read in reads for reason in read.reasons]
    return RecordedRooms(tuple(rooms), tuple(refused))


def assigned_rooms(listing: ResponseListing, reads: list[ReadResponse], *, recipe: Recipe) -> list[RecordedRoom]:
    """The rooms that have a usable response, numbered by their labels, each with the splits that may use it."""
    by_room: dict[str, list[ReadResponse]] = {}
    for read in reads:
        if read.rows:
            by_room.setdefault(read.task.room, []).append(read)
    if not by_room:
        raise NoResponseError(listing.bank, refused=[reason for read in reads for reason in read.reasons])
    splits = tuple(recipe.speech)
    split_of: dict[str, str] = {}
    if recipe.rooms[listing.bank].split == "own":
        split_of = assigned(by_room, splits, seed=recipe.seed, owner=listing.bank, what="recorded rooms")
    rooms = []
    for number, label in enumerate(sorted(by_room)):
        responses = [dict(row, place=place) for place, read in enumerate(by_room[label]) for row in read.rows]
        row = {
            "bank": listing.bank,
            "room": number,
            "splits": [split_of[label]] if split_of else list(splits),
            "label": label,
            "responses": responses,
        }
        rooms.append(RecordedRoom.parse(row, where=f"rooms.{listing.bank}"))
    return rooms
