"""How long a run takes to find its place again: `python benchmarks/resume.py`.

An index of three million samples that is written as it is read (no audio): seconds until the first global batch is known, at batch 1
and past batch 1,000,000, in turn; the least of three. What a trainer does beside this, loading models and its checkpoint, does not know the batch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from large_corpus import LargeReader, write_large_corpus

from training.data.sampler import Cursor
from training.stream import pairs

ROUNDS = 3
PLACES = {"batch 1": Cursor(0, 0, 0), "past batch 1,000,000": Cursor(8, 4, 60)}


def main() -> None:
    """Measure in turn and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_large_corpus(Path(name) / "large", samples=3_000_000)
        spent: dict[str, list[float]] = {place: [] for place in PLACES}
        for _ in range(ROUNDS):
            for place, cursor in PLACES.items():
                start_s = time.perf_counter()
                stream = pairs(folder, views="cdm1", utterances=24, lanes=4, epochs=None)
                with LargeReader(folder) as reader:
                    next(stream.batches_from(reader, cursor))
                spent[place].append(time.perf_counter() - start_s)
    for place, times in spent.items():
        print(f"{place:22s} {min(times):6.2f} s")
    first, last = (min(times) for times in spent.values())
    print(f"difference {last - first:+.2f} s")


if __name__ == "__main__":
    main()
