"""Whose files are compared by their sound, from where, each once; and what is said of those that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.audit.audio_fingerprint import prints_of
from corpus_builder.audit.audit_corpora import (
    FileToCompare,
    add_sound_leaks,
    distinct,
    fingerprint_of,
    letter_of,
    roots_by_letter,
    usable,
)
from corpus_builder.audit.fingerprint_search import FEWEST, Library
from corpus_builder.audit.leaks import Facts
from manifests.errors import UsageError
from manifests.io.digest import file_digest
from manifests.io.place import places_of

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 16_000


def file(path: str, *, corpus: str = "A", place: object = None, groups: tuple[int, ...] = (0,), **given: Any) -> Any:
    own = {"root": "hum", "sha256": None, "channel": None, "cache": None, "kind": "noise"} | given
    return FileToCompare(corpus=corpus, path=path, place=None if place is None else str(place), groups=groups, **own)


def noise(seed: int, seconds: float = 3.0) -> Any:
    """Noise whose loudness moves, so that two are never alike."""
    rng = np.random.RandomState(seed)
    wave = rng.standard_normal(round(seconds * RATE_HZ))
    return 0.1 * np.convolve(wave, rng.standard_normal(8), mode="same") / 8


def test_corpora_have_letters_beyond_the_alphabet() -> None:
    assert [letter_of(number) for number in (0, 25, 26, 27, 52, 701, 702)] == ["A", "Z", "AA", "AB", "BA", "ZZ", "AAA"]


def test_a_root_of_a_letter_that_no_corpus_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--root C:hum: there is no corpus C; there are A, B, in order$"):
        roots_by_letter({letter: tmp_path / letter for letter in "AB"}, places_of({"hum": "/y", "C:hum": "/x"}))


def test_a_file_is_compared_once_for_all_that_use_it_from_where_it_is_known() -> None:
    files = [
        file("a.wav", sha256="f" * 64, groups=(2,)),
        file("b.wav", corpus="B", sha256="f" * 64, groups=(5, 0), place="/b/b.wav"),
        file("c.wav", corpus="C", sha256="f" * 64, groups=(2, 3), place="/c/c.wav"),
        file("a.wav", sha256="f" * 64, channel=1),
        file("d.wav", groups=(1,)),
        file("d.wav", channel=1, groups=(2,)),
        file("d.wav", corpus="B"),
        file("d.wav", root="other"),
        file("d.wav", groups=(4,)),
    ]
    assert [(one.corpus, one.root, one.path, one.place, one.channel, one.groups) for one in distinct(files)] == [
        ("B", "hum", "b.wav", "/b/b.wav", None, (0, 2, 3, 5)),
        ("A", "hum", "a.wav", None, 1, (0,)),
        ("A", "hum", "d.wav", None, None, (1, 4)),
        ("A", "hum", "d.wav", None, 1, (2,)),
        ("B", "hum", "d.wav", None, None, (0,)),
        ("A", "other", "d.wav", None, None, (0,)),
    ]


def test_why_a_file_is_not_compared_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", noise(1, 1.0), RATE_HZ)
    assert [
        fingerprint_of(one).why
        for one in (
            file("x.wav", root="din"),
            file("x.wav", place=tmp_path / "gone.wav"),
            file("x.wav", place=tmp_path / "text.wav"),
            file("x.wav", place=tmp_path / "text.wav", sha256="0" * 64),
            file("x.wav", place=tmp_path / "short.wav", sha256=file_digest(tmp_path / "short.wav")),
        )
    ] == [
        "the folder of din is not known; pass it with --root",
        "they do not exist",
        "they cannot be decoded",
        "they have another digest than in the manifest",
        "they are shorter than 1.11 s of sound",
    ]


def test_frames_without_sound_do_not_make_a_recording_long_enough() -> None:
    prints = np.zeros(2 * FEWEST, dtype=np.uint32)
    prints[:FEWEST] = 7
    assert usable(prints).prints is prints
    prints[0] = 0
    assert usable(prints).prints is None


def test_a_frame_is_quiet_sixty_decibels_under_the_loudest_as_is_the_one_after_it() -> None:
    powers = np.random.RandomState(0).uniform(0.5, 1, (6, 33))
    for share, is_heard in ((1e-5, True), (1e-7, False)):
        some = powers.copy()
        some[3] *= share
        assert [bool(one) for one in prints_of(some)] == [True, True, is_heard, is_heard, True]


def test_files_of_the_same_sound_are_a_leak_of_the_splits_that_use_them(tmp_path: Path) -> None:
    """A noise is in splits 0 and 2, a recording of 1 has it from 0.5 s on; what cannot be compared is counted by its kind."""
    for name, wave in (("a", noise(1)), ("b", np.concatenate([noise(3, 0.5), noise(1)])), ("c", noise(4))):
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE_HZ)
    files = [
        file("b.wav", place=tmp_path / "b.wav", groups=(1,), kind="recording"),
        file("a.wav", place=tmp_path / "a.wav", groups=(0, 2)),
        file("c.wav", place=tmp_path / "c.wav", groups=(0,)),
        file("gone.wav", place=tmp_path / "gone.wav"),
        file("gone too.wav", place=tmp_path / "gone.wav", kind="recording"),
        file("gone.wav", corpus="B", place=tmp_path / "gone.wav", groups=(3,)),
    ]
    with Facts(tmp_path / "facts") as facts:
        for corpus, split in (("A", "train"), ("A", "dev"), ("A", "test"), ("B", "test")):
            facts.group(corpus, split)
        leaks = facts.leaks(editions=False)
        add_sound_leaks(facts, leaks, files, Library(tmp_path / "prints"), workers=1, progress=False)
        unchecked = [str(one) for one in facts.unchecked]
    assert leaks.of("recording") == []
    found = {(str(leak.first), str(leak.second)): leak.examples for leak in leaks.of("noise")}
    [[(first, second)], [(third, fourth)]] = found.values()
    assert list(found) == [("A:train", "A:dev"), ("A:dev", "A:test")]
    assert (second, third) == ("b.wav", "b.wav")
    assert first == fourth
    assert first.startswith(("a.wav (3 s, ", "a.wav (2.9"))
    assert first.endswith(" % of bits differ)")
    assert unchecked == [
        "noise, A: 1 of 3 files were not compared by sound: they do not exist",
        "noise, B: 1 of 1 files were not compared by sound: they do not exist",
        "recording, A: 1 of 2 files were not compared by sound: they do not exist",
    ]
