"""`eucentric convert`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from eucentric.cli.list_options import GridOptions, grids_of
from eucentric.cli.options import AsJson, Debug, Switch, show_json


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConvertCommandOptions(GridOptions):
    """What files do not tell, and how to run."""

    from_format: Annotated[str | None, Parameter(name="--from")] = None
    """format of the source, by the same names; found from it where not given"""
    pixel_size: float | None = None
    """A, of images or voxels whose files do not tell; of tomograms that a list refers to together with --tomogram-size"""
    image_size: Annotated[tuple[int, int] | None, Parameter(negative=())] = None
    """width and height in pixels, of tilt series whose files do not tell"""
    name: str | None = None
    """of the tilt series"""
    voltage: float | None = None
    """kV, of tilt series whose files do not tell; with --spherical-aberration and --amplitude-contrast"""
    spherical_aberration: float = 2.7
    """mm"""
    amplitude_contrast: float = 0.07
    """fraction"""
    dose: float | None = None
    """e/A2 for each tilt, where the files do not tell"""
    as_json: AsJson = False
    debug: Debug = False


_DEFAULT = ConvertCommandOptions()


def convert(
    source: Path,
    target: Path,
    /,
    *,
    to: str | None = None,
    what: Literal["series", "particles", "volume"] | None = None,
    dtype: Literal["float32", "float16", "int8"] | None = None,
    check: Switch = False,
    overwrite: Switch = False,
    options: ConvertCommandOptions = _DEFAULT,
) -> int:
    """Write tilt series (alignment and CTF), particles or a volume in another program's format, and say what both mean.

    Exit code 1 where --check finds that what was written does not read back the same.

    Parameters
    ----------
    source
        file, or folder of a program
    target
        file or folder to be made; its ending tells the format where --to does not
    to
        format of the target. Tilt series: relion5, relion4, warp, imod, aretomo, eman2, dynamo, stopgap, emclarity, novactf,
        data-portal, nextpyp, scipion, xmipp, protomo, leginon, ctffind, gctf, ctfplotter. Particles: relion5, relion4, relion31,
        relion3, optimisation-set, warp, warp-normalized, pytom, pytom-xml, dynamo, stopgap, em, imod, copick, peet, eman2, xmipp,
        scipion, emclarity, portal, plain. Volumes: by their ending
    what
        what the source holds, where that is not clear
    dtype
        numbers of a volume: float32, float16 or int8
    check
        read back what was written, compare, and draw both beside it
    overwrite
        replace a file that exists
    """
    from eucentric.io.exchange.records import Given
    from eucentric.models.optics import Optics
    from eucentric.pipeline.convert import ConvertOptions
    from eucentric.pipeline.convert import convert as convert_file

    size = options.image_size
    optics = None
    if options.voltage is not None:
        optics = Optics(
            voltage_kv=options.voltage,
            spherical_aberration_mm=options.spherical_aberration,
            amplitude_contrast=options.amplitude_contrast,
        )
    made = convert_file(
        source,
        target,
        ConvertOptions(
            kind=what,
            from_format=options.from_format,
            to_format=to,
            given=Given(
                name=options.name,
                pixel_size_angstrom=options.pixel_size,
                image_shape=None if size is None else (size[1], size[0]),
                optics=optics,
                dose_per_tilt=options.dose,
            ),
            grids=grids_of(options),
            dtype=dtype,
            check=check,
            overwrite=overwrite,
        ),
    )
    for word, side in (("From", made.before), ("To", made.after)):
        words = side.words
        sys.stdout.write(f"{word} {side.title}: `{side.path}`\n")
        for label, text in (
            ("origin", words.origin),
            ("unit", words.unit),
            ("hand", words.hand),
            ("angles", words.angles),
        ):
            sys.stdout.write(f"  {label}: {text}\n")
    for kind, lines in (("note", made.notes), ("loss", made.losses), ("check", made.check.lines)):
        sys.stdout.write("".join(f"{kind}: {line}\n" for line in lines))
    shown = ", ".join(str(f) for f in made.files[:4]) + " and others" * (len(made.files) > 4)
    sys.stdout.write(f"Wrote {made.what} to {shown}.\n")
    if made.check.pictures:
        sys.stdout.write(f"Look at {', '.join(map(str, made.check.pictures[:3]))}.\n")
    code = int(made.check.failed)
    if options.as_json:
        show_json(
            {
                "exit_code": code,
                "kind": made.kind,
                "files": [str(f) for f in made.files],
                "notes": list(made.notes),
                "losses": list(made.losses),
                "checks": list(made.check.lines),
                "pictures": [str(p) for p in made.check.pictures],
            }
        )
    return code
