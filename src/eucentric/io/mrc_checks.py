"""What is odd about an MRC file, and what to do: header, voxels, and the mdoc beside it.

References: Cheng et al., J. Struct. Biol. 192:146 (2015), doi:10.1016/j.jsb.2015.04.002 (MRC2014); IMOD's MRC format page,
https://bio3d.colorado.edu/imod/doc/mrc_format.txt; the records of FEI1 and FEI2 as the `mrcfile` library has them.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE, get_ext_header_dtype
from numpy.typing import NDArray

from eucentric.errors import EucentricError
from eucentric.io.findings import Finding, Severity
from eucentric.io.imod import read_angles
from eucentric.io.mdoc import read_mdoc
from eucentric.io.mrc import IMOD_STAMP, MrcHeader, read_mrc, read_unpacked
from eucentric.typing import PathLike

_HEADER_BYTES = 1024
_AGARD_BYTES = 131072  # 1,024 records of 128 bytes, as FEI's older programs write
_KNOWN_TYPES = ("SERI", "FEI1", "FEI2", "CCP4", "MRCO", "AGAR", "HDF5")
_FEI_TYPES = ("FEI1", "FEI2")
_SAME_SIZE = 0.01
_MOST_EXTENDED = 2**24
_BYTE_SMOOTHER = 0.5


@dataclass(slots=True)
class _Found:
    path: Path
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: Severity, text: str) -> None:
        self.findings.append(Finding(severity=severity, text=f"`{self.path}` {text}"))


def validate_mrc(path: PathLike) -> list[Finding]:
    """Everything odd about a file; a file that cannot be read gives one `error`."""
    place = Path(path)
    try:
        array, header = read_mrc(place, as_stored=True)
        raw = read_unpacked(place, min(header.data_offset, _MOST_EXTENDED))
    except EucentricError as error:
        return [Finding(severity="error", text=str(error))]
    found = _Found(place, list(header.findings))
    record = np.frombuffer(raw[:_HEADER_BYTES], dtype=HEADER_DTYPE.newbyteorder(">" if header.big_endian else "<"))[0]
    _check_stamp(found, record, header)
    _check_extended(found, record, raw, header)
    _check_voxel_size(found, record, header)
    _check_kind(found, record, header)
    _check_place(found, record, header)
    _check_bytes(found, record, raw, array, header)
    _check_values(found, record, array, header)
    _check_mdoc(found, header)
    _check_angles(found, header)
    return found.findings


def _check_stamp(found: _Found, record: Any, header: MrcHeader) -> None:
    stamp = bytes(record["machst"])[:2]
    orders = {b"\x44\x44": False, b"\x44\x41": False, b"\x11\x11": True}
    if stamp in orders and orders[stamp] is not header.big_endian:
        found.add(
            "warning",
            f"has the machine stamp of {'big' if orders[stamp] else 'little'}-endian numbers and holds "
            f"{'big' if header.big_endian else 'little'}-endian ones. It is read as it is; other programs may refuse it. "
            "Write it anew with `eucentric convert`.",
        )


def _check_extended(found: _Found, record: Any, raw: bytes, header: MrcHeader) -> None:
    count = header.data_offset - _HEADER_BYTES
    if count <= 0:
        return
    name = bytes(record["exttyp"]).decode("latin-1").strip("\0 ")
    if name in _FEI_TYPES:
        _check_fei(found, name, raw[_HEADER_BYTES:], header)
    elif name == "CCP4" and count % 80:
        found.add("warning", f"has an extended header of {count:,} bytes; symmetry records of CCP4 have 80 each.")
    elif name and name not in _KNOWN_TYPES:
        found.add("note", f"has an extended header of an unknown kind, `{name}`; it is passed over.")
    elif not name and count % 80 and count != _AGARD_BYTES and int(record["nversion"]) > 0:
        found.add("note", f"has an extended header of {count:,} bytes that does not say its kind; it is passed over.")


def _check_fei(found: _Found, name: str, raw: bytes, header: MrcHeader) -> None:
    """The pixel sizes in the records of Thermo Fisher's programs, in metres."""
    dtype: np.dtype[Any] = get_ext_header_dtype(name.encode(), "<")  # type: ignore[no-untyped-call]
    size = int(np.frombuffer(raw[:4], "<i4")[0]) if len(raw) >= 4 else 0
    if size < 176 or size > len(raw):
        found.add("warning", f"has an extended header of kind {name} that is damaged; it is passed over.")
        return
    record = np.frombuffer(raw[:size].ljust(dtype.itemsize, b"\0")[: dtype.itemsize], dtype)[0]
    metres = float(record["Pixel size X"])
    if not (math.isfinite(metres) and 1e-12 < metres < 1e-6):
        return
    pixel = metres * 1e10
    own = header.pixel_size_angstrom
    if own is None:
        found.add(
            "warning", f"holds no pixel size; its extended header gives {pixel:.5g} A. Give it with --pixel-size."
        )
    elif abs(own / pixel - 1.0) > _SAME_SIZE:
        found.add(
            "warning",
            f"gives a pixel size of {own:.5g} A, and {pixel:.5g} A in its extended header. The first is used; check which holds.",
        )


def _check_voxel_size(found: _Found, record: Any, header: MrcHeader) -> None:
    sizes = header.voxel_size_angstrom
    if sizes is None:
        return
    x, y, z = sizes
    if sizes == (1.0, 1.0, 1.0):
        found.add(
            "note",
            "gives voxels of exactly 1 A, which programs write that do not know. Check it, and give the right one.",
        )
    elif not 0.05 < x < 2000:
        found.add("warning", f"gives voxels of {x:g} A. Check the unit: it should be Angstrom.")
    if abs(x / y - 1.0) > _SAME_SIZE or (header.is_volume and abs(x / z - 1.0) > _SAME_SIZE):
        what = f"{x:g} x {y:g} x {z:g} A" if header.is_volume else f"{x:g} x {y:g} A"
        found.add(
            "warning", f"has voxels of {what}, not the same along all axes. Most programs take the first for all."
        )
    angles = [float(record["cellb"][name]) for name in ("alpha", "beta", "gamma")]
    if any(a not in (0.0, 90.0) for a in angles):
        found.add("warning", f"has a cell with angles of {', '.join(f'{a:g}' for a in angles)} degrees; 90 is assumed.")


def _check_kind(found: _Found, record: Any, header: MrcHeader) -> None:
    group, sections = int(record["ispg"]), header.shape[0]
    ending = found.path.name.lower().removesuffix(".gz").removesuffix(".bz2").rpartition(".")[2]
    if 401 <= group <= 630:
        each = max(1, int(record["mz"]))
        found.add(
            "warning",
            f"is a stack of {sections // each} volumes of {each} sections (space group {group}); they are read as one array. "
            "Write each to a file of its own.",
        )
    elif group not in (0, 1):
        found.add("note", f"has the space group {group}; the map is read as it is, without symmetry.")
    elif group == 0 and ending in ("map", "rec") and sections > 1:
        found.add("note", "is marked as a stack of images, not as a volume (space group 0). It is read all the same.")
    elif group == 1 and ending in ("st", "mrcs", "ali", "preali") and sections > 1:
        found.add("note", "is marked as a volume, not as a stack of images (space group 1). It is read all the same.")


def _check_place(found: _Found, record: Any, header: MrcHeader) -> None:
    origin = [float(record["origin"][axis]) for axis in "xyz"]
    if not all(abs(v) < 1e9 for v in origin):
        found.add("warning", f"gives an origin of {', '.join(f'{v:g}' for v in origin)}, which is none; 0 is assumed.")
        return
    start = [int(record[name]) for name in ("nxstart", "nystart", "nzstart")]
    voxel = header.voxel_size_angstrom
    if voxel is None or not any(origin) or not any(start) or header.axes != (1, 2, 3):
        return
    apart = max(abs(o - s * v) for o, s, v in zip(header.origin_angstrom, start, voxel, strict=True))
    if apart > max(voxel):
        told = ", ".join(f"{v:g}" for v in header.origin_angstrom)
        found.add(
            "warning",
            f"begins at {told} A by its origin and {apart:.4g} A from there by its first indices ({start}). "
            "The origin is used; other programs may take the indices.",
        )


def _check_bytes(found: _Found, record: Any, raw: bytes, array: NDArray[Any], header: MrcHeader) -> None:
    """Whether bytes are signed is a guess in files without IMOD's stamp: the smoother way to read them tells."""
    if header.mode != 0:
        return
    stamp = int(np.frombuffer(raw[152:156], ">i4" if header.big_endian else "<i4")[0])
    if stamp == IMOD_STAMP:
        return
    if header.unsigned_bytes:
        found.add(
            "note",
            f"does not say whether its bytes have a sign; without one is assumed, as its largest value is {float(record['dmax']):g}.",
        )
        return
    section = np.asarray(array[array.shape[0] // 2])
    if section.shape[1] < 2 or not (section < 0).any() or not (section >= 0).any():
        return
    signed = float(np.abs(np.diff(section.astype(np.int16), axis=1)).mean())
    unsigned = float(np.abs(np.diff(section.view(np.uint8).astype(np.int16), axis=1)).mean())
    if unsigned < _BYTE_SMOOTHER * signed:
        found.add(
            "warning",
            "says that its bytes have a sign, but looks as if they had none: values jump from 127 to -128. "
            "Write it anew with the program that made it, as 16-bit numbers.",
        )


@dataclass(slots=True)
class _Sums:
    low: float = math.inf
    high: float = -math.inf
    total: float = 0.0
    count: int = 0
    broken: int = 0
    last_full: int = -1

    def add(self, index: int, section: NDArray[Any]) -> None:
        values = section.astype(np.float32) if section.dtype.itemsize == 2 and section.dtype.kind == "f" else section
        if values.dtype.kind == "f":
            good = np.isfinite(values)
            bad = values.size - int(np.count_nonzero(good))
            if bad:
                self.broken += bad
                values = values[good]
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += float(values.sum(dtype=np.float64))
        self.count += values.size
        if low != 0.0 or high != 0.0:
            self.last_full = index


def _check_values(found: _Found, record: Any, array: NDArray[Any], header: MrcHeader) -> None:
    sums = _Sums()
    for index, section in enumerate(array):
        sums.add(index, np.asarray(section))
    if sums.broken:
        found.add("error", f"holds {sums.broken:,} values that are not numbers.")
        return
    sections = len(array)
    if sections > 1 and sums.low == sums.high:
        found.add("warning", f"holds {sums.low:g} in every voxel. Check that it was written to its end.")
        return
    empty = sections - 1 - sums.last_full
    if empty > max(1, sections // 4):
        found.add(
            "warning",
            f"holds nothing but 0 in its last {empty} of {sections} sections. Perhaps it was not written to its end.",
        )
    low, high, mean = (float(record[name]) for name in ("dmin", "dmax", "dmean"))
    unset = high < low or (low, high) == (0.0, 0.0) or not all(map(math.isfinite, (low, high, mean)))
    spread = sums.high - sums.low
    true_mean = sums.total / sums.count
    shift = -128.0 if header.mode == 0 and not header.unsigned_bytes else 0.0
    wrong = max(abs(low - sums.low), abs(high - sums.high)) > _SAME_SIZE * spread + 1e-6 * abs(sums.high)
    if not unset and wrong and not (shift and abs(low + shift - sums.low) <= 1.0):
        found.add(
            "warning",
            f"says that its values run from {low:.5g} to {high:.5g}; they run from {sums.low:.5g} to {sums.high:.5g}. "
            "Programs that scale grey values by the header show it wrongly; Eucentric does not use them.",
        )
    elif not unset and low <= mean <= high and abs(mean - true_mean) > 0.05 * spread:
        found.add("note", f"says that its mean is {mean:.5g}; it is {true_mean:.5g}.")


def _check_mdoc(found: _Found, header: MrcHeader) -> None:
    """Pixel size and number of sections in the mdoc beside the file."""
    path = found.path
    beside = [path.with_name(f"{path.name}.mdoc"), path.with_suffix(".mdoc")]
    mdoc_file = next((p for p in beside if p.is_file()), None)
    if mdoc_file is None:
        return
    try:
        mdoc = read_mdoc(mdoc_file)
    except EucentricError as error:
        found.findings.append(Finding(severity="warning", text=f"The mdoc beside `{path}` cannot be read: {error}"))
        return
    spacings = [s.pixel_spacing_angstrom for s in mdoc.sections]
    told = next((s for s in (*spacings, mdoc.pixel_spacing_angstrom) if s), None)
    own = header.pixel_size_angstrom
    if told and own is None:
        found.add("warning", f"holds no pixel size; `{mdoc_file.name}` gives {told:g} A. Give it with --pixel-size.")
    elif told and own is not None and abs(own / told - 1.0) > _SAME_SIZE:
        found.add(
            "warning",
            f"gives a pixel size of {own:g} A, and `{mdoc_file.name}` beside it {told:g} A. Check which holds (binning?).",
        )
    images = [s for s in mdoc.sections if s.kind == "ZValue"]
    if images and len(images) != header.shape[0] and header.shape[0] > 1:
        found.add(
            "warning",
            f"has {header.shape[0]} sections, and `{mdoc_file.name}` beside it tells of {len(images)}. Check which belong.",
        )


def _check_angles(found: _Found, header: MrcHeader) -> None:
    """The number of angles in the files beside a stack of images."""
    if header.is_volume or header.shape[0] < 2:
        return
    for ending in (".rawtlt", ".tlt"):
        beside = found.path.with_suffix(ending)
        if not beside.is_file():
            continue
        try:
            count = len(read_angles(beside))
        except EucentricError as error:
            found.findings.append(Finding(severity="warning", text=f"The angles beside `{found.path}`: {error}"))
            continue
        if count != header.shape[0]:
            found.add("warning", f"has {header.shape[0]} sections, and `{beside.name}` beside it {count} angles.")
