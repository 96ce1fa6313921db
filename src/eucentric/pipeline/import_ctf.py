"""Taking over the contrast transfer that other programs estimated, or that focus images tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from eucentric.ctf.specimen_plane import plane_heights
from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.aretomo import read_aretomo
from eucentric.io.ctf_estimates import CtfEstimate, ExternalCtf, read_ctf_estimates
from eucentric.io.external_alignments import movie_stem
from eucentric.io.focus_tables import FocusImage
from eucentric.io.imod import read_angles
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import CtfFit, Tilt, TiltSeries
from eucentric.pipeline.import_files import read_own
from eucentric.typing import FloatArray, PathLike

_NEAR = 0.45
"""Of the step between tilts: angles closer than this are of the same view."""
_STEP_DEG = 3.0  # where there is one tilt only
_ENDINGS = (
    *("_CTF.txt", ".mrc_CTF.txt", ".defocus", "_CTF_Imod.txt", ".xml"),
    *("_ctffind5.txt", "_ctffind4.txt", "_ctffind.txt", "_ctf.txt", "_diagnostic.txt"),
    *("_gctf.star", "_ctf.star", ".star", ".txt"),
)
_TABLES = (
    *("tilt_series_ctf.star", "tilt_series.star", "aligned_tilt_series.star", "tomograms.star"),
    "micrographs_ctf.star",
)
_OF_ONE_IMAGE = ("_diagnostic", "_ctffind5", "_ctffind4", "_ctffind", "_gctf", "_PS", "_ctf", "_CTF")
_ELSEWHERE = 1.0  # A; less is not worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedCtf:
    """A series with the contrast transfer of its tilts."""

    series: TiltSeries
    caveats: tuple[str, ...]
    filled: tuple[int, ...] = ()
    """Tilts (position in `series.tilts`) without an estimate of their own, filled in from their neighbours."""


def read_external_ctf(path: PathLike, name: str, *, project_root: PathLike | None = None) -> ExternalCtf:
    """Estimates for a tilt series by CTFFIND, Gctf, ctfplotter, AreTomo, Warp, M or RELION.

    Parameters
    ----------
    path : a file, or a folder that holds one for the series (or a folder of its name that does), or one for each image
    name : of the tilt series
    project_root : folder that paths in a RELION table start from; found where not given

    Raises
    ------
    InputError : nothing there for this series
    FormatError : a file that cannot be read
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            f"`{place}` does not exist. Give a folder, or a .txt, .defocus, .xml or .star file with estimates."
        )
    if not place.is_dir():
        return _with_angles(read_ctf_estimates(place, name, project_root=project_root), place)
    file = _find(place, name)
    if file is not None:
        return _with_angles(read_ctf_estimates(file, name, project_root=project_root), file)
    return _of_single_images(place, name)


def _find(folder: Path, name: str) -> Path | None:
    """The file for a series in a folder, or in one of its name."""
    for place in (folder, folder / name):
        for ending in _ENDINGS:
            if (file := place / f"{name}{ending}").is_file():
                return file
    return next((folder / table for table in _TABLES if (folder / table).is_file()), None)


def _of_single_images(folder: Path, name: str) -> ExternalCtf:
    """The tables of a folder that hold one image each."""
    found: list[ExternalCtf] = []
    files = [file for ending in ("txt", "star") for file in folder.glob(f"*.{ending}")]
    own = [file for file in files if file.name.startswith(f"{name}_")]
    for file in sorted(own or files):
        if file.stem.endswith("_avrot"):  # CTFFIND's curves
            continue
        try:
            one = read_ctf_estimates(file)
        except InputError:
            continue  # of something else
        if len(one.estimates) == 1:
            estimate = one.estimates[0]
            names = tuple(dict.fromkeys((*estimate.names, *(_bare(n) for n in (*estimate.names, file.stem)))))
            found.append(replace(one, estimates=(replace(estimate, names=names),)))
    if not found:
        raise InputError(
            f"`{folder}` holds no estimates for {name}: neither `{name}.defocus`, `{name}_CTF.txt`, `{name}.xml`, a RELION "
            "table nor tables of single images. Give the file itself."
        )
    first = found[0]
    return replace(
        first,
        source=f"{first.program} ({folder.name})",
        estimates=tuple(e for one in found for e in one.estimates),
        caveats=tuple(dict.fromkeys(c for one in found for c in one.caveats)),
    )


def _bare(stem: str) -> str:
    for ending in _OF_ONE_IMAGE:
        if stem.endswith(ending):
            return stem[: -len(ending)]
    return stem


def _with_angles(external: ExternalCtf, file: Path) -> ExternalCtf:
    """Angles of a list that has none, from the files that programs leave beside it."""
    estimates = external.estimates
    if len(estimates) < 2 or any(e.listed_deg is not None or e.names for e in estimates):
        return external
    stem = next((file.stem[: -len(e)] for e in ("_CTF", *_OF_ONE_IMAGE) if file.stem.endswith(e)), file.stem)
    for angles in (
        _angles_of_aretomo(file.with_name(f"{stem}_CTF_Imod.txt"), file.with_name(f"{stem}.aln"))
        if external.program == "AreTomo"
        else [],
        _angles_of_list(file, stem),
    ):
        if len(angles) == len(estimates):
            listed = [replace(e, listed_deg=float(a)) for e, a in zip(estimates, angles, strict=True)]
            return replace(external, estimates=tuple(listed))
    return external


def _angles_of_aretomo(defocus: Path, alignment: Path) -> Sequence[float]:
    if defocus.is_file():
        listed = [e.listed_deg for e in read_ctf_estimates(defocus).estimates]
        if None not in listed:
            return [a for a in listed if a is not None]
    if alignment.is_file():
        found = read_aretomo(alignment)
        kept: list[float] = (found.tilts_deg - found.alpha_offset_deg).tolist()
        return kept
    return []


def _angles_of_list(file: Path, stem: str) -> Sequence[float]:
    beside = (file.with_name(f"{stem}{ending}") for ending in ("_TLT.txt", ".rawtlt", ".tlt"))
    found = next((p for p in beside if p.is_file()), None)
    angles: list[float] = [] if found is None else read_angles(found).tolist()
    return angles


def attach_given_ctf(
    series: TiltSeries, paths: Sequence[Path], *, series_count: int, rows_reversed: bool | None = None
) -> AttachedCtf | None:
    """The series with the estimates that are its own among those that the user named; None where none of them is.

    Parameters
    ----------
    paths : files, each of the series that its name begins with (a STAR table of all), and folders
    series_count : of all series: a single file for a single series needs no name
    rows_reversed : as for `attach_ctf`

    Raises
    ------
    InputError, FormatError : its estimates cannot be read, or do not fit
    """
    found = read_own(series.name, paths, series_count, lambda path: read_external_ctf(path, series.name))
    return None if found is None else attach_ctf(series, found, rows_reversed=rows_reversed)


def attach_ctf(series: TiltSeries, external: ExternalCtf, *, rows_reversed: bool | None = None) -> AttachedCtf:
    """Give the tilts of a series the contrast transfer that another program found.

    Estimates are found by the names of movies, else by sections where the series' images are sections of one stack, else by
    angles, else by their order where there are as many as tilts. Tilts without one take the values between their
    neighbours', as ctfphaseflip does. Defocus of the middle of the image is brought to the specimen centre where the
    series is aligned.

    Parameters
    ----------
    rows_reversed : whether the other program had the rows of the images in the other order, so that its angles turn the
        other way. By itself: for EER movies, whose rows RELION, MotionCor, AreTomo and Warp keep as stored; IMOD turns
        them over as we do

    Raises
    ------
    InputError : the series has no contrast transfer, or the estimates do not belong to it
    """
    if series.optics is None:
        raise InputError(
            f"The images of {series.name} have no contrast transfer function (scanning transmission). "
            "Leave out the estimates."
        )
    pairs, how = _match(series, external)
    caveats = [*external.caveats, *([how] if how else []), *_optics_caveats(series.optics, external)]
    fits: dict[int, CtfFit] = {i: external.estimates[j].fit for i, j in pairs.items() if i < len(series.tilts)}
    if not fits:
        raise InputError(
            f"No estimate of {external.source} is of a tilt of {series.name}. Check that it belongs to this series."
        )
    if _rows_reversed(series, external) if rows_reversed is None else rows_reversed:
        fits = {i: replace(f, astigmatism_angle_deg=-f.astigmatism_angle_deg) for i, f in fits.items()}
        if rows_reversed is None and any(f.defocus_u_angstrom > f.defocus_v_angstrom for f in fits.values()):
            caveats.append(
                f"{external.source} leaves the rows of EER movies as stored, here they are turned over: the signs of its "
                "astigmatism angles were turned."
            )
    filled = tuple(i for i in range(len(series.tilts)) if i not in fits)
    if filled:
        fits.update(_fill(series, fits, filled))
        listed = ", ".join(f"{series.tilts[i].nominal_tilt_deg:g}" for i in filled[:6])
        more = "" if len(filled) <= 6 else f" and {len(filled) - 6} more"
        caveats.append(
            f"{external.source} has no estimate at {listed}{more} degrees; the values there are those between neighbours."
        )
    whole = series.with_tilts([replace(t, ctf=fits[i]) for i, t in enumerate(series.tilts)])
    if external.place == "image":
        whole, words = _moved(whole, external.source)
        caveats += words
    if external.thickness_angstrom is not None and series.thickness_angstrom is None:
        whole = whole.replace(thickness_angstrom=external.thickness_angstrom)
    return AttachedCtf(series=whole, caveats=tuple(caveats), filled=filled)


def _moved(series: TiltSeries, source: str) -> tuple[TiltSeries, list[str]]:
    """The series with defocus of the specimen centre, as far as it is aligned, and a word on it."""
    series, moved = _at_specimen_centre(series)
    if moved is None:
        return series, [
            f"{source} tells the defocus of the middle of each image, and the series is not aligned yet: where the specimen "
            "centre lies beside it, the defocus there differs by that distance times the tangent of the tilt."
        ]
    if moved < _ELSEWHERE:
        return series, []
    return series, [
        f"{source} tells the defocus of the middle of each image; at the specimen centre it is up to {moved:.0f} A different "
        f"(hand {series.hand:+.0f})."
    ]


def _optics_caveats(ours: Optics, external: ExternalCtf) -> list[str]:
    theirs = external.optics
    if theirs is None:
        return []
    quantities = {
        "voltage": (theirs.voltage_kv, ours.voltage_kv, 0.5, " kV"),
        "spherical aberration": (theirs.spherical_aberration_mm, ours.spherical_aberration_mm, 0.005, " mm"),
        "amplitude contrast": (theirs.amplitude_contrast, ours.amplitude_contrast, 0.005, ""),
    }
    return [
        f"{external.source} was run with {what} {a:g}{unit}; the series has {b:g}{unit}. Correct the one that is wrong."
        for what, (a, b, tolerance, unit) in quantities.items()
        if abs(a - b) > tolerance
    ]


def _rows_reversed(series: TiltSeries, external: ExternalCtf) -> bool:
    movies = [t.movie for t in series.tilts]
    return external.program != "IMOD" and all(m is not None and m.lower().endswith(".eer") for m in movies)


def _vectors(fits: Sequence[CtfFit]) -> FloatArray:
    """(fit, 4): mean defocus, astigmatism as a vector that turns twice as fast as its axis, phase shift."""
    rows = []
    for fit in fits:
        half = 0.5 * (fit.defocus_u_angstrom - fit.defocus_v_angstrom)
        angle = np.deg2rad(2.0 * fit.astigmatism_angle_deg)
        rows.append([fit.defocus_angstrom, half * np.cos(angle), half * np.sin(angle), fit.phase_shift_deg])
    return np.array(rows, dtype=np.float64)


def _fill(series: TiltSeries, fits: dict[int, CtfFit], missing: Sequence[int]) -> dict[int, CtfFit]:
    """Values between neighbours along the tilt angle; beyond the last one its own."""
    known = sorted(fits)
    angles = series.nominal_tilts_deg
    values = _vectors([fits[i] for i in known])
    out = {}
    for i in missing:
        mean, a, b, phase = (float(np.interp(angles[i], angles[known], column)) for column in values.T)
        half = float(np.hypot(a, b))
        out[i] = CtfFit(
            defocus_u_angstrom=mean + half,
            defocus_v_angstrom=mean - half,
            astigmatism_angle_deg=float(np.rad2deg(0.5 * np.arctan2(b, a))),
            phase_shift_deg=phase,
        )
    return out


def _at_specimen_centre(series: TiltSeries) -> tuple[TiltSeries, float | None]:
    """The series with defocus of the specimen centre from that of the image's middle, and the largest change in A.

    The specimen plane z = 0 lies at the camera height z under the image's middle, where the defocus is D + hand * z.
    """
    poses = [t.pose for t in series.tilts if t.pose is not None]
    if len(poses) < len(series.tilts):
        return series, None
    heights = np.nan_to_num(plane_heights(np.zeros((1, 2)), TiltGeometry.from_poses(tuple(poses)))[:, 0])
    tilts = []
    for tilt, height in zip(series.tilts, heights.tolist(), strict=True):
        fit = tilt.ctf
        if fit is not None:
            change = -series.hand * height
            fit = replace(
                fit,
                defocus_u_angstrom=fit.defocus_u_angstrom + change,
                defocus_v_angstrom=fit.defocus_v_angstrom + change,
            )
        tilts.append(replace(tilt, ctf=fit))
    return series.with_tilts(tilts), float(np.abs(heights).max(initial=0.0))


def _match(series: TiltSeries, external: ExternalCtf) -> tuple[dict[int, int], str]:
    """Estimate by position among all tilts, excluded ones last, and a word on how they were found."""
    every = [*series.tilts, *(e.tilt for e in series.excluded)]  # those left out here may be estimated there
    estimates = external.estimates
    if pairs := _by_name(every, estimates):
        return pairs, ""
    if (found := _by_section(every, estimates)) is not None:
        return found, ""
    if all(e.listed_deg is not None for e in estimates):
        return _by_angle(every, len(series.tilts), external, series.name)
    for tilts in (every, list(series.tilts)):
        if len(tilts) == len(estimates):
            order = sorted(range(len(tilts)), key=lambda i: (tilts[i].nominal_tilt_deg, tilts[i].acquisition))
            return {i: j for j, i in enumerate(order)}, (
                f"{external.source} lists neither names nor angles; its rows were taken to be in ascending order of tilt angle. "
                "A list of angles (.rawtlt) beside it makes sure."
            )
    raise InputError(
        f"{external.source} has {len(estimates)} estimates and {series.name} {len(series.tilts)} tilts, and it lists neither "
        "names nor angles: which is which cannot be told. Put a list of the angles (.rawtlt) beside it."
    )


def _by_name(tilts: Sequence[Tilt], estimates: Sequence[CtfEstimate]) -> dict[int, int]:
    """Estimates that bear the name of a tilt's movie or image; a table may hold other series too."""
    where: dict[str, int] = {}
    for i, tilt in enumerate(tilts):
        for name in (tilt.movie, tilt.image):
            if name and "@" not in name:
                where.setdefault(movie_stem(name), i)
    pairs: dict[int, int] = {}
    for j, estimate in enumerate(estimates):
        found = next((where[name] for name in estimate.names if name in where), None)
        if found is not None:
            pairs.setdefault(found, j)
    return pairs


def _section(tilt: Tilt) -> int | None:
    """Section of the stack that the tilt's image was imported from, from 0."""
    if tilt.movie is not None or not tilt.image:
        return None
    number, at, _ = tilt.image.partition("@")
    return int(number) - 1 if at and number.isdecimal() else None


def _by_section(tilts: Sequence[Tilt], estimates: Sequence[CtfEstimate]) -> dict[int, int] | None:
    """Estimates by their sections of the stack, where the angles (if listed) agree."""
    where = {s: i for i, t in enumerate(tilts) if (s := _section(t)) is not None}
    wanted = [e.section for e in estimates]
    if len(where) < len(tilts) or None in wanted or any(s not in where for s in wanted):
        return None
    pairs = {where[s]: j for j, s in enumerate(wanted) if s is not None}
    if not any(e.listed_deg is not None for e in estimates) and len(estimates) != len(tilts):
        return None
    away = np.array(
        [b - tilts[i].nominal_tilt_deg for i, j in pairs.items() if (b := estimates[j].listed_deg) is not None]
    )
    spread = float(np.abs(away - np.median(away)).max()) if len(away) else 0.0
    return pairs if spread < _NEAR * _step([t.nominal_tilt_deg for t in tilts]) else None


def _step(angles: Sequence[float]) -> float:
    steps = np.diff(np.sort(angles))
    steps = steps[steps > 0.1]
    return float(np.median(steps)) if len(steps) else _STEP_DEG


def _by_angle(tilts: Sequence[Tilt], kept: int, external: ExternalCtf, name: str) -> tuple[dict[int, int], str]:
    """Estimates by their angles, which may all be off by the same where there are as many as tilts."""
    theirs = np.array([e.listed_deg for e in external.estimates], dtype=np.float64)
    ours = np.array([t.nominal_tilt_deg for t in tilts])
    near = _NEAR * _step(ours.tolist())
    starts = [0.0]
    if len(theirs) in (len(ours), kept):
        own = ours if len(theirs) == len(ours) else ours[:kept]
        starts.append(float(np.median(np.sort(theirs) - np.sort(own))))
    best: tuple[int, float, dict[int, int]] = (0, 0.0, {})
    for start in starts:
        away = theirs[None, :] - start - ours[:, None]
        rows, columns = linear_sum_assignment(np.abs(away))
        fits = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if abs(away[r, c]) < near}
        if len(fits) > best[0]:  # of two ways the one that finds more, else the one without an offset
            best = (len(fits), start, fits)
    count, offset, pairs = best
    if 2 * count < min(len(theirs), kept):
        raise InputError(
            f"{external.source} lists {len(theirs)} angles, of which {count} are near one of the {len(tilts)} tilts of {name}. "
            "Check that it belongs to this series."
        )
    how = (
        f"The angles of {external.source} lie {offset:+.2f} degrees from those of the series."
        if abs(offset) > 0.5
        else ""
    )
    return pairs, how


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FocusedDefocus:
    """What focus images tell of the tilts between them."""

    defocus_angstrom: FloatArray
    """(tilt,), on the tilt axis at the middle of the tilt images."""
    slope: FloatArray
    """(tilt,), A of defocus for each A along the tilt axis; NaN where no two places tell."""
    caveats: tuple[str, ...]


def interpolate_focus(images: Sequence[FocusImage], tilts_deg: FloatArray, acquisitions: FloatArray) -> FocusedDefocus:
    """Defocus of each tilt from focus images beside the specimen on the tilt axis, where tilting changes no height.

    Images of one time are joined by a straight line along the axis (least squares for more than two), read at the
    middle of the tilt images. In between times the values are interpolated, beyond the first and the last they stay. A time with
    one place takes the slope of the times around it.

    Parameters
    ----------
    images : in any order
    tilts_deg, acquisitions : (tilt,), angle and order of acquisition, from 0, of the tilt images

    Raises
    ------
    InputError : no focus image, or one at an angle that no tilt has
    """
    if not images:
        raise InputError("No focus image was given; expected one or more.")
    times = np.array([_time(image, tilts_deg, acquisitions) for image in images])
    places = np.array([image.position_angstrom for image in images])
    values = np.array([image.defocus_angstrom for image in images])
    moments = np.unique(times)
    slopes = np.full(len(moments), np.nan)
    for n, moment in enumerate(moments):
        x, d = places[times == moment], values[times == moment]
        if np.ptp(x) > 0:
            slopes[n] = float(np.sum((x - x.mean()) * (d - d.mean())) / np.sum((x - x.mean()) ** 2))
    known = np.isfinite(slopes)
    used = np.interp(moments, moments[known], slopes[known]) if known.any() else np.zeros(len(moments))
    level = np.array([np.mean((values - used[n] * places)[times == m]) for n, m in enumerate(moments)])
    caveats = []
    if not known.any() and np.any(places != 0):
        caveats.append(
            "The focus images lie at one place only of the tilt axis: how the specimen slopes along it is not known, and its "
            "defocus was taken as that of the focus images."
        )
    outside = int(((acquisitions < moments[0]) | (acquisitions > moments[-1])).sum())
    if outside and len(moments) > 1:
        caveats.append(
            f"{outside} tilts were taken before the first or after the last focus image and have its defocus."
        )
    slope = (
        np.interp(acquisitions, moments[known], slopes[known]) if known.any() else np.full(len(acquisitions), np.nan)
    )
    return FocusedDefocus(
        defocus_angstrom=np.asarray(np.interp(acquisitions, moments, level)),
        slope=np.asarray(slope),
        caveats=tuple(caveats),
    )


def _time(image: FocusImage, tilts_deg: FloatArray, acquisitions: FloatArray) -> float:
    if image.acquisition is not None:
        return image.acquisition
    wanted = image.tilt_deg if image.tilt_deg is not None else float("nan")
    away = np.abs(tilts_deg - wanted)
    nearest = int(np.argmin(away))
    if not away[nearest] < _NEAR * _step(tilts_deg.tolist()):
        raise InputError(f"A focus image is listed at {wanted:g} degrees, where there is no tilt. Correct its angle.")
    return float(acquisitions[nearest])


def attach_focus(series: TiltSeries, images: Sequence[FocusImage], *, offset_angstrom: float = 0.0) -> AttachedCtf:
    """Give the tilts of a series the defocus that focus images tell, without astigmatism.

    Parameters
    ----------
    offset_angstrom : what the tilt images are further underfocus than the focus images by the microscope's settings

    Raises
    ------
    InputError : as `interpolate_focus`, or a series without contrast transfer
    """
    if series.optics is None:
        raise InputError(f"The images of {series.name} have no contrast transfer function (scanning transmission).")
    order = np.array([t.acquisition for t in series.tilts], dtype=np.float64)
    found = interpolate_focus(images, series.nominal_tilts_deg, order)
    defocus = (found.defocus_angstrom + offset_angstrom).tolist()
    fits = [CtfFit(defocus_u_angstrom=d, defocus_v_angstrom=d) for d in defocus]
    whole, _ = _at_specimen_centre(
        series.with_tilts([replace(t, ctf=f) for t, f in zip(series.tilts, fits, strict=True)])
    )
    return AttachedCtf(series=whole, caveats=found.caveats)
