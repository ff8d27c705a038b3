"""Three million samples: what is held and what is read grows with the window of shards, not with the corpus."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from benchmarks.large_corpus import SAMPLES, LargeReader, write_large_corpus
from training.data.sampler import Cursor
from training.stream import pairs

MILLIONS = 3_000_000
FEW = 30_000
LANES = 4
WINDOW = 2 * LANES


def first_batch(folder, cursor):
    """The first global batch from a cursor on, and which indexes were read for it."""
    stream = pairs(folder, views="cdm1", utterances=24, lanes=LANES, epochs=None)
    with LargeReader(folder) as reader:
        batch = next(stream.batches_from(reader, cursor))
        return batch, reader.asked


def peak_of_two_windows(folder):
    """Bytes held at most while two windows of the order go by, over what was held before."""
    gc.collect()
    tracemalloc.start()
    try:
        stream = pairs(folder, views="cdm1", utterances=24, lanes=LANES, epochs=None)
        with LargeReader(folder) as reader:
            for batch in stream.batches_from(reader, Cursor(0, 1, 0)):
                if batch.cursor.window == 3:
                    break
            assert len(set(reader.asked)) == 3 * WINDOW
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module", name="large")
def three_million_samples(tmp_path_factory):
    return write_large_corpus(tmp_path_factory.mktemp("scale") / "large", samples=MILLIONS)


@pytest.mark.parametrize(
    "cursor",
    [Cursor(), Cursor(0, 0, 77), Cursor(0, 366, 5), Cursor(0, 731, 0), Cursor(8, 4, 60), Cursor(40, 700, 1)],
)
def test_a_resume_reads_the_indexes_of_one_window_wherever_it_is(large, cursor):
    """Cursor (8, 4, 60) is past the batch 1,000,000: an epoch has 125,000."""
    batch, asked = first_batch(large, cursor)
    assert batch.cursor == cursor
    assert len(asked) == len(set(asked)) <= WINDOW
    assert sum(map(len, batch.lanes)) == 24


@pytest.mark.slow
def test_memory_grows_with_the_window_and_not_with_the_corpus(large, tmp_path):
    """The indexes of all samples would take gigabytes; a hundred times as many samples may cost their names alone."""
    few = peak_of_two_windows(write_large_corpus(tmp_path / "few", samples=FEW))
    many = peak_of_two_windows(large)
    names = (MILLIONS - FEW) // SAMPLES * 4096
    assert many - few < names, f"{few / 1e6:.0f} MB for {FEW}, {many / 1e6:.0f} MB for {MILLIONS} samples"
    assert many < 200e6
