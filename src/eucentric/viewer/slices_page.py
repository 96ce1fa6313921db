"""`/slices/SERIES`: slices of a tomogram along three axes with its picks, which can be edited, and its rating."""

from typing import Any

import numpy as np
from tornado.web import HTTPError

from eucentric.models.particles import ParticleSet
from eucentric.pipeline.curation_base import Entry
from eucentric.pipeline.curation_pick_table import PICKS, Pick, PickTable, list_names, read_pick_table
from eucentric.pipeline.curation_picks import picks_of
from eucentric.pipeline.curation_ratings import ratings_in_force
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import excluded_series
from eucentric.viewer.annotations import axis_length_angstrom
from eucentric.viewer.curate_handlers import need_own_folders, next_steps
from eucentric.viewer.handlers import ApiHandler, BaseHandler, PageHandler
from eucentric.viewer.project_view import find_volume, need_series, neighbours, volume_files
from eucentric.viewer.site import Site
from eucentric.viewer.slices_images import slice_picture
from eucentric.viewer.volumes import Volume

_MOST_SUMMED = 31
_DEFAULT_DIAMETER = 150.0
_FIRST_LIST = "by-hand"
"""Offered where a project has no list; it begins with its first pick."""


class SlicesHandler(PageHandler):
    """The page. `?picks=LIST&volume=KEY` chooses what is shown."""

    async def get(self, name: str) -> None:
        values = await self.in_thread(
            page_values,
            self.site,
            name,
            self.get_query_argument("picks", None),
            self.get_query_argument("volume", None),
        )
        self.page("slices.html", **values)


def page_values(site: Site, name: str, chosen: str | None, volume_key: str | None) -> dict[str, Any]:
    """What the page is made from.

    Raises
    ------
    InputError : no such series
    """
    root = site.root
    beside = neighbours(root, name)
    volumes = [v for v in volume_files(root, name) if v.kind == "image"]
    lists = list_names(root) or [_FIRST_LIST]
    shown = next((v for v in volumes if v.key == volume_key), volumes[0] if volumes else None)
    left_out = excluded_series(read_exclusions(root)).get(name)
    return {
        "name": name,
        "volumes": volumes,
        "lists": lists,
        **beside,
        "left_out": left_out,
        "has_volume": shown is not None,
        "values": {
            "series": name,
            "volumes": [_about(site, name, v.key) for v in volumes],
            "volume": None if shown is None else shown.key,
            "list": chosen if chosen in lists else lists[0],
        },
    }


def _about(site: Site, name: str, key: str) -> dict[str, Any]:
    """The grid of a volume, and what tells it from the file that it replaced."""
    file = find_volume(site.root, name, key)
    level = site.volume(file.path, file.kind).levels[0]
    z, y, x = level.shape_zyx
    stat = file.path.stat()
    return {
        "key": file.key,
        "title": file.title,
        "size": [x, y, z],
        "voxel": level.voxel_zyx_angstrom[0],
        "version": f"{stat.st_mtime_ns:x}-{stat.st_size:x}",
    }


class SlicePictureHandler(BaseHandler):
    """`/pictures/slice/SERIES/VOLUME/PLANE/INDEX.png?sum=N`: the mean of N slices, xy, xz (z up) or zy (z to the right)."""

    async def get(self, name: str, key: str, plane: str, index: str) -> None:
        summed = self.get_query_argument("sum", "1")
        if not summed.isdecimal() or not 1 <= int(summed) <= _MOST_SUMMED:
            raise HTTPError(400, reason=f"sum must be 1 to {_MOST_SUMMED}")
        picture = await self.in_thread(self._picture, name, key, plane, int(index), int(summed))
        self.set_header("Content-Type", "image/png")
        if self.get_query_argument("version", None) is not None:  # another file has another address
            self.set_header("Cache-Control", "private, max-age=3600, immutable")
        self.finish(picture)

    def _picture(self, name: str, key: str, plane: str, index: int, summed: int) -> bytes:
        site = self.site
        file = site.recent(lambda: find_volume(site.root, name, key), "volume", name, key)
        volume: Volume = site.volume(file.path, file.kind)
        limits = site.opened(file.path, volume.limits, "limits")
        try:
            return slice_picture(volume, plane, index, summed, limits)
        except IndexError as error:
            raise HTTPError(404) from error


class EditedPicksHandler(ApiHandler):
    """`/api/slices/SERIES/picks/LIST`: picks of a list with all edits, as they are saved."""

    async def get(self, name: str, picks: str) -> None:
        self.send(await self.in_thread(edited_picks, self.site, name, picks))


def edited_picks(site: Site, name: str, picks: str) -> dict[str, Any]:
    """Picks of one tomogram, what undo would do, and the rating.

    Raises
    ------
    InputError, FormatError : no such series, or a list that cannot be read
    """
    need_series(site.root, name)
    need_own_folders(site, [picks])
    log = Curation(site.root).log()
    table = read_pick_table(site.root, picks)
    folded = picks_of(site.root, picks, log.done)
    scopes = [f"picks/{picks}/{name}", f"rating/{name}"]
    return {
        "list": picks,
        "file": f"{PICKS}/{picks}/",
        "picks": [_pick(p, table) for p in folded.in_tomogram(name)],
        "total": len(folded.picks),
        "lost": len(folded.lost),
        "diameter": _diameter(table, name),
        "scopes": scopes,
        **next_steps(log, scopes),
        **_rating(name, log.done),
    }


def _pick(pick: Pick, table: PickTable) -> dict[str, Any]:
    score = np.nan if pick.row is None else table.scores[pick.row]
    turn = None if pick.row is None else table.rotations[pick.row]
    oriented = turn is not None and not np.allclose(turn, np.eye(3), atol=1e-9)
    return {
        "name": pick.name,
        "place": list(pick.position),
        "direction": [round(float(v), 4) for v in turn[:, 2]] if oriented and turn is not None else None,
        "score": round(float(score), 4) if np.isfinite(score) else None,
        "origin": pick.origin,
    }


def _diameter(table: PickTable, name: str) -> float:
    """A: of the circles; as wide as lets neighbours be told apart."""
    rows = np.flatnonzero(np.array(table.tomograms) == name)
    if len(rows) < 2:
        return _DEFAULT_DIAMETER
    return min(axis_length_angstrom(ParticleSet.build(name, table.positions[rows])), 2 * _DEFAULT_DIAMETER)


def _rating(name: str, done: tuple[Entry, ...]) -> dict[str, Any]:
    rated = ratings_in_force(done).get(name)
    return {"rating": None if rated is None else rated.rating, "note": "" if rated is None else rated.note}
