"""What can be seen in metadata alone: mdocs, tables, and whether they agree with each other."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eucentric.io.mdoc import Mdoc
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.aligning import median_axis, nominal_axis
from eucentric.pipeline.doctor.axis import full_turn, half_turn
from eucentric.pipeline.doctor.cases import SeriesCase, all_tilts
from eucentric.pipeline.doctor.commands import command
from eucentric.pipeline.doctor.findings import Fault, Passed, Remedy, Result, listed
from eucentric.pipeline.import_files import parse_movie_names

_NAME_DEG = 0.6
"""Names hold angles to a degree or a tenth."""
_SAME_ANGLE_DEG = 0.1
_WIDE_DEG = 80.0
_AXIS_DEG = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NameCheck:
    """Angles in the names of movies against those of the metadata."""

    compared: int
    """Movies whose name holds an angle, away from zero."""
    alike: int
    opposite: int

    @property
    def is_negated(self) -> bool:
        """Whether nearly all have the other sign."""
        return self.compared >= 4 and self.opposite >= 0.9 * self.compared


def names_against_angles(case: SeriesCase) -> NameCheck | None:
    """How the angles in movie names compare; None where names hold none."""
    pairs: list[tuple[Path, float]] = []
    if case.mdoc is not None:
        pairs = [
            (Path(s.movie_name), s.tilt_angle_deg)
            for s in case.mdoc.sections
            if s.movie_name and s.tilt_angle_deg is not None
        ]
    elif case.series is not None:
        pairs = [(Path(t.movie), t.nominal_tilt_deg) for t in all_tilts(case.series) if t.movie]
    named = {m.path: m.tilt_deg for m in parse_movie_names([p for p, _ in pairs])}
    known = [(named[p], angle) for p, angle in pairs if p in named and abs(angle) > 2 * _NAME_DEG]
    if not known:
        return None
    return NameCheck(
        compared=len(known),
        alike=sum(abs(one - other) <= _NAME_DEG for one, other in known),
        opposite=sum(abs(one + other) <= _NAME_DEG for one, other in known),
    )


def check_metadata(case: SeriesCase, gradient_fits: bool | None = None) -> Iterator[Result]:
    """Everything that needs no image.

    Parameters
    ----------
    gradient_fits : whether the gradient of the defocus fits axis, angles and hand; None where it is not known
    """
    yield from _names(case, gradient_fits)
    if case.mdoc is not None:
        yield from _mdoc(case, case.mdoc)
    if case.series is not None:
        yield from _angles(case, case.series)
        yield from _table(case, case.series)


def _names(case: SeriesCase, gradient_fits: bool | None) -> Iterator[Result]:
    names = names_against_angles(case)
    if names is None:
        return
    if names.alike >= 0.9 * names.compared:
        text = f"The angles in the names of {names.compared} movies are those of the metadata."
        yield Passed(check="tilt-sign", series=case.name, text=text)
        return
    negated = names.is_negated
    if negated and gradient_fits:
        yield Fault(
            check="tilt-sign",
            severity="note",
            confidence="certain",
            title="The tilt angles have the other sign than the names of the movies, and fit the axis that is used.",
            compared=f"{names.opposite} of {names.compared} names hold the angle with the other sign; the gradient of the defocus "
            "fits axis, angles and hand as they are.",
            consequence="Nothing is wrong with the results: an axis turned by 180 degrees makes up for angles of the other sign. "
            "Other programs need both or neither.",
            series=case.name,
        )
        return
    axis = None if case.series is None else nominal_axis(case.series)
    if axis is None and case.mdoc is not None:
        axis = case.mdoc.tilt_axis_angle_deg
    remedies: tuple[Remedy, ...] = ()
    if negated and axis is not None and case.series is not None:
        made = case.importing.having(tilt_axis=round(full_turn(axis + 180.0), 1)).then_run()
        remedies = (
            Remedy(when="the axis turned by 180 degrees does the same as angles of the other sign", command=made),
        )
    yield Fault(
        check="tilt-sign",
        severity="error" if negated else "warning",
        confidence="likely" if negated else "possible",
        title="The tilt angles have the other sign than the names of the movies."
        if negated
        else "Tilt angles and the names of the movies do not fit.",
        compared=f"Of {names.compared} movies whose names hold an angle, {names.opposite} have it with the other sign and "
        f"{names.alike} as "
        "the metadata.",
        consequence="With angles of the wrong sign the tomogram is the mirror image: all maps will be of the wrong hand. Nothing else "
        "looks wrong; the gradient of the defocus tells (check `hand`)."
        if negated
        else "Images may be taken for those of other angles, and will not align.",
        remedies=remedies,
        series=case.name,
    )


def _mdoc(case: SeriesCase, mdoc: Mdoc) -> Iterator[Result]:
    title = mdoc.tilt_axis_angle_deg
    angles = [s.rotation_angle_deg for s in mdoc.sections if s.rotation_angle_deg is not None]
    if title is not None and angles:
        expected = full_turn(float(np.median(angles)) - 90.0)
        apart = full_turn(title - expected)
        if abs(apart) > _AXIS_DEG:
            yield Fault(
                check="mdoc-axis",
                severity="warning",
                confidence="possible",
                title="The mdoc gives two tilt axes that do not fit each other.",
                compared=f"Its title line says {title:.1f} degrees; RotationAngle - 90, which SerialEM keeps equal to it, is "
                f"{expected:.1f}: "
                f"{abs(apart):.1f} degrees apart. The title was taken.",
                consequence="One of them is wrong, or the file was edited or written by another program. An axis that is 180 "
                "degrees off "
                "makes the tomogram the mirror image; other errors stop it from aligning.",
                remedies=_axis_remedy(case, expected),
                series=case.name,
            )
        else:
            text = f"Title line ({title:.1f}) and RotationAngle - 90 ({expected:.1f} degrees) of the mdoc agree."
            yield Passed(check="mdoc-axis", series=case.name, text=text)
    voltages = {v for v in (mdoc.voltage_kv, *(s.voltage_kv for s in mdoc.sections)) if v}
    used = case.series.optics.voltage_kv if case.series is not None and case.series.optics is not None else None
    if voltages and used is not None and used not in voltages:
        yield Fault(
            check="voltage",
            severity="error",
            confidence="likely",
            title="The voltage is not that of the mdoc.",
            compared=f"{used:g} kV is used; the mdoc says {listed(sorted(voltages))}.",
            consequence="The wavelength is wrong, and with it every defocus and every CTF correction.",
            remedies=(Remedy(command=case.importing.having(voltage=min(voltages)).then_run()),),
            series=case.name,
        )
    if case.series is not None:
        return
    without = sum(s.tilt_angle_deg is None for s in mdoc.sections)
    if without:
        yield Fault(
            check="tilt-angles",
            severity="error",
            confidence="certain",
            title=f"{without} of {len(mdoc.sections)} sections of the mdoc have no tilt angle.",
            compared="Every image of a series needs its `TiltAngle`.",
            consequence="These images cannot be used.",
            series=case.name,
        )


def _axis_remedy(case: SeriesCase, axis: float) -> tuple[Remedy, ...]:
    if case.series is None:
        return ()
    text = case.importing.having(tilt_axis=round(axis, 1)).then_run()
    return (Remedy(when="if the title line is the wrong one", command=text),)


def _angles(case: SeriesCase, series: TiltSeries) -> Iterator[Result]:
    if not series.tilts:
        return
    tilts = series.nominal_tilts_deg
    steep = [float(t) for t in tilts if abs(t) > _WIDE_DEG]
    if steep and series.optics is not None:
        yield Fault(
            check="tilt-angles",
            severity="warning",
            confidence="possible",
            title="Some tilt angles are steeper than stages reach.",
            compared=f"{listed(steep)} degrees, where most stages end at 70.",
            consequence="The angles may be of another series, in another unit, or count from a pre-tilt.",
            series=case.name,
        )
    double = [float(a) for a, b in itertools.pairwise(tilts) if abs(b - a) < _SAME_ANGLE_DEG]
    if double:
        yield Fault(
            check="tilt-angles",
            severity="warning",
            confidence="likely",
            title="Images of the same tilt angle are both used.",
            compared=f"Twice within {_SAME_ANGLE_DEG:g} degrees: {listed(double)}.",
            consequence="The angle counts twice in the tomogram; mostly the first of them failed and was taken again.",
            remedies=tuple(_without_first(case, series, angle) for angle in double[:4]),
            series=case.name,
        )
    if not steep and not double:
        text = f"{len(tilts)} tilts from {tilts[0]:.1f} to {tilts[-1]:.1f} degrees, none twice."
        yield Passed(check="tilt-angles", series=case.name, text=text)


def _without_first(case: SeriesCase, series: TiltSeries, angle: float) -> Remedy:
    """Leave out the one of two that was taken first."""
    both = [t for t in series.tilts if abs(t.nominal_tilt_deg - angle) < _SAME_ANGLE_DEG]
    first = min(both, key=lambda t: t.acquisition)
    degrees, order = f"{first.nominal_tilt_deg:.2f}", str(first.acquisition)
    words = command(
        "eucentric", "exclude", case.shown, case.name, degrees, "--acquisition", order, "--reason", "repeated"
    )
    return Remedy(command=words)


def _table(case: SeriesCase, series: TiltSeries) -> Iterator[Result]:
    """Poses against nominal values, of alignments and tables of other programs."""
    aligned = case.aligned
    given = nominal_axis(series)
    if aligned is None or len(aligned.tilts) < 3:
        return
    axes = np.array([p.z_rot_deg for p in aligned.poses])
    spread = np.array([full_turn(a - median_axis(aligned)) for a in axes])
    flipped = [t.nominal_tilt_deg for t, s in zip(aligned.tilts, spread, strict=True) if abs(s) > 90.0]
    if flipped:
        yield Fault(
            check="tilt-axis",
            severity="error",
            confidence="certain",
            title="The tilt axis points the other way for some images.",
            compared=f"It is {median_axis(aligned):.1f} degrees for most, and about 180 degrees from that at "
            f"{listed(flipped)} degrees.",
            consequence="These images enter the tomogram as if they were taken from the other side.",
            remedies=(Remedy(command=f"eucentric align {case.shown} --only {case.name} --overwrite"),)
            if case.project
            else (),
            series=case.name,
        )
    own = np.array([p.y_tilt_deg for p in aligned.poses])
    slope = float(np.polyfit(aligned.nominal_tilts_deg, own, 1)[0]) if np.ptp(aligned.nominal_tilts_deg) > 10 else 1.0
    if slope < 0:
        yield Fault(
            check="tilt-sign",
            severity="error",
            confidence="likely",
            title="The aligned tilt angles have the other sign than the nominal ones.",
            compared=f"Over the series they change by {slope:.2f} degrees for each nominal degree; expected +1.",
            consequence="Unless the axis was turned by 180 degrees too, the tomogram is the mirror image and all maps will be of the "
            "wrong hand.",
            series=case.name,
        )
    elif not 0.8 < slope < 1.2 and math.isfinite(slope):
        yield Fault(
            check="tilt-angles",
            severity="warning",
            confidence="possible",
            title="The aligned tilt angles are stretched against the nominal ones.",
            compared=f"They change by {slope:.2f} degrees for each nominal degree; expected 1.",
            consequence="The tomogram is stretched or squeezed along z.",
            series=case.name,
        )
    if given is not None and "align" not in case.records:
        apart = full_turn(median_axis(aligned) - given)
        if abs(apart) > _AXIS_DEG:
            sense = abs(half_turn(apart)) <= _AXIS_DEG
            yield Fault(
                check="tilt-axis",
                severity="error" if sense else "warning",
                confidence="likely",
                title="The alignment's tilt axis is "
                + ("the opposite of" if sense else f"{abs(apart):.0f} degrees from")
                + " the microscope's.",
                compared=f"The alignment says {median_axis(aligned):.1f} degrees, the microscope {given:.1f}.",
                consequence="With the axis the other way round and the same angles the tomogram is the mirror image."
                if sense
                else "One of them is of another series or in another convention.",
                series=case.name,
            )
