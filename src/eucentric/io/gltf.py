"""Scenes of meshes as binary glTF 2.0 (.glb), which Blender, PowerPoint, ChimeraX and browsers open.

Lengths are A: one unit stands for one A, as `asset.extras` says, and not for the metre of the specification, at which nothing
would be seen. z is the beam, as in the tomogram. Colours are given as they look (sRGB) and stored as the specification has them
(linear). A mesh is stored once however many nodes show it.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from eucentric.errors import ShapeError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.typing import FloatArray, PathLike

_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UNSIGNED_INT, _UNSIGNED_BYTE = 5126, 5125, 5121
_VERTICES, _INDICES = 34962, 34963
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
Color = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GltfMesh:
    """Triangles, shared by all that show them."""

    vertices: Float[NDArray[np.float64], "vertex 3"]
    normals: Float[NDArray[np.float64], "vertex 3"]
    triangles: Int[NDArray[np.int64], "triangle 3"]
    colors: FloatArray | None = None
    """(vertex, 3), sRGB from 0 to 1, multiplied with that of the copy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GltfCopy:
    """A mesh at a place."""

    mesh: int
    """Number of the mesh."""
    rotation: Float[NDArray[np.float64], "3 3"]
    position: Float[NDArray[np.float64], "3"]
    color: Color
    """sRGB, 0 to 1."""
    name: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """Further facts, for JSON."""


def write_gltf(
    path: PathLike,
    meshes: Sequence[GltfMesh],
    copies: Sequence[GltfCopy],
    *,
    name: str,
    generator: str,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a scene.

    Parameters
    ----------
    name : of the scene
    generator : program that made it
    about : further facts of the scene, such as its legend, for JSON

    Raises
    ------
    ShapeError : arrays that do not fit together, or nothing to be shown
    """
    for mesh in meshes:
        count = len(mesh.vertices)
        whole = len(mesh.triangles) and mesh.triangles.min() >= 0 and mesh.triangles.max() < count
        if not count or not whole or mesh.normals.shape != mesh.vertices.shape:
            raise ShapeError("A mesh without triangles, or with numbers of vertices that it does not have, was given.")
    if not copies or any(not 0 <= c.mesh < len(meshes) for c in copies):
        raise ShapeError("A scene needs one copy at least, and the mesh of each.")
    binary = _Binary()
    stored = [_stored(mesh, binary) for mesh in meshes]
    materials: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    numbers: dict[tuple[int, Color], int] = {}
    nodes: list[dict[str, Any]] = [{"name": name, "children": list(range(1, len(copies) + 1))}]
    for copy in copies:
        key = (copy.mesh, copy.color)
        if key not in numbers:
            numbers[key] = len(shown)
            primitive = stored[copy.mesh] | {"material": _material(materials, copy.color), "mode": 4}
            shown.append({"primitives": [primitive]})
        nodes.append(_node(copy, numbers[key]))
    tree = {
        "asset": {"version": "2.0", "generator": generator, "extras": {"unit": "angstrom", "up": "z"}},
        "scene": 0,
        "scenes": [{"name": name, "nodes": [0], "extras": dict(about or {})}],
        "nodes": nodes,
        "meshes": shown,
        "materials": materials,
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": len(binary.data)}],
    }
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = bytes(binary.data)
    whole_length = 12 + 8 + len(text) + 8 + len(data)
    write_bytes_atomic(
        path,
        struct.pack("<III", _MAGIC, _VERSION, whole_length)
        + struct.pack("<II", len(text), _JSON)
        + text
        + struct.pack("<II", len(data), _BINARY)
        + data,
    )


class _Binary:
    """The buffer, each part of it at a multiple of four bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: NDArray[Any], component: int, target: int, **more: Any) -> int:
        """Store an array; the number of its accessor."""
        raw = np.ascontiguousarray(values).tobytes()
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw), "target": target})
        self.data += raw + b"\0" * (-len(raw) % 4)
        kind = _TYPES[1 if values.ndim == 1 else values.shape[1]]
        entry = {"bufferView": len(self.views) - 1, "componentType": component, "count": len(values), "type": kind}
        self.accessors.append(entry | more)
        return len(self.accessors) - 1


def _stored(mesh: GltfMesh, binary: _Binary) -> dict[str, Any]:
    vertices = np.asarray(mesh.vertices, dtype="<f4")
    # of float32 values as they are stored, as the specification asks
    ends = {"min": [float(v) for v in vertices.min(axis=0)], "max": [float(v) for v in vertices.max(axis=0)]}
    attributes = {
        "POSITION": binary.add(vertices, _FLOAT, _VERTICES, **ends),
        "NORMAL": binary.add(_unit(mesh.normals), _FLOAT, _VERTICES),
    }
    if mesh.colors is not None:
        linear = np.ones((len(vertices), 4))
        linear[:, :3] = _linear(mesh.colors)
        bytes_ = np.round(255.0 * linear).astype(np.uint8)
        attributes["COLOR_0"] = binary.add(bytes_, _UNSIGNED_BYTE, _VERTICES, normalized=True)
    index = np.asarray(mesh.triangles, dtype="<u4").reshape(-1)
    return {"attributes": attributes, "indices": binary.add(index, _UNSIGNED_INT, _INDICES)}


def _unit(normals: FloatArray) -> NDArray[np.float32]:
    """Of unit length in float32, also where none was known."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    whole = np.where(length > 1e-6, normals / np.maximum(length, 1e-6), [0.0, 0.0, 1.0])
    return whole.astype("<f4")


def _material(materials: list[dict[str, Any]], color: Color) -> int:
    """The number of the material of a colour; made where there is none."""
    factor = [*(round(float(v), 6) for v in _linear(np.array(color))), 1.0]
    entry = {"pbrMetallicRoughness": {"baseColorFactor": factor, "metallicFactor": 0.0, "roughnessFactor": 0.7}}
    if entry not in materials:
        materials.append(entry)
    return materials.index(entry)


def _node(copy: GltfCopy, mesh: int) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": copy.name,
        "mesh": mesh,
        "translation": [round(float(v), 4) for v in copy.position],
        "rotation": _quaternion(copy.rotation),
    }
    return out | ({"extras": dict(copy.about)} if copy.about else {})


def _quaternion(matrix: FloatArray) -> list[float]:
    """x, y, z, w of unit length."""
    return [float(v) for v in Rotation.from_matrix(matrix).as_quat()]


def _linear(color: FloatArray) -> FloatArray:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    c = np.clip(np.asarray(color, dtype=np.float64), 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
