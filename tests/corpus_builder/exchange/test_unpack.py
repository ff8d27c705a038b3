"""Odd source trees and containers, unpacked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import soundfile

from corpus_builder.exchange.unpack import UnwritableRateError, unpack
from tests.corpus_builder.conftest import Lab, voice, write_wave

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
