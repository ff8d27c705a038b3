"""Long waves piece by piece: joined from many without being held twice, summed without a second wave beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

AT_ONCE = 1 << 18  # samples: 2 MB of float64, which stay in a processor's cache

BLOCK_BYTES = 4 << 20  # what a worker's allocator maps by itself and hands back at once: see `pool.WORKER_SETTINGS`

Scalar = TypeVar("Scalar", bound=np.generic)


def stretches(num_samples: int) -> Iterator[slice]:
    """The slices of a wave's length that are worked on at once."""
    return (slice(start, start + AT_ONCE) for start in range(0, num_samples, AT_ONCE))


def joined(pieces: Iterable[NDArray[Scalar]], *, empty: type[Scalar]) -> NDArray[Scalar]:
    """The pieces in one wave, shape (time,); each is let go once it is copied, so that memory holds the wave about once.

    Args:
        pieces: Shape (any,) each, all of one type; small ones are put together as they come.
        empty: The type where there is no piece.
    """
    blocks: list[NDArray[Any]] = []
    waiting: list[NDArray[Any]] = []
    held = 0
    for piece in pieces:
        waiting.append(piece)
        held += piece.nbytes
        if held >= BLOCK_BYTES:
            blocks.append(waiting[0] if len(waiting) == 1 else np.concatenate(waiting))
            waiting, held = [], 0
    blocks += waiting
    if len(blocks) == 1:
        return blocks[0]
    wave = np.empty(sum(block.size for block in blocks), blocks[0].dtype if blocks else empty)
    end = wave.size
    while blocks:
        block = blocks.pop()
        wave[end - block.size : end] = block
        end -= block.size
    return wave


def sum_of_squares(wave: NDArray[np.float64]) -> float:
    """Sum of the squared samples, added up in numpy's own order: halves, to a multiple of eight samples, of halves.

    Not by a dot product: BLAS adds up in another order with another number of threads, and the last bit differs.
    """
    if wave.size <= AT_ONCE:
        return float(np.square(wave).sum())
    half = wave.size // 2 // 8 * 8
    return sum_of_squares(wave[:half]) + sum_of_squares(wave[half:])
