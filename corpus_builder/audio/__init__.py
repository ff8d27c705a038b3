"""Audio files and waves: decoding, resampling, levels.

Read in this order: `decode` (a stretch of a file as float64 at the corpus rate), `containers`, `tar_members` and `remote` (where files can be),
`decode_bytes` (audio in memory), `resample`, `levels`, `flac`, `errors`.
"""
