"""`/volumes/SERIES/KEY/...`: a volume as OME-Zarr 0.5, of which no file exists.

The chunks are plain little-endian numbers: compressing noise takes longer than sending it.
"""

from typing import Any

import numpy as np
from tornado.web import HTTPError

from eucentric.viewer.handlers import ApiHandler
from eucentric.viewer.project_view import find_volume
from eucentric.viewer.volumes import CHUNK, Volume

_AXES = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]


class _VolumeHandler(ApiHandler):
    """Finds the volume of an address."""

    def volume(self, name: str, key: str) -> Volume:
        """Opened once, and again when its file was replaced."""
        root = self.site.root
        file = self.site.recent(lambda: find_volume(root, name, key), "volume", name, key)
        return self.site.volume(file.path, file.kind)


class ImageHandler(_VolumeHandler):
    """`zarr.json`: the levels and where they lie."""

    async def get(self, name: str, key: str) -> None:
        self.send(await self.in_thread(lambda: image_metadata(self.volume(name, key))))


class LevelHandler(_VolumeHandler):
    """`LEVEL/zarr.json`: one array."""

    async def get(self, name: str, key: str, level: str) -> None:
        volume = await self.in_thread(self.volume, name, key)
        if int(level) >= len(volume.levels):
            raise HTTPError(404)
        self.send(array_metadata(volume, int(level)))


class ChunkHandler(_VolumeHandler):
    """`LEVEL/c/Z/Y/X`: one chunk."""

    async def get(self, name: str, key: str, *place: str) -> None:
        level, z, y, x = (int(p) for p in place)
        try:
            data = await self.in_thread(lambda: chunk_bytes(self.volume(name, key), level, z, y, x))
        except IndexError as error:
            raise HTTPError(404) from error
        self.set_header("Content-Type", "application/octet-stream")
        self.finish(data)


def chunk_bytes(volume: Volume, level: int, z: int, y: int, x: int) -> bytes:
    """As the codec of the metadata says."""
    chunk = volume.chunk(level, z, y, x)
    return np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("<")).tobytes()


def image_metadata(volume: Volume) -> dict[str, Any]:
    """Of the group: multiscales of OME-Zarr 0.5, A from the specimen centre."""
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": list(level.voxel_zyx_angstrom)},
                {"type": "translation", "translation": list(level.first_zyx_angstrom)},
            ],
        }
        for i, level in enumerate(volume.levels)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": _AXES, "datasets": datasets}]}
    return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}


def array_metadata(volume: Volume, level: int) -> dict[str, Any]:
    """Of one array."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(volume.levels[level].shape_zyx),
        "data_type": volume.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK] * 3}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        "dimension_names": ["z", "y", "x"],
    }
