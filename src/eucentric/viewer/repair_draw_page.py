"""`/repair/draw/SERIES`: slices of a tomogram to mark faces, draw points, filaments and surfaces, and paint labels in."""

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from tornado.web import HTTPError

from eucentric.errors import EucentricError
from eucentric.pipeline.curation_base import Workplace
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.repair_drawn_edits import drawn_in
from eucentric.pipeline.repair_frames import current_frame
from eucentric.pipeline.repair_label_edits import label_names, strokes_of
from eucentric.pipeline.repair_level_edits import face_points, marked_faces
from eucentric.pipeline.repair_paths import label_file
from eucentric.pipeline.repair_placed import Carrier
from eucentric.viewer.curate_handlers import next_steps
from eucentric.viewer.handlers import ApiHandler, BaseHandler, PageHandler
from eucentric.viewer.project_view import need_series, read_series, series_names
from eucentric.viewer.security import inside_path
from eucentric.viewer.site import Site
from eucentric.viewer.slices_page import page_values

_AXIS = {"xy": 0, "xz": 1, "zy": 2}
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Of labels, in turn: told apart by colour-blind readers (Okabe and Ito)."""
_OPAQUE = 140


class RepairDrawHandler(PageHandler):
    """The page."""

    async def get(self, name: str) -> None:
        values = await self.in_thread(self._values, name)
        self.page("repair_draw.html", **values)

    def _values(self, name: str) -> dict[str, Any]:
        values = page_values(self.site, name, None, None)
        series = read_series(self.site.root, name)
        drawable = values["has_volume"] and series is not None and series.tomogram is not None
        return values | {"has_volume": drawable, "values": values["values"] | {"colours": list(COLOURS)}}


class DrawnHandler(ApiHandler):
    """`/api/repair/draw/SERIES`: all that is set by hand in a tomogram, in its present frame."""

    async def get(self, name: str) -> None:
        self.send(await self.in_thread(drawn_values, self.site, name))


def drawn_values(site: Site, name: str) -> dict[str, Any]:
    """What the page shows.

    Raises
    ------
    InputError, FormatError : no such series, no tomogram, or a frame that is gone
    """
    root = site.root
    need_series(root, name)
    log = Curation(root).log()
    place = Workplace(root=root, number=log.next_number, done=log.done)
    carry = Carrier(place, name)
    marks = face_points(name, log.done)
    scopes = [f"levels/{name}", f"drawn/{name}", f"labels/{name}", "label-names"]
    path = label_file(root, name)
    names = label_names(log.done)
    used = {s.label for s in strokes_of(name, log.done)}
    stat = path.stat() if path.is_file() else None
    return {
        "frame": current_frame(root, name).key,
        "marks": [
            {"number": m.number, "face": m.face, "place": carry(m.frame, np.array([m.position_angstrom]))[0].tolist()}
            for m in marks.values()
        ],
        "slab": _slab(place, name),
        "drawings": [
            {
                "number": d.number,
                "shape": d.shape,
                "label": d.label,
                "closed": d.closed,
                "lines": [line.tolist() for line in d.lines_angstrom],
            }
            for d in drawn_in(place, name)
        ],
        "labels": [{"number": n, "name": names.get(n, "")} for n in sorted(used | set(names))],
        "version": None if stat is None else f"{stat.st_mtime_ns:x}-{stat.st_size:x}",
        "strokes": len(strokes_of(name, log.done)),
        "scopes": scopes,
        **next_steps(log, scopes),
    }


def _slab(place: Workplace, name: str) -> dict[str, Any] | None:
    """The slab of the marks: its faces as z = a x + b y + c, and words; None where a face has no mark."""
    try:
        faces = marked_faces(place, name)
        found = None if faces is None else faces.slab()
    except EucentricError as error:
        return {"words": str(error), "faces": []}
    if found is None:
        return None
    slab = found.slab
    normal = slab.rotation[:, 2]
    half = 0.5 * slab.thickness_angstrom / normal[2]
    slopes = (-normal[:2] / normal[2]).tolist()
    words = (
        f"Thickness {slab.thickness_angstrom:.0f} Å, height of the middle {slab.z_angstrom:.0f} Å, inclination {slab.y_tilt_deg:.1f}° "
        f"about y and {slab.x_tilt_deg:.1f}° about x; points lie {found.rms_angstrom:.0f} Å from the faces."
    )
    return {"words": words, "faces": [[*slopes, slab.z_angstrom + half], [*slopes, slab.z_angstrom - half]]}


class LabelPictureHandler(BaseHandler):
    """`/pictures/repair/labels/SERIES/PLANE/INDEX.png?version=V`: painted labels of a slice in colours, clear elsewhere."""

    async def get(self, name: str, plane: str, index: str) -> None:
        picture = await self.in_thread(self._picture, name, plane, int(index))
        self.set_header("Content-Type", "image/png")
        if self.get_query_argument("version", None) is not None:  # another file has another address
            self.set_header("Cache-Control", "private, max-age=3600, immutable")
        self.finish(picture)

    def _picture(self, name: str, plane: str, index: int) -> bytes:
        root = self.site.root
        if name not in series_names(root):
            raise HTTPError(404)
        path = label_file(root, name)
        if not path.is_file():
            raise HTTPError(404)
        volume = self.site.volume(inside_path(root, path), "labels")
        axis = _AXIS[plane]
        if index >= volume.levels[0].shape_zyx[axis]:
            raise HTTPError(404)
        values = np.asarray(volume.plane(axis, index))
        return label_png(values.T if plane == "zy" else values)


def label_png(values: NDArray[Any]) -> bytes:
    """(y, x) labels as a picture, rows going up."""
    table = np.zeros((256, 4), dtype=np.uint8)
    colours = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS]
    for number in range(1, 256):
        table[number] = [*colours[(number - 1) % len(colours)], _OPAQUE]
    pixels = table[np.clip(np.rint(values), 0, 255).astype(np.uint8)]
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels[::-1])))
