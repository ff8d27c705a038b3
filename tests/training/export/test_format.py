"""What a format cannot be, and which library is missing, is one line."""

from __future__ import annotations

import pytest

from manifests.errors import UsageError
from training.export.format import NotExportableError, Written, library_missing


def test_a_student_that_a_format_cannot_represent_is_named_with_every_reason():
    found = NotExportableError("my\nrun", form="s3prl", why=["it is wide", "it is deep"], instead="write another")
    assert str(found) == "my\\nrun cannot be written as s3prl: it is wide; it is deep; write another"
    with pytest.raises(UsageError) as caught:
        library_missing("s3prl", install="pip install x")
    expected = "--to s3prl compares what it writes by the library that reads it, which is not installed: pip install x"
    assert str(caught.value) == expected
    written = Written("a", "b", "c", len)
    assert (written.note, written.is_rounded) == ("", False)
