"""Names, kinds and rows of a corpus's files."""

import hashlib
import io
import json

import numpy as np
import pytest

from manifests.corpus import layout
from manifests.errors import BadDocumentError, MissingFileError
from manifests.plan.plan import Plan

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
        (layout.bank_name("Big-office_2"), "rooms/<bank>.jsonl"),
        (layout.bank_name("b" * 64), "rooms/<bank>.jsonl"),
        (layout.response_path("Big-office_2-0-999999"), "rooms/<response>.npy"),
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
                 "rooms/.office-0-0.npy.host-1.part", "rooms/deeper/office.jsonl", "shards/.hidden", "notes.txt",
                 "rooms/office.jsonl", "shards/train-000000.json", "proof/train-000000.jsonl", "utterances/train.jsonl", ".lock"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
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
    assert layout.listed_sums(f"{'1' * 64} *b\n{'2' * 64}  * c".encode(), where="x") == {"b": "1" * 64, "* c": "2" * 64}
    for wrong in (f"{'1' * 63}  b", f"{'1' * 64} b", f"{'G' * 64}  b", f"{'1' * 64}  ", ""):
        with pytest.raises(BadDocumentError, match=r"^x:2: not a digest and a new file name"):
            layout.listed_sums(f"{'1' * 64}  a\n{wrong}\n{'2' * 64}  c\n".encode(), where="x")
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


ROOM = {
    "bank": "b", "room": 0, "splits": ["train"], "size_m": [4, 3, 2.5], "absorption": 0.2, "max_order": 9, "rt60_s": 0.3,
    "t30_s": [0.3], "microphone_m": [1, 1, 1], "sources_m": [[2, 2, 1]],
}  # fmt: skip


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_bad_room_is_named_with_its_file_and_line(tmp_path):
    write_lines(tmp_path / "plan/rooms.jsonl", ROOM, {**ROOM, "room": -1})
    for where, called in ((None, f"{tmp_path}/"), ("a pack", "a pack: ")):
        rooms = layout.planned_rooms(tmp_path, where=where)
        assert next(rooms).bank == "b"
        with pytest.raises(BadDocumentError, match=f"^{called}plan/rooms.jsonl:2: room: expected a number >= 0"):
            next(rooms)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (layout.noise_levels, "plan/levels.jsonl"),
        (layout.speech_spectra, "plan/spectra.jsonl"),
        (lambda corpus: layout.plan_rows(corpus, "train-000001"), "plan/train-000001.jsonl"),
        (lambda corpus: layout.room_responses(corpus, "hall"), "rooms/hall.jsonl"),
        (layout.refusals, "refused.jsonl"),
    ],
    ids=["levels", "spectra", "rows", "responses", "refusals"],
)
def test_rows_are_those_of_their_own_file(tmp_path, read, name):
    for other in ("plan/levels.jsonl", "plan/spectra.jsonl", "plan/train-000001.jsonl", "plan/train-000000.jsonl",
                  "rooms/hall.jsonl", "rooms/office.jsonl", "refused.jsonl"):  # fmt: skip
        write_lines(tmp_path / other, {"something": "else"})
    with pytest.raises(BadDocumentError, match=f"^{tmp_path}/{name}:1: "):
        list(read(tmp_path))
    (tmp_path / name).unlink()
    with pytest.raises(MissingFileError, match=f"{name} does not exist"):
        list(read(tmp_path))


def test_banks_are_the_finished_ones(tmp_path):
    for name in (
        "rooms/office.jsonl",
        "rooms/hall.jsonl",
        "rooms/office-0-0.npy",
        "rooms/.cell.jsonl.host-1.part",
        "plan/rooms.jsonl",
    ):
        write_lines(tmp_path / name)
    assert layout.banks(tmp_path) == ["hall", "office"]
    assert layout.banks(tmp_path / "nowhere") == []


def plan_of(*names, **more):
    files = [
        {"name": name, "split": "train", "rows": 1, "seconds": 1.0, "sha256": f"{at}" * 64}
        for at, name in enumerate(names, 1)
    ]
    digests = {"levels_sha256": "a" * 64, "rooms_sha256": "b" * 64, **more}
    return Plan.parse(
        {
            "schema": "stillroom/plan/2",
            "name": "p",
            "recipe_sha256": SHA256,
            "sample_rate": 16_000,
            "files": files,
            **digests,
        },
        where="x",
    )


def test_each_file_of_a_plan_has_its_own_digest():
    expected = {
        "plan/levels.jsonl": "a" * 64, "plan/rooms.jsonl": "b" * 64, "plan/train-000000.jsonl": "1" * 64, "plan/train-000001.jsonl": "2" * 64,
    }  # fmt: skip
    plan = ("train-000000", "train-000001")
    assert layout.planned_digests(plan_of(*plan)) == expected
    assert layout.planned_digests(plan_of(*plan, spectra_sha256="c" * 64)) == expected | {
        "plan/spectra.jsonl": "c" * 64
    }


def test_files_that_a_plan_needs_have_a_digest_only_where_they_are_recorded_responses(tmp_path):
    """Those of the others are in other lists, and of speech not always known."""

    def span(root, path, **more):
        return {"root": root, "path": path, "rate_hz": 16_000, **more}

    noise = {
        "kind": "noise",
        "form": "recorded",
        "source": "hum",
        "root": "hums",
        "recording": "n.wav",
        "offset": 0,
        "snr_db": 5.0,
    }
    steps = [{"kind": "room", "response": "b-0-0"}, noise, {"kind": "codec", "codec": "opus"}]
    for number in range(2):
        source = span(f"speech{number}", "u.wav", sha256="9" * 64)
        write_lines(
            tmp_path / f"plan/train-00000{number}.jsonl",
            {"source": source, "copies": [{"steps": steps if number else []}]},
        )
    responses = [{"place": 0, "t30_s": 0.3, "file": span("halls", f"r{at}.wav", sha256=f"{at}" * 64)} for at in (1, 2)]
    write_lines(tmp_path / "plan/rooms.jsonl", ROOM, {"bank": "real", "room": 0, "responses": responses})
    plan = plan_of("train-000000", "train-000001")
    assert layout.files_needed(tmp_path, plan) == {
        ("speech0", "u.wav"): None, ("speech1", "u.wav"): None, ("hums", "n.wav"): None, ("halls", "r1.wav"): "1" * 64, ("halls", "r2.wav"): "2" * 64,
    }  # fmt: skip
    assert layout.roots_needed(tmp_path, plan) == {"speech0", "speech1", "hums", "halls"}


def test_the_largest_response_that_a_recipe_may_have_fits_into_a_pack():
    content = io.BytesIO()
    np.save(content, np.zeros(30 * 48_000, np.float32))
    most = layout.packed_kind("rooms/office-0-0.npy").most_packed_bytes
    assert content.tell() <= most < content.tell() + 4096


def test_the_seal_is_over_what_is_listed_and_a_known_digest_is_not_taken_again(tmp_path):
    """What is at a URL already need not be on the disk any more."""
    (tmp_path / "recipe.yaml").write_bytes(b"recipe")
    sealed = plan_of("train-000000")
    layout.write_seal(
        tmp_path,
        sealed,
        summed=["recipe.yaml", "shards/gone.tar"],
        known={"shards/gone.tar": "e" * 64, "also": "f" * 64},
    )
    content = (tmp_path / "corpus.json").read_bytes()
    assert json.loads(content) == sealed.plain()
    assert layout.listed_sums((tmp_path / "SHA256SUMS").read_bytes(), where="x") == {
        "recipe.yaml": hashlib.sha256(b"recipe").hexdigest(), "shards/gone.tar": "e" * 64, "also": "f" * 64,
        "corpus.json": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
