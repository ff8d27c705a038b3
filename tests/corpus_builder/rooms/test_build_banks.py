"""When a bank of rooms is made again, and which of its rooms: rooms are written by hand, so that nothing is simulated."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.rooms import build_banks
from corpus_builder.rooms.build_banks import RoomJob, build_rooms, is_finished, planned_rooms
from corpus_builder.rooms.calibration import fault_of
from corpus_builder.rooms.rir_bank import known_at_planning
from manifests.plan.rooms import PlannedRoom, RoomResponse, response_name

if TYPE_CHECKING:
    from pathlib import Path

Calls = list[tuple[int, int]]


def plan_rooms(corpus: Path, *numbers: int) -> None:
    """A plan of some rooms of two positions."""
    rows = [
        {
            "bank": "cell", "room": number, "splits": ["train"], "size_m": [3 + number, 3, 2.4], "absorption": 0.4, "max_order": 3,
            "rt60_s": 0.2, "t30_s": [0.2, 0.2], "microphone_m": [1, 1, 1], "sources_m": [[2, 1, 1], [1, 2, 1]],
        }
        for number in numbers
    ]  # fmt: skip
    (corpus / "plan").mkdir(exist_ok=True)
    (corpus / "plan/rooms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Room and rate of each room that was made; room 9 is never finished."""
    made: Calls = []

    def make_room(job: RoomJob) -> tuple[RoomResponse, ...]:
        from pathlib import Path

        made.append((job.room.room, job.rate_hz))
        if job.room.room == 9:
            raise KeyboardInterrupt
        rows = []
        for position in range(job.room.num_positions):
            assert isinstance(job.room, PlannedRoom)
            name = response_name("cell", job.room.room, position)
            np.save(Path(job.folder) / f"{name}.npy", np.ones(4, np.float32))
            measured: dict[str, Any] = {
                "t30_s": 0.2, "direct_to_reverberant_db": 1.0, "direct_sample": 1, "num_samples": 4, "sha256": "0" * 64,
            }  # fmt: skip
            known = known_at_planning(job.room, position)
            rows.append(
                RoomResponse(
                    name=name, bank="cell", room=job.room.room, position=position, rate_hz=job.rate_hz, **known, **measured
                )
            )  # fmt: skip
        return tuple(rows)

    monkeypatch.setattr(build_banks, "make_room", make_room)
    return made


def make(corpus: Path, *, rate_hz: int = 16_000) -> None:
    build_rooms(corpus, rate_hz=rate_hz, workers=1, progress=False)


def finished(corpus: Path) -> bool:
    return is_finished(corpus / "rooms", "cell", planned_rooms(corpus)["cell"])


def test_a_bank_is_finished_with_its_list_and_every_file_of_it(tmp_path: Path, calls: Calls) -> None:
    plan_rooms(tmp_path, 0, 1)
    assert not finished(tmp_path)
    make(tmp_path)
    assert finished(tmp_path)
    (tmp_path / "rooms/cell-1-1.npy").unlink()
    assert not finished(tmp_path)
    make(tmp_path)
    assert finished(tmp_path)
    assert calls == [(0, 16_000), (1, 16_000)] * 2


def test_a_bank_of_more_or_fewer_rooms_than_planned_is_not_finished(tmp_path: Path, calls: Calls) -> None:
    plan_rooms(tmp_path, 0, 1)
    make(tmp_path)
    for numbers in ((0,), (0, 1, 2)):
        plan_rooms(tmp_path, *numbers)
        assert not finished(tmp_path)
    assert len(calls) == 2


def test_while_rooms_are_made_there_is_no_list_of_an_earlier_bank(tmp_path: Path, calls: Calls) -> None:
    plan_rooms(tmp_path, 0)
    make(tmp_path)
    plan_rooms(tmp_path, 0, 9)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert calls[-1] == (9, 16_000)
    assert not (tmp_path / "rooms/cell.jsonl").exists()


def test_of_an_interrupted_bank_rooms_of_another_rate_or_without_their_files_are_made_again(
    tmp_path: Path, calls: Calls
) -> None:
    plan_rooms(tmp_path, 0, 1, 9)

    def made(rate_hz: int) -> list[int]:
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path, rate_hz=rate_hz)
        assert {rate for _, rate in calls} == {rate_hz}
        return [room for room, _ in calls]

    assert made(16_000) == [0, 1, 9]
    assert made(16_000) == [9]
    (tmp_path / "rooms/cell-0-1.npy").unlink()
    assert made(16_000) == [0, 9]
    assert made(8_000) == [0, 1, 9]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_position_of_a_room_must_have_its_reverberation_time(at: int) -> None:
    responses: list[Any] = [SimpleNamespace(t30_s=0.4, rival=0.1) for _ in range(3)]
    assert fault_of(responses, rt60_s=0.4) is None
    responses[at] = SimpleNamespace(t30_s=0.47, rival=0.1)
    assert fault_of(responses, rt60_s=0.4) == "0.40 to 0.47 s"
    responses[at] = SimpleNamespace(t30_s=0.4, rival=0.96)
    assert "0.96 times as strong" in str(fault_of(responses, rt60_s=0.4))
