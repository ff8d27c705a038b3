"""Frame cosine against a slow loop, and what a model without information scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.features import UtteranceFeatures, features_of
from evaluation.measures.frame_cosine import FrameCosine, FrameMoments
from manifests.corpus.sample import sample_key
from tests.oracles.fake_encoder import ConstantEncoder, FakeEncoder
from tests.oracles.tiny_corpus import TinyUtterance, tiny_split, write_corpus
from training.data.audio import utterances


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    splits = {"train": tiny_split("train", count=8), "test": tiny_split("test", count=6)}
    return write_corpus(tmp_path_factory.mktemp("corpus") / "tiny", splits)


def measured(encoder, corpus):
    moments = FrameMoments()
    for utterance in features_of(encoder, utterances(corpus, "train", members=("clean",))):
        moments.add(utterance.frames["clean"])
    cosine = FrameCosine(moments.scaling())
    for utterance in features_of(encoder, utterances(corpus, "test")):
        cosine.add(utterance)
    return moments, cosine


def slow_frames(encoder, wave: np.ndarray) -> np.ndarray:
    """Features of one wave alone, (layer, frame, feature), float64."""
    layers, num_frames = encoder.layers(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    return layers[0, :, : int(num_frames[0])].double().numpy()


def slow_cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def test_frame_cosine_agrees_with_a_slow_loop(corpus):
    encoder = FakeEncoder()
    moments, cosine = measured(encoder, corpus)
    train = np.concatenate([slow_frames(encoder, u.waves["clean"]) for u in utterances(corpus, "train")], axis=1)
    mean, deviation = train.mean(axis=1), train.std(axis=1)
    assert moments.count == train.shape[1]
    matched, mismatched, before = {}, {}, None
    for utterance in utterances(corpus, "test"):
        scaled = {
            name: (slow_frames(encoder, wave) - mean[:, None]) / deviation[:, None]
            for name, wave in utterance.waves.items()
        }
        for name, copy in scaled.items():
            if name == "clean":
                continue
            condition = name[:-2]
            for frame in range(copy.shape[1]):
                values = [slow_cosine(scaled["clean"][layer, frame], copy[layer, frame]) for layer in range(3)]
                matched.setdefault(condition, []).append(values)
                if before is not None and frame < before.shape[1]:
                    values = [slow_cosine(before[layer, frame], copy[layer, frame]) for layer in range(3)]
                    mismatched.setdefault(condition, []).append(values)
        before = scaled["clean"]
    assert set(cosine.matched) == set(matched) == {"noise", "phone"}
    for found, expected in ((cosine.matched, matched), (cosine.mismatched, mismatched)):
        for condition, values in expected.items():
            assert found[condition].count == len(values)
            np.testing.assert_allclose(found[condition].value, np.mean(values, axis=0), atol=1e-5)


def test_a_constant_model_scores_zero_and_not_one(corpus):
    _, cosine = measured(ConstantEncoder(), corpus)
    for means in (cosine.matched, cosine.mismatched):
        for mean in means.values():
            np.testing.assert_array_equal(mean.value, 0.0)


def test_a_model_that_does_not_hear_the_distortion_scores_one(corpus):
    class Deaf(FakeEncoder):
        def layers(self, wave, num_samples):
            return super().layers(wave[:1].expand(wave.shape), num_samples)

    _, cosine = measured(Deaf(), corpus)
    for mean in cosine.matched.values():
        np.testing.assert_allclose(mean.value, 1.0, atol=1e-6)
    assert max(mean.value.max() for mean in cosine.mismatched.values()) < 0.99


def test_the_scale_of_a_feature_changes_nothing(corpus):
    class Stretched(FakeEncoder):
        def layers(self, wave, num_samples):
            features, num_frames = super().layers(wave, num_samples)
            return features * torch.logspace(-2, 2, self.num_features) - 10, num_frames

    _, plain = measured(FakeEncoder(), corpus)
    _, stretched = measured(Stretched(), corpus)
    np.testing.assert_allclose(plain.matched["noise"].value, stretched.matched["noise"].value, atol=2e-3)


def test_moments_in_pieces_are_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(2, 500, 5, generator=generator) * 3 + 1000
    moments = FrameMoments()
    for piece in frames.split([1, 0, 99, 250, 150], dim=1):
        moments.add(piece)
    scaling = moments.scaling()
    np.testing.assert_allclose(scaling.mean, frames.double().mean(1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(1 / scaling.inverse, frames.double().std(1, correction=0).numpy(), rtol=1e-9)


def test_an_utterance_longer_than_a_batch_is_heard_in_pieces(tmp_path):
    wave = (np.sin(np.arange(16000 * 21) / 20) * 9000).astype("<i2")
    long = TinyUtterance("long", {"clean": wave, **{f"noise-{n}": wave // (n + 2) for n in range(4)}})
    corpus = write_corpus(tmp_path / "long", {"test": [long]})
    encoder = FakeEncoder()
    [utterance] = features_of(encoder, utterances(corpus, "test"))
    assert utterance.key == sample_key("long")
    assert list(utterance.frames) == ["clean", "noise-0", "noise-1", "noise-2", "noise-3"]
    [heard] = utterances(corpus, "test")
    for name, found in utterance.frames.items():
        np.testing.assert_allclose(found.numpy(), slow_frames(encoder, heard.waves[name]), atol=1e-5)


def test_features_and_their_order_do_not_depend_on_how_many_are_heard_at_once(corpus):
    encoder = FakeEncoder()
    runs = [list(features_of(encoder, utterances(corpus, "test"), workers=workers)) for workers in (1, 3)]
    assert [one.key for one in runs[0]] == [sample_key(one.sample.id) for one in utterances(corpus, "test")]
    for one, other in zip(*runs, strict=True):
        assert one.key == other.key
        assert all(torch.equal(one.frames[name], other.frames[name]) for name in one.frames)


def test_one_utterance_has_no_mismatched_partner():
    moments = FrameMoments()
    frames = torch.arange(24.0).reshape(1, 6, 4)
    moments.add(frames)
    cosine = FrameCosine(moments.scaling())
    cosine.add(UtteranceFeatures("a", 1.0, {"clean": frames, "noise-0": frames}))
    assert cosine.mismatched == {}
    np.testing.assert_allclose(cosine.matched["noise"].value, 1.0)


def test_an_utterance_without_a_frame_is_passed_over():
    """The one after it is compared with the one before it."""
    moments = FrameMoments()
    moments.add(torch.empty(1, 0, 4))
    frames = [torch.randn(1, count, 4, generator=torch.Generator().manual_seed(count)) for count in (6, 0, 5)]
    for one in frames:
        moments.add(one)
    assert moments.count == 11
    cosine = FrameCosine(moments.scaling())
    for number, one in enumerate(frames):
        cosine.add(UtteranceFeatures(str(number), 1.0, {"clean": one, "noise-0": one}))
    assert (cosine.matched["noise"].count, cosine.mismatched["noise"].count) == (11, 5)
    whole = torch.cat(frames, dim=1)[0].double().numpy()
    first, last = ((one[0].double().numpy() - whole.mean(axis=0)) / whole.std(axis=0) for one in (frames[0], frames[2]))
    expected = np.mean([slow_cosine(one, other) for one, other in zip(first, last, strict=False)])
    np.testing.assert_allclose(cosine.mismatched["noise"].value, expected, atol=1e-6)
