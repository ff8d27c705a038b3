"""The embedded teacher `nano`: half-precision weights, their shape, their card and what they have heard."""
