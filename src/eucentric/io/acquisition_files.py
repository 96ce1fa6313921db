"""Files that tell a microscope program what to record: lists of angles, SerialEM and PACEtomo settings, an mdoc template.

SerialEM's dialogs read no file, so what belongs into them is written as text; its scripts are in the language that its
help describes ("About Scripts", "Script Commands"). PACEtomo takes lines ``_set name = number`` in its targets file.
"""

from collections.abc import Sequence

import numpy as np

from eucentric.errors import InputError
from eucentric.io.atomic import write_text_atomic
from eucentric.io.mdoc import Mdoc, MdocSection
from eucentric.models.acquisition_plan import PlannedMicroscope
from eucentric.models.tilt_scheme import TiltScheme
from eucentric.typing import FloatArray, PathLike

_PER_LINE = 10  # values in a line of a script; SerialEM reads some 55 words a line
_AXIS_TITLE = "Tilt axis angle"


def write_angle_list(path: PathLike, angles_deg: FloatArray) -> None:
    """One angle a line, in degrees, in the order given.

    Raises
    ------
    InputError, BackendError : as `eucentric.io.atomic.atomic_path`
    """
    write_text_atomic(path, "".join(f"{angle:.2f}\n" for angle in angles_deg))


def serialem_dialog(scheme: TiltScheme, *, exposure_s: float) -> str | None:
    """What to enter into SerialEM's Tilt Series Setup and Dose Symmetric dialogs; None where they cannot hold the scheme.

    Parameters
    ----------
    scheme : of the series
    exposure_s : of an image that is not the first
    """
    if scheme.start_dose is not None or (scheme.order == "dose-symmetric" and scheme.start_in_first_group):
        return None
    angles = scheme.angles_in_order()
    first, second = float(angles.max()), float(angles.min())
    if scheme.first_side == "negative":
        first, second = second, first
    lines = ["Tilt Series Setup"]
    if scheme.order == "continuous":
        lines += [f"  Start at: {angles[0]:g}", f"  End at: {angles[-1]:g}", f"  Base increment: {scheme.step_deg:g}"]
    else:
        symmetric = scheme.order == "dose-symmetric"
        lines += [
            f"  Tilt to: {first:g}",
            f"  End at: {second:g}",
            f"  Base increment: {scheme.step_deg:g}",
            f"  Run series in two directions from: on, {scheme.start_deg:g}",
            f"  Use dose-symmetric scheme: {'on, and set up as below' if symmetric else 'off'}",
        ]
    lines += ["  Increment proportional to cosine of angle: off"]
    if scheme.dose_split == "inverse-cosine":
        lines += ["  Beam Intensity Control: vary with 1/cos of the tilt angle, by exposure time"]
    lines += [f"  Record exposure at {angles[0]:g} degrees: {exposure_s:.2f} s"]
    if scheme.order == "dose-symmetric":
        grows, stops = scheme.group_growth > 0, scheme.one_sided_beyond_deg is not None
        again = scheme.group_growth_every_deg or 180.0  # beyond the range: once
        lines += ["", "Dose Symmetric Tilt Series Parameters", f"  Initial group size: {scheme.group_size}"]
        lines += [
            f"  Increase group size beyond: {f'on, {scheme.group_growth_beyond_deg:g}' if grows else 'off'}",
            *([f"  Increase group size by {scheme.group_growth} every {again:g} degrees"] if grows else []),
            f"  Stop alternating directions beyond: {f'on, {scheme.one_sided_beyond_deg:g}' if stops else 'off'}",
            "  (angles of this dialog count from where the series starts)",
        ]
    return "\n".join(lines) + "\n"


def serialem_script(angles_deg: FloatArray, exposures_s: FloatArray, *, settle_s: float) -> str:
    """A SerialEM script that records a scheme image by image, following the specimen by the images themselves.

    Each image is aligned to the one before it on its side of the first.

    Parameters
    ----------
    angles_deg : (tilt,), in order of acquisition
    exposures_s : (tilt,), s
    settle_s : s to wait after each tilt
    """
    return "\n".join(
        [
            "ScriptName TiltSeries",
            "# Low Dose on, the target in the middle of a Record, an output file open, beam and focus set.",
            "# There is no autofocus and no backlash step where the stage turns: add what your stage needs.",
            "Require arrays",
            *_array("angles", angles_deg, "{:.2f}"),
            *_array("times", exposures_s, "{:.3f}"),
            "Loop $#angles ind",
            "  TiltTo $angles[$ind]",
            f"  Delay {settle_s:g} sec",
            "  SetExposure R $times[$ind]",
            "  Record",
            "  Save",
            "  If $ind == 1",
            "    Copy A M",
            "    Copy A N",
            "  ElseIf $angles[$ind] > $angles[1]",
            "    AlignTo M",
            "    Copy A M",
            "  Else",
            "    AlignTo N",
            "    Copy A N",
            "  EndIf",
            "EndLoop",
            "RestoreCameraSet R",
            "",
        ]
    )


def serialem_single_exposure_script(angles_deg: FloatArray, exposures_s: FloatArray, *, settle_s: float) -> str:
    """A SerialEM script that records a scheme within one exposure of a camera that saves frames.

    The beam is blanked while the stage moves. Give the Record set an exposure of the time that the script names, and save frames.

    Parameters
    ----------
    angles_deg : (tilt,), in order of acquisition
    exposures_s : (tilt,), s of beam at each angle
    settle_s : s between the end of a tilt and the beam
    """
    steps = np.stack([angles_deg, exposures_s, np.full(len(angles_deg), settle_s)], axis=1)
    return "\n".join(
        [
            "ScriptName SingleExposureTiltSeries",
            f"# Record set: dose fractionation, frames saved, {exposures_s.sum():.1f} s of beam and the time of tilting besides.",
            "Require arrays",
            *_array("steps", steps.ravel(), "{:.3f}", per_line=9),
            "# angles, times with beam and delays after tilting: 1 + 2 + 4",
            "FrameSeriesFromVar steps 7",
            "Record",
            "WriteFrameSeriesAngles frame_angles.txt",
            "",
        ]
    )


def pacetomo_settings(scheme: TiltScheme, *, defocus_um: Sequence[float], exposure_s: float, pretilt_deg: float) -> str:
    """Lines for the top of a PACEtomo targets file (`NAME_tgts.txt`), which go before the settings in its script.

    Parameters
    ----------
    scheme : dose-symmetric, groups of one size, even dose but for the first image
    defocus_um : least, greatest and step of the targets' defocus, underfocus negative
    exposure_s : of the first image
    pretilt_deg : of the lamella

    Raises
    ------
    InputError : what PACEtomo cannot do
    """
    odd = [
        what
        for what, here in (
            (f"a {scheme.order} order", scheme.order != "dose-symmetric"),
            ("groups that grow", scheme.group_growth > 0),
            ("first group that the first image belongs to", scheme.start_in_first_group and scheme.group_size > 1),
            ("a part without alternation", scheme.one_sided_beyond_deg is not None),
            ("dose that varies with angle", scheme.dose_split != "even"),
            ("the negative side first", scheme.first_side == "negative"),
            (
                "a start that is no whole number of steps",
                abs(scheme.start_deg / scheme.step_deg - round(scheme.start_deg / scheme.step_deg)) > 1e-6,
            ),
        )
        if here
    ]
    if odd:
        raise InputError(
            f"PACEtomo has no {', no '.join(o.removeprefix('a ') for o in odd)}, so its settings were not written."
        )
    settings = {
        "startTilt": scheme.start_deg,
        "minTilt": scheme.min_deg,
        "maxTilt": scheme.max_deg,
        "step": scheme.step_deg,
        "groupSize": scheme.group_size,
        "minDefocus": defocus_um[0],
        "maxDefocus": defocus_um[1],
        "stepDefocus": defocus_um[2],
        "pretilt": pretilt_deg,
    }
    if scheme.start_dose is not None:
        settings["zeroExpTime"] = exposure_s
    return "".join(f"_set {name} = {value:g}\n" for name, value in settings.items())


def mdoc_template(
    name: str,
    scheme: TiltScheme,
    microscope: PlannedMicroscope,
    *,
    doses: FloatArray,
    pre_exposures: FloatArray,
) -> Mdoc:
    """The mdoc that a series recorded as planned would have, without dates and stage positions.

    Parameters
    ----------
    name : of the series; movies are called ``NAME_003_-6.0.tif``
    doses, pre_exposures : (tilt,), e/A^2, in order of acquisition
    """
    words = {"dose-symmetric": "dosym", "bidirectional": "bidir"}
    axis = microscope.tilt_axis_deg
    title = "    binning = 1" if axis is None else f"    {_AXIS_TITLE} = {axis:.1f}, binning = 1"
    if scheme.order in words:
        title += f" {words[scheme.order]} = {scheme.start_deg:.1f}"
    defocus = microscope.defocus_angstrom
    frames = microscope.frames
    usual = float(np.median(doses))
    sections = [
        MdocSection(
            label=str(number),
            tilt_angle_deg=float(angle),
            exposure_dose=float(dose),
            prior_record_dose=float(before),
            pixel_spacing_angstrom=microscope.pixel_size_angstrom,
            target_defocus_um=None if defocus is None else -1e-4 * defocus,
            rotation_angle_deg=None if axis is None else axis + 90.0,
            sub_frame_path=f"{name}_{number:03d}_{angle:.1f}.tif",
            frame_count=None if frames is None else max(frames, round(frames * float(dose) / usual)),
        )
        for number, (angle, dose, before) in enumerate(zip(scheme.angles_in_order(), doses, pre_exposures, strict=True))
    ]
    return Mdoc(
        sections=tuple(sections),
        titles=("SerialEM: template of a planned tilt series", title),
        voltage_kv=microscope.voltage_kv,
        pixel_spacing_angstrom=microscope.pixel_size_angstrom,
        image_file=f"{name}.mrc",
        image_size=microscope.image_size_px,
    )


def _array(name: str, values: FloatArray, form: str, *, per_line: int = _PER_LINE) -> list[str]:
    """Assignments that build an array; of single lines, for their length is limited."""
    lines = []
    for start in range(0, len(values), per_line):
        before = f"${name} " if start else ""
        lines.append(f"{name} = {{{before}{' '.join(form.format(v) for v in values[start : start + per_line])}}}")
    return lines
