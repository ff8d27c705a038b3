"""Law 5: which batch comes when depends on (seed, epoch, corpus) alone."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manifests.corpus.shard_index import IndexedSample, Member
from manifests.errors import UsageError
from training.data.sampler import (
    Batching,
    CropGrid,
    Cursor,
    cropped,
    even_ends,
    filled_batching,
    global_batches,
    lane_shards,
    named_choice,
    named_number,
    named_share,
    spread,
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


def written(shards, batching, *, epochs, seed=3, cursor=Cursor()):  # noqa: B008 (a tuple)
    """An order as text: a line a global batch, its lanes with the shard, place, first sample and length of each utterance."""
    return [
        f"{'.'.join(map(str, batch.cursor))}  "
        + " | ".join(
            " ".join(f"{crop.sample.key.replace('-u', '/')}@{crop.start}+{crop.length}" for crop in lane)
            for lane in batch.lanes
        )
        for batch in order(shards, batching, epochs=epochs, seed=seed, cursor=cursor)
    ]


UNEVEN = [[90, 30, 55], [42, 71], [60, 64, 38, 80], [25, 99], [47]]
BY_SAMPLES = [
    "1.1.0  s2/1@0+64 s2/3@3+70 | ",
    "1.1.1  s2/2@0+38 s2/0@0+60 | s3/0@0+25 s3/1@21+70",
    "1.2.0  s4/0@0+47 | ",
    "2.0.0  s0/1@0+30 s0/2@0+55 | ",
    "2.0.1  s0/0@1+70 | s4/0@0+47",
    "2.1.0   | s2/1@0+64 s2/3@1+70",
    "2.1.1  s3/0@0+25 s3/1@4+70 | s2/2@0+38 s2/0@0+60",
    "2.2.0  s1/1@1+70 | s1/0@0+42",
]
ON_A_GRID = [
    "0.0.0   | s0/0@24+40 s0/2@0+40",
    "0.0.1  s1/1@16+40 s1/0@0+40 s4/0@0+40 | s3/0@0+25 s0/1@0+30 s3/1@32+40",
    "0.1.0  s2/2@0+38 s2/1@16+40 | s2/0@16+40 s2/3@8+40",
]


def test_orders_are_pinned_for_ever():
    """A run goes on in the order in which it began; where these lines change, `ORDER` is a new number."""
    shards = shards_of(UNEVEN)
    by_samples = Batching(lanes=2, crop_samples=70, lane_samples=140, window_shards=1)
    assert written(shards, by_samples, epochs=2, cursor=Cursor(1, 1, 0)) == BY_SAMPLES
    grid = Batching(lanes=2, crop_samples=40, lane_utterances=3, grid=CropGrid(8, sets=2, seed=5))
    assert written(shards, grid, epochs=1) == ON_A_GRID


def test_crops_of_a_grid_come_again_after_its_sets_whatever_the_seed_of_the_run():
    (sample,) = shards_of([[1000]])["train-000000"]
    sets, anew = (Batching(lanes=1, crop_samples=104, grid=CropGrid(10, sets=sets, seed=5)) for sets in (3, None))
    starts = [cropped("train-0", sample, sets, seed=1, epoch=epoch).start for epoch in range(6)]
    assert (
        starts[:3] == starts[3:] == [cropped("train-0", sample, sets, seed=2, epoch=epoch).start for epoch in range(3)]
    )
    assert len(set(starts)) == 3
    other = Batching(lanes=1, crop_samples=104, grid=CropGrid(10, sets=3, seed=6))
    assert starts[:3] != [cropped("train-0", sample, other, seed=1, epoch=epoch).start for epoch in range(3)]
    drawn = {
        (seed, epoch): cropped("train-0", sample, anew, seed=seed, epoch=epoch).start
        for seed in (1, 2)
        for epoch in range(4)
    }
    assert len(set(drawn.values())) == 8, "with no sets each run and epoch draws anew"
    places = {cropped("train-0", sample, anew, seed=0, epoch=epoch).start for epoch in range(1500)}
    assert places == set(range(0, 897, 10)), "the last is at 890, as 896 samples may be passed over"


def test_a_batch_is_filled_as_configured():
    found = filled_batching(seconds=4.0, utterances=None, lanes=2, crop_s=0.29, rate_hz=100, window_shards=5)
    assert found == Batching(lanes=2, crop_samples=29, lane_samples=200, window_shards=5), (
        "0.29 * 100 is 28.999... to a machine"
    )
    found = filled_batching(seconds=None, utterances=6, lanes=3, crop_s=0.5, rate_hz=100, window_shards=4)
    assert found == Batching(lanes=3, crop_samples=50, lane_utterances=2, window_shards=4)
    assert filled_batching(seconds=3.0, utterances=None, lanes=2, crop_s=1.5, rate_hz=100).lane_samples == 150
    with pytest.raises(UsageError) as caught:
        filled_batching(seconds=3.0, utterances=None, lanes=2, crop_s=1.75, rate_hz=100)
    assert str(caught.value) == (
        "batch.seconds / batch.lanes = 3 / 2 = 1.5 s cannot hold the longest crop, crop_s = 1.75 s: raise seconds, or lower lanes or crop_s"
    )
    for utterances in (7, None):
        with pytest.raises(UsageError) as caught:
            filled_batching(seconds=None, utterances=utterances, lanes=2, crop_s=1.0, rate_hz=100)
        assert str(caught.value) == (
            f"batch.utterances = {utterances} cannot be divided evenly among batch.lanes = 2: make it a multiple"
        )


def test_a_rank_reads_the_shards_of_its_lanes_or_all_where_they_are_too_few():
    batching = Batching(lanes=3, crop_samples=1)
    window = ["e", "a", "d", "b", "c", "f"]
    assert lane_shards(window, (0, 2), batching) == ["e", "d", "b", "f"]
    assert lane_shards(window[:3], (1,), batching) == ["a"]
    assert lane_shards(window[:2], (1,), batching) == ["e", "a"]


def test_gaps_of_lanes_follow_one_another_round_the_window():
    """By hand: of four steps the first lane lacks two, the next one, the next three, the last none."""
    lanes = [[f"{lane}{number}" for number in range(count)] for lane, count in zip("abcd", (2, 3, 1, 4), strict=True)]
    assert spread(lanes) == [
        ((), "b0", (), "d0"),
        ((), "b1", (), "d1"),
        ("a0", (), "c0", "d2"),
        ("a1", "b2", (), "d3"),
    ]


def test_a_place_beyond_the_end_of_its_window_goes_on_with_the_next():
    shards = shards_of([[10] * 4] * 2)
    batching = Batching(lanes=1, crop_samples=10, lane_utterances=2, window_shards=1)
    found = [batch.cursor for batch in order(shards, batching, epochs=2, cursor=Cursor(3, 0, 2))]
    assert found == [(3, 1, 0), (3, 1, 1), (4, 0, 0), (4, 0, 1), (4, 1, 0), (4, 1, 1)]
    after = global_batches(list(shards), shards.__getitem__, batching, seed=3, cursor=Cursor(3, 1, 2))
    assert next(after).cursor == (4, 0, 0), "an epoch of which all was used is none without utterances"


def test_an_epoch_goes_on_though_the_rest_of_its_windows_is_empty():
    shards = shards_of([[10] * 4, []])
    batching = Batching(lanes=1, crop_samples=10, lane_utterances=4, window_shards=1)
    seed = next(
        seed for seed in range(99) if windows(list(shards), batching, seed=seed, epoch=0)[1] == ("train-000001",)
    )
    after = global_batches(list(shards), shards.__getitem__, batching, seed=seed, cursor=Cursor(0, 1, 0))
    assert next(after).cursor.epoch == 1
