"""Every kind of task from a corpus to its scores: what can be told is told, a constant tells nothing, a wrong task is refused."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from evaluation import evaluate_models as stage
from evaluation.config import CtcTask, EvaluationConfig, FramesTask, Splits
from evaluation.data.alignments import BadAlignmentError, FrameClock, first_length, frame_classes, segments_of
from evaluation.data.labels import MissingLabelError, OneClassError, UnseenLabelError
from evaluation.data.transcripts import UnseenUnitError, label_texts, normalised_text
from evaluation.data.trials import OneSpeakerError, chosen_pairs, training_pairs
from evaluation.data.utterances import EmptyConditionError, TooFewFramesError
from evaluation.features import Scaling
from evaluation.tasks import frame_probes, verification
from evaluation.tasks.weighted_sum import WeightedSum, fitted_sum
from manifests.errors import BadDocumentError
from tests.oracles.fake_encoder import HOP, WINDOW, ConstantEncoder, FakeEncoder
from tests.oracles.tiny_corpus import RATE_HZ, TinyUtterance, as_int16, distorted, write_corpus

PITCHES_HZ = {"a": 200.0, "b": 500.0, "c": 1200.0}
TONE_SAMPLES = 3200


def spelled(text: str, *, speaker: int, seed: int) -> np.ndarray:
    """A tone a letter, silence between them; a speaker adds a hum of his own."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(TONE_SAMPLES) / RATE_HZ
    pieces = [
        0.3 * np.sin(2 * np.pi * PITCHES_HZ[letter] * time_s) if letter != " " else np.zeros(TONE_SAMPLES)
        for letter in text
    ]
    wave = np.concatenate(pieces)
    hum = 0.1 * np.sin(2 * np.pi * (2500 + 600 * speaker) * np.arange(len(wave)) / RATE_HZ)
    return wave + hum + 0.003 * rng.standard_normal(len(wave))


def alignment(text: str) -> list[list]:
    seconds = TONE_SAMPLES / RATE_HZ
    return [[n * seconds, (n + 1) * seconds, letter] for n, letter in enumerate(text) if letter != " "]


def spoken_split(split: str, *, count: int, letters: str = "abc", speakers: int = 3) -> list[TinyUtterance]:
    utterances = []
    for number in range(count):
        rng = np.random.default_rng([number, sum(split.encode())])
        # no letter twice in a row: a linear CTC probe has no silence to put a blank in
        text = letters[int(rng.integers(len(letters)))]
        while len(text) < 5:
            text += rng.choice([letter for letter in letters if letter != text[-1]])
        wave = spelled(text, speaker=number % speakers, seed=number)
        waves = {"clean": as_int16(wave), "noise-0": as_int16(distorted(wave, rng, "noise-0"))}
        waves["phone-0"] = as_int16(distorted(wave, rng, "phone-0"))
        custom = {"phones": alignment(text), "spelling": " ".join(text), "first": text[0]}
        utterances.append(
            TinyUtterance(f"{split}/{number}", waves, speaker=f"voice {number % speakers}", text=text, custom=custom)
        )
    return utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    splits = {split: spoken_split(split, count=count) for split, count in (("train", 30), ("dev", 6), ("test", 12))}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "spoken", splits)


@pytest.fixture
def bench(monkeypatch):
    """Models by name; probes that are trained for a moment only."""
    monkeypatch.setattr(frame_probes, "FRAME_UPDATES", 60)
    monkeypatch.setattr(frame_probes, "LEARNING_RATES", (1e-4, 1e-1))
    monkeypatch.setattr(frame_probes, "HIDDEN", 16)
    monkeypatch.setattr(verification, "UPDATES", 60)
    monkeypatch.setattr(verification, "LEARNING_RATES", (1e-4, 1e-2))
    models = {"fake": FakeEncoder(num_features=24), "constant": ConstantEncoder("constant")}
    monkeypatch.setattr("evaluation.models.load_teacher", lambda name: models[name])
    return models


def run(corpus, folder, *tasks, models=None, **changes):
    path = folder / "evaluation.yaml"
    asked = {
        "corpus": str(corpus), "models": models or {"good": "fake", "flat": "constant"}, "tasks": list(tasks), "measures": [],
        "efficiency": False, **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(asked, sort_keys=False))
    return stage.evaluate(EvaluationConfig.read(path), folder / f"out{len(list(folder.iterdir()))}")


def value(results, model, measure, condition="clean", probe=0, task=None):
    [cell] = [cell for cell in results.cells if cell.model == model]
    [found] = [
        score.value
        for score in cell.scores
        if (score.measure, score.condition, score.probe) == (measure, condition, probe) and task in (None, score.task)
    ]
    return found


def test_ctc_writes_down_what_is_said(corpus, bench, tmp_path):
    results = run(corpus, tmp_path, {"kind": "ctc", "updates": 150})
    assert not list(tmp_path.rglob("*.f16"))  # files of frames are gone
    assert value(results, "good", "cer") < 0.5
    assert value(results, "flat", "cer") > 0.7  # one letter at best
    [cell] = [cell for cell in results.cells if cell.model == "good"]
    assert set(cell.chosen) == {"characters of text"}
    assert cell.chosen["characters of text"][0] == 1e-1
    assert {(one.measure, one.probe) for one in cell.outcomes} == {("cer", 0), ("cer", 1), ("wer", 0), ("wer", 1)}
    assert {score.count for score in cell.scores if score.measure == "cer"} == {12}


def test_phones_and_a_recurrent_head(corpus, bench, tmp_path):
    task = {"kind": "ctc", "label": "spelling", "units": "phones", "head": "blstm", "updates": 30}
    results = run(corpus, tmp_path, task, models={"good": "fake"}, probes=1)
    assert value(results, "good", "per") < 1.0
    assert results.cells[0].outcomes[0].totals is not None
    assert set(results.cells[0].outcomes[0].totals.split()) == {"5"}


def test_frames_are_named(corpus, bench, tmp_path):
    results = run(corpus, tmp_path, {"kind": "frames"})
    assert value(results, "good", "accuracy") > 0.9
    counts = Counter(letter for utterance in spoken_split("test", count=12) for letter in utterance.text)
    assert value(results, "flat", "accuracy") <= max(counts.values()) / sum(counts.values()) + 0.02


def test_alignments_of_a_table_are_those_of_the_field(corpus, bench, tmp_path):
    with (tmp_path / "align.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "start", "end", "label"])
        for split, count in (("train", 30), ("dev", 6), ("test", 12)):
            for utterance in spoken_split(split, count=count):
                rows.writerows([utterance.id, *segment] for segment in utterance.custom["phones"])
    one = run(corpus, tmp_path, {"kind": "frames", "table": "align.csv"}, models={"good": "fake"})
    other = run(corpus, tmp_path, {"kind": "frames"}, models={"good": "fake"})
    assert one.cells[0].scores == other.cells[0].scores
    assert str(tmp_path) not in (tmp_path / "out2/protocol.json").read_text()


def test_speakers_are_verified(corpus, bench, tmp_path):
    results = run(corpus, tmp_path, {"kind": "verify", "trials": 24})
    assert value(results, "good", "eer") < 0.1
    assert value(results, "flat", "eer") == 0.5
    [trials] = results.cells[0].trials
    assert len(trials.scores) == 2
    assert trials.same.count("1") * 2 == len(trials.same) == 24 * 3


@pytest.fixture
def undeveloped(tmp_path):
    """A corpus without dev, of six speakers."""
    splits = {"train": spoken_split("train", count=30, speakers=6), "test": spoken_split("test", count=12)}
    return write_corpus(tmp_path / "undeveloped", splits)


def test_without_dev_frames_are_judged_on_utterances_that_the_trials_did_not_learn(
    undeveloped, bench, tmp_path, monkeypatch
):
    trained, error_rate = frame_probes.FrameProbes.trained, frame_probes.FrameProbes.error_rate
    learnt, judged = [], []
    monkeypatch.setattr(
        frame_probes.FrameProbes, "trained",
        lambda self, keys, *given, **named: learnt.append((named["share"], set(keys))) or trained(self, keys, *given, **named),
    )  # fmt: skip
    monkeypatch.setattr(
        frame_probes.FrameProbes, "error_rate",
        lambda self, probe, keys, *given, **named: judged.append(set(keys)) or error_rate(self, probe, keys, *given, **named),
    )  # fmt: skip
    run(undeveloped, tmp_path, {"kind": "frames"}, models={"good": "fake"}, probes=1)
    trials = [keys for share, keys in learnt if share == frame_probes.TRIAL_SHARE]
    [final] = [keys for share, keys in learnt if share == 1]
    assert len(trials) == len(judged) == 2
    assert all(len(tried) == 27 and len(on) == 3 and not tried & on for tried, on in zip(trials, judged, strict=True))
    assert len(final) == 30


def test_without_dev_verification_is_judged_on_speakers_that_the_trials_did_not_learn(
    undeveloped, bench, tmp_path, monkeypatch
):
    fitted, scored_trials = verification.fitted_verifier, verification.scored_trials
    learnt, judged = [], []

    def spied(probe, rows, pairs, names, **named):
        judged.append({names[key] for pair in pairs for key in pair})
        return scored_trials(probe, rows, pairs, names, **named)

    monkeypatch.setattr(
        verification, "fitted_verifier", lambda rows, labels, *given, **named: learnt.append(set(labels)) or fitted(rows, labels, *given, **named)
    )  # fmt: skip
    monkeypatch.setattr(verification, "scored_trials", spied)
    results = run(undeveloped, tmp_path, {"kind": "verify", "trials": 24}, models={"good": "fake"}, probes=1)
    assert value(results, "good", "eer") < 0.1
    assert len(learnt) == 3
    for tried, on in zip(learnt[:2], judged[:2], strict=True):
        assert len(tried) == 4
        assert len(on) == 2
        assert not tried & on
    assert len(learnt[2]) == 6


def test_three_training_speakers_are_too_few_to_hold_any_back():
    labels = {f"u{number}": f"voice {number % 3}" for number in range(9)}
    pairs = training_pairs(labels, most=12, seed=0)
    assert {labels[key] for pair in pairs for key in pair} == {"voice 0", "voice 1", "voice 2"}


@pytest.mark.parametrize("features", ["last", "sum"])
def test_a_probe_may_be_trained_on_distorted_speech(corpus, bench, tmp_path, features):
    task = {"kind": "classify", "label": "first", "features": features}
    results = run(corpus, tmp_path, task, {**task, "probe": "distorted"}, models={"good": "fake"}, probes=1)
    names = dict.fromkeys(score.task for score in results.cells[0].scores)
    end = "" if features == "last" else " (sum)"
    assert list(names) == [f"first{end}", f"first{end} (probe trained on distorted)"]
    clean, other = (value(results, "good", "accuracy", "noise", task=name) for name in names)
    assert other > clean - 0.2
    assert len({one.counts for one in results.cells[0].outcomes}) == 2  # it is another probe


def test_sums_choose_the_layer_that_knows(tmp_path):
    """Only the second of three states tells the class: the sum learns to read it, the last alone cannot."""
    rng = np.random.default_rng(0)
    labels = np.array(["x", "y"] * 100)
    rows = rng.standard_normal((200, 3, 8)).astype(np.float32)
    rows[:, 1, 0] += np.where(labels == "x", 4.0, -4.0)
    probe = fitted_sum(rows[:100], labels[:100], Scaling.fitted(rows[:100]), learning_rate=0.1, seed=0, probe=0)
    assert np.mean(probe.predictions(rows[100:]) == labels[100:]) > 0.95
    weights = next(module for module in probe.module if isinstance(module, WeightedSum)).weights.softmax(0)
    assert weights.argmax() == 1
    again = fitted_sum(rows[:100], labels[:100], Scaling.fitted(rows[:100]), learning_rate=0.1, seed=0, probe=0)
    other = fitted_sum(rows[:100], labels[:100], Scaling.fitted(rows[:100]), learning_rate=0.1, seed=0, probe=1)
    values = [torch.cat([p.flatten() for p in one.module.parameters()]) for one in (probe, again, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_a_model_without_heads_has_the_sum_alone_and_says_so(corpus, bench, tmp_path):
    tasks = [{"kind": "classify", "label": "first", "features": features} for features in ("sum", "sum+heads")]
    results = run(corpus, tmp_path, *tasks, models={"good": "fake"}, probes=1)
    assert any("no distillation heads" in note for note in results.cells[0].notes)
    one, other = (value(results, "good", "accuracy", task=name) for name in ("first (sum)", "first (sum+heads)"))
    assert one == other


def test_heads_stand_in_the_sum_where_there_are_some(corpus, bench, tmp_path):
    class Headed(FakeEncoder):
        def __init__(self):
            super().__init__("headed")
            self.heads = Twice()

    class Twice(torch.nn.Module):
        def forward(self, layers):
            return torch.stack([layers[-1], 2 * layers[-1]], dim=1)

    bench["fake"] = Headed()
    tasks = [
        {"kind": "classify", "label": "first", "features": "sum+heads"},
        {"kind": "frames", "features": "sum+heads"},
        {"kind": "verify", "features": "sum+heads", "trials": 20},
    ]
    results = run(corpus, tmp_path, *tasks, models={"good": "fake"}, probes=1)
    assert not any("heads" in note for note in results.cells[0].notes)
    assert value(results, "good", "accuracy", task="frames of phones (sum+heads)") > 0.8


def changed(corpus_splits, tmp_path, change):
    for split, utterances in corpus_splits.items():
        for utterance in utterances:
            change(split, utterance)
    return write_corpus(tmp_path / "changed", corpus_splits)


@pytest.mark.parametrize(
    ("task", "change", "error", "told"),
    [
        ({"kind": "ctc"}, lambda s, u: setattr(u, "text", u.text + ("ñ" if s == "test" else "")), UnseenUnitError, "'ñ'"),
        ({"kind": "ctc", "label": "mood"}, None, MissingLabelError, "'mood'"),
        ({"kind": "ctc"}, lambda _, u: setattr(u, "text", None), MissingLabelError, "'text'"),
        ({"kind": "verify"}, lambda s, u: setattr(u, "speaker", "me" if s == "test" else u.speaker), OneSpeakerError, "one speaker, 'me'"),
        ({"kind": "verify"}, lambda s, u: setattr(u, "speaker", u.id if s == "test" else u.speaker), OneSpeakerError, "no speaker with two"),
        ({"kind": "verify", "label": "mood"}, None, MissingLabelError, "'mood'"),
        ({"kind": "frames", "label": "moods"}, None, MissingLabelError, "'moods'"),
        ({"kind": "frames", "label": "first"}, None, BadAlignmentError, "a list of [start, end, phone]"),
        ({"kind": "frames"}, lambda _, u: u.custom.update(phones=[[0.2, 0.1, "a"]]), BadAlignmentError, "start before end"),
        ({"kind": "frames"}, lambda s, u: u.custom.update(phones=[[0.0, 0.1, s]]), UnseenLabelError, "'test'"),
        ({"kind": "frames"}, lambda _, u: u.custom.update(phones=[[0.0, 0.1, "a"]]), OneClassError, "'a'"),
        ({"kind": "frames"}, lambda _, u: u.custom.update(phones=[[0, 100, "a"], [100, 250, "b"]]), BadAlignmentError, "starts after its end at 1.000 s"),
        ({"kind": "frames", "table": "none.csv"}, None, FileNotFoundError, "alignments"),
    ],
)  # fmt: skip
def test_a_task_that_does_not_fit_is_one_line(bench, tmp_path, task, change, error, told):
    splits = {split: spoken_split(split, count=6) for split in ("train", "test")}
    corpus = changed(splits, tmp_path, change or (lambda _, __: None))
    with pytest.raises(error) as caught:
        run(corpus, tmp_path, task)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert bench["fake"].calls == 0


def short(utterance: TinyUtterance) -> TinyUtterance:
    return dataclasses.replace(utterance, waves={name: wave[: WINDOW - 1] for name, wave in utterance.waves.items()})


TASKS = ({"kind": "classify", "label": "first"}, {"kind": "ctc", "updates": 1}, {"kind": "frames"}, {"kind": "verify"})


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["kind"])
def test_what_is_too_short_for_a_task_alone_is_one_line(bench, tmp_path, task, split):
    splits = {split: spoken_split(split, count=9, letters="abc") for split in ("train", "test")}
    for utterances in splits.values():
        for utterance in utterances:
            utterance.custom |= {"long": utterance.speaker == "voice 2", "phones": [[0, 0.01, "a"], [0.01, 0.02, "b"]]}
            utterance.text = "ab"
    for utterance in (*splits["train"][::3], *splits["test"][::3]):
        utterance.custom["first"] = "a"
    for utterance in (*splits["train"][1::3], *splits["test"][1::3]):
        utterance.custom["first"] = "b"
    splits[split] = [one if one.speaker == "voice 2" else short(one) for one in splits[split]]
    corpus = write_corpus(tmp_path / "tiny", splits)
    with pytest.raises(TooFewFramesError, match="shorter than one frame") as caught:
        run(corpus, tmp_path, {**task, "where": {"long": "False"}}, measures=["cosine"], models={"good": "fake"})
    assert task.get("label", {"ctc": "text"}.get(task["kind"], "")) in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_frames_without_a_phone_are_one_line(bench, tmp_path, split):
    splits = {split: spoken_split(split, count=6, letters="ab") for split in ("train", "test")}
    for utterance in splits[split]:
        utterance.custom["phones"] = [[0.0, 0.001, "a"], [0.001, 0.002, "b"]]  # before the middle of the first frame
    corpus = write_corpus(tmp_path / "tiny", splits)
    with pytest.raises(TooFewFramesError, match="no frame with something"):
        run(corpus, tmp_path, {"kind": "frames"}, models={"good": "fake"})


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["kind"])
def test_a_condition_that_no_utterance_of_a_task_has_is_told(bench, tmp_path, task):
    splits = {split: spoken_split(split, count=9, letters="ab") for split in ("train", "test")}
    for utterances in splits.values():
        for number, utterance in enumerate(utterances):
            utterance.custom["set"] = "few" if number < 6 else "rest"
    splits["test"].reverse()  # the first says which conditions the split has
    for utterance in splits["test"][3:]:
        del utterance.waves["phone-0"]
    corpus = write_corpus(tmp_path / "tiny", splits)
    with pytest.raises(EmptyConditionError, match="condition 'phone' has no utterance in split 'test'"):
        run(corpus, tmp_path, {**task, "where": {"set": "few"}}, models={"good": "fake"})
    assert bench["fake"].calls == 0


def test_a_condition_with_trials_of_one_kind_has_no_eer(bench, tmp_path):
    splits = {split: spoken_split(split, count=9) for split in ("train", "test")}
    for utterance in splits["test"][1:]:
        del utterance.waves["phone-0"]
    for number in (3, 6):  # all that the one speaker with that copy could be compared with
        splits["test"][number] = short(splits["test"][number])
    corpus = write_corpus(tmp_path / "tiny", splits)
    [cell] = run(corpus, tmp_path, {"kind": "verify", "trials": 18}, models={"good": "fake"}, probes=1).cells
    assert {score.condition for score in cell.scores} == {"clean", "noise"}


def test_a_table_of_another_shape_is_told(corpus, bench, tmp_path):
    for content, told in (("id,start,end\n", "column label is missing"), ("id,start,end,label\nx,one,2,a\n", "line 2")):
        (tmp_path / "bad.csv").write_text(content)
        with pytest.raises(BadDocumentError, match=told):
            run(corpus, tmp_path, {"kind": "frames", "table": "bad.csv"})


def test_characters_that_train_lacks_may_be_counted_as_errors(bench, tmp_path):
    splits = {split: spoken_split(split, count=9) for split in ("train", "test")}
    corpus = changed(splits, tmp_path, lambda s, u: setattr(u, "text", u.text + ("ñ" if s == "test" else "")))
    task = {"kind": "ctc", "unseen": "errors", "updates": 3}
    results = run(corpus, tmp_path, task, models={"good": "fake"}, probes=1)
    assert any("'ñ'" not in note and "ñ" in note for note in results.cells[0].notes)
    assert set(results.cells[0].outcomes[0].totals.split()) == {"6"}


def test_no_copies_to_train_a_probe_on_is_told(bench, tmp_path):
    bare = [TinyUtterance(u.id, {"clean": u.waves["clean"]}, custom=u.custom) for u in spoken_split("train", count=9)]
    corpus = write_corpus(tmp_path / "bare", {"train": bare, "test": spoken_split("test", count=6)})
    with pytest.raises(EmptyConditionError, match="no distorted copy in split 'train'"):
        run(corpus, tmp_path, {"kind": "classify", "label": "first", "probe": "distorted"})


def test_text_is_normalised_before_it_is_spelled():
    assert normalised_text("  Don\u2019t — STOP,\n3 times! Ärger\u202e ") == "don't stop 3 times ärger"
    assert normalised_text("?!") == ""


def test_a_clock_is_found_from_nothing_but_frame_counts():
    clock = FrameClock.of(FakeEncoder.num_frames, rate_hz=RATE_HZ)
    assert (clock.receptive, clock.hop) == (WINDOW, HOP)
    np.testing.assert_allclose(clock.times_s(2), [200 / 16000, 520 / 16000])
    assert first_length(lambda n: n // 7, frames=3) == 21


def test_a_frame_is_what_is_said_in_its_middle():
    segments = ((0.0, 0.1, "a"), (0.1, 0.2, "b"), (0.3, 0.4, "?"))
    times = np.array([0.0, 0.0999, 0.1, 0.25, 0.35, 9.0])
    assert frame_classes(segments, ("a", "b"), times).tolist() == [0, 0, 1, -1, -1, -1]


def test_trials_are_half_of_one_speaker_and_none_is_with_itself():
    labels = {f"{speaker}{n}": speaker for speaker in "abc" for n in range(4)}
    pairs = chosen_pairs(labels, most=24, seed=0)
    assert len(pairs) == len(set(pairs)) == 24
    assert sum(labels[one] == labels[other] for one, other in pairs) == 12
    assert all(one != other for one, other in pairs)
    assert chosen_pairs(dict(reversed(labels.items())), most=24, seed=0) == pairs
    assert chosen_pairs({"a0": "a", "b0": "b"}, most=24, seed=0) == ()


def test_utterances_that_take_several_turns_meet_more_of_the_others_and_another_seed_has_other_trials():
    labels = {f"{speaker}{n}": speaker for speaker in "abc" for n in range(4)}
    pairs = chosen_pairs(labels, most=1000, seed=0)
    own = [(one, other) for one, other in pairs if labels[one] == labels[other]]
    assert len(own) == len(set(own)) == len(pairs) - len(own) == 12 * 3, "each with the three others of its speaker"
    others = {one: {other for this, other in pairs if this == one and labels[this] != labels[other]} for one in labels}
    assert sum(map(len, others.values())) > 12, "some have more than one"
    assert set(chosen_pairs(labels, most=24, seed=1)) != set(pairs[:24])


def test_speakers_on_whom_a_rate_is_chosen_are_drawn_by_the_seed():
    labels = {f"{speaker}{n}": str(speaker) for speaker in range(20) for n in range(2)}
    held = [{labels[key] for pair in training_pairs(labels, most=99, seed=seed) for key in pair} for seed in range(6)]
    assert all(len(one) == 2 for one in held)
    assert len(set(map(frozenset, held))) > 1


def test_letters_of_every_script_are_spelled_alike_however_they_are_encoded():
    assert normalised_text("हिन्दी") == "हिन्दी", "vowel signs are marks"
    assert normalised_text("\ufb01ne \uff21") == "fine a", "a ligature and a wide letter"


def test_segments_are_taken_in_the_order_of_time_and_none_may_start_at_the_end():
    entry = SimpleNamespace(
        sample=SimpleNamespace(id="u", custom={"phones": [[0.2, 0.3, "b"], [0.0, 0.2, "a"]]}), seconds=0.25
    )
    task = FramesTask(kind="frames", label="phones")
    assert segments_of(task, entry, None) == ((0.0, 0.2, "a"), (0.2, 0.3, "b"))
    entry.seconds = 0.2
    with pytest.raises(BadAlignmentError, match="starts after its end"):
        segments_of(task, entry, None)


def test_dev_texts_with_units_that_train_lacks_are_not_chosen_on():
    def entries(**texts):
        return {
            key: SimpleNamespace(sample=SimpleNamespace(text=text, speaker=None, language=None, custom={}, copies=()))
            for key, text in texts.items()
        }

    dataset = SimpleNamespace(
        splits=Splits(train="train", dev="dev", test="test"), limit=None, conditions=(), train=entries(t="ab"), dev=entries(known="ba", strange="ax"), test=entries(u="a"),
    )  # fmt: skip
    task = label_texts(CtcTask(kind="ctc", label="text"), dataset)
    assert set(task.dev) == {"known"}


def test_frames_of_a_killed_evaluation_are_swept_away(corpus, bench, tmp_path):
    left = tmp_path / "out1/.frames-dead"
    left.mkdir(parents=True)
    (left / "train.f32").touch()
    run(corpus, tmp_path, {"kind": "classify", "label": "first"}, models={"good": "fake"}, probes=1)
    assert min(path.name for path in (tmp_path / "out2").iterdir() if path.name[0] != ".") == "cells"
    assert left.exists()  # another folder's is not ours
    path = tmp_path / "evaluation.yaml"
    stage.evaluate(EvaluationConfig.read(path), tmp_path / "out1")
    assert not left.exists()


def test_a_text_probe_on_distorted_speech_is_trained_on_a_copy_of_each_utterance(corpus, bench, tmp_path):
    """No clean training frame is stored for it, as its rate is chosen on dev."""
    task = {"kind": "ctc", "updates": 1, "probe": "distorted"}
    [cell] = run(corpus, tmp_path, task, models={"good": "fake"}, probes=1, measures=["cosine"]).cells
    assert {score.condition for score in cell.scores if score.measure == "cer"} >= {"clean", "noise"}
    assert cell.chosen_is == {"characters of text (probe trained on distorted)": "learning rate"}
