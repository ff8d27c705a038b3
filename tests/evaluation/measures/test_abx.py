"""Phone ABX against plain loops over all triples, and which tokens it takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluation.data import abx_tokens
from evaluation.data.abx_tokens import NoTriplesError, plan_abx, tokens_of
from evaluation.data.alignments import FrameClock
from evaluation.features import Scaling, UtteranceFeatures
from evaluation.measures import abx as measure
from evaluation.measures import dtw
from evaluation.measures.abx import Abx, speakers_of_x
from evaluation.measures.dtw import dtw_distances
from evaluation.tasks.frame_store import FrameStore
from tests.oracles import slow_abx

LAYERS, FEATURES = 3, 5
CLOCK = FrameClock(hop=10, receptive=10, rate_hz=1000)  # frame i is at 10 i + 5 ms


def plan_of(alignments, speakers, *, seed=0):
    entries = {key: SimpleNamespace(sample=SimpleNamespace(speaker=speaker)) for key, speaker in speakers.items()}
    return plan_abx(entries, alignments, split="test", label="the field 'phones'", seed=seed)


def spoken(phones, *, each_s=0.03):
    """An alignment of phones that last so long each."""
    return tuple((number * each_s, (number + 1) * each_s, phone) for number, phone in enumerate(phones))


def measured(plan, folder, utterances, *, layers=range(LAYERS), scaling=None):
    scaling = scaling or Scaling(np.zeros((len(layers), FEATURES)), np.ones((len(layers), FEATURES)))
    found = Abx(plan, scaling, list(layers), CLOCK, FrameStore(folder / "test.f16", "sum"))
    for utterance in utterances:
        found.add(utterance)
    return found


def random_utterance(key, seed, num_frames, *, members=("clean", "noise-1", "noise-0"), layers=LAYERS):
    frames = {
        member: torch.randn(layers, num_frames, FEATURES, generator=torch.Generator().manual_seed(100 * seed + number))
        .half()
        .float()  # as it is stored
        for number, member in enumerate(members)
    }
    return UtteranceFeatures(key, 1.0, frames)


def of_layer(plan, utterances, layer):
    """The tokens as the slow loops take them: frames whose middle is within, of the clean wave and of the first copy of each condition."""
    frames = {utterance.key: utterance.frames for utterance in utterances}
    tokens = []
    for context in plan.contexts:
        for token in context:
            named = {"clean": "clean", "noise": "noise-0"}
            stretches = {
                name: [
                    frame.tolist()
                    for number, frame in enumerate(frames[token.key][member][layer])
                    if token.start_s <= (10 * number + 5) / 1000 < token.end_s
                ]
                for name, member in named.items()
                if member in frames[token.key]
            }
            stretches = {name: stretch for name, stretch in stretches.items() if stretch}
            tokens.append(slow_abx.SlowToken(token.name, token.phone, token.context, token.speaker, stretches))
    return tokens


@pytest.mark.parametrize("kind", ["gaussian", "axes"])
def test_distances_are_the_mean_angle_along_the_cheapest_path(kind, monkeypatch):
    """Frames along axes are at angles of 0 or 1/2 alone, so that many paths cost the same: the diagonal goes first."""
    rng = np.random.default_rng(1)
    monkeypatch.setattr(dtw, "MOST_CELLS", 200)  # several pieces
    monkeypatch.setattr(dtw, "GROUP", 3)

    def stretch(length):
        if kind == "axes":
            return np.eye(3)[rng.integers(0, 3, (2, length))]
        return rng.standard_normal((2, length, 3))

    first, second = ([stretch(length) for length in lengths] for lengths in ((1, 5, 2, 4, 3, 4), (3, 1, 5, 4)))
    first[2][:, 1] = 0.0
    found = dtw_distances(first, second)
    assert found.shape == (2, 6, 4)
    for layer in range(2):
        expected = [[slow_abx.warped(x[layer].tolist(), y[layer].tolist()) for y in second] for x in first]
        np.testing.assert_allclose(found[layer], expected, atol=1e-9)


def test_of_two_paths_that_cost_the_same_the_diagonal_is_averaged():
    axes = np.eye(3)[None]
    first, second = axes[:, [0, 1]], axes[:, [1, 2]]  # two steps of 1/2, or three of which the middle one costs nothing
    assert dtw_distances([first], [second]) == pytest.approx(0.5)


def test_error_rates_are_those_of_plain_loops_over_all_triples(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SPEAKERS_OF_X", 9)
    rng = np.random.default_rng(0)
    speakers = {f"u{number}": f"s{number % 3}" for number in range(9)}
    alignments = {key: spoken(rng.choice(list("abcd"), 4), each_s=float(rng.uniform(0.012, 0.035))) for key in speakers}
    utterances = [random_utterance(key, number, 12) for number, key in enumerate(speakers)]
    del utterances[4].frames["noise-0"], utterances[4].frames["noise-1"]
    plan = plan_of(alignments, speakers)
    found = measured(plan, tmp_path, utterances, layers=(0, 2))
    scores = {(one.measure, one.condition, one.layer): (one.value, one.count) for one in found.scores()}
    assert len(scores) == 2 * 2 * 2
    for layer in (0, 2):
        tokens = of_layer(plan, utterances, layer)
        for condition in ("clean", "noise"):
            for name, across in (("abx_within", False), ("abx_across", True)):
                error, triples = slow_abx.abx(tokens, condition, across=across)
                assert scores[name, condition, layer + 1] == (pytest.approx(error, abs=1e-6), triples)


def test_triphones_are_compared_in_their_context(tmp_path, monkeypatch):
    monkeypatch.setattr(abx_tokens, "FEWEST_CONTEXTS", 2)
    speakers = {f"u{number}": f"s{number // 6}" for number in range(12)}
    words = ("kat", "kit", "kat", "kut", "pan", "pin") * 2
    alignments = {key: spoken(word, each_s=0.02) for key, word in zip(speakers, words, strict=True)}
    utterances = [random_utterance(key, number, 6) for number, key in enumerate(speakers)]
    plan = plan_of(alignments, speakers)
    assert {token.context for context in plan.contexts for token in context} == {("k", "t"), ("p", "n")}
    assert plan.notes[0] == "abx: 12 tokens, triphones in the same context"
    found = measured(plan, tmp_path, utterances, layers=(1,))
    for score in found.scores():
        tokens = of_layer(plan, utterances, 1)
        assert {len(one.frames["clean"]) for one in tokens} == {6}  # the frames of all three
        across = score.measure == "abx_across"
        assert (score.value, score.count) == (
            pytest.approx(slow_abx.abx(tokens, score.condition, across=across)[0], abs=1e-6),
            slow_abx.abx(tokens, score.condition, across=across)[1],
        )


def test_features_that_separate_phones_have_no_error_and_constant_ones_half(tmp_path):
    speakers = {f"u{number}": f"s{number % 2}" for number in range(4)}
    alignments = {key: spoken("abab") for key in speakers}
    separate, flat = torch.zeros(LAYERS, 12, FEATURES), torch.full((LAYERS, 12, FEATURES), 3.7)
    for frame in range(12):
        separate[:, frame, frame // 3 % 2] = 1.0
    dead = Scaling.from_moments(np.full((LAYERS, FEATURES), 3.7), np.full((LAYERS, FEATURES), 1e-9))
    for name, (frames, scaling, error) in {"separate": (separate, None, 0.0), "flat": (flat, dead, 0.5)}.items():
        (tmp_path / name).mkdir()
        utterances = [UtteranceFeatures(key, 1.0, {"clean": frames, "noise-0": frames}) for key in speakers]
        scores = measured(plan_of(alignments, speakers), tmp_path / name, utterances, scaling=scaling).scores()
        assert {(one.measure, one.condition) for one in scores} == {
            (mode, condition) for mode in ("abx_within", "abx_across") for condition in ("clean", "noise")
        }
        assert [one.value for one in scores] == pytest.approx([error] * len(scores), abs=1e-12)


def test_a_triphone_has_no_silence_and_no_gap_and_a_phone_is_no_silence():
    segments = ((0.0, 0.1, "a"), (0.1, 0.2, "b"), (0.2, 0.3, "c"), (0.33, 0.4, "d"), (0.4, 0.5, "SIL"), (0.5, 0.6, "e"))
    single = tokens_of({"u": segments}, {"u": "s"}, is_triphone=False)
    assert [(one.phone, one.start_s, one.end_s, one.context) for one in single] == [
        (phone, start_s, end_s, ()) for start_s, end_s, phone in segments if phone != "SIL"
    ]
    [triphone] = tokens_of({"u": segments}, {"u": "s"}, is_triphone=True)
    assert (triphone.phone, triphone.context, triphone.start_s, triphone.end_s) == ("b", ("a", "c"), 0.0, 0.3)


def test_tokens_are_limited_by_hash_and_other_speakers_change_none(monkeypatch):
    speakers = {f"u{number}": f"s{number % 4}" for number in range(40)}
    alignments = {key: spoken("abc") for key in speakers}
    [context] = plan_of(alignments, speakers).contexts
    counts = {(token.speaker, token.phone) for token in context}
    assert len(counts) == 4 * 3
    assert len(context) == 4 * 3 * abx_tokens.TOKENS_EACH
    [again] = plan_of(alignments, speakers, seed=1).contexts
    assert {token.name for token in again} != {token.name for token in context}
    some = {key: speaker for key, speaker in speakers.items() if speaker != "s2"}
    [fewer] = plan_of({key: alignments[key] for key in some}, some).contexts
    assert {token.name for token in fewer} == {token.name for token in context if token.speaker != "s2"}
    monkeypatch.setattr(abx_tokens, "MOST_TOKENS", 16)
    [limited] = plan_of(alignments, speakers).contexts
    assert len(limited) == 2 * 3 * abx_tokens.TOKENS_EACH, "whole speakers, until there are so many tokens"


def test_x_is_of_the_next_speakers_who_share_a_phone():
    tokens = {
        name: [SimpleNamespace(phone=phone) for phone in phones]
        for name, phones in zip("pqrst", ("ab", "c", "a", "b", "bd"), strict=True)
    }
    assert [speakers_of_x(name, tokens) for name in tokens] == [["r", "s"], [], ["p"], ["t", "p"], ["p", "s"]]


@pytest.mark.parametrize(
    ("alignments", "message"),
    [
        ({}, "no utterance of split 'test' has an alignment in the field 'phones': give a task of kind frames"),
        ({"u": spoken("ab")}, "split 'test' has 2 aligned phones, but no speaker with two phones of which one occurs again"),
        ({"u": spoken("aa"), "v": spoken("a")}, "split 'test' has 3 aligned phones"),
    ],
)  # fmt: skip
def test_nothing_to_compare_is_one_line(alignments, message):
    with pytest.raises(NoTriplesError, match=r"^measures: abx compares aligned phones, and ") as caught:
        plan_of(alignments, dict.fromkeys("uv", "s"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_without_a_frame_are_noted(tmp_path):
    speakers = {"u": None, "v": None}
    alignments = {"u": (*spoken("aba"), (0.091, 0.093, "b")), "v": spoken("ab")}
    plan = plan_of(alignments, speakers)
    found = measured(plan, tmp_path, [random_utterance(key, number, 12) for number, key in enumerate(speakers)])
    assert {one.measure for one in found.scores()} == {"abx_within"}
    assert found.notes == [
        "abx: 6 tokens, single phones in any context, for 0 contexts of triphones are fewer than 100",
        "abx: no speaker is named, so that all tokens count as one speaker's",
        "abx: 1 tokens are shorter than one frame",
    ]
