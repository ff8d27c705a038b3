"""When a bank of rooms is made again, and which of its rooms: rooms are written by hand, so that nothing is simulated."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.rooms import build_banks
from corpus_builder.rooms.build_banks import RoomJob, build_rooms, check_rooms, is_finished, planned_rooms
from corpus_builder.rooms.calibration import fault_of
from corpus_builder.rooms.rir_bank import known_at_planning, read_bank
from manifests.errors import UsageError
from manifests.plan.rooms import PlannedRoom, RoomResponse, response_name

if TYPE_CHECKING:
    from pathlib import Path

Calls = list[tuple[int, int]]


def plan_rooms(corpus: Path, *numbers: int, banks: tuple[str, ...] = ("cell",), height_m: float = 2.4) -> None:
    """A plan of some rooms of two positions; the same numbers in each bank."""
    rows = [
        {
            "bank": bank, "room": number, "splits": ["train"], "size_m": [3 + number, 3, height_m], "absorption": 0.4, "max_order": 3,
            "rt60_s": 0.2, "t30_s": [0.2, 0.2], "microphone_m": [1, 1, 1], "sources_m": [[2, 1, 1], [1, 2, 1]],
        }
        for number in numbers
        for bank in banks
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
            name = response_name(job.room.bank, job.room.room, position)
            np.save(Path(job.folder) / f"{name}.npy", np.ones(4, np.float32))
            measured: dict[str, Any] = {
                "t30_s": 0.2, "direct_to_reverberant_db": 1.0, "direct_sample": 1, "num_samples": 4, "sha256": "0" * 64,
            }  # fmt: skip
            known = known_at_planning(job.room, position)
            rows.append(
                RoomResponse(
                    name=name, bank=job.room.bank, room=job.room.room, position=position, rate_hz=job.rate_hz, **known, **measured
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


def test_of_several_banks_only_those_that_are_not_finished_are_made_and_a_slice_needs_all(
    tmp_path: Path, calls: Calls
) -> None:
    banks = ("cell", "hall", "room")
    plan_rooms(tmp_path, 0, 1, banks=banks)
    by_bank = planned_rooms(tmp_path)
    assert [(bank, [room.room for room in by_bank[bank]]) for bank in by_bank] == [(bank, [0, 1]) for bank in banks]
    make(tmp_path)
    assert len(calls) == 6
    check_rooms(tmp_path, part="1/2")
    (tmp_path / "rooms/hall.jsonl").unlink()
    calls.clear()
    with pytest.raises(
        UsageError, match=r"^--slice 1/2: room bank 'hall' is not built yet; run `stillroom build PLAN CORPUS --rooms`"
    ):
        check_rooms(tmp_path, part="1/2")
    make(tmp_path)
    assert calls == [(0, 16_000), (1, 16_000)]
    check_rooms(tmp_path, part="1/2")
    assert not list((tmp_path / "rooms").glob(".*"))  # what an interrupted run needed is gone


def test_a_bank_whose_rooms_were_planned_otherwise_since_is_made_again(tmp_path: Path, calls: Calls) -> None:
    plan_rooms(tmp_path, 0, 1)
    make(tmp_path)
    plan_rooms(tmp_path, 0, 1, height_m=2.5)
    assert not finished(tmp_path)
    make(tmp_path)
    assert len(calls) == 4
    assert finished(tmp_path)


def test_what_an_interrupted_run_made_of_one_bank_is_not_taken_for_another(tmp_path: Path, calls: Calls) -> None:
    plan_rooms(tmp_path, 0, 9, banks=("cell",))
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    plan_rooms(tmp_path, 0, banks=("hall", "cell"))
    calls.clear()
    make(tmp_path)
    assert calls == [(0, 16_000)]  # of the hall; the cell's was made before
    assert set(read_bank(tmp_path / "rooms", "hall")) == {"hall-0-0", "hall-0-1"}
    assert set(read_bank(tmp_path / "rooms", "cell")) == {"cell-0-0", "cell-0-1"}


def test_a_recorded_room_is_made_from_the_roots_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[RoomJob] = []

    def noted(work: Any, tasks: list[RoomJob], **options: Any) -> list[Any]:
        del work
        jobs.extend(tasks)
        assert (options["workers"], options["what"], options["unit"]) == (3, "making rooms of cell", "rooms")
        return []

    monkeypatch.setattr(build_banks, "resumed", noted)
    plan_rooms(tmp_path, 0)
    roots = {"far": tmp_path / "far", "near": tmp_path / "near"}
    build_rooms(tmp_path, roots=roots, rate_hz=8_000, workers=3, progress=False)
    assert [(job.folder, job.room.room, job.rate_hz, dict(job.roots)) for job in jobs] == [
        (str(tmp_path / "rooms"), 0, 8_000, roots)
    ]
    given: list[Any] = []
    monkeypatch.setattr(
        build_banks, "write_room", lambda folder, room, **options: given.append((folder, room.room, options)) or ()
    )
    assert build_banks.make_room(jobs[0]) == ()
    assert given == [(tmp_path / "rooms", 0, {"rate_hz": 8_000, "roots": roots})]
