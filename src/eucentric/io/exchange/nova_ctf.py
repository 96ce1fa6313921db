"""What novaCTF reads, both ways: NAME.xf, NAME.tlt, a defocus file and its setup files.

From novaCTF's sources [1]_:

- It takes no views out (`parameterSetup.cpp`: EXCLUDELIST is ignored), so every file has the used views alone, and the stack must
  too: newst.com reads just those. Lines of the defocus file are taken in order, whatever number they bear.
- TILTFILE, THICKNESS, FULLIMAGE, OFFSET and SHIFT are as in IMOD's tilt.com; PixelSize is in nm. A tilt about x is set to 0.
- DefocusFileFormat is ctffind4, imod or gctf (`defocusFileFormats.cpp`). The defocus D is that at the height of the tilt axis: the
  centre of the volume has D - SHIFT z at any tilt, and other depths are added to that (`calculateGridCenters`).
- Its volume's z runs against ours (``x cos - z sin`` in `Geometry::rotate`), and higher parts get more defocus (`defocus.cpp`, where
  file 0 has the most, and `generateFocusGrid`): a point has ``D - z_camera``, so hand -1 and no other.

References
----------
.. [1] https://github.com/turonova/novaCTF, src and setup_examples
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.atomic import write_text_atomic
from eucentric.io.ctf_estimates import ExternalCtf, read_ctf_star, read_ctffind_table, read_imod_defocus
from eucentric.io.ctf_writers import write_ctffind_table
from eucentric.io.exchange.from_views import series_of_views
from eucentric.io.exchange.imod_writer import aligned_size, stack_name, thickness_of
from eucentric.io.exchange.loss_sizes import dose_loss, hand_loss, warp_loss
from eucentric.io.exchange.records import GeometryFormat, GeometryWords, Given, SeriesGeometry, Written, targets
from eucentric.io.exchange.whole_stack import moved_fit, need_poses, whole_stack, x_tilt_and_magnification_losses
from eucentric.io.external_alignments import from_imod, is_turned
from eucentric.io.imod import TiltCommand, read_angles, read_transforms, write_angles, write_transforms
from eucentric.io.imod_export import imod_transforms
from eucentric.io.mrc import read_mrc_header
from eucentric.models.optics import Optics

_NM = 10.0
_STEP_NM = 15.0
_ALGORITHMS = ("defocus", "ctfCorrection", "filterProjections", "3dctf")
_KNOWN = ("algorithm", "tiltfile", "defocusfile")


def _setup(path: Path) -> dict[str, str]:
    """Entries of a setup file, names in lower case."""
    found: dict[str, str] = {}
    for raw in path.read_text(encoding="latin-1").splitlines():
        name, value = [*raw.strip().split(None, 1), "", ""][:2]
        if name and not name.startswith(("#", "$")):
            found.setdefault(name.lower(), value.strip())
    return found


def _numbers(entries: dict[str, str], name: str, count: int, path: Path) -> list[float] | None:
    words = entries.get(name, "").replace(",", " ").split()
    if not words:
        return None
    try:
        values = [float(word) for word in words[:count]]
    except ValueError:
        values = []
    if len(values) < count and name != "offset":
        values = []
    if not values or not all(abs(v) < 1e7 for v in values):
        raise FormatError(f"`{path}` has `{entries[name][:60]}` for {name}; expected {count} numbers.")
    return values + [0.0] * (count - len(values))


def _setups(place: Path) -> list[Path]:
    """One setup file for each series of a folder, that of the defocus first; or the file itself."""
    if not place.is_dir():
        return [place] if place.suffix.lower() == ".com" and "algorithm" in _setup(place) else []
    found: dict[str, tuple[int, Path]] = {}
    for file in sorted(place.glob("*.com")):
        entries = _setup(file)
        if not all(name in entries for name in _KNOWN):
            continue
        rank = _ALGORITHMS.index(entries["algorithm"]) if entries["algorithm"] in _ALGORITHMS else len(_ALGORITHMS)
        key = entries["tiltfile"]
        if key not in found or rank < found[key][0]:
            found[key] = (rank, file)
    own = [file for _, file in found.values()]
    if own:
        return own
    return [setup for folder in sorted(p for p in place.iterdir() if p.is_dir()) for setup in _setups(folder)]


def recognises(place: Path) -> bool:
    """Whether a file is a setup file of novaCTF, or a folder holds one."""
    try:
        return bool(_setups(Path(place)))
    except OSError:
        return False


def _read_ctf(file: Path, kind: str) -> ExternalCtf:
    match kind:
        case "imod" | "":
            found = read_imod_defocus(file)
        case "ctffind4":
            found = read_ctffind_table(file)
        case "gctf":
            found = read_ctf_star(file)
        case _:
            raise FormatError(f"`{kind}` is no DefocusFileFormat of novaCTF; expected ctffind4, imod or gctf.")
    # lines are taken in their order
    rows = tuple(replace(e, section=i, listed_deg=None, names=()) for i, e in enumerate(found.estimates))
    return replace(found, estimates=rows, place="specimen")


def _optics(entries: dict[str, str], path: Path) -> Optics | None:
    volts, cs, amplitude = (_numbers(entries, n, 1, path) for n in ("volt", "cs", "amplitudecontrast"))
    if volts is None or cs is None:
        return None
    return Optics(
        voltage_kv=volts[0],
        spherical_aberration_mm=cs[0],
        amplitude_contrast=0.07 if amplitude is None else amplitude[0],
    )


def _read_one(setup: Path, given: Given) -> SeriesGeometry:
    entries = _setup(setup)
    correction = setup.with_name(setup.name.replace("defocus", "ctfCorrection"))
    if correction.is_file():
        entries = {**_setup(correction), **entries}
    if not entries.get("tiltfile"):
        raise FormatError(f"`{setup}` names no TILTFILE; expected a setup file of novaCTF.")
    angles_file = setup.with_name(Path(entries["tiltfile"]).name)
    stem = angles_file.with_suffix("")
    xf = stem.with_name(stem.name + ".xf")
    if not xf.is_file():
        raise InputError(
            f"`{xf.name}` was not found beside `{setup}`. Copy the transforms there that the stacks are aligned with."
        )
    offset = _numbers(entries, "offset", 2, setup) or [0.0, 0.0]
    shift = _numbers(entries, "shift", 2, setup) or [0.0, 0.0]
    full = _numbers(entries, "fullimage", 2, setup)
    thickness = _numbers(entries, "thickness", 1, setup)
    if full is not None and min(full) < 1:
        raise FormatError(f"`{setup}` has `{entries['fullimage'][:60]}` for FULLIMAGE; expected a width and a height.")
    matrices, shifts = read_transforms(xf)
    raw = stem.with_name(stem.name + ".rawtlt")
    external = from_imod(
        matrices,
        shifts,
        read_angles(angles_file),
        source=f"novaCTF ({setup.name})",
        listed_deg=read_angles(raw) if raw.is_file() else None,
        command=TiltCommand(angle_offset_deg=offset[0], shift_x_px=shift[0], shift_z_px=shift[1]),
    )
    size, notes = None, []
    stack = setup.with_name(Path(entries.get("inputprojections", "")).name or "none")
    pixel = _numbers(entries, "pixelsize", 1, setup)
    if stack.is_file():
        header = read_mrc_header(stack)
        size = (header.shape[2], header.shape[1])
    elif full is not None and external.views:
        size = (int(full[0]), int(full[1]))
        if is_turned(float(np.median([v.z_rot_deg for v in external.views]))):
            size = size[::-1]
        notes.append(f"The size of the images, {size[0]} x {size[1]} pixels, is that of FULLIMAGE in {setup.name}.")
    found_pixel = given.pixel_size_angstrom or (None if pixel is None else pixel[0] * _NM)
    ctf = None
    if entries.get("defocusfile"):
        file = setup.with_name(Path(entries["defocusfile"]).name)
        file = file if file.is_file() else file.with_name(file.name.rpartition("_")[0] or file.name)
        if file.is_file():
            ctf = _read_ctf(file, entries.get("defocusfileformat", ""))
    found = series_of_views(
        replace(external, image_size=size, pixel_size_angstrom=found_pixel),
        replace(given, optics=given.optics or _optics(entries, setup)),
        setup,
        name=stem.name,
        ctf=ctf,
        hand=-1.0 if ctf is not None else None,
    )
    series = found.series
    if shift[1] and ctf is not None:
        lowered = shift[1] * series.pixel_size_angstrom
        series = series.with_tilts([replace(t, ctf=moved_fit(t.ctf, -lowered)) for t in series.tilts])
    if full is not None and thickness is not None and given.volume_size_px is None:
        series = series.replace(volume_size_px=(int(full[0]), int(full[1]), int(thickness[0])))
    return replace(found, series=series, notes=tuple(dict.fromkeys((*notes, *found.notes))))


def read(place: Path, given: Given) -> tuple[SeriesGeometry, ...]:
    """A setup file with the files that it names, or those of a folder.

    Raises
    ------
    InputError : no setup file, or no transforms beside it
    FormatError : a damaged file
    """
    place = Path(place)
    if not place.exists():
        raise InputError(f"`{place}` does not exist. Give a setup file of novaCTF, or its folder.")
    setups = _setups(place)
    if not setups:
        raise InputError(
            f"`{place}` holds no setup file of novaCTF: expected one with Algorithm, TILTFILE and DefocusFile."
        )
    if len(setups) > 1:
        given = replace(given, name=None)
    return tuple(_read_one(setup, given) for setup in setups)


def _setup_texts(geometry: SeriesGeometry, stem: Path, stack: str) -> dict[str, str]:
    series, name = geometry.series, stem.name
    (x, y), _ = aligned_size(series, need_poses(series, "novaCTF"))
    shared = f"TILTFILE {name}.tlt\nPixelSize {series.pixel_size_angstrom / _NM:.6f}\n"
    volume = f"FULLIMAGE {x} {y}\nTHICKNESS {thickness_of(series)}\nSHIFT 0.0 0.0\n"
    ctf = "CorrectionType phaseflip\nDefocusFileFormat ctffind4\nCorrectAstigmatism 1\n"
    texts = {
        f"setup_defocus_{name}.com": f"Algorithm defocus\nInputProjections {stack}\n{volume}{shared}{ctf}"
        f"DefocusFile {name}_ctffind4.txt\nDefocusStep {_STEP_NM:g}\n",
        f"setup_reconstruction_{name}.com": f"Algorithm 3dctf\nInputProjections {name}_filtered.ali\nOutputFile {name}.rec\n{volume}"
        f"{shared}Use3DCTF 1\nNumberOfInputStacks 1\n",
    }
    if series.optics is not None:
        optics = series.optics
        texts[f"setup_ctfCorrection_{name}.com"] = (
            f"Algorithm ctfCorrection\nInputProjections {stack}\nDefocusFile {name}_ctffind4.txt_0\nOutputFile {name}_corrected.st_0\n"
            f"{shared}{ctf}AmplitudeContrast {optics.amplitude_contrast:g}\nCs {optics.spherical_aberration_mm:g}\n"
            f"Volt {optics.voltage_kv:g}\n"
        )
    return texts


def _losses(geometry: SeriesGeometry) -> list[str]:
    series, losses = geometry.series, x_tilt_and_magnification_losses(geometry, magnification=False)
    if series.excluded:
        gone = ", ".join(f"{e.tilt.nominal_tilt_deg:g}" for e in series.excluded[:6])
        losses.append(
            f"{series.name}: novaCTF leaves no views out; the files have {len(series.tilts)} used views, and the stack must lack "
            f"those at {gone} degrees (select_views_{series.name}.com takes the others)."
        )
    return [*losses, *warp_loss(geometry), *hand_loss(geometry, "novaCTF"), *dose_loss(geometry, "files of novaCTF")]


def _write_one(stem: Path, geometry: SeriesGeometry) -> tuple[list[Path], list[str]]:
    series = geometry.series
    poses = need_poses(series, "novaCTF")
    fits = [t.ctf for t in series.tilts if t.ctf is not None]
    losses = _losses(geometry)
    stack = whole_stack(series)
    name, words = stack_name(series, stack)
    matrices, shifts = imod_transforms(
        TiltGeometry.from_poses(poses), series.pixel_size_angstrom, series.image_shape, None
    )
    files = [stem.with_name(stem.name + e) for e in (".xf", ".tlt", ".rawtlt")]
    write_transforms(files[0], matrices, shifts)
    write_angles(files[1], np.array([p.y_tilt_deg for p in poses]), decimals=4)
    write_angles(files[2], series.nominal_tilts_deg)
    if fits and len(fits) < len(series.tilts):
        losses.append(
            f"{series.name}: {len(series.tilts) - len(fits)} tilts have no CTF, and the defocus file was not written."
        )
    elif fits and series.optics is not None:
        files.append(stem.with_name(f"{stem.name}_ctffind4.txt"))
        write_ctffind_table(
            files[-1],
            list(enumerate(fits, 1)),
            source=name,
            pixel_size_angstrom=series.pixel_size_angstrom,
            optics=series.optics,
        )
    used = ",".join(str(row) for row, view in enumerate(stack) if view.used is not None)
    x, y = aligned_size(series, poses)[0]
    texts = _setup_texts(geometry, stem, f"{stem.name}_used.st" if series.excluded else name)
    if series.excluded:
        texts[f"select_views_{stem.name}.com"] = (
            f"$newstack -StandardInput\nInputFile\t{name}\nSectionsToRead\t{used}\nOutputFile\t{stem.name}_used.st\n"
        )
    texts[f"newst_{stem.name}.com"] = (
        f"$newstack -StandardInput\nAntialiasFilter\t-1\nInputFile\t{stem.name}_corrected.st_0\nOutputFile\t{stem.name}_ali.mrc_0\n"
        f"TransformFile\t{stem.name}.xf\nSizeToOutputInXandY\t{x},{y}\nTaperAtFill\t1,1\nAdjustOrigin\n"
    )
    for file, text in texts.items():
        files.append(stem.with_name(file))
        write_text_atomic(files[-1], text)
    return files, [*losses, *words]


def write(place: Path, geometries: Sequence[SeriesGeometry]) -> Written:
    """Transforms, angles, defocus and setup files for each series, in a folder.

    Raises
    ------
    InputError : a series without alignment
    """
    files: list[Path] = []
    losses: list[str] = []
    for stem, geometry in targets(place, geometries, (".xf",)):
        written, words = _write_one(stem, geometry)
        files += written
        losses += words
    return Written(files=tuple(files), losses=tuple(losses))


FORMAT = GeometryFormat(
    name="novactf",
    title="novaCTF",
    words=GeometryWords(
        origin="as IMOD: transforms and tilt axis about the middle of the images, (n - 1) / 2 counted from 0",
        unit="pixels of the stack, PixelSize in nm; defocus in A (ctffind4) or nm (imod), of the centre of the volume",
        hand="-1 alone",
        angles=".tlt is the tilt; the axis and the magnification are in .xf; no tilt about x, no excluded views",
    ),
    recognises=recognises,
    read=read,
    write=write,
)
