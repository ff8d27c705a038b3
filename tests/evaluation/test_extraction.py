"""What is kept of a model's features: which layer, which copies, what they are scaled by; who is taken, in which order."""

from __future__ import annotations

import hashlib
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from evaluation.config import CtcTask, LayerFeatures, Splits
from evaluation.data.labels import field_of, meets
from evaluation.data.transcripts import TextTask
from evaluation.data.utterances import keyed_order, resolved_splits
from evaluation.exposure.test_copies import condition_scores, outcomes_of
from evaluation.extraction import ExtractionPlan, ModelFeatures, chosen_copies, scaling_of, stored_features
from evaluation.features import PooledRows, Scaling, UtteranceFeatures
from evaluation.measures.frame_cosine import FrameMoments
from evaluation.models import LogMel
from evaluation.tasks.frame_store import FrameStore
from manifests.corpus.sample import Sample
from manifests.results.scores import separated

LAYERS, FRAMES, FEATURES = 3, 7, 4
SECOND = LayerFeatures(layer=2)
MEMBERS = ("clean", "noise-0", "noise-1", "phone-0")


def utterance(key, seed):
    frames = {
        member: torch.randn(LAYERS, FRAMES, FEATURES, generator=torch.Generator().manual_seed(seed + number))
        for number, member in enumerate(MEMBERS)
    }
    heads = {member: 2 * one[:2] + 1 for member, one in frames.items()}
    return UtteranceFeatures(key, 1.0, frames, heads)


def test_each_table_gets_the_states_the_copies_and_the_utterances_that_it_is_for(tmp_path):
    roles = ("train", "dev", "test")
    pooled = {(features, role): PooledRows() for features in ("last", "sum", "sum+heads", SECOND) for role in roles}
    stores = {role: FrameStore(tmp_path / role, "sum") for role in ("train", "dev")}
    tables = ModelFeatures(pooled, {role: PooledRows() for role in roles}, stores, FrameMoments())
    stored = {"train": frozenset({("a", "noise-1"), ("b", "clean")}), "dev": frozenset({("x", "clean")})}
    leakage = {"train": frozenset({"a"}), "dev": frozenset(), "test": frozenset({"d"})}
    hearing = ExtractionPlan({}, {"a": "noise-1"}, stored, leakage, "train", frozenset({"clean", "noise"}), ())
    dataset = SimpleNamespace(reference=frozenset({"a"}))
    heard = {("train", "a"): 10, ("train", "b"): 20, ("dev", "c"): 30, ("test", "d"): 40}
    for (role, key), seed in heard.items():
        tables.add(role, utterance(key, seed), dataset=dataset, plan=hearing)
    expected = {
        "train": [("a", "clean"), ("a", "noise-1"), ("b", "clean")],
        "dev": [("c", "clean")],
        "test": [("d", member) for member in MEMBERS],
    }
    stores["train"].close()
    assert (set(stores["train"].places), set(stores["dev"].places)) == (set(stored["train"]), set())
    for (features, role), rows in pooled.items():
        assert list(zip(rows.keys, rows.members, strict=True)) == expected[role]
        for row, (key, member) in zip(rows.rows, expected[role], strict=True):
            one = utterance(key, heard[role, key])
            states = one.frames[member].mean(dim=1)
            wanted = {
                "last": states[2],
                SECOND: states[1],
                "sum": states,
                "sum+heads": torch.cat([states, one.heads[member].mean(dim=1)]),
            }
            np.testing.assert_allclose(row, wanted[features].numpy(), rtol=1e-5, atol=1e-6)
    for role, (key, members) in {"train": ("a", MEMBERS[:3]), "test": ("d", MEMBERS[:3])}.items():
        deep = tables.pooled_layers[role]
        assert list(zip(deep.keys, deep.members, strict=True)) == [(key, member) for member in members]
        np.testing.assert_allclose(
            deep.features[1],
            utterance(key, heard[role, key]).frames["noise-0"].mean(dim=1).numpy(),
            rtol=1e-5,
            atol=1e-6,
        )
    assert not tables.pooled_layers["dev"].keys
    # frames are centred and scaled by the clean reference utterances of train alone
    one = utterance("a", 10)
    clean = torch.cat([one.frames["clean"], one.heads["clean"]]).double()
    scaling = tables.moments.scaling()
    np.testing.assert_allclose(scaling.mean, clean.mean(dim=1).numpy(), atol=1e-7)
    np.testing.assert_allclose(1 / scaling.inverse, clean.std(dim=1, correction=0).numpy(), rtol=1e-6)


def test_states_are_scaled_by_their_own_moments():
    scaling = Scaling(np.arange(20.0).reshape(5, 4), np.arange(20.0, 40.0).reshape(5, 4))  # three layers, two heads
    named = ("last", slice(2, 3)), (SECOND, slice(1, 2)), ("sum", slice(0, 3)), ("sum+heads", slice(0, 5))
    for features, rows in named:
        found = scaling_of(scaling, features, num_layers=3)
        np.testing.assert_array_equal(found.mean, scaling.mean[rows])
        np.testing.assert_array_equal(found.inverse, scaling.inverse[rows])


def test_the_order_by_hash_is_of_seed_purpose_and_key():
    keys = [f"u{number}" for number in range(20)]
    for seed, purpose in ((0, "limit"), (1, "limit"), (0, "trials")):
        slow = sorted(keys, key=lambda key: hashlib.sha256("\x1f".join((str(seed), purpose, key)).encode()).hexdigest())
        assert keyed_order(reversed(keys), seed=seed, purpose=purpose) == slow
    orders = [keyed_order(keys, seed=seed, purpose=purpose) for seed, purpose in ((0, "a"), (1, "a"), (0, "b"))]
    assert len(set(map(tuple, orders))) == 3


def test_copies_that_probes_are_trained_on_are_drawn_anew_for_each_utterance():
    """Of 300 utterances each of four copies comes 75 times, give or take four standard errors; other utterances move none."""
    names = ("far-0", "noise-0", "noise-1", "phone-0")
    entry = SimpleNamespace(sample=SimpleNamespace(copies=[SimpleNamespace(name=name) for name in names]))
    dataset = SimpleNamespace(train={f"u{number}": entry for number in range(300)})
    chosen = chosen_copies(dataset, dataset.train, seed=5, task="t")
    counts = Counter(chosen.values())
    assert set(chosen) == set(dataset.train)
    assert all(abs(counts[name] - 75) < 4 * (300 * 0.25 * 0.75) ** 0.5 for name in names)
    assert chosen_copies(dataset, ["u7"], seed=5, task="t") == {"u7": chosen["u7"]}
    assert chosen_copies(dataset, dataset.train, seed=6, task="t") != chosen


def sample(**custom):
    source = {"root": "train", "path": "a.wav", "rate_hz": 16000}
    given = {"id": "u", "split": "train", "num_samples": 5, "sample_rate": 16000, "speaker": "ann", "source": source}
    return Sample.parse({"schema": "stillroom/sample/1", **given, "custom": custom, "copies": []}, where="test")


def test_a_label_is_a_field_as_text_and_a_filter_is_met_in_all_its_fields():
    one = sample(take=3, mood="", sung=True, phones=[[0, 1, "a"]], speaker="a field of the same name")
    assert [field_of(one, name) for name in ("take", "sung", "speaker", "language", "mood", "phones", "gone")] == [
        "3", "True", "ann", None, None, None, None,
    ]  # fmt: skip
    assert meets({}, one)
    assert meets({"take": ("2", "3"), "sung": ("True",)}, one)
    assert not meets({"take": ("2", "3"), "sung": ("False",)}, one)
    assert not meets({"take": ("2",), "sung": ("True",)}, one)


def test_a_conditions_score_is_the_sum_of_counts_over_the_sum_of_totals():
    answered = {
        ("a", "clean"): (1.0, 10.0), ("b", "clean"): (4.0, 5.0), ("a", "noise-0"): (3.0, 10.0), ("a", "noise-1"): (7.0, 10.0),
        ("b", "noise-0"): (0.0, 0.0), ("b", "phone-0"): (0.0, 0.0),
    }  # fmt: skip
    scores = condition_scores(answered, task="t", measure="cer", probe=1)
    assert {score.condition: (score.value, score.count, score.probe) for score in scores} == {
        "clean": (pytest.approx(5 / 15), 2, 1), "noise": (pytest.approx(10 / 20), 2, 1),
    }  # fmt: skip
    places = {place: number for number, place in enumerate([*answered, ("c", "clean")])}
    found = outcomes_of(answered, places, task="t", measure="cer", probe=1)
    assert separated(found.counts) == [1, 4, 3, 7, 0, 0, None]
    assert separated(found.totals) == [10, 5, 10, 10, 0, 0, None]
    assert (found.task, found.measure, found.probe) == ("t", "cer", 1)
    one_more = outcomes_of(answered | {("a", "clean"): (0.0, 1.0)}, places, task="t", measure="cer", probe=0)
    assert separated(one_more.totals) == [1, 5, 10, 10, 0, 0, None]
    [none_right] = condition_scores({("a", "clean"): (0.0, 4.0)}, task="t", measure="cer", probe=0)
    assert (none_right.value, none_right.count) == (0.0, 1)
    ones = outcomes_of({("a", "clean"): (1.0, 1.0)}, places, task="t", measure="accuracy", probe=0)
    assert (ones.totals, separated(ones.counts)) == (None, [1, *[None] * 6])


@pytest.mark.parametrize("rate_hz", [16000, 8000])
def test_log_mel_is_that_of_torchaudio(rate_hz):
    floor = LogMel(rate_hz)
    wave = torch.randn(2, rate_hz, generator=torch.Generator().manual_seed(0))
    window, size = rate_hz // 40, {16000: 512, 8000: 256}[rate_hz]
    mel = MelSpectrogram(
        sample_rate=rate_hz, n_fft=size, win_length=window, hop_length=rate_hz // 50, n_mels=80, center=False, power=2.0,
        mel_scale="htk", pad=0,
    )  # fmt: skip
    padded = torch.nn.functional.pad(wave, [(size - window) // 2] * 2)  # torchaudio centres the window in its transform
    expected = mel(padded).clamp(min=1e-10).log().transpose(1, 2)
    found, frames = floor.layers(wave, torch.tensor([rate_hz, rate_hz]))
    assert frames.tolist() == [49, 49]
    torch.testing.assert_close(found[:, 0], expected[:, :49], rtol=1e-4, atol=1e-3)


def test_a_table_that_was_read_has_the_rows_that_are_added_later():
    rows = PooledRows()
    for number in range(3):
        rows.add(f"u{number}", "clean", torch.full((1, 4, 2), float(number)))
        assert rows.features[:, 0, 0].tolist() == list(range(number + 1))


@pytest.mark.parametrize("order", [1, -1])
def test_the_states_that_are_stored_are_the_most_that_a_task_reads(order):
    tasks = [text_task(features) for features in ("last", "sum", "sum+heads")][::order]
    assert stored_features(tasks) == "sum+heads"
    assert stored_features(task for task in tasks if task.features != "sum+heads") == "sum"
    assert stored_features([]) is None


@pytest.mark.parametrize("order", [1, -1])
def test_one_layer_is_stored_alone_where_all_tasks_read_it_and_in_the_sum_of_all_where_they_do_not(order):
    assert stored_features([text_task(SECOND), text_task(LayerFeatures(layer=2))]) == SECOND
    for other in (LayerFeatures(layer=3), "last", "sum"):
        assert stored_features([text_task(SECOND), text_task(other)][::order]) == "sum"
    assert stored_features([text_task(SECOND), text_task("sum+heads")][::order]) == "sum+heads"


def text_task(features):
    return TextTask("t", CtcTask(kind="ctc", features=features), {}, {}, {}, (), ("a",))


def test_a_split_called_dev_chooses_unless_it_trains_or_tests():
    reader = SimpleNamespace(manifest=SimpleNamespace(splits={"train": (), "dev": (), "test": ()}, name="c"))
    for train, test, dev in (("train", "test", "dev"), ("dev", "test", None), ("train", "dev", None)):
        assert resolved_splits(Splits(train=train, test=test), reader).dev == dev
