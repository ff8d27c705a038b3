"""The loader alone against bare reads and FLAC decoding of the same two views: `python benchmarks/stream.py [CORPUS]`.

Without a corpus it makes one of noise-like speech in a temporary folder. Prints seconds of audio a second of CPU for each, their
ratio (the least of five rounds in turn of each, as other work on the machine only adds), and the share of padding.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from training.data.joined_corpus import open_corpus
from training.data.sampler import Cursor
from training.stream import pairs

ROUNDS = 5


def main(corpus: Path) -> None:
    """Measure in turn, bare and loader, and print the least of each."""
    stream = pairs(corpus, split="train", views="cdm2", seconds=64, lanes=4, crop_s=15)
    bare_s, loader_s, real, padded = [], [], 0, 0
    with open_corpus(corpus) as reader:
        chosen = [
            (crop, {*stream.pair(reader, crop, 0)[:2]})
            for batch in stream.batches_from(reader, Cursor())
            for lane in batch.lanes
            for crop in lane
        ]
    for _ in range(ROUNDS):
        start = time.process_time()
        with open_corpus(corpus) as reader:
            for crop, names in chosen:
                for name in names:
                    member = crop.sample.members[name]
                    flac = reader.span(crop.shard, member.offset, member.offset + member.size)
                    soundfile.read(io.BytesIO(flac), dtype="float32")
        bare_s.append(time.process_time() - start)
        start = time.process_time()
        real = padded = 0
        for batch in stream:
            real += int(batch.num_samples.sum())
            padded += batch.teacher_wave.numel()
        loader_s.append(time.process_time() - start)
    audio_s = real / 16_000
    bare, loaded = min(bare_s), min(loader_s)
    print(f"bare reads and decoding: {audio_s / bare:8.0f} s of pairs a CPU second")
    print(f"loader:                  {audio_s / loaded:8.0f} s of pairs a CPU second, {bare / loaded:.2f} of bare")
    print(f"padding: {1 - real / padded:.1%} of samples")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        from made import made_corpus

        with tempfile.TemporaryDirectory() as folder:
            main(made_corpus(Path(folder)))
