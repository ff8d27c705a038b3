"""Stillroom: distil speech models so that they keep working when the speech is distorted."""

__version__ = "0.1.0"
