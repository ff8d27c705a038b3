"""What marks something as finished appears after everything that it stands for, and nothing appears half."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.build.preflight import copy_plan
from corpus_builder.exchange.index_webdataset import index_shards
from corpus_builder.exchange.subset import subset
from corpus_builder.rebuild.plan_subset import Selection
from corpus_builder.rebuild.rebuild_corpus import rebuild
from manifests.corpus.filter import parse_where
from manifests.io.atomic import making, replacing, write_bytes
from manifests.pack.write import write_pack
from manifests.plan.plan import Plan
from tests.corpus_builder.conftest import Inline, Lab, furnish
from tests.oracles.disk_log import Event, came, disk_log

if TYPE_CHECKING:
    from pathlib import Path


def before(names: list[str], first: str, second: str) -> bool:
    return max(at for at, name in enumerate(names) if name == first) < names.index(second)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A corpus, and what its build did to the disk."""
    lab = furnish(tmp_path_factory.mktemp("marks"))
    with disk_log() as events:
        assert lab.build().corpus is not None
    return lab.folder / "corpus", events


def test_a_shard_s_index_comes_after_its_tar_and_its_proof(built: tuple[Path, list[Event]]) -> None:
    corpus, events = built
    names = came(events, corpus)
    shards = [path.stem for path in (corpus / "shards").glob("*.tar")]
    assert len(shards) > 3
    for name in shards:
        parts = [f"shards/{name}.tar", f"proof/{name}.jsonl", f"proof/{name}.sources.jsonl"]
        assert all(before(names, part, f"shards/{name}.json") for part in parts)


def test_the_seal_comes_last_of_all_and_the_list_of_digests_before_it(built: tuple[Path, list[Event]]) -> None:
    corpus, events = built
    names = came(events, corpus)
    assert names[-1] == "corpus.json"
    assert names[-2] == "SHA256SUMS"
    assert names.count("corpus.json") == 1
    due = {path.relative_to(corpus).as_posix() for path in corpus.rglob("*") if path.is_file()}
    assert due == set(names)


def test_a_plan_comes_after_its_rows_and_a_bank_after_its_responses(built: tuple[Path, list[Event]]) -> None:
    corpus, events = built
    names = came(events, corpus)
    for path in (corpus / "plan").glob("*.jsonl"):
        assert before(names, f"plan/{path.name}", "plan/plan.json")
    for path in (corpus / "rooms").glob("*.npy"):
        assert before(names, f"rooms/{path.name}", "rooms/cell.jsonl")
    assert before(names, "plan/plan.json", "rooms/cell.jsonl")


def test_nothing_is_written_under_its_own_name(built: tuple[Path, list[Event]]) -> None:
    """Every file is written under a hidden one, synced, renamed, and its folder synced after that."""
    corpus, events = built
    here = [event for event in events if event.path.startswith(str(corpus))]
    written = {event.path.removeprefix(str(corpus)) for event in here if event.what == "written"}
    assert {path for path in written if "/." not in path} == set()
    for at, event in enumerate(here):
        if event.what != "renamed":
            continue
        folder, _, name = event.path.rpartition("/")
        hidden = [one for one in here[:at] if one.path.startswith(f"{folder}/.{name}.") and one.what == "synced"]
        assert hidden, event.path
        assert Event("synced", folder) in here[at : at + 3], event.path


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    with disk_log() as events:
        write_bytes(target, b"content")
    kinds = [(event.what, event.path.rpartition("/")[2]) for event in events if event.what != "removed"]
    part = next(name for what, name in kinds if what == "written")
    assert part.startswith(".x.json.")
    renamed = kinds.index(("renamed", "x.json"))
    assert kinds[:renamed].count(("synced", part)) == 1
    assert kinds[renamed + 1 :] == [("synced", tmp_path.name)]


def test_what_fails_on_the_way_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with disk_log() as events, pytest.raises(KeyboardInterrupt), replacing(tmp_path / "x") as part:
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [event.what for event in events if event.what in {"renamed", "synced"}] == []
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with making(tmp_path / "new") as part:
        part.mkdir()
        (part / "a").write_bytes(b"a")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]
    with pytest.raises(KeyboardInterrupt), making(tmp_path / "other") as part:
        part.mkdir()
        (part / "a").write_bytes(b"a")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_copied_plan_s_own_index_comes_last(built_lab: Lab, tmp_path: Path) -> None:
    corpus = built_lab.folder / "corpus"
    plan = Plan.read(corpus / "plan/plan.json", needed="a plan")
    with disk_log() as events:
        copy_plan(plan, corpus, tmp_path / "other")
    names = [name for name in came(events, tmp_path / "other") if name != "roots.local.json"]
    assert names[-1] == "plan/plan.json"
    assert set(names) == {f"plan/{path.name}" for path in (corpus / "plan").iterdir()} | {"recipe.yaml"}


def test_a_subset_appears_at_once_and_its_seal_is_written_last(built_lab: Lab, tmp_path: Path) -> None:
    with disk_log() as events:
        subset(built_lab.folder / "corpus", tmp_path / "part", where=parse_where(["split=train"]))
    names = came(events, tmp_path)
    assert names[-1] == "part"
    inside = [name.partition("/")[2] for name in names[:-1]]
    assert inside[-2:] == ["SHA256SUMS", "corpus.json"]
    assert {name for name in inside if name.startswith("shards/")}


def test_an_index_of_shards_is_sealed_last(built_lab: Lab, tmp_path: Path) -> None:
    with disk_log() as events:
        index_shards([str(built_lab.folder / "corpus/shards/test-000000.tar")], out=tmp_path / "index")
    names = came(events, tmp_path / "index")
    assert names[-2:] == ["SHA256SUMS", "corpus.json"]
    assert names.count("corpus.json") == 1


def test_a_rebuild_places_a_bank_after_its_responses_and_reports_last(built_lab: Lab, tmp_path: Path) -> None:
    pack, _ = write_pack(built_lab.folder / "corpus", tmp_path / "p.tar.gz", progress=False)
    roots = {"test": built_lab.folder / "speech/test", "hum": built_lab.folder / "noise"}
    only = Selection(splits=("test",), limit=1)
    with disk_log() as events:
        made = rebuild(pack, tmp_path / "theirs", roots=roots, selection=only, executor=Inline(), progress=False)
    assert made.proof is not None
    names = [name for name in came(events, tmp_path / "theirs") if not name.startswith(".")]
    responses = [name for name in names if name.endswith(".npy")]
    assert responses
    assert all(before(names, name, "rooms/cell.jsonl") for name in responses)
    assert names[-3:] == ["corpus.json", "rebuilt.jsonl", "rebuilt.json"]
    assert json.loads((tmp_path / "theirs/rebuilt.json").read_text())["identical"] == made.proof.total("identical")


def test_a_pack_that_fails_leaves_the_one_that_was_there(built_lab: Lab, tmp_path: Path) -> None:
    corpus: Any = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", corpus, ignore=shutil.ignore_patterns("*.tar"))
    path, _ = write_pack(corpus, tmp_path / "p.tar.gz", progress=False)
    whole = path.read_bytes()
    (corpus / "proof/train-000000.jsonl").unlink()
    with disk_log() as events, pytest.raises(FileNotFoundError):
        write_pack(corpus, path, progress=False)
    assert "renamed" not in {event.what for event in events}
    assert path.read_bytes() == whole
    assert sorted(one.name for one in tmp_path.iterdir()) == ["corpus", "p.tar.gz"]


def test_a_corpus_whose_shards_are_made_again_has_no_seal_meanwhile(built_lab: Lab, tmp_path: Path) -> None:
    """A trainer must not take it for finished."""
    shutil.copytree(built_lab.folder / "corpus", tmp_path / "corpus")
    (tmp_path / "corpus/shards/test-000000.json").unlink()
    lab = Lab(built_lab.folder)
    with disk_log() as events:
        made = lab.build(str(tmp_path / "corpus"))
    assert made.corpus is not None
    here = [event for event in events if event.path.startswith(str(tmp_path / "corpus"))]
    removed = here.index(Event("removed", str(tmp_path / "corpus/corpus.json")))
    tar = here.index(Event("renamed", str(tmp_path / "corpus/shards/test-000000.tar")))
    assert removed < tar < here.index(Event("renamed", str(tmp_path / "corpus/corpus.json")))
