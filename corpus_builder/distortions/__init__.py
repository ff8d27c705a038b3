"""Pure functions `(wave, *, numbers) -> wave`, one file a kind of distortion."""
