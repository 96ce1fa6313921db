"""The text dialect of IMOD's and SerialEM's metadata: `Key = value` lines, and sections that begin with `[Kind = name]`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eucentric.errors import FormatError, InputError


@dataclass(frozen=True, slots=True)
class AutodocLine:
    """One line that says something."""

    number: int
    key: str
    value: str
    is_section: bool
    """Whether it stood in brackets."""
    is_ended: bool
    """Whether an end of line follows it; it may be cut off where none does."""

    @property
    def remedy(self) -> str:
        """What to do where the line says nothing that can be used."""
        if self.is_ended:
            return "Correct the line."
        return "The file ends there, so it seems to be cut off: copy it again, or take out its last section."


def autodoc_text(path: Path, kind: str = "an mdoc file") -> str:
    """Text of a file, UTF-8 or what old Windows programs wrote.

    Raises
    ------
    InputError : no such file
    FormatError : not text
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist, or is not a file. Check the name and the folder.")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise FormatError(f"`{path}` is not a text file. Expected {kind} as SerialEM writes.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def autodoc_lines(text: str, path: Path) -> Iterator[AutodocLine]:
    """Lines in order, without blank ones and comments.

    Raises
    ------
    FormatError : a line that is neither `Key = value` nor `[Section = value]`
    """
    for number, raw in enumerate(text.splitlines(keepends=True), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        is_ended = raw.splitlines() != [raw]
        bracketed = line.startswith("[")
        # a value may end in a bracket of its own, so brackets come off only where the line begins with one
        inner = line.removeprefix("[").removesuffix("]").strip()
        key, equals, value = (part.strip() for part in inner.partition("="))
        if not bracketed and key != "T":
            value = line.partition("=")[2].strip()
        found = AutodocLine(number, key, value, bracketed, is_ended)
        if not equals or not key or (bracketed and not line.endswith("]")):
            raise FormatError(
                f"Line {number} of `{path}` is `{line[:60]}`; expected `Key = value` or `[Section = value]`. {found.remedy}"
            )
        yield found
