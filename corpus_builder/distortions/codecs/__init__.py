"""Speech and music codecs: a wave is encoded and decoded, its delay removed.

Read in this order: `transcode` (the function that rendering calls), `delay`, `packet_loss`, `round_trip` (encoders and decoders at their own rate, delay
left in), `telephony`, `music`, `opus`, `packets`, `ffmpeg`.
"""
