"""Tilt series of Warp and M, both ways: `.tomostar`, the series' `.xml`, folders of them, `.settings`, `.source` and `.population`.

Geometry. Warp puts a point p of the specimen (A from half the size of the volume) at ``Rz(AxisAngle) Ry(-(Angle + LevelAngleY))
Rx(LevelAngleX) (p + volume warp) + AxisOffset`` from half the size of the image, less GridMovement read at that place
(`GetPositionInAllTilts` [1]_; the image's centre is n / 2, ours n // 2, which differ by half a pixel where n is odd). So
rlnTomoYTilt is -(Angle + LevelAngleY).

Sign of the angles. `ts_import` writes minus the angle of the mdoc, unless told --dont_invert [2]_, and `ts_import_alignments`
copies a `.tlt` as it stands [3]_. A `.tlt` made from Warp's own stack and `.rawtlt` is therefore right; one of an IMOD run with the
stage's own angles must be negated first, else Warp's specimen is the mirror image in z of IMOD's. Poses are read as Warp
uses them, whatever their sign, so that coordinates of Warp and M stay true; where names of movies or an mdoc show that the
angles have the stage's sign, a note says that the specimen is mirrored.

Hand. Warp's defocus of a point is GridCTF + 1e-4 z, with the very z row of RELION's matrix. With AreAnglesInverted, z is
``(Euler(0, -(Angle + LevelAngleY), -AxisAngle) Rx(-LevelAngleX) (x, y, -z))_z``, which is -z. So AreAnglesInverted False is hand
+1 and True is hand -1, in the sense of RELION's defocus + rlnTomoHand z. A phantom shows it, and so do positions that Warp
wrote itself (test data of warpylib [4]_: along x the defocus grows by sin(Angle + LevelAngleY) times the distance where the
angles are not inverted). Warp's export of 2D particles writes the opposite, rlnTomoHand -1 for False (`GetRelionHand`); it is
not followed here. The usual -1 of RELION is Warp's "flip" for the same specimen, and "no flip" for its mirror image.

Grids. The depth of every grid counts images by their place in the file, not by dose (``t / (n - 1)``, `GetTiltDefocus`); only
GridVolumeWarp goes by dose. CubicGrid is a natural cubic spline whose first and last points are the image's edges (0 and n
pixels, where ours are the first and the last pixel). GridCTF is the defocus of the specimen's centre, in um; the phase is in units
of 180 degrees. GridVolumeWarp is taken over as seen at half the height of the volume.

Dose is what the specimen had received before each image (``i * tilt_exposure`` [2]_); older versions counted the image itself.
Equal doses make Warp's positions NaN (it divides by their range), so without doses the order of the images is written in steps of
0.001 e/A^2.

References
----------
.. [1] WarpLib's sources, `TiltSeries/TiltSeries.cs`, `TiltSeries.TemplateMatchRefinement.cs`, `Tools/Matrix3.cs`, `CubicGrid.cs`,
   `LinearGrid4D.cs`, https://github.com/warpem/warp
.. [2] WarpTools' sources, `Commands/Tiltseries/ImportTiltseries.cs`
.. [3] WarpLib's sources, `TiltSeries/TiltSeries.ImportAlignments.cs`
.. [4] https://github.com/warpem/warpylib, `testdata/TS_1.xml` and `TS_1.star`
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.ctf_estimates import ExternalCtf, read_warp_ctf
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry
from eucentric.io.exchange.warp_population import read_warp_population, read_warp_source, xml_number, xml_root
from eucentric.io.exchange.warp_write import write_warp
from eucentric.io.external_alignments import ExternalAlignment, ExternalView, LeftOutView, from_warp, movie_stem
from eucentric.io.external_places import centre_offset, pose_of
from eucentric.io.mdoc import read_mdoc
from eucentric.io.mrc import read_mrc_header
from eucentric.io.star import read_star_text
from eucentric.io.warp_xml import WarpSeries, read_warp_series
from eucentric.models.tilt_series import Tilt
from eucentric.typing import FloatArray

_PROCESSED = ("", "warp_tiltseries")
_TABLES = ("", "tomostar")
_ROOTS = {".xml": "TiltSeries", ".settings": "Settings", ".source": "DataSource", ".population": "Population"}
_SAME_DEG = 0.6
_TELLS_DEG = 3.0  # smaller angles do not tell a sign
_LOOKED_AT = 50  # files of a folder
_MOST_PIXELS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """Of one series."""

    name: str
    xml: Path | None = None
    tomostar: Path | None = None
    pixel_size_angstrom: float | None = None
    """From a settings or source file."""
    volume_angstrom: tuple[float, float, float] | None = None

    @property
    def main(self) -> Path:
        """The `.xml`, else the `.tomostar`."""
        return self.xml or self.tomostar or Path(self.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Table:
    """A `.tomostar`; lists in the order of the file."""

    angles_deg: FloatArray
    axis_deg: FloatArray
    dose: FloatArray
    shifts_angstrom: FloatArray | None
    movies: tuple[str, ...]


def _root_tag(path: Path) -> str | None:
    try:
        for _, element in ElementTree.iterparse(path, events=("start",)):
            return str(element.tag)
    except (ElementTree.ParseError, OSError, ValueError, LookupError):
        pass
    return None


def _recognises(place: Path) -> bool:
    try:
        ending = place.suffix.lower()
        if place.is_dir():
            if any(True for sub in _TABLES for _ in (place / sub).glob("*.tomostar")):
                return True
            found = [f for sub in _PROCESSED for f in sorted((place / sub).glob("*.xml"))[:_LOOKED_AT]]
            return any(_root_tag(f) == _ROOTS[".xml"] for f in found)
        return ending == ".tomostar" or (ending in _ROOTS and _root_tag(place) == _ROOTS[ending])
    except OSError:
        return False


def read_warp(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """Tilt series of Warp or M.

    Parameters
    ----------
    place : `.xml`, `.tomostar`, `.settings`, `.source` or `.population`; or a folder with `.xml` or `.tomostar`, or with folders
        `warp_tiltseries` and `tomostar`

    Raises
    ------
    InputError : nothing there, or the pixel size or image size is neither in the files nor given
    FormatError : a damaged file
    """
    files = _find(Path(place))
    if given.name is not None and len(files) > 1:
        files = [f for f in files if f.name == given.name] or files
        given = replace(given, name=None) if len(files) > 1 else given
    return tuple(_read_one(f, given) for f in files)


def _find(place: Path) -> list[_Files]:
    if place.is_dir():
        return _in_folder(place)
    if not place.is_file():
        raise InputError(f"`{place}` does not exist. Give a .xml or .tomostar of Warp, or a folder with them.")
    match place.suffix.lower():
        case ".tomostar":
            return [_Files(name=place.stem, tomostar=place)]
        case ".settings":
            return _of_settings(place)
        case ".source":
            return _of_source(place)
        case ".population":
            found = [f for source in read_warp_population(place).sources for f in _of_source(source)]
            if not found:
                raise InputError(f"`{place}` names no source with tilt series. Add one in M, or give a folder of Warp.")
            return found
        case _:
            tables = [place.with_suffix(".tomostar"), place.parent.parent / "tomostar" / f"{place.stem}.tomostar"]
            return [_Files(name=place.stem, xml=place, tomostar=next((t for t in tables if t.is_file()), None))]


def _in_folder(folder: Path) -> list[_Files]:
    settings = [s for s in sorted(folder.glob("*.settings")) if _root_tag(s) == "Settings"]
    for path in settings:
        found = _of_settings(path, required=False)
        if found:
            return found
    found = _listed([folder / sub for sub in _PROCESSED], [folder / sub for sub in _TABLES], folder.parent / "tomostar")
    if not found:
        raise InputError(
            f"`{folder}` holds no tilt series of Warp: neither .xml with <TiltSeries> nor .tomostar, nor `warp_tiltseries` or "
            "`tomostar` with them."
        )
    return found


def _listed(processed: Sequence[Path], tables: Sequence[Path], beside: Path | None = None) -> list[_Files]:
    """Series of folders of `.xml`, with their `.tomostar`; of the latter alone where there is no `.xml`.

    Parameters
    ----------
    beside : a folder whose `.tomostar` count only where there is an `.xml`
    """
    xml = {f.stem: f for folder in reversed(processed) for f in folder.glob("*.xml") if _root_tag(f) == _ROOTS[".xml"]}
    folders = [*tables, *([beside] if beside is not None and xml else [])]
    stars = {f.stem: f for folder in reversed(folders) for f in folder.glob("*.tomostar")}
    return [_Files(name=name, xml=xml.get(name), tomostar=stars.get(name)) for name in sorted(xml or stars)]


def _of_settings(path: Path, *, required: bool = True) -> list[_Files]:
    root = xml_root(path, "Settings", "settings of Warp")
    texts = {p.get("Name", ""): p.get("Value", "") for p in root.iterfind("Import/Param")}
    processed = path.parent / (texts.get("ProcessingFolder") or ".").replace("\\", "/")
    tables = path.parent / (texts.get("DataFolder") or texts.get("Folder") or ".").replace("\\", "/")
    found = _listed([processed], [tables, path.parent / "tomostar"])
    if required and not found:
        raise InputError(f"`{path}` names `{processed}`, which holds no tilt series of Warp. Run ts_import first.")
    raw = xml_number(root, "PixelSize", path, "Import")
    binning = xml_number(root, "BinTimes", path, "Import") or 0.0
    size = [xml_number(root, f"Dimensions{axis}", path, "Tomo") for axis in "XYZ"]
    known = [n * raw for n in size if n is not None and raw is not None]
    volume = (known[0], known[1], known[2]) if len(known) == 3 else None
    pixel = None if raw is None else raw * 2.0 ** min(binning, 10.0)
    return [replace(f, pixel_size_angstrom=pixel, volume_angstrom=volume) for f in found]


def _of_source(path: Path) -> list[_Files]:
    source = read_warp_source(path)
    extent = source.volume_size_angstrom
    out = []
    for file in source.files:
        if not file.lower().endswith(".tomostar"):
            continue
        name = movie_stem(file).removesuffix(".tomostar")
        xml, table = path.parent / f"{name}.xml", path.parent / file.replace("\\", "/")
        if not xml.is_file():
            raise InputError(f"`{path}` names {file}, and `{xml}` is not there. Copy it beside the source.")
        out.append(
            _Files(
                name=name,
                xml=xml,
                tomostar=table if table.is_file() else None,
                pixel_size_angstrom=source.pixel_size_angstrom,
                volume_angstrom=None if extent is None else (float(extent[0]), float(extent[1]), float(extent[2])),
            )
        )
    if not out:
        raise InputError(f"`{path}` names no tilt series (.tomostar). Give a source of tilt series.")
    return out


def _read_table(path: Path) -> _Table:
    blocks = read_star_text(path)
    table = next((t for t in blocks.values() if "wrpAngleTilt" in t), None)
    if table is None or not table["wrpAngleTilt"]:
        raise FormatError(f"`{path}` has no column wrpAngleTilt, or no row. Expected a .tomostar of Warp's ts_import.")
    n = len(table["wrpAngleTilt"])

    def column(label: str) -> FloatArray:
        try:
            values = np.array([float(v or "nan") for v in table.get(label, ["0"] * n)], dtype=np.float64)
        except ValueError as error:
            raise FormatError(f"`{path}` has a value under {label} that is not a number: {error}.") from error
        if not np.isfinite(values).all():
            raise FormatError(f"`{path}` has a row without a number for {label}; expected one for each image.")
        return values

    has_shifts = "wrpAxisOffsetX" in table and "wrpAxisOffsetY" in table
    return _Table(
        angles_deg=column("wrpAngleTilt"),
        axis_deg=column("wrpAxisAngle"),
        dose=column("wrpDose"),
        shifts_angstrom=np.stack([column("wrpAxisOffsetX"), column("wrpAxisOffsetY")], axis=1) if has_shifts else None,
        movies=tuple(v or "" for v in table.get("wrpMovieName", [""] * n)),
    )


def _series_of_table(table: _Table) -> WarpSeries:
    """What Warp makes of a `.tomostar` alone (`InitializeFromTomoStar`)."""
    n = len(table.angles_deg)
    return WarpSeries(
        angles_deg=table.angles_deg,
        dose=table.dose,
        use=np.ones(n, dtype=np.bool_),
        axis_deg=table.axis_deg,
        shifts_angstrom=np.zeros((n, 2)) if table.shifts_angstrom is None else table.shifts_angstrom,
        movies=table.movies if all(table.movies) else (),
    )


def _read_one(files: _Files, given: Given) -> SeriesGeometry:
    notes: list[str] = []
    place = files.main
    table = None if files.tomostar is None else _read_table(files.tomostar)
    aligned = files.xml is not None or (table is not None and table.shifts_angstrom is not None)
    series = _series_of_table(table) if files.xml is None and table is not None else read_warp_series(place)
    if not aligned:
        notes.append(f"`{place}` holds no alignment, only the stage's angles and axis.")
    folder = _movie_folder(series, files)
    movies = _movie_paths(series, folder)
    averages = [None if m is None else _average(m, folder) for m in movies]
    pixel = given.need_pixel_size(files.pixel_size_angstrom or series.pixel_size_angstrom, place)
    external = replace(from_warp(series, source=f"Warp ({place.name})"), pixel_size_angstrom=pixel)
    external = _sized(external, series, averages)
    nominal = _nominal(series, table, notes)
    ctf = None if files.xml is None else _ctf(files.xml, series)
    rows = [*np.flatnonzero(series.use).tolist(), *np.flatnonzero(~series.use).tolist()]
    ranks, dose, before = _doses(series, nominal, given, place, notes)
    notes += _sign_notes(series, place)
    if files.xml is not None and ctf is None:
        notes.append(
            f"`{place}` holds no defocus, so AreAnglesInverted may only be what Warp begins with; ts_defocus_hand tells it."
        )
    if series.turns_particles:
        notes.append("GridAngle, which turns particles but moves no point, was not taken over.")
    found = series_of_views(
        _relisted(external, rows, nominal),
        given,
        place,
        name=files.name,
        ctf=ctf,
        doses=dose[rows],
        before=before[rows],
        order=[int(ranks[i]) for i in rows],
        hand=None if files.xml is None else -1.0 if series.angles_inverted else 1.0,
    )
    axis = series.axis_deg if table is None or len(table.axis_deg) != len(nominal) else table.axis_deg
    row_of = {int(rank): i for i, rank in enumerate(ranks)}
    offset = centre_offset("half", found.series.pixel_size_angstrom, found.series.image_shape)

    def completed(tilt: Tilt) -> Tilt:
        i = row_of[tilt.acquisition]
        return replace(
            tilt,
            movie=movies[i],
            image=averages[i],
            nominal_axis_deg=float(axis[i]),
            pose=(tilt.pose or pose_of(_view(series, i), 1.0, offset)) if aligned else None,
        )

    whole = found.series.replace(
        tilts=tuple(completed(t) for t in found.series.tilts),
        excluded=tuple(replace(e, tilt=completed(e.tilt)) for e in found.series.excluded),
        volume_size_px=given.volume_size_px or _volume_px(series, files, pixel),
        thickness_angstrom=None if ctf is None else ctf.thickness_angstrom,
    )
    return SeriesGeometry(series=whole, warp=found.warp, notes=tuple(dict.fromkeys([*notes, *found.notes])))


def _view(series: WarpSeries, row: int) -> ExternalView:
    x, y = series.shifts_angstrom[row]
    return ExternalView(
        listed_deg=float(-series.angles_deg[row]),
        y_tilt_deg=float(-(series.angles_deg[row] + series.level_y_deg)),
        z_rot_deg=float(series.axis_deg[row]),
        x_tilt_deg=series.level_x_deg,
        shift=(float(x), float(y)),
    )


def _movie_folder(series: WarpSeries, files: _Files) -> Path:
    """Where paths of movies start: the folder of the `.tomostar`, as far as it is there."""
    told = Path(series.data_directory.replace("\\", "/")) if series.data_directory else None
    if told is not None and told.is_dir():
        return told
    return (files.tomostar or files.main).parent


def _movie_paths(series: WarpSeries, folder: Path) -> list[str | None]:
    """Absolute where the file is there, else as written."""
    out: list[str | None] = []
    for text in series.movies or [""] * len(series.angles_deg):
        path = folder / text.replace("\\", "/")
        out.append(None if not text else str(path.resolve()) if path.is_file() else text)
    return out


def _average(movie: str, folder: Path) -> str | None:
    """Warp's aligned sum of a movie, where it is there, with or without the movie."""
    path = folder / movie.replace("\\", "/")
    average = path.parent / "average" / f"{path.stem}.mrc"
    return str(average.resolve()) if average.is_file() else None


def _sized(external: ExternalAlignment, series: WarpSeries, averages: Sequence[str | None]) -> ExternalAlignment:
    """With the size of the images: from the XML, or from the header of an average."""
    size, pixel = series.image_size_angstrom, external.pixel_size_angstrom
    if size is not None and pixel is not None and max(size) / pixel < _MOST_PIXELS:
        x, y = (round(n / pixel) for n in size)
        return replace(external, image_size=(max(1, x), max(1, y)))
    for path in averages:
        if path is not None:
            shape = read_mrc_header(path).shape
            return replace(external, image_size=(int(shape[2]), int(shape[1])))
    return external


def _nominal(series: WarpSeries, table: _Table | None, notes: list[str]) -> FloatArray:
    """(row,): the stage's angles as Warp has them, with the sign of our tilts."""
    refined: FloatArray = -series.angles_deg
    if table is None or len(table.angles_deg) != len(refined):
        if table is not None:
            notes.append("The .tomostar and the .xml have different numbers of images; that of the .xml counts.")
        return refined
    known = [movie_stem(m) for m in series.movies] == [movie_stem(m) for m in table.movies]
    if not known or np.median(np.abs(table.angles_deg - series.angles_deg)) > _TELLS_DEG * 3:
        return refined
    stage: FloatArray = -table.angles_deg
    return stage


def _relisted(external: ExternalAlignment, rows: Sequence[int], nominal: FloatArray) -> ExternalAlignment:
    """With the nominal angles, and the rows of the file as sections."""
    count = len(external.views)
    views = [
        replace(v, listed_deg=float(nominal[i]), section=i) for v, i in zip(external.views, rows[:count], strict=True)
    ]
    gone: list[LeftOutView] = [
        replace(v, listed_deg=float(nominal[i]), section=i, names=())
        for v, i in zip(external.left_out, rows[count:], strict=True)
    ]
    return replace(external, views=tuple(replace(v, names=()) for v in views), left_out=tuple(gone), signs_known=True)


def _ctf(path: Path, series: WarpSeries) -> ExternalCtf | None:
    """Estimates of the used images by their rows; None where there are none."""
    try:
        found = read_warp_ctf(path)
    except FormatError:
        raise
    except InputError:  # no defocus yet
        return None
    rows = np.flatnonzero(series.use).tolist()
    estimates = [replace(e, section=i, names=(), listed_deg=None) for e, i in zip(found.estimates, rows, strict=True)]
    return replace(found, estimates=tuple(estimates))


def _doses(
    series: WarpSeries, nominal: FloatArray, given: Given, place: Path, notes: list[str]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rank in time, dose, and dose before, of each row."""
    n = len(nominal)
    before = series.dose if len(series.dose) == n else np.zeros(n)
    steps = np.diff(np.unique(before))
    if not len(steps):
        notes.append(f"`{place}` tells neither doses nor the order of the images; that of the angles stands for it.")
        rank = np.argsort(np.argsort(nominal, kind="stable"), kind="stable").astype(np.float64)
        each = given.dose_per_tilt or 0.0
        return rank, np.full(n, each), rank * each
    rank = np.argsort(np.argsort(before, kind="stable"), kind="stable").astype(np.float64)
    each = float(np.median(steps))
    if given.dose_per_tilt:
        before, each = before * (given.dose_per_tilt / each), given.dose_per_tilt
    if before.min() > 0.5 * each:
        notes.append(
            f"The first image of `{place}` lists a dose of {before.min():.2f} e/A2. It was taken for what came before each image, "
            "as Warp uses it; older versions of Warp count the image itself."
        )
    return rank, np.full(n, each), before


def _volume_px(series: WarpSeries, files: _Files, pixel: float) -> tuple[int, int, int] | None:
    size = series.volume_size_angstrom or files.volume_angstrom
    if size is None or max(size) / pixel > _MOST_PIXELS:
        return None
    x, y, z = (max(1, round(n / pixel)) for n in size)
    return x, y, z


def _sign_notes(series: WarpSeries, place: Path) -> list[str]:
    """A note where the angles have the stage's own sign."""
    same, turned = 0, 0
    for angle, movie in zip(series.angles_deg, series.movies, strict=False):
        if abs(angle) > _TELLS_DEG:
            named = [float(t) for t in re.findall(r"(?<=[_\[ ])-?\d{1,2}\.\d+(?=[_\]. ])", movie.replace("\\", "/"))]
            same += any(abs(v - angle) < _SAME_DEG for v in named)
            turned += any(abs(v + angle) < _SAME_DEG for v in named)
    if same == turned:
        stage = _mdoc_angles(place.with_suffix(".mdoc"))
        if len(stage) == len(series.angles_deg):
            listed = np.sort(series.angles_deg)
            same = int(np.median(np.abs(listed - np.sort(stage))) < _SAME_DEG)
            turned = int(np.median(np.abs(listed - np.sort(-stage))) < _SAME_DEG)
    if same <= turned:
        return []
    return [
        f"The angles in `{place}` have the sign of the stage's, not its opposite as Warp's ts_import gives them. Places in the "
        "images are as Warp sees them; its specimen, and ours with it, is the mirror image in z of what IMOD, AreTomo and RELION see."
    ]


def _mdoc_angles(path: Path) -> FloatArray:
    if not path.is_file():
        return np.zeros(0)
    try:
        angles = [s.tilt_angle_deg for s in read_mdoc(path).sections]
    except EucentricError:
        return np.zeros(0)
    return np.array([a for a in angles if a is not None], dtype=np.float64)


FORMAT = GeometryFormat(
    name="warp",
    title="Warp and M (.xml, .tomostar, .settings, .source, .population)",
    words=GeometryWords(
        origin="half the size of the volume; half the size of the image, from the first pixel at 0",
        unit="A and degrees; defocus in um; dose in e/A2 before each image",
        hand="AreAnglesInverted False is hand +1 (defocus + z), True is hand -1",
        angles="minus the stage's (ts_import); Rz(AxisAngle) Ry(-(Angle + LevelAngleY)) Rx(LevelAngleX)",
    ),
    recognises=_recognises,
    read=read_warp,
    write=write_warp,
    holds_volume=True,
)
