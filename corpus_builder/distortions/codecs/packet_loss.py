"""Draws which packets of 20 ms are lost: independently, or in bursts (Gilbert 1960, Elliott 1963)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.distortions.codecs.packets import PACKET_S
from manifests.recipe.codecs import odds_of_bad

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packet_count(num_samples: int, *, rate_hz: int) -> int:
    """How many packets carry that many samples."""
    return math.ceil(num_samples / (PACKET_S * rate_hz))


def packet_is_lost(
    num_packets: int,
    *,
    seed: int,
    percent: float,
    burst_packets: float | None = None,
    bad_percent: float = 100.0,
    good_percent: float = 0.0,
) -> NDArray[np.bool_]:
    """Render the losses of a seed; the first packets are the same whatever their number.

    Without bursts a packet is lost with probability ``percent / 100``. With them a Markov chain of two states, begun in its
    stationary distribution, leaves the bad state with probability ``1 / burst_packets`` a packet and enters it as often as the mean
    loss needs; in each state a packet is lost with that state's own probability.

    Args:
        num_packets: How many.
        seed: Of `RandomState`, whose stream is frozen.
        percent: Mean loss.
        burst_packets: Mean stay in the bad state, in packets; None for independent losses.
        bad_percent: Share lost in the bad state.
        good_percent: Share lost in the good state.

    Returns:
        True where a packet is lost, shape (num_packets,).
    """
    values = np.random.RandomState(seed).random_sample((num_packets, 2))
    if burst_packets is None:
        return values[:, 0] < percent / 100.0
    odds = odds_of_bad(percent, bad_percent=bad_percent, good_percent=good_percent)
    leave = 1.0 / burst_packets
    enter = leave * odds
    is_bad = np.zeros(num_packets, dtype=np.bool_)
    bad = False
    for number, value in enumerate(values[:, 1].tolist()):
        turns_bad = enter if number else odds / (1.0 + odds)
        bad = value >= leave if bad else value < turns_bad
        is_bad[number] = bad
    return values[:, 0] < np.where(is_bad, bad_percent, good_percent) / 100.0
