"""Meshes of triangles: PLY (text and little-endian binary), STL (text and binary) and OBJ. Coordinates as stored."""

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.particle_columns import need_file
from eucentric.typing import FloatArray, PathLike

_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip


def read_mesh(path: PathLike) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vertices (n, 3) x, y, z and faces (m, 3); polygons become fans of triangles.

    Raises
    ------
    InputError : no such file
    FormatError : not a mesh of the three kinds, or damaged
    """
    place = need_file(path)
    readers = {".ply": _ply, ".stl": _stl, ".obj": _obj}
    if place.suffix.lower() not in readers:
        raise FormatError(f"`{place.name}` is no mesh that is known. Expected {', '.join(readers)}.")
    try:
        vertices, faces = readers[place.suffix.lower()](place.read_bytes())
        points = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise FormatError(f"`{place}` is not a mesh that can be read: {type(error).__name__}: {error}.") from error
    index = np.array(
        [(face[0], face[k], face[k + 1]) for face in faces for k in range(1, len(face) - 1)], dtype=np.int64
    ).reshape(-1, 3)
    if not len(index) or index.min() < 0 or index.max() >= len(points) or not np.isfinite(points).all():
        raise FormatError(f"`{place}` has no faces, or faces and vertices that do not fit together.")
    return points, index


def write_ply(path: PathLike, vertices: FloatArray, faces: NDArray[np.int64], *, comment: str = "") -> None:
    """Write triangles as binary PLY, float32.

    Parameters
    ----------
    vertices, faces : (n, 3) x, y, z and (m, 3) numbers of vertices
    comment : for the header, one line

    Raises
    ------
    ShapeError : no triangles, or corners that are no vertices
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,) or not len(faces):
        raise ShapeError(f"Vertices {vertices.shape} and faces {faces.shape} make no mesh; expected (n, 3) and (m, 3).")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ShapeError(f"A face names vertex {faces.max()}, but there are {len(vertices)}.")
    words = " ".join(comment.split()).encode("ascii", "replace").decode()
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *([f"comment {words}"] if words else []),
        f"element vertex {len(vertices)}",
        *(f"property float {a}" for a in "xyz"),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    rows = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    body = np.ascontiguousarray(vertices, dtype="<f4").tobytes() + rows.tobytes()
    write_bytes_atomic(path, "\n".join(lines).encode("ascii") + body)


def _obj(data: bytes) -> tuple[list[list[float]], list[list[int]]]:
    vertices, faces = [], []
    for line in data.decode("utf-8").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(w) for w in words[1:4]])
        elif words[:1] == ["f"]:
            index = [int(w.split("/")[0]) for w in words[1:]]
            faces.append([i - 1 if i > 0 else len(vertices) + i for i in index])
    return vertices, faces


def _stl(data: bytes) -> tuple[FloatArray, list[list[int]]]:
    count = int.from_bytes(data[80:84], "little") if len(data) >= 84 else -1
    if len(data) == 84 + 50 * count:
        layout = np.dtype([("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("attribute", "<u2")])
        corners = np.frombuffer(data, layout, count, 84)["corner"].reshape(-1, 3).astype(np.float64)
    else:
        words = [line.split() for line in data.decode("utf-8").splitlines()]
        corners = np.array([[float(v) for v in w[1:4]] for w in words if w[:1] == ["vertex"]]).reshape(-1, 3)
    points, index = np.unique(corners, axis=0, return_inverse=True)
    return np.asarray(points), index.reshape(-1, 3).tolist()


def _ply(data: bytes) -> tuple[FloatArray, list[list[int]]]:
    header, _, body = data.partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii").splitlines()]
    if lines[0] != ["ply"] or not body:
        raise ValueError("it does not begin as a PLY file does")
    kind = next(w[1] for w in lines if w[:1] == ["format"])
    elements: list[tuple[str, int, list[list[str]]]] = []
    for words in lines:
        if words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    vertices, faces = np.zeros((0, 3)), []
    if kind == "ascii":
        rows = iter(line.split() for line in body.decode("ascii").splitlines() if line.strip())
        for name, count, properties in elements:
            part = [next(rows, []) for _ in range(count)]
            if name == "vertex":
                column = [p[-1] for p in properties]
                vertices = np.array([[float(row[column.index(a)]) for a in "xyz"] for row in part]).reshape(-1, 3)
            elif name == "face":
                faces = [[int(v) for v in row[1 : 1 + int(row[0])]] for row in part]
        return vertices, faces
    if kind != "binary_little_endian":
        raise ValueError(f"format {kind}; expected ascii or binary_little_endian")
    at = 0
    for name, count, properties in elements:
        if any(p[0] == "list" for p in properties):
            for _ in range(count):
                for p in properties:
                    size = np.dtype("<" + _PLY_TYPES[p[1] if p[0] == "list" else p[0]])
                    if p[0] != "list":
                        at += size.itemsize
                        continue
                    length = int(np.frombuffer(body, size, 1, at)[0])
                    item = np.dtype("<" + _PLY_TYPES[p[2]])
                    values = np.frombuffer(body, item, length, at + size.itemsize).tolist()
                    at += size.itemsize + length * item.itemsize
                    if name == "face" and p[3] in ("vertex_indices", "vertex_index"):
                        faces.append([int(v) for v in values])
            continue
        layout = np.dtype([(p[1], "<" + _PLY_TYPES[p[0]]) for p in properties])
        table = np.frombuffer(body, layout, count, at)
        at += layout.itemsize * count
        if name == "vertex":
            vertices = np.stack([table[a].astype(np.float64) for a in "xyz"], axis=1)
    return vertices, faces
