"""Dose: what the metadata say against each other, against counts, and the order of the images."""

import itertools
from collections.abc import Iterator

import numpy as np

from eucentric.io.mdoc import Mdoc, MdocSection
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.doctor.findings import Fault, NotChecked, Passed, Remedy, Result, listed
from eucentric.pipeline.doctor.measure import Measured
from eucentric.typing import FloatArray

_APART = 0.1
"""Relative difference of two doses that are meant to be the same."""
_LARGE_TOTAL = 250.0
_EXPECTED = (0.65, 1.12)
"""Electrons that a camera counts without specimen, over those that the dose makes of a pixel: it misses some, and invents none."""
_COUNTING = (0.15, 3.0)
"""Outside of it the numbers are no counts of electrons."""
_FADE = 0.1
_CLEAR = 5.0
_USUAL = "Dose weighting and damage are computed for the wrong dose: fine detail is damped too much, or too little."


def check_dose(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    """Everything about dose and order of one series."""
    if case.mdoc is not None:
        yield from _mdoc(case, case.mdoc)
    if case.series is not None and case.series.tilts:
        yield from _series(case, case.series, measured)
    if measured is not None and case.series is not None:
        yield from _counts(case, measured)
        yield from _fading(case, measured)


def _mdoc(case: SeriesCase, mdoc: Mdoc) -> Iterator[Result]:
    sections = _by_time(mdoc)
    doses = np.array([s.exposure_dose or 0.0 for s in sections])
    if case.series is None and not doses.any() and not any(s.frame_doses for s in sections):
        yield _no_dose(case, len(sections), len(sections), None)
    frames = np.array([sum(d * n for d, n in s.frame_doses) for s in sections])
    both = (doses > 0) & (frames > 0)
    if both.any() and (apart := float(np.median(frames[both] / doses[both]))) and abs(apart - 1) > _APART:
        yield _differ(
            case,
            "FrameDosesAndNumber adds up to another dose than ExposureDose.",
            f"Their ratio is {apart:.2f} (median of {both.sum()} images): {frames[both].mean():.3g} against "
            f"{doses[both].mean():.3g} e/A2.",
            float(np.median(frames[both])),
        )
    prior = [s.prior_record_dose for s in sections]
    if all(p is not None for p in prior) and len(prior) > 2 and doses.all():
        yield from _prior(case, sections, np.array(prior, dtype=np.float64), doses)
    times = np.array([s.exposure_time_s or 0.0 for s in sections])
    if times.all() and doses.all() and np.ptp(times) > _APART * times.mean() and np.ptp(doses) < 0.01 * doses.mean():
        yield _differ(
            case,
            "The exposure time changes, and ExposureDose does not.",
            f"Exposures last {times.min():.2f} to {times.max():.2f} s, and each is said to bring {doses.mean():.3g} e/A2.",
            None,
        )
    yield from _rates(case, mdoc, sections, doses, times)


def _by_time(mdoc: Mdoc) -> list[MdocSection]:
    sections = [s for s in mdoc.sections if s.tilt_angle_deg is not None] or list(mdoc.sections)
    if all(s.date_time is not None for s in sections):
        return sorted(sections, key=lambda s: (s.date_time, s.prior_record_dose or 0.0))
    return sections


def _prior(case: SeriesCase, sections: list[MdocSection], prior: FloatArray, doses: FloatArray) -> Iterator[Result]:
    dated = all(s.date_time is not None for s in sections)
    steps = np.diff(prior)
    if dated and (steps < 0).any():
        places = [float(sections[i + 1].tilt_angle_deg or 0.0) for i in np.flatnonzero(steps < 0)]
        yield Fault(
            check="dose-order",
            severity="error",
            confidence="certain",
            title="Dates and PriorRecordDose tell different orders of the images.",
            compared=f"In the order of their dates the dose before an image falls {len(places)} times, at {listed(places)} "
            f"degrees; it "
            "can only grow.",
            consequence="The dose before each image is wrong for some: damaged images are taken for fresh ones.",
            remedies=_dose_remedy(case, float(np.median(doses))),
            series=case.name,
        )
        return
    ratio = float(np.median(steps / doses[:-1])) if len(steps) else 1.0
    if abs(ratio - 1.0) > _APART:
        yield _differ(
            case,
            "PriorRecordDose grows by another dose than ExposureDose.",
            f"From one image to the next it grows by {np.median(steps):.3g} e/A2 (median), and each image is said to bring "
            f"{np.median(doses):.3g}.",
            float(np.median(steps)) or None,
        )
    else:
        text = f"PriorRecordDose grows by ExposureDose ({np.median(doses):.3g} e/A2) from image to image, in the order of dates."
        yield Passed(check="dose", series=case.name, text=text)


def _rates(
    case: SeriesCase, mdoc: Mdoc, sections: list[MdocSection], doses: FloatArray, times: FloatArray
) -> Iterator[Result]:
    """SerialEM's DoseRate: electrons at the camera a second and unbinned pixel, behind the specimen."""
    rates, binning = _numbers(sections, "DoseRate"), _numbers(sections, "Binning")
    pixel = np.array([s.pixel_spacing_angstrom or mdoc.pixel_spacing_angstrom or 0.0 for s in sections])
    if not (rates.all() and times.all() and pixel.all() and doses.all()):
        return
    unbinned = pixel / np.where(binning > 0, binning, 1.0)
    ratio = float(np.median(rates * times / unbinned**2 / doses))
    if not 0.2 <= ratio <= 1.3:
        yield Fault(
            check="dose",
            severity="warning",
            confidence="possible",
            title="DoseRate and ExposureTime give another dose than ExposureDose.",
            compared=f"DoseRate x ExposureTime / pixel area is {ratio:.2f} times ExposureDose (median); behind the specimen "
            f"0.4 to 1.1 is "
            "usual.",
            consequence=_USUAL + " Pixel size, binning or the calibration of the dose may be wrong.",
            remedies=_dose_remedy(case, float(np.median(doses)) * ratio),
            series=case.name,
        )


def _numbers(sections: list[MdocSection], key: str) -> FloatArray:
    values = []
    for section in sections:
        try:
            values.append(float(section.extra.get(key, "0")))
        except ValueError:
            values.append(0.0)
    return np.array(values)


def _differ(case: SeriesCase, title: str, compared: str, likely: float | None) -> Fault:
    return Fault(
        check="dose",
        severity="warning",
        confidence="certain",
        title=title,
        compared=compared + " That they differ is sure; which of them is right the file does not tell.",
        consequence=_USUAL,
        remedies=() if likely is None else _dose_remedy(case, likely),
        series=case.name,
    )


def _dose_remedy(
    case: SeriesCase, dose: float, when: str = "with the dose of a tilt that is right"
) -> tuple[Remedy, ...]:
    if case.series is None or not dose > 0:
        return ()
    made = case.importing.having(dose=float(f"{dose:.3g}")).then_run()
    return (Remedy(when=when, command=made),)


def _no_dose(case: SeriesCase, none: int, count: int, counted: float | None) -> Fault:
    guess = (
        ""
        if counted is None
        else f" By its counts, if the camera counts electrons, a tilt got about {counted:.2g} e/A2."
    )
    return Fault(
        check="dose",
        severity="error",
        confidence="certain",
        title="The dose of the images is not known."
        if none == count
        else f"The dose of {none} of {count} images is not known.",
        compared=f"It is 0 or missing for {none} of {count} images.{guess}",
        consequence="Dose weighting has no effect, so that damaged detail of late images blurs tomograms and maps.",
        remedies=_dose_remedy(case, counted)
        if counted is not None
        else _dose_remedy(case, 3.0, "with the dose of a tilt of your session in place of 3"),
        series=case.name,
    )


def _series(case: SeriesCase, series: TiltSeries, measured: Measured | None) -> Iterator[Result]:
    doses, before = series.doses, series.pre_exposures
    if series.optics is None:
        return
    none = int((doses <= 0).sum())
    if none:
        yield _no_dose(case, none, len(doses), _counted_dose(measured))
        return
    order = np.argsort([t.acquisition for t in series.tilts])
    steps = np.diff(before[order])
    if (steps < -1e-6).any():
        yield Fault(
            check="dose-order",
            severity="error",
            confidence="certain",
            title="The dose before the images does not grow in the order in which they were taken.",
            compared=f"It falls {int((steps < 0).sum())} times of {len(steps)} in the order of acquisition.",
            consequence="Damaged images are taken for fresh ones, and the other way round.",
            remedies=_dose_remedy(case, float(np.median(doses))),
            series=case.name,
        )
    total = float((before + doses).max())
    if total > _LARGE_TOTAL:
        yield Fault(
            check="dose",
            severity="warning",
            confidence="possible",
            title="The dose of the whole series is unusually large.",
            compared=f"It adds up to {total:.0f} e/A2; 80 to 160 is usual. The dose of a frame or of the series may have been "
            f"taken for "
            "that of a tilt, or e/nm2 for e/A2.",
            consequence=_USUAL,
            series=case.name,
        )
    elif not (steps < -1e-6).any():
        text = f"{doses.mean():.3g} e/A2 a tilt, {total:.0f} in all, growing in the order of acquisition."
        yield Passed(check="dose", series=case.name, text=text)


def _incident(measured: Measured | None) -> float | None:
    """Counts a square A without specimen, by Lambert's law; None where images tell nothing of the kind."""
    light = None if measured is None else measured.light
    if measured is None or light is None or not light.found or not measured.sketch.counted:
        return None
    return float(light.incident) / measured.sketch.series.pixel_size_angstrom**2


def _counted_dose(measured: Measured | None) -> float | None:
    incident = _incident(measured)
    return incident if incident is not None and 0.05 < incident < 30.0 else None


def _counts(case: SeriesCase, measured: Measured) -> Iterator[Result]:
    series = measured.sketch.series
    incident = _incident(measured)
    dose = float(np.median(series.doses)) if len(series.doses) else 0.0
    if incident is None or not dose > 0:
        if dose > 0:
            why = (
                "sums hold no raw counts"
                if not measured.sketch.counted
                else "the images do not darken with tilt as a slab does"
            )
            yield NotChecked(check="dose-counts", series=case.name, text=f"Dose and counts were not compared: {why}.")
        return
    ratio = incident / dose
    words = (
        f"{incident:.2f} counts a square A without specimen, extrapolated from all tilts, for a dose of {dose:.3g} e/A2: "
        f"{ratio:.2f}"
    )
    if _EXPECTED[0] <= ratio <= _EXPECTED[1]:
        yield Passed(
            check="dose-counts", series=case.name, text=f"{words} of the electrons are counted, as cameras do."
        )
        return
    if not _COUNTING[0] <= ratio <= _COUNTING[1]:
        text = f"Dose and counts were not compared: the camera does not seem to count single electrons ({words})."
        yield NotChecked(check="dose-counts", series=case.name, text=text)
        return
    high = ratio < 1
    yield Fault(
        check="dose-counts",
        severity="warning",
        confidence="possible",
        title=f"The dose looks too {'high' if high else 'low'} for the electrons that were counted.",
        compared=f"{words} times. A counting camera finds {_EXPECTED[0]:g} to 1 of them.",
        consequence=f"{_USUAL} It also comes of a wrong pixel size (the factor's square), of counts that the program scaled, "
        f"and of a camera "
        "that loses electrons at high rates.",
        remedies=_dose_remedy(case, incident),
        series=case.name,
    )


def _fading(case: SeriesCase, measured: Measured) -> Iterator[Result]:
    """A beam that fades, or exposures that were lengthened, where the metadata give one dose for all."""
    series, values = measured.sketch.series, measured.intensities
    kept = [i for i in range(len(series.tilts)) if i not in measured.bad]
    doses = series.doses
    if values is None or len(kept) < 12 or not doses.all() or np.ptp(doses) > 0.01 * doses.mean():
        return
    light = measured.light
    slope = light.y_tilt_deg if light is not None and light.found else 0.0
    fit = _trend(
        values[kept], series.nominal_tilts_deg[kept] + slope, np.array([series.tilts[i].acquisition for i in kept])
    )
    if fit is None:
        return
    (path, path_sigma), (late, sigma) = fit
    if abs(late) > _FADE and abs(late) > _CLEAR * sigma:
        yield Fault(
            check="dose-counts",
            severity="warning",
            confidence="likely",
            title=f"The images get {'brighter' if late > 0 else 'darker'} in the order in which they were taken, at one dose for all.",
            compared=f"From the first to the last image the counts change by {np.expm1(late):+.0%} (+- {sigma:.1%}), what the "
            f"tilt does aside; "
            f"the metadata say {doses.mean():.3g} e/A2 for each.",
            consequence=_USUAL + " The beam was not steady, or the true doses were not noted.",
            series=case.name,
            sigmas=abs(late) / sigma,
        )
    elif path < -_CLEAR * path_sigma and path < -_FADE:
        yield Fault(
            check="dose-counts",
            severity="warning",
            confidence="likely",
            title="Steep tilts are brighter than flat ones, at one dose for all.",
            compared=f"The counts grow by {np.expm1(-path):.0%} for each path through the specimen more; a specimen darkens "
            f"with tilt.",
            consequence=_USUAL
            + " Exposures were most likely lengthened with tilt, and the longer ones brought more dose than is noted.",
            series=case.name,
            sigmas=-path / path_sigma,
        )
    else:
        text = (
            f"Counts are steady in the order of acquisition ({np.expm1(late):+.1%} from first to last, +- {sigma:.1%})."
        )
        yield Passed(check="dose-counts", series=case.name, text=text)


def _trend(
    values: FloatArray, tilts: FloatArray, order: FloatArray
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Thickness over mean free path, and the change of the logarithm from first to last image, each with its error."""
    if not (values > 0).all():
        return None
    path = 1.0 / np.cos(np.deg2rad(np.clip(tilts, -75.0, 75.0)))
    late = (order - order.min()) / max(float(np.ptp(order)), 1.0) - 0.5
    design = np.column_stack([np.ones(len(values)), -path, late])
    log, weight = np.log(values), np.ones(len(values))
    for _ in range(10):
        unknowns = np.linalg.lstsq(design * weight[:, None], log * weight, rcond=None)[0]
        residual = log - design @ unknowns
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        weight = 1.0 / (1.0 + (residual / (3 * scale)) ** 2)
    normal = (design * (weight**2)[:, None]).T @ design
    freedom = max(float((weight**2).sum()) - 3.0, 1.0)
    variance = float(((weight * residual) ** 2).sum()) / freedom
    sigma = np.sqrt(np.diag(np.linalg.pinv(normal)) * max(variance, 1e-8))
    alike = [float(a * b) for a, b in itertools.pairwise(residual * weight)]
    grow = 2.0 if sum(alike) > 0.3 * float(((residual * weight) ** 2).sum()) else 1.0
    return (float(unknowns[1]), float(grow * sigma[1])), (float(unknowns[2]), float(grow * sigma[2]))
