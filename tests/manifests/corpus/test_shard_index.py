"""What an index says of a shard, and `corpus.json` of all, held against numbers worked out here."""

from __future__ import annotations

from typing import Any

import pytest

from manifests.corpus.shard_index import IndexedSample, ShardEntry, ShardIndex, copies_of, entry_of, totals_of
from manifests.errors import BadDocumentError

SHA256 = "5" * 64


def sample(key: str = "u", num_samples: int = 100, **members: dict[str, Any]) -> dict[str, Any]:
    return {"key": key, "num_samples": num_samples, "members": members or {"clean": {"offset": 0, "size": 1}}}


def index(*samples: dict[str, Any], **changed: Any) -> ShardIndex:
    return ShardIndex.parse(
        {
            "schema": "stillroom/shard/1", "name": "train-000003", "split": "train", "sample_rate": 16_000, "bytes": 5120, "sha256": SHA256,
            "plan_sha256": "6" * 64, "samples": samples, **changed,
        },
        where="x",
    )  # fmt: skip


def test_members_are_found_by_what_they_are_in_whatever_order() -> None:
    one = IndexedSample.model_validate(
        sample(
            **{
                "noise-1": {"offset": 3000, "size": 500}, "clean": {"offset": 1000, "size": 700, "suffix": "Speech.wav"},
                "txt": {"offset": 600, "size": 9, "suffix": "txt"}, "noise-0": {"offset": 2000, "size": 1600, "pcm_sha256": SHA256},
                "cls": {"offset": 650, "size": 1, "suffix": "cls"}, "json": {"offset": 700, "size": 10},
            }
        )
    )  # fmt: skip
    assert one.copies == ["noise-0", "noise-1"]
    assert one.span == (600, 3600)
    assert [one.file_name(name) for name in ("json", "clean", "noise-1", "txt")] == [
        "u.json",
        "u.Speech.wav",
        "u.noise-1.flac",
        "u.txt",
    ]


def test_an_entry_says_of_a_shard_what_its_index_has() -> None:
    found = index(sample("a", 16_000), sample("b", 8_024), sample_rate=8000)
    assert entry_of(found, tar=None) == ShardEntry(
        name="train-000003", samples=2, seconds=3.003, bytes=5120, sha256=SHA256, tar=None
    )
    assert (entry_of(found, tar=None).tar_path, entry_of(found, tar="b/x.tar").tar_path) == (
        "shards/train-000003.tar",
        "b/x.tar",
    )


def test_totals_are_over_all_shards_of_all_splits() -> None:
    entries = [
        entry_of(index(*[sample(str(at), 16_016)] * count, bytes=count), tar=None)
        for at, count in ((1, 1), (2, 2), (3, 4))
    ]
    assert totals_of({"train": entries[:2], "test": entries[2:]}) == {
        "samples": 7,
        "seconds": 7.007,
        "bytes": 7,
        "shards": 3,
    }


def test_an_utterance_without_copies_makes_none_certain_wherever_it_is() -> None:
    copies = {name: {"offset": 0, "size": 1} for name in ("clean", "far_off-0", "far_off-1", "far_off-10", "a-0")}
    full, bare = sample("full", **copies), sample("bare")
    assert copies_of([index(full)]) == {"a": 1, "far_off": 3}
    assert copies_of([index(bare, full)]) == copies_of([index(full, bare)]) == {}
    assert copies_of([index(bare), index(full)]) == copies_of([index(full), index(bare)]) == {}


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({"bytes": 2**48 - 1}, True), ({"bytes": 2**48}, False), ({"bytes": -1}, False), ({"sample_rate": 0}, False),
        ({"samples": [sample(num_samples=1)]}, True), ({"samples": [sample(num_samples=0)]}, False),
        ({"samples": [sample(num_samples=2**40 - 1)]}, True), ({"samples": [sample(num_samples=2**40)]}, False),
        ({"samples": [sample(clean={"offset": 2**48 - 1, "size": 0})]}, True),
        ({"samples": [sample(clean={"offset": 2**48, "size": 0})]}, False),
        ({"samples": [sample(clean={"offset": 0, "size": 1, "suffix": ""})]}, False),
    ],
)  # fmt: skip
def test_numbers_of_an_index_are_read_to_their_edges(changed: dict[str, Any], fits: bool) -> None:
    if fits:
        index(**changed)
    else:
        with pytest.raises(BadDocumentError):
            index(**changed)


@pytest.mark.parametrize("tar", ["../x.tar", "/x.tar", "a/../../x.tar", "pipe:cat", "s3://b/x.tar"])
def test_a_tar_stays_below_its_folder(tar: str) -> None:
    plain = entry_of(index(sample()), tar="a/x.tar").model_dump()
    assert ShardEntry.parse(plain, where="x").tar_path == "a/x.tar"
    with pytest.raises(BadDocumentError):
        ShardEntry.parse(plain | {"tar": tar}, where="x")
