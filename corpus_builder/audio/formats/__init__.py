"""Readers of audio formats: what a file holds, how many samples there are, and each stretch of them.

Read in this order: `content` (the format by a file's first bytes), `chunks` (WAV and its relatives), `flac_frames`, `ogg_pages`,
`mpeg_frames` and `mpeg_stream` (MP3), `views` (a file with a corrected header).
"""
