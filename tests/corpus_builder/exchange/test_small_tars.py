"""Indexes and subsets of tars of one or two utterances: order, names, splits and what is not there."""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.exchange.index_webdataset import Indexed, index_shards, tars_at
from corpus_builder.exchange.lhotse_export import copy_names
from corpus_builder.exchange.scan_webdataset import copy_name, shard_name
from corpus_builder.exchange.subset import subset
from corpus_builder.exchange.unpack import member_of
from manifests.corpus.filter import parse_where
from manifests.corpus.reader import OpenCorpus
from manifests.corpus.shard_index import IndexedSample, read_index
from manifests.errors import BadTarError
from tests.oracles.forgery import write_members

if TYPE_CHECKING:
    from pathlib import Path


def wave(*, seed: int = 0) -> bytes:
    """A FLAC of noise."""
    content = io.BytesIO()
    pcm = (2000 * np.random.RandomState(seed).standard_normal(2000)).astype(np.int16)
    soundfile.write(content, pcm, 16_000, format="FLAC")
    return content.getvalue()


def floats(peak: float) -> bytes:
    """A WAV of floats with a peak."""
    content = io.BytesIO()
    noise = 0.1 * np.random.RandomState(0).standard_normal(2000)
    noise[1000] = -peak
    soundfile.write(content, noise, 16_000, format="WAV", subtype="FLOAT")
    return content.getvalue()


def indexed(folder: Path, tars: dict[str, dict[str, bytes]], *arguments: str, **options: Any) -> Indexed:
    folder.mkdir(parents=True, exist_ok=True)
    for name, members in tars.items():
        write_members(folder / name, members)
    return index_shards(arguments or [str(folder)], progress=False, **options)


def test_tars_of_a_folder_and_of_a_pattern_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [f"{first}{second}.tar" for first, second in itertools.product("dbca", "312")]
    for name in [*names, "x.txt"]:
        (tmp_path / name).write_bytes(b"")
    for text in (str(tmp_path), f"{tmp_path}/*.tar"):
        assert [place.name for place in tars_at(text)] == sorted(names)
    assert [place.name for place in tars_at(f"{tmp_path}/[ab]?.tar")] == ["a1.tar", "a2.tar", "a3.tar", "b1.tar", "b2.tar", "b3.tar"]  # fmt: skip


def test_no_two_shards_have_one_name() -> None:
    paths = ["a b.tar", "a_b.tar", "a-b.tar", "a/b.tar", f"1{'x' * 120}.tar", f"2{'x' * 120}.tar", "_.tar", "-.tar"]
    used: set[str] = set()
    names = [shard_name(path, used) for path in paths]
    assert len(set(names)) == len(paths)
    assert (names[0], names[2]) == ("a_b", "a-b")


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mix-2", "mix-2"), ("json-0", "json_0-0"), ("clean-3", "clean_3-0"), ("json", "copy_json-0"), ("7", "copy_7-0"), ("a.b", "a_b-0")],
)  # fmt: skip
def test_a_copy_keeps_its_name_where_it_is_one_and_no_other_members(stem: str, name: str) -> None:
    assert copy_name(stem) == name


def test_of_copies_of_a_condition_the_one_of_the_smallest_number_is_first() -> None:
    members = {name: {"offset": 0, "size": 1} for name in ("clean", "mix-10", "mix-2", "far-1")}
    sample = IndexedSample.model_validate({"key": "k", "num_samples": 1, "members": members})
    found = [member_of(sample, condition) for condition in ("mix", "far", "mix-10", "clean", "mi")]
    assert found == ["mix-2", "far-1", "mix-10", "clean", None]


def test_a_member_may_reach_full_scale_and_not_go_beyond(tmp_path: Path) -> None:
    made = indexed(tmp_path, {"a.tar": {"k.wav": floats(1.0), "l.wav": floats(1.001)}})
    assert made.corpus.totals.samples == 1
    assert [one.id for one in made.refused] == ["l"]
    assert "beyond full scale" in made.refused[0].reason


def test_splits_and_shards_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    plain, mixed = {"k.flac": wave()}, {"l.flac": wave(seed=1), "l.mix.flac": wave(seed=2)}
    tars = {"a.tar": plain, "b.tar": mixed}
    made = indexed(tmp_path / "two", tars, f"dev={tmp_path}/two/a.tar", f"test={tmp_path}/two/b.tar")
    assert made.corpus.copies == {"dev": {}, "test": {"mix": 1}}


def test_copies_of_any_shard_of_a_split_are_exported(tmp_path: Path) -> None:
    tars = {"a.tar": {"k.flac": wave()}, "b.tar": {"l.flac": wave(seed=1), "l.mix.flac": wave(seed=2)}}
    indexed(tmp_path / "one", tars)
    assert copy_names(OpenCorpus(tmp_path / "one"), "train") == ["mix-0"]


def test_a_subset_has_nothing_of_what_the_whole_refused(tmp_path: Path) -> None:
    made = indexed(tmp_path / "whole", {"a.tar": {"k.flac": wave(), "l.txt": b"no audio"}})
    assert [one.id for one in made.refused] == ["l"]
    part = subset(tmp_path / "whole", tmp_path / "part", where=parse_where(["seconds>0"]), progress=False)
    assert (part.refused, part.totals.samples) == ({}, 1)
    assert read_index(tmp_path / "part", "a").refused == ()
    assert (tmp_path / "part/refused.jsonl").read_bytes() == b""


def test_a_relative_folder_of_tars_is_relative_to_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(tmp_path / "data", {"a.tar": {"k.flac": wave()}}, out=tmp_path / "index")
    path = tmp_path / "index/roots.local.json"
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"roots": dict.fromkeys(document["roots"], "../data")}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = OpenCorpus(tmp_path / "index")
    assert opened.tars == tmp_path / "data"
    assert [held.sample.key for held in opened.utterances()] == ["k"]


def test_a_tar_that_ends_within_a_member_is_not_read_as_if_it_were_whole(tmp_path: Path) -> None:
    indexed(tmp_path, {"a.tar": {"k.flac": wave()}})
    opened = OpenCorpus(tmp_path)
    (held,) = opened.utterances()
    end = held.sample.members["clean"].offset + held.sample.members["clean"].size
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:end])
    assert opened.contents(held.entry, held.sample, ["clean"])["clean"] == wave()
    (tmp_path / "a.tar").write_bytes(whole[: end - 1])
    with pytest.raises(BadTarError, match=f"ends at byte {end - 1}, its index goes on to {end}"):
        opened.contents(held.entry, held.sample, ["clean"])
