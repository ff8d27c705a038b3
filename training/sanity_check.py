"""Checks the first batches of a run, so that a wrong corpus or wrong views are found before hours are spent."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from manifests.corpus.sample import CLEAN
from manifests.errors import UsageError, printable
from training.stream import Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.data.batch import PairBatch
    from training.data.corpus import CorpusReader
    from training.data.sampler import Crop, Cursor
    from training.data.views import Pair
    from training.stream import PairStream

FIRST_UTTERANCES = 256
SILENT_DBFS = -80.0
SHOWN_IDS = 8


class FirstBatchError(UsageError):
    """The first batch would teach nothing."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{printable(where)}: first-batch check: {what}")


def check_first_batch(stream: PairStream, reader: CorpusReader, *, report: Callable[[str], None]) -> None:
    """Check the pairs of the first utterances of the order, and the waves of the first batch.

    Args:
        stream: Of the run.
        reader: Of its corpus.
        report: Gets a line for what is odd but no reason to stop.

    Raises:
        FirstBatchError: If no utterance has copies that fit the views, all are silent, or no copy differs from clean.
    """
    check_pairs(stream, stream.first_pairs(reader, FIRST_UTTERANCES), report=report)
    lanes = itertools.takewhile(lambda batch: batch.cursor == (0, 0, 0), stream.micro_batches(Sources(reader)))
    check_waves(stream, reader, list(lanes), report=report)


def check_pairs(stream: PairStream, pairs: Sequence[tuple[Crop, Pair]], *, report: Callable[[str], None]) -> None:
    """Check that there are copies for the views."""
    lacking = [crop for crop, pair in pairs if pair.fell_back]
    if not lacking:
        return
    views = stream.views
    what = (
        f"{len(lacking)} of the first {len(pairs)} utterances have no copy that fits views {views.kind} with teacher.content: "
        f"{views.teacher.content} and families: {views.families}, such as {printable(lacking[0].sample.key)}"
    )
    if len(lacking) == sum(pair.fell_back or pair.student != CLEAN for _, pair in pairs):
        raise FirstBatchError(
            stream.corpus, f"{what}; build the split with more copies that keep the content, or choose other views"
        )
    report(f"{printable(stream.corpus)}: {what}; clean speech is used instead, and counted in the journal (fell_back)")


def check_waves(
    stream: PairStream, reader: CorpusReader, lanes: Sequence[PairBatch], *, report: Callable[[str], None]
) -> None:
    """Check that waves are not silent, and that copies are not the clean utterance."""
    silent, compared, alike, total = [], 0, 0, 0
    for batch in lanes:
        total += len(batch.keys)
        quiet = is_silent(batch.teacher_wave, batch.num_samples) | is_silent(batch.student_wave, batch.num_samples)
        silent += [key for key, is_quiet in zip(batch.keys, quiet.tolist(), strict=True) if is_quiet]
        for row, names in enumerate(zip(batch.teacher_copies, batch.student_copies, strict=True)):
            compared += names[0] != names[1]
            alike += names[0] != names[1] and torch.equal(batch.teacher_wave[row], batch.student_wave[row])
    if silent and len(silent) == total:
        raise FirstBatchError(
            stream.corpus, f"all {total} utterances of the first batch are silent (under {SILENT_DBFS:g} dBFS)"
        )
    if compared and alike == compared:
        raise FirstBatchError(
            stream.corpus,
            f"in all {compared} pairs of the first batch the two copies hold the same samples; build it again",
        )
    if silent:
        ids = full_ids(stream, reader, lanes[0].cursor, only=silent)
        report(f"{printable(stream.corpus)}: {len(silent)} of {total} utterances of the first batch are silent: {ids}")


def is_silent(wave: torch.Tensor, num_samples: torch.Tensor) -> torch.Tensor:
    """Which rows are under -80 dBFS without their mean, shape (batch,); padding of zeros does not count."""
    count = num_samples.clamp(min=1)
    power = wave.square().sum(dim=1) / count - (wave.sum(dim=1) / count).square()
    return power < 10 ** (SILENT_DBFS / 10)


def full_ids(stream: PairStream, reader: CorpusReader, cursor: Cursor, *, only: Sequence[str] | None = None) -> str:
    """The ids of a global batch's utterances, eight at most, for a line; a key is given where no record can be read.

    Args:
        stream: Whose order it is.
        reader: Of the corpus.
        cursor: The global batch.
        only: Keys of some of them; all by default.
    """
    batch = next(iter(stream.batches_from(reader, cursor)))
    crops = [crop for lane in batch.lanes for crop in lane if only is None or crop.sample.key in only]
    shown = [printable(utterance_id(reader, crop)) for crop in crops[:SHOWN_IDS]]
    return ", ".join(shown) + (f" and {len(crops) - SHOWN_IDS} more" if len(crops) > SHOWN_IDS else "")


def utterance_id(reader: CorpusReader, crop: Crop) -> str:
    """The id in an utterance's record."""
    try:
        return reader.records(crop.shard, crop.sample)[0].id
    except (OSError, ValueError):
        return crop.sample.key
