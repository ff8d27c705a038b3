"""A part of a pack's plan: its rows, rooms and recipe are those of the part, and its digests are its own."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.plan.materials.seeded_random import keyed_hash
from corpus_builder.rebuild.plan_subset import Selection, write_selection
from corpus_builder.rebuild.rebuild_corpus import SourcesDifferError, check_sources, copy_rooms, find_roots
from corpus_builder.rebuild.report import decoded_otherwise
from corpus_builder.rebuild.source_check import SourceProblem
from corpus_builder.sources.roots import write_roots
from manifests.corpus.fingerprints import decoded_sources
from manifests.errors import BadDocumentError, DigestMismatchError, UsageError
from manifests.io.digest import digest, file_digest
from manifests.plan.plan import Plan
from manifests.recipe.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.corpus_builder.conftest import Lab

REFUSED = ({"split": "train", "id": "x", "reason": "r"}, {"split": "test", "id": "y", "reason": "s"})


@pytest.fixture
def opened(built_lab: Lab, tmp_path: Path) -> Any:
    """The built corpus as a pack that was opened: something of each split was refused, and there is a second bank, which no row uses."""
    folder = tmp_path / "opened"
    shutil.copytree(built_lab.folder / "corpus", folder, ignore=shutil.ignore_patterns("*.tar"))
    rooms = folder / "plan" / "rooms.jsonl"
    extra = json.loads(rooms.read_text().splitlines()[0]) | {"bank": "zoo"}
    rooms.write_text(rooms.read_text() + json.dumps(extra) + "\n")
    plan = Plan.read(folder / "plan" / "plan.json", needed="x")
    plan = Plan.parse(plan.plain() | {"refused": list(REFUSED)}, where="test")
    recipe = Recipe.read(folder / "recipe.yaml", needed="x")
    return SimpleNamespace(folder=folder, plan=plan, recipe=recipe)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    paths = sorted((folder / "plan").glob("*-[0-9]*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def selected(opened: Any, folder: Path, **options: Any) -> tuple[Plan, list[dict[str, Any]], Recipe]:
    plan = write_selection(opened, Selection(**options), folder)
    assert Plan.read(folder / "plan" / "plan.json", needed="x") == plan
    for file in plan.files:
        path = folder / "plan" / f"{file.name}.jsonl"
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert file.sha256 == file_digest(path)
        assert file.rows == len(rows)
        assert file.seconds == round(sum(row["num_samples"] for row in rows) / 16_000, 3)
        assert {row["split"] for row in rows} == {file.split}
    assert plan.rooms_sha256 == file_digest(folder / "plan" / "rooms.jsonl")
    assert plan.levels_sha256 == file_digest(folder / "plan" / "levels.jsonl")
    recipe = Recipe.read(folder / "recipe.yaml", needed="x")
    assert plan.recipe_sha256 == digest(recipe.plain())
    return plan, rows_of(folder), recipe


def banks(folder: Path) -> list[str]:
    return [json.loads(line)["bank"] for line in (folder / "plan" / "rooms.jsonl").read_bytes().splitlines()]


def test_one_split_has_its_rows_refusals_and_copies_and_no_bank_that_it_does_not_use(
    opened: Any, tmp_path: Path
) -> None:
    plan, rows, recipe = selected(opened, tmp_path / "part", splits=("test",))
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(opened.folder) if row["split"] == "test"]
    assert len(rows) == 4
    assert [one.id for one in plan.refused] == ["y"]
    assert recipe.copies == {"test": {"noise": 1, "far": 1}}
    assert set(banks(tmp_path / "part")) == {"cell"}
    assert plan.limit is None


def test_some_conditions_leave_every_utterance_with_their_copies_alone(opened: Any, tmp_path: Path) -> None:
    plan, rows, recipe = selected(opened, tmp_path / "part", conditions=("phone", "noise"))
    copies = {row["split"]: [copy["name"] for copy in row["copies"]] for row in rows}
    assert copies == {"train": ["noise-0", "noise-1", "phone-0"], "test": ["noise-0"]}
    assert len(rows) == 12
    assert [one.id for one in plan.refused] == ["x", "y"]
    assert recipe.copies == {"train": {"noise": 2, "phone": 1}, "test": {"noise": 1}}
    assert banks(tmp_path / "part") == []


def test_a_limit_takes_of_each_split_the_utterances_of_the_smallest_hashes(opened: Any, tmp_path: Path) -> None:
    plan, rows, _ = selected(opened, tmp_path / "part", limit=3)
    for split, number in (("train", 8), ("test", 4)):
        names = [row["id"] for row in rows_of(opened.folder) if row["split"] == split]
        assert len(names) == number
        taken = {row["id"] for row in rows if row["split"] == split}
        assert taken == set(sorted(names, key=lambda name: keyed_hash(5, "order", split, name))[:3])
    assert plan.limit == 3
    assert plan.refused == ()
    everything = [row for row in rows_of(opened.folder) if row["id"] in {row["id"] for row in rows}]
    assert rows == everything


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"splits": ("train", "dev")}, "--split dev: the pack has no such split; it has train, test"),
        ({"conditions": ("far", "near")}, "--condition near: the pack has no such condition; it has noise, far, phone"),
        ({"splits": ("test",), "conditions": ("phone",)}, "select nothing of the pack"),
    ],
)
def test_a_name_that_the_pack_does_not_have_is_told_as_what_it_was_given(
    opened: Any, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        write_selection(opened, Selection(**options), tmp_path / "part")


# --- roots, sources and responses of a rebuild ---------------------------------------------------------------------------


def test_roots_that_are_given_win_and_only_those_that_are_needed_are_asked_for(opened: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_roots(corpus, {"test": "/old/test", "train": "/old/train"})
    folder = tmp_path / "part"
    plan = write_selection(opened, Selection(splits=("test",)), folder)
    given = {"test": tmp_path / "t", "hum": tmp_path / "h"}
    assert find_roots(opened, folder, plan, corpus, given) == given
    with pytest.raises(UsageError, match=r"are not known; add --root hum=DIR$"):
        find_roots(opened, folder, plan, corpus, {})
    (corpus / "roots.local.json").unlink()
    with pytest.raises(UsageError, match=r"are not known; add --root hum=DIR --root test=DIR$"):
        find_roots(opened, folder, plan, corpus, {})
    with pytest.raises(UsageError, match=r"--root din: the pack has no such root; it has hum, test, train"):
        find_roots(opened, folder, plan, corpus, {"din": tmp_path})


def test_speech_and_noise_are_both_checked_and_nothing_else(opened: Any, built_lab: Lab, tmp_path: Path) -> None:
    """Speech has its digest in the list of sources, noise in the plan; what the part does not read may be missing."""
    folder = tmp_path / "part"
    plan = write_selection(opened, Selection(splits=("test",)), folder)
    roots = {"test": tmp_path / "t", "hum": tmp_path / "h"}
    for name, source in (("test", "speech/test"), ("hum", "noise")):
        shutil.copytree(built_lab.folder / source, roots[name])

    def sources() -> Any:
        return (one for file in opened.plan.files for one in decoded_sources(opened.folder, file.name))

    opened.sources = sources
    check_sources(opened, folder, plan, roots, workers=1, progress=False)
    used = {
        step["recording"]
        for row in rows_of(folder)
        for copy in row["copies"]
        for step in copy["steps"]
        if "recording" in step
    }
    for name in {path.name for path in roots["hum"].iterdir()} - used:
        (roots["hum"] / name).unlink()
    check_sources(opened, folder, plan, roots, workers=1, progress=False)
    speech = sorted(roots["test"].rglob("*.wav"))
    speech[0].unlink()
    noise = roots["hum"] / min(used)
    noise.write_bytes(noise.read_bytes()[:-2] + b"xx")
    with pytest.raises(
        SourcesDifferError, match=rf"^2 of {4 + len(used)} source files .*\(1 missing, 1 different\)"
    ) as told:
        check_sources(opened, folder, plan, roots, workers=1, progress=False)
    assert {(one.root, one.path) for one in told.value.problems} == {
        ("test", speech[0].relative_to(roots["test"]).as_posix()), ("hum", noise.name),
    }  # fmt: skip


def test_problems_are_counted_apart_by_what_they_are() -> None:
    problems = [SourceProblem("a", str(number), "is missing" if number < 5 else "is different") for number in range(7)]
    assert str(SourcesDifferError(problems, checked=30)).startswith(
        "7 of 30 source files are not those of the pack (5 missing, 2 different);"
    )


def test_responses_are_copied_as_the_pack_has_them_and_replaced_where_they_differ(opened: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "rooms").mkdir(parents=True)
    copy_rooms(opened, opened.folder, corpus)
    expected = {path.name: path.read_bytes() for path in (opened.folder / "rooms").iterdir()}
    assert {path.name: path.read_bytes() for path in (corpus / "rooms").iterdir()} == expected
    assert len(expected) == 5
    (corpus / "rooms" / "cell-0-1.npy").write_bytes(b"other")
    times = {path: path.stat().st_mtime_ns for path in (corpus / "rooms").iterdir()}
    copy_rooms(opened, opened.folder, corpus)
    assert {path.name: path.read_bytes() for path in (corpus / "rooms").iterdir()} == expected
    assert [path.name for path, time in times.items() if path.stat().st_mtime_ns != time] == ["cell-0-1.npy"]


def test_a_response_that_was_changed_or_is_of_another_rate_is_not_copied(opened: Any, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "rooms").mkdir(parents=True)
    other = SimpleNamespace(folder=opened.folder, plan=SimpleNamespace(sample_rate=8000))
    with pytest.raises(BadDocumentError, match=r"cell.jsonl: response cell-0-0 has 16000 Hz, not the corpus's rate"):
        copy_rooms(other, opened.folder, corpus)  # type: ignore[arg-type]
    path = opened.folder / "rooms" / "cell-1-0.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatchError, match="cell-1-0"):
        copy_rooms(opened, opened.folder, corpus)
    assert not list((corpus / "rooms").iterdir())


def test_what_was_decoded_otherwise_are_sources_of_other_pcm_and_responses_of_another_digest(
    opened: Any, built_lab: Lab, tmp_path: Path
) -> None:
    """Of the shards that were rebuilt alone: what only others read has no PCM here to compare."""
    corpus = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", corpus, ignore=shutil.ignore_patterns("*.tar"))
    part = SimpleNamespace(files=[file for file in opened.plan.files if file.split == "test"])
    opened.sources = lambda: [one for file in opened.plan.files for one in decoded_sources(opened.folder, file.name)]
    assert decoded_otherwise(opened, part, corpus) == frozenset()  # type: ignore[arg-type]
    own = [one for file in part.files for one in decoded_sources(corpus, file.name)]
    speech, noise = (min(one.path for one in own if one.root == root) for root in ("test", "hum"))
    for path in (corpus / "proof").glob("*.sources.jsonl"):
        items = [json.loads(line) for line in path.read_text().splitlines()]
        for item in items:
            if item["path"] in {speech, noise}:
                item["pcm_sha256"] = "0" * 64
        path.write_text("".join(json.dumps(item) + "\n" for item in items))
    bank = corpus / "rooms" / "cell.jsonl"
    rows = [json.loads(line) for line in bank.read_text().splitlines()]
    bank.write_text(
        "".join(json.dumps(row | ({"sha256": "0" * 64} if row["name"] == "cell-1-0" else {})) + "\n" for row in rows)
    )
    found = decoded_otherwise(opened, part, corpus)  # type: ignore[arg-type]
    assert found == {("test", speech), ("hum", noise), ("rooms/", "cell-1-0")}
