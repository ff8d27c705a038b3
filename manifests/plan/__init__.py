"""The plan of a corpus: what was decided, in numbers, one row an utterance.

Read in this order: `plan` (rows and the plan's own index), `steps` and `channel_steps` (planned distortions), `rooms`, `references` (files,
responses and roots that planned steps refer to).
"""
