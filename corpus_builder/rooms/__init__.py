"""Room impulse responses: simulated by the image-source method, or measured.

Read in this order: `placement` (rooms and positions), `image_source`, `acoustics` (RT60, direct-to-reverberant ratio), `calibration` (to the
requested RT60), `measured_rir`, `rir_bank` (responses on a disk), `build_banks`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from corpus_builder.rooms.acoustics import measured_response as measured_response
    from corpus_builder.rooms.acoustics import measured_t30_s as measured_t30_s
    from corpus_builder.rooms.rir_bank import read_bank as read_bank

__getattr__, __dir__ = lazy_names(__name__, __file__)
