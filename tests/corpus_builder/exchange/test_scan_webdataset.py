"""What of a stranger's sample is taken: several codings of one wave, and records that cannot be read."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.verify.verify_corpus import verify
from manifests.corpus.reader import OpenCorpus

if TYPE_CHECKING:
    from pathlib import Path


def wave(kind: str, seed: int = 0) -> bytes:
    content = io.BytesIO()
    pcm = (2000 * np.random.RandomState(seed).standard_normal(8000)).astype(np.int16)
    soundfile.write(content, pcm, 16_000, format=kind)
    return content.getvalue()


def indexed(folder: Path, members: list[tuple[str, bytes]], **options: Any) -> tuple[Any, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "a b.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    made = index_shards([str(folder / "a b.tar")], out=folder / "index", **options)
    return made, {held.sample.key: held for held in OpenCorpus(folder / "index").utterances()}


@pytest.mark.parametrize("order", [("flac", "mp3"), ("mp3", "flac")])
def test_of_one_wave_in_two_codings_the_lossless_one_is_clean_wherever_it_stands(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    members = [(f"k.{kind}", wave(kind.upper())) for kind in order]
    made, held = indexed(tmp_path, members)
    assert held["k"].sample.members["clean"].suffix == "flac"
    assert held["k"].sample.copies == []
    assert dict(made.left_out) == {"mp3: another coding of the clean member; --clean mp3 selects it instead": 1}
    made, held = indexed(tmp_path, members, clean=".MP3")
    assert held["k"].sample.members["clean"].suffix == "mp3"
    assert "--clean flac selects it" in next(iter(made.left_out))
    assert verify(tmp_path / "index", progress=False).findings == []


def test_a_copy_in_two_codings_is_taken_once_and_the_other_is_told(tmp_path: Path) -> None:
    members = [("k.flac", wave("FLAC")), ("k.mix.wav", wave("WAV", 1)), ("k.mix.flac", wave("FLAC", 1))]
    made, held = indexed(tmp_path, members)
    assert {name: member.suffix for name, member in held["k"].sample.members.items()} == {
        "clean": "flac",
        "mix-0": "mix.flac",
    }
    assert dict(made.left_out) == {"mix.wav: another member has this name": 1}


@pytest.mark.parametrize(
    "about", [b"{", b'{"snr": NaN}', b'{"text": "a", "text": "b"}', b"\xff\xfe", b'{"schema": "stillroom/sample/1"}']
)
def test_an_utterance_whose_record_nobody_could_read_is_refused_by_name(tmp_path: Path, about: bytes) -> None:
    """It would stop whoever reads the shard later: a trainer, an export, an audit."""
    good = [("good.wav", wave("WAV")), ("good.json", b'{"text": "", "speaker": null, "a": [1.5, {}]}')]
    made, held = indexed(tmp_path, [*good, ("bad.wav", wave("WAV")), ("bad.json", about)])
    assert list(held) == ["good"]
    assert [one.id for one in made.refused] == ["bad"]
    assert "bad.json" in made.refused[0].reason
    assert verify(tmp_path / "index", progress=False).findings == []


def test_a_record_too_long_to_be_read_is_told(tmp_path: Path) -> None:
    made, held = indexed(tmp_path, [("k.wav", wave("WAV")), ("k.txt", b"x" * ((1 << 20) + 1))])
    assert held["k"].record.text is None
    assert dict(made.left_out) == {"txt: of more than 1048576 bytes": 1}
