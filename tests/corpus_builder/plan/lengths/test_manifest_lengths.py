"""Manifests that are longer than their files, by a plan of each case and lhotse's own reading of the same cuts."""

from __future__ import annotations

import dataclasses
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corpus_builder.audio.tar_members import Member
from corpus_builder.plan.lengths.manifest_lengths import is_surely_long_enough
from corpus_builder.render.corpus_waves import CorpusWaves
from manifests.io.url import Url
from tests.corpus_builder.conftest import Lab, voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


def longer(path: Path, *, by: int) -> Any:
    """A recording that lhotse read, as a manifest of a longer file."""
    from lhotse import Recording

    found = Recording.from_file(path)
    count = found.num_samples + by
    return dataclasses.replace(found, num_samples=count, duration=count / RATE_HZ)


def planned(lab: Lab, cuts: list[Any], **options: Any) -> dict[str, Any]:
    from lhotse import CutSet

    lab.without_rooms()
    CutSet.from_cuts(cuts).to_file(lab.folder / "cuts.jsonl.gz")
    lab.recipe["speech"]["train"] = {"cuts": "cuts.jsonl.gz"}
    lab.plan(**options)
    return {row.id: row for row in lab.rows()}


def refused_in(lab: Lab) -> dict[str, str]:
    document = json.loads((lab.folder / "plan/plan/plan.json").read_text())
    return {one["id"]: one["reason"] for one in document["refused"]}


def test_an_utterance_ends_where_its_file_does_if_that_is_up_to_half_a_second_early(lab: Lab) -> None:
    from lhotse import MonoCut

    length = 12_000
    excess = {"same": 0, "one": 1, "some": 3000, "half": 8000, "more": 8001, "all": -4000}
    cuts = []
    for number, (name, by) in enumerate(excess.items()):
        path = write_wave(lab.folder / f"wav/{name}.wav", voice(number, length / RATE_HZ))
        recording = longer(path, by=by)
        cuts.append(MonoCut(name, 0.0, recording.duration, 0, recording=recording))
    tail = longer(lab.folder / "wav/some.wav", by=3000)
    cuts += [
        MonoCut("head", 0.0, 0.5, 0, recording=tail),
        MonoCut("tail", 0.5, tail.duration - 0.5, 0, recording=tail),
        MonoCut("beyond", 0.8, tail.duration - 0.8, 0, recording=tail),
    ]
    rows = planned(lab, cuts)
    assert {name: row.num_samples for name, row in rows.items()} == {
        "same": length, "one": length, "some": length, "half": length, "all": length - 4000, "head": 8000, "tail": length - 8000,
    }  # fmt: skip
    assert {name: row.source.num_frames for name, row in rows.items()} == {
        name: row.num_samples for name, row in rows.items()
    }
    assert refused_in(lab) == {
        "more": f"more.wav ends after {length} samples where {length + 8001} are promised: it was cut off",
        "beyond": f"some.wav ends after {length} samples where {length + 3000} are promised: it was cut off",
    }
    waves = CorpusWaves(lab.folder / "plan", roots={"train": lab.folder / "wav"}, rate_hz=RATE_HZ)
    for cut in cuts:
        if cut.id in rows:
            ours, lhotses = waves.speech(rows[cut.id]), cut.load_audio()[0]
            assert np.abs(ours - lhotses[: ours.size]).max() < 1e-6
            assert lhotses.size - ours.size == max(0, cut.num_samples - rows[cut.id].num_samples)


@pytest.mark.parametrize("place", ["tar", "url"])
@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_members_of_tars_and_files_behind_urls_are_fitted_as_local_files_are(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, place: str, suffix: str
) -> None:
    from lhotse import MonoCut, Recording
    from lhotse.audio import AudioSource

    cuts, root, folder = [], lab.folder / "speech/train", f"memory://lengths{suffix}"
    for number, (name, by) in enumerate({"same": 0, "some": 3000, "more": 9000, "gone": 0}.items()):
        path = write_wave(root / f"{name}{suffix}", voice(number, 0.75))
        below = f"audio.tar/{path.name}" if place == "tar" else path.name
        count = 12_000 + by
        recording = Recording(name, [AudioSource("file", [0], below)], RATE_HZ, count, count / RATE_HZ)
        cuts.append(MonoCut(name, 0.0, recording.duration, 0, recording=recording))
    with tarfile.open(root / "audio.tar", "w") as tar:
        for name in ("same", "some", "more"):
            tar.add(root / f"{name}{suffix}", f"{name}{suffix}")
            Url(f"{folder}/{name}{suffix}").put((root / f"{name}{suffix}").read_bytes())
    monkeypatch.setattr(Member, "content", lambda member: pytest.fail(f"all of {member.name} is read at planning"))
    roots = {"train": Url(folder)} if place == "url" else {"train": root}
    rows = planned(lab, cuts, roots=roots)
    assert {name: row.num_samples for name, row in rows.items()} == {"same": 12_000, "some": 12_000, "gone": 12_000}
    assert [*refused_in(lab)] == ["more"]
    assert "ends after 12000 samples where 21000 are promised" in refused_in(lab)["more"]


def test_a_file_that_is_missing_or_of_another_rate_is_left_to_rendering(lab: Lab) -> None:
    from lhotse import MonoCut

    cuts = []
    for number, name in enumerate(["fine", "gone", "rate"]):
        path = write_wave(lab.folder / f"wav/{name}.wav", voice(number, 1.0))
        recording = longer(path, by=0)
        cuts.append(MonoCut(name, 0.0, 1.0, 0, recording=recording))
    (lab.folder / "wav/gone.wav").rename(lab.folder / "wav/elsewhere.wav")
    write_wave(lab.folder / "wav/rate.wav", voice(2, 0.9), rate_hz=8000)
    rows = planned(lab, cuts)
    assert {name: row.num_samples for name, row in rows.items()} == {"fine": 16_000, "gone": 16_000, "rate": 16_000}
    assert not refused_in(lab)


def test_what_is_too_short_then_is_left_out_and_supervisions_cut_through_are_told(lab: Lab, capsys: Any) -> None:
    from lhotse import CutSet, MonoCut, SupervisionSegment

    def said(start: float, duration: float) -> SupervisionSegment:
        return SupervisionSegment("s", "r", start, duration, text="word")

    recording = longer(write_wave(lab.folder / "wav/a.wav", voice(1, 0.9)), by=0)
    short = longer(write_wave(lab.folder / "wav/b.wav", voice(1, 0.5)), by=3200)
    cuts = [
        MonoCut("a", 0.0, 0.9, 0, recording=recording, supervisions=[said(0.0, 0.5), said(0.8, 0.5), said(0.85, 1.0)]),
        MonoCut("b", 0.0, 0.7, 0, recording=short, supervisions=[said(0.0, 0.7)]),
        MonoCut("c", 0.0, 0.9, 0, recording=recording, supervisions=[said(-0.2, 0.5)]),
    ]
    lab.recipe["speech"]["train"] = {"cuts": "cuts.jsonl.gz", "min_s": 0.6}
    lab.recipe["conditions"]["noise"]["steps"][0]["from"] = ["hum"]
    lab.without_rooms()
    CutSet.from_cuts(cuts).to_file(lab.folder / "cuts.jsonl.gz")
    document, _ = lab.plan()
    assert document.filtered == {"train": {"shorter than 0.6 s": 1}}
    assert {row.id: row.custom for row in lab.rows()} == {
        "a": {"supervisions_cut_through": 2},
        "c": {"supervisions_cut_through": 1},
    }
    assert "train: 3 supervisions reach beyond their cuts; their texts are whole" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pcm16.wav", {}),
        ("pcm24.wav", {"subtype": "PCM_24"}),
        ("a.flac", {}),
        ("float.wav", {"subtype": "FLOAT"}),
        ("mulaw.wav", {"subtype": "ULAW"}),
        ("extensible.wav", {"format": "WAVEX"}),
        ("a.ogg", {}),
        ("a.aiff", {}),
    ],
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_only_a_file_that_is_long_enough_is_surely_so(
    tmp_path: Path, name: str, options: dict[str, Any], num_channels: int
) -> None:
    wave = np.stack([voice(seed, 1.0) for seed in range(num_channels)], axis=1)
    path = write_wave(tmp_path / name, wave, **options)
    is_known = name in {"pcm16.wav", "pcm24.wav", "a.flac"}
    for num_frames, rate_hz, is_enough in (
        (1, RATE_HZ, True), (15_999, RATE_HZ, True), (16_000, RATE_HZ, True), (16_001, RATE_HZ, False), (9000, 8000, False),
    ):  # fmt: skip
        found = is_surely_long_enough(str(path), num_frames=num_frames, rate_hz=rate_hz)
        assert found == (is_known and is_enough)
    if name == "pcm16.wav":
        for cut_bytes in (1, 32_000 * num_channels - 1, 32_000 * num_channels, 32_000 * num_channels + 1):
            path.write_bytes(path.read_bytes()[:-cut_bytes] or b"")
            assert not is_surely_long_enough(str(path), num_frames=16_000, rate_hz=RATE_HZ)
            write_wave(path, wave)


def test_what_is_no_file_is_not_long_enough_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for name in ("pipe.wav", "gone.wav", ""):
        assert not is_surely_long_enough(f"{tmp_path}/{name}", num_frames=1, rate_hz=RATE_HZ)
