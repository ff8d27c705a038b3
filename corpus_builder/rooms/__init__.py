"""Room impulse responses: simulated by the image-source method, or measured.

Read in this order: `placement` (rooms and positions), `image_source`, `acoustics` (RT60, direct-to-reverberant ratio), `calibration` (to the
requested RT60), `measured_rir`, `rir_bank` (responses on a disk), `build_banks`.
"""
