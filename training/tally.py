"""How many different things were heard, in a memory that does not grow with them."""

from __future__ import annotations

import math

import torch

from training.order import named_number

PLACES_BITS = 14
PLACES = 1 << PLACES_BITS
REST_BITS = 64 - PLACES_BITS
# Flajolet, Fusy, Gandouet and Meunier (2007), figure 3: the constant of the estimate for many places.
ALPHA = 0.7213 / (1 + 1.079 / PLACES)
LINEAR_UNTIL = 2.5 * PLACES


class DistinctCount:
    """HyperLogLog: 16 kB whatever is counted; within about 1 % (standard error 0.8 %), nearly exact below 40 000.

    Attributes:
        ranks: Shape (16384,), uint8; two counts are joined by the larger of each.
    """

    def __init__(self) -> None:
        self.ranks = torch.zeros(PLACES, dtype=torch.uint8)

    def add(self, *names: str) -> None:
        """Count a thing with this name, if it was not counted before."""
        number = named_number(0, "tally", *names)
        place, rest = number >> REST_BITS, number & ((1 << REST_BITS) - 1)
        rank = REST_BITS - rest.bit_length() + 1
        if rank > int(self.ranks[place]):
            self.ranks[place] = rank

    def estimate(self) -> int:
        """How many different things were counted."""
        empty = int((self.ranks == 0).sum())
        found = ALPHA * PLACES**2 / float(torch.exp2(-self.ranks.double()).sum())
        if found <= LINEAR_UNTIL and empty:
            found = PLACES * math.log(PLACES / empty)
        return round(found)
