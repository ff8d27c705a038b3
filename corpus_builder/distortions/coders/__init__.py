"""Coders and decoders, each at its own sample rate and with its delay left in; `corpus_builder.distortions.codec` calls them."""
