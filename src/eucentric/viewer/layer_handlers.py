"""`/annotations/SERIES/PICKS/...` and `/meshes/SERIES/...`: particles and surfaces as neuroglancer reads them."""

from typing import Any

from tornado.web import HTTPError

from eucentric.errors import InputError
from eucentric.io.meshes import read_mesh
from eucentric.models.particles import ParticleSet
from eucentric.viewer import annotations, surfaces
from eucentric.viewer.annotations import Form
from eucentric.viewer.handlers import ApiHandler
from eucentric.viewer.project_view import PickFile, find_mesh, find_picks, need_series, picks_in
from eucentric.viewer.site import Site

_BYTES = "application/octet-stream"


def read_picks(site: Site, name: str, key: str) -> tuple[PickFile, ParticleSet]:
    """A list of the project, and its particles that lie in a series.

    Raises
    ------
    InputError : no such series or list
    FormatError : a list that cannot be read
    """
    need = site.recent(lambda: need_series(site.root, name), "series", name)
    file = site.recent(lambda: find_picks(site.root, key), "picks", key)
    return file, site.opened(file.path, lambda: picks_in(file, need), name)


class AnnotationHandler(ApiHandler):
    """`/annotations/SERIES/PICKS/FORM/REST`."""

    async def get(self, name: str, key: str, form: str, rest: str) -> None:
        kind: Form = "points" if form == "points" else "axes"
        _, particles = await self.in_thread(read_picks, self.site, name, key)
        if rest == "info":
            self.send(annotations.annotation_info(particles, kind))
            return
        self.set_header("Content-Type", _BYTES)
        if rest == "all/0_0_0":
            self.finish(await self.in_thread(annotations.all_annotations, particles, kind))
            return
        number = rest.removeprefix("by_id/")
        try:
            self.finish(annotations.one_annotation(particles, kind, int(number)))
        except (IndexError, ValueError) as error:
            raise HTTPError(404) from error


class MeshHandler(ApiHandler):
    """`/meshes/SERIES/file/KEY/REST` and `/meshes/SERIES/copies/PICKS/REST`.

    A mesh of the project is segment 1; of an average, all copies of a kind are one segment.
    """

    async def get(self, name: str, sort: str, key: str, rest: str) -> None:
        names = await self.in_thread(self._segments, name, sort, key)
        if rest == "info":
            self.send({"@type": "neuroglancer_legacy_mesh", "segment_properties": "names"})
        elif rest == "names/info":
            self.send(surfaces.segment_names(names))
        else:
            await self._mesh(name, sort, key, rest, names)

    async def _mesh(self, name: str, sort: str, key: str, rest: str, names: list[str]) -> None:
        segment, colon, _ = rest.removeprefix("part").partition(":")
        if not segment.isdecimal() or not 1 <= int(segment) <= len(names):
            raise HTTPError(404)
        if colon:
            self.send({"fragments": [f"part{segment}"]})
            return
        self.set_header("Content-Type", _BYTES)
        self.finish(await self.in_thread(self._fragment, name, sort, key, int(segment)))

    def _segments(self, name: str, sort: str, key: str) -> list[str]:
        if sort == "file":
            site = self.site
            return [site.recent(lambda: find_mesh(site.root, name, key), "mesh", name, key).title]
        file, particles = read_picks(self.site, name, key)
        if file.average is None:
            raise InputError("No average lies beside this list.")
        return [kind or file.title for kind in annotations.kind_colours(particles)]

    def _fragment(self, name: str, sort: str, key: str, segment: int) -> bytes:
        if sort == "file":
            return surfaces.encode_mesh(*read_mesh(find_mesh(self.site.root, name, key).path))
        file, particles = read_picks(self.site, name, key)
        if file.average is None:
            raise InputError("No average lies beside this list.")
        path, count = file.average, len(particles)
        surface: tuple[Any, Any, float] = self.site.opened(path, lambda: surfaces.map_surface(path, count), count)
        kind = list(annotations.kind_colours(particles))[segment - 1]
        return surfaces.copies_mesh(surface[0], surface[1], particles.select(particles.kinds == kind))
