from __future__ import annotations

import base64
import errno
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from corpus_builder.shards import writer
from corpus_builder.shards.destination import Target
from corpus_builder.shards.encode import flac, pcm_digest
from corpus_builder.shards.writer import ShardTask, finished_index, render_shard
from corpus_builder.workers.pool import Ticks
from manifests.corpus.sample import Sample
from manifests.corpus.shard_index import ShardIndex
from manifests.errors import MissingFileError, NoSpaceLeftError
from manifests.io.digest import canonical_json
from manifests.io.json_yaml import read_json
from manifests.io.url import Url
from manifests.plan.plan import Plan
from tests.corpus_builder.conftest import voice, write_wave

if TYPE_CHECKING:
    from tests.corpus_builder.conftest import Lab


def task_of(lab: Lab, corpus: Path, number: int = 0) -> ShardTask:
    file = Plan.read(corpus / "plan" / "plan.json", needed="a plan").files[number]
    roots = (
        ("hum", f"{lab.folder}/noise"),
        ("test", f"{lab.folder}/speech/test"),
        ("train", f"{lab.folder}/speech/train"),
    )
    return ShardTask(str(corpus), file.name, file.split, file.sha256, 16_000, file.rows, roots)


@pytest.fixture
def corpus(built_lab: Lab, tmp_path: Path) -> Path:
    """A copy of the built corpus without its shards."""
    target = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", target, ignore=shutil.ignore_patterns("shards", "corpus.json"))
    (target / "shards").mkdir()
    return target


def test_the_same_rows_give_the_same_bytes(built_lab: Lab, corpus: Path) -> None:
    task = task_of(built_lab, corpus)
    assert render_shard(task).state == "done"
    for suffix in (".tar", ".json"):
        ours = (corpus / "shards" / (task.name + suffix)).read_bytes()
        assert ours == (built_lab.folder / "corpus" / "shards" / (task.name + suffix)).read_bytes()


def test_a_tar_tells_nothing_of_time_owner_or_machine(built_lab: Lab) -> None:
    for path in (built_lab.folder / "corpus" / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o444)
                assert (member.uname, member.gname) == ("stillroom", "stillroom")


def test_members_lie_where_the_index_says_and_are_what_it_says(built_lab: Lab) -> None:
    for path in (built_lab.folder / "corpus" / "shards").glob("*.json"):
        index = ShardIndex.read(path, needed="an index")
        content = path.with_suffix(".tar").read_bytes()
        for sample in index.samples:
            assert next(iter(sample.members)) == "json"
            for name, member in sample.members.items():
                part = content[member.offset : member.offset + member.size]
                if name == "json":
                    document = Sample.parse(json.loads(part), where="sample")
                    assert canonical_json(document) == part
                    assert document.num_samples == sample.num_samples
                    assert [copy.name for copy in document.copies] == [
                        one for one in sample.members if one not in {"json", "clean"}
                    ]
                else:
                    pcm, rate_hz = soundfile.read(io.BytesIO(part), dtype="int16")
                    assert (pcm.size, rate_hz) == (sample.num_samples, 16_000)
                    assert pcm_digest(pcm) == member.pcm_sha256


def test_the_clean_wave_is_the_source_bit_for_bit(built_lab: Lab) -> None:
    shards = built_lab.folder / "corpus" / "shards"
    for path in shards.glob("train-*.tar"):
        with tarfile.open(path) as tar:
            documents = {
                name.split(".")[0]: json.load(tar.extractfile(name))
                for name in tar.getnames()
                if name.endswith(".json")
            }  # type: ignore[arg-type]
            for key, document in documents.items():
                packed = tar.extractfile(f"{key}.clean.flac")
                assert packed is not None
                pcm, _ = soundfile.read(io.BytesIO(packed.read()), dtype="int16")
                source, _ = soundfile.read(
                    built_lab.folder / "speech" / "train" / document["source"]["path"], dtype="int16"
                )
                assert np.array_equal(pcm, source)


def test_flac_in_memory_is_the_same_every_time() -> None:
    pcm = np.random.RandomState(0).randint(-32768, 32768, 5000).astype(np.int16)
    assert flac(pcm, rate_hz=16_000) == flac(pcm.copy(), rate_hz=16_000)


def test_a_full_disk_is_said_and_leaves_no_half_shard(
    built_lab: Lab, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer.HashingStream, "write", full)
    outcome = render_shard(task_of(built_lab, corpus))
    assert outcome.state == "full"
    assert "no space left while writing" in outcome.message
    assert not list((corpus / "shards").iterdir())


def test_what_the_machine_does_wrong_leaves_the_shard_undone(
    built_lab: Lab, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for problem in (
        MemoryError("no memory"),
        OSError(errno.EIO, "Input/output error"),
        RuntimeError("a fault of ours"),
    ):

        def fails(*_: Any, problem: Exception = problem, **__: Any) -> None:
            raise problem

        with monkeypatch.context() as patched:
            patched.setattr(writer, "render_clean", fails)
            outcome = render_shard(task_of(built_lab, corpus))
        assert outcome.state == "undone"
        assert str(problem) in outcome.message
        assert not list((corpus / "shards").iterdir())


@pytest.mark.parametrize(
    ("problem", "state", "message"),
    [
        (OSError(errno.ENOSPC, "no space"), "full", str(NoSpaceLeftError("train-000000"))),
        (OSError(errno.EDQUOT, "quota exceeded"), "full", str(NoSpaceLeftError("train-000000"))),
        (NoSpaceLeftError("x"), "full", str(NoSpaceLeftError("x"))),
        (MissingFileError("x", needed="y"), "stopped", str(MissingFileError("x", needed="y"))),
        (OSError(errno.EIO, "Input/output error"), "undone", "OSError: [Errno 5] Input/output error"),
        (MemoryError("no memory"), "undone", "MemoryError: no memory"),
    ],
    ids=str,
)
def test_an_error_is_of_the_disk_of_the_sources_or_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, state: str, message: str
) -> None:
    def fails(_: ShardTask) -> int:
        raise problem

    monkeypatch.setattr(writer, "finish_shard", fails)
    outcome = render_shard(ShardTask("c", "train-000000", "train", "0" * 64, 16_000, 7, ()))
    assert (outcome.name, outcome.rows, outcome.state, outcome.message) == ("train-000000", 7, state, message)


def test_a_shard_counts_as_finished_only_with_its_index_its_size_and_its_plan(built_lab: Lab, corpus: Path) -> None:
    task = task_of(built_lab, corpus)
    render_shard(task)
    tar, index = (corpus / "shards" / f"{task.name}{suffix}" for suffix in (".tar", ".json"))
    found = finished_index(Target(corpus), task.name, plan_sha256=task.plan_sha256)
    assert found == read_json(index, needed="an index")
    assert finished_index(Target(corpus), task.name, plan_sha256="0" * 64) is None
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-512])
    assert finished_index(Target(corpus), task.name, plan_sha256=task.plan_sha256) is None
    tar.write_bytes(whole)
    text = index.read_bytes()
    index.write_bytes(text[: len(text) // 2])
    assert finished_index(Target(corpus), task.name, plan_sha256=task.plan_sha256) is None
    index.unlink()
    assert finished_index(Target(corpus), task.name, plan_sha256=task.plan_sha256) is None


def test_the_sources_of_a_shard_are_the_files_of_its_rows_also_of_those_that_a_shard_before_has_read(
    built_lab: Lab,
) -> None:
    """One process has rendered all shards, so most noises and talkers of the later ones were in its caches."""
    corpus = built_lab.folder / "corpus"
    plan = Plan.read(corpus / "plan" / "plan.json", needed="a plan")
    listed: list[set[str]] = []
    for file in plan.files:
        wanted: set[tuple[str, str, int]] = set()
        for row in map(json.loads, (corpus / f"plan/{file.name}.jsonl").read_text().splitlines()):
            wanted.add((row["source"]["root"], row["source"]["path"], row["source"]["num_frames"]))
            for step in (step for copy in row["copies"] for step in copy["steps"] if step["kind"] == "noise"):
                if step["form"] == "recorded":
                    samples = soundfile.info(built_lab.folder / "noise" / step["recording"]).frames
                    wanted.add((step["root"], step["recording"], samples))
                for talker in step.get("talkers", ()):  # but not the spare ones: all can be used
                    wanted.add((talker["file"]["root"], talker["file"]["path"], talker["file"]["num_frames"]))
        lines = (corpus / f"proof/{file.name}.sources.jsonl").read_text().splitlines()
        found = [(one["root"], one["path"], one["num_frames"]) for one in map(json.loads, lines)]
        assert set(found) == wanted
        assert len(found) == len(wanted)
        listed.append({path for root, path, _ in found if root == "hum"})
    assert any(one & other for one, other in itertools.combinations(listed, 2))


def test_a_changed_noise_file_stops_the_shard_with_one_line(built_lab: Lab, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(built_lab.folder / "noise", tmp_path / "noise")
    for path in (tmp_path / "noise").glob("*.wav"):
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content)
    for number in range(4):
        task = task_of(built_lab, corpus, number)
        roots = tuple((name, str(tmp_path / "noise") if name == "hum" else place) for name, place in task.roots)
        outcome = render_shard(ShardTask(**{**task.__dict__, "roots": roots}))
        if outcome.state == "stopped":
            assert "the file is damaged or was replaced" in outcome.message
            return
    pytest.fail("no shard used a noise file")


def row_of(name: str, num_samples: int, *, steps: dict[str, list[Any]] | None = None, **about: Any) -> dict[str, Any]:
    copies = [
        {"name": f"{condition}-0", "condition": condition, "steps": chain} for condition, chain in (steps or {}).items()
    ]
    source = {"root": "train", "path": f"{name}.wav", "rate_hz": 8_000}
    return {
        "id": name,
        "key": f"key-{name}",
        "split": "train",
        "num_samples": num_samples,
        "source": source,
        "copies": copies,
        **about,
    }


@pytest.fixture
def small(tmp_path: Path) -> ShardTask:
    """A shard of four utterances, of which one can be used: the others are silent, longer than planned, and not a number."""
    gain = {"kind": "gain", "gain_db": 40.0}
    phone = {"kind": "codec", "codec": "g711-alaw"}
    hiss = {"kind": "noise", "form": "coloured", "source": "hiss", "colour": "white", "seed": 3, "snr_db": 10.0}
    about = {"text": "some words", "speaker": "ada", "language": "en", "custom": {"age": 30}}
    rows = [
        row_of("good", 800, steps={"loud": [gain], "phone": [hiss, phone]}, **about), row_of("quiet", 800), row_of("long", 700),
        row_of("odd", 800),
    ]  # fmt: skip
    loud = voice(1, 0.05)[:800] / np.abs(voice(1, 0.05)[:800]).max() * 1.5  # as a file of floats may be
    write_wave(tmp_path / "train/good.wav", loud, rate_hz=8_000, subtype="FLOAT")
    write_wave(tmp_path / "train/quiet.wav", np.zeros(800, np.int16), rate_hz=8_000)
    write_wave(tmp_path / "train/long.wav", voice(2, 0.05)[:800], rate_hz=8_000)
    write_wave(tmp_path / "train/odd.wav", np.full(800, np.nan), rate_hz=8_000, subtype="FLOAT")
    (tmp_path / "corpus/plan").mkdir(parents=True)
    (tmp_path / "corpus/plan/train-000000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    roots = (("train", str(tmp_path / "train")),)
    return ShardTask(str(tmp_path / "corpus"), "train-000000", "train", "e" * 64, 8_000, len(rows), roots)


def test_a_shard_holds_what_could_be_rendered_and_says_why_of_the_rest(
    small: ShardTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = multiprocessing.Value("q", 0)
    monkeypatch.setattr(Ticks, "counter", counter)
    outcome = render_shard(small)
    assert (outcome.name, outcome.rows, outcome.state, outcome.refused, outcome.message) == (
        "train-000000",
        4,
        "done",
        3,
        "",
    )
    assert counter.value == 4
    index = json.loads((tmp_path / "corpus/shards/train-000000.json").read_text())
    tar = (tmp_path / "corpus/shards/train-000000.tar").read_bytes()
    assert (index["bytes"], index["sha256"]) == (len(tar), hashlib.sha256(tar).hexdigest())
    assert (index["name"], index["split"], index["sample_rate"], index["plan_sha256"]) == (
        "train-000000",
        "train",
        8_000,
        "e" * 64,
    )
    assert [(one["split"], one["id"], one["reason"].split(":")[0]) for one in index["refused"]] == [
        ("train", "quiet", "quiet.wav is digital silence"),
        ("train", "long", "the file has 800 samples at the corpus rate where 700 were planned; it is not the one that was planned with"),
        ("train", "odd", "odd.wav holds NaN or infinite samples"),
    ]  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        members = {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]
    assert list(members) == [f"key-good.{end}" for end in ("json", "clean.flac", "loud-0.flac", "phone-0.flac")]
    document = json.loads(members["key-good.json"])
    loud, phone = document["copies"]
    assert {key: document[key] for key in ("id", "split", "text", "speaker", "language", "custom", "num_samples", "sample_rate")} == {
        "id": "good", "split": "train", "text": "some words", "speaker": "ada", "language": "en", "custom": {"age": 30}, "num_samples": 800,
        "sample_rate": 8_000,
    }  # fmt: skip
    assert document["source"]["sha256"] == hashlib.sha256((tmp_path / "train/good.wav").read_bytes()).hexdigest()
    assert (loud["name"], loud["condition"], loud["domain"], loud["family"]) == ("loud-0", "loud", "gain", "channel")
    assert (phone["name"], phone["condition"], phone["domain"], phone["family"]) == (
        "phone-0", "phone", "hiss+g711-alaw", "noise+codec",
    )  # fmt: skip
    clean, copy = (soundfile.read(io.BytesIO(members[f"key-good.{name}.flac"]))[0] for name in ("clean", "loud-0"))
    assert document["clean_gain_db"] == -3.53  # 20 lg 1.5, and a step below full scale
    np.testing.assert_allclose(copy, clean * 10 ** ((40 + loud["gain_db"]) / 20), atol=1e-4)
    (prints,) = map(json.loads, (tmp_path / "corpus/proof/train-000000.jsonl").read_text().splitlines())
    assert {name: len(base64.b64decode(text)) for name, text in prints["prints"].items()} == {
        "clean": 32,
        "loud-0": 32,
        "phone-0": 64,
    }
    lines = (tmp_path / "corpus/proof/train-000000.sources.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["good.wav", "long.wav", "quiet.wav"]


def test_an_error_of_our_own_is_named_with_the_line_that_raised_it(
    small: ShardTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(writer, "render_clean", fails)
    line = fails.__code__.co_firstlineno + 1
    assert render_shard(small).message == f"RuntimeError in test_writer.py:{line}: a fault"


def test_a_shard_that_was_rendered_and_not_uploaded_is_uploaded_and_not_rendered_again(
    small: ShardTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert render_shard(small).refused == 3
    monkeypatch.setattr(writer, "write_shard", None)
    url = Url("memory://rendered-not-uploaded/corpus")
    task = replace(small, url=url.text)
    for _ in range(2):  # the second time it is there
        outcome = render_shard(task)
        assert (outcome.state, outcome.refused) == ("done", 3)
    assert (url / "shards/train-000000.json").exists()
    assert not (Path(small.corpus) / "shards/train-000000.tar").exists()
    assert (
        render_shard(replace(small, url=url.text, plan_sha256="f" * 64)).state == "undone"
    )  # of another plan: it would be rendered


def test_sizes_that_were_listed_decide_whether_a_shard_is_finished(small: ShardTask) -> None:
    render_shard(small)
    target = Target(Path(small.corpus))
    sizes = target.shard_sizes()
    assert finished_index(target, small.name, plan_sha256=small.plan_sha256, sizes=sizes) is not None
    for wrong in ({**sizes, "train-000000.tar": 1}, {"train-000000.json": 1}):
        assert finished_index(target, small.name, plan_sha256=small.plan_sha256, sizes=wrong) is None


def test_what_an_earlier_shard_of_the_process_used_is_not_among_the_sources_of_the_next(small: ShardTask) -> None:
    corpus = Path(small.corpus)
    rows = (corpus / "plan/train-000000.jsonl").read_text().splitlines()
    (corpus / "plan/train-000001.jsonl").write_text(rows[1] + "\n")
    for number in range(2):
        assert render_shard(replace(small, name=f"train-00000{number}")).state == "done"
    lines = (corpus / "proof/train-000001.sources.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["quiet.wav"]
