"""One list of what checks a file of each kind: by the ending of its name, and by its content where that says another thing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.errors import EucentricError, FormatError
from eucentric.io import text_checks as checks
from eucentric.io.amira import read_amira_graph
from eucentric.io.atoms import read_atoms
from eucentric.io.curves import read_curves
from eucentric.io.em import validate_em
from eucentric.io.findings import Finding
from eucentric.io.hdf import validate_hdf
from eucentric.io.imod import read_angle_table
from eucentric.io.meshes import read_mesh
from eucentric.io.movies import open_movie
from eucentric.io.mrc_checks import validate_mrc
from eucentric.io.navigator import read_navigator
from eucentric.io.ome_zarr import validate_ome_zarr
from eucentric.io.particles import particle_format
from eucentric.io.star_checks import check_star
from eucentric.io.volumes import open_volume

Check = Callable[[Path], list[Finding]]
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A kind of file, and what finds its faults."""

    name: str
    endings: tuple[str, ...]
    check: Check
    binary: bool = False


def _check_movie(path: Path) -> list[Finding]:
    with open_movie(path) as movie:
        notes = [Finding(severity="note", text=f"`{path}`: {note}") for note in movie.header.notes]
        for _ in movie.blocks(1):  # a damaged frame is an error
            pass
    return notes


def _check_volume(path: Path) -> list[Finding]:
    volume = open_volume(path)
    out = [Finding(severity="note", text=note) for note in volume.info.notes]
    if volume.info.voxel_size_angstrom is None:
        out.append(Finding(severity="warning", text=f"`{path}` holds no pixel size. Give it where the file is used."))
    broken = sum(int(np.count_nonzero(~np.isfinite(slab))) for slab in volume.slabs() if slab.dtype.kind == "f")
    if broken:
        out.append(Finding(severity="error", text=f"`{path}` holds {broken:,} values that are not numbers."))
    return out


def _check_star(path: Path) -> list[Finding]:
    """The tables, and particles as their reader sees them."""
    found = check_star(path)
    if path.suffix.lower() == ".tomostar" or any(finding.severity == "error" for finding in found):
        return found
    try:
        particle_format(path)
    except EucentricError:
        return found  # no particles
    return [*found, *checks.check_particles(path)]


def _check_amira(path: Path) -> list[Finding]:
    """A volume, or lines and points."""
    try:
        return _check_volume(path)
    except FormatError:
        try:
            read_amira_graph(path)
        except EucentricError:
            pass
        else:
            return []
        raise


FILE_KINDS: tuple[FileKind, ...] = (
    FileKind(
        name="MRC",
        endings=(".mrc", ".mrcs", ".st", ".ali", ".rec", ".map", ".preali", ".gz", ".bz2"),
        check=validate_mrc,
        binary=True,
    ),
    FileKind(name="EM", endings=(".em",), check=validate_em, binary=True),
    FileKind(name="TIFF", endings=(".tif", ".tiff", ".gain"), check=_check_movie, binary=True),
    FileKind(name="EER", endings=(".eer",), check=_check_movie, binary=True),
    FileKind(name="DigitalMicrograph", endings=(".dm3", ".dm4"), check=_check_volume, binary=True),
    FileKind(name="HDF", endings=(".hdf", ".h5"), check=validate_hdf, binary=True),
    FileKind(name="Amira", endings=(".am",), check=_check_amira, binary=True),
    FileKind(name="OME-Zarr", endings=(".zarr",), check=validate_ome_zarr, binary=True),
    FileKind(name="STAR", endings=(".star", ".tomostar"), check=_check_star),
    FileKind(name="mdoc", endings=(".mdoc",), check=checks.check_mdoc),
    FileKind(name="navigator", endings=(".nav",), check=checks.check_read(read_navigator)),
    FileKind(name="numbers", endings=(), check=checks.check_read(read_angle_table)),
    FileKind(name="XML", endings=(".xml",), check=checks.check_warp_xml),
    FileKind(name="AreTomo alignment", endings=(".aln",), check=checks.check_aretomo),
    FileKind(name="IMOD transforms", endings=(".xf", ".prexg", ".tltxf"), check=checks.check_transforms),
    FileKind(name="angles", endings=(".tlt", ".rawtlt", ".xtilt"), check=checks.check_angles),
    FileKind(name="CTF table", endings=(".defocus",), check=checks.check_ctf),
    FileKind(name="IMOD command", endings=(".com",), check=checks.check_command),
    FileKind(name="Dynamo table", endings=(".tbl",), check=checks.check_dynamo),
    FileKind(
        name="list of particles", endings=(".lst", ".xmd", ".sqlite", ".ndjson", ".prm"), check=checks.check_particles
    ),
    FileKind(name="IMOD model", endings=(".mod", ".fid"), check=checks.check_model, binary=True),
    FileKind(name="JSON", endings=(".json",), check=checks.check_json),
    FileKind(name="CSV", endings=(".csv",), check=checks.check_csv),
    FileKind(name="numpy archive", endings=(".npz",), check=checks.check_read(read_curves), binary=True),
    FileKind(name="atomic model", endings=(".pdb", ".cif", ".mmcif"), check=checks.check_read(read_atoms)),
    FileKind(name="mesh", endings=(".ply", ".stl", ".obj", ".vtk"), check=checks.check_read(read_mesh)),
)
_BY_NAME = {kind.name: kind for kind in FILE_KINDS}


def kind_by_content(path: Path) -> FileKind | None:
    """What the first bytes of a file, or the files in a folder, say; None where they say nothing."""
    if path.is_dir():
        return _BY_NAME["OME-Zarr"] if any((path / n).is_file() for n in ("zarr.json", ".zattrs", ".zgroup")) else None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        size = path.stat().st_size
    except OSError:
        return None
    name = _binary_kind(head, size) or _text_kind(head)
    return None if name is None else _BY_NAME[name]


def _binary_kind(head: bytes, size: int) -> str | None:
    starts = {
        b"\x89HDF\r\n\x1a\n": "HDF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"IMODV1.2": "IMOD model",
        b"\0\0\0\3": "DigitalMicrograph", b"\0\0\0\4": "DigitalMicrograph", b"PK\3\4": "numpy archive", b"# AmiraMesh": "Amira",
        b"# Avizo": "Amira", b"\x1f\x8b": "MRC", b"BZh": "MRC",
    }  # fmt: skip
    if head[208:211] == b"MAP":
        return "MRC"
    found = next((name for start, name in starts.items() if head.startswith(start)), None)
    if found == "DigitalMicrograph" and not (len(head) > 16 and head[4:16].count(0) >= 3):
        return None
    if found is None and len(head) >= 512 and head[0] <= 6 and head[3] in (1, 2, 4, 5, 9):
        order = ">" if head[0] in (0, 3, 5) else "<"
        sizes = np.frombuffer(head[4:16], order + "i4").tolist()
        item = {1: 1, 2: 2, 4: 4, 5: 4, 9: 8}[head[3]]
        if min(sizes) > 0 and 512 + sizes[0] * sizes[1] * sizes[2] * item == size:
            return "EM"
    return found


def _text_kind(head: bytes) -> str | None:
    if b"\0" in head[:512] and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    text = (
        head.decode("utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "latin-1", errors="replace")
        .lstrip("\ufeff")
        .lstrip()
    )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if text.startswith("<"):
        return "XML"
    if text.startswith(("{", "[{", "[\n")):
        return "JSON"
    if lines[0].startswith("# AreTomo"):
        return "AreTomo alignment"
    if "CTFFind" in lines[0] or lines[0].startswith("# Columns: #1"):
        return "CTF table"
    if any(line.startswith("data_") for line in lines[:40]) and any(
        line.startswith(("loop_", "_")) for line in lines[:60]
    ):
        return "atomic model" if any(line.startswith(("_atom_site.", "_entry.")) for line in lines) else "STAR"
    if any(line.startswith(("[ZValue", "[FrameSet", "[T =", "AdocVersion", "[Item")) for line in lines[:60]):
        return "mdoc"
    return _number_kind(lines)


def _number_kind(lines: list[str]) -> str | None:
    """Of lines of numbers alone, by how many they are."""
    rows = []
    for line in lines[:50][: max(1, len(lines) - 1)]:  # the last line may be cut
        try:
            rows.append(len([float(word) for word in line.split()]))
        except ValueError:
            return None
    if len(set(rows)) != 1:
        return None
    return {1: "numbers", 6: "IMOD transforms"}.get(rows[0]) or ("Dynamo table" if rows[0] >= 26 else None)


def validate_file(path: Path, more: Mapping[str, Check] | None = None) -> list[Finding]:
    """Everything odd about one file, or about an OME-Zarr folder.

    Parameters
    ----------
    more : further checks by ending, such as those of a project's own files

    Returns
    -------
    findings : an `error` where the file cannot be used, as one of a kind that cannot be checked
    """
    if not path.exists():
        return [Finding(severity="error", text=f"`{path}` does not exist. Check the name and the folder.")]
    ending = path.suffix.lower()
    if more is not None and ending in more:
        return checks.told(more[ending], path)
    named = next((kind for kind in FILE_KINDS if ending in kind.endings), None)
    if named is not None and ending in (".gz", ".bz2") and Path(path.stem).suffix.lower() in (".pdb", ".cif", ".mmcif"):
        named = _BY_NAME["atomic model"]
    held = kind_by_content(path)
    if named is None and held is None:
        known = " ".join(e for kind in FILE_KINDS for e in kind.endings)
        return [Finding(severity="error", text=f"`{path}` is of a kind that cannot be checked. Known are {known}.")]
    kind = _of_two(named, held)
    out = []
    if named is not None and kind is not named:
        out.append(
            Finding(
                severity="warning",
                text=f"`{path}` is called as {named.name}, but holds {kind.name}. It was checked as that; give it its right ending.",
            )
        )
    return [*out, *checks.told(kind.check, path)]


_SAME_BYTES = {
    frozenset(pair)
    for pair in (("TIFF", "EER"), ("navigator", "mdoc"), ("MRC", "atomic model"), ("CSV", "Dynamo table"))
}


def _of_two(named: FileKind | None, held: FileKind | None) -> FileKind:
    """What a file is checked as: its content decides only where it is sure and the name cannot be right."""
    if named is None:
        assert held is not None
        return held
    if held is None or held is named or frozenset((named.name, held.name)) in _SAME_BYTES:
        return named
    sure = held.binary or held.name in ("STAR", "XML", "mdoc", "AreTomo alignment")
    vague = held.name in ("numbers", "IMOD transforms", "Dynamo table", "JSON", "CTF table")
    return held if sure and not vague else named


def files_of(folder: Path) -> Iterator[Path]:
    """Files of a folder and those below it, an OME-Zarr folder as one; hidden ones are passed over."""
    for place in sorted(folder.iterdir()):
        if place.name.startswith("."):
            continue
        if place.is_dir() and kind_by_content(place) is None:
            yield from files_of(place)
        else:
            yield place


def is_checked(path: Path, more: Mapping[str, Check] | None = None) -> bool:
    """Whether there is a check for a file, by its name or its content."""
    ending = path.suffix.lower()
    by_name = ending in (more or {}) or any(ending in kind.endings for kind in FILE_KINDS)
    return by_name or kind_by_content(path) is not None


def validate_all(paths: list[Path], more: Mapping[str, Check] | None = None) -> dict[str, list[Finding]]:
    """Findings by file, of files and of all files in folders; files of unknown kinds in folders are counted in a note."""
    out: dict[str, list[Finding]] = {}
    for path in paths:
        if not path.is_dir() or kind_by_content(path) is not None or path.suffix.lower() == ".zarr":
            out[str(path)] = validate_file(path, more)
            continue
        try:
            inside = list(files_of(path))
        except OSError as error:
            out[str(path)] = [Finding(severity="error", text=f"`{path}` cannot be read: {error.strerror}.")]
            continue
        known = [p for p in inside if is_checked(p, more)]
        for file in known:
            out[str(file)] = validate_file(file, more)
        passed = len(inside) - len(known)
        if passed or not known:
            text = f"`{path}`: {passed} files of kinds that are not checked were passed over."
            out[str(path)] = [Finding(severity="note" if known else "warning", text=text)]
    return out
