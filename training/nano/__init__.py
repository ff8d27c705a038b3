"""The embedded teacher's files: weights, config, card, digests of its training audio, licence. Read by `training.teacher`."""
