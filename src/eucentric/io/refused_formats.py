"""Files that are known but not read, each with the way that works.

Jsubtomo's STAR and ConvertStar: embl.de/frangakis/Tools/AmiraTools/convertStar.htm.
"""

from pathlib import Path

from eucentric.io.amira import binary_surface_refusal
from eucentric.typing import PathLike

_DRAGONFLY = {".orsobject": "object", ".orssession": "session"}
_PICKLES = (".pkl", ".pickle")
_HEAD = 20_000


def refusal(path: PathLike) -> str | None:
    """Why a file is not read, and what to do instead; None where nothing is known against it. Never raises.

    The name decides, and where several programs share an ending the first bytes of the file.
    """
    place = Path(path)
    ending = place.suffix.lower()
    head = _head(place)
    name = place.name
    if ending in _DRAGONFLY:
        return (
            f"`{name}` is a {_DRAGONFLY[ending]} of Dragonfly, whose layout is not published. In Dragonfly, export images as "
            "TIFF or MRC, regions of interest as TIFF, and meshes as STL or PLY, and give those files."
        )
    if ending in _PICKLES or _is_pickle(head):
        return (
            f"`{name}` is a Python pickle. A pickle can run any code when it is opened, so none is. nextPYP exports its own to "
            "RELION (block Export); other programs write .star, .csv or .json."
        )
    if ending == ".mat" or head.startswith(b"MATLAB "):
        return (
            f"`{name}` is a MATLAB file, which has no fixed contents. In MATLAB, write a table with "
            "`writematrix(t, 'name.csv')` or Dynamo's `dwrite(t, 'name.tbl')`, and a volume with `dwrite(v, 'name.mrc')`."
        )
    if ending == ".i3t":
        return (
            f"`{name}` is Protomo's own binary record of a run. Write it as text in Protomo's Python: "
            '`protomo.series(protomo.param("x.param")).geom(1).write("x.tlt")`.'
        )
    if _is_binary_surface(head, ending):
        return binary_surface_refusal(place)
    if ending == ".hx" or head.startswith((b"# Amira Script", b"# Amira Project")):
        return (
            f"`{name}` is a project of Amira: a script that loads other files. Give the volumes, labels and graphs that it names "
            "(.am, .surf)."
        )
    return _jsubtomo(name, head)


def _head(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _is_pickle(head: bytes) -> bool:
    """Protocols 2 to 5 begin with their number; text pickles are told by their name only."""
    return len(head) > 2 and head[0] == 0x80 and head[1] in (2, 3, 4, 5) and head[2:3] in b"}](cX\x95\x8c"


def _is_binary_surface(head: bytes, ending: str) -> bool:
    first = head.split(b"\n", 1)[0].upper()
    if first.startswith(b"# HYPERSURFACE"):
        return b"ASCII" not in first
    binary = first.startswith((b"# AMIRAMESH", b"# AVIZO")) and b"BINARY" in first
    return binary and (b"<HXSURFACE>" in first or ending == ".surf")


def _jsubtomo(name: str, head: bytes) -> str | None:
    """Jsubtomo keeps particles as Bsoft's STAR: positions, origins, and a view vector with an angle about it."""
    text = head.lower()
    if "jsubtomo" not in name.lower() and not (name.lower().endswith(".star") and b"_particle.view_x" in text):
        return None
    return (
        f"`{name}` is of Jsubtomo, which keeps particles as Bsoft's STAR (a view vector and an angle); that is not read. Turn it "
        "into a motive list (.em) with EMBL's ConvertStar for Amira, or write a text table of positions and angles."
    )
