"""`/tilts/SERIES`: the aligned images of a series one after another, their figures, and which are left out."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tornado.web import HTTPError

from eucentric.errors import EucentricError, InputError
from eucentric.io.tilt_series import read_tilt_series
from eucentric.models.tilt_series import Tilt, TiltSeries
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import excluded_series, read_record, row_path
from eucentric.pipeline.settings import Exclusion
from eucentric.pipeline.steps import IMPORT_TABLE
from eucentric.viewer.curate_handlers import next_steps
from eucentric.viewer.handlers import ApiHandler, BaseHandler, PageHandler
from eucentric.viewer.project_view import need_series, neighbours, read_series
from eucentric.viewer.site import Site
from eucentric.viewer.tilts_images import aligned_image, read_tilt_image, tilt_picture

_SAME_DEG = 0.01
_EARLIER = ("reconstruct", "ctf", "axis", "align", "motion")
REASONS = ("ice", "crack or hole", "drift", "out of focus", "dark or blocked", "charging", "poor alignment")
"""Offered; any other may be written."""


class TiltsHandler(PageHandler):
    """The page."""

    async def get(self, name: str) -> None:
        beside = await self.in_thread(neighbours, self.site.root, name)
        self.page(
            "tilts.html",
            name=name,
            **beside,
            reasons=REASONS,
            values={"series": name},
        )


class TiltListHandler(ApiHandler):
    """`/api/tilts/SERIES`: every tilt that was recorded, by angle."""

    async def get(self, name: str) -> None:
        self.send(await self.in_thread(tilt_list, self.site, name))


def tilt_list(site: Site, name: str) -> dict[str, Any]:
    """Tilts with their figures and state, and what undo would do.

    Raises
    ------
    InputError : no such series
    """
    root = site.root
    need_series(root, name)
    every = read_tilt_series(root / IMPORT_TABLE, name, root)
    series = read_series(root, name) or every
    exclusions = [e for e in read_exclusions(root) if e.series == name]
    used = {t.acquisition: t for t in series.tilts}
    gone = {e.tilt.acquisition: e for e in (*every.excluded, *series.excluded)}
    known = {t.acquisition: t for t in every.tilts} | {n: e.tilt for n, e in gone.items()} | used
    images, before = _images(site, name), _left_out_before(root, name)
    imported = {t.acquisition for t in every.tilts}
    rows = []
    for number, tilt in known.items():
        by_hand = _of_tilt(exclusions, tilt)
        if by_hand is not None:
            state, why = "out", by_hand.reason
        elif number in used:
            state, why = "used", ""
        elif _of_tilt(before, tilt) is not None:
            state, why = "back", ""
        else:
            state, why = "stage", gone[number].reason if number in gone else ""
        changes = number in imported
        rows.append(_row(tilt) | {"state": state, "reason": why, "image": number in images, "can_change": changes})
    scopes = [f"tilts/{name}", f"series/{name}"]
    return {
        "tilts": sorted(rows, key=lambda row: (row["angle"], row["acquisition"])),
        "left_out": excluded_series(exclusions).get(name),
        "aligned": any(t.pose is not None for t in series.tilts),
        "scopes": scopes,
        **next_steps(Curation(root).log(), scopes),
    }


def _left_out_before(root: Path, name: str) -> list[Exclusion]:
    """Tilts that the results of today were made without because of a person, whatever the plan says by now."""
    found = (read_record(root / stage, name) for stage in _EARLIER)
    return [Exclusion.model_validate(e) for record in found if record is not None for e in record.exclusions]


def _of_tilt(exclusions: list[Exclusion], tilt: Tilt) -> Exclusion | None:
    for entry in exclusions:
        same_order = entry.acquisition is None or entry.acquisition == tilt.acquisition
        if entry.angle is not None and same_order and abs(entry.angle - tilt.nominal_tilt_deg) < _SAME_DEG:
            return entry
    return None


def _row(tilt: Tilt) -> dict[str, Any]:
    return {
        "acquisition": tilt.acquisition,
        "angle": round(tilt.nominal_tilt_deg, 2),
        "dose": _number(tilt.pre_exposure, 1),
        "figures": _figures(tilt),
    }


def _figures(tilt: Tilt) -> list[float | None]:
    """In the order of the page's columns; None where not known."""
    motion = None
    if tilt.motion is not None and len(tilt.motion.shifts_angstrom) > 1:
        motion = float(np.linalg.norm(np.diff(tilt.motion.shifts_angstrom, axis=0), axis=1).sum())
    pose, ctf = tilt.pose, tilt.ctf
    shift = None if pose is None else float(np.hypot(pose.x_shift_angstrom, pose.y_shift_angstrom))
    return [
        _number(motion, 1),
        _number(shift, 0),
        _number(None if pose is None else pose.sigma_angstrom, 1),
        _number(None if ctf is None else 0.5e-4 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom), 2),
        _number(None if ctf is None else ctf.max_resolution_angstrom, 1),
    ]


def _number(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _images(site: Site, name: str) -> dict[int, tuple[Tilt, float]]:
    """By order of acquisition: the latest record of each tilt that has an image, and its pixel size, A; left-out ones too."""
    found: dict[int, tuple[Tilt, float]] = {}
    for stage in (*_EARLIER, None):
        series = _read(site, name, stage)
        for tilt in () if series is None else (*series.tilts, *(e.tilt for e in series.excluded)):
            held = found.get(tilt.acquisition)
            if tilt.image is not None and (held is None or (held[0].pose is None and tilt.pose is not None)):
                found[tilt.acquisition] = tilt, series.pixel_size_angstrom if series else 1.0
    return found


def _read(site: Site, name: str, stage: str | None) -> TiltSeries | None:
    """A series as a stage left it, or as imported; None where that cannot be read: another table still tells of the images."""
    root = site.root
    tables = (
        [root / IMPORT_TABLE] if stage is None else [row_path(root / stage, name), root / stage / "tilt_series.star"]
    )
    for table in tables:
        try:
            if table.is_file():
                found: TiltSeries = site.opened(table, partial(read_tilt_series, table, name, root), "tilts of", name)
                return found
        except (EucentricError, OSError):
            continue
    return None


class TiltPictureHandler(BaseHandler):
    """`/pictures/tilt/SERIES/ACQUISITION.jpg`: a tilt image as aligned, small."""

    async def get(self, name: str, acquisition: str) -> None:
        picture = await self.in_thread(tilt_jpeg, self.site, name, int(acquisition))
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("Cache-Control", "private, max-age=60")
        self.finish(picture)


def tilt_jpeg(site: Site, name: str, acquisition: int) -> bytes:
    """The picture of a tilt; 404 where it has no image.

    Raises
    ------
    InputError : no such series, or an image outside of the project
    """
    need_series(site.root, name)
    found = site.recent(lambda: _images(site, name), "tilt images", name)
    if acquisition not in found:
        raise HTTPError(404)
    tilt, pixel = found[acquisition]
    pose = tilt.pose or next((t.pose for t, _ in found.values() if t.pose is not None), None)
    if tilt.pose is None and pose is not None:  # never aligned: turned as the others, not shifted
        pose = type(pose)(y_tilt_deg=tilt.nominal_tilt_deg, z_rot_deg=pose.z_rot_deg)
    try:
        return tilt_picture(aligned_image(read_tilt_image(site.root, tilt), pose, pixel))
    except OSError as error:
        raise InputError(f"The image of the tilt at {tilt.nominal_tilt_deg:.1f} degrees cannot be read.") from error
