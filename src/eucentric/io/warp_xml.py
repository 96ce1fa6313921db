"""Tilt series as Warp and M keep them (`<TiltSeries>` in XML, UTF-8 or UTF-16).

Warp puts a point p of the specimen at ``Euler(0, Angle + LevelY, -AxisAngle) Rx(LevelX) p + AxisOffset - GridMovement``
from half the image's size, all in A; Euler(...) is ``Rz(AxisAngle) Ry(-(Angle + LevelY))``. So rlnTomoYTilt is
-(Angle + LevelY), rlnTomoXTilt is LevelX.
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from eucentric.errors import FormatError, InputError
from eucentric.typing import FloatArray, PathLike

_ROOT = "TiltSeries"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarpGrid:
    """Values on a grid from edge to edge of the image and from the first view to the last."""

    values: FloatArray
    """(z, y, x), z along the views."""

    def at(self, place: float, positions: FloatArray) -> FloatArray:
        """Values (n,) of the natural cubic spline.

        Parameters
        ----------
        place : 0 for the first view to 1 for the last
        positions : (n, 2), x and y, 0 at one edge of the image and 1 at the other
        """
        plane = _along(self.values, np.array([place]))[0]
        rows = _along(plane, positions[:, 1])
        out = np.array(
            [_along(row, x[None])[0] for row, x in zip(rows, positions[:, 0], strict=True)], dtype=np.float64
        )
        return out.reshape(-1)

    @property
    def is_empty(self) -> bool:
        return not np.any(self.values)


def _along(values: FloatArray, places: FloatArray) -> FloatArray:
    """Values (place, ...) along the first axis of (n, ...), whose points lie evenly from 0 to 1."""
    n = len(values)
    if n == 1:
        return np.repeat(values, len(places), axis=0)
    curve = CubicSpline(np.linspace(0.0, 1.0, n), values, bc_type="natural")
    return np.asarray(curve(places), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarpSeries:
    """The alignment in one XML file; lists in the order of the file."""

    angles_deg: FloatArray
    """(view,), as listed: most often minus the angle of the stage."""
    dose: FloatArray
    """(view,), e/A^2; empty where not listed."""
    use: NDArray[np.bool_]
    """(view,), whether the view is used."""
    axis_deg: FloatArray
    shifts_angstrom: FloatArray
    """(view, 2), x and y."""
    movies: tuple[str, ...]
    """Names of the movies; empty where not listed."""
    level_x_deg: float = 0.0
    level_y_deg: float = 0.0
    angles_inverted: bool = False
    """Turns the sign of the defocus gradient; images are projected the same."""
    image_size_angstrom: tuple[float, float] | None = None
    """(x, y)"""
    movement_x: WarpGrid | None = None
    """Displacement in A that is taken off the place in the image."""
    movement_y: WarpGrid | None = None
    has_volume_warp: bool = False
    """Whether the specimen deforms in 3D."""
    magnification_text: str = ""
    """The matrix of the magnification where it is not 1."""


def _number(text: str, path: Path, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise FormatError(f"`{path}` has `{text[:60]}` for {what}; expected a number.")
    return value


def _numbers(root: ElementTree.Element, path: Path, name: str, count: int | None) -> FloatArray:
    element = root.find(name)
    if element is None or not (element.text or "").strip():
        if count is None:
            raise FormatError(f"`{path}` has no <{name}>; expected a tilt series of Warp with its angles.")
        return np.zeros(0)
    values = np.array([_number(word, path, name) for word in (element.text or "").split()], dtype=np.float64)
    if count is not None and len(values) != count:
        raise FormatError(f"`{path}` has {len(values)} values in <{name}> and {count} in <Angles>; expected as many.")
    return values


def _texts(root: ElementTree.Element, path: Path, name: str, count: int) -> list[str]:
    element = root.find(name)
    if element is None or not (element.text or "").strip():
        return []
    lines = [line.strip() for line in (element.text or "").splitlines() if line.strip()]
    if len(lines) != count:
        raise FormatError(f"`{path}` has {len(lines)} values in <{name}> and {count} in <Angles>; expected as many.")
    return lines


def _grid(root: ElementTree.Element, path: Path, name: str) -> WarpGrid | None:
    element = root.find(name)
    if element is None:
        return None
    nodes = element.findall("Node")
    size = [int(_number(element.get(axis, "1"), path, f"{name} {axis}")) for axis in ("Depth", "Height", "Width")]
    if len(nodes) != size[0] * size[1] * size[2]:
        raise FormatError(f"`{path}` has {len(nodes)} nodes in <{name}>; expected {size[0]} x {size[1]} x {size[2]}.")
    values = np.zeros(size)
    for node in nodes:
        place = tuple(int(_number(node.get(axis, "0"), path, f"{name} {axis}")) for axis in "ZYX")
        if any(not 0 <= i < n for i, n in zip(place, size, strict=True)):
            raise FormatError(f"`{path}` has a node at {place} in <{name}>, outside of its size {tuple(size)}.")
        values[place] = _number(node.get("Value", ""), path, name)
    grid = WarpGrid(values=values)
    return None if grid.is_empty else grid


def _size(root: ElementTree.Element, path: Path) -> tuple[float, float] | None:
    text = root.get("ImageDimensionsAngstrom")
    if text is None:
        options = root.find("OptionsCTF")
        params = [] if options is None else options.findall("Param")
        text = next((p.get("Value") for p in params if p.get("Name") == "Dimensions"), None)
    words = (text or "").replace(",", " ").split()
    if len(words) < 2:
        return None
    x, y = (_number(word, path, "the size of the images") for word in words[:2])
    return (x, y) if x > 0 and y > 0 else None


def _magnification(root: ElementTree.Element) -> str:
    text = root.get("MagnificationCorrection", "").strip()
    return "" if text.replace(" ", "") in ("", "1,0,0,1", "1,1,0") else text


def read_warp_series(path: PathLike) -> WarpSeries:
    """The alignment in a tilt series' XML of Warp or M.

    Raises
    ------
    InputError : no such file
    FormatError : not XML, of another kind, or lists of unequal length
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist, or is not a file. Check the name and the folder.")
    try:
        root = ElementTree.fromstring(place.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise FormatError(f"`{place}` is not XML: {error}. Expected a tilt series of Warp.") from error
    if root.tag != _ROOT:
        raise FormatError(f"`{place}` is not a tilt series of Warp: its root is <{root.tag}>; expected <{_ROOT}>.")
    angles = _numbers(root, place, "Angles", None)
    n = len(angles)

    def column(name: str) -> FloatArray:
        values = _numbers(root, place, name, n)
        return values if len(values) else np.zeros(n)

    use = [line.lower() == "true" for line in _texts(root, place, "UseTilt", n)] or [True] * n
    volume = [_volume_warp(root, place, f"GridVolumeWarp{axis}") for axis in "XYZ"]
    return WarpSeries(
        angles_deg=angles,
        dose=_numbers(root, place, "Dose", n),
        use=np.array(use, dtype=np.bool_),
        axis_deg=column("AxisAngle"),
        shifts_angstrom=np.stack([column("AxisOffsetX"), column("AxisOffsetY")], axis=1),
        movies=tuple(_texts(root, place, "MoviePath", n)),
        level_x_deg=_number(root.get("LevelAngleX", "0"), place, "LevelAngleX"),
        level_y_deg=_number(root.get("LevelAngleY", "0"), place, "LevelAngleY"),
        angles_inverted=root.get("AreAnglesInverted", "False").strip().lower() == "true",
        image_size_angstrom=_size(root, place),
        movement_x=_grid(root, place, "GridMovementX"),
        movement_y=_grid(root, place, "GridMovementY"),
        has_volume_warp=any(volume),
        magnification_text=_magnification(root),
    )


def _volume_warp(root: ElementTree.Element, path: Path, name: str) -> bool:
    return any(_number(node.get("Value", "0"), path, name) != 0 for node in root.iterfind(f"{name}/Node"))
