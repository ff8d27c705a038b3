"""Results of commands: `scores` of an evaluation, `reports` of the other commands, `training_exposure` (what a model was trained on)."""
