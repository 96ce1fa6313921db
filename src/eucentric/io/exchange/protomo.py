"""Tilt geometry of Protomo 2 (`.tlt`, text), one series a file.

``IMAGE n`` has ``ORIGIN [ x y ]`` (where the specimen's origin is seen, in pixels counted from 0), ``TILT ANGLE`` and
``ROTATION``, in degrees; ``AXIS`` gives ``TILT AZIMUTH`` (the tilt axis, counter-clockwise from x), ``TILT ELEVATION`` and
``TILT OFFSET``. A point p of the specimen is seen at ``scale * Rz(rotation) R_axis(tilt + offset) p + origin``, where
R_axis turns right-handed about ``(cos azimuth cos elevation, sin azimuth cos elevation, sin elevation)`` [1]_. An azimuth of
90 has the axis on y [2]_, so rlnTomoZRot is azimuth + rotation - 90 and rlnTomoYTilt the tilt.

``PSI THETA PHI`` and the origin of the map (``ORIGIN`` of three) only turn and move the reconstruction, so they are left.
``CORRECTION``, which stretches images, and ``DEFOCUS``, whose sign could not be found out, are not taken over.

`.i3t` files are Protomo's own binary records of a run. Protomo writes them as text:
``protomo.series(protomo.param("x.param")).geom(1).write("x.tlt")`` [3]_.

References
----------
.. [1] H. Winkler, Protomo 2.4, `tomotiltmat.c`, `tomogeomload.c`, `tomotiltwrite.c`
.. [2] leginon-org/leginon, `appionlib/apProTomo.py` (convertProtomoToImod)
.. [3] leginon-org/leginon, `protomo2aligner.py`
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from eucentric.errors import FormatError, InputError
from eucentric.geometry import rotation_z
from eucentric.io.atomic import write_text_atomic
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.imod_like import MAX_VIEWS, bare_name, image_stack, losses_of, stack_rows
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView
from eucentric.models.tilt_series import Tilt
from eucentric.typing import FloatArray

_LARGEST = 50_000_000
_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
_WORD = re.compile(r'\[[^\[\]]*\]|"[^"]*"|[^\s\[\]]+')
_LENGTHS = {"m": 1e10, "mm": 1e7, "um": 1e4, "nm": 10.0, "pm": 1e-2, "A": 1.0}
_IMAGE_ENDINGS = ("", ".mrc", ".img", ".tif", ".st")


@dataclass(slots=True, kw_only=True)
class ProtomoImage:
    """What a file says about one image; None where it says nothing."""

    number: int
    file: str | None = None
    origin: tuple[float, float] | None = None
    tilt_deg: float | None = None
    rotation_deg: float = 0.0
    scale: float = 1.0
    axis: int = 0
    orientation: int = 0
    pixel_angstrom: float | None = None


@dataclass(slots=True, kw_only=True)
class ProtomoGeometry:
    """A `.tlt` file."""

    name: str
    azimuths_deg: list[float] = field(default_factory=list)
    elevations_deg: list[float] = field(default_factory=list)
    offsets_deg: list[float] = field(default_factory=list)
    images: dict[int, ProtomoImage] = field(default_factory=dict)
    pixel_angstrom: float | None = None
    left: set[str] = field(default_factory=set)
    """Entries that are not taken over."""


class _Words:
    """The words of a file, read from front to back."""

    def __init__(self, text: str, place: Path) -> None:
        self._words, self._at, self._place = _WORD.findall(text), 0, place

    def peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._words[at] if at < len(self._words) else ""

    def take(self) -> str:
        self._at += 1
        return self._words[self._at - 1] if self._at <= len(self._words) else ""

    @property
    def over(self) -> bool:
        return self._at >= len(self._words)

    def number(self, what: str) -> float:
        word = self.take()
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or abs(value) > 1e9:
            raise FormatError(f"`{self._place}` has `{word[:40]}` for {what}; expected a number.")
        return value

    def numbers(self, what: str) -> list[float]:
        group = self.take()
        try:
            values = [float(w) for w in group.strip("[]").replace(",", " ").split()]
        except ValueError:
            values = []
        if not values or not all(math.isfinite(v) and abs(v) < 1e9 for v in values):
            raise FormatError(
                f"`{self._place}` has `{group[:40]}` for {what}; expected numbers such as [ 512.0 512.0 ]."
            )
        return values

    def length(self, what: str) -> float:
        """In A; metres without a unit."""
        value = self.number(what)
        return value * _LENGTHS[self.take() if self.peek() in _LENGTHS else "m"]


def is_protomo_geometry(path: Path) -> bool:
    """Whether a file is one; never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(20_000).decode("latin-1")
    except OSError:
        return False
    return bool(re.search(r"^\s*TILT\s+SERIES\b", _COMMENT.sub(" ", head), re.MULTILINE)) and "\0" not in head


def read_protomo_geometry(path: Path) -> ProtomoGeometry:
    """A `.tlt` file of Protomo.

    Raises
    ------
    InputError : no such file
    FormatError : another kind of file, or a value that is no number
    """
    if not path.is_file():
        raise InputError(f"`{path}` does not exist, or is not a file. Check the name and the folder.")
    if path.suffix.lower() == ".i3t":
        raise FormatError(
            f"`{path.name}` is Protomo's own binary record of a run. Write it as text in Protomo's Python: "
            '`protomo.series(protomo.param("x.param")).geom(1).write("x.tlt")`, and give that file.'
        )
    if not is_protomo_geometry(path) or path.stat().st_size > _LARGEST:
        raise FormatError(f"`{path}` is no geometry of Protomo: expected a text that begins with TILT SERIES.")
    words = _Words(_COMMENT.sub(" ", path.read_text(encoding="latin-1")), path)
    found = ProtomoGeometry(name=path.stem)
    image: ProtomoImage | None = None
    orientation = -1
    while not words.over:
        word = words.take().upper()
        if word == "END":
            break
        if word == "TILT" and words.peek().upper() == "SERIES":
            words.take()
            found.name = bare_name(words.take().strip('"') or found.name)
        elif word == "AXIS":
            image = None
            found.azimuths_deg.append(0.0)
            found.elevations_deg.append(0.0)
            found.offsets_deg.append(0.0)
            orientation += 1
        elif word == "ORIENTATION":
            image, orientation = None, orientation + 1
        elif word == "PARAMETER":
            image = None
        elif word == "IMAGE":
            image = _image(found, int(words.number("IMAGE")), max(0, orientation), path)
        else:
            _entry(found, image, word, words)
    if not found.images:
        raise FormatError(f"`{path}` lists no image; expected lines such as IMAGE 1 ORIGIN [ 512 512 ].")
    return found


def _image(found: ProtomoGeometry, number: int, orientation: int, path: Path) -> ProtomoImage:
    if number not in found.images:
        if len(found.images) >= MAX_VIEWS:
            raise FormatError(f"`{path}` lists more than {MAX_VIEWS} images; no tilt series has that many.")
        axis = max(0, len(found.azimuths_deg) - 1)
        found.images[number] = ProtomoImage(number=number, axis=axis, orientation=orientation)
    return found.images[number]


def _entry(found: ProtomoGeometry, image: ProtomoImage | None, word: str, words: _Words) -> None:
    """One entry of an image, an axis or of the whole; those that are not known are passed over."""
    if word == "TILT" and words.peek().upper() in ("AZIMUTH", "ELEVATION", "OFFSET"):
        kind = words.take().upper()
        if not found.azimuths_deg:  # version 1 has it among the parameters
            found.azimuths_deg, found.elevations_deg, found.offsets_deg = [0.0], [0.0], [0.0]
        held = {"AZIMUTH": found.azimuths_deg, "ELEVATION": found.elevations_deg, "OFFSET": found.offsets_deg}[kind]
        held[-1] = words.number(f"TILT {kind}")
    elif word == "PIXEL" and words.peek().upper() == "SIZE":
        words.take()
        size = words.length("PIXEL SIZE")
        if image is None:
            found.pixel_angstrom = size
        else:
            image.pixel_angstrom = size
    elif image is None:
        if word == "ORIGIN" and any(words.numbers("ORIGIN")):
            found.left.add("origin of the map")
        elif word in ("PSI", "THETA", "PHI") and words.number(word):
            found.left.add("orientation of the map (PSI, THETA, PHI)")
    elif word == "FILE":
        image.file = words.take().strip('"')
        if re.fullmatch(r"\[\s*\d+\s*\]", words.peek()):
            image.file += words.take()
    elif word == "ORIGIN":
        place = words.numbers("ORIGIN")
        if len(place) < 2:
            raise FormatError(f"Image {image.number} of {found.name} has an ORIGIN of one number; expected two.")
        image.origin = (place[0], place[1])
    elif word == "TILT" and words.peek().upper() == "ANGLE":
        words.take()
        image.tilt_deg = words.number("TILT ANGLE")
    elif word == "ROTATION":
        image.rotation_deg = words.number("ROTATION")
    elif word == "SCALE":
        image.scale = words.number("SCALE")
    elif word in ("CORRECTION", "DEFOCUS"):
        found.left.add({"CORRECTION": "stretching of images (CORRECTION)", "DEFOCUS": "defocus"}[word])


def protomo_alignment(found: ProtomoGeometry, path: Path, images: dict[int, str | None]) -> ExternalAlignment:
    """Views in our projection, from pixel ``n // 2``, which needs the size of the images later: origins are kept from 0.

    Raises
    ------
    FormatError : an image without tilt angle or origin, or images that are turned apart
    """
    whole = list(found.images.values())
    if len({i.orientation for i in whole}) > max(1, len(found.azimuths_deg)) and found.left & {
        "orientation of the map (PSI, THETA, PHI)"
    }:
        raise FormatError(f"`{path}` turns groups of its images apart (several ORIENTATION); such series are not read.")
    views = []
    for image in whole:
        if image.tilt_deg is None or image.origin is None:
            what = "TILT ANGLE" if image.tilt_deg is None else "ORIGIN"
            raise FormatError(f"Image {image.number} of `{path}` has no {what}. Write the geometry again.")
        if not 0.1 < image.scale < 10:
            raise FormatError(f"Image {image.number} of `{path}` has a scale of {image.scale:g}; expected one near 1.")
        z, y, x = _angles(found, image)
        file = images.get(image.number) or image.file
        views.append(
            ExternalView(
                listed_deg=image.tilt_deg,
                y_tilt_deg=y,
                z_rot_deg=z,
                x_tilt_deg=x,
                shift=image.origin,
                magnification=image.scale,
                names=() if file is None else (bare_name(file),),
            )
        )
    caveats = tuple(f"The {what} was not taken over from `{path.name}`." for what in sorted(found.left))
    return ExternalAlignment(
        source=f"Protomo ({path.name})", views=tuple(views), unit="pixel", centre="floor", caveats=caveats
    )


def _angles(found: ProtomoGeometry, image: ProtomoImage) -> tuple[float, float, float]:
    """z_rot, y_tilt, x_tilt in degrees of an image."""
    azimuth = found.azimuths_deg[image.axis] if found.azimuths_deg else 90.0
    elevation = found.elevations_deg[image.axis] if found.elevations_deg else 0.0
    tilt = (image.tilt_deg or 0.0) + (found.offsets_deg[image.axis] if found.offsets_deg else 0.0)
    first = found.azimuths_deg[0] if found.azimuths_deg else 90.0
    if not elevation and azimuth == first:
        return azimuth + image.rotation_deg - 90.0, tilt, 0.0
    a, e = np.deg2rad([azimuth, elevation])
    axis = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    turn = Rotation.from_rotvec(axis * np.deg2rad(tilt)).as_matrix()
    whole = np.asarray(rotation_z(image.rotation_deg)) @ turn @ np.asarray(rotation_z(first - 90.0))
    y = -math.asin(float(np.clip(whole[2, 0], -1.0, 1.0)))
    z = math.atan2(whole[1, 0], whole[0, 0])
    x = math.atan2(whole[2, 1], whole[2, 2])
    return math.degrees(z), math.degrees(y), math.degrees(x)


def image_files(found: ProtomoGeometry, folder: Path) -> dict[int, str | None]:
    """Where the image of each number lies: beside the file, or in `raw`."""
    files: dict[int, str | None] = {}
    for number, image in found.images.items():
        files[number] = None
        for place in (folder, folder / "raw", folder.parent / "raw"):
            paths = [place / f"{image.file}{ending}" for ending in _IMAGE_ENDINGS if image.file]
            there = next((p for p in paths if p.is_file()), None)
            if there is not None:
                files[number] = str(there.resolve())
                break
    return files


def protomo_series(
    path: Path,
    given: Given,
    *,
    order: Sequence[int] | None = None,
    left_out: Sequence[tuple[LeftOutView, str | None]] = (),
    notes: Sequence[str] = (),
) -> SeriesGeometry:
    """The series of one file; `order` and `left_out` (with their images) of images that other files tell about."""
    found = read_protomo_geometry(path)
    files = image_files(found, path.parent)
    first = next((f for f in files.values() if f is not None), None)
    size = shape = None
    if first is not None:
        _, size, shape, _ = image_stack(Path(first).parent, Path(first).stem)
    external = protomo_alignment(found, path, files)
    pixel = given.need_pixel_size(found.pixel_angstrom or size, path)
    shape = given.need_image_shape(shape, path)
    middle = np.array(shape[::-1]) // 2
    views = tuple(_about(view, middle) for view in external.views)
    every = [files[n] or image.file for n, image in found.images.items()]
    made = series_of_views(
        _updated(external, views, left_out, pixel, shape),
        given,
        path,
        name=found.name,
        order=order,
        images=[*every, *(image for _, image in left_out)],
    )
    more = [*notes, "Protomo does not keep the hand of the defocus; -1 stands for it."]
    return SeriesGeometry(series=made.series, warp=None, notes=tuple(dict.fromkeys((*made.notes, *more))))


def _about(view: ExternalView, middle: FloatArray) -> ExternalView:
    return ExternalView(
        listed_deg=view.listed_deg,
        y_tilt_deg=view.y_tilt_deg,
        z_rot_deg=view.z_rot_deg,
        x_tilt_deg=view.x_tilt_deg,
        shift=(float(view.shift[0] - middle[0]), float(view.shift[1] - middle[1])),
        magnification=view.magnification,
        names=view.names,
    )


def _updated(
    external: ExternalAlignment,
    views: tuple[ExternalView, ...],
    left_out: Sequence[tuple[LeftOutView, str | None]],
    pixel: float,
    shape: tuple[int, int],
) -> ExternalAlignment:
    return ExternalAlignment(
        source=external.source,
        views=views,
        left_out=tuple(view for view, _ in left_out),
        unit="pixel",
        centre="floor",
        pixel_size_angstrom=pixel,
        image_size=(shape[1], shape[0]),
        caveats=external.caveats,
    )


def _recognises(place: Path) -> bool:
    if place.is_dir():
        return any(is_protomo_geometry(f) for f in sorted(place.glob("*.tlt"))[:50]) or any(place.glob("*.i3t"))
    return place.suffix.lower() == ".i3t" or (place.suffix.lower() == ".tlt" and is_protomo_geometry(place))


def _read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    if place.is_file():
        return (protomo_series(place, given),)
    files = [f for f in sorted(place.glob("*.tlt")) if is_protomo_geometry(f)]
    if not files:
        records = sorted(place.glob("*.i3t"))
        if records:
            read_protomo_geometry(records[0])
        raise InputError(f"`{place}` holds no geometry of Protomo (.tlt).")
    return tuple(protomo_series(f, given) for f in files)


def protomo_text(geometry: SeriesGeometry) -> str:
    """The `.tlt` of a series; excluded images are left out of it."""
    series = geometry.series
    every, _ = stack_rows(geometry)
    posed = [(i, t) for i, (t, reason) in enumerate(every, 1) if reason is None]
    poses = [t.pose for _, t in posed if t.pose is not None]
    turn = float(np.rad2deg(np.angle(np.mean(np.exp(1j * np.deg2rad([p.z_rot_deg for p in poses]))))))
    azimuth = round(turn + 90.0, 3)
    middle = np.array(series.image_shape[::-1]) // 2
    lines = ["", f" TILT SERIES {_name(series.name)}", "", "   PARAMETER", ""]
    lines += [f"     PIXEL SIZE {series.pixel_size_angstrom / 10:.10g} nm", "", "   AXIS", ""]
    lines += [f"     TILT AZIMUTH {azimuth:9.3f}", ""]
    names = image_names(geometry)
    lines += [f"   IMAGE {number:<4d}  FILE {names[number - 1]}" for number, _ in posed] + [""]
    for (number, _), pose in zip(posed, poses, strict=True):
        x, y = middle + np.array([pose.x_shift_angstrom, pose.y_shift_angstrom]) / series.pixel_size_angstrom
        lines.append(f"   IMAGE {number:<4d}  ORIGIN  [ {x:9.3f} {y:9.3f} ]")
    lines.append("")
    for (number, _), pose in zip(posed, poses, strict=True):
        apart = (pose.z_rot_deg + 90.0 - azimuth + 180.0) % 360.0 - 180.0
        lines.append(f"   IMAGE {number:<4d}  TILT ANGLE {pose.y_tilt_deg:8.3f}    ROTATION {apart:8.3f}")
    if any(p.magnification != 1.0 for p in poses):
        lines.append("")
        scales = zip(posed, poses, strict=True)
        lines += [f"   IMAGE {number:<4d}  SCALE  {pose.magnification:8.6f}" for (number, _), pose in scales]
    reference = min(posed, key=lambda e: abs(e[1].nominal_tilt_deg))[0]
    return "\n".join([*lines, "", f"   REFERENCE IMAGE {reference}", "", "", " END", ""]) + "\n"


def _name(text: str) -> str:
    """A name as Protomo's grammar allows: letters, digits and underscores."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "_", text) or "series"


def image_names(geometry: SeriesGeometry) -> list[str]:
    """A file name without ending for every image of the stack, no two alike: the image's or movie's own where it has one."""
    every, _ = stack_rows(geometry)
    names = [_name(_own_name(tilt) or f"{geometry.series.name}_{i:04d}") for i, (tilt, _) in enumerate(every, 1)]
    return (
        names
        if len(set(names)) == len(names)
        else [f"{_name(geometry.series.name)}_{i + 1:04d}" for i in range(len(names))]
    )


def _own_name(tilt: Tilt) -> str | None:
    if tilt.image and "@" not in tilt.image:
        return bare_name(tilt.image)
    return bare_name(tilt.movie) if tilt.movie else None


def protomo_losses(geometry: SeriesGeometry, title: str) -> list[str]:
    """What a `.tlt` cannot hold of a series."""
    losses = list(losses_of(geometry, title, keeps={"magnification"}))
    if any("@" in (t.image or "") for t in geometry.series.tilts):
        losses.append(
            f"{title}: its images are single files, named as in the .tlt; split the stack into files of those names."
        )
    return losses


def _write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    files, losses = list[Path](), list[str]()
    for stem, geometry in targets(place, geometries, (".tlt",)):
        file = stem.with_name(stem.name + ".tlt")
        write_text_atomic(file, protomo_text(geometry))
        files.append(file)
        losses += protomo_losses(geometry, "Protomo")
    return Written(files=tuple(files), losses=tuple(losses))


FORMAT = GeometryFormat(
    name="protomo",
    title="Protomo 2 (tilt geometry, .tlt)",
    words=GeometryWords(
        origin="where the specimen's origin is seen, in pixels counted from 0",
        unit="pixels",
        hand="not told; -1 stands for it",
        angles="degrees: tilt about the axis, azimuth counter-clockwise from x, rotation of each image after it",
    ),
    recognises=_recognises,
    read=_read,
    write=_write,
)
