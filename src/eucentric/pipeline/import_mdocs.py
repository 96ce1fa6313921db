"""Tilt series from movies and their mdoc files: one mdoc a series, or one an image."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.io.findings import Finding
from eucentric.io.frame_tables import is_frame_series
from eucentric.io.mdoc import Mdoc, MdocSection, merge_mdocs, read_mdoc
from eucentric.pipeline.acquisition_orders import cut_off_words, is_sure, split_sections
from eucentric.pipeline.import_drafts import Draft, DraftTilt, some_of
from eucentric.pipeline.import_files import bare_name, parse_movie_names, series_name

NO_TITLE_AXIS = "No title line gives the tilt axis: it was taken as RotationAngle - 90, which holds for SerialEM."


@dataclass(kw_only=True)
class MdocSeries:
    """The mdoc (or mdocs) of one tilt series."""

    name: str
    mdoc: Mdoc
    paths: list[Path]


@dataclass(kw_only=True)
class MdocSets:
    """What a list of mdoc files came to."""

    series: list[MdocSeries] = field(default_factory=list)
    continuous: list[MdocSeries] = field(default_factory=list)
    """Tilt series each within one movie."""
    findings: list[Finding] = field(default_factory=list)


def _is_montage(mdoc: Mdoc) -> bool:
    return mdoc.extra.get("Montage", "0").strip() not in ("", "0") or any(
        s.kind == "MontSection" for s in mdoc.sections
    )


def _is_of_one_image(mdoc: Mdoc) -> bool:
    return len(mdoc.sections) == 1 and mdoc.sections[0].kind in ("FrameSet", "ZValue")


def read_mdoc_sets(paths: Sequence[Path], pattern: str | None = None) -> MdocSets:
    """Read mdoc files and join those of single images into series by the names of their movies.

    Parameters
    ----------
    paths : mdoc files
    pattern : how movie names are made, as `parse_movie_names`; used for mdocs of single images
    """
    sets = MdocSets()
    singles: dict[Path, Mdoc] = {}
    for path in paths:
        name = series_name(path)
        try:
            mdoc = read_mdoc(path)
        except (FormatError, InputError) as error:
            sets.findings.append(Finding(severity="error", series=name, text=str(error)))
            continue
        if (cut := cut_off_words(mdoc)) and not _is_montage(mdoc):
            sets.findings.append(Finding(severity="warning", series=name, text=cut))
        if _is_montage(mdoc):
            text = f"`{path.name}` describes a montage and is passed over."
            sets.findings.append(Finding(severity="note", text=text))
        elif is_frame_series(mdoc):
            sets.continuous.append(MdocSeries(name=name, mdoc=mdoc, paths=[path]))
        elif _is_of_one_image(mdoc):
            singles[path] = mdoc
        else:
            sets.series.append(MdocSeries(name=name, mdoc=mdoc, paths=[path]))
    _join_singles(sets, singles, pattern)
    sets.series = [part for one in sets.series for part in _split(sets, one)]
    return sets


def _split(sets: MdocSets, source: MdocSeries) -> list[MdocSeries]:
    """The series that one mdoc, or a folder of mdocs of single images, holds mixed."""
    sections = [s for s in source.mdoc.sections if s.tilt_angle_deg is not None]
    split, groups = split_sections(sections)
    if len(groups) < 2:
        return [source]
    sure = f"by {split.how} ({100 * split.confidence:.0f}% sure)"
    if not is_sure(split):
        text = f"It may hold {len(groups)} series mixed, {sure}, and is taken as one. If it does, part its mdoc."
        sets.findings.append(Finding(severity="warning", series=source.name, text=text))
        return [source]
    names = [n if n.startswith(source.name) else f"{source.name}_{n}" for n in map(series_name, split.names)]
    text = f"It holds {len(groups)} series mixed; they were told apart {sure}, as {', '.join(names)}."
    sets.findings.append(Finding(severity="warning", series=source.name, text=text))
    return [
        MdocSeries(name=name, mdoc=replace(source.mdoc, sections=tuple(group)), paths=source.paths)
        for name, group in zip(names, groups, strict=True)
    ]


def _join_singles(sets: MdocSets, singles: Mapping[Path, Mdoc], pattern: str | None) -> None:
    covered = {s.movie_name for one in sets.series for s in one.mdoc.sections}
    rest = {p: m for p, m in singles.items() if m.sections[0].movie_name not in covered}
    if len(rest) < len(singles):
        text = (
            f"{len(singles) - len(rest)} mdocs of single images repeat what the mdocs of series say and are passed "
            "over."
        )
        sets.findings.append(Finding(severity="note", text=text))
    if not rest:
        return
    names = {Path(m.sections[0].movie_name or bare_name(p)): p for p, m in rest.items()}
    grouped: dict[str, list[Path]] = defaultdict(list)
    for movie in parse_movie_names(list(names), pattern):
        grouped[movie.series].append(names[movie.path])
    joined = {p for group in grouped.values() for p in group}
    for name, group in grouped.items():
        sets.series.append(MdocSeries(name=name, mdoc=merge_mdocs([rest[p] for p in group]), paths=group))
    alone = [p for p in rest if p not in joined]
    for path in alone if len(alone) <= 1 else []:
        sets.series.append(MdocSeries(name=series_name(path), mdoc=rest[path], paths=[path]))
    if len(alone) > 1:
        text = (
            f"{len(alone)} mdocs of single images cannot be joined to series, for their names follow no known pattern: "
            f"{some_of([p.name for p in alone])}. Give --pattern, such as '{{series}}_{{order}}_{{tilt}}'."
        )
        sets.findings.append(Finding(severity="error", text=text))


class MovieIndex:
    """Movies found by the name that an mdoc gives them, of whatever folder, and perhaps with another ending."""

    def __init__(self, movies: Sequence[Path]) -> None:
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self.used: set[Path] = set()
        for movie in movies:
            self._by_name[movie.name.lower()].append(movie)
            self._by_stem[bare_name(movie).lower()].append(movie)

    def find(self, name: str) -> Path | None:
        """The movie, or None. Of several of one name the first in the user's list is taken."""
        matches = self._by_name.get(name.lower()) or self._by_stem.get(bare_name(name).lower()) or []
        self.used.update(matches)
        return matches[0] if matches else None

    def doubles(self) -> list[str]:
        """Names that stand in more than one folder."""
        return [paths[0].name for paths in self._by_name.values() if len(paths) > 1]


def mdoc_axis(mdoc: Mdoc, section: MdocSection, option: float | None) -> float | None:
    """Tilt axis (degrees) of the title, or else of a section; nothing of a section where the user gave one."""
    if option is not None or mdoc.tilt_axis_angle_deg is not None:
        return mdoc.tilt_axis_angle_deg
    if section.rotation_angle_deg is None:
        return None
    # SerialEM: RotationAngle = tilt axis angle + 90.
    return (section.rotation_angle_deg - 90.0 + 180.0) % 360.0 - 180.0


def _dose(section: MdocSection) -> float | None:
    if section.exposure_dose:
        return section.exposure_dose
    total = sum(dose * count for dose, count in section.frame_doses)
    return total or None


def mdoc_pixel_size(draft: Draft, mdoc: Mdoc, option: float | None) -> float | None:
    """A per pixel of an mdoc's images; where they differ, and the user gave none, that is said."""
    values = [s.pixel_spacing_angstrom for s in mdoc.sections if s.pixel_spacing_angstrom]
    if not values:
        return mdoc.pixel_spacing_angstrom or None
    if max(values) > 1.001 * min(values) and option is None:
        draft.say(
            "warning",
            f"Its images have pixel sizes from {min(values):g} to {max(values):g} A; {float(np.median(values)):g} "
            "A is used. "
            "Give --pixel-size if that is wrong.",
        )
    return float(np.median(values))


def draft_from_mdoc(source: MdocSeries, movies: MovieIndex, pixel_size: float | None, tilt_axis: float | None) -> Draft:
    """A draft with every movie looked up.

    Parameters
    ----------
    source : the mdoc
    movies : all movies there are
    pixel_size, tilt_axis : the user's own values, where given

    Raises
    ------
    InputError : no angle or no movie in any section
    """
    mdoc = source.mdoc
    draft = Draft(name=source.name, tilts=[], voltage_kv=mdoc.voltage_kv, title=mdoc.scheme)
    voltages = [s.voltage_kv for s in mdoc.sections if s.voltage_kv]
    draft.voltage_kv = mdoc.voltage_kv or (voltages[0] if voltages else None)
    draft.pixel_size_angstrom = mdoc_pixel_size(draft, mdoc, pixel_size)
    with_angle = [s for s in mdoc.sections if s.tilt_angle_deg is not None]
    where = some_of([p.name for p in source.paths])
    if not with_angle:
        raise InputError(
            f"{where} of {source.name} holds no tilt angles (`TiltAngle`) in its {len(mdoc.sections)} sections. "
            "Expected one "
            "for each image; give movies whose names hold the angle, with --pattern, instead."
        )
    if len(with_angle) < len(mdoc.sections):
        lost = len(mdoc.sections) - len(with_angle)
        draft.say("warning", f"{lost} of {len(mdoc.sections)} sections of {where} have no tilt angle and are left out.")
    if all(s.movie_name is None for s in with_angle):
        raise InputError(
            f"{where} of {source.name} names no movie (`SubFramePath`). Give its stack with --stack instead."
        )
    missing, unnamed, other_ending = [], [], []
    for position, section in enumerate(with_angle):
        name = section.movie_name
        path = None if name is None else movies.find(name)
        angle = section.tilt_angle_deg or 0.0
        tilt = DraftTilt(
            angle_deg=angle,
            label=name or f"section {section.label}",
            position=position,
            movie=path,
            frame_count=section.frame_count or 1,
            dose=_dose(section),
            prior_dose=section.prior_record_dose,
            date_time=section.date_time,
            axis_deg=mdoc_axis(mdoc, section, tilt_axis),
            target_defocus_um=section.target_defocus_um,
            defocus_um=section.defocus_um,
            image_shift_um=section.image_shift_um,
            exposure_s=section.exposure_time_s or None,
        )
        if name is None:
            tilt.problem = "the mdoc names no movie for it"
            unnamed.append(f"{tilt.label} ({angle:.1f} degrees)")
        elif path is None:
            tilt.problem = "its movie is named in the mdoc but is not among the frames"
            missing.append(f"{name} ({angle:.1f} degrees)")
        elif path.name.lower() != name.lower():
            other_ending.append(f"{path.name} for {name}")
        draft.tilts.append(tilt)
    if other_ending:
        draft.say("note", f"Movies with another ending than in the mdoc are used: {some_of(other_ending, 2)}.")
    if missing:
        count = f"{len(missing)} movies are" if len(missing) > 1 else "One movie is"
        draft.say(
            "warning",
            f"{count} named in {where} but not among the frames: {some_of(missing)}. Without them the tilts are "
            "left out.",
        )
    if unnamed:
        draft.say("warning", f"{where} names no movie of {some_of(unnamed)}; without one they are left out.")
    if tilt_axis is None and mdoc.tilt_axis_angle_deg is None and any(t.axis_deg is not None for t in draft.tilts):
        draft.say("note", NO_TITLE_AXIS)
    return draft


def mend_super_resolution(draft: Draft, mdoc: Mdoc) -> None:
    """Where movies are a whole number of times larger than the mdoc's images, so much finer are their pixels."""
    shape = next((t.shape for t in draft.tilts if t.shape is not None), None)
    if shape is None or mdoc.image_size is None or draft.pixel_size_angstrom is None:
        return
    ratios = {max(shape) / max(mdoc.image_size), min(shape) / min(mdoc.image_size)}
    ratio = ratios.pop() if len(ratios) == 1 else 1.0
    if ratio != 1.0 and float(max(ratio, 1 / ratio)).is_integer():
        pixel = draft.pixel_size_angstrom / ratio
        draft.say(
            "warning",
            f"Its movies are {ratio:g} times the size of the images in the mdoc, so their pixels are taken as "
            f"{pixel:g} A, "
            f"not {draft.pixel_size_angstrom:g}. Give --pixel-size if that is wrong.",
        )
        draft.pixel_size_angstrom = pixel
