"""The steps of an evaluation one by one, with stand-ins for models and corpora: what each is given, keeps, refuses and writes."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from evaluation import evaluate_models as stage
from evaluation.config import ClassifyTask, CtcTask, EvaluationConfig, FramesTask, Splits, VerifyTask
from evaluation.evaluate_models import NotResultsError
from evaluation.extraction import EvaluationSetup
from evaluation.models import InspectedModel
from manifests.errors import OtherRecipeError, UsageError
from manifests.io.digest import digest
from manifests.results.scores import CopyTable, ModelFacts, ModelScores, Protocol, Results
from manifests.results.training_exposure import TrainedOn
from tests.evaluation.test_models import write_run

SPLITS = Splits(train="learn", dev="choose", test="exam")
TABLE = CopyTable(
    speakers=("ann",), conditions=("clean",), utterance="0 1", speaker="0 0", condition="0 0", snr_db="- -"
)


def protocol(**changes):
    given = {
        "schema": Protocol.SCHEMA, "corpus": "tiny", "data_sha256": "d" * 64, "conditions": ["noise"], "settings": {"seed": 3},
        "models": {"a": "a", "b": "b"}, **changes,
    }  # fmt: skip
    return Protocol.parse(given, where="test")


def facts(number, **changes):
    given = {
        "kind": "run",
        "origin": "run, last",
        "digest": str(number) * 64,
        "parameters": 10,
        "layers": 1,
        "heard_known": True,
        **changes,
    }
    return ModelFacts.model_validate(given)


def scores_of(name, number, *, sha256="a" * 64):
    given = {
        "schema": ModelScores.SCHEMA,
        "model": name,
        "protocol_sha256": sha256,
        "data_sha256": "d" * 64,
        "scores": [],
        "cost": {},
    }
    return ModelScores.model_validate(given | {"facts": facts(number), "scores": ()})


def inspected_models(names):
    return {name: InspectedModel(facts(number), None, 4, 0) for number, name in enumerate(names, 1)}


@pytest.fixture
def evaluation(monkeypatch, tmp_path):
    """`evaluate` of models c, a and b, of which a is finished, with stand-ins for everything that reads or runs."""
    made = protocol(models={name: name for name in "cab"})
    without_models = digest(made.model_copy(update={"models": {}}))
    models = inspected_models("cab")
    config = EvaluationConfig.model_validate(
        {"corpus": "c", "models": dict.fromkeys("cab", "x"), "measures": ("agreement",)}
    )
    setup = EvaluationSetup(None, SimpleNamespace(record=TABLE), None, (), config, {})
    calls = []

    def measured(names, given, teachers, *, setup, device):
        calls.append(("measured", list(names), given is models, teachers, setup.protocol_sha256, setup.scratch, device))
        assert (tmp_path / "out/.lock").is_file()  # no other process writes there
        for name in names:
            yield name, scores_of(name, "cab".index(name) + 1, sha256=setup.protocol_sha256)

    monkeypatch.setattr(stage, "set_up", lambda given: (made, setup) if given is config else None)
    monkeypatch.setattr(
        stage, "inspected", lambda given, of: models if (given is config, of is setup) == (True, True) else None
    )
    monkeypatch.setattr(stage, "teachers_of", lambda given: {"a": "b"} if given is models else None)
    monkeypatch.setattr(stage, "frame_bytes", lambda given, of: (sorted(given), of.scratch))
    monkeypatch.setattr(stage, "check_disk", lambda folder, needed, *, log: calls.append(("disk", folder, needed)))
    monkeypatch.setattr(stage, "measured", measured)
    monkeypatch.setattr(
        stage, "report_text", lambda documents: " ".join(cell.model for one in documents for cell in one.cells)
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    out = tmp_path / "out"
    (out / "cells").mkdir(parents=True)
    made.write(out / "protocol.json")
    scores_of("a", 2, sha256=without_models).write(out / "cells/a.json")
    return SimpleNamespace(
        config=config, out=out, calls=calls, sha256=without_models, setup=setup, monkeypatch=monkeypatch
    )


def test_models_that_are_not_finished_are_measured_and_results_are_in_the_order_of_the_config(evaluation):
    out, sha256 = evaluation.out, evaluation.sha256
    (out / ".frames-old").mkdir()
    (out / ".frames-old/train.f16").touch()
    results = stage.evaluate(evaluation.config, str(out), log=str)
    assert evaluation.calls == [
        ("disk", out, (["b", "c"], out)), ("measured", ["c", "b"], True, {"a": "b"}, sha256, out, "cuda"),
    ]  # fmt: skip
    assert [cell.model for cell in results.cells] == ["c", "a", "b"]
    assert {cell.protocol_sha256 for cell in results.cells} == {sha256}
    assert sorted(path.name for path in out.iterdir() if path.name != ".lock") == [
        "cells",
        "protocol.json",
        "report.md",
        "results.json",
    ]
    assert (out / "report.md").read_text() == "c a b"
    assert Results.read(out / "results.json", needed="") == results
    for name in "cab":
        assert ModelScores.read(out / f"cells/{name}.json", needed="").model == name
    # once more: nothing is measured; a report that is there is left as it is, one that is gone is written again
    lines = []
    (out / "report.md").write_text("mine")
    assert stage.evaluate(evaluation.config, out, log=lines.append) == results
    assert ((out / "report.md").read_text(), len(evaluation.calls)) == ("mine", 2)
    assert lines == [f"{out}: already evaluated, nothing to do"]
    (out / "report.md").unlink()
    stage.evaluate(evaluation.config, out, log=str)
    assert (out / "report.md").read_text() == "c a b"
    (out / "results.json").unlink()
    assert stage.evaluate(evaluation.config, out, log=str).cells == results.cells
    assert evaluation.calls[2:] == [("disk", out, ([], out)), ("measured", [], True, {"a": "b"}, sha256, out, "cuda")]


def test_scores_are_written_one_by_one_and_results_last(evaluation):
    def stopped(documents):
        raise KeyboardInterrupt

    evaluation.monkeypatch.setattr(stage, "report_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        stage.evaluate(evaluation.config, evaluation.out, device="cpu", log=str)
    assert evaluation.calls[1][-1] == "cpu"
    assert sorted(path.name for path in (evaluation.out / "cells").iterdir()) == ["a.json", "b.json", "c.json"]
    assert not (evaluation.out / "results.json").exists()


def test_teachers_are_looked_for_where_agreement_is_measured(evaluation):
    config = evaluation.config.model_copy(update={"measures": ("cosine",)})
    evaluation.monkeypatch.setattr(
        stage, "set_up", lambda _: (protocol(models={name: name for name in "cab"}), evaluation.setup)
    )
    evaluation.monkeypatch.setattr(stage, "inspected", lambda *_: inspected_models("cab"))
    stage.evaluate(config, evaluation.out, device="cpu", log=str)
    assert evaluation.calls[1][3] == {}


def test_a_dry_run_counts_models_hours_and_the_frames_of_all_models(monkeypatch, tmp_path):
    models = inspected_models("cab")
    setup = SimpleNamespace(audio_s=5400.0)
    monkeypatch.setattr(stage, "set_up", lambda config: (None, setup))
    monkeypatch.setattr(stage, "inspected", lambda config, of: models if of is setup else None)
    monkeypatch.setattr(
        stage, "frame_bytes", lambda given, of: 7 if (given is models, of is setup) == (True, True) else 0
    )
    monkeypatch.setattr(stage, "check_disk", lambda folder, needed, *, log: log(f"{folder.name} {needed}"))
    lines = []
    stage.dry_run(None, tmp_path / "out", log=lines.append)
    assert lines == ["3 models, each processes 1.5 h of audio, all copies counted", "out 7", "nothing was written"]


def test_a_device_is_the_one_that_is_named_else_the_gpu_where_there_is_one(monkeypatch):
    for is_there, due in ((True, ["cpu", "cuda", "cuda"]), (False, ["cpu", None, "cpu"])):
        monkeypatch.setattr("torch.cuda.is_available", lambda is_there=is_there: is_there)
        found = []
        for device in ("cpu", "cuda", None):
            try:
                found.append(stage.chosen_device(device))
            except UsageError:
                found.append(None)
        assert found == due


@pytest.mark.parametrize(
    ("features", "with_heads"), [(("last", "sum+heads", "sum"), True), (("last", "sum"), False), ((), False)]
)
def test_heads_are_looked_at_where_one_task_reads_them(monkeypatch, features, with_heads):
    monkeypatch.setattr(stage, "inspect_model", lambda name, source, **rest: (name, source, rest))
    tasks = [SimpleNamespace(features=one) for one in features]
    config = SimpleNamespace(models={"b": "x", "a": "y"}, tasks=tasks, layers=None)
    rest = {"dataset": "set", "with_heads": with_heads}
    found = stage.inspected(config, SimpleNamespace(dataset="set"))
    assert list(found.items()) == [("b", ("b", "x", rest)), ("a", ("a", "y", rest))]


def test_an_evaluation_is_set_up_from_one_reader_with_the_recordings_of_the_domain_probes_copies(monkeypatch):
    opened = []

    def entry(*names):
        return SimpleNamespace(sample=SimpleNamespace(copies=[SimpleNamespace(name=name) for name in names]))

    roles = {
        "train": {"a": entry("n-0", "n-1"), "b": entry("n-0")},
        "dev": {"x": entry("n-0")},
        "test": {"t": entry("n-0", "p-0"), "u": entry("n-0")},
    }
    dataset = SimpleNamespace(of=roles.get)
    plan = SimpleNamespace(leakage={"train": {"a"}, "dev": {"x"}, "test": {"t"}})
    config = SimpleNamespace(corpus="corpus", tasks=("one", "two"), seed=8)

    @contextlib.contextmanager
    def open_corpus(corpus):
        opened.append(corpus)
        yield "reader"

    def steps(copy, library):
        assert library == ("library of", "reader")
        return [
            SimpleNamespace(recordings=(copy.name, "1")),
            SimpleNamespace(recordings=()),
            SimpleNamespace(recordings=("2",)),
        ]

    monkeypatch.setattr(stage, "open_corpus", open_corpus)
    monkeypatch.setattr(stage, "list_utterances", lambda *given: dataset if given == ("reader", config) else None)
    monkeypatch.setattr(stage, "prepared", lambda task, of, *, seed: (task, of is dataset, seed))
    monkeypatch.setattr(
        stage,
        "plan_extraction",
        lambda of, tasks, given: plan if (of is dataset, len(tasks), given) == (True, 2, config) else None,
    )
    monkeypatch.setattr(stage, "index_test_copies", lambda reader, of: ("copies", reader, of is dataset))
    monkeypatch.setattr(stage, "Library", lambda reader: ("library of", reader))
    monkeypatch.setattr(stage, "copy_facts", steps)
    monkeypatch.setattr(stage, "protocol_of", lambda given, of: ("protocol", given is config, of is dataset))
    found, setup = stage.set_up(config)
    assert (found, opened) == (("protocol", True, True), ["corpus"])
    assert setup == EvaluationSetup(
        dataset, ("copies", "reader", True), plan, (("one", True, 8), ("two", True, 8)), config,
        {
            ("a", "n-0"): ("n-0", "1", "2"), ("a", "n-1"): ("n-1", "1", "2"), ("x", "n-0"): ("n-0", "1", "2"),
            ("t", "n-0"): ("n-0", "1", "2"), ("t", "p-0"): ("p-0", "1", "2"),
        },
    )  # fmt: skip


def test_frames_of_each_student_are_checked_against_its_own_teachers(monkeypatch):
    checked = []
    monkeypatch.setattr(stage, "check_frames", lambda *given: checked.append(given))
    monkeypatch.setattr(
        stage,
        "teacher_of",
        lambda name, of: {"s": "t", "z": "y"}.get(name) if of == {one: one.upper() for one in "styz"} else None,
    )
    models = {name: SimpleNamespace(facts=name.upper(), clock=f"clock of {name}") for name in "styz"}
    assert stage.teachers_of(models) == {"s": "t", "z": "y"}
    assert checked == [("s", "clock of s", "t", "clock of t"), ("z", "clock of z", "y", "clock of y")]


def test_each_model_is_opened_as_itself_and_a_teachers_frames_are_computed_once_for_its_students(monkeypatch, tmp_path):
    loaded, opened, taught = [], [], []
    known = {"a": TrainedOn.clean(), "b": None}
    monkeypatch.setattr(
        stage,
        "load_model",
        lambda *given: SimpleNamespace(to=lambda device: loaded.append((*given, device)) or given[0]),
    )
    monkeypatch.setattr(stage, "teacher_frames", lambda encoder, **rest: taught.append(rest) or f"frames of {encoder}")

    def open_model(name, config, of, **rest):
        opened.append((name, of, rest))
        return SimpleNamespace(
            name=name, trained=known[name], teacher_trained=TrainedOn.clean() if name == "b" else None
        )

    monkeypatch.setattr(stage, "open_model", open_model)
    monkeypatch.setattr(stage, "measure", lambda model, of: ("scores of", model.name, of is setup))
    config = SimpleNamespace(models={name: f"source of {name}" for name in "abt"})
    setup = SimpleNamespace(config=config, dataset=SimpleNamespace(sample_rate=8000), scratch=tmp_path)
    models = {name: SimpleNamespace(facts=f"facts of {name}") for name in "abt"}
    found = stage.measured(["a", "b"], models, {"a": "t", "b": "t"}, setup=setup, device="gpu")
    assert list(found) == [("a", ("scores of", "a", True)), ("b", ("scores of", "b", True))]
    assert loaded == [("source of t", 8000, "gpu")]
    assert taught == [{"dataset": setup.dataset, "config": config}]
    rest = {"sample_rate": 8000, "device": "gpu", "teacher": "frames of source of t"}
    assert opened == [("a", "facts of a", rest), ("b", "facts of b", rest)]
    assert [path.name for path in (tmp_path / "trained").iterdir()] == ["a.json"]
    assert TrainedOn.read(tmp_path / "trained/a.json", needed="") == TrainedOn.clean()


def test_results_have_protocol_scores_copies_and_what_measured_them(monkeypatch):
    monkeypatch.setattr(stage, "software", lambda: {"python": "3"})
    monkeypatch.setattr(stage, "machine", lambda: {"system": "Linux"})
    monkeypatch.setattr(stage, "provenance", lambda: {"command": ["stillroom", "evaluate"], "software": {}})
    cells = [scores_of("b", 1), scores_of("a", 2)]
    found = stage.results_of(protocol(), SimpleNamespace(copies=SimpleNamespace(record=TABLE)), cells)
    assert (found.protocol, list(found.cells), found.roll) == (protocol(), cells, TABLE)
    assert (found.software, found.machine, found.command) == (
        {"python": "3"},
        {"system": "Linux"},
        ("stillroom", "evaluate"),
    )


def test_each_kind_of_task_gets_its_labels_by_the_seed_and_frames_are_limited(monkeypatch):
    for name in ("label_task", "label_texts", "label_speakers", "align_task"):
        monkeypatch.setattr(stage, name, lambda task, of, name=name, **rest: (name, task, of, rest))
    monkeypatch.setattr(stage, "limited", lambda task, *, seed: ("limited", seed, *task))
    tasks = {
        "label_task": ClassifyTask(kind="classify", label="word"), "label_texts": CtcTask(kind="ctc"), "label_speakers": VerifyTask(kind="verify"),
        "align_task": FramesTask(kind="frames"),
    }  # fmt: skip
    found = {name: stage.prepared(task, "set", seed=4) for name, task in tasks.items()}
    assert found == {
        "label_task": ("label_task", tasks["label_task"], "set", {}), "label_texts": ("limited", 4, "label_texts", tasks["label_texts"], "set", {}),
        "label_speakers": ("label_speakers", tasks["label_speakers"], "set", {"seed": 4}),
        "align_task": ("limited", 4, "align_task", tasks["align_task"], "set", {}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "is_stored"), [("classify", False), ("verify", False), ("ctc", True), ("frames", True)]
)
def test_a_protocol_is_of_the_data_the_settings_and_the_models_without_their_paths(tmp_path, kind, is_stored):
    label = {"label": "word"} if kind == "classify" else {}
    run = write_run(tmp_path / "ours")
    config = EvaluationConfig.model_validate(
        {"corpus": str(tmp_path), "models": {"b": {"run": str(run), "checkpoint": "best"}, "a": str(tmp_path / "mine")}, "tasks": [
            {"kind": kind, **label}, {"kind": "classify", "label": "take"},
        ], "seed": 5, "splits": {"train": "learn", "test": "exam"}}
    )  # fmt: skip
    dataset = SimpleNamespace(corpus="tiny", data_sha256="d" * 64, conditions=("far", "noise"), splits=SPLITS)
    found = stage.protocol_of(config, dataset)
    assert (found.corpus, found.data_sha256, found.conditions) == ("tiny", "d" * 64, ("far", "noise"))
    assert list(found.models.items()) == [("b", "ours, best"), ("a", "mine")]
    due = config.settings() | {"splits": {"train": "learn", "dev": "choose", "test": "exam"}}
    if is_stored:
        due["stored_frames"] = {"train": 3000, "dev": 200, "bits": 16}
    assert found.settings == due


def test_a_folder_is_claimed_once_and_by_one_protocol(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").touch()
    stage.claim_folder(out, protocol())
    assert Protocol.read(out / "protocol.json", needed="") == protocol()
    (out / "other.txt").touch()
    stage.claim_folder(out, protocol())
    other = protocol(settings={"seed": 4})
    with pytest.raises(OtherRecipeError) as caught:
        stage.claim_folder(out, other)
    ours, theirs = digest(protocol())[:12], digest(other)[:12]
    assert f"another evaluation config or corpus ({ours}, now {theirs})" in str(caught.value)
    full = tmp_path / "full"
    full.mkdir()
    for name in ("z.txt", ".hidden", "b.txt"):
        (full / name).touch()
    with pytest.raises(NotResultsError, match=r"full holds b\.txt and no protocol\.json"):
        stage.claim_folder(full, protocol())
    assert not (full / "protocol.json").exists()


@pytest.mark.parametrize("name", ["cells", "trained"])
def test_results_are_not_written_through_a_link(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=rf"out/{name} is a link to "):
        stage.claim_folder(tmp_path / "out", protocol())
    assert not (tmp_path / "out/protocol.json").exists()


def test_results_are_finished_where_they_are_written_with_these_scores_in_this_order(tmp_path):
    cells = {"b": scores_of("b", 1), "a": scores_of("a", 2)}
    assert stage.finished_results(tmp_path, cells, log=str) is None
    setup = SimpleNamespace(copies=SimpleNamespace(record=TABLE))
    written = stage.results_of(protocol(), setup, list(cells.values()))
    written.write(tmp_path / "results.json")
    assert stage.finished_results(tmp_path, cells, log=str) == written
    for other in (
        {"a": cells["a"], "b": cells["b"]},
        {"b": cells["b"]},
        {"b": cells["b"], "a": scores_of("a", 3)},
        {**cells, "c": None},
    ):
        assert stage.finished_results(tmp_path, other, log=str) is None


def test_damaged_documents_are_said_and_count_as_not_there(tmp_path):
    (tmp_path / "cells").mkdir()
    for path in ("results.json", "cells/a.json"):
        (tmp_path / path).write_text("{")
    lines = []
    assert stage.finished_results(tmp_path, {}, log=lines.append) is None
    setup = SimpleNamespace(protocol_sha256="a" * 64)
    assert stage.finished_scores(tmp_path, "a", facts(1), setup=setup, log=lines.append) is None
    assert stage.finished_scores(tmp_path, "b", facts(1), setup=setup, log=lines.append) is None
    first, second = lines
    assert first.startswith(f"{tmp_path}/results.json")
    assert first.endswith("; it is written again from the scores of the models")
    assert second.startswith(f"{tmp_path}/cells/a.json")
    assert second.endswith("; this model is measured again")
