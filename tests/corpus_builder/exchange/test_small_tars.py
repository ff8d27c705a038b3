"""Indexes and subsets of tars of one or two utterances: order, names, splits and what is not there."""

from __future__ import annotations

import io
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.exchange.index_webdataset import Indexed, common_folder, index_shards, tars_at, tars_of, usual_name
from corpus_builder.exchange.lhotse_export import copy_names, cut_sets, export_shar
from corpus_builder.exchange.scan_webdataset import copy_name, shard_name
from corpus_builder.exchange.subset import subset
from corpus_builder.exchange.unpack import member_of, unpack
from manifests.corpus.filter import parse_where
from manifests.corpus.layout import listed_sums
from manifests.corpus.reader import NoSuchSplitError, OpenCorpus
from manifests.corpus.shard_index import IndexedSample, read_index
from manifests.errors import BadTarError, UsageError
from manifests.io.url import Url
from tests.oracles.forgery import pcm_sha256, sha256, write_members
from tests.oracles.tiny_corpus import tiny_split, write_corpus

if TYPE_CHECKING:
    from pathlib import Path


def wave(form: str = "FLAC", *, seed: int = 0, rate_hz: int = 16_000, channels: int = 1, count: int = 2000) -> bytes:
    """Noise, coded."""
    content = io.BytesIO()
    pcm = (2000 * np.random.RandomState(seed).standard_normal((count, channels))).astype(np.int16)
    soundfile.write(content, pcm, rate_hz, format=form)
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
    assert shard_name("x/" + "a" * 120 + "-end.tar", set()) == "a" * 96 + "-end"


@pytest.mark.parametrize(
    ("stem", "name"),
    [("mix-2", "mix-2"), ("json-0", "json_0-0"), ("clean-3", "clean_3-0"), ("json", "copy_json-0"), ("7", "copy_7-0"), ("a.b", "a_b-0"), ("", "audio-0"), ("m" * 40, "m" * 32 + "-0"), ("a-12345", "a_12345-0")],
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


# --- what is indexed --------------------------------------------------------------------------------------------------


def test_an_argument_names_tars_and_perhaps_their_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("set/b.tar", "set/a.tar", "set/deeper/c.tar", "other/d.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "set/folder.tar").mkdir()
    (tmp_path / "dev=x.tar").write_bytes(b"")
    (tmp_path / "link").symlink_to("set")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    assert tars_of(["set", "dev=other/*.tar", "test=~/../dev=x.tar"], split="train") == [
        ("train", tmp_path / "set/a.tar"), ("train", tmp_path / "set/b.tar"), ("dev", tmp_path / "other/d.tar"),
        ("test", tmp_path / "dev=x.tar"),
    ]  # fmt: skip
    assert tars_of(["dev=x.tar", "link/a.tar", "test=s3://b/x.tar"], split="train") == [
        ("train", tmp_path / "dev=x.tar"), ("train", tmp_path / "link/a.tar"), ("test", Url("s3://b/x.tar")),
    ]  # fmt: skip
    for arguments, split, message in (
        (["other", "set/a.tar", "dev=set/*.tar"], "train", f"^{tmp_path}/set/a.tar is named twice"),
        (["other"], "9a", "^--split: expected a name of letters, digits, - and _, got '9a'"),
        (["other", "dev=set/z*.tar"], "train", r"^dev=set/z\*\.tar: no \.tar found; expected tars of WebDataset samples"),
        (["dev=gone.tar"], "train", "^gone.tar does not exist: a tar, a folder of tars or a pattern"),
    ):  # fmt: skip
        with pytest.raises((UsageError, FileNotFoundError), match=message):
            tars_of(arguments, split=split)


def test_the_folder_of_tars_is_the_deepest_that_has_all_of_them(tmp_path: Path) -> None:
    assert common_folder([tmp_path / "a/b/x.tar", tmp_path / "a/b/y.tar"]) == tmp_path / "a/b"
    assert common_folder([tmp_path / "a/b/x.tar", tmp_path / "a/bc/y.tar"]) == tmp_path / "a"
    assert common_folder([Url("s3://b/a/x.tar"), Url("s3://b/a/c/y.tar")]) == Url("s3://b/a")
    for places in (
        [Url("s3://b/x.tar"), Url("gs://b/x.tar")],
        [Url("s3://b/x.tar"), Url("s3://c/x.tar")],
        [Url("s3://b/x.tar"), tmp_path / "x.tar"],
    ):
        with pytest.raises(UsageError, match="the tars are in different stores"):
            common_folder(places)
    with pytest.raises(UsageError, match="name the folder of the index on a disk with --out"):
        index_shards(["s3://b/x.tar"], progress=False)
    assert [usual_name(tmp_path / name) for name in ("a b.c", "9a", "_", "n" * 70)] == [
        "a_b_c",
        "indexed",
        "indexed",
        "n" * 64,
    ]


def test_shards_of_several_folders_keep_their_paths_and_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "real/set/b").mkdir(parents=True)
    (tmp_path / "real/set/a").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name, seed in (("a b.tar", 1), ("a_b.tar", 2), ("b/x.tar", 3)):
        write_members(
            tmp_path / "real/set" / name,
            {f"k{seed}.flac": wave(seed=seed), f"bad{seed}.flac": b"", f"m{seed}.txt": b"x"},
        )
    made = index_shards(
        [f"{tmp_path}/link/set", f"test={tmp_path}/link/set/b/x.tar"], out=tmp_path / "out", progress=False
    )
    (first, second), (third,) = made.corpus.splits["train"], made.corpus.splits["test"]
    assert [one.tar for one in (first, second, third)] == ["a b.tar", "a_b.tar", "b/x.tar"]
    assert first.name == "a_b"
    assert second.name.startswith("a_b-")
    assert third.name == "b_x"
    assert (made.corpus.name, made.corpus.borrowed.root) == ("set", "shards")  # type: ignore[union-attr]
    local = json.loads((tmp_path / "out/roots.local.json").read_bytes())
    assert local["roots"] == {"shards": f"{tmp_path}/link/set"}  # as it was named
    assert made.corpus.refused == {"train": 4, "test": 2}
    assert [one.id for one in made.refused] == ["bad1", "m1", "bad2", "m2", "bad3", "m3"]
    assert [json.loads(line)["id"] for line in (tmp_path / "out/refused.jsonl").read_bytes().splitlines()] == [
        one.id for one in made.refused
    ]
    assert set(listed_sums((tmp_path / "out/SHA256SUMS").read_bytes(), where="x")) == {
        "corpus.json", "refused.jsonl", "shards/a_b.json", f"shards/{second.name}.json", "shards/b_x.json",
    }  # fmt: skip
    assert sorted(one.sample.key for one in OpenCorpus(tmp_path / "out").utterances()) == ["k1", "k2", "k3"]
    assert [(one.bytes, one.sha256) for one in (first, second, third)] == [
        (len(content), sha256(content)) for content in ((tmp_path / "real/set" / name).read_bytes() for name in ("a b.tar", "a_b.tar", "b/x.tar"))
    ]  # fmt: skip


def test_an_index_beside_its_tars_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    made = indexed(tmp_path / "set", {"a.tar": {"k.flac": wave()}}, name="mine")
    assert (made.folder, made.corpus.name) == (tmp_path / "set", "mine")
    assert made.corpus.borrowed.root is None  # type: ignore[union-attr]
    assert not (tmp_path / "set/roots.local.json").exists()


def test_an_index_is_another_where_options_or_tars_are_others(tmp_path: Path) -> None:
    tars = {
        "a.tar": {"k.flac": wave(), "k.mix.flac": wave(seed=1)},
        "b.tar": {"l.flac": wave(seed=2), "l.mix.flac": wave(seed=3)},
    }
    first = indexed(tmp_path / "set", tars, out=tmp_path / "one").corpus
    assert index_shards([str(tmp_path / "set")], out=tmp_path / "two", progress=False).corpus == first
    other = index_shards([str(tmp_path / "set")], out=tmp_path / "three", clean="mix", progress=False).corpus
    assert other.recipe_sha256 != first.recipe_sha256
    assert other.copies == {"train": {"audio": 1}}
    last = indexed(tmp_path / "set", {"b.tar": {"l.flac": wave(seed=9)}}, out=tmp_path / "four").corpus
    assert (last.recipe_sha256, last.plan_sha256 != first.plan_sha256) == (first.recipe_sha256, True)


def test_the_commonest_rate_is_that_of_most_utterances_of_all_tars(tmp_path: Path) -> None:
    tars = {
        "a.tar": {"a.flac": wave(rate_hz=48_000), "b.flac": wave()},
        "b.tar": {"c.flac": wave(rate_hz=8000), "d.flac": wave(rate_hz=48_000), "e.flac": wave(), "f.flac": wave(seed=4)},
    }  # fmt: skip
    made = indexed(tmp_path, tars)
    assert (made.corpus.sample_rate, made.corpus.totals.samples) == (16_000, 3)
    assert {one.id: one.reason for one in made.refused} == {
        name: f"has a sample rate of {rate_hz} Hz; most have 16000" for name, rate_hz in (("a", 48_000), ("c", 8000), ("d", 48_000))
    }  # fmt: skip


def test_a_tar_without_a_usable_utterance_is_refused_with_its_first_reason(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"^no utterance can be used \(has no member that ends in \.flac, \.wav, \.ogg, \.opus, \.mp3\); expected",
    ):
        indexed(tmp_path, {"a.tar": {"k.txt": b"x", "l.flac": b"no sound"}})
    with pytest.raises(UsageError, match=r"^no utterance can be used \(the tars are empty\)"):
        indexed(tmp_path / "none", {"a.tar": {}})
    with pytest.raises(UsageError, match=r"^no utterance can be used \(has no member '.Mix', which --clean names\)"):
        indexed(tmp_path / "named", {"a.tar": {"k.flac": wave(), "l.mix2.flac": wave()}}, clean=".Mix")


@pytest.mark.parametrize(
    ("names", "options", "clean"),
    [
        (("WAV:wav", "FLAC:flac"), {}, "flac"), (("OGG:ogg", "WAV:wav"), {}, "wav"), (("MP3:mp3", "OGG:ogg"), {}, "ogg"),
        (("FLAC:clean.flac", "FLAC:flac"), {}, "flac"), (("FLAC:speech.flac", "FLAC:clean.flac"), {}, "clean.flac"),
        (("FLAC:audio.flac", "FLAC:speech.flac"), {}, "speech.flac"), (("FLAC:mix.flac", "FLAC:audio.flac"), {}, "audio.flac"),
        (("WAV:Far.WAV",), {}, "Far.WAV"), (("FLAC:flac", "FLAC:mix.b.flac"), {"clean": "mix.b"}, "mix.b.flac"),
        (("WAV:Mix.Wav", "FLAC:flac"), {"clean": ".mix.WAV"}, "Mix.Wav"), (("FLAC:a.flac", "FLAC:b.flac"), {"clean": "b"}, "b.flac"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_the_clean_member_is_the_one_of_the_usual_name_or_that_which_is_named(
    tmp_path: Path, names: tuple[str, ...], options: dict[str, str], clean: str
) -> None:
    members = {f"k.{name.partition(':')[2]}": wave(name.partition(":")[0], seed=at) for at, name in enumerate(names)}
    indexed(tmp_path, {"a.tar": members}, **options)
    (held,) = OpenCorpus(tmp_path).utterances()
    assert held.sample.members["clean"].suffix == clean
    assert held.record.source.path == f"k.{clean}"


def test_what_cannot_be_a_copy_is_counted_by_its_reason_over_all_tars(tmp_path: Path) -> None:
    def members(key: str) -> dict[str, bytes]:
        return {
            f"{key}.flac": wave(), f"{key}.Good.wav": wave("WAV", seed=1), f"{key}.bad.flac": b"none", f"{key}.rate.flac": wave(rate_hz=8000),
            f"{key}.both.flac": wave(channels=2), f"{key}.long.flac": wave(count=2001), f"{key}.good.flac": wave(seed=2),
        }  # fmt: skip

    made = indexed(tmp_path, {"a.tar": members("k"), "b.tar": members("l")})
    other = "not as long as the clean member, or of another rate, or not mono"
    assert dict(made.left_out) == {
        "bad.flac: cannot be decoded": 2, f"rate.flac: {other}": 2, f"both.flac: {other}": 2, f"long.flac: {other}": 2,
        "good.wav: another member has this name": 2,
    }  # fmt: skip
    for held in OpenCorpus(tmp_path).utterances():
        assert held.sample.copies == ["good-0"]
        assert held.sample.members["good-0"].pcm_sha256 == pcm_sha256(wave(seed=2))


def test_a_key_that_comes_again_is_refused_also_where_it_was_refused_before(tmp_path: Path) -> None:
    made = indexed(
        tmp_path, {"a.tar": {"k.flac": b"none", "l.flac": wave(), "k.wav": wave("WAV"), "l.wav": wave("WAV")}}
    )
    assert [(one.id, "side by side" in one.reason) for one in made.refused] == [("k", False), ("k", True), ("l", True)]
    assert made.corpus.totals.samples == 1


def test_a_long_wave_behind_a_link_is_indexed(tmp_path: Path) -> None:
    content = wave("WAV", count=600_000)
    write_members(tmp_path / "real", {"k.wav": content})
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.tar").symlink_to("../real")
    made = index_shards([str(tmp_path / "set")], progress=False)
    assert made.corpus.totals.seconds == 37.5
    assert made.corpus.totals.bytes == (tmp_path / "real").stat().st_size > 1 << 20


def test_an_index_is_unpacked_at_its_own_rate_and_lacks_no_root(tmp_path: Path) -> None:
    indexed(tmp_path / "set", {"a.tar": {"d/k.flac": wave(rate_hz=8000)}})
    done = unpack(tmp_path / "set", tmp_path / "new", condition="clean", progress=False)
    assert (done.files, done.missing_roots, done.unused_roots) == (1, (), ())
    assert json.loads((tmp_path / "new/stillroom.json").read_bytes())["sample_rate"] == 8000
    assert soundfile.info(tmp_path / "new/d/k.flac").samplerate == 8000


# --- subsets ----------------------------------------------------------------------------------------------------------


def test_a_subset_says_what_it_is_of_and_counts_what_it_has(tmp_path: Path) -> None:
    tars = {
        "a.tar": {"k.flac": wave(rate_hz=8000), "k.mix-0.flac": wave(rate_hz=8000), "k.mix-1.flac": wave(rate_hz=8000)},
        "b.tar": {"l.flac": wave(rate_hz=8000, count=4000)}, "c.tar": {"m.flac": wave(rate_hz=8000)},
    }  # fmt: skip
    whole = indexed(
        tmp_path / "set",
        tars,
        str(tmp_path / "set/a.tar"),
        str(tmp_path / "set/b.tar"),
        f"dev={tmp_path}/set/c.tar",
        out=tmp_path / "whole",
    )
    first = subset(tmp_path / "whole", tmp_path / "one", where=parse_where(["seconds<0.5"]), progress=False)
    assert {split: [(one.name, one.tar, one.samples, one.seconds) for one in entries] for split, entries in first.splits.items()} == {
        "train": [("a", "a.tar", 1, 0.25)], "dev": [("c", "c.tar", 1, 0.25)],
    }  # fmt: skip
    assert first.copies == {"train": {"mix": 2}, "dev": {}}
    assert (first.totals.samples, first.totals.seconds, first.totals.shards) == (2, 0.5, 2)
    assert not (tmp_path / "one/shards/b.json").exists()
    assert (first.name, first.recipe_sha256, first.plan_sha256) == (
        whole.corpus.name,
        whole.corpus.recipe_sha256,
        whole.corpus.plan_sha256,
    )
    assert first.borrowed.of_sha256 == OpenCorpus(tmp_path / "whole").digest  # type: ignore[union-attr]
    assert first.borrowed.foreign  # type: ignore[union-attr]
    second = subset(
        tmp_path / "one", tmp_path / "two", where=parse_where(["copy=mix-1", "split=train"]), progress=False
    )
    assert second.borrowed.where == ("seconds<0.5", "copy=mix-1", "split=train")  # type: ignore[union-attr]
    assert second.borrowed.of_sha256 == OpenCorpus(tmp_path / "one").digest  # type: ignore[union-attr]
    assert (list(second.splits), second.copies) == (["train"], {"train": {"mix": 1}})
    (held,) = OpenCorpus(tmp_path / "two").utterances()
    assert [copy.name for copy in held.record.copies] == ["mix-1"]


def test_a_subset_of_an_own_corpus_is_an_own_one_and_unknown_names_are_refused(tmp_path: Path) -> None:
    corpus = write_corpus(
        tmp_path / "corpus", {"train": tiny_split("train", count=2), "dev": tiny_split("dev", count=1)}
    )
    part = subset(corpus, tmp_path / "part", where=parse_where(["condition=clean"]), progress=False)
    assert (part.borrowed.foreign, part.totals.samples, part.copies) == (False, 3, {"train": {}, "dev": {}})  # type: ignore[union-attr]
    again = subset(
        tmp_path / "part", tmp_path / "again", where=parse_where(["condition=clean,gone", "split!=dev"]), progress=False
    )
    assert (again.borrowed.foreign, again.totals.samples, list(again.splits)) == (False, 2, ["train"])  # type: ignore[union-attr]
    for text, kind, message in (
        ("condition=noise,nois", UsageError, f"{corpus} has no condition 'nois'; it has clean, noise, phone"),
        ("split=dev,valid", NoSuchSplitError, f"{corpus} has no split 'valid'; it has train, dev"),
        ("speaker=nobody", UsageError, f"{corpus}: no utterance is selected by --where seconds>0 speaker=nobody"),
    ):  # fmt: skip
        with pytest.raises(kind) as caught:
            subset(corpus, tmp_path / "none", where=parse_where(["seconds>0", text]), progress=False)
        assert str(caught.value) == message
    with pytest.raises(UsageError, match="name a new folder for the subset"):
        subset(corpus, tmp_path / "part", where=parse_where(["seconds>0"]), progress=False)


# --- lhotse -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_an_export_has_the_splits_and_shards_that_are_wanted(tmp_path: Path) -> None:
    from lhotse import CutSet

    utterances = tiny_split("dev", count=5)
    for number, one in enumerate(utterances):
        one.custom |= {"gender": number}
    corpus = write_corpus(tmp_path / "corpus", {"train": tiny_split("train", count=2, seed=3), "dev": utterances})
    written = export_shar(corpus, tmp_path / "shar", splits=("dev",), shard_size=2, progress=False)
    assert [one.name for one in (tmp_path / "shar").iterdir()] == ["dev"]
    assert (written["dev"].cuts, written["dev"].fields) == (5, ("noise_0", "noise_1", "phone_0"))
    for name in ("recording", "noise_0", "noise_1", "phone_0"):
        assert len(list((tmp_path / "shar/dev").glob(f"{name}.*.tar"))) == 3
    cuts = list(CutSet.from_shar(in_dir=str(tmp_path / "shar/dev")))
    assert [cut.id for cut in cuts] == [one.id for one in utterances]
    assert {cut.supervisions[0].gender for cut in cuts} == {None}
    assert list(cut_sets(corpus, split="dev")) == ["clean", "noise-0", "noise-1", "phone-0"]
    assert [cut.id for cut in cut_sets(corpus, split="dev")["phone-0"]] == [one.id for one in utterances]
    with pytest.raises(NoSuchSplitError, match="has no split 'valid'; it has train, dev"):
        cut_sets(corpus, split="valid")
    with pytest.raises(UsageError, match="name a new folder for the export"):
        export_shar(corpus, tmp_path / "shar", progress=False)


def test_a_custom_field_that_would_be_a_copy_s_is_refused(tmp_path: Path) -> None:
    about = json.dumps({"mix_0": 1, "mix-0": 2}).encode()
    indexed(tmp_path / "set", {"a.tar": {"k.flac": wave(), "k.mix.flac": wave(seed=1), "k.json": about}})
    with pytest.raises(UsageError, match=r"^k: its custom field 'mix_0' has the name of a copy; rename one of them"):
        export_shar(tmp_path / "set", tmp_path / "shar", progress=False)
    assert not (tmp_path / "shar").exists()
