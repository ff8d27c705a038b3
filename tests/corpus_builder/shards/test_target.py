"""What a command finds in the working folder of a corpus at a URL: the files at the URL decide, whatever an earlier run left."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from corpus_builder.shards.destination import Target, transfer
from manifests.errors import UsageError
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


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of what is uploaded, below the URL, in order."""
    found: list[str] = []
    put_file = Url.put_file

    def noted(self: Url, path: Path) -> None:
        found.append(self.text.partition("/corpus/")[2])
        put_file(self, path)

    monkeypatch.setattr(Url, "put_file", noted)
    return found


def test_a_target_is_named_by_where_it_ends_up_and_each_url_has_a_working_folder_of_its_own(tmp_path: Path) -> None:
    assert Target.at(tmp_path / "c") == Target.of(str(tmp_path / "c")) == Target(tmp_path / "c")
    assert str(Target.at(tmp_path / "c")) == str(tmp_path / "c")
    urls = [Url(f"memory://bucket/{folder}/corpus") for folder in ("a", "b")]
    first, second = (Target.at(url, scratch=tmp_path) for url in urls)
    assert first.work.parent == second.work.parent == tmp_path
    assert first.work.name.startswith("corpus-")
    assert first.work != second.work
    assert Target.at(urls[0], scratch=tmp_path) == first
    assert str(first) == "memory://bucket/a/corpus"
    assert Target.of(first.work, "memory://bucket/a/corpus") == first
    assert Target.at(urls[0]).work.parent.name.startswith("stillroom-")


def test_a_url_with_other_files_is_refused_by_the_first_of_them_and_hidden_ones_are_passed_over(
    bucket: Url, tmp_path: Path
) -> None:
    for name in ("zebra.txt", "own/notes.md", ".hidden", "recipe.yaml"):
        (bucket / name).put(b"x")
    with pytest.raises(
        UsageError, match=r"has 'own/notes\.md', which is no file of a plan or corpus; choose an empty folder"
    ):
        Target(tmp_path, bucket).fetch()
    (bucket / "zebra.txt").remove()
    with pytest.raises(UsageError, match=r"has 'own/notes\.md'"):
        Target(tmp_path, bucket).fetch()
    (bucket / "own/notes.md").remove()
    Target(tmp_path, bucket).fetch()
    assert (tmp_path / "recipe.yaml").exists()


def test_sizes_are_those_of_where_the_corpus_ends_up(bucket: Url, tmp_path: Path) -> None:
    written(tmp_path, {"shards/train-000000.tar": b"12", "shards/train-000000.json": b"here"})
    (bucket / "shards/train-000000.tar").put(b"12345")
    (bucket / "shards/train-000000.json").put(b"there")
    here, there = Target(tmp_path), Target(tmp_path, bucket)
    assert [one.tar_size("train-000000") for one in (here, there)] == [2, 5]
    assert [one.tar_size("train-000001") for one in (here, there)] == [None, None]
    assert there.tar_size("train-000000", sizes={"train-000000.tar": 7, "train-000001.tar": 8}) == 7
    assert here.shard_sizes() == {"train-000000.tar": 2, "train-000000.json": 4}
    assert there.shard_sizes() == {"train-000000.tar": 5, "train-000000.json": 5}
    assert here.index("train-000000").read_bytes() == b"here"
    with pytest.raises(FileNotFoundError):
        there.index("train-000000", sizes={})  # not in that listing, although it is there now
    assert there.index("train-000000").read_bytes() == b"there"


def test_a_worker_elsewhere_fetches_the_rows_of_its_shard_last_and_no_others(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "plan/plan.json": b"p", "plan/levels.jsonl": b"l", "plan/train-000000.jsonl": b"0", "plan/train-000001.jsonl": b"1",
        "rooms/cell.jsonl": b"c", "rooms/cell-0-0.npy": b"n", "shards/train-000000.tar": b"t", "recipe.yaml": b"r",
    }  # fmt: skip
    for name, content in files.items():
        (bucket / name).put(content)
    fetched_: list[str] = []
    fetch = Url.fetch

    def noted(self: Url, path: Path) -> None:
        fetched_.append(self.text.partition("/corpus/")[2])
        fetch(self, path)

    monkeypatch.setattr(Url, "fetch", noted)
    written(tmp_path, {"plan/levels.jsonl": b"l"})
    target = Target(tmp_path, bucket)
    target.fetch_for("train-000001")
    assert sorted(fetched_) == ["plan/plan.json", "plan/train-000001.jsonl", "rooms/cell-0-0.npy", "rooms/cell.jsonl"]
    assert fetched_[-1] == "plan/train-000001.jsonl"  # whose presence means that all is there
    assert {name: (tmp_path / name).read_bytes() for name in fetched_} == {name: files[name] for name in fetched_}
    (tmp_path / "rooms/cell.jsonl").unlink()
    target.fetch_for("train-000001")
    assert len(fetched_) == 4


def test_rooms_go_before_their_lists_and_a_shard_before_its_index_and_its_tar_is_not_kept(
    bucket: Url, tmp_path: Path, sent: list[str]
) -> None:
    shard = [
        "shards/train-000000.tar",
        "proof/train-000000.jsonl",
        "proof/train-000000.sources.jsonl",
        "shards/train-000000.json",
    ]
    rooms = ["rooms/b-0-0.npy", "rooms/a-0-0.npy", "rooms/b.jsonl", "rooms/a.jsonl"]
    files = {name: name.encode() for name in (*shard, *rooms, "rooms/.a-0-1.npy.part", "shards/train-000001.tar")}
    target = Target(written(tmp_path, files), bucket)
    target.send_rooms()
    assert sorted(sent) == sorted(rooms)
    assert sent[-2:] == ["rooms/a.jsonl", "rooms/b.jsonl"]
    sent.clear()
    target.send_shard("train-000000")
    assert sent == shard
    assert not (tmp_path / shard[0]).exists()
    assert (tmp_path / shard[3]).exists()
    assert (bucket / shard[0]).read() == shard[0].encode()
    assert not (bucket / "shards/train-000001.tar").exists()


def test_what_is_sent_again_is_what_differs_and_then_its_mark(bucket: Url, tmp_path: Path, sent: list[str]) -> None:
    target = Target(written(tmp_path, {"recipe.yaml": b"r", "plan/levels.jsonl": b"l", "plan/plan.json": b"p"}), bucket)
    target.send(["recipe.yaml", "plan/levels.jsonl"], marks=["plan/plan.json"])
    assert sorted(sent) == ["plan/levels.jsonl", "plan/plan.json", "recipe.yaml"]
    sent.clear()
    (bucket / "plan/plan.json").remove()  # the upload was interrupted before it
    target.send(["recipe.yaml", "plan/levels.jsonl"], marks=["plan/plan.json"])
    assert sent == ["plan/plan.json"]


def test_a_corpus_that_is_made_again_is_unsealed_in_both_places_and_only_a_working_folder_is_emptied(
    bucket: Url, tmp_path: Path
) -> None:
    files = {"corpus.json": b"{}", "plan/plan.json": b"p", "recipe.yaml": b"r"}
    here = Target(written(tmp_path / "here", files))
    here.unseal()
    here.clear()
    assert set(sizes_below(tmp_path / "here")) == {"plan/plan.json", "recipe.yaml"}
    there = Target(written(tmp_path / "work", files), bucket)
    for name, content in files.items():
        (bucket / name).put(content)
    there.unseal()
    assert not (tmp_path / "work/corpus.json").exists()
    assert set(sizes_below(bucket)) == {"plan/plan.json", "recipe.yaml"}
    there.unseal()
    there.clear()
    assert list((tmp_path / "work").iterdir()) == []


def test_the_error_of_any_of_several_transfers_is_raised() -> None:
    for fails in range(3):
        moved: list[str] = []

        def move(name: str, fails: int = fails, moved: list[str] = moved) -> None:
            if name == str(fails):
                raise OSError(name)
            moved.append(name)

        with pytest.raises(OSError, match=str(fails)):
            transfer(move, ["0", "1", "2"])
    transfer(moved.append, [])
    transfer(moved.append, ["alone"])
    assert moved[-1] == "alone"


def test_what_marks_a_plan_and_a_bank_as_finished_is_fetched_after_all_else(
    bucket: Url, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [
        "plan/plan.json",
        "plan/a-000000.jsonl",
        "plan/z-000000.jsonl",
        "rooms/cell.jsonl",
        "rooms/z-0-0.npy",
        "shards/a-000000.json",
    ]
    for name in names:
        (bucket / name).put(name.encode())
    order: list[str] = []
    fetch = Url.fetch

    def noted(self: Url, path: Path) -> None:
        fetch(self, path)
        order.append(self.text.partition("/corpus/")[2])

    monkeypatch.setattr(Url, "fetch", noted)
    Target(tmp_path, bucket).fetch()
    assert sorted(order) == sorted(names)
    assert set(order[-2:]) == {"plan/plan.json", "rooms/cell.jsonl"}
