"""Meshes of triangles: PLY (text and little-endian binary), STL (text and binary), OBJ and legacy VTK. Coordinates as stored.

None of these formats has a unit. What this package writes is in A, and says so where a format has room for words.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eucentric.errors import FormatError, ShapeError
from eucentric.io.atomic import write_bytes_atomic
from eucentric.io.particle_columns import need_file
from eucentric.typing import FloatArray, PathLike

_STL_ROW = np.dtype([("normal", "<f4", 3), ("corner", "<f4", (3, 3)), ("attribute", "<u2")])
_UNIT = "coordinates in angstrom from the specimen centre"
_VTK_TYPES = {
    "char": "i1", "unsigned_char": "u1", "short": "i2", "unsigned_short": "u2", "int": "i4", "unsigned_int": "u4",
    "long": "i8", "unsigned_long": "u8", "vtktypeint64": "i8", "float": "f4", "double": "f8",
}  # fmt: skip
_PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip


def read_mesh(path: PathLike) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vertices (n, 3) x, y, z and faces (m, 3); polygons become fans of triangles.

    Raises
    ------
    InputError : no such file
    FormatError : not a mesh of a kind that is known, or damaged
    """
    place = need_file(path)
    readers = {".ply": _ply, ".stl": _stl, ".obj": _obj, ".vtk": _vtk}
    if place.suffix.lower() not in readers:
        raise FormatError(f"`{place.name}` is no mesh that is known. Expected {', '.join(readers)}.")
    try:
        vertices, faces = readers[place.suffix.lower()](place.read_bytes())
        points = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
        index = _triangles(faces)
    except (ValueError, IndexError, KeyError, TypeError, StopIteration, ArithmeticError, MemoryError) as error:
        raise FormatError(f"`{place}` is not a mesh that can be read: {type(error).__name__}: {error}.") from error
    if not len(index) or index.min() < 0 or index.max() >= len(points) or not np.isfinite(points).all():
        raise FormatError(f"`{place}` has no faces, or faces and vertices that do not fit together.")
    return points, index


def _triangles(faces: list[list[int]] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, 3), polygons as fans."""
    if isinstance(faces, np.ndarray):
        return faces.astype(np.int64).reshape(-1, 3)
    fans = [(face[0], face[k], face[k + 1]) for face in faces for k in range(1, len(face) - 1)]
    return np.array(fans, dtype=np.int64).reshape(-1, 3)


def write_mesh(
    path: PathLike,
    vertices: FloatArray,
    faces: NDArray[np.int64],
    *,
    normals: FloatArray | None = None,
    columns: Mapping[str, FloatArray] | None = None,
    comment: str = "",
) -> None:
    """Write triangles as the ending of the name says: .ply, .stl, .obj or .vtk, float32 but for .obj.

    Parameters
    ----------
    vertices, faces : (n, 3) x, y, z in A and (m, 3) numbers of vertices, counter-clockwise seen from outside
    normals : (n, 3), kept by .ply, .obj and .vtk; .stl has its own, of triangles
    columns : further numbers (n,) of vertices by name, such as curvatures: .ply and .vtk keep them
    comment : for the header, one line; .stl keeps 50 letters of it

    Raises
    ------
    FormatError : another ending, or columns for a format that keeps none
    ShapeError : no triangles, corners that are no vertices, normals or columns of another length
    InputError, BackendError : the place cannot be written to, or the disk is full
    """
    writers: dict[str, Callable[..., bytes]] = {".ply": _as_ply, ".stl": _as_stl, ".obj": _as_obj, ".vtk": _as_vtk}
    place = Path(path)
    ending = place.suffix.lower()
    if ending not in writers:
        raise FormatError(f"`{place.name}` is no mesh that can be written. Expected {', '.join(writers)}.")
    _check_mesh(vertices, faces)
    extra = dict(columns or {})
    if extra and ending in (".stl", ".obj"):
        raise FormatError(f"`{place.name}` keeps no columns such as `{next(iter(extra))}`. Write .ply or .vtk.")
    if normals is not None and normals.shape != vertices.shape:
        raise ShapeError(f"Normals of shape {normals.shape} were given for vertices of {vertices.shape}.")
    for name, values in extra.items():
        if values.shape != (len(vertices),) or not name or name.split() != [name] or not name.isascii():
            raise ShapeError(
                f"Column `{name}` has shape {values.shape}; expected a name of one word and ({len(vertices)},)."
            )
    words = " ".join(comment.split()).encode("ascii", "replace").decode()
    write_bytes_atomic(place, writers[ending](vertices, faces, normals, extra, words))


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
    _check_mesh(vertices, faces)
    words = " ".join(comment.split()).encode("ascii", "replace").decode()
    write_bytes_atomic(path, _as_ply(vertices, faces, None, {}, words))


def _check_mesh(vertices: FloatArray, faces: NDArray[np.int64]) -> None:
    if vertices.shape[1:] != (3,) or faces.shape[1:] != (3,) or not len(faces):
        raise ShapeError(f"Vertices {vertices.shape} and faces {faces.shape} make no mesh; expected (n, 3) and (m, 3).")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ShapeError(f"A face names vertex {faces.max()}, but there are {len(vertices)}.")


def _as_ply(
    vertices: FloatArray,
    faces: NDArray[np.int64],
    normals: FloatArray | None,
    columns: Mapping[str, FloatArray],
    words: str,
) -> bytes:
    names = [*"xyz", *(() if normals is None else ("nx", "ny", "nz")), *columns]
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *([f"comment {words}"] if words else []),
        f"comment {_UNIT}",
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in names),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    parts = [vertices, *(() if normals is None else (normals,)), *(v[:, None] for v in columns.values())]
    rows = np.empty(len(faces), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    body = np.ascontiguousarray(np.concatenate(parts, axis=1), dtype="<f4").tobytes() + rows.tobytes()
    return "\n".join(lines).encode("ascii") + body


def _as_stl(
    vertices: FloatArray,
    faces: NDArray[np.int64],
    normals: FloatArray | None,  # noqa: ARG001
    columns: Mapping[str, FloatArray],  # noqa: ARG001
    words: str,
) -> bytes:
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    rows = np.zeros(len(faces), dtype=_STL_ROW)
    rows["normal"] = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    rows["corner"] = corners
    # a text file would begin with `solid`
    head = f"binary STL in angstrom. {words}".encode("ascii")[:80].ljust(80)
    return head + len(faces).to_bytes(4, "little") + rows.tobytes()


def _as_obj(
    vertices: FloatArray,
    faces: NDArray[np.int64],
    normals: FloatArray | None,
    columns: Mapping[str, FloatArray],  # noqa: ARG001
    words: str,
) -> bytes:
    lines = [f"# {w}" for w in (words, _UNIT) if w]
    lines += [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertices.tolist()]
    if normals is not None:
        lines += [f"vn {x:.5f} {y:.5f} {z:.5f}" for x, y, z in normals.tolist()]
    form = "f {0} {1} {2}" if normals is None else "f {0}//{0} {1}//{1} {2}//{2}"
    lines += [form.format(*row) for row in (faces + 1).tolist()]
    return ("\n".join(lines) + "\n").encode("ascii")


def _as_vtk(
    vertices: FloatArray,
    faces: NDArray[np.int64],
    normals: FloatArray | None,
    columns: Mapping[str, FloatArray],
    words: str,
) -> bytes:
    title = (f"{words}; " if words else "") + _UNIT
    head = f"# vtk DataFile Version 3.0\n{title[:255]}\nBINARY\nDATASET POLYDATA\n"
    polygons = np.concatenate([np.full((len(faces), 1), 3), faces], axis=1)
    parts = [
        f"{head}POINTS {len(vertices)} float\n".encode("ascii"),
        np.ascontiguousarray(vertices, dtype=">f4").tobytes(),
        f"\nPOLYGONS {len(faces)} {4 * len(faces)}\n".encode("ascii"),
        np.ascontiguousarray(polygons, dtype=">i4").tobytes(),
    ]
    if normals is not None or columns:
        parts.append(f"\nPOINT_DATA {len(vertices)}".encode("ascii"))
    if normals is not None:
        parts += [b"\nNORMALS normals float\n", np.ascontiguousarray(normals, dtype=">f4").tobytes()]
    for name, values in columns.items():
        parts.append(f"\nSCALARS {name} float 1\nLOOKUP_TABLE default\n".encode("ascii"))
        parts.append(np.ascontiguousarray(values, dtype=">f4").tobytes())
    return b"".join(parts) + b"\n"


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


def _stl(data: bytes) -> tuple[FloatArray, NDArray[np.int64]]:
    count = int.from_bytes(data[80:84], "little") if len(data) >= 84 else -1
    if len(data) == 84 + 50 * count:
        corners = np.frombuffer(data, _STL_ROW, count, 84)["corner"].reshape(-1, 3).astype(np.float64)
    else:
        words = [line.split() for line in data.decode("utf-8").splitlines()]
        corners = np.array([[float(v) for v in w[1:4]] for w in words if w[:1] == ["vertex"]]).reshape(-1, 3)
    points, index = np.unique(corners, axis=0, return_inverse=True)
    return np.asarray(points), np.asarray(index.reshape(-1, 3), dtype=np.int64)


def _vtk(data: bytes) -> tuple[FloatArray, list[list[int]]]:
    """Points and polygons of a legacy file, text or binary; what comes after them is not read."""
    parts = data.split(b"\n", 3)
    if not parts[0].startswith(b"# vtk DataFile") or len(parts) < 4:
        raise ValueError("it does not begin as a VTK file does")
    binary = parts[2].strip().upper() == b"BINARY"
    body = parts[3]
    points: FloatArray | None = None
    faces: list[list[int]] | None = None
    at = 0

    def numbers(count: int, kind: str) -> FloatArray:
        nonlocal at
        if binary:
            layout = np.dtype(">" + kind)
            values = np.frombuffer(body, layout, count, at)
            at += count * layout.itemsize
            return values.astype(np.float64)
        words: list[bytes] = []
        while len(words) < count:
            end = body.find(b"\n", at)
            line = body[at:] if end < 0 else body[at:end]
            if end < 0 and len(words) + len(line.split()) < count:
                raise ValueError("it ends too early")
            words += line.split()
            at = len(body) if end < 0 else end + 1
        return np.array([float(w) for w in words[:count]])

    while at < len(body) and (points is None or faces is None):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        line = body[at:end].decode("ascii").split()
        at = end + 1
        if not line:
            continue
        key = line[0].upper()
        if key == "DATASET" and line[1].upper() != "POLYDATA":
            raise ValueError(f"a dataset of {line[1]}; expected POLYDATA")
        if key == "POINTS":
            points = numbers(3 * int(line[1]), _VTK_TYPES[line[2].lower()]).reshape(-1, 3)
        elif key in ("VERTICES", "LINES"):
            numbers(int(line[2]), "i4")
        elif key == "POLYGONS":
            faces = _counted(numbers(int(line[2]), "i4").astype(np.int64), int(line[1]))
    if points is None or faces is None:
        raise ValueError("it has no points or no polygons; files since version 5.0 keep them otherwise")
    return points, faces


def _counted(values: NDArray[np.int64], count: int) -> list[list[int]]:
    """Rows that each begin with their length."""
    out, at, line = [], 0, values.tolist()
    for _ in range(count):
        length = line[at]
        out.append(line[at + 1 : at + 1 + length])
        at += 1 + length
    return out


def _ply(data: bytes) -> tuple[FloatArray, list[list[int]] | NDArray[np.int64]]:
    header, _, body = data.partition(b"end_header\n")
    lines = [line.split() for line in header.decode("ascii").splitlines()]
    if lines[0] != ["ply"] or not body:
        raise ValueError("it does not begin as a PLY file does")
    kind = next(w[1] for w in lines if w[:1] == ["format"])
    elements: list[tuple[str, int, list[list[str]]]] = []
    for words in lines:
        if words[:1] == ["element"]:
            count = int(words[2])
            if not 0 <= count <= len(body):
                raise ValueError(f"{count} of {words[1]} do not fit into the file")
            elements.append((words[1], count, []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    vertices = np.zeros((0, 3))
    faces: list[list[int]] | NDArray[np.int64] = []
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
            if len(properties) == 1 and name == "face":
                kind_count, kind_item = (np.dtype("<" + _PLY_TYPES[p]) for p in properties[0][1:3])
                row = np.dtype([("count", kind_count), ("corners", kind_item, 3)])
                if len(body) - at >= row.itemsize * count:
                    # nearly every file: one list, of three
                    rows_ = np.frombuffer(body, row, count, at)
                    if (rows_["count"] == 3).all():
                        faces = rows_["corners"].astype(np.int64)
                        at += row.itemsize * count
                        continue
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
                    if isinstance(faces, list) and name == "face" and p[3] in ("vertex_indices", "vertex_index"):
                        faces.append([int(v) for v in values])
            continue
        layout = np.dtype([(p[1], "<" + _PLY_TYPES[p[0]]) for p in properties])
        table = np.frombuffer(body, layout, count, at)
        at += layout.itemsize * count
        if name == "vertex":
            vertices = np.stack([table[a].astype(np.float64) for a in "xyz"], axis=1)
    return vertices, faces
