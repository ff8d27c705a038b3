"""Who belongs to a task, by what; every message has its own names, numbers and splits."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.config import ClassifyTask, CtcTask, FramesTask, Splits, VerifyTask
from evaluation.data.alignments import (
    BadAlignmentError,
    FrameClock,
    align_task,
    first_length,
    frame_classes,
    parsed,
    read_table,
    segments_of,
)
from evaluation.data.labels import (
    KeyedTask,
    LabelGroup,
    LabelledTask,
    MissingLabelError,
    NobodyLeftError,
    OneClassError,
    UnseenLabelError,
    field_of,
    held_back,
    known_fields,
    label_task,
)
from evaluation.data.transcripts import UnseenUnitError, label_texts, normalised_text, units_of
from evaluation.data.trials import OneSpeakerError, chosen_pairs, label_speakers, training_pairs
from evaluation.data.utterances import (
    EmptyConditionError,
    ListedUtterance,
    OtherRateError,
    TrainedOnTestError,
    UnknownSplitError,
    check_conditions,
    check_model,
    keyed_order,
    resolved_splits,
)
from manifests.errors import BadDocumentError

SPLITS = Splits(train="learn", dev="choose", test="exam")


def entry(key="u", *, copies=("noise",), seconds=2.0, **fields):
    own = {name: fields.pop(name, None) for name in ("speaker", "language", "text")}
    given = tuple(SimpleNamespace(name=f"{one}-0", condition=one) for one in copies)
    sample = SimpleNamespace(id=f"id {key}", custom=fields, copies=given, **own)
    return SimpleNamespace(sample=sample, seconds=seconds, pcm_sha256=f"{key:0>64}")


def entries(*rows, **shared):
    return {f"{number}": entry(f"{number}", **shared, **row) for number, row in enumerate(rows)}


def dataset(train, test, dev=(), *, limit=None, conditions=("noise",), **shared):
    """Utterances by role, each of its fields."""
    roles = {name: entries(*rows, **shared) for name, rows in (("train", train), ("dev", dev), ("test", test))}
    return SimpleNamespace(splits=SPLITS, limit=limit, conditions=conditions, sample_rate=16000, **roles)


def words(*names, **more):
    return [{"word": name, **more} for name in names]


WORD = ClassifyTask(kind="classify", label="word")


def test_a_task_has_the_utterances_with_its_label_and_of_dev_those_whose_label_train_has():
    data = dataset(words("a", "b", "", "a"), words("b", "a", "a", "", ""), words("a", "x", "b"))
    task = label_task(WORD, data)
    [group] = task.groups
    assert (group.train, group.dev, group.test) == (
        {"0": "a", "1": "b", "3": "a"},
        {"0": "a", "2": "b"},
        {"0": "b", "1": "a", "2": "a"},
    )
    assert task.notes == ("word: 2 of 5 test utterances are left out",)
    distorted = ClassifyTask(kind="classify", label="word", features="sum", probe="distorted")
    assert [getattr(label_task(distorted, data), name) for name in ("features", "probe")] == ["sum", "distorted"]
    assert label_task(WORD, dataset(words("a", "b"), words("b", "a"))).notes == ()


def test_groups_are_in_the_order_of_their_values_and_one_with_one_label_is_left_out():
    rows = [{"word": word, "set": of} for of in "zmb" for word in ("a", "b")] + [
        {"word": "a", "set": "k"},
        {"word": "b"},
    ]
    task = label_task(ClassifyTask(kind="classify", label="word", within="set"), dataset(rows, rows, rows))
    assert [sorted(group.test) for group in task.groups] == [["4", "5"], ["2", "3"], ["0", "1"]]
    assert task.notes == (
        "word within set: 'k' is left out, it has one word only", "word within set: 2 of 8 test utterances are left out",
    )  # fmt: skip
    some = [{"word": "a", "set": "m"}, {"word": "b", "set": "m"}]
    with pytest.raises(
        OneClassError,
        match=r"^task 'word within set': within each group all training utterances have one label, such as 'a'",
    ):
        label_task(ClassifyTask(kind="classify", label="word", within="set"), dataset(some[:1], some[:1]))
    both = label_task(
        ClassifyTask(kind="classify", label="word", within="set"), dataset([*some, {"word": "c", "set": "q"}], some)
    )
    assert len(both.groups) == 1


@pytest.mark.parametrize(
    ("task", "train", "test", "limit", "error", "told"),
    [
        (WORD, words("a", "b"), words("c", "d", "e", "f", "a"), 9, UnseenLabelError,
         "task 'word': 4 label(s) of split 'exam' are not in split 'learn' (of which limit: 9 takes 9 utterances at most): 'c', 'd', 'e', …; "),
        (WORD, words("a", "b"), words("c", "d", "e"), None, UnseenLabelError, "are not in split 'learn': 'c', 'd', 'e'; no probe"),
        (WORD, words("a", "a"), words("a"), 2, OneClassError, "task 'word': all training utterances (of which limit: 2 takes 2 utterances at most) have one label, such as 'a'"),
        (WORD, words("a", "b"), words("", ""), None, MissingLabelError, "no utterance of split 'exam' has the field 'word'; it has word"),
        (ClassifyTask(kind="classify", label="word", where={"mood": ["gay"]}), words("a", "b"), words("a"), None, MissingLabelError,
         "no utterance of split 'learn' has the field 'mood'; it has word"),
        (ClassifyTask(kind="classify", label="word", where={"word": ["z"]}), words("a", "b"), words("a"), None, NobodyLeftError,
         "task 'word where word z': no utterance of split 'learn' has its label"),
        (CtcTask(kind="ctc"), [{"text": "ab"}], [{"text": "xyz ab"}], 5, UnseenUnitError,
         "task 'characters of text': 4 unit(s) of the texts of split 'exam' are not in split 'learn' (of which limit: 5 takes 5 utterances at most): ' ' 'x' 'y' 'z'; "),
        (CtcTask(kind="ctc"), [{"text": "ab"}], [{"text": "abcdefghijk"}], None, UnseenUnitError, "9 unit(s) of the texts of split 'exam' are not in split 'learn': 'c' 'd' 'e' 'f' 'g' 'h' 'i' 'j' …; "),
        (VerifyTask(kind="verify"), [{"speaker": "ann"}] * 2, [{"speaker": "bob"}], None, OneSpeakerError, "task 'verify speaker': split 'learn' has one speaker, 'ann';"),
        (VerifyTask(kind="verify"), [{"speaker": "ann"}, {"speaker": "bob"}], [{"speaker": "bob"}] * 2, None, OneSpeakerError, "split 'exam' has one speaker, 'bob';"),
        (VerifyTask(kind="verify"), [{"speaker": "ann"}, {"speaker": "bob"}], [{"speaker": "ann"}, {"speaker": "bob"}], None, OneSpeakerError, "split 'exam' has no speaker with two utterances;"),
        (FramesTask(kind="frames"), [{"phones": [[0, 1, "a"], [1, 2, "b"]]}], [{"phones": [[0, 1, "c"], [1, 2, "d"]]}], 3, UnseenLabelError,
         "task 'frames of phones': 2 label(s) of split 'exam' are not in split 'learn' (of which limit: 3 takes 3 utterances at most): 'c', 'd';"),
        (FramesTask(kind="frames"), [{"phones": [[0, 1, "a"]]}], [{"phones": [[0, 1, "a"]]}], 3, OneClassError, "all training utterances (of which limit: 3 takes 3 utterances at most) have one label, such as 'a'"),
        (FramesTask(kind="frames"), [{"phones": [[0, 1, "a"], [1, 2, "b"]]}], [{"word": "x"}], None, MissingLabelError, "no utterance of split 'exam' has the field 'phones'; it has word"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_says_what_lacks_where(task, train, test, limit, error, told):
    make = {
        "classify": label_task, "ctc": label_texts, "verify": lambda *given: label_speakers(*given, seed=0), "frames": align_task,
    }[task.kind]  # fmt: skip
    with pytest.raises(error) as caught:
        make(task, dataset(train, test, limit=limit))
    assert told in str(caught.value)


def test_every_kind_of_task_notes_what_is_left_out_and_wants_a_copy_of_every_condition():
    text = [
        {"text": "ab", "speaker": speaker, "phones": [[0, 1, "a"], [1, 2, "b"]]}
        for speaker in ("ann", "bob", "ann", "bob")
    ]
    none = {"speaker": None, "text": "", "phones": []}
    makes = {
        "characters of text": lambda data: label_texts(CtcTask(kind="ctc"), data), "frames of phones": lambda data: align_task(FramesTask(kind="frames"), data),
        "verify speaker": lambda data: label_speakers(VerifyTask(kind="verify"), data, seed=0),
    }  # fmt: skip
    for name, make in makes.items():
        assert make(dataset([*text, none], [*text, none, none], text)).notes == (
            f"{name}: 2 of 6 test utterances are left out",
        )
        test = [*({**row, "copies": ()} for row in text), none]
        with pytest.raises(
            EmptyConditionError,
            match=rf"^task '{name}': condition 'noise' has no utterance in split 'exam'; give the recipe copies.exam",
        ):
            make(dataset(text, test))


def test_a_field_is_text_whatever_it_was_and_zero_and_false_are_values():
    sample = entry(take=0, sung=False, mood="", parts=[1], text="hm").sample
    assert [field_of(sample, name) for name in ("take", "sung", "mood", "parts", "text", "speaker", "gone")] == [
        "0", "False", None, None, "hm", None, None,
    ]  # fmt: skip
    assert known_fields(entries({"z": 1}, {"text": "x", "b": 2}, {"speaker": "ann"})) == ["speaker", "text", "b", "z"]


def test_of_two_utterances_of_a_label_one_is_held_back_and_a_single_one_never():
    labels = {"u0": "a", "u1": "a", "v": "b", **{f"w{number}": "c" for number in range(12)}}
    backs = [held_back(labels, seed=3, probe=probe) for probe in range(10)]
    order = keyed_order(["u0", "u1"], seed=3, purpose="held back")
    many = keyed_order([f"w{number}" for number in range(12)], seed=3, purpose="held back")
    for probe, back in enumerate(backs):
        assert back == {order[probe % 2], *many[probe::10]}


def test_texts_are_spelled_by_their_units():
    assert normalised_text("It\u2019s STRASSE Straße \u2460 x\u0301, 12!") == "it's strasse strasse 1 x\u0301 12"
    assert units_of("A-b  c'", "phones") == ("A-b", "c'")
    assert units_of("A-b", "characters") == ("a", " ", "b")
    data = dataset([{"text": "ab"}], [{"text": "abz"}, {"text": "ay"}], [{"text": "ba"}, {"text": "aq"}])
    task = label_texts(CtcTask(kind="ctc", unseen="errors"), data)
    assert task.notes == ("characters of text: 2 units that train lacks are counted as errors: y z",)
    assert (task.units, task.dev, task.test["0"]) == (("a", "b"), {"0": ("b", "a")}, ("a", "b", "z"))
    assert label_texts(CtcTask(kind="ctc"), dataset([{"text": "ab"}], [{"text": "a"}], [{"text": "q"}])).dev == {}


def test_alignments_are_read_from_a_table_by_utterance(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffend,id,label,start\n1,id 0,b,0.5\n0.5,id 0,a,0\n2,id 1,b,0\n")
    assert read_table(path) == {"id 0": ((0.0, 0.5, "a"), (0.5, 1.0, "b")), "id 1": ((0.0, 2.0, "b"),)}
    task = align_task(FramesTask(kind="frames", table=str(path)), dataset([{}, {}, {}], [{}], [{}, {}]))
    assert (list(task.train), list(task.dev), list(task.test), task.names) == (
        ["0", "1"],
        ["0", "1"],
        ["0"],
        ("a", "b"),
    )
    path.write_text("id,start,end,label\nid 0,0,1,a\nid 0,one,2,a\n")
    with pytest.raises(BadDocumentError, match=r"line 3: expected start and end in seconds"):
        read_table(path)
    path.write_text("id,begin,end,label\n")
    with pytest.raises(BadDocumentError, match=r"the column start is missing; expected id,start,end,label"):
        read_table(path)
    path.write_text("id,start,end,label\nother,0,1,a\n")
    monkeypatch.chdir(tmp_path)  # a name that is not too long for a line, wherever this test runs
    with pytest.raises(MissingLabelError, match=r"no utterance of split 'learn' has the field 'a\.csv'"):
        align_task(FramesTask(kind="frames", table="a.csv"), dataset([{}], [{}]))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a b", "'a b'"), ([[0, 1]], "'[0, 1]' in its list"), (["x"], "'x' in its list"), ([[-0.1, 1, "a"]], "[-0.1, 1, 'a']"), ([[1, 1, "a"]], "[1, 1, 'a']"),
        ([[0, True, "a"]], "[0, True, 'a']"), ([["0", 1, "a"]], "1, "), ([[0, 1, 2]], "'[0, 1, 2]'"),
    ],
)  # fmt: skip
def test_an_alignment_that_is_none_is_told_of_its_utterance(value, found):
    with pytest.raises(BadAlignmentError) as caught:
        parsed(value, utterance="id 7", where="frames of phones")
    assert str(caught.value).startswith("frames of phones: utterance 'id 7': found ")
    assert found in str(caught.value)


def test_a_phone_that_only_dev_shares_with_test_was_not_learned():
    one, two = ({"phones": [[0, 1, "a"], [1, 2, phone]]} for phone in "bc")
    with pytest.raises(UnseenLabelError, match=r"1 label.s. of split 'exam' are not in split 'learn': 'c';"):
        align_task(FramesTask(kind="frames"), dataset([one], [two], [two]))


def test_an_alignment_may_end_after_its_utterance_and_not_start_there():
    task = FramesTask(kind="frames")
    one = entry(phones=[[1.9, 2.5, "b"], [0.0, 1.0, "a"]])
    assert segments_of(task, one, None) == ((0.0, 1.0, "a"), (1.9, 2.5, "b"))
    with pytest.raises(
        BadAlignmentError,
        match=r"frames of phones: utterance 'id u': found \[2\.0, 2\.5, 'b'\], which starts after its end at 2\.000 s",
    ):
        segments_of(task, entry(phones=[[0.0, 1.0, "a"], [2.0, 2.5, "b"]]), None)
    assert segments_of(task, entry(), None) is segments_of(task, entry(phones=[]), None) is None


def test_the_phone_of_a_frame_is_that_at_its_middle_from_its_start_to_before_its_end():
    clock = FrameClock.of(lambda count: max(0, (count - 400) // 320 + 1), rate_hz=16000)
    assert (clock.hop, clock.receptive) == (320, 400)
    assert [clock.num_frames(count) for count in (0, 399, 400, 719, 720, 16000)] == [0, 0, 1, 1, 2, 49]
    middles = clock.times_s(4)
    np.testing.assert_allclose(middles, [0.0125, 0.0325, 0.0525, 0.0725])
    segments = ((0.0125, 0.0325, "b"), (0.0325, 0.05, "x"), (0.05, 0.08, "a"), (0.06, 0.0725, "b"))
    assert frame_classes(segments, ("a", "b"), middles).tolist() == [1, -1, 0, -1]


def speakers(**counts):
    return [{"speaker": name} for name, count in counts.items() for _ in range(count)]


def test_trials_are_as_many_as_asked_for_and_chosen_by_the_seed():
    data = dataset(speakers(ann=3, bob=3), speakers(cat=6, dan=6), speakers(eve=4, fay=4))
    tasks = [
        label_speakers(VerifyTask(kind="verify", trials=trials), data, seed=seed)
        for trials, seed in ((7, 0), (7, 1), (1000, 0))
    ]
    assert [(len(task.pairs), len(task.dev_pairs)) for task in tasks[:2]] == [(7, 7), (7, 7)]
    assert tasks[0].pairs == tasks[2].pairs[:7]
    assert tasks[0].dev_pairs == tasks[2].dev_pairs[:7]
    assert set(tasks[0].pairs) != set(tasks[1].pairs)
    assert set(tasks[0].dev_pairs) != set(tasks[1].dev_pairs)
    assert not tasks[0].notes
    labels = tasks[2].test
    for turn in range(2):  # each utterance by turns against one of its own and one of another speaker
        own, other = tasks[2].pairs[24 * turn : 24 * turn + 24 : 2], tasks[2].pairs[24 * turn + 1 : 24 * turn + 24 : 2]
        assert {one for one, _ in own} == {one for one, _ in other} == set(labels)
        assert all(labels[one] == labels[two] and one != two for one, two in own)
        assert all(labels[one] != labels[two] for one, two in other)


@pytest.mark.parametrize("dev", [[], speakers(eve=5), speakers(eve=1, fay=1, gil=1)])
def test_without_trials_on_dev_the_rate_is_chosen_on_training_speakers_and_that_is_said(dev):
    data = dataset(speakers(ann=3, bob=3, cy=3, dee=3), speakers(cat=2, dan=2), dev)
    task, again = (label_speakers(VerifyTask(kind="verify", trials=12), data, seed=seed) for seed in (3, 3))
    assert task.notes == ("verify speaker: the learning rate is chosen on training speakers, dev has no trials",)
    assert task.dev == {}
    chosen = {task.train[key] for pair in task.dev_pairs for key in pair}
    assert len(chosen) == 2
    assert len(task.dev_pairs) == 12
    assert task.dev_pairs == again.dev_pairs == training_pairs(task.train, most=12, seed=3)
    assert task.dev_pairs != training_pairs(task.train, most=12, seed=0)


def test_the_speakers_on_whom_a_rate_is_chosen_have_two_utterances_and_leave_two_to_learn():
    names = {f"u{number}": f"once {number}" for number in range(30)} | {
        f"v{number}": f"twice {number // 2}" for number in range(8)
    }
    for seed in range(4):
        held = {names[key] for pair in training_pairs(names, most=99, seed=seed) for key in pair}
        assert len(held) == 2
        assert all(name.startswith("twice") for name in held)
    few = {"a0": "a", "a1": "a", "b0": "b", "b1": "b", "c0": "c"}  # two held back would leave one
    assert {few[key] for pair in training_pairs(few, most=99, seed=0) for key in pair} == {"a", "b", "c"}
    many = {f"u{number}": f"{number // 2}" for number in range(80)}
    assert len({many[key] for pair in training_pairs(many, most=99, seed=0) for key in pair}) == 4
    assert chosen_pairs({"a0": "a", "b0": "b"}, most=9, seed=0) == ()


def test_a_condition_counts_where_an_utterance_of_the_task_has_it():
    data = dataset([], [{"copies": ("noise",)}, {"copies": ("fog",)}], conditions=("fog", "noise"))
    check_conditions("word", ["0", "1"], data)
    with pytest.raises(EmptyConditionError, match="condition 'fog' has no utterance in split 'exam'"):
        check_conditions("word", ["0"], data)


def test_a_model_that_does_not_fit_is_told_with_both_numbers():
    data = dataset([], [{}, {}, {}])
    encoder = SimpleNamespace(sample_rate=8000, trained_on=frozenset())
    with pytest.raises(OtherRateError) as caught:
        check_model("m", encoder, data)
    assert (
        str(caught.value)
        == "model 'm' takes waves at 8000 Hz, the corpus has 16000 Hz; build the corpus with sample_rate: 8000"
    )
    faster = SimpleNamespace(sample_rate=48000, trained_on=frozenset())
    with pytest.raises(OtherRateError, match="takes waves at 48000 Hz, the corpus has 16000 Hz"):
        check_model("m", faster, data)
    data.test["1"].pcm_sha256, data.test["2"].pcm_sha256 = "1" * 64, "2" * 64
    encoder = SimpleNamespace(sample_rate=16000, trained_on=frozenset(number * 16 for number in "123456"))
    with pytest.raises(TrainedOnTestError) as caught:
        check_model("m", encoder, data)
    assert str(caught.value).startswith(
        "model 'm' was trained on 2 of the 3 utterances of split 'exam' (such as 'id 1'); "
    )
    assert ListedUtterance(SimpleNamespace(num_samples=4000, sample_rate=8000), "").seconds == 0.5


def test_a_split_that_is_not_there_is_told_with_its_role_and_those_that_are():
    reader = SimpleNamespace(manifest=SimpleNamespace(splits={"a": (), "b": ()}, name="c"))
    for role, given in (
        ("train", {"train": "x", "test": "a"}),
        ("dev", {"train": "a", "dev": "x", "test": "b"}),
        ("test", {"train": "b", "test": "x"}),
    ):
        with pytest.raises(UnknownSplitError, match=rf"^splits\.{role}: corpus c has no split 'x', only a, b$"):
            resolved_splits(Splits(**given), reader)


def slow_pairs(labels, order):
    """Trials turn by turn: each utterance with the next of its own speaker in the order, and with the first other behind it."""
    pairs = []
    for turn in range(len(order)):
        for place, key in enumerate(order):
            own = [one for one in order if labels[one] == labels[key]]
            if len(own) <= turn + 1:
                continue
            behind = (own * 2)[own.index(key) + turn + 1]
            rest = order[(place + 1 + turn) % len(order) :] + order[: (place + 1 + turn) % len(order)]
            if place + 1 + turn > len(order):
                rest = order  # a turn further than the end begins anew
            pairs += [(key, behind), (key, next(one for one in rest if labels[one] != labels[key]))]
    return pairs


@pytest.mark.parametrize("seed", range(3))
def test_trials_are_those_of_a_slow_loop(seed):
    labels = {
        f"{name}{number}": name for name, count in (("a", 4), ("b", 3), ("c", 2), ("d", 1)) for number in range(count)
    }
    order = keyed_order(labels, seed=seed, purpose="trials")
    due = slow_pairs(labels, order)
    assert len(due) == 2 * (9 + 7 + 4)
    for most in (1000, 40, 39, 18, 5, 2):
        assert chosen_pairs(labels, most=most, seed=seed) == tuple(due[:most])


@pytest.mark.parametrize("seed", range(3))
def test_a_tenth_of_the_training_speakers_with_two_utterances_is_held_back_by_the_seed(seed):
    for count, back in ((10, 2), (29, 2), (30, 3), (45, 4)):
        names = {f"u{number}-{take}": f"s{number}" for number in range(count) for take in range(2)} | {"once": "single"}
        due = keyed_order([f"s{number}" for number in range(count)], seed=seed, purpose="held back")[:back]
        pairs = training_pairs(names, most=1000, seed=seed)
        assert {names[key] for pair in pairs for key in pair} == set(due)
        held = {key: name for key, name in names.items() if name in due}
        assert pairs == chosen_pairs(held, most=1000, seed=seed)
        assert training_pairs(names, most=3, seed=seed) == pairs[:3]
    three = {"a0": "a", "a1": "a", "b0": "b", "b1": "b", "c0": "c", "d0": "d"}  # both that are held back leave two
    assert {three[key] for pair in training_pairs(three, most=99, seed=seed) for key in pair} == {"a", "b"}
    one = {"a0": "a", "a1": "a", "b0": "b", "c0": "c", "d0": "d"}  # one speaker alone makes no trials of both kinds
    assert {one[key] for pair in training_pairs(one, most=99, seed=seed) for key in pair} > {"a"}


def test_where_dev_has_trials_of_both_kinds_it_is_chosen_on_and_else_let_go():
    data = dataset(speakers(ann=3, bob=3), speakers(cat=2, dan=2), speakers(eve=2, fay=1))
    task = label_speakers(VerifyTask(kind="verify"), data, seed=1)
    assert set(task.dev.values()) == {"eve", "fay"}
    assert task.dev_pairs == chosen_pairs(task.dev, most=1000, seed=1)
    assert {task.dev[one] == task.dev[other] for one, other in task.dev_pairs} == {True, False}
    assert (task.train, task.notes) == ({"0": "ann", "1": "ann", "2": "ann", "3": "bob", "4": "bob", "5": "bob"}, ())
    assert task.pairs == chosen_pairs(task.test, most=1000, seed=1)
    data = dataset(speakers(ann=3, bob=3), [*speakers(cat=2, dan=2), {"word": "x"}], speakers(eve=3))
    task = label_speakers(VerifyTask(kind="verify"), data, seed=1)
    assert task.notes == (
        "verify speaker: the learning rate is chosen on training speakers, dev has no trials", "verify speaker: 1 of 5 test utterances are left out",
    )  # fmt: skip
    by_field = dataset([{"nick": "a"}] * 2 + [{"nick": "b"}], [{"nick": "c"}] * 2 + [{"nick": "d"}])
    assert label_speakers(VerifyTask(kind="verify", label="nick"), by_field, seed=1).test == {
        "0": "c",
        "1": "c",
        "2": "d",
    }
    # copies are looked for at utterances that are tested: one of dan's alone is not
    rows = [*speakers(cat=2), {"speaker": "dan", "copies": ("fog",)}]
    with pytest.raises(EmptyConditionError, match="condition 'fog' has no utterance"):
        label_speakers(VerifyTask(kind="verify"), dataset(speakers(ann=2, bob=2), rows, conditions=("fog",)), seed=1)


def test_only_what_meets_the_filter_belongs_to_a_task_of_any_kind():
    rows = [
        {"text": text, "speaker": name, "phones": [[0, 1, "a"], [1, 2, "b"]], "word": text, "set": of}
        for text, name, of in (
            ("ab", "ann", "x"),
            ("ba", "bob", "x"),
            ("ab", "ann", "x"),
            ("ba", "bob", "x"),
            ("ab", "cy", "y"),
        )
    ]
    makes = {
        "classify": label_task, "ctc": label_texts, "frames": align_task, "verify": lambda task, data: label_speakers(task, data, seed=0),
    }  # fmt: skip
    kinds = {"classify": ClassifyTask, "ctc": CtcTask, "frames": FramesTask, "verify": VerifyTask}
    for kind, make in makes.items():
        label = {"label": "word"} if kind == "classify" else {}
        task = make(kinds[kind](kind=kind, where={"set": ("x",)}, **label), dataset(rows, rows, rows))
        for role in ("train", "dev", "test"):
            assert task.keys(role) == set("0123"), (kind, role)
        assert task.notes == (f"{task.name}: 1 of 5 test utterances are left out",)
        assert (task.features, task.probe) == ("last", "clean")
        other = make(kinds[kind](kind=kind, features="sum", probe="distorted", **label), dataset(rows, rows))
        assert (other.features, other.probe, other.keys("dev")) == ("sum", "distorted", set())
    with pytest.raises(NobodyLeftError, match=r"no utterance of split 'exam' has its label and meets its where"):
        label_texts(CtcTask(kind="ctc", where={"set": ("x",)}), dataset(rows, rows[4:]))
    dev = label_texts(CtcTask(kind="ctc", where={"set": ("x",)}), dataset(rows, rows, rows[4:])).dev
    assert dev == {}


def test_fields_are_named_in_messages_twelve_at_most_and_none_is_said():
    many = entries({f"f{number:02}": 1 for number in range(20)} | {"speaker": "ann"})
    assert known_fields(many) == ["speaker", *(f"f{number:02}" for number in range(11))]
    assert (
        str(MissingLabelError("mood", split="exam", known=[]))
        == "tasks: no utterance of split 'exam' has the field 'mood'; it has no field at all"
    )
    assert str(MissingLabelError("m" * 99, split="exam", known=["a", "b"])).endswith("'; it has a, b")
    assert "m" * 61 not in str(MissingLabelError("m" * 99, split="exam", known=["a" * 99]))
    message = str(UnseenLabelError("t", list("abc"), train="learn", test="exam"))
    assert "3 label(s) of split 'exam' are not in split 'learn': 'a', 'b', 'c'; no probe can predict them" in message


def test_a_field_that_no_utterance_of_train_has_is_missing_there_first():
    task = ClassifyTask(kind="classify", label="word", within="set")
    for train, test, split, field in (
        (words("a", "b"), words("a", set="x"), "learn", "set"), (words("a", "b", set="x"), words("a"), "exam", "set"), ([{"set": "x"}], words("a"), "learn", "word"),
    ):  # fmt: skip
        with pytest.raises(
            MissingLabelError, match=rf"no utterance of split '{split}' has the field '{field}'; it has"
        ):
            label_task(task, dataset(train, test))
    one_has_it = dataset([*words("a", "b", set="x"), {}], [*words("a", set="x"), {"word": "b"}, {"set": "x"}])
    [group] = label_task(task, one_has_it).groups
    assert (set(group.train), set(group.test)) == ({"0", "1"}, {"0"})


def test_a_fault_of_a_table_is_named_by_its_file_and_utterance(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,start,end,label\nid 0,0,3,a\nid 1,2,1,b\n")
    with pytest.raises(BadAlignmentError, match=r"a\.csv: utterance 'id 1': found .\[2\.0, 1\.0, 'b'\]"):
        read_table(path)
    path.write_text("id,start,end,label\nid 0,0,1,a\nid 0,2.5,3,b\nid 1,0,1,b\n")
    task = FramesTask(kind="frames", table=str(path))
    with pytest.raises(
        BadAlignmentError,
        match=r"a\.csv: utterance 'id 0': found \[2\.5, 3\.0, 'b'\], which starts after its end at 2\.000 s",
    ):
        align_task(task, dataset([{}, {}], [{}]))
    path.write_text("id,start,end,label\nid 0,0,1\n")
    with pytest.raises(BadAlignmentError, match="utterance 'id 0'"):
        read_table(path)
    path.write_text("id,start\n")
    with pytest.raises(BadDocumentError, match=r"the column end is missing"):
        read_table(path)
    assert segments_of(task, entry("7"), {"id 7": ((0.0, 1.0, "a"),)}) == ((0.0, 1.0, "a"),)
    assert segments_of(task, entry("8", phones=[[0, 1, "b"]]), {"id 7": ((0.0, 1.0, "a"),)}) is None


@pytest.mark.parametrize(("hop", "receptive"), [(320, 400), (1, 1), (7, 3), (160, 1000), (1, 9)])
def test_a_clock_is_that_of_the_counts_of_frames_at_every_length(hop, receptive):
    def num_frames(count):
        return len(range(0, max(0, count - receptive + 1), hop))

    clock = FrameClock.of(num_frames, rate_hz=8000)
    assert (clock.hop, clock.receptive, clock.rate_hz) == (hop, receptive, 8000)
    for count in (0, 1, receptive - 1, receptive, receptive + hop - 1, receptive + hop, 3333):
        assert clock.num_frames(count) == num_frames(count)
    for frames in (1, 2, 5):
        shortest = next(count for count in range(5000) if num_frames(count) >= frames)
        assert first_length(num_frames, frames=frames) == shortest
    np.testing.assert_allclose(clock.times_s(2), [receptive / 2 / 8000, (receptive / 2 + hop) / 8000])


def test_the_phone_of_a_frame_is_that_of_a_slow_loop():
    rng = np.random.default_rng(5)
    names = ("a", "b", "c")
    for _ in range(20):
        starts = np.sort(rng.integers(0, 20, size=6)) / 4
        segments = tuple(
            sorted((float(start), float(start + rng.integers(1, 8) / 4), "abcz"[rng.integers(4)]) for start in starts)
        )
        times = np.sort(rng.integers(0, 28, size=12)) / 4
        due = []
        for time in times:
            begun = [one for one in segments if one[0] <= time]
            last = begun[-1] if begun else None
            due.append(names.index(last[2]) if last is not None and time < last[1] and last[2] in names else -1)
        assert frame_classes(segments, names, times).tolist() == due


def test_a_custom_field_may_be_called_like_a_part_of_a_record():
    assert field_of(entry(id="mine", num_samples=3).sample, "id") == "mine"
    assert field_of(entry("k").sample, "id") is None


def test_each_role_has_keys_of_its_own_and_groups_have_them_all():
    groups = (LabelGroup({"a": "x"}, {"b": "x"}, {"c": "x"}), LabelGroup({"d": "x"}, {}, {"e": "x", "f": "y"}))
    task = LabelledTask("t", groups, ())
    assert [task.keys(role) for role in ("train", "dev", "test")] == [{"a", "d"}, {"b"}, {"c", "e", "f"}]
    keyed = KeyedTask("t", None, {"a": 1}, {"b": 2}, {"c": 3, "d": 4}, ())
    assert [keyed.of(role) for role in ("train", "dev", "test")] == [{"a": 1}, {"b": 2}, {"c": 3, "d": 4}]
    assert [keyed.keys(role) for role in ("train", "dev", "test")] == [{"a"}, {"b"}, {"c", "d"}]


def test_labels_that_train_lacks_are_named_from_every_group():
    task = ClassifyTask(kind="classify", label="word", within="set")
    train = [*words("a", "b", set="m"), *words("a", "b", set="z")]
    for test, shown in (
        ([*words("c", set="m"), *words("a", set="z")], "1 label(s) of split 'exam' are not in split 'learn': 'c';"),
        ([*words("a", set="m"), *words("d", set="z")], "1 label(s) of split 'exam' are not in split 'learn': 'd';"),
        (
            [*words("d", set="m"), *words("c", set="z")],
            "2 label(s) of split 'exam' are not in split 'learn': 'c', 'd';",
        ),
        ([*words("a", set="m"), *words("b", set="new")], "1 label(s) of split 'exam' are not in split 'learn': 'b';"),
    ):
        with pytest.raises(UnseenLabelError) as caught:
            label_task(task, dataset(train, test))
        assert shown in str(caught.value)


def test_copies_are_looked_for_at_the_tested_utterances_of_a_task():
    rows = [*words("a", "b", copies=()), {"word": "a"}]
    assert len(label_task(WORD, dataset(rows[:2], rows)).groups) == 1
    text = [{"text": "ab", "phones": [[0, 1, "a"], [1, 2, "b"]], **rest} for rest in ({"copies": ()}, {})]
    label_texts(CtcTask(kind="ctc"), dataset(text[:1], text))
    align_task(FramesTask(kind="frames"), dataset(text[:1], text))
    rows[2]["word"] = ""  # the one utterance with a copy does not belong to the task
    with pytest.raises(EmptyConditionError, match=r"^task 'word': condition 'noise' has no utterance in split 'exam'"):
        label_task(WORD, dataset(rows[:2], rows))


def test_phones_are_words_of_their_own_field():
    rows = [{"ipa": "ax b", "text": "Ab"}, {"ipa": "b ax  c", "text": "x"}, {"text": "only text"}]
    task = label_texts(CtcTask(kind="ctc", units="phones", label="ipa"), dataset(rows, rows, rows))
    assert task.train == task.dev == task.test == {"0": ("ax", "b"), "1": ("b", "ax", "c")}
    assert (task.units, task.name) == (("ax", "b", "c"), "phones of ipa")
    assert task.notes == ("phones of ipa: 1 of 3 test utterances are left out",)
    for train, test, split in ((rows[2:], rows, "learn"), (rows, rows[2:], "exam")):
        with pytest.raises(
            MissingLabelError, match=rf"no utterance of split '{split}' has the field 'ipa'; it has text$"
        ):
            label_texts(CtcTask(kind="ctc", units="phones", label="ipa"), dataset(train, test))


def test_units_that_train_lacks_are_shown_up_to_eight_and_noted_up_to_twelve():
    for count, shown in ((8, "'c' 'd' 'e' 'f' 'g' 'h' 'i' 'j'; choose"), (9, "'i' 'j' …; choose")):
        with pytest.raises(UnseenUnitError) as caught:
            label_texts(CtcTask(kind="ctc"), dataset([{"text": "ab"}], [{"text": "abcdefghijk"[: 2 + count]}]))
        assert shown in str(caught.value)
    test = [{"text": "abcdefghijklmnop"}]
    [note] = label_texts(CtcTask(kind="ctc", unseen="errors"), dataset([{"text": "ab"}], test)).notes
    assert note == "characters of text: 14 units that train lacks are counted as errors: c d e f g h i j k l m n"


def test_a_speaker_and_an_alignment_may_be_in_fields_of_other_names():
    rows = [{"nick": nick, "ipa": [[0, 1, "a"], [1, 2, "b"]], "phones": [[0, 1, "z"]]} for nick in "abab"]
    data = dataset(rows, [*rows[:3], {"phones": [[0, 1, "z"]]}, {}])
    frames = align_task(FramesTask(kind="frames", label="ipa"), data)
    assert (frames.names, list(frames.train), list(frames.test)) == (("a", "b"), list("0123"), list("012"))
    assert frames.notes == ("frames of ipa: 2 of 5 test utterances are left out",)
    verified = label_speakers(VerifyTask(kind="verify", label="nick"), data, seed=0)
    assert (verified.train, verified.test) == (
        dict(zip("0123", "abab", strict=True)),
        dict(zip("012", "aba", strict=True)),
    )
    assert verified.notes[1:] == ("verify nick: 2 of 5 test utterances are left out",)
    texts = label_texts(CtcTask(kind="ctc", label="nick"), data)
    assert texts.notes == ("characters of nick: 2 of 5 test utterances are left out",)
    with pytest.raises(
        MissingLabelError, match=r"no utterance of split 'learn' has the field 'speaker'; it has ipa, nick, phones$"
    ):
        label_speakers(VerifyTask(kind="verify"), data, seed=0)


def test_a_table_may_be_empty_or_have_bytes_of_another_encoding(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("")
    with pytest.raises(BadDocumentError, match=r"the column id is missing; expected id,start,end,label"):
        read_table(path)
    path.write_bytes(b"id,start,end,label\nid 0,0,1,\xe4\n")
    assert read_table(path) == {"id 0": ((0.0, 1.0, "\ufffd"),)}
