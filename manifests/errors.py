"""The errors that a user can correct, each one line: what was found, where, what to do.

```
StillroomError                    exit code 2 of the command, which prints its message as it is
├── BadDocumentError (ValueError)     a recipe, plan, index or config that breaks its schema
│   ├── NewerSchemaError              written by a later Stillroom
│   ├── DamagedDocumentError          written by Stillroom, cut off or changed: says how to repair it
│   └── DigestMismatchError           bytes that are not those the manifest names
├── NotAPathError (TypeError)          a document or something else where a path is needed
├── MissingFileError (FileNotFoundError)
├── NotAFolderError (NotADirectoryError)
├── UnsafePathError (ValueError)      absolute, `..`, a link or a device in an untrusted manifest
├── BadTarError (ValueError)          a tar that cannot be read to its end as plain files
├── LockedError (RuntimeError)        another process writes this corpus or run
├── OtherRecipeError (ValueError)     the target folder holds something made from something else
├── NoSpaceLeftError (OSError)        a full disk
└── UsageError (ValueError)           options that do not fit together
```

The other packages derive their own from `StillroomError`; the command needs to know only that class.
"""

from __future__ import annotations

import unicodedata


def printable(text: object, *, limit: int = 200) -> str:
    r"""Untrusted text escaped and shortened for one line of a terminal, a log or Markdown.

    Control characters, ANSI escapes, newlines, bidirectional marks and surrogates become `\x..` or `\u....` escapes,
    so that a file name cannot move the cursor, forge a second line or turn the text around.

    Args:
        text: Anything with a `str`.
        limit: Longest result, in characters; the rest is replaced by an ellipsis.
    """
    shown = "".join(
        character
        if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class StillroomError(Exception):
    """Something that a user can correct; its message is one line."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the finished message: the arguments that it was built from are not stored."""
        return restored, (type(self), *self.args)


def restored(kind: type[StillroomError], *arguments: object) -> StillroomError:
    """An error as it was raised in another process."""
    problem = kind.__new__(kind, *arguments)
    problem.args = arguments
    return problem


class BadDocumentError(StillroomError, ValueError):
    """A document breaks its schema.

    Args:
        where: The file, or what it is called.
        what: What was found and what is right.
    """

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{printable(where)}: {what}")


class NewerSchemaError(BadDocumentError):
    """The document was written by a later Stillroom."""

    def __init__(self, where: object, *, found: str, known: str) -> None:
        self.found, self.known = found, known
        super().__init__(
            where,
            f"its schema is {printable(found)!r}, this Stillroom reads up to {known!r}; "
            "install a newer one: pip install -U stillroom",
        )


class DamagedDocumentError(BadDocumentError):
    """A document that Stillroom wrote, and can write again, was cut off or changed."""

    def __init__(self, problem: BadDocumentError, *, repair: str) -> None:
        StillroomError.__init__(self, f"{problem}; {repair}")


class DigestMismatchError(BadDocumentError):
    """The bytes are not those that the manifest names."""

    def __init__(self, where: object, *, expected: str, found: str) -> None:
        super().__init__(
            where,
            f"SHA-256 is {found[:16]}…, its manifest says {printable(expected)[:16]}…; the file is damaged or was replaced",
        )


class NotAPathError(StillroomError, TypeError):
    """Something else, such as a document itself, where a path is needed."""

    def __init__(self, given: object) -> None:
        super().__init__(
            f"expected a path or URL, got {type(given).__name__} {printable(given, limit=80)}; give the path of a file or folder "
            "(a recipe or config that is in memory is written to a YAML file first)"
        )


class MissingFileError(StillroomError, FileNotFoundError):
    """A file or folder that is needed is not there."""

    def __init__(self, path: object, *, needed: str) -> None:
        super().__init__(f"{printable(path)} does not exist: {needed}")


class NotAFolderError(StillroomError, NotADirectoryError):
    """A file where a folder is needed."""

    def __init__(self, path: object, *, needed: str) -> None:
        super().__init__(f"{printable(path)} is a file, not a folder: {needed}")


class UnsafePathError(StillroomError, ValueError):
    """A path in an untrusted manifest leads, or could lead, out of its root."""

    def __init__(self, path: object, *, where: object) -> None:
        super().__init__(
            f"{printable(where)}: path {printable(path)!r} is absolute, leaves its root or is not a plain file name; refused"
        )


class BadTarError(StillroomError, ValueError):
    """A tar that cannot be read to its end as plain files."""

    def __init__(self, where: object, what: str) -> None:
        super().__init__(f"{printable(where)}: {what}")


class LockedError(StillroomError, RuntimeError):
    """Another process writes to the folder."""

    def __init__(self, folder: object, *, holder: str) -> None:
        super().__init__(
            f"{printable(folder)} is being written by {printable(holder)}; wait for it, or stop it and run this command again"
        )


class OtherRecipeError(StillroomError, ValueError):
    """The target folder holds a corpus, plan or run made from something else."""

    def __init__(self, folder: object, *, what: str, found: str, wanted: str) -> None:
        super().__init__(
            f"{printable(folder)} was made from another {what} ({found[:12]}, now {wanted[:12]}); "
            "choose another folder, or remove this one first"
        )


class NoSpaceLeftError(StillroomError, OSError):
    """The disk is full; finished files stay."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"no space left while writing {printable(path)}; finished files stay: free some space and run the same command again"
        )


class UsageError(StillroomError, ValueError):
    """Options or settings that do not fit together."""
