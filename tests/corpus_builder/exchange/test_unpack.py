"""Odd source trees and containers, unpacked."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from scipy import signal

from corpus_builder.exchange.unpack import (
    CollidingFilesError,
    CutFileError,
    UnwritableFormatError,
    UnwritableRateError,
    is_below,
    refuse_links_into,
    unpack,
)
from manifests.corpus.reader import OpenCorpus
from manifests.errors import BadTarError, UsageError
from tests.corpus_builder.conftest import Lab, voice, write_wave
from tests.oracles.tiny_corpus import TinyUtterance, write_corpus

if TYPE_CHECKING:
    from pathlib import Path


def corpus_of(lab: Lab, name: str, *, rate_hz: int = 16_000) -> Path:
    """A corpus of one source file `name` in the folder `tree`; returns that folder."""
    if name.endswith(".opus"):
        write_wave(lab.folder / "tree" / name, voice(1, 0.5), format="OGG", subtype="OPUS")
    else:
        write_wave(lab.folder / "tree" / name, voice(1, 0.5))
    lab.without_rooms()
    lab.recipe |= {
        "sample_rate": rate_hz, "speech": {"test": {"dir": "tree"}}, "noises": {"white": {"colour": "white"}},
        "conditions": {"noise": {"steps": [{"kind": "noise", "from": ["white"], "snr_db": 5}]}}, "copies": {"test": {"noise": 1}},
    }  # fmt: skip
    assert lab.build().corpus is not None
    return lab.folder / "tree"


def test_links_that_lead_above_the_source_or_to_the_new_root_end(lab: Lab, tmp_path: Path) -> None:
    tree = corpus_of(lab, "é a/b c.wav")
    shelf = lab.folder / "shelf"
    (shelf / "books").mkdir(parents=True)
    (shelf / "books" / "notes\n.txt").write_text("x")
    (tree / "up").symlink_to("..")
    (tree / "é a" / "top").symlink_to("/")
    (tree / "shelf").symlink_to(shelf)
    done = unpack(lab.folder / "corpus", shelf / "new", condition="noise", roots={"test": tree})
    found = {os.path.relpath(place, shelf / "new") for place in (shelf / "new").rglob("*") if not place.is_dir()}
    assert found == {"é a/b c.wav", "shelf/books/notes\n.txt", "stillroom.json"}
    assert (done.files, done.linked) == (1, 1)
    assert tmp_path.exists()


def test_a_container_that_does_not_take_the_corpus_s_rate_is_one_line(lab: Lab, tmp_path: Path) -> None:
    corpus_of(lab, "a.opus", rate_hz=22_050)
    with pytest.raises(UnwritableRateError, match=r"^a\.opus: .*22050 Hz.*Opus only supports"):
        unpack(lab.folder / "corpus", tmp_path / "new", condition="noise", roots={})
    assert not (tmp_path / "new").exists()


def test_opus_is_written_at_the_rates_that_it_takes(lab: Lab, tmp_path: Path) -> None:
    corpus_of(lab, "a.opus")
    unpack(lab.folder / "corpus", tmp_path / "new", condition="noise", roots={})
    assert soundfile.info(tmp_path / "new" / "a.opus").subtype == "OPUS"


# --- corpora written by hand ------------------------------------------------------------------------------------------


def pcm(seed: int, count: int = 8000) -> Any:
    return (3000 * np.random.RandomState(seed).standard_normal(count)).astype(np.int16)


def utterance(
    name: str, seed: int = 1, *, count: int = 8000, copies: tuple[str, ...] = ("noise-0",), **source: Any
) -> TinyUtterance:
    waves = {member: pcm(100 * seed + at, count) for at, member in enumerate(("clean", *copies))}
    return TinyUtterance(name, waves, source={"num_frames": count, **source})


def read(path: Path) -> Any:
    return soundfile.read(path, dtype="int16")[0]


def test_of_two_roots_each_has_its_own_folder_and_its_own_source(tmp_path: Path) -> None:
    splits = {
        "train": [utterance("a", 1, root="north", path="x/a.WAV"), utterance("b", 2, root="south", path="x/a.WAV")],
        "test": [utterance("c", 3, root="east", path="c.flac")],
    }
    corpus = write_corpus(tmp_path / "corpus", splits, name="three")
    for root, names in (
        ("north", ("x/a.WAV", "north.txt", "x/n.Mp3")),
        ("south", ("x/a.WAV", "x/south.txt")),
        ("west", ("w.wav",)),
    ):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).write_bytes(b"")
    write_wave(tmp_path / "north/x/a.WAV", pcm(8))
    write_wave(tmp_path / "south/x/a.WAV", pcm(9))
    roots = {name: tmp_path / name for name in ("north", "south", "west")}
    done = unpack(corpus, tmp_path / "new", condition="noise", roots=roots, splits=("train",), progress=False)
    found = {
        os.path.relpath(one, tmp_path / "new"): one.is_symlink()
        for one in (tmp_path / "new").rglob("*")
        if not one.is_dir()
    }
    assert found == {
        "north/x/a.WAV": False, "south/x/a.WAV": False, "north/north.txt": True, "north/x/n.Mp3": True, "south/x/south.txt": True,
        "stillroom.json": False,
    }  # fmt: skip
    assert (tmp_path / "new/north/north.txt").resolve() == tmp_path / "north/north.txt"
    for root, held in zip(("north", "south"), splits["train"], strict=True):
        assert np.array_equal(read(tmp_path / f"new/{root}/x/a.WAV"), held.waves["noise-0"])
        assert soundfile.info(tmp_path / f"new/{root}/x/a.WAV").subtype == "PCM_16"
    assert (done.utterances, done.files, done.linked, done.linked_audio, done.without) == (2, 2, 3, 1, 0)
    assert (done.missing_roots, done.unused_roots) == ((), ("west",))
    assert json.loads((tmp_path / "new/stillroom.json").read_bytes()) == {
        "schema": "stillroom/unpacked/1", "corpus": "three", "condition": "noise", "splits": ["train"], "sample_rate": 16_000,
        "corpus_sha256": OpenCorpus(corpus).digest,
    }  # fmt: skip
    alone = unpack(corpus, tmp_path / "alone", condition="clean", roots={"south": tmp_path / "south"}, progress=False)
    assert (alone.missing_roots, alone.unused_roots) == (("east", "north"), ())
    assert np.array_equal(read(tmp_path / "alone/east/c.flac"), splits["test"][0].waves["clean"])
    assert soundfile.info(tmp_path / "alone/east/c.flac").subtype == "PCM_16"


def test_stretches_in_any_order_are_put_where_they_were(tmp_path: Path) -> None:
    """1.001 s are 16016 samples, though 1.001 * 16000 is a little less; the file is stereo, and the second channel was used."""
    late, early = (
        utterance("late", 1, start=2.0, path="t.flac", channel=1),
        utterance("early", 2, start=1.001, path="t.flac", channel=1),
    )
    corpus = write_corpus(tmp_path / "corpus", {"train": [late, early]})
    both = np.stack([pcm(7, 48_000), pcm(8, 48_000)], axis=1)
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source/t.flac", both, 16_000)
    done = unpack(corpus, tmp_path / "new", condition="noise-0", roots={"train": tmp_path / "source"}, progress=False)
    due = both[:, 1].copy()
    due[16_016 : 16_016 + 8000] = early.waves["noise-0"]
    due[32_000:40_000] = late.waves["noise-0"]
    assert np.array_equal(read(tmp_path / "new/t.flac"), due)
    assert (done.utterances, done.files) == (2, 1)
    with pytest.raises(CutFileError, match=r"^t\.flac: 2 utterances are a stretch of this file.*--root train=DIR"):
        unpack(corpus, tmp_path / "other", condition="noise", progress=False)


def test_the_beginning_of_a_longer_file_is_put_back_into_it_at_the_rate_of_the_corpus(tmp_path: Path) -> None:
    first = utterance("first", 1, count=8001, num_frames=4000, rate_hz=8000)
    corpus = write_corpus(tmp_path / "corpus", {"train": [first]})
    time_s = np.arange(12_000) / 8000
    source = np.round(8000 * np.sin(2 * np.pi * 440 * time_s)).astype(np.int16)
    (tmp_path / "source").mkdir()
    soundfile.write(tmp_path / "source/a.wav", source, 8000)
    unpack(corpus, tmp_path / "new", condition="noise", roots={"train": tmp_path / "source"}, progress=False)
    found, due = read(tmp_path / "new/a.wav"), signal.resample_poly(source.astype(float), 2, 1)
    assert (found.size, soundfile.info(tmp_path / "new/a.wav").samplerate) == (24_000, 16_000)
    assert np.array_equal(found[:8001], first.waves["noise-0"])
    rest = found[9000:23_000] - due[9000:23_000]
    assert np.abs(rest).max() < 80
    assert abs(np.mean(rest)) < 0.2  # rounded, and not down


@pytest.mark.parametrize(("source", "is_whole"), [({}, True), ({"num_frames": None}, True), ({"start": 0.5}, False)])
def test_without_its_source_only_a_file_from_its_beginning_is_written(
    tmp_path: Path, source: Any, is_whole: Any
) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": [utterance("u", **source)]})
    if is_whole:
        done = unpack(corpus, tmp_path / "new", condition="noise", progress=False)
        assert done.missing_roots == ("train",)
    else:
        with pytest.raises(
            CutFileError, match=r"^a\.wav: the utterance is a stretch of this file, .*--root train=DIR$"
        ):
            unpack(corpus, tmp_path / "new", condition="noise", progress=False)


def test_utterances_that_overlap_are_named_in_their_order(tmp_path: Path) -> None:
    pair = [utterance("second", 1, start=0.4999), utterance("first", 2)]
    with pytest.raises(CollidingFilesError) as caught:
        unpack(write_corpus(tmp_path / "corpus", {"train": pair}), tmp_path / "new", condition="clean", progress=False)
    assert str(caught.value).startswith(
        "a.wav: the utterances first and second overlap in it, so that only one of them"
    )


def test_a_source_that_is_shorter_than_what_was_taken_from_it_is_refused(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", {"train": [utterance("u", start=0.25), utterance("early", 2, count=4000)]}
    )
    for count, fits in ((12_000, True), (11_999, True), (11_998, False)):
        write_wave(tmp_path / "source/a.wav", pcm(5, count))
        out = tmp_path / f"new{count}"
        if fits:
            unpack(corpus, out, condition="clean", roots={"train": tmp_path / "source"}, progress=False)
            assert read(out / "a.wav").size == count
        else:
            with pytest.raises(BadTarError, match=r"a\.wav: is shorter than the utterance u that was taken from it"):
                unpack(corpus, out, condition="clean", roots={"train": tmp_path / "source"}, progress=False)


def test_utterances_without_the_copy_are_counted_and_conditions_named(tmp_path: Path) -> None:
    made = [
        utterance("u", path="u.wav", copies=("far-0", "noise-0")),
        utterance("v", path="v.wav", copies=("noise-0",)),
    ]
    corpus = write_corpus(tmp_path / "corpus", {"train": made})
    done = unpack(corpus, tmp_path / "new", condition="far", progress=False)
    assert (done.files, done.without) == (1, 1)
    with pytest.raises(UsageError) as caught:
        unpack(corpus, tmp_path / "other", condition="fa", progress=False)
    assert str(caught.value) == f"{corpus}: no utterance has a copy 'fa'; conditions: clean, far, noise"
    with pytest.raises(UsageError, match=r"^--root: expected a folder on a disk, got a URL"):
        unpack(corpus, tmp_path / "other", condition="far", roots={"train": tmp_path, "x": "s3://b/x"}, progress=False)
    with pytest.raises(UsageError, match="name a new folder for the files"):
        unpack(corpus, tmp_path / "new", condition="far", progress=False)


def test_a_copy_that_is_not_what_the_index_says_is_named(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": [utterance("u")]})
    path = corpus / "shards/train-000000.json"
    index = json.loads(path.read_bytes())
    key = index["samples"][0]["key"]
    path.write_text(json.dumps(index | {"samples": [index["samples"][0] | {"num_samples": 8001}]}))
    with pytest.raises(BadTarError) as caught:
        unpack(corpus, tmp_path / "new", condition="noise", progress=False)
    assert (
        str(caught.value) == f"train-000000.tar: {key}.noise-0.flac: has 8000 samples at 16000 Hz; the index says 8001"
    )
    path.write_text(json.dumps(index))
    sealed = json.loads((corpus / "corpus.json").read_bytes())
    (corpus / "corpus.json").write_text(json.dumps(sealed | {"sample_rate": 8000}))
    with pytest.raises(BadTarError, match="has 8000 samples at 16000 Hz"):
        unpack(corpus, tmp_path / "new", condition="noise", progress=False)


@pytest.mark.parametrize(
    ("paths", "kind", "message"),
    [
        (("a.mp4",), UnwritableFormatError, "a.mp4: files of this kind cannot be written, only .wav, .flac, .ogg, .oga, .opus, .mp3,"),
        (("stillroom.json",), UsageError, "stillroom.json: too deep a path, or a name that is taken"),
        (("/".join("d" * 65) + "/a.wav",), UsageError, "d/d/d"),
        (("a.wav", "a.wav/c/b.wav"), UsageError, "a.wav/c/b.wav: another file of the corpus has this name"),
        (("a.wav", "a.wav/b.wav"), UsageError, "a.wav/b.wav: another file of the corpus has this name"),
        (("n" * 300 + ".wav",), UsageError, "n" * 199 + "…: no file can have this name on this disk (File name too long)"),
    ],
    ids=["container", "taken", "deep", "file and deeper folder", "file and folder", "long"],
)  # fmt: skip
def test_a_path_that_cannot_be_written_is_refused(
    tmp_path: Path, paths: tuple[str, ...], kind: type[Exception], message: str
) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", {"train": [utterance(f"u{at}", at + 1, path=path) for at, path in enumerate(paths)]}
    )
    with pytest.raises(kind) as caught:
        unpack(corpus, tmp_path / "new", condition="clean", progress=False)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "new").exists()


def test_the_new_root_is_not_inside_a_source_by_whatever_way(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/away").symlink_to(tmp_path)
    refuse_links_into(tmp_path / "other", {"r": tmp_path / "real"})
    refuse_links_into(tmp_path / "realm", {"r": tmp_path / "real"})
    for out, folder in (
        ("real/new", "real"),
        ("link/new", "real"),
        ("real/new", "link"),
        ("real/away/new", "real"),
        ("real", "real"),
    ):
        with pytest.raises(UsageError) as caught:
            refuse_links_into(tmp_path / out, {"s": tmp_path / "other", "r": tmp_path / folder})
        assert str(caught.value) == f"{tmp_path / out} is inside --root r; name a folder outside of it"
    assert [is_below(*pair) for pair in (("/a/b", "/a"), ("/a", "/a"), ("/ab", "/a"), ("/a", "/a/b"), ("/a", "/"))] == [True, True, False, False, True]  # fmt: skip


def test_a_name_of_the_source_that_is_written_is_not_linked_again(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", {"train": [utterance("u", path="x.wav")]})
    write_wave(tmp_path / "source/x.wav", pcm(1))
    (tmp_path / "source/broken").symlink_to("nowhere")
    (tmp_path / "source/stillroom.json").write_text("of an earlier one")
    (tmp_path / "source/again").mkdir()
    (tmp_path / "source/again/stillroom.json").write_text("another")
    (tmp_path / "source/again/up").symlink_to("..")
    done = unpack(corpus, tmp_path / "new", condition="noise", roots={"train": tmp_path / "source"}, progress=False)
    assert sorted(one.name for one in (tmp_path / "new").iterdir()) == ["again", "broken", "stillroom.json", "x.wav"]
    assert list((tmp_path / "new/again").iterdir()) == []
    assert not (tmp_path / "new/x.wav").is_symlink()
    assert (done.linked, done.linked_audio) == (1, 0)
