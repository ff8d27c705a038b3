"""Utterances of a recipe: a lhotse manifest or a folder, and which of them are used."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from manifests.errors import UnsafePathError
from manifests.io.json_yaml import safe_relative
from manifests.io.records import Name, Record

Channel: TypeAlias = Annotated[int, Field(ge=0, le=1023)] | Literal["mix"]
"""Number of a channel, from 0, or the mean of all."""


class SpeechSource(Record):
    """Utterances of one split: a lhotse manifest or a folder.

    Attributes:
        cuts: A lhotse manifest (cuts or recordings, JSON lines, plain or gzip); or
        dir: a folder of audio files.
        strip: A prefix removed from the paths in `cuts`.
        channel: Channel of a file with several, from 0, or `mix` for the mean of all; None if files have one.
        pattern: Glob pattern of the files of a folder.
        fields: A template of the path below the folder, such as `{speaker}/{id}.flac`; each name matches `[^/]+`.
        table: A CSV beside or in the folder with the column `path` and any of id, text, speaker, language; others are custom.
        min_s: Shorter utterances are left out and counted.
        max_s: Longer utterances are left out and counted.
        root: Name of the root of its files, for `--root`; the name of the source by default.
        licence: Licence of its audio, as its owner states it: `CC BY 4.0`, or a URL. Shown on the dataset card and in packs.
        citation: What its owner wants to be cited.
    """

    OTHER_NAMES: ClassVar[dict[str, str]] = {
        "path": "write dir",
        "folder": "write dir",
        "files": "write dir, and pattern for which of its files",
        "manifest": "write cuts",
        "recordings": "write cuts",
        "csv": "write table",
        "transcript": "texts come from table (a column text) or cuts",
        "speaker": "speakers come from fields, table or cuts",
        "min_duration": "write min_s, in seconds",
        "max_duration": "write max_s, in seconds",
    }

    cuts: str | None = None
    dir: str | None = None
    strip: str | None = None
    channel: Channel | None = None
    pattern: str = "**/*"
    fields: str | None = None
    table: str | None = None
    min_s: Annotated[float, Field(ge=0)] = 0.0
    max_s: Annotated[float, Field(gt=0)] = 600.0
    root: Name | None = None
    licence: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    citation: Annotated[str, Field(min_length=1, max_length=8000)] | None = None

    @field_validator("pattern")
    @classmethod
    def check_pattern(cls, pattern: str) -> str:
        """It stays below the folder."""
        try:
            return safe_relative(pattern, where="pattern")
        except UnsafePathError:
            raise ValueError(f"expected a pattern below dir, such as '**/*.flac', got {pattern!r}") from None

    @model_validator(mode="after")
    def check_one_origin(self) -> Self:
        """Either cuts or dir, with the options that fit."""
        if (self.cuts is None) == (self.dir is None):
            raise ValueError("expected exactly one of cuts (a lhotse manifest) and dir (a folder)")
        if self.cuts is not None and (self.fields or self.table or self.pattern != "**/*"):
            raise ValueError("fields, table and pattern go with dir, not with cuts")
        if self.dir is not None and self.strip is not None:
            raise ValueError("strip goes with cuts, not with dir")
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s:g} is above max_s {self.max_s:g}")
        if self.fields is not None:
            check_template(self.fields)
        return self


def check_template(template: str) -> None:
    """Check that a template has each name once, and no regular expression."""
    names = re.findall(r"\{([^{}]*)\}", template)
    if not names or any(not re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names) or len(set(names)) != len(names):
        raise ValueError(f"expected a template such as '{{speaker}}/{{id}}.flac', each name once, got {template!r}")
