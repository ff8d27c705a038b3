"""What a command finds in the working folder of a corpus at a URL: the files at the URL decide, whatever an earlier run left."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from corpus_builder.shards.destination import Target
from manifests.io.place import sizes_below
from manifests.io.url import Url

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = itertools.count()
PLAN = {"plan/plan.json": b'{"of": "b"}', "plan/train-000000.jsonl": b"row\n", "recipe.yaml": b"name: b\n"}


@pytest.fixture
def bucket() -> Url:
    return Url(f"memory://bare-target-{next(NUMBERS)}/corpus")


def fetched(bucket: Url, work: Path, *, there: dict[str, bytes], here: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the working folder after the URL's were fetched."""
    for name, content in there.items():
        (bucket / name).put(content)
    for name, content in here.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_bytes(content)
    Target(work, bucket).fetch()
    return {name: (work / name).read_bytes() for name in sizes_below(work)}


def test_a_plan_of_the_same_size_is_another_one_and_nothing_of_it_stays(bucket: Url, tmp_path: Path) -> None:
    """Digests have one length, so that two plans of one recipe's name are often of one size."""
    old = {"plan/plan.json": b'{"of": "a"}', "plan/train-000000.jsonl": b"old\n", "shards/train-000000.tar": b"old"}
    assert fetched(bucket, tmp_path, there=PLAN, here=old) == PLAN


def test_of_the_same_plan_what_is_not_uploaded_stays(bucket: Url, tmp_path: Path) -> None:
    rendered = {"shards/train-000000.tar": b"tar", "shards/train-000000.json": b"index"}
    assert fetched(bucket, tmp_path, there=PLAN, here=PLAN | rendered) == PLAN | rendered


def test_a_seal_that_the_url_has_not_is_removed_here(bucket: Url, tmp_path: Path) -> None:
    assert fetched(bucket, tmp_path, there=PLAN, here=PLAN | {"corpus.json": b"{}"}) == PLAN


@pytest.mark.parametrize("name", ["rooms/cell.jsonl", "rooms/cell-0-0.npy", "recipe.yaml"])
def test_a_file_of_another_size_than_at_the_url_is_fetched_again(bucket: Url, tmp_path: Path, name: str) -> None:
    due = PLAN | {name: b"the whole of it"}
    assert fetched(bucket, tmp_path, there=due, here=PLAN | {name: b"a part"}) == due


def test_rows_of_a_plan_that_is_not_finished_and_tars_are_not_fetched(bucket: Url, tmp_path: Path) -> None:
    there = {"plan/train-000000.jsonl": b"row\n", "shards/train-000000.tar": b"tar", "recipe.yaml": b"name: b\n"}
    assert fetched(bucket, tmp_path, there=there, here={}) == {"recipe.yaml": b"name: b\n"}


def test_an_index_of_another_size_than_at_the_url_is_fetched_again(bucket: Url, tmp_path: Path) -> None:
    name = "shards/train-000000.json"
    (bucket / name).put(b"the index of now")
    (tmp_path / "shards").mkdir()
    (tmp_path / name).write_bytes(b"an older one")
    target = Target(tmp_path, bucket)
    for sizes in (None, target.shard_sizes()):
        assert target.index("train-000000", sizes=sizes).read_bytes() == b"the index of now"
        (tmp_path / name).write_bytes(b"an older one")
    with pytest.raises(FileNotFoundError):
        target.index("train-000001")


def test_a_plan_goes_to_the_url_with_its_index_last_and_what_is_there_is_not_sent_again(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    put_file = Url.put_file

    def noted(self: Url, path: Path) -> None:
        sent.append(self.name)
        put_file(self, path)

    monkeypatch.setattr(Url, "put_file", noted)
    for name, content in PLAN.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "plan/.train-000001.jsonl").write_bytes(b"temporary")
    target = Target(tmp_path, bucket)
    target.send_plan()
    assert (sorted(sent), sent[-1]) == (["plan.json", "recipe.yaml", "train-000000.jsonl"], "plan.json")
    sent.clear()
    target.send_plan()
    assert sent == []
    (tmp_path / "plan/train-000000.jsonl").write_bytes(b"other row\n")
    target.send_plan()
    assert sent == ["train-000000.jsonl", "plan.json"]
