"""`/repair/tracks/SERIES`: points over the tilt images as recorded, which can be moved, added, deleted, split and joined."""

from pathlib import Path
from typing import Any

import numpy as np
from tornado.web import HTTPError

from eucentric.errors import InputError
from eucentric.geometry.tilt import TiltGeometry
from eucentric.geometry.volume_warp import Deformation
from eucentric.io.warps import read_deformation
from eucentric.models.particle_projection import project_particles
from eucentric.models.tilt_series import TiltSeries
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.repair_paths import found_track_file
from eucentric.pipeline.repair_track_edits import corrected_tracks
from eucentric.pipeline.repair_track_files import TrackTable, latest_tracks, read_track_table, recorded_tilts
from eucentric.typing import FloatArray
from eucentric.viewer.curate_handlers import next_steps
from eucentric.viewer.handlers import ApiHandler, BaseHandler, PageHandler
from eucentric.viewer.pictures import shrunk
from eucentric.viewer.project_view import need_series, neighbours, read_series
from eucentric.viewer.security import inside_path
from eucentric.viewer.site import Site
from eucentric.viewer.tilts_images import read_tilt_image, tilt_picture

_MOST_PIXELS = 1024
_ROUNDS = 8


class RepairTracksHandler(PageHandler):
    """The page."""

    async def get(self, name: str) -> None:
        beside = await self.in_thread(neighbours, self.site.root, name)
        self.page(
            "repair_tracks.html",
            name=name,
            **beside,
            values={"series": name},
        )


class TracksHandler(ApiHandler):
    """`/api/repair/tracks/SERIES`: points in every image, with all corrections, and where the alignment expects them."""

    async def get(self, name: str) -> None:
        self.send(await self.in_thread(track_values, self.site, name))


def track_values(site: Site, name: str) -> dict[str, Any]:
    """What the page shows.

    Raises
    ------
    InputError, FormatError : no such series, or tracks that cannot be read
    """
    root = site.root
    need_series(root, name)
    series, tilts = recorded_tilts(root, name)
    log = Curation(root).log()
    scopes = [f"tracks/{name}"]
    edited = any(e.edit is not None and e.edit.scope == scopes[0] for e in log.done)
    source = latest_tracks(root, name)
    if edited or (source is None and found_track_file(root, name).is_file()):
        table: TrackTable = corrected_tracks(root, name, log.done)
    else:
        table = {} if source is None else read_track_table(source, tilts)
    expected = expected_places(root, read_series(root, name), table)
    rows, columns = series.image_shape
    factor = -(-max(rows, columns) // _MOST_PIXELS)
    return {
        "tilts": [
            {
                "acquisition": t.acquisition,
                "angle": round(t.nominal_tilt_deg, 2),
                "image": t.image is not None,
                "used": any(t.acquisition == u.acquisition for u in series.tilts),
            }
            for t in tilts
        ],
        "size": [columns, rows],
        "covered": [columns // factor * factor, rows // factor * factor],
        "pixel": series.pixel_size_angstrom,
        "points": _points(table, expected),
        "edited": edited,
        "scopes": scopes,
        **next_steps(log, scopes),
    }


def _points(table: TrackTable, expected: dict[int, dict[int, FloatArray]]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for (point, acquisition), row in sorted(table.items()):
        one = found.setdefault(point, {"point": point, "seen": {}, "expected": {}})
        at = expected.get(point, {}).get(acquisition)
        away = None if at is None else round(float(np.hypot(*(np.array(row.position_angstrom) - at))), 2)
        x, y = row.position_angstrom
        one["seen"][acquisition] = {"at": [round(x, 3), round(y, 3)], "hand": row.by_hand, "away": away}
    for point, one in found.items():
        one["expected"] = {a: [round(float(v), 2) for v in at] for a, at in expected.get(point, {}).items()}
    return list(found.values())


def expected_places(root: Path, series: TiltSeries | None, table: TrackTable) -> dict[int, dict[int, FloatArray]]:
    """By point and acquisition: where the alignment shows the place in the specimen that most of a track's images agree on.

    Points of which fewer than two aligned images are tracked have none.
    """
    posed = [] if series is None else [t for t in series.tilts if t.pose is not None]
    if series is None or not posed:
        return {}
    series = series.with_tilts(posed)
    geometry = TiltGeometry.from_poses(series.poses)
    where = {t.acquisition: i for i, t in enumerate(posed)}
    bent = Deformation()
    if series.warp is not None and (path := inside_path(root, root / series.warp)).is_file():
        bent = read_deformation(path, series)
    centre = np.array([series.image_shape[1] // 2, series.image_shape[0] // 2])
    out: dict[int, dict[int, FloatArray]] = {}
    for point in sorted({p for p, _ in table}):
        seen = {where[a]: row.position_angstrom for (p, a), row in table.items() if p == point and a in where}
        if len(seen) < 2:
            continue
        rows = np.array(list(seen))
        places = np.array([seen[i] for i in seen])
        bend = np.zeros((len(posed), 2))
        for _ in range(2):
            at = _agreed(geometry, rows, places - bend[rows], series.pixel_size_angstrom)
            pixels = project_particles(at[None], series, bent.image, volume=bent.volume).pixels[:, 0]
            shown = (pixels - centre) * series.pixel_size_angstrom
            bend = shown - geometry.project(at)[..., :2]
        out[point] = {t.acquisition: shown[i] for i, t in enumerate(posed)}
    return out


def _agreed(geometry: TiltGeometry, rows: np.ndarray, places: FloatArray, scale: float) -> FloatArray:
    """(3,) by least absolute deviations, so that a track that jumped is where most of it lies."""
    design = geometry.image_matrices[rows]
    wanted = places - geometry.shifts_angstrom[rows]
    weights = np.ones(len(rows))
    at = np.zeros(3)
    for _ in range(_ROUNDS):
        scaled = np.sqrt(weights)[:, None]
        at = np.linalg.lstsq((scaled[..., None] * design).reshape(-1, 3), (scaled * wanted).reshape(-1), rcond=1e-6)[0]
        weights = 1.0 / np.maximum(np.linalg.norm(design @ at - wanted, axis=1), 0.5 * scale)
    return np.asarray(at)


class RecordedPictureHandler(BaseHandler):
    """`/pictures/repair/tilt/SERIES/ACQUISITION.jpg`: a tilt image as recorded, made smaller by a whole number."""

    async def get(self, name: str, acquisition: str) -> None:
        picture = await self.in_thread(self._picture, name, int(acquisition))
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("Cache-Control", "private, max-age=60")
        self.finish(picture)

    def _picture(self, name: str, acquisition: int) -> bytes:
        need_series(self.site.root, name)
        tilts = recorded_tilts(self.site.root, name)[1]
        tilt = next((t for t in tilts if t.acquisition == acquisition and t.image is not None), None)
        if tilt is None:
            raise HTTPError(404)
        try:
            return tilt_picture(shrunk(read_tilt_image(self.site.root, tilt), _MOST_PIXELS))
        except OSError as error:
            raise InputError(f"The image of the tilt at {tilt.nominal_tilt_deg:.1f} degrees cannot be read.") from error
