"""Law 5: which batch comes when depends on (seed, epoch, corpus) alone."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifests.corpus.shard_index import IndexedSample, Member
from training.data.sampler import (
    Batching,
    Cursor,
    even_ends,
    global_batches,
    named_choice,
    named_number,
    named_share,
    window_batches,
    windows,
)

MEMBERS = {"clean": Member(offset=0, size=1)}


def shards_of(lengths_by_shard):
    return {
        f"train-{number:06d}": tuple(
            IndexedSample(key=f"s{number}-u{place}", num_samples=length, members=MEMBERS)
            for place, length in enumerate(lengths)
        )
        for number, lengths in enumerate(lengths_by_shard)
    }


def order(shards, batching, **options):
    return global_batches(list(shards), shards.__getitem__, batching, **{"seed": 3, "epochs": 1, **options})


@st.composite
def corpora(draw):
    lengths = draw(st.lists(st.lists(st.integers(1, 300), max_size=12), min_size=1, max_size=9))
    return shards_of(lengths)


@st.composite
def batchings(draw):
    lanes, crop = draw(st.integers(1, 5)), draw(st.integers(1, 200))
    sizes = (
        {"lane_samples": draw(st.integers(crop, 900))}
        if draw(st.booleans())
        else {"lane_utterances": draw(st.integers(1, 6))}
    )
    return Batching(lanes=lanes, crop_samples=crop, window_shards=draw(st.integers(1, 3)), **sizes)


@settings(deadline=None)
@given(corpora(), batchings(), st.integers(0, 2**63 - 1), st.integers(0, 5))
def test_an_epoch_loses_and_repeats_no_utterance(shards, batching, seed, epoch):
    heard = Counter(
        crop.sample.key
        for batch in order(shards, batching, seed=seed, cursor=Cursor(epoch))
        for lane in batch.lanes
        for crop in lane
    )
    assert heard == Counter(sample.key for samples in shards.values() for sample in samples)


@settings(deadline=None)
@given(corpora(), batchings(), st.integers(0, 99))
def test_a_micro_batch_with_its_padding_fits_its_lane(shards, batching, seed):
    for batch in order(shards, batching, seed=seed):
        assert len(batch.lanes) == batching.lanes
        assert any(batch.lanes)
        for lane in filter(None, batch.lanes):
            longest = max(crop.length for crop in lane)
            assert longest <= batching.crop_samples
            assert batching.lane_samples is None or longest * len(lane) <= batching.lane_samples
            assert batching.lane_utterances is None or len(lane) <= batching.lane_utterances
            for crop in lane:
                assert crop.length == min(crop.sample.num_samples, batching.crop_samples)
                assert 0 <= crop.start <= crop.sample.num_samples - crop.length


@settings(deadline=None)
@given(corpora().filter(lambda shards: any(shards.values())), batchings(), st.data())
def test_going_on_from_a_cursor_is_going_on_as_if_never_stopped(shards, batching, data):
    straight = list(itertools.islice(order(shards, batching, epochs=None), 12))
    stop = data.draw(st.integers(0, 10))
    cursor = straight[stop].cursor
    resumed = list(
        itertools.islice(order(shards, batching, epochs=None, cursor=cursor._replace(batch=cursor.batch + 1)), 1)
    )
    assert resumed == straight[stop + 1 : stop + 2]


@settings(deadline=None)
@given(corpora(), batchings(), st.randoms())
def test_the_order_in_which_shards_are_listed_does_not_matter(shards, batching, random):
    names = list(shards)
    random.shuffle(names)
    assert list(global_batches(names, shards.__getitem__, batching, seed=3, epochs=1)) == list(order(shards, batching))


def test_another_seed_or_epoch_is_another_order_with_other_crops():
    shards = shards_of([[90, 80, 70, 60, 50, 40] * 3] * 4)
    batching = Batching(lanes=2, crop_samples=30, lane_utterances=2)
    first, again, seed, epoch = (
        list(order(shards, batching, seed=seed, cursor=Cursor(epoch)))
        for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1))
    )
    assert first == again
    shown = [[[crop[0::2] for crop in lane] for batch in run for lane in batch.lanes] for run in (first, seed, epoch)]
    assert shown[0] != shown[1]
    assert shown[0] != shown[2]
    starts = [
        {crop.sample.key: crop.start for batch in run for lane in batch.lanes for crop in lane}
        for run in (first, epoch)
    ]
    assert sum(starts[0][key] != starts[1][key] for key in starts[0]) > len(starts[0]) / 2


def test_lanes_hold_whole_shards_where_there_are_enough():
    shards = shards_of([[10] * 6] * 7)
    batching = Batching(lanes=3, crop_samples=10, lane_utterances=2, window_shards=2)
    assert [len(window) for window in windows(list(shards), batching, seed=3, epoch=0)] == [6, 1]
    lanes_of_shard = {}
    for batch in order(shards, batching):
        if batch.cursor.window == 0:
            for lane, crops in enumerate(batch.lanes):
                for crop in crops:
                    lanes_of_shard.setdefault(crop.shard, set()).add(lane)
    assert len(lanes_of_shard) == 6
    assert all(len(lanes) == 1 for lanes in lanes_of_shard.values())


def test_only_the_window_at_hand_is_read():
    shards = shards_of([[10] * 4] * 40)
    asked = []
    batching = Batching(lanes=2, crop_samples=10, lane_utterances=2, window_shards=2)
    batches = global_batches(
        list(shards),
        lambda name: asked.append(name) or shards[name],
        batching,
        seed=3,
        cursor=Cursor(7, 5, 0),
        epochs=1,
    )
    next(batches)
    assert len(asked) == 4


def test_padding_stays_below_five_percent_on_lengths_like_librispeech():
    lengths = [
        [int(16000 * (2 + 14 * named_share(9, shard, place) ** 0.5)) for place in range(256)] for shard in range(8)
    ]
    shards = shards_of(lengths)
    batching = Batching(lanes=4, crop_samples=250_000, lane_samples=40 * 16000)
    heard = padded = 0
    for batch in order(shards, batching):
        for lane in filter(None, batch.lanes):
            heard += sum(crop.length for crop in lane)
            padded += len(lane) * max(crop.length for crop in lane)
    assert 1 - heard / padded < 0.05


def test_chance_is_pinned_for_ever():
    """A changed hash would silently end every run's resume: these numbers never change."""
    assert named_number(7, "crop", 0, "utt-1") == 15967253502371446363
    assert named_share(7, "crop", 0, "utt-1") == pytest.approx(15967253502371446363 / 2**64)
    assert named_choice(10, 7, "crop", 0, "utt-1") == 8


def test_names_of_chance_do_not_run_together():
    assert named_number(1, "a", "bc") != named_number(1, "ab", "c")
    assert named_number(1, 1) != named_number(11)


def test_draws_are_even():
    counts = Counter(named_choice(5, 0, "even", number) for number in range(5000))
    assert max(counts.values()) - min(counts.values()) < 200


def test_an_endless_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no utterance"):
        next(order(shards_of([[]]), Batching(lanes=1, crop_samples=1, lane_utterances=1), epochs=None))


def test_micro_batches_are_as_few_as_can_be_and_filled_alike():
    sizes = [
        len(lane)
        for batch in order(shards_of([[10] * 10]), Batching(lanes=1, crop_samples=10, lane_utterances=4))
        for lane in batch.lanes
    ]
    assert sorted(sizes) == [3, 3, 4]
    by_samples = Batching(lanes=1, crop_samples=10, lane_samples=40)
    sizes = [len(lane) for batch in order(shards_of([[10] * 9]), by_samples) for lane in batch.lanes]
    assert sizes == [3, 3, 3]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), max_size=12), st.integers(50, 200), st.integers(1, 6), st.booleans())
@example([11, 12, 14, 14, 30, 30, 35, 35], 57, 1, True)
def test_no_other_cut_has_fewer_micro_batches(lengths, lane_samples, lane_utterances, by_samples):
    """Against every way to cut the utterances in this order; of single utterances the shares differ by one at most."""
    sizes = {"lane_samples": lane_samples} if by_samples else {"lane_utterances": lane_utterances}
    ends = even_ends(lengths, Batching(lanes=1, crop_samples=50, **sizes))

    def fits(cuts):
        parts = [lengths[start:end] for start, end in itertools.pairwise((0, *cuts, len(lengths)))]
        return all(
            max(part) * len(part) <= lane_samples if by_samples else len(part) <= lane_utterances for part in parts
        )

    if not lengths:
        assert ends == []
        return
    assert ends[-1] == len(lengths)
    assert list(ends) == sorted(set(ends))
    assert fits(ends[:-1])
    if len(ends) > 1:
        assert not any(map(fits, itertools.combinations(range(1, len(lengths)), len(ends) - 2)))
    if not by_samples:
        counts = [end - start for start, end in itertools.pairwise((0, *ends))]
        assert max(counts) - min(counts) <= 1


@settings(deadline=None)
@given(corpora(), batchings(), st.integers(0, 99))
def test_the_steps_of_a_window_have_as_many_lanes_or_one_fewer(shards, batching, seed):
    filled = {}
    for batch in order(shards, batching, seed=seed):
        filled.setdefault(batch.cursor.window, []).append(sum(map(bool, batch.lanes)))
    assert all(max(counts) - min(counts) <= 1 for counts in filled.values())


def test_no_step_is_much_smaller_than_the_mean_on_32_lanes():
    """Shards of uneven size; with every lane filled to the brim in turn the smallest had 21 s of a mean of 596 s."""
    shards = shards_of(
        [
            [int(16000 * (2 + 14 * named_share(9, shard, place) ** 0.5)) for place in range(40 + 80 * shard // 70)]
            for shard in range(70)
        ]
    )
    batching = Batching(lanes=32, crop_samples=250_000, lane_samples=500_000)
    seconds = [sum(batch.lengths) / 16000 for batch in order(shards, batching)]
    assert min(seconds) > 0.8 * sum(seconds) / len(seconds)


def test_each_epoch_takes_shards_and_batches_in_an_order_of_its_own():
    """Lengths so far apart that no jitter moves them: the order of the batches is neither by length nor that of another epoch."""
    shards = shards_of([[10 * 2**number for number in range(10)]])
    batching = Batching(lanes=1, crop_samples=10**6, lane_utterances=1)
    orders = [
        [batch.lanes[0][0].length for batch in order(shards, batching, cursor=Cursor(epoch))] for epoch in range(3)
    ]
    assert len({tuple(found) for found in orders}) == 3
    assert all(found != sorted(found) for found in orders)
    names = [f"train-{number:06d}" for number in range(12)]
    turns = [[name for window in windows(names, batching, seed=3, epoch=epoch) for name in window] for epoch in (0, 1)]
    assert turns[0] != turns[1]
    assert sorted(turns[0]) == sorted(turns[1]) == names


def test_utterances_of_near_lengths_change_neighbours_from_epoch_to_epoch():
    shards = shards_of([[1000 + number for number in range(16)]])
    batching = Batching(lanes=1, crop_samples=10**6, lane_utterances=2)
    together = [
        {
            frozenset(crop.sample.key for crop in batch.lanes[0])
            for batch in order(shards, batching, cursor=Cursor(epoch))
        }
        for epoch in (0, 1)
    ]
    assert len(together[0] & together[1]) < 4


def test_utterances_of_near_lengths_have_other_neighbours_with_another_seed():
    shards = shards_of([[1000 + number for number in range(16)]])
    batching = Batching(lanes=1, crop_samples=10**6, lane_utterances=2)
    (one,) = windows(list(shards), batching, seed=0, epoch=0)
    together = [
        {
            frozenset(crop.sample.key for crop in lanes[0])
            for lanes in window_batches(one, shards.__getitem__, batching, seed=seed, epoch=0)
        }
        for seed in (0, 1)
    ]
    assert len(together[0] & together[1]) < 4


def test_utterances_of_shards_that_are_left_over_change_lanes_from_epoch_to_epoch():
    """One shard and two lanes: which utterances share a lane, and so may share a batch, is drawn anew in each epoch."""
    shards = shards_of([[100] * 12])
    batching = Batching(lanes=2, crop_samples=100, lane_utterances=1)
    first_lanes = set()
    for epoch in range(4):
        lanes = [set(), set()]
        for batch in order(shards, batching, cursor=Cursor(epoch)):
            for lane, crops in zip(lanes, batch.lanes, strict=True):
                lane.update(crop.sample.key for crop in crops)
        assert [len(lane) for lane in lanes] == [6, 6]
        first_lanes.add(frozenset(lanes[0]))
    assert len(first_lanes) == 4
