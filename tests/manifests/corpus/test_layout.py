"""Names, kinds and rows of a corpus's files."""

import json

import pytest

from manifests.corpus import layout
from manifests.errors import BadDocumentError

SHA256 = "0" * 64


def kinds_of(path, kinds=layout.KINDS):
    return [kind.name for kind in kinds if kind.pattern.fullmatch(path)]


def test_every_path_is_of_the_kind_that_its_function_names():
    for path, name in (
        (layout.plan_rows_name("train-000000"), "plan/<shard>.jsonl"),
        (layout.tar_name("train-000000"), "shards/<shard>.tar"),
        (layout.index_name("train-000000"), "shards/<shard>.json"),
        (layout.prints_name("train-000000"), "proof/<shard>.jsonl"),
        (layout.sources_name("train-000000"), "proof/<shard>.sources.jsonl"),
        (layout.bank_name("office"), "rooms/<bank>.jsonl"),
        (layout.utterances_name("train"), "utterances/<split>.jsonl"),
        (layout.response_path("office-12-3"), "rooms/<response>.npy"),
    ):
        assert kinds_of(path) == [name]


def test_each_single_file_is_of_one_kind_and_strange_ones_of_none():
    for kind in layout.KINDS:
        if "<" not in kind.name:
            assert kinds_of(kind.name) == [kind.name]
    for strange in ("notes.txt", "plan/notes.jsonl", "corpusXjson", "shards/train.tar", "rooms/office-1.npy", "audio/a.flac",
                    "shards/train-000000.tar.gz", "plan/train-00000.jsonl", "proof/train-000000.sources.json"):  # fmt: skip
        assert kinds_of(strange) == []
        assert layout.packed_kind(strange) is None


def test_what_a_pack_has_is_a_corpus_without_tars_without_lists_of_sources_and_without_what_is_of_one_machine():
    packed = {kind.name for kind in layout.PACK_KINDS}
    assert {kind.name for kind in layout.KINDS} - packed == {
        "shards/<shard>.tar", "proof/<shard>.sources.jsonl", "utterances/<split>.jsonl", "roots.local.json", "rebuilt.json", "rebuilt.jsonl",
    }  # fmt: skip
    assert packed - {kind.name for kind in layout.KINDS} == {"pack.json", "sources.jsonl"}
    assert {
        "pack.json", "corpus.json", "recipe.yaml", "provenance.json", "plan/plan.json", "plan/levels.jsonl", "plan/rooms.jsonl",
        "sources.jsonl", "SHA256SUMS",
    } == layout.IN_EVERY_PACK  # fmt: skip


def test_a_url_gets_nothing_that_is_of_one_machine():
    assert layout.top_names() - layout.top_names(sent=True) == {"roots.local.json"}
    sent = {"plan", "rooms", "shards", "proof", "utterances", *layout.SEAL, "recipe.yaml"}
    assert layout.top_names(sent=True) == sent | {"rebuilt.json", "rebuilt.jsonl"}
    assert layout.SEAL[-1] == "corpus.json"


def test_summed_files_are_all_but_those_of_one_machine_hidden_ones_and_the_seal(tmp_path):
    for name in ("corpus.json", "recipe.yaml", "refused.jsonl", "README.md", "croissant.json", "provenance.json", "SHA256SUMS",
                 "roots.local.json", "rebuilt.json", "plan/plan.json", "plan/.train-000000.jsonl.host-1.part",
                 "rooms/office.jsonl", "shards/train-000000.json", "proof/train-000000.jsonl", "utterances/train.jsonl", ".lock"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert sorted(layout.summed_names(tmp_path)) == [
        "README.md", "croissant.json", "plan/plan.json", "proof/train-000000.jsonl", "recipe.yaml", "refused.jsonl",
        "rooms/office.jsonl", "shards/train-000000.json", "utterances/train.jsonl",
    ]  # fmt: skip
    assert layout.unsummed_names() == {
        "SHA256SUMS",
        "provenance.json",
        "roots.local.json",
        "rebuilt.json",
        "rebuilt.jsonl",
    }


def test_sums_are_read_as_they_were_written_and_no_file_twice():
    sums = {"b": "1" * 64, "a name": "2" * 64}
    text = layout.sums_text(sums)
    assert text == f"{'2' * 64}  a name\n{'1' * 64}  b\n"
    assert layout.listed_sums(text.encode(), where="x") == sums
    with pytest.raises(BadDocumentError, match="x:3"):
        layout.listed_sums((text + f"{'3' * 64}  b\n").encode(), where="x")


def test_a_bad_row_is_named_with_its_file_and_line(tmp_path):
    (tmp_path / "refused.jsonl").write_text(
        json.dumps({"split": "train", "id": "a", "reason": "silent"}) + "\n" + json.dumps({"split": "train"}) + "\n"
    )
    rows = layout.refusals(tmp_path)
    assert next(rows).reason == "silent"
    with pytest.raises(BadDocumentError, match=r"refused\.jsonl:2: id: this key is missing"):
        next(rows)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan/levels.jsonl").write_text("{}\n")
    with pytest.raises(BadDocumentError, match=r"^a pack: plan/levels\.jsonl:1: "):
        next(layout.noise_levels(tmp_path, where="a pack"))
