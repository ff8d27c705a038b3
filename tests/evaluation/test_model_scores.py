"""Measures become scores: each has its own condition, layer, count and probe, and a task's probes are given what it asks for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation import model_scores as stage
from evaluation.data.alignments import AlignedTask
from evaluation.data.labels import LabelGroup, LabelledTask
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.features import Scaling, UtteranceFeatures
from evaluation.measures.cka import Similarity, effective_rank
from evaluation.measures.frame_cosine import Mean
from evaluation.model_scores import Findings
from manifests.results.scores import Efficiency, ModelFacts, Outcomes, Score, Trials
from manifests.results.training_exposure import TrainedOn

FACTS = ModelFacts(kind="run", origin="run, last", digest="1" * 64, parameters=10, layers=2, heard_known=True)


def some_tasks():
    """A task of each kind, by name; each has a note of its own and one that all have."""
    config = SimpleNamespace(features="sum", probe="clean")
    group = LabelGroup({"a": "x"}, {}, {"t": "x"})
    keyed = ({"a": "x"}, {}, {"t": "x"})
    return (
        LabelledTask("words", (group,), ("of words", "of all")),
        TextTask("texts", config, *keyed, ("of texts", "of all"), ("x",)),
        AlignedTask("frames", config, *keyed, ("of frames", "of all"), ("x",)),
        VerificationTask("trials", config, *keyed, ("of trials", "of all"), (), ()),
    )


def trained_on(**kinds):
    given = {"schema": TrainedOn.SCHEMA, "kinds": kinds, "chains": []}
    return TrainedOn.parse(given, where="test")


CLIP = {
    "count": 7,
    "sources": ["b", "a"],
    "recordings": ["0" * 16, "1" * 16, "2" * 16],
    "ranges": {"percent": [1.0, 5.0]},
}


def test_what_a_model_was_trained_on_is_summed_up_with_recordings_as_a_number():
    assert stage.trained_summary(trained_on(clip=CLIP, gain={"count": 1})) == {
        "clip": {"count": 7, "sources": ["b", "a"], "recordings": 3, "ranges": {"percent": [1.0, 5.0]}},
        "gain": {"count": 1, "sources": [], "recordings": 0, "ranges": {}},
    }
    assert (stage.trained_summary(None), stage.trained_summary(TrainedOn.clean())) == (None, {})


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """`measure` with stand-ins for extraction and probes, which write down what they are given."""
    calls = []
    tasks = some_tasks()
    probes = [
        SimpleNamespace(task=task, name=task.name) for task in (tasks[2], tasks[1])
    ]  # in another order than the tasks
    features = SimpleNamespace(too_short=3, frame_probes=probes, abx=None)

    def extracted(model, setup, *, scratch):
        calls.append(("extract", model.name, scratch.parent, scratch.name[:8], scratch.is_dir()))
        (scratch / "frames").touch()
        return features, 12.345

    def add(name):
        def noted(found, *given):
            calls.append((name, *(getattr(one, "name", one) for one in given[:-1])))
            found.notes.append(f"from {name}")
            found.scores.append(Score(measure="cosine", value=len(found.scores) / 8, count=1))
            found.chosen[name], found.chosen_is[name] = (0.5,), "learning rate" if name == "add_framewise" else "C"
            found.outcomes.append(Outcomes(task=name, measure="cer", probe=0, counts="1 2"))
            found.trials.append(Trials(task=name, copies="1", enrolled="0", same="1", scores=("0.5",)))

        return noted

    monkeypatch.setattr(stage, "extract", extracted)
    for name in ("add_classification", "add_verification", "add_framewise", "add_frame_measures", "add_leakage"):
        monkeypatch.setattr(stage, name, add(name))
    clock = iter((100.0, 101.26, 104.51))
    monkeypatch.setattr(stage, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    efficiency = Efficiency(macs_per_s=1.0, real_time_factor=2.0, size_mb=3.0, measured_s=4.0)
    monkeypatch.setattr(stage, "measured_efficiency", lambda encoder: efficiency if encoder == "encoder" else None)
    letters = {"student's": "cs", "teacher's": "cn"}
    known = {"student's": trained_on(clip=CLIP), "teacher's": TrainedOn.clean()}
    copies = SimpleNamespace(letters=lambda trained: letters[next(name for name in known if known[name] is trained)])
    model = SimpleNamespace(
        name="mine", encoder="encoder", facts=FACTS, trained=known["student's"], teacher_trained=known["teacher's"], notes=("of the model", "of all"),
    )  # fmt: skip

    def run(*, measures=("leakage",), with_efficiency=True):
        setup = SimpleNamespace(
            scratch=tmp_path, plan=SimpleNamespace(notes=("of the plan", "of the model")), tasks=tasks, copies=copies,
            config=SimpleNamespace(measures=measures, efficiency=with_efficiency), protocol_sha256="a" * 64,
            dataset=SimpleNamespace(data_sha256="d" * 64),
        )  # fmt: skip
        return stage.measure(model, setup)

    return SimpleNamespace(run=run, calls=calls, features=features, efficiency=efficiency, tasks=tasks)


def test_a_models_document_has_every_part_of_what_was_measured(measured, tmp_path):
    scores = measured.run()
    assert (scores.model, scores.protocol_sha256, scores.data_sha256, scores.facts) == (
        "mine",
        "a" * 64,
        "d" * 64,
        FACTS,
    )
    assert scores.cost == {"audio_s": 12.3, "hearing_s": 1.3, "probing_s": 3.2}
    assert (scores.seen, scores.seen_by_teacher) == ("cs", "cn")
    assert scores.trained == {"clip": {**CLIP, "recordings": 3}}
    assert scores.efficiency == measured.efficiency
    assert [score.value for score in scores.scores] == [number / 8 for number in range(6)]
    names = [name for name, *_ in measured.calls[1:]]
    assert scores.chosen == dict.fromkeys(names, (0.5,))
    assert scores.chosen_is == {name: "learning rate" if name == "add_framewise" else "C" for name in names}
    assert [one.task for one in scores.outcomes] == [one.task for one in scores.trials] == names
    assert scores.notes == (
        "of the model", "of all", "of the plan", "3 utterances shorter than one frame are left out", "of words", "from add_classification",
        "of texts", "from add_framewise", "of frames", "of trials", "from add_verification", "from add_frame_measures", "from add_leakage",
    )  # fmt: skip
    assert measured.calls == [
        ("extract", "mine", tmp_path, ".frames-", True),
        ("add_classification", "words", measured.features),
        ("add_framewise", "texts"),
        ("add_framewise", "frames"),
        ("add_verification", "trials", measured.features),
        ("add_frame_measures", measured.features),
        ("add_leakage", measured.features),
    ]
    assert list(tmp_path.iterdir()) == []  # frames are gone with their folder


def test_leakage_and_efficiency_are_measured_where_they_are_named(measured):
    measured.features.too_short = 0
    scores = measured.run(measures=("cosine", "cka", "agreement"), with_efficiency=False)
    assert "add_leakage" not in [name for name, *_ in measured.calls]
    assert scores.efficiency is None
    assert not any("shorter" in note for note in scores.notes)


def probe_setup(*, dev, seed=5, probes=3):
    plan = SimpleNamespace(chosen={"a": "noise-1", "b": "noise-0", "c": "phone-0"})
    numbers = {("t", "clean"): 0, ("t", "noise-0"): 1}
    return SimpleNamespace(
        config=SimpleNamespace(seed=seed, probes=probes), dataset=SimpleNamespace(dev=dev), plan=plan, copies=SimpleNamespace(numbers=numbers),
    )  # fmt: skip


def pooled_by_name():
    rows = {
        (features, role): f"{features} of {role}" for features in ("last", "sum") for role in ("train", "dev", "test")
    }
    return SimpleNamespace(pooled=rows)


@pytest.mark.parametrize(("features", "probe", "dev"), [("last", "clean", {"x": 1}), ("sum", "distorted", {})])
def test_a_classification_gets_its_own_states_copies_and_seed_and_each_probe_its_outcomes(
    monkeypatch, features, probe, dev
):
    given = []
    outcomes = ({("t", "clean"): (1.0, 1.0)}, {("t", "noise-0"): (0.0, 1.0), ("t", "clean"): (1.0, 1.0)})
    score = Score(measure="accuracy", value=0.5, count=2)
    probed = SimpleNamespace(scores=(score,), notes=("two stopped",), chosen=(0.1, 10.0), outcomes=outcomes)
    monkeypatch.setattr(stage, "probe_task", lambda task, **rest: given.append((task, rest)) or probed)
    task = LabelledTask("t", (LabelGroup({"a": "x", "b": "y"}, {}, {}),), (), features, probe)
    found = Findings(scores=[score], notes=["before"])
    stage.add_classification(found, task, pooled_by_name(), probe_setup(dev=dev))
    own = {role: f"{features} of {role}" for role in ("train", "dev", "test")}
    members = {"a": "noise-1", "b": "noise-0"} if probe == "distorted" else None
    assert given == [(task, {**own, "dev": own["dev"] if dev else None, "seed": 5, "probes": 3, "members": members})]
    assert (found.scores, found.notes) == ([score, score], ["before", "two stopped"])
    assert (found.chosen, found.chosen_is) == (
        {"t": (0.1, 10.0)},
        {"t": "C" if features == "last" else "learning rate"},
    )
    assert [(one.task, one.measure, one.probe, one.counts) for one in found.outcomes] == [
        ("t", "accuracy", 0, "1 -"), ("t", "accuracy", 1, "1 0"),
    ]  # fmt: skip


@pytest.mark.parametrize(("features", "probe", "dev"), [("last", "clean", {"x": "ann"}), ("sum", "distorted", {})])
def test_a_verification_gets_its_own_states_copies_and_seed_and_its_trials_are_written(
    monkeypatch, features, probe, dev
):
    given = []
    trial = (("t", "noise-0"), ("t", "clean"), True, 0.25)
    score = Score(measure="eer", value=0.5, count=2)
    verified = SimpleNamespace(scores=(score,), chosen=(0.01, 0.1), trials=((trial,), (trial,)))
    monkeypatch.setattr(stage, "verify_task", lambda task, **rest: given.append((task, rest)) or verified)
    config = SimpleNamespace(features=features, probe=probe)
    task = VerificationTask("who", config, {"b": "ann", "c": "bob"}, dev, {"t": "ann"}, (), (), ())
    found = Findings(scores=[score])
    stage.add_verification(found, task, pooled_by_name(), probe_setup(dev={"other": 1}))
    own = {role: f"{features} of {role}" for role in ("train", "dev", "test")}
    members = {"b": "noise-0", "c": "phone-0"} if probe == "distorted" else None
    assert given == [(task, {**own, "dev": own["dev"] if dev else None, "seed": 5, "probes": 3, "members": members})]
    assert found.scores == [score, score]
    assert (found.chosen, found.chosen_is) == ({"who": (0.01, 0.1)}, {"who": "learning rate"})
    [record] = found.trials
    assert (record.task, record.copies, record.enrolled, record.scores) == ("who", "1", "0", ("0.25", "0.25"))


def test_the_domain_probe_gets_the_rows_and_speakers_of_the_split_that_it_learns_on(monkeypatch):
    given = []
    monkeypatch.setattr(
        stage, "held_out", lambda *rows, **rest: given.append((rows, rest)) or ("left", "right", ["held out"])
    )
    score = Score(measure="leakage", value=0.5, count=2)
    monkeypatch.setattr(stage, "leakage_scores", lambda *rows: [score] if rows == ("left", "right") else [])
    roles = {
        role: {key: SimpleNamespace(sample=SimpleNamespace(speaker=f"{role} {key}")) for key in keys}
        for role, keys in (("train", "ab"), ("dev", "cd"), ("test", "et"))
    }
    setup = SimpleNamespace(
        plan=SimpleNamespace(leakage_role="dev"), dataset=SimpleNamespace(of=roles.get), recordings={("c", "noise-0"): ("1",)},
        config=SimpleNamespace(seed=9),
    )  # fmt: skip
    found = Findings(notes=["before"], scores=[score])
    stage.add_leakage(found, SimpleNamespace(pooled_layers={role: f"rows of {role}" for role in roles}), setup)
    speakers = {"c": "dev c", "d": "dev d", "e": "test e", "t": "test t"}
    assert given == [
        (("rows of dev", "rows of test"), {"speakers": speakers, "recordings": setup.recordings, "seed": 9}),
    ]  # fmt: skip
    assert (found.notes, found.scores) == (["before", "held out"], [score, score])


@pytest.mark.parametrize(
    ("sizes", "note"), [((1000, 999), ["retrieval is among 999 frames: no speaker has more"]), ((1000, 1000), [])]
)
def test_frame_measures_are_those_that_were_collected_and_a_small_pool_is_noted(monkeypatch, sizes, note):
    monkeypatch.setattr(stage, "cosine_scores", lambda cosine: [cosine])
    monkeypatch.setattr(stage, "similarity_scores", lambda similarity, measures: [similarity, *measures])
    monkeypatch.setattr(stage, "retrieval_scores", lambda retrieval, conditions: [retrieval, *conditions])
    setup = SimpleNamespace(
        config=SimpleNamespace(measures=("cka", "x")), dataset=SimpleNamespace(conditions=("far", "noise"))
    )
    retrieval = SimpleNamespace(plan=SimpleNamespace(sizes=sizes))
    units = SimpleNamespace(notes=["of units"], scores=lambda: ["edits"])
    for parts, due, notes in (
        (
            ("cosine", "similarity", retrieval, None, None),
            ["cosine", "similarity", "cka", "x", retrieval, "far", "noise"],
            note,
        ),
        ((None, "similarity", None, None, None), ["similarity", "cka", "x"], []),
        ((None, None, None, SimpleNamespace(notes=["of abx"]), units), ["edits"], ["of abx", "of units"]),
        ((None, None, None, None, None), [], []),
    ):
        found = Findings()
        names = ("cosine", "similarity", "retrieval", "abx", "units")
        stage.add_frame_measures(found, SimpleNamespace(**dict(zip(names, parts, strict=True))), setup)
        assert (found.scores, found.notes) == (due, notes)


def rows_of(scores):
    return [(one.measure, one.condition, one.layer, one.value, one.count) for one in scores]


def test_cosines_are_scored_by_condition_and_layer_each_with_its_own_count():
    def mean(count, *totals):
        return Mean(np.array(totals), count)

    cosine = SimpleNamespace(
        matched={"phone": mean(4, 2.0, 1.0), "noise": mean(8, 6.0, 4.0)}, mismatched={"phone": mean(2, 1.0, 0.5)}
    )
    assert rows_of(stage.cosine_scores(cosine)) == [
        ("cosine", "noise", 1, 0.75, 8), ("cosine", "noise", 2, 0.5, 8), ("cosine", "phone", 1, 0.5, 4), ("cosine", "phone", 2, 0.25, 4),
        ("mismatched", "phone", 1, 0.5, 2), ("mismatched", "phone", 2, 0.25, 2),
    ]  # fmt: skip


def slow_cka(first, second):
    """Of frames in rows, by Gram matrices."""
    grams = [frames @ frames.T for frames in (first, second)]
    centring = np.eye(len(first)) - 1 / len(first)
    x, y = (centring @ gram @ centring for gram in grams)
    return (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())


@pytest.mark.parametrize("measures", [("cka", "agreement"), ("agreement",)])
def test_similarities_are_scored_by_condition_and_layer_on_that_conditions_frames(measures):
    rng = np.random.default_rng(3)
    layers, frames, features = 2, 40, 5
    names = ("clean", "phone-0", "noise-0")
    frames_of = {name: rng.normal(size=(layers, frames, features)) + 0.5 for name in names}
    frames_of["phone-0"] += frames_of["clean"]
    frames_of["noise-0"][..., 2:] = frames_of["clean"][..., 2:]
    teacher = rng.normal(size=(frames, features)) + frames_of["clean"][0]
    scaling = Scaling(np.zeros((layers, features)), np.ones((layers, features)))
    similarity = Similarity(scaling, 1000, {"u": torch.from_numpy(teacher).float()})
    waves = {name: torch.from_numpy(one).float() for name, one in frames_of.items()}
    similarity.add(UtteranceFeatures("u", 1.0, waves))
    less = {
        name: one[:, :30] for name, one in waves.items() if name != "noise-0"
    }  # noise has fewer frames than the others
    similarity.add(UtteranceFeatures("v", 1.0, less))
    found = {
        (one.measure, one.condition, one.layer): (one.value, one.count)
        for one in stage.similarity_scores(similarity, measures=measures)
    }
    due = {}
    for name in names:
        condition = name.partition("-")[0]
        whole = (
            frames_of[name] if name == "noise-0" else np.concatenate([frames_of[name], frames_of[name][:, :30]], axis=1)
        )
        clean = np.concatenate([frames_of["clean"], frames_of["clean"][:, :30]], axis=1)[:, : whole.shape[1]]
        for layer in range(layers):
            own = whole[layer] - whole[layer].mean(axis=0)
            count = whole.shape[1]
            due["rank", condition, layer + 1] = effective_rank(own.T @ own), count
            due["variance", condition, layer + 1] = (own**2).sum() / (whole[layer] ** 2).sum(), count
            if "cka" in measures and condition != "clean":
                due["cka", condition, layer + 1] = slow_cka(clean[layer], whole[layer]), count
            due["agreement", condition, layer + 1] = slow_cka(teacher, frames_of[name][layer]), frames
    assert found.keys() == due.keys()
    for place, (value, count) in due.items():
        assert found[place] == (pytest.approx(value, rel=1e-4), count), place
    order = [one.condition for one in stage.similarity_scores(similarity, measures=measures) if one.measure == "rank"]
    assert order == ["clean", "clean", "noise", "noise", "phone", "phone"]


def test_retrieval_is_scored_in_the_order_of_conditions_and_left_out_where_nothing_was_queried():
    shares = {"noise": (np.array([0.5, 0.25]), 8), "far": (np.array([0.0, 0.0]), 0), "phone": (np.array([1.0, 0.0]), 4)}
    found = stage.retrieval_scores(SimpleNamespace(shares=shares.get), ("phone", "far", "noise"))
    assert rows_of(found) == [
        ("retrieval", "phone", 1, 1.0, 4), ("retrieval", "phone", 2, 0.0, 4), ("retrieval", "noise", 1, 0.5, 8), ("retrieval", "noise", 2, 0.25, 8),
    ]  # fmt: skip
