"""Every format of particle lists against every other, and each against its program's own formula applied to the bytes of its file.

The formulas stand in the decoders below, in plain numbers and scipy's Euler angles: upper letters turn about the axes as turned so
far, lower ones about the axes of space. They share no code with the readers. `n // 2` is the voxel of the specimen centre, from 0.
"""

import json
import sqlite3
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation as Scipy

from eucentric.io.particles import (
    IN_PIXELS_OF_IMAGES,
    ONE_TOMOGRAM,
    PARTICLE_FORMATS,
    READ_ONLY,
    read_particles,
    write_particles,
)
from eucentric.io.plain_particles import PlainWords
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

SIZES = {"TS_01": (120, 100, 50), "TS_02": (121, 97, 33), "TS_3": (64, 65, 41)}
VOXELS = {"TS_01": 8.0, "TS_02": 8.0, "TS_3": 8.0}
IMAGE_SIZES = {"TS_01": (480, 400, 200), "TS_02": (485, 389, 133), "TS_3": (256, 261, 165)}
IMAGE_PIXEL = 2.0
FAR_ANGSTROM, FAR_DEG = 0.05, 0.05
Array = NDArray[np.float64]


def frames_of(name: str) -> TomogramFrames:
    sizes = IMAGE_SIZES if name in IN_PIXELS_OF_IMAGES else SIZES
    voxels = dict.fromkeys(SIZES, IMAGE_PIXEL) if name in IN_PIXELS_OF_IMAGES else VOXELS
    return TomogramFrames(
        by_name={n: TomogramFrame(voxel_size_angstrom=voxels[n], size_xyz=size) for n, size in sizes.items()}
    )


def phantom() -> ParticleSet:
    """24 particles without symmetry in three tomograms, some at the poles of Euler angles; scores and classes survive float32."""
    rng = np.random.default_rng(7)
    names = np.array(list(SIZES))[np.arange(24) % 3]
    turned = Scipy.random(24, rng=rng).as_matrix()
    turned[:6] = Scipy.from_euler(
        "ZYZ", [[0, 0, 0], [20, 0, 30], [0, 180, 50], [-90, 90, 0], [70, 1e-3, 10], [10, 179.999, 3]], degrees=True
    ).as_matrix()
    return ParticleSet.build(
        names,
        rng.uniform(-90, 90, (24, 3)),
        rotations=turned,
        scores=rng.integers(1, 1000, 24) / 1024,
        kinds=rng.integers(1, 4, 24).astype(np.str_),
    )


@dataclass
class Row:
    """A particle as a decoder found it."""

    tomogram: str
    position: Array
    matrix: Array
    score: float | None = None
    kind: str | None = None


def star(path: Path, label: str) -> list[dict[str, str]]:
    """Rows of the loop that has a label."""
    labels: list[str] = []
    rows: list[dict[str, str]] = []
    for line in (*path.read_text().splitlines(), "data_"):
        if line.startswith("data_"):
            if rows and label in rows[0]:
                return rows
            labels, rows = [], []
        elif line.startswith("_"):
            labels.append(line.split()[0][1:])
        elif line.strip() and not line.startswith(("#", "loop_")):
            rows.append(dict(zip(labels, line.split(), strict=True)))
    raise AssertionError(label)


def numbers(row: Mapping[str, str], names: tuple[str, ...]) -> Array:
    return np.array([float(row[name]) for name in names])


CORNER = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
EULER = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


def of_relion(row: Mapping[str, str]) -> Array:
    """The inverse of a turn by rot about z, tilt about the new y, psi about the new z."""
    return Scipy.from_euler("ZYZ", numbers(row, EULER), degrees=True).as_matrix().T


def centre(name: str) -> Array:
    return np.array(SIZES[name]) // 2


def of_tom(phi: float, theta: float, psi: float) -> Array:
    """TOM, AV3, STOPGAP, PEET, PyTom: by phi about z, theta about x, psi about z, the axes of space."""
    return Scipy.from_euler("zxz", [phi, theta, psi], degrees=True).as_matrix()


def relion5(path: Path) -> list[Row]:
    """rlnCenteredCoordinate: A from the centre, whatever the size."""
    return [
        Row(
            r["rlnTomoName"],
            numbers(r, tuple(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")),
            of_relion(r),
            float(r.get("rlnAutopickFigureOfMerit", "nan")),
            r.get("rlnClassNumber"),
        )
        for r in star(path, "rlnAngleRot")
    ]


def relion4(path: Path) -> list[Row]:
    """RELION 5 makes of decentred pixels v: (v - size / 2.0) px (`ParticleSet::setParticleCoordDecenteredPixel`)."""
    return [
        Row(
            r["rlnTomoName"],
            (numbers(r, CORNER) - np.array(IMAGE_SIZES[r["rlnTomoName"]]) / 2.0) * IMAGE_PIXEL,
            of_relion(r),
            float(r.get("rlnAutopickFigureOfMerit", "nan")),
            r.get("rlnClassNumber"),
        )
        for r in star(path, "rlnAngleRot")
    ]


def relion3(path: Path) -> list[Row]:
    """Whole voxels are counted from 0."""
    out = []
    for r in star(path, "rlnAngleRot"):
        name = Path(r["rlnMicrographName"]).stem
        place = (numbers(r, CORNER) - centre(name)) * VOXELS[name]
        out.append(
            Row(name, place, of_relion(r), float(r.get("rlnAutopickFigureOfMerit", "nan")), r.get("rlnClassNumber"))
        )
    return out


def warp(path: Path) -> list[Row]:
    """A from the corner, less half the volume (`TiltSeries.GetPositionInAllTilts`)."""
    out = []
    for r in star(path, "rlnAngleRot"):
        name = r["rlnMicrographName"].removesuffix(".tomostar")
        volume = np.array(SIZES[name]) * VOXELS[name]
        place = numbers(r, CORNER) * float(r["rlnPixelSize"]) - volume / 2.0
        out.append(Row(name, place, of_relion(r), float(r.get("rlnAutopickFigureOfMerit", "nan"))))
    return out


def warp_normalized(path: Path) -> list[Row]:
    out = []
    for r in star(path, "rlnAngleRot"):
        name = r["rlnMicrographName"].removesuffix(".tomostar")
        volume = np.array(SIZES[name]) * VOXELS[name]
        out.append(Row(name, numbers(r, CORNER) * volume - volume / 2.0, of_relion(r)))
    return out


def pytom(path: Path) -> list[Row]:
    """Index from 0 in the volume that was searched; pytom's own centre is `shape // 2` (relion#1137)."""
    out = []
    for r in star(path, "rlnAngleRot"):
        name = r["rlnMicrographName"]
        place = (numbers(r, CORNER) - centre(name)) * float(r["rlnDetectorPixelSize"])
        out.append(Row(name, place, of_relion(r), float(r["rlnLCCmax"])))
    return out


def pytom_xml(path: Path) -> list[Row]:
    out = []
    for one in ElementTree.parse(path).getroot().iter("Particle"):
        pick, turn = one.find("PickPosition"), one.find("Rotation")
        name = Path(pick.attrib["Origin"]).stem
        place = (np.array([float(pick.attrib[a]) for a in "XYZ"]) - centre(name)) * VOXELS[name]
        matrix = of_tom(float(turn.attrib["Z1"]), float(turn.attrib["X"]), float(turn.attrib["Z2"]))
        score = one.find("Score")
        value = None if score is None else float(score.attrib["Value"])
        out.append(Row(name, place, matrix, value, one.find("Class").attrib["Name"]))
    return out


def tomograms_beside(path: Path) -> dict[int, str]:
    lines = path.with_name(f"{path.stem}_tomograms.doc").read_text().splitlines()
    return {int(number): name for number, name in (line.split() for line in lines)}


def dynamo(path: Path) -> list[Row]:
    """x + dx from 1; the template is turned clockwise by tdrot, tilt, narot about its own z, x, z axes."""
    names = tomograms_beside(path)
    out = []
    for v in (list(map(float, line.split())) for line in path.read_text().splitlines()):
        name = names[int(v[19])]
        place = (np.array(v[23:26]) + v[3:6] - 1 - centre(name)) * VOXELS[name]
        matrix = Scipy.from_euler("ZXZ", [-v[6], -v[7], -v[8]], degrees=True).as_matrix()
        out.append(Row(name, place, matrix, v[9], str(int(v[21]))))
    return out


def stopgap(path: Path) -> list[Row]:
    names = tomograms_beside(path)
    out = []
    for r in star(path, "orig_x"):
        name = names[int(r["tomo_num"])]
        voxel = numbers(r, ("orig_x", "orig_y", "orig_z")) + numbers(r, ("x_shift", "y_shift", "z_shift"))
        matrix = of_tom(float(r["phi"]), float(r["the"]), float(r["psi"]))
        out.append(Row(name, (voxel - 1 - centre(name)) * VOXELS[name], matrix, float(r["score"]), r["class"]))
    return out


def em(path: Path) -> list[Row]:
    names = tomograms_beside(path)
    out = []
    for v in np.fromfile(path, dtype="<f4", offset=512).reshape(-1, 20).astype(np.float64):
        name = names[int(v[4])]
        place = (v[7:10] + v[10:13] - 1 - centre(name)) * VOXELS[name]
        out.append(Row(name, place, of_tom(v[16], v[18], v[17]), v[0], str(int(v[19]))))
    return out


def imod(folder: Path) -> list[Row]:
    """Big-endian contours of each object; the middle of the first voxel of a model is 0.5, 0.5, 0 (IMOD's binary format)."""
    out = []
    for path in sorted(folder.glob("*.mod")):
        raw, name = path.read_bytes(), path.stem
        table = np.loadtxt(path.with_suffix(".csv"), delimiter=",", skiprows=1, ndmin=2)
        kind, at, row = "", 0, 0
        while at < len(raw) - 20:
            if raw[at : at + 4] == b"OBJT":
                kind = raw[at + 4 : at + 68].rstrip(b"\0").decode()
            if raw[at : at + 4] == b"CONT":
                (count,) = struct.unpack(">i", raw[at + 4 : at + 8])
                points = np.frombuffer(raw, ">f4", 3 * count, at + 20).reshape(-1, 3).astype(np.float64)
                for point in points:
                    place = (point - [0.5, 0.5, 0] + table[row, 10:13] - centre(name)) * VOXELS[name]
                    matrix = of_tom(table[row, 16], table[row, 18], table[row, 17])
                    out.append(Row(name, place, matrix, table[row, 0], kind))
                    row += 1
            at += 4
    return out


def copick(folder: Path) -> list[Row]:
    out = []
    for path in sorted(folder.glob("*.json")):
        d = json.loads(path.read_text())
        name = d["run_name"]
        for p in d["points"]:
            move = np.array(p["transformation_"])
            place = np.array([p["location"][a] for a in "xyz"]) + move[:3, 3] - centre(name) * VOXELS[name]
            out.append(Row(name, place, move[:3, :3], p["score"], d["pickable_object_name"]))
    return out


def plain(folder: Path) -> list[Row]:
    out = []
    for path in sorted(folder.glob("*.txt")):
        head, *lines = path.read_text().splitlines()
        names, _, words = head.removeprefix("# ").partition("; ")
        assert words.startswith("origin: centre; unit: A; euler: relion")
        for line in lines:
            v = dict(zip(names.split(), map(float, line.split()), strict=True))
            matrix = Scipy.from_euler("ZYZ", [v["rot"], v["tilt"], v["psi"]], degrees=True).as_matrix().T
            place = np.array([v["x"], v["y"], v["z"]])
            out.append(Row(path.stem, place, matrix, v.get("score"), str(int(v.get("class", 0)))))
    return out


def peet(path: Path) -> list[Row]:
    """A model and a motive list a tomogram beside the `.prm`; PEET keeps no classes in it."""
    return imod(path.parent)


def eman2(path: Path) -> list[Row]:
    """`coord` from the centre in voxels; `xform.align3d` takes the particle to the reference, so R^T turns the reference."""
    out = []
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        _, file, entries = line.split("\t")
        d = json.loads(entries)
        move = np.array(d["xform.align3d"]["matrix"]).reshape(3, 4)
        name = Path(file).name.partition("__")[0]
        place = (np.array(d["coord"]) - move[:, :3].T @ move[:, 3]) * VOXELS[name]
        out.append(Row(name, place, move[:, :3].T, -d.get("score", float("nan")), d["eucentric_kind"]))
    return out


def xmipp(path: Path) -> list[Row]:
    """Voxels from 0, less the shift; ZYZ angles as RELION's."""
    labels: list[str] = []
    out = []
    for line in path.read_text().splitlines():
        values = line.split()
        if line.strip().startswith("_"):
            labels.append(values[0][1:])
        elif labels and values:
            r = dict(zip(labels, values, strict=True))
            name = r["tiltSeriesId"]
            voxel = numbers(r, ("xcoor", "ycoor", "zcoor")) - numbers(r, ("shiftX", "shiftY", "shiftZ"))
            euler = numbers(r, ("angleRot", "angleTilt", "anglePsi"))
            matrix = Scipy.from_euler("ZYZ", euler, degrees=True).as_matrix().T
            out.append(Row(name, (voxel - centre(name)) * VOXELS[name], matrix, float(r["score"]), r["ref"]))
    return out


def scipion(path: Path) -> list[Row]:
    """From size / 2 in voxels (`BOTTOM_LEFT_CORNER`, `getShiftsFromOrigin`), and a matrix of 4 x 4."""
    base = sqlite3.connect(path)
    columns = dict(base.execute("select label_property, column_name from Classes").fetchall())
    rate = float(base.execute("select value from Properties where key = '_samplingRate'").fetchone()[0])
    wanted = ("_tomoId", "_x", "_y", "_z", "_eulerMatrix._matrix", "_score", "_groupId")
    rows = base.execute(f"select {', '.join(columns[w] for w in wanted)} from Objects").fetchall()
    base.close()
    out = []
    for name, x, y, z, matrix, score, group in rows:
        move = np.linalg.inv(np.array(json.loads(matrix)))
        voxel = np.array([x, y, z]) + move[:3, 3] + np.array(SIZES[name]) / 2.0 - centre(name)
        out.append(Row(name, voxel * rate, move[:3, :3], score, str(group)))
    return out


def emclarity(folder: Path) -> list[Row]:
    """Index from 1 times the binning; the matrix column after column."""
    out = []
    for path in sorted(folder.glob("*.csv")):
        name, _, binning = path.stem.rpartition("_bin")
        for v in np.loadtxt(path, ndmin=2):
            place = (v[10:13] / float(binning) - 1 - centre(name)) * VOXELS[name]
            out.append(Row(name, place, v[16:25].reshape(3, 3).T, v[0], str(int(v[25]))))
    return out


def portal(folder: Path) -> list[Row]:
    """Voxels from the middle of the first one."""
    out = []
    for path in sorted(folder.rglob("*.ndjson")):
        name = path.relative_to(folder).parts[0]
        for p in map(json.loads, path.read_text().splitlines()):
            place = (np.array([p["location"][a] for a in "xyz"]) - centre(name)) * VOXELS[name]
            out.append(
                Row(name, place, np.array(p.get("xyz_rotation_matrix", np.eye(3))), None, path.name.split("-")[0])
            )
    return out


DECODERS: dict[str, Callable[[Path], list[Row]]] = {
    "relion5": relion5,
    "optimisation-set": lambda path: relion5(path.with_name(f"{path.stem}_particles.star")),
    "relion4": relion4,
    "relion31": relion3,
    "relion3": relion3,
    "warp": warp,
    "warp-normalized": warp_normalized,
    "pytom": pytom,
    "pytom-xml": pytom_xml,
    "dynamo": dynamo,
    "stopgap": stopgap,
    "em": em,
    "imod": imod,
    "copick": copick,
    "plain": plain,
    "peet": peet,
    "eman2": eman2,
    "xmipp": xmipp,
    "scipion": scipion,
    "emclarity": emclarity,
    "portal": portal,
}
FORMATS = sorted(set(PARTICLE_FORMATS) - READ_ONLY)
NO_CLASSES = {"warp", "warp-normalized", "pytom"}
NO_SCORES = {"portal"}


def place_of(folder: Path, name: str) -> Path:
    return folder / (name if name in ONE_TOMOGRAM else f"list{PARTICLE_FORMATS[name]}")


def written(folder: Path, particles: ParticleSet, name: str) -> Path:
    path = place_of(folder, name)
    if name == "emclarity":  # its tables tell how the volume is binned
        particles = particles.with_column("rlnTomoTiltSeriesPixelSize", IMAGE_PIXEL)
    made = write_particles(path, particles, name, frames_of(name))
    assert made
    assert all(file.exists() for file in made)
    return path


def check(got: list[Row], expected: ParticleSet, *, scores: bool, classes: bool) -> None:
    """The same particles, in any order."""
    assert len(got) == len(expected)
    left = dict(enumerate(got))
    for i in range(len(expected)):
        name, place = str(expected.tomograms[i]), expected.positions_angstrom[i]
        here = {k: float(np.linalg.norm(r.position - place)) for k, r in left.items() if r.tomogram == name}
        assert here, f"{name} is lost"
        nearest = min(here, key=here.__getitem__)
        row = left.pop(nearest)
        assert here[nearest] < FAR_ANGSTROM, f"{name}: {row.position} is not {place}"
        turn = 2 * np.arcsin(min(1.0, np.linalg.norm(row.matrix - expected.rotations[i]) / np.sqrt(8)))
        assert np.rad2deg(turn) < FAR_DEG, f"{name}: {row.matrix} is not {expected.rotations[i]}"
        if scores:
            assert row.score == pytest.approx(expected.scores[i], abs=1e-6)
        if classes:
            assert row.kind == str(expected.kinds[i])


def rows_of(particles: ParticleSet) -> list[Row]:
    return [
        Row(str(n), p, r, float(s), str(k))
        for n, p, r, s, k in zip(
            particles.tomograms,
            particles.positions_angstrom,
            particles.rotations,
            particles.scores,
            particles.kinds,
            strict=True,
        )
    ]


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_bytes_of_a_list_mean_the_same_in_its_own_program(name, tmp_path):
    given = phantom()
    path = written(tmp_path, given, name)
    check(
        DECODERS[name](path), given, scores=name not in {"warp-normalized", *NO_SCORES}, classes=name not in NO_CLASSES
    )


@pytest.fixture(scope="module", autouse=True)
def no_waiting():
    """2000 files are written: the disk need not have them before the next one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eucentric.io.atomic._sync", lambda path: None)
        yield


@pytest.fixture(scope="module")
def lists(tmp_path_factory, no_waiting) -> dict[str, Path]:
    """The phantom in every format."""
    return {name: written(tmp_path_factory.mktemp(name), phantom(), name) for name in FORMATS}


@pytest.mark.parametrize("source", FORMATS)
def test_every_format_becomes_every_other(source, lists, tmp_path):
    given = phantom()
    particles = read_particles(lists[source], frames_of(source), source)
    for target in FORMATS:
        folder = tmp_path / target
        folder.mkdir()
        path = written(folder, particles, target)
        back = read_particles(path, frames_of(target), target)
        check(
            rows_of(back),
            given,
            scores=not {source, target} & NO_SCORES,
            classes=not {source, target} & NO_CLASSES,
        )
        if target in DECODERS:
            check(DECODERS[target](path), given, scores=False, classes=False)


def test_a_wrong_centre_hand_or_order_of_angles_is_noticed():
    """The check itself fails on half a voxel, a mirrored axis, an inverse and a swapped pair of angles."""
    given = phantom()
    rows = rows_of(given)
    check(rows, given, scores=True, classes=True)
    shift = np.array([4.0, 0.0, 0.0])
    wrong = (
        given.with_positions(given.positions_angstrom + shift),  # half a voxel
        given.with_positions(given.positions_angstrom * [1, 1, -1]),
        given.with_rotations(np.swapaxes(given.rotations, 1, 2)),
        given.with_rotations(given.rotations[:, ::-1, ::-1].swapaxes(1, 2)),
    )
    for particles in wrong:
        with pytest.raises(AssertionError):
            check(rows_of(particles), given, scores=False, classes=False)


PLAIN = [
    PlainWords(origin=origin, unit=unit, euler=euler, first_voxel=first)
    for origin, unit, first in (
        ("corner", "voxel", 0),
        ("corner", "voxel", 1),
        ("corner", "angstrom", None),
        ("centre", "voxel", None),
        ("centre", "angstrom", None),
    )
    for euler in ("relion", "zxz", "dynamo")
]


@pytest.mark.parametrize("words", PLAIN, ids=lambda w: f"{w.origin}-{w.unit}-{w.first_voxel}-{w.euler}")
def test_plain_numbers_mean_what_was_told(words, tmp_path):
    """Numbers made here by hand, without a first line, read with the words told; and what is written with them is the same."""
    given = phantom().select(np.arange(6, 24)).in_tomogram("TS_02")  # away from the poles
    voxel, middle = VOXELS["TS_02"], centre("TS_02")
    index = given.positions_angstrom / voxel
    if words.origin == "corner":
        index = index + middle + (words.first_voxel or 0)
    place = index * voxel if words.unit == "angstrom" else index
    turn = Scipy.from_matrix(given.rotations)
    angles = {
        "relion": lambda: turn.inv().as_euler("ZYZ", degrees=True),
        "zxz": lambda: turn.as_euler("zxz", degrees=True),
        "dynamo": lambda: -turn.as_euler("ZXZ", degrees=True),
    }[str(words.euler)]()
    path = tmp_path / "TS_02.txt"
    np.savetxt(path, np.concatenate([place, angles], axis=1))
    frames = frames_of("plain")
    check(rows_of(read_particles(path, frames, words=words)), given, scores=False, classes=False)
    write_particles(tmp_path / "again.txt", given, "plain", frames, words=words)
    raw = np.loadtxt(tmp_path / "again.txt")
    np.testing.assert_allclose(raw[:, :3], place, atol=1e-5)
    back = read_particles(tmp_path / "again.txt", TomogramFrames())  # its first line says all
    check(rows_of(back), given, scores=True, classes=True)


def test_relion_4_and_5_have_a_particle_at_one_pixel_of_odd_tomograms_too(lists):
    """RELION-5's `getPosition`: c / px + size / 2.0, with no whole-number division; RELION-4's table has that pixel itself."""
    centred = {tuple(np.round(r.matrix.ravel(), 6)): r for r in relion5(lists["relion5"])}
    assert len(centred) == len(phantom())
    for row, r in zip(star(lists["relion4"], "rlnAngleRot"), relion4(lists["relion4"]), strict=True):
        other = centred[tuple(np.round(r.matrix.ravel(), 6))]
        pixel = other.position / IMAGE_PIXEL + np.array(IMAGE_SIZES[other.tomogram]) / 2.0
        np.testing.assert_allclose(numbers(row, CORNER), pixel, atol=1e-6)
    assert any(n % 2 for size in IMAGE_SIZES.values() for n in size)
