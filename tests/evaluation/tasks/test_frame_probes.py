"""How a frame probe is chosen and fed: which utterances, which copies, how many updates; and its loss against every path."""

from __future__ import annotations

import itertools
import math
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.config import CtcTask, FramesTask
from evaluation.data.alignments import AlignedTask, FrameClock
from evaluation.data.transcripts import TextTask
from evaluation.data.utterances import TooFewFramesError
from evaluation.features import Scaling, UtteranceFeatures
from evaluation.tasks import frame_probes
from evaluation.tasks.frame_probes import FrameClassifier, FrameProbes
from evaluation.tasks.frame_store import FrameStore
from evaluation.tasks.weighted_sum import LEARNING_RATES
from tests.evaluation.tasks.test_choices import Scripted

CLOCK = FrameClock(320, 320, 16000)  # frames of 20 ms
AB = ((0.0, 0.02, "a"), (0.02, 0.04, "b"))


def scaling(features=2, *, mean=0.0, inverse=1.0):
    return Scaling(np.full((1, features), mean), np.full((1, features), inverse))


def aligned(train, dev=(), test=()):
    roles = (dict.fromkeys(keys, AB) if isinstance(keys, tuple) else keys for keys in (train, dev, test))
    return AlignedTask("phones", FramesTask(kind="frames"), *roles, (), ("a", "b"))


def held(places, *, frames=2):
    """A store that says what it has."""
    return SimpleNamespace(places=dict.fromkeys(places, (0, (1, frames))))


def by_hash(keys, seed):
    return sorted(keys, key=lambda key: sha256(f"{seed}\x1fframes\x1f{key}".encode()).digest())


@pytest.fixture(name="made")
def probes_that_are_only_noted(monkeypatch):
    """What is trained and judged, in place of doing it; the third learning rate is the best."""
    trained, judged = [], []

    def train(self, keys, store, members, **given):
        trained.append((tuple(keys), store, members, given))
        return given

    def judge(self, probe, keys, store, *, role):
        judged.append((tuple(keys), store, role))
        return abs(LEARNING_RATES.index(probe["rate"]) - 2)

    monkeypatch.setattr(FrameProbes, "trained", train)
    monkeypatch.setattr(FrameProbes, "error_rate", judge)
    return trained, judged


def test_without_dev_a_tenth_of_train_is_held_back_of_the_trials_and_all_of_it_is_learned_at_last(made):
    trained, judged = made
    keys = tuple(f"u{number}" for number in range(26))
    members = dict.fromkeys(keys, "noise-0")
    store = held((key, "noise-0") for key in keys[:-1])  # the last is too short for a frame
    probes = FrameProbes(aligned(keys), scaling(), 1, CLOCK)
    probes.fit(store, None, members=members, seed=7, probes=2)
    order = tuple(by_hash(keys[:-1], 7))
    trials, final = trained[: len(LEARNING_RATES)], trained[len(LEARNING_RATES) :]
    assert trials == [
        (order[2:], store, members, {"rate": rate, "seed": 7, "probe": 0, "share": 3}) for rate in LEARNING_RATES
    ]
    assert judged == [(order[:2], store, "train")] * len(LEARNING_RATES)
    best = {"rate": LEARNING_RATES[2], "seed": 7, "share": 1}
    assert final == [(order, store, members, {**best, "probe": probe}) for probe in range(2)]
    assert (probes.learning_rate, probes.probes) == (
        LEARNING_RATES[2],
        [{**best, "probe": probe} for probe in range(2)],
    )


def test_of_one_training_utterance_it_is_learned_and_judged_on(made):
    trained, judged = made
    probes = FrameProbes(aligned(("u",)), scaling(), 1, CLOCK)
    probes.fit(held([("u", "clean")]), None, members={"u": "clean"}, seed=0, probes=1)
    assert {keys for keys, *_ in trained} == {keys for keys, *_ in judged} == {("u",)}


def test_dev_is_judged_on_by_its_clean_utterances_that_have_frames_and_train_is_learned_whole(made):
    trained, judged = made
    keys, dev_keys = tuple(f"u{number}" for number in range(12)), ("d0", "d1", "d2", "d3")
    store, dev = held((key, "clean") for key in keys), held([("d1", "clean"), ("d2", "noise-0"), ("d3", "clean")])
    probes = FrameProbes(aligned(keys, dev_keys), scaling(), 1, CLOCK)
    probes.fit(store, dev, members=dict.fromkeys(keys, "clean"), seed=3, probes=1)
    assert judged == [(tuple(by_hash(["d1", "d3"], 3)), dev, "dev")] * len(LEARNING_RATES)
    assert {keys for keys, *_ in trained} == {tuple(by_hash(keys, 3))}
    judged.clear()
    probes.fit(store, held([("d2", "noise-0")]), members=dict.fromkeys(keys, "clean"), seed=3, probes=1)
    assert judged == [(tuple(by_hash(keys, 3)[:1]), store, "train")] * len(LEARNING_RATES)


def test_one_phone_in_the_last_of_its_frames_is_enough_to_learn(made):
    late = aligned({"u": ((0.08, 0.1, "a"),), "v": ((5.0, 6.0, "a"),)})
    members, places = dict.fromkeys("uv", "clean"), [("u", "clean"), ("v", "clean")]
    FrameProbes(late, scaling(), 1, CLOCK).fit(held(places, frames=5), None, members=members, seed=0, probes=1)
    with pytest.raises(TooFewFramesError, match="'phones': no frame with something to learn is left to train on"):
        FrameProbes(late, scaling(), 1, CLOCK).fit(held(places, frames=4), None, members=members, seed=0, probes=1)
    text = TextTask("t", CtcTask(kind="ctc"), {"u": ("a",)}, {}, {}, (), ("a",))
    FrameProbes(text, scaling(), 1, CLOCK).fit(held(places[:1], frames=1), None, members=members, seed=0, probes=1)
    with pytest.raises(TooFewFramesError, match="'t': no frame"):
        FrameProbes(text, scaling(), 1, CLOCK).fit(held([]), None, members=members, seed=0, probes=1)


@pytest.fixture(name="fed")
def steps_that_are_only_noted(monkeypatch):
    """The classifier, rate, updates and one batch of each probe that would be trained."""
    fed = []

    def run(module, loss_of, **given):
        fed.append((module, given, float(loss_of().detach())))

    monkeypatch.setattr(frame_probes, "run_adam", run)
    return fed


def test_a_probe_has_its_share_of_updates_and_its_head(fed, tmp_path, monkeypatch):
    store = FrameStore(tmp_path / "frames", "sum")
    for key in "uv":
        store.add(UtteranceFeatures(key, 1.0, {"noise-0": torch.ones(3, 2, 5)}), "noise-0")
    members, given = dict.fromkeys("uv", "noise-0"), {"rate": 0.25, "seed": 1, "probe": 0}
    texts = {"u": ("a",), "v": ("b",)}
    text = TextTask(
        "t", CtcTask(kind="ctc", head="blstm", updates=10, features="sum"), texts, {}, {}, (), ("a", "b", "c")
    )
    linear = TextTask("t", CtcTask(kind="ctc", updates=10, features="sum"), texts, {}, {}, (), ("a", "b", "c"))
    frames = AlignedTask("p", FramesTask(kind="frames", features="sum"), {"u": AB, "v": AB}, {}, {}, (), ("a", "b"))
    wide = Scaling(np.zeros((3, 5)), np.ones((3, 5)))
    for task, share in ((text, 3), (text, 1), (linear, 20), (frames, 3)):
        assert FrameProbes(task, wide, 3, CLOCK).trained(["u", "v"], store, members, share=share, **given) is fed[-1][0]
    assert [one["updates"] for _, one, _ in fed] == [3, 10, 1, 200]
    assert {one["learning_rate"] for _, one, _ in fed} == {0.25}
    recurrent, _, plain, named = (module for module, *_ in fed)
    assert (recurrent.output.in_features, recurrent.output.out_features) == (512, 4), "three letters and the blank"
    assert recurrent.lstm.num_layers == 2
    assert (plain.output.in_features, plain.output.out_features, plain.lstm) == (5, 4, None)
    assert (named.output.in_features, named.output.out_features, named.lstm) == (5, 2, None)
    assert {len(module.sum.weights) for module, *_ in fed} == {3}


def test_a_batch_has_sixteen_utterances_drawn_by_the_probes_own_stream(tmp_path, monkeypatch):
    store = FrameStore(tmp_path / "frames", "last")
    keys = [f"u{number}" for number in range(20)]
    for number, key in enumerate(keys):
        store.add(UtteranceFeatures(key, 1.0, {"clean": torch.full((1, 2 + number % 3, 2), float(number))}), "clean")
    batches = []
    monkeypatch.setattr(frame_probes, "run_adam", lambda module, loss_of, **_: [loss_of() for _ in range(2)])

    def noted(self, logits, lengths, chosen):
        batches.append((logits.shape[:2], lengths, chosen))

    monkeypatch.setattr(FrameProbes, "loss", noted)
    probes = FrameProbes(aligned(tuple(keys)), scaling(), 1, CLOCK)
    for seed, probe in ((1, 0), (1, 1), (2, 0)):
        probes.trained(keys, store, dict.fromkeys(keys, "clean"), rate=1.0, seed=seed, probe=probe, share=1)
    for shape, lengths, chosen in batches:
        assert lengths == [2 + int(key[1:]) % 3 for key in chosen]
        assert tuple(shape) == (16, max(lengths))
    assert len({tuple(chosen) for *_, chosen in batches}) == 6
    probes.trained(keys[:2], store, dict.fromkeys(keys, "clean"), rate=1.0, seed=1, probe=0, share=1)
    assert batches[-1][0][0] == 2


def spelled(path):
    """What a path of classes writes: repeats once, blanks (class 0) left out."""
    return tuple(one for number, one in enumerate(path) if one and (number == 0 or path[number - 1] != one))


def test_the_loss_of_a_text_is_that_of_all_paths_that_write_it_however_a_batch_is_padded():
    """By enumeration: minus the log of their probability, a unit, mean of the utterances."""
    train = {"u": ("b", "a"), "v": ("a",)}
    task = TextTask("t", CtcTask(kind="ctc"), train, {}, {}, (), ("a", "b"))
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = []
    for row, (length, target) in enumerate(((4, (2, 1)), (2, (1,)))):
        shares = logits[row, :length].double().softmax(-1).numpy()
        paths = [path for path in itertools.product(range(3), repeat=length) if spelled(path) == target]
        found = sum(math.prod(shares[place, one] for place, one in enumerate(path)) for path in paths)
        expected.append(-math.log(found) / len(target))
    loss = FrameProbes(task, scaling(), 1, CLOCK).loss(logits, [4, 2], ["u", "v"])
    assert float(loss) == pytest.approx(sum(expected) / 2, rel=1e-5)


class Contrary(Scripted):
    """One that says the other of two classes."""

    def forward(self, states, lengths):
        assert lengths == [states.shape[1]] * len(states)
        return super().forward(1 - states, lengths)


def test_every_probe_answers_for_every_copy_and_those_of_other_tasks_are_passed_over():
    task = aligned({}, {}, {"u": ((0.0, 0.06, "a"), (0.06, 0.12, "b"))})
    probes = FrameProbes(task, scaling(mean=3.0, inverse=0.5), 1, CLOCK, probes=[Scripted(), Contrary()])
    copies = {"clean": [0, 0, 0, 1, 1, 1], "noise-0": [0, 1, 1, 1, 1, 0], "noise-1": [1] * 6}
    frames = {name: torch.tensor(told)[None, :, None].expand(1, 6, 2) * 2.0 + 3.0 for name, told in copies.items()}
    below = {name: torch.cat([-one, one]) for name, one in frames.items()}  # the task reads the last layer
    for key in ("u", "another"):
        probes.test(UtteranceFeatures(key, 1.0, below))
    right = {"clean": 6.0, "noise-0": 3.0, "noise-1": 3.0}
    assert probes.outcomes == {
        ("accuracy", 0): {("u", name): (count, 6.0) for name, count in right.items()},
        ("accuracy", 1): {("u", name): (6.0 - count, 6.0) for name, count in right.items()},
    }


def test_an_utterance_without_frames_is_not_judged_on(tmp_path):
    store = FrameStore(tmp_path / "dev", "last")
    for key, told in (("none", []), ("u", [0.0, 0.0])):
        frames = torch.tensor(told).reshape(1, -1, 1).expand(1, -1, 2)
        store.add(UtteranceFeatures(key, 1.0, {"clean": frames}), "clean")
    probes = FrameProbes(aligned({}, ("none", "u")), scaling(), 1, CLOCK)
    recurrent = FrameClassifier(1, 2, 2, is_recurrent=True)  # which could not read it
    assert probes.error_rate(recurrent, ["none"], store, role="dev") == 0.0
    assert probes.error_rate(Scripted(), ["none", "u"], store, role="dev") == 0.5
