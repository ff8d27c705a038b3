"""Where what a model was trained on is read from: its own record before its card, its card before its run, its run before its corpus."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import training
from evaluation.config import RunSource
from evaluation.exposure import training_set as stage
from evaluation.exposure.categories import (
    Library,
    StepFacts,
    category_of,
    codec_band,
    copy_facts,
    in_trained_range,
    numbers_of,
    room_numbers,
    step_facts,
)
from evaluation.exposure.training_set import (
    ExposureCounter,
    TrainingUnknownError,
    exposure_of,
    folder_exposure,
    folder_of,
    teacher_exposure,
)
from manifests.io.json_yaml import write_json, write_yaml
from manifests.results.training_exposure import TrainedOn


def trained(kind, count=1):
    return TrainedOn.parse(
        {"schema": TrainedOn.SCHEMA, "kinds": {kind: {"count": count}}, "chains": [[kind]]}, where="test"
    )


def kinds_of(found):
    return None if found is None else list(found.kinds)


def make_run(folder, **config):
    (folder / "checkpoints").mkdir(parents=True)
    write_yaml(
        folder / "config.yaml", {"corpus": "/corpus", "views": {"kind": "cdm1"}, "teacher": {"name": "nano"}} | config
    )
    write_json(folder / "provenance.json", {"command": ["stillroom"]})
    return folder


@pytest.fixture
def corpora(monkeypatch):
    """Which corpora are opened and summed up, and how."""
    requests = []
    monkeypatch.setattr(
        stage,
        "corpus_exposure",
        lambda names, split, *, conditions: requests.append((names, split, conditions)) or trained("summed"),
    )

    class Reader:
        digest = "same"

        def __init__(self, places):
            requests.append(places)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            requests.append("closed")

    monkeypatch.setattr(stage, "open_corpus", Reader)
    return requests


def test_a_run_is_summed_up_by_what_its_config_names(tmp_path, corpora):
    for number, (config, due) in enumerate(
        (
            ({}, (("/corpus",), "train", None)),
            (
                {"split": "more", "views": {"kind": "cdm2", "student": {"conditions": ["noise", "far"]}}},
                (("/corpus",), "more", ("noise", "far")),
            ),
            (
                {"corpus": ["b", "a"], "views": {"kind": "cdm2", "student": {"conditions": "all"}}},
                (("b", "a"), "train", None),
            ),
            ({"views": {"kind": "cdm2", "student": "all"}}, (("/corpus",), "train", None)),
            ({"views": {"kind": "cdm2", "teacher": {"conditions": ["noise"]}}}, (("/corpus",), "train", None)),
        )
    ):
        assert kinds_of(stage.run_exposure(make_run(tmp_path / str(number), **config))) == ["summed"]
        assert corpora == [due]  # a record without the digest of its corpus is not compared
        corpora.clear()


def test_a_runs_corpora_must_be_those_that_it_was_trained_on(tmp_path, corpora):
    run = make_run(tmp_path / "run", corpus=["b", "a"])
    write_json(run / "provenance.json", {"corpus_sha256": "same"})
    assert kinds_of(stage.run_exposure(run)) == ["summed"]
    assert corpora == [["b", "a"], "closed", (("b", "a"), "train", None)]
    write_json(run / "provenance.json", {"corpus_sha256": "other"})
    with pytest.raises(
        TrainingUnknownError, match=r"^run: what it was trained on is not known: the corpus b, a changed since$"
    ):
        stage.run_exposure(run)
    with pytest.raises(
        TrainingUnknownError,
        match=r"^mine: what it was trained on is not known: run: .* the corpus b, a changed since$",
    ):
        exposure_of("mine", RunSource(run=str(run)), {"trained": "not looked at"})
    trained("own").write(run / "trained.json")
    assert kinds_of(stage.run_exposure(run)) == ["own"]
    (run / "provenance.json").unlink()
    (run / "trained.json").unlink()
    with pytest.raises(TrainingUnknownError, match=r"^mine: .*provenance\.json"):
        exposure_of("mine", RunSource(run=str(run)), {})


def test_a_folder_has_its_own_record_before_a_card_and_a_card_before_a_run(tmp_path, corpora):
    run = make_run(tmp_path / "run")
    assert kinds_of(folder_exposure(run)) == ["summed"]
    (run / "card.json").write_text("{}")
    assert kinds_of(folder_exposure(run)) == ["summed"]  # a card that does not say
    (run / "card.json").write_text("[]")
    assert kinds_of(folder_exposure(run)) == ["summed"]
    (run / "card.json").write_text(json.dumps({"trained": trained("carded").plain()}))
    assert kinds_of(folder_exposure(run)) == ["carded"]
    trained("own").write(run / "trained.json")
    assert kinds_of(folder_exposure(run)) == ["own"]
    (tmp_path / "empty").mkdir()
    assert folder_exposure(tmp_path / "empty") is folder_exposure(None) is None
    (tmp_path / "empty/card.json").write_text(json.dumps({"trained": 3}))
    with pytest.raises(TrainingUnknownError, match=r"^m: .*empty/card\.json, key trained"):
        exposure_of("m", str(tmp_path / "empty"), {})


def test_the_folder_of_a_model_is_its_own_or_that_of_its_exports_file(tmp_path):
    nano = Path(training.__file__).parent / "nano"
    assert [folder_of(name) for name in ("nano", "NANO", "hubert_base")] == [nano, nano, None]
    (tmp_path / "model.onnx").touch()
    assert (folder_of(str(tmp_path)), folder_of(str(tmp_path / "model.onnx"))) == (tmp_path, None)
    (tmp_path / "export.json").touch()
    assert folder_of(str(tmp_path / "model.onnx")) == tmp_path
    assert folder_of(str(tmp_path / "gone.onnx")) is None


def test_a_card_that_came_with_the_weights_counts_before_the_folder(tmp_path):
    trained("own").write(tmp_path / "trained.json")
    assert kinds_of(exposure_of("m", str(tmp_path), {})) == ["own"]
    assert kinds_of(exposure_of("m", str(tmp_path), {"trained": trained("weights").plain()})) == ["weights"]
    (tmp_path / "trained.json").write_text("{")
    with pytest.raises(TrainingUnknownError, match=r"^m: what it was trained on is not known: .*trained\.json"):
        exposure_of("m", str(tmp_path), {})


def test_the_teacher_is_that_of_the_run_or_of_the_record_and_else_the_model_itself(tmp_path):
    for name in ("robust", "other", "student"):
        (tmp_path / name).mkdir()
        trained(name).write(tmp_path / name / "trained.json")
    robust, other, student = (str(tmp_path / name) for name in ("robust", "other", "student"))
    run = make_run(tmp_path / "run", teacher={"name": robust})
    assert kinds_of(teacher_exposure("m", RunSource(run=str(run)), {"teacher": other})) == ["robust"]
    assert kinds_of(teacher_exposure("m", student, {"teacher": other})) == ["other"]
    assert kinds_of(teacher_exposure("m", student, {})) == ["student"]
    assert kinds_of(teacher_exposure("m", student, {"teacher": 3, "trained": trained("weights").plain()})) == [
        "weights"
    ]
    assert teacher_exposure("m", student, {"teacher": "hubert_base"}) is None
    for config in ({"teacher": {}}, {"teacher": "robust"}, {}):
        write_yaml(run / "config.yaml", config)
        with pytest.raises(TrainingUnknownError, match=r"^the teacher of m: what it was trained on is not known: "):
            teacher_exposure("m", RunSource(run=str(run)), {})
    (tmp_path / "other/trained.json").write_text("{")
    with pytest.raises(TrainingUnknownError, match=r"^the teacher of m: .*other/trained\.json"):
        teacher_exposure("m", student, {"teacher": other})


def test_steps_are_summed_up_by_kind_with_everything_once_and_in_order():
    counter = ExposureCounter()
    room, noise = (
        StepFacts("room", None, ("222222222222222b",), {"t30_s": 0.4}),
        StepFacts("noise", "wham", ("222222222222222a", "111111111111111a"), {"snr_db": 5.0, "other": 1.0}),
    )
    for steps in (
        [room, noise],
        [StepFacts("noise", "musan", ("111111111111111a",), {"snr_db": -3.0})],
        [],
        [StepFacts("noise", "wham", (), {"snr_db": 1.0})],
        [room, noise],
    ):
        counter.add(iter(steps))
    found = counter.summary()
    assert list(found.kinds) == ["noise", "room"]
    noise = found.kinds["noise"]
    assert (noise.count, noise.sources, noise.recordings) == (
        4,
        ("musan", "wham"),
        ("111111111111111a", "222222222222222a"),
    )
    assert noise.ranges == {"other": (1.0, 1.0), "snr_db": (-3.0, 5.0)}
    room = found.kinds["room"]
    assert (room.count, room.sources, room.recordings, room.ranges) == (
        2,
        (),
        ("222222222222222b",),
        {"t30_s": (0.4, 0.4)},
    )
    assert found.chains == (("noise",), ("room", "noise"))
    assert ExposureCounter().summary() == TrainedOn.clean()


def test_the_copies_of_every_corpus_are_summed_up_by_its_own_library(monkeypatch):
    def copy(name, condition):
        return SimpleNamespace(name=name, condition=condition)

    held = {"one": {"train": {"s0": {"k": [copy("a", "noise")], "l": [copy("b", "far"), copy("c", "noise")]}, "s1": {"m": [copy("d", "far")]}}, "test": {"s2": {"n": [copy("e", "far")]}}},
            "two": {"train": {"t0": {"o": [copy("f", "noise")]}}, "test": {}}}  # fmt: skip

    class Reader:
        def __init__(self, corpus):
            self.name, self.held = corpus, held[corpus]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def shards(self, split):
            return [SimpleNamespace(name=name) for name in self.held[split]]

        def samples(self, shard):
            return next(shards[shard] for shards in self.held.values() if shard in shards)

        def whole_record(self, shard, key, *, split):
            return SimpleNamespace(copies=self.held[split][shard][key])

    monkeypatch.setattr(stage, "open_corpus", Reader)
    monkeypatch.setattr(stage, "Library", lambda reader: reader.name)
    monkeypatch.setattr(stage, "copy_facts", lambda one, library: [StepFacts(one.condition, f"{library} {one.name}")])
    stage.corpus_exposure.cache_clear()
    whole = stage.corpus_exposure(("one", "two"), "train")
    assert {kind: found.sources for kind, found in whole.kinds.items()} == {
        "far": ("one b", "one d"),
        "noise": ("one a", "one c", "two f"),
    }
    assert list(stage.corpus_exposure(("one", "two"), "train", conditions=("noise",)).kinds) == ["noise"]
    assert stage.corpus_exposure(("one",), "test").kinds["far"].sources == ("one e",)
    assert stage.corpus_exposure(("one",), "train").kinds["noise"].sources == ("one a", "one c")
    monkeypatch.setattr(stage, "open_corpus", None)
    assert stage.corpus_exposure(("one", "two"), "train") is whole  # read once for all seeds of a system
    stage.corpus_exposure.cache_clear()


class Documents:
    """A corpus of documents; how often each is read is counted."""

    def __init__(self, **documents):
        self.documents, self.read = documents, []

    def document(self, relative):
        self.read.append(relative)
        if relative not in self.documents:
            raise FileNotFoundError(relative)
        return self.documents[relative]


def lines(*rows):
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()


def test_a_library_reads_each_document_once_and_skips_what_is_no_row():
    levels = lines(
        {"source": "s", "path": "a", "sha256": "a" * 64},
        "",
        "   ",
        "[1]",
        {"source": "s", "path": "b"},
        {"source": "t", "path": "a", "sha256": "c" * 64},
        "3",
    )
    office = lines({"name": "office-0-0", "sha256": "1" * 64, "t30_s": 0.3}, "", {"name": "office-0-1", "t30_s": 0.4})
    reader = Documents(**{"plan/levels.jsonl": levels, "rooms/office.jsonl": office})
    library = Library(reader)
    assert reader.read == []
    noises = [
        library.noise(*one)
        for one in (("s", "r", "a"), ("t", "r", "a"), ("s", "r", "b"), ("r", "r", "a"), ("s", "q", "b"))
    ]
    assert noises[:2] == ["a" * 16, "c" * 16]
    assert len(set(noises)) == 5, "where no content is known, root and path are taken"
    assert all(len(one) == 16 for one in noises)
    assert library.response("office-0-0") == ("1" * 16, {"name": "office-0-0", "sha256": "1" * 64, "t30_s": 0.3})
    digest, row = library.response("office-0-1")
    assert (row, digest != "1" * 16, len(digest)) == ({"name": "office-0-1", "t30_s": 0.4}, True, 16)
    assert library.response("office-9-9")[1] == library.response("far-office-0-0")[1] == {}
    assert library.response("office-0-0")[0] == "1" * 16
    assert reader.read == ["plan/levels.jsonl", "rooms/office.jsonl", "rooms/far-office.jsonl"]
    empty = Library(Documents())
    assert (empty.noise("s", "r", "b"), empty.noise("s", "r", "b")) == (noises[2], noises[2])
    assert empty.reader.read == ["plan/levels.jsonl"]


def test_numbers_of_a_step_are_those_that_say_how_strong_it_is():
    step = {"a": 1, "b": 0.5, "c": True, "d": "3", "e": None, "seed": 4, "lost_packets": 5, "f": [1.0]}
    assert numbers_of(step) == {"a": 1.0, "b": 0.5}
    row = {"t30_s": 0.25, "microphone_m": [1, 2, 0], "source_m": [4, 6, 0], "size_m": [9, 9, 9]}
    assert room_numbers(row) == {"t30_s": 0.25, "distance_m": 5.0}
    assert room_numbers(row | {"source_m": [4, 6]}) == room_numbers(row | {"microphone_m": None}) == {"t30_s": 0.25}
    assert room_numbers(row | {"t30_s": None}) == {"distance_m": 5.0}
    assert room_numbers({}) == {}


def test_codecs_of_the_telephone_are_narrow_band():
    names = (
        "g711-alaw",
        "g726",
        "g723.1",
        "g721",
        "g729",
        "gsm",
        "amr-nb",
        "amr_nb",
        "amr-wb",
        "g722",
        "mp3",
        "vorbis",
        "opus",
        "opus-celt",
    )
    assert [name for name in names if codec_band(name, 8.0) == "narrow-band"] == [*names[:8], "opus", "opus-celt"]


def test_a_step_is_judged_by_its_numbers_then_its_recording_then_its_source():
    kind = {
        "count": 1000,
        "sources": ["musan"],
        "recordings": ["1" * 16],
        "ranges": {"snr_db": [0.0, 20.0], "other": [1.0, 1.0]},
    }
    known = TrainedOn.parse({"schema": TrainedOn.SCHEMA, "kinds": {"noise": kind}, "chains": [["noise"]]}, where="test")
    for source, recordings, numbers, due in (
        ("musan", (), {"snr_db": 10.0}, "seen"), (None, (), {}, "seen"), ("wham", (), {"snr_db": 10.0}, "shifted"), ("wham", ("1" * 16,), {}, "heard"),
        ("musan", ("2" * 16, "1" * 16), {"snr_db": 10.0}, "heard"), ("musan", ("2" * 16,), {"snr_db": 10.0}, "seen"), ("musan", ("1" * 16,), {"snr_db": 30.0}, "shifted"),
        ("musan", ("1" * 16,), {"snr_db": 10.0, "new": 1.0}, "shifted"), ("musan", (), {"snr_db": 10.0, "other": 2.0}, "shifted"),
    ):  # fmt: skip
        assert category_of([StepFacts("noise", source, recordings, numbers)], known) == due, (
            source,
            recordings,
            numbers,
        )
    assert category_of([StepFacts("clip", None)], known) == "new"


class Planned:
    """A step as plain data."""

    def __init__(self, **data):
        self.data = data

    def model_dump(self, *, mode):
        assert mode == "json"
        return self.data


def test_what_a_step_refers_to_is_named_once_by_its_content_and_by_the_source_of_a_recording():
    levels = lines(
        *({"source": source, "path": "a", "sha256": digit * 64} for source, digit in (("s", "a"), ("disk", "b")))
    )
    office = lines({"name": "office-0-0", "sha256": "1" * 64, "size_m": [1, 2, 3]})
    library = Library(Documents(**{"plan/levels.jsonl": levels, "rooms/office.jsonl": office}))
    recorded = {"kind": "noise", "form": "recorded", "source": "s", "root": "disk", "recording": "a", "snr_db": 3.0}
    other = Planned(kind="other", root="disk", path="a", source="s", strength=2.0)
    talker = {"file": {"root": "disk", "path": "t", "sha256": "c" * 64}}
    for step, due in (
        (Planned(**recorded), StepFacts("noise recorded", "s", ("a" * 16,), {"snr_db": 3.0})),
        (
            Planned(**recorded, response="office-0-0"),
            StepFacts("noise recorded", "s", ("a" * 16, "1" * 16), {"snr_db": 3.0}),
        ),
        (other, StepFacts("other", None, ("a" * 16,), {"strength": 2.0})),
        (
            Planned(kind="noise", talkers=[talker, talker], snr_db=1.0),
            StepFacts("noise babble", None, ("c" * 16,), {"snr_db": 1.0}),
        ),
        (
            Planned(**{key: one for key, one in recorded.items() if key != "form"}),
            StepFacts("noise recorded", "s", ("a" * 16,), {"snr_db": 3.0}),
        ),
        (Planned(kind="room", response="office-0-0"), StepFacts("room simulated", None, ("1" * 16,), {})),
    ):
        assert step_facts(step, library) == (due,)
    copy = SimpleNamespace(steps=[other, Planned(kind="clip", percent=1.0)])
    assert [one.kind for one in copy_facts(copy, library)] == ["other", "clip"]


def test_a_value_is_compared_as_far_as_it_was_rounded_whatever_its_sign():
    for value in (8000.0, -8000.0):
        for beyond, is_in in ((0.004, True), (-0.004, True), (0.02, False), (-0.02, False)):
            assert in_trained_range(value + beyond, (value, value), count=9) == is_in
    assert in_trained_range(-9000.005, (-9000.0, 0.0), count=10**9)


def test_a_range_is_as_wide_as_the_number_of_its_draws_allows():
    for count, due in ((30, "seen"), (1000, "shifted")):
        kind = {"count": count, "sources": [], "recordings": [], "ranges": {"snr_db": [0.0, 20.0]}}
        known = TrainedOn.parse(
            {"schema": TrainedOn.SCHEMA, "kinds": {"noise": kind}, "chains": [["noise"]]}, where="test"
        )
        assert category_of([StepFacts("noise", None, (), {"snr_db": 21.0})], known) == due


def test_what_cannot_be_read_is_not_known(monkeypatch):
    def failing(folder):
        raise PermissionError("locked")

    monkeypatch.setattr(stage, "folder_exposure", failing)
    for find, start in ((exposure_of, "m"), (teacher_exposure, "the teacher of m")):
        with pytest.raises(TrainingUnknownError, match=rf"^{start}: what it was trained on is not known: locked$"):
            find("m", "any", {"teacher": "other"})
