"""The map on which targets lie: an item of a navigator, or a montage by its mdoc file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from eucentric.errors import EucentricError, InputError
from eucentric.figures.acquisition_targets import MapPicture
from eucentric.io.montage import read_montage
from eucentric.io.mrc import read_mrc
from eucentric.io.navigator import MapFrame, Navigator, NavigatorItem
from eucentric.typing import FloatArray

_PICTURE_PX = 1200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetMap:
    """What targets need to know of their map."""

    label: str
    frame: MapFrame
    registration: int
    stage_z_um: float
    map_id: int | None = None
    """As items drawn on it say; None for a montage that is no item of the navigator."""
    tilt_deg: float | None = None
    image: Path | None = None
    """None where the image cannot be drawn by its frame."""
    section: int = 0
    residual_um: float | None = None
    """Of a montage: root mean square distance of stage positions from its frame."""
    montages: int = 1
    """In the file of a montage, which is the first of them."""

    def has(self, item: NavigatorItem) -> bool:
        """Whether an item may lie on the map: it was drawn on it, or on none; on a montage, if it lies in its frame."""
        if self.map_id is not None or item.drawn_on is None:
            return item.drawn_on in (None, self.map_id)
        return bool(self.holds(item.stage_um[:2]))

    def holds(self, stage_um: FloatArray) -> np.ndarray:
        """(...), whether places (..., 2) on the stage lie in the frame."""
        pixels = self.frame.to_pixels(stage_um)
        return np.asarray(((pixels >= 0) & (pixels <= np.array(self.frame.size))).all(axis=-1))


def find_map(navigator: Navigator, given: str, navigator_path: Path, named: Sequence[str] = ()) -> TargetMap:
    """The map of a label, or the montage of an mdoc file.

    Parameters
    ----------
    given : label of a map, or path of an mdoc file
    named : labels of items that lie on the map: for a montage, whose file tells no registration, they do

    Raises
    ------
    InputError : no such map; items of several registrations where nothing tells which is the montage's
    FormatError : a damaged map or montage
    """
    is_label = any(item.kind == "map" and item.label == given for item in navigator.items)
    if given.lower().endswith(".mdoc") and not is_label:
        return _montage(navigator, Path(given), named)
    item = navigator.map_of(given)
    name = PureWindowsPath(item.map_file or "").name
    image = navigator_path.parent / name
    return TargetMap(
        label=item.label,
        frame=item.map_frame(),
        registration=registration_of(item),
        stage_z_um=float(item.stage_um[2]),
        map_id=item.map_id,
        tilt_deg=item.map_tilt_deg,
        image=image if name and image.is_file() and not item.is_montage else None,
        section=item.map_section,
    )


def registration_of(item: NavigatorItem) -> int:
    """Its registration.

    Raises
    ------
    InputError : none
    """
    if item.registration is None:
        raise InputError(
            f"Item `{item.label}` of the navigator has no registration (`Regis`), so nothing tells whether it lies in the frame "
            "of the map. Save the navigator again in SerialEM."
        )
    return item.registration


def map_picture(the_map: TargetMap) -> MapPicture:
    """Its frame, and its image where that can be read."""
    frame = the_map.frame
    only_frame = MapPicture(corners_um=frame.corners_um)
    if the_map.image is None:
        return only_frame
    try:
        stack, _ = read_mrc(the_map.image)
    except EucentricError:  # a picture is drawn without it; `eucentric validate` says what is wrong with the file
        return only_frame
    if the_map.section >= len(stack):
        return only_frame
    image = stack[the_map.section]
    step = max(1, max(image.shape) // _PICTURE_PX)
    rows, columns = (n // step for n in image.shape)
    binned = np.asarray(image[: rows * step, : columns * step], dtype=np.float32)
    binned = binned.reshape(rows, step, columns, step).mean(axis=(1, 3))
    scale = np.array(frame.size) / np.array(image.shape[::-1])
    ends = np.array([columns * step, rows * step]) * scale
    pixels = np.array([[0.0, 0.0], [ends[0], 0.0], ends, [0.0, ends[1]]])
    return MapPicture(corners_um=frame.to_stage(pixels), image=binned)


def _montage(navigator: Navigator, path: Path, named: Sequence[str]) -> TargetMap:
    montage = read_montage(path)
    items = [navigator.item(label) for label in named] or navigator.items
    registrations = sorted({item.registration for item in items if item.registration is not None})
    if len(registrations) != 1:
        have = ", ".join(map(str, registrations)) or "none"
        raise InputError(
            f"The items have the registrations {have}, and nothing tells which is that of montage `{path.name}`. "
            "Name items of one registration by --points or --area, or give --map a label of the navigator."
        )
    z = montage.stage_z_um
    return TargetMap(
        label=path.name,
        frame=montage.frame,
        registration=registrations[0],
        stage_z_um=z if np.isfinite(z) else float(items[0].stage_um[2]),
        tilt_deg=montage.tilt_deg,
        residual_um=montage.residual_um,
        montages=montage.in_file,
    )
