"""From what files say of single images to checked tilt series: order, dose, doubles, sizes."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.findings import Finding, Severity
from eucentric.io.movies import movie_header
from eucentric.models import ExcludedTilt, Optics, Tilt, TiltPose, TiltSeries
from eucentric.pipeline.import_order import acquisition_order, counted_doses
from eucentric.pipeline.scheme_words import SchemeWords

SAME_ANGLE_DEG = 0.1
"""Closer than this, two tilts count as one taken twice: stages return to an angle within some hundredths."""
_DEFAULT_VOLTAGE_KV = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What the user said about all series; None where the files are to be asked."""

    voltage_kv: float | None = None
    pixel_size_angstrom: float | None = None
    dose_per_tilt: float | None = None
    tilt_axis_deg: float | None = None
    spherical_aberration_mm: float | None = None
    amplitude_contrast: float | None = None
    pattern: str | None = None
    scanning: bool | None = None
    scheme: SchemeWords | None = None
    """In which order the images were taken."""

    def __post_init__(self) -> None:
        for name, unit in (("pixel_size_angstrom", "A"), ("voltage_kv", "kV")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"The {name.split('_')[0]} given is {value:g} {unit}; expected a positive number.")
        if self.dose_per_tilt is not None and not self.dose_per_tilt >= 0:
            raise InputError(f"The dose given is {self.dose_per_tilt:g} e/A2 a tilt; expected zero or more.")


@dataclass(kw_only=True)
class DraftTilt:
    """One image as its metadata describe it."""

    angle_deg: float
    label: str
    """What to call it in messages: a file name or a section."""
    position: int
    """Where it stands in its file."""
    movie: Path | None = None
    image: str | None = None
    frames: tuple[int, int] | None = None
    """First of the movie's frames, and the one after the last, where tilts share it; `dose` and `prior_dose` are final."""
    frame_count: int = 1
    shape: tuple[int, int] | None = None
    dose: float | None = None
    prior_dose: float | None = None
    date_time: dt.datetime | None = None
    order: int | None = None
    axis_deg: float | None = None
    target_defocus_um: float | None = None
    defocus_um: float | None = None
    """As the microscope showed it: underfocus negative."""
    image_shift_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    time_s: float | None = None
    """Since the first image, where `date_time` does not tell."""
    shift_px: tuple[float, float] | None = None
    """(x, y) of the specimen centre, where the files give the whole alignment: then `angle_deg` and `axis_deg` are it."""
    problem: str | None = None
    """Why it cannot be used."""


@dataclass(kw_only=True)
class Draft:
    """One tilt series before its checks, with what was noticed so far."""

    name: str
    tilts: list[DraftTilt]
    pixel_size_angstrom: float | None = None
    """Of the images, as the metadata say."""
    header_pixel_size_angstrom: float | None = None
    """As the headers of the movies say, where they do."""
    voltage_kv: float | None = None
    scanning: bool = False
    title: Mapping[str, float] = field(default_factory=dict)
    """Words of the title that tell the order of tilts, with their start angle: `dosym`, `bidir`."""
    findings: list[Finding] = field(default_factory=list)

    def say(self, severity: Severity, text: str) -> None:
        self.findings.append(Finding(severity=severity, series=self.name, text=text))


def some_of(names: Sequence[str], shown: int = 4) -> str:
    """A list of names for a sentence, cut where it grows long."""
    quoted = ", ".join(f"`{name}`" for name in names[:shown])
    return quoted if len(names) <= shown else f"{quoted} and {len(names) - shown} more"


def read_movie_headers(draft: Draft) -> None:
    """Give every tilt with a movie its size and frame count, and the draft the pixel size of the headers, if any."""
    for tilt in draft.tilts:
        if tilt.movie is None or tilt.problem is not None:
            continue
        try:
            header = movie_header(tilt.movie)
        except (FormatError, InputError) as error:
            tilt.problem = str(error)
            draft.say("warning", f"The tilt at {tilt.angle_deg:.1f} degrees is left out: {error}")
            continue
        recorded = header.sensor_frame_count or header.frame_count
        if tilt.frame_count > 1 and tilt.frame_count not in (recorded, header.frame_count):
            draft.say(
                "warning",
                f"The mdoc says that `{tilt.movie.name}` has {tilt.frame_count} frames; the file has {recorded}, which are used.",
            )
            if recorded < tilt.frame_count and tilt.dose:  # what the specimen received is not what is in the file
                tilt.dose *= recorded / tilt.frame_count
        if (tilt.dose or 0.0) <= 0 and header.eer is not None and header.eer.dose:
            tilt.dose = header.eer.dose
        if header.eer is None:  # what of an EER movie is left out depends on how it is read later
            for note in header.notes:
                draft.say("note", f"`{tilt.movie.name}`: {note}")
        tilt.frame_count, tilt.shape = header.frame_count, header.shape
        draft.header_pixel_size_angstrom = draft.header_pixel_size_angstrom or header.pixel_size_angstrom


def _keep_one_size(draft: Draft) -> tuple[int, int]:
    shapes = Counter(t.shape for t in draft.tilts if t.problem is None and t.shape is not None)
    if not shapes:
        missing = next((t.problem for t in draft.tilts if t.problem), "it names no image")
        raise InputError(f"{draft.name} has no image that can be used: {missing}")
    shape = shapes.most_common(1)[0][0]
    for tilt in draft.tilts:
        if tilt.problem is None and tilt.shape != shape and tilt.shape is not None:
            tilt.problem = (
                f"its frames are {tilt.shape[1]} x {tilt.shape[0]} pixels, the others {shape[1]} x {shape[0]}"
            )
            draft.say(
                "warning", f"The tilt at {tilt.angle_deg:.1f} degrees (`{tilt.label}`) is left out: {tilt.problem}."
            )
    counts = Counter(t.frame_count for t in draft.tilts if t.problem is None)
    if len(counts) > 1 and all(t.frames is None for t in draft.tilts):
        told = ", ".join(f"{n} movies have {frames} frames" for frames, n in counts.most_common())
        draft.say("note", f"The movies have different numbers of frames: {told}.")
    return shape


def _is_scanning(draft: Draft, options: ImportOptions) -> bool:
    return draft.scanning if options.scanning is None else options.scanning


def _doses(
    draft: Draft, ranks: Sequence[int], options: ImportOptions, before_all: float
) -> tuple[list[float], list[float]]:
    """Dose of every image and dose before it."""
    shared = any(t.frames is not None for t in draft.tilts)
    given = None if shared else options.dose_per_tilt
    doses = [given if given is not None else max(t.dose or 0.0, 0.0) for t in draft.tilts]
    if given is None and not all(d > 0 for d in doses) and not _is_scanning(draft, options):
        none = sum(d <= 0 for d in doses)
        whose = "the images" if none == len(doses) else f"{none} of {len(doses)} images"
        draft.say(
            "warning", f"The dose of {whose} is not known and taken as 0: dose weighting has no effect. Give --dose."
        )
    accumulated = [0.0] * len(doses)
    total = 0.0
    for index in sorted(range(len(doses)), key=lambda i: ranks[i]):
        accumulated[index] = total
        total += doses[index]
    recorded = [t.prior_dose for t in draft.tilts]
    if given is None and all(p is not None for p in recorded) and any(recorded):
        accumulated = counted_doses(draft, ranks, doses)
    return doses, [a + before_all for a in accumulated]


def _drop_doubles(draft: Draft, ranks: Sequence[int]) -> None:
    usable = sorted((i for i, t in enumerate(draft.tilts) if t.problem is None), key=lambda i: draft.tilts[i].angle_deg)
    groups: list[list[int]] = []
    for index in usable:
        if groups and draft.tilts[index].angle_deg - draft.tilts[groups[-1][0]].angle_deg < SAME_ANGLE_DEG:
            groups[-1].append(index)
        else:
            groups.append([index])
    for group in groups:
        last = max(group, key=lambda i: ranks[i])
        for index in group:
            if index != last:
                tilt = draft.tilts[index]
                tilt.problem = f"taken again later at the same angle as `{draft.tilts[last].label}`"
                draft.say(
                    "warning",
                    f"There are two images at {tilt.angle_deg:.1f} degrees: `{draft.tilts[last].label}`, taken "
                    "last, is kept; "
                    f"`{tilt.label}` is left out (its dose counts).",
                )


def _fill_times(draft: Draft) -> None:
    """Seconds since the first image by the dates, where every image has one; nothing where all are the same."""
    dates = [t.date_time for t in draft.tilts]
    moments = [d for d in dates if d is not None]
    if len(moments) < len(dates) or len(set(moments)) < 2:
        return
    for tilt, moment in zip(draft.tilts, moments, strict=True):
        tilt.time_s = (moment - min(moments)).total_seconds()


def _pose(draft: DraftTilt, pixel_size: float) -> TiltPose | None:
    if draft.shift_px is None:
        return None
    return TiltPose(
        y_tilt_deg=float(draft.angle_deg),
        z_rot_deg=draft.axis_deg or 0.0,
        x_shift_angstrom=draft.shift_px[0] * pixel_size,
        y_shift_angstrom=draft.shift_px[1] * pixel_size,
    )


def _tilt(draft: DraftTilt, rank: int, dose: float, before: float, options: ImportOptions, pixel_size: float) -> Tilt:
    axis = options.tilt_axis_deg if options.tilt_axis_deg is not None else draft.axis_deg
    defocus = draft.target_defocus_um
    return Tilt(
        nominal_tilt_deg=float(draft.angle_deg),
        acquisition=rank,
        dose=float(dose),
        pre_exposure=float(before),
        movie=None if draft.movie is None else draft.movie.as_posix(),
        frames=draft.frames,
        frame_count=draft.frame_count,
        nominal_axis_deg=axis,
        nominal_defocus_angstrom=None if defocus is None else -1e4 * defocus,
        shown_defocus_angstrom=None if draft.defocus_um is None else -1e4 * draft.defocus_um,
        image_shift_um=draft.image_shift_um,
        time_s=draft.time_s,
        exposure_s=draft.exposure_s,
        image=draft.image,
        pose=_pose(draft, pixel_size),
    )


def series_optics(options: ImportOptions, voltage_kv: float | None) -> Optics:
    """Optics from the options, the file and the usual values, in that order."""
    usual = Optics()
    cs, contrast = options.spherical_aberration_mm, options.amplitude_contrast
    return Optics(
        voltage_kv=options.voltage_kv or voltage_kv or _DEFAULT_VOLTAGE_KV,
        spherical_aberration_mm=usual.spherical_aberration_mm if cs is None else cs,
        amplitude_contrast=usual.amplitude_contrast if contrast is None else contrast,
    )


def finish_series(draft: Draft, options: ImportOptions, before_all: float = 0.0) -> TiltSeries:
    """The checked series of a draft; what was odd is added to its findings.

    Parameters
    ----------
    draft : tilts with the sizes of their images, or a problem named (see `read_movie_headers`)
    options : the user's own values, which go before those of files
    before_all : e/A2 that the specimen had received before the series

    Raises
    ------
    InputError : nothing that could be processed: no angle, fewer than two images, no pixel size
    """
    shape = _keep_one_size(draft)
    ranks = acquisition_order(draft, options)
    doses, before = _doses(draft, ranks, options, before_all)
    _drop_doubles(draft, ranks)
    _fill_times(draft)
    usable = [i for i, t in enumerate(draft.tilts) if t.problem is None]
    if len(usable) < 2:
        raise InputError(
            f"{draft.name} has {len(usable)} image{'s' * (len(usable) != 1)} that can be used, of "
            f"{len(draft.tilts)}; a tilt "
            "series needs two at least. Check that all its frames and its whole mdoc were copied."
        )
    pixel_size = options.pixel_size_angstrom or draft.pixel_size_angstrom or draft.header_pixel_size_angstrom
    if not pixel_size:
        raise InputError(
            f"The pixel size of {draft.name} is 0 or missing in its files. Give it with --pixel-size, in Angstrom."
        )
    if options.tilt_axis_deg is None and all(t.axis_deg is None for t in draft.tilts):
        draft.say(
            "warning",
            "No file tells the direction of the tilt axis, so all directions must be searched. Give --tilt-axis.",
        )
    tilts = [
        _tilt(t, r, d, b, options, pixel_size) for t, r, d, b in zip(draft.tilts, ranks, doses, before, strict=True)
    ]
    excluded = [
        ExcludedTilt(tilt=tilts[i], reason=t.problem) for i, t in enumerate(draft.tilts) if t.problem is not None
    ]
    if not np.any(np.diff(sorted(tilts[i].nominal_tilt_deg for i in usable)) > 0):
        raise InputError(f"All images of {draft.name} have the same angle. Check its mdoc or angle file.")
    return TiltSeries.sorted(
        [tilts[i] for i in usable],
        name=draft.name,
        pixel_size_angstrom=float(pixel_size),
        image_shape=shape,
        excluded=tuple(excluded),
        optics=None if _is_scanning(draft, options) else series_optics(options, draft.voltage_kv),
    )
