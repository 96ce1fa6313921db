"""Pixel size and binning: files against each other, and against the rings of tilted images."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from eucentric.errors import EucentricError
from eucentric.io.movies import TIFF_ENDINGS, has_ending, movie_header
from eucentric.io.mrc import read_mrc_header
from eucentric.io.tiff import read_tiff_layout
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.doctor.cases import SeriesCase
from eucentric.pipeline.doctor.findings import (
    Fault,
    NotChecked,
    Passed,
    Remedy,
    Result,
    listed,
)
from eucentric.pipeline.doctor.measure import Measured

_CALIBRATED = 0.06
"""A calibrated pixel size differs from a microscope's own by up to some percent."""
_SAME = 0.002
_POWERS = (0.125, 0.25, 0.5, 2.0, 4.0, 8.0)
_UNSET = (0.0, 1.0)
"""What headers hold that nobody filled."""
_LEAST_CHANGE = 0.05
_SUSPECT = 2.5
_CLEAR = 3.0
_FOCUS_ERROR = 0.05
"""Of the factor that a defocus tells, one standard deviation: focusing errs by some 0.3 um of 3."""
_LEAST_TARGET = 12000.0
"""A; nearer to focus the error is larger."""
_MODEL_ERROR = 0.02


def check_pixel_size(case: SeriesCase, measured: Measured | None) -> Iterator[Result]:
    """Pixel sizes that files give, and sizes of images that must fit them."""
    yield from _sections(case)
    series = case.series
    if series is None:
        return
    used = series.original_pixel_size_angstrom or series.pixel_size_angstrom
    named = [*_mdoc_size(case, series), *_header_size(case, series)]
    wrong = [found for found in (_compare(case, used, value, name) for name, value in named) if found is not None]
    yield from wrong
    if named and not wrong:
        told = "; ".join(f"{name} {value:.4g} A" for name, value in named)
        yield Passed(check="pixel-size", series=case.name, text=f"{used:.4g} A is used; {told}.")
    yield from _stages(case, series)
    yield from _gain(case, series)
    scale = measured.rings.likely_pixel_scale if measured is not None and measured.rings is not None else 1.0
    if scale != 1.0:
        yield Fault(
            check="pixel-size",
            severity="error",
            confidence="likely",
            title=f"The pixel size looks {1 / scale:g} times too large."
            if scale < 1
            else f"The pixel size looks {scale:g} times too small.",
            compared=f"The rings of tilted images, and how they change across them, fit {used * scale:.4g} A clearly better than the "
            f"{used:.4g} A that is used: as where super-resolution or binning was forgotten.",
            consequence="Every length, defocus and resolution is wrong by the factor, and no reference fits.",
            remedies=(Remedy(command=case.importing.having(pixel_size=used * scale).then_run()),),
            series=case.name,
        )


def _sections(case: SeriesCase) -> Iterator[Result]:
    if case.mdoc is None:
        return
    values = sorted({round(s.pixel_spacing_angstrom, 4) for s in case.mdoc.sections if s.pixel_spacing_angstrom})
    top = case.mdoc.pixel_spacing_angstrom
    if top and values and abs(top / values[-1] - 1) > 0.01:
        values = sorted({*values, round(top, 4)})
    if len(values) > 1 and values[-1] > 1.01 * values[0]:
        remedies: tuple[Remedy, ...] = ()
        if case.series is not None:
            made = case.importing.having(pixel_size=case.series.pixel_size_angstrom).then_run()
            remedies = (Remedy(when="with the pixel size that is right", command=made),)
        yield Fault(
            check="pixel-size",
            severity="warning",
            confidence="certain",
            title="The mdoc gives several pixel sizes.",
            compared=f"Its head and sections say {listed([f'{v:g}' for v in values])} A.",
            consequence="One of them is used for all images. Images of another magnification do not align.",
            remedies=remedies,
            series=case.name,
        )


def _mdoc_size(case: SeriesCase, series: TiltSeries) -> list[tuple[str, float]]:
    """Of the movies by the mdoc: its images may be binned against them."""
    mdoc = case.mdoc
    if mdoc is None:
        return []
    values = [s.pixel_spacing_angstrom for s in mdoc.sections if s.pixel_spacing_angstrom]
    size = values[0] if values else mdoc.pixel_spacing_angstrom
    if not size:
        return []
    ratio, words = 1.0, ""
    if mdoc.image_size is not None and series.original_pixel_size_angstrom is None:
        ratio = max(series.image_shape) / max(mdoc.image_size)
        if ratio != 1.0 and not (float(max(ratio, 1 / ratio)).is_integer()):
            ratio = 1.0
        words = f", for frames {ratio:g} times the size of its images" if ratio != 1.0 else ""
    return [(f"the mdoc says{words}", size / ratio)]


def _header_size(case: SeriesCase, series: TiltSeries) -> list[tuple[str, float]]:
    """By the header of the first movie or stack."""
    first = next((t.movie or (t.image or "").rpartition("@")[2] for t in series.tilts), None)
    if not first or has_ending(first, TIFF_ENDINGS):
        return []
    try:
        value = movie_header(case.root / first).pixel_size_angstrom
    except (EucentricError, OSError):
        return []
    return [] if value is None or value in _UNSET else [(f"the header of `{Path(first).name}` says", value)]


def _compare(case: SeriesCase, used: float, value: float, name: str) -> Fault | None:
    ratio = used / value
    if abs(ratio - 1.0) <= _CALIBRATED:
        return None
    binned = any(abs(ratio / power - 1.0) <= _CALIBRATED for power in _POWERS)
    return Fault(
        check="pixel-size",
        severity="error" if binned else "warning",
        confidence="likely" if binned else "possible",
        title="The pixel size that is used is not that of the files.",
        compared=f"{used:.4g} A is used; {name} {value:.4g} A: {ratio:.3g} times as much"
        + (
            ", as a binning or super-resolution that was counted on one side only."
            if binned
            else ", more than a calibration changes."
        ),
        consequence="A wrong pixel size makes every length, defocus, thickness and resolution wrong by the same factor (the "
        "defocus by its "
        "square), and templates and maps of other data do not fit.",
        remedies=(
            Remedy(when="if the files are right", command=case.importing.having(pixel_size=round(value, 5)).then_run()),
        ),
        series=case.name,
    )


def _stages(case: SeriesCase, imported: TiltSeries) -> Iterator[Result]:
    """Images and tomograms on disk against the tables that name them."""
    original = imported.original_pixel_size_angstrom or imported.pixel_size_angstrom
    compared = 0
    for stage, series in case.stages.items():
        field = imported.image_shape[0] * original
        own = series.image_shape[0] * series.pixel_size_angstrom
        limit = 8 * series.pixel_size_angstrom
        image = next((t.image for t in series.tilts if t.image), None)
        if stage != "import" and abs(own - field) > limit:
            yield _inconsistent(
                case,
                stage,
                f"The table of `{stage}` has images of {series.image_shape[0]} px at {series.pixel_size_angstrom:.4g} A, {own:.0f} A "
                f"high; the frames are {field:.0f} A high.",
            )
        for what, name, size in (
            ("image", image, series.pixel_size_angstrom),
            ("tomogram", series.tomogram.path if series.tomogram else None, _voxel(series)),
        ):
            if name is None:
                continue
            number, at, rest = name.partition("@")
            header = _mrc_size(case.root / (rest if at and number.isdigit() else name))
            if header is None:
                continue
            compared += 1
            if abs(header / size - 1.0) > _SAME:
                yield _inconsistent(
                    case,
                    stage,
                    f"The header of its {what} `{Path(name).name}` says {header:.4g} A; the table of `{stage}` says {size:.4g} A.",
                )
    if compared:
        text = f"{compared} headers of images and tomograms have the pixel sizes of their tables."
        yield Passed(check="binning", series=case.name, text=text)


def _voxel(series: TiltSeries) -> float:
    return series.tomogram.voxel_size_angstrom if series.tomogram is not None else math.nan


def _inconsistent(case: SeriesCase, stage: str, words: str) -> Fault:
    return Fault(
        check="binning",
        severity="error",
        confidence="certain",
        title=f"Pixel sizes of the results of `{stage}` do not fit each other.",
        compared=words,
        consequence="Shifts, coordinates and volumes are read at the wrong scale: picks and maps will not fit. A file was "
        "changed after "
        "it was written, or is of another run.",
        remedies=(Remedy(command=f"eucentric {stage} {case.shown} --only {case.name} --overwrite"),),
        series=case.name,
    )


def _mrc_size(path: Path) -> float | None:
    try:
        return read_mrc_header(path).pixel_size_angstrom
    except (EucentricError, OSError):
        return None


def _gain(case: SeriesCase, series: TiltSeries) -> Iterator[Result]:
    gain = case.settings.gain
    if gain is None or not any(t.movie for t in series.tilts):
        return
    path = case.root / gain
    try:
        tiff = has_ending(path, (*TIFF_ENDINGS, ".gain"))
        shape = read_tiff_layout(path).shape if tiff else read_mrc_header(path).shape[-2:]
    except (EucentricError, OSError):
        yield NotChecked(check="gain", series=case.name, text=f"The gain reference `{path}` cannot be read.")
        return
    frames = series.image_shape
    ratios = {max(shape) / max(frames), min(shape) / min(frames)}
    if len(ratios) == 1 and (ratio := ratios.pop()) in (0.25, 0.5, 1.0, 2.0, 4.0):
        words = (
            "of the size of the frames" if ratio == 1 else f"{ratio:g} times the size of the frames, and brought to it"
        )
        yield Passed(check="gain", series=case.name, text=f"The gain reference is {words}.")
        return
    yield Fault(
        check="gain",
        severity="error",
        confidence="certain",
        title="The gain reference is not of this camera mode.",
        compared=f"It is {shape[1]} x {shape[0]} pixels, the frames are {frames[1]} x {frames[0]}; no turn or binning by 2 or 4 makes "
        "them fit.",
        consequence="Motion correction stops, or would leave the pattern of the camera in every frame.",
        series=case.name,
    )


def check_gradients(cases: Sequence[SeriesCase], measured: Sequence[Measured | None]) -> Iterator[Result]:
    """The gradient of the defocus across tilted images: of all series of one pixel size together."""
    groups: defaultdict[float, list[tuple[SeriesCase, Measured]]] = defaultdict(list)
    for case, found in zip(cases, measured, strict=True):
        if found is not None and found.rings is not None and math.isfinite(found.rings.gradient.factor) and case.series:
            groups[round(case.series.pixel_size_angstrom, 3)].append((case, found))
    for pixel, members in groups.items():
        yield _gradient(pixel, members)


def _gradient(pixel: float, members: list[tuple[SeriesCase, Measured]]) -> Result:
    gradients = [found.rings.gradient for _, found in members if found.rings is not None]
    weights = [1.0 / g.sigma**2 for g in gradients]
    factor = sum(w * g.factor for w, g in zip(weights, gradients, strict=True)) / sum(weights)
    sigma = max(sum(weights) ** -0.5, _MODEL_ERROR)
    focus = [f for case, found in members if (f := _focus_factor(case, found)) is not None]
    by_focus = sum(focus) / len(focus) if focus else math.nan
    # what both say together, should the microscope have focused as it was told
    pull = sigma**2 / (sigma**2 + _FOCUS_ERROR**2)
    joined = factor + pull * (by_focus - factor) if focus else factor
    joined_sigmas = abs(joined - 1.0) / (sigma * math.sqrt(1.0 - pull))
    agree = (
        bool(focus)
        and (by_focus - 1.0) * (factor - 1.0) > 0
        and min(abs(by_focus - 1.0), abs(joined - 1.0)) > _LEAST_CHANGE
    )
    sigmas = abs(factor - 1.0) / sigma
    alone = sigmas >= _CLEAR and abs(factor - 1.0) > _LEAST_CHANGE
    names = listed([case.name for case, _ in members], 3)
    told = (
        f"Across the tilted images of {names} the defocus changes {factor:.3f} +- {sigma:.3f} times as much as the angles lead to "
        "expect"
    )
    if not alone and not (agree and sigmas >= 1.0 and joined_sigmas >= _SUSPECT):
        return Passed(check="pixel-size", text=f"{told}: {pixel:.4g} A holds within {200 * sigma:.0f}%.")
    if agree:
        factor, sigma, sigmas = joined, sigma * math.sqrt(1.0 - pull), joined_sigmas
    also = (
        f" The defocus itself is {by_focus**2:.2f} times what was asked of the microscope, as a pixel size {by_focus:.2f} "
        f"times too large "
        "would make it."
        if agree
        else ""
    )
    best = pixel / factor
    case = members[0][0]
    return Fault(
        check="pixel-size",
        severity="warning",
        confidence="likely" if alone else "possible",
        title=f"The pixel size (or the voltage) seems {abs(factor - 1):.0%} too {'large' if factor > 1 else 'small'}.",
        compared=f"{told}: with the voltage as given this speaks for {best:.3g} +- {best * sigma / factor:.2g} A, not "
        f"{pixel:.4g}.{also}",
        consequence="All lengths and resolutions are wrong by that factor, the defocus by its square; maps do not fit atomic "
        "models. The "
        "measurement is coarse: calibrate the pixel size before the value is changed.",
        remedies=(
            Remedy(
                when="with the calibrated value",
                command=case.importing.having(pixel_size=float(f"{best:.3g}")).then_run(),
            ),
        ),
        series=case.name if len(members) == 1 else None,
        sigmas=sigmas,
    )


def _focus_factor(case: SeriesCase, found: Measured) -> float | None:
    """By what the pixel size would be too large, should the microscope have focused as it was told; None where unsure."""
    assert case.series is not None
    assert found.rings is not None
    targets = [t.nominal_defocus_angstrom for t in case.series.tilts if t.nominal_defocus_angstrom]
    if not targets:
        return None
    target = sorted(targets)[len(targets) // 2]
    if target < _LEAST_TARGET:
        return None
    return math.sqrt(max(found.rings.defocus_angstrom, 1.0) / target)
