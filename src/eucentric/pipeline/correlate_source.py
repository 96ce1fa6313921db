"""The light-microscope image that is registered, and where its landmarks lie."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eucentric.errors import FormatError, InputError
from eucentric.geometry.affine import Affine
from eucentric.io.fluorescence import LightImage, read_light_image
from eucentric.pipeline.correlate_params import CorrelateParams
from eucentric.pipeline.correlate_target import Target, map_target
from eucentric.typing import FloatArray

FOLDER = "correlate"
RECORD = "registration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelateInputs:
    """What is registered to what."""

    fluorescence: Path | None
    """TIFF; None where `after` names a registration whose image is taken on."""
    landmarks: Path
    series: str | None = None
    """Whose tomogram is the target."""
    map_file: Path | None = None
    """The target, where it is a grid map."""
    map_pixel_size: float | None = None
    after: str | None = None
    """A registration of the same project to a map: the landmarks are between that map and the target."""
    fluorescence_beads: Path | None = None
    target_beads: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """The image that is registered, and where its landmarks lie."""

    image: LightImage
    path: Path
    spacing: FloatArray
    """(3,) A of a pixel along x, y, z."""
    size_xyz: tuple[int, int, int]
    before: Affine | None
    """From A of the image to A of the map that its landmarks are counted in; None where they are in the image itself."""
    counted: Target | None
    """That map."""

    def places(self, points: FloatArray) -> FloatArray:
        """(n, d) A, of landmarks in pixels."""
        if self.counted is not None:
            return self.counted.places(points, "voxels")
        index = points.copy()
        index[:, 1] = self.size_xyz[1] - 1 - index[:, 1]  # people count the rows of TIFF from the top
        return np.asarray(index * self.spacing[: points.shape[1]])


def open_source(root: Path, inputs: CorrelateInputs, params: CorrelateParams) -> Source:
    """The image of a registration.

    Raises
    ------
    InputError : none or two images, a registration that is none or not to a map, or a pixel size that is not known
    FormatError : files that are damaged
    """
    if (inputs.fluorescence is None) == (inputs.after is None):
        raise InputError(
            "Give the image with --fluorescence FILE, or a registration whose image is taken on with --after NAME."
        )
    before, counted, path = None, None, inputs.fluorescence
    pixel, step = params.pixel_size_angstrom, params.step_angstrom
    if inputs.after is not None:
        about = read_registration(root, inputs.after)
        if about["target"]["series"] is not None:
            raise InputError(f"{inputs.after} is registered to a tomogram already; expected one to a map.")
        path = Path(about["fluorescence"])
        pixel, step = pixel or about["pixel_size_angstrom"], step or about["step_angstrom"]
        before = Affine(matrix=np.array(about["matrix"]), offset=np.array(about["offset_angstrom"]))
        counted = map_target(Path(about["target"]["file"]), about["target"]["pixel_size_angstrom"])
    assert path is not None
    image = read_light_image(path)
    pixel = pixel or image.pixel_size_angstrom or 0.0
    if not pixel:
        raise InputError(
            f"`{path}` does not tell its pixel size. Give it with --pixel-size-angstrom: 100 nm are 1000 A."
        )
    _, nz, ny, nx = image.values.shape
    step = step or image.step_angstrom or 0.0
    return Source(
        image=image,
        path=path,
        spacing=np.array([pixel, pixel, step]),
        size_xyz=(nx, ny, nz),
        before=before,
        counted=counted,
    )


def read_registration(root: Path, name: str) -> dict[str, Any]:
    """The record of a registration.

    Raises
    ------
    InputError : the project has none of that name
    FormatError : it is damaged
    """
    path = root / FOLDER / name / RECORD
    if not path.is_file():
        known = sorted(p.parent.name for p in (root / FOLDER).glob(f"*/{RECORD}"))
        raise InputError(f"`{root}` has no registration called {name}; it has {', '.join(known) or 'none'}.")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        Affine(matrix=np.array(about["matrix"], float), offset=np.array(about["offset_angstrom"], float))
        about["target"]["series"], about["fluorescence"]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"`{path}` is damaged ({error}). Register the image again with --overwrite.") from error
    return about
