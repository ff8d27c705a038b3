"""Corpora at URLs, and sources behind URLs, by fsspec's file system in memory; a real S3 server is in test_s3.py."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from corpus_builder.build.build_corpus import ShardStoppedError, Slice, build
from corpus_builder.pages.summary import description
from corpus_builder.shards import seal as seal_module
from corpus_builder.shards import writer
from corpus_builder.shards.destination import Target
from corpus_builder.shards.seal import seal
from corpus_builder.verify.verify_corpus import verify
from manifests.errors import MissingFileError, OtherRecipeError, UsageError
from manifests.io import url
from manifests.io.place import sizes_below
from manifests.io.url import UnreachableError, Url
from manifests.plan.plan import Plan
from tests.corpus_builder.conftest import Inline, Lab

if TYPE_CHECKING:
    from concurrent.futures import Future

    from corpus_builder.build.build_corpus import Built

NUMBERS = itertools.count()


@pytest.fixture
def bucket() -> Url:
    return Url(f"memory://target-{next(NUMBERS)}/corpus")


def contents(place: Path | Url) -> dict[str, bytes]:
    of_this_machine = {"roots.local.json", "provenance.json"}
    names = [name for name in sizes_below(place) if name not in of_this_machine]
    return {name: (place / name).read_bytes() if isinstance(place, Path) else (place / name).read() for name in names}


def build_at(lab: Lab, url: Url, **options: Any) -> Built:
    options.setdefault("executor", Inline())
    options.setdefault("source", lab.folder / "corpus" if (lab.folder / "corpus").exists() else lab.write_recipe())
    return build(options.pop("source"), url, progress=False, scratch=lab.folder / "scratch", **options)


def upload(folder: Path, url: Url) -> Url:
    for name in sizes_below(folder):
        (url / name).put_file(folder / name)
    return url


def test_a_corpus_at_a_url_is_the_one_on_the_disk_and_leaves_no_place_of_work(built_lab: Lab, bucket: Url) -> None:
    built = build_at(built_lab, bucket, source=built_lab.write_recipe())
    assert built.corpus is not None
    assert contents(bucket) == contents(built_lab.folder / "corpus")
    assert not list((built_lab.folder / "scratch").iterdir())
    assert build_at(built_lab, bucket, source=built_lab.write_recipe()).was_sealed
    assert build_at(built_lab, bucket, source=bucket, roots=roots(built_lab)).was_sealed
    assert not list((built_lab.folder / "scratch").iterdir())


def test_verify_and_show_read_a_url(built_lab: Lab, bucket: Url) -> None:
    upload(built_lab.folder / "corpus", bucket)
    assert not verify(bucket, progress=False).findings
    assert description(bucket) == description(built_lab.folder / "corpus")
    name = next(name for name in sizes_below(bucket) if name.endswith(".tar"))
    (bucket / name).put((bucket / name).read()[:-1024])
    assert {finding.where for finding in verify(bucket, progress=False).findings} == {name}


def test_a_build_at_a_url_goes_on_from_what_is_there(built_lab: Lab, bucket: Url) -> None:
    class Dies(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            if args and args[0].name == "train-000001":
                raise KeyboardInterrupt
            return super().submit(function, *args, **named)

    recipe = built_lab.write_recipe()
    with pytest.raises(KeyboardInterrupt):
        build_at(built_lab, bucket, source=recipe, executor=Dies())
    assert "shards/train-000000.json" in sizes_below(bucket)
    assert "corpus.json" not in sizes_below(bucket)
    shutil.rmtree(built_lab.folder / "scratch")  # as on another machine
    ran: list[str] = []

    class Notes(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            ran.append(args[0].name)
            return super().submit(function, *args, **named)

    assert build_at(built_lab, bucket, source=recipe, executor=Notes()).corpus is not None
    assert "train-000000" not in ran
    assert contents(bucket) == contents(built_lab.folder / "corpus")


def test_a_corpus_at_a_url_is_not_sealed_while_a_shard_of_it_is_made_again(built_lab: Lab, bucket: Url) -> None:
    for name, content in contents(built_lab.folder / "corpus").items():
        (bucket / name).put(content)
    (bucket / "shards/train-000000.tar").remove()
    at_work: list[tuple[str, bool]] = []

    class Looks(Inline):
        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            at_work.append((args[0].name, "corpus.json" in sizes_below(bucket)))
            return super().submit(function, *args, **named)

    assert build_at(built_lab, bucket, executor=Looks(), roots=roots(built_lab)).corpus is not None
    assert at_work == [("train-000000", False)]
    assert contents(bucket) == contents(built_lab.folder / "corpus")


def test_slices_at_a_url_need_no_common_disk(built_lab: Lab, bucket: Url) -> None:
    recipe = built_lab.write_recipe()
    assert build_at(built_lab, bucket, source=recipe, only_rooms=True).corpus is None
    for number in (1, 2):
        shutil.rmtree(built_lab.folder / "scratch")
        assert build_at(built_lab, bucket, source=bucket, part=Slice(number, 2), roots=roots(built_lab)).corpus is None
    shutil.rmtree(built_lab.folder / "scratch")
    assert build_at(built_lab, bucket, source=recipe).corpus is not None
    assert contents(bucket) == contents(built_lab.folder / "corpus")


def test_a_worker_on_another_machine_fetches_what_its_shard_needs(built_lab: Lab, bucket: Url, tmp_path: Path) -> None:
    plan = build_at(built_lab, bucket, source=built_lab.write_recipe(), only_rooms=True).plan
    file = next(file for file in plan.files if file.split == "train")
    places = tuple((name, str(place)) for name, place in roots(built_lab).items())
    task = writer.ShardTask(
        str(tmp_path / "elsewhere"), file.name, "train", file.sha256, plan.sample_rate, file.rows, places, str(bucket)
    )
    outcome = writer.render_shard(task)
    assert outcome.state == "done", outcome.message
    there, due = contents(bucket), contents(built_lab.folder / "corpus")
    made = [name for name in there if file.name in name and not name.startswith("plan/")]
    assert len(made) == 4
    assert all(there[name] == due[name] for name in made)
    assert not list((tmp_path / "elsewhere").rglob("*.tar"))


def roots(lab: Lab) -> dict[str, Any]:
    return {
        "train": lab.folder / "speech/train",
        "test": lab.folder / "speech/test",
        "hum": lab.folder / "noise",
    }


def test_the_index_of_a_shard_and_the_seal_are_sent_last(built_lab: Lab, bucket: Url) -> None:
    """The store in memory keeps its files in the order in which they came."""
    build_at(built_lab, bucket, source=built_lab.write_recipe())
    sent = [name.removeprefix(f"{bucket.path}/") for name in bucket.system.store if name.startswith(bucket.path)]
    assert set(sent) == set(sizes_below(bucket))
    assert sent[-1] == "corpus.json"
    for name in [name for name in sent if name.endswith(".tar")]:
        assert sent.index(name) < sent.index(name.replace(".tar", ".json"))
    assert sent.index("plan/plan.json") > max(at for at, name in enumerate(sent) if name.startswith("plan/train-"))
    assert sent.index("rooms/cell.jsonl") > max(at for at, name in enumerate(sent) if name.endswith(".npy"))


def test_a_url_that_fails_in_the_middle_is_one_line_and_the_same_command_goes_on(
    built_lab: Lab, bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url.time, "sleep", lambda _: None)
    real = fsspec.core.url_to_fs("memory://")[0]
    broken: list[bool] = []

    class Breaks:
        def __getattr__(self, name: str) -> Any:
            if broken:
                raise ConnectionResetError("the bucket went away")
            return getattr(real, name)

        def put_file(self, local: str, path: str) -> None:
            if path.endswith("train-000001.tar"):
                broken.append(True)
            self.__getattr__("put_file")(local, path)

    with monkeypatch.context() as patched:
        patched.setattr(fsspec.core, "url_to_fs", lambda url: (Breaks(), url.removeprefix("memory:/")))
        with pytest.raises(ShardStoppedError, match=r"could not be written after 4 attempts .*went away") as caught:
            build_at(built_lab, bucket, source=built_lab.write_recipe())
    assert "\n" not in str(caught.value)
    before = contents(bucket)
    assert next((built_lab.folder / "scratch").glob("*/shards/train-000001.tar"))
    assert "shards/train-000000.json" in before
    assert "shards/train-000001.json" not in before
    rendered: list[str] = []
    real_write = writer.write_shard

    def noted(task: writer.ShardTask, waves: Any) -> Any:
        rendered.append(task.name)
        return real_write(task, waves)

    monkeypatch.setattr(writer, "write_shard", noted)
    assert build_at(built_lab, bucket, source=built_lab.write_recipe()).corpus is not None
    assert contents(bucket) == contents(built_lab.folder / "corpus")
    assert not {"train-000000", "train-000001"} & set(rendered), "what was rendered is only sent"


def test_a_url_of_another_corpus_or_of_something_else_is_refused(lab: Lab, bucket: Url) -> None:
    lab.without_rooms()
    build_at(lab, bucket)
    lab.recipe["seed"] = 6
    with pytest.raises(OtherRecipeError, match="was made from another recipe"):
        build_at(lab, bucket)
    other = Url(f"{bucket}-other")
    (other / "thesis.tex").put(b"x")
    with pytest.raises(UsageError, match=r"has 'thesis.tex', which is no file of a plan or corpus"):
        build_at(lab, other)
    with pytest.raises(UsageError, match="expected a recipe or a plan on a disk"):
        build_at(lab, bucket, source=other)


def test_sources_behind_urls_give_the_same_corpus(built_lab: Lab, bucket: Url) -> None:
    places = {name: upload(place, Url(f"{bucket}-{name}")) for name, place in roots(built_lab).items()}
    built_lab.build("from_urls", roots=places)
    ours, theirs = contents(built_lab.folder / "from_urls"), contents(built_lab.folder / "corpus")
    assert ours == theirs


def test_a_source_whose_url_fails_stops_the_build_and_is_never_refused(
    built_lab: Lab, bucket: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url.time, "sleep", lambda _: None)
    place = upload(built_lab.folder / "speech/train", Url(f"{bucket}-train"))
    built_lab.build("cut_off", roots={"train": place}, only_rooms=True)
    real = Url.read

    def fails(self: Url, *span: int | None) -> bytes:
        if self.text.startswith(place.text):
            url.attempted(lambda: (_ for _ in ()).throw(ConnectionResetError("gone")), self)
        return real(self, *span)

    with monkeypatch.context() as patched:
        patched.setattr(Url, "read", fails)
        with pytest.raises(ShardStoppedError, match=r"could not be read after 4 attempts"):
            built_lab.build("cut_off")
    built = built_lab.build("cut_off")
    assert built.corpus is not None
    assert not built.corpus.refused


@pytest.mark.parametrize("suffix", [".json", ".tar"])
def test_sealing_looks_again_for_a_shard_that_a_network_disk_does_not_show_yet(
    built_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(built_lab.folder / "corpus", corpus)
    plan = Plan.read(corpus / "plan" / "plan.json", needed="a plan")
    hidden = (corpus / "shards" / "train-000001.json").with_suffix(suffix)
    content = hidden.read_bytes()
    hidden.unlink()
    waited: list[float] = []

    def appears(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            hidden.write_bytes(content)

    monkeypatch.setattr(seal_module.time, "sleep", appears)
    assert seal(plan, Target(corpus)).totals.shards == len(plan.files)
    assert len(waited) == 3
    hidden.unlink()
    with pytest.raises(MissingFileError) as missing:
        seal(plan, Target(corpus))
    assert f"{corpus}/shards/train-000001.json" in str(missing.value)
    assert "the index of a shard that was finished; run the same command again" in str(missing.value)


def test_an_unreachable_target_is_one_line(lab: Lab, monkeypatch: pytest.MonkeyPatch, bucket: Url) -> None:
    monkeypatch.setattr(url.time, "sleep", lambda _: None)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("Could not connect to the endpoint URL")

    monkeypatch.setattr(type(fsspec.core.url_to_fs("memory://")[0]), "find", fail)
    with pytest.raises(UnreachableError, match="Could not connect"):
        build_at(lab, bucket)
    assert not (lab.folder / "scratch").exists() or not list((lab.folder / "scratch").iterdir())
