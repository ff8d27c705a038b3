"""A room bank on disk: `<bank>-<room>-<position>.npy` for each response, then `<bank>.jsonl`, the mark of a finished bank."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.rooms import simulate
from manifests.digest import bytes_digest, canonical_json
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, printable
from manifests.files import read_json_lines, replacing, write_json_lines
from manifests.responses import RoomResponse, response_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from manifests.plan import PlannedRoom

MAX_RESPONSE_S = 30.0


def write_room(folder: Path, room: PlannedRoom, *, rate_hz: int) -> tuple[RoomResponse, ...]:
    """Simulate a planned room and write its responses as `<folder>/<bank>-<room>-<position>.npy`, each atomically.

    Args:
        folder: The corpus's `rooms` folder.
        room: From the plan.
        rate_hz: Sample rate of the corpus.

    Returns:
        A row for each position, for `write_bank`.
    """
    rows = []
    for position, response in enumerate(simulate(room, rate_hz=rate_hz)):
        name = response_name(room.bank, room.room, position)
        with replacing(folder / f"{name}.npy") as part, part.open("wb") as stream:
            np.save(stream, response.wave.astype("<f4"), allow_pickle=False)
        row = RoomResponse(
            name=name,
            bank=room.bank,
            room=room.room,
            position=position,
            rate_hz=rate_hz,
            size_m=room.size_m,
            absorption=room.absorption,
            microphone_m=room.microphone_m,
            source_m=room.sources_m[position],
            t30_s=response.t30_s,
            direct_to_reverberant_db=response.direct_to_reverberant_db,
            direct_sample=response.direct_sample,
            num_samples=response.wave.size,
            sha256=samples_digest(response.wave),
        )
        rows.append(row)
    return tuple(rows)


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
    path = folder / f"{bank}.jsonl"
    documents = read_json_lines(
        path, needed=f"the rooms of bank {bank!r} are made by `stillroom build` before its shards"
    )
    rows = [RoomResponse.parse(document, where=f"{path}:{number}") for number, document in enumerate(documents, 1)]
    return {row.name: row for row in rows}


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
    if row.num_samples > MAX_RESPONSE_S * row.rate_hz:
        raise BadDocumentError(path, f"a response of more than {MAX_RESPONSE_S:g} s; refused")
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
        raise BadDocumentError(path, f"a vector of {num_samples} float32 samples is due, found {kind} of shape {shape}")
    return np.frombuffer(samples, dtype="<f4").astype(np.float32)
