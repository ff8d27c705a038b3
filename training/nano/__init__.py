"""The embedded teacher's files: weights, config, card, the digests of what it heard, licence. Read by `training.teacher`."""
