"""`eucentric segment mesh`, `distances`, `count` and `convert`: answers that are formulas, in files; input that cannot be used."""

import csv
import json

import numpy as np
import pytest
from cyclopts import App

from eucentric.cli.segment_geometry_commands import count, distances, mesh
from eucentric.cli.segment_label_commands import convert
from eucentric.errors import InputError, ShapeError
from eucentric.io.meshes import read_mesh
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.models import ParticleSet
from eucentric.pipeline.label_files import read_labels
from eucentric.pipeline.surface_files import write_surface_files
from eucentric.pipeline.surface_params import SurfaceParams

VOXEL = 10.0
SHAPE = (44, 57, 70)
RADIUS = 120.0
CENTRE = np.array([-170.0, 90.0, -20.0])
HEIGHT = -60.0
"""Of the flat sheet, along y; its normal is y."""
GAP = CENTRE[1] - RADIUS - HEIGHT


def places():
    z, y, x = np.indices(SHAPE)
    return np.stack([(a - n // 2) * VOXEL for a, n in zip((x, y, z), SHAPE[::-1], strict=True)], -1)


def shell_and_sheet():
    """A vesicle, label 2, and a flat sheet below it, label 5, that reaches out of the volume along x."""
    at = places()
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[np.abs(at[..., 1] - HEIGHT) < 16] = 5
    labels[(at[..., 2] < -150) | (at[..., 2] > 150)] = 0
    labels[np.abs(np.linalg.norm(at - CENTRE, axis=-1) - RADIUS) < 17] = 2
    return labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    write_mrc(folder / "TS_07.mrc", shell_and_sheet(), VOXEL, "int16")
    at = places()
    density = np.zeros(SHAPE, dtype=np.float32)
    for side in (-20.0, 20.0):
        for away in (np.linalg.norm(at - CENTRE, axis=-1) - RADIUS, at[..., 1] - HEIGHT):
            density -= np.exp(-0.5 * ((away - side) / 9.0) ** 2)
    write_mrc(folder / "density.mrc", density, VOXEL)
    return folder


def do(*words):
    app = App(result_action="return_value")
    for command in (mesh, distances, count, convert):
        app.command(command)
    return app([str(w) for w in words], exit_on_error=False, print_error=False)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_meshes_points_and_measures(folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["mesh", folder / "TS_07.mrc", "--output", out, "--tomogram", folder / "density.mrc", "--name", "TS_07"]
    assert do(*words, "--spacing-angstrom", 40, "--curvature-radius-angstrom", 60, "--vertices", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [p.rsplit("/", 1)[1] for p in told["meshes"]] == ["TS_07_02.ply", "TS_07_05.ply"]
    ball, sheet = rows_of(out / "measures.csv")
    assert (ball["tomogram"], ball["label"], ball["closed"], sheet["closed"]) == ("TS_07", "2", "1", "0")
    assert float(ball["ball_radius_angstrom"]) == pytest.approx(RADIUS, abs=1.5)
    assert [float(ball[f"centre_{a}_angstrom"]) for a in "xyz"] == pytest.approx(CENTRE, abs=1.0)
    assert float(ball["area_angstrom2"]) == pytest.approx(4 * np.pi * RADIUS**2, rel=0.02)
    assert float(ball["enclosed_volume_angstrom3"]) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)
    assert float(ball["mean_curvature_per_angstrom"]) == pytest.approx(1 / RADIUS, rel=0.03)
    assert float(ball["greatest_mean_curvature_per_angstrom"]) == pytest.approx(1 / RADIUS, rel=0.15)
    assert float(ball["thickness_angstrom"]) == pytest.approx(40.0, abs=2.0)
    assert sheet["enclosed_volume_angstrom3"] == "nan"
    assert abs(float(sheet["mean_curvature_per_angstrom"])) < 2e-4
    assert float(sheet["centre_y_angstrom"]) == pytest.approx(HEIGHT, abs=0.5)
    vertices, _ = read_mesh(out / "meshes" / "TS_07_02.ply")
    assert np.linalg.norm(vertices - CENTRE, axis=1) == pytest.approx(RADIUS, abs=3.0)
    assert {"thickness_angstrom", "mean_curvature_per_angstrom"} <= set(rows_of(out / "vertices.csv")[0])
    points = read_particles(out / "points.star")
    assert points.tomogram_names == ("TS_07",)
    on_ball = points.columns["eucInstance"] == 2
    away = points.positions_angstrom[on_ball] - CENTRE
    assert np.linalg.norm(away, axis=1) == pytest.approx(RADIUS, abs=3.0)
    outwards = np.einsum("ni,ni->n", points.directions[on_ball], away / np.linalg.norm(away, axis=1, keepdims=True))
    assert outwards.min() > 0.97
    assert np.abs(points.directions[~on_ball][:, 1]).min() > 0.97
    assert 0 < on_ball.sum() < len(points)
    with pytest.raises(InputError, match="--overwrite"):
        do(*words)
    assert do(*words, "--overwrite", "--only", 2, "--format", "glb") == 0
    assert (out / "meshes" / "TS_07.glb").is_file()
    assert len(rows_of(out / "measures.csv")) == 1


def test_bodies_and_pieces(tmp_path):
    at = places()
    labels = np.zeros(SHAPE, dtype=np.int16)
    labels[np.linalg.norm(at - CENTRE, axis=-1) < 120] = 1
    labels[np.linalg.norm(at - [200.0, -150.0, 60.0], axis=-1) < 80] = 1
    write_mrc(tmp_path / "TS_01.mrc", labels, VOXEL, "int16")
    words = ["mesh", tmp_path / "TS_01.mrc", "--kind", "bodies", "--format", "stl"]
    assert do(*words, "--output", tmp_path / "one") == 0
    assert rows_of(tmp_path / "one" / "measures.csv")[0]["pieces"] == "2"
    assert do(*words, "--output", tmp_path / "two", "--separate") == 0
    first, second = rows_of(tmp_path / "two" / "measures.csv")
    assert float(first["equivalent_radius_angstrom"]) == pytest.approx(120, rel=0.02)
    assert [float(second[f"centre_{a}_angstrom"]) for a in "xyz"] == pytest.approx([200, -150, 60], abs=1.0)
    # 4 pi 80^2 = 80 425
    assert do(*words, "--output", tmp_path / "large", "--separate", "--min-area-angstrom2", 100_000) == 0
    assert len(rows_of(tmp_path / "large" / "measures.csv")) == 1


def test_distances_contacts_and_sides(folder, tmp_path, capsys):
    outside = CENTRE + np.array([0.0, 0.0, RADIUS + 30.0])
    inside = CENTRE + np.array([40.0, 0.0, 0.0])
    below = np.array([250.0, HEIGHT - 45.0, 10.0])
    write_particles(tmp_path / "p.star", ParticleSet.build("TS_07", [outside, inside, below], kinds="spike"), "relion5")
    out = tmp_path / "out"
    words = ["distances", folder / "TS_07.mrc", "--output", out, "--particles", tmp_path / "p.star"]
    assert do(*words, "--contact-angstrom", GAP + 20, "--within", 150) == 0
    near = rows_of(out / "distances.csv")
    assert [(r["label"], r["other_label"]) for r in near] == [("2", "5"), ("5", "2")]
    for row in near:
        assert float(row["least_distance_angstrom"]) == pytest.approx(GAP, abs=2.0)
        assert float(row["nearest_x_angstrom"]) == pytest.approx(CENTRE[0], abs=25.0)
    sites = {r["label"]: r for r in rows_of(out / "contacts.csv")}
    # a cap of height h has area 2 pi R h; on the plane, the places nearer than h + gap lie in a circle
    assert float(sites["2"]["area_angstrom2"]) == pytest.approx(2 * np.pi * RADIUS * 20, rel=0.1)
    circle = np.pi * ((RADIUS + GAP + 20) ** 2 - (RADIUS + GAP) ** 2)
    assert float(sites["5"]["area_angstrom2"]) == pytest.approx(circle, rel=0.1)
    found = rows_of(out / "particles.csv")
    assert [r["label"] for r in found] == ["2", "2", "5"]
    assert [r["side"] for r in found[:2]] == ["outside", "inside"]
    assert [float(r["signed_distance_angstrom"]) for r in found[:2]] == pytest.approx([30, -80], abs=2.0)
    assert float(found[2]["distance_angstrom"]) == pytest.approx(45, abs=2.0)
    assert "2 to 5" not in capsys.readouterr().out
    assert do("distances", folder / "TS_07.mrc", "--output", tmp_path / "far", "--within", 20) == 0
    assert "No two objects" in capsys.readouterr().out


def test_distances_to_other_labels(folder, tmp_path):
    labels = shell_and_sheet()
    for number in (2, 5):
        write_mrc(tmp_path / f"{number}.mrc", np.where(labels == number, 1, 0), VOXEL, "int16")
    words = ["distances", tmp_path / "2.mrc", "--output", tmp_path / "out", "--with", tmp_path / "5.mrc"]
    assert do(*words) == 0
    (row,) = rows_of(tmp_path / "out" / "distances.csv")
    assert float(row["least_distance_angstrom"]) == pytest.approx(GAP, abs=2.0)
    with pytest.raises(InputError, match="holds one object"):
        do("distances", tmp_path / "2.mrc", "--output", tmp_path / "none")
    write_mrc(tmp_path / "cut.mrc", labels[:, :, 1:], VOXEL, "int16")
    with pytest.raises(ShapeError, match="labels of one tomogram"):
        do(*words[:-1], tmp_path / "cut.mrc", "--overwrite")


def spikes(seed=1):
    """Forty on one cap of the vesicle 30 A out, three on the flat sheet, one nowhere."""
    generator = np.random.default_rng(seed)
    along = generator.normal(size=(400, 3))
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    cap = along[along[:, 2] > 0.75][:40]
    on_sheet = np.array([[200.0, HEIGHT - 20, 10], [240.0, HEIGHT + 20, -60], [150.0, HEIGHT + 5, 90]])
    points = np.concatenate([CENTRE + (RADIUS + 30) * cap, on_sheet, [[300.0, 250.0, 180.0]]])
    return ParticleSet.build("TS_07", points, kinds=["spike"] * 40 + ["channel"] * 4)


def test_counts_for_each_parent_and_clustering(folder, tmp_path, capsys):
    write_particles(tmp_path / "p.star", spikes(), "relion5")
    out = tmp_path / "out"
    words = ["count", tmp_path / "p.star", "--parents", folder, "--output", out, "--limit-angstrom", 60]
    assert do(*words, "--controls", 99) == 0
    text = capsys.readouterr().out
    assert "parent 2: 40 spike" in text
    assert "1 of 44 particles have no parent" in text
    assert "TS_07, spike: 40 objects" in text
    assert "clustered" in text
    counts = {(r["label"], r["kind"]): r for r in rows_of(out / "counts.csv")}
    assert {k: int(r["count"]) for k, r in counts.items()} == {
        ("2", "spike"): 40, ("2", "channel"): 0, ("5", "spike"): 0, ("5", "channel"): 3,
    }  # fmt: skip
    # Garwood's interval of 3 at 95%
    assert float(counts["5", "channel"]["count_low"]) == pytest.approx(0.6187, abs=1e-3)
    assert float(counts["5", "channel"]["count_high"]) == pytest.approx(8.7673, abs=1e-3)
    objects = rows_of(out / "objects.csv")
    assert objects[-1]["parent"] == "0"
    assert float(objects[0]["signed_distance_angstrom"]) == pytest.approx(30, abs=3)
    statistics = {r["kind"]: r for r in rows_of(out / "statistics.csv")}
    assert float(statistics["spike"]["nearest_p_value"]) == pytest.approx(0.01)
    assert float(statistics["spike"]["nearest_ratio"]) < 0.8
    assert (out / "pairs.png").stat().st_size > 5000
    assert len(rows_of(out / "pairs.csv")) == 2 * 20


def test_controls_in_a_mask(folder, tmp_path, capsys):
    at = places()
    half = at[..., 0] < 0
    generator = np.random.default_rng(4)
    inside = at[half][generator.choice(half.sum(), 60, replace=False)]
    write_particles(tmp_path / "p.star", ParticleSet.build("TS_07", inside), "relion5")
    write_mrc(tmp_path / "mask.mrc", half.astype(np.int16), VOXEL, "int16")
    words = ["count", tmp_path / "p.star", "--parents", folder / "TS_07.mrc", "--region", "volume", "--controls", 99]
    assert do(*words, "--output", tmp_path / "mask", "--mask", tmp_path / "mask.mrc") == 0
    (masked,) = rows_of(tmp_path / "mask" / "statistics.csv")
    assert do(*words, "--output", tmp_path / "all") == 0
    (free,) = rows_of(tmp_path / "all" / "statistics.csv")
    # in the half that they fill they are by chance; in the whole they are crowded
    assert float(masked["nearest_p_value"]) > 0.05
    assert float(free["nearest_p_value"]) == pytest.approx(0.01)
    assert "ripley_l_minus_r_angstrom" in rows_of(tmp_path / "all" / "pairs.csv")[0]
    assert "not told from chance" in capsys.readouterr().out
    with pytest.raises(InputError, match="--region volume"):
        do(*words[:4], "--output", tmp_path / "x", "--mask", tmp_path / "mask.mrc")
    write_mrc(tmp_path / "full.mrc", np.ones(SHAPE, np.int16), VOXEL, "int16")
    with pytest.raises(InputError, match="is full"):
        do(*words, "--output", tmp_path / "x", "--mask", tmp_path / "full.mrc")
    write_mrc(tmp_path / "other.mrc", half[1:].astype(np.int16), VOXEL, "int16")
    with pytest.raises(ShapeError, match="expected the same"):
        do(*words, "--output", tmp_path / "x", "--mask", tmp_path / "other.mrc")


@pytest.mark.parametrize("command", ["mesh", "distances", "count"])
def test_labels_that_cannot_be_used(command, folder, tmp_path):
    write_particles(tmp_path / "p.star", spikes(), "relion5")

    def use(name, *more):
        if command == "count":
            more = ("--controls", 19, *more)
            return do("count", tmp_path / "p.star", "--parents", tmp_path / name, "--output", tmp_path / "out", *more)
        return do(command, tmp_path / name, "--output", tmp_path / "out", *more)

    for name, values, words in (("empty", 0, "every voxel is 0"), ("full", 1, "is full")):
        write_mrc(tmp_path / f"{name}.mrc", np.full(SHAPE, values), VOXEL, "int16")
        with pytest.raises(InputError, match=words):
            use(f"{name}.mrc")
    convert(folder / "TS_07.mrc", tmp_path / "bare.tif")
    with pytest.raises(InputError, match="--pixel-size"):
        use("bare.tif")
    with pytest.raises(InputError, match="positive"):
        use("bare.tif", "--pixel-size", -2)
    assert use("bare.tif", "--pixel-size", VOXEL, "--name", "TS_07") == 0
    if command != "count":
        write_mrc(tmp_path / "cut.mrc", np.zeros((9, 9, 9), "f4"), VOXEL)
        with pytest.raises(ShapeError, match="expected the same"):
            use("bare.tif", "--tomogram", tmp_path / "cut.mrc", "--overwrite")


def test_other_input_that_cannot_be_used(folder, tmp_path):
    write_particles(tmp_path / "p.star", spikes().with_tomograms("TS_09"), "relion5")
    with pytest.raises(InputError, match=r"in tomogram TS_07; there are TS_09"):
        do("distances", folder / "TS_07.mrc", "--output", tmp_path / "a", "--particles", tmp_path / "p.star")
    with pytest.raises(InputError, match=r"expected TS_09\.mrc"):
        do("count", tmp_path / "p.star", "--parents", folder, "--output", tmp_path / "a")
    with pytest.raises(InputError, match=r"No voxel has label 3\. There are: 2, 5"):
        do("mesh", folder / "TS_07.mrc", "--output", tmp_path / "a", "--only", 3)
    dots = np.zeros(SHAPE, np.int16)
    dots[3, 4, 5] = 1
    write_mrc(tmp_path / "dots.mrc", dots, VOXEL, "int16")
    with pytest.raises(InputError, match="No label has a surface"):
        do("mesh", tmp_path / "dots.mrc", "--output", tmp_path / "a")
    flat = np.zeros(SHAPE, dtype=np.float32)
    write_mrc(tmp_path / "flat.mrc", flat, VOXEL)
    with pytest.raises(InputError, match="no contrast"):
        do("mesh", folder / "TS_07.mrc", "--output", tmp_path / "a", "--tomogram", tmp_path / "flat.mrc")
    with pytest.raises(ShapeError, match="expected the same"):
        write_surface_files(shell_and_sheet(), VOXEL, tmp_path / "m", "a", SurfaceParams(), tomogram=flat[1:])


def test_labels_change_their_format(folder, tmp_path, capsys):
    labels = shell_and_sheet()
    assert do("convert", folder / "TS_07.mrc", tmp_path / "a.mod", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["labels"] == 2
    assert do("convert", tmp_path / "a.mod", tmp_path / "b.zarr", "--like", folder / "TS_07.mrc") == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "b.zarr")[0], labels)
    assert do("convert", tmp_path / "b.zarr", tmp_path / "c.tif") == 0
    with pytest.raises(InputError, match="--pixel-size"):
        do("convert", tmp_path / "c.tif", tmp_path / "d.mrc")
    assert do("convert", tmp_path / "c.tif", tmp_path / "d.mrc", "--pixel-size", 12.5) == 0
    again, header = read_mrc(tmp_path / "d.mrc")
    np.testing.assert_array_equal(again, labels)
    assert (header.pixel_size_angstrom, header.mode) == (12.5, 1)
    with pytest.raises(InputError, match="--overwrite"):
        do("convert", tmp_path / "c.tif", tmp_path / "d.mrc", "--pixel-size", 12.5)
    write_mrc(tmp_path / "empty.mrc", np.zeros(SHAPE), VOXEL, "int16")
    with pytest.raises(InputError, match="holds no label"):
        do("convert", tmp_path / "empty.mrc", tmp_path / "e.tif")
