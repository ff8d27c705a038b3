"""What of a stranger's sample is taken: several codings of one wave, and records that cannot be read."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audio.decode_bytes import decode_bytes
from corpus_builder.exchange import scan_webdataset
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


def coded(samples: Any, form: str = "WAV", subtype: str | None = None) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, 16_000, format=form, subtype=subtype)
    return content.getvalue()


SOUND = 0.1 * np.random.RandomState(7).standard_normal(8000).clip(-3, 3)


def test_members_of_any_coding_and_level_are_taken_down_to_80_dbfs_without_their_mean(tmp_path: Path) -> None:
    codings = [("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
               ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_24")]  # fmt: skip
    members = [
        (f"u{number}.{form.lower()}", coded(SOUND, form, subtype)) for number, (form, subtype) in enumerate(codings)
    ]
    members += [("soft.wav", coded(SOUND * 1e-2, "WAV", "FLOAT")), ("zero.wav", coded(SOUND * 0, "WAV", "FLOAT"))]
    members += [
        ("half.wav", coded(np.clip(SOUND * 5, -0.5, 0.5), "WAV", "FLOAT")),
        ("low.wav", coded([2**-20] * 900, "WAV", "PCM_24")),
    ]
    made, held = indexed(tmp_path, members)
    assert set(held) == {*(f"u{number}" for number in range(len(codings))), "soft", "half"}
    silent = "is silent: under -80 dBFS without its mean (DC)"
    assert {one.id: one.reason for one in made.refused} == {"zero": silent, "low": silent}
    assert verify(tmp_path / "index", progress=False).findings == []


def test_what_a_build_refuses_an_index_refuses(tmp_path: Path) -> None:
    bad, loud = SOUND.copy(), SOUND.copy()
    bad[77], loud[77] = np.nan, 1.5
    infinite = np.where(np.isnan(bad), np.inf, bad)
    whole, mp3 = coded(SOUND), coded(SOUND, "MP3", "MPEG_LAYER_III")
    ogg, flac = coded(SOUND, "OGG", "VORBIS"), coded(SOUND, "FLAC")
    members = [
        ("nan.wav", coded(bad, "WAV", "FLOAT")), ("inf.wav", coded(infinite, "WAV", "DOUBLE")), ("loud.wav", coded(loud, "WAV", "FLOAT")),
        ("cut.wav", whole[:9000]), ("cut2.flac", flac[:-3]), ("cut3.ogg", ogg[:-3]), ("cut4.mp3", mp3[:-3]),
        ("two.ogg", ogg + ogg), ("ok.wav", whole),
    ]  # fmt: skip
    made, held = indexed(tmp_path, members)
    assert set(held) == {"ok"}
    reasons = {one.id: one.reason for one in made.refused}
    assert "NaN or infinite" in reasons["nan"]
    assert "NaN or infinite" in reasons["inf"]
    assert "has a peak of 1.5, beyond full scale" in reasons["loud"]
    assert all("was cut off" in reasons[name] for name in ("cut", "cut2", "cut3", "cut4"))
    assert "has 16000 samples, of which libsndfile" in reasons["two"]


def test_verify_finds_what_an_older_index_took_and_training_would_stumble_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, loud = SOUND.copy(), SOUND.copy()
    bad[77], loud[77] = np.nan, 1.5

    def trusting(stream: io.BufferedReader, member: Any) -> Any:
        stream.seek(member.offset)
        return decode_bytes(stream.read(member.size), most_samples=1 << 31, keep_pcm=False)

    monkeypatch.setattr(scan_webdataset, "decode_member", trusting)
    indexed(
        tmp_path,
        [("nan.wav", coded(bad, "WAV", "FLOAT")), ("loud.wav", coded(loud, "WAV", "FLOAT")), ("ok.wav", coded(SOUND))],
    )
    found = {
        finding.where.rpartition(":")[2].strip() or finding.what: finding.what
        for finding in verify(tmp_path / "index", progress=False).findings
    }
    text = " ".join(found.values())
    assert "holds NaN or infinite samples" in text
    assert "has a peak of 1.5" in text
    assert len(found) == 2
