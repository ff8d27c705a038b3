"""What a model was exposed to in training: `categories` (clean, seen, new), `training_set`, `test_copies`."""
