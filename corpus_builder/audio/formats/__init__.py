"""Readers of audio formats: what a file is, how many samples it has, and whether all of it is there.

Read in this order: `content` (the format by a file's first bytes), `tags`, `views` (a file with a corrected header), `chunks` (WAV and its
relatives), `flac_frames`, `ogg_pages`, `mpeg_frames` and `mpeg_stream` (MP3), `adts_frames`, `container_ends`.
"""
