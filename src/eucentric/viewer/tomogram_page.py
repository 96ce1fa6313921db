"""`/tomogram/SERIES`: neuroglancer, what it shows, and the picks as a table."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from tornado.web import HTTPError

from eucentric.errors import EucentricError
from eucentric.models.particles import ParticleSet
from eucentric.viewer import scene
from eucentric.viewer.annotations import kind_colours
from eucentric.viewer.handlers import ApiHandler, PageHandler
from eucentric.viewer.layer_handlers import read_picks
from eucentric.viewer.neuroglancer_client import has_neuroglancer
from eucentric.viewer.project_view import (
    PickFile,
    VolumeFile,
    mesh_files,
    need_series,
    neighbours,
    pick_files,
    volume_files,
)
from eucentric.viewer.site import Site
from eucentric.viewer.volumes import Volume

_MOST_SURFACES = 2000
"""Copies of an average that are shown from the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What can be shown of a series."""

    volumes: list[tuple[VolumeFile, Volume]]
    picks: list[tuple[PickFile, ParticleSet]]
    faults: list[str]
    """Of files that cannot be read, in words."""


def _find(site: Site, name: str) -> _Found:
    volumes, picks, faults = [], [], []
    for one in volume_files(site.root, need_series(site.root, name)):
        try:
            volumes.append((one, site.volume(one.path, one.kind)))
        except EucentricError as error:
            faults.append(str(error))
    for listed in pick_files(site.root):
        try:
            file, particles = read_picks(site, name, listed.key)
        except EucentricError as error:
            faults.append(str(error))
            continue
        if len(particles):
            picks.append((file, particles))
    return _Found(volumes=volumes, picks=picks, faults=faults)


class TomogramHandler(PageHandler):
    """The page. `?picks=KEY&particle=N` opens it at a particle."""

    async def get(self, name: str) -> None:
        beside = await self.in_thread(neighbours, self.site.root, name)
        found = await self.in_thread(_find, self.site, name)
        self.page(
            "tomogram.html",
            name=name,
            **beside,
            has_client=has_neuroglancer(),
            volumes=[file for file, _ in found.volumes],
            picks=[(file, len(particles)) for file, particles in found.picks],
            faults=found.faults,
            values={
                "series": name,
                "picks": self.get_query_argument("picks", None),
                "particle": self.get_query_argument("particle", None),
            },
        )


class SceneHandler(ApiHandler):
    """`/api/tomograms/SERIES/scene?origin=...`: the state of neuroglancer."""

    async def get(self, name: str) -> None:
        origin = f"{self.request.protocol}://{self.request.host}"
        key, number = self.get_query_argument("picks", None), self.get_query_argument("particle", None)
        place = await self.in_thread(_place, self.site, name, key, number)
        self.send(await self.in_thread(make_scene, self.site, name, origin, place, key))


def _place(site: Site, name: str, key: str | None, number: str | None) -> tuple[float, float, float]:
    """Of a particle, counted from 1; the middle without one."""
    if key is None or number is None:
        return 0.0, 0.0, 0.0
    _, particles = read_picks(site, name, key)
    if not number.isdecimal() or not 1 <= int(number) <= len(particles):
        raise HTTPError(404, reason="There is no such particle.")
    x, y, z = particles.positions_angstrom[int(number) - 1].tolist()
    return x, y, z


def make_scene(
    site: Site, name: str, origin: str, place: tuple[float, float, float], chosen: str | None = None
) -> dict[str, Any]:
    """Layers of a series.

    Parameters
    ----------
    origin : of this server as the browser knows it
    place : x, y, z in A that is looked at
    chosen : key of the list that is shown; the first where None
    """
    found, layers = _find(site, name), []
    at = quote(name, safe="")
    shown = next((file.key for file, _ in found.volumes if file.kind == "image"), None)
    for file, volume in found.volumes:
        address = f"{origin}/volumes/{at}/{file.key}/"
        if file.kind == "labels":
            layers.append(scene.labels_layer(file, address))
        else:
            limits = site.opened(file.path, volume.limits, "limits")
            layers.append(scene.image_layer(file, address, limits, file.key == shown))
    for mesh in mesh_files(site.root, name):
        layers.append(scene.mesh_layer(mesh, f"{origin}/meshes/{at}/file/{mesh.key}/"))
    first = chosen or (found.picks[0][0].key if found.picks else None)
    for listed, particles in found.picks:
        visible = listed.key == first
        layers += scene.pick_layers(listed, particles, f"{origin}/annotations/{at}/{listed.key}/", visible)
        if listed.average is not None and particles.oriented:
            few = visible and len(particles) <= _MOST_SURFACES
            layers.append(scene.copies_layer(listed, particles, f"{origin}/meshes/{at}/copies/{listed.key}/", few))
    main = next((v for f, v in found.volumes if f.key == shown), None)
    return scene.scene(layers, main, place)


class PicksHandler(ApiHandler):
    """`/api/tomograms/SERIES/picks/KEY`: a list as a table."""

    async def get(self, name: str, key: str) -> None:
        _, particles = await self.in_thread(read_picks, self.site, name, key)
        self.send({"particles": rows_of(particles), "colours": kind_colours(particles)})


def rows_of(particles: ParticleSet) -> list[dict[str, Any]]:
    """Of each particle: number from 1, x, y, z in A, kind, and score where it has one."""
    scores = [float(s) if np.isfinite(s) else None for s in particles.scores]
    places = np.round(particles.positions_angstrom, 2).tolist()
    return [
        {"number": i + 1, "place": place, "kind": str(kind), "score": score}
        for i, (place, kind, score) in enumerate(zip(places, particles.kinds, scores, strict=True))
    ]
