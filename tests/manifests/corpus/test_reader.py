"""Reading of a sealed corpus, from folders written by hand: what is taken from where, and what a message names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manifests.corpus.reader import NoSuchSplitError, OpenCorpus, UnknownRootError, refuse_occupied
from manifests.errors import BadDocumentError, BadTarError, UsageError
from manifests.io.url import Url

SHA256 = "0" * 64
PARTS = {"json": b"{}", "b-0": b"second", "clean": b"clean wave", "a-0": b"1st"}  # in their order in the tar


def record(name: str) -> dict[str, Any]:
    return {
        "schema": "stillroom/sample/1", "id": name, "split": "train", "num_samples": 9, "sample_rate": 8000,
        "source": {"root": "r", "path": "a.wav", "rate_hz": 8000}, "copies": [],
    }  # fmt: skip


def write_corpus(
    folder: Path, *, borrowed: dict[str, Any] | None = None, parts: dict[str, bytes] = PARTS, size: int | None = None
) -> Path:
    """A corpus of three splits of a shard each, of an utterance each."""
    splits = {}
    for split in ("train", "test", "dev"):
        name, offset, members, content = f"{split}-000000", 512, {}, bytes(512)
        for part, given in parts.items():
            text = json.dumps(record(split)).encode() if given == b"{}" else given
            members[part] = {"offset": offset, "size": len(text)}
            content += text
            offset += len(text)
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        (folder / f"shards/{name}.tar").write_bytes(content)
        index = {
            "schema": "stillroom/shard/1", "name": name, "split": split, "sample_rate": 8000, "bytes": size or len(content), "sha256": SHA256,
            "plan_sha256": SHA256, "samples": [{"key": f"u-{split}", "num_samples": 9, "members": members}],
        }  # fmt: skip
        (folder / f"shards/{name}.json").write_text(json.dumps(index))
        splits[split] = [{"name": name, "samples": 1, "seconds": 0.1, "bytes": len(content), "sha256": SHA256}]
    corpus = {
        "schema": "stillroom/corpus/1", "name": "p", "recipe_sha256": SHA256, "plan_sha256": SHA256, "sample_rate": 8000, "splits": splits,
        "copies": {}, "totals": {"samples": 3, "seconds": 0.3, "bytes": 9, "shards": 3},
    }  # fmt: skip
    (folder / "corpus.json").write_text(json.dumps(corpus | ({} if borrowed is None else {"borrowed": borrowed})))
    return folder


def test_members_are_read_by_their_own_places_in_whatever_order_they_are_wanted(tmp_path: Path) -> None:
    opened = OpenCorpus(write_corpus(tmp_path))
    entry = opened.sealed.splits["test"][0]
    (sample,) = opened.index(entry).samples
    for names in (["a-0", "b-0"], ["b-0", "a-0"], ["clean"], ["clean", "a-0", "b-0"], []):
        found = opened.contents(entry, sample, names)
        assert list(found.items()) == [(name, PARTS[name]) for name in names]
    assert opened.record("test", entry, sample).id == "test"
    opened.tar(entry).unlink()
    with pytest.raises(
        BadTarError, match=rf"^{tmp_path}/shards/test-000000\.tar: is missing, though corpus\.json lists it"
    ):
        opened.contents(entry, sample, ["clean"])


def test_splits_are_in_the_order_of_the_corpus_and_an_unknown_one_is_refused_with_those_that_there_are(
    tmp_path: Path,
) -> None:
    opened = OpenCorpus(write_corpus(tmp_path))
    assert opened.splits() == ["train", "test", "dev"]
    assert opened.splits(("dev", "train", "dev")) == ["train", "dev"]
    assert [one.split for one in opened.utterances("dev", "train")] == ["train", "dev"]
    assert [one.record.id for one in opened.utterances()] == ["train", "test", "dev"]
    with pytest.raises(NoSuchSplitError) as caught:
        opened.splits(("dev", "valid"))
    assert str(caught.value) == f"{tmp_path} has no split 'valid'; it has train, test, dev"


def test_an_index_may_reach_to_the_end_of_its_tar_and_no_further(tmp_path: Path) -> None:
    end = 512 + sum(len(PARTS[name]) for name in ("b-0", "clean", "a-0"))
    parts = {name: PARTS[name] for name in ("b-0", "clean", "a-0")}
    exact = OpenCorpus(write_corpus(tmp_path / "exact", parts=parts, size=end))
    assert exact.index(exact.sealed.splits["dev"][0]).bytes == end
    for name, corpus in {
        "outside": write_corpus(tmp_path / "outside", parts=parts, size=end - 1),
        "unclean": write_corpus(tmp_path / "unclean", parts={"a-0": b"1st"}),
    }.items():
        opened = OpenCorpus(corpus)
        with pytest.raises(BadTarError) as caught:
            opened.index(opened.sealed.splits["dev"][0])
        assert (
            str(caught.value)
            == f"{tmp_path}/{name}/shards/dev-000000.json: u-dev has no clean member or is outside the tar"
        )


def test_a_record_that_cannot_be_read_is_named_by_its_shard_and_key(tmp_path: Path) -> None:
    opened = OpenCorpus(write_corpus(tmp_path, parts={**PARTS, "json": b"[]"}))
    with pytest.raises(BadDocumentError, match=r"^train-000000\.tar: u-train\.json: expected a mapping"):
        next(opened.utterances())
    opened = OpenCorpus(write_corpus(tmp_path, parts={"clean": b"x"}))
    with pytest.raises(BadDocumentError, match=r"^test-000000\.tar: u-test\.json: the index has no json member"):
        next(opened.utterances("test"))


def test_a_subset_of_an_own_corpus_is_as_strict_as_the_whole_and_an_external_one_is_not(tmp_path: Path) -> None:
    parts = {"clean": b"x", "json": b'{"speaker": "ann", "num_samples": 77}', "txt": b"words"}
    own = OpenCorpus(
        write_corpus(tmp_path / "own", parts=parts, borrowed={"of_sha256": SHA256, "where": ["split=train"]})
    )
    assert not own.is_external
    with pytest.raises(BadDocumentError, match="schema: this key is missing"):
        next(own.utterances())
    external = OpenCorpus(write_corpus(tmp_path / "external", parts=parts, borrowed={"foreign": True}))
    assert external.is_external
    found = next(external.utterances("test")).record
    assert (found.text, found.speaker, found.num_samples, found.sample_rate) == ("words", "ann", 9, 8000)
    assert (found.id, found.split, found.custom) == ("u-test", "test", {"num_samples": 77})


def test_tars_of_another_folder_are_found_by_the_root_of_this_machine(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "part", borrowed={"root": "whole"})
    local = folder / "roots.local.json"
    with pytest.raises(
        UnknownRootError, match=f"^{folder} reads shards of another folder, the root 'whole', and its roots.local.json"
    ):
        OpenCorpus(folder)

    def opened(**roots: str) -> OpenCorpus:
        local.write_text(json.dumps({"schema": "stillroom/roots/1", "roots": roots}))
        return OpenCorpus(folder)

    for roots in ({}, {"other": "/x"}):
        with pytest.raises(UnknownRootError, match="the root 'whole'"):
            opened(**roots)
    assert opened(other="/x", whole="/data/whole").tars == Path("/data/whole")
    assert opened(whole="s3://bucket/whole/").tars == Url("s3://bucket/whole")
    found = opened(whole="../up/./whole")
    assert found.tars == tmp_path / "up/whole"
    entry = found.sealed.splits["train"][0].model_copy(update={"tar": "a/b.tar"})
    assert found.tar(entry) == tmp_path / "up/whole/a/b.tar"
    local.write_text("{")
    with pytest.raises(BadDocumentError, match=f"^{local}: not valid JSON"):
        OpenCorpus(folder)
    local.write_text(json.dumps({"schema": "stillroom/roots/1", "roots": {"9": "/x"}}))
    with pytest.raises(BadDocumentError, match=f"^{local}: roots"):
        OpenCorpus(folder)


def test_only_a_new_or_an_empty_folder_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "new/er"):
        refuse_occupied(tmp_path / name, what="the subset")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/.hidden").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("used", "file", "link"):
        with pytest.raises(UsageError, match=f"^{tmp_path}/{name} exists already: name a new folder for the subset,"):
            refuse_occupied(tmp_path / name, what="the subset")
    with pytest.raises(UsageError, match=r"^s3://b/x: the subset is written to a folder on a disk"):
        refuse_occupied(Url("s3://b/x"), what="the subset")
