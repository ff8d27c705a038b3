"""What evaluation chooses on dev is the best there, on made-up cases whose best is neither the first, nor the last, nor the worst."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from evaluation.config import CtcTask, FramesTask, VerifyTask
from evaluation.data.alignments import AlignedTask, FrameClock
from evaluation.data.labels import LabelGroup, LabelledTask, held_back
from evaluation.data.transcripts import TextTask
from evaluation.data.trials import VerificationTask
from evaluation.features import PooledRows, Scaling, UtteranceFeatures
from evaluation.tasks.classification import INVERSE_STRENGTHS, chosen_probe, chosen_sum, probe_task
from evaluation.tasks.frame_probes import TRIAL_SHARE, FrameClassifier, FrameProbes
from evaluation.tasks.frame_store import FrameStore
from evaluation.tasks.verification import fitted_verifier, trials_eer, verify_task
from evaluation.tasks.weighted_sum import LEARNING_RATES, fitted_sum, run_adam, seeded_thread

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def best_place(scores, *, is_error=False):
    """Where the best of some scores stands: neither first nor last, nor as good as any of these or as the worst."""
    signed = -np.array(scores) if is_error else np.array(scores)
    best = int(np.flatnonzero(signed == signed.max())[0])
    assert 0 < best < len(scores) - 1, scores
    assert signed.max() > max(signed[0], signed[-1], signed.min())
    return best


def two_classes(seed, count, *, features, states=1, wrong=0.0, noise=2.0):
    """Two classes that four features of the first state tell apart, some training labels wrong: it is easy to learn too much."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 2
    rows = rng.standard_normal((count, states, features)) * noise
    rows[:, 0, :4] += (2 * classes - 1)[:, None]
    classes = np.where(rng.random(count) < wrong, 1 - classes, classes)
    return rows.astype(np.float32), np.array(["a", "b"])[classes]


def test_the_strength_of_a_probe_is_the_best_on_dev():
    rows, labels = two_classes(3, 60, features=30, wrong=0.1)
    dev_rows, dev_labels = two_classes(103, 200, features=30)
    rows, dev_rows = rows[:, 0].astype(float), dev_rows[:, 0].astype(float)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    accuracies = []
    for strength in INVERSE_STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit((rows - mean) / deviation, labels)
        accuracies.append(np.mean(model.predict((dev_rows - mean) / deviation) == dev_labels))
    scaling = Scaling.fitted(rows.astype(np.float32))
    probe = chosen_probe(rows.astype(np.float32), labels, scaling, dev_rows=dev_rows, dev_labels=dev_labels)
    assert probe.inverse_strength == INVERSE_STRENGTHS[best_place(accuracies)]


def test_of_equally_good_probes_the_most_regularised_is_taken():
    rows = np.array([[-1.0], [1.0]] * 10, dtype=np.float32)
    labels = np.array(["a", "b"] * 10)
    probe = chosen_probe(rows, labels, Scaling.fitted(rows), dev_rows=rows, dev_labels=labels)
    assert probe.inverse_strength == INVERSE_STRENGTHS[0]


def test_the_learning_rate_of_a_sum_is_the_best_on_dev():
    rows, labels = two_classes(3, 64, features=128, states=2, wrong=0.1)
    dev_rows, dev_labels = two_classes(103, 300, features=128, states=2)
    scaling = Scaling.fitted(rows)
    accuracies = []
    for rate in LEARNING_RATES:
        probe = fitted_sum(rows, labels, scaling, learning_rate=rate, seed=0, probe=0)
        weights, linear = [dict(module.named_parameters()) for module in probe.module]
        shares = weights["weights"].exp() / weights["weights"].exp().sum()
        scaled = (torch.from_numpy(dev_rows).double() - torch.from_numpy(scaling.mean)) * torch.from_numpy(
            scaling.inverse
        )
        logits = (scaled * shares[:, None]).sum(dim=1) @ linear["weight"].double().T + linear["bias"]
        accuracies.append(float(np.mean(np.array(["a", "b"])[logits.argmax(dim=1).numpy()] == dev_labels)))
    found = chosen_sum(rows, labels, scaling, dev_rows=dev_rows, dev_labels=dev_labels, seed=0, probe=0)
    assert found.learning_rate == LEARNING_RATES[best_place(accuracies)]


def table_of(rows, *, members=("clean",)):
    """A table of pooled rows, shape (row, member, ...), by keys u0, u1, ..."""
    table = PooledRows()
    for number, one in enumerate(rows):
        for row, member in zip(one, members, strict=True):
            table.add(f"u{number}", member, torch.from_numpy(np.asarray(row, dtype=np.float32))[..., None, :])
    return table


def test_features_are_scaled_by_clean_rows_whatever_a_probe_is_trained_on():
    """Distorted copies lie far off and are spread far wider; a probe scaled by them would be another one."""
    rng = np.random.default_rng(0)
    labels = {f"u{number}": "ab"[number % 2] for number in range(60)}
    centre = np.where(np.arange(60) % 2, 1.0, -1.0)[:, None]
    clean = rng.standard_normal((60, 6)) + centre * np.r_[1, 1, np.zeros(4)]
    copies = rng.standard_normal((60, 6)) * np.r_[0.3, 3, 30, 1, 1, 1] + centre * np.r_[0.3, 3, 0, 0, 0, 0] + 5
    train = table_of(np.stack([clean, copies], axis=1), members=("clean", "noise-0"))
    test = table_of(
        np.stack([clean[::-1], copies[::-1] + rng.standard_normal((60, 6))], axis=1), members=("clean", "noise-0")
    )
    turned = {f"u{59 - number}": label for number, label in enumerate(labels.values())}
    task = LabelledTask("word", (LabelGroup(labels, {}, turned),), (), probe="distorted")
    members = dict.fromkeys(labels, "noise-0")
    found = probe_task(task, train=train, dev=None, test=test, seed=0, probes=1, members=members)
    back = held_back(labels, seed=0, probe=0)
    is_kept = np.array([key not in back for key in labels])
    names = np.array(list(labels.values()))
    mean, deviation = clean[is_kept].mean(axis=0), clean[is_kept].std(axis=0)
    tried = [
        LogisticRegression(C=strength, max_iter=1000).fit((copies[is_kept] - mean) / deviation, names[is_kept])
        for strength in INVERSE_STRENGTHS
    ]
    scores = [model.score((clean[~is_kept] - mean) / deviation, names[~is_kept]) for model in tried]
    best = int(np.argmax(scores))
    assert found.chosen == (INVERSE_STRENGTHS[best],)
    rows = test.features.astype(float)
    truth = np.array([turned[key] for key in test.keys])
    for condition in ("clean", "noise"):
        chosen = np.array(test.conditions) == condition
        expected = tried[best].score((rows[chosen] - mean) / deviation, truth[chosen])
        [score] = [one for one in found.scores if one.condition == condition]
        assert score.value == pytest.approx(expected, abs=1e-9)


def test_a_task_with_a_dev_split_chooses_there_and_not_on_train():
    rows, labels = two_classes(3, 60, features=30, wrong=0.1)
    dev_rows, dev_labels = two_classes(103, 200, features=30)
    train, dev = table_of(rows), table_of(dev_rows)
    dev.keys[:] = [f"dev-{key}" for key in dev.keys]
    names, dev_names = dict(zip(train.keys, labels, strict=True)), dict(zip(dev.keys, dev_labels, strict=True))
    task = LabelledTask("word", (LabelGroup(names, dev_names, dev_names),), ())
    found = probe_task(task, train=train, dev=dev, test=dev, seed=0, probes=1)
    back = held_back(names, seed=0, probe=0)
    learned = np.array([key not in back for key in train.keys])
    mean, deviation = rows[learned, 0].mean(axis=0), rows[learned, 0].std(axis=0)
    scaled, scaled_dev = (rows[:, 0] - mean) / deviation, (dev_rows[:, 0] - mean) / deviation
    tried = [
        LogisticRegression(C=strength, max_iter=1000).fit(scaled[learned], labels[learned])
        for strength in INVERSE_STRENGTHS
    ]
    best = int(np.argmax([model.score(scaled_dev, dev_labels) for model in tried]))
    for rest in (learned, ~learned):  # what is learned, and what is held back, would choose another
        assert int(np.argmax([model.score(scaled[rest], labels[rest]) for model in tried])) != best
    assert found.chosen == (INVERSE_STRENGTHS[best],)


def test_the_majority_rate_is_that_of_the_commonest_training_label():
    train = {f"u{number}": "ab"[number % 3 == 0] for number in range(9)}
    task = LabelledTask("word", (LabelGroup(train, {}, {"u0": "a", "u1": "b", "u2": "b", "u3": "b"}),), ())
    rows = table_of(np.random.default_rng(0).standard_normal((9, 1, 3)))
    found = probe_task(task, train=rows, dev=None, test=rows, seed=0, probes=1)
    [majority] = [score for score in found.scores if score.measure == "majority"]
    assert (majority.value, majority.count) == (0.25, 4)  # `a` six of nine times in train, once in four in test


def test_each_probe_on_a_sum_has_a_seed_of_its_own_and_of_the_evaluation():
    """No label has two utterances, so there is nothing to choose on and each probe is fitted once."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((12, 2, 8)).astype(np.float32)
    near = rows + 1.5 * rng.standard_normal(rows.shape).astype(np.float32)
    named = {f"u{number}": f"w{number}" for number in range(12)}
    task = LabelledTask("word", (LabelGroup(named, {}, named),), (), features="sum")
    train, test = table_of(rows[:, None]), table_of(near[:, None])
    answered = [probe_task(task, train=train, dev=None, test=test, seed=seed, probes=2).outcomes for seed in (0, 1)]
    assert answered[0][0] != answered[0][1]
    assert answered[0] != answered[1]


SEED = 8  # of a case in which clean and distorted trials of training speakers choose differently


def speakers_of(seed, count, *, each=6, features=40, copies=False):
    """Pooled rows of some speakers, shape (row, member, state, feature), and who speaks; a copy is moved and blurred."""
    rng = np.random.default_rng(seed)
    voices = np.zeros((count, features))
    voices[:, :6] = rng.standard_normal((count, 6))
    spread = 2.0 * np.r_[np.full(6, 0.5), np.ones(features - 6)]
    clean = np.repeat(voices, each, axis=0) + spread * rng.standard_normal((count * each, features))
    rows = [clean, clean * np.linspace(0.2, 5, features) + 3 * rng.standard_normal(clean.shape) + 4]
    labels = {f"u{number}": f"{seed}-{number // each}" for number in range(count * each)}
    return np.stack(rows if copies else rows[:1], axis=1)[:, :, None].astype(np.float32), labels


def pairs_of(labels):
    """Every pair of utterances."""
    keys = list(labels)
    return tuple((one, other) for number, one in enumerate(keys) for other in keys[number + 1 :])


def slow_eer(same, scores):
    """Where the two error rates cross, on the straight line between two thresholds, found by a fine search."""
    wrong, right, _ = roc_curve(same, scores, drop_intermediate=False)
    place = np.linspace(0, len(wrong) - 1, 200_001)
    accepted, rejected = (np.interp(place, np.arange(len(wrong)), one) for one in (wrong, 1 - right))
    return float(accepted[np.argmin(np.abs(accepted - rejected))])


def embedded_by(probe, rows, scaling):
    """Unit vectors by hand: scaled, summed, mapped."""
    weights, linear = (dict(module.named_parameters()) for module in probe.module)
    shares = (weights["weights"].exp() / weights["weights"].exp().sum()).detach().numpy()
    vectors = ((rows - scaling.mean) * scaling.inverse * shares[:, None]).sum(axis=1) @ linear[
        "weight"
    ].detach().numpy().T
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def eer_by(vectors, enrolled, labels, pairs):
    """EER of pairs: the first against the enrolled second."""
    number = {key: place for place, key in enumerate(labels)}
    same = np.array([labels[one] == labels[other] for one, other in pairs])
    return slow_eer(same, np.array([vectors[number[one]] @ enrolled[number[other]] for one, other in pairs]))


def verifiers_of(rows, names, scaling):
    """One of each learning rate."""
    labels = np.array(names)
    return [fitted_verifier(rows, labels, scaling, learning_rate=rate, seed=0, probe=0) for rate in LEARNING_RATES]


def clean_scaling(train):
    clean = train[:, 0].astype(float)
    return Scaling(clean.mean(axis=0), 1 / clean.std(axis=0))


def check_scores(found, probe, test, names, scaling):
    """EER of each condition, every tested copy against the clean wave of the other."""
    pairs = pairs_of(names)
    clean, noise = (embedded_by(probe, test[:, member], scaling) for member in range(2))
    values = {score.condition: (score.value, score.count) for score in found.scores}
    assert values["clean"] == (pytest.approx(eer_by(clean, clean, names, pairs), abs=1e-4), len(pairs))
    assert values["noise"] == (pytest.approx(eer_by(noise, clean, names, pairs), abs=1e-4), len(pairs))
    assert abs(values["clean"][0] - values["noise"][0]) > 0.01


def test_verification_takes_the_learning_rate_that_is_best_on_dev_trials():
    train, names = speakers_of(2, 6)
    dev, dev_names = speakers_of(52, 8)
    test, test_names = speakers_of(77, 4, copies=True)
    pairs, dev_pairs = pairs_of(test_names), pairs_of(dev_names)
    task = VerificationTask("who", VerifyTask(kind="verify"), names, dev_names, test_names, (), pairs, dev_pairs)
    table = table_of(test, members=("clean", "noise-0"))
    found = verify_task(task, train=table_of(train), dev=table_of(dev), test=table, seed=0, probes=1)
    scaling = clean_scaling(train)
    tried = verifiers_of(train[:, 0], list(names.values()), scaling)
    vectors = [embedded_by(probe, dev[:, 0], scaling) for probe in tried]
    best = best_place([eer_by(one, one, dev_names, dev_pairs) for one in vectors], is_error=True)
    assert found.chosen == (LEARNING_RATES[best],)
    check_scores(found, tried[best], test, test_names, scaling)


def test_without_dev_verification_is_chosen_on_clean_trials_though_it_is_trained_on_copies():
    train, names = speakers_of(SEED, 8, each=4, copies=True)
    held = {f"{SEED}-{number}" for number in range(4)}
    test, test_names = speakers_of(77, 4, copies=True)
    dev_pairs = pairs_of({key: name for key, name in names.items() if name in held})
    task = VerificationTask(
        "who", VerifyTask(kind="verify"), names, {}, test_names, (), pairs_of(test_names), dev_pairs
    )
    both = ("clean", "noise-0")
    found = verify_task(
        task, train=table_of(train[:, [0, 1, 1, 1, 1]], members=("clean", *(f"noise-{n}" for n in range(4)))), dev=None, test=table_of(test, members=both), seed=0, probes=1,
        members=dict.fromkeys(names, "noise-0"),
    )  # fmt: skip
    scaling = clean_scaling(train)
    labels = np.array(list(names.values()))
    is_learnt = ~np.isin(labels, list(held))
    errors = []
    for probe in verifiers_of(train[is_learnt, 1], labels[is_learnt], scaling):
        clean, copies = (embedded_by(probe, train[:, member], scaling) for member in range(2))
        errors.append((eer_by(clean, clean, names, dev_pairs), eer_by(copies, clean, names, dev_pairs)))
    by_clean, by_copies = np.argmin(errors, axis=0)
    assert by_clean != by_copies, errors  # or this tells nothing
    assert found.chosen == (LEARNING_RATES[by_clean],)
    rate = LEARNING_RATES[by_clean]
    check_scores(
        found,
        fitted_verifier(train[:, 1], labels, scaling, learning_rate=rate, seed=0, probe=0),
        test,
        test_names,
        scaling,
    )


FEATURES, FRAMES = 48, 12
CLOCK = FrameClock(320, 400, 16000)


def spoken(seed, count, folder, role):
    """Texts of four units and their frames, three a unit: the unit stands in one of 48 features, all of them noisy."""
    rng = np.random.default_rng(seed)
    store, texts = FrameStore(folder / role, "last"), {}
    for number in range(count):
        units = []
        while len(units) < 4:
            unit = "abc"[rng.integers(3)]
            units += [unit] if not units or unit != units[-1] else []
        frames = rng.standard_normal((1, FRAMES, FEATURES))
        for frame in range(FRAMES):
            frames[0, frame, "abc".index(units[frame // 3])] += 2.0
        texts[f"{role}-{number}"] = tuple(units)
        store.add(
            UtteranceFeatures(f"{role}-{number}", 1.0, {"clean": torch.from_numpy(frames.astype(np.float32))}), "clean"
        )
    store.close()
    return texts, store


def plain_scaling():
    return Scaling(np.zeros((1, FEATURES)), np.ones((1, FEATURES)))


def slow_edits(first, second):
    table = np.add.outer(np.arange(len(first) + 1), np.arange(len(second) + 1))
    for row in range(1, len(first) + 1):
        for column in range(1, len(second) + 1):
            change = table[row - 1, column - 1] + (first[row - 1] != second[column - 1])
            table[row, column] = min(change, table[row - 1, column] + 1, table[row, column - 1] + 1)
    return int(table[-1, -1])


def written(reader, frames):
    """What a reader writes, frame by frame: the likeliest class, repeats once, blanks (class 0) left out."""
    with torch.no_grad():
        classes = reader(frames.transpose(0, 1)[None], [FRAMES])[0].argmax(dim=-1).tolist()
    return ["_abc"[one] for number, one in enumerate(classes) if one and (number == 0 or classes[number - 1] != one)]


def test_ctc_takes_the_learning_rate_that_is_best_on_dev_and_counts_edits_over_the_reference(tmp_path):
    train, store = spoken(3, 8, tmp_path, "train")
    dev, dev_store = spoken(53, 20, tmp_path, "dev")
    test, test_store = spoken(99, 6, tmp_path, "test")
    task = TextTask("t", CtcTask(kind="ctc", updates=150), train, dev, test, (), ("a", "b", "c"))
    members = dict.fromkeys(train, "clean")
    errors = {"train": [], "dev": []}
    probes = FrameProbes(task, plain_scaling(), 1, CLOCK)
    probes.fit(store, dev_store, members=members, seed=0, probes=1)
    for rate in LEARNING_RATES:
        reader = probes.trained(keyed_like(train), store, members, rate=rate, seed=0, probe=0, share=TRIAL_SHARE)
        for role, texts, states in (("train", train, store), ("dev", dev, dev_store)):
            edits = [
                slow_edits(text, written(reader, states.states(key, "clean", "last", num_layers=1)))
                for key, text in texts.items()
            ]
            errors[role].append(sum(edits) / (4 * len(texts)))
    best = best_place(errors["dev"], is_error=True)
    assert int(np.argmin(errors["train"])) != best  # what is best on train is another
    assert probes.learning_rate == LEARNING_RATES[best]
    [reader] = probes.probes
    for key in test:
        probes.test(UtteranceFeatures(key, 1.0, {"clean": test_store.states(key, "clean", "last", num_layers=1)}))
    expected = {
        (key, "clean"): (slow_edits(text, written(reader, test_store.states(key, "clean", "last", num_layers=1))), 4)
        for key, text in test.items()
    }
    assert probes.outcomes["cer", 0] == expected
    assert probes.outcomes["wer", 0] == {place: (float(edits > 0), 1.0) for place, (edits, _) in expected.items()}


def test_each_frame_probe_begins_and_is_fed_by_a_seed_of_its_own(tmp_path):
    train, store = spoken(3, 8, tmp_path, "train")
    task = TextTask("t", CtcTask(kind="ctc", updates=6), train, {}, train, (), ("a", "b", "c"))
    members = dict.fromkeys(train, "clean")
    probes = FrameProbes(task, plain_scaling(), 1, CLOCK)
    probes.fit(store, None, members=members, seed=0, probes=3)
    weights = [probe.output.weight for probe in probes.probes]
    for number, found in enumerate(weights):
        again = probes.trained(
            keyed_like(train), store, members, rate=probes.learning_rate, seed=0, probe=number, share=1
        )
        assert torch.equal(found, again.output.weight)
        assert all(not torch.allclose(found, other, atol=1e-2) for other in weights[:number])


def keyed_like(texts):
    """Training keys in the order by hash that batches are drawn from."""
    from hashlib import sha256

    return sorted(texts, key=lambda key: sha256(f"0\x1fframes\x1f{key}".encode()).digest())


class Scripted(torch.nn.Module):
    """A reader that answers with the class that its first feature names."""

    def forward(self, states, lengths):
        return torch.nn.functional.one_hot(states[..., 0, 0].round().long(), 3).float()


def test_an_error_rate_is_edits_of_a_text_and_wrong_frames_of_an_alignment(tmp_path):
    store = FrameStore(tmp_path / "dev", "last")
    states = torch.zeros(1, 5, 2)
    states[0, :, 0] = torch.tensor([0.0, 1, 1, 2, 1])
    store.add(UtteranceFeatures("u", 1.0, {"clean": states}), "clean")
    scaling = Scaling(np.zeros((1, 2)), np.ones((1, 2)))
    segments = ((0.0, 0.1, "a"), (0.1, 0.2, "b"))
    clock = FrameClock(640, 640, 16000)  # frames in the middle of 0 to 40 ms, 40 to 80 ms, ...
    task = AlignedTask("t", FramesTask(kind="frames"), {}, {"u": segments}, {}, (), ("a", "b"))
    # the truth is a a (100 ms:) b b b, the reader says a b b c b
    assert FrameProbes(task, scaling, 1, clock).error_rate(Scripted(), ["u", "gone"], store, role="dev") == 2 / 5
    text = TextTask("t", CtcTask(kind="ctc"), {}, {"u": ("b", "b", "a")}, {}, (), ("a", "b"))
    # written is a b a for the classes 1, 2, 1
    assert FrameProbes(text, scaling, 1, clock).error_rate(Scripted(), ["u"], store, role="dev") == 1 / 3


def test_a_frame_probe_on_distorted_speech_learns_the_copies(tmp_path):
    """Clean frames tell nothing; the copies tell the phone once they are scaled, and are judged as they were learned."""
    rng = np.random.default_rng(0)
    store = FrameStore(tmp_path / "train", "last")
    segments, copies = {}, {}
    for number in range(12):
        names = rng.permutation(["a", "b"] * 5)
        segments[f"u{number}"] = tuple((0.02 * n, 0.02 * (n + 1), str(name)) for n, name in enumerate(names))
        copy = torch.zeros(1, 10, 4)
        copy[0, :, 0] = torch.tensor([9.0 if name == "a" else 1.0 for name in names])
        copies[f"u{number}"] = {
            "clean": torch.from_numpy(rng.standard_normal((1, 10, 4)).astype(np.float32)) * 4 + 5,
            "noise-0": copy,
        }
        for member in ("clean", "noise-0"):
            store.add(UtteranceFeatures(f"u{number}", 1.0, copies[f"u{number}"]), member)
    task = AlignedTask("t", FramesTask(kind="frames", probe="distorted"), segments, {}, segments, (), ("a", "b"))
    probes = FrameProbes(task, Scaling(np.full((1, 4), 5.0), np.full((1, 4), 0.25)), 1, FrameClock(320, 320, 16000))
    reader = probes.trained(
        list(segments), store, dict.fromkeys(segments, "noise-0"), rate=1e-2, seed=0, probe=0, share=TRIAL_SHARE
    )
    probes.probes = [reader]
    for key, frames in copies.items():
        probes.test(UtteranceFeatures(key, 1.0, frames))
    answered = probes.outcomes["accuracy", 0]
    assert all(answered[key, "noise-0"] == (10.0, 10.0) for key in copies)
    assert sum(answered[key, "clean"][0] for key in copies) < 100


def test_a_recurrent_head_does_not_read_the_padding_of_a_batch():
    torch.manual_seed(0)
    reader = FrameClassifier(1, 3, 4, is_recurrent=True).eval()
    short, long = torch.randn(4, 1, 3), torch.randn(9, 1, 3)
    with torch.no_grad():
        alone = reader(short[None], [4])[0]
        together = reader(torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True), [4, 9])[0, :4]
    assert torch.allclose(alone, together, atol=1e-6)


def test_a_text_that_is_longer_than_its_frames_is_no_endless_loss():
    task = TextTask("t", CtcTask(kind="ctc"), {"u": ("a", "b", "a")}, {}, {}, (), ("a", "b"))
    loss = FrameProbes(task, plain_scaling(), 1, CLOCK).loss(torch.zeros(1, 2, 3), [2], ["u"])
    assert float(loss) == 0.0


def test_a_gradient_probe_is_the_same_whatever_was_drawn_before():
    def weights():
        with seeded_thread(3, "a", 0) as generator:
            return torch.nn.Linear(3, 2).weight.detach(), torch.rand(4, generator=generator)

    first = weights()
    torch.manual_seed(99)
    assert all(map(torch.equal, first, weights()))


def test_a_loss_that_is_not_finite_ends_the_updates_and_spoils_no_weight():
    module = torch.nn.Linear(2, 1)
    losses = iter([1.0, math.nan, 1.0])
    run_adam(module, lambda: next(losses) * module(torch.ones(1, 2)).sum(), learning_rate=0.1, updates=3)
    assert bool(torch.isfinite(module.weight).all())
    assert next(losses) == 1.0, "no update after it"


def test_a_step_of_a_probe_has_a_gradient_of_length_five_at_most(monkeypatch):
    lengths = []
    step = torch.optim.Adam.step

    def seen(self, *given, **named):
        lengths.append(float(self.param_groups[0]["params"][0].grad.norm()))
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.Adam, "step", seen)
    module = torch.nn.Linear(4, 1, bias=False)
    for scale in (1.0, 100.0):
        run_adam(module, lambda scale=scale: scale * module(torch.ones(1, 4)).sum(), learning_rate=1e-3, updates=1)
    assert lengths == pytest.approx([2.0, 5.0], rel=1e-3)


def test_the_loss_of_frames_leaves_out_padding_and_frames_without_a_phone():
    segments = {
        "u": ((0.0, 0.04, "a"), (0.04, 0.08, "b"), (0.1, 0.2, "b")),
        "v": ((0.0, 0.2, "a"),),
        "w": ((0.3, 0.4, "a"),),
    }
    task = AlignedTask("t", FramesTask(kind="frames"), segments, {}, {}, (), ("a", "b"))
    probes = FrameProbes(task, plain_scaling(), 1, FrameClock(320, 320, 16000))  # frames of 20 ms
    logits = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0))
    shares = logits.log_softmax(-1)
    # of u two frames of a, two of b, none, then one of b; of v, which is shorter, four of a
    known = [*(shares[0, frame, label] for frame, label in ((0, 0), (1, 0), (2, 1), (3, 1), (5, 1))), *shares[1, :4, 0]]
    assert float(probes.loss(logits, [6, 4], ["u", "v"])) == pytest.approx(-float(sum(known)) / 9, rel=1e-5)
    assert float(probes.loss(logits[1:, :4], [4], ["v"])) == pytest.approx(-float(shares[1, :4, 0].mean()), rel=1e-5)
    assert float(probes.loss(logits, [6, 6], ["w", "w"])) == 0.0


def test_what_has_no_rows_is_answered_without_any():
    rows, labels = two_classes(3, 8, features=4)
    probe = fitted_sum(rows, labels, Scaling.fitted(rows), learning_rate=1e-2, seed=0, probe=0)
    assert len(probe.predictions(rows[:0])) == 0
    trial = (("a", "clean"), ("b", "clean"), True, 0.5)
    assert trials_eer([trial]) == trials_eer([(*trial[:2], False, 0.5)]) == trials_eer([]) == 0.5
    assert trials_eer([trial, (*trial[:2], False, 0.4)]) == 0.0
