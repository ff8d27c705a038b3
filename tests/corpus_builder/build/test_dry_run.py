from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.resample import at_rate
from corpus_builder.build.dry_run import (
    SAMPLE_S,
    Estimate,
    Timed,
    estimate,
    estimated,
    sampled_rows,
    timed_rooms,
    timed_rows,
)
from corpus_builder.distortions.additive_noise import segment
from corpus_builder.plan.materials.noise_power import measure_levels
from corpus_builder.render.corpus_waves import LONG_NOISE_SAMPLES
from corpus_builder.render.wave_cache import LongNoise
from corpus_builder.rooms.rir_bank import write_room
from manifests.corpus.shard_index import IndexedSample, Member
from manifests.errors import BadDocumentError, UsageError
from manifests.io.digest import canonical_json
from manifests.io.json_yaml import refuse_heavy_json
from manifests.io.place import sizes_below
from manifests.io.url import Url
from manifests.recipe.recipe import ShardSize
from tests.corpus_builder.conftest import RATE_HZ, Lab, write_wave

if TYPE_CHECKING:
    from pathlib import Path

    from manifests.plan.plan import PlanRow
    from manifests.plan.rooms import PlannedRoom


def test_a_dry_run_counts_what_a_build_makes_and_leaves_nothing(built_lab: Lab) -> None:
    before = sizes_below(built_lab.folder)
    recipe = built_lab.write_recipe()
    told = estimate(recipe, roots={}, limit=None, workers=2, remote=False, progress=False)
    assert sizes_below(built_lab.folder) == before | {"recipe.yaml": recipe.stat().st_size}
    corpus = built_lab.folder / "corpus"
    made = {name: size for name, size in sizes_below(corpus).items() if name != "roots.local.json"}
    assert (told.utterances, told.shards) == (12, len([name for name in made if name.endswith(".tar")]))
    assert told.files == len(made)
    assert told.audio_s == pytest.approx(8 * 0.575 + 4 * 0.5)
    tars = [size for name, size in made.items() if name.endswith(".tar")]
    assert told.corpus_bytes == pytest.approx(sum(made.values()), rel=0.15)
    assert told.temporary_bytes == pytest.approx(2 * max(tars), rel=0.05)  # two workers, each with a largest shard
    assert told.core_s > told.room_s > 0
    assert told.sampled == 12


def test_the_figures_of_a_dry_run_are_those_of_the_sample_times_the_whole(
    built_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With made-up measurements every figure can be had by hand: each split by its own seconds, workers side by side."""
    measured = {"train": Timed(2.0, 3.0, 1_000_000, 5), "test": Timed(1.0, 0.5, 200_000, 2)}
    monkeypatch.setattr("corpus_builder.build.dry_run.timed_rooms", lambda *_: (30.0, 7))
    monkeypatch.setattr("corpus_builder.build.dry_run.timed_rows", lambda *_: measured)
    plan, _ = built_lab.plan("figures")
    folder = built_lab.folder / "figures"
    seconds = {"train": 8 * 0.575, "test": 4 * 0.5}
    plan_bytes = sum(path.stat().st_size for path in (folder / "plan").iterdir())
    responses = 7 * 4 * RATE_HZ * 0.7
    largest = max(file.seconds * (500_000 if file.split == "train" else 200_000) for file in plan.files)
    for workers, remote in ((1, False), (2, False), (100, False), (2, True)):
        told = estimated(plan, folder, {}, workers=workers, remote=remote)
        assert told.core_s == pytest.approx(1.5 * seconds["train"] + 0.5 * seconds["test"] + 30.0)
        assert told.room_s == 30.0
        tars = 500_000 * seconds["train"] + 200_000 * seconds["test"]
        assert told.corpus_bytes == pytest.approx(tars + plan_bytes + responses)
        above = plan_bytes + responses if remote else 0.0
        assert told.temporary_bytes == pytest.approx(largest * min(workers, len(plan.files)) + above)
        assert (told.utterances, told.shards, told.sampled) == (12, len(plan.files), 7)


def test_a_dry_run_prints_its_figures_in_their_units() -> None:
    told = Estimate(
        utterances=5000, audio_s=7200.0, shards=10, corpus_bytes=12.34e9, files=70, temporary_bytes=2.5e9,
        core_s=14_400.0, room_s=3600.0, sampled=64,
    )  # fmt: skip
    assert told.lines(workers=4).splitlines() == [
        "5000 utterances, 2.00 h of clean speech, 10 shards",
        "about 12.3 GB in 70 files",
        "about 2.5 GB of temporary space while it is built with 4 worker(s)",
        "about 4 core-hours (1 of them for rooms): 1h00m with 4 worker(s) if each has a core",
        "estimated from 64 utterances that were rendered and thrown away; nothing was built",
    ]


def test_the_time_of_the_rooms_that_were_made_is_carried_over_to_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.recipe["rooms"]["cell"] |= {"rooms": 5, "split": "shared"}
    plan, _ = lab.plan()
    folder = lab.folder / "plan"
    clock = SimpleNamespace(cpu=0.0, process_time=lambda: clock.cpu)
    made: list[int] = []

    def write_slowly(place: Path, room: PlannedRoom, **options: Any) -> Any:
        clock.cpu += 2.0
        made.append(room.room)
        return write_room(place, room, **options)

    monkeypatch.setattr("corpus_builder.build.dry_run.time", clock)
    monkeypatch.setattr("corpus_builder.build.dry_run.write_room", write_slowly)
    rows = lab.rows()[:2]
    room_s, num_responses = timed_rooms(plan, folder, {}, rows)
    used = {step.room for row in rows for copy in row.copies for step in copy.steps if step.kind == "room"}
    assert sorted(made) == sorted(used)
    assert len(used) < 5
    assert room_s == pytest.approx(5 * 2.0)
    assert num_responses == 5 * 2


def test_the_sample_of_a_dry_run_is_spread_over_the_shards_of_every_split(lab: Lab) -> None:
    lab.without_rooms()
    for number in range(100):
        lab.speech("train", f"s{number % 5}", f"w{number}", seed=number, seconds=0.05)
    lab.recipe["shards"]["samples"] = 12
    plan, _ = lab.plan()
    chosen = sampled_rows(plan, lab.folder / "plan")
    names = [file.name for file in plan.files if file.split == "train"]
    step = len(names) // 4
    assert [name for name in chosen if name.startswith("train")] == names[::step][:4]
    assert (len(names), step) == (9, 2)
    lines = (lab.folder / "plan" / "plan" / f"{names[2]}.jsonl").read_text().splitlines()
    assert len(lines) > 8
    assert [row.id for row in chosen[names[2]]] == [json.loads(line)["id"] for line in lines[:8]]
    assert all(0 < len(rows) <= 8 for rows in chosen.values())
    assert {name.split("-")[0] for name in chosen} == {"train", "test"}


def test_what_is_paid_once_in_a_process_is_not_carried_over_and_splits_take_turns(
    built_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: set[str] = set()
    clock = SimpleNamespace(cpu=0.0, wall=0.0, process_time=lambda: clock.cpu, monotonic=lambda: clock.wall)

    def rendered_bytes(row: PlanRow, waves: object, rate_hz: int) -> int:
        del waves, rate_hz
        clock.cpu += 1.0 if row.id in met else 100.0  # a codec's delay is measured when its setting is first met
        clock.wall += 2.0
        met.add(row.id)
        return 10

    monkeypatch.setattr("corpus_builder.build.dry_run.time", clock)
    monkeypatch.setattr("corpus_builder.build.dry_run.rendered_bytes", rendered_bytes)
    folder = built_lab.folder / "turns"
    plan, _ = built_lab.plan("turns")
    chosen = sampled_rows(plan, folder)
    timed = timed_rows(plan.model_copy(update={"sample_rate": 8000}), folder, {}, chosen)
    assert all(found.work_s == found.rows for found in timed.values())
    for split, copies in (("train", 4), ("test", 2)):
        found = timed[split]
        assert found.num_bytes == found.rows * (10 + 250 * (1 + copies))
        samples = [row.num_samples for name, rows in chosen.items() if name.startswith(split) for row in rows]
        assert found.rows * min(samples) / 8000 <= found.audio_s <= found.rows * max(samples) / 8000
    assert sum(found.rows for found in timed.values()) == pytest.approx(SAMPLE_S / 4, abs=1)
    assert min(found.rows for found in timed.values()) > 1, "one split took all the time"


def test_a_dry_run_takes_a_finished_plan_and_no_url(built_lab: Lab) -> None:
    built_lab.plan("dry_plan")
    told = estimate(built_lab.folder / "dry_plan", roots={}, limit=None, workers=1, remote=True, progress=False)
    assert told.utterances == 12
    tars = [path.stat().st_size for path in (built_lab.folder / "corpus" / "shards").glob("*.tar")]
    planned = sum(path.stat().st_size for path in (built_lab.folder / "dry_plan" / "plan").iterdir())
    beside = (
        planned + 2 * 2 * 4 * RATE_HZ * 0.7
    )  # of a corpus at a URL the plan and the responses of two rooms are here too
    assert told.temporary_bytes == pytest.approx(max(tars) + beside, rel=0.1)
    with pytest.raises(UsageError, match="--limit belongs to planning"):
        estimate(built_lab.folder / "dry_plan", roots={}, limit=3, workers=1, remote=True)
    with pytest.raises(UsageError, match="expected a recipe or a plan on a disk"):
        estimate(Url("s3://bucket/plan"), roots={}, limit=None, workers=1, remote=True)


def test_a_dry_run_of_a_plan_has_its_limit_and_reads_from_a_root_that_is_given(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["copies"] = {}
    lab.plan(limit=2)
    (lab.folder / "speech" / "train").rename(lab.folder / "moved")
    given: dict[str, Any] = {"roots": {"train": lab.folder / "moved"}, "workers": 1, "remote": False, "progress": False}
    assert estimate(lab.folder / "plan", limit=2, **given).utterances == 4
    with pytest.raises(UsageError, match=r"--limit belongs to planning: this plan was made with --limit 2"):
        estimate(lab.folder / "plan", limit=3, **given)


def test_each_split_has_a_row_in_the_sample_however_long_one_takes(
    built_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(wall=0.0, process_time=lambda: clock.wall, monotonic=lambda: clock.wall)

    def rendered_bytes(*_: object) -> int:
        clock.wall += 2 * SAMPLE_S
        return 10

    monkeypatch.setattr("corpus_builder.build.dry_run.time", clock)
    monkeypatch.setattr("corpus_builder.build.dry_run.rendered_bytes", rendered_bytes)
    plan, _ = built_lab.plan("slow")
    timed = timed_rows(plan, built_lab.folder / "slow", {}, sampled_rows(plan, built_lab.folder / "slow"))
    assert {split: found.rows for split, found in timed.items()} == {"train": 1, "test": 1}


def test_shards_by_gigabytes_are_about_that_large(lab: Lab) -> None:
    lab.without_rooms()
    lab.recipe["shards"] = {"gigabytes": 250e-6}
    built = lab.build()
    assert built.corpus is not None
    sizes = [entry.bytes for entry in built.corpus.splits["train"]]
    assert len(sizes) > 1
    assert 100e3 < sum(sizes) / len(sizes) < 500e3
    assert lab.build().was_sealed


def test_a_shard_size_is_one_of_two_measures() -> None:
    assert ShardSize().samples_of(utterances=10, num_samples=160_000, waves=5) == 512
    plain = ShardSize.parse({"gigabytes": 1.0}, where="x")
    assert plain.model_dump(mode="json", exclude_none=True) == {"gigabytes": 1.0}
    many = plain.samples_of(utterances=1000, num_samples=1000 * 12 * 16_000, waves=5)
    assert many == pytest.approx(1e9 / (5 * 12 * 16_000 * 1.22), rel=0.02)
    assert ShardSize.parse({"gigabytes": 1e-9}, where="x").samples_of(utterances=1, num_samples=16_000, waves=1) == 1
    for wrong in ({"gigabytes": 1.0, "samples": 5}, {"gigabytes": 0.0}, {"gigabytes": -1.0}):
        with pytest.raises(BadDocumentError):
            ShardSize.parse(wrong, where="x")


@pytest.mark.parametrize("size", [{"gigabytes": 1000.0}, {"samples": 1_000_000}])
@pytest.mark.parametrize("waves", [1, 5, 17])
def test_the_index_of_the_largest_shard_can_be_read(size: dict[str, float], waves: int, tmp_path: Path) -> None:
    samples = ShardSize.parse(size, where="x").samples_of(utterances=10**6, num_samples=10**10, waves=waves)
    names = ["clean", *(f"babble-in-a-far-room-{number}" for number in range(waves - 1))]
    indexed = IndexedSample(
        key="k" * 40,
        num_samples=123_456,
        members={
            "json": Member(offset=2**40, size=2**16),
            **{name: Member(offset=2**40, size=2**20, pcm_sha256="a" * 64) for name in names},
        },
    )
    text = canonical_json(indexed)
    refuse_heavy_json(b"[" + b",".join([text] * samples) + b"]", where="an index")
    assert samples * (waves + 1) > 70_000


def long_noise(lab: Lab, rate_hz: int, channels: int, heard: list[Any]) -> tuple[LongNoise, np.ndarray[Any, Any]]:
    wave = np.random.RandomState(1).standard_normal((90 * rate_hz, channels)) * 0.1
    path = write_wave(lab.folder / "long" / f"{rate_hz}.wav", wave, rate_hz=rate_hz)
    channel = channels - 1 if channels > 1 else None
    decoded, _ = soundfile.read(path, always_2d=True)
    whole = at_rate(np.ascontiguousarray(decoded[:, channels - 1]), from_hz=rate_hz, to_hz=16_000)
    long = LongNoise(
        path,
        lambda wave, start: heard.append((start, wave.size)),
        name="long", num_samples=whole.size, channel=channel, from_hz=rate_hz, to_hz=16_000,
    )  # fmt: skip
    return long, whole


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (16_000, 2), (44_100, 1), (48_000, 2), (8_000, 1)])
def test_a_noise_that_is_too_long_to_be_held_gives_the_segments_of_the_whole(
    lab: Lab, rate_hz: int, channels: int
) -> None:
    heard: list[Any] = []
    noise, whole = long_noise(lab, rate_hz, channels, heard)
    assert noise.size == whole.size
    for first, end in [(0, 16_000), (123_457, 200_001), (whole.size - 20_000, whole.size), (16_000, 16_001)]:
        found = noise[first:end]
        assert found.shape == (end - first,)
        assert np.abs(found - whole[first:end]).max() < (1e-6 if rate_hz != 16_000 else 1e-12)
        assert np.array_equal(found, noise[first:end])
    assert all(size < 5 * rate_hz + 2 * rate_hz + 10 for _, size in heard)


@pytest.mark.parametrize("before_end", [1, 10, 500, 799, 800, 801, 900])
def test_a_segment_that_begins_in_the_last_moments_of_a_long_noise_is_that_of_the_whole(
    lab: Lab, before_end: int
) -> None:
    """There the recording is repeated with a cross-fade of 50 ms, which a segment may begin within."""
    wave = np.random.RandomState(2).standard_normal(20_000) * 0.1
    path = write_wave(lab.folder / "long.wav", wave, rate_hz=16_000)
    whole, _ = soundfile.read(path)
    noise = LongNoise(
        path, lambda *_: None, name="long", num_samples=whole.size, channel=None, from_hz=16_000, to_hz=16_000
    )
    wanted = {"offset": whole.size - before_end, "num_samples": 3000, "rate_hz": 16_000}
    np.testing.assert_array_equal(segment(noise, **wanted), segment(whole, **wanted))


def test_a_recipe_with_a_long_noise_builds_the_same_as_with_the_whole_in_memory(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from corpus_builder.render import corpus_waves

    lab.without_rooms()
    whole = lab.build("whole").corpus
    monkeypatch.setattr(corpus_waves, "LONG_NOISE_SAMPLES", 100)
    corpus_waves.CACHED.__dict__.clear()
    by_segments = lab.build("by_segments").corpus
    assert LONG_NOISE_SAMPLES > 100
    assert whole is not None
    assert by_segments is not None
    assert whole.splits == by_segments.splits


def test_measuring_a_noise_with_many_channels_holds_one_of_them(lab: Lab) -> None:
    wave = np.random.RandomState(2).standard_normal((3 * 16_000, 64)) * 0.1
    path = write_wave(lab.folder / "many.wav", wave)
    levels = measure_levels(path, name="many", channel=7)
    assert levels.num_frames == 48_000
    assert len(levels.power_db) == 30
    assert levels.power_db[3] == pytest.approx(10 * math.log10(np.mean(wave[4800:6400, 7] ** 2)), abs=0.06)
