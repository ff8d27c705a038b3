"""What a model processes: which members of which utterances, in which passes, for which tasks and measures, and nothing else."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation import extraction as stage
from evaluation.config import CtcTask, FramesTask, Splits, VerifyTask
from evaluation.data.alignments import AlignedTask
from evaluation.data.labels import LabelGroup, LabelledTask
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.data.utterances import EmptyConditionError, TooShortError, keyed_order
from evaluation.extraction import EvaluationSetup, ExtractionPlan, extract, plan_extraction, prepare_test
from evaluation.features import PooledRows, UtteranceFeatures
from evaluation.measures.frame_cosine import FrameMoments

SPLITS = Splits(train="learn", dev="choose", test="exam")
ROLES = ("train", "dev", "test")


def entry(*members, num_samples=10, seconds=1.0):
    copies = [SimpleNamespace(name=name, condition=name.rpartition("-")[0]) for name in members]
    return SimpleNamespace(sample=SimpleNamespace(copies=copies, num_samples=num_samples), seconds=seconds)


def made_set(train=None, dev=None):
    """Test has copies of far, noise and phone; train of noise, far and of music, which test has not; reference is a part of train."""
    roles = {
        "train": train
        or {"a": entry("noise-0", "noise-1", "music-0"), "b": entry("far-0"), "c": entry("music-0", "noise-0")},
        "dev": dev or {"x": entry("noise-0", "music-0"), "y": entry()},
        "test": {"t": entry("noise-0", "phone-0"), "u": entry("far-0", "noise-0"), "v": entry()},
    }
    names = {"train": "learn", "dev": "choose", "test": "exam"}
    return SimpleNamespace(
        **roles, of=roles.__getitem__, split_of=names.__getitem__, splits=SPLITS, conditions=("far", "noise", "phone"), reference=frozenset("ab"),
    )  # fmt: skip


WHOLE_TEST = {"t": {"clean", "noise-0", "phone-0"}, "u": {"clean", "far-0", "noise-0"}, "v": {"clean"}}


def config_for(*measures, seed=3):
    return SimpleNamespace(measures=measures, seed=seed, probes=4, corpus="corpus")


def words(*, probe="clean", train="bc", dev="y", test="u", features="last"):
    groups = [LabelGroup(*(dict.fromkeys(keys, "w") for keys in (train, dev, test)))]
    return LabelledTask("words", tuple(groups), (), features, probe)


def texts(config=None, *, train="ca", dev="x", test="t", kind=TextTask, name="texts", **changes):
    """A task that reads frames."""
    made = {TextTask: CtcTask, AlignedTask: FramesTask}[kind]
    config = made(kind={TextTask: "ctc", AlignedTask: "frames"}[kind], **changes)
    return kind(name, config, *(dict.fromkeys(keys, ("w",)) for keys in (train, dev, test)), (), ("w",))


def members_of(plan):
    return {role: {key: set(names) for key, names in plan.members[role].items()} for role in ROLES}


def test_a_task_on_clean_speech_needs_clean_waves_and_every_copy_of_what_it_tests():
    plan = plan_extraction(made_set(), [words()], config_for())
    assert members_of(plan) == {
        "train": {"b": {"clean"}, "c": {"clean"}},
        "dev": {"y": {"clean"}},
        "test": {"u": WHOLE_TEST["u"]},
    }
    assert (plan.chosen, plan.notes, plan.leakage_role) == ({}, (), "train")
    assert plan.frames == {"train": frozenset(), "dev": frozenset()}
    assert plan.leakage == dict.fromkeys(ROLES, frozenset())


@pytest.mark.parametrize("seed", range(4))
def test_a_task_on_distorted_speech_needs_one_copy_of_each_training_utterance_too(seed):
    dataset = made_set()
    tasks = [words(probe="distorted", train="ab"), texts(train="ac", probe="distorted")]
    plan = plan_extraction(dataset, tasks, config_for(seed=seed))
    copies = {"a": ["noise-0", "noise-1", "music-0"], "b": ["far-0"], "c": ["music-0", "noise-0"]}
    chosen = {key: keyed_order(names, seed=seed, purpose=f"distorted {key}")[0] for key, names in copies.items()}
    assert plan.chosen == chosen
    assert members_of(plan) == {
        "train": {key: {"clean", chosen[key]} for key in "abc"}, "dev": {"x": {"clean"}, "y": {"clean"}},
        "test": {"t": WHOLE_TEST["t"], "u": WHOLE_TEST["u"]},
    }  # fmt: skip
    assert plan.frames == {"train": {("a", chosen["a"]), ("c", chosen["c"])}, "dev": {("x", "clean")}}


@pytest.mark.parametrize("measure", ["cosine", "cka", "agreement"])
def test_measures_of_frames_need_the_reference_and_every_copy_of_test(measure):
    plan = plan_extraction(made_set(), [], config_for(measure))
    assert members_of(plan) == {"train": {"a": {"clean"}, "b": {"clean"}}, "dev": {}, "test": WHOLE_TEST}
    assert plan.leakage["test"] == frozenset()


@pytest.mark.parametrize("kind", [TextTask, AlignedTask])
def test_tasks_that_read_frames_need_the_reference_to_scale_them_by(kind):
    plan = plan_extraction(made_set(), [texts(train="c", kind=kind)], config_for())
    assert members_of(plan) == {
        "train": {"a": {"clean"}, "b": {"clean"}, "c": {"clean"}}, "dev": {"x": {"clean"}}, "test": {"t": WHOLE_TEST["t"]},
    }  # fmt: skip


def test_leakage_needs_copies_of_the_conditions_that_train_and_test_share_and_says_which_are_left_out():
    plan = plan_extraction(made_set(), [], config_for("leakage"))
    assert members_of(plan) == {
        "train": {"a": {"clean", "noise-0", "noise-1"}, "b": {"clean", "far-0"}, "c": {"clean", "noise-0"}}, "dev": {}, "test": WHOLE_TEST,
    }  # fmt: skip
    assert (plan.leakage_role, plan.leakage_conditions) == ("train", {"clean", "far", "noise"})
    assert plan.leakage == {"train": set("abc"), "dev": set(), "test": set("tuv")}
    assert plan.notes == ("leakage: phone left out, split learn does not have it",)


def test_leakage_is_learned_on_dev_where_train_has_no_condition_of_test():
    dataset = made_set(train={"a": entry("music-0"), "b": entry()})
    plan = plan_extraction(dataset, [], config_for("leakage"))
    assert members_of(plan)["train"] == {}
    assert members_of(plan)["dev"] == {"x": {"clean", "noise-0"}, "y": {"clean"}}
    assert (plan.leakage_role, plan.leakage_conditions) == ("dev", {"clean", "noise"})
    assert plan.leakage == {"train": set(), "dev": set("xy"), "test": set("tuv")}
    assert plan.notes == ("leakage: far, phone left out, split choose does not have it",)
    dataset = made_set(train={"a": entry("music-0")}, dev={"x": entry("music-0")})
    assert plan_extraction(dataset, [], config_for("cosine")).leakage_role == "train"
    with pytest.raises(EmptyConditionError, match=r"^measure leakage: there is no distorted copy in split 'learn'"):
        plan_extraction(dataset, [], config_for("leakage"))


@pytest.mark.parametrize("seed", range(3))
def test_of_many_utterances_leakage_takes_some_by_the_seed_and_twice_as_many_of_test(monkeypatch, seed):
    assert (stage.REFERENCE_UTTERANCES, stage.LEAKAGE_TEST_UTTERANCES) == (500, 1000)
    monkeypatch.setattr(stage, "REFERENCE_UTTERANCES", 1)
    monkeypatch.setattr(stage, "LEAKAGE_TEST_UTTERANCES", 2)
    dataset = made_set()
    plan = plan_extraction(dataset, [], config_for("leakage", seed=seed))
    order = {role: keyed_order(dataset.of(role), seed=seed, purpose="reference") for role in ("train", "test")}
    assert plan.leakage == {"train": set(order["train"][:1]), "dev": set(), "test": set(order["test"][:2])}
    assert members_of(plan)["train"].keys() == plan.leakage["train"]
    assert members_of(plan)["test"] == {key: WHOLE_TEST[key] for key in order["test"][:2]}


def test_a_probe_on_distorted_speech_without_copies_is_refused_with_its_task_and_split():
    with pytest.raises(EmptyConditionError, match=r"^task 'words': there is no distorted copy in split 'learn'"):
        plan_extraction(made_set(train={"b": entry("far-0"), "c": entry()}), [words(probe="distorted")], config_for())


def made_plan(**members):
    members = {role: {key: frozenset(names) for key, names in members.get(role, {}).items()} for role in ROLES}
    return ExtractionPlan(
        members,
        {},
        {"train": frozenset(), "dev": frozenset()},
        dict.fromkeys(ROLES, frozenset()),
        "train",
        frozenset(),
        (),
    )


PLAN = made_plan(
    train={"a": {"clean", "noise-1", "noise-0"}, "b": {"clean"}, "c": {"noise-0", "noise-1", "clean"}},
    test={"t": {"clean", "air-0"}},
)


def test_utterances_with_the_same_members_are_one_pass_with_clean_first():
    assert PLAN.passes("train") == [(("clean",), frozenset("b")), (("clean", "noise-0", "noise-1"), frozenset("ac"))]
    assert (PLAN.passes("dev"), PLAN.passes("test")) == ([], [(("clean", "air-0"), frozenset("t"))])


def made_setup(plan=PLAN, tasks=(), config=None):
    seconds = {"train": {"a": 1.0, "b": 10.0, "c": 100.0}, "dev": {"x": 7.0}, "test": {"t": 1000.0}}
    roles = {
        role: {key: SimpleNamespace(seconds=value) for key, value in found.items()} for role, found in seconds.items()
    }
    splits = {"train": "learn", "dev": "choose", "test": "exam"}
    dataset = SimpleNamespace(
        of=roles.get, split_of=splits.get, reference=frozenset("a"), test=roles["test"], train=roles["train"]
    )
    dataset.conditions = ("far", "noise", "phone")
    return EvaluationSetup(dataset, None, plan, tuple(tasks), config or config_for(), {})


def test_audio_is_counted_with_all_copies_that_are_processed():
    assert made_setup().audio_s == 3 * (1.0 + 100.0) + 10.0 + 2 * 1000.0


class Tables:
    """Stands for the tables that are filled."""

    def __init__(self):
        self.added = []
        self.frames = {
            role: SimpleNamespace(close=lambda role=role: self.added.append(("closed", role)))
            for role in ("train", "dev")
        }

    def add(self, role, utterance, *, dataset, plan):
        self.added.append((role, utterance.key))


@pytest.fixture
def extraction(monkeypatch, tmp_path):
    """`extract` over made utterances: what is read, processed and shown is written down."""
    tables, read, shown = Tables(), [], []
    lengths = {"a": 0, "b": 2, "c": 3, "t": 4}

    def reading(corpus, split, *, members, keys):
        read.append((corpus, split, members, keys))
        return sorted(keys)

    def features(encoder, keys, *, advance, heads):
        for key in keys:
            advance(2.0 ** len(key))
            shown.append((encoder, heads, key))
            yield UtteranceFeatures(key, 1.0, {"clean": torch.zeros(1, lengths[key], 1)})

    class Shown:
        def __init__(self, label, *, total, unit):
            shown.append((label, total, unit))

        def __enter__(self):
            return SimpleNamespace(advance=shown.append)

        def __exit__(self, *_):
            shown.append("end")

    monkeypatch.setattr(stage, "utterances", reading)
    monkeypatch.setattr(stage, "features_of", features)
    monkeypatch.setattr(stage, "Progress", Shown)
    monkeypatch.setattr(stage, "prepare_test", lambda *given: tables.added.append(("prepared", given[0] is tables)))
    monkeypatch.setattr(
        stage, "empty_features", lambda tasks, *, scratch: tables if (tasks, scratch) == (("task",), tmp_path) else None
    )
    model = SimpleNamespace(name="mine", encoder="encoder", heads="heads")
    return SimpleNamespace(
        tables=tables,
        read=read,
        shown=shown,
        lengths=lengths,
        run=lambda setup: extract(model, setup, scratch=tmp_path),
    )


def test_a_model_processes_each_pass_of_each_split_and_is_prepared_before_test(extraction):
    setup = made_setup(tasks=["task"])
    assert extraction.run(setup) == (extraction.tables, setup.audio_s)
    assert extraction.read == [
        ("corpus", "learn", ("clean",), frozenset("b")), ("corpus", "learn", ("clean", "noise-0", "noise-1"), frozenset("ac")),
        ("corpus", "exam", ("clean", "air-0"), frozenset("t")),
    ]  # fmt: skip
    train = [("train", key) for key in "bac"]
    assert extraction.tables.added[:5] == [*train, ("prepared", True), ("test", "t")]
    assert sorted(extraction.tables.added[5:]) == [("closed", "dev"), ("closed", "train")]
    assert extraction.shown[0] == ("features of mine", 2313, "s of audio")
    assert extraction.shown[1:3] == [2.0, ("encoder", "heads", "b")]
    assert extraction.shown[-1] == "end"


@pytest.mark.parametrize(("short", "split"), [("abc", "learn"), ("t", "exam"), ("abct", "learn")])
def test_a_split_without_one_frame_is_named_and_files_are_closed(extraction, short, split):
    extraction.lengths.update(dict.fromkeys(short, 0))
    with pytest.raises(
        TooShortError, match=rf"^split '{split}': every utterance is shorter than one frame of model 'mine'$"
    ):
        extraction.run(made_setup(tasks=["task"]))
    assert extraction.tables.added.count(("closed", "train")) == extraction.tables.added.count(("closed", "dev")) == 1
    extraction.lengths.update(dict.fromkeys("ab", 1))  # one that is long enough is enough, wherever it stands
    if split == "learn":
        extraction.lengths["t"] = 1
        extraction.run(made_setup(tasks=["task"]))


@pytest.mark.parametrize("short", ["x", "xt"])
def test_a_dev_split_is_held_to_the_same(extraction, short):
    extraction.lengths.update({"x": 4} | dict.fromkeys(short, 0))
    plan = made_plan(train={"b": {"clean"}}, dev={"x": {"clean"}}, test={"t": {"clean"}})
    with pytest.raises(TooShortError, match=r"^split 'choose': every utterance"):
        extraction.run(made_setup(plan, tasks=["task"]))


def test_tables_are_those_that_tasks_read_and_each_split_has_a_file_of_its_own(tmp_path):
    verified = VerificationTask("who", VerifyTask(kind="verify", features="sum"), {}, {}, {}, (), (), ())
    tables = stage.empty_features(
        [words(), verified, texts(features="last"), texts(features="sum+heads")], scratch=tmp_path
    )
    assert set(tables.pooled) == {(features, role) for features in ("last", "sum") for role in ROLES}
    assert set(tables.pooled_layers) == set(ROLES)
    assert {role: (store.path, store.features) for role, store in tables.frames.items()} == {
        role: (tmp_path / f"{role}.f16", "sum+heads") for role in ("train", "dev")
    }
    assert len({id(rows) for rows in (*tables.pooled.values(), *tables.pooled_layers.values())}) == 9
    assert stage.empty_features([words()], scratch=tmp_path).frames == {}
    for kind in (TextTask, AlignedTask):
        assert stage.stored_features([words(features="sum"), texts(kind=kind, features="last")]) == "last"
    assert stage.stored_features([words(features="sum")]) is None


def test_an_utterance_without_a_frame_is_counted_and_every_measure_and_probe_gets_each_of_test():
    got = []
    noted = {
        name: SimpleNamespace(add=lambda one, name=name: got.append((name, one.key)))
        for name in ("cosine", "similarity", "retrieval")
    }
    probes = [SimpleNamespace(test=lambda one, name=name: got.append((name, one.key))) for name in ("first", "second")]
    tables = stage.ModelFeatures(
        {("last", "test"): PooledRows()}, {role: PooledRows() for role in ROLES}, {}, FrameMoments(), probes, **noted
    )
    dataset = SimpleNamespace(reference=frozenset({"t", "u"}))

    def add(role, key, frames):
        tables.add(role, UtteranceFeatures(key, 1.0, {"clean": torch.ones(2, frames, 3)}), dataset=dataset, plan=PLAN)

    for key, frames in (("s", 0), ("t", 4), ("r", 0)):
        add("test", key, frames)
    assert tables.too_short == 2
    assert got == [(name, "t") for name in ("cosine", "similarity", "retrieval", "first", "second")]
    assert tables.moments.count == 0  # test is not scaled by itself, whatever a key is called
    add("dev", "t", 4)
    add("train", "u", 5)
    add("train", "w", 6)
    assert tables.moments.count == 5
    assert len(got) == 5
    tables.retrieval = None
    add("test", "u", 4)
    assert [name for name, _ in got[5:]] == ["cosine", "similarity", "first", "second"]


def test_frames_of_train_and_dev_are_stored_as_planned_and_none_of_test():
    stored = {role: [] for role in ("train", "dev")}
    stores = {
        role: SimpleNamespace(add=lambda one, member, kept=kept: kept.append((one.key, member)))
        for role, kept in stored.items()
    }
    tables = stage.ModelFeatures({}, {role: PooledRows() for role in ROLES}, stores, FrameMoments())
    frames = {
        "train": frozenset({("a", "noise-0"), ("x", "clean")}),
        "dev": frozenset({("x", "clean"), ("a", "clean")}),
    }
    plan = dataclasses.replace(PLAN, chosen={"a": "noise-0"}, frames=frames | {"test": frozenset({("t", "clean")})})
    waves = {name: torch.ones(2, 3, 1) for name in ("clean", "noise-0", "noise-1")}
    for role, key in (("train", "a"), ("train", "b"), ("dev", "x"), ("test", "t"), ("test", "a")):
        tables.add(role, UtteranceFeatures(key, 1.0, waves), dataset=SimpleNamespace(reference=()), plan=plan)
    assert stored == {"train": [("a", "noise-0")], "dev": [("x", "clean")]}


class Made:
    """Stands for a measure or probe: keeps what it was made of."""

    def __init__(self, *given, **named):
        self.given, self.named, self.fitted = given, named, None

    def fit(self, *given, **named):
        self.fitted = given, named


@pytest.fixture
def prepared(monkeypatch):
    for name in ("FrameCosine", "Similarity", "Retrieval", "FrameProbes", "plan_retrieval"):
        monkeypatch.setattr(stage, name, Made)
    monkeypatch.setattr(stage, "MOST_FRAMES", 7)

    def run(*measures, tasks=(), frames=4, test="tuv"):
        moments = FrameMoments()
        moments.add(
            torch.randn(5, frames, 2, generator=torch.Generator().manual_seed(1)) + torch.arange(5.0)[:, None, None]
        )
        tables = stage.ModelFeatures({}, {}, {"train": "train store", "dev": "dev store"}, moments)
        encoder = SimpleNamespace(
            num_layers=3,
            num_features=2,
            sample_rate=8000,
            config=SimpleNamespace(num_frames=lambda count: max(0, count // 10 - 3)),
        )
        plan = SimpleNamespace(chosen={"a": "noise-1", "c": "far-0", "other": "noise-0"})
        setup = made_setup(plan=plan, tasks=tasks, config=config_for(*measures, seed=6))
        setup.dataset.test = dict.fromkeys(test, "entry")
        prepare_test(tables, SimpleNamespace(encoder=encoder, teacher="frames of the teacher"), setup)
        return tables, encoder, setup

    return run


def equals(scaling, mean):
    np.testing.assert_array_equal(scaling.mean, mean)
    return len(scaling.inverse) == len(mean)


def test_measures_of_frames_are_prepared_where_they_are_named(prepared):
    tables, encoder, setup = prepared("cosine", "cka", "agreement", "leakage")
    mean = tables.moments.mean.numpy()[:3]  # of the layers, without the heads
    assert equals(tables.cosine.given[0], mean)
    scaling, each, teacher = tables.similarity.given
    assert equals(scaling, mean)
    assert (each, teacher) == (2, "frames of the teacher")  # 7 frames, 3 utterances
    retrieval, scaling = tables.retrieval.given
    assert equals(scaling, mean)
    assert (retrieval.given, retrieval.named) == (
        (setup.dataset.test,), {"num_frames": encoder.config.num_frames, "bytes_a_frame": 4 * 3 * 2, "num_conditions": 3, "seed": 6},
    )  # fmt: skip
    assert prepared("cka", test=map(str, range(9)))[0].similarity.given[1] == 1  # one frame of each at least
    for measures, due in (
        (("cosine",), (True, True, True)), (("cka",), (False, True, True)), (("agreement",), (False, True, False)), (("leakage",), (False,) * 3), ((), (False,) * 3),
    ):  # fmt: skip
        tables, *_ = prepared(*measures)
        assert tuple(one is not None for one in (tables.cosine, tables.similarity, tables.retrieval)) == due
    assert prepared("cosine", tasks=[texts()], frames=0)[0] == stage.ModelFeatures(
        {}, {}, {"train": "train store", "dev": "dev store"}, FrameMoments()
    )


def test_each_task_that_reads_frames_has_probes_with_its_own_states_copies_and_dev(prepared):
    tasks = [
        words(), texts(train="ac", features="sum", name="one"), texts(train="ca", dev="", features="last", probe="distorted", name="two"),
        texts(kind=AlignedTask, train="a", features="sum+heads", name="three"),
    ]  # fmt: skip
    tables, *_ = prepared(tasks=tasks)
    mean = tables.moments.mean.numpy()
    assert [probes.given[0].name for probes in tables.frame_probes] == ["one", "two", "three"]
    for probes, rows, members, dev in zip(
        tables.frame_probes, (slice(0, 3), slice(2, 3), slice(0, 5)),
        ({"a": "clean", "c": "clean"}, {"a": "noise-1", "c": "far-0"}, {"a": "clean"}), ("dev store", None, "dev store"), strict=True,
    ):  # fmt: skip
        _, scaling, num_layers, clock = probes.given
        assert equals(scaling, mean[rows])
        assert num_layers == 3
        assert (clock.hop, clock.receptive, clock.rate_hz) == (10, 40, 8000)
        assert probes.fitted == (("train store", dev), {"members": members, "seed": 6, "probes": 4})
