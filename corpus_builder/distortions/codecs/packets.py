"""Coded speech as packets of 20 ms, some of which may be lost on the way to the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from manifests.recipe.codecs import Concealment

PACKET_S = 0.02


@dataclass(frozen=True)
class Coded:
    """The packets of one coded wave, and how to decode them.

    Attributes:
        packets: One every 20 ms.
        decode: From any packets to ``packet_samples`` samples each, full scale at +-1 or int16, shape (packets * packet_samples,).
        packet_samples: Samples that a packet decodes to.
        stand_in: From the last packet received to one that makes the decoder conceal; None where it cannot.
        skip_samples: Samples at the start that the format says to drop.
    """

    packets: list[bytes]
    decode: Callable[[list[bytes]], NDArray[Any]]
    packet_samples: int
    stand_in: Callable[[bytes], bytes] | None = None
    skip_samples: int = 0

    def decoded(self) -> NDArray[Any]:
        """All packets decoded, none lost, shape (time,)."""
        return self.decode(self.packets)[self.skip_samples :]

    def decoded_with_losses(self, frame_is_lost: NDArray[np.bool_], *, conceal: Concealment) -> NDArray[Any]:
        """Decode with packets lost.

        A lost packet is left out unless the decoder conceals it itself, so that a decoder with a state goes on from the packet
        before, as a receiver's does.

        Args:
            frame_is_lost: Shape (packets,).
            conceal: What replaces a lost packet.

        Returns:
            Samples, shape (time,), as long as without losses.
        """
        match conceal:
            case "codec":
                decoded = self.decode(list(self.substituted(frame_is_lost)))
            case "zeros" | "repeat":
                sent = [packet for packet, gone in zip(self.packets, frame_is_lost, strict=True) if not gone]
                received = self.decode(sent) if sent else np.zeros(0)
                frames = np.zeros((len(self.packets), self.packet_samples), received.dtype)
                frames[~frame_is_lost] = received.reshape(-1, self.packet_samples)
                if conceal == "repeat":
                    latest = np.maximum.accumulate(np.where(frame_is_lost, -1, np.arange(len(frames))))
                    filled = frame_is_lost & (latest >= 0)
                    frames[filled] = frames[latest[filled]]
                decoded = frames.reshape(-1)
            case _:
                assert_never(conceal)
        return decoded[self.skip_samples :]

    def substituted(self, frame_is_lost: NDArray[np.bool_]) -> Iterator[bytes]:
        """The packets, each lost one replaced by what makes the decoder conceal."""
        assert self.stand_in is not None, "the recipe's own check holds that this decoder conceals"
        latest = self.packets[0]
        for packet, gone in zip(self.packets, frame_is_lost, strict=True):
            latest = latest if gone else packet
            yield self.stand_in(latest) if gone else packet


def split(stream: bytes, size: int) -> list[bytes]:
    """A stream of bytes in whole packets of one size; what is left over is dropped."""
    return [stream[start : start + size] for start in range(0, len(stream) - size + 1, size)]
