"""`eucentric segment threshold`, `faces` and `filaments`: what they write, and what they say to input they cannot use."""

import csv
import json

import numpy as np
import pytest
from scipy import ndimage

from eucentric.cli.main import run
from eucentric.io.imod_models import read_imod_model
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles
from eucentric.pipeline.label_files import read_labels

SHAPE, VOXEL = (30, 44, 60), 10.0


def grid(shape):
    return np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")


def ball(centre, radius):
    z, y, x = grid(SHAPE)
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


LONE, LEFT, RIGHT = ball((9, 10, 12), 5.0), ball((18, 30, 20), 7.0), ball((18, 30, 33), 7.0)


@pytest.fixture
def tomogram(tmp_path):
    """A ball alone and two that touch, dark in noise."""
    noise = np.random.default_rng(1).normal(0, 0.5, SHAPE)
    path = tmp_path / "TS_01.mrc"
    write_mrc(path, (noise - 3.0 * (LONE | LEFT | RIGHT)).astype(np.float32), VOXEL)
    return path


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_objects_are_split_labelled_and_measured(tomogram, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["segment", "threshold", str(tomogram), "--level", "-1.5", "--smooth", "5", "--output", str(out)]
    assert run([*command, "--split", "20", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["tomograms"]["TS_01"]
    assert told["objects"] == 3
    assert told["level"] == pytest.approx(-1.5)
    labels, voxel = read_labels(out / "labels" / "TS_01.mrc", like=tomogram)
    assert voxel == pytest.approx(VOXEL)
    rows = rows_of(out / "objects.csv")
    assert [r["label"] for r in rows] == ["1", "2", "3"]
    # x, y, z in A from voxel n // 2
    for mask, middle in ((LEFT, (-100, 80, 30)), (RIGHT, (30, 80, 30)), (LONE, (-180, -120, -60))):
        number = int(np.bincount(labels[mask])[1:].argmax()) + 1
        row = rows[number - 1]
        np.testing.assert_allclose([float(row[f"centre_{a}_angstrom"]) for a in "xyz"], middle, atol=5.0)
        assert float(row["volume_angstrom3"]) == pytest.approx(mask.sum() * VOXEL**3, rel=0.1)
        assert float(row["semi_axis_1_angstrom"]) == pytest.approx(70.0 if number < 3 else 50.0, rel=0.1)
    assert run(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command, "--overwrite"]) == 0
    assert len(rows_of(out / "objects.csv")) == 2  # both touching ones are one now


def test_protected_places_shapes_and_methods(tomogram, tmp_path):
    guard, out = tmp_path / "guard.mrc", tmp_path / "labels.tif"
    write_mrc(guard, ndimage.binary_dilation(LEFT | RIGHT, iterations=2).astype(np.float32), VOXEL)
    command = ["segment", "threshold", str(tomogram), "--output", str(out), "--overwrite", "--smooth", "10"]
    assert run([*command, "--protect", str(guard)]) == 0
    labels, _ = read_labels(out)
    assert labels[LONE].mean() > 0.8
    assert not labels[LEFT | RIGHT].any()
    assert len(rows_of(tmp_path / "labels.csv")) == 1
    expected = LONE | LEFT | RIGHT
    near = ndimage.distance_transform_edt(~expected) <= 2.5  # a smoothed face fades to the noise within 2.5 deviations
    for method in ("noise", "otsu", "hysteresis", "local"):
        assert run([*command, "--method", method, "--window", "200"]) == 0
        found = read_labels(out)[0] > 0
        assert found[near].sum() > 0.98 * found.sum(), method
        # a local level is drawn up by large bodies themselves
        assert found[expected].mean() > (0.35 if method == "local" else 0.85), method
    assert run([*command, "--min-elongation", "1.3"]) == 0
    assert read_labels(out)[0][LONE].max() == 0
    assert read_labels(out)[0][LEFT].max() == 1


def told_wrong(capsys, *arguments):
    assert run(["segment", *(str(a) for a in arguments)]) == 2
    return capsys.readouterr().err


def test_thresholds_of_bad_input(tomogram, tmp_path, capsys):
    out = tmp_path / "out"
    flat, bare, small, full = (tmp_path / f"{name}.mrc" for name in ("flat", "bare", "small", "full"))
    write_mrc(flat, np.zeros(SHAPE, dtype=np.float32), VOXEL)
    write_mrc(small, np.ones((4, 5, 6), dtype=np.float32), VOXEL)
    write_mrc(full, np.ones(SHAPE, dtype=np.float32), VOXEL)
    write_mrc(bare, read_mrc(tomogram)[0], VOXEL)
    raw = bytearray(bare.read_bytes())
    raw[40:52] = bytes(12)  # the size of the cell
    bare.write_bytes(raw)
    for method in ("noise", "otsu", "hysteresis", "local"):
        assert "no contrast" in told_wrong(capsys, "threshold", flat, "--output", out, "--method", method)
    assert "no contrast" in told_wrong(capsys, "threshold", flat, "--output", out, "--level", "0")
    assert "--pixel-size" in told_wrong(capsys, "threshold", bare, "--output", out)
    assert "positive" in told_wrong(capsys, "threshold", bare, "--output", out, "--pixel-size", "-8")
    assert "(4, 5, 6)" in told_wrong(capsys, "threshold", tomogram, "--output", out, "--protect", small)
    assert "true everywhere" in told_wrong(capsys, "threshold", tomogram, "--output", out, "--protect", full)
    assert "Every voxel is below" in told_wrong(capsys, "threshold", tomogram, "--output", out, "--level", "50")
    bright = ("--contrast", "bright", "--level", "-50")
    assert "Every voxel is above" in told_wrong(capsys, "threshold", tomogram, "--output", out, *bright)
    assert "one level" in told_wrong(capsys, "threshold", tomogram, "--output", out, "--low-level", "1")
    swapped = ("--method", "hysteresis", "--level", "-1", "--low-level", "-2")
    assert "smaller one first" in told_wrong(capsys, "threshold", tomogram, "--output", out, *swapped)
    assert "--deviations" in told_wrong(capsys, "threshold", tomogram, "--output", out, "--deviations", "-1")
    assert not (out / "objects.csv").exists()
    assert run(["segment", "threshold", str(bare), "--output", str(out), "--pixel-size", "10"]) == 0


def test_faces_give_mask_thickness_and_table(tmp_path, capsys):
    rng = np.random.default_rng(4)
    shape, voxel = (50, 70, 90), 20.0
    z, _, x = np.meshgrid(*((np.arange(n) - n // 2) * voxel for n in shape), indexing="ij")
    low, high = -200.0 + 0.2 * x, 160.0 + 0.2 * x
    volume = np.where((z > low) & (z < high), 12.0, 2.0) * ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    path, out = tmp_path / "TS_02.mrc", tmp_path / "faces"
    write_mrc(path, (volume + 0.3 * rng.normal(size=shape)).astype(np.float32), voxel)
    assert run(["segment", "faces", str(path), "--output", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["tomograms"]["TS_02"]
    across = 360.0 / np.hypot(1.0, 0.2)
    assert told["thickness_angstrom"] == pytest.approx(across, abs=1.5 * voxel)
    assert told["rises_along_x_deg"] == pytest.approx(np.rad2deg(np.arctan(0.2)), abs=1.0)
    assert told["rises_along_y_deg"] == pytest.approx(0.0, abs=1.0)
    thickness, header = read_mrc(out / "thickness" / "TS_02.mrc")
    assert thickness.shape[-2:] == shape[1:]
    assert header.voxel_size_angstrom[0] == pytest.approx(voxel)
    assert np.median(thickness) == pytest.approx(told["thickness_angstrom"], abs=0.1)
    mask, _ = read_labels(out / "masks" / "TS_02.mrc", like=path)
    inside = (z > low) & (z < high)
    assert 2 * (inside & (mask > 0)).sum() / (inside.sum() + (mask > 0).sum()) > 0.93
    assert (out / "thickness" / "TS_02.png").read_bytes()[:4] == b"\x89PNG"
    assert rows_of(out / "faces.csv")[0]["found"] == "1"
    assert run(["segment", "faces", str(path), "--output", str(tmp_path / "less"), "--margin", "-60"]) == 0
    less, _ = read_labels(tmp_path / "less" / "masks" / "TS_02.mrc")
    lost = (mask - less).sum(axis=0)
    assert np.median(lost) == pytest.approx(2 * 60 / voxel, abs=1)
    assert "leaves nothing" in told_wrong(capsys, "faces", path, "--output", tmp_path / "no", "--margin", "-900")


def test_specimens_without_faces_are_told(tmp_path, capsys):
    even, flat = tmp_path / "even.mrc", tmp_path / "flat.mrc"
    write_mrc(even, np.random.default_rng(5).normal(size=(30, 60, 60)).astype(np.float32), 20.0)
    write_mrc(flat, np.zeros((30, 60, 60), dtype=np.float32), 20.0)
    assert "No face" in told_wrong(capsys, "faces", even, "--output", tmp_path / "out")
    assert "no contrast" in told_wrong(capsys, "faces", flat, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def rod_with_gap(path):
    """A rod along x, above the middle in z and below it in y, with a gap."""
    z, y, x = np.meshgrid(*(np.arange(n) - n // 2 for n in (16, 24, 90)), indexing="ij")
    rod = (np.hypot(z - 2, y + 3) < 3.5) & (np.abs(x - 5) > 4)
    volume = np.random.default_rng(0).normal(0, 0.3, x.shape) - rod
    write_mrc(path, volume.astype(np.float32), 10.0)
    return rod


def test_pieces_of_a_filament_are_joined_and_painted(tmp_path, capsys):
    path, out = tmp_path / "TS_01.mrc", tmp_path / "out"
    rod = rod_with_gap(path)
    command = ["segment", "filaments", str(path), "--preset", "actin", "--device", "cpu"]
    assert run([*command, "--output", str(out), "--json", "--gap", "200"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])["tomograms"]["TS_01"]
    assert told["filaments"] == 1
    labels, _ = read_labels(out / "labels" / "TS_01.mrc", like=path)
    assert set(np.unique(labels)) == {0, 1}
    inner = np.s_[:, :, 8:-8]
    found, true = labels[inner] > 0, rod[inner]
    assert (found & true).sum() / true.sum() > 0.9
    assert ndimage.label(found)[1] == 1  # across the gap
    row = rows_of(out / "filaments.csv")[0]
    assert row["polarity"] == "unknown"
    assert float(row["length_angstrom"]) > 700
    assert float(row["mean_curvature_per_um"]) < 1.0
    for end in ("first", "last"):
        np.testing.assert_allclose([float(row[f"{end}_{a}_angstrom"]) for a in "yz"], [-30, 20], atol=8.0)
    points = read_particles(out / "points.star")
    np.testing.assert_allclose(points.positions_angstrom[:, 1:], [[-30.0, 20.0]] * len(points), atol=8.0)
    assert set(points.columns["rlnAnglePsiFlipRatio"]) == {0.5}
    model = read_imod_model(out / "models" / "TS_01.mod")
    assert model.names == ("actin",)
    assert model.image_size == (90, 24, 16)
    np.testing.assert_allclose(model.objects[0][0][:, 1:], [[24 // 2 - 3 + 0.5, 16 // 2 + 2]] * len(points), atol=0.8)
    guard = tmp_path / "guard.mrc"
    write_mrc(guard, ndimage.binary_dilation(rod, iterations=3).astype(np.float32), 10.0)
    assert run([*command, "--output", str(tmp_path / "none"), "--protect", str(guard)]) == 0
    assert "no filament" in capsys.readouterr().out
    assert not read_labels(tmp_path / "none" / "labels" / "TS_01.mrc")[0].any()
    assert run([*command, "--output", str(tmp_path / "low"), "--max-score", "3"]) == 0
    assert "no filament" in capsys.readouterr().out


def test_filaments_of_bad_input(tmp_path, capsys):
    path, flat, small = (tmp_path / f"{name}.mrc" for name in ("TS_01", "flat", "small"))
    rod_with_gap(path)
    write_mrc(flat, np.ones((16, 24, 60), dtype=np.float32), 10.0)
    write_mrc(small, np.ones((4, 5, 6), dtype=np.float32), 10.0)
    out = ("--output", tmp_path / "out")
    assert "--preset" in told_wrong(capsys, "filaments", path, *out)
    assert "one value" in told_wrong(capsys, "filaments", flat, "--preset", "actin", *out)
    assert "(4, 5, 6)" in told_wrong(capsys, "filaments", path, "--preset", "actin", "--protect", small, *out)
    assert "no lumen" in told_wrong(capsys, "filaments", path, "--diameter", "60", "--wall", "45", *out)
    assert "angle" in told_wrong(capsys, "filaments", path, "--preset", "actin", "--gap-angle", "120", *out)
