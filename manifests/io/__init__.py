"""Files and URLs: bounded reading, atomic writing, locks and digests.

Read in this order: `url` and `place` (where a file is), `atomic` (how it is written), `json_yaml` and `yaml12` (documents), `records`
(strict pydantic models), `tar`, `digest`, `lock`, `progress`.
"""

from typing import TYPE_CHECKING

from manifests.lazy import lazy_names

if TYPE_CHECKING:
    from manifests.io.atomic import write_bytes as write_bytes
    from manifests.io.atomic import write_text as write_text
    from manifests.io.digest import canonical_json as canonical_json
    from manifests.io.digest import file_digest as file_digest
    from manifests.io.json_yaml import read_json as read_json
    from manifests.io.json_yaml import read_json_lines as read_json_lines
    from manifests.io.json_yaml import read_yaml as read_yaml
    from manifests.io.json_yaml import write_json as write_json
    from manifests.io.json_yaml import write_json_lines as write_json_lines
    from manifests.io.json_yaml import write_yaml as write_yaml
    from manifests.io.place import Place as Place
    from manifests.io.place import opened as opened
    from manifests.io.place import place_of as place_of
    from manifests.io.progress import Progress as Progress
    from manifests.io.records import Document as Document
    from manifests.io.records import Record as Record
    from manifests.io.url import Url as Url

__getattr__, __dir__ = lazy_names(__name__, __file__)
