"""Lhotse's own Shar directories, written by lhotse, as a source of speech and of noise."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.errors import MissingAudioError
from corpus_builder.audio.tar_members import audio_digest, audio_exists, member_of
from corpus_builder.sources.lhotse_manifest import UnsafeAudioSourceError, utterances
from corpus_builder.sources.lhotse_shar import cut_files
from corpus_builder.sources.relative_paths import RootFinder
from corpus_builder.sources.roots import Located
from corpus_builder.sources.utterance import NoAudioError, Refused, Utterance
from corpus_builder.verify.verify_corpus import verify
from manifests.errors import BadDocumentError, StillroomError
from manifests.io.digest import bytes_digest
from manifests.recipe.speech import SpeechSource
from tests.corpus_builder.conftest import Lab, voice, write_wave

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


def write_shar(folder: Path, *, form: str = "flac", count: int = 5) -> Path:
    """Lhotse writes `count` half-second cuts of longer recordings, three a shard."""
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    cuts = []
    for number in range(count):
        path = write_wave(folder.parent / f"wav-{folder.name}" / f"r{number}.wav", voice(number, 2.0))
        labels = SupervisionSegment(
            "s", f"r{number}", 0.0, 0.5, text=f"text {number}", speaker=f"sp{number % 2}", language="en"
        )
        name = "a.b/c é" if number == 0 else f"u{number}"
        recording = Recording.from_file(path)
        cuts.append(
            MonoCut(name, start=0.25 * number, duration=0.5, channel=0, recording=recording, supervisions=[labels])
        )
    folder.mkdir()
    CutSet.from_cuts(cuts).to_shar(folder, fields={"recording": form}, shard_size=3)
    return folder


def shar_source(folder: Path) -> Located:
    source = SpeechSource.parse({"cuts": str(folder)}, where="test")
    return Located("train", "train", source, None, manifest=folder, strip=None)


def edit_cuts(folder: Path, change: Any) -> None:
    path = folder / "cuts.000000.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in change(lines)).encode()))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # lhotse's tars
@pytest.mark.parametrize("form", ["flac", "wav"])
def test_a_shar_directory_gives_the_samples_that_lhotse_gives(tmp_path: Path, form: str) -> None:
    from lhotse import CutSet

    folder = write_shar(tmp_path / "shar", form=form)
    found = [item for item in utterances(shar_source(folder)) if isinstance(item, Utterance)]
    finder = RootFinder(shar_source(folder))
    for item, cut in zip(found, CutSet.from_shar(in_dir=folder), strict=True):
        below = finder.add(item.path)
        place = finder.folder / finder.relative(below)
        wave = read_stretch(
            place, name="x", start=round(item.start_s * RATE_HZ), num_frames=item.num_frames, rate_hz=item.rate_hz
        )
        assert np.abs(wave - cut.load_audio()[0]).max() < 1e-6
        assert (item.id, item.num_frames, item.speaker) == (cut.id, 8000, cut.supervisions[0].speaker)
    assert found[0].path == f"recording.000000.tar/a.b/c é.{form}"


def test_the_rate_is_that_of_the_tar_where_shar_changed_it_for_opus(tmp_path: Path) -> None:
    folder = write_shar(tmp_path / "shar", form="opus")
    item = next(iter(utterances(shar_source(folder))))
    assert isinstance(item, Utterance)
    header = soundfile.info(io.BytesIO(member_of(folder / item.path).content()))  # type: ignore[union-attr]
    assert (item.rate_hz, item.num_frames) == (header.samplerate, header.frames)


def test_a_corpus_is_built_and_verified_from_shar(lab: Lab) -> None:
    lab.without_rooms()
    write_shar(lab.folder / "shar")
    write_shar(lab.folder / "hum-shar", count=4)
    lab.recipe["speech"]["train"] = {"cuts": "shar"}
    lab.recipe["noises"]["hum"] = {"cuts": "hum-shar"}
    built = lab.build()
    assert built.corpus is not None
    assert sum(shard.samples for shard in built.corpus.splits["train"]) == 5
    assert not verify(lab.folder / "corpus", progress=False).findings
    row = next(row for row in lab.rows("corpus") if row.id == "u4")
    assert row.source.path == "recording.000001.tar/u4.flac"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[::-1], "not in step"),
        (lambda lines: [*lines, lines[0]], "fewer recordings than there are cuts"),
    ],
    ids=["order", "count"],
)
def test_cuts_and_tars_out_of_step_are_one_line(tmp_path: Path, change: Any, said: str) -> None:
    folder = write_shar(tmp_path / "shar")
    edit_cuts(folder, change)
    with pytest.raises(BadDocumentError, match=said):
        list(utterances(shar_source(folder)))


def test_a_missing_or_damaged_tar_is_one_line(tmp_path: Path) -> None:
    folder = write_shar(tmp_path / "shar")
    tar = folder / "recording.000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:5000])
    with pytest.raises(StillroomError, match=r"recording.000000.tar") as caught:
        list(utterances(shar_source(folder)))
    assert "\n" not in str(caught.value)
    tar.unlink()
    with pytest.raises(BadDocumentError, match="which is not beside it"):
        list(utterances(shar_source(folder)))


def test_a_folder_that_is_no_shar_is_told_of_dir_and_the_other_way_round(tmp_path: Path) -> None:
    write_wave(tmp_path / "audio" / "a.wav", voice(0, 0.5))
    with pytest.raises(BadDocumentError, match=r"a folder of audio goes by dir:"):
        list(utterances(shar_source(tmp_path / "audio")))
    folder = write_shar(tmp_path / "shar")
    source = SpeechSource.parse({"dir": str(folder)}, where="test")
    with pytest.raises(NoAudioError, match="it holds lhotse's Shar: name it by cuts:"):
        list(utterances(Located("train", "train", source, folder)))


def test_a_command_in_a_tar_of_shar_is_refused_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_shar(tmp_path / "shar", count=1)
    tar = folder / "recording.000000.tar"
    with tarfile.open(tar) as old:
        contents = [(info.name, old.extractfile(info).read()) for info in old]  # type: ignore[union-attr]
    with tarfile.open(tar, "w") as new:
        for name, content in contents:
            if name.endswith(".json"):
                meta = json.loads(content)
                meta["sources"][0] = {"type": "command", "channels": [0], "source": "touch OWNED"}
            given = json.dumps(meta).encode() if name.endswith(".json") else content
            info = tarfile.TarInfo(name)
            info.size = len(given)
            new.addfile(info, io.BytesIO(given))
    with pytest.raises(UnsafeAudioSourceError):
        list(utterances(shar_source(folder)))
    assert not (tmp_path / "OWNED").exists()


def test_a_cut_without_data_in_the_tar_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_shar(tmp_path / "shar", count=2)
    tar = folder / "recording.000000.tar"
    with tarfile.open(tar) as old:
        contents = [(info.name, old.extractfile(info).read()) for info in old]  # type: ignore[union-attr]
    with tarfile.open(tar, "w") as new:
        for name, content in contents:
            gone = name.startswith("u1.")
            suffix = ".nometa" if name.endswith(".json") else ".nodata"
            info = tarfile.TarInfo("u1" + suffix if gone else name)
            info.size = 0 if gone else len(content)
            new.addfile(info, io.BytesIO(b"" if gone else content))
    items = list(utterances(shar_source(folder)))
    assert [item.id for item in items if isinstance(item, Utterance)] == ["a.b/c é"]
    assert [item for item in items if isinstance(item, Refused)] == [Refused("u1", "has no recording")]


def test_members_are_files_and_a_folder_may_be_called_tar(tmp_path: Path) -> None:
    folder = write_shar(tmp_path / "shar", count=1)
    member = folder / "recording.000000.tar/a.b/c é.flac"
    assert audio_exists(member)
    assert not audio_exists(folder / "recording.000000.tar/gone.flac")
    assert audio_digest(member) == bytes_digest(member_of(member).content())  # type: ignore[union-attr]
    with pytest.raises(MissingAudioError):
        read_stretch(folder / "recording.000000.tar/gone.flac", name="gone", rate_hz=RATE_HZ)
    plain = write_wave(tmp_path / "folder.tar" / "a.wav", voice(0, 0.5))
    assert member_of(plain) is None
    assert read_stretch(plain, name="a", rate_hz=RATE_HZ).size == 8000


def test_files_of_cuts_come_in_the_order_of_their_numbers_whatever_the_disk_lists_first(tmp_path: Path) -> None:
    names = [f"cuts.{number:06d}.jsonl" + (".gz" if number % 3 else "") for number in range(40)]
    for name in reversed([*names, "cuts.000000.jsonl.part", "recording.000000.tar"]):
        (tmp_path / name).touch()
    assert [path.name for path in cut_files(tmp_path)] == names
