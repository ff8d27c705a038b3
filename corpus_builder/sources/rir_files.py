"""Which files hold recorded responses, and which of them were recorded in one room: a folder, a lhotse manifest or a list."""

from __future__ import annotations

import dataclasses
import posixpath
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.sources.folder import labelled_files, passed_over
from corpus_builder.sources.lhotse_cut import custom_fields, cut_channels, sample_number, transform_reason
from corpus_builder.sources.lhotse_manifest import UnsafeAudioSourceError, manifest_items, manifest_lines
from corpus_builder.sources.relative_paths import FoundRoot, RootFinder
from corpus_builder.sources.utterance import LeftOut, NoAudioError, Refused
from manifests.errors import BadDocumentError, printable
from manifests.recipe.rooms import RecordedBank, ResponseSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corpus_builder.sources.roots import Located
    from manifests.io.place import Place
    from manifests.recipe.recipe import Recipe

ROOM_LABELS = ("room", "room_id")


@dataclass(frozen=True)
class ListedResponse:
    """One recording of a response, as its source describes it.

    Attributes:
        path: As for an utterance: relative to its root, or absolute until the root is known.
        start: First frame; `num_frames` None means to the end.
        channels: Which may be used; None means all that the file has.
        labels: Other fields of the source.
    """

    path: str
    start: int = 0
    num_frames: int | None = None
    channels: tuple[int, ...] | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseTask:
    """One recording to be read and measured; `room` is the label of the room it was made in."""

    bank: str
    root: str
    path: str
    place: Place
    room: str
    start: int
    num_frames: int | None
    channels: tuple[int, ...] | None
    longest_s: float
    rate_hz: int


@dataclass(frozen=True)
class ResponseListing:
    """The responses of one recorded bank.

    Attributes:
        bank: Its name.
        tasks: One for each recording that can be used, in the order of paths.
        unused: The other recordings, with the reason of each.
        root: Where its files are.
        note: How recordings were grouped into rooms, where the recipe leaves it open; empty otherwise.
    """

    bank: str
    tasks: tuple[ResponseTask, ...]
    unused: tuple[Refused | LeftOut, ...]
    root: FoundRoot
    note: str


def response_listings(recipe: Recipe, sources: Mapping[str, Located]) -> list[ResponseListing]:
    """The responses of every recorded bank, in the order of the recipe."""
    return [
        response_listing(name, bank, sources[name], rate_hz=recipe.sample_rate)
        for name, bank in recipe.rooms.items()
        if isinstance(bank, RecordedBank)
    ]


def response_listing(name: str, bank: RecordedBank, located: Located, *, rate_hz: int) -> ResponseListing:
    """Every recording of a bank, each once.

    Args:
        name: Of the bank.
        bank: As the recipe has it.
        located: Where its source is.
        rate_hz: Sample rate of the corpus.

    Raises:
        NoAudioError: If there is nothing at all.
        BadDocumentError: If list or manifest are not what they should be, or a recording has no value for the named field.
        UnsafeAudioSourceError: If one names a command or a URL as audio.
    """
    everything = list(listed_responses(located))
    listed = [found for found in everything if isinstance(found, ListedResponse)]
    if not listed:
        why = next(
            (f" (the first, {found.id}: {found.reason})" for found in everything if isinstance(found, Refused)), ""
        )
        raise NoAudioError(
            located.manifest or located.folder, f"names no response that could be used for rooms.{printable(name)}{why}"
        )
    located = with_place(located, listed[0].path)
    finder = RootFinder(located)
    paths = [finder.add(response.path) for response in listed]
    unique: dict[tuple[str, int, int | None, tuple[int, ...] | None], ListedResponse] = {}
    for response, path in zip(listed, paths, strict=True):
        unique.setdefault((finder.relative(path), response.start, response.num_frames, response.channels), response)
    rooms, note = room_labels({key: response.labels for key, response in unique.items()}, room=bank.room, bank=name)
    assert isinstance(located.source, ResponseSource)
    assert located.source.channel != "mix"
    tasks = [
        ResponseTask(
            bank=name,
            root=located.root,
            path=key[0],
            place=finder.folder / key[0],
            room=rooms[key],
            start=key[1],
            num_frames=key[2],
            channels=key[3] if located.source.channel is None else (located.source.channel,),
            longest_s=located.source.max_s,
            rate_hz=rate_hz,
        )
        for key in unique
    ]
    tasks.sort(key=lambda task: (task.path, task.start, task.channels or ()))
    unused = tuple(found for found in everything if isinstance(found, Refused | LeftOut))
    return ResponseListing(name, tuple(tasks), unused, finder.found(), note)


def room_labels(labels: dict[Any, dict[str, Any]], *, room: str | None, bank: str) -> tuple[dict[Any, str], str]:
    """The room of each recording: by the recipe's field, else by `room` or `room_id`, else by folder, else each its own.

    Returns:
        The rooms, and a note for the user where folders or files decided.

    Raises:
        BadDocumentError: If a recording lacks the recipe's field, or only some have the default one.
    """
    field_name = room or next((name for name in ROOM_LABELS if any(name in known for known in labels.values())), None)
    if field_name is not None:
        for key, known in labels.items():
            if known.get(field_name) is None:
                raise BadDocumentError(
                    f"rooms.{bank}.room",
                    f"{printable(key[0])} has no field {field_name!r}, which names the room; choose another with room:, or give all "
                    "one (in fields, a table, the cuts' custom or the list's options)",
                )
        return {key: str(known[field_name]) for key, known in labels.items()}, ""
    folders = {key: posixpath.dirname(key[0]) for key in labels}
    unlabelled = f"rooms.{bank}: no field names the room of a response; each of"
    if len(set(folders.values())) > 1:
        return folders, f"{unlabelled} {len(set(folders.values()))} folders counts as one room"
    rooms = {key: f"{key[0]}@{key[1]}" if key[1] else key[0] for key in labels}
    return rooms, f"{unlabelled} {len(labels)} recordings counts as one room (room: in fields)"


def with_place(located: Located, path: str) -> Located:
    """A list's relative paths start at the nearest folder above it below which its first file exists, as Kaldi's users keep them."""
    if located.place is not None or located.manifest is None or path.startswith("/"):
        return located
    for folder in located.manifest.parents:
        if (folder / path).exists():
            return dataclasses.replace(located, place=Path(folder))
    return located


def listed_responses(located: Located) -> Iterator[ListedResponse | Refused | LeftOut]:
    """Everything that a source holds."""
    assert isinstance(located.source, ResponseSource)
    if located.manifest is None:
        yield from folder_responses(located)
    elif located.source.list is not None:
        yield from list_responses(located.manifest)
    else:
        for cut in manifest_items(located.manifest):
            yield cut if isinstance(cut, Refused) else cut_response(cut)


def folder_responses(located: Located) -> Iterator[ListedResponse | Refused | LeftOut]:
    """The audio files below a folder, then how many other files there are."""
    others: Counter[str] = Counter()
    for found in labelled_files(located, others=others):
        if isinstance(found, Refused):
            yield found
        elif not isinstance(found, LeftOut):
            below, labels = found
            path = f"{located.prefix}/{below}" if located.prefix else below
            if labels is None:
                yield Refused(printable(path), f"its path does not fit the template {located.source.fields!r}")
            else:
                yield ListedResponse(path, labels=labels)
    yield from passed_over(others)


def list_responses(path: Path) -> Iterator[ListedResponse]:
    """The lines of a list; empty ones and those that begin with # are passed over.

    Raises:
        BadDocumentError: If a line names no file, or is not text.
        UnsafeAudioSourceError: If it names a command or a URL.
    """
    count = 0
    for number, line in manifest_lines(path):
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise BadDocumentError(where, "is not UTF-8 text; expected a list with one path a line") from None
        if not text or text.startswith("#"):
            continue
        count += 1
        yield line_response(text, where=where)
    if not count:
        raise NoAudioError(path, "the list has no line")


def line_response(text: str, *, where: str) -> ListedResponse:
    """One line: options with their values, as `--room-id 7` or `--room-id=7`, then the path, which may hold spaces."""
    labels: dict[str, Any] = {}
    rest = text
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        option, equals, value = option[2:].partition("=")
        if not equals:
            value, _, rest = rest.lstrip().partition(" ")
        rest = rest.lstrip()
        labels[option.replace("-", "_")] = value
    if not rest or "\0" in rest:
        raise BadDocumentError(where, f"names no file: {printable(text, limit=80)!r}; expected options and then a path")
    if rest.startswith(("|", "pipe:")) or rest.endswith("|"):
        raise UnsafeAudioSourceError(where, kind="command")
    if "://" in rest:
        raise UnsafeAudioSourceError(where, kind="url")
    return ListedResponse(rest, labels=labels)


def cut_response(cut: Any) -> ListedResponse | Refused:
    """One cut, or a reason why it cannot be used."""
    name = printable(cut.id)
    try:
        if cut.recording is None:
            return Refused(name, "has no recording")
        reason = transform_reason(cut.recording)
        if reason is not None:
            return Refused(name, reason)
        channels = cut_channels(cut)
        sources = [source for source in cut.recording.sources if set(source.channels) & set(channels)]
        if len(sources) != 1:
            return Refused(name, f"its channels are in {len(sources)} files; expected one")
        audio = sources[0]
        rate_hz = cut.recording.sampling_rate
        start, num_frames = sample_number(cut.start, rate_hz), sample_number(cut.duration, rate_hz)
        whole = start == 0 and num_frames >= cut.recording.num_samples
        places = tuple(audio.channels.index(channel) for channel in channels if channel in audio.channels)
        return ListedResponse(
            str(audio.source),
            start=start,
            num_frames=None if whole else min(num_frames, cut.recording.num_samples - start),
            channels=places,
            labels=custom_fields(cut, cut.supervisions),
        )
    except (TypeError, AttributeError, ValueError, ArithmeticError, LookupError) as problem:
        # lhotse takes any type for any field, and fails where the field is used
        return Refused(name, f"a field of it has a wrong type or value: {printable(problem, limit=100)}")
