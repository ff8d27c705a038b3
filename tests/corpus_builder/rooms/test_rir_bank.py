"""Which stretch of which recorded file a response of a bank is, and what is written of it: sources at two rates, read by soundfile."""

from __future__ import annotations

import errno
import hashlib
import json
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr

from corpus_builder.rooms.measured_rir import usable_response
from corpus_builder.rooms.rir_bank import (
    copied_room,
    known_at_planning,
    read_bank,
    read_response,
    write_bank,
    write_room,
)
from manifests.errors import BadDocumentError, DigestMismatchError, MissingFileError, NoSpaceLeftError
from manifests.plan.rooms import PlannedRoom, RecordedRoom
from manifests.recipe.rooms import LONGEST_RESPONSE_S
from tests.corpus_builder.conftest import write_wave
from tests.oracles.measured_response import measured_response

if TYPE_CHECKING:
    from pathlib import Path

CORPUS_HZ = 8_000


def recorded(seed: int, rate_hz: int, **numbers: Any) -> Any:
    return 0.4 * measured_response(seed=seed, rate_hz=rate_hz, t60_s=0.15, tail=0.05, seconds=0.4, **numbers)[0]


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """Two roots: in one a file of two channels at twice the corpus rate, in the other one at the corpus rate; both are `a.wav`."""
    two = np.column_stack(
        [np.concatenate([recorded(channel, 16_000), recorded(10 + channel, 16_000)]) for channel in (1, 2)]
    )
    write_wave(tmp_path / "near/a.wav", two, rate_hz=16_000, subtype="FLOAT")
    write_wave(tmp_path / "far/a.wav", recorded(3, CORPUS_HZ), rate_hz=CORPUS_HZ, subtype="FLOAT")
    return {"near": tmp_path / "near", "far": tmp_path / "far"}


def room_of(roots: dict[str, Path], **changed: Any) -> RecordedRoom:
    def digest(root: str) -> str:
        return hashlib.sha256((roots[root] / "a.wav").read_bytes()).hexdigest()

    near = {
        "root": "near",
        "path": "a.wav",
        "rate_hz": 16_000,
        "start": 0.4,
        "num_frames": 5000,
        "sha256": digest("near"),
    }
    far = {"root": "far", "path": "a.wav", "rate_hz": CORPUS_HZ, "sha256": digest("far")}
    files: list[dict[str, Any]] = [{**near, "channel": 1}, {**near, "channel": 0, "start": 0.0}, far | changed]
    places = [{"place": place, "file": file, "t30_s": 0.15} for place, file in enumerate(files)]
    return RecordedRoom.parse(
        {"bank": "hall", "room": 4, "splits": ["train"], "label": "hall", "responses": places}, where="test"
    )


def test_each_response_of_a_recorded_room_is_its_own_stretch_of_its_own_file(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    room = room_of(roots)
    near, _ = soundfile.read(roots["near"] / "a.wav", always_2d=True)
    far, _ = soundfile.read(roots["far"] / "a.wav")
    stretches = [
        soxr.resample(near[start : start + 5000, channel], 2, 1, quality="HQ") for start, channel in ((6400, 1), (0, 0))
    ]
    expected = [usable_response(wave, rate_hz=CORPUS_HZ, name="x") for wave in (*stretches, far)]
    rows = write_room(tmp_path / "rooms", room, rate_hz=CORPUS_HZ, roots=roots)
    write_bank(tmp_path / "rooms", "hall", [rows[2], rows[0], rows[1]])
    found = read_bank(tmp_path / "rooms", "hall")
    assert list(found) == ["hall-4-0", "hall-4-1", "hall-4-2"]
    for position, (row, response) in enumerate(zip(found.values(), expected, strict=True)):
        np.testing.assert_array_equal(read_response(tmp_path / "rooms", row), response.wave)
        assert (row.bank, row.room, row.position, row.rate_hz) == ("hall", 4, position, CORPUS_HZ)
        assert row.file == room.responses[position].file
        assert (row.t30_s, row.direct_sample) == (response.t30_s, response.direct_sample)
        assert row.direct_to_reverberant_db == response.direct_to_reverberant_db
        assert row.num_samples == response.wave.size
    assert len({row.sha256 for row in rows}) == 3


def test_each_file_of_a_recorded_room_must_be_the_one_that_was_planned_with(roots: dict[str, Path]) -> None:
    def copied(room: RecordedRoom) -> int:
        return len(list(copied_room(room, rate_hz=CORPUS_HZ, roots=roots)))

    assert copied(room_of(roots)) == 3
    assert copied(room_of(roots, sha256=None)) == 3  # an old plan knew none
    planned, found = "a" * 64, room_of(roots).responses[2].file.sha256
    with pytest.raises(DigestMismatchError) as refused:
        copied(room_of(roots, sha256=planned))
    assert str(refused.value) == str(DigestMismatchError(roots["far"] / "a.wav", expected=planned, found=str(found)))


def test_a_recorded_response_that_is_not_found_is_named_with_its_root(roots: dict[str, Path]) -> None:
    room = room_of(roots)
    with pytest.raises(BadDocumentError, match=r"root 'far' is not among the roots of this machine: near$"):
        list(copied_room(room, rate_hz=CORPUS_HZ, roots={"near": roots["near"]}))
    (roots["far"] / "a.wav").unlink()
    with pytest.raises(
        MissingFileError, match=r"far/a\.wav.* a response of root 'far'; say --root far=DIR if it is elsewhere"
    ):
        list(copied_room(room, rate_hz=CORPUS_HZ, roots=roots))


def test_of_a_simulated_room_each_position_has_its_own_source_and_the_rays_of_the_room() -> None:
    plain = {
        "bank": "cell", "room": 1, "splits": ["train"], "size_m": [4, 3, 2.4], "absorption": 0.4, "max_order": 3, "rt60_s": 0.2,
        "t30_s": [0.2, 0.21], "microphone_m": [1, 1, 1], "sources_m": [[2, 1, 1], [1, 2, 1.5]],
        "rays": {"count": 100, "radius_m": 0.4, "scattering": 0.2, "seed": 3},
    }  # fmt: skip
    room = PlannedRoom.parse(plain, where="test")
    assert json.loads(json.dumps(known_at_planning(room, 1), default=lambda record: record.model_dump())) == {
        "size_m": [4, 3, 2.4], "absorption": 0.4, "rays": plain["rays"], "microphone_m": [1, 1, 1], "source_m": [1, 2, 1.5],
    }  # fmt: skip
    assert known_at_planning(room, 0)["source_m"] == (2, 1, 1)


def test_where_the_disk_is_full_the_response_is_named(
    roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(
        NoSpaceLeftError, match=f"no space left while writing {tmp_path}/rooms/hall-.*npy; finished files stay"
    ):
        write_room(tmp_path / "rooms", room_of(roots), rate_hz=CORPUS_HZ, roots=roots)
    assert not list((tmp_path / "rooms").iterdir())


def test_a_bank_is_listed_by_room_and_then_by_position(roots: dict[str, Path], tmp_path: Path) -> None:
    (row, *_) = write_room(tmp_path / "rooms", room_of(roots), rate_hz=CORPUS_HZ, roots=roots)
    places = [(2, 0), (10, 1), (2, 1), (10, 0), (1, 1)]
    rows = [row.model_copy(update={"room": room, "position": at, "name": f"hall-{room}-{at}"}) for room, at in places]
    write_bank(tmp_path / "rooms", "hall", rows)
    assert list(read_bank(tmp_path / "rooms", "hall")) == ["hall-1-1", "hall-2-0", "hall-2-1", "hall-10-0", "hall-10-1"]


def test_a_response_that_its_row_calls_longer_than_any_is_not_read(roots: dict[str, Path], tmp_path: Path) -> None:
    """By the rate of its row: what is too long at 8 kHz is not at 16."""
    (row, *_) = write_room(tmp_path / "rooms", room_of(roots), rate_hz=CORPUS_HZ, roots=roots)
    most = round(LONGEST_RESPONSE_S * CORPUS_HZ)
    with pytest.raises(BadDocumentError, match=rf"hall-4-0\.npy.* more than {LONGEST_RESPONSE_S:g} s; refused"):
        read_response(tmp_path / "rooms", row.model_copy(update={"num_samples": most + 1}))
    for changed in ({"num_samples": most}, {"num_samples": most + 1, "rate_hz": 16_000}):
        with pytest.raises(BadDocumentError, match="expected a vector of"):
            read_response(tmp_path / "rooms", row.model_copy(update=changed))
