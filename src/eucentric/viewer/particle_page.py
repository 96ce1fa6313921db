"""`/particle/SERIES/PICKS/N`: one particle in slices and tilt images, and pictures for it and for the first page."""

from typing import Any
from urllib.parse import quote

import numpy as np
from tornado.web import HTTPError

from eucentric.errors import EucentricError, InputError
from eucentric.models.particles import ParticleSet
from eucentric.models.tilt_series import TiltSeries
from eucentric.viewer import pictures, tilts_images
from eucentric.viewer.annotations import axis_length_angstrom
from eucentric.viewer.handlers import BaseHandler, PageHandler
from eucentric.viewer.layer_handlers import read_picks
from eucentric.viewer.pictures import Plane
from eucentric.viewer.project_view import PickFile, VolumeFile, find_volume, need_series, read_series, volume_files
from eucentric.viewer.site import Site

_PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")
_AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
_LEAST_SHOWN, _MOST_SHOWN = 60.0, 2000.0


def one_particle(site: Site, name: str, key: str, number: str) -> tuple[PickFile, ParticleSet, int]:
    """Its list, the particles of the series, and its row; 404 where there is none of that number, counted from 1."""
    file, particles = read_picks(site, name, key)
    row = int(number) - 1
    if not 0 <= row < len(particles):
        raise HTTPError(404)
    return file, particles, row


def shown_half_angstrom(particles: ParticleSet) -> float:
    """From the middle to the edge of pictures: the usual distance to a neighbour."""
    return float(np.clip(2.0 * axis_length_angstrom(particles), _LEAST_SHOWN, _MOST_SHOWN))


def images_of(root: Any, name: str) -> list[VolumeFile]:
    """Volumes of a series in grey."""
    return [v for v in volume_files(root, name) if v.kind == "image"]


class ParticleHandler(PageHandler):
    """The page. `?volume=KEY` chooses what the slices are of."""

    async def get(self, name: str, key: str, number: str) -> None:
        values = await self.in_thread(self._values, name, key, number, self.get_query_argument("volume", None))
        self.page("particle.html", **values)

    def _values(self, name: str, key: str, number: str, chosen: str | None) -> dict[str, Any]:
        root = self.site.root
        file, particles, row = one_particle(self.site, name, key, number)
        volumes = images_of(root, name)
        volume = next((v for v in volumes if v.key == chosen), volumes[0] if volumes else None)
        place, turn = particles.positions_angstrom[row], particles.rotations[row]
        half = shown_half_angstrom(particles)
        here = f"/particle/{quote(name, safe='')}/{quote(key, safe='')}/"
        tilts, fault = _tilts(root, name, place)
        more = "" if chosen is None else f"?volume={quote(chosen, safe='')}"
        return {
            "name": name,
            "file": file,
            "number": row + 1,
            "count": len(particles),
            "kind": str(particles.kinds[row]),
            "score": float(particles.scores[row]) if np.isfinite(particles.scores[row]) else None,
            "place": [float(v) for v in place],
            "oriented": particles.oriented,
            "half": half,
            "volumes": volumes,
            "volume": volume,
            "planes": [_plane(p, turn, half, axis_length_angstrom(particles)) for p in _PLANES],
            "pictures": f"/pictures{here}{row + 1}/",
            "previous": f"{here}{row}{more}" if row > 0 else None,
            "next": f"{here}{row + 2}{more}" if row + 1 < len(particles) else None,
            "slices": f"/slices/{quote(name, safe='')}?at={','.join(f'{v:.1f}' for v in place)}",
            "tomogram": f"/tomogram/{quote(name, safe='')}?picks={quote(key, safe='')}&particle={row + 1}",
            "tilts": tilts,
            "fault": fault,
        }


def _plane(plane: Plane, turn: Any, half: float, length: float) -> dict[str, Any]:
    """Where the particle's z axis points to in a picture: parts of its side, from its middle, y down."""
    across, up = _AXES[plane]
    axis = turn[:, 2] * length / (2.0 * half)
    return {"name": plane, "x": round(float(axis[across]), 4), "y": round(-float(axis[up]), 4)}


def _tilts(root: Any, name: str, place: Any) -> tuple[list[dict[str, Any]], str | None]:
    """Tilts whose images hold the place, or why there are none."""
    series = read_series(root, name)
    if series is None:
        return [], "The series has no images."
    try:
        _, visible = tilts_images.places_in_tilts(root, series, place)
    except EucentricError as error:
        return [], str(error)
    shown = [
        {"index": i, "angle": f"{t.nominal_tilt_deg:.1f}°", "dose": f"{t.pre_exposure:.0f} e/Å²"}
        for i, t in enumerate(series.tilts)
        if visible[i] and t.image is not None
    ]
    return shown, None if shown else "No image of the series shows this place."


class _PictureHandler(BaseHandler):
    """Answers with a PNG."""

    def send_png(self, data: bytes) -> None:
        self.set_header("Content-Type", "image/png")
        self.finish(data)


class ThumbnailHandler(_PictureHandler):
    """`/pictures/series/SERIES.png`."""

    async def get(self, name: str) -> None:
        self.send_png(await self.in_thread(self._picture, name))

    def _picture(self, name: str) -> bytes:
        found = images_of(self.site.root, need_series(self.site.root, name))
        if not found:
            raise HTTPError(404)
        file, site = found[0], self.site
        return site.opened(file.path, lambda: pictures.thumbnail(site.volume(file.path, file.kind)), "thumbnail")


class SliceHandler(_PictureHandler):
    """`/pictures/particle/SERIES/PICKS/N/PLANE.png?volume=KEY`."""

    async def get(self, name: str, key: str, number: str, plane: str) -> None:
        self.send_png(await self.in_thread(self._picture, name, key, number, plane, self.get_query_argument("volume")))

    def _picture(self, name: str, key: str, number: str, plane: str, volume_key: str) -> bytes:
        site = self.site
        _, particles, row = one_particle(site, name, key, number)
        file = site.recent(lambda: find_volume(site.root, name, volume_key), "volume", name, volume_key)
        volume = site.volume(file.path, file.kind)
        which = next(p for p in _PLANES if p == plane)
        cut = pictures.slice_through(volume, particles.positions_angstrom[row], shown_half_angstrom(particles), which)
        return pictures.grey_png(cut, site.opened(file.path, volume.limits, "limits"))


class TiltHandler(_PictureHandler):
    """`/pictures/particle/SERIES/PICKS/N/tilt/I.png`: a particle in tilt image I of its series, counted from 0."""

    async def get(self, name: str, key: str, number: str, tilt: str) -> None:
        self.send_png(await self.in_thread(self._picture, name, key, number, int(tilt)))

    def _picture(self, name: str, key: str, number: str, tilt: int) -> bytes:
        site = self.site
        _, particles, row = one_particle(site, name, key, number)
        series: TiltSeries | None = site.recent(lambda: read_series(site.root, name), "tilts", name)
        if series is None or tilt >= len(series.tilts):
            raise HTTPError(404)
        pixels, visible = tilts_images.places_in_tilts(site.root, series, particles.positions_angstrom[row])
        if not visible[tilt]:
            raise InputError("This place lies outside of the image.")
        half = shown_half_angstrom(particles) / series.pixel_size_angstrom
        cut = tilts_images.tilt_cut_out(site.root, series.tilts[tilt], pixels[tilt], half)
        return pictures.grey_png(cut, tilts_images.tilt_limits(cut))
