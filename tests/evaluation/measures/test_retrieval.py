"""Pools of clean frames at their edges: nobody named, one frame, no copy, and the numbers that are drawn."""

from __future__ import annotations

import numpy as np
import torch

from evaluation.features import Scaling, UtteranceFeatures
from evaluation.measures.retrieval import QUERIES, PoolFrames, Retrieval, RetrievalPlan, draw, plan_retrieval
from tests.evaluation.measures.test_cka import listed


def retrieval_of(frames, *, size):
    return Retrieval(RetrievalPlan({"a": frames}, (size,)), Scaling(np.zeros((1, 2)), np.ones((1, 2))))


def test_the_draw_of_a_speaker_is_that_of_its_seed_and_name():
    """Pinned: other numbers would be another pool, and scores of before could not be compared."""
    assert draw(0, "a") == 12647382590114519641
    assert len({draw(0, "a"), draw(1, "a"), draw(0, "b"), draw(0, "\udcff")}) == 4


def test_utterances_of_nobody_are_one_pool_and_those_without_a_frame_are_in_none():
    entries = {
        key: listed(key, speaker, samples)
        for key, speaker, samples in (("u", None, 3200), ("v", None, 3200), ("w", "w", 1600), ("x", None, 100))
    }
    found = plan_retrieval(entries, num_frames=lambda n: n // 320, bytes_a_frame=4, num_conditions=1, seed=0)
    assert set(found.frames) == {"u", "v"}
    assert found.sizes == (20,)


def test_the_only_frame_of_a_pool_is_no_find_and_a_condition_that_nobody_has_is_none():
    alone = retrieval_of(PoolFrames(0, np.array([0]), np.array([3])), size=1)
    frames = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    alone.add(UtteranceFeatures("a", 1.0, {"clean": frames, "noise-0": frames}))
    alone.add(UtteranceFeatures("not in the plan", 1.0, {"clean": frames, "noise-0": frames}))
    shares, count = alone.shares("noise")
    assert (shares.tolist(), count) == ([0.0], 1)
    shares, count = alone.shares("phone")
    assert (float(shares), count) == (0.0, 0)


def test_of_the_candidates_those_of_the_first_slots_are_queries():
    slots = np.array([QUERIES - 1, QUERIES, 7])
    some = retrieval_of(PoolFrames(0, slots, np.array([2, 0, 1])), size=QUERIES + 1)
    frames = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]])
    some.add(UtteranceFeatures("a", 1.0, {"clean": frames, "noise-0": 5 * frames, "clean-0": frames}))
    [(asked, query)] = some.queries["noise"][0]
    assert asked.tolist() == [QUERIES - 1, 7]
    torch.testing.assert_close(query, torch.tensor([[[0.6, 0.8], [0.0, 1.0]]]))
    pool = some.pools[0][0]
    torch.testing.assert_close(pool[slots], torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]))
    assert int((pool.norm(dim=-1) > 0).sum()) == 3
