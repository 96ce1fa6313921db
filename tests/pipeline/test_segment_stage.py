"""Membranes as a stage of a project: what it writes, what it depends on, one bad series beside a good one, the report."""

import csv

import numpy as np
import pytest

from eucentric.cli.main import run as run_command
from eucentric.io.meshes import read_mesh
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record
from eucentric.pipeline.runner import run_project, run_stage
from eucentric.pipeline.stage import ItemStage, Outcome
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.stages.segment import SegmentMembranes

SHAPE, VOXEL, RADIUS = (48, 64, 80), 12.0, 200.0
CENTRE = np.array([-150.0, 60.0, 10.0])  # x, y, z in A


class Given(ItemStage):
    """Stands for all that makes tomograms."""

    name, params, version, after = "reconstruct", Frozen, 1, "import"

    def reads(self, series, params, root):
        return (root / "made" / f"{series}.mrc",)

    def run(self, series, params, store, device):
        place = store.output("tomograms", f"{series.name}.mrc")
        place.write_bytes((store.root / "made" / f"{series.name}.mrc").read_bytes())
        tomogram = Tomogram(path=store.relative(place), voxel_size_angstrom=VOXEL, shape_zyx=SHAPE)
        return Outcome(series=series.replace(tomogram=tomogram))


STAGES = (Given, SegmentMembranes, WriteReport)


def vesicle():
    """A bilayer as a tomogram shows it: two dark leaflets, noise."""
    z, y, x = np.meshgrid(*((np.arange(n) - n // 2) * VOXEL for n in SHAPE), indexing="ij")
    away = np.sqrt((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (z - CENTRE[2]) ** 2) - RADIUS
    matter = np.exp(-0.5 * ((np.abs(away) - 18.5) / 8.0) ** 2) + 0.4 * np.exp(-0.5 * (away / 10.0) ** 2)
    noise = np.random.default_rng(4).normal(size=SHAPE)
    return (-2.0 * matter + 0.6 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A project of two series whose tomograms are segmented and reported; the second holds one value alone."""
    root = tmp_path_factory.mktemp("membranes")
    (root / "made").mkdir()
    write_mrc(root / "made" / "good.mrc", vesicle(), VOXEL)
    write_mrc(root / "made" / "flat.mrc", np.ones(SHAPE, dtype=np.float32), VOXEL)
    tilts = tuple(
        Tilt(
            nominal_tilt_deg=a,
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=a, z_rot_deg=0.0),
        )
        for i, a in enumerate((-40.0, -20.0, 0.0, 20.0, 40.0))
    )
    every = [
        TiltSeries(name=name, pixel_size_angstrom=6.0, image_shape=(128, 160), tilts=tilts) for name in ("good", "flat")
    ]
    write_tilt_series_set(root / "import" / "tilt_series.star", every, root)
    Plan.write_default(root, {"report": {"dots_per_inch": 30, "layer_count": 1}, "segment": {"mirrors": 1}}, STAGES)
    run_project(root, device="cpu", workers=1, stages=STAGES, until="segment")
    return root


def ask(root, stage, output=None, **changes):
    return run_stage(root, stage, changes, output, device="cpu", workers=1, stages=STAGES)


def test_labels_points_mesh_and_measures_are_of_the_vesicle(place):
    labels, header = read_mrc(place / "segment" / "labels" / "good.mrc")
    assert labels.shape == SHAPE
    assert labels.dtype == np.int16
    assert header.pixel_size_angstrom == pytest.approx(VOXEL)
    at = (np.argwhere(labels == 1)[:, ::-1] - np.array(SHAPE[::-1]) // 2) * VOXEL
    assert np.linalg.norm(at.mean(0) - CENTRE) < VOXEL
    away = np.abs(np.linalg.norm(at - CENTRE, axis=1) - RADIUS)
    assert away.max() < 60.0
    assert len(at) > 0.7 * 4.0 * np.pi * RADIUS**2 * 52.0 / VOXEL**3
    points = read_particles(place / "segment" / "points.star")
    assert set(points.tomograms) == {"good"}
    out = (points.positions_angstrom - CENTRE) / np.linalg.norm(points.positions_angstrom - CENTRE, axis=1)[:, None]
    assert np.median((points.rotations[:, :, 2] * out).sum(1)) > 0.95
    with (place / "segment" / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["tomogram"] == "good"
    assert float(rows[0]["ball_radius_angstrom"]) == pytest.approx(RADIUS, rel=0.03)
    vertices, faces = read_mesh(next((place / "segment" / "meshes").glob("good_*.ply")))
    assert len(faces) > 500
    assert np.median(np.abs(np.linalg.norm(vertices - CENTRE, axis=1) - RADIUS)) < 0.6 * VOXEL
    score = read_mrc(place / "segment" / "scores" / "good.mrc")[0]
    assert score.min() >= 0.0
    assert 0.8 < score.max() <= 1.0


def test_one_tomogram_without_contrast_is_told_and_stops_no_other(place):
    failed = read_record(place / "segment", "flat")
    assert failed is not None
    assert not failed.is_done
    assert "constant" in (failed.message or "")
    done = read_record(place / "segment", "good")
    assert done is not None
    assert done.metrics["sheets"] >= 1


def test_nothing_is_done_twice_and_the_mask_counts(place):
    assert ask(place, "segment").stages["segment"].unchanged == 1
    mask = np.zeros(SHAPE, dtype=np.int8)
    mask[:, :, : SHAPE[2] // 2] = 1  # all of the vesicle
    write_mrc(place / "mask.mrc", mask, VOXEL, "int8", limits=(0.0, 1.0))
    ask(place, "segment", "segment/protected", protect="mask.mrc")
    labels = read_mrc(place / "segment" / "protected" / "labels" / "good.mrc")[0]
    assert not labels[:, :, : SHAPE[2] // 2 - 4].any()
    write_mrc(place / "mask.mrc", np.ones(SHAPE, dtype=np.float32), VOXEL)
    ask(place, "segment", "segment/protected", protect="mask.mrc")
    failed = read_record(place / "segment" / "protected", "good")
    assert "protects every voxel" in (failed.message or "")


def test_the_report_shows_them(place):
    run_stage(place, "report", {}, None, device="cpu", workers=1, stages=STAGES)
    page = (place / "report" / "good.html").read_text(encoding="utf-8")
    assert "Membranes in space" in page
    assert "radius of its ball (nm)" in page
    assert "Nothing could be segmented" in (place / "report" / "flat.html").read_text(encoding="utf-8")
    index = (place / "report" / "index.html").read_text(encoding="utf-8")
    assert "Membranes were segmented by a 3D U-Net" in index


def test_one_tomogram_from_the_command_line(place, tmp_path, capsys):
    tomogram = tmp_path / "alone.mrc"
    write_mrc(tomogram, vesicle()[:, :, :48], VOXEL)
    told = ["segment", str(tomogram), "--output", str(tmp_path / "made"), "--mirrors", "1", "--meshes", "stl"]
    assert run_command(told) == 0
    assert "1 membranes of" in capsys.readouterr().out
    assert (tmp_path / "made" / "labels" / "alone.mrc").is_file()
    assert len(list((tmp_path / "made" / "meshes").glob("alone_*.stl"))) == 1
    assert run_command(told) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_tomogram_without_voxel_size_is_told(tmp_path, capsys):
    tomogram = tmp_path / "none.mrc"
    write_mrc(tomogram, vesicle(), VOXEL)
    raw = bytearray(tomogram.read_bytes())
    raw[40:52] = bytes(12)  # cell lengths
    tomogram.write_bytes(raw)
    assert run_command(["segment", str(tomogram)]) == 2
    assert "--pixel-size" in capsys.readouterr().err


def test_tables_of_a_series_without_membranes_go_first_and_spoil_nothing(place, tmp_path):
    folder = tmp_path / "segment"
    (folder / "measures").mkdir(parents=True)
    (folder / "measures" / "empty.csv").write_text("label\n")
    kept = (place / "segment" / "measures" / "good.csv").read_text()
    (folder / "measures" / "good.csv").write_text(kept)
    SegmentMembranes().gather(folder, ["empty", "good"])
    with (folder / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["tomogram"] for row in rows} == {"good"}
    assert all(float(row["area_angstrom2"]) > 0 for row in rows)
    SegmentMembranes().gather(folder, ["empty"])
    assert (folder / "measures.csv").read_text().splitlines() == ["tomogram,label"]


def test_what_another_run_left_of_more_membranes_goes(tmp_path, capsys):
    tomogram, made = tmp_path / "alone.mrc", tmp_path / "made"
    write_mrc(tomogram, vesicle()[:, :, :48], VOXEL)
    told = ["segment", str(tomogram), "--output", str(made), "--mirrors", "1"]
    assert run_command(told) == 0
    for name in ("meshes/alone_07.ply", "meshes/other_01.ply", "meshes/alone_b_01.ply"):
        (made / name).write_text("of another run")
    masks = tmp_path / "masks"
    masks.mkdir()
    soft = np.zeros((SHAPE[0], SHAPE[1], 48), dtype=np.float32)
    soft[:, : SHAPE[1] // 2 + 8] = 0.4
    write_mrc(masks / "alone.mrc", soft, VOXEL)
    assert run_command([*told, "--overwrite", "--protect", str(masks)]) == 0
    assert not (made / "meshes" / "alone_07.ply").exists()
    assert (made / "meshes" / "other_01.ply").exists()
    assert (made / "meshes" / "alone_b_01.ply").exists()  # of a tomogram called alone_b
    (made / "meshes" / "alone_08.ply").write_text("of another run")
    assert not read_mrc(made / "labels" / "alone.mrc")[0][:, : SHAPE[1] // 2 + 4].any()
    capsys.readouterr()
    soft[0, 0, 0] = np.nan
    write_mrc(masks / "alone.mrc", np.nan_to_num(soft[:, :, 1:]), VOXEL)
    assert run_command([*told, "--overwrite", "--protect", str(masks)]) == 2
    assert "expected the same" in capsys.readouterr().err
    assert run_command([*told, "--overwrite", "--protect", str(tmp_path / "none.mrc")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert (made / "meshes" / "alone_08.ply").exists()  # what failed takes nothing away


def test_halves_are_of_the_votes_and_of_the_tomogram(tmp_path, capsys):
    tomogram, other = tmp_path / "alone.mrc", tmp_path / "other.mrc"
    write_mrc(tomogram, vesicle()[:, :, :48], VOXEL)
    write_mrc(other, vesicle(), VOXEL)
    halves = ["segment", str(tomogram), "--half1", str(other), "--half2", str(other)]
    assert run_command(halves) == 2
    assert "--method votes" in capsys.readouterr().err
    assert run_command([*halves, "--method", "votes"]) == 2
    assert "expected the same" in capsys.readouterr().err
