"""CKA, rank, variance and retrieval against slow or rival implementations; a constant model wins none of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import linear_kernel

from evaluation import extraction
from evaluation.data.utterances import ListedUtterance
from evaluation.features import Scaling, UtteranceFeatures
from evaluation.measures import teacher_agreement
from evaluation.measures.cka import Energy, Products, Similarity, effective_rank, evenly_spaced
from evaluation.measures.frame_cosine import FrameCosine
from evaluation.measures.retrieval import QUERIES, PoolFrames, Retrieval, RetrievalPlan, plan_retrieval
from evaluation.measures.teacher_agreement import teacher_frames
from evaluation.model_scores import cosine_scores, similarity_scores

LAYERS, FRAMES, FEATURES = 3, 40, 6


def gram_cka(first, second):
    """CKA by centred Gram matrices (Hilbert-Schmidt), as the paper first writes it."""
    centre = np.eye(len(first)) - 1 / len(first)
    grams = [centre @ linear_kernel(one) @ centre for one in (first, second)]
    return np.trace(grams[0] @ grams[1]) / np.sqrt(np.trace(grams[0] @ grams[0]) * np.trace(grams[1] @ grams[1]))


def random_frames(seed, *, layers=LAYERS, frames=FRAMES, mean=0.0):
    return torch.randn(layers, frames, FEATURES, generator=torch.Generator().manual_seed(seed)) + mean


def plain_scaling():
    return Scaling(np.zeros((LAYERS, FEATURES)), np.ones((LAYERS, FEATURES)))


def cka(first, second):
    products = Products()
    products.add(torch.from_numpy(first)[None], torch.from_numpy(second)[None])
    return products.cka(0)


def test_linear_cka_is_that_of_gram_matrices():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((200, 12)) + 3
    second = first @ rng.standard_normal((12, 7)) + rng.standard_normal((200, 7))
    assert cka(first, second) == pytest.approx(gram_cka(first, second), abs=1e-9)
    assert cka(first, first * 5 - 2) == pytest.approx(1.0, abs=1e-12)
    rotation, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    assert cka(first @ rotation, second) == pytest.approx(cka(first, second), abs=1e-9)
    assert cka(first, np.full((200, 7), 3.0)) == 0.0


def test_sums_of_products_give_the_same_cka_piece_by_piece():
    first, second = random_frames(1, mean=2.0), random_frames(2) + 0.5 * random_frames(1)
    products = Products()
    for piece in (slice(0, 1), slice(1, 17), slice(17, FRAMES)):
        products.add(first[:, piece], second[:, piece])
    for layer in range(LAYERS):
        expected = gram_cka(first[layer].double().numpy(), second[layer].double().numpy())
        assert products.cka(layer) == pytest.approx(expected, abs=1e-6)


def test_one_layer_of_a_teacher_stands_beside_every_layer_of_a_student():
    teacher, student = random_frames(1, layers=1), random_frames(2)
    products = Products()
    products.add(teacher, student)
    for layer in range(LAYERS):
        expected = gram_cka(teacher[0].double().numpy(), student[layer].double().numpy())
        assert products.cka(layer) == pytest.approx(expected, abs=1e-6)


def test_effective_rank_counts_the_dimensions_that_are_used():
    assert effective_rank(np.diag([4.0, 4.0, 4.0, 0.0])) == pytest.approx(3.0)
    assert effective_rank(np.diag([9.0, 0.0])) == pytest.approx(1.0)
    assert effective_rank(np.zeros((3, 3))) == 0.0
    shares = np.array([3.0, 1.0]) / 4.0  # singular values 3 and 1
    assert effective_rank(np.diag([9.0, 1.0])) == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))


def test_variance_is_the_share_of_energy_that_varies():
    frames = random_frames(3, mean=1.5)
    energy = Energy()
    energy.add(frames[:, :10])
    energy.add(frames[:, 10:])
    wide = frames.double().numpy()
    expected = wide.var(axis=1).sum(axis=-1) / (wide**2).mean(axis=1).sum(axis=-1)
    np.testing.assert_allclose(energy.varying_share(), expected, rtol=1e-9)
    constant = Energy()
    constant.add(torch.full((LAYERS, FRAMES, FEATURES), 2.5))
    np.testing.assert_allclose(constant.varying_share(), 0.0, atol=1e-12)
    silent, rounded = Energy(), Energy()
    silent.add(torch.zeros(LAYERS, FRAMES, FEATURES))
    assert silent.varying_share().tolist() == [0.0] * LAYERS
    rounded.add(torch.linspace(0.1, 1.3, 70, dtype=torch.float64)[:, None, None].expand(70, 49, FEATURES))
    assert rounded.varying_share().min() == 0.0, "a share is never negative, whatever is lost in rounding"


@pytest.mark.parametrize(
    ("widths", "kind"), [((512, 512), torch.float64), ((3, 513), torch.float32), ((513, 3), torch.float32)]
)
def test_sums_of_wide_features_are_in_single_precision(widths, kind):
    products = Products()
    products.add(*(torch.ones(1, 2, width) for width in widths))
    sums = (products.first, products.second, products.first_first, products.first_second, products.second_second)
    assert {one.dtype for one in sums} == {kind}


def test_of_a_long_utterance_the_same_frames_are_taken_of_clean_copy_and_teacher():
    scaling = shifted_scaling()
    clean, copy = random_frames(1, mean=2.0), random_frames(2, mean=2.0) + 0.5 * random_frames(1)
    teacher = random_frames(3, layers=1, frames=4)[0]
    similarity = Similarity(scaling, 4, {"a": teacher})
    similarity.add(UtteranceFeatures("a", 1.0, {"clean": clean, "noise-0": copy}))
    similarity.add(UtteranceFeatures("gone", 1.0, {"clean": clean[:, :3], "noise-0": copy[:, :3]}))
    taken = [0, 13, 26, 39]
    raw = np.concatenate([copy[:, taken].numpy(), copy[:, :3].numpy()], axis=1).astype(float)
    kept = np.concatenate([clean[:, taken].numpy(), clean[:, :3].numpy()], axis=1).astype(float)
    shares = raw.var(axis=1).sum(axis=-1) / (raw**2).mean(axis=1).sum(axis=-1)
    np.testing.assert_allclose(similarity.energy["noise"].varying_share(), shares, rtol=1e-6)
    pairs, agreement = similarity.pairs["noise"], similarity.agreement["noise"]
    assert (pairs.count, agreement.count) == (7, 4), "the teacher has no frames of the other"
    for layer in range(LAYERS):
        x, y = ((one[layer] - 2.0) * scaling.inverse[layer] for one in (kept, raw))
        assert pairs.cka(layer) == pytest.approx(gram_cka(x, y), abs=1e-4)
        assert agreement.cka(layer) == pytest.approx(gram_cka(teacher.double().numpy(), y[:4]), abs=1e-4)


def test_a_constant_model_has_no_cka_no_rank_and_no_variance():
    scaling = Scaling.from_moments(np.full((LAYERS, FEATURES), 2.5), np.full((LAYERS, FEATURES), 1e-9))
    similarity = Similarity(scaling, 100)
    flat = torch.full((LAYERS, FRAMES, FEATURES), 2.5) * (1 + 1e-7 * random_frames(4))
    similarity.add(UtteranceFeatures("a", 1.0, {"clean": flat, "noise-0": flat.flip(1)}))
    for layer in range(LAYERS):
        assert similarity.pairs["noise"].cka(layer) == 0.0
        assert effective_rank(similarity.pairs["noise"].covariances(layer)[2]) == 0.0
    assert max(similarity.energy["noise"].varying_share()) < 1e-9


def test_frames_are_spread_over_an_utterance():
    assert evenly_spaced(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(101, 3).tolist() == [0, 50, 100]
    assert evenly_spaced(7, 1).tolist() == [0]
    assert evenly_spaced(6, 4).tolist() == [0, 2, 3, 5]  # 0, 1.67, 3.33 and 5: the nearest
    assert evenly_spaced(0, 3).tolist() == []


def listed(key, speaker, num_samples):
    class Sample:
        pass

    sample = Sample()
    sample.id, sample.speaker, sample.num_samples, sample.sample_rate = key, speaker, num_samples, 16000
    return ListedUtterance(sample, "")


def plan(entries, **changes):
    given = {"num_frames": lambda n: n // 320, "bytes_a_frame": 4, "num_conditions": 2, "seed": 0, **changes}
    return plan_retrieval(entries, **given)


def test_a_pool_is_1000_frames_of_one_speaker():
    entries = {f"{speaker}{n}": listed(f"{speaker}{n}", speaker, 320 * 150) for speaker in "ab" for n in range(10)}
    entries |= {"c0": listed("c0", "c", 320 * 150)}
    found = plan(entries)
    assert found.sizes == (1000, 1000)  # c has too few frames
    for pool in range(2):
        own = {key: places for key, places in found.frames.items() if places.pool == pool}
        assert len({key[0] for key in own}) == 1
        slots = np.concatenate([places.slots for places in own.values()])
        assert sorted(slots) == list(range(1000))
        assert all(
            places.frames.max() < 150 and len(set(places.frames)) == len(places.frames) for places in own.values()
        )
    shuffled = plan(dict(sorted(entries.items(), reverse=True)))
    assert {key: places.pool for key, places in shuffled.frames.items()}.keys() == found.frames.keys()


def test_pools_are_limited_by_memory_and_a_small_corpus_has_a_small_pool():
    entries = {f"{speaker}0": listed(f"{speaker}0", speaker, 320 * 1200) for speaker in "abcdefgh"}
    assert len(plan(entries).sizes) == 8
    assert len(plan(entries, bytes_a_frame=100_000).sizes) == 2
    assert plan({"a0": listed("a0", "a", 320 * 30), "b0": listed("b0", "b", 320 * 20)}).sizes == (30,)


def retrieved(clean, copy):
    frames = clean.shape[1]
    order = np.arange(frames)
    retrieval = Retrieval(RetrievalPlan({"a": PoolFrames(0, order, order)}, (frames,)), plain_scaling())
    retrieval.add(UtteranceFeatures("a", 1.0, {"clean": clean, "noise-0": copy, "noise-1": copy}))
    return retrieval.shares("noise")


def test_retrieval_agrees_with_a_table_of_distances():
    clean = random_frames(5, frames=150)
    copy = clean + 0.8 * random_frames(6, frames=150)
    shares, count = retrieved(clean, copy)
    assert count == QUERIES
    for layer in range(LAYERS):
        distance = cdist(copy[layer, :QUERIES].double(), clean[layer].double(), metric="cosine")
        assert shares[layer] == pytest.approx(np.mean(distance.argmin(axis=1) == np.arange(QUERIES)))
    assert 0.0 < shares.min() < shares.max() < 1.0


def test_what_is_not_moved_is_found_and_what_has_collapsed_is_not():
    clean = random_frames(7)
    np.testing.assert_array_equal(retrieved(clean, clean)[0], 1.0)
    flat = torch.zeros_like(clean)
    np.testing.assert_array_equal(retrieved(flat, flat)[0], 0.0)
    same = clean[:, :1].expand(-1, FRAMES, -1)
    np.testing.assert_array_equal(retrieved(same, same)[0], 0.0)  # a tie is no find
    assert retrieved(clean, clean)[1] == FRAMES


def shifted_scaling():
    return Scaling(np.full((LAYERS, FEATURES), 2.0), np.tile(np.geomspace(0.1, 10, FEATURES), (LAYERS, 1)))


def test_retrieval_compares_features_that_are_scaled():
    scaling = shifted_scaling()
    clean = random_frames(5, frames=150, mean=2.0)
    copy = clean + 0.8 * random_frames(6, frames=150)
    order = np.arange(150)
    retrieval = Retrieval(RetrievalPlan({"a": PoolFrames(0, order, order)}, (150,)), scaling)
    retrieval.add(UtteranceFeatures("a", 1.0, {"clean": clean, "noise-0": copy}))
    for layer in range(LAYERS):
        scaled = [((one[layer].double().numpy() - 2.0) * scaling.inverse[layer]) for one in (copy[:, :QUERIES], clean)]
        nearest = cdist(*scaled, metric="cosine").argmin(axis=1)
        assert retrieval.shares("noise")[0][layer] == pytest.approx(np.mean(nearest == np.arange(QUERIES)))
        raw = cdist(copy[layer, :QUERIES].double(), clean[layer].double(), metric="cosine").argmin(axis=1)
        assert np.mean(raw == np.arange(QUERIES)) != retrieval.shares("noise")[0][layer]


def test_each_conditions_scores_are_of_its_own_frames():
    """CKA, agreement, rank and variance of three utterances against a slow calculation over all their frames."""
    scaling = shifted_scaling()
    teacher = {key: random_frames(20 + number, layers=1)[0] for number, key in enumerate("abc")}
    similarity = Similarity(scaling, 1000, teacher)
    frames = {"clean": [], "noise": []}
    for number, key in enumerate("abc"):
        clean = random_frames(number, mean=2.0) * torch.linspace(0.5, 2, FEATURES)
        copy = clean + 1.5 * random_frames(10 + number) * torch.tensor([3.0, 1, 0, 0, 0, 0])
        similarity.add(UtteranceFeatures(key, 1.0, {"clean": clean, "noise-0": copy}))
        frames["clean"].append(clean)
        frames["noise"].append(copy)
    scores = similarity_scores(similarity, measures=("cka", "agreement"))
    values = {(score.measure, score.condition, score.layer): score.value for score in scores}
    assert {score.count for score in scores} == {3 * FRAMES}
    assert not [one for one in values if one[:2] == ("cka", "clean")]
    target = torch.cat([teacher[key] for key in "abc"]).double().numpy()
    for layer in range(LAYERS):
        raw = {name: torch.cat([one[layer] for one in found]).double().numpy() for name, found in frames.items()}
        scaled = {name: (one - scaling.mean[layer]) * scaling.inverse[layer] for name, one in raw.items()}
        assert values["cka", "noise", layer + 1] == pytest.approx(gram_cka(scaled["clean"], scaled["noise"]), abs=1e-5)
        for name in ("clean", "noise"):
            singular = np.linalg.svd(scaled[name] - scaled[name].mean(axis=0), compute_uv=False)
            shares = singular / singular.sum()
            assert values["rank", name, layer + 1] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-4)
            share = raw[name].var(axis=0).sum() / (raw[name] ** 2).mean(axis=0).sum()
            assert values["variance", name, layer + 1] == pytest.approx(share, rel=1e-5)
            assert values["agreement", name, layer + 1] == pytest.approx(gram_cka(target, scaled[name]), abs=1e-5)


def test_a_copy_is_near_its_own_clean_wave_and_not_that_of_another_utterance():
    cosine = FrameCosine(plain_scaling())
    for number in range(3):
        clean = random_frames(number)
        cosine.add(
            UtteranceFeatures(str(number), 1.0, {"clean": clean, "noise-0": clean + 0.1 * random_frames(9 + number)})
        )
    values = {(one.measure, one.condition, one.layer): (one.value, one.count) for one in cosine_scores(cosine)}
    for layer in range(1, LAYERS + 1):
        assert values["cosine", "noise", layer] == (pytest.approx(0.99, abs=0.02), 3 * FRAMES)
        assert values["mismatched", "noise", layer] == (pytest.approx(0.0, abs=0.2), 2 * FRAMES)


def test_pools_and_their_frames_are_drawn_by_the_seed():
    entries = {f"{speaker}0": listed(f"{speaker}0", speaker, 320 * 1200) for speaker in "abcdefgh"}
    plans = [plan(entries, seed=seed, bytes_a_frame=200_000) for seed in range(6)]
    assert {len(found.sizes) for found in plans} == {1}
    assert len({key for found in plans for key in found.frames}) > 1, "not always the speaker whose name is first"
    slots = [tuple(plan({"a0": entries["a0"]}, seed=seed).frames["a0"].frames) for seed in range(2)]
    assert slots[0] != slots[1]


def test_student_and_teacher_give_the_same_frames_however_many_are_taken(monkeypatch, tmp_path):
    """Of three utterances six frames in all are two each."""
    taken = [UtteranceFeatures(key, 1.0, {"clean": random_frames(number)}) for number, key in enumerate("abc")]
    monkeypatch.setattr(teacher_agreement, "MOST_FRAMES", 6)
    monkeypatch.setattr(teacher_agreement, "utterances", lambda *_, **__: ())
    monkeypatch.setattr(teacher_agreement, "features_of", lambda *_: taken)
    dataset = SimpleNamespace(
        test=dict.fromkeys("abc"), reference="abc", conditions=(), splits=SimpleNamespace(train="", test="")
    )
    teacher = teacher_frames(None, dataset=dataset, config=SimpleNamespace(corpus=""))
    assert {key: len(frames) for key, frames in teacher.items()} == {"a": 2, "b": 2, "c": 2}
    monkeypatch.setattr(extraction, "MOST_FRAMES", 6)
    tables = extraction.empty_features((), scratch=tmp_path)
    tables.moments.add(random_frames(0))
    encoder = SimpleNamespace(
        num_layers=LAYERS, config=SimpleNamespace(num_frames=lambda n: n // 320), sample_rate=16000
    )
    setup = SimpleNamespace(dataset=dataset, config=SimpleNamespace(measures=("agreement",), seed=0), tasks=())
    extraction.prepare_test(tables, SimpleNamespace(encoder=encoder, teacher=teacher), setup)
    assert tables.similarity.frames_each == 2


def test_pools_are_full_from_a_thousand_frames_on_and_as_many_as_memory_has_room_for_with_their_queries():
    entries = {
        f"{speaker}0": listed(f"{speaker}0", speaker, 320 * frames) for speaker, frames in (("a", 1000), ("b", 999))
    }
    assert set(plan(entries).frames) == {"a0"}
    assert plan(entries).sizes == (1000,)
    equal = {f"{speaker}0": listed(f"{speaker}0", speaker, 320 * 50) for speaker in "cba"} | {
        "d0": listed("d0", "d", 320 * 40)
    }
    assert set(plan(equal).frames) == {"a0"}, "of speakers with too few the one with most, of equals the first by name"
    many = {f"{number}": listed(f"{number}", f"s{number}", 320 * 1000) for number in range(20)}
    assert len(plan(many).sizes) == 16
    room = 256 << 20
    for conditions, bytes_a_frame in (
        (4, room // 3500),
        (1, room // 2750),
    ):  # 2.5 pools of 1000 frames and 100 queries a condition
        assert len(plan(many, num_conditions=conditions, bytes_a_frame=bytes_a_frame).sizes) == 2
    assert len(plan(many, bytes_a_frame=room).sizes) == 1
    first = {next(iter(plan(many, seed=seed, bytes_a_frame=room).frames)) for seed in range(8)}
    assert len(first) > 3


def test_the_frames_of_a_pool_are_those_of_its_utterances():
    """Two utterances of other lengths: each frame is taken once, and is the candidate in its slot."""
    entries = {"a0": listed("a0", "a", 320 * 30), "a1": listed("a1", "a", 320 * 50)}
    found = plan(entries)
    frames = {
        key: random_frames(number, frames=length) for number, (key, length) in enumerate((("a0", 30), ("a1", 50)))
    }
    retrieval = Retrieval(found, plain_scaling())
    for key, clean in frames.items():
        places = found.frames[key]
        assert sorted(places.frames) == list(range(clean.shape[1]))
        moved = clean.roll(1, dims=1)
        retrieval.add(
            UtteranceFeatures(key, 1.0, {"clean": clean, "noise-1": moved, "noise-0": clean, "phone-0": moved})
        )
        unit = torch.nn.functional.normalize(clean, dim=-1)
        assert torch.allclose(retrieval.pools[0][:, places.slots], unit[:, places.frames])
    assert [(shares.tolist(), count) for shares, count in map(retrieval.shares, ("noise", "phone"))] == [
        ([1.0] * LAYERS, 80), ([0.0] * LAYERS, 80),
    ]  # fmt: skip
