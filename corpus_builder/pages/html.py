"""Writes an HTML page as one file that needs no network, no script and no other file.

A page's content policy forbids everything but its own styles and `data:` images and sounds, so that untrusted text could
not fetch or run anything even if it were not escaped; it is escaped too, by jinja2 and by `printable`.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus_builder.pages.colours import declarations
from manifests.io.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """The templates of a folder, and `base.html`, which they extend."""
    import jinja2

    folders = [folder, Path(__file__).parent]
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    made.globals["colours"] = declarations()
    return made


def write_html(path: Path, template: str, *, folder: Path, content: Mapping[str, Any]) -> None:
    """Render a template into one file, atomically.

    Args:
        path: The page.
        template: Name of the template.
        folder: Of the template.
        content: The template's variables.
    """
    write_text(path, environment(folder).get_template(template).render(**content))


def data_uri(content: bytes, *, kind: str) -> str:
    """Bytes as a `data:` URI of a media type such as `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
