"""Distance of two stretches of speech of different lengths: frames are aligned by dynamic time warping (DTW).

The distance of two frames is the angle between them over pi; that of two stretches is the mean over the frame pairs on the path
from first to last pair whose sum is smallest. Where several steps back are equally good, the diagonal comes first, then the one that stays at
the same frame of the first stretch. So do ABX in ZeroSpeech and Libri-light (Schatz 2016; Kahn et al., arXiv 1912.07875).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Frames = NDArray[np.float64]

MOST_CELLS = 1 << 18  # of all tables at once: 2 MB of sums; at 32 MB, beyond the cache, all takes twice as long
GROUP = 32  # stretches of similar length: tables are as large as the longest needs


def dtw_distances(first: Sequence[Frames], second: Sequence[Frames]) -> Frames:
    """Distance of every stretch of one list to every one of another, layer by layer.

    Args:
        first: Stretches of at least one frame, each of shape (layer, frame, feature).
        second: The same.

    Returns:
        Shape (layer, first, second), between 0 and 1. A frame of zeros is at a right angle (0.5) to every frame.
    """
    found = np.empty((len(first[0]), len(first), len(second)))
    longest = max(one.shape[1] for one in first)
    for columns in by_length(second, GROUP):
        some = [second[column] for column in columns]
        cells = len(some) * len(found) * longest * some[-1].shape[1]
        for rows in by_length(first, max(1, MOST_CELLS // cells)):
            found[:, rows[:, None], columns] = path_means([first[row] for row in rows], some)
    return found


def by_length(stretches: Sequence[Frames], each: int) -> list[NDArray[np.int64]]:
    """Numbers of stretches in groups of so many, the shortest first: tables of one size are filled together."""
    order = np.argsort([one.shape[1] for one in stretches], kind="stable")
    return [order[start : start + each] for start in range(0, len(order), each)]


def path_means(first: Sequence[Frames], second: Sequence[Frames]) -> Frames:
    """The same for lists that fit into memory: all tables are filled side by side, cell by cell."""
    angle = np.einsum("ifd,igd->fgi", *(unit(np.concatenate(side, axis=1)) for side in (first, second)), optimize=True)
    angle = np.arccos(angle.clip(-1.0, 1.0)) / np.pi  # (frame, frame, layer)
    (rows, row_ends), (columns, column_ends) = frame_numbers(first), frame_numbers(second)
    total = angle[rows[:, None, :, None], columns[None, :, None, :]]  # (frame, frame, first, second, layer)
    steps = np.ones(total.shape, dtype=np.int32)
    for row in range(len(rows)):
        for column in range(len(columns)):
            if row == 0 or column == 0:
                if row or column:
                    total[row, column] += total[max(row - 1, 0), max(column - 1, 0)]
                    steps[row, column] = row + column + 1
                continue
            diagonal, left, up = (
                (total[place], steps[place]) for place in ((row - 1, column - 1), (row, column - 1), (row - 1, column))
            )
            is_diagonal = (diagonal[0] <= left[0]) & (diagonal[0] <= up[0])
            is_left = left[0] <= up[0]
            total[row, column] += np.minimum(diagonal[0], np.minimum(left[0], up[0]))
            steps[row, column] += np.where(is_diagonal, diagonal[1], np.where(is_left, left[1], up[1]))
    ends = row_ends[:, None], column_ends[None, :], np.arange(len(first))[:, None], np.arange(len(second))[None, :]
    return np.moveaxis(total[ends] / steps[ends], -1, 0)


def unit(frames: Frames) -> Frames:
    """Frames of length one; a frame of zeros stays zero."""
    length = np.linalg.norm(frames, axis=-1, keepdims=True)
    return np.asarray(np.divide(frames, length, out=np.zeros_like(frames), where=length > 0))


def frame_numbers(stretches: Sequence[Frames]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each frame of each stretch among all of them, shape (frame, stretch), the last repeated; and each stretch's last frame."""
    lengths = np.array([one.shape[1] for one in stretches])
    within = np.minimum(np.arange(lengths.max())[:, None], lengths - 1)
    return np.cumsum(lengths) - lengths + within, lengths - 1
