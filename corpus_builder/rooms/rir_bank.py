"""A room bank on disk: `<bank>-<room>-<position>.npy` for each response, then `<bank>.jsonl`, the mark of a finished bank."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.rooms.measured_rir import copied_response
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, printable
from manifests.io.atomic import write_bytes
from manifests.io.digest import bytes_digest, canonical_json, file_digest
from manifests.io.json_yaml import write_json_lines
from manifests.plan.rooms import PlannedRoom, RecordedRoom, RoomResponse, response_name
from manifests.recipe.rooms import LONGEST_RESPONSE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.rooms.acoustics import Response
    from manifests.io.place import Place


def write_room(
    folder: Path, room: PlannedRoom | RecordedRoom, *, rate_hz: int, roots: Mapping[str, Place] | None = None
) -> tuple[RoomResponse, ...]:
    """Simulate a planned room, or copy a recorded one, and write its responses, each atomically.

    Args:
        folder: The corpus's `rooms` folder; the files are `<folder>/<bank>-<room>-<position>.npy`.
        room: From the plan.
        rate_hz: Sample rate of the corpus.
        roots: Folders of recorded responses.

    Returns:
        A row for each position, for `write_bank`.

    Raises:
        MissingFileError: If a recorded response does not exist.
        DigestMismatchError: If it is not the file that was planned with.
    """
    rows = []
    for position, response in enumerate(responses_of(room, rate_hz=rate_hz, roots=roots or {})):
        name = response_name(room.bank, room.room, position)
        array = io.BytesIO()  # numpy's own writing to a file does not say that a disk is full
        np.save(array, response.wave.astype("<f4"), allow_pickle=False)
        write_bytes(folder / f"{name}.npy", array.getvalue())
        row = RoomResponse(
            name=name,
            bank=room.bank,
            room=room.room,
            position=position,
            rate_hz=rate_hz,
            **known_at_planning(room, position),
            t30_s=response.t30_s,
            direct_to_reverberant_db=response.direct_to_reverberant_db,
            direct_sample=response.direct_sample,
            num_samples=response.wave.size,
            sha256=samples_digest(response.wave),
        )
        rows.append(row)
    return tuple(rows)


def responses_of(room: PlannedRoom | RecordedRoom, *, rate_hz: int, roots: Mapping[str, Place]) -> Iterable[Response]:
    """The responses of a room, by position."""
    if isinstance(room, PlannedRoom):
        from corpus_builder.rooms.calibration import simulate

        return simulate(room, rate_hz=rate_hz)
    return copied_room(room, rate_hz=rate_hz, roots=roots)


def copied_room(room: RecordedRoom, *, rate_hz: int, roots: Mapping[str, Place]) -> Iterator[Response]:
    """The responses of a recorded room; the digest of each file is checked once.

    Raises:
        DigestMismatchError: If it is not.
    """
    seen: set[Place] = set()
    for recorded in room.responses:
        response = copied_response(recorded.file, roots, rate_hz=rate_hz)
        place = roots[recorded.file.root] / recorded.file.path
        if place not in seen:
            seen.add(place)
            found = file_digest(place)
            if recorded.file.sha256 is not None and found != recorded.file.sha256:
                raise DigestMismatchError(place, expected=recorded.file.sha256, found=found)
        yield response


def known_at_planning(room: PlannedRoom | RecordedRoom, position: int) -> dict[str, Any]:
    """What the plan holds of one response: geometry, or its recorded file."""
    if isinstance(room, RecordedRoom):
        return {"file": room.responses[position].file}
    return {
        "size_m": room.size_m,
        "absorption": room.absorption,
        "rays": room.rays,
        "microphone_m": room.microphone_m,
        "source_m": room.sources_m[position],
    }


def samples_digest(wave: NDArray[np.float32]) -> str:
    """SHA-256 of the samples as little-endian float32."""
    return bytes_digest(np.ascontiguousarray(wave, dtype="<f4").tobytes())


def write_bank(folder: Path, bank: str, rows: Iterable[RoomResponse]) -> None:
    """Write `<folder>/<bank>.jsonl`, by room and position: the mark of a finished bank, so it comes after the responses."""
    ordered = sorted(rows, key=lambda row: (row.room, row.position))
    write_json_lines(folder / f"{bank}.jsonl", (canonical_json(row) for row in ordered))


def read_bank(folder: Path, bank: str) -> dict[str, RoomResponse]:
    """The rows of a finished bank by name of response.

    Raises:
        MissingFileError: If the bank is not finished.
        BadDocumentError: If a row breaks its schema.
    """
    needed = f"the responses of the room bank {bank!r}, which `stillroom build` makes before the shards"
    return {row.name: row for row in RoomResponse.read_lines(folder / f"{bank}.jsonl", needed=needed)}


def read_response(folder: Path, row: RoomResponse) -> NDArray[np.float32]:
    """Read one response and check its digest.

    Returns:
        Samples, shape (taps,), float32.

    Raises:
        MissingFileError: If it is not there.
        BadDocumentError: If it is not a plain float32 array of the length in its row.
        DigestMismatchError: If its samples are not those of its row.
    """
    path = folder / f"{row.name}.npy"
    if row.num_samples > LONGEST_RESPONSE_S * row.rate_hz:
        raise BadDocumentError(path, f"a response of more than {LONGEST_RESPONSE_S:g} s; refused")
    try:
        with path.open("rb") as stream:
            content = stream.read(4 * row.num_samples + 4096)
    except FileNotFoundError:
        raise MissingFileError(path, needed="a response of the room bank; build the rooms again") from None
    wave = plain_float32(content, path=path, num_samples=row.num_samples)
    if samples_digest(wave) != row.sha256:
        raise DigestMismatchError(path, expected=row.sha256, found=samples_digest(wave))
    return wave


def plain_float32(content: bytes, *, path: Path, num_samples: int) -> NDArray[np.float32]:
    """The samples of an `.npy` file's content; anything but one plain float32 vector of that length is refused."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, kind = (
            np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else ((), False, np.dtype("O"))
        )
    except ValueError as problem:
        raise BadDocumentError(path, f"not an .npy file: {printable(problem)}") from None
    samples = content[stream.tell() :]
    if shape != (num_samples,) or kind != np.dtype("<f4") or len(samples) != 4 * num_samples:
        raise BadDocumentError(
            path, f"expected a vector of {num_samples} float32 samples, found {kind} of shape {shape}"
        )
    return np.frombuffer(samples, dtype="<f4").astype(np.float32)
