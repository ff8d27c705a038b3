"""One response of one shoebox by pyroomacoustics, with its global settings and random state fixed for the call."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyroomacoustics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from corpus_builder.rooms.placement import Metres
    from manifests.plan.rooms import PlannedRays

SOUND_M_PER_S = 343.0
FILTER_TAPS = 81
BIN_S = 0.004
# pyroomacoustics' defaults, fixed whatever the environment or other users of its globals set
PINNED: Final[dict[str, object]] = {
    "num_threads": 1,  # two threads add up in another order, and the bits differ
    "c": SOUND_M_PER_S,
    "frac_delay_length": FILTER_TAPS,
    "sinc_lut_granularity": 20,
    "rir_hpf_enable": True,
    "rir_hpf_fc": 10.0,
    "rir_hpf_kwargs": {"n": 2, "rp": 5.0, "rs": 60.0, "type": "butter"},
}


def arrival_sample(microphone_m: Metres, source_m: Metres, *, rate_hz: int) -> int:
    """Where the direct sound arrives, with half the fractional-delay filter that pyroomacoustics puts before everything."""
    return round(math.dist(microphone_m, source_m) / SOUND_M_PER_S * rate_hz) + FILTER_TAPS // 2


@dataclass(frozen=True)
class Tracing:
    """The ray tracing of one position.

    Attributes:
        rays: As planned for the room.
        position: Number of the source: each has its own random state.
        longest_s: How long the rays are followed.
    """

    rays: PlannedRays
    position: int
    longest_s: float


def impulse(
    size_m: Metres,
    microphone_m: Metres,
    source_m: Metres,
    *,
    absorption: float,
    order: int,
    rate_hz: int,
    tracing: Tracing | None = None,
) -> NDArray[np.float64]:
    """The bare response as pyroomacoustics gives it, shape (taps,): image sources up to an order, and rays if they are to be traced."""
    with pinned_constants(), contextlib.ExitStack() as stack:
        walls = pyroomacoustics.Material(absorption, None if tracing is None else tracing.rays.scattering)
        box = pyroomacoustics.ShoeBox(size_m, fs=rate_hz, materials=walls, max_order=order)
        if tracing is not None:
            stack.enter_context(pinned_random_state(tracing))
            box.set_ray_tracing(
                n_rays=tracing.rays.count,
                receiver_radius=tracing.rays.radius_m,
                energy_thres=1e-7,
                time_thres=tracing.longest_s,
                hist_bin_size=BIN_S,
            )
        box.add_microphone(microphone_m)
        box.add_source(source_m)
        box.compute_rir()
    return np.asarray(box.rir[0][0], dtype=np.float64)


@contextlib.contextmanager
def pinned_random_state(tracing: Tracing) -> Iterator[None]:
    """Seed pyroomacoustics' global generator from the plan, and restore it afterwards.

    The seed is fresh for each position, so what was simulated before does not matter. Its second generator, in the compiled part,
    cannot be read; it is left seeded.
    """
    generator = pyroomacoustics.random.generator
    before = generator._rng  # noqa: SLF001 (it has no reader that does not make one)
    try:
        pyroomacoustics.random.seed(numpy=[tracing.rays.seed, tracing.position])
        yield
    finally:
        generator._rng = before  # noqa: SLF001


@contextlib.contextmanager
def pinned_constants() -> Iterator[None]:
    """Set pyroomacoustics' global settings for the call, and restore them afterwards."""
    before = {name: pyroomacoustics.constants.get(name) for name in PINNED}
    try:
        for name, value in PINNED.items():
            pyroomacoustics.constants.set(name, value)
        yield
    finally:
        for name, value in before.items():
            pyroomacoustics.constants.set(name, value)
