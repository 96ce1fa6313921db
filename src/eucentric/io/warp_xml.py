"""Tilt series as Warp and M keep them (`<TiltSeries>` in XML, UTF-8 or UTF-16).

Warp puts a point p of the specimen at ``Euler(0, Angle + LevelY, -AxisAngle) Rx(LevelX) p + AxisOffset - GridMovement``
from half the image's size, all in A; Euler(...) is ``Rz(AxisAngle) Ry(-(Angle + LevelY))``. So rlnTomoYTilt is
-(Angle + LevelY), rlnTomoXTilt is LevelX. Before, p is moved by GridVolumeWarp, which changes with the dose.
"""

import math
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
        z, y, x = self.values.shape
        plane = np.tensordot(_weights(z, np.array([place]))[0], self.values, 1)
        out: FloatArray = np.einsum("py,yx,px->p", _weights(y, positions[:, 1]), plane, _weights(x, positions[:, 0]))
        return out

    @property
    def is_empty(self) -> bool:
        return not np.any(self.values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WarpVolumeGrid:
    """Displacements of the specimen in A, from edge to edge of the volume and from the first dose to the last."""

    values: FloatArray
    """(3, dose, z, y, x), x, y and z of the displacement."""

    def at(self, places: FloatArray) -> FloatArray:
        """(n, 3) in A, linear between points as `LinearGrid4D.GetInterpolated` of WarpLib: constant past the last point along
        each axis, a straight line before the first.

        Parameters
        ----------
        places : (n, 4), x, y, z and dose, 0 at one edge and 1 at the other
        """
        out = np.zeros((len(places), 3))
        size = np.array(self.values.shape[:0:-1])
        index = places * (size - 1)
        low = np.clip(np.trunc(index).astype(np.int64), 0, size - 1)
        high = np.minimum(low + 1, size - 1)
        share = index - low
        for corner in np.ndindex(2, 2, 2, 2):
            up = np.array(corner, dtype=bool)
            x, y, z, w = np.where(up, high, low).T
            weight = np.prod(np.where(up, share, 1.0 - share), axis=1)
            out += weight[:, None] * self.values[:, w, z, y, x].T
        return out

    def off_mid_height_angstrom(self) -> tuple[float, float]:
        """Root mean square and largest difference between a displacement and that at half the height above or below it."""
        n = self.values.shape[2]
        middle = 0.5 * (self.values[:, :, [(n - 1) // 2]] + self.values[:, :, [n // 2]])
        away = np.linalg.norm(self.values - middle, axis=0)
        return float(np.sqrt(np.mean(away**2))), float(away.max())


def _weights(n: int, places: FloatArray) -> FloatArray:
    """(place, n): what each of n points, evenly from 0 to 1, adds to the spline at the places."""
    if n == 1:
        return np.ones((len(places), 1))
    curve = CubicSpline(np.linspace(0.0, 1.0, n), np.eye(n), bc_type="natural")
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
    volume_warp: WarpVolumeGrid | None = None
    """How the specimen deforms in 3D."""
    volume_size_angstrom: tuple[float, float, float] | None = None
    """(x, y, z)"""
    turns_particles: bool = False
    """Whether the angles of the stage were refined (GridAngle): that turns particles, not the places of points."""
    pixel_size_angstrom: float | None = None
    """Of the images, where a CTF was estimated."""
    data_directory: str = ""
    """Where the `.tomostar` lies, which the paths of movies start from."""
    magnification_text: str = ""
    """The matrix of the magnification where it is not 1."""

    @property
    def has_volume_warp(self) -> bool:
        return self.volume_warp is not None


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


def _checked_grids(root: ElementTree.Element, path: Path) -> None:
    """FormatError where a grid is not as large as it says: what would be laid out in memory."""
    for element in root:
        if not element.tag.startswith("Grid"):
            continue
        size = [
            _number(element.get(axis, "1"), path, f"{element.tag} {axis}")
            for axis in ("Width", "Height", "Depth", "Duration")
        ]
        found = len(element.findall("Node"))
        text = " x ".join(f"{n:g}" for n in size[:3])
        if any(n < 1 or n != int(n) for n in size) or math.prod(map(int, size)) != found:
            raise FormatError(f"`{path}` has {found} nodes in <{element.tag}>; expected {text}.")


def _nodes(element: ElementTree.Element, path: Path, axes: str, size: list[int]) -> FloatArray:
    values = np.zeros(size)
    for node in element.findall("Node"):
        place = tuple(int(_number(node.get(axis, "0"), path, f"{element.tag} {axis}")) for axis in axes)
        if any(not 0 <= i < n for i, n in zip(place, size, strict=True)):
            raise FormatError(f"`{path}` has a node at {place} in <{element.tag}>, outside of its size {tuple(size)}.")
        values[place] = _number(node.get("Value", ""), path, element.tag)
    return values


def _grid(root: ElementTree.Element, path: Path, name: str) -> WarpGrid | None:
    element = root.find(name)
    if element is None:
        return None
    size = [int(_number(element.get(axis, "1"), path, f"{name} {axis}")) for axis in ("Depth", "Height", "Width")]
    grid = WarpGrid(values=_nodes(element, path, "ZYX", size))
    return None if grid.is_empty else grid


def _volume_grid(root: ElementTree.Element, path: Path) -> WarpVolumeGrid | None:
    parts: list[FloatArray] = []
    for axis in "XYZ":
        element = root.find(f"GridVolumeWarp{axis}")
        if element is None:
            return None
        names = ("Duration", "Depth", "Height", "Width")
        size = [int(_number(element.get(n, "1"), path, f"{element.tag} {n}")) for n in names]
        parts.append(_nodes(element, path, "WZYX", size))
    if len({p.shape for p in parts}) > 1:
        raise FormatError(f"`{path}` has GridVolumeWarpX, Y and Z of different sizes; expected one size.")
    values = np.stack(parts)
    return WarpVolumeGrid(values=values) if np.any(values) else None


def _lengths(text: str | None, path: Path, what: str, count: int) -> list[float] | None:
    """Positive numbers between commas; None where there are none, or zeros."""
    words = (text or "").replace(",", " ").split()
    if len(words) < count:
        return None
    values = [_number(word, path, what) for word in words[:count]]
    return values if min(values) > 0 else None


def _parameters(root: ElementTree.Element, tag: str) -> dict[str, str]:
    return {p.get("Name", ""): p.get("Value", "") for p in root.iterfind(f"{tag}/Param")}


def _size(root: ElementTree.Element, path: Path) -> tuple[float, float] | None:
    text = root.get("ImageDimensionsAngstrom")
    what = "the size of the images"
    found = _lengths(text, path, what, 2) or _lengths(_parameters(root, "OptionsCTF").get("Dimensions"), path, what, 2)
    return None if found is None else (found[0], found[1])


def _pixel_size(root: ElementTree.Element, path: Path) -> float | None:
    """That of the images the CTF was fitted to; without a fit, that of the CTF where it is not the 1 that Warp begins with."""
    options = _parameters(root, "OptionsCTF")
    text = options.get("PixelSize", options.get("PixelSizeX", ""))
    if not text:
        text = _parameters(root, "CTF").get("PixelSize", "")
        own = _number(text, path, "PixelSize") if text else 1.0
        return own if own > 0 and own != 1.0 else None
    binning = _number(options.get("BinTimes", "0") or "0", path, "BinTimes")
    size = _number(text, path, "PixelSize") * 2.0 ** float(np.clip(binning, -10.0, 10.0))
    return size if size > 0 else None


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
    _checked_grids(root, place)
    angles = _numbers(root, place, "Angles", None)
    n = len(angles)

    def column(name: str) -> FloatArray:
        values = _numbers(root, place, name, n)
        return values if len(values) else np.zeros(n)

    use = [line.lower() == "true" for line in _texts(root, place, "UseTilt", n)] or [True] * n
    volume = _lengths(root.get("VolumeDimensionsAngstrom"), place, "the size of the volume", 3)
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
        volume_warp=_volume_grid(root, place),
        volume_size_angstrom=None if volume is None else (volume[0], volume[1], volume[2]),
        turns_particles=any(_grid(root, place, f"GridAngle{axis}") is not None for axis in "XYZ"),
        pixel_size_angstrom=_pixel_size(root, place),
        data_directory=root.get("DataDirectory", "").strip(),
        magnification_text=_magnification(root),
    )
