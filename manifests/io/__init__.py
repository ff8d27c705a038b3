"""Files and URLs: bounded reading, atomic writing, locks and digests.

Read in this order: `url` and `place` (where a file is), `atomic` (how it is written), `json_yaml` and `yaml12` (documents), `records`
(strict pydantic models), `tar`, `digest`, `lock`, `progress`.
"""
