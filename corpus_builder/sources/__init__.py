"""Speech, noise and room responses as users have them.

Read in this order: `utterance`, `folder` and `path_labels` (folders of files), `lhotse_manifest`, `lhotse_cut` and `lhotse_shar`, `noise_files`, `rir_files`,
`roots` and `relative_paths` (what replaces this machine's folders).
"""
