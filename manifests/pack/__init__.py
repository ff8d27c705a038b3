"""Packs: everything of a corpus except the audio of speech and noise, in one file to share.

Read in this order: `contents` (what a pack holds), `write`, `read`, `validate`, `view` (corpus, plan or pack, read alike).
"""
